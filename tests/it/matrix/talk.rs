//! The whole door against a real Synapse: talk both ways, the bot, rooms linked, and a homeserver
//! that is killed.

use std::time::Duration;

use multichat::base::config::MatrixConfig;
use multichat::chat::intent::{Actor, Intent, Submission};
use multichat::chat::message::{Content, Style};
use multichat::chat::view::What;
use multichat::matrix::proto::registration::Registration;
use multichat::matrix::{Matrix, PingFailure, ping};
use multichat::port::{Delivery, Outcome};
use serde_json::{Value, json};

use super::node::Node;
use super::synapse::{Synapse, User, connected};
use super::{bob, config, deliver, delivery, eventually, free_port, ready_for_tls, registration, request};

#[tokio::test(flavor = "multi_thread")]
async fn matrix_through_synapse() {
    let Some((synapse, node, registration)) = connected("talk", &["#rust"]).await else { return };
    let mut alice = synapse.user("alice", "Alice L").await;

    // The alias of a channel makes its portal; of none, nothing.
    let room = alice.join("#_multichat_rust:localhost").await;
    assert_eq!(node.room_of("#rust"), Some(room.clone()));
    let missing = format!("{}/_matrix/client/v3/directory/room/%23_multichat_none:localhost", synapse.base);
    assert_eq!(request("GET", &missing, Some(&alice.token), None).await.0, 404);

    // In: a real user's words, with their name and the event's id.
    alice.say(&room, "hello from Matrix").await;
    eventually("the message at the node", async || {
        node.look(|kept| kept.messages().pop()).filter(|(_, body)| body == "hello from Matrix")
    })
    .await;
    node.look(|kept| {
        let last = kept.submissions.last().unwrap();
        let Actor::Person { account, profile } = &last.actor else { panic!("a person") };
        assert_eq!(
            (account.as_str(), profile.name(), profile.home.as_str()),
            ("@alice:localhost", "Alice L", "@alice:localhost")
        );
        assert!(last.join_first);
        let joined =
            |s: &Submission| matches!(&s.intent, Intent::JoinChannel { .. }) && s.actor == last.actor;
        assert!(kept.submissions.iter().any(joined), "joins are mirrored");
    });

    // Out: as a ghost with the right name, at the right time, marked, and only once.
    let content =
        Content { style: Style::Emote, formatted: Some("<b>waves</b>".into()), ..Content::text("waves") };
    let outcome = deliver(&node, delivery(1, &room, bob("Bob B"), What::Message(content.clone()))).await;
    let event = alice.sees(&room, "waves").await;
    assert_eq!(outcome, Outcome::Delivered { external_id: event["event_id"].as_str().map(str::to_owned) });
    let ghost = event["sender"].as_str().unwrap().to_owned();
    assert!(ghost.starts_with("@_multichat_bob_") && ghost.ends_with(":localhost"), "{ghost}");
    assert_eq!(event["content"]["msgtype"], "m.emote");
    assert_eq!(event["content"]["formatted_body"], "<b>waves</b>");
    assert_eq!(event["origin_server_ts"], 1_700_000_000_001u64);
    let member = alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
    assert_eq!((&member["membership"], &member["displayname"]), (&json!("join"), &json!("Bob B")));
    let uncertain = Delivery { uncertain: true, ..delivery(1, &room, bob("Bob B"), What::Message(content)) };
    node.look(|kept| kept.reports.clear());
    assert_eq!(deliver(&node, uncertain).await, outcome, "found, not sent again");
    assert_eq!(
        alice.messages(&room).await.iter().filter(|event| event["content"]["body"] == "waves").count(),
        1
    );

    // A new name keeps the Matrix id; topics and leaving get there too.
    deliver(&node, delivery(2, &room, bob("Robert"), What::Profile { before: bob("Bob B").profile })).await;
    eventually("the new name", async || {
        let member =
            alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
        (member["displayname"] == "Robert").then_some(())
    })
    .await;
    deliver(&node, delivery(3, &room, bob("Robert"), What::Topic("Ferris".into()))).await;
    assert_eq!(
        alice.call("GET", &format!("rooms/{room}/state/m.room.topic"), Value::Null).await["topic"],
        "Ferris"
    );
    deliver(&node, delivery(4, &room, bob("Robert"), What::Left { reason: "bye".into() })).await;
    let member = alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
    assert_eq!((&member["membership"], &member["reason"]), (&json!("leave"), &json!("bye")));
    let topics = node.look(|kept| {
        kept.submissions.iter().filter(|s| matches!(s.intent, Intent::UpdateChannel { .. })).count()
    });
    assert_eq!(topics, 0, "what the bot set does not come back");

    a_direct_chat_with_the_bot(&mut alice, &node).await;
    an_invited_room(&synapse, &mut alice, &node).await;

    let wrong = Registration { as_token: "unknown".into(), ..registration.clone() };
    assert_eq!(ping(&synapse.base, &wrong).await, Err(PingFailure::NotLoaded));
    node.close().await;
    let failure = ping(&synapse.base, &registration).await.unwrap_err();
    assert!(matches!(failure, PingFailure::Unreachable { .. }), "{failure}");
    let other = Registration { hs_token: "other".into(), ..registration.clone() };
    let listen = registration.url.as_deref().unwrap().trim_start_matches("http://").to_owned();
    let config = MatrixConfig { listen, ..config(&synapse.base) };
    let node = Node::open(Matrix::bind(&config, other, Vec::new()).await.unwrap(), &[]);
    assert_eq!(ping(&synapse.base, &registration).await, Err(PingFailure::HsToken));
    node.close().await;
}

async fn a_direct_chat_with_the_bot(alice: &mut User, node: &Node) {
    let chat = alice.direct_chat("@multichatbot:localhost").await;
    alice.say(&chat, "help").await;
    let answer = alice.sees(&chat, "join #channel").await;
    assert_eq!(
        (&answer["content"]["msgtype"], &answer["sender"]),
        (&json!("m.notice"), &json!("@multichatbot:localhost"))
    );
    alice.say(&chat, "create #gardens all that grows").await;
    alice.sees(&chat, "#gardens is founded. You are invited").await;
    let gardens = node.room_of("#gardens").expect("it has a portal");
    assert_eq!(alice.join("#_multichat_gardens:localhost").await, gardens);
    alice.say(&chat, "join gardens").await;
    alice.sees(&chat, "You are in the room of #gardens already").await;
    alice.say(&chat, "list grows").await;
    alice.sees(&chat, "#gardens (0 members): all that grows").await;
    alice.say(&chat, "dance").await;
    alice.sees(&chat, "I do not know “dance”").await;
    assert!(node.look(|kept| kept.messages().iter().all(|(_, body)| body != "dance")));
}

async fn an_invited_room(synapse: &Synapse, alice: &mut User, node: &Node) {
    let body = json!({"invite": ["@multichatbot:localhost"], "preset": "private_chat", "name": "den"});
    let den = alice.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
    let mut carol = synapse.user("carol", "Carol").await;
    alice.call("POST", &format!("rooms/{den}/invite"), json!({"user_id": carol.id})).await;
    carol.join(&den).await;
    carol.say(&den, "!mc link #den").await;
    carol.sees(&den, "only moderators of the room").await;
    assert_eq!(node.room_of("#den"), None);
    alice.say(&den, "!mc link #den").await;
    alice.sees(&den, "#den is carried in").await;
    assert_eq!(node.room_of("#den"), Some(den.clone()));
    carol.say(&den, "now it is").await;
    eventually("Carol's words", async || {
        node.look(|kept| kept.messages().pop())
            .filter(|last| *last == (carol.id.clone(), "now it is".to_owned()))
    })
    .await;
    // The room is private: the ghost needs the bot's invitation.
    let outcome =
        deliver(node, delivery(20, &den, bob("Robert"), What::Message(Content::text("in the den")))).await;
    assert!(matches!(outcome, Outcome::Delivered { external_id: Some(_) }), "{outcome:?}");
    alice.say(&den, "!mc unlink").await;
    alice.sees(&den, "#den is not carried in this room any more").await;
    assert_eq!(node.room_of("#den"), None);
}

/// Plays the node's part for one link: a window of deliveries, and after a retry that one and all
/// behind it again.
async fn carry_all(node: &Node, all: &[Delivery]) {
    let (mut done, mut uncertain) = (0, false);
    'again: loop {
        let seen = node.look(|kept| kept.reports.len());
        for (n, delivery) in all[done..].iter().enumerate() {
            node.deliveries
                .send(Delivery { uncertain: uncertain && n == 0, ..delivery.clone() })
                .await
                .unwrap();
        }
        let mut read = seen;
        loop {
            let report =
                eventually("the next report", async || node.look(|kept| kept.reports.get(read).cloned()))
                    .await;
            read += 1;
            match report {
                (id, Outcome::Delivered { .. }) => {
                    assert_eq!(id, all[done].id, "in order");
                    done += 1;
                }
                (id, Outcome::Retry { uncertain: maybe, .. }) => {
                    assert_eq!(id, all[done].id, "in order");
                    uncertain = maybe;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue 'again;
                }
                (id, Outcome::Failed { reason }) => panic!("delivery {id} failed: {reason}"),
            }
            if done == all.len() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_synapse_killed_amid_deliveries() {
    let Some((mut synapse, node, _)) = connected("kill", &["#rust"]).await else { return };
    let alice = synapse.user("alice", "Alice").await;
    let room = alice.join("#_multichat_rust:localhost").await;
    let all: Vec<Delivery> = (1..=50)
        .map(|n| delivery(n, &room, bob("Bob"), What::Message(Content::text(format!("line {n}")))))
        .collect();
    let carrying = carry_all(&node, &all);
    let killing = async {
        eventually("twenty have arrived", async || {
            node.look(|kept| (kept.reports.len() >= 20).then_some(()))
        })
        .await;
        synapse.kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        synapse.restart().await;
    };
    tokio::join!(carrying, killing);
    let retries = node.look(|kept| kept.reports.len()) - 50;
    assert!(retries > 0, "Synapse was really away");
    let bodies: Vec<String> = alice
        .messages(&room)
        .await
        .iter()
        .map(|event| event["content"]["body"].as_str().unwrap_or_default().to_owned())
        .collect();
    let expected: Vec<String> = (1..=50).map(|n| format!("line {n}")).collect();
    assert_eq!(bodies, expected, "all, in order, once");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_eats_the_header_is_found_out() {
    ready_for_tls();
    let listen = format!("127.0.0.1:{}", free_port());
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", front.local_addr().unwrap());
    let door = format!("http://{listen}");
    let eats = axum::Router::new().fallback(move |asked: axum::extract::Request| {
        let there = format!("{door}{}", asked.uri().path());
        async move {
            let (status, answer) = request(asked.method().as_str(), &there, None, Some("{}")).await;
            (axum::http::StatusCode::from_u16(status).unwrap(), answer.to_string())
        }
    });
    let proxy = tokio::spawn(async move { axum::serve(front, eats).await });
    let registration = registration(&url);
    let Some(synapse) = Synapse::start("eaten", &registration).await else { return };
    let config = MatrixConfig { listen, ..config(&synapse.base) };
    let node = Node::open(Matrix::bind(&config, registration.clone(), Vec::new()).await.unwrap(), &[]);
    assert_eq!(ping(&synapse.base, &registration).await, Err(PingFailure::NoToken { url }));
    node.close().await;
    proxy.abort();
}

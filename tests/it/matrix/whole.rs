//! The door with a real node behind it and a real Synapse before it: what people of a room say about
//! what was said, and decide about each other, counts in the channel and in its other rooms.

use std::time::Duration;

use multichat::cli::demo::irc_user::IrcUser;
use multichat::cli::demo::nodes::{self, MatrixSide};
use serde_json::{Value, json};

use super::synapse::{Synapse, User};
use super::{eventually, free_port, ready_for_tls, registration};
use crate::peers::{self, node::NodeProcess};

const BOT: &str = "@multichatbot:localhost";

/// A node as its own process, at a Synapse of its own.
pub(super) struct House {
    pub synapse: Synapse,
    pub node: NodeProcess,
    /// Where other nodes reach it.
    pub address: String,
    pub run: peers::Scratch,
}

impl House {
    /// `None` where Synapse is allowed to be missing.
    pub async fn open(name: &str) -> Option<Self> {
        ready_for_tls();
        let [port, p2p_port] = [free_port(), free_port()];
        let registration = registration(&format!("http://127.0.0.1:{port}"));
        let synapse = Synapse::start(name, &registration).await?;
        let run = peers::scratch(name);
        let path = run.join("registration.yaml");
        std::fs::write(&path, registration.to_yaml()).unwrap();
        let matrix = MatrixSide {
            homeserver: synapse.base.clone(),
            server_name: "localhost".into(),
            registration: path.display().to_string(),
            port,
        };
        let mut config = nodes::config_a(matrix, None);
        config.matrix.as_mut().unwrap().public_url = Some(format!("http://127.0.0.1:{port}/"));
        config.node.listen = vec![format!("/ip4/127.0.0.1/tcp/{p2p_port}")];
        let node = NodeProcess::start(&run.join("node"), &config).await;
        let address = format!("{}/p2p/{}", config.node.listen[0], node.field("p2p"));
        Some(Self { synapse, node, address, run })
    }

    pub async fn irc(&self, nick: &str, channel: &str) -> IrcUser {
        let user = IrcUser::connect(self.node.field("irc").parse().unwrap(), nick, nick).await.unwrap();
        user.join(channel).await.unwrap();
        user
    }
}

/// A room of a version, in which its founder and the bot have power, carrying a channel.
pub(super) async fn linked_room(founder: &mut User, version: &str, channel: &str) -> String {
    let mut users = json!({BOT: 100});
    if version != "12" {
        users[&founder.id] = 100.into();
    }
    let body = json!({"invite": [BOT], "preset": "public_chat", "room_version": version,
                      "power_level_content_override": {"users": users}});
    let room = founder.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
    membership_becomes(founder, &room, BOT, "join").await;
    founder.say(&room, &format!("!mc link {channel}")).await;
    founder.sees(&room, "is carried in").await;
    room
}

async fn power_of(user: &User, room: &str, whose: &str) -> Value {
    user.state(room, "m.room.power_levels", "").await["users"][whose].clone()
}

async fn membership_becomes(user: &User, room: &str, whose: &str, expect: &str) {
    eventually(&format!("{whose} becomes {expect}"), async || {
        (user.state(room, "m.room.member", whose).await["membership"] == expect).then_some(())
    })
    .await;
}

/// Asks the bot until the answer has a line, for what is asked of may be on its way.
pub(super) async fn bot_says(user: &mut User, room: &str, command: &str, line: &str) {
    eventually(&format!("{line:?} to {command:?}"), async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = user.send(room, "m.room.message", json!({"msgtype": "m.text", "body": command})).await;
        let messages = user.messages(room).await;
        let at = messages.iter().position(|event| event["event_id"] == *asked)?;
        let answers = eventually("an answer", async || {
            let messages = user.messages(room).await;
            let after: Vec<Value> = messages.into_iter().skip(at + 1).collect();
            after.iter().any(|event| event["sender"] == BOT).then_some(after)
        })
        .await;
        answers
            .iter()
            .filter(|event| event["sender"] == BOT)
            .any(|event| event["content"]["body"].as_str().unwrap_or_default().lines().any(|l| l == line))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moderators_of_a_room_are_the_channels_in_room_versions_10_to_12() {
    let Some(house) = House::open("governed").await else { return };
    let mut alice = house.synapse.user("alice", "Alice").await;
    let mut carol = house.synapse.user("carol", "Carol").await;
    for version in ["10", "11", "12"] {
        let channel = format!("#den{version}");
        let room = linked_room(&mut alice, version, &channel).await;
        carol.join(&room).await;
        let bob = house.irc("bob", &channel).await;
        bob.say(&channel, "hi from bob").unwrap();
        let ghost = alice.sees(&room, "hi from bob").await["sender"].as_str().unwrap().to_owned();
        bot_says(&mut alice, &room, "!mc members", "Alice (@alice:localhost), admin").await;

        // Promoted in the room, she is a moderator of the channel, and what she does counts there.
        let mut levels = alice.state(&room, "m.room.power_levels", "").await;
        levels["users"][&carol.id] = 50.into();
        alice.call("PUT", &format!("rooms/{room}/state/m.room.power_levels/"), levels).await;
        bot_says(&mut carol, &room, "!mc members", "Carol (@carol:localhost), moderator").await;
        let kick = json!({"user_id": ghost, "reason": "enough"});
        carol.call("POST", &format!("rooms/{room}/kick"), kick).await;
        eventually("bob is out of the channel", async || {
            alice.say(&room, "!mc members").await;
            let answers = alice.messages(&room).await;
            let last = answers.iter().rev().find(|event| event["sender"] == BOT)?;
            (!last["content"]["body"].as_str()?.contains("bob")).then_some(())
        })
        .await;
        bob.say(&channel, "late words").unwrap();
        alice.say(&room, "!mc status").await;
        alice.sees(&room, "peers").await;
        membership_becomes(&alice, &room, &ghost, "leave").await;
        assert!(
            alice.messages(&room).await.iter().all(|event| event["content"]["body"] != "late words"),
            "late words stay out"
        );

        // What is given and taken by the bot's commands shows in the room.
        let bob = house.irc("bob2", &channel).await;
        bob.say(&channel, "hi from bob2").unwrap();
        let ghost = alice.sees(&room, "hi from bob2").await["sender"].as_str().unwrap().to_owned();
        alice.say(&room, "!mc grant bob2 moderator").await;
        alice.sees(&room, "bob2 is moderator of").await;
        eventually("the ghost's power", async || (power_of(&alice, &room, &ghost).await == 50).then_some(()))
            .await;
        alice.say(&room, "!mc revoke bob2").await;
        eventually("no power", async || power_of(&alice, &room, &ghost).await.is_null().then_some(())).await;
        alice.say(&room, "!mc ban @carol:localhost spam").await;
        membership_becomes(&alice, &room, &carol.id, "ban").await;
        assert!(power_of(&alice, &room, &carol.id).await.is_null());
        alice.say(&room, "!mc unban @carol:localhost").await;
        membership_becomes(&alice, &room, &carol.id, "leave").await;
        // Nobody below her rank does that to her, and the bot says why.
        carol.join(&room).await;
        carol.say(&room, "!mc kick @alice:localhost").await;
        carol.sees(&room, "Not done: not permitted").await;
        alice.say(&room, "!mc unlink").await;
        alice.sees(&room, "is not carried in this room any more").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_about_what_was_said_crosses_between_rooms() {
    let Some(house) = House::open("related").await else { return };
    let mut alice = house.synapse.user("alice", "Alice").await;
    let mut dave = house.synapse.user("dave", "Dave").await;
    let here = linked_room(&mut alice, "11", "#pair").await;
    let there = linked_room(&mut dave, "11", "#pair").await;
    let said = alice.send(&here, "m.room.message", json!({"msgtype": "m.text", "body": "helo"})).await;
    let copy = dave.sees(&there, "helo").await["event_id"].as_str().unwrap().to_owned();

    // A reply, a thread and a reaction point to what the other room has; a mention comes through.
    let reply = json!({"msgtype": "m.text", "body": "> <@alice:localhost> helo\n\nhello yourself",
                       "m.relates_to": {"m.in_reply_to": {"event_id": copy}}});
    dave.send(&there, "m.room.message", reply).await;
    let seen = alice.sees(&here, "hello yourself").await;
    assert_eq!(seen["content"]["body"], "hello yourself", "the quotation is left out");
    assert_eq!(seen["content"]["m.relates_to"]["m.in_reply_to"]["event_id"], said);
    assert_eq!(seen["content"]["m.mentions"]["user_ids"][0], alice.id);
    let thread = json!({"msgtype": "m.text", "body": "in a thread", "m.relates_to": {
        "rel_type": "m.thread", "event_id": copy, "is_falling_back": true, "m.in_reply_to": {"event_id": copy}}});
    dave.send(&there, "m.room.message", thread).await;
    let seen = alice.sees(&here, "in a thread").await;
    assert_eq!(seen["content"]["m.relates_to"]["rel_type"], "m.thread");
    assert_eq!(seen["content"]["m.relates_to"]["event_id"], said);
    let annotation =
        |target: &str| json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": "👍"}});
    let reaction = dave.send(&there, "m.reaction", annotation(&copy)).await;
    let shown = eventually("the reaction", async || alice.events(&here, "m.reaction").await.pop()).await;
    assert_eq!(shown["content"]["m.relates_to"]["event_id"], said);
    assert_eq!(shown["content"]["m.relates_to"]["key"], "👍");

    // An edit edits, and a reaction and a message taken back are gone.
    let edit = json!({"msgtype": "m.text", "body": "* hello", "m.new_content": {"msgtype": "m.text", "body": "hello"},
                      "m.relates_to": {"rel_type": "m.replace", "event_id": said}});
    alice.send(&here, "m.room.message", edit).await;
    let seen = dave.sees(&there, "* hello").await;
    assert_eq!(seen["content"]["m.relates_to"], json!({"rel_type": "m.replace", "event_id": copy}));
    assert_eq!(seen["content"]["m.new_content"]["body"], "hello");
    let gone = async |user: &User, room: &str, id: &str| {
        eventually(&format!("{id} is taken back"), async || {
            let event = user.call("GET", &format!("rooms/{room}/event/{id}"), Value::Null).await;
            event["unsigned"].get("redacted_because").is_some().then_some(())
        })
        .await;
    };
    dave.call("PUT", &format!("rooms/{there}/redact/{reaction}/r1"), json!({})).await;
    gone(&alice, &here, shown["event_id"].as_str().unwrap()).await;
    alice.call("PUT", &format!("rooms/{here}/redact/{said}/r2"), json!({"reason": "typo"})).await;
    gone(&dave, &there, &copy).await;

    // The room's own settings.
    alice.call("PUT", &format!("rooms/{here}/state/m.room.name/"), json!({"name": "A pair"})).await;
    alice.call("PUT", &format!("rooms/{here}/state/m.room.topic/"), json!({"topic": "two rooms"})).await;
    let words = alice.send(&here, "m.room.message", json!({"msgtype": "m.text", "body": "keep this"})).await;
    let kept = dave.sees(&there, "keep this").await["event_id"].clone();
    alice.call("PUT", &format!("rooms/{here}/state/m.room.pinned_events/"), json!({"pinned": [words]})).await;
    alice
        .call("PUT", &format!("rooms/{here}/state/m.room.join_rules/"), json!({"join_rule": "invite"}))
        .await;
    for (kind, expect) in [
        ("m.room.name", json!({"name": "A pair"})),
        ("m.room.topic", json!({"topic": "two rooms"})),
        ("m.room.pinned_events", json!({"pinned": [kept]})),
        ("m.room.join_rules", json!({"join_rule": "invite"})),
    ] {
        eventually(kind, async || (dave.state(&there, kind, "").await == expect).then_some(())).await;
    }
}

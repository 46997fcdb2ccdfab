//! The promise of roles, whole: whom a Matrix room made a moderator kicks from irssi, at another node; and
//! what the kicked say later, at a third node that could not know, stays out everywhere.

use std::time::Duration;

use multichat::cli::demo::irc_user::IrcUser;
use multichat::cli::demo::irssi::Irssi;
use multichat::cli::demo::nodes;
use serde_json::Value;

use super::whole::{House, bot_says, linked_room};
use super::{PATIENCE, eventually};
use crate::peers::{self, node::NodeProcess};

const CHANNEL: &str = "#far";

/// A node of IRC users that knows the house's node.
async fn outpost(house: &House, name: &str) -> NodeProcess {
    let mut config = nodes::config_b();
    config.node.name = name.into();
    config.node.bootstrap = vec![house.address.clone()];
    let node = NodeProcess::start(&house.run.join(name), &config).await;
    has_channel(&node).await;
    node
}

async fn has_channel(node: &NodeProcess) {
    eventually("the channel is known", async || {
        node.ask(&["channels"])
            .await
            .as_array()?
            .iter()
            .any(|channel| channel["name"] == CHANNEL)
            .then_some(())
    })
    .await;
}

/// The texts that count in the channel, at a node.
async fn texts(node: &NodeProcess) -> Vec<String> {
    let said = node.ask(&["history", CHANNEL]).await;
    let texts = said.as_array().unwrap().iter().filter(|message| message["kind"] == "text");
    texts.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

async fn is_member(node: &NodeProcess, name: &str) -> bool {
    let members = node.ask(&["members", CHANNEL]).await;
    members.as_array().unwrap().iter().any(|member| member["username"] == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moderator_promoted_from_matrix_kicks_from_irssi_on_another_node() {
    let Some(irssi) = peers::unless_skipped(peers::irssi_program().await) else { return };
    let Some(house) = House::open("far-kick").await else { return };
    let mut alice = house.synapse.user("alice", "Alice").await;
    let room = linked_room(&mut alice, "11", CHANNEL).await;

    // Carol sits at irssi on one node, Bob at a client of another.
    let near = outpost(&house, "near").await;
    let home = house.run.join("irssi");
    std::fs::create_dir_all(&home).unwrap();
    let mut carol = Irssi::start(&irssi, &home, near.field("irc").parse().unwrap(), "carol").unwrap();
    carol.join(CHANNEL).await.unwrap();
    carol.say(CHANNEL, "hi from carol").unwrap();
    let ghost = alice.sees(&room, "hi from carol").await["sender"].as_str().unwrap().to_owned();
    let mut far = outpost(&house, "far").await;
    let at_far = async |node: &NodeProcess, nick: &str| {
        let user = IrcUser::connect(node.field("irc").parse().unwrap(), nick, nick).await.unwrap();
        user.join(CHANNEL).await.unwrap();
        user
    };
    let bob = at_far(&far, "bob").await;
    bob.say(CHANNEL, "hi from bob").unwrap();
    alice.sees(&room, "hi from bob").await;
    carol.wait_for(CHANNEL, "bob's line", PATIENCE, |line| line.contains("hi from bob")).await.unwrap();

    // Promoted in the room, she is an operator in irssi. Bob's node is down when she kicks him.
    let mut levels = alice.state(&room, "m.room.power_levels", "").await;
    levels["users"][&ghost] = 50.into();
    alice.call("PUT", &format!("rooms/{room}/state/m.room.power_levels/"), levels).await;
    carol
        .wait_for(CHANNEL, "her role", PATIENCE, |line| line.contains("mode/") && line.contains("carol"))
        .await
        .unwrap();
    far.kill().await;
    carol.type_line(&format!("/kick {CHANNEL} bob enough")).unwrap();
    eventually("bob is out", async || (!is_member(&house.node, "bob").await).then_some(())).await;
    assert!(!is_member(&near, "bob").await);

    // His node comes up alone: nobody there knows better, and his words are heard there.
    house.node.freeze().await;
    near.freeze().await;
    far.restart().await;
    let dora = at_far(&far, "dora").await;
    let bob = at_far(&far, "bob").await;
    bob.say(CHANNEL, "late words").unwrap();
    dora.wait_for("bob's late words", PATIENCE, |line| line.says(CHANNEL, "late words")).await.unwrap();
    dora.say(CHANNEL, "last words").unwrap();

    // All together again: what Dora said counts, what Bob said does not, anywhere.
    house.node.thaw().await;
    near.thaw().await;
    alice.sees(&room, "last words").await;
    carol.wait_for(CHANNEL, "dora's line", PATIENCE, |line| line.contains("last words")).await.unwrap();
    eventually("bob's node has withdrawn it", async || {
        (!texts(&far).await.contains(&"late words".to_owned())).then_some(())
    })
    .await;
    for node in [&house.node, &near, &far] {
        let texts = texts(node).await;
        assert!(
            texts.contains(&"last words".to_owned()) && !texts.contains(&"late words".to_owned()),
            "{texts:?}"
        );
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shown =
        |event: &Value| event["content"]["body"].as_str().is_some_and(|body| body.contains("late words"));
    assert!(!alice.messages(&room).await.iter().any(shown), "late words stay out of the room");
    assert!(!carol.log(CHANNEL).contains("late words"), "and out of irssi");
    bot_says(&mut alice, &room, "!mc members", "Alice (@alice:localhost), admin").await;
}

//! What the bot is asked for by people of a real Synapse, with a real node behind it: to find what was
//! said, and to let somebody in by a link.

use std::time::Duration;

use multichat::cli::demo::irc_user::Line;
use serde_json::json;

use super::eventually;
use super::synapse::User;
use super::whole::{House, linked_room};

const BOT: &str = "@multichatbot:localhost";

/// What the bot answers to a command, and nothing that it said before.
async fn answer(user: &mut User, room: &str, command: &str) -> String {
    let asked = user.send(room, "m.room.message", json!({"msgtype": "m.text", "body": command})).await;
    eventually(&format!("an answer to {command:?}"), async || {
        let messages = user.messages(room).await;
        let at = messages.iter().position(|event| event["event_id"] == *asked)?;
        let answer = messages[at..].iter().find(|event| event["sender"] == BOT)?;
        answer["content"]["body"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_search_and_let_others_in_by_a_link_in_private() {
    let Some(house) = House::open("asked").await else { return };
    let mut alice = house.synapse.user("alice", "Alice").await;
    let mut carol = house.synapse.user("carol", "Carol").await;
    let room = linked_room(&mut alice, "11", "#club").await;
    let elsewhere = linked_room(&mut alice, "11", "#square").await;
    let bob = house.irc("bob", "#club").await;
    for words in ["The kettle whistles", "tea?"] {
        alice.say(&room, words).await;
        bob.wait_for(words, Duration::from_secs(60), |line| line.says("#club", words)).await.unwrap();
    }
    let hers = alice.direct_chat(BOT).await;
    let others = carol.direct_chat(BOT).await;

    // Words in any order and case; for members alone, and not before strangers.
    let found = "Found in #club, newest last:\n<Alice> The kettle whistles";
    assert_eq!(answer(&mut alice, &hers, "search #club WHISTLES kettle").await, found);
    assert_eq!(answer(&mut alice, &room, "!mc search kettle").await, found);
    assert_eq!(answer(&mut alice, &hers, "search #club coffee").await, "Nothing found in #club.");
    let private = "Not here: ask me that in a chat of two, without !mc.";
    assert_eq!(answer(&mut alice, &elsewhere, "!mc search #club kettle").await, private);
    let refused = "Not done: only members search #club.";
    assert_eq!(answer(&mut carol, &others, "search #club kettle").await, refused);

    // What is taken back is not found any more.
    let said = alice.sees(&room, "The kettle whistles").await["event_id"].as_str().unwrap().to_owned();
    alice.call("PUT", &format!("rooms/{room}/redact/{said}/r1"), json!({})).await;
    eventually("it is not found", async || {
        (answer(&mut alice, &hers, "search #club kettle").await == "Nothing found in #club.").then_some(())
    })
    .await;

    // A channel that takes in only who is let in, and a link that lets in.
    let set = answer(&mut alice, &hers, "policy #club join invite").await;
    assert!(set.contains("join: invite, only who is let in"), "{set}");
    let refused = answer(&mut carol, &others, "join #club").await;
    assert!(refused.starts_with("Not done: #club takes in only who is let in"), "{refused}");
    assert_eq!(answer(&mut alice, &room, "!mc invite link").await, private);
    let refused = answer(&mut carol, &others, "invite #club link").await;
    assert!(refused.starts_with("Not done:"), "{refused}");
    let given = answer(&mut alice, &hers, "invite #club link member 1h").await;
    assert!(given.starts_with("Whoever has this link becomes member of #club, for 1h"), "{given}");
    let link = given.lines().last().unwrap();
    assert!(link.starts_with("multichat:") && link.contains(&format!("via={}", house.address)), "{link}");
    let entered = answer(&mut carol, &others, &format!("join {link}")).await;
    assert_eq!(entered, "You are a member of #club. You are invited to the room of #club.");
    assert_eq!(carol.join(&room).await, room);
    carol.say(&room, "thanks for having me").await;
    let fits = |line: &Line| line.says("#club", "thanks for having me");
    bob.wait_for("Carol's words", Duration::from_secs(60), fits).await.unwrap();
    let members = answer(&mut alice, &hers, "members #club").await;
    assert!(members.contains("Carol (@carol:localhost)"), "{members}");
}

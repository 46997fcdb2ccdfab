//! The peers by themselves, without a node of ours: what the other tests rely on holds.

use std::time::Duration;

use multichat::cli::demo::irc_user::{IrcUser, Line};
use multichat::cli::demo::irssi::{Irssi, said};
use multichat::cli::demo::matrix_user::MatrixUser;
use multichat::cli::demo::synapse_config::Settings;

use super::{homeserver, ircd, irssi_program, scratch, unless_skipped, weechat_program};

const LONG: Duration = Duration::from_secs(60);

/// Gets every peer there is; `tests/peers` calls this one by name.
#[tokio::test]
async fn every_peer_can_be_had() {
    unless_skipped(super::synapse().await);
    let dir = scratch("had");
    unless_skipped(ircd(&dir).await);
    unless_skipped(irssi_program().await);
    unless_skipped(weechat_program().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synapse_carries_talk_and_survives_a_crash() {
    let dir = scratch("synapse");
    let settings = Settings { server_name: "peers.local".into(), registrations: Vec::new() };
    let Some(mut homeserver) = unless_skipped(homeserver(&dir, settings).await) else { return };
    homeserver.register(&[("alice", "secret-a"), ("bob", "secret-b")]).await.unwrap();
    let alice = MatrixUser::login(&homeserver.url(), "alice", "secret-a").await.unwrap();
    let bob = MatrixUser::login(&homeserver.url(), "bob", "secret-b").await.unwrap();
    assert_eq!(alice.id(), "@alice:peers.local");
    bob.set_display_name("Bob the Builder").await.unwrap();
    let room = alice.create_room("Peers", Some("peers"), &[]).await.unwrap();
    assert_eq!(bob.join("#peers:peers.local").await.unwrap(), room);

    bob.say(&room, "hello").await.unwrap();
    let heard = alice.wait_for("hello", LONG, |heard| heard.body == "hello").await.unwrap();
    assert_eq!((heard.sender.as_str(), heard.name.as_str()), ("@bob:peers.local", "Bob the Builder"));
    assert_eq!(alice.display_name(&room, bob.id()).await.unwrap().as_deref(), Some("Bob the Builder"));

    homeserver.kill().await;
    homeserver.restart().await.unwrap();
    alice.say(&room, "still here").await.unwrap();
    bob.wait_for("still here", LONG, |heard| heard.body == "still here").await.unwrap();
    let expected = [("@bob:peers.local", "hello"), ("@alice:peers.local", "still here")];
    let held = bob.messages(&room, 100).await.unwrap();
    assert_eq!(held.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), expected);
    homeserver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn irssi_and_a_client_talk_over_an_ircd_that_restarts() {
    let dir = scratch("irssi");
    let Some(program) = unless_skipped(irssi_program().await) else { return };
    let Some(mut ircd) = unless_skipped(ircd(&dir).await) else { return };
    let carol = IrcUser::connect(ircd.address(), "carol", "Carol").await.unwrap();
    carol.join("#peers").await.unwrap();
    let mut irssi = Irssi::start(&program, &dir, ircd.address(), "dave").unwrap();
    irssi.join("#peers").await.unwrap();

    carol.say("#peers", "grüße, dave").unwrap();
    let greets = |line: &str| said(line) == Some(("carol", "grüße, dave"));
    irssi.wait_for("#peers", "a greeting", LONG, greets).await.unwrap();
    irssi.type_line("hello from a real terminal").unwrap();
    let awaited = "what dave typed";
    let heard = carol
        .wait_for(awaited, LONG, |line| line.says("#peers", "hello from a real terminal"))
        .await
        .unwrap();
    assert_eq!(heard.from, "dave");
    for number in 0..50 {
        irssi.say("#peers", &format!("line {number}")).unwrap();
    }
    carol.wait_for("fifty lines typed at once", LONG, |line| line.says("#peers", "line 49")).await.unwrap();

    ircd.restart().await.unwrap();
    let carol = IrcUser::connect(ircd.address(), "carol", "Carol").await.unwrap();
    carol.join("#peers").await.unwrap();
    let joined = |line: &Line| {
        let listed = line.command == "353" && line.params.last().is_some_and(|names| names.contains("dave"));
        listed || (line.command == "JOIN" && line.from == "dave")
    };
    carol.wait_for("irssi to come back", LONG, joined).await.unwrap();
    carol.say("#peers", "welcome back").unwrap();
    let welcomes = |line: &str| said(line) == Some(("carol", "welcome back"));
    irssi.wait_for("#peers", "a welcome", LONG, welcomes).await.unwrap();
}

//! Moderation both ways, the operators' consent, and what relates to other messages, on a real ircd.

use std::time::Duration;

use multichat::base::config::{Consent, NetworkConfig};
use multichat::base::{EventId, Identity};
use multichat::chat::access::Role;
use multichat::chat::act::Standing;
use multichat::chat::channel::Change;
use multichat::chat::intent::{Intent, Subject};
use multichat::chat::message::{Content, Relation};
use multichat::chat::profile::Profile;
use multichat::chat::view::{Member, What};
use multichat::port::Outcome;
use tokio::time::sleep;

use super::{Ircd, Person, Rig, plain};

/// A person of the network, as the node shows them.
fn of_network(rig: &Rig, nick: &str) -> Member {
    let home = format!("{nick}@{}", rig.address);
    let profile = Profile { username: nick.into(), home, ..Profile::default() };
    Member { identity: Identity([2; 32]), role: Role::Member, profile }
}

#[tokio::test]
async fn operators_of_the_network_act_as_who_they_are() {
    let ircd = Ircd::prepare("moderation-in").await;
    let mut op = Person::join(&ircd, "Op").await;
    let mut rig = Rig::start(ircd.address(), None);
    op.meet("relay").await;
    let mut bob = Person::join(&ircd, "bob").await;
    let subject = |nick: &str| Subject::Name(format!("{nick}@{}", ircd.address()));

    op.say("TOPIC #test :of the day").await;
    let (who, Intent::UpdateChannel { change, .. }) = rig.wish().await else { panic!() };
    assert_eq!((who.as_str(), change), ("op", Change::Topic("of the day".into())));

    bob.say("PRIVMSG #test :spam").await;
    assert_eq!(rig.heard().await.1.body, "spam");
    // The stand-in's policy does not let Bob: it stays there, and he is told.
    bob.say("TOPIC #test :mine").await;
    let (who, Intent::UpdateChannel { .. }) = rig.wish().await else { panic!() };
    assert_eq!(who, "bob");
    let told = bob.expect("NOTICE bob").await;
    assert!(
        told.ends_with("#test: the topic counts on this network only: not permitted: set_topic"),
        "{told}"
    );

    op.say("MODE #test +o bob").await;
    let (_, Intent::GrantRole { subject: to, role, .. }) = rig.wish().await else { panic!() };
    assert_eq!((to, role), (subject("bob"), Role::Moderator));
    op.say("MODE #test -o bob").await;
    let (_, Intent::RevokeRole { then, .. }) = rig.wish().await else { panic!() };
    assert_eq!(then, Standing::Demoted(Role::Member));
    op.say("MODE #test +b bob!*@*").await;
    let (who, Intent::RevokeRole { subject: of, then, .. }) = rig.wish().await else { panic!() };
    assert_eq!((who.as_str(), of, then), ("op", subject("bob"), Standing::Banned));
    // He is banned already: the kick that follows must not make it less.
    op.say("KICK #test bob :enough").await;
    let (who, Intent::LeaveChannel { reason, .. }) = rig.wish().await else { panic!() };
    assert_eq!((who.as_str(), reason.as_str()), ("bob", "kicked by Op: enough"));
    op.say("MODE #test -b bob!*@*").await;
    let (_, Intent::RevokeRole { then, .. }) = rig.wish().await else { panic!() };
    assert_eq!(then, Standing::Free);
    rig.stop().await;
}

#[tokio::test]
async fn moderators_elsewhere_act_on_the_network() {
    let ircd = Ircd::prepare("moderation-out").await;
    let mut op = Person::join(&ircd, "Op").await;
    let mut rig = Rig::start(ircd.address(), None);
    op.meet("relay").await;
    let mut bob = Person::join(&ircd, "bob").await;
    bob.say("PRIVMSG #test :hello").await;
    rig.heard().await;
    let revoked =
        |rig: &Rig, then| What::Revoked { subject: of_network(rig, "bob"), then, reason: "spam".into() };

    rig.deliver_news(1, "mod", What::Topic("from elsewhere".into())).await;
    assert!(op.expect("TOPIC #test").await.ends_with(":from elsewhere"));
    // No operator yet: it is said, and cannot be done.
    rig.deliver_news(2, "mod", revoked(&rig, Standing::Out)).await;
    let said = plain(&op.expect(" removed ").await);
    assert!(
        said.ends_with("* mod removed bob (spam); the relay is no operator here and cannot do the same"),
        "{said}"
    );

    op.say("MODE #test +o relay").await;
    // Its answer comes after it has seen that.
    op.say("PRIVMSG #test :!mc about").await;
    op.expect("run by op@example.org").await;
    rig.deliver_news(3, "mod", What::Granted { subject: of_network(&rig, "bob"), role: Role::Moderator })
        .await;
    bob.expect("MODE #test +o bob").await;
    rig.deliver_news(4, "mod", revoked(&rig, Standing::Banned)).await;
    op.expect("MODE #test +b").await;
    assert!(plain(&bob.expect("KICK #test bob").await).contains("by mod: spam"));
    bob.say("JOIN #test").await;
    bob.expect(" 474 ").await;
    rig.deliver_news(5, "mod", revoked(&rig, Standing::Free)).await;
    op.expect("MODE #test -b").await;
    bob.say("JOIN #test").await;
    bob.expect(" 366 ").await;
    for id in 1..=5 {
        assert_eq!(rig.report().await, (id, Outcome::Delivered { external_id: None }));
    }

    op.say("WHOIS relay").await;
    assert!(op.expect(" 311 ").await.ends_with(":Multichat relay, run by op@example.org"));
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_carried_before_an_operator_agrees() {
    let ircd = Ircd::prepare("consent").await;
    let mut op = Person::join(&ircd, "Op").await;
    let config = NetworkConfig { flood: None, ..NetworkConfig::at(ircd.address(), "relay") };
    let mut rig = Rig::start_of(config.clone(), None, Vec::new());
    op.expect("`!mc allow`").await;
    op.say("PRIVMSG #test :unheard").await;
    rig.deliver(1, "alice", Content::text("too early")).await;
    let refused = Outcome::Failed { reason: "no operator of #test has allowed it yet".into() };
    assert_eq!(rig.report().await, (1, refused));
    op.say("PRIVMSG #test :!mc allow").await;
    let (key, value) = rig.note().await;
    assert!(key == "consent/#test" && value.starts_with("allow ") && value.contains(" Op!"), "{key} {value}");
    op.expect("is carried from now on").await;
    rig.deliver(2, "alice", Content::text("hello")).await;
    assert!(plain(&op.expect("hello").await).ends_with("<alice> hello"));
    op.say("PRIVMSG #test :heard").await;
    assert_eq!(rig.heard().await.1.body, "heard");

    op.say("PRIVMSG #test :!mc stop").await;
    op.expect("PART #test").await;
    let (key, value) = rig.note().await;
    assert!(value.starts_with("stop "), "{value}");
    rig.stop().await;
    // After a restart it stays away, whatever the configuration says.
    let notes = vec![(key, value.into_bytes())];
    let mut rig = Rig::start_of(NetworkConfig { consent: Consent::Given, ..config }, None, notes);
    rig.deliver(3, "alice", Content::text("hello?")).await;
    let refused = Outcome::Failed { reason: "an operator of #test said stop".into() };
    assert_eq!(rig.report().await, (3, refused));
    op.say("INVITE relay #test").await;
    assert_eq!(rig.note().await, ("consent/#test".into(), String::new()));
    op.expect("JOIN").await;
    rig.stop().await;
}

#[tokio::test]
async fn edits_replies_and_redactions_are_clear() {
    let ircd = Ircd::prepare("relations").await;
    let mut rig = Rig::start(ircd.address(), None);
    let mut bob = Person::join(&ircd, "bob").await;
    bob.meet("relay").await;
    let related = |body: &str, relation| {
        let mut content = Content::text(body);
        content.envelope.relation = Some(relation);
        content
    };
    let one = EventId([1; 32]);
    rig.deliver(1, "alice", Content::text("meet at five")).await;
    rig.deliver(2, "alice", related("meet at six", Relation::Edit(one))).await;
    rig.deliver(3, "carol", related("fine", Relation::Reply(one))).await;
    rig.deliver(4, "carol", related("👍", Relation::Reaction(one))).await;
    let sender = Identity([1; 32]);
    rig.deliver_news(5, "alice", What::Redacted { target: one, sender, reason: String::new() }).await;
    rig.deliver(6, "carol", related("what?", Relation::Reply(one))).await;
    for expect in [
        "PRIVMSG #test :<alice> meet at five",
        "PRIVMSG #test :<alice> * meet at \x02six\x02 (was: five)",
        "PRIVMSG #test :<carol> [alice: meet at six] fine",
        "NOTICE #test :* carol reacted 👍 to alice: meet at six",
        "NOTICE #test :* alice took back an earlier message",
        "PRIVMSG #test :<carol> [alice] what?",
    ] {
        let line = plain(&bob.expect(" #test :").await);
        assert!(line.ends_with(expect), "{line}");
    }
    // A message of the network that is answered is called by its author's real nick.
    bob.say("PRIVMSG #test :my words").await;
    rig.heard().await;
    sleep(Duration::from_millis(300)).await;
    rig.deliver(7, "alice", related("indeed", Relation::Reply(EventId([200; 32])))).await;
    assert!(bob.expect("indeed").await.ends_with("[bob: my words] indeed"));
    rig.stop().await;
}

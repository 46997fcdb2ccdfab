//! Texts that come to an end, that lack, and that may not go everywhere: what several nodes make of
//! them.

use super::tests::{Site, irc, matrix, meet, named, person, talk};
use super::{Door, Exported, Input, Lapse, Outcome, Output, Receipt, Refusal};
use crate::base::{EventId, NodeId, Timestamp, limits};
use crate::chat::access::Role;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::flow::{Flow, Sink};
use crate::chat::intent::{Intent, Subject};
use crate::chat::message::{Content, Envelope, Relation};
use crate::chat::view::What;
use crate::replica::{Packet, Parcel};

const HOUR_MS: u64 = 3_600_000;

fn lasting(text: &str, expires: Timestamp) -> Content {
    let envelope = Envelope { expires: Some(expires), ..Envelope::default() };
    Content { envelope, ..Content::text(text) }
}

impl Site {
    /// Lets time pass, with every timeout on the way.
    fn wait(&mut self, ms: u64) -> Vec<Output> {
        let end = self.now.plus_ms(ms);
        let mut said = Vec::new();
        let mut turns = 0;
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= end) {
            turns += 1;
            assert!(turns < 20_000, "it never rests");
            self.now = self.now.max(at);
            said.extend(self.feed(Input::Timeout));
        }
        self.now = end;
        said
    }

    /// Whether a text lies anywhere on its disk, or is shown.
    fn holds(&self, text: &str) -> bool {
        let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.log.iter().any(|stored| stored.payload.as_deref().is_some_and(has))
    }

    fn shows(&self, text: &str) -> bool {
        let news = self.log.iter().filter(|stored| stored.visible);
        news.filter_map(|stored| self.node.news_of(self.now, stored))
            .any(|news| matches!(news.what, What::Message(content) if content.body == text))
    }

    fn policy(&mut self, change: Change) {
        self.submit("founder", Intent::UpdateChannel { channel: named("#a"), change }).unwrap();
    }

    fn redact(&mut self, by: &str, target: EventId) -> Result<Receipt, Refusal> {
        let (channel, reason) = (named("#a"), String::new());
        self.submit(by, Intent::RedactMessage { channel, target, reason })
    }

    /// Everything it would send to somebody who has nothing.
    fn offered(&self) -> Vec<Parcel> {
        self.log.iter().filter_map(|stored| self.node.parcel_of(self.now, stored)).collect()
    }
}

fn pass_time(sites: &mut [&mut Site], ms: u64) {
    for site in sites {
        site.wait(ms);
    }
}

#[test]
fn a_message_is_gone_everywhere_when_it_expires_also_where_nobody_was_at_the_time() {
    let (mut one, mut other, mut away) = (Site::new("a"), Site::new("b"), Site::new("c"));
    one.create("#a");
    let expires = one.now.plus_ms(HOUR_MS);
    one.say("#a", lasting("secret", expires)).unwrap();
    one.say("#a", Content::text("for ever")).unwrap();
    meet(&mut one, &mut other);
    meet(&mut other, &mut away);
    assert!([&one, &other, &away].iter().all(|site| site.holds("secret") && site.shows("secret")));
    away.restart();
    pass_time(&mut [&mut one, &mut other], HOUR_MS - 1);
    assert!(one.holds("secret") && other.shows("secret"));
    pass_time(&mut [&mut one, &mut other], 1);
    for site in [&one, &other] {
        assert!(!site.holds("secret") && !site.shows("secret") && site.shows("for ever"));
    }
    // Who was away shows nothing of it from the start, has it no more after the first timeout, and
    // brings it back nowhere.
    away.now = one.now;
    assert!(!away.shows("secret"));
    assert!(away.offered().iter().filter(|parcel| parcel.payload.is_some()).count() == 1);
    away.wait(0);
    assert!(!away.holds("secret"));
    let parcels: Vec<Parcel> = away.log.iter().map(|stored| stored.parcel().unwrap()).collect();
    one.peer_says(away.node.id(), Packet::Events { parcels, more: false });
    assert!(!one.holds("secret"));
    // A newcomer gets the whole history without it, and asks for nothing.
    let mut newcomer = Site::new("d");
    newcomer.now = one.now;
    meet(&mut one, &mut newcomer);
    assert_eq!(newcomer.node.state_root(), one.node.state_root());
    assert!(newcomer.shows("for ever") && newcomer.node.wanted_texts() == 0);
    assert!(newcomer.node.refused().is_empty(), "{:?}", newcomer.node.refused());
}

#[test]
fn a_text_that_comes_late_with_a_peer_that_kept_it_is_not_kept() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    one.say("#a", lasting("secret", one.now.plus_ms(HOUR_MS))).unwrap();
    let hoarded: Vec<Parcel> = one.log.iter().map(|stored| stored.parcel().unwrap()).collect();
    other.now = other.now.plus_ms(HOUR_MS);
    let packet = Packet::Events { parcels: hoarded, more: false };
    for _ in 0..2 {
        other.peer_says(NodeId([9; 32]), packet.clone());
        assert_eq!(other.log.len(), 3, "founding, joining, and what was said");
        assert!(!other.holds("secret") && !other.shows("secret"));
    }
    other.restart();
    assert_eq!(other.node.next_timeout(), None);
}

#[test]
fn retention_that_is_changed_later_ends_what_is_there_and_what_comes() {
    let mut site = Site::new("a");
    site.create("#a");
    site.say("#a", Content::text("old")).unwrap();
    site.wait(2 * HOUR_MS);
    assert_eq!(site.node.next_timeout(), None, "nothing ends by itself");
    site.say("#a", Content::text("young")).unwrap();
    site.policy(Change::Retention(Some(HOUR_MS)));
    assert!(!site.holds("old") && !site.shows("old") && site.shows("young"));
    site.restart();
    site.wait(HOUR_MS - 1);
    assert!(site.shows("young"));
    site.now = site.now.plus_ms(1);
    assert!(!site.shows("young"), "nobody is shown it, to the millisecond");
    site.wait(HOUR_MS / 1_000);
    assert!(!site.holds("young"), "and the disk follows soon");
    site.say("#a", Content::text("next")).unwrap();
    site.wait(HOUR_MS / 2);
    site.policy(Change::Retention(None));
    site.wait(10 * HOUR_MS);
    assert!(site.shows("next"));
    assert_eq!(site.node.next_timeout(), None);
    // What is to last too long is refused.
    site.policy(Change::MaxTtl(Some(HOUR_MS)));
    let carol = |site: &mut Site, ms| site.say("#a", lasting("x", site.now.plus_ms(ms)));
    assert!(matches!(carol(&mut site, HOUR_MS + 1), Err(Refusal::NotPermitted(_))));
    assert!(carol(&mut site, HOUR_MS).is_ok());
}

#[test]
fn what_was_taken_back_is_gone_with_its_edits_at_every_node() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    let said = one.say("#a", Content::text("slander")).unwrap().event.unwrap();
    let envelope = Envelope { relation: Some(Relation::Edit(said)), ..Envelope::default() };
    one.say("#a", Content { envelope, ..Content::text("worse slander") }).unwrap();
    meet(&mut one, &mut other);
    assert!(other.holds("worse slander"));
    // Somebody else may not; the founder may.
    assert!(matches!(one.redact("dave", said), Err(Refusal::NotPermitted(_))));
    one.redact("founder", said).unwrap();
    assert!(!one.holds("slander") && !one.shows("slander"));
    meet(&mut one, &mut other);
    assert!(!other.holds("slander") && other.node.wanted_texts() == 0);
    let mut newcomer = Site::new("c");
    meet(&mut other, &mut newcomer);
    assert!(!newcomer.holds("slander"));
    newcomer.wait(100_000);
    assert_eq!(newcomer.node.state_root(), one.node.state_root());
    one.restart();
    let stored = one.log.iter().find(|stored| stored.id == said).unwrap();
    assert!(stored.parcel().unwrap().payload.is_none());
}

#[test]
fn an_edit_lasts_no_longer_than_what_it_edits() {
    let mut site = Site::new("a");
    site.create("#a");
    let said = site.say("#a", lasting("secret", site.now.plus_ms(HOUR_MS))).unwrap().event.unwrap();
    let envelope = Envelope { relation: Some(Relation::Edit(said)), ..Envelope::default() };
    site.say("#a", Content { envelope, ..Content::text("new secret") }).unwrap();
    site.wait(HOUR_MS);
    assert!(!site.holds("secret"));
}

#[test]
fn what_expires_while_it_waits_is_not_delivered_late() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    site.say("#a", lasting("secret", site.now.plus_ms(HOUR_MS))).unwrap();
    let last = site.say("#a", Content::text("for ever")).unwrap().event.unwrap();
    site.wait(HOUR_MS);
    let mut told = site.feed(Input::DoorOpened(Door::Matrix));
    let mut delivered = Vec::new();
    while let Some(output) = told.pop() {
        let Output::DeliverStored { id, link, position, .. } = output else { panic!("{output:?}") };
        let stored = site.log[position as usize - 1].clone();
        match site.node.delivery_of(site.now, link.as_ref(), &stored) {
            Ok(news) => {
                delivered.push(news.event);
                let outcome = Outcome::Delivered { external_id: None };
                told.extend(site.feed(Input::Report { delivery: id, outcome }));
            }
            Err(lapse) => {
                assert_eq!(lapse, Lapse::Over);
                told.extend(site.feed(Input::Lapsed { delivery: id, lapse }));
            }
        }
    }
    assert!(delivered.contains(&last) && site.rest.outbox.is_empty());
    assert_eq!(site.node.refused()["delivery_over"], 1);
}

#[test]
fn a_peer_that_strips_texts_loses_nobody_anything() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    one.link("#a", matrix());
    other.feed(Input::DoorOpened(Door::Listener));
    one.say("#a", Content::text("live")).unwrap();
    let thief = NodeId([9; 32]);
    let mut parcels = one.offered();
    parcels.iter_mut().for_each(|parcel| parcel.payload = None);
    let told = other.peer_says(thief, Packet::Events { parcels, more: false });
    assert!(!told.iter().any(|output| matches!(output, Output::Deliver { delivery, .. }
        if matches!(delivery.news.what, What::Message(_)))));
    assert_eq!(other.node.state_root(), one.node.state_root(), "the event counts all the same");
    assert!(!other.shows("live") && other.node.wanted_texts() == 1);
    // It remembers over a restart, and asks whoever is there.
    other.restart();
    other.feed(Input::DoorOpened(Door::Listener));
    assert_eq!(other.node.wanted_texts(), 1);
    let node = one.node.id();
    one.feed(Input::PeerUp(other.node.id()));
    other.feed(Input::PeerUp(node));
    let asked = other.wait(0);
    assert!(
        matches!(&asked[..], [Output::Send { packet: Packet::Want { events, .. }, .. }] if events.len() == 1)
    );
    talk(&mut other, &mut one, asked);
    assert!(other.shows("live") && other.node.wanted_texts() == 0);
    let before = other.log.clone();
    one.wait(60_000);
    meet(&mut one, &mut other);
    assert_eq!(other.log, before);
}

#[test]
fn a_text_that_came_late_expires_in_time() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    one.say("#a", lasting("secret", one.now.plus_ms(HOUR_MS))).unwrap();
    let full = one.offered();
    let mut stripped = full.clone();
    stripped.iter_mut().for_each(|parcel| parcel.payload = None);
    let peer = one.node.id();
    other.peer_says(peer, Packet::Events { parcels: stripped, more: false });
    other.restart();
    other.peer_says(peer, Packet::Events { parcels: full, more: false });
    assert!(other.shows("secret"));
    other.wait(HOUR_MS);
    assert!(!other.holds("secret"));
}

#[test]
fn a_text_that_comes_after_its_event_is_told_and_carried_once() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    meet(&mut one, &mut other);
    other.link("#a", matrix());
    for door in [Door::Listener, Door::Matrix] {
        other.feed(Input::DoorOpened(door));
    }
    one.say("#a", Content::text("live")).unwrap();
    let full = one.offered();
    let mut stripped = full.clone();
    stripped.iter_mut().for_each(|parcel| parcel.payload = None);
    let peer = one.node.id();
    let mut count = 0;
    for parcels in [stripped.clone(), full.clone(), stripped, full] {
        let told = other.peer_says(peer, Packet::Events { parcels, more: false });
        count += told
            .iter()
            .filter(|output| {
                matches!(output, Output::Deliver { delivery, .. }
                if matches!(&delivery.news.what, What::Message(content) if content.body == "live"))
            })
            .count();
    }
    assert_eq!(count, 2, "the listener and the link, once each");
}

#[test]
fn more_stripped_events_than_can_be_asked_for_wait_elsewhere() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    for number in 0..limits::WANTED_PAYLOADS + 50 {
        one.say("#a", Content::text(number.to_string())).unwrap();
    }
    let mut parcels = one.offered();
    parcels.iter_mut().for_each(|parcel| parcel.payload = None);
    for parcels in parcels.chunks(500) {
        other.peer_says(NodeId([9; 32]), Packet::Events { parcels: parcels.to_vec(), more: false });
    }
    assert_eq!(other.node.wanted_texts(), limits::WANTED_PAYLOADS);
    assert!(other.node.refused()["message_without_payload"] > 0);
    let node = one.node.id();
    meet(&mut one, &mut other);
    for _ in 0..100 {
        other.feed(Input::PeerUp(node));
        let asked = other.wait(2_000);
        one.now = other.now;
        talk(&mut other, &mut one, asked);
    }
    assert_eq!((other.node.wanted_texts(), other.node.state_root()), (0, one.node.state_root()));
    assert!(other.log.iter().skip(2).all(|stored| stored.payload.is_some() && stored.visible));
}

#[test]
fn a_message_goes_only_to_links_that_it_and_the_channel_are_cleared_for() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    site.link("#a", irc("net:6667"));
    let (to_matrix, to_irc) = (Sink::Matrix("example.org".into()), Sink::Irc("net:6667".into()));
    let labelled = |text: &str, sinks: &[&Sink]| {
        let mut sinks: Vec<Sink> = sinks.iter().copied().cloned().collect();
        sinks.sort();
        let envelope = Envelope { flow: Flow::Only(sinks), ..Envelope::default() };
        Content { envelope, ..Content::text(text) }
    };
    let waiting = |site: &Site, position: u64| {
        let rows = site.rest.outbox.iter().filter(|row| row.position == position);
        rows.map(|row| row.link.clone()).collect::<Vec<_>>()
    };
    let free = site.say("#a", Content::text("anywhere")).unwrap();
    assert_eq!((free.withheld.len(), waiting(&site, site.log.len() as u64).len()), (0, 2));
    let narrow = site.say("#a", labelled("narrow", &[&to_irc])).unwrap();
    assert_eq!(narrow.withheld, std::slice::from_ref(&to_matrix), "its author is told");
    assert_eq!(waiting(&site, site.log.len() as u64), [irc("net:6667")]);
    site.policy(Change::Flow(Flow::Only(vec![to_matrix.clone(), Sink::Search])));
    let bound = site.say("#a", Content::text("bound")).unwrap();
    assert_eq!(bound.withheld, std::slice::from_ref(&to_irc));
    assert!(matches!(site.say("#a", labelled("leak", &[&to_irc])), Err(Refusal::NotPermitted(_))));
    let unsearchable = site.say("#a", labelled("unsearchable", &[&to_matrix])).unwrap();
    assert!(unsearchable.withheld.contains(&to_irc));
    let keeping: Vec<bool> = site.log.iter().rev().take(2).map(|stored| stored.keeping.searchable).collect();
    assert_eq!(keeping, [false, true]);
    let stored = site.log.last().unwrap();
    assert!(site.node.finding_of(site.now, stored).is_none());
    assert_eq!(site.node.exports()[&to_matrix], Exported { carried: 3, withheld: 1 });
    assert_eq!(site.node.exports()[&to_irc], Exported { carried: 2, withheld: 2 });
}

#[test]
fn what_waited_while_the_flow_was_narrowed_is_not_delivered() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    site.say("#a", Content::text("waits")).unwrap();
    let position = site.log.len() as u64;
    site.policy(Change::Flow(Flow::Only(Vec::new())));
    let stored = site.log[position as usize - 1].clone();
    assert_eq!(site.node.delivery_of(site.now, Some(&matrix()), &stored), Err(Lapse::NotCleared));
    let row = site.rest.outbox.iter().find(|row| row.position == position).unwrap().id;
    site.feed(Input::DoorOpened(Door::Matrix));
    site.feed(Input::Lapsed { delivery: row, lapse: Lapse::NotCleared });
    assert!(site.rest.outbox.iter().all(|waiting| waiting.id != row));
    let sink = Sink::Matrix("example.org".into());
    assert_eq!(site.node.exports()[&sink], Exported { carried: 0, withheld: 1 });
}

#[test]
fn an_invite_link_lets_in_who_holds_it_at_another_node() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    one.policy(Change::Join(JoinRule::Invite));
    let expires = Some(one.now.plus_ms(HOUR_MS));
    let wish = Intent::Invite { channel: named("#a"), role: Role::Moderator, expires };
    assert!(one.submit("nobody", wish.clone()).is_err());
    let invite = one.submit("founder", wish.clone()).unwrap().invite.unwrap();
    let second = one.submit("founder", wish).unwrap().invite.unwrap();
    assert_ne!(invite.key().public(), second.key().public());
    let join = Intent::JoinChannel { channel: named("#a"), create: false };
    let by_link = Intent::UseInvite { invite: invite.to_string().parse().unwrap() };
    assert!(matches!(other.submit("guest", by_link.clone()), Err(Refusal::NoSuchChannel(_))));
    meet(&mut one, &mut other);
    assert_eq!(other.submit("guest", join), Err(Refusal::NotInvited));
    assert!(other.submit("guest", by_link.clone()).unwrap().event.is_some());
    assert_eq!(other.submit("guest", by_link.clone()).unwrap().event, None, "once is enough");
    meet(&mut one, &mut other);
    assert_eq!(one.node.state_root(), other.node.state_root());
    let guest =
        one.node.channels()[0].members.iter().find(|member| member.profile.username == "guest").cloned();
    assert_eq!(guest.unwrap().role, Role::Moderator);
    other.now = other.now.plus_ms(HOUR_MS + 1);
    assert!(other.submit("late", by_link.clone()).is_err());
    let then = crate::chat::act::Standing::Banned;
    let subject = Subject::Name("guest".into());
    let ban = Intent::RevokeRole { channel: named("#a"), subject, then, reason: String::new() };
    one.submit("founder", ban).unwrap();
    meet(&mut one, &mut other);
    assert_eq!(other.submit("guest", by_link), Err(Refusal::Banned));
}

#[test]
fn a_channel_goes_on_in_its_successor() {
    let mut site = Site::new("a");
    let old = site.create("#a");
    site.say("#a", Content::text("before")).unwrap();
    let subject = Subject::Name("carol".into());
    site.submit("founder", Intent::GrantRole { channel: named("#a"), subject, role: Role::Moderator })
        .unwrap();
    site.policy(Change::Join(JoinRule::Knock));
    site.policy(Change::Topic("ours".into()));
    let upgrade = || Intent::Upgrade { channel: named("#a") };
    assert_eq!(site.submit("carol", upgrade()), Err(Refusal::NotPermitted("delete_channel")));
    let new = site.submit("founder", upgrade()).unwrap().channel.unwrap();
    assert_ne!(new, old);
    let views = site.node.channels();
    let (before, after) = (
        views.iter().find(|view| view.id == old).unwrap(),
        views.iter().find(|view| view.id == new).unwrap(),
    );
    assert!(before.policy.closed && !after.policy.closed);
    assert_eq!((after.topic.as_str(), after.policy.join), ("ours", JoinRule::Knock));
    let ancestry = site.node.directory.get(&new).unwrap().replica.state().ancestry();
    assert_eq!(ancestry.predecessor, Some(old));
    let say = |channel| Intent::SendMessage { channel, content: Content::text("hello") };
    assert!(site.submit("carol", say(crate::chat::intent::ChannelRef::Id(old))).is_err());
    assert!(
        site.submit_as(person("carol", "carol"), say(crate::chat::intent::ChannelRef::Id(new))).0.is_ok()
    );
    let carol = site.node.channels().into_iter().find(|view| view.id == new).unwrap();
    let carol = carol.members.into_iter().find(|member| member.profile.username == "carol").unwrap();
    assert_eq!(carol.role, Role::Moderator);
}

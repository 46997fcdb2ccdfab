//! The node from outside: what goes in, what comes out.

mod holders;
mod parts;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::base::key::SecretKey;
use crate::base::{ChannelId, limits};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::Change;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject};
use crate::chat::message::{Content, Origin};
use crate::chat::profile::Profile;
use crate::chat::view::{Member, What};
use crate::replica::sample::{self, Author};
use crate::replica::{Extent, Packet, Parcel, Reach};

/// A node and what it wrote.
pub(super) struct Site {
    pub node: Node,
    pub setup: Setup,
    pub log: Vec<StoredEvent>,
    pub rest: Restored,
    pub now: Timestamp,
}

impl Site {
    pub(super) fn new(name: &str) -> Self {
        let secret = SecretKey::from_seed(*blake3::hash(name.as_bytes()).as_bytes());
        let setup =
            Setup { secret, name: name.to_owned(), matrix_server: "example.org".into(), generation: 0 };
        let node = Node::restore(setup.clone(), Restored::default(), std::iter::empty()).unwrap();
        Self { node, setup, log: Vec::new(), rest: Restored::default(), now: Timestamp(1_000_000) }
    }

    /// Feeds one input, keeps what is to be kept, and returns the rest.
    pub(super) fn feed(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.node.handle(self.now, input);
        let mut effects = Vec::new();
        for output in outputs {
            match output {
                Output::Commit(batch) => {
                    assert!(effects.is_empty(), "what is to be durable comes first");
                    batch.0.into_iter().for_each(|write| self.keep(write));
                }
                other => effects.push(other),
            }
        }
        effects
    }

    pub(super) fn keep(&mut self, write: Write) {
        match write {
            Write::Event(event) => match self.log.get_mut(event.position as usize - 1) {
                Some(before) => *before = event,
                None => self.log.push(event),
            },
            Write::Erase { .. } | Write::EraseExpired { .. } | Write::EraseSaid { .. } => {
                self.log.iter_mut().filter(|event| write.erases(event)).for_each(StoredEvent::erase);
            }
            Write::Name { channel, name } => self.rest.names.push((channel, name)),
            Write::Link { link, channel, .. } => self.rest.links.push((link, channel)),
            Write::Outbox { id, link, position } => {
                let (attempts, next_at, uncertain) = (0, Timestamp(0), false);
                self.rest.outbox.push(OutboxRow { id, link, position, attempts, next_at, uncertain });
                self.rest.last_outbox_id = id;
            }
            Write::OutboxDone { id } => self.rest.outbox.retain(|row| row.id != id),
            Write::Intent(offer) => self.rest.intents.push(offer),
            Write::IntentGone { id } => self.rest.intents.retain(|offer| offer.intent.id() != id),
            _ => {}
        }
    }

    pub(super) fn restart(&mut self) {
        self.node =
            Node::restore(self.setup.clone(), self.rest.clone(), self.log.clone().into_iter()).unwrap();
    }

    pub(super) fn submit_as(
        &mut self,
        actor: Actor,
        intent: Intent,
    ) -> (Result<Receipt, Refusal>, Vec<Output>) {
        let submission = Box::new(Submission { actor, intent, via: None, join_first: true, tag: 0 });
        let mut effects = self.feed(Input::Submit { ticket: 1, submission, known: None });
        let Some(Output::Reply { result, .. }) = effects.pop() else { panic!("an answer comes last") };
        (result, effects)
    }

    pub(super) fn submit(&mut self, name: &str, intent: Intent) -> Result<Receipt, Refusal> {
        self.submit_as(person(name, name), intent).0
    }

    pub(super) fn say(&mut self, channel: &str, content: Content) -> Result<Receipt, Refusal> {
        self.submit("carol", Intent::SendMessage { channel: named(channel), content })
    }

    pub(super) fn create(&mut self, name: &str) -> ChannelId {
        let intent = Intent::CreateChannel { name: name.parse().unwrap(), topic: String::new() };
        self.submit("founder", intent).unwrap().channel.unwrap()
    }

    pub(super) fn link(&mut self, channel: &str, link: Link) {
        self.submit("founder", Intent::Link { channel: named(channel), link, create: true }).unwrap();
    }

    pub(super) fn parcels(&self) -> Vec<Parcel> {
        self.log.iter().map(|stored| stored.parcel().unwrap()).collect()
    }

    /// What an output puts on the wire.
    pub(super) fn packets(&self, output: Output) -> Vec<Packet> {
        match output {
            Output::Send { packet, .. } => vec![packet],
            Output::SendEvents { positions, more, .. } => {
                let at = |position: u64| self.node.parcel_of(self.now, &self.log[position as usize - 1]);
                Packet::pack(positions.into_iter().filter_map(at), limits::PACKET_BYTES, more)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn peer_says(&mut self, from: NodeId, packet: Packet) -> Vec<Output> {
        self.feed(Input::Packet { from, packet })
    }

    pub(super) fn shown(&self, account: &str) -> Profile {
        let (identity, _) = (self.node.people.remembered(account).identity, ());
        let channel = self.node.directory.iter().next().unwrap().1;
        channel.replica.state().person(&identity).unwrap().profile
    }
}

pub(super) fn named(name: &str) -> ChannelRef {
    ChannelRef::Name(name.to_owned())
}

pub(super) fn person(account: &str, username: &str) -> Actor {
    let profile = Profile { username: username.to_owned(), ..Profile::default() };
    Actor::Person { account: account.to_owned(), profile }
}

pub(super) fn matrix() -> Link {
    Link::Matrix { room: "!room".into() }
}

pub(super) fn irc(network: &str) -> Link {
    Link::Irc { network: network.into(), channel: "#a".into() }
}

fn from_matrix(text: &str, external_id: &str) -> Content {
    let origin = Origin { link: matrix(), external_id: external_id.into(), said_at: Timestamp(1) };
    Content { origin: Some(origin), ..Content::text(text) }
}

/// Lets two sites talk until neither has anything to say; the number of packets.
pub(super) fn talk(one: &mut Site, other: &mut Site, first: Vec<Output>) -> usize {
    let sites = [one, other];
    let mut wire: VecDeque<(usize, Packet)> = VecDeque::new();
    wire.extend(first.into_iter().flat_map(|output| sites[0].packets(output)).map(|packet| (1, packet)));
    let mut count = 0;
    while let Some((to, packet)) = wire.pop_front() {
        count += 1;
        assert!(count < 100_000, "they never come to an end");
        let bytes = packet.encode();
        assert!(bytes.len() <= limits::PACKET_BYTES);
        let from = sites[1 - to].node.id();
        let outputs = sites[to].peer_says(from, Packet::decode(&bytes).unwrap());
        let said: Vec<Packet> = outputs.into_iter().flat_map(|output| sites[to].packets(output)).collect();
        wire.extend(said.into_iter().map(|packet| (1 - to, packet)));
    }
    count
}

/// Both come up for each other.
pub(super) fn meet(one: &mut Site, other: &mut Site) -> usize {
    let (first, second) = (one.node.id(), other.node.id());
    let said = one.feed(Input::PeerUp(second));
    let answered = other.feed(Input::PeerUp(first));
    talk(one, other, said) + talk(other, one, answered)
}

#[test]
fn a_message_that_comes_again_is_one_event() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    let first = site.say("#a", from_matrix("hi", "$1")).unwrap();
    let events = site.log.len();
    assert_eq!(site.say("#a", from_matrix("hi", "$1")).unwrap(), first);
    assert_eq!(site.log.len(), events);
    assert_ne!(site.say("#a", from_matrix("hi", "$2")).unwrap(), first);

    // Another node took it in, and it is not committed here when our homeserver brings it too.
    let mut other = Site::new("b");
    meet(&mut other, &mut site);
    let again = other.say("#a", from_matrix("hi", "$2")).unwrap();
    assert_eq!(again.event, site.say("#a", from_matrix("hi", "$2")).unwrap().event);
}

#[test]
fn two_channels_of_one_name_are_told_apart_and_meet_nowhere() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    let (first, second) = (one.create("#same"), other.create("#same"));
    assert_ne!(first, second);
    let intent = Intent::CreateChannel { name: "#same".parse().unwrap(), topic: String::new() };
    assert_eq!(one.submit("x", intent), Err(Refusal::ChannelExists("#same".into())));
    meet(&mut one, &mut other);
    assert_eq!(one.node.state_root(), other.node.state_root());
    let short = |id: ChannelId| format!("#same~{}", &id.to_string()[..4]);
    let find = |site: &Site, name: &str| site.node.directory.find(&named(name));
    assert_eq!((find(&one, "#same"), find(&one, &short(second))), (Some(first), Some(second)));
    assert_eq!((find(&other, "#SAME"), find(&other, &short(first))), (Some(second), Some(first)));
    one.restart();
    assert_eq!((find(&one, "#same"), find(&one, &short(second))), (Some(first), Some(second)));
}

#[test]
fn nothing_crosses_from_one_network_to_another_wherever_it_came_in() {
    let mut far = Site::new("far");
    far.link("#a", irc("one"));
    let mut near = Site::new("near");
    meet(&mut far, &mut near);
    near.link("#a", irc("two"));
    near.link("#a", matrix());
    near.feed(Input::DoorOpened(Door::Matrix));
    near.feed(Input::DoorOpened(Door::Network("two".into())));
    let origin = Origin { link: irc("one"), external_id: "1".into(), said_at: Timestamp(1) };
    far.say("#a", Content { origin: Some(origin), ..Content::text("psst") }).unwrap();
    let parcels = vec![far.parcels().pop().unwrap(), far.parcels()[far.log.len() - 2].clone()];
    let outputs = near.peer_says(far.node.id(), Packet::Events { parcels, more: false });
    let doors: Vec<&Door> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Deliver { door, delivery } if matches!(delivery.news.what, What::Message(_)) => {
                Some(door)
            }
            _ => None,
        })
        .collect();
    assert_eq!(doors, [&Door::Matrix]);
}

#[test]
fn a_node_made_anew_is_the_same_and_owes_the_same() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    for number in 0..100 {
        site.say("#a", Content::text(number.to_string())).unwrap();
    }
    site.submit("carol", Intent::LeaveChannel { channel: named("#a"), reason: String::new() }).unwrap();
    let (root, depths, owed) = (site.node.state_root(), site.node.outbox_depths(), site.rest.outbox.clone());
    site.restart();
    assert_eq!((site.node.state_root(), site.node.outbox_depths()), (root, depths));
    assert_eq!(site.node.events(), site.log.len() as u64);
    let outputs = site.feed(Input::DoorOpened(Door::Matrix));
    let orders: Vec<(u64, u64, bool)> = outputs
        .iter()
        .map(|output| match output {
            Output::DeliverStored { id, position, uncertain, .. } => (*id, *position, *uncertain),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(orders.len(), limits::DELIVERY_WINDOW);
    for (order, row) in orders.iter().zip(&owed) {
        assert_eq!(*order, (row.id, row.position, true), "it may have been under way: look before sending");
    }
    let done = Outcome::Delivered { external_id: None };
    let next = site.feed(Input::Report { delivery: orders[0].0, outcome: done });
    assert!(matches!(next[..], [Output::DeliverStored { uncertain: false, .. }]), "{next:?}");
    // What is damaged is named.
    site.log[2].signed[10] ^= 1;
    let log = site.log.clone().into_iter();
    assert_eq!(Node::restore(site.setup.clone(), site.rest.clone(), log).err().unwrap().position, 3);
}

#[test]
fn leaving_ends_what_one_may_do_until_one_joins_again() {
    let mut site = Site::new("a");
    site.create("#a");
    let bare = |site: &mut Site, intent| {
        let submission =
            Submission { actor: person("carol", "carol"), intent, via: None, join_first: false, tag: 0 };
        let outputs = site.feed(Input::Submit { ticket: 1, submission: Box::new(submission), known: None });
        match outputs.last() {
            Some(Output::Reply { result, .. }) => result.clone(),
            other => panic!("{other:?}"),
        }
    };
    let say = || Intent::SendMessage { channel: named("#a"), content: Content::text("hi") };
    let join = || Intent::JoinChannel { channel: named("#a"), create: false };
    let leave = || Intent::LeaveChannel { channel: named("#a"), reason: String::new() };
    assert_eq!(bare(&mut site, say()), Err(Refusal::NotAMember));
    assert!(bare(&mut site, join()).unwrap().event.is_some());
    assert_eq!(bare(&mut site, join()).unwrap().event, None, "a member stays what they are");
    assert!(bare(&mut site, say()).is_ok());
    assert!(bare(&mut site, leave()).is_ok());
    assert_eq!(bare(&mut site, say()), Err(Refusal::NotAMember));
    assert_eq!(bare(&mut site, leave()), Err(Refusal::NotAMember));
    assert!(bare(&mut site, join()).unwrap().event.is_some());
    assert!(bare(&mut site, say()).is_ok());
    site.restart();
    assert!(bare(&mut site, say()).is_ok());
}

#[test]
fn who_borrows_a_voice_does_not_change_the_face() {
    let mut site = Site::new("a");
    site.create("#a");
    let alice = Profile {
        username: "alice".into(),
        display_name: "Alice Ångström".into(),
        home: "@alice:example.org".into(),
    };
    let account = "@alice:example.org";
    let join = Intent::JoinChannel { channel: named("#a"), create: false };
    let actor = Actor::Person { account: account.into(), profile: alice.clone() };
    site.submit_as(actor, join.clone()).0.unwrap();
    let borrowed = || Actor::Person { account: account.into(), profile: Profile::default() };
    let say = || Intent::SendMessage { channel: named("#a"), content: Content::text("hi") };
    site.submit_as(borrowed(), say()).0.unwrap();
    assert_eq!(site.shown(account), alice);
    site.restart();
    site.submit_as(borrowed(), say()).0.unwrap();
    assert_eq!(site.shown(account), alice, "nor after a restart");
    let unknown = Actor::Person { account: "bob@irc.net".into(), profile: Profile::default() };
    site.submit_as(unknown, join.clone()).0.unwrap();
    assert_eq!(site.shown("bob@irc.net").username, "bob");
    // The node's own account is nobody's to take, and nobody's name changes what it is.
    for taken in ["the node", "", "a b", "a\nb"] {
        let refused = site.submit_as(person(taken, "x"), join.clone()).0;
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{taken:?} {refused:?}");
    }
    let own = site.node.people.node().0;
    assert_eq!(own.profile.username, "a");
}

#[test]
fn what_is_too_long_for_others_is_never_signed() {
    let (mut site, mut peer) = (Site::new("a"), Site::new("b"));
    site.create("#a");
    let body = "x".repeat(limits::BODY_BYTES);
    let formatted = Some(body.clone());
    site.say("#a", Content { formatted, ..Content::text(body.clone()) }).unwrap();
    let news = site.node.news_of(site.now, site.log.last().unwrap()).unwrap();
    assert!(
        matches!(news.what, What::Message(content) if content.body == body && content.formatted.is_none())
    );
    let external_id = "x".repeat(limits::PAYLOAD_BYTES);
    assert!(matches!(site.say("#a", from_matrix("hi", &external_id)), Err(Refusal::Malformed(_))));
    let via = Some(Link::Matrix { room: "!".repeat(limits::EVENT_HEADER_BYTES) });
    let intent = Intent::JoinChannel { channel: named("#a"), create: false };
    let submission = Submission { actor: person("eve", "eve"), intent, via, join_first: false, tag: 0 };
    let outputs = site.feed(Input::Submit { ticket: 1, submission: Box::new(submission), known: None });
    assert!(
        matches!(&outputs[..], [Output::Reply { result: Err(Refusal::Malformed(_)), .. }]),
        "{outputs:?}"
    );
    meet(&mut site, &mut peer);
    assert_eq!(site.node.state_root(), peer.node.state_root());
    assert!(peer.node.refused().is_empty(), "{:?}", peer.node.refused());
    peer.restart();
}

#[test]
fn thousands_of_missing_events_come_in_rounds() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    for number in 0..3_000 {
        one.say("#a", Content::text(number.to_string())).unwrap();
    }
    let packets = meet(&mut one, &mut other);
    assert_eq!(one.node.state_root(), other.node.state_root());
    assert!(packets < 60, "{packets}");
    assert_eq!(other.node.pending_events(), 0);
    other.restart();
    assert_eq!(one.node.state_root(), other.node.state_root());
}

#[test]
fn hundreds_of_missing_channels_come_in_turn() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    for number in 0..600 {
        one.create(&format!("#channel{number}"));
    }
    let packets = meet(&mut one, &mut other);
    assert_eq!(one.node.state_root(), other.node.state_root());
    assert!(packets < 3_000, "{packets}");
}

#[test]
fn a_peer_that_lost_its_memory_unnoticed_gets_it_back_by_summaries() {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#a");
    meet(&mut one, &mut other);
    one.say("#a", Content::text("while it was away")).unwrap();
    other.restart();
    // It knows its peer again, but the peer never noticed that it was gone.
    other.feed(Input::PeerUp(one.node.id()));
    one.now = one.now.plus_ms(limits::SUMMARY_INTERVAL_MS);
    assert!(one.node.next_timeout().unwrap() <= one.now);
    let said = one.feed(Input::Timeout);
    talk(&mut one, &mut other, said);
    assert_eq!(one.node.state_root(), other.node.state_root());
}

#[test]
fn nodes_that_differ_for_good_do_not_keep_each_other_busy() {
    let founder = Author::new("founder");
    let (mut replica, founding) = sample::founded(&founder);
    let mut forked = crate::replica::Replica::found(&founding, 1).unwrap().0;
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    let base = |event| Parcel { event, payload: None };
    let left: Vec<Parcel> = (0..40).map(|n| founder.say(&mut replica, 2_000 + n, "left")).collect();
    let right: Vec<Parcel> = (0..40).map(|n| founder.say(&mut forked, 2_000 + n, "right")).collect();
    for (site, branch) in [(&mut one, left), (&mut other, right)] {
        let parcels = [base(founding.clone())].into_iter().chain(branch).collect();
        let nobody = NodeId([9; 32]);
        site.peer_says(nobody, Packet::Events { parcels, more: false });
        assert_eq!(site.log.len(), 41);
    }
    // One of them goes on, and so does somebody who saw only that branch.
    one.submit("x", Intent::JoinChannel { channel: named("#sample"), create: false }).unwrap();
    one.say("#sample", Content::text("on the left")).unwrap();
    let mut packets = meet(&mut one, &mut other);
    for round in 0..20 {
        for site in [&mut one, &mut other] {
            site.now = site.now.plus_ms(limits::SUMMARY_INTERVAL_MS);
        }
        let said = one.feed(Input::Timeout);
        packets += talk(&mut one, &mut other, said);
        let said = other.feed(Input::Timeout);
        packets += talk(&mut other, &mut one, said);
        assert!(packets < 20 * (round + 2), "{packets} in round {round}");
    }
    assert!(other.node.pending_events() <= 10);
}

#[test]
fn lies_about_what_one_has_cost_little() {
    let mut site = Site::new("a");
    let real = site.create("#a");
    for number in 0..600 {
        site.say("#a", Content::text(number.to_string())).unwrap();
    }
    let liar = NodeId([6; 32]);
    site.feed(Input::PeerUp(liar));
    let invented = |from: usize| {
        let id = |number: usize| ChannelId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        Packet::Summary((from..from + 4_000).map(|number| (id(number), Digest([0; 32]))).collect())
    };
    let mut asked = 0;
    for lie in 0..20 {
        asked += site.peer_says(liar, invented(lie * 4_000)).len();
    }
    assert!(asked <= 256, "{asked}");
    let huge: Extent = (0..6_000u32)
        .map(|number| {
            let reach = Reach { count: u64::MAX, marks: vec![u64::from(number)] };
            (EventId(*blake3::hash(&number.to_be_bytes()).as_bytes()), reach)
        })
        .collect();
    let (mut sent, mut asked) = (0, 0);
    for _ in 0..200 {
        for output in site.peer_says(liar, Packet::Have { channel: real, extent: huge.clone() }) {
            match output {
                Output::SendEvents { positions, .. } => sent += positions.len(),
                _ => asked += 1,
            }
        }
    }
    assert!(sent <= 20_000 && asked <= 1, "{sent} {asked}");
    assert!(site.node.refused()["asks_too_much"] > 0);
    // Time passes: it may ask again; and whoever is not up gets nothing.
    site.now = site.now.plus_ms(5_000);
    let have = Packet::Have { channel: real, extent: Extent::new() };
    assert!(!site.peer_says(liar, have.clone()).is_empty());
    assert!(site.peer_says(NodeId([7; 32]), have).is_empty());
    let mut turns = 0;
    while site.node.next_timeout().is_some_and(|at| at.since_ms(site.now) < 2_500) {
        site.now = site.node.next_timeout().unwrap();
        site.feed(Input::Timeout);
        turns += 1;
        assert!(turns < 1_000);
    }
    site.feed(Input::PeerDown(liar));
    assert_eq!(site.node.next_timeout(), None);
}

#[test]
fn events_with_an_invented_past_fill_no_memory() {
    let mut site = Site::new("a");
    site.create("#a");
    let channel = site.node.channels()[0].id;
    let eve = Author::new("eve");
    let (replica, _) = sample::founded(&eve);
    for number in 0..300u32 {
        let payload = Content::text("x".repeat(40_000)).payload();
        let mut header = eve.draft(&replica, 5_000, crate::chat::act::Act::SendMessage(Default::default()));
        header.channel = Some(channel);
        header.prev = Some(EventId(*blake3::hash(&number.to_be_bytes()).as_bytes()));
        header.payload = Some(crate::replica::PayloadRef::of(&payload));
        let parcels = vec![Parcel { event: eve.sign(header), payload: Some(payload) }];
        site.peer_says(NodeId([6; 32]), Packet::Events { parcels, more: false });
    }
    assert!((10..60).contains(&site.node.pending_events()), "{}", site.node.pending_events());
    assert!(site.node.refused()["pending_full"] > 200);
    site.say("#a", Content::text("still here")).unwrap();
}

#[test]
fn news_of_the_future_waits_elsewhere() {
    let (mut ahead, mut site) = (Site::new("a"), Site::new("b"));
    ahead.create("#a");
    meet(&mut ahead, &mut site);
    ahead.now = ahead.now.plus_ms(limits::CLOCK_SKEW_MS + 1);
    ahead.say("#a", Content::text("from the future")).unwrap();
    let from = ahead.node.id();
    let packet = Packet::Events { parcels: ahead.parcels(), more: false };
    site.peer_says(from, packet.clone());
    assert!(site.node.refused()["future_event"] >= 1);
    site.now = site.now.plus_ms(2);
    site.peer_says(from, packet);
    assert_eq!(site.node.state_root(), ahead.node.state_root());
}

#[test]
fn unlinking_ends_what_is_under_way() {
    let mut site = Site::new("a");
    site.link("#a", matrix());
    site.feed(Input::DoorOpened(Door::Matrix));
    for number in 0..100 {
        site.say("#a", Content::text(number.to_string())).unwrap();
    }
    let owed = site.rest.outbox[0].id;
    site.submit("carol", Intent::Unlink { link: matrix() }).unwrap();
    assert!(site.rest.outbox.is_empty() && site.node.outbox_depths().values().all(|depth| *depth == 0));
    let done = Outcome::Delivered { external_id: Some("$late".into()) };
    assert!(site.feed(Input::Report { delivery: owed, outcome: done }).is_empty());
    assert_eq!(site.submit("carol", Intent::Unlink { link: matrix() }), Err(Refusal::NoSuchLink));
    site.link("#a", matrix());
    let last = site.rest.last_outbox_id;
    site.say("#a", Content::text("anew")).unwrap();
    assert_eq!(site.rest.outbox.iter().map(|row| row.id).collect::<Vec<_>>(), [last + 1]);
}

/// A peer's packets, as bytes, each of which means something to the node of `busy`.
fn meaningful() -> Vec<Vec<u8>> {
    let mut site = Site::new("a");
    site.create("#a");
    for number in 0..3 {
        site.say("#a", Content::text(number.to_string())).unwrap();
    }
    let channel = &site.node.directory.iter().next().unwrap().1.replica;
    let packets = [
        Packet::Events { parcels: site.parcels(), more: true },
        Packet::Summary(vec![(channel.id(), channel.fingerprint())]),
        Packet::Have { channel: channel.id(), extent: channel.extent(0) },
    ];
    packets.iter().map(Packet::encode).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_of_a_peer_upset_the_node(
        changes in prop::collection::vec((0usize..3, any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let packets = meaningful();
        let mut site = Site::new("b");
        let peer = NodeId([6; 32]);
        site.feed(Input::PeerUp(peer));
        for (which, at, to) in changes {
            let mut bytes = packets[which].clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(packet) = Packet::decode(&bytes) {
                site.peer_says(peer, packet);
            }
        }
        site.peer_says(peer, Packet::decode(&packets[0]).unwrap());
        let log = site.log.clone().into_iter();
        let again = Node::restore(site.setup.clone(), site.rest.clone(), log).unwrap();
        prop_assert_eq!(again.state_root(), site.node.state_root());
        prop_assert!(site.node.events() >= 5);
    }
}

#[test]
fn a_member_is_shown_as_the_doors_know_them() {
    let mut site = Site::new("a");
    site.create("#a");
    let Member { role, profile, .. } = site.node.channels()[0].members[0].clone();
    assert_eq!((role.name(), profile.username.as_str()), ("founder", "founder"));
}

/// Hands one node everything another has; returns what it put out.
fn hand(from: &Site, to: &mut Site) -> Vec<Output> {
    let packet = Packet::Events { parcels: from.parcels(), more: false };
    to.peer_says(from.node.id(), packet)
}

#[test]
fn who_was_kicked_elsewhere_has_their_late_words_withdrawn_here() {
    let (mut here, mut there) = (Site::new("a"), Site::new("b"));
    here.create("#a");
    hand(&here, &mut there);
    there.submit("dora", Intent::JoinChannel { channel: named("#a"), create: false }).unwrap();
    hand(&there, &mut here);
    // Dora speaks on her node while the founder, who has not heard it, kicks her on another.
    let say = Intent::SendMessage { channel: named("#a"), content: Content::text("late words") };
    let words = there.submit("dora", say).unwrap().event.unwrap();
    let (then, reason) = (Standing::Out, "enough".to_owned());
    let kick =
        Intent::RevokeRole { channel: named("#a"), subject: Subject::Name("dora".into()), then, reason };
    here.submit("founder", kick.clone()).unwrap();
    for site in [&mut here, &mut there] {
        site.feed(Input::DoorOpened(Door::Listener));
    }
    let (kicked, late) = (hand(&here, &mut there), hand(&there, &mut here));
    let shown =
        |output: &Output| matches!(output, Output::Deliver { delivery, .. } if delivery.news.event == words);
    assert!(!late.iter().any(shown), "it never shows where the kick came first");
    let withdrawn = kicked.iter().find_map(|output| match output {
        Output::DeliverStored { door: Door::Listener, position, .. } => Some(*position as usize - 1),
        _ => None,
    });
    let stored = &there.log[withdrawn.expect("the message is withdrawn where it was shown")];
    assert_eq!((stored.id, there.node.news_of(there.now, stored).unwrap().what), (words, What::Withdrawn));
    assert_eq!(here.node.state_root(), there.node.state_root());
    assert_eq!(here.submit("founder", kick).unwrap().event, None, "she is out already");
    let (channel, subject) = (named("#a"), Subject::Name("founder".into()));
    let back = Intent::RevokeRole { channel, subject, then: Standing::Out, reason: String::new() };
    assert!(there.submit("dora", back).is_err(), "she is out, and outranks nobody");
}

#[test]
fn who_gives_up_their_role_is_an_ordinary_member_at_once() {
    let mut site = Site::new("a");
    site.create("#a");
    site.submit("dora", Intent::JoinChannel { channel: named("#a"), create: false }).unwrap();
    let subject = || Subject::Name("founder".into());
    let (channel, then) = (named("#a"), Standing::Demoted(Role::Member));
    let resign = Intent::RevokeRole { channel, subject: subject(), then, reason: String::new() };
    assert!(site.submit("founder", resign.clone()).unwrap().event.is_some());
    let role = |site: &Site| {
        let members = site.node.channels().swap_remove(0).members;
        members.into_iter().find(|member| member.profile.username == "founder").map(|member| member.role)
    };
    assert_eq!(role(&site), Some(Role::Member), "there still, and no more than that");
    let say = Intent::SendMessage { channel: named("#a"), content: Content::text("one of you") };
    assert!(site.submit("founder", say).unwrap().event.is_some());
    assert_eq!(role(&site), Some(Role::Member));
    let (channel, subject) = (named("#a"), Subject::Name("dora".into()));
    let grant = Intent::GrantRole { channel, subject, role: Role::Moderator };
    assert!(matches!(site.submit("founder", grant), Err(Refusal::NotPermitted(_))));
    assert_eq!(site.submit("founder", resign).unwrap().event, None, "that they are already");
}

#[test]
fn who_was_promoted_acts_in_their_new_role_and_a_wish_that_comes_again_changes_nothing() {
    let mut site = Site::new("a");
    site.create("#a");
    site.submit("dora", Intent::JoinChannel { channel: named("#a"), create: false }).unwrap();
    let dora = || Subject::Name("dora".into());
    let grant = Intent::GrantRole { channel: named("#a"), subject: dora(), role: Role::Moderator };
    assert!(site.submit("founder", grant.clone()).unwrap().event.is_some());
    let topic = Intent::UpdateChannel { channel: named("#a"), change: Change::Topic("hers".into()) };
    site.submit("dora", topic).unwrap();
    assert_eq!(site.submit("founder", grant).unwrap().event, None, "she is that already");
    let revoke =
        |then| Intent::RevokeRole { channel: named("#a"), subject: dora(), then, reason: String::new() };
    for (then, first) in [
        (Standing::Free, false),
        (Standing::Demoted(Role::Member), true),
        (Standing::Banned, true),
        (Standing::Free, true),
        (Standing::Out, false),
    ] {
        for is_event in [first, false] {
            let done = site.submit("founder", revoke(then)).unwrap();
            assert_eq!(done.event.is_some(), is_event, "{then:?}");
        }
    }
    // A Matrix user may be kept out before they were ever here; nobody else is made up.
    let ban = |who: &str| {
        let (subject, then, reason) = (Subject::Name(who.into()), Standing::Banned, String::new());
        Intent::RevokeRole { channel: named("#a"), subject, then, reason }
    };
    site.submit("founder", ban("@mallory:evil.org")).unwrap();
    let join = Intent::JoinChannel { channel: named("#a"), create: false };
    assert_eq!(site.submit("@mallory:evil.org", join), Err(Refusal::Banned));
    assert_eq!(site.submit("founder", ban("nobody")), Err(Refusal::NoSuchPerson("nobody".into())));
    let said = site.say("#a", Content::text("oops")).unwrap().event.unwrap();
    let redact = Intent::RedactMessage { channel: named("#a"), target: said, reason: String::new() };
    assert!(site.submit("founder", redact.clone()).unwrap().event.is_some());
    assert_eq!(site.submit("founder", redact).unwrap().event, None);
}

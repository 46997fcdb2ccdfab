//! Intents among several nodes: gossip, partitions, competing and Byzantine solvers.

use std::collections::{BTreeSet, VecDeque};

use super::{Input, Node, Output, Receipt, Refusal, Restored, Setup, StoredEvent, Write};
use crate::base::key::SecretKey;
use crate::base::{ChannelId, Digest, Identity, NodeId, Timestamp, limits};
use crate::chat::act::Act;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::market::{Amount, Terms, Wish};
use crate::chat::profile::Profile;
use crate::machine::settlement::Settlement;
use crate::overlay::Destination;
use crate::replica::{Event, Offer, Packet, Parcel};

/// Nodes that hear each other, except where a cut is, and what each has in its log.
struct Town {
    nodes: Vec<Node>,
    logs: Vec<Vec<StoredEvent>>,
    /// What else each node's store holds.
    rest: Vec<Restored>,
    /// The side of the partition that each is on.
    side: Vec<u8>,
    now: Timestamp,
    wire: VecDeque<(usize, NodeId, Packet)>,
}

const FAIR: &str = "#fair";

impl Town {
    /// So many nodes, one person on each, who are all members of one channel.
    fn new(size: usize) -> Self {
        let node = |at: usize| Node::restore(setup(at), Restored::default(), std::iter::empty()).unwrap();
        let mut town = Self {
            nodes: (0..size).map(node).collect(),
            logs: vec![Vec::new(); size],
            rest: vec![Restored::default(); size],
            side: vec![0; size],
            now: Timestamp(1_000_000),
            wire: VecDeque::new(),
        };
        town.meet();
        let intent = Intent::CreateChannel { name: FAIR.parse().unwrap(), topic: String::new() };
        town.wish(0, intent).unwrap();
        for at in 1..size {
            town.wish(at, Intent::JoinChannel { channel: fair(), create: false }).unwrap();
        }
        town
    }

    /// All on one side come up for each other.
    fn meet(&mut self) {
        for at in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                if at != other && self.side[at] == self.side[other] {
                    let peer = self.nodes[other].id();
                    self.feed(at, Input::PeerDown(peer));
                    self.feed(at, Input::PeerUp(peer));
                }
            }
        }
        self.run();
    }

    /// A node ends and starts anew from what it wrote.
    fn restart(&mut self, at: usize) {
        self.nodes[at] =
            Node::restore(setup(at), self.rest[at].clone(), self.logs[at].clone().into_iter()).unwrap();
        self.meet();
    }

    /// Splits the town, or makes it whole.
    fn sides(&mut self, side: &[u8]) {
        self.side = side.to_vec();
        self.meet();
    }

    fn feed(&mut self, at: usize, input: Input) -> Option<Result<Receipt, Refusal>> {
        let mut answer = None;
        for output in self.nodes[at].handle(self.now, input) {
            match output {
                Output::Commit(batch) => {
                    let (log, rest) = (&mut self.logs[at], &mut self.rest[at]);
                    batch.0.into_iter().for_each(|write| match write {
                        Write::Event(event) => log.push(event),
                        Write::Name { channel, name } => rest.names.push((channel, name)),
                        Write::Intent(offer) => rest.intents.push(offer),
                        Write::IntentGone { id } => rest.intents.retain(|offer| offer.intent.id() != id),
                        _ => {}
                    });
                }
                Output::Reply { result, .. } => answer = Some(result),
                Output::Send { to, packet } => self.send(at, to, packet),
                Output::SendEvents { to, positions, more } => {
                    let log = &self.logs[at];
                    let parcels: Vec<Parcel> =
                        positions.iter().filter_map(|p| log[*p as usize - 1].parcel()).collect();
                    for packet in Packet::pack(parcels, limits::BROADCAST_BYTES, more) {
                        self.send(at, to, packet);
                    }
                }
                _ => {}
            }
        }
        answer
    }

    fn send(&mut self, from: usize, to: Destination, packet: Packet) {
        let bytes = packet.encode();
        assert!(bytes.len() <= limits::PACKET_BYTES);
        let id = self.nodes[from].id();
        for other in 0..self.nodes.len() {
            let is_meant = match to {
                Destination::Domain => true,
                Destination::Peer(peer) => peer == self.nodes[other].id(),
            };
            if other != from && is_meant && self.side[other] == self.side[from] {
                self.wire.push_back((other, id, Packet::decode(&bytes).unwrap()));
            }
        }
    }

    fn run(&mut self) {
        while let Some((to, from, packet)) = self.wire.pop_front() {
            self.feed(to, Input::Packet { from, packet });
        }
    }

    /// What somebody at a node wants, and everything that follows from it.
    fn wish(&mut self, at: usize, intent: Intent) -> Result<Receipt, Refusal> {
        let answer = self.wish_quietly(at, intent);
        self.run();
        answer
    }

    /// The same, while its packets are still on the way.
    fn wish_quietly(&mut self, at: usize, intent: Intent) -> Result<Receipt, Refusal> {
        self.now = self.now.plus_ms(10);
        let submission = Submission { actor: person(at), intent, via: None, join_first: false, tag: 0 };
        let input = Input::Submit { ticket: 1, submission: Box::new(submission), known: None };
        self.feed(at, input).expect("an answer")
    }

    fn market(&mut self, at: usize, wish: Wish) -> Result<Receipt, Refusal> {
        self.wish(at, Intent::Market { channel: fair(), wish })
    }

    fn issue(&mut self, at: usize, name: &str, quantity: u128) {
        self.market(at, Wish::IssueToken { name: name.into(), quantity }).unwrap();
    }

    fn swap(&mut self, at: usize, gives: (&str, u128), wants: (&str, u128)) -> Result<Receipt, Refusal> {
        let terms = Terms { lasts_ms: 60_000, ..Terms::default() };
        self.market(at, Wish::Swap { gives: amount(gives), wants: amount(wants), wants_in: None, terms })
    }

    fn solve(&mut self, at: usize) -> Option<crate::base::EventId> {
        self.wish(at, Intent::Solve { channel: Some(fair()) }).unwrap().event
    }

    fn id(&self) -> ChannelId {
        self.nodes[0].directory.find(&fair()).unwrap()
    }

    fn identity(&self, at: usize) -> Identity {
        self.nodes[at].people.remembered(&account(at)).identity
    }

    /// What somebody owns of something, as every node sees it.
    fn owns(&self, who: usize, name: &str) -> u128 {
        self.owns_in(&self.id(), who, name)
    }

    fn owns_in(&self, channel: &ChannelId, who: usize, name: &str) -> u128 {
        let owner = self.identity(who);
        let seen: BTreeSet<u128> = (0..self.nodes.len())
            .map(|at| {
                let market = self.nodes[at].market_of(channel);
                let theirs = market.holdings.iter().filter(|h| h.owner == owner && h.asset.name() == name);
                theirs.map(|holding| holding.quantity).sum()
            })
            .collect();
        assert_eq!(seen.len(), 1, "nodes differ about who owns what: {seen:?}");
        seen.into_iter().next().unwrap()
    }

    fn agree(&self) {
        let roots: BTreeSet<Digest> = self.nodes.iter().map(Node::state_root).collect();
        assert_eq!(roots.len(), 1);
    }

    fn waiting(&self, at: usize) -> usize {
        self.nodes[at].market_of(&self.id()).intents.len()
    }

    /// The settlements in a node's log, and how many of them are effective.
    fn settlements(&self, at: usize) -> (usize, usize) {
        let replica = &self.nodes[at].directory.get(&self.id()).unwrap().replica;
        let events = self.logs[at].iter().map(|stored| stored.parcel().unwrap().event);
        let deals: Vec<Event> = events
            .filter(
                |event| matches!(&event.header.act, Act::Settle { settlement, .. } if settlement.intents.len() > 1),
            )
            .collect();
        (deals.len(), deals.iter().filter(|deal| replica.is_effective(&deal.id())).count())
    }
}

fn setup(at: usize) -> Setup {
    let (secret, name) = (SecretKey::from_seed([at as u8 + 1; 32]), format!("node{at}"));
    Setup { secret, name, matrix_server: String::new(), generation: 0 }
}

fn account(at: usize) -> String {
    format!("person{at}")
}

fn person(at: usize) -> Actor {
    let profile = Profile { username: account(at), ..Profile::default() };
    Actor::Person { account: account(at), profile }
}

fn fair() -> ChannelRef {
    ChannelRef::Name(FAIR.into())
}

fn amount((name, quantity): (&str, u128)) -> Amount {
    Amount { quantity, name: name.into(), issuer: None }
}

#[test]
fn three_people_on_three_nodes_swap_in_a_ring_that_a_fourth_node_finds() {
    let mut town = Town::new(4);
    for (at, name) in ["gold", "silver", "tin"].into_iter().enumerate() {
        town.issue(at, name, 10);
    }
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    town.swap(1, ("silver", 3), ("tin", 2)).unwrap();
    assert_eq!(town.solve(3), None, "two of three do not balance");
    let receipt = town.swap(2, ("tin", 2), ("gold", 4)).unwrap();
    assert_eq!(receipt.event, None, "it waits");
    assert_eq!((0..4).map(|at| town.waiting(at)).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert!(town.solve(3).is_some());
    assert_eq!((town.owns(0, "silver"), town.owns(1, "tin"), town.owns(2, "gold")), (3, 2, 4));
    assert_eq!((town.owns(0, "gold"), town.owns(1, "silver"), town.owns(2, "tin")), (6, 7, 8));
    assert_eq!((0..4).map(|at| town.waiting(at)).collect::<Vec<_>>(), [0; 4]);
    town.agree();
}

#[test]
fn people_of_two_channels_swap_across_them_wholly() {
    let mut town = Town::new(4);
    let port = || ChannelRef::Name("#port".into());
    town.wish(1, Intent::CreateChannel { name: "#port".parse().unwrap(), topic: String::new() }).unwrap();
    for at in [0, 3] {
        town.wish(at, Intent::JoinChannel { channel: port(), create: false }).unwrap();
    }
    let harbour = town.nodes[0].directory.find(&port()).unwrap();
    town.issue(0, "gold", 10);
    let fish = Wish::IssueToken { name: "fish".into(), quantity: 10 };
    town.wish(1, Intent::Market { channel: port(), wish: fish }).unwrap();
    let terms = || Terms { lasts_ms: 60_000, ..Terms::default() };
    let (gold, fish) = (|| amount(("gold", 4)), || amount(("fish", 3)));
    let buys = Wish::Swap { gives: gold(), wants: fish(), wants_in: Some(port()), terms: terms() };
    let sells = Wish::Swap { gives: fish(), wants: gold(), wants_in: Some(fair()), terms: terms() };
    town.market(0, buys).unwrap();
    assert_eq!(town.solve(3), None);
    town.wish(1, Intent::Market { channel: port(), wish: sells }).unwrap();
    let both =
        |town: &Town, at: usize| [town.id(), harbour].map(|id| town.nodes[at].market_of(&id).intents.len());
    assert_eq!(both(&town, 2), [2, 2], "each is told of in both channels");
    // Who is in one of the channels only settles nothing, and puts nothing into either.
    let before = town.logs[2].len();
    let refused = town.wish(2, Intent::Solve { channel: Some(fair()) });
    assert_eq!(refused.unwrap_err(), Refusal::NotAMember);
    assert_eq!(town.logs[2].len(), before);
    assert!(town.solve(3).is_some());
    let owned = |town: &Town| {
        let gold = [0, 1].map(|who| town.owns(who, "gold"));
        (gold, [0, 1].map(|who| town.owns_in(&harbour, who, "fish")))
    };
    assert_eq!(owned(&town), ([6, 4], [3, 7]));
    assert_eq!(both(&town, 2), [0, 0]);
    town.agree();
    (0..4).for_each(|at| town.restart(at));
    assert_eq!(owned(&town), ([6, 4], [3, 7]));
    town.agree();
}

#[test]
fn what_waits_outlives_its_node_and_is_forgotten_once_it_is_settled_or_expires() {
    let mut town = Town::new(3);
    town.issue(0, "gold", 10);
    town.issue(1, "silver", 10);
    town.sides(&[0, 1, 1]);
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    for _ in 0..2 {
        town.restart(0);
        assert_eq!(town.waiting(0), 1);
        assert!(town.nodes[0].market_of(&town.id()).intents[0].is_ours);
    }
    // Nobody else heard of it before, and they hear of it from its author's node.
    assert_eq!((town.waiting(1), town.waiting(2)), (0, 0));
    town.sides(&[0, 0, 0]);
    assert_eq!((town.waiting(1), town.waiting(2)), (1, 1));
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    assert!(town.solve(2).is_some());
    town.agree();
    town.swap(0, ("gold", 1), ("silver", 1)).unwrap();
    town.restart(0);
    assert_eq!((town.waiting(0), town.owns(0, "silver")), (1, 3), "the one that was settled does not return");
    town.now = town.now.plus_ms(120_000);
    town.feed(0, Input::Timeout);
    town.solve(0);
    assert_eq!((town.waiting(0), town.rest[0].intents.len()), (0, 0), "nor the one that expired");
}

#[test]
fn tokens_buy_a_ticket_and_the_ticket_lets_its_owner_in() {
    let mut town = Town::new(3);
    town.wish(0, Intent::UpdateChannel { channel: fair(), change: Change::Join(JoinRule::Ticket) }).unwrap();
    town.issue(1, "gold", 20);
    let price = Some(amount(("gold", 5)));
    town.market(0, Wish::IssueTicket { name: "pass".into(), uses: 2, lasts_ms: 1_000_000, price }).unwrap();
    assert_eq!(
        town.swap(0, ("pass", 1), ("gold", 4)).unwrap_err(),
        Refusal::NotPermitted("sell a ticket below its price")
    );
    town.swap(0, ("pass", 1), ("gold", 5)).unwrap();
    town.swap(1, ("gold", 5), ("pass", 1)).unwrap();
    assert!(town.solve(2).is_some());
    assert_eq!((town.owns(0, "gold"), town.owns(1, "pass"), town.owns(0, "pass")), (5, 1, 1));
    let guest = town.nodes[2].people.remembered("guest").identity;
    let to = Subject::Identity(guest);
    let join = |town: &mut Town| {
        let profile = Profile { username: "guest".into(), ..Profile::default() };
        let actor = Actor::Person { account: "guest".into(), profile };
        let intent = Intent::JoinChannel { channel: fair(), create: false };
        let submission = Submission { actor, intent, via: None, join_first: false, tag: 0 };
        let input = Input::Submit { ticket: 1, submission: Box::new(submission), known: None };
        let answer = town.feed(2, input).unwrap();
        town.run();
        answer
    };
    assert_eq!(join(&mut town), Err(Refusal::NotInvited));
    town.market(1, Wish::Give { what: amount(("pass", 1)), to }).unwrap();
    join(&mut town).unwrap();
    let is_in = |node: &Node| node.directory.get(&town.id()).unwrap().replica.state().is_member(&guest);
    assert!(town.nodes.iter().all(is_in));
    assert_eq!(town.owns(1, "pass"), 0);
    town.agree();
}

#[test]
fn competing_solvers_on_both_sides_of_a_partition_settle_an_intent_once() {
    let mut town = Town::new(5);
    for (at, name) in ["gold", "silver", "tin"].into_iter().enumerate() {
        town.issue(at, name, 10);
    }
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    // Each half of the town finds somebody else to give silver for the gold.
    town.market(1, Wish::Give { what: amount(("silver", 5)), to: Subject::Identity(town.identity(2)) })
        .unwrap();
    town.sides(&[0, 0, 1, 0, 1]);
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    town.swap(2, ("silver", 3), ("gold", 4)).unwrap();
    assert!(town.solve(3).is_some());
    assert!(town.solve(4).is_some());
    town.sides(&[0; 5]);
    town.agree();
    assert_eq!(town.owns(0, "silver"), 3, "once");
    assert_eq!((town.owns(1, "gold"), town.owns(2, "gold")).0 + town.owns(2, "gold"), 4);
    for at in 0..5 {
        assert_eq!(town.settlements(at), (2, 1));
    }
    // Who lost kept what they offered, all of it.
    let silver = [0, 1, 2].map(|who| town.owns(who, "silver"));
    assert_eq!(silver.iter().sum::<u128>(), 10);
    assert!([5, 2].contains(&silver[1]) && [5, 2].contains(&silver[2]));
}

#[test]
fn solvers_that_find_the_same_at_the_same_time_settle_it_once() {
    let mut town = Town::new(4);
    town.issue(0, "gold", 10);
    town.issue(1, "silver", 10);
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    for at in 0..4 {
        town.wish_quietly(at, Intent::Solve { channel: None }).unwrap();
    }
    town.run();
    town.agree();
    assert_eq!((town.owns(0, "silver"), town.owns(1, "gold")), (3, 4));
    assert_eq!(town.settlements(2), (4, 1));
}

/// Attack: a solver signs and sends a part of a deal, an altered one, and one that was never agreed to.
#[test]
fn a_byzantine_solver_settles_nothing() {
    let mut town = Town::new(3);
    town.issue(0, "gold", 10);
    town.issue(1, "silver", 10);
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    let id = town.id();
    let intents: Vec<crate::machine::intent::Intent> =
        town.nodes[2].intents.offers().into_iter().map(|offer| offer.intent).collect();
    assert_eq!(intents.len(), 2);
    let mut altered = intents.clone();
    altered[0].transaction.actions[0].created[0].resource.quantity += 1;
    let mut redirected = intents.clone();
    redirected[1].author = town.identity(2);
    let mut unchecked = intents.clone();
    unchecked[0].constraints.expires = Timestamp(u64::MAX);
    let solver = town.nodes[2].people.remembered(&account(2));
    for bad in [vec![intents[0].clone()], altered, redirected, unchecked, Vec::new()] {
        let act = Act::Settle { settlement: Settlement::of(bad), depth: None };
        let replica = &town.nodes[2].directory.get(&id).unwrap().replica;
        let lane = replica.live_lane(&solver.device.public());
        let header = replica.draft(solver.device.public(), lane, town.now, act);
        let event = Event::sign(header, &solver.device);
        let parcels = vec![Parcel { event: Event::decode(&event.encode()).unwrap(), payload: None }];
        let from = town.nodes[2].id();
        let before = town.nodes[0].events();
        for at in [0, 1] {
            let packet = Packet::Events { parcels: parcels.clone(), more: false };
            town.feed(at, Input::Packet { from, packet });
        }
        assert_eq!(town.nodes[0].events(), before, "none of it became part of the channel");
    }
    assert_eq!((town.owns(0, "gold"), town.owns(1, "silver")), (10, 10));
    let refused = town.nodes[0].refused();
    assert_eq!(refused["invalid_transaction"] + refused["malformed_event"], 5, "{refused:?}");
    // The honest deal goes through all the same.
    assert!(town.solve(1).is_some());
    assert_eq!((town.owns(0, "silver"), town.owns(1, "gold")), (3, 4));
}

#[test]
fn intents_that_are_unsound_expired_or_too_many_do_not_stay() {
    let mut town = Town::new(2);
    town.issue(0, "gold", 100);
    town.issue(1, "silver", 10);
    town.swap(0, ("gold", 4), ("silver", 3)).unwrap();
    let mut offers = town.nodes[0].intents.offers();
    let honest = offers[0].clone();
    offers[0].intent.constraints.expires = Timestamp(u64::MAX);
    offers.push(Offer { channel: ChannelId([9; 32]), ..honest.clone() });
    let from = town.nodes[0].id();
    town.feed(1, Input::Packet { from, packet: Packet::Intents(offers) });
    let refused = town.nodes[1].refused();
    assert_eq!((refused["intent_out_of_time"], refused["intent_of_unknown_channel"]), (1, 1));
    let mut forged = honest.clone();
    forged.intent.constraints.expires = Timestamp(honest.intent.constraints.expires.0 - 1);
    town.feed(1, Input::Packet { from, packet: Packet::Intents(vec![forged]) });
    assert_eq!(town.nodes[1].refused()["intent_unsound"], 1);
    assert_eq!((town.waiting(0), town.waiting(1)), (1, 1));
    // What is offered already is not offered again.
    assert!(town.swap(0, ("gold", 97), ("silver", 3)).is_err());
    // After its time it is forgotten everywhere.
    town.now = town.now.plus_ms(60_001);
    assert_eq!(town.solve(1), None);
    town.feed(0, Input::Timeout);
    assert_eq!((town.waiting(0), town.waiting(1)), (0, 0));
    // One author fills no pool.
    for _ in 0..40 {
        town.issue(0, "tin", 1);
    }
    let offered = (0..40).filter(|_| town.swap(0, ("tin", 1), ("silver", 1)).is_ok()).count();
    assert_eq!(offered, limits::POOLED_INTENTS_OF_ONE);
    assert_eq!(town.waiting(1), limits::POOLED_INTENTS_OF_ONE);
}

#[test]
fn an_intent_that_no_packet_carried_is_told_again() {
    let mut town = Town::new(3);
    town.issue(0, "gold", 10);
    town.issue(1, "silver", 10);
    town.wish_quietly(
        0,
        Intent::Market {
            channel: fair(),
            wish: Wish::Swap {
                gives: amount(("gold", 4)),
                wants: amount(("silver", 3)),
                wants_in: None,
                terms: Terms { lasts_ms: 600_000, ..Terms::default() },
            },
        },
    )
    .unwrap();
    town.wire.clear();
    assert_eq!(town.waiting(1), 0);
    town.now = town.now.plus_ms(limits::SUMMARY_INTERVAL_MS);
    town.feed(0, Input::Timeout);
    town.run();
    assert_eq!((town.waiting(1), town.waiting(2)), (1, 1));
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    assert!(town.solve(2).is_some());
    town.agree();
}

#[test]
fn who_names_with_whom_is_dealt_with_by_nobody_else() {
    let mut town = Town::new(4);
    town.issue(0, "gold", 10);
    town.issue(1, "silver", 10);
    town.market(1, Wish::Give { what: amount(("silver", 5)), to: Subject::Identity(town.identity(2)) })
        .unwrap();
    let only = vec![Subject::Name(account(2)), Subject::Name(account(3))];
    let terms = Terms { lasts_ms: 60_000, only, prefer: Vec::new() };
    let wish = Wish::Swap { gives: amount(("gold", 4)), wants: amount(("silver", 3)), wants_in: None, terms };
    town.market(0, wish).unwrap();
    town.swap(1, ("silver", 3), ("gold", 4)).unwrap();
    assert_eq!(town.solve(3), None, "not with this one");
    town.swap(2, ("silver", 3), ("gold", 4)).unwrap();
    assert_eq!(town.solve(1), None, "nor by this one");
    assert!(town.solve(3).is_some());
    assert_eq!((town.owns(1, "gold"), town.owns(2, "gold")), (0, 4));
}

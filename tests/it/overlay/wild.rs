//! A small wild network for property tests: no geography and no mercy. Frames are lost, late and out of
//! order; links break; for a while the network is in two parts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::test_runner::TestCaseError;

use super::{
    Arc, Chance, Contact, Frame, Input, Mesh, Message, Output, Payload, Selection, Structured, Timestamp,
    Topology, Tree, contact, tree,
};
use multichat::overlay::topology::MessageId;
use multichat::overlay::topology::gossip::Gossip;

const NODES: u8 = 12;
const PAYLOADS: usize = 12;
/// Loss and the partition end here; the rest is for healing.
const CALM_MS: u64 = 40_000;
const END_MS: u64 = 110_000;

enum Event {
    Input(u8, Input),
    Dialled(u8, u8),
    Break,
}

struct Wild {
    nodes: Vec<Box<dyn Topology>>,
    links: BTreeSet<(u8, u8)>,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    now: u64,
    chance: Chance,
    loss: f64,
    got: BTreeMap<(u8, MessageId), u32>,
}

/// Runs the wild network and checks that everyone got everything once.
pub fn run(
    seed: u64,
    loss: f64,
    make: &dyn Fn(Contact, u8) -> Box<dyn Topology>,
) -> Result<(), TestCaseError> {
    let mut wild = Wild {
        nodes: (0..NODES).map(|n| make(contact(n), n)).collect(),
        links: BTreeSet::new(),
        queue: BTreeMap::new(),
        number: 0,
        now: 0,
        chance: Chance::numbered(seed, 1),
        loss,
        got: BTreeMap::new(),
    };
    for n in 0..NODES {
        wild.at(u64::from(n) * 50, Event::Input(n, Input::Join(vec![contact(0), contact(n / 2)])));
    }
    let mut said = Vec::new();
    for number in 0..PAYLOADS as u64 {
        let by = wild.chance.below(usize::from(NODES)) as u8;
        let length = 16 + wild.chance.below(200);
        let mut bytes = vec![0; length];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let payload = Payload::new(Arc::new(bytes));
        said.push((by, payload.id()));
        let at = 5_000 + wild.chance.below(CALM_MS as usize) as u64;
        wild.at(at, Event::Input(by, Input::Broadcast(payload)));
    }
    for at in [8_000, 15_000, 22_000, 30_000] {
        wild.at(at, Event::Break);
    }
    wild.drive();
    for node in 0..NODES {
        for (by, id) in &said {
            let times = wild.got.get(&(node, *id)).copied().unwrap_or(0);
            let expect = u32::from(node != *by);
            if times != expect {
                return Err(TestCaseError::fail(format!("node {node} got {id:?} of {by} {times} times")));
            }
        }
    }
    Ok(())
}

impl Wild {
    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), event);
    }

    fn drive(&mut self) {
        while self.now < END_MS {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.nodes.iter().filter_map(|node| node.next_timeout()).map(|at| at.0).min();
            let next = [event, timer].into_iter().flatten().min().unwrap_or(END_MS);
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= self.now) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
                continue;
            }
            for n in 0..NODES {
                if self.nodes[usize::from(n)].next_timeout().is_some_and(|at| at.0 <= self.now) {
                    self.input(n, Input::Timeout);
                }
            }
            // What is due and was done may be due again at once; time must pass all the same.
            self.now += 1;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(node, Input::Frame { from, frame }) => {
                if self.links.contains(&(from.0[31], node)) {
                    self.input(node, Input::Frame { from, frame });
                }
            }
            Event::Input(node, input) => self.input(node, input),
            Event::Dialled(from, to) if self.parted(from, to) => {
                self.input(from, Input::DialFailed(contact(to).node));
            }
            Event::Dialled(from, to) => {
                let new = self.links.insert((from, to));
                self.links.insert((to, from));
                if new {
                    self.input(to, Input::LinkUp(contact(from).node));
                }
                self.input(from, Input::LinkUp(contact(to).node));
            }
            Event::Break => {
                let links: Vec<(u8, u8)> = self.links.iter().copied().collect();
                for (a, b) in self.chance.sample(&links, 4) {
                    self.down(a, b);
                }
            }
        }
    }

    fn parted(&self, a: u8, b: u8) -> bool {
        (15_000..CALM_MS).contains(&self.now) && a.is_multiple_of(2) != b.is_multiple_of(2)
    }

    fn down(&mut self, a: u8, b: u8) {
        if self.links.remove(&(a, b)) {
            self.links.remove(&(b, a));
            self.input(a, Input::LinkDown(contact(b).node));
            self.input(b, Input::LinkDown(contact(a).node));
        }
    }

    fn input(&mut self, node: u8, input: Input) {
        for output in self.nodes[usize::from(node)].handle(Timestamp(self.now), input) {
            match output {
                Output::Send { to, frame } => self.send(node, to.0[31], &frame),
                Output::Dial(to) => {
                    let at = self.now + 20 + self.chance.below(100) as u64;
                    self.at(at, Event::Dialled(node, to.node.0[31]));
                }
                Output::Hang(to) => self.down(node, to.0[31]),
                Output::Deliver { payload, .. } => *self.got.entry((node, payload.id())).or_default() += 1,
            }
        }
    }

    fn send(&mut self, from: u8, to: u8, frame: &Frame) {
        let rough = self.now < CALM_MS;
        if (rough && self.chance.happens(self.loss)) || self.parted(from, to) {
            return;
        }
        // Through its bytes, as on a real wire.
        let frame = Frame::decode(&frame.encode()).expect("what is sent can be read");
        let at = self.now + 5 + self.chance.below(150) as u64;
        self.at(at, Event::Input(to, Input::Frame { from: contact(from).node, frame }));
    }
}

/// Random messages, links and times.
pub fn bear_nonsense(seed: u64, kind: u8) {
    let mut chance = Chance::numbered(seed, 2);
    let own = contact(0);
    let key = [3; 32];
    let mut topology: Box<dyn Topology> = match kind {
        0 => Box::new(Mesh::new(own, Selection::default(), key, Timestamp(0))),
        1 => Box::new(Tree::new(own, tree::Settings::default(), key, Timestamp(0))),
        2 => Box::new(Gossip::new(own, key, Timestamp(0))),
        _ => Box::new(Structured::new(own, vec![key], key, Timestamp(0))),
    };
    let mut now = 0;
    for _ in 0..400 {
        now += chance.below(3_000) as u64;
        let peer = contact(1 + chance.below(200) as u8).node;
        let input = match chance.below(8) {
            0 => Input::LinkUp(peer),
            1 => Input::LinkDown(peer),
            2 => Input::DialFailed(peer),
            3 => Input::Timeout,
            _ => Input::Frame { from: peer, frame: Frame((0..3).map(|_| message(&mut chance)).collect()) },
        };
        topology.handle(Timestamp(now), input);
        assert!(topology.neighbours().len() <= 300 && topology.known().len() <= 2_500);
    }
}

fn message(chance: &mut Chance) -> Message {
    let someone = contact(chance.below(250) as u8);
    let id = MessageId([chance.below(4) as u8; 16]);
    let key = [chance.below(5) as u8; 32];
    let payload = Payload::new(Arc::new(vec![chance.below(6) as u8; 20]));
    let (hops, nonce) = (chance.below(256) as u8, chance.below(4) as u32);
    match chance.below(19) {
        0 => Message::Payload { hops, payload },
        1 => Message::IHave(vec![(id, hops), (MessageId([hops; 16]), 0)]),
        2 => Message::IWant(vec![payload.id(), id]),
        3 => Message::Graft(Some(id)),
        4 => Message::Graft(None),
        5 => Message::Prune,
        6 => Message::Fingerprint([[hops; 8]; 16]),
        7 => Message::Recent { buckets: u16::MAX, ids: vec![(id, hops); 3], reply: hops > 9 },
        8 => Message::Join(someone),
        9 => Message::ForwardJoin { newcomer: someone, ttl: hops },
        10 => Message::Neighbour { contact: someone, high: hops > 99 },
        11 => Message::Accept,
        12 => Message::Disconnect,
        13 => Message::Shuffle { nonce, ttl: hops, contacts: vec![someone; 3] },
        14 => Message::ShuffleReply { nonce, contacts: vec![someone] },
        15 => Message::Nodes { nonce, contacts: vec![someone] },
        16 => Message::Subscribe { key },
        17 => Message::Ascend { key, hops, payload },
        _ => Message::Descend { key, hops, payload },
    }
}

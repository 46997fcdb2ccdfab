//! `gossip`: after gossipsub v1.1 (libp2p specs, `gossipsub-v1.1.md`), for hostile and open domains, and as
//! the baseline that the simulator compares with. On libp2p itself the real gossipsub runs
//! (`net`); this one exists so that both kinds run under the same virtual time.
//!
//! Links with some twenty members; a mesh of `D` of them on which payloads are pushed; ids of late payloads
//! to some of the others at every heartbeat; scores for first deliveries, broken promises and silence.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::Cache;
use super::outbox::Outbox;
use super::{Contact, Input, Message, MessageId, Output, Payload, Topology, repair};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;

/// Mesh degree: wanted, least, most (`D`, `D_low`, `D_high`), and peers that get ids (`D_lazy`).
const D: usize = 6;
const D_LOW: usize = 5;
const D_HIGH: usize = 12;
const D_LAZY: usize = 6;
/// Links that a member keeps.
const LINKS: usize = 20;
/// Links that a member takes; a further one is closed.
const LINKS_MOST: usize = 40;
/// Contacts known besides.
const KNOWN: usize = 60;
const HEARTBEAT_MS: u64 = 1_000;
/// Heartbeats whose ids are told (`mcache_gossip`), in ms.
const GOSSIP_MS: u64 = 3_000;
/// How long an answer to IWANT may take.
const PROMISE_MS: u64 = 3_000;
/// Not grafted again for so long after a prune.
const BACKOFF_MS: u64 = 60_000;
/// Own payloads go to every link with a score above this (flood publishing).
const PUBLISH_SCORE: f64 = -50.0;
/// Below this a peer is pruned; below twice this it is let go.
const PRUNE_SCORE: f64 = -5.0;
/// Requests under way at the most.
const PROMISES: usize = 4_096;

/// One member of a gossip domain.
pub struct Gossip {
    own: Contact,
    chance: Chance,
    links: BTreeMap<NodeId, Link>,
    known: BTreeMap<NodeId, Contact>,
    dialling: BTreeSet<NodeId>,
    backoff: BTreeMap<NodeId, Timestamp>,
    promises: BTreeMap<MessageId, (NodeId, Timestamp)>,
    late: Vec<(Timestamp, MessageId)>,
    cache: Cache,
    outbox: Outbox,
    heartbeat_at: Timestamp,
}

#[derive(Clone, Copy, Default)]
struct Link {
    mesh: bool,
    /// P2: payloads that it was first to bring, decaying.
    firsts: f64,
    /// P3: payloads that came while it was in the mesh, and those of them that it told, decaying.
    passed: f64,
    told: f64,
    /// P7: promises broken, decaying.
    broken: f64,
}

impl Link {
    fn score(&self) -> f64 {
        let deficit = if self.passed > 10.0 { (self.passed * 0.3 - self.told).max(0.0) } else { 0.0 };
        self.firsts.min(100.0) * 0.5 - deficit * 2.0 - self.broken * self.broken * 2.0
    }

    fn decay(&mut self) {
        for counter in [&mut self.firsts, &mut self.passed, &mut self.told, &mut self.broken] {
            *counter *= 0.97;
        }
    }
}

impl Gossip {
    /// A member that knows nobody yet.
    pub fn new(own: Contact, seed: [u8; 32], now: Timestamp) -> Self {
        let mut chance = Chance::new(seed);
        let heartbeat_at = now.plus_ms(chance.about(HEARTBEAT_MS));
        Self {
            own,
            chance,
            links: BTreeMap::new(),
            known: BTreeMap::new(),
            dialling: BTreeSet::new(),
            backoff: BTreeMap::new(),
            promises: BTreeMap::new(),
            late: Vec::new(),
            cache: Cache::default(),
            outbox: Outbox::default(),
            heartbeat_at,
        }
    }

    fn learn(&mut self, contact: Contact) {
        if contact.node != self.own.node && self.known.len() < KNOWN {
            self.known.entry(contact.node).or_insert(contact);
        }
    }

    fn mesh(&self) -> Vec<NodeId> {
        self.links.iter().filter(|(_, link)| link.mesh).map(|(node, _)| *node).collect()
    }

    fn on_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        match message {
            Message::Payload { hops, payload } => self.on_payload(now, from, hops, payload),
            Message::IHave(ids) => {
                let lacking: Vec<MessageId> = ids
                    .iter()
                    .map(|(id, _)| *id)
                    .filter(|id| !self.cache.has(id) && !self.promises.contains_key(id))
                    .collect();
                if let Some(link) = self.links.get_mut(&from) {
                    link.told += lacking.len() as f64;
                }
                if !lacking.is_empty() && self.promises.len() < PROMISES {
                    for id in &lacking {
                        self.promises.insert(*id, (from, now.plus_ms(PROMISE_MS)));
                    }
                    self.outbox.now(from, Message::IWant(lacking));
                }
            }
            Message::IWant(ids) => repair::on_want(&self.cache, from, &ids, &mut self.outbox),
            Message::Graft(_) => self.on_graft(now, from),
            Message::Prune => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.mesh = false;
                }
                self.backoff.insert(from, now.plus_ms(BACKOFF_MS));
            }
            Message::Join(contact) if contact.node == from => {
                self.learn(contact);
                let all: Vec<Contact> = self.known.values().cloned().collect();
                let contacts = self.chance.sample(&all, 16);
                self.outbox.now(from, Message::Nodes { nonce: 0, contacts });
            }
            Message::Nodes { contacts, .. } => contacts.into_iter().for_each(|contact| self.learn(contact)),
            _ => {}
        }
    }

    fn on_payload(&mut self, now: Timestamp, from: NodeId, hops: u8, payload: Payload) {
        let id = payload.id();
        self.promises.remove(&id);
        let new = self.cache.insert(now, &payload, hops);
        if let Some(link) = self.links.get_mut(&from) {
            link.told += 1.0;
            link.firsts += f64::from(u8::from(new));
        }
        if !new {
            return;
        }
        self.late.push((now, id));
        for (node, link) in &mut self.links {
            if link.mesh {
                link.passed += 1.0;
                if *node != from {
                    let message = Message::Payload { hops: hops.saturating_add(1), payload: payload.clone() };
                    self.outbox.now(*node, message);
                    // What we sent first it need not send back.
                    link.told += 0.5;
                }
            }
        }
        self.outbox.deliver(from, hops, payload);
    }

    fn on_graft(&mut self, now: Timestamp, from: NodeId) {
        let mesh = self.mesh().len();
        let backing_off = self.backoff.get(&from).is_some_and(|until| *until > now);
        let Some(link) = self.links.get_mut(&from) else { return };
        if link.score() < 0.0 || mesh >= D_HIGH || backing_off {
            link.mesh = false;
            self.outbox.now(from, Message::Prune);
        } else {
            link.mesh = true;
        }
    }

    fn heartbeat(&mut self, now: Timestamp) {
        self.backoff.retain(|_, until| *until > now);
        self.late.retain(|(at, _)| now.since_ms(*at) < GOSSIP_MS);
        let broken: Vec<(MessageId, NodeId)> = self
            .promises
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(id, (node, _))| (*id, *node))
            .collect();
        for (id, node) in broken {
            self.promises.remove(&id);
            if let Some(link) = self.links.get_mut(&node) {
                link.broken += 1.0;
            }
        }
        self.links.values_mut().for_each(Link::decay);
        self.tend_links();
        self.tend_mesh(now);
        self.gossip();
    }

    fn tend_links(&mut self) {
        let bad: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(_, link)| link.score() < PRUNE_SCORE * 2.0)
            .map(|(node, _)| *node)
            .collect();
        for node in bad {
            self.known.remove(&node);
            self.outbox.hang(node);
            self.links.remove(&node);
        }
        let free = LINKS.saturating_sub(self.links.len() + self.dialling.len());
        let others: Vec<Contact> = self
            .known
            .values()
            .filter(|contact| {
                !self.links.contains_key(&contact.node) && !self.dialling.contains(&contact.node)
            })
            .cloned()
            .collect();
        for contact in self.chance.sample(&others, free) {
            self.dialling.insert(contact.node);
            self.outbox.dial(contact);
        }
    }

    fn tend_mesh(&mut self, now: Timestamp) {
        for node in self.mesh() {
            if let Some(link) = self.links.get_mut(&node).filter(|link| link.score() < PRUNE_SCORE) {
                link.mesh = false;
                self.outbox.now(node, Message::Prune);
                self.backoff.insert(node, now.plus_ms(BACKOFF_MS));
            }
        }
        let mesh = self.mesh();
        if mesh.len() < D_LOW {
            let fit: Vec<NodeId> = self
                .links
                .iter()
                .filter(|(node, link)| !link.mesh && link.score() >= 0.0 && !self.backoff.contains_key(*node))
                .map(|(node, _)| *node)
                .collect();
            for node in self.chance.sample(&fit, D - mesh.len()) {
                if let Some(link) = self.links.get_mut(&node) {
                    link.mesh = true;
                }
                self.outbox.now(node, Message::Graft(None));
            }
        } else if mesh.len() > D_HIGH {
            for node in self.chance.sample(&mesh, mesh.len() - D) {
                if let Some(link) = self.links.get_mut(&node) {
                    link.mesh = false;
                }
                self.outbox.now(node, Message::Prune);
                self.backoff.insert(node, now.plus_ms(BACKOFF_MS));
            }
        }
    }

    fn gossip(&mut self) {
        let ids: Vec<(MessageId, u8)> = self.late.iter().map(|(_, id)| (*id, 0)).collect();
        if ids.is_empty() {
            return;
        }
        let others: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(_, link)| !link.mesh && link.score() > PRUNE_SCORE)
            .map(|(node, _)| *node)
            .collect();
        for node in self.chance.sample(&others, D_LAZY.max(others.len() / 4)) {
            let newest = ids.iter().rev().take(super::frame::IDS).copied().collect();
            self.outbox.now(node, Message::IHave(newest));
        }
    }
}

impl Topology for Gossip {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Join(contacts) => contacts.into_iter().for_each(|contact| self.learn(contact)),
            Input::Broadcast(payload) => {
                if self.cache.insert(now, &payload, 0) {
                    self.late.push((now, payload.id()));
                    for (node, link) in &self.links {
                        if link.score() > PUBLISH_SCORE {
                            let message = Message::Payload { hops: 1, payload: payload.clone() };
                            self.outbox.now(*node, message);
                        }
                    }
                }
            }
            Input::Frame { from, frame } if self.links.contains_key(&from) => {
                frame.0.into_iter().for_each(|message| self.on_message(now, from, message));
            }
            Input::LinkUp(node) => {
                let dialled = self.dialling.remove(&node);
                if self.links.contains_key(&node) {
                } else if self.links.len() >= LINKS_MOST {
                    self.outbox.hang(node);
                } else {
                    self.links.insert(node, Link::default());
                    if dialled {
                        self.outbox.now(node, Message::Join(self.own.clone()));
                    }
                }
            }
            Input::LinkDown(node) => {
                self.links.remove(&node);
                self.outbox.forget(&node);
            }
            Input::DialFailed(node) => {
                self.dialling.remove(&node);
                self.known.remove(&node);
            }
            Input::Frame { .. } | Input::Timeout => {}
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now.plus_ms(HEARTBEAT_MS);
            self.heartbeat(now);
        }
        self.outbox.finish(now)
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        [Some(self.heartbeat_at), self.outbox.next_timeout()].into_iter().flatten().min()
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.mesh()
    }

    fn known(&self) -> Vec<Contact> {
        self.known.values().cloned().collect()
    }

    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output> {
        self.known.remove(&node);
        if self.links.remove(&node).is_some() {
            self.outbox.hang(node);
        }
        self.outbox.finish(now)
    }

    fn has(&self, id: &MessageId) -> bool {
        self.cache.has(id)
    }

    fn payload(&self, id: &MessageId) -> Option<Payload> {
        self.cache.get(id).map(|(payload, _)| payload)
    }

    fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId> {
        self.cache.settled(now, age_ms)
    }
}

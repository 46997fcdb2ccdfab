//! `structured`: Kademlia routing (Maymounkov, Mazières, IPTPS 2002) with a rendezvous per channel, in the
//! manner of Scribe (Castro et al., JSAC 2002). For very many channels: a member spends nothing on those
//! that it did not subscribe to, except what it passes on for others.
//!
//! A channel's key has [`ROOTS`] roots: the members nearest to the key salted with 0 and with 1. A
//! subscription climbs towards each root, and each member on its way remembers whom it came from: that is
//! the channel's tree, kept for [`LEASE_MS`] and renewed. A payload climbs to each root and comes down
//! every branch. Two roots, because one could be absent or hostile; ids keep duplicates from the
//! application. What a torn branch lost, anti-entropy between neighbours in the tree brings.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::Cache;
use super::frame::CONTACTS;
use super::outbox::Outbox;
use super::{Contact, Input, Message, MessageId, Output, Payload, Topology, repair};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;

/// Contacts in one bucket (the paper's k, smaller: all of them are kept alive by use).
const K: usize = 8;
/// Questions at a time in one look-up (the paper's α).
const ALPHA: usize = 3;
/// Trees of one channel.
pub const ROOTS: u8 = 2;
/// How long a branch lasts without being renewed.
pub const LEASE_MS: u64 = 30_000;
/// How often subscriptions are renewed.
const RENEW_MS: u64 = 10_000;
/// How often a bucket is refreshed by a look-up.
const REFRESH_MS: u64 = 20_000;
/// How often a neighbour in a tree is asked for what is missing.
const REPAIR_MS: u64 = 5_000;
/// How long an answer in a look-up may take.
const ANSWER_MS: u64 = 3_000;
/// Branches of one tree at one member; a further one is refused, and is tried by another way.
const BRANCHES: usize = 256;
/// Trees that pass through one member; a further one is refused.
const TREES: usize = 4_096;
/// Look-ups under way.
const LOOKUPS: usize = 16;
/// Links kept besides those of trees; the farthest are let go.
const LINKS: usize = 64;
/// Messages waiting for a link to one node.
const WAITING: usize = 64;

type Key = [u8; 32];

/// One member of a structured domain.
pub struct Structured {
    own: Contact,
    chance: Chance,
    channels: BTreeSet<Key>,
    table: BTreeMap<u16, Vec<Contact>>,
    /// Where the domain was entered: asked again while few others are known.
    entrances: Vec<Contact>,
    links: BTreeSet<NodeId>,
    dialling: BTreeMap<NodeId, Vec<Message>>,
    trees: BTreeMap<Key, Tree>,
    lookups: BTreeMap<u32, Lookup>,
    cache: Cache,
    outbox: Outbox,
    renew_at: Timestamp,
    refresh_at: Timestamp,
    repair_at: Timestamp,
}

/// A channel's tree as it passes through here.
#[derive(Default)]
struct Tree {
    parent: Option<NodeId>,
    branches: BTreeMap<NodeId, Timestamp>,
    own: bool,
    gone_down: BTreeSet<MessageId>,
}

struct Lookup {
    target: Key,
    asked: BTreeSet<NodeId>,
    waiting: usize,
    until: Timestamp,
}

impl Structured {
    /// A member that knows nobody yet and subscribes to these channels.
    pub fn new(own: Contact, channels: Vec<Key>, seed: [u8; 32], now: Timestamp) -> Self {
        let mut chance = Chance::new(seed);
        let (renew, refresh, repair) =
            (chance.about(2_000), chance.about(REFRESH_MS), chance.about(REPAIR_MS));
        Self {
            own,
            chance,
            channels: channels.into_iter().collect(),
            table: BTreeMap::new(),
            entrances: Vec::new(),
            links: BTreeSet::new(),
            dialling: BTreeMap::new(),
            trees: BTreeMap::new(),
            lookups: BTreeMap::new(),
            cache: Cache::default(),
            outbox: Outbox::default(),
            renew_at: now.plus_ms(renew),
            refresh_at: now.plus_ms(refresh),
            repair_at: now.plus_ms(repair),
        }
    }

    /// The keys of a channel's roots.
    pub fn roots(channel: &Key) -> Vec<Key> {
        let root = |salt: u8| {
            let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 rendezvous");
            hasher.update(channel);
            hasher.update(&[salt]);
            *hasher.finalize().as_bytes()
        };
        (0..ROOTS).map(root).collect()
    }

    fn learn(&mut self, contact: Contact) {
        if contact.node == self.own.node {
            return;
        }
        let bucket = self.table.entry(prefix(&self.own.node.0, &contact.node.0)).or_default();
        if let Some(known) = bucket.iter_mut().find(|known| known.node == contact.node) {
            *known = contact;
        } else if bucket.len() < K {
            bucket.push(contact);
        } else if let Some(at) = bucket.iter().position(|known| !self.links.contains(&known.node)) {
            // The paper keeps the oldest while they answer: here, while there is a link with them.
            if self.chance.happens(0.1) {
                bucket[at] = contact;
            }
        }
    }

    fn forget(&mut self, node: &NodeId) {
        if let Some(bucket) = self.table.get_mut(&prefix(&self.own.node.0, &node.0)) {
            bucket.retain(|known| known.node != *node);
        }
    }

    fn nearest(&self, target: &Key, count: usize) -> Vec<Contact> {
        let mut all: Vec<&Contact> = self.table.values().flatten().collect();
        all.sort_by_key(|contact| distance(&contact.node.0, target));
        all.into_iter().take(count).cloned().collect()
    }

    /// The contact nearest to a key, if one is nearer than this node.
    fn next_hop(&self, key: &Key, except: Option<NodeId>) -> Option<Contact> {
        let here = distance(&self.own.node.0, key);
        let nearer = self
            .table
            .values()
            .flatten()
            .filter(|contact| Some(contact.node) != except && distance(&contact.node.0, key) < here);
        nearer.min_by_key(|contact| distance(&contact.node.0, key)).cloned()
    }

    /// Says something to a node, over a link that may have to be made first.
    fn say(&mut self, to: Contact, message: Message) {
        if self.links.contains(&to.node) {
            return self.outbox.now(to.node, message);
        }
        if let Some(waiting) = self.dialling.get_mut(&to.node) {
            if waiting.len() < WAITING {
                waiting.push(message);
            }
            return;
        }
        self.dialling.insert(to.node, vec![message]);
        self.outbox.dial(to);
    }

    fn look_up(&mut self, now: Timestamp, target: Key) {
        if self.lookups.len() >= LOOKUPS {
            return;
        }
        let nonce = self.chance.bits() as u32;
        let lookup = Lookup { target, asked: BTreeSet::new(), waiting: 0, until: now.plus_ms(ANSWER_MS * 4) };
        self.lookups.insert(nonce, lookup);
        self.ask_on(now, nonce);
    }

    fn ask_on(&mut self, now: Timestamp, nonce: u32) {
        let Some((target, asked, waiting)) =
            self.lookups.get(&nonce).map(|lookup| (lookup.target, lookup.asked.clone(), lookup.waiting))
        else {
            return;
        };
        let near: Vec<Contact> =
            self.nearest(&target, K).into_iter().filter(|contact| !asked.contains(&contact.node)).collect();
        let ask: Vec<Contact> = near.into_iter().take(ALPHA.saturating_sub(waiting)).collect();
        if ask.is_empty() && waiting == 0 {
            self.lookups.remove(&nonce);
            return;
        }
        if let Some(lookup) = self.lookups.get_mut(&nonce) {
            lookup.until = now.plus_ms(ANSWER_MS);
            lookup.waiting += ask.len();
            lookup.asked.extend(ask.iter().map(|contact| contact.node));
        }
        for contact in ask {
            self.say(contact, Message::Find { nonce, target });
        }
    }

    /// Sends the subscriptions up again, also those that only pass through here.
    fn renew(&mut self, now: Timestamp) {
        for channel in self.channels.clone() {
            for key in Self::roots(&channel) {
                if self.trees.len() < TREES || self.trees.contains_key(&key) {
                    self.trees.entry(key).or_default().own = true;
                }
            }
        }
        for tree in self.trees.values_mut() {
            tree.branches.retain(|_, until| *until > now);
            tree.gone_down.retain(|id| self.cache.has(id));
        }
        self.trees.retain(|_, tree| tree.own || !tree.branches.is_empty());
        for key in self.trees.keys().copied().collect::<Vec<_>>() {
            self.climb(key);
        }
    }

    fn climb(&mut self, key: Key) {
        let next = self.next_hop(&key, None);
        if let Some(tree) = self.trees.get_mut(&key) {
            tree.parent = next.as_ref().map(|contact| contact.node);
        }
        if let Some(next) = next {
            self.say(next, Message::Subscribe { key });
        }
    }

    fn on_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        match message {
            Message::Join(contact) if contact.node == from => self.learn(contact),
            Message::Find { nonce, target } => {
                let contacts = self.nearest(&target, K.min(CONTACTS));
                self.outbox.now(from, Message::Nodes { nonce, contacts });
            }
            Message::Nodes { nonce, contacts } => {
                let Some(lookup) = self.lookups.get_mut(&nonce) else { return };
                lookup.waiting = lookup.waiting.saturating_sub(1);
                contacts.into_iter().for_each(|contact| self.learn(contact));
                self.ask_on(now, nonce);
            }
            Message::Subscribe { key } => self.on_subscribe(now, from, key),
            Message::Ascend { key, hops, payload } => self.ascend(now, from, key, hops, payload),
            Message::Descend { key, hops, payload }
                // From the parent alone, or anyone could send a channel whatever they like unseen.
                if self.trees.get(&key).is_some_and(|tree| tree.parent == Some(from)) => {
                    self.descend(now, from, key, hops, payload);
                }
            Message::Payload { hops, payload } => {
                self.take(now, from, hops, &payload);
                // What anti-entropy brought goes down the branches too.
                for key in self.trees.keys().copied().collect::<Vec<_>>() {
                    self.descend(now, from, key, hops, payload.clone());
                }
            }
            Message::IWant(ids) => repair::on_want(&self.cache, from, &ids, &mut self.outbox),
            Message::Fingerprint(theirs) => {
                repair::on_fingerprint(&self.cache, now, from, theirs, &mut self.outbox);
            }
            Message::Recent { buckets, ids, reply } => {
                repair::on_recent(&mut self.cache, now, from, (buckets, ids, reply), &mut self.outbox);
            }
            _ => {}
        }
    }

    fn on_subscribe(&mut self, now: Timestamp, from: NodeId, key: Key) {
        let new = !self.trees.contains_key(&key);
        if new && self.trees.len() >= TREES {
            return;
        }
        let tree = self.trees.entry(key).or_default();
        if tree.branches.len() < BRANCHES || tree.branches.contains_key(&from) {
            tree.branches.insert(from, now.plus_ms(LEASE_MS));
        }
        if new {
            self.climb(key);
        }
    }

    /// One step up, or round at the top.
    fn ascend(&mut self, now: Timestamp, from: NodeId, key: Key, hops: u8, payload: Payload) {
        // Each step is nearer, so there are no loops; the bound is for liars.
        if hops > 64 {
            return;
        }
        match self.next_hop(&key, Some(from)) {
            Some(next) => {
                let hops = hops.saturating_add(1);
                self.say(next, Message::Ascend { key, hops, payload });
            }
            None => self.descend(now, from, key, hops, payload),
        }
    }

    fn descend(&mut self, now: Timestamp, from: NodeId, key: Key, hops: u8, payload: Payload) {
        self.take(now, from, hops, &payload);
        let Some(tree) = self.trees.get_mut(&key) else { return };
        if !tree.gone_down.insert(payload.id()) {
            return;
        }
        let hops = hops.saturating_add(1);
        for branch in tree.branches.keys().filter(|branch| **branch != from) {
            self.outbox.now(*branch, Message::Descend { key, hops, payload: payload.clone() });
        }
    }

    fn take(&mut self, now: Timestamp, from: NodeId, hops: u8, payload: &Payload) {
        // Its own payloads are in the cache since they were broadcast.
        if self.cache.insert(now, payload, hops) {
            self.outbox.deliver(from, hops, payload.clone());
        }
    }

    /// Neighbours in any tree.
    fn tree_links(&self) -> BTreeSet<NodeId> {
        let trees = self.trees.values();
        trees.flat_map(|tree| tree.parent.iter().chain(tree.branches.keys())).copied().collect()
    }

    fn on_timeout(&mut self, now: Timestamp) {
        if self.renew_at <= now {
            self.renew_at = now.plus_ms(self.chance.about(RENEW_MS));
            self.renew(now);
            self.let_go();
        }
        if self.refresh_at <= now {
            self.refresh_at = now.plus_ms(self.chance.about(REFRESH_MS));
            if self.table.values().map(Vec::len).sum::<usize>() < K {
                self.entrances.clone().into_iter().for_each(|contact| self.learn(contact));
                self.look_up(now, self.own.node.0);
            }
            // By turns a bucket, and one of the roots: who takes itself for a root finds out whether it is.
            let roots: Vec<Key> = self.channels.iter().flat_map(Self::roots).collect();
            let mut target = self.own.node.0;
            let bit = self.chance.below(16);
            target[bit / 8] ^= 0x80 >> (bit % 8);
            if let Some(root) = self.chance.pick(&roots).copied()
                && self.chance.happens(0.5)
            {
                target = root;
            }
            self.look_up(now, target);
        }
        if self.repair_at <= now {
            self.repair_at = now.plus_ms(self.chance.about(REPAIR_MS));
            let in_trees: Vec<NodeId> = self.tree_links().intersection(&self.links).copied().collect();
            let any: Vec<NodeId> = self.links.iter().copied().collect();
            let links = if in_trees.is_empty() || self.chance.happens(0.2) { any } else { in_trees };
            if let Some(peer) = self.chance.pick(&links).copied() {
                repair::ask(&self.cache, now, peer, &mut self.outbox);
            }
        }
        let late: Vec<u32> =
            self.lookups.iter().filter(|(_, lookup)| lookup.until <= now).map(|(nonce, _)| *nonce).collect();
        for nonce in late {
            if let Some(lookup) = self.lookups.get_mut(&nonce) {
                lookup.waiting = 0;
            }
            self.ask_on(now, nonce);
        }
    }

    /// Closes links that neither a tree nor the table has much use for.
    fn let_go(&mut self) {
        let needed = self.tree_links();
        let mut idle: Vec<NodeId> = self.links.difference(&needed).copied().collect();
        idle.sort_by_key(|node| distance(&node.0, &self.own.node.0));
        for node in idle.into_iter().skip(LINKS) {
            self.outbox.hang(node);
        }
    }
}

impl Topology for Structured {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Join(contacts) => {
                let room = CONTACTS.saturating_sub(self.entrances.len());
                self.entrances.extend(contacts.iter().take(room).cloned());
                contacts.into_iter().for_each(|contact| self.learn(contact));
                self.look_up(now, self.own.node.0);
            }
            Input::Broadcast(payload) => {
                let channels: Vec<Key> = self.channels.iter().copied().collect();
                if self.cache.insert(now, &payload, 0) {
                    for key in channels.iter().flat_map(Self::roots) {
                        self.ascend(now, self.own.node, key, 0, payload.clone());
                    }
                }
            }
            Input::Frame { from, frame } if self.links.contains(&from) => {
                frame.0.into_iter().for_each(|message| self.on_message(now, from, message));
            }
            Input::LinkUp(node) => {
                self.links.insert(node);
                if let Some(waiting) = self.dialling.remove(&node) {
                    self.outbox.now(node, Message::Join(self.own.clone()));
                    waiting.into_iter().for_each(|message| self.outbox.now(node, message));
                }
            }
            Input::LinkDown(node) => {
                self.links.remove(&node);
                self.outbox.forget(&node);
                let mut orphaned = Vec::new();
                for (key, tree) in &mut self.trees {
                    tree.branches.remove(&node);
                    if tree.parent == Some(node) {
                        tree.parent = None;
                        orphaned.push(*key);
                    }
                }
                if !orphaned.is_empty() {
                    self.forget(&node);
                }
                orphaned.into_iter().for_each(|key| self.climb(key));
            }
            Input::DialFailed(node) => {
                self.forget(&node);
                let waiting = self.dialling.remove(&node).unwrap_or_default();
                for message in waiting {
                    match message {
                        Message::Subscribe { key } => self.climb(key),
                        Message::Ascend { key, hops, payload } => {
                            self.ascend(now, self.own.node, key, hops, payload);
                        }
                        _ => {}
                    }
                }
            }
            Input::Frame { .. } | Input::Timeout => {}
        }
        self.on_timeout(now);
        self.outbox.finish(now)
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let lookups = self.lookups.values().map(|lookup| lookup.until).min();
        let own = [Some(self.renew_at), Some(self.refresh_at), Some(self.repair_at)];
        own.into_iter().chain([lookups, self.outbox.next_timeout()]).flatten().min()
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.tree_links().into_iter().collect()
    }

    fn known(&self) -> Vec<Contact> {
        self.table.values().flatten().cloned().collect()
    }

    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output> {
        self.forget(&node);
        if self.links.contains(&node) {
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

fn distance(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}

/// Leading bits that two keys share: the bucket's number.
fn prefix(a: &Key, b: &Key) -> u16 {
    let mut shared = 0;
    for (a, b) in a.iter().zip(b) {
        let zeros = (a ^ b).leading_zeros() as u16;
        shared += zeros;
        if zeros < 8 {
            break;
        }
    }
    shared
}

//! `mesh`: everyone linked to everyone, one hop. For a LAN or a team, up to about [`MEMBERS`] nodes.
//!
//! Members tell each other all members they know. A payload goes to every neighbour and no further;
//! where one link is missing, anti-entropy by way of a third member makes up for it.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::Cache;
use super::frame::CONTACTS;
use super::outbox::Outbox;
use super::{Contact, Input, Message, MessageId, Output, Pace, Payload, Selection, Topology, repair};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;

/// Members that one member knows; a further one is not dialled.
pub const MEMBERS: usize = 64;
/// How often one neighbour, chosen at random, is asked for what is missing here and for members.
const REPAIR_MS: u64 = 5_000;
/// How long after a failed dial the member is dialled again; doubled each time.
const DIAL_MS: u64 = 1_000;
/// The longest such wait.
const DIAL_MAX_MS: u64 = 60_000;

/// One member of a mesh.
pub struct Mesh {
    own: Contact,
    selection: Selection,
    chance: Chance,
    members: BTreeMap<NodeId, Known>,
    links: BTreeSet<NodeId>,
    shunned: BTreeSet<NodeId>,
    cache: Cache,
    outbox: Outbox,
    repair_at: Timestamp,
}

struct Known {
    contact: Contact,
    dial_at: Timestamp,
    failures: u32,
}

impl Mesh {
    /// A member that knows nobody yet.
    pub fn new(own: Contact, selection: Selection, seed: [u8; 32], now: Timestamp) -> Self {
        let mut chance = Chance::new(seed);
        let repair_at = now.plus_ms(chance.about(REPAIR_MS));
        Self {
            own,
            selection,
            chance,
            members: BTreeMap::new(),
            links: BTreeSet::new(),
            shunned: BTreeSet::new(),
            cache: Cache::default(),
            outbox: Outbox::default(),
            repair_at,
        }
    }

    fn learn(&mut self, now: Timestamp, contact: Contact) {
        let node = contact.node;
        if node == self.own.node || self.shunned.contains(&node) {
            return;
        }
        if let Some(known) = self.members.get_mut(&node) {
            if !contact.routes.is_empty() {
                known.contact = contact;
            }
            return;
        }
        if self.members.len() >= MEMBERS {
            return;
        }
        let retry = now.plus_ms(DIAL_MS);
        self.members.insert(node, Known { contact: contact.clone(), dial_at: retry, failures: 0 });
        if !self.links.contains(&node) {
            self.outbox.dial(contact);
        }
    }

    fn due(&self, now: Timestamp) -> Timestamp {
        match self.selection.pace {
            Pace::Now => Timestamp(0),
            Pace::Batched(ms) => now.plus_ms(ms),
        }
    }

    fn on_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        match message {
            Message::Payload { hops, payload } if self.cache.insert(now, &payload, hops) => {
                self.outbox.deliver(from, hops, payload);
            }
            Message::IHave(ids) => {
                let lacking = ids.iter().map(|(id, _)| *id).filter(|id| !self.cache.has(id)).collect();
                self.outbox.now(from, Message::IWant(lacking));
            }
            Message::IWant(ids) => repair::on_want(&self.cache, from, &ids, &mut self.outbox),
            Message::Fingerprint(theirs) => {
                repair::on_fingerprint(&self.cache, now, from, theirs, &mut self.outbox);
            }
            Message::Recent { buckets, ids, reply } => {
                repair::on_recent(&mut self.cache, now, from, (buckets, ids, reply), &mut self.outbox);
            }
            Message::Join(contact) if contact.node == from => {
                self.learn(now, contact);
                self.tell_members(from);
            }
            Message::Nodes { contacts, .. } => {
                contacts.into_iter().for_each(|contact| self.learn(now, contact));
            }
            Message::Find { nonce: _, .. } => self.tell_members(from),
            _ => {}
        }
    }

    fn tell_members(&mut self, to: NodeId) {
        let all: Vec<Contact> = self.members.values().map(|known| known.contact.clone()).collect();
        let contacts = self.chance.sample(&all, CONTACTS);
        self.outbox.now(to, Message::Nodes { nonce: 0, contacts });
    }

    fn on_timeout(&mut self, now: Timestamp) {
        let waiting = self.members.iter_mut().filter(|(node, _)| !self.links.contains(*node));
        for (_, known) in waiting.filter(|(_, known)| known.dial_at <= now) {
            known.dial_at = now.plus_ms(DIAL_MAX_MS.min(DIAL_MS << known.failures.min(16)));
            self.outbox.dial(known.contact.clone());
        }
        if self.repair_at <= now {
            self.repair_at = now.plus_ms(self.chance.about(REPAIR_MS));
            let links: Vec<NodeId> = self.links.iter().copied().collect();
            if let Some(peer) = self.chance.pick(&links).copied() {
                repair::ask(&self.cache, now, peer, &mut self.outbox);
                self.outbox.now(peer, Message::Find { nonce: 0, target: self.own.node.0 });
            }
        }
    }
}

impl Topology for Mesh {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Join(contacts) => contacts.into_iter().for_each(|contact| self.learn(now, contact)),
            Input::Broadcast(payload) => {
                if self.cache.insert(now, &payload, 0) {
                    let due = self.due(now);
                    let pushes = self.selection.data.pushes(payload.bytes().len());
                    for peer in self.links.clone() {
                        if pushes {
                            let message = Message::Payload { hops: 1, payload: payload.clone() };
                            self.outbox.at(peer, message, due);
                        } else {
                            self.outbox.announce(peer, payload.id(), 1, due);
                        }
                    }
                }
            }
            Input::Frame { from, frame } if self.links.contains(&from) => {
                frame.0.into_iter().for_each(|message| self.on_message(now, from, message));
            }
            Input::LinkUp(node) if self.shunned.contains(&node) => self.outbox.hang(node),
            Input::LinkUp(node) => {
                if self.links.insert(node) {
                    if let Some(known) = self.members.get_mut(&node) {
                        known.failures = 0;
                    }
                    self.outbox.now(node, Message::Join(self.own.clone()));
                    repair::ask(&self.cache, now, node, &mut self.outbox);
                }
            }
            Input::LinkDown(node) => {
                self.links.remove(&node);
                self.outbox.forget(&node);
            }
            Input::DialFailed(node) => {
                if let Some(known) = self.members.get_mut(&node) {
                    known.failures += 1;
                }
            }
            Input::Frame { .. } | Input::Timeout => {}
        }
        self.on_timeout(now);
        self.outbox.finish(now)
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let missing = self.members.iter().filter(|(node, _)| !self.links.contains(*node));
        let dials = missing.map(|(_, known)| known.dial_at).min();
        [Some(self.repair_at), dials, self.outbox.next_timeout()].into_iter().flatten().min()
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.links.iter().copied().collect()
    }

    fn known(&self) -> Vec<Contact> {
        self.members.values().map(|known| known.contact.clone()).collect()
    }

    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output> {
        self.members.remove(&node);
        if self.shunned.len() < MEMBERS {
            self.shunned.insert(node);
        }
        if self.links.remove(&node) {
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

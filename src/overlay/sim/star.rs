//! The federated star, as Matrix, XMPP and mail have it: every user at one server, every server linked
//! with every other of the channel. The other thing that the simulator compares with.

use std::collections::BTreeSet;

use super::super::topology::cache::Cache;
use super::super::topology::outbox::Outbox;
use super::super::topology::{Contact, Input, Message, MessageId, Output, Payload, Topology};
use crate::base::{NodeId, Timestamp};

/// How long a user's client waits before it looks for its server again.
const RETRY_MS: u64 = 2_000;

/// A user's client, or a server.
pub struct Star {
    /// Whom it keeps a link with: a client its server, a server all servers.
    homes: Vec<Contact>,
    is_server: bool,
    links: BTreeSet<NodeId>,
    cache: Cache,
    outbox: Outbox,
    retry_at: Timestamp,
}

impl Star {
    /// A client of one server, or a server among these.
    pub fn new(homes: Vec<Contact>, is_server: bool, now: Timestamp) -> Self {
        let (links, cache, outbox) = (BTreeSet::new(), Cache::default(), Outbox::default());
        Self { homes, is_server, links, cache, outbox, retry_at: now }
    }

    fn is_home(&self, node: &NodeId) -> bool {
        self.homes.iter().any(|home| home.node == *node)
    }

    fn pass_on(&mut self, from: Option<NodeId>, hops: u8, payload: &Payload) {
        // A server gives what another server sent to its own users alone.
        let local = from.is_some_and(|from| self.is_server && self.is_home(&from));
        for node in self.links.iter().filter(|node| Some(**node) != from) {
            if !local || !self.is_home(node) {
                let hops = hops.saturating_add(1);
                self.outbox.now(*node, Message::Payload { hops, payload: payload.clone() });
            }
        }
    }
}

impl Topology for Star {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Broadcast(payload) => {
                if self.cache.insert(now, &payload, 0) {
                    self.pass_on(None, 0, &payload);
                }
            }
            Input::Frame { from, frame } => {
                for message in frame.0 {
                    if let Message::Payload { hops, payload } = message
                        && self.cache.insert(now, &payload, hops)
                    {
                        self.outbox.deliver(from, hops, payload.clone());
                        if self.is_server {
                            self.pass_on(Some(from), hops, &payload);
                        }
                    }
                }
            }
            Input::LinkUp(node) => {
                self.links.insert(node);
            }
            Input::LinkDown(node) => {
                self.links.remove(&node);
            }
            Input::Join(_) | Input::DialFailed(_) | Input::Timeout => {}
        }
        if self.retry_at <= now {
            self.retry_at = now.plus_ms(RETRY_MS);
            for home in self.homes.iter().filter(|home| !self.links.contains(&home.node)) {
                self.outbox.dial(home.clone());
            }
        }
        self.outbox.finish(now)
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let missing = self.homes.iter().any(|home| !self.links.contains(&home.node));
        missing.then_some(self.retry_at)
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.links.iter().copied().collect()
    }

    fn known(&self) -> Vec<Contact> {
        self.homes.clone()
    }

    fn shun(&mut self, _: Timestamp, _: NodeId) -> Vec<Output> {
        Vec::new()
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

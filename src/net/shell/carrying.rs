//! Broadcasts and frames of each domain, out and in, and what crosses from one domain into another.

use std::collections::BTreeSet;
use std::sync::Arc;

use libp2p::request_response::{self, Message};
use libp2p::{PeerId, gossipsub};

use super::super::membership::{Membership, Step};
use super::super::packet::{Packet, Taken};
use super::super::peer_of;
use super::Shell;
use crate::base::{NodeId, Timestamp, limits};
use crate::overlay::Destination;
use crate::overlay::domain::TAG_BYTES;
use crate::overlay::gossip::{self, NoWay, Unpublished};
use crate::overlay::topology::Payload;

impl Shell {
    /// Lets a domain's topology of ours, if it has one, take something in, and does what it wants.
    pub(super) fn member(&mut self, index: usize, give: impl FnOnce(&mut Membership, u64) -> Vec<Step>) {
        let now = self.now();
        let Some(membership) = self.domains.get(index).and_then(|joined| joined.membership.as_mut()) else {
            return;
        };
        let steps = give(membership, now);
        self.carry_out(index, steps);
    }

    /// A node could not be reached: said to the topologies that wanted it.
    pub(super) fn unreachable(&mut self, node: NodeId) {
        for index in 0..self.domains.count() {
            self.member(index, |membership, now| match membership.wants(&node) {
                true => membership.unreachable(now, node),
                false => Vec::new(),
            });
        }
    }

    /// A timer of a topology, or of a crossing.
    pub(super) fn on_timeout(&mut self) {
        let now = self.now();
        for index in 0..self.domains.count() {
            self.member(index, |membership, now| match membership.next_timeout() {
                Some(at) if at <= now => membership.timeout(now),
                _ => Vec::new(),
            });
        }
        for (index, payload) in self.domains.crossing.due(Timestamp(now)) {
            let index = usize::from(index);
            if let Some(joined) = self.domains.get(index) {
                joined.carried += 1;
            }
            let direct = self.spread(index, payload.bytes(), false);
            self.send_each(direct.into_iter(), payload.bytes());
        }
    }

    fn carry_out(&mut self, index: usize, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(node, packet) => {
                    if let Some(peer) = peer_of(&node).filter(|peer| self.peers.is_connected(peer)) {
                        self.swarm.behaviour_mut().frames.send_request(&peer, packet);
                    }
                }
                Step::Dial(node, addresses) => self.reach(node, addresses),
                Step::Deliver(from, bytes) => self.arrived(index, from, bytes),
            }
        }
    }

    /// A broadcast came in a domain. In several domains it may come more than once, and goes on into the others.
    fn arrived(&mut self, index: usize, from: NodeId, bytes: Arc<Vec<u8>>) {
        let count = self.domains.count();
        if let Some(joined) = self.domains.get(index) {
            joined.arrived += 1;
        }
        if count > 1 {
            let (now, payload) = (Timestamp(self.now()), Payload::new(bytes.clone()));
            let all = (0..count).filter_map(|index| u8::try_from(index).ok());
            let by = u8::try_from(index).unwrap_or(u8::MAX);
            if !self.domains.crossing.arrived(now, &payload, by, all) {
                return;
            }
        }
        let bytes = Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec());
        if self.inbox.broadcast(from, bytes).is_err() {
            self.drops.count("node too busy for a broadcast", 1);
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message, .. } => {
                let Some(index) = self.domains.of_topic(&message.topic) else { return };
                self.presume(propagation_source, Some(index));
                // Before a peer is up the node does not know it. What is lost here is among the
                // first things that the two reconcile.
                let from = self.peers.get_mut(&propagation_source).filter(|peer| peer.up);
                let Some(from) = from.map(|peer| peer.node) else {
                    return self.drops.count("broadcast by a peer that is not up", 1);
                };
                self.arrived(index, from, Arc::new(message.data));
            }
            gossipsub::Event::Subscribed { peer_id, topic } => self.subscribed(peer_id, &topic, true),
            gossipsub::Event::Unsubscribed { peer_id, topic } => self.subscribed(peer_id, &topic, false),
            gossipsub::Event::SlowPeer { peer_id, .. } => self.drops.slow(peer_id),
            _ => {}
        }
    }

    fn subscribed(&mut self, peer: PeerId, topic: &gossipsub::TopicHash, is: bool) {
        let node = self.peers.get_mut(&peer).map(|known| known.node);
        let joined = self.domains.of_topic(topic).and_then(|index| self.domains.get(index));
        if let (Some(node), Some(joined)) = (node, joined) {
            joined.subscribed(node, is);
        }
    }

    /// A frame of a topology of ours. It is answered at once: the answer says that it arrived, no more.
    pub(super) fn on_frame(&mut self, event: request_response::Event<Packet, Taken>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                let _ = self.swarm.behaviour_mut().frames.send_response(channel, Taken);
                let Some((tag, frame)) = request.split_at_checked(TAG_BYTES) else { return };
                let Some(index) = self.domains.of_tag(tag) else { return };
                self.presume(peer, Some(index));
                let Some(from) = self.peers.get_mut(&peer).map(|known| known.node) else { return };
                let now = self.now();
                let member = self.domains.get(index).filter(|joined| joined.has(&from));
                let Some(membership) = member.and_then(|joined| joined.membership.as_mut()) else {
                    return self.drops.count("frame of a peer that is not up", 1);
                };
                match membership.frame(now, from, frame) {
                    Some(steps) => self.carry_out(index, steps),
                    None => {
                        tracing::debug!("peer {peer} sent a frame that is none");
                        self.turn_away(peer);
                    }
                }
            }
            request_response::Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!("a frame to {peer} failed: {error}");
                self.drops.count("frame not acknowledged", 1);
            }
            _ => {}
        }
    }

    /// A packet from the node.
    pub(super) fn send(&mut self, destination: Destination, bytes: Vec<u8>) {
        let plan = match gossip::plan(destination, bytes.len(), &self.peers.up()) {
            Ok(plan) => plan,
            Err(NoWay::NotUp) => return self.drops.count("packet for a peer that is not up", 1),
            Err(NoWay::Length) => {
                tracing::error!("the node made a packet of {} bytes, which no peer takes", bytes.len());
                return self.drops.count("packet of a length not allowed", 1);
            }
        };
        let packet: Packet = Arc::new(bytes);
        let direct: BTreeSet<NodeId> = match destination {
            Destination::Peer(_) => plan.direct.into_iter().collect(),
            Destination::Domain => {
                if self.domains.count() > 1 {
                    let id = Payload::new(packet.clone()).id();
                    self.domains.crossing.began(Timestamp(self.now()), id);
                }
                (0..self.domains.count()).flat_map(|index| self.spread(index, &packet, true)).collect()
            }
        };
        self.send_each(direct.into_iter(), &packet);
    }

    /// Spreads a packet in one domain: one of this node's `own`, or one that crosses into it. Returns to whom it
    /// must be sent directly.
    fn spread(&mut self, index: usize, packet: &Packet, own: bool) -> Vec<NodeId> {
        let now = self.now();
        let Some(joined) = self.domains.get(index) else { return Vec::new() };
        let neighbours = joined.neighbours();
        if let Some(membership) = &mut joined.membership {
            let short = packet.len() <= limits::BROADCAST_BYTES;
            if let Some(steps) = short.then(|| membership.broadcast(now, packet)).flatten() {
                self.carry_out(index, steps);
                return Vec::new();
            }
            let again = short && !own && membership.neighbours() > 0;
            let all = neighbours.iter().map(|neighbour| neighbour.node);
            return if again { Vec::new() } else { all.collect() };
        }
        let Ok(plan) = gossip::plan(Destination::Domain, packet.len(), &neighbours) else {
            return Vec::new();
        };
        let topic = joined.topic().clone();
        let mut direct = plan.direct;
        if plan.publish
            && let Err(why) = self.publish(topic, packet)
        {
            if why == Unpublished::Overloaded {
                self.drops.count("broadcast too much", 1);
            }
            direct.extend(gossip::instead(why, &neighbours));
        }
        direct
    }

    fn send_each(&mut self, nodes: impl Iterator<Item = NodeId>, packet: &Packet) {
        for peer in nodes.filter_map(|node| peer_of(&node)) {
            if let Some(known) = self.peers.get_mut(&peer) {
                self.drops.count("peer too slow", known.push(packet.clone()));
                self.flush(peer);
            }
        }
    }

    fn publish(&mut self, topic: gossipsub::TopicHash, packet: &Packet) -> Result<(), Unpublished> {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip.publish(topic, packet.as_slice()) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::Duplicate) => Err(Unpublished::SentLately),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(Unpublished::NobodyListens),
            Err(gossipsub::PublishError::AllQueuesFull(_)) => Err(Unpublished::Overloaded),
            Err(error) => {
                // Too long, not signed, not transformed: none can be, with our configuration.
                tracing::error!("gossipsub refuses a packet: {error}");
                Err(Unpublished::NobodyListens)
            }
        }
    }
}

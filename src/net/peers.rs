//! Who is connected: connections, whether the peer is a member of a domain, and the packets that
//! wait for it. Decides which connections are too many; never touches the swarm and knows no clock.

use std::collections::{BTreeMap, VecDeque};

use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::bounds;
use super::packet::Packet;
use crate::base::NodeId;
use crate::overlay::gossip::Neighbour;

/// Every peer with at least one connection.
pub struct Peers {
    local: PeerId,
    peers: BTreeMap<PeerId, Peer>,
}

/// One connected peer.
pub struct Peer {
    pub node: NodeId,
    /// It is a member of one of our domains, and the node has been told so.
    pub up: bool,
    /// What it was asked with, while its answer is awaited.
    pub question: Option<[u8; 32]>,
    /// Where it says that it listens.
    pub listens: Vec<Multiaddr>,
    /// In the order they were established, with the time of that.
    connections: Vec<(ConnectionId, u64)>,
    waiting: VecDeque<Letter>,
    waiting_bytes: usize,
    under_way: BTreeMap<OutboundRequestId, Letter>,
}

/// A packet on its way to one peer.
struct Letter {
    packet: Packet,
    tries: u8,
}

impl Peers {
    /// Nobody yet.
    pub fn new(local: PeerId) -> Self {
        Self { local, peers: BTreeMap::new() }
    }

    /// The peer, if it is connected.
    pub fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(peer)
    }

    /// Whether there is a connection with it.
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// A connection was established.
    pub fn connected(&mut self, peer: PeerId, node: NodeId, connection: ConnectionId, now: u64) {
        self.peers.entry(peer).or_insert_with(|| Peer::new(node)).connections.push((connection, now));
    }

    /// A connection closed. Returns the peer if it was the last one.
    pub fn closed(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<Peer> {
        let known = self.peers.get_mut(peer)?;
        known.connections.retain(|(id, _)| *id != connection);
        if known.connections.is_empty() { self.peers.remove(peer) } else { None }
    }

    /// The peers that are up.
    pub fn up(&self) -> Vec<Neighbour> {
        let up = self.peers.values().filter(|peer| peer.up);
        up.map(|peer| Neighbour { node: peer.node, subscribed: false }).collect()
    }

    /// Everyone connected.
    pub fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Peers that had their time to show that they are members of the domain and did not.
    pub fn strangers(&self, now: u64) -> Vec<PeerId> {
        let late = |peer: &Peer| {
            !peer.up && peer.connections.iter().any(|(_, since)| now >= since + bounds::PROVE_MS)
        };
        self.peers.iter().filter(|(_, peer)| late(peer)).map(|(id, _)| *id).collect()
    }

    /// Connections to close because there is a newer one with the same peer. When two nodes dial
    /// each other at the same time, both sides must close the same connection or they would be left
    /// with none: the peer with the smaller id does it, and the other only much later. The newest is
    /// kept because the older one may be the remains of a peer that died and came back.
    pub fn surplus(&self, now: u64) -> Vec<ConnectionId> {
        let mut surplus = Vec::new();
        for (id, peer) in &self.peers {
            let Some(((_, newest), older)) = peer.connections.split_last() else { continue };
            let wait = if self.local < *id { bounds::SURPLUS_MS } else { bounds::SURPLUS_OTHER_MS };
            if now >= newest + wait {
                surplus.extend(older.iter().map(|(connection, _)| *connection));
            }
        }
        surplus
    }
}

impl Peer {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            up: false,
            question: None,
            listens: Vec::new(),
            connections: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: BTreeMap::new(),
        }
    }

    /// Puts a packet at the end of the queue. Returns how many older ones had to go.
    pub fn push(&mut self, packet: Packet) -> usize {
        self.waiting_bytes += packet.len();
        self.waiting.push_back(Letter { packet, tries: 0 });
        self.shorten()
    }

    /// The next packet to send, if it may be sent now; to be followed by [`Self::sent`].
    pub fn next(&mut self) -> Option<(Packet, u8)> {
        if self.under_way.len() >= bounds::REQUESTS_UNDER_WAY {
            return None;
        }
        let letter = self.waiting.pop_front()?;
        self.waiting_bytes -= letter.packet.len();
        Some((letter.packet, letter.tries))
    }

    /// The packet is under way as this request.
    pub fn sent(&mut self, request: OutboundRequestId, packet: Packet, tries: u8) {
        self.under_way.insert(request, Letter { packet, tries: tries + 1 });
    }

    /// The request was acknowledged.
    pub fn done(&mut self, request: &OutboundRequestId) {
        self.under_way.remove(request);
    }

    /// The request failed; with `again`, its packet goes to the front of the queue unless it was
    /// tried too often. Returns how many packets are lost by this.
    pub fn failed(&mut self, request: &OutboundRequestId, again: bool) -> usize {
        let Some(letter) = self.under_way.remove(request) else { return 0 };
        if !again || letter.tries >= bounds::TRIES {
            return 1;
        }
        self.waiting_bytes += letter.packet.len();
        self.waiting.push_front(letter);
        self.shorten()
    }

    /// How many packets are lost when this peer goes away.
    pub fn unsent(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    fn shorten(&mut self) -> usize {
        let mut dropped = 0;
        while self.waiting.len() > bounds::PEER_WAITING_PACKETS
            || self.waiting_bytes > bounds::PEER_WAITING_BYTES
        {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.packet.len();
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn connection(id: usize) -> ConnectionId {
        ConnectionId::new_unchecked(id)
    }

    fn two_ids() -> (PeerId, PeerId) {
        let (one, other) = (PeerId::random(), PeerId::random());
        (one.min(other), one.max(other))
    }

    #[test]
    fn of_two_connections_the_smaller_id_closes_the_older() {
        let (small, large) = two_ids();
        for (local, remote, wait) in
            [(small, large, bounds::SURPLUS_MS), (large, small, bounds::SURPLUS_OTHER_MS)]
        {
            let mut peers = Peers::new(local);
            peers.connected(remote, NodeId::default(), connection(1), 0);
            assert_eq!(peers.surplus(100_000), []);
            peers.connected(remote, NodeId::default(), connection(2), 10);
            assert_eq!(peers.surplus(10 + wait - 1), []);
            assert_eq!(peers.surplus(10 + wait), [connection(1)]);
            assert!(peers.closed(&remote, connection(1)).is_none(), "still connected");
            assert!(peers.closed(&remote, connection(2)).is_some());
            assert!(!peers.is_connected(&remote));
        }
    }

    #[test]
    fn who_does_not_show_to_be_a_member_is_a_stranger() {
        let (local, remote) = two_ids();
        let mut peers = Peers::new(local);
        peers.connected(remote, NodeId([9; 32]), connection(1), 0);
        assert_eq!(peers.up(), []);
        assert_eq!(peers.strangers(bounds::PROVE_MS - 1), []);
        assert_eq!(peers.strangers(bounds::PROVE_MS), [remote]);
        peers.get_mut(&remote).unwrap().up = true;
        assert_eq!(peers.strangers(bounds::PROVE_MS), []);
        assert_eq!(peers.up(), [Neighbour { node: NodeId([9; 32]), subscribed: false }]);
    }

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut peer = Peer::new(NodeId::default());
        for n in 0..bounds::PEER_WAITING_PACKETS {
            assert_eq!(peer.push(Arc::new(vec![u8::from(n > 0)])), 0);
        }
        assert_eq!(peer.push(Arc::new(vec![2])), 1);
        assert_eq!(*peer.next().unwrap().0, [1], "the one that was 0 is gone");
        let big = Arc::new(vec![0; bounds::PEER_WAITING_BYTES]);
        assert_eq!(peer.push(big.clone()), bounds::PEER_WAITING_PACKETS - 1, "by bytes");
        assert_eq!(peer.next(), Some((big, 0)));
        assert_eq!(peer.next(), None);
        assert_eq!(peer.waiting_bytes, 0);
    }
}

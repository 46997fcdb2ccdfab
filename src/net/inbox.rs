//! What came in and waits for the node. Owns the order and the bounds; never sends anything itself.
//!
//! The node may be busy, and the swarm must be polled all the same. Broadcasts beyond the bound are
//! dropped (reconciliation repairs them); requests wait, and with them their senders, who get no
//! acknowledgement until the node took the packet.

use std::collections::VecDeque;

use super::bounds;
use super::packet::Packet;
use crate::base::NodeId;

/// One thing for the node. `A` is what acknowledges a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound<A> {
    Up(NodeId),
    Down(NodeId),
    Broadcast { from: NodeId, bytes: Vec<u8> },
    Request { from: NodeId, packet: Packet, ack: A },
}

/// A bound was met; the caller says what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Things for the node, in the order they came.
pub struct Inbox<A> {
    waiting: VecDeque<Inbound<A>>,
    ups: usize,
    broadcasts: Room,
    requests: Room,
}

/// How much of a bound is used.
struct Room {
    count: usize,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

impl<A> Inbox<A> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            ups: 0,
            broadcasts: Room::new(bounds::INBOX_BROADCASTS, bounds::INBOX_BROADCAST_BYTES),
            requests: Room::new(bounds::INBOX_REQUESTS, bounds::INBOX_REQUEST_BYTES),
        }
    }

    /// A peer came up.
    ///
    /// # Errors
    /// [`Full`]: too many came up that the node has not been told of.
    pub fn up(&mut self, node: NodeId) -> Result<(), Full> {
        if self.ups >= bounds::INBOX_PEERS {
            return Err(Full);
        }
        self.ups += 1;
        self.waiting.push_back(Inbound::Up(node));
        Ok(())
    }

    /// A peer that came up went away. Always taken: there are no more of these than of the former.
    pub fn down(&mut self, node: NodeId) {
        self.waiting.push_back(Inbound::Down(node));
    }

    /// A packet came by broadcast.
    ///
    /// # Errors
    /// [`Full`].
    pub fn broadcast(&mut self, from: NodeId, bytes: Vec<u8>) -> Result<(), Full> {
        self.broadcasts.enter(bytes.len())?;
        self.waiting.push_back(Inbound::Broadcast { from, bytes });
        Ok(())
    }

    /// A packet came by request; `ack` is handed back with it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn request(&mut self, from: NodeId, packet: Packet, ack: A) -> Result<(), Full> {
        self.requests.enter(packet.len())?;
        self.waiting.push_back(Inbound::Request { from, packet, ack });
        Ok(())
    }

    /// The next thing for the node.
    pub fn pop(&mut self) -> Option<Inbound<A>> {
        let next = self.waiting.pop_front()?;
        match &next {
            Inbound::Up(_) => self.ups -= 1,
            Inbound::Down(_) => {}
            Inbound::Broadcast { bytes, .. } => self.broadcasts.leave(bytes.len()),
            Inbound::Request { packet, .. } => self.requests.leave(packet.len()),
        }
        Some(next)
    }
}

impl Room {
    fn new(most: usize, most_bytes: usize) -> Self {
        Self { count: 0, bytes: 0, most, most_bytes }
    }

    fn enter(&mut self, bytes: usize) -> Result<(), Full> {
        if self.count >= self.most || self.bytes + bytes > self.most_bytes {
            return Err(Full);
        }
        self.count += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn leave(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn order_is_kept_between_peers_and_their_packets() {
        let mut inbox = Inbox::new();
        inbox.up(NODE).unwrap();
        inbox.request(NODE, Arc::new(vec![1]), "ack").unwrap();
        inbox.broadcast(NODE, vec![2]).unwrap();
        inbox.down(NODE);
        assert_eq!(inbox.pop(), Some(Inbound::Up(NODE)));
        assert_eq!(inbox.pop(), Some(Inbound::Request { from: NODE, packet: Arc::new(vec![1]), ack: "ack" }));
        assert_eq!(inbox.pop(), Some(Inbound::Broadcast { from: NODE, bytes: vec![2] }));
        assert_eq!(inbox.pop(), Some(Inbound::Down(NODE)));
        assert_eq!(inbox.pop(), None);
    }

    #[test]
    fn a_full_inbox_refuses_until_there_is_room() {
        let mut inbox = Inbox::<()>::new();
        let big = vec![0; bounds::INBOX_BROADCAST_BYTES / 4];
        for _ in 0..4 {
            inbox.broadcast(NODE, big.clone()).unwrap();
        }
        assert_eq!(inbox.broadcast(NODE, vec![1]), Err(Full));
        inbox.request(NODE, Arc::new(vec![1]), ()).unwrap();
        inbox.pop();
        inbox.broadcast(NODE, vec![1]).unwrap();

        let mut inbox = Inbox::<()>::new();
        for _ in 0..bounds::INBOX_REQUESTS {
            inbox.request(NODE, Arc::new(vec![1]), ()).unwrap();
        }
        assert_eq!(inbox.request(NODE, Arc::new(vec![1]), ()), Err(Full));
        for _ in 0..bounds::INBOX_PEERS {
            inbox.up(NODE).unwrap();
        }
        assert_eq!(inbox.up(NODE), Err(Full));
    }
}

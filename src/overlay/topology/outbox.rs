//! What a topology is about to say: frames by peer, gathered until they are due. Owns coalescing; never
//! decides what is said.

use std::collections::BTreeMap;

use super::frame::{FRAME_MESSAGES, IDS};
use super::{Contact, Frame, Message, MessageId, Output, Payload};
use crate::base::{NodeId, Timestamp, limits};

/// Ids waiting to be announced to one peer; beyond it the frame goes at once.
const IDS_WAITING: usize = 128;

/// Outputs of one call, and what waits between calls.
#[derive(Default)]
pub struct Outbox {
    outputs: Vec<Output>,
    hangs: Vec<NodeId>,
    held: BTreeMap<NodeId, Held>,
}

struct Held {
    messages: Vec<Message>,
    bytes: usize,
    ids: Vec<(MessageId, u8)>,
    due: Timestamp,
}

impl Outbox {
    /// A message that goes out with this call, and takes along what waits for that peer.
    pub fn now(&mut self, to: NodeId, message: Message) {
        self.at(to, message, Timestamp(0));
    }

    /// A message that goes out at `due`, or sooner with another.
    pub fn at(&mut self, to: NodeId, message: Message, due: Timestamp) {
        let held = self.held(to, due);
        held.bytes += match &message {
            Message::Payload { payload, .. }
            | Message::Ascend { payload, .. }
            | Message::Descend { payload, .. } => payload.bytes().len() + 64,
            _ => 64,
        };
        held.messages.push(message);
        if held.messages.len() >= FRAME_MESSAGES - 1 || held.bytes >= limits::BROADCAST_BYTES {
            let due = Timestamp(0);
            self.flush(to, due);
        }
    }

    /// Announces an id at `due`, or sooner with another message.
    pub fn announce(&mut self, to: NodeId, id: MessageId, hops: u8, due: Timestamp) {
        let held = self.held(to, due);
        held.ids.push((id, hops));
        if held.ids.len() >= IDS_WAITING.min(IDS) {
            held.due = Timestamp(0);
        }
    }

    /// A link is wanted.
    pub fn dial(&mut self, contact: Contact) {
        self.outputs.push(Output::Dial(contact));
    }

    /// A link is of no more use; what waits for the peer goes first.
    pub fn hang(&mut self, node: NodeId) {
        if let Some(held) = self.held.get_mut(&node) {
            held.due = Timestamp(0);
        }
        self.hangs.push(node);
    }

    /// Something for the application.
    pub fn deliver(&mut self, from: NodeId, hops: u8, payload: Payload) {
        self.outputs.push(Output::Deliver { from, hops, payload });
    }

    /// What waits for this peer will never be said.
    pub fn forget(&mut self, node: &NodeId) {
        self.held.remove(node);
    }

    /// Everything that is due.
    pub fn finish(&mut self, now: Timestamp) -> Vec<Output> {
        while let Some(node) = self.held.iter().find(|(_, held)| held.due <= now).map(|(node, _)| *node) {
            self.flush(node, now);
        }
        self.outputs.extend(self.hangs.drain(..).map(Output::Hang));
        std::mem::take(&mut self.outputs)
    }

    /// When something is due next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.due).min()
    }

    fn held(&mut self, to: NodeId, due: Timestamp) -> &mut Held {
        let fresh = || Held { messages: Vec::new(), bytes: 0, ids: Vec::new(), due };
        let held = self.held.entry(to).or_insert_with(fresh);
        held.due = held.due.min(due);
        held
    }

    fn flush(&mut self, node: NodeId, _: Timestamp) {
        let Some(mut held) = self.held.remove(&node) else { return };
        if !held.ids.is_empty() {
            held.messages.push(Message::IHave(held.ids));
        }
        self.outputs.push(Output::Send { to: node, frame: Frame(held.messages) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId([1; 32]);

    #[test]
    fn what_is_urgent_takes_along_what_waits() {
        let mut outbox = Outbox::default();
        outbox.announce(PEER, MessageId([1; 16]), 1, Timestamp(50));
        outbox.announce(PEER, MessageId([2; 16]), 2, Timestamp(60));
        assert!(outbox.finish(Timestamp(10)).is_empty());
        assert_eq!(outbox.next_timeout(), Some(Timestamp(50)));
        outbox.now(PEER, Message::Prune);
        outbox.hang(PEER);
        let ids = vec![(MessageId([1; 16]), 1), (MessageId([2; 16]), 2)];
        let frame = Frame(vec![Message::Prune, Message::IHave(ids)]);
        assert_eq!(outbox.finish(Timestamp(10)), [Output::Send { to: PEER, frame }, Output::Hang(PEER)]);
        assert_eq!(outbox.next_timeout(), None);
    }

    #[test]
    fn announcements_go_when_due_or_when_there_are_many() {
        let mut outbox = Outbox::default();
        outbox.announce(PEER, MessageId::default(), 0, Timestamp(50));
        assert_eq!(outbox.finish(Timestamp(50)).len(), 1);
        for _ in 0..IDS_WAITING {
            outbox.announce(PEER, MessageId::default(), 0, Timestamp(500));
        }
        assert_eq!(outbox.finish(Timestamp(60)).len(), 1);
    }
}

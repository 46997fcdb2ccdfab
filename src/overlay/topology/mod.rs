//! Topologies: how the members of one domain are connected and how a payload spreads among them. Owns
//! the contract that they share; never knows what a payload means.
//!
//! Each is a state machine without IO: `handle(now, input) -> outputs`, `next_timeout`. Chance comes from
//! a seed. Whoever drives it (the libp2p shell, the simulator) opens links, carries frames and hands in
//! what happened. **A payload is delivered at most once**; that it is delivered at all rests on links, on
//! pulls of what was announced, and on anti-entropy.

pub mod cache;
pub mod frame;
pub mod gossip;
pub mod mesh;
pub mod outbox;
mod repair;
pub mod structured;
pub mod tree;

use crate::base::{NodeId, Timestamp};

pub use frame::{Contact, Frame, Message, MessageId, Payload, Route};

/// What happens to a topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The domain is entered by way of these nodes.
    Join(Vec<Contact>),
    /// A payload of this node's for every member.
    Broadcast(Payload),
    /// A peer that there is a link with sent this.
    Frame { from: NodeId, frame: Frame },
    /// There is a link with this peer, whoever opened it. Said again when a link that is there is dialled.
    LinkUp(NodeId),
    /// The last link with this peer is gone.
    LinkDown(NodeId),
    /// A link that was asked for could not be had.
    DialFailed(NodeId),
    /// `next_timeout` has come.
    Timeout,
}

/// What a topology wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// A frame for a peer that there is a link with; dropped if there is none.
    Send { to: NodeId, frame: Frame },
    /// A link with this node.
    Dial(Contact),
    /// The link with this node is of no more use here. Comes after the last frame for it.
    Hang(NodeId),
    /// A payload for the application: once for each id.
    Deliver { from: NodeId, hops: u8, payload: Payload },
}

/// One member's part in one topology. Total, deterministic, bounded.
pub trait Topology: Send {
    /// Takes one input in. Outputs are to be carried out in order.
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output>;

    /// When to hand in [`Input::Timeout`], if nothing else comes before.
    fn next_timeout(&self) -> Option<Timestamp>;

    /// The peers that payloads go to and come from now.
    fn neighbours(&self) -> Vec<NodeId>;

    /// Whom this node would ask next: a sample of the domain as it is known here.
    fn known(&self) -> Vec<Contact>;

    /// Never to be a neighbour again, as far as this node can help it: it was caught.
    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output>;

    /// Whether this id was seen of late: its payload would be taken for a duplicate.
    fn has(&self, id: &MessageId) -> bool;

    /// The payload of this id, while it is kept.
    fn payload(&self, id: &MessageId) -> Option<Payload>;

    /// An id whose payload has been here for at least `age_ms`: what a peer may be challenged for.
    fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId>;
}

/// What is pushed (the paper's data selection).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Data {
    /// Payloads, at once.
    #[default]
    Payload,
    /// Ids alone; whoever lacks one asks for it. Costs a round trip for each link, and no byte twice.
    Id,
    /// Payloads up to so many bytes, ids of longer ones.
    UpTo(usize),
}

impl Data {
    /// Whether a payload of this length is pushed.
    pub fn pushes(self, length: usize) -> bool {
        match self {
            Self::Payload => true,
            Self::Id => false,
            Self::UpTo(most) => length <= most,
        }
    }
}

/// To whom it is pushed (target selection).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Targets {
    /// Every neighbour.
    Flood,
    /// Neighbours on the tree that broadcasts leave behind; ids go to the others.
    #[default]
    Tree,
    /// Ids to every neighbour.
    Lazy,
}

/// When it is pushed (time selection).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// Now.
    #[default]
    Now,
    /// After at most so many ms, with whatever else came for that peer meanwhile.
    Batched(u64),
}

/// The three selections of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    pub data: Data,
    pub targets: Targets,
    pub pace: Pace,
}

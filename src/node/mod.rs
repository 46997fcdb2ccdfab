//! The whole node as one deterministic state machine. It never awaits, locks, prints or reads a
//! clock: every fact comes in as an [`Input`], every effect goes out as an [`Output`]. The same
//! inputs give the same outputs, byte for byte.
//!
//! **Commit before you speak**: the outputs of one [`Node::handle`] come in order, what must be
//! durable first. Whoever drives the node makes each [`Output::Commit`] durable before it carries
//! out any output that follows it, and may commit the batches of many inputs at once.

mod admit;
mod batch;
mod directory;
mod door;
mod doubles;
mod expiry;
mod flow;
mod intents;
mod invite;
mod link;
#[cfg(test)]
mod market;
mod news;
mod origins;
mod outbox;
mod parts;
mod people;
mod restore;
mod roles;
mod routes;
mod submit;
mod sync;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod texts;
mod wanting;

use std::collections::{BTreeMap, BTreeSet};

pub use batch::{Batch, Keeping, OutboxRow, StoredEvent, Write};
pub use door::{Delivery, Door, Outcome, Receipt, Refusal};
pub use flow::{Exported, Lapse};
pub use restore::{Damaged, Logged, Restored, Setup};

use crate::base::{Digest, EventId, NodeId, Timestamp};
use crate::chat::flow::Sink;
use crate::chat::intent::Submission;
use crate::chat::message::Link;
use crate::chat::view::{ChannelView, News};
use crate::overlay::Destination;
use crate::replica::Packet;
use directory::Directory;
use doubles::Doubles;
use expiry::Expiry;
use intents::Intents;
use origins::Origins;
use outbox::{Order, Outbox};
use people::People;
use routes::Routes;
use sync::Sync;
use wanting::Wanting;

/// A fact.
#[derive(Clone, Debug)]
pub enum Input {
    /// A door hands in a wish. `known` is the event that the store has for its origin, if any:
    /// the wish was granted before and came again.
    Submit {
        ticket: u64,
        submission: Box<Submission>,
        known: Option<EventId>,
    },
    /// A connector is ready for deliveries.
    DoorOpened(Door),
    /// A connector stopped.
    DoorClosed(Door),
    /// How a delivery went.
    Report {
        delivery: u64,
        outcome: Outcome,
    },
    /// A delivery that was to be read back is not made: see [`Node::delivery_of`].
    Lapsed {
        delivery: u64,
        lapse: Lapse,
    },
    /// A door's own note.
    Remember {
        ticket: u64,
        door: Door,
        key: String,
        value: Vec<u8>,
    },
    PeerUp(NodeId),
    PeerDown(NodeId),
    Packet {
        from: NodeId,
        packet: Packet,
    },
    /// Something malformed came from a peer and was dropped before it could become a packet.
    Garbage {
        count: u64,
    },
    /// The time that [`Node::next_timeout`] named has come.
    Timeout,
}

/// An effect.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Make this durable before anything that follows.
    Commit(Batch),
    /// The answer to a submission.
    Reply {
        ticket: u64,
        result: Result<Receipt, Refusal>,
    },
    /// A note is durable.
    Remembered {
        ticket: u64,
    },
    /// News for a door.
    Deliver {
        door: Door,
        delivery: Box<Delivery>,
    },
    /// News for a door of an event that lies in the store: to be read and made by
    /// [`Node::delivery_of`].
    /// The listener's have no link and the id 0.
    DeliverStored {
        door: Door,
        id: u64,
        link: Option<Link>,
        uncertain: bool,
        position: u64,
    },
    /// A delivery was given up, for people to see.
    GaveUp {
        link: Link,
        reason: String,
    },
    /// Events of the log, to be read from the store and sent.
    SendEvents {
        to: Destination,
        positions: Vec<u64>,
        more: bool,
    },
    Send {
        to: Destination,
        packet: Packet,
    },
}

/// The node.
pub struct Node {
    setup: Setup,
    people: People,
    directory: Directory,
    routes: Routes,
    outbox: Outbox,
    sync: Sync,
    open_doors: BTreeSet<Door>,
    last_position: u64,
    origins: Origins,
    doubles: Doubles,
    intents: Intents,
    refused: BTreeMap<&'static str, u64>,
    expiry: Expiry,
    wanting: Wanting,
    exports: BTreeMap<Sink, Exported>,
}

/// What one input leads to, while it is being worked out.
struct Turn {
    now: Timestamp,
    writes: Vec<Write>,
    effects: Vec<Output>,
    /// Sinks of this node's links that were not cleared for what was said.
    withheld: Vec<Sink>,
}

impl Node {
    /// Takes one fact in. Total, bounded, deterministic.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut turn = Turn { now, writes: Vec::new(), effects: Vec::new(), withheld: Vec::new() };
        match input {
            Input::Submit { ticket, submission, known } => {
                let mut result = self.submit(&mut turn, &submission, known);
                match &mut result {
                    Ok(receipt) => receipt.withheld = std::mem::take(&mut turn.withheld),
                    Err(refusal) => self.count_refused(refusal.reason()),
                }
                turn.effects.push(Output::Reply { ticket, result });
            }
            Input::DoorOpened(door) => self.open_door(&mut turn, door),
            Input::DoorClosed(door) => {
                self.open_doors.remove(&door);
            }
            Input::Report { delivery, outcome } => self.report(&mut turn, delivery, outcome),
            Input::Lapsed { delivery, lapse } => self.lapsed(&mut turn, delivery, lapse),
            Input::Remember { ticket, door, key, value } => {
                turn.writes.push(Write::Note { door, key, value });
                turn.effects.push(Output::Remembered { ticket });
            }
            Input::PeerUp(peer) => self.peer_up(&mut turn, peer),
            Input::PeerDown(peer) => self.sync.down(&peer),
            Input::Packet { from, packet } => self.packet(&mut turn, from, packet),
            Input::Garbage { count } => {
                let counted = self.refused.entry("malformed_packet").or_default();
                *counted = counted.saturating_add(count);
            }
            Input::Timeout => self.timeout(&mut turn),
        }
        self.forget_gone_intents(&mut turn);
        turn.finish()
    }

    /// When [`Input::Timeout`] is wanted next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let retry = self.outbox.next_due(|door| self.open_doors.contains(door));
        [self.sync.next_timeout(), retry, self.expiry.next_timeout(), self.next_want()]
            .into_iter()
            .flatten()
            .min()
    }

    fn timeout(&mut self, turn: &mut Turn) {
        for link in self.outbox.due_links(turn.now) {
            self.dispatch(turn, &link, None);
        }
        self.sync_timeout(turn);
        self.expiry_timeout(turn);
        self.want_timeout(turn);
    }

    fn open_door(&mut self, turn: &mut Turn, door: Door) {
        self.open_doors.insert(door.clone());
        for link in self.outbox.reopen(&door) {
            self.dispatch(turn, &link, None);
        }
    }

    fn report(&mut self, turn: &mut Turn, delivery: u64, outcome: Outcome) {
        let Some(reported) = self.outbox.report(delivery, outcome, turn.now) else { return };
        turn.writes.extend(reported.writes);
        if let Some(reason) = reported.failed {
            self.count_refused("delivery_failed");
            turn.effects.push(Output::GaveUp { link: reported.link.clone(), reason });
        }
        self.dispatch(turn, &reported.link, None);
    }

    /// Hands the next rows of a link to its door: what is `fresh` as it is, the rest to be read back
    /// from the store.
    fn dispatch(&mut self, turn: &mut Turn, link: &Link, fresh: Option<&News>) {
        let door = Door::of(link);
        if !self.open_doors.contains(&door) {
            return;
        }
        for Order { id, link, position, uncertain } in self.outbox.take_due(link, turn.now) {
            let door = door.clone();
            turn.effects.push(match fresh.filter(|news| news.position == position) {
                Some(news) => {
                    let delivery = Delivery { id, link: Some(link), uncertain, news: news.clone() };
                    Output::Deliver { door, delivery: Box::new(delivery) }
                }
                None => Output::DeliverStored { door, id, link: Some(link), uncertain, position },
            });
        }
    }

    /// Whether nothing is to be done any more to bring an event over a link: it is part of the channel
    /// here, and arrived there, or never will. The event is given by the first bytes of its id.
    pub fn is_settled(&self, link: &Link, mark: u64) -> bool {
        let channel = self.routes.channel(link);
        let Some((id, channel)) = channel.and_then(|id| Some((id, self.directory.get(&id)?))) else {
            return false;
        };
        channel
            .replica
            .beginning(mark)
            .is_some_and(|event| !self.wanting.contains(&id, &event) && !self.outbox.holds(link, &event))
    }

    fn count_refused(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// Every channel, as doors show it.
    pub fn channels(&self) -> Vec<ChannelView> {
        self.directory.iter().map(|(id, channel)| channel.view(self.routes.links(id).to_vec())).collect()
    }

    /// How many channels there are.
    pub fn channel_count(&self) -> usize {
        self.directory.len()
    }

    /// The peers that are up.
    pub fn peers(&self) -> Vec<NodeId> {
        self.sync.peers()
    }

    /// How many events the log has.
    pub fn events(&self) -> u64 {
        self.last_position
    }

    /// How many events wait for their past.
    pub fn pending_events(&self) -> usize {
        self.directory.pending()
    }

    /// Deliveries not yet arrived, by door.
    pub fn outbox_depths(&self) -> BTreeMap<Door, usize> {
        self.outbox.depths()
    }

    /// What was refused, by reason.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    /// One digest over everything replicated: equal iff two nodes hold the same.
    pub fn state_root(&self) -> Digest {
        self.directory.root()
    }

    /// Whether an event counts: it is part of a channel here, and not void.
    pub fn is_effective(&self, event: &EventId) -> bool {
        self.directory.iter().any(|(_, channel)| channel.replica.is_effective(event))
    }

    /// This node's transport identity.
    pub fn id(&self) -> NodeId {
        self.setup.node_id()
    }

    /// The news that a stored event is, for doors. `None` if there is nothing to show (any more).
    pub fn news_of(&self, now: Timestamp, stored: &StoredEvent) -> Option<News> {
        news::of_stored(&self.directory, now, stored)
    }
}

impl Turn {
    fn finish(mut self) -> Vec<Output> {
        if !self.writes.is_empty() {
            self.effects.insert(0, Output::Commit(Batch(self.writes)));
        }
        self.effects
    }
}

//! What the node wants durable: typed writes, applied in order, all of a batch or none.

use serde::{Deserialize, Serialize};

use super::Door;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use crate::chat::message::Link;
use crate::chat::profile::Profile;
use crate::replica::{Event, Offer, Parcel};

/// Writes that belong together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch(pub Vec<Write>);

/// One write. Each is idempotent: applying it twice leaves what applying it once does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Appends an event to the log.
    Event(StoredEvent),
    /// The event at this place of the log is shown from now on.
    Shown {
        position: u64,
    },
    /// A delivery that has to reach the far end of a link. `id` grows with every row of the node.
    Outbox {
        id: u64,
        link: Link,
        position: u64,
    },
    /// It was tried: how often, when next, and whether the last attempt may have got through.
    OutboxTried {
        id: u64,
        attempts: u32,
        next_at: Timestamp,
        uncertain: bool,
    },
    /// It arrived or never will.
    OutboxDone {
        id: u64,
    },
    /// The message `external_id` on the far side of `link` is `event` here.
    Seen {
        link: Link,
        external_id: String,
        event: EventId,
    },
    /// This node carries `channel` to and from `link`, from log position `since` on.
    Link {
        link: Link,
        channel: ChannelId,
        since: u64,
    },
    Unlink {
        link: Link,
    },
    /// The channel's name on this node.
    Name {
        channel: ChannelId,
        name: String,
    },
    /// A person this node speaks for.
    Person {
        account: String,
        identity: Identity,
        profile: Profile,
    },
    /// What one of this node's people wants of others, until it is settled or expires.
    Intent(Offer),
    /// It waits no longer.
    IntentGone {
        id: Digest,
    },
    /// Deletes what a message said, for good, wherever the store has it: it was taken back.
    Erase {
        position: u64,
    },
    /// The same of every message that was to last until then.
    EraseExpired {
        until: Timestamp,
    },
    /// The same of every message said in the channel up to then.
    EraseSaid {
        channel: ChannelId,
        until: Timestamp,
    },
    /// A door's note; an empty value forgets the key.
    Note {
        door: Door,
        key: String,
        value: Vec<u8>,
    },
}

impl Write {
    /// Whether it deletes what this event says.
    pub fn erases(&self, event: &StoredEvent) -> bool {
        let keeping = &event.keeping;
        match self {
            Self::Erase { position } => *position == event.position,
            Self::EraseExpired { until } => keeping.expires.is_some_and(|at| at <= *until),
            Self::EraseSaid { channel, until } => {
                let is_text = event.payload.is_some() || keeping.wanted;
                is_text && *channel == event.channel && keeping.said_at <= *until
            }
            _ => false,
        }
    }
}

/// An event as it lies in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its place in this node's log: 1, 2, 3, …
    pub position: u64,
    pub channel: ChannelId,
    pub id: EventId,
    /// The signed header, in canonical encoding.
    pub signed: Vec<u8>,
    /// The detachable payload; `None` once it was deleted.
    pub payload: Option<Vec<u8>>,
    /// Whether doors show it: messages, joins, leaves, topics, profiles.
    pub visible: bool,
    pub keeping: Keeping,
}

/// What the store must know of an event to keep its payload as long as it may, and no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Keeping {
    /// The event's own time.
    pub said_at: Timestamp,
    /// When its payload is to be deleted by its author's will.
    pub expires: Option<Timestamp>,
    /// Whether full-text search may find it.
    pub searchable: bool,
    /// It came without its payload, which others may still have.
    pub wanted: bool,
}

impl StoredEvent {
    /// Deletes what it says, if it says something.
    pub fn erase(&mut self) {
        if self.payload.is_some() || self.keeping.wanted {
            (self.payload, self.visible, self.keeping.wanted) = (None, false, false);
        }
    }

    /// With all that is stored of it; `None` if the bytes are damaged. What may go to other nodes is for
    /// [`Node::parcel_of`](super::Node::parcel_of) to say.
    pub fn parcel(&self) -> Option<Parcel> {
        let event = Event::decode_trusted(&self.signed).ok()?;
        Some(Parcel { event, payload: self.payload.clone() })
    }
}

/// A row of the outbox, as read back at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutboxRow {
    pub id: u64,
    pub link: Link,
    pub position: u64,
    pub attempts: u32,
    pub next_at: Timestamp,
    pub uncertain: bool,
}

//! Read-only projections: what doors show of a channel.

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::act::Standing;
use super::asset::Asset;
use super::channel::Change;
use super::message::{Content, Link};
use super::policy::Policy;
use super::profile::Profile;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};

/// A member of a channel, as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    pub identity: Identity,
    pub role: Role,
    pub profile: Profile,
}

/// A channel, as shown on this node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelView {
    pub id: ChannelId,
    /// The name on this node: `#rust`, or `#rust~k3f9` where another channel had the name first.
    pub name: String,
    pub topic: String,
    pub created_at: Timestamp,
    pub members: Vec<Member>,
    /// What binds its members.
    pub policy: Policy,
    /// The links this node carries for it.
    pub links: Vec<Link>,
}

/// Something that happened in a channel, as told to doors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct News {
    pub event: EventId,
    pub channel: ChannelId,
    /// The channel's name on this node.
    pub channel_name: String,
    /// Where it stands in this node's log: grows with every event taken in, never reused.
    pub position: u64,
    /// When it was said: the origin's time for bridged messages, else the event's.
    pub at: Timestamp,
    pub author: Member,
    /// The tag of the local submission that caused it, or 0.
    pub tag: u64,
    pub what: What,
}

/// What is owned in a channel, and what people want of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MarketView {
    pub holdings: Vec<HoldingView>,
    pub intents: Vec<IntentView>,
}

/// So much of something that somebody owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldingView {
    pub owner: Identity,
    pub quantity: u128,
    pub asset: Asset,
}

/// An intent that waits for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentView {
    pub id: Digest,
    pub author: Identity,
    pub expires: Timestamp,
    /// Whether anybody may take part.
    pub is_open: bool,
    /// Whether it is of somebody whom this node speaks for.
    pub is_ours: bool,
    pub gives: Vec<(Asset, u128)>,
    pub takes: Vec<(Asset, u128)>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum What {
    /// The channel was founded by `author`, who is its first member.
    Created,
    Joined,
    Left {
        reason: String,
    },
    Message(Content),
    /// `author` took back what `sender` had said; its text is gone.
    Redacted {
        target: EventId,
        sender: Identity,
        reason: String,
    },
    Topic(String),
    /// Another setting than the topic.
    Changed(Change),
    /// `author`, who is no member, asks to be let in.
    Knocked {
        reason: String,
    },
    /// Something that this version does not understand: an act of a later version or a fork.
    Unknown {
        logic: Digest,
    },
    /// `author` has the new profile; this is the one before.
    Profile {
        before: Profile,
    },
    /// `author` gave `subject` (shown as they are now) a role.
    Granted {
        subject: Member,
        role: Role,
    },
    /// `author` removed, banned, unbanned or demoted `subject` (shown as they were).
    Revoked {
        subject: Member,
        then: Standing,
        reason: String,
    },
    /// What `author` said or did is void: they had been removed, or signed two things at once (rule L4).
    Withdrawn,
    /// This node now carries the channel to a link (local, `event` is the channel's).
    Linked(Link),
    /// This node no longer does.
    Unlinked(Link),
}

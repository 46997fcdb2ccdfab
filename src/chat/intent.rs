//! What a person can want. Doors turn their protocol's events into intents; `node` turns intents
//! into transactions.

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::act::Standing;
use super::channel::Change;
use super::invite::Invite;
use super::market::Wish;
use super::message::{Content, Link};
use super::name::ChannelName;
use super::profile::Profile;
use crate::base::{ChannelId, EventId, Identity, Timestamp};

/// One wish of one actor, as a door hands it in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Submission {
    pub actor: Actor,
    pub intent: Intent,
    /// The link the actor comes through, if a bridge speaks for them: nothing they do is carried
    /// back over it.
    pub via: Option<Link>,
    /// Make the actor a member first where needed: for bridges, where the other side already
    /// decided who is in.
    pub join_first: bool,
    /// Handed back with the news that this submission causes on this node; 0 for none. The IRC
    /// listener knows its own client's line by it.
    pub tag: u64,
}

/// Who wants it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Actor {
    /// The node's own user.
    Node,
    /// A person that a door speaks for; the node keeps an identity for them, derived from
    /// `account`, which must be stable and globally clear: `@alice:example.org`,
    /// `bob@irc.libera.chat`, or `carol` for a client of the IRC listener. An empty profile (the
    /// default one) leaves the person as the node knows them.
    Person { account: String, profile: Profile },
}

/// Names a channel: by id, or by the name it has on this node (`#rust`, `#rust~k3f9`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChannelRef {
    Id(ChannelId),
    Name(String),
}

/// Names a person of a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Subject {
    Identity(Identity),
    /// An account (`@alice:example.org`, `bob@irc.libera.chat`) or a user name. Refused where several
    /// people of the channel go by it.
    Name(String),
}

/// The wishes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Intent {
    /// Found a channel. Refused if the name is taken on this node.
    CreateChannel {
        name: ChannelName,
        topic: String,
    },
    /// Become a member. With `create`, found the channel if no channel has that name here.
    /// Done already if the actor is a member.
    JoinChannel {
        channel: ChannelRef,
        create: bool,
    },
    LeaveChannel {
        channel: ChannelRef,
        reason: String,
    },
    SendMessage {
        channel: ChannelRef,
        content: Content,
    },
    /// Take a message back: one's own, or another's with `redact_others`.
    RedactMessage {
        channel: ChannelRef,
        target: EventId,
        reason: String,
    },
    /// Change a setting; needs the permission that [`Change::permission`] names.
    UpdateChannel {
        channel: ChannelRef,
        change: Change,
    },
    /// Ask to be let in.
    Knock {
        channel: ChannelRef,
        reason: String,
    },
    /// Give somebody a role; lifts a ban. Never one above the actor's own.
    GrantRole {
        channel: ChannelRef,
        subject: Subject,
        role: Role,
    },
    /// Remove, ban, unban or demote somebody whom the actor outranks.
    RevokeRole {
        channel: ChannelRef,
        subject: Subject,
        then: Standing,
        reason: String,
    },
    /// Issue, give or swap tokens and tickets. What does not balance by itself waits for others.
    Market {
        channel: ChannelRef,
        wish: Wish,
    },
    /// Find intents of others that balance together, in one channel or in all, and settle them.
    Solve {
        channel: Option<ChannelRef>,
    },
    /// Make an invite link: a role, never above the actor's own, for whoever holds it.
    Invite {
        channel: ChannelRef,
        role: Role,
        expires: Option<Timestamp>,
    },
    /// Become a member by an invite link.
    UseInvite {
        invite: Invite,
    },
    /// Found a successor of a channel, and close it.
    Upgrade {
        channel: ChannelRef,
    },
    /// Change how the actor is shown, in every channel they are in.
    UpdateProfile {
        profile: Profile,
    },
    /// Local to this node, never replicated: carry the channel's events to and from `link`.
    Link {
        channel: ChannelRef,
        link: Link,
        create: bool,
    },
    /// Local to this node: stop carrying.
    Unlink {
        link: Link,
    },
}

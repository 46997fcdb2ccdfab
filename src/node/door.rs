//! What passes between the node and its doors, as values.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{ChannelId, EventId, Kind};
use crate::chat::flow::Sink;
use crate::chat::invite::Invite;
use crate::chat::message::Link;
use crate::chat::view::News;

/// A door of the node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Door {
    /// The command line on the control socket.
    Control,
    /// The IRC listener. Gets all news, live, with no outbox: its clients catch up from history.
    Listener,
    /// The Matrix homeserver. Gets the news of channels linked to its rooms, through the outbox.
    Matrix,
    /// A linked IRC network, by its address. Gets the news of linked channels, through the outbox.
    Network(String),
}

impl Door {
    /// The door that carries a link.
    pub fn of(link: &Link) -> Self {
        match link {
            Link::Matrix { .. } => Self::Matrix,
            Link::Irc { network, .. } => Self::Network(network.clone()),
        }
    }

    /// Whether deliveries wait for it in the outbox and want a report each.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Matrix | Self::Network(_))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Listener => f.write_str("irc"),
            Self::Matrix => f.write_str("matrix"),
            Self::Network(name) => write!(f, "irc/{name}"),
        }
    }
}

/// One piece of news for one door. News of one link come in order. At most
/// `limits::DELIVERY_WINDOW` of a link are unreported at a time; the connector sends them one by
/// one in order. When one is reported as `Retry`, the connector forgets the later ones of that
/// link that it holds: all of them come again, in order, after a wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// To be named in the report; 0 where no report is wanted (the listener).
    pub id: u64,
    /// The link to carry it to; `None` for the listener.
    pub link: Option<Link>,
    /// An earlier attempt may have got through (the node died, or the far side did, in between):
    /// look before sending it again, where the far side lets one look.
    pub uncertain: bool,
    pub news: News,
}

/// How a delivery went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It arrived; the id it has there, where there is one.
    Delivered { external_id: Option<String> },
    /// It did not, or perhaps it did (`uncertain`); try again, not before `after_ms` where the far
    /// side said so.
    Retry { uncertain: bool, after_ms: Option<u64>, reason: String },
    /// It never will; dropped from the outbox, counted, and shown in `status`.
    Failed { reason: String },
}

/// What became of a submission.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    pub channel: Option<ChannelId>,
    /// The event it became; `None` for what is local or was so already.
    pub event: Option<EventId>,
    /// The sinks of this node's links that are not cleared for it, so that it does not go there.
    pub withheld: Vec<Sink>,
    /// The invite that was asked for.
    pub invite: Option<Invite>,
}

/// Why a submission was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    NoSuchChannel(String),
    ChannelExists(String),
    NotAMember,
    /// Nobody in the channel goes by that name, or several do.
    NoSuchPerson(String),
    /// The actor is banned from the channel.
    Banned,
    /// The channel takes in only whom a member lets in.
    NotInvited,
    /// The permission that is missing.
    NotPermitted(&'static str),
    /// What is wrong with it.
    Malformed(&'static str),
    /// The link already carries another channel.
    LinkTaken(String),
    NoSuchLink,
    /// A bound of `base::limits`.
    Full(&'static str),
    Stopping,
}

impl Refusal {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchChannel(_) | Self::NoSuchLink | Self::NoSuchPerson(_) => Kind::NotFound,
            Self::ChannelExists(_) | Self::Malformed(_) | Self::LinkTaken(_) => Kind::Invalid,
            Self::NotAMember | Self::Banned | Self::NotInvited | Self::NotPermitted(_) => Kind::Denied,
            Self::Full(_) | Self::Stopping => Kind::Retry,
        }
    }
}

impl Refusal {
    /// A short name for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchChannel(_) => "no_such_channel",
            Self::ChannelExists(_) => "channel_exists",
            Self::NotAMember => "not_a_member",
            Self::NoSuchPerson(_) => "no_such_person",
            Self::Banned => "banned",
            Self::NotInvited => "not_invited",
            Self::NotPermitted(_) => "not_permitted",
            Self::Malformed(_) => "malformed",
            Self::LinkTaken(_) => "link_taken",
            Self::NoSuchLink => "no_such_link",
            Self::Full(_) => "full",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchChannel(name) => write!(f, "no channel {name} is known here"),
            Self::ChannelExists(name) => write!(f, "{name} exists already"),
            Self::NotAMember => f.write_str("not a member of the channel"),
            Self::NoSuchPerson(name) => write!(f, "{name} names nobody in the channel, or several"),
            Self::Banned => f.write_str("banned from the channel"),
            Self::NotInvited => f.write_str("the channel takes in only whom a member lets in"),
            Self::NotPermitted(permission) => write!(f, "not permitted: {permission}"),
            Self::Malformed(what) => f.write_str(what),
            Self::LinkTaken(name) => write!(f, "that place is linked to {name} already"),
            Self::NoSuchLink => f.write_str("there is no such link"),
            Self::Full(what) => write!(f, "too many {what}; try again later"),
            Self::Stopping => f.write_str("the node is stopping"),
        }
    }
}

impl std::error::Error for Refusal {}

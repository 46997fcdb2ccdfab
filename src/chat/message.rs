//! `message`: what somebody said in a channel.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | beside the sender's renewed access and renewed permissions with `send_message` |
//! | consumed | never |

use serde::{Deserialize, Serialize};

use super::access::Acting;
use super::facts::{self, Passage};
use super::permissions;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, limits};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// How a message is meant, in the terms both Matrix and IRC know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Style {
    /// Matrix `m.text`, IRC `PRIVMSG`.
    Text,
    /// Matrix `m.notice`, IRC `NOTICE`: from or for bots; never answered by a machine.
    Notice,
    /// Matrix `m.emote`, IRC `ACTION`.
    Emote,
}

/// The body of a message: the detachable part, deleted at expiry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    pub style: Style,
    /// Plain text, UTF-8, may have several lines; never empty.
    pub body: String,
    /// The same as Matrix HTML (`org.matrix.custom.html`), where the sender formatted it.
    pub formatted: Option<String>,
    /// The message this one answers.
    pub reply_to: Option<EventId>,
    /// Where it came in, if a bridge link carried it.
    pub origin: Option<Origin>,
}

/// Where a bridged message came from. A connector never returns a message to a link it came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    pub link: Link,
    /// The message's id on that side (a Matrix event id, an IRC msgid or one made for it); with
    /// `link` it names the message once and for all, so that it is taken in only once.
    pub external_id: String,
    /// When it was said there.
    pub said_at: Timestamp,
}

/// The far end of a bridge link, named so that two operators who bridge the same place say the
/// same: `Matrix` by room id, `Irc` by the network's address and the channel in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Link {
    Matrix { room: String },
    Irc { network: String, channel: String },
}

impl Content {
    /// Plain text.
    pub fn text(body: impl Into<String>) -> Self {
        Self { style: Style::Text, body: body.into(), formatted: None, reply_to: None, origin: None }
    }

    /// Whether it is within bounds: a body that is neither empty nor too long.
    pub fn is_well_formed(&self) -> bool {
        let within = |text: &str| text.len() <= limits::BODY_BYTES;
        !self.body.trim().is_empty() && within(&self.body) && self.formatted.as_deref().is_none_or(within)
    }
}

/// Messages of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
}

/// What a message resource carries; its body is named by hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    pub sender: Identity,
    pub content: Digest,
    pub timestamp: Timestamp,
}

/// The logic of `message`.
#[derive(Clone, Copy, Debug)]
pub struct MessageLogic;

impl ResourceLogic for MessageLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().message
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if acting.label.identity != value.sender {
            return Err(LogicError::denied("speak for another"));
        }
        if acting.authority.timestamp != value.timestamp {
            return Err(LogicError::invalid("a message has its event's time"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted {
            return Err(LogicError::invalid("a message is not consumed"));
        }
        if acting.passage != Passage::Renewed {
            return Err(LogicError::denied("speak without being a member"));
        }
        permissions::require(instance, |permissions| permissions.send_message, "send_message")
    }
}

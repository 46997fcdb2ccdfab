//! `message`: what somebody said in a channel, and what was said about it.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted, plain, reply or thread | by a member with `send_message` |
//! | minted, edit | by the author of what it edits, with `edit_message` |
//! | minted, reaction | with `react` |
//! | minted, redaction | by the author of what it takes back, with `redact_own`; by others with `redact_others` |
//! | consumed | never |
//!
//! What a message relates to lies in its past, and is itself a message. Text and origin are the event's
//! payload, which can be deleted; relation, expiry and flow label are in its signed header, so that
//! whoever verifies it sees them even after the text is gone.

use serde::{Deserialize, Serialize};

use super::access::Acting;
use super::attachment::Attachment;
use super::facts::{self, Passage};
use super::flow::Flow;
use super::permissions::{self, Permission};
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, codec, limits};
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

/// A message as doors hand it in and show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    pub style: Style,
    /// Plain text, UTF-8, may have several lines; never empty. Of a reaction, what it is: `👍`.
    pub body: String,
    /// The same as Matrix HTML (`org.matrix.custom.html`), where the sender formatted it.
    pub formatted: Option<String>,
    /// The file that it is, where it is one; `body` then tells of it in words.
    pub attachment: Option<Box<Attachment>>,
    /// Where it came in, if a bridge link carried it.
    pub origin: Option<Origin>,
    pub envelope: Envelope,
}

/// What the signed header says of a message.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Envelope {
    pub relation: Option<Relation>,
    /// When its text is to be deleted everywhere.
    pub expires: Option<Timestamp>,
    /// Where it may go; within the channel's policy.
    pub flow: Flow,
}

/// What a message has to do with another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Relation {
    Reply(EventId),
    /// In the thread that begins with `root`; `reply_to` is a hint, not checked.
    Thread {
        root: EventId,
        reply_to: Option<EventId>,
    },
    /// Stands in the place of the other from now on.
    Edit(EventId),
    Reaction(EventId),
}

impl Relation {
    /// The message it relates to.
    pub fn target(&self) -> EventId {
        match self {
            Self::Reply(target) | Self::Edit(target) | Self::Reaction(target) => *target,
            Self::Thread { root, .. } => *root,
        }
    }
}

/// The payload of a message event: the detachable part.
#[derive(Serialize, Deserialize)]
struct Payload {
    style: Style,
    body: String,
    formatted: Option<String>,
    attachment: Option<Box<Attachment>>,
    origin: Option<Origin>,
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
        let envelope = Envelope::default();
        Self {
            style: Style::Text,
            body: body.into(),
            formatted: None,
            attachment: None,
            origin: None,
            envelope,
        }
    }

    /// The message that this one answers, if it answers one.
    pub fn reply_to(&self) -> Option<EventId> {
        match self.envelope.relation? {
            Relation::Reply(target) => Some(target),
            Relation::Thread { root, reply_to } => Some(reply_to.unwrap_or(root)),
            Relation::Edit(_) | Relation::Reaction(_) => None,
        }
    }

    /// As an answer to another message.
    #[must_use]
    pub fn replying(mut self, to: Option<EventId>) -> Self {
        self.envelope.relation = to.map(Relation::Reply);
        self
    }

    /// The bytes of its payload.
    pub fn payload(&self) -> Vec<u8> {
        let Self { style, body, formatted, attachment, origin, envelope: _ } = self.clone();
        codec::encode(&Payload { style, body, formatted, attachment, origin })
    }

    /// What a payload says, for search; `None` if it is none.
    pub fn body_of(payload: &[u8]) -> Option<String> {
        codec::decode::<Payload>(payload, limits::PAYLOAD_BYTES).ok().map(|payload| payload.body)
    }

    /// A message as its event carries it; `None` if the payload is none or out of bounds.
    pub fn read(payload: &[u8], envelope: &Envelope) -> Option<Self> {
        let Payload { style, body, formatted, attachment, origin } =
            codec::decode(payload, limits::PAYLOAD_BYTES).ok()?;
        let content = Self { style, body, formatted, attachment, origin, envelope: envelope.clone() };
        content.is_well_formed().then_some(content)
    }

    /// Whether it is within bounds: a body that is neither empty nor too long.
    pub fn is_well_formed(&self) -> bool {
        let within = |text: &str| text.len() <= limits::BODY_BYTES;
        let reacts = matches!(self.envelope.relation, Some(Relation::Reaction(_)));
        !self.body.trim().is_empty()
            && within(&self.body)
            && self.formatted.as_deref().is_none_or(within)
            && self.attachment.as_ref().is_none_or(|attachment| attachment.is_well_formed())
            && (!reacts || self.body.len() <= limits::REACTION_BYTES)
    }
}

impl Envelope {
    /// What it takes to send it.
    pub fn permission(&self) -> Permission {
        match self.relation {
            None | Some(Relation::Reply(_) | Relation::Thread { .. }) => Permission::SendMessage,
            Some(Relation::Edit(_)) => Permission::EditMessage,
            Some(Relation::Reaction(_)) => Permission::React,
        }
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
    /// The hash of the payload; of nothing in a redaction.
    pub content: Digest,
    pub timestamp: Timestamp,
    pub says: Says,
}

/// What a message resource is: something said, or something about what another said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Says {
    Words,
    /// The author of what is edited.
    Edit(Identity),
    Reaction,
    /// The author of what is taken back.
    Redaction(Identity),
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
        match value.says {
            Says::Words => permissions::require(instance, Permission::SendMessage),
            Says::Reaction => permissions::require(instance, Permission::React),
            Says::Edit(author) if author != value.sender => Err(LogicError::denied("edit what another said")),
            Says::Edit(_) => permissions::require(instance, Permission::EditMessage),
            Says::Redaction(author) if author == value.sender => {
                permissions::require(instance, Permission::RedactOwn)
            }
            Says::Redaction(_) => permissions::require(instance, Permission::RedactOthers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_holds_the_text_and_the_header_the_rest() {
        let mut content = Content::text("hi").replying(Some(EventId([1; 32])));
        content.envelope.expires = Some(Timestamp(9));
        assert_eq!(Content::read(&content.payload(), &content.envelope), Some(content.clone()));
        assert_eq!(Content::read(&content.payload(), &Envelope::default()), Some(Content::text("hi")));
        assert_eq!(Content::read(&Content::text(" ").payload(), &Envelope::default()), None);
        assert_eq!(Content::read(b"?", &Envelope::default()), None);
        content.envelope.relation = Some(Relation::Reaction(EventId([1; 32])));
        content.body = "x".repeat(limits::REACTION_BYTES + 1);
        assert!(!content.is_well_formed());
    }
}

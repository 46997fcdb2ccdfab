//! What passes over the control socket, as values. Names are spelled as a person types them; what
//! an answer holds is exactly what `--json` prints.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::market::{BadAmount, MarketReport, MarketWish};
use super::place::Place;
use super::reports::{ChannelReport, ChannelSummary, MessageReport, StatusReport};
use crate::base::{ChannelId, Kind};
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::Content;
use crate::chat::name::{BadName, ChannelName};
use crate::chat::profile::Profile;

/// One request, such as `{"do":"send","channel":"#rust","text":"hello"}`. A channel is a name with
/// or without its `#`, or an id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The node about itself.
    Status,
    /// Every channel, without members.
    Channels,
    /// One channel with its members.
    Channel {
        channel: String,
    },
    Create {
        channel: String,
        #[serde(default)]
        topic: String,
        /// Who acts; the node's own user if left out.
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    Join {
        channel: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    Leave {
        channel: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    Send {
        channel: String,
        text: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Issue, give or swap tokens and tickets.
    Market {
        channel: String,
        wish: MarketWish,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// What is owned in a channel, and what waits there.
    MarketOf {
        channel: String,
    },
    /// Bring intents that balance together, in one channel or in all.
    Solve {
        #[serde(default)]
        channel: Option<String>,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Bridge a channel to a place.
    Link {
        channel: String,
        place: Place,
    },
    Unlink {
        place: Place,
    },
    /// The newest messages, or the newest before an event.
    History {
        channel: String,
        #[serde(default)]
        before: Option<String>,
        limit: usize,
    },
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(StatusReport),
    Channels(Vec<ChannelSummary>),
    Channel(ChannelReport),
    History(Vec<MessageReport>),
    Market(MarketReport),
    /// It is durable.
    Done(Done),
    Refused(Refused),
}

/// A wish that was carried out, or that was so already (then without an event).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub channel: Option<String>,
    pub event: Option<String>,
}

/// Why not, in one line with what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub kind: Kind,
    pub reason: String,
}

impl Request {
    /// The channel it names.
    pub(super) fn channel(&self) -> Option<&str> {
        match self {
            Self::Channel { channel }
            | Self::Create { channel, .. }
            | Self::Join { channel, .. }
            | Self::Leave { channel, .. }
            | Self::Send { channel, .. }
            | Self::Link { channel, .. }
            | Self::Market { channel, .. }
            | Self::MarketOf { channel }
            | Self::History { channel, .. } => Some(channel),
            Self::Solve { channel, .. } => channel.as_deref(),
            Self::Status | Self::Channels | Self::Unlink { .. } => None,
        }
    }

    /// Who acts, if not the node's own user.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Create { user, .. }
            | Self::Join { user, .. }
            | Self::Leave { user, .. }
            | Self::Market { user, .. }
            | Self::Solve { user, .. }
            | Self::Send { user, .. } => user.as_deref(),
            _ => None,
        }
    }

    /// The wish in it; `None` for a question.
    pub(super) fn into_submission(self) -> Result<Option<Submission>, BadRequest> {
        let (user, intent) = match self {
            Self::Create { channel, topic, user } => (
                user,
                Intent::CreateChannel {
                    name: with_hash(&channel).parse::<ChannelName>().map_err(BadRequest::Name)?,
                    topic,
                },
            ),
            Self::Join { channel, user } => {
                (user, Intent::JoinChannel { channel: channel_ref(&channel), create: false })
            }
            Self::Leave { channel, user } => {
                (user, Intent::LeaveChannel { channel: channel_ref(&channel), reason: String::new() })
            }
            Self::Send { channel, text, user } => {
                let content = Content::text(text);
                (user, Intent::SendMessage { channel: channel_ref(&channel), content })
            }
            Self::Link { channel, place } => {
                (None, Intent::Link { channel: channel_ref(&channel), link: place.into(), create: false })
            }
            Self::Unlink { place } => (None, Intent::Unlink { link: place.into() }),
            Self::Market { channel, wish, user } => {
                let wish = wish.into_wish().map_err(BadRequest::Amount)?;
                (user, Intent::Market { channel: channel_ref(&channel), wish })
            }
            Self::Solve { channel, user } => {
                (user, Intent::Solve { channel: channel.as_deref().map(channel_ref) })
            }
            Self::Status
            | Self::Channels
            | Self::Channel { .. }
            | Self::MarketOf { .. }
            | Self::History { .. } => return Ok(None),
        };
        Ok(Some(Submission { actor: actor(user), intent, via: None, join_first: false, tag: 0 }))
    }
}

/// Why a request is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum BadRequest {
    Name(BadName),
    Amount(BadAmount),
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Amount(error) => error.fmt(f),
        }
    }
}

/// The name as the node keeps it: with `#` (which a shell takes for a comment), in lower case.
pub(super) fn with_hash(name: &str) -> String {
    let name = name.to_lowercase();
    if name.starts_with('#') { name } else { format!("#{name}") }
}

/// An id as it is, a name as the node keeps it.
pub(super) fn as_named(text: &str) -> String {
    match channel_ref(text) {
        ChannelRef::Id(id) => id.to_string(),
        ChannelRef::Name(name) => name,
    }
}

fn channel_ref(text: &str) -> ChannelRef {
    match text.parse::<ChannelId>() {
        Ok(id) => ChannelRef::Id(id),
        Err(_) => ChannelRef::Name(with_hash(text)),
    }
}

/// The person with that account: `carol`, `@alice:example.org` or `bob@irc.libera.chat`. How they look
/// is for the node to know; the command line only borrows their voice.
fn actor(user: Option<String>) -> Actor {
    match user {
        Some(account) => Actor::Person { account, profile: Profile::default() },
        None => Actor::Node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() {
        let check = |json: &str, request: Request| {
            assert_eq!(serde_json::from_str::<Request>(json).expect(json), request);
            let again = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&again).unwrap(), request);
        };
        check(r#"{"do":"status"}"#, Request::Status);
        check(
            r##"{"do":"send","channel":"#a","text":"hi","as":"carol"}"##,
            Request::Send { channel: "#a".into(), text: "hi".into(), user: Some("carol".into()) },
        );
        check(
            r##"{"do":"unlink","place":{"irc":{"network":"h:1","channel":"#a"}}}"##,
            Request::Unlink { place: Place::Irc { network: "h:1".into(), channel: "#a".into() } },
        );
        check(
            r#"{"do":"history","channel":"a","limit":3}"#,
            Request::History { channel: "a".into(), before: None, limit: 3 },
        );
        for bad in ["", "{}", r#"{"do":"fly"}"#, r#"{"do":"join"}"#, r#"{"do":"join","channel":"a","x":1}"#] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_are_known_by_their_account() {
        for account in ["carol", "@alice:example.org", "bob@irc.libera.chat"] {
            let person = Actor::Person { account: account.into(), profile: Profile::default() };
            assert_eq!(actor(Some(account.into())), person);
        }
        assert_eq!(actor(None), Actor::Node);
    }

    #[test]
    fn channels_go_by_name_with_or_without_hash_or_by_id() {
        assert_eq!(channel_ref("Rust"), ChannelRef::Name("#rust".into()));
        assert_eq!(channel_ref("#rust~k3f9"), ChannelRef::Name("#rust~k3f9".into()));
        let id = ChannelId([7; 32]);
        assert_eq!(channel_ref(&id.to_string()), ChannelRef::Id(id));
    }
}

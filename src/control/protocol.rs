//! What passes over the control socket, as values. Names are spelled as a person types them; what
//! an answer holds is exactly what `--json` prints.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::market::{BadAmount, MarketReport, MarketWish};
use super::place::Place;
use super::reports::{ChannelReport, ChannelSummary, FoundReport, MessageReport, StatusReport};
use crate::base::config::Topology;
use crate::base::{ChannelId, Identity, Kind, Timestamp};
use crate::chat::act::Standing;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::invite::Invite;
use crate::chat::message::Content;
use crate::chat::name::{BadName, ChannelName};
use crate::chat::profile::Profile;
use crate::chat::view::{ChannelView, Member};
use crate::chat::wording::{self, BadSetting};
use crate::overlay::domain::DomainReport;

/// One request, such as `{"do":"send","channel":"#rust","text":"hello"}`. A channel is a name with
/// or without its `#`, or an id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The node about itself.
    Status,
    /// Every channel, without members.
    Channels,
    /// The domains it is in.
    Domains,
    /// Make an invite into a domain that this node founded.
    InviteToDomain {
        domain: String,
        #[serde(default)]
        expires_at_ms: Option<u64>,
    },
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
        /// When it is to be deleted everywhere, in milliseconds since the Unix epoch.
        #[serde(default)]
        expires_at_ms: Option<u64>,
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
    /// Give somebody a role.
    Grant {
        channel: String,
        who: String,
        role: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Take a role from somebody, or put them out.
    Revoke {
        channel: String,
        who: String,
        then: Then,
        #[serde(default)]
        reason: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Change a setting: see `chat::wording`.
    Policy {
        channel: String,
        setting: String,
        values: Vec<String>,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Make an invite link.
    Invite {
        channel: String,
        role: String,
        #[serde(default)]
        expires_at_ms: Option<u64>,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Found a successor and close the channel.
    Upgrade {
        channel: String,
        #[serde(default, rename = "as")]
        user: Option<String>,
    },
    /// Messages that hold all of these words.
    Search {
        words: String,
        #[serde(default)]
        channel: Option<String>,
        limit: usize,
    },
    /// Copy the store to a new file.
    Backup {
        path: String,
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

/// What somebody is after a revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    Kicked,
    Banned,
    Unbanned,
    /// Still in, in this role.
    Demoted(String),
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(StatusReport),
    Channels(Vec<ChannelSummary>),
    Domains(Vec<DomainReport>),
    DomainInvite(DomainInvite),
    Channel(ChannelReport),
    History(Vec<MessageReport>),
    Market(MarketReport),
    /// Newest first.
    Found(Vec<FoundReport>),
    /// It is durable.
    Done(Done),
    Refused(Refused),
}

/// A wish that was carried out, or that was so already (then without an event).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub channel: Option<String>,
    pub event: Option<String>,
    /// Sinks it did not go to, for the channel or the message does not let it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
    /// The invite link that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// An invite into a domain, and what a guest needs beside it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainInvite {
    pub domain: String,
    pub topology: Topology,
    pub invite: String,
    /// Where the guest finds this node.
    pub addresses: Vec<String>,
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
            | Self::Grant { channel, .. }
            | Self::Revoke { channel, .. }
            | Self::Policy { channel, .. }
            | Self::Invite { channel, .. }
            | Self::Upgrade { channel, .. }
            | Self::Link { channel, .. }
            | Self::Market { channel, .. }
            | Self::MarketOf { channel }
            | Self::History { channel, .. } => Some(channel),
            Self::Solve { channel, .. } | Self::Search { channel, .. } => channel.as_deref(),
            Self::Status
            | Self::Channels
            | Self::Domains
            | Self::InviteToDomain { .. }
            | Self::Unlink { .. }
            | Self::Backup { .. } => None,
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
            | Self::Grant { user, .. }
            | Self::Revoke { user, .. }
            | Self::Policy { user, .. }
            | Self::Invite { user, .. }
            | Self::Upgrade { user, .. }
            | Self::Send { user, .. } => user.as_deref(),
            _ => None,
        }
    }

    /// The wish in it; `None` for a question. `view` is the channel it names, if this node has it: what
    /// roles are called and who is who is the channel's own.
    pub(super) fn into_submission(self, view: Option<&ChannelView>) -> Result<Option<Submission>, Unclear> {
        let policy = view.map(|view| view.policy.clone()).unwrap_or_default();
        let role = |name: &str| policy.role_named(name).ok_or_else(|| Unclear::Role(name.to_owned()));
        let (user, intent) = match self {
            Self::Create { channel, topic, user } => {
                let name = with_hash(&channel).parse::<ChannelName>().map_err(Unclear::Name)?;
                (user, Intent::CreateChannel { name, topic })
            }
            Self::Join { channel, user } => match channel.parse::<Invite>() {
                Ok(invite) => (user, Intent::UseInvite { invite }),
                Err(_) => (user, Intent::JoinChannel { channel: channel_ref(&channel), create: false }),
            },
            Self::Leave { channel, user } => {
                (user, Intent::LeaveChannel { channel: channel_ref(&channel), reason: String::new() })
            }
            Self::Send { channel, text, expires_at_ms, user } => {
                let mut content = Content::text(text);
                content.envelope.expires = expires_at_ms.map(Timestamp);
                (user, Intent::SendMessage { channel: channel_ref(&channel), content })
            }
            Self::Grant { channel, who, role: name, user } => {
                let (channel, subject, role) = (channel_ref(&channel), subject(&who), role(&name)?);
                (user, Intent::GrantRole { channel, subject, role })
            }
            Self::Revoke { channel, who, then, reason, user } => {
                let then = match then {
                    Then::Kicked => Standing::Out,
                    Then::Banned => Standing::Banned,
                    Then::Unbanned => Standing::Free,
                    Then::Demoted(name) => Standing::Demoted(role(&name)?),
                };
                let (channel, subject) = (channel_ref(&channel), subject(&who));
                (user, Intent::RevokeRole { channel, subject, then, reason })
            }
            Self::Policy { channel, setting, values, user } => {
                let who = |name: &str| view.and_then(|view| person(view, name));
                let change = wording::change(&setting, &values, &policy, who).map_err(Unclear::Setting)?;
                (user, Intent::UpdateChannel { channel: channel_ref(&channel), change })
            }
            Self::Invite { channel, role: name, expires_at_ms, user } => {
                let (channel, role) = (channel_ref(&channel), role(&name)?);
                (user, Intent::Invite { channel, role, expires: expires_at_ms.map(Timestamp) })
            }
            Self::Upgrade { channel, user } => (user, Intent::Upgrade { channel: channel_ref(&channel) }),
            Self::Link { channel, place } => {
                (None, Intent::Link { channel: channel_ref(&channel), link: place.into(), create: false })
            }
            Self::Unlink { place } => (None, Intent::Unlink { link: place.into() }),
            Self::Market { channel, wish, user } => {
                let wish = wish.into_wish().map_err(Unclear::Amount)?;
                (user, Intent::Market { channel: channel_ref(&channel), wish })
            }
            Self::Solve { channel, user } => {
                (user, Intent::Solve { channel: channel.as_deref().map(channel_ref) })
            }
            Self::Status
            | Self::Channels
            | Self::Domains
            | Self::InviteToDomain { .. }
            | Self::Channel { .. }
            | Self::MarketOf { .. }
            | Self::History { .. }
            | Self::Search { .. }
            | Self::Backup { .. } => return Ok(None),
        };
        Ok(Some(Submission { actor: actor(user), intent, via: None, join_first: false, tag: 0 }))
    }
}

/// Why a request is no wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unclear {
    Name(BadName),
    /// No role of the channel is called that.
    Role(String),
    Setting(BadSetting),
    Amount(BadAmount),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(bad) => bad.fmt(f),
            Self::Role(name) => {
                write!(f, "`{name}` is no role: admin, moderator, member, or one of the channel's own")
            }
            Self::Setting(bad) => bad.fmt(f),
            Self::Amount(bad) => bad.fmt(f),
        }
    }
}

/// Somebody as they were typed: an identity, an account or a name.
fn subject(who: &str) -> Subject {
    match who.parse() {
        Ok(identity) => Subject::Identity(identity),
        Err(_) => Subject::Name(who.to_owned()),
    }
}

/// The one person of a channel that goes by this.
fn person(view: &ChannelView, name: &str) -> Option<Identity> {
    if let Ok(identity) = name.parse() {
        return Some(identity);
    }
    let goes_by =
        |member: &&Member| member.profile.home == name || member.profile.username.eq_ignore_ascii_case(name);
    let mut found = view.members.iter().filter(goes_by);
    found.next().filter(|_| found.next().is_none()).map(|member| member.identity)
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

pub(super) fn channel_ref(text: &str) -> ChannelRef {
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
            Request::Send {
                channel: "#a".into(),
                text: "hi".into(),
                expires_at_ms: None,
                user: Some("carol".into()),
            },
        );
        check(
            r#"{"do":"revoke","channel":"a","who":"eve","then":{"demoted":"member"}}"#,
            Request::Revoke {
                channel: "a".into(),
                who: "eve".into(),
                then: Then::Demoted("member".into()),
                reason: String::new(),
                user: None,
            },
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

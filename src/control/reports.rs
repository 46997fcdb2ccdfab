//! What the node says, in the form that goes over the socket and out of `--json`: ids as text,
//! times in milliseconds since the Unix epoch.

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::chat::act::Standing;
use crate::chat::message::Style;
use crate::chat::policy::Policy;
use crate::chat::view::{ChannelView, Member, News, What};
use crate::chat::wording;
use crate::port::{Exports, NodeStatus};

/// The node about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    pub node: String,
    pub peers: Vec<String>,
    pub channels: usize,
    pub events: u64,
    /// Events that wait for their past.
    pub pending_events: usize,
    pub outbox: Vec<DoorReport>,
    pub refused: Vec<RefusedReport>,
    /// Messages that went to the far sides of links, and those kept from them.
    pub exports: Vec<ExportReport>,
    /// Who carries the channels of IRC networks that several nodes hold.
    pub carriers: Vec<CarrierReport>,
    /// Messages held without their text, which is asked for.
    pub wanted_texts: usize,
    /// Equal on nodes that hold the same.
    pub state_root: String,
}

/// Deliveries that wait for one door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorReport {
    pub door: String,
    pub waiting: usize,
}

/// What was refused, by reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedReport {
    pub reason: String,
    pub count: u64,
}

/// What went to one sink since the node started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportReport {
    pub sink: String,
    pub carried: u64,
    /// Not carried, for the channel or the message does not let it.
    pub withheld: u64,
}

/// Who carries a channel of an IRC network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CarrierReport {
    /// Network and channel.
    pub link: String,
    /// `this node`, or the nick of another.
    pub carrier: String,
}

/// A message that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FoundReport {
    pub channel: String,
    pub message: MessageReport,
}

/// A channel without its members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelSummary {
    pub name: String,
    pub id: String,
    pub topic: String,
    pub created_at_ms: u64,
    pub members: usize,
    pub links: Vec<Place>,
}

/// A channel with its members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelReport {
    pub name: String,
    pub id: String,
    pub topic: String,
    pub created_at_ms: u64,
    /// Who may join and whatever else is not as it is by default: setting and value.
    pub policy: Vec<(String, String)>,
    pub members: Vec<MemberReport>,
    pub links: Vec<Place>,
}

/// Somebody in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    /// The name to show.
    pub name: String,
    pub username: String,
    /// Where a bridged person is from; empty for a native one.
    pub home: String,
    pub role: String,
    pub identity: String,
}

/// Something that happened in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MessageReport {
    pub event: String,
    pub at_ms: u64,
    pub author: MemberReport,
    /// `text`, `notice`, `emote`, `created`, `joined`, `left`, `topic`, `profile`, `linked` or
    /// `unlinked`.
    pub kind: String,
    /// The body, the reason, the topic, the name before, or the place.
    pub text: String,
}

impl From<NodeStatus> for StatusReport {
    fn from(status: NodeStatus) -> Self {
        Self {
            node: status.node.to_string(),
            peers: status.peers.iter().map(ToString::to_string).collect(),
            channels: status.channels,
            events: status.events,
            pending_events: status.pending_events,
            outbox: status.outbox.into_iter().map(|(door, waiting)| DoorReport { door, waiting }).collect(),
            refused: status
                .refused
                .into_iter()
                .map(|(reason, count)| RefusedReport { reason, count })
                .collect(),
            exports: status
                .exports
                .into_iter()
                .map(|Exports { sink, carried, withheld }| ExportReport { sink, carried, withheld })
                .collect(),
            carriers: status
                .carriers
                .into_iter()
                .map(|(link, carrier)| CarrierReport { link, carrier })
                .collect(),
            wanted_texts: status.wanted_texts,
            state_root: status.state_root.to_string(),
        }
    }
}

impl From<&ChannelView> for ChannelSummary {
    fn from(view: &ChannelView) -> Self {
        Self {
            name: view.name.clone(),
            id: view.id.to_string(),
            topic: view.topic.clone(),
            created_at_ms: view.created_at.0,
            members: view.members.len(),
            links: view.links.iter().map(Place::from).collect(),
        }
    }
}

impl From<&ChannelView> for ChannelReport {
    fn from(view: &ChannelView) -> Self {
        Self {
            name: view.name.clone(),
            id: view.id.to_string(),
            topic: view.topic.clone(),
            created_at_ms: view.created_at.0,
            policy: wording::policy_lines(&view.policy),
            members: view
                .members
                .iter()
                .map(|member| MemberReport::in_channel(member, &view.policy))
                .collect(),
            links: view.links.iter().map(Place::from).collect(),
        }
    }
}

impl MemberReport {
    /// With the role under the name that the channel gave it.
    fn in_channel(member: &Member, policy: &Policy) -> Self {
        Self { role: policy.role_name(member.role), ..Self::from(member) }
    }
}

impl From<&Member> for MemberReport {
    fn from(member: &Member) -> Self {
        Self {
            name: member.profile.name().to_owned(),
            username: member.profile.username.clone(),
            home: member.profile.home.clone(),
            role: member.role.name().to_owned(),
            identity: member.identity.to_string(),
        }
    }
}

impl From<&News> for FoundReport {
    fn from(news: &News) -> Self {
        Self { channel: news.channel_name.clone(), message: MessageReport::from(news) }
    }
}

impl From<&News> for MessageReport {
    fn from(news: &News) -> Self {
        let (kind, text) = match &news.what {
            What::Message(content) => {
                let kind = match content.style {
                    Style::Text => "text",
                    Style::Notice => "notice",
                    Style::Emote => "emote",
                };
                (kind, content.body.clone())
            }
            What::Created => ("created", String::new()),
            What::Joined => ("joined", String::new()),
            What::Left { reason } => ("left", reason.clone()),
            What::Topic(topic) => ("topic", topic.clone()),
            What::Profile { before } => ("profile", before.name().to_owned()),
            What::Granted { subject, role } => {
                ("granted", format!("{}: {}", subject.profile.name(), role.name()))
            }
            What::Revoked { subject, then, reason } => {
                let kind = match then {
                    Standing::Out => "kicked",
                    Standing::Banned => "banned",
                    Standing::Demoted(_) => "demoted",
                    Standing::Free => "unbanned",
                };
                (kind, format!("{} ({reason})", subject.profile.name()))
            }
            What::Withdrawn => ("withdrawn", String::new()),
            What::Redacted { target, reason, .. } => ("redacted", format!("{target} ({reason})")),
            What::Changed(change) => {
                let (setting, value) = wording::change_words(change);
                ("changed", format!("{setting} {value}"))
            }
            What::Knocked { reason } => ("knocked", reason.clone()),
            What::Unknown { logic } => ("unknown", logic.to_string()),
            What::Linked(link) => ("linked", Place::from(link).to_string()),
            What::Unlinked(link) => ("unlinked", Place::from(link).to_string()),
        };
        Self {
            event: news.event.to_string(),
            at_ms: news.at.0,
            author: MemberReport::from(&news.author),
            kind: kind.into(),
            text,
        }
    }
}

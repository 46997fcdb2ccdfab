//! Events as the news doors show.

use super::StoredEvent;
use super::directory::{Channel, Directory};
use crate::base::{EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::channel::Change;
use crate::chat::message::{Content, Link};
use crate::chat::profile::Profile;
use crate::chat::view::{Member, News, What};
use crate::replica::Event;

/// What distinguishes fresh news from old.
#[derive(Default)]
pub(super) struct Fresh {
    pub tag: u64,
    pub profile_before: Option<Profile>,
    pub subject_before: Option<Member>,
}

/// The news of an event that has just been taken into its channel. `None` if its message cannot
/// be read.
pub(super) fn of_event(
    channel: &Channel,
    event: &Event,
    payload: Option<&[u8]>,
    position: u64,
    fresh: Fresh,
) -> Option<News> {
    let id = event.id();
    let identity = channel.replica.lane_of(&id)?.identity;
    let author = member(channel, identity);
    let mut at = event.header.timestamp;
    let subject = |identity: &Identity| member(channel, *identity);
    let what = match &event.header.act {
        _ if !channel.replica.is_effective(&id) => What::Withdrawn,
        Act::CreateChannel { .. } => What::Created,
        // What people own is asked for, not told to a chat.
        Act::Settle { .. } => return None,
        Act::JoinChannel(_) | Act::RedeemTicket { .. } => What::Joined,
        Act::LeaveChannel { reason } => What::Left { reason: reason.clone() },
        Act::UpdateChannel(Change::Topic(topic)) => What::Topic(topic.clone()),
        Act::UpdateChannel(change) => What::Changed(change.clone()),
        Act::Knock { reason, .. } => What::Knocked { reason: reason.clone() },
        Act::Extension { logic, .. } => What::Unknown { logic: *logic },
        // Providers are shown in reports, not in the conversation.
        Act::CommitService(_) | Act::Anchor(_) | Act::AddChannel { .. } => return None,
        Act::RedactMessage { target, reason } => {
            let sender = channel.replica.author_of(target)?;
            What::Redacted { target: *target, sender, reason: reason.clone() }
        }
        Act::GrantRole { subject: to, role, .. } => What::Granted { subject: subject(to), role: *role },
        Act::RevokeRole { subject: of, then, reason } => {
            let subject = fresh.subject_before.unwrap_or_else(|| subject(of));
            What::Revoked { subject, then: *then, reason: reason.clone() }
        }
        Act::UpdateProfile { .. } => {
            let before = fresh.profile_before.unwrap_or_else(|| author.profile.clone());
            What::Profile { before }
        }
        Act::SendMessage(envelope) => {
            let content = Content::read(payload?, envelope)?;
            at = said_at(&content, at);
            What::Message(content)
        }
    };
    Some(News {
        event: id,
        channel: channel.replica.id(),
        channel_name: channel.name.clone(),
        position,
        at,
        author,
        tag: fresh.tag,
        what,
    })
}

/// The news of an event as it lies in the log.
pub(super) fn of_stored(directory: &Directory, now: Timestamp, stored: &StoredEvent) -> Option<News> {
    let event = Event::decode_trusted(&stored.signed).ok()?;
    let channel = directory.get(&stored.channel)?;
    if channel.is_over(&event, now) {
        return None;
    }
    of_event(channel, &event, stored.payload.as_deref(), stored.position, Fresh::default())
}

/// News of this node alone: a link came or went.
pub(super) fn of_link(
    channel: &Channel,
    node: Member,
    position: u64,
    at: Timestamp,
    link: &Link,
    up: bool,
) -> News {
    News {
        event: EventId(channel.replica.id().0),
        channel: channel.replica.id(),
        channel_name: channel.name.clone(),
        position,
        at,
        author: node,
        tag: 0,
        what: if up { What::Linked(link.clone()) } else { What::Unlinked(link.clone()) },
    }
}

fn member(channel: &Channel, identity: Identity) -> Member {
    channel.replica.state().person(&identity).unwrap_or(Member {
        identity,
        role: Role::Member,
        profile: Profile::default(),
    })
}

/// A bridged message was said when its origin says so, unless that lies in the future of the event.
fn said_at(content: &Content, event_at: Timestamp) -> Timestamp {
    content.origin.as_ref().map_or(event_at, |origin| origin.said_at.min(event_at))
}

//! What IRC can say of a channel's own policy, which binds everybody in it: `t` is whether members
//! may set the topic. And taking messages back.

use super::{Hub, Request, Room, shorten};
use crate::base::{ChannelId, EventId, Identity};
use crate::chat::access::Role;
use crate::chat::channel::{Change, RoleRule};
use crate::chat::intent::{ChannelRef, Intent};
use crate::chat::permissions::{Permission, Permissions};
use crate::chat::policy::Policy;
use crate::chat::view::News;
use crate::irc::proto::isupport::REASON_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::modes;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;

/// Nobody in particular: policy asked of it is that of the role alone.
const NOBODY: Identity = Identity([0; 32]);

/// Whether members set the topic.
pub(super) fn topic_is_open(policy: &Policy) -> bool {
    policy.permissions(Role::Member, &NOBODY).allow(Permission::SetTopic)
}

impl Room {
    /// Shows as a mode what the policy says.
    pub(super) fn follow_policy(&mut self) {
        match topic_is_open(&self.policy) {
            true => self.modes.flags.remove(&'t'),
            false => self.modes.flags.insert('t'),
        };
    }
}

impl Hub {
    /// `MODE +t` and `-t`: who sets the topic is for the channel to say; what else the line asks for is
    /// done when it has.
    pub(super) fn change_topic_right(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        add: bool,
        beside: Vec<modes::Change>,
    ) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let name = room.name.clone();
        let mut rule: RoleRule = room.policy.roles.get(&Role::Member).cloned().unwrap_or_default();
        let topic = Permissions::of(&[Permission::SetTopic]);
        (rule.rule.allow, rule.rule.deny) = match add {
            true => (rule.rule.allow.without(topic), rule.rule.deny),
            false => (rule.rule.allow.with(topic), rule.rule.deny.without(topic)),
        };
        let change = Change::Role { role: Role::Member, rule };
        let channel = ChannelRef::Id(channel);
        self.submit(client, Wanted::Policy, &name, Intent::UpdateChannel { channel, change });
        if let Some(request) = self.requests.get_mut(&self.last_tag) {
            request.beside = beside;
        }
    }

    /// The channel has not decided as the client asked: what stood beside that is done now.
    pub(super) fn do_beside(&mut self, request: &Request) {
        let found = self.room(&request.target).map(|(id, _)| id);
        if let Some(channel) = found.filter(|_| !request.beside.is_empty()) {
            self.carry_out(request.client, channel, request.beside.clone(), None);
        }
    }

    /// A setting changed.
    pub(super) fn policy_changed(&mut self, news: &News, change: &Change, request: Option<&Request>) {
        let prefix = self.prefix(&news.author);
        let Some(room) = self.rooms.get_mut(&news.channel) else { return };
        let before = topic_is_open(&room.policy);
        room.policy.apply(change);
        let open = topic_is_open(&room.policy);
        room.follow_policy();
        let decided = (before != open).then_some(modes::Change { add: !open, mode: 't', argument: None });
        if let Some(request) = request.filter(|request| self.person_of(request.client).is_some()) {
            return self.carry_out(request.client, news.channel, request.beside.clone(), decided);
        }
        if decided.is_none() {
            return;
        }
        let line = Line::from(prefix, "MODE").param(news.channel_name.as_str());
        let line = line.param(if open { "-t" } else { "+t" });
        self.tell_room_of(news.channel, &line, Some(&news.author.identity));
    }

    /// `REDACT <target> <msgid> [reason]` (draft/message-redaction).
    pub(super) fn redact(&mut self, client: ClientId, line: &Line) {
        let (target, id) = (line.params[0].clone(), line.params[1].clone());
        let reason = line.params.get(2).map(|reason| shorten(reason, REASON_BYTES)).unwrap_or_default();
        if !target.starts_with('#') {
            return self.redact_direct(client, (&target, &id), &reason);
        }
        let room = self.room(&target).filter(|(_, room)| room.attached.contains(&client));
        let Some((channel, _)) = room else {
            let why = "You are not on such a channel";
            return self.standard(client, "FAIL", &["REDACT", "INVALID_TARGET", &target], why);
        };
        let Ok(event) = id.parse::<EventId>() else {
            let why = "There is no such message";
            return self.standard(client, "FAIL", &["REDACT", "UNKNOWN_MSGID", &target, &id], why);
        };
        let channel = ChannelRef::Id(channel);
        let intent = Intent::RedactMessage { channel, target: event, reason };
        self.submit(client, Wanted::Redact(id), &target, intent);
    }
}

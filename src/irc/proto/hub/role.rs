//! Roles, which show as prefixes, and what takes somebody out of a channel: KICK, and the modes
//! `q a o`, as wishes to the node. They bind everybody in the channel, wherever they are.

use super::{Hub, shorten};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::intent::{ChannelRef, Intent, Subject};
use crate::chat::view::Member;
use crate::irc::proto::isupport::REASON_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::{self, Face};
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;

/// People that one KICK may name.
const KICKED_PER_LINE: usize = 20;

/// The lowest rank that shows as `%`, and that `+h` gives.
const HALF_RANK: u16 = 500;

/// How a role shows before a nick.
pub(super) fn sign(role: Role) -> &'static str {
    match role {
        Role::Founder => "~",
        Role::Admin => "&",
        Role::Moderator => "@",
        Role::Custom(rank) if rank < 100 => "&",
        Role::Custom(rank) if rank <= HALF_RANK => "%",
        Role::Custom(rank) if rank < 1000 => "+",
        Role::Member | Role::Custom(_) => "",
    }
}

/// The mode letter of a role.
pub(super) fn letter(role: Role) -> Option<char> {
    match role {
        Role::Founder => Some('q'),
        Role::Admin => Some('a'),
        Role::Moderator => Some('o'),
        Role::Custom(rank) if rank < 100 => Some('a'),
        Role::Custom(rank) if rank <= HALF_RANK => Some('h'),
        Role::Custom(rank) if rank < 1000 => Some('v'),
        Role::Member | Role::Custom(_) => None,
    }
}

impl Hub {
    /// The role a member is shown with: who does not stay is shown as a moderator, whatever
    /// they founded: they run the channel while they are there.
    pub(super) fn shown_role(&self, member: &Member) -> Role {
        let passing = self.local(&member.identity).is_some()
            && self.persons.get(&member.identity).is_some_and(|person| !self.stays(person));
        if passing && member.role < Role::Moderator { Role::Moderator } else { member.role }
    }

    /// A change of role as a MODE line: `-a+o nick nick`.
    pub(super) fn role_line(
        &self,
        channel: &str,
        by: &Member,
        subject: &Member,
        (before, after): (Role, Role),
    ) -> Line {
        let nick = self.shown(subject);
        let (mut letters, mut words) = (String::new(), Vec::new());
        let role = |role| self.shown_role(&Member { role, ..subject.clone() });
        for (sign, letter) in [('-', letter(role(before))), ('+', letter(role(after)))] {
            if let Some(letter) = letter {
                letters.push(sign);
                letters.push(letter);
                words.push(nick.clone());
            }
        }
        let line = Line::from(self.prefix(by), "MODE").param(channel).param(letters);
        words.into_iter().fold(line, |line, word| line.param(word))
    }

    /// `MODE +o nick` and the like.
    pub(super) fn change_role(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        (add, letter, nick): (bool, char, &str),
    ) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let name = room.name.clone();
        let Some(subject) = self.member_named(channel, nick) else {
            return self.not_on_channel(client, nick, &name);
        };
        if !self.moderates(client, channel) {
            return self.reply(client, 482, &[&name], "You're not channel operator");
        }
        let role = match letter {
            'q' => Role::Founder,
            'a' => Role::Admin,
            'h' => Role::Custom(HALF_RANK),
            _ => Role::Moderator,
        };
        let has =
            self.rooms.get(&channel).and_then(|room| room.members.get(&subject)).map(|member| member.role);
        // What is so already needs no wish, nor an answer.
        let shown = self.rooms.get(&channel).and_then(|room| room.members.get(&subject));
        let shown = shown.map(|member| self.shown_role(member));
        if (add && has == Some(role)) || (!add && has != Some(role) && shown != Some(role)) {
            return;
        }
        let (channel, who) = (ChannelRef::Id(channel), Subject::Identity(subject));
        let intent = match add {
            true => Intent::GrantRole { channel, subject: who, role },
            false => Intent::RevokeRole {
                channel,
                subject: who,
                then: Standing::Demoted(Role::Member),
                reason: String::new(),
            },
        };
        self.submit(client, Wanted::Grant, &name, intent);
    }

    pub(super) fn not_on_channel(&mut self, client: ClientId, nick: &str, channel: &str) {
        match self.names.holder(nick) {
            Some(_) => self.reply(client, 441, &[nick, channel], "They aren't on that channel"),
            None => self.reply(client, 401, &[nick], "No such nick"),
        }
    }

    /// The member of a channel that a nick means.
    pub(super) fn member_named(&self, channel: ChannelId, nick: &str) -> Option<Identity> {
        let room = self.rooms.get(&channel)?;
        let named = room.members.values().find(|member| super::same_nick(&self.shown(member), nick));
        named.map(|member| member.identity)
    }

    /// Whether a client moderates a channel.
    pub(super) fn moderates(&self, client: ClientId, channel: ChannelId) -> bool {
        let member = |room: &super::Room| {
            self.identity(client).and_then(|identity| room.members.get(&identity)).map(|member| member.role)
        };
        self.rooms.get(&channel).and_then(member).is_some_and(|role| role <= Role::Moderator)
    }

    pub(super) fn kick(&mut self, client: ClientId, line: &Line) {
        let channels: Vec<&str> = line.params[0].split(',').filter(|name| !name.is_empty()).collect();
        let nicks: Vec<&str> = line.params[1].split(',').filter(|nick| !nick.is_empty()).collect();
        let reason = line.params.get(2).map(|reason| shorten(reason, REASON_BYTES)).unwrap_or_default();
        if channels.len() > 1 && channels.len() != nicks.len() {
            return self.reply(
                client,
                461,
                &["KICK"],
                "As many channels as nicks are needed, or one channel",
            );
        }
        for (index, nick) in nicks.into_iter().take(KICKED_PER_LINE).enumerate() {
            let name = channels.get(index).or(channels.first()).copied().unwrap_or("");
            self.kick_one(client, name, nick, &reason);
        }
    }

    fn kick_one(&mut self, client: ClientId, name: &str, nick: &str, reason: &str) {
        let Some((id, room)) = self.room(name) else {
            return self.reply(client, 403, &[name], "No such channel");
        };
        if !room.attached.contains(&client) {
            return self.reply(client, 442, &[name], "You're not on that channel");
        }
        if !self.moderates(client, id) {
            return self.reply(client, 482, &[name], "You're not channel operator");
        }
        let Some(subject) = self.member_named(id, nick) else {
            return self.not_on_channel(client, nick, name);
        };
        // Whom a mask bans here is banned everywhere: the channel's own ban binds every door.
        let then = if self.bind_ban(id, &subject) { Standing::Banned } else { Standing::Out };
        let intent = Intent::RevokeRole {
            channel: ChannelRef::Id(id),
            subject: Subject::Identity(subject),
            then,
            reason: if reason.is_empty() { self.called(client) } else { reason.to_owned() },
        };
        self.submit(client, Wanted::Kick, name, intent);
    }

    /// Notes with every ban that means somebody that it bans them; whether one does.
    fn bind_ban(&mut self, channel: ChannelId, subject: &Identity) -> bool {
        let face = self.face_of(channel, subject);
        let Some(room) = self.rooms.get_mut(&channel) else { return false };
        if !room.modes.bans(&face) {
            return false;
        }
        let bans = room.modes.lists.get_mut(&'b').into_iter().flatten();
        for entry in bans.filter(|entry| mask::matches(&entry.mask, &face)) {
            entry.banned.insert(*subject);
        }
        self.keep_modes(channel);
        true
    }

    fn face_of(&self, channel: ChannelId, subject: &Identity) -> Face {
        let member = self.rooms.get(&channel).and_then(|room| room.members.get(subject));
        Face {
            prefix: member.map(|member| self.prefix(member)).unwrap_or_default(),
            account: self.account_of(subject).map(str::to_owned),
        }
    }

    /// Lifts the bans of persons that a mask stood for.
    pub(super) fn lift_bans(&mut self, client: ClientId, channel: ChannelId, banned: &[Identity]) {
        let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { return };
        for subject in banned {
            let intent = Intent::RevokeRole {
                channel: ChannelRef::Id(channel),
                subject: Subject::Identity(*subject),
                then: Standing::Free,
                reason: String::new(),
            };
            self.submit(client, Wanted::Ban, &name, intent);
        }
    }
}

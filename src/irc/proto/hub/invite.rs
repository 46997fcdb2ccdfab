//! INVITE and KNOCK: asking people in, and asking to be let in. Both are of this listener: an
//! invitation lets through its modes, and no further.

use super::Hub;
use crate::chat::access::Role;
use crate::chat::channel::JoinRule;
use crate::chat::intent::{ChannelRef, Intent, Subject};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::isupport::REASON_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;

/// Between two knocks of one client.
const KNOCK_MS: u64 = 60_000;
/// Invitations that one user may hold; the oldest by channel goes.
const INVITATIONS: usize = 64;

impl Hub {
    pub(super) fn invite(&mut self, client: ClientId, line: &Line) {
        let [nick, name, ..] = line.params.as_slice() else {
            if line.params.is_empty() {
                return self.list_invitations(client);
            }
            return self.reply(client, 461, &["INVITE"], "Not enough parameters");
        };
        let Some((id, room)) = self.room(name) else {
            return self.reply(client, 403, &[name], "No such channel");
        };
        if !room.attached.contains(&client) {
            return self.reply(client, 442, &[name], "You're not on that channel");
        }
        let (name, closed) = (room.name.clone(), room.modes.has('i'));
        if closed && !self.moderates(client, id) {
            return self.reply(client, 482, &[&name], "You're not channel operator");
        }
        let Some(person) = self.person_named(nick).filter(|person| self.users.contains_key(person)) else {
            return self.reply(client, 401, &[nick], "No such nick");
        };
        if self.member_named(id, nick).is_some() {
            return self.reply(client, 443, &[nick, &name], "is already on channel");
        }
        let Some(user) = self.users.get_mut(&person) else { return };
        if user.invited.len() >= INVITATIONS {
            user.invited.pop_first();
        }
        user.invited.insert(id);
        self.grant_entry(client, id, &person);
        let Some(user) = self.users.get(&person) else { return };
        let (invited, away, sessions) = (user.nick.clone(), user.away.clone(), user.sessions.clone());
        let (prefix, by) = (self.face(client).prefix, self.identity(client));
        let line = self.numeric(client, 341, &[&invited, &name]);
        self.emit(client, line);
        if let Some(away) = away {
            self.reply(client, 301, &[&invited], &away);
        }
        let line = Line::from(prefix, "INVITE").param(invited).param(name);
        for id in sessions {
            let line = self.dress_by(line.clone(), id, client, by.as_ref());
            self.emit(id, line);
        }
        let watching = self.rooms.get(&id).map(|room| room.attached.clone()).unwrap_or_default();
        for to in watching {
            if to != client && self.has(to, Cap::InviteNotify) && self.moderates(to, id) {
                let line = self.dress_by(line.clone(), to, client, by.as_ref());
                self.emit(to, line);
            }
        }
    }

    /// Where the channel itself takes in only whom a member lets in, an invitation is a grant.
    fn grant_entry(&mut self, client: ClientId, channel: crate::base::ChannelId, person: &str) {
        let Some(room) = self.rooms.get(&channel).filter(|room| room.policy.join != JoinRule::Open) else {
            return;
        };
        let (name, subject) = (room.name.clone(), self.identities.get(person).copied());
        let Some(subject) = subject else { return };
        let (channel, subject) = (ChannelRef::Id(channel), Subject::Identity(subject));
        let intent = Intent::GrantRole { channel, subject, role: Role::Member };
        self.submit(client, Wanted::Grant, &name, intent);
    }

    /// The tags of a line of a client whose user the node may not know.
    fn dress_by(&self, line: Line, to: ClientId, from: ClientId, by: Option<&crate::base::Identity>) -> Line {
        let line = self.dress(line, to, None);
        let account = by.and_then(|id| self.account_of(id)).map(str::to_owned).or(self.face(from).account);
        match account.filter(|_| self.has(to, Cap::AccountTag)) {
            Some(account) => line.tag("account", account),
            None => line,
        }
    }

    fn list_invitations(&mut self, client: ClientId) {
        let invited = self.user_of(client).map(|user| user.invited.clone()).unwrap_or_default();
        for id in invited {
            let Some(name) = self.rooms.get(&id).map(|room| room.name.clone()) else { continue };
            let line = self.numeric(client, 336, &[&name]);
            self.emit(client, line);
        }
        self.reply(client, 337, &[], "End of INVITE list");
    }

    /// Somebody knocked by the channel's own rule, wherever they are.
    pub(super) fn knocked(&mut self, news: &crate::chat::view::News, reason: &str) {
        let prefix = self.prefix(&news.author);
        let said = match reason.is_empty() {
            true => "has asked for an invite".to_owned(),
            false => format!("has asked for an invite ({reason})"),
        };
        let to = self.rooms.get(&news.channel).map(|room| room.attached.clone()).unwrap_or_default();
        for id in to {
            if self.moderates(id, news.channel) {
                self.reply(id, 710, &[&news.channel_name, &prefix], &said);
            }
        }
    }

    pub(super) fn knock(&mut self, client: ClientId, line: &Line) {
        let name = &line.params[0];
        let Some((id, room)) = self.room(name) else {
            return self.reply(client, 403, &[name], "No such channel");
        };
        let (name, on) = (room.name.clone(), room.attached.contains(&client));
        let (open, banned) = (!room.modes.has('i'), room.modes.bans(&self.face(client)));
        if on {
            return self.reply(client, 714, &[&name], "You are on that channel already");
        }
        if self.rooms.get(&id).is_some_and(|room| room.policy.join == JoinRule::Knock) {
            let reason =
                line.params.get(1).map(|said| super::shorten(said, REASON_BYTES)).unwrap_or_default();
            let intent = Intent::Knock { channel: ChannelRef::Id(id), reason };
            return self.submit(client, Wanted::Knock, &name, intent);
        }
        if open {
            return self.reply(client, 713, &[&name], "Channel is open: just join it");
        }
        if banned {
            return self.reply(client, 404, &[&name], "Cannot knock: you are banned");
        }
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.knocked_at.0 > 0 && now.since_ms(session.knocked_at) < KNOCK_MS {
            return self.reply(client, 712, &[&name], "Too many knocks: wait a minute");
        }
        session.knocked_at = now;
        let said = line.params.get(1).map_or("has asked for an invite".to_owned(), |said| {
            format!("has asked for an invite ({})", super::shorten(said, REASON_BYTES))
        });
        let prefix = self.face(client).prefix;
        let to = self.rooms.get(&id).map(|room| room.attached.clone()).unwrap_or_default();
        for to in to {
            if self.moderates(to, id) {
                self.reply(to, 710, &[&name, &prefix], &said);
            }
        }
        self.reply(client, 711, &[&name], "Your KNOCK has been delivered");
    }
}

//! PRIVMSG, NOTICE and TAGMSG: where a message goes, and whether it may.

use super::{Hub, Room};
use crate::base::{ChannelId, EventId};
use crate::chat::access::Role;
use crate::chat::intent::{ChannelRef, Intent};
use crate::chat::message::{Content, Envelope, Relation};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::isupport::TARGETS;
use crate::irc::proto::line::Line;
use crate::irc::proto::render::{self, Live};
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;

/// Bytes of a reaction.
const REACTION_BYTES: usize = 64;

impl Hub {
    pub(super) fn say(&mut self, client: ClientId, line: &Line) {
        if self.takes_into_batch(client, line) {
            return;
        }
        let notice = line.command == "NOTICE";
        let Some(targets) = line.params.first().filter(|targets| !targets.is_empty()) else {
            return self.reply(client, 411, &[], &format!("No recipient given ({})", line.command));
        };
        let Some(text) = line.params.get(1).filter(|text| !text.is_empty()) else {
            return self.reply(client, 412, &[], "No text to send");
        };
        self.spoke(client);
        let tags = client_tags(line);
        for (index, target) in targets.split(',').filter(|target| !target.is_empty()).enumerate() {
            if index == TARGETS {
                return self.reply(client, 407, &[target], "Too many targets in one line");
            }
            let live = Live { notice, tags: tags.clone(), lines: vec![(text.clone(), false)] };
            self.deliver(client, target, live);
        }
    }

    pub(super) fn spoke(&mut self, client: ClientId) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.spoke_at = self.now;
        }
    }

    /// Sends a message to whatever a target names.
    pub(super) fn deliver(&mut self, client: ClientId, target: &str, live: Live) {
        match parse_target(target) {
            Target::Channel(name) => self.say_in(client, name, live),
            Target::Ranked(role, name) => self.say_to_ranked(client, (target, role, name), &live),
            Target::Person(nick) => self.say_to(client, nick, live),
        }
    }

    fn say_in(&mut self, client: ClientId, target: &str, live: Live) {
        let Some((id, room)) = self.room(target) else {
            return self.complain(client, &live, 403, &[target], "No such channel");
        };
        let outside = !room.modes.has('n') && !self.is_member(client, room);
        if let Some((code, why)) = self.may_not_speak(client, room, &live) {
            return self.complain(client, &live, code, &[target], why);
        }
        if self.is_too_long(client, target, &live) {
            return self.reply(client, 417, &[], "Input line was too long: with your prefix it fits no line");
        }
        if outside {
            // Only members have a place in the log.
            return self.relay_live(client, id, &live);
        }
        let text = live.text();
        let Some(mut content) = render::content(live.notice, &text) else {
            // A CTCP request asks clients about themselves: it is passed on, and is no part of the log.
            return self.relay_live(client, id, &live);
        };
        if content.body.trim().is_empty() {
            if text.trim().is_empty() {
                return self.reply(client, 412, &[], "No text to send");
            }
            return self.relay_live(client, id, &live);
        }
        let reply = live.tag("+draft/reply").or_else(|| live.tag("+reply"));
        content = content.replying(reply.and_then(|event| event.parse::<EventId>().ok()));
        let channel = ChannelRef::Id(id);
        self.submit_live(client, Wanted::Say, target, Intent::SendMessage { channel, content }, Some(live));
    }

    /// An error about a message; never about a NOTICE, which nothing answers by itself.
    pub(super) fn complain(&mut self, client: ClientId, live: &Live, code: u16, params: &[&str], why: &str) {
        if !live.notice {
            self.reply(client, code, params, why);
        }
    }

    /// Whether a line of one message does not fit into one of ours: nothing is cut off in silence.
    pub(super) fn is_too_long(&self, client: ClientId, target: &str, live: &Live) -> bool {
        let command = if live.notice { "NOTICE" } else { "PRIVMSG" };
        let room = Line::from(self.face(client).prefix, command).param(target).room();
        live.lines.len() == 1 && live.lines[0].0.len() > room
    }

    /// Why somebody may not speak in a channel, as far as this listener decides it.
    fn may_not_speak(&self, client: ClientId, room: &Room, live: &Live) -> Option<(u16, &'static str)> {
        let text = live.text();
        let Some(member) = self.identity(client).and_then(|identity| room.members.get(&identity)) else {
            let silenced = room.modes.has('m') || room.modes.silences(&self.face(client));
            let kept_out = room.modes.has('n') || silenced;
            return kept_out.then_some((404, "You're not on that channel"));
        };
        let is_ctcp = text.starts_with('\x01') && !text.starts_with("\x01ACTION");
        if room.modes.has('C') && is_ctcp {
            return Some((404, "This channel takes no CTCP (+C)"));
        }
        if member.role <= Role::Moderator || room.modes.voices.contains(&member.identity) {
            return None;
        }
        if room.modes.has('m') {
            return Some((404, "Only voiced members speak here (+m)"));
        }
        let face = self.face(client);
        if room.modes.has('M') && face.account.is_none() {
            return Some((404, "Only those with an account speak here (+M)"));
        }
        if room.modes.silences(&face) {
            return Some((404, "You are banned or muted here (+b)"));
        }
        None
    }

    /// Passes something on to those who are there now, on this listener.
    fn relay_live(&mut self, client: ClientId, channel: ChannelId, live: &Live) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let (to, name) = (room.attached.clone(), room.name.clone());
        self.pass_on(client, to.into_iter().collect(), &name, live);
    }

    /// To the members of a channel from some role on: `@#channel`.
    fn say_to_ranked(
        &mut self,
        client: ClientId,
        (shown, role, name): (&str, Option<Role>, &str),
        live: &Live,
    ) {
        let Some((_, room)) = self.room(name) else {
            return self.reply(client, 403, &[name], "No such channel");
        };
        if let Some((code, why)) = self.may_not_speak(client, room, live) {
            return self.reply(client, code, &[name], why);
        }
        let counts = |id: &ClientId| {
            let member = self.identity(*id).and_then(|identity| room.members.get(&identity));
            member.is_some_and(|member| match role {
                Some(role) => member.role <= role,
                None => member.role <= Role::Moderator || room.modes.voices.contains(&member.identity),
            })
        };
        let mut to: Vec<ClientId> = room.attached.iter().copied().filter(counts).collect();
        if self.has(client, Cap::EchoMessage) && !to.contains(&client) {
            to.push(client);
        }
        self.pass_on(client, to, shown, live);
    }

    /// A message without a place in the log, to these clients; to the sender only as an echo.
    fn pass_on(&mut self, client: ClientId, to: Vec<ClientId>, target: &str, live: &Live) {
        let Some(user) = self.user_of(client) else { return };
        let (prefix, account, bot) = (user.prefix(), user.account.clone(), user.modes.contains(&'B'));
        let id = self.message_id();
        let said =
            render::Said { id: &id, at: self.now, prefix: &prefix, account: account.as_deref(), bot, target };
        for to in to {
            if to == client && !self.has(client, Cap::EchoMessage) {
                continue;
            }
            let Some(session) = self.sessions.get(&to) else { continue };
            for line in render::live(&said, live, session.caps) {
                self.emit(to, line);
            }
        }
    }

    /// An id for a message that is no event.
    pub(super) fn message_id(&mut self) -> String {
        let random = self.random();
        crate::base::id::base32(&random[..15])
    }

    pub(super) fn tagmsg(&mut self, client: ClientId, line: &Line) {
        let Some(targets) = line.params.first().filter(|targets| !targets.is_empty()) else {
            return self.reply(client, 461, &["TAGMSG"], "Not enough parameters");
        };
        let tags = client_tags(line);
        if tags.is_empty() {
            return;
        }
        for target in targets.split(',').filter(|target| !target.is_empty()).take(TARGETS) {
            let to: Vec<ClientId> = match parse_target(target) {
                Target::Channel(name) | Target::Ranked(_, name) => {
                    let Some((_, room)) = self.room(name) else {
                        self.reply(client, 403, &[name], "No such channel");
                        continue;
                    };
                    if let Some((code, why)) = self.may_not_speak(client, room, &Live::default()) {
                        self.reply(client, code, &[name], why);
                        continue;
                    }
                    let to = room.attached.iter().copied().collect();
                    if self.reacts(client, name, line) {
                        continue;
                    }
                    to
                }
                Target::Person(nick) => match self.clients_named(nick) {
                    Some(to) if to.contains(&client) => {
                        self.pass_tags(client, to.clone(), target, &tags);
                        // To oneself, the delivery is not the answer.
                        self.deliver_tags_to_self(client, target, &tags);
                        continue;
                    }
                    Some(mut to) => {
                        to.extend(self.has(client, Cap::EchoMessage).then_some(client));
                        to
                    }
                    None => {
                        self.reply(client, 401, &[nick], "No such nick");
                        continue;
                    }
                },
            };
            self.pass_tags(client, to, target, &tags);
        }
    }

    /// A reaction to a message of a channel has a place in the log: whether it is one.
    fn reacts(&mut self, client: ClientId, target: &str, line: &Line) -> bool {
        let to =
            line.tagged("+draft/reply").or(line.tagged("+reply")).and_then(|id| id.parse::<EventId>().ok());
        let (Some(to), Some(what)) = (to, line.tagged("+draft/react").filter(|what| !what.trim().is_empty()))
        else {
            return false;
        };
        let Some((channel, _)) = self.room(target) else { return false };
        let envelope = Envelope { relation: Some(Relation::Reaction(to)), ..Envelope::default() };
        let content = Content { envelope, ..Content::text(super::shorten(what, REACTION_BYTES)) };
        let channel = ChannelRef::Id(channel);
        self.submit(client, Wanted::Say, target, Intent::SendMessage { channel, content });
        true
    }

    fn pass_tags(&mut self, client: ClientId, to: Vec<ClientId>, target: &str, tags: &[(String, String)]) {
        let id = self.message_id();
        for to in to {
            let echo = to == client && !self.has(client, Cap::EchoMessage);
            if let Some(line) = self.tag_line((client, to), (target, &id), tags).filter(|_| !echo) {
                self.emit(to, line);
            }
        }
        let keeps = |(key, _): &(String, String)| matches!(key.as_str(), "+draft/persist" | "+persist");
        if tags.iter().any(keeps) {
            self.keep_tags(client, (target, &id), tags);
        }
    }

    /// Tags that a user sends to themselves arrive besides being echoed, without a label.
    fn deliver_tags_to_self(&mut self, client: ClientId, target: &str, tags: &[(String, String)]) {
        let id = self.message_id();
        if let Some(line) = self.tag_line((client, client), (target, &id), tags) {
            self.effects.push(super::Effect::Send { client, line: line.to_string().into() });
        }
    }

    fn tag_line(
        &self,
        (from, to): (ClientId, ClientId),
        (target, id): (&str, &str),
        tags: &[(String, String)],
    ) -> Option<Line> {
        let (user, caps) = (self.user_of(from)?, self.sessions.get(&to)?.caps);
        let said = render::Said {
            id,
            at: self.now,
            prefix: &user.prefix(),
            account: user.account.as_deref(),
            bot: user.modes.contains(&'B'),
            target,
        };
        render::tagmsg(&said, tags, caps)
    }

    /// Keeps tags that ask for it in the past of a channel or of two people, as long as the server runs.
    fn keep_tags(&mut self, client: ClientId, (target, id): (&str, &str), tags: &[(String, String)]) {
        let Some(from) = self.person_of(client).map(str::to_owned) else { return };
        let to = match self.room(target) {
            Some((channel, _)) => channel.to_string(),
            None => match self.person_named(target) {
                Some(person) => person,
                None => return,
            },
        };
        let Some(direct) = self.direct_from(client, (&from, &to, target), id.to_owned()) else { return };
        let live = Live { tags: tags.to_vec(), ..Live::default() };
        self.remember_direct(super::direct::Direct { live, missed: false, ..direct });
    }

    /// The clients of the user who has a nick.
    pub(super) fn clients_named(&self, nick: &str) -> Option<Vec<ClientId>> {
        let user = self.users.values().find(|user| super::same_nick(&user.nick, nick))?;
        Some(user.sessions.iter().copied().collect())
    }
}

/// What the first parameter of a message names.
enum Target<'a> {
    Channel(&'a str),
    /// Members from a role on; `None` is from a voice on.
    Ranked(Option<Role>, &'a str),
    Person(&'a str),
}

fn parse_target(target: &str) -> Target<'_> {
    if target.starts_with('#') {
        return Target::Channel(target);
    }
    let (sign, rest) = target.split_at(target.chars().next().map_or(0, char::len_utf8));
    let role = match sign {
        "~" => Some(Role::Founder),
        "&" => Some(Role::Admin),
        "@" => Some(Role::Moderator),
        "%" => Some(Role::Custom(500)),
        "+" => None,
        _ => return Target::Person(target),
    };
    if rest.starts_with('#') { Target::Ranked(role, rest) } else { Target::Person(target) }
}

/// The tags of a line that are passed on to other clients.
pub(super) fn client_tags(line: &Line) -> Vec<(String, String)> {
    line.tags.iter().filter(|(key, _)| key.starts_with('+')).cloned().collect()
}

//! MODE: what a channel or user is, and changes to it. Roles are wishes to the node; the rest is
//! this listener's own (see `proto::modes`).

use super::policy::topic_is_open;
use super::{Effect, Hub};
use crate::base::{ChannelId, codec};
use crate::irc::proto::line::Line;
use crate::irc::proto::mask;
use crate::irc::proto::modes::{
    self, Change, Entry, KEY_BYTES, LIST_ENTRIES, LISTS, Modes, SETTABLE, takes_argument,
};
use crate::irc::proto::session::ClientId;

/// Changes of one MODE line; the rest is passed over.
const CHANGES: usize = 12;
/// Bytes of the modes of one channel in their note.
const NOTE_BYTES: usize = 128 * 1024;
/// Letters of the user modes that a user may set.
const USER_MODES: &str = "iwBRg";

impl Hub {
    pub(super) fn mode(&mut self, client: ClientId, line: &Line) {
        let target = &line.params[0];
        if !target.starts_with('#') {
            return self.user_mode(client, target, &line.params[1..]);
        }
        let Some((id, room)) = self.room(target) else {
            return self.reply(client, 403, &[target], "No such channel");
        };
        if line.params.len() > 1 {
            return self.change_modes(client, id, &line.params[1..]);
        }
        let member = room.attached.contains(&client);
        let (name, created) = (room.name.clone(), (room.created_at.0 / 1000).to_string());
        let shown = room.modes.shown(member);
        let words: Vec<&str> =
            std::iter::once(name.as_str()).chain(shown.iter().map(String::as_str)).collect();
        let line = self.numeric(client, 324, &words);
        self.emit(client, line);
        let line = self.numeric(client, 329, &[&name, &created]);
        self.emit(client, line);
    }

    fn change_modes(&mut self, client: ClientId, channel: ChannelId, words: &[String]) {
        let mut changes = modes::parse(words, takes_argument);
        changes.truncate(CHANGES);
        let Some(room) = self.rooms.get(&channel) else { return };
        let (open, moderates) = (topic_is_open(&room.policy), self.moderates(client, channel));
        // What the channel itself decides comes first, and the rest with it: one line, one answer.
        let decides = |change: &Change| moderates && change.mode == 't' && change.add == open;
        if let Some(at) = changes.iter().position(decides) {
            let add = changes.remove(at).add;
            return self.change_topic_right(client, channel, add, changes);
        }
        self.carry_out(client, channel, changes, None);
    }

    /// Carries changes out and shows those that changed something, after one that is decided already.
    pub(super) fn carry_out(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        changes: Vec<Change>,
        decided: Option<Change>,
    ) {
        let mut done: Vec<Change> = decided.into_iter().collect();
        let mut denied = false;
        for change in changes {
            let asks = LISTS.contains(change.mode) && change.argument.is_none();
            if asks {
                self.show_list(client, channel, change.mode);
            } else if self.known_mode(client, change.mode) {
                self.one_change(client, channel, change, (&mut done, &mut denied));
            }
        }
        if done.is_empty() {
            return;
        }
        self.keep_modes(channel);
        let Some(room) = self.rooms.get(&channel) else { return };
        let (name, prefix) = (room.name.clone(), self.face(client).prefix);
        let line = Line::from(prefix, "MODE").param(name);
        let line = modes::words(&done).into_iter().fold(line, |line, word| line.param(word));
        let by = self.identity(client);
        self.tell_room_of(channel, &line, by.as_ref());
    }

    fn known_mode(&mut self, client: ClientId, mode: char) -> bool {
        let known = LISTS.contains(mode) || SETTABLE.contains(mode) || "klqaohv".contains(mode);
        if !known {
            self.reply(client, 472, &[&mode.to_string()], "is an unknown mode char to me");
        }
        known
    }

    fn one_change(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        change: Change,
        (done, denied): (&mut Vec<Change>, &mut bool),
    ) {
        let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { return };
        if !self.moderates(client, channel) {
            if !std::mem::replace(denied, true) {
                let on = self.rooms.get(&channel).is_some_and(|room| room.attached.contains(&client));
                match on {
                    true => self.reply(client, 482, &[&name], "You're not channel operator"),
                    false => self.reply(client, 442, &[&name], "You're not on that channel"),
                }
            }
            return;
        }
        let Change { add, mode, argument } = change;
        let argument = argument.filter(|argument| !argument.is_empty());
        match (mode, argument) {
            ('q' | 'a' | 'o' | 'h', Some(nick)) => self.change_role(client, channel, (add, mode, &nick)),
            ('v', Some(nick)) => done.extend(self.change_voice(client, channel, add, &nick)),
            (list, Some(mask)) if LISTS.contains(list) => {
                done.extend(self.change_list(client, channel, (add, list, &mask)));
            }
            ('k', key) => done.extend(self.change_key(client, channel, add, key)),
            ('l', limit) => done.extend(self.change_limit(client, channel, add, limit)),
            (flag, _) if SETTABLE.contains(flag) => {
                if flag == 't' {
                    return; // It is so already.
                }
                let Some(room) = self.rooms.get_mut(&channel) else { return };
                let changed =
                    if add { room.modes.flags.insert(flag) } else { room.modes.flags.remove(&flag) };
                done.extend(changed.then_some(Change { add, mode: flag, argument: None }));
            }
            (mode, _) => {
                let why = "You must give a parameter for that mode";
                self.reply(client, 696, &[&name, &mode.to_string(), "*"], why);
            }
        }
    }

    fn change_voice(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        add: bool,
        nick: &str,
    ) -> Option<Change> {
        let name = self.rooms.get(&channel)?.name.clone();
        let Some(subject) = self.member_named(channel, nick) else {
            self.not_on_channel(client, nick, &name);
            return None;
        };
        let shown = self.rooms.get(&channel)?.members.get(&subject).map(|member| self.shown(member))?;
        let voices = &mut self.rooms.get_mut(&channel)?.modes.voices;
        let changed = if add { voices.insert(subject) } else { voices.remove(&subject) };
        changed.then_some(Change { add, mode: 'v', argument: Some(shown) })
    }

    fn change_key(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        add: bool,
        key: Option<String>,
    ) -> Option<Change> {
        let name = self.rooms.get(&channel)?.name.clone();
        if !add {
            let before = self.rooms.get_mut(&channel)?.modes.key.take()?;
            return Some(Change { add, mode: 'k', argument: Some(before) });
        }
        let key = key.unwrap_or_default();
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',';
        if key.is_empty() || key.len() > KEY_BYTES || key.starts_with(':') || key.contains(bad) {
            let why = format!("A key is one word of at most {KEY_BYTES} bytes without commas");
            self.reply(client, 696, &[&name, "k", "*"], &why);
            return None;
        }
        self.rooms.get_mut(&channel)?.modes.key = Some(key.clone());
        Some(Change { add, mode: 'k', argument: Some(key) })
    }

    fn change_limit(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        add: bool,
        limit: Option<String>,
    ) -> Option<Change> {
        let name = self.rooms.get(&channel)?.name.clone();
        if !add {
            self.rooms.get_mut(&channel)?.modes.limit.take()?;
            return Some(Change { add, mode: 'l', argument: None });
        }
        let limit = limit.unwrap_or_default();
        let Some(number) = limit.parse::<u32>().ok().filter(|number| *number > 0) else {
            let given = if limit.is_empty() { "*" } else { &limit };
            self.reply(client, 696, &[&name, "l", given], "A limit is a number above 0");
            return None;
        };
        self.rooms.get_mut(&channel)?.modes.limit = Some(number);
        Some(Change { add, mode: 'l', argument: Some(number.to_string()) })
    }

    fn change_list(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        (add, list, given): (bool, char, &str),
    ) -> Option<Change> {
        let (by, at, full) = (self.face(client).prefix, self.now, mask::normal(given));
        let room = self.rooms.get_mut(&channel)?;
        let name = room.name.clone();
        let entries = room.modes.lists.entry(list).or_default();
        let known = entries.iter().position(|entry| super::same_nick(&entry.mask, &full));
        match (add, known) {
            (true, Some(_)) | (false, None) => None,
            (true, None) if entries.len() >= LIST_ENTRIES => {
                self.reply(client, 478, &[&name, &list.to_string()], "That list is full");
                None
            }
            (true, None) => {
                entries.push(Entry { mask: full.clone(), by, at, banned: Default::default() });
                Some(Change { add, mode: list, argument: Some(full) })
            }
            (false, Some(index)) => {
                let entry = entries.remove(index);
                let banned: Vec<_> = entry.banned.into_iter().collect();
                self.lift_bans(client, channel, &banned);
                Some(Change { add, mode: list, argument: Some(entry.mask) })
            }
        }
    }

    fn show_list(&mut self, client: ClientId, channel: ChannelId, list: char) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let (name, entries) = (room.name.clone(), room.modes.list(list).to_vec());
        let (each, end, what) = match list {
            'e' => (348, 349, "End of channel exception list"),
            'I' => (346, 347, "End of channel invite exception list"),
            _ => (367, 368, "End of channel ban list"),
        };
        for entry in entries {
            let at = (entry.at.0 / 1000).to_string();
            let line = self.numeric(client, each, &[&name, &entry.mask, &entry.by, &at]);
            self.emit(client, line);
        }
        self.reply(client, end, &[&name], what);
    }

    /// Keeps the modes of a channel over restarts.
    pub(super) fn keep_modes(&mut self, channel: ChannelId) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let value = if room.modes == Modes::default() { Vec::new() } else { codec::encode(&room.modes) };
        self.effects.push(Effect::Remember { key: format!("mode/{channel}"), value });
    }

    /// Takes back the modes that were kept.
    pub(super) fn recall_modes(&mut self, channel: &str, note: &[u8]) {
        let room = channel.parse().ok().and_then(|id: ChannelId| self.rooms.get_mut(&id));
        if let (Some(room), Ok(modes)) = (room, codec::decode(note, NOTE_BYTES)) {
            room.modes = modes;
            room.follow_policy();
        }
    }

    fn user_mode(&mut self, client: ClientId, target: &str, words: &[String]) {
        let called = self.called(client);
        if !super::same_nick(target, &called) {
            return match self.names.holder(target) {
                Some(_) => self.reply(client, 502, &[], "Cant change mode for other users"),
                None => self.reply(client, 401, &[target], "No such nick"),
            };
        }
        if words.is_empty() {
            let shown = self.user_modes(client);
            let line = self.numeric(client, 221, &[&shown]);
            return self.emit(client, line);
        }
        let person = self.person_of(client).unwrap_or_default().to_owned();
        let (mut done, mut unknown) = (Vec::new(), false);
        for change in modes::parse(words, |_, _| false).into_iter().take(CHANGES) {
            let Change { add, mode, .. } = change;
            let changed = match mode {
                // Nobody makes an operator of themselves; that is what OPER is for.
                'o' if add => false,
                'o' => self.sessions.get_mut(&client).is_some_and(|session| session.oper.take().is_some()),
                mode if USER_MODES.contains(mode) => match self.users.get_mut(&person) {
                    Some(user) if add => user.modes.insert(mode),
                    Some(user) => user.modes.remove(&mode),
                    None => false,
                },
                _ => {
                    unknown = true;
                    false
                }
            };
            done.extend(changed.then_some(Change { add, mode, argument: None }));
        }
        if !done.is_empty() {
            let line = Line::from(called.as_str(), "MODE").param(called.as_str());
            let line = modes::words(&done).into_iter().fold(line, |line, word| line.param(word));
            self.emit(client, line);
        }
        if unknown {
            self.reply(client, 501, &[], "Unknown MODE flag");
        }
    }

    /// A client's user modes: its user's, and `o` if it is an operator.
    pub(super) fn user_modes(&self, client: ClientId) -> String {
        let mut shown = String::from("+");
        if let Some(user) = self.user_of(client) {
            shown.extend(&user.modes);
        }
        if self.sessions.get(&client).is_some_and(|session| session.oper.is_some()) {
            shown.push('o');
        }
        shown
    }
}

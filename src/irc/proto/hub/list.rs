//! NAMES and LIST.

use super::{Hub, Room};
use crate::base::{ChannelId, Timestamp};
use crate::chat::view::Member;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::glob;
use crate::irc::proto::session::ClientId;

/// Lines that one LIST answers with at the most; then it says that it stopped.
const ANSWER_LINES: usize = 2000;
/// Channels that one NAMES may name.
const NAMES: usize = 20;

/// What LIST asks for (ELIST `CMNTU`).
#[derive(Default)]
struct Filter {
    masks: Vec<String>,
    not_masks: Vec<String>,
    more_than: Option<usize>,
    less_than: Option<usize>,
    /// Created, or its topic set, after or before this moment.
    created_after: Option<Timestamp>,
    created_before: Option<Timestamp>,
    topic_after: Option<Timestamp>,
    topic_before: Option<Timestamp>,
}

impl Filter {
    fn parse(text: &str, now: Timestamp) -> Self {
        let mut filter = Self::default();
        let ago = |minutes: &str| {
            let minutes = minutes.parse::<u64>().ok()?;
            Some(Timestamp(now.0.saturating_sub(minutes.saturating_mul(60_000))))
        };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some(n) = word.strip_prefix('>') {
                filter.more_than = n.parse().ok();
            } else if let Some(n) = word.strip_prefix('<') {
                filter.less_than = n.parse().ok();
            } else if let Some(minutes) = word.strip_prefix("C>") {
                filter.created_before = ago(minutes);
            } else if let Some(minutes) = word.strip_prefix("C<") {
                filter.created_after = ago(minutes);
            } else if let Some(minutes) = word.strip_prefix("T>") {
                filter.topic_before = ago(minutes);
            } else if let Some(minutes) = word.strip_prefix("T<") {
                filter.topic_after = ago(minutes);
            } else if let Some(mask) = word.strip_prefix('!') {
                filter.not_masks.push(mask.to_owned());
            } else {
                filter.masks.push(word.to_owned());
            }
        }
        filter
    }

    fn takes(&self, room: &Room) -> bool {
        let members = room.members.len();
        let topic_at = room.topic_by.as_ref().map(|(_, at)| *at);
        (self.masks.is_empty() || self.masks.iter().any(|mask| glob(mask, &room.name)))
            && !self.not_masks.iter().any(|mask| glob(mask, &room.name))
            && self.more_than.is_none_or(|n| members > n)
            && self.less_than.is_none_or(|n| members < n)
            && self.created_after.is_none_or(|at| room.created_at >= at)
            && self.created_before.is_none_or(|at| room.created_at <= at)
            && self.topic_after.is_none_or(|after| topic_at.is_some_and(|at| at >= after))
            && self.topic_before.is_none_or(|before| topic_at.is_some_and(|at| at <= before))
    }
}

impl Hub {
    pub(super) fn list(&mut self, client: ClientId, line: &Line) {
        let filter = Filter::parse(line.params.first().map_or("", String::as_str), self.now);
        let mut found: Vec<(String, usize, String)> = self
            .rooms
            .values()
            // A channel that nobody is in is no place to go to.
            .filter(|room| !room.members.is_empty() && filter.takes(room) && self.may_see(client, room))
            .map(|room| (room.name.clone(), room.members.len(), room.topic.clone()))
            .collect();
        found.sort();
        self.reply(client, 321, &["Channel"], "Users  Name");
        for (name, members, topic) in found.iter().take(ANSWER_LINES) {
            self.reply(client, 322, &[name, &members.to_string()], topic);
        }
        if found.len() > ANSWER_LINES {
            let why = format!("{ANSWER_LINES} of {} channels shown; LIST >n narrows it", found.len());
            self.reply(client, 416, &["LIST"], &why);
        }
        self.reply(client, 323, &[], "End of LIST");
    }

    pub(super) fn names_command(&mut self, client: ClientId, line: &Line) {
        let Some(list) = line.params.first().filter(|list| !list.is_empty()) else {
            return self.reply(client, 366, &["*"], "End of NAMES list");
        };
        for name in list.split(',').filter(|name| !name.is_empty()).take(NAMES) {
            match self.room(name).filter(|(_, room)| self.may_see(client, room)).map(|(id, _)| id) {
                Some(id) => self.show_names(client, id),
                None => self.reply(client, 366, &[name], "End of NAMES list"),
            }
        }
    }

    pub(super) fn show_names(&mut self, client: ClientId, channel: ChannelId) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let (name, secret) = (room.name.clone(), room.modes.has('s'));
        let userhost = self.has(client, Cap::UserhostInNames);
        let on = room.attached.contains(&client) || self.is_member(client, room);
        let mut members: Vec<(&Member, String)> =
            room.members.values().map(|member| (member, self.shown(member))).collect();
        members.sort_by(|(a, nick_a), (b, nick_b)| (a.role, nick_a).cmp(&(b.role, nick_b)));
        let shows = |member: &Member| {
            on || self.local(&member.identity).is_none_or(|user| !user.modes.contains(&'i'))
        };
        let entries: Vec<String> = members
            .into_iter()
            .filter(|(member, _)| shows(member))
            .map(|(member, nick)| {
                let who = if userhost { self.prefix(member) } else { nick };
                format!("{}{who}", self.signs(client, channel, member))
            })
            .collect();
        let head = self.numeric(client, 353, &[if secret { "@" } else { "=" }, &name]);
        let limit = head.room();
        let mut text = String::new();
        for entry in entries {
            if !text.is_empty() && text.len() + 1 + entry.len() > limit {
                self.emit(client, head.clone().text(std::mem::take(&mut text)));
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&entry);
        }
        if !text.is_empty() {
            self.emit(client, head.text(text));
        }
        self.reply(client, 366, &[&name], "End of NAMES list");
    }
}

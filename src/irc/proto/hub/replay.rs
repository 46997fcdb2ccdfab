//! What was missed, and how far each user has read: cursors, replays, and the PINGs that move them.

use super::direct::Direct;
use super::{Effect, Hub};
use crate::base::{ChannelId, Identity, Timestamp};
use crate::chat::view::{News, What};
use crate::irc::proto::accounts::Account;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::{Asked, ClientId, Replay};
use crate::irc::proto::stamp;
use crate::port::{HistoryQuery, Range};

/// Messages asked for at a time.
const PAGE_MESSAGES: usize = 100;
/// Bytes of lines after which a page ends early: the rest is asked for once these have left.
const PAGE_BYTES: usize = 256 * 1024;
/// Between two PINGs that ask one client how far it has read.
const CONFIRM_MS: u64 = 1000;

impl Hub {
    /// Takes back a note of an earlier run; one that makes no sense is passed over.
    pub(super) fn recall(&mut self, key: &str, value: &[u8]) {
        if key == "cloak" {
            self.cloak_key = value.try_into().unwrap_or_default();
            return;
        }
        if key.starts_with("account/") {
            Account::decode(value).into_iter().for_each(|account| self.accounts.put(account));
            return;
        }
        if key.starts_with("dm/") {
            Direct::decode(value).into_iter().for_each(|direct| self.remember_direct(direct));
            return;
        }
        if let Some(rest) = key.strip_prefix("meta/") {
            return self.recall_metadata(rest, value);
        }
        if let Some(rest) = key.strip_prefix("ban/") {
            return self.bans.recall(rest, value);
        }
        if let Some(channel) = key.strip_prefix("mode/") {
            return self.recall_modes(channel, value);
        }
        let Ok(text) = std::str::from_utf8(value) else { return };
        if let Some(person) = key.strip_prefix("me/") {
            if let Ok(identity) = text.parse::<Identity>() {
                self.identities.insert(person.to_owned(), identity);
                self.persons.insert(identity, person.to_owned());
            }
        } else if let Some(person) = key.strip_prefix("passing/") {
            if let Ok(identity) = text.parse::<Identity>() {
                self.leftover.push((person.to_owned(), identity));
            }
        } else if let Some((person, target)) = key.strip_prefix("read/").and_then(|rest| rest.split_once('/'))
        {
            if let Ok(at) = text.parse() {
                self.markers.insert((person.to_owned(), target.to_owned()), Timestamp(at));
            }
        } else if let Some((account, channel)) =
            key.strip_prefix("seen/").and_then(|rest| rest.split_once('/'))
            && let (Ok(channel), Ok(position)) = (channel.parse(), text.parse())
        {
            self.cursors.insert((account.to_owned(), channel), position);
        }
    }

    /// Moves a user's cursor of a channel forward.
    pub(super) fn set_cursor(&mut self, account: &str, channel: ChannelId, position: u64) {
        let key = (account.to_owned(), channel);
        if self.cursors.get(&key).is_some_and(|at| *at >= position) {
            return;
        }
        self.cursors.insert(key, position);
        let key = format!("seen/{account}/{channel}");
        self.effects.push(Effect::Remember { key, value: position.to_string().into_bytes() });
    }

    pub(super) fn forget_cursor(&mut self, account: &str, channel: ChannelId) {
        if self.cursors.remove(&(account.to_owned(), channel)).is_some() {
            let key = format!("seen/{account}/{channel}");
            self.effects.push(Effect::Remember { key, value: Vec::new() });
        }
    }

    /// Asks a client to confirm what it has been sent, if there is something and it is time.
    pub(super) fn confirm(&mut self, client: ClientId) {
        let now = self.now;
        // Who does not come back needs no cursor.
        if !self.person_of(client).is_some_and(|person| self.stays(person)) {
            return;
        }
        let captured = self.capturing(client).is_some();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let due = session.asked.is_none() && now.since_ms(session.asked_at) >= CONFIRM_MS;
        if session.unconfirmed.is_empty() || !due || captured {
            return;
        }
        let unconfirmed = std::mem::take(&mut session.unconfirmed);
        let shown = |id: ChannelId| session.channels.get(&id).map(|at| (id, at.shown));
        let reached: Vec<(ChannelId, u64)> = unconfirmed.into_iter().filter_map(shown).collect();
        let position = reached.iter().map(|(_, at)| *at).max().unwrap_or(0);
        let token = format!("seen-{position}");
        session.asked = Some(Asked { token: token.clone(), reached });
        session.asked_at = now;
        self.effects.push(Effect::Send { client, line: format!("PING :{token}").into() });
    }

    pub(super) fn pong(&mut self, client: ClientId, line: &Line) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let answers = |asked: &Asked| line.params.contains(&asked.token);
        if !session.asked.as_ref().is_some_and(answers) {
            return;
        }
        let Some(asked) = session.asked.take() else { return };
        let Some(person) = session.person().map(str::to_owned) else { return };
        for (channel, position) in asked.reached {
            // A channel left meanwhile has no cursor any more.
            if self.sessions.get(&client).is_some_and(|session| session.channels.contains_key(&channel)) {
                self.set_cursor(&person, channel, position);
            }
        }
    }

    /// Asks the node for what a client has not seen of a channel.
    pub(super) fn ask_history(&mut self, client: ClientId, channel: ChannelId) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(attachment) = session.channels.get_mut(&channel) else { return };
        let shown = attachment.shown;
        let Some(replay) = &mut attachment.replay else { return };
        self.last_query += 1;
        replay.query = Some(self.last_query);
        replay.overflowed = false;
        self.queries.insert(self.last_query, super::history::Query::Replay(client, channel));
        let what = HistoryQuery { channel, range: Range::After(shown), limit: PAGE_MESSAGES };
        self.effects.push(Effect::History { query: self.last_query, what });
    }

    /// A page of what a client missed: oldest first; empty means that there is no more.
    pub(super) fn replay_next(
        &mut self,
        query: u64,
        (client, channel): (ClientId, ChannelId),
        page: &[News],
    ) {
        if self.replay(client, channel).is_some_and(|replay| replay.query == Some(query)) {
            self.replay_page(client, channel, page);
        }
    }

    /// Everything sent to the client so far has left: replays go on.
    pub fn drained(&mut self, now: crate::base::Timestamp, client: ClientId) -> Vec<Effect> {
        self.now = now;
        let waiting: Vec<ChannelId> = self
            .sessions
            .get(&client)
            .into_iter()
            .flat_map(|session| session.channels.iter())
            .filter(|(_, at)| at.replay.as_ref().is_some_and(|replay| replay.query.is_none()))
            .map(|(id, _)| *id)
            .collect();
        for channel in waiting {
            self.ask_history(client, channel);
        }
        self.take()
    }

    fn replay(&mut self, client: ClientId, channel: ChannelId) -> Option<&mut Replay> {
        self.sessions.get_mut(&client)?.channels.get_mut(&channel)?.replay.as_mut()
    }

    fn replay_page(&mut self, client: ClientId, channel: ChannelId, page: &[News]) {
        let Some(attachment) =
            self.sessions.get_mut(&client).and_then(|session| session.channels.get_mut(&channel))
        else {
            return;
        };
        let before = attachment.shown;
        // The guard against a page that does not go forward keeps a replay finite.
        if page.iter().any(|news| news.position > before) {
            self.show_page(client, channel, page);
            if let Some(replay) = self.replay(client, channel) {
                replay.query = None;
            }
            self.effects.push(Effect::Drain { client });
            return self.confirm(client);
        }
        if attachment.replay.as_ref().is_some_and(|replay| replay.overflowed) {
            // What did not fit is in the log by now; what did fit is found there as well.
            if let Some(replay) = &mut attachment.replay {
                replay.held.clear();
            }
            return self.ask_history(client, channel);
        }
        let Some(replay) = attachment.replay.take() else { return };
        self.show_held(client, replay.held.into_iter());
    }

    fn show_page(&mut self, client: ClientId, channel: ChannelId, page: &[News]) {
        let Some(session) = self.sessions.get(&client) else { return };
        let Some(attachment) = session.channels.get(&channel) else { return };
        let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { return };
        let (caps, mut shown) = (session.caps, attachment.shown);
        let sees_own = caps.has(Cap::EchoMessage) || caps.has(Cap::SelfMessage);
        let mut lines = Vec::new();
        let mut bytes = 0;
        for news in page {
            if news.position <= shown || bytes > PAGE_BYTES {
                continue;
            }
            shown = news.position;
            let own = self.is_own(client, &news.author.identity);
            if matches!(news.what, What::Message(_)) && (sees_own || !own) {
                let timed = caps.has(Cap::ServerTime);
                let mark = if timed { String::new() } else { stamp::mark(news.at, self.now) };
                let rendered = self.render(news, caps, &mark, None);
                bytes += rendered.iter().map(|line| line.to_string().len()).sum::<usize>();
                lines.extend(rendered);
            }
        }
        if !lines.is_empty() {
            self.send_page(client, &name, lines);
        }
        if let Some(session) = self.sessions.get_mut(&client) {
            if let Some(attachment) = session.channels.get_mut(&channel) {
                attachment.shown = shown;
            }
            session.unconfirmed.insert(channel);
        }
    }

    /// Lines of the past, as one batch where the client knows batches.
    pub(super) fn send_page(&mut self, client: ClientId, name: &str, lines: Vec<Line>) {
        if !self.has(client, Cap::Batch) {
            return lines.into_iter().for_each(|line| self.emit(client, line));
        }
        let (id, server) = (self.batch_id(), self.settings.server.clone());
        let open = Line::from(server.as_str(), "BATCH").param(format!("+{id}"));
        self.emit(client, open.param("chathistory").param(name));
        for line in lines {
            // A batch within is part of this one by its first line.
            let within = line.tagged("batch").is_some()
                || (line.command == "BATCH" && line.params[0].starts_with('-'));
            let line = if within { line } else { line.tag("batch", id.as_str()) };
            self.emit(client, line);
        }
        self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
    }
}

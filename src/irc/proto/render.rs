//! News as lines, for one set of capabilities. It decides how a thing looks, never who sees it.

use serde::{Deserialize, Serialize};

use super::caps::{Cap, CapSet};
use super::line::Line;
use super::{format, split, stamp};
use crate::base::Timestamp;
use crate::chat::message::{Content, Envelope, Relation, Style};
use crate::chat::profile::Profile;

/// Bytes of the user part of a prefix.
const USER_BYTES: usize = 16;
/// Bytes of the host part of a prefix.
const HOST_BYTES: usize = 63;
/// What stands before the new text of a message that was changed.
const EDITED: &str = "(edited) ";
/// What CTCP ACTION puts around a text, in bytes.
const ACTION_BYTES: usize = "\x01ACTION \x01".len();

/// `nick!user@host` of a person: the host is where they are from, or this server.
pub fn prefix(nick: &str, profile: &Profile, server: &str) -> String {
    format!("{nick}!{}@{}", user(&profile.username), host(&profile.home, server))
}

/// The user part: the username, as far as it is legal there.
pub fn user(username: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || "._-[]{}|^`".contains(*c);
    let user: String = username.chars().filter(fits).take(USER_BYTES).collect();
    if user.is_empty() { "user".to_owned() } else { user }
}

/// The host part: `example.org` of `@alice:example.org`, `irc.libera.chat` of `bob@irc.libera.chat`.
pub fn host(home: &str, server: &str) -> String {
    let place = match home.strip_prefix('@') {
        Some(matrix) => matrix.split_once(':').map(|(_, place)| place),
        None => home.rsplit_once('@').map(|(_, place)| place),
    };
    let fits = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' };
    let host: String = place.unwrap_or("").chars().map(fits).take(HOST_BYTES).collect();
    if host.is_empty() { server.to_owned() } else { host }
}

/// A message as a client wrote it: what the other clients of this listener see is exactly that.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Live {
    pub notice: bool,
    /// Client-only tags.
    pub tags: Vec<(String, String)>,
    /// Lines, and whether each continues the one before. Never empty in a message.
    pub lines: Vec<(String, bool)>,
}

impl Live {
    /// The whole text: lines that continue others are joined to them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, (line, concat)) in self.lines.iter().enumerate() {
            if index > 0 && !concat {
                text.push('\n');
            }
            text.push_str(line);
        }
        text
    }

    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Who says something, when, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub id: &'a str,
    pub at: Timestamp,
    pub prefix: &'a str,
    pub account: Option<&'a str>,
    pub bot: bool,
    pub target: &'a str,
}

impl Said<'_> {
    /// Puts the tags on a line that every line of it has: time, account, bot.
    fn plain_tags(&self, line: Line, caps: CapSet) -> Line {
        let line = match caps.has(Cap::ServerTime) {
            true => line.tag("time", stamp::server_time(self.at)),
            false => line,
        };
        let line = match self.account.filter(|_| caps.has(Cap::AccountTag)) {
            Some(account) => line.tag("account", account),
            None => line,
        };
        if self.bot && caps.has(Cap::MessageTags) { line.tag("bot", "") } else { line }
    }

    /// The same with what it has once: its id.
    pub fn tags(&self, line: Line, caps: CapSet) -> Line {
        let line = match caps.has(Cap::ServerTime) {
            true => line.tag("time", stamp::server_time(self.at)),
            false => line,
        };
        let line = if caps.has(Cap::MessageTags) { line.tag("msgid", self.id) } else { line };
        let line = match self.account.filter(|_| caps.has(Cap::AccountTag)) {
            Some(account) => line.tag("account", account),
            None => line,
        };
        if self.bot && caps.has(Cap::MessageTags) { line.tag("bot", "") } else { line }
    }
}

/// A message as its lines for one set of capabilities. Lines that are too long with the sender's
/// prefix are cut, and go on in the next.
pub fn live(said: &Said<'_>, live: &Live, caps: CapSet) -> Vec<Line> {
    let command = if live.notice { "NOTICE" } else { "PRIVMSG" };
    let head = Line::from(said.prefix, command).param(said.target);
    let room = head.room();
    let mut pieces: Vec<(String, bool)> = Vec::new();
    for (text, concat) in &live.lines {
        if text.len() <= room {
            pieces.push((text.clone(), *concat));
            continue;
        }
        let cut = if text.starts_with('\x01') { cut_action(text, room) } else { split::split(text, room) };
        pieces.extend(cut.into_iter().enumerate().map(|(index, piece)| (piece, index > 0 || *concat)));
    }
    if pieces.len() > 1 && caps.has(Cap::Multiline) && caps.has(Cap::Batch) {
        return batch(said, &head, pieces, &live.tags, caps);
    }
    let pieces = pieces.into_iter().filter(|(text, _)| !text.is_empty());
    let mut lines: Vec<Line> = Vec::new();
    for (text, _) in pieces {
        let line = head.clone().text(text);
        let mut line = if lines.is_empty() { said.tags(line, caps) } else { said.plain_tags(line, caps) };
        if caps.has(Cap::MessageTags) {
            line.tags.extend(live.tags.iter().cloned());
        }
        lines.push(line);
    }
    lines
}

/// Client-only tags as a TAGMSG; nothing for who cannot take tags.
pub fn tagmsg(said: &Said<'_>, tags: &[(String, String)], caps: CapSet) -> Option<Line> {
    if !caps.has(Cap::MessageTags) {
        return None;
    }
    let mut line = said.tags(Line::from(said.prefix, "TAGMSG").param(said.target), caps);
    line.tags.extend(tags.iter().cloned());
    Some(line)
}

/// Lines as one draft/multiline batch. Its reference is the message's: every client gets the same bytes.
fn batch(
    said: &Said<'_>,
    head: &Line,
    pieces: Vec<(String, bool)>,
    tags: &[(String, String)],
    caps: CapSet,
) -> Vec<Line> {
    let id: String = said.id.chars().take(20).collect();
    let open = Line::from(said.prefix, "BATCH").param(format!("+{id}")).param("draft/multiline");
    let mut open = said.tags(open.param(said.target), caps);
    if caps.has(Cap::MessageTags) {
        open.tags.extend(tags.iter().cloned());
    }
    let mut lines = vec![open];
    for (text, concat) in pieces {
        let line = head.clone().text(text).tag("batch", id.as_str());
        lines.push(if concat { line.tag("draft/multiline-concat", "") } else { line });
    }
    lines.push(Line::from(said.prefix, "BATCH").param(format!("-{id}")));
    lines
}

fn cut_action(text: &str, room: usize) -> Vec<String> {
    let inner = text.trim_matches('\x01').strip_prefix("ACTION ").unwrap_or("");
    let pieces = split::split(inner, room.saturating_sub(ACTION_BYTES)).into_iter();
    pieces.map(|piece| format!("\x01ACTION {piece}\x01")).collect()
}

/// A message out of the log as lines: one for each line of its text, each cut to fit. `mark` goes
/// before each.
pub fn message(said: &Said<'_>, content: &Content, caps: CapSet, mark: &str) -> Vec<Line> {
    let text = match &content.formatted {
        Some(html) => format::html_to_irc(html),
        None => content.body.clone(),
    };
    match content.envelope.relation {
        Some(Relation::Reaction(to)) => return reaction(said, (&content.body, &to.to_string()), caps, mark),
        Some(Relation::Edit(of)) if caps.has(Cap::MessageTags) => {
            // Who can take tags sees which message it stands for.
            let corrected = Content { envelope: Envelope::default(), ..content.clone() }.replying(Some(of));
            return message(said, &corrected, caps, &format!("{mark}{EDITED}"));
        }
        Some(Relation::Edit(_)) => {
            let corrected = Content { envelope: Envelope::default(), ..content.clone() };
            return message(said, &corrected, caps, &format!("{mark}{EDITED}"));
        }
        _ => {}
    }
    // A delimiter inside a text would make a CTCP request of it.
    let text: String = text.chars().filter(|c| !matches!(c, '\x01' | '\0')).collect();
    let notice = content.style == Style::Notice;
    let head = Line::from(said.prefix, if notice { "NOTICE" } else { "PRIVMSG" }).param(said.target);
    let emote = content.style == Style::Emote;
    let room = head.room().saturating_sub(mark.len() + if emote { ACTION_BYTES } else { 0 });
    let mut lines = Vec::new();
    for part in text.split('\n') {
        for (index, piece) in split::split(part, room).into_iter().enumerate() {
            let text = if emote { format!("\x01ACTION {mark}{piece}\x01") } else { format!("{mark}{piece}") };
            // An action is a line of its own in every client.
            lines.push((text, index > 0 && !emote && mark.is_empty()));
        }
    }
    let reply = content.reply_to().map(|event| ("+draft/reply".to_owned(), event.to_string()));
    live(said, &Live { notice, tags: reply.into_iter().collect(), lines }, caps)
}

/// A reaction: tags where a client takes them, words where it does not.
fn reaction(said: &Said<'_>, (what, to): (&str, &str), caps: CapSet, mark: &str) -> Vec<Line> {
    if caps.has(Cap::MessageTags) {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        return tagmsg(said, &[tag("+draft/react", what), tag("+draft/reply", to)], caps)
            .into_iter()
            .collect();
    }
    let text = format!("\x01ACTION {mark}reacts: {what}\x01");
    live(said, &Live { notice: false, tags: Vec::new(), lines: vec![(text, false)] }, caps)
}

/// Somebody joined.
pub fn join(channel: &str, prefix: &str, (account, realname): (Option<&str>, &str), caps: CapSet) -> Line {
    let line = Line::from(prefix, "JOIN").param(channel);
    // `*` is how extended-join says that there is no account.
    if caps.has(Cap::ExtendedJoin) { line.param(account.unwrap_or("*")).text(realname) } else { line }
}

/// What a client's text says: its style, the plain body and the formatted one. `None` for a CTCP
/// request other than ACTION: those ask a client about itself, and a channel is no client.
pub fn content(notice: bool, text: &str) -> Option<Content> {
    let (style, text) = match text.strip_prefix('\x01') {
        Some(ctcp) => {
            let ctcp = ctcp.strip_suffix('\x01').unwrap_or(ctcp);
            let (name, rest) = ctcp.split_once(' ').unwrap_or((ctcp, ""));
            if !name.eq_ignore_ascii_case("ACTION") {
                return None;
            }
            (Style::Emote, rest)
        }
        None => (if notice { Style::Notice } else { Style::Text }, text),
    };
    let formatted = format::irc_to_html(text);
    Some(Content { style, formatted, ..Content::text(format::strip(text)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_say_where_somebody_is_from() {
        for (home, expect) in [
            ("@alice:example.org", "example.org"),
            ("@alice:example.org:8448", "example.org-8448"),
            ("bob@irc.libera.chat", "irc.libera.chat"),
            ("", "multichat.local"),
            ("x@evil host\r\n", "evil-host--"),
        ] {
            assert_eq!(host(home, "multichat.local"), expect);
        }
        assert_eq!(user("al ice!@"), "alice");
        assert_eq!(user("Зоя"), "user");
    }
}

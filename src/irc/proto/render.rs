//! News as lines, for one set of capabilities. It decides how a thing looks, never who sees it.

use super::caps::{Cap, CapSet};
use super::line::Line;
use super::{format, split, stamp};
use crate::chat::message::{Content, Envelope, Style};
use crate::chat::profile::Profile;
use crate::chat::view::News;

/// Bytes of the user part of a prefix.
const USER_BYTES: usize = 16;
/// Bytes of the host part of a prefix.
const HOST_BYTES: usize = 63;
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

/// The tags of a piece of news: its time and id.
pub fn tags(line: Line, news: &News, caps: CapSet) -> Line {
    let line = if caps.has(Cap::ServerTime) { line.tag("time", stamp::server_time(news.at)) } else { line };
    if caps.has(Cap::MessageTags) { line.tag("msgid", news.event.to_string()) } else { line }
}

/// A message as lines: one for each line of its text, each cut to fit. `mark` goes before each.
pub fn message(news: &News, content: &Content, prefix: &str, caps: CapSet, mark: &str) -> Vec<Line> {
    let command = if content.style == Style::Notice { "NOTICE" } else { "PRIVMSG" };
    let text = match &content.formatted {
        Some(html) => format::html_to_irc(html),
        None => content.body.clone(),
    };
    // A delimiter inside a text would make a CTCP request of it.
    let text: String = text.chars().filter(|c| !matches!(c, '\x01' | '\0')).collect();
    let head = Line::from(prefix, command).param(news.channel_name.as_str());
    let emote = content.style == Style::Emote;
    let room = head.room().saturating_sub(mark.len() + if emote { ACTION_BYTES } else { 0 });
    let reply = content.reply_to().filter(|_| caps.has(Cap::MessageTags));
    split::split(&text, room)
        .into_iter()
        .map(|piece| {
            let text = if emote { format!("\x01ACTION {mark}{piece}\x01") } else { format!("{mark}{piece}") };
            let line = tags(head.clone().text(text), news, caps);
            match reply {
                Some(event) => line.tag("+draft/reply", event.to_string()),
                None => line,
            }
        })
        .collect()
}

/// Somebody joined.
pub fn join(news: &News, prefix: &str, realname: &str, caps: CapSet) -> Line {
    tags(join_plain(&news.channel_name, prefix, realname, caps), news, caps)
}

/// The same, where there is no news of it.
pub fn join_plain(channel: &str, prefix: &str, realname: &str, caps: CapSet) -> Line {
    let line = Line::from(prefix, "JOIN").param(channel);
    // No accounts yet: `*` is how extended-join says so.
    if caps.has(Cap::ExtendedJoin) { line.param("*").text(realname) } else { line }
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
    Some(Content { style, body: format::strip(text), formatted, origin: None, envelope: Envelope::default() })
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

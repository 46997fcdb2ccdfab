//! News of a channel as the lines that a relay says on IRC. Pure: what to say, never when.

use std::collections::{BTreeMap, VecDeque};

use unicode_segmentation::UnicodeSegmentation;

use super::clock;
use crate::base::{EventId, Timestamp};
use crate::chat::message::{Content, Style};
use crate::chat::view::{News, What};
use crate::irc::proto::format::{html_to_irc, strip};
use crate::irc::proto::split::split;

/// A message delivered later than this after it was said bears the time it was said.
const LATE_MS: u64 = 60_000;
/// Characters of a name that are shown.
const NAME_CHARS: usize = 32;
/// Characters of a message that are quoted above a reply.
const QUOTE_CHARS: usize = 60;
/// Messages whose beginnings are kept for quoting; the oldest go.
const QUOTES: usize = 1024;

/// Lines to say, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lines {
    /// With `NOTICE`, else with `PRIVMSG`.
    pub notice: bool,
    pub texts: VecDeque<String>,
}

/// What a piece of news becomes in at most `room` bytes a line; no lines for what a relay keeps to
/// itself (who joins, leaves or is renamed on the other side).
pub(super) fn render(news: &News, quotes: &Quotes, now: Timestamp, room: usize) -> Lines {
    let name = shown_name(news.author.profile.name());
    let late = now.since_ms(news.at) > LATE_MS;
    let mark = if late { format!("{} ", clock::late_mark(news.at, now)) } else { String::new() };
    let (notice, lead, text) = match &news.what {
        What::Message(content) => {
            let lead = match content.style {
                Style::Emote => format!("* {name} {mark}"),
                Style::Text | Style::Notice => format!("<{name}> {mark}"),
            };
            (content.style == Style::Notice, lead, text_of(content, quotes))
        }
        What::Topic(topic) => (true, format!("* {name} {mark}"), format!("set the topic: {topic}")),
        What::Created
        | What::Joined
        | What::Left { .. }
        | What::Profile { .. }
        | What::Granted { .. }
        | What::Revoked { .. }
        | What::Redacted { .. }
        | What::Changed(_)
        | What::Knocked { .. }
        | What::Unknown { .. }
        | What::Withdrawn => {
            return Lines { notice: false, texts: VecDeque::new() };
        }
        What::Linked(_) | What::Unlinked(_) => return Lines { notice: false, texts: VecDeque::new() },
    };
    let pieces = split(&text, room.saturating_sub(lead.len()));
    Lines { notice, texts: pieces.into_iter().map(|piece| format!("{lead}{piece}")).collect() }
}

fn text_of(content: &Content, quotes: &Quotes) -> String {
    let formatted =
        content.formatted.as_deref().map(html_to_irc).filter(|text| !strip(text).trim().is_empty());
    let text = formatted.unwrap_or_else(|| strip(&content.body));
    match content.reply_to().and_then(|event| quotes.beginnings.get(&event)) {
        Some(quote) => format!("> {quote}\n{text}"),
        None => text,
    }
}

/// A name in one line and of bounded length. A zero-width space after its first character keeps a
/// client from highlighting the person when they are on both sides.
fn shown_name(name: &str) -> String {
    let name = one_line(name, NAME_CHARS);
    let mut graphemes = name.graphemes(true);
    match graphemes.next() {
        Some(first) => format!("{first}\u{200b}{}", graphemes.as_str()),
        None => "?".to_owned(),
    }
}

/// The beginning of a text, without codes and line breaks.
fn one_line(text: &str, characters: usize) -> String {
    let text = strip(text);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    let mut short: String = text.graphemes(true).take(characters).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    // A grapheme may be long by itself; a name or quote must not fill the line.
    let end = (0..=short.len().min(characters * 4)).rev().find(|at| short.is_char_boundary(*at));
    short.truncate(end.unwrap_or(0));
    short
}

/// The beginnings of recent messages, to show what a reply answers.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    beginnings: BTreeMap<EventId, String>,
    order: VecDeque<EventId>,
}

impl Quotes {
    /// Keeps the beginning of a message.
    pub fn keep(&mut self, event: EventId, author: &str, body: &str) {
        let quote = format!("{}: {}", shown_name(author), one_line(body, QUOTE_CHARS));
        if self.beginnings.insert(event, quote).is_none() {
            self.order.push_back(event);
        }
        while self.order.len() > QUOTES {
            if let Some(old) = self.order.pop_front() {
                self.beginnings.remove(&old);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{ChannelId, Identity};
    use crate::chat::access::Role;
    use crate::chat::profile::Profile;
    use crate::chat::view::Member;

    pub fn news(name: &str, at: u64, what: What) -> News {
        let profile = Profile { username: name.into(), ..Profile::default() };
        News {
            event: EventId([at as u8; 32]),
            channel: ChannelId([7; 32]),
            channel_name: "#c".into(),
            position: at,
            at: Timestamp(at),
            author: Member { identity: Identity([1; 32]), role: Role::Member, profile },
            tag: 0,
            what,
        }
    }

    fn check(content: Content, now: u64, expect: &[&str]) {
        let mut quotes = Quotes::default();
        quotes.keep(EventId([9; 32]), "bob", "first\nsecond");
        let news = news("alice", 1000, What::Message(content));
        let lines = render(&news, &quotes, Timestamp(now), 60);
        let texts: Vec<_> = lines.texts.iter().map(|t| t.replace('\u{200b}', "")).collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn messages() {
        check(Content::text("hello"), 1000, &["<alice> hello"]);
        check(Content::text("a\nb\r\nQUIT"), 1000, &["<alice> a", "<alice> b", "<alice> QUIT"]);
        check(Content { style: Style::Emote, ..Content::text("waves") }, 1000, &["* alice waves"]);
        check(Content::text("late"), 62_000, &["<alice> [00:00] late"]);
        let formatted = Some("<b>hi</b>".to_owned());
        check(Content { formatted, ..Content::text("hi") }, 1000, &["<alice> \x02hi"]);
        let reply_to = Some(EventId([9; 32]));
        check(Content::text("yes").replying(reply_to), 1000, &["<alice> > bob: first second", "<alice> yes"]);
    }

    #[test]
    fn every_line_fits() {
        let long = "漢字と👨‍👩‍👧‍👦 ".repeat(40);
        let news = news(
            "ali\r\nce\x02 of the very long name that goes on and on",
            0,
            What::Message(Content::text(long)),
        );
        let lines = render(&news, &Quotes::default(), Timestamp(0), 120);
        assert!(lines.texts.len() > 5);
        for line in lines.texts {
            assert!(line.len() <= 120 && !line.contains(['\r', '\n', '\x02']), "{line:?}");
        }
    }
}

//! News of a channel as the lines that a relay says on IRC. Pure: what to say, never when.

use std::collections::VecDeque;

use unicode_segmentation::UnicodeSegmentation;

use super::channel::State;
use super::isupport::ISupport;
use super::known::{Known, Remembered, Sort};
use super::people::People;
use super::{clock, edit, moderation};
use crate::base::{EventId, Identity, Timestamp};
use crate::chat::message::{Content, Relation, Style};
use crate::chat::view::{News, What};
use crate::irc::proto::format::{html_to_irc, strip};
use crate::irc::proto::split::split;

/// A message delivered later than this after it was said bears the time it was said.
pub(super) const LATE_MS: u64 = 60_000;
/// Characters of a name that are shown.
const NAME_CHARS: usize = 32;
/// Characters of a message that are quoted above a reply.
const QUOTE_CHARS: usize = 60;

/// What a piece of news becomes on the network.
pub(super) type Lines = VecDeque<Utterance>;

/// One line to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Utterance {
    /// With `NOTICE`, else with `PRIVMSG`; as an answer to the message of that id.
    Say {
        notice: bool,
        text: String,
        reply: Option<String>,
    },
    Redact {
        id: String,
        reason: String,
    },
    Topic(String),
    Kick {
        nick: String,
        reason: String,
    },
    /// `+b *!*@host`
    Mode {
        change: &'static str,
        argument: String,
    },
}

impl Utterance {
    /// Whether both are the same to those who read them: ids are of no account.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Say { notice, text, .. }, Self::Say { notice: other_notice, text: other_text, .. }) => {
                notice == other_notice && text == other_text
            }
            _ => self == other,
        }
    }
}

/// What there is to know when something is said.
pub(super) struct View<'a> {
    pub network: &'a str,
    /// The channel's folded name.
    pub channel: &'a str,
    pub state: &'a mut State,
    pub known: &'a Known,
    pub people: &'a People,
    pub support: &'a ISupport,
    /// Whether the relay is an operator of the channel.
    pub operator: bool,
    /// Whether messages may have tags.
    pub tags: bool,
    /// Whether the network takes messages back (`draft/message-redaction`).
    pub redacts: bool,
    pub now: Timestamp,
    /// Bytes of a text in one line.
    pub room: usize,
}

/// What a piece of news becomes; no lines for what a relay keeps to itself (who joins, leaves or is
/// renamed on the other side).
///
/// # Errors
/// Why it must not go there.
pub(super) fn render(news: &News, view: &mut View<'_>) -> Result<Lines, String> {
    let actor = shown_name(news.author.profile.name());
    match &news.what {
        What::Message(content) => message(news, content, view),
        What::Redacted { target, sender, .. } => Ok(taken_back(news, &actor, target, sender, view)),
        What::Withdrawn => Ok(withdrawn(news, view)),
        What::Topic(topic) => Ok(set_topic(&actor, topic, view)),
        What::Granted { subject, role } => Ok(moderation::granted(&actor, subject, *role, view)),
        What::Revoked { subject, then, reason } => {
            Ok(moderation::revoked(&actor, subject, *then, reason, view))
        }
        What::Changed(change) => {
            Ok(moderation::setting(change).map(|text| action(&actor, &text, view)).unwrap_or_default())
        }
        What::Created
        | What::Joined
        | What::Left { .. }
        | What::Profile { .. }
        | What::Knocked { .. }
        | What::Unknown { .. }
        | What::Linked(_)
        | What::Unlinked(_) => Ok(Lines::new()),
    }
}

fn message(news: &News, content: &Content, view: &mut View<'_>) -> Result<Lines, String> {
    let name = news.author.profile.name();
    view.state.voice(news.author.identity, &one_line(name, NAME_CHARS));
    if view.state.muted.contains(&news.author.identity) {
        return Err("an operator of the channel muted its author there".into());
    }
    let name = shown_name(name);
    let late = view.now.since_ms(news.at) > LATE_MS;
    let mark = if late { format!("{} ", clock::late_mark(news.at, view.now)) } else { String::new() };
    let lead = match content.style {
        Style::Emote => format!("* {name} {mark}"),
        Style::Text | Style::Notice => format!("<{name}> {mark}"),
    };
    let notice = content.style == Style::Notice;
    let target = content.envelope.relation.and_then(|relation| view.known.get(&relation.target()));
    let (notice, lead, text) = match content.envelope.relation {
        Some(Relation::Reaction(_)) => {
            let what =
                target.map_or_else(|| "an earlier message".to_owned(), |known| quoted(known, view.now));
            let with = one_line(&content.body, NAME_CHARS);
            (true, format!("* {name} {mark}"), format!("reacted {with} to {what}"))
        }
        Some(Relation::Edit(_)) => match target.map(|known| known.before(&news.event)) {
            Some(before) if !before.is_empty() => match edit::shown(before, &strip(&content.body)) {
                Some(text) => (notice, format!("{lead}* "), text),
                None => return Ok(Lines::new()),
            },
            _ => (notice, format!("{lead}* "), format!("{} (edited)", text_of(content))),
        },
        _ => {
            let answered = content.reply_to().and_then(|target| view.known.get(&target));
            let quoted = answered.map(|known| quoted(known, view.now));
            let quote = quoted.map(|quote| format!("[{quote}] ")).unwrap_or_default();
            (notice, lead, format!("{quote}{}", text_of(content)))
        }
    };
    let reply = content.envelope.relation.map(|relation| match relation {
        Relation::Thread { reply_to: Some(target), .. } => target,
        other => other.target(),
    });
    let reply = reply.and_then(|target| view.known.get(&target)?.ids.first().cloned());
    let mut lines = said(notice, &lead, &text, view);
    if let (Some(Utterance::Say { reply: first, .. }), true) = (lines.front_mut(), view.tags) {
        *first = reply;
    }
    Ok(lines)
}

/// A text in as many lines as it takes, each with the same beginning.
fn said(notice: bool, lead: &str, text: &str, view: &View<'_>) -> Lines {
    let pieces = split(text, view.room.saturating_sub(lead.len()));
    let line = |piece| Utterance::Say { notice, text: format!("{lead}{piece}"), reply: None };
    pieces.into_iter().map(line).collect()
}

/// What somebody did, as a notice.
pub(super) fn action(actor: &str, text: &str, view: &View<'_>) -> Lines {
    said(true, &format!("* {actor} "), text, view)
}

fn taken_back(news: &News, actor: &str, target: &EventId, sender: &Identity, view: &View<'_>) -> Lines {
    let known = view.known.get(target);
    if let Some(lines) = redacted_there(known, view) {
        return lines;
    }
    let text = match known {
        Some(known) if known.sort == Sort::Reaction => "took back a reaction".to_owned(),
        Some(known) if *sender != news.author.identity => {
            format!("took back a message of {}", addressed(known))
        }
        _ if *sender != news.author.identity => "took back a message of another".to_owned(),
        _ => "took back an earlier message".to_owned(),
    };
    action(actor, &text, view)
}

fn withdrawn(news: &News, view: &View<'_>) -> Lines {
    let known = view.known.get(&news.event);
    // What nobody there was shown need not be withdrawn.
    let Some(message) = known.filter(|known| !known.body.is_empty()) else { return Lines::new() };
    if message.sort == Sort::Reaction {
        return Lines::new();
    }
    redacted_there(known, view).unwrap_or_else(|| {
        let text = "was withdrawn: what they said last does not count, for they had been removed";
        action(&addressed(message), text, view)
    })
}

/// Takes our own lines of a message back where the network can.
fn redacted_there(known: Option<&Remembered>, view: &View<'_>) -> Option<Lines> {
    let known = known.filter(|known| view.redacts && (known.by_us || view.operator))?;
    let redact = |id: &String| Utterance::Redact { id: id.clone(), reason: "taken back".into() };
    Some(known.ids.iter().map(redact).collect()).filter(|lines: &Lines| !lines.is_empty())
}

fn set_topic(actor: &str, topic: &str, view: &View<'_>) -> Lines {
    let topic = one_line(topic, usize::MAX);
    if view.state.topic.as_deref() == Some(&topic) {
        return Lines::new();
    }
    // The frame of TOPIC is no longer than that of PRIVMSG.
    if topic.len() <= view.room && (view.operator || view.state.topic_locked == Some(false)) {
        return Lines::from([Utterance::Topic(topic)]);
    }
    action(actor, &format!("set the topic: {topic}"), view)
}

fn text_of(content: &Content) -> String {
    let formatted =
        content.formatted.as_deref().map(html_to_irc).filter(|text| !strip(text).trim().is_empty());
    formatted.unwrap_or_else(|| strip(&content.body))
}

/// The beginning of a message, for quoting.
fn quoted(known: &Remembered, now: Timestamp) -> String {
    let author = addressed(known);
    match one_line(known.text(now), QUOTE_CHARS) {
        body if body.is_empty() => author,
        body => format!("{author}: {body}"),
    }
}

/// The author's name; a person of this network is called by their nick, so that they notice.
fn addressed(known: &Remembered) -> String {
    if known.is_here { one_line(&known.author, NAME_CHARS) } else { shown_name(&known.author) }
}

/// A name in one line and of bounded length. A zero-width space after its first character keeps a
/// client from highlighting the person when they are on both sides.
pub(super) fn shown_name(name: &str) -> String {
    let name = one_line(name, NAME_CHARS);
    let mut graphemes = name.graphemes(true);
    match graphemes.next() {
        Some(first) => format!("{first}\u{200b}{}", graphemes.as_str()),
        None => "?".to_owned(),
    }
}

/// How lines about somebody begin.
pub(super) fn leads(name: &str) -> [String; 2] {
    let name = shown_name(name);
    [format!("<{name}> "), format!("* {name} ")]
}

/// The beginning of a text, without codes and line breaks.
pub(super) fn one_line(text: &str, characters: usize) -> String {
    let text = strip(text);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    let mut short: String = text.graphemes(true).take(characters).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    // A grapheme may be long by itself; a name or quote must not fill the line.
    let end =
        (0..=short.len().min(characters.saturating_mul(4))).rev().find(|at| short.is_char_boundary(*at));
    short.truncate(end.unwrap_or(0));
    short
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

    /// Renders for a channel `#c` of `net`, with what `set` makes of the view.
    pub fn lines(news: &News, known: &Known, now: u64, set: impl FnOnce(&mut View<'_>)) -> Vec<Utterance> {
        let people = People::new("net".into());
        let mut view = View {
            network: "net",
            channel: "#c",
            state: &mut State::default(),
            known,
            people: &people,
            support: &ISupport::default(),
            operator: false,
            tags: false,
            redacts: false,
            now: Timestamp(now),
            room: 60,
        };
        set(&mut view);
        render(news, &mut view).unwrap().into()
    }

    pub fn texts(lines: &[Utterance]) -> Vec<String> {
        let text = |line: &Utterance| match line {
            Utterance::Say { text, .. } => text.replace('\u{200b}', ""),
            other => format!("{other:?}"),
        };
        lines.iter().map(text).collect()
    }

    fn known() -> Known {
        let mut known = Known::default();
        known.keep(EventId([9; 32]), Sort::Words, "bob", true, "first\nsecond");
        known.named(EventId([9; 32]), "m9", false);
        known
    }

    fn check(content: Content, now: u64, expect: &[&str]) {
        let news = news("alice", 1000, What::Message(content));
        assert_eq!(texts(&lines(&news, &known(), now, |_| {})), expect);
    }

    fn related(body: &str, relation: Relation) -> Content {
        let mut content = Content::text(body);
        content.envelope.relation = Some(relation);
        content
    }

    #[test]
    fn messages() {
        check(Content::text("hello"), 1000, &["<alice> hello"]);
        check(Content::text("a\nb\r\nQUIT"), 1000, &["<alice> a", "<alice> b", "<alice> QUIT"]);
        check(Content { style: Style::Emote, ..Content::text("waves") }, 1000, &["* alice waves"]);
        check(Content::text("late"), 62_000, &["<alice> [00:00] late"]);
        let formatted = Some("<b>hi</b>".to_owned());
        check(Content { formatted, ..Content::text("hi") }, 1000, &["<alice> \x02hi"]);
    }

    #[test]
    fn what_relates_to_another_message() {
        let target = EventId([9; 32]);
        let unknown = EventId([8; 32]);
        check(related("yes", Relation::Reply(target)), 1000, &["<alice> [bob: first second] yes"]);
        let mut expired = known();
        let mut once = Content::text("for a while");
        once.envelope.expires = Some(Timestamp(2000));
        expired.note(&News { event: unknown, ..news("bob", 1, What::Message(once)) }, "net");
        let reply = news("alice", 2000, What::Message(related("yes", Relation::Reply(unknown))));
        assert_eq!(texts(&lines(&reply, &expired, 1999, |_| {})), ["<alice> [bob: for a while] yes"]);
        assert_eq!(texts(&lines(&reply, &expired, 2000, |_| {})), ["<alice> [bob] yes"]);
        check(related("yes", Relation::Reply(unknown)), 1000, &["<alice> yes"]);
        check(
            related("first third", Relation::Edit(target)),
            1000,
            &["<alice> * first \x02third\x02 (was: second)"],
        );
        check(related("first second", Relation::Edit(target)), 1000, &[]);
        check(related("new", Relation::Edit(unknown)), 1000, &["<alice> * new (edited)"]);
        check(related("👍", Relation::Reaction(target)), 1000, &["* alice reacted 👍 to bob: first second"]);
        check(
            related("👍", Relation::Reaction(unknown)),
            1000,
            &["* alice reacted 👍 to an earlier message"],
        );
    }

    #[test]
    fn a_reply_names_what_it_answers_where_tags_may() {
        let news = news("alice", 1000, What::Message(related("yes", Relation::Reply(EventId([9; 32])))));
        let reply = |tags| match lines(&news, &known(), 1000, |view| view.tags = tags).remove(0) {
            Utterance::Say { reply, .. } => reply,
            other => panic!("{other:?}"),
        };
        assert_eq!((reply(true).as_deref(), reply(false)), (Some("m9"), None));
    }

    #[test]
    fn what_is_taken_back_is_not_quoted() {
        let (target, sender) = (EventId([9; 32]), Identity([1; 32]));
        let redacted = |sender| What::Redacted { target, sender, reason: String::new() };
        let own = news("alice", 1000, redacted(sender));
        assert_eq!(texts(&lines(&own, &known(), 1000, |_| {})), ["* alice took back an earlier message"]);
        let others = news("mod", 1000, redacted(Identity([2; 32])));
        assert_eq!(texts(&lines(&others, &known(), 1000, |_| {})), ["* mod took back a message of bob"]);

        let mut known = known();
        known.named(target, "m10", true);
        let redact = |id: &str| Utterance::Redact { id: id.into(), reason: "taken back".into() };
        let removed = lines(&own, &known, 1000, |view| view.redacts = true);
        assert_eq!(removed, [redact("m9"), redact("m10")]);
        known.note(&own, "net");
        let reply = news("carol", 1000, What::Message(related("what?", Relation::Reply(target))));
        assert_eq!(texts(&lines(&reply, &known, 1000, |_| {})), ["<carol> [bob] what?"]);
    }

    #[test]
    fn what_turned_void_is_withdrawn() {
        let mut void = news("bob", 1000, What::Withdrawn);
        assert!(lines(&void, &known(), 1000, |_| {}).is_empty(), "nobody was shown it");
        void.event = EventId([9; 32]);
        let shown = texts(&lines(&void, &known(), 1000, |view| view.room = 400));
        let expect = "* bob was withdrawn: what they said last does not count, for they had been removed";
        assert_eq!(shown, [expect]);
    }

    #[test]
    fn topics() {
        let news = news("alice", 1000, What::Topic("a\nb".into()));
        assert_eq!(texts(&lines(&news, &known(), 1000, |_| {})), ["* alice set the topic: a b"]);
        let topic = [Utterance::Topic("a b".into())];
        assert_eq!(lines(&news, &known(), 1000, |view| view.operator = true), topic);
        assert_eq!(lines(&news, &known(), 1000, |view| view.state.topic_locked = Some(false)), topic);
        assert!(lines(&news, &known(), 1000, |view| view.state.topic = Some("a b".into())).is_empty());
    }

    #[test]
    fn every_line_fits() {
        let long = "漢字と👨‍👩‍👧‍👦 ".repeat(40);
        let news = news(
            "ali\r\nce\x02 of the very long name that goes on and on",
            0,
            What::Message(Content::text(long)),
        );
        let lines = texts(&lines(&news, &Known::default(), 0, |view| view.room = 120));
        assert!(lines.len() > 5);
        for line in lines {
            assert!(line.len() <= 120 && !line.contains(['\r', '\n', '\x02']), "{line:?}");
        }
    }
}

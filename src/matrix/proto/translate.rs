//! Matrix events into what they mean for Multichat, and messages into Matrix content. One event
//! at a time; what an event means never depends on the one before.

use std::fmt;

use serde_json::{Value, json};

use super::ghosts::{cut, is_user_id};
use super::names::Names;
use crate::base::{EventId, Kind, Timestamp, limits};
use crate::chat::message::{Content, Envelope, Link, Origin, Style};

/// The content key that marks what came out of Multichat, with the event's id: other nodes leave
/// such events alone, and we find our own again when we are not sure that they arrived.
pub const MARK: &str = "org.multichat.event";

/// Bytes of an event's content that we send. A whole event may have 65,536 (Matrix specification,
/// "Size limits"); the rest is for what the homeserver adds.
const SENT_BYTES: usize = 56 * 1024;

/// Bytes of an identifier (Matrix specification, "Size limits").
const ID_BYTES: usize = 255;

/// What stands at the end of a text that had to be cut.
const CUT: &str = " … (cut: too long)";

/// An event, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// Somebody said something; `content` names its origin.
    Said {
        at: Place,
        content: Content,
    },
    /// `user` is in the room now. `renamed` says that they were before, and changed their profile.
    Joined {
        at: Place,
        user: String,
        display_name: Option<String>,
        renamed: bool,
    },
    /// `user` is in the room no more.
    Left {
        at: Place,
        user: String,
        reason: String,
    },
    /// The bot is invited; `direct` into a chat of two.
    Invited {
        at: Place,
        direct: bool,
    },
    /// The bot was removed from the room.
    Removed {
        at: Place,
    },
    Topic {
        at: Place,
        topic: String,
    },
    /// Something encrypted, which cannot be read yet.
    Encrypted {
        at: Place,
    },
    /// Nothing to be done, and why.
    Ignored(&'static str),
}

/// Where an event stands and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub room: String,
    pub event_id: String,
    pub sender: String,
}

/// What is wrong with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed event: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Understands one event of a transaction.
///
/// # Errors
/// [`Malformed`] names the part that breaks the specification.
pub fn read(event: &Value, names: &Names) -> Result<Incoming, Malformed> {
    let place = place(event)?;
    let kind = event["type"].as_str().ok_or(Malformed("type is not a text"))?;
    let content = &event["content"];
    if !content.is_object() {
        return Err(Malformed("content is not an object"));
    }
    if kind == "m.room.member" {
        return member(event, place, names);
    }
    if names.is_ours(&place.sender) {
        return Ok(Incoming::Ignored("ours"));
    }
    if content.get(MARK).is_some() {
        return Ok(Incoming::Ignored("another node's"));
    }
    match kind {
        "m.room.message" => said(event, place, message(content)?),
        "m.sticker" => said(event, place, Some((Style::Text, media("a sticker", content)?, None))),
        "m.room.topic" => {
            let topic = content["topic"].as_str().unwrap_or_default();
            let topic: String = topic.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            Ok(Incoming::Topic { at: place, topic: cut(&topic, limits::TOPIC_BYTES).to_owned() })
        }
        "m.room.encrypted" => Ok(Incoming::Encrypted { at: place }),
        "m.room.redaction" => Ok(Incoming::Ignored("redaction")),
        "m.reaction" => Ok(Incoming::Ignored("reaction")),
        _ => Ok(Incoming::Ignored("type not carried")),
    }
}

fn place(event: &Value) -> Result<Place, Malformed> {
    let id = |key: &str, sigil: char, broken: &'static str| match event[key].as_str() {
        Some(text) if text.starts_with(sigil) && (2..=ID_BYTES).contains(&text.len()) => Ok(text.to_owned()),
        _ => Err(Malformed(broken)),
    };
    let place = Place {
        room: id("room_id", '!', "room_id is not a room's id")?,
        event_id: id("event_id", '$', "event_id is not an event's id")?,
        sender: id("sender", '@', "sender is not a user's id")?,
    };
    if is_user_id(&place.sender) { Ok(place) } else { Err(Malformed("sender is not a user's id")) }
}

fn said(
    event: &Value,
    at: Place,
    message: Option<(Style, String, Option<String>)>,
) -> Result<Incoming, Malformed> {
    let said_at = event["origin_server_ts"].as_u64().ok_or(Malformed("origin_server_ts is not a time"))?;
    let Some((style, body, formatted)) = message else {
        return Ok(Incoming::Ignored("empty"));
    };
    let origin = Origin {
        link: Link::Matrix { room: at.room.clone() },
        external_id: at.event_id.clone(),
        said_at: Timestamp(said_at),
    };
    let formatted = formatted.filter(|html| html.len() <= limits::BODY_BYTES);
    let content = Content {
        style,
        body: shorten(body, limits::BODY_BYTES),
        formatted,
        envelope: Envelope::default(),
        origin: Some(origin),
    };
    Ok(Incoming::Said { at, content })
}

/// Style, body and formatted body of `m.room.message`; `None` if there is nothing in it.
fn message(content: &Value) -> Result<Option<(Style, String, Option<String>)>, Malformed> {
    if content.as_object().is_some_and(|map| map.is_empty()) {
        return Ok(None); // redacted before it reached us
    }
    let kind = content["msgtype"].as_str().ok_or(Malformed("msgtype is not a text"))?;
    let relation = &content["m.relates_to"];
    let edit = relation["rel_type"] == "m.replace" && content["m.new_content"].is_object();
    let shown = if edit { &content["m.new_content"] } else { content };
    let body = shown["body"].as_str().ok_or(Malformed("body is not a text"))?;
    let style = match kind {
        "m.text" => Style::Text,
        "m.notice" => Style::Notice,
        "m.emote" => Style::Emote,
        "m.key.verification.request" => return Ok(None),
        "m.image" => return Ok(Some((Style::Text, media("an image", shown)?, None))),
        "m.file" => return Ok(Some((Style::Text, media("a file", shown)?, None))),
        "m.audio" => return Ok(Some((Style::Text, media("a sound", shown)?, None))),
        "m.video" => return Ok(Some((Style::Text, media("a video", shown)?, None))),
        "m.location" => {
            let place = shown["geo_uri"].as_str().unwrap_or("no position");
            return Ok(Some((Style::Text, format!("shared a location: {body} ({place})"), None)));
        }
        _ => Style::Text,
    };
    let formatted =
        (shown["format"] == "org.matrix.custom.html").then(|| shown["formatted_body"].as_str()).flatten();
    let reply = relation["m.in_reply_to"].is_object();
    let (mut body, mut formatted) = match reply {
        true => (without_quote(body).to_owned(), formatted.map(|html| without_quoted_html(html).to_owned())),
        false => (body.to_owned(), formatted.map(str::to_owned)),
    };
    if body.trim().is_empty() {
        return Ok(None);
    }
    if edit {
        body.insert_str(0, "* ");
        formatted = formatted.map(|html| format!("* {html}"));
    }
    Ok(Some((style, body, formatted)))
}

/// What stands for a picture, a file, a sound: its name, its address, and what was said with it.
fn media(what: &str, content: &Value) -> Result<String, Malformed> {
    let body = content["body"].as_str().ok_or(Malformed("body is not a text"))?;
    let name = content["filename"].as_str().unwrap_or(body);
    let caption = if name == body { String::new() } else { format!(": {body}") };
    // An encrypted file has its address one level down; without the room's keys it cannot be opened.
    let address = content["url"].as_str().or_else(|| content["file"]["url"].as_str()).unwrap_or("no address");
    Ok(format!("sent {what}: {name} ({address}){caption}"))
}

/// A reply's body without the quotation that older clients put in front of it.
fn without_quote(body: &str) -> &str {
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        rest = rest.split_once('\n').map_or("", |(_, after)| after);
    }
    let rest = if rest.len() < body.len() { rest.strip_prefix('\n').unwrap_or(rest) } else { rest };
    if rest.trim().is_empty() { body } else { rest }
}

fn without_quoted_html(html: &str) -> &str {
    match html.strip_prefix("<mx-reply>").and_then(|rest| rest.split_once("</mx-reply>")) {
        Some((_, rest)) if !rest.trim().is_empty() => rest,
        _ => html,
    }
}

fn member(event: &Value, at: Place, names: &Names) -> Result<Incoming, Malformed> {
    let content = &event["content"];
    let user = event["state_key"].as_str().filter(|user| is_user_id(user));
    let user = user.ok_or(Malformed("state_key is not a user's id"))?.to_owned();
    let membership = content["membership"].as_str().ok_or(Malformed("membership is not a text"))?;
    let before = &event["unsigned"]["prev_content"];
    if user == names.bot() {
        return Ok(match membership {
            "invite" => Incoming::Invited { at, direct: content["is_direct"] == true },
            "leave" | "ban" => Incoming::Removed { at },
            _ => Incoming::Ignored("ours"),
        });
    }
    if names.is_ours(&user) {
        return Ok(Incoming::Ignored("ours"));
    }
    let was = before["membership"].as_str();
    match membership {
        "join" => {
            let display_name = content["displayname"].as_str().map(str::to_owned);
            let renamed = was == Some("join");
            if renamed && before["displayname"].as_str() == display_name.as_deref() {
                return Ok(Incoming::Ignored("nothing that is shown changed"));
            }
            Ok(Incoming::Joined { at, user, display_name, renamed })
        }
        "leave" | "ban" if was.is_none_or(|was| was == "join") => {
            let reason = content["reason"].as_str().unwrap_or_default();
            let reason = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
            let reason = match (membership, at.sender == user, reason.is_empty()) {
                ("ban", _, true) => format!("banned by {}", at.sender),
                ("ban", _, false) => format!("banned by {}: {reason}", at.sender),
                (_, true, _) => reason,
                (_, false, true) => format!("removed by {}", at.sender),
                (_, false, false) => format!("removed by {}: {reason}", at.sender),
            };
            Ok(Incoming::Left { at, user, reason: cut(&reason, limits::TOPIC_BYTES).to_owned() })
        }
        _ => Ok(Incoming::Ignored("membership not carried")),
    }
}

/// The content of `m.room.message` for a message of a channel.
pub fn content(event: &EventId, message: &Content) -> Value {
    let kind = match message.style {
        Style::Text => "m.text",
        Style::Notice => "m.notice",
        Style::Emote => "m.emote",
    };
    let mut content = json!({"msgtype": kind, "body": message.body, MARK: event.to_string()});
    if let Some(html) = &message.formatted {
        content["format"] = "org.matrix.custom.html".into();
        content["formatted_body"] = html.clone().into();
        if content.to_string().len() <= SENT_BYTES {
            return content;
        }
        content = json!({"msgtype": kind, "body": message.body, MARK: event.to_string()});
    }
    // JSON may write a character in six bytes, so what fits is found by trying.
    let mut room = SENT_BYTES;
    while content.to_string().len() > SENT_BYTES {
        room -= SENT_BYTES / 8;
        content["body"] = shorten(message.body.clone(), room).into();
    }
    content
}

fn shorten(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    format!("{}{CUT}", cut(&text, bytes.saturating_sub(CUT.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, sender: &str, content: Value) -> Value {
        json!({"type": kind, "event_id": "$e1", "room_id": "!r:x", "sender": sender,
               "origin_server_ts": 1_700_000_000_123u64, "content": content})
    }

    /// What an event comes to, in one line.
    fn line(event: &Value) -> String {
        match read(event, &Names::new("example.org", "multichatbot")) {
            Err(malformed) => format!("refused: {malformed}"),
            Ok(Incoming::Said { at, content }) => {
                let origin = content.origin.expect("always there");
                assert_eq!(origin.link, Link::Matrix { room: "!r:x".into() });
                assert_eq!((origin.external_id.as_str(), origin.said_at.0), ("$e1", 1_700_000_000_123));
                let html = content.formatted.map(|html| format!(" | {html}")).unwrap_or_default();
                format!("{:?} {}: {}{html}", content.style, at.sender, content.body.escape_debug())
            }
            Ok(Incoming::Joined { user, display_name, renamed, .. }) => {
                format!("{} {user} {display_name:?}", if renamed { "renamed" } else { "joined" })
            }
            Ok(Incoming::Left { user, reason, .. }) => format!("left {user}: {reason}"),
            Ok(Incoming::Invited { at, direct }) => format!("invited by {} direct={direct}", at.sender),
            Ok(Incoming::Removed { at }) => format!("removed by {}", at.sender),
            Ok(Incoming::Topic { topic, .. }) => format!("topic {topic}"),
            Ok(Incoming::Encrypted { .. }) => "encrypted".into(),
            Ok(Incoming::Ignored(why)) => format!("ignored: {why}"),
        }
    }

    #[test]
    fn messages() {
        let check = |content: Value, expect: &str| {
            assert_eq!(line(&event("m.room.message", "@a:x", content)), expect);
        };
        check(json!({"msgtype": "m.text", "body": "hi"}), "Text @a:x: hi");
        check(json!({"msgtype": "m.notice", "body": "beep"}), "Notice @a:x: beep");
        check(json!({"msgtype": "m.emote", "body": "waves"}), "Emote @a:x: waves");
        check(json!({"msgtype": "x.new", "body": "fallback"}), "Text @a:x: fallback");
        let html = |format: &str| json!({"msgtype": "m.text", "body": "hi", "format": format, "formatted_body": "<b>hi</b>"});
        check(html("org.matrix.custom.html"), "Text @a:x: hi | <b>hi</b>");
        check(html("text/rtf"), "Text @a:x: hi");
        check(
            json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/1"}),
            "Text @a:x: sent an image: cat.png (mxc://x/1)",
        );
        check(
            json!({"msgtype": "m.file", "body": "see page 3", "filename": "a.pdf", "url": "mxc://x/2"}),
            "Text @a:x: sent a file: a.pdf (mxc://x/2): see page 3",
        );
        check(
            json!({"msgtype": "m.location", "body": "home", "geo_uri": "geo:1,2"}),
            "Text @a:x: shared a location: home (geo:1,2)",
        );
        check(
            json!({"msgtype": "m.text", "body": "* helo", "m.new_content": {"msgtype": "m.text", "body": "hello"},
                   "m.relates_to": {"rel_type": "m.replace", "event_id": "$e0"}}),
            "Text @a:x: * hello",
        );
        check(
            json!({"msgtype": "m.text", "body": "> <@b:x> one\n> two\n\nyes", "format": "org.matrix.custom.html",
                   "formatted_body": "<mx-reply><blockquote>one</blockquote></mx-reply><i>yes</i>",
                   "m.relates_to": {"m.in_reply_to": {"event_id": "$e0"}}}),
            "Text @a:x: yes | <i>yes</i>",
        );
        check(json!({"msgtype": "m.text", "body": "> just a quote"}), "Text @a:x: > just a quote");
        check(json!({}), "ignored: empty");
        check(json!({"msgtype": "m.text", "body": "  \n"}), "ignored: empty");
        check(json!({"msgtype": "m.text", "body": "hi", MARK: "abc"}), "ignored: another node's");
    }

    #[test]
    fn long_bodies_are_cut_and_say_so() {
        let long = event(
            "m.room.message",
            "@a:x",
            json!({"msgtype": "m.text", "body": "é".repeat(40_000), "format": "org.matrix.custom.html", "formatted_body": "x".repeat(60_000)}),
        );
        let Ok(Incoming::Said { content, .. }) = read(&long, &Names::new("x", "bot")) else { panic!("said") };
        assert!(content.is_well_formed() && content.body.ends_with("é … (cut: too long)"));
        assert_eq!(content.formatted, None);
    }

    #[test]
    fn other_events() {
        let check = |kind: &str, content: Value, expect: &str| {
            assert_eq!(line(&event(kind, "@a:x", content)), expect)
        };
        check(
            "m.sticker",
            json!({"body": "blob", "url": "mxc://x/3"}),
            "Text @a:x: sent a sticker: blob (mxc://x/3)",
        );
        check("m.room.topic", json!({"topic": "a\nb"}), "topic a b");
        check("m.room.encrypted", json!({"algorithm": "m.megolm.v1.aes-sha2"}), "encrypted");
        check("m.reaction", json!({}), "ignored: reaction");
        check("m.room.redaction", json!({}), "ignored: redaction");
        check("m.room.name", json!({"name": "x"}), "ignored: type not carried");
        let ours = json!({"msgtype": "m.text", "body": "hi"});
        assert_eq!(
            line(&event("m.room.message", "@multichatbot:example.org", ours.clone())),
            "ignored: ours"
        );
        assert_eq!(line(&event("m.room.message", "@_multichat_b:example.org", ours)), "ignored: ours");
    }

    #[test]
    fn memberships() {
        let check = |sender: &str, user: &str, content: Value, before: Value, expect: &str| {
            let mut event = event("m.room.member", sender, content);
            event["state_key"] = user.into();
            event["unsigned"] = json!({"prev_content": before});
            assert_eq!(line(&event), expect);
        };
        let (a, bot, join) =
            ("@a:x", "@multichatbot:example.org", json!({"membership": "join", "displayname": "Al"}));
        check(a, a, join.clone(), Value::Null, "joined @a:x Some(\"Al\")");
        check(
            a,
            a,
            join.clone(),
            json!({"membership": "join", "displayname": "A"}),
            "renamed @a:x Some(\"Al\")",
        );
        check(a, a, join.clone(), join.clone(), "ignored: nothing that is shown changed");
        check(a, a, json!({"membership": "leave", "reason": "bye"}), join.clone(), "left @a:x: bye");
        check("@m:x", a, json!({"membership": "leave"}), join.clone(), "left @a:x: removed by @m:x");
        check(
            "@m:x",
            a,
            json!({"membership": "ban", "reason": "spam"}),
            join.clone(),
            "left @a:x: banned by @m:x: spam",
        );
        check(
            a,
            a,
            json!({"membership": "leave"}),
            json!({"membership": "invite"}),
            "ignored: membership not carried",
        );
        check(
            a,
            bot,
            json!({"membership": "invite", "is_direct": true}),
            Value::Null,
            "invited by @a:x direct=true",
        );
        check(a, bot, json!({"membership": "leave"}), join.clone(), "removed by @a:x");
        check(a, "@_multichat_b:example.org", json!({"membership": "invite"}), Value::Null, "ignored: ours");
        check(a, "no user", join, Value::Null, "refused: malformed event: state_key is not a user's id");
    }

    #[test]
    fn malformed_events_are_refused_by_name() {
        let good = event("m.room.message", "@a:x", json!({"msgtype": "m.text", "body": "hi"}));
        let check = |key: &str, value: Value, expect: &str| {
            let mut bad = good.clone();
            bad[key] = value;
            assert_eq!(line(&bad), format!("refused: malformed event: {expect}"));
        };
        check("event_id", json!(7), "event_id is not an event's id");
        check("event_id", json!(format!("${}", "x".repeat(300))), "event_id is not an event's id");
        check("room_id", Value::Null, "room_id is not a room's id");
        check("sender", json!("alice"), "sender is not a user's id");
        check("sender", json!("@alice"), "sender is not a user's id");
        check("type", json!([]), "type is not a text");
        check("content", json!("hi"), "content is not an object");
        check("origin_server_ts", json!(-1), "origin_server_ts is not a time");
        check("content", json!({"msgtype": "m.text"}), "body is not a text");
        check("content", json!({"body": "hi"}), "msgtype is not a text");
        for nonsense in [json!(null), json!(7), json!([]), json!({})] {
            assert!(line(&nonsense).starts_with("refused"), "{nonsense}");
        }
    }

    #[test]
    fn content_out() {
        let event = EventId([0; 32]);
        let id = event.to_string();
        let mut message = Content { style: Style::Emote, ..Content::text("waves") };
        assert_eq!(
            content(&event, &message).to_string(),
            format!(r#"{{"body":"waves","msgtype":"m.emote","{MARK}":"{id}"}}"#)
        );
        message.formatted = Some("<b>waves</b>".into());
        let formatted = content(&event, &message);
        assert_eq!(formatted["format"], "org.matrix.custom.html");
        assert_eq!(formatted["formatted_body"], "<b>waves</b>");
        message = Content { formatted: Some("x".repeat(40_000)), ..Content::text("y".repeat(40_000)) };
        assert!(content(&event, &message).get("formatted_body").is_none(), "the formatted part goes first");
        for body in ["\u{1}".repeat(limits::BODY_BYTES), "\"".repeat(limits::BODY_BYTES), "漢".repeat(16_000)]
        {
            let sent = content(&event, &Content::text(body)).to_string();
            assert!(sent.len() <= SENT_BYTES && sent.len() > 1000, "{}", sent.len());
        }
    }
}

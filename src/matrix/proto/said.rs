//! What somebody said in a room: the content of a message event into style, text and what it is
//! about. Pictures and files become attachments and a text that tells of them, places and polls text.

use serde_json::Value;

use super::ghosts::cut;
use super::html;
use super::translate::Malformed;
use crate::base::limits;
use crate::chat::attachment::{Attachment, AttachmentKind};
use crate::chat::message::Style;

/// What stands at the end of a text that had to be cut.
const CUT: &str = " … (cut: too long)";
/// Bytes of an identifier (Matrix specification, "Size limits").
const ID_BYTES: usize = 255;
/// Answers of a poll that are shown.
const ANSWERS: usize = 20;

/// A message, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub style: Style,
    pub body: String,
    pub formatted: Option<String>,
    /// A picture or file; `body` tells of it.
    pub attachment: Option<Attachment>,
    pub about: Option<About>,
}

/// What it has to do with another event of the room, by that event's id there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum About {
    Reply(String),
    Thread { root: String, reply_to: Option<String> },
    Edit(String),
    Reaction(String),
}

/// Gives the name by which a user is called on the other side, if they are a ghost.
pub type NameOf<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Said {
    fn text(style: Style, body: String) -> Self {
        Self { style, body, formatted: None, attachment: None, about: None }
    }
}

/// `m.room.message`; `None` if there is nothing in it.
///
/// # Errors
/// [`Malformed`].
pub fn message(content: &Value, name_of: NameOf<'_>) -> Result<Option<Said>, Malformed> {
    if content.as_object().is_some_and(|map| map.is_empty()) {
        return Ok(None); // redacted before it reached us
    }
    let about = about(content);
    let kind = content["msgtype"].as_str().ok_or(Malformed("msgtype is not a text"))?;
    let is_edit = matches!(about, Some(About::Edit(_))) && content["m.new_content"].is_object();
    let shown = if is_edit { &content["m.new_content"] } else { content };
    let body = shown["body"].as_str().ok_or(Malformed("body is not a text"))?;
    let said = match kind {
        "m.key.verification.request" => return Ok(None),
        "m.image" => media(AttachmentKind::Image, shown)?,
        "m.file" => media(AttachmentKind::File, shown)?,
        "m.audio" => media(AttachmentKind::Audio, shown)?,
        "m.video" => media(AttachmentKind::Video, shown)?,
        "m.location" => {
            let place = shown["geo_uri"].as_str().unwrap_or("no position");
            Said::text(Style::Text, format!("shared a location: {body} ({place})"))
        }
        _ => {
            let style = match kind {
                "m.notice" => Style::Notice,
                "m.emote" => Style::Emote,
                _ => Style::Text,
            };
            let is_reply = matches!(about, Some(About::Reply(_) | About::Thread { .. }));
            let body = if is_reply { without_quote(body) } else { body };
            Said { formatted: formatted(shown, name_of), ..Said::text(style, body.to_owned()) }
        }
    };
    if said.body.trim().is_empty() {
        return Ok(None);
    }
    let about = if is_edit || !matches!(about, Some(About::Edit(_))) { about } else { None };
    Ok(Some(Said { body: shorten(said.body, limits::BODY_BYTES), about, ..said }))
}

/// `m.sticker`.
///
/// # Errors
/// [`Malformed`].
pub fn sticker(content: &Value) -> Result<Said, Malformed> {
    Ok(Said { about: about(content), ..media(AttachmentKind::Sticker, content)? })
}

/// `m.reaction`; `None` if it is one of nothing, or too long for one.
pub fn reaction(content: &Value) -> Option<Said> {
    let relation = &content["m.relates_to"];
    let key = relation["key"].as_str().filter(|key| !key.trim().is_empty())?;
    let target =
        (relation["rel_type"] == "m.annotation").then(|| event_id(&relation["event_id"])).flatten()?;
    let key: String = key.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let body = cut(&key, limits::REACTION_BYTES).to_owned();
    Some(Said { about: Some(About::Reaction(target)), ..Said::text(Style::Text, body) })
}

/// The beginning of a poll (stable or MSC3381), as text; `None` if it asks nothing.
pub fn poll(content: &Value) -> Option<Said> {
    let start = ["m.poll", "m.poll.start", "org.matrix.msc3381.poll.start"];
    let start = start.iter().map(|key| &content[*key]).find(|start| start.is_object())?;
    let text = |value: &Value| {
        let plain = [
            &value["m.text"][0]["body"],
            &value["m.text"],
            &value["org.matrix.msc1767.text"],
            &value["body"],
        ];
        plain.iter().find_map(|text| text.as_str()).map(|text| text.replace('\n', " "))
    };
    let question = text(&start["question"])?;
    let answers = start["answers"].as_array().into_iter().flatten().filter_map(text).take(ANSWERS);
    let lines: String =
        answers.enumerate().map(|(number, answer)| format!("\n{}. {answer}", number + 1)).collect();
    let body = shorten(format!("asks in a poll: {question}{lines}"), limits::BODY_BYTES);
    Some(Said { about: about(content), ..Said::text(Style::Text, body) })
}

/// A text of at most so many bytes, which says so where it was cut.
pub fn shorten(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    format!("{}{CUT}", cut(&text, bytes.saturating_sub(CUT.len())))
}

fn event_id(value: &Value) -> Option<String> {
    let id = value.as_str().filter(|id| id.starts_with('$') && (2..=ID_BYTES).contains(&id.len()));
    id.map(str::to_owned)
}

fn about(content: &Value) -> Option<About> {
    let relation = &content["m.relates_to"];
    let reply_to = event_id(&relation["m.in_reply_to"]["event_id"]);
    match (relation["rel_type"].as_str(), event_id(&relation["event_id"])) {
        (Some("m.replace"), Some(target)) => Some(About::Edit(target)),
        (Some("m.thread"), Some(root)) => {
            let reply_to = reply_to.filter(|_| relation["is_falling_back"] != true);
            Some(About::Thread { root, reply_to })
        }
        _ => reply_to.map(About::Reply),
    }
}

fn formatted(content: &Value, name_of: NameOf<'_>) -> Option<String> {
    let html =
        (content["format"] == "org.matrix.custom.html").then(|| content["formatted_body"].as_str()).flatten();
    html::sanitised(html?, name_of)
}

/// What an event of a room carries.
#[derive(Clone, PartialEq, Debug)]
pub struct Carried {
    pub attachment: Attachment,
    /// Where the bytes are encrypted: with what, as Matrix writes it.
    pub file: Option<Value>,
}

/// What an event of a room carries now, edited or not; `None` if it carries nothing (any more).
pub fn carried(event: &Value) -> Option<Carried> {
    let content = &event["content"];
    let shown = if content["m.new_content"].is_object() { &content["m.new_content"] } else { content };
    let kind = match (event["type"].as_str()?, shown["msgtype"].as_str()) {
        ("m.sticker", _) => AttachmentKind::Sticker,
        (_, Some("m.image")) => AttachmentKind::Image,
        (_, Some("m.audio")) => AttachmentKind::Audio,
        (_, Some("m.video")) => AttachmentKind::Video,
        (_, Some("m.file")) => AttachmentKind::File,
        _ => return None,
    };
    let mut attachment = attachment(kind, shown).ok()?;
    let file = Some(&shown["file"]).filter(|file| attachment.address.is_empty() && file.is_object());
    if let Some(address) = file.and_then(|file| file["url"].as_str()) {
        attachment.address = cut(address, limits::MEDIA_ADDRESS_BYTES).to_owned();
    }
    (!attachment.address.is_empty()).then(|| Carried { attachment, file: file.cloned() })
}

/// A picture, a file, a sound, and the text that tells of it.
fn media(kind: AttachmentKind, content: &Value) -> Result<Said, Malformed> {
    let attachment = attachment(kind, content)?;
    Ok(Said { attachment: Some(attachment.clone()), ..Said::text(Style::Text, attachment.line(None)) })
}

fn attachment(kind: AttachmentKind, content: &Value) -> Result<Attachment, Malformed> {
    let body = content["body"].as_str().ok_or(Malformed("body is not a text"))?;
    let name = content["filename"].as_str().filter(|name| !name.trim().is_empty()).unwrap_or(body);
    let caption = if name == body { "" } else { body };
    let info = &content["info"];
    let short = |value: &Value, bytes: usize| {
        let text = value.as_str().filter(|text| text.len() <= bytes && !text.contains(char::is_control));
        text.unwrap_or_default().to_owned()
    };
    let pixels = |key: &str| info[key].as_u64().and_then(|pixels| u32::try_from(pixels).ok());
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(Attachment {
        kind,
        name: cut(name.trim(), limits::FILE_NAME_BYTES).to_owned(),
        mime: short(&info["mimetype"], limits::MIME_BYTES),
        bytes: info["size"].as_u64(),
        dimensions: pixels("w").zip(pixels("h")),
        duration_ms: info["duration"].as_u64(),
        caption: shorten(caption.to_owned(), limits::CAPTION_BYTES),
        address: short(&content["url"], limits::MEDIA_ADDRESS_BYTES),
    })
}

/// A reply's body without the quotation that older clients put in front of it.
fn without_quote(body: &str) -> &str {
    let mut rest = body;
    // The fallback begins with whom it quotes; a quotation that is part of what is said does not.
    if !rest.starts_with("> <") && !rest.starts_with("> * <") {
        return body;
    }
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        rest = rest.split_once('\n').map_or("", |(_, after)| after);
    }
    let rest = if rest.len() < body.len() { rest.strip_prefix('\n').unwrap_or(rest) } else { rest };
    if rest.trim().is_empty() { body } else { rest }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A message in one line: style, body, formatted body, what it is about.
    fn line(content: Value) -> String {
        let name_of = |user: &str| (user == "@_multichat_bob_1:x").then(|| "bob".to_owned());
        match message(&content, &name_of) {
            Err(malformed) => format!("refused: {malformed}"),
            Ok(None) => "nothing".into(),
            Ok(Some(said)) => shown(&said),
        }
    }

    fn shown(said: &Said) -> String {
        let html = said.formatted.as_ref().map(|html| format!(" | {html}")).unwrap_or_default();
        let about = said.about.as_ref().map(|about| format!(" ({about:?})")).unwrap_or_default();
        format!("{:?}: {}{html}{about}", said.style, said.body.escape_debug())
    }

    fn check(content: Value, expect: &str) {
        assert_eq!(line(content.clone()), expect, "{content}");
    }

    #[test]
    fn texts() {
        check(json!({"msgtype": "m.text", "body": "hi"}), "Text: hi");
        check(json!({"msgtype": "m.notice", "body": "beep"}), "Notice: beep");
        check(json!({"msgtype": "m.emote", "body": "waves"}), "Emote: waves");
        check(json!({"msgtype": "x.new", "body": "fallback"}), "Text: fallback");
        let html = |format: &str| json!({"msgtype": "m.text", "body": "hi", "format": format, "formatted_body": "<b>hi</b>"});
        check(html("org.matrix.custom.html"), "Text: hi | <b>hi</b>");
        check(html("text/rtf"), "Text: hi");
        let pill = "<a href=\"https://matrix.to/#/@_multichat_bob_1:x\">Bob (IRC)</a>: hi";
        check(
            json!({"msgtype": "m.text", "body": "Bob (IRC): hi", "format": "org.matrix.custom.html", "formatted_body": pill}),
            "Text: Bob (IRC): hi | <a href=\"https://matrix.to/#/@_multichat_bob_1:x\">bob</a>: hi",
        );
        check(json!({}), "nothing");
        check(json!({"msgtype": "m.text", "body": "  \n"}), "nothing");
        check(json!({"msgtype": "m.text"}), "refused: malformed event: body is not a text");
        check(json!({"body": "hi"}), "refused: malformed event: msgtype is not a text");
    }

    #[test]
    fn media_and_places() {
        check(
            json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/1"}),
            "Text: sent an image: cat.png",
        );
        let info = json!({"mimetype": "image/png", "size": 122_880, "w": 640, "h": 480});
        let captioned = json!({"msgtype": "m.image", "body": "my cat", "filename": "cat\n.png", "url": "mxc://x/1", "info": info});
        check(captioned.clone(), "Text: sent an image: cat .png (120 KiB, 640×480)\\nmy cat");
        let attachment = message(&captioned, &|_| None).unwrap().unwrap().attachment.unwrap();
        assert_eq!((attachment.mime.as_str(), attachment.address.as_str()), ("image/png", "mxc://x/1"));
        let in_a_room = |content: Value| carried(&json!({"type": "m.room.message", "content": content}));
        assert_eq!(in_a_room(captioned), Some(Carried { attachment, file: None }));
        check(
            json!({"msgtype": "m.audio", "body": "a.ogg", "info": {"duration": 63_000, "size": -1}}),
            "Text: sent a sound: a.ogg (1:03)",
        );
        let hidden = json!({"msgtype": "m.file", "body": "a", "file": {"url": "mxc://x/1", "key": {}}});
        check(hidden.clone(), "Text: sent a file: a");
        let carried = in_a_room(hidden.clone()).unwrap();
        assert_eq!(
            (carried.attachment.address.as_str(), carried.file),
            ("mxc://x/1", Some(hidden["file"].clone()))
        );
        for nothing in [json!({}), json!({"msgtype": "m.text", "body": "a", "url": "mxc://x/1"})] {
            assert_eq!(in_a_room(nothing), None);
        }
        let long = json!({"msgtype": "m.image", "body": "x".repeat(60_000), "filename": "y".repeat(600),
                          "url": "z".repeat(600), "info": {"mimetype": "m".repeat(600)}});
        let said = message(&long, &|_| None).unwrap().unwrap();
        assert!(said.attachment.unwrap().is_well_formed());
        check(
            json!({"msgtype": "m.file", "body": "see page 3", "filename": "a.pdf", "url": "mxc://x/2"}),
            "Text: sent a file: a.pdf\\nsee page 3",
        );
        check(
            json!({"msgtype": "m.location", "body": "home", "geo_uri": "geo:1,2"}),
            "Text: shared a location: home (geo:1,2)",
        );
    }

    #[test]
    fn relations() {
        let related = |relation: Value| json!({"msgtype": "m.text", "body": "x", "m.relates_to": relation});
        check(related(json!({"m.in_reply_to": {"event_id": "$a"}})), "Text: x (Reply(\"$a\"))");
        check(
            json!({"msgtype": "m.text", "body": "> <@b:x> one\n> two\n\nyes", "format": "org.matrix.custom.html",
                   "formatted_body": "<mx-reply><blockquote>one</blockquote></mx-reply><i>yes</i>",
                   "m.relates_to": {"m.in_reply_to": {"event_id": "$a"}}}),
            "Text: yes | <i>yes</i> (Reply(\"$a\"))",
        );
        check(json!({"msgtype": "m.text", "body": "> just a quote"}), "Text: > just a quote");
        check(
            json!({"msgtype": "m.text", "body": "> my own quote\nand more", "m.relates_to": {"m.in_reply_to": {"event_id": "$a"}}}),
            "Text: > my own quote\\nand more (Reply(\"$a\"))",
        );
        let thread = |falls_back: bool| {
            related(
                json!({"rel_type": "m.thread", "event_id": "$r", "is_falling_back": falls_back, "m.in_reply_to": {"event_id": "$a"}}),
            )
        };
        check(thread(true), "Text: x (Thread { root: \"$r\", reply_to: None })");
        check(thread(false), "Text: x (Thread { root: \"$r\", reply_to: Some(\"$a\") })");
        check(
            json!({"msgtype": "m.text", "body": "* helo", "m.new_content": {"msgtype": "m.text", "body": "hello"},
                   "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}}),
            "Text: hello (Edit(\"$0\"))",
        );
        check(related(json!({"rel_type": "m.replace", "event_id": "$0"})), "Text: x");
        for nonsense in
            [json!(7), json!({"m.in_reply_to": 7}), json!({"m.in_reply_to": {"event_id": "a"}}), json!([])]
        {
            check(related(nonsense), "Text: x");
        }
    }

    #[test]
    fn reactions_and_polls() {
        let react = |key: &str| {
            reaction(&json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": "$a", "key": key}}))
        };
        assert_eq!(react("👍").map(|said| shown(&said)).as_deref(), Some("Text: 👍 (Reaction(\"$a\"))"));
        assert_eq!(react(&"x".repeat(100)).map(|said| said.body.len()), Some(limits::REACTION_BYTES));
        assert!(react(" ").is_none() && reaction(&json!({})).is_none());
        let asked = json!({"org.matrix.msc3381.poll.start": {"question": {"org.matrix.msc1767.text": "Tea?"},
            "answers": [{"id": "1", "org.matrix.msc1767.text": "yes"}, {"id": "2", "org.matrix.msc1767.text": "no"}]}});
        assert_eq!(poll(&asked).unwrap().body, "asks in a poll: Tea?\n1. yes\n2. no");
        let stable = json!({"m.poll": {"question": {"m.text": [{"body": "Tea?"}]}, "answers": []}});
        assert_eq!(poll(&stable).unwrap().body, "asks in a poll: Tea?");
        assert!(poll(&json!({})).is_none());
    }

    #[test]
    fn long_bodies_are_cut_and_say_so() {
        let long = json!({"msgtype": "m.text", "body": "é".repeat(40_000), "format": "org.matrix.custom.html", "formatted_body": "x".repeat(60_000)});
        let said = message(&long, &|_| None).unwrap().unwrap();
        assert!(said.body.len() <= limits::BODY_BYTES && said.body.ends_with("é … (cut: too long)"));
        assert_eq!(said.formatted, None);
    }
}

//! Messages of a channel as Matrix event contents: text, HTML, and how they relate to what is in
//! the room already.

use serde_json::{Value, json};

use super::said::shorten;
use crate::base::EventId;
use crate::chat::attachment::{Attachment, AttachmentKind};
use crate::chat::message::{Content, Relation, Style};

/// The content key that marks what came out of Multichat, with the event's id: other nodes leave
/// such events alone, and we find our own again when we are not sure that they arrived.
pub const MARK: &str = "org.multichat.event";

/// Bytes of an event's content that we send. A whole event may have 65,536 (Matrix specification,
/// "Size limits"); the rest is for what the homeserver adds, and an edit says its text twice.
const SENT_BYTES: usize = 56 * 1024;
/// The same where it is encrypted afterwards, which makes it longer by a third.
const SEALED_BYTES: usize = 40 * 1024;

/// What the room has of the messages that a message relates to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Related {
    /// The id in the room of what it replies to, reacts to or edits, or of its thread's root.
    pub target: Option<String>,
    /// Of the message in a thread that it answers.
    pub reply_to: Option<String>,
    /// Matrix users that it calls.
    pub mentions: Vec<String>,
    /// The file that it carries lies on a homeserver that this room's has it from: it is sent as it is.
    pub media: bool,
    /// It will be encrypted.
    pub sealed: bool,
}

/// Event type and content for a message. What it relates to and the room does not have is told in
/// words.
pub fn event(event: &EventId, message: &Content, related: &Related) -> (&'static str, Value) {
    let bytes = if related.sealed { SEALED_BYTES } else { SENT_BYTES };
    match (message.envelope.relation, &related.target) {
        (Some(Relation::Reaction(_)), Some(target)) => {
            let relation = json!({"rel_type": "m.annotation", "event_id": target, "key": message.body});
            ("m.reaction", json!({"m.relates_to": relation, MARK: event.to_string()}))
        }
        (Some(Relation::Reaction(_)), None) => {
            let told = format!("reacted with {} to something that is not in this room", message.body);
            ("m.room.message", text(event, &Content { style: Style::Emote, ..Content::text(told) }, bytes))
        }
        (Some(Relation::Edit(_)), Some(target)) => {
            let mut new = text(event, message, bytes / 3);
            if let Some(new) = new.as_object_mut() {
                new.remove(MARK);
            }
            let mut content = text(event, &starred(message), bytes / 3);
            content["m.new_content"] = new;
            content["m.relates_to"] = json!({"rel_type": "m.replace", "event_id": target});
            ("m.room.message", content)
        }
        (Some(Relation::Edit(_)), None) => ("m.room.message", text(event, &starred(message), bytes)),
        (relation, _) => {
            let mut content = match &message.attachment {
                Some(attachment) if related.media && !attachment.address.is_empty() => {
                    media(event, attachment)
                }
                _ => text(event, message, bytes),
            };
            if let Some(relation) = relation.and_then(|relation| placed(relation, related)) {
                content["m.relates_to"] = relation;
            }
            if !related.mentions.is_empty() {
                content["m.mentions"] = json!({"user_ids": related.mentions});
            }
            ("m.room.message", content)
        }
    }
}

fn placed(relation: Relation, related: &Related) -> Option<Value> {
    let target = related.target.as_ref()?;
    match relation {
        Relation::Thread { .. } => Some(json!({
            "rel_type": "m.thread", "event_id": target, "is_falling_back": related.reply_to.is_none(),
            "m.in_reply_to": {"event_id": related.reply_to.as_ref().unwrap_or(target)},
        })),
        Relation::Reply(_) => Some(json!({"m.in_reply_to": {"event_id": target}})),
        Relation::Edit(_) | Relation::Reaction(_) => None,
    }
}

/// As older clients show an edit.
fn starred(message: &Content) -> Content {
    let formatted = message.formatted.as_ref().map(|html| format!("* {html}"));
    Content { body: format!("* {}", message.body), formatted, ..message.clone() }
}

/// A picture or a file as Matrix has it. (A sticker too: as an image it shows in every client.)
fn media(event: &EventId, attachment: &Attachment) -> Value {
    let kind = match attachment.kind {
        AttachmentKind::Image | AttachmentKind::Sticker => "m.image",
        AttachmentKind::Audio => "m.audio",
        AttachmentKind::Video => "m.video",
        AttachmentKind::File => "m.file",
    };
    let body = if attachment.caption.is_empty() { &attachment.name } else { &attachment.caption };
    let mut info = json!({});
    if !attachment.mime.is_empty() {
        info["mimetype"] = attachment.mime.clone().into();
    }
    let facts = [
        ("size", attachment.bytes),
        ("w", attachment.dimensions.map(|(width, _)| width.into())),
        ("h", attachment.dimensions.map(|(_, height)| height.into())),
        ("duration", attachment.duration_ms),
    ];
    for (key, fact) in facts {
        if let Some(fact) = fact {
            info[key] = fact.into();
        }
    }
    json!({"msgtype": kind, "body": body, "filename": attachment.name, "url": attachment.address, "info": info,
           MARK: event.to_string()})
}

fn text(event: &EventId, message: &Content, bytes: usize) -> Value {
    let kind = match message.style {
        Style::Text => "m.text",
        Style::Notice => "m.notice",
        Style::Emote => "m.emote",
    };
    let mut content = json!({"msgtype": kind, "body": message.body, MARK: event.to_string()});
    if let Some(html) = &message.formatted {
        content["format"] = "org.matrix.custom.html".into();
        content["formatted_body"] = html.clone().into();
        if content.to_string().len() <= bytes {
            return content;
        }
        content = json!({"msgtype": kind, "body": message.body, MARK: event.to_string()});
    }
    // JSON may write a character in six bytes, so what fits is found by trying.
    let mut room = bytes;
    while content.to_string().len() > bytes {
        room -= bytes / 8;
        content["body"] = shorten(message.body.clone(), room).into();
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;

    const EVENT: EventId = EventId([0; 32]);

    fn plain(message: &Content) -> Value {
        event(&EVENT, message, &Related::default()).1
    }

    /// Type and content without the mark.
    fn check(relation: Relation, related: Related, kind: &str, expect: Value) {
        let mut message = Content::text("hi");
        message.envelope.relation = Some(relation);
        let (sent, mut content) = event(&EVENT, &message, &related);
        assert_eq!(content.as_object_mut().unwrap().remove(MARK), Some(json!(EVENT.to_string())));
        assert_eq!((sent, content), (kind, expect));
    }

    #[test]
    fn texts_out() {
        let id = EVENT.to_string();
        let mut message = Content { style: Style::Emote, ..Content::text("waves") };
        assert_eq!(
            plain(&message).to_string(),
            format!(r#"{{"body":"waves","msgtype":"m.emote","{MARK}":"{id}"}}"#)
        );
        message.formatted = Some("<b>waves</b>".into());
        assert_eq!(plain(&message)["format"], "org.matrix.custom.html");
        assert_eq!(plain(&message)["formatted_body"], "<b>waves</b>");
        message = Content { formatted: Some("x".repeat(40_000)), ..Content::text("y".repeat(40_000)) };
        assert!(plain(&message).get("formatted_body").is_none(), "the formatted part goes first");
        for body in ["\u{1}".repeat(limits::BODY_BYTES), "\"".repeat(limits::BODY_BYTES), "漢".repeat(16_000)]
        {
            let mut message = Content::text(body);
            let sent = plain(&message).to_string();
            assert!(sent.len() <= SENT_BYTES && sent.len() > 1000, "{}", sent.len());
            message.envelope.relation = Some(Relation::Edit(EVENT));
            let related = Related { target: Some("$t".into()), ..Related::default() };
            let sent = event(&EVENT, &message, &related).1.to_string();
            assert!(sent.len() <= SENT_BYTES && sent.len() > 1000, "{}", sent.len());
        }
    }

    #[test]
    fn relations_out() {
        let target = || Related { target: Some("$t".into()), ..Related::default() };
        check(
            Relation::Reply(EVENT),
            Related { mentions: vec!["@a:x".into()], ..target() },
            "m.room.message",
            json!({"msgtype": "m.text", "body": "hi", "m.mentions": {"user_ids": ["@a:x"]},
                   "m.relates_to": {"m.in_reply_to": {"event_id": "$t"}}}),
        );
        let thread = Relation::Thread { root: EVENT, reply_to: None };
        let in_thread = |reply_to: &str, falls_back: bool| {
            json!({"msgtype": "m.text", "body": "hi", "m.relates_to": {"rel_type": "m.thread", "event_id": "$t",
                   "is_falling_back": falls_back, "m.in_reply_to": {"event_id": reply_to}}})
        };
        check(thread, target(), "m.room.message", in_thread("$t", true));
        check(
            thread,
            Related { reply_to: Some("$r".into()), ..target() },
            "m.room.message",
            in_thread("$r", false),
        );
        check(
            Relation::Edit(EVENT),
            target(),
            "m.room.message",
            json!({"msgtype": "m.text", "body": "* hi", "m.new_content": {"msgtype": "m.text", "body": "hi"},
                   "m.relates_to": {"rel_type": "m.replace", "event_id": "$t"}}),
        );
        check(
            Relation::Reaction(EVENT),
            target(),
            "m.reaction",
            json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": "$t", "key": "hi"}}),
        );
    }

    #[test]
    fn media_out() {
        let attachment = Attachment {
            kind: AttachmentKind::Image,
            name: "cat.png".into(),
            mime: "image/png".into(),
            bytes: Some(7),
            dimensions: Some((2, 3)),
            duration_ms: None,
            caption: "my cat".into(),
            address: "mxc://x/1".into(),
        };
        let message =
            Content { attachment: Some(Box::new(attachment)), ..Content::text("sent an image: cat.png") };
        let mut sent = event(&EVENT, &message, &Related { media: true, ..Related::default() }).1;
        sent.as_object_mut().unwrap().remove(MARK);
        let info = json!({"mimetype": "image/png", "size": 7, "w": 2, "h": 3});
        assert_eq!(
            sent,
            json!({"msgtype": "m.image", "body": "my cat", "filename": "cat.png", "url": "mxc://x/1", "info": info})
        );
        assert_eq!(plain(&message)["msgtype"], "m.text", "a homeserver that may not have it");
    }

    #[test]
    fn what_the_room_does_not_have_is_told_in_words() {
        let none = Related::default;
        let text = |kind: &str, body: &str| json!({"msgtype": kind, "body": body});
        check(Relation::Reply(EVENT), none(), "m.room.message", text("m.text", "hi"));
        check(Relation::Edit(EVENT), none(), "m.room.message", text("m.text", "* hi"));
        let told = "reacted with hi to something that is not in this room";
        check(Relation::Reaction(EVENT), none(), "m.room.message", text("m.emote", told));
    }
}

//! Matrix events into what they mean for Multichat. One event at a time; what an event means never
//! depends on the one before.

use std::fmt;

use serde_json::Value;

use super::content::MARK;
use super::ghosts::{cut, is_user_id};
use super::member;
use super::names::Names;
use super::said::{self, About, NameOf, Said};
use crate::base::{Kind, Timestamp, limits};
use crate::chat::act::Standing;
use crate::chat::channel::JoinRule;
use crate::chat::message::{Content, Envelope, Link, Origin};

/// Bytes of an identifier (Matrix specification, "Size limits").
const ID_BYTES: usize = 255;

/// An event, understood.
#[derive(Clone, PartialEq, Debug)]
pub enum Incoming {
    /// Somebody said something; `content` names its origin, and `about` what it relates to in the room.
    Said {
        at: Place,
        content: Box<Content>,
        about: Option<About>,
    },
    /// Somebody took back what is `target` in the room.
    Redacted {
        at: Place,
        target: String,
        reason: String,
    },
    /// `user` is in the room now. `renamed` says that they were before, and changed their profile.
    Joined {
        at: Place,
        user: String,
        display_name: Option<String>,
        renamed: bool,
    },
    /// `user` left the room.
    Left {
        at: Place,
        user: String,
        reason: String,
    },
    /// Somebody kicked, banned or unbanned `user`, who may be a ghost.
    PutOut {
        at: Place,
        user: String,
        then: Standing,
        reason: String,
    },
    /// Somebody invited `user`, who may be a ghost.
    LetIn {
        at: Place,
        user: String,
    },
    /// The sender asks to be let in.
    Knocked {
        at: Place,
        reason: String,
    },
    /// The contents of `m.room.power_levels` after and before.
    Powers {
        at: Place,
        after: Value,
        before: Value,
    },
    Setting {
        at: Place,
        setting: RoomSetting,
    },
    /// The room goes on in another.
    Upgraded {
        at: Place,
        room: String,
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
    /// Something encrypted, to be opened first.
    Encrypted {
        at: Place,
    },
    /// The room is encrypted from now on, for good.
    Sealed {
        at: Place,
    },
    /// Nothing to be done, and why.
    Ignored(&'static str),
}

/// What a room became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoomSetting {
    Topic(String),
    Name(String),
    Avatar(String),
    Join(JoinRule),
    /// Event ids of the room.
    Pins(Vec<String>),
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

/// Understands one event of a transaction. `name_of` gives the names of ghosts.
///
/// # Errors
/// [`Malformed`] names the part that breaks the specification.
pub fn read(event: &Value, names: &Names, name_of: NameOf<'_>) -> Result<Incoming, Malformed> {
    let place = place(event)?;
    let kind = event["type"].as_str().ok_or(Malformed("type is not a text"))?;
    let content = &event["content"];
    if !content.is_object() {
        return Err(Malformed("content is not an object"));
    }
    if kind == "m.room.member" {
        return member::read(event, place, names);
    }
    if names.is_ours(&place.sender) {
        return Ok(Incoming::Ignored("ours"));
    }
    if content.get(MARK).is_some() {
        return Ok(Incoming::Ignored("another node's"));
    }
    match kind {
        "m.room.message" => said(event, place, said::message(content, name_of)?),
        "m.sticker" => said(event, place, Some(said::sticker(content)?)),
        "m.reaction" => said(event, place, said::reaction(content)),
        "m.poll.start" | "org.matrix.msc3381.poll.start" => said(event, place, said::poll(content)),
        "m.room.redaction" => redacted(event, place),
        "m.room.power_levels" if is_state(event) => {
            let before = event["unsigned"]["prev_content"].clone();
            Ok(Incoming::Powers { at: place, after: content.clone(), before })
        }
        "m.room.tombstone" if is_state(event) => {
            let room = content["replacement_room"].as_str().filter(|room| room.starts_with('!'));
            let room = room.ok_or(Malformed("replacement_room is not a room's id"))?.to_owned();
            Ok(Incoming::Upgraded { at: place, room })
        }
        "m.room.encrypted" => Ok(Incoming::Encrypted { at: place }),
        "m.room.encryption" if is_state(event) => Ok(Incoming::Sealed { at: place }),
        _ => Ok(match setting(kind, content).filter(|_| is_state(event)) {
            Some(setting) => Incoming::Setting { at: place, setting },
            None => Incoming::Ignored("type not carried"),
        }),
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

fn is_state(event: &Value) -> bool {
    event["state_key"] == ""
}

fn said(event: &Value, at: Place, said: Option<Said>) -> Result<Incoming, Malformed> {
    let said_at = event["origin_server_ts"].as_u64().ok_or(Malformed("origin_server_ts is not a time"))?;
    let Some(Said { style, body, formatted, attachment, about }) = said else {
        return Ok(Incoming::Ignored("empty"));
    };
    let origin = Origin {
        link: Link::Matrix { room: at.room.clone() },
        external_id: at.event_id.clone(),
        said_at: Timestamp(said_at),
    };
    let envelope = Envelope::default();
    let content = Content {
        style,
        body,
        formatted,
        attachment: attachment.map(Box::new),
        envelope,
        origin: Some(origin),
    };
    Ok(Incoming::Said { at, content: Box::new(content), about })
}

/// What is taken back stands in the content from room version 11 on, before it beside it.
fn redacted(event: &Value, at: Place) -> Result<Incoming, Malformed> {
    let target = event["content"]["redacts"].as_str().or_else(|| event["redacts"].as_str());
    let target = target.filter(|id| id.starts_with('$') && id.len() <= ID_BYTES);
    let target = target.ok_or(Malformed("redacts is not an event's id"))?.to_owned();
    let reason = one_line(event["content"]["reason"].as_str().unwrap_or_default());
    Ok(Incoming::Redacted { at, target, reason })
}

fn setting(kind: &str, content: &Value) -> Option<RoomSetting> {
    let text = |key: &str| one_line(content[key].as_str().unwrap_or_default());
    Some(match kind {
        "m.room.topic" => RoomSetting::Topic(text("topic")),
        "m.room.name" => RoomSetting::Name(text("name")),
        "m.room.avatar" => RoomSetting::Avatar(text("url")),
        "m.room.join_rules" => RoomSetting::Join(match content["join_rule"].as_str()? {
            "public" => JoinRule::Open,
            "knock" | "knock_restricted" => JoinRule::Knock,
            "invite" | "private" | "restricted" => JoinRule::Invite,
            _ => return None,
        }),
        "m.room.pinned_events" => {
            let pinned = content["pinned"].as_array()?.iter();
            RoomSetting::Pins(pinned.filter_map(|id| id.as_str().map(str::to_owned)).collect())
        }
        _ => return None,
    })
}

fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&text, limits::TOPIC_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, sender: &str, content: Value) -> Value {
        json!({"type": kind, "event_id": "$e1", "room_id": "!r:x", "sender": sender, "state_key": "",
               "origin_server_ts": 1_700_000_000_123u64, "content": content})
    }

    /// What an event comes to, in one line.
    fn line(event: &Value) -> String {
        match read(event, &Names::new("example.org", "multichatbot"), &|_| None) {
            Err(malformed) => format!("refused: {malformed}"),
            Ok(Incoming::Said { at, content, about }) => {
                let origin = content.origin.expect("always there");
                assert_eq!(origin.link, Link::Matrix { room: "!r:x".into() });
                assert_eq!((origin.external_id.as_str(), origin.said_at.0), ("$e1", 1_700_000_000_123));
                let about = about.map(|about| format!(" {about:?}")).unwrap_or_default();
                format!("{:?} {}: {}{about}", content.style, at.sender, content.body.escape_debug())
            }
            Ok(Incoming::Redacted { target, reason, .. }) => format!("redacted {target}: {reason}"),
            Ok(Incoming::Setting { setting, .. }) => format!("{setting:?}"),
            Ok(Incoming::Powers { after, before, .. }) => format!("powers {after} before {before}"),
            Ok(Incoming::Upgraded { room, .. }) => format!("goes on in {room}"),
            Ok(Incoming::Encrypted { .. }) => "encrypted".into(),
            Ok(Incoming::Ignored(why)) => format!("ignored: {why}"),
            Ok(other) => format!("{other:?}"),
        }
    }

    fn check(kind: &str, content: Value, expect: &str) {
        assert_eq!(line(&event(kind, "@a:x", content)), expect);
    }

    #[test]
    fn what_is_said() {
        check("m.room.message", json!({"msgtype": "m.text", "body": "hi"}), "Text @a:x: hi");
        check(
            "m.room.message",
            json!({"msgtype": "m.text", "body": "hi", MARK: "abc"}),
            "ignored: another node's",
        );
        check("m.room.message", json!({}), "ignored: empty");
        check("m.sticker", json!({"body": "blob", "url": "mxc://x/3"}), "Text @a:x: sent a sticker: blob");
        let relation = json!({"rel_type": "m.annotation", "event_id": "$0", "key": "👍"});
        check("m.reaction", json!({"m.relates_to": relation}), "Text @a:x: 👍 Reaction(\"$0\")");
        check("m.reaction", json!({}), "ignored: empty");
        check("m.room.encrypted", json!({"algorithm": "m.megolm.v1.aes-sha2"}), "encrypted");
        let ours = json!({"msgtype": "m.text", "body": "hi"});
        for sender in ["@multichatbot:example.org", "@_multichat_b:example.org"] {
            assert_eq!(line(&event("m.room.message", sender, ours.clone())), "ignored: ours");
        }
    }

    #[test]
    fn redactions_of_old_and_new_rooms() {
        check("m.room.redaction", json!({"redacts": "$0", "reason": "oops"}), "redacted $0: oops");
        let mut old = event("m.room.redaction", "@a:x", json!({}));
        old["redacts"] = "$0".into();
        assert_eq!(line(&old), "redacted $0: ");
        check("m.room.redaction", json!({}), "refused: malformed event: redacts is not an event's id");
    }

    #[test]
    fn settings() {
        check("m.room.topic", json!({"topic": "a\nb"}), "Topic(\"a b\")");
        check("m.room.name", json!({"name": "Rust"}), "Name(\"Rust\")");
        check("m.room.avatar", json!({"url": "mxc://x/1"}), "Avatar(\"mxc://x/1\")");
        for (rule, expect) in [
            ("public", "Join(Open)"),
            ("invite", "Join(Invite)"),
            ("restricted", "Join(Invite)"),
            ("knock", "Join(Knock)"),
            ("knock_restricted", "Join(Knock)"),
            ("tarot", "ignored: type not carried"),
        ] {
            check("m.room.join_rules", json!({"join_rule": rule}), expect);
        }
        check("m.room.pinned_events", json!({"pinned": ["$1", 7, "$2"]}), "Pins([\"$1\", \"$2\"])");
        check("m.room.tombstone", json!({"replacement_room": "!new"}), "goes on in !new");
        check("m.room.tombstone", json!({}), "refused: malformed event: replacement_room is not a room's id");
        check("m.room.history_visibility", json!({}), "ignored: type not carried");
        let mut powers = event("m.room.power_levels", "@a:x", json!({"users": {}}));
        powers["unsigned"] = json!({"prev_content": {"ban": 50}});
        assert_eq!(line(&powers), r#"powers {"users":{}} before {"ban":50}"#);
        let mut no_state = event("m.room.topic", "@a:x", json!({"topic": "x"}));
        no_state["state_key"] = "@a:x".into();
        assert_eq!(line(&no_state), "ignored: type not carried");
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
        for nonsense in [json!(null), json!(7), json!([]), json!({})] {
            assert!(line(&nonsense).starts_with("refused"), "{nonsense}");
        }
    }
}

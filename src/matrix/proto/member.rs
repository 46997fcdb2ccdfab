//! Membership events: who came, who left of their own, and who was put out, let in or banned by
//! somebody else.

use serde_json::Value;

use super::ghosts::{cut, is_user_id};
use super::names::Names;
use super::translate::{Incoming, Malformed, Place};
use crate::base::limits;
use crate::chat::act::Standing;

/// Understands one `m.room.member`.
///
/// # Errors
/// [`Malformed`].
pub fn read(event: &Value, at: Place, names: &Names) -> Result<Incoming, Malformed> {
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
    let own = at.sender == user;
    // What ghosts and bots do of themselves came out of a channel.
    if names.is_ours(&at.sender) || (own && names.is_ours(&user)) {
        return Ok(Incoming::Ignored("ours"));
    }
    let reason = content["reason"].as_str().unwrap_or_default();
    let reason = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let reason = cut(&reason, limits::TOPIC_BYTES).to_owned();
    let was = before["membership"].as_str();
    Ok(match membership {
        "join" if own => joined(content, before, at, user),
        "knock" if own => Incoming::Knocked { at, reason },
        "invite" if !own => Incoming::LetIn { at, user },
        "leave" if own && was.is_none_or(|was| was == "join") => Incoming::Left { at, user, reason },
        "leave" if !own && was == Some("ban") => Incoming::PutOut { at, user, then: Standing::Free, reason },
        "leave" if !own && was.is_none_or(|was| was == "join") => {
            Incoming::PutOut { at, user, then: Standing::Out, reason }
        }
        "ban" if was != Some("ban") => Incoming::PutOut { at, user, then: Standing::Banned, reason },
        _ => Incoming::Ignored("membership not carried"),
    })
}

fn joined(content: &Value, before: &Value, at: Place, user: String) -> Incoming {
    let display_name = content["displayname"].as_str().map(str::to_owned);
    let renamed = before["membership"] == "join";
    if renamed && before["displayname"].as_str() == display_name.as_deref() {
        return Incoming::Ignored("nothing that is shown changed");
    }
    Incoming::Joined { at, user, display_name, renamed }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::matrix::proto::translate;

    fn check(sender: &str, user: &str, content: Value, before: Value, expect: &str) {
        let event = json!({"type": "m.room.member", "event_id": "$e1", "room_id": "!r:x", "sender": sender,
            "state_key": user, "content": content, "unsigned": {"prev_content": before}});
        let read = translate::read(&event, &Names::new("example.org", "multichatbot"), &|_| None);
        let line = match read {
            Err(malformed) => format!("refused: {malformed}"),
            Ok(Incoming::Joined { user, display_name, renamed, .. }) => {
                format!("{} {user} {display_name:?}", if renamed { "renamed" } else { "joined" })
            }
            Ok(Incoming::Left { user, reason, .. }) => format!("left {user}: {reason}"),
            Ok(Incoming::PutOut { at, user, then, reason }) => {
                format!("{then:?} {user} by {}: {reason}", at.sender)
            }
            Ok(Incoming::LetIn { at, user }) => format!("let in {user} by {}", at.sender),
            Ok(Incoming::Knocked { at, reason }) => format!("knock of {}: {reason}", at.sender),
            Ok(Incoming::Invited { at, direct }) => format!("invited by {} direct={direct}", at.sender),
            Ok(Incoming::Removed { at }) => format!("removed by {}", at.sender),
            Ok(Incoming::Ignored(why)) => format!("ignored: {why}"),
            Ok(other) => format!("{other:?}"),
        };
        assert_eq!(line, expect);
    }

    const GHOST: &str = "@_multichat_b:example.org";
    const BOT: &str = "@multichatbot:example.org";

    #[test]
    fn who_comes_and_goes() {
        let (a, join) = ("@a:x", json!({"membership": "join", "displayname": "Al"}));
        check(a, a, join.clone(), Value::Null, "joined @a:x Some(\"Al\")");
        let before = json!({"membership": "join", "displayname": "A"});
        check(a, a, join.clone(), before, "renamed @a:x Some(\"Al\")");
        check(a, a, join.clone(), join.clone(), "ignored: nothing that is shown changed");
        check(a, a, json!({"membership": "leave", "reason": "bye"}), join.clone(), "left @a:x: bye");
        check(
            a,
            a,
            json!({"membership": "leave"}),
            json!({"membership": "invite"}),
            "ignored: membership not carried",
        );
        check(
            a,
            a,
            json!({"membership": "knock", "reason": "please\n"}),
            Value::Null,
            "knock of @a:x: please ",
        );
        check(a, "no user", join, Value::Null, "refused: malformed event: state_key is not a user's id");
    }

    #[test]
    fn who_is_put_out_and_let_in() {
        let (a, mods, join) = ("@a:x", "@m:x", json!({"membership": "join"}));
        let leave = json!({"membership": "leave", "reason": "spam"});
        let ban = json!({"membership": "ban"});
        check(mods, a, leave.clone(), join.clone(), "Out @a:x by @m:x: spam");
        check(mods, GHOST, leave.clone(), join.clone(), "Out @_multichat_b:example.org by @m:x: spam");
        check(mods, a, ban.clone(), join, "Banned @a:x by @m:x: ");
        check(mods, a, ban.clone(), ban.clone(), "ignored: membership not carried");
        check(mods, a, leave.clone(), ban, "Free @a:x by @m:x: spam");
        check(mods, a, leave, json!({"membership": "invite"}), "ignored: membership not carried");
        check(mods, a, json!({"membership": "invite"}), Value::Null, "let in @a:x by @m:x");
        check(
            mods,
            GHOST,
            json!({"membership": "invite"}),
            Value::Null,
            "let in @_multichat_b:example.org by @m:x",
        );
    }

    #[test]
    fn what_we_do_ourselves_does_not_come_back() {
        let leave = json!({"membership": "leave"});
        check(BOT, "@a:x", leave.clone(), json!({"membership": "join"}), "ignored: ours");
        check(GHOST, GHOST, json!({"membership": "join"}), Value::Null, "ignored: ours");
        check(
            "@a:x",
            BOT,
            json!({"membership": "invite", "is_direct": true}),
            Value::Null,
            "invited by @a:x direct=true",
        );
        check("@a:x", BOT, leave, json!({"membership": "join"}), "removed by @a:x");
    }
}

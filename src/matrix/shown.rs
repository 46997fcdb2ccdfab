//! News other than messages, as a room shows them: who came and went, what the channel became, what
//! was taken back. Each does nothing where the room is so already, for it may come again; and what
//! the room does not let us do is said in it.

use serde_json::{Value, json};

use super::bot;
use super::bridge::Bridge;
use super::governed;
use super::homeserver::CallError;
use super::proto::ghosts;
use crate::base::{EventId, Kind};
use crate::chat::channel::{Change, JoinRule};
use crate::chat::view::{News, What};

/// Shows a piece of news in a room.
///
/// # Errors
/// [`CallError`].
pub(super) async fn show(bridge: &Bridge, room: &str, news: &News) -> Result<(), CallError> {
    match &news.what {
        // A Matrix user is in a room already, perhaps this one; in others their ghost appears
        // when they speak.
        What::Joined if ghosts::is_matrix_user(&news.author.profile) => Ok(()),
        What::Joined => joined(bridge, room, news).await,
        What::Left { reason } => {
            let Some(ghost) = bridge.known_ghost(&news.author.identity) else { return Ok(()) };
            unless_so(bridge.hs.leave(room, &ghost, reason).await)
        }
        What::Topic(topic) => {
            if !bridge.has_topic(room, topic) {
                setting(bridge, room, news, "m.room.topic", json!({"topic": topic})).await?;
                bridge.topic_changed(room, topic);
            }
            Ok(())
        }
        What::Profile { .. } => {
            if bridge.known_ghost(&news.author.identity).is_some() {
                bridge.ghost(&news.author, false).await?;
            }
            Ok(())
        }
        What::Changed(change) => changed(bridge, room, news, change).await,
        What::Granted { subject, role } => governed::granted(bridge, room, news, subject, *role).await,
        What::Revoked { subject, then, reason } => {
            governed::revoked(bridge, room, news, subject, (*then, reason)).await
        }
        What::Redacted { target, sender, reason } => {
            let user = bridge.known_ghost(sender);
            let by = news.author.profile.name();
            let reason = if reason.is_empty() { format!("taken back by {by}") } else { reason.clone() };
            redact(bridge, room, news, (*target, user), &reason).await
        }
        What::Withdrawn => withdrawn(bridge, room, news).await,
        What::Knocked { reason } => {
            let name = news.author.profile.name();
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let text = format!(
                "{name} asks to be let into {}{reason}. Who may do so says: !mc invite {}",
                news.channel_name, news.author.profile.username
            );
            tell(bridge, room, news, &text).await
        }
        What::Unknown { .. } => {
            let text = format!(
                "{} did something in {} that this version of Multichat does not know.",
                news.author.profile.name(),
                news.channel_name
            );
            tell(bridge, room, news, &text).await
        }
        What::Message(_) | What::Created | What::Linked(_) | What::Unlinked(_) => Ok(()),
    }
}

/// Says something about a piece of news, as the bot; once, however often it is tried.
///
/// # Errors
/// [`CallError`].
pub(super) async fn tell(bridge: &Bridge, room: &str, news: &News, text: &str) -> Result<(), CallError> {
    bot::say(bridge, room, &format!("multichat-told-{}", news.event), text).await
}

/// What is denied or not found because it is so already.
fn unless_so(called: Result<(), CallError>) -> Result<(), CallError> {
    match called {
        Err(error) if matches!(error.kind(), Kind::Denied | Kind::NotFound) => Ok(()),
        other => other,
    }
}

async fn joined(bridge: &Bridge, room: &str, news: &News) -> Result<(), CallError> {
    let ghost = bridge.ghost(&news.author, false).await?;
    bridge.put_out(room, &ghost, false);
    match bridge.enter(room, &ghost).await {
        Err(error) if error.kind() == Kind::Denied => {
            let ghost = bridge.ghost(&news.author, true).await?;
            bridge.enter(room, &ghost).await
        }
        other => other,
    }
}

async fn changed(bridge: &Bridge, room: &str, news: &News, change: &Change) -> Result<(), CallError> {
    match change {
        Change::Title(title) => {
            let name = if title.is_empty() { &news.channel_name } else { title };
            setting(bridge, room, news, "m.room.name", json!({"name": name})).await
        }
        Change::Avatar(address) if address.is_empty() || address.starts_with("mxc://") => {
            let content = if address.is_empty() { json!({}) } else { json!({"url": address}) };
            setting(bridge, room, news, "m.room.avatar", content).await
        }
        Change::Avatar(address) => {
            let who = news.author.profile.name();
            tell(bridge, room, news, &format!("{who} gave {} a picture: {address}", news.channel_name)).await
        }
        Change::Join(rule) => {
            let rule = match rule {
                JoinRule::Open => "public",
                JoinRule::Knock => "knock",
                JoinRule::Invite | JoinRule::Ticket => "invite",
            };
            setting(bridge, room, news, "m.room.join_rules", json!({"join_rule": rule})).await
        }
        Change::Pins(pins) => {
            let mut pinned = Vec::new();
            for pin in pins {
                pinned.extend(bridge.id_of(room, *pin).await?.map(|(id, _)| id));
            }
            setting(bridge, room, news, "m.room.pinned_events", json!({"pinned": pinned})).await
        }
        // What binds people but has no place in a room is told.
        other => tell(bridge, room, news, &super::proto::command::answers::changed(news, other)).await,
    }
}

/// Makes a piece of the room's state what the channel says, if it is not.
async fn setting(
    bridge: &Bridge,
    room: &str,
    news: &News,
    kind: &str,
    content: Value,
) -> Result<(), CallError> {
    let is_so = match bridge.hs.state(room, kind, "").await {
        Ok(state) => state == content || (state.is_null() && content == json!({})),
        Err(error) if error.kind() == Kind::Denied => false,
        Err(error) => return Err(error),
    };
    if is_so {
        return Ok(());
    }
    let set = match bridge.hs.set_state(room, kind, content.clone()).await {
        Err(error) if error.kind() == Kind::Denied => {
            // Perhaps the bot is not in the room yet.
            match bridge.hs.join(room, None).await {
                Ok(_) => bridge.hs.set_state(room, kind, content).await,
                Err(_) => Err(error),
            }
        }
        other => other,
    };
    match set {
        Err(error) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => {
            let what = kind.trim_start_matches("m.room.").replace('_', " ");
            let text = format!(
                "{} changed the {what} of {}, and I could not do so in this room: {error}.",
                news.author.profile.name(),
                news.channel_name
            );
            tell(bridge, room, news, &text).await
        }
        other => other,
    }
}

/// What a ghost said is taken back; what somebody said in this room themselves is marked, for it may
/// come to count again, and its words are theirs.
async fn withdrawn(bridge: &Bridge, room: &str, news: &News) -> Result<(), CallError> {
    let Some((id, sender)) = bridge.id_of(room, news.event).await? else { return Ok(()) };
    let ghost = bridge.known_ghost(&news.author.identity);
    if let Some(ghost) = ghost.filter(|ghost| sender.as_ref().is_none_or(|sender| sender == ghost)) {
        let txn = format!("multichat-void-{}-{}", news.event, news.position);
        let reason = "void: its author had no right to say it, as became known later";
        match bridge.hs.redact(room, &id, &txn, Some(&ghost), reason).await {
            Err(error) if error.kind() == Kind::Denied => {}
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {
                bridge.withdraw(room, news.event);
                return Ok(());
            }
        }
    }
    // Many may turn void at once: once a minute of what was said is enough.
    let (author, minute) = (&news.author.identity.to_string()[..16], news.at.0 / 60_000);
    let text = format!(
        "What {} said here does not count in {}: they had no right to, as became known later.",
        news.author.profile.name(),
        news.channel_name
    );
    bot::say_about(bridge, room, &format!("multichat-void-{author}-{minute}"), &text, &id).await
}

/// Takes an event of the room back: as the ghost who sent it, else as the bot.
async fn redact(
    bridge: &Bridge,
    room: &str,
    news: &News,
    (target, user): (EventId, Option<String>),
    reason: &str,
) -> Result<(), CallError> {
    let Some((id, sender)) = bridge.id_of(room, target).await? else { return Ok(()) };
    // A Matrix user's own words in this room are not their ghost's.
    let by = user.filter(|ghost| sender.as_ref().is_none_or(|sender| sender == ghost));
    let txn = format!("multichat-{}", news.event);
    let done = match &by {
        Some(ghost) => bridge.hs.redact(room, &id, &txn, Some(ghost), reason).await,
        None => bridge.hs.redact(room, &id, &txn, None, reason).await,
    };
    let done = match done {
        Err(error) if error.kind() == Kind::Denied && by.is_some() => {
            bridge.hs.redact(room, &id, &txn, None, reason).await
        }
        other => other,
    };
    match done {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) if error.kind() == Kind::Denied => {
            let text = format!(
                "A message here does not count any more in {} ({reason}), and I may not remove it.",
                news.channel_name
            );
            bot::say_about(bridge, room, &format!("multichat-told-{}", news.event), &text, &id).await
        }
        other => other,
    }
}

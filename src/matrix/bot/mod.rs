//! The bot: does what people ask of it and says what was done, or why not.

mod orders;

use serde_json::{Value, json};

use super::boundary;
use super::bridge::{Bridge, Trouble};
use super::governed;
use super::homeserver::{CallError, Sending};
use super::proto::command::{self, Command, answers};
use super::proto::powers;
use super::proto::translate::Place;
use crate::base::Kind;
use crate::chat::access::Role;
use crate::chat::channel::JoinRule;
use crate::chat::intent::{ChannelRef, Intent, Submission};
use crate::chat::invite::Invite;
use crate::chat::message::Link;
use crate::chat::name::ChannelName;
use crate::chat::view::ChannelView;
use crate::port::Refusal;

/// Where and by whom a command was said.
pub(super) struct Asked<'a> {
    pub room: &'a str,
    pub user: &'a str,
    /// In a chat of two with the bot.
    pub direct: bool,
}

/// Does what a command says. The answer says what was done or why not.
///
/// # Errors
/// [`Trouble`] of kind `Retry` alone: the same may be asked again later.
pub(super) async fn execute(bridge: &Bridge, asked: &Asked<'_>, text: &str) -> Result<String, Trouble> {
    let command = match command::parse(text) {
        Ok(command) => command,
        Err(answer) => return Ok(answer),
    };
    let done = match command {
        Command::Help => Ok(answers::help(bridge.names.bot())),
        Command::List(words) => Ok(answers::list(&bridge.channels().await?, &words)),
        Command::Whoami => Ok(answers::whoami(asked.user, &bridge.channels().await?)),
        Command::Status => match bridge.handle.status().await {
            Ok(status) => Ok(answers::status(&status)),
            Err(stopped) => Err(stopped.into()),
        },
        Command::Join(channel) => join(bridge, asked, &channel).await,
        Command::UseInvite(invite) => use_invite(bridge, asked, *invite).await,
        Command::Create { name, topic } => create(bridge, asked, name, topic).await,
        Command::Leave(channel) => leave(bridge, asked, channel).await,
        Command::Link { channel, room } => link(bridge, asked, &channel, room).await,
        Command::Unlink => unlink(bridge, asked).await,
        Command::Forget => forget(bridge, asked).await,
        Command::Remember => {
            bridge.silence(asked.user, false).await?;
            Ok("What you say in linked rooms is carried again.".into())
        }
        Command::About { channel, order } => orders::execute(bridge, asked, channel, order).await,
    };
    match done {
        Err(trouble) if trouble.kind() == Kind::Retry => Err(trouble),
        Err(trouble) => Ok(format!("Not done: {trouble}.")),
        Ok(answer) => Ok(answer),
    }
}

/// Sends a notice as the bot; the same `txn` says nothing twice.
pub(super) async fn say(bridge: &Bridge, room: &str, txn: &str, text: &str) -> Result<(), CallError> {
    send(bridge, room, txn, "m.room.message", &json!({"msgtype": "m.notice", "body": text})).await
}

/// The same, about an event of the room.
pub(super) async fn say_about(
    bridge: &Bridge,
    room: &str,
    txn: &str,
    text: &str,
    about: &str,
) -> Result<(), CallError> {
    let relation = json!({"m.in_reply_to": {"event_id": about}});
    let content = json!({"msgtype": "m.notice", "body": text, "m.relates_to": relation});
    send(bridge, room, txn, "m.room.message", &content).await
}

/// Tells who said something that it was refused: in the form that clients show beside the message,
/// and in words.
pub(super) async fn say_refused(bridge: &Bridge, at: &Place, refusal: &Refusal) -> Result<(), CallError> {
    let text = format!("A message of {} was not carried: {refusal}.", at.sender);
    let reason = match refusal.kind() {
        Kind::Denied => "m.no_permission",
        Kind::Invalid => "com.beeper.unsupported_event",
        _ => "m.event_not_handled",
    };
    let status = json!({
        "network": "multichat",
        "m.relates_to": {"rel_type": "m.reference", "event_id": at.event_id},
        "status": "FAIL_PERMANENT",
        "reason": reason,
        "error": refusal.reason(),
        "message": refusal.to_string(),
    });
    let txn = format!("multichat-status-{}", at.event_id);
    // It is an addition to the words, which say the same.
    if let Err(error) = send(bridge, &at.room, &txn, "com.beeper.message_send_status", &status).await {
        tracing::debug!(room = at.room, %error, "a message's status could not be sent");
    }
    say_about(bridge, &at.room, &format!("multichat-refused-{}", at.event_id), &text, &at.event_id).await
}

async fn send(bridge: &Bridge, room: &str, txn: &str, kind: &str, content: &Value) -> Result<(), CallError> {
    bridge.send(&Sending { kind, room, as_user: None, txn, said_at: None, content }).await.map(drop)
}

async fn join(bridge: &Bridge, asked: &Asked<'_>, channel: &str) -> Result<String, Trouble> {
    let views = bridge.channels().await?;
    if let Some(view) = views.iter().find(|view| view.name == channel)
        && view.policy.join != JoinRule::Open
        && !is_admin(bridge, asked.user)
        && role_in(view, asked.user).is_none()
    {
        return Ok(format!(
            "Not done: {channel} takes in only who is let in. One of its moderators can do that, or give you an invite link."
        ));
    }
    let Some((view, room)) = bridge.portal(channel, None).await? else {
        return Ok(format!("No channel {channel} is known here. Found it with: create {channel}"));
    };
    invite(bridge, &room, asked.user, &view.name).await
}

/// Makes somebody a member by a link, and gets them into the channel's room.
async fn use_invite(bridge: &Bridge, asked: &Asked<'_>, invite: Invite) -> Result<String, Trouble> {
    if !asked.direct {
        return Ok(format!("{} Whoever read that link here can use it.", answers::IN_PRIVATE));
    }
    let channel = invite.channel;
    let actor = bridge.person(asked.room, asked.user).await;
    let intent = Intent::UseInvite { invite };
    bridge.handle.submit(Submission { actor, intent, via: None, join_first: false, tag: 0 }).await?;
    let views = bridge.channels().await?;
    let Some(view) = views.into_iter().find(|view| view.id == channel) else {
        return Err(Refusal::NoSuchChannel(channel.to_string()).into());
    };
    let entered = join(bridge, asked, &view.name).await?;
    Ok(format!("You are a member of {}. {entered}", view.name))
}

async fn invite(bridge: &Bridge, room: &str, user: &str, channel: &str) -> Result<String, Trouble> {
    match bridge.hs.invite(room, user).await {
        Ok(()) => Ok(format!("You are invited to the room of {channel}.")),
        Err(error) if error.kind() == Kind::Denied => {
            if bridge.hs.joined(room).await?.iter().any(|member| member == user) {
                Ok(format!("You are in the room of {channel} already."))
            } else {
                Ok(format!("{channel} is carried in {room}, but I may not invite you there: {error}."))
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn create(
    bridge: &Bridge,
    asked: &Asked<'_>,
    name: ChannelName,
    topic: String,
) -> Result<String, Trouble> {
    let channel = name.to_string();
    let actor = bridge.person(asked.room, asked.user).await;
    let intent = Intent::CreateChannel { name, topic };
    match bridge.handle.submit(Submission { actor, intent, via: None, join_first: false, tag: 0 }).await {
        Ok(_) => {}
        Err(Refusal::ChannelExists(name)) => {
            return Ok(format!("{name} exists already. Get a room for it with: join {name}"));
        }
        Err(refusal) => return Err(refusal.into()),
    }
    match bridge.portal(&channel, None).await? {
        Some((view, room)) => {
            Ok(format!("{channel} is founded. {}", invite(bridge, &room, asked.user, &view.name).await?))
        }
        None => Ok(format!("{channel} is founded. Get a room for it with: join {channel}")),
    }
}

async fn leave(bridge: &Bridge, asked: &Asked<'_>, channel: Option<String>) -> Result<String, Trouble> {
    let here = bridge.carried(asked.room).map(|carried| carried.name);
    let Some(channel) = channel.or(here) else {
        return Ok("Which channel? Say it like this: leave #channel".into());
    };
    let actor = bridge.person(asked.room, asked.user).await;
    let intent = Intent::LeaveChannel { channel: ChannelRef::Name(channel.clone()), reason: String::new() };
    bridge.handle.submit(Submission { actor, intent, via: None, join_first: false, tag: 0 }).await?;
    Ok(format!("You left {channel}. Leave its room too: whoever speaks there is in the channel again."))
}

async fn link(
    bridge: &Bridge,
    asked: &Asked<'_>,
    channel: &str,
    room: Option<String>,
) -> Result<String, Trouble> {
    let room = match room {
        None if asked.direct => {
            return Ok(format!(
                "Say !mc link {channel} in the room, or name the room here: link {channel} #room:server"
            ));
        }
        None => asked.room.to_owned(),
        Some(room) => match bridge.hs.join(&room, None).await {
            Ok(room) => room,
            Err(error) if error.kind() == Kind::Retry => return Err(error.into()),
            Err(error) => {
                return Ok(format!(
                    "I cannot get into {room}: {error}. Invite {} first.",
                    bridge.names.bot()
                ));
            }
        },
    };
    if let Some(denied) = denied(bridge, &room, asked.user).await? {
        return Ok(denied);
    }
    if let Some(carried) = bridge.carried(&room).filter(|carried| carried.name != channel) {
        return Ok(format!("This room carries {} already. Say unlink first.", carried.name));
    }
    let views = bridge.channels().await?;
    let view = views.iter().find(|view| view.name == channel);
    if let Some(denied) = view.and_then(|view| needs_consent(bridge, view, asked.user)) {
        return Ok(denied);
    }
    let role = view.and_then(|view| role_in(view, asked.user));
    let trusted =
        view.is_none() || is_admin(bridge, asked.user) || role.is_some_and(|role| role <= Role::Admin);
    bridge.trust(&room, trusted).await?;
    let carried = bridge.link(&room, ChannelRef::Name(channel.to_owned()), true).await?;
    boundary::tell(bridge, &room).await?;
    if trusted {
        governed::adopt(bridge, &room, &carried).await?;
    }
    let founded = if view.is_some() { "" } else { "I founded it, as there was none of that name. " };
    let powers = match trusted {
        true => "Its moderators are moderators of the channel.",
        false => "Its moderators have no say in the channel until somebody there grants it.",
    };
    Ok(format!("{founded}{} is carried in {room} from now on. {powers}", carried.name))
}

/// What somebody is in a channel.
fn role_in(view: &ChannelView, user: &str) -> Option<Role> {
    view.members.iter().find(|member| member.profile.home == user).map(|member| member.role)
}

fn is_admin(bridge: &Bridge, user: &str) -> bool {
    bridge.admins.iter().any(|admin| admin == user)
}

/// The answer for somebody who links a channel that does not take in anybody, and has no say in it.
fn needs_consent(bridge: &Bridge, view: &ChannelView, user: &str) -> Option<String> {
    let may = view.policy.join == JoinRule::Open
        || is_admin(bridge, user)
        || role_in(view, user).is_some_and(|role| role <= Role::Moderator);
    (!may).then(|| {
        format!(
            "Not done: {} takes in only who is let in, so one of its moderators has to link it.",
            view.name
        )
    })
}

/// Nothing of somebody is carried any more, and they leave where they are.
async fn forget(bridge: &Bridge, asked: &Asked<'_>) -> Result<String, Trouble> {
    bridge.silence(asked.user, true).await?;
    let actor = bridge.person(asked.room, asked.user).await;
    let mut left = Vec::new();
    for view in bridge.channels().await?.iter().filter(|view| role_in(view, asked.user).is_some()) {
        let intent = Intent::LeaveChannel { channel: ChannelRef::Id(view.id), reason: String::new() };
        let leaving = Submission { actor: actor.clone(), intent, via: None, join_first: false, tag: 0 };
        match bridge.handle.submit(leaving).await {
            Ok(_) => left.push(view.name.clone()),
            Err(refusal) if refusal.kind() == Kind::Retry => return Err(refusal.into()),
            Err(refusal) => tracing::info!(%refusal, "somebody who is to be forgotten could not leave"),
        }
    }
    let left = match left.is_empty() {
        true => "You were in no channel.".to_owned(),
        false => format!("You left {}.", left.join(", ")),
    };
    Ok(format!(
        "Nothing you say is carried from now on. {left} What you said before stays until you remove it: \
         what you redact in a room is taken back everywhere. Undo this with: remember me"
    ))
}

async fn unlink(bridge: &Bridge, asked: &Asked<'_>) -> Result<String, Trouble> {
    let Some(carried) = bridge.carried(asked.room) else {
        return Ok("This room carries no channel. Say unlink in the room that does.".into());
    };
    if let Some(denied) = denied(bridge, asked.room, asked.user).await? {
        return Ok(denied);
    }
    bridge.submit(Intent::Unlink { link: Link::Matrix { room: asked.room.to_owned() } }).await?;
    bridge.unlinked(asked.room);
    bridge.told(asked.room, false).await;
    bridge.trust(asked.room, true).await?;
    Ok(format!("{} is not carried in this room any more.", carried.name))
}

/// The answer for somebody who may not link or unlink a room.
async fn denied(bridge: &Bridge, room: &str, user: &str) -> Result<Option<String>, Trouble> {
    if is_admin(bridge, user) {
        return Ok(None);
    }
    if powers::role_of(bridge.powers(room).await?.level(user)) <= Role::Moderator {
        return Ok(None);
    }
    Ok(Some("Not done: only moderators of the room (power 50) and admins of this node may do that.".into()))
}

//! The bot: does what people ask of it and says what was done, or why not.

use serde_json::json;

use super::bridge::{Bridge, Trouble};
use super::homeserver::{CallError, Sending};
use super::proto::command::{self, Command};
use super::proto::portals;
use crate::base::Kind;
use crate::chat::intent::{ChannelRef, Intent, Submission};
use crate::chat::message::Link;
use crate::chat::name::ChannelName;
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
        Command::Help => Ok(command::help(bridge.names.bot())),
        Command::List(words) => Ok(command::list(&bridge.channels().await?, &words)),
        Command::Whoami => Ok(command::whoami(asked.user, &bridge.channels().await?)),
        Command::Status => match bridge.handle.status().await {
            Ok(status) => Ok(command::status(&status)),
            Err(stopped) => Err(stopped.into()),
        },
        Command::Join(channel) => join(bridge, asked, &channel).await,
        Command::Create { name, topic } => create(bridge, asked, name, topic).await,
        Command::Leave(channel) => leave(bridge, asked, channel).await,
        Command::Link { channel, room } => link(bridge, asked, &channel, room).await,
        Command::Unlink => unlink(bridge, asked).await,
    };
    match done {
        Err(trouble) if trouble.kind() == Kind::Retry => Err(trouble),
        Err(trouble) => Ok(format!("Not done: {trouble}.")),
        Ok(answer) => Ok(answer),
    }
}

/// Sends a notice as the bot; the same `txn` says nothing twice.
pub(super) async fn say(bridge: &Bridge, room: &str, txn: &str, text: &str) -> Result<(), CallError> {
    let content = json!({"msgtype": "m.notice", "body": text});
    bridge.hs.send(&Sending { room, as_user: None, txn, said_at: None, content: &content }).await.map(drop)
}

async fn join(bridge: &Bridge, asked: &Asked<'_>, channel: &str) -> Result<String, Trouble> {
    let Some((view, room)) = bridge.portal(channel, None).await? else {
        return Ok(format!("No channel {channel} is known here. Found it with: create {channel}"));
    };
    invite(bridge, &room, asked.user, &view.name).await
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
    let known = bridge.channels().await?.iter().any(|view| view.name == channel);
    let carried = bridge.link(&room, ChannelRef::Name(channel.to_owned()), true).await?;
    let founded = if known { "" } else { "I founded it, as there was none of that name. " };
    Ok(format!("{founded}{} is carried in {room} from now on.", carried.name))
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
    Ok(format!("{} is not carried in this room any more.", carried.name))
}

/// The answer for somebody who may not link or unlink a room.
async fn denied(bridge: &Bridge, room: &str, user: &str) -> Result<Option<String>, Trouble> {
    if bridge.admins.iter().any(|admin| admin == user) {
        return Ok(None);
    }
    let create = bridge.hs.state_event(room, "m.room.create").await?;
    let levels = bridge.hs.state(room, "m.room.power_levels", "").await?;
    if portals::may_link(&create, &levels, user) {
        return Ok(None);
    }
    Ok(Some("Not done: only moderators of the room (power 50) and admins of this node may do that.".into()))
}

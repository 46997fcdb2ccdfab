//! Roles and removals of a channel, done in a room: power levels, kicks, bans and invitations by
//! the bot, where the room lets it. Where it does not, the bot says so.

use super::bot;
use super::bridge::{Bridge, Trouble};
use super::homeserver::{CallError, Removal};
use super::proto::ghosts;
use super::proto::portals::Carried;
use super::shown::tell;
use crate::base::Kind;
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::message::Link;
use crate::chat::view::{ChannelView, Member, News};

/// Moderators of a room that are taken over at the most.
const ADOPTED: usize = 100;

/// Somebody got a role: they get the power that stands for it, and are let in.
///
/// # Errors
/// [`CallError`].
pub(super) async fn granted(
    bridge: &Bridge,
    room: &str,
    news: &News,
    subject: &Member,
    role: Role,
) -> Result<(), CallError> {
    let Some(user) = bridge.user_of(subject) else { return Ok(()) };
    let mut membership = membership(bridge, room, &user).await?;
    if membership == "ban" {
        remove(bridge, room, news, Removal::Unban, (&user, "")).await?;
        membership = "leave".into();
    }
    let is_invited = role >= Role::Member && ghosts::is_matrix_user(&subject.profile);
    if is_invited && membership != "join" && membership != "invite" {
        invite(bridge, room, news, &user).await?;
    }
    give(bridge, room, news, (&user, subject.profile.name()), role).await
}

/// Somebody was demoted, removed, banned, or had their ban lifted.
///
/// # Errors
/// [`CallError`].
pub(super) async fn revoked(
    bridge: &Bridge,
    room: &str,
    news: &News,
    subject: &Member,
    (then, reason): (Standing, &str),
) -> Result<(), CallError> {
    let Some(user) = bridge.user_of(subject) else { return Ok(()) };
    let who = (user.as_str(), subject.profile.name());
    if let Standing::Demoted(role) = then {
        return give(bridge, room, news, who, role).await;
    }
    let membership = membership(bridge, room, &user).await?;
    let by = news.author.profile.name();
    let reason = match reason {
        "" => format!("by {by}"),
        reason => format!("{reason} (by {by})"),
    };
    match then {
        Standing::Free if membership == "ban" => {
            remove(bridge, room, news, Removal::Unban, (&user, &reason)).await
        }
        Standing::Out if matches!(membership.as_str(), "join" | "invite" | "knock") => {
            powerless(bridge, room, who).await?;
            remove(bridge, room, news, Removal::Kick, (&user, &reason)).await
        }
        Standing::Banned if membership != "ban" => {
            powerless(bridge, room, who).await?;
            remove(bridge, room, news, Removal::Ban, (&user, &reason)).await
        }
        _ => Ok(()),
    }
}

/// Gives a linked room's moderators the roles that their power stands for: the room counts for its
/// channel. Those who are not in the room get theirs when they are given power again.
///
/// # Errors
/// [`Trouble`] of kind `Retry` alone.
pub(super) async fn adopt(bridge: &Bridge, room: &str, carried: &Carried) -> Result<(), Trouble> {
    let powers = match bridge.powers(room).await {
        Err(error) if error.kind() == Kind::Retry => return Err(error.into()),
        Err(error) => {
            tracing::warn!(room, %error, "a room's powers cannot be read");
            return Ok(());
        }
        Ok(powers) => powers,
    };
    let theirs = powers.powerful().into_iter().filter(|(user, _)| !bridge.names.is_ours(user));
    for (user, role) in theirs.take(ADOPTED) {
        let state = bridge.hs.state(room, "m.room.member", &user).await;
        if !state.is_ok_and(|state| state["membership"] == "join") {
            continue;
        }
        let channel = ChannelRef::Id(carried.channel);
        let via = Some(Link::Matrix { room: room.to_owned() });
        let joining = Submission {
            actor: bridge.person(room, &user).await,
            intent: Intent::JoinChannel { channel: channel.clone(), create: false },
            via: via.clone(),
            join_first: false,
            tag: 0,
        };
        let subject = Subject::Name(user.clone());
        let intent = Intent::GrantRole { channel, subject, role };
        let granting = Submission { actor: Actor::Node, intent, via, join_first: false, tag: 0 };
        // A role lets in, so it comes first where the channel does not take in anybody.
        for submission in [joining.clone(), granting, joining] {
            match bridge.handle.submit(submission).await {
                Err(refusal) if refusal.kind() == Kind::Retry => return Err(refusal.into()),
                Err(refusal) => {
                    tracing::info!(room, user, %refusal, "a moderator of the room keeps their role")
                }
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Gives a new portal's people the powers of their roles.
///
/// # Errors
/// [`CallError`].
pub(super) async fn empower(bridge: &Bridge, room: &str, view: &ChannelView) -> Result<(), CallError> {
    let mut powers = bridge.powers(room).await?;
    let mut changed = false;
    let matrix = view.members.iter().filter(|member| ghosts::is_matrix_user(&member.profile));
    for member in matrix.filter(|member| member.role < Role::Member) {
        if let Ok(Some(levels)) = powers.giving(bridge.names.bot(), &member.profile.home, member.role) {
            powers.levels = levels;
            changed = true;
        }
    }
    if changed {
        bridge.hs.set_state(room, "m.room.power_levels", powers.levels).await?;
    }
    Ok(())
}

async fn give(
    bridge: &Bridge,
    room: &str,
    news: &News,
    (user, name): (&str, &str),
    role: Role,
) -> Result<(), CallError> {
    let powers = match bridge.powers(room).await {
        Err(error) if error.kind() == Kind::Denied => {
            bridge.hs.join(room, None).await?;
            bridge.powers(room).await?
        }
        other => other?,
    };
    let why = match powers.giving(bridge.names.bot(), user, role) {
        Ok(None) => return Ok(()),
        Ok(Some(levels)) => match bridge.hs.set_state(room, "m.room.power_levels", levels).await {
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => error.to_string(),
            other => return other,
        },
        Err(why) => why.to_owned(),
    };
    let channel = &news.channel_name;
    let text =
        format!("{name} is {} of {channel} now, but keeps their power in this room: {why}.", role.name());
    tell(bridge, room, news, &text).await
}

/// Takes somebody's power as far as it goes: who comes back comes back without it.
async fn powerless(bridge: &Bridge, room: &str, (user, _): (&str, &str)) -> Result<(), CallError> {
    let powers = match bridge.powers(room).await {
        Err(error) if error.kind() == Kind::Denied => return Ok(()),
        other => other?,
    };
    let Ok(Some(levels)) = powers.giving(bridge.names.bot(), user, Role::Member) else { return Ok(()) };
    match bridge.hs.set_state(room, "m.room.power_levels", levels).await {
        Err(error) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => Ok(()),
        other => other,
    }
}

/// What a user is in a room; empty where they never were.
async fn membership(bridge: &Bridge, room: &str, user: &str) -> Result<String, CallError> {
    let read = match bridge.hs.state(room, "m.room.member", user).await {
        Err(error) if error.kind() == Kind::Denied => {
            bridge.hs.join(room, None).await?;
            bridge.hs.state(room, "m.room.member", user).await?
        }
        other => other?,
    };
    Ok(read["membership"].as_str().unwrap_or_default().to_owned())
}

async fn invite(bridge: &Bridge, room: &str, news: &News, user: &str) -> Result<(), CallError> {
    match bridge.hs.invite(room, user).await {
        Err(error) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => {
            let channel = &news.channel_name;
            tell(
                bridge,
                room,
                news,
                &format!("{user} may join {channel}, but I could not invite them here: {error}."),
            )
            .await
        }
        other => other,
    }
}

async fn remove(
    bridge: &Bridge,
    room: &str,
    news: &News,
    how: Removal,
    (user, reason): (&str, &str),
) -> Result<(), CallError> {
    let error = match bridge.hs.remove(how, room, user, reason).await {
        Err(error) if matches!(error.kind(), Kind::Denied | Kind::Invalid) => error,
        other => return other,
    };
    let is_ghost = bridge.names.ghost_localpart(user).is_some();
    if is_ghost && how != Removal::Unban {
        // A ghost goes by itself where the bot may not put it out.
        match bridge.hs.leave(room, user, reason).await {
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::NotFound) => {}
            other => return other,
        }
    }
    let done = match how {
        Removal::Kick => "was removed from",
        Removal::Ban => "was banned from",
        Removal::Unban => "may come back to",
    };
    let channel = &news.channel_name;
    let text = format!(
        "{user} {done} {channel} ({reason}), but I may not do so in this room: {error}. \
         What they say here is not carried; a moderator of the room can follow."
    );
    bot::say(bridge, room, &format!("multichat-told-{}", news.event), &text).await
}

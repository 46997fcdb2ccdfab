//! What the people of a room decide about it and about each other: powers, kicks, bans, invitations,
//! knocks, settings, redactions. Whoever decides needs the right to do so in the channel. Where a
//! room's powers count for its channel (see `Bridge::is_trusted`), the node does on its own what the
//! room's moderators have no role for yet; where they do not, the room is told why nothing came of
//! it.

use serde_json::Value;

use super::{Round, Wish};
use crate::base::{Kind, limits};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::message::Link;
use crate::matrix::bot;
use crate::matrix::bridge::Trouble;
use crate::matrix::proto::powers;
use crate::matrix::proto::translate::{Place, RoomSetting};
use crate::port::Refusal;

impl Round<'_> {
    /// Somebody took back what was said.
    pub(super) async fn redacted(&mut self, at: Place, target: &str, reason: String) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let Some(target) = self.event_of(&at.room, target).await? else {
            self.bridge.counts.add("redaction of something that is not carried");
            return Ok(());
        };
        let intent = Intent::RedactMessage { channel, target, reason };
        match self.govern(&at, intent).await? {
            Ok(()) => Ok(()),
            Err(refusal) => self.say_undone(&at, &refusal).await,
        }
    }

    /// Somebody kicked, banned or unbanned another, or a ghost.
    pub(super) async fn put_out(
        &mut self,
        at: Place,
        user: &str,
        then: Standing,
        reason: String,
    ) -> Result<(), Trouble> {
        self.memory.direct.remove(&at.room);
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let Some(subject) = self.subject(user) else { return Ok(()) };
        let intent = Intent::RevokeRole { channel: channel.clone(), subject, then, reason: reason.clone() };
        let is_ghost = self.bridge.names.is_ours(user);
        if is_ghost {
            // Before the node knows: what the ghost's person said by then may be on its way here.
            self.bridge.put_out(&at.room, user, then != Standing::Free);
        }
        let refusal = match self.govern(&at, intent).await? {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        if is_ghost {
            // They stay in the channel, so they are heard here as long as the room lets their ghost in.
            self.bridge.put_out(&at.room, user, false);
        }
        if then != Standing::Free && !is_ghost {
            // They are out of the room all the same: so they left the channel.
            let done = if then == Standing::Banned { "banned" } else { "removed" };
            let reason = match reason.as_str() {
                "" => format!("{done} by {}", at.sender),
                reason => format!("{done} by {}: {reason}", at.sender),
            };
            let actor = self.bridge.person(&at.room, user).await;
            let intent = Intent::LeaveChannel { channel, reason };
            return self.submit(at, actor, intent, false, Wish::Other).await;
        }
        self.say_undone(&at, &refusal).await
    }

    /// Somebody invited another, or a ghost: where one needs to be let in, they are.
    pub(super) async fn let_in(&mut self, at: Place, user: &str) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let Some(subject) = self.subject(user) else { return Ok(()) };
        let views = self.bridge.channels().await?;
        let is_open = |rule: JoinRule| rule == JoinRule::Open;
        let view = views.iter().find(|view| ChannelRef::Id(view.id) == channel);
        if view.is_none_or(|view| is_open(view.policy.join)) {
            return Ok(());
        }
        match self.govern(&at, Intent::GrantRole { channel, subject, role: Role::Member }).await? {
            Ok(()) => Ok(()),
            Err(refusal) => self.say_undone(&at, &refusal).await,
        }
    }

    /// Somebody asks to be let in.
    pub(super) async fn knocked(&mut self, at: Place, reason: String) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let actor = self.bridge.person(&at.room, &at.sender).await;
        self.submit(at, actor, Intent::Knock { channel, reason }, false, Wish::Other).await
    }

    /// Somebody gave others power, or took it.
    pub(super) async fn powers(&mut self, at: Place, after: &Value, before: &Value) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let mut undone = None;
        for (user, was, role) in powers::changes(before, after) {
            let Some(subject) = self.subject(&user) else { continue };
            let channel = channel.clone();
            let intent = match role < was {
                true => Intent::GrantRole { channel, subject, role },
                false => {
                    let then = Standing::Demoted(role);
                    Intent::RevokeRole { channel, subject, then, reason: String::new() }
                }
            };
            if let Err(refusal) = self.govern(&at, intent).await? {
                undone = Some(refusal);
            }
        }
        match undone {
            None => Ok(()),
            Some(refusal) => self.say_undone(&at, &refusal).await,
        }
    }

    /// Somebody changed the room.
    pub(super) async fn set(&mut self, at: Place, setting: RoomSetting) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        let change = match setting {
            RoomSetting::Topic(topic) if !self.bridge.topic_changed(&at.room, &topic) => return Ok(()),
            RoomSetting::Topic(topic) => Change::Topic(topic),
            RoomSetting::Name(name) => Change::Title(name),
            RoomSetting::Avatar(address) => Change::Avatar(address),
            RoomSetting::Join(rule) => Change::Join(rule),
            RoomSetting::Pins(ids) => {
                let mut pins = Vec::new();
                for id in ids.iter().take(limits::PINS) {
                    pins.extend(self.event_of(&at.room, id).await?);
                }
                Change::Pins(pins)
            }
        };
        match self.govern(&at, Intent::UpdateChannel { channel, change }).await? {
            Ok(()) => Ok(()),
            Err(refusal) => self.say_undone(&at, &refusal).await,
        }
    }

    /// The room goes on in another: so does the link.
    pub(super) async fn upgraded(&mut self, at: Place, room: &str) -> Result<(), Trouble> {
        let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
        match self.bridge.hs.join(room, None).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Retry => return Err(error.into()),
            Err(error) => {
                self.bridge.counts.add("room upgrade not followed");
                tracing::warn!(room = at.room, to = room, %error, "the bot could not follow a room's upgrade; invite it there and link the new room");
                return Ok(());
            }
        }
        self.bridge.trust(room, self.bridge.is_trusted(&at.room)).await?;
        if self.bridge.carried(room).is_none() {
            self.bridge.link(room, channel, false).await?;
        }
        let link = Link::Matrix { room: at.room.clone() };
        match self.bridge.submit(Intent::Unlink { link }).await {
            Ok(()) | Err(Refusal::NoSuchLink) => {}
            Err(refusal) => return Err(refusal.into()),
        }
        self.bridge.unlinked(&at.room);
        let text = "I followed the upgrade of the room: what is said is carried here now.";
        if let Err(error) =
            bot::say(self.bridge, room, &format!("multichat-upgrade-{}", at.event_id), text).await
        {
            tracing::warn!(room, %error, "the bot could not speak in an upgraded room");
        }
        Ok(())
    }

    /// Whom a user of the room stands for; `None` for the bot, and for ghosts that are not ours.
    fn subject(&self, user: &str) -> Option<Subject> {
        if self.bridge.names.is_ours(user) {
            return self.bridge.ghost_identity(user).map(Subject::Identity);
        }
        Some(Subject::Name(user.to_owned()))
    }

    /// Does what the sender decided, in their own right or in the room's.
    ///
    /// # Errors
    /// [`Trouble`] if it is to be tried again.
    async fn govern(&mut self, at: &Place, intent: Intent) -> Result<Result<(), Refusal>, Trouble> {
        let actor = self.bridge.person(&at.room, &at.sender).await;
        let via = Some(Link::Matrix { room: at.room.clone() });
        let own = Submission { actor, intent: intent.clone(), via: via.clone(), join_first: true, tag: 0 };
        let refusal = match self.bridge.handle.submit(own).await {
            Ok(_) => return Ok(Ok(())),
            Err(refusal) => refusal,
        };
        // Who was put out of the channel, or is banned from it, decides nothing, whatever their power.
        let lacks_right = matches!(refusal, Refusal::NotPermitted(_) | Refusal::NotInvited);
        let refusal = match lacks_right && self.bridge.is_trusted(&at.room) {
            true => {
                let node = Submission { actor: Actor::Node, intent, via, join_first: false, tag: 0 };
                match self.bridge.handle.submit(node).await {
                    Ok(_) => return Ok(Ok(())),
                    Err(again) if again.kind() == Kind::Retry => again,
                    // Why the sender may not is worth more to them than why the node may not.
                    Err(_) => refusal,
                }
            }
            false => refusal,
        };
        if refusal.kind() == Kind::Retry { Err(refusal.into()) } else { Ok(Err(refusal)) }
    }

    /// Tells a room that what was decided in it does not count for its channel.
    async fn say_undone(&mut self, at: &Place, refusal: &Refusal) -> Result<(), Trouble> {
        self.bridge.counts.add("refused by the node");
        let name = self.bridge.carried(&at.room).map_or_else(String::new, |carried| carried.name);
        let text = format!("What {} did counts in this room, but not in {name}: {refusal}.", at.sender);
        let txn = format!("multichat-refused-{}", at.event_id);
        if let Err(error) = bot::say(self.bridge, &at.room, &txn, &text).await {
            tracing::warn!(room = at.room, %error, "the bot could not say that something was refused");
        }
        Ok(())
    }
}

//! What both directions share: the homeserver, the node, which room carries which channel, which
//! ghosts exist. It keeps only what can be found again: notes of the node, or a question to the
//! homeserver.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::crypto::{self, Crypto};
use super::governed;
use super::homeserver::{CallError, Homeserver, Sending};
use super::known::Known;
use super::media::Media;
use super::people::People;
use super::proto::content::MARK;
use super::proto::ghosts::{self, Ghost};
use super::proto::names::Names;
use super::proto::portals::{self, Carried, Portals};
use super::proto::powers::Powers;
use crate::base::{ChannelId, EventId, Identity, Kind};
use crate::chat::flow::Flow;
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::Link;
use crate::chat::view::{ChannelView, Member};
use crate::port::{Handle, Refusal, Stopped};

/// Ghosts put out of rooms that are remembered.
const PUT_OUT: usize = 10_000;
/// What the keys of notes begin with about rooms that were told how it is with encryption. What they are
/// told differs where the node has keys.
const TOLD: &str = "encrypted/";
const TOLD_WITH_KEYS: &str = "boundary/";
/// What the keys of notes begin with about rooms whose powers say nothing about a channel: somebody
/// linked them who has no say in it.
const PLUMBED: &str = "plumbed/";
/// What the keys of notes begin with about Matrix users who want nothing of theirs carried.
const SILENT: &str = "silent/";

/// What happened how often: refused and ignored events by reason.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    /// One more.
    pub fn add(&self, reason: &'static str) {
        *hold(&self.0).entry(reason).or_default() += 1;
    }

    /// All of them, in order of reason.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        hold(&self.0).iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// How often this one.
    pub fn get(&self, reason: &str) -> u64 {
        hold(&self.0).get(reason).copied().unwrap_or(0)
    }
}

/// Why something that needs both sides was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Homeserver(CallError),
    Node(Refusal),
}

impl Trouble {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Homeserver(error) => error.kind(),
            Self::Node(refusal) => refusal.kind(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Homeserver(error) => error.fmt(f),
            Self::Node(refusal) => refusal.fmt(f),
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Homeserver(error)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Node(refusal)
    }
}

impl From<Stopped> for Trouble {
    fn from(_: Stopped) -> Self {
        Self::Node(Refusal::Stopping)
    }
}

/// See the module.
pub(super) struct Bridge {
    pub hs: Homeserver,
    pub names: Names,
    /// Matrix users who may link any room.
    pub admins: Vec<String>,
    pub handle: Handle,
    pub counts: std::sync::Arc<Counts>,
    /// Links for readers beyond the homeserver, where they have an address.
    pub media: Option<Media>,
    /// Where other nodes reach this one: invite links say it.
    pub addresses: Vec<String>,
    /// The keys for encrypted rooms, where they are allowed.
    pub crypto: Option<Crypto>,
    /// Rooms that were known to be encrypted when the door opened.
    sealed_before: BTreeSet<String>,
    /// Told when the bot got into a room.
    entered: Notify,
    portals: Mutex<Portals>,
    topics: Mutex<BTreeMap<String, String>>,
    ghosts: Mutex<BTreeMap<Identity, Ghost>>,
    localparts: Mutex<BTreeMap<String, Identity>>,
    known: Mutex<Known>,
    people: Mutex<People>,
    /// Rooms that were told how it is with encryption.
    told: Mutex<BTreeSet<String>>,
    plumbed: Mutex<BTreeSet<String>>,
    silent: Mutex<BTreeSet<String>>,
    /// Rooms, and ghosts that were put out of them.
    put_out: Mutex<BTreeSet<(String, String)>>,
    making_ghost: tokio::sync::Mutex<()>,
    making_portal: tokio::sync::Mutex<()>,
}

impl Bridge {
    /// A bridge that knows the node's channels and this door's notes.
    pub fn new(
        hs: Homeserver,
        names: Names,
        admins: Vec<String>,
        handle: Handle,
        counts: std::sync::Arc<Counts>,
        channels: &[ChannelView],
        notes: &[(String, Vec<u8>)],
    ) -> Self {
        let mut known = BTreeMap::new();
        for (key, value) in notes.iter().filter(|(key, _)| key.starts_with(ghosts::NOTE)) {
            match Ghost::from_note(key, value) {
                Ok((identity, ghost)) => {
                    known.insert(identity, ghost);
                }
                Err(_) => tracing::error!(key, "a note about a ghost cannot be read; it will be made anew"),
            }
        }
        let noted = |prefix: &str| -> BTreeSet<String> {
            notes.iter().filter_map(|(key, _)| key.strip_prefix(prefix).map(str::to_owned)).collect()
        };
        let localparts = known.iter().map(|(identity, ghost)| (ghost.localpart.clone(), *identity)).collect();
        Self {
            hs,
            names,
            admins,
            handle,
            counts,
            media: None,
            addresses: Vec::new(),
            crypto: None,
            sealed_before: noted(crypto::SEALED),
            entered: Notify::new(),
            portals: Mutex::new(Portals::of(channels)),
            topics: Mutex::default(),
            ghosts: Mutex::new(known),
            localparts: Mutex::new(localparts),
            people: Mutex::default(),
            known: Mutex::default(),
            told: Mutex::new(noted(TOLD)),
            plumbed: Mutex::new(noted(PLUMBED)),
            silent: Mutex::new(noted(SILENT)),
            put_out: Mutex::default(),
            making_ghost: tokio::sync::Mutex::default(),
            making_portal: tokio::sync::Mutex::default(),
        }
    }

    /// The bot got into a room: links that wait may work now.
    pub fn entered(&self) {
        self.entered.notify_waiters();
        // And whoever looks next, having tried just before.
        self.entered.notify_one();
    }

    /// Returns when the bot got into some room.
    pub async fn has_entered(&self) {
        self.entered.notified().await;
    }

    /// The channel that a room carries, as far as known here.
    pub fn carried(&self, room: &str) -> Option<Carried> {
        hold(&self.portals).channel(room).cloned()
    }

    /// A room that fits, and what it carries.
    pub fn room_where(&self, fits: impl Fn(&str) -> bool) -> Option<(String, Carried)> {
        hold(&self.portals).find(fits)
    }

    /// A room carries a channel from now on.
    pub fn linked(&self, room: &str, carried: Carried) {
        hold(&self.portals).link(room, carried);
    }

    /// A room carries nothing any more.
    pub fn unlinked(&self, room: &str) {
        hold(&self.portals).unlink(room);
        hold(&self.topics).remove(room);
    }

    /// The node's channels as they are now; what is known of links follows them.
    pub async fn channels(&self) -> Result<Vec<ChannelView>, Stopped> {
        let channels = self.handle.channels().await?;
        *hold(&self.portals) = Portals::of(&channels);
        Ok(channels)
    }

    /// Notes a room's topic; false if it was that already.
    pub fn topic_changed(&self, room: &str, topic: &str) -> bool {
        hold(&self.topics).insert(room.to_owned(), topic.to_owned()).as_deref() != Some(topic)
    }

    /// Whether a room has this topic, as far as known here.
    pub fn has_topic(&self, room: &str, topic: &str) -> bool {
        hold(&self.topics).get(room).is_some_and(|known| known == topic)
    }

    /// Whether a ghost of this localpart exists.
    pub fn is_ghost(&self, localpart: &str) -> bool {
        hold(&self.localparts).contains_key(localpart)
    }

    /// The person that a ghost stands for.
    pub fn ghost_identity(&self, user: &str) -> Option<Identity> {
        let localpart = self.names.ghost_localpart(user)?;
        hold(&self.localparts).get(localpart).copied()
    }

    /// How the person behind a ghost is called where they are from.
    pub fn ghost_name(&self, user: &str) -> Option<String> {
        let identity = self.ghost_identity(user)?;
        let ghosts = hold(&self.ghosts);
        let ghost = ghosts.get(&identity)?;
        Some(if ghost.username.is_empty() { ghost.shown.clone() } else { ghost.username.clone() })
    }

    /// Who somebody is on Matrix: themselves, or their ghost if there is one.
    pub fn user_of(&self, member: &Member) -> Option<String> {
        match ghosts::is_matrix_user(&member.profile) {
            true => Some(member.profile.home.clone()),
            false => self.known_ghost(&member.identity),
        }
    }

    /// The Matrix user whom a text calls by name at its beginning.
    pub fn called(&self, body: &str) -> Option<String> {
        hold(&self.people).called(body).map(str::to_owned)
    }

    /// Notes that a ghost was put out of a room by its moderators, or may come back: until the person
    /// joins the channel again, the ghost does not come in by speaking.
    pub fn put_out(&self, room: &str, ghost: &str, out: bool) {
        let key = (room.to_owned(), ghost.to_owned());
        let mut put_out = hold(&self.put_out);
        match out {
            true if put_out.len() < PUT_OUT => drop(put_out.insert(key)),
            true => {}
            false => drop(put_out.remove(&key)),
        }
    }

    /// Whether a ghost was put out of a room.
    pub fn is_put_out(&self, room: &str, ghost: &str) -> bool {
        hold(&self.put_out).contains(&(room.to_owned(), ghost.to_owned()))
    }

    /// Notes that an event of a room is this one here.
    pub fn learn(&self, room: &str, id: &str, event: EventId, sender: Option<&str>) {
        hold(&self.known).learn(room, id, event, sender);
    }

    /// What an event of a room is here, as far as it is known without asking.
    pub fn known_event(&self, room: &str, id: &str) -> Option<EventId> {
        hold(&self.known).event(room, id)
    }

    /// What an event is in a room, as far as it is known without asking.
    pub fn known_id(&self, room: &str, event: &EventId) -> Option<String> {
        hold(&self.known).id(room, event).map(|(id, _)| id.clone())
    }

    /// Notes that what an event was in a room was taken back there, as it is void.
    pub fn withdraw(&self, room: &str, event: EventId) {
        hold(&self.known).withdraw(room, event);
    }

    /// Whether it was.
    pub fn is_withdrawn(&self, room: &str, event: &EventId) -> bool {
        hold(&self.known).is_withdrawn(room, event)
    }

    /// What an event of a room is here.
    pub async fn event_of(&self, room: &str, id: &str) -> Result<Option<EventId>, Stopped> {
        if let Some(event) = self.known_event(room, id) {
            return Ok(Some(event));
        }
        let event = self.handle.event(Link::Matrix { room: room.to_owned() }, id.to_owned()).await?;
        if let Some(event) = event {
            self.learn(room, id, event, None);
        }
        Ok(event)
    }

    /// What an event is in a room, and who sent it there where that is known.
    pub async fn id_of(
        &self,
        room: &str,
        event: EventId,
    ) -> Result<Option<(String, Option<String>)>, CallError> {
        if let Some(known) = hold(&self.known).id(room, &event) {
            return Ok(Some(known.clone()));
        }
        let asked = self.handle.external_id(Link::Matrix { room: room.to_owned() }, event).await;
        let id = asked.map_err(|stopped| CallError::Unreachable(stopped.to_string()))?;
        if let Some(id) = &id {
            self.learn(room, id, event, None);
        }
        Ok(id.map(|id| (id, None)))
    }

    /// Whether a room's powers decide about its channel: unless somebody linked it who has no say
    /// in the channel.
    pub fn is_trusted(&self, room: &str) -> bool {
        !hold(&self.plumbed).contains(room)
    }

    /// Notes whether they do, for good.
    pub async fn trust(&self, room: &str, trusted: bool) -> Result<(), Stopped> {
        let changed = match trusted {
            true => hold(&self.plumbed).remove(room),
            false => hold(&self.plumbed).insert(room.to_owned()),
        };
        if changed {
            let value = if trusted { "" } else { "1" };
            self.handle.remember(format!("{PLUMBED}{room}"), value).await?;
        }
        Ok(())
    }

    /// Whether a Matrix user wants nothing of theirs carried.
    pub fn is_silent(&self, user: &str) -> bool {
        hold(&self.silent).contains(user)
    }

    /// Notes whether they do, for good.
    pub async fn silence(&self, user: &str, silent: bool) -> Result<(), Stopped> {
        let value = if silent { "1" } else { "" };
        self.handle.remember(format!("{SILENT}{user}"), value).await?;
        match silent {
            true => hold(&self.silent).insert(user.to_owned()),
            false => hold(&self.silent).remove(user),
        };
        Ok(())
    }

    /// A room's powers, as the homeserver has them.
    pub async fn powers(&self, room: &str) -> Result<Powers, CallError> {
        let create = self.hs.state_event(room, "m.room.create").await?;
        let levels = self.hs.state(room, "m.room.power_levels", "").await?;
        Ok(Powers { create, levels })
    }

    /// A channel's messages may go elsewhere from now on.
    pub fn flows(&self, channel: &ChannelId, flow: &Flow) {
        hold(&self.portals).flows(channel, flow);
    }

    /// A ghost that exists already, by whom it stands for.
    pub fn known_ghost(&self, identity: &Identity) -> Option<String> {
        hold(&self.ghosts).get(identity).map(|ghost| self.names.user(&ghost.localpart))
    }

    /// The ghost of a member, registered and with the right name: no call at all when nothing
    /// changed. With `anew`, whatever was remembered is done again: the homeserver lost it.
    pub async fn ghost(&self, member: &Member, anew: bool) -> Result<String, CallError> {
        let name = member.profile.name();
        let known = |ghosts: &Mutex<BTreeMap<Identity, Ghost>>| hold(ghosts).get(&member.identity).cloned();
        if let Some(ghost) = known(&self.ghosts)
            && ghost.shown == name
            && ghost.username == member.profile.username
            && !anew
        {
            return Ok(self.names.user(&ghost.localpart));
        }
        let _alone = self.making_ghost.lock().await;
        let mut ghost = match known(&self.ghosts) {
            Some(ghost) => ghost,
            None => {
                let ghost = Ghost::new(&member.identity, &member.profile);
                self.keep_ghost(&member.identity, &ghost).await?;
                ghost
            }
        };
        let user = self.names.user(&ghost.localpart);
        if ghost.shown.is_empty() || anew {
            self.hs.register(&ghost.localpart).await?;
        }
        if ghost.shown == name && ghost.username != member.profile.username {
            ghost.username = member.profile.username.clone();
            self.keep_ghost(&member.identity, &ghost).await?;
        }
        if ghost.shown != name || anew {
            if let Err(error) = self.hs.set_display_name(&user, name).await {
                if error.kind() != Kind::Denied {
                    return Err(error);
                }
                // Remembered here, but not there: the homeserver began anew.
                self.hs.register(&ghost.localpart).await?;
                self.hs.set_display_name(&user, name).await?;
            }
            ghost.shown = name.to_owned();
            ghost.username = member.profile.username.clone();
            self.keep_ghost(&member.identity, &ghost).await?;
        }
        Ok(user)
    }

    async fn keep_ghost(&self, identity: &Identity, ghost: &Ghost) -> Result<(), CallError> {
        let kept = self.handle.remember(ghosts::note_key(identity), ghost.to_note()).await;
        kept.map_err(|stopped| CallError::Unreachable(stopped.to_string()))?;
        hold(&self.localparts).insert(ghost.localpart.clone(), *identity);
        hold(&self.ghosts).insert(*identity, ghost.clone());
        Ok(())
    }

    /// Sends an event to a room, encrypted where the room is. Gives the event's id.
    pub async fn send(&self, sending: &Sending<'_>) -> Result<String, CallError> {
        let sealed = match &self.crypto {
            Some(crypto) => crypto.encrypted(sending).await?,
            None if self.was_sealed(sending) => {
                let why = "matrix.encryption.allow was switched off, and this room is encrypted";
                return Err(CallError::Keys(why.to_owned()));
            }
            None => None,
        };
        match &sealed {
            Some(content) => self.hs.send(&Sending { kind: "m.room.encrypted", content, ..*sending }).await,
            None => self.hs.send(sending).await,
        }
    }

    /// Whether somebody's words would go in the clear to a room for which they were encrypted so far.
    fn was_sealed(&self, sending: &Sending<'_>) -> bool {
        self.sealed_before.contains(sending.room) && sending.content.get(MARK).is_some()
    }

    /// Gets a ghost into a room; where the room asks for invitations, the bot gives one.
    pub async fn enter(&self, room: &str, ghost: &str) -> Result<(), CallError> {
        match self.hs.join(room, Some(ghost)).await {
            Err(error) if error.kind() == Kind::Denied => {}
            other => return other.map(drop),
        }
        if let Err(error) = self.hs.invite(room, ghost).await {
            if error.kind() != Kind::Denied {
                return Err(error);
            }
            // Denied: the bot is not in the room, or has no power there, or the ghost is invited.
            self.hs.join(room, None).await?;
            self.hs.invite(room, ghost).await?;
        }
        self.hs.join(room, Some(ghost)).await.map(drop)
    }

    /// The person a Matrix user is. Asks the homeserver once for a name not seen yet.
    pub async fn person(&self, room: &str, user: &str) -> Actor {
        let known = hold(&self.people).shown(user).cloned();
        if let Some(name) = known {
            return ghosts::person(user, name.as_deref());
        }
        match self.hs.state(room, "m.room.member", user).await {
            Ok(content) => {
                let name = content["displayname"].as_str().map(str::to_owned);
                self.met(user, name.clone());
                ghosts::person(user, name.as_deref())
            }
            Err(error) => {
                tracing::debug!(%user, %error, "no display name");
                if error.kind() == Kind::Denied {
                    self.met(user, None);
                }
                ghosts::person(user, None)
            }
        }
    }

    /// Whether a room was told how it is with encryption.
    pub fn was_told(&self, room: &str) -> bool {
        hold(&self.told).contains(room)
    }

    /// Notes that it was, or has to be again, for good.
    pub async fn told(&self, room: &str, told: bool) {
        let changed = match told {
            true => hold(&self.told).insert(room.to_owned()),
            false => hold(&self.told).remove(room),
        };
        let prefix = if self.crypto.is_some() { TOLD_WITH_KEYS } else { TOLD };
        let value = if told { "1" } else { "" };
        if changed && let Err(stopped) = self.handle.remember(format!("{prefix}{room}"), value).await {
            tracing::debug!(%stopped, "a note is not kept");
        }
    }

    /// Has keys for encrypted rooms from now on. What rooms were told before does not count then.
    pub fn with_crypto(mut self, crypto: Crypto, notes: &[(String, Vec<u8>)]) -> Self {
        let told = notes.iter().filter_map(|(key, _)| key.strip_prefix(TOLD_WITH_KEYS).map(str::to_owned));
        self.told = Mutex::new(told.collect());
        self.crypto = Some(crypto);
        self
    }

    /// Notes a Matrix user's display name.
    pub fn met(&self, user: &str, display_name: Option<String>) {
        hold(&self.people).met(user, display_name);
    }

    /// Hands in a wish of the node's own: links.
    pub async fn submit(&self, intent: Intent) -> Result<(), Refusal> {
        let submission = Submission { actor: Actor::Node, intent, via: None, join_first: false, tag: 0 };
        self.handle.submit(submission).await.map(drop)
    }

    /// Carries a channel in a room from now on.
    pub async fn link(&self, room: &str, channel: ChannelRef, create: bool) -> Result<Carried, Trouble> {
        let link = Link::Matrix { room: room.to_owned() };
        self.submit(Intent::Link { channel, link, create }).await?;
        self.channels().await?;
        self.carried(room).ok_or_else(|| Refusal::NoSuchLink.into())
    }

    /// The room of a channel, made if there is none; `None` if there is no such channel. With
    /// `alias`, that alias leads to the room afterwards, and the room is one that all may join.
    pub async fn portal(
        &self,
        channel: &str,
        alias: Option<&str>,
    ) -> Result<Option<(ChannelView, String)>, Trouble> {
        let _alone = self.making_portal.lock().await;
        let channels = self.channels().await?;
        let Some(view) = channels.into_iter().find(|view| view.name == channel) else {
            return Ok(None);
        };
        let canonical = self.names.alias(&view.name);
        let linked = portals::room_of(&view).map(str::to_owned);
        let existing = match (linked, alias) {
            (Some(room), None) => return Ok(Some((view, room))),
            (Some(room), Some(_)) if self.is_public(&room).await? => Some(room),
            _ => None,
        };
        let (room, has_canonical) = match existing {
            Some(room) => (room, false),
            None => (self.make_room(&view, &canonical).await?, true),
        };
        if let Some(alias) = alias.filter(|alias| !has_canonical || *alias != canonical) {
            self.point(alias, &room).await?;
        }
        Ok(Some((view, room)))
    }

    async fn is_public(&self, room: &str) -> Result<bool, CallError> {
        match self.hs.state(room, "m.room.join_rules", "").await {
            Ok(rules) => Ok(rules["join_rule"] == "public"),
            Err(error) if error.kind() == Kind::Denied => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates a channel's portal and links it. A room that has its alias already was made by us
    /// before we could link it. (Only then may the alias be looked up: the homeserver asks us
    /// about those that it does not know.)
    async fn make_room(&self, view: &ChannelView, alias: &str) -> Result<String, Trouble> {
        let room = match self.hs.create_room(portals::create_room(view)).await {
            Err(error) if error.errcode() == "M_ROOM_IN_USE" => self.hs.resolve(alias).await?.ok_or(error)?,
            other => other?,
        };
        hold(&self.topics).insert(room.clone(), view.topic.clone());
        self.link(&room, ChannelRef::Id(view.id), false).await?;
        if let Err(error) = governed::empower(self, &room, view).await {
            tracing::warn!(room, %error, "the channel's moderators have no power in its new room yet");
        }
        Ok(room)
    }

    async fn point(&self, alias: &str, room: &str) -> Result<(), CallError> {
        match self.hs.set_alias(alias, room).await {
            Err(CallError::Status { status: 409, .. }) => Ok(()),
            other => other,
        }
    }
}

/// Locks; what a panicking holder left behind is still whole, as each holder does one thing.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Transactions from the homeserver: each event is understood, handed to the node, and answered
//! for. A transaction is done only when everything in it is durable or refused for good. What is
//! refused is said where it was tried.

mod decided;
mod sealed;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use super::bot::{self, Asked};
use super::bridge::{Bridge, Trouble};
use super::heard::{self, Heard};
use super::proto::command;
use super::proto::media::mxc;
use super::proto::said::About;
use super::proto::sealed::ForDevices;
use super::proto::translate::{self, Incoming, Place};
use crate::base::{EventId, Kind};
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Link, Relation, Style};
use crate::chat::profile::Profile;
use crate::port::{Receipt, Refusal};
use waiting::Waiting;

/// Answers of the bot that are kept, so that a repeated transaction does nothing twice.
const ANSWERS: usize = 1000;
/// How often the node is told how far we have heard.
const KEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// Rooms of which it is known whether they are chats of two.
const ROOMS: usize = 10_000;

/// See the module.
pub(super) struct Intake {
    bridge: Arc<Bridge>,
    /// Transactions are handled one at a time, or a room's order would be lost.
    memory: Mutex<Memory>,
}

struct Memory {
    /// Name and content of the last transaction that is done.
    last: Option<(String, blake3::Hash)>,
    /// What the bot answered to which event.
    answers: BTreeMap<String, String>,
    answered: VecDeque<String>,
    /// Whether a room that carries nothing is a chat of two.
    direct: BTreeMap<String, bool>,
    heard: Heard,
    waiting: Waiting,
}

/// A submission on its way.
struct Pending {
    at: Place,
    answer: oneshot::Receiver<Result<Receipt, Refusal>>,
    wish: Wish,
}

/// What a submission was, for what is said if it is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Message,
    Join,
    Other,
}

impl Intake {
    /// An intake that hands on to this bridge's node. It goes on from what the door's notes say.
    pub fn new(bridge: Arc<Bridge>, notes: &[(String, Vec<u8>)]) -> Self {
        let (answers, answered, direct) = Default::default();
        let (heard, waiting) = (Heard::recall(notes), Waiting::recall(notes));
        let memory = Memory { last: None, answers, answered, direct, heard, waiting };
        Self { bridge, memory: Mutex::new(memory) }
    }

    /// Handles a transaction.
    ///
    /// # Errors
    /// [`Trouble`] if the homeserver has to send it again.
    pub async fn transaction(
        &self,
        txn: &str,
        body: &[u8],
        for_devices: &ForDevices,
        events: &[Value],
    ) -> Result<(), Trouble> {
        let mut memory = self.memory.lock().await;
        let name = (txn.to_owned(), blake3::hash(body));
        if memory.last.as_ref() == Some(&name) {
            return Ok(());
        }
        let mut round = Round::new(&self.bridge, &mut memory);
        round.receive(for_devices, events).await?;
        if round.memory.heard.is_gap_before(txn) {
            self.bridge.counts.add("transaction missing");
            round.catch_up(events).await?;
        }
        for event in events {
            round.read(event).await?;
        }
        round.settle().await?;
        memory.heard.hear(txn, events, |room| self.bridge.carried(room).is_some());
        memory.last = Some(name);
        Ok(())
    }

    /// Looks for what the homeserver never told us, whenever there is reason to and all is quiet,
    /// and has the node keep how far we have heard. Ends with the node.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            let mut memory = self.memory.lock().await;
            if memory.heard.is_quiet_and_doubtful(Instant::now()) {
                let mut round = Round::new(&self.bridge, &mut memory);
                let caught_up = match round.look_again().await {
                    Ok(()) => round.settle().await,
                    Err(trouble) => Err(trouble),
                };
                match caught_up {
                    Ok(()) => memory.heard.settle(),
                    Err(trouble) => {
                        tracing::debug!(%trouble, "cannot look for what was missed; trying again")
                    }
                }
            }
            sealed::remind(&self.bridge, &mut memory).await;
            let notes = memory.heard.take_notes();
            drop(memory);
            let kept = notes.into_iter().map(|(key, value)| self.bridge.handle.remember(key, value));
            if futures::future::try_join_all(kept).await.is_err() {
                return;
            }
        }
    }
}

/// One transaction under way.
struct Round<'a> {
    bridge: &'a Bridge,
    memory: &'a mut Memory,
    pending: Vec<Pending>,
    refused: Vec<(Place, Wish, Refusal)>,
    /// The node was asked for its links since this transaction began.
    refreshed: bool,
    /// Rooms that were caught up with, and to where.
    reached: Vec<(String, String)>,
    /// Events that waited for their keys and were opened.
    unsealed: Vec<String>,
    /// What is taken in just now carries a file that is encrypted, and can be opened here.
    has_sealed_file: bool,
}

impl<'a> Round<'a> {
    fn new(bridge: &'a Bridge, memory: &'a mut Memory) -> Self {
        let (pending, refused, reached, unsealed) = Default::default();
        let (refreshed, has_sealed_file) = (false, false);
        Self { bridge, memory, pending, refused, refreshed, reached, unsealed, has_sealed_file }
    }

    /// Takes in whatever may have been missed.
    async fn look_again(&mut self) -> Result<(), Trouble> {
        self.open_ready().await?;
        self.catch_up(&[]).await
    }

    /// Takes in what was said after the last that we heard and before these events.
    async fn catch_up(&mut self, events: &[Value]) -> Result<(), Trouble> {
        let told: BTreeSet<&str> = events.iter().filter_map(|event| event["event_id"].as_str()).collect();
        for (room, newest) in self.memory.heard.rooms() {
            if self.channel(&room).await?.is_none() {
                continue;
            }
            let missed = match heard::missed(&self.bridge.hs, &room, &newest).await {
                Ok(Some(missed)) => missed,
                Ok(None) => {
                    tracing::warn!(room, newest, "what was missed cannot be found");
                    continue;
                }
                Err(error) if error.kind() == Kind::Retry => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(room, %error, "what was missed cannot be read");
                    continue;
                }
            };
            for event in missed {
                let id = event["event_id"].as_str().unwrap_or_default();
                if told.contains(id) {
                    break;
                }
                self.bridge.counts.add("event read from the room");
                tracing::info!(room, event = id, "read from the room: no transaction may have brought it");
                self.read(&event).await?;
                self.reached.push((room.clone(), id.to_owned()));
            }
        }
        Ok(())
    }

    /// Understands an event and takes it in; a malformed one is refused.
    async fn read(&mut self, event: &Value) -> Result<(), Trouble> {
        match translate::read(event, &self.bridge.names, &|user| self.bridge.ghost_name(user)) {
            Ok(Incoming::Encrypted { at }) if self.bridge.crypto.is_some() => self.unseal(at, event).await,
            Ok(incoming) => self.take(incoming).await,
            Err(malformed) => {
                self.bridge.counts.add("malformed event");
                tracing::warn!(%malformed, event = event["event_id"].as_str(), "an event is refused");
                Ok(())
            }
        }
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), Trouble> {
        match incoming {
            Incoming::Said { at, content, about } => self.said(at, *content, about).await,
            Incoming::Redacted { at, target, reason } => self.redacted(at, &target, reason).await,
            Incoming::Joined { at, user, display_name, renamed } => {
                self.memory.direct.remove(&at.room);
                self.bridge.met(&user, display_name);
                if self.is_silent(&user) {
                    return Ok(());
                }
                let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
                let actor = self.bridge.person(&at.room, &user).await;
                match &actor {
                    Actor::Person { profile, .. } if renamed => {
                        let intent = Intent::UpdateProfile { profile: Profile::clone(profile) };
                        self.submit(at, actor, intent, false, Wish::Other).await
                    }
                    _ => {
                        let intent = Intent::JoinChannel { channel, create: false };
                        self.submit(at, actor, intent, false, Wish::Join).await
                    }
                }
            }
            Incoming::Left { at, user, reason } => {
                self.memory.direct.remove(&at.room);
                let Some(channel) = self.channel(&at.room).await? else { return Ok(()) };
                let actor = self.bridge.person(&at.room, &user).await;
                let intent = Intent::LeaveChannel { channel, reason };
                self.submit(at, actor, intent, false, Wish::Other).await
            }
            Incoming::PutOut { at, user, then, reason } => self.put_out(at, &user, then, reason).await,
            Incoming::LetIn { at, user } => self.let_in(at, &user).await,
            Incoming::Knocked { at, reason } => self.knocked(at, reason).await,
            Incoming::Powers { at, after, before } => self.powers(at, &after, &before).await,
            Incoming::Setting { at, setting } => self.set(at, setting).await,
            Incoming::Upgraded { at, room } => self.upgraded(at, &room).await,
            Incoming::Invited { at, direct } => self.invited(at, direct).await,
            Incoming::Removed { at } => {
                self.bridge.counts.add("bot removed from a room");
                tracing::warn!(room = at.room, by = at.sender, "the bot was removed from a room");
                Ok(())
            }
            Incoming::Encrypted { at } => {
                self.encrypted(at).await;
                Ok(())
            }
            Incoming::Sealed { at } => self.sealed(at).await,
            Incoming::Ignored(why) => {
                self.bridge.counts.add(why);
                Ok(())
            }
        }
    }

    async fn said(&mut self, at: Place, content: Content, about: Option<About>) -> Result<(), Trouble> {
        let machine = content.style == Style::Notice;
        if let Some(text) = command::addressed(&content.body).filter(|_| !machine && !is_edit(&about)) {
            return self.command(&at, text, false).await;
        }
        let Some(channel) = self.channel(&at.room).await? else {
            if !machine && !is_edit(&about) && self.is_direct(&at.room).await {
                return self.command(&at, &content.body, true).await;
            }
            self.bridge.counts.add("room carries nothing");
            return Ok(());
        };
        if self.is_silent(&at.sender) {
            return Ok(());
        }
        let content = self.told(&at, content);
        let Some(content) = self.placed(&at, content, about).await? else {
            self.bridge.counts.add("reaction to something that is not carried");
            return Ok(());
        };
        let actor = self.bridge.person(&at.room, &at.sender).await;
        self.submit(at, actor, Intent::SendMessage { channel, content }, true, Wish::Message).await
    }

    /// A message whose text tells where the file that it carries can be had.
    fn told(&self, at: &Place, mut content: Content) -> Content {
        if let (Some(attachment), Some(media)) = (&content.attachment, &self.bridge.media)
            && (self.has_sealed_file || mxc(&attachment.address).is_some())
        {
            content.body = attachment.line(Some(&media.link(&at.room, &at.event_id)));
        }
        content
    }

    /// A message with what it relates to; `None` if it says nothing without that.
    async fn placed(
        &mut self,
        at: &Place,
        mut content: Content,
        about: Option<About>,
    ) -> Result<Option<Content>, Trouble> {
        content.envelope.relation = match about {
            None => None,
            Some(About::Reply(id)) => self.event_of(&at.room, &id).await?.map(Relation::Reply),
            Some(About::Thread { root, reply_to }) => {
                let reply_to = match reply_to {
                    Some(id) => self.event_of(&at.room, &id).await?,
                    None => None,
                };
                let root = self.event_of(&at.room, &root).await?;
                root.map(|root| Relation::Thread { root, reply_to }).or(reply_to.map(Relation::Reply))
            }
            Some(About::Edit(id)) => match self.event_of(&at.room, &id).await? {
                Some(target) => Some(Relation::Edit(target)),
                None => {
                    // What it corrects is not here: it is said again, as an edit.
                    content.body.insert_str(0, "* ");
                    content.formatted = content.formatted.map(|html| format!("* {html}"));
                    None
                }
            },
            Some(About::Reaction(id)) => match self.event_of(&at.room, &id).await? {
                Some(target) => Some(Relation::Reaction(target)),
                None => return Ok(None),
            },
        };
        Ok(Some(content))
    }

    /// What an event of a room is here. It may be on its way, in this very transaction.
    async fn event_of(&mut self, room: &str, id: &str) -> Result<Option<EventId>, Trouble> {
        if let Some(event) = self.bridge.known_event(room, id) {
            return Ok(Some(event));
        }
        self.collect().await?;
        Ok(self.bridge.event_of(room, id).await?)
    }

    fn is_silent(&self, user: &str) -> bool {
        let silent = self.bridge.is_silent(user);
        if silent {
            self.bridge.counts.add("of somebody who wants nothing carried");
        }
        silent
    }

    async fn command(&mut self, at: &Place, text: &str, direct: bool) -> Result<(), Trouble> {
        let answer = match self.memory.answers.get(&at.event_id) {
            Some(answer) => answer.clone(),
            None => {
                let asked = Asked { room: &at.room, user: &at.sender, direct };
                let answer = bot::execute(self.bridge, &asked, text).await?;
                self.refreshed = true;
                if self.memory.answered.len() >= ANSWERS
                    && let Some(oldest) = self.memory.answered.pop_front()
                {
                    self.memory.answers.remove(&oldest);
                }
                self.memory.answered.push_back(at.event_id.clone());
                self.memory.answers.insert(at.event_id.clone(), answer.clone());
                answer
            }
        };
        match bot::say(self.bridge, &at.room, &format!("multichat-answer-{}", at.event_id), &answer).await {
            Err(error) if error.kind() == Kind::Retry => Err(error.into()),
            Err(error) => {
                tracing::warn!(room = at.room, %error, "the bot could not answer");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn invited(&mut self, at: Place, direct: bool) -> Result<(), Trouble> {
        match self.bridge.hs.join(&at.room, None).await {
            Ok(_) => {
                self.bridge.entered();
                if direct {
                    self.remember_direct(&at.room, true);
                    let hello = "I am the Multichat bot. Say help to see what I know.";
                    let txn = format!("multichat-hello-{}", at.event_id);
                    if let Err(error) = bot::say(self.bridge, &at.room, &txn, hello).await {
                        tracing::warn!(room = at.room, %error, "the bot could not say hello");
                    }
                }
                Ok(())
            }
            Err(error) if error.kind() == Kind::Retry => Err(error.into()),
            Err(error) => {
                self.bridge.counts.add("invitation not followed");
                tracing::warn!(room = at.room, %error, "the bot could not follow an invitation");
                Ok(())
            }
        }
    }

    /// Tells a room, once, that what is encrypted is not read here.
    async fn encrypted(&mut self, at: Place) {
        self.bridge.counts.add("encrypted");
        if self.bridge.was_told(&at.room) {
            return;
        }
        let text = "I do not read encrypted rooms, so nothing said here is carried. Use a room without encryption, \
                    or ask whoever runs me to set matrix.encryption.allow.";
        let said = bot::say(self.bridge, &at.room, &format!("multichat-encrypted-{}", at.room), text).await;
        match said {
            Ok(()) => self.bridge.told(&at.room, true).await,
            Err(error) => tracing::warn!(room = at.room, %error, "the bot could not speak of encryption"),
        }
    }

    /// The channel that a room carries. The node is asked at most once a transaction.
    async fn channel(&mut self, room: &str) -> Result<Option<ChannelRef>, Trouble> {
        if self.bridge.carried(room).is_none() && !self.refreshed {
            self.bridge.channels().await?;
            self.refreshed = true;
        }
        Ok(self.bridge.carried(room).map(|carried| ChannelRef::Id(carried.channel)))
    }

    async fn is_direct(&mut self, room: &str) -> bool {
        if let Some(known) = self.memory.direct.get(room) {
            return *known;
        }
        match self.bridge.hs.joined(room).await {
            Ok(members) => {
                let direct = members.len() <= 2;
                self.remember_direct(room, direct);
                direct
            }
            Err(_) => false,
        }
    }

    fn remember_direct(&mut self, room: &str, direct: bool) {
        if self.memory.direct.len() >= ROOMS {
            self.memory.direct.clear();
        }
        self.memory.direct.insert(room.to_owned(), direct);
    }

    async fn submit(
        &mut self,
        at: Place,
        actor: Actor,
        intent: Intent,
        join_first: bool,
        wish: Wish,
    ) -> Result<(), Trouble> {
        let via = Some(Link::Matrix { room: at.room.clone() });
        let submission = Submission { actor, intent, via, join_first, tag: 0 };
        let answer = self.bridge.handle.submit_later(submission).await?;
        self.pending.push(Pending { at, answer, wish });
        Ok(())
    }

    /// Waits until every submission is durable or refused.
    async fn collect(&mut self) -> Result<(), Trouble> {
        let mut postponed = None;
        for Pending { at, answer, wish } in std::mem::take(&mut self.pending) {
            let refusal = match answer.await {
                Ok(Ok(receipt)) => {
                    if let (Wish::Message, Some(event)) = (wish, receipt.event) {
                        self.bridge.learn(&at.room, &at.event_id, event, Some(&at.sender));
                    }
                    continue;
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::Stopping,
            };
            match refusal.kind() {
                Kind::Retry => postponed = Some(refusal),
                _ => self.refused.push((at, wish, refusal)),
            }
        }
        postponed.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Waits for everything, and says what was refused.
    async fn settle(mut self) -> Result<(), Trouble> {
        let collected = self.collect().await;
        for (at, wish, refusal) in std::mem::take(&mut self.refused) {
            self.bridge.counts.add("refused by the node");
            tracing::info!(event = at.event_id, %refusal, "an event is refused by the node");
            let said = match wish {
                Wish::Message => bot::say_refused(self.bridge, &at, &refusal).await,
                Wish::Join => {
                    let name = self.bridge.carried(&at.room).map_or_else(String::new, |carried| carried.name);
                    let text = format!("{} is in this room, but not in {name}: {refusal}.", at.sender);
                    bot::say(self.bridge, &at.room, &format!("multichat-refused-{}", at.event_id), &text)
                        .await
                }
                Wish::Other => Ok(()),
            };
            if let Err(error) = said {
                tracing::warn!(room = at.room, %error, "the bot could not say that something was refused");
            }
        }
        collected?;
        self.forget_opened().await?;
        for (room, id) in self.reached {
            self.memory.heard.reach(&room, &id);
        }
        Ok(())
    }
}

fn is_edit(about: &Option<About>) -> bool {
    matches!(about, Some(About::Edit(_)))
}

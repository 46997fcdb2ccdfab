//! From a wish to an event: what a submission becomes, and what an accepted event sets in motion.

use super::directory::Channel;
use super::news::{self, Fresh};
use super::people::Person;
use super::{Delivery, Door, Node, Output, Receipt, Refusal, StoredEvent, Turn, Write};
use crate::base::{ChannelId, EventId, Timestamp, codec, limits};
use crate::chat::act::Act;
use crate::chat::intent::{ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Link};
use crate::chat::name::ChannelName;
use crate::chat::profile::Profile;
use crate::overlay::Destination;
use crate::replica::{Admission, Effect, Event, Header, Invalid, PayloadRef, Replica};

/// Origins remembered between a submission and its being found in the store.
const RECENT_ORIGINS: usize = 8192;

/// Who acts, and how the node was told.
struct Acting<'a> {
    person: Person,
    submission: &'a Submission,
}

impl Node {
    pub(super) fn submit(
        &mut self,
        turn: &mut Turn,
        submission: &Submission,
        known: Option<EventId>,
    ) -> Result<Receipt, Refusal> {
        let (person, write) = self.people.person(&submission.actor);
        if !person.profile.is_well_formed() {
            return Err(Refusal::Malformed(
                "a user name is 1 to 64 bytes without spaces or control characters",
            ));
        }
        turn.writes.extend(write);
        let acting = Acting { person, submission };
        match &submission.intent {
            Intent::CreateChannel { name, topic } => self.create(turn, &acting, name, topic),
            Intent::JoinChannel { channel, create } => self.join(turn, &acting, channel, *create),
            Intent::LeaveChannel { channel, reason } => {
                let act = Act::LeaveChannel { reason: clipped(reason, limits::TOPIC_BYTES) };
                self.act_in(turn, &acting, channel, act, None)
            }
            Intent::SendMessage { channel, content } => self.send(turn, &acting, channel, content, known),
            Intent::UpdateChannel { channel, topic } => {
                let act = Act::UpdateChannel { topic: clipped(topic, limits::TOPIC_BYTES) };
                self.act_in(turn, &acting, channel, act, None)
            }
            Intent::UpdateProfile { profile } => self.update_profile(turn, &acting, profile),
            Intent::Link { channel, link, create } => self.link(turn, &acting, channel, link, *create),
            Intent::Unlink { link } => self.unlink(turn, link),
        }
    }

    fn create(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        name: &ChannelName,
        topic: &str,
    ) -> Result<Receipt, Refusal> {
        if self.directory.find(&ChannelRef::Name(name.as_str().to_owned())).is_some() {
            return Err(Refusal::ChannelExists(name.to_string()));
        }
        if self.directory.len() >= limits::CHANNELS {
            return Err(Refusal::Full("channels"));
        }
        let act = Act::CreateChannel {
            name: name.clone(),
            topic: clipped(topic, limits::TOPIC_BYTES),
            founder: acting.person.joining(acting.submission.via.clone()),
        };
        let header = Header {
            version: crate::replica::event::VERSION,
            channel: None,
            device: acting.person.device.public(),
            seq: 0,
            prev: None,
            deps: Vec::new(),
            timestamp: turn.now,
            act,
            payload: None,
        };
        let event = Event::sign(header, &acting.person.device);
        let id = self.found(turn, &event, acting.submission.tag).map_err(|invalid| refusal(&invalid))?;
        turn.broadcast(self.last_position);
        Ok(Receipt { channel: Some(id), event: Some(event.id()) })
    }

    fn join(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        create: bool,
    ) -> Result<Receipt, Refusal> {
        let channel = match (self.directory.find(wanted), wanted, create) {
            (Some(channel), _, _) => channel,
            (None, ChannelRef::Name(name), true) => {
                let name: ChannelName =
                    name.parse().map_err(|_| Refusal::Malformed("that is not a channel name"))?;
                return self.create(turn, acting, &name, "");
            }
            (None, _, _) => return Err(no_such(wanted)),
        };
        let event = self.ensure_member(turn, acting, channel)?;
        Ok(Receipt { channel: Some(channel), event })
    }

    fn send(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        content: &Content,
        known: Option<EventId>,
    ) -> Result<Receipt, Refusal> {
        let channel = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let origin = content.origin.as_ref().map(|origin| (origin.link.clone(), origin.external_id.clone()));
        let earlier = known.or_else(|| self.recent_origins.get(origin.as_ref()?).copied());
        if let Some(event) = earlier {
            return Ok(Receipt { channel: Some(channel), event: Some(event) });
        }
        if !content.is_well_formed() {
            return Err(Refusal::Malformed("a message is neither empty nor longer than 48 KiB"));
        }
        let receipt = self.act_in(turn, acting, wanted, Act::SendMessage, Some(codec::encode(content)))?;
        if let (Some(origin), Some(event)) = (origin, receipt.event) {
            self.remember_origin(origin, event);
        }
        Ok(receipt)
    }

    fn remember_origin(&mut self, origin: (Link, String), event: EventId) {
        if self.recent_origins.len() >= RECENT_ORIGINS {
            // Older ones are durable by now: the store knows them.
            self.recent_origins.clear();
        }
        self.recent_origins.insert(origin, event);
    }

    fn update_profile(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        profile: &Profile,
    ) -> Result<Receipt, Refusal> {
        if !profile.is_well_formed() {
            return Err(Refusal::Malformed(
                "a user name is 1 to 64 bytes without spaces or control characters",
            ));
        }
        let identity = acting.person.identity;
        let differs = |channel: &Channel| {
            let state = channel.replica.state();
            state.is_member(&identity)
                && state.person(&identity).is_some_and(|member| member.profile != *profile)
        };
        let channels: Vec<ChannelId> =
            self.directory.iter().filter(|(_, channel)| differs(channel)).map(|(id, _)| *id).collect();
        let mut receipt = Receipt { channel: None, event: None };
        for channel in channels {
            let act = Act::UpdateProfile { profile: profile.clone() };
            receipt.event = self.act(turn, acting, channel, act, None)?.event;
        }
        Ok(receipt)
    }

    fn link(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        link: &Link,
        create: bool,
    ) -> Result<Receipt, Refusal> {
        if let Some(channel) = self.routes.channel(link) {
            let name = self.directory.get(&channel).map(|channel| channel.name.clone()).unwrap_or_default();
            return match self.directory.find(wanted) {
                Some(same) if same == channel => Ok(Receipt { channel: Some(channel), event: None }),
                _ => Err(Refusal::LinkTaken(name)),
            };
        }
        let receipt = match self.directory.find(wanted) {
            Some(channel) => Receipt { channel: Some(channel), event: None },
            None if create => self.join(turn, acting, wanted, true)?,
            None => return Err(no_such(wanted)),
        };
        let Some(channel) = receipt.channel else { return Err(no_such(wanted)) };
        self.routes.insert(link.clone(), channel);
        turn.writes.push(Write::Link { link: link.clone(), channel, since: self.last_position });
        self.tell_link(turn, channel, link, true);
        Ok(receipt)
    }

    fn unlink(&mut self, turn: &mut Turn, link: &Link) -> Result<Receipt, Refusal> {
        let channel = self.routes.remove(link).ok_or(Refusal::NoSuchLink)?;
        turn.writes.extend(self.outbox.drop_link(link));
        turn.writes.push(Write::Unlink { link: link.clone() });
        self.tell_link(turn, channel, link, false);
        Ok(Receipt { channel: Some(channel), event: None })
    }

    fn tell_link(&mut self, turn: &mut Turn, channel: ChannelId, link: &Link, up: bool) {
        let door = Door::of(link);
        let Some(channel) = self.directory.get(&channel) else { return };
        if !self.open_doors.contains(&door) {
            return;
        }
        let (node, _) = self.people.person(&crate::chat::intent::Actor::Node);
        let node = crate::chat::view::Member {
            identity: node.identity,
            role: crate::chat::access::Role::Member,
            profile: node.profile,
        };
        let news = news::of_link(channel, node, self.last_position, turn.now, link, up);
        let delivery = Delivery { id: 0, link: Some(link.clone()), uncertain: false, news };
        turn.effects.push(Output::Deliver { door, delivery: Box::new(delivery) });
    }

    /// Makes the actor a member, and their profile in the channel what it is. `None` if they were.
    fn ensure_member(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
    ) -> Result<Option<EventId>, Refusal> {
        let Some(channel) = self.directory.get(&id) else {
            return Err(Refusal::NoSuchChannel(id.to_string()));
        };
        if channel.replica.live_lane(&acting.person.device.public()).is_some() {
            return Ok(None);
        }
        let joining = acting.person.joining(acting.submission.via.clone());
        Ok(self.act(turn, acting, id, Act::JoinChannel(joining), None)?.event)
    }

    /// An act in a channel that somebody named; they join first where the door says so.
    fn act_in(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        act: Act,
        payload: Option<Vec<u8>>,
    ) -> Result<Receipt, Refusal> {
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        if acting.submission.join_first && !matches!(act, Act::LeaveChannel { .. }) {
            self.ensure_member(turn, acting, id)?;
        }
        self.refresh_profile(turn, acting, id)?;
        self.act(turn, acting, id, act, payload)
    }

    /// Tells a channel the actor's profile if it has changed since they last acted there.
    fn refresh_profile(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
    ) -> Result<(), Refusal> {
        let shown = self.directory.get(&id).and_then(|channel| {
            let state = channel.replica.state();
            state.is_member(&acting.person.identity).then(|| state.person(&acting.person.identity)).flatten()
        });
        if shown.is_some_and(|member| member.profile != acting.person.profile) {
            let act = Act::UpdateProfile { profile: acting.person.profile.clone() };
            self.act(turn, acting, id, act, None)?;
        }
        Ok(())
    }

    /// Signs and takes in one act of a member (or one that makes a member).
    fn act(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
        act: Act,
        payload: Option<Vec<u8>>,
    ) -> Result<Receipt, Refusal> {
        let Some(channel) = self.directory.get_mut(&id) else {
            return Err(Refusal::NoSuchChannel(id.to_string()));
        };
        let device = &acting.person.device;
        let lane = channel.replica.live_lane(&device.public());
        if lane.is_none() && act.joining().is_none() {
            return Err(Refusal::NotAMember);
        }
        let mut header = channel.replica.draft(device.public(), lane, turn.now, act);
        header.payload = payload.as_deref().map(PayloadRef::of);
        let event = Event::sign(header, device);
        let position = self.last_position + 1;
        match channel.replica.admit(&event, position) {
            Admission::Accepted(effect) => {
                self.accepted(turn, id, &event, payload, effect, acting.submission.tag);
                turn.broadcast(position);
                Ok(Receipt { channel: Some(id), event: Some(event.id()) })
            }
            Admission::Refused(invalid) => Err(refusal(&invalid)),
            Admission::Known | Admission::Waiting(_) => {
                Err(Refusal::Malformed("the event repeats an earlier one"))
            }
        }
    }

    /// Takes in a channel by its first event.
    pub(super) fn found(&mut self, turn: &mut Turn, event: &Event, tag: u64) -> Result<ChannelId, Invalid> {
        let (replica, effect) = Replica::found(event, self.last_position + 1)?;
        let id = replica.id();
        let name = self.directory.insert(replica, None).name.clone();
        turn.writes.push(Write::Name { channel: id, name });
        self.accepted(turn, id, event, None, effect, tag);
        Ok(id)
    }

    /// An event has become part of its channel: it goes to the log, to the doors, and to the
    /// outbox of every link that should carry it.
    pub(super) fn accepted(
        &mut self,
        turn: &mut Turn,
        id: ChannelId,
        event: &Event,
        payload: Option<Vec<u8>>,
        effect: Effect,
        tag: u64,
    ) {
        self.last_position += 1;
        let position = self.last_position;
        let Some(channel) = self.directory.get(&id) else { return };
        let fresh = Fresh { tag, profile_before: effect.profile_before };
        let news =
            news::of_event(channel, event, payload.as_deref(), position, fresh).filter(|_| effect.visible);
        let origin = news.as_ref().and_then(|news| match &news.what {
            crate::chat::view::What::Message(content) => content.origin.clone(),
            _ => None,
        });
        let via = channel.replica.lane_of(&event.id()).and_then(|lane| lane.via.clone());
        turn.writes.push(Write::Event(StoredEvent {
            position,
            channel: id,
            id: event.id(),
            signed: event.encode(),
            payload,
            visible: news.is_some(),
        }));
        let came_over = origin.as_ref().map(|origin| origin.link.clone()).or(via);
        if let Some(origin) = origin {
            let (link, external_id) = (origin.link, origin.external_id);
            turn.writes.push(Write::Seen { link, external_id, event: event.id() });
        }
        let Some(news) = news else { return };
        if self.open_doors.contains(&Door::Listener) {
            let delivery = Delivery { id: 0, link: None, uncertain: false, news: news.clone() };
            turn.effects.push(Output::Deliver { door: Door::Listener, delivery: Box::new(delivery) });
        }
        for link in self.routes.targets(&id, came_over.as_ref()) {
            turn.writes.push(self.outbox.push(&link, position, event.id()));
            self.deliver_fresh(turn, &link, position, &news);
        }
    }

    /// Hands fresh news to its link's door if nothing is before it; the rest is read back later.
    fn deliver_fresh(&mut self, turn: &mut Turn, link: &Link, position: u64, news: &crate::chat::view::News) {
        let door = Door::of(link);
        if !self.open_doors.contains(&door) {
            return;
        }
        for order in self.outbox.take_due(link, turn.now) {
            turn.effects.push(if order.position == position {
                let delivery = Delivery {
                    id: order.id,
                    link: Some(link.clone()),
                    uncertain: order.uncertain,
                    news: news.clone(),
                };
                Output::Deliver { door: door.clone(), delivery: Box::new(delivery) }
            } else {
                Output::DeliverStored {
                    door: door.clone(),
                    id: order.id,
                    link: order.link,
                    uncertain: order.uncertain,
                    position: order.position,
                }
            });
        }
    }

    /// The latest moment an event may claim to be of to be taken in now (rule L1).
    pub(super) fn horizon(now: Timestamp) -> Timestamp {
        now.plus_ms(limits::CLOCK_SKEW_MS)
    }
}

impl Turn {
    fn broadcast(&mut self, position: u64) {
        let positions = vec![position];
        self.effects.push(Output::SendEvents { to: Destination::Domain, positions, more: false });
    }
}

fn no_such(wanted: &ChannelRef) -> Refusal {
    Refusal::NoSuchChannel(match wanted {
        ChannelRef::Id(id) => id.to_string(),
        ChannelRef::Name(name) => name.clone(),
    })
}

/// What an author is told when the event they wanted is not valid.
fn refusal(invalid: &Invalid) -> Refusal {
    match invalid {
        Invalid::Transaction(error) => Refusal::NotPermitted(error.rule()),
        Invalid::Malformed(crate::replica::Malformed::Field(rule)) | Invalid::Rule(rule) => {
            Refusal::Malformed(rule)
        }
        Invalid::Malformed(_) | Invalid::Equivocation { .. } => Refusal::Malformed("the event is not valid"),
    }
}

fn clipped(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

//! Taking events in: what an accepted event sets in motion.

use super::news::{self, Fresh};
use super::people::Person;
use super::{Delivery, Door, Node, Output, Receipt, Refusal, StoredEvent, Turn, Write};
use crate::base::{ChannelId, EventId, Timestamp, limits};
use crate::chat::act::Act;
use crate::chat::intent::Submission;
use crate::chat::message::{Content, Link, Origin};
use crate::chat::view::{News, What};
use crate::overlay::Destination;
use crate::replica::{Admission, Effect, Event, Invalid, Malformed, PayloadRef, Unfounded};

/// Who acts, and how the node was told.
pub(super) struct Acting<'a> {
    pub person: Person,
    pub submission: &'a Submission,
}

impl Node {
    /// Signs and takes in one act of a member (or one that makes a member).
    pub(super) fn act(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
        act: Act,
        payload: Option<Vec<u8>>,
    ) -> Result<Receipt, Refusal> {
        if act.anchor().is_none() {
            self.catch_up(turn, acting, &id);
        }
        let Some(channel) = self.directory.get(&id) else {
            return Err(Refusal::NoSuchChannel(id.to_string()));
        };
        let device = &acting.person.device;
        // Who joins opens a lane, whatever lane they had: under a better grant, perhaps.
        let lane = channel.replica.live_lane(&device.public()).filter(|_| act.joining().is_none());
        if lane.is_none() && act.joining().is_none() {
            return Err(Refusal::NotAMember);
        }
        if let Some(lane) = lane
            && let Some(rule) = channel.replica.forbids(lane, &act, turn.now)
        {
            return Err(Refusal::NotPermitted(rule));
        }
        let mut header = channel.replica.draft(device.public(), lane, turn.now, act);
        header.payload = payload.as_deref().map(PayloadRef::of);
        header.check().map_err(|malformed| refusal(&Invalid::Malformed(malformed)))?;
        let event = Event::sign(header, device);
        let position = self.last_position + 1;
        match self.directory.admit(&event, position).unwrap_or(Admission::Known) {
            Admission::Accepted(effect) => {
                self.accepted(turn, id, &event, payload, effect, Some(acting.submission));
                turn.broadcast(position);
                Ok(Receipt { channel: Some(id), event: Some(event.id()), ..Receipt::default() })
            }
            Admission::Refused(invalid) => Err(refusal(&invalid)),
            Admission::Known | Admission::Waiting(_) => {
                Err(Refusal::Malformed("the event repeats an earlier one"))
            }
        }
    }

    /// Takes in a channel by its first event.
    pub(super) fn found(
        &mut self,
        turn: &mut Turn,
        event: &Event,
        wanted: Option<&Submission>,
    ) -> Result<ChannelId, Unfounded> {
        let (replica, effect) = self.directory.found(event, self.last_position + 1)?;
        let id = replica.id();
        let name = self.directory.insert(replica, None).name.clone();
        turn.writes.push(Write::Name { channel: id, name });
        self.accepted(turn, id, event, None, effect, wanted);
        Ok(id)
    }

    /// An event has become part of its channel. `wanted` is what it was made for, if it was made here:
    /// it came over the link that the submission names, whatever its lane came over.
    pub(super) fn accepted(
        &mut self,
        turn: &mut Turn,
        id: ChannelId,
        event: &Event,
        payload: Option<Vec<u8>>,
        effect: Effect,
        wanted: Option<&Submission>,
    ) {
        self.last_position += 1;
        let rules = effect.rules;
        self.keep(turn, id, event, payload, (self.last_position, effect, wanted));
        self.settle_texts(turn, id, event);
        if matches!(event.header.act, Act::Settle { .. } | Act::RedeemTicket { .. }) {
            self.drop_spent(id);
        }
        if rules {
            self.refresh_parts(turn, &id);
        }
        self.decide_deals(turn, &id);
    }

    /// An event goes to its place in the log, to the doors, and to the outbox of every link that should
    /// carry it; one whose text was lacking, once more when the text is there.
    pub(super) fn keep(
        &mut self,
        turn: &mut Turn,
        id: ChannelId,
        event: &Event,
        payload: Option<Vec<u8>>,
        (position, effect, wanted): (u64, Effect, Option<&Submission>),
    ) {
        let Some(channel) = self.directory.get(&id) else { return };
        let payload = payload.filter(|_| !channel.is_over(event, turn.now));
        let keeping = channel.keeping(event, payload.is_some(), turn.now);
        let (profile_before, subject_before) = (effect.profile_before, effect.subject_before);
        let tag = wanted.map_or(0, |submission| submission.tag);
        let fresh = Fresh { tag, profile_before, subject_before };
        let news =
            news::of_event(channel, event, payload.as_deref(), position, fresh).filter(|_| effect.visible);
        let origin = news.as_ref().and_then(|news| match &news.what {
            What::Message(content) => content.origin.clone(),
            _ => None,
        });
        let flips = effect.flips;
        let via = match wanted {
            Some(submission) => submission.via.clone(),
            None => channel.replica.lane_of(&event.id()).and_then(|lane| lane.via.clone()),
        };
        let (news, origin) = self.single(news, origin);
        let stored = StoredEvent {
            position,
            channel: id,
            id: event.id(),
            signed: event.encode(),
            payload,
            visible: news.is_some(),
            keeping,
        };
        if keeping.wanted {
            self.wanting.insert(&stored, turn.now);
        }
        turn.writes.push(Write::Event(stored));
        let came_over = origin.as_ref().map(|origin| origin.link.clone()).or(via);
        if let Some(origin) = origin {
            let (link, external_id) = (origin.link, origin.external_id);
            self.origins.insert((link.clone(), external_id.clone()), event.id());
            turn.writes.push(Write::Seen { link, external_id, event: event.id() });
        }
        self.tell_flips(turn, &id, &flips);
        let Some(news) = news else { return };
        if wanted.is_none() {
            self.tell_holder(turn, &news);
        }
        if self.open_doors.contains(&Door::Listener) {
            let delivery = Delivery { id: 0, link: None, uncertain: false, news: news.clone() };
            turn.effects.push(Output::Deliver { door: Door::Listener, delivery: Box::new(delivery) });
        }
        for link in self.routes.targets(&id, came_over.as_ref()) {
            self.carry(turn, link, &news);
        }
    }

    /// Nothing of what another node took in of a link before: it is shown once.
    fn single(&mut self, news: Option<News>, origin: Option<Origin>) -> (Option<News>, Option<Origin>) {
        if let Some(news) = &news
            && let What::Message(content) = &news.what
            && self.doubles.is_double(news.event, &news.author.profile.home, content)
        {
            self.count_refused("taken_in_twice");
            return (None, None);
        }
        (news, origin)
    }

    /// Tells a door to an IRC network what another node took in of a link that this one holds as well.
    fn tell_holder(&self, turn: &mut Turn, news: &News) {
        let What::Message(Content { origin: Some(origin), .. }) = &news.what else { return };
        let (link, door) = (&origin.link, Door::of(&origin.link));
        if matches!(door, Door::Network(_))
            && self.open_doors.contains(&door)
            && self.routes.channel(link) == Some(news.channel)
        {
            let delivery = Delivery { id: 0, link: Some(link.clone()), uncertain: false, news: news.clone() };
            turn.effects.push(Output::Deliver { door, delivery: Box::new(delivery) });
        }
    }

    /// Puts news into the outbox of a link, unless its far end is not cleared for them.
    fn carry(&mut self, turn: &mut Turn, link: Link, news: &News) {
        let channel = self.directory.get(&news.channel);
        if !channel.is_some_and(|channel| self.may_carry(channel, &link, news)) {
            self.withhold(turn, &link);
            return;
        }
        let Some(write) = self.outbox.push(&link, news.position, news.event) else {
            self.count_refused("outbox_full");
            let reason = "too many deliveries wait for it".to_owned();
            turn.effects.push(Output::GaveUp { link, reason });
            return;
        };
        self.count_carried(&link, news);
        turn.writes.push(write);
        self.dispatch(turn, &link, Some(news));
    }

    /// Tells the doors of messages that turned void, or count again.
    pub(super) fn tell_flips(&mut self, turn: &mut Turn, id: &ChannelId, flips: &[(EventId, u64)]) {
        for (event, position) in flips.iter().copied() {
            if self.directory.get(id).is_some_and(|channel| channel.replica.is_effective(&event)) {
                turn.writes.push(Write::Shown { position });
            }
            if self.open_doors.contains(&Door::Listener) {
                let door = Door::Listener;
                turn.effects.push(Output::DeliverStored {
                    door,
                    id: 0,
                    link: None,
                    uncertain: false,
                    position,
                });
            }
            for link in self.routes.targets(id, None) {
                let Some(write) = self.outbox.push(&link, position, event) else {
                    self.count_refused("outbox_full");
                    continue;
                };
                turn.writes.push(write);
                self.dispatch(turn, &link, None);
            }
        }
    }

    /// The latest moment an event may claim to be of to be taken in now (rule L1).
    pub(super) fn horizon(now: Timestamp) -> Timestamp {
        now.plus_ms(limits::CLOCK_SKEW_MS)
    }
}

impl Turn {
    pub(super) fn broadcast(&mut self, position: u64) {
        let positions = vec![position];
        self.effects.push(Output::SendEvents { to: Destination::Domain, positions, more: false });
    }
}

/// What an author is told when the event they wanted is not valid.
pub(super) fn refusal(invalid: &Invalid) -> Refusal {
    match invalid {
        Invalid::Transaction(error) => Refusal::NotPermitted(error.rule()),
        Invalid::Malformed(Malformed::Field(rule)) | Invalid::Rule(rule) => Refusal::Malformed(rule),
        Invalid::Malformed(_) => Refusal::Malformed("the event is not valid"),
    }
}

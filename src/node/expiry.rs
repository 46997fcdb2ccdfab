//! When what was said is to be gone: texts are deleted when they expire, when the channel's retention
//! ends, and when they are taken back. Headers stay, so the history stays verifiable.
//!
//! Whoever asks is never shown what is over, to the millisecond: every way out of the node asks
//! [`Channel::is_over`]. The store is told to delete at the moment a message's author named; where a
//! channel's retention ends it, within a thousandth of the retention (a second at the least, ten
//! minutes at the most), for one sweep then deletes many.

use std::collections::{BTreeMap, BTreeSet};

use super::directory::Channel;
use super::{Keeping, Node, StoredEvent, Turn, Write};
use crate::base::{ChannelId, EventId, Timestamp, limits};
use crate::chat::act::Act;
use crate::chat::flow::Sink;
use crate::chat::message::{Envelope, Relation};
use crate::replica::{Event, Parcel};

/// How soon after the last one a channel is swept again, at the least and at the most.
const SWEEP_MIN_MS: u64 = 1_000;
const SWEEP_MAX_MS: u64 = 10 * 60_000;
/// How often expired messages are looked for that are not remembered one by one.
const LOOK_AGAIN_MS: u64 = 60_000;

/// What is to be deleted when.
#[derive(Default)]
pub(super) struct Expiry {
    /// Moments at which some message expires by its author's will.
    moments: BTreeSet<Timestamp>,
    /// The earliest moment that found no room among them, or when to look next for such.
    beyond: Option<Timestamp>,
    /// Channels that have a retention and something it will end, and when to look.
    sweeps: BTreeMap<ChannelId, Timestamp>,
    /// The same by time.
    agenda: BTreeSet<(Timestamp, ChannelId)>,
}

impl Expiry {
    /// A message will expire then.
    fn expect(&mut self, at: Timestamp) {
        self.moments.insert(at);
        if self.moments.len() > limits::EXPIRY_MOMENTS
            && let Some(latest) = self.moments.pop_last()
        {
            self.beyond = Some(self.beyond.map_or(latest, |beyond| beyond.min(latest)));
        }
    }

    /// Whether some message expires now; none is told twice.
    fn take_due(&mut self, now: Timestamp) -> bool {
        let later = self.moments.split_off(&now.plus_ms(1));
        let mut is_due = !std::mem::replace(&mut self.moments, later).is_empty();
        if self.beyond.is_some_and(|beyond| beyond <= now) {
            self.beyond = Some(now.plus_ms(LOOK_AGAIN_MS));
            is_due = true;
        }
        is_due
    }

    fn cancel_sweep(&mut self, id: ChannelId) {
        if let Some(at) = self.sweeps.remove(&id) {
            self.agenda.remove(&(at, id));
        }
    }

    fn sweep_at(&mut self, id: ChannelId, at: Timestamp) {
        self.cancel_sweep(id);
        self.sweeps.insert(id, at);
        self.agenda.insert((at, id));
    }

    /// The channels to be swept now.
    fn due_sweeps(&self, now: Timestamp) -> Vec<ChannelId> {
        self.agenda.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    pub fn next_timeout(&self) -> Option<Timestamp> {
        let moments = self.moments.first().copied().into_iter().chain(self.beyond);
        moments.chain(self.agenda.first().map(|(at, _)| *at)).min()
    }
}

impl Channel {
    /// Whether what a message says is to be gone.
    pub fn is_over(&self, event: &Event, now: Timestamp) -> bool {
        let Act::SendMessage(envelope) = &event.header.act else { return false };
        let kept = self.policy.deleted_at(envelope, event.header.timestamp);
        let ends = [kept, self.expiry(envelope)].into_iter().flatten().min();
        ends.is_some_and(|at| at <= now) || self.is_taken_back(&event.id(), envelope)
    }

    /// Whether a message was taken back, or what it is an edit of.
    fn is_taken_back(&self, id: &EventId, envelope: &Envelope) -> bool {
        let edited = edited(envelope).is_some_and(|target| self.replica.is_redacted(&target));
        edited || self.replica.is_redacted(id)
    }

    /// When a message expires by its author's will; an edit no later than what it edits.
    fn expiry(&self, envelope: &Envelope) -> Option<Timestamp> {
        let edited = edited(envelope).and_then(|target| self.replica.expiry_of(&target));
        [envelope.expires, edited].into_iter().flatten().min()
    }

    /// What the store is told of an event.
    pub fn keeping(&self, event: &Event, has_payload: bool, now: Timestamp) -> Keeping {
        let said_at = event.header.timestamp;
        let Act::SendMessage(envelope) = &event.header.act else {
            return Keeping { said_at, ..Keeping::default() };
        };
        let reacts = matches!(envelope.relation, Some(Relation::Reaction(_)));
        Keeping {
            said_at,
            expires: self.expiry(envelope),
            searchable: !reacts && self.clears(&Sink::Search, &envelope.flow),
            wanted: !has_payload && !self.is_over(event, now),
        }
    }

    /// How long messages are kept here, in milliseconds.
    pub fn kept_ms(&self) -> Option<u64> {
        [self.policy.retention, self.policy.max_ttl].into_iter().flatten().min()
    }

    /// Brings up to date what follows from the channel's settings. Whether anything may have changed.
    fn refresh(&mut self, event: &Event) -> bool {
        let forks = self.replica.equivocations().len();
        let says_only = matches!(event.header.act, Act::SendMessage(_) | Act::RedactMessage { .. });
        if says_only && forks == self.forks {
            return false;
        }
        self.forks = forks;
        self.policy = self.replica.policy();
        true
    }
}

fn edited(envelope: &Envelope) -> Option<EventId> {
    match envelope.relation {
        Some(Relation::Edit(target)) => Some(target),
        _ => None,
    }
}

impl Node {
    /// What follows for texts from an event that was just taken in.
    pub(super) fn settle_texts(&mut self, turn: &mut Turn, id: ChannelId, event: &Event) {
        let Some(channel) = self.directory.get_mut(&id) else { return };
        let kept_before = channel.kept_ms();
        if let Act::RedactMessage { target, .. } = &event.header.act {
            channel.doubtful.insert(*target);
        }
        if channel.refresh(event) || matches!(event.header.act, Act::RedactMessage { .. }) {
            self.erase_redacted(turn, id);
        }
        self.note_text(id, event, true);
        if self.directory.get(&id).is_some_and(|channel| channel.kept_ms() != kept_before) {
            self.sweep(turn, id);
        }
    }

    /// What follows for texts from what a channel's workspace decided.
    pub(super) fn resettle_texts(&mut self, turn: &mut Turn, id: ChannelId) {
        let Some(channel) = self.directory.get_mut(&id) else { return };
        let kept_before = channel.kept_ms();
        channel.policy = channel.replica.policy();
        let is_swept = channel.kept_ms() == kept_before;
        self.erase_redacted(turn, id);
        if !is_swept {
            self.sweep(turn, id);
        }
    }

    /// Deletes the texts of messages that were taken back, once that counts.
    fn erase_redacted(&mut self, turn: &mut Turn, id: ChannelId) {
        let Some(channel) = self.directory.get_mut(&id) else { return };
        let replica = &channel.replica;
        let gone: Vec<EventId> =
            channel.doubtful.extract_if(.., |target| replica.is_redacted(target)).collect();
        let edits = gone.iter().flat_map(|target| channel.edits.get(target)).flatten();
        let gone: Vec<EventId> = gone.iter().chain(edits).copied().collect();
        for event in gone {
            self.wanting.forget(&id, &event);
            let position = self.directory.get(&id).and_then(|channel| channel.replica.position_of(&event));
            turn.writes.extend(position.map(|position| Write::Erase { position }));
        }
    }

    /// Remembers what an event of the log will ask for later.
    pub(super) fn note_text(&mut self, id: ChannelId, event: &Event, may_have_text: bool) {
        let Some(channel) = self.directory.get_mut(&id) else { return };
        let Act::SendMessage(envelope) = &event.header.act else { return };
        if let Some(target) = edited(envelope) {
            channel.edits.entry(target).or_default().push(event.id());
        }
        if !may_have_text {
            return;
        }
        let said_at = event.header.timestamp;
        channel.newest = channel.newest.max(said_at);
        if let Some(at) = channel.expiry(envelope) {
            self.expiry.expect(at);
        }
        if let Some(kept) = channel.kept_ms()
            && !self.expiry.sweeps.contains_key(&id)
        {
            self.expiry.sweep_at(id, said_at.plus_ms(kept));
        }
    }

    /// After a restart: what the log alone does not say.
    pub(super) fn restore_texts(&mut self) {
        for (id, channel) in self.directory.iter_mut() {
            channel.policy = channel.replica.policy();
            channel.forks = channel.replica.equivocations().len();
            let replica = &channel.replica;
            channel.doubtful.retain(|target| !replica.is_redacted(target));
            if channel.kept_ms().is_some() {
                self.expiry.sweep_at(*id, Timestamp(0));
            }
        }
    }

    pub(super) fn expiry_timeout(&mut self, turn: &mut Turn) {
        if self.expiry.take_due(turn.now) {
            turn.writes.push(Write::EraseExpired { until: turn.now });
        }
        for id in self.expiry.due_sweeps(turn.now) {
            self.sweep(turn, id);
        }
    }

    /// Has the store delete what a channel's retention has ended, and says when to look again.
    fn sweep(&mut self, turn: &mut Turn, id: ChannelId) {
        self.expiry.cancel_sweep(id);
        let Some(channel) = self.directory.get(&id) else { return };
        let Some(kept) = channel.kept_ms() else { return };
        if let Some(until) = turn.now.0.checked_sub(kept).map(Timestamp) {
            turn.writes.push(Write::EraseSaid { channel: id, until });
            if channel.newest <= until {
                return;
            }
        }
        let again = turn.now.plus_ms((kept / 1_000).clamp(SWEEP_MIN_MS, SWEEP_MAX_MS));
        // Nothing younger than that can be over before.
        let all_over = channel.newest.plus_ms(kept);
        self.expiry.sweep_at(id, again.min(all_over));
    }

    /// What may go to other nodes of a stored event: without its payload once that is over.
    pub fn parcel_of(&self, now: Timestamp, stored: &StoredEvent) -> Option<Parcel> {
        let mut parcel = stored.parcel()?;
        let channel = self.directory.get(&stored.channel);
        if channel.is_none_or(|channel| channel.is_over(&parcel.event, now)) {
            parcel.payload = None;
        }
        Some(parcel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_beyond_the_bound_are_looked_for_again_and_again() {
        let mut expiry = Expiry::default();
        let last = limits::EXPIRY_MOMENTS as u64 + 9;
        for at in (0..=last).rev() {
            expiry.expect(Timestamp(10 * at));
        }
        assert_eq!(expiry.moments.len(), limits::EXPIRY_MOMENTS);
        assert_eq!(expiry.next_timeout(), Some(Timestamp(0)));
        assert!(expiry.take_due(Timestamp(15)) && !expiry.take_due(Timestamp(16)));
        assert_eq!(expiry.next_timeout(), Some(Timestamp(20)));
        let beyond = expiry.beyond.unwrap();
        assert_eq!(beyond, Timestamp(10 * limits::EXPIRY_MOMENTS as u64));
        assert!(expiry.take_due(beyond));
        assert_eq!(expiry.next_timeout(), Some(beyond.plus_ms(LOOK_AGAIN_MS)));
        assert!(!expiry.take_due(beyond.plus_ms(1)));
        assert!(expiry.take_due(beyond.plus_ms(LOOK_AGAIN_MS)));
    }
}

//! Talking to peers: taking in their events, finding out who lacks what.

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, Output, Turn};
use crate::base::{ChannelId, EventId, NodeId, Timestamp, limits};
use crate::chat::act::Act;
use crate::chat::message::Content;
use crate::overlay::Destination;
use crate::replica::{Admission, Extent, Held, Malformed, Packet, Parcel, Unfounded};

/// How long an unanswered question stands before the same may be asked again.
const ASK_AGAIN_MS: u64 = 2_000;
/// Channels named in one summary; a node with more sends several.
const CHANNELS_PER_SUMMARY: usize = 1_000;
/// Questions to one peer that may be unanswered at a time; further channels wait for their turn.
const QUESTIONS: usize = 256;
/// Channels of one peer that wait for their turn; what is more, the next summary names again.
const WANTED: usize = 16 * 1024;
/// Questions to one peer that are remembered so as not to be repeated.
const REMEMBERED: usize = 4 * QUESTIONS;
/// What one peer may have us answer: so many events a second, and so many at once after a rest.
const ANSWERED_PER_S: u64 = 4_096;
const ANSWERED_AT_ONCE: u64 = 4 * ANSWERED_PER_S;
/// What an answer costs besides its events.
const ANSWER_COST: u64 = 4;
/// Bytes of events that wait for their past, in all channels together.
const HELD_BYTES: usize = 32 * 1024 * 1024;

/// Who is up, what was asked of them and what they asked.
#[derive(Default)]
pub(super) struct Sync {
    peers: BTreeMap<NodeId, Peer>,
    last_summary: Timestamp,
    /// Bytes of events that wait for their past.
    held_bytes: usize,
}

#[derive(Default)]
struct Peer {
    /// When it was last asked about a channel, and how many events the channel had then.
    asked: BTreeMap<ChannelId, (Timestamp, usize)>,
    /// The channels among `asked` for which an answer is awaited.
    open: BTreeSet<ChannelId>,
    /// Channels to ask about as soon as there is room.
    wanted: BTreeSet<ChannelId>,
    /// What it may still ask for, as of a moment.
    allowance: u64,
    allowed_at: Timestamp,
}

impl Peer {
    /// Whether this may be asked now. Not if it was just now and nothing has changed since; if too
    /// much is unanswered, it waits for its turn.
    fn may_ask(&mut self, now: Timestamp, id: ChannelId, events: usize) -> bool {
        if let Some((at, then)) = self.asked.get(&id)
            && *then == events
            && now.since_ms(*at) < ASK_AGAIN_MS
        {
            return false;
        }
        if !self.open.contains(&id) && self.open.len() >= QUESTIONS {
            if self.wanted.len() < WANTED {
                self.wanted.insert(id);
            }
            return false;
        }
        if self.asked.len() >= REMEMBERED {
            self.asked.retain(|id, _| self.open.contains(id));
        }
        self.asked.insert(id, (now, events));
        self.open.insert(id);
        true
    }

    /// Gives up waiting for answers that are overdue.
    fn expire(&mut self, now: Timestamp) {
        let asked = &self.asked;
        let overdue = |id: &ChannelId| asked.get(id).is_none_or(|(at, _)| now.since_ms(*at) >= ASK_AGAIN_MS);
        self.open.retain(|id| !overdue(id));
    }

    /// The channels whose turn it is.
    fn next_wanted(&mut self) -> Vec<ChannelId> {
        let room = QUESTIONS.saturating_sub(self.open.len());
        std::iter::from_fn(|| self.wanted.pop_first()).take(room).collect()
    }

    /// When room is certain to come, if anything waits for it.
    fn next_room(&self) -> Option<Timestamp> {
        let asked = self.open.iter().filter_map(|id| self.asked.get(id));
        let first = asked.map(|(at, _)| *at).min().unwrap_or_default();
        (!self.wanted.is_empty()).then(|| first.plus_ms(ASK_AGAIN_MS))
    }

    /// Whether an answer of so many events is granted. What is not, it asks for again later.
    fn grant(&mut self, now: Timestamp, events: usize) -> bool {
        let earned = now.since_ms(self.allowed_at).saturating_mul(ANSWERED_PER_S) / 1_000;
        if earned > 0 {
            self.allowance = self.allowance.saturating_add(earned).min(ANSWERED_AT_ONCE);
            self.allowed_at = now;
        }
        let cost = ANSWER_COST + events as u64;
        let granted = cost <= self.allowance;
        self.allowance -= if granted { cost } else { 0 };
        granted
    }
}

impl Sync {
    /// The peers that are up, ascending.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Whether a peer may have so many events now.
    pub fn grant(&mut self, peer: &NodeId, now: Timestamp, events: usize) -> bool {
        self.peers.get_mut(peer).is_some_and(|peer| peer.grant(now, events))
    }

    pub fn down(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    pub fn next_timeout(&self) -> Option<Timestamp> {
        let summary =
            (!self.peers.is_empty()).then(|| self.last_summary.plus_ms(limits::SUMMARY_INTERVAL_MS));
        summary.into_iter().chain(self.peers.values().filter_map(Peer::next_room)).min()
    }
}

impl Node {
    pub(super) fn peer_up(&mut self, turn: &mut Turn, peer: NodeId) {
        if self.sync.peers.is_empty() {
            self.sync.last_summary = turn.now;
        }
        self.sync.peers.insert(peer, Peer::default());
        self.summarise(turn, peer);
        self.tell_intents(turn, peer);
        self.want_at_once(turn.now);
    }

    pub(super) fn sync_timeout(&mut self, turn: &mut Turn) {
        let summary_due = turn.now.since_ms(self.sync.last_summary) >= limits::SUMMARY_INTERVAL_MS;
        for peer in self.sync.peers() {
            if summary_due {
                self.summarise(turn, peer);
            }
            if let Some(state) = self.sync.peers.get_mut(&peer) {
                state.expire(turn.now);
            }
            self.ask_wanted(turn, peer);
        }
        if summary_due {
            self.repeat_intents(turn);
            self.sync.last_summary = turn.now;
        }
    }

    fn summarise(&self, turn: &mut Turn, peer: NodeId) {
        let all: Vec<_> =
            self.directory.iter().map(|(id, channel)| (*id, channel.replica.fingerprint())).collect();
        for part in all.chunks(CHANNELS_PER_SUMMARY) {
            let packet = Packet::Summary(part.to_vec());
            turn.effects.push(Output::Send { to: Destination::Peer(peer), packet });
        }
    }

    pub(super) fn packet(&mut self, turn: &mut Turn, from: NodeId, packet: Packet) {
        match packet {
            Packet::Events { parcels, more } => self.events_from(turn, from, parcels, more),
            Packet::Summary(channels) => {
                for (id, fingerprint) in channels {
                    let ours = self.directory.get(&id).map(|channel| channel.replica.fingerprint());
                    if ours != Some(fingerprint) {
                        self.ask(turn, from, id);
                    }
                }
            }
            Packet::Have { channel, extent } => self.answer(turn, from, channel, &extent),
            Packet::Intents(offers) => self.intents_from(turn.now, offers),
            Packet::Want { channel, events } => self.answer_want(turn, from, channel, &events),
        }
        self.ask_wanted(turn, from);
    }

    /// Sends what the peer lacks, and asks back if it has what we lack.
    fn answer(&mut self, turn: &mut Turn, from: NodeId, id: ChannelId, extent: &Extent) {
        let Some(peer) = self.sync.peers.get_mut(&from) else { return };
        peer.open.remove(&id);
        let Some(channel) = self.directory.get(&id) else {
            self.ask(turn, from, id);
            return;
        };
        let (positions, more) = channel.replica.beyond(extent, limits::EVENTS_PER_ROUND);
        if !peer.grant(turn.now, positions.len()) {
            self.count_refused("asks_too_much");
            return;
        }
        let lacks = channel.replica.lacks(extent);
        if !positions.is_empty() {
            turn.effects.push(Output::SendEvents { to: Destination::Peer(from), positions, more });
        }
        if lacks {
            self.ask(turn, from, id);
        }
    }

    /// Tells a peer how far we reach, so that it sends what lies beyond.
    fn ask(&mut self, turn: &mut Turn, peer: NodeId, id: ChannelId) {
        let channel = self.directory.get(&id);
        if channel.is_none() && self.directory.len() >= limits::CHANNELS {
            return;
        }
        let events = channel.map_or(0, |channel| channel.replica.len());
        let Some(state) = self.sync.peers.get_mut(&peer) else { return };
        if !state.may_ask(turn.now, id, events) {
            return;
        }
        let round = turn.now.0 / limits::SUMMARY_INTERVAL_MS;
        let extent = channel.map(|channel| channel.replica.extent(round)).unwrap_or_default();
        let packet = Packet::Have { channel: id, extent };
        turn.effects.push(Output::Send { to: Destination::Peer(peer), packet });
    }

    fn ask_wanted(&mut self, turn: &mut Turn, peer: NodeId) {
        let wanted = self.sync.peers.get_mut(&peer).map(Peer::next_wanted).unwrap_or_default();
        for id in wanted {
            self.ask(turn, peer, id);
        }
    }

    fn events_from(&mut self, turn: &mut Turn, from: NodeId, parcels: Vec<Parcel>, more: bool) {
        let mut lacking: BTreeSet<ChannelId> = BTreeSet::new();
        let mut named: BTreeSet<ChannelId> = BTreeSet::new();
        for mut parcel in parcels {
            if let Err(malformed) = parcel.verify() {
                self.count_refused(malformed_reason(&malformed));
                continue;
            }
            let id = parcel.event.channel();
            named.insert(id);
            self.take_in(turn, parcel, &mut lacking);
        }
        if let Some(peer) = self.sync.peers.get_mut(&from) {
            peer.open.retain(|id| more || !named.contains(id));
        }
        if more {
            lacking.extend(named);
        }
        for id in lacking {
            self.ask(turn, from, id);
        }
    }

    /// Takes in one event, and then whatever waited for it. What more is needed for that is added to
    /// `lacking`.
    fn take_in(&mut self, turn: &mut Turn, parcel: Parcel, lacking: &mut BTreeSet<ChannelId>) {
        let first = parcel.event.id();
        let mut ready = vec![parcel];
        while let Some(parcel) = ready.pop() {
            let (id, event) = (parcel.event.channel(), parcel.event.id());
            let founds = parcel.event.header.channel.is_none();
            match self.take_in_one(turn, parcel) {
                Taken::Accepted => {
                    let mut released = self.directory.release(&id, &event);
                    let bytes = released.iter().map(Parcel::size).sum();
                    self.sync.held_bytes = self.sync.held_bytes.saturating_sub(bytes);
                    released.reverse();
                    ready.extend(released);
                    if founds && event != first {
                        // Its other events were of no use before: they are asked for now.
                        lacking.insert(id);
                    }
                }
                // What waits for more than one event is not asked for anew with each.
                Taken::Lacking(wanted) if event == first => {
                    lacking.insert(wanted);
                }
                Taken::Lacking(_) | Taken::Nothing => {}
            }
        }
    }

    fn take_in_one(&mut self, turn: &mut Turn, parcel: Parcel) -> Taken {
        let header = &parcel.event.header;
        if header.timestamp > Self::horizon(turn.now) {
            self.count_refused("future_event");
            return Taken::Nothing;
        }
        let id = parcel.event.channel();
        let Some(channel) = self.directory.get(&id) else {
            return self.take_in_unknown(turn, parcel);
        };
        let is_message = matches!(header.act, Act::SendMessage(_));
        let lacks_text = is_message
            && parcel.payload.is_none()
            && !channel.replica.contains(&parcel.event.id())
            && !channel.is_over(&parcel.event, turn.now);
        if lacks_text && !self.wanting.make_room() {
            self.count_refused("message_without_payload");
            return Taken::Nothing;
        }
        match self.directory.admit(&parcel.event, self.last_position + 1).unwrap_or(Admission::Known) {
            Admission::Accepted(effect) => {
                if let (Act::SendMessage(envelope), Some(payload)) = (&header.act, &parcel.payload)
                    && Content::read(payload, envelope).is_none()
                {
                    self.count_refused("unreadable_message");
                }
                self.accepted(turn, id, &parcel.event, parcel.payload, effect, None);
                Taken::Accepted
            }
            Admission::Known => {
                if let Some(payload) = parcel.payload {
                    self.fill(turn, id, &parcel.event, payload);
                }
                Taken::Nothing
            }
            Admission::Waiting(missing) => {
                let has_past =
                    self.directory.get(&id).is_some_and(|channel| channel.replica.has_past(&parcel.event));
                let workspace = header.act.anchor().map(|anchor| anchor.workspace).filter(|_| has_past);
                self.hold(parcel, missing, workspace)
            }
            Admission::Refused(invalid) => {
                let bytes = self.directory.abandon(&id, &parcel.event.id());
                self.sync.held_bytes = self.sync.held_bytes.saturating_sub(bytes);
                self.count_refused(invalid.reason());
                Taken::Nothing
            }
        }
    }

    /// Lets an event wait for the first of those that it misses, of its channel or of a workspace.
    fn hold(&mut self, parcel: Parcel, missing: Vec<EventId>, workspace: Option<ChannelId>) -> Taken {
        let (lacking, size) = (workspace.unwrap_or(parcel.event.channel()), parcel.size());
        let room = self.sync.held_bytes < HELD_BYTES;
        let first = missing.first().copied().filter(|_| room);
        match first.map(|first| self.directory.hold(parcel, first, workspace)) {
            Some(Held::New) => {
                self.sync.held_bytes += size;
                Taken::Lacking(lacking)
            }
            // Its past was asked for when it came first. Nothing is asked twice for one event,
            // so two nodes that differ for good do not keep each other busy.
            Some(Held::Already) => Taken::Nothing,
            Some(Held::Full) | None => {
                self.count_refused("pending_full");
                Taken::Lacking(lacking)
            }
        }
    }

    fn take_in_unknown(&mut self, turn: &mut Turn, parcel: Parcel) -> Taken {
        let Act::CreateChannel { ancestry, .. } = &parcel.event.header.act else {
            return Taken::Lacking(parcel.event.channel());
        };
        if self.directory.len() >= limits::CHANNELS {
            self.count_refused("channels_full");
            return Taken::Nothing;
        }
        match self.found(turn, &parcel.event, None) {
            Ok(_) => Taken::Accepted,
            Err(Unfounded::Waiting(missing)) => {
                let workspace = ancestry.workspace;
                self.hold(parcel, missing, workspace)
            }
            Err(Unfounded::Refused(invalid)) => {
                self.count_refused(invalid.reason());
                Taken::Nothing
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Accepted,
    /// Events of this channel are missing.
    Lacking(ChannelId),
    /// Known already, or refused.
    Nothing,
}

fn malformed_reason(malformed: &Malformed) -> &'static str {
    match malformed {
        Malformed::Encoding(_) | Malformed::Field(_) => "malformed_event",
        Malformed::Signature => "wrong_signature",
        Malformed::Payload => "wrong_payload",
    }
}

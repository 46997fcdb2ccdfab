//! Talking to peers: taking in their events, finding out who lacks what.

use std::collections::{BTreeMap, BTreeSet};

use super::news::read_content;
use super::{Node, Output, Turn};
use crate::base::{ChannelId, EventId, NodeId, Timestamp, limits};
use crate::chat::act::Act;
use crate::overlay::Destination;
use crate::replica::{Admission, Extent, Packet, Parcel};

/// How long an unanswered question stands before the same may be asked again.
const ASK_AGAIN_MS: u64 = 2_000;
/// Channels named in one summary; a node with more sends several.
const CHANNELS_PER_SUMMARY: usize = 1_000;

/// Who is up, and what was asked of them.
#[derive(Default)]
pub(super) struct Sync {
    pub peers: Vec<NodeId>,
    /// When a peer was last asked about a channel, and how many events the channel had then.
    asked: BTreeMap<(NodeId, ChannelId), (Timestamp, usize)>,
    last_summary: Timestamp,
}

impl Sync {
    pub fn next_summary(&self) -> Option<Timestamp> {
        (!self.peers.is_empty()).then(|| self.last_summary.plus_ms(limits::SUMMARY_INTERVAL_MS))
    }
}

impl Node {
    pub(super) fn peer_up(&mut self, turn: &mut Turn, peer: NodeId) {
        if !self.sync.peers.contains(&peer) {
            self.sync.peers.push(peer);
        }
        self.sync.asked.retain(|(other, _), _| *other != peer);
        self.summarise(turn, peer);
    }

    pub(super) fn summarise_if_due(&mut self, turn: &mut Turn) {
        if self.sync.next_summary().is_none_or(|at| at > turn.now) {
            return;
        }
        self.sync.last_summary = turn.now;
        for peer in self.sync.peers.clone() {
            self.summarise(turn, peer);
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
        }
    }

    /// Sends what the peer lacks, and asks back if it has what we lack.
    fn answer(&mut self, turn: &mut Turn, from: NodeId, id: ChannelId, extent: &Extent) {
        let Some(channel) = self.directory.get(&id) else {
            self.ask(turn, from, id);
            return;
        };
        let (positions, more) = channel.replica.beyond(extent, limits::EVENTS_PER_ROUND);
        if !positions.is_empty() {
            turn.effects.push(Output::SendEvents { to: Destination::Peer(from), positions, more });
        }
        if channel.replica.lacks(extent) {
            self.ask(turn, from, id);
        }
    }

    /// Tells a peer how far we reach, unless we did just now and nothing has changed.
    fn ask(&mut self, turn: &mut Turn, peer: NodeId, id: ChannelId) {
        if !self.sync.peers.contains(&peer) {
            return;
        }
        let channel = self.directory.get(&id);
        if channel.is_none() && self.directory.len() >= limits::CHANNELS {
            return;
        }
        let events = channel.map_or(0, |channel| channel.replica.len());
        let extent = channel.map(|channel| channel.replica.extent()).unwrap_or_default();
        if let Some((at, then)) = self.sync.asked.get(&(peer, id))
            && *then == events
            && turn.now.since_ms(*at) < ASK_AGAIN_MS
        {
            return;
        }
        if self.sync.asked.len() >= limits::CHANNELS {
            self.sync.asked.clear();
        }
        self.sync.asked.insert((peer, id), (turn.now, events));
        turn.effects
            .push(Output::Send { to: Destination::Peer(peer), packet: Packet::Have { channel: id, extent } });
    }

    fn events_from(&mut self, turn: &mut Turn, from: NodeId, parcels: Vec<Parcel>, more: bool) {
        let mut lacking: BTreeSet<ChannelId> = BTreeSet::new();
        let mut touched: BTreeSet<ChannelId> = BTreeSet::new();
        for mut parcel in parcels {
            if let Err(malformed) = parcel.verify() {
                self.count_refused(malformed_reason(&malformed));
                continue;
            }
            let id = parcel.event.channel();
            match self.take_in(turn, parcel) {
                Taken::Accepted => {
                    touched.insert(id);
                }
                Taken::Lacking => {
                    lacking.insert(id);
                }
                Taken::Nothing => {}
            }
        }
        if more {
            lacking.extend(touched);
        }
        for id in lacking {
            self.ask(turn, from, id);
        }
    }

    /// Takes in one event, and then whatever waited for it.
    fn take_in(&mut self, turn: &mut Turn, parcel: Parcel) -> Taken {
        let id = parcel.event.channel();
        let mut result = None;
        let mut ready = vec![parcel];
        while let Some(parcel) = ready.pop() {
            let event: EventId = parcel.event.id();
            let taken = self.take_in_one(turn, parcel);
            if taken == Taken::Accepted
                && let Some(channel) = self.directory.get_mut(&id)
            {
                let mut released = channel.pending.release(&event);
                released.reverse();
                ready.extend(released);
            }
            result.get_or_insert(taken);
        }
        result.unwrap_or(Taken::Nothing)
    }

    fn take_in_one(&mut self, turn: &mut Turn, parcel: Parcel) -> Taken {
        let header = &parcel.event.header;
        if header.timestamp > Self::horizon(turn.now) {
            self.count_refused("future_event");
            return Taken::Nothing;
        }
        let id = parcel.event.channel();
        let Some(channel) = self.directory.get_mut(&id) else {
            return self.take_in_unknown(turn, &parcel);
        };
        let is_message = matches!(header.act, Act::SendMessage);
        if is_message && parcel.payload.is_none() && !channel.replica.contains(&parcel.event.id()) {
            self.count_refused("message_without_payload");
            return Taken::Nothing;
        }
        match channel.replica.admit(&parcel.event, self.last_position + 1) {
            Admission::Accepted(effect) => {
                if parcel.payload.as_deref().is_some_and(|payload| read_content(payload).is_none()) {
                    self.count_refused("unreadable_message");
                }
                self.accepted(turn, id, &parcel.event, parcel.payload, effect, 0);
                Taken::Accepted
            }
            Admission::Known => Taken::Nothing,
            Admission::Waiting(missing) => {
                if !missing.first().is_some_and(|missing| channel.pending.hold(parcel, *missing)) {
                    self.count_refused("pending_full");
                }
                Taken::Lacking
            }
            Admission::Refused(invalid) => {
                self.count_refused(invalid.reason());
                Taken::Nothing
            }
        }
    }

    fn take_in_unknown(&mut self, turn: &mut Turn, parcel: &Parcel) -> Taken {
        if !matches!(parcel.event.header.act, Act::CreateChannel { .. }) {
            return Taken::Lacking;
        }
        if self.directory.len() >= limits::CHANNELS {
            self.count_refused("channels_full");
            return Taken::Nothing;
        }
        match self.found(turn, &parcel.event, 0) {
            Ok(_) => Taken::Accepted,
            Err(invalid) => {
                self.count_refused(invalid.reason());
                Taken::Nothing
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Accepted,
    /// Its past is missing.
    Lacking,
    /// Known already, or refused.
    Nothing,
}

fn malformed_reason(malformed: &crate::replica::Malformed) -> &'static str {
    use crate::replica::Malformed;
    match malformed {
        Malformed::Encoding(_) | Malformed::Field(_) => "malformed_event",
        Malformed::Signature => "wrong_signature",
        Malformed::Payload => "wrong_payload",
    }
}

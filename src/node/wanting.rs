//! Messages that came without their text, and asking for it. A peer may have deleted the text already,
//! or never had it, or keep it from us: the event is taken in all the same, so that what follows it is
//! not held up, and the others are asked in turn until one has it.

use std::collections::BTreeMap;

use super::directory::Channel;
use super::{Keeping, Node, Output, StoredEvent, Turn};
use crate::base::{ChannelId, EventId, NodeId, Timestamp, limits};
use crate::overlay::Destination;
use crate::replica::{Effect, Event, Packet};

/// The wait after a text was asked for; doubles with every round that brought nothing.
const ASK_AGAIN_MS: u64 = 2_000;
const ASK_AGAIN_MAX_MS: u64 = 10 * 60_000;
/// Asked for so often in vain, one makes room for another.
const HOPELESS: u32 = 8;

/// What is lacking.
#[derive(Default)]
pub(super) struct Wanting {
    events: BTreeMap<(ChannelId, EventId), Wanted>,
    /// When to ask next; whoever is asked then may know of several.
    next_at: Option<Timestamp>,
}

#[derive(Clone, Copy)]
struct Wanted {
    position: u64,
    said_at: Timestamp,
    expires: Option<Timestamp>,
    asked: u32,
    not_before: Timestamp,
}

impl Wanting {
    /// Makes room for one more. `false` if there is none to be made.
    pub fn make_room(&mut self) -> bool {
        if self.events.len() < limits::WANTED_PAYLOADS {
            return true;
        }
        let hopeless = self.events.iter().filter(|(_, wanted)| wanted.asked >= HOPELESS);
        let most = hopeless.max_by_key(|(_, wanted)| wanted.asked).map(|(key, _)| *key);
        most.is_some_and(|key| self.events.remove(&key).is_some())
    }

    /// The text of this event is lacking. One for which no room was made is not asked for.
    pub fn insert(&mut self, stored: &StoredEvent, now: Timestamp) {
        if self.events.len() >= limits::WANTED_PAYLOADS {
            return;
        }
        let Keeping { said_at, expires, .. } = stored.keeping;
        let wanted = Wanted { position: stored.position, said_at, expires, asked: 0, not_before: now };
        self.events.insert((stored.channel, stored.id), wanted);
        self.next_at = Some(self.next_at.map_or(now, |at| at.min(now)));
    }

    /// It came, and belongs to this position of the log; or it is not wanted.
    pub fn take(&mut self, channel: &ChannelId, event: &EventId) -> Option<u64> {
        self.events.remove(&(*channel, *event)).map(|wanted| wanted.position)
    }

    /// It is wanted no more.
    pub fn forget(&mut self, channel: &ChannelId, event: &EventId) {
        self.events.remove(&(*channel, *event));
    }

    /// Whatever was to last until now, or was said in a channel before its retention, is wanted no more.
    fn forget_over(&mut self, now: Timestamp, kept_ms: impl Fn(&ChannelId) -> Option<u64>) {
        self.events.retain(|(channel, _), wanted| {
            let kept = kept_ms(channel).map(|kept| wanted.said_at.plus_ms(kept));
            [wanted.expires, kept].into_iter().flatten().all(|at| at > now)
        });
    }

    /// Whether the text of this event is lacking.
    pub fn contains(&self, channel: &ChannelId, event: &EventId) -> bool {
        self.events.contains_key(&(*channel, *event))
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// What to ask whom now: each event of one peer, the next time of the next one.
    fn due(&mut self, now: Timestamp, peers: &[NodeId]) -> BTreeMap<(NodeId, ChannelId), Vec<EventId>> {
        let mut questions: BTreeMap<(NodeId, ChannelId), Vec<EventId>> = BTreeMap::new();
        for ((channel, event), wanted) in &mut self.events {
            if wanted.not_before > now {
                continue;
            }
            let peer = peers[wanted.asked as usize % peers.len()];
            let question = questions.entry((peer, *channel)).or_default();
            if question.len() >= limits::WANTED_PER_PACKET {
                wanted.not_before = now.plus_ms(ASK_AGAIN_MS / 4);
                continue;
            }
            question.push(*event);
            let rounds = (wanted.asked as usize / peers.len()).min(20);
            let wait = (ASK_AGAIN_MS << rounds).min(ASK_AGAIN_MAX_MS);
            wanted.asked = wanted.asked.saturating_add(1);
            wanted.not_before = now.plus_ms(wait);
        }
        self.next_at = self.events.values().map(|wanted| wanted.not_before).min();
        questions
    }
}

impl Node {
    /// When the next text is to be asked for, if there is anybody to ask.
    pub(super) fn next_want(&self) -> Option<Timestamp> {
        self.wanting.next_at.filter(|_| self.sync.has_peers())
    }

    pub(super) fn want_timeout(&mut self, turn: &mut Turn) {
        if self.next_want().is_none_or(|at| at > turn.now) {
            return;
        }
        let directory = &self.directory;
        self.wanting.forget_over(turn.now, |id| directory.get(id).and_then(Channel::kept_ms));
        let peers = self.sync.peers();
        for ((peer, channel), events) in self.wanting.due(turn.now, &peers) {
            let packet = Packet::Want { channel, events };
            turn.effects.push(Output::Send { to: Destination::Peer(peer), packet });
        }
    }

    /// Somebody new is up: perhaps they have what nobody else had.
    pub(super) fn want_at_once(&mut self, now: Timestamp) {
        for wanted in self.wanting.events.values_mut() {
            wanted.not_before = wanted.not_before.min(now);
        }
        if !self.wanting.events.is_empty() {
            self.wanting.next_at = Some(now);
        }
    }

    /// A peer asks for texts.
    pub(super) fn answer_want(&mut self, turn: &mut Turn, from: NodeId, id: ChannelId, events: &[EventId]) {
        let Some(channel) = self.directory.get(&id) else { return };
        let has = |event: &&EventId| !self.wanting.contains(&id, event);
        let events = events.iter().take(limits::WANTED_PER_PACKET).filter(has);
        let positions: Vec<u64> = events.filter_map(|event| channel.replica.position_of(event)).collect();
        if positions.is_empty() {
            return;
        }
        if !self.sync.grant(&from, turn.now, positions.len()) {
            self.count_refused("asks_too_much");
            return;
        }
        turn.effects.push(Output::SendEvents { to: Destination::Peer(from), positions, more: false });
    }

    /// The text of an event that is known already: taken in where it was lacking.
    pub(super) fn fill(&mut self, turn: &mut Turn, id: ChannelId, event: &Event, payload: Vec<u8>) {
        let Some(position) = self.wanting.take(&id, &event.id()) else { return };
        let Some(channel) = self.directory.get(&id) else { return };
        let visible = channel.replica.is_effective(&event.id());
        self.keep(turn, id, event, Some(payload), (position, Effect { visible, ..Effect::default() }, None));
    }

    /// Messages that lie here without their text while others may have it.
    pub fn wanted_texts(&self) -> usize {
        self.wanting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> EventId {
        EventId(*blake3::hash(&number.to_be_bytes()).as_bytes())
    }

    fn stored(number: usize, expires: Option<Timestamp>) -> StoredEvent {
        let keeping = Keeping { expires, wanted: true, ..Keeping::default() };
        let (channel, id) = (ChannelId([1; 32]), event(number));
        let (signed, payload) = (Vec::new(), None);
        StoredEvent { position: 7, channel, id, signed, payload, visible: false, keeping }
    }

    #[test]
    fn every_peer_is_asked_in_turn_and_ever_more_seldom() {
        let mut wanting = Wanting::default();
        let (channel, peers) = (ChannelId([1; 32]), [NodeId([1; 32]), NodeId([2; 32])]);
        wanting.insert(&stored(1, None), Timestamp(0));
        let mut asked = Vec::new();
        for _ in 0..6 {
            let now = wanting.next_at.unwrap();
            asked.extend(wanting.due(now, &peers).into_keys().map(|(peer, _)| (now.0, peer.0[0])));
        }
        assert_eq!(asked, [(0, 1), (2_000, 2), (4_000, 1), (8_000, 2), (12_000, 1), (20_000, 2)]);
        assert_eq!(wanting.take(&channel, &event(1)), Some(7));
        assert_eq!(wanting.take(&channel, &event(1)), None);
    }

    #[test]
    fn what_nobody_has_makes_room_and_what_was_not_asked_for_does_not() {
        let mut wanting = Wanting::default();
        for number in 0..limits::WANTED_PAYLOADS {
            assert!(wanting.make_room());
            wanting.insert(&stored(number, None), Timestamp(0));
        }
        assert!(!wanting.make_room());
        let peers = [NodeId([1; 32])];
        for _ in 0..HOPELESS {
            while wanting.next_at.is_some_and(|at| at < Timestamp(u64::MAX))
                && wanting.events.values().any(|wanted| wanted.asked < HOPELESS)
            {
                let now = wanting.next_at.unwrap();
                for events in wanting.due(now, &peers).into_values() {
                    assert!(events.len() <= limits::WANTED_PER_PACKET);
                }
            }
        }
        assert!(wanting.make_room());
        assert_eq!(wanting.len(), limits::WANTED_PAYLOADS - 1);
    }

    #[test]
    fn what_is_over_is_wanted_no_more() {
        let mut wanting = Wanting::default();
        wanting.insert(&stored(1, Some(Timestamp(5))), Timestamp(0));
        wanting.insert(&stored(2, None), Timestamp(0));
        wanting.forget_over(Timestamp(4), |_| None);
        assert_eq!(wanting.len(), 2);
        wanting.forget_over(Timestamp(5), |_| Some(6));
        assert_eq!(wanting.len(), 1);
        wanting.forget_over(Timestamp(6), |_| Some(6));
        assert_eq!(wanting.len(), 0);
    }
}

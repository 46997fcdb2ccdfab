//! What is remembered of each event, by numbers: a few dozen bytes, since a channel may have millions.
//! The events themselves lie in the store.
//!
//! Events are numbered as they come in, so a number means nothing outside this replica; what is told to
//! others, or compared, is always the id.

use std::collections::BTreeSet;

use super::past::Known;
use super::{EventKind, reconcile};
use crate::base::{EventId, Timestamp};
use crate::chat::permissions::Permission;

/// The events of one channel.
#[derive(Default)]
pub(super) struct Events {
    ids: Vec<EventId>,
    rows: Vec<Row>,
    /// The parents of all, one after the other.
    parents: Vec<u32>,
    /// The first eight bytes of each id, and its number.
    by_id: BTreeSet<(u64, u32)>,
}

#[derive(Clone, Copy)]
struct Row {
    position: u64,
    timestamp: Timestamp,
    /// The number of the first event of its chain.
    chain: u32,
    seq: u32,
    known: Known,
    /// Where its parents end.
    parents: u32,
    what: EventKind,
    needs: Option<Permission>,
}

/// What is remembered of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Where it lies in the node's log.
    pub position: u64,
    pub timestamp: Timestamp,
    /// The chain it is part of, a lane or a branch of one, by its first event.
    pub chain: EventId,
    pub seq: u64,
    /// The authority events up to here, itself included.
    pub known: Known,
    pub what: EventKind,
    /// What its author needs to be allowed.
    pub needs: Option<Permission>,
}

impl Events {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn contains(&self, id: &EventId) -> bool {
        self.number(id).is_some()
    }

    /// The number of an event that is part of the channel.
    pub fn number(&self, id: &EventId) -> Option<u32> {
        self.beginning(reconcile::mark(id)).find(|number| self.ids[*number as usize] == *id)
    }

    /// The events whose ids begin with these bytes.
    pub fn beginning(&self, mark: u64) -> impl Iterator<Item = u32> + '_ {
        self.by_id.range((mark, 0)..=(mark, u32::MAX)).map(|(_, number)| *number)
    }

    pub fn get(&self, id: &EventId) -> Option<Entry> {
        self.number(id).map(|number| self.at(number))
    }

    pub fn id(&self, number: u32) -> EventId {
        self.ids[number as usize]
    }

    pub fn position(&self, number: u32) -> u64 {
        self.rows[number as usize].position
    }

    pub fn timestamp(&self, number: u32) -> Timestamp {
        self.rows[number as usize].timestamp
    }

    pub fn known(&self, number: u32) -> Known {
        self.rows[number as usize].known
    }

    /// The number of the first event of its chain, and its place in the lane.
    pub fn place(&self, number: u32) -> (u32, u64) {
        let row = &self.rows[number as usize];
        (row.chain, u64::from(row.seq))
    }

    pub fn at(&self, number: u32) -> Entry {
        let Row { position, timestamp, chain, seq, known, what, needs, .. } = self.rows[number as usize];
        Entry { position, timestamp, chain: self.id(chain), seq: u64::from(seq), known, what, needs }
    }

    /// prev, deps and what the event relates to.
    pub fn parents(&self, number: u32) -> &[u32] {
        let end = self.rows[number as usize].parents as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.rows[before as usize].parents as usize);
        &self.parents[start..end]
    }

    /// Takes in an event, which begins a chain if that is its own id, and gives it its number.
    pub fn push(&mut self, id: EventId, entry: Entry, parents: &[u32]) -> u32 {
        let number = self.ids.len() as u32;
        let chain = if entry.chain == id { Some(number) } else { self.number(&entry.chain) };
        self.parents.extend(parents);
        let Entry { position, timestamp, seq, known, what, needs, .. } = entry;
        self.ids.push(id);
        self.by_id.insert((reconcile::mark(&id), number));
        self.rows.push(Row {
            position,
            timestamp,
            chain: chain.unwrap_or(number),
            // A lane has no more events than there are numbers.
            seq: seq as u32,
            known,
            parents: self.parents.len() as u32,
            what,
            needs,
        });
        number
    }

    /// The event is part of another chain now, that begins with this one.
    pub fn move_to(&mut self, number: u32, chain: u32) {
        self.rows[number as usize].chain = chain;
    }

    pub fn set_known(&mut self, number: u32, known: Known) {
        self.rows[number as usize].known = known;
    }
}

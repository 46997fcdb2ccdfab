//! What is remembered of each event, by numbers: a few dozen bytes, since a channel may have millions.
//! The events themselves lie in the store.
//!
//! Events are numbered as they come in, so a number means nothing outside this replica; what is told to
//! others, or compared, is always the id.

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
    by_id: Index,
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
        self.by_id.near(reconcile::mark(id)).find(|number| self.ids[*number as usize] == *id)
    }

    /// The events whose ids begin with these bytes.
    pub fn beginning(&self, mark: u64) -> impl Iterator<Item = u32> + '_ {
        self.by_id.near(mark).filter(move |number| reconcile::mark(&self.ids[*number as usize]) == mark)
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

    /// Takes in an event and gives it its number; `chain` is that of the first event of its chain.
    pub fn push(&mut self, id: EventId, entry: Entry, chain: u32, parents: &[u32]) -> u32 {
        let number = self.ids.len() as u32;
        self.parents.extend(parents);
        let Entry { position, timestamp, seq, known, what, needs, .. } = entry;
        self.ids.push(id);
        self.by_id.insert(reconcile::mark(&id), number);
        self.rows.push(Row {
            position,
            timestamp,
            chain,
            // A lane has no more events than there are numbers.
            seq: seq as u32,
            known,
            parents: self.parents.len() as u32,
            what,
            needs,
        });
        let ids = &self.ids;
        self.by_id.grow(|number| reconcile::mark(&ids[number as usize]));
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

/// Events in one bucket on average.
const BUCKET: usize = 16;

/// Finds numbers by the beginnings of ids. Ids are hashes, so buckets by some of their bits fill evenly; with
/// every sixteenth event one bucket is split in two, so that nothing here ever waits for the whole to be
/// rebuilt. Buckets are sorted: whoever grinds ids into one bucket makes it longer to write to, not to
/// search. It is only ever asked for single ids, so its order shows nowhere.
struct Index {
    /// Of each event bits of its id that say nothing about its bucket, and its number.
    buckets: Vec<Vec<(u32, u32)>>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { buckets: vec![Vec::new()], len: 0 }
    }
}

impl Index {
    /// Of all that was put in under this mark, and perhaps some more.
    fn near(&self, mark: u64) -> impl Iterator<Item = u32> + '_ {
        let bucket = &self.buckets[self.bucket(mark)];
        let first = bucket.partition_point(|(bits, _)| *bits < high(mark));
        bucket[first..].iter().take_while(move |(bits, _)| *bits == high(mark)).map(|(_, number)| *number)
    }

    fn insert(&mut self, mark: u64, number: u32) {
        let at = self.bucket(mark);
        let bucket = &mut self.buckets[at];
        let place = bucket.partition_point(|held| *held < (high(mark), number));
        bucket.insert(place, (high(mark), number));
        self.len += 1;
    }

    /// Splits the bucket whose turn it is, if there are too few; `mark_of` tells the mark of a number.
    fn grow(&mut self, mark_of: impl Fn(u32) -> u64) {
        if self.len <= self.buckets.len() * BUCKET {
            return;
        }
        let full = 1 << self.buckets.len().ilog2();
        let turn = self.buckets.len() - full;
        let bucket = std::mem::take(&mut self.buckets[turn]);
        let (stays, goes): (Vec<_>, Vec<_>) =
            bucket.into_iter().partition(|(_, number)| mark_of(*number) & full as u64 == 0);
        self.buckets[turn] = stays;
        self.buckets.push(goes);
    }

    /// By as many low bits of the mark as there are buckets for.
    fn bucket(&self, mark: u64) -> usize {
        let full = 1u64 << self.buckets.len().ilog2();
        let twice = (mark & (2 * full - 1)) as usize;
        if twice < self.buckets.len() { twice } else { (mark & (full - 1)) as usize }
    }
}

fn high(mark: u64) -> u32 {
    (mark >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_and_no_other() {
        let mut events = Events::default();
        let id = |number: u32| EventId(*blake3::hash(&number.to_le_bytes()).as_bytes());
        // One that begins like another, and differs in its end alone.
        let twin = |number: u32| {
            let mut twin = id(number);
            twin.0[31] ^= 1;
            twin
        };
        let entry = |number: u32, id: EventId| Entry {
            position: number.into(),
            timestamp: Timestamp(number.into()),
            chain: id,
            seq: 0,
            known: Known::default(),
            what: EventKind::Other,
            needs: None,
        };
        for number in 0..5_000 {
            assert_eq!(events.number(&id(number)), None);
            events.push(id(number), entry(number, id(number)), number, &[]);
            let earlier = number / 2;
            assert_eq!(events.number(&id(earlier)), Some(earlier));
        }
        for number in 0..5_000 {
            assert_eq!(events.number(&id(number)), Some(number));
            assert_eq!(events.number(&twin(number)), None);
            assert_eq!(events.beginning(reconcile::mark(&twin(number))).collect::<Vec<_>>(), [number]);
        }
        events.push(twin(7), entry(5_000, twin(7)), 5_000, &[7, 8]);
        assert_eq!((events.number(&id(7)), events.number(&twin(7))), (Some(7), Some(5_000)));
        assert_eq!((events.parents(5_000), events.parents(0)), (&[7, 8][..], &[][..]));
        let longest = events.by_id.buckets.iter().map(Vec::len).max();
        assert!(events.by_id.buckets.len() > 300 && longest < Some(64));
    }
}

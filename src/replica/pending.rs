//! Events that wait for their past. Bounded in number and in bytes: what does not fit is dropped, and
//! reconciliation brings it again, in an order in which nothing has to wait.

use std::collections::{BTreeMap, BTreeSet};

use super::Parcel;
use crate::base::{EventId, limits};

/// Bytes of waiting events of one channel.
const PENDING_BYTES: usize = 2 * 1024 * 1024;

/// What became of an event that was to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// It waits now.
    New,
    /// It waits already.
    Already,
    /// There is no room.
    Full,
}

/// Waiting events of one channel.
#[derive(Default)]
pub struct Pending {
    bytes: usize,
    waiting: BTreeMap<EventId, Parcel>,
    /// Missing event → those that wait for it.
    by_missing: BTreeMap<EventId, BTreeSet<EventId>>,
}

impl Pending {
    /// Lets an event wait for one of its missing ancestors.
    pub fn hold(&mut self, parcel: Parcel, missing: EventId) -> Held {
        let id = parcel.event.id();
        if self.waiting.contains_key(&id) {
            return Held::Already;
        }
        let size = parcel.size();
        if self.waiting.len() >= limits::PENDING_EVENTS || self.bytes + size > PENDING_BYTES {
            return Held::Full;
        }
        self.bytes += size;
        self.waiting.insert(id, parcel);
        self.by_missing.entry(missing).or_default().insert(id);
        Held::New
    }

    /// Takes out what waited for this event, oldest first.
    pub fn release(&mut self, arrived: &EventId) -> Vec<Parcel> {
        let ids = self.by_missing.remove(arrived).unwrap_or_default();
        let mut parcels: Vec<Parcel> = ids.iter().filter_map(|id| self.waiting.remove(id)).collect();
        self.bytes -= parcels.iter().map(Parcel::size).sum::<usize>();
        parcels.sort_by_key(|parcel| (parcel.event.header.timestamp, parcel.event.id()));
        parcels
    }

    /// Drops what waited for this event, and for what waited for it: it can never be taken in.
    pub fn abandon(&mut self, refused: &EventId) {
        let mut gone = vec![*refused];
        while let Some(id) = gone.pop() {
            gone.extend(self.release(&id).iter().map(|parcel| parcel.event.id()));
        }
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Author, founded, nothing};
    use super::*;

    fn parcels(count: usize) -> Vec<Parcel> {
        let author = Author::new("a");
        let (mut replica, _) = founded(&author);
        (0..count).map(|n| author.say(&mut replica, 2_000 + n as u64, "waiting")).collect()
    }

    #[test]
    fn what_waits_is_released_once_oldest_first_and_counted() {
        let mut pending = Pending::default();
        let parcels = parcels(3);
        for parcel in parcels.iter().rev() {
            assert_eq!(pending.hold(parcel.clone(), nothing(1)), Held::New);
            assert_eq!(pending.hold(parcel.clone(), nothing(2)), Held::Already);
        }
        assert_eq!(pending.bytes(), parcels.iter().map(Parcel::size).sum::<usize>());
        assert!(pending.release(&nothing(2)).is_empty());
        assert_eq!(pending.release(&nothing(1)), parcels);
        assert!(pending.release(&nothing(1)).is_empty());
        assert_eq!((pending.len(), pending.bytes(), pending.by_missing.len()), (0, 0, 0));
    }

    #[test]
    fn what_hangs_on_something_refused_goes_with_it() {
        let mut pending = Pending::default();
        let parcels = parcels(3);
        pending.hold(parcels[0].clone(), nothing(1));
        pending.hold(parcels[1].clone(), parcels[0].event.id());
        pending.hold(parcels[2].clone(), nothing(2));
        pending.abandon(&nothing(1));
        assert_eq!((pending.len(), pending.bytes()), (1, parcels[2].size()));
    }

    #[test]
    fn there_is_an_end_to_waiting() {
        let mut pending = Pending { bytes: PENDING_BYTES - 10, ..Pending::default() };
        assert_eq!(pending.hold(parcels(1).remove(0), nothing(1)), Held::Full);
    }
}

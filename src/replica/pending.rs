//! Events that wait for their past. Bounded: what does not fit is dropped, and reconciliation
//! brings it again.

use std::collections::{BTreeMap, BTreeSet};

use super::Parcel;
use crate::base::{EventId, limits};

/// Waiting events of one channel.
#[derive(Default)]
pub struct Pending {
    waiting: BTreeMap<EventId, Parcel>,
    /// Missing event → those that wait for it.
    by_missing: BTreeMap<EventId, BTreeSet<EventId>>,
}

impl Pending {
    /// Lets an event wait for one of its missing ancestors. False if there is no room.
    pub fn hold(&mut self, parcel: Parcel, missing: EventId) -> bool {
        let id = parcel.event.id();
        if self.waiting.contains_key(&id) {
            return true;
        }
        if self.waiting.len() >= limits::PENDING_EVENTS {
            return false;
        }
        self.waiting.insert(id, parcel);
        self.by_missing.entry(missing).or_default().insert(id);
        true
    }

    /// Takes out what waited for this event, oldest first.
    pub fn release(&mut self, arrived: &EventId) -> Vec<Parcel> {
        let ids = self.by_missing.remove(arrived).unwrap_or_default();
        let mut parcels: Vec<Parcel> = ids.iter().filter_map(|id| self.waiting.remove(id)).collect();
        parcels.sort_by_key(|parcel| (parcel.event.header.timestamp, parcel.event.id()));
        parcels
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

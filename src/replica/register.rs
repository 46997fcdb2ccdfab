//! One value that several may set at once (rule R7).

use std::collections::BTreeSet;

use crate::base::EventId;

/// The candidates that no other candidate's author had seen, best first.
#[derive(Clone, Debug)]
pub(super) struct Register<T> {
    candidates: Vec<(u32, EventId, T)>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { candidates: Vec::new() }
    }
}

impl<T> Register<T> {
    /// Sets a value. `overruled` are the earlier events that its author had seen. Among what
    /// remains the lower rank wins, then the smaller event id: never an author-chosen time. The
    /// result depends on the set of events alone, not on the order they came in.
    pub fn set(&mut self, rank: u32, event: EventId, value: T, overruled: &BTreeSet<EventId>) {
        self.candidates.retain(|(_, id, _)| !overruled.contains(id));
        self.candidates.push((rank, event, value));
        self.candidates.sort_by_key(|(rank, id, _)| (*rank, *id));
    }

    /// The value that counts.
    pub fn get(&self) -> Option<&T> {
        self.candidates.first().map(|(_, _, value)| value)
    }

    /// The events whose values still compete.
    pub fn events(&self) -> impl Iterator<Item = EventId> + '_ {
        self.candidates.iter().map(|(_, id, _)| *id)
    }
}

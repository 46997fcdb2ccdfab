//! One value that several may set at once (rule R7).

use std::collections::{BTreeMap, BTreeSet};

use crate::base::EventId;

/// Every value that was ever set: what is void today may have overruled what counts tomorrow.
#[derive(Clone, Debug)]
pub(super) struct Register<T> {
    entries: BTreeMap<EventId, Entry<T>>,
    /// The entries that no other entry's author had seen.
    newest: BTreeSet<EventId>,
    winner: Option<EventId>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    rank: u32,
    value: T,
    /// The newest entries its author had seen.
    sees: BTreeSet<EventId>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), newest: BTreeSet::new(), winner: None }
    }
}

impl<T> Register<T> {
    /// The entries in the past of an event to come, as far as [`Register::insert`] needs them.
    /// `in_past` tells which of some events lie there.
    pub fn seen(&self, in_past: impl Fn(&BTreeSet<EventId>) -> BTreeSet<EventId>) -> BTreeSet<EventId> {
        let mut seen = BTreeSet::new();
        let mut asked: BTreeSet<EventId> = BTreeSet::new();
        let mut open = self.newest.clone();
        while !open.is_empty() {
            let found = in_past(&open);
            asked.extend(&open);
            let missed = open.iter().filter(|id| !found.contains(id)).filter_map(|id| self.entries.get(id));
            let next = missed.flat_map(|entry| entry.sees.iter().copied());
            open = next.filter(|id| !asked.contains(id)).collect();
            seen.extend(found);
        }
        seen
    }

    /// Adds a value; `sees` are what [`Register::seen`] found. Call [`Register::settle`] afterwards.
    pub fn insert(&mut self, rank: u32, event: EventId, value: T, sees: BTreeSet<EventId>) {
        self.newest.retain(|id| !sees.contains(id));
        self.newest.insert(event);
        self.entries.insert(event, Entry { rank, value, sees });
    }

    /// Finds the value that counts. Among the effective ones that no effective one's author had seen
    /// the lower rank wins, then the smaller event id: never an author-chosen time.
    pub fn settle(&mut self, is_effective: impl Fn(&EventId) -> bool) {
        let mut candidates: BTreeSet<(u32, EventId)> = BTreeSet::new();
        let mut open: Vec<EventId> = self.newest.iter().copied().collect();
        let mut met: BTreeSet<EventId> = self.newest.clone();
        while let Some(id) = open.pop() {
            let Some(entry) = self.entries.get(&id) else { continue };
            if is_effective(&id) {
                candidates.insert((entry.rank, id));
            } else {
                open.extend(entry.sees.iter().copied().filter(|id| met.insert(*id)));
            }
        }
        if candidates.len() > 1 {
            let overruled = self.below(candidates.iter().map(|(_, id)| *id));
            candidates.retain(|(_, id)| !overruled.contains(id));
        }
        self.winner = candidates.first().map(|(_, id)| *id);
    }

    /// Everything that lies in the past of some of these.
    fn below(&self, of: impl Iterator<Item = EventId>) -> BTreeSet<EventId> {
        let mut below = BTreeSet::new();
        let mut open: Vec<EventId> = of.collect();
        while let Some(entry) = open.pop().and_then(|id| self.entries.get(&id)) {
            open.extend(entry.sees.iter().copied().filter(|id| below.insert(*id)));
        }
        below
    }

    /// The value that counts.
    pub fn get(&self) -> Option<&T> {
        Some(&self.entries.get(&self.winner?)?.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> EventId {
        EventId([number; 32])
    }

    fn set(register: &mut Register<u8>, rank: u32, number: u8, past: &[u8]) {
        let past: BTreeSet<EventId> = past.iter().map(|number| id(*number)).collect();
        let sees = register.seen(|asked| asked.intersection(&past).copied().collect());
        register.insert(rank, id(number), number, sees);
        register.settle(|_| true);
    }

    #[test]
    fn lower_rank_then_smaller_id_wins_among_those_that_did_not_see_each_other() {
        let mut register = Register::default();
        set(&mut register, 1000, 1, &[]);
        set(&mut register, 0, 9, &[]);
        assert_eq!(register.get(), Some(&9));
        set(&mut register, 0, 5, &[]);
        assert_eq!(register.get(), Some(&5));
        set(&mut register, 1000, 7, &[5, 9]);
        assert_eq!(register.get(), Some(&1), "7 saw both founders, not 1, whose id is smaller");
    }

    #[test]
    fn what_a_void_value_overruled_counts_again() {
        let mut register = Register::default();
        set(&mut register, 0, 1, &[]);
        set(&mut register, 0, 2, &[1]);
        set(&mut register, 5, 3, &[1]);
        register.settle(|event| *event != id(2));
        assert_eq!(register.get(), Some(&3), "1 stays overruled by 3");
        register.settle(|event| *event == id(1));
        assert_eq!(register.get(), Some(&1));
        register.settle(|_| false);
        assert_eq!(register.get(), None);
    }

    proptest! {
        /// Each event has some of those before it in its past, whose pasts it shares; any order that
        /// respects that gives the winner that the definition names, whatever is void.
        #[test]
        fn the_order_does_not_matter(
            sees in prop::collection::vec(any::<u8>(), 8),
            ranks in prop::collection::vec(0u32..3, 8),
            void in any::<u8>(),
            order in Just((0usize..8).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut pasts: Vec<BTreeSet<usize>> = Vec::new();
            for (event, sees) in sees.iter().enumerate() {
                let direct: Vec<usize> = (0..event).filter(|other| sees >> other & 1 == 1).collect();
                let past = direct.iter().flat_map(|seen| pasts[*seen].iter().chain([seen]).copied());
                let past: BTreeSet<usize> = past.collect();
                pasts.push(past);
            }
            let effective = |event: usize| void >> event & 1 == 0;
            let play = |order: &[usize]| {
                let mut register = Register::default();
                let mut done = BTreeSet::new();
                while done.len() < order.len() {
                    for event in order {
                        if !done.contains(event) && pasts[*event].is_subset(&done) {
                            let past: Vec<u8> = pasts[*event].iter().map(|seen| *seen as u8).collect();
                            set(&mut register, ranks[*event], *event as u8, &past);
                            done.insert(*event);
                        }
                    }
                }
                register.settle(|event| effective(usize::from(event.0[0])));
                register.get().copied()
            };
            let stands = |event: &usize| {
                effective(*event) && !(0..8).any(|other| effective(other) && pasts[other].contains(event))
            };
            let expect = (0..8).filter(stands).min_by_key(|event| (ranks[*event], *event));
            prop_assert_eq!(play(&(0..8).collect::<Vec<_>>()).map(usize::from), expect);
            prop_assert_eq!(play(&order).map(usize::from), expect);
        }
    }
}

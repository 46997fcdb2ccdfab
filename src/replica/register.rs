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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> EventId {
        EventId([number; 32])
    }

    #[test]
    fn lower_rank_then_smaller_id_wins_among_those_that_did_not_see_each_other() {
        let none = BTreeSet::new();
        let mut register = Register::default();
        register.set(1000, id(1), "member", &none);
        register.set(0, id(9), "founder", &none);
        assert_eq!(register.get(), Some(&"founder"));
        register.set(0, id(5), "another founder", &none);
        assert_eq!(register.get(), Some(&"another founder"));
        register.set(1000, id(7), "who saw both", &[id(5), id(9)].into());
        assert_eq!(register.get(), Some(&"member"), "saw both founders, not the member");
    }

    proptest! {
        /// Each event overrules some of those before it; any order that respects that gives one
        /// result. `sees` closes under itself, as a past does.
        #[test]
        fn the_order_does_not_matter(
            sees in prop::collection::vec(any::<u8>(), 8),
            ranks in prop::collection::vec(0u32..3, 8),
            order in Just((0usize..8).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut pasts: Vec<BTreeSet<usize>> = Vec::new();
            for (event, sees) in sees.iter().enumerate() {
                let direct: Vec<usize> = (0..event).filter(|other| sees >> other & 1 == 1).collect();
                let past = direct.iter().flat_map(|seen| pasts[*seen].iter().chain([seen]).copied());
                let past: BTreeSet<usize> = past.collect();
                pasts.push(past);
            }
            let play = |order: &[usize]| {
                let mut register = Register::default();
                let mut done = BTreeSet::new();
                while done.len() < order.len() {
                    for event in order {
                        if !done.contains(event) && pasts[*event].is_subset(&done) {
                            let held: BTreeSet<EventId> = register.events().collect();
                            let past = pasts[*event].iter().map(|seen| id(*seen as u8));
                            let overruled = past.filter(|seen| held.contains(seen)).collect();
                            register.set(ranks[*event], id(*event as u8), *event, &overruled);
                            done.insert(*event);
                        }
                    }
                }
                (register.get().copied(), register.events().collect::<Vec<_>>())
            };
            prop_assert_eq!(play(&(0..8).collect::<Vec<_>>()), play(&order));
        }
    }
}

//! Walks back through the history. Rare: only what several may set at once and what takes roles
//! away has to know which events lie in a past.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::past::Known;
use super::{Chain, Replica};
use crate::base::{EventId, Identity, Timestamp};

impl Replica {
    /// Those of `wanted` that are among `from` or in their past. One walk back for all of them, never
    /// past the oldest that is still looked for; a chain met anywhere answers for what it holds before.
    pub(super) fn in_past(&self, wanted: &BTreeSet<EventId>, from: &[u32]) -> BTreeSet<EventId> {
        let goal = |id: &EventId| {
            let number = self.events.number(id)?;
            Some((*id, self.events.place(number), self.events.timestamp(number)))
        };
        let mut goals: Vec<_> = wanted.iter().filter_map(goal).collect();
        let mut found: BTreeSet<EventId> = BTreeSet::new();
        let mut open: Vec<u32> = from.to_vec();
        let mut seen: BTreeSet<u32> = from.iter().copied().collect();
        while let Some(number) = open.pop() {
            let (chain, seq) = self.events.place(number);
            goals.retain(|(id, goal, _)| {
                let holds = chain == goal.0 && seq >= goal.1;
                if holds {
                    found.insert(*id);
                }
                !holds
            });
            let Some(oldest) = goals.iter().map(|(_, _, timestamp)| *timestamp).min() else { break };
            if self.events.timestamp(number) >= oldest {
                open.extend(self.events.parents(number).iter().filter(|parent| seen.insert(**parent)));
            }
        }
        found
    }

    /// How far the past of an event with these parents reaches into each lane of a person: how many of
    /// its events lie there. Newest events first, and never past the oldest that could still add some.
    pub(super) fn reach_into(&self, person: &Identity, from: &[u32]) -> BTreeMap<EventId, u64> {
        let mut reached: BTreeMap<EventId, u64> =
            self.authorities.lanes_through(person).map(|lane| (lane.opening, 0)).collect();
        let newest_first = |number: &u32| (self.events.timestamp(*number), *number);
        let mut open: BinaryHeap<(Timestamp, u32)> = from.iter().map(newest_first).collect();
        let mut seen: BTreeSet<u32> = from.iter().copied().collect();
        let mut oldest = self.oldest_beyond(&reached);
        while let Some((timestamp, number)) = open.pop() {
            if oldest.is_none_or(|limit| timestamp < limit) {
                break;
            }
            let entry = self.events.at(number);
            if let Some(count) = reached.get_mut(&self.lane_id(&entry.chain))
                && entry.seq >= *count
            {
                *count = entry.seq + 1;
                oldest = self.oldest_beyond(&reached);
            }
            let parents = self.events.parents(number).iter().filter(|parent| seen.insert(**parent));
            open.extend(parents.map(newest_first));
        }
        reached.retain(|_, count| *count > 0);
        reached
    }

    /// The time of the oldest event that would add to what was reached; none if nothing could.
    fn oldest_beyond(&self, reached: &BTreeMap<EventId, u64>) -> Option<Timestamp> {
        let next = reached.iter().filter_map(|(id, count)| {
            let lane = self.authorities.lanes.get(id)?;
            if lane.forked_at.is_some_and(|fork| *count >= fork) {
                return None;
            }
            Some(self.events.timestamp(lane.trunk.event(*count)?))
        });
        next.min()
    }

    /// The authority events known to whoever saw these events.
    pub(super) fn known_to(&mut self, parents: &[u32]) -> Known {
        let mut known = Known::default();
        for parent in parents {
            known = self.pasts.union(known, self.events.known(*parent));
        }
        known
    }

    /// The lane that a chain is part of.
    pub(super) fn lane_id(&self, chain: &EventId) -> EventId {
        self.branches.get(chain).map_or(*chain, |branch| branch.lane)
    }

    pub(super) fn chain(&self, id: &EventId) -> Option<&Chain> {
        self.branches.get(id).or_else(|| self.authorities.lanes.get(id).map(|lane| &lane.trunk))
    }

    pub(super) fn chain_mut(&mut self, id: &EventId) -> Option<&mut Chain> {
        match self.branches.get_mut(id) {
            Some(branch) => Some(branch),
            None => self.authorities.lanes.get_mut(id).map(|lane| &mut lane.trunk),
        }
    }
}

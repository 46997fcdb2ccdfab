//! Walks back through the history. Rare: only what several may set at once and what takes roles
//! away has to know which events lie in a past.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::past::Known;
use super::{Chain, Entry, Replica};
use crate::base::{EventId, Identity, Timestamp};

impl Replica {
    /// Those of `wanted` that are among `from` or in their past. One walk back for all of them, never
    /// past the oldest that is still looked for; a chain met anywhere answers for what it holds before.
    pub(super) fn in_past(&self, wanted: BTreeSet<EventId>, from: &[EventId]) -> BTreeSet<EventId> {
        let mut goals: Vec<(EventId, &Entry)> =
            wanted.into_iter().filter_map(|id| Some((id, self.events.get(&id)?))).collect();
        let mut found: BTreeSet<EventId> = BTreeSet::new();
        let mut open: Vec<EventId> = from.to_vec();
        let mut seen: BTreeSet<EventId> = from.iter().copied().collect();
        while let Some(entry) = open.pop().and_then(|id| self.events.get(&id)) {
            goals.retain(|(id, goal)| {
                let holds = entry.chain == goal.chain && entry.seq >= goal.seq;
                if holds {
                    found.insert(*id);
                }
                !holds
            });
            let Some(oldest) = goals.iter().map(|(_, goal)| goal.timestamp).min() else { break };
            if entry.timestamp >= oldest {
                open.extend(entry.parents.iter().copied().filter(|parent| seen.insert(*parent)));
            }
        }
        found
    }

    /// How far the past of an event with these parents reaches into each lane of a person: how many of
    /// its events lie there. Newest events first, and never past the oldest that could still add some.
    pub(super) fn reach_into(&self, person: &Identity, from: &[EventId]) -> BTreeMap<EventId, u64> {
        let mut reached: BTreeMap<EventId, u64> =
            self.authorities.lanes_through(person).map(|lane| (lane.opening, 0)).collect();
        let newest_first = |id: EventId| Some((self.events.get(&id)?.timestamp, id));
        let mut open: BinaryHeap<(Timestamp, EventId)> =
            from.iter().filter_map(|id| newest_first(*id)).collect();
        let mut seen: BTreeSet<EventId> = from.iter().copied().collect();
        let mut oldest = self.oldest_beyond(&reached);
        while let Some((timestamp, id)) = open.pop() {
            let (Some(limit), Some(entry)) = (oldest, self.events.get(&id)) else { break };
            if timestamp < limit {
                break;
            }
            if let Some(count) = reached.get_mut(&self.lane_id(&entry.chain))
                && entry.seq >= *count
            {
                *count = entry.seq + 1;
                oldest = self.oldest_beyond(&reached);
            }
            let parents = entry.parents.iter().copied().filter(|parent| seen.insert(*parent));
            open.extend(parents.filter_map(newest_first));
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
            Some(self.events.get(&lane.trunk.event(*count)?)?.timestamp)
        });
        next.min()
    }

    /// The authority events known to whoever saw these events.
    pub(super) fn known_to(&mut self, parents: &[EventId]) -> Known {
        let mut known = Known::default();
        for parent in parents {
            let Some(entry) = self.events.get(parent) else { continue };
            known = self.pasts.union(known, entry.known);
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

//! How two replicas of a channel find out what each lacks. Lanes are linear, so "how far along
//! each lane" names a set of events exactly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Replica;
use crate::base::{Digest, EventId};

/// How far a replica reaches: for each lane the number of its events, ascending by lane.
pub type Extent = BTreeMap<EventId, u64>;

/// A set hash: the sum of the ids as 256-bit integers, so that order does not matter and adding
/// costs the same however large the set. It tells honest replicas whether they differ; a peer that
/// forges it only delays its own reconciliation.
#[derive(Clone, Default, Debug)]
pub(super) struct Fingerprint {
    sum: [u64; 4],
    count: u64,
}

impl Fingerprint {
    pub fn add(&mut self, id: &EventId) {
        let mut carry = false;
        for (limb, bytes) in self.sum.iter_mut().zip(id.0.chunks_exact(8)) {
            let word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
            let (partial, over) = limb.overflowing_add(word);
            let (total, over_again) = partial.overflowing_add(u64::from(carry));
            *limb = total;
            carry = over || over_again;
        }
        self.count += 1;
    }

    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for word in self.sum.iter().chain([&self.count]) {
            hasher.update(&word.to_le_bytes());
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

impl Replica {
    /// How far this replica reaches.
    pub fn extent(&self) -> Extent {
        self.lanes.iter().map(|(id, lane)| (*id, lane.next_seq())).collect()
    }

    /// Whether a replica with extent `theirs` has events this one lacks.
    pub fn lacks(&self, theirs: &Extent) -> bool {
        theirs.iter().any(|(id, count)| *count > self.lanes.get(id).map_or(0, |lane| lane.next_seq()))
    }

    /// Positions of events that a replica with extent `theirs` lacks, in the order of this node's
    /// log (so that no event comes before its past), at most `limit`, and whether there are more.
    pub fn beyond(&self, theirs: &Extent, limit: usize) -> (Vec<u64>, bool) {
        let mut next: BinaryHeap<Reverse<(u64, EventId, u64)>> = self
            .lanes
            .iter()
            .filter_map(|(id, lane)| {
                let seq = theirs.get(id).copied().unwrap_or(0);
                Some(Reverse((lane.position(seq)?, *id, seq)))
            })
            .collect();
        let mut positions = Vec::new();
        while let Some(Reverse((position, id, seq))) = next.pop() {
            if positions.len() == limit {
                return (positions, true);
            }
            positions.push(position);
            if let Some(position) = self.lanes.get(&id).and_then(|lane| lane.position(seq + 1)) {
                next.push(Reverse((position, id, seq + 1)));
            }
        }
        (positions, false)
    }
}

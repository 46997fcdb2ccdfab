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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{Author, founded, nothing};
    use super::*;

    #[test]
    fn an_extent_names_what_lies_beyond_it_whatever_it_claims() {
        let author = Author::new("a");
        let (mut replica, founding) = founded(&author);
        for number in 0..9 {
            author.say(&mut replica, 2_000 + number, "line");
        }
        let lane = founding.id();
        let beyond = |count: u64, limit| replica.beyond(&[(lane, count)].into(), limit);
        assert_eq!(replica.beyond(&Extent::new(), 99), ((1..=10).collect(), false));
        assert_eq!(beyond(4, 3), (vec![5, 6, 7], true));
        assert_eq!(beyond(4, 6), ((5..=10).collect(), false));
        for claim in [10, 11, u64::MAX] {
            assert_eq!(beyond(claim, 3), (vec![], false));
            assert_eq!(replica.lacks(&[(lane, claim)].into()), claim > 10);
        }
        assert_eq!(replica.beyond(&[(nothing(1), 5)].into(), 1), (vec![1], true));
        assert!(replica.lacks(&[(nothing(1), 1)].into()) && !replica.lacks(&[(nothing(1), 0)].into()));
    }

    proptest! {
        #[test]
        fn a_fingerprint_is_that_of_a_set(
            ids in prop::collection::btree_set(any::<[u8; 32]>(), 1..20).prop_flat_map(|ids| {
                let ids: Vec<[u8; 32]> = ids.into_iter().collect();
                (Just(ids.clone()), Just(ids).prop_shuffle())
            }),
        ) {
            let digest = |ids: &[[u8; 32]]| {
                let mut fingerprint = Fingerprint::default();
                ids.iter().for_each(|id| fingerprint.add(&EventId(*id)));
                fingerprint.digest()
            };
            let (ids, shuffled) = ids;
            prop_assert_eq!(digest(&ids), digest(&shuffled));
            prop_assert_ne!(digest(&ids), digest(&ids[1..]));
            let mut other = ids.clone();
            other[0][31] ^= 1;
            prop_assert_ne!(digest(&ids), digest(&other));
        }
    }
}

//! How two replicas of a channel find out what each lacks. Lanes are linear, so "how far along
//! each lane" names a set of events exactly.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};

use super::{Chain, Replica};
use crate::base::{Digest, EventId};

/// How far a replica reaches: for each lane, or part of a forked one, what it holds of it. Ascending.
pub type Extent = BTreeMap<EventId, Reach>;

/// What a replica holds of a chain of events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// The number of its events.
    pub count: u64,
    /// The first eight bytes of the newest event's id. Some chains carry more: those of the events 1,
    /// 2, 4, … before it and of the first. By these, replicas that hold different branches of a fork
    /// find the place where it forked.
    pub marks: Vec<u64>,
}

/// Chains of one extent that carry all their marks; which ones, changes from one round to the next.
const MARKED_CHAINS: usize = 8;

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
    /// How far this replica reaches. `round` chooses the chains that carry all their marks.
    pub fn extent(&self, round: u64) -> Extent {
        let trunks = self.authorities.lanes.iter().map(|(id, lane)| (*id, &lane.trunk));
        let chains = trunks.chain(self.branches.iter().map(|(id, branch)| (*id, branch)));
        let groups = (self.authorities.lanes.len() + self.branches.len()).div_ceil(MARKED_CHAINS).max(1);
        let marked = (round % groups as u64) as usize;
        let reach = |(at, (id, chain)): (usize, (EventId, &Chain))| {
            let marks = if at % groups == marked { self.marks(chain) } else { vec![mark(&chain.tip)] };
            (id, Reach { count: chain.events.len() as u64, marks })
        };
        chains.enumerate().map(reach).collect()
    }

    /// Whether a replica with extent `theirs` has events this one lacks.
    pub fn lacks(&self, theirs: &Extent) -> bool {
        theirs.values().any(|reach| reach.marks.first().is_some_and(|mark| self.marked(*mark).is_none()))
    }

    /// Positions of events that a replica with extent `theirs` lacks, in the order of this node's
    /// log (so that no event comes before its past), at most `limit`, and whether there are more.
    pub fn beyond(&self, theirs: &Extent, limit: usize) -> (Vec<u64>, bool) {
        let covered = self.covered(theirs);
        let trunks = self.authorities.lanes.iter().map(|(id, lane)| (*id, &lane.trunk));
        let chains = trunks.chain(self.branches.iter().map(|(id, branch)| (*id, branch)));
        let first = chains.filter_map(|(id, chain)| {
            let at = chain.base + covered.get(&id).copied().unwrap_or(0);
            Some(Reverse((self.position(chain, at)?, id, at)))
        });
        let mut next: BinaryHeap<Reverse<(u64, EventId, u64)>> = first.collect();
        let mut positions = Vec::new();
        while let Some(Reverse((position, id, seq))) = next.pop() {
            if positions.len() == limit {
                return (positions, true);
            }
            positions.push(position);
            if let Some(position) = self.chain(&id).and_then(|chain| self.position(chain, seq + 1)) {
                next.push(Reverse((position, id, seq + 1)));
            }
        }
        (positions, false)
    }

    /// How many events of each chain a replica with this extent surely has, or may have: what it names
    /// and all before it; and where it names nothing known, all of a chain of which it has as much.
    fn covered(&self, theirs: &Extent) -> BTreeMap<EventId, u64> {
        let mut covered: BTreeMap<EventId, u64> = BTreeMap::new();
        for (id, reach) in theirs {
            let Some(entry) = reach.marks.iter().find_map(|mark| self.marked(*mark)) else {
                // They are further than we are, or on another branch: their turn will tell.
                let ours = self.chain(id).map_or(0, |chain| chain.events.len() as u64);
                let count = covered.entry(*id).or_default();
                *count = (*count).max(ours.min(reach.count));
                continue;
            };
            let (mut at, mut end) = (Some(entry.chain), entry.seq + 1);
            while let Some((id, chain)) = at.and_then(|id| Some((id, self.chain(&id)?))) {
                let count = covered.entry(id).or_default();
                *count = (*count).max(end.saturating_sub(chain.base));
                (at, end) = (chain.before, chain.base);
            }
        }
        covered
    }

    /// The event whose id begins with these bytes.
    fn marked(&self, mark: u64) -> Option<super::Entry> {
        self.events.beginning(mark).next().map(|number| self.events.at(number))
    }

    /// Where in this node's log the event of this place lies.
    fn position(&self, chain: &Chain, seq: u64) -> Option<u64> {
        chain.event(seq).map(|number| self.events.position(number))
    }

    fn marks(&self, chain: &Chain) -> Vec<u64> {
        let last = chain.events.len().checked_sub(1);
        let back = std::iter::successors(Some(1), |back: &usize| back.checked_mul(2));
        let steps = std::iter::once(0).chain(back);
        let places =
            last.into_iter().flat_map(|last| steps.clone().map_while(move |step| last.checked_sub(step)));
        let mut places: Vec<usize> = places.collect();
        if places.last().is_some_and(|place| *place > 0) {
            places.push(0);
        }
        places.into_iter().map(|place| mark(&self.events.id(chain.events[place]))).collect()
    }
}

/// The first eight bytes of an id, as a number in the order of the ids.
pub(super) fn mark(id: &EventId) -> u64 {
    id.0.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
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
        let reach = |count: u64| Reach {
            count,
            marks: vec![mark(&replica.event(replica.chain(&lane).unwrap(), count - 1))],
        };
        let beyond = |count: u64, limit| replica.beyond(&[(lane, reach(count))].into(), limit);
        assert_eq!(replica.beyond(&Extent::new(), 99), ((1..=10).collect(), false));
        assert_eq!(beyond(4, 3), (vec![5, 6, 7], true));
        assert_eq!(beyond(4, 6), ((5..=10).collect(), false));
        assert_eq!(beyond(10, 3), (vec![], false));
        assert!(!replica.lacks(&[(lane, reach(10))].into()));
        let unknown = |count: u64| Extent::from([(lane, Reach { count, marks: vec![7] })]);
        for claim in [11, u64::MAX] {
            assert_eq!(replica.beyond(&unknown(claim), 3), (vec![], false));
            assert!(replica.lacks(&unknown(claim)));
        }
        let other = Extent::from([(nothing(1), Reach { count: 5, marks: vec![7] })]);
        assert_eq!(replica.beyond(&other, 1), (vec![1], true));
        assert!(replica.lacks(&other));
        let none = Extent::from([(nothing(1), Reach { count: 5, marks: vec![] })]);
        assert!(!replica.lacks(&none));
    }

    #[test]
    fn marks_reach_back_to_the_first_event() {
        let author = Author::new("a");
        let (mut replica, founding) = founded(&author);
        for number in 0..9 {
            author.say(&mut replica, 2_000 + number, "line");
        }
        let chain = replica.chain(&founding.id()).unwrap();
        let places: Vec<u64> = vec![9, 8, 7, 5, 1, 0];
        let expect: Vec<u64> = places.iter().map(|place| mark(&replica.event(chain, *place))).collect();
        assert_eq!(replica.marks(chain), expect);
        assert_eq!(replica.extent(0)[&founding.id()].marks, expect);
    }

    /// Two replicas hand each other what the other's extent says it lacks, until neither lacks any.
    fn exchange(left: &mut Replica, right: &mut Replica, events: &BTreeMap<EventId, super::super::Event>) {
        for round in 0..40 {
            for turn in 0..2 {
                let (from, to) = if turn == 0 { (&*left, &mut *right) } else { (&*right, &mut *left) };
                let (positions, _) = from.beyond(&to.extent(round), 512);
                let ids: Vec<EventId> = positions.iter().map(|position| from.at(*position)).collect();
                for id in ids {
                    to.admit(&events[&id], to.len() as u64 + 1);
                }
            }
            if left.fingerprint() == right.fingerprint() {
                return;
            }
        }
        panic!("they never agree");
    }

    impl Replica {
        /// The event at a place of the log.
        fn at(&self, position: u64) -> EventId {
            let mut numbers = 0..self.len() as u32;
            self.events.id(numbers.find(|number| self.events.position(*number) == position).unwrap())
        }

        fn event(&self, chain: &Chain, seq: u64) -> EventId {
            self.events.id(chain.event(seq).unwrap())
        }
    }

    #[test]
    fn replicas_on_different_branches_of_forks_find_them() {
        let (founder, one) = (Author::new("founder"), Author::new("one"));
        for (common, left_more, right_more) in [(0, 1, 1), (5, 1, 40), (30, 25, 25), (3, 0, 9)] {
            let (mut left, founding) = founded(&founder);
            let (mut right, _) = Replica::found(&founding, 1).unwrap();
            let mut events = BTreeMap::from([(founding.id(), founding)]);
            let join = one.act(&mut left, 2_000, one.join());
            right.admit(&join, 2);
            events.insert(join.id(), join);
            for number in 0..common {
                let event = one.say(&mut left, 2_001 + number, "both").event;
                right.admit(&event, right.len() as u64 + 1);
                events.insert(event.id(), event);
            }
            for (replica, text, more) in [(&mut left, "left", left_more), (&mut right, "right", right_more)] {
                for number in 0..more {
                    let event = one.say(replica, 3_000 + number, text).event;
                    events.insert(event.id(), event);
                }
            }
            exchange(&mut left, &mut right, &events);
            assert_eq!((left.len(), left.root()), (events.len(), right.root()));
            assert_eq!(left.extent(0), right.extent(0));
        }
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

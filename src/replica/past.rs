//! Which of a channel's few authority events (grants, revocations, the founding) lie in the past of
//! each of its many events. Sets are interned: nearly all events share one, so an event costs four
//! bytes here, and asking costs one bit test.

use std::collections::BTreeMap;

/// A set of authority events by their number in this replica, as a bit set without trailing zeros.
type Bits = Vec<u64>;

/// The name of an interned set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Known(u32);

/// Every set that some event knows.
#[derive(Debug)]
pub(super) struct Pasts {
    sets: Vec<Bits>,
    by_bits: BTreeMap<Bits, Known>,
    unions: BTreeMap<(Known, Known), Known>,
}

impl Default for Pasts {
    /// The empty set is `Known::default()`.
    fn default() -> Self {
        let by_bits = BTreeMap::from([(Bits::new(), Known::default())]);
        Self { sets: vec![Bits::new()], by_bits, unions: BTreeMap::new() }
    }
}

impl Pasts {
    pub fn contains(&self, set: Known, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, number % 64);
        self.sets[set.0 as usize].get(word).is_some_and(|bits| bits >> bit & 1 == 1)
    }

    /// The set with one more.
    pub fn with(&mut self, set: Known, number: u32) -> Known {
        let (word, bit) = (number as usize / 64, number % 64);
        let mut bits = self.sets[set.0 as usize].clone();
        bits.resize(bits.len().max(word + 1), 0);
        bits[word] |= 1 << bit;
        self.intern(bits)
    }

    /// The numbers in a set, ascending.
    pub fn numbers(&self, set: Known) -> impl Iterator<Item = u32> + '_ {
        let words = (0u32..).zip(&self.sets[set.0 as usize]);
        words.flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
    }

    /// The set of these numbers.
    pub fn of(&mut self, numbers: impl Iterator<Item = u32>) -> Known {
        let mut bits = Bits::new();
        for number in numbers {
            let word = number as usize / 64;
            bits.resize(bits.len().max(word + 1), 0);
            bits[word] |= 1 << (number % 64);
        }
        self.intern(bits)
    }

    pub fn union(&mut self, one: Known, other: Known) -> Known {
        if one == other {
            return one;
        }
        let pair = (one.min(other), one.max(other));
        if let Some(known) = self.unions.get(&pair) {
            return *known;
        }
        let (mut bits, other) = (self.sets[one.0 as usize].clone(), &self.sets[other.0 as usize]);
        bits.resize(bits.len().max(other.len()), 0);
        bits.iter_mut().zip(other).for_each(|(bits, other)| *bits |= other);
        let union = self.intern(bits);
        self.unions.insert(pair, union);
        union
    }

    fn intern(&mut self, bits: Bits) -> Known {
        if let Some(known) = self.by_bits.get(&bits) {
            return *known;
        }
        let known = Known(self.sets.len() as u32);
        self.sets.push(bits.clone());
        self.by_bits.insert(bits, known);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one() {
        let mut pasts = Pasts::default();
        let empty = Known::default();
        let three = pasts.with(empty, 3);
        let hundred = pasts.with(empty, 100);
        let both = pasts.union(three, hundred);
        assert_eq!(pasts.with(three, 100), both);
        assert_eq!(pasts.union(hundred, three), both);
        assert_eq!(pasts.union(both, empty), both);
        assert_eq!(pasts.with(both, 3), both);
        let held = |set| (0..200).filter(|n| pasts.contains(set, *n)).collect::<Vec<_>>();
        assert_eq!((held(empty), held(both)), (vec![], vec![3, 100]));
        assert_eq!(pasts.numbers(both).collect::<Vec<_>>(), [3, 100]);
        assert_eq!((pasts.of([100, 3].into_iter()), pasts.of(std::iter::empty())), (both, empty));
    }
}

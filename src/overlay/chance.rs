//! Chance as an argument: numbers that follow from a seed, and that nobody without the seed foretells.
//!
//! BLAKE3 in counter mode under the seed as key. An adversary who could foretell which neighbour a node
//! replaces next could wait at its door, so a fast generator without a secret would not do.

/// A stream of numbers from one seed.
#[derive(Clone)]
pub struct Chance {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    /// The stream of a small seed and a number that tells streams of one run apart.
    pub fn numbered(seed: u64, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 numbered stream of chance");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        Self::new(*hasher.finalize().as_bytes())
    }

    /// 64 even bits.
    pub fn bits(&mut self) -> u64 {
        if self.used + 8 > self.block.len() {
            self.block = *blake3::keyed_hash(&self.seed, &self.counter.to_le_bytes()).as_bytes();
            self.counter += 1;
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`; 0 if `bound` is 0. Its bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// `count` of the items, each at most once, in no order.
    pub fn sample<T: Clone>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut rest: Vec<T> = items.to_vec();
        for at in 0..count.min(rest.len()) {
            let other = at + self.below(rest.len() - at);
            rest.swap(at, other);
        }
        rest.truncate(count);
        rest
    }

    /// A period of about `ms`: between three quarters and five quarters of it, so that nodes that
    /// started together do not act together.
    pub fn about(&mut self, ms: u64) -> u64 {
        ms * 3 / 4 + self.below((ms / 2) as usize + 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b, mut c) = (Chance::numbered(1, 2), Chance::numbered(1, 2), Chance::numbered(1, 3));
        let first: Vec<u64> = (0..100).map(|_| a.bits()).collect();
        assert_eq!(first, (0..100).map(|_| b.bits()).collect::<Vec<_>>());
        assert_ne!(first[0], c.bits());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut chance = Chance::numbered(7, 0);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[chance.below(10)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
        assert!(chance.pick::<u8>(&[]).is_none());
        let mut sample = chance.sample(&[1, 2, 3, 4], 3);
        sample.sort_unstable();
        sample.dedup();
        assert_eq!(sample.len(), 3);
    }
}

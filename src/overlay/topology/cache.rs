//! What a member has seen of late: ids, so that nothing is delivered twice, and payloads, so that others
//! can ask for them. Owns both bounds; never sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::frame::IDS;
use super::{MessageId, Payload};
use crate::base::Timestamp;

/// Ids remembered; beyond it the oldest are forgotten, and would be taken for new.
const IDS_KEPT: usize = 32_768;
/// Bytes of payloads kept; beyond it the oldest are let go, their ids stay.
const BYTES_KEPT: usize = 16 * 1024 * 1024;
/// How long ids and payloads are kept.
pub const KEEP_MS: u64 = 120_000;
/// Ids younger than this are left out of fingerprints: they are still on their way to others.
const SETTLE_MS: u64 = 3_000;

/// Recent ids and payloads.
#[derive(Default)]
pub struct Cache {
    seen: BTreeMap<MessageId, Seen>,
    order: VecDeque<MessageId>,
    /// Those of `order` whose payload was let go.
    bare: usize,
    bytes: usize,
}

struct Seen {
    at: Timestamp,
    hops: u8,
    payload: Option<Payload>,
}

impl Cache {
    /// Takes a payload in. Returns whether it is new.
    pub fn insert(&mut self, now: Timestamp, payload: &Payload, hops: u8) -> bool {
        self.expire(now);
        let id = payload.id();
        if self.seen.contains_key(&id) {
            return false;
        }
        self.bytes += payload.bytes().len();
        self.seen.insert(id, Seen { at: now, hops, payload: Some(payload.clone()) });
        self.order.push_back(id);
        while self.order.len() > IDS_KEPT {
            self.pop();
        }
        while self.bytes > BYTES_KEPT {
            self.let_go();
        }
        true
    }

    /// Whether it was seen.
    pub fn has(&self, id: &MessageId) -> bool {
        self.seen.contains_key(id)
    }

    /// The payload, while it is kept, and its hops.
    pub fn get(&self, id: &MessageId) -> Option<(Payload, u8)> {
        let seen = self.seen.get(id)?;
        Some((seen.payload.clone()?, seen.hops))
    }

    /// The newest id that has been here for `age_ms`.
    pub fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId> {
        self.newest(now, age_ms).find(|id| self.get(id).is_some())
    }

    /// A fingerprint of the ids kept, the youngest apart. Equal fingerprints mean equal sets.
    pub fn fingerprint(&self, now: Timestamp) -> [u8; 16] {
        // Sorted and hashed, not summed: sums of chosen ids can be made to agree.
        let ids: BTreeSet<MessageId> = self.newest(now, SETTLE_MS).take(IDS).collect();
        let mut hasher = blake3::Hasher::new();
        for id in &ids {
            hasher.update(&id.0);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        short
    }

    /// The newest ids, as many as one message takes, those apart that are still on their way.
    pub fn recent(&self, now: Timestamp) -> Vec<MessageId> {
        self.newest(now, SETTLE_MS).filter(|id| self.get(id).is_some()).take(IDS).collect()
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(id) = self.order.front() {
            match self.seen.get(id) {
                Some(seen) if now.since_ms(seen.at) < KEEP_MS => break,
                _ => self.pop(),
            }
        }
    }

    fn newest(&self, now: Timestamp, age_ms: u64) -> impl Iterator<Item = MessageId> {
        let old = move |id: &&MessageId| {
            self.seen.get(*id).is_some_and(|seen| {
                let age = now.since_ms(seen.at);
                age >= age_ms && age < KEEP_MS
            })
        };
        self.order.iter().rev().filter(old).copied()
    }

    fn pop(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        match self.seen.remove(&id).and_then(|seen| seen.payload) {
            Some(payload) => self.bytes -= payload.bytes().len(),
            None => self.bare = self.bare.saturating_sub(1),
        }
    }

    /// Lets the oldest payload go that is still kept.
    fn let_go(&mut self) {
        let Some(id) = self.order.get(self.bare) else { return };
        self.bare += 1;
        if let Some(payload) = self.seen.get_mut(id).and_then(|seen| seen.payload.take()) {
            self.bytes -= payload.bytes().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn payload(n: u32, length: usize) -> Payload {
        let mut bytes = vec![0; length.max(4)];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Payload::new(Arc::new(bytes))
    }

    #[test]
    fn a_payload_is_new_once_until_it_is_forgotten() {
        let mut cache = Cache::default();
        let one = payload(1, 10);
        assert!(cache.insert(Timestamp(0), &one, 2));
        assert!(!cache.insert(Timestamp(5), &one, 1));
        assert_eq!(cache.get(&one.id()), Some((one.clone(), 2)));
        cache.expire(Timestamp(KEEP_MS));
        assert!(!cache.has(&one.id()));
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn bytes_are_let_go_before_ids() {
        let mut cache = Cache::default();
        let large = BYTES_KEPT / 4;
        for n in 0..6 {
            cache.insert(Timestamp(u64::from(n)), &payload(n, large), 0);
        }
        assert!(cache.bytes <= BYTES_KEPT);
        assert!(cache.has(&payload(0, large).id()) && cache.get(&payload(0, large).id()).is_none());
        assert!(cache.get(&payload(5, large).id()).is_some());
        cache.expire(Timestamp(KEEP_MS * 2));
        assert_eq!((cache.bytes, cache.bare, cache.seen.len()), (0, 0, 0));
    }

    #[test]
    fn equal_sets_have_equal_fingerprints_in_any_order() {
        let (mut a, mut b) = (Cache::default(), Cache::default());
        for n in 0..50 {
            a.insert(Timestamp(0), &payload(n, 8), 0);
            b.insert(Timestamp(0), &payload(49 - n, 8), 1);
        }
        let later = Timestamp(SETTLE_MS);
        assert_eq!(a.fingerprint(later), b.fingerprint(later));
        b.insert(Timestamp(1), &payload(99, 8), 0);
        assert_eq!(a.fingerprint(later), b.fingerprint(later), "too young to count");
        assert_ne!(a.fingerprint(later.plus_ms(1)), b.fingerprint(later.plus_ms(1)));
    }
}

//! What a member has seen of late: ids, so that nothing is delivered twice, payloads, so that others
//! can ask for them, and what it has asked for itself, so that it asks once. Owns these bounds; never sends.
//!
//! An id is remembered for longer than its payload is offered, and a payload that repair brought is as old as
//! whoever offered it said. Otherwise members would offer each other what they had just forgotten, and old
//! payloads would go round for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::frame::{BUCKETS, IDS};
use super::{MessageId, Payload};
use crate::base::Timestamp;

/// Ids remembered; beyond it the oldest are forgotten, and would be taken for new.
const IDS_KEPT: usize = 32_768;
/// Bytes of payloads kept; beyond it the oldest are let go, their ids stay.
const BYTES_KEPT: usize = 16 * 1024 * 1024;
/// How long payloads are kept.
pub const KEEP_MS: u64 = 120_000;
/// How long their ids are.
const REMEMBER_MS: u64 = 600_000;
/// Ids younger than this are left out of fingerprints: they are still on their way to others.
const SETTLE_MS: u64 = 3_000;
/// Ids asked for and not here yet; a further one is not asked for.
const WANTED: usize = 2_048;
/// How long an answer may take before another peer is asked.
const WANT_MS: u64 = 3_000;

/// Recent ids and payloads.
#[derive(Default)]
pub struct Cache {
    seen: BTreeMap<MessageId, Seen>,
    /// Those whose payload is kept, and those whose payload was let go, the oldest first.
    kept: BTreeSet<(Timestamp, MessageId)>,
    bare: BTreeSet<(Timestamp, MessageId)>,
    wanted: BTreeMap<MessageId, Wanted>,
    bytes: usize,
}

struct Seen {
    at: Timestamp,
    hops: u8,
    payload: Option<Payload>,
}

/// What was asked for: when, and how old it was then.
struct Wanted {
    asked: Timestamp,
    age_ms: u64,
}

impl Cache {
    /// Takes a payload in. Returns whether it is new.
    pub fn insert(&mut self, now: Timestamp, payload: &Payload, hops: u8) -> bool {
        self.expire(now);
        let id = payload.id();
        if self.seen.contains_key(&id) {
            return false;
        }
        let at = match self.wanted.remove(&id) {
            Some(wanted) => Timestamp(wanted.asked.0.saturating_sub(wanted.age_ms)),
            None => now,
        };
        self.bytes += payload.bytes().len();
        self.seen.insert(id, Seen { at, hops, payload: Some(payload.clone()) });
        self.kept.insert((at, id));
        while self.seen.len() > IDS_KEPT {
            self.forget();
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

    /// Since when it has been here.
    pub fn since(&self, id: &MessageId) -> Option<Timestamp> {
        self.seen.get(id).map(|seen| seen.at)
    }

    /// Whether to ask a peer for this, which it says it has had for so long: not if it is here, or was asked
    /// for a moment ago.
    pub fn want(&mut self, now: Timestamp, id: MessageId, age_s: u8) -> bool {
        if self.has(&id) || self.wanted.get(&id).is_some_and(|wanted| now.since_ms(wanted.asked) < WANT_MS) {
            return false;
        }
        if self.wanted.len() >= WANTED {
            self.wanted.retain(|_, wanted| now.since_ms(wanted.asked) < WANT_MS);
        }
        if self.wanted.len() >= WANTED {
            return false;
        }
        let age_ms = u64::from(age_s) * 1_000;
        self.wanted.insert(id, Wanted { asked: now, age_ms: age_ms.min(KEEP_MS) });
        true
    }

    /// The newest id that has been here for `age_ms`.
    pub fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId> {
        self.newest(now, age_ms).next().map(|(_, id)| id)
    }

    /// Fingerprints of the ids whose payloads are kept, the youngest apart, bucket by bucket. Equal ones mean equal
    /// sets, as far as 64 bits tell: whoever makes two sets agree made the ids in which they differ.
    pub fn fingerprint(&self, now: Timestamp) -> [[u8; 8]; BUCKETS] {
        // Sorted and hashed, not summed: sums of chosen ids can be made to agree.
        let mut ids: Vec<MessageId> = self.newest(now, SETTLE_MS).take(IDS).map(|(_, id)| id).collect();
        ids.sort_unstable();
        let mut prints = [[0; 8]; BUCKETS];
        for part in ids.chunk_by(|a, b| a.bucket() == b.bucket()) {
            let mut hasher = blake3::Hasher::new();
            part.iter().for_each(|id| {
                hasher.update(&id.0);
            });
            prints[part[0].bucket()].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        }
        prints
    }

    /// The newest ids of these buckets, as many as one message takes, those apart that are still on their way,
    /// with their age in seconds.
    pub fn recent(&self, now: Timestamp, buckets: u16) -> Vec<(MessageId, u8)> {
        let age = |at: Timestamp| u8::try_from(now.since_ms(at) / 1_000).unwrap_or(u8::MAX);
        self.newest(now, SETTLE_MS)
            .filter(|(_, id)| buckets >> id.bucket() & 1 == 1)
            .map(|(at, id)| (id, age(at)))
            .take(IDS)
            .collect()
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Timestamp) {
        while self.kept.first().is_some_and(|(at, _)| now.since_ms(*at) >= KEEP_MS) {
            self.let_go();
        }
        while self.bare.first().is_some_and(|(at, _)| now.since_ms(*at) >= REMEMBER_MS) {
            self.forget();
        }
    }

    fn newest(&self, now: Timestamp, age_ms: u64) -> impl Iterator<Item = (Timestamp, MessageId)> {
        let old_enough = now.0.checked_sub(age_ms).map(Timestamp);
        let kept = move |(at, _): &&(Timestamp, MessageId)| now.since_ms(*at) < KEEP_MS;
        let until = old_enough.map(|at| (at, MessageId([u8::MAX; 16])));
        let ids = until.map(|until| self.kept.range(..=until).rev().take_while(kept).copied());
        ids.into_iter().flatten()
    }

    /// Lets the oldest payload go that is still kept.
    fn let_go(&mut self) {
        let Some((at, id)) = self.kept.pop_first() else { return };
        self.bare.insert((at, id));
        if let Some(payload) = self.seen.get_mut(&id).and_then(|seen| seen.payload.take()) {
            self.bytes -= payload.bytes().len();
        }
    }

    /// Forgets the oldest id.
    fn forget(&mut self) {
        if self.bare.is_empty() {
            self.let_go();
        }
        if let Some((_, id)) = self.bare.pop_first() {
            self.seen.remove(&id);
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
        assert!(cache.get(&one.id()).is_none(), "no longer offered");
        assert!(!cache.insert(Timestamp(KEEP_MS), &one, 1), "and not taken for new");
        assert_eq!(cache.bytes, 0);
        cache.expire(Timestamp(REMEMBER_MS));
        assert!(!cache.has(&one.id()));
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
        cache.expire(Timestamp(REMEMBER_MS * 2));
        assert_eq!((cache.bytes, cache.bare.len(), cache.kept.len(), cache.seen.len()), (0, 0, 0, 0));
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

    #[test]
    fn what_repair_brings_is_as_old_as_where_it_came_from() {
        let (mut elder, mut newcomer) = (Cache::default(), Cache::default());
        let one = payload(1, 8);
        elder.insert(Timestamp(0), &one, 0);
        let now = Timestamp(KEEP_MS - 5_000);
        let (id, age_s) = elder.recent(now, u16::MAX)[0];
        assert!(newcomer.want(now, id, age_s) && !newcomer.want(now.plus_ms(10), id, age_s), "asked once");
        assert!(newcomer.want(now.plus_ms(WANT_MS), id, age_s), "and again when no answer came");
        newcomer.insert(now.plus_ms(WANT_MS + 50), &one, 3);
        assert!(!newcomer.want(now, id, age_s));
        assert_eq!(
            newcomer.recent(Timestamp(KEEP_MS + 9_000), u16::MAX),
            [],
            "not offered for another round"
        );
    }

    #[test]
    fn fingerprints_tell_which_bucket_differs() {
        let (mut a, mut b) = (Cache::default(), Cache::default());
        for n in 0..200 {
            a.insert(Timestamp(0), &payload(n, 8), 0);
            if n != 77 {
                b.insert(Timestamp(0), &payload(n, 8), 0);
            }
        }
        let later = Timestamp(SETTLE_MS);
        let bucket = payload(77, 8).id().bucket();
        let (one, other) = (a.fingerprint(later), b.fingerprint(later));
        assert!((0..BUCKETS).all(|n| (one[n] == other[n]) == (n != bucket)));
        let of_it = a.recent(later, 1 << bucket);
        assert!(of_it.len() < 40 && of_it.iter().any(|(id, _)| *id == payload(77, 8).id()));
    }
}

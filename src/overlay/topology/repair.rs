//! Anti-entropy between two neighbours: compare fingerprints of what was seen of late, then the ids of
//! those buckets that differ, then send what the other lacks. Owns that exchange; which neighbour and when is the topology's to say.
//!
//! Plumtree heals what is lost as long as announcements get through; across a partition, or when an
//! announcement itself is lost, only this does. Further back than the cache, the application reconciles.

use std::collections::BTreeSet;

use super::cache::Cache;
use super::frame::BUCKETS;
use super::outbox::Outbox;
use super::{Message, MessageId};
use crate::base::{NodeId, Timestamp, limits};

/// Bytes of payloads sent in answer to one request; the rest is asked for again.
const ANSWER_BYTES: usize = limits::PACKET_BYTES;

/// Opens the exchange.
pub fn ask(cache: &Cache, now: Timestamp, peer: NodeId, outbox: &mut Outbox) {
    outbox.now(peer, Message::Fingerprint(cache.fingerprint(now)));
}

/// A neighbour's fingerprints: where they differ from ours, our ids go back.
pub fn on_fingerprint(
    cache: &Cache,
    now: Timestamp,
    peer: NodeId,
    theirs: [[u8; 8]; BUCKETS],
    outbox: &mut Outbox,
) {
    let ours = cache.fingerprint(now);
    let buckets = (0..BUCKETS).filter(|n| ours[*n] != theirs[*n]).fold(0, |buckets, n| buckets | 1 << n);
    if buckets != 0 {
        let ids = cache.recent(now, buckets);
        outbox.now(peer, Message::Recent { buckets, ids, reply: true });
    }
}

/// A neighbour's ids. Asks for those that are new here and were not asked for yet and, if it wants to hear them,
/// tells those that it lacks. Returns how many were asked for.
pub fn on_recent(
    cache: &mut Cache,
    now: Timestamp,
    peer: NodeId,
    (buckets, theirs, reply): (u16, Vec<(MessageId, u8)>, bool),
    outbox: &mut Outbox,
) -> usize {
    let lacking: Vec<MessageId> =
        theirs.iter().filter(|(id, age_s)| cache.want(now, *id, *age_s)).map(|(id, _)| *id).collect();
    let count = lacking.len();
    if count > 0 {
        outbox.now(peer, Message::IWant(lacking));
    }
    if reply {
        let theirs: BTreeSet<MessageId> = theirs.into_iter().map(|(id, _)| id).collect();
        let ids: Vec<(MessageId, u8)> =
            cache.recent(now, buckets).into_iter().filter(|(id, _)| !theirs.contains(id)).collect();
        if !ids.is_empty() {
            outbox.now(peer, Message::Recent { buckets, ids, reply: false });
        }
    }
    count
}

/// Sends what a neighbour asks for, as far as one answer goes.
pub fn on_want(cache: &Cache, peer: NodeId, ids: &[MessageId], outbox: &mut Outbox) {
    let mut bytes = 0;
    for (payload, hops) in ids.iter().filter_map(|id| cache.get(id)) {
        bytes += payload.bytes().len();
        if bytes > ANSWER_BYTES && bytes > payload.bytes().len() {
            break;
        }
        outbox.now(peer, Message::Payload { hops: hops.saturating_add(1), payload });
    }
}

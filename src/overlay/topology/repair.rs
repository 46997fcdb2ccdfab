//! Anti-entropy between two neighbours: compare fingerprints of what was seen of late, then ids, then
//! send what the other lacks. Owns that exchange; which neighbour and when is the topology's to say.
//!
//! Plumtree heals what is lost as long as announcements get through; across a partition, or when an
//! announcement itself is lost, only this does. Further back than the cache, the application reconciles.

use std::collections::BTreeSet;

use super::cache::Cache;
use super::frame::IDS;
use super::outbox::Outbox;
use super::{Message, MessageId};
use crate::base::{NodeId, Timestamp, limits};

/// Bytes of payloads sent in answer to one request; the rest is asked for again.
const ANSWER_BYTES: usize = limits::PACKET_BYTES;

/// Opens the exchange.
pub fn ask(cache: &Cache, now: Timestamp, peer: NodeId, outbox: &mut Outbox) {
    outbox.now(peer, Message::Fingerprint(cache.fingerprint(now)));
}

/// A neighbour's fingerprint: where it differs from ours, our ids go back.
pub fn on_fingerprint(cache: &Cache, now: Timestamp, peer: NodeId, theirs: [u8; 16], outbox: &mut Outbox) {
    if cache.fingerprint(now) != theirs {
        outbox.now(peer, Message::Recent { ids: cache.recent(now), reply: true });
    }
}

/// A neighbour's ids. Asks for those that are new here and, if it wants to hear them, tells those that
/// it lacks. Returns how many were new.
pub fn on_recent(
    cache: &Cache,
    now: Timestamp,
    peer: NodeId,
    theirs: Vec<MessageId>,
    reply: bool,
    outbox: &mut Outbox,
) -> usize {
    let theirs: BTreeSet<MessageId> = theirs.into_iter().collect();
    let lacking: Vec<MessageId> = theirs.iter().filter(|id| !cache.has(id)).copied().collect();
    let count = lacking.len();
    if count > 0 {
        outbox.now(peer, Message::IWant(lacking));
    }
    if reply {
        let lacks: Vec<MessageId> =
            cache.recent(now).into_iter().filter(|id| !theirs.contains(id)).take(IDS).collect();
        if !lacks.is_empty() {
            outbox.now(peer, Message::Recent { ids: lacks, reply: false });
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

//! Lanes: the chains of events that one device signs under one grant. A lane is linear as long as
//! its device is honest; one that signs two events for one place makes it a tree of chains.

use std::collections::BTreeSet;

use super::Event;
use super::above::Footing;
use super::past::Known;
use super::valid::Step;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::message::Link;

/// The `keep` of a lane of which nothing is void.
pub(super) const WHOLE: u64 = u64::MAX;

/// A lane and what its device holds at the tip.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The event that opened it, which is its id.
    pub opening: EventId,
    pub identity: Identity,
    pub device: Identity,
    pub role: Role,
    /// How much it counts: `max(rank of the grant's issuer + 1, floor of the role)`; fixed for ever.
    pub rank: u32,
    /// The bridge link the member comes through.
    pub via: Option<Link>,
    pub opened_at: Timestamp,
    /// Until when the identity certified the device.
    pub certified_until: Timestamp,
    /// The authority event it was opened under, by number.
    pub(super) grant: Option<u32>,
    /// The authority events in the opening's past.
    pub(super) known: Known,
    /// Where it stands in a workspace.
    pub(super) footing: Option<Footing>,
    /// Whether its member is no longer one of the workspace.
    pub(super) over: bool,
    /// Whether it only asks to be let in.
    pub(super) knocks: bool,
    /// Whose ticket it was opened with.
    pub(super) ticket_of: Option<Identity>,
    /// Whether that ticket is not its owner's to use, as things stand (see `settle`).
    pub(super) is_unpaid: bool,
    /// Where the first two events of one place are, if the device signed such.
    pub(super) forked_at: Option<u64>,
    /// What lower ranks leave of it; see `authority`.
    pub(super) base: u64,
    /// Events from this place on are void.
    pub(super) keep: u64,
    /// The places of its authority events, with their numbers.
    pub(super) authorities: Vec<(u64, u32)>,
    /// All of it, up to the first fork.
    pub(super) trunk: Chain,
}

/// A run of events each of which has one successor: a whole lane, or a part of one that forked.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The lane it is part of.
    pub lane: EventId,
    /// The chain it goes on from.
    pub before: Option<EventId>,
    /// The place of its first event in the lane.
    pub base: u64,
    /// The newest event; the one it goes on from while it has none.
    pub tip: EventId,
    /// Its events by their numbers.
    pub events: Vec<u32>,
    /// The hash of the profile that counts at the tip; see `chat::build`. No verdict depends on it, so a
    /// chain that begins at a fork goes on from the one at the tip of the chain it left.
    pub profile: Digest,
    /// Whether its last event leaves the channel.
    pub left: bool,
    /// The chains that go on from it, by their first events.
    pub next: BTreeSet<EventId>,
}

impl Lane {
    pub(super) fn open(event: &Event, step: &Step, grant: Option<u32>, known: Known) -> Self {
        let id = event.id();
        let joining = event.header.act.joining();
        Self {
            opening: id,
            identity: step.identity,
            device: event.header.device,
            role: step.role,
            rank: step.rank,
            via: joining.and_then(|joining| joining.via.clone()),
            opened_at: event.header.timestamp,
            certified_until: joining.map(|joining| joining.certificate.expires).unwrap_or_default(),
            grant,
            known,
            footing: step.footing,
            over: false,
            knocks: matches!(event.header.act, Act::Knock { .. }),
            ticket_of: match &event.header.act {
                Act::RedeemTicket { ticket, .. } => Some(ticket.label.issuer),
                _ => None,
            },
            is_unpaid: false,
            forked_at: None,
            base: WHOLE,
            keep: WHOLE,
            authorities: Vec::new(),
            trunk: Chain { before: None, ..Chain::branch(id, id, 0) },
        }
    }

    /// Its newest event.
    pub fn tip(&self) -> EventId {
        self.trunk.tip
    }

    /// The seq of the event to come.
    pub fn next_seq(&self) -> u64 {
        self.trunk.end()
    }

    /// The workspace whose member it is opened for, and the lane there.
    pub fn under(&self) -> Option<(ChannelId, EventId)> {
        self.footing.map(|footing| (footing.workspace, footing.lane))
    }

    /// Whether the member may still act on it: nothing of it is void, and they have left neither the
    /// channel nor its workspace.
    pub fn is_live(&self) -> bool {
        self.keep == WHOLE && !self.is_unpaid && !self.trunk.left && !self.over
    }
}

impl Chain {
    /// An empty one that goes on from another.
    pub fn branch(lane: EventId, before: EventId, base: u64) -> Self {
        Self {
            lane,
            before: Some(before),
            base,
            tip: before,
            events: Vec::new(),
            profile: Digest::default(),
            left: false,
            next: BTreeSet::new(),
        }
    }

    /// The place after its last event.
    pub fn end(&self) -> u64 {
        self.base + self.events.len() as u64
    }

    /// The number of the event in this place.
    pub fn event(&self, seq: u64) -> Option<u32> {
        self.events.get(usize::try_from(seq.checked_sub(self.base)?).ok()?).copied()
    }
}

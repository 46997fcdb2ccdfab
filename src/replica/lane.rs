//! Lanes: the chains of events that one device signs under one grant. A lane is linear as long as
//! its device is honest; one that signs two events for one place makes it a tree of chains.

use super::Event;
use super::above::Footing;
use super::past::Known;
use super::valid::Step;
use crate::base::{ChannelId, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::build::Holdings;
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
    /// Each of its events and that event's place in this node's log.
    pub events: Vec<(EventId, u64)>,
    /// The resources held at the tip. No verdict depends on their nonces, so a chain that begins at
    /// a fork goes on from those at the tip of the chain it left.
    pub holdings: Option<Holdings>,
    /// Whether its last event leaves the channel.
    pub left: bool,
    /// Whether other chains go on from it.
    pub split: bool,
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
            forked_at: None,
            base: WHOLE,
            keep: WHOLE,
            authorities: Vec::new(),
            trunk: Chain { before: None, ..Chain::branch(id, id, 0) },
        }
    }

    /// Its newest event.
    pub fn tip(&self) -> EventId {
        self.trunk.events.last().map_or(self.opening, |(id, _)| *id)
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
        self.keep == WHOLE && !self.trunk.left && !self.over
    }
}

impl Chain {
    /// An empty one that goes on from another.
    pub fn branch(lane: EventId, before: EventId, base: u64) -> Self {
        Self {
            lane,
            before: Some(before),
            base,
            events: Vec::new(),
            holdings: None,
            left: false,
            split: false,
        }
    }

    /// The place after its last event.
    pub fn end(&self) -> u64 {
        self.base + self.events.len() as u64
    }

    fn at(&self, seq: u64) -> Option<&(EventId, u64)> {
        self.events.get(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    /// The event in this place.
    pub fn event(&self, seq: u64) -> Option<EventId> {
        Some(self.at(seq)?.0)
    }

    /// Where in this node's log the event of this place lies.
    pub fn position(&self, seq: u64) -> Option<u64> {
        Some(self.at(seq)?.1)
    }
}

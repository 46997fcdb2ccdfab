//! Lanes: the linear chain of events that one device signs under one grant.

use super::Event;
use super::valid::Step;
use crate::base::{EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::build::Holdings;
use crate::chat::message::Link;

/// A lane and what its device holds at the tip.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The event that opened it, which is its id.
    pub opening: EventId,
    pub identity: Identity,
    pub device: Identity,
    pub role: Role,
    /// The bridge link the member comes through.
    pub via: Option<Link>,
    pub opened_at: Timestamp,
    /// Until when the identity certified the device.
    certified_until: Timestamp,
    /// Each of its events and that event's place in this node's log, by seq.
    events: Vec<(EventId, u64)>,
    /// `None` once the member left.
    holdings: Option<Holdings>,
}

impl Lane {
    pub(super) fn open(event: &Event, step: &Step) -> Self {
        Self {
            opening: step.lane,
            identity: step.identity,
            device: event.header.device,
            role: step.role,
            via: event.header.act.joining().and_then(|joining| joining.via.clone()),
            opened_at: event.header.timestamp,
            certified_until: event
                .header
                .act
                .joining()
                .map(|joining| joining.certificate.expires)
                .unwrap_or_default(),
            events: Vec::new(),
            holdings: None,
        }
    }

    pub(super) fn extend(&mut self, event: &Event, holdings: Option<Holdings>, position: u64) {
        self.events.push((event.id(), position));
        self.holdings = holdings;
    }

    /// Its newest event.
    pub fn tip(&self) -> EventId {
        self.events.last().map_or(self.opening, |(id, _)| *id)
    }

    /// Until when the identity certified the device.
    pub fn certified_until(&self) -> Timestamp {
        self.certified_until
    }

    /// The seq of the event to come.
    pub fn next_seq(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether the member may still act on it.
    pub fn is_live(&self) -> bool {
        self.holdings.is_some()
    }

    /// The resources held at the tip.
    pub fn holdings(&self) -> Option<&Holdings> {
        self.holdings.as_ref()
    }

    /// The event with this seq.
    pub fn event(&self, seq: u64) -> Option<EventId> {
        Some(self.events.get(usize::try_from(seq).ok()?)?.0)
    }

    /// The place in this node's log of the event with this seq.
    pub fn position(&self, seq: u64) -> Option<u64> {
        Some(self.events.get(usize::try_from(seq).ok()?)?.1)
    }
}

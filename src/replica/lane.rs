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
    tip: EventId,
    /// The place of each of its events in this node's log, by seq.
    positions: Vec<u64>,
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
            tip: event.id(),
            positions: Vec::new(),
            holdings: None,
        }
    }

    pub(super) fn extend(&mut self, event: &Event, holdings: Option<Holdings>, position: u64) {
        self.tip = event.id();
        self.positions.push(position);
        self.holdings = holdings;
    }

    /// Its newest event.
    pub fn tip(&self) -> EventId {
        self.tip
    }

    /// The seq of the event to come.
    pub fn next_seq(&self) -> u64 {
        self.positions.len() as u64
    }

    /// Whether the member may still act on it.
    pub fn is_live(&self) -> bool {
        self.holdings.is_some()
    }

    /// The resources held at the tip.
    pub fn holdings(&self) -> Option<&Holdings> {
        self.holdings.as_ref()
    }

    /// Places in this node's log, by seq.
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }
}

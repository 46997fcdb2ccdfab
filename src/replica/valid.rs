//! What makes an event valid, for ever, from its bytes and its past alone (rules V1 to V4).
//! V5, what `resolve` of the past permits, is today the role that the lane's grant fixed.

use std::fmt;

use super::{Event, Malformed, Replica, parents};
use crate::base::{EventId, Identity, Kind, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::build::{self, Holdings, Setting};
use crate::machine::MachineError;

/// Why an event can never be part of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// It is no event at all.
    Malformed(Malformed),
    /// It breaks this rule of the history.
    Rule(&'static str),
    /// Its lane has another event in the same place: the device forked its lane.
    Equivocation { first: EventId },
    /// The transaction it stands for does not hold on the resource machine.
    Transaction(MachineError),
}

impl Invalid {
    /// What it means for whoever sent it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) | Self::Rule(_) | Self::Equivocation { .. } => Kind::Invalid,
            Self::Transaction(_) => Kind::Denied,
        }
    }

    /// A short name for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_event",
            Self::Rule(_) => "invalid_event",
            Self::Equivocation { .. } => "equivocation",
            Self::Transaction(_) => "invalid_transaction",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Rule(rule) => write!(f, "event breaks the rule: {rule}"),
            Self::Equivocation { first } => write!(f, "the lane has {first} in that place already"),
            Self::Transaction(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}

/// A valid event's next state of its lane.
pub(super) struct Step {
    pub lane: EventId,
    pub identity: Identity,
    pub role: Role,
    pub holdings: Option<Holdings>,
}

impl Replica {
    /// Checks an event whose past is complete and whose signature was verified.
    pub(super) fn validate(&self, event: &Event) -> Result<Step, Invalid> {
        let header = &event.header;
        if event.channel() != self.id {
            return Err(Invalid::Rule("an event belongs to its own channel"));
        }
        let past = parents(header).filter_map(|id| self.events.get(&id));
        let newest: Timestamp = past.map(|entry| entry.timestamp).max().unwrap_or_default();
        if header.timestamp < newest {
            return Err(Invalid::Rule("an event is not older than its past"));
        }
        let (lane, identity, role, held) = match (&header.act.joining(), header.prev) {
            (Some(joining), _) => (event.id(), joining.certificate.identity, opening_role(&header.act), None),
            (None, Some(prev)) => self.continued(event, &prev)?,
            (None, None) => return Err(Invalid::Rule("a lane opens by creating or joining, only")),
        };
        let setting = Setting {
            event: event.id(),
            channel: self.id,
            identity,
            device: header.device,
            role,
            timestamp: header.timestamp,
            payload: header.payload.map(|payload| payload.hash),
        };
        let holdings = build::verify(&header.act, &setting, held).map_err(Invalid::Transaction)?;
        Ok(Step { lane, identity, role, holdings })
    }

    /// The lane that an event continues: its past must be the lane's tip, held by the same device.
    fn continued(
        &self,
        event: &Event,
        prev: &EventId,
    ) -> Result<(EventId, Identity, Role, Option<&Holdings>), Invalid> {
        let lane = self.lane_of(prev).ok_or(Invalid::Rule("prev is an event of the lane"))?;
        if lane.device != event.header.device {
            return Err(Invalid::Rule("a lane has one device"));
        }
        let seq = event.header.seq;
        if seq.checked_sub(1).and_then(|before| lane.event(before)) != Some(*prev) {
            return Err(Invalid::Rule("seq counts the lane's events"));
        }
        if let Some(first) = lane.event(seq) {
            return Err(Invalid::Equivocation { first });
        }
        if event.header.timestamp > lane.certified_until() {
            return Err(Invalid::Rule("the device's certificate has not expired"));
        }
        let held = lane.holdings().ok_or(Invalid::Rule("the member has left"))?;
        Ok((lane.opening, lane.identity, lane.role, Some(held)))
    }
}

/// The role of a lane that a grant of its own opens: founders found, and joining is open.
fn opening_role(act: &Act) -> Role {
    match act {
        Act::CreateChannel { .. } => Role::Founder,
        _ => Role::Member,
    }
}

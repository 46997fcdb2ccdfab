//! Convergence: the signed event DAG of each channel, its lanes, what makes an event valid, and
//! how two replicas find out what they lack. It never knows libp2p or SQL.

pub mod event;
mod lane;
mod packet;
mod pending;
mod reconcile;
mod register;
mod resolve;
mod valid;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{Event, Header, Malformed, Parcel, PayloadRef};
pub use lane::Lane;
pub use packet::Packet;
pub use pending::Pending;
pub use reconcile::Extent;
pub use resolve::{MemberState, State};
pub use valid::Invalid;

use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, limits};
use crate::chat::act::Act;
use valid::Step;

/// One channel: every valid event this node holds of it, and what follows from them.
pub struct Replica {
    id: ChannelId,
    events: BTreeMap<EventId, Entry>,
    heads: BTreeSet<EventId>,
    /// By the lane's first event.
    lanes: BTreeMap<EventId, Lane>,
    /// The lanes of each device: an author's own is looked for with every message.
    devices: BTreeMap<Identity, Vec<EventId>>,
    state: State,
    fingerprint: reconcile::Fingerprint,
    /// Pairs that prove a lane was forked.
    equivocations: BTreeSet<(EventId, EventId)>,
}

/// What is remembered of an event; its bytes lie in the store.
#[derive(Clone, Debug)]
struct Entry {
    lane: EventId,
    seq: u64,
    timestamp: Timestamp,
    /// prev and deps.
    parents: Vec<EventId>,
}

/// What became of an event that was offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is part of the channel now.
    Accepted(Effect),
    /// It was part of the channel already.
    Known,
    /// Its past is not complete: these are missing.
    Waiting(Vec<EventId>),
    /// It can never be part of the channel.
    Refused(Invalid),
}

/// What an accepted event changed, as far as doors are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    pub author: Identity,
    /// The first event of its lane.
    pub lane: EventId,
    /// Whether people should see it: a second lane of a member changes nothing for them.
    pub visible: bool,
    /// The author's profile before, where the event gives another.
    pub profile_before: Option<crate::chat::profile::Profile>,
}

impl Replica {
    /// The replica that a channel's first event makes, at the given place of the node's log.
    ///
    /// # Errors
    /// [`Invalid`] if the event is not a valid first event.
    pub fn found(event: &Event, position: u64) -> Result<(Self, Effect), Invalid> {
        if event.header.channel.is_some() {
            return Err(Invalid::Rule("a channel begins with the event that creates it"));
        }
        let mut replica = Self {
            id: event.channel(),
            events: BTreeMap::new(),
            heads: BTreeSet::new(),
            lanes: BTreeMap::new(),
            devices: BTreeMap::new(),
            state: State::default(),
            fingerprint: Default::default(),
            equivocations: BTreeSet::new(),
        };
        let step = replica.validate(event)?;
        let effect = replica.apply(event, step, position);
        Ok((replica, effect))
    }

    /// Takes an event in if it is valid. Its signature must have been verified.
    pub fn admit(&mut self, event: &Event, position: u64) -> Admission {
        let id = event.id();
        if self.events.contains_key(&id) {
            return Admission::Known;
        }
        let missing: Vec<EventId> = parents(&event.header).filter(|p| !self.events.contains_key(p)).collect();
        if !missing.is_empty() {
            return Admission::Waiting(missing);
        }
        match self.validate(event) {
            Ok(step) => Admission::Accepted(self.apply(event, step, position)),
            Err(invalid) => {
                if let Invalid::Equivocation { first } = invalid {
                    self.equivocations.insert((first, id));
                }
                Admission::Refused(invalid)
            }
        }
    }

    fn apply(&mut self, event: &Event, step: Step, position: u64) -> Effect {
        let id = event.id();
        let lane_id = step.lane;
        let parents: Vec<EventId> = parents(&event.header).collect();
        let before: BTreeSet<EventId> = self.state.events_that_decide(&step.identity, &event.header.act);
        let overruled: BTreeSet<EventId> =
            before.into_iter().filter(|other| self.precedes(other, &parents)).collect();
        let effect = self.state.apply(event, &step, &overruled);
        for parent in &parents {
            self.heads.remove(parent);
        }
        self.heads.insert(id);
        self.events.insert(
            id,
            Entry { lane: lane_id, seq: event.header.seq, timestamp: event.header.timestamp, parents },
        );
        if lane_id == id {
            self.devices.entry(event.header.device).or_default().push(id);
        }
        self.lanes.entry(lane_id).or_insert_with(|| Lane::open(event, &step)).extend(
            event,
            step.holdings,
            position,
        );
        self.fingerprint.add(&id);
        effect
    }

    /// Whether `ancestor` is one of `from` or in the past of one of them. Walks back, but never
    /// past the ancestor's timestamp nor along a lane whose answer is known.
    fn precedes(&self, ancestor: &EventId, from: &[EventId]) -> bool {
        let Some(goal) = self.events.get(ancestor) else { return false };
        let mut open: Vec<EventId> = from.to_vec();
        let mut seen: BTreeSet<EventId> = BTreeSet::new();
        while let Some(id) = open.pop() {
            let Some(entry) = self.events.get(&id) else { continue };
            if entry.lane == goal.lane && entry.seq >= goal.seq {
                return true;
            }
            if entry.timestamp >= goal.timestamp && seen.insert(id) {
                open.extend(entry.parents.iter().copied());
            }
        }
        false
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// What follows from the events: members, roles, topic.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether the event is part of the channel.
    pub fn contains(&self, id: &EventId) -> bool {
        self.events.contains_key(id)
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Never: a channel has at least the event that made it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The lane an event belongs to.
    pub fn lane_of(&self, event: &EventId) -> Option<&Lane> {
        self.lanes.get(&self.events.get(event)?.lane)
    }

    /// The newest lane of a device that has not ended.
    pub fn live_lane(&self, device: &Identity) -> Option<&Lane> {
        let lanes = self.devices.get(device)?.iter().filter_map(|id| self.lanes.get(id));
        lanes.filter(|lane| lane.is_live()).max_by_key(|lane| (lane.opened_at, lane.opening))
    }

    /// Pairs of events that prove a lane forked.
    pub fn equivocations(&self) -> &BTreeSet<(EventId, EventId)> {
        &self.equivocations
    }

    /// A header for the next event of a lane (or, without one, for opening one): hash-linked to all
    /// heads, up to `limits::DEPS` of them; later events merge the rest.
    pub fn draft(&self, device: Identity, lane: Option<&Lane>, now: Timestamp, act: Act) -> Header {
        let prev = lane.map(|lane| lane.tip());
        let deps: Vec<EventId> =
            self.heads.iter().copied().filter(|head| Some(*head) != prev).take(limits::DEPS).collect();
        let past = deps.iter().chain(prev.iter()).filter_map(|id| self.events.get(id));
        let timestamp = past.map(|entry| entry.timestamp).max().unwrap_or_default().max(now);
        Header {
            version: event::VERSION,
            channel: Some(self.id),
            device,
            seq: lane.map_or(0, |lane| lane.next_seq()),
            prev,
            deps,
            timestamp,
            act,
            payload: None,
        }
    }

    /// One digest over all that follows from the events: equal iff two replicas agree.
    pub fn root(&self) -> Digest {
        self.state.root(&self.id, &self.fingerprint.digest())
    }

    /// A digest of the set of events alone, kept as they come: cheap to ask for.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint.digest()
    }
}

fn parents(header: &Header) -> impl Iterator<Item = EventId> + '_ {
    header.prev.iter().chain(header.deps.iter()).copied()
}

//! Small histories for the tests of this room and of the node.

use std::collections::{BTreeMap, BTreeSet};

use super::event::VERSION;
use super::{Admission, Event, Header, Parcel, PayloadRef, Replica, parents};
use crate::base::key::{Purpose, SecretKey};
use crate::base::{EventId, Timestamp};
use crate::chat::act::{Act, Joining};
use crate::chat::build::Setting;
use crate::chat::message::Content;
use crate::chat::profile::{Certificate, Profile};
use crate::chat::settle::{self, Part};

/// Somebody with one device.
#[derive(Clone)]
pub(crate) struct Author {
    pub identity: SecretKey,
    pub device: SecretKey,
    pub name: String,
}

impl Author {
    pub fn new(name: &str) -> Self {
        let root = SecretKey::from_seed([3; 32]);
        let (identity, device) = (root.derive(Purpose::Identity, name), root.derive(Purpose::Device, name));
        Self { identity, device, name: name.to_owned() }
    }

    /// The same person with another device.
    pub fn on(&self, device: &str) -> Self {
        let device = SecretKey::from_seed([4; 32]).derive(Purpose::Device, device);
        Self { device, ..self.clone() }
    }

    pub fn profile(&self) -> Profile {
        Profile { username: self.name.clone(), ..Profile::default() }
    }

    pub fn joining(&self) -> Joining {
        let certificate = Certificate::issue(&self.identity, self.device.public(), Timestamp(u64::MAX));
        Joining { certificate, profile: self.profile(), via: None, grant: None, bearer: None, under: None }
    }

    pub fn join(&self) -> Act {
        Act::JoinChannel(self.joining())
    }

    /// The event that founds a channel.
    pub fn founding(&self, name: &str) -> Event {
        let act = Act::CreateChannel {
            name: name.parse().unwrap(),
            topic: String::new(),
            founder: self.joining(),
            ancestry: Default::default(),
        };
        let header = Header {
            version: VERSION,
            channel: None,
            device: self.device.public(),
            seq: 0,
            prev: None,
            deps: Vec::new(),
            timestamp: Timestamp(1_000),
            act,
            payload: None,
        };
        self.sign(header)
    }

    /// A header for what this author does next in a replica: on the lane they may act on or, if there is
    /// none, on their newest, where what they do is void or refused.
    pub fn draft(&self, replica: &Replica, at: u64, act: Act) -> Header {
        let device = self.device.public();
        let newest = || replica.authorities.lanes.get(replica.devices.get(&device)?.last()?);
        let lane = replica.live_lane(&device).or_else(newest).filter(|_| act.joining().is_none());
        replica.draft(self.device.public(), lane, Timestamp(at), act)
    }

    pub fn sign(&self, header: Header) -> Event {
        Event::sign(header, &self.device)
    }

    /// Does something in a replica.
    pub fn act(&self, replica: &mut Replica, at: u64, act: Act) -> Event {
        let event = self.sign(self.draft(replica, at, act));
        take(replica, &event);
        event
    }

    /// Says something in a replica.
    pub fn say(&self, replica: &mut Replica, at: u64, text: &str) -> Parcel {
        let payload = Content::text(text).payload();
        let mut header = self.draft(replica, at, Act::SendMessage(Default::default()));
        header.payload = Some(PayloadRef::of(&payload));
        let event = self.sign(header);
        take(replica, &event);
        Parcel { event, payload: Some(payload) }
    }
}

/// A replica with what its founder made.
pub(crate) fn founded(founder: &Author) -> (Replica, Event) {
    let event = founder.founding("#sample");
    (Replica::found(&event, 1).unwrap().0, event)
}

/// Admits what must be valid.
pub(crate) fn take(replica: &mut Replica, event: &Event) {
    event.header.check().unwrap();
    let position = replica.len() as u64 + 1;
    let admission = replica.admit(event, position);
    assert!(matches!(admission, Admission::Accepted(_)), "{admission:?}");
}

/// An id of nothing.
pub(crate) fn nothing(number: u8) -> EventId {
    EventId([number; 32])
}

/// What an event of a replica spends and makes, without the replica's own account of it.
pub fn part_of(event: &Event, replica: &Replica) -> Option<Part> {
    let lane = replica.lane_of(&event.id()).unwrap();
    let setting = Setting {
        event: event.id(),
        channel: replica.id(),
        identity: lane.identity,
        device: lane.device,
        role: lane.role,
        granted: None,
        target_author: None,
        timestamp: event.header.timestamp,
        payload: None,
    };
    settle::part(&event.header.act, &setting, None).unwrap()
}

/// Each event's whole past, as a set: slow, and plain to see.
pub fn pasts(events: &BTreeMap<EventId, &Event>) -> BTreeMap<EventId, BTreeSet<EventId>> {
    let mut pasts: BTreeMap<EventId, BTreeSet<EventId>> = BTreeMap::new();
    while pasts.len() < events.len() {
        for (id, event) in events {
            let parents: Vec<EventId> = parents(&event.header).collect();
            if parents.iter().all(|parent| pasts.contains_key(parent)) {
                let past = parents.iter().flat_map(|p| pasts[p].iter().copied().chain([*p])).collect();
                pasts.insert(*id, past);
            }
        }
    }
    pasts
}

//! The channels this node keeps, and the names they have here.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ChannelId, Digest, EventId, Timestamp};
use crate::chat::intent::ChannelRef;
use crate::chat::message::Link;
use crate::chat::policy::Policy;
use crate::chat::view::{ChannelView, Member};
use crate::replica::{Pending, Replica};

/// Every channel, by id and by its name on this node.
#[derive(Default)]
pub(super) struct Directory {
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<String, ChannelId>,
}

/// One channel.
pub(super) struct Channel {
    pub replica: Replica,
    pub pending: Pending,
    pub name: String,
    /// What binds ordinary members, as of the newest event.
    pub policy: Policy,
    /// Forks that the policy takes into account.
    pub forks: usize,
    /// When the newest message was said.
    pub newest: Timestamp,
    /// Messages that somebody took back in vain so far: their texts are kept until it counts.
    pub doubtful: BTreeSet<EventId>,
    /// The edits of each message that has some.
    pub edits: BTreeMap<EventId, Vec<EventId>>,
}

impl Directory {
    /// Adds a channel under `name`, or under the name its founder gave: as it is if it is free
    /// here, else with the first characters of the id. Local names are given once and stay.
    pub fn insert(&mut self, replica: Replica, name: Option<String>) -> &Channel {
        let id = replica.id();
        let name = name.unwrap_or_else(|| self.free_name(&replica));
        self.names.insert(name.clone(), id);
        let channel = Channel {
            replica,
            pending: Pending::default(),
            name,
            policy: Policy::default(),
            forks: 0,
            newest: Timestamp::default(),
            doubtful: BTreeSet::new(),
            edits: BTreeMap::new(),
        };
        self.channels.insert(id, channel);
        &self.channels[&id]
    }

    fn free_name(&self, replica: &Replica) -> String {
        let name = replica.state().name().map_or("#", |name| name.as_str());
        let id = replica.id().to_string();
        let mut candidates = std::iter::once(name.to_owned())
            .chain((4..=id.len()).map(|digits| format!("{name}~{}", &id[..digits])));
        candidates.find(|candidate| !self.names.contains_key(candidate)).unwrap_or(id.clone())
    }

    pub fn get(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    pub fn get_mut(&mut self, id: &ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(id)
    }

    /// The channel somebody means.
    pub fn find(&self, wanted: &ChannelRef) -> Option<ChannelId> {
        match wanted {
            ChannelRef::Id(id) => self.channels.contains_key(id).then_some(*id),
            ChannelRef::Name(name) => self.names.get(&name.to_lowercase()).copied(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ChannelId, &Channel)> {
        self.channels.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&ChannelId, &mut Channel)> {
        self.channels.iter_mut()
    }

    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// One digest over the roots of all channels.
    pub fn root(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for channel in self.channels.values() {
            hasher.update(channel.replica.root().as_bytes());
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

impl Channel {
    /// As doors show it.
    pub fn view(&self, links: Vec<Link>) -> ChannelView {
        let state = self.replica.state();
        let members: Vec<Member> = state.members().collect();
        ChannelView {
            id: self.replica.id(),
            name: self.name.clone(),
            topic: state.topic().to_owned(),
            policy: self.policy.clone(),
            created_at: state.created_at(),
            members,
            links,
        }
    }
}

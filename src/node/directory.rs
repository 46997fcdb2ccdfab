//! The channels this node keeps, and the names they have here.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{ChannelId, Digest, EventId, Timestamp};
use crate::chat::intent::ChannelRef;
use crate::chat::message::Link;
use crate::chat::policy::Policy;
use crate::chat::view::{ChannelView, Member};
use crate::replica::{
    self, Admission, Effect, Event, Held, Parcel, Pending, Replica, Replicas, Turned, Unfounded,
};

/// Channels that wait for workspaces, counted by workspace; what is more is dropped, and comes again when
/// the workspace is there.
const AWAITING: usize = 16 * 1024;

/// Every channel, by id and by its name on this node.
#[derive(Default)]
pub(super) struct Directory {
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<String, ChannelId>,
    /// The channels that have to do with a workspace.
    parts: BTreeMap<ChannelId, BTreeSet<ChannelId>>,
    /// The channels in which something waits for events of a workspace.
    awaiting: BTreeMap<ChannelId, BTreeSet<ChannelId>>,
    /// Foundings of channels of workspaces that are not there yet.
    orphans: Pending,
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
        if let Some(workspace) = replica.state().ancestry().workspace {
            self.parts.entry(workspace).or_default().insert(id);
        }
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
        let own = replica.state().name().map_or("#", |name| name.as_str());
        let above = replica.state().ancestry().workspace.and_then(|workspace| self.get(&workspace));
        let name = match above {
            Some(above) => address(&above.name, own),
            None => own.to_owned(),
        };
        let id = replica.id().to_string();
        let mut candidates = std::iter::once(name.clone())
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
            ChannelRef::Name(name) => {
                let name = name.to_lowercase();
                self.names.get(&name).copied().or_else(|| self.shared(&name))
            }
        }
    }

    /// The channel that a workspace took in under this address and that is at home elsewhere. Where two
    /// have one name there, none is meant.
    fn shared(&self, address: &str) -> Option<ChannelId> {
        let (above, below) = address.split_once('/')?;
        let workspace = self.names.get(above)?;
        let is_meant = |id: &&ChannelId| {
            let name = self.get(id).and_then(|channel| channel.replica.state().name());
            name.is_some_and(|name| name.as_str().strip_prefix('#') == Some(below))
        };
        let mut meant = self.get(workspace)?.replica.channels().filter(is_meant);
        meant.next().copied().filter(|_| meant.next().is_none())
    }

    /// The channels that have to do with a workspace.
    pub fn parts(&self, workspace: &ChannelId) -> Vec<ChannelId> {
        self.parts.get(workspace).into_iter().flatten().copied().collect()
    }

    /// The replica that a channel's first event makes.
    ///
    /// # Errors
    /// [`Unfounded`].
    pub fn found(&self, event: &Event, position: u64) -> Result<(Replica, Effect), Unfounded> {
        Replica::found_under(event, position, self.above(event))
    }

    /// The same of an event of this node's own log.
    ///
    /// # Errors
    /// [`Unfounded`].
    pub fn refound(&self, event: &Event, position: u64) -> Result<Replica, Unfounded> {
        Replica::refound(event, position, self.above(event))
    }

    fn above(&self, event: &Event) -> Option<&Replica> {
        let workspace = event.header.act.anchor()?.workspace;
        self.get(&workspace).map(|channel| &channel.replica)
    }

    /// Takes an event into its channel, if it is here.
    pub fn admit(&mut self, event: &Event, position: u64) -> Option<Admission> {
        self.with_above(event, |replica, above| replica.admit_under(event, position, above))
    }

    /// The same of an event of this node's own log.
    pub fn readmit(&mut self, event: &Event, position: u64) -> Option<Admission> {
        self.with_above(event, |replica, above| replica.readmit(event, position, above))
    }

    fn with_above(
        &mut self,
        event: &Event,
        admit: impl FnOnce(&mut Replica, Option<&Replica>) -> Admission,
    ) -> Option<Admission> {
        let id = event.channel();
        let Some(anchor) = event.header.act.anchor() else {
            return Some(admit(&mut self.channels.get_mut(&id)?.replica, None));
        };
        let mut channel = self.channels.remove(&id)?;
        let admission = admit(&mut channel.replica, self.above(event));
        self.channels.insert(id, channel);
        if matches!(admission, Admission::Accepted(_)) {
            self.parts.entry(anchor.workspace).or_default().insert(id);
        }
        Some(admission)
    }

    /// Has a channel settle anew after its workspace decided something. Returns the messages that turned.
    pub fn refresh(&mut self, part: &ChannelId, workspace: &ChannelId) -> Vec<(EventId, u64)> {
        let Some(mut channel) = self.channels.remove(part) else { return Vec::new() };
        let above = self.get(workspace).map(|above| &above.replica);
        let flips = above.map(|above| channel.replica.refresh(above)).unwrap_or_default();
        self.channels.insert(*part, channel);
        flips
    }

    /// Comes to a verdict about deals between this channel and others. Returns what turned where.
    pub fn decide(&mut self, id: &ChannelId) -> Vec<(ChannelId, Turned)> {
        replica::decide(self, id)
    }

    /// Lets an event wait for what its channel misses of its past, or of a workspace.
    pub fn hold(&mut self, parcel: Parcel, missing: EventId, workspace: Option<ChannelId>) -> Held {
        let id = parcel.event.channel();
        let Some(channel) = self.channels.get_mut(&id) else {
            return self.orphans.hold(parcel, missing);
        };
        if let Some(workspace) = workspace {
            if self.awaiting.len() >= AWAITING && !self.awaiting.contains_key(&workspace) {
                return Held::Full;
            }
            self.awaiting.entry(workspace).or_default().insert(id);
        }
        channel.pending.hold(parcel, missing)
    }

    /// Takes out what waited for this event, of its own channel or of others.
    pub fn release(&mut self, id: &ChannelId, arrived: &EventId) -> Vec<Parcel> {
        let mut released = self.orphans.release(arrived);
        if let Some(channel) = self.channels.get_mut(id) {
            released.extend(channel.pending.release(arrived));
        }
        let Some(parts) = self.awaiting.get_mut(id) else { return released };
        parts.retain(|part| {
            let Some(channel) = self.channels.get_mut(part) else { return false };
            released.extend(channel.pending.release(arrived));
            !channel.pending.is_empty()
        });
        if parts.is_empty() {
            self.awaiting.remove(id);
        }
        released
    }

    /// Drops what waited for an event that can never be taken in. Returns how many bytes that was.
    pub fn abandon(&mut self, id: &ChannelId, refused: &EventId) -> usize {
        let Some(channel) = self.channels.get_mut(id) else { return 0 };
        let before = channel.pending.bytes();
        channel.pending.abandon(refused);
        before - channel.pending.bytes()
    }

    /// How many events wait.
    pub fn pending(&self) -> usize {
        self.orphans.len() + self.channels.values().map(|channel| channel.pending.len()).sum::<usize>()
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

impl Replicas for Directory {
    fn replica_mut(&mut self, id: &ChannelId) -> Option<&mut Replica> {
        self.get_mut(id).map(|channel| &mut channel.replica)
    }
}

/// The address of a channel in a workspace.
fn address(workspace: &str, channel: &str) -> String {
    format!("{workspace}/{}", channel.strip_prefix('#').unwrap_or(channel))
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

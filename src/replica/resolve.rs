//! What a set of valid events means: members, roles, profiles, topic (RESOLVE of the protocol). Which
//! of them are effective is decided in `authority`; here is what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Event;
use super::register::Register;
use crate::base::codec;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::name::ChannelName;
use crate::chat::profile::Profile;
use crate::chat::view::Member;

/// What follows from a channel's events.
#[derive(Clone, Debug, Default)]
pub struct State {
    name: Option<ChannelName>,
    created_at: Timestamp,
    topic: Register<String>,
    members: BTreeMap<Identity, MemberState>,
}

/// One person who is or was a member.
#[derive(Clone, Debug, Default)]
struct MemberState {
    is_present: bool,
    /// `None` means an ordinary member.
    role: Option<Role>,
    profile: Register<Profile>,
}

impl State {
    /// The name the founder gave.
    pub fn name(&self) -> Option<&ChannelName> {
        self.name.as_ref()
    }

    /// When the channel was founded.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The topic; empty if there is none.
    pub fn topic(&self) -> &str {
        self.topic.get().map_or("", String::as_str)
    }

    /// The people in the channel, by identity.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.members
            .iter()
            .filter(|(_, state)| state.is_present)
            .map(|(identity, state)| view(*identity, state))
    }

    /// Everybody who ever was in the channel, by identity.
    pub fn people(&self) -> impl Iterator<Item = Member> + '_ {
        self.members.iter().map(|(identity, state)| view(*identity, state))
    }

    /// A person, also one who left.
    pub fn person(&self, identity: &Identity) -> Option<Member> {
        self.members.get(identity).map(|state| view(*identity, state))
    }

    /// Whether the person is in the channel.
    pub fn is_member(&self, identity: &Identity) -> bool {
        self.members.get(identity).is_some_and(|member| member.is_present)
    }

    /// The values of its kind in the past of an act to come.
    pub(super) fn seen(
        &self,
        author: &Identity,
        act: &Act,
        in_past: impl Fn(&BTreeSet<EventId>) -> BTreeSet<EventId>,
    ) -> BTreeSet<EventId> {
        match act {
            Act::UpdateChannel { .. } => self.topic.seen(in_past),
            Act::JoinChannel(_) | Act::UpdateProfile { .. } => {
                self.members.get(author).map(|state| state.profile.seen(in_past)).unwrap_or_default()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Takes in what a valid event says. `sees` is what [`State::seen`] found for it.
    pub(super) fn apply(&mut self, event: &Event, author: Identity, rank: u32, sees: BTreeSet<EventId>) {
        let id = event.id();
        let member = self.members.entry(author).or_default();
        match &event.header.act {
            Act::CreateChannel { name, topic, founder } => {
                self.name = Some(name.clone());
                self.created_at = event.header.timestamp;
                if !topic.is_empty() {
                    self.topic.insert(rank, id, topic.clone(), BTreeSet::new());
                }
                member.profile.insert(rank, id, founder.profile.clone(), sees);
            }
            Act::JoinChannel(joining) => member.profile.insert(rank, id, joining.profile.clone(), sees),
            Act::UpdateProfile { profile } => member.profile.insert(rank, id, profile.clone(), sees),
            Act::UpdateChannel { topic } => self.topic.insert(rank, id, topic.clone(), sees),
            Act::LeaveChannel { .. } | Act::SendMessage | Act::GrantRole { .. } | Act::RevokeRole { .. } => {}
        }
    }

    /// Finds the topic that counts.
    pub(super) fn settle_topic(&mut self, is_effective: impl Fn(&EventId) -> bool) {
        self.topic.settle(is_effective);
    }

    /// Finds what counts of a person.
    pub(super) fn settle_person(
        &mut self,
        person: Identity,
        (is_present, role): (bool, Role),
        is_effective: impl Fn(&EventId) -> bool,
    ) {
        // Whom nobody ever saw in the channel is no person of it, whatever was granted to them.
        let Some(member) = self.members.get_mut(&person) else { return };
        (member.is_present, member.role) = (is_present, Some(role));
        member.profile.settle(is_effective);
    }

    /// One digest over the events and all that follows from them.
    pub(super) fn root(&self, channel: &ChannelId, events: &Digest) -> Digest {
        #[derive(Serialize)]
        struct Root<'a> {
            channel: &'a ChannelId,
            events: &'a Digest,
            topic: &'a str,
            members: Vec<Member>,
        }
        let root = Root { channel, events, topic: self.topic(), members: self.members().collect() };
        Digest(*blake3::hash(&codec::encode(&root)).as_bytes())
    }
}

fn view(identity: Identity, state: &MemberState) -> Member {
    Member {
        identity,
        role: state.role.unwrap_or(Role::Member),
        profile: state.profile.get().cloned().unwrap_or_default(),
    }
}

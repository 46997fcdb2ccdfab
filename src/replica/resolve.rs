//! What a set of valid events means: members, roles, profiles, topic (RESOLVE of the protocol).
//!
//! Today every valid event is effective: founders' roles are fixed, joining is open, and nobody
//! can be removed. Revocation (R1 to R6, rank by rank) belongs in this module: it decides which
//! events are effective before they reach [`State::apply`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::register::Register;
use super::valid::Step;
use super::{Effect, Event};
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
pub struct MemberState {
    /// The lanes they act on; none once they left.
    lanes: BTreeMap<EventId, Role>,
    /// The best role they ever had: what a person who left is shown with. Not the one they had last,
    /// which would depend on the order in which two lanes were seen to end.
    best_role: Option<Role>,
    profile: Register<Profile>,
}

impl MemberState {
    fn role(&self) -> Role {
        self.lanes.values().min().copied().or(self.best_role).unwrap_or(Role::Member)
    }

    /// Whether they are in the channel.
    pub fn is_present(&self) -> bool {
        !self.lanes.is_empty()
    }
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
            .filter(|(_, state)| state.is_present())
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
        self.members.get(identity).is_some_and(MemberState::is_present)
    }

    /// The events whose values an act of `author` would compete with.
    pub(super) fn events_that_decide(&self, author: &Identity, act: &Act) -> BTreeSet<EventId> {
        match act {
            Act::UpdateChannel { .. } => self.topic.events().collect(),
            Act::JoinChannel(_) | Act::UpdateProfile { .. } => {
                self.members.get(author).map(|state| state.profile.events().collect()).unwrap_or_default()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Takes a valid event in. `overruled`: those of `events_that_decide` in the event's past.
    pub(super) fn apply(&mut self, event: &Event, step: &Step, overruled: &BTreeSet<EventId>) -> Effect {
        let (id, rank) = (event.id(), step.role.rank());
        let member = self.members.entry(step.identity).or_default();
        let was_present = member.is_present();
        let mut effect = Effect { visible: true, profile_before: None };
        match &event.header.act {
            Act::CreateChannel { name, topic, founder } => {
                self.name = Some(name.clone());
                self.created_at = event.header.timestamp;
                if !topic.is_empty() {
                    self.topic.set(rank, id, topic.clone(), overruled);
                }
                member.lanes.insert(step.lane, step.role);
                member.profile.set(rank, id, founder.profile.clone(), overruled);
            }
            Act::JoinChannel(joining) => {
                member.lanes.insert(step.lane, step.role);
                member.profile.set(rank, id, joining.profile.clone(), overruled);
                effect.visible = !was_present;
            }
            Act::LeaveChannel { .. } => {
                member.best_role = member.best_role.into_iter().chain([step.role]).min();
                member.lanes.remove(&step.lane);
                effect.visible = !member.is_present();
            }
            Act::SendMessage | Act::GrantRole { .. } | Act::RevokeRole { .. } => {}
            Act::UpdateChannel { topic } => self.topic.set(rank, id, topic.clone(), overruled),
            Act::UpdateProfile { profile } => {
                effect.profile_before = member.profile.get().cloned();
                member.profile.set(rank, id, profile.clone(), overruled);
            }
        }
        effect
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
    Member { identity, role: state.role(), profile: state.profile.get().cloned().unwrap_or_default() }
}

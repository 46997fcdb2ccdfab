//! What a set of valid events means: members, roles, profiles, topic (RESOLVE of the protocol). Which
//! of them are effective is decided in `authority`; here is what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Event;
use super::register::Register;
use crate::base::codec;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::{Act, Ancestry};
use crate::chat::channel::{Change, Setting};
use crate::chat::commitment::Commitment;
use crate::chat::name::ChannelName;
use crate::chat::policy::Policy;
use crate::chat::profile::Profile;
use crate::chat::view::Member;

/// What follows from a channel's events.
#[derive(Clone, Debug, Default)]
pub struct State {
    name: Option<ChannelName>,
    created_at: Timestamp,
    ancestry: Ancestry,
    /// The settings that bind nobody; those that do are in `authority`.
    settings: BTreeMap<Setting, Register<Change>>,
    members: BTreeMap<Identity, MemberState>,
    /// What was taken back, and by which events.
    redactions: BTreeMap<EventId, Vec<EventId>>,
    /// The channels that a workspace took in, and by which events.
    additions: BTreeMap<ChannelId, Vec<EventId>>,
}

/// One person who is or was a member.
#[derive(Clone, Debug, Default)]
struct MemberState {
    is_present: bool,
    /// `None` means an ordinary member.
    role: Option<Role>,
    profile: Register<Profile>,
    commitment: Register<Commitment>,
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
        match self.setting(Setting::Topic) {
            Some(Change::Topic(topic)) => topic,
            _ => "",
        }
    }

    /// A setting that binds nobody, as it was changed last.
    pub fn setting(&self, setting: Setting) -> Option<&Change> {
        self.settings.get(&setting)?.get()
    }

    /// What the channel comes from.
    pub fn ancestry(&self) -> Ancestry {
        self.ancestry
    }

    /// What the members' nodes store, and until when.
    pub fn commitments(&self) -> impl Iterator<Item = (Identity, Commitment)> + '_ {
        let promised = |(identity, member): (&Identity, &MemberState)| {
            member.commitment.get().map(|commitment| (*identity, *commitment))
        };
        self.members.iter().filter(|(_, member)| member.is_present).filter_map(promised)
    }

    /// The events that take a message back, whether they count or not.
    pub(super) fn redactions_of(&self, message: &EventId) -> impl Iterator<Item = &EventId> {
        self.redactions.get(message).into_iter().flatten()
    }

    /// The channels that some event takes in.
    pub(super) fn additions(&self) -> impl Iterator<Item = &ChannelId> {
        self.additions.keys()
    }

    /// The events that take a channel in, whether they count or not.
    pub(super) fn additions_of(&self, channel: &ChannelId) -> impl Iterator<Item = &EventId> {
        self.additions.get(channel).into_iter().flatten()
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
            Act::UpdateChannel(change) => self
                .settings
                .get(&change.setting())
                .map(|register| register.seen(in_past))
                .unwrap_or_default(),
            Act::CommitService(_) => {
                self.members.get(author).map(|state| state.commitment.seen(in_past)).unwrap_or_default()
            }
            Act::Knock { .. }
            | Act::JoinChannel(_)
            | Act::RedeemTicket { .. }
            | Act::UpdateProfile { .. } => {
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
            Act::CreateChannel { name, topic, founder, ancestry } => {
                (self.name, self.ancestry) = (Some(name.clone()), *ancestry);
                self.created_at = event.header.timestamp;
                if !topic.is_empty() {
                    let register = self.settings.entry(Setting::Topic).or_default();
                    register.insert(rank, id, Change::Topic(topic.clone()), BTreeSet::new());
                }
                member.profile.insert(rank, id, founder.profile.clone(), sees);
            }
            Act::JoinChannel(joining)
            | Act::Knock { asking: joining, .. }
            | Act::RedeemTicket { joining, .. } => {
                member.profile.insert(rank, id, joining.profile.clone(), sees);
            }
            Act::UpdateProfile { profile } => member.profile.insert(rank, id, profile.clone(), sees),
            Act::CommitService(commitment) => member.commitment.insert(rank, id, *commitment, sees),
            Act::UpdateChannel(change) if !change.is_policy() => {
                self.settings.entry(change.setting()).or_default().insert(rank, id, change.clone(), sees);
            }
            Act::RedactMessage { target, .. } => self.redactions.entry(*target).or_default().push(id),
            Act::AddChannel { channel } => self.additions.entry(*channel).or_default().push(id),
            Act::UpdateChannel(_)
            | Act::Anchor(_)
            | Act::LeaveChannel { .. }
            | Act::SendMessage(_)
            | Act::GrantRole { .. }
            | Act::RevokeRole { .. }
            | Act::Extension { .. }
            | Act::Settle { .. } => {}
        }
    }

    /// Finds what counts of one setting.
    pub(super) fn settle_setting(&mut self, setting: Setting, is_effective: impl Fn(&EventId) -> bool) {
        if let Some(register) = self.settings.get_mut(&setting) {
            register.settle(is_effective);
        }
    }

    /// Finds what counts of all settings.
    pub(super) fn settle_settings(&mut self, is_effective: impl Fn(&EventId) -> bool) {
        self.settings.values_mut().for_each(|register| register.settle(&is_effective));
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
        member.profile.settle(&is_effective);
        member.commitment.settle(&is_effective);
    }

    /// One digest over the events and all that follows from them.
    pub(super) fn root(&self, channel: &ChannelId, events: &Digest, policy: &Policy) -> Digest {
        #[derive(Serialize)]
        struct Root<'a> {
            channel: &'a ChannelId,
            events: &'a Digest,
            settings: Vec<&'a Change>,
            policy: &'a Policy,
            members: Vec<Member>,
            commitments: Vec<(Identity, Commitment)>,
        }
        let root = Root {
            channel,
            events,
            settings: self.settings.values().filter_map(Register::get).collect(),
            policy,
            members: self.members().collect(),
            commitments: self.commitments().collect(),
        };
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

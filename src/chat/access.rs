//! `channel_access`: a user's live membership of a channel, held by one lane.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | when the action founds the channel and the role is `Founder`, or by joining an open channel as `Member`, or under a grant of that role to the same identity |
//! | consumed | by the lane's own device, and renewed unchanged in the same action, or released by leaving |
//!
//! Every action of the chat holds exactly one access that changes hands so: it says who acts.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::facts::{self, Passage};
use super::permissions::Permitted;
use crate::base::{ChannelId, Digest, Identity, Timestamp, codec};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// What a member may be. Founders made the channel. Roles are ordered by rank, highest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    Founder,
    Admin,
    Moderator,
    Member,
    /// A role that a channel made for itself, by its rank; its name and permissions are policy.
    Custom(u16),
}

impl Role {
    /// The floor of the role's rank: the lower, the more it counts in conflicts.
    pub fn rank(self) -> u32 {
        match self {
            Self::Founder => 0,
            Self::Admin => 1,
            Self::Moderator => 100,
            Self::Member => 1000,
            Self::Custom(rank) => u32::from(rank),
        }
    }

    /// Its name, in lower case. A custom role has the name that the channel's policy gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Founder => "founder",
            Self::Admin => "admin",
            Self::Moderator => "moderator",
            Self::Member => "member",
            Self::Custom(_) => "custom",
        }
    }

    /// The least rank number of a role that members of this one may give: admins make admins, others
    /// give what is below them.
    pub fn grant_floor(self) -> u32 {
        match self {
            Self::Founder | Self::Admin => Self::Admin.rank(),
            _ => self.rank().saturating_add(1),
        }
    }

    /// Whether it is a role that anybody may have: a custom one has a rank of its own, below admins.
    pub fn is_well_formed(self) -> bool {
        let taken = [Self::Founder, Self::Admin, Self::Moderator, Self::Member];
        !matches!(self, Self::Custom(_)) || taken.iter().all(|role| role.rank() != self.rank())
    }
}

impl PartialOrd for Role {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Role {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |role: &Self| (role.rank(), matches!(role, Self::Custom(_)));
        key(self).cmp(&key(other))
    }
}

/// What an access is interchangeable with: nothing but another access of the same user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
    pub identity: Identity,
}

/// What it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    pub role: Role,
    pub device: Identity,
}

/// Who signed the event that carries the action, and when they say it was. It is `external[0]` of the
/// consumed access, and comes from the event itself, whose signature was checked before any logic
/// runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Authority {
    pub device: Identity,
    pub timestamp: Timestamp,
    /// The role that the event cited by an opening lane grants to its identity.
    pub granted: Option<Role>,
}

/// Who acts, and how their access passes through the action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acting {
    pub label: Label,
    pub value: Value,
    pub authority: Authority,
    pub passage: Passage,
}

impl Acting {
    /// Reads it from the access in the action.
    ///
    /// # Errors
    /// If the action holds no access, or more than one, or one that changes.
    pub fn of(instance: &LogicInstance<'_>) -> Result<Self, LogicError> {
        Shared::of(instance).acting
    }

    fn read(instance: &LogicInstance<'_>) -> Result<Self, LogicError> {
        let (access, passage) = facts::read_pair::<Label, Value>(instance, facts::logic_refs().access)?;
        if access.before != access.after {
            return Err(LogicError::invalid("an access is renewed unchanged"));
        }
        let [blob] = access.consumed.app_data.external.as_slice() else {
            return Err(LogicError::invalid("an action says who acts"));
        };
        let authority = codec::decode(&blob.blob, facts::FACTS_BYTES)
            .map_err(|_| LogicError::invalid("an action says who acts"))?;
        Ok(Self { label: access.label, value: access.before, authority, passage })
    }
}

/// What all logics of an action ask for: read once.
#[derive(Clone, Copy)]
struct Shared {
    acting: Result<Acting, LogicError>,
    permits: Result<Permitted, LogicError>,
}

impl Shared {
    fn of(instance: &LogicInstance<'_>) -> Self {
        let read = || Self { acting: Acting::read(instance), permits: Permitted::read(instance) };
        instance.action.derived(read)
    }
}

/// The permissions in the action, and how they pass through it.
///
/// # Errors
/// If the action holds none, or more than one, or some that change.
pub(super) fn permits(instance: &LogicInstance<'_>) -> Result<Permitted, LogicError> {
    Shared::of(instance).permits
}

/// The logic of `channel_access`.
#[derive(Clone, Copy, Debug)]
pub struct AccessLogic;

impl ResourceLogic for AccessLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().access
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        // The action has one access before and one after, of which this is one, and both say the same.
        let acting = Acting::of(instance)?;
        let value = acting.value;
        if acting.authority.device != value.device {
            return Err(LogicError::denied("act with another's access"));
        }
        match acting.passage {
            Passage::Minted if value.role == Role::Founder && acting.authority.granted.is_none() => {
                facts::minted_beside(instance, facts::logic_refs().channel)
                    .ok_or(LogicError::denied("found a channel to be its founder"))
            }
            Passage::Minted if value.role == Role::Member => Ok(()),
            Passage::Minted if acting.authority.granted == Some(value.role) => Ok(()),
            Passage::Minted => Err(LogicError::denied("be granted that role")),
            Passage::Renewed | Passage::Released => Ok(()),
        }
    }
}

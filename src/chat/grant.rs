//! `grant`: a role given to somebody.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted, ordinary membership | by a member with `invite` |
//! | minted, another role | by a member with `grant_roles`, below their own rank; admins also make admins |
//! | consumed | never: every device of the subject opens its lane under it |
//!
//! What ends a grant is a revocation that knew it (see `chat::revocation`), decided by rank when the
//! channel is resolved: consuming it would need an order that nobody decides.

use serde::{Deserialize, Serialize};

use super::access::{Acting, Role};
use super::facts::{self, Passage};
use super::permissions::{self, Permission};
use crate::base::{ChannelId, Digest, Identity};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// Grants to one person in one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
    pub subject: Identity,
}

/// What is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    pub role: Role,
}

/// The logic of `grant`.
#[derive(Clone, Copy, Debug)]
pub struct GrantLogic;

impl ResourceLogic for GrantLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().grant
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted {
            return Err(LogicError::invalid("a grant is not consumed"));
        }
        if value.role == Role::Member && acting.value.role <= Role::Member {
            return permissions::require(instance, Permission::Invite);
        }
        if value.role.rank() < acting.value.role.grant_floor() {
            return Err(LogicError::denied("grant a role that is not below one's own"));
        }
        permissions::require(instance, Permission::GrantRoles)
    }
}

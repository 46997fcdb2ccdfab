//! `revocation`: the end of somebody's roles and lanes: a kick, a ban, a demotion, or the lifting of
//! a ban.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | by a member who may `remove_members`; one that demotes gives a role below their own |
//! | consumed | never |
//!
//! Whether it acts on a lane is decided by rank when the channel is resolved (rule R3): the logic
//! sees one action, and whom the subject is outranked by is a matter of the whole history.

use serde::{Deserialize, Serialize};

use super::access::Acting;
use super::act::Standing;
use super::facts::{self, Passage};
use super::permissions::{self, Permission};
use crate::base::{ChannelId, Digest, Identity};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// Revocations of one person in one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
    pub subject: Identity,
}

/// What the person may be afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    pub then: Standing,
}

/// The logic of `revocation`.
#[derive(Clone, Copy, Debug)]
pub struct RevocationLogic;

impl ResourceLogic for RevocationLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().revocation
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted {
            return Err(LogicError::invalid("a revocation is not consumed"));
        }
        if let Standing::Demoted(role) = value.then
            && role.rank() <= acting.value.role.rank()
        {
            return Err(LogicError::denied("grant a role that is not below one's own"));
        }
        permissions::require(instance, Permission::RemoveMembers)
    }
}

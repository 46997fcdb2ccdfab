//! `service_commitment`: what a member's node keeps for the channel, and until when.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | by a member, for itself, if it ends after it begins |
//! | consumed | never: it ends by itself, and a newer one of the same member takes its place |

use serde::{Deserialize, Serialize};

use super::access::Acting;
use super::facts::{self, Passage};
use crate::base::{ChannelId, Digest, Identity, NodeId, Timestamp};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// What is promised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Commitment {
    /// The node that stores.
    pub node: NodeId,
    pub quota_bytes: u64,
    pub until: Timestamp,
}

/// Commitments of one member to one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
    pub provider: Identity,
}

/// The logic of `service_commitment`.
#[derive(Clone, Copy, Debug)]
pub struct CommitmentLogic;

impl ResourceLogic for CommitmentLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().commitment
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Commitment) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if acting.label.identity != label.provider {
            return Err(LogicError::denied("promise for another"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted
            || acting.passage != Passage::Renewed
        {
            return Err(LogicError::invalid("a commitment is made by a member and not consumed"));
        }
        if value.until <= acting.authority.timestamp {
            return Err(LogicError::invalid("a commitment ends after it begins"));
        }
        Ok(())
    }
}

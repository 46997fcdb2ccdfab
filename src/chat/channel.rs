//! `channel`: the resource that founds a channel and says what it is.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted, founding | beside the minted access of its founder |
//! | minted, updating | by a member who may `set_topic` |
//! | consumed | never |
//!
//! An update does not consume what it updates: two members may update at once without a leader,
//! and which one counts is decided by rule R7, not by who consumed first.

use serde::{Deserialize, Serialize};

use super::access::Acting;
use super::facts::{self, Passage};
use super::permissions;
use crate::base::{ChannelId, Digest};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// Channel resources of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
}

/// What the channel is from here on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    /// The name, in the founding resource only.
    pub name: Option<super::name::ChannelName>,
    pub topic: String,
}

/// The logic of `channel`.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLogic;

impl ResourceLogic for ChannelLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().channel
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted {
            return Err(LogicError::invalid("a channel is not consumed"));
        }
        match (value.name, acting.passage) {
            (Some(_), Passage::Minted) => Ok(()),
            (None, Passage::Renewed) => {
                permissions::require(instance, |permissions| permissions.set_topic, "set_topic")
            }
            _ => Err(LogicError::invalid("a channel is founded once and updated by members")),
        }
    }
}

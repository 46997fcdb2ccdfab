//! `token`: something countable that people pass on: the example of a logic that is not about chat.
//!
//! | resource | its logic allows |
//! |---|---|
//! | consumed, ephemeral (minted) | with the consent of its issuer, to whom it belongs at first |
//! | consumed, lasting | with the consent of its owner |
//! | created | always: the machine sees to it that as much is consumed as is created |
//!
//! Consent is a signature over the whole action (`machine::consent`). A token carries no right in its
//! channel: what it is worth is for people to say.

use serde::{Deserialize, Serialize};

use super::asset::{self, Value};
use super::facts;
use crate::base::{ChannelId, Digest, Identity};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// What makes two tokens the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Label {
    /// Where it is kept account of.
    pub channel: ChannelId,
    pub issuer: Identity,
    pub name: String,
}

impl Label {
    /// Whether the name is one.
    pub fn is_well_formed(&self) -> bool {
        asset::is_name(&self.name)
    }
}

/// The logic of `token`.
#[derive(Clone, Copy, Debug)]
pub struct TokenLogic;

impl ResourceLogic for TokenLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().token
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read_counted(&instance.member())?;
        if !label.is_well_formed() {
            return Err(LogicError::invalid("a token has a name"));
        }
        asset::require_rights(instance, &label.issuer, &value.owner)
    }
}

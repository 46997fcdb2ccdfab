//! Assets: what tokens and tickets have in common. Each is issued by somebody, in one channel, under a
//! name, and each piece of it belongs to somebody.
//!
//! | resource | whose consent lets it |
//! |---|---|
//! | consumed, ephemeral (issued) | its issuer's, and it is the issuer's first |
//! | consumed, lasting (given away) | its owner's |
//! | created, lasting | nobody's: what is created of it was consumed elsewhere, for the whole balances |
//! | created, ephemeral (destroyed) | nobody's beyond what was consumed for it |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts;
use super::{ticket, token};
use crate::base::{ChannelId, Digest, Identity, codec, limits};
use crate::machine::consent::Consent;
use crate::machine::settlement::Made;
use crate::machine::{LogicError, LogicInstance, NullifierKeyCommitment, Resource, ResourceKind};

/// Whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Value {
    pub owner: Identity,
}

/// Something that can be owned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Asset {
    Token(token::Label),
    Ticket(ticket::Label),
}

/// A piece of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    pub asset: Asset,
    pub owner: Identity,
    pub resource: Resource,
}

impl Asset {
    /// The channel it lives in.
    pub fn channel(&self) -> ChannelId {
        match self {
            Self::Token(label) => label.channel,
            Self::Ticket(label) => label.channel,
        }
    }

    /// Who makes it.
    pub fn issuer(&self) -> Identity {
        match self {
            Self::Token(label) => label.issuer,
            Self::Ticket(label) => label.issuer,
        }
    }

    /// What its issuer calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Token(label) => &label.name,
            Self::Ticket(label) => &label.name,
        }
    }

    /// What it is on the machine.
    pub fn kind(&self) -> ResourceKind {
        let refs = facts::logic_refs();
        match self {
            Self::Token(label) => ResourceKind { logic_ref: refs.token, label_ref: facts::reference(label) },
            Self::Ticket(label) => {
                ResourceKind { logic_ref: refs.ticket, label_ref: facts::reference(label) }
            }
        }
    }

    /// Whether its name and bounds are in order.
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Token(label) => label.is_well_formed(),
            Self::Ticket(label) => label.is_well_formed(),
        }
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name(), self.issuer())
    }
}

impl Holding {
    /// Reads a created resource; `None` if it is no asset.
    pub fn read(made: &Made) -> Option<Self> {
        let (asset, owner) = Self::read_facts(&made.resource, &made.facts)?;
        Some(Self { asset, owner, resource: made.resource })
    }

    /// The asset and owner that the facts of a resource name.
    pub fn read_facts(resource: &Resource, bytes: &[u8]) -> Option<(Asset, Identity)> {
        let refs = facts::logic_refs();
        let (asset, value) = if resource.logic_ref == refs.token {
            let (label, value): (token::Label, Value) = codec::decode(bytes, facts::FACTS_BYTES).ok()?;
            (Asset::Token(label), value)
        } else if resource.logic_ref == refs.ticket {
            let (label, value): (ticket::Label, Value) = codec::decode(bytes, facts::FACTS_BYTES).ok()?;
            (Asset::Ticket(label), value)
        } else {
            return None;
        };
        let commits = asset.kind() == resource.kind() && facts::reference(&value) == resource.value_ref;
        commits.then_some((asset, value.owner))
    }
}

/// Whether a text can name an asset: 1 to 32 small letters, digits and hyphens.
pub fn is_name(name: &str) -> bool {
    (1..=limits::ASSET_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The rule of this module's table.
///
/// # Errors
/// The part of it that is broken.
pub(super) fn require_rights(
    instance: &LogicInstance<'_>,
    issuer: &Identity,
    owner: &Identity,
) -> Result<(), LogicError> {
    require_sound(instance)?;
    match (instance.is_consumed, instance.resource.is_ephemeral) {
        (true, true) if owner != issuer => Err(LogicError::denied("what is issued is the issuer's first")),
        (true, true) if !Consent::is_given(instance.action, issuer) => {
            Err(LogicError::denied("issue what another issues"))
        }
        (true, false) if !Consent::is_given(instance.action, owner) => {
            Err(LogicError::denied("give away what another owns"))
        }
        _ => Ok(()),
    }
}

/// What holds of every piece of an asset.
pub(super) fn require_sound(instance: &LogicInstance<'_>) -> Result<(), LogicError> {
    if instance.resource.quantity == 0 {
        return Err(LogicError::invalid("nothing of an asset is no asset"));
    }
    // Else whoever makes a piece for somebody could keep from them what consumes it.
    if instance.resource.nk_commitment != NullifierKeyCommitment::default() {
        return Err(LogicError::invalid("an asset is opened by the public key"));
    }
    Ok(())
}

/// The label and owner of a piece, for tests of equality with another.
pub(super) fn value_ref(owner: Identity) -> Digest {
    facts::reference(&Value { owner })
}

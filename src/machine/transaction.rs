//! Transactions: actions that balance together. This file owns composition and the checks that
//! span actions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::error::MachineError;
use super::logic::Logics;
use super::proving::{Proof, ProvingSystem, Verified};
use crate::base::{Digest, codec};

/// Actions of one transaction.
pub const ACTIONS: usize = 16;
/// Bytes of an encoded transaction.
pub const TRANSACTION_BYTES: usize = 256 * 1024;

/// Actions that happen together or not at all. One that does not balance yet is an intent: it
/// waits to be composed with others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Transaction {
    pub actions: Vec<Action>,
    pub proof: Proof,
}

impl Transaction {
    /// Proves the actions. They need not balance.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn prove(
        actions: Vec<Action>,
        logics: &Logics,
        proving: &impl ProvingSystem,
    ) -> Result<Self, MachineError> {
        let proof = proving.prove(logics, &actions)?;
        Ok(Self { actions, proof })
    }

    /// The union of the parts' actions, in their order. Each part stays as good as it was; whether
    /// the whole balances is seen by verifying it.
    ///
    /// # Errors
    /// [`MachineError::DuplicateTag`] if two actions consume or create the same resource, a broken
    /// rule of compliance, [`MachineError::TooMuch`], or [`MachineError::WrongProof`] for a part
    /// of another proving system.
    pub fn compose(parts: Vec<Self>, proving: &impl ProvingSystem) -> Result<Self, MachineError> {
        if parts.iter().map(|part| part.actions.len()).sum::<usize>() > ACTIONS {
            return Err(MachineError::TooMuch("actions"));
        }
        let proof = proving.aggregate(&parts.iter().map(|part| &part.proof).collect::<Vec<_>>())?;
        let actions: Vec<Action> = parts.into_iter().flat_map(|part| part.actions).collect();
        let mut tags = Distinct::default();
        for action in &actions {
            tags.take(&action.check()?.tags())?;
        }
        Ok(Self { actions, proof })
    }

    /// Checks everything that can be checked without state: compliance, logics and proof of every
    /// action, no tag twice, and a delta of zero.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn verify(
        &self,
        logics: &Logics,
        proving: &impl ProvingSystem,
    ) -> Result<Verified<'_>, MachineError> {
        let verified = self.verify_unbalanced(logics, proving)?;
        verified.delta.require_zero()?;
        Ok(verified)
    }

    /// [`Self::verify`] for an intent: everything but the balance, which is reported.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn verify_unbalanced(
        &self,
        logics: &Logics,
        proving: &impl ProvingSystem,
    ) -> Result<Verified<'_>, MachineError> {
        if self.actions.is_empty() {
            return Err(MachineError::NoActions);
        }
        if self.actions.len() > ACTIONS {
            return Err(MachineError::TooMuch("actions"));
        }
        let verified = proving.verify(logics, &self.actions, &self.proof)?;
        let mut tags = Distinct::default();
        for action in &verified.actions {
            tags.take(&action.tags())?;
        }
        Ok(verified)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes. The transaction is well formed then, and nothing more.
    ///
    /// # Errors
    /// [`MachineError::Codec`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MachineError> {
        Ok(codec::decode(bytes, TRANSACTION_BYTES)?)
    }
}

/// Tags seen so far.
#[derive(Default)]
struct Distinct(BTreeSet<Digest>);

impl Distinct {
    fn take(&mut self, tags: &[Digest]) -> Result<(), MachineError> {
        match tags.iter().find(|tag| !self.0.insert(**tag)) {
            Some(tag) => Err(MachineError::DuplicateTag(*tag)),
            None => Ok(()),
        }
    }
}

//! Intents: what somebody wants of others, as a transaction that does not balance yet, with the
//! constraints under which they agree to it. It owns the format, its bounds and what makes an intent
//! sound in itself; composing intents is `settlement`'s, finding which ones is `solver`'s.
//!
//! Every action of an intent carries its author's [`Consent`], whose terms are the hash of the
//! constraints and of all actions of the intent. So whoever composes it can neither change an action,
//! nor leave one out, nor drop a constraint; and as its nullifiers are spent once, nor use it twice.

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::consent::{self, Consent};
use super::delta::Delta;
use super::error::MachineError;
use super::logic::Logics;
use super::predicate::Predicate;
use super::proving::{ProvingSystem, Transparent};
use super::resource::hash;
use super::transaction::Transaction;
use crate::base::key::SecretKey;
use crate::base::{Digest, Identity, Timestamp, codec};

/// Actions of one intent.
pub const INTENT_ACTIONS: usize = 4;
/// Preferences of one intent.
pub const PREFERENCES: usize = 16;
/// Bytes of an encoded intent.
pub const INTENT_BYTES: usize = 16 * 1024;

/// An unbalanced transaction, and under which constraints its author agrees to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent {
    pub author: Identity,
    pub constraints: Constraints,
    pub transaction: Transaction,
}

/// What has to hold of whatever an intent becomes part of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Constraints {
    /// The last moment at which it may be settled.
    pub expires: Timestamp,
    /// To whom it may flow: the solver, and the authors of the intents beside it.
    pub flow: Predicate,
    /// Whom the author would rather deal with. Solvers heed it; it makes no settlement invalid.
    pub preferences: Vec<Preference>,
}

/// So much rather than with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preference {
    pub party: Identity,
    pub weight: u8,
}

impl Constraints {
    /// Until then, with anybody.
    pub fn until(expires: Timestamp) -> Self {
        Self { expires, ..Self::default() }
    }

    /// What is wrong with a composition by `solver` at `at` beside these other authors, if anything.
    ///
    /// # Errors
    /// [`MachineError::Terms`] names the broken constraint.
    pub fn require(
        &self,
        at: Timestamp,
        solver: &Identity,
        mut others: impl Iterator<Item = Identity>,
    ) -> Result<(), MachineError> {
        if at > self.expires {
            return Err(MachineError::Terms("an intent is settled before it expires"));
        }
        if !self.flow.allows(solver) || !others.all(|other| self.flow.allows(&other)) {
            return Err(MachineError::Terms("an intent flows only to whom it allows"));
        }
        Ok(())
    }
}

impl Intent {
    /// Proves the actions and signs each of them, under these constraints.
    ///
    /// # Errors
    /// What is wrong with the actions or the constraints.
    pub fn sign(
        mut actions: Vec<Action>,
        constraints: Constraints,
        author: &SecretKey,
        logics: &Logics,
    ) -> Result<Self, MachineError> {
        let terms = terms(&author.public(), &constraints, &actions)?;
        for action in &mut actions {
            Consent::give(action, terms, author)?;
        }
        let transaction = Transaction::prove(actions, logics, &Transparent)?;
        let intent = Self { author: author.public(), constraints, transaction };
        intent.check_terms()?;
        Ok(intent)
    }

    /// Its name: BLAKE3 of its canonical bytes. Only its author can make another of the same meaning.
    pub fn id(&self) -> Digest {
        Digest(*blake3::hash(&codec::encode(self)).as_bytes())
    }

    /// Whether it is sound in itself: bounds, the author's consent to every action under exactly these
    /// constraints, compliance and logics. Returns what it lacks and offers.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn verify(&self, logics: &Logics, proving: &impl ProvingSystem) -> Result<Delta, MachineError> {
        self.check_terms()?;
        Ok(self.transaction.verify_unbalanced(logics, proving)?.delta)
    }

    /// The part of [`Self::verify`] that needs no logic: bounds and consents.
    pub(super) fn check_terms(&self) -> Result<(), MachineError> {
        let actions = &self.transaction.actions;
        if actions.is_empty() {
            return Err(MachineError::NoActions);
        }
        if actions.len() > INTENT_ACTIONS || codec::encode(self).len() > INTENT_BYTES {
            return Err(MachineError::TooMuch("actions of one intent"));
        }
        if self.constraints.preferences.len() > PREFERENCES || !self.constraints.flow.is_well_formed() {
            return Err(MachineError::TooMuch("constraints of one intent"));
        }
        let terms = terms(&self.author, &self.constraints, actions)?;
        for action in actions {
            if !Consent::is_all_that_is_unsigned(action) {
                return Err(MachineError::Terms("nothing in an intent is unsigned"));
            }
            let consent = Consent::of(&action.check()?);
            if !consent.is_some_and(|consent| consent.signer == self.author && consent.terms == terms) {
                return Err(MachineError::Terms("an intent is as its author signed it"));
            }
        }
        Ok(())
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes. The intent is well formed then, and nothing more.
    ///
    /// # Errors
    /// [`MachineError::Codec`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MachineError> {
        Ok(codec::decode(bytes, INTENT_BYTES)?)
    }
}

/// The hash of everything that the author of an intent agrees to.
fn terms(author: &Identity, constraints: &Constraints, actions: &[Action]) -> Result<Digest, MachineError> {
    let digests: Vec<Digest> = actions
        .iter()
        .map(|action| Ok(consent::digest(&action.check()?)))
        .collect::<Result<_, MachineError>>()?;
    let bytes = codec::encode(&(author, constraints, digests));
    Ok(hash([b"MULTICHAT_TERMS", &bytes]))
}

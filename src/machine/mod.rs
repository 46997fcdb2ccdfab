//! The Anoma resource machine: resources, actions, compliance, delta, logics and proving, after
//! `PROTOCOL.md` section 1. Commitments, nullifiers, nonces and tags are those of arm-risc0, byte
//! for byte, so that a resource can move to its shielded backend unchanged.
//!
//! The way through it: [`ActionBuilder`] puts resources together and derives what has to be
//! derived; [`verify_action`] checks one balanced action by reference; a [`Transaction`] is
//! several actions that balance together, under a [`ProvingSystem`].
//!
//! The machine checks an action in itself. That a consumed resource exists and was not consumed
//! before is known only to whoever holds the state: [`CheckedAction::opened`] and
//! [`CheckedAction::nullifiers`] are what to look up there.
//!
//! What somebody wants of others is an [`intent::Intent`]: a transaction that does not balance yet, with
//! constraints. [`solver::solve`] finds intents that balance together, and a
//! [`settlement::Settlement`] of them is what everybody verifies.
//!
//! It never knows what a chat is, keeps no state, reads no clock and makes no randomness.

pub mod action;
pub mod compliance;
pub mod consent;
pub mod delta;
pub mod error;
pub mod intent;
pub mod logic;
pub mod nullifier;
pub mod predicate;
pub mod proving;
pub mod resource;
pub mod settlement;
pub mod solver;
pub mod transaction;

#[cfg(test)]
mod barter;
#[cfg(test)]
mod properties;

pub use action::{
    Action, ActionBuilder, AppData, BuiltAction, Consumed, Created, DeletionCriterion, ExpirableBlob,
};
pub use compliance::{CheckedAction, Member};
pub use delta::Delta;
pub use error::MachineError;
pub use logic::{LogicError, LogicInstance, Logics, ResourceLogic, logic_ref};
pub use nullifier::{NullifierKey, NullifierKeyCommitment};
pub use proving::{Proof, ProvingSystem, Rebuilt, Transparent, Verified, verify_action, verify_built};
pub use resource::{Resource, ResourceKind};
pub use transaction::Transaction;

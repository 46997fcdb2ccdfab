//! An action: resources consumed and created together, each with its application data. This file
//! owns the shape and its wire form; `compliance` owns the checks.
//!
//! ARM's action carries tags, proofs and a compliance instance. In the transparent proving system
//! the witness is the instance, so ours carries the resources themselves, and the tags follow.
//! Consumed resources come first, then the created ones: the order of the leaves of ARM's action
//! tree for a witness in that order.

use serde::{Deserialize, Serialize};

use super::compliance::{ACTION_BYTES, CheckedAction};
use super::error::MachineError;
use super::nullifier::NullifierKey;
use super::resource::{Resource, hash_nullifiers};
use crate::base::{Digest, Timestamp, codec};

/// Resources that change together. Serde's form under [`codec`] is its wire form.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Action {
    pub consumed: Vec<Consumed>,
    pub created: Vec<Created>,
}

/// A consumed resource, with what opens it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Consumed {
    pub resource: Resource,
    pub nullifier_key: NullifierKey,
    pub app_data: AppData,
}

/// A created resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Created {
    pub resource: Resource,
    pub app_data: AppData,
}

/// What accompanies one resource for its logic and for readers, in ARM's four parts.
///
/// Tags do not cover it. Whoever signs an action signs it too, over [`super::Rebuilt::digest`] or
/// over the encoded action.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AppData {
    /// For the one who receives the resource.
    pub resource: Vec<ExpirableBlob>,
    /// For finding it.
    pub discovery: Vec<ExpirableBlob>,
    /// For what lies outside the machine.
    pub external: Vec<ExpirableBlob>,
    /// For the application's own ends: message bodies.
    pub application: Vec<ExpirableBlob>,
}

/// Bytes that say themselves when they may be forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExpirableBlob {
    pub blob: Vec<u8>,
    pub deletion: DeletionCriterion,
}

/// When a blob is to be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeletionCriterion {
    Never,
    /// Once this moment is past.
    After(Timestamp),
    /// As soon as its action is verified: it is never stored.
    Immediately,
}

impl DeletionCriterion {
    /// Whether the blob is to be gone at `now`.
    pub fn is_due(self, now: Timestamp) -> bool {
        match self {
            Self::Never => false,
            Self::After(moment) => now > moment,
            Self::Immediately => true,
        }
    }
}

impl ExpirableBlob {
    /// A blob that stays.
    pub fn kept(blob: Vec<u8>) -> Self {
        Self { blob, deletion: DeletionCriterion::Never }
    }

    /// A blob that goes after `moment`.
    pub fn until(blob: Vec<u8>, moment: Timestamp) -> Self {
        Self { blob, deletion: DeletionCriterion::After(moment) }
    }

    /// A blob that is only there for the verification.
    pub fn passing(blob: Vec<u8>) -> Self {
        Self { blob, deletion: DeletionCriterion::Immediately }
    }
}

impl AppData {
    /// Only an application payload.
    pub fn of_application(blob: ExpirableBlob) -> Self {
        Self { application: vec![blob], ..Self::default() }
    }

    /// Every blob: resource, discovery, external, application, each in order.
    pub fn blobs(&self) -> impl Iterator<Item = &ExpirableBlob> {
        self.parts().into_iter().flatten()
    }

    /// The four parts in their order.
    pub(super) fn parts(&self) -> [&Vec<ExpirableBlob>; 4] {
        [&self.resource, &self.discovery, &self.external, &self.application]
    }

    /// Drops every blob that is due. Returns how many.
    pub fn forget_due(&mut self, now: Timestamp) -> usize {
        let mut dropped = 0;
        for part in [&mut self.resource, &mut self.discovery, &mut self.external, &mut self.application] {
            let before = part.len();
            part.retain(|blob| !blob.deletion.is_due(now));
            dropped += before - part.len();
        }
        dropped
    }
}

impl Action {
    /// Checks the action in itself; see [`CheckedAction::new`].
    ///
    /// # Errors
    /// The broken rule of compliance.
    pub fn check(&self) -> Result<CheckedAction<'_>, MachineError> {
        CheckedAction::new(self)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes. The action is well formed then, and nothing more.
    ///
    /// # Errors
    /// [`MachineError::Codec`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MachineError> {
        Ok(codec::decode(bytes, ACTION_BYTES)?)
    }
}

/// Puts an action together and gives the created resources their nonces.
#[derive(Clone, Debug, Default)]
pub struct ActionBuilder {
    action: Action,
    nullifiers: Vec<Digest>,
    opened: Vec<Digest>,
}

/// An action that was built here, and so complies as far as what it consumes and its nonces go: nothing
/// of that need be worked out twice to check it.
#[derive(Clone, Debug)]
pub struct BuiltAction {
    pub(super) action: Action,
    pub(super) nullifiers: Vec<Digest>,
    pub(super) opened: Vec<Digest>,
}

impl BuiltAction {
    /// The action itself.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The action alone.
    pub fn into_action(self) -> Action {
        self.action
    }

    /// Checks what building it did not: sizes, and that no tag occurs twice.
    ///
    /// # Errors
    /// The broken rule of compliance.
    pub fn check(&self) -> Result<CheckedAction<'_>, MachineError> {
        CheckedAction::of_built(self)
    }
}

impl ActionBuilder {
    /// An action of nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes a resource.
    ///
    /// # Errors
    /// [`MachineError::WrongNullifierKey`] if the key does not open it.
    pub fn consume(
        &mut self,
        resource: Resource,
        key: NullifierKey,
        app_data: AppData,
    ) -> Result<&mut Self, MachineError> {
        let commitment = resource.commitment();
        self.nullifiers.push(resource.nullifier_from_commitment(&key, &commitment)?);
        self.opened.push(commitment);
        self.action.consumed.push(Consumed { resource, nullifier_key: key, app_data });
        Ok(self)
    }

    /// Creates a resource. Its nonce is not looked at: [`Self::build`] sets it.
    pub fn create(&mut self, resource: Resource, app_data: AppData) -> &mut Self {
        self.action.created.push(Created { resource, app_data });
        self
    }

    /// The action, with the nonces of all created resources derived from what it consumes. It is
    /// not checked for anything else.
    ///
    /// # Errors
    /// [`MachineError::NothingConsumed`].
    pub fn build(self) -> Result<Action, MachineError> {
        self.build_here().map(BuiltAction::into_action)
    }

    /// The same, with what was worked out on the way.
    ///
    /// # Errors
    /// [`MachineError::NothingConsumed`].
    pub fn build_here(self) -> Result<BuiltAction, MachineError> {
        let Self { mut action, nullifiers, opened } = self;
        let hash = hash_nullifiers(&nullifiers)?;
        for (index, created) in (0u32..).zip(&mut action.created) {
            created.resource.nonce = Resource::nonce_from(index, &hash);
        }
        Ok(BuiltAction { action, nullifiers, opened })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_goes_when_its_criterion_says() {
        let blobs = || {
            vec![
                ExpirableBlob::kept(b"kept".to_vec()),
                ExpirableBlob::until(b"until 10".to_vec(), Timestamp(10)),
                ExpirableBlob::passing(b"passing".to_vec()),
            ]
        };
        let mut app_data = AppData { resource: blobs(), application: blobs(), ..AppData::default() };
        assert_eq!(app_data.forget_due(Timestamp(10)), 2);
        assert_eq!(app_data.blobs().count(), 4);
        assert_eq!(app_data.forget_due(Timestamp(11)), 2);
        assert!(app_data.blobs().all(|blob| blob.blob == b"kept"));
        assert_eq!(app_data.forget_due(Timestamp(u64::MAX)), 0);
    }

    #[test]
    fn the_builder_refuses_what_could_not_be_unique_or_opened() {
        let mut builder = ActionBuilder::new();
        builder.create(Resource::default(), AppData::default());
        assert_eq!(builder.build(), Err(MachineError::NothingConsumed));
        let wrong = NullifierKey::from_bytes([1; 32]);
        let refused = ActionBuilder::new().consume(Resource::default(), wrong, AppData::default()).err();
        assert_eq!(refused, Some(MachineError::WrongNullifierKey));
    }
}

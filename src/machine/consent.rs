//! Consent: somebody's signature that an action may happen, under terms that they named. In the
//! transparent proving system it is what lets a resource be consumed, as nullifier keys are public.
//! It owns what is signed; whose consent is needed is for logics to say.
//!
//! An action carries one consent at most: in `external[0]` of its first consumed resource.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::action::{Action, ExpirableBlob};
use super::compliance::CheckedAction;
use super::error::MachineError;
use super::proving::hash_blobs;
use super::resource::hash;
use crate::base::key::{self, SecretKey, Signature};
use crate::base::{Digest, Identity, codec};

const CONSENT_BYTES: usize = 128;

/// A signature over an action and the terms it is given under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Consent {
    pub signer: Identity,
    /// What else has to hold: see [`super::intent`].
    pub terms: Digest,
    pub signature: Signature,
}

impl Consent {
    /// Signs an action and puts the consent into it.
    ///
    /// # Errors
    /// What is wrong with the action.
    pub fn give(action: &mut Action, terms: Digest, signer: &SecretKey) -> Result<(), MachineError> {
        let signature = signer.sign(&statement(&digest(&action.check()?), &terms).0);
        let consent = Self { signer: signer.public(), terms, signature };
        let first = action.consumed.first_mut().ok_or(MachineError::NothingConsumed)?;
        first.app_data.external = vec![ExpirableBlob::kept(codec::encode(&consent))];
        Ok(())
    }

    /// The consent that an action carries, if it is a signature over this very action.
    pub fn of(checked: &CheckedAction<'_>) -> Option<Self> {
        let first = checked.action().consumed.first()?;
        let blob = first.app_data.external.first()?;
        let consent: Self = codec::decode(&blob.blob, CONSENT_BYTES).ok()?;
        let statement = statement(&digest(checked), &consent.terms);
        key::verify(&consent.signer, &statement.0, &consent.signature).then_some(consent)
    }

    /// Whether the action carries the consent of this signer.
    pub fn is_given(checked: &CheckedAction<'_>, signer: &Identity) -> bool {
        Self::of(checked).is_some_and(|consent| consent.signer == *signer)
    }

    /// Whether nothing travels with the action that no consent covers.
    pub(super) fn is_all_that_is_unsigned(action: &Action) -> bool {
        let mut external = action.consumed.iter().map(|input| &input.app_data.external);
        let first = external.next().is_some_and(
            |blobs| matches!(blobs.as_slice(), [blob] if *blob == ExpirableBlob::kept(blob.blob.clone())),
        );
        let created = action.created.iter().map(|output| &output.app_data.external);
        first && external.chain(created).all(Vec::is_empty)
    }
}

/// What a consent covers of an action: every tag, and with them every field of every resource, and all
/// application data but the external part, where the consent itself lies.
pub(super) fn digest(checked: &CheckedAction<'_>) -> Digest {
    let mut hasher = Sha256::new();
    for member in checked.members() {
        let [resource, discovery, _, application] = member.app_data.parts();
        for part in [resource, discovery, application] {
            hash_blobs(&mut hasher, part);
        }
    }
    let app_data: [u8; 32] = hasher.finalize().into();
    hash([b"MULTICHAT_CONSENTED", &checked.root().0[..], &app_data])
}

fn statement(action: &Digest, terms: &Digest) -> Digest {
    hash([b"MULTICHAT_CONSENT", &action.0[..], &terms.0])
}

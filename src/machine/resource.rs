//! The resource and everything computed from it, as arm-risc0 computes it. No rule about what a
//! resource may do lives here: that is its logic's.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::MachineError;
use super::nullifier::{NullifierKey, NullifierKeyCommitment};
use crate::base::Digest;

const EXPAND_SEED: &[u8; 16] = b"RISC0_ExpandSeed";
const EXPAND_PSI: u8 = 0;
const EXPAND_RCM: u8 = 1;
const NONCE_DERIVATION: &[u8; 20] = b"ARM_NONCE_DERIVATION";

/// The unit of state: made once, consumed once.
///
/// An ephemeral resource is never stored. It mints, burns or balances, and the machine asks nobody
/// whether it existed before it was consumed: its logic has to say when that is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resource {
    /// Names the predicate that guards it; see [`super::logic_ref`].
    pub logic_ref: Digest,
    /// With `logic_ref`, says what it is interchangeable with.
    pub label_ref: Digest,
    /// Commits to what it carries beyond its quantity.
    pub value_ref: Digest,
    pub quantity: u128,
    pub is_ephemeral: bool,
    /// Makes it unique. Derived from its action for a created resource.
    pub nonce: Digest,
    pub nk_commitment: NullifierKeyCommitment,
    /// Whatever randomness is needed is expanded from this.
    pub rand_seed: [u8; 32],
}

impl Resource {
    /// `cm = H(logic ‖ label ‖ quantity_be16 ‖ value ‖ eph ‖ nonce ‖ nkc ‖ rcm)`.
    pub fn commitment(&self) -> Digest {
        let rcm = self.expand(EXPAND_RCM);
        hash([
            &self.logic_ref.0[..],
            &self.label_ref.0,
            &self.quantity.to_be_bytes(),
            &self.value_ref.0,
            &[u8::from(self.is_ephemeral)],
            &self.nonce.0,
            &self.nk_commitment.0.0,
            &rcm.0,
        ])
    }

    /// `nf = H(nk ‖ nonce ‖ psi ‖ cm)`.
    ///
    /// # Errors
    /// [`MachineError::WrongNullifierKey`] if the key does not open `nk_commitment`.
    pub fn nullifier(&self, key: &NullifierKey) -> Result<Digest, MachineError> {
        self.nullifier_from_commitment(key, &self.commitment())
    }

    /// The same for a caller that already has the commitment of this very resource.
    ///
    /// # Errors
    /// [`MachineError::WrongNullifierKey`] if the key does not open `nk_commitment`.
    pub fn nullifier_from_commitment(
        &self,
        key: &NullifierKey,
        commitment: &Digest,
    ) -> Result<Digest, MachineError> {
        if key.commit() != self.nk_commitment {
            return Err(MachineError::WrongNullifierKey);
        }
        let psi = self.expand(EXPAND_PSI);
        Ok(hash([&key.as_bytes()[..], &self.nonce.0, &psi.0, &commitment.0]))
    }

    /// The nullifier if the resource is consumed (`Some` key), the commitment if it is created.
    ///
    /// # Errors
    /// [`MachineError::WrongNullifierKey`] if the key does not open `nk_commitment`.
    pub fn tag(&self, consumed_with: Option<&NullifierKey>) -> Result<Digest, MachineError> {
        match consumed_with {
            Some(key) => self.nullifier(key),
            None => Ok(self.commitment()),
        }
    }

    /// What the resource is interchangeable with.
    pub fn kind(&self) -> ResourceKind {
        ResourceKind { logic_ref: self.logic_ref, label_ref: self.label_ref }
    }

    /// The nonce of the created resource at `index` (among the created resources of its action),
    /// from all nullifiers of the action in their order:
    /// `H("ARM_NONCE_DERIVATION" ‖ index_be4 ‖ H(nf…))`.
    ///
    /// # Errors
    /// [`MachineError::NothingConsumed`] without nullifiers, as nothing would make it unique.
    pub fn derive_nonce(index: u32, nullifiers: &[Digest]) -> Result<Digest, MachineError> {
        Ok(Self::nonce_from(index, &hash_nullifiers(nullifiers)?))
    }

    /// [`Self::derive_nonce`] when the nullifiers are hashed already.
    pub(super) fn nonce_from(index: u32, nullifiers_hash: &Digest) -> Digest {
        hash([&NONCE_DERIVATION[..], &index.to_be_bytes(), &nullifiers_hash.0])
    }

    /// `H("RISC0_ExpandSeed" ‖ purpose ‖ rand_seed ‖ nonce)`.
    fn expand(&self, purpose: u8) -> Digest {
        hash([&EXPAND_SEED[..], &[purpose], &self.rand_seed, &self.nonce.0])
    }
}

impl Default for Resource {
    /// All zeros, ephemeral, under the default nullifier key: something to start from.
    fn default() -> Self {
        Self {
            logic_ref: Digest::default(),
            label_ref: Digest::default(),
            value_ref: Digest::default(),
            quantity: 0,
            is_ephemeral: true,
            nonce: Digest::default(),
            nk_commitment: NullifierKeyCommitment::default(),
            rand_seed: [0; 32],
        }
    }
}

/// What can be exchanged for what: resources with the same logic and label.
///
/// ARM hashes the pair to a point of secp256k1, because its shielded delta adds committed
/// quantities on that curve. Here the delta is computed in the open and only asks whether two
/// kinds are the same, which the pair itself answers exactly, 44 µs sooner per resource and
/// without an elliptic curve library in the node. A shielded backend computes the point from this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ResourceKind {
    pub logic_ref: Digest,
    pub label_ref: Digest,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.logic_ref.short(), self.label_ref.short())
    }
}

/// `H(nf…)`, the first step of every created nonce of an action.
pub(super) fn hash_nullifiers(nullifiers: &[Digest]) -> Result<Digest, MachineError> {
    if nullifiers.is_empty() {
        return Err(MachineError::NothingConsumed);
    }
    let mut hasher = Sha256::new();
    for nullifier in nullifiers {
        hasher.update(nullifier.0);
    }
    Ok(Digest(hasher.finalize().into()))
}

/// SHA-256 of the parts, one after the other.
pub(super) fn hash<const N: usize>(parts: [&[u8]; N]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}

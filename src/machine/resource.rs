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
    // All at once is faster than piece by piece, and most is short.
    let mut joined = [0; 256];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > joined.len() {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        return Digest(hasher.finalize().into());
    }
    let mut end = 0;
    for part in parts {
        joined[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    Digest(Sha256::digest(&joined[..length]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of one repeated byte each; the expected digests were computed apart from this code,
    /// by hashing the concatenations that the rustdoc of each function shows.
    fn resource() -> (Resource, NullifierKey) {
        let key = NullifierKey::from_bytes([5; 32]);
        let resource = Resource {
            logic_ref: Digest([1; 32]),
            label_ref: Digest([2; 32]),
            value_ref: Digest([3; 32]),
            quantity: 5,
            is_ephemeral: false,
            nonce: Digest([4; 32]),
            nk_commitment: key.commit(),
            rand_seed: [6; 32],
        };
        (resource, key)
    }

    #[test]
    fn commitment_nullifier_and_tag_are_those_of_the_formulas() {
        let (resource, key) = resource();
        let commitment = Digest([
            0xe3, 0xec, 0xa2, 0x94, 0xc8, 0xe7, 0x32, 0x89, 0x1d, 0xe0, 0x1e, 0x82, 0x34, 0x60, 0x0f, 0x11,
            0x26, 0xa5, 0x78, 0xf5, 0xa1, 0xd9, 0xb3, 0xf1, 0xe7, 0x46, 0x72, 0x8a, 0xbc, 0xa0, 0x28, 0x3a,
        ]);
        let nullifier = Digest([
            0x97, 0xf4, 0x0a, 0x91, 0x3c, 0xb6, 0xf9, 0x0e, 0x87, 0x42, 0x50, 0x0d, 0x6b, 0x8f, 0x53, 0xb8,
            0xf0, 0x52, 0xa1, 0x3e, 0x17, 0xaa, 0x58, 0x5a, 0x49, 0x4f, 0xd6, 0x18, 0x5b, 0x76, 0x9d, 0xaf,
        ]);
        assert_eq!(resource.commitment(), commitment);
        assert_eq!(resource.nullifier(&key), Ok(nullifier));
        assert_eq!(resource.tag(None), Ok(commitment));
        assert_eq!(resource.tag(Some(&key)), Ok(nullifier));
    }

    #[test]
    fn a_nonce_comes_from_its_index_and_every_nullifier_in_order() {
        let nullifiers = [Digest([7; 32]), Digest([8; 32])];
        let nonce = Digest([
            0xe7, 0x5f, 0x58, 0x47, 0x85, 0xeb, 0xdd, 0xae, 0xae, 0x25, 0xff, 0x9e, 0x7e, 0xc3, 0x75, 0xd2,
            0xe1, 0xda, 0xb4, 0xa9, 0xed, 0x50, 0x10, 0xfc, 0x98, 0x4f, 0x1a, 0xce, 0x00, 0x2a, 0x08, 0x9f,
        ]);
        assert_eq!(Resource::derive_nonce(1, &nullifiers), Ok(nonce));
        assert_ne!(Resource::derive_nonce(0, &nullifiers), Ok(nonce));
        assert_ne!(Resource::derive_nonce(1, &[nullifiers[1], nullifiers[0]]), Ok(nonce));
        assert_eq!(Resource::derive_nonce(0, &[]), Err(MachineError::NothingConsumed));
    }

    #[test]
    fn only_its_own_key_opens_a_resource() {
        let (resource, _) = resource();
        let other = NullifierKey::from_bytes([6; 32]);
        assert_eq!(resource.nullifier(&other), Err(MachineError::WrongNullifierKey));
    }

    #[test]
    fn kinds_are_logic_and_label_and_nothing_else() {
        let (resource, _) = resource();
        let more = Resource { quantity: 6, value_ref: Digest([9; 32]), ..resource };
        assert_eq!(more.kind(), resource.kind());
        assert_ne!(Resource { label_ref: Digest([9; 32]), ..resource }.kind(), resource.kind());
        assert_ne!(Resource { logic_ref: Digest([9; 32]), ..resource }.kind(), resource.kind());
    }
}

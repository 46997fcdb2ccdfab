//! The key that consumes a resource, and its commitment inside the resource. In the transparent
//! proving system the key is public once used: who may consume is then decided by signatures, not
//! by the secrecy of this key.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::Digest;

/// The commitment of the default key: the well-known SHA-256 of 32 zero bytes. Nearly every resource has it.
const OF_DEFAULT: Digest = Digest([
    0x66, 0x68, 0x7a, 0xad, 0xf8, 0x62, 0xbd, 0x77, 0x6c, 0x8f, 0xc1, 0x8b, 0x8e, 0x9f, 0x8e, 0x20, 0x08,
    0x97, 0x14, 0x85, 0x6e, 0xe2, 0x33, 0xb3, 0x90, 0x2a, 0x59, 0x1d, 0x0d, 0x5f, 0x29, 0x25,
]);

/// The key from which a resource's nullifier is computed. Its `Debug` form does not show it. The
/// default, all zeros as in ARM, is for resources whose consumption is guarded by a logic alone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NullifierKey([u8; 32]);

impl NullifierKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `nkc = H(nk)`.
    pub fn commit(&self) -> NullifierKeyCommitment {
        if *self == Self::default() {
            return NullifierKeyCommitment(OF_DEFAULT);
        }
        NullifierKeyCommitment(Digest(Sha256::digest(self.0).into()))
    }
}

impl fmt::Debug for NullifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NullifierKey(..)")
    }
}

/// The SHA-256 of a [`NullifierKey`]; part of a resource.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NullifierKeyCommitment(pub Digest);

impl Default for NullifierKeyCommitment {
    /// The commitment of the default key.
    fn default() -> Self {
        Self(OF_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commitment_is_the_plain_hash() {
        assert_eq!(OF_DEFAULT, Digest(Sha256::digest([0; 32]).into()));
        assert_eq!(NullifierKey::default().commit(), NullifierKeyCommitment::default());
        let other = NullifierKey::from_bytes([7; 32]);
        assert_eq!(other.commit().0, Digest(Sha256::digest([7; 32]).into()));
    }

    #[test]
    fn debug_keeps_the_key_to_itself() {
        assert_eq!(format!("{:?}", NullifierKey::from_bytes([7; 32])), "NullifierKey(..)");
    }
}

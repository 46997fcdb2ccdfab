//! Ed25519 keys, and the derivation of every key a node keeps from its one secret.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::Identity;

/// A signature over an event id or a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let halves: ([u8; 32], [u8; 32]) =
            (self.0[..32].try_into().expect("32 bytes"), self.0[32..].try_into().expect("32 bytes"));
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0u8; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// A secret key. Its `Debug` form never shows it.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key made from 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The key of one purpose and name under this one: `BLAKE3-derive(purpose, seed ‖ name)`.
    /// The same inputs give the same key, so a node need store no secret but its first.
    pub fn derive(&self, purpose: Purpose, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose.context());
        hasher.update(self.0.as_bytes());
        hasher.update(name.as_bytes());
        Self::from_seed(*hasher.finalize().as_bytes())
    }

    /// The public key.
    pub fn public(&self) -> Identity {
        Identity(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The secret bytes, for the transport identity and for tests. Never log them.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?})", self.public())
    }
}

/// What a derived key is for; each has a separate derivation context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The identity of a person this node speaks for.
    Identity,
    /// A device of such a person: signs that person's lanes.
    Device,
    /// The node's transport key.
    Transport,
    /// The key that an invite link carries.
    Invite,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Identity => "multichat 2026-11 identity key",
            Self::Device => "multichat 2026-11 device key",
            Self::Transport => "multichat 2026-11 transport key",
            Self::Invite => "multichat 2026-11 invite key",
        }
    }
}

/// Whether `signature` is `key`'s over `message`, by the strict rule (no small-order keys).
pub fn verify(key: &Identity, message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.0) else { return false };
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}

//! `user_profile`: how a person presents themselves in a channel.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | beside the user's minted access |
//! | consumed | beside the user's access: renewed with a new profile, or released by leaving |
//!
//! A profile lives in each channel its owner is in: whoever reads the channel has it, and nothing
//! has to be looked up elsewhere.

use serde::{Deserialize, Serialize};

use super::access::{Acting, Label};
use super::facts::{self, Passage};
use crate::base::key::{self, SecretKey, Signature, Signed};
use crate::base::{Digest, Identity, Timestamp, limits};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// Names and home of a person. Names are claims: two people may make the same one, and views
/// then add the first characters of the identity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// A short name without spaces: a nick, a localpart.
    pub username: String,
    /// The name to show; empty means the username.
    pub display_name: String,
    /// Where the person is from, such as `@alice:example.org` or `bob@irc.libera.chat`; empty for
    /// a native user. Set by the node that keeps the bridged identity.
    pub home: String,
}

impl Profile {
    /// The name to show.
    pub fn name(&self) -> &str {
        if self.display_name.is_empty() { &self.username } else { &self.display_name }
    }

    /// Whether the names are within bounds and free of control characters.
    pub fn is_well_formed(&self) -> bool {
        let clean = |text: &str| !text.chars().any(char::is_control);
        (1..=limits::USERNAME_BYTES).contains(&self.username.len())
            && !self.username.chars().any(|c| c.is_whitespace())
            && self.display_name.len() <= limits::DISPLAY_NAME_BYTES
            && self.home.len() <= limits::DISPLAY_NAME_BYTES
            && clean(&self.username)
            && clean(&self.display_name)
            && clean(&self.home)
    }
}

/// An identity's word that a device is its own, until `expires`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    pub identity: Identity,
    pub device: Identity,
    pub expires: Timestamp,
    /// The identity's, over `CERTIFICATE_CONTEXT ‖ device ‖ expires` (big endian).
    pub signature: Signature,
}

const CERTIFICATE_CONTEXT: &[u8] = b"multichat device certificate 1";

impl Certificate {
    /// Certifies `device` as a device of `identity`.
    pub fn issue(identity: &SecretKey, device: Identity, expires: Timestamp) -> Self {
        let signature = identity.sign(&Self::statement(&device, expires));
        Self { identity: identity.public(), device, expires, signature }
    }

    /// Whether the identity really signed it. It says nothing about time.
    pub fn is_authentic(&self) -> bool {
        let Signed { key, message, signature } = self.signed();
        key::verify(&key, &message, &signature)
    }

    /// What the identity has to have signed.
    pub fn signed(&self) -> Signed {
        let message = Self::statement(&self.device, self.expires);
        Signed { key: self.identity, message, signature: self.signature }
    }

    fn statement(device: &Identity, expires: Timestamp) -> Vec<u8> {
        [CERTIFICATE_CONTEXT, device.as_bytes(), &expires.0.to_be_bytes()].concat()
    }
}

/// The logic of `user_profile`. Its value is the profile's hash.
#[derive(Clone, Copy, Debug)]
pub struct ProfileLogic;

impl ResourceLogic for ProfileLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().profile
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, _): (Label, Digest) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label != label {
            return Err(LogicError::denied("change another's profile"));
        }
        match (facts::passage(instance, self.logic_ref())?, acting.passage) {
            (Passage::Minted, Passage::Minted)
            | (Passage::Renewed, Passage::Renewed)
            | (Passage::Released, Passage::Released) => Ok(()),
            _ => Err(LogicError::invalid("a profile comes and goes with the access")),
        }
    }
}

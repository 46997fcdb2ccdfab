//! 32-byte identifiers, each its own type so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an identifier: 52 letters and digits of lower-case base32 are expected")
    }
}

impl std::error::Error for BadId {}

/// Defines a 32-byte identifier. A macro, because the five types differ in nothing but their
/// meaning, and a generic parameter would show up in every signature that names one.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first characters of the textual form: what people see when two names collide.
            pub fn short(&self) -> String {
                let mut text = base32(&self.0[..5]);
                text.truncate(4);
                text
            }

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &base32(&self.0)[..8])
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                unbase32(text).map(Self).ok_or(BadId)
            }
        }
    };
}

identifier!(
    /// A SHA-256 or BLAKE3 digest.
    Digest
);
identifier!(
    /// A channel: the id of the event that created it.
    ChannelId
);
identifier!(
    /// An event: BLAKE3 of its canonical header.
    EventId
);
identifier!(
    /// A person or bot: the Ed25519 public key of an identity, bound to no provider.
    Identity
);
identifier!(
    /// A node: the Ed25519 public key of its transport identity.
    NodeId
);

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Lower-case base32 (RFC 4648 alphabet) without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(ALPHABET[(buffer >> bits) as usize & 31] as char);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(ALPHABET[(buffer << (5 - bits)) as usize & 31] as char);
    }
    text
}

fn unbase32(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    let (mut buffer, mut bits, mut filled) = (0u32, 0u32, 0usize);
    if text.len() != 52 {
        return None;
    }
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == byte)? as u32;
        buffer = (buffer << 5) | digit;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(filled)? = (buffer >> bits) as u8;
            filled += 1;
            buffer &= (1 << bits) - 1;
        }
    }
    // 52 digits carry 260 bits: the last four must be zero, or two texts would name one id.
    (filled == 32 && buffer == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_is_canonical() {
        let id = EventId(*blake3::hash(b"x").as_bytes());
        let text = id.to_string();
        assert_eq!(text.parse::<EventId>(), Ok(id));
        assert_eq!(text[..4], id.short());
        let mut other = text.clone().into_bytes();
        let last = other.last_mut().unwrap();
        *last = ALPHABET[ALPHABET.iter().position(|a| a == last).unwrap() ^ 1];
        assert_eq!(String::from_utf8(other).unwrap().parse::<EventId>(), Err(BadId));
        assert_eq!("short".parse::<EventId>(), Err(BadId));
    }
}

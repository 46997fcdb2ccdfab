//! The strict canonical codec: postcard, with the rule that bytes which do not re-encode to
//! themselves are refused (over-long varints, trailing bytes). What is signed or hashed has
//! exactly one encoding.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Kind;

/// Why bytes were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecError {
    /// More bytes than the type may have.
    TooLong,
    /// Not an encoding of the type.
    Malformed,
    /// An encoding, but not the one this value has.
    NotCanonical,
}

impl CodecError {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than the protocol allows",
            Self::Malformed => "malformed",
            Self::NotCanonical => "not in canonical form",
        })
    }
}

impl std::error::Error for CodecError {}

/// Bytes of most encoded values.
const USUAL_BYTES: usize = 256;

/// The canonical bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Most values fit: to let a buffer grow byte by byte costs more than to encode into it.
    let buffer = Vec::with_capacity(USUAL_BYTES);
    // postcard fails only on unsized sequences and on a full fixed buffer: neither occurs here.
    postcard::to_extend(value, buffer).expect("a vocabulary type always encodes")
}

/// Decodes at most `limit` bytes, strictly.
///
/// # Errors
/// [`CodecError`] says which rule the bytes broke.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLong);
    }
    let value: T = postcard::from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// Decodes two values, strictly, the one encoded after the other; also tells where the second begins.
///
/// # Errors
/// [`CodecError`] says which rule the bytes broke.
pub fn decode_pair<A, B>(bytes: &[u8], limit: usize) -> Result<(A, B, usize), CodecError>
where
    A: Serialize + DeserializeOwned,
    B: Serialize + DeserializeOwned,
{
    if bytes.len() > limit {
        return Err(CodecError::TooLong);
    }
    let (one, rest) = postcard::take_from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
    let split = bytes.len() - rest.len();
    let other = postcard::from_bytes(rest).map_err(|_| CodecError::Malformed)?;
    if encode(&(&one, &other)) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok((one, other, split))
}

/// Decodes bytes that are known to be canonical, because they were when their hash was taken.
///
/// # Errors
/// [`CodecError::Malformed`].
pub fn decode_canonical<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    postcard::from_bytes(bytes).map_err(|_| CodecError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_encoding_is_taken() {
        let bytes = encode(&(7u64, "seven".to_owned()));
        assert_eq!(decode(&bytes, 100), Ok((7u64, "seven".to_owned())));
        let mut overlong = vec![0x87, 0x00];
        overlong.extend_from_slice(&bytes[1..]);
        assert_eq!(decode::<(u64, String)>(&overlong, 100), Err(CodecError::NotCanonical));
        let mut trailing = bytes.clone();
        trailing.push(0);
        assert_eq!(decode::<(u64, String)>(&trailing, 100), Err(CodecError::NotCanonical));
        assert_eq!(decode::<(u64, String)>(&bytes[..3], 100), Err(CodecError::Malformed));
        assert_eq!(decode::<(u64, String)>(&bytes, 3), Err(CodecError::TooLong));
    }
}

//! Ed25519 keys, and the derivation of every key a node keeps from its one secret.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use curve25519_dalek::constants;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

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
    /// The key that signs links to media.
    Media,
    /// The key under which the keys of encrypted Matrix rooms are kept.
    MatrixKeys,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Identity => "multichat 2026-11 identity key",
            Self::Device => "multichat 2026-11 device key",
            Self::Transport => "multichat 2026-11 transport key",
            Self::Invite => "multichat 2026-11 invite key",
            Self::Media => "multichat 2026-11 media link key",
            Self::MatrixKeys => "multichat 2026-11 matrix key store key",
        }
    }
}

/// What somebody is said to have signed.
#[derive(Clone, Debug)]
pub struct Signed {
    pub key: Identity,
    pub message: Vec<u8>,
    pub signature: Signature,
}

/// Signatures that are verified together. On one bad signature among them each is verified alone, so more
/// would help whoever sends bad ones.
pub const BATCH: usize = 64;

/// Decompressed keys that a thread remembers.
const KEYS: usize = 1024;

/// Whether `signature` is `key`'s over `message`.
///
/// **The rule.** With `signature = R ‖ S`, `A` the key and `k = SHA-512(R ‖ A ‖ message)`: `S` is a canonical
/// scalar, `R` the canonical encoding of a point, `A` that of some point, neither of small order, and
/// `[8][S]B = [8]R + [8][k]A`: the cofactored equation, as RFC 8032 has it and ZIP 215 requires it.
///
/// **Why not the equation without the 8**, as dalek's `verify_strict` has it. Nodes that differ about one
/// signature are parted for ever, so alone and in a batch the verdict has to be the same. A batch checks
/// one random linear combination of `D = [S]B - R - [k]A` over all its signatures. If `D` is of the large
/// prime order, or zero, that finds it out but for one chance in 2^128. But whoever holds a key can
/// make an `R` or an `A` with a component of order 2, 4 or 8, and so a signature whose `D` has small order: an
/// equation without the 8 refuses it, while the combination loses it once in a few times. To find such
/// points costs as much as verifying alone: it takes a multiplication by the group order for every `R`.
/// With the 8 both ask the same question, whether `[8]D` is zero, and `[8]D` is always of the large order
/// or zero. What is let in so is only what the owner of the key made on purpose, signing the same
/// message: nobody else can turn a signature into another one, as `k` depends on `R`. It does no harm here:
/// an event is known by its header's hash, which the signature is no part of.
///
/// Points of small order are refused alone as in batches, one by one: under such a key everybody
/// could sign.
pub fn verify(key: &Identity, message: &[u8], signature: &Signature) -> bool {
    let Some(Opened { minus_key, s, r, k }) = Opened::of(key, message, signature) else { return false };
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &minus_key, &s);
    (expected - r).mul_by_cofactor().is_identity()
}

/// Which of these signatures are good: the same verdicts as [`verify`]'s, several times as fast. The work
/// for keys that occur more than once is done once.
pub fn verify_all(signed: &[Signed]) -> Vec<bool> {
    signed.chunks(BATCH).flat_map(verify_batch).collect()
}

fn verify_batch(signed: &[Signed]) -> Vec<bool> {
    let opened: Vec<Option<Opened>> =
        signed.iter().map(|one| Opened::of(&one.key, &one.message, &one.signature)).collect();
    if is_zero_together(signed, &opened) {
        return opened.iter().map(Option::is_some).collect();
    }
    signed.iter().map(|one| verify(&one.key, &one.message, &one.signature)).collect()
}

/// Whether a random combination of all that could be opened is zero. The coefficients come from a hash of
/// all of it, so that whoever makes signatures cannot choose them to cancel each other out.
fn is_zero_together(signed: &[Signed], opened: &[Option<Opened>]) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 batch coefficients");
    for (one, opened) in signed.iter().zip(opened) {
        // `k` binds key, message and `R`.
        if let Some(opened) = opened {
            hasher.update(opened.k.as_bytes());
            hasher.update(&one.signature.0[32..]);
        }
    }
    let mut coefficients = hasher.finalize_xof();
    let mut base = Scalar::ZERO;
    let mut keys: BTreeMap<&Identity, (EdwardsPoint, Scalar)> = BTreeMap::new();
    let (mut scalars, mut points) = (Vec::new(), Vec::new());
    for (one, opened) in signed.iter().zip(opened) {
        let Some(opened) = opened else { continue };
        let mut bytes = [0; 16];
        coefficients.fill(&mut bytes);
        let coefficient = Scalar::from(u128::from_le_bytes(bytes));
        base += coefficient * opened.s;
        let key = keys.entry(&one.key).or_insert((opened.minus_key, Scalar::ZERO));
        key.1 += coefficient * opened.k;
        // The negated point, not the negated coefficient: short ones are less work.
        scalars.push(coefficient);
        points.push(-opened.r);
    }
    for (point, scalar) in keys.into_values() {
        scalars.push(scalar);
        points.push(point);
    }
    scalars.push(base);
    points.push(constants::ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(scalars, points).mul_by_cofactor().is_identity()
}

/// A signature whose parts are what they should be; whether the equation holds is still to be seen.
struct Opened {
    minus_key: EdwardsPoint,
    s: Scalar,
    r: EdwardsPoint,
    k: Scalar,
}

impl Opened {
    fn of(key: &Identity, message: &[u8], signature: &Signature) -> Option<Self> {
        let (r, s): ([u8; 32], [u8; 32]) =
            (signature.0[..32].try_into().ok()?, signature.0[32..].try_into().ok()?);
        let s: Scalar = Option::from(Scalar::from_canonical_bytes(s))?;
        let minus_key = minus_key(key)?;
        if is_of_small_order(&r) {
            return None;
        }
        let point = CompressedEdwardsY(r).decompress().filter(|_| is_canonical(&r))?;
        let hash = Sha512::new().chain_update(r).chain_update(key.0).chain_update(message).finalize();
        Some(Self { minus_key, s, r: point, k: Scalar::from_bytes_mod_order_wide(&hash.into()) })
    }
}

/// Whether a point's `y` is below `p = 2^255 - 19`. The sign of an `x` of zero would be the other thing to
/// look at, but points with such an `x` are of small order.
fn is_canonical(encoded: &[u8; 32]) -> bool {
    let is_high = encoded[31] & 0x7f == 0x7f && encoded[1..31].iter().all(|byte| *byte == 0xff);
    !is_high || encoded[0] < 0xed
}

/// Whether it encodes a point of small order, with `y` below `p` and either sign: those with an `x` of zero
/// decompress with both.
fn is_of_small_order(encoded: &[u8; 32]) -> bool {
    static HEIGHTS: LazyLock<[[u8; 32]; 8]> =
        LazyLock::new(|| constants::EIGHT_TORSION.map(|point| without_sign(point.compress().0)));
    HEIGHTS.contains(&without_sign(*encoded))
}

fn without_sign(mut encoded: [u8; 32]) -> [u8; 32] {
    encoded[31] &= 0x7f;
    encoded
}

thread_local! {
    /// A device signs many events: to decompress its key anew each time would be a tenth of the work.
    static MINUS_KEYS: RefCell<BTreeMap<Identity, Option<EdwardsPoint>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The key's point, negated; `None` if it is none, or of small order.
fn minus_key(key: &Identity) -> Option<EdwardsPoint> {
    MINUS_KEYS.with_borrow_mut(|known| {
        if let Some(point) = known.get(key) {
            return *point;
        }
        if known.len() >= KEYS {
            known.clear();
        }
        let point = CompressedEdwardsY(key.0).decompress().filter(|point| !point.is_small_order());
        *known.entry(*key).or_insert(point.map(|point| -point))
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::VerifyingKey;

    use super::*;

    fn signed(seed: u8, message: &[u8]) -> Signed {
        let key = SecretKey::from_seed([seed; 32]);
        Signed { key: key.public(), message: message.to_vec(), signature: key.sign(message) }
    }

    /// The verdict alone, which must be the one in a batch among good ones, at every place.
    fn verdict(one: &Signed) -> bool {
        let alone = verify(&one.key, &one.message, &one.signature);
        for at in 0..4u8 {
            let mut batch: Vec<Signed> = (0..3).map(|seed| signed(seed, b"good")).collect();
            batch.insert(at.into(), one.clone());
            let verdicts = verify_all(&batch);
            assert_eq!(verdicts.iter().filter(|good| !**good).count(), usize::from(!alone));
            assert_eq!(verdicts[usize::from(at)], alone);
        }
        alone
    }

    #[test]
    fn good_signatures_are_good_and_others_are_found() {
        let good = signed(7, b"words");
        assert!(verdict(&good));
        for at in 0..64 {
            let mut bad = good.clone();
            bad.signature.0[at] ^= 1;
            assert!(!verdict(&bad), "byte {at}");
        }
        assert!(!verdict(&Signed { message: b"other words".to_vec(), ..good.clone() }));
        assert!(!verdict(&Signed { key: signed(8, b"").key, ..good }));
        let many: Vec<Signed> = (0..200).map(|n| signed(n % 5, &[n])).collect();
        assert!(verify_all(&many).into_iter().all(|good| good));
        assert!(verify_all(&[]).is_empty());
    }

    /// Signs with an `R` that has a component of small order, as only the owner of a key can.
    fn with_torsion(torsion: EdwardsPoint) -> Signed {
        let (secret, nonce) = (Scalar::from(1234567u32), Scalar::from(7654321u32));
        let key = Identity((constants::ED25519_BASEPOINT_POINT * secret).compress().0);
        let r = (constants::ED25519_BASEPOINT_POINT * nonce + torsion).compress().0;
        let hash = Sha512::new().chain_update(r).chain_update(key.0).chain_update(b"m").finalize();
        let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(s.as_bytes());
        Signed { key, message: b"m".to_vec(), signature: Signature(signature) }
    }

    #[test]
    fn components_of_small_order_part_nobody() {
        for torsion in constants::EIGHT_TORSION {
            let one = with_torsion(torsion);
            assert!(verdict(&one), "alone and in a batch");
            let strict = VerifyingKey::from_bytes(&one.key.0).unwrap();
            let signature = ed25519_dalek::Signature::from_bytes(&one.signature.0);
            let is_strict = strict.verify_strict(&one.message, &signature).is_ok();
            assert_eq!(is_strict, torsion.is_identity(), "what the strict rule parts from it");
        }
    }

    #[test]
    fn keys_and_points_of_small_order_are_refused() {
        for torsion in constants::EIGHT_TORSION {
            let key = Identity(torsion.compress().0);
            // Under a key of small order R = [S]B - [k]A is easily found; S = 0 and R = identity at the simplest.
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&torsion.compress().0);
            assert!(!verdict(&Signed { key, message: b"m".to_vec(), signature: Signature(signature) }));
            let good = signed(1, b"m");
            assert!(!verdict(&Signed { signature: Signature(signature), ..good.clone() }));
            // With the other sign it is that of another such point, or of the same one once more.
            signature[31] ^= 0x80;
            assert!(!verdict(&Signed { signature: Signature(signature), ..good }));
        }
    }

    #[test]
    fn each_point_and_scalar_has_one_encoding() {
        let p = |low: u8| {
            let mut encoded = [0xff; 32];
            (encoded[0], encoded[31]) = (low, 0x7f);
            encoded
        };
        for (low, canonical) in [(0xec, true), (0xed, false), (0xee, false), (0xff, false)] {
            assert_eq!(is_canonical(&p(low)), canonical);
        }
        // S + the group order.
        let mut more = signed(1, b"m");
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0u16;
        for (byte, add) in more.signature.0[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert!(!verdict(&more));
    }
}

//! SASL as the listener serves it: the pieces of a message, PLAIN, EXTERNAL and SCRAM-SHA-256
//! (RFC 4616, 4422, 5802, 7677). It decides whether a proof holds; who that lets in is the hub's.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::accounts::Verifier;

/// The mechanisms, as `CAP LS` and 908 name them.
pub const MECHANISMS: &str = "PLAIN,EXTERNAL,SCRAM-SHA-256";
/// Bytes of one AUTHENTICATE parameter; one as long as this is continued.
pub const CHUNK_BYTES: usize = 400;
/// Bytes of a whole message.
const MESSAGE_BYTES: usize = 4096;
/// Rounds of PBKDF2: at least what RFC 7677 asks for.
const ITERATIONS: u32 = 10_000;

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    pub step: Step,
    partial: String,
}

/// Where an exchange is.
#[derive(Debug)]
pub enum Step {
    Plain,
    External,
    ScramFirst,
    /// The server has sent its challenge.
    ScramProof(Scram),
    /// The server has proved itself; the client says `+`.
    ScramDone {
        account: String,
    },
}

/// A piece of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    More,
    Whole(Vec<u8>),
    TooLong,
    Nonsense,
}

impl Exchange {
    /// Begins one, if there is such a mechanism.
    pub fn begin(mechanism: &str) -> Option<Self> {
        let step = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Step::Plain,
            "EXTERNAL" => Step::External,
            "SCRAM-SHA-256" => Step::ScramFirst,
            _ => return None,
        };
        Some(Self { step, partial: String::new() })
    }

    /// One that goes on from a step.
    pub fn at(step: Step) -> Self {
        Self { step, partial: String::new() }
    }

    /// Takes a parameter of AUTHENTICATE.
    pub fn feed(&mut self, chunk: &str) -> Piece {
        if chunk.len() > CHUNK_BYTES || self.partial.len() + chunk.len() > MESSAGE_BYTES {
            return Piece::TooLong;
        }
        if chunk != "+" {
            self.partial.push_str(chunk);
            if chunk.len() == CHUNK_BYTES {
                return Piece::More;
            }
        }
        match STANDARD.decode(std::mem::take(&mut self.partial)) {
            Ok(bytes) => Piece::Whole(bytes),
            Err(_) => Piece::Nonsense,
        }
    }
}

/// A message of the server as the parameters of AUTHENTICATE lines.
pub fn chunks(message: &[u8]) -> Vec<String> {
    let text = STANDARD.encode(message);
    let mut chunks: Vec<String> = text
        .as_bytes()
        .chunks(CHUNK_BYTES)
        .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
        .collect();
    if chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_BYTES) {
        chunks.push("+".to_owned());
    }
    chunks
}

/// The account and password of a PLAIN message; `None` if it is none, or acts for another.
pub fn plain(message: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    let (for_whom, account, password) = (parts.next()?, parts.next()?, parts.next()?);
    let acts_for_self = for_whom.is_empty() || for_whom.eq_ignore_ascii_case(account);
    (acts_for_self && parts.next().is_none()).then(|| (account.to_owned(), password.to_owned()))
}

/// A SCRAM exchange after the server's challenge.
#[derive(Debug)]
pub struct Scram {
    pub account: String,
    verifier: Verifier,
    nonce: String,
    bare: String,
    challenge: String,
}

/// Reads the client's first message: the user's name, the bare message and the nonce.
pub fn scram_first(message: &[u8]) -> Option<(String, String, String)> {
    let text = std::str::from_utf8(message).ok()?;
    let bare = text.strip_prefix("n,").or(text.strip_prefix("y,"))?;
    let (_for_whom, bare) = bare.split_once(',')?;
    let user = attribute(bare, "n=")?.replace("=2C", ",").replace("=3D", "=");
    let nonce = attribute(bare, "r=").filter(|nonce| !nonce.is_empty())?;
    Some((user, bare.to_owned(), nonce.to_owned()))
}

impl Scram {
    /// The server's challenge to that message; `random` makes the nonce.
    pub fn challenge(
        account: &str,
        verifier: &Verifier,
        (bare, nonce): (&str, &str),
        random: &[u8],
    ) -> (Self, String) {
        let nonce = format!("{nonce}{}", STANDARD.encode(random));
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let scram = Self {
            account: account.to_owned(),
            verifier: verifier.clone(),
            nonce,
            bare: bare.to_owned(),
            challenge: challenge.clone(),
        };
        (scram, challenge)
    }

    /// Checks the client's proof; gives the server's own.
    pub fn prove(&self, message: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        if attribute(without_proof, "r=")? != self.nonce || attribute(without_proof, "c=").is_none() {
            return None;
        }
        let said = format!("{},{},{without_proof}", self.bare, self.challenge);
        let proof = STANDARD.decode(proof).ok()?;
        let signature = sign(&self.verifier.stored_key, said.as_bytes());
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let stored = digest::digest(&digest::SHA256, &client_key);
        constant_time::verify_slices_are_equal(stored.as_ref(), &self.verifier.stored_key).ok()?;
        Some(format!("v={}", STANDARD.encode(sign(&self.verifier.server_key, said.as_bytes()))))
    }
}

impl Verifier {
    /// What to keep of a password.
    pub fn of(password: &str, salt: &[u8]) -> Self {
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(ITERATIONS).unwrap_or(std::num::NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations: ITERATIONS,
            stored_key: digest::digest(&digest::SHA256, &client_key).as_ref().to_vec(),
            server_key: sign(&salted, b"Server Key"),
        }
    }
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',').find_map(|part| part.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces() {
        let mut exchange = Exchange::begin("plain").unwrap();
        let message = vec![b'x'; 300];
        let sent = chunks(&message);
        assert_eq!(sent.iter().map(String::len).collect::<Vec<_>>(), [400, 1]);
        assert_eq!(exchange.feed(&sent[0]), Piece::More);
        assert_eq!(exchange.feed(&sent[1]), Piece::Whole(message));
        assert_eq!(exchange.feed("+"), Piece::Whole(Vec::new()));
        assert_eq!(exchange.feed("!"), Piece::Nonsense);
        assert_eq!(exchange.feed(&"x".repeat(401)), Piece::TooLong);
        let many = std::iter::repeat_with(|| exchange.feed(&"A".repeat(400)));
        assert!(many.take(20).any(|piece| piece == Piece::TooLong), "bounded");
        assert!(Exchange::begin("GSSAPI").is_none());
    }

    #[test]
    fn plain_names_oneself() {
        assert_eq!(plain(b"\0bob\0pw"), Some(("bob".into(), "pw".into())));
        assert_eq!(plain(b"Bob\0bob\0pw"), Some(("bob".into(), "pw".into())));
        for bad in [&b"alice\0bob\0pw"[..], b"bob\0pw", b"\0a\0b\0c", b"\xff\0a\0b", b""] {
            assert_eq!(plain(bad), None);
        }
    }

    /// The client's side, to talk with ours.
    fn proof_of(password: &str, bare: &str, challenge: &str) -> String {
        let salt = STANDARD.decode(attribute(challenge, "s=").unwrap()).unwrap();
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(ITERATIONS).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let without_proof = format!("c=biws,r={}", attribute(challenge, "r=").unwrap());
        let signature = sign(stored.as_ref(), format!("{bare},{challenge},{without_proof}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn scram_lets_the_right_password_in_alone() {
        let verifier = Verifier::of("sesame", b"0123456789abcdef");
        let (user, bare, nonce) = scram_first(b"n,,n=bob,r=abc").unwrap();
        assert_eq!((user.as_str(), nonce.as_str()), ("bob", "abc"));
        let (scram, challenge) = Scram::challenge("bob", &verifier, (&bare, &nonce), b"random");
        assert!(challenge.starts_with("r=abc"));
        let good = proof_of("sesame", &bare, &challenge);
        assert!(scram.prove(good.as_bytes()).is_some_and(|proof| proof.starts_with("v=")));
        let bad = proof_of("wrong", &bare, &challenge);
        assert!(scram.prove(bad.as_bytes()).is_none());
        assert!(scram.prove(b"c=biws,r=other,p=AAAA").is_none());
        assert!(scram_first(b"p=tls-unique,,n=bob,r=x").is_none());
    }
}

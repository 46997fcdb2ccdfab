//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's half: proves that one knows the password without
//! telling it, and checks that the server knows it too. It computes; the nonce is an argument.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Rounds that a server may ask for: fewer would be too weak, more would keep us busy for long.
const ROUNDS: std::ops::RangeInclusive<u32> = 1024..=1_000_000;
const BLOCK_BYTES: usize = 64;

/// A proof under way.
pub(super) struct Scram {
    password: String,
    nonce: String,
    first_bare: String,
    /// What the server must answer in the end.
    signature: Option<[u8; 32]>,
}

/// What the server said makes no sense, or it does not know the password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadServer(pub &'static str);

impl Scram {
    /// A proof, and its first message.
    pub fn start(account: &str, password: &str, nonce: &str) -> (Self, String) {
        let account = account.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={account},r={nonce}");
        let first = format!("n,,{first_bare}");
        (Self { password: password.into(), nonce: nonce.into(), first_bare, signature: None }, first)
    }

    /// The answer to a message of the server; empty to the last one.
    ///
    /// # Errors
    /// If the server must not be trusted.
    pub fn answer(&mut self, message: &str) -> Result<String, BadServer> {
        match self.signature {
            None => self.prove(message),
            Some(expected) => {
                let given = field(message, 'v').and_then(|value| STANDARD.decode(value).ok());
                match given.is_some_and(|given| given == expected) {
                    true => Ok(String::new()),
                    false => Err(BadServer("the server does not know the password")),
                }
            }
        }
    }

    fn prove(&mut self, first: &str) -> Result<String, BadServer> {
        let nonce = field(first, 'r').unwrap_or_default();
        if !nonce.starts_with(&self.nonce) || nonce.len() <= self.nonce.len() {
            return Err(BadServer("the server's nonce does not continue ours"));
        }
        let salt = field(first, 's').and_then(|salt| STANDARD.decode(salt).ok());
        let salt = salt.ok_or(BadServer("the server gave no salt"))?;
        let rounds = field(first, 'i').and_then(|rounds| rounds.parse().ok());
        let rounds =
            rounds.filter(|rounds| ROUNDS.contains(rounds)).ok_or(BadServer("a bad number of rounds"))?;

        let salted = stretched(self.password.as_bytes(), &salt, rounds);
        let client_key = hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{first},{without_proof}", self.first_bare);
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        let mut proof = hmac(&stored, signed.as_bytes());
        proof.iter_mut().zip(client_key).for_each(|(byte, key)| *byte ^= key);
        self.signature = Some(hmac(&hmac(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }
}

fn field(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

/// PBKDF2 with HMAC-SHA-256 and one block of output (RFC 8018).
fn stretched(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut last = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = last;
    for _ in 1..rounds {
        last = hmac(password, &last);
        sum.iter_mut().zip(last).for_each(|(byte, next)| *byte ^= next);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard() {
        let (mut scram, first) = Scram::start("user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                      p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(scram.answer(challenge).unwrap(), answer);
        assert_eq!(scram.answer("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), "");
        assert!(scram.answer("v=AAAA").is_err() && scram.answer("e=other-error").is_err());
    }

    #[test]
    fn a_false_server_gets_nothing() {
        for challenge in
            ["", "r=abc,s=AAAA,i=4096", "r=mine,s=AAAA,i=4096", "r=mine+,s=AAAA,i=1", "r=mine+,i=4096"]
        {
            let (mut scram, _) = Scram::start("a,b=c", "p", "mine");
            assert!(scram.answer(challenge).is_err(), "{challenge}");
        }
    }

    #[test]
    fn hmac_of_a_long_key() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        // RFC 4231, test case 6.
        let expect = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(hex(hmac(&[0xaa; 131], text)), expect);
    }
}

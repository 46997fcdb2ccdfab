//! Accounts: who may be whom. An account is a name, the person that the node knows behind it, and
//! the ways to prove it: a password (argon2id, and a verifier for SCRAM), certificates.
//!
//! It never holds a password, and hashes none itself: that takes long, and is asked of the shell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::casemap::fold;
use crate::base::{Timestamp, codec};

/// Accounts that one node keeps; a further one is refused.
pub const ACCOUNTS: usize = 100_000;
/// Bytes of a password.
pub const PASSWORD_BYTES: usize = 900;
/// Bytes of an e-mail address (RFC 5321).
const EMAIL_BYTES: usize = 254;
/// Certificates of one account.
pub const CERTIFICATES: usize = 8;
/// Bytes of an account's note.
const NOTE_BYTES: usize = 8 * 1024;

/// One account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// As it was registered, in its owner's spelling.
    pub name: String,
    /// The person it is for the node.
    pub person: String,
    /// The password's hash as a PHC string.
    pub password: String,
    pub scram: Verifier,
    /// SHA-256 of the certificates that prove it, in lower-case hex.
    pub certificates: Vec<String>,
    pub registered_at: Timestamp,
    /// The address that its owner named, if any.
    pub email: String,
    /// Whether its memberships outlive its last connection; `None` is as the node's settings say.
    pub always_on: Option<bool>,
}

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Verifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

/// Every account, by folded name.
#[derive(Debug, Default)]
pub struct Accounts {
    by_name: BTreeMap<String, Account>,
}

impl Accounts {
    /// An account by its name in any case.
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.by_name.get(&fold(name))
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Account> {
        self.by_name.get_mut(&fold(name))
    }

    /// The account that a certificate proves.
    pub fn of_certificate(&self, fingerprint: &str) -> Option<&Account> {
        self.by_name.values().find(|account| account.certificates.iter().any(|known| known == fingerprint))
    }

    /// The account of a person.
    pub fn of_person(&self, person: &str) -> Option<&Account> {
        self.by_name.values().find(|account| account.person == person)
    }

    /// Adds or replaces one.
    pub fn put(&mut self, account: Account) {
        self.by_name.insert(fold(&account.name), account);
    }

    /// Forgets one.
    pub fn remove(&mut self, name: &str) -> Option<Account> {
        self.by_name.remove(&fold(name))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Whether a word could be an e-mail address.
pub fn is_email(word: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    let parts = word.rsplit_once('@').filter(|(who, home)| !who.is_empty() && home.contains('.'));
    let home = parts.map_or("", |(_, home)| home);
    word.len() <= EMAIL_BYTES && !word.contains(is_odd) && home.split('.').all(|label| !label.is_empty())
}

impl Account {
    /// The key of its note.
    pub fn key(&self) -> String {
        format!("account/{}", fold(&self.name))
    }

    /// Its note.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Out of its note; `None` if that is damaged.
    pub fn decode(note: &[u8]) -> Option<Self> {
        codec::decode(note, NOTE_BYTES).ok()
    }
}

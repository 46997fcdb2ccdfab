//! The people this node speaks for. Every key is derived from the node's one secret and the
//! person's account, so nothing about them needs to be kept but their names.

use std::collections::BTreeMap;

use super::Write;
use crate::base::key::{Purpose, SecretKey};
use crate::base::{Identity, Timestamp};
use crate::chat::act::Joining;
use crate::chat::intent::Actor;
use crate::chat::message::Link;
use crate::chat::profile::{Certificate, Profile};

/// Keys of everybody who has acted through this node.
pub(super) struct People {
    secret: SecretKey,
    node: Profile,
    known: BTreeMap<String, Person>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Person {
    pub identity: Identity,
    pub device: SecretKey,
    /// As the door gave it with the latest submission.
    pub profile: Profile,
    identity_key: SecretKey,
}

/// The account of the node's own user: no door can name it, for it has a space.
const NODE_ACCOUNT: &str = "the node";

impl People {
    pub fn new(secret: SecretKey, node_name: &str) -> Self {
        let username = node_name.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(32).collect();
        let node = Profile { username, display_name: String::new(), home: String::new() };
        Self { secret, node, known: BTreeMap::new() }
    }

    /// The person behind an actor, and what to write if the node did not know them like that.
    pub fn person(&mut self, actor: &Actor) -> (Person, Option<Write>) {
        let (account, profile) = match actor {
            Actor::Node => (NODE_ACCOUNT, &self.node),
            Actor::Person { account, profile } => (account.as_str(), profile),
        };
        if let Some(person) = self.known.get_mut(account) {
            if person.profile == *profile {
                return (person.clone(), None);
            }
            person.profile = profile.clone();
        } else {
            let identity_key = self.secret.derive(Purpose::Identity, account);
            let device = self.secret.derive(Purpose::Device, account);
            let identity = identity_key.public();
            let person = Person { identity, device, profile: profile.clone(), identity_key };
            self.known.insert(account.to_owned(), person);
        }
        let person = self.known[account].clone();
        let write = Write::Person {
            account: account.to_owned(),
            identity: person.identity,
            profile: person.profile.clone(),
        };
        (person, Some(write))
    }
}

impl Person {
    /// What opens a lane of theirs.
    pub fn joining(&self, via: Option<Link>) -> Joining {
        // The node keeps both keys and derives them anew at will, so its certificates do not
        // expire; those of people who keep their own keys will.
        let forever = Timestamp(u64::MAX);
        let certificate = Certificate::issue(&self.identity_key, self.device.public(), forever);
        Joining { certificate, profile: self.profile.clone(), via }
    }
}

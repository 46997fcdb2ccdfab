//! The people this node speaks for. Every key is derived from the node's one secret and the
//! person's account, so nothing about them needs to be kept but their names.
//!
//! An account is what a door vouches for, and the forms of different doors never meet: a Matrix user
//! id starts with `@`, an IRC network's person is `nick@network`, and a nick of the listener holds
//! neither `@` nor `:`. Whoever chooses a name on one side is nobody on another.

use std::collections::BTreeMap;

use super::{Setup, Write};
use crate::base::key::{Purpose, SecretKey};
use crate::base::{Identity, Timestamp, limits};
use crate::chat::act::Joining;
use crate::chat::logics::logics;
use crate::chat::message::Link;
use crate::chat::profile::{Certificate, Profile};
use crate::machine::intent::{Constraints, Intent};
use crate::machine::{Action, MachineError};

/// People remembered. All are forgotten beyond that: their keys are derived anew.
const REMEMBERED: usize = 16 * 1024;

/// Keys of those who acted through this node lately.
pub(super) struct People {
    secret: SecretKey,
    generation: u64,
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
    pub fn new(setup: &Setup) -> Self {
        let username =
            setup.name.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(16).collect();
        let node = Profile { username, display_name: String::new(), home: String::new() };
        let (secret, generation) = (setup.secret.clone(), setup.generation);
        Self { secret, generation, node, known: BTreeMap::new() }
    }

    /// The node's own user, and what to write if it was not known like that.
    pub fn node(&mut self) -> (Person, Option<Write>) {
        let profile = self.node.clone();
        self.person(NODE_ACCOUNT, profile)
    }

    /// The person behind an account, and what to write if the node did not know them like that.
    pub fn person(&mut self, account: &str, profile: Profile) -> (Person, Option<Write>) {
        if let Some(person) = self.known.get(account)
            && person.profile == profile
        {
            return (person.clone(), None);
        }
        let person = Person { profile, ..self.remembered(account) };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(account.to_owned(), person.clone());
        let (identity, profile) = (person.identity, person.profile.clone());
        (person, Some(Write::Person { account: account.to_owned(), identity, profile }))
    }

    /// The person behind an account, as they were last; with an empty profile if the node does not
    /// remember them.
    pub fn remembered(&self, account: &str) -> Person {
        if let Some(person) = self.known.get(account) {
            return person.clone();
        }
        let identity_key = self.secret.derive(Purpose::Identity, account);
        let device = match self.generation {
            0 => self.secret.derive(Purpose::Device, account),
            // No account ends like that: there is no space but in the node's own.
            generation => self.secret.derive(Purpose::Device, &format!("{account} restored {generation}")),
        };
        Person { identity: identity_key.public(), device, profile: Profile::default(), identity_key }
    }
}

impl Person {
    /// An intent of theirs.
    ///
    /// # Errors
    /// What is wrong with the actions or the constraints.
    pub fn intent(&self, actions: Vec<Action>, constraints: Constraints) -> Result<Intent, MachineError> {
        Intent::sign(actions, constraints, &self.identity_key, logics())
    }

    /// What opens a lane of theirs.
    pub fn joining(&self, via: Option<Link>) -> Joining {
        // The node keeps both keys and derives them anew at will, so its certificates do not
        // expire; those of people who keep their own keys will.
        let forever = Timestamp(u64::MAX);
        let certificate = Certificate::issue(&self.identity_key, self.device.public(), forever);
        Joining { certificate, profile: self.profile.clone(), via, grant: None, bearer: None, under: None }
    }
}

/// Whether a text can be somebody's account.
pub(super) fn is_account(text: &str) -> bool {
    (1..=limits::ACCOUNT_BYTES).contains(&text.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// How somebody is shown of whom nothing is known but the account.
pub(super) fn named_after(account: &str) -> Profile {
    let bare = account.strip_prefix('@').unwrap_or(account);
    let (name, is_bridged) = match bare.split_once([':', '@']) {
        Some((name, _)) => (name, true),
        None => (bare, false),
    };
    let home = if is_bridged { cut(account, limits::DISPLAY_NAME_BYTES) } else { "" };
    let username = cut(name, limits::USERNAME_BYTES).to_owned();
    Profile { username, display_name: String::new(), home: home.to_owned() }
}

/// The longest beginning of a text that has at most so many bytes and splits no character.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_go_by_their_account_until_more_is_known() {
        for (account, username, home) in [
            ("carol", "carol", ""),
            ("@alice:example.org", "alice", "@alice:example.org"),
            ("bob@irc.libera.chat", "bob", "bob@irc.libera.chat"),
        ] {
            let profile = named_after(account);
            assert_eq!((profile.username.as_str(), profile.home.as_str()), (username, home));
            assert!(profile.is_well_formed());
        }
        assert!(named_after(&"ü".repeat(300)).is_well_formed());
        for bad in ["", "the node", "a\nb", &"x".repeat(limits::ACCOUNT_BYTES + 1)] {
            assert!(!is_account(bad), "{bad:?}");
        }
    }

    #[test]
    fn forgetting_people_changes_nothing_about_them() {
        let secret = SecretKey::from_seed([1; 32]);
        let setup = Setup { secret, name: "a node".into(), matrix_server: String::new(), generation: 0 };
        let mut people = People::new(&setup);
        let (first, write) = people.person("first", named_after("first"));
        assert!(write.is_some());
        assert!(people.person("first", named_after("first")).1.is_none());
        for number in 0..=REMEMBERED {
            let account = format!("user{number}");
            people.known.insert(account, first.clone());
        }
        let (again, _) = people.person("another", named_after("another"));
        assert!(people.known.len() <= REMEMBERED);
        assert_ne!(again.identity, first.identity);
        assert_eq!(people.remembered("first").identity, first.identity);
        assert_eq!(people.node().0.profile.username, "anode");
    }
}

//! Names of people as nicks. A username from anywhere becomes a legal nick, and no two people have
//! the same one: who comes second carries the first characters of their identity.

use std::collections::BTreeMap;

use super::casemap::fold;
use crate::base::Identity;

/// Bytes of a nick.
pub const NICK_BYTES: usize = 30;

/// Whether a client may have this nick: ASCII, as RFC 2812 has it, 1 to 30 bytes.
pub fn is_legal(nick: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || "[]\\`_^{|}".contains(c);
    nick.len() <= NICK_BYTES
        && nick.chars().next().is_some_and(starts)
        && nick.chars().all(|c| starts(c) || c.is_ascii_digit() || c == '-')
}

/// The nick nearest to a username: what is illegal becomes `_`; a name that starts with a digit or
/// a dash gets `_` before it; one of which nothing legible is left becomes `user|` and the short
/// identity.
pub fn legal(username: &str, identity: &Identity) -> String {
    let mut nick = String::new();
    for c in username.chars() {
        let fits = c.is_ascii_alphanumeric() || "[]\\`_^{|}-".contains(c);
        nick.push(if fits { c } else { '_' });
    }
    if !nick.contains(|c: char| c.is_ascii_alphanumeric()) {
        return format!("user|{}", identity.short());
    }
    if nick.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        nick.insert(0, '_');
    }
    nick.truncate(NICK_BYTES);
    nick
}

/// That nick with the short identity behind it.
pub fn suffixed(nick: &str, identity: &Identity) -> String {
    let suffix = format!("|{}", identity.short());
    let room = NICK_BYTES - suffix.len();
    format!("{}{suffix}", nick.get(..room).unwrap_or(nick))
}

/// Who holds a nick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    Person(Identity),
    /// A client whose identity is not known yet, by account.
    Client(String),
}

/// A nick that changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renamed {
    pub identity: Identity,
    pub before: String,
    pub after: String,
}

/// Every nick in use.
#[derive(Debug, Default)]
pub struct Names {
    /// By folded nick.
    holders: BTreeMap<String, Holder>,
    nicks: BTreeMap<Identity, String>,
}

impl Names {
    /// Who holds a nick.
    pub fn holder(&self, nick: &str) -> Option<&Holder> {
        self.holders.get(&fold(nick))
    }

    /// A person's nick, if they hold one.
    pub fn of(&self, identity: &Identity) -> Option<&str> {
        self.nicks.get(identity).map(String::as_str)
    }

    /// The nick under which a person is shown, held or not.
    pub fn shown(&self, identity: &Identity, username: &str) -> String {
        if let Some(nick) = self.of(identity) {
            return nick.to_owned();
        }
        let nick = legal(username, identity);
        if self.holder(&nick).is_none() { nick } else { suffixed(&nick, identity) }
    }

    /// Gives a person the nick of their username, or the nearest free one.
    pub fn claim(&mut self, identity: Identity, username: &str) {
        if !self.nicks.contains_key(&identity) {
            let nick = self.free(&identity, username);
            self.hold(nick, identity);
        }
    }

    /// The nick after a change of username; `None` if it stays.
    pub fn rename(&mut self, identity: Identity, username: &str) -> Option<Renamed> {
        let before = self.nicks.get(&identity)?.clone();
        if before == legal(username, &identity) {
            return None;
        }
        self.forget(&identity);
        let after = self.free(&identity, username);
        self.hold(after.clone(), identity);
        (before != after).then_some(Renamed { identity, before, after })
    }

    /// Gives a client exactly this nick. A person who held it and is not that client's own identity
    /// makes room: a client of this listener goes by the name it connected with.
    pub fn reserve(&mut self, nick: &str, account: &str, own: Option<Identity>) -> Option<Renamed> {
        let evicted = match self.holder(nick) {
            Some(Holder::Person(identity)) if Some(*identity) != own => Some(*identity),
            _ => None,
        };
        if let Some(identity) = evicted {
            self.forget(&identity);
        }
        match own {
            Some(identity) => {
                self.forget(&identity);
                self.hold(nick.to_owned(), identity);
            }
            None => {
                self.holders.insert(fold(nick), Holder::Client(account.to_owned()));
            }
        }
        evicted.map(|identity| {
            let after = suffixed(nick, &identity);
            self.hold(after.clone(), identity);
            Renamed { identity, before: nick.to_owned(), after }
        })
    }

    /// The client that held this nick by account turns out to be this person. If the person was
    /// known under another nick, that change comes back.
    pub fn bind(&mut self, nick: &str, identity: Identity) -> Option<Renamed> {
        let before = self.of(&identity).map(str::to_owned);
        self.forget(&identity);
        self.hold(nick.to_owned(), identity);
        let before = before.filter(|before| before != nick)?;
        Some(Renamed { identity, before, after: nick.to_owned() })
    }

    /// Frees a person's nick.
    pub fn forget(&mut self, identity: &Identity) {
        if let Some(nick) = self.nicks.remove(identity) {
            self.holders.remove(&fold(&nick));
        }
    }

    /// Frees a nick that a client held by account.
    pub fn release(&mut self, nick: &str) {
        if matches!(self.holder(nick), Some(Holder::Client(_))) {
            self.holders.remove(&fold(nick));
        }
    }

    fn free(&self, identity: &Identity, username: &str) -> String {
        let nick = legal(username, identity);
        if self.holder(&nick).is_none() {
            return nick;
        }
        let longer = suffixed(&nick, identity);
        if self.holder(&longer).is_none() {
            return longer;
        }
        // Four characters collided too: take as many of the identity's as a nick holds.
        let text = format!("u|{identity}");
        text[..NICK_BYTES].to_owned()
    }

    fn hold(&mut self, nick: String, identity: Identity) {
        self.holders.insert(fold(&nick), Holder::Person(identity));
        self.nicks.insert(identity, nick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = Identity([1; 32]);
    const B: Identity = Identity([2; 32]);

    #[test]
    fn any_username_becomes_a_legal_nick() {
        for (username, nick) in [
            ("alice", "alice"),
            ("al.ice/x", "al_ice_x"),
            ("42", "_42"),
            ("-dash", "_-dash"),
            ("Зоя", "user|aeaq"),
            ("", "user|aeaq"),
            ("a\r\nQUIT :x", "a__QUIT__x"),
        ] {
            assert_eq!(legal(username, &A), nick);
            assert!(is_legal(nick), "{nick}");
        }
        assert!(is_legal(&legal(&"x".repeat(300), &A)));
        assert!(is_legal(&suffixed(&"x".repeat(NICK_BYTES), &A)));
        assert!(!is_legal("multi chat") && !is_legal("") && !is_legal("1a") && !is_legal("#a"));
    }

    #[test]
    fn two_of_a_name_are_told_apart() {
        let mut names = Names::default();
        names.claim(A, "alice");
        names.claim(B, "Alice");
        assert_eq!((names.of(&A), names.of(&B)), (Some("alice"), Some("Alice|aiba")));
        // A client of ours takes the name; the bridged person makes room.
        let moved = names.reserve("alice", "alice", None).unwrap();
        assert_eq!((moved.identity, moved.after.as_str()), (A, "alice|aeaq"));
        assert_eq!(names.holder("ALICE"), Some(&Holder::Client("alice".into())));
        assert_eq!(names.rename(B, "bob").unwrap().after, "bob");
    }
}

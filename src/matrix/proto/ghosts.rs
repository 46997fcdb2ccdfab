//! People across the border: a Multichat identity as a Matrix ghost, and a Matrix user as a
//! person of Multichat. Names are mapped here once; nothing here remembers anything.

use serde::{Deserialize, Serialize};

use super::names::PREFIX;
use crate::base::{Identity, Kind, limits};
use crate::chat::intent::Actor;
use crate::chat::profile::Profile;

/// Bytes of a username inside a ghost's localpart. With prefix, short identity and a server name
/// of up to 120 bytes a Matrix id stays within the 255 bytes that the specification allows.
const READABLE_BYTES: usize = 110;

/// What this door remembers of a ghost, under [`note_key`]. The localpart is chosen once, so that
/// a person keeps their Matrix id whatever they call themselves later.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ghost {
    pub localpart: String,
    /// The display name last set on the homeserver; empty before the ghost is registered.
    pub shown: String,
    /// How the person is called where they are from: a nick.
    #[serde(default)]
    pub username: String,
}

/// Why a remembered ghost could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadNote;

impl BadNote {
    /// Always [`Kind::Bug`]: only this door writes these notes.
    pub fn kind(&self) -> Kind {
        Kind::Bug
    }
}

impl Ghost {
    /// A ghost that is not registered yet.
    pub fn new(identity: &Identity, profile: &Profile) -> Self {
        let username = profile.username.clone();
        Self { localpart: localpart(identity, profile), shown: String::new(), username }
    }

    /// The bytes to remember.
    pub fn to_note(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts always encode")
    }

    /// Reads a note back.
    ///
    /// # Errors
    /// [`BadNote`] if it is not one of ours.
    pub fn from_note(key: &str, value: &[u8]) -> Result<(Identity, Self), BadNote> {
        let identity = key.strip_prefix(NOTE).ok_or(BadNote)?.parse().map_err(|_| BadNote)?;
        Ok((identity, serde_json::from_slice(value).map_err(|_| BadNote)?))
    }
}

/// What the keys of ghosts' notes begin with.
pub const NOTE: &str = "ghost/";

/// The key of a ghost's note.
pub fn note_key(identity: &Identity) -> String {
    format!("{NOTE}{identity}")
}

/// `_multichat_<username>_<first 8 characters of the identity>` in the alphabet of Matrix ids
/// `[a-z0-9._=/+-]`: lower case first, then `=hh` for each byte outside of it (Matrix
/// specification, appendix "Mapping from other character sets").
pub fn localpart(identity: &Identity, profile: &Profile) -> String {
    let mut readable = String::new();
    for c in profile.username.to_lowercase().chars() {
        let mut piece = String::new();
        if matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' | '+') {
            piece.push(c);
        } else {
            for byte in c.to_string().bytes() {
                piece.push_str(&format!("={byte:02x}"));
            }
        }
        if readable.len() + piece.len() > READABLE_BYTES {
            break;
        }
        readable.push_str(&piece);
    }
    format!("{PREFIX}{readable}_{}", &identity.to_string()[..8])
}

/// Whether somebody lives on a Matrix homeserver: their rooms show them already.
pub fn is_matrix_user(profile: &Profile) -> bool {
    is_user_id(&profile.home)
}

/// Whether a text has the form of a Matrix user id.
pub fn is_user_id(text: &str) -> bool {
    text.len() <= 255
        && text.strip_prefix('@').and_then(|rest| rest.split_once(':')).is_some_and(|(_, server)| {
            !server.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        })
}

/// The person that a Matrix user is, with the display name they have, if any.
pub fn person(user: &str, display_name: Option<&str>) -> Actor {
    let localpart =
        user.strip_prefix('@').and_then(|rest| rest.split_once(':')).map_or(user, |(local, _)| local);
    let username: String = localpart.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let username = cut(&username, limits::USERNAME_BYTES);
    let shown: String =
        display_name.unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let profile = Profile {
        username: if username.is_empty() { "user".to_owned() } else { username.to_owned() },
        display_name: cut(shown.trim(), limits::DISPLAY_NAME_BYTES).to_owned(),
        home: user.to_owned(),
    };
    Actor::Person { account: user.to_owned(), profile }
}

/// The longest beginning of a text that has at most `bytes` bytes and splits no character.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(username: &str) -> Profile {
        Profile { username: username.into(), ..Profile::default() }
    }

    #[test]
    fn ghosts_are_readable_stable_and_within_the_alphabet() {
        let identity = Identity(*blake3::hash(b"bob").as_bytes());
        let check = |username: &str, expect: &str| {
            let full = localpart(&identity, &profile(username));
            let short = identity.to_string();
            assert_eq!(full, format!("_multichat_{expect}_{}", &short[..8]));
            assert!(
                full.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._=/+-".contains(&b))
            );
            assert!(format!("@{full}:example.org").len() <= 255);
        };
        check("bob", "bob");
        check("Bob", "bob");
        check("b|[x]`", "b=7c=5bx=5d=60");
        check("a=b", "a=3db");
        check("jürgen", "j=c3=bcrgen");
        check("ÅSA", "=c3=a5sa");
        check("", "");
        let long = localpart(&identity, &profile(&"漢".repeat(21)));
        assert_eq!(
            long.len(),
            PREFIX.len() + 9 * 12 + 1 + 8,
            "cut between characters, never inside one: {long}"
        );
    }

    #[test]
    fn two_people_of_one_name_have_two_ghosts() {
        let [a, b] = [Identity([1; 32]), Identity([2; 32])];
        assert_ne!(localpart(&a, &profile("bob")), localpart(&b, &profile("bob")));
    }

    #[test]
    fn notes_round_trip() {
        let identity = Identity([7; 32]);
        let ghost = Ghost { shown: "Bob".into(), ..Ghost::new(&identity, &profile("bob")) };
        let read = Ghost::from_note(&note_key(&identity), &ghost.to_note());
        assert_eq!(read, Ok((identity, ghost)));
        assert_eq!(Ghost::from_note("ghost/x", b"{}"), Err(BadNote));
        assert_eq!(Ghost::from_note(&note_key(&identity), b"\xff"), Err(BadNote));
    }

    #[test]
    fn matrix_users_become_well_formed_people() {
        let check = |user: &str, shown: Option<&str>, username: &str, display_name: &str| {
            let Actor::Person { account, profile } = person(user, shown) else { panic!("a person") };
            assert_eq!((account.as_str(), profile.home.as_str()), (user, user));
            assert_eq!((profile.username.as_str(), profile.display_name.as_str()), (username, display_name));
            assert!(profile.is_well_formed());
        };
        check("@alice:example.org", Some("Alice L"), "alice", "Alice L");
        check("@alice:example.org", None, "alice", "");
        check("@alice:example.org", Some(" A\r\nB "), "alice", "A  B");
        check("@:example.org", None, "user", "");
        check("@a b:example.org", Some(&"é".repeat(200)), "ab", &"é".repeat(128));
    }
}

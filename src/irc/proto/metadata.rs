//! What people and channels say of themselves (IRCv3 `draft/metadata-3`), as data: keys with a text
//! each, so many and so long and no more.

use std::collections::BTreeMap;

use crate::base::{ChannelId, codec};

/// Keys of one person or channel.
pub const KEYS: usize = 25;
/// Bytes of a key.
pub const KEY_BYTES: usize = 40;
/// Bytes of a text: one fits into a line with the longest names.
pub const VALUE_BYTES: usize = 256;
/// Keys that one client may subscribe to.
pub const SUBSCRIPTIONS: usize = 50;
/// People with metadata, and channels with some; a further one is refused.
const OWNERS: usize = 10_000;
/// Bytes of one owner's note.
const NOTE_BYTES: usize = 16 * 1024;

/// Texts by key.
pub type Values = BTreeMap<String, String>;

/// Whose metadata is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    Person(String),
    Channel(ChannelId),
}

/// There is no room for a further key, or a further owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// All that is kept.
#[derive(Debug, Default)]
pub struct Metadata {
    people: BTreeMap<String, Values>,
    channels: BTreeMap<ChannelId, Values>,
}

/// The value of the capability.
pub fn limits() -> String {
    format!("before-connect,max-subs={SUBSCRIPTIONS},max-keys={KEYS},max-value-bytes={VALUE_BYTES}")
}

/// Whether a word may be a key.
pub fn is_key(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_./-".contains(c);
    (1..=KEY_BYTES).contains(&word.len()) && word.chars().all(fits)
}

/// Changes the text of a key, `None` removes it; `false` if there was nothing to remove.
///
/// # Errors
/// [`Full`], and then nothing changed.
pub fn put(values: &mut Values, key: &str, value: Option<&str>) -> Result<bool, Full> {
    match value {
        None => Ok(values.remove(key).is_some()),
        Some(_) if values.len() >= KEYS && !values.contains_key(key) => Err(Full),
        Some(text) => {
            values.insert(key.to_owned(), text.to_owned());
            Ok(true)
        }
    }
}

impl Metadata {
    /// What an owner has.
    pub fn of(&self, owner: &Owner) -> Option<&Values> {
        match owner {
            Owner::Person(person) => self.people.get(person),
            Owner::Channel(channel) => self.channels.get(channel),
        }
    }

    /// Changes one key, as [`put`] does.
    ///
    /// # Errors
    /// [`Full`], and then nothing changed.
    pub fn set(&mut self, owner: &Owner, key: &str, value: Option<&str>) -> Result<bool, Full> {
        match owner {
            Owner::Person(person) => set_in(&mut self.people, person, key, value),
            Owner::Channel(channel) => set_in(&mut self.channels, channel, key, value),
        }
    }

    /// Forgets an owner; what they had.
    pub fn forget(&mut self, owner: &Owner) -> Values {
        match owner {
            Owner::Person(person) => self.people.remove(person),
            Owner::Channel(channel) => self.channels.remove(channel),
        }
        .unwrap_or_default()
    }

    /// Takes back an owner's note; one that is damaged or beyond the bounds is passed over.
    pub fn recall(&mut self, owner: &Owner, note: &[u8]) {
        let Ok(values) = codec::decode::<Values>(note, NOTE_BYTES) else { return };
        for (key, value) in values.iter().filter(|(key, value)| is_key(key) && value.len() <= VALUE_BYTES) {
            let _ = self.set(owner, key, Some(value));
        }
    }
}

fn set_in<K: Ord + Clone>(
    all: &mut BTreeMap<K, Values>,
    owner: &K,
    key: &str,
    value: Option<&str>,
) -> Result<bool, Full> {
    if value.is_some() && all.len() >= OWNERS && !all.contains_key(owner) {
        return Err(Full);
    }
    let values = all.entry(owner.clone()).or_default();
    let changed = put(values, key, value);
    if values.is_empty() {
        all.remove(owner);
    }
    changed
}

impl Owner {
    /// The key of its note.
    pub fn note(&self) -> String {
        match self {
            Self::Person(person) => format!("meta/@{person}"),
            Self::Channel(channel) => format!("meta/#{channel}"),
        }
    }

    /// Out of the rest of a note's key, after `meta/`.
    pub fn of_note(rest: &str) -> Option<Self> {
        match rest.strip_prefix('@') {
            Some(person) => Some(Self::Person(person.to_owned())),
            None => rest.strip_prefix('#')?.parse().ok().map(Self::Channel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_in_keys_and_owners() {
        let mut all = Metadata::default();
        let owner = Owner::Person("bob".into());
        for n in 0..KEYS {
            assert_eq!(all.set(&owner, &format!("k{n}"), Some("x")), Ok(true));
        }
        assert_eq!(all.set(&owner, "more", Some("x")), Err(Full));
        assert_eq!(all.set(&owner, "k0", Some("other")), Ok(true));
        assert_eq!((all.set(&owner, "k0", None), all.set(&owner, "k0", None)), (Ok(true), Ok(false)));
        for n in 1..OWNERS {
            let owner = Owner::Person(format!("p{n}"));
            assert_eq!(all.set(&owner, "k", Some("x")), Ok(true));
        }
        assert_eq!(all.set(&Owner::Person("late".into()), "k", Some("x")), Err(Full));
        let channel = Owner::Channel(ChannelId([1; 32]));
        assert_eq!(all.set(&channel, "k", Some("x")), Ok(true), "people do not crowd channels out");
        assert_eq!(all.forget(&owner).len(), KEYS - 1);
        assert_eq!(all.set(&Owner::Person("late".into()), "k", None), Ok(false));
        assert_eq!(all.of(&Owner::Person("late".into())), None, "asking leaves nothing");
    }

    #[test]
    fn notes_come_back() {
        for owner in [Owner::Person("b~x".into()), Owner::Channel(ChannelId([7; 32]))] {
            let key = owner.note();
            assert_eq!(Owner::of_note(key.strip_prefix("meta/").unwrap()), Some(owner.clone()));
            let mut all = Metadata::default();
            let values = Values::from([("k".into(), "v".into()), ("NOT A KEY".into(), "v".into())]);
            all.recall(&owner, &codec::encode(&values));
            all.recall(&owner, b"rubbish");
            assert_eq!(all.of(&owner), Some(&Values::from([("k".into(), "v".into())])));
        }
        assert_eq!(Owner::of_note("?"), None);
        assert!(is_key("example.org/a-b_1") && !is_key("") && !is_key("Ä") && !is_key("a b") && !is_key("A"));
    }
}

//! Modes of a channel as this listener keeps and enforces them: flags, key, limit, mask lists and
//! voices. They bind the clients of this listener; roles and bans of persons are the channel's own
//! and bind everybody (see `hub::roles`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::mask::{self, Face};
use crate::base::{Identity, Timestamp};

/// The flags that can be set: no CTCP, invite-only, moderated, registered speakers, no messages from
/// outside, registered only, secret, topic for moderators.
pub const SETTABLE: &str = "CiMmnRst";
/// Entries of one list.
pub const LIST_ENTRIES: usize = 60;
/// The lists: bans, exceptions from them, and from being uninvited.
pub const LISTS: &str = "beI";
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// The modes of one channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Modes {
    pub flags: BTreeSet<char>,
    pub key: Option<String>,
    pub limit: Option<u32>,
    pub lists: BTreeMap<char, Vec<Entry>>,
    pub voices: BTreeSet<Identity>,
}

/// One mask of a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub mask: String,
    /// The prefix of who set it.
    pub by: String,
    pub at: Timestamp,
    /// Persons banned from the channel itself because of it; lifting the mask lets them back in.
    pub banned: BTreeSet<Identity>,
}

impl Default for Modes {
    /// `+nt`, which is how channels are.
    fn default() -> Self {
        Self {
            flags: ['n', 't'].into(),
            key: None,
            limit: None,
            lists: BTreeMap::new(),
            voices: BTreeSet::new(),
        }
    }
}

impl Modes {
    /// Whether a flag is set.
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(&flag)
    }

    /// As RPL_CHANNELMODEIS gives them; the key only to members.
    pub fn shown(&self, member: bool) -> Vec<String> {
        let mut letters = String::from("+");
        letters.extend(&self.flags);
        let mut words = Vec::new();
        if let Some(key) = &self.key {
            letters.push('k');
            words.push(if member { key.clone() } else { "*".to_owned() });
        }
        if let Some(limit) = self.limit {
            letters.push('l');
            words.push(limit.to_string());
        }
        words.insert(0, letters);
        words
    }

    /// The entries of a list.
    pub fn list(&self, list: char) -> &[Entry] {
        self.lists.get(&list).map_or(&[], Vec::as_slice)
    }

    fn on(&self, list: char, face: &Face) -> bool {
        self.list(list).iter().any(|entry| mask::matches(&entry.mask, face))
    }

    /// Whether somebody is kept out by a ban.
    pub fn bans(&self, face: &Face) -> bool {
        self.on('b', face) && !self.on('e', face)
    }

    /// Whether somebody may not speak, because of a ban or a mute.
    pub fn silences(&self, face: &Face) -> bool {
        let muted = self.list('b').iter().any(|entry| mask::mutes(&entry.mask, face));
        let excepted = self.list('e').iter().any(|entry| mask::mutes(&entry.mask, face));
        (muted && !excepted && !self.on('e', face)) || self.bans(face)
    }

    /// Why somebody may not join, as numeric and text; `invited` overrides all but bans.
    pub fn keeps_out(
        &self,
        face: &Face,
        key: Option<&str>,
        members: usize,
        invited: bool,
    ) -> Option<(u16, &'static str)> {
        if self.bans(face) && !invited {
            return Some((474, "Cannot join channel (+b)"));
        }
        if invited {
            return None;
        }
        if self.has('i') && !self.on('I', face) {
            return Some((473, "Cannot join channel (+i)"));
        }
        if self.has('R') && face.account.is_none() && !self.on('I', face) {
            return Some((477, "Cannot join channel (+R): you need an account"));
        }
        if self.key.is_some() && self.key.as_deref() != key {
            return Some((475, "Cannot join channel (+k)"));
        }
        if self.limit.is_some_and(|limit| members >= limit as usize) {
            return Some((471, "Cannot join channel (+l)"));
        }
        None
    }
}

/// One change that a MODE line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub add: bool,
    pub mode: char,
    pub argument: Option<String>,
}

/// The changes of a MODE line, in order: letters, then their arguments.
pub fn parse(words: &[String], takes: impl Fn(char, bool) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut words = words.iter();
    let mut add = true;
    let Some(letters) = words.next() else { return changes };
    for c in letters.chars() {
        match c {
            '+' => add = true,
            '-' => add = false,
            mode => {
                let argument = if takes(mode, add) { words.next().cloned() } else { None };
                changes.push(Change { add, mode, argument });
            }
        }
    }
    changes
}

/// Whether a channel mode takes an argument.
pub fn takes_argument(mode: char, add: bool) -> bool {
    matches!(mode, 'b' | 'e' | 'I' | 'k' | 'q' | 'a' | 'o' | 'h' | 'v') || (mode == 'l' && add)
}

/// Changes as the words of a MODE line: `+ov-t alice bob`.
pub fn words(changes: &[Change]) -> Vec<String> {
    let mut letters = String::new();
    let mut add = None;
    for change in changes {
        if add != Some(change.add) {
            letters.push(if change.add { '+' } else { '-' });
            add = Some(change.add);
        }
        letters.push(change.mode);
    }
    std::iter::once(letters).chain(changes.iter().filter_map(|change| change.argument.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_put_together() {
        let given: Vec<String> = ["+ov-lk+s", "alice", "bob", "key"].map(str::to_owned).into();
        let changes = parse(&given, takes_argument);
        assert_eq!(words(&changes), given);
        assert_eq!(changes[2], Change { add: false, mode: 'l', argument: None });
        assert!(parse(&["b".to_owned()], takes_argument)[0].argument.is_none());
    }

    #[test]
    fn who_may_come_in_and_speak() {
        let mut modes = Modes::default();
        let bob = Face { prefix: "bob!b@h".into(), account: None };
        assert_eq!(modes.keeps_out(&bob, None, 5, false), None);
        assert_eq!(modes.shown(true), ["+nt"]);
        modes.key = Some("k".into());
        modes.limit = Some(5);
        assert_eq!(modes.keeps_out(&bob, None, 0, false).unwrap().0, 475);
        assert_eq!(modes.keeps_out(&bob, Some("k"), 5, false).unwrap().0, 471);
        assert_eq!(modes.keeps_out(&bob, None, 5, true), None);
        assert_eq!(modes.shown(false), ["+ntkl", "*", "5"]);
        let entry = |mask: &str| Entry {
            mask: mask.into(),
            by: "x".into(),
            at: Timestamp(0),
            banned: BTreeSet::new(),
        };
        modes.lists.insert('b', vec![entry("m:bob!*@*")]);
        assert!(modes.silences(&bob) && !modes.bans(&bob));
        modes.lists.insert('e', vec![entry("m:*!b@*")]);
        assert!(!modes.silences(&bob));
        modes.lists.insert('b', vec![entry("bob!*@*")]);
        assert!(modes.bans(&bob) && modes.silences(&bob));
    }
}

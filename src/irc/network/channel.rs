//! What is known of a linked channel on the network besides who is in it: whether its operators
//! agreed to the link, its topic, its modes, and whom they do not want to hear. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::people::User;
use crate::base::{Identity, Timestamp};

/// Authors whose names are remembered, for `!mc mute`.
const VOICES: usize = 256;
/// People that one channel's operators may mute.
const MUTED: usize = 1024;
/// Bans whose people are remembered.
const BANS: usize = 1024;
/// People kicked lately, whom a ban may follow.
const KICKED: usize = 8;

/// Whether the operators of the channel agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Agreement {
    /// Not known yet; they are asked once we are in the channel.
    #[default]
    Unasked,
    Asked,
    Given,
    /// One of them said stop. Only an invitation brings us back, to ask anew.
    Stopped,
}

/// Whom a ban put out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Banned {
    /// Accounts of people of the network, whose operators set the ban.
    pub accounts: Vec<String>,
    /// Whoever was banned elsewhere, so that we set it here.
    pub identity: Option<Identity>,
}

/// A channel's state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub agreement: Agreement,
    /// The topic on the network, once known.
    pub topic: Option<String>,
    /// Whether only operators may change it; `None` while that is not known.
    pub topic_locked: Option<bool>,
    pub bans: BTreeMap<String, Banned>,
    pub kicked: VecDeque<(String, User)>,
    pub muted: BTreeSet<Identity>,
    /// Who spoke from elsewhere, the latest last.
    voices: VecDeque<(Identity, String)>,
    /// The newest moment of the channel that we heard of.
    pub heard_until: Option<Timestamp>,
}

impl State {
    /// Somebody from elsewhere spoke here.
    pub fn voice(&mut self, identity: Identity, name: &str) {
        self.voices.retain(|(other, _)| *other != identity);
        self.voices.push_back((identity, name.to_owned()));
        if self.voices.len() > VOICES {
            self.voices.pop_front();
        }
    }

    /// Who goes by that name, of those who spoke here.
    pub fn named(&self, name: &str) -> Option<(Identity, String)> {
        self.voices.iter().rev().find(|(_, other)| other.eq_ignore_ascii_case(name)).cloned()
    }

    /// Who spoke here, the latest first.
    pub fn voices(&self) -> impl Iterator<Item = &str> {
        self.voices.iter().rev().map(|(_, name)| name.as_str())
    }

    /// Keeps somebody's messages away from the channel. `false` if too many are muted.
    pub fn mute(&mut self, identity: Identity) -> bool {
        let has_room = self.muted.len() < MUTED;
        if has_room {
            self.muted.insert(identity);
        }
        has_room
    }

    /// Remembers whom a ban put out.
    pub fn banned(&mut self, mask: &str, banned: Banned) {
        if self.bans.len() < BANS || self.bans.contains_key(mask) {
            self.bans.insert(mask.to_owned(), banned);
        }
    }

    /// The ban that we set against somebody.
    pub fn mask_of(&self, identity: &Identity) -> Option<String> {
        self.bans
            .iter()
            .find(|(_, ban)| ban.identity.as_ref() == Some(identity))
            .map(|(mask, _)| mask.clone())
    }

    /// Whether an operator's ban put this account out.
    pub fn is_banned(&self, account: &str) -> bool {
        self.bans.values().any(|ban| ban.accounts.iter().any(|other| other == account))
    }

    /// Somebody was kicked: a ban may follow.
    pub fn was_kicked(&mut self, account: String, user: User) {
        self.kicked.push_back((account, user));
        if self.kicked.len() > KICKED {
            self.kicked.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_operators_name_is_who_spoke_last_under_that_name() {
        let mut state = State::default();
        let person = |n: u32| Identity(*blake3::hash(&n.to_be_bytes()).as_bytes());
        for n in 0..2 * VOICES as u32 {
            state.voice(person(n), "Alice");
        }
        assert_eq!((state.voices().count(), state.voices.len()), (VOICES, VOICES));
        assert_eq!(state.named("alice"), Some((person(2 * VOICES as u32 - 1), "Alice".into())));
        assert_eq!(state.named("alic"), None);
        let muted = (0..2 * MUTED as u32).filter(|n| state.mute(person(*n))).count();
        assert_eq!((muted, state.muted.len()), (MUTED, MUTED));
    }
}

//! Matrix users whose names are kept at hand: how they are shown, and who is meant when somebody
//! is called by name. Beyond its bound it forgets all of them, and each is asked for anew.

use std::collections::{BTreeMap, BTreeSet};

/// Users that are remembered.
const PEOPLE: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct People {
    shown: BTreeMap<String, Option<String>>,
    /// By the names people call them, in lower case.
    called: BTreeMap<String, BTreeSet<String>>,
}

impl People {
    /// Notes a user's display name.
    pub fn met(&mut self, user: &str, display_name: Option<String>) {
        if self.shown.get(user) == Some(&display_name) {
            return;
        }
        if self.shown.len() >= PEOPLE && !self.shown.contains_key(user) {
            *self = Self::default();
        }
        if let Some(before) = self.shown.insert(user.to_owned(), display_name.clone()) {
            for name in names(user, before.as_deref()) {
                if let Some(users) = self.called.get_mut(&name) {
                    users.remove(user);
                    if users.is_empty() {
                        self.called.remove(&name);
                    }
                }
            }
        }
        for name in names(user, display_name.as_deref()) {
            self.called.entry(name).or_default().insert(user.to_owned());
        }
    }

    /// A user's display name, if they were met.
    pub fn shown(&self, user: &str) -> Option<&Option<String>> {
        self.shown.get(user)
    }

    /// The user whom a text calls by name at its beginning, as people do: `alice: hi`. Where several
    /// go by the name, nobody is disturbed for another.
    pub fn called(&self, text: &str) -> Option<&str> {
        let (name, _) = text.split_once([':', ','])?;
        let users = self.called.get(&name.trim_start_matches('@').to_lowercase())?;
        users.first().filter(|_| users.len() == 1).map(String::as_str)
    }
}

fn names(user: &str, display_name: Option<&str>) -> BTreeSet<String> {
    let localpart = user.strip_prefix('@').and_then(|rest| rest.split_once(':')).map(|(local, _)| local);
    [localpart, display_name].into_iter().flatten().map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_called_by_either_name_and_nobody_for_another() {
        let mut people = People::default();
        people.met("@alice:x", Some("Alice L".into()));
        people.met("@bob:x", None);
        for (text, expect) in [
            ("alice: hi", Some("@alice:x")),
            ("Alice L, hi", Some("@alice:x")),
            ("@bob: hi", Some("@bob:x")),
            ("hi alice", None),
            ("carol: hi", None),
        ] {
            assert_eq!(people.called(text), expect, "{text}");
        }
        people.met("@alice:y", Some("alice".into()));
        assert_eq!(people.called("alice: hi"), None, "two of them");
        people.met("@alice:x", Some("Al".into()));
        assert_eq!((people.called("Alice L: hi"), people.called("al: hi")), (None, Some("@alice:x")));
        assert_eq!(people.shown("@alice:x"), Some(&Some("Al".into())));
    }
}

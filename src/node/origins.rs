//! Which messages of the far sides of links became which events lately: what the store does not
//! know yet because it is only being committed. Two generations, so that forgetting the elder never
//! forgets what a commit has not reached.

use std::collections::BTreeMap;

use crate::base::{EventId, limits};
use crate::chat::message::Link;

/// Origins of one generation; a multiple of what one commit can hold.
const GENERATION: usize = 16 * limits::GROUP_COMMIT_INPUTS;

/// See the module.
#[derive(Default)]
pub(super) struct Origins {
    young: BTreeMap<(Link, String), EventId>,
    old: BTreeMap<(Link, String), EventId>,
}

impl Origins {
    pub fn get(&self, origin: &(Link, String)) -> Option<EventId> {
        self.young.get(origin).or_else(|| self.old.get(origin)).copied()
    }

    pub fn insert(&mut self, origin: (Link, String), event: EventId) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(origin).or_insert(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_always_known_and_memory_is_bounded() {
        let origin = |number: usize| (Link::Matrix { room: "!r".into() }, format!("${number}"));
        let mut origins = Origins::default();
        for number in 0..5 * GENERATION {
            origins.insert(origin(number), EventId([1; 32]));
            for back in [0, 1, GENERATION / 2, GENERATION - 1] {
                assert!(number < back || origins.get(&origin(number - back)).is_some(), "{number} {back}");
            }
        }
        assert!(origins.young.len() + origins.old.len() <= 2 * GENERATION);
    }
}

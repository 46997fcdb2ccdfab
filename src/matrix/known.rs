//! What a Matrix event is in Multichat and the other way round, of late: enough to relate what is
//! said now to what was said before without asking the node. It never keeps what the store does
//! not keep as well, and forgets the oldest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::EventId;

/// Events that are remembered.
const KNOWN: usize = 8_192;

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    events: BTreeMap<(String, String), EventId>,
    /// The id in the room, and who sent it there where that is known.
    ids: BTreeMap<(String, EventId), (String, Option<String>)>,
    order: VecDeque<(String, String)>,
    /// Messages that turned void and were taken back in a room: they may come to count again.
    withdrawn: BTreeSet<(String, EventId)>,
}

impl Known {
    /// An event of a room is this one here.
    pub fn learn(&mut self, room: &str, id: &str, event: EventId, sender: Option<&str>) {
        let key = (room.to_owned(), id.to_owned());
        if self.events.insert(key.clone(), event).is_none() {
            self.order.push_back(key);
        }
        let by_event = (room.to_owned(), event);
        self.ids.entry(by_event).or_insert_with(|| (id.to_owned(), sender.map(str::to_owned)));
        while self.order.len() > KNOWN {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(event) = self.events.remove(&oldest) {
                self.ids.remove(&(oldest.0, event));
            }
        }
    }

    /// What an event was in a room was taken back there, as it is void.
    pub fn withdraw(&mut self, room: &str, event: EventId) {
        let key = (room.to_owned(), event);
        if let Some((id, _)) = self.ids.remove(&key) {
            self.events.remove(&(room.to_owned(), id));
        }
        if self.withdrawn.len() >= KNOWN {
            self.withdrawn.clear();
        }
        self.withdrawn.insert(key);
    }

    /// Whether it was.
    pub fn is_withdrawn(&self, room: &str, event: &EventId) -> bool {
        self.withdrawn.contains(&(room.to_owned(), *event))
    }

    /// What an event of a room is here.
    pub fn event(&self, room: &str, id: &str) -> Option<EventId> {
        self.events.get(&(room.to_owned(), id.to_owned())).copied()
    }

    /// What an event is in a room, and who sent it there.
    pub fn id(&self, room: &str, event: &EventId) -> Option<&(String, Option<String>)> {
        self.ids.get(&(room.to_owned(), *event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_both_ways_and_memory_is_bounded() {
        let event = |number: usize| EventId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let mut known = Known::default();
        for number in 0..KNOWN + 5 {
            known.learn("!r", &format!("${number}"), event(number), Some("@a:x"));
        }
        let newest = KNOWN + 4;
        assert_eq!(known.event("!r", &format!("${newest}")), Some(event(newest)));
        assert_eq!(known.id("!r", &event(newest)), Some(&(format!("${newest}"), Some("@a:x".into()))));
        assert_eq!((known.event("!r", "$4"), known.id("!r", &event(4))), (None, None));
        assert_eq!(known.event("!other", &format!("${newest}")), None);
        assert_eq!((known.events.len(), known.ids.len()), (KNOWN, KNOWN));
        known.withdraw("!r", event(newest));
        assert_eq!(known.id("!r", &event(newest)), None);
        assert!(known.is_withdrawn("!r", &event(newest)) && !known.is_withdrawn("!r", &event(newest - 1)));
    }
}

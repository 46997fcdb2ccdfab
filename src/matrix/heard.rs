//! How far we have heard each room, and what the homeserver holds beyond that and never told us.
//!
//! A homeserver may lose a transaction for good: Synapse does when one is made in the moment in
//! which it notices that we are back after a pause. So we remember the newest message that we
//! heard of each room, and read the room from there on when a transaction is missing by its
//! number, and once all is quiet after a start or after transactions that came late. It never
//! goes back beyond what was heard: what was said before a link is not carried.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::homeserver::{CallError, Homeserver};

/// What the keys of notes about rooms begin with.
const ROOM: &str = "heard/";
/// The key of the note about the last transaction.
const TRANSACTION: &str = "transaction";
/// An event that is older when it comes was late: it waited for us.
const LATE_MS: u64 = 1_500;
/// Without a transaction for so long, all is quiet.
const QUIET: Duration = Duration::from_secs(3);
/// Pages of 100 messages that are read of one room.
const PAGES: usize = 100;

/// See the module.
pub(super) struct Heard {
    /// The number of the last transaction, where the homeserver numbers them.
    transaction: Option<u64>,
    /// The newest message of each room that carries a channel.
    newest: BTreeMap<String, String>,
    /// Something was late, or we have just started: something may be missing.
    doubtful: bool,
    last: Instant,
    /// What the node does not keep yet. There is no hurry: whoever starts from an older note reads
    /// more again, and what the node has already it takes once.
    notes: Notes,
}

/// Notes for the node to keep: a value is empty where the key is to be forgotten.
pub(super) type Notes = BTreeMap<String, String>;

impl Heard {
    /// What the notes of last time say.
    pub fn recall(notes: &[(String, Vec<u8>)]) -> Self {
        let (transaction, newest, last) = (None, BTreeMap::new(), Instant::now());
        let mut heard = Self { transaction, newest, doubtful: true, last, notes: Notes::new() };
        for (key, value) in notes {
            let Ok(value) = std::str::from_utf8(value) else { continue };
            if let Some(room) = key.strip_prefix(ROOM) {
                heard.newest.insert(room.to_owned(), value.to_owned());
            } else if key == TRANSACTION {
                heard.transaction = value.parse().ok();
            }
        }
        heard
    }

    /// Whether there were transactions before this one that did not come.
    pub fn is_gap_before(&self, txn: &str) -> bool {
        let number = txn.parse::<u64>().ok();
        self.transaction.zip(number).is_some_and(|(last, number)| number > last.saturating_add(1))
    }

    /// Takes note of a transaction, once everything in it is durable.
    pub fn hear(&mut self, txn: &str, events: &[Value], carries: impl Fn(&str) -> bool) {
        self.last = Instant::now();
        if let Ok(number) = txn.parse() {
            self.transaction = Some(number);
            self.notes.insert(TRANSACTION.to_owned(), txn.to_owned());
        }
        self.doubtful |=
            events.iter().any(|event| event["unsigned"]["age"].as_u64().is_some_and(|age| age > LATE_MS));
        let mut newest = BTreeMap::new();
        for event in events.iter().filter(|event| is_said(event)) {
            if let (Some(room), Some(id)) = (event["room_id"].as_str(), event["event_id"].as_str()) {
                newest.insert(room, id);
            }
        }
        for (room, id) in newest {
            if carries(room) {
                self.reach(room, id);
            } else if self.newest.remove(room).is_some() {
                self.notes.insert(format!("{ROOM}{room}"), String::new());
            }
        }
    }

    /// A room was heard up to this message, and all of it is durable.
    pub fn reach(&mut self, room: &str, id: &str) {
        self.newest.insert(room.to_owned(), id.to_owned());
        self.notes.insert(format!("{ROOM}{room}"), id.to_owned());
    }

    /// What is to be kept since the last time this was asked.
    pub fn take_notes(&mut self) -> Notes {
        std::mem::take(&mut self.notes)
    }

    /// Each room and the newest message that was heard of it.
    pub fn rooms(&self) -> Vec<(String, String)> {
        self.newest.iter().map(|(room, id)| (room.clone(), id.clone())).collect()
    }

    /// Whether it is time to look for what is missing.
    pub fn is_quiet_and_doubtful(&self, now: Instant) -> bool {
        self.doubtful && now.duration_since(self.last) >= QUIET
    }

    /// Nothing is missing.
    pub fn settle(&mut self) {
        self.doubtful = false;
    }
}

fn is_said(event: &Value) -> bool {
    event["type"] == "m.room.message" || event["type"] == "m.room.encrypted"
}

/// The messages of a room after one of them, oldest first; `None` if that one is not found.
///
/// # Errors
/// [`CallError`].
pub(super) async fn missed(
    hs: &Homeserver,
    room: &str,
    after: &str,
) -> Result<Option<Vec<Value>>, CallError> {
    let mut missed = Vec::new();
    let mut from: Option<String> = None;
    for _ in 0..PAGES {
        let mut page = hs.messages(room, from.as_deref()).await?;
        let Value::Array(events) = page["chunk"].take() else {
            return Err(CallError::Odd("chunk is missing".into()));
        };
        for event in events {
            if event["event_id"] == after {
                missed.reverse();
                return Ok(Some(missed));
            }
            missed.push(event);
        }
        from = page["end"].as_str().map(str::to_owned);
        if from.is_none() {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_is_seen_by_numbers_alone_and_over_restarts() {
        let mut heard = Heard::recall(&[]);
        assert!(!heard.is_gap_before("7"), "the first one");
        let event = json!({"type": "m.room.message", "room_id": "!r", "event_id": "$1"});
        heard.hear("7", &[event], |room| room == "!r");
        let kept: Vec<_> =
            heard.take_notes().into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        let heard = Heard::recall(&kept);
        assert_eq!(heard.rooms(), [("!r".to_owned(), "$1".to_owned())]);
        let gaps = ["6", "7", "8", "9", "a3f"].map(|txn| heard.is_gap_before(txn));
        assert_eq!(gaps, [false, false, false, true, false]);
    }

    #[test]
    fn a_room_that_carries_nothing_is_forgotten() {
        let mut heard = Heard::recall(&[("heard/!r".into(), b"$1".to_vec())]);
        let event = json!({"type": "m.room.message", "room_id": "!r", "event_id": "$2"});
        heard.hear("a", &[event], |_| false);
        assert_eq!(heard.take_notes(), Notes::from([("heard/!r".to_owned(), String::new())]));
        assert!(heard.rooms().is_empty());
    }

    #[test]
    fn after_something_late_it_looks_once_all_is_quiet() {
        let mut heard = Heard::recall(&[]);
        heard.settle();
        let event = |age: u64| json!({"type": "m.room.member", "unsigned": {"age": age}});
        let later = || Instant::now() + QUIET;
        heard.hear("1", &[event(20)], |_| true);
        assert!(!heard.is_quiet_and_doubtful(later()), "nothing was late");
        heard.hear("2", &[event(20_000)], |_| true);
        assert!(!heard.is_quiet_and_doubtful(Instant::now() - QUIET), "more may follow");
        assert!(heard.is_quiet_and_doubtful(later()));
        heard.settle();
        assert!(!heard.is_quiet_and_doubtful(later()));
    }
}

//! Encrypted events whose keys are not here yet: they are kept, here and as notes of the node, until a key
//! comes. A homeserver hands on events and keys by different ways, so an event may come first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::matrix::proto::sealed;

/// What the keys of notes about them begin with.
const WAITING: &str = "waiting/";
/// Events that are kept; beyond it the oldest session gives way.
const EVENTS: usize = 256;
/// After so long the room is told.
const TELL_AFTER: Duration = Duration::from_secs(15);
/// For so long a room is not told again about the same sender.
const TOLD_FOR: Duration = Duration::from_secs(10 * 60);
/// Rooms and senders of which it is remembered when it was told.
const TOLD: usize = 1_000;
/// After so long they are given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    /// By room and session.
    sessions: BTreeMap<(String, String), Session>,
    /// By room and sender.
    told: BTreeMap<(String, String), Instant>,
}

struct Session {
    /// In the order in which they were said.
    events: Vec<Value>,
    since: Instant,
    told: bool,
    /// Its key came, perhaps.
    ready: bool,
}

/// An event that waits for long: where, which and whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Overdue {
    pub room: String,
    pub event_id: String,
    pub sender: String,
}

impl Waiting {
    /// What the notes of last time say. Keys may have come in the meantime.
    pub fn recall(notes: &[(String, Vec<u8>)]) -> Self {
        let mut waiting = Self::default();
        let mut events: Vec<Value> = notes
            .iter()
            .filter(|(key, _)| key.starts_with(WAITING))
            .filter_map(|(_, value)| serde_json::from_slice(value).ok())
            .collect();
        events.sort_by_key(|event| event["origin_server_ts"].as_u64());
        for event in &events {
            waiting.add(event);
        }
        for session in waiting.sessions.values_mut() {
            session.ready = true;
        }
        waiting
    }

    /// Keeps an event. Gives those that have to give way, and `None` if it cannot be kept at all.
    pub fn add(&mut self, event: &Value) -> Option<Vec<Value>> {
        let (room, id) = (event["room_id"].as_str()?, event["event_id"].as_str()?);
        let key = (room.to_owned(), sealed::session(event)?.to_owned());
        let fresh = || Session { events: Vec::new(), since: Instant::now(), told: false, ready: false };
        let session = self.sessions.entry(key.clone()).or_insert_with(fresh);
        session.ready = false;
        if !session.events.iter().any(|other| other["event_id"] == id) {
            session.events.push(event.clone());
        }
        let mut gone = Vec::new();
        while self.len() > EVENTS {
            let others = self.sessions.iter().filter(|(other, _)| **other != key);
            let oldest = others.min_by_key(|(_, session)| session.since).map(|(key, _)| key.clone());
            let Some(oldest) = oldest.or_else(|| Some(key.clone())) else { break };
            gone.extend(self.sessions.remove(&oldest).into_iter().flat_map(|session| session.events));
        }
        Some(gone)
    }

    fn len(&self) -> usize {
        self.sessions.values().map(|session| session.events.len()).sum()
    }

    /// The key of a session came.
    pub fn came(&mut self, room: String, session: String) {
        if let Some(session) = self.sessions.get_mut(&(room, session)) {
            session.ready = true;
        }
    }

    /// Events whose keys came.
    pub fn ready(&self) -> Vec<Value> {
        let ready = self.sessions.values().filter(|session| session.ready);
        ready.flat_map(|session| session.events.iter().cloned()).collect()
    }

    /// An event was opened, and what it says is durable.
    pub fn done(&mut self, event_id: &str) {
        self.sessions.retain(|_, session| {
            session.events.retain(|event| event["event_id"] != event_id);
            !session.events.is_empty()
        });
    }

    /// The first event of each session that waits for long, once, and not of the same sender all the time.
    pub fn overdue(&mut self, now: Instant) -> Vec<Overdue> {
        let mut overdue: Vec<Overdue> = Vec::new();
        self.told.retain(|_, told| now.duration_since(*told) < TOLD_FOR);
        for ((room, _), session) in &mut self.sessions {
            if session.told || now.duration_since(session.since) < TELL_AFTER {
                continue;
            }
            session.told = true;
            let Some(event) = session.events.first() else { continue };
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let about = (room.clone(), text("sender"));
            if self.told.len() >= TOLD || self.told.contains_key(&about) {
                continue;
            }
            self.told.insert(about, now);
            overdue.push(Overdue { room: room.clone(), event_id: text("event_id"), sender: text("sender") });
        }
        overdue
    }

    /// Events that nobody waits for any more.
    pub fn given_up(&mut self, now: Instant) -> Vec<Value> {
        let mut given_up = Vec::new();
        self.sessions.retain(|_, session| {
            let keep = now.duration_since(session.since) < GIVE_UP_AFTER;
            if !keep {
                given_up.append(&mut session.events);
            }
            keep
        });
        given_up
    }
}

/// The note that keeps an event.
pub(super) fn note(event_id: &str) -> String {
    format!("{WAITING}{event_id}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(number: usize, session: &str) -> Value {
        json!({"room_id": "!r:x", "event_id": format!("${number}"), "sender": "@a:x", "origin_server_ts": number,
               "content": {"session_id": session}})
    }

    #[test]
    fn events_wait_for_their_session_and_come_in_order() {
        let mut waiting = Waiting::default();
        for number in [1, 2, 2] {
            assert_eq!(waiting.add(&event(number, "s")), Some(vec![]));
        }
        waiting.add(&event(3, "t"));
        assert_eq!(waiting.add(&json!({"room_id": "!r:x", "event_id": "$4", "content": {}})), None);
        assert!(waiting.ready().is_empty());
        waiting.came("!r:x".into(), "s".into());
        waiting.came("!r:x".into(), "unknown".into());
        assert_eq!(waiting.ready(), [event(1, "s"), event(2, "s")]);
        waiting.done("$1");
        assert_eq!(waiting.ready(), [event(2, "s")], "until it is done");
        waiting.add(&event(2, "s"));
        assert!(waiting.ready().is_empty(), "its key did not come after all");
    }

    #[test]
    fn rooms_are_told_once_and_nothing_waits_for_ever() {
        let mut waiting = Waiting::default();
        waiting.add(&event(1, "s"));
        waiting.add(&event(2, "s"));
        let later = Instant::now() + TELL_AFTER;
        assert!(waiting.overdue(Instant::now() - TELL_AFTER).is_empty());
        let told = Overdue { room: "!r:x".into(), event_id: "$1".into(), sender: "@a:x".into() };
        assert_eq!(waiting.overdue(later), [told]);
        assert!(waiting.overdue(later).is_empty());
        waiting.add(&event(3, "t"));
        let once_more = |waiting: &mut Waiting, after| waiting.overdue(later + TELL_AFTER + after).len();
        assert_eq!(once_more(&mut waiting, Duration::ZERO), 0, "the same sender");
        waiting.add(&event(4, "u"));
        assert_eq!(once_more(&mut waiting, TOLD_FOR), 1);
        assert!(waiting.given_up(later).is_empty());
        assert_eq!(waiting.given_up(Instant::now() + GIVE_UP_AFTER).len(), 4);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn the_notes_of_last_time_are_tried_again_and_memory_is_bounded() {
        let kept = |number| (note(&format!("${number}")), event(number, "s").to_string().into_bytes());
        let waiting = Waiting::recall(&[kept(2), kept(1), ("waiting/$3".into(), b"{".to_vec())]);
        assert_eq!(waiting.ready(), [event(1, "s"), event(2, "s")]);
        let mut waiting = Waiting::default();
        waiting.add(&event(0, "first"));
        let gone: Vec<Value> =
            (1..=EVENTS).flat_map(|number| waiting.add(&event(number, "s")).unwrap()).collect();
        assert_eq!(gone, [event(0, "first")]);
    }
}

//! What can be read back. Reads see every commit that returned before them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{OptionalExtension, Params, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::write::external_key;
use super::{Store, StoreError};
use crate::base::codec::{decode, encode};
use crate::base::{ChannelId, EventId, Identity, Timestamp, limits};
use crate::chat::message::Link;
use crate::chat::profile::Profile;
use crate::node::{Door, Keeping, OutboxRow, StoredEvent};
use crate::replica::Offer;

/// Which part of a channel's visible events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// The newest.
    Latest,
    /// The newest whose position is below this one.
    Before(u64),
    /// The oldest whose position is above this one.
    After(u64),
}

/// What is read of an event; `e` is its row, `c` its channel's.
pub(super) const EVENT_COLUMNS: &str = "e.position, c.channel, e.id, e.signed, e.payload, e.visible,
                                        e.said_at, e.expires, e.searchable, e.wanted";

/// Events with their channels. `CROSS JOIN` keeps the events outermost, so that their order comes from
/// the index for nothing.
fn events_sql(rest: &str) -> String {
    format!("SELECT {EVENT_COLUMNS} FROM events e CROSS JOIN channels c ON c.id = e.channel {rest}")
}

const POSITION_OF: &str = "SELECT position FROM events
                           WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1
                           ORDER BY position LIMIT 1";

const SEEN: &str = "SELECT event FROM seen WHERE key = ?1 AND external_id = ?2
                    AND link = (SELECT id FROM links WHERE link = ?3)";

const EXTERNAL_ID: &str = "SELECT external_id FROM seen
                           WHERE substr(event, 1, 8) = substr(?1, 1, 8) AND event = ?1
                           AND link = (SELECT id FROM links WHERE link = ?2)
                           ORDER BY id LIMIT 1";

impl Store {
    /// The events at `position` and above, in order, at most `limit`: for restart and streaming.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events_from(&self, position: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = events_sql("WHERE e.position >= ?1 ORDER BY e.position LIMIT ?2");
        self.rows(&sql, params![clamped(position), clamped(limit as u64)], stored_event)
    }

    /// The event at a position, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&self, position: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.row(&events_sql("WHERE e.position = ?1"), [clamped(position)], stored_event)
    }

    /// The events at these positions, in the order asked for; those that do not exist are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events(&self, positions: &[u64]) -> Result<Vec<StoredEvent>, StoreError> {
        positions.iter().filter_map(|position| self.event(*position).transpose()).collect()
    }

    /// Visible events of a channel, at most `limit`, always oldest first. None for a channel that
    /// is not known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(
        &self,
        channel: &ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let number: Option<i64> =
            self.row("SELECT id FROM channels WHERE channel = ?1", [channel.0], |row| row.get(0))?;
        let Some(number) = number else { return Ok(Vec::new()) };
        let (bound, newest_first) = match window {
            Window::Latest => (i64::MAX, true),
            Window::Before(position) => (clamped(position), true),
            Window::After(position) => (clamped(position), false),
        };
        let params = params![number, bound, clamped(limit as u64)];
        let mut events = self.rows(&history_sql(newest_first), params, stored_event)?;
        if newest_first {
            events.reverse();
        }
        Ok(events)
    }

    /// Where an event lies in the log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn position_of(&self, event: &EventId) -> Result<Option<u64>, StoreError> {
        self.row(POSITION_OF, [event.0], |row| row.get(0))
    }

    /// The position of the newest event; 0 while there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_position(&self) -> Result<u64, StoreError> {
        let newest: Option<Option<u64>> =
            self.row("SELECT max(position) FROM events", [], |row| row.get(0))?;
        Ok(newest.flatten().unwrap_or(0))
    }

    /// What waits for delivery, in the order of its ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox(&self) -> Result<Vec<OutboxRow>, StoreError> {
        self.rows(
            "SELECT o.id, l.link, o.position, o.attempts, o.next_at, o.uncertain
             FROM outbox o CROSS JOIN links l ON l.id = o.link ORDER BY o.id",
            [],
            |row| {
                Ok(OutboxRow {
                    id: row.get(0)?,
                    link: row.get::<_, Encoded<Link>>(1)?.0,
                    position: row.get(2)?,
                    attempts: row.get(3)?,
                    next_at: Timestamp(row.get::<_, i64>(4)?.cast_unsigned()),
                    uncertain: row.get(5)?,
                })
            },
        )
    }

    /// The highest id that a row of the outbox ever had, those gone included; 0 while there was
    /// none. The next one is above it: the far side may remember the ids of old deliveries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_outbox_id(&self) -> Result<u64, StoreError> {
        let highest =
            self.row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0))?;
        Ok(highest.unwrap_or(0))
    }

    /// The event that a message on the far side of a link is here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seen(&self, link: &Link, external_id: &str) -> Result<Option<EventId>, StoreError> {
        self.row(SEEN, params![external_key(external_id), external_id, encode(link)], |row| {
            row.get(0).map(EventId)
        })
    }

    /// The id that an event has on the far side of a link; the first one, where it has several.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn external_id(&self, link: &Link, event: &EventId) -> Result<Option<String>, StoreError> {
        self.row(EXTERNAL_ID, params![event.0, encode(link)], |row| row.get(0))
    }

    /// The links this node carries, with their channel and the position they are carried from, in
    /// the order of the links' names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn links(&self) -> Result<Vec<(Link, ChannelId, u64)>, StoreError> {
        let sql = "SELECT l.link, c.channel, k.since FROM carried k
                   JOIN links l ON l.id = k.link JOIN channels c ON c.id = k.channel";
        let read =
            |row: &Row<'_>| Ok((row.get::<_, Encoded<Link>>(0)?.0, ChannelId(row.get(1)?), row.get(2)?));
        let mut links = self.rows(sql, [], read)?;
        links.sort();
        Ok(links)
    }

    /// The channels that have a name on this node, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn names(&self) -> Result<Vec<(ChannelId, String)>, StoreError> {
        self.rows("SELECT channel, name FROM channels WHERE name IS NOT NULL ORDER BY channel", [], |row| {
            Ok((ChannelId(row.get(0)?), row.get(1)?))
        })
    }

    /// The persons this node speaks for: account, identity, profile; in the order of the accounts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn persons(&self) -> Result<Vec<(String, Identity, Profile)>, StoreError> {
        self.rows(
            "SELECT account, identity, username, display_name, home FROM persons ORDER BY account",
            [],
            |row| {
                let profile = Profile { username: row.get(2)?, display_name: row.get(3)?, home: row.get(4)? };
                Ok((row.get(0)?, Identity(row.get(1)?), profile))
            },
        )
    }

    /// What this node's people want of others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn intents(&self) -> Result<Vec<Offer>, StoreError> {
        let sql = "SELECT offer FROM intents ORDER BY id";
        self.rows(sql, [], |row| Ok(row.get::<_, Encoded<Offer>>(0)?.0))
    }

    /// What a door remembered, in key order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn notes(&self, door: &Door) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT key, value FROM notes WHERE door = ?1 ORDER BY key";
        self.rows(sql, [encode(door)], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Reads the whole file and checks it: pages and indexes, references between rows, and that the
    /// log has no gap. Takes as long as reading the file does.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first thing found.
    pub fn verify(&self) -> Result<(), StoreError> {
        let found: String = self.db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(StoreError::Corrupt(found));
        }
        let dangling: Option<String> = self.row("PRAGMA foreign_key_check", [], |row| row.get(0))?;
        if let Some(table) = dangling {
            return Err(StoreError::Corrupt(format!("a row of {table} names one that is not there")));
        }
        let events: u64 = self.db.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        let last = self.last_position()?;
        if events != last {
            return Err(StoreError::Corrupt(format!("{events} events, but the last is number {last}")));
        }
        Ok(())
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.db.prepare_cached(sql)?.query_row(params, read).optional()?)
    }
}

fn history_sql(newest_first: bool) -> String {
    let (side, order) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
    events_sql(&format!(
        "WHERE e.channel = ?1 AND e.visible = 1 AND e.position {side} ?2
         ORDER BY e.position {order} LIMIT ?3"
    ))
}

pub(super) fn stored_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: row.get(0)?,
        channel: ChannelId(row.get(1)?),
        id: EventId(row.get(2)?),
        signed: row.get(3)?,
        payload: row.get(4)?,
        visible: row.get(5)?,
        keeping: Keeping {
            said_at: Timestamp(row.get::<_, i64>(6)?.unsigned_abs()),
            expires: row.get::<_, Option<i64>>(7)?.map(|at| Timestamp(at.unsigned_abs())),
            searchable: row.get(8)?,
            wanted: row.get(9)?,
        },
    })
}

/// A number as SQLite compares it. No row lies above what it can count to.
pub(super) fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value kept in its canonical encoding.
struct Encoded<T>(T);

impl<T: Serialize + DeserializeOwned> FromSql for Encoded<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        decode(value.as_blob()?, limits::PACKET_BYTES).map(Self).map_err(FromSqlError::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Batch, Write};
    use crate::store::sample::{channel, event, event_id, irc, matrix, store_with};

    fn positions(events: Vec<StoredEvent>) -> Vec<u64> {
        events.into_iter().map(|event| event.position).collect()
    }

    #[test]
    fn events_are_read_by_position() {
        let store = store_with((1..=9).map(|position| Write::Event(event(position, 1))));
        assert_eq!(positions(store.events_from(0, 3).unwrap()), [1, 2, 3]);
        assert_eq!(positions(store.events_from(8, 3).unwrap()), [8, 9]);
        assert_eq!(positions(store.events_from(10, 3).unwrap()), [] as [u64; 0]);
        assert_eq!(positions(store.events_from(4, 0).unwrap()), [] as [u64; 0]);
        assert_eq!(store.event(4).unwrap(), Some(event(4, 1)));
        assert_eq!(store.event(10).unwrap(), None);
        assert_eq!(store.event(u64::MAX).unwrap(), None);
        assert_eq!(store.events(&[7, 99, 2, 7]).unwrap(), [event(7, 1), event(2, 1), event(7, 1)]);
        assert_eq!(store.last_position().unwrap(), 9);
        assert_eq!(store_with([]).last_position().unwrap(), 0);
    }

    #[test]
    fn history_is_of_one_channel_visible_and_oldest_first() {
        // Channel 1 has the odd positions; 5 is not shown.
        let store = store_with((1..=12).map(|position| {
            let of = if position % 2 == 1 { 1 } else { 2 };
            Write::Event(StoredEvent { visible: position != 5, ..event(position, of) })
        }));
        let check = |window, limit, expect: &[u64]| {
            assert_eq!(positions(store.history(&channel(1), window, limit).unwrap()), expect, "{window:?}");
        };
        check(Window::Latest, 100, &[1, 3, 7, 9, 11]);
        check(Window::Latest, 2, &[9, 11]);
        check(Window::Before(9), 2, &[3, 7]);
        check(Window::Before(1), 2, &[]);
        check(Window::Before(u64::MAX), 1, &[11]);
        check(Window::After(0), 2, &[1, 3]);
        check(Window::After(3), 2, &[7, 9]);
        check(Window::After(11), 2, &[]);
        check(Window::After(u64::MAX), 2, &[]);
        check(Window::Latest, 0, &[]);
        assert_eq!(store.history(&channel(3), Window::Latest, 9).unwrap(), []);
    }

    #[test]
    fn an_event_is_found_by_its_id_even_beside_one_that_begins_alike() {
        let mut twin = event(2, 1);
        twin.id = event_id(1);
        twin.id.0[31] ^= 1;
        let store = store_with([Write::Event(event(1, 1)), Write::Event(twin.clone())]);
        assert_eq!(store.position_of(&event_id(1)).unwrap(), Some(1));
        assert_eq!(store.position_of(&twin.id).unwrap(), Some(2));
        assert_eq!(store.position_of(&event_id(2)).unwrap(), None);
    }

    #[test]
    fn the_outbox_comes_in_order_and_remembers_its_highest_id() {
        let mut store = store_with([
            Write::Outbox { id: 9, link: irc("net", "#a"), position: 2 },
            Write::Outbox { id: 4, link: matrix("!a"), position: 1 },
            Write::OutboxTried { id: 9, attempts: 7, next_at: Timestamp(u64::MAX), uncertain: true },
            Write::OutboxTried { id: 1, attempts: 7, next_at: Timestamp(1), uncertain: true },
        ]);
        let fresh = OutboxRow {
            id: 4,
            link: matrix("!a"),
            position: 1,
            attempts: 0,
            next_at: Timestamp(0),
            uncertain: false,
        };
        let tried = OutboxRow {
            id: 9,
            link: irc("net", "#a"),
            position: 2,
            attempts: 7,
            next_at: Timestamp(u64::MAX),
            uncertain: true,
        };
        assert_eq!(store.outbox().unwrap(), [fresh, tried]);
        store.commit(&[Batch(vec![Write::OutboxDone { id: 4 }, Write::OutboxDone { id: 9 }])]).unwrap();
        assert_eq!(store.outbox().unwrap(), []);
        assert_eq!(store.last_outbox_id().unwrap(), 9);
        assert_eq!(store_with([]).last_outbox_id().unwrap(), 0);
    }

    #[test]
    fn external_ids_are_found_both_ways_and_belong_to_their_link() {
        let seen = |link, id: &str, position| Write::Seen {
            link,
            external_id: id.into(),
            event: event_id(position),
        };
        let store = store_with([
            seen(matrix("!a"), "$x", 1),
            seen(matrix("!b"), "$x", 2),
            seen(matrix("!a"), "$y", 1),
            seen(irc("net", "#a"), "x\0y", 1),
        ]);
        assert_eq!(store.seen(&matrix("!a"), "$x").unwrap(), Some(event_id(1)));
        assert_eq!(store.seen(&matrix("!b"), "$x").unwrap(), Some(event_id(2)));
        assert_eq!(store.seen(&matrix("!b"), "$y").unwrap(), None);
        assert_eq!(store.seen(&matrix("!c"), "$x").unwrap(), None);
        assert_eq!(store.seen(&irc("net", "#a"), "x\0y").unwrap(), Some(event_id(1)));
        assert_eq!(store.external_id(&matrix("!a"), &event_id(1)).unwrap().as_deref(), Some("$x"));
        assert_eq!(store.external_id(&irc("net", "#a"), &event_id(1)).unwrap().as_deref(), Some("x\0y"));
        assert_eq!(store.external_id(&matrix("!b"), &event_id(1)).unwrap(), None);
        assert_eq!(store.external_id(&matrix("!c"), &event_id(1)).unwrap(), None);
    }

    #[test]
    fn links_names_persons_and_notes_come_back_in_order() {
        let profile = |name: &str| Profile {
            username: name.into(),
            display_name: format!("{name} 🐈"),
            home: "@x:example.org".into(),
        };
        let person = |account: &str, key| Write::Person {
            account: account.into(),
            identity: Identity([key; 32]),
            profile: profile(account),
        };
        let note = |door, key: &str, value: &[u8]| Write::Note { door, key: key.into(), value: value.into() };
        let store = store_with([
            Write::Link { link: matrix("!b"), channel: channel(2), since: 5 },
            Write::Link { link: irc("net", "#a"), channel: channel(1), since: 3 },
            Write::Link { link: matrix("!a"), channel: channel(1), since: 0 },
            Write::Link { link: matrix("!gone"), channel: channel(1), since: 0 },
            Write::Unlink { link: matrix("!gone") },
            Write::Name { channel: channel(2), name: "#two".into() },
            Write::Name { channel: channel(1), name: "#one".into() },
            person("zoe", 1),
            person("amy", 2),
            note(Door::Network("net".into()), "b", b"1"),
            note(Door::Network("net".into()), "a", b"\0"),
            note(Door::Matrix, "a", b"other"),
        ]);
        assert_eq!(
            store.links().unwrap(),
            [(matrix("!a"), channel(1), 0), (matrix("!b"), channel(2), 5), (irc("net", "#a"), channel(1), 3)]
        );
        assert_eq!(store.names().unwrap(), [(channel(1), "#one".into()), (channel(2), "#two".into())]);
        assert_eq!(
            store.persons().unwrap(),
            [
                ("amy".into(), Identity([2; 32]), profile("amy")),
                ("zoe".into(), Identity([1; 32]), profile("zoe"))
            ]
        );
        let notes = store.notes(&Door::Network("net".into())).unwrap();
        assert_eq!(notes, [("a".into(), b"\0".to_vec()), ("b".into(), b"1".to_vec())]);
        assert_eq!(store.notes(&Door::Control).unwrap(), []);
    }

    #[test]
    fn a_gap_in_the_log_is_found() {
        let store = store_with([Write::Event(event(1, 1)), Write::Event(event(3, 1))]);
        let error = store.verify().unwrap_err();
        assert_eq!(error, StoreError::Corrupt("2 events, but the last is number 3".into()));
    }

    #[test]
    fn a_row_that_is_not_ours_is_damage_not_a_panic() {
        let store =
            store_with([Write::Event(event(1, 1)), Write::Name { channel: channel(1), name: "#a".into() }]);
        store.db.execute("UPDATE channels SET channel = x'00'", []).unwrap();
        assert!(matches!(store.event(1), Err(StoreError::Corrupt(_))));
        assert!(matches!(store.names(), Err(StoreError::Corrupt(_))));
        store.db.execute("INSERT INTO links VALUES (1, x'ff')", []).unwrap();
        store.db.execute("INSERT INTO carried VALUES (1, 1, 1)", []).unwrap();
        assert!(matches!(store.links(), Err(StoreError::Corrupt(_))));
        store.db.execute("DELETE FROM links", []).unwrap();
        let error = store.verify().unwrap_err();
        assert_eq!(error, StoreError::Corrupt("a row of carried names one that is not there".into()));
    }

    /// No read of the running node walks through a table or sorts.
    #[test]
    fn reads_use_their_index() {
        let store = store_with([]);
        let plan = |sql: &str| -> String {
            let mut statement = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
            let steps = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3)).unwrap();
            steps.collect::<Result<Vec<String>, _>>().unwrap().join("; ")
        };
        let channels = "SEARCH c USING INTEGER PRIMARY KEY (rowid=?)";
        for newest_first in [true, false] {
            let side = if newest_first { "<" } else { ">" };
            assert_eq!(
                plan(&history_sql(newest_first)),
                format!("SEARCH e USING INDEX events_shown (channel=? AND rowid{side}?); {channels}")
            );
        }
        assert_eq!(
            plan(&events_sql("WHERE e.position >= ?1 ORDER BY e.position LIMIT ?2")),
            format!("SEARCH e USING INTEGER PRIMARY KEY (rowid>?); {channels}")
        );
        assert!(
            plan(POSITION_OF).starts_with("SEARCH events USING INDEX events_by_id"),
            "{}",
            plan(POSITION_OF)
        );
        assert!(plan(SEEN).starts_with("SEARCH seen USING INDEX seen_by_key"), "{}", plan(SEEN));
        assert!(
            plan(EXTERNAL_ID).starts_with("SEARCH seen USING INDEX seen_by_event"),
            "{}",
            plan(EXTERNAL_ID)
        );
        for sql in [POSITION_OF, SEEN, EXTERNAL_ID] {
            assert!(!plan(sql).contains("SCAN") && !plan(sql).contains("TEMP B-TREE"), "{}", plan(sql));
        }
    }
}

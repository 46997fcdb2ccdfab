//! What can be read back. Reads see every commit that returned before them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{OptionalExtension, Params, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::write::external_key;
use super::{Store, StoreError};
use crate::base::codec::{decode, encode};
use crate::base::{ChannelId, EventId, Identity, Timestamp};
use crate::chat::message::Link;
use crate::chat::profile::Profile;
use crate::node::{Door, OutboxRow, StoredEvent};

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

/// `CROSS JOIN` keeps the events outermost, so that their order comes from the index for nothing.
const EVENTS: &str = "SELECT e.position, c.channel, e.id, e.signed, e.payload, e.visible
                      FROM events e CROSS JOIN channels c ON c.id = e.channel";

/// No encoded link is longer: a bound for the decoder, not a rule.
const LINK_BYTES: usize = 64 * 1024;

impl Store {
    /// The events at `position` and above, in order, at most `limit`: for restart and streaming.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events_from(&self, position: u64, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = format!("{EVENTS} WHERE e.position >= ?1 ORDER BY e.position LIMIT ?2");
        self.rows(&sql, params![clamped(position), clamped(limit as u64)], stored_event)
    }

    /// The event at a position, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn event(&self, position: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.row(&format!("{EVENTS} WHERE e.position = ?1"), [clamped(position)], stored_event)
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
        self.row(
            "SELECT position FROM events WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1
             ORDER BY position LIMIT 1",
            [event.0],
            |row| row.get(0),
        )
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
        self.row(
            "SELECT event FROM seen WHERE key = ?1 AND external_id = ?2
             AND link = (SELECT id FROM links WHERE link = ?3)",
            params![external_key(external_id), external_id, encode(link)],
            |row| row.get(0).map(EventId),
        )
    }

    /// The id that an event has on the far side of a link; the first one, where it has several.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn external_id(&self, link: &Link, event: &EventId) -> Result<Option<String>, StoreError> {
        self.row(
            "SELECT external_id FROM seen WHERE substr(event, 1, 8) = substr(?1, 1, 8) AND event = ?1
             AND link = (SELECT id FROM links WHERE link = ?2) ORDER BY id LIMIT 1",
            params![event.0, encode(link)],
            |row| row.get(0),
        )
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

    fn rows<T>(
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
    format!(
        "{EVENTS} WHERE e.channel = ?1 AND e.visible = 1 AND e.position {side} ?2
         ORDER BY e.position {order} LIMIT ?3"
    )
}

fn stored_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: row.get(0)?,
        channel: ChannelId(row.get(1)?),
        id: EventId(row.get(2)?),
        signed: row.get(3)?,
        payload: row.get(4)?,
        visible: row.get(5)?,
    })
}

/// A number as SQLite compares it. No row lies above what it can count to.
fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value kept in its canonical encoding.
struct Encoded<T>(T);

impl<T: Serialize + DeserializeOwned> FromSql for Encoded<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        decode(value.as_blob()?, LINK_BYTES).map(Self).map_err(FromSqlError::other)
    }
}

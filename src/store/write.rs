//! How each write of the node becomes rows. One transaction for all batches of a commit.

use std::collections::BTreeMap;

use rusqlite::{
    CachedStatement, Connection, OptionalExtension, Params, Transaction, TransactionBehavior, params,
};

use super::StoreError;
use crate::base::codec::encode;
use crate::base::{ChannelId, EventId, Timestamp};
use crate::chat::message::{Content, Link};
use crate::node::{Batch, Keeping, StoredEvent, Write};

/// The small integers of the channels and links written so far. Bounded by their number.
#[derive(Default)]
pub(super) struct Interned {
    channels: BTreeMap<ChannelId, i64>,
    links: BTreeMap<Link, i64>,
}

/// See [`super::Store::commit`]. Returns how many payloads were deleted.
pub(super) fn commit(
    db: &mut Connection,
    interned: &mut Interned,
    batches: &[Batch],
) -> Result<usize, StoreError> {
    if batches.iter().all(|batch| batch.0.is_empty()) {
        return Ok(0);
    }
    let result = apply_all(db, interned, batches);
    if result.is_err() {
        // Rows that were interned in the failed transaction are gone with it.
        *interned = Interned::default();
    }
    result
}

/// A number as SQLite keeps it, for keys that are compared and sorted.
pub(super) fn key(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Defect(format!("{number} is too large for a key")))
}

/// A time as SQLite keeps it, for comparing.
pub(super) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The first eight bytes of the hash of a message's id on the far side.
pub(super) fn external_key(external_id: &str) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(external_id.as_bytes()).as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn apply_all(db: &mut Connection, interned: &mut Interned, batches: &[Batch]) -> Result<usize, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut writer = Writer { db: &transaction, interned, erased: 0 };
    for write in batches.iter().flat_map(|batch| &batch.0) {
        writer.apply(write)?;
    }
    let erased = writer.erased;
    transaction.commit()?;
    Ok(erased)
}

struct Writer<'a> {
    db: &'a Transaction<'a>,
    interned: &'a mut Interned,
    /// Payloads deleted.
    erased: usize,
}

impl Writer<'_> {
    fn apply(&mut self, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Event(event) => self.event(event)?,
            Write::Outbox { id, link, position } => {
                let link = self.link(link)?;
                // One that is there already may have been tried since.
                self.sql("INSERT INTO outbox VALUES (?1, ?2, ?3, 0, 0, 0) ON CONFLICT DO NOTHING")?
                    .execute(params![key(*id)?, link, key(*position)?])?;
            }
            Write::OutboxTried { id, attempts, next_at, uncertain } => {
                self.sql("UPDATE outbox SET attempts = ?2, next_at = ?3, uncertain = ?4 WHERE id = ?1")?
                    .execute(params![key(*id)?, attempts, next_at.0.cast_signed(), uncertain])?;
            }
            Write::OutboxDone { id } => {
                self.sql("DELETE FROM outbox WHERE id = ?1")?.execute([key(*id)?])?;
            }
            Write::Seen { link, external_id, event } => self.seen(link, external_id, event)?,
            Write::Link { link, channel, since } => {
                let (link, channel) = (self.link(link)?, self.channel(channel)?);
                self.sql("INSERT OR REPLACE INTO carried VALUES (?1, ?2, ?3)")?.execute([
                    link,
                    channel,
                    key(*since)?,
                ])?;
            }
            Write::Unlink { link } => {
                let link = self.link(link)?;
                self.sql("DELETE FROM carried WHERE link = ?1")?.execute([link])?;
            }
            Write::Name { channel, name } => {
                let channel = self.channel(channel)?;
                self.sql("UPDATE channels SET name = ?2 WHERE id = ?1")?.execute(params![channel, name])?;
            }
            Write::Shown { position } => {
                self.sql("UPDATE events SET visible = 1 WHERE position = ?1")?.execute([key(*position)?])?;
            }
            Write::Person { account, identity, profile } => {
                let names = (&profile.username, &profile.display_name, &profile.home);
                self.sql("INSERT OR REPLACE INTO persons VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![account, identity.0, names.0, names.1, names.2])?;
            }
            Write::Intent(offer) => {
                self.sql("INSERT OR REPLACE INTO intents VALUES (?1, ?2)")?
                    .execute(params![offer.intent.id().0, encode(offer)])?;
            }
            Write::IntentGone { id } => {
                self.sql("DELETE FROM intents WHERE id = ?1")?.execute([id.0])?;
            }
            Write::Erase { position } => self.erase(vec![key(*position)?])?,
            Write::EraseExpired { until } => self.erase_expired(time(*until))?,
            Write::EraseSaid { channel, until } => {
                let channel = self.channel(channel)?;
                self.erase_said(channel, time(*until))?;
            }
            Write::Note { door, key, value } if value.is_empty() => {
                self.sql("DELETE FROM notes WHERE door = ?1 AND key = ?2")?
                    .execute(params![encode(door), key])?;
            }
            Write::Note { door, key, value } => {
                self.sql("INSERT OR REPLACE INTO notes VALUES (?1, ?2, ?3)")?.execute(params![
                    encode(door),
                    key,
                    value
                ])?;
            }
        }
        Ok(())
    }

    /// Appends, or replaces payload, visibility and keeping of the same event. Another event at a
    /// position that is taken would rewrite the past: the commit fails.
    fn event(&mut self, event: &StoredEvent) -> Result<(), StoreError> {
        let StoredEvent { position, channel, id, signed, payload, visible, keeping } = event;
        let (position, channel) = (key(*position)?, self.channel(channel)?);
        let Keeping { said_at, expires, searchable, wanted } = *keeping;
        let words = payload.as_deref().filter(|_| searchable).and_then(Content::body_of);
        let (said_at, expires, indexed) = (time(said_at), expires.map(time), words.is_some());
        let insert = "INSERT INTO events
                      (position, channel, visible, id, signed, payload, said_at, expires, searchable, wanted, indexed)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
        let row = params![
            position, channel, visible, id.0, signed, payload, said_at, expires, searchable, wanted, indexed
        ];
        if self.sql(insert)?.execute(row)? == 0 {
            self.unindex(position)?;
            let rows = self
                .sql(
                    "UPDATE events SET visible = ?3, payload = ?6, said_at = ?7, expires = ?8,
                     searchable = ?9, wanted = ?10, indexed = ?11
                     WHERE position = ?1 AND channel = ?2 AND id = ?4 AND signed = ?5",
                )?
                .execute(row)?;
            if rows == 0 {
                return Err(StoreError::Defect(format!("two events at position {position}")));
            }
        }
        if let Some(words) = words {
            self.sql("INSERT INTO words (rowid, body) VALUES (?1, ?2)")?.execute(params![position, words])?;
        }
        Ok(())
    }

    /// Takes the words of an event out of the index, if they are in it. The event must still have its
    /// payload: the index knows what to forget from it alone.
    fn unindex(&mut self, position: i64) -> Result<(), StoreError> {
        let payload: Option<Vec<u8>> = self
            .sql("SELECT payload FROM events WHERE position = ?1 AND indexed = 1")?
            .query_row([position], |row| row.get(0))
            .optional()?
            .flatten();
        if let Some(words) = payload.as_deref().and_then(Content::body_of) {
            self.sql("INSERT INTO words (words, rowid, body) VALUES ('delete', ?1, ?2)")?
                .execute(params![position, words])?;
        }
        Ok(())
    }

    /// Deletes the payloads of these events, wherever they are.
    fn erase(&mut self, positions: Vec<i64>) -> Result<(), StoreError> {
        for position in positions {
            self.unindex(position)?;
            let rows = self
                .sql(
                    "UPDATE events SET payload = NULL, visible = 0, wanted = 0, indexed = 0
                     WHERE position = ?1 AND (payload IS NOT NULL OR wanted = 1)",
                )?
                .execute([position])?;
            self.erased += rows;
        }
        Ok(())
    }

    /// The positions that a query names.
    fn positions(&self, sql: &str, params: impl Params) -> Result<Vec<i64>, StoreError> {
        Ok(self.sql(sql)?.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    fn erase_expired(&mut self, until: i64) -> Result<(), StoreError> {
        let held = "SELECT position FROM events
                    WHERE payload IS NOT NULL AND expires IS NOT NULL AND expires <= ?1";
        let wanted = "SELECT position FROM events WHERE wanted = 1 AND expires <= ?1";
        let held = self.positions(held, [until])?;
        let wanted = self.positions(wanted, [until])?;
        self.erase(held.into_iter().chain(wanted).collect())
    }

    fn erase_said(&mut self, channel: i64, until: i64) -> Result<(), StoreError> {
        let held = "SELECT position FROM events WHERE payload IS NOT NULL AND channel = ?1 AND said_at <= ?2";
        let wanted = "SELECT position FROM events WHERE wanted = 1 AND channel = ?1 AND said_at <= ?2";
        let held = self.positions(held, [channel, until])?;
        let wanted = self.positions(wanted, [channel, until])?;
        self.erase(held.into_iter().chain(wanted).collect())
    }

    fn seen(&mut self, link: &Link, external_id: &str, event: &EventId) -> Result<(), StoreError> {
        let (link, key) = (self.link(link)?, external_key(external_id));
        let row: Option<i64> = self
            .sql("SELECT id FROM seen WHERE key = ?1 AND link = ?2 AND external_id = ?3")?
            .query_row(params![key, link, external_id], |row| row.get(0))
            .optional()?;
        match row {
            Some(row) => self
                .sql("UPDATE seen SET event = ?2 WHERE id = ?1 AND event <> ?2")?
                .execute(params![row, event.0])?,
            None => self
                .sql("INSERT INTO seen (link, key, external_id, event) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![link, key, external_id, event.0])?,
        };
        Ok(())
    }

    fn channel(&mut self, channel: &ChannelId) -> Result<i64, StoreError> {
        if let Some(number) = self.interned.channels.get(channel) {
            return Ok(*number);
        }
        self.sql("INSERT INTO channels (channel) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([channel.0])?;
        let number = self
            .sql("SELECT id FROM channels WHERE channel = ?1")?
            .query_row([channel.0], |row| row.get(0))?;
        self.interned.channels.insert(*channel, number);
        Ok(number)
    }

    fn link(&mut self, link: &Link) -> Result<i64, StoreError> {
        if let Some(number) = self.interned.links.get(link) {
            return Ok(*number);
        }
        let encoded = encode(link);
        self.sql("INSERT INTO links (link) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([&encoded])?;
        let number =
            self.sql("SELECT id FROM links WHERE link = ?1")?.query_row([&encoded], |row| row.get(0))?;
        self.interned.links.insert(link.clone(), number);
        Ok(number)
    }

    /// Each statement is parsed once per store.
    fn sql(&self, text: &str) -> Result<CachedStatement<'_>, StoreError> {
        Ok(self.db.prepare_cached(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Identity;
    use crate::chat::profile::Profile;
    use crate::node::Door;
    use crate::store::Store;
    use crate::store::sample::{channel, event, event_id, irc, matrix, store_with};

    /// Everything there is to read, as one comparable value.
    fn contents(store: &Store) -> String {
        let seen: Vec<_> =
            [matrix("!a"), irc("net", "#a")].iter().map(|link| store.seen(link, "$1").unwrap()).collect();
        format!(
            "{:?} {:?} {seen:?} {:?} {:?} {:?} {:?}",
            store.events_from(0, usize::MAX).unwrap(),
            store.outbox().unwrap(),
            store.links().unwrap(),
            store.names().unwrap(),
            store.persons().unwrap(),
            store.notes(&Door::Matrix).unwrap(),
        )
    }

    #[test]
    fn every_write_applied_twice_leaves_what_once_does() {
        let link = matrix("!a");
        let lasting = Keeping { expires: Some(Timestamp(5)), said_at: Timestamp(4), ..Keeping::default() };
        let lasting = StoredEvent { keeping: lasting, ..event(2, 1) };
        let wanted = Keeping { wanted: true, ..Keeping::default() };
        let note = |value: &[u8]| Write::Note { door: Door::Matrix, key: "k".into(), value: value.into() };
        let writes = [
            Write::Event(event(1, 1)),
            Write::Event(StoredEvent { payload: None, ..event(1, 1) }),
            Write::Event(StoredEvent { visible: false, ..event(1, 1) }),
            Write::Shown { position: 1 },
            Write::Outbox { id: 5, link: link.clone(), position: 1 },
            Write::OutboxTried { id: 5, attempts: 2, next_at: Timestamp(u64::MAX), uncertain: true },
            Write::OutboxDone { id: 5 },
            Write::Seen { link: link.clone(), external_id: "$1".into(), event: event_id(1) },
            Write::Seen { link: link.clone(), external_id: "$1".into(), event: event_id(2) },
            Write::Link { link: link.clone(), channel: channel(1), since: 1 },
            Write::Link { link: link.clone(), channel: channel(2), since: 7 },
            Write::Unlink { link },
            Write::Name { channel: channel(1), name: "#a".into() },
            Write::Name { channel: channel(1), name: "#b".into() },
            Write::Person { account: "a".into(), identity: Identity([1; 32]), profile: Profile::default() },
            Write::Person { account: "a".into(), identity: Identity([2; 32]), profile: Profile::default() },
            note(b"one"),
            note(b"two"),
            note(b""),
            Write::Event(lasting.clone()),
            Write::EraseExpired { until: Timestamp(5) },
            Write::Event(event(3, 1)),
            Write::EraseSaid { channel: channel(1), until: Timestamp(0) },
            Write::Event(StoredEvent { payload: None, keeping: wanted, ..event(4, 2) }),
            Write::Event(event(4, 2)),
            Write::Erase { position: 4 },
        ];
        let mut store = store_with([]);
        let mut states = vec![contents(&store)];
        for write in writes {
            store.commit(&[Batch(vec![write.clone()])]).unwrap();
            let once = contents(&store);
            assert_ne!(Some(&once), states.last(), "{write:?} changes something");
            store.commit(&[Batch(vec![write.clone()])]).unwrap();
            assert_eq!(contents(&store), once, "{write:?} twice");
            store.commit(&[Batch(vec![write.clone(), write.clone()])]).unwrap();
            assert_eq!(contents(&store), once, "{write:?} twice in a batch");
            states.push(once);
        }
        store.verify().unwrap();
    }

    #[test]
    fn an_outbox_row_that_comes_again_keeps_its_attempts() {
        let row = Write::Outbox { id: 1, link: matrix("!a"), position: 1 };
        let tried = Write::OutboxTried { id: 1, attempts: 3, next_at: Timestamp(9), uncertain: true };
        let store = store_with([row.clone(), tried, row]);
        assert_eq!(store.outbox().unwrap()[0].attempts, 3);
    }

    #[test]
    fn a_failed_commit_leaves_nothing_behind() {
        let mut store = store_with([Write::Event(event(1, 1))]);
        let before = contents(&store);
        let usurper = StoredEvent { id: event_id(77), ..event(1, 1) };
        for wrong in [
            Write::Event(usurper),
            Write::Event(event(u64::MAX, 1)),
            Write::Outbox { id: u64::MAX, link: matrix("!a"), position: 1 },
        ] {
            let good = Batch(vec![
                Write::Event(event(2, 9)),
                Write::Outbox { id: 1, link: irc("net", "#a"), position: 2 },
                Write::Name { channel: channel(9), name: "#nine".into() },
            ]);
            let error = store.commit(&[good, Batch(vec![wrong])]).unwrap_err();
            assert!(matches!(error, StoreError::Defect(_)), "{error:?}");
            assert_eq!(contents(&store), before);
        }
        // The numbers given to channel 9 and to the link in vain are not taken for real ones.
        store
            .commit(&[Batch(vec![
                Write::Event(event(2, 8)),
                Write::Event(event(3, 9)),
                Write::Outbox { id: 1, link: matrix("!b"), position: 2 },
                Write::Outbox { id: 2, link: irc("net", "#a"), position: 3 },
            ])])
            .unwrap();
        assert_eq!(store.events_from(2, 9).unwrap(), [event(2, 8), event(3, 9)]);
        let links: Vec<_> = store.outbox().unwrap().into_iter().map(|row| row.link).collect();
        assert_eq!(links, [matrix("!b"), irc("net", "#a")]);
        store.verify().unwrap();
    }

    #[test]
    fn empty_commits_are_free() {
        let mut store = store_with([]);
        store.commit(&[]).unwrap();
        store.commit(&[Batch::default(), Batch::default()]).unwrap();
        assert_eq!(contents(&store), contents(&store_with([])));
    }
}

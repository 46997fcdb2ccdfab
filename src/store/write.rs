//! How each write of the node becomes rows. One transaction for all batches of a commit.

use std::collections::BTreeMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::StoreError;
use crate::base::codec::encode;
use crate::base::{ChannelId, EventId};
use crate::chat::message::Link;
use crate::node::{Batch, StoredEvent, Write};

/// The small integers of the channels and links written so far. Bounded by their number.
#[derive(Default)]
pub(super) struct Interned {
    channels: BTreeMap<ChannelId, i64>,
    links: BTreeMap<Link, i64>,
}

/// See [`super::Store::commit`].
pub(super) fn commit(
    db: &mut Connection,
    interned: &mut Interned,
    batches: &[Batch],
) -> Result<(), StoreError> {
    if batches.iter().all(|batch| batch.0.is_empty()) {
        return Ok(());
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

/// The first eight bytes of the hash of a message's id on the far side.
pub(super) fn external_key(external_id: &str) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(external_id.as_bytes()).as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn apply_all(db: &mut Connection, interned: &mut Interned, batches: &[Batch]) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut writer = Writer { db: &transaction, interned };
    for write in batches.iter().flat_map(|batch| &batch.0) {
        writer.apply(write)?;
    }
    Ok(transaction.commit()?)
}

struct Writer<'a> {
    db: &'a Transaction<'a>,
    interned: &'a mut Interned,
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

    /// Appends, or replaces the payload and visibility of the same event. Another event at a
    /// position that is taken would rewrite the past: the commit fails.
    fn event(&mut self, event: &StoredEvent) -> Result<(), StoreError> {
        let StoredEvent { position, channel, id, signed, payload, visible } = event;
        let channel = self.channel(channel)?;
        let rows = self
            .sql(
                "INSERT INTO events (position, channel, visible, id, signed, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (position) DO UPDATE SET visible = excluded.visible, payload = excluded.payload
                 WHERE id = excluded.id AND channel = excluded.channel AND signed = excluded.signed",
            )?
            .execute(params![key(*position)?, channel, visible, id.0, signed, payload])?;
        match rows {
            0 => Err(StoreError::Defect(format!("two events at position {position}"))),
            _ => Ok(()),
        }
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
    use crate::base::{Identity, Timestamp};
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

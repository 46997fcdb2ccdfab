//! The schema and the way to it from every earlier one. The version lies in `PRAGMA user_version`.
//! A migration that was released is never changed: a change of mind is the next migration.

use rusqlite::{Connection, TransactionBehavior, params};

use super::StoreError;
use super::write::time;
use crate::chat::act::Act;
use crate::replica::Event;

/// Marks the file as ours (`PRAGMA application_id`): "MCht".
const APPLICATION_ID: i64 = 0x4d43_6874;

/// Entry `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[FIRST_LIGHT, TEXTS_END, INTENTS_LAST];

/// The newest version that this program knows.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

/// An index over the first eight bytes of a hash finds its row as surely as one over all 32 once
/// the row is compared, and is a third of the size.
const FIRST_LIGHT: &str = "
    CREATE TABLE channels (
        id INTEGER PRIMARY KEY,
        channel BLOB NOT NULL UNIQUE,
        name TEXT
    ) STRICT;

    CREATE TABLE links (
        id INTEGER PRIMARY KEY,
        -- Canonical encoding.
        link BLOB NOT NULL UNIQUE
    ) STRICT;

    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL REFERENCES channels,
        visible INTEGER NOT NULL,
        id BLOB NOT NULL,
        signed BLOB NOT NULL,
        payload BLOB
    ) STRICT;
    CREATE INDEX events_by_id ON events (substr(id, 1, 8));
    -- Ordered by position within a channel, as every index ends in the row's key.
    CREATE INDEX events_shown ON events (channel) WHERE visible = 1;

    -- AUTOINCREMENT: the highest id is known even after its row is gone.
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        link INTEGER NOT NULL REFERENCES links,
        position INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        uncertain INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE seen (
        id INTEGER PRIMARY KEY,
        link INTEGER NOT NULL REFERENCES links,
        -- The first eight bytes of BLAKE3 of the external id.
        key INTEGER NOT NULL,
        external_id TEXT NOT NULL,
        event BLOB NOT NULL
    ) STRICT;
    CREATE INDEX seen_by_key ON seen (key);
    CREATE INDEX seen_by_event ON seen (substr(event, 1, 8));

    CREATE TABLE carried (
        link INTEGER PRIMARY KEY REFERENCES links,
        channel INTEGER NOT NULL REFERENCES channels,
        since INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE persons (
        account TEXT PRIMARY KEY,
        identity BLOB NOT NULL,
        username TEXT NOT NULL,
        display_name TEXT NOT NULL,
        home TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE notes (
        -- Canonical encoding.
        door BLOB NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (door, key)
    ) STRICT, WITHOUT ROWID;
";

/// Texts that are deleted, found again, and asked for. The index of words holds no text itself, and
/// overwrites what it deletes.
const TEXTS_END: &str = "
    ALTER TABLE events ADD COLUMN said_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE events ADD COLUMN expires INTEGER;
    ALTER TABLE events ADD COLUMN searchable INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE events ADD COLUMN wanted INTEGER NOT NULL DEFAULT 0;
    -- Whether its words are in the index.
    ALTER TABLE events ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX events_said ON events (channel, said_at) WHERE payload IS NOT NULL;
    CREATE INDEX events_expiring ON events (expires) WHERE expires IS NOT NULL AND payload IS NOT NULL;
    CREATE INDEX events_wanted ON events (channel, said_at, expires) WHERE wanted = 1;

    CREATE VIRTUAL TABLE words USING fts5 (
        body, content = '', tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
";

/// What people want of others waits on disk.
const INTENTS_LAST: &str = "
    CREATE TABLE intents (
        id BLOB PRIMARY KEY,
        -- Canonical encoding.
        offer BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Fills what the events of an earlier version lack, from their headers.
fn fill_texts(db: &Connection) -> Result<(), StoreError> {
    let mut events = db.prepare("SELECT position, signed FROM events WHERE payload IS NOT NULL")?;
    let mut fill = db.prepare("UPDATE events SET said_at = ?2, expires = ?3 WHERE position = ?1")?;
    let mut rows = events.query([])?;
    while let Some(row) = rows.next()? {
        let (position, signed): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        // What this version cannot read, it refuses when the node starts.
        let Ok(event) = Event::decode_trusted(&signed) else { continue };
        let expires = match &event.header.act {
            Act::SendMessage(envelope) => envelope.expires.map(time),
            _ => None,
        };
        fill.execute(params![position, time(event.header.timestamp), expires])?;
    }
    Ok(())
}

/// Takes the lock and refuses a file that is not ours or comes from the future. Changes nothing.
pub(super) fn inspect(db: &Connection) -> Result<(), StoreError> {
    let found = version(db)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let empty = tables == 0 && found == 0 && application == 0;
    if !empty && application != APPLICATION_ID {
        return Err(StoreError::NotAStore(Default::default()));
    }
    if found > KNOWN {
        return Err(StoreError::Newer { path: Default::default(), found, known: KNOWN });
    }
    Ok(())
}

/// Runs the migrations that are missing, each with its version in one transaction.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version(db)? as usize) {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(migration)?;
        if *migration == TEXTS_END {
            fill_texts(&step)?;
        }
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", index as i64 + 1)?;
        step.commit()?;
    }
    Ok(())
}

fn version(db: &Connection) -> Result<u32, StoreError> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    u32::try_from(found).map_err(|_| StoreError::NotAStore(Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_migration_runs_once() {
        let mut db = Connection::open_in_memory().unwrap();
        inspect(&db).unwrap();
        assert_eq!(version(&db).unwrap(), 0);
        for _ in 0..2 {
            migrate(&mut db).unwrap();
            inspect(&db).unwrap();
            assert_eq!(version(&db).unwrap(), KNOWN);
        }
    }
}

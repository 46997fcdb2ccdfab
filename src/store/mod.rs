//! SQLite: the node's durable log, outbox and notes in one file. One [`Store`] owns the file, alone
//! among all processes; it applies [`Batch`]es in group commits and answers reads.
//!
//! It decides no policy: it keeps what the node writes, in the node's order, and hands it back. It
//! must never report a commit that a crash could undo, nor apply a part of one.
//!
//! Channels and links are interned as small integers and events are keyed by their position, so
//! that the log is appended to and random 32-byte keys are spared: what is looked up by hash has an
//! index over its first eight bytes only.
//!
//! All calls block on the disk; they belong on a thread of their own. A `Store` can be sent to one.

mod error;
mod keep;
mod read;
#[cfg(test)]
mod sample;
mod schema;
mod search;
mod write;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use error::StoreError;
pub use keep::Checked;
pub use read::Window;

use crate::node::Batch;
use write::Interned;

/// How long opening waits for another process to let go of the file: long enough for one that is
/// just stopping.
const LOCK_WAIT: Duration = Duration::from_millis(1500);
/// More statements than there are in this room, so that none is ever parsed twice.
const CACHED_STATEMENTS: usize = 64;
/// Memory for pages, in KiB. Holds the upper levels of the two hash indexes of a log of millions.
const PAGE_CACHE_KIB: i64 = 16 * 1024;
/// Pages of write-ahead log after which they are moved to the file.
const CHECKPOINT_PAGES: i64 = 4000;
/// Writes after which the log is worth moving to the file while nobody waits.
const TIDY_WRITES: usize = 256;
/// Bytes the write-ahead log is cut back to after a burst.
const WAL_LIMIT_BYTES: i64 = 32 * 1024 * 1024;

/// The open store.
pub struct Store {
    db: Connection,
    interned: Interned,
    /// Writes since the log was last moved to the file.
    in_log: usize,
    /// Whether payloads were deleted that the disk still holds.
    owes_erasure: bool,
}

impl Store {
    /// Opens the store at `path` and brings it to the present schema. Makes the file (mode 0600) and
    /// its directory (mode 0700) where they are missing. No other process can open the file until
    /// this store is closed or its process has ended, however it ended.
    ///
    /// # Errors
    /// [`StoreError`]: locked by another process, made by a newer version, no store of ours,
    /// damaged, or not accessible. A file that is refused is left as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_file(path).map_err(|error| StoreError::access(path, &error))?;
        // No URI flag: a path is a path. No mutex: `&mut self` and `!Sync` see to that.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags)
            .and_then(|db| db.busy_timeout(LOCK_WAIT).map(|()| db))
            .map_err(StoreError::from)
            .and_then(Self::over)
            .map_err(|error| error.at(path))
    }

    /// A store that ends with the process, for tests.
    ///
    /// # Errors
    /// [`StoreError`], if there is no memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::over(Connection::open_in_memory()?)
    }

    /// Applies the batches, in order, in one transaction. When it returns `Ok`, all of them are on
    /// the disk; a crash before that leaves all of them or none. Each write may be applied again
    /// with no further effect.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was applied, and after [`StoreError::DiskFull`] the same batches
    /// may be tried again. After [`StoreError::Io`] the disk itself may hold more than this process
    /// knows: the one safe answer is to stop and open the store anew.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        self.owes_erasure |= write::commit(&mut self.db, &mut self.interned, batches)? > 0;
        self.in_log += batches.iter().map(|batch| batch.0.len()).sum::<usize>();
        Ok(())
    }

    /// Whether [`Store::tidy`] is worth its while.
    pub fn is_untidy(&self) -> bool {
        self.in_log >= TIDY_WRITES || self.owes_erasure
    }

    /// Whether the disk still holds what was deleted: [`Store::tidy`] ends that.
    pub fn owes_erasure(&self) -> bool {
        self.owes_erasure
    }

    /// Moves the write-ahead log into the file while nobody waits, so that no commit has to do it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing committed is lost then.
    pub fn tidy(&mut self) -> Result<(), StoreError> {
        if self.owes_erasure {
            self.checkpoint()?;
        } else {
            self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        (self.in_log, self.owes_erasure) = (0, false);
        Ok(())
    }

    /// Moves the write-ahead log into the file and empties it, so that what was deleted is gone
    /// from the disk too.
    ///
    /// # Errors
    /// [`StoreError`]; nothing committed is lost then.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// For a graceful stop: [`Store::checkpoint`], then lets go of the file. Dropping a store is
    /// as safe, but tells of no errors.
    ///
    /// # Errors
    /// [`StoreError`]; nothing committed is lost then.
    pub fn close(self) -> Result<(), StoreError> {
        self.checkpoint()?;
        self.db.close().map_err(|(_, error)| error.into())
    }

    fn over(mut db: Connection) -> Result<Self, StoreError> {
        // First the lock, then a look at what the file is, and only then anything that changes it.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        schema::inspect(&db)?;
        configure(&db)?;
        schema::migrate(&mut db)?;
        db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(Self { db, interned: Interned::default(), in_log: 0, owes_erasure: true })
    }
}

fn configure(db: &Connection) -> Result<(), StoreError> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: the log is on the disk before a commit returns. NORMAL would lose the last ones.
    db.pragma_update(None, "synchronous", "FULL")?;
    // The references in the schema are for `verify`; the node answers for them, row by row.
    db.pragma_update(None, "foreign_keys", false)?;
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    // No memory map: an error of the disk would then be a signal that kills, not an error.
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES)?;
    Ok(())
}

/// Makes an empty file, which SQLite takes for an empty database. It must not open one that exists:
/// closing it again would release the locks of a store that this process has open.
fn create_file(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        create_directory(directory)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Makes the directory and those above it, and sees each entry to the disk.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_directory(above)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        made => made,
    }?;
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::sample::{Directory, event};
    use super::*;
    use crate::base::Kind;
    use crate::node::Write;

    fn batch(positions: std::ops::RangeInclusive<u64>) -> Batch {
        Batch(positions.map(|position| Write::Event(event(position, 1))).collect())
    }

    fn refused(path: &Path) -> StoreError {
        Store::open(path).err().expect("the file is refused")
    }

    #[test]
    fn a_store_can_move_to_a_thread_of_its_own() {
        fn sendable<T: Send>() {}
        sendable::<Store>();
    }

    #[test]
    fn file_and_directory_are_made_for_the_owner_alone() {
        let scratch = Directory::new();
        let path = scratch.0.join("a/b/store.db");
        let mut store = Store::open(&path).unwrap();
        store.commit(&[batch(1..=3)]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scratch.0.join("a")), 0o700);
        assert_eq!(mode(&scratch.0.join("a/b")), 0o700);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&scratch.0.join("a/b/store.db-wal")), 0o600);
        store.close().unwrap();
    }

    #[test]
    fn what_was_committed_is_there_after_close_drop_and_reopening() {
        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        for round in 0..4u64 {
            let mut store = Store::open(&path).unwrap();
            assert_eq!(store.last_position().unwrap(), round * 2);
            store.commit(&[batch(round * 2 + 1..=round * 2 + 2)]).unwrap();
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.events_from(1, 100).unwrap(), (1..=8).map(|p| event(p, 1)).collect::<Vec<_>>());
        store.verify().unwrap();
    }

    #[test]
    fn the_disk_is_asked_for_durability() {
        let scratch = Directory::new();
        let store = Store::open(&scratch.0.join("store.db")).unwrap();
        let pragma = |name: &str| -> String {
            let value: rusqlite::types::Value =
                store.db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap();
            format!("{value:?}")
        };
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("locking_mode"), "Text(\"exclusive\")");
        assert_eq!(pragma("synchronous"), "Integer(2)");
        assert_eq!(pragma("secure_delete"), "Integer(1)");
        assert_eq!(pragma("foreign_keys"), "Integer(0)");
    }

    #[test]
    fn one_store_at_a_time_has_the_file() {
        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        let mut first = Store::open(&path).unwrap();
        let error = refused(&path);
        assert_eq!((&error, error.kind()), (&StoreError::Locked(path.clone()), Kind::Retry));
        assert!(error.to_string().contains("in use by another process"), "{error}");
        first.commit(&[batch(1..=1)]).unwrap();
        drop(first);
        assert_eq!(Store::open(&path).unwrap().last_position().unwrap(), 1);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        let store = Store::open(&path).unwrap();
        store.db.pragma_update(None, "user_version", 99).unwrap();
        store.close().unwrap();
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert_eq!(error, StoreError::Newer { path: path.clone(), found: 99, known: schema::KNOWN });
        assert_eq!(error.kind(), Kind::Permanent);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_store_is_refused_and_left_alone() {
        let scratch = Directory::new();
        let other = scratch.0.join("other.db");
        let sqlite = Connection::open(&other).unwrap();
        sqlite.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
        drop(sqlite);
        let (long, short) = (scratch.0.join("long"), scratch.0.join("short"));
        fs::write(&long, "not a database ".repeat(1000)).unwrap();
        fs::write(&short, "log: info").unwrap();
        for path in [other, long, short] {
            let before = fs::read(&path).unwrap();
            let error = refused(&path);
            assert_eq!((&error, error.kind()), (&StoreError::NotAStore(path.clone()), Kind::Invalid));
            assert_eq!(fs::read(&path).unwrap(), before, "{}", path.display());
        }
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named() {
        let scratch = Directory::new();
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        for path in [scratch.0.clone(), file.join("store.db")] {
            let error = refused(&path);
            assert_eq!(error.kind(), Kind::Denied, "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn damage_is_found() {
        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        let mut store = Store::open(&path).unwrap();
        store.commit(&[batch(1..=500)]).unwrap();
        store.verify().unwrap();
        store.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let (from, to) = (bytes.len() / 2, bytes.len() / 2 + 4096);
        bytes[from..to].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path).and_then(|store| store.verify()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        assert_eq!(error.kind(), Kind::Permanent);
    }

    #[test]
    fn a_full_disk_fails_the_whole_commit_and_no_other() {
        let scratch = Directory::new();
        let mut store = Store::open(&scratch.0.join("store.db")).unwrap();
        store.commit(&[batch(1..=10)]).unwrap();
        let pages: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let limit = |store: &Store, pages: i64| {
            store.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        };
        limit(&store, pages + 2);
        let error = store.commit(&[batch(11..=11), batch(12..=2000)]).unwrap_err();
        assert_eq!((&error, error.kind()), (&StoreError::DiskFull, Kind::Retry));
        assert_eq!(store.last_position().unwrap(), 10);
        limit(&store, 1_000_000);
        store.commit(&[batch(11..=11), batch(12..=2000)]).unwrap();
        assert_eq!(store.last_position().unwrap(), 2000);
        store.verify().unwrap();
    }

    #[test]
    fn a_deleted_payload_leaves_the_disk_with_the_next_checkpoint() {
        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        let mut store = Store::open(&path).unwrap();
        let mut secret = event(1, 1);
        secret.payload = Some(b"the words that expire".repeat(400));
        store.commit(&[Batch(vec![Write::Event(secret.clone())])]).unwrap();
        store.checkpoint().unwrap();
        secret.payload = None;
        store.commit(&[Batch(vec![Write::Event(secret)])]).unwrap();
        store.checkpoint().unwrap();
        drop(store);
        for file in fs::read_dir(&scratch.0).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(10).any(|window| window == b"words that"));
        }
    }

    #[test]
    fn what_is_erased_leaves_log_index_and_disk() {
        use crate::base::Timestamp;
        use crate::chat::message::Content;
        use crate::node::Keeping;

        let scratch = Directory::new();
        let path = scratch.0.join("store.db");
        let mut store = Store::open(&path).unwrap();
        let said = |position: u64, text: &str, expires: Option<u64>| {
            let expires = expires.map(Timestamp);
            let keeping = Keeping { said_at: Timestamp(position), expires, searchable: true, wanted: false };
            let payload = Some(Content::text(text).payload());
            Write::Event(crate::node::StoredEvent { payload, keeping, ..event(position, 1) })
        };
        let secrets = ["xylophonic", "quizzaciously", "zymurgical"];
        store.commit(&[Batch((1..=300).map(|n| said(n, "ordinary chatter", None)).collect())]).unwrap();
        store
            .commit(&[Batch(vec![
                said(301, &format!("{} heading", secrets[0]), Some(700)),
                said(302, &format!("a {} body", secrets[1]), None),
                said(303, &format!("the {} end", secrets[2]), None),
            ])])
            .unwrap();
        store.tidy().unwrap();
        let on_disk = |word: &str| {
            fs::read_dir(&scratch.0).unwrap().any(|file| {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                bytes.windows(word.len()).any(|window| window == word.as_bytes())
            })
        };
        assert!(secrets.iter().all(|word| on_disk(word)));
        assert!(!store.owes_erasure());
        let channel = event(1, 1).channel;
        for (word, erasure) in secrets.iter().zip([
            Write::EraseExpired { until: Timestamp(700) },
            Write::Erase { position: 302 },
            Write::EraseSaid { channel, until: Timestamp(303) },
        ]) {
            assert_eq!(store.search(word, None, 9).unwrap().len(), 1);
            store.commit(&[Batch(vec![erasure])]).unwrap();
            assert!(store.owes_erasure() && store.search(word, None, 9).unwrap().is_empty());
            store.tidy().unwrap();
            assert!(!on_disk(word), "{word}");
        }
        assert!(store.history(&channel, Window::Latest, 9).unwrap().is_empty());
        assert!(store.search("chatter", None, 9).unwrap().is_empty());
        store.commit(&[Batch(vec![Write::Erase { position: 302 }])]).unwrap();
        assert!(!store.owes_erasure(), "there was nothing left to erase");
        store.verify().unwrap();
    }
}

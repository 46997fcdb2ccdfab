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
mod read;
mod schema;
mod write;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use error::StoreError;
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
/// Bytes the write-ahead log is cut back to after a burst.
const WAL_LIMIT_BYTES: i64 = 32 * 1024 * 1024;

/// The open store.
pub struct Store {
    db: Connection,
    interned: Interned,
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
        write::commit(&mut self.db, &mut self.interned, batches)
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
        Ok(Self { db, interned: Interned::default() })
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

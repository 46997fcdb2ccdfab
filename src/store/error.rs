//! Why the store could not do it, and what to do about that.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::base::Kind;

/// Why the store could not do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// Another process has the file open.
    Locked(PathBuf),
    /// A newer version of Multichat made or changed the file.
    Newer { path: PathBuf, found: u32, known: u32 },
    /// The file is something else.
    NotAStore(PathBuf),
    /// The file or its directory cannot be made, read or written.
    Access { path: PathBuf, reason: String },
    /// There is no room for more.
    DiskFull,
    /// The file is damaged; what was found.
    Corrupt(String),
    /// The disk failed.
    Io(String),
    /// What was asked makes no sense: a defect of the node or of this room.
    Defect(String),
}

impl StoreError {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Locked(_) | Self::DiskFull | Self::Io(_) => Kind::Retry,
            Self::NotAStore(_) => Kind::Invalid,
            Self::Access { .. } => Kind::Denied,
            Self::Newer { .. } | Self::Corrupt(_) => Kind::Permanent,
            Self::Defect(_) => Kind::Bug,
        }
    }

    /// An error of the file system while making the file.
    pub(super) fn access(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Access { path: path.to_owned(), reason: error.to_string() },
        }
    }

    /// The same, naming the file.
    pub(super) fn at(mut self, file: &Path) -> Self {
        match &mut self {
            Self::Locked(path)
            | Self::Newer { path, .. }
            | Self::NotAStore(path)
            | Self::Access { path, .. } => *path = file.to_owned(),
            Self::DiskFull | Self::Corrupt(_) | Self::Io(_) | Self::Defect(_) => {}
        }
        self
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        let reason = error.to_string();
        match error {
            // A row that is not what this room writes.
            E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) => {
                Self::Corrupt(reason)
            }
            E::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Locked(PathBuf::new()),
                ErrorCode::NotADatabase => Self::NotAStore(PathBuf::new()),
                ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen => {
                    Self::Access { path: PathBuf::new(), reason }
                }
                ErrorCode::DiskFull => Self::DiskFull,
                ErrorCode::DatabaseCorrupt => Self::Corrupt(reason),
                ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory => Self::Io(reason),
                _ => Self::Defect(reason),
            },
            _ => Self::Defect(reason),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(path) => {
                write!(f, "{} is in use by another process: stop the node that runs on it", path.display())
            }
            Self::Newer { path, found, known } => write!(
                f,
                "{} has schema {found}, this version knows {known}: run the newer version, or take another data_dir",
                path.display()
            ),
            Self::NotAStore(path) => {
                write!(
                    f,
                    "{} is not a Multichat store: move it away or take another data_dir",
                    path.display()
                )
            }
            Self::Access { path, reason } => {
                write!(
                    f,
                    "cannot use {}: {reason}: check the path, its owner and permissions",
                    path.display()
                )
            }
            Self::DiskFull => f.write_str("the disk is full: free some space, nothing was lost"),
            Self::Corrupt(found) => write!(f, "the store is damaged ({found}): restore it from a backup"),
            Self::Io(reason) => write!(f, "the disk failed ({reason}): check it, then start the node again"),
            Self::Defect(what) => write!(f, "a defect in the store, please report it: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_one_line_that_says_what_to_do() {
        let path = PathBuf::from("/data/store.db");
        let check = |error: StoreError, expect: &str| assert_eq!(error.to_string(), expect);
        check(
            StoreError::Locked(path.clone()),
            "/data/store.db is in use by another process: stop the node that runs on it",
        );
        check(
            StoreError::Newer { path: path.clone(), found: 3, known: 1 },
            "/data/store.db has schema 3, this version knows 1: run the newer version, or take another data_dir",
        );
        check(
            StoreError::NotAStore(path.clone()),
            "/data/store.db is not a Multichat store: move it away or take another data_dir",
        );
        check(
            StoreError::access(&path, &io::Error::from(io::ErrorKind::PermissionDenied)),
            "cannot use /data/store.db: permission denied: check the path, its owner and permissions",
        );
        check(
            StoreError::access(&path, &io::Error::from(io::ErrorKind::StorageFull)),
            "the disk is full: free some space, nothing was lost",
        );
        check(
            StoreError::Corrupt("a page is torn".into()),
            "the store is damaged (a page is torn): restore it from a backup",
        );
        check(
            StoreError::Io("disk I/O error".into()),
            "the disk failed (disk I/O error): check it, then start the node again",
        );
    }
}

//! What can go wrong when other people's programs are fetched, started and talked to. Each one is
//! said in one line that also says what to do.

use std::fmt;
use std::path::Path;

use crate::base::Kind;

/// Why a part of the demo, or a peer in a test, could not be had or did not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A program is not on this machine; how to get it.
    Missing { what: String, mend: String },
    /// A program or a request failed: what was being done, and its last words.
    Failed { doing: String, said: String },
    /// Something did not happen within its time.
    Late { awaited: String, waited_s: u64 },
    /// A file or directory could not be used.
    Disk { path: String, said: String },
}

impl Trouble {
    /// A failure while doing something.
    pub fn failed(doing: impl Into<String>, said: impl fmt::Display) -> Self {
        Self::Failed { doing: doing.into(), said: said.to_string() }
    }

    /// A file or directory that could not be used.
    pub fn disk(path: &Path, error: impl fmt::Display) -> Self {
        Self::Disk { path: path.display().to_string(), said: error.to_string() }
    }

    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::NotFound,
            Self::Failed { .. } | Self::Disk { .. } => Kind::Permanent,
            Self::Late { .. } => Kind::Retry,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, mend } => write!(f, "{what} is missing: {mend}"),
            Self::Failed { doing, said } => write!(f, "{doing} failed: {said}"),
            Self::Late { awaited, waited_s } => write!(f, "waited {waited_s} s in vain for {awaited}"),
            Self::Disk { path, said } => {
                write!(f, "cannot use {path}: {said}; make it writable, or remove it and try again")
            }
        }
    }
}

impl std::error::Error for Trouble {}

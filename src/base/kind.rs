//! The six kinds of expected failure. Each module keeps its own small error enum; each enum says
//! its kind, and each connector has one table from kinds to its own numerics, errcodes or statuses.

use serde::{Deserialize, Serialize};

/// What a failure means for whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// The request can never be right as it stands.
    Invalid,
    /// The request is well formed, but this actor may not make it.
    Denied,
    /// What it names does not exist here.
    NotFound,
    /// The same request may succeed later.
    Retry,
    /// It was understood and will never succeed, through no fault of the caller.
    Permanent,
    /// A defect of ours.
    Bug,
}

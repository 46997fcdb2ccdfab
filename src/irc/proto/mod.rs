//! The IRC protocol without IO.

pub mod format;
pub mod split;

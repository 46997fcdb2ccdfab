//! The IRC protocol without IO: lines, names, capabilities, and the [`hub`] that decides what every
//! client of the listener sees. Nothing here awaits, locks or reads a clock.

pub mod caps;
pub mod casemap;
pub mod flood;
pub mod format;
pub mod hub;
pub mod isupport;
pub mod line;
pub mod names;
pub mod render;
pub mod respond;
pub mod session;
pub mod split;
pub mod stamp;

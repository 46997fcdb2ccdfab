//! The IRC protocol without IO: lines, names, capabilities, and the [`hub`] that decides what every
//! client of the listener sees. Nothing here awaits, locks or reads a clock.

pub mod accounts;
pub mod bans;
pub mod caps;
pub mod casemap;
pub mod flood;
pub mod format;
pub mod hub;
pub mod isupport;
pub mod line;
pub mod mask;
pub mod metadata;
pub mod modes;
pub mod names;
pub mod render;
pub mod respond;
pub mod sasl;
pub mod session;
pub mod split;
pub mod stamp;

/// Bytes of the text of one multiline message.
pub const MULTILINE_BYTES: usize = 16 * 1024;
/// Lines of one multiline message.
pub const MULTILINE_LINES: usize = 100;

/// The value of the capability `draft/multiline`.
pub fn multiline_limits() -> String {
    format!("max-bytes={MULTILINE_BYTES},max-lines={MULTILINE_LINES}")
}

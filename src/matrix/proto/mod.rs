//! The Matrix application service protocol without IO: JSON values and facts in, intents, content
//! and answers out. Nothing here awaits, reads a clock or knows HTTP.

pub mod command;
pub mod ghosts;
pub mod names;
pub mod portals;
pub mod registration;
pub mod translate;

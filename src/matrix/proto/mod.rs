//! The Matrix application service protocol without IO: JSON values and facts in, intents, content
//! and answers out. Nothing here awaits, reads a clock or knows HTTP.

pub mod command;
pub mod content;
pub mod ghosts;
pub mod html;
pub mod media;
pub mod member;
pub mod names;
pub mod portals;
pub mod powers;
pub mod registration;
pub mod said;
pub mod sealed;
pub mod translate;

//! Chat as an application on the resource machine: one file per resource type with its logic,
//! the intents people express, and read-only projections. It does no IO and reads no clock.

pub mod access;
pub mod act;
pub mod asset;
pub mod attachment;
pub mod build;
pub mod channel;
pub mod commitment;
pub mod facts;
pub mod flow;
#[cfg(test)]
mod forged;
pub mod grant;
pub mod intent;
pub mod invite;
pub mod logics;
pub mod market;
pub mod message;
pub mod name;
pub mod permissions;
pub mod policy;
pub mod profile;
pub mod revocation;
pub mod settle;
pub mod ticket;
pub mod token;
pub mod view;
pub mod wording;

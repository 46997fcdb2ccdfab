//! The vocabulary every other room speaks: ids, time, keys, the canonical codec, configuration,
//! error kinds and limits. It holds no logic of its own and imports no other room.

pub mod codec;
pub mod config;
pub mod id;
pub mod key;
pub mod kind;
pub mod limits;
pub mod time;

pub use id::{ChannelId, Digest, EventId, Identity, NodeId};
pub use kind::Kind;
pub use time::Timestamp;

//! Small values for the tests of this room.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Store;
use crate::base::{ChannelId, EventId};
use crate::chat::message::Link;
use crate::node::{Batch, Keeping, StoredEvent, Write};

pub(super) fn channel(number: u8) -> ChannelId {
    ChannelId([number; 32])
}

pub(super) fn event_id(position: u64) -> EventId {
    EventId(*blake3::hash(&position.to_be_bytes()).as_bytes())
}

/// A visible event with a payload.
pub(super) fn event(position: u64, of: u8) -> StoredEvent {
    StoredEvent {
        position,
        channel: channel(of),
        id: event_id(position),
        signed: format!("header {position}").into_bytes(),
        payload: Some(format!("body {position}").into_bytes()),
        visible: true,
        keeping: Keeping::default(),
    }
}

pub(super) fn matrix(room: &str) -> Link {
    Link::Matrix { room: room.into() }
}

pub(super) fn irc(network: &str, channel: &str) -> Link {
    Link::Irc { network: network.into(), channel: channel.into() }
}

/// A store in memory with these writes applied.
pub(super) fn store_with(writes: impl IntoIterator<Item = Write>) -> Store {
    let mut store = Store::in_memory().unwrap();
    store.commit(&[Batch(writes.into_iter().collect())]).unwrap();
    store
}

/// A directory that is gone after the test.
pub(super) struct Directory(pub PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("multichat-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A disk that forgets nothing it was told, in memory: what the store is to a real node.

use std::collections::BTreeMap;

use multichat::base::{ChannelId, EventId};
use multichat::chat::message::Link;
use multichat::node::{Batch, OutboxRow, Restored, StoredEvent, Write};
use multichat::replica::Offer;

#[derive(Default)]
pub struct Disk {
    pub log: BTreeMap<u64, StoredEvent>,
    pub seen: BTreeMap<(Link, String), EventId>,
    names: BTreeMap<ChannelId, String>,
    links: BTreeMap<Link, ChannelId>,
    outbox: BTreeMap<u64, OutboxRow>,
    last_outbox_id: u64,
    intents: Vec<Offer>,
}

impl Disk {
    pub fn commit(&mut self, batch: Batch) {
        for write in batch.0 {
            self.apply(write);
        }
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Event(event) => {
                self.log.insert(event.position, event);
            }
            Write::Erase { .. } | Write::EraseExpired { .. } | Write::EraseSaid { .. } => {
                self.log.values_mut().filter(|event| write.erases(event)).for_each(StoredEvent::erase);
            }
            Write::Shown { position } => {
                if let Some(event) = self.log.get_mut(&position) {
                    event.visible = true;
                }
            }
            Write::Outbox { id, link, position } => {
                let row = OutboxRow {
                    id,
                    link,
                    position,
                    attempts: 0,
                    next_at: Default::default(),
                    uncertain: false,
                };
                self.outbox.insert(id, row);
                self.last_outbox_id = self.last_outbox_id.max(id);
            }
            Write::OutboxTried { id, attempts, next_at, uncertain } => {
                if let Some(row) = self.outbox.get_mut(&id) {
                    (row.attempts, row.next_at, row.uncertain) = (attempts, next_at, uncertain);
                }
            }
            Write::OutboxDone { id } => {
                self.outbox.remove(&id);
            }
            Write::Seen { link, external_id, event } => {
                self.seen.insert((link, external_id), event);
            }
            Write::Link { link, channel, .. } => {
                self.links.insert(link, channel);
            }
            Write::Unlink { link } => {
                self.links.remove(&link);
            }
            Write::Name { channel, name } => {
                self.names.insert(channel, name);
            }
            Write::Intent(offer) => self.intents.push(offer),
            Write::IntentGone { id } => self.intents.retain(|offer| offer.intent.id() != id),
            Write::Person { .. } | Write::Note { .. } => {}
        }
    }

    pub fn restored(&self) -> Restored {
        Restored {
            names: self.names.clone().into_iter().collect(),
            links: self.links.clone().into_iter().collect(),
            outbox: self.outbox.values().cloned().collect(),
            last_outbox_id: self.last_outbox_id,
            intents: self.intents.clone(),
        }
    }
}

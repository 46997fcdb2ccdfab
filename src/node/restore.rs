//! The node as it was: made anew from what the store holds.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::outbox::Outbox;
use super::people::People;
use super::routes::Routes;
use super::{Node, OutboxRow, StoredEvent};
use crate::base::key::{Purpose, SecretKey};
use crate::base::{ChannelId, EventId, NodeId, Timestamp};
use crate::chat::act::Act;
use crate::chat::message::{Content, Link};
use crate::replica::{Admission, Event, Offer};

/// What makes this node this node.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The one secret; every other key is derived from it.
    pub secret: SecretKey,
    /// The name of the node's own user.
    pub name: String,
    /// The server name of its Matrix homeserver; empty where it has none.
    pub matrix_server: String,
    /// Another one each time the node was restored from a backup; 0 if it never was. Its people then
    /// have other devices: the backup does not know what the former ones signed last.
    pub generation: u64,
}

impl Setup {
    /// The transport key.
    pub fn transport_key(&self) -> SecretKey {
        self.secret.derive(Purpose::Transport, "")
    }

    /// The key that signs links to media.
    pub fn media_key(&self) -> [u8; 32] {
        self.secret.derive(Purpose::Media, "").seed()
    }

    /// The key under which the keys of encrypted Matrix rooms are kept.
    pub fn matrix_keys_key(&self) -> [u8; 32] {
        self.secret.derive(Purpose::MatrixKeys, "").seed()
    }

    /// The transport identity.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.transport_key().public().0)
    }
}

/// What the store holds beside the log.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub names: Vec<(ChannelId, String)>,
    pub links: Vec<(Link, ChannelId)>,
    pub outbox: Vec<OutboxRow>,
    /// The greatest outbox id ever given out, as far as the store knows.
    pub last_outbox_id: u64,
    /// What this node's people want of others.
    pub intents: Vec<Offer>,
}

/// Why the log cannot be read back: it is damaged, or written by a newer version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// The place in the log.
    pub position: u64,
    pub reason: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event {} of the log cannot be read back: {}", self.position, self.reason)
    }
}

impl std::error::Error for Damaged {}

/// An event of the log, read back: that its bytes are those of its id, and what they say. Making it is pure
/// work for any thread.
#[derive(Clone, Debug)]
pub struct Logged {
    stored: StoredEvent,
    /// `None` if the bytes are damaged.
    event: Option<Event>,
}

impl From<StoredEvent> for Logged {
    fn from(stored: StoredEvent) -> Self {
        Self { event: Event::read_back(&stored.signed, stored.id), stored }
    }
}

impl Node {
    /// Makes the node from its log, in order, and the rest of what the store holds. The log is this
    /// node's own: that each event is the one whose id it has, that its past is there and that it keeps
    /// the rules of its lane is checked, which finds a damaged log; signatures and logics were checked
    /// before the event was written.
    ///
    /// # Errors
    /// [`Damaged`] names the first event that does not fit.
    pub fn restore(
        setup: Setup,
        restored: Restored,
        log: impl Iterator<Item = StoredEvent>,
    ) -> Result<Self, Damaged> {
        Self::restore_pages(setup, restored, log.map(|stored| [Logged::from(stored)]))
    }

    /// The same of a log that comes in pages, each of which is let go as soon as it was taken in.
    ///
    /// # Errors
    /// [`Damaged`] names the first event that does not fit.
    pub fn restore_pages(
        setup: Setup,
        restored: Restored,
        log: impl Iterator<Item: AsRef<[Logged]>>,
    ) -> Result<Self, Damaged> {
        let mut node = Self {
            people: People::new(&setup),
            setup,
            directory: Directory::default(),
            routes: Routes::default(),
            outbox: Outbox::default(),
            sync: Default::default(),
            open_doors: Default::default(),
            last_position: 0,
            origins: Default::default(),
            doubles: Default::default(),
            intents: Default::default(),
            refused: BTreeMap::new(),
            expiry: Default::default(),
            wanting: Default::default(),
            exports: BTreeMap::new(),
        };
        let mut names: BTreeMap<ChannelId, String> = restored.names.into_iter().collect();
        let mut event_at: BTreeMap<u64, EventId> =
            restored.outbox.iter().map(|row| (row.position, EventId::default())).collect();
        for page in log {
            for logged in page.as_ref() {
                let Logged { stored, .. } = logged;
                node.replay(logged, &mut names)
                    .map_err(|reason| Damaged { position: stored.position, reason })?;
                if let Some(event) = event_at.get_mut(&stored.position) {
                    *event = stored.id;
                }
                node.last_position = stored.position;
            }
        }
        node.restore_texts();
        node.restore_intents(restored.intents);
        for (link, channel) in restored.links {
            node.routes.insert(link, channel);
        }
        node.outbox.ids_after(restored.last_outbox_id);
        node.outbox.restore(restored.outbox, &event_at);
        Ok(node)
    }

    /// Remembers what came over a link to an IRC network, to know it when another holder of the link
    /// took it in as well.
    fn note_double(&mut self, stored: &StoredEvent, event: &Event) {
        let (Act::SendMessage(envelope), Some(payload)) = (&event.header.act, &stored.payload) else {
            return;
        };
        let Some(replica) = self.directory.get(&stored.channel).map(|channel| &channel.replica) else {
            return;
        };
        let Some(lane) =
            replica.lane_of(&stored.id).filter(|lane| matches!(lane.via, Some(Link::Irc { .. })))
        else {
            return;
        };
        let author = replica.state().person(&lane.identity);
        if let (Some(author), Some(content)) = (author, Content::read(payload, envelope)) {
            self.doubles.is_double(stored.id, &author.profile.home, &content);
        }
    }

    /// What an event of one channel changes in others.
    fn replay_consequences(&mut self, id: ChannelId, rules: bool) {
        let mut open = vec![(id, rules)];
        while let Some((id, rules)) = open.pop() {
            if rules {
                for part in self.directory.parts(&id) {
                    self.directory.refresh(&part, &id);
                    open.push((part, false));
                }
            }
            open.extend(self.directory.decide(&id).into_iter().map(|(id, turned)| (id, turned.rules)));
        }
    }

    fn replay(
        &mut self,
        Logged { stored, event }: &Logged,
        names: &mut BTreeMap<ChannelId, String>,
    ) -> Result<(), String> {
        let event = event.as_ref().ok_or("its bytes are not those of its id")?;
        let Some(admission) = self.directory.readmit(event, stored.position) else {
            let replica =
                self.directory.refound(event, stored.position).map_err(|error| error.to_string())?;
            self.directory.insert(replica, names.remove(&stored.channel));
            return Ok(());
        };
        match admission {
            Admission::Accepted(effect) => {
                self.replay_consequences(stored.channel, effect.rules);
                if let Act::RedactMessage { target, .. } = &event.header.act
                    && let Some(channel) = self.directory.get_mut(&stored.channel)
                {
                    channel.doubtful.insert(*target);
                }
                if stored.keeping.wanted {
                    self.wanting.insert(stored, Timestamp(0));
                }
                self.note_double(stored, event);
                let may_have_text = stored.payload.is_some() || stored.keeping.wanted;
                self.note_text(stored.channel, event, may_have_text);
                Ok(())
            }
            Admission::Refused(invalid) => Err(invalid.to_string()),
            Admission::Known => Err("it is there twice".to_owned()),
            Admission::Waiting(_) => Err("its past is missing".to_owned()),
        }
    }
}

//! What is encrypted, on its way in: keys are taken first, then events are opened with them. An event
//! whose key is not here waits; a room hears of what cannot be read.

use serde_json::Value;
use tokio::time::Instant;

use super::waiting;
use super::{Memory, Round};
use crate::base::Kind;
use crate::matrix::bridge::{Bridge, Trouble};
use crate::matrix::crypto::Opened;
use crate::matrix::proto::said;
use crate::matrix::proto::sealed::ForDevices;
use crate::matrix::proto::translate::{self, Place};
use crate::matrix::{bot, boundary};

impl Round<'_> {
    /// Takes in what a transaction brings for our devices, and reads what its keys open.
    pub(super) async fn receive(&mut self, news: &ForDevices, events: &[Value]) -> Result<(), Trouble> {
        let Some(crypto) = &self.bridge.crypto else { return Ok(()) };
        for event in events {
            crypto.note(event);
        }
        if news.is_empty() {
            return Ok(());
        }
        for (room, session) in crypto.receive(news).await? {
            self.memory.waiting.came(room, session);
        }
        self.open_ready().await
    }

    /// Reads what waited for keys that came.
    pub(super) async fn open_ready(&mut self) -> Result<(), Trouble> {
        for event in self.memory.waiting.ready() {
            self.unsealed.extend(event["event_id"].as_str().map(str::to_owned));
            self.read(&event).await?;
        }
        Ok(())
    }

    /// Opens an encrypted event, and takes in what it says.
    pub(super) async fn unseal(&mut self, at: Place, event: &Value) -> Result<(), Trouble> {
        let Some(crypto) = &self.bridge.crypto else { return Ok(()) };
        crypto.seal(&at.room).await?;
        match crypto.open(&at.room, event).await? {
            Opened::Event(opened) => {
                boundary::try_to_tell(self.bridge, &at.room).await;
                match translate::read(&opened, &self.bridge.names, &|user| self.bridge.ghost_name(user)) {
                    Ok(incoming) => {
                        self.has_sealed_file = said::carried(&opened).is_some_and(|it| it.file.is_some());
                        let taken = self.take(incoming).await;
                        self.has_sealed_file = false;
                        taken
                    }
                    Err(malformed) => {
                        self.bridge.counts.add("malformed event");
                        tracing::warn!(%malformed, event = at.event_id, "an event is refused");
                        Ok(())
                    }
                }
            }
            Opened::NoKey => self.wait(at, event).await,
            Opened::Refused(why) => {
                self.bridge.counts.add(why);
                tracing::warn!(event = at.event_id, why, "an encrypted event is refused");
                let text = format!("Something that {} sent is not carried: {why}.", at.sender);
                let txn = format!("multichat-sealed-{}", at.event_id);
                if self.channel(&at.room).await?.is_some() {
                    say(self.bridge, &at.room, &txn, &text, &at.event_id).await?;
                }
                Ok(())
            }
        }
    }

    /// Keeps an event until its key comes, for good: the homeserver will not send it again.
    async fn wait(&mut self, at: Place, event: &Value) -> Result<(), Trouble> {
        self.unsealed.retain(|id| *id != at.event_id);
        self.bridge.counts.add("encrypted, and its key is not here yet");
        let Some(gone) = self.memory.waiting.add(event) else {
            self.bridge.counts.add("malformed event");
            return Ok(());
        };
        self.bridge.handle.remember(waiting::note(&at.event_id), event.to_string()).await?;
        give_up(self.bridge, &gone).await
    }

    /// What was opened does not wait any more, now that what it says is durable.
    pub(super) async fn forget_opened(&mut self) -> Result<(), Trouble> {
        for id in std::mem::take(&mut self.unsealed) {
            self.bridge.handle.remember(waiting::note(&id), "").await?;
            self.memory.waiting.done(&id);
        }
        Ok(())
    }

    /// The room is encrypted from now on.
    pub(super) async fn sealed(&mut self, at: Place) -> Result<(), Trouble> {
        if let Some(crypto) = &self.bridge.crypto {
            crypto.seal(&at.room).await?;
            boundary::try_to_tell(self.bridge, &at.room).await;
        }
        Ok(())
    }
}

/// Tells rooms of what waits for long, and gives up what waited for too long.
pub(super) async fn remind(bridge: &Bridge, memory: &mut Memory) {
    let now = Instant::now();
    for overdue in memory.waiting.overdue(now) {
        let text = format!(
            "I cannot read what {} said: their client did not give me the key for it. If the key still comes, \
             it is carried then. What helps most often: they say /discardsession, and say it again.",
            overdue.sender
        );
        let txn = format!("multichat-key-{}", overdue.event_id);
        if let Err(trouble) = say(bridge, &overdue.room, &txn, &text, &overdue.event_id).await {
            tracing::warn!(room = overdue.room, %trouble, "the bot could not say that a key is missing");
        }
    }
    if give_up(bridge, &memory.waiting.given_up(now)).await.is_err() {
        tracing::debug!("notes are not forgotten: the node is stopping");
    }
}

async fn give_up(bridge: &Bridge, events: &[Value]) -> Result<(), Trouble> {
    for event in events {
        bridge.counts.add("encrypted, and its key never came");
        if let Some(id) = event["event_id"].as_str() {
            bridge.handle.remember(waiting::note(id), "").await?;
        }
    }
    Ok(())
}

async fn say(bridge: &Bridge, room: &str, txn: &str, text: &str, about: &str) -> Result<(), Trouble> {
    match bot::say_about(bridge, room, txn, text, about).await {
        Err(error) if error.kind() == Kind::Retry => Err(error.into()),
        Err(error) => {
            tracing::warn!(room, %error, "the bot could not speak of what is encrypted");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

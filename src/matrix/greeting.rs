//! The first words with a homeserver: wait until it is there, make the bot, carry the configured
//! links, and check the way back. It says what is wrong once, in one line, and keeps trying.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::boundary;
use super::bridge::{Bridge, Trouble};
use super::governed;
use super::homeserver::CallError;
use super::ping::{PingFailure, ping_through};
use super::proto::registration::Registration;
use crate::chat::intent::ChannelRef;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Links and pings that do not work wait for somebody to mend them.
const LONGEST_MENDING: Duration = Duration::from_secs(60);

/// The homeserver's side of encryption may be changed while we run.
const CHECK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Shows the bot's name.
const BOT_NAME: &str = "Multichat";

/// Does all of it; ends when all is well, unless encryption has to be looked at again and again.
pub(super) async fn greet(
    bridge: Arc<Bridge>,
    registration: Registration,
    links: Vec<(String, String)>,
    ready: watch::Sender<bool>,
) {
    insist(LONGEST_WAIT, "Matrix", || introduce(&bridge, &registration)).await;
    let _ = ready.send(true);
    let linking = carry_links(&bridge, links);
    let checking = async {
        insist(LONGEST_MENDING, "Matrix: the way back", || ping_through(&bridge.hs, &registration)).await;
        tracing::info!("the homeserver and this node know each other");
    };
    let encrypting = async {
        while let Some(crypto) = &bridge.crypto {
            insist(LONGEST_MENDING, "Matrix: encryption", || crypto.check()).await;
            tokio::time::sleep(CHECK_AGAIN).await;
        }
    };
    tokio::join!(linking, checking, encrypting);
}

/// Tries until it works, ever more slowly; logs a failure when it is not the one before.
async fn insist<T, E, F>(longest: Duration, what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let mut wait = FIRST_WAIT;
    let mut said = String::new();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::warn!("{what}: {error}; still trying");
                    said = error;
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// The homeserver is there and knows us, and the bot exists.
async fn introduce(bridge: &Bridge, registration: &Registration) -> Result<(), PingFailure> {
    let failed = |error: CallError| match error.is_unknown_token() {
        true => PingFailure::NotLoaded,
        false => PingFailure::Odd(error.to_string()),
    };
    bridge.hs.versions().await.map_err(|error| match error.is_unknown_token() {
        true => PingFailure::NotLoaded,
        false => PingFailure::Away(error.to_string()),
    })?;
    match bridge.hs.register(&registration.sender_localpart).await {
        Err(error) if error.errcode() == "M_EXCLUSIVE" => {
            return Err(PingFailure::OtherBot(registration.sender_localpart.clone()));
        }
        other => other.map_err(failed)?,
    }
    let whoami = bridge.hs.whoami().await.map_err(failed)?;
    if whoami["user_id"] != bridge.names.bot() {
        let theirs = whoami["user_id"].as_str().unwrap_or("nobody");
        return Err(PingFailure::Odd(format!(
            "the homeserver takes our bot for {theirs}, and we for {}: correct matrix.server_name",
            bridge.names.bot()
        )));
    }
    bridge.hs.set_display_name(bridge.names.bot(), BOT_NAME).await.map_err(failed)
}

/// Gets the bot into every configured room and links it. A room that it cannot get into is tried
/// again now and then, and at once when the bot gets into any room.
async fn carry_links(bridge: &Bridge, mut links: Vec<(String, String)>) {
    let mut wait = FIRST_WAIT;
    let mut said: Vec<String> = Vec::new();
    while !links.is_empty() {
        let mut left = Vec::new();
        for (channel, room) in links {
            if let Err(trouble) = carry_link(bridge, &channel, &room).await {
                let line = cannot_enter(bridge, &channel, &room, &trouble);
                if !said.contains(&line) {
                    tracing::warn!("{line}");
                    said.push(line);
                }
                left.push((channel, room));
            }
        }
        links = left;
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_MENDING),
            () = bridge.has_entered() => {}
        }
    }
}

/// Gets the bot into a room that was linked elsewhere, such as on the command line: without it the
/// homeserver would tell us nothing of the room. Ends when it is in, or the link is gone.
pub(super) async fn follow_link(bridge: Arc<Bridge>, channel: String, room: String) {
    let mut wait = FIRST_WAIT;
    let mut said = String::new();
    while bridge.carried(&room).is_some() {
        let error = match bridge.hs.join(&room, None).await {
            Err(error) => error,
            Ok(_) => {
                boundary::try_to_tell(&bridge, &room).await;
                let carried = bridge.carried(&room).filter(|_| bridge.is_trusted(&room));
                let Some(carried) = carried else { return };
                match governed::adopt(&bridge, &room, &carried).await {
                    Err(Trouble::Homeserver(error)) => error,
                    _ => return,
                }
            }
        };
        let line = cannot_enter(&bridge, &channel, &room, &error.into());
        if line != said {
            tracing::warn!("{line}");
            said = line;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_MENDING),
            () = bridge.has_entered() => {}
        }
    }
}

fn cannot_enter(bridge: &Bridge, channel: &str, room: &str, trouble: &Trouble) -> String {
    let bot = bridge.names.bot();
    format!("link {channel} – {room}: {trouble}; create the room, invite {bot} or make it public")
}

async fn carry_link(bridge: &Bridge, channel: &str, room: &str) -> Result<(), Trouble> {
    let room = bridge.hs.join(room, None).await?;
    let channel = channel.to_lowercase();
    if bridge.carried(&room).is_some_and(|carried| carried.name == channel) {
        boundary::try_to_tell(bridge, &room).await;
        return Ok(());
    }
    bridge.trust(&room, true).await?;
    let carried = bridge.link(&room, ChannelRef::Name(channel), true).await?;
    boundary::try_to_tell(bridge, &room).await;
    governed::adopt(bridge, &room, &carried).await
}

//! What an encrypted room is told: where its encryption ends when it carries a channel.

use super::bot;
use super::bridge::Bridge;
use super::homeserver::CallError;
use super::unix_ms;

/// Tells a room, once for each link, that whoever reads the channel reads it too. Nothing where the room is
/// not encrypted or carries nothing.
///
/// # Errors
/// [`CallError`].
pub(super) async fn tell(bridge: &Bridge, room: &str) -> Result<(), CallError> {
    let (Some(crypto), Some(carried)) = (&bridge.crypto, bridge.carried(room)) else { return Ok(()) };
    if bridge.was_told(room) || !crypto.is_sealed(room).await? {
        return Ok(());
    }
    let channel = &carried.name;
    let text = format!(
        "This room is encrypted, and it carries {channel}. Its encryption ends at me: I read what is said here \
         and hand it on to {channel}, where other nodes, IRC and other rooms keep and show it without this \
         room's encryption. What comes from there is encrypted for this room by its ghosts, whose keys are on \
         my node, so whoever runs that node can read and write here. To end this: !mc unlink"
    );
    bot::say(bridge, room, &format!("multichat-boundary-{room}-{}", unix_ms()), &text).await?;
    bridge.told(room, true).await;
    Ok(())
}

/// The same, where it is no reason to stop if the room cannot be told now: it will be when somebody speaks.
pub(super) async fn try_to_tell(bridge: &Bridge, room: &str) {
    if let Err(error) = tell(bridge, room).await {
        tracing::warn!(room, %error, "the bot could not say where a room's encryption ends");
    }
}

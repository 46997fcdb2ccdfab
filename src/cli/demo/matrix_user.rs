//! A person on the Matrix side, as a program: the demo's Alice, on the real client SDK. Keeps all
//! in memory, and encrypts what it says where a room is encrypted.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use matrix_sdk::config::SyncSettings;
use matrix_sdk::deserialized_responses::{EncryptionInfo, VerificationState};
use matrix_sdk::room::MessagesOptions;
use matrix_sdk::ruma::api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset};
use matrix_sdk::ruma::events::room::message::{
    MessageType, OriginalSyncRoomMessageEvent, RoomMessageEventContent,
};
use matrix_sdk::ruma::{OwnedRoomId, OwnedUserId, RoomOrAliasId, UserId};
use matrix_sdk::{Client, Room};
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::trouble::Trouble;

const PATIENCE: Duration = Duration::from_secs(60);

/// One message that arrived by sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    pub room: String,
    pub event: String,
    /// Who sent it: a full Matrix id.
    pub sender: String,
    /// The sender's display name in that room.
    pub name: String,
    /// `m.text`, `m.notice` or `m.emote`, or whatever else it was.
    pub kind: String,
    pub body: String,
    /// What is known of who encrypted it; nothing if it came in the clear.
    pub sealed_by: Option<VerificationState>,
    pub at: Instant,
}

/// A logged-in Matrix user that follows its rooms. Stops following when dropped.
///
/// Every method that talks to the homeserver hands out a boxed future: the SDK's own are vast, and
/// would be generated again in each crate that awaits them.
#[derive(Debug)]
pub struct MatrixUser {
    client: Client,
    user: OwnedUserId,
    heard: Journal<Heard>,
    following: JoinHandle<()>,
}

impl MatrixUser {
    /// Logs in with a password, and follows the user's rooms from now on.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn login<'a>(
        homeserver: &'a str,
        name: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Self, Trouble>> {
        bounded(format!("logging {name} in at {homeserver}"), login(homeserver, name, password))
    }

    /// Its full id, such as `@alice:demo.local`.
    pub fn id(&self) -> &str {
        self.user.as_str()
    }

    /// Changes the name that others see.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn set_display_name<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        bounded(format!("naming {}", self.user), async move {
            self.client.account().set_display_name(Some(name)).await.map_err(|e| e.to_string())
        })
    }

    /// Creates a room that anybody may join, with an alias of this localpart if given, and invites
    /// people. Returns the room's id.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn create_room<'a>(
        &'a self,
        name: &'a str,
        alias_localpart: Option<&'a str>,
        invite: &'a [&'a str],
    ) -> BoxFuture<'a, Result<String, Trouble>> {
        bounded(format!("creating the room {name}"), async move {
            let mut request = CreateRoom::new();
            request.name = Some(name.to_owned());
            request.room_alias_name = alias_localpart.map(str::to_owned);
            request.preset = Some(RoomPreset::PublicChat);
            request.invite = invite
                .iter()
                .map(|id| UserId::parse(id).map_err(|e| e.to_string()))
                .collect::<Result<_, _>>()?;
            let room = self.client.create_room(request).await.map_err(|e| e.to_string())?;
            Ok(room.room_id().to_string())
        })
    }

    /// Joins a room by id or alias. Returns the room's id.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn join<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<String, Trouble>> {
        bounded(format!("joining {room}"), async move {
            let room = RoomOrAliasId::parse(room).map_err(|e| e.to_string())?;
            let room = self.client.join_room_by_id_or_alias(&room, &[]).await.map_err(|e| e.to_string())?;
            Ok(room.room_id().to_string())
        })
    }

    /// Says a line of plain text. Returns the event's id.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn say<'a>(&'a self, room: &'a str, text: &'a str) -> BoxFuture<'a, Result<String, Trouble>> {
        bounded(format!("speaking in {room}"), async move {
            let content = RoomMessageEventContent::text_plain(text);
            let sent = self.room(room).await?.send(content).await.map_err(|e| e.to_string())?;
            Ok(sent.response.event_id.to_string())
        })
    }

    /// Sends an event of any type. Returns its id.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn send<'a>(
        &'a self,
        room: &'a str,
        kind: &'a str,
        content: serde_json::Value,
    ) -> BoxFuture<'a, Result<String, Trouble>> {
        bounded(format!("sending {kind} to {room}"), async move {
            let sent = self.room(room).await?.send_raw(kind, content).await.map_err(|e| e.to_string())?;
            Ok(sent.response.event_id.to_string())
        })
    }

    /// The name that a member has in a room; `None` if they are not in it or have none.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn display_name<'a>(
        &'a self,
        room: &'a str,
        user: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, Trouble>> {
        bounded(format!("looking up {user} in {room}"), async move {
            let user = UserId::parse(user).map_err(|e| e.to_string())?;
            let member = self.room(room).await?.get_member(&user).await.map_err(|e| e.to_string())?;
            Ok(member.and_then(|member| member.display_name().map(str::to_owned)))
        })
    }

    /// The text messages of a room as the homeserver holds them, oldest first, each a sender and a
    /// body. At most `limit` of the newest.
    ///
    /// # Errors
    /// What the homeserver said.
    pub fn messages<'a>(
        &'a self,
        room: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Trouble>> {
        bounded(format!("reading {room}"), async move {
            let room = self.room(room).await?;
            read_back(&room, limit).await
        })
    }

    /// The first message that fits, past or to come.
    ///
    /// # Errors
    /// [`Trouble::Late`].
    pub async fn wait_for(
        &self,
        awaited: &str,
        within: Duration,
        fits: impl Fn(&Heard) -> bool,
    ) -> Result<Heard, Trouble> {
        self.heard.wait_for(awaited, within, fits).await
    }

    /// Every message that came by sync so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.all()
    }

    /// The same, to wait on for more.
    pub fn journal(&self) -> Journal<Heard> {
        self.heard.clone()
    }

    /// A room that the user is in. One just joined becomes known with the next sync.
    async fn room(&self, id: &str) -> Result<Room, String> {
        let id: OwnedRoomId = id.try_into().map_err(|e| format!("{id}: {e}"))?;
        loop {
            match self.client.get_room(&id) {
                Some(room) => return Ok(room),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for MatrixUser {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Boxes a future of the SDK, bounds its time and names what was being done in its error.
fn bounded<'a, T: 'a>(
    doing: String,
    future: impl Future<Output = Result<T, String>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Trouble>> {
    let future = future.boxed();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(result) => result.map_err(|said| Trouble::failed(doing, said)),
            Err(_) => Err(Trouble::Late { awaited: doing, waited_s: PATIENCE.as_secs() }),
        }
    }
    .boxed()
}

async fn login(homeserver: &str, name: &str, password: &str) -> Result<MatrixUser, String> {
    // Whoever comes first installs it; that it is there already is no failure.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::builder().homeserver_url(homeserver).build().await.map_err(|e| e.to_string())?;
    let auth = client.matrix_auth();
    let session = auth
        .login_username(name, password)
        .initial_device_display_name("Multichat demo")
        .send()
        .await
        .map_err(|e| e.to_string())?;
    let heard = Journal::default();
    let journal = heard.clone();
    client.add_event_handler(
        move |event: OriginalSyncRoomMessageEvent, room: Room, sealed: Option<EncryptionInfo>| {
            let journal = journal.clone();
            async move { journal.write(take_down(event, &room, sealed).await) }
        },
    );
    // Only what happens from now on: the first sync is the past.
    let settings = SyncSettings::new().timeout(Duration::from_secs(20));
    let first = client.sync_once(settings.clone()).await.map_err(|e| e.to_string())?;
    let following = tokio::spawn(follow(client.clone(), settings.token(first.next_batch)).boxed());
    Ok(MatrixUser { client, user: session.user_id, heard, following })
}

/// Syncs for good; a homeserver that is away is asked again.
async fn follow(client: Client, settings: SyncSettings) {
    // The token given here is for the first call only: later ones go on from where they are.
    let mut settings = settings;
    loop {
        match client.sync_once(settings.clone()).await {
            Ok(response) => settings = settings.token(response.next_batch),
            Err(error) => {
                tracing::debug!(%error, "the homeserver did not answer a sync; asking again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn take_down(
    event: OriginalSyncRoomMessageEvent,
    room: &Room,
    sealed: Option<EncryptionInfo>,
) -> Heard {
    let member = room.get_member_no_sync(&event.sender).await.ok().flatten();
    let name = member.map_or_else(|| event.sender.to_string(), |member| member.name().to_owned());
    let (kind, body) = words(&event.content.msgtype);
    Heard {
        room: room.room_id().to_string(),
        event: event.event_id.to_string(),
        sender: event.sender.to_string(),
        name,
        kind,
        body,
        sealed_by: sealed.map(|sealed| sealed.verification_state),
        at: Instant::now(),
    }
}

fn words(message: &MessageType) -> (String, String) {
    (message.msgtype().to_owned(), message.body().to_owned())
}

async fn read_back(room: &Room, limit: usize) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut options = MessagesOptions::backward();
    while found.len() < limit {
        options.limit = 1000u32.into();
        let page = room.messages(options).await.map_err(|e| e.to_string())?;
        for event in &page.chunk {
            let Ok(raw) = event.raw().deserialize_as::<serde_json::Value>() else { continue };
            let text = |pointer: &str| raw.pointer(pointer).and_then(|v| v.as_str()).map(str::to_owned);
            if text("/type").as_deref() != Some("m.room.message") {
                continue;
            }
            if let (Some(sender), Some(body)) = (text("/sender"), text("/content/body")) {
                found.push((sender, body));
            }
        }
        let Some(end) = page.end else { break };
        options = MessagesOptions::backward().from(end.as_str());
    }
    found.truncate(limit);
    found.reverse();
    Ok(found)
}

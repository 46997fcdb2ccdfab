//! Encrypted rooms: the bot and each ghost that speaks in one have a device of their own. The bot's
//! device reads, each ghost's writes, so clients see who really encrypted what. Keys are kept in files
//! beside the node's store, never shown or logged.
//!
//! It never sends in the clear to a room that was encrypted once, and never waits for another's keys
//! while a transaction waits for it.

mod calls;
mod device;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use matrix_sdk::deserialized_responses::{DeviceLinkProblem, VerificationLevel, VerificationState};
use matrix_sdk_crypto::types::events::room::encrypted::EncryptedEvent;
use matrix_sdk_crypto::{AttachmentDecryptor, EncryptionSyncChanges, MediaEncryptionInfo, MegolmError};
use ruma::api::client::sync::sync_events::DeviceLists;
use ruma::events::AnyToDeviceEvent;
use ruma::serde::Raw;
use ruma::{OneTimeKeyAlgorithm, OwnedUserId, RoomId, UInt, UserId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::device::{Cabinet, Device, READ_ALL, broken};
use self::rooms::Rooms;
use super::homeserver::{Call, CallError, Homeserver, Sending};
use super::proto::content::MARK;
use super::proto::names::Names;
use super::proto::sealed::{self, ForDevices};
use crate::base::Kind;
use crate::port::{Handle, Stopped};

/// What the keys of notes about encrypted rooms begin with.
pub(super) const SEALED: &str = "sealed/";
/// Devices that are open at once; the one that was not used for longest is closed.
const OPEN: usize = 128;
/// What we send ourselves, to see whether the homeserver hands it on.
const CHECK: &str = "org.multichat.check";
/// The file beside the keys that says what came of it last.
pub(super) const STATE: &str = "state";
/// What it says when all is well.
pub(super) const WORKS: &str = "works";
/// How long that may take.
const CHECK_FOR: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Crypto {
    hs: Homeserver,
    names: Names,
    handle: Handle,
    cabinet: Cabinet,
    rooms: Rooms,
    open: tokio::sync::Mutex<Open>,
    /// Users whose devices have something to say to the homeserver.
    untended: Mutex<BTreeSet<String>>,
    tend: Notify,
    /// What we sent ourselves came back.
    checked: Notify,
}

#[derive(Default)]
struct Open {
    devices: BTreeMap<String, (Arc<Device>, u64)>,
    uses: u64,
}

/// What an encrypted event comes to.
#[derive(Debug)]
pub(super) enum Opened {
    /// The event as it reads.
    Event(Value),
    /// Its key is not here, or not yet.
    NoKey,
    /// It does not count, and why.
    Refused(&'static str),
}

impl Crypto {
    /// Opens what is kept in `folder`. Nothing is sent yet.
    pub fn new(
        hs: Homeserver,
        names: Names,
        handle: Handle,
        (folder, key): (PathBuf, [u8; 32]),
        notes: &[(String, Vec<u8>)],
    ) -> Self {
        let sealed = notes.iter().filter_map(|(note, _)| note.strip_prefix(SEALED).map(str::to_owned));
        let rooms = Rooms::new(sealed.collect());
        let (open, untended, tend, checked) = Default::default();
        let cabinet = Cabinet { folder, key };
        Self { hs, names, handle, cabinet, rooms, open, untended, tend, checked }
    }

    /// Makes the bot's device, and sees whether the homeserver hands on what is sent to it. What came of
    /// it is left for `doctor` to read.
    ///
    /// # Errors
    /// What is wrong, in one line with what to do.
    pub async fn check(&self) -> Result<(), String> {
        let checked = self.send_and_hear().await;
        let state = checked.as_ref().map_or_else(String::as_str, |()| WORKS);
        if let Err(error) = tokio::fs::write(self.cabinet.folder.join(STATE), state).await {
            tracing::debug!(%error, "how it is with encrypted rooms could not be noted");
        }
        checked
    }

    async fn send_and_hear(&self) -> Result<(), String> {
        let bot = self.established(self.names.bot()).await.map_err(|error| error.to_string())?;
        let came = self.checked.notified();
        let (user, device) = (bot.user().to_owned(), bot.id().to_owned());
        let body = json!({"messages": {user: {device: {}}}});
        let txn = ruma::TransactionId::new();
        let path = ["v3", "sendToDevice", CHECK, txn.as_str()];
        let sent = calls::call(&self.hs, &bot, Call::put(&path, body)).await;
        sent.map_err(|error| error.to_string())?;
        if tokio::time::timeout(CHECK_FOR, came).await.is_err() {
            return Err("the homeserver hands on nothing that is sent to our devices, so nothing in encrypted \
                        rooms can be read: set experimental_features: {msc2409_to_device_messages_enabled: true, \
                        msc3202_transaction_extensions: true} in homeserver.yaml, and restart it"
                .to_owned());
        }
        tracing::debug!(device = bot.id(), "encrypted rooms can be read");
        Ok(())
    }

    /// Has devices say to the homeserver what they have to say. Ends with the node.
    pub async fn keep_up(&self) {
        loop {
            self.tend.notified().await;
            let users = std::mem::take(&mut *hold(&self.untended));
            for user in users {
                let tended = match self.established(&user).await {
                    Ok(device) => device.tend(&self.hs).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = tended {
                    tracing::warn!(user, %error, "a device could not speak with the homeserver");
                }
            }
        }
    }

    fn has_to_tend(&self, user: &str) {
        hold(&self.untended).insert(user.to_owned());
        self.tend.notify_one();
    }

    /// Takes in what a transaction brings for devices. Gives the rooms and sessions whose keys came: what
    /// was encrypted in them can be read now.
    ///
    /// # Errors
    /// [`CallError::Keys`] if nothing can be kept.
    pub async fn receive(&self, news: &ForDevices) -> Result<Vec<(String, String)>, CallError> {
        let mut users: BTreeSet<String> = news.concerned().map(str::to_owned).collect();
        if !news.changed.is_empty() {
            users.extend(self.open.lock().await.devices.keys().cloned());
        }
        let mut came = Vec::new();
        for user in users.iter().filter(|user| self.names.is_ours(user) && self.cabinet.has(user)) {
            let handed = match self.device(user).await {
                Ok(device) => self.hand_over(&device, news).await,
                Err(error) => Err(error),
            };
            match handed {
                Ok(keys) => came.extend(keys),
                // Without the bot's, rooms could not be read. A ghost's only keep conversations between
                // devices going, which are begun anew where they fail.
                Err(error) if user == self.names.bot() => return Err(error),
                Err(error) => tracing::warn!(user, %error, "a device could not take in what it was sent"),
            }
        }
        Ok(came)
    }

    async fn hand_over(
        &self,
        device: &Device,
        news: &ForDevices,
    ) -> Result<Vec<(String, String)>, CallError> {
        let key = (device.user().to_owned(), device.id().to_owned());
        let is_check = |event: &&Value| event["type"] == CHECK && event["sender"] == device.user();
        let events = news.events.get(&key).map(Vec::as_slice).unwrap_or_default();
        if events.iter().any(|event| is_check(&event)) {
            self.checked.notify_one();
        }
        let raw = events
            .iter()
            .filter(|event| !is_check(event))
            .filter_map(|event| Raw::<AnyToDeviceEvent>::from_json_string(event.to_string()).ok());
        let mut lists = DeviceLists::new();
        lists.changed =
            news.changed.iter().filter_map(|user| OwnedUserId::try_from(user.as_str()).ok()).collect();
        let count = news.counts.get(&key).and_then(|count| UInt::new(*count));
        let counts: BTreeMap<_, _> =
            count.map(|count| (OneTimeKeyAlgorithm::SignedCurve25519, count)).into_iter().collect();
        let unused: Option<&[OneTimeKeyAlgorithm]> = match news.unused_fallback.get(&key) {
            Some(true) => Some(&[OneTimeKeyAlgorithm::SignedCurve25519]),
            Some(false) => Some(&[]),
            None => None,
        };
        let changes = EncryptionSyncChanges {
            to_device_events: raw.collect(),
            changed_devices: &lists,
            one_time_keys_counts: &counts,
            unused_fallback_keys: unused,
            next_batch_token: None,
        };
        let (_, came) = device.keys().receive_sync_changes(changes, &READ_ALL).await.map_err(broken)?;
        self.has_to_tend(device.user());
        Ok(came.into_iter().map(|key| (key.room_id.to_string(), key.session_id)).collect())
    }

    /// Opens an encrypted event of a room with the bot's keys.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open(&self, room: &str, event: &Value) -> Result<Opened, CallError> {
        let bot = self.device(self.names.bot()).await?;
        let Ok(raw) = Raw::<EncryptedEvent>::from_json_string(event.to_string()) else {
            return Ok(Opened::Refused("malformed event"));
        };
        let Ok(room) = RoomId::parse(room) else { return Ok(Opened::Refused("malformed event")) };
        let mut asked = false;
        loop {
            let opened = match bot.keys().decrypt_room_event(&raw, &room, &READ_ALL).await {
                Ok(opened) => opened,
                Err(MegolmError::MissingRoomKey(_)) => return Ok(Opened::NoKey),
                Err(MegolmError::Store(error)) => return Err(broken(error)),
                Err(error) => {
                    tracing::info!(%error, event = event["event_id"].as_str(), "an event cannot be decrypted");
                    return Ok(Opened::Refused("cannot be decrypted"));
                }
            };
            match &opened.encryption_info.verification_state {
                VerificationState::Unverified(VerificationLevel::MismatchedSender) => {
                    return Ok(Opened::Refused("encrypted by another than its sender"));
                }
                VerificationState::Unverified(VerificationLevel::None(DeviceLinkProblem::MissingDevice))
                    if !asked =>
                {
                    // A device that we do not know: whose it is decides who spoke.
                    asked = true;
                    self.meet(&bot, event["sender"].as_str().unwrap_or_default()).await;
                }
                _ => {
                    let inside = serde_json::from_str(opened.event.json().get()).map_err(broken)?;
                    return Ok(match sealed::opened(event, &inside) {
                        Some(event) => Opened::Event(event),
                        None => Opened::Refused("type not carried"),
                    });
                }
            }
        }
    }

    /// Asks who somebody's devices are. Where that cannot be had, they stay unknown.
    async fn meet(&self, bot: &Device, user: &str) {
        let Ok(user) = UserId::parse(user) else { return };
        let met = match bot.keys().update_tracked_users([&*user]).await {
            Ok(()) => bot.tend(&self.hs).await,
            Err(error) => Err(broken(error)),
        };
        if let Err(error) = met {
            tracing::info!(%user, %error, "somebody's devices cannot be asked for");
        }
    }

    /// Whether a room is encrypted. Asks the homeserver where that is not known.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn is_sealed(&self, room: &str) -> Result<bool, CallError> {
        if let Some(known) = self.rooms.is_sealed(room) {
            return Ok(known);
        }
        let rules = match self.hs.state(room, "m.room.encryption", "").await {
            Err(error) if error.kind() == Kind::Denied => {
                self.hs.join(room, None).await?;
                self.hs.state(room, "m.room.encryption", "").await?
            }
            other => other?,
        };
        if rules.is_null() {
            self.rooms.is_open(room);
            return Ok(false);
        }
        let sealed = self.seal(room).await;
        sealed.map(|()| true).map_err(|stopped| CallError::Unreachable(stopped.to_string()))
    }

    /// Notes for good that a room is encrypted.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn seal(&self, room: &str) -> Result<(), Stopped> {
        if self.rooms.seal(room) {
            self.handle.remember(format!("{SEALED}{room}"), "1").await?;
        }
        Ok(())
    }

    /// Notes what an event of a room says about who reads along.
    pub fn note(&self, event: &Value) {
        let Some(room) = event["room_id"].as_str() else { return };
        let ours = event["state_key"].as_str().is_some_and(|user| self.names.is_ours(user));
        match event["type"].as_str() {
            Some("m.room.member") if !ours => self.rooms.changed(room),
            Some("m.room.history_visibility" | "m.room.encryption") => self.rooms.changed(room),
            _ => {}
        }
    }

    /// An event as it goes to a room: encrypted, where the room is. `None` if it goes as it is.
    ///
    /// # Errors
    /// [`CallError`]; what is wrong with keys is tried again, for somebody can mend it and nothing goes in
    /// the clear meanwhile.
    pub async fn encrypted(&self, sending: &Sending<'_>) -> Result<Option<Value>, CallError> {
        // As clients do: a reaction or a status is of no use to a homeserver that cannot read it.
        if sending.kind != "m.room.message" || !self.is_sealed(sending.room).await? {
            return Ok(None);
        }
        match self.encrypt(sending).await {
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::NotFound) => {
                Err(CallError::Keys(error.to_string()))
            }
            other => other.map(Some),
        }
    }

    async fn encrypt(&self, sending: &Sending<'_>) -> Result<Value, CallError> {
        let user = sending.as_user.unwrap_or(self.names.bot());
        let room = RoomId::parse(sending.room).map_err(broken)?;
        let device = self.established(user).await?;
        let readers = self.rooms.readers(&self.hs, &self.names, sending.room).await?;
        let into = (&*room, readers.users.as_slice(), &readers.settings);
        let sealed = device.encrypt(&self.hs, into, (sending.kind, sending.content)).await;
        if let Err(CallError::Status { errcode, .. }) = &sealed
            && errcode.contains("UNKNOWN_DEVICE")
        {
            // The homeserver lost it while we ran.
            self.open.lock().await.devices.remove(user);
        }
        let mut sealed = sealed?;
        // By it we know our own again, and other nodes leave it alone: it names the event, as does the
        // transaction that it is sent with.
        if let Some(mark) = sending.content.get(MARK) {
            sealed[MARK] = mark.clone();
        }
        Ok(sealed)
    }

    /// A user's device, from disk or begun.
    async fn device(&self, user: &str) -> Result<Arc<Device>, CallError> {
        let mut open = self.open.lock().await;
        open.uses += 1;
        let now = open.uses;
        if let Some((device, used)) = open.devices.get_mut(user) {
            *used = now;
            return Ok(device.clone());
        }
        if open.devices.len() >= OPEN {
            let idle = open.devices.iter().filter(|(_, (device, _))| Arc::strong_count(device) == 1);
            let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(user, _)| user.clone());
            if let Some(oldest) = oldest {
                open.devices.remove(&oldest);
            }
        }
        let device = Arc::new(Device::open(&self.cabinet, user).await?);
        open.devices.insert(user.to_owned(), (device.clone(), now));
        Ok(device)
    }

    /// A user's device that the homeserver has. One that it lost is begun anew.
    async fn established(&self, user: &str) -> Result<Arc<Device>, CallError> {
        let device = self.device(user).await?;
        if device.establish(&self.hs).await? {
            return Ok(device);
        }
        tracing::warn!(user, device = device.id(), "the homeserver lost a device of ours; it is made anew");
        let mut open = self.open.lock().await;
        let still = open.devices.get(user).is_some_and(|(other, _)| Arc::ptr_eq(other, &device));
        if still {
            open.devices.remove(user);
            let folder = device.folder().to_owned();
            drop(device);
            tokio::fs::remove_dir_all(&folder).await.map_err(broken)?;
        }
        drop(open);
        let device = self.device(user).await?;
        match device.establish(&self.hs).await? {
            true => Ok(device),
            false => Err(CallError::Keys("the homeserver lost a device twice".to_owned())),
        }
    }
}

/// Opens an encrypted file with what its event says of it; `None` if it is not what was sent.
pub(super) fn open_file(bytes: &[u8], file: Value) -> Option<Vec<u8>> {
    let info: MediaEncryptionInfo = serde_json::from_value(file).ok()?;
    let mut bytes = bytes;
    let mut opened = Vec::with_capacity(bytes.len());
    AttachmentDecryptor::new(&mut bytes, info).ok()?.read_to_end(&mut opened).ok()?;
    Some(opened)
}

/// Locks; what a panicking holder left behind is still whole, as each holder does one thing.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

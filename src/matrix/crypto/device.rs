//! One device of the bot or of a ghost: its keys on disk, and the conversation with the homeserver
//! about them. A device is made once; one that the homeserver lost is made anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use matrix_sdk_crypto::store::CryptoStore;
use matrix_sdk_crypto::{
    DecryptionSettings, EncryptionSettings, EncryptionSyncChanges, OlmMachine, TrustRequirement,
};
use matrix_sdk_sqlite::{SqliteCryptoStore, SqliteStoreConfig};
use ruma::api::client::sync::sync_events::DeviceLists;
use ruma::events::AnyMessageLikeEventContent;
use ruma::serde::Raw;
use ruma::{OwnedUserId, RoomId, UserId};
use serde_json::Value;
use tokio::sync::Mutex;

use super::calls;
use crate::matrix::homeserver::{CallError, Homeserver};

/// Connections to one device's store.
const CONNECTIONS: usize = 2;
/// Bytes of memory that one device's store may take for its pages.
const CACHE_BYTES: u32 = 256 * 1024;
/// Requests may call for more requests; after so many rounds the rest waits for the next time.
const ROUNDS: usize = 5;
/// Letters of a device's id.
const ID_LETTERS: usize = 10;
/// How others see our devices named.
const NAME: &str = "Multichat";
/// What the store says once the keys that vouch for the device are published.
const VOUCHED: &str = "multichat.vouched";

/// Whoever may speak in the room is read, whether somebody vouches for their device or not.
pub(super) const READ_ALL: DecryptionSettings =
    DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };

/// See the module.
pub(super) struct Device {
    keys: OlmMachine,
    user: String,
    id: String,
    folder: PathBuf,
    /// One conversation with the homeserver at a time.
    busy: Mutex<()>,
    /// The homeserver has it, as of this start of the node.
    there: AtomicBool,
}

/// Where devices are kept, and under which key.
#[derive(Clone)]
pub(super) struct Cabinet {
    pub folder: PathBuf,
    pub key: [u8; 32],
}

impl Cabinet {
    /// The folder of one user. Their ids may have characters in them that no file name may.
    fn of(&self, user: &str) -> PathBuf {
        self.folder.join(&blake3::hash(user.as_bytes()).to_hex()[..32])
    }

    /// Whether this user has a device here.
    pub fn has(&self, user: &str) -> bool {
        self.of(user).is_dir()
    }
}

impl Device {
    /// Opens a user's device, or begins one. Nothing is sent.
    ///
    /// # Errors
    /// [`CallError::Keys`].
    pub async fn open(cabinet: &Cabinet, user: &str) -> Result<Self, CallError> {
        let folder = cabinet.of(user);
        let user_id = UserId::parse(user).map_err(broken)?;
        let store = open_store(&folder, &cabinet.key).await?;
        let known = store.load_account().await.map_err(broken)?;
        let id = match &known {
            Some(account) => account.device_id().to_string(),
            None => fresh_id()?,
        };
        let keys = OlmMachine::with_store(&user_id, id.as_str().into(), store, None).await.map_err(broken)?;
        if known.is_none() {
            // With a key to fall back on, should others use up all one-time keys.
            let changes = EncryptionSyncChanges {
                to_device_events: Vec::new(),
                changed_devices: &DeviceLists::new(),
                one_time_keys_counts: &BTreeMap::new(),
                unused_fallback_keys: Some(&[]),
                next_batch_token: None,
            };
            keys.receive_sync_changes(changes, &READ_ALL).await.map_err(broken)?;
        }
        // What changed while we did not listen is not known.
        keys.mark_all_tracked_users_as_dirty().await.map_err(broken)?;
        let (busy, there) = Default::default();
        Ok(Self { keys, user: user.to_owned(), id, folder, busy, there })
    }

    /// Whose it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its keys.
    pub fn keys(&self) -> &OlmMachine {
        &self.keys
    }

    /// Sees to it that the homeserver has the device. False if it had and lost it: its keys are of no use
    /// any more, and it has to be begun anew.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn establish(&self, hs: &Homeserver) -> Result<bool, CallError> {
        let _alone = self.busy.lock().await;
        if self.there.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if !hs.has_device(&self.user, &self.id).await? {
            if self.is_published().await? {
                return Ok(false);
            }
            hs.make_device(&self.user, &self.id, NAME).await?;
        }
        self.converse(hs).await?;
        if let Err(error) = self.vouch(hs).await {
            // Others then see a device that nobody vouches for; they can talk to it all the same.
            tracing::warn!(user = self.user, %error, "no keys that vouch for a device could be published");
        }
        self.there.store(true, Ordering::Relaxed);
        Ok(true)
    }

    async fn is_published(&self) -> Result<bool, CallError> {
        let account = self.keys.store().load_account().await.map_err(broken)?;
        Ok(account.is_some_and(|account| account.shared()))
    }

    /// Tells the homeserver what it should know of us, and asks what we should know of others.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tend(&self, hs: &Homeserver) -> Result<(), CallError> {
        let _alone = self.busy.lock().await;
        self.converse(hs).await
    }

    async fn converse(&self, hs: &Homeserver) -> Result<(), CallError> {
        for _ in 0..ROUNDS {
            let requests = self.keys.outgoing_requests().await.map_err(broken)?;
            if requests.is_empty() {
                break;
            }
            for request in requests {
                calls::carry_out(hs, self, &request).await?;
            }
        }
        Ok(())
    }

    /// Publishes keys of the user's own that vouch for the device, once.
    async fn vouch(&self, hs: &Homeserver) -> Result<(), CallError> {
        let store = self.keys.store();
        if store.get_custom_value(VOUCHED).await.map_err(broken)?.is_some() {
            return Ok(());
        }
        let requests = self.keys.bootstrap_cross_signing(false).await.map_err(broken)?;
        if let Some(upload) = &requests.upload_keys_req {
            calls::carry_out(hs, self, upload).await?;
        }
        calls::publish_identity(hs, self, &requests.upload_signing_keys_req).await?;
        let id = ruma::TransactionId::new();
        calls::sign(hs, self, &id, &requests.upload_signatures_req).await?;
        store.set_custom_value(VOUCHED, vec![1]).await.map_err(broken)
    }

    /// Encrypts an event for a room whose members are `readers`, once all their devices have what they
    /// need to read it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn encrypt(
        &self,
        hs: &Homeserver,
        (room, readers, settings): (&RoomId, &[OwnedUserId], &EncryptionSettings),
        (kind, content): (&str, &Value),
    ) -> Result<Value, CallError> {
        let _alone = self.busy.lock().await;
        let users: Vec<&UserId> = readers.iter().map(AsRef::as_ref).collect();
        let tracked = self.keys.update_tracked_users(users.iter().copied()).boxed();
        tracked.await.map_err(broken)?;
        self.converse(hs).await?;
        let missing = self.keys.get_missing_sessions(users.iter().copied()).boxed();
        if let Some((id, request)) = missing.await.map_err(broken)? {
            calls::claim(hs, self, &id, &request).await?;
        }
        let sharing = self.keys.share_room_key(room, users.iter().copied(), settings.clone()).boxed();
        for request in sharing.await.map_err(broken)? {
            calls::to_device(hs, self, &request).await?;
        }
        let content = Raw::<AnyMessageLikeEventContent>::from_json_string(content.to_string());
        let content = content.map_err(broken)?;
        let encrypted = self.keys.encrypt_room_event_raw(room, kind, &content).await.map_err(broken)?;
        serde_json::from_str(encrypted.content.json().get()).map_err(broken)
    }
}

async fn open_store(folder: &Path, key: &[u8; 32]) -> Result<SqliteCryptoStore, CallError> {
    let config = SqliteStoreConfig::with_low_memory_config(folder)
        .pool_max_size(CONNECTIONS)
        .cache_size(CACHE_BYTES)
        .key(Some(key));
    SqliteCryptoStore::open_with_config(&config).await.map_err(broken)
}

fn fresh_id() -> Result<String, CallError> {
    let mut random = [0; ID_LETTERS];
    getrandom::fill(&mut random).map_err(broken)?;
    Ok(random.iter().map(|byte| char::from(b'A' + byte % 26)).collect())
}

/// Whatever goes wrong with keys on disk or in memory.
pub(super) fn broken(error: impl std::fmt::Display) -> CallError {
    CallError::Keys(error.to_string())
}

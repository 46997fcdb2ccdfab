//! Which rooms are encrypted, and who reads along there. A room that was encrypted once stays so,
//! whatever the homeserver says later; what else is known of a room is asked again now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use matrix_sdk_crypto::EncryptionSettings;
use ruma::OwnedUserId;
use ruma::events::room::history_visibility::HistoryVisibility;
use serde_json::Value;

use crate::base::Kind;
use crate::matrix::homeserver::{CallError, Homeserver};
use crate::matrix::proto::names::Names;

/// Rooms of which something is remembered.
const ROOMS: usize = 10_000;
/// How long a room counts as not encrypted without asking again.
const OPEN_FOR: Duration = Duration::from_secs(60);
/// How long a room's members count without asking again: we are told of changes, but a homeserver may
/// lose what it wanted to tell.
const MEMBERS_FOR: Duration = Duration::from_secs(5 * 60);
/// Messages and time that one key of a room lasts at the most, whatever the room says.
const KEY_MESSAGES: u64 = 10_000;

/// Who reads along in an encrypted room, and how its keys are to be handled.
pub(super) struct Readers {
    pub users: Vec<OwnedUserId>,
    pub settings: EncryptionSettings,
}

/// See the module.
pub(super) struct Rooms {
    sealed: Mutex<BTreeSet<String>>,
    open: Mutex<BTreeMap<String, Instant>>,
    readers: Mutex<BTreeMap<String, (Arc<Readers>, Instant)>>,
}

impl Rooms {
    /// Rooms of which these are known to be encrypted.
    pub fn new(sealed: BTreeSet<String>) -> Self {
        let (open, readers) = Default::default();
        Self { sealed: Mutex::new(sealed), open, readers }
    }

    /// Whether a room is encrypted, as far as known; `None` if the homeserver has to be asked.
    pub fn is_sealed(&self, room: &str) -> Option<bool> {
        if hold(&self.sealed).contains(room) {
            return Some(true);
        }
        hold(&self.open).get(room).is_some_and(|asked| asked.elapsed() < OPEN_FOR).then_some(false)
    }

    /// The room is encrypted, for good. False if that was known.
    pub fn seal(&self, room: &str) -> bool {
        hold(&self.open).remove(room);
        self.changed(room);
        hold(&self.sealed).insert(room.to_owned())
    }

    /// The room is not encrypted now.
    pub fn is_open(&self, room: &str) {
        let mut open = hold(&self.open);
        if open.len() >= ROOMS {
            open.clear();
        }
        open.insert(room.to_owned(), Instant::now());
    }

    /// Somebody came or went, or what newcomers may read is other now.
    pub fn changed(&self, room: &str) {
        hold(&self.readers).remove(room);
    }

    /// Who reads along.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn readers(
        &self,
        hs: &Homeserver,
        names: &Names,
        room: &str,
    ) -> Result<Arc<Readers>, CallError> {
        let known = hold(&self.readers).get(room).cloned();
        if let Some((readers, _)) = known.filter(|(_, asked)| asked.elapsed() < MEMBERS_FOR) {
            return Ok(readers);
        }
        let asked = Instant::now();
        let members = match hs.members(room).await {
            Err(error) if error.kind() == Kind::Denied => {
                hs.join(room, None).await?;
                hs.members(room).await?
            }
            other => other?,
        };
        let rules = hs.state(room, "m.room.encryption", "").await?;
        let history = hs.state(room, "m.room.history_visibility", "").await?;
        let settings = settings(&rules, &history);
        let users = readers(&members, names, settings.history_visibility != HistoryVisibility::Joined);
        let readers = Arc::new(Readers { users, settings });
        let mut known = hold(&self.readers);
        if known.len() >= ROOMS {
            known.clear();
        }
        known.insert(room.to_owned(), (readers.clone(), asked));
        Ok(readers)
    }
}

/// Those who are in the room and, where they may, those who are invited. Ghosts read nothing.
fn readers(members: &[Value], names: &Names, invited: bool) -> Vec<OwnedUserId> {
    let reads = |membership: &str| membership == "join" || (invited && membership == "invite");
    let reading =
        members.iter().filter(|member| reads(member["content"]["membership"].as_str().unwrap_or_default()));
    let users = reading.filter_map(|member| member["state_key"].as_str());
    users.filter(|user| !names.is_ours(user)).filter_map(|user| user.try_into().ok()).collect()
}

fn settings(rules: &Value, history: &Value) -> EncryptionSettings {
    let mut settings = EncryptionSettings::default();
    if let Some(period) = rules["rotation_period_ms"].as_u64() {
        settings.rotation_period = settings.rotation_period.min(Duration::from_millis(period));
    }
    if let Some(messages) = rules["rotation_period_msgs"].as_u64() {
        settings.rotation_period_msgs = messages.min(KEY_MESSAGES);
    }
    if let Some(visibility) = history["history_visibility"].as_str() {
        settings.history_visibility = visibility.into();
    }
    settings
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_room_that_was_encrypted_stays_so() {
        let rooms = Rooms::new(BTreeSet::from(["!old".to_owned()]));
        assert_eq!((rooms.is_sealed("!old"), rooms.is_sealed("!r")), (Some(true), None));
        rooms.is_open("!r");
        assert_eq!(rooms.is_sealed("!r"), Some(false));
        assert!(rooms.seal("!r") && !rooms.seal("!r"));
        rooms.is_open("!r");
        assert_eq!(rooms.is_sealed("!r"), Some(true));
    }

    #[test]
    fn who_reads_along() {
        let names = Names::new("x", "multichatbot");
        let member =
            |user: &str, membership: &str| json!({"state_key": user, "content": {"membership": membership}});
        let members = [
            member("@a:x", "join"),
            member("@b:x", "invite"),
            member("@c:x", "ban"),
            member("@multichatbot:x", "join"),
            member("@_multichat_g:x", "join"),
            json!({"state_key": "nonsense", "content": {"membership": "join"}}),
        ];
        let users =
            |invited| readers(&members, &names, invited).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(users(true), ["@a:x", "@b:x"]);
        assert_eq!(users(false), ["@a:x"]);
    }

    #[test]
    fn keys_last_no_longer_than_the_room_says() {
        let default = EncryptionSettings::default();
        let read = settings(
            &json!({"rotation_period_ms": 1000, "rotation_period_msgs": 7}),
            &json!({"history_visibility": "joined"}),
        );
        assert_eq!(read.rotation_period, Duration::from_secs(1));
        assert_eq!((read.rotation_period_msgs, read.history_visibility), (7, HistoryVisibility::Joined));
        let read = settings(&json!({"rotation_period_ms": u64::MAX}), &Value::Null);
        assert_eq!(
            (read.rotation_period, read.rotation_period_msgs),
            (default.rotation_period, default.rotation_period_msgs)
        );
    }
}

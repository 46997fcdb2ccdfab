//! Encrypted rooms, as far as it goes without keys: what a transaction brings for devices of ours, and
//! an event as it reads once it was opened. It knows no key and opens nothing.

use std::collections::BTreeMap;

use serde_json::Value;

/// One-time keys below which a device makes new ones.
pub const FEW_KEYS: u64 = 25;
/// The one kind of one-time key that is in use.
const SIGNED_KEYS: &str = "signed_curve25519";
/// What of an encrypted event may be a message. Nothing else counts that comes out of one: state is never
/// encrypted, so whoever puts it there wants to deceive.
const INSIDE: [&str; 5] =
    ["m.room.message", "m.sticker", "m.reaction", "m.poll.start", "org.matrix.msc3381.poll.start"];

/// A user and one of their devices.
pub type Device = (String, String);

/// What a transaction brings for devices (MSC2409, MSC3202, MSC4203).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ForDevices {
    /// Events sent to a device, in order.
    pub events: BTreeMap<Device, Vec<Value>>,
    /// Users whose devices are others now.
    pub changed: Vec<String>,
    /// How many one-time keys of a device the homeserver still has.
    pub counts: BTreeMap<Device, u64>,
    /// Devices whose fallback key nobody used yet.
    pub unused_fallback: BTreeMap<Device, bool>,
}

impl ForDevices {
    /// Reads the whole of a transaction. What is malformed is left out: it is of no use to a device.
    pub fn read(transaction: &Value) -> Self {
        let mut read = Self::default();
        let sent = first(transaction, &["to_device", "de.sorunome.msc2409.to_device"]);
        for event in sent.as_array().into_iter().flatten() {
            let (Some(user), Some(device)) = (event["to_user_id"].as_str(), event["to_device_id"].as_str())
            else {
                continue;
            };
            let mut event = event.clone();
            if let Some(event) = event.as_object_mut() {
                event.remove("to_user_id");
                event.remove("to_device_id");
            }
            read.events.entry((user.to_owned(), device.to_owned())).or_default().push(event);
        }
        let lists = first(transaction, &["device_lists", "org.matrix.msc3202.device_lists"]);
        let changed = lists["changed"].as_array().into_iter().flatten();
        read.changed = changed.filter_map(|user| user.as_str().map(str::to_owned)).collect();
        let counts = [
            "device_one_time_keys_count",
            "org.matrix.msc3202.device_one_time_keys_count",
            "org.matrix.msc3202.device_one_time_key_counts",
        ];
        each_device(first(transaction, &counts), |device, counts| {
            // The homeserver leaves out what it has none of.
            read.counts.insert(device, counts[SIGNED_KEYS].as_u64().unwrap_or(0));
        });
        let unused =
            ["device_unused_fallback_key_types", "org.matrix.msc3202.device_unused_fallback_key_types"];
        each_device(first(transaction, &unused), |device, kinds| {
            let unused = kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == SIGNED_KEYS));
            read.unused_fallback.insert(device, unused);
        });
        read
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Users who have something to do about it: events came, or keys run out.
    pub fn concerned(&self) -> impl Iterator<Item = &str> {
        let few = self.counts.iter().filter(|(_, count)| **count < FEW_KEYS).map(|(device, _)| device);
        let used = self.unused_fallback.iter().filter(|(_, unused)| !**unused).map(|(device, _)| device);
        self.events.keys().chain(few).chain(used).map(|(user, _)| user.as_str())
    }
}

/// The first of these keys that is there.
fn first<'a>(transaction: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().filter_map(|key| transaction.get(key)).next().unwrap_or(&Value::Null)
}

fn each_device(map: &Value, mut take: impl FnMut(Device, &Value)) {
    for (user, devices) in map.as_object().into_iter().flatten() {
        for (device, value) in devices.as_object().into_iter().flatten() {
            take((user.clone(), device.clone()), value);
        }
    }
}

/// An encrypted event as it reads opened. Everything but type and content is the room's word, not that of
/// whoever encrypted it. `None` if what is inside does not count.
pub fn opened(event: &Value, inside: &Value) -> Option<Value> {
    let kind = inside["type"].as_str().filter(|kind| INSIDE.contains(kind))?;
    let mut opened = event.clone();
    opened["type"] = kind.into();
    opened["content"] = inside["content"].clone();
    Some(opened)
}

/// The session that an event was encrypted in.
pub fn session(event: &Value) -> Option<&str> {
    event["content"]["session_id"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_transaction_brings_for_devices() {
        let device = |user: &str| (user.to_owned(), "D".to_owned());
        let transaction = json!({
            "events": [],
            "de.sorunome.msc2409.to_device": [
                {"type": "m.dummy", "sender": "@a:x", "content": {}, "to_user_id": "@b:x", "to_device_id": "D"},
                {"type": "m.nobody", "content": {}},
            ],
            "org.matrix.msc3202.device_lists": {"changed": ["@a:x", 7], "left": []},
            "org.matrix.msc3202.device_one_time_keys_count":
                {"@b:x": {"D": {"signed_curve25519": 40}}, "@c:x": {"D": {}}},
            "org.matrix.msc3202.device_unused_fallback_key_types":
                {"@b:x": {"D": ["signed_curve25519"]}, "@d:x": {"D": []}},
        });
        let read = ForDevices::read(&transaction);
        assert_eq!(
            read.events,
            BTreeMap::from([(
                device("@b:x"),
                vec![json!({"type": "m.dummy", "sender": "@a:x", "content": {}})]
            )])
        );
        assert_eq!(read.changed, ["@a:x"]);
        assert_eq!(read.counts, BTreeMap::from([(device("@b:x"), 40), (device("@c:x"), 0)]));
        assert_eq!(read.unused_fallback, BTreeMap::from([(device("@b:x"), true), (device("@d:x"), false)]));
        assert_eq!(read.concerned().collect::<Vec<_>>(), ["@b:x", "@c:x", "@d:x"]);
        for nonsense in
            [json!(null), json!([]), json!({"events": []}), json!({"to_device": 7, "device_lists": []})]
        {
            assert!(ForDevices::read(&nonsense).is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn only_messages_come_out_of_what_was_encrypted() {
        let event = json!({"type": "m.room.encrypted", "event_id": "$1", "room_id": "!r:x", "sender": "@a:x",
                           "origin_server_ts": 7, "content": {"session_id": "s"}});
        assert_eq!(session(&event), Some("s"));
        let inside = json!({"type": "m.room.message", "content": {"body": "hi"}, "sender": "@evil:x",
                            "state_key": "", "event_id": "$2"});
        let opened_message = opened(&event, &inside).unwrap();
        assert_eq!(
            opened_message,
            json!({"type": "m.room.message", "event_id": "$1", "room_id": "!r:x", "sender": "@a:x",
                   "origin_server_ts": 7, "content": {"body": "hi"}})
        );
        for kind in ["m.room.member", "m.room.power_levels", "m.room.redaction", "m.room.encrypted"] {
            assert_eq!(opened(&event, &json!({"type": kind, "content": {}})), None, "{kind}");
        }
    }
}

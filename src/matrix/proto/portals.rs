//! Rooms and channels: which room carries which channel, what a new portal looks like, and who
//! may link a room. Facts in, decisions out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::Names;
use crate::base::ChannelId;
use crate::chat::message::Link;
use crate::chat::view::ChannelView;

/// A channel as far as a room needs to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub channel: ChannelId,
    /// Its name on this node.
    pub name: String,
}

/// Which room carries which channel.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Portals {
    by_room: BTreeMap<String, Carried>,
}

impl Portals {
    /// What the links of these channels say.
    pub fn of(channels: &[ChannelView]) -> Self {
        let mut by_room = BTreeMap::new();
        for view in channels {
            for link in &view.links {
                if let Link::Matrix { room } = link {
                    by_room.insert(room.clone(), Carried { channel: view.id, name: view.name.clone() });
                }
            }
        }
        Self { by_room }
    }

    /// The channel that a room carries.
    pub fn channel(&self, room: &str) -> Option<&Carried> {
        self.by_room.get(room)
    }

    /// A room carries a channel from now on.
    pub fn link(&mut self, room: &str, carried: Carried) {
        self.by_room.insert(room.to_owned(), carried);
    }

    /// A room carries nothing any more.
    pub fn unlink(&mut self, room: &str) {
        self.by_room.remove(room);
    }
}

/// The first room a channel is linked with.
pub fn room_of(view: &ChannelView) -> Option<&str> {
    view.links.iter().find_map(|link| match link {
        Link::Matrix { room } => Some(room.as_str()),
        Link::Irc { .. } => None,
    })
}

/// The body of `createRoom` for a channel's portal.
pub fn create_room(view: &ChannelView) -> Value {
    let mut body = json!({
        "room_alias_name": Names::alias_localpart(&view.name),
        "name": view.name,
        "preset": "public_chat",
    });
    if !view.topic.is_empty() {
        body["topic"] = view.topic.clone().into();
    }
    body
}

/// Power that a room's user needs to link it.
const LINK_POWER: i64 = 50;

/// Whether a user has the power to link a room, from its `m.room.create` event (whole, with
/// sender) and the content of its `m.room.power_levels`. In rooms of version 12 and later the
/// creators stand above all levels and are not listed among them.
pub fn may_link(create: &Value, power_levels: &Value, user: &str) -> bool {
    let content = &create["content"];
    let version = content["room_version"].as_str().and_then(|v| v.parse::<u32>().ok()).unwrap_or(1);
    let is_creator = create["sender"].as_str() == Some(user)
        || content["additional_creators"].as_array().is_some_and(|more| more.iter().any(|c| c == user));
    if version >= 12 && is_creator {
        return true;
    }
    if !power_levels.is_object() {
        return is_creator;
    }
    let level = |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|s| s.trim().parse().ok()));
    level(&power_levels["users"][user]).or_else(|| level(&power_levels["users_default"])).unwrap_or(0)
        >= LINK_POWER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    fn view(name: &str, topic: &str, rooms: &[&str]) -> ChannelView {
        ChannelView {
            id: ChannelId([name.len() as u8; 32]),
            name: name.into(),
            topic: topic.into(),
            created_at: Timestamp(0),
            policy: Default::default(),
            members: Vec::new(),
            links: rooms.iter().map(|room| Link::Matrix { room: (*room).into() }).collect(),
        }
    }

    #[test]
    fn rooms_and_channels() {
        let mut portals = Portals::of(&[view("#rust", "", &["!a", "!b"]), view("#go", "", &[])]);
        assert_eq!(portals.channel("!b").map(|c| c.name.as_str()), Some("#rust"));
        assert_eq!(portals.channel("!c"), None);
        portals.link("!c", Carried { channel: ChannelId([3; 32]), name: "#go".into() });
        portals.unlink("!a");
        assert_eq!(portals.channel("!c").map(|c| c.name.as_str()), Some("#go"));
        assert_eq!(portals.channel("!a"), None);
    }

    #[test]
    fn a_portal_is_public_and_bears_the_alias() {
        assert_eq!(
            create_room(&view("#rust", "Ferris", &[])).to_string(),
            r##"{"name":"#rust","preset":"public_chat","room_alias_name":"_multichat_rust","topic":"Ferris"}"##
        );
        assert_eq!(create_room(&view("#go~k3f9", "", &[]))["room_alias_name"], "_multichat_go~k3f9");
    }

    #[test]
    fn power_to_link() {
        let create = |version: &str| json!({"sender": "@founder:x", "content": {"room_version": version, "additional_creators": ["@second:x"]}});
        let levels = json!({"users": {"@mod:x": 50, "@text:x": "100", "@low:x": 49}, "users_default": 0});
        let check = |user: &str, old: bool, v12: bool| {
            assert_eq!(may_link(&create("11"), &levels, user), old, "{user}");
            assert_eq!(may_link(&create("12"), &levels, user), v12, "{user}");
        };
        check("@mod:x", true, true);
        check("@text:x", true, true);
        check("@low:x", false, false);
        check("@nobody:x", false, false);
        check("@founder:x", false, true);
        check("@second:x", false, true);
        assert!(may_link(&create("11"), &Value::Null, "@founder:x"), "no levels: the creator rules");
        assert!(!may_link(&Value::Null, &json!({"users": 7}), "@mod:x"), "nonsense gives no power");
    }
}

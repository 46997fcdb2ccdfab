//! Rooms and channels: which room carries which channel, and what a new portal looks like.
//! Facts in, decisions out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::names::Names;
use crate::base::ChannelId;
use crate::chat::flow::Flow;
use crate::chat::message::Link;
use crate::chat::view::ChannelView;

/// A channel as far as a room needs to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub channel: ChannelId,
    /// Its name on this node.
    pub name: String,
    /// Where its messages may go; `None` where that has to be asked first.
    pub flow: Option<Flow>,
}

impl Carried {
    /// What a room needs to know of a channel.
    pub fn of(view: &ChannelView) -> Self {
        Self { channel: view.id, name: view.name.clone(), flow: Some(view.policy.flow.clone()) }
    }
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
                    by_room.insert(room.clone(), Carried::of(view));
                }
            }
        }
        Self { by_room }
    }

    /// The channel that a room carries.
    pub fn channel(&self, room: &str) -> Option<&Carried> {
        self.by_room.get(room)
    }

    /// A room that fits, and what it carries.
    pub fn find(&self, fits: impl Fn(&str) -> bool) -> Option<(String, Carried)> {
        let found = self.by_room.iter().find(|(room, _)| fits(room))?;
        Some((found.0.clone(), found.1.clone()))
    }

    /// A room carries a channel from now on.
    pub fn link(&mut self, room: &str, carried: Carried) {
        self.by_room.insert(room.to_owned(), carried);
    }

    /// A channel's messages may go elsewhere from now on.
    pub fn flows(&mut self, channel: &ChannelId, flow: &Flow) {
        for carried in self.by_room.values_mut().filter(|carried| carried.channel == *channel) {
            carried.flow = Some(flow.clone());
        }
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
        portals.link("!c", Carried { channel: ChannelId([3; 32]), name: "#go".into(), flow: None });
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
}

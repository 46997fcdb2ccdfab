//! What clients do with channels: join, leave, set the topic. Every act is a wish to the node; what
//! comes of it is shown when its news comes back.

use super::{Hub, Request, is_channel, shorten};
use crate::base::ChannelId;
use crate::chat::channel::Change;
use crate::chat::intent::{ChannelRef, Intent};
use crate::irc::proto::isupport::TOPIC_LINE_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;
use crate::node::Receipt;

/// Channels that one JOIN or PART may name; the rest is refused aloud.
const CHANNELS_PER_LINE: usize = 50;

impl Hub {
    pub(super) fn join(&mut self, client: ClientId, line: &Line) {
        if line.params[0] == "0" {
            return self.part_all(client);
        }
        let keys: Vec<&str> = line.params.get(1).map_or(Vec::new(), |keys| keys.split(',').collect());
        let names = line.params[0].split(',').filter(|name| !name.is_empty());
        for (index, name) in names.enumerate() {
            if index == CHANNELS_PER_LINE {
                return self.reply(client, 407, &[name], "Too many channels in one line");
            }
            self.join_one(client, name, keys.get(index).copied());
        }
    }

    fn part_all(&mut self, client: ClientId) {
        let attached = self.sessions.get(&client).map(|session| session.channels.keys().copied());
        for channel in attached.into_iter().flatten().collect::<Vec<_>>() {
            let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { continue };
            let intent = Intent::LeaveChannel { channel: ChannelRef::Id(channel), reason: String::new() };
            self.submit(client, Wanted::Part, &name, intent);
        }
    }

    fn join_one(&mut self, client: ClientId, name: &str, key: Option<&str>) {
        if !is_channel(name) {
            let why = "A channel name is # and 1 to 63 bytes without spaces, commas, colons or ~";
            return self.reply(client, 403, &[name], why);
        }
        if let Some((id, room)) = self.room(name) {
            if self.sessions.get(&client).is_some_and(|session| session.channels.contains_key(&id)) {
                return;
            }
            let invited = self.user_of(client).is_some_and(|user| user.invited.contains(&id));
            let returning = self.is_member(client, room);
            let refused = room.modes.keeps_out(&self.face(client), key, room.members.len(), invited);
            if let Some((code, why)) = refused.filter(|_| !returning) {
                let name = room.name.clone();
                return self.reply(client, code, &[&name], why);
            }
        }
        // A name with a short id can only be a channel that is there.
        let create = !name.contains('~');
        let channel = ChannelRef::Name(name.to_lowercase());
        self.submit(client, Wanted::Join, name, Intent::JoinChannel { channel, create });
    }

    pub(super) fn part(&mut self, client: ClientId, line: &Line) {
        let reason = line.params.get(1).cloned().unwrap_or_default();
        let names = line.params[0].split(',').filter(|name| !name.is_empty());
        for (index, name) in names.enumerate() {
            if index == CHANNELS_PER_LINE {
                return self.reply(client, 407, &[name], "Too many channels in one line");
            }
            if let Some(channel) = self.own_channel(client, name) {
                let intent = Intent::LeaveChannel { channel, reason: reason.clone() };
                self.submit(client, Wanted::Part, name, intent);
            }
        }
    }

    pub(super) fn topic(&mut self, client: ClientId, line: &Line) {
        let name = &line.params[0];
        let Some(topic) = line.params.get(1) else {
            return match self.room(name).map(|(id, room)| (id, self.may_see(client, room))) {
                Some((id, true)) => self.show_topic(client, id, true),
                Some((_, false)) => self.reply(client, 442, &[name], "You're not on that channel"),
                None => self.reply(client, 403, &[name], "No such channel"),
            };
        };
        if let Some(channel) = self.own_channel(client, name) {
            let topic = shorten(topic, TOPIC_LINE_BYTES);
            self.submit(
                client,
                Wanted::Topic,
                name,
                Intent::UpdateChannel { channel, change: Change::Topic(topic) },
            );
        }
    }

    pub(super) fn show_topic(&mut self, client: ClientId, channel: ChannelId, asked: bool) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let (name, topic, by) = (room.name.clone(), room.topic.clone(), room.topic_by.clone());
        if topic.is_empty() {
            if asked {
                self.reply(client, 331, &[&name], "No topic is set");
            }
            return;
        }
        self.reply(client, 332, &[&name], &topic);
        if let Some((nick, at)) = by {
            let line = self.numeric(client, 333, &[&name, &nick, &(at.0 / 1000).to_string()]);
            self.emit(client, line);
        }
    }

    /// Whether a client may know what is in a channel: a member may, and anybody unless it is secret.
    pub(super) fn may_see(&self, client: ClientId, room: &super::Room) -> bool {
        !room.modes.has('s') || room.attached.contains(&client) || self.is_member(client, room)
    }

    /// The channel by that name, if the client is on it; else says that it is not.
    pub(super) fn own_channel(&mut self, client: ClientId, name: &str) -> Option<ChannelRef> {
        let room = self.room(name).map(|(id, room)| (id, room.attached.contains(&client)));
        match room {
            Some((id, true)) => return Some(ChannelRef::Id(id)),
            _ if self.is_joining(client, name) => return Some(ChannelRef::Name(name.to_lowercase())),
            Some(_) => self.reply(client, 442, &[name], "You're not on that channel"),
            None => self.reply(client, 403, &[name], "No such channel"),
        }
        None
    }

    /// Whether the client's JOIN of it is under way.
    pub(super) fn is_joining(&self, client: ClientId, name: &str) -> bool {
        let joins = |request: &Request| request.client == client && request.wanted == Wanted::Join;
        self.requests.values().any(|r| joins(r) && r.target.to_lowercase() == name.to_lowercase())
    }

    /// The node accepted a wish. Where an event came of it, the rest waits for its news.
    pub(super) fn accepted(&mut self, tag: u64, receipt: &Receipt) {
        let is_event = receipt.event.is_some();
        let Some(request) = self.requests.remove(&tag) else { return };
        self.within(request.group, |hub| match request.wanted {
            // News come before the receipt. Where none came, it counts for nothing, or not yet.
            Wanted::Grant | Wanted::Kick | Wanted::Ban | Wanted::Policy if is_event => {
                let why = "Noted; it acts once enough of those of that rank say the same";
                hub.standard(request.client, "NOTE", &["MODE", "PENDING", &request.target], why);
                hub.do_beside(&request);
            }
            _ if is_event && request.wanted != Wanted::Nick => {}
            Wanted::Nick => hub.renamed_self(&request.person, &request.target),
            Wanted::Join => {
                let Some(channel) = receipt.channel else { return };
                hub.find_identity(&request.person, channel);
                hub.attach_all(&request.person, Some(request.client), channel, None);
            }
            _ => hub.do_beside(&request),
        });
    }
}

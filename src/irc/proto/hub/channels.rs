//! What clients do with channels: join, leave, speak, set the topic. Every act is a wish to the
//! node; what comes of it is shown when its news comes back.

use super::registration::SERVICE;
use super::{Hub, Request, is_channel};
use crate::base::EventId;
use crate::chat::channel::Change;
use crate::chat::intent::{ChannelRef, Intent};
use crate::irc::proto::isupport::TARGETS;
use crate::irc::proto::line::Line;
use crate::irc::proto::render;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::ClientId;
use crate::node::Receipt;

/// Channels that one JOIN or PART may name; the rest is refused aloud.
const CHANNELS_PER_LINE: usize = 50;

impl Hub {
    pub(super) fn join(&mut self, client: ClientId, params: &[String]) {
        if params[0] == "0" {
            let attached = self.sessions.get(&client).map(|session| session.channels.keys().copied());
            let channels: Vec<_> = attached.into_iter().flatten().collect();
            for channel in channels {
                let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { continue };
                let intent = Intent::LeaveChannel { channel: ChannelRef::Id(channel), reason: String::new() };
                self.submit(client, Wanted::Part, &name, intent);
            }
            return;
        }
        for (index, name) in params[0].split(',').filter(|name| !name.is_empty()).enumerate() {
            if index == CHANNELS_PER_LINE {
                return self.reply(client, 407, &[name], "Too many channels in one line");
            }
            if !is_channel(name) {
                let why = "A channel name is # and 1 to 63 bytes without spaces, commas, colons or ~";
                self.reply(client, 403, &[name], why);
                continue;
            }
            if let Some((id, _)) = self.room(name)
                && self.sessions.get(&client).is_some_and(|session| session.channels.contains_key(&id))
            {
                continue;
            }
            // A name with a short id can only be a channel that is there.
            let create = !name.contains('~');
            let channel = ChannelRef::Name(name.to_lowercase());
            self.submit(client, Wanted::Join, name, Intent::JoinChannel { channel, create });
        }
    }

    pub(super) fn part(&mut self, client: ClientId, params: &[String]) {
        let reason = params.get(1).cloned().unwrap_or_default();
        for (index, name) in params[0].split(',').filter(|name| !name.is_empty()).enumerate() {
            if index == CHANNELS_PER_LINE {
                return self.reply(client, 407, &[name], "Too many channels in one line");
            }
            if let Some(channel) = self.own_channel(client, name) {
                let intent = Intent::LeaveChannel { channel, reason: reason.clone() };
                self.submit(client, Wanted::Part, name, intent);
            }
        }
    }

    pub(super) fn topic(&mut self, client: ClientId, params: &[String]) {
        let name = &params[0];
        let Some(topic) = params.get(1) else {
            return match self.room(name).map(|(id, _)| id) {
                Some(id) => self.show_topic(client, id),
                None => self.reply(client, 403, &[name], "No such channel"),
            };
        };
        if let Some(channel) = self.own_channel(client, name) {
            let intent = Intent::UpdateChannel { channel, change: Change::Topic(topic.clone()) };
            self.submit(client, Wanted::Topic, name, intent);
        }
    }

    /// The channel by that name, if the client is on it; else says that it is not.
    fn own_channel(&mut self, client: ClientId, name: &str) -> Option<ChannelRef> {
        let room = self.room(name).map(|(id, room)| (id, room.attached.contains(&client)));
        match room {
            Some((id, true)) => return Some(ChannelRef::Id(id)),
            _ if self.is_joining(client, name) => return Some(ChannelRef::Name(name.to_lowercase())),
            Some(_) => self.reply(client, 442, &[name], "You're not on that channel"),
            None => self.reply(client, 403, &[name], "No such channel"),
        }
        None
    }

    /// Whether the client's JOIN of it is under way. What it sends meanwhile goes after it: the
    /// node handles wishes in their order, and so no client need wait before it speaks.
    fn is_joining(&self, client: ClientId, name: &str) -> bool {
        let joins = |request: &Request| request.client == client && request.wanted == Wanted::Join;
        self.requests.values().any(|r| joins(r) && r.target.to_lowercase() == name.to_lowercase())
    }

    pub(super) fn say(&mut self, client: ClientId, line: &Line) {
        let Some(targets) = line.params.first().filter(|targets| !targets.is_empty()) else {
            return self.reply(client, 411, &[], &format!("No recipient given ({})", line.command));
        };
        let Some(text) = line.params.get(1).filter(|text| !text.is_empty()) else {
            return self.reply(client, 412, &[], "No text to send");
        };
        if let Some(session) = self.sessions.get_mut(&client) {
            session.spoke_at = self.now;
        }
        for (index, target) in targets.split(',').filter(|target| !target.is_empty()).enumerate() {
            if index == TARGETS {
                return self.reply(client, 407, &[target], "Too many targets in one line");
            }
            if target.starts_with('#') {
                self.say_in(client, line, target, text);
            } else {
                self.say_to(client, target);
            }
        }
    }

    fn say_in(&mut self, client: ClientId, line: &Line, target: &str, text: &str) {
        let channel = match self.room(target) {
            Some((id, _)) => ChannelRef::Id(id),
            None if self.is_joining(client, target) => ChannelRef::Name(target.to_lowercase()),
            None => return self.reply(client, 403, &[target], "No such channel"),
        };
        // A CTCP request to a channel asks every client there about itself: it is not carried.
        let Some(mut content) = render::content(line.command == "NOTICE", text) else { return };
        if content.body.trim().is_empty() {
            return self.reply(client, 412, &[], "No text to send");
        }
        let reply = line.tagged("+draft/reply").or_else(|| line.tagged("+reply"));
        content = content.replying(reply.and_then(|event| event.parse::<EventId>().ok()));
        let intent = Intent::SendMessage { channel, content };
        self.submit(client, Wanted::Say, target, intent);
    }

    /// Direct messages are not part of Multichat yet; the sender is told so rather than left to
    /// believe that something arrived.
    fn say_to(&mut self, client: ClientId, target: &str) {
        if target.eq_ignore_ascii_case(SERVICE) {
            let server = self.settings.server.clone();
            let line =
                Line::from(format!("{SERVICE}!{SERVICE}@{server}"), "NOTICE").param(self.called(client));
            return self.emit(
                client,
                line.text("/join #name joins a channel or makes it; /list shows those there are. Direct messages are not carried yet."),
            );
        }
        match self.names.holder(target) {
            Some(_) => {
                let why = "Direct messages are not carried yet; nothing was sent";
                self.reply(client, 531, &[target], why);
            }
            None => self.reply(client, 401, &[target], "No such nick"),
        }
    }

    /// The node accepted a wish. Where an event came of it, the rest waits for its news.
    pub(super) fn accepted(&mut self, tag: u64, receipt: &Receipt) {
        let Some(request) = self.requests.get_mut(&tag) else { return };
        request.accepted = true;
        if receipt.event.is_some() && request.wanted != Wanted::Nick {
            return;
        }
        let Some(request) = self.requests.remove(&tag) else { return };
        self.respond(&request, |hub| match request.wanted {
            Wanted::Nick => hub.renamed_self(&request.account, &request.target),
            Wanted::Join => {
                let Some(channel) = receipt.channel else { return };
                hub.find_identity(&request.account, channel);
                hub.attach_all(&request.account, Some(request.client), channel, None);
            }
            Wanted::Part | Wanted::Say | Wanted::Topic => {}
        });
    }
}

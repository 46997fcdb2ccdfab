//! METADATA: what people and channels say of themselves, and who is told of it (IRCv3
//! `draft/metadata-3`).
//!
//! It is this server's: kept by it and shown to its own clients. People from elsewhere have the name
//! that they go by as `display-name`, which nobody here can change. Who does not stay takes what they
//! said of themselves along.

use std::collections::BTreeSet;

use super::{Effect, Hub, Room, is_channel, same_nick};
use crate::base::{ChannelId, Identity, codec};
use crate::chat::view::{Member, News};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::casemap::fold;
use crate::irc::proto::line::Line;
use crate::irc::proto::metadata::{self, Full, Owner, SUBSCRIPTIONS, VALUE_BYTES, Values};
use crate::irc::proto::names::Holder;
use crate::irc::proto::session::ClientId;

/// Keys in one answering line.
const KEYS_PER_LINE: usize = 6;
/// Lines that a subscription or a JOIN brings at once; for the rest the client asks.
const SYNCED_LINES: usize = 1000;

/// What a target means.
#[derive(Clone)]
enum Whose {
    /// Somebody or something that is kept here.
    Kept(Owner),
    /// A person from elsewhere.
    Elsewhere(Identity),
    /// A client that is not registered yet.
    Unregistered,
}

impl Hub {
    pub(super) fn metadata(&mut self, client: ClientId, line: &Line) {
        let [target, wish, rest @ ..] = line.params.as_slice() else { return };
        if self.person_of(client).is_none() && !self.has(client, Cap::Metadata) {
            return self.reply(client, 451, &[], "You have not registered: send NICK and USER first");
        }
        let wish = wish.to_ascii_uppercase();
        match wish.as_str() {
            "SUB" => return self.subscribe(client, rest),
            "UNSUB" => return self.unsubscribe(client, rest),
            "SUBS" => return self.show_subscriptions(client),
            "GET" | "LIST" | "SYNC" | "SET" | "CLEAR" => {}
            _ => return self.refuse(client, &["INVALID_SUBCOMMAND", &wish], "There is no such subcommand"),
        }
        let Some((whose, shown)) = self.whose(client, target) else {
            return self.refuse(client, &["INVALID_TARGET", target], "There is nobody and nothing to see");
        };
        match (wish.as_str(), rest) {
            ("GET", [_, ..]) => self.get_values(client, (&whose, &shown), rest),
            ("SET", [key, value @ ..]) => {
                let value = value.first().map(String::as_str).filter(|value| !value.is_empty());
                self.set_value(client, (&whose, &shown), key, value);
            }
            ("GET" | "SET", []) => self.reply(client, 461, &["METADATA"], "Not enough parameters"),
            ("LIST", _) => self.list_values(client, (&whose, &shown)),
            ("CLEAR", _) => self.clear_values(client, (&whose, &shown)),
            _ => self.sync(client, (&whose, &shown)),
        }
    }

    fn refuse(&mut self, client: ClientId, params: &[&str], why: &str) {
        let params: Vec<&str> = ["METADATA"].iter().chain(params).copied().collect();
        self.standard(client, "FAIL", &params, why);
    }

    /// What a client means by a target, and how that is called; `None` if it may not see it.
    fn whose(&self, client: ClientId, target: &str) -> Option<(Whose, String)> {
        let called = self.called(client);
        let own = target == "*" || same_nick(target, &called);
        let Some(person) = self.person_of(client) else {
            return own.then_some((Whose::Unregistered, called));
        };
        if own {
            return Some((Whose::Kept(Owner::Person(person.to_owned())), called));
        }
        if is_channel(target) {
            let (id, room) = self.room(target)?;
            let readable = self.may_read_of(client, room);
            return readable.then(|| (Whose::Kept(Owner::Channel(id)), room.name.clone()));
        }
        if let Some(person) = self.person_named(target) {
            let nick = self.users.get(&person).map_or(target, |user| user.nick.as_str());
            return Some((Whose::Kept(Owner::Person(person.clone())), nick.to_owned()));
        }
        match self.names.holder(target)? {
            Holder::Person(identity) => Some((Whose::Elsewhere(*identity), target.to_owned())),
            Holder::Client(_) => None,
        }
    }

    /// Whether a client may read what a channel says of itself: who is in it, and of one that is
    /// neither secret nor by invitation, everybody.
    fn may_read_of(&self, client: ClientId, room: &Room) -> bool {
        let inside = room.attached.contains(&client) || self.is_member(client, room);
        inside || !(room.modes.has('s') || room.modes.has('i') || room.modes.key.is_some())
    }

    fn values(&self, client: ClientId, whose: &Whose) -> Values {
        match whose {
            Whose::Kept(owner) => self.metadata.of(owner).cloned().unwrap_or_default(),
            Whose::Elsewhere(identity) => presented(&self.profile_of(identity).display_name),
            Whose::Unregistered => {
                let said = self.sessions.get(&client).and_then(|session| session.greeting_ref());
                said.map(|greeting| greeting.metadata.clone()).unwrap_or_default()
            }
        }
    }

    /// What a member of a channel says of themselves.
    fn values_of_member(&self, member: &Member) -> Values {
        match self.persons.get(&member.identity) {
            Some(person) => self.metadata.of(&Owner::Person(person.clone())).cloned().unwrap_or_default(),
            None => presented(&member.profile.display_name),
        }
    }

    fn key_line(&self, client: ClientId, target: &str, key: &str, value: Option<&str>) -> Line {
        match value {
            Some(value) => self.numeric(client, 761, &[target, key, "*"]).text(value),
            None => self.numeric(client, 766, &[target, key]).text("The key is not set"),
        }
    }

    /// Lines that belong together.
    fn send_together(&mut self, client: ClientId, target: &str, lines: Vec<Line>) {
        if !self.has(client, Cap::Batch) {
            return lines.into_iter().for_each(|line| self.emit(client, line));
        }
        let (id, server) = (self.batch_id(), self.settings.server.clone());
        let open = Line::from(server.as_str(), "BATCH").param(format!("+{id}")).param("metadata");
        self.emit(client, open.param(target));
        for line in lines {
            self.emit(client, line.tag("batch", id.as_str()));
        }
        self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
    }

    fn get_values(&mut self, client: ClientId, (whose, shown): (&Whose, &str), keys: &[String]) {
        let values = self.values(client, whose);
        let server = self.settings.server.clone();
        let line = |key: &String| match metadata::is_key(key) {
            true => self.key_line(client, shown, key, values.get(key).map(String::as_str)),
            false => invalid_key(&server, key),
        };
        let lines = keys.iter().map(line).collect();
        self.send_together(client, shown, lines);
    }

    fn list_values(&mut self, client: ClientId, (whose, shown): (&Whose, &str)) {
        let values = self.values(client, whose);
        let lines = values.iter().map(|(key, value)| self.key_line(client, shown, key, Some(value)));
        let lines = lines.collect();
        self.send_together(client, shown, lines);
    }

    fn may_set(&self, client: ClientId, whose: &Whose) -> bool {
        match whose {
            Whose::Unregistered => true,
            Whose::Elsewhere(_) => false,
            Whose::Kept(Owner::Person(person)) => self.person_of(client) == Some(person),
            Whose::Kept(Owner::Channel(channel)) => self.moderates(client, *channel),
        }
    }

    fn set_value(
        &mut self,
        client: ClientId,
        (whose, shown): (&Whose, &str),
        key: &str,
        value: Option<&str>,
    ) {
        if !metadata::is_key(key) {
            let line = invalid_key(&self.settings.server, key);
            return self.emit(client, line);
        }
        if !self.may_set(client, whose) {
            let why = "That is for others to say";
            return self.refuse(client, &["KEY_NO_PERMISSION", shown, key], why);
        }
        if value.is_some_and(|value| value.len() > VALUE_BYTES) {
            let why = format!("A value has at most {VALUE_BYTES} bytes");
            return self.refuse(client, &["INVALID_VALUE", key], &why);
        }
        match self.put_value(client, whose, key, value) {
            Err(Full) => self.refuse(client, &["LIMIT_REACHED", shown], "There is no room for a further key"),
            Ok(false) => self.refuse(client, &["KEY_NOT_SET", shown, key], "The key is not set"),
            Ok(true) => {
                let line = self.key_line(client, shown, key, value);
                self.emit(client, line);
                self.tell_subscribers(client, (whose, shown), key, value);
            }
        }
    }

    fn put_value(
        &mut self,
        client: ClientId,
        whose: &Whose,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, Full> {
        match whose {
            Whose::Elsewhere(_) => Ok(false),
            Whose::Unregistered => match self.sessions.get_mut(&client).and_then(|s| s.greeting()) {
                Some(greeting) => metadata::put(&mut greeting.metadata, key, value),
                None => Ok(false),
            },
            Whose::Kept(owner) => {
                let changed = self.metadata.set(owner, key, value)?;
                self.keep_metadata(owner);
                Ok(changed)
            }
        }
    }

    fn clear_values(&mut self, client: ClientId, (whose, shown): (&Whose, &str)) {
        if !self.may_set(client, whose) {
            let why = "That is for others to say";
            return self.refuse(client, &["KEY_NO_PERMISSION", shown, "*"], why);
        }
        let gone = self.values(client, whose);
        for key in gone.keys() {
            let _ = self.put_value(client, whose, key, None);
        }
        let lines = gone.keys().map(|key| self.key_line(client, shown, key, None)).collect();
        self.send_together(client, shown, lines);
        for key in gone.keys() {
            self.tell_subscribers(client, (whose, shown), key, None);
        }
    }

    /// Keeps what an owner says of itself over restarts, if it outlives them itself.
    fn keep_metadata(&mut self, owner: &Owner) {
        if let Owner::Person(person) = owner
            && !self.is_kept(person)
        {
            return;
        }
        let value = self.metadata.of(owner).map(codec::encode).unwrap_or_default();
        self.effects.push(Effect::Remember { key: owner.note(), value });
    }

    /// The same, of a person who is kept from now on.
    pub(super) fn keep_metadata_of(&mut self, person: &str) {
        let owner = Owner::Person(person.to_owned());
        if self.metadata.of(&owner).is_some() {
            self.keep_metadata(&owner);
        }
    }

    /// A person has gone: nothing stays of who does not stay. Ask while they are still known.
    pub(super) fn forget_metadata_of(&mut self, person: &str) {
        let owner = Owner::Person(person.to_owned());
        if self.metadata.of(&owner).is_some() && !self.is_kept(person) {
            self.metadata.forget(&owner);
        }
    }

    /// Takes back a note; one of a channel that is no more is let go.
    pub(super) fn recall_metadata(&mut self, rest: &str, note: &[u8]) {
        match Owner::of_note(rest) {
            Some(Owner::Channel(channel)) if !self.rooms.contains_key(&channel) => {
                self.effects.push(Effect::Remember { key: format!("meta/{rest}"), value: Vec::new() });
            }
            Some(owner) => self.metadata.recall(&owner, note),
            None => {}
        }
    }

    /// Who subscribed to a key and sees its owner learns of a change; the client that made it knows.
    fn tell_subscribers(
        &mut self,
        by: ClientId,
        (whose, shown): (&Whose, &str),
        key: &str,
        value: Option<&str>,
    ) {
        let Whose::Kept(owner) = whose else { return };
        let to: BTreeSet<ClientId> = match owner {
            Owner::Channel(channel) => {
                self.rooms.get(channel).map(|room| room.attached.clone()).unwrap_or_default()
            }
            Owner::Person(person) => {
                let watching = self.monitored.get(&fold(shown)).into_iter().flatten().copied();
                self.witnesses_of(person).into_iter().chain(watching).collect()
            }
        };
        let about = self.identity(by);
        for id in to.into_iter().filter(|id| *id != by) {
            if self.subscribes(id, key) {
                let line = self.key_line(id, shown, key, value);
                let line = self.dress(line, id, about.as_ref());
                self.emit(id, line);
            }
        }
    }

    fn subscribes(&self, client: ClientId, key: &str) -> bool {
        self.has(client, Cap::Metadata)
            && self.sessions.get(&client).is_some_and(|session| session.subscriptions.contains(key))
    }

    fn subscribe(&mut self, client: ClientId, keys: &[String]) {
        let mut added = BTreeSet::new();
        for key in keys {
            if !metadata::is_key(key) {
                let line = invalid_key(&self.settings.server, key);
                self.emit(client, line);
                continue;
            }
            let Some(session) = self.sessions.get_mut(&client) else { return };
            if session.subscriptions.len() >= SUBSCRIPTIONS && !session.subscriptions.contains(key) {
                self.refuse(client, &["TOO_MANY_SUBS", key], "There is no room for a further subscription");
                break;
            }
            session.subscriptions.insert(key.clone());
            added.insert(key.clone());
        }
        self.name_keys(client, 770, &added);
        let channels = self.sessions.get(&client).map(|session| session.channels.keys().copied());
        let mut room_left = SYNCED_LINES;
        for channel in channels.into_iter().flatten().collect::<Vec<_>>() {
            self.sync_channel(client, channel, &added, &mut room_left);
        }
    }

    fn unsubscribe(&mut self, client: ClientId, keys: &[String]) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let gone: BTreeSet<String> = keys.iter().filter(|key| metadata::is_key(key)).cloned().collect();
        session.subscriptions.retain(|key| !gone.contains(key));
        self.name_keys(client, 771, &gone);
    }

    fn show_subscriptions(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get(&client) else { return };
        let keys = session.subscriptions.clone();
        self.name_keys(client, 772, &keys);
    }

    fn name_keys(&mut self, client: ClientId, code: u16, keys: &BTreeSet<String>) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for some in keys.chunks(KEYS_PER_LINE) {
            let line = self.numeric(client, code, some);
            self.emit(client, line);
        }
    }

    /// What a channel and its members say under some keys, but for the client's own.
    fn synced(&self, client: ClientId, channel: ChannelId, keys: &BTreeSet<String>) -> Vec<Line> {
        let Some(room) = self.rooms.get(&channel) else { return Vec::new() };
        let mut lines = Vec::new();
        let mut add = |shown: &str, values: &Values| {
            for (key, value) in values.iter().filter(|(key, _)| keys.contains(*key)) {
                lines.push(self.key_line(client, shown, key, Some(value)));
            }
        };
        add(&room.name, &self.values(client, &Whose::Kept(Owner::Channel(channel))));
        for member in room.members.values().filter(|member| !self.is_own(client, &member.identity)) {
            let values = self.values_of_member(member);
            if !values.is_empty() {
                add(&self.shown(member), &values);
            }
        }
        lines
    }

    fn sync_channel(
        &mut self,
        client: ClientId,
        channel: ChannelId,
        keys: &BTreeSet<String>,
        room_left: &mut usize,
    ) {
        let lines = self.synced(client, channel, keys);
        let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { return };
        if lines.len() > *room_left {
            let line = self.numeric(client, 774, &[&name]);
            self.emit(client, line);
        } else if !lines.is_empty() {
            *room_left -= lines.len();
            self.send_together(client, &name, lines);
        }
    }

    /// What a client subscribed to of a channel that it comes to see.
    pub(super) fn sync_on_join(&mut self, client: ClientId, channel: ChannelId) {
        let Some(session) = self.sessions.get(&client) else { return };
        let keys = session.subscriptions.clone();
        if !keys.is_empty() && session.caps.has(Cap::Metadata) {
            self.sync_channel(client, channel, &keys, &mut { SYNCED_LINES });
        }
    }

    /// Those who see somebody come in learn what they say of themselves.
    pub(super) fn show_metadata(&mut self, news: &News) {
        let identity = news.author.identity;
        let values = self.values_of_member(&news.author);
        if values.is_empty() {
            return;
        }
        let shown = self.shown(&news.author);
        let to = self.rooms.get(&news.channel).map(|room| room.attached.clone()).unwrap_or_default();
        for id in to.into_iter().filter(|id| !self.is_own(*id, &identity)).collect::<Vec<_>>() {
            for (key, value) in &values {
                if self.subscribes(id, key) {
                    let line = self.key_line(id, &shown, key, Some(value));
                    self.emit(id, line);
                }
            }
        }
    }

    fn sync(&mut self, client: ClientId, (whose, shown): (&Whose, &str)) {
        let Some(session) = self.sessions.get(&client) else { return };
        let keys = session.subscriptions.clone();
        let lines = match whose {
            Whose::Kept(Owner::Channel(channel)) => self.synced(client, *channel, &keys),
            _ => {
                let values = self.values(client, whose);
                let of = values.iter().filter(|(key, _)| keys.contains(*key));
                of.map(|(key, value)| self.key_line(client, shown, key, Some(value))).collect()
            }
        };
        self.send_together(client, shown, lines);
    }

    /// What a client said of itself before it was registered is its user's now; then it is shown all
    /// that there is of it.
    pub(super) fn take_metadata(&mut self, client: ClientId, person: &str, said: Values) {
        let (whose, shown) = (Whose::Kept(Owner::Person(person.to_owned())), self.called(client));
        for (key, value) in said {
            match self.put_value(client, &whose, &key, Some(&value)) {
                Ok(_) => self.tell_subscribers(client, (&whose, &shown), &key, Some(&value)),
                Err(Full) => {
                    self.refuse(client, &["LIMIT_REACHED", &shown], "There is no room for a further key");
                }
            }
        }
        if self.has(client, Cap::Metadata) && !self.values(client, &whose).is_empty() {
            self.list_values(client, (&whose, &shown));
        }
    }

    /// The part of WHOIS.
    pub(super) fn describe_metadata(&mut self, client: ClientId, nick: &str) {
        let Some((whose, shown)) = self.whose(client, nick).filter(|_| self.has(client, Cap::Metadata))
        else {
            return;
        };
        for (key, value) in self.values(client, &whose) {
            self.reply(client, 760, &[&shown, &key, "*"], &value);
        }
    }
}

fn invalid_key(server: &str, key: &str) -> Line {
    // It may be of any length, and is no more than shown.
    let shown = super::shorten(key, metadata::KEY_BYTES);
    let shown = if shown.is_empty() || shown.contains(' ') || shown.starts_with(':') {
        "*".to_owned()
    } else {
        shown
    };
    let line = Line::from(server, "FAIL").param("METADATA").param("INVALID_KEY").param(shown);
    line.text("A key is made of a-z, 0-9, _, ., / and -")
}

/// What somebody from elsewhere says of themselves: the name to show.
fn presented(display_name: &str) -> Values {
    let name = super::shorten(display_name, VALUE_BYTES);
    match name.is_empty() {
        true => Values::new(),
        false => Values::from([("display-name".to_owned(), name)]),
    }
}

//! Whether users are there: AWAY, SETNAME, QUIT, and what becomes of those who go.

use super::{Effect, Hub, shorten};
use crate::base::{ChannelId, Identity};
use crate::chat::intent::{ChannelRef, Intent};
use crate::chat::profile::Profile;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::isupport::{AWAY_BYTES, REALNAME_BYTES, REASON_BYTES};
use crate::irc::proto::line::Line;
use crate::irc::proto::render;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::{ClientId, Stage};

impl Hub {
    pub(super) fn away(&mut self, client: ClientId, line: &Line) {
        let message =
            line.params.first().filter(|text| !text.is_empty()).map(|text| shorten(text, AWAY_BYTES));
        let Some(person) = self.person_of(client).map(str::to_owned) else {
            return self.away_before(client, message);
        };
        // `*` is a client that nobody looks at (draft/pre-away): away without saying so.
        let message = message.map(|text| if text == "*" { "away".to_owned() } else { text });
        let Some(user) = self.users.get_mut(&person) else { return };
        let changed = user.away != message;
        user.away = message;
        match user.away {
            Some(_) => self.reply(client, 306, &[], "You have been marked as being away"),
            None => self.reply(client, 305, &[], "You are no longer marked as being away"),
        }
        if changed {
            self.tell_presence(&person, true);
        }
    }

    fn away_before(&mut self, client: ClientId, message: Option<String>) {
        if !self.has(client, Cap::PreAway) {
            return self.reply(client, 451, &[], "You have not registered: send NICK and USER first");
        }
        if let Some(greeting) = self.sessions.get_mut(&client).and_then(|session| session.greeting()) {
            greeting.away.clone_from(&message);
        }
        match message {
            Some(_) => self.reply(client, 306, &[], "You have been marked as being away"),
            None => self.reply(client, 305, &[], "You are no longer marked as being away"),
        }
    }

    /// Tells those with away-notify how a user of ours is now; with `watchers`, also who watches the
    /// nick (who comes or goes is told by MONITOR itself).
    pub(super) fn tell_presence(&mut self, person: &str, watchers: bool) {
        let nick = match self.users.get(person) {
            Some(user) => user.nick.clone(),
            None => match self.identities.get(person).and_then(|identity| self.names.of(identity)) {
                Some(nick) => nick.to_owned(),
                None => return,
            },
        };
        let prefix = match self.users.get(person) {
            Some(user) => user.prefix(),
            None => {
                let profile = Profile { username: nick.clone(), ..Profile::default() };
                render::prefix(&nick, &profile, &self.settings.server)
            }
        };
        let line = Line::from(prefix, "AWAY");
        let line = match self.users.get(person).map(|user| user.away.clone()) {
            Some(None) => line,
            Some(Some(message)) => line.text(message),
            None => line.text("offline"),
        };
        let own = self.users.get(person).map(|user| user.sessions.clone()).unwrap_or_default();
        let mut to = self.witnesses_of(person);
        if watchers {
            to.extend(self.extended_watchers(&nick));
        }
        for id in to {
            if self.has(id, Cap::AwayNotify) && !own.contains(&id) {
                let tagged = self.dress(line.clone(), id, self.identities.get(person).copied().as_ref());
                self.emit(id, tagged);
            }
        }
    }

    pub(super) fn setname(&mut self, client: ClientId, line: &Line) {
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        if line.params[0].len() > REALNAME_BYTES {
            let why = format!("A real name has at most {REALNAME_BYTES} bytes");
            return self.standard(client, "FAIL", &["SETNAME", "INVALID_REALNAME"], &why);
        }
        let realname = line.params[0].clone();
        let Some(user) = self.users.get_mut(&person) else { return };
        user.realname.clone_from(&realname);
        let (prefix, nick) = (user.prefix(), user.nick.clone());
        let line = Line::from(prefix, "SETNAME").text(realname);
        let mut to = self.witnesses_of(&person);
        to.extend(self.extended_watchers(&nick));
        for id in to {
            if self.has(id, Cap::Setname) {
                let tagged = self.dress(line.clone(), id, self.identities.get(&person).copied().as_ref());
                self.emit(id, tagged);
            }
        }
    }

    /// The tags that every line about a person has: time and account, as the client can take them.
    pub(super) fn dress(&self, line: Line, to: ClientId, about: Option<&Identity>) -> Line {
        let line = match self.has(to, Cap::ServerTime) {
            true => line.tag("time", crate::irc::proto::stamp::server_time(self.now)),
            false => line,
        };
        let account = about.filter(|_| self.has(to, Cap::AccountTag)).and_then(|id| self.account_of(id));
        match account {
            Some(account) => line.tag("account", account.to_owned()),
            None => line,
        }
    }

    pub(super) fn quit(&mut self, client: ClientId, line: &Line) {
        let said = line.params.first().filter(|reason| !reason.is_empty());
        let reason = said
            .map_or("Client quit".to_owned(), |reason| format!("Quit: {}", shorten(reason, REASON_BYTES)));
        self.close(client, &reason);
    }

    /// Ends a connection from this side, saying why.
    pub(super) fn close(&mut self, client: ClientId, reason: &str) {
        // What a label held back would otherwise come after the end.
        self.flush(client);
        let line = Line::new("ERROR").text(format!("Closing link: {reason}"));
        self.effects.push(Effect::Send { client, line: line.to_string().into() });
        self.effects.push(Effect::Close { client });
        self.drop_session(client, reason);
    }

    pub(super) fn drop_session(&mut self, client: ClientId, reason: &str) {
        let Some(session) = self.sessions.remove(&client) else { return };
        self.abandon(client);
        self.forget_watches(client, session.monitors.keys());
        for channel in session.channels.keys() {
            if let Some(room) = self.rooms.get_mut(channel) {
                room.attached.remove(&client);
            }
        }
        let Stage::Active(person) = session.stage else { return };
        let Some(user) = self.users.get_mut(&person) else { return };
        user.sessions.remove(&client);
        if !user.sessions.is_empty() {
            return;
        }
        let (nick, ident, host) = (user.nick.clone(), user.ident.clone(), user.host.clone());
        let realname = user.realname.clone();
        self.remember_departed(&nick, &ident, &host, &realname, &person);
        if !self.stays(&person) {
            self.take_leave(&person, reason);
        }
        self.forget_metadata_of(&person);
        self.users.remove(&person);
        self.names.release(&nick);
        self.tell_presence(&person, false);
        self.watched_offline(&nick);
        if let Some(identity) = self.identities.get(&person).copied() {
            self.forget_if_gone(&identity);
        }
    }

    /// Whoever does not stay is shown to quit, and leaves the channels they are in.
    pub(super) fn take_leave(&mut self, person: &str, reason: &str) {
        let Some(user) = self.users.get(person) else { return };
        let (prefix, nick) = (user.prefix(), user.nick.clone());
        let Some(identity) = self.identities.get(person).copied() else { return };
        let line = Line::from(prefix, "QUIT").text(reason);
        for id in self.witnesses(&identity) {
            let tagged = self.dress(line.clone(), id, Some(&identity));
            self.emit(id, tagged);
        }
        self.leave_all((person, &nick), identity, reason);
    }

    fn leave_all(&mut self, (person, nick): (&str, &str), identity: Identity, reason: &str) {
        let of = self.rooms.iter().filter(|(_, room)| room.members.contains_key(&identity));
        for channel in of.map(|(id, _)| *id).collect::<Vec<ChannelId>>() {
            if let Some(room) = self.rooms.get_mut(&channel) {
                room.members.remove(&identity);
            }
            self.quitting.insert((identity, channel));
            self.forget_cursor(person, channel);
            let intent = Intent::LeaveChannel { channel: ChannelRef::Id(channel), reason: reason.to_owned() };
            let profile = Profile { username: nick.to_owned(), ..Profile::default() };
            let target = channel.to_string();
            self.hand_in((0, person, profile), Wanted::Quit, &target, intent, (None, None));
        }
        self.effects.push(Effect::Remember { key: format!("passing/{person}"), value: Vec::new() });
    }

    /// Those who should have left when the node stopped leave now.
    pub(super) fn take_out_leftover(&mut self) {
        for (person, identity) in std::mem::take(&mut self.leftover) {
            if !self.users.contains_key(&person) {
                let nick = self.profile_of(&identity).username;
                let nick = if nick.is_empty() { "guest".to_owned() } else { nick };
                self.leave_all((&person, &nick), identity, "The server was restarted");
            }
        }
    }

    /// Frees the nick of a person who is neither connected here nor in any channel.
    pub(super) fn forget_if_gone(&mut self, identity: &Identity) {
        let member = self.rooms.values().any(|room| room.members.contains_key(identity));
        if !member && self.local(identity).is_none() {
            self.names.forget(identity);
        }
    }
}

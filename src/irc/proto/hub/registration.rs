//! How a client becomes a user, changes its nick, and goes.

use super::{Hub, User, same_nick};
use crate::base::Timestamp;
use crate::chat::intent::Intent;
use crate::chat::profile::Profile;
use crate::irc::proto::caps::{Cap, CapSet};
use crate::irc::proto::casemap::fold;
use crate::irc::proto::line::Line;
use crate::irc::proto::names::{NICK_BYTES, Renamed, is_legal};
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::{ClientId, Greeting, Stage};
use crate::irc::proto::{isupport, stamp};

/// How long a registration may take.
const REGISTRATION_MS: u64 = 30_000;
/// Silence after which a client is asked whether it is there.
const PROBE_MS: u64 = 120_000;
/// Silence after which it is not.
const SILENCE_MS: u64 = 180_000;
/// Bytes kept of a real name or an away message.
const REALNAME_BYTES: usize = 200;
/// The nick that answers for the node; nobody may have it.
pub(super) const SERVICE: &str = "multichat";

impl Hub {
    pub(super) fn cap(&mut self, client: ClientId, params: &[String]) {
        let wish = params[0].to_ascii_uppercase();
        let argument = params.get(1).map_or("", String::as_str);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if let (Stage::Registering(greeting), "LS" | "REQ") = (&mut session.stage, wish.as_str()) {
            greeting.negotiating = true;
        }
        match wish.as_str() {
            "LS" => {
                if argument.parse::<u32>().is_ok_and(|version| version >= 302) {
                    session.modern = true;
                    session.caps.add(Cap::CapNotify);
                }
                self.cap_line(client, "LS", &CapSet::all().names());
            }
            "LIST" => {
                let held = session.caps.names();
                self.cap_line(client, "LIST", &held);
            }
            "REQ" => match session.caps.requested(argument) {
                Some(caps) => {
                    session.caps = caps;
                    if session.modern {
                        session.caps.add(Cap::CapNotify);
                    }
                    self.cap_line(client, "ACK", argument);
                }
                None => self.cap_line(client, "NAK", argument),
            },
            "END" => {
                if let Stage::Registering(greeting) = &mut session.stage {
                    greeting.negotiating = false;
                }
                self.register(client);
            }
            _ => self.reply(client, 410, &[&params[0]], "Invalid CAP command"),
        }
    }

    fn cap_line(&mut self, client: ClientId, wish: &str, text: &str) {
        let nick = self.called(client);
        let line = Line::from(self.settings.server.as_str(), "CAP").param(nick).param(wish).text(text);
        self.emit(client, line);
    }

    pub(super) fn pass(&mut self, client: ClientId, params: &[String]) {
        match self.sessions.get_mut(&client).map(|session| &mut session.stage) {
            Some(Stage::Registering(greeting)) => greeting.password = Some(params[0].clone()),
            _ => self.reply(client, 462, &[], "You are registered already"),
        }
    }

    pub(super) fn user(&mut self, client: ClientId, params: &[String]) {
        match self.sessions.get_mut(&client).map(|session| &mut session.stage) {
            Some(Stage::Registering(greeting)) => {
                greeting.realname = Some(shorten(&params[3]));
                self.register(client);
            }
            _ => self.reply(client, 462, &[], "You are registered already"),
        }
    }

    pub(super) fn nick(&mut self, client: ClientId, params: &[String]) {
        let Some(nick) = params.first().filter(|nick| !nick.is_empty()) else {
            return self.reply(client, 431, &[], "No nickname given");
        };
        if !is_legal(nick) {
            let why =
                format!("A nick is 1 to {NICK_BYTES} letters, digits and []\\`_^{{|}}-, no digit first");
            return self.reply(client, 432, &[nick], &why);
        }
        if self.is_taken(client, nick) {
            return self.reply(client, 433, &[nick], "Nickname is already in use");
        }
        match self.sessions.get_mut(&client).map(|session| &mut session.stage) {
            Some(Stage::Registering(greeting)) => {
                greeting.nick = Some(nick.clone());
                self.register(client);
            }
            Some(Stage::Active(account)) => {
                let account = account.clone();
                self.change_nick(client, &account, nick);
            }
            None => {}
        }
    }

    /// Whether a connected user whom this client may not be has the nick, or the account of it.
    fn is_taken(&self, client: ClientId, nick: &str) -> bool {
        let Some(session) = self.sessions.get(&client) else { return true };
        let may_be = |account: &str, user: &User| match session.account() {
            Some(own) => own == account,
            None => {
                let from_here = |id: &ClientId| self.sessions.get(id).is_some_and(|s| s.host == session.host);
                account == fold(nick) && same_nick(&user.nick, nick) && user.sessions.iter().all(from_here)
            }
        };
        let claims =
            |(account, user): &(&String, &User)| **account == fold(nick) || same_nick(&user.nick, nick);
        fold(nick) == SERVICE
            || self.users.iter().filter(claims).any(|(account, user)| !may_be(account, user))
    }

    fn change_nick(&mut self, client: ClientId, account: &str, nick: &str) {
        let Some(user) = self.users.get(account) else { return };
        if user.nick == nick {
            return;
        }
        if self.identities.contains_key(account) || self.requests.values().any(|r| r.account == account) {
            // The node knows this user: the name changes once that is durable.
            let profile = Profile { username: nick.to_owned(), ..Profile::default() };
            return self.submit(client, Wanted::Nick, nick, Intent::UpdateProfile { profile });
        }
        // Nobody has seen this user yet: the account changes with the nick.
        let Some(mut user) = self.users.remove(account) else { return };
        let before = self.own_prefix(&user);
        self.names.release(&user.nick);
        user.nick = nick.to_owned();
        let (account, sessions) = (fold(nick), user.sessions.clone());
        self.users.insert(account.clone(), user);
        for id in sessions {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.stage = Stage::Active(account.clone());
            }
            self.emit(id, Line::from(before.as_str(), "NICK").param(nick));
        }
        self.take_name(nick, &account);
    }

    /// A user's own change of nick is durable.
    pub(super) fn renamed_self(&mut self, account: &str, nick: &str) {
        let Some(user) = self.users.get_mut(account) else { return };
        let before = std::mem::replace(&mut user.nick, nick.to_owned());
        if before == nick {
            return;
        }
        self.names.release(&before);
        self.take_name(nick, account);
        let Some(identity) = self.identities.get(account).copied() else {
            let sessions = self.users.get(account).map(|user| user.sessions.clone()).unwrap_or_default();
            return self.tell_renamed(&before, nick, &Profile::default(), sessions.into_iter().collect());
        };
        let profile = Profile { username: before.clone(), ..Profile::default() };
        let witnesses = self.witnesses(&identity).into_iter().collect();
        self.tell_renamed(&before, nick, &profile, witnesses);
    }

    fn tell_renamed(&mut self, before: &str, after: &str, profile: &Profile, to: Vec<ClientId>) {
        let prefix = crate::irc::proto::render::prefix(before, profile, &self.settings.server);
        for id in to {
            self.emit(id, Line::from(prefix.as_str(), "NICK").param(after));
        }
    }

    /// Somebody's nick changed; tells whoever sees them.
    pub(super) fn announce(&mut self, renamed: &Renamed, profile: &Profile) {
        let to = self.witnesses(&renamed.identity).into_iter().collect();
        self.tell_renamed(&renamed.before, &renamed.after, profile, to);
    }

    /// Gives a connected user the nick, moving aside a person from elsewhere who had it.
    fn take_name(&mut self, nick: &str, account: &str) {
        let own = self.identities.get(account).copied();
        if let Some(moved) = self.names.reserve(nick, account, own) {
            let profile = self.profile_of(&moved.identity);
            self.announce(&moved, &profile);
        }
    }

    pub(super) fn profile_of(&self, identity: &crate::base::Identity) -> Profile {
        let member = self.rooms.values().find_map(|room| room.members.get(identity));
        member.map(|member| member.profile.clone()).unwrap_or_default()
    }

    /// Completes a registration for which everything is there.
    fn register(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Stage::Registering(greeting) = &mut session.stage else { return };
        let Greeting { nick: Some(nick), realname: Some(realname), negotiating: false, .. } = greeting else {
            return;
        };
        let (nick, realname) = (nick.clone(), realname.clone());
        if self.settings.password.is_some() && greeting.password != self.settings.password {
            self.reply(client, 464, &[], "Password incorrect: this server wants PASS first");
            return self.close(client, "Bad password");
        }
        if self.is_taken(client, &nick) {
            // Somebody was faster; the client has to name another.
            if let Some(Stage::Registering(greeting)) = self.sessions.get_mut(&client).map(|s| &mut s.stage) {
                greeting.nick = None;
            }
            return self.reply(client, 433, &[&nick], "Nickname is already in use");
        }
        let account = fold(&nick);
        if let Some(session) = self.sessions.get_mut(&client) {
            session.stage = Stage::Active(account.clone());
        }
        let first = !self.users.contains_key(&account);
        let user = self.users.entry(account.clone()).or_insert_with(|| User {
            nick: nick.clone(),
            realname,
            away: None,
            sessions: Default::default(),
        });
        user.sessions.insert(client);
        if first {
            self.take_name(&nick, &account);
            self.tell_presence(&account);
            self.restore_name(client, &account, &nick);
        }
        self.welcome(client);
        self.keep_in_step(client, &account);
    }

    /// The node may know this user by a later nick: they are back under the first.
    fn restore_name(&mut self, client: ClientId, account: &str, nick: &str) {
        let Some(identity) = self.identities.get(account) else { return };
        let before = self.profile_of(identity).username;
        if !before.is_empty() && before != nick {
            let profile = Profile { username: nick.to_owned(), ..Profile::default() };
            self.submit(client, Wanted::Nick, nick, Intent::UpdateProfile { profile });
        }
    }

    /// A further client of a user sees the channels that the others see.
    fn keep_in_step(&mut self, client: ClientId, account: &str) {
        let others = self.users.get(account).into_iter().flat_map(|user| user.sessions.iter());
        let sessions = others.filter_map(|id| self.sessions.get(id));
        let channels: std::collections::BTreeSet<_> =
            sessions.flat_map(|session| session.channels.keys().copied()).collect();
        for channel in channels {
            self.attach(client, channel, None);
        }
    }

    fn welcome(&mut self, client: ClientId) {
        let (nick, server) = (self.called(client), self.settings.server.clone());
        let version = super::queries::VERSION;
        self.reply(client, 1, &[], &format!("Welcome to Multichat, {nick}"));
        self.reply(client, 2, &[], &format!("Your host is {server}, running {version}"));
        self.reply(
            client,
            3,
            &[],
            &format!("This server was started {}", stamp::plain(self.settings.started)),
        );
        let line = self.numeric(client, 4, &[&server, version, "i", "nt"]);
        self.emit(client, line);
        self.isupport(client);
        self.lusers(client);
        self.motd(client);
    }

    pub(super) fn isupport(&mut self, client: ClientId) {
        for tokens in isupport::lines() {
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            self.reply(client, 5, &tokens, "are supported by this server");
        }
    }

    pub(super) fn ping(&mut self, client: ClientId, params: &[String]) {
        let Some(token) = params.first() else { return self.reply(client, 409, &[], "No origin specified") };
        let server = self.settings.server.clone();
        self.emit(client, Line::from(server.as_str(), "PONG").param(server.as_str()).text(token.as_str()));
    }

    pub(super) fn away(&mut self, client: ClientId, params: &[String]) {
        let Some(account) = self.account(client).map(str::to_owned) else { return };
        let message = params.first().filter(|text| !text.is_empty()).map(|text| shorten(text));
        let Some(user) = self.users.get_mut(&account) else { return };
        let changed = user.away != message;
        user.away = message;
        match user.away {
            Some(_) => self.reply(client, 306, &[], "You have been marked as being away"),
            None => self.reply(client, 305, &[], "You are no longer marked as being away"),
        }
        if changed {
            self.tell_presence(&account);
        }
    }

    /// Tells those with away-notify how a user of ours is now.
    fn tell_presence(&mut self, account: &str) {
        let Some(identity) = self.identities.get(account).copied() else { return };
        let nick = self.names.of(&identity).unwrap_or(account).to_owned();
        let profile = Profile { username: nick.clone(), ..Profile::default() };
        let line =
            Line::from(crate::irc::proto::render::prefix(&nick, &profile, &self.settings.server), "AWAY");
        let line = match self.users.get(account).map(|user| user.away.clone()) {
            Some(None) => line,
            Some(Some(message)) => line.text(message),
            None => line.text("offline"),
        };
        for id in self.witnesses(&identity) {
            if self.has(id, Cap::AwayNotify) && !self.is_own(id, &identity) {
                self.emit(id, line.clone());
            }
        }
    }

    pub(super) fn setname(&mut self, client: ClientId, params: &[String]) {
        let Some(account) = self.account(client).map(str::to_owned) else { return };
        let realname = shorten(&params[0]);
        let Some(user) = self.users.get_mut(&account) else { return };
        user.realname.clone_from(&realname);
        let Some(user) = self.users.get(&account) else { return };
        let line = Line::from(self.own_prefix(user), "SETNAME").text(realname);
        let mut to = user.sessions.clone();
        to.extend(self.identities.get(&account).map(|id| self.witnesses(id)).unwrap_or_default());
        for id in to {
            if self.has(id, Cap::Setname) {
                self.emit(id, line.clone());
            }
        }
    }

    pub(super) fn quit(&mut self, client: ClientId, params: &[String]) {
        let reason = params.first().map_or("Client quit", String::as_str).to_owned();
        self.close(client, &reason);
    }

    /// Ends a connection from this side, saying why.
    pub(super) fn close(&mut self, client: ClientId, reason: &str) {
        // What a label held back would otherwise come after the end.
        if let Some(capture) = self.capture.take() {
            for line in capture.lines {
                self.emit(capture.client, line);
            }
        }
        self.emit(client, Line::new("ERROR").text(format!("Closing link: {reason}")));
        self.effects.push(super::Effect::Close { client });
        self.drop_session(client);
    }

    pub(super) fn drop_session(&mut self, client: ClientId) {
        let Some(session) = self.sessions.remove(&client) else { return };
        for channel in session.channels.keys() {
            if let Some(room) = self.rooms.get_mut(channel) {
                room.attached.remove(&client);
            }
        }
        let Stage::Active(account) = session.stage else { return };
        let Some(user) = self.users.get_mut(&account) else { return };
        user.sessions.remove(&client);
        if !user.sessions.is_empty() {
            return;
        }
        let nick = user.nick.clone();
        self.users.remove(&account);
        self.names.release(&nick);
        self.tell_presence(&account);
        if let Some(identity) = self.identities.get(&account).copied() {
            self.forget_if_gone(&identity);
        }
    }

    /// Frees the nick of a person who is neither connected here nor in any channel.
    pub(super) fn forget_if_gone(&mut self, identity: &crate::base::Identity) {
        let member = self.rooms.values().any(|room| room.members.contains_key(identity));
        if !member && self.local(identity).is_none() {
            self.names.forget(identity);
        }
    }

    pub(super) fn check_alive(&mut self, client: ClientId) {
        let now: Timestamp = self.now;
        let server = self.settings.server.clone();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let silent = now.since_ms(session.heard_at);
        if session.account().is_none() && now.since_ms(session.connected_at) > REGISTRATION_MS {
            return self.close(client, "Registration timed out");
        }
        if silent > SILENCE_MS {
            return self.close(client, &format!("Ping timeout: {} seconds", silent / 1000));
        }
        if silent > PROBE_MS && !session.probed && session.account().is_some() {
            session.probed = true;
            self.emit(client, Line::new("PING").text(server));
        }
    }
}

fn shorten(text: &str) -> String {
    let end = (0..=text.len().min(REALNAME_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

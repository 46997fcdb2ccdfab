//! How a connection becomes a user: capabilities, PASS, NICK, USER, and what completes them.

use super::{Effect, Hub, User, same_nick, shorten};
use crate::base::Timestamp;
use crate::base::config::Guests;
use crate::chat::intent::Intent;
use crate::chat::profile::Profile;
use crate::irc::proto::caps::{Cap, CapSet};
use crate::irc::proto::casemap::fold;
use crate::irc::proto::isupport::REALNAME_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::names::{NICK_BYTES, Renamed, is_legal};
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::{ClientId, Greeting, Stage};
use crate::irc::proto::{metadata, multiline_limits, render, sasl};

/// How long a registration may take.
const REGISTRATION_MS: u64 = 30_000;
/// Silence after which a client is asked whether it is there.
const PROBE_MS: u64 = 120_000;
/// Silence after which it is not.
const SILENCE_MS: u64 = 180_000;

impl Hub {
    pub(super) fn cap(&mut self, client: ClientId, line: &Line) {
        let params = &line.params;
        let wish = params[0].to_ascii_uppercase();
        let argument = params.get(1).map_or("", String::as_str);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if let ("LS" | "REQ", Some(greeting)) = (wish.as_str(), session.greeting()) {
            greeting.negotiating = true;
        }
        match wish.as_str() {
            "LS" => {
                let version = argument.parse::<u32>().unwrap_or(301);
                session.cap_version = session.cap_version.max(version);
                if session.cap_version >= 302 {
                    session.caps.add(Cap::CapNotify);
                }
                self.cap_list(client);
            }
            "LIST" => {
                let held = session.caps.names();
                self.cap_line(client, "LIST", &held);
            }
            "REQ" => match session.caps.requested(argument) {
                // What 302 implies cannot be given back.
                Some(caps) if session.cap_version < 302 || caps.has(Cap::CapNotify) => {
                    session.caps = caps;
                    self.cap_line(client, "ACK", argument);
                }
                _ => self.cap_line(client, "NAK", argument),
            },
            "END" => {
                if let Some(greeting) = session.greeting() {
                    greeting.negotiating = false;
                }
                self.register(client);
            }
            _ => self.reply(client, 410, &[&params[0]], "Invalid CAP command"),
        }
    }

    fn cap_list(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get(&client) else { return };
        let (modern, secure) = (session.cap_version >= 302, session.peer.secure);
        if !modern {
            return self.cap_line(client, "LS", &CapSet::all().names());
        }
        let registration = self.registration_value();
        let value = |cap| match cap {
            Cap::Sasl => Some(sasl::MECHANISMS.to_owned()),
            Cap::Registration => Some(registration.clone()),
            Cap::Multiline => Some(multiline_limits()),
            Cap::Metadata => Some(metadata::limits()),
            _ => None,
        };
        let sts: Vec<String> = match self.settings.sts {
            Some((_, seconds)) if secure => vec![format!("sts=duration={seconds}")],
            Some((port, seconds)) => vec![format!("sts=port={port},duration={seconds}")],
            None => Vec::new(),
        };
        let lines = CapSet::all().listed(value, &sts);
        let nick = self.called(client);
        for (index, text) in lines.iter().enumerate() {
            let line = Line::from(self.settings.server.as_str(), "CAP").param(nick.as_str()).param("LS");
            let line = if index + 1 < lines.len() { line.param("*") } else { line };
            self.emit(client, line.text(text.as_str()));
        }
    }

    fn registration_value(&self) -> String {
        let before = if self.settings.before_connect { "before-connect," } else { "" };
        let email = if self.settings.email { "email-required," } else { "" };
        format!("{before}{email}custom-account-name")
    }

    fn cap_line(&mut self, client: ClientId, wish: &str, text: &str) {
        let nick = self.called(client);
        let line = Line::from(self.settings.server.as_str(), "CAP").param(nick).param(wish).text(text);
        self.emit(client, line);
    }

    pub(super) fn pass(&mut self, client: ClientId, line: &Line) {
        match self.sessions.get_mut(&client).and_then(|session| session.greeting()) {
            Some(greeting) => greeting.password = Some(line.params[0].clone()),
            None => self.reply(client, 462, &[], "You are registered already"),
        }
    }

    pub(super) fn user(&mut self, client: ClientId, line: &Line) {
        let params = &line.params;
        if params[0].is_empty() || params[3].is_empty() {
            return self.reply(client, 461, &["USER"], "Not enough parameters");
        }
        match self.sessions.get_mut(&client).and_then(|session| session.greeting()) {
            Some(greeting) => {
                greeting.ident = render::user(&params[0]);
                greeting.realname = Some(shorten(&params[3], REALNAME_BYTES));
                self.register(client);
            }
            None => self.reply(client, 462, &[], "You are registered already"),
        }
    }

    pub(super) fn webirc(&mut self, client: ClientId, _: &Line) {
        let why = "Gateways tell this server whom they speak for by the PROXY protocol";
        self.reply(client, 400, &["WEBIRC"], why);
    }

    pub(super) fn nick(&mut self, client: ClientId, line: &Line) {
        let Some(nick) = line.params.first().filter(|nick| !nick.is_empty()) else {
            return self.reply(client, 431, &[], "No nickname given");
        };
        if !is_legal(nick) {
            let why =
                format!("A nick is 1 to {NICK_BYTES} letters, digits and []\\`_^{{|}}-, no digit first");
            return self.reply(client, 432, &[nick], &why);
        }
        let registering = self.sessions.get(&client).is_some_and(|session| session.person().is_none());
        if registering {
            // Whether it is the client's own may be known only once it has said who it is.
            if self.is_taken(client, nick) && !self.may_yet_log_in(client, nick) {
                if let Some(greeting) = self.sessions.get_mut(&client).and_then(|s| s.greeting()) {
                    greeting.refused_nick = Some(nick.clone());
                }
                return self.reply(client, 433, &[nick], "Nickname is already in use");
            }
            if let Some(greeting) = self.sessions.get_mut(&client).and_then(|session| session.greeting()) {
                greeting.nick = Some(nick.clone());
            }
            return self.register(client);
        }
        if self.is_taken(client, nick) {
            return self.reply(client, 433, &[nick], "Nickname is already in use");
        }
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        self.change_nick(client, &person, nick);
    }

    /// Whether a client that is still registering may turn out to be the owner of a nick that is an
    /// account's.
    fn may_yet_log_in(&self, client: ClientId, nick: &str) -> bool {
        let Some(session) = self.sessions.get(&client) else { return false };
        let Stage::Registering(greeting) = &session.stage else { return false };
        let may = greeting.negotiating || greeting.password.is_some();
        greeting.login.is_none() && may && self.accounts.get(nick).is_some()
    }

    /// Whether somebody whom this client may not be has the nick, or it is reserved.
    pub(super) fn is_taken(&self, client: ClientId, nick: &str) -> bool {
        let Some(session) = self.sessions.get(&client) else { return true };
        if super::service::is_service(nick) {
            return true;
        }
        let own = session.person();
        let login = match &session.stage {
            Stage::Registering(greeting) => greeting.login.as_deref(),
            Stage::Active(person) => self.users.get(person).and_then(|user| user.account.as_deref()),
        };
        if self.accounts.get(nick).is_some_and(|account| login != Some(account.name.as_str())) {
            return true;
        }
        let may_be = |person: &str, user: &User| match own {
            Some(own) => own == person,
            None if user.account.is_some() => user.account.as_deref() == login,
            None => {
                let from_here = |id: &ClientId| {
                    self.sessions.get(id).is_some_and(|other| other.peer.host == session.peer.host)
                };
                self.settings.guests == Guests::Stay
                    && login.is_none()
                    && person == fold(nick)
                    && same_nick(&user.nick, nick)
                    && user.sessions.iter().all(from_here)
            }
        };
        let stay = self.settings.guests == Guests::Stay;
        let claims = |(person, user): &(&String, &User)| {
            same_nick(&user.nick, nick) || (stay && user.account.is_none() && **person == fold(nick))
        };
        self.users.iter().filter(claims).any(|(person, user)| !may_be(person, user))
    }

    fn change_nick(&mut self, client: ClientId, person: &str, nick: &str) {
        let Some(user) = self.users.get(person) else { return };
        if user.nick == nick {
            return;
        }
        if self.identities.contains_key(person) || self.requests.values().any(|r| r.person == person) {
            // The node knows this user: the name changes once that is durable.
            let profile = Profile { username: nick.to_owned(), ..Profile::default() };
            return self.submit(client, Wanted::Nick, nick, Intent::UpdateProfile { profile });
        }
        if self.settings.guests == Guests::Leave || user.account.is_some() {
            return self.renamed_self(person, nick);
        }
        // Nobody has seen this user yet: the person changes with the nick.
        let Some(mut user) = self.users.remove(person) else { return };
        let (before, old) = (user.prefix(), user.nick.clone());
        self.names.release(&user.nick);
        user.nick = nick.to_owned();
        let (person, sessions) = (fold(nick), user.sessions.clone());
        self.users.insert(person.clone(), user);
        for id in sessions {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.stage = Stage::Active(person.clone());
            }
            self.emit(id, Line::from(before.as_str(), "NICK").text(nick));
        }
        self.take_name(nick, &person);
        self.watched_renamed(&old, nick);
    }

    /// A user's own change of nick is durable.
    pub(super) fn renamed_self(&mut self, person: &str, nick: &str) {
        let Some(user) = self.users.get_mut(person) else { return };
        let prefix = user.prefix();
        let before = std::mem::replace(&mut user.nick, nick.to_owned());
        if before == nick {
            return;
        }
        let (user, host, realname) = (user.ident.clone(), user.host.clone(), user.realname.clone());
        self.remember_departed(&before, &user, &host, &realname, person);
        self.names.release(&before);
        self.take_name(nick, person);
        for id in self.witnesses_of(person) {
            self.emit(id, Line::from(prefix.as_str(), "NICK").text(nick));
        }
        self.watched_renamed(&before, nick);
    }

    /// Somebody's nick changed; tells whoever sees them.
    pub(super) fn announce(&mut self, renamed: &Renamed, profile: &Profile) {
        let prefix = render::prefix(&renamed.before, profile, &self.settings.server);
        for id in self.witnesses(&renamed.identity) {
            self.emit(id, Line::from(prefix.as_str(), "NICK").text(renamed.after.as_str()));
        }
    }

    /// Gives a connected user the nick, moving aside a person from elsewhere who had it.
    pub(super) fn take_name(&mut self, nick: &str, person: &str) {
        let own = self.identities.get(person).copied();
        if let Some(moved) = self.names.reserve(nick, person, own) {
            let profile = self.profile_of(&moved.identity);
            self.announce(&moved, &profile);
        }
    }

    pub(super) fn profile_of(&self, identity: &crate::base::Identity) -> Profile {
        let member = self.rooms.values().find_map(|room| room.members.get(identity));
        member.map(|member| member.profile.clone()).unwrap_or_default()
    }

    /// Completes a registration for which everything is there.
    pub(super) fn register(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(greeting) = session.greeting() else { return };
        let Greeting { nick: Some(nick), realname: Some(_), negotiating: false, .. } = greeting else {
            return;
        };
        let (nick, given, login) = (nick.clone(), greeting.password.clone(), greeting.login.clone());
        if self.settings.password.is_some() && given != self.settings.password {
            self.reply(client, 464, &[], "Password incorrect: this server wants PASS first");
            return self.close(client, "Bad password");
        }
        let reserved = self.accounts.get(&nick).is_some_and(|own| login.as_ref() != Some(&own.name));
        let names_account = given.as_deref().and_then(|given| given.split_once(':'));
        let names_account = names_account.is_some_and(|(account, _)| self.accounts.get(account).is_some());
        let may_be_theirs = login.is_none() && (reserved || names_account);
        if may_be_theirs && self.settings.password.is_none() && self.try_pass(client, &nick) {
            return;
        }
        let own_nick = self.own_nick(login.as_deref());
        let nick = own_nick.clone().unwrap_or(nick);
        if own_nick.is_none() && self.is_taken(client, &nick) {
            // The client has to name another.
            if let Some(greeting) = self.sessions.get_mut(&client).and_then(|session| session.greeting()) {
                greeting.nick = None;
            }
            let why = match reserved {
                true => "Nickname is registered: log in by SASL, or take another",
                false => "Nickname is already in use",
            };
            return self.reply(client, 433, &[&nick], why);
        }
        if !self.bar(client) {
            self.admit(client, &nick);
        }
    }

    /// The nick of an account that is connected already: a further client goes by it.
    fn own_nick(&self, login: Option<&str>) -> Option<String> {
        let person = &self.accounts.get(login?)?.person;
        self.users.get(person).map(|user| user.nick.clone())
    }

    fn admit(&mut self, client: ClientId, nick: &str) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Stage::Registering(greeting) = &mut session.stage else { return };
        let greeting = std::mem::take(greeting);
        let asked = greeting.nick.clone().unwrap_or_default();
        let person = self.person_for(greeting.login.as_deref(), nick);
        let host = self.host_of(client, greeting.login.as_deref());
        if let Some(session) = self.sessions.get_mut(&client) {
            session.stage = Stage::Active(person.clone());
        }
        let first = !self.users.contains_key(&person);
        let user = self.users.entry(person.clone()).or_insert_with(|| User {
            nick: nick.to_owned(),
            ident: greeting.ident,
            host,
            realname: greeting.realname.unwrap_or_default(),
            account: greeting.login,
            away: greeting.away,
            sessions: Default::default(),
            modes: ['i'].into(),
            invited: Default::default(),
            silenced: Vec::new(),
            accepted: Default::default(),
        });
        user.sessions.insert(client);
        self.most_users = self.most_users.max(self.users.len());
        if first {
            self.take_name(nick, &person);
            self.tell_presence(&person, false);
            self.restore_name(client, &person, nick);
            self.watched_online(nick);
        }
        self.welcome(client);
        if asked != nick {
            let line = Line::from(asked, "NICK").text(nick);
            self.emit(client, line);
        }
        self.take_metadata(client, &person, greeting.metadata);
        self.keep_in_step(client, &person);
    }

    /// The person that a client is: its account's, or a guest.
    fn person_for(&mut self, login: Option<&str>, nick: &str) -> String {
        if let Some(account) = login.and_then(|name| self.accounts.get(name)) {
            return account.person.clone();
        }
        match self.settings.guests {
            Guests::Stay => fold(nick),
            // `~` is in no nick: nobody can come back as this person but by registering it.
            Guests::Leave => {
                let random = self.random();
                format!("{}~{}", fold(nick), &crate::base::id::base32(&random)[..16])
            }
        }
    }

    pub(super) fn host_of(&self, client: ClientId, login: Option<&str>) -> String {
        let Some(session) = self.sessions.get(&client) else { return String::new() };
        match (self.settings.cloak, login) {
            (false, _) => self.settings.server.clone(),
            (true, Some(account)) => format!("user/{}", fold(account)),
            (true, None) => {
                let hash = blake3::keyed_hash(&self.cloak_key, session.peer.host.as_bytes());
                format!("{}.guest", &crate::base::id::base32(hash.as_bytes())[..12])
            }
        }
    }

    /// The node may know this user by a later nick: they are back under the first.
    fn restore_name(&mut self, client: ClientId, person: &str, nick: &str) {
        let Some(identity) = self.identities.get(person) else { return };
        let before = self.profile_of(identity).username;
        if !before.is_empty() && before != nick {
            let profile = Profile { username: nick.to_owned(), ..Profile::default() };
            let wish = Intent::UpdateProfile { profile: profile.clone() };
            self.hand_in((client, person, profile), Wanted::Nick, nick, wish, (None, None));
        }
    }

    /// A further client of a user sees the channels that the others see.
    fn keep_in_step(&mut self, client: ClientId, person: &str) {
        let others = self.users.get(person).into_iter().flat_map(|user| user.sessions.iter());
        let sessions = others.filter_map(|id| self.sessions.get(id));
        let mut channels: std::collections::BTreeSet<_> =
            sessions.flat_map(|session| session.channels.keys().copied()).collect();
        // An account that stays finds itself where it was, without asking.
        if self.users.get(person).is_some_and(|user| user.account.is_some())
            && let Some(identity) = self.identities.get(person)
        {
            let of = self.rooms.iter().filter(|(_, room)| room.members.contains_key(identity));
            channels.extend(of.map(|(id, _)| *id));
        }
        for channel in channels {
            self.attach(client, channel, None);
        }
        self.play_direct(client, person);
    }

    pub(super) fn ping(&mut self, client: ClientId, line: &Line) {
        let server = self.settings.server.clone();
        let token = line.params[0].as_str();
        self.emit(client, Line::from(server.as_str(), "PONG").param(server.as_str()).text(token));
    }

    pub(super) fn check_alive(&mut self, client: ClientId) {
        let now: Timestamp = self.now;
        let server = self.settings.server.clone();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let silent = now.since_ms(session.heard_at);
        if session.person().is_none() && now.since_ms(session.connected_at) > REGISTRATION_MS {
            return self.close(client, "Registration timed out");
        }
        if silent > SILENCE_MS {
            return self.close(client, &format!("Ping timeout: {} seconds", silent / 1000));
        }
        if silent > PROBE_MS && !session.probed && session.person().is_some() {
            session.probed = true;
            self.effects.push(Effect::Send { client, line: format!("PING :{server}").into() });
        }
    }
}

//! The hub: everything the IRC listener decides, as one sans-IO state machine. Clients' lines, news
//! and answers of the node go in; lines to clients and wishes to the node come out.
//!
//! Who is who: a client is a user by its nick (there are no accounts yet). The first nick a user
//! registers with, folded, is the account; the node derives the identity from it. Several clients
//! from the **same host** under one nick are one user and kept in step; from **another host** the
//! nick is refused (433) as long as one of the user's clients is connected. Whoever comes once all
//! are gone and gives that nick is taken for its owner: only a server password guards against that
//! until accounts exist. Where a person from elsewhere has the nick of a client, the client keeps
//! it and the other is shown with the first characters of their identity.
//!
//! Membership outlives a connection: QUIT is being away, PART is leaving. Each user has a cursor
//! per channel: the log position that a client of theirs has confirmed (by answering a PING that
//! names it). It is kept by the node; what comes after it is replayed at the next JOIN.
//!
//! It must never show a line twice within one connection, show a live line of a channel before a
//! replayed one, or show anybody a message before the node has made it durable.

mod channels;
mod news;
mod queries;
mod registration;
mod replay;
#[cfg(test)]
pub mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::caps::Cap;
use super::line::{Input, Line};
use super::names::Names;
use super::respond::{self, Wanted};
use super::session::{ClientId, Session, Stage};
use super::{casemap, render};
use crate::base::{ChannelId, Identity, Timestamp};
use crate::chat::intent::{Actor, Intent, Submission};
use crate::chat::name::ChannelName;
use crate::chat::profile::Profile;
use crate::chat::view::{ChannelView, Member};
use crate::node::{Receipt, Refusal};
use crate::port::HistoryQuery;

/// How long a wish that the node has accepted waits for its news before its label is given up.
const REQUEST_MS: u64 = 60_000;
/// Bytes of a label (IRCv3 labeled-response); a longer one is ignored.
const LABEL_BYTES: usize = 64;

/// What the hub is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the server in every line.
    pub server: String,
    /// What `PASS` must give, if anything.
    pub password: Option<String>,
    pub started: Timestamp,
    /// The tag before the first one used. Random, so that no other door's tags are taken for ours.
    pub tags_from: u64,
}

/// What the hub wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A line for a client, without its CR LF.
    Send { client: ClientId, line: Arc<str> },
    /// No more for this client: send what is queued, then close. It is gone for the hub already.
    Close { client: ClientId },
    /// Answer with [`Hub::answered`]; the tag is the submission's.
    Submit(Box<Submission>),
    /// Answer with [`Hub::history`].
    History { query: u64, what: HistoryQuery },
    /// Keep a note; an empty value forgets it. Needs no answer.
    Remember { key: String, value: Vec<u8> },
    /// Say [`Hub::drained`] once everything sent to the client so far has left.
    Drain { client: ClientId },
}

/// The state machine.
pub struct Hub {
    settings: Settings,
    sessions: BTreeMap<ClientId, Session>,
    /// Users with a client, by account.
    users: BTreeMap<String, User>,
    /// Identities of accounts, connected or not.
    identities: BTreeMap<String, Identity>,
    accounts: BTreeMap<Identity, String>,
    names: Names,
    rooms: BTreeMap<ChannelId, Room>,
    by_name: BTreeMap<String, ChannelId>,
    cursors: BTreeMap<(String, ChannelId), u64>,
    requests: BTreeMap<u64, Request>,
    /// History queries under way: who for.
    queries: BTreeMap<u64, (ClientId, ChannelId)>,
    last_tag: u64,
    last_query: u64,
    last_batch: u64,
    /// Users whose JOIN was answered before the news of the channel came.
    late: Vec<(String, ChannelId)>,
    capture: Option<Capture>,
    /// Tags submitted while the present line is handled.
    submitted: Vec<u64>,
    now: Timestamp,
    effects: Vec<Effect>,
}

/// A user with at least one client.
#[derive(Debug)]
struct User {
    nick: String,
    realname: String,
    away: Option<String>,
    sessions: BTreeSet<ClientId>,
}

/// A channel, mirrored.
#[derive(Debug)]
struct Room {
    name: String,
    topic: String,
    /// Who set it and when, where that was seen.
    topic_by: Option<(String, Timestamp)>,
    created_at: Timestamp,
    members: BTreeMap<Identity, Member>,
    attached: BTreeSet<ClientId>,
}

/// A wish under way.
#[derive(Debug)]
struct Request {
    client: ClientId,
    account: String,
    wanted: Wanted,
    /// The channel or nick it is about, as the client wrote it.
    target: String,
    label: Option<String>,
    at: Timestamp,
    accepted: bool,
}

/// Lines to one client that will be one labeled response.
struct Capture {
    client: ClientId,
    lines: Vec<Line>,
}

impl Hub {
    /// The hub as the door opens: every channel, and the notes of last time.
    pub fn new(settings: Settings, channels: Vec<ChannelView>, notes: Vec<(String, Vec<u8>)>) -> Self {
        let mut hub = Self {
            last_tag: settings.tags_from,
            now: settings.started,
            settings,
            sessions: BTreeMap::new(),
            users: BTreeMap::new(),
            identities: BTreeMap::new(),
            accounts: BTreeMap::new(),
            names: Names::default(),
            rooms: BTreeMap::new(),
            by_name: BTreeMap::new(),
            cursors: BTreeMap::new(),
            requests: BTreeMap::new(),
            queries: BTreeMap::new(),
            last_query: 0,
            last_batch: 0,
            late: Vec::new(),
            capture: None,
            submitted: Vec::new(),
            effects: Vec::new(),
        };
        for (key, value) in notes {
            hub.recall(&key, &value);
        }
        for view in channels {
            hub.mirror(view);
        }
        hub
    }

    /// A client connected.
    pub fn connected(&mut self, now: Timestamp, client: ClientId, host: String, secure: bool) {
        self.now = now;
        self.sessions.insert(client, Session::new(host, secure, now));
    }

    /// A client's connection is gone. Does nothing for one that the hub closed itself.
    pub fn disconnected(&mut self, now: Timestamp, client: ClientId) -> Vec<Effect> {
        self.now = now;
        self.drop_session(client);
        self.take()
    }

    /// A client sent something.
    pub fn input(&mut self, now: Timestamp, client: ClientId, input: Input) -> Vec<Effect> {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&client) else { return Vec::new() };
        session.heard_at = now;
        session.probed = false;
        match input {
            Input::TooLong => self.reply(client, 417, &[], "Input line was too long"),
            Input::NotUtf8 => {
                let line = Line::from(self.settings.server.as_str(), "FAIL").param("*").param("INVALID_UTF8");
                self.emit(client, line.text("Your line was not valid UTF-8 and was not taken"));
            }
            Input::Line(line) => self.labeled(client, &line),
        }
        self.take()
    }

    /// The node answered a submission.
    pub fn answered(&mut self, now: Timestamp, tag: u64, answer: Result<Receipt, Refusal>) -> Vec<Effect> {
        self.now = now;
        match answer {
            Err(refusal) => {
                if let Some(request) = self.requests.remove(&tag) {
                    let (code, text) = respond::refusal(&request.wanted, &refusal);
                    self.respond(&request, |hub| hub.reply(request.client, code, &[&request.target], &text));
                }
            }
            Ok(receipt) => self.accepted(tag, &receipt),
        }
        self.take()
    }

    /// Time passed: at least twice a second.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        let late = |request: &Request| request.accepted && now.since_ms(request.at) > REQUEST_MS;
        let forgotten: Vec<u64> =
            self.requests.iter().filter(|(_, r)| late(r)).map(|(tag, _)| *tag).collect();
        for tag in forgotten {
            if let Some(request) = self.requests.remove(&tag) {
                self.respond(&request, |_| {});
            }
        }
        for client in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.check_alive(client);
            self.confirm(client);
        }
        self.take()
    }

    /// Clients that are connected.
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Handles a line and answers it under its label, if it has one: at once, or, where exactly one
    /// wish came of it and nothing was said yet, when that wish is settled.
    fn labeled(&mut self, client: ClientId, line: &Line) {
        let labels = self.has(client, Cap::LabeledResponse);
        let label = line.tagged("label").filter(|label| labels && (1..=LABEL_BYTES).contains(&label.len()));
        self.submitted.clear();
        let Some(label) = label else { return self.dispatch(client, line) };
        self.capture = Some(Capture { client, lines: Vec::new() });
        self.dispatch(client, line);
        let silent = self.capture.as_ref().is_some_and(|capture| capture.lines.is_empty());
        if let ([tag], true) = (self.submitted.as_slice(), silent)
            && let Some(request) = self.requests.get_mut(tag)
        {
            request.label = Some(label.to_owned());
            self.capture = None;
            return;
        }
        self.release(label);
    }

    /// Runs what settles a request, so that what it says to the client carries the request's label.
    fn respond(&mut self, request: &Request, act: impl FnOnce(&mut Self)) {
        let Some(label) = request.label.as_deref().filter(|_| self.sessions.contains_key(&request.client))
        else {
            return act(self);
        };
        self.capture = Some(Capture { client: request.client, lines: Vec::new() });
        act(self);
        self.release(label);
    }

    /// Sends what was captured: as ACK, as one line, or as a batch.
    fn release(&mut self, label: &str) {
        let Some(Capture { client, mut lines }) = self.capture.take() else { return };
        let server = self.settings.server.clone();
        if lines.len() < 2 {
            let line = lines.pop().unwrap_or_else(|| Line::from(server, "ACK"));
            return self.emit(client, line.tag("label", label));
        }
        let id = self.batch_id();
        let open = Line::from(server.as_str(), "BATCH").param(format!("+{id}")).param("labeled-response");
        self.emit(client, open.tag("label", label));
        for line in lines {
            let line = if line.tagged("batch").is_some() { line } else { line.tag("batch", id.as_str()) };
            self.emit(client, line);
        }
        self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
    }

    fn batch_id(&mut self) -> String {
        self.last_batch += 1;
        format!("b{}", self.last_batch)
    }

    fn dispatch(&mut self, client: ClientId, line: &Line) {
        let Some(session) = self.sessions.get(&client) else { return };
        let registered = session.account().is_some();
        let (known, least) = requirements(&line.command);
        let anytime =
            matches!(line.command.as_str(), "CAP" | "NICK" | "USER" | "PASS" | "PING" | "PONG" | "QUIT");
        if !registered && !anytime {
            return self.reply(client, 451, &[], "You have not registered: send NICK and USER first");
        }
        if !known {
            return self.reply(client, 421, &[&line.command], "Unknown command");
        }
        if line.params.len() < least {
            return self.reply(client, 461, &[&line.command], "Not enough parameters");
        }
        let params = &line.params;
        match line.command.as_str() {
            "CAP" => self.cap(client, params),
            "NICK" => self.nick(client, params),
            "USER" => self.user(client, params),
            "PASS" => self.pass(client, params),
            "PING" => self.ping(client, params),
            "PONG" => self.pong(client, params),
            "QUIT" => self.quit(client, params),
            "AWAY" => self.away(client, params),
            "SETNAME" => self.setname(client, params),
            "JOIN" => self.join(client, params),
            "PART" => self.part(client, params),
            "TOPIC" => self.topic(client, params),
            "PRIVMSG" | "NOTICE" => self.say(client, line),
            // Typing and reactions have no place in the log yet; they are taken and go nowhere.
            "TAGMSG" => {}
            _ => self.query(client, line),
        }
    }

    /// Hands in a wish of the client's user.
    fn submit(&mut self, client: ClientId, wanted: Wanted, target: &str, intent: Intent) {
        let Some(account) = self.account(client).map(str::to_owned) else { return };
        let Some(user) = self.users.get(&account) else { return };
        let profile = Profile { username: user.nick.clone(), ..Profile::default() };
        self.last_tag += 1;
        let tag = self.last_tag;
        let (target, at) = (target.to_owned(), self.now);
        let actor = Actor::Person { account: account.clone(), profile };
        self.requests
            .insert(tag, Request { client, account, wanted, target, label: None, at, accepted: false });
        self.submitted.push(tag);
        self.effects.push(Effect::Submit(Box::new(Submission {
            actor,
            intent,
            via: None,
            join_first: false,
            tag,
        })));
    }

    fn emit(&mut self, client: ClientId, line: Line) {
        match &mut self.capture {
            Some(capture) if capture.client == client => capture.lines.push(line),
            _ => self.effects.push(Effect::Send { client, line: line.to_string().into() }),
        }
    }

    /// A numeric: middle parameters, then text.
    fn reply(&mut self, client: ClientId, code: u16, params: &[&str], text: &str) {
        let line = self.numeric(client, code, params).text(text);
        self.emit(client, line);
    }

    fn numeric(&self, client: ClientId, code: u16, params: &[&str]) -> Line {
        let line = respond::numeric(&self.settings.server, code, &self.called(client));
        params.iter().fold(line, |line, param| line.param(*param))
    }

    /// What the server calls a client: its nick, or `*` before it is registered.
    fn called(&self, client: ClientId) -> String {
        match self.sessions.get(&client).map(|session| &session.stage) {
            Some(Stage::Active(account)) => self.users.get(account).map(|user| user.nick.clone()),
            _ => None,
        }
        .unwrap_or_else(|| "*".to_owned())
    }

    fn account(&self, client: ClientId) -> Option<&str> {
        self.sessions.get(&client)?.account()
    }

    fn has(&self, client: ClientId, cap: Cap) -> bool {
        self.sessions.get(&client).is_some_and(|session| session.caps.has(cap))
    }

    fn identity(&self, client: ClientId) -> Option<Identity> {
        self.identities.get(self.account(client)?).copied()
    }

    /// The connected user who is this person.
    fn local(&self, identity: &Identity) -> Option<&User> {
        self.users.get(self.accounts.get(identity)?)
    }

    /// Whether somebody is away: said so, or a user of ours without a client.
    fn is_away(&self, identity: &Identity) -> bool {
        match self.accounts.get(identity) {
            Some(account) => self.users.get(account).is_none_or(|user| user.away.is_some()),
            None => false,
        }
    }

    fn shown(&self, member: &Member) -> String {
        self.names.shown(&member.identity, &member.profile.username)
    }

    fn prefix(&self, member: &Member) -> String {
        render::prefix(&self.shown(member), &member.profile, &self.settings.server)
    }

    /// The prefix of a connected user of ours.
    fn own_prefix(&self, user: &User) -> String {
        let profile = Profile { username: user.nick.clone(), ..Profile::default() };
        render::prefix(&user.nick, &profile, &self.settings.server)
    }

    fn realname(&self, member: &Member) -> String {
        match self.local(&member.identity) {
            Some(user) => user.realname.clone(),
            None => member.profile.name().to_owned(),
        }
    }

    /// A channel by the name it has here, in any case.
    fn room(&self, name: &str) -> Option<(ChannelId, &Room)> {
        let id = self.by_name.get(&name.to_lowercase())?;
        Some((*id, self.rooms.get(id)?))
    }

    /// Clients that see a channel with this person in it, the person's own clients included.
    fn witnesses(&self, identity: &Identity) -> BTreeSet<ClientId> {
        let rooms = self.rooms.values().filter(|room| room.members.contains_key(identity));
        let own = self.local(identity).into_iter().flat_map(|user| user.sessions.iter());
        rooms.flat_map(|room| room.attached.iter()).chain(own).copied().collect()
    }

    fn is_own(&self, client: ClientId, identity: &Identity) -> bool {
        self.identity(client).as_ref() == Some(identity)
    }
}

/// Whether a command is known, and how many parameters it needs. `USER` and `NICK` see to
/// themselves.
fn requirements(command: &str) -> (bool, usize) {
    match command {
        "CAP" | "PASS" | "JOIN" | "PART" | "TOPIC" | "MODE" | "USERHOST" | "ISON" | "TAGMSG" | "SETNAME"
        | "WHOIS" | "WHOWAS" => (true, 1),
        "USER" => (true, 4),
        "NICK" | "PING" | "PONG" | "QUIT" | "AWAY" | "PRIVMSG" | "NOTICE" | "NAMES" | "WHO" | "LIST"
        | "MOTD" | "LUSERS" | "VERSION" | "INFO" | "TIME" => (true, 0),
        _ => (false, 0),
    }
}

/// Whether a text could be the name of a channel here, `#rust~k3f9` included.
fn is_channel(text: &str) -> bool {
    let (name, short) = text.split_once('~').unwrap_or((text, "a"));
    name.parse::<ChannelName>().is_ok() && short.chars().all(|c| c.is_ascii_alphanumeric())
}

fn same_nick(a: &str, b: &str) -> bool {
    casemap::same(a, b)
}

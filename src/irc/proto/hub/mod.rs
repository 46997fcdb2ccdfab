//! The hub: everything the IRC listener decides, as one sans-IO state machine. Clients' lines, news
//! and answers of the node go in; lines to clients and wishes to the node come out.
//!
//! Who is who: a **person** is whom the node derives an identity for. An account is one person for
//! ever. Without an account, a client is the person of its nick (`Guests::Stay`: several clients from
//! the same host under one nick are one user, and whoever comes back under it goes on) or a person
//! of its own (`Guests::Leave`). The nick that is an account's name is its owner's alone. Several
//! clients of one account are one user and kept in step. Where a person from elsewhere has the nick
//! of a client, the client keeps it and the other is shown with the first characters of their identity.
//!
//! Membership of those who stay outlives a connection: QUIT is being away, PART is leaving. Each has
//! a cursor per channel: the log position that a client of theirs has confirmed (by answering a PING
//! that names it). It is kept by the node; what comes after it is replayed at the next JOIN. Those
//! who do not stay leave their channels as they go, as on any IRC server.
//!
//! A client's lines are answered in their order: while the node has one in hand, later ones wait;
//! messages alone follow each other at once.
//!
//! It must never show a line twice within one connection, show a live line of a channel before a
//! replayed one, or show anybody a message before the node has made it durable.

mod bans;
mod channels;
mod command;
mod direct;
mod group;
mod history;
mod invite;
mod list;
mod login;
mod message;
mod metadata;
mod mode;
mod monitor;
mod multiline;
mod news;
mod oper;
mod policy;
mod presence;
mod registration;
mod replay;
mod role;
mod server;
mod service;
#[cfg(test)]
pub mod stand_in;
#[cfg(test)]
mod tests;
mod welcome;
mod who;
mod whois;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::accounts::Accounts;
use super::bans::Bans;
use super::caps::Cap;
use super::line::{Input, Line};
use super::mask::Face;
use super::metadata::Metadata;
use super::modes::{Change, Modes};
use super::names::Names;
use super::respond::{self, Wanted};
use super::session::{ClientId, Peer, Session, Stage};
use super::{casemap, render};
use crate::base::config::Guests;
use crate::base::{ChannelId, EventId, Identity, Timestamp};
use crate::chat::intent::{Actor, Intent, Submission};
use crate::chat::name::ChannelName;
use crate::chat::policy::Policy;
use crate::chat::profile::Profile;
use crate::chat::view::{ChannelView, Member};
use crate::node::{Receipt, Refusal};
use crate::port::HistoryQuery;
use direct::Directs;
use group::Group;
pub use login::{Done, Work};
use whois::Departed;

/// What the hub is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the server in every line.
    pub server: String,
    pub network: String,
    /// What this server is, in a few words.
    pub description: String,
    /// What `PASS` must give, if anything.
    pub password: Option<String>,
    pub started: Timestamp,
    /// The tag before the first one used. Random, so that no other door's tags are taken for ours.
    pub tags_from: u64,
    /// Random; what the hub needs of chance comes from it.
    pub seed: [u8; 32],
    pub guests: Guests,
    /// Whether anybody may register an account, and whether before they are connected.
    pub registration: bool,
    pub before_connect: bool,
    /// Whether an e-mail address has to be named for it.
    pub email: bool,
    /// Whether memberships of accounts outlive their last connection, unless they say otherwise.
    pub always_on: bool,
    /// Operators and their passwords.
    pub opers: Vec<(String, String)>,
    pub motd: Vec<String>,
    /// The TLS port that clients are told to use, and for how long (STS).
    pub sts: Option<(u16, u64)>,
    /// Whether hosts are shown as a hash.
    pub cloak: bool,
}

/// What the hub wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A line for a client, without its CR LF.
    Send {
        client: ClientId,
        line: Arc<str>,
    },
    /// No more for this client: send what is queued, then close. It is gone for the hub already.
    Close {
        client: ClientId,
    },
    /// Do not read this client until [`Effect::Resume`].
    Pause {
        client: ClientId,
    },
    Resume {
        client: ClientId,
    },
    /// Answer with [`Hub::answered`]; the tag is the submission's.
    Submit(Box<Submission>),
    /// Answer with [`Hub::history`].
    History {
        query: u64,
        what: HistoryQuery,
    },
    /// Keep a note; an empty value forgets it. Needs no answer.
    Remember {
        key: String,
        value: Vec<u8>,
    },
    /// Keep a note and answer with [`Hub::done`] once it is durable.
    Keep {
        job: u64,
        key: String,
        value: Vec<u8>,
    },
    /// What takes long; answer with [`Hub::done`].
    Compute {
        job: u64,
        work: Work,
    },
    /// Read certificates anew; answer with [`Hub::done`].
    Reload {
        job: u64,
    },
    /// Say [`Hub::drained`] once everything sent to the client so far has left.
    Drain {
        client: ClientId,
    },
}

/// The state machine.
pub struct Hub {
    settings: Settings,
    sessions: BTreeMap<ClientId, Session>,
    /// Users with a client, by person.
    users: BTreeMap<String, User>,
    accounts: Accounts,
    /// Identities of persons, connected or not.
    identities: BTreeMap<String, Identity>,
    persons: BTreeMap<Identity, String>,
    names: Names,
    rooms: BTreeMap<ChannelId, Room>,
    by_name: BTreeMap<String, ChannelId>,
    cursors: BTreeMap<(String, ChannelId), u64>,
    metadata: Metadata,
    bans: Bans,
    /// Read markers of persons, by target.
    markers: BTreeMap<(String, String), Timestamp>,
    requests: BTreeMap<u64, Request>,
    /// History queries under way.
    queries: BTreeMap<u64, history::Query>,
    jobs: BTreeMap<u64, login::Job>,
    groups: BTreeMap<u64, Group>,
    /// The group whose line is being handled.
    current: Option<u64>,
    directs: Directs,
    departed: VecDeque<Departed>,
    monitored: BTreeMap<String, BTreeSet<ClientId>>,
    /// Those who were shown to quit, until the node has taken them out of the channel.
    quitting: BTreeSet<(Identity, ChannelId)>,
    /// Most users at a time.
    most_users: usize,
    last_tag: u64,
    last_query: u64,
    last_batch: u64,
    last_group: u64,
    last_random: u64,
    /// Users whose JOIN was answered before the news of the channel came.
    late: Vec<(String, ChannelId)>,
    /// Those who did not stay and were not taken out of their channels: the node stopped before.
    leftover: Vec<(String, Identity)>,
    /// Messages taken back lately: a page of the past may have been read before.
    redacted: VecDeque<EventId>,
    /// What hosts are hashed with; the same over restarts, so that masks keep meaning whom they meant.
    cloak_key: [u8; 32],
    now: Timestamp,
    effects: Vec<Effect>,
}

/// A user with at least one client.
#[derive(Debug)]
struct User {
    nick: String,
    ident: String,
    /// As others see it.
    host: String,
    realname: String,
    /// The name of their account.
    account: Option<String>,
    away: Option<String>,
    sessions: BTreeSet<ClientId>,
    /// User modes besides `o`: `i`, `w`, `B`, `R`, `g`.
    modes: BTreeSet<char>,
    invited: BTreeSet<ChannelId>,
    silenced: Vec<String>,
    accepted: BTreeSet<String>,
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
    modes: Modes,
    policy: Policy,
}

/// A wish under way.
#[derive(Debug)]
struct Request {
    client: ClientId,
    person: String,
    wanted: Wanted,
    /// The channel or nick it is about, as the client wrote it.
    target: String,
    group: Option<u64>,
    at: Timestamp,
    /// A message as the client wrote it.
    live: Option<Arc<render::Live>>,
    /// What else the client's MODE asked for: it is done once this is answered.
    beside: Vec<Change>,
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
            accounts: Accounts::default(),
            identities: BTreeMap::new(),
            persons: BTreeMap::new(),
            names: Names::default(),
            rooms: BTreeMap::new(),
            by_name: BTreeMap::new(),
            cursors: BTreeMap::new(),
            metadata: Metadata::default(),
            bans: Bans::default(),
            markers: BTreeMap::new(),
            requests: BTreeMap::new(),
            queries: BTreeMap::new(),
            jobs: BTreeMap::new(),
            groups: BTreeMap::new(),
            current: None,
            directs: Directs::default(),
            departed: VecDeque::new(),
            monitored: BTreeMap::new(),
            quitting: BTreeSet::new(),
            most_users: 0,
            last_query: 0,
            last_batch: 0,
            last_group: 0,
            last_random: 0,
            late: Vec::new(),
            leftover: Vec::new(),
            redacted: VecDeque::new(),
            cloak_key: [0; 32],
            effects: Vec::new(),
        };
        for view in channels {
            hub.mirror(view);
        }
        for (key, value) in notes {
            hub.recall(&key, &value);
        }
        if hub.cloak_key == [0; 32] {
            hub.cloak_key = hub.random();
            let value = hub.cloak_key.to_vec();
            hub.effects.push(Effect::Remember { key: "cloak".to_owned(), value });
        }
        hub
    }

    /// A client connected.
    pub fn connected(&mut self, now: Timestamp, client: ClientId, peer: Peer) -> Vec<Effect> {
        self.now = now;
        self.sessions.insert(client, Session::new(peer, now));
        self.bar(client);
        self.take()
    }

    /// A client's connection is gone. Does nothing for one that the hub closed itself.
    pub fn disconnected(&mut self, now: Timestamp, client: ClientId, reason: &str) -> Vec<Effect> {
        self.now = now;
        self.drop_session(client, reason);
        self.take()
    }

    /// A client sent something.
    pub fn input(&mut self, now: Timestamp, client: ClientId, input: Input) -> Vec<Effect> {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&client) else { return Vec::new() };
        session.heard_at = now;
        session.probed = false;
        self.enqueue(client, input);
        self.take()
    }

    /// The node answered a submission.
    pub fn answered(&mut self, now: Timestamp, tag: u64, answer: Result<Receipt, Refusal>) -> Vec<Effect> {
        self.now = now;
        match answer {
            Err(refusal) => {
                if let Some(request) = self.requests.remove(&tag) {
                    self.within(request.group, |hub| hub.refused(&request, &refusal));
                }
            }
            Ok(receipt) => self.accepted(tag, &receipt),
        }
        self.take()
    }

    fn refused(&mut self, request: &Request, refusal: &Refusal) {
        if request.wanted == Wanted::Quit {
            // They were no member any more.
            let channel = request.target.parse().ok();
            if let (Some(identity), Some(channel)) = (self.identities.get(&request.person), channel) {
                self.quitting.remove(&(*identity, channel));
            }
            return;
        }
        if request.live.as_ref().is_some_and(|live| live.notice) {
            return;
        }
        if let Wanted::Redact(id) = &request.wanted {
            let code = match refusal {
                Refusal::NotPermitted(_) | Refusal::NotAMember => "REDACT_FORBIDDEN",
                _ => "UNKNOWN_MSGID",
            };
            return self.standard(
                request.client,
                "FAIL",
                &["REDACT", code, &request.target, id],
                &refusal.to_string(),
            );
        }
        let (code, text) = respond::refusal(&request.wanted, refusal);
        self.reply(request.client, code, &[&request.target], &text);
        self.do_beside(request);
    }

    /// Time passed: at least twice a second.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        self.take_out_leftover();
        self.give_up_late();
        self.end_bans();
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

    /// Whether nothing is under way for anybody.
    #[cfg(test)]
    fn is_at_rest(&self) -> bool {
        self.groups.is_empty() && self.jobs.is_empty() && self.queries.is_empty() && self.monitored.is_empty()
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Hands in a wish of the client's user.
    fn submit(&mut self, client: ClientId, wanted: Wanted, target: &str, intent: Intent) {
        self.submit_live(client, wanted, target, intent, None);
    }

    /// The same, with a message as the client wrote it.
    fn submit_live(
        &mut self,
        client: ClientId,
        wanted: Wanted,
        target: &str,
        intent: Intent,
        live: Option<render::Live>,
    ) {
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        let Some(user) = self.users.get(&person) else { return };
        let profile = Profile { username: user.nick.clone(), ..Profile::default() };
        let group = self.expect();
        self.hand_in((client, &person, profile), wanted, target, intent, (group, live));
    }

    fn hand_in(
        &mut self,
        (client, person, profile): (ClientId, &str, Profile),
        wanted: Wanted,
        target: &str,
        intent: Intent,
        (group, live): (Option<u64>, Option<render::Live>),
    ) {
        self.last_tag += 1;
        let tag = self.last_tag;
        let (target, at, person) = (target.to_owned(), self.now, person.to_owned());
        let actor = Actor::Person { account: person.clone(), profile };
        let live = live.map(Arc::new);
        let beside = Vec::new();
        self.requests.insert(tag, Request { client, person, wanted, target, group, at, live, beside });
        self.effects.push(Effect::Submit(Box::new(Submission {
            actor,
            intent,
            via: None,
            join_first: false,
            tag,
        })));
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

    /// A standard reply (IRCv3): `FAIL`, `WARN` or `NOTE`.
    fn standard(&mut self, client: ClientId, kind: &str, params: &[&str], text: &str) {
        let line = Line::from(self.settings.server.as_str(), kind);
        let line = params.iter().fold(line, |line, param| line.param(*param));
        self.emit(client, line.text(text));
    }

    /// What the server calls a client: its nick, or `*` before it is registered.
    fn called(&self, client: ClientId) -> String {
        match self.sessions.get(&client).map(|session| &session.stage) {
            Some(Stage::Active(person)) => self.users.get(person).map(|user| user.nick.clone()),
            Some(Stage::Registering(greeting)) => greeting.nick.clone(),
            None => None,
        }
        .unwrap_or_else(|| "*".to_owned())
    }

    fn person_of(&self, client: ClientId) -> Option<&str> {
        self.sessions.get(&client)?.person()
    }

    fn user_of(&self, client: ClientId) -> Option<&User> {
        self.users.get(self.person_of(client)?)
    }

    fn has(&self, client: ClientId, cap: Cap) -> bool {
        self.sessions.get(&client).is_some_and(|session| session.caps.has(cap))
    }

    fn identity(&self, client: ClientId) -> Option<Identity> {
        self.identities.get(self.person_of(client)?).copied()
    }

    /// The connected user who is this person.
    fn local(&self, identity: &Identity) -> Option<&User> {
        self.users.get(self.persons.get(identity)?)
    }

    /// Whether somebody is away: said so, or a user of ours without a client.
    fn is_away(&self, identity: &Identity) -> bool {
        match self.persons.get(identity) {
            Some(person) => self.users.get(person).is_none_or(|user| user.away.is_some()),
            None => false,
        }
    }

    /// Whether the memberships of a person outlive their last connection.
    fn stays(&self, person: &str) -> bool {
        match self.users.get(person).and_then(|user| user.account.as_deref()) {
            Some(account) => self.accounts.get(account).and_then(|account| account.always_on),
            None => return self.settings.guests == Guests::Stay,
        }
        .unwrap_or(self.settings.always_on)
    }

    fn shown(&self, member: &Member) -> String {
        match self.local(&member.identity) {
            Some(user) => user.nick.clone(),
            None => self.names.shown(&member.identity, &member.profile.username),
        }
    }

    fn prefix(&self, member: &Member) -> String {
        match self.local(&member.identity) {
            Some(user) => user.prefix(),
            None => {
                let nick = self.names.shown(&member.identity, &member.profile.username);
                render::prefix(&nick, &member.profile, &self.settings.server)
            }
        }
    }

    fn realname(&self, member: &Member) -> String {
        match self.local(&member.identity) {
            Some(user) => user.realname.clone(),
            None => member.profile.name().to_owned(),
        }
    }

    /// The name of a person's account here, connected or not.
    fn account_of(&self, identity: &Identity) -> Option<&str> {
        let person = self.persons.get(identity)?;
        match self.users.get(person) {
            Some(user) => user.account.as_deref(),
            None => self.accounts.of_person(person).map(|account| account.name.as_str()),
        }
    }

    fn face(&self, client: ClientId) -> Face {
        match self.user_of(client) {
            Some(user) => Face { prefix: user.prefix(), account: user.account.clone() },
            None => Face::default(),
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

    /// The same for a user, who may be unknown to the node.
    fn witnesses_of(&self, person: &str) -> BTreeSet<ClientId> {
        let mut to = self.users.get(person).map(|user| user.sessions.clone()).unwrap_or_default();
        to.extend(self.identities.get(person).map(|id| self.witnesses(id)).unwrap_or_default());
        to
    }

    fn is_own(&self, client: ClientId, identity: &Identity) -> bool {
        self.identity(client).as_ref() == Some(identity)
    }

    fn is_member(&self, client: ClientId, room: &Room) -> bool {
        self.identity(client).is_some_and(|identity| room.members.contains_key(&identity))
    }

    /// 32 bytes of chance.
    fn random(&mut self) -> [u8; 32] {
        self.last_random += 1;
        *blake3::keyed_hash(&self.settings.seed, &self.last_random.to_le_bytes()).as_bytes()
    }
}

impl User {
    /// `nick!ident@host`.
    fn prefix(&self) -> String {
        format!("{}!{}@{}", self.nick, self.ident, self.host)
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

/// The longest beginning of a text that has at most so many bytes and splits no character.
fn shorten(text: &str, bytes: usize) -> String {
    let end = (0..=text.len().min(bytes)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

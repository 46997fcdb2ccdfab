//! The link to one network as a machine without IO: messages, deliveries and time in; messages,
//! submissions and reports out.
//!
//! **When a message counts as delivered.** IRC acknowledges nothing. After at most [`BATCH`] lines,
//! or when nothing more is to be said, a `PING` follows as a fence: its `PONG` shows that the server
//! has taken every line before it, and only then are they reported as delivered. Where the network
//! echoes (`echo-message`) or answers by label (`labeled-response`), the echo or the answer of each
//! line does that and the fence is a fallback. At most
//! [`UNCONFIRMED`] lines are on the way, so that a node that dies says few of them twice; it never
//! says one too few. What was on the way when a connection broke goes back to the node as uncertain
//! and is said again: without the network's history there is nothing to look it up in.
//!
//! It must never do IO, read a clock, or trust a nick for more than a name.

mod batches;
mod commands;
mod failover;
mod inbound;
mod moderation;
mod outbound;
mod roster;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use irc::proto::{CapSubCommand, Command, Message, Prefix, Response};

use batches::Batch;

use super::channel::Agreement;
use super::isupport::ISupport;
use super::known::{Known, Sort};
use super::people::People;
use super::queue::{Bucket, Channel, Place, Report};
use super::registration::{Credentials, Registration, Step, WANTED, cap_request};
use crate::base::config::Consent;
use crate::base::{ChannelId, EventId, Kind, Timestamp};
use crate::chat::intent::Submission;
use crate::chat::message::Link;
use crate::chat::view::What;
use crate::node::{Delivery, Outcome};

/// Lines after which a fence is sent at the latest.
const BATCH: u64 = 8;
/// Lines that may be sent and unconfirmed.
const UNCONFIRMED: usize = 16;
/// How long an echo may take before a fence is sent after all.
const ECHO_PATIENCE_MS: u64 = 5_000;
/// Silence after which we ask whether the network is still there.
const SILENCE_MS: u64 = 60_000;
/// Silence after which it is taken for gone; also the longest that registration may take.
const GONE_MS: u64 = 120_000;
/// First wait after a kick or a refused join, doubled each time up to the longest.
const REJOIN_FIRST_MS: u64 = 5_000;
const REJOIN_MAX_MS: u64 = 10 * 60_000;
/// How long `JOIN` may stay unanswered.
const JOIN_PATIENCE_MS: u64 = 120_000;
/// A wait before lines that a channel would not take are tried again.
const MUTED_MS: u64 = 30_000;
/// How often the wanted nick is tried again.
const REGAIN_MS: u64 = 60_000;
/// How long NickServ may take to know us before channels are joined all the same.
const NICKSERV_MS: u64 = 5_000;
/// Wishes whose answer is waited for; beyond that nobody is told of a refusal.
const ASKED: usize = 10_000;
/// Lines of our own that may wait, such as joins; beyond that CTCP is not answered.
const CONTROL: usize = 1_000;

/// What does not change while a link runs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Setup {
    /// The network's address, as links name it.
    pub network: String,
    pub credentials: Credentials,
    /// Lines: (burst, per second); `None` for no limit.
    pub flood: Option<(u32, u32)>,
    pub consent: Consent,
    /// Nicks that are not heard.
    pub ignore: Vec<String>,
    /// Nicks of other nodes that hold the same links.
    pub failover_with: Vec<String>,
}

/// What comes out.
#[derive(Debug)]
pub(super) enum Output {
    Send(Message),
    /// A wish. Its answer comes to [`Session::answered`] with the same token.
    Submit {
        submission: Box<Submission>,
        token: u64,
    },
    /// A note to keep; empty to forget it.
    Remember {
        key: String,
        value: String,
    },
    Report {
        delivery: u64,
        outcome: Outcome,
    },
    /// Close this connection. With a kind, the network said no to what is configured.
    Close {
        kind: Option<Kind>,
        reason: String,
    },
    /// Which of these events, by the first bytes of their ids, need nothing more to be brought over the
    /// link? The answer comes to [`Session::settled`] with the same token.
    Ask {
        link: Link,
        marks: Vec<u64>,
        token: u64,
    },
    /// One line for the log.
    Warn(String),
    /// The same, of what is as it should be.
    Inform(String),
}

/// The link to a network, over all its connections.
pub(super) struct Session {
    setup: Setup,
    /// By folded name.
    channels: BTreeMap<String, Channel>,
    known: Known,
    people: People,
    line: Option<Line>,
    /// Connections so far.
    connections: u64,
    /// Notes by key, as they were when the link began to run.
    notes: BTreeMap<String, String>,
    /// What becomes of wishes, by token.
    asked: BTreeMap<u64, Asked>,
    last_token: u64,
    /// Questions of other holders, by token.
    inquiries: BTreeMap<u64, failover::Inquiry>,
    /// When something happened last.
    awake: Timestamp,
    /// Questions so far, ours and others'.
    questions: u64,
    /// Whether the network has welcomed us at least once.
    pub welcomed: bool,
    /// The channel whose turn it is, so that all get theirs.
    turn: String,
    out: Vec<Output>,
}

/// What was wished for, to know what to do with the answer. Channels and nicks are folded.
enum Asked {
    Spoke {
        channel: String,
        nick: String,
        author: String,
        body: String,
        id: Option<String>,
    },
    /// Something that moderators of the network did: what, in words.
    Moderated {
        channel: String,
        nick: String,
        what: String,
    },
}

/// What belongs to one connection.
struct Line {
    registration: Option<Registration>,
    enabled: BTreeSet<String>,
    support: ISupport,
    nick: String,
    user_host: Option<String>,
    /// The greeting is over: channels can be joined.
    ready: bool,
    since: Timestamp,
    heard: Timestamp,
    bucket: Bucket,
    control: VecDeque<Message>,
    /// Lines said on this connection.
    sequence: u64,
    /// Up to where fences were sent.
    fenced: u64,
    last_said: Timestamp,
    fences: VecDeque<Fence>,
    fence_number: u64,
    regain_at: Timestamp,
    ctcp: Bucket,
    /// Messages taken in on this connection: ids for those that have none.
    taken_in: u64,
    batches: BTreeMap<String, Batch>,
    /// Until then NickServ is waited for.
    identifies_until: Option<Timestamp>,
    /// A line was said that no echo confirms.
    unechoed: bool,
}

struct Fence {
    number: u64,
    covers: u64,
    sent: Timestamp,
}

impl Session {
    pub fn new(setup: Setup) -> Self {
        Self {
            people: People::new(setup.network.clone()),
            setup,
            channels: BTreeMap::new(),
            known: Known::default(),
            line: None,
            connections: 0,
            notes: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_token: 0,
            inquiries: BTreeMap::new(),
            awake: Timestamp(0),
            questions: 0,
            welcomed: false,
            turn: String::new(),
            out: Vec::new(),
        }
    }

    /// Takes in what was kept over restarts. Before any channel is linked.
    pub fn restore(&mut self, notes: impl IntoIterator<Item = (String, String)>) {
        self.notes.extend(notes);
    }

    /// A message of the history, to be quoted.
    pub fn recall(&mut self, news: &crate::chat::view::News) {
        self.known.note(news, &self.setup.network);
        if let What::Message(content) = &news.what
            && let Some(origin) = &content.origin
            && let Link::Irc { network, channel } = &origin.link
            && *network == self.setup.network
        {
            self.known.named(news.event, &origin.external_id, false);
            let key = self.fold(channel);
            if let Some(channel) = self.channels.get_mut(&key) {
                channel.heard.known(&origin.external_id);
            }
        }
    }

    /// What came out since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// A connection stands.
    pub fn connected(&mut self, now: Timestamp) {
        self.connections += 1;
        let mut credentials = self.setup.credentials.clone();
        if let Some(account) = &mut credentials.account {
            // One secret seed, and another nonce for each connection.
            let seed = format!("{} {}", account.nonce, self.connections);
            account.nonce = blake3::hash(seed.as_bytes()).to_hex().to_string();
        }
        let (registration, opening) = Registration::start(credentials);
        self.line = Some(Line {
            registration: Some(registration),
            enabled: BTreeSet::new(),
            support: ISupport::default(),
            nick: self.setup.credentials.nick.clone(),
            user_host: None,
            ready: false,
            since: now,
            heard: now,
            bucket: Bucket::new(self.setup.flood),
            control: VecDeque::new(),
            sequence: 0,
            fenced: 0,
            last_said: now,
            fences: VecDeque::new(),
            fence_number: 0,
            regain_at: now.plus_ms(REGAIN_MS),
            ctcp: Bucket::new(Some((3, 1))),
            taken_in: 0,
            batches: BTreeMap::new(),
            identifies_until: None,
            unechoed: false,
        });
        self.out.extend(opening.into_iter().map(Output::Send));
        self.note_carriers();
    }

    /// The connection is gone.
    pub fn lost(&mut self, reason: &str) {
        self.line = None;
        self.people.connection_lost();
        for channel in self.channels.values_mut() {
            let report = channel.connection_lost(reason);
            self.out.extend(report.map(report_output));
            // Who was asked is asked again: they may have missed it.
            if channel.state.agreement == Agreement::Asked {
                channel.state.agreement = Agreement::Unasked;
            }
        }
        self.note_carriers();
    }

    fn note_carriers(&mut self) {
        let keys: Vec<String> = self.channels.keys().cloned().collect();
        keys.iter().for_each(|key| self.note_carrier(key));
    }

    /// Whether lines are on the way that are not known to have arrived.
    pub fn is_unconfirmed(&self) -> bool {
        self.channels.values().any(|channel| channel.unconfirmed() > 0)
    }

    /// The network carries that channel from now on.
    pub fn link(&mut self, now: Timestamp, link: &Link, id: ChannelId) {
        let Link::Irc { network, channel } = link else { return };
        let sound = channel.starts_with(['#', '&', '+', '!'])
            && !channel.contains(|c: char| c.is_control() || matches!(c, ' ' | ','));
        if *network != self.setup.network || !sound {
            return;
        }
        let key = self.fold(channel);
        if !self.channels.contains_key(&key) {
            let mut made = Channel::new(link.clone(), channel.clone(), id);
            self.restore_state(channel, &mut made.state);
            made.holders.carrier = self.notes.get(&format!("carrier/{channel}")).cloned().unwrap_or_default();
            self.channels.insert(key, made);
        }
        self.pump(now);
    }

    /// It no longer does.
    pub fn unlink(&mut self, now: Timestamp, link: &Link) {
        let Link::Irc { channel, .. } = link else { return };
        let key = self.fold(channel);
        let Some(channel) = self.channels.remove(&key) else { return };
        self.people.forget_channel(&key);
        if matches!(channel.place, Place::Joined { .. } | Place::Joining { .. }) {
            self.control(Command::PART(channel.name, Some("the link was removed".into())));
        }
        self.pump(now);
    }

    /// Something to carry to the network.
    pub fn deliver(&mut self, now: Timestamp, delivery: Delivery) {
        self.is_awake(now);
        match &delivery.news.what {
            What::Linked(link) => self.link(now, link, delivery.news.channel),
            What::Unlinked(link) => self.unlink(now, link),
            // What another node took in of a link that we hold, too.
            What::Message(_) if delivery.id == 0 => return self.learned(&delivery.news),
            _ => return self.hold(now, delivery),
        }
        if delivery.id != 0 {
            self.out.push(report_output((delivery.id, Outcome::Delivered { external_id: None })));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) {
        self.is_awake(now);
        let Some(line) = &mut self.line else { return };
        let silent = now.since_ms(line.heard);
        let fence_late = line.fences.front().is_some_and(|fence| now.since_ms(fence.sent) >= GONE_MS);
        let unwelcomed = !line.ready && now.since_ms(line.since) >= GONE_MS;
        if silent >= GONE_MS || fence_late || unwelcomed {
            let reason =
                if unwelcomed { "registration took too long" } else { "the network does not answer" };
            self.out.push(Output::Close { kind: None, reason: reason.into() });
            return;
        }
        if line.ready && line.nick != self.setup.credentials.nick && now >= line.regain_at {
            line.regain_at = now.plus_ms(REGAIN_MS);
            line.control.push_back(Command::NICK(self.setup.credentials.nick.clone()).into());
        }
        if line.identifies_until.is_some_and(|until| now >= until) {
            line.identifies_until = None;
            line.ready = true;
        }
        self.departures(now);
        if self.line.as_ref().is_some_and(|line| line.ready) {
            self.watch(now);
        }
        self.pump(now);
    }

    /// What became of a wish.
    pub fn answered(&mut self, now: Timestamp, token: u64, answer: Result<Option<EventId>, (Kind, String)>) {
        self.is_awake(now);
        match (self.asked.remove(&token), answer) {
            (Some(Asked::Spoke { author, body, id, .. }), Ok(Some(event))) => {
                self.known.keep(event, Sort::Words, &author, true, &body);
                if let Some(id) = id {
                    self.known.named(event, &id, false);
                }
            }
            (Some(Asked::Spoke { channel, nick, .. }), Err((kind, reason))) => {
                if self.people.may_tell(&nick, now.0) {
                    let what = format!("what you said in {channel} was not carried: {reason}");
                    self.tell(&nick, what);
                }
                self.out.push(Output::Warn(format!(
                    "{channel}: a message of {nick} was refused ({kind:?}): {reason}"
                )));
            }
            (Some(Asked::Moderated { channel, nick, what }), Err((_, reason))) => {
                self.tell(&nick, format!("{channel}: {what} counts on this network only: {reason}"));
            }
            _ => {}
        }
        self.pump(now);
    }

    /// When to call [`Self::tick`] at the latest.
    pub fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let line = self.line.as_ref()?;
        // Everything here is coarse but the bucket and the echo's patience.
        let mut next = now.plus_ms(1_000);
        let waits = !line.control.is_empty()
            || self.channels.values().any(|c| c.is_waiting())
            || self.is_unconfirmed();
        if self.channels.values().any(|channel| channel.holders.is_behind) {
            next = now.plus_ms(100);
        }
        if waits && line.bucket.next_ms() > now.0 {
            next = next.min(Timestamp(line.bucket.next_ms()));
        }
        Some(next)
    }

    /// A message of the server.
    pub fn receive(&mut self, now: Timestamp, message: Message) {
        self.is_awake(now);
        let Some(line) = &mut self.line else { return };
        line.heard = now;
        if let Command::PING(token, _) = &message.command {
            self.out.push(Output::Send(Command::PONG(token.clone(), None).into()));
        } else if let Some(registration) = &mut line.registration {
            match registration.receive(&message) {
                Step::Send(messages) => self.out.extend(messages.into_iter().map(Output::Send)),
                Step::Stop(kind, reason) => {
                    // A network that has let us in before is out of order rather than misconfigured.
                    let kind = kind.filter(|_| !self.welcomed);
                    self.out.push(Output::Close { kind, reason });
                }
                Step::Welcome(nick) => {
                    line.nick = nick;
                    line.enabled = std::mem::take(&mut registration.enabled);
                    let account = self.setup.credentials.account.as_ref();
                    if !registration.logged_in && account.is_some_and(|account| account.nickserv) {
                        line.identifies_until = Some(now.plus_ms(GONE_MS));
                    }
                    line.registration = None;
                    self.welcomed = true;
                }
            }
        } else {
            self.registered(now, &message);
        }
        self.pump(now);
    }

    fn registered(&mut self, now: Timestamp, message: &Message) {
        self.labelled(message);
        match &message.command {
            Command::Response(response, args) => return self.response(now, *response, args),
            Command::PONG(a, b) => return self.pong(now, &[Some(a.as_str()), b.as_deref()]),
            Command::CAP(_, sub, a, b) => return self.capabilities(*sub, b.as_deref().or(a.as_deref())),
            Command::BATCH(reference, sort, args) => {
                return self.batch(now, reference, sort.as_ref(), args.as_deref(), message);
            }
            Command::ERROR(reason) => {
                let reason = format!("the network closed the connection: {reason}");
                return self.out.push(Output::Close { kind: None, reason });
            }
            Command::Raw(command, args) if command.bytes().all(|byte| byte.is_ascii_digit()) => {
                return self.numeric(now, command, args);
            }
            _ => {}
        }
        let Some(line) = &mut self.line else { return };
        let (nick, user, host) = match &message.prefix {
            Some(Prefix::Nickname(nick, user, host)) => (nick.as_str(), user.as_str(), host.as_str()),
            // Servers and services kick and set modes, too.
            Some(Prefix::ServerName(name)) => (name.as_str(), "", ""),
            None => return,
        };
        let own = line.support.fold(nick) == line.support.fold(&line.nick);
        if own && !user.is_empty() && !host.is_empty() {
            line.user_host = Some(format!("{user}@{host}"));
        }
        if matches!(message.prefix, Some(Prefix::Nickname(..))) {
            self.seen(nick, user, host, message);
        }
        let is_done = !own && self.is_fellow(nick) && self.fellow_did(now, nick, message);
        if is_done || self.in_batch(message) {
            return;
        }
        match &message.command {
            Command::PRIVMSG(target, text) | Command::NOTICE(target, text) => {
                let notice = matches!(message.command, Command::NOTICE(..));
                if own {
                    self.echo(target, message);
                } else if matches!(message.prefix, Some(Prefix::Nickname(..))) {
                    self.heard(now, nick, target, text, notice, message);
                }
            }
            Command::Raw(command, args) => self.raw(now, own, nick, command, args, message),
            _ => self.whereabouts(now, own, nick, message),
        }
        self.regain(message);
    }

    /// Commands that the `irc` crate has no name for.
    fn raw(
        &mut self,
        now: Timestamp,
        own: bool,
        nick: &str,
        command: &str,
        args: &[String],
        message: &Message,
    ) {
        match (command.to_ascii_uppercase().as_str(), args) {
            ("TAGMSG", [target]) if !own => self.reacted(nick, target, message),
            ("REDACT", [target, id, rest @ ..]) if !own => {
                self.redacted(nick, target, id, rest.first().map_or("", String::as_str));
            }
            ("MODE", [channel, changes @ ..]) => self.mode(own, nick, channel, changes),
            ("FAIL", [of, code, .., said]) if of == "REDACT" => {
                if let Some(line) = &mut self.line {
                    line.enabled.remove("draft/message-redaction");
                }
                self.out.push(Output::Warn(format!("the network takes no message back: {code} {said}")));
            }
            ("INVITE", [whom, channel, ..]) => self.invited(now, whom, channel),
            _ => {}
        }
    }

    /// `CAP` after the registration: what is offered now, agreed to, or gone.
    fn capabilities(&mut self, sub: CapSubCommand, list: Option<&str>) {
        let Some(line) = &mut self.line else { return };
        let names = list.unwrap_or_default().split(' ').filter(|name| !name.is_empty());
        let mut names =
            names.map(|name| name.split('=').next().unwrap_or(name)).filter(|n| WANTED.contains(n));
        match sub {
            CapSubCommand::ACK => line.enabled.extend(names.map(str::to_owned)),
            CapSubCommand::DEL => names.for_each(|name| {
                line.enabled.remove(name);
            }),
            CapSubCommand::NEW => {
                let names: Vec<&str> = names.by_ref().collect();
                if !names.is_empty() && line.control.len() < CONTROL {
                    line.control.push_back(cap_request(&names.join(" ")));
                }
            }
            _ => {}
        }
    }

    /// Takes the wanted nick when whoever had it goes.
    fn regain(&mut self, message: &Message) {
        let Some(line) = &mut self.line else { return };
        let wanted = &self.setup.credentials.nick;
        let leaves = matches!(message.command, Command::QUIT(_) | Command::NICK(_));
        let had_it =
            message.source_nickname().is_some_and(|n| line.support.fold(n) == line.support.fold(wanted));
        if leaves && had_it && line.nick != *wanted {
            line.control.push_back(Command::NICK(wanted.clone()).into());
        }
    }

    fn response(&mut self, now: Timestamp, response: Response, args: &[String]) {
        let Some(line) = &mut self.line else { return };
        let channel = args.get(1).map(String::as_str).unwrap_or_default();
        let said = args.last().map(String::as_str).unwrap_or_default();
        match response {
            Response::RPL_ISUPPORT => {
                let tokens = args.iter().skip(1).take(args.len().saturating_sub(2));
                tokens.for_each(|token| line.support.learn(token));
                self.refold();
            }
            Response::RPL_ENDOFMOTD | Response::ERR_NOMOTD if !line.ready => self.greeted(now),
            Response::RPL_LOGGEDIN if line.identifies_until.is_some() => {
                line.identifies_until = None;
                line.ready = true;
            }
            Response::RPL_CHANNELMODEIS => {
                let locked = args.get(2).is_some_and(|modes| modes.contains('t'));
                self.with_state(channel, |state| state.topic_locked = Some(locked));
            }
            Response::RPL_TOPIC => self.with_state(channel, |state| state.topic = Some(said.to_owned())),
            Response::RPL_NOTOPIC => self.with_state(channel, |state| state.topic = Some(String::new())),
            Response::RPL_NAMREPLY => self.names(args.get(2).map_or("", String::as_str), said),
            Response::RPL_ENDOFNAMES => self.names_end(now, channel),
            Response::ERR_CHANOPRIVSNEEDED => {
                self.out.push(Output::Warn(format!("{channel}: {said}")));
            }
            Response::ERR_NOSUCHCHANNEL
            | Response::ERR_TOOMANYCHANNELS
            | Response::ERR_CHANNELISFULL
            | Response::ERR_INVITEONLYCHAN
            | Response::ERR_BANNEDFROMCHAN
            | Response::ERR_BADCHANNELKEY
            | Response::ERR_BADCHANMASK
            | Response::ERR_NOTONCHANNEL
            | Response::ERR_UNAVAILRESOURCE => self.put_out(now, channel, said.to_owned()),
            Response::ERR_CANNOTSENDTOCHAN => self.muted(channel, said),
            _ => {}
        }
    }

    /// The greeting is over: to the channels, by way of NickServ where it has to know us first.
    fn greeted(&mut self, now: Timestamp) {
        let Some(line) = &mut self.line else { return };
        match &self.setup.credentials.account {
            Some(account) if line.identifies_until.is_some() => {
                line.identifies_until = Some(now.plus_ms(NICKSERV_MS));
                let identify = format!("IDENTIFY {} {}", account.name, account.password);
                self.out.push(Output::Send(Command::PRIVMSG("NickServ".into(), identify).into()));
            }
            _ => line.ready = true,
        }
    }

    /// Numerics that the `irc` crate has no name for.
    fn numeric(&mut self, now: Timestamp, command: &str, args: &[String]) {
        let Some(line) = &mut self.line else { return };
        let second = args.get(1).map(String::as_str).unwrap_or_default();
        let said = args.last().map(String::as_str).unwrap_or_default();
        match command {
            // RPL_HOSTHIDDEN: we are shown with another host from now on.
            "396" if !second.is_empty() => {
                line.user_host = match (second.contains('@'), &line.user_host) {
                    (true, _) => Some(second.to_owned()),
                    (false, Some(old)) => old.split_once('@').map(|(user, _)| format!("{user}@{second}")),
                    (false, None) => None,
                };
            }
            // ERR_NEEDREGGEDNICK and its kin.
            "477" | "489" | "520" => self.put_out(now, second, said.to_owned()),
            _ => {}
        }
    }

    fn with_state(&mut self, channel: &str, change: impl FnOnce(&mut super::channel::State)) {
        let key = self.fold(channel);
        if let Some(channel) = self.channels.get_mut(&key) {
            change(&mut channel.state);
        }
    }

    /// Says something to one person of the network.
    fn tell(&mut self, nick: &str, text: String) {
        let nick = self.people.get(&self.fold(nick)).map_or(nick, |user| user.nick.as_str()).to_owned();
        if let Some(line) = &mut self.line
            && line.control.len() < CONTROL
        {
            line.control.push_back(Command::NOTICE(nick, text).into());
        }
    }

    /// Hands a wish to the node.
    fn wish(&mut self, submission: Submission, asked: Option<Asked>) {
        self.last_token += 1;
        let token = self.last_token;
        if let Some(asked) = asked.filter(|_| self.asked.len() < ASKED) {
            self.asked.insert(token, asked);
        }
        self.out.push(Output::Submit { submission: Box::new(submission), token });
    }

    fn control(&mut self, command: Command) {
        if let Some(line) = &mut self.line {
            line.control.push_back(command.into());
        }
    }

    /// Whether this nick is one of those that are not heard.
    fn is_ignored(&self, nick: &str) -> bool {
        let key = self.fold(nick);
        self.is_fellow(nick) || self.setup.ignore.iter().any(|ignored| self.fold(ignored) == key)
    }

    fn fold(&self, name: &str) -> String {
        self.line.as_ref().map_or_else(|| ISupport::default().fold(name), |line| line.support.fold(name))
    }

    /// Brings the keys of the channels to the network's casemapping.
    fn refold(&mut self) {
        let channels = std::mem::take(&mut self.channels);
        for channel in channels.into_values() {
            let key = self.fold(&channel.name);
            self.channels.entry(key).or_insert(channel);
        }
    }
}

fn report_output((delivery, outcome): Report) -> Output {
    Output::Report { delivery, outcome }
}

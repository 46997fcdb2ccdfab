//! The link to one network as a machine without IO: messages, deliveries and time in; messages,
//! submissions and reports out.
//!
//! **When a message counts as delivered.** IRC acknowledges nothing. After at most [`BATCH`] lines,
//! or when nothing more is to be said, a `PING` follows as a fence: its `PONG` shows that the server
//! has taken every line before it, and only then are they reported as delivered. Where the network
//! echoes (`echo-message`), each line's echo does that and the fence is a fallback. At most
//! [`UNCONFIRMED`] lines are on the way, so that a node that dies says few of them twice; it never
//! says one too few. What was on the way when a connection broke goes back to the node as uncertain
//! and is said again: without the network's history there is nothing to look it up in.
//!
//! It must never do IO, read a clock, or trust a nick for more than a name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use irc::proto::{Command, Message, Prefix, Response};

use super::clock;
use super::isupport::ISupport;
use super::queue::{Bucket, Channel, Place, Report};
use super::registration::{Credentials, Registration, Step};
use super::render::{Quotes, render};
use crate::base::{ChannelId, Kind, Timestamp};
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Link, Origin, Style};
use crate::chat::profile::Profile;
use crate::chat::view::What;
use crate::irc::proto::format::{irc_to_html, strip};
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
/// Speakers that are remembered, to see them leave; beyond that no more are.
const SPEAKERS: usize = 10_000;
/// Lines of our own that may wait, such as joins; beyond that CTCP is not answered.
const CONTROL: usize = 1_000;

/// What does not change while a link runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setup {
    /// The network's address, as links name it.
    pub network: String,
    pub credentials: Credentials,
    /// Lines: (burst, per second); `None` for no limit.
    pub flood: Option<(u32, u32)>,
}

/// What comes out.
#[derive(Debug)]
pub(super) enum Output {
    Send(Message),
    Submit(Submission),
    Report {
        delivery: u64,
        outcome: Outcome,
    },
    /// Close this connection. With a kind, the network said no to what is configured.
    Close {
        kind: Option<Kind>,
        reason: String,
    },
    /// One line for the log.
    Warn(String),
}

/// The link to a network, over all its connections.
pub(super) struct Session {
    setup: Setup,
    /// By folded name.
    channels: BTreeMap<String, Channel>,
    pub quotes: Quotes,
    line: Option<Line>,
    /// Whether the network has welcomed us at least once.
    pub welcomed: bool,
    /// The channel whose turn it is, so that all get theirs.
    turn: String,
    out: Vec<Output>,
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
    /// Who spoke, by folded nick: the nick as written, and the channels (folded).
    speakers: BTreeMap<String, (String, BTreeSet<String>)>,
}

struct Fence {
    number: u64,
    covers: u64,
    sent: Timestamp,
}

impl Session {
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            channels: BTreeMap::new(),
            quotes: Quotes::default(),
            line: None,
            welcomed: false,
            turn: String::new(),
            out: Vec::new(),
        }
    }

    /// What came out since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// A connection stands.
    pub fn connected(&mut self, now: Timestamp) {
        let (registration, opening) = Registration::start(self.setup.credentials.clone());
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
            speakers: BTreeMap::new(),
        });
        self.out.extend(opening.into_iter().map(Output::Send));
    }

    /// The connection is gone.
    pub fn lost(&mut self, reason: &str) {
        self.line = None;
        for channel in self.channels.values_mut() {
            let report = channel.connection_lost(reason);
            self.out.extend(report.map(report_output));
        }
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
        self.channels.entry(key).or_insert_with(|| Channel::new(link.clone(), channel.clone(), id));
        self.pump(now);
    }

    /// It no longer does.
    pub fn unlink(&mut self, now: Timestamp, link: &Link) {
        let Link::Irc { channel, .. } = link else { return };
        let Some(channel) = self.channels.remove(&self.fold(channel)) else { return };
        if matches!(channel.place, Place::Joined { .. } | Place::Joining { .. }) {
            self.control(Command::PART(channel.name, Some("the link was removed".into())));
        }
        self.pump(now);
    }

    /// Something to carry to the network.
    pub fn deliver(&mut self, now: Timestamp, delivery: Delivery) {
        match &delivery.news.what {
            What::Linked(link) => self.link(now, link, delivery.news.channel),
            What::Unlinked(link) => self.unlink(now, link),
            what => {
                if let What::Message(content) = what {
                    self.quotes.keep(delivery.news.event, delivery.news.author.profile.name(), &content.body);
                }
                return self.hold(now, delivery);
            }
        }
        if delivery.id != 0 {
            self.out.push(report_output((delivery.id, Outcome::Delivered { external_id: None })));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) {
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
        if waits && line.bucket.next_ms() > now.0 {
            next = next.min(Timestamp(line.bucket.next_ms()));
        }
        Some(next)
    }

    /// A message of the server.
    pub fn receive(&mut self, now: Timestamp, message: Message) {
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
        let Some(line) = &mut self.line else { return };
        match &message.command {
            Command::Response(response, args) => return self.response(now, *response, args),
            Command::Raw(command, args) => return self.raw(now, command, args),
            Command::PONG(a, b) => return self.pong(&[Some(a.as_str()), b.as_deref()]),
            Command::ERROR(reason) => {
                let reason = format!("the network closed the connection: {reason}");
                return self.out.push(Output::Close { kind: None, reason });
            }
            _ => {}
        }
        let (nick, user, host) = match (&message.prefix, &message.command) {
            (Some(Prefix::Nickname(nick, user, host)), _) => (nick.as_str(), user.as_str(), host.as_str()),
            // Servers and services kick, too; what they say is for operators.
            (Some(Prefix::ServerName(name)), Command::KICK(..)) => (name.as_str(), "", ""),
            _ => return,
        };
        let own = line.support.fold(nick) == line.support.fold(&line.nick);
        if own && !user.is_empty() && !host.is_empty() {
            line.user_host = Some(format!("{user}@{host}"));
        }
        match &message.command {
            Command::PRIVMSG(target, text) | Command::NOTICE(target, text) => {
                let notice = matches!(message.command, Command::NOTICE(..));
                if own {
                    self.echo(target, message);
                } else {
                    self.heard(now, nick, target, text, notice, message);
                }
            }
            Command::JOIN(channel, _, _) if own => self.joined(now, channel),
            Command::PART(channel, reason) if own => {
                let reason = reason.clone().unwrap_or_default();
                self.put_out(now, channel, format!("removed from the channel: {reason}"));
            }
            Command::PART(channel, reason) => self.gone(nick, Some(channel), reason.as_deref()),
            Command::KICK(channel, whom, reason) => self.kicked(now, nick, channel, whom, reason.as_deref()),
            Command::QUIT(reason) => self.gone(nick, None, reason.as_deref()),
            Command::NICK(new) if own => line.nick = new.clone(),
            Command::NICK(new) => self.gone(nick, None, Some(&format!("is now known as {new}"))),
            _ => {}
        }
        self.regain(message);
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
            Response::RPL_ENDOFMOTD | Response::ERR_NOMOTD if !line.ready => line.ready = true,
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

    /// Numerics that the `irc` crate has no name for.
    fn raw(&mut self, now: Timestamp, command: &str, args: &[String]) {
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

    fn pong(&mut self, tokens: &[Option<&str>]) {
        let Some(line) = &mut self.line else { return };
        let number = tokens.iter().flatten().find_map(|token| token.strip_prefix("mc")?.parse::<u64>().ok());
        let Some(fence) =
            number.and_then(|number| line.fences.iter().position(|fence| fence.number == number))
        else {
            return;
        };
        let covers = line.fences.drain(..=fence).next_back().map_or(0, |fence| fence.covers);
        let mut done = Vec::new();
        for channel in self.channels.values_mut() {
            channel.confirm_up_to(covers, &mut done);
        }
        self.out.extend(done.into_iter().map(report_output));
    }

    /// Our own line came back.
    fn echo(&mut self, target: &str, message: &Message) {
        let Some(line) = &self.line else { return };
        if !line.enabled.contains("echo-message") {
            return;
        }
        let mut done = Vec::new();
        let key = line.support.fold(target);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.confirm_first(tag(message, "msgid").map(str::to_owned), &mut done);
        }
        self.out.extend(done.into_iter().map(report_output));
    }

    /// Somebody else's line.
    fn heard(
        &mut self,
        now: Timestamp,
        nick: &str,
        target: &str,
        text: &str,
        notice: bool,
        message: &Message,
    ) {
        let ctcp = text.strip_prefix('\x01').map(|text| text.strip_suffix('\x01').unwrap_or(text));
        let (style, text) = match ctcp {
            Some(ctcp) => match ctcp.strip_prefix("ACTION ") {
                Some(text) if !notice => (Style::Emote, text),
                _ if notice => return,
                _ => return self.ctcp(now, nick, target, ctcp),
            },
            None if notice => (Style::Notice, text),
            None => (Style::Text, text),
        };
        let body = strip(text);
        let Some(line) = &mut self.line else { return };
        let key = line.support.fold(target);
        let Some(channel) = self.channels.get(&key).filter(|_| !body.trim().is_empty()) else { return };
        line.taken_in += 1;
        let made_id = || format!("{}-{}", line.since.0, line.taken_in);
        let external_id = tag(message, "msgid").map_or_else(made_id, str::to_owned);
        let said_at = tag(message, "time").and_then(clock::parse).unwrap_or(now).min(now);
        let via = Some(channel.link.clone());
        let origin = Some(Origin { link: channel.link.clone(), external_id, said_at });
        let content = Content { style, body, formatted: irc_to_html(text), reply_to: None, origin };
        let intent = Intent::SendMessage { channel: ChannelRef::Id(channel.id), content };
        let folded = line.support.fold(nick);
        if line.speakers.len() < SPEAKERS || line.speakers.contains_key(&folded) {
            let (_, channels) =
                line.speakers.entry(folded).or_insert_with(|| (nick.to_owned(), BTreeSet::new()));
            channels.insert(key);
        }
        let actor = self.person(nick);
        self.out.push(Output::Submit(Submission { actor, intent, via, join_first: true, tag: 0 }));
    }

    /// A person on the network. Their account is their nick: whoever takes the nick later is taken
    /// for them, as everybody on the channel would; nothing but the name depends on it.
    fn person(&self, nick: &str) -> Actor {
        let network = &self.setup.network;
        let end = (0..=nick.len().min(64)).rev().find(|at| nick.is_char_boundary(*at)).unwrap_or(0);
        let home = format!("{nick}@{network}");
        let profile = Profile { username: nick[..end].to_owned(), display_name: String::new(), home };
        Actor::Person { account: format!("{}@{network}", self.fold(nick)), profile }
    }

    /// Somebody left one channel, or all.
    fn gone(&mut self, nick: &str, channel: Option<&str>, reason: Option<&str>) {
        let Some(line) = &mut self.line else { return };
        let key = line.support.fold(nick);
        let channel = channel.map(|channel| line.support.fold(channel));
        let Some((nick, channels)) = line.speakers.get_mut(&key) else { return };
        let nick = nick.clone();
        let left: Vec<_> =
            channels.iter().filter(|c| channel.as_ref().is_none_or(|one| one == *c)).cloned().collect();
        channels.retain(|c| !left.contains(c));
        if channels.is_empty() {
            line.speakers.remove(&key);
        }
        for id in left.iter().filter_map(|key| Some(self.channels.get(key)?.id)) {
            let intent = Intent::LeaveChannel {
                channel: ChannelRef::Id(id),
                reason: strip(reason.unwrap_or_default()),
            };
            let submission =
                Submission { actor: self.person(&nick), intent, via: None, join_first: false, tag: 0 };
            self.out.push(Output::Submit(submission));
        }
    }

    fn kicked(&mut self, now: Timestamp, by: &str, channel: &str, whom: &str, reason: Option<&str>) {
        let Some(line) = &self.line else { return };
        let reason = reason.unwrap_or_default();
        if line.support.fold(whom) == line.support.fold(&line.nick) {
            self.put_out(now, channel, format!("kicked by {by}: {reason}"));
        } else {
            self.gone(whom, Some(channel), Some(&format!("kicked by {by}: {reason}")));
        }
    }

    fn joined(&mut self, now: Timestamp, channel: &str) {
        let key = self.fold(channel);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.place = Place::Joined { since_ms: now.0 };
        }
    }

    /// We are not in that channel, or may not be: try again later, and longer each time.
    fn put_out(&mut self, now: Timestamp, name: &str, reason: String) {
        let key = self.fold(name);
        let Some(channel) = self.channels.get_mut(&key) else { return };
        if let Place::Joined { since_ms } = channel.place
            && now.0.saturating_sub(since_ms) > REJOIN_MAX_MS
        {
            channel.refusals = 0;
        }
        let wait_ms = (REJOIN_FIRST_MS << channel.refusals.min(10)).min(REJOIN_MAX_MS);
        channel.refusals = channel.refusals.saturating_add(1);
        let reason = format!("{name}: {reason}");
        self.out.push(Output::Warn(format!("{reason}; trying again in {} s", wait_ms / 1000)));
        let report = channel.give_back(Some(wait_ms), &reason);
        channel.place = Place::Refused { until_ms: now.0 + wait_ms, reason };
        self.out.extend(report.map(report_output));
    }

    /// The channel does not take our lines.
    fn muted(&mut self, name: &str, said: &str) {
        let key = self.fold(name);
        if let Some(channel) = self.channels.get_mut(&key)
            && channel.unconfirmed() > 0
        {
            let report = channel.give_back(Some(MUTED_MS), &format!("{name}: {said}"));
            self.out.extend(report.map(report_output));
        }
    }

    /// Answers what a client is asked by the protocol between clients, to the asker alone.
    fn ctcp(&mut self, now: Timestamp, nick: &str, target: &str, asked: &str) {
        let Some(line) = &mut self.line else { return };
        let to_us = line.support.fold(target) == line.support.fold(&line.nick);
        let (command, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        let answer = match command.to_ascii_uppercase().as_str() {
            "VERSION" => concat!("VERSION Multichat ", env!("CARGO_PKG_VERSION")).to_owned(),
            "PING" => format!("PING {}", strip(rest).chars().take(64).collect::<String>()),
            "TIME" => format!("TIME {} s since 1970 (UTC)", now.0 / 1000),
            _ => return,
        };
        if to_us && line.control.len() < CONTROL && line.ctcp.take(now.0) {
            line.control.push_back(Command::NOTICE(nick.to_owned(), format!("\x01{answer}\x01")).into());
        }
    }

    /// Keeps a delivery until its turn comes.
    fn hold(&mut self, now: Timestamp, delivery: Delivery) {
        let link = delivery.link.clone();
        let Some(Link::Irc { channel: name, .. }) = &link else {
            let reason = "no channel of an IRC network".to_owned();
            return self.out.push(report_output((delivery.id, Outcome::Failed { reason })));
        };
        let key = self.fold(name);
        if let Some(link) = link.as_ref().filter(|_| !self.channels.contains_key(&key)) {
            self.link(now, link, delivery.news.channel);
        }
        let Some(channel) = self.channels.get_mut(&key) else {
            let reason = format!("{name} is no channel of {}", self.setup.network);
            return self.out.push(report_output((delivery.id, Outcome::Failed { reason })));
        };
        let mut report = channel.push(delivery);
        if let Place::Refused { until_ms, reason } = &channel.place {
            let (wait_ms, reason) = (until_ms.saturating_sub(now.0), reason.clone());
            report = report.or_else(|| channel.give_back(Some(wait_ms), &reason));
        }
        self.out.extend(report.map(report_output));
        self.pump(now);
    }

    /// Sends whatever there is leave to send.
    fn pump(&mut self, now: Timestamp) {
        if !self.line.as_ref().is_some_and(|line| line.ready) {
            return;
        }
        self.join_channels(now);
        loop {
            let Some(line) = &mut self.line else { return };
            let control = !line.control.is_empty();
            let next = if control { None } else { self.next_channel() };
            let idle = !control && next.is_none();
            let fence = self.wants_fence(now, idle);
            let Some(line) = &mut self.line else { return };
            if (idle && !fence) || !line.bucket.take(now.0) {
                return;
            }
            if fence {
                self.send_fence(now);
            } else if let Some(message) = line.control.pop_front() {
                self.out.push(Output::Send(message));
            } else if let Some(key) = next
                && !self.say(now, key)
                && let Some(line) = &mut self.line
            {
                line.bucket.put_back();
            }
        }
    }

    fn join_channels(&mut self, now: Timestamp) {
        let Some(line) = &mut self.line else { return };
        let inside = |place: &Place| matches!(place, Place::Joined { .. } | Place::Joining { .. });
        let mut count = self.channels.values().filter(|channel| inside(&channel.place)).count();
        for channel in self.channels.values_mut() {
            let due = match channel.place {
                Place::Outside => true,
                Place::Refused { until_ms, .. } => now.0 >= until_ms,
                Place::Joining { since_ms } => now.0.saturating_sub(since_ms) >= JOIN_PATIENCE_MS,
                Place::Joined { .. } => false,
            };
            if !due {
                continue;
            }
            let counted = inside(&channel.place);
            if !counted && line.support.channel_limit.is_some_and(|limit| count >= limit) {
                let reason = format!("{}: the network allows no more channels", channel.name);
                let report = channel.give_back(Some(REJOIN_MAX_MS), &reason);
                channel.place = Place::Refused { until_ms: now.0 + REJOIN_MAX_MS, reason: reason.clone() };
                self.out.extend(report.map(report_output));
                self.out.push(Output::Warn(reason));
                continue;
            }
            count += usize::from(!counted);
            channel.place = Place::Joining { since_ms: now.0 };
            line.control.push_back(Command::JOIN(channel.name.clone(), None, None).into());
        }
    }

    /// The next channel that has something to say and may, after the one that spoke last.
    fn next_channel(&self) -> Option<String> {
        if self.channels.values().map(Channel::unconfirmed).sum::<usize>() >= UNCONFIRMED {
            return None;
        }
        let speaks =
            |channel: &Channel| matches!(channel.place, Place::Joined { .. }) && channel.is_waiting();
        let (turn, all) = (&self.turn, &self.channels);
        let after = all.range::<String, _>((Bound::Excluded(turn), Bound::Unbounded));
        let mut next = after.chain(all.range::<String, _>(..=turn));
        next.find(|(_, channel)| speaks(channel)).map(|(key, _)| key.clone())
    }

    /// Says the next line of a channel, if its deliveries have one left.
    fn say(&mut self, now: Timestamp, key: String) -> bool {
        let Some(line) = &mut self.line else { return false };
        let Some(channel) = self.channels.get_mut(&key) else { return false };
        let own = line.user_host.as_deref().map_or(10 + 1 + 63, str::len);
        let name = channel.name.clone();
        // ":nick!user@host PRIVMSG #channel :text\r\n", as the others receive it.
        let frame = 1 + line.nick.len() + 1 + own + " PRIVMSG ".len() + name.len() + " :\r\n".len();
        let room = line.support.line_len.saturating_sub(frame);
        let (link, quotes) = (channel.link.clone(), &self.quotes);
        let render = |delivery: &Delivery| match foreign(delivery, &link) {
            Some(reason) => Err(reason),
            None => Ok(render(&delivery.news, quotes, now, room)),
        };
        let mut done = Vec::new();
        let text = channel.next_line(line.sequence + 1, render, &mut done);
        self.out.extend(done.into_iter().map(report_output));
        self.turn = key;
        let Some((notice, text)) = text else { return false };
        line.sequence += 1;
        line.last_said = now;
        let command = if notice { Command::NOTICE(name, text) } else { Command::PRIVMSG(name, text) };
        self.out.push(Output::Send(command.into()));
        true
    }

    fn wants_fence(&self, now: Timestamp, idle: bool) -> bool {
        let Some(line) = &self.line else { return false };
        let unfenced = line.sequence - line.fenced;
        if line.fences.is_empty() && now.since_ms(line.heard) >= SILENCE_MS {
            return true;
        }
        if !self.is_unconfirmed() || unfenced == 0 {
            return false;
        }
        if line.enabled.contains("echo-message") {
            return idle && now.since_ms(line.last_said) >= ECHO_PATIENCE_MS;
        }
        unfenced >= BATCH || (idle && line.fences.is_empty())
    }

    fn send_fence(&mut self, now: Timestamp) {
        let Some(line) = &mut self.line else { return };
        line.fence_number += 1;
        line.fenced = line.sequence;
        let number = line.fence_number;
        line.fences.push_back(Fence { number, covers: line.sequence, sent: now });
        self.out.push(Output::Send(Command::PING(format!("mc{number}"), None).into()));
    }

    fn control(&mut self, command: Command) {
        if let Some(line) = &mut self.line {
            line.control.push_back(command.into());
        }
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

/// Why a message must not go to that link: it came from there, or from another IRC network, whose
/// operators forbid carrying their talk elsewhere.
fn foreign(delivery: &Delivery, link: &Link) -> Option<String> {
    let What::Message(Content { origin: Some(origin), .. }) = &delivery.news.what else { return None };
    match (&origin.link, link) {
        (from, to) if from == to => Some("it came from there".into()),
        (Link::Irc { network: from, .. }, Link::Irc { network: to, .. }) if from != to => {
            Some(format!("nothing is carried from one IRC network ({from}) to another"))
        }
        _ => None,
    }
}

fn report_output((delivery, outcome): Report) -> Output {
    Output::Report { delivery, outcome }
}

fn tag<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let tags = message.tags.as_ref()?;
    tags.iter().find(|tag| tag.0 == name)?.1.as_deref().filter(|value| !value.is_empty())
}

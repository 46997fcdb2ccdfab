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

mod inbound;
mod outbound;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use irc::proto::{Command, Message, Prefix, Response};

use super::isupport::ISupport;
use super::queue::{Bucket, Channel, Place, Report};
use super::registration::{Credentials, Registration, Step};
use super::render::Quotes;
use crate::base::{ChannelId, Kind, Timestamp};
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
/// Speakers that are remembered, to see them leave; beyond that no more are.
const SPEAKERS: usize = 10_000;
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
}

/// What comes out.
#[derive(Debug)]
pub(super) enum Output {
    Send(Message),
    Submit(Box<Submission>),
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

fn report_output((delivery, outcome): Report) -> Output {
    Output::Report { delivery, outcome }
}

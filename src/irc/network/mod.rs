//! Links to IRC networks: one connection that speaks for everybody in the linked channels
//! (relay mode; there is no other yet), kept up for as long as the node runs.
//!
//! The shell of [`session`], which decides everything: here bytes are carried, time is read and
//! waiting is done. It never acknowledges for the network, and never stops taking deliveries while
//! it waits for the node. When the node takes no more, it stops reading, and TCP slows the network
//! down.
//!
//! # What a relay does
//!
//! It says what members say (`render`), with what it relates to; shows edits by what changed (`edit`);
//! does on the network what moderators did elsewhere, where it is an operator (`moderation`), and hands
//! in what the network's operators do as wishes of the persons they are (`session/moderation`). The
//! channel's policy decides about those. Nothing is carried before an operator agreed, and single people
//! can be kept out (`session/commands`). Identities hang on accounts, then on nicks (`people`).
//!
//! # Several nodes on one link
//!
//! Nodes that name each other in `failover_with:` hold their links together: one carries a channel at a
//! time, and when it goes the next goes on from there. None of that needs a clock, an election, or the
//! nodes to see each other; the channel on the network is what they agree by.
//!
//! - **Who carries** (`holders`): whoever was in the channel when we came in is ahead of us, and we carry
//!   when nobody is. The kernel of a killed process closes its connection at once, and the ircd tells
//!   everybody. A holder that is ahead, has something to do and answers nothing for 5 s, while the network
//!   does, is passed over; when it wakes it says nothing before it has heard of that. Holders that the two halves of a
//!   netsplit bring together both carry: the one with the smaller nick goes on.
//! - **Outwards** (`strike`): every holder has the deliveries in its outbox. One ircd shows a line of the
//!   one that carries to the others before it shows its leave, so those strike a delivery out, line by
//!   line, as they see it said, and what its author said before with it. What they see before their log
//!   knows it is kept until it does.
//! - **What one did not see**, for it was away or the other said it in words it did not foresee, it asks in
//!   a private notice: is there anything left to be done for these events? The node that is asked looks
//!   into its log and its outbox (`Node::is_settled`).
//! - **Inwards** (`heard`): the one that carries hands in; the others keep what they hear until they see in
//!   the log that it was taken in, and hand in the rest when they take over. Lines have the same ids with
//!   all holders, so what the dead one took in and told nobody comes out as a double when it is back, and
//!   nobody is shown it (`node/doubles.rs`).
//!
//! Simulated in `transcripts/crowd.rs`, with real processes in `tests/it/failover.rs`. What can go wrong:
//!
//! - A holder that comes back when no other is there says what waits in its outbox: also what the other
//!   said meanwhile, marked with its time. The same holds if the other dies before the one that came back
//!   has asked it about everything (it asks about 24 at a time, as fast as flood control lets it).
//! - One that loses the network together with the other, and is back first, may say up to 16 lines again
//!   that it does not know to have arrived.
//! - A line that one took in and told nobody may be shown twice if the other heard it in another stretch of
//!   two minutes, by its clock or by the network's time.
//! - A person of the network is another identity with each node, as identities are made from a node's
//!   secret: order by sender holds by nick, and bans and roles of Multichat have to be given for both. What
//!   operators do on the network in the moment when nobody carries stays there.
//! - `!mc stop` and `!mc mute` are heard by the holders that are there. What was allowed is told to the
//!   others.
//! - Whoever has the nick of another holder can keep the link silent: let services protect the nicks.

mod channel;
mod clock;
mod edit;
mod heard;
mod holders;
mod isupport;
mod known;
mod moderation;
mod people;
mod queue;
mod registration;
mod render;
mod scram;
mod session;
mod strike;
#[cfg(test)]
mod transcripts;
mod wire;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::base::config::{NetworkConfig, NetworkMode, SaslConfig, SaslMechanism};
use crate::base::{ChannelId, EventId, Kind, Timestamp, limits};
use crate::chat::intent::Submission;
use crate::chat::message::Link;
use crate::node::Delivery;
use crate::port::{
    Capabilities, Connector, Door, Fault, Handle, HistoryQuery, Outcome, Port, Range, Receipt, Refusal,
    Stopped,
};

use registration::{Account, Credentials};
use session::{Output, Session, Setup};
use wire::Wire;

/// First wait before reconnecting, doubled each time up to the longest, with up to a quarter more.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_MAX: Duration = Duration::from_secs(60);
/// A connection that held this long starts the waits anew.
const HELD_WELL: Duration = Duration::from_secs(60);
/// What may wait between the connection and the node before reading stops.
const UPWARD: usize = 256;
/// Messages of each channel that are looked up at the start, so that replies and edits can be shown.
const RECALLED: usize = 100;
/// The same where other nodes hold the links, too: what they named is not named anew.
const RECALLED_OF_OTHERS: usize = limits::HISTORY_MESSAGES;
/// How long the end waits for the network to confirm what was said.
const GOODBYE: Duration = Duration::from_secs(1);

/// A link to one IRC network: the door [`Door::Network`] of its address.
pub struct Network {
    name: String,
    config: NetworkConfig,
    roots: Option<rustls::RootCertStore>,
}

impl Network {
    /// The network that the configuration calls `name`.
    pub fn new(name: String, config: NetworkConfig) -> Self {
        Self { name, config, roots: None }
    }

    /// Trusts these certificates instead of the machine's: for networks with an authority of their
    /// own, and for tests.
    pub fn with_roots(mut self, roots: rustls::RootCertStore) -> Self {
        self.roots = Some(roots);
        self
    }

    fn tls(&mut self) -> Result<Option<Arc<rustls::ClientConfig>>, Fault> {
        if !self.config.tls {
            return Ok(None);
        }
        let invalid = |reason| Fault::new(Kind::Invalid, format!("irc network {}: {reason}", self.name));
        let roots = self.roots.take().map_or_else(wire::trusted_roots, Ok).map_err(invalid)?;
        wire::tls_config(roots, self.config.client_cert.as_ref()).map(Some).map_err(invalid)
    }

    async fn setup(&self) -> Result<Setup, Fault> {
        let NetworkConfig {
            address,
            nick,
            sasl,
            mode: NetworkMode::Relay,
            flood,
            owner,
            consent,
            ignore,
            failover_with,
            ..
        } = &self.config;
        let invalid = |what: String| Fault::new(Kind::Invalid, format!("irc network {}: {what}", self.name));
        let sound =
            |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | ':' | '!' | '@' | '#');
        if nick.is_empty() || !nick.chars().all(sound) {
            return Err(invalid(format!("nick {nick:?} cannot be a nick")));
        }
        if !address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err(invalid(format!("address {address:?} is not host:port")));
        }
        let account = match sasl {
            Some(sasl) => Some(account(sasl).await.map_err(invalid)?),
            None => None,
        };
        if account.as_ref().is_some_and(|account| !account.password.is_empty()) && !self.config.tls {
            tracing::warn!(network = %self.name, "the password goes to the network in clear: set tls");
        }
        let real_name = match owner {
            Some(owner) => format!("Multichat relay, run by {owner}"),
            None => "Multichat relay".to_owned(),
        };
        Ok(Setup {
            network: address.clone(),
            credentials: Credentials { nick: nick.clone(), real_name, account },
            flood: flood.map(|flood| (flood.burst, flood.per_second)),
            consent: *consent,
            ignore: ignore.clone(),
            failover_with: failover_with.clone(),
        })
    }
}

async fn account(sasl: &SaslConfig) -> Result<Account, String> {
    let password = match sasl.mechanism {
        SaslMechanism::External => String::new(),
        _ => password(sasl).await?,
    };
    let mut nonce = [0; 18];
    getrandom::fill(&mut nonce).map_err(|error| format!("no randomness: {error}"))?;
    Ok(Account {
        name: sasl.account.clone(),
        password,
        mechanism: sasl.mechanism,
        nickserv: sasl.nickserv,
        nonce: nonce.map(|byte| format!("{byte:02x}")).concat(),
    })
}

async fn password(sasl: &SaslConfig) -> Result<String, String> {
    match (&sasl.password, &sasl.password_file) {
        (Some(password), _) => Ok(password.clone()),
        (None, Some(path)) => {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|error| format!("sasl.password_file {path}: {error}"))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, None) => Err("sasl needs password or password_file".into()),
    }
}

impl Connector for Network {
    fn door(&self) -> Door {
        Door::Network(self.config.address.clone())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { formatted: true, replies: true, max_line: Some(512), ..Capabilities::default() }
    }

    fn run(mut self: Box<Self>, port: Port) -> BoxFuture<'static, Result<(), Fault>> {
        async move {
            let setup = self.setup().await?;
            let tls = self.tls()?;
            let mut running = Running::start(self.name, setup, port);
            let result = running.run(tls).await;
            running.finish().await;
            result
        }
        .boxed()
    }
}

/// What goes to the node, in order.
enum Upward {
    Submit(Box<Submission>, u64),
    Remember(String, String),
    Report(u64, Outcome),
    Ask(Link, Vec<u64>, u64),
}

/// An answer of the node, by its token.
enum Answer {
    /// What became of a wish.
    Wish(u64, Result<Option<EventId>, (Kind, String)>),
    /// Which events need nothing more to be brought over the link.
    Settled(u64, Vec<bool>),
}

impl Answer {
    fn give(self, session: &mut Session) {
        match self {
            Self::Wish(token, result) => session.answered(now(), token, result),
            Self::Settled(token, settled) => session.settled(now(), token, &settled),
        }
    }
}

/// Why a connection ended.
enum End {
    Cancelled,
    Lost(Option<Kind>, String),
}

struct Running {
    name: String,
    address: String,
    session: Session,
    deliveries: mpsc::Receiver<Delivery>,
    cancel: CancellationToken,
    upward: mpsc::Sender<Upward>,
    answers: mpsc::Receiver<Answer>,
    handle: Handle,
    /// Linked channels whose history is still to be looked up.
    unknown: Vec<ChannelId>,
    /// No other node holds these links.
    is_alone: bool,
    teller: JoinHandle<()>,
    /// What has come out for the node and has no room in `upward` yet.
    backlog: VecDeque<Upward>,
    /// What is to be sent on the connection.
    lines: VecDeque<irc::proto::Message>,
    ending: Option<(Option<Kind>, String)>,
}

impl Running {
    fn start(name: String, setup: Setup, port: Port) -> Self {
        let Port { channels, notes, deliveries, handle, cancel } = port;
        let (upward, requests) = mpsc::channel(UPWARD);
        let (told, answers) = mpsc::channel(UPWARD);
        let teller = tokio::spawn(tell_node(handle.clone(), requests, told));
        let (address, is_alone) = (setup.network.clone(), setup.failover_with.is_empty());
        let mut session = Session::new(setup);
        session.restore(notes.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())));
        for channel in &channels {
            for link in &channel.links {
                session.link(now(), link, channel.id);
            }
        }
        let unknown = channels.iter().filter(|c| !c.links.is_empty()).map(|channel| channel.id).collect();
        let (backlog, lines) = (VecDeque::new(), VecDeque::new());
        Self {
            name,
            address,
            session,
            deliveries,
            cancel,
            upward,
            answers,
            handle,
            unknown,
            is_alone,
            teller,
            backlog,
            lines,
            ending: None,
        }
    }

    /// Connects, and again, until cancelled.
    async fn run(&mut self, tls: Option<Arc<rustls::ClientConfig>>) -> Result<(), Fault> {
        if self.recall().await.is_none() {
            return Ok(());
        }
        let mut wait = Duration::ZERO;
        loop {
            let address = self.address.clone();
            let attempt = wire::connect(&address, tls.clone());
            let attempt = async move {
                tokio::time::sleep(wait).await;
                attempt.await
            };
            let Some(result) = self.meanwhile(attempt).await else { return Ok(()) };
            let since = tokio::time::Instant::now();
            let (kind, reason) = match result {
                Ok(wire) => match self.talk(wire).await {
                    End::Cancelled => return Ok(()),
                    End::Lost(kind, reason) => (kind, reason),
                },
                Err(reason) => (None, format!("cannot connect to {address}: {reason}")),
            };
            self.lines.clear();
            self.session.lost(&reason);
            self.settle();
            if let Some(kind) = kind {
                return Err(Fault::new(kind, format!("irc network {}: {reason}", self.name)));
            }
            wait = if since.elapsed() >= HELD_WELL { Duration::ZERO } else { wait };
            wait = (wait * 2).clamp(RECONNECT_FIRST, RECONNECT_MAX);
            wait += wait.mul_f64(f64::from(now().0 as u32 % 256) / 1024.0);
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(network = %self.name, wait_ms, "{reason}; reconnecting");
        }
    }

    /// Looks up what was said last, to know it when somebody answers or changes it.
    async fn recall(&mut self) -> Option<()> {
        for channel in std::mem::take(&mut self.unknown) {
            let limit = if self.is_alone { RECALLED } else { RECALLED_OF_OTHERS };
            let (handle, range) = (self.handle.clone(), Range::Latest);
            let query = HistoryQuery { channel, range, limit };
            let history = self.meanwhile(async move { handle.history(query).await }).await?.ok()?;
            history.iter().for_each(|news| self.session.recall(news));
        }
        Some(())
    }

    /// Does something while there is no connection; `None` if cancelled meanwhile.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                result = &mut work => return Some(result),
                permit = self.upward.reserve(), if !self.backlog.is_empty() => {
                    hand_up(permit.ok()?, &mut self.backlog);
                }
                Some(answer) = self.answers.recv() => answer.give(&mut self.session),
                delivery = self.deliveries.recv() => self.session.deliver(now(), delivery?),
            }
            self.settle();
        }
    }

    /// Speaks on a connection until it ends.
    async fn talk(&mut self, wire: Wire) -> End {
        let (mut sink, mut stream) = wire.split();
        self.session.connected(now());
        let mut goodbye = None;
        loop {
            self.settle();
            if let Err(end) = self.flush(&mut sink).await {
                return end;
            }
            if goodbye.is_some_and(|at| tokio::time::Instant::now() >= at || !self.session.is_unconfirmed()) {
                let quit = irc::proto::Command::QUIT(Some("the relay stops".into()));
                let _ = tokio::time::timeout(GOODBYE, sink.send(quit.into())).await;
                let _ = tokio::time::timeout(GOODBYE, sink.close()).await;
                return End::Cancelled;
            }
            let next = self.session.next_timeout(now()).unwrap_or_else(|| now().plus_ms(1_000));
            let mut timeout = Duration::from_millis(next.since_ms(now()).max(1));
            if goodbye.is_some() {
                timeout = timeout.min(Duration::from_millis(20));
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled(), if goodbye.is_none() => goodbye = Some(tokio::time::Instant::now() + GOODBYE),
                permit = self.upward.reserve(), if !self.backlog.is_empty() => match permit {
                    Ok(permit) => hand_up(permit, &mut self.backlog),
                    Err(_) => return End::Cancelled,
                },
                Some(answer) = self.answers.recv() => answer.give(&mut self.session),
                delivery = self.deliveries.recv(), if goodbye.is_none() => match delivery {
                    Some(delivery) => self.session.deliver(now(), delivery),
                    None => goodbye = Some(tokio::time::Instant::now() + GOODBYE),
                },
                message = stream.next(), if self.backlog.is_empty() => match message {
                    Some(Ok(message)) => self.session.receive(now(), message),
                    Some(Err(error)) => return End::Lost(None, format!("connection lost: {error}")),
                    None => return End::Lost(None, "the network closed the connection".into()),
                },
                () = tokio::time::sleep(timeout) => self.session.tick(now()),
            }
        }
    }

    /// Sorts what came out of the session.
    fn settle(&mut self) {
        for output in self.session.take_outputs() {
            match output {
                Output::Send(message) => self.lines.push_back(message),
                Output::Submit { submission, token } => {
                    self.backlog.push_back(Upward::Submit(submission, token));
                }
                Output::Remember { key, value } => self.backlog.push_back(Upward::Remember(key, value)),
                Output::Report { delivery, outcome } => {
                    if delivery != 0 {
                        self.backlog.push_back(Upward::Report(delivery, outcome));
                    }
                }
                Output::Close { kind, reason } => {
                    self.ending.get_or_insert((kind, reason));
                }
                Output::Ask { link, marks, token } => {
                    self.backlog.push_back(Upward::Ask(link, marks, token));
                }
                Output::Inform(text) => tracing::info!(network = %self.name, "{text}"),
                Output::Warn(text) => tracing::warn!(network = %self.name, "{text}"),
            }
        }
    }

    /// Writes what is to be sent, taking deliveries meanwhile; a connection that takes nothing for
    /// long is gone.
    async fn flush(
        &mut self,
        sink: &mut (impl SinkExt<irc::proto::Message, Error = std::io::Error> + Unpin),
    ) -> Result<(), End> {
        let stuck = Duration::from_secs(120);
        while !self.lines.is_empty() {
            let lines = std::mem::take(&mut self.lines);
            let write = async {
                for line in lines {
                    tracing::trace!("to the network: {}", shown(&line));
                    sink.feed(line).await?;
                }
                sink.flush().await
            };
            match self.meanwhile(tokio::time::timeout(stuck, write)).await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Err(End::Lost(None, format!("connection lost: {error}"))),
                Some(Err(_)) => return Err(End::Lost(None, "the network takes no more".into())),
                None => return Err(End::Cancelled),
            }
        }
        match self.ending.take() {
            Some((kind, reason)) => Err(End::Lost(kind, reason)),
            None => Ok(()),
        }
    }

    /// Hands the last reports to the node and ends.
    async fn finish(mut self) {
        self.settle();
        self.answers.close();
        let rest = async {
            while let Some(next) = self.backlog.pop_front() {
                if self.upward.send(next).await.is_err() {
                    break;
                }
            }
            drop(self.upward);
            let _ = self.teller.await;
        };
        let _ = tokio::time::timeout(GOODBYE, rest).await;
    }
}

/// A line for the log, without secrets.
fn shown(message: &irc::proto::Message) -> String {
    match &message.command {
        irc::proto::Command::AUTHENTICATE(_) => "AUTHENTICATE ***".into(),
        irc::proto::Command::PRIVMSG(whom, _) if whom == "NickServ" => "PRIVMSG NickServ ***".into(),
        _ => message.to_string(),
    }
}

fn hand_up(permit: mpsc::Permit<'_, Upward>, backlog: &mut VecDeque<Upward>) {
    if let Some(next) = backlog.pop_front() {
        permit.send(next);
    }
}

/// Hands wishes, notes and reports to the node one after another, waiting where it has no room, and
/// tells what became of the wishes.
async fn tell_node(handle: Handle, mut requests: mpsc::Receiver<Upward>, told: mpsc::Sender<Answer>) {
    let mut answers: FuturesOrdered<BoxFuture<'static, Answer>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some(answer) = answers.next(), if !answers.is_empty() => {
                // Fails only at the end, when nobody asks any more.
                let _ = told.send(answer).await;
            }
            request = requests.recv(), if answers.len() < limits::GROUP_COMMIT_INPUTS => {
                let handed = match request {
                    None => return,
                    Some(Upward::Report(id, outcome)) => handle.report(id, outcome).await,
                    Some(Upward::Ask(link, marks, token)) => {
                        handle.settled_later(link, marks).await.map(|answer| {
                            let answer = async move { Answer::Settled(token, answer.await.unwrap_or_default()) };
                            answers.push_back(answer.boxed());
                        })
                    }
                    Some(Upward::Remember(key, value)) => handle.remember(key, value).await,
                    Some(Upward::Submit(submission, token)) => {
                        handle.submit_later(*submission).await.map(|answer| {
                            let answer = async move {
                                let result = told_of(answer.await.unwrap_or(Err(Refusal::Stopping)));
                                Answer::Wish(token, result)
                            };
                            answers.push_back(answer.boxed());
                        })
                    }
                };
                if handed == Err(Stopped) {
                    return;
                }
            }
        }
    }
}

fn told_of(answer: Result<Receipt, Refusal>) -> Result<Option<EventId>, (Kind, String)> {
    answer.map(|receipt| receipt.event).map_err(|refusal| (refusal.kind(), refusal.to_string()))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

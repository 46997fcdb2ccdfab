//! Links to IRC networks: one connection that speaks for everybody in the linked channels
//! (relay mode), kept up for as long as the node runs.
//!
//! The shell of [`session`], which decides everything: here bytes are carried, time is read and
//! waiting is done. It never acknowledges for the network, and never stops taking deliveries while
//! it waits for the node. When the node takes no more, it stops reading, and TCP slows the network
//! down.

mod clock;
mod isupport;
mod queue;
mod registration;
mod render;
mod session;
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

use crate::base::config::{NetworkConfig, NetworkMode, SaslConfig};
use crate::base::{EventId, Kind, Timestamp, limits};
use crate::chat::intent::{Actor, Intent, Submission};
use crate::node::Delivery;
use crate::port::{Capabilities, Connector, Door, Fault, Handle, Outcome, Port, Receipt, Refusal, Stopped};

use registration::Credentials;
use session::{Output, Session, Setup};
use wire::Wire;

/// First wait before reconnecting, doubled each time up to the longest, with up to a quarter more.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_MAX: Duration = Duration::from_secs(60);
/// A connection that held this long starts the waits anew.
const HELD_WELL: Duration = Duration::from_secs(60);
/// What may wait between the connection and the node before reading stops.
const UPWARD: usize = 256;
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
        let config = match self.roots.take() {
            Some(roots) => wire::tls_config_with(roots),
            None => wire::tls_config(),
        };
        config
            .map(Some)
            .map_err(|reason| Fault::new(Kind::Invalid, format!("irc network {}: {reason}", self.name)))
    }

    async fn setup(&self) -> Result<Setup, Fault> {
        let NetworkConfig { address, nick, sasl, mode: NetworkMode::Relay, flood, .. } = &self.config;
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
        let sasl = match sasl {
            Some(sasl) => Some((sasl.account.clone(), password(sasl).await.map_err(invalid)?)),
            None => None,
        };
        if sasl.is_some() && !self.config.tls {
            tracing::warn!(network = %self.name, "the password goes to the network in clear: set tls");
        }
        Ok(Setup {
            network: address.clone(),
            credentials: Credentials { nick: nick.clone(), sasl },
            flood: flood.map(|flood| (flood.burst, flood.per_second)),
        })
    }
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
        Capabilities { formatted: true, max_line: Some(512), ..Capabilities::default() }
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
    Submit(Box<Submission>),
    Report(u64, Outcome),
}

/// An imported message that became an event: kept so that a reply to it can quote it.
struct TakenIn {
    event: EventId,
    author: String,
    body: String,
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
    taken_in: mpsc::Receiver<TakenIn>,
    teller: JoinHandle<()>,
    /// What has come out for the node and has no room in `upward` yet.
    backlog: VecDeque<Upward>,
    /// What is to be sent on the connection.
    lines: VecDeque<irc::proto::Message>,
    ending: Option<(Option<Kind>, String)>,
}

impl Running {
    fn start(name: String, setup: Setup, port: Port) -> Self {
        let Port { channels, deliveries, handle, cancel, .. } = port;
        let (upward, requests) = mpsc::channel(UPWARD);
        let (events, taken_in) = mpsc::channel(UPWARD);
        let teller = tokio::spawn(tell_node(handle, requests, events));
        let address = setup.network.clone();
        let mut session = Session::new(setup);
        for channel in &channels {
            for link in &channel.links {
                session.link(now(), link, channel.id);
            }
        }
        let (backlog, lines) = (VecDeque::new(), VecDeque::new());
        Self {
            name,
            address,
            session,
            deliveries,
            cancel,
            upward,
            taken_in,
            teller,
            backlog,
            lines,
            ending: None,
        }
    }

    /// Connects, and again, until cancelled.
    async fn run(&mut self, tls: Option<Arc<rustls::ClientConfig>>) -> Result<(), Fault> {
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

    /// Does something while there is no connection; `None` if cancelled meanwhile.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return None,
                result = &mut work => return Some(result),
                permit = self.upward.reserve(), if !self.backlog.is_empty() => {
                    hand_up(permit.ok()?, &mut self.backlog);
                    continue;
                }
                Some(taken) = self.taken_in.recv() => {
                    self.session.quotes.keep(taken.event, &taken.author, &taken.body);
                    continue;
                }
                delivery = self.deliveries.recv() => delivery?,
            };
            self.session.deliver(now(), delivery);
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
                Some(taken) = self.taken_in.recv() => self.session.quotes.keep(taken.event, &taken.author, &taken.body),
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
                Output::Submit(submission) => self.backlog.push_back(Upward::Submit(submission)),
                Output::Report { delivery, outcome } => {
                    if delivery != 0 {
                        self.backlog.push_back(Upward::Report(delivery, outcome));
                    }
                }
                Output::Close { kind, reason } => {
                    self.ending.get_or_insert((kind, reason));
                }
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
        _ => message.to_string(),
    }
}

fn hand_up(permit: mpsc::Permit<'_, Upward>, backlog: &mut VecDeque<Upward>) {
    if let Some(next) = backlog.pop_front() {
        permit.send(next);
    }
}

/// Hands wishes and reports to the node one after another, waiting where it has no room, and tells
/// what became of messages. IRC has no way to say that a message was refused, so the log does.
async fn tell_node(handle: Handle, mut requests: mpsc::Receiver<Upward>, events: mpsc::Sender<TakenIn>) {
    type Answer = BoxFuture<'static, (Option<(String, String)>, Result<Receipt, Refusal>)>;
    let mut answers: FuturesOrdered<Answer> = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some((said, result)) = answers.next(), if !answers.is_empty() => match (said, result) {
                (Some((author, body)), Ok(Receipt { event: Some(event), .. })) => {
                    let _ = events.try_send(TakenIn { event, author, body });
                }
                (_, Ok(_)) => {}
                (_, Err(refusal)) => tracing::warn!(kind = ?refusal.kind(), "a message from the network was refused: {refusal}"),
            },
            request = requests.recv(), if answers.len() < limits::GROUP_COMMIT_INPUTS => {
                let handed = match request {
                    None => return,
                    Some(Upward::Report(id, outcome)) => handle.report(id, outcome).await,
                    Some(Upward::Submit(submission)) => {
                        let said = quotable(&submission);
                        handle.submit_later(*submission).await.map(|answer| {
                            let answer = async move { (said, answer.await.unwrap_or(Err(Refusal::Stopping))) };
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

/// Author and body of a message.
fn quotable(submission: &Submission) -> Option<(String, String)> {
    match (&submission.actor, &submission.intent) {
        (Actor::Person { profile, .. }, Intent::SendMessage { content, .. }) => {
            Some((profile.name().to_owned(), content.body.clone()))
        }
        _ => None,
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

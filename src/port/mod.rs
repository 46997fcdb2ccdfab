//! Between the node and its doors: the one interface that Matrix, the IRC listener, IRC networks
//! and the overlay shell speak. It carries values over bounded queues and decides nothing.
//!
//! A connector must keep taking deliveries while it waits for an answer of its own, or it and the
//! node would wait for each other.

use std::fmt;
use std::path::PathBuf;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::base::{ChannelId, EventId, Kind, NodeId};
use crate::chat::intent::Submission;
use crate::chat::message::Link;
use crate::chat::view::{ChannelView, MarketView, News};
pub use crate::node::{Delivery, Door, Outcome, Receipt, Refusal};
use crate::replica::Packet;

/// A connector: one door of the node.
pub trait Connector: Send {
    /// Which door this is.
    fn door(&self) -> Door;

    /// What the far side can carry.
    fn capabilities(&self) -> Capabilities;

    /// Runs until cancelled. Returns early only with a fault that no retry mends.
    fn run(self: Box<Self>, port: Port) -> BoxFuture<'static, Result<(), Fault>>;
}

/// What a side can carry, as data, so that what it lacks is rendered down in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    pub formatted: bool,
    pub multiline: bool,
    pub replies: bool,
    /// Bytes of one line on the wire, where there is such a limit.
    pub max_line: Option<usize>,
}

/// Why a connector stopped for good. One line that says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub message: String,
}

impl Fault {
    /// A fault of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A connector's side of the interface.
pub struct Port {
    /// Every channel as it was when the door opened; `deliveries` continue from there without gap.
    pub channels: Vec<ChannelView>,
    /// What this door remembered (see [`Handle::remember`]), in key order.
    pub notes: Vec<(String, Vec<u8>)>,
    pub deliveries: mpsc::Receiver<Delivery>,
    pub handle: Handle,
    /// Told when the node stops: finish what is under way and return.
    pub cancel: CancellationToken,
}

/// The part of a [`Port`] that can be cloned and shared.
#[derive(Clone)]
pub struct Handle {
    door: Door,
    node: mpsc::Sender<Command>,
}

/// The node stopped; nothing more can be asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node is stopping")
    }
}

impl std::error::Error for Stopped {}

/// What goes to the driver loop.
pub enum Command {
    /// A wish; answered once it is durable, or refused.
    Submit {
        submission: Box<Submission>,
        reply: oneshot::Sender<Result<Receipt, Refusal>>,
    },
    /// How a delivery went.
    Report {
        door: Door,
        delivery: u64,
        outcome: Outcome,
    },
    /// A note of the door's own; answered once it is durable. An empty value forgets the key.
    Remember {
        door: Door,
        key: String,
        value: Vec<u8>,
        reply: oneshot::Sender<()>,
    },
    /// Messages of a channel.
    History {
        query: HistoryQuery,
        reply: oneshot::Sender<Vec<News>>,
    },
    /// Messages that hold certain words.
    Search {
        query: SearchQuery,
        reply: oneshot::Sender<Vec<News>>,
    },
    /// Copy everything that is durable to a new file.
    Backup {
        path: PathBuf,
        reply: oneshot::Sender<Result<(), Fault>>,
    },
    /// The event that something on the far side of a link is here.
    Event {
        link: Link,
        external_id: String,
        reply: oneshot::Sender<Option<EventId>>,
    },
    /// The id that an event has on the far side of a link.
    ExternalId {
        link: Link,
        event: EventId,
        reply: oneshot::Sender<Option<String>>,
    },
    /// Of events, by the first bytes of their ids: whether they need no more to be brought over a link.
    Settled {
        link: Link,
        marks: Vec<u64>,
        reply: oneshot::Sender<Vec<bool>>,
    },
    /// Every channel as it is now.
    Channels {
        reply: oneshot::Sender<Vec<ChannelView>>,
    },
    /// What is owned in a channel, and which intents wait there.
    Market {
        channel: ChannelId,
        reply: oneshot::Sender<MarketView>,
    },
    /// What the node has to say about itself.
    Status {
        reply: oneshot::Sender<NodeStatus>,
    },
    /// From the overlay shell.
    PeerUp(NodeId),
    PeerDown(NodeId),
    Bytes {
        from: NodeId,
        bytes: Vec<u8>,
    },
    /// From the verifier: what `Bytes` said (nothing, if it was no packet), and how much was dropped
    /// as malformed.
    Packet {
        from: NodeId,
        packet: Option<Packet>,
        dropped: u64,
    },
    /// From the runtime: a connector is ready.
    OpenDoor {
        door: Door,
        deliveries: mpsc::Sender<Delivery>,
        reply: oneshot::Sender<Opening>,
    },
    /// Commit what is under way and end the loop.
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// What a connector is given to start from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    pub channels: Vec<ChannelView>,
    pub notes: Vec<(String, Vec<u8>)>,
}

/// Which part of a channel's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryQuery {
    pub channel: ChannelId,
    pub range: Range,
    /// At most this many, and never more than `limits::HISTORY_MESSAGES`.
    pub limit: usize,
}

/// A stretch of the node's log. Answers are always oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Range {
    /// The newest.
    Latest,
    /// The newest before this event.
    Before(EventId),
    /// The oldest after this position of the log.
    After(u64),
    Span(Span),
    /// Half before a place, half from it on.
    Around {
        at: Anchor,
        messages: bool,
    },
}

/// What lies between two places, without them. If they are given in the wrong order, it is what lies
/// between them all the same, taken from the later one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub after: Anchor,
    pub before: Anchor,
    /// Where there are more than asked for: the newest of them, else the oldest.
    pub newest: bool,
    /// Messages alone.
    pub messages: bool,
}

/// A place in a channel's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// The end of it on that side.
    Open,
    Event(EventId),
    Time(crate::base::Timestamp),
}

/// What to look for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SearchQuery {
    /// All of them have to be in a message, in any order and form.
    pub words: String,
    /// In this channel alone, or in all of them.
    pub channel: Option<ChannelId>,
    /// At most this many, and never more than `limits::SEARCH_RESULTS`.
    pub limit: usize,
}

/// What went to one sink through this node's links since it started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exports {
    pub sink: String,
    pub carried: u64,
    /// Not carried, for the channel or the message does not let it.
    pub withheld: u64,
}

/// What begins the note of an IRC network's door that says who carries a channel; the channel follows.
pub const CARRIER_NOTE: &str = "carrier/";

/// The node about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeStatus {
    pub node: NodeId,
    pub peers: Vec<NodeId>,
    pub channels: usize,
    pub events: u64,
    pub pending_events: usize,
    pub outbox: Vec<(String, usize)>,
    pub refused: Vec<(String, u64)>,
    pub exports: Vec<Exports>,
    /// Channels of IRC networks that several nodes hold, and the nick of the one that carries each.
    pub carriers: Vec<(String, String)>,
    /// Messages held without their text, which is asked for.
    pub wanted_texts: usize,
    /// One root over the state of every channel: equal on nodes that hold the same.
    pub state_root: crate::base::Digest,
}

impl Handle {
    /// For the runtime, which makes one per door, and for tests.
    pub fn new(door: Door, node: mpsc::Sender<Command>) -> Self {
        Self { door, node }
    }

    /// Hands in a wish. Returns when its effect is durable.
    ///
    /// # Errors
    /// The node's [`Refusal`]; one of kind `Retry` if the node is stopping.
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        match self.ask(|reply| Command::Submit { submission: Box::new(submission), reply }).await {
            Ok(result) => result,
            Err(Stopped) => Err(Refusal::Stopping),
        }
    }

    /// Hands in a wish without waiting for its effect: the answer comes on the receiver. Wishes
    /// handed in one after another are handled in that order.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn submit_later(
        &self,
        submission: Submission,
    ) -> Result<oneshot::Receiver<Result<Receipt, Refusal>>, Stopped> {
        let (reply, answer) = oneshot::channel();
        let submission = Box::new(submission);
        self.node.send(Command::Submit { submission, reply }).await.map_err(|_| Stopped)?;
        Ok(answer)
    }

    /// Says how a delivery went.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn report(&self, delivery: u64, outcome: Outcome) -> Result<(), Stopped> {
        let door = self.door.clone();
        self.node.send(Command::Report { door, delivery, outcome }).await.map_err(|_| Stopped)
    }

    /// Keeps a note for this door over restarts. Returns when it is durable. An empty value
    /// forgets the key.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn remember(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Result<(), Stopped> {
        let (door, key, value) = (self.door.clone(), key.into(), value.into());
        self.ask(|reply| Command::Remember { door, key, value, reply }).await
    }

    /// Messages of a channel, oldest first.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<News>, Stopped> {
        self.ask(|reply| Command::History { query, reply }).await
    }

    /// Messages that hold certain words, newest first: none that expired, was taken back or is void, and
    /// none that may not go into full-text search.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn search(&self, query: SearchQuery) -> Result<Vec<News>, Stopped> {
        self.ask(|reply| Command::Search { query, reply }).await
    }

    /// Copies everything that is durable to a new file, while the node runs.
    ///
    /// # Errors
    /// A [`Fault`] that says why there is no copy.
    pub async fn backup(&self, path: PathBuf) -> Result<(), Fault> {
        let answer = self.ask(|reply| Command::Backup { path, reply }).await;
        answer.unwrap_or_else(|stopped| Err(Fault::new(Kind::Retry, stopped.to_string())))
    }

    /// The event that something on the far side of a link is here, if it is known to be one.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn event(&self, link: Link, external_id: String) -> Result<Option<EventId>, Stopped> {
        self.ask(|reply| Command::Event { link, external_id, reply }).await
    }

    /// The id that an event has on the far side of a link, if it got there.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn external_id(&self, link: Link, event: EventId) -> Result<Option<String>, Stopped> {
        self.ask(|reply| Command::ExternalId { link, event, reply }).await
    }

    /// Asks of events, by the first bytes of their ids, whether they need no more to be brought over a
    /// link. The answer comes on the receiver.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn settled_later(
        &self,
        link: Link,
        marks: Vec<u64>,
    ) -> Result<oneshot::Receiver<Vec<bool>>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.node.send(Command::Settled { link, marks, reply }).await.map_err(|_| Stopped)?;
        Ok(answer)
    }

    /// Every channel as it is now.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn channels(&self) -> Result<Vec<ChannelView>, Stopped> {
        self.ask(|reply| Command::Channels { reply }).await
    }

    /// What is owned in a channel, and which intents wait there.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn market(&self, channel: ChannelId) -> Result<MarketView, Stopped> {
        self.ask(|reply| Command::Market { channel, reply }).await
    }

    /// The node about itself.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<NodeStatus, Stopped> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// Sends a command as it is: for the overlay shell.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.node.send(command).await.map_err(|_| Stopped)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.node.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

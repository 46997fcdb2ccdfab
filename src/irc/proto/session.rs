//! One client's side of a connection, as data: how far its registration is, what it can do, which
//! channels it sees and how much of them has reached it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::caps::CapSet;
use super::line::Input;
use super::metadata::Values;
use super::sasl::Exchange;
use crate::base::{ChannelId, Timestamp};
use crate::chat::view::News;

/// A connection, numbered by whoever accepts them; never reused.
pub type ClientId = u64;

/// Live news held back for one channel while what was missed is still being replayed; beyond it
/// the newest are dropped here and read from history instead.
pub const HELD_NEWS: usize = 256;

/// Lines of one client that wait for an earlier one; a client with more is not read until they are
/// fewer.
pub const HELD_LINES: usize = 32;
/// Multiline batches that one client may have open.
pub const OPEN_BATCHES: usize = 4;

/// What the shell knows of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// The address it comes from, without port.
    pub host: String,
    /// Whether nobody on the way can read it.
    pub secure: bool,
    /// SHA-256 of the client's certificate, in lower-case hex.
    pub certificate: Option<String>,
}

/// A client.
#[derive(Debug)]
pub struct Session {
    pub peer: Peer,
    pub stage: Stage,
    pub caps: CapSet,
    /// The version that it asked `CAP LS` for.
    pub cap_version: u32,
    pub channels: BTreeMap<ChannelId, Attachment>,
    pub connected_at: Timestamp,
    pub heard_at: Timestamp,
    /// When it last said something to others.
    pub spoke_at: Timestamp,
    /// A PING for being alive is under way.
    pub probed: bool,
    /// Channels with lines that the client has not confirmed.
    pub unconfirmed: BTreeSet<ChannelId>,
    /// The PING under way that asks for a confirmation.
    pub asked: Option<Asked>,
    pub asked_at: Timestamp,
    /// Its lines that are being worked on.
    pub under_way: usize,
    /// Whether all of those are messages, which may follow each other at once.
    pub saying: bool,
    /// What it sent meanwhile.
    pub held: VecDeque<Input>,
    /// Whether what it sent meanwhile is being handled.
    pub draining: bool,
    /// Whether the shell was asked not to read it.
    pub paused: bool,
    /// The SASL exchange under way.
    pub sasl: Option<Exchange>,
    /// Logins that failed.
    pub failures: u32,
    /// The name under which it is an operator.
    pub oper: Option<String>,
    /// Folded nicks that it watches.
    pub monitors: BTreeMap<String, String>,
    /// Keys of metadata that it wants to know of.
    pub subscriptions: BTreeSet<String>,
    /// Multiline batches it has opened, by its own reference.
    pub batches: BTreeMap<String, OpenBatch>,
    /// Knocks and invitations at a time are told apart by when the last was.
    pub knocked_at: Timestamp,
}

/// How far a registration is.
#[derive(Debug)]
pub enum Stage {
    Registering(Greeting),
    /// Registered, as the user that is this person.
    Active(String),
}

/// What a client said of itself before it is registered.
#[derive(Debug, Default)]
pub struct Greeting {
    pub nick: Option<String>,
    /// The nick that it wanted and may not have.
    pub refused_nick: Option<String>,
    pub ident: String,
    pub realname: Option<String>,
    pub password: Option<String>,
    /// Between `CAP LS` or `REQ` and `CAP END`.
    pub negotiating: bool,
    /// The account it has proved to be.
    pub login: Option<String>,
    /// `AWAY` before registration (draft/pre-away).
    pub away: Option<String>,
    /// `METADATA SET` before registration.
    pub metadata: Values,
    /// Whether PASS has been tried as the password of an account.
    pub tried: bool,
}

/// A multiline message on its way in.
#[derive(Debug)]
pub struct OpenBatch {
    pub target: String,
    pub label: Option<String>,
    pub tags: Vec<(String, String)>,
    pub notice: bool,
    /// Lines, and whether each continues the one before.
    pub lines: Vec<(String, bool)>,
    pub bytes: usize,
}

/// A PING whose answer says how far the client has read.
#[derive(Debug)]
pub struct Asked {
    pub token: String,
    pub reached: Vec<(ChannelId, u64)>,
}

/// A channel that a client sees.
#[derive(Debug)]
pub struct Attachment {
    /// The log position up to which it has been shown.
    pub shown: u64,
    /// What was missed is still under way.
    pub replay: Option<Replay>,
}

/// A replay under way.
#[derive(Debug, Default)]
pub struct Replay {
    /// The query under way; `None` while the client still takes in the page before.
    pub query: Option<u64>,
    /// Live news that must come after, and whether the client said it itself.
    pub held: VecDeque<(Arc<News>, bool)>,
    /// Some did not fit: history has to be asked once more.
    pub overflowed: bool,
}

impl Session {
    /// A client that has just connected.
    pub fn new(peer: Peer, now: Timestamp) -> Self {
        Self {
            peer,
            stage: Stage::Registering(Greeting::default()),
            caps: CapSet::default(),
            cap_version: 0,
            channels: BTreeMap::new(),
            connected_at: now,
            heard_at: now,
            spoke_at: now,
            probed: false,
            unconfirmed: BTreeSet::new(),
            asked: None,
            asked_at: Timestamp(0),
            under_way: 0,
            saying: false,
            held: VecDeque::new(),
            draining: false,
            paused: false,
            sasl: None,
            failures: 0,
            oper: None,
            monitors: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            batches: BTreeMap::new(),
            knocked_at: Timestamp(0),
        }
    }

    /// What it said of itself, until it is registered.
    pub fn greeting(&mut self) -> Option<&mut Greeting> {
        match &mut self.stage {
            Stage::Registering(greeting) => Some(greeting),
            Stage::Active(_) => None,
        }
    }

    /// The same, to read.
    pub fn greeting_ref(&self) -> Option<&Greeting> {
        match &self.stage {
            Stage::Registering(greeting) => Some(greeting),
            Stage::Active(_) => None,
        }
    }

    /// The person, once registered.
    pub fn person(&self) -> Option<&str> {
        match &self.stage {
            Stage::Active(person) => Some(person),
            Stage::Registering(_) => None,
        }
    }
}

impl Replay {
    /// Holds a piece of live news back until the replay is through.
    pub fn hold(&mut self, news: &Arc<News>, own: bool) {
        if self.held.len() < HELD_NEWS {
            self.held.push_back((Arc::clone(news), own));
        } else {
            self.overflowed = true;
        }
    }
}

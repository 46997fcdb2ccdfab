//! One client's side of a connection, as data: how far its registration is, what it can do, which
//! channels it sees and how much of them has reached it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::caps::CapSet;
use crate::base::{ChannelId, Timestamp};
use crate::chat::view::News;

/// A connection, numbered by whoever accepts them; never reused.
pub type ClientId = u64;

/// Live news held back for one channel while what was missed is still being replayed; beyond it
/// the newest are dropped here and read from history instead.
pub const HELD_NEWS: usize = 256;

/// A client.
#[derive(Debug)]
pub struct Session {
    /// The address it comes from, without port.
    pub host: String,
    pub secure: bool,
    pub stage: Stage,
    pub caps: CapSet,
    /// It asked for `CAP LS 302` or later.
    pub modern: bool,
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
}

/// How far a registration is.
#[derive(Debug)]
pub enum Stage {
    Registering(Greeting),
    /// Registered, as the user of this account.
    Active(String),
}

/// What a client said of itself before it is registered.
#[derive(Debug, Default)]
pub struct Greeting {
    pub nick: Option<String>,
    pub realname: Option<String>,
    pub password: Option<String>,
    /// Between `CAP LS` or `REQ` and `CAP END`.
    pub negotiating: bool,
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
    pub fn new(host: String, secure: bool, now: Timestamp) -> Self {
        Self {
            host,
            secure,
            stage: Stage::Registering(Greeting::default()),
            caps: CapSet::default(),
            modern: false,
            channels: BTreeMap::new(),
            connected_at: now,
            heard_at: now,
            spoke_at: now,
            probed: false,
            unconfirmed: BTreeSet::new(),
            asked: None,
            asked_at: Timestamp(0),
        }
    }

    /// The account, once registered.
    pub fn account(&self) -> Option<&str> {
        match &self.stage {
            Stage::Active(account) => Some(account),
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

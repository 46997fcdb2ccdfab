//! Information flow: which sinks may receive and process what is said.
//!
//! A channel's policy has a flow, and every message may narrow it. It is enforced where a message is
//! made (one whose label exceeds the policy does not count), and where it would leave: a door
//! carries only what its sink is cleared for.

use serde::{Deserialize, Serialize};

use super::message::Link;
use crate::base::NodeId;

/// Sinks of one label.
const SINKS: usize = 32;
/// Bytes of a sink's name.
const NAME_BYTES: usize = 255;

/// Who may receive and process.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Sink {
    /// Rooms of a Matrix homeserver, by its server name.
    Matrix(String),
    /// Channels of an IRC network, by its address.
    Irc(String),
    /// A node that stores for others.
    Provider(NodeId),
    /// Full-text search.
    Search,
}

/// The label of a message or of a channel. Members themselves always may read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Flow {
    /// Wherever the channel goes.
    #[default]
    Any,
    /// To these sinks only, ascending; none means members alone.
    Only(Vec<Sink>),
}

impl Flow {
    /// Whether a sink is cleared.
    pub fn allows(&self, sink: &Sink) -> bool {
        match self {
            Self::Any => true,
            Self::Only(sinks) => sinks.binary_search(sink).is_ok(),
        }
    }

    /// Whether it asks for no more than another allows. Who does not narrow a channel's flow is
    /// bound by it as it is, and so is within it.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Any) | (Self::Any, _) => true,
            (Self::Only(sinks), other) => sinks.iter().all(|sink| other.allows(sink)),
        }
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, flow) | (flow, Self::Any) => flow.clone(),
            (Self::Only(sinks), other) => {
                Self::Only(sinks.iter().filter(|sink| other.allows(sink)).cloned().collect())
            }
        }
    }

    /// Whether the sinks ascend and are within bounds.
    pub fn is_well_formed(&self) -> bool {
        let Self::Only(sinks) = self else { return true };
        sinks.len() <= SINKS
            && sinks.windows(2).all(|pair| pair[0] < pair[1])
            && sinks.iter().all(|sink| match sink {
                Sink::Matrix(name) | Sink::Irc(name) => (1..=NAME_BYTES).contains(&name.len()),
                Sink::Provider(_) | Sink::Search => true,
            })
    }
}

impl Sink {
    /// The sink that a link's far end is. Room ids of recent versions name no server, so the door says
    /// which server is its own.
    pub fn of(link: &Link, matrix_server: &str) -> Self {
        match link {
            Link::Matrix { .. } => Self::Matrix(matrix_server.to_owned()),
            Link::Irc { network, .. } => Self::Irc(network.clone()),
        }
    }

    /// Reads `matrix:<server>`, `irc:<network>` or `search`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("matrix", server)) if !server.is_empty() => Some(Self::Matrix(server.to_owned())),
            Some(("irc", network)) if !network.is_empty() => Some(Self::Irc(network.to_owned())),
            None if text == "search" => Some(Self::Search),
            _ => None,
        }
    }
}

impl std::fmt::Display for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Matrix(server) => write!(f, "matrix:{server}"),
            Self::Irc(network) => write!(f, "irc:{network}"),
            Self::Provider(node) => write!(f, "provider:{node}"),
            Self::Search => f.write_str("search"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Flow {
        let mut sinks: Vec<Sink> = names.iter().map(|name| Sink::parse(name).unwrap()).collect();
        sinks.sort();
        Flow::Only(sinks)
    }

    #[test]
    fn a_label_narrows_and_never_widens() {
        let both = only(&["matrix:example.org", "irc:libera"]);
        let one = only(&["irc:libera"]);
        assert!(one.is_within(&both) && !both.is_within(&one));
        assert!(Flow::Any.is_within(&one), "who says nothing is bound by the channel");
        assert_eq!(Flow::Any.and(&one), one);
        assert_eq!(both.and(&one), one);
        assert_eq!(one.and(&only(&["search"])), only(&[]));
        assert!(!only(&[]).allows(&Sink::Search) && Flow::Any.allows(&Sink::Search));
    }

    #[test]
    fn sinks_are_written_as_they_are_read() {
        for text in ["matrix:example.org", "irc:irc.libera.chat:6697", "search"] {
            assert_eq!(Sink::parse(text).unwrap().to_string(), text);
        }
        assert!(["matrix:", "irc", "elsewhere:x", ""].iter().all(|text| Sink::parse(text).is_none()));
        assert!(!Flow::Only(vec![Sink::Search, Sink::Search]).is_well_formed());
    }
}

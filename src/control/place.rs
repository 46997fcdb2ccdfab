//! The far ends of bridge links, as programs write them.

use serde::{Deserialize, Serialize};

use crate::chat::message::Link;

/// The far end of a bridge link: `{"matrix":"!room"}` or
/// `{"irc":{"network":"irc.example.org:6697","channel":"#rust"}}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A room id.
    Matrix(String),
    /// A network by its address.
    Irc { network: String, channel: String },
}

impl From<&Link> for Place {
    fn from(link: &Link) -> Self {
        match link {
            Link::Matrix { room } => Self::Matrix(room.clone()),
            Link::Irc { network, channel } => {
                Self::Irc { network: network.clone(), channel: channel.clone() }
            }
        }
    }
}

impl From<Place> for Link {
    fn from(place: Place) -> Self {
        match place {
            Place::Matrix(room) => Self::Matrix { room },
            Place::Irc { network, channel } => {
                Self::Irc { network: network.to_ascii_lowercase(), channel: channel.to_lowercase() }
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Matrix(room) => write!(f, "matrix {room}"),
            Self::Irc { network, channel } => write!(f, "irc {network}/{channel}"),
        }
    }
}

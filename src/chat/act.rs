//! Acts: what the events of a channel do. An intent is a wish that may be refused; an act is what
//! was signed.

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::message::Link;
use super::name::ChannelName;
use super::profile::{Certificate, Profile};
use super::ticket::Redemption;
use crate::base::{EventId, Identity, limits};
use crate::machine::settlement::{PARTIES, Settlement};

/// What an event does. The transaction it stands for is built from it (see `chat::build`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// Founds a channel, and opens the founder's lane in it.
    CreateChannel { name: ChannelName, topic: String, founder: Joining },
    /// Opens a lane of a new member.
    JoinChannel(Joining),
    /// Ends the lane.
    LeaveChannel { reason: String },
    /// Says what is in the payload, a `message::Content`.
    SendMessage,
    /// Gives the channel a new topic.
    UpdateChannel { topic: String },
    /// Gives the member a new profile in this channel.
    UpdateProfile { profile: Profile },
    /// Lets somebody be more than they are: their devices open lanes that cite it. It lifts a ban.
    GrantRole { subject: Identity, role: Role },
    /// Ends every lane and grant of somebody at what the author had seen of them.
    RevokeRole { subject: Identity, then: Standing, reason: String },
    /// Carries out intents together, of whomever they are: all of them or none (`chat::settle`).
    Settle { settlement: Settlement },
    /// Opens a lane of a new member and uses up a ticket for it (`chat::ticket`).
    RedeemTicket { joining: Joining, ticket: Redemption },
}

/// What somebody may be after a revocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Kicked: out, and free to join again as anybody is.
    Out,
    /// Out, and may not join until somebody lifts the ban.
    Banned,
    /// Still in, in this role.
    Demoted(Role),
    /// As before: this lifts a ban, and removes nobody.
    Free,
}

/// Who opens a lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joining {
    /// The identity's word that the lane's device is its own.
    pub certificate: Certificate,
    pub profile: Profile,
    /// The bridge link the member comes through, if any: nothing they do is carried back over it.
    pub via: Option<Link>,
    /// The event that grants the role the lane has: the founding, a grant or a demotion. Without one
    /// the lane is that of an ordinary member.
    pub grant: Option<EventId>,
}

impl Act {
    /// The lane opening in it, if it opens one.
    pub fn joining(&self) -> Option<&Joining> {
        match self {
            Self::CreateChannel { founder, .. } => Some(founder),
            Self::JoinChannel(joining) | Self::RedeemTicket { joining, .. } => Some(joining),
            _ => None,
        }
    }

    /// The bytes that an event's header may have with this act.
    pub fn header_bytes(&self) -> usize {
        match self {
            Self::Settle { .. } => limits::SETTLEMENT_BYTES,
            _ => limits::EVENT_HEADER_BYTES,
        }
    }

    /// Whether texts and names are within bounds.
    pub fn is_well_formed(&self) -> bool {
        let topic_fits = |topic: &str| topic.len() <= limits::TOPIC_BYTES;
        match self {
            Self::CreateChannel { topic, founder, .. } => {
                topic_fits(topic) && founder.profile.is_well_formed()
            }
            Self::JoinChannel(joining) => joining.profile.is_well_formed(),
            Self::LeaveChannel { reason: text }
            | Self::UpdateChannel { topic: text }
            | Self::RevokeRole { reason: text, .. } => topic_fits(text),
            Self::SendMessage | Self::GrantRole { .. } => true,
            Self::UpdateProfile { profile } => profile.is_well_formed(),
            Self::Settle { settlement } => (1..=PARTIES).contains(&settlement.intents.len()),
            Self::RedeemTicket { joining, ticket } => {
                joining.profile.is_well_formed() && joining.grant.is_none() && ticket.label.is_well_formed()
            }
        }
    }
}

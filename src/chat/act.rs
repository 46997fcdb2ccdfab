//! Acts: what the events of a channel do. An intent is a wish that may be refused; an act is what
//! was signed.

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::channel::Change;
use super::commitment::Commitment;
use super::message::{Envelope, Link};
use super::name::ChannelName;
use super::permissions::Permission;
use super::profile::{Certificate, Profile};
use super::ticket::Redemption;
use crate::base::key::{SecretKey, Signature};
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, key, limits};
use crate::machine::settlement::{PARTIES, Settlement};

/// What an event does. The transaction it stands for is built from it (see `chat::build`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// Founds a channel, and opens the founder's lane in it.
    CreateChannel { name: ChannelName, topic: String, founder: Joining, ancestry: Ancestry },
    /// Opens a lane of a new member.
    JoinChannel(Joining),
    /// Ends the lane.
    LeaveChannel { reason: String },
    /// Says what is in the payload, a `message::Content`.
    SendMessage(Envelope),
    /// Takes a message back: its text is deleted everywhere.
    RedactMessage { target: EventId, reason: String },
    /// Gives one of the channel's settings a new value.
    UpdateChannel(Change),
    /// Gives the member a new profile in this channel.
    UpdateProfile { profile: Profile },
    /// Lets somebody be more than they are: their devices open lanes that cite it. It lifts a ban. The
    /// subject of an invite link is a key made for it, which the link carries: whoever can sign with it
    /// may cite the grant.
    GrantRole { subject: Identity, role: Role, expires: Option<Timestamp> },
    /// Ends every lane and grant of somebody at what the author had seen of them.
    RevokeRole { subject: Identity, then: Standing, reason: String },
    /// Asks to be let in. It opens no lane: who is let in joins under the grant.
    Knock { asking: Joining, reason: String },
    /// Says what the member's node stores for the channel, and until when.
    CommitService(Commitment),
    /// An act of a later version or a fork, under a logic of its own. Nodes that do not know the logic
    /// keep it, pass it on and show a placeholder.
    Extension { logic: Digest, data: Vec<u8> },
    /// Carries out intents together, of whomever they are: all of them or none (`chat::settle`). One of
    /// assets of several channels is put into each of them, and says how deep it lies (`replica::settle`).
    Settle { settlement: Settlement, depth: Option<u64> },
    /// Opens a lane of a new member and uses up a ticket for it (`chat::ticket`).
    RedeemTicket { joining: Joining, ticket: Box<Redemption> },
    /// In a channel of a workspace: says how far the author has seen the workspace. What binds the
    /// workspace's members binds here what comes after it.
    Anchor(Anchor),
    /// In a workspace: takes a channel in that was founded for it, or that is to be shared into it.
    AddChannel { channel: ChannelId },
}

/// How far somebody has seen a workspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anchor {
    pub workspace: ChannelId,
    /// Events of the workspace, ascending, at most `limits::DEPS`: these and their past were seen.
    pub heads: Vec<EventId>,
}

/// The lane of a workspace that a lane of one of its channels is opened under.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Under {
    /// The opening of a lane of the same identity there.
    pub lane: EventId,
    /// What else was seen of the workspace; it may be nothing.
    pub seen: Anchor,
}

/// What a new channel comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ancestry {
    /// The channel that it continues.
    pub predecessor: Option<ChannelId>,
    /// The workspace that it is part of.
    pub workspace: Option<ChannelId>,
    /// Whether it is a workspace itself: a channel of channels.
    pub is_workspace: bool,
}

impl Ancestry {
    /// Whether a founder may found so: a channel of a workspace under their lane there, and no workspace
    /// within another.
    fn fits(&self, founder: &Joining) -> bool {
        let under = founder.under.as_ref().map(|under| under.seen.workspace);
        under == self.workspace && !(self.is_workspace && under.is_some())
    }
}

impl Anchor {
    fn is_well_formed(&self) -> bool {
        self.heads.len() <= limits::DEPS && self.heads.windows(2).all(|pair| pair[0] < pair[1])
    }
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
    /// Where the grant is an invite link's: the link's key, signing who uses it.
    pub bearer: Option<Signature>,
    /// In a channel of a workspace: what makes the member one of the workspace.
    pub under: Option<Under>,
}

const BEARER_CONTEXT: &[u8] = b"multichat invite bearer 1";

impl Joining {
    /// The word of an invite link's key that this identity may use it.
    pub fn bear(link: &SecretKey, grant: &EventId, identity: &Identity) -> Signature {
        link.sign(&Self::bearing(grant, identity))
    }

    /// Whether the lane may cite a grant to this subject: it is to its own identity, or the link's key
    /// said so.
    pub fn may_cite(&self, subject: &Identity) -> bool {
        let identity = &self.certificate.identity;
        identity == subject
            || self.grant.zip(self.bearer).is_some_and(|(grant, signature)| {
                key::verify(subject, &Self::bearing(&grant, identity), &signature)
            })
    }

    fn bearing(grant: &EventId, identity: &Identity) -> Vec<u8> {
        [BEARER_CONTEXT, grant.as_bytes(), identity.as_bytes()].concat()
    }
}

impl Act {
    /// The lane opening in it, if it opens one.
    pub fn joining(&self) -> Option<&Joining> {
        match self {
            Self::CreateChannel { founder, .. } => Some(founder),
            Self::JoinChannel(joining)
            | Self::Knock { asking: joining, .. }
            | Self::RedeemTicket { joining, .. } => Some(joining),
            _ => None,
        }
    }

    /// What it says to have seen of a workspace.
    pub fn anchor(&self) -> Option<&Anchor> {
        match self {
            Self::Anchor(anchor) => Some(anchor),
            _ => self.joining()?.under.as_ref().map(|under| &under.seen),
        }
    }

    /// The bytes that an event's header may have with this act.
    pub fn header_bytes(&self) -> usize {
        match self {
            Self::Settle { .. } => limits::SETTLEMENT_BYTES,
            _ => limits::EVENT_HEADER_BYTES,
        }
    }

    /// Whether its lane ends with it.
    pub fn ends_lane(&self) -> bool {
        matches!(self, Self::LeaveChannel { .. } | Self::Knock { .. })
    }

    /// The message it relates to. It is part of the event's past.
    pub fn target(&self) -> Option<EventId> {
        match self {
            Self::SendMessage(envelope) => envelope.relation.map(|relation| relation.target()),
            Self::RedactMessage { target, .. } => Some(*target),
            _ => None,
        }
    }

    /// What a member needs for it. Taking back what another said needs more, see `message`.
    pub fn permission(&self) -> Option<Permission> {
        match self {
            Self::SendMessage(envelope) => Some(envelope.permission()),
            Self::RedactMessage { .. } => Some(Permission::RedactOwn),
            Self::UpdateChannel(change) => Some(change.permission()),
            Self::UpdateProfile { .. } => Some(Permission::ManageProfile),
            Self::GrantRole { role: Role::Member, .. } => Some(Permission::Invite),
            Self::GrantRole { .. } => Some(Permission::GrantRoles),
            Self::RevokeRole { .. } => Some(Permission::RemoveMembers),
            Self::Extension { .. } => Some(Permission::SendMessage),
            Self::AddChannel { .. } => Some(Permission::CreateChannel),
            Self::CreateChannel { .. }
            | Self::Anchor(_)
            | Self::JoinChannel(_)
            | Self::LeaveChannel { .. }
            | Self::Knock { .. }
            | Self::CommitService(_)
            | Self::Settle { .. }
            | Self::RedeemTicket { .. } => None,
        }
    }

    /// Whether texts and names are within bounds.
    pub fn is_well_formed(&self) -> bool {
        let is_text = |text: &str| text.len() <= limits::TOPIC_BYTES;
        if self.anchor().is_some_and(|anchor| !anchor.is_well_formed()) {
            return false;
        }
        match self {
            Self::CreateChannel { topic, founder, ancestry, .. } => {
                is_text(topic) && founder.profile.is_well_formed() && ancestry.fits(founder)
            }
            Self::JoinChannel(joining) => joining.profile.is_well_formed(),
            Self::Knock { asking, reason } => is_text(reason) && asking.profile.is_well_formed(),
            Self::LeaveChannel { reason } | Self::RedactMessage { reason, .. } => is_text(reason),
            Self::RevokeRole { then, reason, .. } => {
                is_text(reason) && !matches!(then, Standing::Demoted(role) if !role.is_well_formed())
            }
            Self::SendMessage(envelope) => envelope.flow.is_well_formed(),
            Self::UpdateChannel(change) => change.is_well_formed(),
            Self::GrantRole { role, .. } => role.is_well_formed(),
            Self::UpdateProfile { profile } => profile.is_well_formed(),
            Self::Settle { settlement, .. } => (1..=PARTIES).contains(&settlement.intents.len()),
            Self::RedeemTicket { joining, ticket } => {
                joining.profile.is_well_formed() && joining.grant.is_none() && ticket.label.is_well_formed()
            }
            Self::Anchor(anchor) => !anchor.heads.is_empty(),
            Self::CommitService(_) | Self::AddChannel { .. } => true,
            Self::Extension { data, .. } => data.len() <= limits::EXTENSION_BYTES,
        }
    }
}

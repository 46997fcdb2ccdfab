//! `channel`: the resource that founds a channel and says what it is.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted, founding | beside the minted access of its founder |
//! | minted, updating | by a member with the permission that the change needs, see [`Change::permission`] |
//! | consumed | never |
//!
//! An update does not consume what it updates: two members may update at once without a leader,
//! and which one counts is decided by rule R7, not by who consumed first. Each setting is decided by
//! itself, so that a new topic and a new policy made at the same time both count.

use serde::{Deserialize, Serialize};

use super::access::{Acting, Role};
use super::facts::{self, Passage};
use super::flow::Flow;
use super::name::ChannelName;
use super::permissions::{self, Permission, Permissions};
use crate::base::{ChannelId, Digest, EventId, Identity, limits};
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// One setting and what it becomes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    Topic(String),
    /// How the channel is called where its address is not needed.
    Title(String),
    /// `mxc:` or `https:` address of a picture; empty for none.
    Avatar(String),
    /// The pinned messages, in the order they are shown.
    Pins(Vec<EventId>),
    /// Who may join.
    Join(JoinRule),
    /// Where messages may go.
    Flow(Flow),
    /// After how many milliseconds texts are deleted that do not expire earlier.
    Retention(Option<u64>),
    /// The longest a message may be made to last, in milliseconds.
    MaxTtl(Option<u64>),
    /// How much each device of an ordinary member may say.
    SlowMode(Option<Quota>),
    /// What a role may do; its name, where it is a custom one.
    Role {
        role: Role,
        rule: RoleRule,
    },
    /// What one person may do, whatever their role says.
    Person {
        person: Identity,
        rule: Rule,
    },
    /// Nobody whom the author outranks acts here any more.
    Closed(bool),
    /// The channel goes on in another.
    Successor(Option<ChannelId>),
    /// Members of this workspace may join, as ordinary members, if it takes the channel in.
    Shared {
        workspace: ChannelId,
        is_shared: bool,
    },
}

/// Which setting a change is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Setting {
    Topic,
    Title,
    Avatar,
    Pins,
    Join,
    Flow,
    Retention,
    MaxTtl,
    SlowMode,
    Role(Role),
    Person(Identity),
    Closed,
    Successor,
    Shared(ChannelId),
}

/// Who may join without a grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum JoinRule {
    #[default]
    Open,
    /// Only who was granted a role, or holds an invite link.
    Invite,
    /// The same, and others may ask to be let in.
    Knock,
    /// Only who holds a ticket, or was granted a role.
    Ticket,
}

/// So many events in so many milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Quota {
    pub events: u32,
    pub per_ms: u64,
}

/// What is allowed beyond the default, and then what is denied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Rule {
    pub allow: Permissions,
    pub deny: Permissions,
}

/// The same of a role.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct RoleRule {
    /// Empty for the role's own name.
    pub name: String,
    pub rule: Rule,
}

impl Change {
    /// Which setting it is of.
    pub fn setting(&self) -> Setting {
        match self {
            Self::Topic(_) => Setting::Topic,
            Self::Title(_) => Setting::Title,
            Self::Avatar(_) => Setting::Avatar,
            Self::Pins(_) => Setting::Pins,
            Self::Join(_) => Setting::Join,
            Self::Flow(_) => Setting::Flow,
            Self::Retention(_) => Setting::Retention,
            Self::MaxTtl(_) => Setting::MaxTtl,
            Self::SlowMode(_) => Setting::SlowMode,
            Self::Role { role, .. } => Setting::Role(*role),
            Self::Person { person, .. } => Setting::Person(*person),
            Self::Closed(_) => Setting::Closed,
            Self::Successor(_) => Setting::Successor,
            Self::Shared { workspace, .. } => Setting::Shared(*workspace),
        }
    }

    /// What it takes to make it.
    pub fn permission(&self) -> Permission {
        match self.setting() {
            Setting::Topic => Permission::SetTopic,
            Setting::Pins => Permission::Pin,
            Setting::Title | Setting::Avatar => Permission::UpdateChannel,
            Setting::Closed | Setting::Successor => Permission::DeleteChannel,
            _ => Permission::SetPolicy,
        }
    }

    /// Whether it binds what members do after it.
    pub fn is_policy(&self) -> bool {
        !matches!(
            self.setting(),
            Setting::Topic | Setting::Title | Setting::Avatar | Setting::Pins | Setting::Successor
        )
    }

    /// Whether texts and lists are within bounds.
    pub fn is_well_formed(&self) -> bool {
        let is_text = |text: &str| text.len() <= limits::TOPIC_BYTES;
        match self {
            Self::Topic(text) | Self::Title(text) | Self::Avatar(text) => is_text(text),
            Self::Pins(pins) => pins.len() <= limits::PINS,
            Self::Flow(flow) => flow.is_well_formed(),
            Self::SlowMode(quota) => quota.is_none_or(|quota| quota.events > 0),
            Self::Role { role, rule } => {
                role.is_well_formed()
                    && rule.name.len() <= limits::ROLE_NAME_BYTES
                    && !rule.name.chars().any(|c| c.is_whitespace() || c.is_control())
                    && rule.rule.is_well_formed()
            }
            Self::Person { rule, .. } => rule.is_well_formed(),
            Self::Join(_)
            | Self::Retention(_)
            | Self::MaxTtl(_)
            | Self::Closed(_)
            | Self::Successor(_)
            | Self::Shared { .. } => true,
        }
    }
}

impl Quota {
    /// The one that lets less through.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let rate = |one: Self, other: Self| u128::from(one.events) * u128::from(other.per_ms);
        if rate(self, other) <= rate(other, self) { self } else { other }
    }
}

impl Rule {
    /// First this rule, then another.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { allow: self.allow.with(next.allow), deny: self.deny.without(next.allow).with(next.deny) }
    }

    fn is_well_formed(&self) -> bool {
        self.allow.is_well_formed() && self.deny.is_well_formed()
    }
}

/// Channel resources of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    pub channel: ChannelId,
}

/// What the channel is from here on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Value {
    Founded { name: ChannelName, topic: String },
    Changed(Change),
}

/// The logic of `channel`.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLogic;

impl ResourceLogic for ChannelLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().channel
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label.channel != label.channel {
            return Err(LogicError::denied("act in another channel"));
        }
        if facts::passage(instance, self.logic_ref())? != Passage::Minted {
            return Err(LogicError::invalid("a channel is not consumed"));
        }
        match (value, acting.passage) {
            (Value::Founded { .. }, Passage::Minted) => Ok(()),
            (Value::Changed(change), Passage::Renewed) => {
                permissions::require(instance, change.permission())?;
                let outranks =
                    |rank: u32| rank > acting.value.role.rank() || acting.value.role == Role::Founder;
                match change {
                    Change::Role { role, .. } if !outranks(role.rank()) => {
                        Err(LogicError::denied("change a role that one does not outrank"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(LogicError::invalid("a channel is founded once and updated by members")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_within_bounds_in_every_part() {
        let role = |role: Role, name: &str| {
            let rule = RoleRule { name: name.into(), rule: Rule::default() };
            Change::Role { role, rule }.is_well_formed()
        };
        assert!(role(Role::Custom(500), "scribe") && role(Role::Member, ""));
        assert!(!role(Role::Custom(0), "scribe"), "no role of that rank");
        assert!(!role(Role::Custom(500), &"x".repeat(limits::ROLE_NAME_BYTES + 1)));
        assert!(!role(Role::Custom(500), "two words") && !role(Role::Custom(500), "bell\u{7}"));
        assert!(!Change::Topic("x".repeat(limits::TOPIC_BYTES + 1)).is_well_formed());
        assert!(!Change::Pins(vec![EventId::default(); limits::PINS + 1]).is_well_formed());
        assert!(!Change::SlowMode(Some(Quota { events: 0, per_ms: 1 })).is_well_formed());
    }
}

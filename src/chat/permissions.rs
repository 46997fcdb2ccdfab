//! `permissions`: what a member may do, one permission for each kind of act.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | beside the user's access, with the ceiling of its role |
//! | consumed | beside the user's access, renewed unchanged in the same action or released with it |
//!
//! The resource holds the **ceiling** of a role: what a member of it could be allowed at most. The
//! channel's policy narrows it (see `policy`). So an act beyond the ceiling is no valid event at all,
//! and one beyond the policy is a valid event that does not count.
//!
//! | permission | by default has it | could be given it |
//! |---|---|---|
//! | `send_message`, `edit_message`, `react`, `redact_own`, `manage_profile` | everybody | everybody |
//! | `set_topic`, `pin`, `invite`, `create_channel` | moderators | everybody |
//! | `redact_others`, `remove_members`, `grant_roles`, `update_channel`, `set_policy` | moderators | moderators, and custom roles above members |
//! | `delete_channel` | admins | custom roles above moderators |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::access::{self, Acting, Label, Role};
use super::facts::{self, Passage};
use crate::base::Digest;
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// One thing that a member may be allowed to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Permission {
    SendMessage,
    EditMessage,
    React,
    /// Take back one's own messages.
    RedactOwn,
    /// Show oneself differently in this channel.
    ManageProfile,
    SetTopic,
    Pin,
    /// Let somebody in, as an ordinary member.
    Invite,
    /// In a workspace: found channels of it.
    CreateChannel,
    RedactOthers,
    /// Kick, ban, unban and demote those whom one outranks.
    RemoveMembers,
    /// Give others a role below one's own.
    GrantRoles,
    /// Title and avatar.
    UpdateChannel,
    /// Who may join, what others may do, how long messages stay, where they may go.
    SetPolicy,
    /// Close the channel, or send everybody to a successor.
    DeleteChannel,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::SendMessage,
        Self::EditMessage,
        Self::React,
        Self::RedactOwn,
        Self::ManageProfile,
        Self::SetTopic,
        Self::Pin,
        Self::Invite,
        Self::CreateChannel,
        Self::RedactOthers,
        Self::RemoveMembers,
        Self::GrantRoles,
        Self::UpdateChannel,
        Self::SetPolicy,
        Self::DeleteChannel,
    ];

    /// Its name, for people and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::SendMessage => "send_message",
            Self::EditMessage => "edit_message",
            Self::React => "react",
            Self::RedactOwn => "redact_own",
            Self::ManageProfile => "manage_profile",
            Self::SetTopic => "set_topic",
            Self::Pin => "pin",
            Self::Invite => "invite",
            Self::CreateChannel => "create_channel",
            Self::RedactOthers => "redact_others",
            Self::RemoveMembers => "remove_members",
            Self::GrantRoles => "grant_roles",
            Self::UpdateChannel => "update_channel",
            Self::SetPolicy => "set_policy",
            Self::DeleteChannel => "delete_channel",
        }
    }

    /// The permission of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Permissions(u32);

/// What everybody may do unless a policy says otherwise.
const MEMBER: &[Permission] = &[
    Permission::SendMessage,
    Permission::EditMessage,
    Permission::React,
    Permission::RedactOwn,
    Permission::ManageProfile,
];
/// What every member may be allowed besides.
const OPEN: &[Permission] =
    &[Permission::SetTopic, Permission::Pin, Permission::Invite, Permission::CreateChannel];
/// What moderators may do besides.
const MODERATION: &[Permission] = &[
    Permission::RedactOthers,
    Permission::RemoveMembers,
    Permission::GrantRoles,
    Permission::UpdateChannel,
    Permission::SetPolicy,
];

impl Permissions {
    /// None.
    pub const NONE: Self = Self(0);

    /// Exactly these.
    pub fn of(permissions: &[Permission]) -> Self {
        Self(permissions.iter().fold(0, |bits, permission| bits | permission.bit()))
    }

    /// The most that a member of a role could be allowed.
    pub fn ceiling(role: Role) -> Self {
        let (member, moderator) = (Role::Member.rank(), Role::Moderator.rank());
        let mut most = Self::of(MEMBER).with(Self::of(OPEN));
        if role.rank() < member {
            most = most.with(Self::of(MODERATION));
        }
        if role.rank() < moderator {
            most = most.with(Self::of(&[Permission::DeleteChannel]));
        }
        most
    }

    /// What a member of a role may do unless a policy says otherwise.
    pub fn default_of(role: Role) -> Self {
        match role {
            Role::Founder | Role::Admin => Self::ceiling(role),
            _ if role.rank() <= Role::Moderator.rank() => Self::ceiling(Role::Moderator),
            _ => Self::of(MEMBER),
        }
    }

    /// Whether it is among them.
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// These and those.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These without those.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those of these that are among those.
    #[must_use]
    pub fn within(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// In the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.allow(*permission))
    }

    /// Whether it names only permissions that this version knows.
    pub fn is_well_formed(self) -> bool {
        self.within(Self::of(&Permission::ALL)) == self
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::name)).finish()
    }
}

/// The logic of `permissions`.
#[derive(Clone, Copy, Debug)]
pub struct PermissionsLogic;

impl ResourceLogic for PermissionsLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().permissions
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let Permitted { label, permissions, passage } = access::permits(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label != label {
            return Err(LogicError::denied("use another's permissions"));
        }
        if passage != acting.passage {
            return Err(LogicError::invalid("permissions come and go with the access"));
        }
        if passage == Passage::Minted && permissions != Permissions::ceiling(acting.value.role) {
            return Err(LogicError::denied("have more than the role's permissions"));
        }
        Ok(())
    }
}

/// Requires that the action renews permissions with this one among them. The permissions' own logic
/// checks that they are the actor's.
///
/// # Errors
/// The permission's name, as a denial.
pub fn require(instance: &LogicInstance<'_>, permission: Permission) -> Result<(), LogicError> {
    let Permitted { permissions, passage, .. } = access::permits(instance)?;
    if passage != Passage::Renewed || !permissions.allow(permission) {
        return Err(LogicError::denied(permission.name()));
    }
    Ok(())
}

/// The permissions that an action holds.
#[derive(Clone, Copy)]
pub(super) struct Permitted {
    pub label: Label,
    pub permissions: Permissions,
    pub passage: Passage,
}

impl Permitted {
    /// Reads them from the action.
    pub fn read(instance: &LogicInstance<'_>) -> Result<Self, LogicError> {
        let (held, passage) =
            facts::read_pair::<Label, Permissions>(instance, facts::logic_refs().permissions)?;
        if held.before != held.after {
            return Err(LogicError::denied("change one's own permissions"));
        }
        Ok(Self { label: held.label, permissions: held.before, passage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_by_default_what_they_could_not_be_given() {
        for role in
            [Role::Founder, Role::Admin, Role::Moderator, Role::Member, Role::Custom(50), Role::Custom(500)]
        {
            let (default, ceiling) = (Permissions::default_of(role), Permissions::ceiling(role));
            assert_eq!(default.within(ceiling), default, "{role:?}");
        }
        let member = Permissions::ceiling(Role::Member);
        assert!(MODERATION.iter().all(|permission| !member.allow(*permission)));
        assert!(!Permissions::ceiling(Role::Moderator).allow(Permission::DeleteChannel));
        assert_eq!(Permissions::ceiling(Role::Founder), Permissions::of(&Permission::ALL));
    }

    #[test]
    fn names_and_bits_are_distinct() {
        for (place, permission) in Permission::ALL.into_iter().enumerate() {
            assert_eq!(permission as usize, place);
            assert_eq!(Permission::named(permission.name()), Some(permission));
            let one = Permissions::of(&[permission]);
            assert_eq!(one.iter().collect::<Vec<_>>(), [permission]);
        }
        assert!(!Permissions(1 << 20).is_well_formed());
    }
}

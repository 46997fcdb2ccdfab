//! `permissions`: what a member may do, one flag for each act.
//!
//! | resource | its logic allows |
//! |---|---|
//! | minted | beside the user's access, with the flags of its role |
//! | consumed | beside the user's access, renewed unchanged in the same action or released with it |

use serde::{Deserialize, Serialize};

use super::access::{Acting, Label, Role};
use super::facts::{self, Passage};
use crate::base::Digest;
use crate::machine::{LogicError, LogicInstance, ResourceLogic};

/// What a member may do in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permissions {
    pub send_message: bool,
    pub set_topic: bool,
    /// Kick, ban, unban and demote those whom one outranks.
    pub remove_members: bool,
    /// The highest role one may give to others.
    pub grant_up_to: Option<Role>,
}

impl Permissions {
    /// What a role may do unless a channel says otherwise.
    pub fn of(role: Role) -> Self {
        let moderates = role <= Role::Moderator;
        let grant_up_to = match role {
            Role::Founder | Role::Admin => Some(Role::Admin),
            Role::Moderator => Some(Role::Member),
            Role::Member => None,
        };
        Self { send_message: true, set_topic: moderates, remove_members: moderates, grant_up_to }
    }

    /// Whether they allow giving somebody that role.
    pub fn may_grant(&self, role: Role) -> bool {
        self.grant_up_to.is_some_and(|highest| role >= highest)
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
        let (label, value): (Label, Permissions) = facts::read(instance)?;
        let acting = Acting::of(instance)?;
        if acting.label != label {
            return Err(LogicError::denied("use another's permissions"));
        }
        let passage = facts::passage(instance, self.logic_ref())?;
        if passage != acting.passage {
            return Err(LogicError::invalid("permissions come and go with the access"));
        }
        if passage == Passage::Minted && value != Permissions::of(acting.value.role) {
            return Err(LogicError::denied("have more than the role's permissions"));
        }
        let (before, after) = facts::pair(instance, self.logic_ref())?;
        if before.resource.value_ref != after.resource.value_ref {
            return Err(LogicError::denied("change one's own permissions"));
        }
        Ok(())
    }
}

/// Requires that the action renews permissions that allow something. The permissions' own logic
/// checks that they are the actor's.
///
/// # Errors
/// `missing`, as a denial.
pub fn require(
    instance: &LogicInstance<'_>,
    allows: impl Fn(&Permissions) -> bool,
    missing: &'static str,
) -> Result<(), LogicError> {
    let (before, _) = facts::pair(instance, facts::logic_refs().permissions)?;
    let sibling = LogicInstance::new(before, instance.action);
    let (_, value): (Label, Permissions) = facts::read(&sibling)?;
    if facts::passage(instance, facts::logic_refs().permissions)? != Passage::Renewed || !allows(&value) {
        return Err(LogicError::denied(missing));
    }
    Ok(())
}

//! What a channel's settings come to: who may do what, for how long, and where it may go.
//!
//! Settings are made by events and resolved in `replica`; here is what they mean. A rule of a
//! role, then a rule of the person, each first allows and then denies, as people know it from
//! Discord; nothing goes beyond the ceiling of the role (see `permissions`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::channel::{Change, JoinRule, Quota, RoleRule, Rule};
use super::flow::Flow;
use super::message::Envelope;
use super::permissions::{Permission, Permissions};
use crate::base::{ChannelId, Identity, Timestamp};

/// The settings that bind members.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Policy {
    pub join: JoinRule,
    pub flow: Flow,
    /// Milliseconds.
    pub retention: Option<u64>,
    /// Milliseconds.
    pub max_ttl: Option<u64>,
    pub slow_mode: Option<Quota>,
    pub roles: BTreeMap<Role, RoleRule>,
    pub people: BTreeMap<Identity, Rule>,
    pub closed: bool,
    /// The workspaces whose members may join.
    pub shared: BTreeSet<ChannelId>,
}

/// Whom the policies of a workspace and of its channel are put together for.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    pub person: &'a Identity,
    /// Their role in the workspace, and in the channel.
    pub role_above: Role,
    pub role: Role,
}

impl Policy {
    /// Takes a setting in.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Join(rule) => self.join = *rule,
            Change::Flow(flow) => self.flow = flow.clone(),
            Change::Retention(retention) => self.retention = *retention,
            Change::MaxTtl(max_ttl) => self.max_ttl = *max_ttl,
            Change::SlowMode(quota) => self.slow_mode = *quota,
            Change::Role { role, rule } => {
                self.roles.insert(*role, rule.clone());
            }
            Change::Person { person, rule } => {
                self.people.insert(*person, *rule);
            }
            Change::Closed(closed) => self.closed = *closed,
            Change::Shared { workspace, is_shared: true } => {
                self.shared.insert(*workspace);
            }
            Change::Shared { workspace, is_shared: false } => {
                self.shared.remove(workspace);
            }
            Change::Topic(_)
            | Change::Title(_)
            | Change::Avatar(_)
            | Change::Pins(_)
            | Change::Successor(_) => {}
        }
    }

    /// What a channel's policy comes to under that of its workspace: flow, duration, quota and closure
    /// as narrow as the narrower of both. Rules of roles: first the workspace's, of the role held there
    /// and then of the person, then the channel's, so that the channel has the last word. Who may join
    /// is the channel's own affair.
    #[must_use]
    pub fn beneath(mut self, above: &Self, bound: Option<Bound<'_>>) -> Self {
        self.narrow(above);
        let Some(Bound { person, role_above, role }) = bound else {
            for (role, rule) in &above.roles {
                let here = self.roles.entry(*role).or_default();
                here.rule = rule.rule.then(here.rule);
                if here.name.is_empty() {
                    here.name.clone_from(&rule.name);
                }
            }
            return self;
        };
        let inherited = above.rules_of(role_above, person);
        let here = self.roles.entry(role).or_default();
        here.rule = inherited.then(here.rule);
        self
    }

    /// What a policy comes to for a guest from another workspace, whose own policy is put on top: it
    /// can only take away.
    #[must_use]
    pub fn shared_into(mut self, above: &Self, bound: Bound<'_>) -> Self {
        self.narrow(above);
        let taken = above.rules_of(bound.role_above, bound.person).deny;
        let here = self.people.entry(*bound.person).or_default();
        *here = here.then(Rule { deny: taken, ..Rule::default() });
        self
    }

    fn rules_of(&self, role: Role, person: &Identity) -> Rule {
        let of_role = self.roles.get(&role).map(|rule| rule.rule).unwrap_or_default();
        of_role.then(self.people.get(person).copied().unwrap_or_default())
    }

    fn narrow(&mut self, other: &Self) {
        let shorter = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        self.flow = self.flow.and(&other.flow);
        self.retention = shorter(self.retention, other.retention);
        self.max_ttl = shorter(self.max_ttl, other.max_ttl);
        let quotas = self.slow_mode.into_iter().chain(other.slow_mode);
        self.slow_mode = quotas.reduce(Quota::stricter);
        self.closed |= other.closed;
    }

    /// The settings that make it what it is, where they are not the default ones.
    pub fn changes(&self) -> Vec<Change> {
        let roles = self.roles.iter().map(|(role, rule)| Change::Role { role: *role, rule: rule.clone() });
        let people = self.people.iter().map(|(person, rule)| Change::Person { person: *person, rule: *rule });
        let shared = self.shared.iter().map(|id| Change::Shared { workspace: *id, is_shared: true });
        let plain = [
            Change::Join(self.join),
            Change::Flow(self.flow.clone()),
            Change::Retention(self.retention),
            Change::MaxTtl(self.max_ttl),
            Change::SlowMode(self.slow_mode),
            Change::Closed(self.closed),
        ];
        let mut without = Self::default();
        plain
            .into_iter()
            .chain(roles)
            .chain(people)
            .chain(shared)
            .filter(|change| {
                let before = without.clone();
                without.apply(change);
                without != before
            })
            .collect()
    }

    /// What somebody may do.
    pub fn permissions(&self, role: Role, person: &Identity) -> Permissions {
        let by = |held: Permissions, rule: &Rule| held.with(rule.allow).without(rule.deny);
        let mut held = Permissions::default_of(role);
        if let Some(role) = self.roles.get(&role) {
            held = by(held, &role.rule);
        }
        if let Some(rule) = self.people.get(person) {
            held = by(held, rule);
        }
        held.within(Permissions::ceiling(role))
    }

    /// Whether somebody may do this, and the name of what forbids it if not.
    ///
    /// # Errors
    /// The rule.
    pub fn permits(&self, role: Role, person: &Identity, needs: Permission) -> Result<(), &'static str> {
        if self.closed {
            return Err("the channel is closed");
        }
        if self.permissions(role, person).allow(needs) { Ok(()) } else { Err(needs.name()) }
    }

    /// Whether a message may last and go as it says.
    ///
    /// # Errors
    /// The rule.
    pub fn permits_message(&self, envelope: &Envelope, said_at: Timestamp) -> Result<(), &'static str> {
        let longest = self.max_ttl.map(|ttl| said_at.plus_ms(ttl));
        match (envelope.expires, longest) {
            (Some(expires), Some(longest)) if expires > longest => {
                return Err("messages do not last that long here");
            }
            _ => {}
        }
        if !envelope.flow.is_within(&self.flow) {
            return Err("the channel does not let messages go there");
        }
        Ok(())
    }

    /// When a text is to be deleted: at its own expiry, or when the channel's retention ends.
    pub fn deleted_at(&self, envelope: &Envelope, said_at: Timestamp) -> Option<Timestamp> {
        let kept = [self.retention, self.max_ttl].into_iter().flatten().min();
        let kept_until = kept.map(|kept| said_at.plus_ms(kept));
        [envelope.expires, kept_until].into_iter().flatten().min()
    }

    /// The name of a role here.
    pub fn role_name(&self, role: Role) -> String {
        match self.roles.get(&role) {
            Some(rule) if !rule.name.is_empty() => rule.name.clone(),
            _ => match role {
                Role::Custom(rank) => format!("role{rank}"),
                _ => role.name().to_owned(),
            },
        }
    }

    /// The role of this name.
    pub fn role_named(&self, name: &str) -> Option<Role> {
        let name = name.to_lowercase();
        let built_in = [Role::Founder, Role::Admin, Role::Moderator, Role::Member];
        let made = self.roles.keys().copied();
        built_in.into_iter().chain(made).find(|role| self.role_name(*role) == name).or_else(|| {
            let rank = name.strip_prefix("role")?.parse().ok()?;
            Some(Role::Custom(rank)).filter(|role| role.is_well_formed())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEBODY: Identity = Identity([1; 32]);

    fn rule(allow: &[Permission], deny: &[Permission]) -> Rule {
        Rule { allow: Permissions::of(allow), deny: Permissions::of(deny) }
    }

    #[test]
    fn a_role_allows_and_denies_then_the_person_and_the_ceiling_bounds_all() {
        let mut policy = Policy::default();
        let may = |policy: &Policy, needs| policy.permits(Role::Member, &SOMEBODY, needs).is_ok();
        assert!(may(&policy, Permission::SendMessage) && !may(&policy, Permission::SetTopic));
        let everybody = rule(&[Permission::SetTopic, Permission::SetPolicy], &[Permission::SendMessage]);
        policy.apply(&Change::Role {
            role: Role::Member,
            rule: RoleRule { name: String::new(), rule: everybody },
        });
        assert!(may(&policy, Permission::SetTopic) && !may(&policy, Permission::SendMessage));
        assert!(!may(&policy, Permission::SetPolicy), "beyond the ceiling of members");
        policy.apply(&Change::Person { person: SOMEBODY, rule: rule(&[Permission::SendMessage], &[]) });
        assert!(may(&policy, Permission::SendMessage));
        policy.apply(&Change::Closed(true));
        assert!(!may(&policy, Permission::SendMessage));
    }

    #[test]
    fn a_channel_narrows_its_workspace_and_has_the_last_word_on_roles() {
        let here = |change: Change| {
            let mut policy = Policy::default();
            policy.apply(&change);
            policy
        };
        let of_members =
            |rule| Change::Role { role: Role::Member, rule: RoleRule { name: String::new(), rule } };
        let bound = Bound { person: &SOMEBODY, role_above: Role::Member, role: Role::Member };
        let may = |policy: &Policy, needs| policy.permits(Role::Member, &SOMEBODY, needs).is_ok();
        let muted = here(of_members(rule(&[Permission::Pin], &[Permission::SendMessage])));
        let free = here(of_members(rule(&[Permission::SendMessage], &[Permission::Pin])));
        let both = Policy::default().beneath(&muted, Some(bound));
        assert!(!may(&both, Permission::SendMessage) && may(&both, Permission::Pin));
        let both = free.clone().beneath(&muted, Some(bound));
        assert!(may(&both, Permission::SendMessage) && !may(&both, Permission::Pin));
        // The workspace lets one person speak; a channel where only moderators do stays so.
        let person = Change::Person { person: SOMEBODY, rule: rule(&[Permission::SendMessage], &[]) };
        let both = muted.clone().beneath(&here(person.clone()), Some(bound));
        assert!(!may(&both, Permission::SendMessage));
        // A guest's own workspace takes away and gives nothing.
        let guest = free.clone().shared_into(&muted, bound);
        assert!(!may(&guest, Permission::SendMessage) && !may(&guest, Permission::Pin));
        assert!(!may(&muted.shared_into(&here(person), bound), Permission::SendMessage));

        let mut above = here(Change::Retention(Some(5)));
        above.apply(&Change::SlowMode(Some(Quota { events: 3, per_ms: 10 })));
        above.apply(&Change::Flow(Flow::Only(vec![])));
        let mut own = here(Change::Retention(Some(7)));
        own.apply(&Change::SlowMode(Some(Quota { events: 1, per_ms: 2 })));
        own.apply(&Change::Join(JoinRule::Invite));
        let both = own.beneath(&above, None);
        assert_eq!((both.retention, both.max_ttl, both.join), (Some(5), None, JoinRule::Invite));
        assert_eq!(both.slow_mode, Some(Quota { events: 3, per_ms: 10 }));
        assert_eq!(both.flow, Flow::Only(vec![]));
    }

    #[test]
    fn the_earlier_end_counts() {
        let mut policy = Policy::default();
        let mut envelope = Envelope::default();
        let at =
            |policy: &Policy, envelope: &Envelope| policy.deleted_at(envelope, Timestamp(100)).map(|t| t.0);
        assert_eq!(at(&policy, &envelope), None);
        envelope.expires = Some(Timestamp(500));
        assert_eq!(at(&policy, &envelope), Some(500));
        policy.retention = Some(50);
        assert_eq!(at(&policy, &envelope), Some(150));
        policy.max_ttl = Some(300);
        assert!(policy.permits_message(&envelope, Timestamp(100)).is_err());
        assert!(policy.permits_message(&envelope, Timestamp(200)).is_ok());
    }

    #[test]
    fn a_policy_is_what_its_settings_make_it() {
        assert_eq!(Policy::default().changes(), []);
        let mut policy = Policy::default();
        let voice = RoleRule { name: "voice".into(), rule: rule(&[Permission::Pin], &[]) };
        let changes = [
            Change::Join(JoinRule::Knock),
            Change::Retention(Some(9)),
            Change::Role { role: Role::Custom(900), rule: voice },
            Change::Person { person: SOMEBODY, rule: rule(&[], &[Permission::SendMessage]) },
        ];
        changes.iter().for_each(|change| policy.apply(change));
        assert_eq!(policy.changes(), changes);
    }

    #[test]
    fn roles_have_names() {
        let mut policy = Policy::default();
        assert_eq!(policy.role_named("Moderator"), Some(Role::Moderator));
        assert_eq!(policy.role_named("role900"), Some(Role::Custom(900)));
        assert_eq!(policy.role_named("role100"), None, "that rank is taken");
        let voice = RoleRule { name: "voice".into(), rule: Rule::default() };
        policy.apply(&Change::Role { role: Role::Custom(900), rule: voice });
        assert_eq!(policy.role_named("voice"), Some(Role::Custom(900)));
        assert_eq!(policy.role_name(Role::Custom(900)), "voice");
    }
}

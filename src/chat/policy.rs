//! What a channel's settings come to: who may do what, for how long, and where it may go.
//!
//! Settings are made by events and resolved in `replica`; here is what they mean. A rule of a
//! role, then a rule of the person, each first allows and then denies, as people know it from
//! Discord; nothing goes beyond the ceiling of the role (see `permissions`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access::Role;
use super::channel::{Change, JoinRule, Quota, RoleRule, Rule};
use super::flow::Flow;
use super::message::Envelope;
use super::permissions::{Permission, Permissions};
use crate::base::{Identity, Timestamp};

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
            Change::Topic(_)
            | Change::Title(_)
            | Change::Avatar(_)
            | Change::Pins(_)
            | Change::Successor(_) => {}
        }
    }

    /// The settings that make it what it is, where they are not the default ones.
    pub fn changes(&self) -> Vec<Change> {
        let roles = self.roles.iter().map(|(role, rule)| Change::Role { role: *role, rule: rule.clone() });
        let people = self.people.iter().map(|(person, rule)| Change::Person { person: *person, rule: *rule });
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

//! The delta: what actions take in less what they give out, for each kind of resource. Exact
//! integers, never modular and never overflowing.

use super::action::Action;
use super::error::MachineError;
use super::resource::ResourceKind;

/// The balance of every kind that was touched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    /// By kind, ascending: there are few, so that a list is faster than a map.
    balances: Vec<(ResourceKind, Balance)>,
}

/// Both sides of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    pub consumed: Total,
    pub created: Total,
}

/// A sum of quantities, which may be more than 128 bits hold: `high · 2^128 + low`. The number of
/// terms is what bounds `high`, so 64 bits are never used up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Total {
    pub high: u64,
    pub low: u128,
}

impl Total {
    fn add(&mut self, quantity: u128) {
        let (low, carried) = self.low.overflowing_add(quantity);
        self.low = low;
        self.high += u64::from(carried);
    }

    fn add_total(&mut self, other: Self) {
        self.add(other.low);
        self.high += other.high;
    }
}

impl Delta {
    /// The delta of one action.
    pub fn of(action: &Action) -> Self {
        let mut delta = Self::default();
        delta.add(action);
        delta
    }

    /// Adds an action to it.
    pub fn add(&mut self, action: &Action) {
        for input in &action.consumed {
            self.balance(input.resource.kind()).consumed.add(input.resource.quantity);
        }
        for output in &action.created {
            self.balance(output.resource.kind()).created.add(output.resource.quantity);
        }
    }

    fn balance(&mut self, kind: ResourceKind) -> &mut Balance {
        let found = self.balances.binary_search_by_key(&kind, |(kind, _)| *kind);
        let at = found.unwrap_or_else(|at| {
            self.balances.insert(at, (kind, Balance::default()));
            at
        });
        &mut self.balances[at].1
    }

    /// Adds another delta to it.
    pub fn merge(&mut self, other: &Self) {
        for (kind, balance) in &other.balances {
            let entry = self.balance(*kind);
            entry.consumed.add_total(balance.consumed);
            entry.created.add_total(balance.created);
        }
    }

    /// The kinds that do not balance, in order.
    pub fn imbalances(&self) -> impl Iterator<Item = (&ResourceKind, &Balance)> {
        let all = self.balances.iter().map(|(kind, balance)| (kind, balance));
        all.filter(|(_, balance)| balance.consumed != balance.created)
    }

    /// Whether as much is consumed as is created of every kind.
    pub fn is_zero(&self) -> bool {
        self.imbalances().next().is_none()
    }

    /// [`Self::is_zero`] as a rule.
    ///
    /// # Errors
    /// [`MachineError::Unbalanced`] with the first kind that is not.
    pub fn require_zero(&self) -> Result<(), MachineError> {
        match self.imbalances().next() {
            Some((kind, _)) => Err(MachineError::Unbalanced(*kind)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::machine::{Action, AppData, Consumed, Created, NullifierKey, Resource};

    fn action(consumed: &[(u8, u128)], created: &[(u8, u128)]) -> Action {
        let resource =
            |(label, quantity)| Resource { label_ref: Digest([label; 32]), quantity, ..Resource::default() };
        let consume = |resource| Consumed {
            resource,
            nullifier_key: NullifierKey::default(),
            app_data: AppData::default(),
        };
        let create = |resource| Created { resource, app_data: AppData::default() };
        Action {
            consumed: consumed.iter().copied().map(resource).map(consume).collect(),
            created: created.iter().copied().map(resource).map(create).collect(),
        }
    }

    #[test]
    fn each_kind_balances_for_itself() {
        assert!(Delta::of(&action(&[(1, 5), (2, 7)], &[(2, 3), (1, 5), (2, 4)])).is_zero());
        let swapped = Delta::of(&action(&[(1, 5)], &[(2, 5)]));
        let kinds: Vec<u8> = swapped.imbalances().map(|(kind, _)| kind.label_ref.0[0]).collect();
        assert_eq!(kinds, [1, 2]);
        assert!(Delta::of(&action(&[(1, 0)], &[])).is_zero());
    }

    #[test]
    fn sums_beyond_128_bits_neither_wrap_nor_panic() {
        let most = u128::MAX;
        assert!(Delta::of(&action(&[(1, most), (1, most)], &[(1, most), (1, most)])).is_zero());
        // Modulo 2^128 this would be even.
        assert!(!Delta::of(&action(&[(1, most), (1, 1)], &[])).is_zero());
        let delta = Delta::of(&action(&[(1, most), (1, most), (1, 2)], &[]));
        let (_, balance) = delta.imbalances().next().unwrap();
        assert_eq!(balance.consumed, Total { high: 2, low: 0 });
    }

    #[test]
    fn what_one_action_lacks_another_may_bring() {
        let (buys, sells) = (action(&[(1, 5)], &[(2, 1)]), action(&[(2, 1)], &[(1, 5)]));
        let mut delta = Delta::of(&buys);
        assert_eq!(
            delta.require_zero().unwrap_err().to_string(),
            "resources of kind aaaa/aeaq do not balance"
        );
        delta.merge(&Delta::of(&sells));
        assert_eq!(delta.require_zero(), Ok(()));
        let mut both = Delta::of(&sells);
        both.add(&buys);
        assert_eq!(both, delta);
    }
}

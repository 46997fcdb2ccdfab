//! The delta: what actions take in less what they give out, for each kind of resource. Exact
//! integers, never modular and never overflowing.

use std::collections::BTreeMap;

use super::action::Action;
use super::error::MachineError;
use super::resource::ResourceKind;

/// The balance of every kind that was touched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    balances: BTreeMap<ResourceKind, Balance>,
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
            self.balances.entry(input.resource.kind()).or_default().consumed.add(input.resource.quantity);
        }
        for output in &action.created {
            self.balances.entry(output.resource.kind()).or_default().created.add(output.resource.quantity);
        }
    }

    /// Adds another delta to it.
    pub fn merge(&mut self, other: &Self) {
        for (kind, balance) in &other.balances {
            let entry = self.balances.entry(*kind).or_default();
            entry.consumed.add_total(balance.consumed);
            entry.created.add_total(balance.created);
        }
    }

    /// The kinds that do not balance, in order.
    pub fn imbalances(&self) -> impl Iterator<Item = (&ResourceKind, &Balance)> {
        self.balances.iter().filter(|(_, balance)| balance.consumed != balance.created)
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

//! The information-flow predicate of an intent: to whom it may flow. Those are the solver that composes
//! it and the authors of the intents it is composed with. It owns the form and its evaluation.
//!
//! It is kept and sent in postfix order, not as a tree: bytes of a peer never decide how deep we recurse.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::Identity;

/// Terms of one predicate; a longer one is not well formed.
pub const TERMS: usize = 32;
/// Parties named by one predicate in all.
pub const NAMED: usize = 64;

/// Who may take part. The default allows anybody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Predicate(Vec<Term>);

/// One step of the postfix form: a leaf pushes a verdict, a junction takes so many and pushes theirs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Term {
    AllowAny,
    AllowOnly(BTreeSet<Identity>),
    And(u8),
    Or(u8),
}

impl Default for Predicate {
    fn default() -> Self {
        Self::allow_any()
    }
}

impl Predicate {
    /// Anybody.
    pub fn allow_any() -> Self {
        Self(vec![Term::AllowAny])
    }

    /// Nobody but these.
    pub fn allow_only(parties: impl IntoIterator<Item = Identity>) -> Self {
        Self(vec![Term::AllowOnly(parties.into_iter().collect())])
    }

    /// Those whom every part allows; of no parts, anybody. At most 255 parts count.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::junction(parts, Term::And)
    }

    /// Those whom some part allows; of no parts, nobody. At most 255 parts count.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::junction(parts, Term::Or)
    }

    fn junction(parts: impl IntoIterator<Item = Self>, of: impl Fn(u8) -> Term) -> Self {
        let (mut terms, mut count) = (Vec::new(), 0);
        for part in parts.into_iter().take(usize::from(u8::MAX)) {
            terms.extend(part.0);
            count += 1;
        }
        terms.push(of(count));
        Self(terms)
    }

    /// Whether it is one predicate within bounds. What was put together here is, unless it is too long.
    pub fn is_well_formed(&self) -> bool {
        let named = |term: &Term| match term {
            Term::AllowOnly(parties) => parties.len(),
            _ => 0,
        };
        self.0.len() <= TERMS
            && self.0.iter().map(named).sum::<usize>() <= NAMED
            && self.verdict(&Identity::default()).is_some()
    }

    /// Whether it may flow to this party. What is not well formed allows nobody.
    pub fn allows(&self, party: &Identity) -> bool {
        self.0.len() <= TERMS && self.verdict(party) == Some(true)
    }

    fn verdict(&self, party: &Identity) -> Option<bool> {
        let mut verdicts: Vec<bool> = Vec::new();
        for term in &self.0 {
            let verdict = match term {
                Term::AllowAny => true,
                Term::AllowOnly(parties) => parties.contains(party),
                Term::And(count) => take(&mut verdicts, *count)?.iter().all(|allowed| *allowed),
                Term::Or(count) => take(&mut verdicts, *count)?.iter().any(|allowed| *allowed),
            };
            verdicts.push(verdict);
        }
        match verdicts.as_slice() {
            [verdict] => Some(*verdict),
            _ => None,
        }
    }
}

fn take(verdicts: &mut Vec<bool>, count: u8) -> Option<Vec<bool>> {
    let from = verdicts.len().checked_sub(usize::from(count))?;
    Some(verdicts.split_off(from))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::codec;

    fn party(number: u8) -> Identity {
        Identity([number; 32])
    }

    /// Predicates over four parties, small enough that three of them still fit together.
    fn predicate() -> impl Strategy<Value = Predicate> {
        let only = prop::collection::btree_set((0u8..4).prop_map(party), 0..4);
        let leaf = prop_oneof![Just(Predicate::allow_any()), only.prop_map(Predicate::allow_only)];
        leaf.prop_recursive(2, 8, 3, |inner| {
            let parts = prop::collection::vec(inner, 0..3);
            prop_oneof![parts.clone().prop_map(Predicate::and), parts.prop_map(Predicate::or)]
        })
    }

    fn allowed(predicate: &Predicate) -> Vec<bool> {
        (0..5).map(|number| predicate.allows(&party(number))).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_distributive_lattice(a in predicate(), b in predicate(), c in predicate()) {
            let and = |x: &Predicate, y: &Predicate| Predicate::and([x.clone(), y.clone()]);
            let or = |x: &Predicate, y: &Predicate| Predicate::or([x.clone(), y.clone()]);
            let same = |x: Predicate, y: Predicate| {
                prop_assume!(x.0.len() <= TERMS && y.0.len() <= TERMS);
                prop_assert_eq!(allowed(&x), allowed(&y));
                Ok(())
            };
            same(and(&a, &b), and(&b, &a))?;
            same(or(&a, &b), or(&b, &a))?;
            same(and(&and(&a, &b), &c), and(&a, &and(&b, &c)))?;
            same(or(&or(&a, &b), &c), or(&a, &or(&b, &c)))?;
            same(and(&a, &a), a.clone())?;
            same(or(&a, &and(&a, &b)), a.clone())?;
            same(and(&a, &or(&b, &c)), or(&and(&a, &b), &and(&a, &c)))?;
            same(and(&a, &Predicate::allow_any()), a.clone())?;
            same(or(&a, &Predicate::or([])), a.clone())?;
            same(Predicate::and([]), Predicate::allow_any())?;
            same(Predicate::or([]), Predicate::allow_only([]))?;
        }

        #[test]
        fn both_sets_are_what_they_share_and_either_is_all_of_them(
            a in prop::collection::btree_set((0u8..6).prop_map(party), 0..5),
            b in prop::collection::btree_set((0u8..6).prop_map(party), 0..5),
        ) {
            let only = |set: &BTreeSet<Identity>| Predicate::allow_only(set.iter().copied());
            let both = Predicate::and([only(&a), only(&b)]);
            let either = Predicate::or([only(&a), only(&b)]);
            prop_assert_eq!(allowed(&both), allowed(&only(&(&a & &b))));
            prop_assert_eq!(allowed(&either), allowed(&only(&(&a | &b))));
        }

        #[test]
        fn any_bytes_are_refused_or_evaluated(bytes in prop::collection::vec(0u8..6, 0..200)) {
            if let Ok(read) = codec::decode::<Predicate>(&bytes, 1_000) {
                prop_assert_eq!(read.is_well_formed(), read.0.len() <= TERMS && read.verdict(&party(9)).is_some());
                read.allows(&party(1));
            }
        }
    }

    #[test]
    fn what_is_no_predicate_allows_nobody() {
        let bad = [
            vec![],
            vec![Term::And(1)],
            vec![Term::AllowAny, Term::AllowAny],
            vec![Term::AllowAny, Term::Or(2)],
            vec![Term::AllowAny; TERMS + 1],
        ];
        for terms in bad {
            let predicate = Predicate(terms);
            assert!(!predicate.is_well_formed() && !predicate.allows(&party(1)), "{predicate:?}");
        }
        assert!(!Predicate::allow_only((0..=NAMED as u8).map(party)).is_well_formed());
        let deep = (0..20_000).fold(Predicate::allow_any(), |inner, _| Predicate::and([inner]));
        assert!(!deep.is_well_formed() && !deep.allows(&party(1)), "and does not exhaust the stack");
    }
}

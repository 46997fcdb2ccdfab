//! The solver: finds intents that balance together. A pure function of its pool, the moment and its
//! bounds; the order of the pool makes no difference. Nobody trusts it: what it found is verified like
//! anything else, here and by everybody.
//!
//! It looks for the exact balance that the machine demands, smallest compositions first: intents that
//! balance by themselves, then pairs, then cycles of three, and so on. Each composition is found from its
//! intent of the smallest id: as long as something is left over or missing, one of the others must bring
//! or take it, and only those are tried. Within its budget of steps the search is complete: a composition
//! is missed only if it contains a smaller one, or shares an intent with one that was preferred.
//!
//! Of compositions of one size that share an intent or a resource, the one that its parties prefer most
//! is taken, and of equals the one with the smallest hash.

use std::collections::{BTreeMap, BTreeSet};

use super::intent::Intent;
use super::logic::Logics;
use super::proving::ProvingSystem;
use super::resource::{ResourceKind, hash};
use super::settlement::{PARTIES, Settlement};
use crate::base::{Digest, Identity, Timestamp};

/// Compositions of one size that are weighed against each other.
const WEIGHED: usize = 4_096;

/// How far a search goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The most intents in one settlement; never more than [`PARTIES`].
    pub parties: usize,
    /// Steps of work: one for each intent that is verified, and for each that is tried beside others.
    pub steps: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { parties: 4, steps: 200_000 }
    }
}

/// For whom, when and under which rules a solver works.
pub struct Market<'a, P> {
    pub solver: Identity,
    pub at: Timestamp,
    pub logics: &'a Logics,
    pub proving: &'a P,
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Verified, and no two of them share an intent or a resource.
    pub settlements: Vec<Settlement>,
    pub steps: u64,
    /// Whether it stopped because its budget was used up.
    pub is_exhausted: bool,
}

/// Searches a pool of intents. Those that are unsound, expired or closed to this solver are passed over.
pub fn solve<P: ProvingSystem>(pool: &[Intent], market: &Market<'_, P>, bounds: Bounds) -> Found {
    let mut search = Search { bounds, ..Search::default() };
    let mut ordered: Vec<(Digest, &Intent)> = pool.iter().map(|intent| (intent.id(), intent)).collect();
    ordered.sort_by_key(|(id, _)| *id);
    ordered.dedup_by_key(|(id, _)| *id);
    for (id, intent) in ordered {
        if search.step() {
            search.offers.extend(Offer::read(id, intent, market));
        }
    }
    search.index();
    for size in 1..=bounds.parties.min(PARTIES) {
        search.gather(size);
        search.choose(market);
    }
    search.found
}

/// An intent as the search sees it.
struct Offer<'a> {
    id: Digest,
    intent: &'a Intent,
    /// What it gives (positive) and takes (negative), without what balances.
    net: BTreeMap<ResourceKind, i128>,
    nullifiers: BTreeSet<Digest>,
}

impl<'a> Offer<'a> {
    /// `None` for one that is no use.
    fn read<P: ProvingSystem>(id: Digest, intent: &'a Intent, market: &Market<'_, P>) -> Option<Self> {
        intent.constraints.require(market.at, &market.solver, std::iter::empty()).ok()?;
        let delta = intent.verify(market.logics, market.proving).ok()?;
        let mut net = BTreeMap::new();
        for (kind, balance) in delta.imbalances() {
            // Beyond 127 bits nobody trades, so it is left to rest rather than to overflow.
            let part = |total: &super::delta::Total| {
                (total.high == 0).then_some(total.low).and_then(|low| i128::try_from(low).ok())
            };
            net.insert(*kind, part(&balance.consumed)?.checked_sub(part(&balance.created)?)?);
        }
        let actions = intent.transaction.actions.iter();
        let consumed = actions.flat_map(|action| &action.consumed);
        let nullifiers = consumed.map(|input| input.resource.nullifier(&input.nullifier_key));
        Some(Self { id, intent, net, nullifiers: nullifiers.collect::<Result<_, _>>().ok()? })
    }

    fn deals_with(&self, other: &Self) -> bool {
        self.intent.constraints.flow.allows(&other.intent.author)
            && other.intent.constraints.flow.allows(&self.intent.author)
            && self.nullifiers.is_disjoint(&other.nullifiers)
    }

    fn liking_for(&self, other: &Self) -> u64 {
        let preferences = self.intent.constraints.preferences.iter();
        let about = preferences.filter(|preference| preference.party == other.intent.author);
        about.map(|preference| u64::from(preference.weight)).sum()
    }
}

#[derive(Default)]
struct Search<'a> {
    bounds: Bounds,
    /// By id, ascending.
    offers: Vec<Offer<'a>>,
    /// The offers that give (`true`) or take of a kind, ascending.
    by_kind: BTreeMap<(ResourceKind, bool), Vec<usize>>,
    /// Nullifiers of settlements that were chosen, and offers that are in one.
    spent: BTreeSet<Digest>,
    taken: BTreeSet<usize>,
    /// Compositions of the size that is being looked for, each ascending.
    gathered: BTreeSet<Vec<usize>>,
    found: Found,
}

impl Search<'_> {
    /// Counts a step. Whether there was one left.
    fn step(&mut self) -> bool {
        if self.found.steps >= self.bounds.steps {
            self.found.is_exhausted = true;
            return false;
        }
        self.found.steps += 1;
        true
    }

    fn index(&mut self) {
        for (number, offer) in self.offers.iter().enumerate() {
            for (kind, quantity) in &offer.net {
                self.by_kind.entry((*kind, *quantity > 0)).or_default().push(number);
            }
        }
    }

    /// Every composition of this size among the offers that are still free.
    fn gather(&mut self, size: usize) {
        for first in 0..self.offers.len() {
            if self.found.is_exhausted || self.gathered.len() >= WEIGHED {
                return;
            }
            if self.is_free(first) {
                let left = self.offers[first].net.clone();
                self.extend(&mut vec![first], &left, size);
            }
        }
    }

    fn is_free(&self, number: usize) -> bool {
        !self.taken.contains(&number) && self.offers[number].nullifiers.is_disjoint(&self.spent)
    }

    /// Tries to balance what is left over with so many offers in all.
    fn extend(&mut self, chosen: &mut Vec<usize>, left: &BTreeMap<ResourceKind, i128>, size: usize) {
        let Some((kind, quantity)) = left.first_key_value() else {
            if chosen.len() == size {
                let mut composition = chosen.clone();
                composition.sort_unstable();
                self.gathered.insert(composition);
            }
            return;
        };
        if chosen.len() >= size {
            return;
        }
        let wanted = (*kind, *quantity < 0);
        let others: Vec<usize> = self.by_kind.get(&wanted).cloned().unwrap_or_default();
        for other in others {
            if self.gathered.len() >= WEIGHED || !self.step() {
                return;
            }
            let fits = |member: &usize| self.offers[*member].deals_with(&self.offers[other]);
            if other <= chosen[0]
                || chosen.contains(&other)
                || !self.is_free(other)
                || !chosen.iter().all(fits)
            {
                continue;
            }
            let Some(left) = sum(left, &self.offers[other].net) else { continue };
            chosen.push(other);
            self.extend(chosen, &left, size);
            chosen.pop();
        }
    }

    /// Takes the best compositions of those gathered, as long as they do not share anything.
    fn choose<P: ProvingSystem>(&mut self, market: &Market<'_, P>) {
        let gathered = std::mem::take(&mut self.gathered);
        let ranked: BTreeSet<_> = gathered
            .into_iter()
            .map(|members| (std::cmp::Reverse(self.liking(&members)), self.hash(&members), members))
            .collect();
        for (_, _, members) in ranked {
            if !members.iter().all(|member| self.is_free(*member)) {
                continue;
            }
            let intents = members.iter().map(|member| self.offers[*member].intent.clone()).collect();
            let settlement = Settlement::of(intents);
            if settlement.verify(market.logics, market.proving, market.at, &market.solver).is_err() {
                continue;
            }
            for member in members {
                self.spent.extend(&self.offers[member].nullifiers);
                self.taken.insert(member);
            }
            self.found.settlements.push(settlement);
        }
    }

    fn liking(&self, members: &[usize]) -> u64 {
        let pairs = members.iter().flat_map(|one| members.iter().map(move |other| (one, other)));
        pairs.map(|(one, other)| self.offers[*one].liking_for(&self.offers[*other])).sum()
    }

    fn hash(&self, members: &[usize]) -> Digest {
        let ids: Vec<u8> = members.iter().flat_map(|member| self.offers[*member].id.0).collect();
        hash([b"MULTICHAT_SOLUTION", &ids])
    }
}

/// Both together, without what balances; `None` if it is more than 127 bits hold.
fn sum(
    one: &BTreeMap<ResourceKind, i128>,
    other: &BTreeMap<ResourceKind, i128>,
) -> Option<BTreeMap<ResourceKind, i128>> {
    let mut sum = one.clone();
    for (kind, quantity) in other {
        let entry = sum.entry(*kind).or_default();
        *entry = entry.checked_add(*quantity)?;
    }
    sum.retain(|_, quantity| *quantity != 0);
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::barter::{NOON, logics, trader, wants, wants_under};
    use super::super::intent::{Constraints, Preference};
    use super::super::predicate::Predicate;
    use super::super::proving::Transparent;
    use super::*;

    fn run(pool: &[Intent], bounds: Bounds) -> Found {
        let market =
            Market { solver: trader(200).public(), at: NOON, logics: &logics(), proving: &Transparent };
        solve(pool, &market, bounds)
    }

    fn found(pool: &[Intent]) -> Vec<Settlement> {
        run(pool, Bounds::default()).settlements
    }

    fn authors(settlement: &Settlement) -> BTreeSet<Identity> {
        settlement.intents.iter().map(|intent| intent.author).collect()
    }

    fn parties(numbers: &[u8]) -> BTreeSet<Identity> {
        numbers.iter().map(|number| trader(*number).public()).collect()
    }

    #[test]
    fn cycles_of_two_three_and_four_are_found_and_five_when_asked_for() {
        for size in 2..=5u8 {
            let ring: Vec<Intent> =
                (0..size).map(|n| wants(n + 1, &[(n, 1)], &[((n + 1) % size, 1)])).collect();
            let expect = if size < 5 { 1 } else { 0 };
            assert_eq!(found(&ring).len(), expect, "{size}");
            let wider = run(&ring, Bounds { parties: 5, ..Bounds::default() });
            assert_eq!(wider.settlements.len(), 1);
            assert_eq!(authors(&wider.settlements[0]).len(), usize::from(size));
        }
    }

    #[test]
    fn several_together_may_bring_what_one_wants() {
        let wallet = wants(3, &[(2, 1)], &[(0, 3), (2, 1)]);
        let found = found(&[wants(1, &[(0, 5)], &[(1, 1)]), wants(2, &[(1, 1)], &[(0, 2)]), wallet]);
        assert_eq!(authors(&found[0]), parties(&[1, 2, 3]));
    }

    #[test]
    fn where_nothing_balances_nothing_is_found() {
        let pool = [
            wants(1, &[(0, 1)], &[(1, 1)]),
            wants(2, &[(1, 1)], &[(0, 2)]),
            wants(3, &[(1, 2)], &[(0, 2)]),
            wants(4, &[(2, 1)], &[(0, 1)]),
        ];
        let found = run(&pool, Bounds::default());
        assert_eq!((found.settlements.len(), found.is_exhausted), (0, false));
        assert_eq!(run(&[], Bounds::default()), Found::default());
    }

    #[test]
    fn what_balances_by_itself_needs_nobody() {
        let pool = [wants(1, &[(0, 1)], &[(0, 1)]), wants(2, &[(1, 1)], &[(0, 1)])];
        assert_eq!(authors(&found(&pool)[0]), parties(&[1]));
    }

    #[test]
    fn the_expired_and_the_forbidden_are_left_alone() {
        let seller = wants(2, &[(1, 1)], &[(0, 1)]);
        let buyer = |constraints| wants_under(1, &[(0, 1)], &[(1, 1)], constraints);
        let flow = |flow| Constraints { flow, ..Constraints::until(NOON) };
        let solver = trader(200).public();
        let deals = |constraints| !found(&[seller.clone(), buyer(constraints)]).is_empty();
        assert!(deals(Constraints::until(NOON)));
        assert!(!deals(Constraints::until(Timestamp(NOON.0 - 1))));
        assert!(deals(flow(Predicate::allow_only([solver, trader(2).public()]))));
        assert!(!deals(flow(Predicate::allow_only([trader(2).public()]))), "the solver may not see it");
        assert!(!deals(flow(Predicate::allow_only([solver]))), "nor the seller");
    }

    #[test]
    fn the_preferred_party_is_dealt_with() {
        let sellers = [2, 3, 4].map(|number| wants(number, &[(1, 1)], &[(0, 1)]));
        for preferred in [2, 3, 4] {
            let preferences = vec![Preference { party: trader(preferred).public(), weight: 1 }];
            let constraints = Constraints { preferences, ..Constraints::until(NOON) };
            let buyer = wants_under(1, &[(0, 1)], &[(1, 1)], constraints);
            let found = found(&[&sellers[..], &[buyer]].concat());
            assert_eq!(authors(&found[0]), parties(&[1, preferred]));
        }
    }

    #[test]
    fn a_resource_offered_twice_is_given_once() {
        // The second trader offers the same coin to whoever comes first.
        let pool = [
            wants(2, &[(1, 1)], &[(0, 1)]),
            wants(2, &[(1, 1)], &[(3, 1)]),
            wants(1, &[(0, 1)], &[(1, 1)]),
            wants(3, &[(3, 1)], &[(1, 1)]),
        ];
        assert_eq!(found(&pool).len(), 1);
    }

    #[test]
    fn work_ends_with_the_budget() {
        let pool: Vec<Intent> = (0..60).map(|n| wants(n + 1, &[(n % 3, 2)], &[((n + 1) % 3, 3)])).collect();
        let bounds = Bounds { parties: 8, steps: 5_000 };
        let first = run(&pool, bounds);
        assert!(first.is_exhausted && first.steps == bounds.steps);
        let reversed: Vec<Intent> = pool.iter().rev().cloned().collect();
        assert_eq!(run(&reversed, bounds), first);
    }

    #[test]
    fn the_unsound_are_passed_over() {
        let (buyer, seller) = (wants(1, &[(0, 1)], &[(1, 1)]), wants(2, &[(1, 1)], &[(0, 1)]));
        let mut greedy = seller.clone();
        greedy.transaction.actions[0].created[0].resource.quantity = 2;
        assert!(found(&[buyer.clone(), greedy]).is_empty());
        let mut stolen = seller.clone();
        stolen.author = trader(3).public();
        assert!(found(&[buyer, stolen]).is_empty());
        let endless = wants(3, &[(0, u128::MAX)], &[(1, u128::MAX)]);
        assert!(found(&[endless]).is_empty());
    }

    /// Who gives how much of what for how much of what.
    fn pool() -> impl Strategy<Value = Vec<Intent>> {
        let offer = (0u8..3, 1u128..3, 0u8..3, 1u128..3);
        prop::collection::vec(offer, 0..7).prop_map(|offers| {
            let offer = |(number, (give, much, take, of))| wants(number, &[(give, much)], &[(take, of)]);
            (1u8..).zip(offers).map(offer).collect()
        })
    }

    /// Whether some two or three of these balance, tried one by one.
    fn has_cycle(pool: &[Intent]) -> bool {
        let balances = |members: &[usize]| {
            let nets = members.iter().map(|n| pool[*n].verify(&logics(), &Transparent).unwrap());
            let mut total = super::super::delta::Delta::default();
            nets.for_each(|net| total.merge(&net));
            total.is_zero()
        };
        let n = pool.len();
        (0..n).any(|a| {
            balances(&[a]) || (0..a).any(|b| balances(&[a, b]) || (0..b).any(|c| balances(&[a, b, c])))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_it_finds_verifies_and_it_finds_what_there_is(
            (pool, shuffled) in pool().prop_flat_map(|pool| (Just(pool.clone()), Just(pool).prop_shuffle())),
        ) {
            let found = run(&pool, Bounds { parties: 3, ..Bounds::default() });
            prop_assert_eq!(&run(&shuffled, Bounds { parties: 3, ..Bounds::default() }), &found);
            prop_assert!(!found.is_exhausted);
            let mut used = BTreeSet::new();
            for settlement in &found.settlements {
                let solver = trader(200).public();
                settlement.verify(&logics(), &Transparent, NOON, &solver).unwrap();
                prop_assert!(settlement.intents.iter().all(|intent| used.insert(intent.id())));
            }
            let rest: Vec<Intent> = pool.iter().filter(|intent| !used.contains(&intent.id())).cloned().collect();
            prop_assert!(!has_cycle(&rest), "nothing that balances is left");
        }
    }
}

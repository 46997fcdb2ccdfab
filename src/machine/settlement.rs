//! Settlements: intents composed so that together they balance. It owns what everybody checks again:
//! whoever found a composition is not trusted with anything.
//!
//! A settlement is its intents and nothing else; the transaction follows from them. So there is no
//! place in which a solver could add, drop or change something. A single intent that balances by
//! itself is a settlement of one.

use serde::{Deserialize, Serialize};

use super::error::MachineError;
use super::intent::Intent;
use super::logic::Logics;
use super::proving::ProvingSystem;
use super::resource::{Resource, ResourceKind};
use super::transaction::Transaction;
use crate::base::{Digest, Identity, Timestamp, codec};

/// Intents of one settlement.
pub const PARTIES: usize = 8;

/// Intents that are carried out together or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settlement {
    /// By id, ascending.
    pub intents: Vec<Intent>,
}

/// What a settlement does to the state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spending {
    pub consumed: Vec<Spent>,
    /// The resources that stay.
    pub created: Vec<Made>,
}

/// A nullifier that is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    pub nullifier: Digest,
    /// What is consumed.
    pub kind: ResourceKind,
    /// The resource that must have been created before; none if it is ephemeral.
    pub commitment: Option<Digest>,
}

/// A resource that comes to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    pub commitment: Digest,
    pub resource: Resource,
    /// The blob that opens label and value: `resource[0]` of its application data.
    pub facts: Vec<u8>,
}

impl Spending {
    /// Keeps what is of these kinds only.
    pub fn keep(&mut self, is_kept: impl Fn(&ResourceKind) -> bool) {
        self.consumed.retain(|spent| is_kept(&spent.kind));
        self.created.retain(|made| is_kept(&made.resource.kind()));
    }
}

impl Settlement {
    /// The composition of these intents, in their canonical order. Verified by nobody yet.
    pub fn of(mut intents: Vec<Intent>) -> Self {
        intents.sort_by_cached_key(Intent::id);
        intents.dedup();
        Self { intents }
    }

    /// Its name: the same whoever composed it.
    pub fn id(&self) -> Digest {
        Digest(*blake3::hash(&codec::encode(self)).as_bytes())
    }

    /// Checks everything that can be checked without state: every intent is as its author signed it,
    /// its constraints hold for this solver and moment, and the whole balances under every logic.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn verify(
        &self,
        logics: &Logics,
        proving: &impl ProvingSystem,
        at: Timestamp,
        solver: &Identity,
    ) -> Result<Spending, MachineError> {
        if self.intents.is_empty() {
            return Err(MachineError::NoActions);
        }
        if self.intents.len() > PARTIES {
            return Err(MachineError::TooMuch("intents of one settlement"));
        }
        let ids: Vec<Digest> = self.intents.iter().map(Intent::id).collect();
        if !ids.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(MachineError::Terms("the intents of a settlement ascend"));
        }
        for (number, intent) in self.intents.iter().enumerate() {
            let others = self.intents.iter().enumerate().filter(|(other, _)| *other != number);
            intent.constraints.require(at, solver, others.map(|(_, other)| other.author))?;
            intent.check_terms()?;
        }
        let parts = self.intents.iter().map(|intent| intent.transaction.clone()).collect();
        let transaction = Transaction::compose(parts, proving)?;
        let verified = transaction.verify(logics, proving)?;
        let mut spending = Spending::default();
        for checked in &verified.actions {
            for (member, commitment) in checked.consumed().zip(checked.opened()) {
                let commitment = (!member.resource.is_ephemeral).then_some(*commitment);
                let (nullifier, kind) = (checked.tag(&member), member.resource.kind());
                spending.consumed.push(Spent { nullifier, kind, commitment });
            }
            for member in checked.created().filter(|member| !member.resource.is_ephemeral) {
                let facts = member.app_data.resource.first().map(|blob| blob.blob.clone());
                let (commitment, resource) = (checked.tag(&member), *member.resource);
                spending.created.push(Made { commitment, resource, facts: facts.unwrap_or_default() });
            }
        }
        Ok(spending)
    }
}

#[cfg(test)]
mod tests {
    use super::super::barter::{NOON, exchange, goods, logics, trader, wants, wants_under};
    use super::super::intent::Constraints;
    use super::super::predicate::Predicate;
    use super::super::proving::Transparent;
    use super::*;
    use crate::base::key::SecretKey;
    use crate::machine::{ActionBuilder, AppData, ExpirableBlob, NullifierKey};

    fn solver() -> SecretKey {
        trader(200)
    }

    fn refusal(settlement: &Settlement) -> MachineError {
        settlement.verify(&logics(), &Transparent, NOON, &solver().public()).unwrap_err()
    }

    fn pair() -> (Intent, Intent) {
        (wants(1, &[(0, 5)], &[(1, 1)]), wants(2, &[(1, 1)], &[(0, 5)]))
    }

    #[test]
    fn a_pair_that_balances_says_what_it_spends_and_makes() {
        let (buyer, seller) = pair();
        let settlement = Settlement::of(vec![buyer.clone(), seller.clone()]);
        assert_eq!(settlement, Settlement::of(vec![seller, buyer]));
        let spending = settlement.verify(&logics(), &Transparent, NOON, &solver().public()).unwrap();
        assert_eq!((spending.consumed.len(), spending.created.len()), (2, 2));
        let coin = goods(trader(1).public(), 0, 5, 1);
        let spent = Spent {
            nullifier: coin.nullifier(&NullifierKey::default()).unwrap(),
            kind: coin.kind(),
            commitment: Some(coin.commitment()),
        };
        assert!(spending.consumed.contains(&spent));
    }

    /// Attack: a solver leaves out, adds, changes or turns round what it was given.
    #[test]
    fn solver_cheating() {
        let (buyer, seller) = pair();
        let honest = Settlement::of(vec![buyer.clone(), seller.clone()]);
        let cheat = |change: &dyn Fn(&mut Settlement)| {
            let mut settlement = honest.clone();
            change(&mut settlement);
            refusal(&settlement)
        };
        let broken = MachineError::Terms("an intent is as its author signed it");
        let seller_at = honest.intents.iter().position(|intent| *intent == seller).unwrap();
        assert!(matches!(cheat(&|s| drop(s.intents.remove(seller_at))), MachineError::Unbalanced(_)));
        assert_eq!(cheat(&|s| s.intents.clear()), MachineError::NoActions);
        let order = MachineError::Terms("the intents of a settlement ascend");
        assert_eq!(cheat(&|s| s.intents.reverse()), order);
        assert_eq!(cheat(&|s| s.intents.push(s.intents[1].clone())), order);
        // The seller gets less, and the solver the rest.
        let skim = |s: &mut Settlement| {
            let mut intents = s.intents.clone();
            intents[seller_at].transaction.actions[0].created[0].resource.quantity = 4;
            *s = Settlement::of(intents);
        };
        assert_eq!(cheat(&skim), broken);
        let redirect = |s: &mut Settlement| {
            let mut intents = s.intents.clone();
            let output = &mut intents[seller_at].transaction.actions[0].created[0];
            output.resource.value_ref = Digest(solver().public().0);
            *s = Settlement::of(intents);
        };
        assert_eq!(cheat(&redirect), broken);
        let loosen = |s: &mut Settlement| {
            let mut intents = s.intents.clone();
            intents[seller_at].constraints.expires = Timestamp(u64::MAX);
            *s = Settlement::of(intents);
        };
        assert_eq!(cheat(&loosen), broken);
        let smuggle = |s: &mut Settlement| {
            let mut intents = s.intents.clone();
            let output = &mut intents[seller_at].transaction.actions[0].created[0];
            output.app_data.external = vec![ExpirableBlob::kept(b"unsigned".to_vec())];
            *s = Settlement::of(intents);
        };
        assert_eq!(cheat(&smuggle), MachineError::Terms("nothing in an intent is unsigned"));
    }

    /// Attack: one of two actions of an intent is carried out without the other.
    #[test]
    fn partial_settlement() {
        let key = trader(1);
        let actions = vec![
            exchange(key.public(), &[(0, 1)], &[(1, 1)], 1),
            exchange(key.public(), &[(2, 1)], &[(3, 1)], 2),
        ];
        let both = Intent::sign(actions, Constraints::until(NOON), &key, &logics()).unwrap();
        let (first, second) = (wants(2, &[(1, 1)], &[(0, 1)]), wants(3, &[(3, 1)], &[(2, 1)]));
        let whole = Settlement::of(vec![both.clone(), first.clone(), second]);
        whole.verify(&logics(), &Transparent, NOON, &solver().public()).unwrap();
        let mut half = both;
        half.transaction.actions.truncate(1);
        let broken = MachineError::Terms("an intent is as its author signed it");
        assert_eq!(refusal(&Settlement::of(vec![half, first])), broken);
    }

    /// Attack: what consumes more than it creates, or the other way round.
    #[test]
    fn unbalanced_transaction() {
        let more = Settlement::of(vec![wants(1, &[(0, 5)], &[(1, 1)]), wants(2, &[(1, 1)], &[(0, 6)])]);
        assert!(matches!(refusal(&more), MachineError::Unbalanced(_)));
        let less = Settlement::of(vec![wants(1, &[(0, 5)], &[(1, 1)]), wants(2, &[(1, 1)], &[(0, 4)])]);
        assert!(matches!(refusal(&less), MachineError::Unbalanced(_)));
    }

    /// Attack: a created resource takes a nonce that it does not derive, to be made a second time.
    #[test]
    fn nonce_reuse() {
        let (key, first) = (trader(1), exchange(trader(1).public(), &[(0, 1)], &[(0, 1)], 1));
        let mut again = exchange(key.public(), &[(0, 1)], &[(0, 1)], 2);
        again.created[0].resource.nonce = first.created[0].resource.nonce;
        let signed = Intent::sign(vec![again], Constraints::until(NOON), &key, &logics());
        assert_eq!(signed, Err(MachineError::WrongNonce(0)));
        // And one resource in two intents of a settlement has one nullifier.
        let twice = [(0, 1), (1, 1)].map(|kind| wants(1, &[(7, 1)], &[kind]));
        let give = wants(2, &[(0, 1), (1, 1)], &[(7, 2)]);
        let settlement = Settlement::of([&twice[..], &[give]].concat());
        assert!(matches!(refusal(&settlement), MachineError::DuplicateTag(_)));
    }

    /// Attack: an action that passes for one it is not.
    #[test]
    fn forged_compliance() {
        // The thief signs for what another owns.
        let (owner, thief) = (trader(1), trader(2));
        let steal = exchange(owner.public(), &[(0, 1)], &[(0, 1)], 1);
        let denied = Intent::sign(vec![steal], Constraints::until(NOON), &thief, &logics()).unwrap_err();
        assert_eq!(denied.rule(), "goods are their owner's to give");
        // The owner's signature from elsewhere.
        let signed = wants(1, &[(0, 1)], &[(1, 1)]);
        let mut builder = ActionBuilder::new();
        let consent = signed.transaction.actions[0].consumed[0].app_data.clone();
        builder.consume(goods(owner.public(), 0, 1, 1), NullifierKey::default(), consent).unwrap();
        builder.create(goods(thief.public(), 0, 1, 0), AppData::default());
        let mut forged = signed.clone();
        forged.transaction.actions = vec![builder.build().unwrap()];
        let broken = MachineError::Terms("an intent is as its author signed it");
        assert_eq!(refusal(&Settlement::of(vec![forged])), broken);
        // Another key for the nullifier, which would make it a second one.
        let mut forged = signed;
        forged.transaction.actions[0].consumed[0].nullifier_key = NullifierKey::from_bytes([1; 32]);
        assert_eq!(refusal(&Settlement::of(vec![forged])), MachineError::WrongNullifierKey);
    }

    #[test]
    fn constraints_bind_whoever_settles() {
        let (_, seller) = pair();
        let late = wants_under(1, &[(0, 5)], &[(1, 1)], Constraints::until(Timestamp(NOON.0 - 1)));
        let expired = MachineError::Terms("an intent is settled before it expires");
        assert_eq!(refusal(&Settlement::of(vec![late, seller.clone()])), expired);
        let flow = Predicate::allow_only([trader(3).public(), solver().public()]);
        let choosy = wants_under(1, &[(0, 5)], &[(1, 1)], Constraints { flow, ..Constraints::until(NOON) });
        let closed = MachineError::Terms("an intent flows only to whom it allows");
        assert_eq!(refusal(&Settlement::of(vec![choosy, seller])), closed);
    }

    #[test]
    fn sizes_are_bounded_and_bytes_are_canonical() {
        let ring: Vec<Intent> = (0..9u8).map(|n| wants(n + 1, &[(n, 1)], &[((n + 1) % 9, 1)])).collect();
        let too_many = MachineError::TooMuch("intents of one settlement");
        assert_eq!(refusal(&Settlement::of(ring.clone())), too_many);
        let intent = &ring[0];
        assert_eq!(Intent::decode(&intent.encode()).as_ref(), Ok(intent));
        let mut trailing = intent.encode();
        trailing.push(0);
        assert!(Intent::decode(&trailing).is_err());
        assert!(Intent::decode(&[0; super::super::intent::INTENT_BYTES + 1]).is_err());
        let key = trader(1);
        let many = (0..5).map(|n| exchange(key.public(), &[(0, 1)], &[(0, 1)], n)).collect();
        let too_many = MachineError::TooMuch("actions of one intent");
        assert_eq!(Intent::sign(many, Constraints::until(NOON), &key, &logics()), Err(too_many));
    }

    proptest::proptest! {
        #[test]
        fn no_bent_byte_passes(at in proptest::prelude::any::<proptest::sample::Index>(), to: u8) {
            let (buyer, seller) = pair();
            let honest = Settlement::of(vec![buyer, seller]);
            let mut bytes = codec::encode(&honest);
            let at = at.index(bytes.len());
            let changed = bytes[at] != to;
            bytes[at] = to;
            if let Ok(read) = codec::decode::<Settlement>(&bytes, bytes.len()) {
                let verdict = read.verify(&logics(), &Transparent, NOON, &solver().public());
                proptest::prop_assert_eq!(verdict.is_err(), changed);
            }
        }
    }
}

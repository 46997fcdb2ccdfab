//! What has to hold for every action and transaction, tried on random ones. Owns no rule itself.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne};

use super::action::{Action, ActionBuilder, AppData, DeletionCriterion, ExpirableBlob};
use super::delta::Delta;
use super::error::MachineError;
use super::logic::{LogicError, LogicInstance, Logics, ResourceLogic, logic_ref};
use super::nullifier::{NullifierKey, NullifierKeyCommitment};
use super::proving::{Proof, ProvingSystem, Rebuilt, Transparent, Verified, verify_action};
use super::resource::Resource;
use super::transaction::{ACTIONS, Transaction};
use crate::base::{Digest, Kind, Timestamp};

/// Allows everything but a blob that says "refuse me".
struct Lenient;

impl ResourceLogic for Lenient {
    fn logic_ref(&self) -> Digest {
        logic_ref("lenient", 1)
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        match instance.app_data.blobs().any(|blob| blob.blob == b"refuse me") {
            true => Err(LogicError::denied("it asked for it")),
            false => Ok(()),
        }
    }
}

/// A ticket is created only beside a consumed coin: a logic that looks at its siblings.
struct Ticket;

impl ResourceLogic for Ticket {
    fn logic_ref(&self) -> Digest {
        logic_ref("ticket", 1)
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let paid = instance.consumed_of(Lenient.logic_ref()).any(|coin| coin.resource.quantity > 0);
        match instance.is_consumed || paid {
            true => Ok(()),
            false => Err(LogicError::denied("a ticket is paid for")),
        }
    }
}

fn logics() -> Logics {
    Logics::new().with(Lenient).with(Ticket)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn app_data() -> impl Strategy<Value = AppData> {
    let deletion = (0u8..3, any::<u64>()).prop_map(|(rule, at)| match rule {
        0 => DeletionCriterion::Never,
        1 => DeletionCriterion::After(Timestamp(at)),
        _ => DeletionCriterion::Immediately,
    });
    let blob =
        (vec(any::<u8>(), 0..20), deletion).prop_map(|(blob, deletion)| ExpirableBlob { blob, deletion });
    (vec(blob.clone(), 0..2), vec(blob, 0..3)).prop_map(|(external, application)| AppData {
        external,
        application,
        ..AppData::default()
    })
}

/// A resource under the lenient logic, of one of three kinds, and the key that opens it.
fn resource() -> impl Strategy<Value = (Resource, NullifierKey)> {
    let fields =
        (0u8..3, digest(), any::<u64>(), any::<bool>(), digest(), any::<[u8; 32]>(), any::<[u8; 32]>());
    fields.prop_map(|(label, value_ref, quantity, is_ephemeral, nonce, key, rand_seed)| {
        let key = NullifierKey::from_bytes(key);
        let resource = Resource {
            logic_ref: Lenient.logic_ref(),
            label_ref: Digest([label; 32]),
            value_ref,
            quantity: u128::from(quantity),
            is_ephemeral,
            nonce,
            nk_commitment: key.commit(),
            rand_seed,
        };
        (resource, key)
    })
}

/// Up to four consumed resources, each renewed whole or in two parts: a balanced action.
fn balanced() -> impl Strategy<Value = Action> {
    vec((resource(), app_data(), any::<u64>(), any::<bool>()), 1..5).prop_map(|inputs| {
        let mut builder = ActionBuilder::new();
        for ((resource, key), app_data, cut, split) in inputs {
            builder.consume(resource, key, app_data.clone()).unwrap();
            let first = if split { u128::from(cut).min(resource.quantity) } else { resource.quantity };
            builder.create(Resource { quantity: first, ..resource }, app_data);
            if split {
                builder
                    .create(Resource { quantity: resource.quantity - first, ..resource }, AppData::default());
            }
        }
        builder.build().unwrap()
    })
}

/// Two actions, of which the first gives away what the second takes.
fn halves() -> impl Strategy<Value = (Action, Action)> {
    let pair = (resource(), resource()).prop_map(|((coin, coin_key), (thing, thing_key))| {
        let coin = Resource { label_ref: Digest([10; 32]), quantity: coin.quantity + 1, ..coin };
        let thing = Resource { label_ref: Digest([11; 32]), quantity: thing.quantity + 1, ..thing };
        let give = |give: Resource, key, take: Resource| {
            let mut builder = ActionBuilder::new();
            builder.consume(give, key, AppData::default()).unwrap();
            builder.create(take, AppData::default());
            builder.build().unwrap()
        };
        (give(coin, coin_key, thing), give(thing, thing_key, coin))
    });
    pair.prop_filter("two resources", |(first, second)| first.consumed != second.consumed)
}

fn transparent(action: Action) -> Transaction {
    Transaction::prove(vec![action], &logics(), &Transparent).unwrap()
}

/// Changes one field of a resource. Every change leaves a resource unlike the one before.
fn change(resource: &mut Resource, field: u8, bit: u8) {
    let flip = |bytes: &mut [u8; 32]| bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
    match field {
        0 => flip(&mut resource.logic_ref.0),
        1 => flip(&mut resource.label_ref.0),
        2 => flip(&mut resource.value_ref.0),
        3 => resource.quantity ^= 1 << (bit % 128),
        4 => resource.is_ephemeral = !resource.is_ephemeral,
        5 => flip(&mut resource.nonce.0),
        6 => flip(&mut resource.nk_commitment.0.0),
        _ => flip(&mut resource.rand_seed),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_balanced_action_passes_every_way_there_is(action in balanced()) {
        let logics = logics();
        let checked = verify_action(&logics, &action).unwrap();
        let digest = Rebuilt::digest(&checked);
        prop_assert_eq!(Rebuilt::verify_action(&logics, &action, &digest), Ok(checked.clone()));
        for proving in [&Transparent as &dyn DynProving, &Rebuilt] {
            let transaction = proving.prove_one(&logics, &action);
            let verified = proving.check(&logics, &transaction).unwrap();
            prop_assert_eq!(&verified.actions, std::slice::from_ref(&checked));
            prop_assert!(verified.delta.is_zero());
        }
    }

    #[test]
    fn a_changed_field_is_refused_or_is_another_action(
        action in balanced(), which in any::<Index>(), field in 0u8..8, bit in any::<u8>(),
    ) {
        let before = action.check().unwrap();
        let mut forged = action.clone();
        let at = which.index(action.consumed.len() + action.created.len());
        match at.checked_sub(action.consumed.len()) {
            None => change(&mut forged.consumed[at].resource, field, bit),
            Some(at) => change(&mut forged.created[at].resource, field, bit),
        }
        prop_assert_ne!(&forged, &action);
        // A changed input changes its nullifier, from which the created nonces no longer derive.
        if let Ok(after) = forged.check() {
            prop_assert!(at >= action.consumed.len());
            prop_assert_ne!(after.tags()[at], before.tags()[at]);
            prop_assert_ne!(after.root(), before.root());
            prop_assert_eq!(
                Rebuilt::verify_action(&logics(), &forged, &Rebuilt::digest(&before)).is_err(), true
            );
        }
    }

    #[test]
    fn a_wrong_key_opens_nothing(action in balanced(), which in any::<Index>(), key in any::<[u8; 32]>()) {
        let mut forged = action.clone();
        let at = which.index(action.consumed.len());
        let input = &mut forged.consumed[at];
        input.nullifier_key = NullifierKey::from_bytes(key);
        prop_assert_eq!(forged.check(), Err(MachineError::WrongNullifierKey));
        // With the commitment changed to fit, it is another resource with another nullifier.
        let input = &mut forged.consumed[at];
        input.resource.nk_commitment = NullifierKeyCommitment(NullifierKey::from_bytes(key).commit().0);
        prop_assert_eq!(forged.check(), Err(MachineError::WrongNonce(0)));
    }

    #[test]
    fn app_data_is_bound_by_what_the_author_publishes(action in balanced(), which in any::<Index>(), other in app_data()) {
        let before = action.check().unwrap();
        let mut changed = action.clone();
        let at = which.index(action.created.len());
        let same = changed.created[at].app_data == other;
        changed.created[at].app_data = other;
        let after = changed.check().unwrap();
        prop_assert_eq!(after.tags(), before.tags());
        prop_assert_eq!(Rebuilt::digest(&after) == Rebuilt::digest(&before), same);
    }

    #[test]
    fn an_unbalanced_transaction_is_refused(action in balanced(), which in any::<Index>(), more in 1u64..) {
        let mut builder = ActionBuilder::new();
        for input in &action.consumed {
            builder.consume(input.resource, input.nullifier_key, AppData::default()).unwrap();
        }
        let at = which.index(action.created.len());
        for (i, output) in action.created.iter().enumerate() {
            let quantity = output.resource.quantity + if i == at { u128::from(more) } else { 0 };
            builder.create(Resource { quantity, ..output.resource }, AppData::default());
        }
        let action = builder.build().unwrap();
        let refused = MachineError::Unbalanced(action.created[at].resource.kind());
        prop_assert_eq!(verify_action(&logics(), &action), Err(refused));
        let transaction = transparent(action.clone());
        prop_assert_eq!(transaction.verify(&logics(), &Transparent), Err(refused));
        prop_assert!(transaction.verify_unbalanced(&logics(), &Transparent).is_ok());
    }

    #[test]
    fn halves_compose_to_a_whole_in_either_order((first, second) in halves(), third in balanced()) {
        let logics = logics();
        for proving in [&Transparent as &dyn DynProving, &Rebuilt] {
            let [a, b, c] = [&first, &second, &third].map(|action| proving.prove_one(&logics, action));
            prop_assert!(!proving.is_good(&logics, &a) && !proving.is_good(&logics, &b));
            let ab = proving.join(vec![a.clone(), b.clone()]).unwrap();
            let ba = proving.join(vec![b.clone(), a.clone()]).unwrap();
            prop_assert!(proving.is_good(&logics, &ab) && proving.is_good(&logics, &ba));
            let left = proving.join(vec![ab, c.clone()]).unwrap();
            let bc = proving.join(vec![b, c]).unwrap();
            let right = proving.join(vec![a.clone(), bc]).unwrap();
            prop_assert_eq!(&left, &right);
            prop_assert!(proving.is_good(&logics, &left));
            let twice = proving.join(vec![left, a]);
            prop_assert!(matches!(twice, Err(MachineError::DuplicateTag(_))));
        }
    }

    #[test]
    fn a_spent_resource_cannot_be_slipped_in_twice(action in balanced()) {
        let twice = Transaction { actions: vec![action.clone(), action.clone()], proof: Proof::default() };
        let nullifier = action.check().unwrap().nullifiers()[0];
        prop_assert_eq!(twice.verify(&logics(), &Transparent), Err(MachineError::DuplicateTag(nullifier)));
    }

    #[test]
    fn created_nonces_never_repeat(actions in vec(balanced(), 1..6)) {
        let inputs: BTreeSet<_> = actions.iter().map(|a| a.check().unwrap().nullifiers().to_vec()).collect();
        let nonces: Vec<_> = actions.iter().flat_map(|a| a.created.iter().map(|c| c.resource.nonce)).collect();
        if inputs.len() == actions.len() {
            prop_assert_eq!(nonces.iter().collect::<BTreeSet<_>>().len(), nonces.len());
        }
    }

    #[test]
    fn the_delta_is_the_plain_sum(
        terms in vec((0u8..3, any::<bool>(), any::<u64>()), 1..12),
    ) {
        let mut action = Action::default();
        let mut plain = [0i128; 3];
        for (label, consumed, quantity) in terms {
            let resource = Resource { label_ref: Digest([label; 32]), quantity: quantity.into(), ..Resource::default() };
            plain[usize::from(label)] += i128::from(quantity) * if consumed { 1 } else { -1 };
            let app_data = AppData::default();
            match consumed {
                true => action.consumed.push(super::Consumed { resource, nullifier_key: NullifierKey::default(), app_data }),
                false => action.created.push(super::Created { resource, app_data }),
            }
        }
        let delta = Delta::of(&action);
        let expected: Vec<_> = (0u8..3).filter(|label| plain[usize::from(*label)] != 0).collect();
        prop_assert_eq!(delta.imbalances().map(|(kind, _)| kind.label_ref.0[0]).collect::<Vec<_>>(), expected);
        for (kind, balance) in delta.imbalances() {
            let difference = balance.consumed.low as i128 - balance.created.low as i128;
            prop_assert_eq!(difference, plain[usize::from(kind.label_ref.0[0])]);
        }
    }

    #[test]
    fn the_wire_form_is_the_only_one(action in balanced(), at in any::<Index>(), bit in 0u8..8) {
        let bytes = action.encode();
        prop_assert_eq!(Action::decode(&bytes), Ok(action.clone()));
        let transaction = transparent(action.clone());
        prop_assert_eq!(Transaction::decode(&transaction.encode()), Ok(transaction));
        prop_assert!(Action::decode(&bytes[..at.index(bytes.len())]).is_err());
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        if let Ok(other) = Action::decode(&flipped) {
            prop_assert_ne!(&other, &action);
            prop_assert_eq!(other.encode(), flipped);
            if let Ok(checked) = other.check() {
                prop_assert_ne!(Rebuilt::digest(&checked), Rebuilt::digest(&action.check().unwrap()));
            }
        }
    }

    #[test]
    fn a_refusing_logic_stops_everything(action in balanced(), at in any::<Index>(), how in Just("refuse me")) {
        let mut action = action;
        let at = at.index(action.created.len());
        action.created[at].app_data = AppData::of_application(ExpirableBlob::passing(how.into()));
        let tag = action.created[at].resource.commitment();
        let error = MachineError::Logic { tag, error: LogicError::denied("it asked for it") };
        prop_assert_eq!(verify_action(&logics(), &action), Err(error));
        prop_assert_eq!(error.kind(), Kind::Denied);
        prop_assert_eq!(Transparent.prove(&logics(), std::slice::from_ref(&action)), Err(error));
        prop_assert_eq!(Rebuilt.prove(&logics(), &[action]), Err(error));
    }
}

/// Both backends behind one pointer, so that a property runs over each.
trait DynProving {
    fn prove_one(&self, logics: &Logics, action: &Action) -> Transaction;
    fn join(&self, parts: Vec<Transaction>) -> Result<Transaction, MachineError>;
    fn check<'a>(&self, logics: &Logics, transaction: &'a Transaction) -> Result<Verified<'a>, MachineError>;

    fn is_good(&self, logics: &Logics, transaction: &Transaction) -> bool {
        self.check(logics, transaction).is_ok()
    }
}

impl<P: ProvingSystem> DynProving for P {
    fn prove_one(&self, logics: &Logics, action: &Action) -> Transaction {
        Transaction::prove(vec![action.clone()], logics, self).unwrap()
    }

    fn join(&self, parts: Vec<Transaction>) -> Result<Transaction, MachineError> {
        Transaction::compose(parts, self)
    }

    fn check<'a>(&self, logics: &Logics, transaction: &'a Transaction) -> Result<Verified<'a>, MachineError> {
        transaction.verify(logics, self)
    }
}

/// A coin mint, or a ticket mint beside or without a coin.
fn purchase(with_coin: bool) -> Action {
    let coin = Resource { logic_ref: Lenient.logic_ref(), quantity: 3, ..Resource::default() };
    let ticket = Resource { logic_ref: Ticket.logic_ref(), quantity: 1, ..Resource::default() };
    let key = NullifierKey::default();
    let mut builder = ActionBuilder::new();
    builder.consume(ticket, key, AppData::default()).unwrap();
    builder.create(Resource { is_ephemeral: false, ..ticket }, AppData::default());
    if with_coin {
        builder.consume(coin, key, AppData::default()).unwrap();
        builder.create(coin, AppData::default());
    }
    builder.build().unwrap()
}

#[test]
fn a_logic_sees_its_siblings() {
    assert!(verify_action(&logics(), &purchase(true)).is_ok());
    let refused = verify_action(&logics(), &purchase(false)).unwrap_err();
    let MachineError::Logic { error, .. } = refused else { panic!("{refused}") };
    assert_eq!(error.rule(), "a ticket is paid for");
}

#[test]
fn a_proof_belongs_to_its_system_and_its_actions() {
    let (logics, action) = (logics(), purchase(true));
    let rebuilt = Transaction::prove(vec![action.clone()], &logics, &Rebuilt).unwrap();
    assert_eq!(rebuilt.verify(&logics, &Transparent), Err(MachineError::WrongProof));
    let plain = transparent(action);
    assert_eq!(plain.verify(&logics, &Rebuilt), Err(MachineError::WrongProof));
    let mixed = Transaction::compose(vec![rebuilt, plain], &Transparent);
    assert_eq!(mixed, Err(MachineError::WrongProof));
    let torn = Transaction { proof: Proof(vec![0; 31]), ..Transaction::default() };
    assert_eq!(Transaction::compose(vec![torn], &Rebuilt), Err(MachineError::WrongProof));
}

#[test]
fn transactions_have_actions_but_not_too_many() {
    let logics = logics();
    assert_eq!(Transaction::default().verify(&logics, &Transparent), Err(MachineError::NoActions));
    let many = Transaction { actions: vec![Action::default(); ACTIONS + 1], proof: Proof::default() };
    assert_eq!(many.verify(&logics, &Transparent), Err(MachineError::TooMuch("actions")));
    assert_eq!(Transaction::compose(vec![many], &Transparent), Err(MachineError::TooMuch("actions")));
}

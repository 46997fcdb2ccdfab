//! The published arm-risc0 crate as oracle: what the machine computes from random resources and
//! actions equals what ARM computes from the same ones.

use anoma_rm_risc0::action_tree::ActionTree;
use anoma_rm_risc0::compliance::{
    ComplianceInstance, ComplianceWitness, INITIAL_ROOT, constrain, delta_projective,
};
use anoma_rm_risc0::error::ArmError;
use anoma_rm_risc0::merkle_path::MerklePath;
use anoma_rm_risc0::nullifier_key as arm_key;
use anoma_rm_risc0::resource as arm;
use multichat::base::Digest;
use multichat::machine::{Action, ActionBuilder, AppData, Delta, MachineError, NullifierKey, Resource};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::{prop_assert, prop_assert_eq};

fn to_arm(resource: &Resource) -> arm::Resource {
    arm::Resource {
        logic_ref: resource.logic_ref.0.into(),
        label_ref: resource.label_ref.0.into(),
        quantity: resource.quantity,
        value_ref: resource.value_ref.0.into(),
        is_ephemeral: resource.is_ephemeral,
        nonce: resource.nonce.0,
        nk_commitment: arm_key::NullifierKeyCommitment::from_bytes(&resource.nk_commitment.0.0).unwrap(),
        rand_seed: resource.rand_seed,
    }
}

fn arm_key_of(key: &NullifierKey) -> arm_key::NullifierKey {
    arm_key::NullifierKey::from_bytes(*key.as_bytes())
}

fn from_arm(digest: anoma_rm_risc0::Digest) -> Digest {
    Digest(digest.into())
}

/// The action as the witness of ARM's compliance circuit, with the delta blinded by 1.
fn witness(action: &Action) -> ComplianceWitness {
    let consumed = action.consumed.iter().map(|input| {
        arm::ResourceWitness::Consumed(arm::ResourceWitnessConsumed::from_resource_with_path(
            to_arm(&input.resource),
            arm_key_of(&input.nullifier_key),
            MerklePath::empty(),
        ))
    });
    let created = action.created.iter().map(|output| arm::ResourceWitness::Created(to_arm(&output.resource)));
    let resources: Vec<_> = consumed.chain(created).collect();
    let kind_paths = vec![None; resources.len()];
    let mut blinding = [0; 32];
    blinding[31] = 1;
    ComplianceWitness::from_parts(resources, INITIAL_ROOT, &blinding, kind_paths)
}

/// What ARM says of an action that certainly balances: it consumes nothing worth anything.
fn balanced_instance() -> ComplianceInstance {
    let mut builder = ActionBuilder::new();
    builder.consume(Resource::default(), NullifierKey::default(), AppData::default()).unwrap();
    constrain(&witness(&builder.build().unwrap())).unwrap()
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn quantity() -> impl Strategy<Value = u128> {
    (any::<u128>(), 0u8..4).prop_map(|(quantity, size)| match size {
        0 => quantity,
        1 => u128::MAX,
        _ => quantity % 3,
    })
}

/// Any resource, with the key that opens it.
fn resource() -> impl Strategy<Value = (Resource, NullifierKey)> {
    let refs = (digest(), digest(), digest());
    let secrets = (digest(), any::<[u8; 32]>(), any::<[u8; 32]>());
    (refs, quantity(), any::<bool>(), secrets).prop_map(
        |((logic_ref, label_ref, value_ref), quantity, is_ephemeral, (nonce, key, rand_seed))| {
            let key = NullifierKey::from_bytes(key);
            let nk_commitment = key.commit();
            let resource = Resource {
                logic_ref,
                label_ref,
                value_ref,
                quantity,
                is_ephemeral,
                nonce,
                nk_commitment,
                rand_seed,
            };
            (resource, key)
        },
    )
}

/// An action over two kinds. Half of them give out what they take in, so that both verdicts on
/// the balance are met.
fn action() -> impl Strategy<Value = Action> {
    let some = |range| vec((resource(), 0u8..2, 1u128..3), range);
    (some(1..4), some(0..4), any::<bool>()).prop_map(|(consumed, mut created, even)| {
        if even {
            created = consumed.clone();
        }
        let of_kind = |resource, kind: u8, quantity| Resource {
            logic_ref: Digest([1; 32]),
            label_ref: Digest([kind; 32]),
            quantity,
            ..resource
        };
        let mut builder = ActionBuilder::new();
        for ((resource, key), kind, quantity) in consumed {
            builder.consume(of_kind(resource, kind, quantity), key, AppData::default()).unwrap();
        }
        for ((resource, _), kind, quantity) in created {
            builder.create(of_kind(resource, kind, quantity), AppData::default());
        }
        builder.build().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commitments_nullifiers_and_tags_are_arms((resource, key) in resource()) {
        let (theirs, their_key) = (to_arm(&resource), arm_key_of(&key));
        prop_assert_eq!(key.commit().0, from_arm(their_key.commit().inner()));
        prop_assert_eq!(resource.commitment(), from_arm(theirs.commitment()));
        prop_assert_eq!(resource.nullifier(&key), Ok(from_arm(theirs.nullifier(&their_key).unwrap())));
        prop_assert_eq!(resource.tag(Some(&key)), Ok(from_arm(theirs.tag(true, &their_key).unwrap())));
        prop_assert_eq!(resource.tag(None), Ok(from_arm(theirs.tag(false, &their_key).unwrap())));
    }

    #[test]
    fn a_wrong_key_is_refused_by_both((resource, _) in resource(), key in any::<[u8; 32]>()) {
        let key = NullifierKey::from_bytes(key);
        prop_assert_eq!(resource.nullifier(&key), Err(MachineError::WrongNullifierKey));
        let theirs = to_arm(&resource).nullifier(&arm_key_of(&key));
        prop_assert_eq!(theirs, Err(ArmError::InvalidNullifierKey));
    }

    #[test]
    fn nonces_are_arms(index in any::<u32>(), nullifiers in vec(digest(), 0..6)) {
        let theirs: Vec<_> = nullifiers.iter().map(|nullifier| nullifier.0.into()).collect();
        let theirs = arm::Resource::derive_nonce_from_nullifiers(index, &theirs).ok();
        prop_assert_eq!(Resource::derive_nonce(index, &nullifiers).ok(), theirs.map(Digest));
    }

    #[test]
    fn kinds_are_the_same_exactly_when_arms_points_are((one, _) in resource(), (other, _) in resource(), which in 0u8..4) {
        let other = match which {
            0 => Resource { logic_ref: one.logic_ref, ..other },
            1 => Resource { label_ref: one.label_ref, ..other },
            2 => Resource { logic_ref: one.logic_ref, label_ref: one.label_ref, ..other },
            _ => other,
        };
        let same = arm::kind(&to_arm(&one)).unwrap() == arm::kind(&to_arm(&other)).unwrap();
        prop_assert_eq!(one.kind() == other.kind(), same);
    }

    #[test]
    fn arms_circuit_takes_our_actions_and_sees_the_same(action in action()) {
        let checked = action.check().unwrap();
        let instance = constrain(&witness(&action)).unwrap();
        let tags: Vec<_> = instance.tags().map(from_arm).collect();
        prop_assert_eq!(checked.tags(), tags);
        prop_assert_eq!(checked.root(), from_arm(ActionTree::new(instance.tags().collect()).root().unwrap()));
        // With one blinding, deltas are equal points exactly if they are equal sums.
        let balanced = delta_projective(&balanced_instance()).unwrap();
        let theirs = delta_projective(&instance).unwrap();
        prop_assert_eq!(Delta::of(&action).is_zero(), theirs == balanced);
    }

    #[test]
    fn a_forged_nonce_is_refused_by_both(action in action(), nonce in digest()) {
        let mut forged = action;
        let Some(output) = forged.created.first_mut() else { return Ok(()) };
        output.resource.nonce = nonce;
        prop_assert_eq!(forged.check(), Err(MachineError::WrongNonce(0)));
        prop_assert!(matches!(constrain(&witness(&forged)), Err(ArmError::InvalidResourceNonce)));
    }
}

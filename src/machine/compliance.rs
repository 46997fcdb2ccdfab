//! Compliance: what has to hold for an action in itself, whatever its logics say. Passing it gives
//! a [`CheckedAction`], the only way to run logics over an action. It knows no state: whether a
//! consumed resource exists is not decided here.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

use super::action::{Action, AppData, BuiltAction};
use super::error::MachineError;
use super::logic::{LogicInstance, Logics};
use super::resource::{Resource, hash, hash_nullifiers};
use crate::base::Digest;

/// Resources that one action may consume.
pub const CONSUMED: usize = 32;
/// Resources that one action may create.
pub const CREATED: usize = 32;
/// Blobs that may accompany one resource.
pub const BLOBS: usize = 16;
/// Bytes of all blobs of one action.
pub const APP_DATA_BYTES: usize = 96 * 1024;
/// Bytes of an encoded action.
pub const ACTION_BYTES: usize = 128 * 1024;

/// An action that passed compliance, with its tags.
#[derive(Clone, Debug)]
pub struct CheckedAction<'a> {
    action: &'a Action,
    nullifiers: Vec<Digest>,
    /// The commitments of the consumed.
    opened: Vec<Digest>,
    /// The commitments of the created. They follow from the action: where it was built here, nothing but
    /// whoever asks for one needs them.
    commitments: OnceLock<Vec<Digest>>,
    derived: Derived,
}

/// All of it follows from the action.
impl PartialEq for CheckedAction<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.action == other.action
    }
}

impl Eq for CheckedAction<'_> {}

/// What logics derived from the action as a whole.
#[derive(Default)]
struct Derived(OnceLock<Box<dyn Any + Send + Sync>>);

impl Clone for Derived {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Derived(..)")
    }
}

/// One resource of an action, as its siblings' logics see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Its place among the consumed, or among the created.
    pub place: usize,
    pub is_consumed: bool,
    pub resource: &'a Resource,
    pub app_data: &'a AppData,
}

impl<'a> CheckedAction<'a> {
    /// Checks the action: at least one resource is consumed, sizes are within the constants of
    /// this module, each nullifier key opens its commitment, each created nonce derives from its
    /// index and all nullifiers, and no tag occurs twice.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn new(action: &'a Action) -> Result<Self, MachineError> {
        check_sizes(action)?;
        let (mut nullifiers, mut opened) = (Vec::new(), Vec::new());
        for input in &action.consumed {
            let commitment = input.resource.commitment();
            nullifiers.push(input.resource.nullifier_from_commitment(&input.nullifier_key, &commitment)?);
            opened.push(commitment);
        }
        let nullifiers_hash = hash_nullifiers(&nullifiers)?;
        for (index, output) in (0u32..).zip(&action.created) {
            if output.resource.nonce != Resource::nonce_from(index, &nullifiers_hash) {
                return Err(MachineError::WrongNonce(index));
            }
        }
        let checked =
            Self { action, nullifiers, opened, commitments: OnceLock::new(), derived: Derived::default() };
        require_distinct(&checked.tags())?;
        Ok(checked)
    }

    /// The same for an action whose nullifiers and nonces were worked out here. What it creates differs
    /// by nonce, so only what it consumes could be twice the same.
    pub(super) fn of_built(built: &'a BuiltAction) -> Result<Self, MachineError> {
        check_sizes(&built.action)?;
        require_distinct(&built.nullifiers)?;
        Ok(Self {
            action: &built.action,
            nullifiers: built.nullifiers.clone(),
            opened: built.opened.clone(),
            commitments: OnceLock::new(),
            derived: Derived::default(),
        })
    }

    /// What several logics of one application derive from the action, worked out by the first that asks.
    /// It must follow from the action alone, and there is one such thing in an action: of another type
    /// it is worked out each time.
    pub fn derived<T: Any + Copy + Send + Sync>(&self, derive: impl Fn() -> T) -> T {
        let held = self.derived.0.get_or_init(|| Box::new(derive()));
        held.downcast_ref::<T>().copied().unwrap_or_else(derive)
    }

    /// The action itself.
    pub fn action(&self) -> &'a Action {
        self.action
    }

    /// The nullifiers, in the order of the consumed resources. That none was seen before is for
    /// whoever holds the state to check, for ephemeral resources too: it is what keeps an action
    /// from being repeated.
    pub fn nullifiers(&self) -> &[Digest] {
        &self.nullifiers
    }

    /// The commitments of the created resources, in their order.
    pub fn commitments(&self) -> &[Digest] {
        let commit = || self.action.created.iter().map(|output| output.resource.commitment()).collect();
        self.commitments.get_or_init(commit)
    }

    /// The commitments of the consumed resources, in their order. That those of resources which
    /// are not ephemeral were created before is for whoever holds the state to check.
    pub fn opened(&self) -> &[Digest] {
        &self.opened
    }

    /// All tags: nullifiers, then commitments of the created.
    pub fn tags(&self) -> Vec<Digest> {
        [self.nullifiers(), self.commitments()].concat()
    }

    /// The tag of a resource: its nullifier if it is consumed, its commitment if it is created.
    pub fn tag(&self, member: &Member<'_>) -> Digest {
        match member.is_consumed {
            true => self.nullifiers[member.place],
            false => self.commitments()[member.place],
        }
    }

    /// The consumed resources.
    pub fn consumed(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.action.consumed.iter().enumerate().map(|(place, input)| Member {
            place,
            is_consumed: true,
            resource: &input.resource,
            app_data: &input.app_data,
        })
    }

    /// The created resources.
    pub fn created(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.action.created.iter().enumerate().map(|(place, output)| Member {
            place,
            is_consumed: false,
            resource: &output.resource,
            app_data: &output.app_data,
        })
    }

    /// All resources, in the order of [`Self::tags`].
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.consumed().chain(self.created())
    }

    /// Runs the logic of every resource, consumed and created.
    ///
    /// # Errors
    /// [`MachineError::UnknownLogic`], or [`MachineError::Logic`] with the first refusal.
    pub fn run_logics(&self, logics: &Logics) -> Result<(), MachineError> {
        for member in self.members() {
            let reference = member.resource.logic_ref;
            let logic = logics.get(&reference).ok_or(MachineError::UnknownLogic(reference))?;
            logic
                .verify(&LogicInstance::new(member, self))
                .map_err(|error| MachineError::Logic { tag: self.tag(&member), error })?;
        }
        Ok(())
    }

    /// The root of ARM's action tree: a binary SHA-256 tree over the tags, filled up to a power of
    /// two with `H("EMPTY")`.
    pub fn root(&self) -> Digest {
        let mut layer = self.tags();
        layer.resize(layer.len().next_power_of_two(), hash([b"EMPTY"]));
        while layer.len() > 1 {
            layer = layer.chunks_exact(2).map(|pair| hash([&pair[0].0[..], &pair[1].0])).collect();
        }
        layer[0]
    }
}

/// Quadratic, because at most 64 tags cost less to compare than to sort.
fn require_distinct(tags: &[Digest]) -> Result<(), MachineError> {
    for (i, tag) in tags.iter().enumerate() {
        if tags[..i].contains(tag) {
            return Err(MachineError::DuplicateTag(*tag));
        }
    }
    Ok(())
}

fn check_sizes(action: &Action) -> Result<(), MachineError> {
    if action.consumed.is_empty() {
        return Err(MachineError::NothingConsumed);
    }
    if action.consumed.len() > CONSUMED {
        return Err(MachineError::TooMuch("consumed resources"));
    }
    if action.created.len() > CREATED {
        return Err(MachineError::TooMuch("created resources"));
    }
    let consumed = action.consumed.iter().map(|input| &input.app_data);
    let created = action.created.iter().map(|output| &output.app_data);
    let mut bytes = 0usize;
    for app_data in consumed.chain(created) {
        if app_data.parts().iter().map(|part| part.len()).sum::<usize>() > BLOBS {
            return Err(MachineError::TooMuch("blobs of one resource"));
        }
        bytes += app_data.blobs().map(|blob| blob.blob.len()).sum::<usize>();
    }
    if bytes > APP_DATA_BYTES {
        return Err(MachineError::TooMuch("bytes of application data"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ActionBuilder, ExpirableBlob, NullifierKey};

    fn seeded(seed: u8) -> Resource {
        Resource { rand_seed: [seed; 32], ..Resource::default() }
    }

    fn action(consumed: u8, created: u8, app_data: &AppData) -> Action {
        let mut builder = ActionBuilder::new();
        for seed in 0..consumed {
            builder.consume(seeded(seed), NullifierKey::default(), app_data.clone()).unwrap();
        }
        for seed in 0..created {
            builder.create(seeded(seed), app_data.clone());
        }
        builder.build().unwrap()
    }

    #[test]
    fn tags_and_openings_are_in_order() {
        let action = action(2, 3, &AppData::default());
        let checked = action.check().unwrap();
        let key = NullifierKey::default();
        let nullifiers: Vec<_> =
            action.consumed.iter().map(|c| c.resource.nullifier(&key).unwrap()).collect();
        let commitments: Vec<_> = action.created.iter().map(|c| c.resource.commitment()).collect();
        let opened: Vec<_> = action.consumed.iter().map(|c| c.resource.commitment()).collect();
        assert_eq!(checked.nullifiers(), nullifiers);
        assert_eq!(checked.commitments(), commitments);
        assert_eq!(checked.opened(), opened);
        let members: Vec<_> =
            checked.members().map(|member| (checked.tag(&member), member.is_consumed)).collect();
        let expected = checked.tags().into_iter().zip([true, true, false, false, false]);
        assert_eq!(members, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_action_consumes_something() {
        let nothing = Action { consumed: Vec::new(), ..action(1, 1, &AppData::default()) };
        assert_eq!(nothing.check(), Err(MachineError::NothingConsumed));
    }

    #[test]
    fn a_wrong_key_and_a_wrong_nonce_are_refused() {
        let mut forged = action(2, 2, &AppData::default());
        forged.consumed[1].nullifier_key = NullifierKey::from_bytes([1; 32]);
        assert_eq!(forged.check(), Err(MachineError::WrongNullifierKey));
        let mut forged = action(2, 2, &AppData::default());
        forged.created[1].resource.nonce = forged.created[0].resource.nonce;
        assert_eq!(forged.check(), Err(MachineError::WrongNonce(1)));
        let mut forged = action(2, 2, &AppData::default());
        forged.consumed.swap(0, 1);
        assert_eq!(forged.check(), Err(MachineError::WrongNonce(0)));
    }

    #[test]
    fn nothing_is_consumed_twice() {
        let mut builder = ActionBuilder::new();
        for _ in 0..2 {
            builder.consume(seeded(1), NullifierKey::default(), AppData::default()).unwrap();
        }
        let nullifier = seeded(1).nullifier(&NullifierKey::default()).unwrap();
        assert_eq!(builder.build().unwrap().check(), Err(MachineError::DuplicateTag(nullifier)));
    }

    #[test]
    fn sizes_are_bounded() {
        let none = AppData::default();
        assert!(action(32, 32, &none).check().is_ok());
        assert_eq!(action(33, 1, &none).check(), Err(MachineError::TooMuch("consumed resources")));
        assert_eq!(action(1, 33, &none).check(), Err(MachineError::TooMuch("created resources")));
        let blob = ExpirableBlob::kept(vec![0; APP_DATA_BYTES / 2]);
        let half = AppData::of_application(blob);
        assert!(action(1, 1, &half).check().is_ok());
        assert_eq!(action(2, 1, &half).check(), Err(MachineError::TooMuch("bytes of application data")));
        let empty = ExpirableBlob::kept(Vec::new());
        let many = |count| AppData { external: vec![empty.clone(); count], ..AppData::default() };
        assert!(action(1, 0, &many(BLOBS)).check().is_ok());
        assert_eq!(
            action(1, 0, &many(BLOBS + 1)).check(),
            Err(MachineError::TooMuch("blobs of one resource"))
        );
    }

    #[test]
    fn the_root_is_a_padded_binary_tree_over_the_tags() {
        let action = action(1, 2, &AppData::default());
        let checked = action.check().unwrap();
        let tags = checked.tags();
        let [nullifier, first, second] = &tags[..] else { panic!("three tags") };
        let pair = |left: &Digest, right: &Digest| hash([&left.0[..], &right.0]);
        let expected = pair(&pair(nullifier, first), &pair(second, &hash([b"EMPTY"])));
        assert_eq!(checked.root(), expected);
    }
}

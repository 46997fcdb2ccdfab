//! Proving systems: how one convinces another that compliance and logics hold for actions. Logics
//! know nothing of it. Two backends live here, both transparent about the witness; a shielded one
//! (arm-risc0's) implements the same trait, with a proof that stands in for the witness.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::action::{Action, AppData, BuiltAction, DeletionCriterion, ExpirableBlob};
use super::compliance::CheckedAction;
use super::delta::Delta;
use super::error::MachineError;
use super::logic::Logics;
use super::resource::hash;
use crate::base::Digest;

/// What a proving system adds to the actions. Only the system that made it can read it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Proof(pub Vec<u8>);

/// What a verifier learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified<'a> {
    /// The actions with their tags, in order.
    pub actions: Vec<CheckedAction<'a>>,
    /// What is left over or missing; zero if they balance among themselves.
    pub delta: Delta,
}

/// A way to prove that compliance and logics hold. Balance is reported, not required: an intent is
/// proved before it balances.
pub trait ProvingSystem {
    /// Proves the actions. Refuses what does not hold, so that nobody proves nonsense by mistake.
    ///
    /// # Errors
    /// The first broken rule.
    fn prove(&self, logics: &Logics, actions: &[Action]) -> Result<Proof, MachineError>;

    /// Checks compliance and logics of each action, and that the proof belongs to them.
    ///
    /// # Errors
    /// The first broken rule; [`MachineError::WrongProof`] if the proof does not belong.
    fn verify<'a>(
        &self,
        logics: &Logics,
        actions: &'a [Action],
        proof: &Proof,
    ) -> Result<Verified<'a>, MachineError>;

    /// The proof for the actions of all parts, one after the other.
    ///
    /// # Errors
    /// [`MachineError::WrongProof`] if one of the parts is none of this system's.
    fn aggregate(&self, parts: &[&Proof]) -> Result<Proof, MachineError>;
}

/// Checks one action that balances by itself, by reference: compliance, every logic, delta. The
/// shortest way for what carries exactly one action.
///
/// # Errors
/// The first broken rule.
pub fn verify_action<'a>(logics: &Logics, action: &'a Action) -> Result<CheckedAction<'a>, MachineError> {
    let checked = action.check()?;
    Delta::of(action).require_zero()?;
    checked.run_logics(logics)?;
    Ok(checked)
}

/// [`verify_action`] for an action that was built here.
///
/// # Errors
/// The first broken rule.
pub fn verify_built<'a>(logics: &Logics, built: &'a BuiltAction) -> Result<CheckedAction<'a>, MachineError> {
    let checked = built.check()?;
    Delta::of(checked.action()).require_zero()?;
    checked.run_logics(logics)?;
    Ok(checked)
}

/// The default: the witness is in the instance, the proof is empty, and everybody re-executes the
/// logics. It hides nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Transparent;

impl ProvingSystem for Transparent {
    fn prove(&self, logics: &Logics, actions: &[Action]) -> Result<Proof, MachineError> {
        execute(logics, actions)?;
        Ok(Proof::default())
    }

    fn verify<'a>(
        &self,
        logics: &Logics,
        actions: &'a [Action],
        proof: &Proof,
    ) -> Result<Verified<'a>, MachineError> {
        if !proof.0.is_empty() {
            return Err(MachineError::WrongProof);
        }
        execute(logics, actions)
    }

    fn aggregate(&self, parts: &[&Proof]) -> Result<Proof, MachineError> {
        match parts.iter().all(|part| part.0.is_empty()) {
            true => Ok(Proof::default()),
            false => Err(MachineError::WrongProof),
        }
    }
}

/// For actions that do not travel: the author publishes 32 bytes for each, and a verifier who can
/// rebuild the action from state and intent checks that it rebuilt the same one, then re-executes
/// the logics. It hides nothing and trusts nobody; it only saves carrying what both sides know.
///
/// The proof is the concatenation of [`Rebuilt::digest`] of each action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rebuilt;

impl Rebuilt {
    /// `H("MULTICHAT_REBUILT" ‖ root ‖ H(app data…))`: binds every tag, and with them every field of
    /// every resource, and every blob by its hash. So it can still be recomputed from the hashes
    /// of blobs that were deleted.
    pub fn digest(checked: &CheckedAction<'_>) -> Digest {
        let mut hasher = Sha256::new();
        for member in checked.members() {
            hash_app_data(&mut hasher, member.app_data);
        }
        let app_data: [u8; 32] = hasher.finalize().into();
        hash([b"MULTICHAT_REBUILT", &checked.root().0[..], &app_data])
    }

    /// [`verify_action`] for an action rebuilt from what an author published.
    ///
    /// # Errors
    /// The first broken rule; [`MachineError::WrongProof`] if the author's action was another.
    pub fn verify_action<'a>(
        logics: &Logics,
        action: &'a Action,
        published: &Digest,
    ) -> Result<CheckedAction<'a>, MachineError> {
        let checked = verify_action(logics, action)?;
        match Self::digest(&checked) == *published {
            true => Ok(checked),
            false => Err(MachineError::WrongProof),
        }
    }
}

impl ProvingSystem for Rebuilt {
    fn prove(&self, logics: &Logics, actions: &[Action]) -> Result<Proof, MachineError> {
        Ok(digests(&execute(logics, actions)?.actions))
    }

    fn verify<'a>(
        &self,
        logics: &Logics,
        actions: &'a [Action],
        proof: &Proof,
    ) -> Result<Verified<'a>, MachineError> {
        let verified = execute(logics, actions)?;
        match digests(&verified.actions) == *proof {
            true => Ok(verified),
            false => Err(MachineError::WrongProof),
        }
    }

    fn aggregate(&self, parts: &[&Proof]) -> Result<Proof, MachineError> {
        if parts.iter().any(|part| !part.0.len().is_multiple_of(32)) {
            return Err(MachineError::WrongProof);
        }
        Ok(Proof(parts.iter().flat_map(|part| &part.0).copied().collect()))
    }
}

fn execute<'a>(logics: &Logics, actions: &'a [Action]) -> Result<Verified<'a>, MachineError> {
    let mut verified = Verified { actions: Vec::with_capacity(actions.len()), delta: Delta::default() };
    for action in actions {
        let checked = action.check()?;
        checked.run_logics(logics)?;
        verified.delta.add(action);
        verified.actions.push(checked);
    }
    Ok(verified)
}

fn digests(actions: &[CheckedAction<'_>]) -> Proof {
    Proof(actions.iter().flat_map(|action| Rebuilt::digest(action).0).collect())
}

/// Counts come before what they count, so no two application data give the same stream.
fn hash_app_data(hasher: &mut Sha256, app_data: &AppData) {
    for part in app_data.parts() {
        hash_blobs(hasher, part);
    }
}

/// One of the parts of application data.
pub(super) fn hash_blobs(hasher: &mut Sha256, part: &[ExpirableBlob]) {
    hasher.update((part.len() as u32).to_be_bytes());
    for blob in part {
        hasher.update(Sha256::digest(&blob.blob));
        let (rule, moment) = match blob.deletion {
            DeletionCriterion::Never => (0, 0),
            DeletionCriterion::After(moment) => (1, moment.0),
            DeletionCriterion::Immediately => (2, 0),
        };
        hasher.update([rule]);
        hasher.update(moment.to_be_bytes());
    }
}

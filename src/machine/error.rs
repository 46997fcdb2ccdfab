//! Why the machine refused something. It names the broken rule and never the way to get round it.

use std::fmt;

use super::logic::LogicError;
use super::resource::ResourceKind;
use crate::base::codec::CodecError;
use crate::base::{Digest, Kind};

/// What is wrong with an action, a transaction or a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineError {
    /// A transaction without actions.
    NoActions,
    /// An action that consumes nothing: nothing would make its created resources unique.
    NothingConsumed,
    /// More of the named thing than the machine takes; see the constants in `compliance` and
    /// `transaction`.
    TooMuch(&'static str),
    /// The key given for a consumed resource does not open its nullifier key commitment.
    WrongNullifierKey,
    /// The created resource at this index has a nonce that does not derive from its action.
    WrongNonce(u32),
    /// One nullifier or commitment twice.
    DuplicateTag(Digest),
    /// More of this kind is consumed than created, or the other way round.
    Unbalanced(ResourceKind),
    /// No logic is registered under this reference. The resource may be good under rules that
    /// are not known here.
    UnknownLogic(Digest),
    /// The logic of the resource with this tag refused.
    Logic { tag: Digest, error: LogicError },
    /// A constraint of an intent, or what its author's consent covers, is broken; the rule.
    Terms(&'static str),
    /// The proof does not belong to these actions, or not to this proving system.
    WrongProof,
    /// The bytes are no canonical encoding.
    Codec(CodecError),
}

impl MachineError {
    /// `NotFound` for an unknown logic, what the logic says for a refusal, `Denied` for broken terms, else
    /// `Invalid`.
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownLogic(_) => Kind::NotFound,
            Self::Logic { error, .. } => error.kind(),
            Self::Terms(_) => Kind::Denied,
            _ => Kind::Invalid,
        }
    }
}

impl MachineError {
    /// The broken rule, in a few words.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Logic { error, .. } => error.rule(),
            Self::Terms(rule) => rule,
            Self::Unbalanced(_) => "a transaction balances",
            _ => "a transaction is well formed",
        }
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoActions => f.write_str("the transaction has no actions"),
            Self::NothingConsumed => f.write_str("the action consumes nothing"),
            Self::TooMuch(what) => write!(f, "too many {what}"),
            Self::WrongNullifierKey => f.write_str("the nullifier key does not open its commitment"),
            Self::WrongNonce(index) => write!(f, "the nonce of created resource {index} is not derived"),
            Self::DuplicateTag(tag) => write!(f, "the tag {} occurs twice", tag.short()),
            Self::Unbalanced(kind) => write!(f, "resources of kind {kind} do not balance"),
            Self::UnknownLogic(logic) => write!(f, "no logic {} is known", logic.short()),
            Self::Logic { tag, error } => write!(f, "resource {}: {error}", tag.short()),
            Self::Terms(rule) => f.write_str(rule),
            Self::WrongProof => f.write_str("the proof does not belong to these actions"),
            Self::Codec(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MachineError {}

impl From<CodecError> for MachineError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

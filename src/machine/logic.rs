//! Resource logics: the predicates that guard resources, and the registry that finds them. A logic
//! is a pure function of its [`LogicInstance`]; it sees the whole action and nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::action::AppData;
use super::compliance::{CheckedAction, Member};
use super::resource::{Resource, hash};
use crate::base::{Digest, Kind};

/// The reference of a logic: `H("MULTICHAT_LOGIC" ‖ len_be4(name) ‖ name ‖ version_be4)`. A change of
/// what a logic allows needs a new version, or nodes would disagree about the same bytes.
pub fn logic_ref(name: &str, version: u32) -> Digest {
    let length = name.len() as u32;
    hash([b"MULTICHAT_LOGIC", &length.to_be_bytes()[..], name.as_bytes(), &version.to_be_bytes()])
}

/// A predicate over an action from the point of view of one of its resources.
pub trait ResourceLogic: Send + Sync {
    /// What resources name it by; see [`logic_ref`].
    fn logic_ref(&self) -> Digest;

    /// Whether the resource may be consumed or created as the instance shows it. Called once for
    /// each resource of the logic in an action. It must be deterministic and must not panic.
    ///
    /// # Errors
    /// The rule that was broken.
    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError>;
}

/// What a logic is asked about. Only borrows.
#[derive(Clone, Copy, Debug)]
pub struct LogicInstance<'a> {
    /// Its place among the consumed, or among the created.
    pub place: usize,
    pub is_consumed: bool,
    pub resource: &'a Resource,
    pub app_data: &'a AppData,
    /// The action it happens in: compliance holds, the other logics may not have been asked yet.
    pub action: &'a CheckedAction<'a>,
}

impl<'a> LogicInstance<'a> {
    /// The instance for one member of the action.
    pub fn new(member: Member<'a>, action: &'a CheckedAction<'a>) -> Self {
        let Member { place, is_consumed, resource, app_data } = member;
        Self { place, is_consumed, resource, app_data, action }
    }

    /// The resource that it is about.
    pub fn member(&self) -> Member<'a> {
        let Self { place, is_consumed, resource, app_data, .. } = *self;
        Member { place, is_consumed, resource, app_data }
    }

    /// The consumed resources under a logic, this one included if it is among them.
    pub fn consumed_of(&self, logic_ref: Digest) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.action.consumed().filter(move |member| member.resource.logic_ref == logic_ref)
    }

    /// The created resources under a logic, this one included if it is among them.
    pub fn created_of(&self, logic_ref: Digest) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.action.created().filter(move |member| member.resource.logic_ref == logic_ref)
    }
}

/// A logic's refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogicError {
    rule: &'static str,
    kind: Kind,
}

impl LogicError {
    /// What was asked for makes no sense under this rule.
    pub const fn invalid(rule: &'static str) -> Self {
        Self { rule, kind: Kind::Invalid }
    }

    /// It makes sense, but is not allowed.
    pub const fn denied(rule: &'static str) -> Self {
        Self { rule, kind: Kind::Denied }
    }

    /// The name of the broken rule: a few words for people, stable enough to test against.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// `Invalid` or `Denied`.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for LogicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule)
    }
}

impl std::error::Error for LogicError {}

/// The logics a node knows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Logics {
    by_ref: BTreeMap<Digest, Arc<dyn ResourceLogic>>,
}

impl Logics {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows one more. Of two with the same reference the later one counts.
    #[must_use]
    pub fn with(mut self, logic: impl ResourceLogic + 'static) -> Self {
        self.by_ref.insert(logic.logic_ref(), Arc::new(logic));
        self
    }

    /// The logic with this reference.
    pub fn get(&self, logic_ref: &Digest) -> Option<&dyn ResourceLogic> {
        self.by_ref.get(logic_ref).map(AsRef::as_ref)
    }
}

impl fmt::Debug for Logics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_ref.keys()).finish()
    }
}

/// ARM's trivial logic: an ephemeral resource of quantity 0 without application data, which fills
/// an action up or gives it something unique to consume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PaddingLogic;

impl ResourceLogic for PaddingLogic {
    fn logic_ref(&self) -> Digest {
        logic_ref("padding", 1)
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        if !instance.resource.is_ephemeral {
            return Err(LogicError::invalid("padding is ephemeral"));
        }
        if instance.resource.quantity != 0 {
            return Err(LogicError::invalid("padding has quantity 0"));
        }
        if instance.app_data.blobs().next().is_some() {
            return Err(LogicError::invalid("padding carries no data"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{ActionBuilder, ExpirableBlob, MachineError, NullifierKey};

    #[test]
    fn a_reference_is_the_hash_of_name_and_version() {
        let padding = [
            0x26, 0x42, 0x44, 0x7b, 0x1c, 0xd1, 0x0e, 0x40, 0x5a, 0x86, 0xe3, 0x3f, 0xcd, 0xfd, 0x3c, 0x58,
            0x55, 0xc3, 0x7e, 0x21, 0x6c, 0x76, 0x4e, 0xb1, 0xcd, 0x0a, 0x0c, 0xcb, 0xc2, 0xc3, 0x55, 0xff,
        ];
        assert_eq!(logic_ref("padding", 1), Digest(padding));
        assert_ne!(logic_ref("padding", 2), Digest(padding));
        assert_ne!(logic_ref("ab", 1), logic_ref("a", 1));
    }

    fn run_padding(resource: Resource, app_data: AppData) -> Result<(), MachineError> {
        let mut builder = ActionBuilder::new();
        let resource = Resource { logic_ref: PaddingLogic.logic_ref(), ..resource };
        builder.consume(resource, NullifierKey::default(), app_data).unwrap();
        builder.build().unwrap().check().unwrap().run_logics(&Logics::new().with(PaddingLogic))
    }

    fn broken_rule(result: Result<(), MachineError>) -> &'static str {
        match result {
            Err(MachineError::Logic { error, .. }) => error.rule(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn padding_is_worth_nothing_and_says_nothing() {
        let resource = Resource::default();
        assert_eq!(run_padding(resource, AppData::default()), Ok(()));
        let lasting = Resource { is_ephemeral: false, ..resource };
        assert_eq!(broken_rule(run_padding(lasting, AppData::default())), "padding is ephemeral");
        let worth = Resource { quantity: 1, ..resource };
        assert_eq!(broken_rule(run_padding(worth, AppData::default())), "padding has quantity 0");
        let talking = AppData::of_application(ExpirableBlob::kept(Vec::new()));
        assert_eq!(broken_rule(run_padding(resource, talking)), "padding carries no data");
    }

    #[test]
    fn an_unknown_logic_is_not_found_and_a_refusal_has_its_own_kind() {
        let action = {
            let mut builder = ActionBuilder::new();
            builder.consume(Resource::default(), NullifierKey::default(), AppData::default()).unwrap();
            builder.build().unwrap()
        };
        let error = action.check().unwrap().run_logics(&Logics::new()).unwrap_err();
        assert_eq!(error, MachineError::UnknownLogic(Digest::default()));
        assert_eq!(error.kind(), Kind::NotFound);
        let denied = MachineError::Logic { tag: Digest::default(), error: LogicError::denied("not yours") };
        assert_eq!(denied.kind(), Kind::Denied);
    }
}

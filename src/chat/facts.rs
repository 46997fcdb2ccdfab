//! What every chat logic needs to know of the action it looks at: the facts behind each
//! resource's label and value, and whether a resource is minted, renewed or released.
//!
//! The facts travel as application data: `resource[0]` holds the canonical label and value, whose
//! hashes the resource commits to.

use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{Digest, codec};
use crate::machine::{AppData, ExpirableBlob, LogicError, LogicInstance, Member, logic_ref};

/// Bytes of the facts of one resource.
pub(super) const FACTS_BYTES: usize = 4096;
/// The version of every logic here.
const VERSION: u32 = 1;

/// The references of the chat's logics.
pub struct LogicRefs {
    pub access: Digest,
    pub permissions: Digest,
    pub profile: Digest,
    pub message: Digest,
    pub channel: Digest,
    pub grant: Digest,
    pub revocation: Digest,
    pub token: Digest,
    pub ticket: Digest,
    pub commitment: Digest,
}

/// The references, computed once.
pub fn logic_refs() -> &'static LogicRefs {
    static REFS: OnceLock<LogicRefs> = OnceLock::new();
    REFS.get_or_init(|| LogicRefs {
        access: logic_ref("channel_access", VERSION),
        permissions: logic_ref("permissions", VERSION),
        profile: logic_ref("user_profile", VERSION),
        message: logic_ref("message", VERSION),
        channel: logic_ref("channel", VERSION),
        grant: logic_ref("grant", VERSION),
        revocation: logic_ref("revocation", VERSION),
        token: logic_ref("token", VERSION),
        ticket: logic_ref("ticket", VERSION),
        commitment: logic_ref("service_commitment", VERSION),
    })
}

/// The hash by which a resource commits to a label or a value.
pub fn reference<T: Serialize>(fact: &T) -> Digest {
    hash(&codec::encode(fact))
}

fn hash(encoded: &[u8]) -> Digest {
    Digest(*blake3::hash(encoded).as_bytes())
}

/// The facts of a resource: how it commits to them, and what carries them.
pub(super) struct Facts {
    pub label: Digest,
    pub value: Digest,
    pub app_data: AppData,
}

impl Facts {
    /// Of this label and value.
    pub fn of<L: Serialize, V: Serialize>(label: &L, value: &V) -> Self {
        let mut blob = codec::encode(label);
        let split = blob.len();
        blob.extend(codec::encode(value));
        let (label, value) = (hash(&blob[..split]), hash(&blob[split..]));
        Self {
            label,
            value,
            app_data: AppData { resource: vec![ExpirableBlob::kept(blob)], ..AppData::default() },
        }
    }
}

/// Application data that carries a label and a value.
pub fn app_data<L: Serialize, V: Serialize>(label: &L, value: &V) -> AppData {
    AppData { resource: vec![ExpirableBlob::kept(codec::encode(&(label, value)))], ..AppData::default() }
}

/// The label and value of the resource a logic is asked about, checked against what the resource
/// commits to.
///
/// # Errors
/// A [`LogicError`] naming what does not fit.
pub fn read<L, V>(instance: &LogicInstance<'_>) -> Result<(L, V), LogicError>
where
    L: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    read_of(&instance.member())
}

/// The same of any resource of the action.
///
/// # Errors
/// A [`LogicError`] naming what does not fit.
pub(super) fn read_of<L, V>(member: &Member<'_>) -> Result<(L, V), LogicError>
where
    L: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    let facts = read_counted(member)?;
    if member.resource.quantity != 1 {
        return Err(LogicError::invalid("a resource of the chat has quantity 1"));
    }
    Ok(facts)
}

/// The same of a resource of which there may be any quantity.
///
/// # Errors
/// A [`LogicError`] naming what does not fit.
pub(super) fn read_counted<L, V>(member: &Member<'_>) -> Result<(L, V), LogicError>
where
    L: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    let [blob] = member.app_data.resource.as_slice() else {
        return Err(LogicError::invalid("a resource carries its facts"));
    };
    let (label, value, split) = codec::decode_pair(&blob.blob, FACTS_BYTES)
        .map_err(|_| LogicError::invalid("the facts are those of the resource's logic"))?;
    let (label_bytes, value_bytes) = blob.blob.split_at(split);
    if hash(label_bytes) != member.resource.label_ref || hash(value_bytes) != member.resource.value_ref {
        return Err(LogicError::invalid("a resource commits to its facts"));
    }
    Ok((label, value))
}

/// How a resource passes through an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// Ephemeral in, persistent out: it comes into being.
    Minted,
    /// Persistent in, persistent out.
    Renewed,
    /// Persistent in, ephemeral out: it ends.
    Released,
}

/// How the one resource of a logic passes through the action.
///
/// # Errors
/// If the action does not consume one and create one of them.
pub fn passage(instance: &LogicInstance<'_>, logic: Digest) -> Result<Passage, LogicError> {
    let (consumed, created) = pair(instance, logic)?;
    passage_of(&consumed, &created)
}

fn passage_of(consumed: &Member<'_>, created: &Member<'_>) -> Result<Passage, LogicError> {
    match (consumed.resource.is_ephemeral, created.resource.is_ephemeral) {
        (true, false) => Ok(Passage::Minted),
        (false, false) => Ok(Passage::Renewed),
        (false, true) => Ok(Passage::Released),
        (true, true) => Err(LogicError::invalid("something comes of every resource")),
    }
}

/// The one consumed and the one created resource of a logic.
///
/// # Errors
/// If there are more or fewer, or if their labels differ.
pub fn pair<'a>(instance: &LogicInstance<'a>, logic: Digest) -> Result<(Member<'a>, Member<'a>), LogicError> {
    let mut consumed = instance.consumed_of(logic);
    let mut created = instance.created_of(logic);
    match (consumed.next(), consumed.next(), created.next(), created.next()) {
        (Some(before), None, Some(after), None) if before.resource.label_ref == after.resource.label_ref => {
            Ok((before, after))
        }
        _ => Err(LogicError::invalid("an action takes one resource of a kind and gives one back")),
    }
}

/// The facts of the one resource of a logic before and after the action, and how it passes through.
/// What stays as it was is read once.
///
/// # Errors
/// If the action does not consume one and create one of them, or if one does not commit to its facts.
pub(super) fn read_pair<'a, L, V>(
    instance: &LogicInstance<'a>,
    logic: Digest,
) -> Result<(Pair<'a, L, V>, Passage), LogicError>
where
    L: Serialize + DeserializeOwned + Copy,
    V: Serialize + DeserializeOwned + Copy,
{
    let (consumed, created) = pair(instance, logic)?;
    let (label, before) = read_of(&consumed)?;
    let stays = consumed.resource.value_ref == created.resource.value_ref
        && consumed.resource.quantity == created.resource.quantity
        && consumed.app_data.resource == created.app_data.resource;
    let after = if stays { before } else { read_of::<L, V>(&created)?.1 };
    let facts = Pair { label, before, after, consumed };
    Ok((facts, passage_of(&consumed, &created)?))
}

/// A resource before and after an action.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a, L, V> {
    pub label: L,
    pub before: V,
    pub after: V,
    pub consumed: Member<'a>,
}

/// Whether the action mints a resource of this logic.
pub fn minted_beside(instance: &LogicInstance<'_>, logic: Digest) -> Option<()> {
    matches!(passage(instance, logic), Ok(Passage::Minted)).then_some(())
}

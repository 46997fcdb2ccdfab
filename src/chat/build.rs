//! From an act to the action it stands for, and from the action to what the lane holds next.
//!
//! An event carries the act alone. Everything else of its transaction is a function of the act, of
//! the event's own id and of what its lane held, so whoever verifies the event builds the action
//! anew and runs the logics over it: the witness need not travel.

use std::sync::OnceLock;

use serde::Serialize;

use super::access::{self, Authority, Role};
use super::act::{Act, Standing};
use super::facts::{self, Facts};
use super::logics::logics;
use super::message::{Envelope, Relation, Says};
use super::permissions::Permissions;
use super::profile::Profile;
use super::ticket::Redemption;
use super::{asset, channel, commitment, grant, message, revocation};
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, codec};
use crate::machine::{
    Action, ActionBuilder, AppData, BuiltAction, ExpirableBlob, MachineError, NullifierKey,
    NullifierKeyCommitment, Resource, verify_built,
};

/// What a live lane holds: an access, permissions and a profile, made by its newest event.
///
/// **They are a function of that event and nothing else**: the nonce of each is derived from the event's
/// id, not from the nullifiers of its action as that of a resource which enters a commitment tree. So
/// two events that go on from one consume the same resources, and have the same nullifiers: rule R2's
/// proof that a lane forked. And nobody has to replay a lane from its first event on to go on with it:
/// neither who reads a log back, nor who learns of a branch. No verdict depends on a nonce; who may
/// consume is decided by the signature of the lane's device, which the logics see as the access's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The event that the lane goes on from.
    pub after: EventId,
    /// The hash of the profile that counts there.
    pub profile: Digest,
}

/// Where and by whom an act is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    pub event: EventId,
    pub channel: ChannelId,
    pub identity: Identity,
    pub device: Identity,
    pub role: Role,
    /// The role granted to the identity by the event that an opening lane cites.
    pub granted: Option<Role>,
    /// Who said what the act relates to, if it relates to something.
    pub target_author: Option<Identity>,
    pub timestamp: Timestamp,
    /// The hash of the event's payload.
    pub payload: Option<Digest>,
}

/// Builds the action of an act and verifies it.
///
/// # Errors
/// The rule of the machine or of a logic that it breaks.
pub fn verify(act: &Act, setting: &Setting, held: Option<Held>) -> Result<(), MachineError> {
    verify_built(logics(), &build(act, setting, held)?)?;
    Ok(())
}

/// The hash of the profile that counts after an act.
pub fn profile_after(act: &Act, held: Option<Held>) -> Digest {
    match act {
        Act::CreateChannel { founder: joining, .. }
        | Act::JoinChannel(joining)
        | Act::RedeemTicket { joining, .. }
        | Act::Knock { asking: joining, .. } => profile_hash(&joining.profile),
        Act::UpdateProfile { profile } => profile_hash(profile),
        _ => held.map(|held| held.profile).unwrap_or_default(),
    }
}

/// The action of an act.
///
/// # Errors
/// [`MachineError`] if what the lane held cannot be consumed.
pub fn action(act: &Act, setting: &Setting, held: Option<Held>) -> Result<Action, MachineError> {
    build(act, setting, held).map(BuiltAction::into_action)
}

fn build(act: &Act, setting: &Setting, held: Option<Held>) -> Result<BuiltAction, MachineError> {
    let mut draft = Draft::new(setting, held.map(|held| held.after));
    let held_profile = held.map(|held| held.profile).unwrap_or_default();
    let profile_value = profile_after(act, held);
    let leaves = matches!(act, Act::LeaveChannel { .. });
    draft.access(leaves)?;
    draft.permissions(leaves)?;
    match act {
        Act::CreateChannel { name, topic, .. } => {
            draft.profile(held_profile, profile_value, leaves)?;
            draft.channel(channel::Value::Founded { name: name.clone(), topic: topic.clone() })?;
        }
        Act::JoinChannel(_) | Act::Knock { .. } => {
            draft.profile(held_profile, profile_value, leaves)?;
        }
        Act::RedeemTicket { ticket, .. } => {
            draft.profile(held_profile, profile_value, leaves)?;
            draft.redeem(ticket)?;
        }
        // What it carries out are transactions of their own: see `chat::settle`.
        Act::Settle { .. } => {}
        Act::LeaveChannel { .. } | Act::UpdateProfile { .. } => {
            draft.profile(held_profile, profile_value, leaves)?;
        }
        Act::SendMessage(envelope) => draft.message(says(envelope, setting))?,
        Act::RedactMessage { .. } => {
            draft.message(Says::Redaction(setting.target_author.unwrap_or_default()))?;
        }
        Act::GrantRole { subject, role, .. } => draft.grant(*subject, *role)?,
        Act::RevokeRole { subject, then, .. } => draft.revocation(*subject, *then)?,
        Act::UpdateChannel(change) => draft.channel(channel::Value::Changed(change.clone()))?,
        Act::CommitService(commitment) => draft.commitment(commitment)?,
        // Who knows the logic checks it; to all others it is something that a member did.
        Act::Extension { .. } => {}
        // They give and take nothing here: a workspace's replica knows what they cite.
        Act::Anchor(_) | Act::AddChannel { .. } => {}
    }
    draft.builder.build_here()
}

fn says(envelope: &Envelope, setting: &Setting) -> Says {
    match envelope.relation {
        None | Some(Relation::Reply(_) | Relation::Thread { .. }) => Says::Words,
        Some(Relation::Edit(_)) => Says::Edit(setting.target_author.unwrap_or_default()),
        Some(Relation::Reaction(_)) => Says::Reaction,
    }
}

fn profile_hash(profile: &Profile) -> Digest {
    Digest(*blake3::hash(&codec::encode(profile)).as_bytes())
}

/// An action on its way.
struct Draft<'a> {
    setting: &'a Setting,
    /// The event that the lane goes on from.
    after: Option<EventId>,
    key: NullifierKey,
    commitment: NullifierKeyCommitment,
    builder: ActionBuilder,
    consumed: u8,
}

/// One resource that passes through the action.
struct Passing {
    logic: Digest,
    label: Digest,
    /// Whether the lane held it; else it is minted from an ephemeral one.
    held: bool,
    before: (Digest, AppData),
    after: (Digest, AppData),
    /// Whether what comes out is ephemeral.
    ends: bool,
}

impl<'a> Draft<'a> {
    fn new(setting: &'a Setting, after: Option<EventId>) -> Self {
        // Public on purpose: in the transparent proving system the lane's signature decides who
        // may consume, not the secrecy of the key.
        let key = NullifierKey::from_bytes(setting.device.0);
        Self { setting, after, key, commitment: key.commit(), builder: ActionBuilder::new(), consumed: 0 }
    }

    fn access(&mut self, ends: bool) -> Result<(), MachineError> {
        let value = access::Value { role: self.setting.role, device: self.setting.device };
        let Facts { label, value, app_data } = Facts::of(&self.user_label(), &value);
        let authority = Authority {
            device: self.setting.device,
            timestamp: self.setting.timestamp,
            granted: self.setting.granted,
        };
        let before =
            AppData { external: vec![ExpirableBlob::passing(codec::encode(&authority))], ..app_data.clone() };
        self.pass(Passing {
            logic: facts::logic_refs().access,
            label,
            held: self.after.is_some(),
            before: (value, before),
            after: (value, app_data),
            ends,
        })
    }

    fn permissions(&mut self, ends: bool) -> Result<(), MachineError> {
        let Facts { label, value, app_data } =
            Facts::of(&self.user_label(), &Permissions::ceiling(self.setting.role));
        self.pass(Passing {
            logic: facts::logic_refs().permissions,
            label,
            held: self.after.is_some(),
            before: (value, app_data.clone()),
            after: (value, app_data),
            ends,
        })
    }

    fn profile(&mut self, before: Digest, after: Digest, ends: bool) -> Result<(), MachineError> {
        let label = self.user_label();
        let held = self.after.is_some();
        let before = Facts::of(&label, if held { &before } else { &after });
        let after = Facts::of(&label, &after);
        self.pass(Passing {
            logic: facts::logic_refs().profile,
            label: after.label,
            held,
            before: (before.value, before.app_data),
            after: (after.value, after.app_data),
            ends,
        })
    }

    fn message(&mut self, says: Says) -> Result<(), MachineError> {
        let label = message::Label { channel: self.setting.channel };
        let value = message::Value {
            sender: self.setting.identity,
            content: self.setting.payload.unwrap_or_default(),
            timestamp: self.setting.timestamp,
            says,
        };
        self.mint(facts::logic_refs().message, &label, &value)
    }

    fn channel(&mut self, value: channel::Value) -> Result<(), MachineError> {
        let label = channel::Label { channel: self.setting.channel };
        self.mint(facts::logic_refs().channel, &label, &value)
    }

    fn grant(&mut self, subject: Identity, role: Role) -> Result<(), MachineError> {
        let label = grant::Label { channel: self.setting.channel, subject };
        self.mint(facts::logic_refs().grant, &label, &grant::Value { role })
    }

    fn revocation(&mut self, subject: Identity, then: Standing) -> Result<(), MachineError> {
        let label = revocation::Label { channel: self.setting.channel, subject };
        self.mint(facts::logic_refs().revocation, &label, &revocation::Value { then })
    }

    /// One use of a ticket; what is left of it stays its owner's.
    fn redeem(&mut self, ticket: &Redemption) -> Result<(), MachineError> {
        let app_data = facts::app_data(&ticket.label, &asset::Value { owner: self.setting.identity });
        let resource = ticket.resource;
        self.builder.consume(resource, NullifierKey::default(), app_data.clone())?;
        self.builder.create(Resource { quantity: 1, is_ephemeral: true, ..resource }, app_data.clone());
        if resource.quantity > 1 {
            self.builder.create(Resource { quantity: resource.quantity - 1, ..resource }, app_data);
        }
        Ok(())
    }

    fn commitment(&mut self, value: &commitment::Commitment) -> Result<(), MachineError> {
        let label = commitment::Label { channel: self.setting.channel, provider: self.setting.identity };
        self.mint(facts::logic_refs().commitment, &label, value)
    }

    /// A resource that comes into being and stays.
    fn mint<L: Serialize, V: Serialize>(
        &mut self,
        logic: Digest,
        label: &L,
        value: &V,
    ) -> Result<(), MachineError> {
        let Facts { label, value, app_data } = Facts::of(label, value);
        self.pass(Passing {
            logic,
            label,
            held: false,
            before: (value, app_data.clone()),
            after: (value, app_data),
            ends: false,
        })
    }

    fn user_label(&self) -> access::Label {
        access::Label { channel: self.setting.channel, identity: self.setting.identity }
    }

    fn pass(&mut self, passing: Passing) -> Result<(), MachineError> {
        let Passing { logic, label, held, before, after, ends } = passing;
        let resource = |value, is_ephemeral, nonce| Resource {
            logic_ref: logic,
            label_ref: label,
            value_ref: value,
            quantity: 1,
            is_ephemeral,
            nonce,
            nk_commitment: self.commitment,
            rand_seed: [0; 32],
        };
        let consumed = resource(before.0, !held, self.nonce(held));
        let created = resource(after.0, ends, Digest::default());
        self.consumed += 1;
        self.builder.consume(consumed, self.key, before.1)?;
        self.builder.create(created, after.1);
        Ok(())
    }

    /// What makes a consumed resource unique: the event that mints it, or the one that the lane goes on
    /// from, and a count.
    fn nonce(&self, held: bool) -> Digest {
        static KEYS: OnceLock<[[u8; 32]; 2]> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            ["multichat 2026-11 held nonce", "multichat 2026-11 mint nonce"]
                .map(|context| blake3::derive_key(context, b""))
        });
        let (key, event) = match self.after.filter(|_| held) {
            Some(after) => (&keys[0], after),
            None => (&keys[1], self.setting.event),
        };
        let mut bytes = [0; 33];
        bytes[..32].copy_from_slice(event.as_bytes());
        bytes[32] = self.consumed;
        Digest(*blake3::keyed_hash(key, &bytes).as_bytes())
    }
}

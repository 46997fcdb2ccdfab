//! Actions that nobody honest would build, against the logics themselves: what holds even if the
//! rules that rebuild actions from events were gone.

use serde::Serialize;

use super::access::{self, Role};
use super::act::{Act, Ancestry, Joining};
use super::build::{self, Held, Setting};
use super::channel::Change;
use super::facts;
use super::logics::logics;
use super::message::{Envelope, Says};
use super::permissions::{Permission, Permissions};
use super::profile::{Certificate, Profile};
use super::{channel, message};
use crate::base::key::SecretKey;
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, codec};
use crate::machine::{
    Action, ActionBuilder, AppData, Consumed, Created, ExpirableBlob, NullifierKey, Resource, verify_action,
};

const HERE: ChannelId = ChannelId([1; 32]);
const ELSEWHERE: ChannelId = ChannelId([2; 32]);
const ME: Identity = Identity([3; 32]);
const ANOTHER: Identity = Identity([4; 32]);
const DEVICE: Identity = Identity([5; 32]);

fn setting(event: u8, role: Role) -> Setting {
    Setting {
        event: EventId([event; 32]),
        channel: HERE,
        identity: ME,
        device: DEVICE,
        role,
        granted: None,
        target_author: None,
        timestamp: Timestamp(1_000),
        payload: Some(Digest([7; 32])),
    }
}

fn joining() -> Joining {
    let key = SecretKey::from_seed([1; 32]);
    let certificate = Certificate::issue(&key, DEVICE, Timestamp(u64::MAX));
    Joining {
        certificate,
        profile: Profile { username: "me".into(), ..Profile::default() },
        via: None,
        grant: None,
        bearer: None,
        under: None,
    }
}

fn say() -> Act {
    Act::SendMessage(Envelope::default())
}

fn join() -> Act {
    Act::JoinChannel(joining())
}

fn found() -> Act {
    Act::CreateChannel {
        name: "#a".parse().unwrap(),
        topic: String::new(),
        founder: joining(),
        ancestry: Ancestry::default(),
    }
}

/// What a lane holds after it was opened.
fn held(role: Role) -> Held {
    let act = if role == Role::Founder { found() } else { join() };
    let granted = (role != Role::Founder).then_some(role);
    build::verify(&act, &Setting { granted, ..setting(1, role) }, None).unwrap();
    Held { after: setting(1, role).event, profile: build::profile_after(&act, None) }
}

fn honest(act: &Act, role: Role) -> Action {
    let held = act.joining().is_none().then(|| held(role));
    build::action(act, &setting(2, role), held).unwrap()
}

/// What is put together from these parts, with good nonces.
fn rebuilt(action: Action) -> Action {
    let mut builder = ActionBuilder::new();
    for Consumed { resource, nullifier_key, app_data } in action.consumed {
        builder.consume(resource, nullifier_key, app_data).unwrap();
    }
    for Created { resource, app_data } in action.created {
        builder.create(resource, app_data);
    }
    builder.build().unwrap()
}

/// Which rule refuses an honest action that was changed like that.
fn rule(act: &Act, role: Role, change: impl FnOnce(&mut Action)) -> &'static str {
    let mut action = honest(act, role);
    assert!(verify_action(logics(), &action).is_ok());
    change(&mut action);
    let action = rebuilt(action);
    verify_action(logics(), &action).map_or_else(|error| error.rule(), |_| "allowed")
}

/// Rewrites a resource's facts, keeping what else accompanies it.
fn restate<L: Serialize, V: Serialize>(resource: &mut Resource, data: &mut AppData, label: &L, value: &V) {
    (resource.label_ref, resource.value_ref) = (facts::reference(label), facts::reference(value));
    data.resource = facts::app_data(label, value).resource;
}

fn both<L: Serialize, V: Serialize>(action: &mut Action, logic: Digest, label: &L, value: &V) {
    for consumed in action.consumed.iter_mut().filter(|consumed| consumed.resource.logic_ref == logic) {
        restate(&mut consumed.resource, &mut consumed.app_data, label, value);
    }
    created(action, logic, label, value);
}

fn created<L: Serialize, V: Serialize>(action: &mut Action, logic: Digest, label: &L, value: &V) {
    for created in action.created.iter_mut().filter(|created| created.resource.logic_ref == logic) {
        restate(&mut created.resource, &mut created.app_data, label, value);
    }
}

fn drop_logic(action: &mut Action, logic: Digest) {
    action.consumed.retain(|consumed| consumed.resource.logic_ref != logic);
    action.created.retain(|created| created.resource.logic_ref != logic);
}

fn mine() -> access::Label {
    access::Label { channel: HERE, identity: ME }
}

fn saying(sender: Identity) -> message::Value {
    message::Value { sender, content: Digest([7; 32]), timestamp: Timestamp(1_000), says: Says::Words }
}

#[test]
fn messages_are_the_senders_own_in_their_channel_and_need_permission() {
    let refs = facts::logic_refs();
    let (say, member) = (say(), Role::Member);
    let here = message::Label { channel: HERE };
    let another = rule(&say, member, |action| both(action, refs.message, &here, &saying(ANOTHER)));
    assert_eq!(another, "speak for another");
    let elsewhere = message::Label { channel: ELSEWHERE };
    let message = rule(&say, member, |action| both(action, refs.message, &elsewhere, &saying(ME)));
    assert_eq!(message, "act in another channel");
    let later = message::Value { timestamp: Timestamp(2_000), ..saying(ME) };
    let backdated = rule(&say, member, |action| both(action, refs.message, &here, &later));
    assert_eq!(backdated, "a message has its event's time");

    let mute = Permissions::ceiling(member).without(Permissions::of(&[Permission::SendMessage]));
    assert_eq!(rule(&say, member, |action| both(action, refs.permissions, &mine(), &mute)), "send_message");
    assert_ne!(rule(&say, member, |action| drop_logic(action, refs.permissions)), "allowed");
    assert_ne!(rule(&say, member, |action| drop_logic(action, refs.access)), "allowed");
    let unsaid = rule(&say, member, |action| {
        for created in action.created.iter_mut().filter(|created| created.resource.logic_ref == refs.message)
        {
            created.resource.is_ephemeral = true;
        }
    });
    assert_eq!(unsaid, "something comes of every resource");
}

#[test]
fn who_only_joins_says_nothing_in_the_same_breath() {
    let refs = facts::logic_refs();
    let said = honest(&say(), Role::Member);
    let smuggled = rule(&join(), Role::Member, |action| {
        let is_message = |resource: &Resource| resource.logic_ref == refs.message;
        action.consumed.extend(said.consumed.into_iter().filter(|it| is_message(&it.resource)));
        action.created.extend(said.created.into_iter().filter(|it| is_message(&it.resource)));
    });
    assert_eq!(smuggled, "speak without being a member");
}

#[test]
fn nobody_changes_anothers_profile() {
    let refs = facts::logic_refs();
    let act = Act::UpdateProfile { profile: joining().profile };
    let theirs = access::Label { identity: ANOTHER, ..mine() };
    let changed = rule(&act, Role::Member, |action| both(action, refs.profile, &theirs, &Digest([8; 32])));
    assert_eq!(changed, "change another's profile");
}

#[test]
fn roles_are_not_taken() {
    let refs = facts::logic_refs();
    let claim = |act: &Act, role| {
        rule(act, Role::Member, |action| {
            let value = access::Value { role, device: DEVICE };
            both(action, refs.access, &mine(), &value);
            both(action, refs.permissions, &mine(), &Permissions::ceiling(role));
        })
    };
    assert_eq!(claim(&join(), Role::Admin), "be granted that role");
    assert_eq!(claim(&join(), Role::Moderator), "be granted that role");
    assert_eq!(claim(&join(), Role::Founder), "found a channel to be its founder");
    assert_eq!(claim(&join(), Role::Member), "allowed");

    let value = access::Value { role: Role::Admin, device: DEVICE };
    let promoted = rule(&say(), Role::Member, |action| created(action, refs.access, &mine(), &value));
    assert_eq!(promoted, "an access is renewed unchanged");
    let handed = access::Value { role: Role::Member, device: ANOTHER };
    let handed = rule(&say(), Role::Member, |action| created(action, refs.access, &mine(), &handed));
    assert_eq!(handed, "an access is renewed unchanged");
}

#[test]
fn permissions_are_ones_own_and_stay_what_they_are() {
    let refs = facts::logic_refs();
    let more = Permissions::ceiling(Role::Founder);
    let grown = rule(&say(), Role::Member, |action| created(action, refs.permissions, &mine(), &more));
    assert_eq!(grown, "change one's own permissions");
    let born = rule(&join(), Role::Member, |action| both(action, refs.permissions, &mine(), &more));
    assert_eq!(born, "have more than the role's permissions");
    let theirs = access::Label { identity: ANOTHER, ..mine() };
    let borrowed = rule(&say(), Role::Member, |action| {
        both(action, refs.permissions, &theirs, &Permissions::ceiling(Role::Member));
    });
    assert_eq!(borrowed, "use another's permissions");
}

#[test]
fn an_access_is_used_by_its_device_alone() {
    let refs = facts::logic_refs();
    for act in [say(), join(), Act::LeaveChannel { reason: String::new() }] {
        let stolen = rule(&act, Role::Member, |action| {
            let authority = access::Authority { device: ANOTHER, timestamp: Timestamp(1_000), granted: None };
            for consumed in action.consumed.iter_mut().filter(|it| it.resource.logic_ref == refs.access) {
                consumed.app_data.external = vec![ExpirableBlob::passing(codec::encode(&authority))];
            }
        });
        assert_eq!(stolen, "act with another's access", "{act:?}");
    }
}

#[test]
fn topics_are_for_those_who_may_and_channels_are_founded_once() {
    let refs = facts::logic_refs();
    let topic = Act::UpdateChannel(Change::Topic("new".into()));
    let close = Act::UpdateChannel(Change::Closed(true));
    for role in [Role::Member, Role::Moderator] {
        let denied = build::verify(&close, &setting(2, role), Some(held(role))).unwrap_err();
        assert_eq!(denied.rule(), "delete_channel");
    }
    assert_eq!(rule(&topic, Role::Founder, |_| {}), "allowed");
    let label = channel::Label { channel: HERE };
    let renamed = channel::Value::Founded { name: "#b".parse().unwrap(), topic: String::new() };
    let again = rule(&topic, Role::Founder, |action| both(action, refs.channel, &label, &renamed));
    assert_eq!(again, "a channel is founded once and updated by members");
    let elsewhere = channel::Label { channel: ELSEWHERE };
    let value = channel::Value::Changed(Change::Topic("new".into()));
    let there = rule(&topic, Role::Founder, |action| both(action, refs.channel, &elsewhere, &value));
    assert_eq!(there, "act in another channel");
}

#[test]
fn what_is_spent_twice_or_opened_with_the_wrong_key_is_refused() {
    let refs = facts::logic_refs();
    let doubled = rule(&say(), Role::Member, |action| {
        let spent = action.consumed.iter().find(|it| it.resource.logic_ref == refs.access).unwrap().clone();
        action.consumed.push(spent);
    });
    assert_ne!(doubled, "allowed");
    let mut action = honest(&say(), Role::Member);
    action.consumed[0].nullifier_key = NullifierKey::from_bytes([9; 32]);
    assert!(verify_action(logics(), &action).is_err());
    let mut action = honest(&say(), Role::Member);
    action.created[0].resource.quantity = 2;
    assert!(verify_action(logics(), &action).is_err(), "it does not balance");
}

//! A small market for the tests of this room: goods that only their owner gives away.

use super::action::{Action, ActionBuilder, AppData};
use super::consent::Consent;
use super::intent::{Constraints, Intent};
use super::logic::{LogicError, LogicInstance, Logics, ResourceLogic, logic_ref};
use super::nullifier::NullifierKey;
use super::resource::Resource;
use crate::base::key::SecretKey;
use crate::base::{Digest, Identity, Timestamp};

/// The value of goods is their owner.
pub struct Goods;

impl ResourceLogic for Goods {
    fn logic_ref(&self) -> Digest {
        logic_ref("goods", 1)
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let owner = Identity(instance.resource.value_ref.0);
        match !instance.is_consumed || Consent::is_given(instance.action, &owner) {
            true => Ok(()),
            false => Err(LogicError::denied("goods are their owner's to give")),
        }
    }
}

pub fn logics() -> Logics {
    Logics::new().with(Goods)
}

pub fn trader(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// So much of a kind, owned by somebody. `coin` tells apart what they own several times.
pub fn goods(owner: Identity, kind: u8, quantity: u128, coin: u8) -> Resource {
    Resource {
        logic_ref: Goods.logic_ref(),
        label_ref: Digest([kind; 32]),
        value_ref: Digest(owner.0),
        quantity,
        is_ephemeral: false,
        nonce: Digest([coin; 32]),
        ..Resource::default()
    }
}

/// The action of somebody who gives and takes.
pub fn exchange(by: Identity, gives: &[(u8, u128)], takes: &[(u8, u128)], coin: u8) -> Action {
    let mut builder = ActionBuilder::new();
    for (kind, quantity) in gives {
        let given = goods(by, *kind, *quantity, coin);
        builder.consume(given, NullifierKey::default(), AppData::default()).unwrap();
    }
    for (kind, quantity) in takes {
        builder.create(goods(by, *kind, *quantity, 0), AppData::default());
    }
    builder.build().unwrap()
}

/// When the market of these tests is held.
pub const NOON: Timestamp = Timestamp(1_000);

/// An intent of somebody to give and take, until long after noon, with anybody.
pub fn wants(number: u8, gives: &[(u8, u128)], takes: &[(u8, u128)]) -> Intent {
    wants_under(number, gives, takes, Constraints::until(Timestamp(2_000)))
}

pub fn wants_under(
    number: u8,
    gives: &[(u8, u128)],
    takes: &[(u8, u128)],
    constraints: Constraints,
) -> Intent {
    let key = trader(number);
    let action = exchange(key.public(), gives, takes, number);
    Intent::sign(vec![action], constraints, &key, &logics()).unwrap()
}

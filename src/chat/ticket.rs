//! `ticket`: an invitation that can be owned, passed on and sold. Its quantity is how many times it
//! can be used.
//!
//! | resource | its logic allows |
//! |---|---|
//! | consumed, ephemeral (issued) | with the consent of its issuer, to whom it belongs at first |
//! | consumed, lasting (given away) | with the consent of its owner; from its issuer's hands only for its price, paid in the same action |
//! | consumed, lasting (used) | beside the minted access of its owner, in its channel and role, until it expires; the lane's signature is the consent |
//! | created | always: the machine sees to it that as much is consumed as is created |
//!
//! A ticket makes ordinary members and no others. Which of two uses of one ticket counts is decided by
//! the order of settlements (`replica::settle`), after ranks have decided about lanes; if tickets gave
//! ranks, the two would wait for each other.

use serde::{Deserialize, Serialize};

use super::access::{Acting, Role};
use super::asset::{self, Value};
use super::facts::{self, Passage};
use super::token;
use crate::base::{ChannelId, Digest, Identity, Timestamp};
use crate::machine::{LogicError, LogicInstance, Member, Resource, ResourceLogic};

/// What makes two tickets the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Label {
    /// The channel it lets one into, where it is kept account of too.
    pub channel: ChannelId,
    pub issuer: Identity,
    pub name: String,
    /// What it makes of whoever uses it.
    pub role: Role,
    /// The last moment at which it can be used.
    pub expires: Timestamp,
    /// What its issuer gets for each.
    pub price: Option<Price>,
}

/// So much of a token of the same channel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Price {
    pub quantity: u128,
    pub issuer: Identity,
    pub name: String,
}

/// A ticket that is being used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Redemption {
    pub label: Label,
    pub resource: Resource,
}

impl Label {
    /// Whether names and role are in order.
    pub fn is_well_formed(&self) -> bool {
        asset::is_name(&self.name)
            && self.role == Role::Member
            && self.price.as_ref().is_none_or(|price| asset::is_name(&price.name))
    }

    /// The token it is paid with.
    pub fn currency(&self) -> Option<token::Label> {
        let price = self.price.as_ref()?;
        Some(token::Label { channel: self.channel, issuer: price.issuer, name: price.name.clone() })
    }
}

/// The logic of `ticket`.
#[derive(Clone, Copy, Debug)]
pub struct TicketLogic;

impl ResourceLogic for TicketLogic {
    fn logic_ref(&self) -> Digest {
        facts::logic_refs().ticket
    }

    fn verify(&self, instance: &LogicInstance<'_>) -> Result<(), LogicError> {
        let (label, value): (Label, Value) = facts::read_counted(&instance.member())?;
        if !label.is_well_formed() {
            return Err(LogicError::invalid("a ticket has a name and makes members"));
        }
        if instance.created_of(facts::logic_refs().access).next().is_some() {
            return require_use(instance, &label, &value.owner);
        }
        asset::require_rights(instance, &label.issuer, &value.owner)?;
        match instance.is_consumed && value.owner == label.issuer {
            true => require_price(instance, &label),
            false => Ok(()),
        }
    }
}

/// A ticket beside an access: its owner comes in with it.
fn require_use(instance: &LogicInstance<'_>, label: &Label, owner: &Identity) -> Result<(), LogicError> {
    asset::require_sound(instance)?;
    let acting = Acting::of(instance)?;
    if acting.label.channel != label.channel {
        return Err(LogicError::denied("use a ticket for another channel"));
    }
    if acting.label.identity != *owner {
        return Err(LogicError::denied("use another's ticket"));
    }
    if acting.passage != Passage::Minted || acting.value.role != label.role {
        return Err(LogicError::denied("use a ticket for what it does not give"));
    }
    if acting.authority.timestamp > label.expires {
        return Err(LogicError::denied("use a ticket that has expired"));
    }
    if instance.is_consumed == instance.resource.is_ephemeral {
        return match instance.is_consumed {
            true => Err(LogicError::denied("use a ticket that was not issued")),
            false => Ok(()),
        };
    }
    // One use for one access: what is consumed less what stays.
    let mine = |member: &Member<'_>| member.resource.label_ref == instance.resource.label_ref;
    let used = instance.created_of(facts::logic_refs().ticket).filter(mine);
    let used: Vec<_> = used.filter(|member| member.resource.is_ephemeral).collect();
    match used.as_slice() {
        [one] if one.resource.quantity == 1 => Ok(()),
        _ => Err(LogicError::invalid("a ticket is used once at a time")),
    }
}

fn total<'a>(members: impl Iterator<Item = Member<'a>>) -> Option<u128> {
    members.into_iter().try_fold(0u128, |sum, member| sum.checked_add(member.resource.quantity))
}

/// What leaves the issuer's hands in this action, the issuer is paid for in this action.
fn require_price(instance: &LogicInstance<'_>, label: &Label) -> Result<(), LogicError> {
    let (Some(price), Some(currency)) = (&label.price, label.currency()) else { return Ok(()) };
    let refs = facts::logic_refs();
    let issuers = asset::value_ref(label.issuer);
    // Consumed less created of what is the issuer's.
    let leaving = |logic: Digest, label_ref: Digest| {
        let of = move |member: &Member<'_>| {
            member.resource.label_ref == label_ref && member.resource.value_ref == issuers
        };
        Some((total(instance.consumed_of(logic).filter(of))?, total(instance.created_of(logic).filter(of))?))
    };
    let tickets = leaving(refs.ticket, instance.resource.label_ref);
    let paid = leaving(refs.token, facts::reference(&currency));
    let (Some((out, back)), Some((spent, received))) = (tickets, paid) else {
        return Err(LogicError::invalid("quantities of a sale are within bounds"));
    };
    let due = out.saturating_sub(back).checked_mul(price.quantity);
    match due.is_some_and(|due| received.saturating_sub(spent) >= due) {
        true => Ok(()),
        false => Err(LogicError::denied("sell a ticket below its price")),
    }
}

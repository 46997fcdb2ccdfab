//! What an act does to the assets of its channel: from a settlement or a used ticket to nullifiers and
//! commitments. It checks what can be checked without state; the state is `replica::settle`'s.

use super::act::Act;
use super::asset::Holding;
use super::build::{self, Held, Setting};
use super::facts;
use super::logics::logics;
use crate::base::ChannelId;
use crate::machine::settlement::{Made, Settlement, Spending, Spent};
use crate::machine::{Action, MachineError, NullifierKey, Transparent};

/// What an act spends and makes; `None` for one that has nothing to do with assets. The action of the
/// act itself must have been verified.
///
/// # Errors
/// The rule that a settlement breaks.
pub fn spending(act: &Act, setting: &Setting, held: Option<Held>) -> Result<Option<Spending>, MachineError> {
    match act {
        Act::Settle { settlement } => {
            require_home(settlement, &setting.channel)?;
            settlement.verify(logics(), &Transparent, setting.timestamp, &setting.identity).map(Some)
        }
        Act::RedeemTicket { .. } => {
            let action = build::action(act, setting, held)?;
            redeemed(&action).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether everything in it is an asset of this channel.
///
/// A settlement may hold nothing else: the logics of the chat take the word of the event for who acts,
/// and in a settlement anybody could have put that word. And it is settled where its assets live, for
/// no other channel's history says whether they are there.
///
/// # Errors
/// [`MachineError::Terms`].
pub fn require_home(settlement: &Settlement, channel: &ChannelId) -> Result<(), MachineError> {
    let actions = settlement.intents.iter().flat_map(|intent| &intent.transaction.actions);
    require_assets(actions, channel)
}

/// [`require_home`] for the actions of one intent.
///
/// # Errors
/// [`MachineError::Terms`].
pub fn require_assets<'a>(
    actions: impl Iterator<Item = &'a Action>,
    channel: &ChannelId,
) -> Result<(), MachineError> {
    for action in actions {
        let consumed = action.consumed.iter().map(|input| (&input.resource, &input.app_data));
        let created = action.created.iter().map(|output| (&output.resource, &output.app_data));
        for (resource, app_data) in consumed.chain(created) {
            let facts = app_data.resource.first().map(|blob| blob.blob.as_slice()).unwrap_or_default();
            let (asset, _) = Holding::read_facts(resource, facts)
                .ok_or(MachineError::Terms("a settlement is of tokens and tickets"))?;
            if asset.channel() != *channel {
                return Err(MachineError::Terms("assets are settled in their own channel"));
            }
        }
    }
    Ok(())
}

/// The ticket that an action uses, and what is left of it.
fn redeemed(action: &Action) -> Result<Spending, MachineError> {
    let ticket = facts::logic_refs().ticket;
    let mut spending = Spending::default();
    for input in action.consumed.iter().filter(|input| input.resource.logic_ref == ticket) {
        let nullifier = input.resource.nullifier(&NullifierKey::default())?;
        spending.consumed.push(Spent { nullifier, commitment: Some(input.resource.commitment()) });
    }
    let stays = |resource: &crate::machine::Resource| resource.logic_ref == ticket && !resource.is_ephemeral;
    for output in action.created.iter().filter(|output| stays(&output.resource)) {
        let facts = output.app_data.resource.first().map(|blob| blob.blob.clone()).unwrap_or_default();
        let (commitment, resource) = (output.resource.commitment(), output.resource);
        spending.created.push(Made { commitment, resource, facts });
    }
    Ok(spending)
}

//! What an act does to the assets of its channel: from a settlement or a used ticket to nullifiers and
//! commitments. It checks what can be checked without state; the state is `replica::settle`'s.
//!
//! A settlement may be of assets of several channels. Then each of them gets it, whole, and each keeps
//! account of the part that is its own.

use std::collections::{BTreeMap, BTreeSet};

use super::act::Act;
use super::asset::Holding;
use super::build::{self, Held, Setting};
use super::facts;
use super::logics::logics;
use crate::base::{ChannelId, Digest, limits};
use crate::machine::settlement::{Made, Settlement, Spending, Spent};
use crate::machine::{Action, MachineError, NullifierKey, ResourceKind, Transparent};

/// What an act does to the assets of its channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub spending: Spending,
    /// The settlement that it is a part of, if that is of several channels.
    pub deal: Option<Deal>,
}

/// A settlement of several channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deal {
    /// The same in each of its channels, whoever put it there.
    pub id: Digest,
    pub depth: u64,
    pub channels: BTreeSet<ChannelId>,
}

impl Deal {
    /// The deal that a settlement is at this depth.
    pub fn of(settlement: &Settlement, depth: u64, channels: BTreeSet<ChannelId>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 deal");
        hasher.update(settlement.id().as_bytes());
        hasher.update(&depth.to_be_bytes());
        Self { id: Digest(*hasher.finalize().as_bytes()), depth, channels }
    }
}

/// What an act spends and makes; `None` for one that has nothing to do with assets. The action of the
/// act itself must have been verified.
///
/// # Errors
/// The rule that a settlement breaks.
pub fn part(act: &Act, setting: &Setting, held: Option<Held>) -> Result<Option<Part>, MachineError> {
    match act {
        Act::Settle { settlement, depth } => {
            let homes = homes_of_settlement(settlement)?;
            let channels: BTreeSet<ChannelId> = homes.values().copied().collect();
            if !channels.contains(&setting.channel) {
                return Err(MachineError::Terms("assets are settled in their own channel"));
            }
            let deal = match depth {
                None if channels.len() == 1 => None,
                Some(depth) if channels.len() > 1 => Some(Deal::of(settlement, *depth, channels)),
                _ => return Err(MachineError::Terms("who settles in several channels says how deep")),
            };
            let mut spending =
                settlement.verify(logics(), &Transparent, setting.timestamp, &setting.identity)?;
            spending.keep(|kind| homes.get(kind) == Some(&setting.channel));
            Ok(Some(Part { spending, deal }))
        }
        Act::RedeemTicket { .. } => {
            let action = build::action(act, setting, held)?;
            Ok(Some(Part { spending: redeemed(&action)?, deal: None }))
        }
        _ => Ok(None),
    }
}

/// The channel of each kind of asset in a settlement.
///
/// # Errors
/// [`MachineError::Terms`] if it holds anything else, or assets of too many channels.
pub fn homes_of_settlement(settlement: &Settlement) -> Result<Homes, MachineError> {
    homes(settlement.intents.iter().flat_map(|intent| &intent.transaction.actions))
}

/// Where assets are kept account of: the channel of each kind.
pub type Homes = BTreeMap<ResourceKind, ChannelId>;

/// The channel of each kind of asset in these actions.
///
/// A settlement may hold nothing but assets: the logics of the chat take the word of the event for who
/// acts, and in a settlement anybody could have put that word.
///
/// # Errors
/// [`MachineError::Terms`] if there is anything else in them, or assets of too many channels.
pub fn homes<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Result<Homes, MachineError> {
    let mut homes = Homes::new();
    for action in actions {
        let consumed = action.consumed.iter().map(|input| (&input.resource, &input.app_data));
        let created = action.created.iter().map(|output| (&output.resource, &output.app_data));
        for (resource, app_data) in consumed.chain(created) {
            let facts = app_data.resource.first().map(|blob| blob.blob.as_slice()).unwrap_or_default();
            let (asset, _) = Holding::read_facts(resource, facts)
                .ok_or(MachineError::Terms("a settlement is of tokens and tickets"))?;
            homes.insert(resource.kind(), asset.channel());
        }
    }
    let channels: BTreeSet<&ChannelId> = homes.values().collect();
    match channels.len() <= limits::DEAL_CHANNELS {
        true => Ok(homes),
        false => Err(MachineError::Terms("a settlement is of at most four channels")),
    }
}

/// The ticket that an action uses, and what is left of it.
fn redeemed(action: &Action) -> Result<Spending, MachineError> {
    let ticket = facts::logic_refs().ticket;
    let mut spending = Spending::default();
    for input in action.consumed.iter().filter(|input| input.resource.logic_ref == ticket) {
        let nullifier = input.resource.nullifier(&NullifierKey::default())?;
        let (kind, commitment) = (input.resource.kind(), Some(input.resource.commitment()));
        spending.consumed.push(Spent { nullifier, kind, commitment });
    }
    let stays = |resource: &crate::machine::Resource| resource.logic_ref == ticket && !resource.is_ephemeral;
    for output in action.created.iter().filter(|output| stays(&output.resource)) {
        let facts = output.app_data.resource.first().map(|blob| blob.blob.clone()).unwrap_or_default();
        let (commitment, resource) = (output.resource.commitment(), output.resource);
        spending.created.push(Made { commitment, resource, facts });
    }
    Ok(spending)
}

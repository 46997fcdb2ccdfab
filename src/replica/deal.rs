//! Settlements across channels: rule R9 where no one history says what is there.
//!
//! A settlement of assets of several channels, a **deal**, is put whole into each of them, and each keeps
//! account of its own part. Nothing orders events of one channel before those of another, so a deal says
//! itself how deep it lies, the same in all its channels:
//!
//! > place = (the depth it claims, after all ranks, its own digest).
//!
//! Its claim must be no less than what its past in each channel makes it, nor so much greater
//! (`limits::DEAL_DEPTH_SLACK`) that a few false ones could use up all depths; else the event is not valid.
//! In each channel a deal takes its place among the settlements there, and it is effective iff it **stands**
//! in every one of them: an event that carries it is kept, and all that it spends there is there by then
//! and not spent. As the places are the same everywhere, every condition still looks at smaller ones
//! only, now over all channels together, and there is one model: [`decide`] finds it for whoever
//! holds the channels. A node that lacks one of them counts the deal as not carried out, as it does
//! while only some of the channels have it; who put it into some and not into others has done nothing, and
//! anybody else who is in those may put it there.
//!
//! Who can put a deal into its last channel chooses when it is carried out, while its intents have not
//! expired.

use std::collections::{BTreeMap, BTreeSet};

use super::Replica;
use super::authority::Settled;
use super::settle::Place;
use crate::base::{ChannelId, EventId};

/// What turned in a channel by the verdict about a deal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Turned {
    /// Messages that became void or count again.
    pub flips: Vec<(EventId, u64)>,
    /// Whether channels of this workspace are to settle anew.
    pub rules: bool,
}

/// Whoever holds the replicas of several channels.
pub trait Replicas {
    /// The one of this channel, if it is held.
    fn replica_mut(&mut self, id: &ChannelId) -> Option<&mut Replica>;
}

/// Comes to a verdict about the deals of this channel that fare differently, and about those that follow,
/// in the order of their places. To be called whenever a channel took an event in, or settled anew.
/// Returns what turned in which channels.
pub fn decide(replicas: &mut impl Replicas, id: &ChannelId) -> Vec<(ChannelId, Turned)> {
    let mut turned = Vec::new();
    let undecided = replicas.replica_mut(id).map(|replica| replica.settlements.take_undecided());
    let mut open: BTreeMap<Place, BTreeSet<ChannelId>> = undecided.into_iter().flatten().collect();
    while let Some((deal, channels)) = open.pop_first() {
        let is_agreed = channels.iter().all(|id| {
            let replica = replicas.replica_mut(id);
            replica.is_some_and(|replica| replica.settlements.stands_here(&deal))
        });
        for id in channels {
            let Some(replica) = replicas.replica_mut(&id) else { continue };
            let turn = replica.agree(&deal, is_agreed);
            open.extend(replica.settlements.take_undecided());
            turned.extend(turn.map(|turn| (id, turn)));
        }
    }
    turned
}

impl Replica {
    /// Hears the verdict of all channels about a deal. Returns what turned with it.
    fn agree(&mut self, deal: &Place, is_agreed: bool) -> Option<Turned> {
        if !self.settlements.agree(deal, is_agreed) {
            return None;
        }
        let let_in = self.settle_spent(vec![*deal], &Settled::default());
        let flips = self.flips(&BTreeMap::new(), &let_in, &EventId::default());
        let people = self.let_in(&let_in);
        let rules = !people.is_empty();
        self.rulings += u64::from(rules);
        self.settle_people(people);
        Some(Turned { flips, rules })
    }
}

//! Which settlements are effective: who owns which tokens and tickets, without a leader.
//!
//! Assets live in one channel and are kept account of in its history. A settlement is an event like
//! any other, put there by whoever found it; so is the use of a ticket. Two that were put without
//! knowledge of each other may spend one resource. No order of arrival can decide between them, for
//! every replica has its own; so this file decides by a **place** that each gets from its bytes and its
//! past alone, and that never changes:
//!
//! > place = (depth, rank of its lane, event id), where depth is one more than the greatest depth among
//! > the events in its past that create what it consumes, that spend what it spends, or that let its
//! > author in with a ticket.
//!
//! Then the settlements are carried out as if one by one, in the order of their places: one is effective
//! iff it is kept by rules R1 to R6, its author was let in, each lasting resource that it consumes was
//! created by an effective one before it, and none of its nullifiers was spent by an effective one before
//! it. What that gives is a function of the set of events:
//!
//! - **One model.** Every condition of a settlement looks at smaller places only, so there is nothing
//!   circular to decide. (To let the better of two rivals win pairwise would not do: S loses to T if T
//!   stands, T stands if U does, U loses to V, and V stands if S does: two answers fit.) Ranks are
//!   settled before, and never the other way round: a ticket gives no rank, and who came in by one
//!   gives no roles.
//! - **Causality first.** What was spent in a settlement's past has a smaller depth. Nobody overrules in
//!   knowledge, and who sees that an earlier spending failed may spend again. Then the lower rank, then
//!   the smaller event id: never an author-chosen time.
//! - **Rule R9.** A settlement is one event with one verdict: its actions are effective together or not
//!   at all, whatever a solver, a partition or a fork does. Dependent ones fall and stand with it.
//! - **At most once.** The intents of a settlement spend nullifiers, so two settlements of one intent
//!   never both stand; and all replicas agree on which does.
//!
//! What follows from one event is worked out from what shares a resource with it, in the order of places:
//! it does not grow with the history.
//!
//! **Limits.** As there is no finality (rule R8 would bring it), somebody who keeps back a settlement of
//! their own intents can publish it later as if they had not known what came since, and, by rank or id,
//! may unseat the other; everybody sees both. They can only choose between deals that all their parties
//! had signed. The same holds of the time at which an intent expires, as far as the past of the event
//! lets its author claim an earlier one. **Settlements across channels** are refused: whether a resource
//! of another channel exists cannot be known from this channel's past. Each part of such a deal would
//! need its own event, and R9 would make each depend on the others: that is not built.

use std::collections::{BTreeMap, BTreeSet};

use super::authority::Settled;
use super::{Event, Replica};
use crate::base::{Digest, EventId, Identity};
use crate::chat::act::Act;
use crate::chat::asset::Holding;
use crate::machine::settlement::{Made, Spending};

/// Where a settlement stands in the order in which they are carried out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    depth: u32,
    rank: u32,
    event: EventId,
}

/// Every settlement of a channel, and what is effective of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Settlements {
    entries: BTreeMap<Place, Entry>,
    places: BTreeMap<EventId, Place>,
    by_lane: BTreeMap<EventId, BTreeSet<Place>>,
    /// Who creates a commitment, who consumes it, who spends a nullifier.
    creators: BTreeMap<Digest, BTreeSet<Place>>,
    consumers: BTreeMap<Digest, BTreeSet<Place>>,
    spenders: BTreeMap<Digest, BTreeSet<Place>>,
}

#[derive(Clone, Debug)]
struct Entry {
    lane: EventId,
    seq: u64,
    spending: Spending,
    is_effective: bool,
}

impl Settlements {
    /// The events that have to do with what is spent: they decide about its depth if they are in its past.
    fn related(&self, spending: &Spending) -> BTreeSet<EventId> {
        let created = spending.consumed.iter().filter_map(|spent| self.creators.get(&spent.commitment?));
        let spent = spending.consumed.iter().filter_map(|spent| self.spenders.get(&spent.nullifier));
        created.chain(spent).flatten().map(|place| place.event).collect()
    }

    /// Whether each lasting resource that is consumed was created by one of these.
    fn are_created(&self, spending: &Spending, past: &BTreeSet<EventId>) -> bool {
        spending.consumed.iter().filter_map(|spent| spent.commitment).all(|commitment| {
            let creators = self.creators.get(&commitment);
            creators.is_some_and(|places| places.iter().any(|place| past.contains(&place.event)))
        })
    }

    /// Takes one in, with the related events of its past. Returns its place.
    fn add(
        &mut self,
        (event, lane, seq, rank): (EventId, EventId, u64, u32),
        spending: Spending,
        past: &BTreeSet<EventId>,
    ) -> Place {
        let letting_in = Some(lane).filter(|lane| *lane != event);
        let before = past.iter().copied().chain(letting_in).filter_map(|event| self.places.get(&event));
        let depth = before.map(|place| place.depth.saturating_add(1)).max().unwrap_or_default();
        let place = Place { depth, rank, event };
        for spent in &spending.consumed {
            self.spenders.entry(spent.nullifier).or_default().insert(place);
            if let Some(commitment) = spent.commitment {
                self.consumers.entry(commitment).or_default().insert(place);
            }
        }
        for made in &spending.created {
            self.creators.entry(made.commitment).or_default().insert(place);
        }
        self.places.insert(event, place);
        self.by_lane.entry(lane).or_default().insert(place);
        self.entries.insert(place, Entry { lane, seq, spending, is_effective: false });
        place
    }

    fn of_lane(&self, lane: &EventId) -> impl Iterator<Item = Place> + '_ {
        self.by_lane.get(lane).into_iter().flatten().copied()
    }

    /// Works out anew what is effective of these and of all that follows. Returns the lanes whose
    /// opening, the use of a ticket, became effective or void.
    fn settle(
        &mut self,
        from: impl IntoIterator<Item = Place>,
        is_kept: impl Fn(&EventId, u64) -> bool,
    ) -> Vec<(EventId, bool)> {
        let mut open: BTreeSet<Place> = from.into_iter().collect();
        let mut lanes = Vec::new();
        while let Some(place) = open.pop_first() {
            let Some(entry) = self.entries.get(&place) else { continue };
            let is_effective = is_kept(&entry.lane, entry.seq) && self.stands(&place, entry);
            if is_effective == entry.is_effective {
                continue;
            }
            open.extend(self.after(&place, entry));
            if entry.lane == place.event {
                lanes.push((entry.lane, is_effective));
            }
            if let Some(entry) = self.entries.get_mut(&place) {
                entry.is_effective = is_effective;
            }
        }
        lanes
    }

    fn stands(&self, place: &Place, entry: &Entry) -> bool {
        let effective_before = |places: Option<&BTreeSet<Place>>| {
            places.is_some_and(|places| {
                places.range(..*place).any(|place| self.entries.get(place).is_some_and(|e| e.is_effective))
            })
        };
        let is_let_in = entry.lane == place.event
            || self.places.get(&entry.lane).is_none_or(|opening| self.entries[opening].is_effective);
        is_let_in
            && entry.spending.consumed.iter().all(|spent| {
                let exists = spent
                    .commitment
                    .is_none_or(|commitment| effective_before(self.creators.get(&commitment)));
                exists && !effective_before(self.spenders.get(&spent.nullifier))
            })
    }

    /// What a verdict decides about, at once. All of it has greater places.
    fn after(&self, place: &Place, entry: &Entry) -> Vec<Place> {
        let rivals = entry.spending.consumed.iter().filter_map(|spent| self.spenders.get(&spent.nullifier));
        let users = entry.spending.created.iter().filter_map(|made| self.consumers.get(&made.commitment));
        let guests = (entry.lane == place.event).then(|| self.of_lane(&entry.lane));
        let all = rivals.chain(users).flatten().copied().chain(guests.into_iter().flatten());
        all.filter(|other| other > place).collect()
    }

    /// Whether an event is no settlement, or an effective one.
    pub fn is_effective(&self, event: &EventId) -> bool {
        self.places.get(event).is_none_or(|place| self.entries[place].is_effective)
    }

    /// What was created and is not spent.
    fn unspent(&self) -> impl Iterator<Item = &Made> {
        let effective = self.entries.values().filter(|entry| entry.is_effective);
        let made = effective.flat_map(|entry| &entry.spending.created);
        made.filter(|made| {
            let mut consumers = self.consumers.get(&made.commitment).into_iter().flatten();
            !consumers.any(|place| self.entries[place].is_effective)
        })
    }

    /// Whether a lasting resource is there to be consumed.
    fn is_unspent(&self, commitment: &Digest) -> bool {
        self.is_any(self.creators.get(commitment)) && !self.is_any(self.consumers.get(commitment))
    }

    fn is_spent(&self, nullifier: &Digest) -> bool {
        self.is_any(self.spenders.get(nullifier))
    }

    fn is_any(&self, places: Option<&BTreeSet<Place>>) -> bool {
        places.is_some_and(|places| places.iter().any(|place| self.entries[place].is_effective))
    }

    /// One digest over what is effective; none if there never was a settlement.
    pub fn digest(&self) -> Option<Digest> {
        let mut hasher = blake3::Hasher::new();
        for (place, entry) in &self.entries {
            hasher.update(&[u8::from(entry.is_effective)]);
            hasher.update(place.event.as_bytes());
        }
        (!self.entries.is_empty()).then(|| Digest(*hasher.finalize().as_bytes()))
    }
}

impl Replica {
    /// Whether everything that an event consumes was created in its past.
    pub(super) fn knows_what_is_spent(&self, spending: &Spending, parents: &[u32]) -> bool {
        let past = self.in_past(&self.settlements.related(spending), parents);
        self.settlements.are_created(spending, &past)
    }

    /// Takes in what an event spends, and brings what follows from it and from lanes that changed up to
    /// date. Returns the people for whom a lane opened or closed by that.
    pub(super) fn settle_spending(
        &mut self,
        event: &Event,
        (lane, rank): (EventId, u32),
        (spending, parents): (Option<Spending>, &[u32]),
        settled: &Settled,
    ) -> BTreeSet<Identity> {
        let mut touched: Vec<Place> = Vec::new();
        if let Some(spending) = spending {
            let past = self.in_past(&self.settlements.related(&spending), parents);
            let place = (event.id(), lane, event.header.seq, rank);
            touched.push(self.settlements.add(place, spending, &past));
            if let Act::RedeemTicket { .. } = &event.header.act
                && let Some(lane) = self.authorities.lanes.get_mut(&lane)
            {
                lane.is_unpaid = true;
            }
        }
        self.settle_spent(touched, settled)
    }

    /// Brings what is spent up to date after these changed, and lanes.
    pub(super) fn settle_spent(&mut self, mut touched: Vec<Place>, settled: &Settled) -> BTreeSet<Identity> {
        if self.settlements.entries.is_empty() {
            return BTreeSet::new();
        }
        touched.extend(settled.lanes.keys().flat_map(|lane| self.settlements.of_lane(lane)));
        let lanes = &self.authorities.lanes;
        let is_kept = |lane: &EventId, seq: u64| lanes.get(lane).is_some_and(|lane| seq < lane.keep);
        let flipped = self.settlements.settle(touched, is_kept);
        let mut people = BTreeSet::new();
        for (lane, is_effective) in flipped {
            if let Some(lane) = self.authorities.lanes.get_mut(&lane) {
                lane.is_unpaid = !is_effective;
                people.insert(lane.identity);
            }
        }
        people
    }

    /// The tokens and tickets of the channel, each with its owner.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> + '_ {
        self.settlements.unspent().filter_map(Holding::read)
    }

    /// Whether a nullifier was spent, effectively.
    pub fn is_spent(&self, nullifier: &Digest) -> bool {
        self.settlements.is_spent(nullifier)
    }

    /// Whether a resource exists, effectively, and was not consumed.
    pub fn is_unspent(&self, commitment: &Digest) -> bool {
        self.settlements.is_unspent(commitment)
    }
}

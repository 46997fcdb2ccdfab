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
//! A settlement of assets of several channels has a place as well, the same in each of them: see
//! [`deal`](super::deal).
//!
//! **Limits.** As there is no finality (rule R8 would bring it), somebody who keeps back a settlement of
//! their own intents can publish it later as if they had not known what came since, and, by rank or id,
//! may unseat the other; everybody sees both. They can only choose between deals that all their parties
//! had signed. The same holds of the time at which an intent expires, as far as the past of the event
//! lets its author claim an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use super::authority::Settled;
use super::{Event, Lane, Replica};
use crate::base::{ChannelId, Digest, EventId, Identity, limits};
use crate::chat::act::Act;
use crate::chat::asset::Holding;
use crate::chat::settle::{Deal, Part};
use crate::machine::settlement::{Made, Settlement, Spending};

/// Where a settlement stands in the order in which they are carried out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    depth: u64,
    rank: u32,
    /// The event, or the digest of a deal (see `deal`).
    id: Digest,
}

/// Lanes of people who were let in by what they spent for it, and whether they were before.
pub(super) type LetIn = Vec<(EventId, bool)>;

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
    /// Deals that fare differently since this was last asked.
    undecided: BTreeSet<Place>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The events that put it here: one, or any number that put the same deal.
    carriers: Vec<Carrier>,
    spending: Spending,
    deal: Option<Across>,
    is_effective: bool,
}

#[derive(Clone, Copy, Debug)]
struct Carrier {
    event: EventId,
    lane: EventId,
    seq: u64,
}

/// What is known of a deal.
#[derive(Clone, Debug)]
struct Across {
    channels: BTreeSet<ChannelId>,
    /// Whether nothing is in its way in this channel.
    stands_here: bool,
    is_agreed: bool,
}

impl Entry {
    /// Whether it is the event that opens a lane.
    fn opens(&self) -> Option<EventId> {
        self.carriers.iter().find(|carrier| carrier.event == carrier.lane).map(|carrier| carrier.lane)
    }
}

impl Settlements {
    /// The events that have to do with what is spent: they decide about its depth if they are in its past.
    fn related(&self, Part { spending, deal }: &Part) -> BTreeSet<EventId> {
        let spends = spending.consumed.iter().map(|spent| (spent.commitment, spent.nullifier));
        let others = self.places_of(spends);
        let others = others.filter(|place| deal.as_ref().is_none_or(|deal| place.id != deal.id));
        others.flat_map(|place| self.carriers(place)).collect()
    }

    /// What creates or spends these: a commitment, where the resource is one that lasts, and a nullifier.
    fn places_of(
        &self,
        spends: impl Iterator<Item = (Option<Digest>, Digest)>,
    ) -> impl Iterator<Item = &Place> {
        let places = spends.flat_map(|(commitment, nullifier)| {
            let created = commitment.and_then(|commitment| self.creators.get(&commitment));
            created.into_iter().chain(self.spenders.get(&nullifier))
        });
        places.flatten()
    }

    fn carriers(&self, place: &Place) -> impl Iterator<Item = EventId> + '_ {
        let carriers = self.entries.get(place).map_or(&[][..], |entry| &entry.carriers);
        carriers.iter().map(|carrier| carrier.event)
    }

    /// Whether each lasting resource that is consumed was created by one of these.
    fn are_created(&self, spending: &Spending, past: &BTreeSet<EventId>) -> bool {
        spending.consumed.iter().filter_map(|spent| spent.commitment).all(|commitment| {
            let creators = self.creators.get(&commitment).into_iter().flatten();
            creators.flat_map(|place| self.carriers(place)).any(|event| past.contains(&event))
        })
    }

    /// How deep something lies that has these in its past, and whose author was let in by that event.
    fn depth(&self, past: &BTreeSet<EventId>, letting_in: Option<EventId>) -> u64 {
        let before = past.iter().copied().chain(letting_in).filter_map(|event| self.places.get(&event));
        before.map(|place| place.depth.saturating_add(1)).max().unwrap_or_default()
    }

    /// Takes one in, with the related events of its past. Returns its place.
    fn add(
        &mut self,
        (event, lane, seq, rank): (EventId, EventId, u64, u32),
        Part { spending, deal }: Part,
        past: &BTreeSet<EventId>,
    ) -> Place {
        let depth = self.depth(past, Some(lane).filter(|lane| *lane != event));
        let place = match &deal {
            Some(deal) => Place { depth: deal.depth, rank: u32::MAX, id: deal.id },
            None => Place { depth, rank, id: Digest(event.0) },
        };
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
        let across = |deal: Deal| Across { channels: deal.channels, stands_here: false, is_agreed: false };
        let entry = self.entries.entry(place).or_insert_with(|| Entry {
            carriers: Vec::new(),
            spending,
            deal: deal.map(across),
            is_effective: false,
        });
        entry.carriers.push(Carrier { event, lane, seq });
        place
    }

    fn of_lane(&self, lane: &EventId) -> impl Iterator<Item = Place> + '_ {
        self.by_lane.get(lane).into_iter().flatten().copied()
    }

    /// Works out anew what is effective of these and of all that follows. Returns the lanes whose
    /// opening, the use of a ticket, became effective or void, and which it was before.
    fn settle(
        &mut self,
        from: impl IntoIterator<Item = Place>,
        is_kept: impl Fn(&EventId, u64) -> bool,
    ) -> LetIn {
        let mut open: BTreeSet<Place> = from.into_iter().collect();
        let mut lanes = Vec::new();
        while let Some(place) = open.pop_first() {
            let Some(entry) = self.entries.get(&place) else { continue };
            let stands = self.stands(&place, entry, &is_kept);
            let is_agreed = entry.deal.as_ref().is_none_or(|deal| deal.is_agreed);
            let (is_effective, was_effective) = (stands && is_agreed, entry.is_effective);
            if is_effective != was_effective {
                open.extend(self.after(&place, entry));
                lanes.extend(entry.opens().map(|lane| (lane, was_effective)));
            }
            let Some(entry) = self.entries.get_mut(&place) else { continue };
            entry.is_effective = is_effective;
            if let Some(deal) = entry.deal.as_mut().filter(|deal| deal.stands_here != stands) {
                deal.stands_here = stands;
                self.undecided.insert(place);
            }
        }
        lanes
    }

    /// Whether nothing of what has smaller places is in the way of something in this channel.
    fn stands(&self, place: &Place, entry: &Entry, is_kept: impl Fn(&EventId, u64) -> bool) -> bool {
        let is_let_in = |carrier: &Carrier| {
            carrier.lane == carrier.event
                || self.places.get(&carrier.lane).is_none_or(|opening| self.entries[opening].is_effective)
        };
        let effective_before = |places: Option<&BTreeSet<Place>>| {
            places.is_some_and(|places| {
                places.range(..*place).any(|place| self.entries.get(place).is_some_and(|e| e.is_effective))
            })
        };
        let is_carried = |carrier: &Carrier| is_kept(&carrier.lane, carrier.seq) && is_let_in(carrier);
        entry.carriers.iter().any(is_carried)
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
        let guests = entry.opens().and_then(|lane| self.by_lane.get(&lane));
        let all = rivals.chain(users).chain(guests).flatten().copied();
        all.filter(|other| other > place).collect()
    }

    /// Takes out the deals that fare differently, with all their channels.
    pub fn take_undecided(&mut self) -> Vec<(Place, BTreeSet<ChannelId>)> {
        let undecided = std::mem::take(&mut self.undecided);
        let channels = |place: &Place| Some(self.entries.get(place)?.deal.as_ref()?.channels.clone());
        undecided.into_iter().filter_map(|place| Some((place, channels(&place)?))).collect()
    }

    /// Whether nothing is in the way of a deal in this channel.
    pub fn stands_here(&self, deal: &Place) -> bool {
        let entry = self.entries.get(deal);
        entry.and_then(|entry| entry.deal.as_ref()).is_some_and(|deal| deal.stands_here)
    }

    /// Notes the verdict of all its channels. Whether it is another.
    pub fn agree(&mut self, deal: &Place, is_agreed: bool) -> bool {
        let across = self.entries.get_mut(deal).and_then(|entry| entry.deal.as_mut());
        across.is_some_and(|across| std::mem::replace(&mut across.is_agreed, is_agreed) != is_agreed)
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
            hasher.update(&place.id.0);
        }
        (!self.entries.is_empty()).then(|| Digest(*hasher.finalize().as_bytes()))
    }
}

impl Replica {
    /// Whether everything that an event of a lane consumes was created in its past, and a deal claims to lie
    /// deeper than what it rests on, by a possible measure.
    pub(super) fn knows_what_is_spent(&self, part: &Part, lane: Option<EventId>, parents: &[u32]) -> bool {
        let past = self.in_past(&self.settlements.related(part), parents);
        let least = self.settlements.depth(&past, lane);
        let depths = least..=least.saturating_add(limits::DEAL_DEPTH_SLACK);
        self.settlements.are_created(&part.spending, &past)
            && part.deal.as_ref().is_none_or(|deal| depths.contains(&deal.depth))
    }

    /// How deep a settlement must lie that somebody puts here next on their lane.
    pub fn depth_of(&self, settlement: &Settlement, lane: &Lane) -> u64 {
        let actions = settlement.intents.iter().flat_map(|intent| &intent.transaction.actions);
        let spends = actions.flat_map(|action| &action.consumed).filter_map(|input| {
            let commitment = input.resource.commitment();
            let nullifier = input.resource.nullifier_from_commitment(&input.nullifier_key, &commitment);
            Some((Some(commitment), nullifier.ok()?))
        });
        let places = self.settlements.places_of(spends);
        let related = places.flat_map(|place| self.settlements.carriers(place)).collect();
        let parents = self.next_parents(Some(&lane.tip()));
        let parents: Vec<u32> = parents.iter().filter_map(|id| self.events.number(id)).collect();
        self.settlements.depth(&self.in_past(&related, &parents), Some(lane.opening))
    }

    /// Takes in what an event spends, and brings what follows from it and from lanes that changed up to
    /// date. Returns the lanes that were let in or shut out by that.
    pub(super) fn settle_spending(
        &mut self,
        event: &Event,
        (lane, rank): (EventId, u32),
        (part, parents): (Option<Part>, &[u32]),
        settled: &Settled,
    ) -> LetIn {
        let mut touched: Vec<Place> = Vec::new();
        if let Some(part) = part {
            let past = self.in_past(&self.settlements.related(&part), parents);
            let place = (event.id(), lane, event.header.seq, rank);
            touched.push(self.settlements.add(place, part, &past));
            if let Act::RedeemTicket { .. } = &event.header.act
                && let Some(lane) = self.authorities.lanes.get_mut(&lane)
            {
                lane.is_unpaid = true;
            }
        }
        self.settle_spent(touched, settled)
    }

    /// Brings what is spent up to date after these changed, and lanes.
    pub(super) fn settle_spent(&mut self, mut touched: Vec<Place>, settled: &Settled) -> LetIn {
        if self.settlements.entries.is_empty() {
            return LetIn::new();
        }
        touched.extend(settled.lanes.keys().flat_map(|lane| self.settlements.of_lane(lane)));
        let lanes = &self.authorities.lanes;
        let is_kept = |lane: &EventId, seq: u64| lanes.get(lane).is_some_and(|lane| seq < lane.keep);
        let let_in = self.settlements.settle(touched, is_kept);
        for (lane, was_in) in &let_in {
            if let Some(lane) = self.authorities.lanes.get_mut(lane) {
                lane.is_unpaid = *was_in;
            }
        }
        let_in
    }

    /// Whose lanes these are.
    pub(super) fn let_in(&self, lanes: &LetIn) -> BTreeSet<Identity> {
        let lanes = lanes.iter().filter_map(|(lane, _)| self.authorities.lanes.get(lane));
        lanes.map(|lane| lane.identity).collect()
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

//! Deals across channels: attacks by name, and random histories of two channels against a plain model, in
//! every order of delivery.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::deal::{Replicas, decide};
use super::sample::{Author, founded, part_of, pasts};
use super::{Admission, Event, Replica};
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, limits};
use crate::chat::act::{Act, Standing};
use crate::chat::asset::{Asset, Holding};
use crate::chat::logics::logics;
use crate::chat::market::{exchange, issue};
use crate::chat::settle::{self, Part};
use crate::chat::token;
use crate::machine::intent::{Constraints, Intent};
use crate::machine::settlement::Settlement;

/// The replicas of somebody.
struct Shelf(BTreeMap<ChannelId, Replica>);

impl Replicas for Shelf {
    fn replica_mut(&mut self, id: &ChannelId) -> Option<&mut Replica> {
        self.0.get_mut(id)
    }
}

impl Shelf {
    fn of(foundings: &[Event]) -> Self {
        Self(foundings.iter().map(|event| (event.channel(), Replica::found(event, 1).unwrap().0)).collect())
    }

    fn admit(&mut self, event: &Event) -> Admission {
        let id = event.channel();
        let replica = self.0.get_mut(&id).unwrap();
        let admission = replica.admit(event, replica.len() as u64 + 1);
        decide(self, &id);
        admission
    }

    /// Takes events in in this order, each as soon as its past is there.
    fn fill(foundings: &[Event], events: &[Event]) -> Self {
        let mut shelf = Self::of(foundings);
        let mut open: Vec<&Event> = events.iter().collect();
        while !open.is_empty() {
            let before = open.len();
            open.retain(|event| match shelf.admit(event) {
                Admission::Waiting(_) => true,
                Admission::Refused(invalid) => panic!("{invalid}"),
                _ => false,
            });
            assert!(open.len() < before, "their pasts are there");
        }
        shelf
    }

    fn holdings(&self, owner: &Identity) -> Vec<Holding> {
        let all = self.0.values().flat_map(Replica::holdings);
        all.filter(|holding| holding.owner == *owner).collect()
    }

    fn balance(&self, owner: &Author, asset: &Asset) -> u128 {
        let theirs = self.holdings(&owner.identity.public()).into_iter();
        theirs.filter(|holding| holding.asset == *asset).map(|holding| holding.resource.quantity).sum()
    }

    fn is_effective(&self, event: &Event) -> bool {
        self.0[&event.channel()].is_effective(&event.id())
    }

    fn roots(&self) -> Vec<Digest> {
        self.0.values().map(Replica::root).collect()
    }
}

fn coin(channel: ChannelId, issuer: &Author) -> Asset {
    Asset::Token(token::Label { channel, issuer: issuer.identity.public(), name: "coin".into() })
}

fn sign(by: &Author, action: crate::machine::Action) -> Intent {
    Intent::sign(vec![action], Constraints::until(Timestamp(1_000_000)), &by.identity, logics()).unwrap()
}

fn settle_here(intents: Vec<Intent>) -> Act {
    Act::Settle { settlement: Settlement::of(intents), depth: None }
}

fn swap(shelf: &Shelf, by: &Author, gives: (&Asset, u128), takes: (&Asset, u128)) -> Option<Intent> {
    let owner = by.identity.public();
    let takes = [(takes.0.clone(), takes.1, owner)];
    let action = exchange(owner, &shelf.holdings(&owner), &(gives.0.clone(), gives.1), &takes).ok()?;
    Some(sign(by, action))
}

/// Two channels of the same people; all they do is known to everybody at once, unless a test says else.
struct Towns {
    founder: Author,
    one: Author,
    two: Author,
    foundings: [Event; 2],
    ids: [ChannelId; 2],
    events: Vec<Event>,
    shelf: Shelf,
    at: u64,
}

impl Towns {
    fn new() -> Self {
        let (founder, one, two) = (Author::new("founder"), Author::new("one"), Author::new("two"));
        let foundings = [&founder, &founder.on("laptop")].map(|author| founded(author).1);
        let ids = [0, 1].map(|at: usize| foundings[at].channel());
        let shelf = Shelf::of(&foundings);
        let events = Vec::new();
        let mut towns = Self { founder, one, two, foundings, ids, events, shelf, at: 2_000 };
        for member in [towns.one.clone(), towns.two.clone()] {
            for at in 0..2 {
                towns.does(&member, at, member.join());
            }
        }
        // Each of the two has what they made, in one channel each.
        for (at, by) in [towns.one.clone(), towns.two.clone()].into_iter().enumerate() {
            let minted = issue(&towns.coin(at), 10, Digest([at as u8; 32])).unwrap();
            towns.does(&by, at, settle_here(vec![sign(&by, minted)]));
        }
        towns
    }

    /// The coin of a channel: of `one` in the first, of `two` in the second.
    fn coin(&self, at: usize) -> Asset {
        coin(self.ids[at], [&self.one, &self.two][at])
    }

    fn draft(&mut self, by: &Author, at: usize, act: Act) -> Event {
        self.at += 10;
        let header = by.draft(&self.shelf.0[&self.ids[at]], self.at, act);
        by.sign(header)
    }

    fn does(&mut self, by: &Author, at: usize, act: Act) -> Event {
        let event = self.draft(by, at, act);
        let admission = self.shelf.admit(&event);
        assert!(matches!(admission, Admission::Accepted(_)), "{admission:?}");
        self.events.push(event.clone());
        event
    }

    fn depth(&self, by: &Author, settlement: &Settlement) -> u64 {
        let depth =
            |replica: &Replica| replica.depth_of(settlement, replica.live_lane(&by.device.public()).unwrap());
        self.shelf.0.values().map(depth).max().unwrap()
    }

    /// So much of the first channel's coin for so much of the second's.
    fn deal(&self, (gives, takes): (u128, u128)) -> Settlement {
        let (first, second) = (self.coin(0), self.coin(1));
        let one = swap(&self.shelf, &self.one, (&first, gives), (&second, takes)).unwrap();
        let two = swap(&self.shelf, &self.two, (&second, takes), (&first, gives)).unwrap();
        Settlement::of(vec![one, two])
    }

    /// What `one` has of the first channel's coin and of the second's, and `two`; the same whatever the order.
    fn balances(&self) -> [u128; 4] {
        let mut turned = self.events.clone();
        turned.reverse();
        let (straight, crooked) =
            (Shelf::fill(&self.foundings, &self.events), Shelf::fill(&self.foundings, &turned));
        assert_eq!(straight.roots(), self.shelf.roots());
        assert_eq!(crooked.roots(), self.shelf.roots());
        let (a, b) = (self.coin(0), self.coin(1));
        [(&self.one, &a), (&self.one, &b), (&self.two, &a), (&self.two, &b)]
            .map(|(who, asset)| self.shelf.balance(who, asset))
    }
}

#[test]
fn a_deal_across_channels_is_carried_out_in_both_or_in_none() {
    let mut towns = Towns::new();
    let settlement = towns.deal((4, 3));
    let (solver, depth) = (towns.founder.clone(), Some(towns.depth(&towns.one, &towns.deal((4, 3)))));
    towns.does(&solver, 0, Act::Settle { settlement: settlement.clone(), depth });
    assert_eq!(towns.balances(), [10, 0, 0, 10], "half of it is nothing");
    // Anybody may complete it, and more than once.
    let one = towns.one.clone();
    for _ in 0..2 {
        towns.does(&one, 1, Act::Settle { settlement: settlement.clone(), depth });
        assert_eq!(towns.balances(), [6, 3, 4, 7]);
    }
}

#[test]
fn a_deal_falls_in_all_its_channels_with_one_and_what_rests_on_it_too() {
    let mut towns = Towns::new();
    let settlement = towns.deal((4, 3));
    let solver = towns.two.clone();
    let depth = Some(towns.depth(&solver, &settlement));
    let laptop = towns.founder.on("laptop");
    for (at, by) in [(0, &solver), (1, &solver)] {
        towns.does(by, at, Act::Settle { settlement: settlement.clone(), depth });
    }
    let (one, first) = (towns.one.clone(), towns.coin(1));
    let gift = [(first.clone(), 3, laptop.identity.public())];
    let owned = towns.shelf.holdings(&one.identity.public());
    let gift = exchange(one.identity.public(), &owned, &(first, 3), &gift).unwrap();
    let gift = towns.does(&one, 1, settle_here(vec![sign(&one, gift)]));
    assert!(towns.shelf.is_effective(&gift));
    assert_eq!(towns.balances(), [6, 0, 4, 7]);
    // Who put it into the first channel is removed there, by somebody who had not seen it.
    let before: Vec<Event> = towns.events[..towns.events.len() - 3].to_vec();
    let elsewhere = Shelf::fill(&towns.foundings, &before);
    let founder = towns.founder.clone();
    let subject = solver.identity.public();
    let act = Act::RevokeRole { subject, then: Standing::Out, reason: String::new() };
    let removal = founder.sign(founder.draft(&elsewhere.0[&towns.ids[0]], towns.at, act));
    assert!(matches!(towns.shelf.admit(&removal), Admission::Accepted(_)));
    towns.events.push(removal);
    assert!(!towns.shelf.is_effective(&gift), "what was bought was never there");
    assert_eq!(towns.balances(), [10, 0, 0, 10]);
    // Somebody else who is there puts it there anew.
    let again = founder.clone();
    towns.does(&again, 0, Act::Settle { settlement, depth });
    assert_eq!(towns.balances(), [6, 0, 4, 7]);
}

/// Attack: two deals that each come first in one of the channels; and one that claims to lie so deep that
/// others could soon not build on it, or less deep than it does.
#[test]
fn crossed_deals_and_false_depths() {
    let mut towns = Towns::new();
    let (small, great) = (towns.deal((4, 3)), towns.deal((5, 2)));
    let (one, two) = (towns.one.clone(), towns.two.clone());
    let least = towns.depth(&one, &small);
    let low = towns.draft(&one, 0, Act::Settle { settlement: small.clone(), depth: Some(least - 1) });
    assert!(matches!(towns.shelf.admit(&low), Admission::Refused(_)));
    let none = towns.draft(&one, 0, Act::Settle { settlement: small.clone(), depth: None });
    assert!(matches!(towns.shelf.admit(&none), Admission::Refused(_)));
    let beyond = Some(least + limits::DEAL_DEPTH_SLACK + 1);
    let high = towns.draft(&one, 0, Act::Settle { settlement: small.clone(), depth: beyond });
    assert!(matches!(towns.shelf.admit(&high), Admission::Refused(_)));
    let depth = Some(least);
    let mut crossed = Vec::new();
    for (by, settlement) in [(&one, &small), (&two, &great)] {
        for at in 0..2 {
            crossed.push(towns.draft(by, at, Act::Settle { settlement: settlement.clone(), depth }));
        }
    }
    for event in [0, 3, 1, 2].map(|at: usize| crossed[at].clone()) {
        assert!(matches!(towns.shelf.admit(&event), Admission::Accepted(_)));
        towns.events.push(event);
    }
    let [a, b, ..] = towns.balances();
    assert!([[6, 3], [5, 2]].contains(&[a, b]), "one of them, whole: {a} {b}");
}

/// What one author of a random history does at one step.
#[derive(Clone, Debug)]
struct Step {
    author: usize,
    does: u8,
    to: usize,
    at: usize,
    quantity: u128,
    /// Takes in what the others did before, here or in both channels or in none.
    looks: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..4, 0u8..16, 0usize..4, 0usize..2, 1u128..4, 0u8..6);
    let step = step.prop_map(|(author, does, to, at, quantity, looks)| Step {
        author,
        does,
        to,
        at,
        quantity,
        looks,
    });
    prop::collection::vec(step, 1..60)
}

struct History {
    foundings: Vec<Event>,
    events: Vec<Event>,
}

/// Plays a history of two channels in which each author has replicas of their own.
fn play(steps: &[Step]) -> History {
    let authors: Vec<Author> = ["founder", "one", "two", "three"].map(Author::new).to_vec();
    let foundings: Vec<Event> =
        [&authors[0], &authors[0].on("laptop")].map(|author| founded(author).1).to_vec();
    let ids: Vec<ChannelId> = foundings.iter().map(Event::channel).collect();
    let mut shelves: Vec<Shelf> = authors.iter().map(|_| Shelf::of(&foundings)).collect();
    let (mut events, mut pool): (Vec<Event>, Vec<_>) = (Vec::new(), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let (by, at) = (&authors[step.author], 2_000 + number as u64);
        let shelf = &mut shelves[step.author];
        let sees = |event: &&Event| match step.looks {
            0 => false,
            1 => event.channel() == ids[0],
            2 => event.channel() == ids[1],
            _ => true,
        };
        events.iter().filter(sees).for_each(|event| drop(shelf.admit(event)));
        let mut acts: Vec<(usize, Act)> = Vec::new();
        let is_in = |shelf: &Shelf, at: usize| shelf.0[&ids[at]].live_lane(&by.device.public()).is_some();
        for at in (0..2).filter(|at| !is_in(shelf, *at)) {
            acts.push((at, by.join()));
        }
        if acts.is_empty() {
            acts = random_acts(shelf, step, (&authors, by), (&ids, number as u8), &mut pool);
        }
        for (place, act) in acts {
            let event = by.sign(by.draft(&shelf.0[&ids[place]], at, act));
            if let Admission::Accepted(_) = shelf.admit(&event) {
                if step.does == 0 && step.quantity == 1 && event.header.seq > 0 {
                    let mut rival = event.header.clone();
                    rival.act = Act::LeaveChannel { reason: "fork".into() };
                    events.push(by.sign(rival));
                }
                events.push(event);
            }
        }
    }
    History { foundings, events }
}

fn random_acts(
    shelf: &Shelf,
    step: &Step,
    (authors, by): (&[Author], &Author),
    (ids, salt): (&[ChannelId], u8),
    pool: &mut Vec<(Intent, Asset, Asset)>,
) -> Vec<(usize, Act)> {
    let me = by.identity.public();
    let mine = shelf.holdings(&me);
    match step.does {
        0..=2 => {
            let minted = issue(&coin(ids[step.at], by), step.quantity, Digest([salt; 32])).unwrap();
            vec![(step.at, settle_here(vec![sign(by, minted)]))]
        }
        3 | 4 => {
            let Some(holding) = mine.get(step.to % mine.len().max(1)) else { return Vec::new() };
            let takes = [(holding.asset.clone(), 1, authors[step.to].identity.public())];
            let Ok(action) = exchange(me, &mine, &(holding.asset.clone(), 1), &takes) else {
                return Vec::new();
            };
            let at = ids.iter().position(|id| *id == holding.asset.channel()).unwrap();
            vec![(at, settle_here(vec![sign(by, action)]))]
        }
        5..=9 => {
            // Somebody's offer is answered by whoever owns what it wants; else there is a new one.
            let answered = pool.iter().rev().find_map(|(_, gives, wants)| {
                let owns = mine.iter().any(|holding| holding.asset == *wants);
                (owns && gives != wants).then(|| (wants.clone(), gives.clone()))
            });
            let wanted = coin(ids[step.at], &authors[step.to]);
            let fresh = || Some((mine.first()?.asset.clone(), wanted));
            let Some((gives, wants)) = answered.filter(|_| step.quantity < 3).or_else(fresh) else {
                return Vec::new();
            };
            let intent = swap(shelf, by, (&gives, 1), (&wants, 1));
            pool.extend(intent.map(|intent| (intent, gives, wants)));
            Vec::new()
        }
        10..=14 => {
            let market = crate::machine::solver::Market {
                solver: me,
                at: Timestamp(2_000 + u64::from(salt)),
                logics: logics(),
                proving: &crate::machine::Transparent,
            };
            let intents: Vec<Intent> = pool.iter().map(|(intent, ..)| intent.clone()).collect();
            let found = crate::machine::solver::solve(&intents, &market, Default::default());
            let Some(settlement) = found.settlements.into_iter().next() else { return Vec::new() };
            if step.quantity > 1 {
                pool.retain(|(intent, ..)| !settlement.intents.contains(intent));
            }
            let homes = settle::homes_of_settlement(&settlement).unwrap();
            let channels: BTreeSet<ChannelId> = homes.into_values().collect();
            let depth = |replica: &Replica| {
                replica.depth_of(&settlement, replica.live_lane(&by.device.public()).unwrap())
            };
            let depth = channels.iter().map(|id| depth(&shelf.0[id])).max().unwrap_or_default();
            // Now and then a claim that is too great.
            let depth = depth + u64::from(step.to == 3 && step.quantity == 3);
            let depth = (channels.len() > 1).then_some(depth);
            // Who likes to, leaves one of the channels out.
            let is_put = |at: &usize| channels.contains(&ids[*at]) && (step.does < 14 || *at == step.at);
            (0..2)
                .filter(is_put)
                .map(|at| (at, Act::Settle { settlement: settlement.clone(), depth }))
                .collect()
        }
        _ if step.author == 0 && step.to != 0 && step.quantity == 1 => {
            let (subject, then) = (authors[step.to].identity.public(), Standing::Out);
            vec![(step.at, Act::RevokeRole { subject, then, reason: String::new() })]
        }
        _ => Vec::new(),
    }
}

type Order = (u64, u32, Digest);

/// One thing to be carried out: a settlement of one channel, or a deal with the events that put it anywhere.
#[derive(Default)]
struct Thing {
    channels: BTreeSet<ChannelId>,
    carriers: Vec<(ChannelId, EventId)>,
    parts: BTreeMap<ChannelId, Part>,
}

/// What is carried out, by the rules as they are written: every past as a set, everything in one list over
/// both channels, sorted by place and gone through once.
fn model(history: &History, shelf: &Shelf) -> (BTreeMap<EventId, bool>, BTreeMap<(Identity, String), u128>) {
    let events: BTreeMap<EventId, &Event> =
        history.foundings.iter().chain(&history.events).map(|event| (event.id(), event)).collect();
    let pasts = pasts(&events);
    let parts: BTreeMap<EventId, Part> = events
        .iter()
        .filter_map(|(id, event)| Some((*id, part_of(event, &shelf.0[&event.channel()])?)))
        .collect();
    let mut depths: BTreeMap<EventId, u64> = BTreeMap::new();
    while depths.len() < parts.len() {
        for (id, part) in &parts {
            let is_related = |other: &&EventId| {
                parts
                    .get(*other)
                    .filter(|before| before.deal.is_none() || before.deal != part.deal)
                    .is_some_and(|before| {
                        part.spending.consumed.iter().any(|mine| {
                            before.spending.consumed.iter().any(|theirs| theirs.nullifier == mine.nullifier)
                                || before
                                    .spending
                                    .created
                                    .iter()
                                    .any(|m| mine.commitment == Some(m.commitment))
                        })
                    })
            };
            let before: Vec<&EventId> = pasts[id].iter().filter(is_related).collect();
            if before.iter().all(|other| depths.contains_key(other)) {
                let must = before.iter().map(|other| depths[other] + 1).max().unwrap_or(0);
                depths.insert(*id, part.deal.as_ref().map_or(must, |deal| deal.depth));
            }
        }
    }
    let mut things: BTreeMap<Order, Thing> = BTreeMap::new();
    for (id, part) in &parts {
        let channel = events[id].channel();
        let depth = depths[id];
        let rank = shelf.0[&channel].lane_of(id).unwrap().rank;
        let (order, channels) = match &part.deal {
            Some(deal) => ((depth, u32::MAX, deal.id), deal.channels.clone()),
            None => ((depth, rank, Digest(id.0)), BTreeSet::from([channel])),
        };
        let thing = things.entry(order).or_default();
        thing.channels = channels;
        thing.carriers.push((channel, *id));
        thing.parts.insert(channel, part.clone());
    }
    let (mut there, mut spent, mut effective) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    for thing in things.values() {
        let is_kept = |id: &EventId, channel: &ChannelId| {
            let replica = &shelf.0[channel];
            replica.events.get(id).unwrap().seq < replica.lane_of(id).unwrap().keep
        };
        let kept: Vec<_> = thing.carriers.iter().filter(|(channel, id)| is_kept(id, channel)).collect();
        let is_put = thing.channels.iter().all(|channel| kept.iter().any(|(here, _)| here == channel));
        let consumed = || thing.parts.values().flat_map(|part| &part.spending.consumed);
        let stands = is_put
            && consumed().all(|spends| !spent.contains(&spends.nullifier))
            && consumed().all(|spends| spends.commitment.is_none_or(|c| there.contains_key(&c)));
        effective.extend(thing.carriers.iter().map(|(_, id)| (*id, stands)));
        if stands {
            for spends in consumed() {
                spent.insert(spends.nullifier);
                spends.commitment.and_then(|commitment| there.remove(&commitment));
            }
            let made = thing.parts.values().flat_map(|part| &part.spending.created);
            there.extend(made.map(|made| (made.commitment, made.clone())));
        }
    }
    let mut owned: BTreeMap<(Identity, String), u128> = BTreeMap::new();
    for holding in there.values().filter_map(Holding::read) {
        let name = format!("{} in {}", holding.asset, holding.asset.channel());
        *owned.entry((holding.owner, name)).or_default() += holding.resource.quantity;
    }
    (effective, owned)
}

fn check(history: &History, shuffled: &[Event]) -> Result<(), TestCaseError> {
    let straight = Shelf::fill(&history.foundings, &history.events);
    let crooked = Shelf::fill(&history.foundings, shuffled);
    prop_assert_eq!(straight.roots(), crooked.roots());
    let (effective, owned) = model(history, &straight);
    for (id, expect) in &effective {
        let replica = straight.0.values().find(|replica| replica.contains(id)).unwrap();
        prop_assert_eq!(replica.settlements.is_effective(id), *expect);
    }
    let mut held: BTreeMap<(Identity, String), u128> = BTreeMap::new();
    for holding in straight.0.values().flat_map(Replica::holdings) {
        let name = format!("{} in {}", holding.asset, holding.asset.channel());
        *held.entry((holding.owner, name)).or_default() += holding.resource.quantity;
    }
    prop_assert_eq!(&held, &owned);
    Ok(())
}

fn histories() -> impl Strategy<Value = (Vec<Step>, Vec<Event>)> {
    steps().prop_flat_map(|steps| {
        let events = play(&steps).events;
        (Just(steps), Just(events).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn two_channels_in_every_order_agree_with_the_plain_model((steps, shuffled) in histories()) {
        check(&play(&steps), &shuffled)?;
    }
}

/// The same for as long as somebody likes: `MULTICHAT_HISTORIES` says how many.
#[test]
#[ignore = "runs for minutes"]
fn very_many_histories_of_two_channels_agree_with_the_plain_model() {
    let cases = std::env::var("MULTICHAT_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    runner.run(&histories(), |(steps, shuffled)| check(&play(&steps), &shuffled)).unwrap();
}

#[test]
fn the_random_histories_of_two_channels_are_eventful() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..60 {
        let history = play(&steps().new_tree(&mut runner).unwrap().current());
        let shelf = Shelf::fill(&history.foundings, &history.events);
        for event in &history.events {
            let Act::Settle { depth: Some(_), .. } = event.header.act else { continue };
            let is_effective = shelf.0[&event.channel()].settlements.is_effective(&event.id());
            *counts.entry(if is_effective { "carried out" } else { "void" }).or_default() += 1;
        }
    }
    for what in ["carried out", "void"] {
        assert!(counts.get(what).is_some_and(|count| *count >= 8), "{what}: {counts:?}");
    }
}

//! What becomes of settlements: attacks by name, and random histories against a plain model of the
//! rules, in every order of delivery.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::sample::{Author, founded, part_of, pasts, take};
use super::{Admission, Event, Replica};
use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::{Act, Ancestry, Joining, Standing};
use crate::chat::asset::{Asset, Holding};
use crate::chat::channel::{Change, JoinRule};
use crate::chat::logics::logics;
use crate::chat::market::{exchange, issue};
use crate::chat::ticket::{self, Redemption};
use crate::chat::token;
use crate::machine::intent::{Constraints, Intent};
use crate::machine::settlement::{Settlement, Spending};
use crate::machine::{Action, Resource};

fn gold(channel: ChannelId, issuer: &Author) -> Asset {
    Asset::Token(token::Label { channel, issuer: issuer.identity.public(), name: "gold".into() })
}

fn pass(channel: ChannelId, issuer: &Author) -> ticket::Label {
    ticket::Label {
        channel,
        issuer: issuer.identity.public(),
        name: "pass".into(),
        role: Role::Member,
        expires: Timestamp(1_000_000),
        price: None,
    }
}

fn sign(by: &Author, action: Action) -> Intent {
    Intent::sign(vec![action], Constraints::until(Timestamp(1_000_000)), &by.identity, logics()).unwrap()
}

fn settle_act(intents: Vec<Intent>) -> Act {
    Act::Settle { settlement: Settlement::of(intents), depth: None }
}

fn owned(replica: &Replica) -> Vec<Holding> {
    replica.holdings().collect()
}

fn balance(replica: &Replica, who: &Author, asset: &Asset) -> u128 {
    let theirs = owned(replica).into_iter();
    let theirs = theirs.filter(|h| h.owner == who.identity.public() && h.asset == *asset);
    theirs.map(|holding| holding.resource.quantity).sum()
}

fn mint(by: &Author, asset: &Asset, quantity: u128, salt: u8) -> Intent {
    sign(by, issue(asset, quantity, Digest([salt; 32])).unwrap())
}

fn give(replica: &Replica, by: &Author, asset: &Asset, quantity: u128, to: &Author) -> Intent {
    let takes = [(asset.clone(), quantity, to.identity.public())];
    sign(by, exchange(by.identity.public(), &owned(replica), &(asset.clone(), quantity), &takes).unwrap())
}

fn swap(replica: &Replica, by: &Author, gives: (&Asset, u128), takes: (&Asset, u128)) -> Intent {
    let owner = by.identity.public();
    let takes = [(takes.0.clone(), takes.1, owner)];
    sign(by, exchange(owner, &owned(replica), &(gives.0.clone(), gives.1), &takes).unwrap())
}

/// A channel of a founder and two members, on a replica each.
struct Fair {
    founder: Author,
    one: Author,
    two: Author,
    left: Replica,
    right: Replica,
    events: Vec<Event>,
    at: u64,
}

impl Fair {
    fn new() -> Self {
        let (founder, one, two) = (Author::new("founder"), Author::new("one"), Author::new("two"));
        let (left, founding) = founded(&founder);
        let (right, _) = Replica::found(&founding, 1).unwrap();
        let mut fair = Self { founder, one, two, left, right, events: vec![founding], at: 2_000 };
        for member in [fair.one.clone(), fair.two.clone()] {
            fair.both(&member, member.join());
        }
        fair
    }

    fn id(&self) -> ChannelId {
        self.left.id()
    }

    /// Somebody does something, and both replicas know.
    fn both(&mut self, by: &Author, act: Act) -> Event {
        self.at += 10;
        let event = by.act(&mut self.left, self.at, act);
        take(&mut self.right, &event);
        self.events.push(event.clone());
        event
    }

    /// Two people do something without knowing of each other; then both replicas know.
    fn at_once(&mut self, one: (&Author, Act), other: (&Author, Act)) -> (Event, Event) {
        self.at += 10;
        let first = one.0.act(&mut self.left, self.at, one.1);
        let second = other.0.act(&mut self.right, self.at, other.1);
        take(&mut self.left, &second);
        take(&mut self.right, &first);
        self.events.extend([first.clone(), second.clone()]);
        (first, second)
    }

    /// Whether each is effective, the same on replicas that took all in in other orders.
    fn effective(&self, events: &[&Event]) -> Vec<bool> {
        let verdicts = |replica: &Replica| -> Vec<bool> {
            events.iter().map(|event| replica.is_effective(&event.id())).collect()
        };
        let reversed: Vec<Event> =
            self.events[..1].iter().chain(self.events[1..].iter().rev()).cloned().collect();
        let again = replay(&reversed);
        for replica in [&self.right, &again] {
            assert_eq!(replica.root(), self.left.root());
            assert_eq!(verdicts(replica), verdicts(&self.left));
        }
        verdicts(&self.left)
    }

    fn refused(&mut self, by: &Author, act: Act) -> String {
        let event = by.sign(by.draft(&self.left, self.at, act));
        match self.left.admit(&event, 99) {
            Admission::Refused(invalid) => invalid.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// Offers events in an order, again and again, until all are in.
fn replay(events: &[Event]) -> Replica {
    let (mut replica, _) = Replica::found(&events[0], 1).unwrap();
    let mut order: Vec<&Event> = events[1..].iter().collect();
    while !order.is_empty() {
        let before = order.len();
        order.retain(|event| match replica.admit(event, replica.len() as u64 + 1) {
            Admission::Waiting(_) => true,
            Admission::Refused(invalid) => panic!("{invalid}"),
            _ => false,
        });
        assert!(order.len() < before);
    }
    replica
}

#[test]
fn tokens_are_issued_passed_on_and_swapped() {
    let mut fair = Fair::new();
    let (one, two) = (fair.one.clone(), fair.two.clone());
    let (a, b) = (gold(fair.id(), &one), gold(fair.id(), &two));
    fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    fair.both(&two, settle_act(vec![mint(&two, &b, 10, 1)]));
    let gift = give(&fair.left, &one, &a, 3, &two);
    fair.both(&one, settle_act(vec![gift]));
    assert_eq!([balance(&fair.left, &one, &a), balance(&fair.left, &two, &a)], [7, 3]);
    let (mine, theirs) = (swap(&fair.left, &one, (&a, 5), (&b, 2)), swap(&fair.left, &two, (&b, 2), (&a, 5)));
    // A solver who owns nothing puts it there.
    let founder = fair.founder.clone();
    fair.both(&founder, settle_act(vec![mine, theirs]));
    assert_eq!([balance(&fair.left, &one, &a), balance(&fair.left, &two, &a)], [2, 8]);
    assert_eq!([balance(&fair.left, &one, &b), balance(&fair.left, &two, &b)], [2, 8]);
}

/// Attack: one coin is given to two at once, and to a third by whoever saw both.
#[test]
fn double_settlement() {
    let mut fair = Fair::new();
    let (one, two, founder) = (fair.one.clone(), fair.two.clone(), fair.founder.clone());
    let a = gold(fair.id(), &one);
    fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    let to_two = settle_act(vec![give(&fair.left, &one, &a, 10, &two)]);
    let to_founder = settle_act(vec![give(&fair.left, &one, &a, 10, &founder)]);
    let third = settle_act(vec![give(&fair.left, &one, &a, 9, &founder)]);
    let (low, high) = fair.at_once((&founder, to_founder), (&two, to_two.clone()));
    assert_eq!(fair.effective(&[&low, &high]), [true, false], "the lower rank put it there");
    let later = fair.both(&founder, third);
    let again = fair.both(&two, to_two);
    assert_eq!(fair.effective(&[&low, &high, &later, &again]), [true, false, false, false]);
    assert_eq!(balance(&fair.left, &founder, &a), 10);
}

/// Competing solvers: the same intents, settled by two, are carried out once.
#[test]
fn competing_solvers_settle_once() {
    let mut fair = Fair::new();
    let (one, two, founder) = (fair.one.clone(), fair.two.clone(), fair.founder.clone());
    let (a, b) = (gold(fair.id(), &one), gold(fair.id(), &two));
    fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    fair.both(&two, settle_act(vec![mint(&two, &b, 10, 1)]));
    let mine = swap(&fair.left, &one, (&a, 10), (&b, 10));
    let theirs = swap(&fair.left, &two, (&b, 10), (&a, 10));
    let deal = settle_act(vec![mine, theirs]);
    let (first, second) = fair.at_once((&founder, deal.clone()), (&two, deal.clone()));
    assert_eq!(fair.effective(&[&first, &second]), [true, false]);
    assert_eq!((balance(&fair.left, &one, &b), balance(&fair.left, &two, &a)), (10, 10));
    // The founder forks their lane at the settlement: the other one stands instead.
    let mut rival = first.header.clone();
    rival.act = Act::UpdateChannel(Change::Topic("fork".into()));
    let rival = founder.sign(rival);
    take(&mut fair.left, &rival);
    take(&mut fair.right, &rival);
    fair.events.push(rival);
    assert_eq!(fair.effective(&[&first, &second]), [false, true]);
    assert_eq!((balance(&fair.left, &one, &b), balance(&fair.left, &two, &a)), (10, 10));
}

/// What rests on a settlement that falls, falls with it, and can be done anew.
#[test]
fn dependents_fall_and_stand_with_what_they_rest_on() {
    let mut fair = Fair::new();
    let (one, two, founder) = (fair.one.clone(), fair.two.clone(), fair.founder.clone());
    let a = gold(fair.id(), &one);
    fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    let to_two = settle_act(vec![give(&fair.left, &one, &a, 10, &two)]);
    let to_founder = settle_act(vec![give(&fair.left, &one, &a, 10, &founder)]);
    // Two gets the coin and passes it on, before they know that it was given away already.
    fair.at += 10;
    let got = two.act(&mut fair.right, fair.at, to_two);
    let on = settle_act(vec![give(&fair.right, &two, &a, 10, &one)]);
    let passed = two.act(&mut fair.right, fair.at, on);
    fair.events.extend([got.clone(), passed.clone()]);
    let won = founder.act(&mut fair.left, fair.at, to_founder);
    fair.events.push(won.clone());
    for event in [&got, &passed] {
        take(&mut fair.left, event);
    }
    assert!(fair.right.is_effective(&passed.id()), "as far as that replica knows");
    take(&mut fair.right, &won);
    assert_eq!(fair.effective(&[&won, &got, &passed]), [true, false, false]);
    assert_eq!(balance(&fair.right, &founder, &a), 10);
}

/// Attack: what was signed for one channel is settled in another, or again in its own.
#[test]
fn replay_in_another_channel() {
    let mut fair = Fair::new();
    let one = fair.one.clone();
    let elsewhere = Author::new("elsewhere").founding("#elsewhere").channel();
    let foreign = gold(elsewhere, &one);
    let said = fair.refused(&one, settle_act(vec![mint(&one, &foreign, 10, 1)]));
    assert!(said.contains("in their own channel"), "{said}");
    let a = gold(fair.id(), &one);
    let minted = mint(&one, &a, 10, 1);
    let first = fair.both(&one, settle_act(vec![minted.clone()]));
    let again = fair.both(&one, settle_act(vec![minted]));
    assert_eq!(fair.effective(&[&first, &again]), [true, false]);
    assert_eq!(balance(&fair.left, &one, &a), 10);
}

/// Attack: a nonce that was used makes the same coin a second time, in another transaction.
#[test]
fn nonce_reuse() {
    let mut fair = Fair::new();
    let (one, a) = (fair.one.clone(), gold(fair.id(), &fair.one));
    let first = fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    let other = Intent::sign(
        vec![issue(&a, 10, Digest([1; 32])).unwrap()],
        Constraints::until(Timestamp(999_999)),
        &one.identity,
        logics(),
    );
    let second = fair.both(&one, settle_act(vec![other.unwrap()]));
    assert_eq!(fair.effective(&[&first, &second]), [true, false], "one nullifier, one coin");
}

/// Attack: a solver settles what nobody issued, half of a deal, or what it changed.
#[test]
fn solver_cheating() {
    let mut fair = Fair::new();
    let (one, two, founder) = (fair.one.clone(), fair.two.clone(), fair.founder.clone());
    let (a, b) = (gold(fair.id(), &one), gold(fair.id(), &two));
    fair.both(&one, settle_act(vec![mint(&one, &a, 10, 1)]));
    fair.both(&two, settle_act(vec![mint(&two, &b, 10, 1)]));
    let mine = swap(&fair.left, &one, (&a, 10), (&b, 10));
    let theirs = swap(&fair.left, &two, (&b, 10), (&a, 10));
    let half = fair.refused(&founder, settle_act(vec![mine.clone()]));
    assert!(half.contains("do not balance"), "{half}");
    let mut bent = theirs.clone();
    bent.constraints.expires = Timestamp(u64::MAX);
    let said = fair.refused(&founder, settle_act(vec![mine.clone(), bent]));
    assert!(said.contains("as its author signed it"), "{said}");
    let mut skimmed = theirs;
    skimmed.transaction.actions[0].created[0].resource.quantity = 9;
    let said = fair.refused(&founder, settle_act(vec![mine, skimmed]));
    assert!(said.contains("as its author signed it"), "{said}");
    // A coin that was never issued, though its owner says so.
    let phantom = Holding { asset: a.clone(), owner: one.identity.public(), resource: Resource::default() };
    let made = issue(&a, 5, Digest([9; 32])).unwrap().created[0].resource;
    let phantom = Holding { resource: Resource { nonce: Digest([9; 32]), ..made }, ..phantom };
    let takes = [(a.clone(), 5, two.identity.public())];
    let spends = exchange(one.identity.public(), &[phantom], &(a, 5), &takes).unwrap();
    let said = fair.refused(&one, settle_act(vec![sign(&one, spends)]));
    assert!(said.contains("created in the past"), "{said}");
}

/// Attack: resources of the chat inside a settlement, with an invented word about who acts.
#[test]
fn forged_compliance() {
    let mut fair = Fair::new();
    let one = fair.one.clone();
    let founding = fair.events[0].clone();
    let setting = crate::chat::build::Setting {
        event: founding.id(),
        channel: fair.id(),
        identity: one.identity.public(),
        device: one.device.public(),
        role: Role::Founder,
        granted: None,
        target_author: None,
        timestamp: Timestamp(1_000),
        payload: None,
    };
    let ancestry = Ancestry::default();
    let (name, topic) = ("#sample".parse().unwrap(), String::new());
    let act = Act::CreateChannel { name, topic, founder: one.joining(), ancestry };
    let mut action = crate::chat::build::action(&act, &setting, None).unwrap();
    action.consumed.iter_mut().for_each(|input| input.app_data.external.clear());
    let signed = Intent::sign(vec![action], Constraints::until(Timestamp(9_999)), &one.identity, logics());
    assert!(signed.is_err(), "an access without a word about who acts");
    // Signed by hand, past what `Intent::sign` checks, it is no asset all the same.
    let mut intent = mint(&one, &gold(fair.id(), &one), 1, 1);
    intent.transaction.actions = vec![crate::chat::build::action(&act, &setting, None).unwrap()];
    let said = fair.refused(&one, settle_act(vec![intent]));
    assert!(said.contains("of tokens and tickets"), "{said}");
}

fn redeem(by: &Author, label: &ticket::Label, resource: Resource) -> Act {
    let ticket = Box::new(Redemption { label: label.clone(), resource });
    Act::RedeemTicket { joining: by.joining(), ticket }
}

fn ticket_of(replica: &Replica, who: &Author) -> Resource {
    owned(replica).into_iter().find(|h| h.owner == who.identity.public()).unwrap().resource
}

#[test]
fn a_ticket_opens_a_closed_door_once_for_each_use() {
    let mut fair = Fair::new();
    let (founder, guest, other) = (fair.founder.clone(), Author::new("guest"), Author::new("other"));
    fair.both(&founder, Act::UpdateChannel(Change::Join(JoinRule::Ticket)));
    let label = pass(fair.id(), &founder);
    let asset = Asset::Ticket(label.clone());
    fair.both(&founder, settle_act(vec![mint(&founder, &asset, 2, 1)]));
    let gift = give(&fair.left, &founder, &asset, 2, &guest);
    fair.both(&founder, settle_act(vec![gift]));
    let uninvited = fair.both(&other, other.join());
    let ticket = ticket_of(&fair.left, &guest);
    let stolen = fair.refused(&other, redeem(&other, &label, ticket));
    assert!(stolen.contains("commit") || stolen.contains("past"), "{stolen}");
    let used = fair.both(&guest, redeem(&guest, &label, ticket));
    assert_eq!(fair.effective(&[&uninvited, &used]), [false, true]);
    assert!(fair.left.state().is_member(&guest.identity.public()));
    assert_eq!(balance(&fair.left, &guest, &asset), 1, "one use is left");
    fair.both(&guest, Act::LeaveChannel { reason: String::new() });
    // The same ticket on two devices at once lets one in.
    let (rest, laptop) = (ticket_of(&fair.left, &guest), guest.on("laptop"));
    let (one, two) =
        fair.at_once((&guest, redeem(&guest, &label, rest)), (&laptop, redeem(&laptop, &label, rest)));
    let verdicts = fair.effective(&[&one, &two]);
    assert_eq!(verdicts.iter().filter(|stands| **stands).count(), 1);
    assert!(fair.left.state().is_member(&guest.identity.public()));
    assert_eq!(balance(&fair.left, &guest, &asset), 0);
}

#[test]
fn what_is_done_on_a_lane_that_a_used_ticket_opened_is_void() {
    let mut fair = Fair::new();
    let (founder, guest) = (fair.founder.clone(), Author::new("guest"));
    let laptop = guest.on("laptop");
    let label = pass(fair.id(), &founder);
    let asset = Asset::Ticket(label.clone());
    fair.both(&founder, settle_act(vec![mint(&founder, &asset, 1, 1)]));
    let gift = give(&fair.left, &founder, &asset, 1, &guest);
    fair.both(&founder, settle_act(vec![gift]));
    let ticket = ticket_of(&fair.left, &guest);
    // Each device comes in, issues something and passes it on, before it knows of the other.
    let (a, at) = (gold(fair.id(), &guest), fair.at + 10);
    let act = |author: &Author, replica: &mut Replica, salt: u8| {
        let opened = author.act(replica, at, redeem(author, &label, ticket));
        let minted = author.act(replica, at, settle_act(vec![mint(&guest, &a, 5, salt)]));
        let gift = give(replica, &guest, &a, 5, &founder);
        let given = author.act(replica, at, settle_act(vec![gift]));
        [opened, minted, given]
    };
    let mine = act(&guest, &mut fair.left, 1);
    let theirs = act(&laptop, &mut fair.right, 2);
    mine.iter().for_each(|event| take(&mut fair.right, event));
    theirs.iter().for_each(|event| take(&mut fair.left, event));
    fair.events.extend(mine.iter().chain(&theirs).cloned());
    let verdicts = [&mine, &theirs].map(|events| fair.effective(&events.iter().collect::<Vec<_>>()));
    assert!(verdicts.contains(&vec![true; 3]) && verdicts.contains(&vec![false; 3]), "{verdicts:?}");
    assert_eq!(balance(&fair.left, &founder, &a), 5, "of one lane");
    assert_eq!(balance(&fair.right, &founder, &a), 5);
}

#[test]
fn tickets_of_ordinary_members_and_of_the_removed_let_nobody_in() {
    let mut fair = Fair::new();
    let (founder, one, guest) = (fair.founder.clone(), fair.one.clone(), Author::new("guest"));
    fair.both(&founder, Act::UpdateChannel(Change::Join(JoinRule::Ticket)));
    let label = pass(fair.id(), &one);
    let asset = Asset::Ticket(label.clone());
    fair.both(&one, settle_act(vec![mint(&one, &asset, 3, 1)]));
    let gift = give(&fair.left, &one, &asset, 3, &guest);
    fair.both(&one, settle_act(vec![gift]));
    let first = redeem(&guest, &label, ticket_of(&fair.left, &guest));
    let first = fair.both(&guest, first);
    assert_eq!(fair.effective(&[&first]), [false], "a member's ticket is worth nothing here");
    // As a moderator they invite; what was void stays so, for its author knew no grant.
    let role = Role::Moderator;
    fair.both(&founder, Act::GrantRole { subject: one.identity.public(), role, expires: None });
    assert_eq!(fair.effective(&[&first]), [false]);
    let second = redeem(&guest, &label, ticket_of(&fair.left, &guest));
    let second = fair.both(&guest, second);
    assert_eq!(fair.effective(&[&first, &second]), [false, true]);
    // Removed, they invite no more; whoever came in before stays.
    let late = redeem(&guest, &label, ticket_of(&fair.left, &guest));
    let subject = one.identity.public();
    let then = Standing::Out;
    fair.both(&founder, Act::RevokeRole { subject, then, reason: String::new() });
    let laptop = guest.on("laptop");
    let Act::RedeemTicket { ticket, .. } = late else { panic!() };
    let joining: Joining = laptop.joining();
    let third = fair.both(&laptop, Act::RedeemTicket { joining, ticket });
    assert_eq!(fair.effective(&[&first, &second, &third]), [false, true, false]);
}

/// What one author of a random history does at one step.
#[derive(Clone, Debug)]
struct Step {
    author: usize,
    does: u8,
    to: usize,
    quantity: u128,
    /// Takes in what the others did before.
    looks: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..5, 0u8..18, 0usize..5, 1u128..6, prop::bool::weighted(0.6));
    let step =
        step.prop_map(|(author, does, to, quantity, looks)| Step { author, does, to, quantity, looks });
    prop::collection::vec(step, 1..60)
}

fn authors() -> Vec<Author> {
    let one = Author::new("one");
    vec![Author::new("founder"), one.clone(), one.on("laptop"), Author::new("two"), Author::new("guest")]
}

/// Plays a history in which each author has a replica of their own. Everybody issues, gives, swaps (each
/// intent is settled by whoever finds it, by several, or never), uses tickets, forks, removes.
fn play(steps: &[Step]) -> Vec<Event> {
    let authors = authors();
    let (_, founding) = founded(&authors[0]);
    let mut replicas: Vec<Replica> =
        authors.iter().map(|_| Replica::found(&founding, 1).unwrap().0).collect();
    let (id, mut events, mut pool) = (founding.channel(), vec![founding], Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let (by, to) = (&authors[step.author], &authors[step.to]);
        let replica = &mut replicas[step.author];
        if step.looks || step.does > 12 {
            events.iter().for_each(|event| drop(replica.admit(event, replica.len() as u64 + 1)));
        }
        let act = if replica.live_lane(&by.device.public()).is_none() {
            let held = owned(replica).into_iter().find_map(|holding| match &holding.asset {
                Asset::Ticket(label) if holding.owner == by.identity.public() => {
                    Some(redeem(by, label, holding.resource))
                }
                _ => None,
            });
            Some(held.unwrap_or_else(|| by.join()))
        } else {
            random_act(replica, step, (by, to), (id, number as u8), &mut pool)
        };
        let Some(act) = act else { continue };
        let header = by.draft(replica, 2_000 + number as u64, act);
        let event = by.sign(header);
        if let Admission::Accepted(_) = replica.admit(&event, replica.len() as u64 + 1) {
            if step.does == 0 && event.header.seq > 0 {
                let mut rival = event.header.clone();
                rival.act = Act::LeaveChannel { reason: "fork".into() };
                events.push(by.sign(rival));
            }
            events.push(event);
        }
    }
    events
}

fn random_act(
    replica: &Replica,
    step: &Step,
    (by, to): (&Author, &Author),
    (id, salt): (ChannelId, u8),
    pool: &mut Vec<(Intent, Asset, Asset)>,
) -> Option<Act> {
    let me = by.identity.public();
    let mine: Vec<Holding> = owned(replica).into_iter().filter(|holding| holding.owner == me).collect();
    let coin = |asset: &Asset| (asset.clone(), step.quantity);
    match step.does {
        0..=2 => Some(settle_act(vec![mint(by, &gold(id, by), step.quantity, salt)])),
        3 => Some(settle_act(vec![mint(by, &Asset::Ticket(pass(id, by)), step.quantity, salt)])),
        4 | 5 => {
            let holding = mine.get(step.to % mine.len().max(1))?;
            let takes = [(holding.asset.clone(), step.quantity, to.identity.public())];
            let action = exchange(me, &mine, &coin(&holding.asset), &takes).ok()?;
            Some(settle_act(vec![sign(by, action)]))
        }
        6 | 7 | 13..=15 => {
            // Somebody's offer is answered by whoever owns what it wants; else there is a new one.
            let answered = pool.iter().rev().find_map(|(_, gives, wants)| {
                let owns = mine.iter().any(|holding| holding.asset == *wants);
                owns.then(|| (wants.clone(), gives.clone()))
            });
            let fresh = || Some((mine.first()?.asset.clone(), gold(id, to)));
            let (gives, wants) = answered.or_else(fresh)?;
            let takes = [(wants.clone(), 1, me)];
            let action = exchange(me, &mine, &(gives.clone(), 1), &takes).ok()?;
            pool.push((sign(by, action), gives, wants));
            None
        }
        8..=10 | 16.. => {
            let market = crate::machine::solver::Market {
                solver: me,
                at: Timestamp(2_000 + u64::from(salt)),
                logics: logics(),
                proving: &crate::machine::Transparent,
            };
            let intents: Vec<Intent> = pool.iter().map(|(intent, ..)| intent.clone()).collect();
            let found = crate::machine::solver::solve(&intents, &market, Default::default());
            found.settlements.into_iter().next().map(|settlement| Act::Settle { settlement, depth: None })
        }
        _ if step.author == 0 && step.to != 0 => {
            let (subject, then) = (to.identity.public(), Standing::Out);
            Some(Act::RevokeRole { subject, then, reason: String::new() })
        }
        _ => mine.into_iter().find_map(|holding| match &holding.asset {
            Asset::Ticket(label) => Some(redeem(by, label, holding.resource)),
            Asset::Token(_) => None,
        }),
    }
}

/// The rules as they are written, with every past as a set: slow, and plain to see.
struct Model {
    effective: BTreeMap<EventId, bool>,
    owned: BTreeMap<(Identity, String), u128>,
}

impl Model {
    /// `is_kept` is what rules R1 to R6 say of an event.
    fn of(events: &[Event], replica: &Replica, is_kept: impl Fn(&EventId) -> bool) -> Self {
        let by_id: BTreeMap<EventId, &Event> = events.iter().map(|event| (event.id(), event)).collect();
        let pasts = pasts(&by_id);
        let spendings: BTreeMap<EventId, Spending> =
            by_id.iter().filter_map(|(id, event)| Some((*id, part_of(event, replica)?.spending))).collect();
        let places = places(&spendings, &pasts, replica);
        let mut order: Vec<EventId> = places.keys().copied().collect();
        order.sort_by_key(|id| places[id]);
        let (mut there, mut spent) = (BTreeMap::new(), BTreeSet::new());
        let mut effective = BTreeMap::new();
        for id in order {
            let spending = &spendings[&id];
            let opening = replica.lane_of(&id).unwrap().opening;
            let stands = is_kept(&id)
                && (opening == id || effective.get(&opening).copied().unwrap_or(true))
                && spending.consumed.iter().all(|s| !spent.contains(&s.nullifier))
                && spending.consumed.iter().all(|s| s.commitment.is_none_or(|c| there.contains_key(&c)));
            effective.insert(id, stands);
            if stands {
                for consumed in &spending.consumed {
                    spent.insert(consumed.nullifier);
                    consumed.commitment.and_then(|commitment| there.remove(&commitment));
                }
                there.extend(spending.created.iter().map(|made| (made.commitment, made.clone())));
            }
        }
        let mut owned: BTreeMap<(Identity, String), u128> = BTreeMap::new();
        for holding in there.values().filter_map(Holding::read) {
            *owned.entry((holding.owner, holding.asset.to_string())).or_default() +=
                holding.resource.quantity;
        }
        Self { effective, owned }
    }
}

fn places(
    spendings: &BTreeMap<EventId, Spending>,
    pasts: &BTreeMap<EventId, BTreeSet<EventId>>,
    replica: &Replica,
) -> BTreeMap<EventId, (u32, u32, EventId)> {
    let mut places: BTreeMap<EventId, (u32, u32, EventId)> = BTreeMap::new();
    // Deeper ones have more in their past, so so many rounds are enough.
    while places.len() < spendings.len() {
        for (id, spending) in spendings {
            let lane = replica.lane_of(id).unwrap();
            let related = |other: &EventId| {
                let Some(before) = spendings.get(other) else { return false };
                *other == lane.opening
                    || spending.consumed.iter().any(|mine| {
                        before.consumed.iter().any(|theirs| theirs.nullifier == mine.nullifier)
                            || before.created.iter().any(|made| mine.commitment == Some(made.commitment))
                    })
            };
            let before: Vec<&EventId> = pasts[id].iter().filter(|other| related(other)).collect();
            if before.iter().all(|other| places.contains_key(other)) {
                let depth = before.iter().map(|other| places[other].0 + 1).max().unwrap_or(0);
                places.insert(*id, (depth, lane.rank, *id));
            }
        }
    }
    places
}

fn check(events: &[Event], shuffled: &[Event]) -> Result<usize, TestCaseError> {
    let straight = replay(events);
    let crooked = replay(shuffled);
    prop_assert_eq!(straight.root(), crooked.root());
    for replica in [&straight, &crooked] {
        let is_kept = |id: &EventId| {
            let lane = replica.lane_of(id).unwrap();
            replica.events.get(id).unwrap().seq < lane.keep
        };
        let model = Model::of(events, replica, is_kept);
        for (event, expect) in &model.effective {
            prop_assert_eq!(replica.settlements.is_effective(event), *expect);
        }
        let mut held: BTreeMap<(Identity, String), u128> = BTreeMap::new();
        for holding in replica.holdings() {
            prop_assert!(replica.is_unspent(&holding.resource.commitment()));
            *held.entry((holding.owner, holding.asset.to_string())).or_default() += holding.resource.quantity;
        }
        prop_assert_eq!(&held, &model.owned);
    }
    Ok(straight.holdings().count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_order_of_delivery_agrees_with_the_plain_model(
        (events, shuffled) in steps().prop_flat_map(|steps| {
            let events = play(&steps);
            let rest = Just(events[1..].to_vec()).prop_shuffle();
            (Just(events.clone()), rest.prop_map(move |rest| [&events[..1], &rest].concat()))
        }),
    ) {
        check(&events, &shuffled)?;
    }
}

/// The same for as long as somebody likes: `MULTICHAT_HISTORIES` says how many.
#[test]
#[ignore = "runs for minutes"]
fn very_many_histories_agree_with_the_plain_model() {
    let cases = std::env::var("MULTICHAT_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let histories = steps().prop_flat_map(|steps| {
        let events = play(&steps);
        let rest = Just(events[1..].to_vec()).prop_shuffle();
        (Just(events.clone()), rest.prop_map(move |rest| [&events[..1], &rest].concat()))
    });
    runner.run(&histories, |(events, shuffled)| check(&events, &shuffled).map(drop)).unwrap();
}

#[test]
fn the_random_histories_are_eventful() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..120 {
        let events = play(&steps().new_tree(&mut runner).unwrap().current());
        let replica = replay(&events);
        for event in &events {
            let is_effective = replica.settlements.is_effective(&event.id());
            let what = match (&event.header.act, is_effective) {
                (Act::Settle { settlement, .. }, true) if settlement.intents.len() > 1 => "deals",
                (Act::Settle { .. }, true) => "settled",
                (Act::Settle { .. }, false) => "void",
                (Act::RedeemTicket { .. }, true) => "let in",
                (Act::RedeemTicket { .. }, false) => "kept out",
                _ => continue,
            };
            *counts.entry(what).or_default() += 1;
        }
    }
    for (what, least) in [("settled", 300), ("void", 20), ("deals", 10), ("let in", 3), ("kept out", 1)] {
        assert!(counts.get(what).is_some_and(|count| *count >= least), "{what}: {counts:?}");
    }
}

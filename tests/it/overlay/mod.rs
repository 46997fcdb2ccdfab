//! The overlays under virtual time: every honest node gets every payload once, whatever happens to links,
//! nodes and time; attacks; and the same seed gives the same report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use multichat::base::{NodeId, Timestamp};
use multichat::overlay::chance::Chance;
use multichat::overlay::sim::{self, Attack, Outcome, Scenario, Shape};
use multichat::overlay::topology::mesh::Mesh;
use multichat::overlay::topology::structured::Structured;
use multichat::overlay::topology::tree::{self, Tree};
use multichat::overlay::topology::{
    Contact, Data, Frame, Input, Message, Output, Pace, Payload, Route, Selection, Targets, Topology,
};
use proptest::prelude::*;

mod wild;

const SHAPES: [Shape; 4] = [Shape::Mesh, Shape::Tree, Shape::Gossip, Shape::Structured];

fn small(shape: Shape, seed: u64) -> Scenario {
    let nodes = if shape == Shape::Mesh { 24 } else { 60 };
    Scenario { nodes, domains: 1, shape, minutes: 2.0, seed, trial_ms: None, ..Scenario::default() }
}

fn percent(outcome: &Outcome) -> f64 {
    outcome.delivery * 100.0
}

#[test]
fn every_topology_delivers_everything_through_churn() {
    for shape in SHAPES {
        let outcome = sim::run(&small(shape, 7));
        assert!(outcome.messages > 40 && outcome.owed > 500, "{shape:?}: {outcome:?}");
        assert_eq!(outcome.delivered, outcome.owed, "{shape:?}");
    }
}

#[test]
fn what_frames_lose_anti_entropy_brings() {
    for shape in [Shape::Mesh, Shape::Tree, Shape::Structured] {
        let outcome = sim::run(&Scenario { loss: 0.05, churn: false, ..small(shape, 3) });
        assert_eq!(outcome.delivered, outcome.owed, "{shape:?}: {}", percent(&outcome));
    }
}

#[test]
fn a_partition_heals() {
    let scenario =
        Scenario { attack: Some(Attack::Partition), minutes: 4.0, churn: false, ..small(Shape::Tree, 5) };
    let outcome = sim::run(&scenario);
    assert!(outcome.timely < 1.0, "nothing was parted: {outcome:?}");
    assert_eq!(outcome.delivered, outcome.owed, "{}", percent(&outcome));
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another() {
    for shape in [Shape::Tree, Shape::Gossip, Shape::Structured, Shape::Star] {
        let scenario = Scenario { domains: 2, attack: Some(Attack::Flash), ..small(shape, 11) };
        let report = |scenario: &Scenario| serde_json::to_string(&sim::run(scenario)).unwrap();
        let one = report(&scenario);
        assert_eq!(one, report(&scenario), "{shape:?}");
        assert_ne!(one, report(&Scenario { seed: 12, ..scenario.clone() }), "{shape:?}");
    }
}

/// The founding requirement: 40% of a domain's members turn malicious in mid-run.
#[test]
fn a_domain_survives_when_two_fifths_of_its_members_turn() {
    let scenario = Scenario {
        nodes: 200,
        domains: 4,
        minutes: 8.0,
        attack: Some(Attack::Flash),
        adversarial: 0.4,
        rate_per_s: 0.3,
        seed: 4,
        ..Scenario::default()
    };
    let outcome = sim::run(&scenario);
    assert!(outcome.delivery_attacked >= 0.999, "{}", outcome.delivery_attacked);
    let (before, lowest) = (outcome.serving_before.unwrap(), outcome.serving_lowest.unwrap());
    assert!(before > 0.85 && lowest < 0.65, "the damage is seen: {before} {lowest}");
    assert!(outcome.volunteers_most > 0, "volunteers come");
    assert!(outcome.serving_end.unwrap() > lowest + 0.05, "and members see it: {:?}", outcome.serving_end);
    // What members cannot know and the simulator does: honest members of all.
    let real = |at_ms: u64| {
        let looks = outcome.health.iter().filter(|(domain, at, ..)| *domain == 0 && *at >= at_ms);
        looks.map(|(_, _, _, real, _)| *real).next().unwrap()
    };
    let attack_ms = outcome.scenario.attack_ms();
    assert!(real(attack_ms + 10_000) < 0.7, "{}", real(attack_ms + 10_000));
    assert!(real(outcome.scenario.end_ms() - 20_000) > 0.74, "{}", real(outcome.scenario.end_ms() - 20_000));
}

#[test]
fn sybils_and_eclipses_do_not_cut_anyone_off() {
    for attack in [Attack::Sybil, Attack::Eclipse] {
        let scenario = Scenario {
            nodes: 120,
            domains: 2,
            minutes: 4.0,
            attack: Some(attack),
            adversarial: 0.3,
            rate_per_s: 0.5,
            ..Scenario::default()
        };
        let outcome = sim::run(&scenario);
        assert!(outcome.delivery_attacked >= 0.999, "{attack:?}: {}", percent(&outcome));
    }
}

fn contact(n: u8) -> Contact {
    let mut id = *blake3::hash(&[n]).as_bytes();
    id[31] = n;
    let route = Route { at: SocketAddr::from(([20 + n % 200, n, 0, 1], 7700)), quic: true };
    Contact { node: NodeId(id), routes: Arc::new([route]) }
}

fn selections() -> impl Strategy<Value = Selection> {
    let data = prop_oneof![Just(Data::Payload), Just(Data::Id), Just(Data::UpTo(64))];
    let targets = prop_oneof![Just(Targets::Tree), Just(Targets::Flood), Just(Targets::Lazy)];
    let pace = prop_oneof![Just(Pace::Now), (1..80u64).prop_map(Pace::Batched)];
    (data, targets, pace).prop_map(|(data, targets, pace)| Selection { data, targets, pace })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Under loss, reordering, broken links and a partition that heals; every selection; no world but this.
    #[test]
    fn everyone_gets_every_payload_once(seed: u64, loss in 0..20u32, selection in selections(), kind in 0..3u8) {
        let make = |own: Contact, n: u8| -> Box<dyn Topology> {
            let chance = *blake3::hash(&[&seed.to_le_bytes()[..], &[n]].concat()).as_bytes();
            match kind {
                0 => Box::new(Mesh::new(own, selection, chance, Timestamp(0))),
                1 => {
                    let settings = tree::Settings { selection, active: 4, active_most: 5, ..tree::Settings::default() };
                    Box::new(Tree::new(own, settings, chance, Timestamp(0)))
                }
                _ => Box::new(Structured::new(own, vec![[7; 32]], chance, Timestamp(0))),
            }
        };
        wild::run(seed, f64::from(loss) / 100.0, &make)?;
    }

    /// Whatever a peer sends, and in whatever state, nothing panics and what waits stays bounded.
    #[test]
    fn nonsense_from_peers_is_borne(seed: u64, kind in 0..4u8) {
        wild::bear_nonsense(seed, kind);
    }
}

/// Domains that members enter one after the other, phones and laptops that come and go: nothing is lost between
/// domains, nobody stays alone, old payloads do not go round again, and links are not made to be closed.
#[test]
fn domains_with_gateways_and_churn_lose_nothing_and_cost_little() {
    let scenario = Scenario { nodes: 120, domains: 6, minutes: 3.0, seed: 7, ..Scenario::default() };
    let outcome = sim::run(&scenario);
    assert!(outcome.owed > 10_000, "{outcome:?}");
    assert_eq!(outcome.delivered, outcome.owed, "{}", percent(&outcome));
    assert!(outcome.timely >= 0.999, "{}", outcome.timely);
    assert!(outcome.wire_per_payload < 3.8, "{} {:?}", outcome.wire_per_payload, outcome.purposes);
    assert!(outcome.mean_hops < 9.0 && outcome.p99_ms < 1_500, "{} {}", outcome.mean_hops, outcome.p99_ms);
}

#[test]
fn a_payload_goes_along_a_tree_about_once() {
    let scenario =
        Scenario { churn: false, minutes: 3.0, rate_per_s: 2.0, nodes: 200, ..small(Shape::Tree, 2) };
    let outcome = sim::run(&scenario);
    let share: BTreeMap<&str, f64> =
        outcome.purposes.iter().map(|(name, part)| (name.as_str(), *part)).collect();
    let payload_bytes_per_byte = outcome.wire_per_payload * share["payloads"];
    assert!(payload_bytes_per_byte < 1.6, "{payload_bytes_per_byte} {share:?}");
    assert_eq!(outcome.delivered, outcome.owed);
}

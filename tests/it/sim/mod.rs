//! The simulator: several real `Node`s under seeded virtual time, with loss, duplication,
//! reordering, partitions, and crashes before and after a commit. Checkers look at what people
//! were promised.

mod disk;
mod far_side;
mod govern;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use multichat::base::{Digest, EventId, Timestamp};
use multichat::chat::access::Role;
use multichat::chat::act::Act;
use multichat::chat::build::{self, Held, Setting};
use multichat::node::StoredEvent;
use multichat::replica::Event;
use world::{Faults, ISSUED, World};

/// Seeds of the regular run; `MULTICHAT_SIM_SEEDS` asks for another number.
const SEEDS: u64 = 1_000;

fn run(seed: u64, faults: Faults) -> World {
    let world = play(World::new(seed, 3, faults));
    check(&world);
    world
}

fn recorded(seed: u64) -> Digest {
    let mut world = World::new(seed, 3, Faults::all());
    world.record();
    play(world).transcript()
}

fn play(mut world: World) -> World {
    world.converse(24);
    world.heal_and_rest();
    world
}

fn check(world: &World) {
    let seed = world.seed;
    let roots: BTreeSet<Digest> = world.roots().into_iter().collect();
    assert_eq!(roots.len(), 1, "seed {seed}: nodes at rest hold different states");
    for (node, disk) in world.disks().enumerate() {
        let held: BTreeSet<EventId> = disk.log.values().map(|stored| stored.id).collect();
        for (promised, by) in &world.promised {
            assert!(
                held.contains(promised),
                "seed {seed}: node {node} lost an event that node {by} accepted"
            );
        }
    }
    // The logs hold the same events, so one of them answers for all; and rebuilding every action
    // costs as much as the run, so one run in four is looked at.
    if seed.is_multiple_of(4) {
        let log: Vec<&StoredEvent> = world.disks().next().expect("a node").log.values().collect();
        no_nullifier_twice(seed, &log);
    }
    assert!(world.promised.len() >= 3, "seed {seed}: hardly anything was said");
    world.far_side.check(seed, &world.messages_for_far_side());
    for session in &world.sessions {
        let expected = world.visible(session.at, session.from, session.to);
        assert_eq!(session.shown, expected, "seed {seed}: a session lacks lines or shows them twice");
    }
}

/// Rebuilds every action of a log and looks for a nullifier that is spent twice.
fn no_nullifier_twice(seed: u64, log: &[&StoredEvent]) {
    let mut lanes: BTreeMap<EventId, (Setting, Held)> = BTreeMap::new();
    let mut lane_of: BTreeMap<EventId, EventId> = BTreeMap::new();
    let mut spent: BTreeSet<Digest> = BTreeSet::new();
    for stored in log {
        let event = Event::decode_trusted(&stored.signed).unwrap();
        let (id, header) = (event.id(), &event.header);
        let lane = header.prev.map_or(id, |prev| lane_of[&prev]);
        lane_of.insert(id, lane);
        let (identity, role) = match (header.act.joining(), lanes.get(&lane)) {
            (Some(joining), _) => {
                let founds = matches!(header.act, Act::CreateChannel { .. });
                (joining.certificate.identity, if founds { Role::Founder } else { Role::Member })
            }
            (None, Some((setting, _))) => (setting.identity, setting.role),
            (None, None) => panic!("seed {seed}: an event without a lane"),
        };
        let setting = Setting {
            event: id,
            channel: event.channel(),
            identity,
            device: header.device,
            role,
            granted: None,
            target_author: None,
            timestamp: header.timestamp,
            payload: header.payload.map(|payload| payload.hash),
        };
        let held = lanes.get(&lane).map(|(_, held)| *held);
        let action = build::action(&header.act, &setting, held).unwrap();
        for nullifier in action.check().unwrap().nullifiers() {
            assert!(spent.insert(*nullifier), "seed {seed}: a nullifier was spent twice");
        }
        build::verify(&header.act, &setting, held).unwrap();
        let profile = build::profile_after(&header.act, held);
        lanes.insert(lane, (setting, Held { after: id, profile }));
    }
}

fn seeds() -> u64 {
    std::env::var("MULTICHAT_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Runs seeds on both cores; the first failure of either fails the test.
fn run_all(faults: Faults, first: u64, count: u64) {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2u64)
            .map(|worker| {
                scope.spawn(move || {
                    for seed in (first..first + count).filter(|seed| seed % 2 == worker) {
                        run(seed, faults);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("the seed named above shows it again");
        }
    });
}

#[test]
fn a_thousand_bad_days_end_well() {
    run_all(Faults::all(), 0, seeds());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(recorded(seed), recorded(seed), "seed {seed}");
    }
    assert_ne!(recorded(1), recorded(2));
}

#[test]
fn bursts_longer_than_a_window_arrive_whole_and_in_order() {
    run_all(Faults { burst: 150, ..Faults::all() }, 10_000, seeds().div_ceil(100));
}

#[test]
fn a_stranger_is_heard_and_refused() {
    let refused: u64 =
        (0..10).map(|seed| run(seed, Faults { stranger: 100, ..Faults::all() }).refusals()).sum();
    assert!(refused > 0, "or the stranger said nothing that was wrong");
}

/// Intents are gossiped and settled by all nodes at once, through loss, partitions and crashes: nodes at
/// rest agree about who owns what, and nothing was made or lost by it.
#[test]
fn markets_settle_alike_and_lose_nothing() {
    let (mut deals, mut void) = (0, 0);
    for seed in 20_000..20_000 + seeds().div_ceil(10) {
        let mut world = World::new(seed, 3, Faults { market: 70, ..Faults::all() });
        world.converse(60);
        world.heal_and_rest();
        check(&world);
        let holdings = world.holdings();
        assert!(holdings.iter().all(|seen| *seen == holdings[0]), "seed {seed}: nodes differ about a market");
        let mut totals: BTreeMap<_, u128> = BTreeMap::new();
        for holding in &holdings[0] {
            *totals.entry(&holding.asset).or_default() += holding.quantity;
        }
        let log = world.disks().next().expect("a node").log.values();
        let mut issued: BTreeMap<_, u128> = BTreeMap::new();
        for stored in log {
            let event = Event::decode_trusted(&stored.signed).unwrap();
            let Act::Settle { settlement, .. } = &event.header.act else { continue };
            let stands = world.counts(&event.id());
            match settlement.intents.as_slice() {
                // Two nodes issue nothing with one nonce, so whatever was issued counts.
                [one] if stands => *issued.entry(one.author).or_default() += ISSUED,
                [_] => {}
                _ if stands => deals += 1,
                _ => void += 1,
            }
        }
        let total: BTreeMap<_, u128> = totals.into_iter().map(|(asset, n)| (asset.issuer(), n)).collect();
        assert_eq!(total, issued, "seed {seed}: tokens came from nowhere or went there");
    }
    let runs = seeds().div_ceil(10);
    assert!(runs < 50 || (deals > 50 && void > 0), "{deals} deals, {void} void ones");
}

#[test]
fn two_nodes_cut_from_each_other_converge_after_healing() {
    let mut world = World::new(7, 2, Faults::none());
    world.converse(10);
    world.cut(0, 1, true);
    world.converse(30);
    world.step_until(Timestamp(world.now().0 + 60_000));
    let apart: BTreeSet<Digest> = world.roots().into_iter().collect();
    assert_eq!(apart.len(), 2, "both sides went on alone");
    world.heal_and_rest();
    check(&world);
}

//! What was accepted arrives, whatever is killed: five hundred lines from Matrix to IRC and five
//! hundred back, over two real nodes, with a real homeserver, a real IRC network and a real irssi,
//! while nodes are killed, the homeserver is away, or the network starts anew.
//!
//! What must be true:
//! - on Matrix every line is there, in order, and none twice;
//! - on node B every line is shown, in order, and none twice within a session;
//! - on the linked network every line is said, in order. A plain IRC server has neither history nor
//!   receipts, so what was on the way when node A died is said again: those doubles are counted;
//! - what is said on the linked network while a node is there arrives, in order and once; what its
//!   server had not yet handed to a node that died, or said while none was there, is counted apart.
//!
//! Nothing here depends on how long something takes.

mod irc;
mod matrix;
mod node;
mod words;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use irc::Happened;
use tokio::sync::Mutex;
use words::Reading;
use world::{CAROLS, LINES, Outcome, World};

/// One scenario at a time: each needs the machine.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How long Synapse is away.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_nodes_loses_nothing_and_doubles_nothing() {
    let _alone = ALONE.lock().await;
    let Some(mut world) = World::raise("kills").await else { return };
    let mut dice = Dice::new();
    let talk = tokio::spawn(world.begin());
    // Each three times, in an order of chance, at moments of chance: perhaps while it still starts.
    let mut victims = [true, true, true, false, false, false];
    for last in (1..victims.len()).rev() {
        victims.swap(last, dice.below(last as u64 + 1) as usize);
    }
    for is_a in victims {
        tokio::time::sleep(Duration::from_millis(500 + dice.below(4_500))).await;
        let progress = world.progress();
        let name = if is_a { "A" } else { "B" };
        let victim = if is_a { &mut world.a } else { &mut world.b };
        victim.kill().await;
        let down = dice.below(2_000);
        println!("{progress}: node {name} killed, down for {down} ms");
        tokio::time::sleep(Duration::from_millis(down)).await;
        victim.start();
    }
    let again = talk.await.unwrap();
    let outcome = world.settle().await;
    report("kills", &world, &outcome, again);
    all_is_well(&outcome);
    for person in ["alice", "bob"] {
        holds(outcome.carol[person].must_be_complete(LINES));
    }
    world.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_homeserver_that_is_away_for_a_while_misses_nothing() {
    let _alone = ALONE.lock().await;
    let Some(mut world) = World::raise("homeserver-away").await else { return };
    let talk = tokio::spawn(world.begin());
    tokio::time::sleep(Duration::from_secs(6)).await;
    println!("{}: Synapse is stopped for {} s", world.progress(), AWAY.as_secs());
    world.synapse.stop().await;
    tokio::time::sleep(AWAY).await;
    world.synapse.restart().await.unwrap();
    println!("{}: Synapse is back", world.progress());
    let again = talk.await.unwrap();
    let outcome = world.settle().await;
    report("homeserver away", &world, &outcome, again);
    all_is_well(&outcome);
    for person in ["alice", "bob"] {
        holds(outcome.carol[person].must_be_exact(LINES));
    }
    world.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_starts_anew_misses_nothing() {
    let _alone = ALONE.lock().await;
    let Some(mut world) = World::raise("ircd-restarted").await else { return };
    let talk = tokio::spawn(world.begin());
    tokio::time::sleep(Duration::from_secs(8)).await;
    println!("{}: the IRC network starts anew", world.progress());
    world.ircd.stop().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.ircd.restart().await.unwrap();
    let again = talk.await.unwrap();
    let outcome = world.settle().await;
    report("ircd restarted", &world, &outcome, again);
    all_is_well(&outcome);
    for person in ["alice", "bob"] {
        // Carol, whose own connection broke, does not hear what is said before she is back.
        match outcome.carol[person].must_be_gapless(LINES) {
            Ok(missed) => println!("  carol was away for {missed} lines of {person}"),
            Err(wrong) => panic!("{wrong}"),
        }
        holds(outcome.carol[person].must_be_sound());
    }
    world.strike().await;
}

/// What must be true whatever happened.
fn all_is_well(outcome: &Outcome) {
    for readings in [&outcome.matrix, &outcome.bob, &outcome.ida] {
        holds(readings["alice"].must_be_exact(LINES));
        holds(readings["bob"].must_be_exact(LINES));
        holds(readings["carol"].must_be_sound());
    }
    assert!(outcome.refused.is_empty(), "refused: {:?}", outcome.refused);
    assert_eq!(outcome.bobs_ghosts.len(), 1, "one ghost speaks for bob: {:?}", outcome.bobs_ghosts);
    let carols: Vec<&Reading> = vec![&outcome.matrix["carol"], &outcome.bob["carol"], &outcome.ida["carol"]];
    for reading in &carols {
        assert_eq!(reading.numbers(), carols[0].numbers(), "of carol all have the same: {}", reading.reader);
    }
    let apart = apart(&outcome.carols_events, &carols[0].numbers());
    println!(
        "  of carol's {CAROLS} lines {} arrived, {apart} said while no node was there",
        carols[0].arrived()
    );
}

/// Carol's lines that did not arrive because no node was there to hear them. Of what she says while
/// she sees the relay, only the end may be lost: it was on the way to a node that died.
///
/// # Panics
/// If a line is lost that a node must have heard: a later one of the same stay has arrived, or the
/// stay never ended.
fn apart(events: &[Happened], arrived: &BTreeSet<usize>) -> usize {
    let mut apart = 0;
    let mut is_there = false;
    let mut lost: Vec<usize> = Vec::new();
    for event in events {
        match event {
            Happened::Came => (is_there, lost) = (true, Vec::new()),
            Happened::Went | Happened::Connected => is_there = false,
            Happened::Said(word) if arrived.contains(&word.number) => {
                assert!(!is_there || lost.is_empty(), "{lost:?} lost although {} came", word.number);
            }
            Happened::Said(word) => {
                apart += 1;
                if is_there {
                    lost.push(word.number);
                }
            }
            Happened::Heard(_) | Happened::Refused(_) => {}
        }
    }
    assert!(!is_there || lost.is_empty(), "{lost:?} lost although the relay is there");
    apart
}

fn holds(verdict: Result<(), words::Wrong>) {
    if let Err(wrong) = verdict {
        panic!("{wrong}");
    }
}

/// The figures, for people to see.
fn report(scenario: &str, world: &World, outcome: &Outcome, again: usize) {
    println!("{scenario}: {}", world.progress());
    println!(
        "  alice had to say a line again {again} times; starts: A {}, B {}",
        world.a.starts(),
        world.b.starts()
    );
    let retries = |door: &str| world.a.logged(&format!("door={door}"));
    println!(
        "  deliveries tried again by node A: to Matrix {}, to the network {}",
        retries("matrix"),
        retries("irc/")
    );
    println!(
        "  messages that node A read from the room, perhaps again: {}",
        world.a.logged("read from the room: ")
    );
    for readings in [&outcome.matrix, &outcome.bob, &outcome.ida, &outcome.carol] {
        for reading in ["alice", "bob"].map(|person| &readings[person]) {
            println!(
                "  {} of {}: {} in {} sessions, {} doubles, {} said again by the sender",
                reading.reader,
                reading.person,
                reading.arrived(),
                reading.sessions.len(),
                reading.doubles(),
                reading.repeated_by_sender()
            );
        }
    }
}

/// Chance that can be had again: `MULTICHAT_SEED` sets it, and it is printed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("MULTICHAT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).unwrap();
            u64::from(u32::from_le_bytes(bytes))
        });
        println!("MULTICHAT_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`: SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

//! Health and re-balancing in the simulated world: pools what members report, lets domains call, draws
//! volunteers. The rules are `overlay::health`'s; here they meet nodes.

use super::super::health::lottery::{Chain, Draw, Settings, Watch};
use super::super::health::{Tally, pool};
use super::scenario::{Scenario, Shape};
use super::world::World;
use crate::base::Digest;

/// Members whose reports are pooled.
const REPORTS: usize = 48;
/// Epochs of one season, in which tickets stay.
const SEASON_EPOCHS: usize = 60;
/// Seasons that a chain lasts.
const SEASONS: usize = 1_000;

/// What one domain looked like at an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub at_ms: u64,
    /// Wilson lower bound of what members report.
    pub measured: f64,
    /// Honest members of all members, as the simulator alone knows.
    pub real: f64,
    pub volunteers: usize,
}

/// Every domain's health.
pub struct Rebalance {
    /// Domain by domain, epoch by epoch.
    pub looks: Vec<Vec<Look>>,
    settings: Settings,
    watches: Vec<Watch>,
    chain: Chain,
    wanted: Vec<usize>,
}

impl Rebalance {
    /// Nothing seen yet.
    pub fn new(scenario: &Scenario) -> Self {
        let domains = usize::from(scenario.domains);
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&scenario.seed.to_le_bytes());
        Self {
            looks: vec![Vec::new(); domains],
            settings: Settings::default(),
            watches: vec![Watch::default(); domains],
            chain: Chain::new(secret, SEASONS),
            wanted: vec![0; domains],
        }
    }

    /// An epoch ends: every domain is looked at, and those that call get volunteers.
    pub fn epoch(world: &mut World) {
        if world.scenario.shape == Shape::Star || world.scenario.trial_ms.is_none() {
            return;
        }
        let domains = world.scenario.domains;
        for domain in 0..domains {
            let look = look(world, domain);
            world.rebalance.looks[usize::from(domain)].push(look);
        }
        if !world.scenario.volunteers || domains < 2 {
            return;
        }
        for domain in 0..domains {
            let at = usize::from(domain);
            let Some(look) = world.rebalance.looks[at].last().copied() else { continue };
            // Until members have trials to report there is nothing to act upon.
            if look.at_ms < 60_000 {
                continue;
            }
            let settings = world.rebalance.settings;
            if world.rebalance.watches[at].observe(&settings, look.measured) {
                call(world, domain, &look);
            } else if look.volunteers > 0 {
                dismiss(world, domain);
            }
        }
    }
}

fn look(world: &mut World, domain: u8) -> Look {
    let now = world.now();
    let members = world.members_of(domain);
    let asked = world.chance().sample(&members, REPORTS);
    let report = |index: &u32| {
        let node = &world.nodes[*index as usize];
        match (node.malice, node.members.get(&domain)) {
            // Liars say that all is well, so that nobody comes to help.
            (Some(_), _) => Tally { passed: 60, trials: 60 },
            (None, Some(member)) => member.tally(now),
            (None, None) => Tally::default(),
        }
    };
    let reports: Vec<Tally> = asked.iter().map(report).collect();
    let of = |test: &dyn Fn(&u32) -> bool| members.iter().filter(|index| test(index)).count();
    let honest = of(&|index| world.nodes[*index as usize].malice.is_none());
    let volunteers = of(&|index| world.nodes[*index as usize].volunteers == Some(domain));
    Look {
        at_ms: now.0,
        measured: pool(&reports).lower_bound(),
        real: honest as f64 / members.len().max(1) as f64,
        volunteers,
    }
}

fn call(world: &mut World, domain: u8, look: &Look) {
    let settings = world.rebalance.settings;
    let season = world.rebalance.looks[0].len() / SEASON_EPOCHS + 1;
    let Some(beacon) = world.rebalance.chain.reveal(season) else { return };
    let draw = Draw { beacon, settings };
    let members = world.members_of(domain).len();
    let natives = members - look.volunteers;
    let further = settings.need(members, look.measured);
    let most = (natives as f64 * settings.cap) as usize;
    let wanted = &mut world.rebalance.wanted[usize::from(domain)];
    *wanted = (look.volunteers + further).min(most).max(*wanted);
    let wanted = *wanted;
    let candidates: Vec<u32> = (0..world.nodes.len() as u32)
        .filter(|index| {
            let node = &world.nodes[*index as usize];
            node.online
                && node.home != domain
                && node.volunteers.is_none()
                && !node.members.contains_key(&domain)
        })
        .collect();
    let count = candidates.len() + look.volunteers;
    for index in candidates {
        let node = &world.nodes[index as usize];
        let fraction = world.rebalance.looks[usize::from(node.home)].last().map_or(0.0, |look| look.measured);
        let id = node.contact.node;
        let goes =
            draw.may_go(&name(node.home), fraction, &id) && draw.joins(&name(domain), wanted, count, &id);
        if goes {
            world.nodes[index as usize].volunteers = Some(domain);
            world.enter(index, domain);
        }
    }
}

fn dismiss(world: &mut World, domain: u8) {
    world.rebalance.wanted[usize::from(domain)] = 0;
    for index in 0..world.nodes.len() as u32 {
        if world.nodes[index as usize].volunteers == Some(domain) {
            world.nodes[index as usize].volunteers = None;
            world.quit(index, domain);
        }
    }
}

fn name(domain: u8) -> Digest {
    Digest([domain; 32])
}

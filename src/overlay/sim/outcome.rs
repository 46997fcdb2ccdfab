//! What a run is measured by: delivery, delay, hops, bytes, recovery. Owns the counting and nothing else.

use serde::Serialize;

use super::scenario::Scenario;
use super::world::{EPOCH_MS, Node, World};

/// A message counts for whoever was on line when it was said and this long after.
const PRESENT_MS: u64 = 15_000;
/// And had been for so long: whoever has just come is still looking for neighbours.
const SETTLED_MS: u64 = 10_000;
/// A message that took no longer came in time.
const TIMELY_MS: u32 = 5_000;
/// What counts as working again.
const WORKS: f64 = 0.99;

/// One run's figures.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    pub scenario: Scenario,
    pub messages: usize,
    /// Deliveries that there should have been to honest members, and that there were.
    pub owed: u64,
    pub delivered: u64,
    /// The same before and from the beginning of the attack.
    pub delivery: f64,
    pub delivery_before: f64,
    pub delivery_attacked: f64,
    /// Within five seconds.
    pub timely: f64,
    pub timely_attacked: f64,
    pub p50_ms: u32,
    pub p99_ms: u32,
    pub mean_hops: f64,
    pub max_hops: u8,
    /// Sent by one node in one second, in the mean and by the busiest hundredth.
    pub bytes_per_node_s: f64,
    pub bytes_per_node_s_p99: f64,
    /// Bytes sent for each byte of payload that arrived somewhere.
    pub wire_per_payload: f64,
    /// The share of them that was for each purpose.
    pub purposes: Vec<(String, f64)>,
    /// From the beginning of the attack until 99% come in time again and go on doing so.
    pub recovery_s: Option<f64>,
    pub serving_before: Option<f64>,
    pub serving_lowest: Option<f64>,
    pub serving_end: Option<f64>,
    pub volunteers_most: usize,
    pub periods: Vec<Period>,
    /// Domain, ms, measured and real serving fraction, volunteers.
    pub health: Vec<(usize, u64, f64, f64, usize)>,
    /// Events that the simulator went through.
    pub events: u64,
}

/// Ten seconds of messages.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Period {
    pub at_ms: u64,
    pub owed: u64,
    pub delivered: u64,
    pub timely: u64,
}

/// Measures a world at its end.
pub fn measure(world: &World) -> Outcome {
    let scenario = world.scenario.clone();
    let attack_ms = if scenario.attack.is_some() { scenario.attack_ms() } else { scenario.end_ms() };
    let count = Count::of(world);
    let part = |periods: &[Period], what: fn(&Period) -> u64| {
        let owed: u64 = periods.iter().map(|period| period.owed).sum();
        if owed == 0 { 1.0 } else { periods.iter().map(what).sum::<u64>() as f64 / owed as f64 }
    };
    let split = count.periods.partition_point(|period| period.at_ms < attack_ms);
    let (before, after) = count.periods.split_at(split);
    let seconds = scenario.minutes * 60.0;
    let mut bytes: Vec<u64> = world.nodes.iter().map(|node| node.bytes).collect();
    bytes.sort_unstable();
    let total: u64 = bytes.iter().sum();
    let of_payload = (count.delivered * scenario.payload_bytes as u64).max(1);
    let first = world.rebalance.looks.first().map_or(&[][..], Vec::as_slice);
    let steady = |look: &&super::rebalance::Look| look.at_ms >= 60_000;
    let fractions = |from: u64, to: u64| {
        let within = first.iter().filter(steady).filter(move |look| look.at_ms >= from && look.at_ms < to);
        within.map(|look| look.measured)
    };
    let health = world.rebalance.looks.iter().enumerate().flat_map(|(domain, looks)| {
        looks
            .iter()
            .map(move |look| (domain, look.at_ms, round(look.measured), round(look.real), look.volunteers))
    });
    let n = world.nodes.len().max(1);
    Outcome {
        messages: world.said.len(),
        owed: count.owed,
        delivered: count.delivered,
        delivery: count.delivered as f64 / count.owed.max(1) as f64,
        delivery_before: part(before, |period| period.delivered),
        delivery_attacked: part(after, |period| period.delivered),
        timely: part(&count.periods, |period| period.timely),
        timely_attacked: part(after, |period| period.timely),
        p50_ms: count.quantile(0.5),
        p99_ms: count.quantile(0.99),
        mean_hops: round(count.hops as f64 / count.delivered.max(1) as f64),
        max_hops: count.max_hops,
        bytes_per_node_s: round(total as f64 / n as f64 / seconds),
        bytes_per_node_s_p99: round(bytes[(n * 99 / 100).min(n - 1)] as f64 / seconds),
        wire_per_payload: round(total as f64 / of_payload as f64),
        purposes: world
            .purposes
            .iter()
            .map(|(purpose, bytes)| ((*purpose).to_owned(), round(*bytes as f64 / total.max(1) as f64)))
            .collect(),
        recovery_s: recovery(after, attack_ms),
        serving_before: fractions(0, attack_ms).next_back().map(round),
        serving_lowest: fractions(attack_ms, u64::MAX).min_by(f64::total_cmp).map(round),
        serving_end: fractions(0, u64::MAX).next_back().map(round),
        volunteers_most: world
            .rebalance
            .looks
            .iter()
            .flatten()
            .map(|look| look.volunteers)
            .max()
            .unwrap_or(0),
        periods: count.periods,
        health: health.collect(),
        events: world.events,
        scenario,
    }
}

struct Count {
    owed: u64,
    delivered: u64,
    hops: u64,
    max_hops: u8,
    /// Deliveries by their delay in ms.
    delays: Vec<u64>,
    periods: Vec<Period>,
}

impl Count {
    fn of(world: &World) -> Self {
        let mut count =
            Self { owed: 0, delivered: 0, hops: 0, max_hops: 0, delays: Vec::new(), periods: Vec::new() };
        for (number, said) in world.said.iter().enumerate() {
            let at_ms = said.at_ms / EPOCH_MS * EPOCH_MS;
            if count.periods.last().is_none_or(|period| period.at_ms != at_ms) {
                count.periods.push(Period { at_ms, owed: 0, delivered: 0, timely: 0 });
            }
            for (index, node) in world.nodes.iter().enumerate() {
                if index as u32 != said.by && is_owed(node, said.at_ms, world.scenario.end_ms()) {
                    count.add(node.got.get(number).copied().unwrap_or_default());
                }
            }
        }
        count
    }

    fn add(&mut self, (delay, hops): (u32, u8)) {
        let Some(period) = self.periods.last_mut() else { return };
        self.owed += 1;
        period.owed += 1;
        let Some(delay) = delay.checked_sub(1) else { return };
        self.delivered += 1;
        period.delivered += 1;
        period.timely += u64::from(delay <= TIMELY_MS);
        self.hops += u64::from(hops);
        self.max_hops = self.max_hops.max(hops);
        let at = delay as usize;
        if self.delays.len() <= at {
            self.delays.resize(at + 1, 0);
        }
        self.delays[at] += 1;
    }

    fn quantile(&self, part: f64) -> u32 {
        let mut left = (self.delivered as f64 * part).ceil() as u64;
        for (delay, count) in self.delays.iter().enumerate() {
            if *count >= left {
                return delay as u32;
            }
            left -= count;
        }
        0
    }
}

/// Whether a node should have a message of that moment: honest, settled, and there for long enough.
fn is_owed(node: &Node, at_ms: u64, end_ms: u64) -> bool {
    let honest = node.turned_ms > at_ms.saturating_add(PRESENT_MS);
    let settled = |from: u64| from + SETTLED_MS <= at_ms || from < 2_000;
    let there =
        |(from, to): &(u64, u64)| settled(*from) && *to >= (at_ms + PRESENT_MS).min(end_ms) && *from <= at_ms;
    honest && node.sessions.iter().any(there)
}

/// From the beginning of the attack to the first period after the last that did not work.
fn recovery(after: &[Period], attack_ms: u64) -> Option<f64> {
    let works = |period: &Period| period.owed == 0 || period.timely as f64 / period.owed as f64 >= WORKS;
    match after.iter().rposition(|period| !works(period)) {
        None => Some(0.0),
        Some(last) if last + 1 < after.len() => {
            Some((after[last + 1].at_ms.saturating_sub(attack_ms)) as f64 / 1_000.0)
        }
        Some(_) => None,
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

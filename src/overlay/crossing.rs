//! A node in several domains: what came by one goes on into the others, once, and reaches the application
//! once. Owns what was seen over all domains, and the statistics by which ways between domains are chosen.
//!
//! There are no loops because ids are hashes of payloads: a payload that crosses twice is known, at the gateway
//! and at every member behind it, whichever gateways it crossed by. No hop count is trusted for that.

use std::collections::{BTreeMap, VecDeque};

use super::topology::MessageId;
use crate::base::{NodeId, Timestamp};

/// Ids remembered over all domains; beyond it the oldest are forgotten.
const SEEN: usize = 65_536;
/// Foreign contacts of one domain; a further one takes the place of the costliest.
pub const FOREIGN_CONTACTS: usize = 8;
/// Weight of a new sample in the running means.
const WEIGHT: f64 = 0.2;
/// What losing a payload costs, in ms of delay: repair takes about that long.
const LOSS_MS: f64 = 15_000.0;
/// What 1,000 bytes cost, in ms of delay.
const KILOBYTE_MS: f64 = 1.0;
/// What is assumed of a way that was never measured: worse than most, so that it is tried by turns only.
const UNKNOWN_MS: f64 = 400.0;

/// A domain as this node numbers it.
pub type DomainIndex = u8;

/// What has crossed here.
#[derive(Clone, Debug, Default)]
pub struct Crossing {
    seen: BTreeMap<MessageId, DomainIndex>,
    order: VecDeque<MessageId>,
}

impl Crossing {
    /// A payload came by a domain (or began there). The domains of `joined` that it goes on into: all but
    /// its own the first time, none afterwards. `None` if it was here before, and the application has it.
    pub fn arrived(
        &mut self,
        id: MessageId,
        by: DomainIndex,
        joined: impl Iterator<Item = DomainIndex>,
    ) -> Option<Vec<DomainIndex>> {
        if self.seen.contains_key(&id) {
            return None;
        }
        self.seen.insert(id, by);
        self.order.push_back(id);
        if self.order.len() > SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Some(joined.filter(|domain| *domain != by).collect())
    }
}

/// What is known of one way into a domain: by a gateway, or by a foreign contact.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Way {
    latency_ms: Option<f64>,
    loss: f64,
    hops: f64,
    bytes: f64,
    /// A link on the local network: it always wins while it lasts.
    pub lan: bool,
}

impl Way {
    /// A payload arrived by it.
    pub fn arrived(&mut self, latency_ms: u64, hops: u8, bytes: usize) {
        let first = self.latency_ms.is_none();
        let mean = |old: f64, new: f64| if first { new } else { old + WEIGHT * (new - old) };
        self.latency_ms = Some(mean(self.latency_ms.unwrap_or(0.0), latency_ms as f64));
        self.hops = mean(self.hops, f64::from(hops));
        self.bytes = mean(self.bytes, bytes as f64);
        self.loss *= 1.0 - WEIGHT;
    }

    /// A payload that should have arrived by it did not.
    pub fn lost(&mut self) {
        self.loss += WEIGHT * (1.0 - self.loss);
    }

    /// Expected cost in ms. A lost payload costs a repair; bytes weigh little, so they decide between equals.
    pub fn cost(&self) -> f64 {
        let measured = self.latency_ms.unwrap_or(UNKNOWN_MS);
        measured + self.loss * LOSS_MS + self.bytes / 1_000.0 * KILOBYTE_MS
    }

    /// Mean latency (ms), loss (0 to 1), hops, bytes for each payload, for reports.
    pub fn figures(&self) -> (Option<f64>, f64, f64, f64) {
        (self.latency_ms, self.loss, self.hops, self.bytes)
    }
}

/// The ways into each foreign domain.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    ways: BTreeMap<DomainIndex, BTreeMap<NodeId, Way>>,
}

impl Ways {
    /// The way by this node, noted from now on. `None` if there are enough that cost less than an unknown one.
    pub fn by(&mut self, domain: DomainIndex, node: NodeId) -> Option<&mut Way> {
        let ways = self.ways.entry(domain).or_default();
        if ways.len() >= FOREIGN_CONTACTS && !ways.contains_key(&node) {
            let worst = ways.iter().max_by(|a, b| a.1.cost().total_cmp(&b.1.cost()));
            let (worst, cost) = worst.map(|(node, way)| (*node, way.cost()))?;
            if cost <= Way::default().cost() {
                return None;
            }
            ways.remove(&worst);
        }
        Some(ways.entry(node).or_default())
    }

    /// A node is gone.
    pub fn forget(&mut self, node: &NodeId) {
        self.ways.values_mut().for_each(|ways| {
            ways.remove(node);
        });
    }

    /// The nodes by which to send into a domain, the best first: LAN before all, then by cost. Every
    /// sixteenth time (by `now`) the last one comes first, so that what was bad once is measured again.
    pub fn choose(&self, domain: DomainIndex, now: Timestamp, count: usize) -> Vec<NodeId> {
        let Some(ways) = self.ways.get(&domain) else { return Vec::new() };
        let mut sorted: Vec<(&NodeId, &Way)> = ways.iter().collect();
        sorted.sort_by(|a, b| b.1.lan.cmp(&a.1.lan).then(a.1.cost().total_cmp(&b.1.cost())));
        let explores = now.0.is_multiple_of(16) && !sorted.first().is_some_and(|(_, way)| way.lan);
        if explores {
            sorted.rotate_right(1);
        }
        sorted.into_iter().take(count).map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_crosses_once_and_never_back() {
        let mut crossing = Crossing::default();
        let id = MessageId([1; 16]);
        assert_eq!(crossing.arrived(id, 0, [0, 1, 2].into_iter()), Some(vec![1, 2]));
        assert_eq!(crossing.arrived(id, 1, [0, 1, 2].into_iter()), None);
        for n in 0..SEEN as u32 + 10 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_le_bytes());
            id[15] = 9;
            crossing.arrived(MessageId(id), 0, [0].into_iter());
        }
        assert_eq!(crossing.order.len(), SEEN);
        assert_eq!(crossing.seen.len(), SEEN);
    }

    #[test]
    fn the_way_with_the_least_cost_is_chosen_and_a_lan_wins() {
        let (near, far, lossy) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        let mut ways = Ways::default();
        for _ in 0..20 {
            ways.by(0, near).unwrap().arrived(40, 3, 1_000);
            ways.by(0, far).unwrap().arrived(200, 3, 1_000);
            ways.by(0, lossy).unwrap().arrived(10, 1, 1_000);
        }
        let best = |ways: &Ways| ways.choose(0, Timestamp(1), 1);
        assert_eq!(best(&ways), [lossy]);
        ways.by(0, lossy).unwrap().lost();
        assert_eq!(best(&ways), [near], "loss costs more than delay");
        ways.by(0, far).unwrap().lan = true;
        assert_eq!(best(&ways), [far]);
        ways.forget(&far);
        assert_eq!(ways.choose(0, Timestamp(1), 9), [near, lossy]);
        assert_eq!(ways.choose(0, Timestamp(16), 1), [lossy], "now and then the last is tried again");
        assert!(ways.choose(7, Timestamp(1), 1).is_empty());
    }

    #[test]
    fn foreign_contacts_are_few_and_the_costliest_makes_room() {
        let mut ways = Ways::default();
        for n in 0..FOREIGN_CONTACTS as u8 {
            ways.by(0, NodeId([n; 32])).unwrap().arrived(50, 1, 10);
        }
        assert!(ways.by(0, NodeId([99; 32])).is_none(), "all are better than unknown");
        ways.by(0, NodeId([3; 32])).unwrap().lost();
        assert!(ways.by(0, NodeId([99; 32])).is_some());
        assert!(!ways.choose(0, Timestamp(1), 99).contains(&NodeId([3; 32])));
    }
}

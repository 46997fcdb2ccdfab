//! A node in several domains: what came by one goes on into the others, once, and reaches the application
//! once. Owns what was seen over all domains, and the statistics by which ways between domains are chosen.
//!
//! There are no loops because ids are hashes of payloads: a payload that crosses twice is known, at the gateway
//! and at every member behind it, whichever gateways it crossed by. No hop count is trusted for that.

use std::collections::{BTreeMap, VecDeque};

use super::chance::Chance;
use super::topology::{MessageId, Payload};
use crate::base::{NodeId, Timestamp};

/// Ids remembered over all domains; beyond it the oldest are forgotten.
const SEEN: usize = 65_536;
/// How long one is. After that the same bytes are new, as they are to gossipsub.
const SEEN_MS: u64 = 60_000;
/// Payloads waiting to be carried over; a further one does not wait.
const WAITING: usize = 1_024;
/// The spread of waits to begin with, what one payload that came by itself adds, what is left of it after one
/// that did not, and its bound.
const SPREAD_FIRST_MS: f64 = 100.0;
const SPREAD_STEP_MS: f64 = 30.0;
const SPREAD_LESS: f64 = 0.8;
const SPREAD_MOST_MS: f64 = 800.0;
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

/// What has crossed here, and what waits to.
///
/// A domain has many gateways, and each of them gets every payload. If all carried it over at once, most would
/// start a wave where another one has passed. So each waits for a moment by chance; whoever finds meanwhile
/// that the other domain has the payload does not carry it. The moment is drawn from a spread that
/// grows with every payload that came by itself and shrinks with every one that did not: a lone
/// gateway soon does not wait at all, and among many a few carry, whichever of them are there.
pub struct Crossing {
    seen: BTreeMap<MessageId, Timestamp>,
    order: VecDeque<MessageId>,
    waiting: BTreeMap<(MessageId, DomainIndex), (Timestamp, Payload)>,
    spread_ms: BTreeMap<DomainIndex, f64>,
    chance: Chance,
}

impl Crossing {
    /// Nothing seen yet.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seen: BTreeMap::new(),
            order: VecDeque::new(),
            waiting: BTreeMap::new(),
            spread_ms: BTreeMap::new(),
            chance: Chance::new(seed),
        }
    }

    /// A payload came by a domain. Returns whether it is new: then it is for the application, and
    /// [`Self::due`] tells into which others of the `joined` domains it goes on, and when.
    pub fn arrived(
        &mut self,
        now: Timestamp,
        payload: &Payload,
        by: DomainIndex,
        joined: impl Iterator<Item = DomainIndex>,
    ) -> bool {
        let id = payload.id();
        if !self.note(now, id) {
            if self.waiting.remove(&(id, by)).is_some() {
                let spread = self.spread_ms.entry(by).or_insert(SPREAD_FIRST_MS);
                *spread = (*spread + SPREAD_STEP_MS).min(SPREAD_MOST_MS);
            }
            return false;
        }
        for domain in joined.filter(|domain| *domain != by) {
            let spread = self.spread_ms.get(&domain).copied().unwrap_or(SPREAD_FIRST_MS);
            let full = self.waiting.len() >= WAITING;
            let wait = if full { 0.0 } else { spread * self.chance.unit() };
            self.waiting.insert((id, domain), (now.plus_ms(wait as u64), payload.clone()));
        }
        true
    }

    /// A payload of this node's own, which goes into all its domains by itself.
    pub fn began(&mut self, now: Timestamp, id: MessageId) {
        self.note(now, id);
    }

    /// What goes into which domain now.
    pub fn due(&mut self, now: Timestamp) -> Vec<(DomainIndex, Payload)> {
        let due: Vec<(MessageId, DomainIndex)> =
            self.waiting.iter().filter(|(_, (at, _))| *at <= now).map(|(key, _)| *key).collect();
        let carry = |key: (MessageId, DomainIndex)| {
            let (_, payload) = self.waiting.remove(&key)?;
            let spread = self.spread_ms.entry(key.1).or_insert(SPREAD_FIRST_MS);
            *spread *= SPREAD_LESS;
            Some((key.1, payload))
        };
        due.into_iter().filter_map(carry).collect()
    }

    /// When something is due next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.waiting.values().map(|(at, _)| *at).min()
    }

    /// This node is no member of a domain any more.
    pub fn left(&mut self, domain: DomainIndex) {
        self.waiting.retain(|(_, to), _| *to != domain);
        self.spread_ms.remove(&domain);
    }

    fn note(&mut self, now: Timestamp, id: MessageId) -> bool {
        let old = |at: &Timestamp| now.since_ms(*at) >= SEEN_MS;
        while let Some(oldest) = self.order.front() {
            let is_old = self.seen.get(oldest).is_none_or(old);
            if !is_old && self.order.len() < SEEN {
                break;
            }
            self.seen.remove(oldest);
            self.order.pop_front();
        }
        if self.seen.contains_key(&id) {
            return false;
        }
        self.seen.insert(id, now);
        self.order.push_back(id);
        true
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
    use std::sync::Arc;

    use super::*;

    fn payload(n: u32) -> Payload {
        Payload::new(Arc::new(n.to_le_bytes().to_vec()))
    }

    #[test]
    fn a_payload_crosses_once_and_never_back() {
        let mut crossing = Crossing::new([1; 32]);
        let one = payload(1);
        assert!(crossing.arrived(Timestamp(0), &one, 0, [0, 1, 2].into_iter()));
        let later = Timestamp(SPREAD_MOST_MS as u64);
        assert!(crossing.next_timeout().is_some_and(|at| at < later));
        assert_eq!(crossing.due(later), [(1, one.clone()), (2, one.clone())]);
        assert!(!crossing.arrived(later, &one, 1, [0, 1, 2].into_iter()));
        assert_eq!((crossing.due(later), crossing.next_timeout()), (Vec::new(), None));
        for n in 0..SEEN as u32 + 10 {
            crossing.began(later, payload(n).id());
        }
        assert_eq!((crossing.order.len(), crossing.seen.len()), (SEEN, SEEN));
        assert!(crossing.arrived(later.plus_ms(SEEN_MS), &one, 0, [0].into_iter()), "new again");
        assert_eq!((crossing.order.len(), crossing.seen.len()), (1, 1));
    }

    #[test]
    fn what_a_domain_has_by_itself_is_not_carried_and_a_lone_gateway_does_not_wait() {
        let mut crossing = Crossing::new([2; 32]);
        let joined = || [0, 1].into_iter();
        for n in 0..40 {
            let now = Timestamp(u64::from(n) * 10_000);
            assert!(crossing.arrived(now, &payload(n), 0, joined()));
            assert!(!crossing.arrived(now, &payload(n), 1, joined()), "another gateway was faster");
            assert_eq!(crossing.due(now.plus_ms(5_000)), []);
        }
        assert!((crossing.spread_ms[&1] - SPREAD_MOST_MS).abs() < 1.0);
        for n in 40..100 {
            let now = Timestamp(u64::from(n) * 10_000);
            assert!(crossing.arrived(now, &payload(n), 0, joined()));
            assert_eq!(crossing.due(now.plus_ms(5_000)), [(1, payload(n))]);
        }
        assert!(crossing.spread_ms[&1] < 1.0, "the others are gone");
        crossing.arrived(Timestamp(0), &payload(1_000), 0, joined());
        crossing.left(1);
        assert_eq!(crossing.next_timeout(), None);
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

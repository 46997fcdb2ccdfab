//! Re-balancing: volunteers from healthy domains join one that weakens, and leave when it has healed.
//! Owns who may go, who goes and when; never opens a link.
//!
//! # How it goes
//!
//! - **Call.** A domain whose serving fraction (Wilson lower bound of the pooled reports) stays below
//!   `low` for `hold` epochs calls for volunteers. It calls until the fraction stays above `high > low` for
//!   `hold` epochs: between the two nothing changes (*hysteresis*), so that a domain near the threshold
//!   does not make people come and go.
//! - **Need.** With `n` members of which `s` serve, `v` volunteers bring the fraction to `target` when
//!   `(s + v) / (n + v) = target`, so `v = (target·n − s) / (1 − target)`, and never more than
//!   `cap·n` ([`Settings::need`]).
//! - **Draw.** A candidate's *ticket* in a season is a hash of the season's beacon, its home and its id, as a
//!   number in `[0, 1)`. It may go at all only if its ticket is below `home_cap`, and goes to a calling
//!   domain if a second hash, which names that domain too, is below `need / candidates`. Anyone can
//!   compute both from public values, so a member that came undrawn is turned away, without a vote or a
//!   signature.
//! - **Beacon.** Tickets must not be known before ids are: whoever could try keys until one is drawn
//!   would send Sybils to the rescue. The domain's founder commits in its advert to the end of a hash chain and
//!   reveals one link each season ([`Chain`]): others cannot foretell it, the founder cannot choose it
//!   (only withhold it), and everyone can check it. Only ids seen before the reveal are candidates.
//! - **Lure.** An attacker may weaken a domain, or feign it, to draw the members of its true goal
//!   away. Whatever calls there are, and however many, those who may leave a home are the same
//!   `home_cap` of its members for a whole season: one ticket for all calls. And nobody leaves a home whose
//!   own fraction is below `high`.

use crate::base::{Digest, NodeId};

/// Thresholds and caps, as fractions of members.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Below this, for `hold` epochs, a domain calls.
    pub low: f64,
    /// Above this, for `hold` epochs, it stops calling.
    pub high: f64,
    /// What the volunteers shall bring it to.
    pub target: f64,
    /// Epochs in a row.
    pub hold: u32,
    /// Volunteers at the most, for each member of the domain that calls.
    pub cap: f64,
    /// Members that may be away at once, for each member of the home.
    pub home_cap: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { low: 0.65, high: 0.72, target: 0.8, hold: 2, cap: 1.0, home_cap: 0.3 }
    }
}

impl Settings {
    /// How many volunteers a domain of `members` needs, of which this fraction serves.
    pub fn need(&self, members: usize, fraction: f64) -> usize {
        let n = members as f64;
        let lacking = ((self.target - fraction) * n / (1.0 - self.target)).max(0.0);
        lacking.min(self.cap * n).ceil() as usize
    }
}

/// Whether a domain calls: its fraction through the epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    calling: bool,
    epochs: u32,
}

impl Watch {
    /// An epoch ended with this fraction. Returns whether the domain calls now.
    pub fn observe(&mut self, settings: &Settings, fraction: f64) -> bool {
        let other = if self.calling { fraction > settings.high } else { fraction < settings.low };
        self.epochs = if other { self.epochs + 1 } else { 0 };
        if self.epochs >= settings.hold {
            self.calling = !self.calling;
            self.epochs = 0;
        }
        self.calling
    }

    /// Whether it calls.
    pub fn is_calling(&self) -> bool {
        self.calling
    }
}

/// A season's draw.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Draw {
    /// The link of the chain that was revealed for it.
    pub beacon: Digest,
    pub settings: Settings,
}

impl Draw {
    /// Whether a member of `home`, whose serving fraction is this, may go anywhere this season.
    pub fn may_go(&self, home: &Digest, home_fraction: f64, node: &NodeId) -> bool {
        home_fraction >= self.settings.high && self.ticket("season", home, node) < self.settings.home_cap
    }

    /// Whether a member that may go joins `calling`, which needs so many of so many candidates.
    pub fn joins(&self, calling: &Digest, need: usize, candidates: usize, node: &NodeId) -> bool {
        // Of the candidates only some may go: they must make up the need among themselves.
        let able = candidates as f64 * self.settings.home_cap;
        self.ticket("call", calling, node) * able < need as f64
    }

    fn ticket(&self, what: &str, domain: &Digest, node: &NodeId) -> f64 {
        let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 volunteers' lottery");
        hasher.update(what.as_bytes());
        hasher.update(&self.beacon.0);
        hasher.update(&domain.0);
        hasher.update(&node.0);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A hash chain: its end is published first, then link after link from the end backwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    links: Vec<Digest>,
}

impl Chain {
    /// A chain of `length` links from a secret.
    pub fn new(secret: [u8; 32], length: usize) -> Self {
        let mut links = vec![Digest(secret)];
        for _ in 0..length {
            links.push(next(links.last().unwrap_or(&Digest(secret))));
        }
        Self { links }
    }

    /// What the advert commits to.
    pub fn end(&self) -> Digest {
        self.links.last().copied().unwrap_or_default()
    }

    /// The link of a season, from 1 on; `None` when the chain is used up.
    pub fn reveal(&self, season: usize) -> Option<Digest> {
        self.links.len().checked_sub(1 + season).map(|at| self.links[at])
    }
}

/// Whether `link` is what a chain with this end reveals in this season. Costs as many hashes as the season's
/// number; a season beyond `most` is refused.
pub fn verify(end: &Digest, season: usize, link: &Digest, most: usize) -> bool {
    let steps = season.min(most);
    let reached = (0..steps).fold(*link, |link, _| next(&link));
    season <= most && reached == *end
}

fn next(link: &Digest) -> Digest {
    Digest(blake3::derive_key("multichat 2026-11 beacon chain", &link.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        NodeId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn draw(beacon: u8) -> Draw {
        Draw { beacon: Digest([beacon; 32]), settings: Settings::default() }
    }

    #[test]
    fn a_domain_near_the_threshold_does_not_flap() {
        let settings = Settings { low: 0.7, high: 0.8, ..Settings::default() };
        let mut watch = Watch::default();
        let mut calls = Vec::new();
        for fraction in [0.9, 0.69, 0.71, 0.69, 0.69, 0.75, 0.79, 0.81, 0.79, 0.81, 0.82, 0.75] {
            calls.push(watch.observe(&settings, fraction));
        }
        let expect = [false, false, false, false, true, true, true, true, true, true, false, false];
        assert_eq!(calls, expect);
    }

    #[test]
    fn the_need_brings_the_fraction_to_its_target() {
        let settings = Settings { target: 0.75, ..Settings::default() };
        let need = settings.need(100, 0.6);
        assert!((60..=61).contains(&need), "{need}");
        assert!((60.0 + need as f64) / (100.0 + need as f64) >= 0.75);
        assert_eq!(settings.need(100, 0.9), 0);
        assert_eq!(settings.need(100, 0.0), 100, "capped");
    }

    #[test]
    fn about_as_many_come_as_are_needed() {
        let (home, calling) = (Digest([1; 32]), Digest([2; 32]));
        let draw = draw(9);
        let came = (0..4_000)
            .map(node)
            .filter(|n| draw.may_go(&home, 0.95, n) && draw.joins(&calling, 400, 4_000, n))
            .count();
        assert!((340..460).contains(&came), "{came}");
        assert!((0..4_000).map(node).all(|n| !draw.may_go(&home, 0.71, &n)), "a weak home keeps its own");
    }

    #[test]
    fn lures_draw_no_more_than_the_home_can_spare() {
        let home = Digest([1; 32]);
        let draw = draw(3);
        let gone = (0..2_000)
            .map(node)
            .filter(|n| {
                let lured =
                    (2..200u8).any(|call| draw.joins(&Digest([call; 32]), usize::MAX >> 12, 2_000, n));
                draw.may_go(&home, 1.0, n) && lured
            })
            .count();
        assert!(gone as f64 <= 2_000.0 * 0.3 * 1.15, "{gone}");
    }

    #[test]
    fn tickets_change_with_the_beacon_and_the_beacon_can_be_checked() {
        let home = Digest([1; 32]);
        let of = |beacon| (0..100).map(|n| draw(beacon).may_go(&home, 1.0, &node(n))).collect::<Vec<_>>();
        assert_ne!(of(1), of(2));
        let chain = Chain::new([8; 32], 20);
        for season in 1..=20 {
            let link = chain.reveal(season).unwrap();
            assert!(verify(&chain.end(), season, &link, 1_000));
            assert!(!verify(&chain.end(), season + 1, &link, 1_000));
            assert!(!verify(&chain.end(), season, &Digest([7; 32]), 1_000));
        }
        assert_eq!(chain.reveal(21), None);
        assert!(!verify(&chain.end(), usize::MAX, &Digest::default(), 1_000));
    }
}

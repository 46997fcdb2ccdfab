//! Health of a domain: how many of its members serve it, signs that somebody is taking it over, and
//! volunteers from other domains when it weakens.
//!
//! The PODS paper (arXiv 2306.16153) asks for domains that watch their health and are re-balanced, and
//! publishes no algorithm. This one is ours:
//!
//! 1. **Sampling.** Every member now and then draws one of the contacts that membership brought it (the
//!    shuffled passive view of HyParView is close to a uniform sample of the members) and puts it on
//!    trial (`overlay::member`): show a payload that went by lately, hashed with a nonce (so it must have it
//!    now and cannot have precomputed it), and carry a mark to a third node (so it must pass things on).
//!    Members that are plainly off line say nothing about service and are not counted.
//! 2. **Serving fraction.** Of `n` trials `k` were passed. The estimate that is acted on is the *lower* end of
//!    the Wilson score interval ([`Tally::lower_bound`]): few trials, or none, give a low figure and so
//!    caution; unlike `k/n`, it is sound for small `n` and near 0 and 1.
//! 3. **Pooling.** A member's own trials are few, so reports of many are pooled, after the half with the
//!    highest and the quarter with the lowest claims is left out ([`pool`]). The cuts differ because the
//!    lies do: to claim that all is well keeps help away, and up to half of the reports may do so without effect; to
//!    cry wolf only draws volunteers, whose number is capped, and up to a quarter may do that. Honest reports differ
//!    too, so the figure lies a little low: the safe side.
//! 4. **Eviction.** Whoever fails twice in a row is shunned by who found out. This is local: no vote
//!    that could be bought.
//! 5. **Volunteers** ([`lottery`]) join a domain that calls and leave when it has healed.
//!
//! A hostile third node can make an honest member fail, by not saying that the mark came. So those bear witness who
//! carried a mark themselves of late, two failures in a row are needed, each with another witness, and another
//! look at a suspect is not counted as a sample.
//!
//! What it cannot see: two hostile nodes that vouch for each other, which takes that the witness is one of
//! them; and a member that answers trials and yet drops people's payloads. Against these the
//! topology has its own defence (silent neighbours are replaced, see `topology::tree`).

pub mod lottery;
pub mod signs;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// 97.5% quantile of the normal distribution: the interval holds 95% of the time.
const Z: f64 = 1.96;
/// Trials remembered; beyond it the oldest are forgotten.
const TRIALS: usize = 256;
/// How long one is remembered.
const TRIAL_MS: u64 = 180_000;

/// Trials and how many were passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub passed: u32,
    pub trials: u32,
}

impl Tally {
    /// The plain fraction; `None` without trials.
    pub fn fraction(&self) -> Option<f64> {
        (self.trials > 0).then(|| f64::from(self.passed) / f64::from(self.trials))
    }

    /// The lower end of the 95% Wilson score interval (Wilson 1927); 0 without trials.
    pub fn lower_bound(&self) -> f64 {
        let Some(p) = self.fraction() else { return 0.0 };
        let n = f64::from(self.trials);
        let (centre, spread) = (p + Z * Z / (2.0 * n), (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt());
        ((centre - Z * spread) / (1.0 + Z * Z / n)).max(0.0)
    }
}

/// Reports of several members made into one, without the highest half and the lowest quarter.
pub fn pool(reports: &[Tally]) -> Tally {
    let mut heard: Vec<Tally> = reports.iter().filter(|tally| tally.trials > 0).copied().collect();
    heard.retain(|tally| tally.passed <= tally.trials);
    heard.sort_by(|a, b| {
        let cross = |x: &Tally, y: &Tally| u64::from(x.passed) * u64::from(y.trials);
        cross(a, b).cmp(&cross(b, a)).then(a.trials.cmp(&b.trials))
    });
    let middle = &heard[heard.len() / 4..heard.len().div_ceil(2)];
    // Nobody weighs more for claiming more trials than a member can make.
    let most = TRIALS as u32;
    let scaled = middle.iter().map(|tally| match tally.trials {
        trials if trials > most => {
            let passed = u64::from(tally.passed) * u64::from(most) / u64::from(trials);
            Tally { passed: passed as u32, trials: most }
        }
        _ => *tally,
    });
    scaled.fold(Tally::default(), |sum, tally| Tally {
        passed: sum.passed + tally.passed,
        trials: sum.trials + tally.trials,
    })
}

/// One member's own trials, the recent ones.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    trials: std::collections::VecDeque<(Timestamp, bool)>,
}

impl Meter {
    /// A trial ended.
    pub fn record(&mut self, now: Timestamp, passed: bool) {
        self.trials.push_back((now, passed));
        while self.trials.len() > TRIALS
            || self.trials.front().is_some_and(|(at, _)| now.since_ms(*at) > TRIAL_MS)
        {
            self.trials.pop_front();
        }
    }

    /// What the recent trials came to.
    pub fn tally(&self, now: Timestamp) -> Tally {
        let recent = self.trials.iter().filter(|(at, _)| now.since_ms(*at) <= TRIAL_MS);
        recent.fold(Tally::default(), |sum, (_, passed)| Tally {
            passed: sum.passed + u32::from(*passed),
            trials: sum.trials + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_is_wilsons() {
        let bound = |passed, trials| Tally { passed, trials }.lower_bound();
        // Published values: 8 of 10 gives (0.490, 0.943); 81 of 263 gives (0.255, 0.366).
        assert!((bound(8, 10) - 0.490).abs() < 0.001);
        assert!((bound(81, 263) - 0.255).abs() < 0.001);
        assert_eq!((bound(0, 0), bound(0, 5)), (0.0, 0.0));
        assert!(bound(5, 5) < bound(50, 50), "more trials, more certainty");
        assert!(bound(500, 500) > 0.99);
    }

    #[test]
    fn lies_that_are_few_enough_change_nothing() {
        let honest = Tally { passed: 6, trials: 10 };
        let mut reports = vec![honest; 31];
        let (rosy, wolf) =
            (Tally { passed: 1_000_000, trials: 1_000_000 }, Tally { passed: 0, trials: 1_000_000 });
        for (lie, liars) in [(rosy, 29), (wolf, 9)] {
            reports.truncate(31);
            reports.extend(vec![lie; liars]);
            assert_eq!(pool(&reports).fraction(), Some(0.6));
        }
        assert_eq!(pool(&[]), Tally::default());
        let impossible = Tally { passed: 9, trials: 3 };
        assert_eq!(pool(&[impossible]), Tally::default());
    }

    #[test]
    fn old_trials_are_forgotten() {
        let mut meter = Meter::default();
        meter.record(Timestamp(0), false);
        meter.record(Timestamp(1), true);
        assert_eq!(meter.tally(Timestamp(1)), Tally { passed: 1, trials: 2 });
        assert_eq!(meter.tally(Timestamp(TRIAL_MS + 1)), Tally { passed: 1, trials: 1 });
        for n in 0..1_000 {
            meter.record(Timestamp(n), true);
        }
        assert!(meter.tally(Timestamp(1_000)).trials as usize <= TRIALS);
    }
}

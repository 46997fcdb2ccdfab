//! What is to be simulated, and its defaults.

use serde::{Deserialize, Serialize};

/// How the members of a domain are connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Mesh,
    #[default]
    Tree,
    Gossip,
    Structured,
    /// A federated star: no PODS, to compare with.
    Star,
}

/// What adversaries do. All begin after a third of the time, those apart that say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// From the start a fraction of every domain's members takes part in everything and passes
    /// no payload on.
    Censor,
    /// That fraction of the first domain turns so in mid-run, all at once, after honest behaviour.
    Flash,
    /// As many new keys of few addresses join the first domain as make up that fraction, and censor.
    Sybil,
    /// That fraction of the first domain turns, knocks at one in twenty members without end, and names
    /// nobody but each other.
    Eclipse,
    /// As `Flash`; once volunteers have come, a second domain is attacked likewise.
    Lure,
    /// No adversary: all nodes start at once, and know three entrances.
    ColdBoot,
    /// No adversary: for a minute nothing passes between Europe and the rest.
    Partition,
}

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scenario {
    pub nodes: usize,
    pub domains: u8,
    pub shape: Shape,
    pub minutes: f64,
    pub attack: Option<Attack>,
    /// Of the members of a domain that is attacked.
    pub adversarial: f64,
    pub seed: u64,
    /// Messages a second in all, each for all nodes.
    pub rate_per_s: f64,
    pub payload_bytes: usize,
    /// Whether phones and laptops come and go.
    pub churn: bool,
    /// Frames that are lost, of all.
    pub loss: f64,
    /// Whether domains that weaken get volunteers.
    pub volunteers: bool,
    /// How often a member puts another on trial; `None` for never.
    pub trial_ms: Option<u64>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 1_000,
            domains: 4,
            shape: Shape::Tree,
            minutes: 5.0,
            attack: None,
            adversarial: 0.4,
            seed: 1,
            rate_per_s: 1.0,
            payload_bytes: 1_000,
            churn: true,
            loss: 0.0,
            volunteers: true,
            trial_ms: Some(20_000),
        }
    }
}

impl Scenario {
    /// When it ends, in ms.
    pub fn end_ms(&self) -> u64 {
        (self.minutes * 60_000.0) as u64
    }

    /// When an attack begins, in ms.
    pub fn attack_ms(&self) -> u64 {
        match self.attack {
            Some(Attack::Censor | Attack::ColdBoot) => 0,
            _ => self.end_ms() / 3,
        }
    }
}

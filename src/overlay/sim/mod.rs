//! The simulator: the protocol code of this room, unchanged, under virtual time. Owns the world around it:
//! links, delays, uplinks, machines that come and go, and those who mean harm. The same scenario gives
//! the same outcome, byte for byte.
//!
//! | file | owns |
//! |---|---|
//! | `geography` | where nodes are, delays, uplinks; the source of these figures |
//! | `scenario` | what is to be simulated |
//! | `world` | events, links, nodes, and what they send |
//! | `attack` | what adversaries do |
//! | `rebalance` | health of domains, epoch by epoch, and their volunteers |
//! | `outcome` | what is measured |
//! | `star` | the federated star, to compare with |

mod attack;
pub mod geography;
pub mod outcome;
mod rebalance;
pub mod scenario;
mod star;
mod world;

pub use outcome::{Outcome, Period};
pub use scenario::{Attack, Scenario, Shape};

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = world::World::new(scenario.clone());
    world.run();
    outcome::measure(&world)
}

//! PODS overlays: domains, their topologies, and where a packet goes. All sans-IO. It moves opaque
//! bytes and never knows what an event means; it imports `base` alone.

pub mod admission;
pub mod chance;
pub mod crossing;
pub mod domain;
pub mod gossip;
pub mod health;
pub mod member;
pub mod sim;
pub mod topology;

use serde::{Deserialize, Serialize};

use crate::base::NodeId;

pub use domain::Domain;

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Destination {
    /// Every node of the domain.
    Domain,
    /// One peer that is up.
    Peer(NodeId),
}

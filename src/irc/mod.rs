//! IRC, both ways: `proto` is sans-IO, `listener` serves clients, `network` links to networks.

pub mod listener;
pub mod network;
pub mod proto;

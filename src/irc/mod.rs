//! IRC, both ways: `proto` is sans-IO, `listener` serves clients, `network` links to networks.
//! No raw line gets past this room's edge: what comes in is parsed in `proto::line`, and what goes
//! out is built there.

pub mod listener;
pub mod network;
pub mod proto;

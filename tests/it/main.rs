//! The one integration binary: what needs real parts, and what looks at the source itself.

mod cli;
mod domains;
mod durability;
mod failover;
mod fuzz;
mod interop;
mod irc_network;
mod market;
mod matrix;
mod moderation;
mod net;
mod newcomer;
mod oracle;
mod overlay;
mod overlay_net;
mod peers;
mod sim;
mod store;
mod tidy;
mod workspaces;

//! Multichat: chat without an operator.

pub mod base;
pub mod chat;
pub mod cli;
pub mod control;
pub mod irc;
pub mod machine;
pub mod matrix;
pub mod net;
pub mod node;
pub mod overlay;
pub mod port;
pub mod replica;
pub mod runtime;
pub mod store;

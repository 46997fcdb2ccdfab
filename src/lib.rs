//! Multichat: chat without an operator.

pub mod base;
pub mod chat;
pub mod node;
pub mod port;

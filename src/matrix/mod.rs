//! The Matrix door: an application service.

pub mod proto;

//! The Matrix door: an application service.

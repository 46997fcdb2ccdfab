//! Serves IRC clients.

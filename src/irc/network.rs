//! Links to IRC networks.

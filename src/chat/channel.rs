//! `channel`: the resource that founds a channel and says what it is.

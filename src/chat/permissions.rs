//! `permissions`: what a member may do, one flag for each act.

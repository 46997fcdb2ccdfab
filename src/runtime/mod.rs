//! The shell around the node: clock, driver loop, supervision, shutdown, logging.

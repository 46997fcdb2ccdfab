//! The shell around the node: clock, driver loop, supervision, shutdown, logging. The only place
//! that reads the time or starts a node. It holds no chat logic.

mod clock;
mod driver;
mod logging;

mod verifier;

pub use logging::init_logging;

//! The shell around the node: clock, driver loop, supervision, shutdown, logging. The only place
//! that reads the time or starts a node. It holds no chat logic.

mod clock;
mod driver;
mod logging;
mod past;
mod restore;
mod run;
mod secret;
mod start;
mod verifier;

pub use logging::init_logging;
pub use restore::{Unreadable, load};
pub use run::run;
pub use start::GENERATION_FILE;
pub use start::{Running, data_dir, start};

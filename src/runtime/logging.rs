//! Logging set-up.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is told unless somebody asks for more: gossipsub would warn about every packet that is
/// said twice, which is how a node finds out whether its peers are still in step.
const QUIET: &str = "libp2p_gossipsub=error";

/// Sends log lines to standard error. `RUST_LOG`, where set, wins over `filter`; a filter that
/// cannot be read falls back to `info`, and says so.
pub fn init_logging(filter: &str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let wanted = if wanted.is_empty() { "info".to_owned() } else { wanted };
    let (filter, complaint) = match EnvFilter::try_new(format!("{QUIET},{wanted}")) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(format!("{QUIET},info")), Some(error)),
    };
    let done = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let (Ok(()), Some(error)) = (done, complaint) {
        tracing::warn!("log filter {wanted:?} cannot be read ({error}); using info");
    }
}

//! Logging set-up.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error. `RUST_LOG`, where set, wins over `filter`; a filter that
/// cannot be read falls back to `info`, and says so.
pub fn init_logging(filter: &str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let wanted = if wanted.is_empty() { "info".to_owned() } else { wanted };
    let (filter, complaint) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
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

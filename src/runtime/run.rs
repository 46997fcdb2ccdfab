//! `multichat run`: a node in the foreground, until a signal or a fault ends it.

use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, start};
use crate::base::Kind;
use crate::base::config::Config;
use crate::port::Fault;

/// Starts a node, says on standard output that it is ready, and runs it until SIGTERM or SIGINT. (SIGHUP
/// is only answered in the log.)
///
/// # Errors
/// The [`Fault`] that kept it from starting or made it stop.
pub async fn run(config: Config, base_dir: PathBuf) -> Result<(), Fault> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    // Taken from the start: its default is to end the process without a word.
    let mut hang_up = on(SignalKind::hangup())?;
    let mut running = tokio::select! {
        started = Box::pin(start(config, &base_dir)) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    // Whoever started us may not listen: that is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{}", ready_line(&running));
    let fault = loop {
        tokio::select! {
            fault = running.failed() => break Some(fault),
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => {
                tracing::warn!("SIGHUP: nothing is read anew while the node runs; restart it to take up a changed configuration");
            }
        }
    };
    if fault.is_none() {
        tracing::info!("stopping");
    }
    let stopped = running.stop().await;
    fault.map_or(stopped, Err)
}

fn on(kind: SignalKind) -> Result<Signal, Fault> {
    signal(kind).map_err(|error| Fault::new(Kind::Bug, format!("signals cannot be received: {error}")))
}

/// What scripts wait for: everything listens, and where.
fn ready_line(running: &Running) -> String {
    let irc: Vec<String> = running.irc.iter().map(ToString::to_string).collect();
    let mut line = "multichat ready".to_owned();
    if !irc.is_empty() {
        line.push_str(&format!(" irc={}", irc.join(",")));
    }
    if let Some(matrix) = running.matrix {
        line.push_str(&format!(" matrix={matrix}"));
    }
    line.push_str(&format!(" p2p={}", running.peer_id));
    line
}

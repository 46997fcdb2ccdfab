//! `multichat run`: a node in the foreground, until a signal or a fault ends it.

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, start};
use crate::base::Kind;
use crate::base::config::Config;
use crate::port::Fault;

/// Starts a node, says on standard output that it is ready, and runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The [`Fault`] that kept it from starting or made it stop.
pub async fn run(config: Config, base_dir: PathBuf) -> Result<(), Fault> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut running = tokio::select! {
        started = Box::pin(start(config, &base_dir)) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!("{}", ready_line(&running));
    let fault = tokio::select! {
        fault = running.failed() => Some(fault),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
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

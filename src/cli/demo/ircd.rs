//! A real IRC server for the demo and for tests: ngIRCd, on a port of this machine alone, with its
//! limits lifted. It never serves anyone else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::debian::{self, Packaged};
use super::process::{Process, free_ports, last_lines, run, wait_for_port};
use super::trouble::Trouble;

/// Where ngIRCd comes from.
pub const NGIRCD: Packaged = Packaged { program: "ngircd", package: "ngircd" };

const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// An IRC server that we started. Killed when dropped.
#[derive(Debug)]
pub struct Ircd {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Ircd {
    /// Starts ngIRCd in `dir`, which keeps its configuration and log. It is the system's, or comes
    /// unpacked from its package into `packages`.
    ///
    /// # Errors
    /// [`Trouble::Missing`] where it cannot be had at all; otherwise why it did not start.
    pub async fn start(packages: &Path, dir: &Path) -> Result<Self, Trouble> {
        let program = debian::get(NGIRCD, packages).await?;
        std::fs::create_dir_all(dir).map_err(|e| Trouble::disk(dir, e))?;
        let [port] = free_ports()?;
        let mut ircd = Self {
            program,
            config: dir.join("ngircd.conf"),
            log: dir.join("ngircd.log"),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            process: None,
        };
        std::fs::write(&ircd.config, config(port)).map_err(|e| Trouble::disk(&ircd.config, e))?;
        ircd.restart().await?;
        Ok(ircd)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it again on the same port, after ending it if it runs.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn restart(&mut self) -> Result<(), Trouble> {
        self.stop().await;
        let mut command = Command::new(&self.program);
        command.arg("--nodaemon").arg("--config").arg(&self.config);
        let process = self.process.insert(Process::start("ngircd", &mut command, &self.log)?);
        let failed = async {
            loop {
                if let Some(how) = process.ended() {
                    return how;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ready = wait_for_port(self.address, START_PATIENCE) => ready,
            how = failed => {
                let said = format!("{how}: {}", last_lines(&self.log, 3));
                Err(Trouble::failed("starting ngircd", said))
            }
        }
    }

    /// Asks it to end, and makes sure of it.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(STOP_PATIENCE).await;
        }
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Its own words about its version, such as `ngIRCd 26.1-…`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn version(&self) -> Result<String, Trouble> {
        version(&self.program).await
    }
}

/// The version of an ngIRCd.
///
/// # Errors
/// If it cannot be run.
pub async fn version(program: &Path) -> Result<String, Trouble> {
    let mut command = Command::new(program);
    let printed = run("asking ngircd for its version", command.arg("--version"), START_PATIENCE).await?;
    Ok(printed.lines().next().unwrap_or_default().to_owned())
}

/// The configuration: one port on the loopback, nothing looked up, no penalties or bounds that
/// would slow a bridge down. As root it changes to `nobody`, or it would refuse to run.
fn config(port: u16) -> String {
    format!(
        "\
[Global]
\tName = ircd.demo.local
\tInfo = An IRC network to bridge to
\tAdminInfo1 = Multichat demo
\tAdminEMail = nobody@demo.local
\tListen = 127.0.0.1
\tPorts = {port}
\tMotdPhrase = Welcome
\tServerUID = nobody
\tServerGID = nogroup
[Limits]
\tMaxConnections = 0
\tMaxConnectionsIP = 0
\tMaxJoins = 0
\tMaxNickLength = 30
\tMaxPenaltyTime = 0
\tPingTimeout = 120
\tPongTimeout = 60
[Options]
\tDNS = no
\tIdent = no
\tPAM = no
\tSyslogFacility = local1
\tOperCanUseMode = no
"
    )
}

//! Other people's real programs for the tests: Synapse, ngIRCd, irssi and WeeChat. Gets what is
//! missing into `target/peers`, prints their versions, and fails what cannot be had, unless
//! `MULTICHAT_SKIP_PEERS=1` says to go on without.

mod alone;
pub mod node;

use std::path::{Path, PathBuf};
use std::time::Duration;

use multichat::cli::demo::debian::{self, Packaged};
use multichat::cli::demo::ircd::{Ircd, NGIRCD};
use multichat::cli::demo::irssi::IRSSI;
use multichat::cli::demo::process::run;
use multichat::cli::demo::synapse::{self, Installation, Synapse};
use multichat::cli::demo::synapse_config::Settings;
use multichat::cli::demo::trouble::Trouble;
use tokio::process::Command;

const WEECHAT: Packaged = Packaged { program: "weechat-headless", package: "weechat-headless" };

/// Where peers are kept: `target/peers`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// An empty folder for one test's files.
pub fn scratch(test: &str) -> Scratch {
    let dir = folder().join("runs").join(format!("{test}-{}", std::process::id()));
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).unwrap();
    Scratch(dir)
}

/// A folder that is removed when its test is done, and kept to be looked at when it failed.
pub struct Scratch(PathBuf);

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}

/// The peers that a test needs, or `None` where the test is to be passed over because
/// `MULTICHAT_SKIP_PEERS=1` is set.
///
/// # Panics
/// With what to do, where one cannot be had and nobody said to skip.
pub fn unless_skipped<T>(peer: Result<T, Trouble>) -> Option<T> {
    let skip = std::env::var("MULTICHAT_SKIP_PEERS").is_ok_and(|value| value == "1");
    match peer {
        Ok(peer) => Some(peer),
        Err(trouble) if skip => {
            println!("passed over, as MULTICHAT_SKIP_PEERS=1 says: {trouble}");
            None
        }
        Err(trouble) => panic!("{trouble} (MULTICHAT_SKIP_PEERS=1 passes over tests that need it)"),
    }
}

/// Synapse, installed under `target/peers` the first time.
pub async fn synapse() -> Result<Installation, Trouble> {
    let installed = synapse::install(&folder().join("synapse"), |_| {}).await?;
    println!("synapse {}", installed.version().await?);
    Ok(installed)
}

/// A running homeserver.
pub async fn homeserver(dir: &Path, settings: Settings) -> Result<Synapse, Trouble> {
    Synapse::start(&synapse().await?, &dir.join("synapse"), settings).await
}

/// A running IRC server.
pub async fn ircd(dir: &Path) -> Result<Ircd, Trouble> {
    packaged(NGIRCD).await?;
    let ircd = Ircd::start(&debian_folder(), &dir.join("ircd")).await?;
    println!("{}", ircd.version().await?);
    Ok(ircd)
}

/// The ngIRCd program.
pub async fn ngircd_program() -> Result<PathBuf, Trouble> {
    packaged(NGIRCD).await
}

/// The irssi program.
pub async fn irssi_program() -> Result<PathBuf, Trouble> {
    let program = packaged(IRSSI).await?;
    println!("{}", version(&program, "--version").await?);
    Ok(program)
}

/// The headless WeeChat program.
pub async fn weechat_program() -> Result<PathBuf, Trouble> {
    let program = packaged(WEECHAT).await?;
    println!("weechat {}", version(&program, "--version").await?);
    Ok(program)
}

fn debian_folder() -> PathBuf {
    folder().join("debian")
}

/// Gets a program, one process at a time: tests run side by side, and so may whole test runs.
async fn packaged(wanted: Packaged) -> Result<PathBuf, Trouble> {
    if let Some(program) = debian::find(wanted, &debian_folder()) {
        return Ok(program);
    }
    let file = debian_folder().with_extension("lock");
    let lock = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(folder())?;
        let lock = std::fs::File::create(file)?;
        lock.lock().map(|()| lock)
    });
    let _lock = lock.await.unwrap().map_err(|e| Trouble::disk(&folder(), e))?;
    println!("getting {} (the first time only)", wanted.program);
    debian::get(wanted, &debian_folder()).await
}

async fn version(program: &Path, flag: &str) -> Result<String, Trouble> {
    let mut command = Command::new(program);
    let doing = format!("asking {} for its version", program.display());
    let printed = run(&doing, command.arg(flag), Duration::from_secs(20)).await?;
    Ok(printed.lines().next().unwrap_or_default().to_owned())
}

//! A node as a child process: the program as people run it, that can be killed at any moment and
//! comes back on the same addresses with what it had made durable, and nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multichat::base::config::Config;
use multichat::cli::demo::process::{Process, last_lines, run};
use tokio::process::Command;
use tokio::time::Instant;

/// Starting takes about a second; a node that waits for its peers takes some more.
const PATIENCE: Duration = Duration::from_secs(90);

/// One node of ours, running or not.
pub struct Node {
    name: &'static str,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    starts: usize,
}

impl Node {
    /// Writes the configuration into `dir`; the data goes there as well.
    pub fn new(name: &'static str, dir: &Path, config: &Config) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join("config.yaml");
        std::fs::write(&path, serde_yaml::to_string(config).unwrap()).unwrap();
        Self { name, config: path, log: dir.join("log"), process: None, starts: 0 }
    }

    /// Sets it going; does not wait until it is ready.
    pub fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.arg("run").arg("--config").arg(&self.config).env("NO_COLOR", "1").env_remove("RUST_LOG");
        self.process = Some(Process::start(self.name, &mut command, &self.log).unwrap());
        self.starts += 1;
    }

    /// Waits until it says that it is ready, and returns that line.
    ///
    /// # Panics
    /// If it ends instead, with its last words.
    pub async fn ready(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        let before = self.ready_before();
        loop {
            self.must_run();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            // Only what the present process said counts: it begins where the last one was started.
            if let Some(line) =
                log.get(before..).and_then(|log| log.lines().find(|l| l.starts_with("multichat ready ")))
            {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "node {} is not ready: {}", self.name, last_lines(&self.log, 3));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the node, asked by the command line, lists a channel.
    pub async fn knows_channel(&mut self, channel: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
            command.args(["channels", "--config"]).arg(&self.config);
            let listed = run("listing channels", &mut command, PATIENCE).await;
            if listed.as_ref().is_ok_and(|listed| listed.contains(channel)) {
                return;
            }
            assert!(Instant::now() < end, "node {} does not know {channel}: {listed:?}", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills it (SIGKILL), in the middle of whatever it does.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub async fn kill(&mut self) {
        self.must_run();
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
        self.mark();
    }

    /// Ends it in good order.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop(Duration::from_secs(10)).await;
        }
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        self.starts
    }

    /// How many lines of its log have this in them.
    pub fn logged(&self, part: &str) -> usize {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(part)).count()
    }

    /// # Panics
    /// If it has ended by itself.
    pub fn must_run(&mut self) {
        if let Some(how) = self.process.as_mut().and_then(Process::ended) {
            panic!("node {} ended by itself ({how}): {}", self.name, last_lines(&self.log, 3));
        }
    }

    /// Where the log of the present process begins.
    fn ready_before(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.rfind(KILLED).map_or(0, |at| at + KILLED.len())
    }

    /// Says in the log that the node was killed here.
    fn mark(&self) {
        use std::io::Write;
        let mut log = std::fs::OpenOptions::new().append(true).open(&self.log).unwrap();
        log.write_all(KILLED.as_bytes()).unwrap();
    }
}

const KILLED: &str = "\n--- killed ---\n";

/// The first address of an IRC listener in a configuration.
pub fn listener(config: &Config) -> SocketAddr {
    config.irc.listen[0].address.parse().unwrap()
}

//! A node as its own process, as people run it: to be killed without warning and started again on
//! the same data.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multichat::base::config::Config;
use multichat::cli::demo::process::{Process, last_lines};
use tokio::process::Command;

/// A running `multichat run`. Killed when dropped.
pub struct NodeProcess {
    dir: PathBuf,
    process: Option<Process>,
    starts: usize,
}

impl NodeProcess {
    /// Starts a node with this configuration, and waits for its ready line.
    pub async fn start(dir: &Path, config: &Config) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("config.yaml"), serde_yaml::to_string(config).unwrap()).unwrap();
        let mut node = Self { dir: dir.to_owned(), process: None, starts: 0 };
        node.restart().await;
        node
    }

    /// Starts it again on the same data, after killing it (SIGKILL) if it runs.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.starts += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.arg("--config").arg(self.dir.join("config.yaml")).arg("run").env("NO_COLOR", "1");
        let process = self
            .process
            .insert(Process::start("multichat", &mut command, &log(&self.dir, self.starts)).unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        while ready(&self.dir, self.starts).is_none() {
            let said = last_lines(&log(&self.dir, self.starts), 5);
            assert_eq!(process.ended(), None, "the node ended: {said}");
            assert!(Instant::now() < end, "the node was not ready in time: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Lets it do nothing (SIGSTOP) until [`Self::thaw`]: its peers and clients hear nothing of it.
    pub async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Lets a frozen one go on (SIGCONT).
    pub async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.process.as_ref().and_then(Process::id).expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    /// What a command of the command line that asks this node answers, as JSON.
    pub async fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.arg("--config").arg(self.dir.join("config.yaml")).arg("--json").args(arguments);
        let ended = command.output().await.unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&ended.stdout).unwrap()
    }

    /// A field of its ready line, such as `irc` or `p2p`.
    pub fn field(&self, name: &str) -> String {
        let line = ready(&self.dir, self.starts).unwrap_or_default();
        let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
    }
}

fn log(dir: &Path, starts: usize) -> PathBuf {
    dir.join(format!("log-{starts}"))
}

fn ready(dir: &Path, starts: usize) -> Option<String> {
    let text = std::fs::read_to_string(log(dir, starts)).unwrap_or_default();
    // A line without its end may still be being written.
    text.split_inclusive('\n')
        .find(|line| line.starts_with("multichat ready") && line.ends_with('\n'))
        .map(|line| line.trim().to_owned())
}

//! A real homeserver for the demo and for tests: Synapse, installed from PyPI into a folder of
//! ours and started on a port of this machine alone. It never federates and reports to nobody.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::process::{Process, find_program, free_ports, last_lines, run};
use super::synapse_config::{self, Settings};
use super::trouble::Trouble;

/// The release that is installed.
pub const VERSION: &str = "1.163.0";

/// Packages that come with it, roughly: the length of the progress bar.
const PACKAGES: usize = 57;
const INSTALL_PATIENCE: Duration = Duration::from_secs(900);
const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const REGISTER_PATIENCE: Duration = Duration::from_secs(60);

/// How far an installation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Another process installs into the same folder; we wait for it.
    Waiting,
    /// Making the Python environment.
    Environment,
    /// Fetched so many packages out of about so many.
    Fetched { packages: usize, about: usize },
    /// All are fetched and being unpacked.
    Unpacking,
}

/// Synapse, ready to be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installation {
    python: PathBuf,
}

impl Installation {
    /// One of Synapse's programs, by the module that it is.
    pub fn program(&self, module: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-m", module]);
        command
    }

    /// The version of the Synapse that is installed.
    ///
    /// # Errors
    /// If Python cannot be run.
    pub async fn version(&self) -> Result<String, Trouble> {
        let ask = "import importlib.metadata as m; print(m.version('matrix-synapse'))";
        let mut command = Command::new(&self.python);
        let doing = "asking Synapse for its version";
        run(doing, command.args(["-c", ask]), REGISTER_PATIENCE).await.map(|text| text.trim().to_owned())
    }
}

/// Makes sure that Synapse is installed in `dir`; a half-done installation is done again. When it
/// is there already this takes no time and no network.
///
/// # Errors
/// [`Trouble::Missing`] without a fit Python; otherwise what pip said last.
pub async fn install(dir: &Path, mut told: impl FnMut(Progress)) -> Result<Installation, Trouble> {
    let dir = std::path::absolute(dir).map_err(|e| Trouble::disk(dir, e))?;
    let installation = Installation { python: dir.join("bin").join("python") };
    let is_done = || std::fs::read_to_string(marker(&dir)).is_ok_and(|version| version.trim() == VERSION);
    if is_done() {
        return Ok(installation);
    }
    let _lock = lock(&dir, &mut told).await?;
    if is_done() {
        return Ok(installation);
    }
    let python = find_python().await?;
    clear(&dir)?;
    told(Progress::Environment);
    let mut venv = Command::new(&python);
    run("making a Python environment", venv.args(["-m", "venv"]).arg(&dir), INSTALL_PATIENCE).await?;
    let log = dir.join("pip.log");
    tokio::time::timeout(INSTALL_PATIENCE, pip(&installation.python, &log, &mut told)).await.map_err(
        |_| {
            let awaited = format!("pip to install Synapse (see {})", log.display());
            Trouble::Late { awaited, waited_s: INSTALL_PATIENCE.as_secs() }
        },
    )??;
    std::fs::write(marker(&dir), VERSION).map_err(|e| Trouble::disk(&dir, e))?;
    Ok(installation)
}

/// A homeserver that we started. Killed when dropped.
#[derive(Debug)]
pub struct Synapse {
    installation: Installation,
    settings: Settings,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Synapse {
    /// Starts a homeserver that keeps everything in `dir`, and waits until it answers. A `dir` used
    /// before keeps its users, rooms and port.
    ///
    /// # Errors
    /// Why it did not start, with the last lines of its log.
    pub async fn start(installation: &Installation, dir: &Path, settings: Settings) -> Result<Self, Trouble> {
        let dir = std::path::absolute(dir).map_err(|e| Trouble::disk(dir, e))?;
        let port = synapse_config::write(&dir, &settings, || free_ports().map(|[port]| port))?;
        let mut synapse = Self { installation: installation.clone(), settings, dir, port, process: None };
        synapse.restart().await?;
        Ok(synapse)
    }

    /// Where clients connect to, such as `http://127.0.0.1:8008`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The part of its users' ids after the colon.
    pub fn server_name(&self) -> &str {
        &self.settings.server_name
    }

    /// Starts it again on the same port and database, after ending it if it runs.
    ///
    /// # Errors
    /// Why it did not start, with the last lines of its log.
    pub async fn restart(&mut self) -> Result<(), Trouble> {
        self.stop().await;
        let console = self.dir.join("console.log");
        let mut command = self.command("synapse.app.homeserver");
        command.arg("--config-path").arg(synapse_config::path(&self.dir));
        let url = format!("{}/_matrix/client/versions", self.url());
        let process = self.process.insert(Process::start("Synapse", &mut command, &console)?);
        let answers = async {
            let client = http();
            while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                if let Some(how) = process.ended() {
                    let said = format!("{how}: {}", last_lines(&console, 4));
                    return Err(Trouble::failed("starting Synapse", said));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let awaited = format!("Synapse to answer (see {})", self.dir.join("homeserver.log").display());
        tokio::time::timeout(START_PATIENCE, answers)
            .await
            .map_err(|_| Trouble::Late { awaited, waited_s: START_PATIENCE.as_secs() })?
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

    /// Registers users, each a localpart and a password, by the shared secret. Users that exist
    /// already stay as they are.
    ///
    /// # Errors
    /// What Synapse's own registration program said.
    pub async fn register(&self, users: &[(&str, &str)]) -> Result<(), Trouble> {
        let registering = users.iter().map(|(name, password)| async move {
            let mut command = self.command("synapse._scripts.register_new_matrix_user");
            command.args(["--no-admin", "--exists-ok", "--user", name, "--password", password]);
            command.arg("--config").arg(synapse_config::path(&self.dir)).arg(self.url());
            run(&format!("registering {name}"), &mut command, REGISTER_PATIENCE).await.map(drop)
        });
        futures::future::try_join_all(registering).await.map(drop)
    }

    fn command(&self, module: &str) -> Command {
        let mut command = self.installation.program(module);
        command.current_dir(&self.dir);
        command
    }
}

/// The client that asks whether a homeserver answers. It never leaves the machine, so no proxy.
fn http() -> reqwest::Client {
    // Whoever comes first installs it; that it is there already is no failure.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
    client.unwrap_or_default()
}

fn marker(dir: &Path) -> PathBuf {
    dir.join("installed")
}

/// Keeps other processes from installing into the same folder until the file is closed.
async fn lock(dir: &Path, told: &mut impl FnMut(Progress)) -> Result<File, Trouble> {
    let path = dir.with_extension("lock");
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Trouble::disk(parent, e))?;
    }
    let file = File::create(&path).map_err(|e| Trouble::disk(&path, e))?;
    let mut has_told = false;
    let waiting = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(std::fs::TryLockError::Error(error)) => return Err(Trouble::disk(&path, error)),
                Err(std::fs::TryLockError::WouldBlock) if !has_told => told(Progress::Waiting),
                Err(std::fs::TryLockError::WouldBlock) => {}
            }
            has_told = true;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(INSTALL_PATIENCE, waiting).await.map_err(|_| Trouble::Late {
        awaited: format!("another installation to finish (its lock is {})", path.display()),
        waited_s: INSTALL_PATIENCE.as_secs(),
    })??;
    Ok(file)
}

/// A Python that can make environments and is new enough for Synapse.
async fn find_python() -> Result<PathBuf, Trouble> {
    let missing = |what: &str, mend: &str| Trouble::Missing { what: what.into(), mend: mend.into() };
    let names = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
    let mut found = None;
    for python in names.into_iter().filter_map(find_program) {
        let test = "import sys; print(sys.version_info >= (3, 10)); import venv, ensurepip";
        let mut command = Command::new(&python);
        let output = command.args(["-c", test]).stdin(Stdio::null()).kill_on_drop(true).output();
        let Ok(Ok(output)) = tokio::time::timeout(Duration::from_secs(60), output).await else { continue };
        let is_new_enough = output.stdout.starts_with(b"True");
        if is_new_enough && output.status.success() {
            return Ok(python);
        }
        if is_new_enough || found.is_none() {
            found = Some(is_new_enough);
        }
    }
    Err(match found {
        None => {
            missing("python3", "install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)")
        }
        Some(false) => {
            missing("a new enough Python", "Synapse needs Python 3.10 or newer; install it as python3")
        }
        Some(true) => {
            missing("Python's venv module", "install it (Debian: apt-get install python3-venv) and run again")
        }
    })
}

/// Removes a half-done installation. Only what is clearly one: never somebody's other files.
fn clear(dir: &Path) -> Result<(), Trouble> {
    let Ok(mut entries) = std::fs::read_dir(dir) else { return Ok(()) };
    if entries.next().is_some() && !dir.join("pyvenv.cfg").is_file() {
        return Err(Trouble::disk(dir, "there is something else in it"));
    }
    std::fs::remove_dir_all(dir).map_err(|e| Trouble::disk(dir, e))
}

/// Runs pip, telling how far it is, with everything it says in a log.
async fn pip(python: &Path, log: &Path, told: &mut impl FnMut(Progress)) -> Result<(), Trouble> {
    let doing = "installing Synapse from PyPI";
    let failed = |e: std::io::Error| Trouble::failed(doing, e);
    let mut child = Command::new(python)
        .args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check"])
        .args(["--progress-bar", "off", "--prefer-binary", &format!("matrix-synapse=={VERSION}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(printed), Some(complained)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Trouble::failed(doing, "its output cannot be read"));
    };
    let mut file = tokio::fs::File::create(log).await.map_err(|e| Trouble::disk(log, e))?;
    let follow = async {
        let mut lines = BufReader::new(printed).lines();
        let mut packages = 0;
        while let Some(line) = lines.next_line().await? {
            file.write_all(format!("{line}\n").as_bytes()).await?;
            if line.starts_with("Collecting ") {
                packages += 1;
                told(Progress::Fetched { packages, about: PACKAGES.max(packages) });
            } else if line.starts_with("Installing collected packages") {
                told(Progress::Unpacking);
            }
        }
        file.flush().await
    };
    let mut errors = Vec::new();
    let mut complained = complained.take(1 << 20);
    let (followed, read) = tokio::join!(follow, complained.read_to_end(&mut errors));
    followed.and(read.map(drop)).map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    file.write_all(&errors).await.and(file.flush().await).map_err(failed)?;
    let said = last_lines(log, 2);
    Err(Trouble::failed(doing, format!("{said} (is the network up? all of it is in {})", log.display())))
}

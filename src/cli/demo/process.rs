//! Child processes: found, started, watched and ended. It owns their lifetime: none outlives the
//! value that stands for it. It never touches a process that it did not start.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::trouble::Trouble;

/// Where system daemons are kept although it is not in everybody's `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// Looks for a program in `PATH` and in the folders of system daemons.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A path as one word for the shell.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Where the system takes the ports of outgoing connections from begins here, or higher.
const EPHEMERAL: u16 = 32_768;
/// Lower ones are commonly somebody's own.
const LOWEST: u16 = 10_000;

/// Free ports of 127.0.0.1, for TCP and UDP, all different. They are free when chosen, and below
/// those that the system gives to outgoing connections: a server that is away for a while finds
/// its port still free when it comes back.
///
/// # Errors
/// [`Trouble::Failed`] when the system has none to give.
pub fn free_ports<const N: usize>() -> Result<[u16; N], Trouble> {
    let choose = || -> std::io::Result<[u16; N]> {
        // All are held at once, so that no two are the same.
        let held = (0..N).map(|_| hold_port()).collect::<std::io::Result<Vec<_>>>()?;
        let mut ports = [0; N];
        for (port, (listener, _)) in ports.iter_mut().zip(&held) {
            *port = listener.local_addr()?.port();
        }
        Ok(ports)
    };
    choose().map_err(|e| Trouble::failed("choosing a free port", e))
}

fn hold_port() -> std::io::Result<(TcpListener, UdpSocket)> {
    let mut last = std::io::Error::other("the system gives no random bytes");
    for _ in 0..1_000 {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let address = ("127.0.0.1", LOWEST + u16::from_le_bytes(random) % (EPHEMERAL - LOWEST));
        match TcpListener::bind(address).and_then(|tcp| Ok((tcp, UdpSocket::bind(address)?))) {
            Ok(held) => return Ok(held),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Waits until something accepts connections.
///
/// # Errors
/// [`Trouble::Late`].
pub async fn wait_for_port(address: SocketAddr, within: Duration) -> Result<(), Trouble> {
    let accepted = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = |_| Trouble::Late { awaited: format!("a server on {address}"), waited_s: within.as_secs() };
    tokio::time::timeout(within, accepted).await.map_err(late)
}

/// A running child process, killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program with its output going to a file. It gets a process group of its own, so
    /// that Ctrl-C in a terminal reaches us alone and we end it in good order.
    ///
    /// # Errors
    /// [`Trouble::Failed`] if it cannot be started, [`Trouble::Disk`] if the file cannot be made.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Trouble> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|e| Trouble::disk(log, e))?;
        let copy = file.try_clone().map_err(|e| Trouble::disk(log, e))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Trouble::failed(format!("starting {name}"), e))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it still runs. If not, how it ended.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Asks it to end (SIGTERM), and ends it (SIGKILL) if it has not within `patience`.
    pub async fn stop(mut self, patience: Duration) {
        if let Some(id) = self.child.id() {
            // The standard library sends no other signal than SIGKILL; every shell can.
            let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id.to_string()]).status().await;
            if asked.is_ok_and(|status| status.success())
                && tokio::time::timeout(patience, self.child.wait()).await.is_ok()
            {
                return;
            }
        }
        self.kill().await;
    }

    /// Ends it at once (SIGKILL), as a crash would.
    pub async fn kill(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(process = %self.name, %error, "could not be killed; it has ended already");
        }
    }
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// [`Trouble`] if it cannot be started, fails (with its last lines) or takes too long.
pub async fn run(doing: &str, command: &mut Command, within: Duration) -> Result<String, Trouble> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(within, output)
        .await
        .map_err(|_| Trouble::Late { awaited: doing.to_owned(), waited_s: within.as_secs() })?
        .map_err(|e| Trouble::failed(doing, e))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complained = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::failed(doing, tail(&format!("{printed}\n{complained}"), 3)))
}

/// The last lines of a log, as one line for an error.
pub fn last_lines(log: &Path, count: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    tail(&String::from_utf8_lossy(&bytes), count)
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(count)..];
    if tail.is_empty() { "it said nothing".into() } else { tail.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let ports = free_ports::<4>().unwrap();
        let different: std::collections::BTreeSet<u16> = ports.into_iter().collect();
        assert_eq!(different.len(), 4);
        assert!(different.iter().all(|port| (LOWEST..EPHEMERAL).contains(port)), "{ports:?}");
    }

    #[test]
    fn any_path_is_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-program-has-this-name"), None);
    }

    #[tokio::test]
    async fn a_process_ends_when_asked_and_when_dropped() {
        let log = std::env::temp_dir().join(format!("multichat-process-{}.log", std::process::id()));
        let mut sleep = Command::new("sleep");
        let mut process = Process::start("sleep", sleep.arg("600"), &log).unwrap();
        assert_eq!(process.ended(), None);
        process.stop(Duration::from_secs(30)).await;

        let mut talk = Command::new("sh");
        let talk = talk.args(["-c", "echo one; echo two; echo three; exit 3"]);
        let mut process = Process::start("sh", talk, &log).unwrap();
        let ended = loop {
            match process.ended() {
                Some(how) => break how,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert!(ended.contains('3'), "{ended}");
        assert_eq!(last_lines(&log, 2), "two | three");
        std::fs::remove_file(&log).unwrap();
    }
}

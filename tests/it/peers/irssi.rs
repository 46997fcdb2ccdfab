//! Drives a real irssi: on a terminal of its own, typed to as a person would, read by the log
//! files that it writes itself. Ended when dropped.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A running irssi with one connection.
pub struct Irssi {
    home: PathBuf,
    terminal: Child,
    keys: ChildStdin,
    nick: String,
}

/// The name of its one network, and of the folder with its logs.
const NETWORK: &str = "multichat";

impl Irssi {
    /// Starts irssi in a fresh home in `dir`, connected to a server under a nick. It connects
    /// again by itself, and joins again what it had joined, when the server goes and comes.
    pub fn start(program: &Path, dir: &Path, address: SocketAddr, nick: &str) -> Self {
        let home = dir.join(format!("irssi-{nick}"));
        std::fs::create_dir_all(home.join("logs")).unwrap();
        std::fs::write(home.join("config"), config(&home, address, nick)).unwrap();
        // `script` gives it a terminal; irssi wants one of some size.
        let run = format!(
            "stty rows 50 cols 200; exec '{}' --home '{}' --connect {NETWORK}",
            program.display(),
            home.display()
        );
        let mut terminal = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &run])
            .arg(home.join("screen"))
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` of util-linux gives irssi its terminal");
        let keys = terminal.stdin.take().unwrap();
        Self { home, terminal, keys, nick: nick.to_owned() }
    }

    /// Types a line and presses Enter: a command such as `/join #demo`, or text for the window
    /// that is open.
    pub fn type_line(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Opens the window of a channel and says a line in it.
    pub fn say(&mut self, channel: &str, text: &str) {
        self.type_line(&format!("/msg {channel} {text}"));
    }

    /// What irssi logged of a channel (or of its talk with a person) so far.
    pub fn log(&self, target: &str) -> String {
        let file = self.home.join("logs").join(NETWORK).join(format!("{target}.log"));
        String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
    }

    /// Waits until the log of a channel has a line with this in it, and returns that line.
    pub async fn wait_for(&self, target: &str, text: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            let log = self.log(target);
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(
                Instant::now() < end,
                "irssi did not see {text:?} in {target} within {within:?}; it saw:\n{log}\nand its screen:\n{}",
                self.screen()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Joins a channel and waits until irssi is in it. It is asked again while it says that it is
    /// not connected yet.
    pub async fn join(&mut self, channel: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.log(channel).contains(&format!("{} [", self.nick)) {
            assert!(Instant::now() < end, "irssi did not join {channel}; its screen:\n{}", self.screen());
            self.type_line(&format!("/join {channel}"));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Everything its terminal showed so far, control characters and all.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.join("screen")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Irssi {
    fn drop(&mut self) {
        self.keys.write_all(b"/quit\r").ok();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.terminal.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Where it does not leave by itself: with its terminal gone irssi ends too.
        self.terminal.kill().ok();
        self.terminal.wait().ok();
    }
}

/// A configuration with one server, everything logged at once, and no paste guard (which would
/// hold back lines that are typed fast).
fn config(home: &Path, address: SocketAddr, nick: &str) -> String {
    format!(
        r#"
servers = (
  {{ address = "{ip}"; chatnet = "{NETWORK}"; port = "{port}"; autoconnect = "yes"; use_tls = "no"; }}
);
chatnets = {{ {NETWORK} = {{ type = "IRC"; max_kicks = "1"; max_msgs = "1000"; max_whois = "1"; }}; }};
settings = {{
  core = {{
    nick = "{nick}";
    user_name = "{nick}";
    real_name = "{nick} at irssi";
    server_reconnect_time = "2sec";
    server_connect_timeout = "10sec";
    log_timestamp = "%H:%M:%S ";
  }};
  "fe-common/core" = {{
    autolog = "yes";
    autolog_path = "{home}/logs/$tag/$0.log";
    autolog_colors = "no";
  }};
  "fe-text" = {{
    paste_verify_line_count = "0";
    paste_detect_time = "0";
  }};
  "irc/core" = {{ cmd_queue_speed = "0"; cmds_max_at_once = "0"; }};
}};
"#,
        ip = address.ip(),
        port = address.port(),
        home = home.display(),
    )
}

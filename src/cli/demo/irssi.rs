//! A real irssi on a terminal of its own: typed to as a person would, read by the log files that
//! it writes itself. Leaves when dropped.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::debian::Packaged;
use super::process::{find_program, quoted};
use super::trouble::Trouble;

/// Where irssi comes from.
pub const IRSSI: Packaged = Packaged { program: "irssi", package: "irssi" };

/// The name of its one network, and of the folder with its logs.
const NETWORK: &str = "multichat";
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
const QUIT_PATIENCE: Duration = Duration::from_secs(3);

/// A running irssi with one connection.
#[derive(Debug)]
pub struct Irssi {
    home: PathBuf,
    terminal: Child,
    keys: ChildStdin,
    nick: String,
}

impl Irssi {
    /// Starts irssi in a fresh home in `dir`, connected to a server under a nick. It connects
    /// again by itself, and joins again what it had joined, when the server goes and comes.
    ///
    /// # Errors
    /// [`Trouble::Missing`] without `script` of util-linux, which gives it its terminal; otherwise
    /// why it could not be started.
    pub fn start(program: &Path, dir: &Path, address: SocketAddr, nick: &str) -> Result<Self, Trouble> {
        let Some(script) = find_program("script").filter(|_| cfg!(target_os = "linux")) else {
            let mend = "install util-linux (bsdutils on Debian)".into();
            return Err(Trouble::Missing { what: "`script`, which gives irssi a terminal,".into(), mend });
        };
        let dir = std::path::absolute(dir).map_err(|e| Trouble::disk(dir, e))?;
        let home = dir.join(format!("irssi-{nick}"));
        let configured = std::fs::create_dir_all(home.join("logs"))
            .and_then(|()| std::fs::write(home.join("config"), config(&home, address, nick)));
        configured.map_err(|e| Trouble::disk(&home, e))?;
        // irssi wants a terminal of some size, and one made by a pipe has none.
        let run = format!(
            "stty rows 50 cols 200; exec {} --home {} --connect {NETWORK}",
            quoted(program),
            quoted(&home)
        );
        let failed = |e| Trouble::failed("starting irssi", e);
        let mut terminal = Command::new(script)
            .args(["--quiet", "--flush", "--return", "--command", &run])
            .arg(home.join("screen"))
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in our terminal is for us; irssi is told to leave in good order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let Some(keys) = terminal.stdin.take() else {
            return Err(Trouble::failed("starting irssi", "it has no keyboard"));
        };
        Ok(Self { home, terminal, keys, nick: nick.to_owned() })
    }

    /// The nick it took.
    pub fn nick(&self) -> &str {
        &self.nick
    }

    /// Types a line and presses Enter: a command such as `/join #demo`, or text for the window
    /// that is open. Only the first line of several is typed.
    ///
    /// # Errors
    /// [`Trouble::Failed`] if irssi has ended.
    pub fn type_line(&mut self, line: &str) -> Result<(), Trouble> {
        let line = line.lines().next().unwrap_or_default();
        let typed = self.keys.write_all(format!("{line}\r").as_bytes()).and_then(|()| self.keys.flush());
        typed.map_err(|e| Trouble::failed("typing into irssi", e))
    }

    /// Says a line in a channel or to a person.
    ///
    /// # Errors
    /// As [`Irssi::type_line`].
    pub fn say(&mut self, target: &str, text: &str) -> Result<(), Trouble> {
        self.type_line(&format!("/msg {target} {text}"))
    }

    /// Joins a channel and waits until irssi is in it. It is asked again while it says that it is
    /// not connected yet.
    ///
    /// # Errors
    /// [`Trouble::Late`].
    pub async fn join(&mut self, channel: &str) -> Result<(), Trouble> {
        let end = Instant::now() + JOIN_PATIENCE;
        // A line such as `-!- dave [~dave@host] has joined #demo`.
        let joined = format!("{} [", self.nick);
        while Instant::now() < end {
            self.type_line(&format!("/join {channel}"))?;
            let once = Duration::from_secs(1);
            if self.wait_for(channel, "to join", once, |line| line.contains(&joined)).await.is_ok() {
                return Ok(());
            }
        }
        let awaited = format!("irssi to join {channel} (its screen is in {})", self.home.display());
        Err(Trouble::Late { awaited, waited_s: JOIN_PATIENCE.as_secs() })
    }

    /// What irssi logged of a channel (or of its talk with a person) so far: lines such as
    /// `12:00:00 < alice> hello`.
    pub fn log(&self, target: &str) -> String {
        let file = self.home.join("logs").join(NETWORK).join(format!("{}.log", target.to_lowercase()));
        String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
    }

    /// Waits until the log of a channel has a line that fits, and returns it.
    ///
    /// # Errors
    /// [`Trouble::Late`].
    pub async fn wait_for(
        &self,
        target: &str,
        awaited: &str,
        within: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String, Trouble> {
        let end = Instant::now() + within;
        loop {
            if let Some(line) = self.log(target).lines().find(|line| fits(line)) {
                return Ok(line.to_owned());
            }
            if Instant::now() >= end {
                let awaited = format!("{awaited} (irssi in {target}; see {})", self.home.display());
                return Err(Trouble::Late { awaited, waited_s: within.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Everything its terminal showed so far, control characters and all.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.join("screen")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Irssi {
    fn drop(&mut self) {
        let _ = self.keys.write_all(b"/quit\r");
        let end = Instant::now() + QUIT_PATIENCE;
        while Instant::now() < end && matches!(self.terminal.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Where it does not leave by itself: with its terminal gone irssi ends too.
        let _ = self.terminal.kill();
        let _ = self.terminal.wait();
    }
}

/// A line of irssi's log as who said it and what: `12:00:00 <@carol> hi` gives `carol`, `hi`.
pub fn said(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" <")?;
    let (nick, text) = rest.split_once("> ")?;
    Some((nick.trim_start_matches([' ', '~', '&', '@', '%', '+']), text))
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
  "fe-text" = {{ paste_verify_line_count = "0"; paste_detect_time = "0"; }};
  "irc/core" = {{ cmd_queue_speed = "0"; cmds_max_at_once = "0"; }};
}};
"#,
        ip = address.ip(),
        port = address.port(),
        home = home.display().to_string().replace('\\', "\\\\").replace('"', "\\\""),
    )
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn log_lines() {
        assert_eq!(said("12:00:00 < alice> hello > you"), Some(("alice", "hello > you")));
        assert_eq!(said("12:00:00 <@carol> <Alice> hello"), Some(("carol", "<Alice> hello")));
        assert_eq!(said("12:00:00 -!- dave [~d@h] has joined #demo"), None);
    }
}

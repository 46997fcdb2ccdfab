//! The program as a person meets it: the real binary, its exit codes, its words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use multichat::base::config::example;
use multichat::matrix::proto::registration::registration_example;

/// A directory of the test's own, gone with it.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("multichat-it-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `multichat` here, with nothing of the tester's own in its surroundings.
    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().expect("the binary runs"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.args(arguments).current_dir(&self.0).env("HOME", &self.0).env_remove("XDG_DATA_HOME");
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ended {
    /// Refused: 1, and one line on stderr that contains this.
    fn refused(&self, why: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(why), "{why:?} in {}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn init_writes_once_and_again_only_with_force() {
    let home = Home::new("init");
    let first = home.run(&["init", "--server-name", "example.org"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let registration = home.path("registration.yaml");
    let shown = fs::canonicalize(&registration).unwrap();
    for line in
        ["app_service_config_files:", &format!("- {}", shown.display()), "multichat run", "multichat doctor"]
    {
        assert!(first.out.contains(line), "{line:?} in {}", first.out);
    }
    assert_eq!((mode(&home.path("config.yaml")), mode(&registration)), (0o600, 0o600));
    let config = fs::read_to_string(home.path("config.yaml")).unwrap();
    assert!(config.contains("server_name: example.org"), "{config}");
    let before = fs::read_to_string(&registration).unwrap();
    assert!(before.contains("example\\.org"), "{before}");

    home.run(&["init"]).refused("exists already");
    assert_eq!(fs::read_to_string(&registration).unwrap(), before, "nothing was touched");

    let forced = home.run(&["--json", "init", "--force", "--homeserver", "https://matrix.example.net"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    let written: serde_json::Value = serde_json::from_str(&forced.out).expect("JSON");
    assert_eq!(written["server_name"], "matrix.example.net");
    assert_ne!(fs::read_to_string(&registration).unwrap(), before, "tokens are fresh");
    assert_eq!(mode(&registration), 0o600);
}

#[test]
fn init_takes_paths_and_refuses_nonsense() {
    let home = Home::new("paths");
    home.run(&["init", "--homeserver", "localhost"]).refused("matrix.homeserver: must be a URL");
    home.run(&["init", "--server-name", "@a:b"]).refused("matrix.server_name");
    home.run(&["init", "--config", "a.yaml", "--registration", "a.yaml"]).refused("the same file");
    assert!(!home.path("config.yaml").exists() && !home.path("a.yaml").exists());

    let ended = home.run(&["init", "--config", "etc/c.yaml", "--registration", "keys/r.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("etc/c.yaml run"), "{}", ended.out);
    let ended = home.run(&["--config", "etc/c.yaml", "doctor"]);
    assert!(ended.out.contains("tokens and names fit localhost"), "{ended:?}");
}

#[test]
fn doctor_says_what_is_well_and_what_is_not() {
    let home = Home::new("doctor");
    let homeserver = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(home.run(&["init", "--homeserver", &homeserver]).code, Some(0));
    let ended = home.run(&["doctor"]);
    ended.refused("failed: ");
    let line = |check: &str| {
        let words = |line: &&str| line.split_whitespace().nth(1) == Some(check);
        ended.out.lines().find(words).unwrap_or_else(|| panic!("no {check} in\n{}", ended.out)).to_owned()
    };
    for (check, level) in [
        ("config", "ok"),
        ("node", "warn"),
        ("data_dir", "ok"),
        ("registration", "ok"),
        ("homeserver", "fail"),
    ] {
        assert!(line(check).starts_with(level), "{}", line(check));
    }
    assert!(line("homeserver").contains("start it, or correct matrix.homeserver"), "{}", line("homeserver"));
    assert!(!home.path("data").exists(), "it changes nothing");

    let report = home.run(&["doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&report.out).expect("JSON");
    assert!(findings.iter().any(|finding| finding["check"] == "homeserver" && finding["level"] == "fail"));
}

#[test]
fn doctor_sees_a_registration_for_another_server_and_a_taken_port() {
    let home = Home::new("doctor2");
    assert_eq!(home.run(&["init", "--server-name", "a.example"]).code, Some(0));
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = fs::read_to_string(home.path("config.yaml")).unwrap();
    let config = config
        .replace("a.example", "b.example")
        .replace("127.0.0.1:6667", &held.local_addr().unwrap().to_string());
    fs::write(home.path("config.yaml"), config).unwrap();
    let ended = home.run(&["doctor"]);
    assert_eq!(ended.code, Some(1));
    for expect in ["was it made for another server_name?", "taken by another program"] {
        assert!(
            ended.out.lines().any(|line| line.starts_with("fail") && line.contains(expect)),
            "{}",
            ended.out
        );
    }
    fs::remove_file(home.path("registration.yaml")).unwrap();
    assert!(home.run(&["doctor"]).out.contains("make one with `multichat init`"));
}

#[test]
fn a_slip_in_the_configuration_is_named() {
    let home = Home::new("slip");
    let config =
        "irc:\n  networks:\n    libera:\n      address: irc.libera.chat:6697\n      nikc: multichat\n";
    fs::write(home.path("config.yaml"), config).unwrap();
    let expect = "config.yaml: irc.networks.libera.nikc (line 5): unknown key; did you mean `nick`?";
    home.run(&["run"]).refused(expect);
    home.run(&["status"]).refused(expect);
    assert!(home.run(&["doctor"]).out.contains(expect));
}

#[test]
fn secrets_are_read_beside_the_configuration() {
    let home = Home::new("secret");
    fs::create_dir(home.path("etc")).unwrap();
    fs::write(home.path("etc/c.yaml"), "irc: {password_file: pass}\n").unwrap();
    home.run(&["--config", "etc/c.yaml", "status"]).refused("irc.password_file: pass: No such file");
    fs::write(home.path("etc/pass"), "hunter2\n").unwrap();
    home.run(&["--config", "etc/c.yaml", "status"]).refused("no node is running on");
    fs::write(home.path("env.yaml"), "irc: {password: '${MULTICHAT_IT_UNSET}'}\n").unwrap();
    home.run(&["--config", "env.yaml", "status"])
        .refused("environment variable MULTICHAT_IT_UNSET is not set");
}

#[test]
fn without_a_node_every_question_says_how_to_start_one() {
    let home = Home::new("status");
    let data_dir = home.path(".local/share/multichat");
    let expect = format!("no node is running on {}: start one with `multichat run`", data_dir.display());
    for command in [
        ["status"].as_slice(),
        &["peers"],
        &["channels", "--json"],
        &["members", "rust"],
        &["channel", "create", "rust"],
        &["send", "rust", "hello"],
        &["history", "rust"],
    ] {
        let ended = home.run(command);
        ended.refused(&expect);
        assert_eq!(ended.out, "");
    }
    home.run(&["--config", "gone.yaml", "run"])
        .refused("gone.yaml: no such file: make one with `multichat init`");
}

#[test]
fn what_is_not_a_command_ends_with_2() {
    let home = Home::new("usage");
    for command in [["fly"].as_slice(), &[], &["send", "rust"], &["history", "rust", "--limit", "many"]] {
        let ended = home.run(command);
        assert_eq!(ended.code, Some(2), "{command:?}: {ended:?}");
        assert!(ended.err.contains("--help") || ended.err.contains("Usage"), "{ended:?}");
    }
    let help = home.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["init", "run", "demo", "doctor", "status", "channel", "link", "send", "history"] {
        assert!(help.out.contains(&format!("\n  {command}")), "{command} in {}", help.out);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let home = Home::new("pipe");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = Ended::from(home.command(&["init"]).stdout(writer).output().expect("the binary runs"));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn the_examples_at_the_top_are_the_ones_in_the_code() {
    for (name, made) in [("config.example.yaml", example()), ("registration.yaml", registration_example())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &made).expect("the example is written");
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(stored, made, "run this test once with UPDATE_SNAPSHOTS=1 to write {name} anew");
    }
}

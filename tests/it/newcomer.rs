//! A newcomer follows the README: `init`, two lines for a homeserver with the configuration that
//! Synapse makes for itself, `run`, a link, a line each way, and a good end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use multichat::cli::demo::irc_user::{IrcUser, Line};
use multichat::cli::demo::matrix_user::{Heard, MatrixUser};
use multichat::cli::demo::process::{Process, free_ports, last_lines, run};
use multichat::cli::demo::synapse::Installation;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::peers;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long one answer of the bot may take before it is asked again.
const ANSWER: Duration = Duration::from_secs(3);
/// What INTERFACE promises for SIGTERM.
const GOOD_END: Duration = Duration::from_secs(5);
const SERVER: &str = "example.local";
const BOT: &str = "@multichatbot:example.local";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_readme_alone() {
    let Some(synapse) = peers::unless_skipped(peers::synapse().await) else { return };
    let dir = peers::scratch("newcomer");
    let [hs_port, push_port] = free_ports().unwrap();
    let homeserver = format!("http://127.0.0.1:{hs_port}");
    let stock = Stock::generate(synapse, dir.join("homeserver"), hs_port).await;
    let admin = Admin { dir: dir.join("multichat") };
    std::fs::create_dir_all(&admin.dir).unwrap();

    let init = admin.multichat(&["init", "--server-name", SERVER, "--homeserver", &homeserver]).await;
    assert!(init.status.success(), "{init:?}");
    stock.append(&printed_for_the_homeserver(&init));
    admin.choose_ports(push_port);
    let running_hs = stock.start().await;
    let mut node = Node::start(&admin).await;

    let alice = MatrixUser::login(&homeserver, "alice", "secret").await.unwrap();
    let room = alice.create_room("a room of her own", None, &[BOT]).await.unwrap();
    link(&alice, &room).await;
    let carol = IrcUser::connect(node.irc, "carol", "Carol").await.unwrap();
    carol.join("#test").await.unwrap();
    alice.say(&room, "hello from Matrix").await.unwrap();
    let at_carol = |line: &Line| line.says("#test", "hello from Matrix");
    assert_eq!(carol.wait_for("Alice on IRC", PATIENCE, at_carol).await.unwrap().from, "alice");
    carol.say("#test", "hello from IRC").unwrap();
    let heard = alice.wait_for("Carol on Matrix", PATIENCE, |heard| heard.body == "hello from IRC").await;
    assert_eq!(heard.unwrap().name, "carol");

    let doctor = admin.multichat(&["doctor"]).await;
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    let began = Instant::now();
    let status = node.terminate().await;
    assert!(status.success(), "{status}; {}", last_lines(&admin.dir.join("log"), 3));
    assert!(began.elapsed() < GOOD_END, "{:?}", began.elapsed());
    running_hs.stop(PATIENCE).await;
}

/// Says it until the bot answers: before it has come into the room it hears nothing.
async fn link(alice: &MatrixUser, room: &str) {
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        alice.say(room, "!mc link #test").await.unwrap();
        match alice.wait_for("the bot's answer", ANSWER, |heard: &Heard| heard.sender == BOT).await {
            Ok(answer) => break answer,
            Err(late) => assert!(Instant::now() < until, "{late}"),
        }
    };
    assert!(answer.body.contains("#test is carried in"), "{}", answer.body);
}

/// The lines that `init` says are for homeserver.yaml: the indented ones before the first command.
fn printed_for_the_homeserver(init: &Output) -> String {
    let out = String::from_utf8_lossy(&init.stdout).into_owned();
    let from = out.find("    app_service_config_files:").expect("the lines are printed");
    out[from..]
        .lines()
        .map_while(|line| line.strip_prefix("    "))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// A homeserver with the configuration that Synapse generates: its rate limits, its cache, all.
struct Stock {
    synapse: Installation,
    dir: PathBuf,
    port: u16,
}

impl Stock {
    async fn generate(synapse: Installation, dir: PathBuf, port: u16) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let mut generate = synapse.program("synapse.app.homeserver");
        generate.args(["--generate-config", "--report-stats=no", "-H", SERVER, "-c", "homeserver.yaml"]);
        run("generating a configuration", generate.current_dir(&dir), PATIENCE).await.unwrap();
        let stock = Self { synapse, dir, port };
        // Tests run side by side, and on machines without IPv6: another port, and the one address.
        let text = std::fs::read_to_string(stock.config()).unwrap();
        assert!(text.contains("port: 8008"), "{text}");
        let text = text.replace("port: 8008", &format!("port: {port}")).replace("    - ::1\n", "");
        std::fs::write(stock.config(), text).unwrap();
        stock
    }

    fn config(&self) -> PathBuf {
        self.dir.join("homeserver.yaml")
    }

    fn append(&self, lines: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), format!("{text}\n{lines}")).unwrap();
    }

    /// Starts it and registers Alice.
    async fn start(&self) -> Process {
        let mut command = self.synapse.program("synapse.app.homeserver");
        command.args(["-c", "homeserver.yaml"]).current_dir(&self.dir);
        let console = self.dir.join("console");
        let mut process = Process::start("Synapse", &mut command, &console).unwrap();
        let answers = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                assert_eq!(process.ended(), None, "{}", last_lines(&console, 4));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("Synapse listens");
        let mut register = self.synapse.program("synapse._scripts.register_new_matrix_user");
        register.args(["-c", "homeserver.yaml", "-u", "alice", "-p", "secret", "--no-admin"]);
        register.arg(format!("http://127.0.0.1:{}", self.port)).current_dir(&self.dir);
        run("registering alice", &mut register, PATIENCE).await.unwrap();
        process
    }
}

/// Somebody at a shell, in a folder of their own.
struct Admin {
    dir: PathBuf,
}

impl Admin {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.args(arguments).current_dir(&self.dir).env("HOME", &self.dir).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    async fn multichat(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// The only edits that the README does not name: tests run side by side, and keep to themselves.
    fn choose_ports(&self, push_port: u16) {
        let push = format!("127.0.0.1:{push_port}");
        edit(&self.dir.join("registration.yaml"), &[("127.0.0.1:7701", &push)]);
        edit(
            &self.dir.join("config.yaml"),
            &[
                ("127.0.0.1:7701", &push),
                ("127.0.0.1:6667", "127.0.0.1:0"),
                ("/ip4/0.0.0.0/udp/7700", "/ip4/127.0.0.1/udp/0"),
                ("/ip4/0.0.0.0/tcp/7700", "/ip4/127.0.0.1/tcp/0"),
                ("lan: true", "lan: false"),
            ],
        );
    }
}

fn edit(path: &Path, replacements: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).unwrap();
}

/// `multichat run`, ready.
struct Node {
    child: Child,
    irc: std::net::SocketAddr,
}

impl Node {
    async fn start(admin: &Admin) -> Self {
        let log = std::fs::File::create(admin.dir.join("log")).unwrap();
        let mut child = admin.command(&["run"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it starts").unwrap();
        let line = line.unwrap_or_else(|| panic!("{}", last_lines(&admin.dir.join("log"), 3)));
        assert!(line.starts_with("multichat ready irc="), "{line}");
        let irc = line.split_whitespace().find_map(|word| word.strip_prefix("irc=")).unwrap();
        Self { irc: irc.parse().unwrap(), child }
    }

    /// SIGHUP, which it must outlive, then SIGTERM.
    async fn terminate(&mut self) -> ExitStatus {
        let id = self.child.id().unwrap().to_string();
        for signal in ["kill -HUP \"$0\"", "kill -TERM \"$0\""] {
            assert!(Command::new("sh").args(["-c", signal, &id]).status().await.unwrap().success());
        }
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap()
    }
}

//! A channel governed from the command line, over two nodes: what the README says under "Moderate it"
//! and "Keep it", word by word, with the real binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node of the test's own: its folder, and its process while it runs.
struct Node {
    dir: PathBuf,
    child: Option<Child>,
}

impl Node {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("multichat-it-mod-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "data_dir: data\nlog: warn\nnode: {{name: {name}, listen: [/ip4/127.0.0.1/tcp/0], lan: false}}\n\
             irc: {{listen: [{{address: '127.0.0.1:0'}}]}}\n"
        );
        fs::write(dir.join("config.yaml"), config).unwrap();
        Self { dir, child: None }
    }

    fn start(mut self) -> Self {
        self.run();
        self
    }

    fn run(&mut self) {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = fs::read_to_string(self.dir.join("log")).unwrap();
        assert!(line.starts_with("multichat ready"), "{line} {log}");
        self.child = Some(child);
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// What a command that must succeed prints.
    fn say(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).output().unwrap();
        let (out, err) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert!(ended.status.success(), "{arguments:?}: {err}");
        out
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let mut with = vec!["--json"];
        with.extend(arguments);
        serde_json::from_str(&self.say(&with)).unwrap()
    }

    /// The one line of a command that must fail.
    fn refused(&self, arguments: &[&str], why: &str) {
        let ended = self.command(arguments).output().unwrap();
        let err = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {err}");
        assert!(err.contains(why) && err.lines().count() == 1, "{why:?} in {err}");
    }

    fn role(&self, channel: &str, person: &str) -> Option<String> {
        let members = self.ask(&["members", channel]);
        let members = members.as_array().unwrap().clone();
        let member = members.iter().find(|member| member["username"] == person)?;
        Some(member["role"].as_str().unwrap().to_owned())
    }

    fn texts(&self, channel: &str) -> Vec<String> {
        let said = self.ask(&["history", channel]);
        let texts = said.as_array().unwrap().iter().filter(|message| message["kind"] == "text");
        texts.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether any file of its data directory holds a text.
    fn holds(&self, text: &str) -> bool {
        let holds = |path: &Path| {
            // Sockets and files that went away meanwhile hold nothing.
            let bytes = fs::read(path).unwrap_or_default();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        fs::read_dir(self.dir.join("data")).unwrap().any(|entry| holds(&entry.unwrap().path()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_channel_is_governed_from_the_command_line() {
    let (one, other) = (Node::new("one").start(), Node::new("other").start());
    one.say(&["channel", "create", "club", "--topic", "ours"]);
    one.say(&["channel", "policy", "club", "join", "invite"]);
    let shown = one.say(&["channel", "policy", "club"]);
    assert_eq!(shown, "join  invite\n");
    one.refused(&["channel", "join", "club", "--as", "eve"], "takes in only whom a member lets in");

    // A link lets in somebody at a node that never heard of the first.
    let invite =
        || one.ask(&["channel", "invite", "club", "--expire", "1h"])["invite"].as_str().unwrap().to_owned();
    let link = invite();
    assert!(link.starts_with("multichat:") && link.contains("?via=/ip4/127.0.0.1/tcp/"), "{link}");
    other.say(&["channel", "join", &link, "--as", "bob"]);
    assert_eq!(other.role("club", "bob").as_deref(), Some("member"));
    until("the first knows bob", || one.role("club", "bob").is_some());

    // A role of the channel's own, and what it may do.
    one.say(&[
        "channel",
        "policy",
        "club",
        "role",
        "role500",
        "name=steward",
        "+redact_others",
        "+set_topic",
    ]);
    other.refused(&["channel", "policy", "--as", "bob", "club", "topic", "mine"], "not permitted");
    one.say(&["channel", "grant", "club", "bob", "steward"]);
    until("bob is steward", || other.role("club", "bob").as_deref() == Some("steward"));
    other.say(&["channel", "policy", "--as", "bob", "club", "topic", "by", "bob"]);
    until("the topic is bob's", || one.say(&["channel", "show", "club"]).contains("by bob"));
    one.say(&["channel", "revoke", "club", "bob"]);
    until("bob is a member", || other.role("club", "bob").as_deref() == Some("member"));

    // What is said to last a while is gone after it, everywhere, and found nowhere.
    one.say(&["send", "club", "crabs walk sideways"]);
    one.say(&["send", "club", "vanishingcrab of the night", "--expire", "4s"]);
    until("both have both", || other.texts("club").len() == 2 || !one.holds("vanishingcrab"));
    let found = one.say(&["search", "CRABS", "--channel", "club"]);
    assert!(found.contains("#club") && found.contains("crabs walk sideways"), "{found}");
    for node in [&one, &other] {
        until("it is gone", || node.texts("club") == ["crabs walk sideways"]);
        until("the disk holds no trace of it", || !node.holds("vanishingcrab"));
        assert_eq!(node.ask(&["search", "vanishingcrab"]), Value::Array(Vec::new()));
    }
    one.say(&["channel", "policy", "club", "max-ttl", "1h"]);
    one.refused(&["channel", "policy", "club", "retention", "soon"], "a time such as 7d");
    until("the other knows", || other.say(&["channel", "policy", "club"]).contains("max-ttl"));
    other.refused(&["send", "club", "too long", "--expire", "2h", "--as", "bob"], "do not last that long");

    // Out, out for good, and in again.
    one.say(&["channel", "kick", "club", "bob", "--reason", "noise"]);
    until("bob is out", || other.role("club", "bob").is_none());
    other.refused(&["send", "club", "hello", "--as", "bob"], "not a member");
    other.refused(&["channel", "join", &link, "--as", "bob"], "whom a member lets in");
    let joins = |link: &str| other.command(&["channel", "join", link, "--as", "bob"]).output().unwrap();
    let link = invite();
    until("a new link lets him in", || joins(&link).status.success());
    until("bob is in", || one.role("club", "bob").is_some());
    one.say(&["channel", "ban", "club", "bob"]);
    until("bob is banned", || other.role("club", "bob").is_none());
    other.refused(&["channel", "join", &link, "--as", "bob"], "banned");
    one.say(&["channel", "unban", "club", "bob"]);
    let link = invite();
    until("he may come again", || joins(&link).status.success());

    // It goes on elsewhere.
    let name = one.ask(&["channel", "upgrade", "club"])["channel"].as_str().unwrap().to_owned();
    assert!(name.starts_with("#club~"), "{name}");
    assert!(one.say(&["channel", "policy", "club"]).contains("closed"));
    assert!(one.say(&["channel", "show", &name]).contains("by bob"));
}

#[test]
fn a_node_is_backed_up_restored_and_goes_on_without_forking() {
    let (mut one, other) = (Node::new("kept").start(), Node::new("witness").start());
    one.say(&["channel", "create", "club"]);
    one.say(&["channel", "join", "club", "--as", "carol"]);
    one.say(&["send", "club", "before", "--as", "carol"]);
    let link = one.ask(&["channel", "invite", "club"])["invite"].as_str().unwrap().to_owned();
    other.say(&["channel", "join", &link, "--as", "bob"]);

    let backup = one.ask(&["backup", "copy"]);
    assert!(backup["events"].as_u64().unwrap() >= 4, "{backup}");
    one.refused(&["backup", "copy"], "exists already");
    assert!(one.say(&["verify-store", "copy"]).starts_with("sound: "));
    one.refused(&["verify-store"], "in use by another process");
    one.refused(&["restore", "copy"], "stop it first");
    // What is said after the backup is lost here, but not elsewhere.
    for text in ["after", "after that"] {
        one.say(&["send", "club", text, "--as", "carol"]);
    }
    until("the witness has it", || other.texts("club").len() == 3);
    one.stop();
    assert!(one.say(&["verify-store"]).starts_with("sound: "));
    one.refused(&["restore", "copy"], "with --force it is put aside");
    let damaged = one.dir.join("damaged");
    fs::create_dir(&damaged).unwrap();
    for name in ["multichat.db", "secret.key"] {
        fs::copy(one.dir.join("copy").join(name), damaged.join(name)).unwrap();
    }
    let mut bytes = fs::read(damaged.join("multichat.db")).unwrap();
    let place = bytes.windows(6).position(|window| window == b"before").unwrap();
    bytes[place] = b'B';
    fs::write(damaged.join("multichat.db"), bytes).unwrap();
    one.refused(&["verify-store", "damaged"], "its text is not the one that was signed");
    one.refused(&["restore", "damaged", "--force"], "its text is not the one that was signed");
    assert!(one.say(&["verify-store"]).starts_with("sound: "), "and nothing was touched");

    one.say(&["restore", "copy", "--force"]);
    one.run();
    assert_eq!(one.texts("club"), ["before"]);
    // It speaks before it has heard what it had said itself.
    one.say(&["send", "club", "restored", "--as", "carol"]);
    one.say(&["channel", "policy", "club", "topic", "still mine"]);
    // A link leads it to the other node again.
    other.say(&["channel", "create", "side"]);
    let link = other.ask(&["channel", "invite", "side"])["invite"].as_str().unwrap().to_owned();
    one.say(&["channel", "join", &link, "--as", "carol"]);
    until("they agree", || {
        let roots = [&one, &other].map(|node| node.ask(&["status"])["state_root"].clone());
        roots[0] == roots[1]
    });
    for node in [&one, &other] {
        let mut texts = node.texts("club");
        texts.sort();
        assert_eq!(texts, ["after", "after that", "before", "restored"], "nothing was void");
    }
}

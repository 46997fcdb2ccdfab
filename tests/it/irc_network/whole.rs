//! A whole node, with its real policy, on a real ircd: what operators of the network and members of the
//! channel may do to each other.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{Ircd, PATIENCE, Person, plain};

/// The program itself, in a folder of its own.
struct Program {
    dir: PathBuf,
    child: Option<Child>,
}

impl Program {
    fn new(ircd: &Ircd) -> Self {
        let dir = std::env::temp_dir().join(format!("multichat-it-whole-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "data_dir: data\nlog: info\nnode: {{name: one, listen: [/ip4/127.0.0.1/tcp/0], lan: false}}\n\
             irc:\n  listen: [{{address: '127.0.0.1:0'}}]\n  networks:\n    net: {{address: '{}', nick: relay, \
             owner: op@example.org, flood: null}}\nlinks: [{{channel: '#club', irc: 'net/#test'}}]\n",
            ircd.address()
        );
        std::fs::write(dir.join("config.yaml"), config).unwrap();
        Self { dir, child: None }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn start(&mut self) {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap_or_default();
        assert!(line.starts_with("multichat ready"), "{line}");
        self.child = Some(child);
    }

    async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    }

    async fn say(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).output().await.unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{arguments:?}: {err}");
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Waits until a command's answer says so.
    async fn until(&self, arguments: &[&str], holds: impl Fn(&str) -> bool) {
        let tries = async {
            while !holds(&self.say(arguments).await) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, tries).await.unwrap_or_else(|_| panic!("{arguments:?} never said so"));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn the_channels_policy_decides_about_the_networks_operators() {
    let ircd = Ircd::prepare("whole").await;
    let mut op = Person::join(&ircd, "Op").await;
    let mut node = Program::new(&ircd);
    node.start().await;
    op.expect("`!mc allow`").await;
    let mut bob = Person::join(&ircd, "bob").await;
    bob.say("PRIVMSG #test :before").await;
    op.say("PRIVMSG #test :!mc allow").await;
    op.expect("is carried from now on").await;
    op.say("PRIVMSG #test :hello").await;
    bob.say("PRIVMSG #test :spam").await;
    node.until(&["history", "club"], |said| said.contains("hello") && said.contains("spam")).await;
    assert!(!node.say(&["history", "club"]).await.contains("before"));
    node.say(&["channel", "join", "club", "--as", "alice"]).await;
    node.say(&["send", "club", "from elsewhere", "--as", "alice"]).await;
    assert!(plain(&bob.expect("from elsewhere").await).ends_with("<alice> from elsewhere"));

    // An operator of the network is an ordinary member of the channel: what they do stays there.
    op.say("TOPIC #test :ours alone").await;
    op.expect("the topic counts on this network only").await;
    op.say("MODE #test +b bob!*@*").await;
    op.expect("the ban bob!*@* counts on this network only").await;
    op.say("MODE #test -b bob!*@*").await;

    // A moderator of the channel is heard, from wherever they act.
    node.say(&["channel", "grant", "club", "Op", "moderator"]).await;
    op.say("KICK #test bob :enough").await;
    bob.expect("KICK #test bob").await;
    node.until(&["members", "club"], |members| !members.contains("bob")).await;
    bob.say("JOIN #test").await;
    bob.expect(" 366 ").await;
    bob.say("PRIVMSG #test :sorry").await;
    node.until(&["history", "club"], |said| said.contains("sorry")).await;
    op.say("MODE #test +b bob!*@*").await;
    node.until(&["members", "club"], |members| !members.contains("bob")).await;
    // ngIRCd keeps a banned member from speaking; without the ban there, the channel's own holds.
    op.say("MODE #test +e bob!*@*").await;
    bob.say("PRIVMSG #test :still here").await;
    bob.expect("what you said in #test was not carried").await;
    op.say("MODE #test -b bob!*@*").await;
    let back = |said: &str| said.contains("back");
    let tries = async {
        loop {
            bob.say("PRIVMSG #test :back").await;
            if back(&node.say(&["history", "club"]).await) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, tries).await.expect("the ban was not lifted");

    // And what is decided elsewhere is done on the network, where the relay can.
    op.say("MODE #test +o relay").await;
    // Its answer comes after it has seen that.
    op.say("PRIVMSG #test :!mc about").await;
    op.expect("run by op@example.org").await;
    node.say(&["channel", "ban", "club", "bob", "--reason", "spam"]).await;
    op.expect("MODE #test +b *!*@").await;
    assert!(bob.expect("KICK #test bob").await.contains("spam"));
    node.say(&["channel", "unban", "club", "bob"]).await;
    op.expect("MODE #test -b *!*@").await;

    // Nobody is asked twice.
    node.stop().await;
    op.expect("QUIT").await;
    node.start().await;
    node.say(&["send", "club", "once more", "--as", "alice"]).await;
    loop {
        let line = plain(&op.expect(" #test :").await);
        assert!(!line.contains("!mc allow"), "{line}");
        if line.contains("once more") {
            break;
        }
    }
    node.stop().await;
}

//! Several domains on real connections on 127.0.0.1: who is let in and who is told why not; a node in two
//! domains carries what is said in each into the other, once; and the same with whole nodes and the
//! command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use multichat::base::config::{Admission, DomainConfig, NodeConfig, Topology};
use multichat::base::key::SecretKey;
use multichat::base::{NodeId, Timestamp};
use multichat::net::Net;
use multichat::overlay::Destination;
use multichat::overlay::admission::Pass;
use multichat::overlay::domain::DomainReport;
use multichat::port::{Command as ToNode, Door, Fault, Handle};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(90);
const KEY: &str = "sesame, sesame, open up";

/// A running shell, with the test in the node's place.
struct Swarm {
    id: NodeId,
    address: String,
    commands: mpsc::Receiver<ToNode>,
    outgoing: mpsc::Sender<(Destination, Vec<u8>)>,
    reports: watch::Receiver<Vec<DomainReport>>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Fault>>,
    up: Vec<NodeId>,
    got: BTreeMap<Vec<u8>, usize>,
}

fn open() -> DomainConfig {
    DomainConfig::open("public", Topology::Gossip)
}

fn team(key: &str, topology: Topology) -> DomainConfig {
    DomainConfig { admission: Admission::Psk, psk: Some(key.into()), ..DomainConfig::open("team", topology) }
}

fn club(invite: Option<String>) -> DomainConfig {
    DomainConfig { admission: Admission::Invite, invite, ..DomainConfig::open("club", Topology::Tree) }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

impl Swarm {
    async fn start(seed: u8, domains: &[DomainConfig], bootstrap: &[&Swarm]) -> Self {
        let node = NodeConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            bootstrap: bootstrap.iter().map(|swarm| swarm.address.clone()).collect(),
            lan: false,
            ..NodeConfig::default()
        };
        let net = Net::bind(&node, domains, key(seed)).await.unwrap();
        let (id, address, reports) = (net.node_id(), net.addresses().remove(0), net.reports());
        let (to_node, commands) = mpsc::channel(1024);
        let (outgoing, from_node) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(net.run(Handle::new(Door::Control, to_node), from_node, cancel.clone()));
        let (up, got) = (Vec::new(), BTreeMap::new());
        Self { id, address, commands, outgoing, reports, cancel, task, up, got }
    }

    fn take(&mut self, command: ToNode) {
        match command {
            ToNode::PeerUp(node) => self.up.push(node),
            ToNode::PeerDown(node) => self.up.retain(|up| *up != node),
            ToNode::Bytes { bytes, .. } => *self.got.entry(bytes).or_default() += 1,
            _ => panic!("the overlay shell sends nothing else"),
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                let command = self.commands.recv().await.expect("running");
                self.take(command);
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
    }

    fn drain(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
    }

    async fn say(&self, text: &str) {
        self.outgoing.send((Destination::Domain, text.as_bytes().to_vec())).await.unwrap();
    }

    fn heard(&self, text: &str) -> usize {
        self.got.get(text.as_bytes()).copied().unwrap_or(0)
    }

    /// Waits until something is told of a domain.
    async fn told(&mut self, name: &str, holds: impl Fn(&DomainReport) -> bool) -> DomainReport {
        let wait = self.reports.wait_for(|all| all.iter().any(|one| one.name == name && holds(one)));
        let all = timeout(PATIENCE, wait).await.expect("told in time").unwrap();
        all.iter().find(|one| one.name == name).unwrap().clone()
    }

    async fn stop(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.task).await.expect("stops in time").unwrap().unwrap();
    }
}

/// Says words until one has arrived everywhere: an overlay that takes shape may lose the first.
async fn shaped(from: usize, nodes: &mut [Swarm]) {
    let until = Instant::now() + PATIENCE;
    for round in 0u32.. {
        let word = format!("is anybody there? {from} {round}");
        nodes[from].say(&word).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        nodes.iter_mut().for_each(Swarm::drain);
        if nodes.iter().enumerate().all(|(n, node)| n == from || node.heard(&word) > 0) {
            return;
        }
        assert!(Instant::now() < until, "the overlays take shape in time");
    }
}

/// Each says something; each hears all the others, once.
async fn all_hear_all(mut nodes: Vec<Swarm>) -> Vec<Swarm> {
    for from in 0..nodes.len() {
        shaped(from, &mut nodes).await;
    }
    for (n, node) in nodes.iter().enumerate() {
        node.say(&format!("word of {n}")).await;
    }
    for n in 0..nodes.len() {
        let others: Vec<String> =
            (0..nodes.len()).filter(|other| *other != n).map(|other| format!("word of {other}")).collect();
        let all = |node: &Swarm| others.iter().all(|word| node.heard(word) > 0);
        nodes[n].until("the words of all others", all).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for (n, node) in nodes.iter_mut().enumerate() {
        node.drain();
        assert!((0..5).all(|other| node.heard(&format!("word of {other}")) <= 1), "{n}: {:?}", node.got);
    }
    nodes
}

async fn stop(nodes: Vec<Swarm>) {
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_carries_words_between_two_domains_once() {
    let public = Swarm::start(1, &[open()], &[]).await;
    let gateway = Swarm::start(2, &[open(), team(KEY, Topology::Mesh)], &[&public]).await;
    let member = Swarm::start(3, &[team(KEY, Topology::Mesh)], &[&gateway]).await;
    let mut nodes = all_hear_all(vec![public, gateway, member]).await;
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    assert_eq!(nodes[0].up, [ids[1]], "the open domain's node knows the gateway alone");
    assert_eq!(nodes[2].up, [ids[1]]);
    let told = nodes[1].told("team", |team| team.carried > 0).await;
    assert_eq!((told.members, told.neighbours), (vec![ids[2].to_string()], 1));
    assert!(nodes[1].told("public", |public| public.carried > 0).await.arrived > 0);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_and_a_tree_bring_no_doubles() {
    let both = [open(), team(KEY, Topology::Tree)];
    let public = Swarm::start(1, &both[..1], &[]).await;
    let one = Swarm::start(2, &both, &[&public]).await;
    let other = Swarm::start(3, &both, &[&public, &one]).await;
    let member = Swarm::start(4, &both[1..], &[&one, &other]).await;
    stop(all_hear_all(vec![public, one, other, member]).await).await;
}

/// Whether two nodes with these ideas of one domain come together, and what each is told.
async fn meet(one: DomainConfig, other: DomainConfig) -> (Vec<String>, Vec<String>) {
    let name = one.name.clone();
    let mut one = Swarm::start(1, &[one], &[]).await;
    let mut other = Swarm::start(2, &[other], &[&one]).await;
    let of_us = |report: &DomainReport| report.refusals.iter().any(|refusal| refusal.of_us);
    other.told(&name, of_us).await;
    let reasons = |report: DomainReport| -> Vec<String> {
        report.refusals.into_iter().filter(|refusal| refusal.of_us).map(|refusal| refusal.reason).collect()
    };
    let of_them = |report: &DomainReport| report.refusals.iter().any(|refusal| !refusal.of_us);
    let told = (reasons(one.told(&name, of_them).await), reasons(other.told(&name, of_us).await));
    one.drain();
    other.drain();
    assert!(one.up.is_empty() && other.up.is_empty(), "nobody is up");
    one.say("a secret of the team").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    other.drain();
    assert!(other.got.is_empty(), "and nothing is heard: {:?}", other.got);
    stop(vec![one, other]).await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_nobody_comes_in_and_is_told_why() {
    let wrong = meet(team(KEY, Topology::Mesh), team("another key, that is", Topology::Mesh)).await;
    assert_eq!(wrong.1, ["the pre-shared key is another one there: check `psk`"]);
    let none = meet(team(KEY, Topology::Mesh), DomainConfig::open("team", Topology::Mesh)).await;
    assert_eq!(none.1, ["it asks for a pre-shared key: set `admission: psk` and `psk`, the domain's key"]);
    assert!(none.0.is_empty(), "{none:?}");
    let shape = meet(team(KEY, Topology::Mesh), team(KEY, Topology::Tree)).await;
    assert_eq!(shape.1, ["its topology is `mesh` there: set `topology` likewise"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_in_one_domain_stays_in_the_other() {
    let one = Swarm::start(1, &[open(), team(KEY, Topology::Tree)], &[]).await;
    let domains = [open(), team("another key, that is", Topology::Tree)];
    let mut other = Swarm::start(2, &domains, &[&one]).await;
    let told = other.told("team", |team| !team.refusals.is_empty()).await;
    assert!(told.members.is_empty());
    let nodes = all_hear_all(vec![one, other]).await;
    let now = nodes[0].reports.borrow().clone();
    assert_eq!((now[0].members.len(), now[1].members.len()), (1, 0));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_come_in_by_invite_and_know_each_other() {
    let invite = |expires: u64, salt: u8| {
        Some(Pass::issue("club", &key(1), Timestamp(expires), [salt; 32]).to_string())
    };
    let founder = Swarm::start(1, &[club(None)], &[]).await;
    let first = Swarm::start(2, &[club(invite(u64::MAX, 1))], &[&founder]).await;
    let second = Swarm::start(3, &[club(invite(u64::MAX, 2))], &[&first]).await;
    let mut expired = Swarm::start(4, &[club(invite(1_000, 3))], &[&founder]).await;
    let told = expired.told("club", |club| !club.refusals.is_empty()).await;
    assert!(told.refusals.iter().any(|r| r.of_us && r.reason.contains("has expired")), "{told:?}");
    expired.stop().await;
    let mut uninvited = Swarm::start(5, &[DomainConfig::open("club", Topology::Tree)], &[&founder]).await;
    let told = uninvited.told("club", |club| !club.refusals.is_empty()).await;
    assert!(told.refusals.iter().any(|r| r.reason.contains("`multichat domains invite`")), "{told:?}");
    uninvited.stop().await;
    stop(all_hear_all(vec![founder, first, second]).await).await;
}

/// A whole node in a folder of its own.
struct Whole {
    dir: PathBuf,
    child: Child,
    address: String,
}

impl Whole {
    fn start(name: &str, bootstrap: &[&Whole], domains: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("multichat-it-dom-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        // Its peer id is known once it has started, its port must be before.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("/ip4/127.0.0.1/tcp/{port}");
        let known: Vec<String> = bootstrap.iter().map(|node| format!("'{}'", node.address)).collect();
        let config = format!(
            "data_dir: data\nlog: warn\n\
             node: {{name: {name}, listen: [{listen}], lan: false, bootstrap: [{}]}}\n\
             irc: {{listen: [{{address: '127.0.0.1:0'}}]}}\n{domains}",
            known.join(", ")
        );
        fs::write(dir.join("config.yaml"), config).unwrap();
        fs::write(dir.join("team.psk"), format!("{KEY}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        let log = fs::File::create(dir.join("log")).unwrap();
        command.arg("run").current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert!(line.starts_with("multichat ready"), "{line} {log}");
        let peer = line.split_whitespace().find_map(|word| word.strip_prefix("p2p=")).unwrap();
        Self { dir, child, address: format!("{listen}/p2p/{peer}") }
    }

    fn say(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
        let ended = command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert!(ended.status.success(), "{arguments:?}: {err}");
        out
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.say(&[&["--json"], arguments].concat())).unwrap()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            let log = || fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(Instant::now() < until, "in time: {what}; {} {}", self.say(&["domains"]), log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn has_channel(&self, name: &str) -> bool {
        self.ask(&["channels"]).as_array().unwrap().iter().any(|channel| channel["name"] == name)
    }

    fn heard(&self, channel: &str, text: &str) -> usize {
        let said = self.ask(&["history", channel]);
        said.as_array().unwrap().iter().filter(|message| message["text"] == text).count()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_channel_is_known_in_both_domains_of_a_gateway_and_strangers_see_why_they_are_not_let_in() {
    const TEAM: &str = "{name: team, topology: mesh, admission: psk, psk_file: team.psk}";
    let public = Whole::start("public", &[], "domains: [{name: public, topology: tree}]\n");
    let both = format!("domains: [{{name: public, topology: tree}}, {TEAM}]\n");
    let gateway = Whole::start("gateway", &[&public], &both);
    let member = Whole::start("member", &[&gateway], &format!("domains: [{TEAM}]\n"));

    public.say(&["channel", "create", "bridge"]);
    member.until("the channel of the other domain", || member.has_channel("#bridge"));
    member.say(&["channel", "join", "bridge"]);
    member.say(&["send", "bridge", "from the team"]);
    public.until("the team's word", || public.heard("bridge", "from the team") == 1);
    public.say(&["send", "bridge", "from the public"]);
    member.until("the public's word", || member.heard("bridge", "from the public") == 1);

    let told = gateway.ask(&["domains"]);
    let told: Vec<(&str, &str, usize)> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|domain| {
            let text = |key: &str| domain[key].as_str().unwrap();
            (text("name"), text("topology"), domain["members"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(told, [("public", "tree", 1), ("team", "mesh", 1)]);
    assert_eq!(public.ask(&["peers"]).as_array().unwrap().len(), 1, "only the gateway");

    let domains = "domains: [{name: team, topology: mesh, admission: psk, psk: 'not the key of the team'}]\n";
    let stranger = Whole::start("stranger", &[&gateway], domains);
    stranger.until("the reason", || {
        stranger.say(&["domains"]).contains("does not let this node into team: the pre-shared key is another")
    });
    assert!(!stranger.has_channel("#bridge"));
    let log = fs::read_to_string(stranger.dir.join("log")).unwrap();
    assert!(log.contains("check `psk`"), "{log}");

    // An invite, as the founder prints it, is what a guest's configuration takes.
    let founder =
        Whole::start("founder", &[], "domains: [{name: club, topology: tree, admission: invite}]\n");
    let printed = founder.say(&["domains", "invite", "club", "--expire", "1d"]);
    let entry = printed.split_once("domains:").unwrap().1;
    let guest = Whole::start("guest", &[&founder], &format!("domains:{entry}"));
    founder.say(&["channel", "create", "inside"]);
    guest.until("the club's channel", || guest.has_channel("#inside"));
}

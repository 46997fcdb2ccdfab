//! Topologies of ours over real libp2p on 127.0.0.1: everyone gets every broadcast once, without being
//! connected with everyone; and members of another topology are strangers.

use std::collections::BTreeMap;
use std::time::Duration;

use multichat::base::NodeId;
use multichat::base::config::{DomainConfig, NodeConfig, Topology};
use multichat::base::key::SecretKey;
use multichat::net::Net;
use multichat::overlay::Destination;
use multichat::port::{Command, Door, Fault, Handle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const PATIENCE: Duration = Duration::from_secs(120);

struct Node {
    id: NodeId,
    address: String,
    commands: mpsc::Receiver<Command>,
    outgoing: mpsc::Sender<(Destination, Vec<u8>)>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Fault>>,
    peers: usize,
    got: BTreeMap<Vec<u8>, usize>,
}

impl Node {
    async fn start(seed: u8, topology: Topology, listen: &str, bootstrap: Vec<String>) -> Self {
        let node = NodeConfig { listen: vec![listen.into()], bootstrap, lan: false, ..NodeConfig::default() };
        let domain = DomainConfig::open("public", topology);
        let net = Net::bind(&node, &[domain], SecretKey::from_seed([seed; 32])).await.unwrap();
        let (id, address) = (net.node_id(), net.addresses().remove(0));
        let (to_node, commands) = mpsc::channel(1024);
        let (outgoing, from_node) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(net.run(Handle::new(Door::Control, to_node), from_node, cancel.clone()));
        Self { id, address, commands, outgoing, cancel, task, peers: 0, got: BTreeMap::new() }
    }

    async fn say(&self, bytes: &[u8]) {
        self.outgoing.send((Destination::Domain, bytes.to_vec())).await.unwrap();
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::PeerUp(_) => self.peers += 1,
            Command::PeerDown(_) => self.peers -= 1,
            Command::Bytes { bytes, .. } => *self.got.entry(bytes).or_default() += 1,
            _ => panic!("the overlay shell sends nothing else"),
        }
    }

    /// Takes in what comes until something holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let command = timeout_at(deadline, self.commands.recv()).await.expect("in time");
            self.take(command.expect("running"));
        }
    }

    fn drain(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.task).await.expect("stops in time").unwrap().unwrap();
    }
}

async fn domain(count: u8, topology: Topology, listen: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..count {
        let bootstrap = nodes.first().map(|node| node.address.clone()).into_iter().collect();
        nodes.push(Node::start(n + 1, topology, listen, bootstrap).await);
    }
    for node in &mut nodes {
        node.until(|node| node.peers > 0).await;
    }
    nodes
}

/// Everyone says something, again and again until all have heard of the first round that comes through whole;
/// from then on everything must come, and once.
async fn everyone_hears_everyone(nodes: Vec<Node>) -> Vec<Node> {
    hears(nodes, "first").await
}

async fn hears(mut nodes: Vec<Node>, what: &str) -> Vec<Node> {
    let deadline = Instant::now() + PATIENCE;
    // The overlay takes shape: a first word is repeated until all have it. Packets may be lost meanwhile.
    for round in 0u32.. {
        assert!(Instant::now() < deadline, "the overlay takes shape in time");
        let word = format!("{what}: is anybody there? {round}").into_bytes();
        nodes[0].say(&word).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        nodes.iter_mut().for_each(Node::drain);
        if nodes[1..].iter().all(|node| node.got.contains_key(&word)) {
            break;
        }
    }
    let words: Vec<Vec<u8>> = (0..nodes.len())
        .map(|n| [format!("{what} of node {n} ").as_bytes(), &vec![7; 900]].concat())
        .collect();
    for (node, word) in nodes.iter().zip(&words) {
        node.say(word).await;
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        let others =
            |node: &Node| words.iter().enumerate().all(|(by, word)| by == n || node.got.contains_key(word));
        node.until(others).await;
        assert!(words.iter().all(|word| node.got.get(word).copied().unwrap_or(0) <= 1), "once");
    }
    nodes
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_over_tcp_reaches_everyone_without_everyone_being_linked() {
    let nodes = everyone_hears_everyone(domain(16, Topology::Tree, TCP).await).await;
    let mut nodes = nodes;
    // The first was everyone's way in, and lets go of most.
    nodes[0].until(|node| node.peers <= 10).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_over_quic_reaches_everyone() {
    stop(everyone_hears_everyone(domain(6, Topology::Tree, QUIC).await).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_links_everyone_with_everyone() {
    let mut nodes = everyone_hears_everyone(domain(5, Topology::Mesh, TCP).await).await;
    for node in &mut nodes {
        node.until(|node| node.peers == 4).await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_goes_on_when_the_way_in_is_gone() {
    let mut nodes = everyone_hears_everyone(domain(6, Topology::Tree, TCP).await).await;
    nodes.remove(0).stop().await;
    stop(hears(nodes, "second").await).await;
}

#[tokio::test]
async fn the_same_bytes_again_and_long_packets_arrive_in_a_tree() {
    let mut nodes = everyone_hears_everyone(domain(2, Topology::Tree, TCP).await).await;
    let (again, long) = (b"a summary".to_vec(), vec![5; 200 * 1024]);
    for times in 1..=3 {
        nodes[0].say(&again).await;
        nodes[1].until(|node| node.got.get(&again) == Some(&times)).await;
    }
    nodes[0].say(&long).await;
    nodes[1].until(|node| node.got.contains_key(&long)).await;
    stop(nodes).await;
}

#[tokio::test]
async fn members_of_another_topology_are_strangers() {
    let tree = Node::start(1, Topology::Tree, TCP, Vec::new()).await;
    let gossip = Node::start(2, Topology::Gossip, TCP, vec![tree.address.clone()]).await;
    let (mut tree, mut gossip) = (tree, gossip);
    tokio::time::sleep(Duration::from_secs(2)).await;
    tree.drain();
    gossip.drain();
    assert_eq!((tree.peers, gossip.peers), (0, 0), "{:?} {:?}", tree.id, gossip.id);
    stop(vec![tree, gossip]).await;
}

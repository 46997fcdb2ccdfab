//! The libp2p shell with real sockets on 127.0.0.1: packets both ways, strangers, restarts, and
//! addresses that cannot be had.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, identify, noise, request_response, tcp, yamux};
use multichat::base::config::{DomainConfig, NodeConfig, Topology};
use multichat::base::key::SecretKey;
use multichat::base::{Kind, NodeId, limits};
use multichat::net::Net;
use multichat::overlay::Destination;
use multichat::overlay::admission::{Claim, Proof, Reply, Word};
use multichat::port::{Command, Door, Fault, Handle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// Long enough for a machine that is busy with everything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running shell, with the test in the node's place.
struct Node {
    id: NodeId,
    addresses: Vec<String>,
    commands: mpsc::Receiver<Command>,
    outgoing: mpsc::Sender<(Destination, Vec<u8>)>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Fault>>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Up(NodeId),
    Down(NodeId),
    Bytes(NodeId, Vec<u8>),
}

impl Node {
    async fn start(seed: u8, listen: &str, bootstrap: &[&Node]) -> Node {
        let bootstrap = bootstrap.iter().map(|node| node.addresses[0].clone()).collect();
        Self::run(bind(seed, listen, bootstrap, "public").await.unwrap(), 1024)
    }

    fn run(net: Net, queue: usize) -> Node {
        let (id, addresses) = (net.node_id(), net.addresses());
        let (to_node, commands) = mpsc::channel(queue);
        let (outgoing, from_node) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(net.run(Handle::new(Door::Control, to_node), from_node, cancel.clone()));
        Node { id, addresses, commands, outgoing, cancel, task }
    }

    async fn next(&mut self) -> News {
        let command = timeout(PATIENCE, self.commands.recv()).await.expect("news in time").expect("running");
        news(command)
    }

    async fn up(&mut self, other: NodeId) {
        assert_eq!(self.next().await, News::Up(other));
    }

    async fn send(&self, destination: Destination, bytes: Vec<u8>) {
        self.outgoing.send((destination, bytes)).await.unwrap();
    }

    async fn stop(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.task).await.expect("stops in time").unwrap().unwrap();
    }

    /// Everything that comes within a while.
    async fn quiet(&mut self, during: Duration) -> Vec<News> {
        let mut all = Vec::new();
        let deadline = tokio::time::Instant::now() + during;
        while let Ok(Some(command)) = tokio::time::timeout_at(deadline, self.commands.recv()).await {
            all.push(news(command));
        }
        all
    }
}

fn news(command: Command) -> News {
    match command {
        Command::PeerUp(node) => News::Up(node),
        Command::PeerDown(node) => News::Down(node),
        Command::Bytes { from, bytes } => News::Bytes(from, bytes),
        _ => panic!("the overlay shell sends nothing else"),
    }
}

async fn bind(seed: u8, listen: &str, bootstrap: Vec<String>, domain: &str) -> Result<Net, Fault> {
    let node = NodeConfig { listen: vec![listen.into()], bootstrap, lan: false, ..NodeConfig::default() };
    let domain = DomainConfig::open(domain, Topology::Gossip);
    Net::bind(&node, &[domain], SecretKey::from_seed([seed; 32])).await
}

/// Binds again where a node listened that has just stopped: QUIC lets go of its port a moment later.
async fn bind_again(seed: u8, listen: &str, bootstrap: Vec<String>) -> Net {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match bind(seed, listen, bootstrap.clone(), "public").await {
            Ok(net) => return net,
            Err(fault) if tokio::time::Instant::now() > deadline => panic!("{fault}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The address without `/p2p/<peer id>`.
fn bare(address: &str) -> String {
    address.split("/p2p/").next().unwrap().into()
}

async fn two(listen: &str) -> (Node, Node) {
    let mut one = Node::start(1, listen, &[]).await;
    let mut two = Node::start(2, listen, &[&one]).await;
    one.up(two.id).await;
    two.up(one.id).await;
    (one, two)
}

async fn packets_pass_both_ways(listen: &str) {
    let (mut one, mut two) = two(listen).await;
    let long = vec![5; 200 * 1024];
    for destination in [Destination::Domain, Destination::Peer(two.id)] {
        one.send(destination, b"from one".to_vec()).await;
        assert_eq!(two.next().await, News::Bytes(one.id, b"from one".to_vec()));
        one.send(destination, long.clone()).await;
        assert_eq!(two.next().await, News::Bytes(one.id, long.clone()));
    }
    for destination in [Destination::Domain, Destination::Peer(one.id)] {
        two.send(destination, b"from two".to_vec()).await;
        assert_eq!(one.next().await, News::Bytes(two.id, b"from two".to_vec()));
        // What is too long, or for somebody who is not there, is dropped and harms nobody.
        two.send(destination, vec![6; limits::PACKET_BYTES + 1]).await;
        two.send(Destination::Peer(NodeId([9; 32])), b"nobody".to_vec()).await;
        two.send(destination, vec![6; limits::PACKET_BYTES]).await;
        assert_eq!(one.next().await, News::Bytes(two.id, vec![6; limits::PACKET_BYTES]));
    }
    two.stop().await;
    assert_eq!(one.next().await, News::Down(NodeId(SecretKey::from_seed([2; 32]).public().0)));
    one.stop().await;
}

#[tokio::test]
async fn packets_pass_both_ways_over_tcp() {
    packets_pass_both_ways(TCP).await;
}

#[tokio::test]
async fn packets_pass_both_ways_over_quic() {
    packets_pass_both_ways(QUIC).await;
}

#[tokio::test]
async fn the_same_bytes_sent_again_arrive_again() {
    let (one, mut two) = two(TCP).await;
    for _ in 0..3 {
        one.send(Destination::Domain, b"a summary".to_vec()).await;
        assert_eq!(two.next().await, News::Bytes(one.id, b"a summary".to_vec()));
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_broadcast_reaches_a_node_that_is_no_peer() {
    let mut hub = Node::start(1, TCP, &[]).await;
    let mut left = Node::start(2, TCP, &[&hub]).await;
    let mut right = Node::start(3, QUIC, &[&hub]).await;
    left.up(hub.id).await;
    right.up(hub.id).await;
    let ups = BTreeSet::from([left.id.0, right.id.0]);
    let mut seen = BTreeSet::new();
    while seen != ups {
        let News::Up(node) = hub.next().await else { panic!("nobody sent anything") };
        seen.insert(node.0);
    }
    // Until the hub's mesh stands, a packet may stop there: that is gossipsub's way.
    let mut arrived = None;
    for n in 0..200u8 {
        left.send(Destination::Domain, vec![n; 100]).await;
        if let Ok(Some(command)) = timeout(Duration::from_millis(300), right.commands.recv()).await {
            arrived = Some(news(command));
            break;
        }
    }
    let Some(News::Bytes(from, bytes)) = arrived else { panic!("{arrived:?}") };
    assert_eq!((from, bytes.len()), (hub.id, 100), "who passed it on is named");
    for node in [hub, left, right] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_busy_node_slows_its_peers_and_loses_no_request() {
    let one = Node::start(1, TCP, &[]).await;
    let net = bind(2, TCP, vec![one.addresses[0].clone()], "public").await.unwrap();
    let (mut one, mut busy) = (one, Node::run(net, 1));
    one.up(busy.id).await;
    busy.up(one.id).await;
    let sent: BTreeSet<Vec<u8>> = (0..100u8).map(|n| vec![n; 10_000]).collect();
    for bytes in &sent {
        one.send(Destination::Peer(busy.id), bytes.clone()).await;
    }
    // The busy node's shell goes on meanwhile: what it sends arrives.
    busy.send(Destination::Peer(one.id), b"still here".to_vec()).await;
    assert_eq!(one.next().await, News::Bytes(busy.id, b"still here".to_vec()));
    let mut arrived = BTreeSet::new();
    while arrived != sent {
        let News::Bytes(from, bytes) = busy.next().await else { panic!("no peer came or went") };
        assert_eq!(from, one.id);
        assert!(arrived.insert(bytes), "once each");
    }
    one.stop().await;
    busy.stop().await;
}

async fn a_peer_that_comes_back_is_found(listen: &str) {
    let mut one = Node::start(1, listen, &[]).await;
    let mut two = Node::start(2, listen, &[&one]).await;
    let (id, address) = (one.id, bare(&one.addresses[0]));
    one.up(two.id).await;
    two.up(id).await;
    one.stop().await;
    assert_eq!(two.next().await, News::Down(id));
    let mut one = Node::run(bind_again(1, &address, Vec::new()).await, 1024);
    two.up(id).await;
    one.up(two.id).await;
    one.send(Destination::Domain, b"back".to_vec()).await;
    assert_eq!(two.next().await, News::Bytes(id, b"back".to_vec()));

    // The other way round: the one that was dialled remembers where to find the one that dialled.
    let (id, address) = (two.id, bare(&two.addresses[0]));
    two.stop().await;
    assert_eq!(one.next().await, News::Down(id));
    let mut two = Node::run(bind_again(2, &address, Vec::new()).await, 1024);
    one.up(id).await;
    two.up(one.id).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_over_tcp() {
    a_peer_that_comes_back_is_found(TCP).await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_over_quic() {
    a_peer_that_comes_back_is_found(QUIC).await;
}

/// Not a test: the node that [`a_peer_that_was_killed_and_started_again_is_found`] kills. It tells
/// its address and runs until then.
#[tokio::test]
#[ignore = "started by another test"]
async fn killed_node() {
    let Ok(listen) = std::env::var("MULTICHAT_TEST_LISTEN") else { return };
    let mut node = Node::run(bind_again(1, &listen, Vec::new()).await, 64);
    println!("listening {}", node.addresses[0]);
    while node.commands.recv().await.is_some() {}
}

struct Child(std::process::Child, String);

impl Child {
    fn start(listen: &str) -> Self {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["net::killed_node", "--exact", "--ignored", "--nocapture"])
            .env("MULTICHAT_TEST_LISTEN", listen)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        // The test runner writes before it on the same line.
        let told = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening ").map(|(_, address)| address.trim().to_owned()));
        Self(child, told.expect("it listens"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A killed process closes no QUIC connection: the other side must notice by itself.
async fn a_peer_that_was_killed_and_started_again_is_found(listen: &str) {
    let id = NodeId(SecretKey::from_seed([1; 32]).public().0);
    let child = Child::start(listen);
    let address = child.1.clone();
    let mut node = Node::run(bind(2, listen, vec![bare(&address)], "public").await.unwrap(), 64);
    node.up(id).await;
    drop(child);
    assert_eq!(node.next().await, News::Down(id));
    let child = Child::start(&bare(&address));
    assert_eq!(child.1, address);
    node.up(id).await;
    node.stop().await;
}

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_is_found_over_tcp() {
    a_peer_that_was_killed_and_started_again_is_found(TCP).await;
}

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_is_found_over_quic() {
    a_peer_that_was_killed_and_started_again_is_found(QUIC).await;
}

async fn nodes_that_dial_each_other_stay_up(listen: &str) {
    let reserved = bind(1, listen, Vec::new(), "public").await.unwrap();
    let first = reserved.addresses().remove(0);
    let two = bind(2, listen, vec![first.clone()], "public").await.unwrap();
    drop(reserved);
    // One address names the peer and the other does not: both kinds of contact take part.
    let bootstrap = vec![bare(&two.addresses()[0]), two.addresses().remove(0)];
    let one = bind_again(1, &bare(&first), bootstrap).await;
    let (mut one, mut two) = (Node::run(one, 1024), Node::run(two, 1024));
    one.up(two.id).await;
    two.up(one.id).await;
    // Longer than surplus connections live.
    assert_eq!(one.quiet(Duration::from_secs(6)).await, []);
    assert_eq!(two.quiet(Duration::from_millis(1)).await, []);
    one.send(Destination::Peer(two.id), b"one way".to_vec()).await;
    assert_eq!(two.next().await, News::Bytes(one.id, b"one way".to_vec()));
    two.send(Destination::Domain, b"and back".to_vec()).await;
    assert_eq!(one.next().await, News::Bytes(two.id, b"and back".to_vec()));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn nodes_that_dial_each_other_stay_up_over_tcp() {
    nodes_that_dial_each_other_stay_up(TCP).await;
}

#[tokio::test]
async fn nodes_that_dial_each_other_stay_up_over_quic() {
    nodes_that_dial_each_other_stay_up(QUIC).await;
}

#[tokio::test]
async fn a_node_does_not_dial_itself_and_other_domains_are_strangers() {
    let reserved = bind(1, TCP, Vec::new(), "public").await.unwrap();
    let address = bare(&reserved.addresses()[0]);
    drop(reserved);
    let mut one = Node::run(bind_again(1, &address, vec![address.clone()]).await, 64);
    let other = bind(2, TCP, vec![one.addresses[0].clone()], "elsewhere").await.unwrap();
    let mut other = Node::run(other, 64);
    assert_eq!(one.quiet(Duration::from_secs(3)).await, []);
    assert_eq!(other.quiet(Duration::from_millis(1)).await, []);
    one.stop().await;
    other.stop().await;
}

/// Bytes as they are, as requests of the packet protocol.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl request_response::Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> std::io::Result<Vec<u8>> {
        self.read_response(&StreamProtocol::new("/"), io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> std::io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> std::io::Result<()> {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Odd {
    identify: identify::Behaviour,
    raw: request_response::Behaviour<RawCodec>,
}

/// A libp2p peer that is none of ours, connected to `to`.
async fn odd_peer(protocols: &[&'static str], to: &Node) -> Swarm<Odd> {
    let both_ways =
        |name: &&'static str| (StreamProtocol::new(name), request_response::ProtocolSupport::Full);
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Odd {
            identify: identify::Behaviour::new(identify::Config::new("odd/1".into(), key.public())),
            raw: request_response::Behaviour::new(
                protocols.iter().map(both_ways),
                request_response::Config::default(),
            ),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build();
    swarm.dial(to.addresses[0].parse::<Multiaddr>().unwrap()).unwrap();
    until(&mut swarm, |event| matches!(event, SwarmEvent::ConnectionEstablished { .. })).await;
    swarm
}

async fn until(swarm: &mut Swarm<Odd>, wanted: impl Fn(&SwarmEvent<OddEvent>) -> bool) {
    let wait = async { while !wanted(&swarm.select_next_some().await) {} };
    timeout(PATIENCE, wait).await.expect("in time");
}

/// Answers the next question about domains as a member would. Whether it was a verdict instead.
async fn answers(odd: &mut Swarm<Odd>, domain: &str) -> bool {
    let next = async {
        loop {
            if let SwarmEvent::Behaviour(OddEvent::Raw(request_response::Event::Message {
                message: request_response::Message::Request { request, channel, .. },
                ..
            })) = odd.select_next_some().await
            {
                return (request, channel);
            }
        }
    };
    let (request, channel) = timeout(PATIENCE, next).await.expect("a question in time");
    let word = Word::decode(&request[2..]).expect("a word");
    let claim = Claim { name: domain.into(), topology: Topology::Gossip };
    let reply = match &word {
        Word::Who { .. } => Reply::Am { proofs: vec![(claim, Proof::None)], welcome: Vec::new() },
        Word::Verdict(_) => Reply::Heard,
    };
    let bytes = reply.encode();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let _ = odd.behaviour_mut().raw.send_response(channel, [&length[..], &bytes].concat());
    matches!(word, Word::Verdict(_))
}

#[tokio::test]
async fn garbage_and_strangers_do_no_harm() {
    let (mut one, mut two) = two(TCP).await;
    let port: u16 = bare(&one.addresses[0]).rsplit('/').next().unwrap().parse().unwrap();
    for round in 0..20u8 {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let noise: Vec<u8> =
            (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ round).collect();
        // The node may hang up in the middle of it.
        let _ = socket.write_all(&noise);
    }
    // One that speaks libp2p but not ours is shown the door.
    let mut stranger = odd_peer(&["/something/else"], &one).await;
    until(&mut stranger, |event| matches!(event, SwarmEvent::ConnectionClosed { .. })).await;

    two.send(Destination::Domain, b"still fine".to_vec()).await;
    assert_eq!(one.next().await, News::Bytes(two.id, b"still fine".to_vec()), "the node heard of nobody");
    one.send(Destination::Peer(two.id), b"both ways".to_vec()).await;
    assert_eq!(two.next().await, News::Bytes(one.id, b"both ways".to_vec()));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_member_that_breaks_the_packet_protocol_is_refused_packet_by_packet() {
    let mut one = Node::start(1, TCP, &[]).await;
    let mut odd = odd_peer(&["/multichat/packet/2", "/multichat/domains/1"], &one).await;
    let to = *odd.connected_peers().next().unwrap();
    while !answers(&mut odd, "public").await {}
    let over = u32::try_from(limits::PACKET_BYTES + 1).unwrap().to_be_bytes().to_vec();
    let broken = [vec![], vec![0, 0, 0, 0], vec![0, 0, 0, 9, 1], over, vec![0xff; 300 * 1024]];
    for bytes in broken {
        odd.behaviour_mut().raw.send_request(&to, bytes);
    }
    odd.behaviour_mut().raw.send_request(&to, vec![0, 0, 0, 3, b'a', b'b', b'c']);
    let polled = tokio::spawn(async move {
        loop {
            odd.select_next_some().await;
        }
    });
    let News::Up(from) = one.next().await else { panic!("it speaks our protocol") };
    assert_eq!(one.next().await, News::Bytes(from, b"abc".to_vec()));
    polled.abort();
    assert_eq!(one.next().await, News::Down(from));
    one.stop().await;
}

async fn fault(listen: &str) -> Fault {
    match bind(3, listen, Vec::new(), "public").await {
        Err(fault) => fault,
        Ok(_) => panic!("{listen} was taken"),
    }
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_said_in_one_line() {
    for listen in [TCP, QUIC] {
        let held = bind(1, listen, Vec::new(), "public").await.unwrap();
        let address = bare(&held.addresses()[0]);
        assert!(!address.contains("/0"), "a real port: {address}");
        let taken = fault(&address).await;
        assert_eq!(taken.kind, Kind::Permanent);
        let expect =
            format!("node.listen: {address} is taken by another program; stop it or choose another port");
        assert_eq!(taken.message, expect);
    }
    let nonsense = fault("localhost:7700").await;
    assert_eq!(nonsense.kind, Kind::Invalid);
    assert_eq!(
        nonsense.message,
        "node.listen: \"localhost:7700\" is not a multiaddress; write one such as \
         /ip4/192.0.2.1/udp/7700/quic-v1 or /ip4/192.0.2.1/tcp/7700"
    );
    let unsupported = fault("/ip4/127.0.0.1/tcp/0/ws").await;
    assert_eq!(unsupported.kind, Kind::Invalid);
    assert!(unsupported.message.contains("nothing can listen on"), "{unsupported}");
    let elsewhere = fault("/ip4/192.0.2.1/tcp/0").await;
    assert_eq!(elsewhere.kind, Kind::Invalid);
    assert!(elsewhere.message.contains("no address of this machine"), "{elsewhere}");

    let bootstrap = bind(1, TCP, vec!["multichat:abc".into()], "public").await.err().unwrap();
    assert!(bootstrap.message.starts_with("node.bootstrap: \"multichat:abc\" is not"), "{bootstrap}");
    let domain = bind(1, TCP, Vec::new(), "a/b").await.err().unwrap();
    assert!(domain.message.starts_with("domains: name: \"a/b\" cannot name a domain"), "{domain}");
}

#[tokio::test]
async fn a_node_knows_its_names() {
    let net = bind(1, TCP, Vec::new(), "public").await.unwrap();
    assert_eq!(net.node_id(), NodeId(SecretKey::from_seed([1; 32]).public().0));
    assert_eq!(net.peer_id(), "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5");
    assert!(net.addresses()[0].ends_with(&format!("/p2p/{}", net.peer_id())));
}

/// Not a test: two nodes that know nothing of each other, in a network that is theirs alone.
#[tokio::test]
#[ignore = "started by another test"]
async fn nodes_on_a_lan() {
    let Ok(listen) = std::env::var("MULTICHAT_TEST_LISTEN") else { return };
    let mut nodes = Vec::new();
    for seed in [1, 2] {
        let node = NodeConfig { listen: vec![listen.clone()], lan: true, ..NodeConfig::default() };
        let domain = DomainConfig::open("public", Topology::Gossip);
        let net = Net::bind(&node, &[domain], SecretKey::from_seed([seed; 32])).await.unwrap();
        nodes.push(Node::run(net, 64));
    }
    let [one, two] = &mut nodes[..] else { unreachable!() };
    one.up(two.id).await;
    two.up(one.id).await;
    println!("found each other");
}

/// mDNS passes over loopback addresses, so this makes a network of its own, with one address that
/// is none, where the machine lets it.
#[test]
fn nodes_on_a_lan_find_each_other() {
    let lan = "ip link set lo up multicast on && ip addr add 10.9.0.1/24 dev lo && \
               ip route add 224.0.0.0/4 dev lo && exec \"$0\" \"$@\"";
    let unshare = |program: &std::path::Path| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", lan]).arg(program);
        command
    };
    let possible = unshare(std::path::Path::new("true")).output().is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("skipped: this machine does not let us make a network namespace (unshare, ip)");
        return;
    }
    let output = unshare(&std::env::current_exe().unwrap())
        .args(["net::nodes_on_a_lan", "--exact", "--ignored", "--nocapture"])
        .env("MULTICHAT_TEST_LISTEN", "/ip4/10.9.0.1/tcp/0")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("found each other"), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

//! Two nodes that hold one link to a real IRC network, and die: what members say reaches the network, and
//! what its people say reaches the members, once each and in order, whoever carries the link.
//!
//! The members sit on a third node that has no link. Nothing here depends on how long something takes; how
//! long a takeover took is printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use multichat::base::config::{
    Config, Consent, DomainConfig, IrcConfig, ListenConfig, NetworkConfig, NodeConfig,
};
use multichat::cli::demo::irc_user::{IrcUser, Line};
use multichat::cli::demo::ircd::Ircd;
use multichat::cli::demo::process::free_ports;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::peers::node::NodeProcess;
use crate::peers::{self, Scratch};

const CHANNEL: &str = "#club";
/// Lines of each of four speakers: two members, and two people of the network.
const LINES: usize = 500;
const MEMBERS: [&str; 2] = ["alice", "anna"];
const PEOPLE: [&str; 2] = ["carol", "carl"];
const RELAYS: [&str; 2] = ["relay1", "relay2"];
/// Some forty lines a second in each direction.
const PACE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holders_of_a_link_die_in_turn_and_nothing_is_lost_or_doubled() {
    let Some(mut world) = World::raise("failover").await else { return };
    world.speak_up_to(250);
    world.until_heard(MEMBERS[0], 60).await;
    let dead = world.kill(0).await;
    world.until_carried_by(1).await;
    println!("relay2 spoke {} ms after relay1 was killed", world.spoke_after(dead, RELAYS[1]).await);
    world.all_heard(250).await;

    // The first comes back while the second carries, and learns what it did not see.
    world.speak_up_to(350);
    world.nodes[0].restart().await;
    world.until_heard(MEMBERS[0], 350).await;
    world.until_behind(0).await;
    world.all_heard(350).await;

    world.speak_up_to(LINES);
    world.until_heard(MEMBERS[0], 400).await;
    let dead = world.kill(1).await;
    world.until_carried_by(0).await;
    println!("relay1 spoke {} ms after relay2 was killed", world.spoke_after(dead, RELAYS[0]).await);
    world.all_heard(LINES).await;
    // What the dead one took in and told nobody comes now, and is known.
    world.nodes[1].restart().await;
    world.until_behind(1).await;
    sleep(Duration::from_secs(2)).await;
    world.all_heard(LINES).await;
    println!("shown once though taken in twice: {}", world.taken_in_twice().await);
    world.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_hangs_is_passed_over_and_gives_way_when_it_wakes() {
    let Some(world) = World::raise("failover-hangs").await else { return };
    world.speak_up_to(50);
    world.all_heard(50).await;
    world.until_behind(1).await;
    world.nodes[0].freeze().await;
    let dead = Instant::now();
    world.speak_up_to(100);
    world.until_carried_by(1).await;
    println!("relay2 spoke {} ms after relay1 froze", world.spoke_after(dead, RELAYS[1]).await);
    world.all_heard(100).await;
    world.nodes[0].thaw().await;
    world.until_behind(0).await;
    world.speak_up_to(150);
    world.all_heard(150).await;
    world.until_carried_by(1).await;
    world.strike().await;
}

/// Everything that one scenario takes.
struct World {
    ircd: Ircd,
    /// Has no link, and the members.
    home: NodeProcess,
    /// The holders.
    nodes: Vec<NodeProcess>,
    members: Vec<Arc<IrcUser>>,
    people: Vec<Arc<IrcUser>>,
    limit: watch::Sender<usize>,
    speakers: Vec<JoinHandle<()>>,
    // Last, so that it outlives what is kept in it.
    _dir: Scratch,
}

impl World {
    /// `None` where peers cannot be had and are skipped.
    async fn raise(test: &str) -> Option<Self> {
        let dir = peers::scratch(test);
        let ircd = peers::unless_skipped(peers::ircd(&dir).await)?;
        let [port] = free_ports().unwrap();
        let p2p = format!("/ip4/127.0.0.1/tcp/{port}");
        let mut at_home = config("home", None);
        at_home.node.listen = vec![p2p.clone()];
        let home = NodeProcess::start(&dir.join("home"), &at_home).await;
        let p2p = format!("{p2p}/p2p/{}", home.field("p2p"));
        let address: SocketAddr = home.field("irc").parse().unwrap();
        let members = seat(&MEMBERS, address).await;
        let people = seat(&PEOPLE, ircd.address()).await;
        let mut nodes = Vec::new();
        for (number, relay) in RELAYS.into_iter().enumerate() {
            let network = NetworkConfig {
                consent: Consent::Given,
                flood: None,
                failover_with: vec![RELAYS[1 - number].to_owned()],
                ..NetworkConfig::at(ircd.address().to_string(), relay)
            };
            nodes.push(holder(&dir.join(relay), relay, network, &p2p).await);
        }
        let (limit, _) = watch::channel(0);
        let mut world = Self { ircd, home, nodes, members, people, limit, speakers: Vec::new(), _dir: dir };
        world.until_carried_by(0).await;
        world.until_behind(1).await;
        world.seat_speakers();
        Some(world)
    }

    fn seat_speakers(&mut self) {
        for user in self.members.iter().chain(&self.people) {
            let user = user.clone();
            let mut limit = self.limit.subscribe();
            self.speakers.push(tokio::spawn(async move {
                for number in 1..=LINES {
                    if limit.wait_for(|limit| number <= *limit).await.is_err() {
                        return;
                    }
                    user.say(CHANNEL, &format!("{} {number}", user.nick())).unwrap();
                    sleep(PACE).await;
                }
            }));
        }
    }

    fn speak_up_to(&self, limit: usize) {
        self.limit.send_replace(limit);
    }

    /// Kills a holder in the midst of things; when.
    async fn kill(&mut self, number: usize) -> Instant {
        self.nodes[number].kill().await;
        Instant::now()
    }

    /// Waits until a person of the network has heard so much of a member.
    async fn until_heard(&self, member: &str, number: usize) {
        let last = format!("{member} {number}");
        let is_it = |line: &Line| line.command == "PRIVMSG" && line.params[1].ends_with(&last);
        self.people[0].wait_for(&last, PATIENCE, is_it).await.unwrap();
    }

    /// When the first line of a relay came after a moment, in milliseconds.
    async fn spoke_after(&self, moment: Instant, relay: &str) -> u128 {
        let is_it = |line: &Line| line.command == "PRIVMSG" && line.from == relay && line.at >= moment;
        let line = self.people[0].wait_for("the other relay", PATIENCE, is_it).await.unwrap();
        line.at.duration_since(moment).as_millis()
    }

    async fn until_carried_by(&self, number: usize) {
        self.until(number, "this node").await;
    }

    /// Waits until a holder stands by and nothing more waits to be said, as far as it knows.
    async fn until_behind(&self, number: usize) {
        self.until(number, RELAYS[1 - number]).await;
    }

    async fn until(&self, number: usize, carrier: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.nodes[number].ask(&["status"]).await;
            let carries = status["carriers"][0]["carrier"].as_str() == Some(carrier);
            let waiting = status["outbox"].as_array().into_iter().flatten();
            let waiting: u64 = waiting.filter_map(|door| door["waiting"].as_u64()).sum();
            if carries && (carrier == "this node" || waiting == 0) {
                return;
            }
            assert!(Instant::now() < end, "{} never was carried by {carrier}: {status}", RELAYS[number]);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everybody's lines up to a number are with the others: once each, in order.
    async fn all_heard(&self, limit: usize) {
        let expect: Vec<usize> = (1..=limit).collect();
        for (readers, speakers) in [(&self.people, MEMBERS), (&self.members, PEOPLE)] {
            for reader in readers {
                for speaker in speakers {
                    let end = Instant::now() + PATIENCE;
                    while Instant::now() < end && heard(reader, speaker).last() != Some(&limit) {
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            // What would come twice comes soon after.
            sleep(Duration::from_millis(500)).await;
            for reader in readers {
                for speaker in speakers {
                    let heard = heard(reader, speaker);
                    assert_eq!(heard, expect, "{} of {speaker}: {}", reader.nick(), wrong(&heard, limit));
                }
            }
        }
    }

    /// How many lines both holders took in, of which one was shown.
    async fn taken_in_twice(&self) -> u64 {
        let status = self.home.ask(&["status"]).await;
        let refused = status["refused"].as_array().cloned().unwrap_or_default();
        let twice = refused.iter().find(|refused| refused["reason"] == "taken_in_twice");
        twice.and_then(|refused| refused["count"].as_u64()).unwrap_or_default()
    }

    async fn strike(mut self) {
        self.speakers.iter().for_each(JoinHandle::abort);
        for node in self.nodes.iter_mut().chain([&mut self.home]) {
            node.kill().await;
        }
        self.ircd.stop().await;
    }
}

/// The numbers of a speaker's lines, in the order in which somebody heard them.
fn heard(reader: &IrcUser, speaker: &str) -> Vec<usize> {
    let said = reader.heard().into_iter().filter(|line| line.command == "PRIVMSG");
    let number = |line: Line| {
        let mut words = line.params[1].rsplit(' ');
        let number = words.next()?.parse().ok()?;
        (words.next()? == speaker).then_some(number)
    };
    said.filter_map(number).collect()
}

/// What is wrong with numbers that should be all up to a limit.
fn wrong(heard: &[usize], limit: usize) -> String {
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    heard.iter().for_each(|number| *times.entry(*number).or_default() += 1);
    let lacking: Vec<usize> = (1..=limit).filter(|number| !times.contains_key(number)).collect();
    let doubled: Vec<usize> = times.into_iter().filter(|(_, times)| *times > 1).map(|(n, _)| n).collect();
    let disordered: Vec<&[usize]> = heard.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
    format!("lacking {lacking:?}, doubled {doubled:?}, out of order {disordered:?}")
}

async fn seat(nicks: &[&str], address: SocketAddr) -> Vec<Arc<IrcUser>> {
    let mut users = Vec::new();
    for nick in nicks {
        let user = IrcUser::connect(address, nick, nick).await.unwrap();
        user.join(CHANNEL).await.unwrap();
        users.push(Arc::new(user));
    }
    users
}

/// Starts a node that holds the link, once it knows the channel.
async fn holder(dir: &Path, name: &str, network: NetworkConfig, home: &str) -> NodeProcess {
    let mut config = config(name, Some(network));
    config.node.bootstrap = vec![home.to_owned()];
    let node = NodeProcess::start(dir, &config).await;
    let end = Instant::now() + PATIENCE;
    while !node.ask(&["channels"]).await.to_string().contains(CHANNEL) {
        assert!(Instant::now() < end, "{name} never knew {CHANNEL}");
        sleep(Duration::from_millis(50)).await;
    }
    node.ask(&["link", "add", CHANNEL, "--irc", &format!("net/{CHANNEL}")]).await;
    node
}

/// Loopback alone, ports chosen by the system, no limits.
fn config(name: &str, network: Option<NetworkConfig>) -> Config {
    Config {
        data_dir: Some("data".into()),
        node: NodeConfig {
            name: format!("{name}.local"),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            lan: false,
        },
        domains: vec![DomainConfig::open("failover", Default::default())],
        irc: IrcConfig {
            server_name: format!("{name}.local"),
            listen: vec![ListenConfig::plain("127.0.0.1:0")],
            flood: None,
            networks: network.into_iter().map(|network| ("net".to_owned(), network)).collect(),
            ..IrcConfig::default()
        },
        log: "info,multichat=debug".into(),
        ..Config::default()
    }
}

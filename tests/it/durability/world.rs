//! Everything that one scenario takes: a real homeserver, a real IRC network and two nodes as child
//! processes, A between the two and B with nothing but a listener; and people on each side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multichat::base::config::{
    Config, Consent, DomainConfig, IrcConfig, LinkConfig, ListenConfig, MatrixConfig, NetworkConfig,
    NodeConfig,
};
use multichat::cli::demo::ircd::Ircd;
use multichat::cli::demo::irssi::{Irssi, said};
use multichat::cli::demo::process::free_ports;
use multichat::cli::demo::synapse::Synapse;
use multichat::cli::demo::synapse_config::Settings;
use multichat::matrix::proto::registration::Registration;
use tokio::sync::watch;
use tokio::time::Instant;

use super::irc::{Client, Happened, Person};
use super::matrix::User;
use super::node::{Node, listener};
use super::words::{Reading, Word};
use crate::peers::{Scratch, homeserver, ircd, irssi_program, scratch, unless_skipped};

/// Lines of Alice and of Bob.
pub const LINES: usize = 500;
/// Lines of Carol, on the linked network.
pub const CAROLS: usize = 100;

const SERVER_NAME: &str = "durable.local";
const CHANNEL: &str = "#durable";
const ALIAS: &str = "#_multichat_durable:durable.local";
const RELAY: &str = "multichat";
const PASSWORD: &str = "a password of alice";
/// Forty lines a second in all are about half of what Synapse can write here.
const PACE: Duration = Duration::from_millis(50);
const CAROLS_PACE: Duration = Duration::from_millis(500);
/// Nothing new for so long means that nothing more will come.
const NO_PROGRESS: Duration = Duration::from_secs(180);
const SEATED: Duration = Duration::from_secs(90);

/// What is running.
pub struct World {
    pub synapse: Synapse,
    pub ircd: Ircd,
    pub a: Node,
    pub b: Node,
    alice: User,
    /// Reads at a real irssi on node B.
    ida: Irssi,
    /// Speaks and reads on node B.
    bob: Client,
    /// Speaks and reads on the linked network.
    carol: Client,
    go: watch::Sender<bool>,
    begun: Instant,
    // Last, so that it outlives what is kept in it.
    _dir: Scratch,
}

/// What everybody got.
pub struct Outcome {
    /// On Matrix, of Alice, Bob and Carol.
    pub matrix: BTreeMap<&'static str, Reading>,
    /// On node B, by the raw client and by irssi.
    pub bob: BTreeMap<&'static str, Reading>,
    pub ida: BTreeMap<&'static str, Reading>,
    /// On the linked network.
    pub carol: BTreeMap<&'static str, Reading>,
    /// What Carol saw and did, in order.
    pub carols_events: Vec<Happened>,
    /// What a server would not take of Bob or Carol.
    pub refused: Vec<Happened>,
    /// Matrix users who said Bob's lines: his ghost, alone.
    pub bobs_ghosts: Vec<String>,
}

impl World {
    /// Starts everything and seats everybody; `None` where peers cannot be had and are skipped.
    pub async fn raise(test: &str) -> Option<Self> {
        let dir = scratch(test);
        let irssi = unless_skipped(irssi_program().await)?;
        let ircd = unless_skipped(ircd(&dir).await)?;
        let [appservice, p2p, irc_a, irc_b, p2p_b] = free_ports().unwrap();
        let registration = registration(&dir, appservice);
        let settings =
            Settings { server_name: SERVER_NAME.into(), registrations: vec![registration.clone()] };
        let synapse = unless_skipped(homeserver(&dir, settings).await)?;
        synapse.register(&[("alice", PASSWORD)]).await.unwrap();

        let matrix = MatrixConfig {
            homeserver: synapse.url(),
            server_name: SERVER_NAME.into(),
            registration: registration.display().to_string(),
            listen: format!("127.0.0.1:{appservice}"),
            admins: Vec::new(),
            public_url: None,
            encryption: Default::default(),
        };
        let config = between(matrix, &ircd, p2p, irc_a);
        let mut a = Node::new("a", &dir.join("a"), &config);
        a.start();
        let peer = a.ready().await;
        let peer = peer.rsplit_once("p2p=").unwrap().1;
        let mut config = common("b", p2p_b, irc_b);
        config.node.bootstrap = vec![
            format!("/ip4/127.0.0.1/udp/{p2p}/quic-v1/p2p/{peer}"),
            format!("/ip4/127.0.0.1/tcp/{p2p}/p2p/{peer}"),
        ];
        let mut b = Node::new("b", &dir.join("b"), &config);
        b.start();
        b.ready().await;

        // Or `/join` would found another channel of the same name.
        b.knows_channel(CHANNEL).await;

        let (go, wait) = watch::channel(false);
        let mut ida = Irssi::start(&irssi, &dir, listener(&config), "ida").unwrap();
        ida.join(CHANNEL).await.unwrap();
        let bob = Person {
            name: "bob",
            address: listener(&config),
            channel: CHANNEL,
            echoes: true,
            lines: LINES,
            pace: PACE,
            watches: "alice",
        };
        let carol = Person {
            name: "carol",
            address: ircd.address(),
            echoes: false,
            lines: CAROLS,
            pace: CAROLS_PACE,
            watches: RELAY,
            ..bob.clone()
        };
        // Her coming makes the room. What is said before is not carried there.
        let alice = User::enter(&synapse.url(), "alice", PASSWORD, ALIAS).await;
        let (bob, carol) = (Client::seat(bob, wait.clone()), Client::seat(carol, wait));
        let world =
            Self { synapse, ircd, a, b, alice, ida, bob, carol, go, begun: Instant::now(), _dir: dir };
        world.seated().await;
        Some(world)
    }

    /// Lets everybody speak. What is returned ends once Alice has said everything, with how often
    /// she had to say a line again.
    pub fn begin(&mut self) -> impl Future<Output = usize> + use<> {
        self.begun = Instant::now();
        self.go.send_replace(true);
        let alice = self.alice.clone();
        async move { alice.say_lines("alice", LINES, PACE).await }
    }

    /// Where everybody is, for people to see.
    pub fn progress(&self) -> String {
        let said = |client: &Client, person| {
            let said = |event: &Happened| match event {
                Happened::Said(word) => Some(word.number),
                _ => None,
            };
            format!("{person} {}", client.events().iter().filter_map(said).max().unwrap_or(0))
        };
        let heard = Reading::of("bob", "alice", &self.bob.sessions()).arrived();
        let seconds = self.begun.elapsed().as_secs_f32();
        format!(
            "[{seconds:6.1} s] said: {}, {}; node B shows {heard} of alice",
            said(&self.bob, "bob"),
            said(&self.carol, "carol")
        )
    }

    /// Waits until everything has arrived or nothing more comes; then says what everybody got.
    pub async fn settle(&mut self) -> Outcome {
        self.a.ready().await;
        self.b.ready().await;
        let mut reached = Vec::new();
        let mut since = Instant::now();
        while since.elapsed() < NO_PROGRESS {
            let outcome = self.outcome().await;
            if outcome.as_ref().is_some_and(Outcome::is_complete) {
                break;
            }
            if let Some(now) = outcome.map(|outcome| outcome.arrived())
                && now != reached
            {
                reached = now;
                since = Instant::now();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        println!("{} settled", self.progress());
        // What would come twice comes soon after.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.a.must_run();
        self.b.must_run();
        self.outcome().await.expect("the room can be read")
    }

    /// Ends everything that was started.
    pub async fn strike(mut self) {
        drop(self.bob);
        drop(self.carol);
        drop(self.ida);
        self.b.stop().await;
        self.a.stop().await;
        self.ircd.stop().await;
        self.synapse.stop().await;
    }

    /// Waits until Alice hears Bob, and Carol sees the relay.
    async fn seated(&self) {
        let end = Instant::now() + SEATED;
        loop {
            let read = self.alice.read().await.unwrap_or_default();
            let hears_bob = read.iter().any(|message| message.body.starts_with("bob is here"));
            let sees_relay = self.carol.events().contains(&Happened::Came);
            if hears_bob && sees_relay {
                return;
            }
            assert!(
                Instant::now() < end,
                "alice hears bob: {hears_bob}; carol sees the relay: {sees_relay}; {:?}",
                self.bob.events()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn outcome(&self) -> Option<Outcome> {
        let read = self.alice.read().await.ok()?;
        let bodies: Vec<Vec<String>> = vec![read.iter().map(|message| message.body.clone()).collect()];
        let by_bob = read.iter().filter(|message| Word::of("bob", &message.body).is_some());
        let mut bobs_ghosts: Vec<String> = by_bob.map(|message| message.sender.clone()).collect();
        bobs_ghosts.sort_unstable();
        bobs_ghosts.dedup();
        let refused = [self.bob.refused(), self.carol.refused()].concat();
        Some(Outcome {
            matrix: readings("Matrix", &bodies),
            bob: readings("a client on node B", &self.bob.sessions()),
            ida: readings("irssi on node B", &irssi_sessions(&self.ida.log(CHANNEL), "ida")),
            carol: readings("a client on the linked network", &self.carol.sessions()),
            carols_events: self.carol.events(),
            refused,
            bobs_ghosts,
        })
    }
}

impl Outcome {
    fn arrived(&self) -> Vec<usize> {
        let all = [&self.matrix, &self.bob, &self.ida, &self.carol];
        all.iter().flat_map(|readings| readings.values().map(Reading::arrived)).collect()
    }

    /// Everything of Alice and Bob is everywhere, and Carol has said all and nothing of hers is on
    /// its way. (What she hears depends on whether she is there: her last lines have to be.)
    fn is_complete(&self) -> bool {
        let has_all = |readings: &BTreeMap<&str, Reading>| {
            ["alice", "bob"].iter().all(|person| readings[person].arrived() == LINES)
        };
        let carol_hears = ["alice", "bob"].iter().all(|person| self.carol[person].numbers().contains(&LINES));
        let carol = |readings: &BTreeMap<&str, Reading>| readings["carol"].numbers().contains(&CAROLS);
        let carol_everywhere = carol(&self.matrix) && carol(&self.bob) && carol(&self.ida);
        has_all(&self.matrix) && has_all(&self.bob) && has_all(&self.ida) && carol_hears && carol_everywhere
    }
}

fn readings(reader: &'static str, sessions: &[Vec<String>]) -> BTreeMap<&'static str, Reading> {
    let people = ["alice", "bob", "carol"];
    people.into_iter().map(|person| (person, Reading::of(reader, person, sessions))).collect()
}

/// Irssi's log of a channel, cut where it joined.
fn irssi_sessions(log: &str, nick: &str) -> Vec<Vec<String>> {
    let joined = format!(" {nick} [");
    let mut sessions = vec![Vec::new()];
    for line in log.lines() {
        if line.contains(&joined) && line.contains("has joined") {
            sessions.push(Vec::new());
        } else if let (Some((_, text)), Some(session)) = (said(line), sessions.last_mut()) {
            session.push(text.to_owned());
        }
    }
    sessions
}

fn registration(dir: &Path, port: u16) -> PathBuf {
    let url = format!("http://127.0.0.1:{port}");
    let registration =
        Registration::generate(SERVER_NAME, url, "token-of-the-service", "token-of-the-homeserver");
    let path = dir.join("registration.yaml");
    std::fs::write(&path, registration.to_yaml()).unwrap();
    path
}

/// Node A's configuration: between the homeserver and the network.
fn between(matrix: MatrixConfig, ircd: &Ircd, p2p: u16, irc: u16) -> Config {
    let network = NetworkConfig {
        consent: Consent::Given,
        flood: None,
        ..NetworkConfig::at(ircd.address().to_string(), RELAY)
    };
    let mut config = common("a", p2p, irc);
    config.matrix = Some(matrix);
    config.irc.networks = BTreeMap::from([("net".to_owned(), network)]);
    let irc = Some(format!("net/{CHANNEL}"));
    config.links = vec![LinkConfig { channel: CHANNEL.into(), matrix: None, irc }];
    config
}

/// What both nodes have in common: loopback alone, ports that stay, no limits on what clients send.
fn common(name: &str, p2p: u16, irc: u16) -> Config {
    Config {
        data_dir: Some("data".into()),
        node: NodeConfig {
            name: format!("{name}.durable.local"),
            listen: vec![format!("/ip4/127.0.0.1/udp/{p2p}/quic-v1"), format!("/ip4/127.0.0.1/tcp/{p2p}")],
            external: Vec::new(),
            bootstrap: Vec::new(),
            lan: false,
        },
        domains: vec![DomainConfig::open("durable", Default::default())],
        irc: IrcConfig {
            server_name: format!("{name}.durable.local"),
            listen: vec![ListenConfig::plain(format!("127.0.0.1:{irc}"))],
            flood: None,
            ..IrcConfig::default()
        },
        log: "info,multichat=debug".into(),
        ..Config::default()
    }
}

//! The demo's two nodes, in this process: A between a homeserver and an IRC network, B somewhere
//! else, with nothing but a listener for IRC clients and A's address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::trouble::Trouble;
use crate::base::config::{
    Config, Consent, DomainConfig, EncryptionConfig, IrcConfig, LinkConfig, ListenConfig, MatrixConfig,
    NetworkConfig, NodeConfig,
};
use crate::runtime::{self, Running};

/// The channel that everything meets in.
pub const CHANNEL: &str = "#demo";
/// The nick under which node A speaks on the linked network.
pub const RELAY_NICK: &str = "multichat";

const MEET_PATIENCE: Duration = Duration::from_secs(60);

/// The homeserver as node A knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MatrixSide {
    pub homeserver: String,
    pub server_name: String,
    pub registration: String,
    /// Where the homeserver pushes to.
    pub port: u16,
}

/// Starts node A, with its data in `dir`.
///
/// # Errors
/// The node's own words.
pub async fn start_a(dir: &Path, matrix: MatrixSide, ircd: Option<SocketAddr>) -> Result<Running, Trouble> {
    start("node A", config_a(matrix, ircd), dir).await
}

/// Starts node B, with its data in `dir`, knowing the addresses of node A alone.
///
/// # Errors
/// The node's own words.
pub async fn start_b(dir: &Path, bootstrap: &[String]) -> Result<Running, Trouble> {
    let mut config = config_b();
    config.node.bootstrap = bootstrap.to_vec();
    start("node B", config, dir).await
}

/// The configuration of a node between a homeserver and, where there is one, an IRC network.
pub fn config_a(matrix: MatrixSide, ircd: Option<SocketAddr>) -> Config {
    let mut config = common("a");
    config.matrix = Some(MatrixConfig {
        homeserver: matrix.homeserver,
        server_name: matrix.server_name,
        registration: matrix.registration,
        listen: format!("127.0.0.1:{}", matrix.port),
        admins: Vec::new(),
        public_url: None,
        encryption: EncryptionConfig::default(),
    });
    if let Some(address) = ircd {
        config.irc.networks = BTreeMap::from([("demo".to_owned(), network(address))]);
        let irc = Some(format!("demo/{CHANNEL}"));
        config.links = vec![LinkConfig { channel: CHANNEL.into(), matrix: None, irc }];
    }
    config
}

/// The configuration of a node that serves IRC clients and nothing else.
pub fn config_b() -> Config {
    common("b")
}

/// Waits until both nodes are connected to a peer.
///
/// # Errors
/// [`Trouble::Late`].
pub async fn meet(a: &Running, b: &Running) -> Result<(), Trouble> {
    let have_met = async || {
        let (a, b) = (a.handle.status().await, b.handle.status().await);
        a.is_ok_and(|a| !a.peers.is_empty()) && b.is_ok_and(|b| !b.peers.is_empty())
    };
    poll("the two nodes to find each other", have_met).await
}

/// Waits until a node has the channel, with at least so many members.
///
/// # Errors
/// [`Trouble::Late`].
pub async fn has_channel(name: &str, node: &Running, members: usize) -> Result<(), Trouble> {
    let has_it = async || {
        let channels = node.handle.channels().await.unwrap_or_default();
        channels.iter().any(|view| view.name == CHANNEL && view.members.len() >= members)
    };
    poll(&format!("{name} to know {CHANNEL}"), has_it).await
}

async fn poll(awaited: &str, holds: impl AsyncFn() -> bool) -> Result<(), Trouble> {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let late = |_| Trouble::Late { awaited: awaited.to_owned(), waited_s: MEET_PATIENCE.as_secs() };
    tokio::time::timeout(MEET_PATIENCE, polling).await.map_err(late)
}

async fn start(name: &str, config: Config, dir: &Path) -> Result<Running, Trouble> {
    std::fs::create_dir_all(dir).map_err(|e| Trouble::disk(dir, e))?;
    let starting: futures::future::BoxFuture<'_, _> = Box::pin(runtime::start(config, dir));
    starting.await.map_err(|fault| Trouble::failed(format!("starting {name}"), fault))
}

/// What both nodes have in common: loopback only, ports chosen by the system, no announcements on
/// the local network.
fn common(name: &str) -> Config {
    Config {
        data_dir: Some("data".into()),
        node: NodeConfig {
            name: format!("{name}.demo.local"),
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            lan: false,
        },
        domains: vec![DomainConfig::open("demo", Default::default())],
        irc: IrcConfig {
            server_name: format!("{name}.demo.local"),
            listen: vec![ListenConfig::plain("127.0.0.1:0")],
            ..IrcConfig::default()
        },
        ..Config::default()
    }
}

fn network(address: SocketAddr) -> NetworkConfig {
    NetworkConfig {
        consent: Consent::Given,
        flood: None,
        ..NetworkConfig::at(address.to_string(), RELAY_NICK)
    }
}

//! The configuration file: its shape, its defaults, and errors that name the key and the nearest
//! known one. `config.example.yaml` is rendered from here and snapshot-tested.
//!
//! This module is text in, values out: it never reads a file or the environment itself (whoever
//! loads the configuration hands in how to).

mod check;
mod example;
mod load;

use serde::{Deserialize, Serialize};

pub use check::host_and_port;
pub use example::{Sketch, commented, example};
pub use load::{ConfigError, Surroundings};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything durable is kept; `None` means the user's data directory.
    pub data_dir: Option<String>,
    pub node: NodeConfig,
    /// The domains to join; today exactly one.
    pub domains: Vec<DomainConfig>,
    /// Leave out to run without Matrix.
    pub matrix: Option<MatrixConfig>,
    pub irc: IrcConfig,
    /// Channels bridged from the start.
    pub links: Vec<LinkConfig>,
    /// A `tracing` filter, such as `info` or `multichat=debug`.
    pub log: String,
}

impl Default for Config {
    /// What runs without a file: IRC on 127.0.0.1:6667, discovery on the local network, no Matrix.
    fn default() -> Self {
        Self {
            data_dir: None,
            node: NodeConfig::default(),
            domains: Vec::new(),
            matrix: None,
            irc: IrcConfig::default(),
            links: Vec::new(),
            log: "info".into(),
        }
    }
}

impl Config {
    /// The configuration of a node that was given no file. `data_dir` is the user's data directory
    /// for Multichat, which the caller knows.
    pub fn default_without_file(data_dir: impl Into<String>) -> Self {
        Self { data_dir: Some(data_dir.into()), ..Self::default() }
    }

    /// The domain to join: the one named, or `public`.
    pub fn domain(&self) -> DomainConfig {
        self.domains.first().cloned().unwrap_or_else(|| DomainConfig {
            name: "public".into(),
            topology: Topology::default(),
            admission: Admission::default(),
        })
    }
}

/// `node:`: how other nodes reach this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    pub name: String,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Announced addresses.
    pub external: Vec<String>,
    /// Multiaddresses of nodes to dial at start.
    pub bootstrap: Vec<String>,
    /// mDNS discovery on the local network.
    pub lan: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "localhost".into(),
            listen: vec!["/ip4/0.0.0.0/udp/7700/quic-v1".into(), "/ip4/0.0.0.0/tcp/7700".into()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            lan: true,
        }
    }
}

/// One entry of `domains:`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    pub name: String,
    #[serde(default)]
    pub topology: Topology,
    #[serde(default)]
    pub admission: Admission,
}

/// How the members of a domain are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// gossipsub.
    #[default]
    Gossip,
    /// Payloads once along a tree, ids beside it: HyParView and Plumtree.
    Tree,
    /// Everyone linked with everyone: a team, a LAN.
    Mesh,
}

/// Who may join a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Anybody.
    #[default]
    Open,
}

/// `matrix:`: the homeserver this node serves as an application service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixConfig {
    pub homeserver: String,
    pub server_name: String,
    /// Path of the registration file, relative to the configuration file.
    #[serde(default = "registration_path")]
    pub registration: String,
    /// Where the homeserver pushes transactions to.
    #[serde(default = "matrix_listen")]
    pub listen: String,
    /// Matrix users who may link and unlink rooms.
    #[serde(default)]
    pub admins: Vec<String>,
}

fn registration_path() -> String {
    "registration.yaml".into()
}

fn matrix_listen() -> String {
    "127.0.0.1:7701".into()
}

/// `irc:`: the listener for IRC clients and the links to IRC networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IrcConfig {
    pub server_name: String,
    pub listen: Vec<ListenConfig>,
    /// Limits on what one client may send; `null` turns them off.
    pub flood: Option<FloodConfig>,
    /// Server password (`PASS`).
    pub password: Option<String>,
    /// A file that holds it instead; loading replaces it by `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    pub networks: std::collections::BTreeMap<String, NetworkConfig>,
}

impl Default for IrcConfig {
    fn default() -> Self {
        Self {
            server_name: "multichat.local".into(),
            listen: vec![ListenConfig { address: "127.0.0.1:6667".into(), tls: None }],
            flood: Some(FloodConfig::default()),
            password: None,
            password_file: None,
            networks: Default::default(),
        }
    }
}

/// One address for IRC clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub cert: String,
    pub key: String,
}

/// A token bucket, in lines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FloodConfig {
    pub burst: u32,
    pub per_second: u32,
}

impl Default for FloodConfig {
    fn default() -> Self {
        Self { burst: 10, per_second: 4 }
    }
}

/// One IRC network to link channels with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// `host:port`.
    pub address: String,
    #[serde(default)]
    pub tls: bool,
    pub nick: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
    #[serde(default)]
    pub mode: NetworkMode,
    /// Lines this node may send to the network; `null` turns the limit off.
    #[serde(default = "network_flood")]
    pub flood: Option<FloodConfig>,
}

fn network_flood() -> Option<FloodConfig> {
    Some(FloodConfig { burst: 5, per_second: 2 })
}

/// How people appear on a linked IRC network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// One connection speaks for all, as `<name> text`.
    #[default]
    Relay,
}

/// SASL PLAIN credentials: the password itself, or a file that holds it. Loading replaces the
/// file by what it holds, so connectors look at `password` alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    pub account: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// One channel and what it is bridged to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    pub channel: String,
    /// A room alias or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    /// `network/#channel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irc: Option<String>,
}

impl LinkConfig {
    /// The IRC side as network name and channel; `None` if there is none or it has another shape.
    pub fn irc_parts(&self) -> Option<(&str, &str)> {
        irc_parts(self.irc.as_deref()?)
    }
}

/// Takes `network/#channel` apart.
pub fn irc_parts(text: &str) -> Option<(&str, &str)> {
    let (network, channel) = text.split_once('/')?;
    let name = channel.strip_prefix(['#', '&', '+', '!'])?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == ',';
    (!network.is_empty() && !name.is_empty() && !channel.contains(bad)).then_some((network, channel))
}

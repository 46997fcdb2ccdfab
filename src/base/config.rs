//! The configuration file: its shape, its defaults, and errors that name the key and the nearest
//! known one. `config.example.yaml` is rendered from here and snapshot-tested.
//!
//! This module is text in, values out: it reads no file itself (secrets in `*_file` keys are read
//! by whoever loads the configuration).

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything durable is kept.
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
    pub networks: std::collections::BTreeMap<String, NetworkConfig>,
}

impl Default for IrcConfig {
    fn default() -> Self {
        Self {
            server_name: "multichat.local".into(),
            listen: vec![ListenConfig { address: "127.0.0.1:6667".into(), tls: None }],
            flood: Some(FloodConfig::default()),
            password: None,
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

/// SASL PLAIN credentials: the password itself, or a file that holds it.
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

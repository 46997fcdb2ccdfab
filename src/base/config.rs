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
    /// The domains to join; `public`, an open one, if there is none.
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

    /// The domains to join: those named, or `public`.
    pub fn domains(&self) -> Vec<DomainConfig> {
        if self.domains.is_empty() {
            return vec![DomainConfig::open("public", Topology::default())];
        }
        self.domains.clone()
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
    /// The pre-shared key, for `admission: psk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk_file: Option<String>,
    /// What the founder's `multichat domains invite` printed, for `admission: invite`; the founder has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_file: Option<String>,
}

impl DomainConfig {
    /// A domain that anybody may join.
    pub fn open(name: &str, topology: Topology) -> Self {
        Self {
            name: name.into(),
            topology,
            admission: Admission::Open,
            psk: None,
            psk_file: None,
            invite: None,
            invite_file: None,
        }
    }
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
    /// Whoever has an invite of the domain's founder.
    Invite,
    /// Whoever has the domain's pre-shared key.
    Psk,
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
    /// Where the world reaches `/media/` of `listen`, through a proxy that passes that path on: readers on
    /// IRC and at other nodes then get links to pictures and files. Without it they read what was sent.
    #[serde(default)]
    pub public_url: Option<String>,
    #[serde(default)]
    pub encryption: EncryptionConfig,
}

/// `matrix.encryption`: whether this node takes part in rooms that are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncryptionConfig {
    /// The bot and its ghosts get devices and keys: this node reads what is said in linked rooms that are
    /// encrypted, and carries it like all else.
    pub allow: bool,
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
    /// The network's name, as clients show it.
    pub network: String,
    /// What this server is, in a few words.
    pub description: String,
    pub listen: Vec<ListenConfig>,
    /// Limits on what one client may send; `null` turns them off.
    pub flood: Option<FloodConfig>,
    /// Connections one address may have, and open.
    pub limits: ConnectionLimits,
    pub accounts: AccountsConfig,
    /// Server password (`PASS`).
    pub password: Option<String>,
    /// A file that holds it instead; loading replaces it by `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// Who may `OPER`.
    pub opers: Vec<OperConfig>,
    /// Lines of the message of the day.
    pub motd: Vec<String>,
    /// Whether clients see each other's hosts as a hash.
    pub cloak: bool,
    /// Tells clients that came unencrypted to come by TLS (STS).
    pub sts: Option<StsConfig>,
    pub networks: std::collections::BTreeMap<String, NetworkConfig>,
}

impl Default for IrcConfig {
    fn default() -> Self {
        Self {
            server_name: "multichat.local".into(),
            network: "Multichat".into(),
            description: "a node of Multichat".into(),
            listen: vec![ListenConfig::plain("127.0.0.1:6667")],
            flood: Some(FloodConfig::default()),
            limits: ConnectionLimits::default(),
            accounts: AccountsConfig::default(),
            password: None,
            password_file: None,
            opers: Vec::new(),
            motd: vec![
                "/join #name joins a channel, or makes it if there is none of that name.".into(),
                "/msg multichat helps; /msg NickServ HELP says how to keep your nick.".into(),
            ],
            cloak: true,
            sts: None,
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
    /// Speaks WebSocket (`text.ircv3.net`, `binary.ircv3.net`) instead of lines.
    #[serde(default, skip_serializing_if = "is_false")]
    pub websocket: bool,
    /// Addresses of proxies that say by the PROXY protocol whom they speak for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<String>,
}

impl ListenConfig {
    /// Lines without TLS.
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, websocket: false, proxies: Vec::new() }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `irc.accounts:`: who may be whom at the listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    /// Whether anybody may register an account.
    pub registration: bool,
    /// Whether before they have finished connecting.
    pub before_connect: bool,
    /// Whether whoever registers one has to name an e-mail address. Operators see it; nothing is sent there.
    pub email: bool,
    /// Whether accounts stay in their channels while no client of theirs is connected; each may say
    /// otherwise for itself.
    pub always_on: bool,
    pub guests: Guests,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            registration: true,
            before_connect: false,
            email: false,
            always_on: true,
            guests: Guests::Stay,
        }
    }
}

/// What becomes of clients without an account when they disconnect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guests {
    /// A nick is a person, who stays in their channels and finds what they missed.
    #[default]
    Stay,
    /// Each connection is a person of its own, who leaves as it goes.
    Leave,
}

/// One operator of the listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperConfig {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A file that holds it instead; loading replaces it by `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// `irc.sts:`: the TLS port to tell clients of, and for how long they shall remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StsConfig {
    pub port: u16,
    pub duration_s: u64,
}

/// `irc.limits:`. Addresses of this machine are exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionLimits {
    /// Connections that one address (a /64 of IPv6) may have at a time.
    pub per_address: u32,
    /// New connections that it may open in a minute.
    pub per_minute: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { per_address: 32, per_minute: 60 }
    }
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub cert: String,
    pub key: String,
}

impl OperConfig {
    /// Name and password, once loading has resolved it.
    pub fn pair(&self) -> Option<(String, String)> {
        Some((self.name.clone(), self.password.clone()?))
    }
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
    /// Who answers for what this node does there: an address that the network's operators can
    /// write to. It is shown as the real name of each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslConfig>,
    /// The certificate to show to the network (CertFP, SASL EXTERNAL); only with `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<TlsConfig>,
    #[serde(default)]
    pub mode: NetworkMode,
    #[serde(default)]
    pub consent: Consent,
    /// Nicks whose lines and commands are not carried: relays of others in the same channels, which
    /// repeat what their own people say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// The nicks of other nodes that hold the same links to this network, at the same `address`: one of
    /// them all carries a channel at a time, and when it goes another does. Each names the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover_with: Vec<String>,
    /// Lines this node may send to the network; `null` turns the limit off.
    #[serde(default = "network_flood")]
    pub flood: Option<FloodConfig>,
}

impl NetworkConfig {
    /// A network by its address, with the default of every other key.
    pub fn at(address: impl Into<String>, nick: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: false,
            nick: nick.into(),
            owner: None,
            sasl: None,
            client_cert: None,
            mode: NetworkMode::default(),
            consent: Consent::default(),
            ignore: Vec::new(),
            failover_with: Vec::new(),
            flood: network_flood(),
        }
    }
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

/// Whether the operators of a linked channel are asked before anything is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// One of them must say `!mc allow` first.
    #[default]
    Ask,
    /// They have agreed already, or the network is one's own. They can still say `!mc stop`.
    Given,
}

/// How to log in: the password itself, or a file that holds it. Loading replaces the
/// file by what it holds, so connectors look at `password` alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    #[serde(default)]
    pub mechanism: SaslMechanism,
    pub account: String,
    /// Where the network offers no SASL, tell the password to the service `NickServ` instead.
    #[serde(default)]
    pub nickserv: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

impl SaslConfig {
    /// An account and its password, with the best mechanism that the network offers.
    pub fn with_password(account: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            mechanism: SaslMechanism::default(),
            account: account.into(),
            nickserv: false,
            password: Some(password.into()),
            password_file: None,
        }
    }
}

/// How to prove that an account is one's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaslMechanism {
    /// SCRAM-SHA-256 where it is offered, else PLAIN.
    #[default]
    Auto,
    Plain,
    /// By `client_cert`, without a password.
    External,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
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

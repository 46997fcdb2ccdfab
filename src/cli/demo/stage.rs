//! Everything that the demo starts, in the order it is started, and how it is ended again: people
//! first, then the nodes, then the servers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::debian;
use super::irc_user::{IrcUser, Line};
use super::ircd::Ircd;
use super::irssi::{IRSSI, Irssi};
use super::matrix_user::MatrixUser;
use super::nodes::{self, CHANNEL, MatrixSide, RELAY_NICK};
use super::people::{Person, Seat};
use super::process::free_ports;
use super::screen::Screen;
use super::synapse::{self, Synapse};
use super::synapse_config::Settings;
use super::trouble::Trouble;
use crate::base::id::base32;
use crate::matrix::proto::registration::Registration;
use crate::runtime::Running;

/// The demo's homeserver is called this.
pub const SERVER_NAME: &str = "demo.local";
/// The Matrix user for whoever watches.
pub const GUEST: &str = "guest";

const PATIENCE: Duration = Duration::from_secs(60);

/// Where the demo keeps things: `home` from one run to the next, `run` for this one alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    pub home: PathBuf,
    pub run: PathBuf,
}

/// What is running.
#[derive(Default)]
pub struct Stage {
    pub people: Vec<Person>,
    pub node_a: Option<Running>,
    pub node_b: Option<Running>,
    pub synapse: Option<Synapse>,
    pub ircd: Option<Ircd>,
    pub guest_password: String,
    alice_password: String,
}

impl Stage {
    /// Starts everything, part by part, and says so.
    ///
    /// # Errors
    /// The first part that cannot be had, except the IRC network, which the demo can do without.
    pub async fn raise(&mut self, places: &Places, screen: &mut Screen) -> Result<(), Trouble> {
        let [appservice_port] = free_ports()?;
        let registration = write_registration(&places.run, appservice_port)?;
        self.start_synapse(places, registration.clone(), screen).await?;
        self.start_ircd(places, screen).await;
        self.start_nodes(places, registration, appservice_port, screen).await?;
        self.seat_bob(places, screen).await?;
        self.seat_carol(screen).await?;
        self.seat_alice(screen).await
    }

    /// Ends everything that was started.
    pub async fn strike(&mut self) {
        // irssi is given a moment to say goodbye, which must not hold up the runtime.
        let people = std::mem::take(&mut self.people);
        let _ = tokio::task::spawn_blocking(move || drop(people)).await;
        for node in [self.node_b.take(), self.node_a.take()].into_iter().flatten() {
            if let Err(fault) = node.stop().await {
                tracing::warn!(%fault, "a node did not stop well");
            }
        }
        if let Some(mut ircd) = self.ircd.take() {
            ircd.stop().await;
        }
        if let Some(mut synapse) = self.synapse.take() {
            synapse.stop().await;
        }
    }

    async fn start_synapse(
        &mut self,
        places: &Places,
        registration: PathBuf,
        screen: &mut Screen,
    ) -> Result<(), Trouble> {
        let installed =
            synapse::install(&places.home.join("synapse"), |step| screen.installing(step)).await?;
        screen.doing("starting Synapse");
        let begun = Instant::now();
        let settings = Settings { server_name: SERVER_NAME.into(), registrations: vec![registration] };
        let synapse = Synapse::start(&installed, &places.run.join("synapse"), settings).await?;
        let took = begun.elapsed().as_secs_f32();
        self.alice_password = random_word()?;
        self.guest_password = random_word()?[..10].to_owned();
        synapse.register(&[("alice", &self.alice_password), (GUEST, &self.guest_password)]).await?;
        let url = synapse.url();
        let version = synapse::VERSION;
        screen.ready("Synapse", &format!("{version}, a real Matrix homeserver, at {url} ({took:.1} s)"));
        self.synapse = Some(synapse);
        Ok(())
    }

    async fn start_ircd(&mut self, places: &Places, screen: &mut Screen) {
        screen.doing("starting an IRC server");
        match Ircd::start(&places.home.join("debian"), &places.run.join("ircd")).await {
            Ok(ircd) => {
                let version = ircd.version().await.unwrap_or_else(|_| "ngIRCd".into());
                let version = version.split('-').next().unwrap_or_default().to_owned();
                let address = ircd.address();
                screen.ready("IRC net", &format!("{version}, a real IRC server to bridge to, at {address}"));
                self.ircd = Some(ircd);
            }
            Err(trouble) => {
                screen.without("IRC net", &format!("{trouble}; going on with the nodes' own IRC alone"));
            }
        }
    }

    async fn start_nodes(
        &mut self,
        places: &Places,
        registration: PathBuf,
        appservice_port: u16,
        screen: &mut Screen,
    ) -> Result<(), Trouble> {
        screen.doing("starting two nodes");
        let matrix = MatrixSide {
            homeserver: self.synapse.as_ref().map(Synapse::url).unwrap_or_default(),
            server_name: SERVER_NAME.into(),
            registration: registration.display().to_string(),
            port: appservice_port,
        };
        let network = self.ircd.as_ref().map(Ircd::address);
        let a = self.node_a.insert(nodes::start_a(&places.run.join("a"), matrix, network).await?);
        let side = if network.is_some() { "Matrix and the IRC network" } else { "Matrix" };
        screen.ready("node A", &format!("serves {side}, and IRC clients at {}", first(&a.irc)?));
        let b = self.node_b.insert(nodes::start_b(&places.run.join("b"), &a.p2p).await?);
        nodes::meet(a, b).await?;
        screen.ready("node B", &format!("joined A over libp2p; serves IRC clients at {}", first(&b.irc)?));
        if network.is_some() {
            nodes::has_channel("node B", b, 0).await?;
        }
        Ok(())
    }

    /// Bob sits at node B: at a real irssi where there is one.
    async fn seat_bob(&mut self, places: &Places, screen: &mut Screen) -> Result<(), Trouble> {
        screen.doing("seating Bob");
        let (Some(a), Some(b)) = (&self.node_a, &self.node_b) else { return Ok(()) };
        let address = first(&b.irc)?;
        let seat = match irssi(places, address).await {
            Ok(mut irssi) => {
                irssi.join(CHANNEL).await?;
                screen.ready("Bob", &format!("sits at a real irssi, on node B, in {CHANNEL}"));
                Seat::Irssi(irssi)
            }
            Err(trouble) => {
                tracing::info!(%trouble, "no irssi");
                let user = IrcUser::connect(address, "bob", "Bob").await?;
                user.join(CHANNEL).await?;
                screen.ready(
                    "Bob",
                    &format!("is on IRC at node B, in {CHANNEL} (there is no irssi: {trouble})"),
                );
                Seat::Listener(user)
            }
        };
        self.people.push(Person { name: "Bob", seat });
        nodes::has_channel("node A", a, 1).await
    }

    /// Carol sits on the IRC network, where there is one.
    async fn seat_carol(&mut self, screen: &mut Screen) -> Result<(), Trouble> {
        let Some(ircd) = &self.ircd else { return Ok(()) };
        screen.doing("seating Carol");
        let user = IrcUser::connect(ircd.address(), "carol", "Carol").await?;
        user.join(CHANNEL).await?;
        let is_there = |line: &Line| match line.command.as_str() {
            "JOIN" => line.from == RELAY_NICK,
            "353" => line.params.last().is_some_and(|names| {
                names.split(' ').any(|nick| nick.trim_start_matches(['~', '&', '@', '%', '+']) == RELAY_NICK)
            }),
            _ => false,
        };
        user.wait_for(&format!("node A to come to {CHANNEL} on the IRC network"), PATIENCE, is_there).await?;
        screen.ready("Carol", &format!("is on the IRC network, in {CHANNEL} there"));
        self.people.push(Person { name: "Carol", seat: Seat::Network(user) });
        Ok(())
    }

    /// Alice sits at Matrix, with the real client SDK, and asks for the channel by its alias: the
    /// room does not exist until she does.
    async fn seat_alice(&mut self, screen: &mut Screen) -> Result<(), Trouble> {
        let Some(synapse) = &self.synapse else { return Ok(()) };
        screen.doing("seating Alice");
        let user = MatrixUser::login(&synapse.url(), "alice", &self.alice_password).await?;
        user.set_display_name("Alice").await?;
        let alias = room_alias();
        let room = user.join(&alias).await?;
        screen.ready("Alice", &format!("is on Matrix (matrix-sdk), in {alias}"));
        self.people.insert(0, Person { name: "Alice", seat: Seat::Matrix { user, room } });
        Ok(())
    }
}

/// The Matrix room of the channel.
pub fn room_alias() -> String {
    format!("#_multichat_{}:{SERVER_NAME}", CHANNEL.trim_start_matches('#'))
}

/// The first address of a node's listener.
///
/// # Errors
/// [`Trouble::Failed`] if it has none.
pub fn first(addresses: &[SocketAddr]) -> Result<SocketAddr, Trouble> {
    let none = || Trouble::failed("looking for a node's IRC listener", "it has none");
    addresses.first().copied().ok_or_else(none)
}

async fn irssi(places: &Places, address: SocketAddr) -> Result<Irssi, Trouble> {
    let program = debian::get(IRSSI, &places.home.join("debian")).await?;
    Irssi::start(&program, &places.run, address, "bob")
}

/// Writes a fresh registration for a node that listens for the homeserver on `port`.
///
/// # Errors
/// [`Trouble::Disk`].
pub fn write_registration(run: &Path, port: u16) -> Result<PathBuf, Trouble> {
    let url = format!("http://127.0.0.1:{port}");
    let registration = Registration::generate(SERVER_NAME, url, random_word()?, random_word()?);
    let path = run.join("registration.yaml");
    std::fs::write(&path, registration.to_yaml()).map_err(|e| Trouble::disk(&path, e))?;
    Ok(path)
}

/// A secret that one can type.
fn random_word() -> Result<String, Trouble> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|e| Trouble::failed("asking the system for random bytes", e))?;
    Ok(base32(&bytes))
}

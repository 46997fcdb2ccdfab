//! From a configuration to a running node, and back to rest.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::restore::{self, Unreadable};
use super::{secret, verifier};
use crate::base::config::{Config, MatrixConfig};
use crate::base::{Kind, limits};
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::Link;
use crate::control;
use crate::irc::listener::Listener;
use crate::irc::network::Network;
use crate::matrix::proto::registration::Registration;
use crate::matrix::{Matrix, keys_folder};
use crate::net::Net;
use crate::node::{Door, Node, Restored, Setup};
use crate::port::{Command, Connector, Fault, Handle, Port};
use crate::store::{Store, StoreError};

/// How long connectors may take to finish what is under way.
const STOP_CONNECTORS: Duration = Duration::from_secs(3);
/// How long the store may take to close after that.
const STOP_DRIVER: Duration = Duration::from_secs(2);
/// How long a node with known peers waits for them before it founds channels of its own.
const FIRST_PEER: Duration = Duration::from_secs(4);
/// Packets waiting for the overlay; beyond it they are dropped and reconciled later.
const OUTGOING_PACKETS: usize = 1024;
/// The file of the data directory that says that the node was restored from a backup.
pub const GENERATION_FILE: &str = "restored";

/// A node that runs.
pub struct Running {
    /// Where IRC clients connect.
    pub irc: Vec<SocketAddr>,
    /// Where the homeserver pushes transactions.
    pub matrix: Option<SocketAddr>,
    /// Multiaddresses for other nodes, each ending in `/p2p/<peer id>`.
    pub p2p: Vec<String>,
    pub peer_id: String,
    pub data_dir: PathBuf,
    /// For the command line and for tests.
    pub handle: Handle,
    /// Cancelled once the node stops.
    pub cancel: CancellationToken,
    tasks: JoinSet<Result<(), Fault>>,
    commands: mpsc::Sender<Command>,
    driver: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

/// Where a configuration keeps its data: `data_dir`, relative to the configuration file, or the
/// user's data directory.
pub fn data_dir(config: &Config, base_dir: &Path) -> PathBuf {
    match &config.data_dir {
        Some(dir) => base_dir.join(dir),
        None => {
            let home =
                || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".local/share");
            std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("multichat")
        }
    }
}

/// Starts a node. `base_dir` is what relative paths in the configuration start from. Returns once
/// everything listens and the configured links are in place.
///
/// # Errors
/// A [`Fault`] of one line that says what to do: a port that is taken, a store that is damaged, a
/// registration that does not fit.
pub async fn start(config: Config, base_dir: &Path) -> Result<Running, Fault> {
    let data_dir = data_dir(&config, base_dir);
    make_dir(&data_dir)?;
    let setup = Setup {
        secret: secret::load_or_make(&data_dir.join("secret.key"))?,
        name: config.node.name.clone(),
        matrix_server: config.matrix.as_ref().map(|matrix| matrix.server_name.clone()).unwrap_or_default(),
        generation: secret::generation(&data_dir.join(GENERATION_FILE))?,
    };
    // Taken before anything else: whoever holds it is the one node on this data directory.
    let control = control::Socket::bind(&control::socket_path(&data_dir))?;
    let transport = setup.transport_key();
    let (store, node) = restore(&data_dir.join("multichat.db"), setup.clone())?;
    let notes = store.notes(&Door::Control).map_err(|error| Fault::new(error.kind(), error.to_string()))?;
    let met = control::remembered_addresses(notes);

    let net = Net::bind(&config.node, &config.domains(), setup.transport_key()).await?;
    let listener = Listener::bind(&config.irc).await?;
    let matrix = match &config.matrix {
        Some(matrix) => {
            let allows_encryption = matrix.encryption.allow;
            let matrix = bind_matrix(matrix, &config, base_dir).await?;
            let matrix = matrix.with_media_key(setup.media_key()).reached_at(net.addresses());
            Some(match allows_encryption {
                true => matrix.with_keys(keys_folder(&data_dir), setup.matrix_keys_key()),
                false => matrix,
            })
        }
        None => None,
    };

    let cancel = CancellationToken::new();
    let (commands, inbox) = mpsc::channel(limits::NODE_QUEUE);
    let (outgoing, packets) = mpsc::channel(OUTGOING_PACKETS);
    let driver = spawn_driver(Driver::new(node, store, Some(outgoing)), inbox, cancel.clone());
    let handle = Handle::new(Door::Control, commands.clone());

    let mut running = Running {
        irc: listener.addresses(),
        matrix: matrix.as_ref().map(Matrix::address),
        p2p: net.addresses(),
        peer_id: net.peer_id(),
        data_dir,
        handle,
        cancel,
        tasks: JoinSet::new(),
        commands: commands.clone(),
        driver: Some(driver),
    };
    let (asked, stopping) = (running.handle.clone(), running.cancel.clone());
    let introduce = net.introducer();
    let around = control::Neighbourhood {
        addresses: net.addresses(),
        introduce: Some(introduce.clone()),
        domains: Some(net.reports()),
        key: Some(transport),
    };
    let control = control.near(around);
    running.tasks.spawn(async move {
        control.serve(asked, stopping).await;
        Ok(())
    });
    let verified = spawn_verifier(commands);
    running.tasks.spawn(net.run(Handle::new(Door::Control, verified), packets, running.cancel.clone()));
    let knows_others = !config.node.bootstrap.is_empty() || !met.is_empty();
    for address in met {
        let _ = introduce.send(address).await;
    }
    if knows_others {
        running.wait_for_a_peer().await;
    }
    running.link_networks(&config).await?;
    running.open(Box::new(listener)).await?;
    for (name, network) in &config.irc.networks {
        running.open(Box::new(Network::new(name.clone(), network.clone()))).await?;
    }
    if let Some(matrix) = matrix {
        running.open(Box::new(matrix)).await?;
    }
    Ok(running)
}

impl Running {
    /// Gives a connector its port and sets it going.
    async fn open(&mut self, connector: Box<dyn Connector>) -> Result<(), Fault> {
        let door = connector.door();
        let (sender, deliveries) = mpsc::channel(limits::DOOR_QUEUE);
        let (reply, opening) = oneshot::channel();
        let command = Command::OpenDoor { door: door.clone(), deliveries: sender, reply };
        self.commands.send(command).await.map_err(|_| stopped())?;
        let opening = opening.await.map_err(|_| stopped())?;
        let port = Port {
            channels: opening.channels,
            notes: opening.notes,
            deliveries,
            handle: Handle::new(door, self.commands.clone()),
            cancel: self.cancel.clone(),
        };
        self.tasks.spawn(connector.run(port));
        Ok(())
    }

    /// Puts the configured links to IRC networks in place. (Links to Matrix rooms are put in place by
    /// the Matrix door, which alone can look up an alias.)
    async fn link_networks(&self, config: &Config) -> Result<(), Fault> {
        for entry in &config.links {
            let Some((network, channel)) = entry.irc.as_deref().and_then(|irc| irc.split_once('/')) else {
                continue;
            };
            let Some(network) = config.irc.networks.get(network) else { continue };
            let link = Link::Irc { network: network.address.clone(), channel: channel.to_lowercase() };
            let submission = Submission {
                actor: Actor::Node,
                intent: Intent::Link { channel: ChannelRef::Name(entry.channel.clone()), link, create: true },
                via: None,
                join_first: false,
                tag: 0,
            };
            self.handle.submit(submission).await.map_err(|refusal| {
                let link = entry.irc.as_deref().unwrap_or_default();
                Fault::new(refusal.kind(), format!("link of {} to {link}: {refusal}", entry.channel))
            })?;
        }
        Ok(())
    }

    /// A node that knows others asks them for their channels before it founds any by its links:
    /// else both would have a channel of that name.
    async fn wait_for_a_peer(&self) {
        let _ = tokio::time::timeout(FIRST_PEER, async {
            loop {
                match self.handle.status().await {
                    Ok(status) if !status.peers.is_empty() && status.channels > 0 => return,
                    Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(_) => return,
                }
            }
        })
        .await;
    }

    /// Returns when the node has failed, with the reason; never while all is well.
    pub async fn failed(&mut self) -> Fault {
        loop {
            tokio::select! {
                ended = self.tasks.join_next(), if !self.tasks.is_empty() => match ended {
                    Some(Ok(Err(fault))) => return fault,
                    Some(Err(error)) if error.is_panic() => {
                        return Fault::new(Kind::Bug, "a part of the node panicked: see the log");
                    }
                    _ => {}
                },
                result = async { self.driver.as_mut().expect("polled while running").await }, if self.driver.is_some() => {
                    self.driver = None;
                    return match result {
                        Ok(Err(error)) => Fault::new(error.kind(), error.to_string()),
                        _ => Fault::new(Kind::Bug, "the node's thread ended: see the log"),
                    };
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Stops taking, finishes what is under way, and closes the store.
    ///
    /// # Errors
    /// If the store could not be closed; what was acknowledged is durable all the same.
    pub async fn stop(mut self) -> Result<(), Fault> {
        self.cancel.cancel();
        let connectors = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_CONNECTORS, connectors).await.is_err() {
            tracing::warn!("a connector did not stop in time and was cut off");
            self.tasks.abort_all();
        }
        let (reply, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { reply }).await.is_ok() {
            let _ = tokio::time::timeout(STOP_DRIVER, stopped).await;
        }
        match self.driver.take() {
            Some(driver) => match tokio::time::timeout(STOP_DRIVER, driver).await {
                Ok(Ok(Err(error))) => Err(Fault::new(error.kind(), error.to_string())),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }
}

fn spawn_driver(
    driver: Driver,
    inbox: mpsc::Receiver<Command>,
    cancel: CancellationToken,
) -> oneshot::Receiver<Result<(), StoreError>> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("node".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let result = runtime.expect("a timer-only runtime starts").block_on(driver.run(inbox));
            if let Err(error) = &result {
                tracing::error!(%error, "the store failed; the node stops");
            }
            let _ = done.send(result);
            cancel.cancel();
        })
        .expect("the system can start a thread");
    result
}

fn spawn_verifier(node: mpsc::Sender<Command>) -> mpsc::Sender<Command> {
    let (sender, incoming) = mpsc::channel(limits::NODE_QUEUE);
    std::thread::Builder::new()
        .name("verifier".to_owned())
        .spawn(move || verifier::run(incoming, node))
        .expect("the system can start a thread");
    sender
}

fn make_dir(dir: &Path) -> Result<(), Fault> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Fault::new(Kind::Permanent, format!("data directory {}: {error}", dir.display())))
}

fn restore(path: &Path, setup: Setup) -> Result<(Store, Node), Fault> {
    let fault = |error: StoreError| Fault::new(error.kind(), error.to_string());
    let store = Store::open(path).map_err(fault)?;
    let links = store.links().map_err(fault)?;
    let restored = Restored {
        names: store.names().map_err(fault)?,
        links: links.into_iter().map(|(link, channel, _)| (link, channel)).collect(),
        outbox: store.outbox().map_err(fault)?,
        last_outbox_id: store.last_outbox_id().map_err(fault)?,
        intents: store.intents().map_err(fault)?,
    };
    restore::load(store, setup, restored).map_err(|unreadable| match unreadable {
        Unreadable::Store(error) => fault(error),
        Unreadable::Thread(error) => Fault::new(Kind::Retry, format!("no thread for the log: {error}")),
        Unreadable::Panicked => Fault::new(Kind::Bug, "the log's reader panicked"),
        Unreadable::Damaged(damaged) => {
            Fault::new(Kind::Permanent, format!("{damaged}; restore {} from a backup", path.display()))
        }
    })
}

async fn bind_matrix(matrix: &MatrixConfig, config: &Config, base_dir: &Path) -> Result<Matrix, Fault> {
    let path = base_dir.join(&matrix.registration);
    let invalid = |problem: String| Fault::new(Kind::Invalid, format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| invalid(format!("{error}: make a registration with `multichat init`")))?;
    let registration = Registration::from_yaml(&text).map_err(|error| invalid(error.to_string()))?;
    let rooms = config.links.iter().filter_map(|link| Some((link.channel.clone(), link.matrix.clone()?)));
    Matrix::bind(matrix, registration, rooms.collect()).await
}

fn stopped() -> Fault {
    Fault::new(Kind::Bug, "the node stopped while it was starting: see the log")
}

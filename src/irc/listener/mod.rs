//! Serves IRC clients: sockets, TLS, and the tasks that carry bytes between them and the
//! [`hub`](crate::irc::proto::hub), which decides everything. This module owns the bounds of a
//! connection (how many, how fast, how far behind) and must never decide what anybody sees.

mod actor;
mod client;
mod gate;
mod password;
mod proxy;
mod queue;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::base::config::{FloodConfig, IrcConfig, ListenConfig, OperConfig};
use crate::base::{Kind, Timestamp};
use crate::irc::proto::hub::{Hub, Settings};
use crate::irc::proto::line::LINE_BYTES;
use crate::port::{Capabilities, Connector, Door, Fault, Port};
use actor::{Actor, ToHub};
use client::Manner;
use gate::Gate;
use tls::Certificate;

/// Connections at a time; a further one is told so and closed.
pub const MAX_CLIENTS: usize = 10_000;
/// Connections that may wait to be accepted: a burst of clients must not stall for a second.
const BACKLOG: u32 = 4096;
/// What clients have sent and the hub has not taken yet; readers wait beyond it.
const INPUTS: usize = 1024;
/// How long clients have to take in the farewell when the node stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// Before accepting again after the system had no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener: bound sockets, not yet served.
pub struct Listener {
    config: IrcConfig,
    sockets: Vec<Socket>,
}

struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    manner: Arc<Manner>,
}

impl Listener {
    /// Binds every address of `irc.listen` and loads its certificates.
    ///
    /// # Errors
    /// One line that names the address or file and says what to do.
    pub async fn bind(config: &IrcConfig) -> Result<Self, Fault> {
        let mut sockets = Vec::new();
        for listen in &config.listen {
            sockets.extend(bind(listen).await?);
        }
        let server_name = &config.server_name;
        if server_name.is_empty() || server_name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let why = "irc.server_name must be one word, such as irc.example.org";
            return Err(Fault::new(Kind::Invalid, why));
        }
        Ok(Self { config: config.clone(), sockets })
    }

    /// The addresses with their real ports, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.address).collect()
    }
}

impl Connector for Listener {
    fn door(&self) -> Door {
        Door::Listener
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { formatted: true, multiline: true, replies: true, max_line: Some(LINE_BYTES) }
    }

    fn run(self: Box<Self>, port: Port) -> BoxFuture<'static, Result<(), Fault>> {
        self.serve(port).boxed()
    }
}

impl Listener {
    async fn serve(self: Box<Self>, port: Port) -> Result<(), Fault> {
        let settings = settings(&self.config)?;
        let hub = Hub::new(settings, port.channels, port.notes);
        let (to_hub, inputs) = mpsc::channel(INPUTS);
        let mut tasks = JoinSet::new();
        let shared = Arc::new(Shared {
            to_hub,
            flood: self.config.flood,
            gate: Arc::new(Gate::new(self.config.limits)),
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
            last_client: AtomicU64::new(0),
        });
        let certificates = self.sockets.iter().filter_map(|socket| socket.manner.tls.clone()).collect();
        for socket in self.sockets {
            tasks.spawn(accept(socket, Arc::clone(&shared)));
        }
        let actor = Actor::new(hub, port.handle, inputs, certificates);
        actor.run(port.deliveries, port.cancel).await;
        // Dropping the set ends the accept loops; each of them owns its clients' tasks, which have
        // got a farewell to send.
        tokio::time::timeout(FAREWELL, shared.all_gone()).await.ok();
        Ok(())
    }
}

/// What every connection's task has in common.
struct Shared {
    to_hub: mpsc::Sender<ToHub>,
    flood: Option<FloodConfig>,
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
    last_client: AtomicU64,
}

impl Shared {
    /// Waits until no client is connected, and lets none in any more.
    async fn all_gone(&self) {
        let all = u32::try_from(MAX_CLIENTS).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }
}

/// What the hub is told of the configuration.
fn settings(config: &IrcConfig) -> Result<Settings, Fault> {
    let mut random = [0; 40];
    getrandom::fill(&mut random)
        .map_err(|error| Fault::new(Kind::Bug, format!("irc: the system gives no random bytes: {error}")))?;
    let (seed, tag) = random.split_at(32);
    let tag = u64::from_le_bytes(tag.try_into().unwrap_or_default());
    Ok(Settings {
        server: config.server_name.clone(),
        network: config.network.clone(),
        description: config.description.clone(),
        password: config.password.clone(),
        started: now(),
        // Half the range, so that counting up never wraps; never 0, which is nobody's tag.
        tags_from: (tag >> 1) | 1,
        seed: seed.try_into().unwrap_or_default(),
        guests: config.accounts.guests,
        registration: config.accounts.registration,
        before_connect: config.accounts.before_connect,
        email: config.accounts.email,
        always_on: config.accounts.always_on,
        opers: config.opers.iter().filter_map(OperConfig::pair).collect(),
        motd: config.motd.clone(),
        sts: config.sts.map(|sts| (sts.port, sts.duration_s)),
        cloak: config.cloak,
    })
}

/// The wall clock, which the hub is told.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn bind(listen: &ListenConfig) -> Result<Vec<Socket>, Fault> {
    let address = &listen.address;
    let tls = listen.tls.as_ref().map(Certificate::load).transpose()?.map(Arc::new);
    let proxies = listen.proxies.iter().filter_map(|proxy| proxy.parse().ok()).collect();
    let manner = Arc::new(Manner { tls, websocket: listen.websocket, proxies });
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| {
            let why = format!("irc: {address:?} is no address to listen on ({error}); write host:port");
            Fault::new(Kind::Invalid, why)
        })?
        .collect();
    let mut sockets = Vec::new();
    for at in resolved {
        let listener = listen_on(at).map_err(|error| cannot_listen(address, &error))?;
        let address = listener.local_addr().map_err(|error| cannot_listen(address, &error))?;
        sockets.push(Socket { listener, address, manner: Arc::clone(&manner) });
    }
    Ok(sockets)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(address: &str, error: &io::Error) -> Fault {
    let mend = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is taken: stop the program that has it, or give another in irc.listen"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges: give a higher one in irc.listen"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: correct irc.listen",
        _ => "correct irc.listen",
    };
    Fault::new(Kind::Permanent, format!("irc: cannot listen on {address} ({error}); {mend}"))
}

/// Lets clients in, for ever. Its clients' tasks end with it.
async fn accept(socket: Socket, shared: Arc<Shared>) {
    let mut clients = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "irc: cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = clients.join_next() => continue,
        };
        // Nagle's algorithm would hold lines back for tens of milliseconds.
        let _ = stream.set_nodelay(true);
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let (shared, manner) = (Arc::clone(&shared), Arc::clone(&socket.manner));
        clients.spawn(async move {
            client::serve(stream, peer, manner, shared).await;
            drop(place);
        });
    }
}

fn refuse(stream: &TcpStream) {
    // Best effort, without waiting: the send buffer of a fresh connection is empty.
    let _ = stream.try_write(b"ERROR :Closing link: the server is full; try again later\r\n");
}

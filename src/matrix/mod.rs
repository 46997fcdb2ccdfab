//! The Matrix door: an application service of one homeserver. `proto` is sans-IO, `appservice` is
//! HTTP in, `homeserver` is HTTP out. It never acknowledges what the node has not made durable,
//! and never keeps what the node or the homeserver keeps already.

mod appservice;
mod bot;
mod boundary;
mod bridge;
mod courier;
mod crypto;
mod governed;
mod greeting;
mod heard;
pub mod homeserver;
mod intake;
mod known;
mod media;
mod people;
pub mod ping;
pub mod proto;
mod shown;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::base::config::MatrixConfig;
use crate::base::{Kind, limits};
use crate::chat::channel::Change;
use crate::chat::message::Link;
use crate::chat::view::What;
use crate::port::{Capabilities, Connector, Delivery, Door, Fault, Outcome, Port};
use appservice::Appservice;
use bridge::Bridge;
pub use bridge::Counts;
use courier::{Courier, State};
use crypto::Crypto;
use homeserver::Homeserver;
use intake::Intake;
use media::Media;
pub use ping::{PingFailure, ping};
use proto::media::Links;
use proto::names::Names;
use proto::portals::Carried;
use proto::registration::Registration;

/// Rooms that speak to the homeserver at once.
const ROOMS_AT_ONCE: usize = 32;
/// Deliveries that wait for one room: a window that was retried may still be on its way when the
/// same comes again.
const ROOM_QUEUE: usize = 2 * limits::DELIVERY_WINDOW;
/// How long requests under way may still take when the node stops.
const LAST_CALL: Duration = Duration::from_secs(3);

/// The Matrix door, listening but not yet open.
pub struct Matrix {
    listener: TcpListener,
    address: SocketAddr,
    hs: Homeserver,
    names: Names,
    admins: Vec<String>,
    registration: Registration,
    links: Vec<(String, String)>,
    counts: Arc<Counts>,
    public_url: Option<String>,
    media: Option<Media>,
    addresses: Vec<String>,
    keys: Option<(PathBuf, [u8; 32])>,
}

impl Matrix {
    /// Listens for the homeserver. `links`, as channel and room (an alias or an id), are carried
    /// from the start.
    ///
    /// # Errors
    /// A [`Fault`] in one line with what to do: the port is taken, the homeserver's address is
    /// none, or the registration is for another server.
    pub async fn bind(
        config: &MatrixConfig,
        registration: Registration,
        links: Vec<(String, String)>,
    ) -> Result<Self, Fault> {
        registration
            .check(&config.server_name)
            .map_err(|error| Fault::new(error.kind(), format!("{}: {error}", config.registration)))?;
        let lacks = registration.lacks_for_encryption();
        if config.encryption.allow && !lacks.is_empty() {
            let lines = lacks.join(" and ");
            let said = format!(
                "{}: matrix.encryption wants {lines} in it; add that, here and at the homeserver, and restart it",
                config.registration
            );
            return Err(Fault::new(Kind::Invalid, said));
        }
        let hs = Homeserver::new(&config.homeserver, &registration.as_token)?;
        let listen = &config.listen;
        let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Fault::new(
                Kind::Permanent,
                format!(
                    "matrix.listen {listen} is taken: stop what listens there (another multichat?), \
                     or choose another port there and in registration.yaml's url"
                ),
            ),
            _ => {
                Fault::new(Kind::Permanent, format!("matrix.listen {listen} cannot be listened on: {error}"))
            }
        })?;
        let address =
            listener.local_addr().map_err(|error| Fault::new(Kind::Permanent, error.to_string()))?;
        let names = Names::new(config.server_name.clone(), &registration.sender_localpart);
        let admins = config.admins.clone();
        let public_url = config.public_url.clone();
        let (counts, media, addresses, keys) = Default::default();
        Ok(Self {
            listener,
            address,
            hs,
            names,
            admins,
            registration,
            links,
            counts,
            public_url,
            media,
            addresses,
            keys,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was refused and ignored, kept up to date.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Gives readers beyond the homeserver links to media, signed with this key, if the configuration
    /// says under which address (`public_url`).
    #[must_use]
    pub fn with_media_key(mut self, key: [u8; 32]) -> Self {
        self.media = self.public_url.as_deref().map(|url| Media::new(Links::new(key, url)));
        self
    }

    /// Has the bot say in invite links where other nodes reach this one.
    #[must_use]
    pub fn reached_at(mut self, addresses: Vec<String>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Takes part in encrypted rooms, with the keys in this folder, which are kept under this key.
    #[must_use]
    pub fn with_keys(mut self, folder: PathBuf, key: [u8; 32]) -> Self {
        self.keys = Some((folder, key));
        self
    }

    async fn open(self, port: Port) -> Result<(), Fault> {
        let Port { channels, notes, deliveries, handle, cancel } = port;
        let crypto = self
            .keys
            .map(|keys| Crypto::new(self.hs.clone(), self.names.clone(), handle.clone(), keys, &notes));
        let mut bridge =
            Bridge::new(self.hs, self.names, self.admins, handle, self.counts, &channels, &notes);
        (bridge.media, bridge.addresses) = (self.media, self.addresses);
        if let Some(crypto) = crypto {
            bridge = bridge.with_crypto(crypto, &notes);
        }
        let bridge = Arc::new(bridge);
        let intake = Arc::new(Intake::new(bridge.clone(), &notes));
        let app = Appservice::new(bridge.clone(), intake.clone(), &self.registration.hs_token).router();
        let (tell_ready, ready) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(self.listener, app, cancel.clone()));
        let greeting = greeting::greet(bridge.clone(), self.registration, self.links, tell_ready);
        tasks.spawn(until(cancel.clone(), greeting));
        tasks.spawn(until(cancel.clone(), async move { intake.keep_up().await }));
        let keyed = bridge.clone();
        tasks.spawn(until(cancel.clone(), async move {
            match &keyed.crypto {
                Some(crypto) => crypto.keep_up().await,
                None => std::future::pending().await,
            }
        }));
        tasks.spawn(dispatch(bridge, deliveries, ready, cancel.clone()));
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Fault::new(Kind::Bug, format!("the Matrix door broke: {error}")))??;
        }
        Ok(())
    }
}

impl Connector for Matrix {
    fn door(&self) -> Door {
        Door::Matrix
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { formatted: true, multiline: true, replies: true, max_line: None }
    }

    fn run(self: Box<Self>, port: Port) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(self.open(port))
    }
}

/// Where a node keeps the keys for encrypted rooms.
pub fn keys_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("matrix-keys")
}

/// What the node found out last about encrypted rooms: whether they can be read, or why not. `None` if it
/// did not look yet.
pub fn encryption_state(data_dir: &Path) -> Option<Result<(), String>> {
    let state = std::fs::read_to_string(keys_folder(data_dir).join(crypto::STATE)).ok()?;
    Some(if state == crypto::WORKS { Ok(()) } else { Err(state) })
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn until(cancel: CancellationToken, work: impl Future<Output = ()>) -> Result<(), Fault> {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
    Ok(())
}

async fn serve(listener: TcpListener, app: axum::Router, cancel: CancellationToken) -> Result<(), Fault> {
    let serving = axum::serve(listener, app).with_graceful_shutdown(cancel.clone().cancelled_owned());
    tokio::select! {
        ended = async { serving.await } => {
            ended.map_err(|error| Fault::new(Kind::Permanent, format!("the homeserver cannot be listened to: {error}")))
        }
        () = async { cancel.cancelled().await; tokio::time::sleep(LAST_CALL).await } => Ok(()),
    }
}

/// Hands each delivery to its room's courier.
async fn dispatch(
    bridge: Arc<Bridge>,
    mut deliveries: mpsc::Receiver<Delivery>,
    ready: watch::Receiver<bool>,
    cancel: CancellationToken,
) -> Result<(), Fault> {
    let permits = Arc::new(Semaphore::new(ROOMS_AT_ONCE));
    let mut couriers = JoinSet::new();
    let mut queues: BTreeMap<String, mpsc::Sender<Delivery>> = BTreeMap::new();
    loop {
        let delivery = tokio::select! {
            () = cancel.cancelled() => break,
            delivery = deliveries.recv() => delivery,
        };
        let Some(delivery) = delivery else { break };
        while couriers.try_join_next().is_some() {}
        if let Some((channel, room)) = note_links(&bridge, &delivery) {
            couriers.spawn(follow_link(bridge.clone(), channel, room, ready.clone(), cancel.clone()));
        }
        let Some(Link::Matrix { room }) = &delivery.link else {
            if delivery.id != 0 {
                let reason = "not a room of Matrix".to_owned();
                let _ = bridge.handle.report(delivery.id, Outcome::Failed { reason }).await;
            }
            continue;
        };
        let queue = queues.entry(room.clone()).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(ROOM_QUEUE);
            let (bridge, room, permits) = (bridge.clone(), room.clone(), permits.clone());
            let (ready, cancel, state) = (ready.clone(), cancel.clone(), State::default());
            couriers.spawn(Courier { bridge, room, queue, permits, ready, cancel, state }.run());
            sender
        });
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = queue.send(delivery) => {}
        }
    }
    drop(queues);
    while couriers.join_next().await.is_some() {}
    Ok(())
}

/// Follows links that were made or removed elsewhere, such as on the command line. Gives channel
/// and room of one that is new here.
fn note_links(bridge: &Bridge, delivery: &Delivery) -> Option<(String, String)> {
    let news = &delivery.news;
    match &news.what {
        What::Linked(Link::Matrix { room }) => {
            let is_new = bridge.carried(room).is_none();
            let (channel, name) = (news.channel, news.channel_name.clone());
            let flow = bridge.carried(room).and_then(|carried| carried.flow);
            bridge.linked(room, Carried { channel, name, flow });
            is_new.then(|| (news.channel_name.clone(), room.clone()))
        }
        What::Changed(Change::Flow(flow)) => {
            bridge.flows(&news.channel, flow);
            None
        }
        What::Unlinked(Link::Matrix { room }) => {
            bridge.unlinked(room);
            None
        }
        _ => None,
    }
}

/// Gets into a newly linked room, once the homeserver is there.
async fn follow_link(
    bridge: Arc<Bridge>,
    channel: String,
    room: String,
    mut ready: watch::Receiver<bool>,
    cancel: CancellationToken,
) {
    let following = async {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            greeting::follow_link(bridge, channel, room).await;
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = following => {}
    }
}

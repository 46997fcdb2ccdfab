//! The loop around the swarm: events in, packets out, dials and drops. It keeps polling the swarm
//! whatever the node does.
//!
//! | file | owns |
//! |---|---|
//! | `admitting` | which peer is let into which domain, and when it is up |
//! | `carrying` | broadcasts and frames of each domain, and what crosses into another |

mod admitting;
mod carrying;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Message, OutboundFailure, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, mdns, ping};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::contacts::{Contacts, Dial, Key};
use super::domains::Domains;
use super::inbox::{Inbound, Inbox};
use super::packet::{Packet, Taken};
use super::peers::Peers;
use super::swarm::{Behaviour, BehaviourEvent};
use super::{bounds, node_of, peer_of};
use crate::base::NodeId;
use crate::overlay::Destination;
use crate::overlay::domain::DomainReport;
use crate::port::{Command, Fault, Handle, Stopped};

type Ack = ResponseChannel<Taken>;

/// Everything the loop keeps.
pub struct Shell {
    swarm: Swarm<Behaviour>,
    contacts: Contacts,
    dials: BTreeMap<ConnectionId, Key>,
    peers: Peers,
    domains: Domains,
    reports: watch::Sender<Vec<DomainReport>>,
    inbox: Inbox<Ack>,
    drops: Drops,
    started: Instant,
}

/// Packets that went nowhere since the log last told, by reason.
#[derive(Default)]
struct Drops(BTreeMap<&'static str, u64>);

/// The one command that is on its way to the node, and what acknowledges it.
type Handing = BoxFuture<'static, Result<Option<Ack>, Stopped>>;

impl Shell {
    /// A loop around a swarm that listens.
    pub fn new(
        swarm: Swarm<Behaviour>,
        contacts: Contacts,
        domains: Domains,
        reports: watch::Sender<Vec<DomainReport>>,
    ) -> Self {
        let local = *swarm.local_peer_id();
        Self {
            swarm,
            contacts,
            dials: BTreeMap::new(),
            peers: Peers::new(local),
            domains,
            reports,
            inbox: Inbox::new(),
            drops: Drops::default(),
            started: Instant::now(),
        }
    }

    /// See [`super::Net::run`].
    pub async fn run(
        mut self,
        handle: Handle,
        mut outgoing: mpsc::Receiver<(Destination, Vec<u8>)>,
        mut introduced: mpsc::Receiver<String>,
        cancel: CancellationToken,
    ) -> Result<(), Fault> {
        let mut tick = tokio::time::interval(bounds::TICK);
        let mut tell = tokio::time::interval(bounds::TELL);
        let mut handing: Option<Handing> = None;
        loop {
            if handing.is_none() {
                handing = self.inbox.pop().map(|inbound| hand(handle.clone(), inbound));
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                packet = outgoing.recv() => match packet {
                    Some((destination, bytes)) => self.send(destination, bytes),
                    None => break,
                },
                Some(address) = introduced.recv() => self.introduced(&address),
                handed = under_way(&mut handing) => {
                    handing = None;
                    match handed {
                        Ok(Some(ack)) => self.acknowledge(ack),
                        Ok(None) => {}
                        Err(Stopped) => break,
                    }
                }
                () = until(self.started, self.domains.next_timeout()) => self.on_timeout(),
                _ = tick.tick() => self.on_tick(),
                _ = tell.tick() => self.drops.tell(),
            }
        }
        self.drops.tell();
        self.close().await;
        Ok(())
    }

    /// Somebody told of a node: dialled with the next tick, and for as long as it is worth trying.
    fn introduced(&mut self, text: &str) {
        let address = text.parse::<Multiaddr>().ok();
        let peer = address.as_ref().and_then(|address| match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        });
        match address.zip(peer) {
            Some((address, peer)) => {
                self.contacts.learn(peer, &address, self.now());
                if let Some(node) = node_of(&peer) {
                    self.domains.welcome(node);
                }
            }
            None => tracing::warn!("no address of a node, passed over: {}", text.escape_debug()),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn on_tick(&mut self) {
        let now = self.now();
        for connection in self.peers.surplus(now) {
            self.swarm.close_connection(connection);
        }
        for peer in self.peers.strangers(now) {
            self.turn_away(peer);
        }
        for peer in self.domains.surplus(now).iter().filter_map(peer_of) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let settled =
            |peer: &PeerId| self.peers.is_connected(peer) || !self.domains.wants(node_of(peer).as_ref());
        for dial in self.contacts.due(now, settled) {
            self.dial(dial);
        }
        let reports = self.domains.reports();
        self.reports.send_if_modified(|told| {
            let changed = *told != reports;
            *told = reports;
            changed
        });
    }

    /// Dials a node for the topology, at the addresses that others gave and those known here.
    fn reach(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        let Some(peer) = peer_of(&node) else { return };
        let now = self.now();
        for address in &addresses {
            self.contacts.learn(peer, address, now);
        }
        match self.contacts.dial_now(peer) {
            Some(dial) => self.dial(dial),
            None if self.contacts.is_dialling(peer) => {}
            None => self.unreachable(node),
        }
    }

    fn dial(&mut self, dial: Dial) {
        // A new port each time: from the listening port, two nodes that dial each other at once
        // would meet in a TCP handshake where both believe to have dialled.
        let mut addresses = dial.addresses.into_iter();
        let options = match dial.peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(addresses.collect()).allocate_new_port().build(),
            None => match addresses.next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
                None => return,
            },
        };
        let connection = options.connection_id();
        self.dials.insert(connection, dial.key);
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_failed(connection, &error);
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(key) = self.dials.remove(&connection) else { return };
        let now = self.now();
        if let Key::Peer(peer) = &key
            && let Some(node) = node_of(peer).filter(|_| !self.peers.is_connected(peer))
        {
            self.unreachable(node);
        }
        let worth_telling = match error {
            DialError::LocalPeerId { .. } => {
                self.contacts.is_self(&key);
                false
            }
            DialError::WrongPeerId { address, .. } => self.contacts.wrong(&key, address, now),
            _ => self.contacts.failed(&key, now),
        };
        if worth_telling {
            let to = match &key {
                Key::Peer(peer) => peer.to_string(),
                Key::Address(address) => address.clone(),
            };
            tracing::warn!("cannot reach {to} of node.bootstrap, will keep trying: {}", OneLine(error));
        } else {
            tracing::debug!(?key, "dial failed: {}", OneLine(error));
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_protocol(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                if let Some(key) = self.dials.remove(&connection_id) {
                    self.contacts.answered(&key, peer_id);
                }
                match node_of(&peer_id) {
                    Some(node) => self.peers.connected(peer_id, node, connection_id, self.now()),
                    None => self.turn_away(peer_id),
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.on_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!("a connection from {send_back_addr} failed: {error}");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!("a listener has trouble: {error}"),
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                tracing::error!("a listener stopped, restart the node to listen again: {error}");
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(gone) = self.peers.closed(&peer, connection) else { return };
        self.drops.count("peer went away", gone.unsent());
        self.contacts.gone(peer, self.now());
        for index in self.domains.gone(gone.node) {
            self.member(index, |membership, now| membership.down(now, gone.node));
        }
        if gone.up {
            tracing::info!("peer {peer} is gone");
            self.inbox.down(gone.node);
        }
    }

    fn on_protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, connection_id: _ }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Packets(event) => self.on_packet(event),
            BehaviourEvent::Frames(event) => self.on_frame(event),
            BehaviourEvent::Doors(event) => self.on_door(event),
            BehaviourEvent::Lan(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.contacts.learn(peer, &address, self.now());
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(failure) })
                if !matches!(failure, ping::Failure::Unsupported) =>
            {
                tracing::debug!("peer {peer} does not answer: {failure}");
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn turn_away(&mut self, peer: PeerId) {
        self.contacts.stranger(peer, self.now());
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_packet(&mut self, event: request_response::Event<Packet, Taken>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                self.presume(peer, None);
                let Some(from) = self.peers.get_mut(&peer).filter(|peer| peer.up).map(|peer| peer.node)
                else {
                    return self.drops.count("packet of a peer that is not up", 1);
                };
                if self.inbox.request(from, request, channel).is_err() {
                    self.drops.count("node too busy for a packet", 1);
                }
            }
            request_response::Event::Message {
                peer, message: Message::Response { request_id, .. }, ..
            } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.done(&request_id);
                }
                self.flush(peer);
            }
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                // When one of two connections closes, the other still leads there.
                let again = matches!(error, OutboundFailure::ConnectionClosed);
                tracing::debug!("a packet to {peer} failed: {error}");
                if let Some(known) = self.peers.get_mut(&peer) {
                    self.drops.count("packet not acknowledged", known.failed(&request_id, again));
                }
                self.flush(peer);
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!("a packet of {peer} failed: {error}");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    /// The node took a packet.
    fn acknowledge(&mut self, ack: Ack) {
        // If the peer is gone or gave up waiting, it sends the packet again or reconciles.
        let _ = self.swarm.behaviour_mut().packets.send_response(ack, Taken);
    }

    /// Sends a peer what waits for it, as far as the window allows.
    fn flush(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        while let Some((packet, tries)) = peer.next() {
            let request = self.swarm.behaviour_mut().packets.send_request(&id, packet.clone());
            peer.sent(request, packet, tries);
        }
    }

    /// Closes every connection, so that peers need not wait for a timeout to see that we are gone.
    async fn close(mut self) {
        for peer in self.peers.ids() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(bounds::CLOSE_TIMEOUT, closed).await;
    }
}

impl Drops {
    fn count(&mut self, reason: &'static str, packets: usize) {
        if packets > 0 {
            *self.0.entry(reason).or_default() += packets as u64;
        }
    }

    fn slow(&mut self, peer: PeerId) {
        tracing::debug!("peer {peer} is too slow for all broadcasts");
        self.count("peer too slow for a broadcast", 1);
    }

    /// One line in the log, if there is anything to tell.
    fn tell(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let counts: Vec<String> =
            self.0.iter().map(|(reason, packets)| format!("{packets} {reason}")).collect();
        tracing::warn!("packets dropped, reconciliation makes up for them: {}", counts.join(", "));
        self.0.clear();
    }
}

/// An error on one line, whatever libp2p makes of it.
struct OneLine<'a>(&'a DialError);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut words = text.split_whitespace();
        if let Some(first) = words.next() {
            f.write_str(first)?;
        }
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

/// Waits for a time in ms since the shell started; for ever if there is none.
async fn until(started: Instant, at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => {
            let at = started + std::time::Duration::from_millis(at_ms);
            tokio::time::sleep_until(at.into()).await;
        }
        None => std::future::pending().await,
    }
}

/// Waits for the command on its way to the node; for ever if there is none.
async fn under_way(handing: &mut Option<Handing>) -> Result<Option<Ack>, Stopped> {
    match handing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Hands one thing to the node, waiting while it is busy.
fn hand(handle: Handle, inbound: Inbound<Ack>) -> Handing {
    let (command, ack) = match inbound {
        Inbound::Up(node) => (Command::PeerUp(node), None),
        Inbound::Down(node) => (Command::PeerDown(node), None),
        Inbound::Broadcast { from, bytes } => (Command::Bytes { from, bytes }, None),
        Inbound::Request { from, packet, ack } => {
            let bytes = Arc::try_unwrap(packet).unwrap_or_else(|shared| shared.to_vec());
            (Command::Bytes { from, bytes }, Some(ack))
        }
    };
    async move { handle.send(command).await.map(|()| ack) }.boxed()
}

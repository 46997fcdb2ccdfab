//! The loop around the swarm: events in, packets out, dials and drops. It keeps polling the swarm
//! whatever the node does.

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
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, mdns, ping};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::contacts::{Contacts, Dial, Key};
use super::inbox::{Full, Inbound, Inbox};
use super::membership::{Membership, Step};
use super::packet::{Packet, Taken};
use super::peers::Peers;
use super::swarm::{Behaviour, BehaviourEvent, topic};
use super::{bounds, is_loopback, node_of, peer_of};
use crate::base::{NodeId, limits};
use crate::overlay::gossip::{self, NoWay, Unpublished};
use crate::overlay::{Destination, Domain};
use crate::port::{Command, Fault, Handle, Stopped};

type Ack = ResponseChannel<Taken>;

/// Everything the loop keeps.
pub struct Shell {
    swarm: Swarm<Behaviour>,
    topic: gossipsub::TopicHash,
    protocol: String,
    contacts: Contacts,
    dials: BTreeMap<ConnectionId, Key>,
    peers: Peers,
    /// A topology of ours, where the domain does not speak gossipsub.
    membership: Option<Membership>,
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
        domain: Domain,
        contacts: Contacts,
        membership: Option<Membership>,
    ) -> Self {
        let local = *swarm.local_peer_id();
        Self {
            swarm,
            topic: topic(&domain).hash(),
            protocol: domain.packet_protocol(),
            contacts,
            dials: BTreeMap::new(),
            peers: Peers::new(local),
            membership,
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
                () = until(self.started, self.membership.as_ref().and_then(Membership::next_timeout)) => {
                    self.member(|membership, now| membership.timeout(now));
                }
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
                if let (Some(membership), Some(node)) = (&mut self.membership, node_of(&peer)) {
                    membership.welcome(node);
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
        let idle = self.membership.as_mut().map_or_else(Vec::new, |membership| membership.surplus(now));
        for peer in idle.iter().filter_map(peer_of) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        // A topology of ours says whom to be connected with; gossipsub is glad of everyone.
        let settled = |peer: &PeerId| {
            self.peers.is_connected(peer)
                || self
                    .membership
                    .as_ref()
                    .is_some_and(|membership| node_of(peer).is_none_or(|node| !membership.wants(&node)))
        };
        for dial in self.contacts.due(now, settled) {
            self.dial(dial);
        }
    }

    /// Lets the topology of ours, if there is one, take something in, and does what it wants.
    fn member(&mut self, give: impl FnOnce(&mut Membership, u64) -> Vec<Step>) {
        let now = self.now();
        let Some(membership) = &mut self.membership else { return };
        let steps = give(membership, now);
        self.carry_out(steps);
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(node, packet) => {
                    if let Some(peer) = peer_of(&node).filter(|peer| self.peers.is_connected(peer)) {
                        self.swarm.behaviour_mut().frames.send_request(&peer, packet);
                    }
                }
                Step::Dial(node, addresses) => self.reach(node, addresses),
                Step::Deliver(from, bytes) => {
                    let bytes = Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec());
                    if self.inbox.broadcast(from, bytes).is_err() {
                        self.drops.count("node too busy for a broadcast", 1);
                    }
                }
            }
        }
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
            None => self.member(|membership, now| membership.unreachable(now, node)),
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
            self.member(|membership, now| membership.unreachable(now, node));
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
        if gone.up {
            tracing::info!("peer {peer} is gone");
            self.inbox.down(gone.node);
            self.member(|membership, now| membership.down(now, gone.node));
        }
    }

    fn on_protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, connection_id: _ }) => {
                self.on_identified(peer_id, &info);
            }
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Packets(event) => self.on_packet(event),
            BehaviourEvent::Frames(event) => self.on_frame(event),
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

    fn on_identified(&mut self, peer: PeerId, info: &identify::Info) {
        if !info.protocols.iter().any(|protocol| protocol.as_ref() == self.protocol) {
            tracing::debug!("peer {peer} ({}) is no member of the domain", info.agent_version);
            return self.turn_away(peer);
        }
        let near = is_loopback(&info.observed_addr);
        let dialable = |address: &&Multiaddr| near || !is_loopback(address);
        for address in info.listen_addrs.iter().filter(dialable) {
            self.contacts.learn(peer, address, self.now());
        }
        self.raise(peer, &info.listen_addrs);
    }

    /// Tells the node of a peer that has shown to be a member of the domain.
    fn raise(&mut self, id: PeerId, listens: &[Multiaddr]) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.up {
            return;
        }
        match self.inbox.up(peer.node) {
            Ok(()) => {
                peer.up = true;
                self.contacts.proved(id);
                tracing::info!("peer {id} is up");
                let node = peer.node;
                self.member(|membership, now| membership.up(now, node, listens));
            }
            Err(Full) => {
                let _ = self.swarm.disconnect_peer_id(id);
            }
        }
    }

    fn turn_away(&mut self, peer: PeerId) {
        self.contacts.stranger(peer, self.now());
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message, .. } => {
                // Before a peer is up the node does not know it. What is lost here is among the
                // first things that the two reconcile.
                let Some(peer) = self.peers.get_mut(&propagation_source).filter(|peer| peer.up) else {
                    return self.drops.count("broadcast by a peer that is not up", 1);
                };
                if self.inbox.broadcast(peer.node, message.data).is_err() {
                    self.drops.count("node too busy for a broadcast", 1);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } if topic == self.topic => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.subscribed = true;
                }
            }
            gossipsub::Event::Unsubscribed { peer_id, topic, .. } if topic == self.topic => {
                if let Some(peer) = self.peers.get_mut(&peer_id) {
                    peer.subscribed = false;
                }
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => self.drops.slow(peer_id),
            _ => {}
        }
    }

    fn on_packet(&mut self, event: request_response::Event<Packet, Taken>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                // Speaking the protocol shows membership as well as naming it does.
                self.raise(peer, &[]);
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

    /// A frame of the topology of ours. It is answered at once: the answer says that it arrived, no more.
    fn on_frame(&mut self, event: request_response::Event<Packet, Taken>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                let _ = self.swarm.behaviour_mut().frames.send_response(channel, Taken);
                self.raise(peer, &[]);
                let from = self.peers.get_mut(&peer).filter(|peer| peer.up).map(|peer| peer.node);
                let (Some(from), Some(membership)) = (from, &mut self.membership) else { return };
                let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                match membership.frame(now, from, &request) {
                    Some(steps) => self.carry_out(steps),
                    None => {
                        tracing::debug!("peer {peer} sent a frame that is none");
                        self.turn_away(peer);
                    }
                }
            }
            request_response::Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!("a frame to {peer} failed: {error}");
                self.drops.count("frame not acknowledged", 1);
            }
            _ => {}
        }
    }

    /// The node took a packet.
    fn acknowledge(&mut self, ack: Ack) {
        // If the peer is gone or gave up waiting, it sends the packet again or reconciles.
        let _ = self.swarm.behaviour_mut().packets.send_response(ack, Taken);
    }

    /// A packet from the node.
    fn send(&mut self, destination: Destination, bytes: Vec<u8>) {
        let neighbours = self.peers.neighbours();
        let plan = match gossip::plan(destination, bytes.len(), &neighbours) {
            Ok(plan) => plan,
            Err(NoWay::NotUp) => return self.drops.count("packet for a peer that is not up", 1),
            Err(NoWay::Length) => {
                tracing::error!("the node made a packet of {} bytes, which no peer takes", bytes.len());
                return self.drops.count("packet of a length not allowed", 1);
            }
        };
        let packet: Packet = Arc::new(bytes);
        let mut direct = plan.direct;
        if let (Some(membership), Destination::Domain) = (&mut self.membership, destination) {
            let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let short = packet.len() <= limits::BROADCAST_BYTES;
            if let Some(steps) = short.then(|| membership.broadcast(now, &packet)).flatten() {
                return self.carry_out(steps);
            }
            direct = neighbours.iter().map(|neighbour| neighbour.node).collect();
        } else if plan.publish
            && let Err(why) = self.publish(&packet)
        {
            if why == Unpublished::Overloaded {
                self.drops.count("broadcast too much", 1);
            }
            direct.extend(gossip::instead(why, &neighbours));
        }
        for peer in direct.iter().filter_map(peer_of) {
            if let Some(known) = self.peers.get_mut(&peer) {
                self.drops.count("peer too slow", known.push(packet.clone()));
                self.flush(peer);
            }
        }
    }

    fn publish(&mut self, packet: &Packet) -> Result<(), Unpublished> {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip.publish(self.topic.clone(), packet.as_slice()) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::Duplicate) => Err(Unpublished::SentLately),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(Unpublished::NobodyListens),
            Err(gossipsub::PublishError::AllQueuesFull(_)) => Err(Unpublished::Overloaded),
            Err(error) => {
                // Too long, not signed, not transformed: none can be, with our configuration.
                tracing::error!("gossipsub refuses a packet: {error}");
                Err(Unpublished::NobodyListens)
            }
        }
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

//! Building the swarm: transports, protocols and their bounds, and listening. Whatever stands in
//! the way becomes one line that says what to do.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures::StreamExt;

use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, connection_limits, gossipsub, identify, mdns,
    noise, ping, quic, request_response, tcp, yamux,
};

use super::bounds;
use super::domains::speaks_gossipsub;
use super::letters::LetterCodec;
use super::packet::PacketCodec;
use crate::base::{Kind, limits};
use crate::overlay::Domain;
use crate::port::Fault;

/// gossipsub that hears of the topics of our domains alone, whatever else a peer subscribes to.
pub type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, gossipsub::WhitelistSubscriptionFilter>;

/// The protocols this node speaks.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub gossip: Gossip,
    pub packets: request_response::Behaviour<PacketCodec>,
    /// Frames of topologies of ours.
    pub frames: request_response::Behaviour<PacketCodec>,
    /// Who is in which domain.
    pub doors: request_response::Behaviour<LetterCodec>,
    pub lan: Toggle<mdns::tokio::Behaviour>,
}

/// Packets from peer to peer.
const PACKETS: &str = "/multichat/packet/2";
/// Frames of topologies of ours, each with the tag of its domain.
const FRAMES: &str = "/multichat/frame/2";
/// Who is in which domain. A peer that does not speak it is none of ours.
pub const DOORS: &str = "/multichat/domains/1";

/// The domain's topic, as gossipsub names it.
pub fn topic(domain: &Domain) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(domain.topic())
}

/// A swarm that listens nowhere yet.
///
/// # Errors
/// A [`Fault`] of kind `Bug` if libp2p refuses what is constant here.
pub fn build(keypair: &Keypair, domains: &[Domain], lan: bool) -> Result<Swarm<Behaviour>, Fault> {
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(connection_bounds()),
        identify: identify::Behaviour::new(
            identify::Config::new("multichat/1".into(), keypair.public())
                .with_agent_version(concat!("multichat/", env!("CARGO_PKG_VERSION")).into())
                .with_push_listen_addr_updates(true),
        ),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(bounds::PING_INTERVAL).with_timeout(bounds::PING_TIMEOUT),
        ),
        gossip: gossip(domains)?,
        packets: packets(PACKETS),
        frames: packets(FRAMES),
        doors: doors(),
        lan: discovery(keypair.public().to_peer_id(), lan),
    };
    let transports = || {
        let builder = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .map_err(bug)?;
        Ok::<_, Fault>(builder.with_quic_config(quic_times))
    };
    // Peers stay connected: whom to keep is decided by this room, not by silence.
    let patient = |config: libp2p::swarm::Config| {
        config.with_idle_connection_timeout(Duration::from_secs(365 * 86_400))
    };
    match transports()?.with_dns() {
        Ok(builder) => {
            let builder = builder.with_behaviour(|_| behaviour).map_err(bug)?;
            Ok(builder.with_swarm_config(patient).build())
        }
        Err(error) => {
            tracing::warn!("no name resolution, so peers can only be dialled by IP address: {error}");
            let builder = transports()?.with_behaviour(|_| behaviour).map_err(bug)?;
            Ok(builder.with_swarm_config(patient).build())
        }
    }
}

/// Listens on every address and waits until each listener says where it really listens.
///
/// # Errors
/// A [`Fault`] that names the address and what to do about it.
pub async fn listen(swarm: &mut Swarm<Behaviour>, texts: &[String]) -> Result<Vec<Multiaddr>, Fault> {
    let addresses: Vec<Multiaddr> =
        texts.iter().map(|text| parse("node.listen", text)).collect::<Result<_, _>>()?;
    // All before the first listens: a look at [::] would stumble over our own 0.0.0.0.
    for (text, address) in texts.iter().zip(&addresses) {
        is_free(address).map_err(|error| cannot_listen(text, &TransportError::Other(error)))?;
    }
    let mut open = HashMap::new();
    for (text, address) in texts.iter().zip(addresses) {
        let id = swarm.listen_on(address).map_err(|error| cannot_listen(text, &error))?;
        open.insert(id, text.as_str());
    }
    let mut silent: Vec<ListenerId> = open.keys().copied().collect();
    let waiting = async {
        while !silent.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => silent.retain(|id| *id != listener_id),
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. }
                | SwarmEvent::ListenerError { listener_id, error } => {
                    let text = open.get(&listener_id).copied().unwrap_or_default();
                    return Err(cannot_listen(text, &TransportError::Other(error)));
                }
                _ => {}
            }
        }
        // A listener on all interfaces names one address after the other.
        let more = Duration::from_millis(20);
        while let Ok(SwarmEvent::NewListenAddr { .. }) =
            tokio::time::timeout(more, swarm.select_next_some()).await
        {}
        Ok(())
    };
    match tokio::time::timeout(bounds::LISTEN_TIMEOUT, waiting).await {
        Ok(result) => result?,
        Err(_) => {
            return Err(Fault::new(
                Kind::Retry,
                "node.listen: no network interface came up in time; check the addresses",
            ));
        }
    }
    Ok(swarm.listeners().cloned().collect())
}

/// A multiaddress from the configuration.
///
/// # Errors
/// A [`Fault`] that names the key, the text and how an address looks.
pub fn parse(key: &str, text: &str) -> Result<Multiaddr, Fault> {
    text.parse().map_err(|_| {
        let example = "/ip4/192.0.2.1/udp/7700/quic-v1 or /ip4/192.0.2.1/tcp/7700";
        Fault::new(
            Kind::Invalid,
            format!("{key}: {text:?} is not a multiaddress; write one such as {example}"),
        )
    })
}

fn connection_bounds() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_established(Some(bounds::CONNECTIONS))
        .with_max_established_per_peer(Some(bounds::CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(bounds::HANDSHAKES))
        .with_max_pending_outgoing(Some(bounds::HANDSHAKES))
}

fn quic_times(mut config: quic::Config) -> quic::Config {
    config.max_idle_timeout = bounds::QUIC_IDLE_MS;
    config.keep_alive_interval = bounds::QUIC_KEEP_ALIVE;
    config
}

/// Unsigned, because events carry signatures of their own and gossipsub would check its signature
/// on every duplicate. The id of a message is the hash of its bytes, so that nobody can make two
/// messages pass for one.
fn gossip(domains: &[Domain]) -> Result<Gossip, Fault> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .message_id_fn(|message: &gossipsub::Message| {
            gossipsub::MessageId::from(blake3::hash(&message.data).as_bytes().as_slice())
        })
        .max_transmit_size(limits::BROADCAST_BYTES + bounds::GOSSIP_SLACK_BYTES)
        // The first heartbeat builds the mesh; by default it comes five seconds late.
        .heartbeat_initial_delay(Duration::from_millis(100))
        .flood_publish(true)
        .build()
        .map_err(bug)?;
    let topics: Vec<_> = domains.iter().filter(|domain| speaks_gossipsub(domain)).map(topic).collect();
    let hashes: HashSet<_> = topics.iter().map(gossipsub::Topic::hash).collect();
    let filter = gossipsub::WhitelistSubscriptionFilter(hashes);
    let anonymous = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossip = Gossip::new_with_subscription_filter(anonymous, config, filter).map_err(bug)?;
    for topic in &topics {
        gossip.subscribe(topic).map_err(bug)?;
    }
    Ok(gossip)
}

fn packets(protocol: &'static str) -> request_response::Behaviour<PacketCodec> {
    let protocol = StreamProtocol::new(protocol);
    let config = request_response::Config::default()
        .with_request_timeout(bounds::REQUEST_TIMEOUT)
        .with_max_concurrent_streams(bounds::PACKET_STREAMS);
    let both_ways = request_response::ProtocolSupport::Full;
    request_response::Behaviour::new([(protocol, both_ways)], config)
}

fn doors() -> request_response::Behaviour<LetterCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(bounds::DOOR_TIMEOUT)
        .with_max_concurrent_streams(bounds::DOOR_STREAMS);
    let both_ways = request_response::ProtocolSupport::Full;
    request_response::Behaviour::new([(StreamProtocol::new(DOORS), both_ways)], config)
}

fn discovery(local: PeerId, lan: bool) -> Toggle<mdns::tokio::Behaviour> {
    let behaviour = lan.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local));
    match behaviour.transpose() {
        Ok(behaviour) => behaviour.into(),
        Err(error) => {
            tracing::warn!(
                "no discovery on the local network (set node.lan to false to be rid of this): {error}"
            );
            None.into()
        }
    }
}

/// Whether nobody else listens there. libp2p shares a TCP port with any other program of the same
/// user that allows it, another node for one, and connections would then reach one or the other by
/// chance: so this looks first, without sharing.
fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        Some(Protocol::Udp(port)) => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn cannot_listen(text: &str, error: &TransportError<io::Error>) -> Fault {
    let error = match error {
        TransportError::MultiaddrNotSupported(_) => {
            let hint = "use /ip4/…/udp/…/quic-v1 or /ip4/…/tcp/…";
            return Fault::new(Kind::Invalid, format!("node.listen: nothing can listen on {text}; {hint}"));
        }
        TransportError::Other(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => Fault::new(
            Kind::Permanent,
            format!("node.listen: {text} is taken by another program; stop it or choose another port"),
        ),
        io::ErrorKind::PermissionDenied => Fault::new(
            Kind::Denied,
            format!("node.listen: this user may not listen on {text}; choose a port above 1023"),
        ),
        io::ErrorKind::AddrNotAvailable => Fault::new(
            Kind::Invalid,
            format!("node.listen: {text} is no address of this machine; 0.0.0.0 stands for all of them"),
        ),
        _ => Fault::new(Kind::Permanent, format!("node.listen: cannot listen on {text}: {error}")),
    }
}

fn bug(error: impl std::fmt::Display) -> Fault {
    Fault::new(Kind::Bug, format!("libp2p refuses a constant of ours: {error}"))
}

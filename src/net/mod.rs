//! The libp2p shell: swarm, transports, discovery, streams. It decides no policy: what a packet to
//! the domain becomes is for `overlay` to say, and what a packet means is for the node.
//!
//! QUIC and TCP+Noise+Yamux; mDNS on the LAN; for broadcasts gossipsub (one topic for each domain), or the
//! frames of a topology of ours (`membership`), as the domain says; a packet protocol from peer to peer, whose acknowledgement
//! comes once the receiving node took the packet; and one by which peers prove to each other which domains they are
//! in (`overlay::admission`), without which nothing else is heard. Packets may arrive twice, in another order, or, under load and when connections
//! break, not at all: the replica's reconciliation repairs that. Drops are counted and told in the
//! log.

mod bounds;
mod contacts;
mod domains;
mod inbox;
mod letters;
mod membership;
mod packet;
mod peers;
mod shell;
mod swarm;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::identity::{self, Keypair};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::base::config::{DomainConfig, NodeConfig};
use crate::base::key::SecretKey;
use crate::base::{Kind, NodeId};
use crate::overlay::admission::Gate;
use crate::overlay::domain::DomainReport;
use crate::overlay::{Destination, Domain};
use crate::port::{Fault, Handle};
use contacts::Contacts;
use swarm::Behaviour;

/// A swarm that listens, ready to run.
pub struct Net {
    swarm: Swarm<Behaviour>,
    domains: Vec<(Domain, Gate)>,
    contacts: Contacts,
    node: NodeId,
    /// What chance in the topologies comes from.
    seed: [u8; 32],
    reports: watch::Sender<Vec<DomainReport>>,
    listening: Vec<Multiaddr>,
    introductions: Introductions,
}

/// Addresses worth dialling that come up while the node runs.
struct Introductions {
    sender: mpsc::Sender<String>,
    receiver: mpsc::Receiver<String>,
}

/// Introductions that wait; whoever makes another one waits too.
const INTRODUCTIONS: usize = 16;

impl Net {
    /// Builds the swarm and listens; a port given as 0 is chosen here. Needs a tokio runtime.
    ///
    /// # Errors
    /// A [`Fault`] in one line that names the key and says what to do: an address that is none or
    /// is not of this machine, a port taken, a domain name that cannot be used.
    pub async fn bind(
        config: &NodeConfig,
        domains: &[DomainConfig],
        transport: SecretKey,
    ) -> Result<Net, Fault> {
        let node = NodeId(transport.public().0);
        let domains: Vec<(Domain, Gate)> =
            domains.iter().map(|config| domain(config, node)).collect::<Result<_, _>>()?;
        let keypair = Keypair::ed25519_from_bytes(transport.seed())
            .map_err(|error| Fault::new(Kind::Bug, format!("the transport key is refused: {error}")))?;
        let mut contacts = Contacts::new(keypair.public().to_peer_id());
        for text in &config.bootstrap {
            contacts.bootstrap(swarm::parse("node.bootstrap", text)?);
        }
        let names: Vec<Domain> = domains.iter().map(|(domain, _)| domain.clone()).collect();
        let mut swarm = swarm::build(&keypair, &names, config.lan)?;
        for text in &config.external {
            swarm.add_external_address(swarm::parse("node.external", text)?);
        }
        let listening = swarm::listen(&mut swarm, &config.listen).await?;
        let (sender, receiver) = mpsc::channel(INTRODUCTIONS);
        let introductions = Introductions { sender, receiver };
        let seed = blake3::derive_key("multichat 2026-11 chance of a topology", &transport.seed());
        let reports = watch::Sender::new(Vec::new());
        Ok(Self { swarm, domains, contacts, node, seed, reports, listening, introductions })
    }

    /// This node: the public key of its transport identity.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// The same as libp2p writes it.
    pub fn peer_id(&self) -> String {
        self.swarm.local_peer_id().to_string()
    }

    /// Where others reach this node: the addresses it listens on, then those that the configuration
    /// announces, each with `/p2p/<peer id>` at its end.
    pub fn addresses(&self) -> Vec<String> {
        let local = *self.swarm.local_peer_id();
        let all = self.listening.iter().chain(self.swarm.external_addresses());
        let mut addresses = Vec::new();
        for address in all {
            let full = address.clone().with_p2p(local).unwrap_or_else(|other| other).to_string();
            if !addresses.contains(&full) {
                addresses.push(full);
            }
        }
        addresses
    }

    /// Takes addresses of nodes that are worth dialling: multiaddresses that end in `/p2p/<peer id>`.
    pub fn introducer(&self) -> mpsc::Sender<String> {
        self.introductions.sender.clone()
    }

    /// What there is to tell of each domain, as it changes.
    pub fn reports(&self) -> watch::Receiver<Vec<DomainReport>> {
        self.reports.subscribe()
    }

    /// Runs until cancelled, until `outgoing` ends or until the node stops. Peers and packets go to
    /// the node through `handle`; packets from the node come through `outgoing`. Never waits for
    /// the node: what does not fit into the bounds of this room is dropped and counted.
    ///
    /// # Errors
    /// None today; a fault that no retry mends would be one.
    pub fn run(
        self,
        handle: Handle,
        outgoing: mpsc::Receiver<(Destination, Vec<u8>)>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Result<(), Fault>> {
        let introduced = self.introductions.receiver;
        let addresses = self.listening.iter().chain(self.swarm.external_addresses());
        let own = membership::contact(self.node, addresses);
        let domains = domains::Domains::new(&own, self.domains, self.seed);
        shell::Shell::new(self.swarm, self.contacts, domains, self.reports)
            .run(handle, outgoing, introduced, cancel)
            .boxed()
    }
}

/// A domain and its rule at this node.
fn domain(config: &DomainConfig, own: NodeId) -> Result<(Domain, Gate), Fault> {
    let domain =
        Domain::new(config).map_err(|bad| Fault::new(bad.kind(), format!("domains: name: {bad}")))?;
    let name = &config.name;
    let gate = Gate::new(config, own)
        .map_err(|bad| Fault::new(Kind::Invalid, format!("domains: {name}: the invite {bad}")))?;
    Ok((domain, gate))
}

/// The node behind a peer; `None` if its key is not Ed25519.
fn node_of(peer: &PeerId) -> Option<NodeId> {
    // A short key is its own hash: the identity code of multihash is 0.
    let hash = peer.as_ref();
    if hash.code() != 0 {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(NodeId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The peer behind a node; `None` if the id is no point of the curve.
fn peer_of(node: &NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// Whether an address is of use to this machine alone.
fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_peer_are_the_same_key() {
        let secret = SecretKey::from_seed([7; 32]);
        let node = NodeId(secret.public().0);
        let peer = Keypair::ed25519_from_bytes(secret.seed()).unwrap().public().to_peer_id();
        assert_eq!(node_of(&peer), Some(node));
        assert_eq!(peer_of(&node), Some(peer));
        let no_key = PeerId::random();
        assert_eq!(node_of(&no_key), None);
    }
}

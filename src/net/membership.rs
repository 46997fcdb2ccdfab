//! A topology of ours on libp2p: turns what happens to connections into its inputs, and what it wants into
//! frames, dials and hang-ups for the shell. Owns which connections the topology is interested in; decides nothing
//! that the topology decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::packet::Packet;
use super::{bounds, is_loopback};
use crate::base::{NodeId, Timestamp, config};
use crate::overlay::Domain;
use crate::overlay::domain::TAG_BYTES;
use crate::overlay::topology::frame::ROUTES;
use crate::overlay::topology::mesh::Mesh;
use crate::overlay::topology::tree::{Settings, Tree};
use crate::overlay::topology::{Contact, Frame, Input, Output, Payload, Route, Selection, Topology};

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame for a peer.
    Send(NodeId, Packet),
    /// A peer to reach, and where.
    Dial(NodeId, Vec<Multiaddr>),
    /// A payload for the node, from the peer that passed it on.
    Deliver(NodeId, Arc<Vec<u8>>),
}

/// A topology and its connections.
pub struct Membership {
    /// What every frame begins with.
    tag: [u8; TAG_BYTES],
    topology: Box<dyn Topology>,
    up: BTreeSet<NodeId>,
    /// Nodes that the topology asked for and has not hung up on.
    wanted: BTreeSet<NodeId>,
    /// Connections that nobody needs any more, and when to close them: what is under way arrives first.
    idle: BTreeMap<NodeId, u64>,
}

impl Membership {
    /// The topology that the domain names; `None` where that is gossipsub's.
    pub fn new(domain: &Domain, own: Contact, seed: [u8; 32]) -> Option<Self> {
        let start = Timestamp(0);
        let topology: Box<dyn Topology> = match domain.topology() {
            config::Topology::Gossip => return None,
            config::Topology::Mesh => Box::new(Mesh::new(own, Selection::default(), seed, start)),
            config::Topology::Tree => {
                // The replica reconciles by itself, and further back.
                let settings = Settings { repair_ms: None, ..Settings::default() };
                Box::new(Tree::new(own, settings, seed, start))
            }
        };
        Some(Self {
            tag: domain.tag(),
            topology,
            up: BTreeSet::new(),
            wanted: BTreeSet::new(),
            idle: BTreeMap::new(),
        })
    }

    /// A member of the domain is connected. Whoever is connected and not yet a neighbour is a way in.
    pub fn up(&mut self, now: u64, node: NodeId, listens: &[Multiaddr]) -> Vec<Step> {
        self.up.insert(node);
        self.idle.insert(node, now + bounds::IDLE_MS);
        let mut steps = Vec::new();
        if !self.wanted.contains(&node) && self.topology.neighbours().is_empty() {
            self.give(now, Input::Join(vec![contact(node, listens.iter())]), &mut steps);
        }
        self.give(now, Input::LinkUp(node), &mut steps);
        steps
    }

    /// Its last connection closed.
    pub fn down(&mut self, now: u64, node: NodeId) -> Vec<Step> {
        self.up.remove(&node);
        self.wanted.remove(&node);
        self.idle.remove(&node);
        self.one(now, Input::LinkDown(node))
    }

    /// A node that somebody here wants to be connected with, whatever the topology thinks.
    pub fn welcome(&mut self, node: NodeId) {
        self.wanted.insert(node);
    }

    /// It could not be reached.
    pub fn unreachable(&mut self, now: u64, node: NodeId) -> Vec<Step> {
        self.wanted.remove(&node);
        self.one(now, Input::DialFailed(node))
    }

    /// A frame came, without its tag. `None` for bytes that are none.
    pub fn frame(&mut self, now: u64, from: NodeId, bytes: &[u8]) -> Option<Vec<Step>> {
        let frame = Frame::decode(bytes).ok()?;
        Some(self.one(now, Input::Frame { from, frame }))
    }

    /// Neighbours that payloads go to and come from.
    pub fn neighbours(&self) -> usize {
        self.topology.neighbours().len()
    }

    /// A packet for every member. `None` if the same bytes went by lately, so that members would take them
    /// for a duplicate, or if nobody is a neighbour.
    pub fn broadcast(&mut self, now: u64, packet: &Packet) -> Option<Vec<Step>> {
        let payload = Payload::new(packet.clone());
        if self.topology.has(&payload.id()) || self.topology.neighbours().is_empty() {
            return None;
        }
        Some(self.one(now, Input::Broadcast(payload)))
    }

    /// To be called when [`Self::next_timeout`] has come.
    pub fn timeout(&mut self, now: u64) -> Vec<Step> {
        self.one(now, Input::Timeout)
    }

    /// In ms, as the shell counts them.
    pub fn next_timeout(&self) -> Option<u64> {
        self.topology.next_timeout().map(|at| at.0)
    }

    /// Whether to keep a connection with this node, or make one. With no neighbour, anyone is welcome.
    pub fn wants(&self, node: &NodeId) -> bool {
        let neighbours = self.topology.neighbours();
        self.wanted.contains(node) || neighbours.is_empty() || neighbours.contains(node)
    }

    /// Connections that have been of no use for a while.
    pub fn surplus(&mut self, now: u64) -> Vec<NodeId> {
        let neighbours: BTreeSet<NodeId> = self.topology.neighbours().into_iter().collect();
        let (wanted, up) = (&self.wanted, &self.up);
        for node in up {
            if wanted.contains(node) || neighbours.contains(node) {
                self.idle.remove(node);
            } else {
                self.idle.entry(*node).or_insert(now + bounds::IDLE_MS);
            }
        }
        self.idle.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect()
    }

    fn one(&mut self, now: u64, input: Input) -> Vec<Step> {
        let mut steps = Vec::new();
        self.give(now, input, &mut steps);
        steps
    }

    fn give(&mut self, now: u64, input: Input, steps: &mut Vec<Step>) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.topology.handle(Timestamp(now), input) {
                match output {
                    Output::Send { to, frame } => {
                        let packet = [&self.tag[..], &frame.encode()].concat();
                        steps.push(Step::Send(to, Arc::new(packet)));
                    }
                    Output::Dial(contact) => {
                        self.wanted.insert(contact.node);
                        if self.up.contains(&contact.node) {
                            inputs.push_back(Input::LinkUp(contact.node));
                        } else {
                            let at = contact.routes.iter().map(address).collect();
                            steps.push(Step::Dial(contact.node, at));
                        }
                    }
                    Output::Hang(node) => {
                        self.wanted.remove(&node);
                        self.idle.insert(node, now + bounds::HANG_MS);
                    }
                    Output::Deliver { from, payload, .. } => {
                        steps.push(Step::Deliver(from, payload.bytes().clone()));
                    }
                }
            }
        }
    }
}

/// A node and those of its addresses that a frame can carry: IP addresses with TCP or QUIC. Those of use to
/// this machine alone only where there are no others.
pub fn contact<'a>(node: NodeId, addresses: impl Iterator<Item = &'a Multiaddr>) -> Contact {
    let mut addresses: Vec<&Multiaddr> = addresses.collect();
    if addresses.iter().any(|address| !is_loopback(address)) {
        addresses.retain(|address| !is_loopback(address));
    }
    let routes: Vec<Route> = addresses.into_iter().filter_map(route).take(ROUTES).collect();
    Contact { node, routes: routes.into() }
}

fn route(address: &Multiaddr) -> Option<Route> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_))) => {
            Some(Route { at: SocketAddr::new(ip, port), quic: false })
        }
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => {
            Some(Route { at: SocketAddr::new(ip, port), quic: true })
        }
        _ => None,
    }
}

fn address(route: &Route) -> Multiaddr {
    let ip = Multiaddr::from(route.at.ip());
    if route.quic {
        ip.with(Protocol::Udp(route.at.port())).with(Protocol::QuicV1)
    } else {
        ip.with(Protocol::Tcp(route.at.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_routes_and_back() {
        let all = ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/7700", "/ip6/2001:db8::1/udp/7/quic-v1"];
        let addresses: Vec<Multiaddr> = all.iter().map(|text| text.parse().unwrap()).collect();
        let back = |contact: &Contact| -> Vec<String> {
            contact.routes.iter().map(|route| address(route).to_string()).collect()
        };
        let public = contact(NodeId([1; 32]), addresses.iter());
        assert_eq!(back(&public), all[1..]);
        let local = contact(NodeId([1; 32]), addresses[..1].iter());
        assert_eq!(back(&local), all[..1]);
        let odd: Multiaddr = "/dns4/example.org/tcp/1".parse().unwrap();
        assert!(contact(NodeId([1; 32]), [&odd].into_iter()).routes.is_empty());
    }
}

//! The simulated world: events in order of time, nodes with their memberships, links between them. It
//! drives [`Member`]s as a shell would, and notes who got what when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::chance::Chance;
use super::super::crossing::Crossing;
use super::super::member::Member;
use super::super::topology::gossip::Gossip;
use super::super::topology::mesh::Mesh;
use super::super::topology::structured::Structured;
use super::super::topology::tree::{self, Tree};
use super::super::topology::{
    Contact, Frame, Input, Message, MessageId, Output, Payload, Route, Selection, Topology,
};
use super::attack::{self, Malice};
use super::geography::{Machine, Site};
use super::rebalance::Rebalance;
use super::scenario::{Attack, Scenario, Shape};
use super::star::Star;
use crate::base::{NodeId, Timestamp};

/// Bytes that a frame costs besides itself: IP, UDP and QUIC headers and tag.
const FRAME_OVERHEAD: usize = 60;
/// Bytes that each end of a new link sends: a QUIC handshake with certificates.
const HANDSHAKE: usize = 2_500;
/// How long a dial to nobody takes.
const DIAL_TIMEOUT_US: u64 = 3_000_000;
/// How long a crash goes unnoticed.
const CRASH_US: u64 = 6_000_000;
/// Mean time that a node is off line.
const AWAY_MS: u64 = 60_000;
/// How long a partition lasts.
const PARTITION_MS: u64 = 60_000;
/// Addresses from which Sybils come.
const SYBIL_NEIGHBOURHOODS: usize = 8;
/// When messages begin, and when they end before the end.
pub const WARM_UP_MS: u64 = 20_000;
/// See [`WARM_UP_MS`].
pub const COOL_DOWN_MS: u64 = 30_000;
/// How often domains are looked at.
pub const EPOCH_MS: u64 = 10_000;
const KNOCK_MS: u64 = 5_000;

/// One simulated node.
pub struct Node {
    pub contact: Contact,
    pub site: Site,
    pub home: u8,
    pub malice: Option<Malice>,
    /// When it turned, in ms.
    pub turned_ms: u64,
    pub online: bool,
    pub members: BTreeMap<u8, Member>,
    /// The second domain of a gateway, and the one it volunteers in.
    pub gateway: Option<u8>,
    pub volunteers: Option<u8>,
    /// Times on line: from, to, in ms.
    pub sessions: Vec<(u64, u64)>,
    pub bytes: u64,
    /// For each message, its delay in ms plus one, and hops.
    pub got: Vec<(u32, u8)>,
    links: BTreeMap<(u8, u32), u32>,
    crossing: Crossing,
    uplink_free_us: u64,
    timer_us: Option<u64>,
    remembered: BTreeMap<u8, Vec<Contact>>,
}

/// One message that was said.
pub struct Said {
    pub at_ms: u64,
    pub by: u32,
    pub home: u8,
}

/// An event in the queue. In order of time, then as they were put there.
struct Due {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

enum Event {
    Frame { from: u32, to: u32, domain: u8, frame: Box<Frame> },
    Dialled { from: u32, to: u32, domain: u8 },
    DialFailed { from: u32, to: u32, domain: u8 },
    Down { node: u32, peer: u32, domain: u8, generation: u32 },
    Timer(u32),
    Say,
    Leave(u32),
    Return(u32),
    Begin,
    Epoch,
    Knock(u32),
    EndPartition,
}

/// Everything.
pub struct World {
    pub scenario: Scenario,
    pub nodes: Vec<Node>,
    pub said: Vec<Said>,
    pub rebalance: Rebalance,
    pub now_us: u64,
    pub events: u64,
    /// Bytes sent in all, by what they are for.
    pub purposes: BTreeMap<&'static str, u64>,
    ids: BTreeMap<MessageId, u32>,
    queue: BinaryHeap<Reverse<Due>>,
    number: u64,
    generation: u32,
    chance: Chance,
    crowd: Vec<Contact>,
    victims: Vec<u32>,
    parted: bool,
    servers: Vec<Contact>,
}

impl World {
    /// The world before anything happened.
    pub fn new(scenario: Scenario) -> Self {
        let chance = Chance::numbered(scenario.seed, 0);
        let rebalance = Rebalance::new(&scenario);
        let mut world = Self {
            scenario,
            nodes: Vec::new(),
            said: Vec::new(),
            rebalance,
            now_us: 0,
            events: 0,
            purposes: BTreeMap::new(),
            ids: BTreeMap::new(),
            queue: BinaryHeap::new(),
            number: 0,
            generation: 0,
            chance,
            crowd: Vec::new(),
            victims: Vec::new(),
            parted: false,
            servers: Vec::new(),
        };
        world.populate();
        world
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        let end_us = self.scenario.end_ms() * 1_000;
        while let Some(Reverse(due)) = self.queue.pop() {
            if due.at_us > end_us {
                break;
            }
            self.now_us = due.at_us;
            self.events += 1;
            self.happen(due.event);
        }
        self.now_us = end_us;
        let end_ms = self.scenario.end_ms();
        for node in self.nodes.iter_mut().filter(|node| node.online) {
            if let Some(session) = node.sessions.last_mut() {
                session.1 = end_ms;
            }
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_us / 1_000)
    }

    /// Chance, for whatever belongs to the world.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// The nodes on line that are members of a domain.
    pub fn members_of(&self, domain: u8) -> Vec<u32> {
        let here = |node: &&Node| node.online && node.members.contains_key(&domain);
        (0..self.nodes.len() as u32).filter(|index| here(&&self.nodes[*index as usize])).collect()
    }

    fn populate(&mut self) {
        for _ in 0..self.scenario.nodes {
            let site = Site::draw(&mut self.chance);
            let near = self.chance.below(60_000);
            self.add_node(site, near);
        }
        let stars = (self.scenario.nodes / 100).max(3);
        let steady = self.nodes.iter().filter(|node| node.site.machine == Machine::Server);
        self.servers = steady.take(stars).map(|node| node.contact.clone()).collect();
        let cold = self.scenario.attack == Some(Attack::ColdBoot);
        for index in 0..self.nodes.len() as u32 {
            let spread = if cold { 1_000 } else { 15_000 };
            let entrance = index < u32::from(self.scenario.domains) * 3;
            let at = if entrance { 0 } else { 200 + self.chance.below(spread) as u64 };
            self.at_ms(at, Event::Return(index));
        }
        let begins = if cold { 1_500 } else { WARM_UP_MS };
        self.at_ms(begins, Event::Say);
        self.at_ms(EPOCH_MS, Event::Epoch);
        if self.scenario.attack.is_some() {
            self.at_ms(self.scenario.attack_ms(), Event::Begin);
        }
        if self.scenario.attack == Some(Attack::Lure) {
            self.at_ms(self.scenario.end_ms() * 2 / 3, Event::Begin);
        }
    }

    /// A node at a site, with an address of a neighbourhood.
    fn add_node(&mut self, site: Site, near: usize) -> u32 {
        let index = self.nodes.len() as u32;
        let mut id =
            *blake3::hash(&[&self.scenario.seed.to_le_bytes()[..], &index.to_le_bytes()].concat()).as_bytes();
        // The end of the id is the index, so that it is found without a table; the rest is uniform.
        id[28..].copy_from_slice(&index.to_be_bytes());
        let address = [20 + (near >> 8) as u8 % 200, near as u8, (index >> 8) as u8, index as u8];
        let routes = Arc::new([Route { at: SocketAddr::from((address, 7700)), quic: true }]);
        let domains = self.scenario.domains;
        let home = (index % u32::from(domains)) as u8;
        let is_gateway = domains > 1
            && site.machine != Machine::Phone
            && (index < u32::from(domains) * 2 || self.chance.happens(0.12));
        let step = 1 + (index / u32::from(domains)) % (u32::from(domains) - 1).max(1);
        let gateway = is_gateway.then(|| ((u32::from(home) + step) % u32::from(domains)) as u8);
        self.nodes.push(Node {
            contact: Contact { node: NodeId(id), routes },
            site,
            home,
            malice: None,
            turned_ms: u64::MAX,
            online: false,
            members: BTreeMap::new(),
            gateway: gateway.filter(|_| self.scenario.shape != Shape::Star),
            volunteers: None,
            sessions: Vec::new(),
            bytes: 0,
            got: Vec::new(),
            links: BTreeMap::new(),
            crossing: Crossing::new(id),
            uplink_free_us: 0,
            timer_us: None,
            remembered: BTreeMap::new(),
        });
        index
    }

    fn at_ms(&mut self, at_ms: u64, event: Event) {
        self.at_us(at_ms * 1_000, event);
    }

    fn at_us(&mut self, at_us: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse(Due { at_us: at_us.max(self.now_us), number: self.number, event }));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { from, to, domain, frame } => {
                if self.nodes[to as usize].links.contains_key(&(domain, from)) {
                    let from = self.nodes[from as usize].contact.node;
                    self.input(to, domain, Input::Frame { from, frame: *frame });
                }
            }
            Event::Dialled { from, to, domain } => self.dialled(from, to, domain),
            Event::DialFailed { from, to, domain } => {
                let to = self.nodes[to as usize].contact.node;
                self.input(from, domain, Input::DialFailed(to));
            }
            Event::Down { node, peer, domain, generation } => {
                let links = &mut self.nodes[node as usize].links;
                if links.get(&(domain, peer)) == Some(&generation) {
                    links.remove(&(domain, peer));
                    let peer = self.nodes[peer as usize].contact.node;
                    self.input(node, domain, Input::LinkDown(peer));
                }
            }
            Event::Timer(index) => self.on_timer(index),
            Event::Say => self.say(),
            Event::Leave(index) => self.leave(index),
            Event::Return(index) => self.come(index),
            Event::Begin => self.begin_attack(),
            Event::Epoch => {
                self.at_ms(self.now().0 + EPOCH_MS, Event::Epoch);
                Rebalance::epoch(self);
            }
            Event::Knock(index) => self.knock(index),
            Event::EndPartition => self.parted = false,
        }
    }

    /// One input for one membership, and whatever comes of it.
    fn input(&mut self, index: u32, domain: u8, input: Input) {
        let now = self.now();
        let node = &mut self.nodes[index as usize];
        let Some(member) = node.members.get_mut(&domain).filter(|_| node.online) else { return };
        let outputs = member.handle(now, input);
        self.act(index, domain, outputs);
        self.set_timer(index);
    }

    fn act(&mut self, index: u32, domain: u8, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, frame } => self.send(index, index_of(&to), domain, frame),
                Output::Dial(contact) => self.dial(index, index_of(&contact.node), domain),
                Output::Hang(node) => self.hang(index, index_of(&node), domain),
                Output::Deliver { from, hops, payload } => {
                    self.delivered(index, domain, index_of(&from), hops, &payload);
                }
            }
        }
    }

    fn send(&mut self, from: u32, to: u32, domain: u8, frame: Frame) {
        let node = &mut self.nodes[from as usize];
        if !node.links.contains_key(&(domain, to)) {
            return;
        }
        let frame = match node.malice {
            Some(malice) => attack::tamper(malice, frame, &self.crowd, &mut self.chance),
            None => frame,
        };
        if frame.0.is_empty() {
            return;
        }
        let size = frame.size() + FRAME_OVERHEAD;
        // A frame's cost belongs to the first thing it carries.
        let purpose = frame.0.first().map_or("", Message::purpose);
        *self.purposes.entry(purpose).or_default() += size as u64;
        let lost = self.scenario.loss > 0.0 && self.chance.happens(self.scenario.loss);
        let node = &mut self.nodes[from as usize];
        node.bytes += size as u64;
        node.uplink_free_us = node.uplink_free_us.max(self.now_us) + node.site.upload_us(size);
        let leaves = node.uplink_free_us;
        if lost || self.is_parted(from, to) {
            return;
        }
        let at = leaves + self.delay(from, to);
        self.at_us(at, Event::Frame { from, to, domain, frame: Box::new(frame) });
    }

    fn delay(&mut self, from: u32, to: u32) -> u64 {
        let (from, to) = (self.nodes[from as usize].site, self.nodes[to as usize].site);
        from.delay_us(&to, &mut self.chance)
    }

    fn is_parted(&self, a: u32, b: u32) -> bool {
        let europe = |index: u32| self.nodes[index as usize].site.region == 1;
        self.parted && europe(a) != europe(b)
    }

    fn dial(&mut self, from: u32, to: u32, domain: u8) {
        if to as usize >= self.nodes.len() || from == to {
            return;
        }
        if self.nodes[from as usize].links.contains_key(&(domain, to)) {
            return self.at_us(self.now_us, Event::Dialled { from, to, domain });
        }
        let there = self.nodes[to as usize].online && !self.is_parted(from, to);
        if there {
            self.shake(from);
            let at = self.now_us + self.delay(from, to) * 3;
            self.at_us(at, Event::Dialled { from, to, domain });
        } else {
            self.at_us(self.now_us + DIAL_TIMEOUT_US, Event::DialFailed { from, to, domain });
        }
    }

    fn shake(&mut self, index: u32) {
        self.nodes[index as usize].bytes += HANDSHAKE as u64;
        *self.purposes.entry("handshakes").or_default() += HANDSHAKE as u64;
    }

    fn dialled(&mut self, from: u32, to: u32, domain: u8) {
        let (a, b) = (&self.nodes[from as usize], &self.nodes[to as usize]);
        let (caller, called) = (a.contact.node, b.contact.node);
        if !a.online {
            return;
        }
        if a.links.contains_key(&(domain, to)) {
            return self.input(from, domain, Input::LinkUp(called));
        }
        if !b.online || !b.members.contains_key(&domain) || self.is_parted(from, to) {
            return self.input(from, domain, Input::DialFailed(called));
        }
        self.generation += 1;
        self.shake(to);
        self.nodes[from as usize].links.insert((domain, to), self.generation);
        self.nodes[to as usize].links.insert((domain, from), self.generation);
        self.input(to, domain, Input::LinkUp(caller));
        self.input(from, domain, Input::LinkUp(called));
    }

    fn hang(&mut self, from: u32, to: u32, domain: u8) {
        let Some(generation) = self.nodes[from as usize].links.get(&(domain, to)).copied() else { return };
        self.at_us(self.now_us, Event::Down { node: from, peer: to, domain, generation });
        let leaves = self.nodes[from as usize].uplink_free_us.max(self.now_us);
        let at = leaves + self.delay(from, to) * 2;
        self.at_us(at, Event::Down { node: to, peer: from, domain, generation });
    }

    fn delivered(&mut self, index: u32, domain: u8, from: u32, hops: u8, payload: &Payload) {
        let Some(message) = self.ids.get(&payload.id()).copied() else { return };
        let now = self.now();
        let delay = now.0 - self.said[message as usize].at_ms;
        // A topology counts within its domain; what counts here is the whole way.
        let there = self.nodes.get(from as usize).and_then(|node| node.got.get(message as usize));
        let hops = there.filter(|(delay, _)| *delay > 0).map_or(hops, |(_, hops)| hops.saturating_add(1));
        let node = &mut self.nodes[index as usize];
        let joined = node.members.keys().copied();
        if node.crossing.arrived(now, payload, domain, joined) {
            note(&mut node.got, message, delay, hops);
        }
        self.cross(index);
    }

    /// Carries over what is due to be.
    fn cross(&mut self, index: u32) {
        let now = self.now();
        let node = &mut self.nodes[index as usize];
        let due = node.crossing.due(now);
        if node.malice.is_some() || !node.online {
            return;
        }
        for (domain, payload) in due {
            self.input(index, domain, Input::Broadcast(payload));
        }
    }

    fn on_timer(&mut self, index: u32) {
        let now = self.now();
        let node = &mut self.nodes[index as usize];
        if node.timer_us.is_none_or(|at| at > self.now_us) {
            return;
        }
        node.timer_us = None;
        let due: Vec<u8> = node
            .members
            .iter()
            .filter(|(_, member)| member.next_timeout().is_some_and(|at| at <= now))
            .map(|(domain, _)| *domain)
            .collect();
        for domain in due {
            self.input(index, domain, Input::Timeout);
        }
        self.cross(index);
        self.set_timer(index);
    }

    fn set_timer(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let times = node.members.values().filter_map(Topology::next_timeout);
        let Some(next) = times.chain(node.crossing.next_timeout()).min() else { return };
        let at = (next.0 * 1_000).max(self.now_us + 1_000);
        if node.online && node.timer_us.is_none_or(|set| set > at) {
            node.timer_us = Some(at);
            self.at_us(at, Event::Timer(index));
        }
    }

    fn say(&mut self) {
        let now_ms = self.now().0;
        if now_ms + COOL_DOWN_MS > self.scenario.end_ms() {
            return;
        }
        let gap = self.chance.about((1_000.0 / self.scenario.rate_per_s) as u64);
        self.at_ms(now_ms + gap.max(1), Event::Say);
        let speaks = |node: &Node| {
            node.online && node.malice.is_none() && now_ms > node.sessions.last().map_or(0, |s| s.0) + 3_000
        };
        let Some(by) =
            (0..20).map(|_| self.chance.below(self.nodes.len())).find(|index| speaks(&self.nodes[*index]))
        else {
            return;
        };
        let number = self.said.len() as u32;
        let mut bytes = vec![0; self.scenario.payload_bytes.max(16)];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.scenario.seed.to_le_bytes());
        let payload = Payload::new(Arc::new(bytes));
        self.ids.insert(payload.id(), number);
        let node = &mut self.nodes[by];
        self.said.push(Said { at_ms: now_ms, by: by as u32, home: node.home });
        note(&mut node.got, number, 0, 0);
        let domains: Vec<u8> = node.members.keys().copied().collect();
        node.crossing.began(Timestamp(now_ms), payload.id());
        for domain in domains {
            self.input(by as u32, domain, Input::Broadcast(payload.clone()));
        }
    }

    fn come(&mut self, index: u32) {
        let now_ms = self.now().0;
        let node = &mut self.nodes[index as usize];
        node.online = true;
        node.timer_us = None;
        node.uplink_free_us = 0;
        node.sessions.push((now_ms, u64::MAX));
        let domains: BTreeSet<u8> =
            [Some(node.home), node.gateway, node.volunteers].into_iter().flatten().collect();
        if let (true, Some(mean)) = (self.scenario.churn, node.site.session_ms()) {
            let length = exponential(&mut self.chance, mean);
            self.at_ms(now_ms + length.max(10_000), Event::Leave(index));
        }
        for domain in domains {
            self.enter(index, domain);
        }
    }

    /// Makes a node a member of a domain.
    pub fn enter(&mut self, index: u32, domain: u8) {
        let now = self.now();
        let seed = *blake3::hash(&self.chance.bits().to_le_bytes()).as_bytes();
        let trial_ms = self.scenario.trial_ms.filter(|_| self.scenario.shape != Shape::Star);
        let topology = self.topology(index, domain, seed);
        let node = &mut self.nodes[index as usize];
        node.members.insert(domain, Member::new(node.contact.node, topology, trial_ms, seed, now));
        let mut contacts = node.remembered.remove(&domain).unwrap_or_default();
        contacts.extend(self.entrances(index, domain));
        self.input(index, domain, Input::Join(contacts));
    }

    /// Ends a node's membership of a domain.
    pub fn quit(&mut self, index: u32, domain: u8) {
        let node = &mut self.nodes[index as usize];
        node.members.remove(&domain);
        node.crossing.left(domain);
        let links: Vec<(u32, u32)> = node
            .links
            .iter()
            .filter(|((of, _), _)| *of == domain)
            .map(|((_, peer), generation)| (*peer, *generation))
            .collect();
        for (peer, generation) in links {
            self.nodes[index as usize].links.remove(&(domain, peer));
            let at = self.now_us + self.delay(index, peer);
            self.at_us(at, Event::Down { node: peer, peer: index, domain, generation });
        }
    }

    fn topology(&mut self, index: u32, domain: u8, seed: [u8; 32]) -> Box<dyn Topology> {
        let (now, own) = (self.now(), self.nodes[index as usize].contact.clone());
        match self.scenario.shape {
            Shape::Mesh => Box::new(Mesh::new(own, Selection::default(), seed, now)),
            Shape::Tree => Box::new(Tree::new(own, tree::Settings::default(), seed, now)),
            Shape::Gossip => Box::new(Gossip::new(own, seed, now)),
            Shape::Structured => Box::new(Structured::new(own, vec![[domain; 32]], seed, now)),
            Shape::Star => {
                let is_server = self.servers.iter().any(|server| server.node == own.node);
                let homes: Vec<Contact> = if is_server {
                    self.servers.iter().filter(|server| server.node != own.node).cloned().collect()
                } else {
                    self.servers
                        .get(index as usize % self.servers.len().max(1))
                        .cloned()
                        .into_iter()
                        .collect()
                };
                Box::new(Star::new(homes, is_server, now))
            }
        }
    }

    /// Members by way of which a node enters: the three early ones, which a bootstrap list names whether they
    /// are on line or not, and some of those on line, as an invite link names them.
    fn entrances(&mut self, index: u32, domain: u8) -> Vec<Contact> {
        let few = if self.scenario.shape == Shape::Gossip { 30 } else { 4 };
        let domains = u32::from(self.scenario.domains);
        let early = (0..3).map(|round| u32::from(domain) + round * domains);
        let mut found: Vec<Contact> = early
            .filter(|other| *other != index)
            .filter_map(|other| self.nodes.get(other as usize))
            .map(|node| node.contact.clone())
            .collect();
        let online = self.members_of(domain);
        let tries = if self.scenario.attack == Some(Attack::ColdBoot) { 0 } else { few };
        for other in self.chance.sample(&online, tries) {
            let contact = &self.nodes[other as usize].contact;
            if other != index && !found.contains(contact) {
                found.insert(0, contact.clone());
            }
        }
        found
    }

    fn leave(&mut self, index: u32) {
        let now_ms = self.now().0;
        let crash = self.chance.happens(0.5);
        let node = &mut self.nodes[index as usize];
        node.online = false;
        if let Some(session) = node.sessions.last_mut() {
            session.1 = now_ms;
        }
        for (domain, member) in std::mem::take(&mut node.members) {
            node.remembered.insert(domain, member.known().into_iter().take(12).collect());
        }
        for ((domain, peer), generation) in std::mem::take(&mut node.links) {
            let wait = if crash { CRASH_US } else { self.delay(index, peer) };
            self.at_us(self.now_us + wait, Event::Down { node: peer, peer: index, domain, generation });
        }
        let away = exponential(&mut self.chance, AWAY_MS);
        self.at_ms(now_ms + away.max(2_000), Event::Return(index));
    }

    fn begin_attack(&mut self) {
        let lured = self.now().0 > self.scenario.attack_ms();
        match self.scenario.attack {
            Some(Attack::Censor) => {
                (0..self.scenario.domains).for_each(|domain| self.turn(domain, Malice::Covert))
            }
            Some(Attack::Flash) => self.turn(0, Malice::Covert),
            Some(Attack::Lure) => self.turn(u8::from(lured), Malice::Covert),
            Some(Attack::Sybil) => self.sybils(),
            Some(Attack::Eclipse) => self.eclipse(),
            Some(Attack::Partition) => {
                self.parted = true;
                self.at_ms(self.now().0 + PARTITION_MS, Event::EndPartition);
            }
            Some(Attack::ColdBoot) | None => {}
        }
    }

    /// A fraction of a domain's own members turns.
    fn turn(&mut self, domain: u8, malice: Malice) {
        let own: Vec<u32> =
            (0..self.nodes.len() as u32).filter(|index| self.nodes[*index as usize].home == domain).collect();
        let count = (own.len() as f64 * self.scenario.adversarial) as usize;
        let now_ms = self.now().0;
        for index in self.chance.sample(&own, count) {
            let node = &mut self.nodes[index as usize];
            node.malice = Some(malice);
            node.turned_ms = now_ms;
            self.crowd.push(node.contact.clone());
        }
    }

    fn sybils(&mut self) {
        let own = self.nodes.iter().filter(|node| node.home == 0).count() as f64;
        let part = self.scenario.adversarial.min(0.9);
        let count = (own * part / (1.0 - part)) as usize;
        let site = Site { region: 1, machine: Machine::Server };
        for number in 0..count {
            let index = self.add_node(site, 60_500 + number % SYBIL_NEIGHBOURHOODS);
            let node = &mut self.nodes[index as usize];
            node.home = 0;
            node.gateway = None;
            node.malice = Some(Malice::Poison);
            node.turned_ms = 0;
            self.crowd.push(node.contact.clone());
            let at = self.now().0 + self.chance.below(10_000) as u64;
            self.at_ms(at, Event::Return(index));
        }
    }

    fn eclipse(&mut self) {
        self.turn(0, Malice::Poison);
        let honest: Vec<u32> = (0..self.nodes.len() as u32)
            .filter(|index| {
                let node = &self.nodes[*index as usize];
                node.home == 0 && node.malice.is_none()
            })
            .collect();
        self.victims = self.chance.sample(&honest, (honest.len() / 20).max(1));
        for index in self.crowd.iter().map(|contact| index_of(&contact.node)).collect::<Vec<_>>() {
            let at = self.now().0 + self.chance.below(KNOCK_MS as usize) as u64;
            self.at_ms(at, Event::Knock(index));
        }
    }

    /// An adversary opens a link with a victim and asks to be its neighbour, not to be refused.
    fn knock(&mut self, index: u32) {
        self.at_ms(self.now().0 + KNOCK_MS, Event::Knock(index));
        let Some(victim) = self.chance.pick(&self.victims).copied() else { return };
        if !self.nodes[index as usize].online || !self.nodes[victim as usize].online {
            return;
        }
        self.dialled(index, victim, 0);
        let contact = self.nodes[index as usize].contact.clone();
        self.send(index, victim, 0, Frame(vec![Message::Neighbour { contact, high: true }]));
    }
}

/// The index in a simulated node's id.
pub fn index_of(node: &NodeId) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&node.0[28..]);
    u32::from_be_bytes(bytes)
}

fn note(got: &mut Vec<(u32, u8)>, message: u32, delay_ms: u64, hops: u8) {
    if got.len() <= message as usize {
        got.resize(message as usize + 1, (0, 0));
    }
    let entry = &mut got[message as usize];
    if entry.0 == 0 {
        *entry = (u32::try_from(delay_ms).unwrap_or(u32::MAX - 1) + 1, hops);
    }
}

fn exponential(chance: &mut Chance, mean_ms: u64) -> u64 {
    (-(1.0 - chance.unit()).ln() * mean_ms as f64) as u64
}

//! Nodes, the network between them, and virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use multichat::base::key::SecretKey;
use multichat::base::{Digest, EventId, NodeId, Timestamp, limits};
use multichat::chat::channel::Change;
use multichat::chat::intent::{Actor, ChannelRef, Intent, Submission};
use multichat::chat::market::{Amount, Terms, Wish};
use multichat::chat::message::{Content, Origin};
use multichat::chat::profile::Profile;
use multichat::chat::view::{HoldingView, What};
use multichat::node::{Delivery, Door, Input, Node, Output, Setup, Write};
use multichat::overlay::Destination;
use multichat::replica::Packet;

use super::disk::Disk;
use super::far_side::{self, FarSide};

/// What goes wrong, in chances out of 100.
#[derive(Clone, Copy)]
pub struct Faults {
    pub loss: u64,
    pub duplication: u64,
    pub crash: u64,
    pub partition: u64,
    pub far_side: u64,
    /// A node's clock may be this far ahead, in milliseconds.
    pub skew_ms: u64,
    /// A stranger that speaks the protocol sends garbage, old packets and packets bent a little.
    pub stranger: u64,
    /// Packets of events are sent without their texts.
    pub strip: u64,
    /// So many lines are said at once now and then, more than a window of deliveries.
    pub burst: usize,
    /// People deal in tokens instead of saying something.
    pub market: u64,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            loss: 0,
            duplication: 0,
            crash: 0,
            partition: 0,
            far_side: 0,
            skew_ms: 0,
            stranger: 0,
            strip: 0,
            burst: 0,
            market: 0,
        }
    }

    pub fn all() -> Self {
        Self {
            loss: 10,
            duplication: 10,
            crash: 2,
            partition: 10,
            far_side: 20,
            skew_ms: 4 * 60_000,
            stranger: 15,
            strip: 0,
            burst: 0,
            market: 0,
        }
    }
}

struct Machine {
    setup: Setup,
    /// `None` while it is down.
    node: Option<Node>,
    disk: Disk,
    /// How far its clock is ahead.
    ahead_ms: u64,
    /// Deliveries its Matrix connector holds, in order.
    connector: VecDeque<Delivery>,
}

enum Happening {
    Packet { to: usize, from: NodeId, bytes: Vec<u8> },
    Connector { at: usize },
    Restart { at: usize },
    Tick { at: usize },
}

pub struct World {
    pub seed: u64,
    pub far_side: FarSide,
    /// Events whose author was told that they are accepted, and by which node.
    pub promised: Vec<(EventId, usize)>,
    /// For each session of an IRC listener, what it showed.
    pub sessions: Vec<Session>,
    now: Timestamp,
    random: u64,
    faults: Faults,
    machines: Vec<Machine>,
    session_of: Vec<usize>,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    happenings: u64,
    cuts: BTreeSet<(usize, usize)>,
    /// What a run did, if that is wanted: writing it down takes longer than the run.
    transcript: Option<blake3::Hasher>,
    /// Packets that were on the wire lately, for the stranger.
    overheard: VecDeque<Vec<u8>>,
    pub said: u64,
    /// Packets that were sent without their texts.
    pub stripped: u64,
}

/// The listener of one node from its start to its end.
pub struct Session {
    pub at: usize,
    /// The positions of the log that it was there for: after the first, up to the last.
    pub from: u64,
    pub to: Option<u64>,
    pub shown: Vec<EventId>,
    /// When it started.
    pub since: Timestamp,
    /// Messages that it shows, without those it withdrew.
    pub messages: BTreeSet<EventId>,
}

/// Packets the stranger remembers.
const OVERHEARD: usize = 64;

/// Tokens that a dealer issues at a time.
pub const ISSUED: u128 = 5;

const START: Timestamp = Timestamp(1_700_000_000_000);

impl World {
    pub fn new(seed: u64, size: usize, faults: Faults) -> Self {
        let mut world = Self {
            seed,
            far_side: FarSide::default(),
            promised: Vec::new(),
            sessions: Vec::new(),
            now: START,
            random: seed,
            faults: Faults::none(),
            machines: Vec::new(),
            session_of: vec![0; size],
            agenda: BTreeMap::new(),
            happenings: 0,
            cuts: BTreeSet::new(),
            transcript: None,
            overheard: VecDeque::new(),
            said: 0,
            stripped: 0,
        };
        for index in 0..size {
            let secret = SecretKey::from_seed(*blake3::hash(format!("{seed} {index}").as_bytes()).as_bytes());
            let matrix_server = "example.org".to_owned();
            let setup = Setup { secret, name: format!("node{index}"), matrix_server, generation: 0 };
            let (disk, connector) = (Disk::default(), VecDeque::new());
            let ahead_ms = if faults.skew_ms == 0 { 0 } else { world.random(faults.skew_ms) };
            world.machines.push(Machine { setup, node: None, disk, ahead_ms, connector });
        }
        for index in 0..size {
            world.start(index);
        }
        let link =
            Intent::Link { channel: ChannelRef::Name("#sim".into()), link: far_side::link(), create: true };
        world.submit(0, Actor::Node, link);
        world.step_until(START.plus_ms(5_000));
        world.faults = faults;
        world
    }

    /// A number below `bound`, from the seed alone.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.random(100) < of_hundred
    }

    fn schedule(&mut self, after_ms: u64, happening: Happening) {
        self.happenings += 1;
        self.agenda.insert((self.now.plus_ms(after_ms), self.happenings), happening);
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What a node's clock says.
    pub fn clock(&self, at: usize) -> Timestamp {
        self.now.plus_ms(self.machines[at].ahead_ms)
    }

    /// People at all nodes say things while things go wrong.
    pub fn converse(&mut self, lines: usize) {
        for _ in 0..lines {
            let at = self.random(self.machines.len() as u64) as usize;
            self.misfortune(at);
            let lines = if self.faults.burst > 0 && self.chance(10) { self.faults.burst } else { 1 };
            for _ in 0..lines {
                self.say(at);
            }
            if self.chance(self.faults.stranger) {
                self.disturb(at);
            }
            let pause = self.random(3_000);
            self.step_until(self.now.plus_ms(pause));
        }
    }

    /// Perhaps the network parts, or the far side goes away or comes back.
    pub fn misfortune(&mut self, at: usize) {
        if self.chance(self.faults.partition) {
            let other = self.random(self.machines.len() as u64) as usize;
            let cut = self.random(2) == 0;
            self.cut(at, other, cut);
        }
        if self.chance(self.faults.far_side) {
            self.far_side.away = !self.far_side.away;
        }
    }

    pub fn size(&self) -> usize {
        self.machines.len()
    }

    /// `None` while it is down.
    pub fn node(&self, at: usize) -> Option<&Node> {
        self.machines[at].node.as_ref()
    }

    /// For how long it has been up.
    pub fn up_for_ms(&self, at: usize) -> u64 {
        self.now.since_ms(self.sessions[self.session_of[at]].since)
    }

    /// The messages that a node's listener shows, without those it withdrew.
    pub fn on_screen(&self, at: usize) -> Vec<EventId> {
        let session = &self.sessions[self.session_of[at]];
        session.messages.iter().copied().collect()
    }

    /// Everything works again; time passes until nothing more happens.
    pub fn heal_and_rest(&mut self) {
        self.faults = Faults::none();
        self.far_side.away = false;
        self.cuts.clear();
        for at in 0..self.machines.len() {
            if self.machines[at].node.is_none() {
                self.start(at);
            }
        }
        self.introduce_all();
        self.step_until(self.now.plus_ms(15 * limits::SUMMARY_INTERVAL_MS));
    }

    fn introduce_all(&mut self) {
        for at in 0..self.machines.len() {
            for other in self.neighbours(at) {
                let peer = self.machines[other].setup.node_id();
                self.feed(at, Input::PeerUp(peer));
            }
        }
    }

    pub fn cut(&mut self, one: usize, other: usize, cut: bool) {
        let pair = (one.min(other), one.max(other));
        if one == other || self.cuts.contains(&pair) == cut {
            return;
        }
        if cut {
            self.cuts.insert(pair)
        } else {
            self.cuts.remove(&pair)
        };
        for (at, peer) in [(one, other), (other, one)] {
            let id = self.machines[peer].setup.node_id();
            let both_up = self.machines[at].node.is_some() && self.machines[peer].node.is_some();
            if both_up {
                self.feed(at, if cut { Input::PeerDown(id) } else { Input::PeerUp(id) });
            }
        }
    }

    fn neighbours(&self, at: usize) -> Vec<usize> {
        let reachable = |other: &usize| {
            *other != at
                && self.machines[*other].node.is_some()
                && !self.cuts.contains(&(at.min(*other), at.max(*other)))
        };
        (0..self.machines.len()).filter(reachable).collect()
    }

    fn start(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let log = machine.disk.log.values().cloned().collect::<Vec<_>>().into_iter();
        let node = Node::restore(machine.setup.clone(), machine.disk.restored(), log).unwrap();
        machine.node = Some(node);
        machine.connector.clear();
        let from = machine.disk.log.len() as u64;
        self.sessions.push(Session {
            at,
            from,
            to: None,
            shown: Vec::new(),
            since: self.now,
            messages: BTreeSet::new(),
        });
        self.session_of[at] = self.sessions.len() - 1;
        self.feed(at, Input::DoorOpened(Door::Listener));
        self.feed(at, Input::DoorOpened(Door::Matrix));
        let id = self.machines[at].setup.node_id();
        for other in self.neighbours(at) {
            let peer = self.machines[other].setup.node_id();
            self.feed(at, Input::PeerUp(peer));
            self.feed(other, Input::PeerUp(id));
        }
        self.schedule(1, Happening::Tick { at });
    }

    /// Nothing is left of it but its disk; its doors had carried out what follows from the log up to
    /// `durable`.
    fn crash(&mut self, at: usize, durable: u64) {
        let machine = &mut self.machines[at];
        machine.node = None;
        machine.connector.clear();
        self.sessions[self.session_of[at]].to = Some(durable);
        let id = machine.setup.node_id();
        for other in self.neighbours(at) {
            self.feed(other, Input::PeerDown(id));
        }
        let after_ms = 100 + self.random(5_000);
        self.schedule(after_ms, Happening::Restart { at });
    }

    fn say(&mut self, at: usize) {
        self.said += 1;
        if self.faults.market > 0 && self.chance(self.faults.market) {
            return self.deal(at);
        }
        let name = format!("user{}at{at}", self.random(3));
        let profile = Profile { username: name.clone(), ..Profile::default() };
        let actor = Actor::Person { account: name, profile };
        let channel = ChannelRef::Name("#sim".into());
        let intent = match self.random(12) {
            0 => Intent::LeaveChannel { channel, reason: "enough".into() },
            1 => Intent::UpdateChannel { channel, change: Change::Topic(format!("topic {}", self.said)) },
            2 => {
                let profile = Profile { username: format!("renamed{}", self.said), ..Profile::default() };
                Intent::UpdateProfile { profile }
            }
            roll => {
                let mut content = Content::text(format!("line {} of seed {}", self.said, self.seed));
                if at == 0 && roll == 3 {
                    let external_id = format!("$in{}", self.said / 2);
                    content.origin = Some(Origin { link: far_side::link(), external_id, said_at: self.now });
                }
                Intent::SendMessage { channel, content }
            }
        };
        self.submit(at, actor, intent);
    }

    /// Somebody issues tokens, offers some for another's, or solves what waits.
    fn deal(&mut self, at: usize) {
        let name = format!("dealer{at}");
        let profile = Profile { username: name.clone(), ..Profile::default() };
        let actor = Actor::Person { account: name, profile };
        let channel = ChannelRef::Name("#sim".into());
        let coin = |of: usize| Amount { quantity: 1, name: format!("coin{of}"), issuer: None };
        let other = (at + 1 + self.random(self.machines.len() as u64 - 1) as usize) % self.machines.len();
        let wish = match self.random(6) {
            0 => Wish::IssueToken { name: format!("coin{at}"), quantity: ISSUED },
            1..=3 => {
                let terms = Terms { lasts_ms: 3_600_000, ..Terms::default() };
                Wish::Swap { gives: coin(at), wants: coin(other), wants_in: None, terms }
            }
            _ => {
                return self.submit(at, actor, Intent::Solve { channel: Some(channel) });
            }
        };
        self.submit(at, actor, Intent::Market { channel, wish });
    }

    /// What people own, as each node sees it.
    pub fn holdings(&self) -> Vec<Vec<HoldingView>> {
        let nodes = self.machines.iter().filter_map(|machine| machine.node.as_ref());
        let holdings = |node: &Node| {
            let channel = node.channels().into_iter().find(|channel| channel.name == "#sim");
            channel.map(|channel| node.market_of(&channel.id).holdings).unwrap_or_default()
        };
        nodes.map(holdings).collect()
    }

    /// Whether an event counts, as node 0 sees it.
    pub fn counts(&self, event: &EventId) -> bool {
        let node = self.machines[0].node.as_ref().expect("up at rest");
        node.is_effective(event)
    }

    /// A stranger comes up and says what it overheard, bent or not, and what nobody ever said.
    fn disturb(&mut self, at: usize) {
        let stranger = NodeId([0x5a; 32]);
        self.feed(at, Input::PeerUp(stranger));
        for _ in 0..4 {
            let Some(which) = (self.overheard.len() as u64).checked_sub(1) else { break };
            let which = self.random(which + 1) as usize;
            let mut bytes = self.overheard[which].clone();
            for _ in 0..self.random(4) {
                let place = self.random(bytes.len() as u64) as usize;
                bytes[place] = self.random(256) as u8;
            }
            let cut = self.random(8) == 0;
            bytes.truncate(if cut { bytes.len() / 2 } else { bytes.len() });
            let after_ms = 1 + self.random(2_000);
            self.schedule(after_ms, Happening::Packet { to: at, from: stranger, bytes });
        }
        if self.random(2) == 0 {
            self.feed(at, Input::PeerDown(stranger));
        }
    }

    pub fn submit(&mut self, at: usize, actor: Actor, intent: Intent) {
        let known = match &intent {
            Intent::SendMessage { content, .. } => content.origin.as_ref().and_then(|origin| {
                let key = (origin.link.clone(), origin.external_id.clone());
                self.machines[at].disk.seen.get(&key).copied()
            }),
            _ => None,
        };
        let submission = Box::new(Submission { actor, intent, via: None, join_first: true, tag: 0 });
        self.feed(at, Input::Submit { ticket: self.said, submission, known });
    }

    pub fn step_until(&mut self, end: Timestamp) {
        while let Some(((at, _), _)) = self.agenda.first_key_value() {
            if *at > end {
                break;
            }
            let ((at, _), happening) = self.agenda.pop_first().unwrap();
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet { to, from, bytes } => {
                let sender = self.machines.iter().position(|machine| machine.setup.node_id() == from);
                if sender.is_none_or(|sender| self.neighbours(to).contains(&sender)) {
                    match Packet::decode(&bytes) {
                        Ok(packet) => self.feed(to, Input::Packet { from, packet }),
                        Err(_) => self.feed(to, Input::Garbage { count: 1 }),
                    }
                }
            }
            Happening::Connector { at } => self.run_connector(at),
            Happening::Restart { at } => {
                if self.machines[at].node.is_none() {
                    self.start(at);
                }
            }
            Happening::Tick { at } => {
                let now = self.now.plus_ms(self.machines[at].ahead_ms);
                let due = self.machines[at].node.as_ref().and_then(Node::next_timeout);
                if due.is_some_and(|due| due <= now) {
                    self.feed(at, Input::Timeout);
                }
                if self.machines[at].node.is_some() {
                    self.schedule(250, Happening::Tick { at });
                }
            }
        }
    }

    /// The Matrix connector sends what it holds, one by one, and forgets the rest after a failure.
    fn run_connector(&mut self, at: usize) {
        let Some(delivery) = self.machines[at].connector.pop_front() else { return };
        if self.machines[at].node.is_none() {
            return;
        }
        let answer_lost = self.chance(self.faults.far_side / 4);
        let outcome = self.far_side.deliver(&delivery, answer_lost);
        if matches!(outcome, multichat::node::Outcome::Retry { .. }) {
            self.machines[at].connector.clear();
        } else {
            let after_ms = 1 + self.random(20);
            self.schedule(after_ms, Happening::Connector { at });
        }
        self.feed(at, Input::Report { delivery: delivery.id, outcome });
    }

    /// One input, and all that follows from it; perhaps a crash before or after the commit.
    fn feed(&mut self, at: usize, input: Input) {
        let now = self.now.plus_ms(self.machines[at].ahead_ms);
        let Some(node) = self.machines[at].node.as_mut() else { return };
        let outputs = node.handle(now, input);
        if let Some(transcript) = &mut self.transcript {
            transcript.update(format!("{now:?} {at} {outputs:?}\n").as_bytes());
        }
        let durable = self.machines[at].disk.log.len() as u64;
        let commits = matches!(outputs.first(), Some(Output::Commit(_)));
        let fatal = commits && self.chance(self.faults.crash);
        if fatal && self.random(2) == 0 {
            self.crash(at, durable);
            return;
        }
        let mut outputs = outputs.into_iter().peekable();
        if let Some(Output::Commit(batch)) = outputs.next_if(|output| matches!(output, Output::Commit(_))) {
            let promised = batch.0.iter().any(|write| matches!(write, Write::Event(_)));
            self.machines[at].disk.commit(batch);
            if fatal && promised {
                self.crash(at, durable);
                return;
            }
        }
        for output in outputs {
            self.carry_out(at, output);
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::Commit(_) => panic!("seed {}: a commit after an effect", self.seed),
            Output::Reply { result, .. } => {
                if let Ok(receipt) = result {
                    self.promised.extend(receipt.event.map(|event| (event, at)));
                }
            }
            Output::Deliver { door: Door::Listener, delivery } => {
                let session = self.session_of[at];
                // News of links are of this node alone and of no event.
                if !matches!(delivery.news.what, What::Linked(_) | What::Unlinked(_)) {
                    self.sessions[session].shown.push(delivery.news.event);
                }
                if matches!(delivery.news.what, What::Message(_)) {
                    self.sessions[session].messages.insert(delivery.news.event);
                }
            }
            Output::Deliver { delivery, .. } => self.hand_to_connector(at, *delivery),
            // The listener's own: a message became void, or counts again.
            Output::DeliverStored { link: None, position, .. } => {
                let (now, machine) = (self.clock(at), &self.machines[at]);
                let stored = &machine.disk.log[&position];
                let news = machine.node.as_ref().and_then(|node| node.news_of(now, stored));
                let (event, messages) = (stored.id, &mut self.sessions[self.session_of[at]].messages);
                match news.map(|news| news.what) {
                    Some(What::Message(_)) => messages.insert(event),
                    _ => messages.remove(&event),
                };
            }
            Output::DeliverStored { id, link, uncertain, position, .. } => {
                let now = self.clock(at);
                let machine = &self.machines[at];
                let stored = machine.disk.log.get(&position).expect("what is delivered was stored");
                let Some(node) = &machine.node else { return };
                match node.delivery_of(now, link.as_ref(), stored) {
                    Ok(news) => self.hand_to_connector(at, Delivery { id, link, uncertain, news }),
                    Err(lapse) => self.feed(at, Input::Lapsed { delivery: id, lapse }),
                }
            }
            Output::SendEvents { to, positions, more } => {
                let (now, machine) = (self.clock(at), &self.machines[at]);
                let Some(node) = &machine.node else { return };
                let stored = positions.iter().filter_map(|position| machine.disk.log.get(position));
                let parcels: Vec<_> = stored.filter_map(|stored| node.parcel_of(now, stored)).collect();
                for packet in Packet::pack(parcels, limits::PACKET_BYTES, more) {
                    self.transmit(at, to, &packet);
                }
            }
            Output::Send { to, packet } => self.transmit(at, to, &packet),
            Output::Remembered { .. } => {}
            Output::GaveUp { reason, .. } => panic!("seed {}: gave up: {reason}", self.seed),
        }
    }

    fn hand_to_connector(&mut self, at: usize, delivery: Delivery) {
        if delivery.id == 0 {
            return;
        }
        if self.machines[at].connector.is_empty() {
            let after_ms = 1 + self.random(20);
            self.schedule(after_ms, Happening::Connector { at });
        }
        self.machines[at].connector.push_back(delivery);
    }

    fn transmit(&mut self, from: usize, to: Destination, packet: &Packet) {
        let id = self.machines[from].setup.node_id();
        let targets: Vec<usize> = self
            .neighbours(from)
            .into_iter()
            .filter(|other| match to {
                Destination::Domain => true,
                Destination::Peer(peer) => self.machines[*other].setup.node_id() == peer,
            })
            .collect();
        for target in targets {
            let copies = if self.chance(self.faults.loss) {
                0
            } else {
                1 + u64::from(self.chance(self.faults.duplication))
            };
            for _ in 0..copies {
                let after_ms = 1 + self.random(200);
                let bytes = if self.faults.strip > 0 && self.chance(self.faults.strip) {
                    self.stripped += 1;
                    stripped(packet).encode()
                } else {
                    packet.encode()
                };
                self.overheard.push_back(bytes.clone());
                if self.overheard.len() > OVERHEARD {
                    self.overheard.pop_front();
                }
                self.schedule(after_ms, Happening::Packet { to: target, from: id, bytes });
            }
        }
    }

    pub fn roots(&self) -> Vec<Digest> {
        self.machines.iter().filter_map(|machine| machine.node.as_ref()).map(Node::state_root).collect()
    }

    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.machines.iter().map(|machine| &machine.disk)
    }

    /// Messages of node 0's log that did not come from the far side itself, in order.
    pub fn messages_for_far_side(&self) -> Vec<EventId> {
        let machine = &self.machines[0];
        let node = machine.node.as_ref().expect("up at rest");
        let news = machine
            .disk
            .log
            .values()
            .filter(|stored| stored.visible)
            .filter_map(|stored| node.news_of(self.clock(0), stored));
        news.filter(|news| match &news.what {
            What::Message(content) => {
                content.origin.as_ref().is_none_or(|origin| origin.link != far_side::link())
            }
            _ => false,
        })
        .map(|news| news.event)
        .collect()
    }

    /// From here on the run is written down.
    pub fn record(&mut self) {
        self.transcript = Some(blake3::Hasher::new());
    }

    pub fn transcript(&self) -> Digest {
        let transcript = self.transcript.as_ref().expect("it was recorded");
        Digest(*transcript.finalize().as_bytes())
    }

    /// Every visible event of a node's log in a stretch of positions, in order.
    pub fn visible(&self, at: usize, from: u64, to: Option<u64>) -> Vec<EventId> {
        let log = self.machines[at].disk.log.range(from + 1..);
        let log = log.take_while(|(position, _)| to.is_none_or(|to| **position <= to));
        log.filter(|(_, stored)| stored.visible).map(|(_, stored)| stored.id).collect()
    }

    /// What peers said that nodes would not have.
    pub fn refusals(&self) -> u64 {
        let nodes = self.machines.iter().filter_map(|machine| machine.node.as_ref());
        nodes.flat_map(|node| node.refused().values()).sum()
    }
}

/// The same without any text.
fn stripped(packet: &Packet) -> Packet {
    let mut packet = packet.clone();
    if let Packet::Events { parcels, .. } = &mut packet {
        parcels.iter_mut().for_each(|parcel| parcel.payload = None);
    }
    packet
}

//! The domains this node is in: who is a member of which, each one's topology, and what crosses from one
//! into another. Owns that bookkeeping; connections and packets are the shell's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p::gossipsub::TopicHash;

use super::membership::Membership;
use super::swarm::topic;
use crate::base::config::Topology;
use crate::base::{NodeId, Timestamp};
use crate::overlay::Domain;
use crate::overlay::admission::{Claim, Gate, Proof, Refusal, Reply, Scene};
use crate::overlay::crossing::Crossing;
use crate::overlay::domain::{DomainReport, RefusalReport};
use crate::overlay::gossip::Neighbour;
use crate::overlay::topology::Contact;

/// Refusals remembered for reports; beyond it the oldest are forgotten.
const REFUSALS: usize = 16;

/// All of them, by index.
pub struct Domains {
    own: NodeId,
    joined: Vec<Joined>,
    /// What came by one and goes on into the others.
    pub crossing: Crossing,
}

/// One domain.
pub struct Joined {
    pub domain: Domain,
    gate: Gate,
    /// A topology of ours; `None` where gossipsub is spoken.
    pub membership: Option<Membership>,
    topic: TopicHash,
    connected: BTreeMap<NodeId, Standing>,
    subscribed: BTreeSet<NodeId>,
    refusals: VecDeque<RefusalReport>,
    /// Broadcasts that came, and those that this node carried here from another domain.
    pub arrived: u64,
    pub carried: u64,
}

/// How a connected node and this one stand to each other in a domain.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// We let it in.
    let_in: bool,
    /// It lets us in.
    welcome: bool,
    /// Both, and the topology knows.
    up: bool,
}

impl Domains {
    /// Nobody connected yet.
    pub fn new(own: &Contact, domains: Vec<(Domain, Gate)>, seed: [u8; 32]) -> Self {
        let join = |(domain, gate): (Domain, Gate)| {
            let chance = *blake3::keyed_hash(&seed, domain.name().as_bytes()).as_bytes();
            let topic = topic(&domain).hash();
            Joined {
                membership: Membership::new(&domain, own.clone(), chance),
                topic,
                domain,
                gate,
                connected: BTreeMap::new(),
                subscribed: BTreeSet::new(),
                refusals: VecDeque::new(),
                arrived: 0,
                carried: 0,
            }
        };
        let crossing = Crossing::new(blake3::derive_key("multichat 2026-11 chance at a gateway", &seed));
        Self { own: own.node, joined: domains.into_iter().map(join).collect(), crossing }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.joined.len()
    }

    /// One of them.
    pub fn get(&mut self, index: usize) -> Option<&mut Joined> {
        self.joined.get_mut(index)
    }

    /// The domain of a gossipsub topic.
    pub fn of_topic(&self, topic: &TopicHash) -> Option<usize> {
        self.joined.iter().position(|joined| joined.membership.is_none() && joined.topic == *topic)
    }

    /// The domain whose tag a frame bears.
    pub fn of_tag(&self, tag: &[u8]) -> Option<usize> {
        self.joined.iter().position(|joined| joined.membership.is_some() && joined.domain.tag() == tag)
    }

    /// What this node says of itself.
    pub fn claims(&self) -> Vec<Claim> {
        self.joined.iter().map(|joined| joined.gate.claim().clone()).collect()
    }

    /// This node's proofs, for the domains that a node asks about.
    pub fn prove(&self, verifier: NodeId, nonce: [u8; 32], asked: &[Claim]) -> Reply {
        let scene = Scene { prover: self.own, verifier, nonce };
        let named = |joined: &&Joined| asked.iter().any(|claim| claim.name == joined.gate.claim().name);
        let prove = |joined: &Joined| (joined.gate.claim().clone(), joined.gate.prove(&scene));
        let welcomes = |joined: &&Joined| joined.connected.get(&verifier).is_some_and(|s| s.let_in);
        let name = |joined: &Joined| joined.gate.claim().name.clone();
        Reply::Am {
            proofs: self.joined.iter().filter(named).map(prove).collect(),
            welcome: self.joined.iter().filter(named).filter(welcomes).map(name).collect(),
        }
    }

    /// Judges a node's proofs: the verdict to send it, on each domain that both are in.
    pub fn judge(
        &mut self,
        prover: NodeId,
        nonce: [u8; 32],
        proofs: &[(Claim, Proof)],
        now: Timestamp,
    ) -> Vec<(String, Option<Refusal>)> {
        let scene = Scene { prover, verifier: self.own, nonce };
        let mut verdict = Vec::new();
        for (claim, proof) in proofs {
            let Some(joined) = self.joined.iter_mut().find(|j| j.gate.claim().name == claim.name) else {
                continue;
            };
            let refusal = joined.gate.admit(&scene, claim, proof, now).err();
            match refusal {
                None => joined.connected.entry(prover).or_default().let_in = true,
                Some(refusal) => {
                    joined.note(prover, false, refusal);
                }
            }
            verdict.push((claim.name.clone(), refusal));
        }
        verdict
    }

    /// Takes in a node's verdict on this one. Returns the refusals that are news.
    pub fn heard(&mut self, from: NodeId, verdict: Vec<(String, Option<Refusal>)>) -> Vec<(String, Refusal)> {
        let mut news = Vec::new();
        for (name, refusal) in verdict {
            let Some(joined) = self.joined.iter_mut().find(|j| j.gate.claim().name == name) else { continue };
            match refusal {
                None => joined.connected.entry(from).or_default().welcome = true,
                Some(refusal) if joined.note(from, true, refusal) => news.push((name, refusal)),
                Some(_) => {}
            }
        }
        news
    }

    /// A node that we let in speaks in a domain: so it lets us in, whether its word of that is here or not.
    /// Whether that makes sense.
    pub fn presume(&mut self, index: usize, node: NodeId) -> bool {
        let standing = self.joined.get_mut(index).and_then(|joined| joined.connected.get_mut(&node));
        standing.filter(|standing| standing.let_in).is_some_and(|standing| {
            standing.welcome = true;
            true
        })
    }

    /// The domains in which a node has become a member that is up, from now on.
    pub fn rising(&mut self, node: NodeId) -> Vec<usize> {
        let mut rising = Vec::new();
        for (index, joined) in self.joined.iter_mut().enumerate() {
            let Some(standing) = joined.connected.get_mut(&node) else { continue };
            if standing.let_in && standing.welcome && !standing.up {
                standing.up = true;
                rising.push(index);
            }
        }
        rising
    }

    /// A node's last connection is gone. The domains in which it was up.
    pub fn gone(&mut self, node: NodeId) -> Vec<usize> {
        let mut falling = Vec::new();
        for (index, joined) in self.joined.iter_mut().enumerate() {
            joined.subscribed.remove(&node);
            if joined.connected.remove(&node).is_some_and(|standing| standing.up) {
                falling.push(index);
            }
        }
        falling
    }

    /// Connections that no domain has had use for, for a while.
    pub fn surplus(&mut self, now: u64) -> Vec<NodeId> {
        let mut idle = BTreeSet::new();
        let mut busy = BTreeSet::new();
        for joined in &mut self.joined {
            let here: BTreeSet<NodeId> =
                joined.membership.as_mut().map(|m| m.surplus(now)).into_iter().flatten().collect();
            busy.extend(joined.members().filter(|node| !here.contains(node)));
            idle.extend(here);
        }
        idle.difference(&busy).copied().collect()
    }

    /// A node that somebody here wants to be connected with, whatever the topologies think.
    pub fn welcome(&mut self, node: NodeId) {
        self.joined.iter_mut().filter_map(|joined| joined.membership.as_mut()).for_each(|m| m.welcome(node));
    }

    /// Whether to be connected with a node. gossipsub is glad of everyone; a topology of ours says.
    pub fn wants(&self, node: Option<&NodeId>) -> bool {
        self.joined.iter().any(|joined| match (&joined.membership, node) {
            (None, _) => true,
            (Some(membership), Some(node)) => membership.wants(node),
            (Some(_), None) => false,
        })
    }

    /// When the next timer of a topology or of a crossing is due, in ms.
    pub fn next_timeout(&self) -> Option<u64> {
        let members = self.joined.iter().filter_map(|joined| joined.membership.as_ref()?.next_timeout());
        members.chain(self.crossing.next_timeout().map(|at| at.0)).min()
    }

    /// What is to be told of each.
    pub fn reports(&self) -> Vec<DomainReport> {
        self.joined.iter().map(Joined::report).collect()
    }
}

impl Joined {
    /// The nodes that are up in it.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.connected.iter().filter(|(_, standing)| standing.up).map(|(node, _)| *node)
    }

    /// Whether a node is up in it.
    pub fn has(&self, node: &NodeId) -> bool {
        self.connected.get(node).is_some_and(|standing| standing.up)
    }

    /// The members that are up, and whether their subscription has arrived, where gossipsub is spoken.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.members().map(|node| Neighbour { node, subscribed: self.subscribed.contains(&node) }).collect()
    }

    /// A node's subscription came or went.
    pub fn subscribed(&mut self, node: NodeId, is: bool) {
        if is {
            self.subscribed.insert(node);
        } else {
            self.subscribed.remove(&node);
        }
    }

    /// The topic, where gossipsub is spoken.
    pub fn topic(&self) -> &TopicHash {
        &self.topic
    }

    /// Notes a refusal. Whether it is news.
    fn note(&mut self, node: NodeId, of_us: bool, refusal: Refusal) -> bool {
        let report = RefusalReport { node: node.to_string(), of_us, reason: refusal.to_string() };
        if self.refusals.contains(&report) {
            return false;
        }
        self.refusals.retain(|known| known.node != report.node || known.of_us != of_us);
        self.refusals.push_back(report);
        if self.refusals.len() > REFUSALS {
            self.refusals.pop_front();
        }
        true
    }

    fn report(&self) -> DomainReport {
        let neighbours = match &self.membership {
            Some(membership) => membership.neighbours(),
            None => self.subscribed.iter().filter(|node| self.has(node)).count(),
        };
        DomainReport {
            name: self.domain.name().to_owned(),
            topology: self.domain.topology(),
            admission: self.domain.admission(),
            founder: self.gate.is_founder(),
            members: self.members().map(|node| node.to_string()).collect(),
            neighbours,
            arrived: self.arrived,
            carried: self.carried,
            refusals: self.refusals.iter().cloned().collect(),
        }
    }
}

/// Whether a domain speaks gossipsub.
pub fn speaks_gossipsub(domain: &Domain) -> bool {
    domain.topology() == Topology::Gossip
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Admission, DomainConfig};
    use crate::base::key::SecretKey;

    fn id(n: u8) -> NodeId {
        NodeId(SecretKey::from_seed([n; 32]).public().0)
    }

    fn domains(own: u8, psk: &str) -> Domains {
        let open = DomainConfig::open("public", Topology::Gossip);
        let team = DomainConfig {
            admission: Admission::Psk,
            psk: Some(psk.into()),
            ..DomainConfig::open("team", Topology::Tree)
        };
        let both = [open, team].map(|c| (Domain::new(&c).unwrap(), Gate::new(&c, id(own)).unwrap()));
        Domains::new(&Contact::bare(id(own)), both.into(), [own; 32])
    }

    /// One asks, the other proves, one judges, the other hears.
    fn meet(one: &mut Domains, other: &mut Domains) -> Vec<(String, Refusal)> {
        let nonce = [7; 32];
        let Reply::Am { proofs, .. } = other.prove(one.own, nonce, &one.claims()) else { panic!("proofs") };
        let verdict = one.judge(other.own, nonce, &proofs, Timestamp(0));
        other.heard(one.own, verdict)
    }

    #[test]
    fn a_node_is_up_in_a_domain_once_both_let_each_other_in() {
        let (mut one, mut two) = (domains(1, "a key of the team"), domains(2, "a key of the team"));
        assert_eq!(meet(&mut one, &mut two), []);
        assert_eq!(one.rising(id(2)), Vec::<usize>::new(), "it has not said that it lets us in");
        assert_eq!(meet(&mut two, &mut one), []);
        assert_eq!(one.rising(id(2)), [0, 1]);
        assert_eq!(one.rising(id(2)), Vec::<usize>::new(), "once");
        assert!(one.joined[1].has(&id(2)));
        assert_eq!(one.gone(id(2)), [0, 1]);
    }

    #[test]
    fn a_node_that_was_restarted_unnoticed_is_welcome_as_it_was() {
        let (mut one, mut two) = (domains(1, "a key of the team"), domains(2, "a key of the team"));
        meet(&mut one, &mut two);
        meet(&mut two, &mut one);
        assert_eq!(one.rising(id(2)), [0, 1]);
        let mut two = domains(2, "a key of the team");
        let Reply::Am { proofs, welcome } = one.prove(id(2), [8; 32], &two.claims()) else {
            panic!("proofs")
        };
        two.judge(id(1), [8; 32], &proofs, Timestamp(0));
        two.heard(id(1), welcome.into_iter().map(|name| (name, None)).collect());
        assert_eq!(two.rising(id(1)), [0, 1]);
    }

    #[test]
    fn whoever_speaks_is_presumed_to_welcome_us_if_we_let_it_in() {
        let (mut one, mut two) = (domains(1, "a key of the team"), domains(2, "another key, sadly"));
        let refused = meet(&mut one, &mut two);
        assert_eq!(refused, [("team".to_owned(), Refusal::WrongKey)]);
        assert_eq!(meet(&mut one, &mut two), [], "no news");
        assert!(one.presume(0, id(2)) && !one.presume(1, id(2)));
        assert_eq!(one.rising(id(2)), [0]);
        let reports = two.reports();
        assert_eq!((reports[1].name.as_str(), reports[1].refusals.len()), ("team", 1));
        assert!(reports[1].refusals[0].of_us && reports[1].refusals[0].reason.contains("check `psk`"));
    }
}

//! One node's membership in one domain: its topology, and the trials by which members watch each other
//! (see [`health`](super::health)). Owns the trials and what they came to; never decides for a domain.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;
use super::health::{Meter, Tally};
use super::topology::{Contact, Frame, Input, Message, MessageId, Output, Payload, Topology};
use crate::base::{NodeId, Timestamp};

/// How long a trial may take, the link included.
const TRIAL_MS: u64 = 8_000;
/// How old a payload is that a member may be challenged for.
const SETTLED_MS: u64 = 10_000;
/// Failures in a row after which a member is shunned.
const STRIKES: u32 = 2;
/// Below this fraction of trials passed, trials come three times as often.
const WORRY: f64 = 0.85;
/// Members with failures that are remembered.
const SUSPECTS: usize = 64;
/// How long a member counts as a good witness after it carried a mark itself.
const PROVEN_MS: u64 = 120_000;
/// Marks on their way for others; a further one is not carried.
const ERRANDS: usize = 64;

/// A topology under watch. The same contract as a topology.
pub struct Member {
    own: NodeId,
    topology: Box<dyn Topology>,
    chance: Chance,
    /// How often another member is put on trial; `None` for never.
    trial_ms: Option<u64>,
    trial_at: Timestamp,
    trials: BTreeMap<u64, Trial>,
    errands: BTreeMap<NodeId, Errand>,
    suspects: BTreeMap<NodeId, (Contact, u32)>,
    /// Who carried a mark of late: asked to bear witness before others, because a hostile witness makes an
    /// honest member fail.
    proven: BTreeMap<NodeId, Timestamp>,
    links: BTreeSet<NodeId>,
    /// Nodes that the topology wants a link with.
    wanted: BTreeSet<NodeId>,
    meter: Meter,
}

/// What is left to be shown; passed when nothing is.
struct Trial {
    subject: Contact,
    /// It shall show that it has this payload.
    serve: Option<MessageId>,
    /// It shall carry a mark to this neighbour of ours.
    carry: Option<Contact>,
    /// Who was to bear witness, if anyone.
    witness: Option<NodeId>,
    /// Drawn as a sample; another look at a suspect says nothing about the domain.
    sampled: bool,
    begun: bool,
    until: Timestamp,
}

/// A mark that this node carries for somebody.
struct Errand {
    nonce: u64,
    witness_for: NodeId,
    until: Timestamp,
}

impl Member {
    /// Wraps a topology.
    pub fn new(
        own: NodeId,
        topology: Box<dyn Topology>,
        trial_ms: Option<u64>,
        seed: [u8; 32],
        now: Timestamp,
    ) -> Self {
        let mut chance = Chance::new(blake3::derive_key("multichat 2026-11 trials", &seed));
        let trial_at = now.plus_ms(trial_ms.map_or(0, |ms| chance.about(ms)));
        Self {
            own,
            topology,
            chance,
            trial_ms,
            trial_at,
            trials: BTreeMap::new(),
            errands: BTreeMap::new(),
            suspects: BTreeMap::new(),
            proven: BTreeMap::new(),
            links: BTreeSet::new(),
            wanted: BTreeSet::new(),
            meter: Meter::default(),
        }
    }

    /// What recent trials came to.
    pub fn tally(&self, now: Timestamp) -> Tally {
        self.meter.tally(now)
    }

    /// Links there are.
    pub fn links(&self) -> &BTreeSet<NodeId> {
        &self.links
    }

    fn on_frame(&mut self, now: Timestamp, from: NodeId, frame: Frame, out: &mut Vec<Output>) {
        let is_own = |message: &Message| {
            matches!(
                message,
                Message::Challenge { .. }
                    | Message::Proof { .. }
                    | Message::Relay { .. }
                    | Message::Mark { .. }
                    | Message::Marked { .. }
            )
        };
        if !frame.0.iter().any(is_own) {
            let inner = self.topology.handle(now, Input::Frame { from, frame });
            return self.pass(inner, out);
        }
        let (own, rest): (Vec<Message>, Vec<Message>) = frame.0.into_iter().partition(is_own);
        own.into_iter().for_each(|message| self.on_message(now, from, message, out));
        if !rest.is_empty() {
            let inner = self.topology.handle(now, Input::Frame { from, frame: Frame(rest) });
            self.pass(inner, out);
        }
    }

    fn on_message(&mut self, now: Timestamp, from: NodeId, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Challenge { nonce, id } => {
                let digest = self.topology.payload(&id).map_or([0; 16], |payload| proof(nonce, &payload));
                out.push(send(from, Message::Proof { nonce, digest }));
            }
            Message::Proof { nonce, digest } => {
                let trial = self.trials.get_mut(&nonce).filter(|trial| trial.subject.node == from);
                let Some(trial) = trial else { return };
                let Some(id) = trial.serve.take() else { return };
                let carries = trial.carry.is_some();
                // What we have forgotten ourselves proves nothing either way.
                match self.topology.payload(&id).map(|payload| proof(nonce, &payload) == digest) {
                    Some(false) => self.end(now, nonce, Some(false), out),
                    Some(true) if !carries => self.end(now, nonce, Some(true), out),
                    None if !carries => self.end(now, nonce, None, out),
                    _ => {}
                }
            }
            Message::Relay { nonce, to, witness_for } => {
                let node = to.node;
                if self.links.contains(&node) {
                    out.push(send(node, Message::Mark { nonce, witness_for }));
                } else if self.errands.len() < ERRANDS && node != self.own {
                    let until = now.plus_ms(TRIAL_MS);
                    self.errands.insert(node, Errand { nonce, witness_for, until });
                    out.push(Output::Dial(to));
                }
            }
            Message::Mark { nonce, witness_for } if self.links.contains(&witness_for) => {
                out.push(send(witness_for, Message::Marked { nonce }));
            }
            Message::Marked { nonce } => {
                let Some(trial) = self.trials.get_mut(&nonce) else { return };
                if trial.carry.as_ref().is_some_and(|witness| witness.node == from) {
                    trial.carry = None;
                    if trial.serve.is_none() {
                        self.end(now, nonce, Some(true), out);
                    }
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let suspects: Vec<Contact> = self.suspects.values().map(|(contact, _)| contact.clone()).collect();
        let known = self.topology.known();
        let sampled = suspects.is_empty() || self.chance.happens(0.5);
        let among = if sampled { &known } else { &suspects };
        let Some(subject) = self.chance.pick(among).cloned() else { return };
        let linked = |contact: &&Contact| self.links.contains(&contact.node) && contact.node != subject.node;
        let neighbours: Vec<&Contact> = known.iter().filter(linked).collect();
        let proven: Vec<&Contact> = neighbours
            .iter()
            .filter(|contact| self.proven.get(&contact.node).is_some_and(|at| now.since_ms(*at) < PROVEN_MS))
            .copied()
            .collect();
        let witnesses = if proven.is_empty() { &neighbours } else { &proven };
        let carry = self.chance.pick(witnesses).map(|contact| (*contact).clone());
        let serve = self.topology.settled(now, SETTLED_MS);
        if carry.is_none() && serve.is_none() {
            return;
        }
        let nonce = self.chance.bits();
        let there = self.links.contains(&subject.node);
        if !there {
            out.push(Output::Dial(subject.clone()));
        }
        let until = now.plus_ms(TRIAL_MS);
        let witness = carry.as_ref().map(|contact| contact.node);
        let trial = Trial { subject: subject.clone(), serve, carry, witness, sampled, begun: false, until };
        self.trials.insert(nonce, trial);
        if there {
            self.pose(subject.node, out);
        }
    }

    /// Sends what was waiting for a link with this node.
    fn pose(&mut self, node: NodeId, out: &mut Vec<Output>) {
        for (nonce, trial) in &mut self.trials {
            if trial.subject.node != node || std::mem::replace(&mut trial.begun, true) {
                continue;
            }
            let mut messages = Vec::new();
            if let Some(id) = trial.serve {
                messages.push(Message::Challenge { nonce: *nonce, id });
            }
            if let Some(to) = trial.carry.clone() {
                messages.push(Message::Relay { nonce: *nonce, to, witness_for: self.own });
            }
            out.push(Output::Send { to: node, frame: Frame(messages) });
        }
        if let Some(errand) = self.errands.remove(&node) {
            let mark = Message::Mark { nonce: errand.nonce, witness_for: errand.witness_for };
            out.push(send(node, mark));
            self.release(node, out);
        }
    }

    /// A trial is over: passed, failed, or (`None`) without a result.
    fn end(&mut self, now: Timestamp, nonce: u64, passed: Option<bool>, out: &mut Vec<Output>) {
        let Some(trial) = self.trials.remove(&nonce) else { return };
        let node = trial.subject.node;
        if let Some(passed) = passed.filter(|_| trial.sampled) {
            self.meter.record(now, passed);
        }
        match (passed, trial.witness) {
            (Some(true), Some(_)) => {
                self.proven.insert(node, now);
            }
            // One of the two is to blame.
            (Some(false), Some(witness)) if trial.carry.is_some() => {
                self.proven.remove(&node);
                self.proven.remove(&witness);
            }
            _ => {}
        }
        self.proven.retain(|_, at| now.since_ms(*at) < PROVEN_MS);
        match passed {
            Some(true) => {
                self.suspects.remove(&node);
            }
            Some(false) => {
                let strikes = 1 + self.suspects.get(&node).map_or(0, |(_, strikes)| *strikes);
                if self.suspects.len() < SUSPECTS || strikes > 1 {
                    self.suspects.insert(node, (trial.subject, strikes));
                }
                if strikes >= STRIKES {
                    self.suspects.remove(&node);
                    let inner = self.topology.shun(now, node);
                    self.pass(inner, out);
                }
            }
            None => {}
        }
        self.release(node, out);
    }

    /// Lets a link go that was made for a trial or an errand alone.
    fn release(&self, node: NodeId, out: &mut Vec<Output>) {
        let on_trial = self.trials.values().any(|trial| trial.subject.node == node);
        let of_use = self.wanted.contains(&node) || self.topology.neighbours().contains(&node);
        if self.links.contains(&node) && !on_trial && !of_use {
            out.push(Output::Hang(node));
        }
    }

    /// Hands on what the topology wants, and notes which links it wants.
    fn pass(&mut self, inner: Vec<Output>, out: &mut Vec<Output>) {
        for output in inner {
            match &output {
                Output::Dial(contact) => {
                    self.wanted.insert(contact.node);
                }
                Output::Hang(node) => {
                    self.wanted.remove(node);
                }
                _ => {}
            }
            out.push(output);
        }
    }

    fn on_timeout(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let late: Vec<(u64, bool)> = self
            .trials
            .iter()
            .filter(|(_, trial)| trial.until <= now)
            .map(|(nonce, trial)| (*nonce, trial.begun))
            .collect();
        for (nonce, begun) in late {
            self.end(now, nonce, begun.then_some(false), out);
        }
        self.errands.retain(|_, errand| errand.until > now);
        if let Some(ms) = self.trial_ms
            && self.trial_at <= now
        {
            // Where trials fail, more of them: the figure shall be known well when it matters.
            let worried = self.meter.tally(now).fraction().is_some_and(|fraction| fraction < WORRY);
            self.trial_at = now.plus_ms(self.chance.about(if worried { ms / 3 } else { ms }));
            self.begin(now, out);
        }
    }
}

impl Topology for Member {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Frame { from, frame } => self.on_frame(now, from, frame, &mut out),
            Input::LinkUp(node) => {
                self.links.insert(node);
                let inner = self.topology.handle(now, Input::LinkUp(node));
                self.pass(inner, &mut out);
                self.pose(node, &mut out);
            }
            Input::LinkDown(node) => {
                self.links.remove(&node);
                self.wanted.remove(&node);
                let inner = self.topology.handle(now, Input::LinkDown(node));
                self.pass(inner, &mut out);
            }
            Input::DialFailed(node) => {
                self.wanted.remove(&node);
                self.errands.remove(&node);
                let absent: Vec<u64> = self
                    .trials
                    .iter()
                    .filter(|(_, trial)| trial.subject.node == node)
                    .map(|(nonce, _)| *nonce)
                    .collect();
                for nonce in absent {
                    self.end(now, nonce, None, &mut out);
                }
                let inner = self.topology.handle(now, Input::DialFailed(node));
                self.pass(inner, &mut out);
            }
            other => {
                let inner = self.topology.handle(now, other);
                self.pass(inner, &mut out);
            }
        }
        self.on_timeout(now, &mut out);
        out
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let trial = self.trial_ms.map(|_| self.trial_at);
        let late = self.trials.values().map(|trial| trial.until).min();
        [self.topology.next_timeout(), trial, late].into_iter().flatten().min()
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.topology.neighbours()
    }

    fn known(&self) -> Vec<Contact> {
        self.topology.known()
    }

    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output> {
        self.topology.shun(now, node)
    }

    fn has(&self, id: &MessageId) -> bool {
        self.topology.has(id)
    }

    fn payload(&self, id: &MessageId) -> Option<Payload> {
        self.topology.payload(id)
    }

    fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId> {
        self.topology.settled(now, age_ms)
    }
}

fn send(to: NodeId, message: Message) -> Output {
    Output::Send { to, frame: Frame(vec![message]) }
}

fn proof(nonce: u64, payload: &Payload) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 proof of a payload");
    hasher.update(&nonce.to_le_bytes());
    hasher.update(payload.bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

//! Convergence: the signed event DAG of each channel, its lanes, what makes an event valid, and
//! how two replicas find out what they lack. It never knows libp2p or SQL.
//!
//! `valid` says what may become part of a channel, for ever, from its bytes and its past alone.
//! `authority` says which of that is effective, `resolve` what the effective events add up to: both
//! are functions of the set of events, so replicas that hold the same set agree, whatever came first.

mod above;
#[cfg(test)]
mod across;
#[cfg(test)]
mod attacks;
mod authority;
mod deal;
pub mod event;
mod events;
#[cfg(test)]
mod exchange;
mod lane;
#[cfg(test)]
mod model;
mod packet;
mod past;
mod pending;
#[cfg(test)]
mod policies;
mod reconcile;
mod register;
mod resolve;
#[cfg(test)]
pub(crate) mod sample;
mod settle;
mod valid;
mod walk;
#[cfg(test)]
mod workspaces;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use authority::{Authorities, Authority, Item, Power, Settled};
pub use deal::{Replicas, Turned, decide};
pub use event::{Event, Header, Malformed, Parcel, PayloadRef};
use events::{Entry, Events};
use lane::Chain;
pub use lane::Lane;
pub use packet::{Offer, Packet};
use past::{Known, Pasts};
pub use pending::{Held, Pending};
pub use reconcile::{Extent, Reach};
pub use resolve::State;
pub use valid::Invalid;

use crate::base::{self, ChannelId, Digest, EventId, Identity, Timestamp, limits};
use crate::chat::access::Role;
use crate::chat::act::{Act, Standing};
use crate::chat::channel::Quota;
use crate::chat::flow::Flow;
use crate::chat::message::{Envelope, Relation};
use crate::chat::permissions::{Permission, Permissions};
use crate::chat::policy::Policy;
use crate::chat::view::Member;
use valid::{Place, Step, Trust};

/// One channel: every valid event this node holds of it, and what follows from them.
pub struct Replica {
    id: ChannelId,
    events: Events,
    /// Those that nothing came after, with their numbers.
    heads: BTreeMap<EventId, u32>,
    /// Lanes, grants and revocations.
    authorities: Authorities,
    pasts: Pasts,
    /// What goes on after a fork, by the chain's first event.
    branches: BTreeMap<EventId, Chain>,
    /// The lanes of each device: an author's own is looked for with every message.
    devices: BTreeMap<Identity, Vec<EventId>>,
    state: State,
    settlements: settle::Settlements,
    /// What messages say of how long they last and where they may go, where they say something.
    envelopes: BTreeMap<EventId, Envelope>,
    fingerprint: reconcile::Fingerprint,
    /// For each lane that was forked two events of one place, the first such: the proof.
    equivocations: BTreeMap<EventId, (EventId, EventId)>,
    /// How often something was decided here that channels of a workspace depend on.
    rulings: u64,
}

/// Whose word there is for an event: who verified it, and the replica of the workspace that it cites.
#[derive(Clone, Copy)]
struct Backing<'a> {
    trust: Trust,
    above: Option<&'a Replica>,
}

/// What an event is, as far as others relate to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EventKind {
    Words,
    Edit,
    Reaction,
    Other,
}

impl EventKind {
    fn of(act: &Act) -> Self {
        match act {
            Act::SendMessage(envelope) => match envelope.relation {
                Some(Relation::Edit(_)) => Self::Edit,
                Some(Relation::Reaction(_)) => Self::Reaction,
                _ => Self::Words,
            },
            _ => Self::Other,
        }
    }
}

/// What became of an event that was offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is part of the channel now.
    Accepted(Effect),
    /// It was part of the channel already.
    Known,
    /// Its past is not complete: these are missing.
    Waiting(Vec<EventId>),
    /// It can never be part of the channel.
    Refused(Invalid),
}

/// What an accepted event changed, as far as doors are concerned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Whether people should see it: a second lane of a member changes nothing for them, and what is
    /// void stays out.
    pub visible: bool,
    /// The author's profile before, where the event gives another.
    pub profile_before: Option<crate::chat::profile::Profile>,
    /// Whom a grant or revocation is about, as they were before.
    pub subject_before: Option<Member>,
    /// Messages that became void or count again, with their places in the log, ascending: of each lane the
    /// newest `limits::FLIPS`.
    pub flips: Vec<(EventId, u64)>,
    /// Whether it decided something that the channels of a workspace depend on.
    pub rules: bool,
}

/// Why a channel cannot be founded, or not yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unfounded {
    /// These events of its workspace are missing, or the workspace itself, by its founding.
    Waiting(Vec<EventId>),
    /// It never can.
    Refused(Invalid),
}

impl Unfounded {
    /// What it means for whoever sent it.
    pub fn kind(&self) -> base::Kind {
        match self {
            Self::Waiting(_) => base::Kind::Retry,
            Self::Refused(invalid) => invalid.kind(),
        }
    }
}

impl fmt::Display for Unfounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(_) => f.write_str("the channel's workspace is not here, or not all of it"),
            Self::Refused(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for Unfounded {}

impl Replica {
    /// The replica that a channel's first event makes, at the given place of the node's log.
    ///
    /// # Errors
    /// [`Invalid`] if the event is not a valid first event.
    pub fn found(event: &Event, position: u64) -> Result<(Self, Effect), Invalid> {
        Self::found_under(event, position, None).map_err(|unfounded| match unfounded {
            Unfounded::Waiting(_) => Invalid::Rule("a channel of a workspace is founded there"),
            Unfounded::Refused(invalid) => invalid,
        })
    }

    /// The same of a channel that may be part of a workspace, whose replica is `above`.
    ///
    /// # Errors
    /// [`Unfounded`] if the event is not a valid first event, or cites what is not there.
    pub fn found_under(
        event: &Event,
        position: u64,
        above: Option<&Self>,
    ) -> Result<(Self, Effect), Unfounded> {
        Self::found_with(event, position, Backing { trust: Trust::Nobody, above })
    }

    fn found_with(event: &Event, position: u64, backing: Backing<'_>) -> Result<(Self, Effect), Unfounded> {
        let Act::CreateChannel { ancestry, .. } = &event.header.act else {
            let rule = "a channel begins with the event that creates it";
            return Err(Unfounded::Refused(Invalid::Rule(rule)));
        };
        let missing = Self::missing_above(&event.header.act, backing.above);
        if !missing.is_empty() {
            return Err(Unfounded::Waiting(missing));
        }
        let mut replica = Self {
            id: event.channel(),
            events: Events::default(),
            heads: BTreeMap::new(),
            authorities: Authorities::default(),
            pasts: Pasts::default(),
            branches: BTreeMap::new(),
            devices: BTreeMap::new(),
            state: State::default(),
            settlements: Default::default(),
            envelopes: BTreeMap::new(),
            fingerprint: Default::default(),
            equivocations: BTreeMap::new(),
            rulings: 0,
        };
        replica.authorities.above.home = ancestry.workspace;
        let step = replica.validate(event, &[], backing).map_err(Unfounded::Refused)?;
        if let Some(above) = backing.above {
            replica.refresh(above);
        }
        let effect = replica.apply(event, (step, backing), (&[], position));
        Ok((replica, effect))
    }

    /// Takes an event in if it is valid. Its signature must have been verified.
    pub fn admit(&mut self, event: &Event, position: u64) -> Admission {
        self.admit_under(event, position, None)
    }

    /// The same of an event that may cite a workspace (`Act::anchor`), whose replica is `above`.
    pub fn admit_under(&mut self, event: &Event, position: u64, above: Option<&Self>) -> Admission {
        self.admit_with(event, position, Backing { trust: Trust::Nobody, above })
    }

    /// The replica that the first event of a channel makes, read back from this node's own log.
    ///
    /// # Errors
    /// [`Unfounded`] if the log is damaged.
    pub fn refound(event: &Event, position: u64, above: Option<&Self>) -> Result<Self, Unfounded> {
        let backing = Backing { trust: Trust::OwnLog, above };
        Self::found_with(event, position, backing).map(|(replica, _)| replica)
    }

    /// Takes back in what this node's own log holds: the rules of the history are checked, which finds a
    /// damaged log; logics and signatures were before it was written.
    pub fn readmit(&mut self, event: &Event, position: u64, above: Option<&Self>) -> Admission {
        self.admit_with(event, position, Backing { trust: Trust::OwnLog, above })
    }

    fn admit_with(&mut self, event: &Event, position: u64, backing: Backing<'_>) -> Admission {
        if self.events.contains(&event.id()) {
            return Admission::Known;
        }
        let mut past = Vec::with_capacity(event.header.deps.len() + 2);
        let mut missing = Vec::new();
        for parent in parents(&event.header) {
            match self.heads.get(&parent).copied().or_else(|| self.events.number(&parent)) {
                Some(number) => past.push(number),
                None => missing.push(parent),
            }
        }
        if !missing.is_empty() {
            return Admission::Waiting(missing);
        }
        let missing = Self::missing_above(&event.header.act, backing.above);
        if !missing.is_empty() {
            return Admission::Waiting(missing);
        }
        match self.validate(event, &past, backing) {
            Ok(step) => {
                let mut flips = backing.above.map(|above| self.refresh(above)).unwrap_or_default();
                let mut effect = self.apply(event, (step, backing), (&past, position));
                flips.append(&mut effect.flips);
                Admission::Accepted(Effect { flips, ..effect })
            }
            Err(invalid) => Admission::Refused(invalid),
        }
    }

    /// Takes a valid event in. What doors want to know of it is worked out for what is new.
    fn apply(
        &mut self,
        event: &Event,
        (mut step, backing): (Step, Backing<'_>),
        (parents, position): (&[u32], u64),
    ) -> Effect {
        let id = event.id();
        let (author, rank) = (step.identity, step.rank);
        let sees = self.state.seen(&author, &event.header.act, |wanted| self.in_past(wanted, parents));
        let past = self.known_to(parents);
        let past = self.see(past, &event.header.act, backing.above);
        let subject = subject_of(&event.header.act);
        let is_new = backing.trust == Trust::Nobody;
        let before = is_new.then(|| self.before(event, author));

        let needs = self.needs(&event.header.act, &author);
        let part = step.part.take();
        let number = self.events.len() as u32;
        let ((chain, first), lane, mut touched) = self.place(event, step, past);
        let (timestamp, seq, what) =
            (event.header.timestamp, event.header.seq, EventKind::of(&event.header.act));
        let entry = Entry { position, timestamp, chain, seq, known: past, what, needs };
        self.events.push(id, entry, first, parents);
        self.heads.insert(id, number);
        let ends = event.header.act.ends_lane();
        let mut rules = ends || matches!(event.header.act, Act::AddChannel { .. });
        if let Some(authority) = self.add_authority(event, (author, lane), (past, rank), (needs, parents)) {
            rules = true;
            let known = self.pasts.with(past, authority);
            self.events.set_known(number, known);
            touched.push(Item::Authority(authority));
            touched.extend(self.authorities.contested(rank));
        }
        if let Act::SendMessage(envelope) = &event.header.act
            && (envelope.expires.is_some() || envelope.flow != Flow::Any)
        {
            self.envelopes.insert(id, envelope.clone());
        }
        if ends || event.header.act.joining().is_some() {
            touched.extend(self.authorities.contested(rank));
        }
        self.state.apply(event, author, rank, sees);
        let mut settled = self.authorities.settle(&self.pasts, touched);
        let let_in = self.settle_spending(event, (lane, rank), (part, parents), &settled);
        settled.people.extend(self.let_in(&let_in));
        let is_quiet = settled.people.is_empty() && !settled.policy;
        rules |= !is_quiet;
        self.rulings += u64::from(rules);
        settled.people.insert(author);
        settled.people.extend(subject);
        let flips = self.flips(&settled.lanes, &let_in, &id);
        self.resolve(event, settled, is_quiet);
        self.fingerprint.add(&id);
        let effect = before.map(|before| self.effect(event, author, before)).unwrap_or_default();
        Effect { flips, rules, ..effect }
    }

    /// How those whom an event is about were before it.
    fn before(&self, event: &Event, author: Identity) -> Before {
        let replaces_profile = matches!(event.header.act, Act::UpdateProfile { .. });
        (
            replaces_profile.then(|| self.state.person(&author)).flatten(),
            self.state.is_member(&author),
            subject_of(&event.header.act)
                .map(|subject| (self.state.person(&subject), self.standing_of(&subject))),
        )
    }

    /// The messages whose effect an event changed, itself not among them: they are void now, or count
    /// again.
    fn flips(
        &self,
        lanes: &BTreeMap<EventId, u64>,
        let_in: &settle::LetIn,
        cause: &EventId,
    ) -> Vec<(EventId, u64)> {
        let let_in: BTreeMap<EventId, bool> = let_in.iter().copied().collect();
        let mut flips = Vec::new();
        for id in lanes.keys().chain(let_in.keys().filter(|id| !lanes.contains_key(id))) {
            let Some(lane) = self.authorities.lanes.get(id) else { continue };
            let kept_before = lanes.get(id).copied().unwrap_or(lane.keep);
            let was_in = let_in.get(id).copied().unwrap_or(!lane.is_unpaid);
            let before = if was_in { kept_before } else { 0 };
            let now = if lane.is_unpaid { 0 } else { lane.keep };
            let (low, high) = (now.min(before), now.max(before));
            for seq in (low..high.min(lane.trunk.end())).rev().take(limits::FLIPS) {
                let Some(number) = lane.trunk.event(seq) else { continue };
                let entry = self.events.at(number);
                if entry.what != EventKind::Other && self.events.id(number) != *cause {
                    flips.push((self.events.id(number), entry.position));
                }
            }
        }
        flips.sort_by_key(|(_, position)| *position);
        flips
    }

    /// Puts an event where it belongs. Returns its chain, with the number of the chain's first event, its
    /// lane, and the lanes to be settled for it.
    fn place(&mut self, event: &Event, step: Step, past: Known) -> ((EventId, u32), EventId, Vec<Item>) {
        let (id, seq) = (event.id(), event.header.seq);
        for parent in parents(&event.header) {
            self.heads.remove(&parent);
        }
        let left = event.header.act.ends_lane();
        let (chain, lane, touched) = match step.place {
            Place::Opens => {
                let grant = step.grant.and_then(|grant| self.authorities.find(&grant)).map(|(n, _)| n);
                self.authorities.open(Lane::open(event, &step, grant, past));
                self.devices.entry(event.header.device).or_default().push(id);
                (id, id, vec![Item::Base(id)])
            }
            Place::Follows { chain } => (chain, self.lane_id(&chain), Vec::new()),
            Place::Forks { chain, rival } => {
                let lane = self.lane_id(&chain);
                self.fork(&chain, lane, (seq, rival), id);
                let branch = Chain::branch(lane, chain, seq);
                self.branches.insert(id, branch);
                (id, lane, vec![Item::Base(lane)])
            }
        };
        let number = self.events.len() as u32;
        let mut first = number;
        if let Some(chain) = self.chain_mut(&chain) {
            chain.events.push(number);
            first = chain.events[0];
            (chain.tip, chain.profile, chain.left) = (id, step.profile, left);
        }
        ((chain, first), lane, touched)
    }

    /// A second event came for one place of a lane. The chain ends there; what it went on with becomes a
    /// branch of its own, so that which one came first makes no difference.
    fn fork(&mut self, chain_id: &EventId, lane: EventId, (seq, rival): (u64, EventId), id: EventId) {
        let Some(chain) = self.chain_mut(chain_id) else { return };
        let rest = chain.events.split_off((seq - chain.base) as usize);
        if let Some(first) = rest.first().copied() {
            let (profile, left, tip) = (chain.profile, chain.left, chain.tip);
            let next = std::mem::take(&mut chain.next);
            let last = chain.events.last().copied();
            for child in &next {
                if let Some(branch) = self.branches.get_mut(child) {
                    branch.before = Some(self.events.id(first));
                }
            }
            for number in &rest {
                self.events.move_to(*number, first);
            }
            let (first, last) = (self.events.id(first), last.map(|last| self.events.id(last)));
            let chain =
                Chain { events: rest, tip, profile, left, next, ..Chain::branch(lane, *chain_id, seq) };
            self.branches.insert(first, chain);
            if let Some(chain) = self.chain_mut(chain_id) {
                (chain.left, chain.next) = (false, BTreeSet::from([first]));
                chain.tip = last.unwrap_or(chain.tip);
            }
        }
        if let Some(chain) = self.chain_mut(chain_id) {
            chain.next.insert(id);
        }
        let Some(lane) = self.authorities.lanes.get_mut(&lane) else { return };
        if lane.forked_at.is_none_or(|first| seq < first) {
            lane.forked_at = Some(seq);
            self.equivocations.insert(lane.opening, (rival, id));
        }
    }

    /// Numbers an event that gives or takes roles.
    fn add_authority(
        &mut self,
        event: &Event,
        (author, lane): (Identity, EventId),
        (past, rank): (Known, u32),
        (needs, parents): (Option<Permission>, &[u32]),
    ) -> Option<u32> {
        let mut expires = None;
        let (subject, power) = match &event.header.act {
            Act::CreateChannel { .. } => (author, Power::Grant(self.founded_as(&lane))),
            Act::GrantRole { subject, role, expires: until } => {
                expires = *until;
                (*subject, Power::Grant(*role))
            }
            Act::RevokeRole { subject, then, .. } => (*subject, Power::Revoke(*then)),
            Act::UpdateChannel(change) if change.is_policy() => {
                (author, Power::Bind(Box::new(change.clone())))
            }
            act if act.anchor().is_some() && rank < Role::Member.rank() => (author, Power::Anchor),
            _ => return None,
        };
        let cuts = match &power {
            Power::Anchor => self.anchor_cuts(past, parents),
            Power::Revoke(then) if *then != Standing::Free => self.reach_into(&subject, parents),
            _ => BTreeMap::new(),
        };
        let guests = match &power {
            Power::Revoke(_) => self.in_past(&self.authorities.guests_of(&subject), parents),
            _ => BTreeSet::new(),
        };
        let (event, seq) = (event.id(), event.header.seq);
        let is_effective = false;
        let authority = Authority {
            event,
            lane,
            seq,
            rank,
            subject,
            power,
            past,
            cuts,
            guests,
            expires,
            needs,
            is_effective,
        };
        Some(self.authorities.add(authority))
    }

    /// What a channel's founder is: of one that is part of a workspace, what they are for the workspace.
    fn founded_as(&self, lane: &EventId) -> Role {
        self.authorities.lanes.get(lane).map_or(Role::Founder, |lane| lane.role)
    }

    /// What an act needs to be allowed, given who does it.
    fn needs(&self, act: &Act, author: &Identity) -> Option<Permission> {
        match act {
            Act::RedactMessage { target, .. } if self.author_of(target) != Some(*author) => {
                Some(Permission::RedactOthers)
            }
            _ => act.permission(),
        }
    }

    /// Brings what follows from the events up to date: all of it if something became void or came back,
    /// else what this event touches.
    fn resolve(&mut self, event: &Event, settled: Settled, is_quiet: bool) {
        let Settled { mut people, policy, .. } = settled;
        if policy {
            people.extend(self.state.people().map(|member| member.identity));
        }
        let (ground, state) = self.split();
        let is_effective = |id: &EventId| ground.is_effective(id);
        match &event.header.act {
            Act::UpdateChannel(change) if is_quiet => state.settle_setting(change.setting(), is_effective),
            _ if is_quiet => {}
            _ => state.settle_settings(is_effective),
        }
        let says_only = matches!(
            event.header.act,
            Act::SendMessage(_)
                | Act::RedactMessage { .. }
                | Act::UpdateChannel(_)
                | Act::Extension { .. }
                | Act::Anchor(_)
                | Act::AddChannel { .. }
                | Act::Settle { .. }
        );
        if is_quiet && says_only {
            return;
        }
        self.settle_people(people);
    }

    /// Brings all that follows from the events up to date.
    fn settle_all(&mut self) {
        let people: BTreeSet<Identity> = self.state.people().map(|member| member.identity).collect();
        let (ground, state) = self.split();
        state.settle_settings(|id| ground.is_effective(id));
        self.settle_people(people);
    }

    fn settle_people(&mut self, people: BTreeSet<Identity>) {
        let (ground, state) = self.split();
        for person in people {
            let standing = ground.authorities.standing(ground.pasts, &person);
            state.settle_person(person, standing, |id| ground.is_effective(id));
        }
    }

    /// What decides about events, and what follows from them.
    fn split(&mut self) -> (Ground<'_>, &mut State) {
        let ground = Ground {
            events: &self.events,
            branches: &self.branches,
            authorities: &self.authorities,
            pasts: &self.pasts,
            envelopes: &self.envelopes,
            settlements: &self.settlements,
        };
        (ground, &mut self.state)
    }

    fn effect(&self, event: &Event, author: Identity, before: Before) -> Effect {
        let (author_before, was_member, subject_before) = before;
        let is_member = self.state.is_member(&author);
        let mut effect = Effect { visible: self.is_effective(&event.id()), ..Effect::default() };
        match &event.header.act {
            Act::JoinChannel(_) | Act::RedeemTicket { .. } => effect.visible &= is_member && !was_member,
            Act::LeaveChannel { .. } => effect.visible &= was_member && !is_member,
            Act::UpdateProfile { .. } => effect.profile_before = author_before.map(|member| member.profile),
            Act::Knock { .. } => effect.visible &= !is_member,
            Act::GrantRole { subject, .. } | Act::RevokeRole { subject, .. } => {
                let (person, standing) = subject_before.unwrap_or_default();
                effect.visible &= standing != self.standing_of(subject);
                effect.subject_before = person;
            }
            _ => {}
        }
        effect
    }

    /// What grants and revocations change of a person: presence, role, and whether they may join.
    fn standing_of(&self, person: &Identity) -> Standpoint {
        let (is_present, role) = self.authorities.standing(&self.pasts, person);
        Standpoint { is_present, role: Some(role), may_join: self.may_join(person) }
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// What follows from the events: members, roles, topic.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether the event is part of the channel.
    pub fn contains(&self, id: &EventId) -> bool {
        self.events.contains(id)
    }

    /// The event whose id begins with these bytes, big end first.
    pub fn beginning(&self, mark: u64) -> Option<EventId> {
        let number = self.events.beginning(mark).next()?;
        Some(self.events.id(number))
    }

    /// Whether the event's past is part of the channel.
    pub fn has_past(&self, event: &Event) -> bool {
        parents(&event.header).all(|parent| self.events.contains(&parent))
    }

    /// Whether the event counts: it is part of the channel and not void.
    pub fn is_effective(&self, id: &EventId) -> bool {
        self.ground().is_effective(id)
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            events: &self.events,
            branches: &self.branches,
            authorities: &self.authorities,
            pasts: &self.pasts,
            envelopes: &self.envelopes,
            settlements: &self.settlements,
        }
    }

    /// Who made an event.
    pub fn author_of(&self, event: &EventId) -> Option<Identity> {
        self.lane_of(event).map(|lane| lane.identity)
    }

    /// The policy that binds ordinary members now.
    pub fn policy(&self) -> Policy {
        self.policy_for(u32::MAX)
    }

    /// The same without what a workspace adds.
    pub fn own_policy(&self) -> Policy {
        self.authorities.policy_at(&self.pasts, None, u32::MAX)
    }

    /// The policy that binds members of this rank now.
    pub fn policy_for(&self, rank: u32) -> Policy {
        self.authorities.binding(&self.pasts, None, rank, None)
    }

    /// Whether a message was taken back, effectively.
    pub fn is_redacted(&self, message: &EventId) -> bool {
        self.state.redactions_of(message).any(|redaction| self.is_effective(redaction))
    }

    /// Where in this node's log an event lies.
    pub fn position_of(&self, id: &EventId) -> Option<u64> {
        Some(self.events.position(self.events.number(id)?))
    }

    /// Until when a message was made to last, if its author said so.
    pub fn expiry_of(&self, id: &EventId) -> Option<Timestamp> {
        self.envelopes.get(id)?.expires
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Never: a channel has at least the event that made it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The lane an event belongs to.
    pub fn lane_of(&self, event: &EventId) -> Option<&Lane> {
        self.authorities.lanes.get(&self.lane_id(&self.events.get(event)?.chain))
    }

    /// The lane of a device that it may act on: of several the one that counts most, then the newest.
    pub fn live_lane(&self, device: &Identity) -> Option<&Lane> {
        let lanes = self.devices.get(device)?.iter().filter_map(|id| self.authorities.lanes.get(id));
        let live = lanes.filter(|lane| lane.is_live());
        live.min_by_key(|lane| (lane.rank, std::cmp::Reverse((lane.opened_at, lane.opening))))
    }

    /// The best grant somebody holds and the rank of a lane opened under it, if any is in force.
    pub fn best_grant(&self, person: &Identity) -> Option<(EventId, u32)> {
        let grant = self.authorities.best_grant(&self.pasts, person)?;
        Some((grant.event, grant.granted_rank()))
    }

    /// Why an act on a lane would not count, if it would not: what the policy that binds it forbids.
    pub fn forbids(&self, lane: &Lane, act: &Act, now: Timestamp) -> Option<&'static str> {
        let needs = self.needs(act, &lane.identity)?;
        let policy = self.authorities.binding(&self.pasts, None, lane.rank, Some(lane));
        if let Err(rule) = policy.permits(lane.role, &lane.identity, needs) {
            return Some(rule);
        }
        let Act::SendMessage(envelope) = act else { return None };
        if let Err(rule) = policy.permits_message(envelope, now) {
            return Some(rule);
        }
        let quota = policy.slow_mode.filter(|_| lane.rank >= Role::Member.rank())?;
        let before = lane.next_seq().checked_sub(u64::from(quota.events)).filter(|seq| *seq > 0)?;
        let before = self.events.timestamp(lane.trunk.event(before)?);
        (now.since_ms(before) < quota.per_ms).then_some("slow mode: wait before you say more")
    }

    /// Whether somebody who outranks a member has banned them.
    pub fn is_banned(&self, person: &Identity) -> bool {
        self.authorities.is_banned(&self.pasts, person)
    }

    /// Whether somebody may join as anybody may: the channel is open, and they are not banned.
    pub fn may_join(&self, person: &Identity) -> bool {
        self.authorities.may_join(&self.pasts, *person)
    }

    /// Whether somebody was put out and has not come back since: they come back by asking to, not by
    /// merely going on to speak elsewhere.
    pub fn is_removed(&self, person: &Identity) -> bool {
        self.authorities.is_removed(&self.pasts, person)
    }

    /// The least rank number somebody acts with, or could: who has a greater one is outranked by them.
    pub fn rank_of(&self, person: &Identity) -> u32 {
        self.authorities.rank_of(&self.pasts, person)
    }

    /// The lanes that forked, each with two events of one place that prove it.
    pub fn equivocations(&self) -> &BTreeMap<EventId, (EventId, EventId)> {
        &self.equivocations
    }

    /// A header for the next event of a lane (or, without one, for opening one): hash-linked to all
    /// heads, up to `limits::DEPS` of them; later events merge the rest.
    pub fn draft(&self, device: Identity, lane: Option<&Lane>, now: Timestamp, act: Act) -> Header {
        let prev = lane.map(|lane| lane.tip());
        let mut deps = self.next_parents(prev.as_ref());
        let past = deps.iter().filter_map(|id| self.events.get(id));
        let timestamp = past.map(|entry| entry.timestamp).max().unwrap_or_default().max(now);
        deps.retain(|dep| Some(*dep) != prev);
        Header {
            version: event::VERSION,
            channel: Some(self.id),
            device,
            seq: lane.map_or(0, |lane| lane.next_seq()),
            prev,
            deps,
            timestamp,
            act,
            payload: None,
        }
    }

    /// What an event to come on the lane of `prev` has as its parents.
    fn next_parents(&self, prev: Option<&EventId>) -> Vec<EventId> {
        let deps = self.heads.keys().filter(|head| Some(*head) != prev).take(limits::DEPS);
        deps.chain(prev).copied().collect()
    }

    /// One digest over all that follows from the events: equal iff two replicas agree.
    pub fn root(&self) -> Digest {
        let root = self.state.root(&self.id, &self.fingerprint.digest(), &self.policy());
        match self.settlements.digest() {
            Some(digest) => {
                let both = [root.as_bytes().as_slice(), digest.as_bytes()].concat();
                Digest(*blake3::hash(&both).as_bytes())
            }
            None => root,
        }
    }

    /// A digest of the set of events alone, kept as they come: cheap to ask for.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint.digest()
    }
}

/// Author, whether they were a member, and whom the event is about: as they were before it.
type Before = (Option<Member>, bool, Option<(Option<Member>, Standpoint)>);

/// What grants and revocations decide of a person.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Standpoint {
    is_present: bool,
    role: Option<Role>,
    may_join: bool,
}

fn subject_of(act: &Act) -> Option<Identity> {
    match act {
        Act::GrantRole { subject, .. } | Act::RevokeRole { subject, .. } => Some(*subject),
        _ => None,
    }
}

/// What decides whether events count.
struct Ground<'a> {
    events: &'a Events,
    branches: &'a BTreeMap<EventId, Chain>,
    authorities: &'a Authorities,
    pasts: &'a Pasts,
    envelopes: &'a BTreeMap<EventId, Envelope>,
    settlements: &'a settle::Settlements,
}

impl Ground<'_> {
    fn is_effective(&self, id: &EventId) -> bool {
        let Some(entry) = self.events.get(id) else { return false };
        let lane = self.branches.get(&entry.chain).map_or(entry.chain, |branch| branch.lane);
        let Some(lane) = self.authorities.lanes.get(&lane) else { return false };
        entry.seq < lane.keep
            && !lane.is_unpaid
            && self.settlements.is_effective(id)
            && self.permits(id, &entry, lane)
    }

    /// Whether the policy that the author knew of and is bound by permits the event.
    fn permits(&self, id: &EventId, entry: &Entry, lane: &Lane) -> bool {
        if let Some((_, authority)) = self.authorities.find(id) {
            return authority.is_effective;
        }
        if self.authorities.above.is_in_spite(self.pasts, lane, entry.known) {
            return false;
        }
        let Some(needs) = entry.needs else { return true };
        if self.authorities.is_unbound() {
            return Permissions::default_of(lane.role).allow(needs);
        }
        let policy = self.authorities.binding(self.pasts, Some(entry.known), lane.rank, Some(lane));
        let envelope = self.envelopes.get(id);
        policy.permits(lane.role, &lane.identity, needs).is_ok()
            && envelope.is_none_or(|envelope| policy.permits_message(envelope, entry.timestamp).is_ok())
            && policy.slow_mode.is_none_or(|quota| !self.exceeds(entry, lane, quota))
    }

    /// Whether an ordinary member's device said more than the quota lets it: the event that lies a quota
    /// before this one is too young.
    fn exceeds(&self, entry: &Entry, lane: &Lane, quota: Quota) -> bool {
        let is_bound = lane.rank >= Role::Member.rank() && entry.what != EventKind::Other;
        let before = entry.seq.checked_sub(u64::from(quota.events)).filter(|seq| *seq > 0);
        let before = before.and_then(|seq| Some(self.events.timestamp(lane.trunk.event(seq)?)));
        is_bound && before.is_some_and(|before| entry.timestamp.since_ms(before) < quota.per_ms)
    }
}

fn parents(header: &Header) -> impl Iterator<Item = EventId> + '_ {
    header.prev.into_iter().chain(header.deps.iter().copied()).chain(header.act.target())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sample::{Author, founded, take};
    use super::*;
    use crate::chat::access::Role;

    /// What one author of a random history does at one step.
    #[derive(Clone, Debug)]
    struct Step {
        author: usize,
        does: u8,
        /// Takes in what the others did before.
        looks: bool,
        at: u64,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0usize..4, 0u8..7, any::<bool>(), 0u64..50);
        let step = step.prop_map(|(author, does, looks, at)| Step { author, does, looks, at });
        prop::collection::vec(step, 1..25)
    }

    /// Plays a history in which each author has a replica of their own. Two of the four are one
    /// person on two devices.
    fn play(steps: &[Step]) -> Vec<Event> {
        let founder = Author::new("founder");
        let one = Author::new("one");
        let authors = [founder.clone(), one.clone(), one.on("laptop"), Author::new("two")];
        let (_, founding) = founded(&founder);
        let mut replicas: Vec<Replica> = (0..4).map(|_| Replica::found(&founding, 1).unwrap().0).collect();
        let mut events = vec![founding];
        for (number, step) in steps.iter().enumerate() {
            let replica = &mut replicas[step.author];
            if step.looks {
                for event in &events {
                    replica.admit(event, replica.len() as u64 + 1);
                }
            }
            let author = &authors[step.author];
            let role = replica.live_lane(&author.device.public()).map(|lane| lane.role);
            let named = |text: &str| crate::chat::profile::Profile {
                username: format!("{text}{number}"),
                ..Default::default()
            };
            let act = match step.does {
                _ if role.is_none() => author.join(),
                0 => Act::LeaveChannel { reason: String::new() },
                1 | 2 if role == Some(Role::Founder) => {
                    Act::UpdateChannel(crate::chat::channel::Change::Topic(format!("topic {number}")))
                }
                1..=3 => Act::UpdateProfile { profile: named("name") },
                4 => author.join(),
                _ => {
                    let parcel = author.say(replica, 2_000 + step.at, &number.to_string());
                    events.push(parcel.event);
                    continue;
                }
            };
            events.push(author.act(replica, 2_000 + step.at, act));
        }
        events
    }

    /// Offers events in an order, again and again, until all are in.
    fn replay(events: &[Event]) -> Replica {
        let (mut replica, _) = Replica::found(&events[0], 1).unwrap();
        let mut order: Vec<&Event> = events.iter().collect();
        while replica.len() < events.len() {
            let before = replica.len();
            order.retain(|event| match replica.admit(event, replica.len() as u64 + 1) {
                Admission::Waiting(_) => true,
                Admission::Refused(invalid) => panic!("{invalid}"),
                _ => false,
            });
            assert!(replica.len() > before);
        }
        replica
    }

    fn people(replica: &Replica) -> Vec<Option<crate::chat::view::Member>> {
        let names = ["founder", "one", "two"];
        names.iter().map(|name| replica.state().person(&Author::new(name).identity.public())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_order_of_delivery_gives_one_root(
            (events, shuffled) in steps().prop_flat_map(|steps| {
                let events = play(&steps);
                let rest = Just(events[1..].to_vec()).prop_shuffle();
                (Just(events), rest)
            }),
        ) {
            let straight = replay(&events);
            let mut order = vec![events[0].clone()];
            order.extend(shuffled);
            let crooked = replay(&order);
            prop_assert_eq!(straight.root(), crooked.root());
            prop_assert_eq!(straight.extent(0), crooked.extent(0));
            prop_assert_eq!(people(&straight), people(&crooked), "those who left included");
        }
    }

    #[test]
    fn a_person_on_two_devices_stays_until_both_left() {
        let (founder, one) = (Author::new("founder"), Author::new("one"));
        let laptop = one.on("laptop");
        let (mut replica, _) = founded(&founder);
        one.act(&mut replica, 2_000, one.join());
        laptop.act(&mut replica, 2_000, laptop.join());
        let leave = || Act::LeaveChannel { reason: String::new() };
        one.act(&mut replica, 3_000, leave());
        assert!(replica.state().is_member(&one.identity.public()));
        laptop.act(&mut replica, 4_000, leave());
        assert!(!replica.state().is_member(&one.identity.public()));
        founder.act(&mut replica, 5_000, leave());
        founder.act(&mut replica, 6_000, founder.join());
        let back = replica.state().person(&founder.identity.public()).unwrap();
        assert_eq!(back.role, Role::Founder, "leaving renounces nothing");
    }

    #[test]
    fn who_forks_a_lane_is_proved_to_and_silenced_from_there_on() {
        let (founder, one) = (Author::new("founder"), Author::new("one"));
        let (mut left, founding) = founded(&founder);
        let (mut right, _) = Replica::found(&founding, 1).unwrap();
        let join = one.act(&mut left, 2_000, one.join());
        take(&mut right, &join);
        let before = one.say(&mut left, 2_500, "before").event;
        take(&mut right, &before);
        let yes = one.say(&mut left, 3_000, "yes").event;
        let no = one.say(&mut right, 3_000, "no").event;
        take(&mut left, &no);
        take(&mut right, &yes);
        assert_eq!(left.root(), right.root());
        for replica in [&left, &right] {
            let void = [&before, &yes, &no].map(|event| !replica.is_effective(&event.id()));
            assert_eq!(void, [false, true, true]);
            assert!(!replica.state().is_member(&one.identity.public()));
            let proof = replica.equivocations()[&join.id()];
            assert_eq!(BTreeSet::from([proof.0, proof.1]), BTreeSet::from([yes.id(), no.id()]));
        }
    }
}

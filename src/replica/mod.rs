//! Convergence: the signed event DAG of each channel, its lanes, what makes an event valid, and
//! how two replicas find out what they lack. It never knows libp2p or SQL.
//!
//! **What does not converge yet.** A device that forks its lane (signs two events for one place of
//! it) is proved to have done so: the second event is refused and the pair is kept as evidence (one
//! pair per lane). Two replicas that saw different branches first keep different branches, and with
//! them all that builds on each, until rule R2 (revoke the lane at the fork) is in place. Honest
//! devices never fork: their node writes an event down before it sends it. Reconciliation between
//! two such replicas ends all the same: what is refused once is not asked for until the next summary.

pub mod event;
mod lane;
mod packet;
mod pending;
mod reconcile;
mod register;
mod resolve;
#[cfg(test)]
pub(crate) mod sample;
mod valid;

use std::collections::{BTreeMap, BTreeSet};

pub use event::{Event, Header, Malformed, Parcel, PayloadRef};
pub use lane::Lane;
pub use packet::Packet;
pub use pending::{Held, Pending};
pub use reconcile::Extent;
pub use resolve::{MemberState, State};
pub use valid::Invalid;

use crate::base::{ChannelId, Digest, EventId, Identity, Timestamp, limits};
use crate::chat::act::Act;
use valid::Step;

/// One channel: every valid event this node holds of it, and what follows from them.
pub struct Replica {
    id: ChannelId,
    events: BTreeMap<EventId, Entry>,
    heads: BTreeSet<EventId>,
    /// By the lane's first event.
    lanes: BTreeMap<EventId, Lane>,
    /// The lanes of each device: an author's own is looked for with every message.
    devices: BTreeMap<Identity, Vec<EventId>>,
    state: State,
    fingerprint: reconcile::Fingerprint,
    /// For each lane that was forked two events of one place: the proof.
    equivocations: BTreeMap<EventId, (EventId, EventId)>,
}

/// What is remembered of an event; its bytes lie in the store.
#[derive(Clone, Debug)]
struct Entry {
    lane: EventId,
    seq: u64,
    timestamp: Timestamp,
    /// prev and deps.
    parents: Vec<EventId>,
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// Whether people should see it: a second lane of a member changes nothing for them.
    pub visible: bool,
    /// The author's profile before, where the event gives another.
    pub profile_before: Option<crate::chat::profile::Profile>,
}

impl Replica {
    /// The replica that a channel's first event makes, at the given place of the node's log.
    ///
    /// # Errors
    /// [`Invalid`] if the event is not a valid first event.
    pub fn found(event: &Event, position: u64) -> Result<(Self, Effect), Invalid> {
        if event.header.channel.is_some() {
            return Err(Invalid::Rule("a channel begins with the event that creates it"));
        }
        let mut replica = Self {
            id: event.channel(),
            events: BTreeMap::new(),
            heads: BTreeSet::new(),
            lanes: BTreeMap::new(),
            devices: BTreeMap::new(),
            state: State::default(),
            fingerprint: Default::default(),
            equivocations: BTreeMap::new(),
        };
        let step = replica.validate(event)?;
        let effect = replica.apply(event, step, position);
        Ok((replica, effect))
    }

    /// Takes an event in if it is valid. Its signature must have been verified.
    pub fn admit(&mut self, event: &Event, position: u64) -> Admission {
        let id = event.id();
        if self.events.contains_key(&id) {
            return Admission::Known;
        }
        let missing: Vec<EventId> = parents(&event.header).filter(|p| !self.events.contains_key(p)).collect();
        if !missing.is_empty() {
            return Admission::Waiting(missing);
        }
        match self.validate(event) {
            Ok(step) => Admission::Accepted(self.apply(event, step, position)),
            Err(invalid) => {
                if let Invalid::Equivocation { first } = invalid
                    && let Some(entry) = self.events.get(&first)
                {
                    // One proof is enough; who forks a lane at will fills no memory.
                    self.equivocations.entry(entry.lane).or_insert((first, id));
                }
                Admission::Refused(invalid)
            }
        }
    }

    fn apply(&mut self, event: &Event, step: Step, position: u64) -> Effect {
        let id = event.id();
        let lane_id = step.lane;
        let parents: Vec<EventId> = parents(&event.header).collect();
        let rivals = self.state.events_that_decide(&step.identity, &event.header.act);
        let overruled = self.in_past(rivals, &parents);
        let effect = self.state.apply(event, &step, &overruled);
        for parent in &parents {
            self.heads.remove(parent);
        }
        self.heads.insert(id);
        self.events.insert(
            id,
            Entry { lane: lane_id, seq: event.header.seq, timestamp: event.header.timestamp, parents },
        );
        if lane_id == id {
            self.devices.entry(event.header.device).or_default().push(id);
        }
        self.lanes.entry(lane_id).or_insert_with(|| Lane::open(event, &step)).extend(
            event,
            step.holdings,
            position,
        );
        self.fingerprint.add(&id);
        effect
    }

    /// Those of `wanted` that are among `from` or in their past. One walk back for all of them, never
    /// past the oldest that is still looked for; a lane met anywhere answers for what it holds before.
    fn in_past(&self, wanted: BTreeSet<EventId>, from: &[EventId]) -> BTreeSet<EventId> {
        let mut goals: Vec<(EventId, &Entry)> =
            wanted.into_iter().filter_map(|id| Some((id, self.events.get(&id)?))).collect();
        let mut found: BTreeSet<EventId> = BTreeSet::new();
        let mut open: Vec<EventId> = from.to_vec();
        let mut seen: BTreeSet<EventId> = from.iter().copied().collect();
        while let Some(entry) = open.pop().and_then(|id| self.events.get(&id)) {
            goals.retain(|(id, goal)| {
                let holds = entry.lane == goal.lane && entry.seq >= goal.seq;
                if holds {
                    found.insert(*id);
                }
                !holds
            });
            let Some(oldest) = goals.iter().map(|(_, goal)| goal.timestamp).min() else { break };
            if entry.timestamp >= oldest {
                open.extend(entry.parents.iter().copied().filter(|parent| seen.insert(*parent)));
            }
        }
        found
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
        self.events.contains_key(id)
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
        self.lanes.get(&self.events.get(event)?.lane)
    }

    /// The newest lane of a device that has not ended.
    pub fn live_lane(&self, device: &Identity) -> Option<&Lane> {
        let lanes = self.devices.get(device)?.iter().filter_map(|id| self.lanes.get(id));
        lanes.filter(|lane| lane.is_live()).max_by_key(|lane| (lane.opened_at, lane.opening))
    }

    /// The lanes that forked, each with two events of one place that prove it.
    pub fn equivocations(&self) -> &BTreeMap<EventId, (EventId, EventId)> {
        &self.equivocations
    }

    /// A header for the next event of a lane (or, without one, for opening one): hash-linked to all
    /// heads, up to `limits::DEPS` of them; later events merge the rest.
    pub fn draft(&self, device: Identity, lane: Option<&Lane>, now: Timestamp, act: Act) -> Header {
        let prev = lane.map(|lane| lane.tip());
        let deps: Vec<EventId> =
            self.heads.iter().copied().filter(|head| Some(*head) != prev).take(limits::DEPS).collect();
        let past = deps.iter().chain(prev.iter()).filter_map(|id| self.events.get(id));
        let timestamp = past.map(|entry| entry.timestamp).max().unwrap_or_default().max(now);
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

    /// One digest over all that follows from the events: equal iff two replicas agree.
    pub fn root(&self) -> Digest {
        self.state.root(&self.id, &self.fingerprint.digest())
    }

    /// A digest of the set of events alone, kept as they come: cheap to ask for.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint.digest()
    }
}

fn parents(header: &Header) -> impl Iterator<Item = EventId> + '_ {
    header.prev.iter().chain(header.deps.iter()).copied()
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
                    Act::UpdateChannel { topic: format!("topic {number}") }
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
            prop_assert_eq!(straight.extent(), crooked.extent());
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
        assert_eq!(back.role, Role::Member, "founding is no title to come back to");
    }

    #[test]
    fn who_forks_a_lane_is_proved_to_and_parts_replicas_for_now() {
        let (founder, one) = (Author::new("founder"), Author::new("one"));
        let (mut left, founding) = founded(&founder);
        let (mut right, _) = Replica::found(&founding, 1).unwrap();
        let join = one.act(&mut left, 2_000, one.join());
        take(&mut right, &join);
        let yes = one.say(&mut left, 3_000, "yes").event;
        let no = one.say(&mut right, 3_000, "no").event;
        let expect = |first: &Event| Admission::Refused(Invalid::Equivocation { first: first.id() });
        assert_eq!(left.admit(&no, 9), expect(&yes));
        assert_eq!(right.admit(&yes, 9), expect(&no));
        assert_eq!(left.equivocations()[&join.id()], (yes.id(), no.id()));
        assert_ne!(left.root(), right.root(), "until R2 revokes the lane at the fork");
        assert!(!left.lacks(&right.extent()), "and neither asks the other for what it refuses");
    }
}

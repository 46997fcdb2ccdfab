//! Who may still act: rules R1 to R6 over the channel's grants, revocations and forks.
//!
//! | rule | here |
//! |---|---|
//! | R1, R5 | a lane is void whole if the grant it cites is void: [`Authorities::keep`] |
//! | R2 | a forked lane is void from the fork on, on every branch: `Lane::forked_at` |
//! | R3 | a revocation acts on lanes of a strictly greater rank number, if it is effective itself |
//! | R4 | a lane the revocation's author knew ends after the last event they had seen of it; one they did not know is void, unless it was opened in knowledge of the revocation |
//! | R6 | who is granted anew opens a lane under the new grant, with the revocation in its past |
//!
//! Everything that decides about a lane has a strictly lower rank number than the lane, so working
//! upwards through the ranks ends, and the order in which events came in does not matter. A change is
//! passed on only to the lanes it can touch: nothing here grows with the number of messages.
//!
//! **Rule V5 is part of this**: whether an event is effective is asked of all that is known, not of
//! the event's own past. What a revoked author says in knowledge of the revocation is void by R4 as it
//! is; refusing it for ever would add nothing but the loss of honest messages whose author believed a
//! revocation that turned out void itself. Roles, which V5 also names, are fixed by the lane's opening.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::{Lane, WHOLE};
use super::past::{Known, Pasts};
use crate::base::{EventId, Identity};
use crate::chat::access::Role;
use crate::chat::act::Standing;

/// An event that gives or takes roles.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub event: EventId,
    pub lane: EventId,
    pub seq: u64,
    /// The rank of its lane.
    pub rank: u32,
    pub subject: Identity,
    pub power: Power,
    /// The authority events in its past.
    pub past: Known,
    /// For a revocation, of each lane of the subject in its past: how many events of it.
    pub cuts: BTreeMap<EventId, u64>,
}

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Power {
    Grant(Role),
    Revoke(Standing),
}

impl Authority {
    /// The role it gives to its subject, if it gives one.
    pub fn role(&self) -> Option<Role> {
        match self.power {
            Power::Grant(role) | Power::Revoke(Standing::Demoted(role)) => Some(role),
            Power::Revoke(_) => None,
        }
    }

    /// The rank of a lane opened under it.
    pub fn granted_rank(&self) -> u32 {
        let floor = self.role().unwrap_or(Role::Member).rank();
        if floor == 0 { 0 } else { floor.max(self.rank.saturating_add(1)) }
    }

    fn removes(&self) -> bool {
        matches!(self.power, Power::Revoke(then) if then != Standing::Free)
    }

    fn lifts_bans(&self) -> bool {
        matches!(self.power, Power::Grant(_) | Power::Revoke(Standing::Free))
    }
}

/// The lanes of a channel and what decides about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Authorities {
    /// By the lane's first event.
    pub lanes: BTreeMap<EventId, Lane>,
    lanes_of: BTreeMap<Identity, Vec<EventId>>,
    all: Vec<Authority>,
    numbers: BTreeMap<EventId, u32>,
    by_subject: BTreeMap<Identity, Vec<u32>>,
}

/// What a lane, or one that somebody might open, rests on.
struct Claim<'a> {
    identity: Identity,
    rank: u32,
    grant: Option<u32>,
    /// The authority events in the opening's past; all of them if there is none.
    known: Option<Known>,
    lane: Option<&'a Lane>,
}

impl Authorities {
    pub fn open(&mut self, lane: Lane) {
        self.lanes_of.entry(lane.identity).or_default().push(lane.opening);
        self.lanes.insert(lane.opening, lane);
    }

    /// Takes in an authority event and numbers it.
    pub fn add(&mut self, authority: Authority) -> u32 {
        let number = self.all.len() as u32;
        self.numbers.insert(authority.event, number);
        self.by_subject.entry(authority.subject).or_default().push(number);
        if let Some(lane) = self.lanes.get_mut(&authority.lane) {
            lane.authorities.push((authority.seq, number));
        }
        self.all.push(authority);
        number
    }

    pub fn find(&self, event: &EventId) -> Option<(u32, &Authority)> {
        let number = *self.numbers.get(event)?;
        Some((number, &self.all[number as usize]))
    }

    pub fn lanes_of(&self, identity: &Identity) -> impl Iterator<Item = &Lane> {
        self.lanes_of.get(identity).into_iter().flatten().filter_map(|id| self.lanes.get(id))
    }

    fn about(&self, subject: &Identity) -> impl Iterator<Item = (u32, &Authority)> {
        let numbers = self.by_subject.get(subject).into_iter().flatten();
        numbers.map(|number| (*number, &self.all[*number as usize]))
    }

    fn is_effective(&self, authority: &Authority) -> bool {
        self.lanes.get(&authority.lane).is_some_and(|lane| authority.seq < lane.keep)
    }

    /// The lanes that an authority event may decide about.
    pub fn touched_by(&self, number: u32) -> Vec<EventId> {
        let Some(authority) = self.all.get(number as usize) else { return Vec::new() };
        let lanes = self.lanes_of(&authority.subject).filter(|lane| lane.rank > authority.rank);
        lanes.map(|lane| lane.opening).collect()
    }

    /// Works out anew what is kept of these lanes, and of all that follows from a change. Returns the
    /// people whose lanes or grants changed.
    pub fn settle(&mut self, pasts: &Pasts, from: impl IntoIterator<Item = EventId>) -> BTreeSet<Identity> {
        let ranked = |lanes: &BTreeMap<EventId, Lane>, id: EventId| Some((lanes.get(&id)?.rank, id));
        let mut open: BTreeSet<(u32, EventId)> =
            from.into_iter().filter_map(|id| ranked(&self.lanes, id)).collect();
        let mut changed = BTreeSet::new();
        while let Some((_, id)) = open.pop_first() {
            let Some(lane) = self.lanes.get(&id) else { continue };
            let keep = self.keep(pasts, &Claim::of(lane));
            let (low, high) = (keep.min(lane.keep), keep.max(lane.keep));
            if low == high {
                continue;
            }
            changed.insert(lane.identity);
            let flipped = lane.authorities.iter().filter(|(seq, _)| (low..high).contains(seq));
            for (_, number) in flipped {
                changed.insert(self.all[*number as usize].subject);
                open.extend(self.touched_by(*number).into_iter().filter_map(|id| ranked(&self.lanes, id)));
            }
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.keep = keep;
            }
        }
        changed
    }

    /// How many events of a lane are kept; `WHOLE` if none is or ever will be void as things stand.
    fn keep(&self, pasts: &Pasts, claim: &Claim<'_>) -> u64 {
        let mut keep = claim.lane.and_then(|lane| lane.forked_at).unwrap_or(WHOLE);
        if claim.grant.is_some_and(|grant| !self.is_effective(&self.all[grant as usize])) {
            return 0;
        }
        let knows = |number: u32| claim.known.is_none_or(|known| pasts.contains(known, number));
        for (number, revocation) in self.about(&claim.identity) {
            if !revocation.removes() || revocation.rank >= claim.rank || !self.is_effective(revocation) {
                continue;
            }
            let kept = if !knows(number) {
                let cut = claim.lane.and_then(|lane| revocation.cuts.get(&lane.opening));
                cut.copied().unwrap_or(0)
            } else if self.bars(pasts, claim, (number, revocation), knows) {
                0
            } else {
                WHOLE
            };
            keep = keep.min(kept);
        }
        keep
    }

    /// Whether a revocation voids a lane that was opened in knowledge of it: one under a grant that
    /// it revoked, or one that joins under a ban.
    fn bars(
        &self,
        pasts: &Pasts,
        claim: &Claim<'_>,
        (number, revocation): (u32, &Authority),
        knows: impl Fn(u32) -> bool,
    ) -> bool {
        match claim.grant {
            Some(grant) => grant != number && pasts.contains(revocation.past, grant),
            None if revocation.power == Power::Revoke(Standing::Banned) => {
                !self.about(&claim.identity).any(|(other, lift)| {
                    lift.lifts_bans()
                        && lift.rank < claim.rank
                        && knows(other)
                        && pasts.contains(lift.past, number)
                        && self.is_effective(lift)
                })
            }
            None => false,
        }
    }

    /// Whether the person could join now without a grant.
    pub fn may_join(&self, pasts: &Pasts, identity: Identity) -> bool {
        let claim = Claim { identity, rank: Role::Member.rank(), grant: None, known: None, lane: None };
        self.keep(pasts, &claim) > 0
    }

    /// Whether the person was put out and has not come back since.
    pub fn is_removed(&self, pasts: &Pasts, identity: &Identity) -> bool {
        self.about(identity).any(|(number, revocation)| {
            matches!(revocation.power, Power::Revoke(Standing::Out | Standing::Banned))
                && revocation.rank < Role::Member.rank()
                && self.is_effective(revocation)
                && !self.lanes_of(identity).any(|lane| lane.is_live() || pasts.contains(lane.known, number))
                && !self.about(identity).any(|(_, lift)| {
                    lift.lifts_bans() && pasts.contains(lift.past, number) && self.is_effective(lift)
                })
        })
    }

    /// The best grant that the person holds: effective, and revoked by nobody who may.
    pub fn best_grant(&self, pasts: &Pasts, identity: &Identity) -> Option<&Authority> {
        let held = self.about(identity).filter(|(number, grant)| {
            grant.role().is_some()
                && self.is_effective(grant)
                && !self.about(identity).any(|(_, revocation)| {
                    revocation.removes()
                        && revocation.rank < grant.granted_rank()
                        && pasts.contains(revocation.past, *number)
                        && self.is_effective(revocation)
                })
        });
        held.map(|(_, grant)| grant).min_by_key(|grant| (grant.granted_rank(), grant.event))
    }

    /// Whether the person is in the channel, and as what. A demoted member is, until they have opened
    /// the lane that the demotion grants.
    pub fn standing(&self, pasts: &Pasts, identity: &Identity) -> (bool, Role) {
        let granted = self.best_grant(pasts, identity);
        let live = self.lanes_of(identity).filter(|lane| lane.is_live()).map(|lane| lane.role).min();
        let demoted = granted.is_some_and(|grant| {
            let taken_up = |lane: &Lane| {
                let number = self.numbers.get(&grant.event);
                number.is_some_and(|number| pasts.contains(lane.known, *number))
            };
            matches!(grant.power, Power::Revoke(_))
                && grant.cuts.values().any(|cut| *cut > 0)
                && !self.lanes_of(identity).any(taken_up)
        });
        let role = live.into_iter().chain(granted.and_then(Authority::role)).min();
        (live.is_some() || demoted, role.unwrap_or(Role::Member))
    }

    /// The least rank number that a person acts or could act with.
    pub fn rank_of(&self, pasts: &Pasts, identity: &Identity) -> u32 {
        let lanes = self.lanes_of(identity).filter(|lane| lane.is_live()).map(|lane| lane.rank);
        let granted = self.best_grant(pasts, identity).map(Authority::granted_rank);
        lanes.chain(granted).min().unwrap_or(Role::Member.rank())
    }
}

impl<'a> Claim<'a> {
    fn of(lane: &'a Lane) -> Self {
        Self {
            identity: lane.identity,
            rank: lane.rank,
            grant: lane.grant,
            known: Some(lane.known),
            lane: Some(lane),
        }
    }
}

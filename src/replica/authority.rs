//! Who may still act: rules R1 to R6 over the channel's grants, revocations and forks.
//!
//! | rule | here |
//! |---|---|
//! | R1, R5 | a lane is void whole if the grant it cites is void: [`Authorities::keep`] |
//! | R2 | a forked lane is void from the fork on, on every branch: `Lane::forked_at` |
//! | R3 | a revocation acts on lanes of a strictly greater rank number, if it is effective itself; on its author's own lanes of its own rank, see below; on others of that rank it is a vote, see below |
//! | R4 | a lane the revocation's author knew ends after the last event they had seen of it; one they did not know is void, unless it was opened in knowledge of the revocation |
//! | R6 | who is granted anew opens a lane under the new grant, with the revocation in its past |
//! | R7 | of settings made without knowledge of each other that of the lower rank counts, then the smaller event id: [`Authorities::policy_at`] |
//!
//! **Votes** (R3c): equals remove one of them if a majority of them wants to. Who votes and whose votes
//! count is decided by lower ranks alone (`Lane::base`), before any vote of that rank is counted, so
//! that equals who vote each other out do not decide about each other's votes. The lane ends at the cut
//! that a majority agrees on: the m-th smallest of m that are needed.
//!
//! **Resigning** (R3b): who revokes what they are themselves ends their own lanes of that rank, and nobody
//! needs to agree: the lane that says so right after it says so, so that what it leaves its author is
//! still granted, the others at what it had seen of them. Whether it counts is decided by lower ranks
//! alone too. Who resigned votes no more. Two devices of one person that resign without knowing of each
//! other end both lanes before they said so: then nothing is left, and they come back as who joins.
//!
//! A setting that is policy binds the events that were made in knowledge of it, on lanes that its
//! author outranks: what it forbids them is void, and so nobody is bound by what comes later, or by
//! their equals.
//!
//! Everything that decides about a lane has a strictly lower rank number than the lane, so working
//! upwards through the ranks ends, and the order in which events came in does not matter. A change is
//! passed on only to the lanes it can touch: nothing here grows with the number of messages.
//!
//! **Rule V5 is part of this**: whether an event is effective is asked of all that is known, not of
//! the event's own past. What a revoked author says in knowledge of the revocation is void by R4 as it
//! is; refusing it for ever would add nothing but the loss of honest messages whose author believed a
//! revocation, or a policy, that turned out void itself. Roles, which V5 also names, are fixed by the
//! lane's opening, and what a role can never be allowed is refused for ever (see `chat::permissions`).

use std::collections::{BTreeMap, BTreeSet};

use super::above::Above;
use super::lane::{Lane, WHOLE};
use super::past::{Known, Pasts};
use crate::base::{EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::{Change, JoinRule, Setting};
use crate::chat::permissions::Permission;
use crate::chat::policy::Policy;

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
    /// For a revocation, the lanes in its past that were opened with tickets of the subject.
    pub guests: BTreeSet<EventId>,
    /// Until when lanes may be opened under it.
    pub expires: Option<Timestamp>,
    /// What its author needs to be allowed.
    pub needs: Option<Permission>,
    /// Worked out by [`Authorities::settle`].
    pub is_effective: bool,
}

/// What it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Power {
    Grant(Role),
    Revoke(Standing),
    /// Binds those whom its author outranks.
    Bind(Box<Change>),
    /// Says what its author has seen of a workspace, and of those who were removed from it.
    Anchor,
}

impl Authority {
    /// The role it gives to its subject, if it gives one.
    pub fn role(&self) -> Option<Role> {
        match self.power {
            Power::Grant(role) | Power::Revoke(Standing::Demoted(role)) => Some(role),
            Power::Revoke(_) | Power::Bind(_) | Power::Anchor => None,
        }
    }

    /// The rank of a lane opened under it.
    pub fn granted_rank(&self) -> u32 {
        if self.seq == 0 {
            // The founding makes its founder what they are, on every device.
            return self.rank;
        }
        let floor = self.role().unwrap_or(Role::Member).rank();
        if floor == 0 { 0 } else { floor.max(self.rank.saturating_add(1)) }
    }

    /// Whether it takes lanes away.
    pub fn removes(&self) -> bool {
        matches!(self.power, Power::Revoke(then) if then != Standing::Free)
    }

    /// Whether it decides anything in the channels of a workspace.
    pub fn matters(&self) -> bool {
        self.removes() || matches!(self.power, Power::Bind(_))
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
    /// By number: those of the channel, and those of its workspaces that matter here.
    pub all: Vec<Authority>,
    numbers: BTreeMap<EventId, u32>,
    by_subject: BTreeMap<Identity, Vec<u32>>,
    /// The lanes of each rank.
    by_rank: BTreeMap<u32, Vec<EventId>>,
    /// Whom equals voted about, by rank.
    votes: BTreeSet<(u32, Identity)>,
    /// Those that bind, in the order they came in: none comes before its past.
    bindings: Vec<u32>,
    opened_under: BTreeMap<u32, Vec<EventId>>,
    pub above: Above,
    /// The lanes opened with somebody's tickets.
    guests_of: BTreeMap<Identity, Vec<EventId>>,
}

/// What a change makes necessary to look at again. What decides about something has a lower rank
/// than that, or the same and comes before it here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Item {
    /// What lower ranks leave of a lane.
    Base(EventId),
    Lane(EventId),
    Authority(u32),
}

/// What [`Authorities::settle`] found.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The people whose lanes or grants changed.
    pub people: BTreeSet<Identity>,
    /// The lanes of which more or less is kept, with what was kept before.
    pub lanes: BTreeMap<EventId, u64>,
    /// Whether what binds members changed.
    pub policy: bool,
}

/// What a lane, or one that somebody might open, rests on.
pub(super) struct Claim<'a> {
    identity: Identity,
    rank: u32,
    grant: Option<u32>,
    /// The authority events in the opening's past; all of them if there is none.
    known: Option<Known>,
    lane: Option<&'a Lane>,
    /// Whether it only asks to be let in.
    knocks: bool,
    /// Whose ticket it comes with.
    ticket_of: Option<Identity>,
}

impl Authorities {
    pub fn open(&mut self, mut lane: Lane) {
        lane.over = self.above.is_over(&lane);
        self.above.opened(&lane);
        if let Some(issuer) = lane.ticket_of {
            self.guests_of.entry(issuer).or_default().push(lane.opening);
        }
        self.lanes_of.entry(lane.identity).or_default().push(lane.opening);
        if let Some(grant) = lane.grant {
            self.opened_under.entry(grant).or_default().push(lane.opening);
            let subject = self.all[grant as usize].subject;
            if subject != lane.identity {
                self.lanes_of.entry(subject).or_default().push(lane.opening);
            }
        }
        self.by_rank.entry(lane.rank).or_default().push(lane.opening);
        if self.about(&lane.identity).any(|(_, vote)| vote.removes() && vote.rank == lane.rank) {
            self.votes.insert((lane.rank, lane.identity));
        }
        self.lanes.insert(lane.opening, lane);
    }

    /// Takes in an authority event and numbers it.
    pub fn add(&mut self, authority: Authority) -> u32 {
        let number = self.all.len() as u32;
        self.numbers.insert(authority.event, number);
        match authority.power {
            Power::Bind(_) => self.bindings.push(number),
            Power::Anchor => self.above.anchor(number),
            _ => self.by_subject.entry(authority.subject).or_default().push(number),
        }
        if authority.removes() && self.lanes_of(&authority.subject).any(|lane| lane.rank == authority.rank) {
            self.votes.insert((authority.rank, authority.subject));
        }
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

    /// The lanes of a person.
    pub fn lanes_of(&self, identity: &Identity) -> impl Iterator<Item = &Lane> + use<'_> {
        let identity = *identity;
        self.lanes_through(&identity).filter(move |lane| lane.identity == identity)
    }

    /// The same, and those that others opened under grants to this key: it may be that of an invite link.
    pub fn lanes_through(&self, identity: &Identity) -> impl Iterator<Item = &Lane> + use<'_> {
        self.lanes_of.get(identity).into_iter().flatten().filter_map(|id| self.lanes.get(id))
    }

    /// The lanes that were opened with tickets of somebody.
    pub fn guests_of(&self, issuer: &Identity) -> BTreeSet<EventId> {
        self.guests_of.get(issuer).into_iter().flatten().copied().collect()
    }

    /// What was decided about somebody.
    pub fn about(&self, subject: &Identity) -> impl Iterator<Item = (u32, &Authority)> {
        let numbers = self.by_subject.get(subject).into_iter().flatten();
        numbers.map(|number| (*number, &self.all[*number as usize]))
    }

    /// The lanes that an authority event may decide about.
    fn touched_by(&self, number: u32) -> Vec<EventId> {
        let authority = &self.all[number as usize];
        if authority.power == Power::Anchor {
            return self.above.cut_by_anchors();
        }
        let theirs = self.lanes_through(&authority.subject).filter(|lane| lane.rank >= authority.rank);
        let under = self.opened_under.get(&number).into_iter().flatten().copied();
        let guests = self.guests_of.get(&authority.subject).into_iter().flatten().copied();
        theirs.map(|lane| lane.opening).chain(under).chain(guests).collect()
    }

    /// What a setting that binds may decide about: of those above this rank, as far as that matters.
    pub fn bound_by(&self, pasts: &Pasts, number: u32, rank: Option<u32>) -> Vec<Item> {
        let knows = |known: Known| pasts.contains(known, number);
        let is_below = |other: u32| rank.is_none_or(|rank| other > rank);
        let later =
            self.all.iter().enumerate().filter(|(_, other)| is_below(other.rank) && knows(other.past));
        let lanes = self.lanes.values().filter(|lane| is_below(lane.rank) && knows(lane.known));
        let items = lanes.map(|lane| Item::Base(lane.opening));
        let later = later.map(|(number, _)| Item::Authority(number as u32));
        let ranks: BTreeSet<u32> =
            self.votes.iter().map(|(voted, _)| *voted).filter(|voted| is_below(*voted)).collect();
        let votes = ranks.into_iter().flat_map(|rank| self.contested(rank));
        items.chain(later).chain(votes).collect()
    }

    fn rank_of_item(&self, item: Item) -> Option<u32> {
        match item {
            Item::Base(id) | Item::Lane(id) => self.lanes.get(&id).map(|lane| lane.rank),
            Item::Authority(number) => self.all.get(number as usize).map(|authority| authority.rank),
        }
    }

    /// Works out anew what is kept of lanes and which authorities are effective, and all that follows
    /// from a change.
    pub fn settle(&mut self, pasts: &Pasts, from: impl IntoIterator<Item = Item>) -> Settled {
        let ranked = |this: &Self, item: Item| Some((this.rank_of_item(item)?, item));
        let mut open: BTreeSet<(u32, Item)> =
            from.into_iter().filter_map(|item| ranked(self, item)).collect();
        let mut settled = Settled::default();
        while let Some((_, item)) = open.pop_first() {
            let next = match item {
                Item::Base(id) => self.settle_base(pasts, id),
                Item::Lane(id) => self.settle_lane(pasts, id, &mut settled),
                Item::Authority(number) => self.settle_authority(pasts, number, &mut settled),
            };
            open.extend(next.into_iter().filter_map(|item| ranked(self, item)));
        }
        settled
    }

    fn settle_base(&mut self, pasts: &Pasts, id: EventId) -> Vec<Item> {
        let Some(lane) = self.lanes.get(&id) else { return Vec::new() };
        let base = self.keep(pasts, &Claim::of(lane));
        let rank = lane.rank;
        let Some(lane) = self.lanes.get_mut(&id) else { return Vec::new() };
        lane.base = base;
        let mut next = self.contested(rank);
        next.push(Item::Lane(id));
        next
    }

    /// The lanes of a rank whose owners equals voted about.
    pub fn contested(&self, rank: u32) -> Vec<Item> {
        let of_rank = self.votes.range((rank, Identity([0; 32]))..=(rank, Identity([255; 32])));
        let lanes = of_rank.flat_map(|(_, subject)| self.lanes_of(subject));
        lanes.filter(|lane| lane.rank == rank).map(|lane| Item::Lane(lane.opening)).collect()
    }

    fn settle_lane(&mut self, pasts: &Pasts, id: EventId, settled: &mut Settled) -> Vec<Item> {
        let Some(lane) = self.lanes.get(&id) else { return Vec::new() };
        let keep = lane.base.min(self.voted(pasts, lane));
        let Some(lane) = self.lanes.get_mut(&id) else { return Vec::new() };
        let (low, high) = (keep.min(lane.keep), keep.max(lane.keep));
        if low == high {
            return Vec::new();
        }
        settled.lanes.entry(id).or_insert(lane.keep);
        lane.keep = keep;
        settled.people.insert(lane.identity);
        let flipped = lane.authorities.iter().filter(|(seq, _)| (low..high).contains(seq));
        flipped.map(|(_, number)| Item::Authority(*number)).collect()
    }

    fn settle_authority(&mut self, pasts: &Pasts, number: u32, settled: &mut Settled) -> Vec<Item> {
        let authority = &self.all[number as usize];
        let Some(lane) = self.lanes.get(&authority.lane) else { return Vec::new() };
        // Who came in by a ticket gives no roles: whether they are in is decided after ranks are.
        let is_effective = authority.seq < lane.keep
            && lane.ticket_of.is_none()
            && self.is_permitted(pasts, authority, lane);
        if is_effective == authority.is_effective {
            return Vec::new();
        }
        let (subject, binds) = (authority.subject, matches!(authority.power, Power::Bind(_)));
        self.all[number as usize].is_effective = is_effective;
        if binds {
            settled.policy = true;
            let rank = self.all[number as usize].rank;
            return self.bound_by(pasts, number, Some(rank));
        }
        settled.people.insert(subject);
        self.touched_by(number).into_iter().map(Item::Base).collect()
    }

    /// Whether the policy that its author knew of permits it.
    fn is_permitted(&self, pasts: &Pasts, authority: &Authority, lane: &Lane) -> bool {
        if self.above.is_in_spite(pasts, lane, authority.past) {
            return false;
        }
        authority.needs.is_none_or(|needs| {
            let policy = self.binding(pasts, Some(authority.past), lane.rank, Some(lane));
            policy.permits(lane.role, &lane.identity, needs).is_ok()
        })
    }

    /// Who votes among those of a rank.
    pub fn electorate(&self, pasts: &Pasts, rank: u32) -> BTreeSet<Identity> {
        let lanes = self.by_rank.get(&rank).into_iter().flatten().filter_map(|id| self.lanes.get(id));
        let votes = |lane: &&Lane| lane.base == WHOLE && !lane.trunk.left && lane.ticket_of.is_none();
        let resigned = |lane: &&Lane| self.resigned(pasts, lane) != WHOLE;
        lanes.filter(votes).filter(|lane| !resigned(lane)).map(|lane| lane.identity).collect()
    }

    /// Whether a revocation, if it is one, is of its author's own role and counts as that.
    fn resigns(&self, pasts: &Pasts, revocation: &Authority) -> bool {
        let Some(lane) = self.lanes.get(&revocation.lane) else { return false };
        revocation.removes()
            && lane.identity == revocation.subject
            && revocation.seq < lane.base
            && lane.ticket_of.is_none()
            && self.is_permitted(pasts, revocation, lane)
    }

    /// How many events of a lane its own owner leaves.
    fn resigned(&self, pasts: &Pasts, lane: &Lane) -> u64 {
        if !self.votes.contains(&(lane.rank, lane.identity)) {
            return WHOLE;
        }
        let claim = Claim::of(lane);
        let own = self
            .about(&lane.identity)
            .filter(|(_, revocation)| revocation.rank == lane.rank && self.resigns(pasts, revocation));
        let cuts = own.map(|(number, revocation)| match revocation.lane == lane.opening {
            true => revocation.seq + 1,
            false => self.left_by(pasts, &claim, (number, revocation)),
        });
        cuts.min().unwrap_or(WHOLE)
    }

    /// How many events of a lane its owner and the owner's equals leave.
    fn voted(&self, pasts: &Pasts, lane: &Lane) -> u64 {
        if !self.votes.contains(&(lane.rank, lane.identity)) {
            return WHOLE;
        }
        let (electorate, resigned) = (self.electorate(pasts, lane.rank), self.resigned(pasts, lane));
        let claim = Claim::of(lane);
        let mut cuts: BTreeMap<Identity, u64> = BTreeMap::new();
        for (number, vote) in self.about(&lane.identity) {
            let Some(voter) = self.lanes.get(&vote.lane) else { continue };
            let counts = vote.removes()
                && vote.rank == lane.rank
                && vote.seq < voter.base
                && voter.ticket_of.is_none()
                && voter.identity != lane.identity
                && electorate.contains(&voter.identity)
                && self.is_permitted(pasts, vote, voter);
            if counts {
                let kept = self.left_by(pasts, &claim, (number, vote));
                let cut = cuts.entry(voter.identity).or_insert(WHOLE);
                *cut = (*cut).min(kept);
            }
        }
        let mut cuts: Vec<u64> = cuts.into_values().collect();
        cuts.sort_unstable();
        cuts.get(electorate.len() / 2).copied().unwrap_or(WHOLE).min(resigned)
    }

    /// What binds a lane of this rank that knows these authority events; `None` knows all.
    pub fn policy_at(&self, pasts: &Pasts, known: Option<Known>, rank: u32) -> Policy {
        self.policy_of(&self.bindings, pasts, known, rank)
    }

    /// The same of some settings, none of which comes before its past.
    pub fn policy_of(&self, bindings: &[u32], pasts: &Pasts, known: Option<Known>, rank: u32) -> Policy {
        let mut standing: BTreeMap<Setting, Vec<u32>> = BTreeMap::new();
        for number in bindings.iter().rev().copied() {
            let authority = &self.all[number as usize];
            let Power::Bind(change) = &authority.power else { continue };
            let is_known = known.is_none_or(|known| pasts.contains(known, number));
            if !is_known || !authority.is_effective || authority.rank >= rank {
                continue;
            }
            let rivals = standing.entry(change.setting()).or_default();
            if !rivals.iter().any(|rival| pasts.contains(self.all[*rival as usize].past, number)) {
                rivals.push(number);
            }
        }
        let mut policy = Policy::default();
        for rivals in standing.values() {
            let winner = rivals.iter().map(|number| &self.all[*number as usize]);
            if let Some(Authority { power: Power::Bind(change), .. }) =
                winner.min_by_key(|authority| (authority.rank, authority.event))
            {
                policy.apply(change);
            }
        }
        policy
    }

    /// Whether nothing ever bound anybody: the common case.
    pub fn is_unbound(&self) -> bool {
        self.bindings.is_empty() && self.above.is_unbound()
    }

    /// How many events of a lane lower ranks leave; `WHOLE` if none is or ever will be void as things
    /// stand.
    fn keep(&self, pasts: &Pasts, claim: &Claim<'_>) -> u64 {
        let mut keep = claim.lane.and_then(|lane| lane.forked_at).unwrap_or(WHOLE);
        if claim.grant.is_some_and(|grant| !self.all[grant as usize].is_effective) {
            return 0;
        }
        let mut policy = Policy::default();
        if !self.is_unbound() {
            policy = self.binding(pasts, claim.known, claim.rank, claim.lane);
            let is_invited = claim.grant.is_some()
                || claim.rank == 0
                || (policy.join == JoinRule::Ticket && self.is_ticket_good(pasts, claim));
            let is_shut = !is_invited && policy.join != JoinRule::Open;
            if policy.closed || is_shut && !claim.knocks {
                return 0;
            }
        }
        if let Some(lane) = claim.lane {
            keep = keep.min(self.kept_above(pasts, lane, &policy));
        }
        let bearer = claim.grant.map(|grant| self.all[grant as usize].subject);
        if let Some(link) = bearer.filter(|subject| *subject != claim.identity)
            && self.is_link_ended(pasts, claim, &link)
        {
            return 0;
        }
        for (number, revocation) in self.about(&claim.identity) {
            if !revocation.removes() || revocation.rank >= claim.rank || !revocation.is_effective {
                continue;
            }
            keep = keep.min(self.left_by(pasts, claim, (number, revocation)));
        }
        keep
    }

    /// Whether it comes with a ticket of somebody who outranks an ordinary member by a grant that the
    /// opening knows of. Who revokes that grant ends the tickets for all whom they had not seen coming in.
    fn is_ticket_good(&self, pasts: &Pasts, claim: &Claim<'_>) -> bool {
        let (Some(issuer), Some(lane)) = (claim.ticket_of, claim.lane) else { return false };
        self.about(&issuer).any(|(number, grant)| {
            let ends = |revocation: &Authority| {
                revocation.removes()
                    && revocation.is_effective
                    && self.reaches(revocation, grant.granted_rank())
                    && pasts.contains(revocation.past, number)
                    && !revocation.guests.contains(&lane.opening)
            };
            grant.role().is_some()
                && grant.is_effective
                && grant.granted_rank() < claim.rank
                && pasts.contains(lane.known, number)
                && !self.about(&issuer).any(|(_, revocation)| ends(revocation))
        })
    }

    /// How many events of a lane a revocation leaves if it acts.
    pub fn left_by(&self, pasts: &Pasts, claim: &Claim<'_>, (number, revocation): (u32, &Authority)) -> u64 {
        let knows = |number: u32| claim.known.is_none_or(|known| pasts.contains(known, number));
        if !knows(number) {
            let cut = claim.lane.and_then(|lane| revocation.cuts.get(&lane.opening));
            cut.copied().unwrap_or(0)
        } else if self.bars(pasts, claim, (number, revocation), knows) {
            0
        } else {
            WHOLE
        }
    }

    /// Whether an invite link was revoked before somebody joined by it: the revocation ends it for all
    /// whom its author had not seen coming in.
    fn is_link_ended(&self, pasts: &Pasts, claim: &Claim<'_>, link: &Identity) -> bool {
        self.about(link).any(|(_, revocation)| {
            revocation.removes()
                && revocation.is_effective
                && revocation.rank < claim.rank
                && claim.grant.is_some_and(|grant| pasts.contains(revocation.past, grant))
                && claim.lane.is_none_or(|lane| !revocation.cuts.contains_key(&lane.opening))
        })
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
            None if self.outlasts_joining(claim, revocation) => {
                !self.about(&claim.identity).any(|(other, lift)| {
                    lift.lifts_bans()
                        && lift.rank < claim.rank
                        && knows(other)
                        && pasts.contains(lift.past, number)
                        && lift.is_effective
                })
            }
            None => false,
        }
    }

    /// Whether somebody may not undo a revocation by joining again: a ban, and of members of a workspace,
    /// who come with the role they have there, a demotion.
    fn outlasts_joining(&self, claim: &Claim<'_>, revocation: &Authority) -> bool {
        let has_footing = claim.lane.is_some_and(|lane| lane.footing.is_some());
        match revocation.power {
            Power::Revoke(Standing::Banned) => true,
            Power::Revoke(Standing::Demoted(role)) => has_footing && claim.rank < role.rank(),
            _ => false,
        }
    }

    /// Whether the person could join now without a grant.
    pub fn may_join(&self, pasts: &Pasts, identity: Identity) -> bool {
        let claim = Claim {
            identity,
            rank: Role::Member.rank(),
            grant: None,
            known: None,
            lane: None,
            knocks: false,
            ticket_of: None,
        };
        self.keep(pasts, &claim) > 0
    }

    /// Whether a revocation may end what has this rank: its author outranks it, or it is their own.
    fn reaches(&self, revocation: &Authority, rank: u32) -> bool {
        let is_own =
            || self.lanes.get(&revocation.lane).is_some_and(|lane| lane.identity == revocation.subject);
        revocation.rank < rank || (revocation.rank == rank && is_own())
    }

    /// Whether a ban is in force against the person.
    pub fn is_banned(&self, pasts: &Pasts, identity: &Identity) -> bool {
        self.about(identity).any(|(number, ban)| {
            matches!(ban.power, Power::Revoke(Standing::Banned))
                && ban.is_effective
                && ban.rank < Role::Member.rank()
                && !self.about(identity).any(|(_, lift)| {
                    lift.lifts_bans() && lift.is_effective && pasts.contains(lift.past, number)
                })
        })
    }

    /// Whether the person was put out and has not come back since.
    pub fn is_removed(&self, pasts: &Pasts, identity: &Identity) -> bool {
        self.about(identity).any(|(number, revocation)| {
            matches!(revocation.power, Power::Revoke(Standing::Out | Standing::Banned))
                && revocation.rank < Role::Member.rank()
                && revocation.is_effective
                && !self.lanes_of(identity).any(|lane| lane.is_live() || pasts.contains(lane.known, number))
                && !self.about(identity).any(|(_, lift)| {
                    lift.lifts_bans() && pasts.contains(lift.past, number) && lift.is_effective
                })
        })
    }

    /// The best grant that the person holds: effective, and revoked by nobody who may.
    pub fn best_grant(&self, pasts: &Pasts, identity: &Identity) -> Option<&Authority> {
        let held = self.about(identity).filter(|(number, grant)| {
            grant.role().is_some()
                && grant.is_effective
                && !self.about(identity).any(|(_, revocation)| {
                    revocation.removes()
                        && self.reaches(revocation, grant.granted_rank())
                        && pasts.contains(revocation.past, *number)
                        && (revocation.is_effective || self.resigns(pasts, revocation))
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
    /// What a lane rests on.
    pub fn of(lane: &'a Lane) -> Self {
        Self {
            identity: lane.identity,
            rank: lane.rank,
            grant: lane.grant,
            known: Some(lane.known),
            lane: Some(lane),
            knocks: lane.knocks,
            ticket_of: lane.ticket_of,
        }
    }
}

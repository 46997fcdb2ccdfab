//! Channels of a workspace: what a replica takes from the replica of the workspace above it.
//!
//! A workspace is a channel whose members, roles and policy hold in the channels it took in. Each
//! channel has a history of its own, so nothing orders events of the one before events of the other;
//! what order there is, authors say themselves:
//!
//! - A lane of a channel is opened **under** a lane of the same identity in the workspace
//!   (`act::Under`) and has its role and rank. Who founded the channel is at least a moderator of it,
//!   of a rank just below the workspace's own moderators, so that these outrank every founder.
//! - An **anchor** (`act::Anchor`, part of every opening too) says how far its author has seen the
//!   workspace. What decides there (settings that bind and revocations) is numbered here like the
//!   channel's own authority events ([`Authorities::import`]), and an anchor puts the numbers of what
//!   it has seen into `Known`. So everything that is asked of a past, whether a policy binds, whether
//!   a revocation was known, is asked of the workspace in the same way.
//!
//! | what the workspace decides | what it does here |
//! |---|---|
//! | it took the channel in, effectively (`Act::AddChannel`) | without that nothing in the channel counts |
//! | a lane was never valid | no lane under it ever was |
//! | a setting | binds what has it in its past, on lanes that its author outranks in the workspace; the channel's own settings come on top, see `Policy::beneath` |
//! | a lane ends by a revocation | lanes under it end at what the anchors of those who outrank them had seen: [`Authorities::kept_above`] |
//! | a lane ends in whatever way | who had it is no longer shown as present, and does not act on lanes under it |
//!
//! **Why the workspace takes the channel in**, and not the founding alone decides: the founding is the
//! root of its own history, no event is before it, so whoever once was a member could found channels
//! of the workspace for ever and claim not to have known of their removal. `AddChannel` lies in the
//! workspace's history, where rules R1 to R7 decide about it as about anything else.
//!
//! **Cuts.** A revocation in the workspace cannot say what its author saw of each channel. An anchor
//! can: its own past reaches so far into each lane. Only anchors count whose author outranks the lane
//! they cut, else any member could cut short whom somebody else removed; those of ordinary members
//! never cut anybody. Until such an anchor comes, what the removed still say counts, unless they say
//! it in knowledge of their removal. Nodes of those who remove somebody write the anchors at once.
//!
//! **Sharing.** A channel may be shared into a second workspace: by a setting of its own
//! (`Change::Shared`) and by being taken in there. Members of that workspace come as ordinary members,
//! whatever they are at home, so that it gains no power over the channel; what its policy takes from
//! its own members, it takes here too.
//!
//! **Convergence.** All this is a function of two sets of events, those of the channel and those of the
//! workspace: [`Replica::refresh`] settles the channel anew whenever the workspace decides something,
//! and within the channel only lower ranks decide about a lane, as ever. A workspace is never part of
//! another, so nothing depends on itself.

use std::collections::{BTreeMap, BTreeSet};

use super::authority::{Authorities, Authority, Claim, Item, Power};
use super::event::Event;
use super::lane::{Lane, WHOLE};
use super::past::{Known, Pasts};
use super::valid::Invalid;
use super::{Replica, limits};
use crate::base::{ChannelId, EventId, Identity};
use crate::chat::access::Role;
use crate::chat::act::{Act, Anchor, Joining};
use crate::chat::channel::Change;
use crate::chat::policy::{self, Policy};

/// The rank of a founder who is no more than a member of the workspace.
const FOUNDER_RANK: u32 = 101;

/// Where a lane stands in a workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Footing {
    pub workspace: ChannelId,
    /// The lane of the workspace that it was opened under.
    pub lane: EventId,
    /// Role and rank there.
    pub role: Role,
    pub rank: u32,
}

/// What a workspace says of one of its lanes, with what ended it by the numbers it has here.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Verdict {
    keep: u64,
    left: bool,
    /// Revocations each of which ended it.
    removals: Vec<u32>,
    /// Votes so many of which ended it.
    votes: Vec<u32>,
    quorum: usize,
}

impl Verdict {
    /// Whether somebody ended it, and not just a fork or its owner.
    fn is_removed(&self) -> bool {
        self.keep != WHOLE && !(self.removals.is_empty() && self.votes.is_empty())
    }

    /// Whether who has seen this much has seen that it ended.
    fn is_known(&self, pasts: &Pasts, known: Known) -> bool {
        let knows = |number: &u32| pasts.contains(known, *number);
        let votes = || self.votes.iter().filter(|vote| knows(vote)).count();
        self.is_removed() && (self.removals.iter().any(knows) || (self.quorum > 0 && votes() >= self.quorum))
    }
}

/// What is known here of one workspace.
#[derive(Clone, Debug, Default)]
struct Workspace {
    /// How much the workspace had decided when this was brought up to date.
    as_of: u64,
    /// Whether it took this channel in.
    lists: bool,
    /// The number here of each of its authority events that matter here.
    numbers: Vec<Option<u32>>,
    /// Its settings that bind, by number here, none before its past.
    bindings: Vec<u32>,
    removals: Vec<u32>,
    /// Its lanes that lanes here were opened under, and these.
    lanes: BTreeMap<EventId, (Verdict, Vec<EventId>)>,
    /// Its pasts, as pasts here.
    pasts: BTreeMap<Known, Known>,
}

impl Workspace {
    fn translate(&mut self, pasts: &mut Pasts, theirs: &Pasts, known: Known) -> Known {
        if let Some(known) = self.pasts.get(&known) {
            return *known;
        }
        let numbers = &self.numbers;
        let here = theirs.numbers(known).filter_map(|number| numbers.get(number as usize).copied()?);
        let translated = pasts.of(here);
        self.pasts.insert(known, translated);
        translated
    }

    /// What it says of a lane now.
    fn verdict(&self, workspace: &Replica, lane: &EventId) -> Verdict {
        let authorities = &workspace.authorities;
        let Some(lane) = authorities.lanes.get(lane) else { return Verdict::default() };
        let mut verdict = Verdict { keep: lane.keep, left: lane.trunk.left, ..Verdict::default() };
        if lane.keep == WHOLE {
            return verdict;
        }
        let claim = Claim::of(lane);
        for (number, revocation) in authorities.about(&lane.identity) {
            let Some(here) = self.numbers.get(number as usize).copied().flatten() else { continue };
            let acts = revocation.removes()
                && revocation.is_effective
                && authorities.left_by(&workspace.pasts, &claim, (number, revocation)) < WHOLE;
            let author = authorities.lanes.get(&revocation.lane).map(|lane| lane.identity);
            match revocation.rank.cmp(&lane.rank) {
                std::cmp::Ordering::Less if acts => verdict.removals.push(here),
                // Who resigned was removed by nobody.
                std::cmp::Ordering::Equal if acts && author != Some(lane.identity) => {
                    verdict.votes.push(here);
                }
                _ => {}
            }
        }
        if verdict.removals.is_empty() {
            verdict.quorum = authorities.electorate(&workspace.pasts, lane.rank).len() / 2 + 1;
        } else {
            verdict.votes.clear();
        }
        verdict
    }
}

/// What is known here of the workspaces that the channel is part of or shared into.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    /// The one it is part of.
    pub home: Option<ChannelId>,
    workspaces: BTreeMap<ChannelId, Workspace>,
    /// The anchors of those who count more than ordinary members.
    anchors: Vec<u32>,
}

impl Above {
    /// Takes in an anchor that may cut lanes.
    pub fn anchor(&mut self, number: u32) {
        self.anchors.push(number);
    }

    /// Whether no workspace ever bound anybody here.
    pub fn is_unbound(&self) -> bool {
        self.workspaces.values().all(|workspace| workspace.bindings.is_empty())
    }

    fn of(&self, lane: &Lane) -> Option<(Footing, &Workspace, &Verdict)> {
        let footing = lane.footing?;
        let workspace = self.workspaces.get(&footing.workspace)?;
        Some((footing, workspace, &workspace.lanes.get(&footing.lane)?.0))
    }

    /// Whether the workspaces took the channel in: its own, and the lane's.
    fn is_chartered(&self, workspace: &ChannelId) -> bool {
        let lists = |workspace: &ChannelId| self.workspaces.get(workspace).is_some_and(|found| found.lists);
        lists(workspace) && self.home.as_ref().is_none_or(lists)
    }

    /// Whether the lane it was opened under has ended, in whatever way.
    pub fn is_over(&self, lane: &Lane) -> bool {
        if lane.footing.is_none() {
            return false;
        }
        self.of(lane).is_none_or(|(footing, _, verdict)| {
            verdict.keep != WHOLE || verdict.left || !self.is_chartered(&footing.workspace)
        })
    }

    /// Whether what was done on a lane with this much seen was done in knowledge of its end.
    pub fn is_in_spite(&self, pasts: &Pasts, lane: &Lane, known: Known) -> bool {
        self.of(lane).is_some_and(|(_, _, verdict)| verdict.is_known(pasts, known))
    }

    /// The lanes that an anchor may cut.
    pub fn cut_by_anchors(&self) -> Vec<EventId> {
        let lanes = self.workspaces.values().flat_map(|workspace| workspace.lanes.values());
        lanes.filter(|(verdict, _)| verdict.is_removed()).flat_map(|(_, under)| under.clone()).collect()
    }

    /// A lane was opened.
    pub fn opened(&mut self, lane: &Lane) {
        let Some(footing) = lane.footing else { return };
        let found = self.workspaces.get_mut(&footing.workspace);
        if let Some((_, under)) = found.and_then(|workspace| workspace.lanes.get_mut(&footing.lane)) {
            under.push(lane.opening);
        }
    }
}

impl Authorities {
    /// Brings what a workspace decided up to date: takes in what is new and what changed. Returns what
    /// has to be settled for it.
    fn import(&mut self, pasts: &mut Pasts, from: &Replica, lists: bool) -> Vec<Item> {
        let mut workspace = self.above.workspaces.remove(&from.id).unwrap_or_default();
        workspace.as_of = from.rulings;
        for law in &from.authorities.all[workspace.numbers.len()..] {
            let number = self.all.len() as u32;
            let matters = match law.power {
                Power::Bind(_) => &mut workspace.bindings,
                _ if law.removes() => &mut workspace.removals,
                _ => {
                    workspace.numbers.push(None);
                    continue;
                }
            };
            matters.push(number);
            let past = workspace.translate(pasts, &from.pasts, law.past);
            self.all.push(Authority { past, cuts: BTreeMap::new(), is_effective: false, ..law.clone() });
            workspace.numbers.push(Some(number));
        }
        let mut items = Vec::new();
        for (law, number) in from.authorities.all.iter().zip(&workspace.numbers) {
            let Some(number) = *number else { continue };
            let here = &mut self.all[number as usize];
            if here.is_effective != law.is_effective {
                here.is_effective = law.is_effective;
                if matches!(law.power, Power::Bind(_)) {
                    items.extend(self.bound_by(pasts, number, None));
                }
            }
        }
        let mut changed: Vec<EventId> = Vec::new();
        let verdicts = workspace.lanes.keys().map(|lane| workspace.verdict(from, lane)).collect::<Vec<_>>();
        for ((verdict, under), now) in workspace.lanes.values_mut().zip(verdicts) {
            if *verdict != now {
                *verdict = now;
                changed.extend(&*under);
            }
        }
        if workspace.lists != lists {
            workspace.lists = lists;
            changed = self.lanes.keys().copied().collect();
        }
        self.above.workspaces.insert(from.id, workspace);
        for id in &changed {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            lane.over = self.above.is_over(lane);
        }
        for id in changed {
            items.push(Item::Base(id));
            // What was done there in spite of a removal depends on it even where the lane goes on.
            let on_lane = self.lanes.get(&id).into_iter().flat_map(|lane| &lane.authorities);
            items.extend(on_lane.map(|(_, number)| Item::Authority(*number)));
        }
        items
    }

    /// How many events of a lane the workspace it stands in leaves.
    pub fn kept_above(&self, pasts: &Pasts, lane: &Lane, policy: &Policy) -> u64 {
        let Some(footing) = lane.footing else { return WHOLE };
        let Some((_, _, verdict)) = self.above.of(lane) else { return 0 };
        let is_let_in = self.above.home == Some(footing.workspace)
            || policy.shared.contains(&footing.workspace)
            || lane.grant.is_some();
        if verdict.keep == 0 || !is_let_in || !self.above.is_chartered(&footing.workspace) {
            return 0;
        }
        if !verdict.is_removed() {
            return WHOLE;
        }
        if verdict.is_known(pasts, lane.known) {
            return 0;
        }
        let anchors = self.above.anchors.iter().map(|number| &self.all[*number as usize]);
        let acting = anchors.filter(|anchor| {
            anchor.is_effective && anchor.rank < lane.rank && verdict.is_known(pasts, anchor.past)
        });
        acting.map(|anchor| anchor.cuts.get(&lane.opening).copied().unwrap_or(0)).min().unwrap_or(WHOLE)
    }

    /// What binds somebody of this rank who has seen this much (`None` has seen all): the channel's
    /// policy under that of its workspace, and for guests under that of their own.
    pub fn binding(&self, pasts: &Pasts, known: Option<Known>, rank: u32, lane: Option<&Lane>) -> Policy {
        let mut policy = self.policy_at(pasts, known, rank);
        let footing = lane.and_then(|lane| lane.footing);
        let bound = |role_above: Role| {
            lane.map(|lane| policy::Bound { person: &lane.identity, role_above, role: lane.role })
        };
        if let Some(home) = self.above.home.and_then(|home| self.above.workspaces.get(&home)) {
            let at_home = footing.filter(|footing| self.above.home == Some(footing.workspace));
            let (role, rank) = at_home.map_or((Role::Member, rank), |footing| (footing.role, footing.rank));
            policy = policy.beneath(&self.policy_of(&home.bindings, pasts, known, rank), bound(role));
        }
        if let Some(guest) = footing.filter(|footing| self.above.home != Some(footing.workspace))
            && let Some((workspace, bound)) =
                self.above.workspaces.get(&guest.workspace).zip(bound(guest.role))
        {
            let theirs = self.policy_of(&workspace.bindings, pasts, known, guest.rank);
            policy = policy.shared_into(&theirs, bound);
        }
        policy
    }

    /// Whether a channel lets members of a workspace in, as far as somebody has seen who has seen this
    /// much. Whether that counts is asked elsewhere: here it is about what is fixed for ever.
    fn shares(&self, pasts: &Pasts, known: Known, with: &ChannelId) -> bool {
        self.all.iter().enumerate().any(|(number, authority)| {
            let Power::Bind(change) = &authority.power else { return false };
            let shares =
                matches!(&**change, Change::Shared { workspace, is_shared: true } if workspace == with);
            shares && pasts.contains(known, number as u32)
        })
    }
}

impl Replica {
    /// Brings what follows from a workspace's events up to date. Cheap if the workspace decided nothing
    /// since. Returns the messages that became void or count again.
    pub fn refresh(&mut self, workspace: &Self) -> Vec<(EventId, u64)> {
        let known = self.authorities.above.workspaces.get(&workspace.id);
        if known.is_some_and(|known| known.as_of == workspace.rulings) {
            return Vec::new();
        }
        let lists = workspace.has_channel(&self.id);
        let items = self.authorities.import(&mut self.pasts, workspace, lists);
        if items.is_empty() {
            return Vec::new();
        }
        let settled = self.authorities.settle(&self.pasts, items);
        let let_in = self.settle_spent(Vec::new(), &settled);
        self.settle_all();
        self.flips(&settled.lanes, &let_in, &EventId::default())
    }

    /// The workspaces that this channel has to do with.
    pub fn workspaces(&self) -> impl Iterator<Item = ChannelId> + '_ {
        let above = &self.authorities.above;
        let others = above.workspaces.keys().filter(|id| above.home.as_ref() != Some(*id));
        above.home.into_iter().chain(others.copied())
    }

    /// Whether this workspace took a channel in.
    pub fn has_channel(&self, channel: &ChannelId) -> bool {
        self.state().additions_of(channel).any(|event| self.is_effective(event))
    }

    /// The channels that this workspace took in.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.state().additions().filter(|channel| self.has_channel(channel))
    }

    /// What somebody who acts here should say to have seen of a workspace: what decides there and is not
    /// yet in the past of an event to come. `None` if there is nothing of that.
    pub fn unseen(&self, workspace: &Self, lane: Option<&Lane>) -> Option<Anchor> {
        let found = self.authorities.above.workspaces.get(&workspace.id);
        let numbers: &[Option<u32>] = found.map_or(&[], |found| &found.numbers);
        let parents = self.next_parents(lane.map(Lane::tip).as_ref());
        let known: Vec<Known> =
            parents.iter().filter_map(|id| self.events.get(id)).map(|entry| entry.known).collect();
        let is_seen = |number: u32| match numbers.get(number as usize) {
            Some(Some(number)) => known.iter().any(|known| self.pasts.contains(*known, *number)),
            Some(None) => true,
            None => !workspace.authorities.all[number as usize].matters(),
        };
        let laws = 0..workspace.authorities.all.len() as u32;
        let mut wanted: BTreeSet<u32> = laws.filter(|number| !is_seen(*number)).collect();
        let mut heads = BTreeSet::new();
        for head in workspace.heads.keys() {
            let Some(entry) = workspace.events.get(head) else { continue };
            let before = wanted.len();
            wanted.retain(|number| !workspace.pasts.contains(entry.known, *number));
            if wanted.len() < before && heads.len() < limits::DEPS {
                heads.insert(*head);
            }
        }
        let heads: Vec<EventId> = heads.into_iter().collect();
        (!heads.is_empty()).then_some(Anchor { workspace: workspace.id, heads })
    }

    /// For who opens a lane in a channel of this workspace: all of it was seen, as far as that can be said
    /// at once.
    pub fn seen(&self) -> Anchor {
        let heads = self.heads.keys().copied().take(limits::DEPS).collect();
        Anchor { workspace: self.id, heads }
    }

    /// Whether a device has a lane here that is good but for its lane in the workspace having ended: who
    /// is in the workspace anew goes on here as what they are now.
    pub fn is_stranded(&self, device: &Identity) -> bool {
        let lanes = self.devices.get(device).into_iter().flatten();
        let mut lanes = lanes.filter_map(|id| self.authorities.lanes.get(id));
        lanes.any(|lane| lane.over && !lane.trunk.left) && self.live_lane(device).is_none()
    }

    /// What somebody who has a lane of this rank in the workspace would open a lane here under, and the
    /// rank of that lane.
    pub fn best_standing(&self, person: &Identity, above: Option<u32>) -> Option<(Option<EventId>, u32)> {
        let grant = self.authorities.best_grant(&self.pasts, person);
        match (grant, above) {
            (Some(grant), above)
                if above.is_none_or(|above| grant.removes() || grant.granted_rank() <= above) =>
            {
                Some((Some(grant.event), grant.granted_rank()))
            }
            (_, above) => above.map(|above| (None, above)),
        }
    }

    /// The events of a workspace that an act cites and that are not there.
    pub(super) fn missing_above(act: &Act, above: Option<&Self>) -> Vec<EventId> {
        let Some(anchor) = act.anchor() else { return Vec::new() };
        let Some(above) = above.filter(|above| above.id == anchor.workspace) else {
            return vec![EventId(anchor.workspace.0)];
        };
        let under = act.joining().and_then(|joining| joining.under.as_ref()).map(|under| under.lane);
        let cited = anchor.heads.iter().copied().chain(under);
        cited.filter(|event| !above.events.contains(event)).collect()
    }

    /// Whether an act may cite a workspace, and where a lane that it opens stands there.
    pub(super) fn footing(
        &self,
        event: &Event,
        past: &[u32],
        above: Option<&Self>,
    ) -> Result<Option<Footing>, Invalid> {
        let act = &event.header.act;
        let is_workspace = || self.state().ancestry().is_workspace;
        if matches!(act, Act::AddChannel { .. }) && !is_workspace() {
            return Err(Invalid::Rule("only a workspace takes channels in"));
        }
        let home = match act {
            Act::CreateChannel { ancestry, .. } => ancestry.workspace,
            _ => self.authorities.above.home,
        };
        let Some(anchor) = act.anchor() else {
            if act.joining().is_some() && home.is_some() {
                return Err(Invalid::Rule("a channel of a workspace is joined by the workspace's members"));
            }
            return Ok(None);
        };
        let above = above.ok_or(Invalid::Rule("a workspace is a channel"))?;
        if !above.state().ancestry().is_workspace || is_workspace() {
            return Err(Invalid::Rule("a channel is part of a workspace, and a workspace of none"));
        }
        let is_shared = || {
            let mut known = past.iter().map(|parent| self.events.known(*parent));
            known.any(|known| self.authorities.shares(&self.pasts, known, &anchor.workspace))
        };
        if home != Some(anchor.workspace) && !is_shared() {
            return Err(Invalid::Rule("a channel knows the workspaces it is part of or shared into"));
        }
        act.joining().map(|joining| above.standing_under(joining)).transpose()
    }

    /// Where in this workspace a lane of a channel stands that opens so.
    fn standing_under(&self, joining: &Joining) -> Result<Footing, Invalid> {
        let lane = joining.under.as_ref().and_then(|under| self.authorities.lanes.get(&under.lane));
        let own = lane.filter(|lane| lane.identity == joining.certificate.identity && !lane.knocks);
        let lane = own.ok_or(Invalid::Rule("a lane opens under a lane of its own identity"))?;
        Ok(Footing { workspace: self.id, lane: lane.opening, role: lane.role, rank: lane.rank })
    }

    /// Role and rank that a lane has for where it stands.
    pub(super) fn inherited(&self, act: &Act, footing: &Footing) -> (Role, u32) {
        match act {
            Act::CreateChannel { .. } if footing.rank > FOUNDER_RANK => (Role::Moderator, FOUNDER_RANK),
            Act::CreateChannel { .. } => (footing.role, footing.rank),
            _ if self.authorities.above.home == Some(footing.workspace) => (footing.role, footing.rank),
            _ => (Role::Member, Role::Member.rank()),
        }
    }

    /// What the author of an act has seen, given what its past has and what it cites of a workspace.
    pub(super) fn see(&mut self, mut past: Known, act: &Act, above: Option<&Self>) -> Known {
        let Some((anchor, above)) = act.anchor().zip(above) else { return past };
        let under = act.joining().and_then(|joining| joining.under.as_ref()).map(|under| under.lane);
        let workspace = self.authorities.above.workspaces.entry(anchor.workspace).or_default();
        for cited in anchor.heads.iter().chain(&under) {
            let Some(entry) = above.events.get(cited) else { continue };
            let known = workspace.translate(&mut self.pasts, &above.pasts, entry.known);
            past = self.pasts.union(past, known);
        }
        if let Some(lane) = under {
            let verdict = workspace.verdict(above, &lane);
            workspace.lanes.entry(lane).or_insert((verdict, Vec::new()));
        }
        past
    }

    /// How far an anchor with these parents reaches into the lanes of those whom it knows to be removed
    /// from a workspace.
    pub(super) fn anchor_cuts(&self, known: Known, parents: &[u32]) -> BTreeMap<EventId, u64> {
        let workspaces = self.authorities.above.workspaces.values();
        let removals = workspaces.flat_map(|workspace| workspace.removals.iter().copied());
        let known = removals.filter(|number| self.pasts.contains(known, *number));
        let removed: BTreeSet<Identity> =
            known.map(|number| self.authorities.all[number as usize].subject).collect();
        removed.iter().flat_map(|person| self.reach_into(person, parents)).collect()
    }
}

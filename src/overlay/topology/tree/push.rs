//! Plumtree: what goes to which neighbour. Owns eager and lazy links, the payloads that are missing, and
//! what each neighbour brought; never says who is a neighbour.

use std::collections::{BTreeMap, VecDeque};

use super::super::cache::Cache;
use super::super::{Data, Message, MessageId, Pace, Payload, Targets};
use super::{ByNode, Outbox, Settings};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;

/// Ids that are announced and not here yet; a further one is not waited for (repair brings it).
const MISSING: usize = 4_096;
/// Announcements by which a lazy link leads before it is grafted for speed.
const LEAD: usize = 3;
/// How long a graft may take to bring payloads again before another link is grafted.
const MEND_MS: u64 = 1_000;
/// Announcers remembered for one id.
const ANNOUNCERS: usize = 8;

/// The broadcast's side of a member.
pub struct Push {
    settings: Settings,
    links: ByNode<Link>,
    missing: BTreeMap<MessageId, Missing>,
    /// When to look at which missing id.
    alarms: BTreeMap<(Timestamp, MessageId), ()>,
    cache: Cache,
    /// Payloads that repair had to bring in this period.
    late: usize,
    /// Who brought the last new payload.
    parent: Option<NodeId>,
    /// The last link that was grafted because a payload was late, and when.
    grafted: Option<(NodeId, Timestamp)>,
}

/// One neighbour.
#[derive(Clone, Debug, Default)]
struct Link {
    lazy: bool,
    /// Payloads that it was the first to bring in this period.
    news: u32,
    /// Ids it told or payloads it sent in this period, new or not.
    told: u32,
    /// The same since it was judged last, and the payloads that passed while the link was lazy.
    paid: u32,
    due: u32,
    /// Payloads in a row that it pushed and that were here already.
    duplicates: u32,
    /// Announcements by which it would have been much faster, less those by which it would not.
    lead: usize,
    /// Promises it broke, ever.
    broken: u32,
    /// Periods it has been here.
    age: u32,
}

impl Link {
    /// Takes in how many announcements a lazy link would have been much faster by, and slower. Whether it
    /// leads by so many that it should be eager: with many sources, nearly every link is faster for some.
    fn leads(&mut self, faster: usize, slower: usize) -> bool {
        self.lead = (self.lead + faster).saturating_sub(slower);
        let leads = self.lazy && self.lead >= LEAD;
        if leads || !self.lazy {
            self.lead = 0;
        }
        leads
    }
}

struct Missing {
    announcers: VecDeque<(NodeId, u8)>,
    asked: Option<NodeId>,
    alarm: Timestamp,
    /// When the first announcement came.
    since: Timestamp,
}

/// An announcement that came before its payload.
struct Announced {
    by: NodeId,
    hops: u8,
    at: Timestamp,
    /// It was asked for: then the link that it came by is eager already.
    grafted: bool,
}

/// What one period has shown.
pub struct Period {
    links: Vec<(NodeId, Link)>,
    /// Payloads that repair had to bring.
    pub late: usize,
}

impl Period {
    /// Neighbours that pass on hardly anything of what they must have.
    pub fn silent(&self, payloads: u32, age: u32) -> Vec<NodeId> {
        let silent = |link: &Link| link.age >= age && link.due >= payloads && link.paid * 2 < link.due;
        self.links.iter().filter(|(_, link)| silent(link)).map(|(node, _)| *node).collect()
    }

    /// How many neighbours brought something.
    pub fn bringers(&self) -> usize {
        self.links.iter().filter(|(_, link)| link.told > 0).count()
    }

    /// One of the neighbours that brought the least.
    pub fn worst(&self, chance: &mut Chance) -> Option<NodeId> {
        let old = || self.links.iter().filter(|(_, link)| link.age > 0);
        let least = old().map(|(_, link)| (link.news, link.told)).min()?;
        let worst: Vec<NodeId> =
            old().filter(|(_, link)| (link.news, link.told) == least).map(|(node, _)| *node).collect();
        chance.pick(&worst).copied()
    }
}

impl Push {
    /// Without neighbours.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            links: ByNode::new(),
            missing: BTreeMap::new(),
            alarms: BTreeMap::new(),
            cache: Cache::default(),
            late: 0,
            parent: None,
            grafted: None,
        }
    }

    /// What was seen of late.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The same, to note what is asked for.
    pub fn cache_mut(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// A new link is eager where there is none yet, and lazy otherwise. In the paper all are eager, and the
    /// first broadcasts find out which are too many: where members come and go, that is a duplicate for every
    /// new link several times.
    pub fn neighbour_up(&mut self, node: NodeId, outbox: &mut Outbox) {
        let lazy = self.settings.selection.targets != Targets::Flood;
        self.links.insert(node, Link { lazy, ..Link::default() });
        if self.links.values().all(|link| link.lazy) {
            self.graft_best(outbox);
        }
    }

    /// Grafts the lazy link that announces the most.
    fn graft_best(&mut self, outbox: &mut Outbox) {
        let lazy = self.links.iter().filter(|(_, link)| link.lazy);
        let Some(node) = lazy.max_by_key(|(_, link)| link.told).map(|(node, _)| *node) else { return };
        if self.settings.selection.targets == Targets::Tree {
            self.set_lazy(&node, false);
            outbox.now(node, Message::Graft(None));
        }
    }

    /// Whoever was asked and is gone is asked no longer. If it was the way by which payloads came, another one is
    /// grafted before the next payload is missed.
    pub fn neighbour_down(&mut self, now: Timestamp, node: &NodeId, outbox: &mut Outbox) {
        self.links.remove(node);
        if self.parent.as_ref() == Some(node) || self.links.values().all(|link| link.lazy) {
            self.parent = None;
            self.graft_best(outbox);
        }
        for (id, missing) in &mut self.missing {
            missing.announcers.retain(|(announcer, _)| announcer != node);
            if missing.asked.as_ref() == Some(node) {
                missing.asked = None;
                self.alarms.remove(&(missing.alarm, *id));
                missing.alarm = now;
                self.alarms.insert((now, *id), ());
            }
        }
    }

    /// A payload of this node's own.
    pub fn broadcast(&mut self, now: Timestamp, payload: Payload, outbox: &mut Outbox) {
        if self.cache.insert(now, &payload, 0) {
            self.pass_on(now, None, 0, &payload, outbox);
        }
    }

    /// A payload from a peer.
    pub fn on_payload(
        &mut self,
        now: Timestamp,
        from: NodeId,
        hops: u8,
        payload: Payload,
        is_neighbour: bool,
        outbox: &mut Outbox,
    ) {
        let id = payload.id();
        let new = self.cache.insert(now, &payload, hops);
        if let Some(link) = self.links.get_mut(&from) {
            link.told += 1;
            link.paid += 1;
            link.news += u32::from(new);
            if new {
                link.duplicates = 0;
            }
        }
        if !new {
            let redundant = self.links.get_mut(&from).is_some_and(|link| {
                link.duplicates += 1;
                !link.lazy && link.duplicates >= self.settings.prune_after
            });
            if redundant && self.settings.selection.targets == Targets::Tree {
                self.set_lazy(&from, true);
                outbox.now(from, Message::Prune);
            }
            return;
        }
        let announced = self.found(&id);
        outbox.deliver(from, hops, payload.clone());
        for (node, link) in &mut self.links {
            link.due += u32::from(link.lazy && *node != from);
        }
        self.pass_on(now, Some(from), hops, &payload, outbox);
        if is_neighbour {
            self.parent = Some(from);
        }
        if is_neighbour && self.settings.selection.targets == Targets::Tree {
            self.set_lazy(&from, false);
            self.optimise(now, from, hops, announced, outbox);
        }
    }

    /// The paper's `Optimize`: a lazy link on which the payload was announced much nearer to its source
    /// becomes eager. The paper prunes the link that it came by in the same breath; here that one is left to be
    /// found redundant, because it may well be the tree's only link for other sources.
    fn optimise(
        &mut self,
        now: Timestamp,
        from: NodeId,
        hops: u8,
        announced: Option<Announced>,
        outbox: &mut Outbox,
    ) {
        let threshold = self.settings.optimise_hops;
        let Some(Announced { by: other, hops: nearer, at, grafted }) = announced else { return };
        if threshold == 0 || other == from || grafted {
            return;
        }
        if hops.saturating_sub(nearer) < threshold && now.since_ms(at) < self.settings.optimise_ms {
            return;
        }
        if self.links.get_mut(&other).is_some_and(|link| link.leads(1, 0)) {
            self.set_lazy(&other, false);
            outbox.now(other, Message::Graft(None));
        }
    }

    fn pass_on(
        &mut self,
        now: Timestamp,
        from: Option<NodeId>,
        hops: u8,
        payload: &Payload,
        outbox: &mut Outbox,
    ) {
        let hops = hops.saturating_add(1);
        let pushes = self.settings.selection.data.pushes(payload.bytes().len());
        let due = match self.settings.selection.pace {
            Pace::Now => Timestamp(0),
            Pace::Batched(ms) => now.plus_ms(ms),
        };
        for (node, link) in self.links.iter().filter(|(node, _)| Some(**node) != from) {
            if link.lazy || !pushes {
                outbox.announce(*node, payload.id(), hops, now.plus_ms(self.settings.lazy_ms));
            } else {
                outbox.at(*node, Message::Payload { hops, payload: payload.clone() }, due);
            }
        }
    }

    /// A neighbour announces payloads.
    pub fn on_announced(
        &mut self,
        now: Timestamp,
        from: NodeId,
        ids: &[(MessageId, u8)],
        outbox: &mut Outbox,
    ) {
        if let Some(link) = self.links.get_mut(&from) {
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            link.told = link.told.saturating_add(count);
            link.paid = link.paid.saturating_add(count);
        }
        let faster = ids.iter().filter(|(id, _)| self.is_faster(now, id)).count();
        let leads = self.links.get_mut(&from).is_some_and(|link| link.leads(faster, ids.len() - faster));
        if leads {
            self.set_lazy(&from, false);
            outbox.now(from, Message::Graft(None));
        }
        for (id, hops) in ids {
            if self.cache.has(id) {
                continue;
            }
            if let Some(missing) = self.missing.get_mut(id) {
                if missing.announcers.len() < ANNOUNCERS {
                    missing.announcers.push_back((from, *hops));
                }
                continue;
            }
            if self.missing.len() >= MISSING {
                continue;
            }
            // With ids alone there is no tree to wait for.
            let selection = self.settings.selection;
            let waits = selection.targets == Targets::Tree && selection.data != Data::Id;
            let alarm = if waits { now.plus_ms(self.settings.missing_ms) } else { now };
            let announcers = VecDeque::from([(from, *hops)]);
            self.missing.insert(*id, Missing { announcers, asked: None, alarm, since: now });
            self.alarms.insert((alarm, *id), ());
        }
    }

    /// Whether a payload that is here by another link would have come much sooner by this lazy one: its
    /// announcement waited before it was sent. The paper compares hops here too; among many sources that
    /// grafted a link for nearly every payload: a third fewer hops, and three quarters more bytes.
    fn is_faster(&self, now: Timestamp, id: &MessageId) -> bool {
        let settings = &self.settings;
        if settings.optimise_hops == 0 || settings.selection.targets != Targets::Tree {
            return false;
        }
        let saved_ms = |at: Timestamp| at.plus_ms(settings.lazy_ms).since_ms(now);
        self.cache.since(id).is_some_and(|at| saved_ms(at) >= settings.optimise_late_ms)
    }

    /// A neighbour wants payloads pushed.
    pub fn on_graft(&mut self, from: NodeId, id: Option<MessageId>, outbox: &mut Outbox) {
        if self.settings.selection.targets != Targets::Lazy {
            self.set_lazy(&from, false);
        }
        if let Some((payload, hops)) = id.and_then(|id| self.cache.get(&id)) {
            outbox.now(from, Message::Payload { hops: hops.saturating_add(1), payload });
        }
    }

    /// A neighbour wants ids only.
    pub fn on_prune(&mut self, from: NodeId) {
        self.set_lazy(&from, true);
    }

    /// Repair found so many payloads that the tree did not bring.
    pub fn repaired(&mut self, late: usize) {
        self.late += late;
    }

    /// Asks for what is overdue.
    pub fn on_timeout(&mut self, now: Timestamp, outbox: &mut Outbox) {
        while let Some((&(at, id), ())) = self.alarms.first_key_value() {
            if at > now {
                break;
            }
            self.alarms.pop_first();
            let Some(missing) = self.missing.get_mut(&id) else { continue };
            if let Some(asked) = missing.asked.take()
                && let Some(link) = self.links.get_mut(&asked)
            {
                link.broken += 1;
            }
            let Some((next, _)) = missing.announcers.pop_front() else {
                self.missing.remove(&id);
                continue;
            };
            missing.asked = Some(next);
            missing.alarm = now.plus_ms(self.settings.graft_ms);
            self.alarms.insert((missing.alarm, id), ());
            // One torn link makes many payloads late: one graft mends it, the others are merely fetched.
            let mended = self.grafted.is_some_and(|(node, at)| node != next && now.since_ms(at) < MEND_MS);
            if self.settings.selection.targets == Targets::Tree && !mended {
                outbox.now(next, Message::Graft(Some(id)));
                self.set_lazy(&next, false);
                self.grafted = Some((next, now));
            } else {
                outbox.now(next, Message::IWant(vec![id]));
            }
        }
    }

    /// When something is overdue next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.alarms.first_key_value().map(|((at, _), ())| *at)
    }

    /// Neighbours that have broken so many promises.
    pub fn take_broken(&mut self, most: u32) -> Vec<NodeId> {
        let broken: Vec<NodeId> =
            self.links.iter().filter(|(_, link)| link.broken >= most).map(|(node, _)| *node).collect();
        for node in &broken {
            self.links.remove(node);
        }
        broken
    }

    /// Starts counting afresh; returns what the period has shown. Where little is said, what a link owes is
    /// counted over several periods, until there are so many `payloads` to judge it by.
    pub fn end_period(&mut self, payloads: u32) -> Period {
        let links = self.links.iter().map(|(node, link)| (*node, link.clone())).collect();
        for link in self.links.values_mut() {
            (link.news, link.told) = (0, 0);
            if link.due >= payloads {
                (link.paid, link.due) = (0, 0);
            }
            link.age += 1;
        }
        Period { links, late: std::mem::take(&mut self.late) }
    }

    fn set_lazy(&mut self, node: &NodeId, lazy: bool) {
        if let Some(link) = self.links.get_mut(node) {
            link.lazy = lazy && self.settings.selection.targets != Targets::Flood;
        }
    }

    /// The payload is here. Returns who announced it first.
    fn found(&mut self, id: &MessageId) -> Option<Announced> {
        let missing = self.missing.remove(id)?;
        self.alarms.remove(&(missing.alarm, *id));
        let (by, hops) = missing.announcers.front().copied()?;
        Some(Announced { by, hops, at: missing.since, grafted: missing.asked.is_some() })
    }
}

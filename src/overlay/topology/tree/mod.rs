//! `tree`: chat at scale. Membership by HyParView (Leitão, Pereira, Rodrigues, DSN 2007), broadcast by
//! Plumtree (same authors, SRDS 2007): payloads once along a tree that broadcasts themselves carve out of
//! the neighbourhood, ids lazily beside it, and grafts where the tree is torn.
//!
//! | file | owns |
//! |---|---|
//! | `views` | who is a neighbour: active and passive view, joins, shuffles, replacement |
//! | `push` | what goes to which neighbour: eager and lazy links, missing payloads, grafts, prunes |
//!
//! Beyond the papers, against members that lie:
//! - **The silent are replaced.** A neighbour on a lazy link gets every payload elsewhere, so it has every
//!   id to announce. One that announces less than half of what went by is hardly passing on what it gets.
//! - **A broken promise counts.** Whoever announces an id and does not send it when asked is dropped after
//!   a few, and the payload is asked of the next who announced it.
//! - **A quiet node looks elsewhere.** When nothing new comes, or repairs bring what the tree should have
//!   brought, one neighbour is exchanged for one from the passive view: a node whose neighbours are all
//!   hostile gets out of it. Waits double while all is truly quiet.
//! - **Views take few of each neighbourhood** of addresses, so that many keys behind one operator do not
//!   fill them ([`Contact::neighbourhood`](super::Contact::neighbourhood)).

mod push;
mod views;

use std::collections::BTreeMap;

use super::outbox::Outbox;
use super::{Contact, Input, Message, MessageId, Output, Payload, Selection, Topology, repair};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;
use push::Push;
use views::Views;

/// What can be set; the defaults suit ten to a hundred thousand members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Active view: neighbours that this node looks for. The paper's `log10(n) + 1`, and one more for members
    /// that lie.
    pub active: usize,
    /// Neighbours that it takes. The paper has one bound for both; then nearly everyone who looks for
    /// a neighbour is refused, because nearly everyone is full, and connections are made to be closed.
    pub active_most: usize,
    /// Passive view: spares.
    pub passive: usize,
    /// Active random walk length (ARWL): hops that a newcomer and a shuffle travel.
    pub active_walk: u8,
    /// Passive random walk length (PRWL): where on its way a newcomer enters a passive view.
    pub passive_walk: u8,
    /// How often contacts are exchanged.
    pub shuffle_ms: u64,
    /// How long an announcement waits for company.
    pub lazy_ms: u64,
    /// How long an announced payload may take by the tree before it is asked for.
    pub missing_ms: u64,
    /// How long an answer to that may take before the next announcer is asked.
    pub graft_ms: u64,
    /// Duplicates in a row after which a link is pruned. The paper prunes at the first: with many sources at
    /// once, several links of one ring are then pruned for one another, the tree is torn, and grafts
    /// mend it late, with duplicates of their own. At ten payloads a second, 8 instead of 2 halved the
    /// duplicates and the slowest hundredth's delay.
    pub prune_after: u32,
    /// Hops that a lazy link must save before it takes an eager link's place; 0 for never.
    pub optimise_hops: u8,
    /// Or the time by which its announcement came before the payload. The paper counts hops alone; by
    /// time, the tree follows the fast links, however many.
    pub optimise_ms: u64,
    /// The same where the announcement came after the payload, because it waited before it was sent: the time
    /// that the payload itself would have saved.
    pub optimise_late_ms: u64,
    /// How often one neighbour is asked for what is missing; `None` where the application reconciles.
    pub repair_ms: Option<u64>,
    /// How often neighbours are judged, and the first wait before a quiet node looks elsewhere.
    pub refresh_ms: u64,
    /// What is pushed, to whom, when.
    pub selection: Selection,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            active: 5,
            active_most: 8,
            passive: 30,
            active_walk: 6,
            passive_walk: 3,
            shuffle_ms: 60_000,
            lazy_ms: 150,
            missing_ms: 500,
            graft_ms: 500,
            prune_after: 8,
            optimise_hops: 8,
            optimise_ms: 200,
            optimise_late_ms: 120,
            repair_ms: Some(15_000),
            refresh_ms: 15_000,
            selection: Selection::default(),
        }
    }
}

/// One member of a tree.
pub struct Tree {
    settings: Settings,
    chance: Chance,
    views: Views,
    push: Push,
    outbox: Outbox,
    repair_at: Option<Timestamp>,
    /// When a new neighbour was last asked for what is missing.
    asked_at: Option<Timestamp>,
    refresh_at: Timestamp,
    /// Whether one period has passed: before that there is much to catch up with.
    settled: bool,
    /// Refreshes in a row at which all was quiet.
    quiet: u32,
}

/// Refreshes at which a link was there before it is judged.
const JUDGE_AFTER: u32 = 1;
/// Payloads that must have gone by before a neighbour is judged by them.
const JUDGE_PAYLOADS: u32 = 16;
/// Broken promises before a neighbour is dropped.
const BROKEN: u32 = 3;
/// Payloads that repair had to bring in one period before that is taken for more than an accident.
const LATE: usize = 3;
/// How likely a refresh is to look for somebody who was lost.
const LOOK_BACK: f64 = 0.1;
/// The same, when it brings nothing: then this part of the domain may be all there is of it here.
const LOOK_BACK_QUIET: f64 = 0.5;
/// How long one new neighbour has the word before another one is asked for what is missing.
const ASK_GAP_MS: u64 = 4_000;
/// Doublings of the wait of a quiet node.
const QUIET_DOUBLINGS: u32 = 8;
/// Refreshes at which it does not wait longer yet: it may have none but hostile neighbours.
const PATIENT: u32 = 3;

impl Tree {
    /// A member that knows nobody yet.
    pub fn new(own: Contact, settings: Settings, seed: [u8; 32], now: Timestamp) -> Self {
        let mut chance = Chance::new(seed);
        let repair_at = settings.repair_ms.map(|ms| now.plus_ms(chance.about(ms)));
        let refresh_at = now.plus_ms(chance.about(settings.refresh_ms));
        Self {
            settings,
            views: Views::new(own, settings, now, &mut chance),
            push: Push::new(settings),
            chance,
            outbox: Outbox::default(),
            repair_at,
            asked_at: None,
            refresh_at,
            settled: false,
            quiet: 0,
        }
    }

    fn on_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        let is_neighbour = self.views.is_active(&from);
        let presumes = matches!(
            message,
            Message::Payload { .. }
                | Message::IHave(_)
                | Message::Graft(_)
                | Message::Fingerprint(_)
                | Message::Recent { .. }
                | Message::ForwardJoin { .. }
                | Message::Shuffle { .. }
        );
        if presumes && !is_neighbour && !self.views.is_pending(&from) {
            // It takes us for a neighbour, and we do not: a word was lost, and both must agree.
            self.outbox.now(from, Message::Disconnect);
        }
        match message {
            Message::Payload { hops, payload } => {
                self.push.on_payload(now, from, hops, payload, is_neighbour, &mut self.outbox);
            }
            Message::IHave(ids) if is_neighbour => self.push.on_announced(now, from, &ids, &mut self.outbox),
            Message::IWant(ids) => repair::on_want(self.push.cache(), from, &ids, &mut self.outbox),
            Message::Graft(id) if is_neighbour => self.push.on_graft(from, id, &mut self.outbox),
            Message::Prune if is_neighbour => self.push.on_prune(from),
            Message::Fingerprint(theirs) if is_neighbour => {
                repair::on_fingerprint(self.push.cache(), now, from, theirs, &mut self.outbox);
            }
            Message::Recent { buckets, ids, reply } if is_neighbour => {
                let recent = (buckets, ids, reply);
                let late = repair::on_recent(self.push.cache_mut(), now, from, recent, &mut self.outbox);
                if self.settled {
                    self.push.repaired(late);
                }
            }
            other => {
                self.views.on_message(now, from, other, &mut self.chance, &mut self.outbox);
                self.follow_views(now);
            }
        }
    }

    /// Lets the broadcast know who became a neighbour and who ceased to be one.
    fn follow_views(&mut self, now: Timestamp) {
        for (node, up) in self.views.take_changes() {
            if up {
                self.push.neighbour_up(node, &mut self.outbox);
                self.ask_new(now, node);
            } else {
                self.push.neighbour_down(now, &node, &mut self.outbox);
            }
        }
    }

    /// Asks a new neighbour for what is missing here. One at a time: they would all bring the same. A
    /// newcomer asks another one soon after, because the first may be as new.
    fn ask_new(&mut self, now: Timestamp, node: NodeId) {
        let late = self.asked_at.is_none_or(|at| now.since_ms(at) >= ASK_GAP_MS);
        if self.settings.repair_ms.is_none() || !late {
            return;
        }
        if self.asked_at.is_none() {
            self.repair_at = Some(now.plus_ms(self.chance.about(ASK_GAP_MS)));
        }
        self.asked_at = Some(now);
        repair::ask(self.push.cache(), now, node, &mut self.outbox);
    }

    fn on_timeout(&mut self, now: Timestamp) {
        self.push.on_timeout(now, &mut self.outbox);
        for liar in self.push.take_broken(BROKEN) {
            self.views.drop_neighbour(now, liar, true, &mut self.chance, &mut self.outbox);
        }
        self.views.on_timeout(now, &mut self.chance, &mut self.outbox);
        if let (Some(at), Some(ms)) = (self.repair_at, self.settings.repair_ms)
            && at <= now
        {
            self.repair_at = Some(now.plus_ms(self.chance.about(ms)));
            if let Some(peer) = self.chance.pick(&self.views.active()).copied() {
                repair::ask(self.push.cache(), now, peer, &mut self.outbox);
            }
        }
        if self.refresh_at <= now {
            self.refresh(now);
        }
        self.follow_views(now);
    }

    /// Judges the neighbours by the last period, and exchanges one where there is reason to.
    fn refresh(&mut self, now: Timestamp) {
        let period = self.push.end_period(JUDGE_PAYLOADS);
        for silent in period.silent(JUDGE_PAYLOADS, JUDGE_AFTER) {
            self.views.drop_neighbour(now, silent, true, &mut self.chance, &mut self.outbox);
        }
        self.settled = true;
        let tricked = period.late >= LATE;
        let quiet = period.bringers() < 2;
        if self.chance.happens(if quiet { LOOK_BACK_QUIET } else { LOOK_BACK })
            && let Some(worst) = period.worst(&mut self.chance)
        {
            self.views.look_back(now, worst, quiet, &mut self.chance, &mut self.outbox);
        }
        if (tricked || quiet)
            && let Some(worst) = period.worst(&mut self.chance)
        {
            self.views.exchange(now, worst, &mut self.chance, &mut self.outbox);
        }
        self.quiet = if quiet && !tricked { (self.quiet + 1).min(QUIET_DOUBLINGS) } else { 0 };
        if self.views.has_lost() {
            self.quiet = self.quiet.min(1);
        }
        let wait = self.settings.refresh_ms << self.quiet.saturating_sub(PATIENT);
        self.refresh_at = now.plus_ms(self.chance.about(wait));
    }
}

impl Topology for Tree {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        match input {
            Input::Join(contacts) => self.views.join(now, contacts, &mut self.outbox),
            Input::Broadcast(payload) => self.push.broadcast(now, payload, &mut self.outbox),
            Input::Frame { from, frame } => {
                frame.0.into_iter().for_each(|message| self.on_message(now, from, message));
            }
            Input::LinkUp(node) => self.views.link_up(now, node, &mut self.outbox),
            Input::LinkDown(node) => {
                self.outbox.forget(&node);
                self.views.link_down(now, node, &mut self.chance, &mut self.outbox);
            }
            Input::DialFailed(node) => {
                self.views.dial_failed(now, node, &mut self.chance, &mut self.outbox);
            }
            Input::Timeout => {}
        }
        self.follow_views(now);
        self.on_timeout(now);
        self.outbox.finish(now)
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        let times = [
            Some(self.refresh_at),
            self.repair_at,
            self.views.next_timeout(),
            self.push.next_timeout(),
            self.outbox.next_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.views.active()
    }

    fn known(&self) -> Vec<Contact> {
        self.views.known()
    }

    fn shun(&mut self, now: Timestamp, node: NodeId) -> Vec<Output> {
        self.views.drop_neighbour(now, node, true, &mut self.chance, &mut self.outbox);
        self.follow_views(now);
        self.outbox.finish(now)
    }

    fn has(&self, id: &MessageId) -> bool {
        self.push.cache().has(id)
    }

    fn payload(&self, id: &MessageId) -> Option<Payload> {
        self.push.cache().get(id).map(|(payload, _)| payload)
    }

    fn settled(&self, now: Timestamp, age_ms: u64) -> Option<MessageId> {
        self.push.cache().settled(now, age_ms)
    }
}

/// Neighbours by node, in order: most tables here are small.
type ByNode<T> = BTreeMap<NodeId, T>;

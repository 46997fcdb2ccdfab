//! HyParView: who is a neighbour. Owns the active view (links that payloads use), the passive view (spares
//! to fall back on), newcomers, shuffles and replacement; never sees a payload.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::frame::CONTACTS;
use super::super::{Contact, Message};
use super::{ByNode, Outbox, Settings};
use crate::base::{NodeId, Timestamp};
use crate::overlay::chance::Chance;

/// How long a dial and the answer to the first word on it may take together.
const PENDING_MS: u64 = 10_000;
/// How long whoever refused, failed or misbehaved is not asked again.
const REST_MS: u64 = 30_000;
/// The same for whoever was caught.
const SHUN_MS: u64 = 600_000;
/// Nodes at rest; a further one is not remembered.
const RESTING: usize = 256;
/// Shuffles whose way back is remembered; a further one is dropped.
const WALKS: usize = 64;
/// How long such a way is remembered.
const WALK_MS: u64 = 10_000;
/// Contacts of the active and of the passive view in one shuffle.
const SHUFFLE_ACTIVE: usize = 3;
/// See [`SHUFFLE_ACTIVE`].
const SHUFFLE_PASSIVE: usize = 6;
/// Walks on which an entrance sends a newcomer.
const JOIN_WALKS: usize = 2;
/// Of one neighbourhood of addresses: in the active view.
const NEAR_ACTIVE: usize = 2;
/// Of one neighbourhood of addresses: in the passive view.
const NEAR_PASSIVE: usize = 3;
/// Contacts kept that could not be reached; beyond it the oldest are forgotten.
const LOST: usize = 32;
/// How often an empty or thin active view is filled up.
const FILL_MS: u64 = 1_000;

/// Both views of a member.
pub struct Views {
    own: Contact,
    settings: Settings,
    active: ByNode<Contact>,
    /// Neighbours that this node chose among its spares. Whoever knocks does not easily push them out.
    chosen: BTreeSet<NodeId>,
    passive: Vec<Contact>,
    /// Where the domain was entered: tried again when nobody else is left.
    entrances: Vec<Contact>,
    /// Who could not be reached. After a partition both sides are whole by themselves and have forgotten each
    /// other, and only these lead back. The paper has no such list.
    lost: VecDeque<Contact>,
    pending: ByNode<Pending>,
    resting: BTreeMap<NodeId, Timestamp>,
    walks: BTreeMap<u32, Walk>,
    changes: Vec<(NodeId, bool)>,
    shuffle_at: Timestamp,
    fill_at: Timestamp,
    /// What the last shuffle sent away: the first to make room.
    sent: Vec<NodeId>,
}

struct Pending {
    contact: Contact,
    why: Why,
    until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// This node is new, and the other one its entrance.
    Enter,
    /// A newcomer's walk ended here.
    Newcomer,
    /// A place is free.
    Befriend,
    /// To take this neighbour's place.
    Replace(NodeId),
}

struct Walk {
    from: NodeId,
    until: Timestamp,
}

impl Views {
    /// Nobody known.
    pub fn new(own: Contact, settings: Settings, now: Timestamp, chance: &mut Chance) -> Self {
        Self {
            own,
            settings,
            active: ByNode::new(),
            chosen: BTreeSet::new(),
            passive: Vec::new(),
            entrances: Vec::new(),
            lost: VecDeque::new(),
            pending: ByNode::new(),
            resting: BTreeMap::new(),
            walks: BTreeMap::new(),
            changes: Vec::new(),
            shuffle_at: now.plus_ms(chance.about(settings.shuffle_ms)),
            fill_at: now.plus_ms(chance.about(FILL_MS)),
            sent: Vec::new(),
        }
    }

    /// The neighbours.
    pub fn active(&self) -> Vec<NodeId> {
        self.active.keys().copied().collect()
    }

    /// Whether it is a neighbour.
    pub fn is_active(&self, node: &NodeId) -> bool {
        self.active.contains_key(node)
    }

    /// Whether it was asked to be one.
    pub fn is_pending(&self, node: &NodeId) -> bool {
        self.pending.contains_key(node)
    }

    /// Both views.
    pub fn known(&self) -> Vec<Contact> {
        self.active.values().chain(&self.passive).cloned().collect()
    }

    /// Who became a neighbour (`true`) and who ceased to be one since this was last asked.
    pub fn take_changes(&mut self) -> Vec<(NodeId, bool)> {
        std::mem::take(&mut self.changes)
    }

    /// Enters the domain by way of these.
    pub fn join(&mut self, now: Timestamp, contacts: Vec<Contact>, outbox: &mut Outbox) {
        for contact in contacts {
            if contact.node == self.own.node {
                continue;
            }
            if self.entrances.len() < CONTACTS && !self.entrances.contains(&contact) {
                self.entrances.push(contact.clone());
            }
            // Of several entrances the first two are knocked at; the others are spares.
            if self.pending.len() < 2 && !self.is_active(&contact.node) {
                self.ask(now, contact, Why::Enter, outbox);
            } else {
                self.remember(contact);
            }
        }
    }

    /// A link is there: whoever was asked hears why.
    pub fn link_up(&mut self, now: Timestamp, node: NodeId, outbox: &mut Outbox) {
        let Some(pending) = self.pending.get_mut(&node) else { return };
        pending.until = now.plus_ms(PENDING_MS);
        let high = self.active.is_empty();
        let message = match pending.why {
            Why::Enter => Message::Join(self.own.clone()),
            Why::Newcomer | Why::Befriend => Message::Neighbour { contact: self.own.clone(), high },
            // Not refused for lack of room, or nobody would ever change place in a full domain.
            Why::Replace(_) => Message::Neighbour { contact: self.own.clone(), high: true },
        };
        outbox.now(node, message);
    }

    /// The link is gone, and with it the neighbour.
    pub fn link_down(&mut self, now: Timestamp, node: NodeId, chance: &mut Chance, outbox: &mut Outbox) {
        self.pending.remove(&node);
        if let Some(contact) = self.lose(&node) {
            self.changes.push((node, false));
            self.remember(contact);
            self.fill(now, chance, outbox);
        }
    }

    /// Nobody answers there.
    pub fn dial_failed(&mut self, now: Timestamp, node: NodeId, chance: &mut Chance, outbox: &mut Outbox) {
        self.passive.retain(|contact| contact.node != node);
        self.rest(now, node, REST_MS);
        if let Some(pending) = self.pending.remove(&node) {
            self.lost.retain(|contact| contact.node != node);
            self.lost.push_back(pending.contact);
            if self.lost.len() > LOST {
                self.lost.pop_front();
            }
            self.fill(now, chance, outbox);
        }
    }

    /// Ends a neighbourhood; `shun` if it was caught at something.
    pub fn drop_neighbour(
        &mut self,
        now: Timestamp,
        node: NodeId,
        shun: bool,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        if shun {
            self.rest(now, node, SHUN_MS);
            self.passive.retain(|contact| contact.node != node);
        }
        if let Some(contact) = self.lose(&node) {
            self.changes.push((node, false));
            outbox.now(node, Message::Disconnect);
            outbox.hang(node);
            if !shun {
                self.remember(contact);
            }
            self.fill(now, chance, outbox);
        }
    }

    /// Asks a spare to take a neighbour's place, which is given up once the spare has agreed.
    pub fn exchange(&mut self, now: Timestamp, worst: NodeId, chance: &mut Chance, outbox: &mut Outbox) {
        let replacing = self.pending.values().any(|pending| matches!(pending.why, Why::Replace(_)));
        if replacing || !self.active.contains_key(&worst) {
            return;
        }
        if let Some(spare) = self.spare(now, chance) {
            self.ask(now, spare, Why::Replace(worst), outbox);
        }
    }

    /// Whether there are members that could not be reached.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Looks whether somebody can be reached again who could not be; also an
    /// entrance, if there is reason to think that this part of the domain is cut off.
    pub fn look_back(
        &mut self,
        now: Timestamp,
        worst: NodeId,
        cut_off: bool,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        let replacing = self.pending.values().any(|pending| matches!(pending.why, Why::Replace(_)));
        let awake = |contact: &&Contact| {
            !self.is_active(&contact.node)
                && self.resting.get(&contact.node).is_none_or(|until| *until <= now)
                && !self.passive.iter().any(|known| known.node == contact.node)
        };
        let entrances = self.entrances.iter().filter(|_| cut_off);
        let all: Vec<Contact> = self.lost.iter().chain(entrances).filter(awake).cloned().collect();
        if let Some(contact) = chance.pick(&all).cloned()
            && !replacing
        {
            self.ask(now, contact, Why::Replace(worst), outbox);
        }
    }

    /// A message of the membership's; others are not for here.
    pub fn on_message(
        &mut self,
        now: Timestamp,
        from: NodeId,
        message: Message,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        match message {
            Message::Join(contact) if contact.node == from => self.on_join(now, contact, chance, outbox),
            Message::ForwardJoin { newcomer, ttl } if self.is_active(&from) => {
                self.on_forward_join(now, from, newcomer, ttl, chance, outbox);
            }
            Message::Neighbour { contact, high } if contact.node == from => {
                self.on_neighbour(now, contact, high, chance, outbox);
            }
            Message::Accept => self.on_accept(now, from, chance, outbox),
            Message::Disconnect => self.on_disconnect(now, from, chance, outbox),
            Message::Shuffle { nonce, ttl, contacts } if self.is_active(&from) => {
                self.on_shuffle(now, from, nonce, ttl, contacts, chance, outbox);
            }
            Message::ShuffleReply { nonce, contacts } => {
                self.on_shuffle_reply(from, nonce, contacts, outbox);
            }
            _ => {}
        }
    }

    /// Gives up on who does not answer, shuffles, fills up.
    pub fn on_timeout(&mut self, now: Timestamp, chance: &mut Chance, outbox: &mut Outbox) {
        let late = |pending: &Pending| pending.until <= now;
        while let Some(node) = self.pending.iter().find(|(_, p)| late(p)).map(|(node, _)| *node) {
            self.pending.remove(&node);
            self.rest(now, node, REST_MS);
            outbox.hang(node);
        }
        if self.shuffle_at <= now {
            self.shuffle_at = now.plus_ms(chance.about(self.settings.shuffle_ms));
            self.walks.retain(|_, walk| walk.until > now);
            self.resting.retain(|_, until| *until > now);
            self.shuffle(chance, outbox);
        }
        if self.fill_at <= now {
            self.fill_at = now.plus_ms(chance.about(FILL_MS << self.thinness()));
            self.fill(now, chance, outbox);
        }
    }

    /// When [`Self::on_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let pending = self.pending.values().map(|pending| pending.until).min();
        [Some(self.shuffle_at), Some(self.fill_at), pending].into_iter().flatten().min()
    }

    /// Doublings of the time between looks at the view: the fuller, the rarer.
    fn thinness(&self) -> u32 {
        match self.active.len() {
            0 => 0,
            few if few * 2 < self.settings.active => 1,
            some if some < self.settings.active => 3,
            _ => 5,
        }
    }

    fn on_join(&mut self, now: Timestamp, newcomer: Contact, chance: &mut Chance, outbox: &mut Outbox) {
        let ttl = self.settings.active_walk;
        // The paper sends the newcomer to every neighbour, and each walk's end connects with it. With two
        // entrances that is twice as many as it takes; it finds the rest among the spares that follow.
        let neighbours: Vec<NodeId> =
            self.active.keys().filter(|node| **node != newcomer.node).copied().collect();
        for node in chance.sample(&neighbours, JOIN_WALKS) {
            outbox.now(node, Message::ForwardJoin { newcomer: newcomer.clone(), ttl });
        }
        outbox.now(newcomer.node, Message::Accept);
        // Beyond the paper: spares at once, so that a newcomer does not hang on its entrance alone.
        let others: Vec<Contact> =
            self.known().into_iter().filter(|contact| contact.node != newcomer.node).collect();
        let contacts = chance.sample(&others, SHUFFLE_ACTIVE + SHUFFLE_PASSIVE);
        outbox.now(newcomer.node, Message::ShuffleReply { nonce: 0, contacts });
        self.admit(now, newcomer, true, false, chance, outbox);
    }

    fn on_forward_join(
        &mut self,
        now: Timestamp,
        from: NodeId,
        newcomer: Contact,
        ttl: u8,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        if newcomer.node == self.own.node || self.is_active(&newcomer.node) {
            return;
        }
        let onward: Vec<NodeId> =
            self.active.keys().filter(|node| **node != from && **node != newcomer.node).copied().collect();
        let next = chance.pick(&onward).copied();
        if let (Some(next), true) = (next, ttl > 0) {
            // Beyond the paper: wherever spares are lacking, or a small domain would stay a thin one.
            if ttl == self.settings.passive_walk || self.passive.len() < self.settings.active {
                self.remember(newcomer.clone());
            }
            let ttl = ttl.min(self.settings.active_walk) - 1;
            return outbox.now(next, Message::ForwardJoin { newcomer, ttl });
        }
        if self.near(&self.active.values().collect::<Vec<_>>(), &newcomer) < NEAR_ACTIVE {
            self.ask(now, newcomer, Why::Newcomer, outbox);
        }
    }

    fn on_neighbour(
        &mut self,
        now: Timestamp,
        contact: Contact,
        high: bool,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        let node = contact.node;
        let caught = self.resting.get(&node).is_some_and(|until| until.since_ms(now) > REST_MS);
        let others: Vec<&Contact> = self.active.values().filter(|other| other.node != node).collect();
        let crowded = self.near(&others, &contact) >= NEAR_ACTIVE;
        let room = others.len() < self.settings.active_most;
        if caught || crowded || !(high || room) {
            outbox.now(node, Message::Disconnect);
            if !self.is_active(&node) {
                outbox.hang(node);
            }
            return;
        }
        outbox.now(node, Message::Accept);
        self.admit(now, contact, high, false, chance, outbox);
    }

    fn on_accept(&mut self, now: Timestamp, from: NodeId, chance: &mut Chance, outbox: &mut Outbox) {
        let Some(pending) = self.pending.remove(&from) else { return };
        let chosen = !matches!(pending.why, Why::Newcomer);
        // There may be room for both.
        if let Why::Replace(worst) = pending.why
            && self.active.len() > self.settings.active
        {
            self.drop_neighbour(now, worst, false, chance, outbox);
        }
        self.admit(now, pending.contact, true, chosen, chance, outbox);
    }

    fn on_disconnect(&mut self, now: Timestamp, from: NodeId, chance: &mut Chance, outbox: &mut Outbox) {
        let refused = self.pending.remove(&from);
        if let Some(contact) = self.lose(&from) {
            self.changes.push((from, false));
            self.remember(contact);
        }
        if let Some(pending) = refused {
            self.remember(pending.contact);
        }
        self.rest(now, from, REST_MS);
        outbox.hang(from);
        self.fill(now, chance, outbox);
    }

    fn shuffle(&mut self, chance: &mut Chance, outbox: &mut Outbox) {
        let Some(to) = chance.pick(&self.active()).copied() else { return };
        let mut contacts = vec![self.own.clone()];
        let neighbours: Vec<Contact> =
            self.active.values().filter(|contact| contact.node != to).cloned().collect();
        contacts.extend(chance.sample(&neighbours, SHUFFLE_ACTIVE));
        contacts.extend(chance.sample(&self.passive, SHUFFLE_PASSIVE));
        self.sent = contacts.iter().map(|contact| contact.node).collect();
        let nonce = chance.bits() as u32;
        outbox.now(to, Message::Shuffle { nonce, ttl: self.settings.active_walk, contacts });
    }

    #[allow(clippy::too_many_arguments)] // what a walk carries, and what a walk needs
    fn on_shuffle(
        &mut self,
        now: Timestamp,
        from: NodeId,
        nonce: u32,
        ttl: u8,
        contacts: Vec<Contact>,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        let onward: Vec<NodeId> = self.active.keys().filter(|node| **node != from).copied().collect();
        let next = chance.pick(&onward).copied().filter(|_| ttl > 0);
        if let Some(next) = next {
            if self.walks.len() >= WALKS {
                self.walks.retain(|_, walk| walk.until > now);
            }
            if self.walks.len() < WALKS && !self.walks.contains_key(&nonce) {
                self.walks.insert(nonce, Walk { from, until: now.plus_ms(WALK_MS) });
                let ttl = ttl.min(self.settings.active_walk) - 1;
                outbox.now(next, Message::Shuffle { nonce, ttl, contacts });
            }
            return;
        }
        let reply = chance.sample(&self.passive, contacts.len().min(CONTACTS));
        self.sent = reply.iter().map(|contact| contact.node).collect();
        outbox.now(from, Message::ShuffleReply { nonce, contacts: reply });
        contacts.into_iter().for_each(|contact| self.remember(contact));
    }

    /// Back along the walk, to whoever began it: its nonce is in nobody's table there.
    fn on_shuffle_reply(&mut self, from: NodeId, nonce: u32, contacts: Vec<Contact>, outbox: &mut Outbox) {
        match self.walks.remove(&nonce) {
            Some(walk) => outbox.now(walk.from, Message::ShuffleReply { nonce, contacts }),
            None if self.is_active(&from) => {
                contacts.into_iter().for_each(|contact| self.remember(contact));
            }
            None => {}
        }
    }

    /// Makes a neighbour; `force` makes room for it. Whoever knocks takes the place of another that
    /// knocked while these are half the view: many keys that keep knocking fill that half at the most.
    #[allow(clippy::too_many_arguments)] // who, how, and what every step needs
    fn admit(
        &mut self,
        now: Timestamp,
        contact: Contact,
        force: bool,
        chosen: bool,
        chance: &mut Chance,
        outbox: &mut Outbox,
    ) {
        let node = contact.node;
        if node == self.own.node || self.is_active(&node) {
            return;
        }
        if self.active.len() >= self.settings.active_most {
            if !force {
                return;
            }
            let knocked: Vec<NodeId> =
                self.active.keys().filter(|node| !self.chosen.contains(*node)).copied().collect();
            let among = if !chosen && knocked.len() * 2 >= self.settings.active_most {
                knocked
            } else {
                self.active()
            };
            if let Some(victim) = chance.pick(&among).copied() {
                // Without filling up: the place is for the one who comes.
                if let Some(gone) = self.lose(&victim) {
                    self.changes.push((victim, false));
                    self.remember(gone);
                }
                outbox.now(victim, Message::Disconnect);
                outbox.hang(victim);
            }
        }
        self.pending.remove(&node);
        self.passive.retain(|known| known.node != node);
        self.lost.retain(|known| known.node != node);
        self.resting.remove(&node);
        self.active.insert(node, contact);
        if chosen {
            self.chosen.insert(node);
        }
        self.changes.push((node, true));
        self.fill_at = self.fill_at.max(now.plus_ms(FILL_MS));
    }

    /// Asks spares for every free place that nobody is being asked for.
    fn fill(&mut self, now: Timestamp, chance: &mut Chance, outbox: &mut Outbox) {
        while self.active.len() + self.pending.len() < self.settings.active {
            let Some(spare) = self.spare(now, chance) else { break };
            self.ask(now, spare, Why::Befriend, outbox);
        }
        if self.active.is_empty() && self.pending.is_empty() {
            let awake: Vec<Contact> =
                self.entrances.iter().filter(|one| !self.resting.contains_key(&one.node)).cloned().collect();
            let entrances = if awake.is_empty() { &self.entrances } else { &awake };
            if let Some(entrance) = chance.pick(entrances).cloned() {
                self.ask(now, entrance, Why::Enter, outbox);
            }
        }
    }

    fn ask(&mut self, now: Timestamp, contact: Contact, why: Why, outbox: &mut Outbox) {
        if self.is_active(&contact.node) || self.pending.contains_key(&contact.node) {
            return;
        }
        let until = now.plus_ms(PENDING_MS);
        outbox.dial(contact.clone());
        self.pending.insert(contact.node, Pending { contact, why, until });
    }

    /// A spare that is neither asked nor at rest, and whose neighbourhood is not crowded here.
    fn spare(&self, now: Timestamp, chance: &mut Chance) -> Option<Contact> {
        let here: Vec<&Contact> =
            self.active.values().chain(self.pending.values().map(|pending| &pending.contact)).collect();
        let fits = |contact: &&Contact| {
            !self.active.contains_key(&contact.node)
                && !self.pending.contains_key(&contact.node)
                && self.resting.get(&contact.node).is_none_or(|until| *until <= now)
                && self.near(&here, contact) < NEAR_ACTIVE
        };
        let spares: Vec<&Contact> = self.passive.iter().filter(fits).collect();
        chance.pick(&spares).map(|contact| (*contact).clone())
    }

    /// How many of these are of the contact's neighbourhood of addresses.
    fn near(&self, others: &[&Contact], contact: &Contact) -> usize {
        let Some(here) = contact.neighbourhood() else { return 0 };
        others.iter().filter(|other| other.neighbourhood() == Some(here)).count()
    }

    /// Into the passive view, if it fits there.
    fn remember(&mut self, contact: Contact) {
        let node = contact.node;
        if node == self.own.node || self.is_active(&node) || self.resting.contains_key(&node) {
            return;
        }
        if let Some(known) = self.passive.iter_mut().find(|known| known.node == node) {
            *known = contact;
            return;
        }
        if self.near(&self.passive.iter().collect::<Vec<_>>(), &contact) >= NEAR_PASSIVE {
            return;
        }
        if self.passive.len() >= self.settings.passive {
            let sent = self.passive.iter().position(|known| self.sent.contains(&known.node));
            self.passive.remove(sent.unwrap_or(0));
        }
        self.passive.push(contact);
    }

    fn lose(&mut self, node: &NodeId) -> Option<Contact> {
        self.chosen.remove(node);
        self.active.remove(node)
    }

    fn rest(&mut self, now: Timestamp, node: NodeId, ms: u64) {
        if self.resting.len() < RESTING || self.resting.contains_key(&node) {
            let until = self.resting.entry(node).or_default();
            *until = (*until).max(now.plus_ms(ms));
        }
    }
}

//! Intents that wait: what people want of tokens and tickets, the pool that nodes gossip, and solving
//! it. A pool is no part of the replicated state: it is bounded, and nobody relies on it. What was
//! found in it becomes an event, and that is what everybody verifies.
//!
//! Every node keeps its own people's intents, on disk before it says so, and tells of them again with each
//! summary: so a lost packet delays and loses nothing. Those of others are forgotten at a restart, and heard
//! again. An intent leaves the pool when it expires
//! or when something that it gives was spent; should that turn out void later, its author offers it anew.

use std::collections::{BTreeMap, BTreeSet};

use super::admit::Acting;
use super::directory::Directory;
use super::submit::no_such;
use super::{Node, Output, Receipt, Refusal, Turn, Write};
use crate::base::{ChannelId, Digest, Identity, NodeId, Timestamp, codec, limits};
use crate::chat::access::Role;
use crate::chat::act::Act;
use crate::chat::asset::{Asset, Holding};
use crate::chat::intent::{ChannelRef, Subject};
use crate::chat::logics::logics;
use crate::chat::market::{self, Amount, Terms, Wish};
use crate::chat::view::{HoldingView, IntentView, MarketView};
use crate::chat::{settle, ticket, token};
use crate::machine::intent::{Constraints, Intent};
use crate::machine::settlement::Settlement;
use crate::machine::solver::{self, Bounds, Market};
use crate::machine::{Action, MachineError, Transparent};
use crate::overlay::Destination;
use crate::replica::{Offer, Packet, Replica};

/// Settlements that a node puts into one channel at a time; the rest waits for the next run.
const SETTLED_AT_ONCE: usize = 64;

/// Intents that wait, by id.
#[derive(Default)]
pub(super) struct Intents {
    pool: BTreeMap<Digest, Waiting>,
    of_author: BTreeMap<Identity, usize>,
    /// Those of our own people that left the pool, until the store is told.
    gone: Vec<Digest>,
}

struct Waiting {
    offer: Offer,
    /// Whether somebody wants it whom this node speaks for.
    is_ours: bool,
    /// The channels whose assets it is of.
    channels: BTreeSet<ChannelId>,
    gives: Vec<Given>,
}

/// A resource that an intent gives.
struct Given {
    /// Where it is kept account of.
    channel: ChannelId,
    commitment: Option<Digest>,
    /// What would be spent.
    nullifier: Digest,
}

impl Given {
    fn of(intent: &Intent) -> Result<(BTreeSet<ChannelId>, Vec<Self>), MachineError> {
        let homes = settle::homes(&intent.transaction.actions)?;
        let consumed = intent.transaction.actions.iter().flat_map(|action| &action.consumed);
        let gives = consumed.filter_map(|input| {
            let channel = *homes.get(&input.resource.kind())?;
            let commitment = (!input.resource.is_ephemeral).then(|| input.resource.commitment());
            Some(Self {
                channel,
                commitment,
                nullifier: input.resource.nullifier(&input.nullifier_key).ok()?,
            })
        });
        let gives = gives.collect();
        Ok((homes.into_values().collect(), gives))
    }

    fn is_spent(&self, directory: &Directory) -> bool {
        directory.get(&self.channel).is_some_and(|channel| channel.replica.is_spent(&self.nullifier))
    }

    /// Whether it is there to be given.
    fn is_there(&self, directory: &Directory) -> bool {
        directory.get(&self.channel).is_some_and(|channel| {
            !channel.replica.is_spent(&self.nullifier)
                && self.commitment.is_none_or(|commitment| channel.replica.is_unspent(&commitment))
        })
    }
}

impl Intents {
    /// Takes one in. Whether it is new.
    fn add(&mut self, now: Timestamp, offer: Offer, is_ours: bool) -> Result<bool, &'static str> {
        let id = offer.intent.id();
        if let Some(waiting) = self.pool.get_mut(&id) {
            waiting.is_ours |= is_ours;
            return Ok(false);
        }
        let expires = offer.intent.constraints.expires;
        if now > expires || expires > now.plus_ms(limits::INTENT_LIFETIME_MS) {
            return Err("intent_out_of_time");
        }
        let of_author = self.of_author.get(&offer.intent.author).copied().unwrap_or_default();
        if self.pool.len() >= limits::POOLED_INTENTS || of_author >= limits::POOLED_INTENTS_OF_ONE {
            return Err("intents_full");
        }
        if !offer.is_sound() {
            return Err("intent_unsound");
        }
        self.keep(id, offer, is_ours);
        Ok(true)
    }

    fn keep(&mut self, id: Digest, offer: Offer, is_ours: bool) {
        let Ok((channels, gives)) = Given::of(&offer.intent) else { return };
        *self.of_author.entry(offer.intent.author).or_default() += 1;
        self.pool.insert(id, Waiting { offer, is_ours, channels, gives });
    }

    /// Drops those for which it says so.
    fn drop_if(&mut self, goes: impl Fn(&Waiting) -> bool) {
        let gone: Vec<Digest> =
            self.pool.iter().filter(|(_, waiting)| goes(waiting)).map(|(id, _)| *id).collect();
        for id in gone {
            let Some(waiting) = self.pool.remove(&id) else { continue };
            if waiting.is_ours {
                self.gone.push(id);
            }
            let author = waiting.offer.intent.author;
            if let Some(count) = self.of_author.get_mut(&author) {
                *count -= 1;
                if *count == 0 {
                    self.of_author.remove(&author);
                }
            }
        }
    }

    fn of_channel(&self, channel: ChannelId) -> impl Iterator<Item = &Waiting> {
        self.pool.values().filter(move |waiting| waiting.channels.contains(&channel))
    }

    /// The channels that intents tie together with this one: what can be settled with one another.
    fn tied(&self, channel: ChannelId) -> BTreeSet<ChannelId> {
        let mut tied = BTreeSet::from([channel]);
        loop {
            let touching = self.pool.values().filter(|waiting| !waiting.channels.is_disjoint(&tied));
            let more: BTreeSet<ChannelId> = touching.flat_map(|waiting| &waiting.channels).copied().collect();
            if more.is_subset(&tied) {
                return tied;
            }
            tied.extend(more);
        }
    }

    /// Every offer, for tests.
    #[cfg(test)]
    pub fn offers(&self) -> Vec<Offer> {
        self.pool.values().map(|waiting| waiting.offer.clone()).collect()
    }

    /// Packets of these, each short enough to be broadcast.
    fn packets(&self, only_ours: bool) -> Vec<Packet> {
        let mut packets: Vec<(usize, Vec<Offer>)> = Vec::new();
        for waiting in self.pool.values().filter(|waiting| waiting.is_ours || !only_ours) {
            let size = codec::encode(&waiting.offer).len();
            match packets.last_mut() {
                Some((room, offers)) if *room >= size => {
                    *room -= size;
                    offers.push(waiting.offer.clone());
                }
                _ => {
                    let room = limits::BROADCAST_BYTES.saturating_sub(16 + size);
                    packets.push((room, vec![waiting.offer.clone()]));
                }
            }
        }
        packets.into_iter().map(|(_, offers)| Packet::Intents(offers)).collect()
    }
}

impl Node {
    /// What somebody wants of tokens and tickets. What balances by itself is settled at once; the rest
    /// waits for others, and then the receipt names no event.
    pub(super) fn market(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        wish: &Wish,
    ) -> Result<Receipt, Refusal> {
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let action = self.wished(turn.now, acting, wanted, wish)?;
        let constraints = match wish {
            Wish::Swap { terms, .. } => self.constraints(turn.now, wanted, terms)?,
            _ => Constraints::until(turn.now.plus_ms(limits::CLOCK_SKEW_MS)),
        };
        let intent = acting.person.intent(vec![action], constraints).map_err(|error| refused(&error))?;
        let settlement = Settlement::of(vec![intent]);
        if let Wish::Swap { .. } = wish {
            let Some(intent) = settlement.intents.into_iter().next() else {
                return Err(Refusal::Malformed("an intent has actions"));
            };
            return self.offer(turn, id, intent);
        }
        self.act_in(turn, acting, wanted, Act::Settle { settlement, depth: None }, None)
    }

    fn offer(&mut self, turn: &mut Turn, channel: ChannelId, intent: Intent) -> Result<Receipt, Refusal> {
        self.intents.drop_if(|waiting| turn.now > waiting.offer.intent.constraints.expires);
        let offer = Offer { channel, intent };
        match self.intents.add(turn.now, offer.clone(), true) {
            Ok(_) => {}
            Err("intents_full") => return Err(Refusal::Full("intents wait")),
            Err(_) => return Err(Refusal::Malformed("an intent expires within thirty days")),
        }
        turn.writes.push(Write::Intent(offer.clone()));
        let packet = Packet::Intents(vec![offer]);
        turn.effects.push(Output::Send { to: Destination::Domain, packet });
        Ok(Receipt { channel: Some(channel), ..Receipt::default() })
    }

    /// What our people wanted before the node was started anew, and can still have.
    pub(super) fn restore_intents(&mut self, offers: Vec<Offer>) {
        for offer in offers {
            self.intents.keep(offer.intent.id(), offer, true);
        }
        let channels: BTreeSet<ChannelId> =
            self.intents.pool.values().flat_map(|waiting| &waiting.channels).copied().collect();
        for channel in channels {
            self.drop_spent(channel);
        }
    }

    /// Has the store forget what left the pool.
    pub(super) fn forget_gone_intents(&mut self, turn: &mut Turn) {
        turn.writes.extend(self.intents.gone.drain(..).map(|id| Write::IntentGone { id }));
    }

    fn constraints(
        &self,
        now: Timestamp,
        wanted: &ChannelRef,
        terms: &Terms,
    ) -> Result<Constraints, Refusal> {
        let resolve = |subjects: &[Subject]| -> Result<Vec<Identity>, Refusal> {
            subjects.iter().map(|subject| self.subject(wanted, subject)).collect()
        };
        let (only, prefer) = (resolve(&terms.only)?, resolve(&terms.prefer)?);
        Ok(market::constraints(now.plus_ms(terms.lasts_ms), &only, &prefer))
    }

    /// The action that a wish stands for.
    fn wished(
        &self,
        now: Timestamp,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        wish: &Wish,
    ) -> Result<Action, Refusal> {
        let me = acting.person.identity;
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let replica = &self.directory.get(&id).ok_or_else(|| no_such(wanted))?.replica;
        let action = match wish {
            Wish::IssueToken { name, quantity } => {
                let asset = Asset::Token(token::Label { channel: id, issuer: me, name: name.clone() });
                self.issued(&asset, *quantity)?
            }
            Wish::IssueTicket { name, uses, lasts_ms, price } => {
                let price = price.as_ref().map(|price| self.price(wanted, replica, price)).transpose()?;
                let (name, role, expires) = (name.clone(), Role::Member, now.plus_ms(*lasts_ms));
                let label = ticket::Label { channel: id, issuer: me, name, role, expires, price };
                self.issued(&Asset::Ticket(label), *uses)?
            }
            Wish::Give { what, to } => {
                let (asset, to) = (self.asset(wanted, replica, what)?, self.subject(wanted, to)?);
                let owned = self.free(replica, me);
                let gives = (asset.clone(), what.quantity);
                market::exchange(me, &owned, &gives, &[(asset, what.quantity, to)])
            }
            Wish::Swap { gives, wants, wants_in, .. } => {
                let owned = self.free(replica, me);
                let mine = (self.asset(wanted, replica, gives)?, gives.quantity);
                let there = wants_in.as_ref().unwrap_or(wanted);
                let theirs = self.directory.find(there).ok_or_else(|| no_such(there))?;
                let theirs = (self.asset(there, self.replica(&theirs)?, wants)?, wants.quantity, me);
                market::exchange(me, &owned, &mine, &[theirs])
            }
        };
        action.map_err(|error| refused(&error))
    }

    /// The nonce must be new: the node's log grew since it issued the last.
    fn issued(&self, asset: &Asset, quantity: u128) -> Result<Result<Action, MachineError>, Refusal> {
        if !asset.is_well_formed() || quantity == 0 {
            return Err(Refusal::Malformed("a name is 1 to 32 small letters, digits and hyphens"));
        }
        let mut hasher = blake3::Hasher::new_derive_key("multichat 2026-11 issue nonce");
        hasher.update(self.setup.node_id().as_bytes());
        hasher.update(&self.setup.generation.to_be_bytes());
        hasher.update(&self.last_position.to_be_bytes());
        Ok(market::issue(asset, quantity, Digest(*hasher.finalize().as_bytes())))
    }

    /// What somebody owns and has not offered already.
    fn free(&self, replica: &Replica, owner: Identity) -> Vec<Holding> {
        let offered: BTreeSet<Digest> = self
            .intents
            .of_channel(replica.id())
            .filter(|waiting| waiting.offer.intent.author == owner)
            .flat_map(|waiting| waiting.gives.iter().filter_map(|given| given.commitment))
            .collect();
        let owned = replica.holdings().filter(|holding| holding.owner == owner);
        owned.filter(|holding| !offered.contains(&holding.resource.commitment())).collect()
    }

    /// The asset that somebody means: one that exists, by its name, and its issuer where several go by it.
    fn asset(&self, wanted: &ChannelRef, replica: &Replica, amount: &Amount) -> Result<Asset, Refusal> {
        let issuer = amount.issuer.as_ref().map(|issuer| self.subject(wanted, issuer)).transpose()?;
        let fits = |asset: &Asset| {
            asset.name() == amount.name && issuer.is_none_or(|issuer| asset.issuer() == issuer)
        };
        let found: BTreeSet<Asset> =
            replica.holdings().map(|holding| holding.asset).filter(|asset| fits(asset)).collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(asset), None) => Ok(asset),
            (None, _) => Err(Refusal::Malformed("nothing of that name is owned by anybody here")),
            _ => Err(Refusal::Malformed("several things go by that name: say whose, as NAME@PERSON")),
        }
    }

    fn price(
        &self,
        wanted: &ChannelRef,
        replica: &Replica,
        price: &Amount,
    ) -> Result<ticket::Price, Refusal> {
        match self.asset(wanted, replica, price)? {
            Asset::Token(label) => {
                Ok(ticket::Price { quantity: price.quantity, issuer: label.issuer, name: label.name })
            }
            Asset::Ticket(_) => Err(Refusal::Malformed("a price is in tokens")),
        }
    }

    /// A ticket of somebody for the channel, if they own one that has not expired.
    pub(super) fn ticket_of(
        &self,
        replica: &Replica,
        owner: Identity,
        now: Timestamp,
    ) -> Option<ticket::Redemption> {
        let mut owned = self.free(replica, owner).into_iter();
        owned.find_map(|holding| match holding.asset {
            Asset::Ticket(label) if label.expires >= now => {
                Some(ticket::Redemption { label, resource: holding.resource })
            }
            _ => None,
        })
    }

    /// Solves what waits, in one channel or in all, and settles what was found. The receipt names the
    /// last settlement, if there is any.
    pub(super) fn solve(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: Option<&ChannelRef>,
    ) -> Result<Receipt, Refusal> {
        self.expire_intents(turn.now);
        let mut channels: BTreeSet<ChannelId> = match wanted {
            Some(wanted) => BTreeSet::from([self.directory.find(wanted).ok_or_else(|| no_such(wanted))?]),
            None => self.intents.pool.values().flat_map(|waiting| &waiting.channels).copied().collect(),
        };
        let mut receipt = Receipt::default();
        while let Some(id) = channels.pop_first() {
            let tied = self.intents.tied(id);
            channels.retain(|channel| !tied.contains(channel));
            let found = self.search(turn.now, acting.person.identity, &tied);
            if found.is_exhausted {
                self.count_refused("solver_exhausted");
            }
            for settlement in found.settlements.into_iter().take(SETTLED_AT_ONCE) {
                match self.settle(turn, acting, settlement) {
                    Ok(done) => receipt = done,
                    // What cannot be settled in one channel does not keep others waiting.
                    Err(refusal) if wanted.is_none() => self.count_refused(refusal.reason()),
                    Err(refusal) => return Err(refusal),
                }
            }
        }
        Ok(receipt)
    }

    /// Puts a settlement into every channel whose assets it is of.
    fn settle(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        settlement: Settlement,
    ) -> Result<Receipt, Refusal> {
        let homes = settle::homes_of_settlement(&settlement).map_err(|error| refused(&error))?;
        let channels: BTreeSet<ChannelId> = homes.into_values().collect();
        for id in &channels {
            self.prepare(turn, acting, *id, false)?;
            self.catch_up(turn, acting, id);
        }
        let device = acting.person.device.public();
        let mut depth = 0;
        for id in &channels {
            let replica = self.replica(id)?;
            let lane = replica.live_lane(&device).ok_or(Refusal::NotAMember)?;
            depth = depth.max(replica.depth_of(&settlement, lane));
        }
        let depth = (channels.len() > 1).then_some(depth);
        let mut receipt = Receipt::default();
        for id in channels {
            let act = Act::Settle { settlement: settlement.clone(), depth };
            receipt = self.act(turn, acting, id, act, None)?;
        }
        Ok(receipt)
    }

    fn search(&self, now: Timestamp, solver: Identity, channels: &BTreeSet<ChannelId>) -> solver::Found {
        let is_there = |waiting: &&Waiting| {
            !waiting.channels.is_disjoint(channels)
                && waiting.gives.iter().all(|given| given.is_there(&self.directory))
        };
        let pool = self.intents.pool.values().filter(is_there);
        let pool: Vec<Intent> = pool.map(|waiting| waiting.offer.intent.clone()).collect();
        let market = Market { solver, at: now, logics: logics(), proving: &Transparent };
        solver::solve(&pool, &market, Bounds::default())
    }

    pub(super) fn expire_intents(&mut self, now: Timestamp) {
        self.intents.drop_if(|waiting| now > waiting.offer.intent.constraints.expires);
    }

    /// Forgets intents of which something was spent.
    pub(super) fn drop_spent(&mut self, id: ChannelId) {
        let directory = &self.directory;
        let is_spent = |given: &Given| given.channel == id && given.is_spent(directory);
        self.intents.drop_if(|waiting| waiting.gives.iter().any(is_spent));
    }

    /// Intents of another node.
    pub(super) fn intents_from(&mut self, now: Timestamp, offers: Vec<Offer>) {
        self.expire_intents(now);
        for offer in offers.into_iter().take(limits::POOLED_INTENTS) {
            let Ok((channels, gives)) = Given::of(&offer.intent) else {
                self.count_refused("intent_unsound");
                continue;
            };
            let is_known = |channel: &ChannelId| self.directory.get(channel).is_some();
            if !(is_known(&offer.channel) && channels.iter().all(is_known)) {
                self.count_refused("intent_of_unknown_channel");
                continue;
            }
            let spent = gives.iter().any(|given| given.is_spent(&self.directory));
            if !spent && let Err(reason) = self.intents.add(now, offer, false) {
                self.count_refused(reason);
            }
        }
    }

    /// Tells a peer that came up of everything that waits.
    pub(super) fn tell_intents(&self, turn: &mut Turn, peer: NodeId) {
        for packet in self.intents.packets(false) {
            turn.effects.push(Output::Send { to: Destination::Peer(peer), packet });
        }
    }

    /// Tells everybody again of what our own people want.
    pub(super) fn repeat_intents(&mut self, turn: &mut Turn) {
        self.expire_intents(turn.now);
        for packet in self.intents.packets(true) {
            turn.effects.push(Output::Send { to: Destination::Domain, packet });
        }
    }

    /// What is owned in a channel and what waits there, as doors show it.
    pub fn market_of(&self, id: &ChannelId) -> MarketView {
        let Some(channel) = self.directory.get(id) else { return MarketView::default() };
        let holdings = channel.replica.holdings().map(|holding| HoldingView {
            owner: holding.owner,
            quantity: holding.resource.quantity,
            asset: holding.asset,
        });
        let intents = self.intents.of_channel(*id).map(|waiting| {
            let (gives, takes) = imbalance(&waiting.offer.intent);
            IntentView {
                id: waiting.offer.intent.id(),
                author: waiting.offer.intent.author,
                expires: waiting.offer.intent.constraints.expires,
                is_open: waiting.offer.intent.constraints.flow
                    == Constraints::until(Timestamp::default()).flow,
                is_ours: waiting.is_ours,
                gives,
                takes,
            }
        });
        MarketView { holdings: holdings.collect(), intents: intents.collect() }
    }
}

type Amounts = Vec<(Asset, u128)>;

/// What an intent gives and takes in the end.
fn imbalance(intent: &Intent) -> (Amounts, Amounts) {
    let mut totals: BTreeMap<Asset, (u128, u128)> = BTreeMap::new();
    for action in &intent.transaction.actions {
        let consumed = action.consumed.iter().map(|input| (&input.resource, &input.app_data, true));
        let created = action.created.iter().map(|output| (&output.resource, &output.app_data, false));
        for (resource, app_data, is_consumed) in consumed.chain(created) {
            let facts = app_data.resource.first().map(|blob| blob.blob.as_slice()).unwrap_or_default();
            let Some((asset, _)) = Holding::read_facts(resource, facts) else { continue };
            let (out, back) = totals.entry(asset).or_default();
            let total = if is_consumed { out } else { back };
            *total = total.saturating_add(resource.quantity);
        }
    }
    let more = |(asset, (one, other)): (&Asset, (u128, u128))| {
        let more = one.saturating_sub(other);
        (more > 0).then(|| (asset.clone(), more))
    };
    let gives = totals.iter().filter_map(|(asset, (out, back))| more((asset, (*out, *back)))).collect();
    let takes = totals.iter().filter_map(|(asset, (out, back))| more((asset, (*back, *out)))).collect();
    (gives, takes)
}

fn refused(error: &MachineError) -> Refusal {
    match error {
        MachineError::Terms(rule) => Refusal::Malformed(rule),
        MachineError::TooMuch(_) => Refusal::Malformed("that takes too many pieces at once: give less"),
        _ => Refusal::NotPermitted(error.rule()),
    }
}

//! The driver loop: the one thread that owns the node and the store. It gathers inputs, lets the
//! node decide, makes all their batches durable in one transaction, and only then carries out the
//! effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::past::Past;
use crate::base::{EventId, Timestamp, limits};
use crate::chat::intent::{Intent, Submission};
use crate::chat::message::Link;
use crate::chat::view::News;
use crate::node::{
    Batch, Delivery, Door, Input, Lapse, Node, Outcome, Output, Receipt, Refusal, StoredEvent, Write,
};
use crate::overlay::Destination;
use crate::port::{
    CARRIER_NOTE, Command, Exports, Fault, HistoryQuery, NodeStatus, Opening, Range, SearchQuery,
};
use crate::replica::Packet;
use crate::store::{Store, StoreError, Window};

/// Events kept at hand after their commit, so that sending them on needs no read.
const RECENT_EVENTS: usize = 2_048;
/// Bytes of those.
const RECENT_BYTES: usize = 8 * 1024 * 1024;

/// Nothing came for this long: time for what nobody waits for.
const QUIET: Duration = Duration::from_millis(10);
/// What is deleted leaves the disk within this time.
const ERASE_WITHIN_MS: u64 = 1_000;
/// Waits while there is nothing to do at all.
const IDLE: Duration = Duration::from_secs(60);

/// Where packets for other nodes go.
pub(super) type Outgoing = mpsc::Sender<(Destination, Vec<u8>)>;

/// The node, its store, and everybody who waits for something from it.
pub(super) struct Driver {
    node: Node,
    store: Store,
    clock: Clock,
    outgoing: Option<Outgoing>,
    doors: BTreeMap<Door, mpsc::Sender<Delivery>>,
    tickets: u64,
    submissions: BTreeMap<u64, oneshot::Sender<Result<Receipt, Refusal>>>,
    notes: BTreeMap<u64, oneshot::Sender<()>>,
    recent: Recent,
    /// Decided, and nobody was told: goes into the next commit, or into one of its own when it is
    /// quiet. Lost in a crash, it is as if it had not come yet.
    held: Vec<Batch>,
    /// A report came that must not wait: see [`Driver::settle`].
    is_pressing: bool,
    dropped_packets: u64,
    gave_up: u64,
    /// Since when the disk holds what was deleted.
    owed_since: Option<Timestamp>,
}

/// One pass over outputs.
#[derive(Default)]
struct Round {
    /// Positions of events that go to the whole domain.
    broadcast: Vec<u64>,
    /// What the node said to reports of deliveries that could not be handed over.
    returned: Vec<Output>,
    /// Links of which one delivery found its door's queue full: the node has taken back all after it,
    /// so they must not get there before it.
    recalled: BTreeSet<Link>,
}

/// Events committed last.
#[derive(Default)]
struct Recent {
    events: BTreeMap<u64, StoredEvent>,
    bytes: usize,
}

impl Recent {
    fn keep(&mut self, batches: Vec<Batch>) {
        for write in batches.into_iter().flat_map(|batch| batch.0) {
            match write {
                Write::Event(event) => {
                    self.bytes += size(&event);
                    let before = self.events.insert(event.position, event);
                    self.bytes -= before.map_or(0, |event| size(&event));
                }
                // What is deleted in the store is not kept here either.
                Write::Erase { .. } | Write::EraseExpired { .. } | Write::EraseSaid { .. } => {
                    self.forget(|event| write.erases(event));
                }
                _ => {}
            }
        }
        while self.events.len() > RECENT_EVENTS || self.bytes > RECENT_BYTES {
            let Some((_, event)) = self.events.pop_first() else { return };
            self.bytes -= size(&event);
        }
    }
}

impl Recent {
    fn forget(&mut self, is_gone: impl Fn(&StoredEvent) -> bool) {
        let gone = self.events.extract_if(.., |_, event| is_gone(event));
        self.bytes -= gone.map(|(_, event)| size(&event)).sum::<usize>();
    }
}

fn size(event: &StoredEvent) -> usize {
    event.signed.len() + event.payload.as_ref().map_or(0, Vec::len)
}

impl Driver {
    pub fn new(node: Node, store: Store, outgoing: Option<Outgoing>) -> Self {
        Self {
            node,
            store,
            clock: Clock::default(),
            outgoing,
            doors: BTreeMap::new(),
            tickets: 0,
            submissions: BTreeMap::new(),
            notes: BTreeMap::new(),
            recent: Recent::default(),
            held: Vec::new(),
            is_pressing: false,
            dropped_packets: 0,
            gave_up: 0,
            owed_since: None,
        }
    }

    /// Runs until told to stop. An error means that the store failed: nothing after the failure
    /// was acknowledged.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), StoreError> {
        loop {
            let has_chores = !self.held.is_empty() || self.store.is_untidy();
            let idle = if has_chores { QUIET } else { IDLE };
            let wait = self.node.next_timeout().map_or(idle, |at| self.clock.until(at).min(idle));
            let first = match tokio::time::timeout(wait, commands.recv()).await {
                Ok(Some(command)) => Some(command),
                Ok(None) => break,
                Err(_) => {
                    self.do_chores()?;
                    None
                }
            };
            let mut outputs = Vec::new();
            let mut stop = None;
            let more = std::iter::from_fn(|| commands.try_recv().ok());
            for command in first.into_iter().chain(more).take(limits::GROUP_COMMIT_INPUTS) {
                match command {
                    Command::Stop { reply } => stop = Some(reply),
                    command => self.take(command, &mut outputs).await?,
                }
            }
            let now = self.clock.now();
            if self.node.next_timeout().is_some_and(|at| at <= now) {
                outputs.extend(self.node.handle(now, Input::Timeout));
            }
            self.settle(outputs).await?;
            self.erase_in_time()?;
            if let Some(reply) = stop {
                self.commit_pending(&mut Vec::new())?;
                self.store.checkpoint()?;
                let _ = reply.send(());
                break;
            }
        }
        self.commit_pending(&mut Vec::new())?;
        self.store.close()
    }

    /// What was deleted leaves the disk soon even if it never gets quiet.
    fn erase_in_time(&mut self) -> Result<(), StoreError> {
        if !self.store.owes_erasure() {
            self.owed_since = None;
            return Ok(());
        }
        let now = self.clock.now();
        let since = *self.owed_since.get_or_insert(now);
        if now.since_ms(since) >= ERASE_WITHIN_MS {
            self.do_chores()?;
            self.owed_since = None;
        }
        Ok(())
    }

    /// What nobody waits for.
    fn do_chores(&mut self) -> Result<(), StoreError> {
        self.commit_pending(&mut Vec::new())?;
        if self.store.is_untidy() {
            self.store.tidy()?;
        }
        Ok(())
    }

    /// One command: an input for the node, or a question answered from what is durable.
    async fn take(&mut self, command: Command, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let input = match command {
            Command::Submit { submission, reply } => {
                let known = self.known_origin(&submission)?;
                let ticket = self.ticket();
                self.submissions.insert(ticket, reply);
                Input::Submit { ticket, submission, known }
            }
            Command::Report { door, delivery, outcome } => {
                if let Outcome::Retry { reason, .. } = &outcome {
                    tracing::info!(%door, reason, "a delivery waits and will be tried again");
                }
                self.is_pressing |= matches!(door, Door::Network(_));
                Input::Report { delivery, outcome }
            }
            Command::Remember { door, key, value, reply } => {
                let ticket = self.ticket();
                self.notes.insert(ticket, reply);
                Input::Remember { ticket, door, key, value }
            }
            Command::OpenDoor { door, deliveries, reply } => {
                // What is under way was meant for whoever held the door before, or is in the view.
                self.settle(std::mem::take(outputs)).await?;
                let notes = self.store.notes(&door)?;
                let _ = reply.send(Opening { channels: self.node.channels(), notes });
                self.doors.insert(door.clone(), deliveries);
                Input::DoorOpened(door)
            }
            Command::PeerUp(peer) => Input::PeerUp(peer),
            Command::PeerDown(peer) => Input::PeerDown(peer),
            Command::Packet { from, packet, dropped } => {
                if dropped > 0 {
                    outputs.extend(self.node.handle(self.clock.now(), Input::Garbage { count: dropped }));
                }
                let Some(packet) = packet else { return Ok(()) };
                Input::Packet { from, packet }
            }
            Command::History { query, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.history(&query)?);
                return Ok(());
            }
            Command::Search { query, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.search(&query)?);
                return Ok(());
            }
            Command::Backup { path, reply } => {
                self.commit_pending(outputs)?;
                // That there is no copy is no fault of the store's own.
                let copied = self.store.backup(&path);
                let _ = reply.send(copied.map_err(|error| Fault::new(error.kind(), error.to_string())));
                return Ok(());
            }
            Command::Event { link, external_id, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.store.seen(&link, &external_id)?);
                return Ok(());
            }
            Command::ExternalId { link, event, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.store.external_id(&link, &event)?);
                return Ok(());
            }
            Command::Settled { link, marks, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(marks.iter().map(|mark| self.node.is_settled(&link, *mark)).collect());
                return Ok(());
            }
            Command::Channels { reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.node.channels());
                return Ok(());
            }
            Command::Market { channel, reply } => {
                self.commit_pending(outputs)?;
                let _ = reply.send(self.node.market_of(&channel));
                return Ok(());
            }
            Command::Status { reply } => {
                self.commit_pending(outputs)?;
                let status = self.status()?;
                let _ = reply.send(status);
                return Ok(());
            }
            Command::Bytes { .. } | Command::Stop { .. } => return Ok(()),
        };
        outputs.extend(self.node.handle(self.clock.now(), input));
        Ok(())
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// The event that a message's origin became before, if the store knows it.
    fn known_origin(&self, submission: &Submission) -> Result<Option<EventId>, StoreError> {
        match &submission.intent {
            Intent::SendMessage { content, .. } => match &content.origin {
                Some(origin) => self.store.seen(&origin.link, &origin.external_id),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Makes durable what the node has decided so far; its effects stay for later.
    fn commit_pending(&mut self, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let mut batches = std::mem::take(&mut self.held);
        outputs.retain_mut(|output| match output {
            Output::Commit(batch) => {
                batches.push(std::mem::take(batch));
                false
            }
            _ => true,
        });
        if batches.is_empty() {
            return Ok(());
        }
        self.store.commit(&batches)?;
        self.recent.keep(batches);
        Ok(())
    }

    /// Commits, then carries out the effects in order. Where there are none, the commit can wait:
    /// the report of a delivery is most often all there is, and costs no trip to the disk so. One
    /// from an IRC network does not wait: there nobody can look whether a line arrived, so the
    /// shorter the time until it is durable, the fewer lines a crash can double.
    async fn settle(&mut self, mut outputs: Vec<Output>) -> Result<(), StoreError> {
        let is_silent = outputs.iter().all(|output| matches!(output, Output::Commit(_)));
        let is_pressing = std::mem::take(&mut self.is_pressing);
        if is_silent && !is_pressing && self.held.len() < limits::GROUP_COMMIT_INPUTS {
            self.held.extend(outputs.into_iter().filter_map(|output| match output {
                Output::Commit(batch) => Some(batch),
                _ => None,
            }));
            return Ok(());
        }
        while !outputs.is_empty() {
            self.commit_pending(&mut outputs)?;
            let mut round = Round::default();
            for output in outputs {
                self.carry_out(output, &mut round).await?;
            }
            self.send_events(Destination::Domain, &round.broadcast, false)?;
            outputs = round.returned;
        }
        Ok(())
    }

    async fn carry_out(&mut self, output: Output, round: &mut Round) -> Result<(), StoreError> {
        match output {
            Output::Commit(_) => {}
            Output::Reply { ticket, result } => {
                if let Some(reply) = self.submissions.remove(&ticket) {
                    let _ = reply.send(result);
                }
            }
            Output::Remembered { ticket } => {
                if let Some(reply) = self.notes.remove(&ticket) {
                    let _ = reply.send(());
                }
            }
            Output::Deliver { door, delivery } => self.deliver(door, *delivery, round).await,
            Output::DeliverStored { door, id, link, uncertain, position } => {
                let (now, stored) = (self.clock.now(), self.stored(position)?);
                let news = stored.as_ref().ok_or(Lapse::Over);
                match news.and_then(|stored| self.node.delivery_of(now, link.as_ref(), stored)) {
                    Ok(news) => {
                        let delivery = Delivery { id, link, uncertain, news };
                        self.deliver(door, delivery, round).await;
                    }
                    Err(lapse) => {
                        round.returned.extend(self.node.handle(now, Input::Lapsed { delivery: id, lapse }));
                    }
                }
            }
            Output::GaveUp { link, reason } => {
                self.gave_up += 1;
                tracing::warn!(?link, reason, "a delivery was given up");
            }
            Output::SendEvents { to: Destination::Domain, positions, .. } => {
                round.broadcast.extend(positions)
            }
            Output::SendEvents { to, positions, more } => self.send_events(to, &positions, more)?,
            Output::Send { to, packet } => self.send(to, &packet),
        }
        Ok(())
    }

    async fn deliver(&mut self, door: Door, delivery: Delivery, round: &mut Round) {
        let Some(sender) = self.doors.get(&door) else { return };
        let id = delivery.id;
        let gone = if door.is_durable() && id != 0 {
            if delivery.link.as_ref().is_some_and(|link| round.recalled.contains(link)) {
                return;
            }
            match sender.try_send(delivery) {
                Ok(()) => false,
                Err(mpsc::error::TrySendError::Full(delivery)) => {
                    round.recalled.extend(delivery.link);
                    let reason = "the connector is busy".to_owned();
                    let outcome = Outcome::Retry { uncertain: false, after_ms: None, reason };
                    let now = self.clock.now();
                    round.returned.extend(self.node.handle(now, Input::Report { delivery: id, outcome }));
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => true,
            }
        } else {
            sender.send(delivery).await.is_err()
        };
        if gone {
            self.doors.remove(&door);
            round.returned.extend(self.node.handle(self.clock.now(), Input::DoorClosed(door)));
        }
    }

    fn stored(&self, position: u64) -> Result<Option<StoredEvent>, StoreError> {
        match self.recent.events.get(&position) {
            Some(event) => Ok(Some(event.clone())),
            None => self.store.event(position),
        }
    }

    fn send_events(&mut self, to: Destination, positions: &[u64], more: bool) -> Result<(), StoreError> {
        if positions.is_empty() || self.outgoing.is_none() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut parcels = Vec::with_capacity(positions.len());
        for position in positions {
            parcels.extend(self.stored(*position)?.and_then(|stored| self.node.parcel_of(now, &stored)));
        }
        let limit = match to {
            Destination::Domain => limits::BROADCAST_BYTES,
            Destination::Peer(_) => limits::PACKET_BYTES,
        };
        for packet in Packet::pack(parcels, limit, more) {
            self.send(to, &packet);
        }
        Ok(())
    }

    fn send(&mut self, to: Destination, packet: &Packet) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.try_send((to, packet.encode())).is_err() {
            // The overlay is behind. Whoever lacks the packet asks for its events later.
            self.dropped_packets += 1;
        }
    }

    fn history(&mut self, query: &HistoryQuery) -> Result<Vec<News>, StoreError> {
        let window = match &query.range {
            Range::Latest => Window::Latest,
            Range::After(position) => Window::After(*position),
            Range::Before(event) => match self.store.position_of(event)? {
                Some(position) => Window::Before(position),
                None => return Ok(Vec::new()),
            },
            Range::Span(span) => return self.past().span(&query.channel, span, query.limit),
            Range::Around { at, messages } => {
                return self.past().around(&query.channel, at, (*messages, query.limit));
            }
        };
        let limit = query.limit.min(limits::HISTORY_MESSAGES);
        let stored = self.store.history(&query.channel, window, limit)?;
        let now = self.clock.now();
        Ok(stored.iter().filter_map(|stored| self.node.news_of(now, stored)).collect())
    }

    fn search(&mut self, query: &SearchQuery) -> Result<Vec<News>, StoreError> {
        let limit = query.limit.min(limits::SEARCH_RESULTS);
        let stored = self.store.search(&query.words, query.channel.as_ref(), limit)?;
        let now = self.clock.now();
        Ok(stored.iter().filter_map(|stored| self.node.finding_of(now, stored)).collect())
    }

    fn past(&mut self) -> Past<'_> {
        let now = self.clock.now();
        Past { node: &self.node, store: &self.store, now }
    }

    /// Channels that several nodes hold, and who carries each, as the doors note it.
    fn carriers(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut carriers = Vec::new();
        for door in self.doors.keys().filter(|door| matches!(door, Door::Network(_))) {
            for (key, value) in self.store.notes(door)? {
                if let Some(channel) = key.strip_prefix(CARRIER_NOTE) {
                    carriers
                        .push((format!("{door} {channel}"), String::from_utf8_lossy(&value).into_owned()));
                }
            }
        }
        Ok(carriers)
    }

    fn status(&self) -> Result<NodeStatus, StoreError> {
        let outbox = self.node.outbox_depths().into_iter().map(|(door, depth)| (door.to_string(), depth));
        let refused = self.node.refused().iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        let ours = [("packet_dropped", self.dropped_packets), ("delivery_given_up", self.gave_up)];
        let ours =
            ours.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count));
        let exports = self.node.exports().iter().map(|(sink, exported)| Exports {
            sink: sink.to_string(),
            carried: exported.carried,
            withheld: exported.withheld,
        });
        Ok(NodeStatus {
            node: self.node.id(),
            peers: self.node.peers(),
            channels: self.node.channel_count(),
            events: self.node.events(),
            pending_events: self.node.pending_events(),
            outbox: outbox.collect(),
            refused: refused.chain(ours).collect(),
            exports: exports.collect(),
            carriers: self.carriers()?,
            wanted_texts: self.node.wanted_texts(),
            state_root: self.node.state_root(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::SecretKey;
    use crate::chat::intent::{Actor, ChannelRef};
    use crate::chat::message::Content;
    use crate::chat::view::What;
    use crate::node::{Restored, Setup};
    use crate::port::Handle;

    fn driver() -> Driver {
        let matrix_server = "example.org".into();
        let setup = Setup {
            secret: SecretKey::from_seed([1; 32]),
            name: "node".into(),
            matrix_server,
            generation: 0,
        };
        let node = Node::restore(setup, Restored::default(), std::iter::empty()).unwrap();
        Driver::new(node, Store::in_memory().unwrap(), None)
    }

    struct Run {
        commands: mpsc::Sender<Command>,
        ended: tokio::task::JoinHandle<Result<(), StoreError>>,
    }

    impl Run {
        fn start() -> Self {
            let (commands, inbox) = mpsc::channel(limits::NODE_QUEUE);
            Self { commands, ended: tokio::spawn(driver().run(inbox)) }
        }

        fn handle(&self) -> Handle {
            Handle::new(Door::Matrix, self.commands.clone())
        }

        async fn open(&self, room: usize) -> mpsc::Receiver<Delivery> {
            let (deliveries, receiver) = mpsc::channel(room);
            let (reply, opening) = oneshot::channel();
            let command = Command::OpenDoor { door: Door::Matrix, deliveries, reply };
            self.commands.send(command).await.ok().unwrap();
            opening.await.unwrap();
            receiver
        }

        async fn link(&self) {
            let link = Link::Matrix { room: "!room".into() };
            let channel = ChannelRef::Name("#a".into());
            let intent = Intent::Link { channel, link, create: true };
            let (actor, via, join_first, tag) = (Actor::Node, None, false, 0);
            self.handle().submit(Submission { actor, intent, via, join_first, tag }).await.unwrap();
        }

        async fn say(&self, number: usize) {
            let content = Content::text(number.to_string());
            let intent = Intent::SendMessage { channel: ChannelRef::Name("#a".into()), content };
            let (actor, via, join_first, tag) = (Actor::Node, None, true, 0);
            self.handle().submit(Submission { actor, intent, via, join_first, tag }).await.unwrap();
        }

        async fn stop(self) {
            let (reply, stopped) = oneshot::channel();
            self.commands.send(Command::Stop { reply }).await.ok().unwrap();
            stopped.await.unwrap();
            self.ended.await.unwrap().unwrap();
        }
    }

    /// What a delivery says, if it says something.
    fn text(delivery: &Delivery) -> Option<String> {
        match &delivery.news.what {
            What::Message(content) => Some(content.body.clone()),
            _ => None,
        }
    }

    async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
        let wait = Duration::from_secs(20);
        tokio::time::timeout(wait, deliveries.recv())
            .await
            .expect("it comes in time")
            .expect("the door is open")
    }

    #[tokio::test]
    async fn what_finds_a_full_queue_comes_again_in_order_and_once() {
        let run = Run::start();
        run.link().await;
        for number in 0..10 {
            run.say(number).await;
        }
        let mut deliveries = run.open(3).await;
        let mut said = Vec::new();
        while said.len() < 10 {
            let delivery = next(&mut deliveries).await;
            said.extend(text(&delivery));
            run.handle().report(delivery.id, Outcome::Delivered { external_id: None }).await.unwrap();
        }
        assert_eq!(said, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(run.handle().status().await.unwrap().outbox.iter().all(|(_, depth)| *depth == 0));
        run.stop().await;
    }

    #[tokio::test]
    async fn a_door_that_opens_again_gets_what_was_not_reported_once_and_as_uncertain() {
        let run = Run::start();
        run.link().await;
        let mut first = run.open(100).await;
        for number in 0..3 {
            run.say(number).await;
        }
        while text(&next(&mut first).await).as_deref() != Some("2") {}
        let mut second = run.open(100).await;
        let mut said = Vec::new();
        while said.len() < 3 {
            let delivery = next(&mut second).await;
            assert!(delivery.uncertain);
            said.extend(text(&delivery));
        }
        assert_eq!(said, ["0", "1", "2"]);
        run.say(3).await;
        assert_eq!(text(&next(&mut second).await).as_deref(), Some("3"));
        run.stop().await;
    }

    #[tokio::test]
    async fn a_report_waits_for_the_next_commit_unless_an_irc_network_made_it() {
        let matrix = Link::Matrix { room: "!room".into() };
        let network = Link::Irc { network: "irc.example.org:6697".into(), channel: "#a".into() };
        for (link, waits) in [(matrix, true), (network, false)] {
            let mut driver = driver();
            let channel = ChannelRef::Name("#a".into());
            let content = Content::text("hello");
            let (deliveries, mut delivered) = mpsc::channel(10);
            let submit = |intent| {
                let (actor, via, join_first, tag) = (Actor::Node, None, true, 0);
                let submission = Box::new(Submission { actor, intent, via, join_first, tag });
                Command::Submit { submission, reply: oneshot::channel().0 }
            };
            let door = Door::of(&link);
            for command in [
                submit(Intent::Link { channel: channel.clone(), link, create: true }),
                Command::OpenDoor { door: door.clone(), deliveries, reply: oneshot::channel().0 },
                submit(Intent::SendMessage { channel, content }),
            ] {
                let mut outputs = Vec::new();
                driver.take(command, &mut outputs).await.unwrap();
                driver.settle(outputs).await.unwrap();
            }
            let delivery = delivered.recv().await.unwrap().id;
            assert_eq!(driver.store.outbox().unwrap().len(), 1);
            let outcome = Outcome::Delivered { external_id: None };
            let mut outputs = Vec::new();
            driver.take(Command::Report { door, delivery, outcome }, &mut outputs).await.unwrap();
            driver.settle(outputs).await.unwrap();
            assert_eq!(driver.store.outbox().unwrap().len(), usize::from(waits));
            driver.do_chores().unwrap();
            assert!(driver.store.outbox().unwrap().is_empty(), "and not for long");
        }
    }

    #[tokio::test]
    async fn stopping_is_heard_in_the_midst_of_a_full_queue() {
        let run = Run::start();
        run.link().await;
        let mut answers = Vec::new();
        for number in 0..2 * limits::GROUP_COMMIT_INPUTS {
            let content = Content::text(number.to_string());
            let intent = Intent::SendMessage { channel: ChannelRef::Name("#a".into()), content };
            let (actor, via, join_first, tag) = (Actor::Node, None, true, 0);
            let submission = Submission { actor, intent, via, join_first, tag };
            answers.push(run.handle().submit_later(submission).await.unwrap());
        }
        run.stop().await;
        // What was handed in before the stop was answered, in order; what came after got no promise.
        let mut promised = true;
        for answer in answers {
            match answer.await {
                Ok(result) => assert!(promised && result.is_ok()),
                Err(_) => promised = false,
            }
        }
    }
}

//! The task that owns the hub: one thing at a time goes in, its effects go out in order.
//!
//! It always takes deliveries and answers of the node; it stops reading clients while too many
//! wishes wait for the node, which is how a busy node slows its clients down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::queue::SendQueue;
use super::tls::Certificate;
use super::{now, password};
use crate::chat::view::News;
use crate::irc::proto::hub::{Done, Effect, Hub};
use crate::irc::proto::line::Input;
use crate::irc::proto::session::{ClientId, Peer};
use crate::port::{Command, Delivery, Door, Handle, Receipt, Refusal, Stopped};

/// Wishes that wait for the node; beyond it clients are not read.
const WISHES: usize = 1024;
/// Answers of the node that are under way at once.
const ANSWERS: usize = 4096;
/// How often the hub looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// From the clients' tasks.
pub enum ToHub {
    Connected { client: ClientId, peer: Peer, queue: Arc<SendQueue> },
    Input { client: ClientId, input: Input },
    Drained { client: ClientId },
    Gone { client: ClientId, reason: &'static str },
}

/// From the node, to a wish.
enum Answer {
    Submitted { tag: u64, answer: Result<Receipt, Refusal> },
    History { query: u64, page: Vec<News> },
    Done { job: u64, done: Done },
}

/// The owner of the hub.
pub struct Actor {
    hub: Hub,
    inputs: mpsc::Receiver<ToHub>,
    queues: BTreeMap<ClientId, Arc<SendQueue>>,
    /// What did not fit into the way to the node yet.
    waiting: VecDeque<Effect>,
    wishes: mpsc::Sender<Effect>,
    answers: mpsc::Receiver<Answer>,
    answered: mpsc::Sender<Answer>,
    certificates: Vec<Arc<Certificate>>,
    courier: tokio::task::JoinHandle<()>,
}

impl Actor {
    /// Starts the courier that carries wishes to the node.
    pub fn new(
        hub: Hub,
        handle: Handle,
        inputs: mpsc::Receiver<ToHub>,
        certificates: Vec<Arc<Certificate>>,
    ) -> Self {
        let (wishes, to_carry) = mpsc::channel(WISHES);
        let (answered, answers) = mpsc::channel(WISHES);
        let courier = tokio::spawn(carry(handle, to_carry, answered.clone()));
        let (queues, waiting) = (BTreeMap::new(), VecDeque::new());
        Self { hub, inputs, queues, waiting, wishes, answers, answered, certificates, courier }
    }

    /// Until the node stops.
    pub async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>, cancel: CancellationToken) {
        let wishes = self.wishes.clone();
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let effects = tokio::select! {
                () = cancel.cancelled() => break,
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => self.hub.news(now(), delivery.news),
                    None => break,
                },
                Some(answer) = self.answers.recv() => {
                    // What the node told before it answered is known before the answer is.
                    while let Ok(delivery) = deliveries.try_recv() {
                        let effects = self.hub.news(now(), delivery.news);
                        self.act(effects);
                    }
                    match answer {
                    Answer::Submitted { tag, answer } => self.hub.answered(now(), tag, answer),
                    Answer::History { query, page } => self.hub.history(now(), query, page),
                    Answer::Done { job, done } => self.hub.done(now(), job, done),
                    }
                },
                Ok(place) = wishes.reserve(), if !self.waiting.is_empty() => {
                    if let Some(wish) = self.waiting.pop_front() {
                        place.send(wish);
                    }
                    continue;
                }
                Some(input) = self.inputs.recv(), if self.waiting.len() < WISHES => self.take_in(input),
                _ = clock.tick() => self.hub.tick(now()),
            };
            self.act(effects);
        }
        for queue in self.queues.values() {
            let _ = queue.push("ERROR :Closing link: the node is stopping");
            queue.close();
        }
        // Wishes that the node has not got were never shown to anybody as done.
        self.courier.abort();
    }

    fn take_in(&mut self, input: ToHub) -> Vec<Effect> {
        match input {
            ToHub::Connected { client, peer, queue } => {
                self.queues.insert(client, queue);
                self.hub.connected(now(), client, peer)
            }
            ToHub::Input { client, input } => self.hub.input(now(), client, input),
            ToHub::Drained { client } => self.hub.drained(now(), client),
            ToHub::Gone { client, reason } => {
                self.queues.remove(&client);
                self.hub.disconnected(now(), client, reason)
            }
        }
    }

    fn act(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { client, line } => {
                    let Some(queue) = self.queues.get(&client) else { continue };
                    if queue.push(&line).is_err() {
                        queue.give_up();
                        self.queues.remove(&client);
                        effects.extend(self.hub.disconnected(now(), client, "SendQ exceeded"));
                    }
                }
                Effect::Close { client } => {
                    if let Some(queue) = self.queues.remove(&client) {
                        queue.close();
                    }
                }
                Effect::Drain { client } => {
                    if let Some(queue) = self.queues.get(&client) {
                        queue.report_when_empty();
                    }
                }
                Effect::Pause { client } | Effect::Resume { client } => {
                    if let Some(queue) = self.queues.get(&client) {
                        queue.set_paused(matches!(effect, Effect::Pause { .. }));
                    }
                }
                Effect::Compute { job, work } => {
                    let answered = self.answered.clone();
                    tokio::spawn(async move {
                        let done = password::compute(work).await;
                        let _ = answered.send(Answer::Done { job, done }).await;
                    });
                }
                Effect::Reload { job } => self.reload(job),
                wish @ (Effect::Submit(_)
                | Effect::History { .. }
                | Effect::Remember { .. }
                | Effect::Keep { .. }) => {
                    if !self.waiting.is_empty() {
                        self.waiting.push_back(wish);
                    } else if let Err(
                        mpsc::error::TrySendError::Full(wish) | mpsc::error::TrySendError::Closed(wish),
                    ) = self.wishes.try_send(wish)
                    {
                        self.waiting.push_back(wish);
                    }
                }
            }
        }
    }
}

impl Actor {
    /// Reads certificates anew, off this task: a disk may be slow.
    fn reload(&self, job: u64) {
        let (answered, certificates) = (self.answered.clone(), self.certificates.clone());
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || {
                certificates
                    .iter()
                    .try_for_each(|certificate| certificate.reload())
                    .map_err(|fault| fault.message)
            });
            let done = read.await.map_or(Done::Failed, Done::Reloaded);
            let _ = answered.send(Answer::Done { job, done }).await;
        });
    }
}

/// Carries wishes to the node in their order, and answers back in whichever.
async fn carry(handle: Handle, mut wishes: mpsc::Receiver<Effect>, answered: mpsc::Sender<Answer>) {
    let mut under_way: FuturesUnordered<BoxFuture<'static, Option<Answer>>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(answer) = under_way.next(), if !under_way.is_empty() => {
                if let Some(answer) = answer && answered.send(answer).await.is_err() {
                    return;
                }
            }
            wish = wishes.recv(), if under_way.len() < ANSWERS => {
                let Some(wish) = wish else { return };
                match hand_in(&handle, wish).await {
                    Ok(Some(answer)) => under_way.push(answer),
                    Ok(None) => {}
                    Err(Stopped) => return,
                }
            }
        }
    }
}

/// Hands one wish in; gives what will come of it.
async fn hand_in(
    handle: &Handle,
    wish: Effect,
) -> Result<Option<BoxFuture<'static, Option<Answer>>>, Stopped> {
    match wish {
        Effect::Submit(submission) => {
            let tag = submission.tag;
            let answer = handle.submit_later(*submission).await?;
            Ok(Some(Box::pin(async move {
                let answer = answer.await.unwrap_or(Err(Refusal::Stopping));
                Some(Answer::Submitted { tag, answer })
            })))
        }
        Effect::History { query, what } => {
            let (reply, page) = oneshot::channel();
            handle.send(Command::History { query: what, reply }).await?;
            Ok(Some(Box::pin(async move { page.await.ok().map(|page| Answer::History { query, page }) })))
        }
        Effect::Remember { key, value } => {
            // In order, and without waiting: what a crash forgets here is replayed once more.
            let (reply, _) = oneshot::channel();
            handle.send(Command::Remember { door: Door::Listener, key, value, reply }).await?;
            Ok(None)
        }
        Effect::Keep { job, key, value } => {
            let (reply, kept) = oneshot::channel();
            handle.send(Command::Remember { door: Door::Listener, key, value, reply }).await?;
            Ok(Some(Box::pin(
                async move { kept.await.ok().map(|()| Answer::Done { job, done: Done::Kept }) },
            )))
        }
        _ => Ok(None),
    }
}

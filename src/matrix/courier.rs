//! Deliveries to one room, one after the other. It sends, finds out whether an uncertain one
//! arrived, and reports; what is tried again and when is the node's to decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bridge::Bridge;
use super::homeserver::{CallError, Sending};
use super::proto::content::{self, MARK, Related};
use super::{bot, shown};
use crate::base::{Kind, limits};
use crate::chat::flow::Sink;
use crate::chat::message::{Content, Link, Relation, Style};
use crate::chat::view::{News, What};
use crate::port::{Delivery, Outcome};

/// How long a delivery under way may still take when the node stops.
const LAST_CALL: Duration = Duration::from_secs(2);
/// Pages of 100 messages that are searched for one that perhaps arrived.
const SEARCH_PAGES: usize = 100;
/// A message cannot have arrived before it was said; clocks may differ by this much.
const SEARCH_SLACK_MS: u64 = 10 * 60_000;
/// After a retry, how long those behind it are waited for at the most.
const SKIP_FOR: Duration = Duration::from_millis(4 * limits::RETRY_MAX_MS);

/// See the module.
pub(super) struct Courier {
    pub bridge: Arc<Bridge>,
    pub room: String,
    pub queue: mpsc::Receiver<Delivery>,
    /// Limits how many rooms speak to the homeserver at once.
    pub permits: Arc<Semaphore>,
    /// True once the homeserver knows us.
    pub ready: watch::Receiver<bool>,
    pub cancel: CancellationToken,
    pub state: State,
}

/// What a courier keeps from one delivery to the next.
#[derive(Default)]
pub(super) struct State {
    /// This delivery is to be retried: those after it that are still on their way to us are void,
    /// until it comes again.
    retried: Option<(u64, Instant)>,
    /// What the room has of ours, read at the first of consecutive uncertain deliveries.
    found: Option<BTreeMap<String, String>>,
    /// The newest of ours in the room: no search has to go beyond it.
    newest: Option<String>,
    /// The room was told that it is not shown everything.
    withheld: bool,
}

impl State {
    /// Whether a delivery is void because one before it is to be retried.
    fn is_void(&mut self, id: u64, now: Instant) -> bool {
        match self.retried {
            Some((retried, since)) if id > retried && now < since + SKIP_FOR => true,
            _ => {
                self.retried = None;
                false
            }
        }
    }
}

impl Courier {
    /// Runs until the node stops.
    pub async fn run(mut self) {
        let cancel = self.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => return,
            ready = self.ready.wait_for(|ready| *ready) => if ready.is_err() { return },
        }
        loop {
            let delivery = tokio::select! {
                () = cancel.cancelled() => return,
                delivery = self.queue.recv() => delivery,
            };
            let Some(delivery) = delivery else { return };
            if matches!(delivery.news.what, What::Unlinked(_)) {
                // The node dropped what waited; what comes after another link is new.
                self.state.retried = None;
            }
            if self.state.is_void(delivery.id, Instant::now()) {
                continue;
            }
            let outcome = tokio::select! {
                outcome = self.carry(&delivery) => outcome,
                () = async { cancel.cancelled().await; tokio::time::sleep(LAST_CALL).await } => return,
            };
            if let Outcome::Retry { reason, .. } = &outcome {
                tracing::debug!(room = self.room, reason, "a delivery will be tried again");
                self.state.retried = Some((delivery.id, Instant::now()));
                self.state.found = None;
            }
            if let Outcome::Failed { reason } = &outcome {
                tracing::warn!(room = self.room, reason, "a delivery failed for good");
            }
            if delivery.id != 0 && self.bridge.handle.report(delivery.id, outcome).await.is_err() {
                return;
            }
        }
    }

    async fn carry(&mut self, delivery: &Delivery) -> Outcome {
        let permits = self.permits.clone();
        let _permit = permits.acquire().await;
        match self.attempt(delivery).await {
            Ok(external_id) => Outcome::Delivered { external_id },
            Err(error) => match error.outcome() {
                // An attempt that failed now says nothing of the one before it.
                Outcome::Retry { after_ms, reason, uncertain } => {
                    Outcome::Retry { uncertain: uncertain || delivery.uncertain, after_ms, reason }
                }
                other => other,
            },
        }
    }

    async fn attempt(&mut self, delivery: &Delivery) -> Result<Option<String>, CallError> {
        match &delivery.news.what {
            What::Message(content) => self.message(delivery, content).await,
            _ => shown::show(&self.bridge, &self.room, &delivery.news).await.map(|()| None),
        }
    }

    /// Sends a message as its author's ghost: one call, once the ghost is in the room.
    async fn message(&mut self, delivery: &Delivery, content: &Content) -> Result<Option<String>, CallError> {
        let news = &delivery.news;
        if let Some(origin) = &content.origin
            && origin.link == (Link::Matrix { room: self.room.clone() })
        {
            return Ok(Some(origin.external_id.clone()));
        }
        if let Some(event_id) = self.bridge.known_id(&self.room, &news.event) {
            // It turned void and came to count again before the room heard of either.
            return Ok(Some(event_id));
        }
        if delivery.uncertain {
            if let Some(event_id) = self.find(news).await? {
                self.state.newest = Some(event_id.clone());
                return Ok(Some(event_id));
            }
        } else {
            self.state.found = None;
        }
        if !self.is_cleared(content).await? {
            return self.withhold(news).await.map(|()| None);
        }
        let related = self.related(news, content).await?;
        let (kind, body) = content::event(&news.event, content, &related);
        let ghost = self.bridge.ghost(&news.author, false).await?;
        if self.bridge.is_put_out(&self.room, &ghost) {
            return self.relay(news, content).await.map(Some);
        }
        let mut txn = format!("multichat-{}", news.event);
        if self.bridge.is_withdrawn(&self.room, &news.event) {
            // What the room had was taken back: this is another event.
            txn = format!("{txn}-{}", delivery.id);
        }
        let sending = Sending {
            kind,
            room: &self.room,
            as_user: Some(&ghost),
            txn: &txn,
            said_at: Some(news.at.0),
            content: &body,
        };
        let sent = match self.bridge.send(&sending).await {
            Err(error) if error.kind() == Kind::Denied => {
                // Not in the room, or not known to the homeserver any more: from the beginning.
                let ghost = self.bridge.ghost(&news.author, true).await?;
                self.bridge.enter(&self.room, &ghost).await?;
                self.bridge.send(&Sending { as_user: Some(&ghost), ..sending }).await
            }
            other => other,
        };
        let event_id = match sent {
            // The room shows that reaction of theirs already.
            Err(error) if error.errcode() == "M_DUPLICATE_ANNOTATION" => return Ok(None),
            other => other?,
        };
        self.state.newest = Some(event_id.clone());
        self.bridge.learn(&self.room, &event_id, news.event, Some(&ghost));
        Ok(Some(event_id))
    }

    /// What somebody said before their removal counted, and that comes after it: their ghost is out of
    /// the room and stays out, so the bot says it.
    async fn relay(&self, news: &News, content: &Content) -> Result<String, CallError> {
        let told =
            format!("<{}> {} (said before they were removed)", news.author.profile.name(), content.body);
        let (kind, body) = content::event(
            &news.event,
            &Content { style: Style::Notice, ..Content::text(told) },
            &Related::default(),
        );
        let txn = format!("multichat-{}", news.event);
        let sending = Sending {
            kind,
            room: &self.room,
            as_user: None,
            txn: &txn,
            said_at: Some(news.at.0),
            content: &body,
        };
        let event_id = self.bridge.send(&sending).await?;
        self.bridge.learn(&self.room, &event_id, news.event, Some(self.bridge.names.bot()));
        Ok(event_id)
    }

    /// Whether the channel and the message let this homeserver have it.
    async fn is_cleared(&self, content: &Content) -> Result<bool, CallError> {
        let sink = Sink::Matrix(self.bridge.names.server().to_owned());
        let flow = self.bridge.carried(&self.room).map(|carried| carried.flow);
        let flow = match flow {
            Some(None) => {
                let asked = self.bridge.channels().await;
                asked.map_err(|stopped| CallError::Unreachable(stopped.to_string()))?;
                self.bridge.carried(&self.room).and_then(|carried| carried.flow)
            }
            other => other.flatten(),
        };
        Ok(content.envelope.flow.allows(&sink) && flow.is_none_or(|flow| flow.allows(&sink)))
    }

    /// Says, once in a while, that the room is not shown everything.
    async fn withhold(&mut self, news: &News) -> Result<(), CallError> {
        self.bridge.counts.add("flow does not allow this homeserver");
        if self.state.withheld {
            return Ok(());
        }
        let text = format!(
            "Some of what is said in {} may not go to {}: its flow policy, or who said it, keeps it from here.",
            news.channel_name,
            self.bridge.names.server()
        );
        bot::say(&self.bridge, &self.room, &format!("multichat-flow-{}", news.event), &text).await?;
        self.state.withheld = true;
        Ok(())
    }

    /// What the room has of what a message relates to, and whom it calls.
    async fn related(&self, news: &News, content: &Content) -> Result<Related, CallError> {
        let mut related = Related::default();
        related.mentions.extend(self.bridge.called(&content.body));
        // From another room of this homeserver: here it is had as well.
        related.media = content.origin.as_ref().is_some_and(
            |origin| matches!(&origin.link, Link::Matrix { room } if self.bridge.carried(room).is_some()),
        );
        related.sealed = match &self.bridge.crypto {
            Some(crypto) => crypto.is_sealed(&self.room).await?,
            None => false,
        };
        let Some(relation) = content.envelope.relation else { return Ok(related) };
        let Some((target, sender)) = self.bridge.id_of(&self.room, relation.target()).await? else {
            return Ok(related);
        };
        match relation {
            // Only who sent something edits it: an edit by a ghost of what its person said here
            // themselves would not be shown.
            Relation::Edit(_) if sender.as_deref() == Some(news.author.profile.home.as_str()) => {
                return Ok(related);
            }
            Relation::Thread { reply_to: Some(reply_to), .. } => {
                related.reply_to = self.bridge.id_of(&self.room, reply_to).await?.map(|(id, _)| id);
            }
            Relation::Reply(_) => related.mentions.extend(sender),
            _ => {}
        }
        related.mentions.sort();
        related.mentions.dedup();
        related.target = Some(target);
        Ok(related)
    }

    /// The event in the room that this message became, if it arrived.
    async fn find(&mut self, news: &News) -> Result<Option<String>, CallError> {
        if self.state.found.is_none() {
            self.state.found = Some(self.search(news).await?);
        }
        let event = news.event.to_string();
        Ok(self.state.found.as_ref().and_then(|found| found.get(&event)).cloned())
    }

    /// Reads the room backwards to this message, or to what is certainly before it. What comes
    /// later in a run of uncertain deliveries was sent later, so it lies in what was read.
    async fn search(&self, news: &News) -> Result<BTreeMap<String, String>, CallError> {
        let mut found = BTreeMap::new();
        let mut from: Option<String> = None;
        for _ in 0..SEARCH_PAGES {
            let page = match self.bridge.hs.messages(&self.room, from.as_deref()).await {
                Err(error) if error.kind() == Kind::Denied => {
                    self.bridge.hs.join(&self.room, None).await?;
                    self.bridge.hs.messages(&self.room, from.as_deref()).await?
                }
                other => other?,
            };
            let events = page["chunk"].as_array().ok_or_else(|| CallError::Odd("chunk is missing".into()))?;
            let mut enough = events.is_empty();
            for event in events {
                let Some(event_id) = event["event_id"].as_str() else { continue };
                let names = &self.bridge.names;
                let sender = event["sender"].as_str().unwrap_or_default();
                let by_ghost = names.ghost_localpart(sender).is_some();
                if let (true, Some(mark)) = (by_ghost, event["content"][MARK].as_str()) {
                    found.insert(mark.to_owned(), event_id.to_owned());
                } else if names.is_local(sender) {
                    // Only our own homeserver's word on when something was said counts.
                    let at = event["origin_server_ts"].as_u64().unwrap_or(u64::MAX);
                    enough |= at.saturating_add(SEARCH_SLACK_MS) < news.at.0;
                }
                enough |= self.state.newest.as_deref() == Some(event_id);
            }
            from = page["end"].as_str().map(str::to_owned);
            if enough || from.is_none() || found.contains_key(&news.event.to_string()) {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_retry_those_behind_it_are_void_until_it_comes_again() {
        let now = Instant::now();
        let mut state = State::default();
        assert!(!state.is_void(5, now));
        state.retried = Some((5, now));
        assert!(state.is_void(6, now) && state.is_void(7, now));
        assert!(!state.is_void(5, now), "here it is again");
        assert!(!state.is_void(6, now), "and those behind it count");
        state.retried = Some((7, now));
        assert!(!state.is_void(8, now + SKIP_FOR), "it never came: nothing is skipped for ever");
    }
}

//! Information flow: nothing is carried to a link whose far end is not cleared for it. Asked where a
//! delivery is decided on, and again when it is made, for the channel may have narrowed its flow since.

use std::collections::BTreeMap;

use super::directory::Channel;
use super::{Node, StoredEvent, Turn};
use crate::base::Timestamp;
use crate::chat::flow::{Flow, Sink};
use crate::chat::message::Link;
use crate::chat::view::{News, What};

/// How many messages went to a sink, and how many were kept from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exported {
    pub carried: u64,
    pub withheld: u64,
}

/// Why a delivery is not made after all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lapse {
    /// There is nothing left to deliver: it expired, or was taken back, while it waited.
    Over,
    /// The far end is not cleared for it any more.
    NotCleared,
}

impl Channel {
    /// Whether a message of this label may go to a sink.
    pub fn clears(&self, sink: &Sink, label: &Flow) -> bool {
        self.policy.flow.allows(sink) && label.allows(sink)
    }
}

impl Node {
    /// The sink that a link leads to.
    pub(super) fn sink_of(&self, link: &Link) -> Sink {
        Sink::of(link, &self.setup.matrix_server)
    }

    /// Whether news may go to a link; what is no message says nothing that is labelled.
    pub(super) fn may_carry(&self, channel: &Channel, link: &Link, news: &News) -> bool {
        match &news.what {
            What::Message(content) => channel.clears(&self.sink_of(link), &content.envelope.flow),
            _ => true,
        }
    }

    /// Counts a message that goes to a link.
    pub(super) fn count_carried(&mut self, link: &Link, news: &News) {
        if matches!(news.what, What::Message(_)) {
            let sink = self.sink_of(link);
            self.exports.entry(sink).or_default().carried += 1;
        }
    }

    /// Counts a message that does not, and has its author told.
    pub(super) fn withhold(&mut self, turn: &mut Turn, link: &Link) {
        let sink = self.sink_of(link);
        self.exports.entry(sink.clone()).or_default().withheld += 1;
        self.count_refused("flow");
        if !turn.withheld.contains(&sink) {
            turn.withheld.push(sink);
        }
    }

    /// What went to which sink, and what was kept from it.
    pub fn exports(&self) -> &BTreeMap<Sink, Exported> {
        &self.exports
    }

    /// The news of a stored event as they go to a link now, or to the listener.
    ///
    /// # Errors
    /// Why they no longer do.
    pub fn delivery_of(
        &self,
        now: Timestamp,
        link: Option<&Link>,
        stored: &StoredEvent,
    ) -> Result<News, Lapse> {
        let news = self.news_of(now, stored).ok_or(Lapse::Over)?;
        let Some(link) = link else { return Ok(news) };
        let channel = self.directory.get(&stored.channel).ok_or(Lapse::Over)?;
        if self.may_carry(channel, link, &news) { Ok(news) } else { Err(Lapse::NotCleared) }
    }

    /// The news of a stored message that full-text search found, if it may be found.
    pub fn finding_of(&self, now: Timestamp, stored: &StoredEvent) -> Option<News> {
        let news = self.news_of(now, stored)?;
        let What::Message(content) = &news.what else { return None };
        let channel = self.directory.get(&stored.channel)?;
        channel.clears(&Sink::Search, &content.envelope.flow).then_some(news)
    }

    /// A delivery is not made after all.
    pub(super) fn lapsed(&mut self, turn: &mut Turn, delivery: u64, lapse: Lapse) {
        let reason = match lapse {
            Lapse::Over => "delivery_over",
            Lapse::NotCleared => "flow",
        };
        let failed = super::Outcome::Failed { reason: reason.to_owned() };
        let Some(reported) = self.outbox.report(delivery, failed, turn.now) else { return };
        turn.writes.extend(reported.writes);
        self.count_refused(reason);
        if lapse == Lapse::NotCleared {
            let sink = self.sink_of(&reported.link);
            let exported = self.exports.entry(sink).or_default();
            (exported.carried, exported.withheld) =
                (exported.carried.saturating_sub(1), exported.withheld + 1);
        }
        self.dispatch(turn, &reported.link, None);
    }
}

//! The past of a channel by places in it, as IRC's CHATHISTORY asks for it: read from the store, in
//! the order of this node's log. It changes nothing.

use crate::base::{ChannelId, Timestamp, limits};
use crate::chat::view::{News, What};
use crate::node::Node;
use crate::port::{Anchor, Span};
use crate::store::{Store, StoreError, Window};

/// Events read at a time.
const PAGE: usize = 200;
/// Pages read for one answer: a channel in which next to nothing is a message ends it early.
const PAGES: usize = 50;

/// What reads.
pub(super) struct Past<'a> {
    pub node: &'a Node,
    pub store: &'a Store,
    /// What has expired by now is not shown.
    pub now: Timestamp,
}

impl Past<'_> {
    /// What lies between two places, oldest first.
    pub fn span(&self, channel: &ChannelId, span: &Span, limit: usize) -> Result<Vec<News>, StoreError> {
        let after = self.place(channel, &span.after, (0, 0))?;
        let before = self.place(channel, &span.before, (u64::MAX, u64::MAX))?;
        let (Some(mut after), Some(mut before)) = (after, before) else { return Ok(Vec::new()) };
        let mut newest = span.newest;
        let limit = limit.min(limits::HISTORY_MESSAGES);
        if after.0 > before.0 {
            (after, before) = (before, after);
            newest = true;
        }
        // From behind what is at the first place to before what is at the second.
        let (from, to) = (after.1, before.0);
        match newest {
            true => self.back(channel, (from, to), (span.messages, limit)),
            false => self.forth(channel, (from, to), (span.messages, limit)),
        }
    }

    /// What lies around a place, oldest first.
    pub fn around(
        &self,
        channel: &ChannelId,
        at: &Anchor,
        (messages, limit): (bool, usize),
    ) -> Result<Vec<News>, StoreError> {
        let Some((at, _)) = self.place(channel, at, (0, 0))? else { return Ok(Vec::new()) };
        let limit = limit.min(limits::HISTORY_MESSAGES);
        let mut news = self.back(channel, (0, at), (messages, limit / 2))?;
        news.extend(self.forth(channel, (at, u64::MAX), (messages, limit - limit / 2))?);
        Ok(news)
    }

    /// The positions from and to which a place reaches: `from..to` is what is exactly there.
    fn place(
        &self,
        channel: &ChannelId,
        anchor: &Anchor,
        open: (u64, u64),
    ) -> Result<Option<(u64, u64)>, StoreError> {
        Ok(match anchor {
            Anchor::Open => Some(open),
            Anchor::Event(event) => self.store.position_of(event)?.map(|at| (at, at + 1)),
            Anchor::Time(at) => {
                let first = self.first_since(channel, *at)?;
                Some((first, self.first_since(channel, at.plus_ms(1))?))
            }
        })
    }

    /// The first position whose news are of that moment or later, by halving: within a channel the log
    /// is in the order of time but for what came late.
    fn first_since(&self, channel: &ChannelId, at: Timestamp) -> Result<u64, StoreError> {
        let (mut low, mut high) = (0, self.store.last_position()? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.store.history(channel, Window::After(middle.saturating_sub(1)), 1)?;
            match found.first() {
                Some(event) if self.time_of(event).is_some_and(|time| time < at) => low = event.position + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn time_of(&self, event: &crate::node::StoredEvent) -> Option<Timestamp> {
        self.node.news_of(self.now, event).map(|news| news.at)
    }

    fn forth(
        &self,
        channel: &ChannelId,
        (mut from, to): (u64, u64),
        (messages, limit): (bool, usize),
    ) -> Result<Vec<News>, StoreError> {
        let mut news = Vec::new();
        for _ in 0..PAGES {
            let page = self.store.history(channel, Window::After(from.saturating_sub(1)), PAGE)?;
            let Some(last) = page.last().map(|event| event.position) else { break };
            let shown = page
                .iter()
                .filter(|event| event.position < to)
                .filter_map(|event| self.node.news_of(self.now, event));
            news.extend(shown.filter(|news| !messages || is_message(news)));
            if last >= to || news.len() >= limit || page.len() < PAGE {
                break;
            }
            from = last + 1;
        }
        news.truncate(limit);
        Ok(news)
    }

    fn back(
        &self,
        channel: &ChannelId,
        (from, mut to): (u64, u64),
        (messages, limit): (bool, usize),
    ) -> Result<Vec<News>, StoreError> {
        let mut news: Vec<News> = Vec::new();
        for _ in 0..PAGES {
            let page = self.store.history(channel, Window::Before(to), PAGE)?;
            let Some(first) = page.first().map(|event| event.position) else { break };
            let shown = page.iter().rev().filter(|event| event.position >= from);
            news.extend(
                shown
                    .filter_map(|event| self.node.news_of(self.now, event))
                    .filter(|news| !messages || is_message(news)),
            );
            if first <= from || news.len() >= limit {
                break;
            }
            to = first;
        }
        news.truncate(limit);
        news.reverse();
        Ok(news)
    }
}

fn is_message(news: &News) -> bool {
    matches!(news.what, What::Message(_))
}

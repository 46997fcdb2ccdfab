//! What is remembered of recent messages: enough to quote one, to show what an edit changed, and to
//! name it to the network by the ids it has there. The text of a message that was taken back is
//! forgotten at once, so that no later quote brings it back.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{EventId, Timestamp};
use crate::chat::message::Relation;
use crate::chat::view::{News, What};

/// Messages that are remembered; the oldest go.
const MESSAGES: usize = 1024;
/// Bytes kept of each text.
const BODY_BYTES: usize = 2048;
/// Ids on the network that are kept of one message: one for each of its lines.
const IDS: usize = 16;

/// What a remembered message was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    Words,
    Reaction,
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remembered {
    pub sort: Sort,
    pub author: String,
    /// The author is on this network, under that nick: they may be addressed by it.
    pub is_here: bool,
    /// Empty once the message was taken back.
    pub body: String,
    /// The edit that made the text what it is, and the text before it.
    pub edited: Option<(EventId, String)>,
    /// Its ids on the network, one for each line.
    pub ids: Vec<String>,
    /// Whether the relay itself said it there.
    pub by_us: bool,
    /// From when on its text is gone.
    pub expires: Option<Timestamp>,
}

/// The recent messages of every channel of a network.
#[derive(Debug, Default)]
pub(super) struct Known {
    messages: BTreeMap<EventId, Remembered>,
    order: VecDeque<EventId>,
    by_id: BTreeMap<String, EventId>,
}

impl Known {
    pub fn get(&self, event: &EventId) -> Option<&Remembered> {
        self.messages.get(event)
    }

    /// The message that has this id on the network.
    pub fn by_id(&self, id: &str) -> Option<EventId> {
        self.by_id.get(id).copied()
    }

    /// Takes in news that are about to be shown: new texts, edits, and texts that go.
    pub fn note(&mut self, news: &News, network: &str) {
        match &news.what {
            What::Message(content) => {
                let author = news.author.profile.name();
                let is_here = nick_here(&news.author.profile.home, network).is_some();
                match content.envelope.relation {
                    Some(Relation::Edit(target)) => self.edit(target, news.event, &content.body),
                    Some(Relation::Reaction(_)) => {
                        self.keep(news.event, Sort::Reaction, author, is_here, &content.body);
                    }
                    _ => self.keep(news.event, Sort::Words, author, is_here, &content.body),
                }
                if let Some(known) = self.messages.get_mut(&news.event) {
                    known.expires = content.envelope.expires;
                }
            }
            What::Redacted { target, .. } => self.forget(target),
            What::Withdrawn => self.forget(&news.event),
            _ => {}
        }
    }

    /// Keeps a message. One that is there already keeps its ids.
    pub fn keep(&mut self, event: EventId, sort: Sort, author: &str, is_here: bool, body: &str) {
        let body = beginning(body);
        if let Some(known) = self.messages.get_mut(&event) {
            if known.edited.is_none() {
                known.body = body;
            }
            return;
        }
        let author = author.to_owned();
        let (edited, ids) = (None, Vec::new());
        let remembered = Remembered { sort, author, is_here, body, edited, ids, by_us: false, expires: None };
        self.messages.insert(event, remembered);
        self.order.push_back(event);
        while self.order.len() > MESSAGES {
            let Some(old) = self.order.pop_front() else { break };
            for id in self.messages.remove(&old).map(|old| old.ids).unwrap_or_default() {
                self.by_id.remove(&id);
            }
        }
    }

    /// A message has this id on the network.
    pub fn named(&mut self, event: EventId, id: &str, by_us: bool) {
        let Some(known) = self.messages.get_mut(&event) else { return };
        known.by_us |= by_us;
        if known.ids.len() < IDS && !known.ids.iter().any(|other| other == id) {
            known.ids.push(id.to_owned());
            self.by_id.insert(id.to_owned(), event);
        }
    }

    fn edit(&mut self, target: EventId, edit: EventId, body: &str) {
        let Some(known) = self.messages.get_mut(&target) else { return };
        if known.edited.as_ref().is_none_or(|(earlier, _)| *earlier != edit) {
            let before = std::mem::replace(&mut known.body, beginning(body));
            known.edited = Some((edit, before));
        }
    }

    fn forget(&mut self, event: &EventId) {
        if let Some(known) = self.messages.get_mut(event) {
            known.body.clear();
            known.edited = None;
        }
    }
}

impl Remembered {
    /// The text, as long as it may be shown.
    pub fn text(&self, now: Timestamp) -> &str {
        if self.expires.is_some_and(|expires| expires <= now) { "" } else { &self.body }
    }

    /// The text that an edit replaced, also when the edit is shown a second time.
    pub fn before(&self, edit: &EventId) -> &str {
        match &self.edited {
            Some((applied, before)) if applied == edit => before,
            _ => &self.body,
        }
    }
}

/// The nick of somebody whose home is this network.
pub(super) fn nick_here<'a>(home: &'a str, network: &str) -> Option<&'a str> {
    home.strip_suffix(network)?.strip_suffix('@').filter(|nick| !nick.is_empty())
}

fn beginning(body: &str) -> String {
    let end = (0..=body.len().min(BODY_BYTES)).rev().find(|at| body.is_char_boundary(*at));
    body[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Identity;
    use crate::chat::message::Content;
    use crate::irc::network::render::tests::news;

    fn event(n: u8) -> EventId {
        EventId([n; 32])
    }

    #[test]
    fn edits_and_redactions() {
        let mut known = Known::default();
        known.note(&news("alice", 1, What::Message(Content::text("one"))), "net");
        known.named(event(1), "m1", true);
        let mut edit = Content::text("two");
        edit.envelope.relation = Some(Relation::Edit(event(1)));
        let edit = news("alice", 2, What::Message(edit));
        for _ in 0..2 {
            known.note(&edit, "net");
            let message = known.get(&event(1)).unwrap();
            assert_eq!((message.body.as_str(), message.before(&event(2))), ("two", "one"));
        }
        assert_eq!(known.by_id("m1"), Some(event(1)));
        let redacted = What::Redacted { target: event(1), sender: Identity([1; 32]), reason: String::new() };
        known.note(&news("alice", 3, redacted), "net");
        let message = known.get(&event(1)).unwrap();
        assert_eq!((message.body.as_str(), message.before(&event(9)), message.ids.len()), ("", "", 1));
    }

    #[test]
    fn it_is_bounded() {
        let mut known = Known::default();
        for n in 0..3 * MESSAGES as u32 {
            let event = EventId(*blake3::hash(&n.to_be_bytes()).as_bytes());
            known.keep(event, Sort::Words, "alice", false, &"é".repeat(5000));
            for line in 0..30 {
                known.named(event, &format!("{n}-{line}"), true);
            }
        }
        assert_eq!((known.messages.len(), known.order.len()), (MESSAGES, MESSAGES));
        assert_eq!(known.by_id.len(), MESSAGES * IDS);
    }

    #[test]
    fn homes() {
        assert_eq!(nick_here("bob@net:6667", "net:6667"), Some("bob"));
        assert_eq!(nick_here("@alice:net:6667", "net:6667"), None);
        assert_eq!(nick_here("@net:6667", "net:6667"), None);
    }
}

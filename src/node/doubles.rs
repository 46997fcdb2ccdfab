//! What was said once on the far side of a link and came here twice: by two nodes that hold the link,
//! of which the first died before anybody knew what it had taken in. The holders give a line the same id,
//! so the second event of it is known by that, by who said it and by what was said; it is kept, as any
//! event, and shown to nobody. Memory of the latest, in two generations.

use std::collections::BTreeMap;

use crate::base::{Digest, EventId};
use crate::chat::message::{Content, Link};

/// Messages of one generation.
const GENERATION: usize = 8 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Doubles {
    young: BTreeMap<Digest, EventId>,
    old: BTreeMap<Digest, EventId>,
}

impl Doubles {
    /// Takes a message in. Whether it was there before, as another event. Only what came from an IRC
    /// network can be: elsewhere the ids are the far side's own, and one node holds the link. `home` is
    /// that of its author: whoever else claims an origin doubles nobody.
    pub fn is_double(&mut self, event: EventId, home: &str, content: &Content) -> bool {
        let Some(origin) = &content.origin else { return false };
        let Link::Irc { network, channel } = &origin.link else { return false };
        let mut hasher = blake3::Hasher::new();
        for part in [network, channel, &origin.external_id, home, &content.body] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let key = Digest(*hasher.finalize().as_bytes());
        if let Some(first) = self.young.get(&key).or_else(|| self.old.get(&key)) {
            return *first != event;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, event);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::chat::message::Origin;

    fn said(network: &str, id: &str, body: &str) -> Content {
        let link = Link::Irc { network: network.into(), channel: "#a".into() };
        let origin = Origin { link, external_id: id.into(), said_at: Timestamp(1) };
        Content { origin: Some(origin), ..Content::text(body) }
    }

    #[test]
    fn a_line_that_two_holders_took_in_is_shown_once() {
        let mut doubles = Doubles::default();
        let event = |n: u8| EventId([n; 32]);
        let mut check = |n, home, content: &Content| doubles.is_double(event(n), home, content);
        assert!(!check(1, "bob@net", &said("net", "1", "hi")));
        assert!(!check(1, "bob@net", &said("net", "1", "hi")), "the same again, with its text");
        assert!(check(2, "bob@net", &said("net", "1", "hi")));
        for (home, content) in [
            ("eve@net", said("net", "1", "hi")),
            ("bob@net", said("net", "1", "bye")),
            ("bob@net", said("net", "2", "hi")),
            ("bob@net", said("other", "1", "hi")),
            ("bob@net", Content::text("hi")),
            ("bob@net", Content::text("hi")),
        ] {
            assert!(!check(3, home, &content), "{home} {content:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_known() {
        let mut doubles = Doubles::default();
        for number in 0..3 * GENERATION {
            let content = said("net", &number.to_string(), "x");
            assert!(!doubles.is_double(EventId([1; 32]), "", &content));
            assert!(doubles.is_double(EventId([2; 32]), "", &content));
        }
        assert!(doubles.young.len() + doubles.old.len() <= 2 * GENERATION);
    }
}

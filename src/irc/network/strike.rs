//! What another holder of a link says in its channel, compared with what waits to be said there, so that
//! a line is said once whoever carries the link. Pure: it decides nothing about who carries.

use std::collections::VecDeque;

use super::render::{Lines, Utterance, leads};
use crate::node::Delivery;

/// Lines of other holders that are kept for deliveries to come: the one that carries may be ahead of
/// our log. Beyond that, the oldest is forgotten.
const OVERHEARD: usize = 4_096;
/// How long they are kept.
const OVERHEARD_MS: u64 = 60 * 60_000;

/// The lines of one delivery, in every way that another holder may say them: it may be late with them,
/// may know what they relate to where we do not, or be an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Expected {
    ways: Vec<Lines>,
    /// How lines of its author begin.
    leads: [String; 2],
    /// Whether a line of it was said.
    is_begun: bool,
}

impl Expected {
    pub fn new(delivery: &Delivery, ways: impl IntoIterator<Item = Lines>) -> Self {
        let leads = leads(delivery.news.author.profile.name());
        let mut expected = Self { ways: Vec::new(), leads, is_begun: false };
        for way in ways {
            if !way.is_empty() && !expected.ways.contains(&way) {
                expected.ways.push(way);
            }
        }
        expected
    }

    /// Lines that are left of a delivery that we began ourselves.
    pub fn rest(delivery: &Delivery, lines: Lines) -> Self {
        Self { is_begun: true, ..Self::new(delivery, [lines]) }
    }

    /// Takes a line that was said. `None` if it is not the next one; else whether it was the last.
    pub fn strike(&mut self, line: &Utterance) -> Option<bool> {
        let is_next = |way: &Lines| way.front().is_some_and(|next| next.is_like(line));
        if !self.ways.iter().any(is_next) {
            return None;
        }
        self.ways.retain(is_next);
        self.is_begun = true;
        for way in &mut self.ways {
            way.pop_front();
        }
        Some(self.ways.iter().any(Lines::is_empty))
    }

    /// The lines that are still to be said, if some were.
    pub fn into_rest(self) -> Option<Lines> {
        self.ways.into_iter().next().filter(|_| self.is_begun)
    }

    fn is_by_its_author(&self, line: &Utterance) -> bool {
        matches!(line, Utterance::Say { text, .. } if self.leads.iter().any(|lead| text.starts_with(lead)))
    }
}

/// What other holders said that fits nothing yet.
#[derive(Debug, Default)]
pub(super) struct Overheard(VecDeque<(u64, Utterance)>);

impl Overheard {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a line.
    pub fn keep(&mut self, now_ms: u64, line: Utterance) {
        self.0.push_back((now_ms, line));
        let is_old = |at_ms: u64| at_ms.saturating_add(OVERHEARD_MS) < now_ms;
        while self.0.len() > OVERHEARD || self.0.front().is_some_and(|(at_ms, _)| is_old(*at_ms)) {
            self.0.pop_front();
        }
    }

    /// Somebody's line was struck out at once: what is kept of theirs is older, and fits nothing any more.
    pub fn said_later(&mut self, expected: &Expected) {
        self.0.retain(|(_, line)| !expected.is_by_its_author(line));
    }

    /// Strikes out the lines of a delivery that are kept. `None` if there is none; else whether all are.
    pub fn recollect(&mut self, expected: &mut Expected) -> Option<bool> {
        let mut struck = None;
        let mut at = 0;
        while at < self.0.len() && struck != Some(true) {
            match expected.strike(&self.0[at].1) {
                Some(whole) => {
                    self.0.remove(at);
                    struck = Some(whole);
                    // What the same person said before that fits nothing any more.
                    let older = self.0.drain(..at).filter(|(_, line)| !expected.is_by_its_author(line));
                    let mut older: VecDeque<_> = older.collect();
                    at = older.len();
                    older.append(&mut self.0);
                    self.0 = older;
                }
                None => at += 1,
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::Content;
    use crate::chat::view::What;
    use crate::irc::network::render::tests::news;

    fn say(text: &str) -> Utterance {
        Utterance::Say { notice: false, text: text.into(), reply: None }
    }

    fn expected(ways: &[&[&str]]) -> Expected {
        let news = news("alice", 1, What::Message(Content::text("x")));
        let delivery = Delivery { id: 1, link: None, uncertain: false, news };
        Expected::new(&delivery, ways.iter().map(|way| way.iter().map(|text| say(text)).collect()))
    }

    #[test]
    fn lines_are_struck_out_in_order_in_whichever_way_they_are_said() {
        let mut one = expected(&[&["a", "b", "c"], &["late a", "late b"], &["a", "b", "c"]]);
        assert_eq!(one.ways.len(), 2);
        assert_eq!(one.strike(&say("b")), None);
        let mut other = one.clone();
        assert_eq!(other.clone().into_rest(), None);
        assert_eq!((other.strike(&say("late a")), other.strike(&say("b"))), (Some(false), None));
        assert_eq!(other.strike(&say("late b")), Some(true));
        assert_eq!(one.strike(&say("a")), Some(false));
        assert_eq!(one.into_rest().map(Vec::from), Some(vec![say("b"), say("c")]));
        assert_eq!(expected(&[&[]]).strike(&say("")), None);
        let notice = Utterance::Say { notice: true, text: "a".into(), reply: None };
        let answer = Utterance::Say { notice: false, text: "a".into(), reply: Some("id".into()) };
        assert_eq!(
            (expected(&[&["a"]]).strike(&notice), expected(&[&["a"]]).strike(&answer)),
            (None, Some(true))
        );
    }

    #[test]
    fn what_came_before_its_delivery_is_found_again() {
        let mut overheard = Overheard::default();
        let alice = |text: &str| say(&format!("<a\u{200b}lice> {text}"));
        let expect = |text: &str| expected(&[&[&format!("<a\u{200b}lice> {text}")]]);
        for line in [alice("one"), say("<b\u{200b}ob> one"), alice("two"), alice("three")] {
            overheard.keep(0, line);
        }
        assert_eq!(overheard.recollect(&mut expect("four")), None);
        assert_eq!(overheard.recollect(&mut expect("two")), Some(true));
        let left: Vec<Utterance> = overheard.0.iter().map(|(_, line)| line.clone()).collect();
        assert_eq!(left, [say("<b\u{200b}ob> one"), alice("three")], "what she said before two is stale");
        overheard.said_later(&expect("five"));
        assert_eq!(overheard.0.len(), 1);
        overheard.keep(OVERHEARD_MS + 1, alice("six"));
        assert_eq!(overheard.0.len(), 1, "nothing is kept for ever");
        for number in 0..2 * OVERHEARD {
            overheard.keep(OVERHEARD_MS + 2, alice(&number.to_string()));
        }
        assert_eq!(overheard.0.len(), OVERHEARD);
        let mut several =
            expected(&[&["<a\u{200b}lice> 8000", "<a\u{200b}lice> 8001", "<a\u{200b}lice> none"]]);
        assert_eq!(overheard.recollect(&mut several), Some(false));
    }
}

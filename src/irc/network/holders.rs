//! Which of the nodes that hold a link carries it in one channel: the channel's own order of joins says
//! so. Pure.
//!
//! Whoever is there when we come in is ahead of us; whoever comes later is behind us. We carry when
//! nobody is ahead of us any more. One ircd tells joins and leaves to all in one order, so at most one
//! carries, without clocks. Holders that two halves of a network bring together each saw the other come
//! later: they tell each other, and [`Holders::yield_to`] says who gives way.

use std::collections::BTreeMap;

/// Questions wait so long for an answer before they are asked again.
const ASK_AGAIN_MS: u64 = 2_000;
/// A holder that answers nothing for so long, while the network does, is taken for gone.
const SILENT_MS: u64 = 5_000;
/// Deliveries that one question names.
pub(super) const NAMED: usize = 24;

/// The holders of one channel's link, seen from one of them. Nicks are folded.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// We know who was here when we came.
    is_listed: bool,
    /// Who was, and has not left, and since when a question to them is unanswered.
    ahead: BTreeMap<String, Option<u64>>,
    carries: bool,
    /// We carried, and slept: whether we still do is to be found out.
    is_suspended: bool,
    question: Option<Question>,
    /// Others answer that much is done that we know nothing of: we ask on without waiting.
    pub is_behind: bool,
    /// The nick of who carries, as far as it is known.
    pub carrier: String,
}

/// What we asked those ahead last.
#[derive(Debug)]
struct Question {
    number: u64,
    at_ms: u64,
    /// Deliveries in the order of the answer.
    deliveries: Vec<u64>,
    is_answered: bool,
}

impl Holders {
    /// We are not in the channel (any more).
    pub fn left_them(&mut self) {
        *self = Self { carrier: std::mem::take(&mut self.carrier), ..Self::default() };
    }

    /// Somebody is in the list of names, which is complete later.
    pub fn is_here(&mut self, nick: &str) {
        if !self.is_listed {
            self.ahead.insert(nick.to_owned(), None);
        }
    }

    /// The list of names is complete.
    pub fn listed(&mut self) {
        self.is_listed = true;
    }

    /// Somebody says that they carry, or have another nick that we must look up to.
    pub fn put_ahead(&mut self, nick: &str) {
        self.ahead.entry(nick.to_owned()).or_default();
    }

    /// Somebody left, or does not answer. Whether they were ahead of us.
    pub fn gone(&mut self, nick: &str) -> bool {
        self.ahead.remove(nick).is_some()
    }

    /// Whether we carry.
    pub fn carries(&self) -> bool {
        self.carries
    }

    /// Takes the link over if nobody is ahead. Whether we carry since this moment.
    pub fn take_over(&mut self) -> bool {
        let is_free = self.is_listed && !self.is_suspended && self.ahead.is_empty();
        let begins = is_free && !self.carries;
        if begins {
            (self.carries, self.question, self.is_behind) = (true, None, false);
        }
        begins
    }

    /// We slept: another may have taken over. Whether that makes a difference.
    pub fn suspend(&mut self) -> bool {
        let carried = std::mem::take(&mut self.carries);
        self.is_suspended |= carried;
        carried
    }

    /// We know by now what happened while we slept.
    pub fn resume(&mut self) {
        self.is_suspended = false;
    }

    /// Whether we are to find out whether we still carry.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Another carries as well: who has the smaller nick goes on, unless `must`. Whether we gave way.
    pub fn yield_to(&mut self, own: &str, other: &str, must: bool) -> bool {
        let yields = must || other < own;
        if yields || !self.carries {
            self.put_ahead(other);
        }
        let gives_way = self.carries && yields;
        self.carries &= !yields;
        gives_way
    }

    /// Those ahead of us.
    pub fn ahead(&self) -> impl Iterator<Item = &String> {
        self.ahead.keys()
    }

    /// Whether to ask those ahead now, when there is something to ask.
    pub fn may_ask(&self, now_ms: u64) -> bool {
        let waits = |question: &Question| {
            let patience = if question.is_answered && self.is_behind { 0 } else { ASK_AGAIN_MS };
            now_ms < question.at_ms + patience
        };
        self.is_listed && !self.ahead.is_empty() && !self.question.as_ref().is_some_and(waits)
    }

    /// They are asked now.
    pub fn ask(&mut self, number: u64, now_ms: u64, deliveries: Vec<u64>) {
        self.question = Some(Question { number, at_ms: now_ms, deliveries, is_answered: false });
        for since in self.ahead.values_mut() {
            since.get_or_insert(now_ms);
        }
    }

    /// One of them answered; what it says is done.
    pub fn told(&mut self, nick: &str, number: u64, done: impl Iterator<Item = bool>) -> Vec<u64> {
        if let Some(since) = self.ahead.get_mut(nick) {
            *since = None;
        }
        let Some(question) = self.question.as_mut().filter(|question| question.number == number) else {
            return Vec::new();
        };
        question.is_answered = true;
        let pairs = question.deliveries.iter().zip(done);
        let done: Vec<u64> = pairs.filter(|(_, done)| *done).map(|(delivery, _)| *delivery).collect();
        self.is_behind = !done.is_empty();
        done
    }

    /// Somebody ahead who has not answered for too long.
    pub fn silent(&self, now_ms: u64) -> Option<String> {
        let is_silent = |since: &Option<u64>| since.is_some_and(|since| now_ms >= since + SILENT_MS);
        self.ahead.iter().find(|(_, since)| is_silent(since)).map(|(nick, _)| nick.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_came_first_carries() {
        let mut holders = Holders::default();
        assert!(!holders.take_over(), "who is there is not known");
        holders.is_here("a");
        holders.is_here("b");
        holders.listed();
        holders.is_here("c");
        assert_eq!(holders.ahead().collect::<Vec<_>>(), ["a", "b"], "who comes later is behind us");
        assert!(!holders.gone("c") && holders.gone("a") && !holders.take_over());
        assert!(holders.gone("b") && holders.take_over() && holders.carries() && !holders.take_over());
        holders.left_them();
        assert!(!holders.carries() && !holders.take_over());
    }

    #[test]
    fn of_two_that_carry_one_goes_on() {
        let carrying = || {
            let mut holders = Holders::default();
            holders.listed();
            assert!(holders.take_over());
            holders
        };
        let (mut a, mut b) = (carrying(), carrying());
        assert!(!a.yield_to("a", "b", false) && a.carries());
        assert!(b.yield_to("b", "a", false) && !b.carries() && !b.take_over());
        assert!(a.yield_to("a", "b", true), "who was taken for gone gives way");
        assert!(b.gone("a") && b.take_over());
        let (mut awake, mut passed_over) = (carrying(), carrying());
        assert!(awake.suspend() && !awake.carries() && !awake.take_over() && !awake.suspend());
        awake.resume();
        assert!(awake.take_over());
        passed_over.suspend();
        passed_over.yield_to("a", "b", true);
        passed_over.resume();
        assert!(!passed_over.take_over());
        let mut c = Holders::default();
        c.listed();
        assert!(!c.yield_to("c", "d", false) && !c.take_over(), "who does not carry believes them");
    }

    #[test]
    fn who_does_not_answer_is_passed_over() {
        let mut holders = Holders::default();
        holders.is_here("a");
        assert!(!holders.may_ask(0));
        holders.listed();
        assert!(holders.may_ask(0));
        holders.ask(1, 0, vec![7, 8, 9]);
        assert!(!holders.may_ask(ASK_AGAIN_MS - 1) && holders.may_ask(ASK_AGAIN_MS));
        assert_eq!(holders.told("a", 1, [true, false, true].into_iter()), [7, 9]);
        assert!(holders.is_behind && holders.may_ask(1), "there is more where that came from");
        holders.ask(2, 2, vec![8]);
        assert_eq!(holders.told("a", 1, [true].into_iter()), [0; 0], "an answer to an earlier question");
        assert_eq!(holders.told("a", 2, [false].into_iter()), [0; 0]);
        assert!(!holders.is_behind && !holders.may_ask(3));
        holders.ask(3, 10_000, vec![8]);
        holders.ask(4, 12_000, vec![8]);
        assert_eq!(holders.silent(10_000 + SILENT_MS - 1), None);
        assert_eq!(holders.silent(10_000 + SILENT_MS).as_deref(), Some("a"));
    }
}

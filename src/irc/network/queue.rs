//! What waits to be said in one channel, and what was said and is not yet known to have arrived.
//!
//! The order of deliveries is kept; nothing is reported as delivered before the network has shown
//! that it took every line of it. It never sends by itself.

use std::collections::VecDeque;

use crate::base::{ChannelId, EventId};
use crate::chat::message::Link;
use crate::node::{Delivery, Outcome};

use super::channel::State;
use super::heard::Heard;
use super::holders::Holders;
use super::render::{Lines, Utterance};
use super::strike::{Expected, Overheard};

/// Deliveries of one channel that are held; the node keeps fewer under way
/// (`limits::DELIVERY_WINDOW`), and what is more goes back to it.
const HELD: usize = 256;

/// Lines of our own for one channel that may wait; beyond that, the oldest is not said.
const ANNOUNCED: usize = 16;

/// Where we stand in a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Not connected, or to be joined as soon as there is leave to send.
    Outside,
    /// `JOIN` was sent.
    Joining {
        since_ms: u64,
    },
    Joined {
        since_ms: u64,
    },
    /// The channel would not have us; the next attempt comes at that time.
    Refused {
        until_ms: u64,
        reason: String,
    },
}

/// One linked channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub link: Link,
    pub name: String,
    pub id: ChannelId,
    pub place: Place,
    /// Refusals and kicks in a row.
    pub refusals: u32,
    pub state: State,
    /// What the relay says for itself, before anything else.
    announcements: VecDeque<Utterance>,
    /// Which of the nodes that hold this link carries it.
    pub holders: Holders,
    /// What people said that no node is known to have taken in.
    pub heard: Heard,
    /// What other holders said here that fits no delivery yet.
    overheard: Overheard,
    waiting: VecDeque<Held>,
    /// The lines of the first of `waiting` that are still to be said, once it was begun.
    begun: Option<Lines>,
    said: VecDeque<Said>,
    /// After a `Retry` of this delivery, it and all after it come again: later ones that were
    /// under way already are forgotten until then.
    expects: Option<u64>,
}

/// A delivery that waits.
#[derive(Debug)]
struct Held {
    delivery: Delivery,
    /// Its lines as another holder says them, once one did speak.
    expected: Option<Expected>,
    since_ms: u64,
}

/// A line that was sent.
#[derive(Debug)]
struct Said {
    delivery: u64,
    event: EventId,
    /// Its place among all lines sent on this connection.
    sequence: u64,
    /// The last of its delivery.
    last: bool,
    /// Where the network echoes what we say, this line comes back.
    echoes: bool,
}

/// A report for the node.
pub(super) type Report = (u64, Outcome);

impl Channel {
    pub fn new(link: Link, name: String, id: ChannelId) -> Self {
        Self {
            link,
            name,
            id,
            place: Place::Outside,
            refusals: 0,
            state: State::default(),
            announcements: VecDeque::new(),
            holders: Holders::default(),
            heard: Heard::default(),
            overheard: Overheard::default(),
            waiting: VecDeque::new(),
            begun: None,
            said: VecDeque::new(),
            expects: None,
        }
    }

    /// Takes a delivery to hold.
    pub fn push(&mut self, now_ms: u64, delivery: Delivery) -> Option<Report> {
        if self.expects.is_some_and(|expected| delivery.id > expected) {
            return None;
        }
        self.expects = None;
        if self.waiting.len() >= HELD {
            self.expects = Some(delivery.id);
            return Some((delivery.id, retry(false, None, "too many messages wait for this channel")));
        }
        self.waiting.push_back(Held { delivery, expected: None, since_ms: now_ms });
        None
    }

    /// Another holder said a line here: strikes out the first delivery whose next line it is. Whatever the
    /// same person said before has arrived, too. Makes the lines of a delivery where they are not made
    /// yet, in every way that another holder may say them. `None` if it fits nothing: then it is kept for
    /// deliveries to come. Else the event, and what is done.
    pub fn strike(
        &mut self,
        now_ms: u64,
        line: &Utterance,
        mut expect: impl FnMut(&Delivery, &mut State) -> Expected,
    ) -> Option<(EventId, Vec<Report>)> {
        let begun = usize::from(self.begun.is_some());
        let struck = self.waiting.iter_mut().enumerate().skip(begun).find_map(|(at, held)| {
            let expected = held.expected.get_or_insert_with(|| expect(&held.delivery, &mut self.state));
            expected.strike(line).map(|whole| (at, whole))
        });
        let Some((at, whole)) = struck else {
            self.overheard.keep(now_ms, line.clone());
            return None;
        };
        let event = self.waiting[at].delivery.news.event;
        if let Some(expected) = &self.waiting[at].expected {
            self.overheard.said_later(expected);
        }
        Some((event, self.done_up_to(at, whole)))
    }

    /// Looks whether another holder has said already what came last to be said.
    pub fn recollect(&mut self, mut expect: impl FnMut(&Delivery, &mut State) -> Expected) -> Vec<Report> {
        let begun = usize::from(self.begun.is_some());
        if self.overheard.is_empty() || self.waiting.len() <= begun {
            return Vec::new();
        }
        let at = self.waiting.len() - 1;
        let held = &mut self.waiting[at];
        let expected = held.expected.get_or_insert_with(|| expect(&held.delivery, &mut self.state));
        match self.overheard.recollect(expected) {
            Some(whole) => self.done_up_to(at, whole),
            None => Vec::new(),
        }
    }

    /// The delivery at a place was said, or begun, by another: so was what its author said before.
    fn done_up_to(&mut self, at: usize, whole: bool) -> Vec<Report> {
        let begun = usize::from(self.begun.is_some());
        let author = self.waiting[at].delivery.news.author.identity;
        let (mut done, mut place) = (Vec::new(), 0);
        self.waiting.retain(|held| {
            let is_done = place >= begun
                && (place < at || (place == at && whole))
                && held.delivery.news.author.identity == author;
            if is_done {
                done.push((held.delivery.id, Outcome::Delivered { external_id: None }));
            }
            place += 1;
            !is_done
        });
        done
    }

    /// Deliveries that have waited for so long for another holder to say them, and were not begun.
    pub fn overdue(&self, before_ms: u64) -> impl Iterator<Item = (u64, EventId)> + '_ {
        let begun = usize::from(self.begun.is_some());
        let old = self.waiting.iter().skip(begun).filter(move |held| held.since_ms <= before_ms);
        old.map(|held| (held.delivery.id, held.delivery.news.event))
    }

    /// Another holder says that it has brought this delivery there.
    pub fn settle(&mut self, delivery: u64) -> Option<Report> {
        let begun = usize::from(self.begun.is_some());
        let mut places = self.waiting.iter().enumerate().skip(begun);
        let at = places.find(|(_, held)| held.delivery.id == delivery)?.0;
        self.waiting.remove(at)?;
        Some((delivery, Outcome::Delivered { external_id: None }))
    }

    /// Another carries from here on: what was begun may be gone on with by it.
    pub fn step_down(&mut self) {
        if let (Some(lines), Some(held)) = (self.begun.take(), self.waiting.front_mut()) {
            held.expected = Some(Expected::rest(&held.delivery, lines));
        }
    }

    /// Whether anything waits to be said.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.announcements.is_empty()
    }

    /// Whether deliveries wait.
    pub fn has_deliveries(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the relay itself has something to say.
    pub fn has_announcements(&self) -> bool {
        !self.announcements.is_empty()
    }

    /// Something that the relay says for itself. It is no delivery: nobody reports on it.
    pub fn announce(&mut self, text: String) {
        self.announcements.push_back(Utterance::Say { notice: true, text, reply: None });
        if self.announcements.len() > ANNOUNCED {
            self.announcements.pop_front();
        }
    }

    /// Lines that were sent and are not yet known to have arrived.
    pub fn unconfirmed(&self) -> usize {
        self.said.len()
    }

    /// The next line to send. `render` makes the lines of a delivery whose turn it is. Deliveries
    /// without lines are done when their turn comes; their reports are pushed to `done`.
    pub fn next_line(
        &mut self,
        sequence: u64,
        mut render: impl FnMut(&Delivery, &mut State) -> Result<Lines, String>,
        done: &mut Vec<Report>,
    ) -> Option<Utterance> {
        if self.begun.is_none()
            && let Some(line) = self.announcements.pop_front()
        {
            let event = EventId::default();
            self.said.push_back(Said { delivery: 0, event, sequence, last: true, echoes: true });
            return Some(line);
        }
        loop {
            let Held { delivery, expected, .. } = self.waiting.front_mut()?;
            let (id, event) = (delivery.id, delivery.news.event);
            if self.begun.is_none() {
                let rest = expected.take().and_then(Expected::into_rest);
                match rest.map_or_else(|| render(delivery, &mut self.state), Ok) {
                    Ok(lines) => self.begun = Some(lines),
                    Err(reason) => {
                        self.waiting.pop_front();
                        done.push((id, Outcome::Failed { reason }));
                        continue;
                    }
                }
            }
            let lines = self.begun.as_mut()?;
            let next = lines.pop_front();
            let last = lines.is_empty();
            if last {
                self.waiting.pop_front();
                self.begun = None;
            }
            match next {
                Some(line) => {
                    let echoes = matches!(line, Utterance::Say { .. });
                    self.said.push_back(Said { delivery: id, event, sequence, last, echoes });
                    return Some(line);
                }
                None => done.push((id, Outcome::Delivered { external_id: None })),
            }
        }
    }

    /// Every line up to that sequence number arrived.
    pub fn confirm_up_to(&mut self, sequence: u64, done: &mut Vec<Report>) {
        while self.said.front().is_some_and(|said| said.sequence <= sequence) {
            self.confirm_first(None, done);
        }
    }

    /// A line came back: the labelled one, else the oldest that the network echoes. What was said
    /// before it arrived, too. Gives the message that now has this id there.
    pub fn echoed(
        &mut self,
        label: Option<u64>,
        external_id: Option<&str>,
        done: &mut Vec<Report>,
    ) -> Option<EventId> {
        let is_it = |said: &Said| label.map_or(said.echoes, |label| said.sequence == label);
        let at = self.said.iter().position(is_it)?;
        let (sequence, event) = (self.said[at].sequence, self.said[at].event);
        if sequence > 0 {
            self.confirm_up_to(sequence - 1, done);
        }
        self.confirm_first(external_id.map(str::to_owned), done);
        Some(event)
    }

    fn confirm_first(&mut self, external_id: Option<String>, done: &mut Vec<Report>) {
        if let Some(said) = self.said.pop_front()
            && said.last
            && said.delivery != 0
        {
            done.push((said.delivery, Outcome::Delivered { external_id }));
        }
    }

    /// The network would not take what was said: it goes back to the node, and with it all that
    /// waits, to come again in order.
    pub fn give_back(&mut self, after_ms: Option<u64>, reason: &str) -> Option<Report> {
        let uncertain = self.said.iter().map(|said| said.delivery).find(|delivery| *delivery != 0);
        let id = uncertain.or_else(|| self.waiting.front().map(|held| held.delivery.id));
        self.said.clear();
        let id = id?;
        self.waiting.clear();
        self.begun = None;
        self.expects = Some(id);
        Some((id, retry(uncertain.is_some(), after_ms, reason)))
    }

    /// The connection is gone. What was said and not confirmed goes back to the node; what was not
    /// yet said stays here and is said after reconnecting.
    pub fn connection_lost(&mut self, reason: &str) -> Option<Report> {
        self.place = Place::Outside;
        self.holders.left_them();
        if self.said.is_empty() { None } else { self.give_back(None, reason) }
    }
}

fn retry(uncertain: bool, after_ms: Option<u64>, reason: &str) -> Outcome {
    Outcome::Retry { uncertain, after_ms, reason: reason.to_owned() }
}

/// Leave to send lines: so many at once, and so many a second.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Option<(u64, u64)>,
    /// In thousandths of a line.
    level: u64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket; `rate` is (burst, per second), `None` for no limit.
    pub fn new(rate: Option<(u32, u32)>) -> Self {
        let rate = rate.map(|(burst, second)| (u64::from(burst.max(1)), u64::from(second.max(1))));
        Self { rate, level: rate.map_or(0, |(burst, _)| burst * 1000), at_ms: 0 }
    }

    /// Takes one line out, if there is one.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let Some((burst, second)) = self.rate else { return true };
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(second);
        self.level = self.level.saturating_add(gained).min(burst * 1000);
        self.at_ms = now_ms;
        let leave = self.level >= 1000;
        if leave {
            self.level -= 1000;
        }
        leave
    }

    /// The line that was taken out was not sent after all.
    pub fn put_back(&mut self) {
        self.level += if self.rate.is_some() { 1000 } else { 0 };
    }

    /// When there will be leave again, after `take` said no.
    pub fn next_ms(&self) -> u64 {
        let Some((_, second)) = self.rate else { return self.at_ms };
        self.at_ms + (1000u64.saturating_sub(self.level)).div_ceil(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket() {
        let mut bucket = Bucket::new(Some((2, 4)));
        let taken: Vec<_> =
            [1000, 1000, 1000, 1250, 1250, 9000, 9000, 9000].map(|now| bucket.take(now)).into();
        assert_eq!(taken, [true, true, false, true, false, true, true, false]);
        assert_eq!(bucket.next_ms(), 9250);
        assert!((0..100).all(|_| Bucket::new(None).take(0)));
    }
}

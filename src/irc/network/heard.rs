//! What people said in a linked channel that no node is known to have taken in yet, and the ids by which
//! the nodes that hold the link know it to be the same. Pure.
//!
//! A network without `msgid` gives a line no name. All holders see the lines of one person in one order,
//! so they name it alike: by the two minutes in which it was said, by who said what, and, of equals, by
//! its number. Where two differ all the same (at the turn of those two minutes), a line that was taken in
//! by one that died before it told anybody may be shown twice.

use std::collections::{BTreeMap, VecDeque};

use crate::base::Timestamp;
use crate::chat::message::{Content, Origin, Style};

/// Lines that are kept for the case that the holder that carries dies; the oldest go.
const KEPT: usize = 1_000;
/// How long it may take to tell what it took in.
const KEPT_MS: u64 = 60_000;
/// The turn of names, see the module.
const TURN_MS: u64 = 120_000;
/// Names that are remembered; the oldest go.
const NAMES: usize = 8 * 1024;

/// A line of somebody, ready to be handed in.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Spoken {
    /// Folded.
    pub nick: String,
    pub author: String,
    /// With an origin whose id is empty unless the network gave one.
    pub content: Content,
    /// The network gave it its id.
    pub is_named: bool,
    at: Timestamp,
    mark: Mark,
}

/// In which turn, and what by whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mark {
    turn: u64,
    hash: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Heard {
    lines: VecDeque<Spoken>,
    /// What was taken in and not heard yet: when, and by which id.
    early: VecDeque<(Timestamp, String, Option<u64>)>,
    /// The moment at which we came, by the clock of the holder that carried then: what it took in of
    /// earlier lines we did not hear.
    came: Option<Timestamp>,
    /// What was taken in before that is known: when it came, its id, and when it was said.
    unjudged: VecDeque<(Timestamp, String, Timestamp)>,
    /// The moment at which another holder came, by our clock.
    other_came: Timestamp,
    /// How many equal lines of a turn were handed in.
    numbers: BTreeMap<Mark, u32>,
    /// Nothing is handed in before: what a dead holder told may still be on its way to us.
    pub not_before: Timestamp,
}

impl Spoken {
    pub fn new(now: Timestamp, nick: String, author: String, content: Content, is_named: bool) -> Self {
        let style = match content.style {
            Style::Text => "text",
            Style::Emote => "emote",
            Style::Notice => "notice",
        };
        let mut hasher = blake3::Hasher::new();
        for part in [nick.as_str(), style, &content.body] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let hash =
            hasher.finalize().as_bytes().iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
        let said_at = content.origin.as_ref().map_or(now, |origin| origin.said_at);
        Self { nick, author, content, is_named, at: now, mark: Mark { turn: said_at.0 / TURN_MS, hash } }
    }

    /// Whether it is the one of this id, or of this mark.
    fn is(&self, id: &str, hash: Option<u64>) -> bool {
        self.id() == id || hash == Some(self.mark.hash)
    }

    fn id(&self) -> &str {
        self.content.origin.as_ref().map_or("", |origin| &origin.external_id)
    }
}

impl Heard {
    /// Keeps a line until it is handed in, by us or another. One that was taken in already is over, and with
    /// it what the same person said before.
    pub fn keep(&mut self, line: Spoken) {
        let now = line.at;
        if let Some(at) = self.early.iter().position(|(_, id, hash)| line.is(id, *hash)) {
            self.early.remove(at);
            self.lines.retain(|other| other.nick != line.nick);
        } else {
            self.lines.push_back(line);
        }
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Timestamp) {
        let is_old = |line: &Spoken| now.since_ms(line.at) > KEPT_MS;
        while self.lines.len() > KEPT || self.lines.front().is_some_and(is_old) {
            self.lines.pop_front();
        }
        while self.early.len() > KEPT
            || self.early.front().is_some_and(|early| now.since_ms(early.0) > KEPT_MS)
        {
            self.early.pop_front();
        }
        let is_old = |one: &(Timestamp, String, Timestamp)| now.since_ms(one.0) > KEPT_MS;
        while self.unjudged.len() > KEPT || self.unjudged.front().is_some_and(is_old) {
            self.unjudged.pop_front();
        }
    }

    /// Whether a line has waited for so long for another to take it in.
    pub fn is_overdue(&mut self, now: Timestamp, wait_ms: u64) -> bool {
        self.forget_old(now);
        self.lines.front().is_some_and(|line| now.since_ms(line.at) >= wait_ms)
    }

    /// We came into the channel, or left it: which lines we hear is to be found out anew.
    pub fn comes(&mut self) {
        self.early.clear();
        self.unjudged.clear();
        self.came = None;
    }

    /// The holder that carries saw us come at that moment.
    pub fn came(&mut self, now: Timestamp, moment: Timestamp) {
        self.came = Some(moment);
        for (_, id, said_at) in std::mem::take(&mut self.unjudged) {
            self.taken_in(now, &id, said_at);
        }
    }

    /// We carry, and nobody told us when we came: we know it by our own clock.
    pub fn carries(&mut self, now: Timestamp, since: Timestamp) {
        self.came(now, self.came.unwrap_or(since));
    }

    /// Another holder came: of the lines from here on it can know that it heard them.
    pub fn other_came(&mut self, now: Timestamp) {
        self.other_came = now.max(self.other_came);
    }

    /// When the last of them came.
    pub fn others_since(&self) -> Timestamp {
        self.other_came
    }

    /// When a line counts as said that is heard now.
    pub fn moment(&self, now: Timestamp) -> Timestamp {
        now.max(self.other_came.plus_ms(1))
    }

    /// A message with this id was taken in by another. What the same person said before was, too, or was
    /// refused. Where nothing of it was heard yet, it will be, and that is remembered.
    pub fn taken_in(&mut self, now: Timestamp, id: &str, said_at: Timestamp) {
        let hash = self.number(id).map(|mark| mark.hash);
        // The ids of a network leave nothing to find out.
        let is_heard = match self.came {
            _ if hash.is_none() => true,
            Some(came) => said_at > came,
            None => {
                self.unjudged.push_back((now, id.to_owned(), said_at));
                return self.forget_old(now);
            }
        };
        if is_heard {
            self.strike(now, id, hash);
        }
    }

    fn strike(&mut self, now: Timestamp, id: &str, hash: Option<u64>) {
        let Some(at) = self.lines.iter().position(|line| line.is(id, hash)) else {
            self.early.push_back((now, id.to_owned(), hash));
            return self.forget_old(now);
        };
        let nick = self.lines[at].nick.clone();
        let mut place = 0;
        self.lines.retain(|line| {
            place += 1;
            place > at + 1 || line.nick != nick
        });
    }

    /// A message with this id was taken in before.
    pub fn known(&mut self, id: &str) {
        self.number(id);
    }

    /// Takes the number of an id into account, if it has one.
    fn number(&mut self, id: &str) -> Option<Mark> {
        let mut parts = id.split('.');
        let turn = u64::from_str_radix(parts.next()?, 16).ok()?;
        let hash = u64::from_str_radix(parts.next().filter(|part| part.len() == 16)?, 16).ok()?;
        let number: u32 = parts.next()?.parse().ok()?;
        let mark = Mark { turn, hash };
        let latest = self.numbers.entry(mark).or_default();
        *latest = number.max(*latest);
        while self.numbers.len() > NAMES {
            self.numbers.pop_first();
        }
        Some(mark)
    }

    /// The next line to hand in, named. What others took in and we do not know of by now comes too late.
    pub fn next(&mut self) -> Option<Spoken> {
        self.early.clear();
        let mut line = self.lines.pop_front()?;
        if line.id().is_empty() {
            let Mark { turn, hash } = line.mark;
            let number = self.numbers.get(&line.mark).map_or(1, |number| number.saturating_add(1));
            let id = format!("{turn:x}.{hash:016x}.{number}");
            self.number(&id);
            line.content.origin = line.content.origin.map(|origin| Origin { external_id: id, ..origin });
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::Link;

    fn line(at: u64, nick: &str, body: &str, id: &str) -> Spoken {
        let link = Link::Irc { network: "net".into(), channel: "#a".into() };
        let origin = Origin { link, external_id: id.into(), said_at: Timestamp(at) };
        let content = Content { origin: Some(origin), ..Content::text(body) };
        Spoken::new(Timestamp(at), nick.into(), nick.into(), content, !id.is_empty())
    }

    fn ids(heard: &mut Heard) -> Vec<String> {
        std::iter::from_fn(|| heard.next()).map(|line| line.id().to_owned()).collect()
    }

    #[test]
    fn holders_name_lines_alike_whenever_they_came() {
        let said = |heard: &mut Heard| {
            for (at, nick, body) in [(1, "bob", "hi"), (2, "carol", "hi"), (3, "bob", "hi"), (4, "bob", "hi")]
            {
                heard.keep(line(at, nick, body, ""));
            }
        };
        let mut one = Heard::default();
        one.keep(line(0, "bob", "hi", ""));
        let earlier = ids(&mut one);
        said(&mut one);
        let names = ids(&mut one);
        assert!(names[0] != names[1] && names[0] != names[2] && names[3].ends_with(".4"), "{names:?}");
        // The other came after the first line, and reads of it and of the second in the log.
        let mut other = Heard::default();
        said(&mut other);
        other.came(Timestamp(4), Timestamp(0));
        // Of an equal line before it came it knows the number alone.
        other.taken_in(Timestamp(5), &earlier[0], Timestamp(0));
        other.taken_in(Timestamp(5), &names[0], Timestamp(1));
        assert_eq!(ids(&mut other), names[1..]);
    }

    #[test]
    fn what_a_person_said_before_is_over_and_a_network_names_its_lines() {
        let mut heard = Heard::default();
        for (body, id) in [("a", "m1"), ("b", "m2"), ("c", "m3")] {
            heard.keep(line(1, "bob", body, id));
            heard.keep(line(1, "carol", body, ""));
        }
        heard.taken_in(Timestamp(5), "m2", Timestamp(1));
        let left: Vec<String> = std::iter::from_fn(|| heard.next())
            .map(|line| format!("{}{}", line.nick, line.content.body))
            .collect();
        assert_eq!(left, ["carola", "carolb", "bobc", "carolc"]);
    }

    #[test]
    fn the_log_may_be_ahead_of_the_network() {
        let mut heard = Heard::default();
        heard.taken_in(Timestamp(1), "m3", Timestamp(1));
        for id in ["m1", "m2", "m3", "m4"] {
            heard.keep(line(1, "bob", id, id));
        }
        assert_eq!(ids(&mut heard), ["m4"]);
        heard.taken_in(Timestamp(1), "m5", Timestamp(1));
        assert!(heard.next().is_none() && heard.early.is_empty());
    }

    #[test]
    fn what_was_said_before_we_came_is_not_taken_for_what_we_heard() {
        let mut one = Heard::default();
        for at in [1, 2] {
            one.keep(line(at, "bob", "hi", ""));
        }
        let names = ids(&mut one);
        // The other came between the two; both ways to hear of that.
        for told_first in [true, false] {
            let mut other = Heard::default();
            other.keep(line(2, "bob", "hi", ""));
            if told_first {
                other.came(Timestamp(2), Timestamp(1));
            }
            other.taken_in(Timestamp(3), &names[0], Timestamp(1));
            other.came(Timestamp(3), Timestamp(1));
            assert_eq!(other.lines.len(), 1);
            assert_eq!(ids(&mut other), names[1..]);
        }
        one.other_came(Timestamp(5));
        assert_eq!((one.others_since(), one.moment(Timestamp(5))), (Timestamp(5), Timestamp(6)));
        one.other_came(Timestamp(4));
        assert_eq!((one.others_since(), one.moment(Timestamp(9))), (Timestamp(5), Timestamp(9)));
        // Who carries itself knows by its own clock when it came.
        let mut first = Heard::default();
        first.keep(line(2, "bob", "hi", ""));
        first.taken_in(Timestamp(3), &names[0], Timestamp(2));
        first.carries(Timestamp(3), Timestamp(1));
        assert!(first.lines.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut heard = Heard::default();
        for number in 0..2 * KEPT as u64 {
            heard.keep(line(1, "bob", &number.to_string(), ""));
        }
        for number in 0..2 * KEPT {
            heard.taken_in(Timestamp(1), &format!("early {number}"), Timestamp(1));
            heard.taken_in(Timestamp(1), &format!("1.{number:016x}.1"), Timestamp(1));
        }
        assert_eq!((heard.lines.len(), heard.early.len(), heard.unjudged.len()), (KEPT, KEPT, KEPT));
        assert!(!heard.is_overdue(Timestamp(1_000), 2_000) && heard.is_overdue(Timestamp(2_001), 2_000));
        assert!(!heard.is_overdue(Timestamp(2 + KEPT_MS), 0));
        for number in 0..2 * NAMES {
            heard.number(&format!("{:x}.{number:016x}.1", number / 8));
        }
        assert_eq!(heard.numbers.len(), NAMES);
        for bad in ["", "m1", "1.2.3", "1.0000000000000002.x", "x.0000000000000002.1"] {
            assert_eq!(heard.number(bad), None, "{bad}");
        }
    }
}

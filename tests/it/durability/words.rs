//! The numbered lines that are said and looked for, and what must be true of them wherever they
//! are read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One line of a person: `bob=0017/1` is the first attempt of Bob at his 17th line. A sender that
/// cannot know whether a line was taken says it again as another attempt, so that what the sender
/// says twice is told from what somebody on the way says twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Word {
    pub number: usize,
    pub attempt: usize,
}

impl Word {
    /// As the person says it.
    pub fn said_by(self, person: &str) -> String {
        format!("{person}={:04}/{}", self.number, self.attempt)
    }

    /// What the person said, if this is a line of theirs: whatever a bridge put before it, such as
    /// a name or the time, does not matter.
    pub fn of(person: &str, text: &str) -> Option<Self> {
        let mut words = text.split([' ', '\t']);
        let word = words.find_map(|word| word.strip_prefix(person)?.strip_prefix('='))?;
        let (number, attempt) = word.split_once('/')?;
        Some(Self { number: number.parse().ok()?, attempt: attempt.parse().ok()? })
    }
}

/// What one reader got of one person's lines, session by session.
pub struct Reading {
    pub reader: &'static str,
    pub person: &'static str,
    pub sessions: Vec<Vec<Word>>,
}

/// What is not as it must be, in words.
pub struct Wrong(Vec<String>);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Reading {
    /// Takes a person's lines out of everything that a reader got.
    pub fn of(reader: &'static str, person: &'static str, sessions: &[Vec<String>]) -> Self {
        let words = |texts: &Vec<String>| texts.iter().filter_map(|text| Word::of(person, text)).collect();
        Self { reader, person, sessions: sessions.iter().map(words).collect() }
    }

    /// How many different lines have arrived.
    pub fn arrived(&self) -> usize {
        self.numbers().len()
    }

    /// Lines that came again within a session: the same attempt of the same line.
    pub fn doubles(&self) -> usize {
        let doubles = |session: &Vec<Word>| session.len() - session.iter().collect::<BTreeSet<_>>().len();
        self.sessions.iter().map(doubles).sum()
    }

    /// All of `1..=lines`, in order, none twice within a session.
    pub fn must_be_exact(&self, lines: usize) -> Result<(), Wrong> {
        let mut wrong = self.incomplete(lines);
        wrong.extend(self.disorder());
        wrong.extend(self.twice());
        self.verdict(wrong)
    }

    /// All of `1..=lines`, in order, as first read; some may have come again.
    pub fn must_be_complete(&self, lines: usize) -> Result<(), Wrong> {
        let mut wrong = self.incomplete(lines);
        wrong.extend(self.disorder());
        self.verdict(wrong)
    }

    /// In order and none twice, but not all: what was said while no bridge was there is not heard.
    pub fn must_be_sound(&self) -> Result<(), Wrong> {
        let mut wrong = self.disorder();
        wrong.extend(self.twice());
        self.verdict(wrong)
    }

    /// Every session without a gap, and in order as first read: what was said between the sessions
    /// of a reader that has no history is not read. Returns how many lines that were.
    pub fn must_be_gapless(&self, lines: usize) -> Result<usize, Wrong> {
        let mut wrong = self.disorder();
        for session in &self.sessions {
            let numbers: BTreeSet<usize> = session.iter().map(|word| word.number).collect();
            let (first, last) = (numbers.first().copied(), numbers.last().copied());
            if let (Some(first), Some(last)) = (first, last)
                && last - first + 1 != numbers.len()
            {
                let missing: Vec<_> = (first..last).filter(|number| !numbers.contains(number)).collect();
                wrong.push(format!("a session from {first} to {last} lacks {missing:?}"));
            }
        }
        let numbers = self.numbers();
        if numbers.first() != Some(&1) || numbers.last() != Some(&lines) {
            wrong.push(format!("{:?} to {:?} is not all", numbers.first(), numbers.last()));
        }
        self.verdict(wrong).map(|()| lines - self.arrived())
    }

    /// Lines that the sender itself said more than once and that were carried each time.
    pub fn repeated_by_sender(&self) -> usize {
        let words: BTreeSet<Word> = self.sessions.iter().flatten().copied().collect();
        words.len() - self.arrived()
    }

    pub fn numbers(&self) -> BTreeSet<usize> {
        self.sessions.iter().flatten().map(|word| word.number).collect()
    }

    fn incomplete(&self, lines: usize) -> Vec<String> {
        let numbers = self.numbers();
        let missing: Vec<usize> = (1..=lines).filter(|number| !numbers.contains(number)).collect();
        if missing.is_empty() { Vec::new() } else { vec![format!("lacks {missing:?}")] }
    }

    /// Where a line that was not read before comes after a later one.
    fn disorder(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut all = BTreeSet::new();
        for (index, session) in self.sessions.iter().enumerate() {
            let mut here = BTreeSet::new();
            for word in session {
                let late = |read: &BTreeSet<usize>| read.last().is_some_and(|last| word.number < *last);
                let new = (here.insert(word.number), all.insert(word.number));
                if (new.0 && late(&here)) || (new.1 && late(&all)) {
                    wrong.push(format!("session {index}: {} comes after a later one", word.number));
                }
            }
        }
        wrong
    }

    fn twice(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (index, session) in self.sessions.iter().enumerate() {
            let mut times: BTreeMap<Word, usize> = BTreeMap::new();
            session.iter().for_each(|word| *times.entry(*word).or_default() += 1);
            let twice: Vec<Word> = times.into_iter().filter(|(_, n)| *n > 1).map(|(word, _)| word).collect();
            if !twice.is_empty() {
                let words: Vec<String> = twice.iter().map(|word| word.said_by(self.person)).collect();
                wrong.push(format!("session {index}: more than once: {}", words.join(" ")));
            }
        }
        wrong
    }

    fn verdict(&self, wrong: Vec<String>) -> Result<(), Wrong> {
        if wrong.is_empty() {
            return Ok(());
        }
        let about = format!("{} reading {}", self.reader, self.person);
        Err(Wrong(wrong.into_iter().map(|wrong| format!("{about}: {wrong}")).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Reading, Word};

    fn reading(sessions: &[&[usize]]) -> Reading {
        let words = |numbers: &&[usize]| numbers.iter().map(|n| Word { number: *n, attempt: 1 }).collect();
        Reading { reader: "r", person: "p", sessions: sessions.iter().map(words).collect() }
    }

    #[test]
    fn words_are_found_behind_what_bridges_add() {
        let word = Word { number: 17, attempt: 2 };
        assert_eq!(Word::of("bob", &word.said_by("bob")), Some(word));
        assert_eq!(Word::of("bob", "<bob> [22:50:01] bob=0017/2"), Some(word));
        assert_eq!(Word::of("alice", "<alice> bob=0017/2"), None);
    }

    #[test]
    fn readings_are_judged() {
        assert!(reading(&[&[1, 2], &[2, 3]]).must_be_exact(3).is_ok());
        assert!(reading(&[&[1, 2, 2, 3]]).must_be_exact(3).is_err());
        assert!(reading(&[&[1, 2, 1, 2, 3]]).must_be_complete(3).is_ok());
        assert!(reading(&[&[1, 3, 2]]).must_be_complete(3).is_err());
        assert!(reading(&[&[1, 3], &[2]]).must_be_complete(3).is_err());
        assert!(reading(&[&[1, 3]]).must_be_complete(3).is_err());
        assert!(reading(&[&[1, 3]]).must_be_sound().is_ok());
        assert_eq!(reading(&[&[1, 2], &[4, 5]]).must_be_gapless(5).ok(), Some(1));
        assert!(reading(&[&[1, 3], &[4, 5]]).must_be_gapless(5).is_err());
        assert_eq!(reading(&[&[1, 2, 1]]).doubles(), 1);
    }
}

//! Sessions that hold one link, a small ircd, and chance: everything that is on its way takes its time, a
//! holder dies in the midst of it and comes back, and still each line is said once and in order, and each
//! line that people say is taken in once and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{link, setup};
use crate::base::{ChannelId, EventId, Identity, Timestamp, limits};
use crate::chat::intent::{Actor, Intent};
use crate::chat::message::{Content, Origin};
use crate::chat::view::{News, What};
use crate::irc::network::render::tests::news;
use crate::irc::network::session::{Output, Session, Setup};
use crate::irc::network::wire;
use crate::node::{Delivery, Outcome};

const NICKS: [&str; 2] = ["relay1", "relay2"];
/// The node that has no link, and everybody's members.
const HOME: usize = 2;
const MEMBERS: [&str; 2] = ["alice", "bert"];
const PEOPLE: [&str; 2] = ["carol", "dave"];
/// Few texts, so that many lines are alike.
const TEXTS: [&str; 3] = ["yes", "no", "one\ntwo"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

struct Happening {
    id: EventId,
    author: String,
    content: Content,
    /// What its maker had seen: it is nowhere before that.
    past: BTreeSet<usize>,
}

struct Row {
    id: u64,
    event: usize,
    under_way: bool,
}

/// A node that holds the link: what is durable, and its session while it lives.
#[derive(Default)]
struct Holder {
    session: Option<Session>,
    connection: usize,
    seen: BTreeSet<usize>,
    rows: VecDeque<Row>,
    last_row: u64,
    notes: BTreeMap<String, String>,
    origins: BTreeMap<String, usize>,
    is_frozen: bool,
}

impl Holder {
    fn lives(&self) -> bool {
        self.session.is_some() && !self.is_frozen
    }
}

struct Connection {
    nick: &'static str,
    is_joined: bool,
    /// From it to the ircd; `None` at its end.
    up: VecDeque<Option<String>>,
    down: VecDeque<String>,
}

struct Crowd {
    dice: Dice,
    now: Timestamp,
    events: Vec<Happening>,
    holders: Vec<Holder>,
    /// Events on the way from one node to another, in order.
    wire: BTreeMap<(usize, usize), VecDeque<usize>>,
    connections: Vec<Connection>,
    /// What relays said on the network, what people said there, and what home shows of it.
    said: Vec<String>,
    spoken: BTreeMap<&'static str, Vec<String>>,
    shown: Vec<(String, String, String)>,
    seen_at_home: BTreeSet<usize>,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: Timestamp(1_080_000),
            events: Vec::new(),
            holders: vec![Holder::default(), Holder::default()],
            wire: BTreeMap::new(),
            connections: Vec::new(),
            said: Vec::new(),
            spoken: BTreeMap::new(),
            shown: Vec::new(),
            seen_at_home: BTreeSet::new(),
        }
    }

    fn start(&mut self, number: usize) {
        let mut setup = Setup { failover_with: vec![NICKS[1 - number].into()], ..setup() };
        setup.credentials.nick = NICKS[number].into();
        let mut session = Session::new(setup);
        session.restore(self.holders[number].notes.clone());
        session.link(self.now, &link("#c"), ChannelId([7; 32]));
        for event in self.holders[number].seen.iter().filter(|event| self.origin(**event).is_some()) {
            session.recall(&self.news(*event));
        }
        session.connected(self.now);
        let (up, down) = (VecDeque::new(), VecDeque::new());
        self.connections.push(Connection { nick: NICKS[number], is_joined: false, up, down });
        let holder = &mut self.holders[number];
        holder.connection = self.connections.len() - 1;
        holder.rows.iter_mut().for_each(|row| row.under_way = false);
        holder.session = Some(session);
        self.dispatch(number);
    }

    /// What it has written goes on its way, or some of it does.
    fn kill(&mut self, number: usize) {
        self.holders[number].session = None;
        let up = &mut self.connections[self.holders[number].connection].up;
        let written = if up.is_empty() { 0 } else { self.dice.below(up.len() + 1) };
        up.truncate(written);
        up.push_back(None);
    }

    fn origin(&self, event: usize) -> Option<&Origin> {
        self.events[event].content.origin.as_ref()
    }

    fn news(&self, event: usize) -> News {
        let Happening { id, author, content, .. } = &self.events[event];
        let mut news = news(author, self.now.0, What::Message(content.clone()));
        (news.event, news.author.identity) = (*id, Identity([author.as_bytes()[0]; 32]));
        news
    }

    fn seen(&self, at: usize) -> &BTreeSet<usize> {
        self.holders.get(at).map_or(&self.seen_at_home, |holder| &holder.seen)
    }

    fn happens(&mut self, at: usize, author: &str, content: Content) -> usize {
        let number = self.events.len();
        let id = EventId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let past = self.seen(at).clone();
        self.events.push(Happening { id, author: author.to_owned(), content, past });
        if at == HOME {
            self.seen_at_home.insert(number);
        }
        for to in (0..=HOME).filter(|to| *to != at) {
            self.wire.entry((at, to)).or_default().push_back(number);
        }
        number
    }

    fn member_speaks(&mut self) {
        let (member, text) = (MEMBERS[self.dice.below(2)], TEXTS[self.dice.below(3)]);
        self.happens(HOME, member, Content::text(text));
    }

    fn person_speaks(&mut self) {
        let (person, text) = (PEOPLE[self.dice.below(2)], TEXTS[self.dice.below(2)]);
        self.spoken.entry(person).or_default().push(text.to_owned());
        self.broadcast(None, &format!(":{person}!u@h PRIVMSG #c :{text}"));
    }

    /// The ircd tells everybody in the channel but one.
    fn broadcast(&mut self, but: Option<usize>, line: &str) {
        for (number, connection) in self.connections.iter_mut().enumerate() {
            if connection.is_joined && Some(number) != but {
                connection.down.push_back(line.to_owned());
            }
        }
    }

    /// The ircd takes one line of a connection.
    fn serve(&mut self, number: usize) {
        let nick = self.connections[number].nick;
        let Some(Some(line)) = self.connections[number].up.pop_front() else {
            self.broadcast(Some(number), &format!(":{nick}!u@h QUIT :gone"));
            self.connections[number].is_joined = false;
            return;
        };
        let (command, rest) = line.trim_end().split_once(' ').unwrap_or((&line, ""));
        let (target, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let text = text.strip_prefix(':').unwrap_or(text);
        let mut answers = Vec::new();
        match (command, target) {
            ("CAP", "LS") => answers.push("CAP * LS :".to_owned()),
            ("CAP", _) => {
                answers.extend([format!(":srv 001 {nick} :hi"), format!(":srv 422 {nick} :none")]);
            }
            ("JOIN", _) => {
                self.connections[number].is_joined = true;
                self.broadcast(None, &format!(":{nick}!u@h JOIN #c"));
                let joined = self.connections.iter().filter(|connection| connection.is_joined);
                let names: Vec<&str> = joined.map(|connection| connection.nick).collect();
                answers.push(format!(":srv 353 {nick} = #c :{} carol dave", names.join(" ")));
                answers.push(format!(":srv 366 {nick} #c :End"));
            }
            ("PING", token) => answers.push(format!(":srv PONG srv {token}")),
            ("PRIVMSG", "#c") => {
                self.said.push(text.replace('\u{200b}', ""));
                self.broadcast(Some(number), &format!(":{nick}!u@h PRIVMSG #c :{text}"));
            }
            ("NOTICE", to) => {
                let found = self.connections.iter_mut().find(|c| c.is_joined && c.nick == to);
                if let Some(connection) = found {
                    connection.down.push_back(format!(":{nick}!u@h NOTICE {to} :{text}"));
                }
            }
            ("NICK" | "USER" | "MODE", _) => {}
            _ => panic!("{line}"),
        }
        self.connections[number].down.extend(answers);
    }

    /// A holder reads one line.
    fn read(&mut self, number: usize) {
        let now = self.now;
        let Holder { session: Some(session), connection, .. } = &mut self.holders[number] else { return };
        if let Some(line) = self.connections[*connection].down.pop_front() {
            session.receive(now, wire::with_modes(line.parse().unwrap(), &line));
        }
        self.work(number);
    }

    /// An event arrives, after what whoever sends it knows that came before it.
    fn arrive(&mut self, from: usize, to: usize) {
        let Some(event) = self.wire.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let lacking: Vec<usize> = self.events[event].past.difference(self.seen(to)).copied().collect();
        lacking.into_iter().chain([event]).for_each(|event| self.accept(event, to));
    }

    fn accept(&mut self, event: usize, to: usize) {
        let content = &self.events[event].content;
        let id = content.origin.as_ref().map(|origin| origin.external_id.clone());
        if to == HOME {
            if !self.seen_at_home.insert(event) {
                return;
            }
            let line = (self.events[event].author.clone(), content.body.clone(), id.unwrap());
            if !self.shown.contains(&line) {
                self.shown.push(line);
            }
            return;
        }
        let (news, now) = (self.news(event), self.now);
        let holder = &mut self.holders[to];
        if !holder.seen.insert(event) {
            return;
        }
        match id {
            Some(id) => {
                let is_new = !holder.origins.contains_key(&id);
                holder.origins.entry(id).or_insert(event);
                if let (true, Some(session)) = (is_new, &mut holder.session) {
                    session.deliver(now, Delivery { id: 0, link: Some(link("#c")), uncertain: false, news });
                }
            }
            None => {
                holder.last_row += 1;
                holder.rows.push_back(Row { id: holder.last_row, event, under_way: false });
            }
        }
        self.dispatch(to);
    }

    /// Hands rows to the session.
    fn dispatch(&mut self, number: usize) {
        for place in 0..self.holders[number].rows.len().min(limits::DELIVERY_WINDOW) {
            let Some(Row { id, event, under_way: false }) = self.holders[number].rows.get(place) else {
                continue;
            };
            let (id, news, now) = (*id, self.news(*event), self.now);
            let holder = &mut self.holders[number];
            let Some(session) = &mut holder.session else { return };
            holder.rows[place].under_way = true;
            session.deliver(now, Delivery { id, link: Some(link("#c")), uncertain: false, news });
        }
        self.work(number);
    }

    /// Does what came out of a session.
    fn work(&mut self, number: usize) {
        let now = self.now;
        let mut reported = false;
        while let Some(session) = &mut self.holders[number].session {
            let outputs = session.take_outputs();
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                reported |= matches!(output, Output::Report { .. });
                match output {
                    Output::Send(message) => {
                        let connection = self.holders[number].connection;
                        let line = message.to_string().trim_end().to_owned();
                        self.connections[connection].up.push_back(Some(line));
                    }
                    Output::Submit { submission, token } => {
                        let event = match submission.intent {
                            Intent::SendMessage { content, .. } => {
                                let Actor::Person { profile, .. } = submission.actor else { panic!() };
                                Some(self.take_in(number, &profile.username, content))
                            }
                            _ => None,
                        };
                        let event = event.map(|event| self.events[event].id);
                        let Some(session) = &mut self.holders[number].session else { return };
                        session.answered(now, token, Ok(event));
                    }
                    Output::Remember { key, value } => {
                        self.holders[number].notes.insert(key, value);
                    }
                    Output::Report { delivery, outcome: Outcome::Delivered { .. } } => {
                        self.holders[number].rows.retain(|row| row.id != delivery);
                    }
                    Output::Ask { marks, token, .. } => {
                        let settled: Vec<bool> =
                            marks.iter().map(|mark| self.is_settled(number, *mark)).collect();
                        let Some(session) = &mut self.holders[number].session else { return };
                        session.settled(now, token, &settled);
                    }
                    Output::Inform(_) => {}
                    Output::Warn(text) if text.contains("does not answer") => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        if reported {
            self.dispatch(number);
        }
    }

    fn take_in(&mut self, number: usize, author: &str, content: Content) -> usize {
        let id = content.origin.as_ref().unwrap().external_id.clone();
        if let Some(event) = self.holders[number].origins.get(&id) {
            return *event;
        }
        let event = self.happens(number, author, content);
        let holder = &mut self.holders[number];
        holder.origins.insert(id, event);
        holder.seen.insert(event);
        event
    }

    fn is_settled(&self, number: usize, mark: u64) -> bool {
        let holder = &self.holders[number];
        let is_it = |event: &&usize| self.events[**event].id.0[..8] == mark.to_be_bytes();
        let event = holder.seen.iter().find(is_it);
        event.is_some_and(|event| holder.rows.iter().all(|row| row.event != *event))
    }

    /// One thing of chance; `false` where that had nothing to do.
    fn step(&mut self) -> bool {
        match self.dice.below(10) {
            0..=2 => {
                let number = self.dice.below(2);
                let connection = self.holders[number].connection;
                let works = self.connections.get(connection).is_some_and(|c| !c.down.is_empty());
                let works = works && !self.holders[number].is_frozen;
                if works {
                    self.read(number);
                }
                works
            }
            3..=5 => {
                let number = self.dice.below(self.connections.len());
                let works = !self.connections[number].up.is_empty();
                if works {
                    self.serve(number);
                }
                works
            }
            6..=8 => {
                let (from, to) = (self.dice.below(3), self.dice.below(3));
                let lives = |at: usize| at == HOME || self.holders[at].lives();
                let works = lives(from) && lives(to);
                let works = works && self.wire.get(&(from, to)).is_some_and(|queue| !queue.is_empty());
                if works {
                    self.arrive(from, to);
                }
                works
            }
            _ => {
                self.now = self.now.plus_ms(10);
                for number in 0..self.holders.len() {
                    if self.holders[number].is_frozen {
                        continue;
                    }
                    if let Some(session) = &mut self.holders[number].session {
                        session.tick(self.now);
                    }
                    self.work(number);
                }
                false
            }
        }
    }

    /// Everybody talks for a while.
    fn talk(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.dice.below(40) {
                0 => self.member_speaks(),
                1 => self.person_speaks(),
                _ => {
                    self.step();
                }
            }
        }
    }

    /// Until nothing more happens and nothing waits.
    fn settle(&mut self) {
        let (mut idle, mut all) = (0, 0);
        while idle < 2_500 || self.waits() {
            idle = if self.step() { 0 } else { idle + 1 };
            all += 1;
            assert!(all < 200_000, "it never comes to rest: {} rows", self.holders[0].rows.len());
        }
    }

    fn waits(&self) -> bool {
        self.holders.iter().any(|holder| holder.lives() && !holder.rows.is_empty())
    }

    fn check(&self, seed: u64) {
        for member in MEMBERS {
            let own = self.events.iter().filter(|event| event.author == member);
            let lines = own.flat_map(|event| event.content.body.split('\n'));
            let expect: Vec<String> = lines.map(|line| format!("<{member}> {line}")).collect();
            let lead = format!("<{member}> ");
            let said: Vec<&String> = self.said.iter().filter(|line| line.starts_with(&lead)).collect();
            let said: Vec<String> = said.into_iter().cloned().collect();
            assert_eq!(said, expect, "seed {seed}: what {member} said");
        }
        for person in PEOPLE {
            let shown = self.shown.iter().filter(|(author, ..)| author == person);
            let shown: Vec<String> = shown.map(|(_, body, _)| body.clone()).collect();
            let expect = self.spoken.get(person).cloned().unwrap_or_default();
            assert_eq!(shown, expect, "seed {seed}: what {person} said");
        }
    }
}

/// As many seeds as `MULTICHAT_SEEDS` says.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("MULTICHAT_SEEDS").ok().and_then(|wanted| wanted.parse().ok());
    0..wanted.unwrap_or(usual)
}

#[test]
fn whoever_hangs_nothing_is_lost_or_doubled() {
    for seed in seeds(20) {
        let mut crowd = Crowd::new(seed);
        crowd.start(0);
        crowd.settle();
        crowd.start(1);
        crowd.settle();
        for victim in [0, 1] {
            let steps = 200 + crowd.dice.below(400);
            crowd.talk(steps);
            crowd.holders[victim].is_frozen = true;
            let end = crowd.now.plus_ms(8_000 + crowd.dice.below(4_000) as u64);
            while crowd.now < end {
                crowd.talk(50);
                for _ in 0..500 {
                    crowd.step();
                }
            }
            crowd.holders[victim].is_frozen = false;
            crowd.talk(300);
            crowd.settle();
        }
        crowd.check(seed);
    }
}

#[test]
fn whoever_dies_nothing_is_lost_or_doubled() {
    for seed in seeds(60) {
        let mut crowd = Crowd::new(seed);
        crowd.start(0);
        crowd.settle();
        crowd.start(1);
        crowd.settle();
        for _ in 0..3 {
            let steps = 200 + crowd.dice.below(400);
            crowd.talk(steps);
            let victim = crowd.dice.below(2);
            crowd.kill(victim);
            let steps = 100 + crowd.dice.below(600);
            crowd.talk(steps);
            crowd.start(victim);
            crowd.talk(300);
            crowd.settle();
        }
        crowd.check(seed);
    }
}

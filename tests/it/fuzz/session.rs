//! Clients' bytes as whole sessions, over a true node: whatever some clients send, however their lines, the
//! node's answers and time come between each other, lines are well formed and so many and no more, nobody
//! gets one who is gone, who is not registered is kept nothing of and moves nobody else, and a hub made anew
//! from what was kept serves on. The same bytes give the same lines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use multichat::base::config::Guests;
use multichat::base::key::SecretKey;
use multichat::base::{Kind, Timestamp};
use multichat::chat::view::{News, What};
use multichat::irc::proto::accounts::Verifier;
use multichat::irc::proto::hub::{Done, Effect, Hub, Settings, Work};
use multichat::irc::proto::line::Lines;
use multichat::irc::proto::session::Peer;
use multichat::node::{Door, Input, Node, Output, Restored, Setup};
use multichat::port::{HistoryQuery, Range};

/// Clients at a time.
const CLIENTS: u64 = 4;
/// Lines that one thing that happens brings, at most: a few channels as somebody new sees them, pages of
/// history, lists of everything there is.
const LINES: usize = 2_000;
/// Bytes of all tags of a line.
const TAG_BYTES: usize = 8_191;
/// Wishes that wait for the node until it is asked.
const WAITING: usize = 64;

struct World {
    hub: Hub,
    node: Node,
    settings: Settings,
    now: u64,
    notes: BTreeMap<String, Vec<u8>>,
    log: Vec<News>,
    waiting: VecDeque<Effect>,
    sources: BTreeMap<u64, Lines>,
    /// Those who were greeted.
    greeted: BTreeSet<u64>,
    /// Every line, in order.
    got: Vec<(u64, String)>,
}

impl World {
    fn new(kind: u8) -> Self {
        let guests = if kind & 1 == 0 { Guests::Stay } else { Guests::Leave };
        let settings = Settings {
            server: "fuzz.local".into(),
            network: "Fuzz".into(),
            description: "a node".into(),
            password: (kind & 14 == 14).then(|| "sesame".to_owned()),
            started: Timestamp(1_000_000),
            tags_from: 1_000,
            seed: [7; 32],
            guests,
            registration: kind & 16 == 0,
            before_connect: kind & 32 == 32,
            email: kind & 48 == 32,
            always_on: kind & 64 == 64,
            opers: vec![("root".into(), "toor".into())],
            motd: vec!["Be kind.".into()],
            sts: (kind & 128 == 128).then_some((6697, 60)),
            cloak: kind & 4 == 4,
        };
        let setup = Setup {
            secret: SecretKey::from_seed([3; 32]),
            name: "fuzz".into(),
            matrix_server: String::new(),
            generation: 0,
        };
        let mut node = Node::restore(setup, Restored::default(), std::iter::empty()).expect("an empty log");
        node.handle(Timestamp(1_000_000), Input::DoorOpened(Door::Listener));
        Self {
            hub: Hub::new(settings.clone(), Vec::new(), Vec::new()),
            node,
            settings,
            now: 1_000_000,
            notes: BTreeMap::new(),
            log: Vec::new(),
            waiting: VecDeque::new(),
            sources: BTreeMap::new(),
            greeted: BTreeSet::new(),
            got: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    fn connect(&mut self, client: u64) {
        if self.sources.contains_key(&client) {
            return;
        }
        self.sources.insert(client, Lines::default());
        let peer = Peer { host: format!("192.0.2.{client}"), ..Peer::default() };
        let effects = self.hub.connected(self.now(), client, peer);
        self.act(effects);
    }

    fn drop_client(&mut self, client: u64) {
        if self.sources.remove(&client).is_some() {
            self.greeted.remove(&client);
            let effects = self.hub.disconnected(self.now(), client, "gone");
            self.act(effects);
        }
    }

    fn feed(&mut self, client: u64, bytes: &[u8]) {
        self.connect(client);
        if let Some(lines) = self.sources.get_mut(&client) {
            lines.feed(bytes);
        }
        while let Some(input) = self.sources.get_mut(&client).and_then(Lines::take) {
            let was_greeted = self.greeted.contains(&client);
            let effects = self.hub.input(self.now(), client, input);
            if !was_greeted {
                self.check_of_stranger(client, &effects);
            }
            self.act(effects);
        }
    }

    /// What comes of a line of somebody unregistered concerns them alone, and is kept nowhere.
    fn check_of_stranger(&self, client: u64, effects: &[Effect]) {
        let is_greeting = |line: &str| line.contains(" 001 ");
        let registers =
            effects.iter().any(|effect| matches!(effect, Effect::Send { line, .. } if is_greeting(line)));
        if registers {
            return;
        }
        for effect in effects {
            match effect {
                Effect::Send { client: to, .. }
                | Effect::Close { client: to }
                | Effect::Pause { client: to }
                | Effect::Resume { client: to }
                | Effect::Drain { client: to } => assert_eq!(*to, client, "{effect:?}"),
                Effect::Compute { .. } => {}
                _ => panic!("of somebody unregistered came {effect:?}"),
            }
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms;
        let effects = self.hub.tick(self.now());
        self.act(effects);
    }

    fn act(&mut self, effects: Vec<Effect>) {
        let lines = effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count();
        assert!(lines <= LINES, "{lines} lines at once");
        for effect in effects {
            match effect {
                Effect::Send { client, line } => self.send(client, &line),
                Effect::Close { client } => {
                    self.sources.remove(&client);
                    self.greeted.remove(&client);
                }
                Effect::Remember { key, value } => self.remember(key, value),
                Effect::Pause { .. } | Effect::Resume { .. } => {}
                wish => self.waiting.push_back(wish),
            }
        }
        if self.waiting.len() > WAITING {
            self.answer();
        }
    }

    fn send(&mut self, client: u64, line: &str) {
        assert!(self.sources.contains_key(&client), "{client} is gone and gets {line:?}");
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        let (tags, rest) = match line.strip_prefix('@') {
            Some(tagged) => tagged.split_once(' ').expect("more than tags"),
            None => ("", line),
        };
        assert!(rest.len() <= 510 && tags.len() <= TAG_BYTES, "{} and {} bytes", rest.len(), tags.len());
        if rest.split(' ').nth(1) == Some("001") {
            self.greeted.insert(client);
        }
        self.got.push((client, line.to_owned()));
    }

    fn remember(&mut self, key: String, value: Vec<u8>) {
        match value.is_empty() {
            true => self.notes.remove(&key),
            false => self.notes.insert(key, value),
        };
    }

    /// All that waits for the node and for the shell gets its answer, in order.
    fn answer(&mut self) {
        while let Some(wish) = self.waiting.pop_front() {
            self.now += 1;
            let now = self.now();
            let effects = match wish {
                Effect::Submit(submission) => {
                    let input = Input::Submit { ticket: submission.tag, submission, known: None };
                    self.decide(input);
                    continue;
                }
                Effect::History { query, what } => self.hub.history(now, query, self.page(&what)),
                Effect::Keep { job, key, value } => {
                    self.remember(key, value);
                    self.hub.done(now, job, Done::Kept)
                }
                // Here a hash is the password itself.
                Effect::Compute { job, work: Work::Hash { password } } => {
                    let scram = Verifier { salt: b"salt".to_vec(), iterations: 1, ..Verifier::default() };
                    self.hub.done(now, job, Done::Hashed { hash: password, scram })
                }
                Effect::Compute { job, work: Work::Verify { password, hash } } => {
                    self.hub.done(now, job, Done::Verified(!hash.is_empty() && password == hash))
                }
                Effect::Reload { job } => self.hub.done(now, job, Done::Reloaded(Ok(()))),
                Effect::Drain { client } if self.sources.contains_key(&client) => {
                    self.hub.drained(now, client)
                }
                _ => continue,
            };
            self.act(effects);
        }
    }

    /// The node tells its news before it answers.
    fn decide(&mut self, input: Input) {
        for output in self.node.handle(self.now(), input) {
            let effects = match output {
                Output::Deliver { door: Door::Listener, delivery } => {
                    self.log.push(delivery.news.clone());
                    self.hub.news(self.now(), delivery.news)
                }
                Output::Reply { ticket, result } => {
                    // A refusal that is a bug of ours is what nobody may bring about.
                    let is_bug = result.as_ref().is_err_and(|refusal| refusal.kind() == Kind::Bug);
                    assert!(!is_bug, "{result:?}");
                    self.hub.answered(self.now(), ticket, result)
                }
                _ => continue,
            };
            self.act(effects);
        }
    }

    /// A page of history; which one matters little here.
    fn page(&self, query: &HistoryQuery) -> Vec<News> {
        let of = self.log.iter().filter(|news| news.channel == query.channel);
        match query.range {
            Range::After(position) => {
                of.filter(|news| news.position > position).take(query.limit).cloned().collect()
            }
            _ => {
                let messages = of.filter(|news| matches!(news.what, What::Message(_)));
                let mut page: Vec<News> = messages.rev().take(query.limit).cloned().collect();
                page.reverse();
                page
            }
        }
    }

    /// Everybody is gone and the hub begins anew.
    fn restart(&mut self) {
        for client in 1..=CLIENTS {
            self.drop_client(client);
        }
        self.answer();
        self.tick(60_000);
        assert_eq!(self.hub.clients(), 0);
        let notes = self.notes.clone().into_iter().collect();
        self.hub = Hub::new(self.settings.clone(), self.node.channels(), notes);
        self.tick(1);
        self.answer();
    }
}

/// Reads the input as steps: what to do, how many bytes it takes, those bytes.
fn played(data: &[u8]) -> Vec<(u64, String)> {
    let Some((kind, mut rest)) = data.split_first() else { return Vec::new() };
    let mut world = World::new(*kind);
    while let Some(([what, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let client = u64::from(what >> 3) % CLIENTS + 1;
        match what % 8 {
            0 => world.drop_client(client),
            1 => world.tick(u64::from(what >> 3) * 2_000),
            2 if what >> 3 == 31 => world.restart(),
            _ => world.feed(client, bytes),
        }
        // Else the answers come later.
        if what & 128 == 0 {
            world.answer();
        }
    }
    world.restart();
    // From elsewhere: an operator may have banned the others.
    let before = world.got.len();
    world.sources.insert(9, Lines::default());
    let peer = Peer { host: "2001:db8::9".into(), ..Peer::default() };
    let effects = world.hub.connected(world.now(), 9, peer);
    world.act(effects);
    world.feed(9, b"PASS sesame\r\nNICK zzlast\r\nUSER zzlast 0 * :x\r\n");
    world.answer();
    let is_answered = world.got[before..].iter().any(|(client, _)| *client == 9);
    assert!(is_answered, "whoever comes then is answered");
    world.got
}

pub fn run(data: &[u8]) {
    let got = played(data);
    assert_eq!(got, played(data), "the same bytes give the same lines");
}

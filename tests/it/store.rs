//! The store on a real disk: killed at random moments, and compared with a model that keeps
//! everything in plain maps.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use multichat::base::{ChannelId, Digest, EventId, Identity, Timestamp};
use multichat::chat::message::{Content, Link};
use multichat::chat::profile::Profile;
use multichat::machine::Transaction;
use multichat::machine::intent::{Constraints, Intent};
use multichat::node::{Batch, Door, Keeping, OutboxRow, StoredEvent, Write};
use multichat::replica::Offer;
use multichat::store::{Store, StoreError, Window};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

/// Set for the child process of the kill test: the path of its store.
const VICTIM: &str = "MULTICHAT_TEST_STORE_VICTIM";

fn event(position: u64, channel: u8, visible: bool) -> StoredEvent {
    StoredEvent {
        position,
        channel: ChannelId([channel; 32]),
        id: EventId(*blake3::hash(&position.to_be_bytes()).as_bytes()),
        signed: position.to_be_bytes().repeat(30),
        payload: Some(Content::text(format!("what was said at {position}")).payload()),
        visible,
        keeping: Keeping {
            said_at: Timestamp(position / 2),
            expires: position.is_multiple_of(3).then_some(Timestamp(position + 2)),
            searchable: !position.is_multiple_of(5),
            wanted: false,
        },
    }
}

fn offer(until: u64) -> Offer {
    let constraints = Constraints::until(Timestamp(until));
    let intent = Intent { author: Identity([9; 32]), constraints, transaction: Transaction::default() };
    Offer { channel: ChannelId([1; 32]), intent }
}

fn room() -> Link {
    Link::Matrix { room: "!room:example.org".into() }
}

/// A directory that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("multichat-it-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store.db")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---- killed at random moments ----

/// How many events batch `number` has: enough to spread over several pages now and then.
fn batch_size(number: u64) -> u64 {
    1 + u64::from(blake3::hash(&number.to_be_bytes()).as_bytes()[0]) % 40
}

/// Batch `number`, whose events begin at `first`. Every batch touches every table it can.
fn numbered_batch(number: u64, first: u64) -> Batch {
    let mut writes = Vec::new();
    for position in first..first + batch_size(number) {
        let event = event(position, (position % 5) as u8, true);
        let external_id = format!("${position}");
        writes.push(Write::Outbox { id: position, link: room(), position });
        writes.push(Write::Seen { link: room(), external_id, event: event.id });
        writes.push(Write::Event(event));
        // All but the ten newest deliveries are done.
        if position > 10 {
            writes.push(Write::OutboxDone { id: position - 10 });
        }
    }
    writes.push(Write::Note {
        door: Door::Matrix,
        key: "batch".into(),
        value: number.to_be_bytes().to_vec(),
    });
    Batch(writes)
}

/// The number of the newest batch in the store; 0 in a fresh one.
fn newest_batch(store: &Store) -> u64 {
    let notes = store.notes(&Door::Matrix).unwrap();
    notes.first().map_or(0, |(_, value)| u64::from_be_bytes(value.as_slice().try_into().unwrap()))
}

/// Not a test: what the child process of [`acknowledged_rows_survive_sigkill`] runs. Commits groups
/// of batches for ever and says the number of the newest after each.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn commits_until_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let mut store = Store::open(Path::new(&path)).unwrap();
    let mut number = newest_batch(&store);
    let mut position = store.last_position().unwrap();
    loop {
        let mut group = Vec::new();
        for _ in 0..1 + number % 4 {
            number += 1;
            group.push(numbered_batch(number, position + 1));
            position += batch_size(number);
        }
        store.commit(&group).unwrap();
        // Fails when the reader is gone, and so ends this process too.
        println!("acknowledged {number}");
    }
}

/// The process that is killed; also when the test fails before.
struct Victim {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Victim {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "store::commits_until_killed", "--nocapture"])
            .env(VICTIM, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next number it acknowledged; `None` once there is nothing more to read. A line that was
    /// cut short does not count.
    fn acknowledged(&mut self) -> Option<u64> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some((_, number)) = line.split_once("acknowledged ")
                && number.ends_with('\n')
            {
                return Some(number.trim().parse().unwrap());
            }
            line.clear();
        }
        None
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn acknowledged_rows_survive_sigkill() {
    let directory = Directory::new();
    let path = directory.store();
    let mut total = 0;
    for round in 0..12u64 {
        let mut victim = Victim::start(&path);
        let random =
            *blake3::hash(&[std::process::id().to_be_bytes(), (round as u32).to_be_bytes()].concat())
                .as_bytes();
        let before = total;
        // Round 0 is killed about while it makes the file, the others after some commits.
        for _ in 0..round.min(1) * (1 + u64::from(random[0]) % 40) {
            total = victim.acknowledged().expect("it goes on until it is killed");
        }
        if round == 0 {
            std::thread::sleep(Duration::from_millis(u64::from(random[0]) % 32));
        }
        std::thread::sleep(Duration::from_micros(u64::from(random[1]) * 30));
        victim.child.kill().unwrap();
        victim.child.wait().unwrap();
        while let Some(number) = victim.acknowledged() {
            total = number;
        }
        assert!(total > before || round == 0, "round {round} committed something");
        total = check_survivor(&path, total);
    }
    Store::open(&path).unwrap().verify().unwrap();
}

/// Every acknowledged batch is there, and what is there consists of whole batches. Returns the
/// number of the newest.
fn check_survivor(path: &Path, acknowledged: u64) -> u64 {
    let store = Store::open(path).unwrap();
    let newest = newest_batch(&store);
    assert!(newest >= acknowledged, "batch {acknowledged} was acknowledged, the newest is {newest}");
    let expected: u64 = (1..=newest).map(batch_size).sum();
    assert_eq!(store.last_position().unwrap(), expected, "batch {newest} is whole");
    for (found, position) in store.events_from(1, usize::MAX).unwrap().into_iter().zip(1..) {
        assert_eq!(found, event(position, (position % 5) as u8, true));
        assert_eq!(store.seen(&room(), &format!("${position}")).unwrap(), Some(found.id));
    }
    assert_eq!(store.seen(&room(), &format!("${}", expected + 1)).unwrap(), None);
    let waiting: Vec<u64> = store.outbox().unwrap().iter().map(|row| row.id).collect();
    assert_eq!(waiting, (expected.saturating_sub(10) + 1..=expected).collect::<Vec<_>>());
    newest
}

#[test]
fn another_process_is_refused_while_one_has_the_file() {
    let directory = Directory::new();
    let mut victim = Victim::start(&directory.store());
    victim.acknowledged().expect("it has the file open");
    let error = Store::open(&directory.store()).err();
    assert_eq!(error, Some(StoreError::Locked(directory.store())));
    drop(victim);
    assert!(Store::open(&directory.store()).unwrap().last_position().unwrap() > 0);
}

// ---- against a model ----

/// What the store should hold, kept in the most obvious way.
#[derive(Default)]
struct Model {
    log: Vec<StoredEvent>,
    outbox: BTreeMap<u64, OutboxRow>,
    seen: Vec<(Link, String, EventId)>,
    links: BTreeMap<Link, (ChannelId, u64)>,
    names: BTreeMap<ChannelId, String>,
    persons: BTreeMap<String, (Identity, Profile)>,
    notes: BTreeMap<(Door, String), Vec<u8>>,
    intents: BTreeMap<Digest, Offer>,
}

impl Model {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Event(event) => {
                let index = event.position as usize - 1;
                match self.log.get_mut(index) {
                    Some(slot) => *slot = event,
                    None => self.log.push(event),
                }
            }
            Write::Shown { position } => {
                if let Some(event) = self.log.get_mut(position as usize - 1) {
                    event.visible = true;
                }
            }
            Write::Outbox { id, link, position } => {
                let fresh =
                    OutboxRow { id, link, position, attempts: 0, next_at: Timestamp(0), uncertain: false };
                self.outbox.entry(id).or_insert(fresh);
            }
            Write::OutboxTried { id, attempts, next_at, uncertain } => {
                if let Some(row) = self.outbox.get_mut(&id) {
                    (row.attempts, row.next_at, row.uncertain) = (attempts, next_at, uncertain);
                }
            }
            Write::OutboxDone { id } => drop(self.outbox.remove(&id)),
            Write::Seen { link, external_id, event } => {
                match self.seen.iter_mut().find(|(l, id, _)| (l, id) == (&link, &external_id)) {
                    Some(row) => row.2 = event,
                    None => self.seen.push((link, external_id, event)),
                }
            }
            Write::Link { link, channel, since } => drop(self.links.insert(link, (channel, since))),
            Write::Unlink { link } => drop(self.links.remove(&link)),
            Write::Name { channel, name } => drop(self.names.insert(channel, name)),
            Write::Person { account, identity, profile } => {
                self.persons.insert(account, (identity, profile));
            }
            Write::Note { door, key, value } if value.is_empty() => {
                self.notes.remove(&(door, key));
            }
            Write::Note { door, key, value } => drop(self.notes.insert((door, key), value)),
            Write::Intent(offer) => drop(self.intents.insert(offer.intent.id(), offer)),
            Write::IntentGone { id } => drop(self.intents.remove(&id)),
            Write::Erase { .. } | Write::EraseExpired { .. } | Write::EraseSaid { .. } => {
                self.log.iter_mut().filter(|event| write.erases(event)).for_each(StoredEvent::erase);
            }
        }
    }

    fn history(&self, channel: ChannelId, window: Window, limit: usize) -> Vec<StoredEvent> {
        let of_channel = self.log.iter().filter(|event| event.channel == channel && event.visible);
        let newest = |before: u64| {
            let all: Vec<_> = of_channel.clone().filter(|event| event.position < before).cloned().collect();
            all[all.len().saturating_sub(limit)..].to_vec()
        };
        match window {
            Window::Latest => newest(u64::MAX),
            Window::Before(position) => newest(position),
            Window::After(position) => {
                of_channel.filter(|event| event.position > position).take(limit).cloned().collect()
            }
        }
    }

    fn check(&self, store: &Store) {
        assert_eq!(store.events_from(1, usize::MAX).unwrap(), self.log);
        assert_eq!(store.last_position().unwrap(), self.log.len() as u64);
        assert_eq!(store.outbox().unwrap(), self.outbox.values().cloned().collect::<Vec<_>>());
        for event in &self.log {
            assert_eq!(store.position_of(&event.id).unwrap(), Some(event.position));
        }
        self.check_history(store);
        for link in links() {
            for number in 0..4 {
                let id = external_id(number);
                let event = self.seen.iter().find(|row| row.0 == link && row.1 == id).map(|row| row.2);
                assert_eq!(store.seen(&link, &id).unwrap(), event);
                let event = seen_event(number);
                let id = self.seen.iter().find(|row| row.0 == link && row.2 == event).map(|row| &row.1);
                assert_eq!(store.external_id(&link, &event).unwrap().as_ref(), id);
            }
        }
        let carried = self.links.iter().map(|(link, (channel, since))| (link.clone(), *channel, *since));
        assert_eq!(store.links().unwrap(), carried.collect::<Vec<_>>());
        assert_eq!(store.names().unwrap(), self.names.clone().into_iter().collect::<Vec<_>>());
        let persons =
            self.persons.iter().map(|(account, (id, profile))| (account.clone(), *id, profile.clone()));
        assert_eq!(store.persons().unwrap(), persons.collect::<Vec<_>>());
        assert_eq!(store.intents().unwrap(), self.intents.values().cloned().collect::<Vec<_>>());
        for door in doors() {
            let notes = self.notes.iter().filter(|((of, _), _)| *of == door);
            let notes: Vec<_> = notes.map(|((_, key), value)| (key.clone(), value.clone())).collect();
            assert_eq!(store.notes(&door).unwrap(), notes);
        }
    }

    fn check_history(&self, store: &Store) {
        for channel in (0..4).map(|number| ChannelId([number; 32])) {
            let mut windows = vec![Window::Latest];
            for position in (0..self.log.len() as u64 + 2).step_by(3) {
                windows.extend([Window::Before(position), Window::After(position)]);
            }
            for window in windows {
                for limit in [0, 1, 3, usize::MAX] {
                    let expected = self.history(channel, window, limit);
                    assert_eq!(
                        store.history(&channel, window, limit).unwrap(),
                        expected,
                        "{window:?} {limit}"
                    );
                }
            }
        }
    }
}

fn links() -> [Link; 3] {
    let irc = Link::Irc { network: "irc.example.org:6697".into(), channel: "#a".into() };
    [room(), Link::Matrix { room: "!other:example.org".into() }, irc]
}

fn doors() -> [Door; 4] {
    [Door::Control, Door::Matrix, Door::Network("a".into()), Door::Network("b".into())]
}

fn external_id(number: u8) -> String {
    format!("$external {number}")
}

fn seen_event(number: u8) -> EventId {
    // Alike in the first eight bytes, so that the index alone does not tell them apart.
    let mut id = [7; 32];
    id[31] = number;
    EventId(id)
}

/// One random write out of a small world, so that writes meet. Events get their position later.
fn any_write() -> impl Strategy<Value = Write> {
    let small = 0..4u8;
    let link = || (0..3usize).prop_map(|index| links()[index].clone());
    let channel = || (0..4u8).prop_map(|number| ChannelId([number; 32]));
    let row: Range<u64> = 1..12;
    prop_oneof![
        6 => (small.clone(), any::<bool>(), any::<bool>(), 0..40u64).prop_map(|(channel, visible, kept, back)| {
            let mut event = event(back, channel, visible);
            event.payload = event.payload.filter(|_| kept);
            Write::Event(event)
        }),
        3 => (row.clone(), link(), 1..9u64).prop_map(|(id, link, position)| Write::Outbox { id, link, position }),
        2 => (row.clone(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(|(id, attempts, at, uncertain)| {
            Write::OutboxTried { id, attempts, next_at: Timestamp(at), uncertain }
        }),
        1 => row.prop_map(|id| Write::OutboxDone { id }),
        3 => (link(), small.clone(), small.clone()).prop_map(|(link, external, event)| Write::Seen {
            link,
            external_id: external_id(external),
            event: seen_event(event),
        }),
        1 => (link(), channel(), 0..100u64)
            .prop_map(|(link, channel, since)| Write::Link { link, channel, since }),
        1 => link().prop_map(|link| Write::Unlink { link }),
        1 => (channel(), "#.{0,9}").prop_map(|(channel, name)| Write::Name { channel, name }),
        1 => (small.clone(), small, ".{0,9}").prop_map(|(account, key, name)| Write::Person {
            account: format!("account {account}"),
            identity: Identity([key; 32]),
            profile: Profile { username: name.clone(), display_name: String::new(), home: name },
        }),
        1 => (1..20u64).prop_map(|position| Write::Erase { position }),
        2 => (0..4u64).prop_map(|until| Write::Intent(offer(until))),
        1 => (0..4u64).prop_map(|until| Write::IntentGone { id: offer(until).intent.id() }),
        1 => (0..20u64).prop_map(|until| Write::EraseExpired { until: Timestamp(until) }),
        1 => (channel(), 0..10u64)
            .prop_map(|(channel, until)| Write::EraseSaid { channel, until: Timestamp(until) }),
        2 => (0..4usize, "[ab]{0,2}", any::<Vec<u8>>()).prop_map(|(door, key, mut value)| {
            value.truncate(9);
            Write::Note { door: doors()[door].clone(), key, value }
        }),
    ]
}

/// Gives a random event its place: most are appended, some write an event of the log again.
fn placed(write: Write, log: &[StoredEvent]) -> Write {
    match write {
        Write::Event(random) => {
            let known = log.iter().rev().nth(random.position as usize);
            let (position, channel) = match known {
                Some(event) => (event.position, event.channel.0[0]),
                None => (log.len() as u64 + 1, random.channel.0[0]),
            };
            let StoredEvent { payload, mut keeping, .. } = event(position, channel, true);
            let payload = payload.filter(|_| random.payload.is_some());
            keeping.wanted = payload.is_none();
            Write::Event(StoredEvent { payload, keeping, ..event(position, channel, random.visible) })
        }
        other => other,
    }
}

#[test]
fn random_writes_leave_what_the_model_holds() {
    let batches = proptest::collection::vec(proptest::collection::vec(any_write(), 0..12), 0..12);
    // Each case commits to the disk; the failing case is printed, no file is kept of it.
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&batches, |batches| {
        let directory = Directory::new();
        let mut store = Store::open(&directory.store()).unwrap();
        let mut model = Model::default();
        for (number, writes) in batches.into_iter().enumerate() {
            let mut batch = Batch::default();
            for write in writes {
                let write = placed(write, &model.log);
                model.apply(write.clone());
                batch.0.push(write);
            }
            match number % 3 {
                0 => store.commit(&[batch]).unwrap(),
                1 => store.commit(&[batch, Batch::default()]).unwrap(),
                _ => {
                    store
                        .commit(&batch.0.into_iter().map(|write| Batch(vec![write])).collect::<Vec<_>>())
                        .unwrap();
                    store.close().unwrap();
                    store = Store::open(&directory.store()).unwrap();
                }
            }
        }
        model.check(&store);
        let found = store.search("SAID what", None, usize::MAX).unwrap();
        let found: Vec<u64> = found.iter().map(|event| event.position).collect();
        let findable = model.log.iter().filter(|event| event.keeping.searchable && event.payload.is_some());
        let findable: Vec<u64> = findable.rev().map(|event| event.position).collect();
        assert_eq!(found, findable);
        store.verify().unwrap();
        Ok(())
    });
    outcome.unwrap();
}

//! What a long history costs: appending to a channel of a million events and ten thousand members beside
//! one of a thousand and ten, alternating; reading a million events back from disk beside reading and
//! hashing them; and the memory they take then.

mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multichat::base::key::{Purpose, SecretKey};
use multichat::base::{EventId, Timestamp};
use multichat::chat::act::{Act, Joining};
use multichat::chat::message::Content;
use multichat::chat::profile::{Certificate, Profile};
use multichat::node::{Batch, Node, Restored, Setup, StoredEvent, Write};
use multichat::replica::event::VERSION;
use multichat::replica::{Admission, Event, Header, PayloadRef, Replica};
use multichat::runtime::load;
use multichat::store::Store;

const EVENTS: usize = 1_000_000;
const MEMBERS: usize = 10_000;
/// Members that speak; the others read.
const SPEAKERS: usize = 200;
const PAGE: usize = 1_024;
const LOADS: usize = 3;
const ROUNDS: usize = 40;
const APPENDS: usize = 250;
/// Says to this program that it is to tell its memory, and of which log.
const CHILD: &str = "MULTICHAT_BENCH_MEMORY_OF";

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        return tell_memory(Path::new(&path));
    }
    let scratch = Scratch::new();
    let path = scratch.0.join("log.db");
    let events = std::env::var("MULTICHAT_BENCH_EVENTS").ok().and_then(|text| text.parse().ok());
    let events = events.unwrap_or(EVENTS);

    let mut large = Channel::found("large", events / 100);
    let mut store = Store::open(&path).expect("the scratch directory is writable");
    large.grow(events, Some(&mut store));
    let mut small = Channel::found("small", 10);
    small.grow(1_000, None);

    let ratio = append_ratio(&mut small, &mut large);
    let root = large.replica.fingerprint();
    drop((small, large));
    let (load, read) = loads(store, events);
    let bytes = bytes_per_event(&path, events);
    report::report(
        "resolve",
        &[
            ("append_small_us".into(), ratio.0),
            ("append_large_us".into(), ratio.1),
            ("append_ratio_1m_to_1k".into(), ratio.1 / ratio.0),
            ("read_and_hash_s".into(), read.as_secs_f64()),
            ("load_s".into(), load.as_secs_f64()),
            ("load_to_read_and_hash_ratio".into(), load.as_secs_f64() / read.as_secs_f64()),
            ("bytes_per_event".into(), bytes),
        ],
    );
    assert_ne!(root, Default::default());
}

/// Somebody with a device.
struct Author {
    device: SecretKey,
    joining: Joining,
}

impl Author {
    fn new(name: &str) -> Self {
        let root = SecretKey::from_seed([7; 32]);
        let (identity, device) = (root.derive(Purpose::Identity, name), root.derive(Purpose::Device, name));
        let certificate = Certificate::issue(&identity, device.public(), Timestamp(u64::MAX));
        let profile = Profile { username: name.to_owned(), ..Profile::default() };
        Self {
            device,
            joining: Joining { certificate, profile, via: None, grant: None, bearer: None, under: None },
        }
    }
}

/// A channel as it grows.
struct Channel {
    replica: Replica,
    speakers: Vec<Author>,
    members: usize,
    log: Vec<StoredEvent>,
    position: u64,
    dice: u64,
}

impl Channel {
    fn found(name: &str, members: usize) -> Self {
        let founder = Author::new("founder");
        let act = Act::CreateChannel {
            name: format!("#{name}").parse().expect("a name"),
            topic: String::new(),
            founder: founder.joining.clone(),
            ancestry: Default::default(),
        };
        let header = Header {
            version: VERSION,
            channel: None,
            device: founder.device.public(),
            seq: 0,
            prev: None,
            deps: Vec::new(),
            timestamp: Timestamp(1),
            act,
            payload: None,
        };
        let event = Event::sign(header, &founder.device);
        let (replica, _) = Replica::found(&event, 1).expect("a valid founding event");
        let members = members.clamp(10, MEMBERS);
        let mut channel =
            Self { replica, speakers: vec![founder], members, log: Vec::new(), position: 0, dice: 1 };
        channel.keep(&event, None);
        channel
    }

    fn roll(&mut self, bound: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % bound as u64) as usize
    }

    /// Lets members join and speak until there are so many events; now and then two speak at once.
    fn grow(&mut self, events: usize, mut store: Option<&mut Store>) {
        for number in 1..self.members {
            let author = Author::new(&format!("member{number}"));
            let act = Act::JoinChannel(author.joining.clone());
            let header = self.replica.draft(author.device.public(), None, Timestamp(self.position), act);
            let event = Event::sign(header, &author.device);
            self.readmit(&event, None);
            if number < SPEAKERS {
                self.speakers.push(author);
            }
        }
        while self.replica.len() < events {
            let at_once = if self.roll(8) == 0 { 2 } else { 1 };
            let first = self.roll(self.speakers.len());
            let said: Vec<_> = (0..at_once).map(|n| self.say((first + n) % self.speakers.len())).collect();
            for (event, payload) in said {
                self.readmit(&event, Some(payload));
            }
            if self.log.len() >= 10_000 || self.replica.len() >= events {
                let writes = std::mem::take(&mut self.log).into_iter().map(Write::Event).collect();
                if let Some(store) = &mut store {
                    store.commit(&[Batch(writes)]).expect("the disk takes it");
                }
            }
        }
    }

    fn say(&self, speaker: usize) -> (Event, Vec<u8>) {
        let content =
            Content::text(format!("This is line {}, about as long as people write.", self.position));
        let payload = content.payload();
        let device = &self.speakers[speaker].device;
        let lane = self.replica.live_lane(&device.public());
        let act = Act::SendMessage(Default::default());
        let mut header = self.replica.draft(device.public(), lane, Timestamp(self.position), act);
        header.payload = Some(PayloadRef::of(&payload));
        (Event::sign(header, device), payload)
    }

    fn readmit(&mut self, event: &Event, payload: Option<Vec<u8>>) {
        let admission = self.replica.readmit(event, self.position + 1, None);
        assert!(matches!(admission, Admission::Accepted(_)), "{admission:?}");
        self.keep(event, payload);
    }

    fn keep(&mut self, event: &Event, payload: Option<Vec<u8>>) {
        self.position += 1;
        let (position, channel, id) = (self.position, event.channel(), event.id());
        self.log.push(StoredEvent {
            position,
            channel,
            id,
            signed: event.encode(),
            payload,
            visible: true,
            keeping: Default::default(),
        });
    }

    /// How long it takes to take in, with its logics, what some speaker says; not its signature, whose cost
    /// no history changes.
    fn append(&mut self) -> Duration {
        let speaker = self.roll(self.speakers.len());
        let (event, _) = self.say(speaker);
        self.position += 1;
        let start = Instant::now();
        let admission = self.replica.admit(&event, self.position);
        let took = start.elapsed();
        assert!(matches!(admission, Admission::Accepted(_)), "{admission:?}");
        took
    }
}

/// Microseconds of an append to each.
fn append_ratio(small: &mut Channel, large: &mut Channel) -> (f64, f64) {
    let (mut to_small, mut to_large) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        to_small += (0..APPENDS).map(|_| small.append()).sum::<Duration>();
        to_large += (0..APPENDS).map(|_| large.append()).sum::<Duration>();
    }
    let each = |sum: Duration| sum.as_secs_f64() * 1e6 / (ROUNDS * APPENDS) as f64;
    (each(to_small), each(to_large))
}

/// The log of a store, page by page.
fn log(store: &Store) -> impl Iterator<Item = StoredEvent> + '_ {
    let mut next = 1;
    let pages = std::iter::from_fn(move || {
        let page = store.events_from(next, PAGE).expect("the log can be read");
        next = page.last()?.position + 1;
        Some(page)
    });
    pages.flatten()
}

/// Loads the log as the running node does.
fn restore(store: Store) -> (Store, Node) {
    let setup = Setup {
        secret: SecretKey::from_seed([9; 32]),
        name: "bench".into(),
        generation: 0,
        matrix_server: String::new(),
    };
    let names = vec![(log(&store).next().expect("an event").channel, "#bench".to_owned())];
    load(store, setup, Restored { names, ..Restored::default() }).expect("the log is whole")
}

/// The time of a load, and of reading and hashing alone: the fastest of several, alternating.
fn loads(mut store: Store, events: usize) -> (Duration, Duration) {
    let (mut load, mut read) = (Duration::MAX, Duration::MAX);
    for _ in 0..LOADS {
        let start = Instant::now();
        let count = log(&store).filter(|stored| is_whole(&stored.signed, &stored.id)).count();
        read = read.min(start.elapsed());
        assert!(count >= events, "{count}");
        let start = Instant::now();
        let node;
        (store, node) = restore(store);
        load = load.min(start.elapsed());
        drop(node);
    }
    (load, read)
}

fn is_whole(signed: &[u8], id: &EventId) -> bool {
    blake3::hash(&signed[..signed.len() - 64]).as_bytes() == id.as_bytes()
}

/// What a node that was just loaded holds in memory for each event. Measured in a process of its own: this
/// one has allocated and freed before.
fn bytes_per_event(path: &Path, events: usize) -> f64 {
    let this = std::env::current_exe().expect("this runs");
    let output = std::process::Command::new(this).env(CHILD, path).output().expect("it runs again");
    let text = String::from_utf8(output.stdout).expect("a number");
    text.trim().parse::<f64>().expect("a number") / events as f64
}

/// Loads the log and prints by how many bytes the process has grown.
fn tell_memory(path: &Path) {
    let store = Store::open(path).expect("the log is there");
    let before = resident();
    let (_store, node) = restore(store);
    println!("{}", resident() - before);
    drop(node);
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says how much memory is used");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number of kB") * 1024.0
}

/// A directory on the disk that `target` is on, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("resolve-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("target is writable");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

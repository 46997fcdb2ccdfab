//! Broadcast over libp2p on loopback, `N` nodes in this process: our tree beside gossipsub, same shell, same
//! run. Wire bytes are what the kernel counted on `lo` (headers and acknowledgements included), CPU is this
//! process's. Arguments: the sizes, by default 50 100 200.

mod report;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use multichat::base::config::{DomainConfig, NodeConfig, Topology};
use multichat::base::key::SecretKey;
use multichat::net::Net;
use multichat::overlay::Destination;
use multichat::port::{Command, Door, Handle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PAYLOAD: usize = 1_000;
const MESSAGES: u32 = 200;
const GAP: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![50, 100, 200] } else { sizes };
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut metrics = Vec::new();
    for size in sizes {
        for (name, topology) in [("gossipsub", Topology::Gossip), ("tree", Topology::Tree)] {
            tokio.block_on(measure(size, name, topology, &mut metrics));
        }
    }
    report::report("overlay", &metrics);
}

/// Something that reached a node: which, who, when.
type Arrival = (usize, u32, Instant);

async fn measure(size: usize, name: &str, topology: Topology, metrics: &mut Vec<(String, f64)>) {
    let (arrivals, mut arrived) = mpsc::channel::<Arrival>(100_000);
    let cancel = CancellationToken::new();
    let mut senders = Vec::new();
    let mut addresses: Vec<String> = Vec::new();
    for n in 0..size {
        let started = Instant::now();
        let (sender, address) = start(n, topology, &addresses, arrivals.clone(), &cancel).await;
        senders.push(sender);
        addresses.push(address);
        // A fresh node's first word: said again until somebody has it.
        if n == size - 1 {
            let cold = first_word(&senders[n], &mut arrived, started).await;
            metrics.push((format!("{name} {size}: cold start ms"), cold));
        }
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    while arrived.try_recv().is_ok() {}
    let (bytes, at) = (loopback_bytes(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = (loopback_bytes() - bytes) as f64 / at.elapsed().as_secs_f64() / size as f64;
    metrics.push((format!("{name} {size}: idle bytes/s a node"), idle));

    let (bytes, cpu, at) = (loopback_bytes(), cpu_ms(), Instant::now());
    let mut sent = BTreeMap::new();
    let mut delays = Vec::new();
    let mut collect = |arrival: Arrival, sent: &BTreeMap<u32, Instant>| {
        if let Some(since) = sent.get(&arrival.1) {
            delays.push(arrival.2.duration_since(*since).as_secs_f64() * 1_000.0);
        }
    };
    for number in 1..=MESSAGES {
        sent.insert(number, Instant::now());
        let by = number as usize * 7 % size;
        senders[by].send((Destination::Domain, packet(number))).await.expect("running");
        let until = tokio::time::Instant::now() + GAP;
        while let Ok(Some(arrival)) = tokio::time::timeout_at(until, arrived.recv()).await {
            collect(arrival, &sent);
        }
    }
    while let Ok(Some(arrival)) = tokio::time::timeout(Duration::from_secs(3), arrived.recv()).await {
        collect(arrival, &sent);
    }
    let idle_bytes = idle * size as f64 * at.elapsed().as_secs_f64();
    let wire = (loopback_bytes() - bytes) as f64 - idle_bytes;
    let cpu = cpu_ms() - cpu;
    let owed = f64::from(MESSAGES) * (size - 1) as f64;
    delays.sort_by(f64::total_cmp);
    let quantile = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize];
    metrics.push((format!("{name} {size}: delivered %"), delays.len() as f64 / owed * 100.0));
    metrics.push((format!("{name} {size}: p50 ms"), quantile(0.5)));
    metrics.push((format!("{name} {size}: p99 ms"), quantile(0.99)));
    metrics.push((format!("{name} {size}: wire per payload byte"), wire / (owed * PAYLOAD as f64)));
    metrics.push((format!("{name} {size}: CPU ms a message"), cpu / f64::from(MESSAGES)));
    cancel.cancel();
    tokio::time::sleep(Duration::from_secs(2)).await;
}

async fn start(
    n: usize,
    topology: Topology,
    known: &[String],
    arrivals: mpsc::Sender<Arrival>,
    cancel: &CancellationToken,
) -> (mpsc::Sender<(Destination, Vec<u8>)>, String) {
    // Four known peers, spread over those before.
    let bootstrap = (0..known.len().min(4)).map(|k| known[(n * 31 + k * 17) % known.len()].clone()).collect();
    let node = NodeConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        bootstrap,
        lan: false,
        ..NodeConfig::default()
    };
    let domain = DomainConfig::open("bench", topology);
    let mut seed = [topology as u8 + 1; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let net = Net::bind(&node, &[domain], SecretKey::from_seed(seed)).await.expect("a free port");
    let address = net.addresses().remove(0);
    let (to_node, mut commands) = mpsc::channel(1_024);
    let (sender, from_node) = mpsc::channel(64);
    tokio::spawn(net.run(Handle::new(Door::Control, to_node), from_node, cancel.clone()));
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            if let Command::Bytes { bytes, .. } = command {
                let number = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
                let _ = arrivals.send((n, number, Instant::now())).await;
            }
        }
    });
    (sender, address)
}

async fn first_word(
    sender: &mpsc::Sender<(Destination, Vec<u8>)>,
    arrived: &mut mpsc::Receiver<Arrival>,
    started: Instant,
) -> f64 {
    for attempt in 0..2_000 {
        sender.send((Destination::Domain, packet(1_000_000 + attempt))).await.expect("running");
        let next = tokio::time::timeout(Duration::from_millis(5), arrived.recv()).await;
        if let Ok(Some((_, 1_000_000.., at))) = next {
            return at.duration_since(started).as_secs_f64() * 1_000.0;
        }
    }
    f64::NAN
}

fn packet(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; PAYLOAD];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Bytes that the loopback interface has carried.
fn loopback_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// CPU time of this process so far, user and system.
fn cpu_ms() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 10.0
}

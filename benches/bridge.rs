//! Messages per second across one whole node, from a homeserver to an IRC client and back, and how
//! long one takes while the node is not busy. The homeserver is a fast stand-in, so what is
//! measured is the node: HTTP in, the machine, the log on a real disk, IRC out, and the way back.
//! Every line is checked: all arrive, once, in order.

mod report;
mod stand_in;

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use multichat::base::config::{Config, IrcConfig, LinkConfig, ListenConfig, MatrixConfig, NodeConfig};
use multichat::matrix::proto::registration::Registration;
use multichat::runtime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use stand_in::{HS_TOKEN, ROOM, SERVER, StandIn};

/// Messages each way before anything is measured.
const WARM_UP: usize = 500;
/// Messages of one measured flood.
const FLOOD: usize = 10_000;
/// Messages whose way is timed, and between two of them.
const TIMED: usize = 500;
const PACE: Duration = Duration::from_millis(20);
/// Between a flood and what is timed, so that the disk has nothing left of the flood to write.
const REST: Duration = Duration::from_secs(1);
/// How long a node is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(2);
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const CHANNEL: &str = "#bench";

/// When a message was seen, and what it said.
type Seen = (Instant, String);

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    runtime::init_logging("warn");
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let metrics = tokio.block_on(async {
        let mut metrics = crossing().await;
        metrics.push(("rss_mib".into(), idle_memory().await));
        metrics
    });
    report::report("bridge", &metrics);
}

/// A node between the stand-in and one IRC client; everything that is timed.
async fn crossing() -> Vec<(String, f64)> {
    let scratch = Scratch::new("crossing");
    let (stand_in, mut sent) = StandIn::start().await;
    let config = config(&scratch.0, &stand_in.address);
    let node = runtime::start(config, &scratch.0).await.expect("the node starts");
    stand_in.push_to(format!("http://{}", node.matrix.expect("the Matrix door is open")));
    let mut client = IrcClient::join(node.irc[0]).await;
    linked(&node.handle).await;

    let mut said = 0;
    let mut bodies = |count: usize| -> Vec<String> {
        let bodies = (said..said + count).map(|n| format!("line {n}, about as long as what people write"));
        said += count;
        bodies.collect()
    };
    let warm_up = bodies(WARM_UP);
    flood(&warm_up, async |all| stand_in.say_all(all), &mut client.seen).await;
    flood(&warm_up, async |all| client.out.say_all(all).await, &mut sent).await;
    let lines = bodies(FLOOD);
    let to_irc = flood(&lines, async |all| stand_in.say_all(all), &mut client.seen).await;
    let lines = bodies(FLOOD);
    let to_matrix = flood(&lines, async |all| client.out.say_all(all).await, &mut sent).await;
    sleep(REST).await;
    let disk_ms = disk(&scratch.0).await;
    let lines = bodies(TIMED);
    let to_irc_ms = pace(&lines, async |one| stand_in.say_all(one), &mut client.seen).await;
    let lines = bodies(TIMED);
    let to_matrix_ms = pace(&lines, async |one| client.out.say_all(one).await, &mut sent).await;
    node.stop().await.expect("the node stops");

    let worse = |part: f64| percentile(&to_irc_ms, part).max(percentile(&to_matrix_ms, part));
    let metric = |name: &str, value: f64| (name.to_owned(), value);
    vec![
        metric("matrix_to_irc_per_s", to_irc),
        metric("irc_to_matrix_per_s", to_matrix),
        metric("p50_ms", worse(0.50)),
        metric("p99_ms", worse(0.99)),
        metric("matrix_to_irc_p50_ms", percentile(&to_irc_ms, 0.50)),
        metric("matrix_to_irc_p99_ms", percentile(&to_irc_ms, 0.99)),
        metric("irc_to_matrix_p50_ms", percentile(&to_matrix_ms, 0.50)),
        metric("irc_to_matrix_p99_ms", percentile(&to_matrix_ms, 0.99)),
        metric("disk_sync_p50_ms", percentile(&disk_ms, 0.50)),
        metric("disk_sync_p99_ms", percentile(&disk_ms, 0.99)),
    ]
}

/// Says everything at once; how many a second came out at the other side.
async fn flood(
    bodies: &[String],
    say: impl AsyncFnOnce(&[String]),
    seen: &mut mpsc::UnboundedReceiver<Seen>,
) -> f64 {
    let start = Instant::now();
    let arrive = async {
        let mut last = start;
        for body in bodies {
            last = arrival(body, seen).await;
        }
        last
    };
    let (last, ()) = futures::join!(arrive, say(bodies));
    bodies.len() as f64 / last.duration_since(start).as_secs_f64()
}

/// Says one after another at the pace of [`PACE`]; how long each was on its way, in ms, ascending.
async fn pace(
    bodies: &[String],
    mut say: impl AsyncFnMut(&[String]),
    seen: &mut mpsc::UnboundedReceiver<Seen>,
) -> Vec<f64> {
    let mut started = Vec::with_capacity(bodies.len());
    let speak = async {
        let mut clock = interval(PACE);
        for body in bodies {
            clock.tick().await;
            started.push(Instant::now());
            say(std::slice::from_ref(body)).await;
        }
    };
    let arrive = async {
        let mut arrived = Vec::with_capacity(bodies.len());
        for body in bodies {
            arrived.push(arrival(body, seen).await);
        }
        arrived
    };
    let (arrived, ()) = futures::join!(arrive, speak);
    let way = |(from, to): (&Instant, &Instant)| to.duration_since(*from).as_secs_f64() * 1e3;
    let mut ways: Vec<f64> = started.iter().zip(&arrived).map(way).collect();
    ways.sort_by(f64::total_cmp);
    ways
}

/// What the disk itself takes to keep 4 KiB at the same pace, in ms, ascending: no durable message
/// can be faster.
async fn disk(dir: &Path) -> Vec<f64> {
    let mut file = std::fs::File::create(dir.join("floor")).expect("the scratch directory is writable");
    let mut clock = interval(PACE);
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        clock.tick().await;
        let start = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("the disk takes it");
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took
}

/// The next message seen, which must be this one.
async fn arrival(body: &str, seen: &mut mpsc::UnboundedReceiver<Seen>) -> Instant {
    let next = timeout(PATIENCE, seen.recv()).await;
    let (at, said) = next.unwrap_or_else(|_| panic!("never came: {body}")).expect("the other side is there");
    assert_eq!(said, body, "each arrives, once, in order");
    at
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// MiB of memory of `multichat run` beside a homeserver, once it has nothing to do.
async fn idle_memory() -> f64 {
    let scratch = Scratch::new("idle");
    let (stand_in, _sent) = StandIn::start().await;
    let file = scratch.0.join("config.yaml");
    let text = serde_yaml::to_string(&config(&scratch.0, &stand_in.address)).expect("a config serialises");
    std::fs::write(&file, text).expect("the scratch directory is writable");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_multichat"))
        .arg("run")
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("multichat runs");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let ready =
        within(lines.next_line()).await.expect("its output can be read").expect("it says it is ready");
    let address = ready.split(' ').find_map(|word| word.strip_prefix("matrix=")).expect("Matrix is on");
    stand_in.push_to(format!("http://{address}"));
    sleep(IDLE).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().expect("it runs")));
    child.kill().await.expect("it can be ended");
    let status = status.expect("Linux says how much memory a process has");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
    let kib: f64 = resident.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
    kib / 1024.0
}

/// A node as an admin would have it, on free ports, and its registration beside it.
fn config(dir: &Path, homeserver: &str) -> Config {
    let registration = Registration::generate(SERVER, "http://127.0.0.1:1", "as-secret", HS_TOKEN);
    let text = serde_yaml::to_string(&registration).expect("a registration serialises");
    std::fs::write(dir.join("registration.yaml"), text).expect("the scratch directory is writable");
    Config {
        data_dir: Some(dir.join("data").to_string_lossy().into_owned()),
        node: NodeConfig {
            name: "bench".into(),
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()],
            lan: false,
            ..NodeConfig::default()
        },
        matrix: Some(MatrixConfig {
            homeserver: homeserver.into(),
            server_name: SERVER.into(),
            registration: "registration.yaml".into(),
            listen: "127.0.0.1:0".into(),
            admins: Vec::new(),
            public_url: None,
            encryption: Default::default(),
        }),
        irc: IrcConfig {
            listen: vec![ListenConfig::plain("127.0.0.1:0")],
            flood: None,
            ..IrcConfig::default()
        },
        links: vec![LinkConfig { channel: CHANNEL.into(), matrix: Some(ROOM.into()), irc: None }],
        log: "warn".into(),
        ..Config::default()
    }
}

/// Waits until the room carries the channel.
async fn linked(handle: &multichat::port::Handle) {
    within(async {
        while handle.channels().await.expect("the node runs").iter().all(|view| view.links.is_empty()) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it is done in time")
}

/// One person on IRC.
struct IrcClient {
    out: Voice,
    /// What others said.
    seen: mpsc::UnboundedReceiver<Seen>,
}

/// Where the client writes: its own lines, and its answers to PING.
struct Voice(mpsc::UnboundedSender<Vec<u8>>);

impl IrcClient {
    /// Registers and joins the channel.
    async fn join(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the listener is there");
        stream.set_nodelay(true).expect("a fresh socket");
        let (reader, writer) = stream.into_split();
        let (out, to_write) = mpsc::unbounded_channel();
        let (tell, seen) = mpsc::unbounded_channel();
        let (tell_joined, mut joined) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, to_write));
        tokio::spawn(read(reader, out.clone(), tell, tell_joined));
        let client = Self { out: Voice(out), seen };
        client.out.line("NICK carol\r\nUSER carol 0 * :Carol");
        client.out.line(&format!("JOIN {CHANNEL}"));
        within(joined.recv()).await.expect("the channel is joined");
        client
    }
}

impl Voice {
    fn line(&self, line: &str) {
        let _ = self.0.send(format!("{line}\r\n").into_bytes());
    }

    async fn say_all(&self, bodies: &[String]) {
        for chunk in bodies.chunks(100) {
            let lines: String = chunk.iter().map(|body| format!("PRIVMSG {CHANNEL} :{body}\r\n")).collect();
            let _ = self.0.send(lines.into_bytes());
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut to_write: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = to_write.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read(
    reader: OwnedReadHalf,
    out: mpsc::UnboundedSender<Vec<u8>>,
    tell: mpsc::UnboundedSender<Seen>,
    joined: mpsc::UnboundedSender<()>,
) {
    let mut lines = BufReader::with_capacity(64 * 1024, reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let now = Instant::now();
        if let Some(token) = line.strip_prefix("PING ") {
            let _ = out.send(format!("PONG {token}\r\n").into_bytes());
        } else if let Some((_, body)) = line.split_once(&format!(" PRIVMSG {CHANNEL} :")) {
            let _ = tell.send((now, body.to_owned()));
        } else if line.contains(" 366 ") {
            let _ = joined.send(());
        }
    }
}

/// A directory on the disk that `target` is on, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bridge-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("target is writable");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! How fast one node hands what one client says to all others of a channel, beside a bare tokio
//! broadcast that does nothing else: the floor. Both run as processes of their own, one after the
//! other, with the same clients in this process; every message of the node is durable before it is
//! delivered, and every client takes full tags. What is counted are lines that arrived.

mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use multichat::base::config::{Config, Guests, IrcConfig, ListenConfig, NodeConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(5);
/// Clients that talk in a flood.
const SPEAKERS: usize = 4;
/// Messages that one speaker has under way at the most.
const WINDOW: u64 = 256;
/// Messages whose way is timed, and between two of them: 100 a second.
const TIMED: usize = 500;
const PACE: Duration = Duration::from_millis(10);
/// Clients that register at once, and that idle.
const CROWD: usize = 2000;
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the floor says once it sends to a client.
const FLOOR_HELLO: &[u8] = b"hello\n";
/// Tells this program, run by itself, to be the floor.
const FLOOR: &str = "MULTICHAT_BENCH_FLOOR";

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    if std::env::var_os(FLOOR).is_some() {
        return tokio.block_on(floor());
    }
    report::report("irc_fanout", &tokio.block_on(measure()));
}

async fn measure() -> Vec<(String, f64)> {
    let mut metrics = Vec::new();
    let mut cpu = 0.0;
    for clients in [100, 1000] {
        let mut rates = Vec::new();
        for kind in [Kind::Floor, Kind::Node] {
            let server = Server::start(kind).await;
            let flood = server.flood(clients).await;
            rates.push(flood.lines_per_s);
            if clients == 100 && kind == Kind::Node {
                cpu = flood.cpu_s_per_million;
            }
        }
        metrics.push((format!("floor_lines_per_s_{clients}"), rates[0]));
        metrics.push((format!("lines_per_s_{clients}"), rates[1]));
        metrics.push((format!("ratio_to_floor_{clients}"), rates[1] / rates[0]));
    }
    metrics.push(("cpu_s_per_million".into(), cpu));
    let floor = Server::start(Kind::Floor).await.p99_ms().await;
    let node = Server::start(Kind::Node).await.p99_ms().await;
    metrics.push(("p99_over_floor_ms".into(), node - floor));
    let server = Server::start(Kind::Node).await;
    let (kib, per_s) = server.crowd().await;
    metrics.push(("kib_per_idle_client".into(), kib));
    metrics.push(("registrations_per_s".into(), per_s));
    metrics
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Floor,
    Node,
}

/// A server process, ended with this value.
struct Server {
    kind: Kind,
    child: tokio::process::Child,
    address: String,
    _scratch: Scratch,
}

struct Flood {
    lines_per_s: f64,
    cpu_s_per_million: f64,
}

impl Server {
    async fn start(kind: Kind) -> Self {
        let scratch = Scratch::new();
        let mut command = match kind {
            Kind::Floor => {
                let own = std::env::current_exe().expect("this program has a path");
                let mut command = tokio::process::Command::new(own);
                command.env(FLOOR, "1");
                command
            }
            Kind::Node => {
                let path = scratch.0.join("config.yaml");
                let text = serde_yaml::to_string(&config(&scratch.0)).expect("a configuration serialises");
                std::fs::write(&path, text).expect("the scratch directory is writable");
                let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_multichat"));
                command.arg("--config").arg(path).arg("run");
                command
            }
        };
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the server starts");
        let mut ready = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = timeout(PATIENCE, async {
            loop {
                let line = ready.next_line().await.expect("it speaks").expect("it gets ready");
                if let Some(at) = line.split("irc=").nth(1) {
                    return at.split([' ', ',']).next().expect("an address").to_owned();
                }
            }
        });
        let address = address.await.expect("it is ready in time");
        Self { kind, child, address, _scratch: scratch }
    }

    async fn connect(&self, nick: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket option");
        if self.kind == Kind::Node {
            let hello = format!(
                "CAP LS 302\r\nCAP REQ :server-time message-tags account-tag batch\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick}\r\nCAP END\r\n"
            );
            stream.write_all(hello.as_bytes()).await.expect("it reads");
            until(&mut stream, b" 376 ").await;
        } else {
            // Before it hears of the client, the floor would send it nothing.
            until(&mut stream, FLOOR_HELLO).await;
        }
        stream
    }

    /// Clients in one channel.
    async fn channel(&self, clients: usize) -> Vec<TcpStream> {
        let mut all = Vec::new();
        for n in 0..clients {
            let mut stream = self.connect(&format!("n{n}")).await;
            if self.kind == Kind::Node {
                stream.write_all(b"JOIN #bench\r\n").await.expect("it reads");
                until(&mut stream, b" 366 ").await;
            }
            all.push(stream);
        }
        all
    }

    /// As much as goes through, for a while.
    async fn flood(&self, clients: usize) -> Flood {
        let arrived = Arc::new(AtomicU64::new(0));
        let own = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        let mut silent = Vec::new();
        for (index, stream) in self.channel(clients).await.into_iter().enumerate() {
            let (mut reader, mut writer) = stream.into_split();
            let (arrived, own) = (Arc::clone(&arrived), Arc::clone(&own));
            let listens_for_all = index == SPEAKERS;
            let seen = Arc::clone(&own);
            tasks.spawn(async move {
                let mut bytes = vec![0; 256 * 1024];
                while let Ok(n @ 1..) = reader.read(&mut bytes).await {
                    let lines = bytes[..n].iter().filter(|byte| **byte == b'\n').count() as u64;
                    arrived.fetch_add(lines, Ordering::Relaxed);
                    if listens_for_all {
                        seen.fetch_add(lines, Ordering::Relaxed);
                    }
                }
            });
            if index >= SPEAKERS {
                // Dropping it would say that the client goes.
                silent.push(writer);
            } else {
                tasks.spawn(async move {
                    let text = "PRIVMSG #bench :the quick brown fox jumps over the lazy dog, and again\r\n";
                    let burst = text.repeat(32);
                    let mut said = 0;
                    // Not further ahead of what arrives than a window: nobody measures a queue.
                    loop {
                        if said > own.load(Ordering::Relaxed) / SPEAKERS as u64 + WINDOW {
                            sleep(Duration::from_micros(200)).await;
                            continue;
                        }
                        if writer.write_all(burst.as_bytes()).await.is_err() {
                            return;
                        }
                        said += 32;
                    }
                });
            }
        }
        sleep(Duration::from_secs(1)).await;
        let (began, cpu, before) = (Instant::now(), self.cpu_s(), arrived.load(Ordering::Relaxed));
        sleep(FLOOD).await;
        let lines = (arrived.load(Ordering::Relaxed) - before) as f64;
        let (took, spent) = (began.elapsed().as_secs_f64(), self.cpu_s() - cpu);
        Flood { lines_per_s: lines / took, cpu_s_per_million: spent / (lines / 1e6) }
    }

    /// The 99th percentile of one message's way to one of 100 clients, at 100 a second.
    async fn p99_ms(&self) -> f64 {
        let mut clients = self.channel(100).await;
        let listener = clients.pop().expect("there are 100");
        let mut speaker = clients.pop().expect("there are 100");
        for mut client in clients {
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(1..) = client.read(&mut bytes).await {}
            });
        }
        let mut lines = BufReader::new(listener).lines();
        let mut times = Vec::with_capacity(TIMED);
        for n in 0..TIMED {
            let (mark, said) = (format!("mark-{n}-"), Instant::now());
            speaker.write_all(format!("PRIVMSG #bench :{mark}\r\n").as_bytes()).await.expect("it reads");
            timeout(PATIENCE, async {
                while !lines.next_line().await.expect("it is up").expect("it goes on").contains(&mark) {}
            })
            .await
            .expect("it arrives");
            times.push(said.elapsed().as_secs_f64() * 1000.0);
            sleep(PACE.saturating_sub(said.elapsed())).await;
        }
        times.sort_by(f64::total_cmp);
        times[TIMED * 99 / 100]
    }

    /// KiB for each idle client, and registrations a second.
    async fn crowd(&self) -> (f64, f64) {
        let before = self.resident_kib();
        let began = Instant::now();
        let connecting = (0..CROWD).map(|n| self.connect_named(n));
        let clients = futures::future::join_all(connecting).await;
        let per_s = CROWD as f64 / began.elapsed().as_secs_f64();
        sleep(Duration::from_secs(2)).await;
        let kib = (self.resident_kib() - before) / CROWD as f64;
        drop(clients);
        (kib, per_s)
    }

    async fn connect_named(&self, n: usize) -> TcpStream {
        self.connect(&format!("idle{n}")).await
    }

    fn proc(&self, file: &str) -> String {
        let pid = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("Linux says how a process is")
    }

    fn cpu_s(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
        // utime and stime, in hundredths of a second on every Linux there is.
        (ticks(11) + ticks(12)) / 100.0
    }

    fn resident_kib(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB")
    }
}

async fn until(stream: &mut TcpStream, what: &[u8]) {
    let mut got = Vec::new();
    timeout(PATIENCE, async {
        while !got.windows(what.len()).any(|window| window == what) {
            let mut bytes = [0; 8192];
            let n = stream.read(&mut bytes).await.expect("it is up");
            assert!(n > 0, "it goes on");
            got.extend_from_slice(&bytes[..n]);
        }
    })
    .await
    .expect("an answer in time");
}

/// The floor: every line goes to everybody but its sender, what waits in one write.
async fn floor() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("ready irc={}", listener.local_addr().expect("an address"));
    std::io::stdout().flush().expect("somebody reads");
    let (sender, _) = broadcast::channel::<(u64, Arc<[u8]>)>(16 * 1024);
    for id in 0.. {
        let (stream, _) = listener.accept().await.expect("a client");
        stream.set_nodelay(true).expect("a socket option");
        let (reader, mut writer) = stream.into_split();
        let (sender, mut lines) = (sender.clone(), sender.subscribe());
        writer.write_all(FLOOR_HELLO).await.expect("it reads");
        tokio::spawn(async move {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).await.unwrap_or(0) > 0 {
                let _ = sender.send((id, line.as_slice().into()));
                line.clear();
            }
        });
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            loop {
                match lines.recv().await {
                    Ok((from, line)) if from != id => waiting.extend_from_slice(&line),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
                while let Ok((from, line)) = lines.try_recv() {
                    if from != id {
                        waiting.extend_from_slice(&line);
                    }
                }
                if writer.write_all(&waiting).await.is_err() {
                    return;
                }
                waiting.clear();
            }
        });
    }
}

fn config(dir: &Path) -> Config {
    let mut irc =
        IrcConfig { listen: vec![ListenConfig::plain("127.0.0.1:0")], flood: None, ..IrcConfig::default() };
    // Everybody is somebody else, as on the servers that this is compared with.
    irc.accounts.guests = Guests::Leave;
    Config {
        data_dir: Some(dir.join("data").to_string_lossy().into_owned()),
        node: NodeConfig {
            name: "bench".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            lan: false,
            ..NodeConfig::default()
        },
        irc,
        log: "warn".into(),
        ..Config::default()
    }
}

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("multichat-fanout-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! The listener on real sockets, with a stand-in for the node behind the port.

mod abuse;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Listener;
use crate::base::config::{FloodConfig, IrcConfig, ListenConfig, TlsConfig};
use crate::chat::message::Content;
use crate::irc::proto::hub::stand_in::StandIn;
use crate::port::{Command, Connector, Delivery, Door, Fault, Handle, Port};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listener served by a stand-in.
struct Served {
    addresses: Vec<std::net::SocketAddr>,
    node: Arc<Mutex<StandIn>>,
    deliveries: mpsc::Sender<Delivery>,
    cancel: CancellationToken,
    listener: JoinHandle<Result<(), Fault>>,
}

fn config(flood: Option<FloodConfig>) -> IrcConfig {
    let listen = vec![ListenConfig::plain("127.0.0.1:0")];
    IrcConfig { listen, flood, cloak: false, ..IrcConfig::default() }
}

async fn serve(config: &IrcConfig, node: Arc<Mutex<StandIn>>) -> Served {
    let listener = Listener::bind(config).await.unwrap();
    let addresses = listener.addresses();
    let (to_node, commands) = mpsc::channel(64);
    let (deliveries, to_listener) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let (channels, notes) = {
        let node = node.lock().unwrap();
        (node.views(), node.notes.clone().into_iter().collect())
    };
    tokio::spawn(answer(commands, Arc::clone(&node), deliveries.clone()));
    let port = Port {
        channels,
        notes,
        deliveries: to_listener,
        handle: Handle::new(Door::Listener, to_node),
        cancel: cancel.clone(),
    };
    let listener = tokio::spawn(Box::new(listener).run(port));
    Served { addresses, node, deliveries, cancel, listener }
}

/// The driver loop of the stand-in: it ends when the listener lets go of its handle.
async fn answer(
    mut commands: mpsc::Receiver<Command>,
    node: Arc<Mutex<StandIn>>,
    deliveries: mpsc::Sender<Delivery>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Submit { submission, reply } => {
                let (answer, news) = node.lock().unwrap().submit(*submission);
                for news in news {
                    let _ = deliveries.send(Delivery { id: 0, link: None, uncertain: false, news }).await;
                }
                let _ = reply.send(answer);
            }
            Command::History { query, reply } => {
                let _ = reply.send(node.lock().unwrap().history(&query));
            }
            Command::Remember { key, value, reply, .. } => {
                node.lock().unwrap().remember(key, value);
                let _ = reply.send(());
            }
            _ => panic!("not asked by the listener"),
        }
    }
}

impl Served {
    /// Somebody on Matrix speaks.
    async fn said(&self, channel: &str, text: &str) {
        let news = self.node.lock().unwrap().elsewhere("@al:hs.org", channel, Content::text(text));
        for news in news {
            self.deliveries.send(Delivery { id: 0, link: None, uncertain: false, news }).await.unwrap();
        }
    }

    async fn stop(self) -> Arc<Mutex<StandIn>> {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.listener).await.unwrap().unwrap().unwrap();
        self.node
    }

    async fn client(&self, nick: &str) -> Client<TcpStream> {
        let mut client = Client::over(TcpStream::connect(self.addresses[0]).await.unwrap());
        client.register(nick).await;
        client
    }
}

struct Client<S> {
    lines: BufReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    /// Whether PINGs are answered.
    polite: bool,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    fn over(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { lines: BufReader::new(reader), writer, polite: true }
    }

    async fn send(&mut self, line: &str) {
        self.bytes(format!("{line}\r\n").as_bytes()).await;
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    async fn register(&mut self, nick: &str) {
        self.send(&format!("NICK {nick}")).await;
        self.send(&format!("USER {nick} 0 * :{nick}")).await;
        self.until(" 376 ").await;
    }

    /// The next line that is no PING; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.lines.read_line(&mut line)).await;
            if read.expect("a line in time").unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            match line.strip_prefix("PING ") {
                Some(token) if self.polite => self.send(&format!("PONG {token}")).await,
                Some(_) => {}
                None => return Some(line),
            }
        }
    }

    /// The first line that contains a text.
    async fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.next().await.unwrap_or_else(|| panic!("{text:?} before the end"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The texts of everything said up to the one that contains `last`.
    async fn heard(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let line = self.until(" PRIVMSG ").await;
            heard.push(line.split_once(" :").unwrap().1.to_owned());
            if line.contains(last) {
                return heard;
            }
        }
    }
}

#[tokio::test]
async fn people_talk_over_sockets_and_bad_lines_cost_nothing_but_a_reply() {
    let served = serve(&config(None), Arc::default()).await;
    let mut bob = served.client("bob").await;
    let mut carol = served.client("carol").await;
    bob.send("JOIN #c").await;
    bob.until(" 366 ").await;
    carol.send("JOIN #c").await;
    carol.until(" 366 ").await;
    bob.until("carol!carol@multichat.local JOIN #c").await;

    bob.send(&format!("PRIVMSG #c :{}", "x".repeat(600))).await;
    assert_eq!(bob.next().await.unwrap(), ":multichat.local 417 bob :Input line was too long");
    bob.bytes(&[b'A'; 300_000]).await;
    bob.bytes(b"\r\nPRIVMSG #c :\xff\xfe\r\n").await;
    bob.until(" 417 ").await;
    bob.until("FAIL PRIVMSG INVALID_UTF8").await;
    bob.bytes(b"PRIVMSG #c :he\0llo\nPRIVMSG #c :again\r\r\n").await;
    assert_eq!(carol.heard("again").await, ["hello", "again"]);

    // What fits no line with the sender's prefix is refused aloud: nothing is cut off in silence.
    bob.send(&format!("PRIVMSG #c :{}", "x".repeat(495))).await;
    bob.until(" 417 ").await;
    served.said("#c", &"long words ".repeat(90)).await;
    let heard = carol.heard("words").await;
    served.said("#c", "from matrix").await;
    carol.until("from matrix").await;
    assert!(heard[0].len() < 512, "a long text comes in pieces");
    served.stop().await;
    assert_eq!(carol.until("ERROR").await, "ERROR :Closing link: the node is stopping");
}

#[tokio::test]
async fn over_breaks_of_clients_and_node_each_line_comes_once() {
    let mut served = serve(&config(None), Arc::default()).await;
    let mut bob = served.client("bob").await;
    bob.send("JOIN #c").await;
    bob.until(" 366 ").await;
    served.said("#c", "n0").await;
    assert_eq!(bob.heard("n0").await, ["n0"]);
    let mut known = 1;
    for round in 0..4 {
        drop(bob);
        for n in known..known + 150 {
            served.said("#c", &format!("n{n}")).await;
        }
        if round % 2 == 1 {
            let node = served.stop().await;
            served = serve(&config(None), node).await;
        }
        bob = served.client("bob").await;
        bob.send("JOIN #c").await;
        for n in known + 150..known + 160 {
            served.said("#c", &format!("n{n}")).await;
        }
        known += 160;
        let heard = bob.heard(&format!("n{}", known - 1)).await;
        let numbers: Vec<usize> =
            heard.iter().map(|text| text.rsplit('n').next().unwrap().parse().unwrap()).collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..known).collect::<Vec<_>>(), "in order, none twice");
        assert!(first <= known - 160, "none lost");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_over_its_limit_is_slowed_and_nothing_it_said_is_lost() {
    let served = serve(&config(Some(FloodConfig { burst: 5, per_second: 50 })), Arc::default()).await;
    let mut bob = served.client("bob").await;
    let mut carol = served.client("carol").await;
    bob.send("JOIN #c").await;
    bob.until(" 366 ").await;
    carol.send("JOIN #c").await;
    carol.until(" 366 ").await;
    let began = std::time::Instant::now();
    let all: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
    bob.bytes(all.iter().map(|text| format!("PRIVMSG #c :{text}\r\n")).collect::<String>().as_bytes()).await;
    assert_eq!(carol.heard("n59").await, all);
    assert!(began.elapsed() > Duration::from_millis(900), "60 lines, 5 at once, 50 a second");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_and_others_are_not_held_up() {
    let served = serve(&config(None), Arc::default()).await;
    let mut bob = served.client("bob").await;
    bob.send("JOIN #c").await;
    bob.until(" 366 ").await;
    // Small buffers, so that it is behind before the system has taken megabytes for it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = Client::over(socket.connect(served.addresses[0]).await.unwrap());
    deaf.register("deaf").await;
    deaf.send("JOIN #c").await;
    deaf.until(" 366 ").await;
    let text = format!("{}full stop", "much ".repeat(8000));
    let enough = 200;
    for _ in 0..enough {
        served.said("#c", &text).await;
        // Bob reads on.
        bob.until("full stop").await;
    }
    served.said("#c", "end").await;
    bob.until(":end").await;
    bob.send("WHOIS deaf").await;
    // Known as a member, no longer connected.
    bob.until(" 301 bob deaf :not connected").await;
    drop(deaf);
    served.stop().await;
}

#[tokio::test]
async fn tls_serves_the_same() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/irc/listener/testdata");
    let tls = TlsConfig { cert: format!("{here}/cert.pem"), key: format!("{here}/key.pem") };
    let mut config = config(None);
    config.listen.push(ListenConfig { tls: Some(tls), ..ListenConfig::plain("127.0.0.1:0") });
    let served = serve(&config, Arc::default()).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{here}/cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let tcp = TcpStream::connect(served.addresses[1]).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut bob = Client::over(connector.connect(name, tcp).await.unwrap());
    bob.register("bob").await;
    bob.send("JOIN #c").await;
    bob.until(" 366 ").await;
    let mut plain = served.client("carol").await;
    plain.send("JOIN #c").await;
    plain.until(" 366 ").await;
    plain.send("PRIVMSG #c :hello").await;
    assert_eq!(bob.heard("hello").await, ["hello"]);
    plain.send("WHOIS bob").await;
    plain.until(" 671 carol bob :").await;
    // A plain client on the TLS port gets nowhere and harms nobody.
    let mut lost = Client::over(TcpStream::connect(served.addresses[1]).await.unwrap());
    lost.send("NICK x").await;
    while lost.lines.read_until(b'\n', &mut Vec::new()).await.unwrap_or(0) > 0 {}
    bob.send("PING still").await;
    bob.until("PONG multichat.local :still").await;
    served.stop().await;
}

#[tokio::test]
async fn a_taken_port_and_a_missing_certificate_say_what_to_do() {
    let first = Listener::bind(&config(None)).await.unwrap();
    let mut second = config(None);
    second.listen[0].address = first.addresses()[0].to_string();
    let fault = Listener::bind(&second).await.err().unwrap();
    assert!(fault.message.contains("the port is taken: stop the program"), "{fault}");
    second.listen[0].address = "nonsense".into();
    let fault = Listener::bind(&second).await.err().unwrap();
    assert!(fault.message.contains("write host:port"), "{fault}");
    second.listen[0] = ListenConfig {
        tls: Some(TlsConfig { cert: "no-such.pem".into(), key: "no-such.pem".into() }),
        ..ListenConfig::plain("127.0.0.1:0")
    };
    let fault = Listener::bind(&second).await.err().unwrap();
    assert!(fault.message.contains("no-such.pem") && !fault.message.contains('\n'), "{fault}");
}

#[tokio::test]
async fn a_certificate_logs_in_and_a_stranger_does_not_get_the_nick() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/irc/listener/testdata");
    let tls = TlsConfig { cert: format!("{here}/cert.pem"), key: format!("{here}/key.pem") };
    let mut config = config(None);
    config.listen.push(ListenConfig { tls: Some(tls), ..ListenConfig::plain("127.0.0.1:0") });
    let served = serve(&config, Arc::default()).await;
    let own = rcgen::generate_simple_self_signed(vec!["bob".to_owned()]).unwrap();

    let connect = || async {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(format!("{here}/cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.key_pair.serialize_der()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let tcp = TcpStream::connect(served.addresses[1]).await.unwrap();
        Client::over(connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap())
    };
    let mut bob = connect().await;
    bob.register("bob").await;
    bob.send("NS REGISTER sesame").await;
    bob.until("Account created").await;
    bob.send("QUIT").await;
    while bob.next().await.is_some() {}

    let mut again = connect().await;
    again.send("CAP REQ :sasl").await;
    again.send("AUTHENTICATE EXTERNAL").await;
    again.until("AUTHENTICATE +").await;
    again.send("AUTHENTICATE +").await;
    again.until(" 903 ").await;
    again.send("NICK bob").await;
    again.send("USER bob 0 * :bob").await;
    again.send("CAP END").await;
    again.until(" 001 bob ").await;

    let mut stranger = Client::over(TcpStream::connect(served.addresses[0]).await.unwrap());
    stranger.send("NICK bob").await;
    stranger.until(" 433 * bob ").await;
    // What was registered outlives the listener.
    let node = served.stop().await;
    assert!(node.lock().unwrap().notes.contains_key("account/bob"));
}

#[tokio::test]
async fn websockets_and_proxies_bring_clients_too() {
    let mut config = config(None);
    config.listen.push(ListenConfig { websocket: true, ..ListenConfig::plain("127.0.0.1:0") });
    config
        .listen
        .push(ListenConfig { proxies: vec!["127.0.0.1".into()], ..ListenConfig::plain("127.0.0.1:0") });
    config.limits.per_address = 1;
    let served = serve(&config, Arc::default()).await;

    let mut socket = TcpStream::connect(served.addresses[1]).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    for line in ["NICK web", "USER web 0 * :web"] {
        let mut frame = vec![0x81, 0x80 | line.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(line.as_bytes());
        socket.write_all(&frame).await.unwrap();
    }
    let mut got = Vec::new();
    let patience = tokio::time::timeout(PATIENCE, async {
        while !String::from_utf8_lossy(&got).contains(" 376 web ") {
            let mut bytes = [0; 4096];
            let n = tokio::io::AsyncReadExt::read(&mut socket, &mut bytes).await.unwrap();
            assert!(n > 0, "the greeting comes before the end");
            got.extend_from_slice(&bytes[..n]);
        }
    });
    patience.await.unwrap();
    assert!(got.starts_with(b"HTTP/1.1 101 "));

    let through_proxy = || async {
        let mut stream = TcpStream::connect(served.addresses[2]).await.unwrap();
        stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n").await.unwrap();
        Client::over(stream)
    };
    let mut far = through_proxy().await;
    far.register("far").await;
    far.send("WHOIS far").await;
    far.until(" 338 far far 192.0.2.7 ").await;
    let mut second = through_proxy().await;
    second.until("too many connections from your address").await;
    served.stop().await;
}

//! The link to an IRC network against a real ircd (ngIRCd), with a stand-in for the node on the
//! other side of the port.

use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use multichat::base::config::{Consent, NetworkConfig, SaslConfig};
use multichat::base::{ChannelId, EventId, Identity, Kind, Timestamp};
use multichat::chat::access::Role;
use multichat::chat::intent::{Actor, Intent, Submission};
use multichat::chat::message::{Content, Link, Style};
use multichat::chat::profile::Profile;
use multichat::chat::view::{ChannelView, Member, News, What};
use multichat::irc::network::Network;
use multichat::port::{Command, Connector, Delivery, Fault, Handle, Outcome, Port, Receipt, Refusal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::peers;

mod moderation;
mod whole;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running ngIRCd; stopped when dropped.
struct Ircd {
    program: PathBuf,
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl Ircd {
    async fn prepare(name: &str) -> Self {
        let program = peers::ngircd_program().await.expect("ngIRCd can be had");
        let folder = std::env::temp_dir().join(format!("multichat-it-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "[Global]\nName = irc.test.local\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\nMotdPhrase = hello\n\
             ServerUID = nobody\nServerGID = nogroup\n\
             [Limits]\nMaxPenaltyTime = 0\nMaxConnectionsIP = 0\nMaxNickLength = 20\nMaxJoins = 100\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\nSyslogFacility = local1\n"
        );
        std::fs::write(folder.join("ngircd.conf"), text).unwrap();
        let mut ircd = Self { program, child: None, folder, port };
        ircd.start();
        ircd
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = Process::new(&self.program)
            .args(["-n", "-f"])
            .arg(self.folder.join("ngircd.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Ircd {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A person on the ircd, in `#test`.
struct Person {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Person {
    async fn join(ircd: &Ircd, nick: &str) -> Self {
        let stream = poll(|| async { TcpStream::connect(ircd.address()).await.ok() }).await;
        let (reader, writer) = stream.into_split();
        let mut person = Self { lines: BufReader::new(reader).lines(), writer };
        person.say(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\nJOIN #test")).await;
        person.expect(" 366 ").await;
        person
    }

    async fn say(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// The next line that holds `text`.
    async fn expect(&mut self, text: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line =
                line.unwrap_or_else(|_| panic!("waited for {text}")).unwrap().expect("the ircd closed");
            if let Some(token) = line.strip_prefix("PING ") {
                self.say(&format!("PONG {token}")).await;
            }
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until the relay is in the channel.
    async fn meet(&mut self, relay: &str) {
        loop {
            self.say("NAMES #test").await;
            if self.expect(" 353 ").await.contains(relay) {
                return self.expect(" 366 ").await.clear();
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn poll<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let tries = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, tries).await.expect("it never came")
}

/// The connector under test, with a stand-in for the node.
struct Rig {
    address: String,
    deliveries: mpsc::Sender<Delivery>,
    submissions: mpsc::UnboundedReceiver<Submission>,
    reports: mpsc::UnboundedReceiver<(u64, Outcome)>,
    remembered: mpsc::UnboundedReceiver<(String, String)>,
    cancel: CancellationToken,
    running: JoinHandle<Result<(), Fault>>,
}

impl Rig {
    fn start(address: String, sasl: Option<SaslConfig>) -> Self {
        Self::start_with(address, sasl, None)
    }

    fn start_with(address: String, sasl: Option<SaslConfig>, roots: Option<rustls::RootCertStore>) -> Self {
        let config = NetworkConfig {
            tls: roots.is_some(),
            owner: Some("op@example.org".into()),
            sasl,
            consent: Consent::Given,
            flood: None,
            ..NetworkConfig::at(address.clone(), "relay")
        };
        Self::start_of(config, roots, Vec::new())
    }

    fn start_of(
        config: NetworkConfig,
        roots: Option<rustls::RootCertStore>,
        notes: Vec<(String, Vec<u8>)>,
    ) -> Self {
        let address = config.address.clone();
        let mut network = Network::new("test".into(), config);
        if let Some(roots) = roots {
            network = network.with_roots(roots);
        }
        let (commands, requests) = mpsc::channel(64);
        let (deliveries, receiver) = mpsc::channel(4096);
        let (submitted, submissions) = mpsc::unbounded_channel();
        let (reported, reports) = mpsc::unbounded_channel();
        let (noted, remembered) = mpsc::unbounded_channel();
        tokio::spawn(stand_in(requests, submitted, reported, noted));
        let cancel = CancellationToken::new();
        let port = Port {
            channels: vec![channel(&address)],
            notes,
            deliveries: receiver,
            handle: Handle::new(network.door(), commands),
            cancel: cancel.clone(),
        };
        let running = tokio::spawn(Box::new(network).run(port));
        Self { address, deliveries, submissions, reports, remembered, cancel, running }
    }

    async fn deliver(&self, id: u64, name: &str, content: Content) {
        let link = Some(link(&self.address));
        let delivery = Delivery { id, link, uncertain: false, news: news(id, name, content) };
        self.deliveries.send(delivery).await.unwrap();
    }

    async fn report(&mut self) -> (u64, Outcome) {
        timeout(PATIENCE, self.reports.recv()).await.expect("no report").unwrap()
    }

    async fn heard(&mut self) -> (String, Content) {
        let submission = loop {
            let next = timeout(PATIENCE, self.submissions.recv()).await.expect("nothing was heard").unwrap();
            // Who came after the relay did joins before they speak.
            if !matches!(next.intent, Intent::JoinChannel { .. }) {
                break next;
            }
        };
        let Actor::Person { account, .. } = submission.actor else { panic!("{:?}", submission.actor) };
        let Intent::SendMessage { content, .. } = submission.intent else {
            panic!("{:?}", submission.intent)
        };
        (account, content)
    }

    async fn deliver_news(&self, id: u64, name: &str, what: What) {
        let news = News { what, ..news(id, name, Content::text("x")) };
        let delivery = Delivery { id, link: Some(link(&self.address)), uncertain: false, news };
        self.deliveries.send(delivery).await.unwrap();
    }

    /// The next wish: who (without the network), and what.
    async fn wish(&mut self) -> (String, Intent) {
        let next = timeout(PATIENCE, self.submissions.recv()).await.expect("no wish came").unwrap();
        let Actor::Person { account, .. } = next.actor else { panic!("{:?}", next.actor) };
        let nick = account.strip_suffix(&format!("@{}", self.address)).expect("their home").to_owned();
        (nick, next.intent)
    }

    async fn note(&mut self) -> (String, String) {
        timeout(PATIENCE, self.remembered.recv()).await.expect("no note came").unwrap()
    }

    async fn stop(self) {
        self.cancel.cancel();
        assert_eq!(timeout(PATIENCE, self.running).await.expect("it does not stop").unwrap(), Ok(()));
    }
}

async fn stand_in(
    mut requests: mpsc::Receiver<Command>,
    submitted: mpsc::UnboundedSender<Submission>,
    reported: mpsc::UnboundedSender<(u64, Outcome)>,
    noted: mpsc::UnboundedSender<(String, String)>,
) {
    while let Some(command) = requests.recv().await {
        match command {
            Command::Submit { submission, reply } => {
                // This channel's policy lets nobody moderate but Op.
                let lets = match (&submission.actor, &submission.intent) {
                    (
                        _,
                        Intent::SendMessage { .. } | Intent::LeaveChannel { .. } | Intent::JoinChannel { .. },
                    ) => true,
                    (Actor::Person { profile, .. }, _) => profile.username == "Op",
                    _ => false,
                };
                let _ = submitted.send(*submission);
                let receipt = Receipt { event: Some(EventId([200; 32])), ..Receipt::default() };
                let _ = reply.send(if lets { Ok(receipt) } else { Err(Refusal::NotPermitted("set_topic")) });
            }
            Command::Report { delivery, outcome, .. } => {
                let _ = reported.send((delivery, outcome));
            }
            Command::Remember { key, value, reply, .. } => {
                let _ = noted.send((key, String::from_utf8(value).unwrap()));
                let _ = reply.send(());
            }
            Command::History { reply, .. } => {
                let _ = reply.send(Vec::new());
            }
            _ => panic!("the connector asks for nothing else"),
        }
    }
}

fn link(address: &str) -> Link {
    Link::Irc { network: address.into(), channel: "#test".into() }
}

fn channel(address: &str) -> ChannelView {
    ChannelView {
        id: ChannelId([7; 32]),
        name: "#test".into(),
        topic: String::new(),
        created_at: Timestamp(0),
        policy: Default::default(),
        members: Vec::new(),
        links: vec![link(address)],
    }
}

fn news(id: u64, name: &str, content: Content) -> News {
    let profile = Profile { username: name.into(), ..Profile::default() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    News {
        event: EventId([id as u8; 32]),
        channel: ChannelId([7; 32]),
        channel_name: "#test".into(),
        position: id,
        at: Timestamp(now.as_millis() as u64),
        author: Member { identity: Identity([1; 32]), role: Role::Member, profile },
        tag: 0,
        what: What::Message(content),
    }
}

/// A line without the mark that keeps names from highlighting.
fn plain(line: &str) -> String {
    line.replace('\u{200b}', "")
}

#[tokio::test]
async fn two_relays_in_one_channel_do_not_hear_each_other() {
    let ircd = Ircd::prepare("ignore").await;
    let mut bob = Person::join(&ircd, "bob").await;
    let relay = |nick: &str, ignored: &str| {
        let ignore = vec![ignored.to_owned()];
        let (consent, flood) = (Consent::Given, None);
        let config = NetworkConfig { consent, flood, ignore, ..NetworkConfig::at(ircd.address(), nick) };
        Rig::start_of(config, None, Vec::new())
    };
    let (mut one, mut two) = (relay("relay1", "RELAY2"), relay("relay2", "relay1"));
    bob.meet("relay1").await;
    bob.meet("relay2").await;
    one.deliver(1, "alice", Content::text("by one")).await;
    assert!(plain(&bob.expect("by one").await).ends_with("<alice> by one"));
    two.deliver(1, "carol", Content::text("by two")).await;
    assert!(plain(&bob.expect("by two").await).ends_with("<carol> by two"));
    bob.say("PRIVMSG #test :from bob").await;
    // What comes first is what bob said last.
    for rig in [&mut one, &mut two] {
        assert_eq!(rig.heard().await.1.body, "from bob");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn text_action_and_notice_both_ways() {
    let ircd = Ircd::prepare("both-ways").await;
    let mut rig = Rig::start(ircd.address(), None);
    let mut bob = Person::join(&ircd, "Bob").await;
    bob.meet("relay").await;

    for (id, style, expect) in [
        (1, Style::Text, "PRIVMSG #test :<alice> hello"),
        (2, Style::Emote, "PRIVMSG #test :* alice hello"),
        (3, Style::Notice, "NOTICE #test :<alice> hello"),
    ] {
        rig.deliver(id, "alice", Content { style, ..Content::text("hello") }).await;
        let line = plain(&bob.expect("hello").await);
        assert!(line.starts_with(":relay!") && line.ends_with(expect), "{line}");
        assert_eq!(rig.report().await, (id, Outcome::Delivered { external_id: None }));
    }

    bob.say("PRIVMSG #test :héllo \x02there\x02").await;
    bob.say("PRIVMSG #test :\x01ACTION waves\x01").await;
    bob.say("NOTICE #test :note").await;
    let mut ids = Vec::new();
    for (style, body, formatted) in [
        (Style::Text, "héllo there", Some("héllo <b>there</b>")),
        (Style::Emote, "waves", None),
        (Style::Notice, "note", None),
    ] {
        let (account, content) = rig.heard().await;
        assert_eq!(account, format!("bob@{}", ircd.address()));
        assert_eq!(
            (content.style, content.body.as_str(), content.formatted.as_deref()),
            (style, body, formatted)
        );
        let origin = content.origin.unwrap();
        assert_eq!(origin.link, link(&ircd.address()));
        ids.push(origin.external_id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);

    bob.say("PRIVMSG relay :\x01VERSION\x01").await;
    assert!(bob.expect("VERSION").await.contains("NOTICE Bob :\x01VERSION Multichat"));
    rig.stop().await;
    bob.expect("QUIT").await;
}

#[tokio::test]
async fn long_lines_arrive_whole() {
    let ircd = Ircd::prepare("long-lines").await;
    let mut rig = Rig::start(ircd.address(), None);
    let mut bob = Person::join(&ircd, "bob").await;
    bob.meet("relay").await;

    let text: String = (0..400).map(|n| format!("{n}é漢👍🏽")).collect();
    rig.deliver(1, "alice", Content::text(text.clone())).await;
    rig.deliver(2, "alice", Content::text("the end")).await;
    let (mut got, mut lines) = (String::new(), Vec::new());
    loop {
        let line = bob.expect("PRIVMSG #test").await;
        let said = plain(&line);
        let said = said.split_once(":<alice> ").expect("its author").1;
        if said == "the end" {
            break;
        }
        got.push_str(said);
        lines.push(line.len() + 2);
    }
    assert_eq!(got, text);
    let (last, full) = lines.split_last().unwrap();
    assert!(*last <= 512);
    // The longest grapheme has eight bytes: a line that is not the last has no room for another.
    assert!(full.iter().all(|bytes| (505..=512).contains(bytes)), "{full:?}");
    assert_eq!(rig.report().await.0, 1);
    assert_eq!(rig.report().await.0, 2);
    rig.stop().await;
}

/// The ircd goes in the middle of a conversation and comes back. The test stands in for the outbox:
/// after a `Retry`, that delivery and all after it come again, in order.
#[tokio::test]
async fn nothing_is_lost_while_the_network_is_away() {
    let mut ircd = Ircd::prepare("restart").await;
    let mut rig = Rig::start(ircd.address(), None);
    let mut bob = Person::join(&ircd, "bob").await;
    bob.meet("relay").await;

    const COUNT: u64 = 120;
    let mut heard: Vec<u64> = Vec::new();
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    for id in 1..=40 {
        rig.deliver(id, "alice", Content::text(format!("number {id}"))).await;
    }
    for _ in 1..=20 {
        heard.push(number(&bob.expect("number").await));
    }
    ircd.stop();
    for id in 41..=COUNT {
        rig.deliver(id, "alice", Content::text(format!("number {id}"))).await;
    }
    drop(bob);
    sleep(Duration::from_millis(700)).await;
    ircd.start();
    let mut bob = Person::join(&ircd, "bob").await;

    let mut delivered = Vec::new();
    while delivered.len() < COUNT as usize {
        tokio::select! {
            line = bob.expect("number") => heard.push(number(&line)),
            (id, outcome) = async { timeout(PATIENCE, rig.reports.recv()).await.expect("no report").unwrap() } => match outcome {
                Outcome::Delivered { .. } => delivered.push(id),
                Outcome::Retry { .. } => {
                    for id in id..=COUNT {
                        rig.deliver(id, "alice", Content::text(format!("number {id}"))).await;
                    }
                }
                Outcome::Failed { reason } => panic!("{reason}"),
            },
        }
    }
    while heard.last() != Some(&COUNT) {
        heard.push(number(&bob.expect("number").await));
    }
    assert_eq!(delivered, (1..=COUNT).collect::<Vec<_>>());
    // What Bob heard has no gap and is in order, but for the one place where the connection broke:
    // there the relay repeats what was not confirmed, or speaks before Bob is back.
    let breaks = heard.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(breaks <= 1 && heard.last() == Some(&COUNT), "{heard:?}");
    rig.stop().await;
}

/// A server that knows SASL and refuses every password.
#[tokio::test]
async fn a_wrong_password_ends_with_a_clear_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.as_str() {
                "CAP LS 302" => ":srv CAP * LS :sasl=PLAIN\r\n",
                "CAP REQ sasl" | "CAP REQ :sasl" => ":srv CAP * ACK :sasl\r\n",
                "AUTHENTICATE PLAIN" => "AUTHENTICATE +\r\n",
                _ if line.starts_with("AUTHENTICATE ") => ":srv 904 * :SASL authentication failed\r\n",
                _ => "",
            };
            writer.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let sasl = SaslConfig::with_password("acc", "wrong");
    let rig = Rig::start(address, Some(sasl));
    let fault = timeout(PATIENCE, rig.running).await.expect("it goes on").unwrap().unwrap_err();
    assert_eq!(fault.kind, Kind::Denied);
    assert_eq!(
        fault.message,
        "irc network test: the network refused the account acc: SASL authentication failed; \
         check sasl.account and sasl.password"
    );
    server.await.unwrap();
}

/// Puts TLS before an ircd; gives the address and the certificate to trust.
async fn tls_before(ircd: &Ircd) -> (String, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.key_pair.serialize_der()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, behind) = (listener.local_addr().unwrap().to_string(), ircd.address());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let Ok(mut inner) = TcpStream::connect(behind).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    (address, roots)
}

#[tokio::test]
async fn a_network_behind_tls() {
    let ircd = Ircd::prepare("tls").await;
    let (address, roots) = tls_before(&ircd).await;
    let mut rig = Rig::start_with(address.clone(), None, Some(roots));
    let mut bob = Person::join(&ircd, "bob").await;
    bob.meet("relay").await;
    rig.deliver(1, "alice", Content::text("hello")).await;
    assert!(plain(&bob.expect("hello").await).ends_with("PRIVMSG #test :<alice> hello"));
    assert_eq!(rig.report().await, (1, Outcome::Delivered { external_id: None }));
    bob.say("PRIVMSG #test :hi").await;
    assert_eq!(rig.heard().await.0, format!("bob@{address}"));
    rig.stop().await;

    // A certificate that nobody trusts keeps it out.
    let other = rustls::RootCertStore::empty();
    let rig = Rig::start_with(address, None, Some(other));
    sleep(Duration::from_millis(500)).await;
    bob.say("NAMES #test").await;
    assert!(!bob.expect(" 353 ").await.contains("relay"));
    rig.stop().await;
}

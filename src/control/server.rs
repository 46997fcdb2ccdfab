//! The answering side of the control socket. A lock in the data directory, held while the node
//! lives and freed by the kernel whatever ends it, tells a live node from a stale socket file.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::market::MarketReport;
use super::protocol::{as_named, with_hash};
use super::reports::{ChannelReport, ChannelSummary, FoundReport, MessageReport, StatusReport};
use super::{
    ANSWER_BYTES, Answer, CONNECTIONS, DomainInvite, Done, REQUEST_BYTES, Refused, Request, read_line,
};
use crate::base::config::Admission;
use crate::base::key::SecretKey;
use crate::base::{EventId, Kind, Timestamp, limits};
use crate::chat::invite::Invite;
use crate::chat::view::ChannelView;
use crate::overlay::admission::Pass;
use crate::overlay::domain::DomainReport;
use crate::port::{Fault, Handle, HistoryQuery, Range, Receipt, Refusal, SearchQuery, Stopped};

/// How long a connection may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How long a node waits for a channel that an invite link leads to.
const FETCH: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);
/// What the notes of addresses begin with.
const ADDRESS_NOTE: &str = "address ";
/// How long answers that are under way may take when the node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// The socket, bound and locked; nobody is answered yet.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    around: Neighbourhood,
    /// Held for its lock.
    _lock: File,
}

/// How this node and others reach each other.
#[derive(Clone, Debug, Default)]
pub struct Neighbourhood {
    /// Where others reach this node.
    pub addresses: Vec<String>,
    /// Takes addresses of nodes that are worth dialling.
    pub introduce: Option<mpsc::Sender<String>>,
    /// What there is to tell of each domain.
    pub domains: Option<watch::Receiver<Vec<DomainReport>>>,
    /// The node's transport key: it signs invites into domains that this node founded.
    pub key: Option<SecretKey>,
}

/// The addresses that invite links brought, as they were remembered.
pub fn remembered_addresses(notes: Vec<(String, Vec<u8>)>) -> Vec<String> {
    notes.into_iter().filter_map(|(key, _)| key.strip_prefix(ADDRESS_NOTE).map(str::to_owned)).collect()
}

/// Binds the socket at `path` and answers until cancelled.
///
/// # Errors
/// A [`Fault`] as of [`Socket::bind`].
pub async fn serve(path: PathBuf, handle: Handle, cancel: CancellationToken) -> Result<(), Fault> {
    Socket::bind(&path)?.serve(handle, cancel).await;
    Ok(())
}

impl Socket {
    /// Takes the lock beside `path`, then replaces the socket file, mode 0600, by a new one. Call
    /// it inside a tokio runtime and before anything else touches the data directory.
    ///
    /// # Errors
    /// A [`Fault`] that says what to do: another node runs there, or the directory is unfit.
    pub fn bind(path: &Path) -> Result<Self, Fault> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let lock = lock(dir, &path.with_extension("lock"))?;
        let listener = bind_privately(dir, path).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::InvalidInput => format!(
                    "{}: too long a path for a Unix socket (107 bytes); choose a shorter data_dir",
                    path.display()
                ),
                _ => format!("cannot make {}: {error}; choose another data_dir", path.display()),
            };
            Fault::new(Kind::Permanent, message)
        })?;
        let around = Neighbourhood::default();
        Ok(Self { path: path.to_owned(), listener, around, _lock: lock })
    }

    /// With what it takes to make and use invite links between nodes.
    #[must_use]
    pub fn near(mut self, around: Neighbourhood) -> Self {
        self.around = around;
        self
    }

    /// Answers until cancelled, then removes the socket file.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let has_room = connections.len() < CONNECTIONS;
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = connections.join_next(), if !has_room => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        let desk = Desk { handle: handle.clone(), around: self.around.clone() };
                        connections.spawn(converse(stream, desk, cancel.clone()));
                    }
                    Err(error) => {
                        tracing::warn!("control socket: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("control socket: closed with answers under way");
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(dir: &Path, path: &Path) -> Result<File, Fault> {
    let unfit = |error: io::Error| {
        let message =
            format!("cannot write in {}: {error}; choose another data_dir or its owner", dir.display());
        Fault::new(Kind::Permanent, message)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unfit)?;
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(unfit)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let message = format!(
                "another node runs on this data directory ({}): stop it, or give this one its own data_dir",
                dir.display()
            );
            Err(Fault::new(Kind::Denied, message))
        }
        Err(fs::TryLockError::Error(error)) => Err(unfit(error)),
    }
}

/// Binds in a directory that only we can enter and moves the socket out once its mode is right:
/// there is no moment at which another user could connect.
fn bind_privately(dir: &Path, path: &Path) -> io::Result<UnixListener> {
    let private = dir.join(format!(".c{}", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let inside = private.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    bound
}

/// What answering takes.
struct Desk {
    handle: Handle,
    around: Neighbourhood,
}

async fn converse(stream: UnixStream, desk: Desk, cancel: CancellationToken) {
    let mut stream = BufReader::new(stream);
    loop {
        let line = tokio::select! {
            () = cancel.cancelled() => return,
            line = tokio::time::timeout(IDLE, read_line(&mut stream, REQUEST_BYTES)) => line,
        };
        let (answer, goes_on) = match line {
            Ok(Ok(Some(line))) => (answer_line(&line, &desk).await, true),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                (refused(Kind::Invalid, format!("the request is too long: {error}")), false)
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        };
        if stream.write_all(&encode(&answer)).await.is_err() || !goes_on {
            return;
        }
    }
}

fn encode(answer: &Answer) -> Vec<u8> {
    let encoded = serde_json::to_vec(answer).ok().filter(|line| line.len() < ANSWER_BYTES);
    let mut line = encoded.unwrap_or_else(|| {
        br#"{"refused":{"kind":"Invalid","reason":"the answer is too long: ask for less, such as a smaller --limit"}}"#
            .to_vec()
    });
    line.push(b'\n');
    line
}

async fn answer_line(line: &[u8], desk: &Desk) -> Answer {
    match serde_json::from_slice::<Request>(line) {
        Ok(request) => answer(request, desk).await.unwrap_or_else(Answer::Refused),
        Err(error) => refused(Kind::Invalid, format!("not a request: {error}")),
    }
}

async fn answer(request: Request, desk: &Desk) -> Result<Answer, Refused> {
    let handle = &desk.handle;
    match request {
        Request::Status => Ok(Answer::Status(StatusReport::from(handle.status().await?))),
        Request::Channels => {
            let channels = handle.channels().await?;
            Ok(Answer::Channels(channels.iter().map(ChannelSummary::from).collect()))
        }
        Request::Domains => Ok(Answer::Domains(domains(desk))),
        Request::InviteToDomain { domain, expires_at_ms } => invite_to(desk, &domain, expires_at_ms),
        Request::Channel { channel } => {
            Ok(Answer::Channel(ChannelReport::from(&find(handle, &channel).await?)))
        }
        Request::MarketOf { channel } => {
            let channel = find(handle, &channel).await?;
            let market = handle.market(channel.id).await?;
            let others = handle.channels().await?.into_iter().map(|other| (other.id, other.name));
            Ok(Answer::Market(MarketReport::of(&market, &channel, &others.collect())))
        }
        Request::History { channel, before, limit } => history(handle, &channel, before, limit).await,
        Request::Search { words, channel, limit } => {
            let channel = match channel {
                Some(channel) => Some(find(handle, &channel).await?.id),
                None => None,
            };
            let limit = limit.min(limits::SEARCH_RESULTS);
            let found = handle.search(SearchQuery { words, channel, limit }).await?;
            Ok(Answer::Found(found.iter().map(FoundReport::from).collect()))
        }
        Request::Backup { path } => match handle.backup(PathBuf::from(path)).await {
            Ok(()) => Ok(Answer::Done(Done::default())),
            Err(fault) => Err(Refused { kind: fault.kind, reason: fault.message }),
        },
        wish => submit(desk, wish).await,
    }
}

fn domains(desk: &Desk) -> Vec<DomainReport> {
    desk.around.domains.as_ref().map(|reports| reports.borrow().clone()).unwrap_or_default()
}

fn invite_to(desk: &Desk, name: &str, expires_at_ms: Option<u64>) -> Result<Answer, Refused> {
    let refused = |kind: Kind, reason: String| Err(Refused { kind, reason });
    let all = domains(desk);
    let Some(domain) = all.iter().find(|domain| domain.name == name) else {
        let names: Vec<&str> = all.iter().map(|domain| domain.name.as_str()).collect();
        return refused(Kind::NotFound, format!("this node is not in `{name}`, but in {}", names.join(", ")));
    };
    let Some(key) = desk.around.key.as_ref().filter(|_| domain.founder) else {
        let why = match domain.admission {
            Admission::Invite => "only its founder's node can",
            Admission::Open => "anybody may join it: its name and topology are all it takes",
            Admission::Psk => "whoever has its pre-shared key may join it",
        };
        return refused(Kind::Denied, format!("no invites into `{name}` from here: {why}"));
    };
    let mut salt = [0; 32];
    if let Err(error) = getrandom::fill(&mut salt) {
        return refused(Kind::Retry, format!("no random bytes from the system: {error}"));
    }
    let expires = Timestamp(expires_at_ms.unwrap_or(u64::MAX));
    Ok(Answer::DomainInvite(DomainInvite {
        domain: domain.name.clone(),
        topology: domain.topology,
        invite: Pass::issue(&domain.name, key, expires, salt).to_string(),
        addresses: desk.around.addresses.clone(),
    }))
}

async fn history(
    handle: &Handle,
    channel: &str,
    before: Option<String>,
    limit: usize,
) -> Result<Answer, Refused> {
    let range = match before {
        None => Range::Latest,
        Some(text) => Range::Before(text.parse::<EventId>().map_err(|error| Refused {
            kind: Kind::Invalid,
            reason: format!("`{text}` is {error}: take an `event` from `multichat history --json`"),
        })?),
    };
    let channel = find(handle, channel).await?.id;
    let limit = limit.min(limits::HISTORY_MESSAGES);
    let news = handle.history(HistoryQuery { channel, range, limit }).await?;
    Ok(Answer::History(news.iter().map(MessageReport::from).collect()))
}

async fn submit(desk: &Desk, wish: Request) -> Result<Answer, Refused> {
    let handle = &desk.handle;
    let invite = match &wish {
        Request::Join { channel, .. } => channel.parse::<Invite>().ok(),
        _ => None,
    };
    if let Some(invite) = &invite {
        fetch(desk, invite).await?;
    }
    let named = wish.channel().filter(|_| invite.is_none()).map(ToOwned::to_owned);
    let channel = named.or_else(|| Some(invite.as_ref()?.channel.to_string()));
    let acting = wish.user().map(|user| format!(" --as '{user}'")).unwrap_or_default();
    let invalid = |reason: String| Refused { kind: Kind::Invalid, reason };
    let view = match &channel {
        Some(channel) => find(handle, channel).await.ok(),
        None => None,
    };
    let submission = wish.into_submission(view.as_ref()).map_err(|error| invalid(error.to_string()))?;
    let submission = submission.ok_or_else(|| invalid("that is a question, not a wish".into()))?;
    match handle.submit(submission).await {
        Ok(receipt) => done(desk, receipt, channel).await,
        Err(refusal) => {
            let reason = format!("{refusal}{}", advice(&refusal, channel.as_deref(), &acting));
            Err(Refused { kind: refusal.kind(), reason })
        }
    }
}

/// What is said of a wish that was granted; the channel by its name, where it is another than was asked.
async fn done(desk: &Desk, receipt: Receipt, channel: Option<String>) -> Result<Answer, Refused> {
    let named = channel.as_deref().map(as_named);
    let view = match receipt.channel {
        Some(id) => desk.handle.channels().await?.into_iter().find(|view| view.id == id),
        None => None,
    };
    Ok(Answer::Done(Done {
        channel: view.map(|view| view.name).or(named),
        event: receipt.event.map(|event| event.to_string()),
        withheld: receipt.withheld.iter().map(ToString::to_string).collect(),
        invite: receipt.invite.map(|invite| invite.via(desk.around.addresses.iter().cloned()).to_string()),
    }))
}

/// Sees to it that the channel of an invite link is here: has its nodes dialled, remembers them for the
/// next start, and waits for it a while.
async fn fetch(desk: &Desk, invite: &Invite) -> Result<(), Refused> {
    let is_here = async |desk: &Desk| -> Result<bool, Refused> {
        let channels = desk.handle.channels().await?;
        Ok(channels.iter().any(|view| view.id == invite.channel))
    };
    if is_here(desk).await? {
        return Ok(());
    }
    for address in &invite.via {
        desk.handle.remember(format!("{ADDRESS_NOTE}{address}"), b"1".to_vec()).await?;
        if let Some(introduce) = &desk.around.introduce {
            let _ = introduce.send(address.clone()).await;
        }
    }
    let until = tokio::time::Instant::now() + FETCH;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        if is_here(desk).await? {
            return Ok(());
        }
    }
    let reason = "no node that has the channel could be reached: is one of the link's addresses reachable \
                  from here? see `multichat peers`, and try again";
    Err(Refused { kind: Kind::Retry, reason: reason.into() })
}

/// What to do about a refusal, where its own words do not say so.
fn advice(refusal: &Refusal, channel: Option<&str>, acting: &str) -> String {
    let name = channel.map(as_named).unwrap_or_default();
    match refusal {
        Refusal::NotAMember => format!(": join it with `multichat channel join '{name}'{acting}`"),
        Refusal::NoSuchChannel(_) => {
            ": see `multichat channels`, or make it with `multichat channel create`".into()
        }
        Refusal::ChannelExists(_) => format!(": join it with `multichat channel join '{name}'{acting}`"),
        Refusal::LinkTaken(_) => ": take it away first with `multichat link remove`".into(),
        Refusal::NoSuchLink => ": see `multichat links`".into(),
        Refusal::NotPermitted(_) => ": ask a founder or admin of the channel".into(),
        Refusal::Stopping => ": try again once it runs".into(),
        Refusal::NoSuchPerson(_) => format!(": see `multichat members '{name}'`"),
        Refusal::Banned | Refusal::NotInvited | Refusal::Malformed(_) | Refusal::Full(_) => String::new(),
    }
}

async fn find(handle: &Handle, channel: &str) -> Result<ChannelView, Refused> {
    let name = with_hash(channel);
    let channels = handle.channels().await?;
    let found = channels.into_iter().find(|view| view.name == name || view.id.to_string() == channel);
    found.ok_or_else(|| {
        let refusal = Refusal::NoSuchChannel(name);
        Refused { kind: refusal.kind(), reason: format!("{refusal}{}", advice(&refusal, None, "")) }
    })
}

fn refused(kind: Kind, reason: String) -> Answer {
    Answer::Refused(Refused { kind, reason })
}

impl From<Stopped> for Refused {
    fn from(stopped: Stopped) -> Self {
        Self { kind: Kind::Retry, reason: format!("{stopped}: try again once it runs") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChannelId, Identity, NodeId, Timestamp};
    use crate::chat::access::Role;
    use crate::chat::intent::{Actor, Intent};
    use crate::chat::message::{Content, Link};
    use crate::chat::profile::Profile;
    use crate::chat::view::{Member, News, What};
    use crate::control::{AskError, Client, Place, socket_path};
    use crate::port::{Command, Door, NodeStatus};

    /// A directory of the test's own, gone with it.
    struct Home(PathBuf);

    impl Home {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("multichat-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn alice() -> Member {
        let profile = Profile { username: "alice".into(), ..Profile::default() };
        Member { identity: Identity([3; 32]), role: Role::Founder, profile }
    }

    fn rust() -> ChannelView {
        ChannelView {
            id: ChannelId([1; 32]),
            name: "#rust".into(),
            topic: "crabs".into(),
            created_at: Timestamp(5),
            policy: Default::default(),
            members: vec![alice()],
            links: vec![Link::Matrix { room: "!r".into() }],
        }
    }

    /// Answers as a node with one channel would, and tells what it was asked to do.
    async fn pretend(mut commands: mpsc::Receiver<Command>, told: mpsc::UnboundedSender<String>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Status { reply } => {
                    let status = NodeStatus { node: NodeId([9; 32]), channels: 1, ..NodeStatus::default() };
                    let _ = reply.send(status);
                }
                Command::Channels { reply } => {
                    let _ = reply.send(vec![rust()]);
                }
                Command::History { query, reply } => {
                    let _ = told.send(format!("{:?} {}", query.range, query.limit));
                    let what = What::Message(Content::text("hello"));
                    let news = News {
                        event: EventId([2; 32]),
                        channel: query.channel,
                        channel_name: "#rust".into(),
                        position: 1,
                        at: Timestamp(7),
                        author: alice(),
                        tag: 0,
                        what,
                    };
                    let _ = reply.send(vec![news]);
                }
                Command::Submit { submission, reply } => {
                    let result = match (&submission.actor, &submission.intent) {
                        (Actor::Node, Intent::SendMessage { .. }) => Err(Refusal::NotAMember),
                        _ => Ok(Receipt {
                            channel: Some(rust().id),
                            event: Some(EventId([4; 32])),
                            ..Receipt::default()
                        }),
                    };
                    let _ = told.send(format!("{:?}", submission.intent));
                    let _ = reply.send(result);
                }
                _ => unreachable!("the control door asks nothing else"),
            }
        }
    }

    struct Running {
        home: Home,
        cancel: CancellationToken,
        server: tokio::task::JoinHandle<()>,
        told: mpsc::UnboundedReceiver<String>,
    }

    fn start(name: &str) -> Running {
        let home = Home::new(name);
        let (node, commands) = mpsc::channel(8);
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(pretend(commands, tell));
        let socket = Socket::bind(&socket_path(&home.0)).expect("binds");
        let cancel = CancellationToken::new();
        let server = tokio::spawn(socket.serve(Handle::new(Door::Control, node), cancel.clone()));
        Running { home, cancel, server, told }
    }

    fn send(user: Option<&str>) -> Request {
        Request::Send {
            channel: "rust".into(),
            text: "hi".into(),
            expires_at_ms: None,
            user: user.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn questions_and_wishes_reach_the_node_and_its_answers_come_back() {
        let mut running = start("talk");
        let mut client = Client::connect(&running.home.0).await.unwrap();
        let Ok(Answer::Status(status)) = client.ask(&Request::Status).await else { panic!() };
        assert_eq!((status.node, status.channels), (NodeId([9; 32]).to_string(), 1));

        let Ok(Answer::Channels(channels)) = client.ask(&Request::Channels).await else { panic!() };
        assert_eq!((channels[0].name.as_str(), channels[0].members), ("#rust", 1));
        assert_eq!(channels[0].links, [Place::Matrix("!r".into())]);

        for name in ["RUST", "#rust", &ChannelId([1; 32]).to_string()] {
            let asked = client.ask(&Request::Channel { channel: name.into() }).await;
            let Ok(Answer::Channel(channel)) = asked else { panic!("{name}: {asked:?}") };
            assert_eq!((channel.topic.as_str(), channel.members[0].role.as_str()), ("crabs", "founder"));
        }

        let Ok(Answer::Done(done)) = client.ask(&send(Some("carol"))).await else { panic!() };
        assert_eq!(
            done,
            Done {
                channel: Some("#rust".into()),
                event: Some(EventId([4; 32]).to_string()),
                ..Done::default()
            }
        );
        assert!(running.told.recv().await.unwrap().contains("SendMessage"));

        let before = Some(EventId([2; 32]).to_string());
        let request = Request::History { channel: "rust".into(), before, limit: 5_000_000 };
        let Ok(Answer::History(messages)) = client.ask(&request).await else { panic!() };
        assert_eq!((messages[0].text.as_str(), messages[0].at_ms), ("hello", 7));
        let told = running.told.recv().await.unwrap();
        assert!(told.starts_with("Before(") && told.ends_with(" 1000"), "{told}");
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        let running = start("refuse");
        let mut client = Client::connect(&running.home.0).await.unwrap();
        let mut check = async |request: Request, kind: Kind, expect: &str| match client.ask(&request).await {
            Err(AskError::Refused { kind: given, reason }) => {
                assert_eq!(given, kind, "{reason}");
                assert!(reason.contains(expect), "{reason}");
            }
            other => panic!("{request:?} gave {other:?}"),
        };
        check(send(None), Kind::Denied, "join it with `multichat channel join '#rust'`").await;
        let other = || "other".to_owned();
        check(Request::Channel { channel: other() }, Kind::NotFound, "no channel #other is known here").await;
        let create = Request::Create { channel: "a b".into(), topic: String::new(), user: None };
        check(create, Kind::Invalid, "a channel name is #").await;
        let history = Request::History { channel: "rust".into(), before: Some("x".into()), limit: 1 };
        check(history, Kind::Invalid, "`x` is not an identifier").await;
    }

    #[tokio::test]
    async fn garbage_is_answered_and_an_endless_line_is_not_kept() {
        let running = start("garbage");
        let path = socket_path(&running.home.0);
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        stream.write_all(b"\x00\xff{]\n{\"do\":\"status\"}\n").await.unwrap();
        let mut answer = async || {
            let line = read_line(&mut stream, ANSWER_BYTES).await.unwrap().expect("an answer");
            serde_json::from_slice::<Answer>(&line).unwrap()
        };
        assert!(matches!(answer().await, Answer::Refused(_)));
        assert!(matches!(answer().await, Answer::Status(_)));

        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let endless = vec![b'x'; REQUEST_BYTES + 1];
        let _ = stream.write_all(&endless).await;
        // Closing with bytes unread may reset the connection before the answer is read.
        if let Ok(Some(line)) = read_line(&mut stream, ANSWER_BYTES).await {
            assert!(String::from_utf8_lossy(&line).contains("too long"));
        }
        let mut client = Client::connect(&running.home.0).await.unwrap();
        assert!(client.ask(&Request::Status).await.is_ok(), "others are served on");
    }

    #[tokio::test]
    async fn one_node_a_directory_and_a_dead_ones_socket_is_replaced() {
        let running = start("lock");
        let path = socket_path(&running.home.0);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let fault = Socket::bind(&path).err().expect("the directory is taken");
        assert!(fault.message.starts_with("another node runs on this data directory"), "{fault}");

        running.cancel.cancel();
        running.server.await.unwrap();
        assert!(!path.exists(), "a node that stops takes its socket along");
        let dir = &running.home.0;
        assert_eq!(Client::connect(dir).await.err(), Some(AskError::NotRunning(dir.clone())));

        // A killed node leaves its socket behind, with nobody listening.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(Client::connect(dir).await.err(), Some(AskError::NotRunning(dir.clone())));
        Socket::bind(&path).expect("the stale socket is replaced");
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_a_clear_fault() {
        let home = Home::new("long");
        let fault = Socket::bind(&socket_path(&home.0.join("x".repeat(120)))).err().expect("too long");
        assert!(fault.message.contains("shorter data_dir"), "{fault}");
    }
}

//! The Matrix door: its HTTP side by hand, and the whole of it against a real Synapse. The node
//! on the other side of the port is a stand-in that keeps what it is given.

mod missed;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use multichat::base::config::MatrixConfig;
use multichat::base::{ChannelId, EventId, Identity, Timestamp};
use multichat::chat::access::Role;
use multichat::chat::intent::{Actor, ChannelRef, Intent, Submission};
use multichat::chat::message::{Content, Link, Style};
use multichat::chat::profile::Profile;
use multichat::chat::view::{ChannelView, Member, News, What};
use multichat::matrix::proto::registration::Registration;
use multichat::matrix::{Matrix, PingFailure, ping};
use multichat::port::{Command, Connector, Delivery, Door, Handle, Outcome, Port, Receipt, Refusal};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition; what it is for shows up when it never comes.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[derive(Default)]
struct Kept {
    channels: Vec<ChannelView>,
    submissions: Vec<Submission>,
    reports: Vec<(u64, Outcome)>,
    notes: BTreeMap<String, Vec<u8>>,
    /// What the next messages are answered with.
    refuse: Option<Refusal>,
}

impl Kept {
    fn messages(&self) -> Vec<(String, String)> {
        self.submissions
            .iter()
            .filter_map(|submission| match (&submission.actor, &submission.intent) {
                (Actor::Person { account, .. }, Intent::SendMessage { content, .. }) => {
                    Some((account.clone(), content.body.clone()))
                }
                _ => None,
            })
            .collect()
    }

    fn apply(&mut self, submission: &Submission) -> Result<Receipt, Refusal> {
        match &submission.intent {
            Intent::SendMessage { .. } if self.refuse.is_some() => {
                return Err(self.refuse.clone().expect("just looked"));
            }
            Intent::CreateChannel { name, topic } => self.found(name.as_str(), topic),
            Intent::Link { channel, link, create } => {
                let fits = |view: &&mut ChannelView| match channel {
                    ChannelRef::Id(id) => view.id == *id,
                    ChannelRef::Name(name) => view.name == *name,
                };
                if let (ChannelRef::Name(name), true, None) =
                    (channel, create, self.channels.iter_mut().find(fits))
                {
                    self.found(name, "");
                }
                let view = self.channels.iter_mut().find(fits);
                view.ok_or_else(|| Refusal::NoSuchChannel(format!("{channel:?}")))?.links.push(link.clone());
            }
            Intent::Unlink { link } => {
                for view in &mut self.channels {
                    view.links.retain(|other| other != link);
                }
            }
            _ => {}
        }
        Ok(Receipt { channel: None, event: None, ..Receipt::default() })
    }

    fn found(&mut self, name: &str, topic: &str) {
        self.channels.push(ChannelView {
            id: ChannelId(*blake3::hash(name.as_bytes()).as_bytes()),
            name: name.into(),
            topic: topic.into(),
            created_at: Timestamp(0),
            policy: Default::default(),
            members: Vec::new(),
            links: Vec::new(),
        });
    }
}

/// The stand-in for the node, with the door open.
struct Node {
    kept: Arc<Mutex<Kept>>,
    deliveries: mpsc::Sender<Delivery>,
    cancel: CancellationToken,
    door: tokio::task::JoinHandle<Result<(), multichat::port::Fault>>,
}

impl Node {
    fn open(matrix: Matrix, channels: &[&str]) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        for name in channels {
            kept.lock().unwrap().found(name, "");
        }
        let (commands, mut inbox) = mpsc::channel(256);
        let (deliveries, receiver) = mpsc::channel(256);
        let cancel = CancellationToken::new();
        let port = Port {
            channels: kept.lock().unwrap().channels.clone(),
            notes: Vec::new(),
            deliveries: receiver,
            handle: Handle::new(Door::Matrix, commands),
            cancel: cancel.clone(),
        };
        let door = tokio::spawn(Box::new(matrix).run(port));
        let keeper = kept.clone();
        tokio::spawn(async move {
            while let Some(command) = inbox.recv().await {
                let mut kept = keeper.lock().unwrap();
                match command {
                    Command::Submit { submission, reply } => {
                        let answer = kept.apply(&submission);
                        kept.submissions.push(*submission);
                        let _ = reply.send(answer);
                    }
                    Command::Report { delivery, outcome, .. } => kept.reports.push((delivery, outcome)),
                    Command::Remember { key, value, reply, .. } => {
                        kept.notes.insert(key, value);
                        let _ = reply.send(());
                    }
                    Command::Channels { reply } => drop(reply.send(kept.channels.clone())),
                    Command::Status { reply } => drop(reply.send(Default::default())),
                    _ => panic!("the Matrix door never asks that"),
                }
            }
        });
        Self { kept, deliveries, cancel, door }
    }

    fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap())
    }

    fn room_of(&self, channel: &str) -> Option<String> {
        self.look(|kept| {
            let view = kept.channels.iter().find(|view| view.name == channel)?;
            view.links.iter().find_map(|link| match link {
                Link::Matrix { room } => Some(room.clone()),
                Link::Irc { .. } => None,
            })
        })
    }

    async fn close(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.door).await;
        assert_eq!(ended.expect("stops within five seconds").expect("no panic"), Ok(()));
    }
}

fn ready_for_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn config(homeserver: &str) -> MatrixConfig {
    MatrixConfig {
        homeserver: homeserver.into(),
        server_name: "localhost".into(),
        registration: "registration.yaml".into(),
        listen: "127.0.0.1:0".into(),
        admins: Vec::new(),
    }
}

fn registration(url: &str) -> Registration {
    Registration::generate("localhost", url, "as-secret", "hs-secret")
}

async fn request(method: &str, url: &str, token: Option<&str>, body: Option<&str>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url).timeout(Duration::from_secs(60));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

fn said(id: &str, body: &str) -> Value {
    json!({"type": "m.room.message", "event_id": id, "room_id": "!room:localhost", "sender": "@alice:localhost",
           "origin_server_ts": 1_700_000_000_000u64, "content": {"msgtype": "m.text", "body": body}})
}

#[tokio::test]
async fn matrix_transactions_by_hand() {
    ready_for_tls();
    // Nothing listens on the homeserver's port: being away must not keep messages out.
    let away = format!("http://127.0.0.1:{}", free_port());
    let matrix =
        Matrix::bind(&config(&away), registration("http://127.0.0.1:7701"), Vec::new()).await.unwrap();
    let counts = matrix.counts();
    let base = format!("http://{}", matrix.address());
    let taken = MatrixConfig { listen: matrix.address().to_string(), ..config(&away) };
    let fault = Matrix::bind(&taken, registration("http://127.0.0.1:7701"), Vec::new())
        .await
        .err()
        .expect("the port is taken");
    assert!(fault.message.contains("is taken: stop what listens there"), "{fault}");
    let node = Node::open(matrix, &["#rust"]);
    node.look(|kept| kept.channels[0].links.push(Link::Matrix { room: "!room:localhost".into() }));

    let path = format!("{base}/_matrix/app/v1/transactions/1");
    let empty = Some(r#"{"events": []}"#);
    for (token, url) in [
        (None, path.clone()),
        (Some("wrong"), path.clone()),
        (None, format!("{path}?access_token=wrong")),
        (Some("as-secret"), path.clone()),
    ] {
        let (status, body) = request("PUT", &url, token, empty).await;
        assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")), "{url}");
    }
    assert_eq!(counts.get("wrong hs_token"), 4);
    let hs = Some("hs-secret");
    for (method, url, body, status, errcode) in [
        ("PUT", path.as_str(), Some("{"), 400, "M_NOT_JSON"),
        ("PUT", path.as_str(), Some(r#"{"events": 7}"#), 400, "M_BAD_JSON"),
        ("PUT", path.as_str(), Some("\u{0}\u{fffd}"), 400, "M_NOT_JSON"),
        ("GET", path.as_str(), None, 405, "M_UNRECOGNIZED"),
        ("GET", &format!("{base}/_matrix/app/v1/nothing"), None, 404, "M_UNRECOGNIZED"),
        (
            "GET",
            &format!("{base}/_matrix/app/v1/users/@_multichat_nobody:localhost"),
            None,
            404,
            "M_NOT_FOUND",
        ),
        ("GET", &format!("{base}/users/@alice:localhost"), None, 404, "M_NOT_FOUND"),
        ("GET", &format!("{base}/rooms/%23_multichat_none:localhost"), None, 404, "M_NOT_FOUND"),
    ] {
        let (got, answer) = request(method, url, hs, body).await;
        assert_eq!((got, answer["errcode"].as_str()), (status, Some(errcode)), "{method} {url}");
    }
    assert_eq!(
        request("POST", &format!("{base}/_matrix/app/v1/ping"), hs, Some("{}")).await,
        (200, json!({}))
    );
    let long = "x".repeat(11 << 20);
    let (status, answer) = request("PUT", &path, hs, Some(&long)).await;
    assert_eq!((status, &answer["errcode"]), (413, &json!("M_TOO_LARGE")));

    // One event is malformed: it is refused and counted, those around it are not.
    let mixed = json!({"events": [said("$1", "one"), {"type": 7}, said("$2", "two")]}).to_string();
    assert_eq!(request("PUT", &path, hs, Some(&mixed)).await, (200, json!({})));
    let alice = |body: &str| ("@alice:localhost".to_owned(), body.to_owned());
    assert_eq!(node.look(|kept| kept.messages()), [alice("one"), alice("two")]);
    assert_eq!(counts.get("malformed event"), 1);

    // The same transaction is taken once; the same event in another one goes to the node with
    // the same origin, which takes it once.
    assert_eq!(request("PUT", &path, hs, Some(&mixed)).await.0, 200);
    assert_eq!(node.look(|kept| kept.messages().len()), 2);
    let legacy = format!("{base}/transactions/2?access_token=hs-secret");
    assert_eq!(request("PUT", &legacy, None, Some(&mixed)).await.0, 200);
    let origins: Vec<String> = node.look(|kept| {
        let contents = kept.submissions.iter().filter_map(|submission| match &submission.intent {
            Intent::SendMessage { content, .. } => content.origin.as_ref(),
            _ => None,
        });
        contents
            .map(|origin| format!("{:?} {} {}", origin.link, origin.external_id, origin.said_at.0))
            .collect()
    });
    assert_eq!(origins[0], r#"Matrix { room: "!room:localhost" } $1 1700000000000"#);
    assert_eq!((origins.len(), &origins[2..]), (4, &origins[..2].to_vec()[..]));

    // What the node cannot take now has to come again.
    node.look(|kept| kept.refuse = Some(Refusal::Full("events")));
    let later = json!({"events": [said("$3", "three")]}).to_string();
    let path = format!("{base}/_matrix/app/v1/transactions/3");
    assert_eq!(request("PUT", &path, hs, Some(&later)).await.0, 503);
    node.look(|kept| kept.refuse = None);
    assert_eq!(request("PUT", &path, hs, Some(&later)).await.0, 200);
    assert_eq!(node.look(|kept| kept.messages().pop()), Some(alice("three")));
    node.close().await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A homeserver that says yes to everything but what it is told to refuse, and writes down what it
/// was asked.
#[derive(Clone, Default)]
struct StandIn {
    calls: Arc<Mutex<Vec<String>>>,
    /// Answers to the next messages.
    answers: Arc<Mutex<VecDeque<CannedAnswer>>>,
    /// Messages of its room, newest first.
    room: Arc<Mutex<Vec<Value>>>,
}

/// Status, `Retry-After`, body.
type CannedAnswer = (u16, Option<&'static str>, &'static str);

impl StandIn {
    /// Gives its address.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = self.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let stand_in = stand_in.clone();
            async move { stand_in.answer(&request) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        base
    }

    fn answer(&self, request: &axum::extract::Request) -> axum::http::Response<String> {
        let uri = request.uri().to_string();
        self.calls.lock().unwrap().push(format!(
            "{} {}",
            request.method(),
            uri.trim_start_matches("/_matrix/client/")
        ));
        let told = uri.contains("/send/").then(|| self.answers.lock().unwrap().pop_front()).flatten();
        let all = r#"{"event_id": "$e", "room_id": "!room:localhost", "user_id": "@multichatbot:localhost", "chunk": []}"#;
        if uri.contains("/messages?") {
            let page = json!({"chunk": *self.room.lock().unwrap()});
            return axum::http::Response::new(page.to_string());
        }
        let (status, wait, body) = told.unwrap_or((200, None, all));
        let mut answer = axum::http::Response::builder().status(status);
        if let Some(wait) = wait {
            answer = answer.header("Retry-After", wait);
        }
        answer.body(body.to_owned()).unwrap()
    }

    /// What it was asked since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

#[tokio::test]
async fn matrix_calls_by_hand() {
    ready_for_tls();
    let hs = StandIn::default();
    let base = hs.start().await;
    let registration = registration("http://127.0.0.1:7701");
    let node = Node::open(Matrix::bind(&config(&base), registration, Vec::new()).await.unwrap(), &["#rust"]);
    let ping = "POST v1/appservice/multichat/ping".to_owned();
    eventually("the first words", async || hs.calls.lock().unwrap().contains(&ping).then_some(())).await;
    assert_eq!(
        hs.take(),
        [
            "GET versions",
            "POST v3/register",
            "GET v3/account/whoami",
            "PUT v3/profile/@multichatbot:localhost/displayname?user_id=%40multichatbot%3Alocalhost",
            &ping
        ]
    );
    let room = "!room:localhost";
    let message =
        |id: u64| delivery(id, room, bob("Bob"), What::Message(Content::text(format!("line {id}"))));
    let arrived = Outcome::Delivered { external_id: Some("$e".into()) };

    // A newcomer costs what it must; then each message is one call.
    assert_eq!(
        deliver(&node, delivery(1, room, bob("Bob"), What::Joined)).await,
        Outcome::Delivered { external_id: None }
    );
    let asked = hs.take();
    let verbs: Vec<&str> =
        asked.iter().map(|call| call.split(['@', '!']).next().unwrap_or_default()).collect();
    assert_eq!(verbs, ["POST v3/register", "PUT v3/profile/", "POST v3/join/"]);
    for id in 2..=6 {
        assert_eq!(deliver(&node, message(id)).await, arrived);
        let asked = hs.take();
        let txn =
            format!("PUT v3/rooms/!room:localhost/send/m.room.message/multichat-{}", message(id).news.event);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(
            asked[0].starts_with(&format!("{txn}?ts={}&user_id=%40_multichat_bob_", 1_700_000_000_000 + id)),
            "{asked:?}"
        );
    }

    // What goes wrong is reported as what it is.
    let forbidden = r#"{"errcode": "M_FORBIDDEN", "error": "no"}"#;
    for (id, answer, expect) in [
        (7, (429, Some("2"), "{}"), "retry uncertain=false after=Some(2000)"),
        (
            8,
            (429, None, r#"{"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 70}"#),
            "retry uncertain=false after=Some(70)",
        ),
        (9, (502, None, "<html>"), "retry uncertain=true after=None"),
        (10, (200, None, "<html>"), "retry uncertain=true after=None"),
        (11, (413, None, r#"{"errcode": "M_TOO_LARGE"}"#), "failed"),
        (12, (403, None, forbidden), "delivered"),
    ] {
        hs.answers.lock().unwrap().push_back(answer);
        let said = match deliver(&node, message(id)).await {
            Outcome::Retry { uncertain, after_ms, .. } => {
                format!("retry uncertain={uncertain} after={after_ms:?}")
            }
            Outcome::Failed { .. } => "failed".into(),
            Outcome::Delivered { .. } => "delivered".into(),
        };
        assert_eq!(said, expect, "{answer:?}");
        node.look(|kept| kept.reports.clear());
        assert_eq!(deliver(&node, message(id)).await, arrived, "it comes again");
    }
    node.close().await;
}

/// A Synapse of its own on a new database; stopped when dropped.
struct Synapse {
    python: PathBuf,
    folder: PathBuf,
    base: String,
    child: Child,
}

impl Synapse {
    /// `None` where it is allowed to be missing.
    async fn start(name: &str, registration: &Registration) -> Option<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let python = target.join("peers/synapse/bin/python");
        if !python.exists() {
            assert_eq!(
                std::env::var("MULTICHAT_SKIP_PEERS").as_deref(),
                Ok("1"),
                "no Synapse at {}",
                python.display()
            );
            return None;
        }
        let folder = target.join("tmp").join(format!("matrix-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("registration.yaml"), registration.to_yaml()).unwrap();
        let key = "ed25519 a_test CFUqbUKGPyNCV0TY8gxJMpFwlTNn4wCSQi0qLYjGUeU\n";
        std::fs::write(folder.join("signing.key"), key).unwrap();
        let port = free_port();
        std::fs::write(folder.join("homeserver.yaml"), synapse_config(&folder, port)).unwrap();
        let child = Self::spawn(&python, &folder);
        let base = format!("http://127.0.0.1:{port}");
        let synapse = Self { python, folder, base, child };
        synapse.up().await;
        Some(synapse)
    }

    fn spawn(python: &Path, folder: &Path) -> Child {
        let log =
            std::fs::File::options().create(true).append(true).open(folder.join("synapse.log")).unwrap();
        Process::new(python)
            .args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    async fn up(&self) {
        let url = format!("{}/_matrix/client/versions", self.base);
        eventually(&format!("Synapse answers (see {}/synapse.log)", self.folder.display()), async || {
            reqwest::get(&url).await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.child = Self::spawn(&self.python, &self.folder);
        self.up().await;
    }

    async fn user(&self, name: &str, display_name: &str) -> User {
        let url = format!("{}/_matrix/client/v3/register", self.base);
        let body =
            json!({"username": name, "password": "secret", "auth": {"type": "m.login.dummy"}}).to_string();
        let (status, answer) = request("POST", &url, None, Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
        let id = answer["user_id"].as_str().unwrap().to_owned();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        let user = User { base: self.base.clone(), id, token, sent: 0 };
        user.call("PUT", &format!("profile/{}/displayname", user.id), json!({"displayname": display_name}))
            .await;
        user
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn synapse_config(folder: &Path, port: u16) -> String {
    let fast = json!({"per_second": 10000, "burst_count": 10000});
    let at = |name: &str| folder.join(name).display().to_string();
    json!({
        "server_name": "localhost",
        "pid_file": at("pid"),
        "listeners": [{"port": port, "type": "http", "tls": false, "bind_addresses": ["127.0.0.1"],
                       "resources": [{"names": ["client"], "compress": false}]}],
        "database": {"name": "sqlite3", "args": {"database": at("homeserver.db")}},
        "media_store_path": at("media"),
        "signing_key_path": at("signing.key"),
        "macaroon_secret_key": "for tests only",
        "enable_registration": true,
        "enable_registration_without_verification": true,
        "report_stats": false,
        "suppress_key_server_warning": true,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "caches": {"sync_response_cache_duration": "0s"},
        "app_service_config_files": [at("registration.yaml")],
        "rc_message": fast, "rc_registration": fast, "rc_joins_per_room": fast, "rc_room_creation": fast,
        "rc_login": {"address": fast, "account": fast, "failed_attempts": fast},
        "rc_joins": {"local": fast, "remote": fast},
        "rc_invites": {"per_room": fast, "per_user": fast, "per_issuer": fast},
    })
    .to_string()
}

/// A person with a Matrix client.
struct User {
    base: String,
    id: String,
    token: String,
    sent: u32,
}

impl User {
    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/_matrix/client/v3/{path}", self.base);
        let body = (method != "GET").then(|| body.to_string());
        let (status, answer) = request(method, &url, Some(&self.token), body.as_deref()).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    async fn join(&self, room: &str) -> String {
        let path = format!("join/{}", room.replace('#', "%23"));
        self.call("POST", &path, json!({})).await["room_id"].as_str().unwrap().to_owned()
    }

    async fn say(&mut self, room: &str, body: &str) {
        self.sent += 1;
        let path = format!("rooms/{room}/send/m.room.message/t{}", self.sent);
        self.call("PUT", &path, json!({"msgtype": "m.text", "body": body})).await;
    }

    /// The messages of a room, oldest first.
    async fn messages(&self, room: &str) -> Vec<Value> {
        let filter = "%7B%22types%22%3A%5B%22m.room.message%22%5D%7D";
        let path = format!("rooms/{room}/messages?dir=b&limit=200&filter={filter}");
        let page = self.call("GET", &path, Value::Null).await;
        page["chunk"].as_array().unwrap().iter().rev().cloned().collect()
    }

    async fn sees(&self, room: &str, body: &str) -> Value {
        eventually(&format!("{body:?} in {room}"), async || {
            let messages = self.messages(room).await;
            messages
                .into_iter()
                .find(|event| event["content"]["body"].as_str().is_some_and(|b| b.contains(body)))
        })
        .await
    }

    async fn direct_chat(&self, with: &str) -> String {
        let body = json!({"invite": [with], "is_direct": true, "preset": "trusted_private_chat"});
        let room = self.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
        self.sees(&room, "I am the Multichat bot").await;
        room
    }
}

/// Synapse, and the door open to it.
async fn connected(name: &str, channels: &[&str]) -> Option<(Synapse, Node, Registration)> {
    ready_for_tls();
    // The port is wanted before the door can listen: Synapse reads the url when it starts.
    let listen = format!("127.0.0.1:{}", free_port());
    let registration = registration(&format!("http://{listen}"));
    let synapse = Synapse::start(name, &registration).await?;
    let config = MatrixConfig { listen, ..config(&synapse.base) };
    let node = Node::open(Matrix::bind(&config, registration.clone(), Vec::new()).await.unwrap(), channels);
    eventually("the ping goes through", async || ping(&synapse.base, &registration).await.ok()).await;
    Some((synapse, node, registration))
}

fn bob(display_name: &str) -> Member {
    let profile =
        Profile { username: "Bob".into(), display_name: display_name.into(), home: "bob@irc.example".into() };
    Member { identity: Identity(*blake3::hash(b"bob").as_bytes()), role: Role::Member, profile }
}

fn delivery(id: u64, room: &str, author: Member, what: What) -> Delivery {
    Delivery {
        id,
        link: Some(Link::Matrix { room: room.into() }),
        uncertain: false,
        news: News {
            event: EventId(*blake3::hash(&id.to_be_bytes()).as_bytes()),
            channel: ChannelId([0; 32]),
            channel_name: "#rust".into(),
            position: id,
            at: Timestamp(1_700_000_000_000 + id),
            author,
            tag: 0,
            what,
        },
    }
}

async fn deliver(node: &Node, delivery: Delivery) -> Outcome {
    let id = delivery.id;
    node.deliveries.send(delivery).await.unwrap();
    eventually(&format!("a report of delivery {id}"), async || {
        node.look(|kept| {
            kept.reports.iter().find(|(other, _)| *other == id).map(|(_, outcome)| outcome.clone())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_through_synapse() {
    let Some((synapse, node, registration)) = connected("talk", &["#rust"]).await else { return };
    let mut alice = synapse.user("alice", "Alice L").await;

    // The alias of a channel makes its portal; of none, nothing.
    let room = alice.join("#_multichat_rust:localhost").await;
    assert_eq!(node.room_of("#rust"), Some(room.clone()));
    let missing = format!("{}/_matrix/client/v3/directory/room/%23_multichat_none:localhost", synapse.base);
    assert_eq!(request("GET", &missing, Some(&alice.token), None).await.0, 404);

    // In: a real user's words, with their name and the event's id.
    alice.say(&room, "hello from Matrix").await;
    eventually("the message at the node", async || {
        node.look(|kept| kept.messages().pop()).filter(|(_, body)| body == "hello from Matrix")
    })
    .await;
    node.look(|kept| {
        let last = kept.submissions.last().unwrap();
        let Actor::Person { account, profile } = &last.actor else { panic!("a person") };
        assert_eq!(
            (account.as_str(), profile.name(), profile.home.as_str()),
            ("@alice:localhost", "Alice L", "@alice:localhost")
        );
        assert!(last.join_first);
        let joined =
            |s: &Submission| matches!(&s.intent, Intent::JoinChannel { .. }) && s.actor == last.actor;
        assert!(kept.submissions.iter().any(joined), "joins are mirrored");
    });

    // Out: as a ghost with the right name, at the right time, marked, and only once.
    let content =
        Content { style: Style::Emote, formatted: Some("<b>waves</b>".into()), ..Content::text("waves") };
    let outcome = deliver(&node, delivery(1, &room, bob("Bob B"), What::Message(content.clone()))).await;
    let event = alice.sees(&room, "waves").await;
    assert_eq!(outcome, Outcome::Delivered { external_id: event["event_id"].as_str().map(str::to_owned) });
    let ghost = event["sender"].as_str().unwrap().to_owned();
    assert!(ghost.starts_with("@_multichat_bob_") && ghost.ends_with(":localhost"), "{ghost}");
    assert_eq!(event["content"]["msgtype"], "m.emote");
    assert_eq!(event["content"]["formatted_body"], "<b>waves</b>");
    assert_eq!(event["origin_server_ts"], 1_700_000_000_001u64);
    let member = alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
    assert_eq!((&member["membership"], &member["displayname"]), (&json!("join"), &json!("Bob B")));
    let uncertain = Delivery { uncertain: true, ..delivery(1, &room, bob("Bob B"), What::Message(content)) };
    node.look(|kept| kept.reports.clear());
    assert_eq!(deliver(&node, uncertain).await, outcome, "found, not sent again");
    assert_eq!(
        alice.messages(&room).await.iter().filter(|event| event["content"]["body"] == "waves").count(),
        1
    );

    // A new name keeps the Matrix id; topics and leaving get there too.
    deliver(&node, delivery(2, &room, bob("Robert"), What::Profile { before: bob("Bob B").profile })).await;
    eventually("the new name", async || {
        let member =
            alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
        (member["displayname"] == "Robert").then_some(())
    })
    .await;
    deliver(&node, delivery(3, &room, bob("Robert"), What::Topic("Ferris".into()))).await;
    assert_eq!(
        alice.call("GET", &format!("rooms/{room}/state/m.room.topic"), Value::Null).await["topic"],
        "Ferris"
    );
    deliver(&node, delivery(4, &room, bob("Robert"), What::Left { reason: "bye".into() })).await;
    let member = alice.call("GET", &format!("rooms/{room}/state/m.room.member/{ghost}"), Value::Null).await;
    assert_eq!((&member["membership"], &member["reason"]), (&json!("leave"), &json!("bye")));
    let topics = node.look(|kept| {
        kept.submissions.iter().filter(|s| matches!(s.intent, Intent::UpdateChannel { .. })).count()
    });
    assert_eq!(topics, 0, "what the bot set does not come back");

    a_direct_chat_with_the_bot(&mut alice, &node).await;
    an_invited_room(&synapse, &mut alice, &node).await;

    let wrong = Registration { as_token: "unknown".into(), ..registration.clone() };
    assert_eq!(ping(&synapse.base, &wrong).await, Err(PingFailure::NotLoaded));
    node.close().await;
    let failure = ping(&synapse.base, &registration).await.unwrap_err();
    assert!(matches!(failure, PingFailure::Unreachable { .. }), "{failure}");
    let other = Registration { hs_token: "other".into(), ..registration.clone() };
    let listen = registration.url.as_deref().unwrap().trim_start_matches("http://").to_owned();
    let config = MatrixConfig { listen, ..config(&synapse.base) };
    let node = Node::open(Matrix::bind(&config, other, Vec::new()).await.unwrap(), &[]);
    assert_eq!(ping(&synapse.base, &registration).await, Err(PingFailure::HsToken));
    node.close().await;
}

async fn a_direct_chat_with_the_bot(alice: &mut User, node: &Node) {
    let chat = alice.direct_chat("@multichatbot:localhost").await;
    alice.say(&chat, "help").await;
    let answer = alice.sees(&chat, "join #channel").await;
    assert_eq!(
        (&answer["content"]["msgtype"], &answer["sender"]),
        (&json!("m.notice"), &json!("@multichatbot:localhost"))
    );
    alice.say(&chat, "create #gardens all that grows").await;
    alice.sees(&chat, "#gardens is founded. You are invited").await;
    let gardens = node.room_of("#gardens").expect("it has a portal");
    assert_eq!(alice.join("#_multichat_gardens:localhost").await, gardens);
    alice.say(&chat, "join gardens").await;
    alice.sees(&chat, "You are in the room of #gardens already").await;
    alice.say(&chat, "list grows").await;
    alice.sees(&chat, "#gardens (0 members): all that grows").await;
    alice.say(&chat, "dance").await;
    alice.sees(&chat, "I do not know “dance”").await;
    assert!(node.look(|kept| kept.messages().iter().all(|(_, body)| body != "dance")));
}

async fn an_invited_room(synapse: &Synapse, alice: &mut User, node: &Node) {
    let body = json!({"invite": ["@multichatbot:localhost"], "preset": "private_chat", "name": "den"});
    let den = alice.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
    let mut carol = synapse.user("carol", "Carol").await;
    alice.call("POST", &format!("rooms/{den}/invite"), json!({"user_id": carol.id})).await;
    carol.join(&den).await;
    carol.say(&den, "!mc link #den").await;
    carol.sees(&den, "only moderators of the room").await;
    assert_eq!(node.room_of("#den"), None);
    alice.say(&den, "!mc link #den").await;
    alice.sees(&den, "#den is carried in").await;
    assert_eq!(node.room_of("#den"), Some(den.clone()));
    carol.say(&den, "now it is").await;
    eventually("Carol's words", async || {
        node.look(|kept| kept.messages().pop())
            .filter(|last| *last == (carol.id.clone(), "now it is".to_owned()))
    })
    .await;
    // The room is private: the ghost needs the bot's invitation.
    let outcome =
        deliver(node, delivery(20, &den, bob("Robert"), What::Message(Content::text("in the den")))).await;
    assert!(matches!(outcome, Outcome::Delivered { external_id: Some(_) }), "{outcome:?}");
    alice.say(&den, "!mc unlink").await;
    alice.sees(&den, "#den is not carried in this room any more").await;
    assert_eq!(node.room_of("#den"), None);
}

/// Plays the node's part for one link: a window of deliveries, and after a retry that one and all
/// behind it again.
async fn carry_all(node: &Node, all: &[Delivery]) {
    let (mut done, mut uncertain) = (0, false);
    'again: loop {
        let seen = node.look(|kept| kept.reports.len());
        for (n, delivery) in all[done..].iter().enumerate() {
            node.deliveries
                .send(Delivery { uncertain: uncertain && n == 0, ..delivery.clone() })
                .await
                .unwrap();
        }
        let mut read = seen;
        loop {
            let report =
                eventually("the next report", async || node.look(|kept| kept.reports.get(read).cloned()))
                    .await;
            read += 1;
            match report {
                (id, Outcome::Delivered { .. }) => {
                    assert_eq!(id, all[done].id, "in order");
                    done += 1;
                }
                (id, Outcome::Retry { uncertain: maybe, .. }) => {
                    assert_eq!(id, all[done].id, "in order");
                    uncertain = maybe;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue 'again;
                }
                (id, Outcome::Failed { reason }) => panic!("delivery {id} failed: {reason}"),
            }
            if done == all.len() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_synapse_killed_amid_deliveries() {
    let Some((mut synapse, node, _)) = connected("kill", &["#rust"]).await else { return };
    let alice = synapse.user("alice", "Alice").await;
    let room = alice.join("#_multichat_rust:localhost").await;
    let all: Vec<Delivery> = (1..=50)
        .map(|n| delivery(n, &room, bob("Bob"), What::Message(Content::text(format!("line {n}")))))
        .collect();
    let carrying = carry_all(&node, &all);
    let killing = async {
        eventually("twenty have arrived", async || {
            node.look(|kept| (kept.reports.len() >= 20).then_some(()))
        })
        .await;
        synapse.kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        synapse.restart().await;
    };
    tokio::join!(carrying, killing);
    let retries = node.look(|kept| kept.reports.len()) - 50;
    assert!(retries > 0, "Synapse was really away");
    let bodies: Vec<String> = alice
        .messages(&room)
        .await
        .iter()
        .map(|event| event["content"]["body"].as_str().unwrap_or_default().to_owned())
        .collect();
    let expected: Vec<String> = (1..=50).map(|n| format!("line {n}")).collect();
    assert_eq!(bodies, expected, "all, in order, once");
    node.close().await;
}

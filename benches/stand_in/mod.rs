//! A homeserver that keeps nothing: it answers an application service as a real one would, takes
//! what ghosts say, and pushes what people say, up to 100 events a transaction, each after the one
//! before was accepted. As a real one does, it pushes the ghosts' own messages back too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub const SERVER: &str = "bench.test";
pub const ROOM: &str = "!bench:bench.test";
pub const HS_TOKEN: &str = "hs-secret";
/// A ping waits this long for the address of a node that has only just started.
const SERVICE_KNOWN: Duration = Duration::from_secs(5);
/// Events of one transaction, as Synapse has it.
const PER_TRANSACTION: usize = 100;

/// The homeserver.
#[derive(Clone)]
pub struct StandIn {
    /// Where it is reached.
    pub address: String,
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    /// Where the application service is reached.
    service: OnceLock<String>,
    last_event: AtomicU64,
    to_push: mpsc::UnboundedSender<Value>,
    sent: mpsc::UnboundedSender<(Instant, String)>,
}

impl StandIn {
    /// Listens. On the receiver come the messages that ghosts send.
    pub async fn start() -> (Self, mpsc::UnboundedReceiver<(Instant, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (to_push, events) = mpsc::unbounded_channel();
        let (sent, seen) = mpsc::unbounded_channel();
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client");
        let inner = Inner { client, service: OnceLock::new(), last_event: AtomicU64::new(0), to_push, sent };
        let inner = Arc::new(inner);
        let answering = inner.clone();
        let app = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
            let inner = answering.clone();
            async move { inner.answer(&method, uri.path(), &body).await }
        });
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        tokio::spawn(push(inner.clone(), events));
        (Self { address, inner }, seen)
    }

    /// Where transactions go from now on.
    pub fn push_to(&self, service: String) {
        let _ = self.inner.service.set(service);
    }

    /// Somebody in the room says these, one after another.
    pub fn say_all(&self, bodies: &[String]) {
        for body in bodies {
            let content = json!({"msgtype": "m.text", "body": body});
            self.inner.happened(content, "@alice:bench.test");
        }
    }
}

impl Inner {
    /// A message is in the room; its id.
    fn happened(&self, content: Value, sender: &str) -> String {
        let event_id = format!("$event{}:bench.test", self.last_event.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let event = json!({
            "type": "m.room.message", "event_id": event_id, "room_id": ROOM, "sender": sender,
            "origin_server_ts": now, "unsigned": {"age": 1}, "content": content,
        });
        let _ = self.to_push.send(event);
        event_id
    }

    async fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Response {
        let path = path.strip_prefix("/_matrix/client/").unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let answer = match (method.as_str(), parts.as_slice()) {
            ("PUT", ["v3", "rooms", _, "send", "m.room.message", _]) => return self.take(body),
            ("GET", ["versions"]) => json!({"versions": ["v1.11"]}),
            ("GET", ["v3", "account", "whoami"]) => json!({"user_id": "@multichatbot:bench.test"}),
            ("POST", ["v3", "register"]) => json!({"user_id": "@somebody:bench.test"}),
            ("POST", ["v1", "appservice", _, "ping"]) => return self.ping().await,
            ("POST", ["v3", "join", _]) => json!({"room_id": ROOM}),
            ("POST", ["v3", "createRoom"]) => json!({"room_id": ROOM}),
            ("POST", ["v3", "rooms", _, "invite" | "leave"]) => json!({}),
            ("PUT", ["v3", "profile", _, "displayname"] | ["v3", "directory", "room", _]) => json!({}),
            ("PUT", ["v3", "rooms", _, "state", ..]) => json!({"event_id": "$state:bench.test"}),
            ("GET", ["v3", "rooms", _, "state", "m.room.member", _]) => {
                json!({"membership": "join", "displayname": "Alice"})
            }
            ("GET", ["v3", "rooms", _, "joined_members"]) => {
                json!({"joined": {"@multichatbot:bench.test": {}}})
            }
            ("GET", ["v3", "rooms", _, "messages"]) => json!({"chunk": [], "start": "s"}),
            ("GET", ["v3", "directory", ..] | ["v3", "rooms", _, "state", ..]) => {
                return refuse(StatusCode::NOT_FOUND, "M_NOT_FOUND");
            }
            _ => return refuse(StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
        };
        Json(answer).into_response()
    }

    fn take(&self, body: &[u8]) -> Response {
        let now = Instant::now();
        let Ok(content) = serde_json::from_slice::<Value>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "M_NOT_JSON");
        };
        let said = content["body"].as_str().unwrap_or_default().to_owned();
        let event_id = self.happened(content, "@_multichat_carol:bench.test");
        let _ = self.sent.send((now, said));
        Json(json!({"event_id": event_id})).into_response()
    }

    async fn ping(&self) -> Response {
        let start = Instant::now();
        while self.service.get().is_none() && start.elapsed() < SERVICE_KNOWN {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let Some(service) = self.service.get() else {
            return refuse(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED");
        };
        let call = self.client.post(format!("{service}/_matrix/app/v1/ping")).bearer_auth(HS_TOKEN);
        match call.json(&json!({})).send().await {
            Ok(answer) if answer.status().is_success() => {
                Json(json!({"duration_ms": start.elapsed().as_millis() as u64})).into_response()
            }
            _ => refuse(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED"),
        }
    }
}

fn refuse(status: StatusCode, errcode: &str) -> Response {
    (status, Json(json!({"errcode": errcode, "error": "no"}))).into_response()
}

/// Sends transactions, one at a time, each until it is accepted.
async fn push(inner: Arc<Inner>, mut events: mpsc::UnboundedReceiver<Value>) {
    let mut batch = Vec::with_capacity(PER_TRANSACTION);
    for txn in 0u64.. {
        batch.clear();
        if events.recv_many(&mut batch, PER_TRANSACTION).await == 0 {
            return;
        }
        let body = Bytes::from(json!({"events": batch}).to_string());
        while !accepted(&inner, txn, &body).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn accepted(inner: &Inner, txn: u64, body: &Bytes) -> bool {
    let Some(service) = inner.service.get() else { return false };
    let url = format!("{service}/_matrix/app/v1/transactions/{txn}");
    let call = inner.client.put(url).bearer_auth(HS_TOKEN).body(body.clone());
    call.send().await.is_ok_and(|answer| answer.status().is_success())
}

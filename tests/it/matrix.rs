//! The Matrix door: its HTTP side by hand, and the whole of it against a real Synapse. The node
//! on the other side of the port is a stand-in that keeps what it is given.

mod asked;
mod attachments;
mod by_hand;
mod decided;
mod far_kick;
mod missed;
mod node;
mod sealed;
mod stand_in;
mod synapse;
mod talk;
mod whole;

use std::time::{Duration, Instant};

use multichat::base::config::MatrixConfig;
use multichat::base::{ChannelId, EventId, Identity, Timestamp};
use multichat::chat::access::Role;
use multichat::chat::message::Link;
use multichat::chat::profile::Profile;
use multichat::chat::view::{Member, News, What};
use multichat::matrix::proto::registration::Registration;
use multichat::port::{Delivery, Outcome};
use node::Node;
use serde_json::{Value, json};

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
        public_url: None,
        encryption: Default::default(),
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

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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

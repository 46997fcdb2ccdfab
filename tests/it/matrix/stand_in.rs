//! A stand-in for a homeserver: for what must be told by hand, and for faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A homeserver that says yes to everything but what it is told to refuse, and writes down what it
/// was asked.
#[derive(Clone, Default)]
pub struct StandIn {
    pub calls: Arc<Mutex<Vec<String>>>,
    /// Answers to the next messages.
    pub answers: Arc<Mutex<VecDeque<CannedAnswer>>>,
    /// What was sent with those calls that send something.
    pub bodies: Arc<Mutex<Vec<(String, Value)>>>,
    /// Pieces of its room's state, by `type` or `type/key`.
    pub state: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Words of paths that it forbids.
    pub forbidden: Arc<Mutex<Vec<String>>>,
    /// Messages of its room, newest first.
    pub room: Arc<Mutex<Vec<Value>>>,
}

/// Status, `Retry-After`, body.
pub type CannedAnswer = (u16, Option<&'static str>, &'static str);

impl StandIn {
    /// Gives its address.
    pub async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = self.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let stand_in = stand_in.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
                stand_in.answer(&parts, &body)
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        base
    }

    fn answer(&self, request: &axum::http::request::Parts, body: &[u8]) -> axum::http::Response<String> {
        let uri = request.uri.to_string();
        let call = format!("{} {}", request.method, uri.trim_start_matches("/_matrix/client/"));
        self.calls.lock().unwrap().push(call.clone());
        if request.method != "GET" {
            let body = serde_json::from_slice(body).unwrap_or_default();
            self.bodies.lock().unwrap().push((call, body));
        }
        let told = uri.contains("/send/").then(|| self.answers.lock().unwrap().pop_front()).flatten();
        let all = r#"{"event_id": "$e", "room_id": "!room:localhost", "user_id": "@multichatbot:localhost", "chunk": []}"#;
        let path = uri.split('?').next().unwrap_or_default();
        if let Some((_, state)) = path.split_once("/state/").filter(|_| request.method == "GET") {
            let state = self.state.lock().unwrap().get(state.trim_end_matches('/')).cloned();
            let (status, body) = match state {
                Some(state) => (200, state.to_string()),
                None => (404, r#"{"errcode": "M_NOT_FOUND"}"#.to_owned()),
            };
            return axum::http::Response::builder().status(status).body(body).unwrap();
        }
        if let Some(word) = self.forbidden.lock().unwrap().iter().find(|word| path.contains(word.as_str())) {
            let body = json!({"errcode": "M_FORBIDDEN", "error": format!("no {word}")});
            return axum::http::Response::builder().status(403).body(body.to_string()).unwrap();
        }
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
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    /// What was sent since the last time: verb, the end of each path within the room, and the body.
    pub fn sent(&self) -> Vec<String> {
        self.calls.lock().unwrap().clear();
        let sent = std::mem::take(&mut *self.bodies.lock().unwrap());
        let line = |(call, body): (String, Value)| {
            let path = call.split('?').next().unwrap_or_default().to_owned();
            let path = path.replace("%40", "@").replace("%3A", ":").replace("%24", "$");
            let (verb, _) = path.split_once(' ').unwrap_or_default();
            match path.split_once("!room:localhost/") {
                Some((_, end)) => format!("{verb} {end} {body}"),
                None => format!("{path} {body}"),
            }
        };
        sent.into_iter().map(line).collect()
    }
}

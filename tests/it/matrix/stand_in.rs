//! A stand-in for a homeserver: for what must be told by hand, and for faults.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A homeserver that says yes to everything but what it is told to refuse, and writes down what it
/// was asked.
#[derive(Clone, Default)]
pub struct StandIn {
    pub calls: Arc<Mutex<Vec<String>>>,
    /// Answers to the next messages.
    pub answers: Arc<Mutex<VecDeque<CannedAnswer>>>,
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
            async move { stand_in.answer(&request) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        base
    }

    pub fn answer(&self, request: &axum::extract::Request) -> axum::http::Response<String> {
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
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}


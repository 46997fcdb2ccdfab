//! A person on Matrix by plain HTTP, who sends each line under a transaction id of its own and
//! again until the homeserver has taken it, and reads the room back as the homeserver holds it.

use std::time::Duration;

use serde_json::{Value, json};

use super::words::Word;

const AGAIN: Duration = Duration::from_millis(300);

/// A logged-in user in one room.
#[derive(Clone)]
pub struct User {
    http: reqwest::Client,
    url: String,
    token: String,
    room: String,
}

/// One message in the room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub event: String,
    pub sender: String,
    pub body: String,
}

impl User {
    /// Logs in and joins a room by its alias.
    pub async fn enter(url: &str, name: &str, password: &str, alias: &str) -> Self {
        // Whoever comes first installs it; that it is there already is no failure.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let mut user = Self { http, url: url.to_owned(), token: String::new(), room: String::new() };
        let login = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": password,
        });
        let answer = user.post("login", &login).await.unwrap();
        user.token = answer["access_token"].as_str().unwrap().to_owned();
        let alias = alias.replace('#', "%23").replace(':', "%3A");
        let answer = user.post(&format!("join/{alias}"), &json!({})).await.unwrap();
        user.room = answer["room_id"].as_str().unwrap().to_owned();
        user
    }

    /// Says lines at a pace; each is said until the homeserver has it. Returns how often one had
    /// to be said again.
    pub async fn say_lines(&self, person: &str, lines: usize, pace: Duration) -> usize {
        let mut turn = tokio::time::interval(pace);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut again = 0;
        for number in 1..=lines {
            turn.tick().await;
            let body = Word { number, attempt: 1 }.said_by(person);
            while let Err(problem) = self.say(&format!("line-{number}"), &body).await {
                if again == 0 {
                    println!("{person}: {problem}; saying it again until it is taken");
                }
                again += 1;
                tokio::time::sleep(AGAIN).await;
            }
        }
        again
    }

    async fn say(&self, txn: &str, body: &str) -> Result<(), String> {
        let url = format!("{}/rooms/{}/send/m.room.message/{txn}", self.client_api(), self.room_in_path());
        let content = json!({ "msgtype": "m.text", "body": body });
        self.answer(self.http.put(url).json(&content)).await.map(drop)
    }

    /// Every message of the room, oldest first, or why it cannot be read now.
    pub async fn read(&self) -> Result<Vec<Message>, String> {
        let mut messages = Vec::new();
        let mut from = String::new();
        loop {
            let rooms = format!("{}/rooms/{}", self.client_api(), self.room_in_path());
            let url = format!("{rooms}/messages?dir=b&limit=1000{from}");
            let page = self.answer(self.http.get(url)).await?;
            let events = page["chunk"].as_array().cloned().unwrap_or_default();
            messages.extend(events.iter().filter_map(message));
            match page["end"].as_str().filter(|_| !events.is_empty()) {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        messages.reverse();
        Ok(messages)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.answer(self.http.post(format!("{}/{path}", self.client_api())).json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = request.bearer_auth(&self.token).send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| e.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    fn client_api(&self) -> String {
        format!("{}/_matrix/client/v3", self.url)
    }

    fn room_in_path(&self) -> String {
        self.room.replace('!', "%21").replace(':', "%3A")
    }
}

fn message(event: &Value) -> Option<Message> {
    let text = |pointer: &str| event.pointer(pointer)?.as_str().map(str::to_owned);
    if text("/type")? != "m.room.message" {
        return None;
    }
    Some(Message { event: text("/event_id")?, sender: text("/sender")?, body: text("/content/body")? })
}

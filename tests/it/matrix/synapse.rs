//! A real Synapse, people with Matrix clients on it, and the door open to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use multichat::base::config::MatrixConfig;
use multichat::matrix::proto::registration::Registration;
use multichat::matrix::{Matrix, ping};
use serde_json::{Value, json};

use super::node::Node;
use super::{config, eventually, free_port, ready_for_tls, registration, request};

/// A Synapse of its own on a new database; stopped when dropped.
pub struct Synapse {
    pub python: PathBuf,
    pub folder: PathBuf,
    pub base: String,
    pub child: Child,
}

impl Synapse {
    /// `None` where it is allowed to be missing.
    pub async fn start(name: &str, registration: &Registration) -> Option<Self> {
        Self::start_with(name, registration, &json!({})).await
    }

    /// The same, with more in its configuration.
    pub async fn start_with(name: &str, registration: &Registration, more: &Value) -> Option<Self> {
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
        std::fs::write(folder.join("homeserver.yaml"), synapse_config(&folder, port, more)).unwrap();
        let child = Self::spawn(&python, &folder);
        let base = format!("http://127.0.0.1:{port}");
        let synapse = Self { python, folder, base, child };
        synapse.up().await;
        Some(synapse)
    }

    pub fn spawn(python: &Path, folder: &Path) -> Child {
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

    pub async fn up(&self) {
        let url = format!("{}/_matrix/client/versions", self.base);
        eventually(&format!("Synapse answers (see {}/synapse.log)", self.folder.display()), async || {
            reqwest::get(&url).await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.child = Self::spawn(&self.python, &self.folder);
        self.up().await;
    }

    pub async fn user(&self, name: &str, display_name: &str) -> User {
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

pub fn synapse_config(folder: &Path, port: u16, more: &Value) -> String {
    let fast = json!({"per_second": 10000, "burst_count": 10000});
    let at = |name: &str| folder.join(name).display().to_string();
    let mut config = json!({
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
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config.to_string()
}

/// A person with a Matrix client.
pub struct User {
    pub base: String,
    pub id: String,
    pub token: String,
    pub sent: u32,
}

impl User {
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/_matrix/client/v3/{path}", self.base);
        let body = (method != "GET").then(|| body.to_string());
        let (status, answer) = request(method, &url, Some(&self.token), body.as_deref()).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    pub async fn join(&self, room: &str) -> String {
        let path = format!("join/{}", room.replace('#', "%23"));
        self.call("POST", &path, json!({})).await["room_id"].as_str().unwrap().to_owned()
    }

    pub async fn say(&mut self, room: &str, body: &str) {
        self.sent += 1;
        let path = format!("rooms/{room}/send/m.room.message/t{}", self.sent);
        self.call("PUT", &path, json!({"msgtype": "m.text", "body": body})).await;
    }

    /// The messages of a room, oldest first.
    pub async fn messages(&self, room: &str) -> Vec<Value> {
        let filter = "%7B%22types%22%3A%5B%22m.room.message%22%5D%7D";
        let path = format!("rooms/{room}/messages?dir=b&limit=200&filter={filter}");
        let page = self.call("GET", &path, Value::Null).await;
        page["chunk"].as_array().unwrap().iter().rev().cloned().collect()
    }

    pub async fn sees(&self, room: &str, body: &str) -> Value {
        eventually(&format!("{body:?} in {room}"), async || {
            let messages = self.messages(room).await;
            messages
                .into_iter()
                .find(|event| event["content"]["body"].as_str().is_some_and(|b| b.contains(body)))
        })
        .await
    }

    /// The events of a type in a room, oldest first.
    pub async fn events(&self, room: &str, kind: &str) -> Vec<Value> {
        let filter = format!("%7B%22types%22%3A%5B%22{kind}%22%5D%7D");
        let page = self
            .call("GET", &format!("rooms/{room}/messages?dir=b&limit=200&filter={filter}"), Value::Null)
            .await;
        page["chunk"].as_array().unwrap().iter().rev().cloned().collect()
    }

    /// Sends an event; its id.
    pub async fn send(&mut self, room: &str, kind: &str, content: Value) -> String {
        self.sent += 1;
        let path = format!("rooms/{room}/send/{kind}/t{}", self.sent);
        self.call("PUT", &path, content).await["event_id"].as_str().unwrap().to_owned()
    }

    /// A piece of a room's state; null where there is none.
    pub async fn state(&self, room: &str, kind: &str, key: &str) -> Value {
        let url = format!("{}/_matrix/client/v3/rooms/{room}/state/{kind}/{key}", self.base);
        let (status, state) = request("GET", &url, Some(&self.token), None).await;
        if status == 200 { state } else { Value::Null }
    }

    pub async fn direct_chat(&self, with: &str) -> String {
        let body = json!({"invite": [with], "is_direct": true, "preset": "trusted_private_chat"});
        let room = self.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
        self.sees(&room, "I am the Multichat bot").await;
        room
    }
}

/// Synapse, and the door open to it.
pub async fn connected(name: &str, channels: &[&str]) -> Option<(Synapse, Node, Registration)> {
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

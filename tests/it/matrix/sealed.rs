//! Encrypted rooms on a real Synapse: people with a real client that encrypts, a node between them and
//! IRC. What they say is read, what is said to them they can read, and the room knows of the boundary.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use matrix_sdk::deserialized_responses::{VerificationLevel, VerificationState};
use matrix_sdk_crypto::AttachmentEncryptor;
use multichat::base::config::EncryptionConfig;
use multichat::cli::demo::irc_user::{IrcUser, Line};
use multichat::cli::demo::matrix_user::{Heard, MatrixUser};
use multichat::cli::demo::nodes::{self, MatrixSide};
use multichat::matrix::encryption_state;
use serde_json::{Value, json};

use super::attachments::{fetch, upload};
use super::synapse::{Synapse, User};
use super::{eventually, free_port, ready_for_tls, registration, request};
use crate::peers::{self, node::NodeProcess};

const BOT: &str = "@multichatbot:localhost";
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that may read encrypted rooms, at a Synapse that lets it.
struct House {
    synapse: Synapse,
    node: NodeProcess,
    address: String,
    run: peers::Scratch,
}

impl House {
    async fn open(name: &str) -> Option<Self> {
        let port = free_port();
        Self::open_at(name, port, &format!("http://127.0.0.1:{port}")).await
    }

    /// The homeserver reaches the node, which listens on `port`, at `url`.
    async fn open_at(name: &str, port: u16, url: &str) -> Option<Self> {
        ready_for_tls();
        let p2p_port = free_port();
        let registration = registration(url);
        let features = json!({"experimental_features": {
            "msc2409_to_device_messages_enabled": true, "msc3202_transaction_extensions": true}});
        let synapse = Synapse::start_with(name, &registration, &features).await?;
        let run = peers::scratch(name);
        let path = run.join("registration.yaml");
        std::fs::write(&path, registration.to_yaml()).unwrap();
        let matrix = MatrixSide {
            homeserver: synapse.base.clone(),
            server_name: "localhost".into(),
            registration: path.display().to_string(),
            port,
        };
        let mut config = nodes::config_a(matrix, None);
        config.matrix.as_mut().unwrap().encryption = EncryptionConfig { allow: true };
        config.matrix.as_mut().unwrap().public_url = Some(format!("http://127.0.0.1:{port}"));
        config.node.listen = vec![format!("/ip4/127.0.0.1/tcp/{p2p_port}")];
        let node = NodeProcess::start(&run.join("node"), &config).await;
        let address = format!("{}/p2p/{}", config.node.listen[0], node.field("p2p"));
        Some(Self { synapse, node, address, run })
    }

    async fn irc(&self, nick: &str, channel: &str) -> IrcUser {
        let user = IrcUser::connect(self.node.field("irc").parse().unwrap(), nick, nick).await.unwrap();
        user.join(channel).await.unwrap();
        user
    }

    /// A person, over the bare API and with a client that encrypts.
    async fn person(&self, name: &str) -> (User, MatrixUser) {
        let bare = self.synapse.user(name, name).await;
        let client = MatrixUser::login(&self.synapse.base, name, "secret").await.unwrap();
        (bare, client)
    }
}

/// An encrypted room with the bot in it; nothing was said there yet.
async fn encrypted_room(founder: &User) -> String {
    let body = json!({"invite": [BOT], "preset": "private_chat",
                      "power_level_content_override": {"users": {BOT: 100}},
                      "initial_state": [{"type": "m.room.encryption", "state_key": "",
                                         "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]});
    let room = founder.call("POST", "createRoom", body).await["room_id"].as_str().unwrap().to_owned();
    eventually("the bot comes in", async || {
        (founder.state(&room, "m.room.member", BOT).await["membership"] == "join").then_some(())
    })
    .await;
    room
}

/// What a client heard with these words, and could read: its sender encrypted it, on a device that they
/// vouch for. Gives who that was.
async fn reads(client: &MatrixUser, room: &str, words: &str) -> String {
    let fits = |heard: &Heard| heard.room == room && heard.body.contains(words);
    let heard = client.wait_for(words, PATIENCE, fits).await.unwrap();
    if heard.sender.starts_with(BOT) || heard.sender.starts_with("@_multichat_") {
        let vouched = VerificationState::Unverified(VerificationLevel::UnverifiedIdentity);
        assert_eq!(heard.sealed_by, Some(vouched), "{heard:?}");
    }
    heard.sender
}

/// A file, encrypted as clients do it and uploaded, as the content of a message.
async fn sealed_file(user: &User, bytes: &[u8]) -> Value {
    let mut bytes = bytes;
    let mut encryptor = AttachmentEncryptor::new(&mut bytes);
    let mut sealed = Vec::new();
    encryptor.read_to_end(&mut sealed).unwrap();
    let mut file = serde_json::to_value(encryptor.finish()).unwrap();
    file["url"] = upload(user, "application/octet-stream", &sealed).await.into();
    json!({"msgtype": "m.file", "body": "plan.txt", "file": file, "info": {"mimetype": "text/plain"}})
}

/// Nothing of the room's talk was in the clear.
async fn all_is_encrypted(user: &User, room: &str) {
    assert_eq!(user.messages(room).await, Vec::<Value>::new(), "in the clear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_room_speaks_with_irc_and_another_node() {
    let Some(mut house) = House::open("sealed").await else { return };
    let (alice, client) = house.person("alice").await;
    let room = encrypted_room(&alice).await;
    client.say(&room, "!mc link #vault").await.unwrap();
    let told = reads(&client, &room, "Its encryption ends at me").await;
    assert_eq!(told, BOT);
    reads(&client, &room, "#vault is carried in").await;

    let bob = house.irc("bob", "#vault").await;
    client.say(&room, "a secret for bob").await.unwrap();
    bob.wait_for("the secret", PATIENCE, |line| line.mentions("#vault", "a secret for bob")).await.unwrap();
    for number in 0..3 {
        bob.say("#vault", &format!("answer {number}")).unwrap();
    }
    let ghost = reads(&client, &room, "answer 2").await;
    assert!(ghost.starts_with("@_multichat_"), "{ghost}");
    let order: Vec<String> = client
        .heard()
        .into_iter()
        .map(|heard| heard.body)
        .filter(|body| body.starts_with("answer"))
        .collect();
    assert_eq!(order, ["answer 0", "answer 1", "answer 2"]);

    // An edit and a reply of hers, a picture that is encrypted, and a command of hers in the room.
    let said = client.say(&room, "helo").await.unwrap();
    let edit = json!({"msgtype": "m.text", "body": "* hello", "m.new_content": {"msgtype": "m.text", "body": "hello"},
                      "m.relates_to": {"rel_type": "m.replace", "event_id": said}});
    client.send(&room, "m.room.message", edit).await.unwrap();
    bob.wait_for("the edit", PATIENCE, |line| line.mentions("#vault", "hello")).await.unwrap();
    let picture = b"a picture, in the eyes of a test";
    client.send(&room, "m.room.message", sealed_file(&alice, picture).await).await.unwrap();
    let line = |line: &Line| line.mentions("#vault", "sent a file: plan.txt http");
    let line = bob.wait_for("the picture's line", PATIENCE, line).await.unwrap();
    let link = line.params[1].rsplit(' ').next().unwrap().to_owned();
    let (status, headers, bytes) = fetch(&link).await;
    assert_eq!((status, bytes.as_slice()), (200, picture.as_slice()));
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    client.say(&room, "!mc whoami").await.unwrap();
    reads(&client, &room, "@alice:localhost").await;

    // Another node reads along, and a second person who came later is given keys.
    let mut config = nodes::config_b();
    config.node.bootstrap = vec![house.address.clone()];
    let other = NodeProcess::start(&house.run.join("other"), &config).await;
    let carol = IrcUser::connect(other.field("irc").parse().unwrap(), "carol", "carol").await.unwrap();
    carol.join("#vault").await.unwrap();
    let (dave, dave_client) = house.person("dave").await;
    alice.call("POST", &format!("rooms/{room}/invite"), json!({"user_id": dave.id})).await;
    dave_client.join(&room).await.unwrap();
    eventually("carol and alice hear each other", async || {
        carol.say("#vault", "carol is here").unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.heard().iter().any(|heard| heard.body == "carol is here").then_some(())
    })
    .await;
    carol.say("#vault", "for dave too").unwrap();
    reads(&dave_client, &room, "for dave too").await;
    dave_client.say(&room, "dave was here").await.unwrap();
    carol.wait_for("dave", PATIENCE, |line| line.mentions("#vault", "dave was here")).await.unwrap();

    // Who left is given no keys: back in the room, dave cannot read what was said meanwhile.
    dave.call("POST", &format!("rooms/{room}/leave"), json!({})).await;
    let left = |line: &Line| line.command == "PART" && line.from.starts_with("dave");
    carol.wait_for("dave's leaving", PATIENCE, left).await.unwrap();
    carol.say("#vault", "not for dave").unwrap();
    reads(&client, &room, "not for dave").await;
    alice.call("POST", &format!("rooms/{room}/invite"), json!({"user_id": dave.id})).await;
    dave_client.join(&room).await.unwrap();
    eventually("carol is read by dave again", async || {
        carol.say("#vault", "dave is back").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        dave_client.heard().iter().any(|heard| heard.body == "dave is back").then_some(())
    })
    .await;
    let read = dave_client.messages(&room, 200).await.unwrap();
    let has = |words: &str| read.iter().any(|(_, body)| body == words);
    assert!(has("for dave too") && has("dave is back") && !has("not for dave"), "{read:?}");
    let meanwhile = dave.events(&room, "m.room.encrypted").await;
    assert!(meanwhile.len() > read.len(), "he has the event, and not its key");

    // Killed in the middle of it and started again, it goes on with the same keys, and says nothing twice.
    for number in 0..20 {
        carol.say("#vault", &format!("line {number}")).unwrap();
    }
    reads(&client, &room, "line 3").await;
    house.node.restart().await;
    reads(&client, &room, "line 19").await;
    let mut lines: Vec<String> = client.heard().into_iter().map(|heard| heard.body).collect();
    lines.retain(|body| body.starts_with("line "));
    assert_eq!(lines, (0..20).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert_eq!(encryption_state(&house.run.join("node/data")), Some(Ok(())));
    client.say(&room, "after the restart").await.unwrap();
    carol
        .wait_for("the restart", PATIENCE, |line| line.mentions("#vault", "after the restart"))
        .await
        .unwrap();
    carol.say("#vault", "read you").unwrap();
    reads(&client, &room, "read you").await;
    all_is_encrypted(&alice, &room).await;
}

/// Stands between the homeserver and the node, and holds back what is sent to devices while it is told to.
#[derive(Clone, Default)]
struct Keeper {
    holds: Arc<AtomicBool>,
    held: Arc<Mutex<Vec<Value>>>,
}

impl Keeper {
    /// Listens, and passes on to the node at `port`. Gives its own address.
    async fn listen(&self, port: u16) -> String {
        let keeper = self.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let keeper = keeper.clone();
            async move { keeper.pass_on(port, request).await }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    async fn pass_on(&self, port: u16, request: Request) -> (StatusCode, String) {
        let url = format!("http://127.0.0.1:{port}{}", request.uri());
        let method = request.method().to_string();
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
        const SENT: &str = "de.sorunome.msc2409.to_device";
        let mut sent = Vec::new();
        if body["events"].is_array() {
            let new: Vec<Value> = body[SENT].as_array().cloned().unwrap_or_default();
            let mut held = self.held.lock().unwrap();
            held.extend(new);
            if !self.holds.load(Ordering::SeqCst) {
                sent = std::mem::take(&mut *held);
            }
            body[SENT] = sent.clone().into();
        }
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let passing = client.request(method.parse().unwrap(), url).bearer_auth("hs-secret");
        let answer = match passing.body(body.to_string()).send().await {
            Ok(answer) if answer.status().is_success() => {
                return (StatusCode::OK, answer.text().await.unwrap_or_default());
            }
            Ok(answer) => answer.status().as_u16(),
            Err(_) => 502,
        };
        // The homeserver will bring it again.
        self.held.lock().unwrap().splice(0..0, sent);
        (StatusCode::from_u16(answer).unwrap(), "{}".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_its_key_waits_for_it_over_a_restart() {
    ready_for_tls();
    let (port, keeper) = (free_port(), Keeper::default());
    let url = keeper.listen(port).await;
    let Some(mut house) = House::open_at("latekeys", port, &url).await else { return };
    let (alice, client) = house.person("alice").await;
    let room = encrypted_room(&alice).await;
    client.say(&room, "!mc link #late").await.unwrap();
    reads(&client, &room, "#late is carried in").await;
    let (dave, dave_client) = house.person("dave").await;
    alice.call("POST", &format!("rooms/{room}/invite"), json!({"user_id": dave.id})).await;
    dave_client.join(&room).await.unwrap();

    keeper.holds.store(true, Ordering::SeqCst);
    dave_client.say(&room, "a late secret").await.unwrap();
    reads(&client, &room, "I cannot read what @dave:localhost said").await;
    house.node.restart().await;
    let bob = house.irc("bob", "#late").await;
    keeper.holds.store(false, Ordering::SeqCst);
    client.say(&room, "on time").await.unwrap();
    bob.wait_for("the late secret", PATIENCE, |line| line.mentions("#late", "a late secret")).await.unwrap();
    bob.wait_for("what was on time", PATIENCE, |line| line.mentions("#late", "on time")).await.unwrap();

    // A ghost whose device is gone from the homeserver gets another.
    bob.say("#late", "with the first device").unwrap();
    let ghost = reads(&client, &room, "with the first device").await;
    let before = devices(&house, &ghost).await;
    assert_eq!(before.len(), 1, "{before:?}");
    let url = format!("{}/_matrix/client/v3/devices/{}?user_id={ghost}", house.synapse.base, before[0]);
    assert_eq!(request("DELETE", &url, Some("as-secret"), Some("{}")).await.0, 200);
    house.node.restart().await;
    let bob = house.irc("bob", "#late").await;
    bob.say("#late", "with the second device").unwrap();
    reads(&client, &room, "with the second device").await;
    let after = devices(&house, &ghost).await;
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    all_is_encrypted(&alice, &room).await;
}

async fn devices(house: &House, user: &str) -> Vec<String> {
    let url = format!("{}/_matrix/client/v3/devices?user_id={user}", house.synapse.base);
    let (_, answer) = request("GET", &url, Some("as-secret"), None).await;
    let devices = answer["devices"].as_array().unwrap().iter();
    devices.map(|device| device["device_id"].as_str().unwrap().to_owned()).collect()
}

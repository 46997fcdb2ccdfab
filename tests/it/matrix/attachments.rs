//! Pictures and files with a real node and a real Synapse: who is not on that homeserver reads what was
//! sent and where it can be had, for as long as it may be read.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::synapse::User;
use super::whole::{House, linked_room};
use super::{eventually, request};

/// A picture of one pixel.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0,
    0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63,
    0x60, 0, 0, 0, 2, 0, 1, 0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60,
    0x82,
];

pub(super) async fn upload(user: &User, mime: &str, bytes: &[u8]) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("{}/_matrix/media/v3/upload?filename=f", user.base))
        .bearer_auth(&user.token)
        .header("content-type", mime)
        .body(bytes.to_vec());
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["content_uri"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

pub(super) async fn fetch(link: &str) -> (u16, HeaderMap, Vec<u8>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(link).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_on_irc_get_a_link_that_ends_with_the_message() {
    let Some(mut house) = House::open("attachments").await else { return };
    let mut alice = house.synapse.user("alice", "Alice").await;
    let dave = &mut house.synapse.user("dave", "Dave").await;
    let room = linked_room(&mut alice, "11", "#cats").await;
    let other = linked_room(dave, "11", "#cats").await;
    let bob = house.irc("bob", "#cats").await;

    let address = upload(&alice, "image/png", PIXEL).await;
    let info = json!({"mimetype": "image/png", "size": PIXEL.len(), "w": 1, "h": 1});
    let image = json!({"msgtype": "m.image", "body": "my cat, from afar", "filename": "cat é.png", "url": address,
                       "info": info});
    let sent = alice.send(&room, "m.room.message", image.clone()).await;
    let begins = format!("sent an image: cat é.png ({} B, 1×1) http://127.0.0.1:", PIXEL.len());
    let fits = |line: &multichat::cli::demo::irc_user::Line| {
        line.command == "PRIVMSG" && line.params[1].starts_with(&begins)
    };
    let line = bob.wait_for("the picture's line", Duration::from_secs(60), fits).await.unwrap();
    let link = line.params[1].rsplit(' ').next().unwrap().to_owned();
    let caption = |line: &multichat::cli::demo::irc_user::Line| line.says("#cats", "my cat, from afar");
    bob.wait_for("the caption", Duration::from_secs(60), caption).await.unwrap();

    // Anybody with the link has it, as it is, and nothing of it can do anything.
    let (status, headers, bytes) = fetch(&link).await;
    assert_eq!((status, bytes.as_slice()), (200, PIXEL));
    for (name, expect) in [
        ("content-type", "image/png"),
        ("content-length", &PIXEL.len().to_string()),
        ("content-disposition", "inline; filename*=UTF-8''cat%20%C3%A9.png"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], expect, "{name}");
    }
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox; default-src 'none'"));

    // The other room of that homeserver has the picture itself.
    let copy = dave.sees(&other, "my cat, from afar").await;
    for key in ["msgtype", "url", "filename", "info"] {
        assert_eq!(copy["content"][key], image[key], "{key}");
    }

    // What could run in a browser is downloaded; what has no size says none.
    let page = upload(&alice, "text/html", b"<script>alert(1)</script>").await;
    let file = json!({"msgtype": "m.file", "body": "page.html", "url": page});
    alice.send(&room, "m.room.message", file).await;
    let fits = |line: &multichat::cli::demo::irc_user::Line| {
        line.command == "PRIVMSG" && line.params[1].starts_with("sent a file: page.html http://")
    };
    let line = bob.wait_for("the file's line", Duration::from_secs(60), fits).await.unwrap();
    let (status, headers, _) = fetch(line.params[1].rsplit(' ').next().unwrap()).await;
    assert_eq!((status, &headers["content-type"]), (200, &"application/octet-stream".parse().unwrap()));
    assert_eq!(headers["content-disposition"], "attachment; filename*=UTF-8''page.html");

    // Nobody makes a link, and the homeserver's endpoints beside it still want their token.
    let (forged, last) = link.split_at(link.len() - 1);
    let forged = format!("{forged}{}", if last == "A" { "Q" } else { "A" });
    assert_eq!(fetch(&forged).await.0, 404);
    let base = link.split_once("/media/").unwrap().0;
    assert_eq!(request("GET", &format!("{base}/users/@a:b"), None, None).await.0, 403);

    // A link outlives the node's restart, but not the message.
    house.node.restart().await;
    eventually("the link is back", async || (fetch(&link).await.0 == 200).then_some(())).await;
    alice.call("PUT", &format!("rooms/{room}/redact/{sent}/r1"), json!({"reason": "wrong cat"})).await;
    eventually("the link is gone", async || (fetch(&link).await.0 == 410).then_some(())).await;
    let (status, headers, bytes) = fetch(&link).await;
    assert_eq!((status, &headers["cache-control"]), (410, &"no-store".parse().unwrap()));
    assert!(String::from_utf8(bytes).unwrap().contains("taken back"));
}

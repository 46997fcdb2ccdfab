//! The door's HTTP sides by hand: transactions as a homeserver sends them, and the calls that
//! deliveries cost.

use multichat::base::config::{EncryptionConfig, MatrixConfig};
use multichat::chat::intent::Intent;
use multichat::chat::message::{Content, Link};
use multichat::chat::view::What;
use multichat::matrix::Matrix;
use multichat::matrix::proto::registration::Registration;
use multichat::port::{Outcome, Refusal};
use serde_json::json;

use super::node::Node;
use super::stand_in::StandIn;
use super::{
    bob, config, deliver, delivery, eventually, free_port, ready_for_tls, registration, request, said,
};

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
    let allowed = MatrixConfig { encryption: EncryptionConfig { allow: true }, ..config(&away) };
    let old = Registration { for_devices: false, ..registration("http://127.0.0.1:7701") };
    let fault = Matrix::bind(&allowed, old, Vec::new()).await.err().expect("the registration lacks a line");
    assert!(fault.message.contains("wants org.matrix.msc3202: true in it"), "{fault}");
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

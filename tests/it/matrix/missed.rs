//! What a homeserver took and never told us: the stand-in loses transactions, as Synapse does when
//! one is made in the moment in which it notices that we are back.

use multichat::chat::message::Link;
use multichat::matrix::Matrix;
use multichat::port::Refusal;
use serde_json::{Value, json};

use super::node::Node;
use super::stand_in::StandIn;
use super::{config, eventually, ready_for_tls, registration, request, said};

/// Pushes one event as a transaction of that number.
async fn push(base: &str, txn: &str, event: &Value) -> u16 {
    let url = format!("{base}/_matrix/app/v1/transactions/{txn}");
    request("PUT", &url, Some("hs-secret"), Some(&json!({"events": [event]}).to_string())).await.0
}

fn bodies(node: &Node) -> Vec<String> {
    node.look(|kept| kept.messages()).into_iter().map(|(_, body)| body).collect()
}

#[tokio::test]
async fn matrix_lost_transactions_are_read_from_the_room() {
    ready_for_tls();
    let hs = StandIn::default();
    let config = config(&hs.start().await);
    let matrix = Matrix::bind(&config, registration("http://127.0.0.1:7701"), Vec::new()).await.unwrap();
    let (counts, base) = (matrix.counts(), format!("http://{}", matrix.address()));
    let node = Node::open(matrix, &["#rust"]);
    node.look(|kept| kept.channels[0].links.push(Link::Matrix { room: "!room:localhost".into() }));
    let events: Vec<Value> = (0..=9).map(|number| said(&format!("${number}"), &number.to_string())).collect();
    let holds = |newest: usize| {
        // Newest first, as `/messages` has them; 0 was said before there was a link.
        *hs.room.lock().unwrap() = events[..=newest].iter().rev().cloned().collect();
    };

    // 2 and 3 are lost: the number of the next transaction shows it, and the order is kept.
    holds(1);
    assert_eq!(push(&base, "11", &events[1]).await, 200);
    holds(4);
    assert_eq!(push(&base, "14", &events[4]).await, 200);
    assert_eq!(bodies(&node), ["1", "2", "3", "4"]);
    assert_eq!(counts.get("event read from the room"), 2);
    let kept = || node.look(|kept| kept.notes.get("heard/!room:localhost").cloned());
    eventually("the note", async || (kept() == Some(b"$4".to_vec())).then_some(())).await;

    // What the node postpones is looked for again when the transaction comes again.
    holds(6);
    node.look(|kept| kept.refuse = Some(Refusal::Full("events")));
    assert_eq!(push(&base, "16", &events[6]).await, 503);
    node.look(|kept| {
        kept.refuse = None;
        kept.submissions.truncate(4);
    });
    assert_eq!(push(&base, "16", &events[6]).await, 200);
    assert_eq!(bodies(&node), ["1", "2", "3", "4", "5", "6"]);

    // 7 came late, and nothing comes after it; 8 is found once all is quiet.
    let mut late = events[7].clone();
    late["unsigned"] = json!({"age": 20_000});
    holds(8);
    assert_eq!(push(&base, "17", &late).await, 200);
    eventually("what was lost last", async || bodies(&node).contains(&"8".into()).then_some(())).await;
    assert_eq!(bodies(&node), ["1", "2", "3", "4", "5", "6", "7", "8"]);

    // Where the room does not have what we heard last, nothing of it is carried.
    *hs.room.lock().unwrap() = vec![events[0].clone()];
    assert_eq!(push(&base, "20", &events[9]).await, 200);
    assert_eq!(bodies(&node)[8..], ["9"]);
    node.close().await;
}

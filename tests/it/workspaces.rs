//! A workspace and its channels as the README shows them: two real nodes, the real command line.

use serde_json::Value;

use super::market::{config, count, done, run, until};
use super::peers::node::NodeProcess;
use super::peers::scratch;

fn has(list: &Value, field: &str, value: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item[field] == value))
}

#[tokio::test]
async fn a_workspace_on_two_nodes() {
    let dir = scratch("workspaces");
    let (here, there) = (dir.join("one"), dir.join("two"));
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    let one = NodeProcess::start(&here, &config(&here, &address, Vec::new())).await;
    let known = vec![format!("{address}/p2p/{}", one.field("p2p"))];
    let elsewhere = "/ip4/127.0.0.1/udp/0/quic-v1";
    let mut two = NodeProcess::start(&there, &config(&there, elsewhere, known)).await;

    done(&here, "channel create team/ --as alice");
    done(&here, "channel create team/garden --as alice");
    let channels = until(&there, "channels", |channels| count(channels) == 2);
    assert!(has(&channels, "name", "#team") && has(&channels, "name", "#team/garden"), "{channels}");
    // Who joins a channel joins its workspace.
    done(&there, "channel join team/garden --as bob");
    done(&there, "send team/garden hello --as bob");
    for channel in ["team", "team/garden"] {
        until(&here, &format!("members {channel}"), |members| has(members, "username", "bob"));
    }
    until(&here, "history team/garden", |said| has(said, "text", "hello"));
    let (went_well, why) = run(&there, "channel create team/kitchen --as bob");
    assert!(!went_well && why.contains("create_channel"), "{why}");
    done(&here, "channel policy --as alice team role member +create_channel");
    until(&there, "channel policy team", |policy| policy.to_string().contains("create_channel"));
    done(&there, "channel create team/kitchen --as bob");
    until(&here, "channels", |channels| has(channels, "name", "#team/kitchen"));

    // A kick from the workspace is one from each of its channels, on every node.
    done(&here, "channel kick team bob --as alice");
    until(&there, "members team/garden", |members| !has(members, "username", "bob"));
    let (went_well, why) = run(&there, "send team/garden again --as bob");
    assert!(!went_well, "{why}");
    // It is in the log: a node that is killed knows it when it comes back.
    two.restart().await;
    let members = until(&there, "members team/garden", |members| count(members) == 1);
    assert!(has(&members, "username", "alice"), "{members}");
    assert!(has(&until(&there, "channels", |list| count(list) == 3), "name", "#team/garden"));
    drop(one);
}

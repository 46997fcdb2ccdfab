//! Tokens, tickets and intents as a person meets them: two real nodes, the real command line.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use multichat::base::config::Config;
use serde_json::Value;

use super::peers::node::NodeProcess;
use super::peers::scratch;

pub(super) fn config(dir: &Path, listen: &str, bootstrap: Vec<String>) -> Config {
    let data_dir = Some(dir.join("data").to_string_lossy().into_owned());
    let mut config = Config { data_dir, ..Config::default() };
    config.node.listen = vec![listen.into()];
    config.node.lan = false;
    config.node.bootstrap = bootstrap;
    config.irc.listen.clear();
    config
}

/// Runs a command against the node of a directory. What it printed, and whether it went well.
pub(super) fn run(dir: &Path, line: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multichat"));
    let output = command.arg("--config").arg(dir.join("config.yaml")).args(line.split(' ')).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

pub(super) fn done(dir: &Path, line: &str) -> String {
    let (went_well, text) = run(dir, line);
    assert!(went_well, "{line}: {text}");
    text
}

fn json(dir: &Path, line: &str) -> Value {
    serde_json::from_str(&done(dir, &format!("--json {line}"))).unwrap()
}

/// Until it is so; what else is wrong is said by the last answer.
pub(super) fn until(dir: &Path, line: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let (true, text) = run(dir, &format!("--json {line}")) {
            let value: Value = serde_json::from_str(&text).unwrap();
            if is_so(&value) {
                return value;
            }
            assert!(Instant::now() < end, "{line}: {value}");
        }
        assert!(Instant::now() < end, "{line} never went well");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn tokens_for_a_ticket_between_two_nodes() {
    let dir = scratch("market");
    let (here, there) = (dir.join("one"), dir.join("two"));
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    let one = NodeProcess::start(&here, &config(&here, &address, Vec::new())).await;
    let known = vec![format!("{address}/p2p/{}", one.field("p2p"))];
    let elsewhere = "/ip4/127.0.0.1/udp/0/quic-v1";
    let two = NodeProcess::start(&there, &config(&there, elsewhere, known)).await;

    done(&here, "channel create fair --as alice");
    until(&there, "channels", |channels| count(channels) == 1);
    done(&there, "channel join fair --as bob");
    let issued = done(&there, "intent issue fair 20:gold --as bob");
    assert!(issued.starts_with("settled in "), "{issued}");
    until(&here, "intent owned fair", |owned| count(owned) == 1);
    done(&here, "intent issue fair 3:pass --ticket --price 5:gold --as alice");
    until(&there, "intent owned fair", |owned| count(owned) == 2);

    let (went_well, why) = run(&here, "intent submit fair --give 1:pass --want 4:gold --as alice");
    assert!(!went_well && why.contains("below its price"), "{why}");
    let (went_well, why) = run(&here, "intent submit fair --give 1:pass --want much --as alice");
    assert!(!went_well && why.contains("QUANTITY:NAME"), "{why}");
    let waits = done(&here, "intent submit fair --give 1:pass --want 5:gold --as alice");
    assert!(waits.starts_with("waits for others"), "{waits}");
    done(&there, "intent submit fair --give 5:gold --want 1:pass --as bob");
    let intents = until(&here, "intent list fair", |intents| count(intents) == 2);
    let id = intents[0]["id"].as_str().unwrap();
    let shown = json(&here, &format!("intent show fair {}", &id[..12]));
    assert_eq!(shown["id"], intents[0]["id"]);

    let (went_well, why) = run(&here, "intent show fair nothing");
    assert!(!went_well && why.contains("no intent that waits"), "{why}");
    until(&there, "intent list fair", |intents| count(intents) == 2);
    let settled = done(&there, "solver run fair --as bob");
    assert!(settled.starts_with("settled, lastly in "), "{settled}");
    assert_eq!(done(&there, "solver run --as bob").trim(), "nothing balances");
    let owns = |owned: &Value, owner: &str, name: &str| -> u64 {
        let all = owned.as_array().into_iter().flatten();
        let fitting = all.filter(|held| held["owner"] == owner && held["asset"]["name"] == name);
        fitting.map(|held| held["quantity"].as_str().unwrap().parse::<u64>().unwrap()).sum()
    };
    for dir in [&here, &there] {
        let owned = until(dir, "intent owned fair", |owned| owns(owned, "bob", "pass") == 1);
        assert_eq!((owns(&owned, "alice", "gold"), owns(&owned, "bob", "gold")), (5, 15));
        assert_eq!(owns(&owned, "alice", "pass"), 2);
        until(dir, "intent list fair", |intents| count(intents) == 0);
    }
    // Across channels: gold of the fair for fish of the port, in both or in neither.
    done(&there, "channel create port --as bob");
    until(&here, "channels", |channels| count(channels) == 2);
    done(&here, "channel join port --as alice");
    done(&there, "intent issue port 9:fish --as bob");
    until(&here, "intent owned port", |owned| count(owned) == 1);
    done(&here, "intent submit fair --give 2:gold --want 3:fish --want-in port --as alice");
    done(&there, "intent submit port --give 3:fish --want 2:gold --want-in fair --as bob");
    let intents = until(&here, "intent list fair", |intents| count(intents) == 2);
    assert!(intents.to_string().contains("3:fish@bob in #port"), "{intents}");
    done(&here, "solver run port --as alice");
    for dir in [&here, &there] {
        let fish = until(dir, "intent owned port", |owned| owns(owned, "alice", "fish") == 3);
        let gold = until(dir, "intent owned fair", |owned| owns(owned, "bob", "gold") == 17);
        assert_eq!((owns(&fish, "bob", "fish"), owns(&gold, "alice", "gold")), (6, 3));
    }
    // What is owned is in the log: a node that is killed has it when it comes back.
    let mut two = two;
    two.restart().await;
    let owned = until(&there, "intent owned fair", |owned| count(owned) > 0);
    assert_eq!((owns(&owned, "bob", "pass"), owns(&owned, "bob", "gold")), (1, 17));
    drop(one);
}

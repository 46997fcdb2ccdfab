//! The main job on real parts: Synapse, ngIRCd, irssi, and two nodes over real libp2p.

use std::time::Duration;

use multichat::cli::demo::conversation;
use multichat::cli::demo::irc_user::IrcUser;
use multichat::cli::demo::matrix_user::MatrixUser;
use multichat::cli::demo::nodes::{self, CHANNEL, MatrixSide};
use multichat::cli::demo::people::Seat;
use multichat::cli::demo::process::free_ports;
use multichat::cli::demo::screen::Screen;
use multichat::cli::demo::stage::{Places, SERVER_NAME, Stage, room_alias, write_registration};
use multichat::cli::demo::synapse_config::Settings;

use crate::peers::{self, node::NodeProcess};

const LONG: Duration = Duration::from_secs(180);

/// The demo's stage and conversation, on the peers of the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_crosses_matrix_two_nodes_and_irc() {
    let run = peers::scratch("conversation");
    let had = [
        peers::unless_skipped(peers::synapse().await).is_some(),
        peers::unless_skipped(peers::ircd(&run).await).is_some(),
        peers::unless_skipped(peers::irssi_program().await).is_some(),
    ];
    if had.contains(&false) {
        return;
    }
    let places = Places { home: peers::folder(), run: run.to_path_buf() };
    let mut stage = Stage::default();
    let mut screen = Screen::new();
    stage.raise(&places, &mut screen).await.unwrap();
    let seats: Vec<&str> = stage.people.iter().map(|person| seat(&person.seat)).collect();
    assert_eq!(seats, ["matrix", "irssi", "network"]);

    let tally = conversation::hold(&mut stage.people, &mut screen).await;
    stage.strike().await;
    let tally = tally.unwrap();
    assert_eq!((tally.lines, tally.deliveries), (6, 12));
}

/// Node A, between the homeserver and node B, is killed without warning again and again while a
/// Matrix user speaks: an IRC client at node B, connected all the time, gets every line once and in
/// order; and what that client says meanwhile reaches Matrix in the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_a_node_is_killed() {
    const LINES: usize = 500;
    let run = peers::scratch("killed");
    let [appservice_port, p2p_port] = free_ports().unwrap();
    let registration = write_registration(&run, appservice_port).unwrap();
    let settings = Settings { server_name: SERVER_NAME.into(), registrations: vec![registration.clone()] };
    let Some(synapse) = peers::unless_skipped(peers::homeserver(&run, settings).await) else { return };
    synapse.register(&[("alice", "secret")]).await.unwrap();

    let mut b = nodes::config_b();
    let b_address = format!("/ip4/127.0.0.1/tcp/{p2p_port}");
    b.node.listen = vec![b_address.clone()];
    b.irc.flood = None;
    let b = NodeProcess::start(&run.join("b"), &b).await;
    let bob = IrcUser::connect(b.field("irc").parse().unwrap(), "bob", "Bob").await.unwrap();
    bob.join(CHANNEL).await.unwrap();

    let matrix = MatrixSide {
        homeserver: synapse.url(),
        server_name: SERVER_NAME.into(),
        registration: registration.display().to_string(),
        port: appservice_port,
    };
    let mut a = nodes::config_a(matrix, None);
    a.node.bootstrap = vec![format!("{b_address}/p2p/{}", b.field("p2p"))];
    let mut a = NodeProcess::start(&run.join("a"), &a).await;
    let alice = MatrixUser::login(&synapse.url(), "alice", "secret").await.unwrap();
    let room = alice.join(&room_alias()).await.unwrap();
    bob.say(CHANNEL, "ready").unwrap();
    alice.wait_for("the first line", LONG, |heard| heard.body == "ready").await.unwrap();

    let speaking = async {
        for number in 0..LINES {
            alice.say(&room, &format!("from alice {number}")).await.unwrap();
            bob.say(CHANNEL, &format!("from bob {number}")).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let killing = async {
        for pause_ms in [700, 1900, 1300, 2300] {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            a.restart().await;
        }
    };
    tokio::join!(speaking, killing);
    let (last_of_alice, last_of_bob) =
        (format!("from alice {}", LINES - 1), format!("from bob {}", LINES - 1));
    bob.wait_for("alice's last line", LONG, |line| line.says(CHANNEL, &last_of_alice)).await.unwrap();
    alice.wait_for("bob's last line", LONG, |heard| heard.body == last_of_bob).await.unwrap();

    let expected = |who: &str| (0..LINES).map(|number| format!("from {who} {number}")).collect::<Vec<_>>();
    let said = bob.heard().into_iter().filter(|line| line.command == "PRIVMSG");
    let at_bob: Vec<String> = said.filter_map(|line| line.params.into_iter().nth(1)).collect();
    assert_eq!(of(at_bob, "from alice"), expected("alice"), "at the IRC client");
    let at_room = alice.messages(&room, 5 * LINES).await.unwrap().into_iter().map(|(_, body)| body);
    assert_eq!(of(at_room.collect(), "from bob"), expected("bob"), "in the Matrix room");
}

fn of(lines: Vec<String>, start: &str) -> Vec<String> {
    lines.into_iter().filter(|line| line.starts_with(start)).collect()
}

fn seat(seat: &Seat) -> &'static str {
    match seat {
        Seat::Matrix { .. } => "matrix",
        Seat::Irssi(_) => "irssi",
        Seat::Listener(_) => "listener",
        Seat::Network(_) => "network",
    }
}

//! The main job on real parts: Synapse, ngIRCd, irssi, and two nodes over real libp2p.

use multichat::cli::demo::conversation;
use multichat::cli::demo::people::Seat;
use multichat::cli::demo::screen::Screen;
use multichat::cli::demo::stage::{Places, Stage};

use crate::peers;

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

fn seat(seat: &Seat) -> &'static str {
    match seat {
        Seat::Matrix { .. } => "matrix",
        Seat::Irssi(_) => "irssi",
        Seat::Listener(_) => "listener",
        Seat::Network(_) => "network",
    }
}

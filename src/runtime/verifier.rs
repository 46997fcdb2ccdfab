//! Decodes and checks what peers send, on a thread of its own, before the node sees it: signature
//! checks are most of the work of taking an event in.

use tokio::sync::mpsc;

use crate::port::Command;
use crate::replica::Packet;

/// Passes commands on in order, turning bytes into checked packets. Ends when either side closes.
pub(super) fn run(mut incoming: mpsc::Receiver<Command>, node: mpsc::Sender<Command>) {
    while let Some(command) = incoming.blocking_recv() {
        let command = match command {
            Command::Bytes { from, bytes } => match Packet::decode(&bytes) {
                Ok(mut packet) => {
                    let dropped = packet.verify() as u64;
                    Command::Packet { from, packet: Some(packet), dropped }
                }
                Err(error) => {
                    tracing::debug!(%from, %error, "a packet was refused");
                    Command::Packet { from, packet: None, dropped: 1 }
                }
            },
            other => other,
        };
        if node.blocking_send(command).is_err() {
            return;
        }
    }
}

//! What adversaries do: they run the same code as everyone, and this changes what leaves them.

use super::super::chance::Chance;
use super::super::topology::{Contact, Frame, Message};

/// How an adversary behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malice {
    /// Takes part in membership, passes trials of storage, and passes nothing on.
    Covert,
    /// As well, names nobody but other adversaries.
    Poison,
}

/// What is left of a frame that an adversary should send.
pub fn tamper(malice: Malice, frame: Frame, crowd: &[Contact], chance: &mut Chance) -> Frame {
    let kept = frame.0.into_iter().filter(|message| !serves(message));
    let twist = |message: Message, chance: &mut Chance| match (malice, message) {
        (Malice::Poison, Message::Shuffle { nonce, ttl, contacts }) => {
            let contacts = chance.sample(crowd, contacts.len());
            Message::Shuffle { nonce, ttl, contacts }
        }
        (Malice::Poison, Message::ShuffleReply { nonce, contacts }) => {
            let contacts = chance.sample(crowd, contacts.len());
            Message::ShuffleReply { nonce, contacts }
        }
        (Malice::Poison, Message::Nodes { nonce, contacts }) => {
            let contacts = chance.sample(crowd, contacts.len());
            Message::Nodes { nonce, contacts }
        }
        (_, other) => other,
    };
    Frame(kept.map(|message| twist(message, chance)).collect())
}

/// Whether a message helps others to payloads.
fn serves(message: &Message) -> bool {
    matches!(
        message,
        Message::Payload { .. }
            | Message::IHave(_)
            | Message::IWant(_)
            | Message::Fingerprint(_)
            | Message::Recent { .. }
            | Message::Ascend { .. }
            | Message::Descend { .. }
            | Message::Mark { .. }
            | Message::Marked { .. }
    )
}

//! Any act, by anybody, on anything: the short way by which a node checks an action that it built itself
//! and the long way of somebody who is handed it come to the same verdict.

use multichat::base::{ChannelId, Digest, EventId, Identity, Timestamp, codec};
use multichat::chat::access::Role;
use multichat::chat::act::Act;
use multichat::chat::build::{self, Held, Setting};
use multichat::chat::logics::logics;
use multichat::machine::verify_action;

/// Where an act happens, from one byte.
fn role(byte: u8) -> Role {
    match byte % 6 {
        0 => Role::Founder,
        1 => Role::Admin,
        2 => Role::Moderator,
        3 => Role::Member,
        _ => Role::Custom(u16::from(byte) * 8),
    }
}

pub fn run(data: &[u8]) {
    let Some((head, act)) = data.split_at_checked(8) else { return };
    let Ok(act) = codec::decode::<Act>(act, act.len()) else { return };
    assert_eq!(codec::encode(&act), &data[8..], "one encoding for each act");
    let person = |byte: u8| Identity([byte % 4; 32]);
    let setting = Setting {
        event: EventId([head[0]; 32]),
        channel: ChannelId([7; 32]),
        identity: person(head[1]),
        device: person(head[2]),
        role: role(head[3]),
        granted: (head[4] & 1 == 1).then(|| role(head[4] >> 1)),
        target_author: (head[5] & 1 == 1).then(|| person(head[5] >> 1)),
        timestamp: Timestamp(u64::from(head[6])),
        payload: (head[6] & 1 == 1).then_some(Digest([head[6]; 32])),
    };
    let held = (head[7] & 1 == 1).then_some(Held { after: EventId([head[7]; 32]), profile: Digest([3; 32]) });
    let short = build::verify(&act, &setting, held);
    let Ok(action) = build::action(&act, &setting, held) else {
        return assert!(short.is_err(), "what cannot be built does not pass");
    };
    let long = verify_action(logics(), &action).map(drop);
    // A broken rule names a tag; both name the same one.
    assert_eq!(short, long, "{act:?} {setting:?}");
}

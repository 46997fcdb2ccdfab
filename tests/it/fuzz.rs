//! The fuzz targets of `fuzz/`, each over some thousand inputs: bytes at random, and true ones bent. A
//! fuzzer with coverage goes deeper; this sees that the targets hold, and go on holding.

mod irc_line;
mod logics;
mod node;
mod packet;

use multichat::base::codec;
use multichat::base::{EventId, Identity};
use multichat::chat::access::Role;
use multichat::chat::act::{Act, Standing};
use multichat::chat::channel::Change;
use multichat::replica::Packet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn for_all(cases: u32, inputs: impl Strategy<Value = Vec<u8>>, target: fn(&[u8])) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&inputs, |data| {
            target(&data);
            Ok(())
        })
        .unwrap();
}

/// One of these, with some of its bytes changed, some cut off.
fn bent(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let bends = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(seeds), bends, any::<prop::sample::Index>(), 0..8u8).prop_map(
        |(mut seed, bends, end, cut)| {
            for (at, bend) in bends.into_iter().filter(|_| !seed.is_empty()).collect::<Vec<_>>() {
                let at = at.index(seed.len());
                seed[at] ^= bend;
            }
            if cut == 0 {
                seed.truncate(end.index(seed.len() + 1));
            }
            seed
        },
    )
}

fn acts() -> Vec<Act> {
    let subject = Identity([1; 32]);
    vec![
        Act::SendMessage(Default::default()),
        Act::LeaveChannel { reason: "bye".into() },
        Act::GrantRole { subject, role: Role::Moderator, expires: None },
        Act::RevokeRole { subject, then: Standing::Out, reason: "x".into() },
        Act::UpdateChannel(Change::Topic("t".into())),
        Act::RedactMessage { target: EventId([5; 32]), reason: String::new() },
        Act::Extension { logic: Default::default(), data: vec![1, 2, 3] },
        Act::UpdateProfile { profile: Default::default() },
    ]
}

#[test]
fn packets() {
    let seeds = vec![Packet::Summary(Vec::new()).encode(), vec![0; 40]];
    for_all(4_000, prop_oneof![vec(any::<u8>(), 0..300), bent(seeds)], packet::run);
}

#[test]
fn logics_of_any_act() {
    let seeds = acts().iter().map(|act| [vec![0; 8], codec::encode(act)].concat()).collect();
    let head = vec(any::<u8>(), 8);
    let inputs = (head, bent(seeds)).prop_map(|(head, mut data)| {
        let length = head.len().min(data.len());
        data[..length].copy_from_slice(&head[..length]);
        data
    });
    for_all(20_000, inputs, logics::run);
}

#[test]
fn nodes() {
    for_all(400, vec(any::<u8>(), 0..600), node::run);
}

#[test]
fn irc_lines() {
    let line = "[@:;=\\\\ #a-z0-9\u{e9}\r\n\0]{0,700}".prop_map(String::into_bytes);
    for_all(4_000, prop_oneof![vec(any::<u8>(), 0..600), line], irc_line::run);
    // Found by a fuzzer: a source that left no place for the command.
    irc_line::run(&[b"G:".as_slice(), &[0xff; 400], b" K\n"].concat());
}

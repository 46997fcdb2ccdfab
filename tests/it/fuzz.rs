//! The fuzz targets of `fuzz/`, each over some thousand inputs: bytes at random, and true ones bent. A
//! fuzzer with coverage goes deeper; this sees that the targets hold, and go on holding.

mod irc_line;
mod logics;
mod node;
mod packet;
mod session;

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

/// Lines as clients send them, more or less; the words are those that do something.
fn irc_words() -> impl Strategy<Value = Vec<u8>> {
    const LINES: &[&str] = &[
        "NICK bob",
        "NICK carol",
        "NICK root",
        "USER u 0 * :Real",
        "CAP LS 302",
        "CAP END",
        "CAP LIST",
        "CAP REQ :message-tags batch echo-message labeled-response server-time",
        "CAP REQ :draft/multiline batch message-tags draft/chathistory draft/event-playback",
        "CAP REQ :draft/metadata-3 away-notify extended-join account-tag extended-monitor",
        "PASS sesame",
        "AUTHENTICATE PLAIN",
        "AUTHENTICATE AGJvYgBzZXNhbWU=",
        "AUTHENTICATE SCRAM-SHA-256",
        "AUTHENTICATE biwsbj1ib2Iscj1yT3ByTkdmd0ViZVJXZ2JORWtxTw==",
        "AUTHENTICATE +",
        "AUTHENTICATE *",
        "REGISTER * * sesame",
        "NS REGISTER sesame",
        "NS IDENTIFY bob sesame",
        "NS SET PASSWORD sesame",
        "NS GHOST bob",
        "NS SET ALWAYSON ON",
        "CS HELP",
        "JOIN #a",
        "JOIN #b,#a key",
        "JOIN 0",
        "PART #a :bye",
        "PRIVMSG #a :hello",
        "PRIVMSG #a,bob,@#a,carol :hi",
        "NOTICE bob :hm",
        "TAGMSG #a",
        "@+typing=active;label=1 TAGMSG #a",
        "@label=2 PRIVMSG #a :two",
        "@label=3 WHO #a",
        "BATCH +1 draft/multiline #a",
        "@batch=1 PRIVMSG #a :one",
        "BATCH -1",
        "MODE #a",
        "MODE #a +imnst",
        "MODE #a -imnst",
        "MODE #a +tk-m key",
        "MODE #a +b *!*@192.0.2.*",
        "MODE #a b",
        "MODE #a -o bob",
        "MODE #a +o carol",
        "MODE #a +h carol",
        "MODE #a -q bob",
        "MODE #a +v carol",
        "MODE #a +l 1",
        "MODE bob +iwBRg",
        "KICK #a bob :out",
        "KICK #a carol",
        "TOPIC #a :news",
        "TOPIC #a",
        "NAMES",
        "NAMES #a",
        "LIST",
        "LIST C<1,U>0,*a*",
        "WHO #a %tcuihsnfdlaor,1",
        "WHO *",
        "WHOIS bob",
        "WHOWAS bob",
        "INVITE carol #a",
        "KNOCK #a :please",
        "CHATHISTORY LATEST #a * 10",
        "CHATHISTORY TARGETS timestamp=2020-01-01T00:00:00Z * 9",
        "CHATHISTORY BETWEEN #a msgid=x timestamp=2020-01-01T00:00:00Z 5",
        "MARKREAD #a",
        "REDACT #a x :no",
        "MARKREAD #a timestamp=2020-01-01T00:00:00.000Z",
        "METADATA * SET avatar :x",
        "METADATA * SUB avatar color",
        "METADATA #a SET color :red",
        "METADATA * CLEAR",
        "METADATA bob LIST",
        "METADATA #a SYNC",
        "AWAY :lunch",
        "AWAY",
        "SETNAME :Other",
        "MONITOR + bob,carol",
        "MONITOR L",
        "MONITOR C",
        "SILENCE +*!*@*",
        "SILENCE",
        "ACCEPT carol,*",
        "OPER root toor",
        "KILL carol :bad",
        "KLINE 1 carol :bad",
        "DLINE 1 192.0.2.3 :bad",
        "UNKLINE carol",
        "STATS k",
        "STATS l",
        "WALLOPS :all",
        "REHASH",
        "LUSERS",
        "USERHOST bob",
        "ISON bob carol",
        "LINKS",
        "HELP",
        "INFO",
        "MOTD",
        "VERSION",
        "TIME",
        "ADMIN",
        "PING x",
        "PONG seen-1",
        "PONG :seen-9",
        "QUIT :so",
        "VERIFY bob x",
        "WEBIRC x",
        "ISUPPORT",
        "PRIVMSG #a :\x01ACTION waves\x01",
        "PRIVMSG bob :\x01VERSION\x01",
    ];
    let line = prop::sample::select(LINES).prop_map(|line| format!("{line}\r\n").into_bytes());
    let said = prop::sample::select(LINES).prop_map(|line| line.as_bytes().to_vec());
    let end = prop::sample::select(vec![b"\r\n".to_vec(), b" ".to_vec(), b",".to_vec(), b"\n".to_vec()]);
    let piece = prop_oneof![
        12 => line,
        1 => (said, vec(any::<u8>(), 0..6), end).prop_map(|(said, noise, end)| [said, noise, end].concat()),
    ];
    vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn irc_sessions() {
    let does = prop_oneof![1 => Just(0u8), 2 => Just(1), 40 => Just(7)];
    let client = prop_oneof![5 => Just(0u8), 5 => Just(1), 1 => Just(2), 1 => Just(3)];
    let step = (does, client, 0..3u8, irc_words()).prop_map(|(does, client, later, bytes)| {
        let what = does | client << 3 | u8::from(later == 0) << 7;
        let length = bytes.len() as u16;
        [vec![what], length.to_be_bytes().to_vec(), bytes].concat()
    });
    let step = prop_oneof![60 => step, 1 => Just(vec![0xfa, 0, 0])];
    // Mostly somebody is there already.
    let begun = |client: u8, nick: &str| {
        let bytes = format!("NICK {nick}\r\nUSER u 0 * :x\r\nJOIN #a\r\n").into_bytes();
        [vec![client << 3 | 7, 0, bytes.len() as u8], bytes].concat()
    };
    let begun = [begun(0, "bob"), begun(1, "carol")].concat();
    let oper = [vec![7, 0, 16], b"OPER root toor\r\n".to_vec()].concat();
    let inputs = (any::<u8>(), 0..6u8, vec(step, 0..24)).prop_map(move |(kind, start, steps)| {
        let begun = match start {
            0 => Vec::new(),
            1 => [begun.clone(), oper.clone()].concat(),
            _ => begun.clone(),
        };
        [vec![kind], begun, steps.concat()].concat()
    });
    for_all(300, prop_oneof![8 => inputs, 1 => vec(any::<u8>(), 0..600)], session::run);
}

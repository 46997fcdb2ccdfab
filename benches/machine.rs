//! Verified send-events per second on one core, from the bytes on the wire to the event's place in
//! the channel, beside raw ed25519 in the same run, alternating.

mod report;

use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use multichat::base::codec;
use multichat::base::key::{Purpose, SecretKey};
use multichat::base::{Identity, Timestamp};
use multichat::chat::act::{Act, Joining};
use multichat::chat::message::Content;
use multichat::chat::profile::{Certificate, Profile};
use multichat::replica::event::VERSION;
use multichat::replica::{Admission, Event, Header, Parcel, PayloadRef, Replica};

const ROUNDS: usize = 20;
const PER_ROUND: usize = 1_000;
const BATCH: usize = 64;

fn main() {
    let root = SecretKey::from_seed([7; 32]);
    let identity = root.derive(Purpose::Identity, "bench");
    let device = root.derive(Purpose::Device, "bench");
    let founding = founding(&identity, &device);
    let (mut author, _) = Replica::found(&founding, 1).expect("a valid founding event");
    let (mut reader, _) = Replica::found(&founding, 1).expect("a valid founding event");

    let raw = SigningKey::from_bytes(&[9; 32]);
    let key = raw.verifying_key();
    let (mut send, mut single, mut batch) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut position = 1;
    for _ in 0..ROUNDS {
        let wire: Vec<Vec<u8>> =
            (0..PER_ROUND).map(|n| write_one(&mut author, &device, position + 1 + n as u64)).collect();
        let messages: Vec<Vec<u8>> = (0..PER_ROUND).map(|n| n.to_be_bytes().repeat(4)).collect();
        let signatures: Vec<Signature> = messages.iter().map(|message| raw.sign(message)).collect();

        send += time(|| {
            for bytes in &wire {
                position += 1;
                read_one(&mut reader, bytes, position);
            }
        });
        single += time(|| {
            for (message, signature) in messages.iter().zip(&signatures) {
                key.verify_strict(message, signature).expect("a good signature");
            }
        });
        batch += time(|| {
            for (messages, signatures) in messages.chunks(BATCH).zip(signatures.chunks(BATCH)) {
                let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
                let keys: Vec<VerifyingKey> = vec![key; messages.len()];
                ed25519_dalek::verify_batch(&messages, signatures, &keys).expect("good signatures");
            }
        });
    }
    assert_eq!(reader.root(), author.root(), "what was measured was really taken in");
    let per_s = |time: Duration| (ROUNDS * PER_ROUND) as f64 / time.as_secs_f64();
    let (send, single, batch) = (per_s(send), per_s(single), per_s(batch));
    report::report(
        "machine",
        &[
            ("send_verify_per_s".into(), send),
            ("ed25519_single_per_s".into(), single),
            ("ed25519_batch_per_s".into(), batch),
            ("ratio_single".into(), send / single),
            ("ratio_batch".into(), send / batch),
        ],
    );
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn founding(identity: &SecretKey, device: &SecretKey) -> Event {
    let founder = Joining {
        certificate: Certificate::issue(identity, device.public(), Timestamp(u64::MAX)),
        profile: Profile { username: "bench".into(), ..Profile::default() },
        via: None,
        grant: None,
        bearer: None,
    };
    let header = Header {
        version: VERSION,
        channel: None,
        device: device.public(),
        seq: 0,
        prev: None,
        deps: Vec::new(),
        timestamp: Timestamp(1),
        act: Act::CreateChannel {
            name: "#bench".parse().expect("a name"),
            topic: String::new(),
            founder,
            ancestry: Default::default(),
        },
        payload: None,
    };
    Event::sign(header, device)
}

/// The author says something; the bytes that go to other nodes.
fn write_one(author: &mut Replica, device: &SecretKey, position: u64) -> Vec<u8> {
    let content = Content::text(format!("This is line {position}, about as long as people write."));
    let payload = content.payload();
    let key: Identity = device.public();
    let lane = author.live_lane(&key);
    let mut header = author.draft(key, lane, Timestamp(position), Act::SendMessage(Default::default()));
    header.payload = Some(PayloadRef::of(&payload));
    let event = Event::sign(header, device);
    assert!(matches!(author.admit(&event, position), Admission::Accepted(_)));
    codec::encode(&Parcel { event, payload: Some(payload) })
}

/// Another node takes it in: decoding, signature, logics, its place in the channel.
fn read_one(reader: &mut Replica, bytes: &[u8], position: u64) {
    let mut parcel: Parcel = codec::decode(bytes, bytes.len()).expect("canonical");
    parcel.verify().expect("a good event");
    assert!(matches!(reader.admit(&parcel.event, position), Admission::Accepted(_)));
}

//! Verified send-events per second on one core, from the bytes on the wire to the event's place in
//! the channel, one by one and in packets, beside raw ed25519 alone and in batches of as many, in the
//! same run, alternating.

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
use multichat::replica::{Admission, Event, Header, Packet, Parcel, PayloadRef, Replica};

const ROUNDS: usize = 20;
const PER_ROUND: usize = 1_000;
const BATCH: usize = 64;
/// Members who speak in turn.
const SENDERS: usize = 16;

fn main() {
    let people: Vec<(SecretKey, SecretKey)> = (0..SENDERS).map(person).collect();
    let founding = founding(&people[0].0, &people[0].1);
    let (mut author, _) = Replica::found(&founding, 1).expect("a valid founding event");
    let mut readers: Vec<Replica> =
        (0..2).map(|_| Replica::found(&founding, 1).expect("a valid founding event").0).collect();
    let mut position = 1;
    for (identity, device) in &people[1..] {
        position += 1;
        let event = join(&author, identity, device, position);
        for replica in readers.iter_mut().chain([&mut author]) {
            assert!(matches!(replica.admit(&event, position), Admission::Accepted(_)));
        }
    }

    let raw = SigningKey::from_bytes(&[9; 32]);
    let key = raw.verifying_key();
    let [mut one, mut many, mut single, mut batch] = [Duration::ZERO; 4];
    for _ in 0..ROUNDS {
        let start = position;
        let said = |n: usize| write_one(&mut author, &people[n % SENDERS].1, start + 1 + n as u64);
        let parcels: Vec<Parcel> = (0..PER_ROUND).map(said).collect();
        position += PER_ROUND as u64;
        let wire: Vec<Vec<u8>> = parcels.iter().map(codec::encode).collect();
        let packet = |parcels: &[Parcel]| Packet::Events { parcels: parcels.to_vec(), more: false }.encode();
        let packets: Vec<Vec<u8>> = parcels.chunks(BATCH).map(packet).collect();
        let messages: Vec<Vec<u8>> = (0..PER_ROUND).map(|n| n.to_be_bytes().repeat(4)).collect();
        let signatures: Vec<Signature> = messages.iter().map(|message| raw.sign(message)).collect();

        one += time(|| {
            for (bytes, at) in wire.iter().zip(start + 1..) {
                read_one(&mut readers[0], bytes, at);
            }
        });
        many += time(|| {
            for (bytes, at) in packets.iter().zip((start + 1..).step_by(BATCH)) {
                read_packet(&mut readers[1], bytes, at);
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
    for reader in &readers {
        assert_eq!(reader.root(), author.root(), "what was measured was really taken in");
    }
    let per_s = |time: Duration| (ROUNDS * PER_ROUND) as f64 / time.as_secs_f64();
    let [one, many, single, batch] = [one, many, single, batch].map(per_s);
    report::report(
        "machine",
        &[
            ("send_verify_per_s".into(), one),
            ("send_verify_batched_per_s".into(), many),
            ("ed25519_single_per_s".into(), single),
            ("ed25519_batch_per_s".into(), batch),
            ("ratio_single".into(), one / single),
            ("ratio_batch".into(), many / batch),
        ],
    );
}

fn person(number: usize) -> (SecretKey, SecretKey) {
    let root = SecretKey::from_seed([7; 32]);
    let name = format!("bench{number}");
    (root.derive(Purpose::Identity, &name), root.derive(Purpose::Device, &name))
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn joining(identity: &SecretKey, device: &SecretKey) -> Joining {
    Joining {
        certificate: Certificate::issue(identity, device.public(), Timestamp(u64::MAX)),
        profile: Profile { username: "bench".into(), ..Profile::default() },
        via: None,
        grant: None,
        bearer: None,
        under: None,
    }
}

fn join(replica: &Replica, identity: &SecretKey, device: &SecretKey, at: u64) -> Event {
    let act = Act::JoinChannel(joining(identity, device));
    Event::sign(replica.draft(device.public(), None, Timestamp(at), act), device)
}

fn founding(identity: &SecretKey, device: &SecretKey) -> Event {
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
            founder: joining(identity, device),
            ancestry: Default::default(),
        },
        payload: None,
    };
    Event::sign(header, device)
}

/// Somebody says something; what goes to other nodes.
fn write_one(author: &mut Replica, device: &SecretKey, position: u64) -> Parcel {
    let content = Content::text(format!("This is line {position}, about as long as people write."));
    let payload = content.payload();
    let key: Identity = device.public();
    let lane = author.live_lane(&key);
    let mut header = author.draft(key, lane, Timestamp(position), Act::SendMessage(Default::default()));
    header.payload = Some(PayloadRef::of(&payload));
    let event = Event::sign(header, device);
    assert!(matches!(author.admit(&event, position), Admission::Accepted(_)));
    Parcel { event, payload: Some(payload) }
}

/// Another node takes it in: decoding, signature, logics, its place in the channel.
fn read_one(reader: &mut Replica, bytes: &[u8], position: u64) {
    let mut parcel: Parcel = codec::decode(bytes, bytes.len()).expect("canonical");
    parcel.verify().expect("a good event");
    assert!(matches!(reader.admit(&parcel.event, position), Admission::Accepted(_)));
}

/// The same for a packet of many.
fn read_packet(reader: &mut Replica, bytes: &[u8], position: u64) {
    let mut packet = Packet::decode(bytes).expect("canonical");
    assert_eq!(packet.verify(), 0, "good events");
    let Packet::Events { parcels, .. } = packet else { panic!("a packet of events") };
    for (parcel, at) in parcels.iter().zip(position..) {
        assert!(matches!(reader.admit(&parcel.event, at), Admission::Accepted(_)));
    }
}

//! Whatever peers send, signed by members or by nobody: the node goes on, its answers are bounded, and when
//! it is started anew from what it wrote it stands where it stood.

use std::sync::OnceLock;

use multichat::base::key::SecretKey;
use multichat::base::{NodeId, Timestamp, codec};
use multichat::chat::intent::{Actor, ChannelRef, Intent, Submission};
use multichat::chat::message::Content;
use multichat::chat::profile::Profile;
use multichat::node::{Input, Node, Output, Restored, Setup, StoredEvent, Write};
use multichat::replica::{Event, Header, Packet, Parcel};

const CHANNEL: &str = "#fuzz";
/// Outputs for one input, at most.
const OUTPUTS: usize = 4096;

struct Site {
    node: Node,
    setup: Setup,
    log: Vec<StoredEvent>,
    now: u64,
}

impl Site {
    fn new(seed: u8) -> Self {
        let setup = Setup {
            secret: SecretKey::from_seed([seed; 32]),
            name: format!("n{seed}"),
            matrix_server: String::new(),
            generation: 0,
        };
        let node =
            Node::restore(setup.clone(), Restored::default(), std::iter::empty()).expect("an empty log");
        Self { node, setup, log: Vec::new(), now: 1_000_000 }
    }

    fn feed(&mut self, input: Input) {
        self.now += 1;
        let outputs = self.node.handle(Timestamp(self.now), input);
        assert!(outputs.len() <= OUTPUTS, "{}", outputs.len());
        for output in outputs {
            let Output::Commit(batch) = output else { continue };
            for write in batch.0 {
                match write {
                    Write::Event(event) => match self.log.get_mut(event.position as usize - 1) {
                        Some(before) => *before = event,
                        None => self.log.push(event),
                    },
                    erasing => {
                        self.log
                            .iter_mut()
                            .filter(|event| erasing.erases(event))
                            .for_each(StoredEvent::erase);
                    }
                }
            }
        }
    }

    fn wish(&mut self, who: &str, intent: Intent) {
        let profile = Profile { username: who.into(), ..Profile::default() };
        let actor = Actor::Person { account: who.into(), profile };
        let submission = Submission { actor, intent, via: None, join_first: true, tag: 0 };
        self.feed(Input::Submit { ticket: 1, submission: Box::new(submission), known: None });
    }

    fn parcels(&self) -> Vec<Parcel> {
        self.log.iter().filter_map(StoredEvent::parcel).collect()
    }
}

/// A channel that somebody founded and another spoke in, at another node.
fn there() -> &'static [Parcel] {
    static THERE: OnceLock<Vec<Parcel>> = OnceLock::new();
    THERE.get_or_init(|| {
        let mut site = Site::new(1);
        let name = CHANNEL.parse().expect("a name");
        site.wish("founder", Intent::CreateChannel { name, topic: "t".into() });
        for text in ["one", "two"] {
            let channel = ChannelRef::Name(CHANNEL.into());
            site.wish("speaker", Intent::SendMessage { channel, content: Content::text(text) });
        }
        site.parcels()
    })
}

/// The devices that may sign: of a member who joins with this seed, and of nobody.
fn device(byte: u8) -> SecretKey {
    SecretKey::from_seed([byte % 4; 32])
}

/// Reads the input as steps: what to do, how many bytes it takes, those bytes.
pub fn run(data: &[u8]) {
    let mut site = Site::new(2);
    let peer = NodeId([9; 32]);
    site.feed(Input::PeerUp(peer));
    let known = Packet::Events { parcels: there().to_vec(), more: false };
    site.feed(Input::Packet { from: peer, packet: known });
    let mut rest = data;
    while let Some(([what, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        match what % 4 {
            // A packet as it is.
            0 => match Packet::decode(bytes) {
                Ok(mut packet) => {
                    if what & 4 == 4 {
                        packet.verify();
                    }
                    site.feed(Input::Packet { from: peer, packet });
                }
                Err(_) => site.feed(Input::Garbage { count: 1 }),
            },
            // A header, well signed.
            1 => {
                let Ok(header) = codec::decode::<Header>(bytes, bytes.len()) else { continue };
                let event = Event::sign(header, &device(what >> 2));
                let packet = Packet::Events { parcels: vec![Parcel { event, payload: None }], more: false };
                site.feed(Input::Packet { from: peer, packet });
            }
            // A true event, bent.
            2 => {
                let parcels = there();
                let mut encoded = codec::encode(&parcels[usize::from(what >> 2) % parcels.len()]);
                for (at, bend) in bytes
                    .chunks_exact(3)
                    .map(|bend| (usize::from(bend[0]) << 8 | usize::from(bend[1]), bend[2]))
                {
                    let length = encoded.len();
                    encoded[at % length] ^= bend;
                }
                let Ok(parcel) = codec::decode::<Parcel>(&encoded, encoded.len()) else { continue };
                let packet = Packet::Events { parcels: vec![parcel], more: false };
                site.feed(Input::Packet { from: peer, packet });
            }
            _ => {
                site.now += u64::from(what >> 2) * 10_000;
                site.feed(Input::Timeout);
            }
        }
    }
    let again = Node::restore(site.setup.clone(), Restored::default(), site.log.iter().cloned());
    let again = again.expect("a node reads what it wrote");
    assert_eq!(again.state_root(), site.node.state_root(), "started anew it stands where it stood");
}

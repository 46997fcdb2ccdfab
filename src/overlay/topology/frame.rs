//! What members of a domain say to each other, and its bytes. Owns the wire form and its bounds; never
//! looks into a payload.
//!
//! One frame carries several messages for one peer (piggybacking): whoever has something urgent to say
//! takes along what was waiting.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base::codec::{self, CodecError};
use crate::base::{NodeId, limits};

/// Bytes of an encoded frame; a longer one is refused.
pub const FRAME_BYTES: usize = limits::PACKET_BYTES + 8 * 1024;
/// Messages in one frame; one with more is refused, and the outbox starts another.
pub const FRAME_MESSAGES: usize = 256;
/// Ids in one message; one with more is refused.
pub const IDS: usize = 512;
/// Parts into which ids are divided when two members compare what they hold.
pub const BUCKETS: usize = 16;
/// Contacts in one message; one with more is refused.
pub const CONTACTS: usize = 32;
/// Routes of one contact; one with more is refused.
pub const ROUTES: usize = 4;

/// A payload's name: the first 16 bytes of its BLAKE3 hash. Nobody can make a second payload for an id
/// that they do not already own; two made together under one id harm their maker alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// Which of [`BUCKETS`] parts of all ids it is in.
    pub fn bucket(&self) -> usize {
        usize::from(self.0[0]) * BUCKETS / 256
    }
}

/// Opaque bytes that the domain carries, shared and not copied, with their id.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    id: MessageId,
    bytes: Arc<Vec<u8>>,
}

impl Payload {
    /// Hashes the bytes.
    pub fn new(bytes: Arc<Vec<u8>>) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Self { id: MessageId(id), bytes }
    }

    /// Its name.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What it carries.
    pub fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:02x}{:02x}.., {} bytes)", self.id.0[0], self.id.0[1], self.bytes.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        let bytes = deserializer.deserialize_bytes(Bytes)?;
        if bytes.is_empty() || bytes.len() > limits::PACKET_BYTES {
            return Err(D::Error::custom("a payload of a length that is not allowed"));
        }
        Ok(Self::new(Arc::new(bytes)))
    }
}

/// One way to reach a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Route {
    pub at: SocketAddr,
    /// QUIC over UDP; otherwise TCP with Noise.
    pub quic: bool,
}

/// A node and where it says it may be reached. A claim: only a dial that finds the node's key there
/// shows it to be true.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Contact {
    pub node: NodeId,
    pub routes: Arc<[Route]>,
}

impl Contact {
    /// A node that is known by name alone.
    pub fn bare(node: NodeId) -> Self {
        Self { node, routes: Arc::new([]) }
    }

    /// The neighbourhood that it claims to be in: the first 16 bits of an IPv4 address, the first 32 of
    /// an IPv6 address. One operator holds few of these, however many keys it makes, so views that take
    /// few of each neighbourhood are hard to fill with Sybils. Loopback and private networks have none:
    /// there all nodes are one neighbourhood and no attackers. `None` for a contact without a route.
    pub fn neighbourhood(&self) -> Option<u32> {
        match self.routes.first()?.at.ip() {
            IpAddr::V4(ip) if ip.is_loopback() || ip.is_private() || ip.is_link_local() => None,
            IpAddr::V4(ip) => Some(u32::from_be_bytes(ip.octets()) >> 16),
            IpAddr::V6(ip) if ip.is_loopback() => None,
            IpAddr::V6(ip) => Some((ip.to_bits() >> 96) as u32),
        }
    }
}

impl Serialize for Contact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.node, &self.routes[..]).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Contact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (node, routes) = <(NodeId, Vec<Route>)>::deserialize(deserializer)?;
        Ok(Self { node, routes: routes.into() })
    }
}

/// What one member says to another. Names are the papers': GOSSIP (here `Payload`), IHAVE, GRAFT and
/// PRUNE of Plumtree, JOIN to SHUFFLEREPLY of HyParView, FIND_NODE (here `Find`) of Kademlia.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A payload and how many links it has crossed.
    Payload { hops: u8, payload: Payload },
    /// Ids of payloads that the sender has, each with its hops.
    IHave(Vec<(MessageId, u8)>),
    /// Send these.
    IWant(Vec<MessageId>),
    /// From now on push payloads over this link, and this one at once.
    Graft(Option<MessageId>),
    /// From now on announce only.
    Prune,
    /// Anti-entropy: fingerprints of what the sender holds of late, bucket by bucket.
    Fingerprint([[u8; 8]; BUCKETS]),
    /// Anti-entropy: what the sender holds of late in these buckets, and for how many seconds; with `reply`,
    /// it wants to hear what it lacks.
    Recent { buckets: u16, ids: Vec<(MessageId, u8)>, reply: bool },
    /// A newcomer's first word to its contact.
    Join(Contact),
    /// A newcomer travels a random walk.
    ForwardJoin { newcomer: Contact, ttl: u8 },
    /// A wish to be an active neighbour; `high` if the sender has none, which is never refused.
    Neighbour { contact: Contact, high: bool },
    /// The wish is granted.
    Accept,
    /// The sender is no active neighbour any more, or refuses to be one.
    Disconnect,
    /// Contacts to exchange, on a random walk.
    Shuffle { nonce: u32, ttl: u8, contacts: Vec<Contact> },
    /// Contacts in return, back along the walk.
    ShuffleReply { nonce: u32, contacts: Vec<Contact> },
    /// Who is near this key?
    Find { nonce: u32, target: [u8; 32] },
    /// These are the nearest that the sender knows.
    Nodes { nonce: u32, contacts: Vec<Contact> },
    /// The sender wants what is published under this key, for a while.
    Subscribe { key: [u8; 32] },
    /// A payload on its way to the root of a key.
    Ascend { key: [u8; 32], hops: u8, payload: Payload },
    /// A payload on its way from the root of a key to whoever subscribed.
    Descend { key: [u8; 32], hops: u8, payload: Payload },
    /// Show that you hold this payload: hash it together with the nonce.
    Challenge { nonce: u64, id: MessageId },
    /// BLAKE3 of nonce and payload, its first 16 bytes; zeros for "not here".
    Proof { nonce: u64, digest: [u8; 16] },
    /// Pass this mark on to a third node, as anybody's message would be passed on.
    Relay { nonce: u64, to: Contact, witness_for: NodeId },
    /// The mark arrives at the third node.
    Mark { nonce: u64, witness_for: NodeId },
    /// The third node says so to whoever asked.
    Marked { nonce: u64 },
}

impl Message {
    /// What it is for, for reports on where bytes go.
    pub fn purpose(&self) -> &'static str {
        match self {
            Self::Payload { .. } | Self::Ascend { .. } | Self::Descend { .. } => "payloads",
            Self::IHave(_) | Self::IWant(_) => "announcements",
            Self::Graft(_) | Self::Prune | Self::Subscribe { .. } => "shaping the tree",
            Self::Fingerprint(_) | Self::Recent { .. } => "anti-entropy",
            Self::Challenge { .. }
            | Self::Proof { .. }
            | Self::Relay { .. }
            | Self::Mark { .. }
            | Self::Marked { .. } => "trials",
            Self::Join(_)
            | Self::ForwardJoin { .. }
            | Self::Neighbour { .. }
            | Self::Accept
            | Self::Disconnect
            | Self::Shuffle { .. }
            | Self::ShuffleReply { .. }
            | Self::Find { .. }
            | Self::Nodes { .. } => "membership",
        }
    }

    /// Whether every list is within its bound.
    fn is_bounded(&self) -> bool {
        let few = |contacts: &[Contact]| {
            contacts.len() <= CONTACTS && contacts.iter().all(|contact| contact.routes.len() <= ROUTES)
        };
        match self {
            Self::IHave(ids) | Self::Recent { ids, .. } => ids.len() <= IDS,
            Self::IWant(ids) => ids.len() <= IDS,
            Self::Join(contact)
            | Self::ForwardJoin { newcomer: contact, .. }
            | Self::Neighbour { contact, .. }
            | Self::Relay { to: contact, .. } => few(std::slice::from_ref(contact)),
            Self::Shuffle { contacts, .. }
            | Self::ShuffleReply { contacts, .. }
            | Self::Nodes { contacts, .. } => few(contacts),
            _ => true,
        }
    }
}

/// Messages for one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Frame(pub Vec<Message>);

impl Frame {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// How many bytes that would be.
    pub fn size(&self) -> usize {
        // Counting fails no more than encoding does.
        postcard::experimental::serialized_size(self).unwrap_or(usize::MAX)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`CodecError`], also for a list beyond its bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let frame: Self = codec::decode(bytes, FRAME_BYTES)?;
        if frame.0.len() > FRAME_MESSAGES || !frame.0.iter().all(Message::is_bounded) {
            return Err(CodecError::TooLong);
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(n: u8) -> Contact {
        let at = SocketAddr::from(([203, 0, n, 1], 7700));
        Contact { node: NodeId([n; 32]), routes: Arc::new([Route { at, quic: true }]) }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_counted() {
        let payload = Payload::new(Arc::new(vec![7; 1000]));
        let frame = Frame(vec![
            Message::Payload { hops: 3, payload: payload.clone() },
            Message::IHave(vec![(payload.id(), 200)]),
            Message::Shuffle { nonce: 77_000, ttl: 4, contacts: vec![contact(1), contact(2)] },
            Message::Relay { nonce: u64::MAX, to: contact(3), witness_for: NodeId([4; 32]) },
        ]);
        let bytes = frame.encode();
        assert_eq!(frame.size(), bytes.len());
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        let one = Frame(vec![Message::Payload { hops: 0, payload }]).encode();
        assert!(one.len() <= 1000 + 6, "a payload travels with next to nothing around it: {}", one.len());
    }

    #[test]
    fn garbage_and_lists_without_end_are_refused() {
        for length in 0..200u8 {
            let _ = Frame::decode(&vec![length; usize::from(length)]);
        }
        assert_eq!(Frame::decode(&vec![0; FRAME_BYTES + 1]), Err(CodecError::TooLong));
        let many = Frame(vec![Message::IWant(vec![MessageId::default(); IDS + 1])]);
        assert_eq!(Frame::decode(&many.encode()), Err(CodecError::TooLong));
        let crowd = Frame(vec![Message::Nodes { nonce: 0, contacts: vec![contact(1); CONTACTS + 1] }]);
        assert_eq!(Frame::decode(&crowd.encode()), Err(CodecError::TooLong));
        let empty = Frame(vec![Message::Payload { hops: 0, payload: Payload::new(Arc::new(Vec::new())) }]);
        assert_eq!(Frame::decode(&empty.encode()), Err(CodecError::Malformed));
    }

    #[test]
    fn neighbourhoods_are_of_public_addresses() {
        assert_eq!(contact(9).neighbourhood(), Some(203 << 8));
        let local = Route { at: SocketAddr::from(([127, 0, 0, 1], 1)), quic: false };
        assert_eq!(Contact { node: NodeId([1; 32]), routes: Arc::new([local]) }.neighbourhood(), None);
        assert_eq!(Contact::bare(NodeId([1; 32])).neighbourhood(), None);
    }
}

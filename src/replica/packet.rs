//! What nodes say to each other: bytes on the wire, values inside.

use serde::{Deserialize, Serialize};

use super::{Extent, Malformed, Parcel};
use crate::base::codec;
use crate::base::{ChannelId, Digest, EventId, limits};
use crate::chat::logics::logics;
use crate::chat::settle;
use crate::machine::Transparent;
use crate::machine::intent::Intent;

/// What a packet of events needs besides the events.
const ENVELOPE_BYTES: usize = 16;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// Events: new ones by broadcast, or those asked for. With `more`, the sender has further ones
    /// that the receiver lacked: it should say anew what it has.
    Events { parcels: Vec<Parcel>, more: bool },
    /// What the sender holds: each channel with the fingerprint of its events.
    Summary(Vec<(ChannelId, Digest)>),
    /// How far the sender's replica of a channel reaches; asks for what lies beyond.
    Have { channel: ChannelId, extent: Extent },
    /// Intents that wait to be settled. They are no part of any history.
    Intents(Vec<Offer>),
    /// Messages of a channel that the sender holds without their text, which it asks for.
    Want { channel: ChannelId, events: Vec<EventId> },
}

/// An intent and the channel whose assets it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub channel: ChannelId,
    pub intent: Intent,
}

impl Offer {
    /// Whether the intent is sound in itself, and of assets of that channel among others.
    pub fn is_sound(&self) -> bool {
        settle::homes(&self.intent.transaction.actions)
            .is_ok_and(|homes| homes.values().any(|home| *home == self.channel))
            && self.intent.verify(logics(), &Transparent).is_ok()
    }
}

impl Packet {
    /// Events as packets of at most `limit` bytes, in order. `more` goes on the last.
    pub fn pack(parcels: impl IntoIterator<Item = Parcel>, limit: usize, more: bool) -> Vec<Self> {
        let mut packets: Vec<Vec<Parcel>> = Vec::new();
        let mut room = 0;
        for parcel in parcels {
            let size = parcel.size();
            match packets.last_mut() {
                Some(packet) if size <= room => packet.push(parcel),
                _ => {
                    packets.push(vec![parcel]);
                    room = limit.saturating_sub(ENVELOPE_BYTES);
                }
            }
            room = room.saturating_sub(size);
        }
        let last = packets.len().saturating_sub(1);
        let packets = packets.into_iter().enumerate();
        packets.map(|(at, parcels)| Self::Events { parcels, more: more && at == last }).collect()
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes of at most `limits::PACKET_BYTES`. Signatures are not yet checked.
    ///
    /// # Errors
    /// [`Malformed::Encoding`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        codec::decode(bytes, limits::PACKET_BYTES).map_err(Malformed::Encoding)
    }

    /// Checks each event by itself and drops those that fail; returns how many were dropped. Pure
    /// work for any thread; the node checks again what was not checked, and nothing twice.
    pub fn verify(&mut self) -> usize {
        match self {
            Self::Events { parcels, .. } => {
                let before = parcels.len();
                Parcel::verify_all(parcels);
                before - parcels.len()
            }
            Self::Intents(offers) => {
                let before = offers.len();
                offers.retain(Offer::is_sound);
                before - offers.len()
            }
            Self::Summary(_) | Self::Have { .. } | Self::Want { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{Author, founded, nothing};
    use super::*;
    use crate::base::Timestamp;
    use crate::chat::asset::Asset;
    use crate::chat::market::issue;
    use crate::chat::token;
    use crate::machine::intent::Constraints;

    fn offer(author: &Author, channel: ChannelId) -> Offer {
        let label = token::Label { channel, issuer: author.identity.public(), name: "gold".into() };
        let action = issue(&Asset::Token(label), 5, Digest([1; 32])).unwrap();
        let constraints = Constraints::until(Timestamp(9));
        let intent = Intent::sign(vec![action], constraints, &author.identity, logics()).unwrap();
        Offer { channel, intent }
    }

    #[test]
    fn an_intent_that_is_not_as_it_was_signed_is_dropped() {
        let author = Author::new("a");
        let honest = offer(&author, ChannelId([1; 32]));
        let moved = Offer { channel: ChannelId([2; 32]), ..honest.clone() };
        let mut longer = honest.clone();
        longer.intent.constraints.expires = Timestamp(10);
        let mut packet = Packet::Intents(vec![moved, honest.clone(), longer]);
        assert_eq!(packet.verify(), 2);
        assert_eq!(packet, Packet::Intents(vec![honest]));
    }

    fn packets() -> Vec<Packet> {
        let author = Author::new("a");
        let (mut replica, founding) = founded(&author);
        let parcels = vec![
            Parcel { event: founding, payload: None },
            author.say(&mut replica, 2_000, "one"),
            author.say(&mut replica, 3_000, "two"),
        ];
        vec![
            Packet::Events { parcels, more: true },
            Packet::Summary(vec![(replica.id(), replica.fingerprint())]),
            Packet::Have { channel: replica.id(), extent: replica.extent(0) },
            Packet::Intents(vec![offer(&author, replica.id())]),
            Packet::Want { channel: replica.id(), events: vec![nothing(1), nothing(2)] },
        ]
    }

    #[test]
    fn packets_read_as_they_were_written() {
        for mut packet in packets() {
            let mut read = Packet::decode(&packet.encode()).unwrap();
            assert_eq!(read, packet);
            assert_eq!((read.verify(), packet.verify()), (0, 0));
        }
    }

    #[test]
    fn packing_keeps_order_and_bounds_and_says_more_once() {
        let author = Author::new("a");
        let (mut replica, _) = founded(&author);
        let text = "x".repeat(10_000);
        let parcels: Vec<Parcel> = (0..30).map(|n| author.say(&mut replica, 2_000 + n, &text)).collect();
        let packed = Packet::pack(parcels.clone(), limits::BROADCAST_BYTES, true);
        assert!(packed.len() > 4);
        let mut unpacked = Vec::new();
        for (at, packet) in packed.iter().enumerate() {
            assert!(packet.encode().len() <= limits::BROADCAST_BYTES);
            let Packet::Events { parcels, more } = packet else { panic!() };
            assert_eq!(*more, at == packed.len() - 1);
            unpacked.extend(parcels.iter().cloned());
        }
        assert_eq!(unpacked, parcels);
        assert!(Packet::pack(Vec::new(), 10, true).is_empty());
    }

    #[test]
    fn what_is_not_the_events_own_is_dropped() {
        let Packet::Events { parcels, .. } = packets().remove(0) else { panic!() };
        let mut stolen = parcels[1].clone();
        stolen.payload = parcels[2].payload.clone();
        let mut moved = parcels[1].event.header.clone();
        moved.deps = vec![nothing(1)];
        let signature = parcels[1].event.signature;
        let bytes = codec::encode(&(&moved, &signature));
        let moved = Parcel { event: super::super::Event::decode(&bytes).unwrap(), payload: None };
        let mut packet = Packet::Events { parcels: vec![stolen, moved, parcels[2].clone()], more: false };
        assert_eq!(packet.verify(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(mut packet) = Packet::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes);
                packet.verify();
            }
        }

        #[test]
        fn mutated_packets_are_taken_or_refused(which in 0usize..4, at in any::<prop::sample::Index>(), to: u8) {
            let mut bytes = packets()[which].encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(mut packet) = Packet::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes);
                packet.verify();
            }
        }
    }
}

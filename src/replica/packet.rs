//! What nodes say to each other: bytes on the wire, values inside.

use serde::{Deserialize, Serialize};

use super::{Extent, Malformed, Parcel};
use crate::base::codec;
use crate::base::{ChannelId, Digest, limits};

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
        let Self::Events { parcels, .. } = self else { return 0 };
        let before = parcels.len();
        parcels.retain_mut(|parcel| parcel.verify().is_ok());
        before - parcels.len()
    }
}

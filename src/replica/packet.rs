//! What nodes say to each other: bytes on the wire, values inside.

use serde::{Deserialize, Serialize};

use super::{Extent, Malformed, Parcel};
use crate::base::codec;
use crate::base::{ChannelId, Digest, limits};

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

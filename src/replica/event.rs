//! Events: the signed nodes of a channel's history. Their canonical encoding is what is hashed,
//! signed, stored and sent.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::codec::{self, CodecError};
use crate::base::key::{self, SecretKey, Signature, Signed};
use crate::base::{ChannelId, Digest, EventId, Identity, Kind, Timestamp, limits};
use crate::chat::act::Act;

/// The version of the event format.
pub const VERSION: u8 = 1;

const SIGNATURE_BYTES: usize = 64;

/// The signed part of an event. The payload is named by hash and length, so that it can be deleted
/// everywhere while the history stays verifiable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    pub version: u8,
    /// `None` in the event that creates the channel: its id is the channel's.
    pub channel: Option<ChannelId>,
    /// The key of the lane, certified by an identity in the lane's first event.
    pub device: Identity,
    /// 0, 1, 2, … along the lane.
    pub seq: u64,
    /// The lane's event before; `None` iff `seq` is 0.
    pub prev: Option<EventId>,
    /// The other heads the author saw, ascending, at most `limits::DEPS`.
    pub deps: Vec<EventId>,
    /// The author's clock, never before that of any event in the past.
    pub timestamp: Timestamp,
    pub act: Act,
    pub payload: Option<PayloadRef>,
}

/// What a detached payload must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayloadRef {
    /// BLAKE3 of the payload.
    pub hash: Digest,
    /// Its length in bytes.
    pub length: u32,
}

impl PayloadRef {
    /// The reference to these bytes.
    pub fn of(payload: &[u8]) -> Self {
        Self { hash: Digest(*blake3::hash(payload).as_bytes()), length: payload.len() as u32 }
    }
}

/// A header and the lane's signature over its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub header: Header,
    pub signature: Signature,
    /// Known once computed or checked; never on the wire.
    #[serde(skip)]
    checked: Option<EventId>,
}

/// An event on the wire or on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    pub event: Event,
    /// The payload, unless the sender no longer has it.
    pub payload: Option<Vec<u8>>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header && self.signature == other.signature
    }
}

impl Eq for Event {}

/// Why an event is no event at all, whatever the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    Encoding(CodecError),
    /// A field breaks a rule that needs no history; the rule.
    Field(&'static str),
    Signature,
    /// The payload is not the one the header names.
    Payload,
}

impl Malformed {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(error) => write!(f, "event {error}"),
            Self::Field(rule) => write!(f, "event breaks the rule: {rule}"),
            Self::Signature => f.write_str("event with a wrong signature"),
            Self::Payload => f.write_str("payload that is not the event's"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Event {
    /// Signs a header.
    pub fn sign(header: Header, device: &SecretKey) -> Self {
        let id = header_id(&header);
        Self { header, signature: device.sign(id.as_bytes()), checked: Some(id) }
    }

    /// An event that nobody signed, for tests that are about history and need many.
    #[cfg(test)]
    pub(super) fn unsigned(header: Header) -> Self {
        let id = header_id(&header);
        Self { header, signature: Signature([0; 64]), checked: Some(id) }
    }

    /// Checks everything that needs no history: the fields' own rules and the signature. Costs one
    /// signature verification the first time, nothing after; `verify` may run on any thread.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn verify(&mut self) -> Result<EventId, Malformed> {
        if let Some(id) = self.checked {
            return Ok(id);
        }
        let id = self.inspect()?;
        let is_signed = |one: &Signed| key::verify(&one.key, &one.message, &one.signature);
        if !self.signed(&id).iter().all(is_signed) {
            return Err(Malformed::Signature);
        }
        self.checked = Some(id);
        Ok(id)
    }

    /// Checks the fields' own rules. Returns the id.
    fn inspect(&self) -> Result<EventId, Malformed> {
        let encoded = codec::encode(&self.header);
        check_place(&self.header)?;
        check_content(&self.header, encoded.len())?;
        Ok(EventId(*blake3::hash(&encoded).as_bytes()))
    }

    /// What has to be signed for it: its id by the device, and in a lane's opening the device's certificate
    /// by the identity.
    fn signed(&self, id: &EventId) -> Vec<Signed> {
        let (key, message) = (self.header.device, id.as_bytes().to_vec());
        let mut signed = vec![Signed { key, message, signature: self.signature }];
        signed.extend(self.header.act.joining().map(|joining| joining.certificate.signed()));
        signed
    }

    /// The id. Cheap once verified.
    pub fn id(&self) -> EventId {
        self.checked.unwrap_or_else(|| header_id(&self.header))
    }

    /// The channel it belongs to.
    pub fn channel(&self) -> ChannelId {
        self.header.channel.unwrap_or_else(|| ChannelId(self.id().0))
    }

    /// The canonical bytes of header and signature.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes. The signature is not yet checked.
    ///
    /// # Errors
    /// [`Malformed::Encoding`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        codec::decode(bytes, limits::SETTLEMENT_BYTES + SIGNATURE_BYTES).map_err(Malformed::Encoding)
    }

    /// Reads bytes of this node's own log, which were checked before they were written; `None` if they
    /// are no longer those of the event with this id. That the signature is as it was is not found out.
    pub fn read_back(bytes: &[u8], id: EventId) -> Option<Self> {
        let header = bytes.get(..bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        if blake3::hash(header).as_bytes() != id.as_bytes() {
            return None;
        }
        let event: Self = codec::decode_canonical(bytes).ok()?;
        Some(Self { checked: Some(id), ..event })
    }

    /// Reads bytes of this node's own log, whose signature was checked before they were written.
    ///
    /// # Errors
    /// [`Malformed::Encoding`].
    pub fn decode_trusted(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut event = Self::decode(bytes)?;
        event.checked = Some(header_id(&event.header));
        Ok(event)
    }
}

impl Parcel {
    /// Checks the event by itself and that the payload, if there is one, is the event's.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn verify(&mut self) -> Result<EventId, Malformed> {
        self.check_payload()?;
        self.event.verify()
    }

    fn check_payload(&self) -> Result<(), Malformed> {
        let named = self.event.header.payload;
        let is_named = |payload: &Vec<u8>| named == Some(PayloadRef::of(payload));
        if self.payload.as_ref().is_none_or(is_named) { Ok(()) } else { Err(Malformed::Payload) }
    }

    /// [`Parcel::verify`] for many at once, all signatures together. Drops those that fail.
    pub fn verify_all(parcels: &mut Vec<Self>) {
        let mut ids: Vec<Option<EventId>> = Vec::with_capacity(parcels.len());
        let mut signed: Vec<Signed> = Vec::with_capacity(parcels.len());
        let mut of: Vec<usize> = Vec::with_capacity(parcels.len());
        for (at, parcel) in parcels.iter().enumerate() {
            let inspected = parcel.check_payload().and_then(|()| match parcel.event.checked {
                Some(id) => Ok((id, Vec::new())),
                None => parcel.event.inspect().map(|id| (id, parcel.event.signed(&id))),
            });
            let (id, theirs) = inspected.map_or((None, Vec::new()), |(id, theirs)| (Some(id), theirs));
            ids.push(id);
            of.extend(theirs.iter().map(|_| at));
            signed.extend(theirs);
        }
        for (at, _) in of.iter().zip(key::verify_all(&signed)).filter(|(_, is_good)| !is_good) {
            ids[*at] = None;
        }
        let mut ids = ids.into_iter();
        parcels.retain_mut(|parcel| {
            let id = ids.next().flatten();
            parcel.event.checked = id.or(parcel.event.checked);
            id.is_some()
        });
    }

    /// Bytes on the wire, nearly.
    pub fn size(&self) -> usize {
        codec::encode(&self.event).len() + self.payload.as_ref().map_or(0, Vec::len) + 8
    }
}

fn header_id(header: &Header) -> EventId {
    EventId(*blake3::hash(&codec::encode(header)).as_bytes())
}

impl Header {
    /// The fields' own rules. Every replica applies them to what it receives, so an author applies
    /// them to what it is about to sign: an event that only its author takes in would part them for
    /// ever.
    ///
    /// # Errors
    /// [`Malformed::Field`] names the rule.
    pub fn check(&self) -> Result<(), Malformed> {
        check_place(self)?;
        check_content(self, codec::encode(self).len())
    }
}

fn rule(holds: bool, rule: &'static str) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed::Field(rule)) }
}

/// Where in the history it stands.
fn check_place(header: &Header) -> Result<(), Malformed> {
    rule(header.version == VERSION, "the version is known")?;
    rule(header.prev.is_none() == (header.seq == 0), "prev is absent exactly in the first event of a lane")?;
    rule(header.act.joining().is_some() == (header.seq == 0), "a lane opens by creating or joining, only")?;
    let creates = matches!(header.act, Act::CreateChannel { .. });
    rule(header.channel.is_none() == creates, "the channel is absent exactly in the event that creates it")?;
    rule(!creates || header.deps.is_empty(), "a channel's first event has no past")?;
    rule(header.seq > 0 || creates || !header.deps.is_empty(), "a member joins a channel that has a past")?;
    rule(header.deps.len() <= limits::DEPS, "deps are at most as many as allowed")?;
    rule(header.deps.windows(2).all(|pair| pair[0] < pair[1]), "deps ascend")?;
    rule(header.prev.is_none_or(|prev| !header.deps.contains(&prev)), "prev is not among the deps")
}

/// What it does.
fn check_content(header: &Header, length: usize) -> Result<(), Malformed> {
    // Whatever is taken in must be readable again from the log, which decodes no more than that.
    rule(length <= header.act.header_bytes(), "the header is within bounds")?;
    rule(header.act.is_well_formed(), "texts and names are within bounds")?;
    let says = matches!(header.act, Act::SendMessage(_));
    rule(header.payload.is_some() == says, "a message has a payload, nothing else has")?;
    let fits = |payload: PayloadRef| payload.length as usize <= limits::PAYLOAD_BYTES;
    rule(header.payload.is_none_or(fits), "the payload is within bounds")?;
    if let Act::SendMessage(envelope) = &header.act {
        let lasts = envelope.expires.is_none_or(|expires| expires > header.timestamp);
        rule(lasts, "a message expires after it was sent")?;
    }
    if let Some(joining) = header.act.joining() {
        rule(joining.certificate.device == header.device, "the certificate names the lane's device")?;
        rule(joining.certificate.expires >= header.timestamp, "the certificate has not expired")?;
    }
    Ok(())
}

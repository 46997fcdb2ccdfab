//! Invite links: `multichat:<channel>/<grant>/<key>?via=<address>&via=…`. Whoever holds one can join
//! under the grant, and finds a node that has the channel at the addresses. It is a secret.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::key::SecretKey;
use crate::base::{ChannelId, Digest, EventId};

/// Addresses of one link; a text with more is none.
const ADDRESSES: usize = 16;
/// Bytes of a link.
const BYTES: usize = 4 * 1024;

/// An invite link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    pub channel: ChannelId,
    /// The event that grants a role to whoever bears the key.
    pub grant: EventId,
    /// The seed of that key.
    seed: Digest,
    /// Where nodes that have the channel are to be found: multiaddresses.
    pub via: Vec<String>,
}

/// Why a text is no invite link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadInvite;

impl fmt::Display for BadInvite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an invite link is multichat:CHANNEL/GRANT/KEY, with ?via=ADDRESS where others are")
    }
}

impl std::error::Error for BadInvite {}

impl Invite {
    /// A link without addresses yet.
    pub fn new(channel: ChannelId, grant: EventId, key: &SecretKey) -> Self {
        Self { channel, grant, seed: Digest(key.seed()), via: Vec::new() }
    }

    /// The key that it carries.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_seed(self.seed.0)
    }

    /// With addresses; those that do not fit into a link are left out.
    #[must_use]
    pub fn via(mut self, addresses: impl IntoIterator<Item = String>) -> Self {
        self.via.extend(addresses.into_iter().filter(|address| is_address(address)));
        self.via.truncate(ADDRESSES);
        self
    }
}

fn is_address(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() && !"?&#%\"'".contains(c))
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invite({} {} {:?})", self.channel, self.grant, self.via)
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "multichat:{}/{}/{}", self.channel, self.grant, self.seed)?;
        for (at, address) in self.via.iter().enumerate() {
            write!(f, "{}via={address}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl FromStr for Invite {
    type Err = BadInvite;

    fn from_str(text: &str) -> Result<Self, BadInvite> {
        let rest =
            Some(text).filter(|text| text.len() <= BYTES).and_then(|text| text.strip_prefix("multichat:"));
        let rest = rest.ok_or(BadInvite)?;
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut parts = path.split('/');
        let mut part = || parts.next().ok_or(BadInvite);
        let channel = part()?.parse().map_err(|_| BadInvite)?;
        let grant = part()?.parse().map_err(|_| BadInvite)?;
        let seed = part()?.parse().map_err(|_| BadInvite)?;
        let via: Option<Vec<String>> =
            query.into_iter().flat_map(|query| query.split('&')).map(address).collect();
        let via = via.filter(|via| via.len() <= ADDRESSES).ok_or(BadInvite)?;
        if parts.next().is_some() {
            return Err(BadInvite);
        }
        Ok(Self { channel, grant, seed, via })
    }
}

fn address(pair: &str) -> Option<String> {
    pair.strip_prefix("via=").filter(|address| is_address(address)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_read_as_they_were_written_and_nothing_else_does() {
        let key = SecretKey::from_seed([3; 32]);
        let invite = Invite::new(ChannelId([1; 32]), EventId([2; 32]), &key);
        let with = invite.clone().via([
            "/ip4/192.0.2.1/udp/7700/quic-v1/p2p/12D3".into(),
            "a b".into(),
            "/dns4/x/tcp/1".into(),
        ]);
        assert_eq!(with.via.len(), 2);
        for invite in [invite, with] {
            let text = invite.to_string();
            let read: Invite = text.parse().unwrap();
            assert_eq!(read, invite);
            assert_eq!(read.key().public(), key.public());
            assert!(
                !format!("{invite:?}").contains(&Digest(key.seed()).to_string()),
                "a log never shows the key"
            );
            for bad in [
                format!("{text}x/y?"),
                text.replace("multichat:", "http:"),
                text[..80].to_owned(),
                format!("{text}&via="),
            ] {
                assert_eq!(bad.parse::<Invite>(), Err(BadInvite), "{bad}");
            }
        }
    }
}

//! Whom operators keep off this server: masks of people (K-lines) and networks of addresses (D-lines),
//! as data, so many and no more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::mask::{self, Face};
use crate::base::{Timestamp, codec};

/// Bans of one server.
pub const BANS: usize = 1000;
/// Bytes of one ban's note.
const NOTE_BYTES: usize = 4096;
/// Characters of a mask that are no wildcards: with fewer it would mean nearly everybody.
const MEANT_CHARS: usize = 3;
/// The widest networks: as with masks.
const LEAST_BITS: (u8, u8) = (8, 16);

/// Whom a ban means.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Meant {
    /// `nick!user@host`, or `a:account`; in full and folded.
    Mask(String),
    Net {
        address: IpAddr,
        bits: u8,
    },
}

/// What a ban says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ban {
    /// The operator's nick.
    pub by: String,
    pub at: Timestamp,
    /// When it ends; never if not given.
    pub until: Option<Timestamp>,
    pub reason: String,
}

/// All bans.
#[derive(Debug, Default)]
pub struct Bans(BTreeMap<Meant, Ban>);

impl Meant {
    /// The mask that somebody wrote; `None` if it would mean nearly everybody, or mutes.
    pub fn mask(given: &str) -> Option<Self> {
        let full = mask::normal(&given.to_ascii_lowercase());
        let meant = full.strip_prefix("a:").unwrap_or(&full);
        let first = meant.split('!').next().unwrap_or(meant);
        let is_exact = !first.is_empty() && !first.contains(['*', '?']);
        let meant = meant.chars().filter(|c| !"*?!@.:".contains(*c)).count();
        let is_one_word = !full.contains(char::is_whitespace) && !full.contains(char::is_control);
        (is_one_word && !full.starts_with("m:") && (is_exact || meant >= MEANT_CHARS))
            .then_some(Self::Mask(full))
    }

    /// The address, or network as `192.0.2.0/24`, that somebody wrote; `None` if it is none, or so wide
    /// that it would mean nearly everybody.
    pub fn net(given: &str) -> Option<Self> {
        let (address, bits) = match given.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (given, None),
        };
        let address = address.parse::<IpAddr>().ok()?.to_canonical();
        let (most, least) = match address {
            IpAddr::V4(_) => (32, LEAST_BITS.0),
            IpAddr::V6(_) => (128, LEAST_BITS.1),
        };
        let bits = bits.unwrap_or(most);
        let start = first_of(address, bits);
        (least..=most).contains(&bits).then_some(Self::Net { address: start, bits })
    }

    /// Whether it means a client with this face, seen from this address.
    fn means(&self, faces: &[Face], host: &str) -> bool {
        match self {
            Self::Mask(mask) => faces.iter().any(|face| mask::matches(mask, face)),
            Self::Net { address, bits } => host.parse::<IpAddr>().is_ok_and(|host| {
                let host = host.to_canonical();
                host.is_ipv4() == address.is_ipv4() && first_of(host, *bits) == *address
            }),
        }
    }

    /// As operators write it.
    pub fn shown(&self) -> String {
        match self {
            Self::Mask(mask) => mask.clone(),
            Self::Net { address, bits } => format!("{address}/{bits}"),
        }
    }

    /// The key of its note.
    pub fn note(&self) -> String {
        match self {
            Self::Mask(mask) => format!("ban/k/{mask}"),
            Self::Net { .. } => format!("ban/d/{}", self.shown()),
        }
    }

    /// Out of the rest of a note's key, after `ban/`.
    pub fn of_note(rest: &str) -> Option<Self> {
        match rest.strip_prefix("k/") {
            Some(mask) => Self::mask(mask),
            None => Self::net(rest.strip_prefix("d/")?),
        }
    }
}

/// The first address of the network of so many bits that an address is in.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl Bans {
    /// Adds a ban, or says anew what one says; `false` if there is no room for a further one.
    pub fn put(&mut self, meant: Meant, ban: Ban) -> bool {
        let fits = self.0.len() < BANS || self.0.contains_key(&meant);
        if fits {
            self.0.insert(meant, ban);
        }
        fits
    }

    /// Lifts a ban; whether there was one.
    pub fn lift(&mut self, meant: &Meant) -> bool {
        self.0.remove(meant).is_some()
    }

    /// Why a client is kept out, if it is: it has these faces, and comes from this address.
    pub fn reason(&self, faces: &[Face], host: &str) -> Option<&str> {
        let mut meant = self.0.iter().filter(|(meant, _)| meant.means(faces, host));
        meant.next().map(|(_, ban)| ban.reason.as_str())
    }

    /// Those that ended.
    pub fn ended(&self, now: Timestamp) -> Vec<Meant> {
        let ended = self.0.iter().filter(|(_, ban)| ban.until.is_some_and(|until| until <= now));
        ended.map(|(meant, _)| meant.clone()).collect()
    }

    /// Whether nobody is banned: the common case.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order: masks, then networks.
    pub fn all(&self) -> impl Iterator<Item = (&Meant, &Ban)> {
        self.0.iter()
    }

    /// Takes back a note; one that is damaged is passed over.
    pub fn recall(&mut self, rest: &str, note: &[u8]) {
        if let (Some(meant), Ok(ban)) = (Meant::of_note(rest), codec::decode::<Ban>(note, NOTE_BYTES)) {
            self.put(meant, ban);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(until: Option<u64>) -> Ban {
        Ban { by: "root".into(), at: Timestamp(1), until: until.map(Timestamp), reason: "spam".into() }
    }

    #[test]
    fn who_is_meant() {
        let bob = |host: &str| Face { prefix: format!("Bob!u@{host}"), account: Some("bobby".into()) };
        for (mask, full, means) in [
            ("bob", "bob!*@*", true),
            ("*@10.0.0.*", "*!*@10.0.0.*", true),
            ("A:BobB*", "a:bobb*", true),
            ("u@1*", "", false),
            ("ab", "ab!*@*", false),
        ] {
            let meant = Meant::mask(mask);
            if let Some(meant) = &meant {
                assert_eq!(meant.shown(), full);
                assert_eq!(Meant::of_note(meant.note().strip_prefix("ban/").unwrap()).as_ref(), Some(meant));
            }
            assert_eq!(meant.is_some_and(|meant| meant.means(&[bob("10.0.0.7")], "")), means, "{mask}");
        }
        for everybody in ["*", "*!*@*", "*@*.*", "a:*", "m:bob", "?b*", "", "a b", "x\u{7}yz"] {
            assert_eq!(Meant::mask(everybody), None, "{everybody}");
        }
        for (net, host, means) in [
            ("192.0.2.9", "192.0.2.9", true),
            ("192.0.2.9", "192.0.2.8", false),
            ("192.0.2.77/24", "192.0.2.9", true),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("2001:db8::1/64", "2001:db8::2", true),
            ("2001:db8::/64", "2001:db8:0:1::2", false),
            ("192.0.2.0/24", "not an address", false),
        ] {
            let meant = Meant::net(net).unwrap();
            assert_eq!(meant.means(&[], host), means, "{net} {host}");
            assert_eq!(Meant::of_note(meant.note().strip_prefix("ban/").unwrap()), Some(meant));
        }
        for none in ["", "x", "10.0.0.0/7", "::/0", "10.0.0.0/33", "10.0.0.0/-1", "1.2.3", "10.0.0.0/"] {
            assert_eq!(Meant::net(none), None, "{none}");
        }
    }

    #[test]
    fn bounded_and_ended_in_time() {
        let mut bans = Bans::default();
        for n in 0..BANS {
            assert!(bans.put(Meant::mask(&format!("nick{n}")).unwrap(), ban(None)));
        }
        assert!(!bans.put(Meant::mask("another").unwrap(), ban(None)));
        let first = Meant::mask("nick0").unwrap();
        assert!(bans.put(first.clone(), ban(Some(10))));
        assert_eq!((bans.ended(Timestamp(9)), bans.ended(Timestamp(10))), (vec![], vec![first.clone()]));
        assert!(bans.lift(&first) && !bans.lift(&first));
        bans.recall("k/another", b"rubbish");
        bans.recall("x/another", &codec::encode(&ban(None)));
        assert_eq!(bans.all().count(), BANS - 1);
        bans.recall("k/another!*@*", &codec::encode(&ban(None)));
        let face = Face { prefix: "another!u@h".into(), account: None };
        assert_eq!(bans.reason(&[face], "h"), Some("spam"));
    }
}

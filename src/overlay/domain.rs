//! A domain: nodes that share one overlay. Owns its name and what follows from it, the topic and
//! the protocol that its members speak. It never knows who the members are.

use std::fmt;

use crate::base::Kind;
use crate::base::config::{Admission, DomainConfig, Topology};

/// Bytes of a domain's name.
const NAME_BYTES: usize = 64;

/// One domain that this node is a member of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    name: String,
    topology: Topology,
    admission: Admission,
}

impl Domain {
    /// The domain that an entry of `domains:` describes.
    ///
    /// # Errors
    /// [`BadDomain`] if the name cannot be part of a topic and a protocol name.
    pub fn new(config: &DomainConfig) -> Result<Self, BadDomain> {
        let name = &config.name;
        let fits = (1..=NAME_BYTES).contains(&name.len());
        if !fits || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(BadDomain { name: name.clone() });
        }
        Ok(Self { name: name.clone(), topology: config.topology, admission: config.admission })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its members are connected.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Who may join.
    pub fn admission(&self) -> Admission {
        self.admission
    }

    /// The one topic that all broadcasts of the domain go to. One for the domain, not one for each
    /// channel: gossipsub peers take no more than a hundred subscriptions from each other.
    pub fn topic(&self) -> String {
        format!("multichat/1/{}", self.name)
    }

    /// The protocol of packets from peer to peer. It carries the domain's name, so that nodes of
    /// different domains that meet (on one LAN, say) agree on nothing and never mix packets; and its
    /// topology, unless that is the usual one, because members must agree on that too.
    pub fn packet_protocol(&self) -> String {
        match self.topology {
            Topology::Gossip => format!("/multichat/packet/1/{}", self.name),
            Topology::Tree => format!("/multichat/packet/1/{}/tree", self.name),
            Topology::Mesh => format!("/multichat/packet/1/{}/mesh", self.name),
        }
    }

    /// The protocol of a topology's frames, where they are ours and not gossipsub's.
    pub fn frame_protocol(&self) -> String {
        format!("/multichat/frame/1/{}", self.name)
    }
}

/// A domain name that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadDomain {
    name: String,
}

impl BadDomain {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for BadDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot name a domain: use 1 to {NAME_BYTES} bytes of letters, digits, '.', '-' and '_'",
            self.name
        )
    }
}

impl std::error::Error for BadDomain {}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Result<Domain, BadDomain> {
        Domain::new(&DomainConfig {
            name: name.into(),
            topology: Topology::default(),
            admission: Admission::default(),
        })
    }

    #[test]
    fn a_name_gives_topic_and_protocol() {
        let public = domain("public").unwrap();
        assert_eq!(public.topic(), "multichat/1/public");
        assert_eq!(public.packet_protocol(), "/multichat/packet/1/public");
        assert_eq!(public.frame_protocol(), "/multichat/frame/1/public");
        assert_eq!(public.topology(), Topology::Gossip);
        assert_eq!(public.admission(), Admission::Open);
    }

    #[test]
    fn names_that_would_break_a_protocol_name_are_refused() {
        for name in ["", "a/b", "two words", "line\nbreak", &"x".repeat(65)] {
            assert!(domain(name).is_err(), "{name:?}");
        }
        assert!(domain("süd-1.example_net").is_ok());
        assert_eq!(
            domain("a/b").unwrap_err().to_string(),
            "\"a/b\" cannot name a domain: use 1 to 64 bytes of letters, digits, '.', '-' and '_'"
        );
    }
}

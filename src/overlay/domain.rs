//! A domain: nodes that share one overlay. Owns its name and what follows from it, the topic and
//! the tag of its members' frames. It never knows who the members are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::Kind;
use crate::base::config::{Admission, DomainConfig, Topology};

/// Bytes of a domain's name.
const NAME_BYTES: usize = 64;
/// Bytes of a domain's tag.
pub const TAG_BYTES: usize = 8;

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
    /// [`BadDomain`] if the name cannot be part of a topic.
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

    /// What frames of the domain begin with, where a topology of ours makes them.
    pub fn tag(&self) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&blake3::hash(self.name.as_bytes()).as_bytes()[..TAG_BYTES]);
        tag
    }
}

/// A domain as one node sees it, for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainReport {
    pub name: String,
    pub topology: Topology,
    pub admission: Admission,
    /// This node may invite others.
    pub founder: bool,
    /// Members that this node is connected with.
    pub members: Vec<String>,
    /// Those that payloads go to and come from.
    pub neighbours: usize,
    /// Broadcasts that came, and those that this node carried here from another domain.
    pub arrived: u64,
    pub carried: u64,
    pub refusals: Vec<RefusalReport>,
}

/// A node that was not let into a domain: this one by another, or another by this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalReport {
    pub node: String,
    pub of_us: bool,
    pub reason: String,
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
        Domain::new(&DomainConfig::open(name, Topology::default()))
    }

    #[test]
    fn a_name_gives_topic_and_tag() {
        let public = domain("public").unwrap();
        assert_eq!(public.topic(), "multichat/1/public");
        assert_ne!(public.tag(), domain("elsewhere").unwrap().tag());
        assert_eq!(public.topology(), Topology::Gossip);
        assert_eq!(public.admission(), Admission::Open);
    }

    #[test]
    fn names_that_would_break_a_topic_are_refused() {
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

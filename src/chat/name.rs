//! Channel names: `#` and what may follow it, one form for every door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::limits;

/// A channel's name: `#`, then 1 to 63 bytes, lower case, without spaces, commas, control
/// characters, `:` or `~` (`~` introduces the short id where two channels share a name).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(String);

/// Why a text is not a channel name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a channel name is # and 1 to 63 bytes without spaces, commas, colons or ~")
    }
}

impl std::error::Error for BadName {}

impl ChannelName {
    /// The name with its `#`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelName {
    type Err = BadName;

    /// Takes any case; keeps lower case.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = text.to_lowercase();
        let rest = name.strip_prefix('#').ok_or(BadName)?;
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ':' | '~');
        if rest.is_empty() || name.len() > limits::CHANNEL_NAME_BYTES || rest.chars().any(bad) {
            return Err(BadName);
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for ChannelName {
    type Error = BadName;

    /// Strict: what is stored or signed is already in lower case.
    fn try_from(text: String) -> Result<Self, BadName> {
        let name: Self = text.parse()?;
        if name.0 == text { Ok(name) } else { Err(BadName) }
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("#Rust".parse::<ChannelName>().unwrap().as_str(), "#rust");
        for bad in ["", "#", "rust", "#a b", "#a,b", "#a~b", "#a:b", "#a\r\nQUIT"] {
            assert_eq!(bad.parse::<ChannelName>(), Err(BadName), "{bad:?}");
        }
        assert_eq!(ChannelName::try_from("#Rust".to_owned()), Err(BadName));
    }
}

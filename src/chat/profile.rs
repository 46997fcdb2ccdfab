//! `user_profile`: how a person presents themselves in a channel.

use serde::{Deserialize, Serialize};

use crate::base::limits;

/// Names and home of a person. Names are claims: two people may make the same one, and views
/// then add the first characters of the identity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// A short name without spaces: a nick, a localpart.
    pub username: String,
    /// The name to show; empty means the username.
    pub display_name: String,
    /// Where the person is from, such as `@alice:example.org` or `bob@irc.libera.chat`; empty for
    /// a native user. Set by the node that keeps the bridged identity.
    pub home: String,
}

impl Profile {
    /// The name to show.
    pub fn name(&self) -> &str {
        if self.display_name.is_empty() { &self.username } else { &self.display_name }
    }

    /// Whether the names are within bounds and free of control characters.
    pub fn is_well_formed(&self) -> bool {
        let clean = |text: &str| !text.chars().any(char::is_control);
        (1..=limits::USERNAME_BYTES).contains(&self.username.len())
            && !self.username.chars().any(|c| c.is_whitespace())
            && self.display_name.len() <= limits::DISPLAY_NAME_BYTES
            && self.home.len() <= limits::DISPLAY_NAME_BYTES
            && clean(&self.username)
            && clean(&self.display_name)
            && clean(&self.home)
    }
}

//! Which names of the homeserver are ours: the bot, the ghosts, the aliases of portals. It makes
//! and recognises them and never decides what is done with them.

/// Localpart prefix of ghosts and of portal aliases; the registration claims it exclusively.
pub const PREFIX: &str = "_multichat_";

/// The names of one homeserver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    server: String,
    bot: String,
}

impl Names {
    /// The names at `server` with the bot of the given localpart.
    pub fn new(server: impl Into<String>, bot_localpart: &str) -> Self {
        let server = server.into();
        let bot = format!("@{bot_localpart}:{server}");
        Self { server, bot }
    }

    /// The homeserver's name.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The bot's Matrix id.
    pub fn bot(&self) -> &str {
        &self.bot
    }

    /// The Matrix id of a localpart on this homeserver.
    pub fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.server)
    }

    /// Whether a user lives on this homeserver.
    pub fn is_local(&self, user: &str) -> bool {
        user.split_once(':').is_some_and(|(_, server)| server == self.server)
    }

    /// The localpart of one of our ghosts.
    pub fn ghost_localpart<'a>(&self, user: &'a str) -> Option<&'a str> {
        let (localpart, server) = user.strip_prefix('@')?.split_once(':')?;
        (server == self.server && localpart.starts_with(PREFIX)).then_some(localpart)
    }

    /// Whether a user is a machine of Multichat: our bot, or a ghost of this node or of another
    /// node on another homeserver. What those do came out of a channel and must not go back in.
    pub fn is_ours(&self, user: &str) -> bool {
        user == self.bot || user.strip_prefix('@').is_some_and(|rest| rest.starts_with(PREFIX))
    }

    /// The localpart of a channel's portal alias: `#rust` has `_multichat_rust`.
    pub fn alias_localpart(channel: &str) -> String {
        format!("{PREFIX}{}", channel.strip_prefix('#').unwrap_or(channel))
    }

    /// A channel's portal alias: `#rust` has `#_multichat_rust:SERVER`.
    pub fn alias(&self, channel: &str) -> String {
        format!("#{}:{}", Self::alias_localpart(channel), self.server)
    }

    /// The channel that an alias of ours asks for, in lower case; `None` if it is not ours.
    pub fn channel_of_alias(&self, alias: &str) -> Option<String> {
        let localpart = alias.strip_prefix('#')?.strip_suffix(self.server.as_str())?.strip_suffix(':')?;
        let name = localpart.to_lowercase();
        let channel = name.strip_prefix(PREFIX)?;
        (!channel.is_empty()).then(|| format!("#{channel}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_theirs() {
        let names = Names::new("example.org", "multichatbot");
        assert_eq!(names.bot(), "@multichatbot:example.org");
        assert!(names.is_ours("@multichatbot:example.org"));
        assert!(!names.is_ours("@multichatbot:evil.org"));
        assert!(names.is_ours("@_multichat_bob_abcd:example.org"));
        assert!(names.is_ours("@_multichat_bob_abcd:other.org"), "another node's ghost");
        assert!(!names.is_ours("@alice:example.org"));
        assert_eq!(names.ghost_localpart("@_multichat_b:example.org"), Some("_multichat_b"));
        assert_eq!(names.ghost_localpart("@_multichat_b:other.org"), None);
    }

    #[test]
    fn aliases_round_trip() {
        let names = Names::new("example.org:8448", "multichatbot");
        for channel in ["#rust", "#rust~k3f9", "##c++", "#blåbär"] {
            let alias = names.alias(channel);
            assert_eq!(names.channel_of_alias(&alias).as_deref(), Some(channel), "{alias}");
        }
        assert_eq!(names.alias("#rust"), "#_multichat_rust:example.org:8448");
        assert_eq!(names.channel_of_alias("#_MultiChat_Rust:example.org:8448").as_deref(), Some("#rust"));
        for other in
            ["#rust:example.org:8448", "#_multichat_rust:other.org", "#_multichat_:example.org:8448", ""]
        {
            assert_eq!(names.channel_of_alias(other), None, "{other:?}");
        }
    }
}

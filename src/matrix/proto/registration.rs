//! The registration file: what the homeserver must be told about this application service. Text
//! in, values out; it reads no file and makes no token.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::PREFIX;
use crate::base::Kind;

/// A registration, as the application service API defines it (Matrix specification v1.11,
/// "Registration"). Keys that other programs add are kept out of the way: unknown ones are ignored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub id: String,
    /// Where the homeserver reaches us; `null` if it never pushes.
    pub url: Option<String>,
    /// Proves us to the homeserver.
    pub as_token: String,
    /// Proves the homeserver to us.
    pub hs_token: String,
    pub sender_localpart: String,
    /// Homeservers take it for true where it is missing.
    #[serde(default = "limited")]
    pub rate_limited: bool,
    pub namespaces: Namespaces,
    #[serde(default)]
    pub receive_ephemeral: bool,
    /// The same under the name that homeservers knew it by before it was specified.
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    pub push_ephemeral: bool,
    /// Tells what devices of ours need to know in encrypted rooms (MSC3202).
    #[serde(default, rename = "org.matrix.msc3202")]
    pub for_devices: bool,
    /// We make devices ourselves (MSC4190).
    #[serde(default, rename = "io.element.msc4190")]
    pub makes_devices: bool,
}

impl fmt::Debug for Registration {
    /// Never shows the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({} at {:?})", self.id, self.url)
    }
}

/// The names an application service claims.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    #[serde(default)]
    pub users: Vec<Namespace>,
    #[serde(default)]
    pub aliases: Vec<Namespace>,
    #[serde(default)]
    pub rooms: Vec<Namespace>,
}

/// One pattern of names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Namespace {
    pub exclusive: bool,
    pub regex: String,
}

/// What is wrong with a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadRegistration {
    /// Not YAML of the right shape.
    Unreadable(String),
    /// A key that must not be empty.
    Empty(&'static str),
    /// Both tokens are the same, so neither proves anything.
    SameTokens,
    /// The ghosts' or aliases' namespace is not the one of this server.
    Namespace { which: &'static str, expected: String },
}

impl BadRegistration {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for BadRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => {
                write!(f, "not a registration: {why}; make a new one with `multichat init`")
            }
            Self::Empty(key) => write!(f, "{key} is empty; make a new registration with `multichat init`"),
            Self::SameTokens => f.write_str(
                "as_token and hs_token are the same; make a new registration with `multichat init`",
            ),
            Self::Namespace { which, expected } => write!(
                f,
                "namespaces.{which} lacks an exclusive {expected}: was it made for another server_name? \
                 Make a new registration with `multichat init`, here and at the homeserver"
            ),
        }
    }
}

impl std::error::Error for BadRegistration {}

impl Registration {
    /// The registration for a homeserver named `server_name` that reaches us at `url`, with two
    /// fresh secrets.
    pub fn generate(
        server_name: &str,
        url: impl Into<String>,
        as_token: impl Into<String>,
        hs_token: impl Into<String>,
    ) -> Self {
        let claim = |sigil| vec![Namespace { exclusive: true, regex: pattern(sigil, server_name) }];
        Self {
            id: "multichat".into(),
            url: Some(url.into()),
            as_token: as_token.into(),
            hs_token: hs_token.into(),
            sender_localpart: "multichatbot".into(),
            rate_limited: false,
            namespaces: Namespaces { users: claim('@'), aliases: claim('#'), rooms: Vec::new() },
            receive_ephemeral: true,
            push_ephemeral: true,
            for_devices: true,
            makes_devices: true,
        }
    }

    /// What it lacks for encrypted rooms, as the lines to add to it.
    pub fn lacks_for_encryption(&self) -> Vec<&'static str> {
        let mut lacks = Vec::new();
        if !self.receive_ephemeral && !self.push_ephemeral {
            lacks.push("de.sorunome.msc2409.push_ephemeral: true");
        }
        if !self.for_devices {
            lacks.push("org.matrix.msc3202: true");
        }
        lacks
    }

    /// The file's text.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a registration always encodes")
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`BadRegistration`], in one line with what to do.
    pub fn from_yaml(text: &str) -> Result<Self, BadRegistration> {
        let registration: Self = serde_yaml::from_str(text)
            .map_err(|error| BadRegistration::Unreadable(error.to_string().replace('\n', " ")))?;
        let given = [
            ("id", &registration.id),
            ("as_token", &registration.as_token),
            ("hs_token", &registration.hs_token),
            ("sender_localpart", &registration.sender_localpart),
        ];
        if let Some((key, _)) = given.iter().find(|(_, value)| value.trim().is_empty()) {
            return Err(BadRegistration::Empty(key));
        }
        if registration.as_token == registration.hs_token {
            return Err(BadRegistration::SameTokens);
        }
        Ok(registration)
    }

    /// Whether it claims the names that this node uses on `server_name`.
    ///
    /// # Errors
    /// [`BadRegistration::Namespace`].
    pub fn check(&self, server_name: &str) -> Result<(), BadRegistration> {
        for (which, claims, sigil) in
            [("users", &self.namespaces.users, '@'), ("aliases", &self.namespaces.aliases, '#')]
        {
            let expected = pattern(sigil, server_name);
            if !claims.iter().any(|claim| claim.exclusive && claim.regex == expected) {
                return Err(BadRegistration::Namespace { which, expected });
            }
        }
        Ok(())
    }
}

fn limited() -> bool {
    true
}

/// Anchored, because one homeserver's matching is not, and with the server's name taken literally.
fn pattern(sigil: char, server_name: &str) -> String {
    let mut server = String::new();
    for c in server_name.chars() {
        if !c.is_ascii_alphanumeric() && c != '-' && c != ':' {
            server.push('\\');
        }
        server.push(c);
    }
    format!("^{sigil}{PREFIX}.*:{server}$")
}

/// The example at the top of the repository.
pub fn registration_example() -> String {
    let example = Registration::generate(
        "example.org",
        "http://127.0.0.1:7701",
        "replace-me-with-a-long-random-secret",
        "replace-me-with-another-long-random-secret",
    );
    format!(
        "# What a homeserver is told about Multichat. `multichat init` writes one with fresh tokens;\n\
         # name it in the homeserver's app_service_config_files and restart the homeserver.\n{}",
        example.to_yaml()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_reads_well() {
        assert_eq!(
            registration_example(),
            r"# What a homeserver is told about Multichat. `multichat init` writes one with fresh tokens;
# name it in the homeserver's app_service_config_files and restart the homeserver.
id: multichat
url: http://127.0.0.1:7701
as_token: replace-me-with-a-long-random-secret
hs_token: replace-me-with-another-long-random-secret
sender_localpart: multichatbot
rate_limited: false
namespaces:
  users:
  - exclusive: true
    regex: ^@_multichat_.*:example\.org$
  aliases:
  - exclusive: true
    regex: ^#_multichat_.*:example\.org$
  rooms: []
receive_ephemeral: true
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: true
"
        );
    }

    #[test]
    fn round_trip_and_check() {
        let made = Registration::generate("localhost:8448", "http://127.0.0.1:1", "a", "h");
        let read = Registration::from_yaml(&made.to_yaml()).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.check("localhost:8448"), Ok(()));
        assert!(matches!(read.check("example.org"), Err(BadRegistration::Namespace { which: "users", .. })));
        assert!(!format!("{made:?}").contains("\"a\""));
    }

    #[test]
    fn mistakes_are_named() {
        let good = Registration::generate("x.org", "http://127.0.0.1:1", "aaa", "hhh").to_yaml();
        let check = |text: &str, expect: &str| {
            let said = Registration::from_yaml(text).unwrap_err().to_string();
            assert!(said.contains(expect) && !said.contains('\n'), "{said}");
        };
        check("", "not a registration");
        check("- 1\n- 2", "not a registration");
        check(&good.replace("hs_token: hhh\n", ""), "hs_token");
        check(&good.replace("hhh", "''"), "hs_token is empty");
        check(&good.replace("hhh", "aaa"), "are the same");
        check("\u{0}", "not a registration");
    }
}

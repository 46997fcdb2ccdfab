//! Numerics, and the one table from refusals of the node to numerics.

use super::line::Line;
use crate::base::Kind;
use crate::node::Refusal;

/// A numeric for one client. Before registration the client is called `*`.
pub fn numeric(server: &str, code: u16, nick: &str) -> Line {
    Line::from(server, format!("{code:03}")).param(nick)
}

/// What the client wanted when the node refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    Join,
    Part,
    Say,
    Topic,
    Nick,
    Kick,
    Knock,
    Policy,
    /// By the id it was given.
    Redact(String),
    Grant,
    Ban,
    /// Of somebody who is gone: nobody is told.
    Quit,
}

/// The numeric and the text for a refusal: by its variant where IRC has a number for it, else by
/// its kind.
pub fn refusal(wanted: &Wanted, refusal: &Refusal) -> (u16, String) {
    let code = match refusal {
        Refusal::NotAMember if *wanted == Wanted::Say => 404,
        Refusal::NotAMember => 442,
        Refusal::NotPermitted(_) if *wanted == Wanted::Say => 404,
        Refusal::ChannelExists(_) => 403,
        Refusal::Banned if *wanted == Wanted::Join => 474,
        Refusal::NotInvited => 473,
        Refusal::NoSuchPerson(_) => 401,
        Refusal::Malformed(_) if *wanted == Wanted::Nick => 432,
        Refusal::Malformed(_) if *wanted == Wanted::Join => 403,
        other => match other.kind() {
            Kind::NotFound => 403,
            Kind::Denied => 482,
            Kind::Retry => 437,
            Kind::Invalid | Kind::Permanent | Kind::Bug => 400,
        },
    };
    (code, refusal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_number() {
        for (wanted, refused, code) in [
            (Wanted::Join, Refusal::NoSuchChannel("#a".into()), 403),
            (Wanted::Say, Refusal::NotAMember, 404),
            (Wanted::Part, Refusal::NotAMember, 442),
            (Wanted::Topic, Refusal::NotPermitted("set_topic"), 482),
            (Wanted::Say, Refusal::Malformed("too long"), 400),
            (Wanted::Nick, Refusal::Malformed("bad name"), 432),
            (Wanted::Join, Refusal::Full("channels"), 437),
            (Wanted::Say, Refusal::Stopping, 437),
        ] {
            assert_eq!(refusal(&wanted, &refused).0, code, "{refused:?}");
        }
    }
}

//! The demo's people, whatever they sit at: how they speak, and how one sees that something
//! reached them.

use std::time::{Duration, Instant};

use super::irc_user::IrcUser;
use super::irssi::{Irssi, said};
use super::matrix_user::MatrixUser;
use super::nodes::{CHANNEL, RELAY_NICK};
use super::trouble::Trouble;

/// Somebody who takes part in the conversation.
#[derive(Debug)]
pub struct Person {
    pub name: &'static str,
    pub seat: Seat,
}

/// What they sit at.
#[derive(Debug)]
pub enum Seat {
    /// A Matrix client in the channel's room.
    Matrix { user: MatrixUser, room: String },
    /// A real irssi, connected to a node's listener.
    Irssi(Irssi),
    /// An IRC client connected to a node's listener.
    Listener(IrcUser),
    /// An IRC client on the linked network, where the node speaks for everybody.
    Network(IrcUser),
}

/// How a line reached somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The name that it bore there.
    pub name: String,
    pub at: Instant,
}

impl Person {
    /// Says a line in the channel.
    ///
    /// # Errors
    /// Why it could not be said.
    pub async fn say(&mut self, text: &str) -> Result<(), Trouble> {
        match &mut self.seat {
            Seat::Matrix { user, room } => user.say(room, text).await.map(drop),
            Seat::Irssi(irssi) => irssi.say(CHANNEL, text),
            Seat::Listener(user) | Seat::Network(user) => user.say(CHANNEL, text),
        }
    }

    /// Waits until a line of somebody's reaches this person.
    ///
    /// # Errors
    /// [`Trouble::Late`].
    pub async fn hears(&self, author: &str, text: &str, within: Duration) -> Result<Arrival, Trouble> {
        let awaited = format!("{author}'s line to reach {}", self.name);
        match &self.seat {
            Seat::Matrix { user, room } => {
                let fits = |heard: &_| is_in(heard, room, text);
                let heard = user.wait_for(&awaited, within, fits).await?;
                Ok(Arrival { name: heard.name, at: heard.at })
            }
            Seat::Irssi(irssi) => {
                let fits = |line: &str| said(line).is_some_and(|(_, heard)| heard == text);
                let line = irssi.wait_for(CHANNEL, &awaited, within, fits).await?;
                let at = Instant::now();
                Ok(Arrival { name: said(&line).map(|(nick, _)| nick.to_owned()).unwrap_or_default(), at })
            }
            Seat::Listener(user) => {
                let heard = user.wait_for(&awaited, within, |line| line.says(CHANNEL, text)).await?;
                Ok(Arrival { name: heard.from, at: heard.at })
            }
            Seat::Network(user) => {
                let fits =
                    |line: &super::irc_user::Line| line.from == RELAY_NICK && line.mentions(CHANNEL, text);
                let heard = user.wait_for(&awaited, within, fits).await?;
                let words = heard.params.get(1).map(String::as_str).unwrap_or_default();
                Ok(Arrival { name: relayed_name(words), at: heard.at })
            }
        }
    }

    /// How often a line reached this person.
    pub fn times_heard(&self, text: &str) -> usize {
        match &self.seat {
            Seat::Matrix { user, room } => {
                user.heard().iter().filter(|heard| is_in(heard, room, text)).count()
            }
            Seat::Irssi(irssi) => irssi
                .log(CHANNEL)
                .lines()
                .filter(|line| said(line).is_some_and(|(_, said)| said == text))
                .count(),
            Seat::Listener(user) => user.heard().iter().filter(|line| line.says(CHANNEL, text)).count(),
            Seat::Network(user) => user.heard().iter().filter(|line| line.mentions(CHANNEL, text)).count(),
        }
    }

    /// The nodes and programs between this person and node A, seen from node A.
    pub fn way(&self) -> &'static [&'static str] {
        match &self.seat {
            Seat::Matrix { .. } => &["Matrix"],
            Seat::Irssi(_) => &["node B", "irssi"],
            Seat::Listener(_) => &["node B", "IRC"],
            Seat::Network(_) => &["IRC network"],
        }
    }
}

/// The way of a line from one person to another, such as `Matrix → node A → node B → irssi`.
pub fn way(from: &Person, to: &Person) -> String {
    let before = from.way().iter().rev();
    let steps: Vec<&str> = before.chain(&["node A"]).chain(to.way()).copied().collect();
    steps.join(" → ")
}

fn is_in(heard: &super::matrix_user::Heard, room: &str, text: &str) -> bool {
    heard.room == room && heard.body == text
}

/// Who it says it is from in `<Alice> hello`, whatever invisible marks or colours are in it.
fn relayed_name(text: &str) -> String {
    let name = text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(name, _)| name);
    name.chars().filter(|c| c.is_alphanumeric() || "-_[]".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::relayed_name;

    #[test]
    fn a_relayed_name_is_read_through_its_marks() {
        assert_eq!(relayed_name("<Alice> hello > you"), "Alice");
        assert_eq!(relayed_name("<\u{2}A\u{200b}lice\u{2}> hello"), "Alice");
        assert_eq!(relayed_name("hello"), "");
    }
}

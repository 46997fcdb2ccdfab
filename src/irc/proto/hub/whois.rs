//! WHOIS and WHOWAS: one person at a time.

use super::Hub;
use super::who::Card;
use crate::base::Timestamp;
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::glob;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;

/// Users who went that are remembered.
const DEPARTED: usize = 1024;
/// Channels in one line of WHOIS.
const CHANNELS_PER_LINE: usize = 6;

/// A user who went, or a nick that changed.
#[derive(Debug)]
pub(super) struct Departed {
    nick: String,
    user: String,
    host: String,
    realname: String,
    account: Option<String>,
    at: Timestamp,
}

impl Hub {
    pub(super) fn whois(&mut self, client: ClientId, line: &Line) {
        // The first of two is the server to ask; there is one.
        let Some(masks) = line.params.get(1).or(line.params.first()).filter(|masks| !masks.is_empty()) else {
            return self.reply(client, 431, &[], "No nickname given");
        };
        let mask = masks.split(',').next().unwrap_or("");
        let cards: Vec<Card> = match mask.contains(['*', '?']) {
            true => self
                .users
                .iter()
                .filter(|(_, user)| glob(mask, &user.nick) && !user.modes.contains(&'i'))
                .take(10)
                .map(|(person, user)| self.user_card(person, user))
                .collect(),
            false => self.card(mask).into_iter().collect(),
        };
        if cards.is_empty() {
            self.reply(client, 401, &[mask], "No such nick");
        }
        for card in cards {
            self.describe(client, &card);
        }
        self.reply(client, 318, &[mask], "End of WHOIS list");
    }

    fn describe(&mut self, client: ClientId, card: &Card) {
        let nick = card.nick.as_str();
        let server = self.settings.server.clone();
        self.reply(client, 311, &[nick, &card.user, &card.host, "*"], &card.realname);
        let own = super::same_nick(&self.called(client), nick);
        let is_oper = self.sessions.get(&client).is_some_and(|session| session.oper.is_some());
        if let Some(identity) = card.identity {
            let seen = self.rooms.iter().filter(|(_, room)| self.may_see(client, room));
            let channels: Vec<String> = seen
                .filter_map(|(id, room)| {
                    let member = room.members.get(&identity)?;
                    Some(format!("{}{}", self.signs(client, *id, member), room.name))
                })
                .collect();
            for some in channels.chunks(CHANNELS_PER_LINE) {
                self.reply(client, 319, &[nick], &some.join(" "));
            }
        }
        let description = self.settings.description.clone();
        self.reply(client, 312, &[nick, &server], &description);
        if card.oper {
            self.reply(client, 313, &[nick], "is an IRC operator");
        }
        if let Some(account) = &card.account {
            self.reply(client, 330, &[nick, account], "is logged in as");
        }
        if let Some(identity) = card.identity.filter(|_| !card.here) {
            self.reply(client, 320, &[nick], &format!("has the identity {identity}"));
        }
        if !card.home.is_empty() {
            self.reply(client, 320, &[nick], &format!("is {}", card.home));
        }
        if card.bot {
            self.reply(client, 335, &[nick], "is a bot");
        }
        if card.here {
            self.describe_connection(client, nick, own || is_oper);
        }
        if let Some(away) = &card.away {
            self.reply(client, 301, &[nick], away);
        }
        self.describe_metadata(client, nick);
    }

    fn describe_connection(&mut self, client: ClientId, nick: &str, in_full: bool) {
        let Some(user) = self.users.values().find(|user| super::same_nick(&user.nick, nick)) else { return };
        let sessions: Vec<_> = user.sessions.iter().filter_map(|id| self.sessions.get(id)).collect();
        let since = sessions.iter().map(|session| session.connected_at).min().unwrap_or(self.now);
        let secure = sessions.iter().all(|session| session.peer.secure);
        let hosts: Vec<String> = sessions.iter().map(|session| session.peer.host.clone()).collect();
        let prints: Vec<String> =
            sessions.iter().filter_map(|session| session.peer.certificate.clone()).collect();
        let modes = self
            .clients_named(nick)
            .and_then(|ids| ids.first().map(|id| self.user_modes(*id)))
            .unwrap_or_default();
        if secure {
            self.reply(client, 671, &[nick], "is using a secure connection");
        }
        if in_full {
            for host in &hosts {
                self.reply(client, 338, &[nick, host], "is actually using host");
            }
            for print in &prints {
                self.reply(client, 276, &[nick], &format!("has client certificate fingerprint {print}"));
            }
            self.reply(client, 379, &[nick], &format!("is using modes {modes}"));
        }
        let (idle, since) = (self.idle(nick).to_string(), (since.0 / 1000).to_string());
        self.reply(client, 317, &[nick, &idle, &since], "seconds idle, signon time");
    }

    /// Remembers a nick that is no longer somebody's.
    pub(super) fn remember_departed(
        &mut self,
        nick: &str,
        user: &str,
        host: &str,
        realname: &str,
        person: &str,
    ) {
        if self.departed.len() >= DEPARTED {
            self.departed.pop_back();
        }
        let account = self.users.get(person).and_then(|user| user.account.clone());
        self.departed.push_front(Departed {
            nick: nick.to_owned(),
            user: user.to_owned(),
            host: host.to_owned(),
            realname: realname.to_owned(),
            account,
            at: self.now,
        });
    }

    pub(super) fn whowas(&mut self, client: ClientId, line: &Line) {
        let Some(mask) = line.params.first().filter(|mask| !mask.is_empty()) else {
            return self.reply(client, 431, &[], "No nickname given");
        };
        let wanted =
            line.params.get(1).and_then(|count| count.parse::<i64>().ok()).filter(|count| *count > 0);
        let most = wanted.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let server = self.settings.server.clone();
        let told: Vec<_> = self
            .departed
            .iter()
            .filter(|gone| glob(mask, &gone.nick))
            .take(most.min(100))
            .map(|gone| {
                let names = (gone.nick.clone(), gone.user.clone(), gone.host.clone());
                (names, gone.realname.clone(), gone.account.clone(), stamp::plain(gone.at))
            })
            .collect();
        if told.is_empty() {
            self.reply(client, 406, &[mask], "There was no such nickname");
        }
        for ((nick, user, host), realname, account, at) in told {
            self.reply(client, 314, &[&nick, &user, &host, "*"], &realname);
            if let Some(account) = account {
                self.reply(client, 330, &[&nick, &account], "was logged in as");
            }
            self.reply(client, 312, &[&nick, &server], &at);
        }
        self.reply(client, 369, &[mask], "End of WHOWAS");
    }
}

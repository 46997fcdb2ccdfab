//! What the server says of itself: MOTD, INFO, HELP, VERSION, TIME, ADMIN, LINKS, LUSERS; and the
//! lists by which a user keeps others off: SILENCE and ACCEPT.

use super::Hub;
use crate::irc::proto::isupport::{self, SILENCED};
use crate::irc::proto::line::Line;
use crate::irc::proto::mask;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;

/// What VERSION says.
pub(super) const VERSION: &str = concat!("multichat-", env!("CARGO_PKG_VERSION"));

impl Hub {
    /// Whether a command that may name a server names this one; says so if not.
    fn is_here(&mut self, client: ClientId, line: &Line) -> bool {
        let Some(target) = line.params.first().filter(|target| !target.is_empty()) else { return true };
        let own_nick = super::same_nick(target, &self.called(client));
        if own_nick || mask::glob(target, &self.settings.server) || self.card(target).is_some() {
            return true;
        }
        self.reply(client, 402, &[target], "No such server");
        false
    }

    pub(super) fn motd_command(&mut self, client: ClientId, line: &Line) {
        if self.is_here(client, line) {
            self.motd(client);
        }
    }

    pub(super) fn motd(&mut self, client: ClientId) {
        let server = self.settings.server.clone();
        self.reply(client, 375, &[], &format!("- {server} Message of the day -"));
        for text in self.settings.motd.clone() {
            self.reply(client, 372, &[], &format!("- {text}"));
        }
        self.reply(client, 376, &[], "End of MOTD");
    }

    pub(super) fn version(&mut self, client: ClientId, line: &Line) {
        if self.is_here(client, line) {
            let server = self.settings.server.clone();
            self.reply(client, 351, &[VERSION, &server], "Multichat");
            self.isupport(client);
        }
    }

    pub(super) fn time(&mut self, client: ClientId, line: &Line) {
        if self.is_here(client, line) {
            let (server, now) = (self.settings.server.clone(), stamp::plain(self.now));
            let seconds = (self.now.0 / 1000).to_string();
            self.reply(client, 391, &[&server, &seconds, "0"], &now);
        }
    }

    pub(super) fn info(&mut self, client: ClientId, line: &Line) {
        if !self.is_here(client, line) {
            return;
        }
        let started = format!("Started {}", stamp::plain(self.settings.started));
        for text in ["Multichat: chat without an operator", VERSION, &started] {
            self.reply(client, 371, &[], text);
        }
        self.reply(client, 374, &[], "End of INFO");
    }

    pub(super) fn admin(&mut self, client: ClientId, line: &Line) {
        if self.is_here(client, line) {
            let server = self.settings.server.clone();
            self.reply(client, 256, &[&server], "Administrative info");
            self.reply(client, 257, &[], "A node of Multichat");
            self.reply(client, 258, &[], "Whoever runs it administers it");
            self.reply(client, 259, &[], "STATS o names its operators to each other");
        }
    }

    pub(super) fn links(&mut self, client: ClientId, line: &Line) {
        let server = self.settings.server.clone();
        let wanted = line.params.last().map_or("*", String::as_str).to_owned();
        if mask::glob(&wanted, &server) {
            self.reply(client, 364, &[&server, &server], &format!("0 {}", self.settings.description.clone()));
        }
        self.reply(client, 365, &[&wanted], "End of LINKS list");
    }

    pub(super) fn help(&mut self, client: ClientId, line: &Line) {
        let wanted = line.params.first().map(|subject| subject.to_ascii_uppercase());
        let subject = line.params.first().cloned().unwrap_or_else(|| "*".to_owned());
        let text: Vec<String> = match &wanted {
            None => {
                let names: Vec<&str> = Self::commands().collect();
                let mut text: Vec<String> =
                    vec!["Commands of this server; HELP <command> tells more:".to_owned()];
                text.extend(names.chunks(10).map(|some| some.join(" ")));
                text
            }
            Some(name) => match explain(name) {
                Some(text) => vec![text.to_owned()],
                None if Self::commands().any(|known| known == name) => {
                    vec![format!("{name}: as https://modern.ircdocs.horse/ says")]
                }
                None => {
                    return self.reply(client, 524, &[&subject], "There is no help on that");
                }
            },
        };
        self.reply(client, 704, &[&subject], "*** Help of Multichat ***");
        for text in text {
            self.reply(client, 705, &[&subject], &text);
        }
        self.reply(client, 706, &[&subject], "End of /HELP");
    }

    pub(super) fn isupport(&mut self, client: ClientId) {
        for tokens in isupport::lines(&self.settings.network) {
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            self.reply(client, 5, &tokens, "are supported by this server");
        }
    }

    /// `ISUPPORT` (draft/extended-isupport): the tokens, before registration too, as a batch.
    pub(super) fn isupport_command(&mut self, client: ClientId, _: &Line) {
        use crate::irc::proto::caps::Cap;
        if !self.has(client, Cap::Batch) {
            return self.isupport(client);
        }
        let (id, server) = (self.batch_id(), self.settings.server.clone());
        self.emit(
            client,
            Line::from(server.as_str(), "BATCH").param(format!("+{id}")).param("draft/isupport"),
        );
        for tokens in isupport::lines(&self.settings.network) {
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let line = self.numeric(client, 5, &tokens).text("are supported by this server");
            self.emit(client, line.tag("batch", id.as_str()));
        }
        self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
    }

    pub(super) fn lusers_command(&mut self, client: ClientId, _: &Line) {
        self.lusers(client);
    }

    pub(super) fn lusers(&mut self, client: ClientId) {
        let users = self.users.len();
        let hidden = self.users.values().filter(|user| user.modes.contains(&'i')).count();
        let opers = self.sessions.values().filter(|session| session.oper.is_some()).count();
        let strangers = self.sessions.values().filter(|session| session.person().is_none()).count();
        let most = self.most_users.to_string();
        let text = format!("There are {} users and {hidden} invisible on 1 servers", users - hidden);
        self.reply(client, 251, &[], &text);
        self.reply(client, 252, &[&opers.to_string()], "operators online");
        self.reply(client, 253, &[&strangers.to_string()], "unknown connections");
        self.reply(client, 254, &[&self.rooms.len().to_string()], "channels formed");
        self.reply(client, 255, &[], &format!("I have {users} clients and 0 servers"));
        let users = users.to_string();
        self.reply(client, 265, &[&users, &most], &format!("Current local users {users}, max {most}"));
        self.reply(client, 266, &[&users, &most], &format!("Current global users {users}, max {most}"));
    }

    pub(super) fn silence(&mut self, client: ClientId, line: &Line) {
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        let Some(user) = self.users.get_mut(&person) else { return };
        let given = line.params.first().cloned().unwrap_or_default();
        let (add, text) = match given.strip_prefix('-') {
            Some(text) => (false, text),
            None => (true, given.strip_prefix('+').unwrap_or(&given)),
        };
        if text.is_empty() || super::same_nick(text, &user.nick) {
            let (nick, masks) = (user.nick.clone(), user.silenced.clone());
            for mask in masks {
                let line = self.numeric(client, 271, &[&nick, &mask]);
                self.emit(client, line);
            }
            return self.reply(client, 272, &[], "End of Silence List");
        }
        let full = mask::normal(text);
        let known = user.silenced.iter().position(|mask| super::same_nick(mask, &full));
        match (add, known) {
            (true, None) if user.silenced.len() >= SILENCED => {
                return self.reply(client, 511, &[&full], "Your silence list is full");
            }
            (true, None) => user.silenced.push(full.clone()),
            (false, Some(index)) => {
                user.silenced.remove(index);
            }
            _ => return,
        }
        let prefix = user.prefix();
        let sign = if add { '+' } else { '-' };
        self.emit(client, Line::from(prefix, "SILENCE").param(format!("{sign}{full}")));
    }

    pub(super) fn accept(&mut self, client: ClientId, line: &Line) {
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        for word in line.params[0].split(',').filter(|word| !word.is_empty()) {
            let Some(user) = self.users.get_mut(&person) else { return };
            if word == "*" {
                let all: Vec<String> = user.accepted.iter().cloned().collect();
                for some in all.chunks(10) {
                    self.reply(client, 281, &[], &some.join(" "));
                }
                self.reply(client, 282, &[], "End of /ACCEPT list");
                continue;
            }
            let (add, nick) = match word.strip_prefix('-') {
                Some(nick) => (false, nick),
                None => (true, word.strip_prefix('+').unwrap_or(word)),
            };
            let folded = crate::irc::proto::casemap::fold(nick);
            let full = user.accepted.len() >= SILENCED;
            if !add {
                if !user.accepted.remove(&folded) {
                    self.reply(client, 458, &[nick], "is not on your accept list");
                }
            } else if full {
                self.reply(client, 456, &[], "Accept list is full");
            } else if !user.accepted.insert(folded) {
                self.reply(client, 457, &[nick], "is already on your accept list");
            }
        }
    }
}

/// What HELP says of a command beyond its specification.
fn explain(name: &str) -> Option<&'static str> {
    Some(match name {
        "JOIN" => {
            "JOIN <#channel>{,<#channel>} [keys]: become a member; founds the channel if there is none of that name"
        }
        "PART" => "PART <#channel>{,<#channel>} [reason]: stop being a member",
        "QUIT" => {
            "QUIT [reason]: disconnect; whoever stays remains a member of their channels and finds what they missed"
        }
        "MODE" => {
            "MODE <#channel> [modes]: +o and +a give roles that hold on every node; +b e I k l i m M n R s t C v are this server's"
        }
        "KICK" => {
            "KICK <#channel> <nick> [reason]: removes somebody; whom a ban means is banned on every node"
        }
        "REGISTER" => "REGISTER <account or *> <email or *> <password>: makes an account",
        "CHATHISTORY" => "CHATHISTORY LATEST|BEFORE|AFTER|AROUND|BETWEEN|TARGETS: what was said",
        "OPER" => "OPER <name> <password>: become an operator of this node",
        _ => return None,
    })
}

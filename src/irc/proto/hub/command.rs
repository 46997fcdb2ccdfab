//! The commands, each with its guards: how many parameters it needs, and who may give it.

use super::Hub;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::ClientId;

/// Who may give a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// Also who is not registered yet.
    Anybody,
    Registered,
    Operators,
}

/// What a command does with a line.
type Handler = fn(&mut Hub, ClientId, &Line);

/// Name, parameters at least, who, and what it does; in alphabetical order.
const COMMANDS: &[(&str, usize, Who, Handler)] = &[
    ("ACCEPT", 1, Who::Registered, Hub::accept),
    ("ADMIN", 0, Who::Registered, Hub::admin),
    ("AUTHENTICATE", 1, Who::Anybody, Hub::authenticate),
    ("AWAY", 0, Who::Anybody, Hub::away),
    ("BATCH", 1, Who::Registered, Hub::batch),
    ("CAP", 1, Who::Anybody, Hub::cap),
    ("CHANSERV", 0, Who::Registered, Hub::chanserv),
    ("CHATHISTORY", 1, Who::Registered, Hub::chathistory),
    ("CS", 0, Who::Registered, Hub::chanserv),
    ("DLINE", 1, Who::Operators, Hub::dline),
    ("HELP", 0, Who::Registered, Hub::help),
    ("HELPOP", 0, Who::Registered, Hub::help),
    ("INFO", 0, Who::Registered, Hub::info),
    ("INVITE", 0, Who::Registered, Hub::invite),
    ("ISON", 1, Who::Registered, Hub::ison),
    ("ISUPPORT", 0, Who::Anybody, Hub::isupport_command),
    ("JOIN", 1, Who::Registered, Hub::join),
    ("KICK", 2, Who::Registered, Hub::kick),
    ("KILL", 1, Who::Operators, Hub::kill),
    ("KLINE", 1, Who::Operators, Hub::kline),
    ("KNOCK", 1, Who::Registered, Hub::knock),
    ("LINKS", 0, Who::Registered, Hub::links),
    ("LIST", 0, Who::Registered, Hub::list),
    ("LUSERS", 0, Who::Registered, Hub::lusers_command),
    ("MARKREAD", 0, Who::Registered, Hub::markread),
    ("METADATA", 2, Who::Anybody, Hub::metadata),
    ("MODE", 1, Who::Registered, Hub::mode),
    ("MONITOR", 1, Who::Registered, Hub::monitor),
    ("MOTD", 0, Who::Registered, Hub::motd_command),
    ("NAMES", 0, Who::Registered, Hub::names_command),
    ("NICK", 0, Who::Anybody, Hub::nick),
    ("NICKSERV", 0, Who::Registered, Hub::nickserv),
    ("NOTICE", 0, Who::Registered, Hub::say),
    ("NS", 0, Who::Registered, Hub::nickserv),
    ("OPER", 2, Who::Registered, Hub::oper),
    ("PART", 1, Who::Registered, Hub::part),
    ("PASS", 1, Who::Anybody, Hub::pass),
    ("PING", 1, Who::Anybody, Hub::ping),
    ("PONG", 0, Who::Anybody, Hub::pong),
    ("PRIVMSG", 0, Who::Registered, Hub::say),
    ("QUIT", 0, Who::Anybody, Hub::quit),
    ("REDACT", 2, Who::Registered, Hub::redact),
    ("REGISTER", 3, Who::Anybody, Hub::register_account),
    ("REHASH", 0, Who::Operators, Hub::rehash),
    ("SETNAME", 1, Who::Registered, Hub::setname),
    ("SILENCE", 0, Who::Registered, Hub::silence),
    ("STATS", 0, Who::Registered, Hub::stats),
    ("TAGMSG", 0, Who::Registered, Hub::tagmsg),
    ("TIME", 0, Who::Registered, Hub::time),
    ("TOPIC", 1, Who::Registered, Hub::topic),
    ("UNDLINE", 1, Who::Operators, Hub::undline),
    ("UNKLINE", 1, Who::Operators, Hub::unkline),
    ("USER", 4, Who::Anybody, Hub::user),
    ("USERHOST", 1, Who::Registered, Hub::userhost),
    ("VERIFY", 2, Who::Anybody, Hub::verify_account),
    ("VERSION", 0, Who::Registered, Hub::version),
    ("WALLOPS", 1, Who::Operators, Hub::wallops),
    ("WEBIRC", 0, Who::Anybody, Hub::webirc),
    ("WHO", 0, Who::Registered, Hub::who),
    ("WHOIS", 0, Who::Registered, Hub::whois),
    ("WHOWAS", 0, Who::Registered, Hub::whowas),
];

impl Hub {
    /// Handles a line, or says why not.
    pub(super) fn dispatch(&mut self, client: ClientId, line: &Line) {
        let Some(session) = self.sessions.get(&client) else { return };
        let registered = session.person().is_some();
        let is_oper = session.oper.is_some();
        let found = COMMANDS.iter().find(|(name, ..)| *name == line.command);
        let Some((name, least, who, handler)) = found else {
            if !registered {
                return self.reply(client, 451, &[], "You have not registered: send NICK and USER first");
            }
            return self.reply(client, 421, &[&line.command], "Unknown command");
        };
        if !registered && *who != Who::Anybody {
            return self.reply(client, 451, &[], "You have not registered: send NICK and USER first");
        }
        if *who == Who::Operators && !is_oper {
            return self.reply(client, 481, &[], "Permission Denied- You're not an IRC operator");
        }
        let given = line.params.len();
        // RFC 2812 counts an empty parameter as none where one is needed.
        let empty = given == *least && given == 1 && line.params[0].is_empty() && needs_text(name);
        if given < *least || empty {
            return self.reply(client, 461, &[name], "Not enough parameters");
        }
        handler(self, client, line);
    }

    /// Every command's name.
    pub(super) fn commands() -> impl Iterator<Item = &'static str> {
        COMMANDS.iter().map(|(name, ..)| *name)
    }
}

fn needs_text(name: &str) -> bool {
    matches!(name, "JOIN" | "PART" | "WALLOPS" | "ACCEPT" | "KNOCK" | "TOPIC" | "MODE" | "PING")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.0 < b.0));
    }
}

//! Service users, for habits: NickServ and ChanServ, and `multichat`, which helps. They say nothing
//! that commands of the protocol could not; their names are nobody's.

use super::Hub;
use super::login::Via;
use crate::irc::proto::accounts::is_email;
use crate::irc::proto::casemap::fold;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::ClientId;

/// The nick that answers for the node.
pub(super) const SERVICE: &str = "multichat";

/// Whether a nick is a service's.
pub(super) fn is_service(nick: &str) -> bool {
    matches!(fold(nick).as_str(), "multichat" | "nickserv" | "chanserv" | "histserv" | "saslserv" | "global")
}

const NICKSERV_HELP: &[&str] = &[
    "REGISTER <password> [email]: registers the nick you have as an account",
    "IDENTIFY [account] <password>: logs you in",
    "SET PASSWORD <password>: changes your password",
    "SET EMAIL <address>: the e-mail address that this server's operators see",
    "SET ALWAYS-ON on|off|default: whether you stay in your channels while you are away",
    "CERT ADD|LIST|DEL [fingerprint]: certificates that log you in by SASL EXTERNAL",
    "INFO [account]: what is known of an account",
    "GHOST <nick>: ends the other connections of your account",
    "LOGOUT: ends the login of this connection's user",
];
const CHANSERV_HELP: &[&str] = &[
    "OP <#channel> [nick], DEOP <#channel> [nick]: gives or takes the role of a moderator",
    "VOICE <#channel> [nick], DEVOICE <#channel> [nick]: gives or takes a voice",
    "KICK <#channel> <nick> [reason]: removes somebody",
    "INFO <#channel>: what is known of a channel",
    "Channels need no registration: their founders keep them.",
];
const HELP: &[&str] = &[
    "/join #name joins a channel, or makes it if there is none of that name; /list shows those there are.",
    "/msg NickServ HELP says how to register your nick, /msg ChanServ HELP how to run a channel.",
    "You stay a member while you are away, if this server lets you; /part leaves.",
];

impl Hub {
    pub(super) fn nickserv(&mut self, client: ClientId, line: &Line) {
        self.ask_service(client, "NickServ", &line.params.join(" "));
    }

    pub(super) fn chanserv(&mut self, client: ClientId, line: &Line) {
        self.ask_service(client, "ChanServ", &line.params.join(" "));
    }

    /// A message to a service.
    pub(super) fn ask_service(&mut self, client: ClientId, service: &str, text: &str) {
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let command = words.first().map_or("HELP".to_owned(), |word| word.to_ascii_uppercase());
        match fold(service).as_str() {
            "nickserv" => self.ask_nickserv(client, &command, words.get(1..).unwrap_or(&[])),
            "chanserv" => self.ask_chanserv(client, &command, words.get(1..).unwrap_or(&[])),
            _ => HELP.iter().for_each(|text| self.says(client, SERVICE, text)),
        }
    }

    fn says(&mut self, client: ClientId, service: &str, text: &str) {
        let server = self.settings.server.clone();
        let line = Line::from(format!("{service}!{service}@{server}"), "NOTICE").param(self.called(client));
        self.emit(client, line.text(text));
    }

    /// What NickServ has to say.
    pub(super) fn service_says(&mut self, client: ClientId, text: &str) {
        self.says(client, "NickServ", text);
    }

    fn ask_nickserv(&mut self, client: ClientId, command: &str, words: &[&str]) {
        let account = self.user_of(client).and_then(|user| user.account.clone());
        match (command, words) {
            ("REGISTER", [password, rest @ ..]) => {
                let (name, email) = (self.called(client), rest.first().copied().unwrap_or("*"));
                self.begin_registration(client, (&name, email), password, Via::Service);
            }
            ("IDENTIFY" | "LOGIN", [password]) => {
                let name = self.called(client);
                self.check_password(client, &name, (*password).to_owned(), Via::Service);
            }
            ("IDENTIFY" | "LOGIN", [name, password, ..]) => {
                self.check_password(client, name, (*password).to_owned(), Via::Service);
            }
            ("INFO", words) => self.account_info(client, words.first().copied().or(account.as_deref())),
            ("SET" | "CERT" | "GHOST" | "LOGOUT" | "PASSWD", words) => match account {
                Some(account) => self.change_account(client, &account, command, words),
                None => self.service_says(client, "You're not logged into an account"),
            },
            _ => NICKSERV_HELP.iter().for_each(|text| self.service_says(client, text)),
        }
    }

    fn account_info(&mut self, client: ClientId, name: Option<&str>) {
        let Some(account) = name.and_then(|name| self.accounts.get(name)).cloned() else {
            return self.service_says(client, "There is no such account");
        };
        self.service_says(client, &format!("Account: {}", account.name));
        let since = crate::irc::proto::stamp::plain(account.registered_at);
        self.service_says(client, &format!("Registered at: {since}"));
        let is_own = self.user_of(client).is_some_and(|user| user.account.as_ref() == Some(&account.name));
        let is_oper = self.sessions.get(&client).is_some_and(|session| session.oper.is_some());
        if (is_own || is_oper) && !account.email.is_empty() {
            self.service_says(client, &format!("E-mail: {}", account.email));
        }
        let here = self.users.get(&account.person).map_or(0, |user| user.sessions.len());
        self.service_says(client, &format!("Connections: {here}"));
    }

    fn change_account(&mut self, client: ClientId, name: &str, command: &str, words: &[&str]) {
        let Some(mut account) = self.accounts.get(name).cloned() else { return };
        let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        let said = match (command, upper.as_slice()) {
            ("SET", ["PASSWORD", _]) => return self.hash_password(client, name, words[1]),
            ("PASSWD", [_, ..]) => return self.hash_password(client, name, words[words.len() - 1]),
            ("SET", ["EMAIL", _]) if !is_email(words[1]) => {
                return self.service_says(client, "That is no e-mail address");
            }
            ("SET", ["EMAIL", _]) => {
                account.email = words[1].to_owned();
                "That is set"
            }
            ("SET", ["ALWAYS-ON", choice]) => {
                account.always_on = match *choice {
                    "ON" | "TRUE" => Some(true),
                    "OFF" | "FALSE" => Some(false),
                    _ => None,
                };
                "That is set"
            }
            ("CERT", ["LIST"]) => {
                for print in &account.certificates {
                    self.service_says(client, print);
                }
                return self.service_says(client, &format!("{} certificates", account.certificates.len()));
            }
            ("CERT", ["ADD", ..]) => {
                let own = self.sessions.get(&client).and_then(|session| session.peer.certificate.clone());
                let given = words.get(1).map(|print| print.replace(':', "").to_ascii_lowercase()).or(own);
                let fits = |print: &String| print.len() == 64 && print.bytes().all(|b| b.is_ascii_hexdigit());
                let Some(print) = given.filter(fits) else {
                    return self
                        .service_says(client, "Give a SHA-256 fingerprint, or connect with a certificate");
                };
                if self.accounts.of_certificate(&print).is_some() {
                    return self.service_says(client, "That certificate is an account's already");
                }
                if account.certificates.len() >= crate::irc::proto::accounts::CERTIFICATES {
                    return self.service_says(client, "There are too many; delete one first");
                }
                account.certificates.push(print);
                "The certificate is added"
            }
            ("CERT", ["DEL", ..]) => {
                let given = words.get(1).map(|print| print.replace(':', "").to_ascii_lowercase());
                account.certificates.retain(|print| Some(print) != given.as_ref());
                "The certificate is deleted"
            }
            ("GHOST", _) => return self.end_others(client),
            ("LOGOUT", _) => {
                return self
                    .service_says(client, "Reconnect to be somebody else: an account is who you are here");
            }
            _ => return NICKSERV_HELP.iter().for_each(|text| self.service_says(client, text)),
        };
        self.accounts.put(account.clone());
        self.keep_account(client, &account, said);
    }

    fn hash_password(&mut self, client: ClientId, name: &str, password: &str) {
        if password.len() > crate::irc::proto::accounts::PASSWORD_BYTES {
            return self.service_says(client, "A password is 1 to 900 bytes");
        }
        self.change_password(client, name, password);
    }

    fn end_others(&mut self, client: ClientId) {
        let sessions = self.user_of(client).map(|user| user.sessions.clone()).unwrap_or_default();
        let others: Vec<ClientId> = sessions.into_iter().filter(|id| *id != client).collect();
        let count = others.len();
        for id in others {
            self.close(id, "Ended by another connection of the same account");
        }
        self.service_says(client, &format!("{count} connections ended"));
    }

    fn ask_chanserv(&mut self, client: ClientId, command: &str, words: &[&str]) {
        let own = self.called(client);
        let [channel, rest @ ..] = words else {
            return CHANSERV_HELP.iter().for_each(|text| self.says(client, "ChanServ", text));
        };
        let nick = rest.first().copied().unwrap_or(&own);
        let mode = match command {
            "OP" => "+o",
            "DEOP" => "-o",
            "VOICE" => "+v",
            "DEVOICE" => "-v",
            "REGISTER" => {
                return self.says(
                    client,
                    "ChanServ",
                    "Channels need no registration: their founders keep them.",
                );
            }
            "KICK" => {
                let line = rest.iter().skip(1).copied().collect::<Vec<_>>().join(" ");
                let line = Line::new("KICK").param(*channel).param(nick).text(line);
                return self.kick(client, &line);
            }
            "INFO" => {
                let text = match self.room(channel) {
                    Some((_, room)) if self.may_see(client, room) => {
                        format!(
                            "{} has {} members; created {}",
                            room.name,
                            room.members.len(),
                            crate::irc::proto::stamp::plain(room.created_at)
                        )
                    }
                    _ => "There is no such channel".to_owned(),
                };
                return self.says(client, "ChanServ", &text);
            }
            _ => return CHANSERV_HELP.iter().for_each(|text| self.says(client, "ChanServ", text)),
        };
        let line = Line::new("MODE").param(*channel).param(mode).param(nick);
        self.mode(client, &line);
    }
}

//! Operators of this node's listener: OPER, KILL, REHASH, WALLOPS, and what they may ask.

use super::login::{Done, Wait};
use super::{Effect, Hub, shorten};
use crate::irc::proto::isupport::REASON_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;

impl Hub {
    pub(super) fn oper(&mut self, client: ClientId, line: &Line) {
        let (name, password) = (&line.params[0], &line.params[1]);
        let known = self.settings.opers.iter().find(|(known, _)| known == name);
        // Compared by their hashes: how long it takes says nothing about how much was right.
        let hash = |text: &str| blake3::keyed_hash(&self.settings.seed, text.as_bytes());
        let right = known.is_some_and(|(_, wanted)| hash(wanted) == hash(password));
        if !right {
            if let Some(session) = self.sessions.get_mut(&client) {
                session.failures += 1;
            }
            return match known {
                Some(_) => self.reply(client, 464, &[], "Password incorrect"),
                None => self.reply(client, 491, &[], "No O-lines for your host"),
            };
        }
        if let Some(session) = self.sessions.get_mut(&client) {
            session.oper = Some(name.clone());
        }
        let nick = self.called(client);
        self.emit(client, Line::from(nick.as_str(), "MODE").param(nick.as_str()).text("+o"));
        self.reply(client, 381, &[], "You are now an IRC operator");
    }

    pub(super) fn kill(&mut self, client: ClientId, line: &Line) {
        let nick = &line.params[0];
        let Some(victims) = self.clients_named(nick) else {
            return self.reply(client, 401, &[nick], "No such nick");
        };
        let by = self.called(client);
        let reason =
            line.params.get(1).map_or("no reason given".to_owned(), |reason| shorten(reason, REASON_BYTES));
        let prefix = self.face(client).prefix;
        for id in victims {
            self.emit(id, Line::from(prefix.as_str(), "KILL").param(nick.as_str()).text(reason.as_str()));
            self.close(id, &format!("Killed ({by} ({reason}))"));
        }
    }

    pub(super) fn rehash(&mut self, client: ClientId, _: &Line) {
        let job = self.begin(client, Wait::Reload);
        self.effects.push(Effect::Reload { job });
    }

    pub(super) fn reloaded(&mut self, client: ClientId, done: &Done) {
        match done {
            Done::Reloaded(Err(why)) => self.reply(client, 400, &["REHASH"], why),
            _ => self.reply(client, 382, &["certificates"], "Rehashing"),
        }
    }

    pub(super) fn wallops(&mut self, client: ClientId, line: &Line) {
        let line = Line::from(self.face(client).prefix, "WALLOPS").text(line.params[0].as_str());
        let to: Vec<ClientId> = self
            .sessions
            .iter()
            .filter(|(id, session)| {
                session.oper.is_some() || self.user_of(**id).is_some_and(|user| user.modes.contains(&'w'))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in to {
            self.emit(id, line.clone());
        }
    }

    pub(super) fn stats(&mut self, client: ClientId, line: &Line) {
        let letter = line.params.first().and_then(|word| word.chars().next()).unwrap_or('*');
        let is_oper = self.sessions.get(&client).is_some_and(|session| session.oper.is_some());
        match letter {
            'u' => {
                let up = self.now.since_ms(self.settings.started) / 1000;
                let (days, rest) = (up / 86_400, up % 86_400);
                let text =
                    format!("Server Up {days} days {}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
                self.reply(client, 242, &[], &text);
            }
            'o' | 'm' | 'l' | 'a' | 'k' | 'd' if !is_oper => {
                return self.reply(client, 481, &[], "Permission Denied- You're not an IRC operator");
            }
            'o' => {
                for name in self.settings.opers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                    let line = self.numeric(client, 243, &["O", "*", "*", &name]);
                    self.emit(client, line);
                }
            }
            'k' | 'd' => self.show_bans(client, letter),
            'l' => {
                let told: Vec<String> = self
                    .sessions
                    .iter()
                    .map(|(id, session)| {
                        let since = stamp::plain(session.connected_at);
                        format!(
                            "{} from {} since {since}, {} channels",
                            self.called(*id),
                            session.peer.host,
                            session.channels.len()
                        )
                    })
                    .collect();
                for text in told {
                    self.reply(client, 249, &["l"], &text);
                }
            }
            'm' => {
                let text = format!(
                    "{} clients, {} users, {} accounts, {} channels, {} wishes under way",
                    self.sessions.len(),
                    self.users.len(),
                    self.accounts.len(),
                    self.rooms.len(),
                    self.requests.len()
                );
                self.reply(client, 249, &["m"], &text);
            }
            _ => {}
        }
        self.reply(client, 219, &[&letter.to_string()], "End of STATS report");
    }
}

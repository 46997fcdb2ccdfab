//! MONITOR: who wants to know when a nick comes and goes (IRCv3 monitor, extended-monitor).

use std::collections::BTreeSet;

use super::Hub;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::casemap::fold;
use crate::irc::proto::isupport::MONITORED;
use crate::irc::proto::line::Line;
use crate::irc::proto::names::is_legal;
use crate::irc::proto::session::ClientId;

/// Names in one answering line.
const NAMES_PER_LINE: usize = 8;

impl Hub {
    pub(super) fn monitor(&mut self, client: ClientId, line: &Line) {
        let list = line.params.get(1).map_or("", String::as_str);
        match line.params[0].to_ascii_uppercase().as_str() {
            "+" => self.watch(client, list),
            "-" => {
                for nick in list.split(',') {
                    self.unwatch(client, &fold(nick));
                }
            }
            "C" => {
                let all: Vec<String> = self.watched(client).into_iter().map(|nick| fold(&nick)).collect();
                all.iter().for_each(|nick| self.unwatch(client, nick));
            }
            "L" => {
                for some in self.watched(client).chunks(NAMES_PER_LINE) {
                    self.reply(client, 732, &[], &some.join(","));
                }
                self.reply(client, 733, &[], "End of MONITOR list");
            }
            "S" => {
                let all = self.watched(client);
                self.say_which_are_here(client, all);
            }
            _ => self.reply(client, 461, &["MONITOR"], "It is + - C L or S"),
        }
    }

    fn watch(&mut self, client: ClientId, list: &str) {
        let mut added = Vec::new();
        for nick in list.split(',').filter(|nick| !nick.is_empty()) {
            let Some(session) = self.sessions.get_mut(&client) else { return };
            if !is_legal(nick) {
                continue;
            }
            let folded = fold(nick);
            if session.monitors.len() >= MONITORED && !session.monitors.contains_key(&folded) {
                let limit = MONITORED.to_string();
                self.say_which_are_here(client, added);
                return self.reply(client, 734, &[&limit, nick], "Monitor list is full");
            }
            session.monitors.insert(folded.clone(), nick.to_owned());
            self.monitored.entry(folded).or_default().insert(client);
            added.push(nick.to_owned());
        }
        self.say_which_are_here(client, added);
    }

    fn unwatch(&mut self, client: ClientId, folded: &str) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.monitors.remove(folded);
        }
        if let Some(clients) = self.monitored.get_mut(folded) {
            clients.remove(&client);
            if clients.is_empty() {
                self.monitored.remove(folded);
            }
        }
    }

    /// Forgets what a client that is gone watched.
    pub(super) fn forget_watches<'a>(&mut self, client: ClientId, nicks: impl Iterator<Item = &'a String>) {
        for nick in nicks {
            self.unwatch(client, nick);
        }
    }

    fn watched(&self, client: ClientId) -> Vec<String> {
        self.sessions
            .get(&client)
            .map(|session| session.monitors.values().cloned().collect())
            .unwrap_or_default()
    }

    fn say_which_are_here(&mut self, client: ClientId, nicks: Vec<String>) {
        let (mut here, mut gone) = (Vec::new(), Vec::new());
        for nick in nicks {
            match self.users.values().find(|user| super::same_nick(&user.nick, &nick)) {
                Some(user) => here.push(user.prefix()),
                None => gone.push(nick),
            }
        }
        for (code, names) in [(730, here), (731, gone)] {
            for some in names.chunks(NAMES_PER_LINE) {
                self.reply(client, code, &[], &some.join(","));
            }
        }
    }

    /// Clients with extended-monitor that watch a nick.
    pub(super) fn extended_watchers(&self, nick: &str) -> BTreeSet<ClientId> {
        let watching = self.monitored.get(&fold(nick)).into_iter().flatten();
        watching.copied().filter(|id| self.has(*id, Cap::ExtendedMonitor)).collect()
    }

    pub(super) fn watched_online(&mut self, nick: &str) {
        let user = self.users.values().find(|user| super::same_nick(&user.nick, nick));
        let Some(prefix) = user.map(super::User::prefix) else { return };
        for id in self.monitored.get(&fold(nick)).cloned().unwrap_or_default() {
            self.reply(id, 730, &[], &prefix);
        }
    }

    pub(super) fn watched_offline(&mut self, nick: &str) {
        for id in self.monitored.get(&fold(nick)).cloned().unwrap_or_default() {
            self.reply(id, 731, &[], nick);
        }
    }

    pub(super) fn watched_renamed(&mut self, before: &str, after: &str) {
        if !super::same_nick(before, after) {
            self.watched_offline(before);
            self.watched_online(after);
        }
    }
}

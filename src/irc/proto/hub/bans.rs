//! KLINE and DLINE: whom operators keep off this server. Bans outlast a restart; they bind clients of
//! this server alone (in a channel its own bans bind everybody, wherever they are).

use super::{Effect, Hub, shorten};
use crate::base::{Timestamp, codec};
use crate::irc::proto::bans::{Ban, Meant};
use crate::irc::proto::isupport::REASON_BYTES;
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::Face;
use crate::irc::proto::session::{ClientId, Stage};
use crate::irc::proto::stamp;

/// The longest that a ban with an end may last: ten years.
const MINUTES: u64 = 10 * 366 * 24 * 60;

impl Hub {
    /// `KLINE [minutes] mask [reason]`
    pub(super) fn kline(&mut self, client: ClientId, line: &Line) {
        let why = "A mask is nick!user@host, user@host or a:account, and means not nearly everybody";
        self.ban(client, line, (Meant::mask, why));
    }

    /// `DLINE [minutes] address[/bits] [reason]`
    pub(super) fn dline(&mut self, client: ClientId, line: &Line) {
        let why = "That is no address, or no network, or one of nearly everybody";
        self.ban(client, line, (Meant::net, why));
    }

    pub(super) fn unkline(&mut self, client: ClientId, line: &Line) {
        self.unban(client, line, Meant::mask);
    }

    pub(super) fn undline(&mut self, client: ClientId, line: &Line) {
        self.unban(client, line, Meant::net);
    }

    fn ban(&mut self, client: ClientId, line: &Line, (meant, why): (impl Fn(&str) -> Option<Meant>, &str)) {
        let minutes = line.params[0].parse::<u64>().ok().filter(|_| line.params.len() > 1);
        let words = &line.params[usize::from(minutes.is_some())..];
        let Some(meant) = meant(&words[0]) else {
            return self.standard(client, "FAIL", &[line.command.as_str(), "INVALID_MASK", &words[0]], why);
        };
        let reason = words.get(1).filter(|reason| !reason.is_empty()).map(String::as_str);
        let ban = Ban {
            by: self.called(client),
            at: self.now,
            until: minutes.map(|minutes| self.now.plus_ms(minutes.min(MINUTES) * 60_000)),
            reason: shorten(reason.unwrap_or("no reason given"), REASON_BYTES),
        };
        let shown = meant.shown();
        let mut alone = crate::irc::proto::bans::Bans::default();
        alone.put(meant.clone(), ban.clone());
        let (faces, host) = self.faces_of(client);
        if alone.reason(&faces, &host).is_some() {
            let why = "That means yourself";
            return self.standard(client, "FAIL", &[line.command.as_str(), "INVALID_MASK", &shown], why);
        }
        let (key, value) = (meant.note(), codec::encode(&ban));
        if !self.bans.put(meant, ban.clone()) {
            let why = "There is no room for a further ban: lift some";
            return self.standard(client, "FAIL", &[line.command.as_str(), "LIMIT_REACHED", &shown], why);
        }
        self.effects.push(Effect::Remember { key, value });
        self.tell_opers(&format!("{} banned {shown}{}: {}", ban.by, lasts(ban.until), ban.reason));
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.bar(id);
        }
    }

    fn unban(&mut self, client: ClientId, line: &Line, meant: impl Fn(&str) -> Option<Meant>) {
        let given = &line.params[0];
        match meant(given).filter(|meant| self.bans.lift(meant)) {
            Some(meant) => {
                self.effects.push(Effect::Remember { key: meant.note(), value: Vec::new() });
                let by = self.called(client);
                self.tell_opers(&format!("{by} lifted the ban of {}", meant.shown()));
            }
            None => {
                self.standard(client, "FAIL", &[line.command.as_str(), "NO_SUCH_BAN", given], "There is none")
            }
        }
    }

    /// Ends the connection of a client that is banned; whether it was.
    pub(super) fn bar(&mut self, client: ClientId) -> bool {
        if self.bans.is_empty() {
            return false;
        }
        let (faces, host) = self.faces_of(client);
        let Some(reason) = self.bans.reason(&faces, &host).map(str::to_owned) else { return false };
        self.reply(client, 465, &[], &format!("You are banned from this server: {reason}"));
        self.close(client, &format!("Banned: {reason}"));
        true
    }

    /// What a client is to bans: by the host it is shown with and by the one that it comes from.
    fn faces_of(&self, client: ClientId) -> (Vec<Face>, String) {
        let Some(session) = self.sessions.get(&client) else { return Default::default() };
        let host = session.peer.host.clone();
        let (nick, ident, shown, account) = match &session.stage {
            // Who has not said who they are yet is known by the address alone.
            Stage::Registering(greeting) if greeting.realname.is_none() || greeting.nick.is_none() => {
                return (Vec::new(), host);
            }
            Stage::Registering(greeting) => {
                let login = greeting.login.clone();
                (self.called(client), greeting.ident.clone(), self.host_of(client, login.as_deref()), login)
            }
            Stage::Active(person) => match self.users.get(person) {
                Some(user) => {
                    (user.nick.clone(), user.ident.clone(), user.host.clone(), user.account.clone())
                }
                None => return (Vec::new(), host),
            },
        };
        let face = |host: &str| Face { prefix: format!("{nick}!{ident}@{host}"), account: account.clone() };
        (vec![face(&shown), face(&host)], host)
    }

    fn tell_opers(&mut self, text: &str) {
        let opers = self.sessions.iter().filter(|(_, session)| session.oper.is_some());
        for id in opers.map(|(id, _)| *id).collect::<Vec<_>>() {
            let line = Line::from(self.settings.server.as_str(), "NOTICE").param(self.called(id));
            self.emit(id, line.text(text));
        }
    }

    /// Lets go of bans that ended.
    pub(super) fn end_bans(&mut self) {
        for meant in self.bans.ended(self.now) {
            self.bans.lift(&meant);
            self.effects.push(Effect::Remember { key: meant.note(), value: Vec::new() });
            self.tell_opers(&format!("the ban of {} ended", meant.shown()));
        }
    }

    /// `STATS k` and `STATS d`.
    pub(super) fn show_bans(&mut self, client: ClientId, letter: char) {
        let is_net = |meant: &Meant| matches!(meant, Meant::Net { .. });
        let of = self.bans.all().filter(|(meant, _)| is_net(meant) == (letter == 'd'));
        let told: Vec<(String, String)> = of
            .map(|(meant, ban)| {
                let since = stamp::plain(ban.at);
                let text = format!("{} ({} at {since}{})", ban.reason, ban.by, lasts(ban.until));
                (meant.shown(), text)
            })
            .collect();
        let code = if letter == 'd' { 225 } else { 216 };
        for (shown, text) in told {
            self.reply(client, code, &[&letter.to_ascii_uppercase().to_string(), &shown], &text);
        }
    }
}

fn lasts(until: Option<Timestamp>) -> String {
    until.map_or_else(String::new, |until| format!(" until {}", stamp::plain(until)))
}

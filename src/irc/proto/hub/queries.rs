//! What clients ask: names, topics, who is who, which channels there are, and the server itself.
//! None of it changes anything.

use super::news::Found;
use super::{Hub, is_channel};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::profile::Profile;
use crate::chat::view::Member;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::{render, stamp};

/// What VERSION says.
pub(super) const VERSION: &str = concat!("multichat-", env!("CARGO_PKG_VERSION"));
/// Lines that one LIST, WHO or NAMES answers with at the most; then it says that it stopped.
const ANSWER_LINES: usize = 2000;

/// Somebody as WHO and WHOIS show them.
struct Card {
    identity: Option<Identity>,
    nick: String,
    user: String,
    host: String,
    realname: String,
    away: Option<String>,
    home: String,
}

impl Hub {
    pub(super) fn query(&mut self, client: ClientId, line: &Line) {
        let params = &line.params;
        match line.command.as_str() {
            "NAMES" => self.names(client, params),
            "WHO" => self.who(client, params),
            "WHOIS" => self.whois(client, params),
            "WHOWAS" => {
                self.reply(client, 406, &[&params[0]], "There was no such nickname");
                self.reply(client, 369, &[&params[0]], "End of WHOWAS");
            }
            "LIST" => self.list(client, params),
            "MODE" => self.mode(client, params),
            "USERHOST" => self.userhost(client, params),
            "ISON" => self.ison(client, params),
            "MOTD" => self.motd(client),
            "LUSERS" => self.lusers(client),
            "VERSION" => {
                let server = self.settings.server.clone();
                self.reply(client, 351, &[VERSION, &server], "Multichat");
                self.isupport(client);
            }
            "TIME" => {
                let server = self.settings.server.clone();
                let now = stamp::plain(self.now);
                self.reply(client, 391, &[&server], &now);
            }
            _ => {
                self.reply(client, 371, &[], "Multichat: chat without an operator");
                self.reply(client, 374, &[], "End of INFO");
            }
        }
    }

    pub(super) fn motd(&mut self, client: ClientId) {
        let server = self.settings.server.clone();
        self.reply(client, 375, &[], &format!("- {server} Message of the day -"));
        self.reply(
            client,
            372,
            &[],
            "- /join #name joins a channel, or makes it if there is none of that name.",
        );
        self.reply(client, 372, &[], "- You stay a member when you disconnect; /part leaves.");
        self.reply(client, 376, &[], "End of MOTD");
    }

    pub(super) fn lusers(&mut self, client: ClientId) {
        let (users, rooms) = (self.users.len().to_string(), self.rooms.len().to_string());
        self.reply(client, 251, &[], &format!("There are {users} users and 0 invisible on 1 servers"));
        self.reply(client, 252, &["0"], "operators online");
        self.reply(client, 254, &[&rooms], "channels formed");
        let clients = self.sessions.len();
        self.reply(client, 255, &[], &format!("I have {clients} clients and 0 servers"));
        self.reply(client, 265, &[&users, &users], &format!("Current local users {users}, max {users}"));
    }

    pub(super) fn show_topic(&mut self, client: ClientId, channel: ChannelId) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let (name, topic, by) = (room.name.clone(), room.topic.clone(), room.topic_by.clone());
        if topic.is_empty() {
            return self.reply(client, 331, &[&name], "No topic is set");
        }
        self.reply(client, 332, &[&name], &topic);
        if let Some((nick, at)) = by {
            let line = self.numeric(client, 333, &[&name, &nick, &(at.0 / 1000).to_string()]);
            self.emit(client, line);
        }
    }

    fn names(&mut self, client: ClientId, params: &[String]) {
        let Some(list) = params.first() else { return self.reply(client, 366, &["*"], "End of NAMES list") };
        for name in list.split(',').filter(|name| !name.is_empty()).take(10) {
            match self.room(name).map(|(id, _)| id) {
                Some(id) => self.show_names(client, id),
                None => self.reply(client, 366, &[name], "End of NAMES list"),
            }
        }
    }

    pub(super) fn show_names(&mut self, client: ClientId, channel: ChannelId) {
        let Some(room) = self.rooms.get(&channel) else { return };
        let name = room.name.clone();
        let userhost = self.has(client, Cap::UserhostInNames);
        let mut members: Vec<&Member> = room.members.values().collect();
        members.sort_by_key(|member| (member.role, self.shown(member)));
        let entries: Vec<String> = members
            .into_iter()
            .map(|member| {
                let who = if userhost { self.prefix(member) } else { self.shown(member) };
                format!("{}{who}", sign(member.role))
            })
            .collect();
        let head = self.numeric(client, 353, &["=", &name]);
        let limit = head.room();
        let mut text = String::new();
        for entry in entries {
            if !text.is_empty() && text.len() + 1 + entry.len() > limit {
                self.emit(client, head.clone().text(std::mem::take(&mut text)));
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&entry);
        }
        if !text.is_empty() {
            self.emit(client, head.text(text));
        }
        self.reply(client, 366, &[&name], "End of NAMES list");
    }

    fn card(&self, nick: &str) -> Option<Card> {
        match self.person(nick)? {
            Found::Client(user) => Some(Card {
                identity: self.names.holder(nick).and_then(|holder| match holder {
                    crate::irc::proto::names::Holder::Person(identity) => Some(*identity),
                    crate::irc::proto::names::Holder::Client(_) => None,
                }),
                nick: user.nick.clone(),
                user: render::user(&user.nick),
                host: self.settings.server.clone(),
                realname: user.realname.clone(),
                away: user.away.clone(),
                home: String::new(),
            }),
            Found::Member(member) => Some(self.member_card(member)),
        }
    }

    fn member_card(&self, member: &Member) -> Card {
        let profile: &Profile = &member.profile;
        let away = match self.local(&member.identity) {
            Some(user) => user.away.clone(),
            None => self.is_away(&member.identity).then(|| "not connected".to_owned()),
        };
        Card {
            identity: Some(member.identity),
            nick: self.shown(member),
            user: render::user(&profile.username),
            host: render::host(&profile.home, &self.settings.server),
            realname: self.realname(member),
            away,
            home: profile.home.clone(),
        }
    }

    fn who(&mut self, client: ClientId, params: &[String]) {
        let mask = params.first().map_or("*", String::as_str);
        let fields = params.get(1).and_then(|options| options.split_once('%')).map(|(_, fields)| fields);
        let mut found: Vec<(Card, String, &'static str)> = Vec::new();
        if let Some((_, room)) = self.room(mask) {
            let members = room.members.values().take(ANSWER_LINES);
            found.extend(members.map(|m| (self.member_card(m), room.name.clone(), sign(m.role))));
        } else if let Some(card) = self.card(mask) {
            found.push((card, "*".to_owned(), ""));
        }
        for (card, channel, sign) in found {
            let flags = format!("{}{sign}", if card.away.is_some() { "G" } else { "H" });
            let line = match fields {
                Some(fields) => self.whox(client, fields, &card, &channel, &flags),
                None => {
                    let server = self.settings.server.clone();
                    self.numeric(
                        client,
                        352,
                        &[&channel, &card.user, &card.host, &server, &card.nick, &flags],
                    )
                    .text(format!("0 {}", card.realname))
                }
            };
            self.emit(client, line);
        }
        self.reply(client, 315, &[mask], "End of WHO list");
    }

    /// RPL_WHOSPCRPL: the fields that were asked for, always in the order of the WHOX proposal.
    fn whox(&self, client: ClientId, asked: &str, card: &Card, channel: &str, flags: &str) -> Line {
        let (fields, token) = asked.split_once(',').unwrap_or((asked, "0"));
        let mut line = self.numeric(client, 354, &[]);
        for field in "tcuihsnfdlao".chars().filter(|field| fields.contains(*field)) {
            line = line.param(match field {
                't' => token,
                'c' => channel,
                'u' => &card.user,
                'i' => "255.255.255.255",
                'h' => &card.host,
                's' => &self.settings.server,
                'n' => &card.nick,
                'f' => flags,
                'o' => "n/a",
                _ => "0",
            });
        }
        if fields.contains('r') { line.text(card.realname.as_str()) } else { line }
    }

    fn whois(&mut self, client: ClientId, params: &[String]) {
        // `WHOIS server nick` asks a certain server; there is only this one.
        let nick = params.last().map_or("", String::as_str).split(',').next().unwrap_or("");
        let Some(card) = self.card(nick) else {
            self.reply(client, 401, &[nick], "No such nick");
            return self.reply(client, 318, &[nick], "End of WHOIS list");
        };
        let nick = card.nick.as_str();
        let server = self.settings.server.clone();
        self.reply(client, 311, &[nick, &card.user, &card.host, "*"], &card.realname);
        if let Some(identity) = card.identity {
            let rooms = self.rooms.values();
            let channels: Vec<String> = rooms
                .filter_map(|room| {
                    room.members.get(&identity).map(|m| format!("{}{}", sign(m.role), room.name))
                })
                .collect();
            for some in channels.chunks(6) {
                self.reply(client, 319, &[nick], &some.join(" "));
            }
            self.reply(client, 320, &[nick], &format!("has the identity {identity}"));
        }
        if !card.home.is_empty() {
            self.reply(client, 320, &[nick], &format!("is {}", card.home));
        }
        self.reply(client, 312, &[nick, &server], "Multichat");
        if let Some(away) = &card.away {
            self.reply(client, 301, &[nick], away);
        }
        self.whois_connection(client, nick);
        self.reply(client, 318, &[nick], "End of WHOIS list");
    }

    fn whois_connection(&mut self, client: ClientId, nick: &str) {
        let Some(Found::Client(user)) = self.person(nick) else { return };
        let sessions: Vec<_> = user.sessions.iter().filter_map(|id| self.sessions.get(id)).collect();
        let spoke = sessions.iter().map(|session| session.spoke_at).max().unwrap_or(self.now);
        let since = sessions.iter().map(|session| session.connected_at).min().unwrap_or(self.now);
        let secure = sessions.iter().all(|session| session.secure);
        if secure {
            self.reply(client, 671, &[nick], "is using a secure connection");
        }
        let (idle, since) = ((self.now.since_ms(spoke) / 1000).to_string(), (since.0 / 1000).to_string());
        self.reply(client, 317, &[nick, &idle, &since], "seconds idle, signon time");
    }

    fn list(&mut self, client: ClientId, params: &[String]) {
        let (mut least, mut most, mut wanted) = (0, usize::MAX, Vec::new());
        for word in params.first().map_or("", String::as_str).split(',').filter(|word| !word.is_empty()) {
            match (word.strip_prefix('>'), word.strip_prefix('<')) {
                (Some(n), _) => least = n.parse::<usize>().map_or(0, |n| n.saturating_add(1)),
                (_, Some(n)) => most = n.parse::<usize>().map_or(usize::MAX, |n| n.saturating_sub(1)),
                _ => wanted.push(word.to_lowercase()),
            }
        }
        let matches = |name: &String| wanted.is_empty() || wanted.contains(&name.to_lowercase());
        let lines: Vec<(String, String, String)> = self
            .rooms
            .values()
            .filter(|room| matches(&room.name) && (least..=most).contains(&room.members.len()))
            .map(|room| (room.name.clone(), room.members.len().to_string(), room.topic.clone()))
            .collect();
        self.reply(client, 321, &["Channel"], "Users  Name");
        for (name, members, topic) in lines.iter().take(ANSWER_LINES) {
            self.reply(client, 322, &[name, members], topic);
        }
        if lines.len() > ANSWER_LINES {
            let why = format!("{ANSWER_LINES} of {} channels shown; LIST >n narrows it", lines.len());
            self.reply(client, 416, &["LIST"], &why);
        }
        self.reply(client, 323, &[], "End of LIST");
    }

    fn mode(&mut self, client: ClientId, params: &[String]) {
        let target = &params[0];
        let change = params.get(1).map(String::as_str);
        if !target.starts_with('#') {
            return self.user_mode(client, target, change);
        }
        let Some((_, room)) = self.room(target).filter(|_| is_channel(target)) else {
            return self.reply(client, 403, &[target], "No such channel");
        };
        let (name, created) = (room.name.clone(), (room.created_at.0 / 1000).to_string());
        match change {
            None => {
                for (code, value) in [(324, "+nt"), (329, created.as_str())] {
                    let line = self.numeric(client, code, &[&name, value]);
                    self.emit(client, line);
                }
            }
            Some("b" | "+b") if params.len() == 2 => {
                self.reply(client, 368, &[&name], "End of channel ban list")
            }
            Some("e" | "+e") if params.len() == 2 => {
                self.reply(client, 349, &[&name], "End of exception list")
            }
            Some("I" | "+I") if params.len() == 2 => self.reply(client, 347, &[&name], "End of invite list"),
            Some(_) => {
                self.reply(client, 482, &[&name], "Modes cannot be changed from IRC yet; nothing was changed")
            }
        }
    }

    fn user_mode(&mut self, client: ClientId, target: &str, change: Option<&str>) {
        if !super::same_nick(target, &self.called(client)) {
            return self.reply(client, 502, &[], "You can only see your own modes");
        }
        let unknown = change.is_some_and(|change| change.chars().any(|c| !matches!(c, '+' | '-' | 'i')));
        if unknown {
            return self.reply(client, 501, &[], "Unknown MODE flag");
        }
        let line = self.numeric(client, 221, &["+i"]);
        self.emit(client, line);
    }

    fn userhost(&mut self, client: ClientId, params: &[String]) {
        let cards = params.iter().take(5).filter_map(|nick| self.card(nick));
        let shown = |card: Card| {
            let here = if card.away.is_some() { '-' } else { '+' };
            format!("{}={here}{}@{}", card.nick, card.user, card.host)
        };
        let text = cards.map(shown).collect::<Vec<_>>().join(" ");
        self.reply(client, 302, &[], &text);
    }

    fn ison(&mut self, client: ClientId, params: &[String]) {
        let nicks = params.iter().flat_map(|param| param.split(' ')).filter(|nick| !nick.is_empty());
        let here = nicks.filter_map(|nick| self.card(nick)).filter(|card| card.away.is_none());
        let text = here.map(|card| card.nick).collect::<Vec<_>>().join(" ");
        self.reply(client, 303, &[], &text);
    }
}

/// How a role shows before a nick.
fn sign(role: Role) -> &'static str {
    match role {
        Role::Founder => "~",
        Role::Admin => "&",
        Role::Moderator => "@",
        Role::Custom(rank) if rank < 100 => "&",
        Role::Custom(rank) if rank <= 500 => "%",
        Role::Custom(rank) if rank < 1000 => "+",
        Role::Member | Role::Custom(_) => "",
    }
}

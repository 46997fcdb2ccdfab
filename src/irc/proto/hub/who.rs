//! WHO with WHOX, USERHOST and ISON: who is there, in lists.

use super::Hub;
use super::role::sign;
use crate::base::{ChannelId, Identity};
use crate::chat::view::Member;
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::glob;
use crate::irc::proto::render;
use crate::irc::proto::session::ClientId;

/// Lines that one WHO answers with at the most; then it says that it stopped.
const ANSWER_LINES: usize = 2000;

/// Somebody as WHO and WHOIS show them.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub identity: Option<Identity>,
    pub nick: String,
    pub user: String,
    pub host: String,
    pub realname: String,
    pub account: Option<String>,
    pub away: Option<String>,
    pub home: String,
    pub oper: bool,
    pub bot: bool,
    /// Whether they are a connected user of this listener.
    pub here: bool,
}

impl Hub {
    pub(super) fn user_card(&self, person: &str, user: &super::User) -> Card {
        let oper = user.sessions.iter().any(|id| self.sessions.get(id).is_some_and(|s| s.oper.is_some()));
        Card {
            identity: self.identities.get(person).copied(),
            nick: user.nick.clone(),
            user: user.ident.clone(),
            host: user.host.clone(),
            realname: user.realname.clone(),
            account: user.account.clone(),
            away: user.away.clone(),
            home: String::new(),
            oper,
            bot: user.modes.contains(&'B'),
            here: true,
        }
    }

    pub(super) fn member_card(&self, member: &Member) -> Card {
        if let Some(person) = self.persons.get(&member.identity)
            && let Some(user) = self.users.get(person)
        {
            return self.user_card(person, user);
        }
        let profile = &member.profile;
        Card {
            identity: Some(member.identity),
            nick: self.shown(member),
            user: render::user(&profile.username),
            host: render::host(&profile.home, &self.settings.server),
            realname: self.realname(member),
            account: self.account_of(&member.identity).map(str::to_owned),
            away: self.is_away(&member.identity).then(|| "not connected".to_owned()),
            home: profile.home.clone(),
            oper: false,
            bot: false,
            here: false,
        }
    }

    /// Somebody by nick: a connected user, or a member of a channel.
    pub(super) fn card(&self, nick: &str) -> Option<Card> {
        let connected = self.users.iter().find(|(_, user)| super::same_nick(&user.nick, nick));
        if let Some((person, user)) = connected {
            return Some(self.user_card(person, user));
        }
        let crate::irc::proto::names::Holder::Person(identity) = self.names.holder(nick)? else {
            return None;
        };
        let member = self.rooms.values().find_map(|room| room.members.get(identity))?;
        Some(self.member_card(member))
    }

    pub(super) fn who(&mut self, client: ClientId, line: &Line) {
        let params = &line.params;
        let mask = params.first().filter(|mask| !mask.is_empty()).map_or("*", String::as_str);
        let options = params.get(1).map_or("", String::as_str);
        let (flags, fields) = match options.split_once('%') {
            Some((flags, fields)) => (flags, Some(fields)),
            None => (options, None),
        };
        let opers_only = flags.contains('o');
        let mut found: Vec<(Card, String, String)> = Vec::new();
        if mask.starts_with('#') {
            if let Some((id, room)) = self.room(mask).filter(|(_, room)| self.may_see(client, room)) {
                let name = room.name.clone();
                let members = room.members.values().take(ANSWER_LINES);
                found.extend(members.map(|m| (self.member_card(m), name.clone(), self.signs(client, id, m))));
            }
        } else {
            let mask = if mask == "0" { "*" } else { mask };
            for (person, user) in
                self.users.iter().filter(|(_, user)| who_matches(mask, user, &self.settings.server))
            {
                let exact = super::same_nick(mask, &user.nick);
                let own = self.person_of(client) == Some(person);
                let common = self.common_channel(client, person);
                if found.len() < ANSWER_LINES
                    && (exact || own || !user.modes.contains(&'i') || common.is_some())
                {
                    let (name, signs) = match common {
                        Some((id, name)) => {
                            let identity = self.identities.get(person);
                            let member = identity
                                .and_then(|i| self.rooms.get(&id).and_then(|room| room.members.get(i)));
                            let signs =
                                member.map(|member| self.signs(client, id, member)).unwrap_or_default();
                            (name, signs)
                        }
                        None => ("*".to_owned(), String::new()),
                    };
                    found.push((self.user_card(person, user), name, signs));
                }
            }
            if found.is_empty()
                && let Some(card) = self.card(mask)
            {
                found.push((card, "*".to_owned(), String::new()));
            }
        }
        found.retain(|(card, ..)| card.oper || !opers_only);
        for (card, channel, signs) in found {
            let here = if card.away.is_some() { "G" } else { "H" };
            let star = if card.oper { "*" } else { "" };
            let bot = if card.bot { "B" } else { "" };
            let flags = format!("{here}{star}{bot}{signs}");
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

    /// A channel that a client and a person are both in, if there is one.
    fn common_channel(&self, client: ClientId, person: &str) -> Option<(ChannelId, String)> {
        let (own, other) = (self.identity(client)?, self.identities.get(person)?);
        let both = |room: &super::Room| room.members.contains_key(&own) && room.members.contains_key(other);
        self.rooms.iter().find(|(_, room)| both(room)).map(|(id, room)| (*id, room.name.clone()))
    }

    /// The signs of a member: the highest, or all with multi-prefix.
    pub(super) fn signs(&self, client: ClientId, channel: ChannelId, member: &Member) -> String {
        let voice = self.rooms.get(&channel).is_some_and(|room| room.modes.voices.contains(&member.identity));
        let mut signs = sign(self.shown_role(member)).to_owned();
        if voice && (signs.is_empty() || self.has(client, Cap::MultiPrefix)) {
            signs.push('+');
        }
        signs
    }

    /// RPL_WHOSPCRPL: the fields that were asked for, always in the order of the WHOX proposal.
    fn whox(&self, client: ClientId, asked: &str, card: &Card, channel: &str, flags: &str) -> Line {
        let (fields, token) = asked.split_once(',').unwrap_or((asked, "0"));
        let mut line = self.numeric(client, 354, &[]);
        let idle = self.idle(&card.nick).to_string();
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
                'd' => "0",
                'l' => &idle,
                'a' => card.account.as_deref().unwrap_or("0"),
                _ => "n/a",
            });
        }
        if fields.contains('r') { line.text(card.realname.as_str()) } else { line }
    }

    /// For how many seconds a user has said nothing.
    pub(super) fn idle(&self, nick: &str) -> u64 {
        let user = self.users.values().find(|user| super::same_nick(&user.nick, nick));
        let spoke = user.into_iter().flat_map(|user| &user.sessions).filter_map(|id| self.sessions.get(id));
        spoke.map(|session| session.spoke_at).max().map_or(0, |at| self.now.since_ms(at) / 1000)
    }

    pub(super) fn userhost(&mut self, client: ClientId, line: &Line) {
        let cards = line.params.iter().take(5).filter_map(|nick| self.card(nick));
        let shown = |card: Card| {
            let here = if card.away.is_some() { '-' } else { '+' };
            let star = if card.oper { "*" } else { "" };
            format!("{}{star}={here}{}@{}", card.nick, card.user, card.host)
        };
        let text = cards.map(shown).collect::<Vec<_>>().join(" ");
        self.reply(client, 302, &[], &text);
    }

    pub(super) fn ison(&mut self, client: ClientId, line: &Line) {
        let nicks = line.params.iter().flat_map(|param| param.split(' ')).filter(|nick| !nick.is_empty());
        let here = nicks.filter_map(|nick| self.card(nick)).filter(|card| card.here || card.away.is_none());
        let text = here.map(|card| card.nick).collect::<Vec<_>>().join(" ");
        self.reply(client, 303, &[], &text);
    }
}

fn who_matches(mask: &str, user: &super::User, server: &str) -> bool {
    let fields = [user.nick.as_str(), &user.ident, &user.host, &user.realname, server];
    let account = user.account.as_deref().is_some_and(|account| glob(mask, account));
    account || fields.iter().any(|field| glob(mask, field)) || glob(mask, &user.prefix())
}

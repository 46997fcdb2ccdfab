//! Direct messages between users of this listener. Each is durable before anybody sees it; the
//! newest of each pair are kept for CHATHISTORY and for who was not there.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::login::Wait;
use super::{Effect, Hub};
use crate::base::{Timestamp, codec};
use crate::irc::proto::caps::{Cap, CapSet};
use crate::irc::proto::line::Line;
use crate::irc::proto::mask::glob;
use crate::irc::proto::render::{self, Live};
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;

/// Messages kept of one pair; the oldest goes.
const PER_PAIR: usize = 128;
/// Pairs kept; the one that was silent longest goes.
const PAIRS: usize = 4096;
/// Bytes of one in its note.
const NOTE_BYTES: usize = 64 * 1024;

/// One direct message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Direct {
    pub id: String,
    pub at: Timestamp,
    /// Counts up, so that two of one millisecond have an order.
    pub number: u64,
    pub from: String,
    pub to: String,
    pub prefix: String,
    /// The nick it was sent to.
    pub nick: String,
    pub account: Option<String>,
    pub bot: bool,
    pub live: Live,
    /// Whether the other had no client: to be played when they come.
    pub missed: bool,
}

/// All that are kept.
#[derive(Debug, Default)]
pub struct Directs {
    pairs: BTreeMap<(String, String), VecDeque<Direct>>,
    last_number: u64,
}

impl Directs {
    /// Takes one in; gives the keys of notes that are to be forgotten for it.
    pub fn keep(&mut self, direct: Direct) -> Vec<String> {
        self.last_number = self.last_number.max(direct.number);
        let mut gone = Vec::new();
        let key = pair(&direct.from, &direct.to);
        if !self.pairs.contains_key(&key) && self.pairs.len() >= PAIRS {
            let silent = self.pairs.iter().min_by_key(|(_, of)| of.back().map(|last| last.at));
            if let Some(key) = silent.map(|(key, _)| key.clone()) {
                gone.extend(self.pairs.remove(&key).into_iter().flatten().map(|old| old.key()));
            }
        }
        let of = self.pairs.entry(key).or_default();
        let at = of.partition_point(|other| (other.at, other.number) <= (direct.at, direct.number));
        of.insert(at, direct);
        if of.len() > PER_PAIR {
            gone.extend(of.pop_front().map(|old| old.key()));
        }
        gone
    }

    /// What two persons said to each other, oldest first.
    pub fn between(&self, a: &str, b: &str) -> impl DoubleEndedIterator<Item = &Direct> {
        self.pairs.get(&pair(a, b)).into_iter().flatten()
    }

    /// What is kept of a channel: tags alone.
    pub fn of_channel(&self, channel: &str) -> impl Iterator<Item = &Direct> {
        let of = self.pairs.iter().filter(move |((a, b), _)| a == channel || b == channel);
        of.flat_map(|(_, of)| of)
    }

    /// With whom a person spoke, and when last.
    pub fn partners(&self, person: &str) -> Vec<(&str, &Direct)> {
        let mut partners = Vec::new();
        for ((a, b), of) in &self.pairs {
            let other = if a == person { b } else { a };
            let spoken = of.iter().rev().find(|direct| !direct.live.lines.is_empty());
            if (a == person || b == person)
                && let Some(last) = spoken
            {
                partners.push((other.as_str(), last));
            }
        }
        partners
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Direct {
    fn key(&self) -> String {
        format!("dm/{}", self.id)
    }

    /// Out of its note; `None` if that is damaged.
    pub fn decode(note: &[u8]) -> Option<Self> {
        codec::decode(note, NOTE_BYTES).ok()
    }

    /// As lines, as the person sees it.
    pub fn lines(&self, caps: CapSet, mark: &str) -> Vec<Line> {
        let account = self.account.as_deref();
        if self.live.lines.is_empty() {
            let said = render::Said {
                id: &self.id,
                at: self.at,
                prefix: &self.prefix,
                account,
                bot: self.bot,
                target: &self.nick,
            };
            let playback = caps.has(Cap::EventPlayback);
            return render::tagmsg(&said, &self.live.tags, caps).filter(|_| playback).into_iter().collect();
        }
        let said = render::Said {
            id: &self.id,
            at: self.at,
            prefix: &self.prefix,
            account,
            bot: self.bot,
            target: &self.nick,
        };
        if mark.is_empty() {
            return render::live(&said, &self.live, caps);
        }
        let lines = self.live.lines.iter().map(|(text, concat)| (format!("{mark}{text}"), *concat)).collect();
        render::live(&said, &Live { lines, ..self.live.clone() }, caps)
    }
}

fn pair(a: &str, b: &str) -> (String, String) {
    if a <= b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

impl Hub {
    /// A message to a person.
    pub(super) fn say_to(&mut self, client: ClientId, target: &str, live: Live) {
        if super::service::is_service(target) {
            return self.ask_service(client, target, &live.text());
        }
        let Some(to) = self.person_named(target) else {
            return match self.names.holder(target) {
                Some(_) => {
                    let why =
                        "They are on another network: direct messages do not go there yet; nothing was sent";
                    self.reply(client, 531, &[target], why);
                }
                None if live.notice => {}
                None => self.reply(client, 401, &[target], "No such nick"),
            };
        };
        let Some(from) = self.person_of(client).map(str::to_owned) else { return };
        if let Some(why) = self.declines(client, &to) {
            let (code, text) = why;
            return self.reply(client, code, &[target], text);
        }
        if self.is_too_long(client, target, &live) {
            return self.reply(client, 417, &[], "Input line was too long: with your prefix it fits no line");
        }
        let nick = self.users.get(&to).map_or(target.to_owned(), |user| user.nick.clone());
        let id = self.message_id();
        let Some(direct) = self.direct_from(client, (&from, &to, &nick), id) else { return };
        let missed = !self.users.contains_key(&to);
        let direct = Direct { live, missed, ..direct };
        if self.silenced(&to, &direct.prefix) {
            return self.echo_direct(client, &direct);
        }
        if is_request(&direct) {
            // A CTCP request is for the client that is there, and nothing to keep.
            return self.show_direct(client, &direct);
        }
        if !self.is_kept(&from) && !self.is_kept(&to) {
            self.remember_direct(direct.clone());
            return self.show_direct(client, &direct);
        }
        let (key, value) = (direct.key(), codec::encode(&direct));
        let job = self.begin(client, Wait::Direct(Box::new(direct)));
        self.effects.push(Effect::Keep { job, key, value });
    }

    /// A direct message of a client that says nothing yet.
    pub(super) fn direct_from(
        &mut self,
        client: ClientId,
        (from, to, nick): (&str, &str, &str),
        id: String,
    ) -> Option<Direct> {
        let number = self.directs.next_number();
        let user = self.user_of(client)?;
        Some(Direct {
            id,
            at: self.now,
            number,
            from: from.to_owned(),
            to: to.to_owned(),
            prefix: user.prefix(),
            nick: nick.to_owned(),
            account: user.account.clone(),
            bot: user.modes.contains(&'B'),
            live: Live::default(),
            missed: false,
        })
    }

    /// Whether a person can come back to read what they were told.
    pub(super) fn is_kept(&self, person: &str) -> bool {
        self.stays(person) || self.accounts.of_person(person).is_some()
    }

    pub(super) fn remember_direct(&mut self, direct: Direct) {
        for key in self.directs.keep(direct) {
            self.effects.push(Effect::Remember { key, value: Vec::new() });
        }
    }

    /// It is durable: both sides see it.
    pub(super) fn show_direct(&mut self, client: ClientId, direct: &Direct) {
        if let Some(user) = self.users.get(&direct.to) {
            let (away, nick) = (user.away.clone(), user.nick.clone());
            let sessions = user.sessions.clone();
            if direct.from == direct.to {
                self.echo_direct(client, direct);
            }
            for id in sessions {
                let Some(session) = self.sessions.get(&id) else { continue };
                for line in direct.lines(session.caps, "") {
                    // To oneself, the delivery is not the answer.
                    match direct.from == direct.to {
                        true => self.effects.push(Effect::Send { client: id, line: line.to_string().into() }),
                        false => self.emit(id, line),
                    }
                }
            }
            if let Some(away) = away.filter(|_| !direct.live.notice) {
                self.reply(client, 301, &[&nick], &away);
            }
        }
        if direct.from == direct.to {
            return;
        }
        self.echo_direct(client, direct);
        // The sender's other clients.
        let own = self.users.get(&direct.from).map(|user| user.sessions.clone()).unwrap_or_default();
        for id in own.into_iter().filter(|id| *id != client) {
            let Some(session) = self.sessions.get(&id) else { continue };
            let sees = session.caps.has(Cap::EchoMessage) || session.caps.has(Cap::SelfMessage);
            for line in direct.lines(session.caps, "").into_iter().filter(|_| sees) {
                self.emit(id, line);
            }
        }
    }

    fn echo_direct(&mut self, client: ClientId, direct: &Direct) {
        let Some(session) = self.sessions.get(&client) else { return };
        if session.caps.has(Cap::EchoMessage) {
            for line in direct.lines(session.caps, "") {
                self.emit(client, line);
            }
        }
    }

    /// Takes a direct message of one's own back: it is gone from what is kept, and whoever was told
    /// is told so.
    pub(super) fn redact_direct(&mut self, client: ClientId, (target, id): (&str, &str), reason: &str) {
        let (own, other) = (self.person_of(client).map(str::to_owned), self.person_named(target));
        let (Some(own), Some(other)) = (own, other) else {
            let why = "There is nobody of that name";
            return self.standard(client, "FAIL", &["REDACT", "INVALID_TARGET", target], why);
        };
        let kept = self.directs.pairs.get_mut(&pair(&own, &other));
        let found = kept.and_then(|of| {
            let at = of.iter().position(|direct| direct.id == id)?;
            if of[at].from == own { of.remove(at).map(Ok) } else { Some(Err(())) }
        });
        let direct = match found {
            Some(Ok(direct)) => direct,
            Some(Err(())) => {
                let why = "Only who said it takes it back";
                return self.standard(client, "FAIL", &["REDACT", "REDACT_FORBIDDEN", target, id], why);
            }
            None => {
                let why = "There is no such message";
                return self.standard(client, "FAIL", &["REDACT", "UNKNOWN_MSGID", target, id], why);
            }
        };
        self.effects.push(Effect::Remember { key: direct.key(), value: Vec::new() });
        let line = Line::from(self.face(client).prefix, "REDACT").param(direct.nick.as_str()).param(id);
        let line = if reason.is_empty() { line } else { line.text(reason) };
        let mut to = std::collections::BTreeSet::from([client]);
        for person in [&own, &other] {
            to.extend(self.users.get(person).into_iter().flat_map(|user| user.sessions.iter().copied()));
        }
        for id in to.into_iter().filter(|id| self.has(*id, Cap::Redaction)).collect::<Vec<_>>() {
            let line = self.dress(line.clone(), id, self.identities.get(&own).copied().as_ref());
            self.emit(id, line);
        }
    }

    /// The person a nick means: whoever has it, or the account of that name.
    pub(super) fn person_named(&self, nick: &str) -> Option<String> {
        let connected = self.users.iter().find(|(_, user)| super::same_nick(&user.nick, nick));
        let account = || self.accounts.get(nick).map(|account| account.person.clone());
        let staying = || {
            let identity = match self.names.holder(nick)? {
                crate::irc::proto::names::Holder::Person(identity) => identity,
                crate::irc::proto::names::Holder::Client(_) => return None,
            };
            self.persons.get(identity).filter(|person| self.stays(person)).cloned()
        };
        connected.map(|(person, _)| person.clone()).or_else(account).or_else(staying)
    }

    /// Why a user takes no message from a client.
    fn declines(&self, client: ClientId, to: &str) -> Option<(u16, &'static str)> {
        let (user, face) = (self.users.get(to)?, self.face(client));
        if self.sessions.get(&client).is_some_and(|session| session.oper.is_some()) {
            return None;
        }
        if user.modes.contains(&'R') && face.account.is_none() {
            return Some((531, "They take messages from those with an account alone"));
        }
        let nick = crate::irc::proto::casemap::fold(&self.called(client));
        (user.modes.contains(&'g') && !user.accepted.contains(&nick) && self.person_of(client) != Some(to))
            .then_some((716, "is in +g mode and must accept you first"))
    }

    fn silenced(&self, to: &str, prefix: &str) -> bool {
        self.users.get(to).is_some_and(|user| user.silenced.iter().any(|mask| glob(mask, prefix)))
    }

    /// Plays what a user was told while no client of theirs was there.
    pub(super) fn play_direct(&mut self, client: ClientId, person: &str) {
        let Some(caps) = self.sessions.get(&client).map(|session| session.caps) else { return };
        let mut missed = Vec::new();
        for of in self.directs.pairs.values_mut() {
            for direct in of.iter_mut().filter(|direct| direct.missed && direct.to == person) {
                direct.missed = false;
                missed.push(direct.clone());
            }
        }
        missed.sort_by_key(|direct| (direct.at, direct.number));
        for direct in missed {
            let mark = match caps.has(Cap::ServerTime) {
                true => String::new(),
                false => stamp::mark(direct.at, self.now),
            };
            // Who can ask finds it in the history.
            if !caps.has(Cap::Chathistory) {
                for line in direct.lines(caps, &mark) {
                    self.emit(client, line);
                }
            }
            self.effects.push(Effect::Remember { key: direct.key(), value: codec::encode(&direct) });
        }
    }
}

/// Whether it is a CTCP request or answer.
fn is_request(direct: &Direct) -> bool {
    direct
        .live
        .lines
        .first()
        .is_some_and(|(text, _)| text.starts_with('\x01') && !text.starts_with("\x01ACTION"))
}

//! Who comes, goes, and is called what; and what follows for whom the node speaks.

use irc::proto::{Command, Message};

use super::inbound::tag;
use super::{CONTROL, Output, Session};
use crate::base::Timestamp;
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::profile::Profile;
use crate::irc::network::channel::Agreement;
use crate::irc::network::clock;
use crate::irc::network::people::is_split;
use crate::irc::network::queue::Place;
use crate::irc::network::render::one_line;
use crate::irc::proto::format::strip;

/// Messages of a channel's history that are asked for after coming back.
const HISTORY: usize = 100;

impl Session {
    /// Somebody was seen: what their message tells of them.
    pub(super) fn seen(&mut self, nick: &str, user: &str, host: &str, message: &Message) {
        let Some(line) = &self.line else { return };
        let key = line.support.fold(nick);
        let tells_accounts = line.enabled.contains("account-tag");
        let is_speech = match &message.command {
            Command::PRIVMSG(target, _) | Command::NOTICE(target, _) => {
                self.channels.contains_key(&line.support.fold(target))
            }
            _ => false,
        };
        // Who is in none of our channels is not remembered.
        if self.people.get(&key).is_none() && !is_speech && !matches!(message.command, Command::JOIN(..)) {
            return;
        }
        let Some(person) = self.people.meet(&key, nick) else { return };
        if !user.is_empty() && !host.is_empty() {
            person.user_host = Some(format!("{user}@{host}"));
        }
        if tells_accounts && is_speech {
            person.services = tag(message, "account").map(str::to_owned);
        }
    }

    /// Joins, leaves, kicks, changes of name.
    pub(super) fn whereabouts(&mut self, now: Timestamp, own: bool, nick: &str, message: &Message) {
        let key = self.fold(nick);
        match &message.command {
            Command::JOIN(channel, account, _) => {
                let channel_key = self.fold(channel);
                self.people.seat(&key, nick, &channel_key, "");
                if own {
                    return self.joined(now, channel);
                }
                if self.is_fellow(nick) {
                    self.fellow_came(now, nick, &channel_key);
                }
                self.people.arrived(&key, &channel_key);
                if let (Some(account), Some(user)) = (account, self.people.meet(&key, nick)) {
                    user.services = Some(account.clone()).filter(|account| account != "*");
                }
            }
            Command::PART(channel, reason) if own => {
                let reason = reason.clone().unwrap_or_default();
                self.put_out(now, channel, format!("removed from the channel: {reason}"));
            }
            Command::PART(channel, reason) => {
                let channel = self.fold(channel);
                let reason = strip(reason.as_deref().unwrap_or_default());
                self.people.part(&key, Some(&channel), &reason, false, now.0);
                self.fellow_gone(now, &key, Some(&channel));
            }
            Command::KICK(channel, whom, reason) => self.kicked(now, nick, channel, whom, reason.as_deref()),
            Command::QUIT(reason) => {
                let reason = strip(reason.as_deref().unwrap_or_default());
                let split = is_split(&reason) || self.is_netsplit(message);
                self.people.part(&key, None, &reason, split, now.0);
                self.fellow_gone(now, &key, None);
            }
            Command::NICK(new) => {
                let to = self.fold(new);
                self.people.renamed(&key, &to, new);
                if let Some(line) = self.line.as_mut().filter(|_| own) {
                    line.nick = new.clone();
                }
                if own { self.note_carriers() } else { self.fellow_renamed(now, &key, &to) }
            }
            Command::ACCOUNT(account) => {
                if let Some(user) = self.people.meet(&key, nick) {
                    user.services = Some(account.clone()).filter(|account| account != "*");
                }
            }
            Command::CHGHOST(user, host) => {
                if let Some(person) = self.people.meet(&key, nick) {
                    person.user_host = Some(format!("{user}@{host}"));
                }
                if let Some(line) = self.line.as_mut().filter(|_| own) {
                    line.user_host = Some(format!("{user}@{host}"));
                }
            }
            Command::TOPIC(channel, topic) => self.topic_set(own, nick, channel, topic.as_deref()),
            Command::INVITE(whom, channel) => self.invited(now, whom, channel),
            _ => {}
        }
        self.departures(now);
    }

    /// We are in the channel now.
    fn joined(&mut self, now: Timestamp, name: &str) {
        let key = self.fold(name);
        let Some(channel) = self.channels.get_mut(&key) else { return };
        channel.place = Place::Joined { since_ms: now.0 };
        channel.holders.left_them();
        channel.heard.comes();
        (channel.state.topic, channel.state.topic_locked) = (None, None);
        let heard_until = channel.state.heard_until;
        self.people.list(&key);
        let own = self.line.as_ref().map(|line| line.support.fold(&line.nick)).unwrap_or_default();
        self.people.seat(&own, &own, &key, "");
        let Some(line) = self.line.as_mut().filter(|line| line.control.len() < CONTROL) else { return };
        line.control.push_back(Command::Raw("MODE".into(), vec![name.to_owned()]).into());
        // What was said while we were away.
        if let Some(since) = heard_until.filter(|_| line.enabled.contains("draft/chathistory")) {
            let args = ["AFTER", name, &clock::selector(since), &HISTORY.to_string()];
            let args = args.into_iter().map(str::to_owned).collect();
            line.control.push_back(Command::Raw("CHATHISTORY".into(), args).into());
        }
    }

    /// A line of the list of names: `@op!u@h +bob carol`.
    pub(super) fn names(&mut self, channel: &str, names: &str) {
        let Some(line) = &self.line else { return };
        let key = line.support.fold(channel);
        if !self.channels.contains_key(&key) {
            return;
        }
        for entry in names.split(' ').filter(|name| !name.is_empty()) {
            let rest = entry.trim_start_matches(|c| line.support.prefixes.iter().any(|(_, sign)| *sign == c));
            let signs = &entry[..entry.len() - rest.len()];
            let (nick, user_host) = rest.split_once('!').map_or((rest, None), |(n, uh)| (n, Some(uh)));
            let person = line.support.fold(nick);
            if self.is_fellow(nick)
                && let Some(channel) = self.channels.get_mut(&key)
            {
                channel.holders.is_here(&person);
            }
            self.people.seat(&person, nick, &key, signs);
            if let (Some(user_host), Some(user)) = (user_host, self.people.meet(&person, nick)) {
                user.user_host = Some(user_host.to_owned());
            }
        }
    }

    /// The list is complete.
    pub(super) fn names_end(&mut self, now: Timestamp, channel: &str) {
        let key = self.fold(channel);
        self.people.listed(&key, now.0);
        self.departures(now);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.holders.listed();
        }
        self.reconsider(now, &key);
        self.ask_consent(now, &key);
    }

    /// Tells the node who left, as far as there is leave to.
    pub(super) fn departures(&mut self, now: Timestamp) {
        while let Some(departure) = self.people.departure(now.0) {
            let Some(id) = self.channels.get(&departure.channel).map(|channel| channel.id) else { continue };
            let (channel, reason) = (ChannelRef::Id(id), departure.reason);
            let intent = Intent::LeaveChannel { channel, reason };
            let actor = self.actor(departure.account, &departure.nick);
            let submission = Submission { actor, intent, via: None, join_first: false, tag: 0 };
            self.wish(submission, None);
        }
    }

    /// The person who has that nick now.
    pub(super) fn person(&self, nick: &str) -> Actor {
        self.actor(self.people.account(&self.fold(nick)), nick)
    }

    fn actor(&self, account: String, nick: &str) -> Actor {
        let home = format!("{nick}@{}", self.setup.network);
        let profile = Profile { username: one_line(nick, 64), display_name: String::new(), home };
        Actor::Person { account, profile }
    }

    /// Whether somebody is an operator of a channel (folded).
    pub(super) fn is_operator(&self, nick: &str, channel: &str) -> bool {
        let Some(line) = &self.line else { return false };
        let signs = self.people.signs(&line.support.fold(nick), channel);
        signs.is_some_and(|signs| line.support.is_operator(signs))
    }

    /// Whoever invites us to a linked channel wants us back.
    pub(super) fn invited(&mut self, now: Timestamp, whom: &str, name: &str) {
        let is_us =
            self.line.as_ref().is_some_and(|line| line.support.fold(whom) == line.support.fold(&line.nick));
        let key = self.fold(name);
        let Some(channel) = self.channels.get_mut(&key).filter(|_| is_us) else { return };
        if channel.state.agreement == Agreement::Stopped {
            channel.state.agreement = Agreement::Unasked;
            let key = super::commands::consent_note(&channel.link);
            self.out.push(Output::Remember { key, value: String::new() });
        }
        if !matches!(channel.place, Place::Joined { .. }) {
            channel.place = Place::Outside;
        }
        self.pump(now);
    }
}

//! What the others say and do: people and their messages for the node. It trusts no nick for more
//! than a name.

use std::collections::BTreeSet;

use irc::proto::{Command, Message};

use super::{CONTROL, Output, SPEAKERS, Session, report_output};
use crate::base::Timestamp;
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Envelope, Origin, Style};
use crate::chat::profile::Profile;
use crate::irc::network::clock;
use crate::irc::network::queue::Place;
use crate::irc::proto::format::{irc_to_html, strip};

impl Session {
    /// Our own line came back.
    pub(super) fn echo(&mut self, target: &str, message: &Message) {
        let Some(line) = &self.line else { return };
        if !line.enabled.contains("echo-message") {
            return;
        }
        let mut done = Vec::new();
        let key = line.support.fold(target);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.confirm_first(tag(message, "msgid").map(str::to_owned), &mut done);
        }
        self.out.extend(done.into_iter().map(report_output));
    }

    /// Somebody else's line.
    pub(super) fn heard(
        &mut self,
        now: Timestamp,
        nick: &str,
        target: &str,
        text: &str,
        notice: bool,
        message: &Message,
    ) {
        let ctcp = text.strip_prefix('\x01').map(|text| text.strip_suffix('\x01').unwrap_or(text));
        let (style, text) = match ctcp {
            Some(ctcp) => match ctcp.strip_prefix("ACTION ") {
                Some(text) if !notice => (Style::Emote, text),
                _ if notice => return,
                _ => return self.ctcp(now, nick, target, ctcp),
            },
            None if notice => (Style::Notice, text),
            None => (Style::Text, text),
        };
        let body = strip(text);
        let Some(line) = &mut self.line else { return };
        let key = line.support.fold(target);
        let Some(channel) = self.channels.get(&key).filter(|_| !body.trim().is_empty()) else { return };
        line.taken_in += 1;
        let made_id = || format!("{}-{}", line.since.0, line.taken_in);
        let external_id = tag(message, "msgid").map_or_else(made_id, str::to_owned);
        let said_at = tag(message, "time").and_then(clock::parse).unwrap_or(now).min(now);
        let via = Some(channel.link.clone());
        let origin = Some(Origin { link: channel.link.clone(), external_id, said_at });
        let formatted = irc_to_html(text);
        let content = Content { style, body, formatted, origin, envelope: Envelope::default() };
        let intent = Intent::SendMessage { channel: ChannelRef::Id(channel.id), content };
        let folded = line.support.fold(nick);
        if line.speakers.len() < SPEAKERS || line.speakers.contains_key(&folded) {
            let (_, channels) =
                line.speakers.entry(folded).or_insert_with(|| (nick.to_owned(), BTreeSet::new()));
            channels.insert(key);
        }
        let actor = self.person(nick);
        let submission = Submission { actor, intent, via, join_first: true, tag: 0 };
        self.out.push(Output::Submit(Box::new(submission)));
    }

    /// A person on the network. Their account is their nick: whoever takes the nick later is taken
    /// for them, as everybody on the channel would; nothing but the name depends on it.
    pub(super) fn person(&self, nick: &str) -> Actor {
        let network = &self.setup.network;
        let end = (0..=nick.len().min(64)).rev().find(|at| nick.is_char_boundary(*at)).unwrap_or(0);
        let home = format!("{nick}@{network}");
        let profile = Profile { username: nick[..end].to_owned(), display_name: String::new(), home };
        Actor::Person { account: format!("{}@{network}", self.fold(nick)), profile }
    }

    /// Somebody left one channel, or all.
    pub(super) fn gone(&mut self, nick: &str, channel: Option<&str>, reason: Option<&str>) {
        let Some(line) = &mut self.line else { return };
        let key = line.support.fold(nick);
        let channel = channel.map(|channel| line.support.fold(channel));
        let Some((nick, channels)) = line.speakers.get_mut(&key) else { return };
        let nick = nick.clone();
        let left: Vec<_> =
            channels.iter().filter(|c| channel.as_ref().is_none_or(|one| one == *c)).cloned().collect();
        channels.retain(|c| !left.contains(c));
        if channels.is_empty() {
            line.speakers.remove(&key);
        }
        for id in left.iter().filter_map(|key| Some(self.channels.get(key)?.id)) {
            let intent = Intent::LeaveChannel {
                channel: ChannelRef::Id(id),
                reason: strip(reason.unwrap_or_default()),
            };
            let actor = self.person(&nick);
            let submission = Submission { actor, intent, via: None, join_first: false, tag: 0 };
            self.out.push(Output::Submit(Box::new(submission)));
        }
    }

    pub(super) fn kicked(
        &mut self,
        now: Timestamp,
        by: &str,
        channel: &str,
        whom: &str,
        reason: Option<&str>,
    ) {
        let Some(line) = &self.line else { return };
        let reason = reason.unwrap_or_default();
        if line.support.fold(whom) == line.support.fold(&line.nick) {
            self.put_out(now, channel, format!("kicked by {by}: {reason}"));
        } else {
            self.gone(whom, Some(channel), Some(&format!("kicked by {by}: {reason}")));
        }
    }

    pub(super) fn joined(&mut self, now: Timestamp, channel: &str) {
        let key = self.fold(channel);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.place = Place::Joined { since_ms: now.0 };
        }
    }

    /// Answers what a client is asked by the protocol between clients, to the asker alone.
    pub(super) fn ctcp(&mut self, now: Timestamp, nick: &str, target: &str, asked: &str) {
        let Some(line) = &mut self.line else { return };
        let to_us = line.support.fold(target) == line.support.fold(&line.nick);
        let (command, rest) = asked.split_once(' ').unwrap_or((asked, ""));
        let answer = match command.to_ascii_uppercase().as_str() {
            "VERSION" => concat!("VERSION Multichat ", env!("CARGO_PKG_VERSION")).to_owned(),
            "PING" => format!("PING {}", strip(rest).chars().take(64).collect::<String>()),
            "TIME" => format!("TIME {} s since 1970 (UTC)", now.0 / 1000),
            _ => return,
        };
        if to_us && line.control.len() < CONTROL && line.ctcp.take(now.0) {
            line.control.push_back(Command::NOTICE(nick.to_owned(), format!("\x01{answer}\x01")).into());
        }
    }
}

fn tag<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let tags = message.tags.as_ref()?;
    tags.iter().find(|tag| tag.0 == name)?.1.as_deref().filter(|value| !value.is_empty())
}

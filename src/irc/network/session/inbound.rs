//! What the others say and do: people and their messages for the node. It trusts no nick for more
//! than a name.

use irc::proto::{Command, Message};

use super::{CONTROL, Session, report_output};
use crate::base::{EventId, Timestamp, limits};
use crate::chat::intent::Intent;
use crate::chat::message::{Content, Envelope, Origin, Relation, Style};
use crate::irc::network::channel::Agreement;
use crate::irc::network::clock;
use crate::irc::network::heard::Spoken;
use crate::irc::proto::format::{irc_to_html, strip};

impl Session {
    /// Our own line came back.
    pub(super) fn echo(&mut self, target: &str, message: &Message) {
        let Some(line) = &self.line else { return };
        // What bears a label was dealt with by it.
        if !line.enabled.contains("echo-message") || tag(message, "label").is_some() {
            return;
        }
        let mut done = Vec::new();
        let (key, id) = (line.support.fold(target), tag(message, "msgid"));
        if let Some(channel) = self.channels.get_mut(&key)
            && let Some(event) = channel.echoed(None, id, &mut done)
            && let Some(id) = id
        {
            self.known.named(event, id, true);
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
        if self.is_ignored(nick) {
            return;
        }
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
        let key = self.fold(target);
        if !self.channels.contains_key(&key) || (style == Style::Text && self.command(now, nick, &key, text))
        {
            return;
        }
        let body = plain(text);
        if body.trim().is_empty() {
            return;
        }
        let formatted = if body.contains('\n') { None } else { irc_to_html(text) };
        let relation = self.answers(message).map(Relation::Reply);
        let envelope = Envelope { relation, ..Envelope::default() };
        self.said(now, nick, key, Content { style, formatted, envelope, ..Content::text(body) }, message);
    }

    /// Hands in what somebody said.
    fn said(&mut self, now: Timestamp, nick: &str, key: String, content: Content, message: &Message) {
        let Some(line) = &mut self.line else { return };
        let Some(channel) = self.channels.get_mut(&key) else { return };
        if channel.state.agreement != Agreement::Given {
            return;
        }
        line.taken_in += 1;
        let said_at = tag(message, "time").and_then(clock::parse).map(|at| at.min(now));
        let said_at = said_at.unwrap_or_else(|| channel.heard.moment(now));
        channel.state.heard_until = channel.state.heard_until.max(Some(said_at));
        let mut external_id = tag(message, "msgid").map(str::to_owned).unwrap_or_default();
        let is_named = !external_id.is_empty();
        let alone = self.setup.failover_with.is_empty();
        if alone && !is_named {
            external_id = format!("{}-{}", line.since.0, line.taken_in);
        }
        let origin = Some(Origin { link: channel.link.clone(), external_id, said_at });
        let content = Content { origin, ..content };
        let spoken = Spoken::new(now, line.support.fold(nick), nick.to_owned(), content, is_named);
        if alone { self.hand_in(&key, spoken) } else { self.spoken(now, &key, spoken) }
    }

    /// The message that a line answers, where it says so and we know it.
    fn answers(&self, message: &Message) -> Option<EventId> {
        let id = tag(message, "+reply").or_else(|| tag(message, "+draft/reply"))?;
        self.known.by_id(id)
    }

    /// Somebody put a sign to a message (`+draft/react`).
    pub(super) fn reacted(&mut self, nick: &str, target: &str, message: &Message) {
        let Some(now) = self.line.as_ref().map(|line| line.heard) else { return };
        let sign = tag(message, "+react").or_else(|| tag(message, "+draft/react")).map(strip);
        let sign = sign.filter(|sign| !sign.trim().is_empty() && sign.len() <= limits::REACTION_BYTES);
        let (Some(sign), Some(event)) = (sign, self.answers(message)) else { return };
        if self.is_ignored(nick) {
            return;
        }
        let mut content = Content::text(sign);
        content.envelope.relation = Some(Relation::Reaction(event));
        let key = self.fold(target);
        self.said(now, nick, key, content, message);
    }

    /// Somebody took a message back (`draft/message-redaction`).
    pub(super) fn redacted(&mut self, nick: &str, target: &str, id: &str, reason: &str) {
        let Some(target_event) = self.known.by_id(id) else { return };
        let (key, reason) = (self.fold(target), strip(reason));
        self.moderate(nick, &key, "taking a message back".into(), |channel| Intent::RedactMessage {
            channel,
            target: target_event,
            reason,
        });
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

/// A text without codes, its line breaks kept.
fn plain(text: &str) -> String {
    text.split('\n').map(strip).collect::<Vec<_>>().join("\n")
}

pub(super) fn tag<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let tags = message.tags.as_ref()?;
    tags.iter().find(|tag| tag.0 == name)?.1.as_deref().filter(|value| !value.is_empty())
}

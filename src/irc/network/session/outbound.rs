//! What is to be said: whose turn it is, how much there is leave for, and when a fence is due. It
//! reports nothing as delivered that the network has not been seen to take.

use std::ops::Bound;

use irc::proto::message::Tag;
use irc::proto::{Command, Message};

use super::failover::AWAKE;
use super::{
    BATCH, ECHO_PATIENCE_MS, Fence, JOIN_PATIENCE_MS, MUTED_MS, Output, REJOIN_FIRST_MS, REJOIN_MAX_MS,
    SILENCE_MS, Session, UNCONFIRMED, report_output,
};
use crate::base::Timestamp;
use crate::chat::message::{Content, Link};
use crate::chat::view::What;
use crate::irc::network::channel::{Agreement, State};
use crate::irc::network::queue::{Channel, Place};
use crate::irc::network::render::{Lines, Utterance, View, render};
use crate::node::{Delivery, Outcome};

impl Session {
    /// We are not in that channel, or may not be: try again later, and longer each time.
    pub(super) fn put_out(&mut self, now: Timestamp, name: &str, reason: String) {
        let key = self.fold(name);
        let Some(channel) = self.channels.get_mut(&key) else { return };
        if channel.state.agreement == Agreement::Stopped {
            return;
        }
        if let Place::Joined { since_ms } = channel.place
            && now.0.saturating_sub(since_ms) > REJOIN_MAX_MS
        {
            channel.refusals = 0;
        }
        let wait_ms = (REJOIN_FIRST_MS << channel.refusals.min(10)).min(REJOIN_MAX_MS);
        channel.refusals = channel.refusals.saturating_add(1);
        let reason = format!("{name}: {reason}");
        self.out.push(Output::Warn(format!("{reason}; trying again in {} s", wait_ms / 1000)));
        let report = channel.give_back(Some(wait_ms), &reason);
        channel.place = Place::Refused { until_ms: now.0 + wait_ms, reason };
        channel.holders.left_them();
        self.out.extend(report.map(report_output));
        self.note_carrier(&key);
    }

    /// The channel does not take our lines.
    pub(super) fn muted(&mut self, name: &str, said: &str) {
        let key = self.fold(name);
        if let Some(channel) = self.channels.get_mut(&key)
            && channel.unconfirmed() > 0
        {
            let report = channel.give_back(Some(MUTED_MS), &format!("{name}: {said}"));
            self.out.extend(report.map(report_output));
        }
    }

    /// Keeps a delivery until its turn comes.
    pub(super) fn hold(&mut self, now: Timestamp, delivery: Delivery) {
        let link = delivery.link.clone();
        let Some(Link::Irc { channel: name, .. }) = &link else {
            let reason = "no channel of an IRC network".to_owned();
            return self.out.push(report_output((delivery.id, Outcome::Failed { reason })));
        };
        let key = self.fold(name);
        if let Some(link) = link.as_ref().filter(|_| !self.channels.contains_key(&key)) {
            self.link(now, link, delivery.news.channel);
        }
        let Some(channel) = self.channels.get_mut(&key) else {
            let reason = format!("{name} is no channel of {}", self.setup.network);
            return self.out.push(report_output((delivery.id, Outcome::Failed { reason })));
        };
        let mut report = channel.push(now.0, delivery);
        if let Place::Refused { until_ms, reason } = &channel.place
            && channel.state.agreement != Agreement::Stopped
        {
            let (wait_ms, reason) = (until_ms.saturating_sub(now.0), reason.clone());
            report = report.or_else(|| channel.give_back(Some(wait_ms), &reason));
        }
        let is_held = report.is_none();
        self.out.extend(report.map(report_output));
        if is_held {
            self.recollect(&key);
        }
        self.pump(now);
    }

    /// Sends whatever there is leave to send.
    pub(super) fn pump(&mut self, now: Timestamp) {
        if !self.line.as_ref().is_some_and(|line| line.ready) {
            return;
        }
        self.join_channels(now);
        loop {
            let Some(line) = &mut self.line else { return };
            let control = !line.control.is_empty();
            let next = if control { None } else { self.next_channel() };
            let idle = !control && next.is_none();
            let fence = self.wants_fence(now, idle);
            let Some(line) = &mut self.line else { return };
            if (idle && !fence) || !line.bucket.take(now.0) {
                return;
            }
            if fence {
                self.send_fence(now);
            } else if let Some(message) = line.control.pop_front() {
                self.out.push(Output::Send(message));
            } else if let Some(key) = next
                && !self.say(now, key)
                && let Some(line) = &mut self.line
            {
                line.bucket.put_back();
            }
        }
    }

    pub(super) fn join_channels(&mut self, now: Timestamp) {
        let Some(line) = &mut self.line else { return };
        let inside = |place: &Place| matches!(place, Place::Joined { .. } | Place::Joining { .. });
        let mut count = self.channels.values().filter(|channel| inside(&channel.place)).count();
        for channel in self.channels.values_mut() {
            let due = match channel.place {
                _ if channel.state.agreement == Agreement::Stopped => false,
                Place::Outside => true,
                Place::Refused { until_ms, .. } => now.0 >= until_ms,
                Place::Joining { since_ms } => now.0.saturating_sub(since_ms) >= JOIN_PATIENCE_MS,
                Place::Joined { .. } => false,
            };
            if !due {
                continue;
            }
            let counted = inside(&channel.place);
            if !counted && line.support.channel_limit.is_some_and(|limit| count >= limit) {
                let reason = format!("{}: the network allows no more channels", channel.name);
                let report = channel.give_back(Some(REJOIN_MAX_MS), &reason);
                channel.place = Place::Refused { until_ms: now.0 + REJOIN_MAX_MS, reason: reason.clone() };
                self.out.extend(report.map(report_output));
                self.out.push(Output::Warn(reason));
                continue;
            }
            count += usize::from(!counted);
            channel.place = Place::Joining { since_ms: now.0 };
            line.control.push_back(Command::JOIN(channel.name.clone(), None, None).into());
        }
    }

    /// The next channel that has something to say and may, after the one that spoke last.
    pub(super) fn next_channel(&self) -> Option<String> {
        if self.channels.values().map(Channel::unconfirmed).sum::<usize>() >= UNCONFIRMED {
            return None;
        }
        // Once the operators said no, what waits is reported as not carried, wherever we are.
        let alone = self.setup.failover_with.is_empty();
        let speaks = |channel: &Channel| match (&channel.place, channel.state.agreement) {
            (_, Agreement::Stopped) => channel.has_deliveries(),
            (Place::Joined { .. }, _) if !(alone || channel.holders.carries()) => false,
            (Place::Joined { .. }, Agreement::Unasked) => channel.has_announcements(),
            (Place::Joined { .. }, _) => channel.is_waiting(),
            _ => false,
        };
        let (turn, all) = (&self.turn, &self.channels);
        let after = all.range::<String, _>((Bound::Excluded(turn), Bound::Unbounded));
        let mut next = after.chain(all.range::<String, _>(..=turn));
        next.find(|(_, channel)| speaks(channel)).map(|(key, _)| key.clone())
    }

    /// Says the next line of a channel, if its deliveries have one left.
    pub(super) fn say(&mut self, now: Timestamp, key: String) -> bool {
        let operator = self.line.as_ref().is_some_and(|line| self.is_operator(&line.nick, &key));
        let Some(name) = self.channels.get(&key).map(|channel| channel.name.clone()) else { return false };
        let Some(room) = self.line.as_ref().map(|line| self.room(line, &name)) else { return false };
        let (Some(line), Some(channel)) = (&mut self.line, self.channels.get_mut(&key)) else { return false };
        let (link, known, people) = (channel.link.clone(), &mut self.known, &self.people);
        let network = self.setup.network.as_str();
        let mut done = Vec::new();
        let render = |delivery: &Delivery, state: &mut State| -> Result<Lines, String> {
            foreign(delivery, &link)?;
            agreed(state.agreement, &name)?;
            let mut view = View {
                network,
                channel: &key,
                state,
                known: &*known,
                people,
                support: &line.support,
                operator,
                tags: line.enabled.contains("message-tags"),
                redacts: line.enabled.contains("draft/message-redaction"),
                now,
                room,
            };
            let lines = render(&delivery.news, &mut view)?;
            known.note(&delivery.news, network);
            Ok(lines)
        };
        let next = channel.next_line(line.sequence + 1, render, &mut done);
        self.out.extend(done.into_iter().map(report_output));
        self.turn.clone_from(&key);
        let Some(utterance) = next else { return false };
        line.sequence += 1;
        line.last_said = now;
        let labels = line.enabled.contains("labeled-response");
        let is_echoed = matches!(utterance, Utterance::Say { .. });
        line.unechoed |= !labels && !is_echoed;
        let mut message = message(name, utterance);
        if labels {
            let label = Tag("label".into(), Some(format!("mc{}", line.sequence)));
            message.tags.get_or_insert_default().insert(0, label);
        }
        self.out.push(Output::Send(message));
        true
    }

    pub(super) fn wants_fence(&self, now: Timestamp, idle: bool) -> bool {
        let Some(line) = &self.line else { return false };
        let unfenced = line.sequence - line.fenced;
        if line.fences.is_empty() && now.since_ms(line.heard) >= SILENCE_MS {
            return true;
        }
        if !self.is_unconfirmed() || unfenced == 0 {
            return false;
        }
        let answers = |capability: &str| line.enabled.contains(capability);
        if (answers("echo-message") || answers("labeled-response")) && !(idle && line.unechoed) {
            return idle && now.since_ms(line.last_said) >= ECHO_PATIENCE_MS;
        }
        unfenced >= BATCH || (idle && line.fences.is_empty())
    }

    pub(super) fn send_fence(&mut self, now: Timestamp) {
        let Some(line) = &mut self.line else { return };
        line.fence_number += 1;
        line.fenced = line.sequence;
        line.unechoed = false;
        let number = line.fence_number;
        line.fences.push_back(Fence { number, covers: line.sequence, sent: now });
        self.out.push(Output::Send(Command::PING(format!("mc{number}"), None).into()));
    }

    pub(super) fn pong(&mut self, now: Timestamp, tokens: &[Option<&str>]) {
        if tokens.contains(&Some(AWAKE)) {
            return self.awoke(now);
        }
        let Some(line) = &mut self.line else { return };
        let number = tokens.iter().flatten().find_map(|token| token.strip_prefix("mc")?.parse::<u64>().ok());
        let Some(fence) =
            number.and_then(|number| line.fences.iter().position(|fence| fence.number == number))
        else {
            return;
        };
        let covers = line.fences.drain(..=fence).next_back().map_or(0, |fence| fence.covers);
        let mut done = Vec::new();
        for channel in self.channels.values_mut() {
            channel.confirm_up_to(covers, &mut done);
        }
        self.out.extend(done.into_iter().map(report_output));
    }
}

/// The line that says it.
fn message(channel: String, utterance: Utterance) -> Message {
    let raw = |command: &str, args: Vec<String>| Command::Raw(command.to_owned(), args).into();
    match utterance {
        Utterance::Say { notice, text, reply } => {
            let say = if notice { Command::NOTICE } else { Command::PRIVMSG };
            let tags = reply.map(|id| vec![Tag("+draft/reply".into(), Some(id))]);
            Message { tags, prefix: None, command: say(channel, text) }
        }
        Utterance::Redact { id, reason } => raw("REDACT", vec![channel, id, reason]),
        Utterance::Topic(topic) => Command::TOPIC(channel, Some(topic)).into(),
        Utterance::Kick { nick, reason } => Command::KICK(channel, nick, Some(reason)).into(),
        Utterance::Mode { change, argument } => raw("MODE", vec![channel, change.to_owned(), argument]),
    }
}

/// A message must not go to a link that it came from, nor from another IRC network, whose operators
/// forbid carrying their talk elsewhere. The same holds for what was done to people: the node sees
/// to that.
fn foreign(delivery: &Delivery, link: &Link) -> Result<(), String> {
    let What::Message(Content { origin: Some(origin), .. }) = &delivery.news.what else { return Ok(()) };
    match (&origin.link, link) {
        (from, to) if from == to => Err("it came from there".into()),
        (Link::Irc { network: from, .. }, Link::Irc { network: to, .. }) if from != to => {
            Err(format!("nothing is carried from one IRC network ({from}) to another"))
        }
        _ => Ok(()),
    }
}

/// Nothing goes to a channel whose operators did not agree.
fn agreed(agreement: Agreement, channel: &str) -> Result<(), String> {
    match agreement {
        Agreement::Given => Ok(()),
        Agreement::Unasked | Agreement::Asked => Err(format!("no operator of {channel} has allowed it yet")),
        Agreement::Stopped => Err(format!("an operator of {channel} said stop")),
    }
}

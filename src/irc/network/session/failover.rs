//! Several nodes on one link: what is done once `holders` says who carries. The one that carries speaks
//! and hands in; the others strike out what it says, keep what people say, and ask it about what they did
//! not see. When nobody is ahead any more, the next one goes on from there.
//!
//! Holders talk to each other in private notices: `ask`, `told`, `carries` and `took`, each with the
//! channel. Whoever has the nick of another holder is believed to be it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use irc::proto::{Command, Message};

use super::inbound::tag;
use super::{Asked, CONTROL, Line, Output, Session, report_output};
use crate::base::{EventId, Timestamp};
use crate::chat::intent::{ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Link, Relation};
use crate::chat::view::{News, What};
use crate::irc::network::channel::{Agreement, State};
use crate::irc::network::heard::Spoken;
use crate::irc::network::holders::NAMED;
use crate::irc::network::isupport::ISupport;
use crate::irc::network::known::Known;
use crate::irc::network::people::People;
use crate::irc::network::queue::Place;
use crate::irc::network::registration::variant;
use crate::irc::network::render::{LATE_MS, Utterance, View, render};
use crate::irc::network::strike::Expected;
use crate::node::Delivery;
use crate::port::CARRIER_NOTE;

/// How long the one that carries may take to say a delivery, or to take in a line, before it is asked.
const OVERDUE_MS: u64 = 1_000;
/// The same where it turned out to be far ahead of us.
const BEHIND_MS: u64 = 100;
/// After a takeover, lines wait so long for what the dead holder told of them.
const GATHER_MS: u64 = 1_000;
/// Where nothing happened for so long we slept: otherwise time alone wakes us once a second.
const SLEPT_MS: u64 = 3_000;
/// What we ask the network after that.
pub(super) const AWAKE: &str = "mcawake";
/// A list of names that does not end for so long is taken as it is.
const LISTING_MS: u64 = 30_000;
/// Other nicks that a holder may have while its own is taken.
const VARIANTS: u32 = 4;
/// Questions of others that wait for the node; beyond it they are asked again.
const QUESTIONS: usize = 64;
/// What begins each notice between holders.
const WORD: &str = "\x01MULTICHAT ";
/// Who carries, where it is we; no nick has a space.
const OURSELVES: &str = "this node";
const DAY_MS: u64 = 86_400_000;

/// A question of another holder, until the node answers it.
pub(super) struct Inquiry {
    nick: String,
    channel: String,
    number: String,
}

impl Session {
    /// Whether this is the nick of another node that holds our links; or ours, of a connection of ours
    /// that the network does not know to be dead.
    pub(super) fn is_fellow(&self, nick: &str) -> bool {
        let Some(line) = &self.line else { return false };
        let key = line.support.fold(nick);
        let is_it = |base: &String| {
            let variants = (1..=VARIANTS).map(|attempt| variant(base, attempt));
            std::iter::once(base.clone()).chain(variants).any(|nick| line.support.fold(&nick) == key)
        };
        let fellows = &self.setup.failover_with;
        let own = &self.setup.credentials.nick;
        !fellows.is_empty() && key != line.support.fold(&line.nick) && fellows.iter().chain([own]).any(is_it)
    }

    /// Whether this node carries a channel (folded): speaks there, and hands in what is said.
    pub(super) fn carries(&self, key: &str) -> bool {
        self.setup.failover_with.is_empty()
            || self.channels.get(key).is_some_and(|channel| channel.holders.carries())
    }

    /// Something happens. If nothing did for so long that we must have slept, another may have taken over,
    /// and we hear of it before the network answers us.
    pub(super) fn is_awake(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.awake, now);
        if before == Timestamp(0) || now.since_ms(before) < SLEPT_MS {
            return;
        }
        let suspend = |channel: &mut super::Channel| {
            let carried = channel.holders.suspend();
            if carried {
                channel.step_down();
            }
            carried
        };
        if self.channels.values_mut().map(suspend).filter(|carried| *carried).count() > 0 {
            self.control(Command::PING(AWAKE.into(), None));
        }
    }

    /// The network answered since we woke up.
    pub(super) fn awoke(&mut self, now: Timestamp) {
        let suspended = self.channels.iter_mut().filter(|(_, channel)| channel.holders.is_suspended());
        let keys: Vec<String> = suspended
            .map(|(key, channel)| {
                channel.holders.resume();
                key.clone()
            })
            .collect();
        keys.iter().for_each(|key| self.reconsider(now, key));
    }

    /// Another holder left a channel, or all.
    pub(super) fn fellow_gone(&mut self, now: Timestamp, nick: &str, channel: Option<&str>) {
        let keys: Vec<String> = match channel {
            Some(key) => vec![key.to_owned()],
            None => self.channels.keys().cloned().collect(),
        };
        for key in keys {
            if let Some(channel) = self.channels.get_mut(&key)
                && channel.holders.gone(nick)
            {
                self.reconsider(now, &key);
            }
        }
    }

    /// Another holder came into a channel, after us.
    pub(super) fn fellow_came(&mut self, now: Timestamp, nick: &str, key: &str) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.heard.other_came(now);
        if channel.holders.carries() {
            let moment = channel.heard.others_since().0.to_string();
            self.tell_fellow(nick, "carries", key, &moment);
        }
    }

    /// Somebody has another nick. Nicks are folded.
    pub(super) fn fellow_renamed(&mut self, now: Timestamp, from: &str, to: &str) {
        let keys: Vec<String> = self.channels.keys().cloned().collect();
        for key in keys {
            let is_there = self.people.signs(to, &key).is_some();
            let is_fellow = self.is_fellow(to);
            let Some(channel) = self.channels.get_mut(&key).filter(|_| is_there) else { continue };
            let was_ahead = channel.holders.gone(from);
            if is_fellow && (was_ahead || !channel.holders.carries()) {
                channel.holders.put_ahead(to);
            } else if is_fellow {
                self.tell_fellow(to, "carries", &key, "");
            }
            self.reconsider(now, &key);
        }
    }

    /// Takes a channel over, if nobody is ahead of us any more.
    pub(super) fn reconsider(&mut self, now: Timestamp, key: &str) {
        if self.setup.failover_with.is_empty() {
            return;
        }
        let Some(channel) = self.channels.get_mut(key) else { return };
        if let Place::Joined { since_ms } = channel.place
            && channel.holders.take_over()
        {
            channel.heard.carries(now, Timestamp(since_ms));
            channel.heard.not_before = now.plus_ms(GATHER_MS);
            let others_since = channel.heard.others_since();
            self.out.push(Output::Inform(format!("{}: carried by this node from now on", channel.name)));
            self.ask_consent(now, key);
            // Whoever came before we carried was not told when.
            let there = self.people.of_channel(key).map(|(_, user)| user.nick.clone());
            let behind: Vec<String> = there.filter(|nick| self.is_fellow(nick)).collect();
            for nick in behind.iter().filter(|_| others_since > Timestamp(0)) {
                self.tell_fellow(nick, "carries", key, &others_since.0.to_string());
            }
        }
        self.note_carrier(key);
    }

    /// Keeps who carries for people to see.
    pub(super) fn note_carrier(&mut self, key: &str) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let holders = &mut channel.holders;
        let mut ahead = holders.ahead();
        let carrier = match (holders.carries(), ahead.next(), ahead.next()) {
            (true, ..) => OURSELVES.to_owned(),
            (false, Some(only), None) => only.clone(),
            (false, Some(_), Some(_)) => return,
            (false, None, _) if holders.is_suspended() => return,
            (false, None, _) => String::new(),
        };
        drop(ahead);
        if holders.carrier != carrier {
            holders.carrier.clone_from(&carrier);
            let key = format!("{CARRIER_NOTE}{}", channel.name);
            self.out.push(Output::Remember { key, value: carrier });
        }
    }

    /// A message of another holder. Whether there is no more to it.
    pub(super) fn fellow_did(&mut self, now: Timestamp, nick: &str, message: &Message) -> bool {
        let (target, line) = match &message.command {
            Command::PRIVMSG(target, text) | Command::NOTICE(target, text) => {
                let notice = matches!(message.command, Command::NOTICE(..));
                if let Some(word) = text.strip_prefix(WORD).filter(|_| notice) {
                    self.fellow_told(now, nick, word.trim_end_matches('\x01'));
                    return true;
                }
                (target, Utterance::Say { notice, text: text.clone(), reply: None })
            }
            Command::TOPIC(target, topic) => (target, Utterance::Topic(topic.clone().unwrap_or_default())),
            Command::KICK(target, nick, reason) => {
                let (nick, reason) = (nick.clone(), reason.clone().unwrap_or_default());
                (target, Utterance::Kick { nick, reason })
            }
            Command::Raw(command, args) => match (command.as_str(), args.as_slice()) {
                ("MODE", [target, change, argument]) => {
                    let known = ["+b", "-b", "+o", "-o"].into_iter().find(|known| known == change);
                    let Some(change) = known else { return false };
                    (target, Utterance::Mode { change, argument: argument.clone() })
                }
                ("REDACT", [target, id, reason]) => {
                    (target, Utterance::Redact { id: id.clone(), reason: reason.clone() })
                }
                _ => return false,
            },
            _ => return false,
        };
        let key = self.fold(target);
        self.strike(now, &key, &line, tag(message, "msgid"));
        matches!(message.command, Command::PRIVMSG(..) | Command::NOTICE(..))
    }

    /// Another holder said a line in a channel: it need not be said any more.
    fn strike(&mut self, now: Timestamp, key: &str, line: &Utterance, id: Option<&str>) {
        let Some((standpoint, known, channel)) = standpoint(self, key) else { return };
        let expect = |delivery: &Delivery, state: &mut State| standpoint.expect(delivery, state, known);
        let Some((event, done)) = channel.strike(now.0, line, expect) else { return };
        if let Some(id) = id {
            self.known.named(event, id, false);
        }
        self.out.extend(done.into_iter().map(report_output));
    }

    /// What came last to be said in a channel may have been said by another holder before.
    pub(super) fn recollect(&mut self, key: &str) {
        if self.setup.failover_with.is_empty() {
            return;
        }
        let Some((standpoint, known, channel)) = standpoint(self, key) else { return };
        let done = channel.recollect(|delivery, state| standpoint.expect(delivery, state, known));
        self.out.extend(done.into_iter().map(report_output));
    }

    /// What another node took in of one of our links.
    pub(super) fn learned(&mut self, news: &News) {
        self.recall(news);
        let What::Message(Content { origin: Some(origin), .. }) = &news.what else { return };
        let Link::Irc { channel, .. } = &origin.link else { return };
        let key = self.fold(channel);
        let now = self.line.as_ref().map(|line| line.heard).unwrap_or_default();
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let joined = matches!(channel.place, Place::Joined { .. });
        if joined && !(channel.holders.carries() && now >= channel.heard.not_before) {
            channel.heard.taken_in(now, &origin.external_id, origin.said_at);
        }
    }

    /// Somebody said something: it is handed in now, or kept until another holder has done so.
    pub(super) fn spoken(&mut self, now: Timestamp, key: &str, spoken: Spoken) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.heard.keep(spoken);
            self.hand_in_heard(now, key);
        }
    }

    fn hand_in_heard(&mut self, now: Timestamp, key: &str) {
        while let Some(channel) = self.channels.get_mut(key)
            && channel.holders.carries()
            && now >= channel.heard.not_before
            && let Some(spoken) = channel.heard.next()
        {
            self.hand_in(key, spoken);
        }
    }

    /// Hands in what somebody said.
    pub(super) fn hand_in(&mut self, key: &str, spoken: Spoken) {
        let Spoken { nick, author, content, is_named, .. } = spoken;
        let Some(channel) = self.channels.get(key) else { return };
        let (via, channel) = (Some(channel.link.clone()), ChannelRef::Id(channel.id));
        self.people.speaks(&nick, key);
        let actor = self.person(&author);
        // Who was put out and came back is in again, where the channel lets them: speaking alone, from
        // the seat they had, would not do.
        if self.people.is_new(&nick, key) {
            let intent = Intent::JoinChannel { channel: channel.clone(), create: false };
            let (actor, via) = (actor.clone(), via.clone());
            self.wish(Submission { actor, intent, via, join_first: false, tag: 0 }, None);
        }
        let is_words = !matches!(content.envelope.relation, Some(Relation::Reaction(_)));
        let id = content.origin.as_ref().map(|origin| origin.external_id.clone()).filter(|_| is_named);
        let asked = Asked::Spoke { channel: key.to_owned(), nick, author, body: content.body.clone(), id };
        let intent = Intent::SendMessage { channel, content };
        let submission = Submission { actor, intent, via, join_first: true, tag: 0 };
        self.wish(submission, Some(asked).filter(|_| is_words));
    }

    /// Looks after those ahead of us: asks about what they should have done by now, and passes over who
    /// does not answer.
    pub(super) fn watch(&mut self, now: Timestamp) {
        if self.setup.failover_with.is_empty() {
            return;
        }
        let keys: Vec<String> = self.channels.keys().cloned().collect();
        for key in keys {
            self.hand_in_heard(now, &key);
            let is_heard = self.line.as_ref().is_some_and(|line| now.since_ms(line.heard) < 3_000);
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            let Place::Joined { since_ms } = channel.place else { continue };
            if now.0.saturating_sub(since_ms) >= LISTING_MS {
                channel.holders.listed();
            }
            if let Some(nick) = channel.holders.silent(now.0).filter(|_| is_heard) {
                let name = channel.name.clone();
                channel.holders.gone(&nick);
                self.out.push(Output::Warn(format!("{name}: {nick} does not answer and is passed over")));
                self.tell_fellow(&nick, "took", &key, "");
            }
            self.reconsider(now, &key);
            self.ask_ahead(now, &key);
        }
    }

    fn ask_ahead(&mut self, now: Timestamp, key: &str) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if !channel.holders.may_ask(now.0) {
            return;
        }
        let patience = if channel.holders.is_behind { BEHIND_MS } else { OVERDUE_MS };
        let before_ms = now.0.saturating_sub(patience);
        let (ids, events): (Vec<u64>, Vec<EventId>) = channel.overdue(before_ms).take(NAMED).unzip();
        if ids.is_empty() && !channel.heard.is_overdue(now, 2 * OVERDUE_MS) {
            return;
        }
        self.questions += 1;
        channel.holders.ask(self.questions, now.0, ids);
        let ahead: Vec<String> = channel.holders.ahead().cloned().collect();
        let marks: Vec<String> = events.iter().map(|event| BASE64.encode(&event.as_bytes()[..8])).collect();
        let question = format!("{} {}", self.questions, marks.join(" "));
        for nick in ahead {
            self.tell_fellow(&nick, "ask", key, &question);
        }
        // That the network itself is there is known by its answer.
        self.control(Command::PING("mc".into(), None));
    }

    /// Another holder told us something: a verb, a channel, and more.
    fn fellow_told(&mut self, now: Timestamp, nick: &str, text: &str) {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { return };
        let (key, nick_key) = (self.fold(name), self.fold(nick));
        let own = self.line.as_ref().map(|line| line.support.fold(&line.nick)).unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let Some(channel) = self.channels.get_mut(&key) else { return };
        if !matches!(channel.place, Place::Joined { .. }) {
            return;
        }
        match (verb, rest.as_slice()) {
            ("ask", [number, marks @ ..]) => self.asked_by(nick, key, number, marks),
            ("told", [number, done, role, agreement]) => {
                let number = number.parse().unwrap_or_default();
                let done = done.chars().skip(1).map(|sign| sign == '1');
                let done = channel.holders.told(&nick_key, number, done);
                let reports: Vec<_> = done.into_iter().filter_map(|id| channel.settle(id)).collect();
                self.out.extend(reports.into_iter().map(report_output));
                if *role == "carries" {
                    self.fellow_carries(now, nick, &key, *agreement == "given");
                }
            }
            ("carries" | "took", rest) => {
                if let Some(moment) = rest.first().and_then(|moment| moment.parse().ok()) {
                    channel.heard.came(now, Timestamp(moment));
                }
                let is_carrier = channel.holders.carries();
                if channel.holders.yield_to(&own, &nick_key, verb == "took") {
                    channel.step_down();
                    self.out.push(Output::Inform(format!("{name}: carried by {nick} from now on")));
                } else if is_carrier {
                    self.tell_fellow(nick, "carries", &key, "");
                }
                self.note_carrier(&key);
            }
            _ => {}
        }
    }

    /// It answered that it carries the channel: so its operators let it.
    fn fellow_carries(&mut self, now: Timestamp, nick: &str, key: &str, is_given: bool) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.holders.carries() {
            return self.tell_fellow(nick, "took", key, "");
        }
        let unknown = matches!(channel.state.agreement, Agreement::Unasked | Agreement::Asked);
        if is_given && unknown {
            channel.state.agreement = Agreement::Given;
            let note = super::commands::consent_note(&channel.link);
            let value = format!("allow {} {nick} carries it", now.0);
            self.out.push(Output::Remember { key: note, value });
        }
    }

    /// Another holder asks which events need nothing more: that is the node's to say.
    fn asked_by(&mut self, nick: &str, key: String, number: &str, marks: &[&str]) {
        let Some(channel) = self.channels.get(&key) else { return };
        let mark = |text: &&str| BASE64.decode(text).ok()?.try_into().ok().map(u64::from_be_bytes);
        let Some(marks) = marks.iter().take(NAMED).map(mark).collect::<Option<Vec<u64>>>() else { return };
        if self.inquiries.len() >= QUESTIONS || number.len() > 20 {
            return;
        }
        let link = channel.link.clone();
        self.questions += 1;
        let inquiry = Inquiry { nick: nick.to_owned(), channel: key, number: number.to_owned() };
        self.inquiries.insert(self.questions, inquiry);
        self.out.push(Output::Ask { link, marks, token: self.questions });
    }

    /// The node answered a question of another holder.
    pub fn settled(&mut self, now: Timestamp, token: u64, settled: &[bool]) {
        self.is_awake(now);
        let Some(Inquiry { nick, channel: key, number }) = self.inquiries.remove(&token) else { return };
        let Some(channel) = self.channels.get(&key) else { return };
        let role = if channel.holders.carries() { "carries" } else { "waits" };
        let agreement = if channel.state.agreement == Agreement::Given { "given" } else { "open" };
        let done: String = settled.iter().map(|done| if *done { '1' } else { '0' }).collect();
        self.tell_fellow(&nick, "told", &key, &format!("{number} :{done} {role} {agreement}"));
        self.pump(now);
    }

    fn tell_fellow(&mut self, nick: &str, verb: &str, key: &str, rest: &str) {
        let Some(name) = self.channels.get(key).map(|channel| channel.name.clone()) else { return };
        let text = format!("{verb} {name} {rest}");
        let notice = Command::NOTICE(nick.to_owned(), format!("{WORD}{}\x01", text.trim_end()));
        if let Some(line) = self.line.as_mut().filter(|line| line.control.len() < CONTROL) {
            line.control.push_back(notice.into());
        }
    }

    /// Bytes of a text in one line of a channel, as the others receive it:
    /// `:nick!user@host PRIVMSG #channel :text`. All holders of a link cut alike.
    pub(super) fn room(&self, line: &Line, name: &str) -> usize {
        let longest = 10 + 1 + 63;
        let fellows = &self.setup.failover_with;
        let nicks = fellows.iter().chain([&self.setup.credentials.nick]).map(String::len);
        let (nick, own) = if fellows.is_empty() {
            (line.nick.len(), line.user_host.as_deref().map_or(longest, str::len))
        } else {
            (nicks.max().unwrap_or_default().max(line.nick.len()), longest)
        };
        let frame = 1 + nick + 1 + own + " PRIVMSG ".len() + name.len() + " :\r\n".len();
        line.support.line_len.saturating_sub(frame)
    }
}

/// What there is to know to say a delivery as another holder would.
struct Standpoint<'a> {
    network: &'a str,
    channel: &'a str,
    people: &'a People,
    support: &'a ISupport,
    tags: bool,
    redacts: bool,
    room: usize,
}

/// The standpoint in a channel, what is known, and the channel itself.
fn standpoint<'a>(
    session: &'a mut Session,
    key: &'a str,
) -> Option<(Standpoint<'a>, &'a mut Known, &'a mut super::Channel)> {
    let name = session.channels.get(key)?.name.clone();
    let room = session.room(session.line.as_ref()?, &name);
    let line = session.line.as_ref()?;
    let standpoint = Standpoint {
        network: &session.setup.network,
        channel: key,
        people: &session.people,
        support: &line.support,
        tags: line.enabled.contains("message-tags"),
        redacts: line.enabled.contains("draft/message-redaction"),
        room,
    };
    Some((standpoint, &mut session.known, session.channels.get_mut(key)?))
}

impl Standpoint<'_> {
    /// Every way in which another holder may say a delivery.
    fn expect(&self, delivery: &Delivery, state: &mut State, known: &mut Known) -> Expected {
        let (news, blank) = (&delivery.news, Known::default());
        let is_message = matches!(news.what, What::Message(_));
        let ages: &[u64] = if is_message { &[0, LATE_MS + 1, DAY_MS] } else { &[0] };
        let operators: &[bool] = if is_message { &[false] } else { &[true, false] };
        let mut ways = Vec::new();
        for knows in [&*known, &blank] {
            for age_ms in ages {
                for operator in operators {
                    // What is done to people is remembered when it is done.
                    let mut scratch = if is_message { None } else { Some(state.clone()) };
                    let state = scratch.as_mut().unwrap_or(&mut *state);
                    let now = news.at.plus_ms(*age_ms);
                    ways.extend(render(news, &mut self.view(state, knows, *operator, now)).ok());
                }
            }
        }
        known.note(news, self.network);
        Expected::new(delivery, ways)
    }

    fn view<'a>(
        &'a self,
        state: &'a mut State,
        known: &'a Known,
        operator: bool,
        now: Timestamp,
    ) -> View<'a> {
        View {
            network: self.network,
            channel: self.channel,
            state,
            known,
            people: self.people,
            support: self.support,
            operator,
            tags: self.tags,
            redacts: self.redacts,
            now,
            room: self.room,
        }
    }
}

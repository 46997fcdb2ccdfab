//! The agreement of a channel's operators, and what people may tell the relay in the channel: `!mc`.
//!
//! Nothing is carried, in either direction, before an operator of the channel said `!mc allow`, unless
//! the configuration says that they agreed before, or nobody but the relay is there and it is the
//! operator itself. `!mc stop` ends it at once and for good: only an operator's invitation brings the
//! relay back, to ask anew. Both are kept as notes of the door, with who said it and when. Operators
//! may also keep single people of the other side out of their channel.

use super::{Output, Session};
use crate::base::config::Consent;
use crate::base::{Identity, Timestamp};
use crate::chat::message::Link;
use crate::irc::network::channel::{Agreement, State};
use crate::irc::network::queue::Place;
use crate::irc::network::render::shown_name;
use crate::irc::proto::format::strip;

/// Names that `!mc who` shows.
const SHOWN: usize = 30;
const HELP: &str = "!mc who: who of the other side spoke here; !mc about: who runs this. For operators: \
                    !mc allow, !mc stop, !mc mute NAME, !mc unmute NAME";

/// The note that holds what a channel's operators said.
pub(super) fn consent_note(link: &Link) -> String {
    note("consent", link)
}

fn note(sort: &str, link: &Link) -> String {
    match link {
        Link::Irc { channel, .. } => format!("{sort}/{channel}"),
        Link::Matrix { room } => format!("{sort}/{room}"),
    }
}

impl Session {
    /// What the notes say of a channel.
    pub(super) fn restore_state(&self, channel: &str, state: &mut State) {
        let said = self.notes.get(&format!("consent/{channel}")).map(String::as_str).unwrap_or_default();
        state.agreement = match said.split(' ').next() {
            Some("allow") => Agreement::Given,
            Some("stop") => Agreement::Stopped,
            _ if self.setup.consent == Consent::Given => Agreement::Given,
            _ => Agreement::Unasked,
        };
        let muted = format!("mute/{channel}/");
        for (key, value) in &self.notes {
            let identity = key.strip_prefix(&muted).filter(|_| !value.is_empty());
            if let Some(identity) = identity.and_then(|text| text.parse::<Identity>().ok()) {
                state.mute(identity);
            }
        }
    }

    /// We see who is in the channel: ask its operators, if they have not said anything.
    pub(super) fn ask_consent(&mut self, now: Timestamp, key: &str) {
        let Some(line) = &self.line else { return };
        let own = line.support.fold(&line.nick);
        let alone = self.people.of_channel(key).all(|(nick, _)| *nick == own || self.is_fellow(nick));
        let founded = alone && self.is_operator(&own, key);
        let about = self.about();
        if !self.carries(key) {
            return;
        }
        let Some(channel) = self.channels.get_mut(key) else { return };
        if channel.state.agreement != Agreement::Unasked {
            return;
        }
        if founded {
            channel.state.agreement = Agreement::Given;
            let key = consent_note(&channel.link);
            let value = format!("allow {} nobody else was in the channel", now.0);
            self.out.push(Output::Remember { key, value });
        } else {
            channel.state.agreement = Agreement::Asked;
            channel.announce(format!(
                "{about} It is to carry {} to and from other networks. An operator of the channel may say \
                 `!mc allow`, or `!mc stop` to send it away. Until then nothing is carried.",
                channel.name
            ));
        }
        self.pump(now);
    }

    fn about(&self) -> String {
        format!("This is {} (Multichat {}).", self.setup.credentials.real_name, env!("CARGO_PKG_VERSION"))
    }

    /// Whether a line is for the relay itself; if so, does what it says.
    pub(super) fn command(&mut self, now: Timestamp, nick: &str, key: &str, text: &str) -> bool {
        let text = strip(text);
        let Some(rest) = text.trim().strip_prefix("!mc") else { return false };
        if !(rest.is_empty() || rest.starts_with(' ')) {
            return false;
        }
        let (verb, name) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let (verb, name) = (verb.to_ascii_lowercase(), name.trim());
        match verb.as_str() {
            "allow" | "stop" | "mute" | "unmute" if !self.is_operator(nick, key) => {
                self.answer(now, key, nick, format!("only operators of {key} may say that"));
            }
            "allow" => self.allow(now, nick, key),
            "stop" => self.stop(now, nick, key),
            "mute" => self.mute(now, nick, key, name),
            "unmute" => self.unmute(now, nick, key, name),
            "about" => self.answer(now, key, nick, self.about()),
            "who" => {
                let voices = self.channels.get(key).map(|channel| &channel.state).into_iter();
                let names: Vec<String> = voices.flat_map(State::voices).take(SHOWN).map(shown_name).collect();
                let text = if names.is_empty() { "nobody so far".to_owned() } else { names.join(", ") };
                self.answer(now, key, nick, format!("spoke in {key}: {text}"));
            }
            _ => self.answer(now, key, nick, HELP.to_owned()),
        }
        true
    }

    /// Answers one person, and not without end. Of several relays in a channel, one does.
    fn answer(&mut self, now: Timestamp, key: &str, nick: &str, text: String) {
        if self.carries(key) && self.line.as_mut().is_some_and(|line| line.ctcp.take(now.0)) {
            self.tell(nick, text);
        }
    }

    fn who_says(&self, nick: &str) -> String {
        let user = self.people.get(&self.fold(nick));
        let user_host = user.and_then(|user| user.user_host.as_deref()).unwrap_or("?@?");
        match user.and_then(|user| user.services.as_deref()) {
            Some(account) => format!("{nick}!{user_host} ({account})"),
            None => format!("{nick}!{user_host}"),
        }
    }

    fn allow(&mut self, now: Timestamp, nick: &str, key: &str) {
        let who = self.who_says(nick);
        let carries = self.carries(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.state.agreement = Agreement::Given;
        if carries {
            channel.announce(format!(
                "{} is carried from now on, as {nick} allowed; `!mc stop` ends it",
                channel.name
            ));
        }
        let key = consent_note(&channel.link);
        self.out.push(Output::Remember { key, value: format!("allow {} {who}", now.0) });
    }

    fn stop(&mut self, now: Timestamp, nick: &str, key: &str) {
        let who = self.who_says(nick);
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.state.agreement = Agreement::Stopped;
        let name = channel.name.clone();
        let reason = format!("{nick} said stop; an invitation brings this back");
        channel.place = Place::Refused { until_ms: u64::MAX, reason: reason.clone() };
        let note = consent_note(&channel.link);
        self.people.forget_channel(key);
        self.control(irc::proto::Command::PART(name.clone(), Some(reason)));
        self.out.push(Output::Remember { key: note, value: format!("stop {} {who}", now.0) });
        self.out.push(Output::Warn(format!("{name}: {who} said stop: nothing is carried any more")));
    }

    fn mute(&mut self, now: Timestamp, nick: &str, key: &str, name: &str) {
        let who = self.who_says(nick);
        let carries = self.carries(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some((identity, name)) = channel.state.named(name) else {
            return self.answer(now, key, nick, format!("nobody of the name {name} spoke in {key}"));
        };
        if !channel.state.mute(identity) {
            return self.answer(now, key, nick, "too many are muted here".into());
        }
        if carries {
            channel.announce(format!("what {} says is not carried here any more", shown_name(&name)));
        }
        let key = format!("{}/{identity}", note("mute", &channel.link));
        self.out.push(Output::Remember { key, value: format!("{} {who}", now.0) });
    }

    fn unmute(&mut self, now: Timestamp, nick: &str, key: &str, name: &str) {
        let carries = self.carries(key);
        let Some(channel) = self.channels.get_mut(key) else { return };
        let found = channel.state.named(name).filter(|(identity, _)| channel.state.muted.remove(identity));
        let Some((identity, name)) = found else {
            return self.answer(now, key, nick, format!("nobody of the name {name} is muted in {key}"));
        };
        if carries {
            channel.announce(format!("what {} says is carried here again", shown_name(&name)));
        }
        let key = format!("{}/{identity}", note("mute", &channel.link));
        self.out.push(Output::Remember { key, value: String::new() });
    }
}

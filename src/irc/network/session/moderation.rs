//! What the network's operators do in a linked channel, as wishes of the persons they are. The
//! channel's own policy decides: where it does not let them, what they did stays on the network, and
//! they are told so. Services and servers are no persons; what they do stays where it is.

use super::{Asked, Session};
use crate::base::Timestamp;
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::Change;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::irc::network::channel::{Agreement, Banned};
use crate::irc::proto::format::strip;

/// People that one ban may put out; a wider one stays on the network.
const BANNED_AT_ONCE: usize = 5;

impl Session {
    /// Somebody kicked somebody.
    pub(super) fn kicked(
        &mut self,
        now: Timestamp,
        by: &str,
        channel: &str,
        whom: &str,
        reason: Option<&str>,
    ) {
        let Some(line) = &self.line else { return };
        let reason = strip(reason.unwrap_or_default());
        let (key, whom_key) = (line.support.fold(channel), line.support.fold(whom));
        if whom_key == line.support.fold(&line.nick) {
            return self.put_out(now, channel, format!("kicked by {by}: {reason}"));
        }
        self.fellow_gone(now, &whom_key, Some(&key));
        let Some(line) = &self.line else { return };
        let by_us = line.support.fold(by) == line.support.fold(&line.nick);
        if let Some(account) = self.member(&whom_key, &key) {
            let user = self.people.get(&whom_key).cloned().unwrap_or_default();
            let banned = self.channels.get(&key).is_some_and(|channel| channel.state.is_banned(&account));
            if !by_us && !banned {
                let then = Standing::Out;
                self.revoke(by, &key, account.clone(), then, &reason, format!("the kick of {whom}"));
            }
            if let Some(channel) = self.channels.get_mut(&key) {
                channel.state.was_kicked(account, user);
            }
        }
        // Where the policy let the kick count, they are out already and this says nothing new.
        let told =
            if reason.is_empty() { format!("kicked by {by}") } else { format!("kicked by {by}: {reason}") };
        self.people.part(&whom_key, Some(&key), &told, false, now.0);
    }

    /// Modes of a channel were changed.
    pub(super) fn mode(&mut self, own: bool, by: &str, channel: &str, arguments: &[String]) {
        let Some(line) = &self.line else { return };
        let key = line.support.fold(channel);
        if !self.channels.contains_key(&key) {
            return;
        }
        let changes = line.support.changes(arguments);
        let ranks: Vec<(char, char)> = line.support.prefixes.clone();
        for change in changes {
            if let Some((_, sign)) = ranks.iter().find(|(letter, _)| *letter == change.letter) {
                let Some(nick) = change.argument else { continue };
                let person = self.fold(nick);
                self.people.rank(&person, &key, *sign, change.set);
                if change.letter == 'o' && !own {
                    self.operator_made(by, &key, nick, change.set);
                }
                continue;
            }
            match (change.letter, change.argument) {
                ('t', _) => self.with_state(channel, |state| state.topic_locked = Some(change.set)),
                ('b', Some(mask)) if !own && change.set => self.ban(by, &key, mask),
                ('b', Some(mask)) if !own => self.unban(by, &key, mask),
                _ => {}
            }
        }
    }

    fn operator_made(&mut self, by: &str, key: &str, nick: &str, set: bool) {
        let Some(account) = self.member(&self.fold(nick), key) else { return };
        if set {
            let what = format!("making {nick} an operator");
            let grant = |channel| Intent::GrantRole {
                channel,
                subject: Subject::Name(account),
                role: Role::Moderator,
            };
            self.moderate(by, key, what, grant);
        } else {
            let then = Standing::Demoted(Role::Member);
            self.revoke(by, key, account, then, "", format!("taking operator from {nick}"));
        }
    }

    fn ban(&mut self, by: &str, key: &str, mask: &str) {
        let Some(line) = &self.line else { return };
        let Some(channel) = self.channels.get(key) else { return };
        let own = line.support.fold(&line.nick);
        let fits = |user: &super::super::people::User| user.is_banned_by(mask, &line.support);
        let present = self.people.of_channel(key).filter(|(nick, user)| **nick != own && fits(user));
        let mut accounts: Vec<String> = present
            .filter(|(_, user)| user.spoke.as_ref().is_some_and(|spoke| spoke.channels.contains(key)))
            .map(|(nick, _)| self.people.account(nick))
            .collect();
        accounts.extend(
            channel.state.kicked.iter().filter(|(_, user)| fits(user)).map(|(account, _)| account.clone()),
        );
        accounts.sort();
        accounts.dedup();
        if accounts.is_empty() {
            return;
        }
        if accounts.len() > BANNED_AT_ONCE {
            let text = format!("{key}: the ban {mask} means {} people and stays here", accounts.len());
            return if self.carries(key) {
                self.tell(by, text)
            };
        }
        for account in &accounts {
            let (reason, what) = (format!("banned as {mask}"), format!("the ban {mask}"));
            self.revoke(by, key, account.clone(), Standing::Banned, &reason, what);
        }
        if let Some(channel) = self.channels.get_mut(key) {
            channel.state.banned(mask, Banned { accounts, identity: None });
        }
    }

    fn unban(&mut self, by: &str, key: &str, mask: &str) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let banned = channel.state.bans.remove(mask).unwrap_or_default();
        for account in banned.accounts {
            self.revoke(by, key, account, Standing::Free, "", format!("lifting the ban {mask}"));
        }
        if let Some(identity) = banned.identity {
            let what = format!("lifting the ban {mask}");
            let (subject, then, reason) = (Subject::Identity(identity), Standing::Free, String::new());
            self.moderate(by, key, what, |channel| Intent::RevokeRole { channel, subject, then, reason });
        }
    }

    /// A new topic.
    pub(super) fn topic_set(&mut self, own: bool, by: &str, channel: &str, topic: Option<&str>) {
        let topic = topic.unwrap_or_default().to_owned();
        let key = self.fold(channel);
        self.with_state(channel, |state| state.topic = Some(topic.clone()));
        if own || !self.is_person(by) {
            return;
        }
        let change = Change::Topic(strip(&topic));
        self.moderate(by, &key, "the topic".into(), |channel| Intent::UpdateChannel { channel, change });
    }

    /// The account of somebody for whom the node speaks in a channel.
    fn member(&self, nick: &str, channel: &str) -> Option<String> {
        let spoke = self.people.get(nick)?.spoke.as_ref()?;
        spoke.channels.contains(channel).then(|| self.people.account(nick))
    }

    fn is_person(&self, nick: &str) -> bool {
        self.people.get(&self.fold(nick)).is_some_and(|user| !user.is_service())
    }

    fn revoke(&mut self, by: &str, key: &str, account: String, then: Standing, reason: &str, what: String) {
        let (subject, reason) = (Subject::Name(account), reason.to_owned());
        self.moderate(by, key, what, |channel| Intent::RevokeRole { channel, subject, then, reason });
    }

    /// Hands in what an operator did, in their own name.
    pub(super) fn moderate(
        &mut self,
        by: &str,
        key: &str,
        what: String,
        intent: impl FnOnce(ChannelRef) -> Intent,
    ) {
        let Some(channel) = self.channels.get(key) else { return };
        let agreed = channel.state.agreement == Agreement::Given;
        if !agreed || !self.carries(key) || !self.is_person(by) || self.is_ignored(by) {
            return;
        }
        let (id, via) = (channel.id, Some(channel.link.clone()));
        let intent = intent(ChannelRef::Id(id));
        // Whoever sets a topic takes part; who only kicks does not become a member by it.
        let join_first = matches!(intent, Intent::UpdateChannel { .. });
        let nick = self.fold(by);
        if join_first {
            self.people.speaks(&nick, key);
        }
        let actor: Actor = self.person(by);
        let submission = Submission { actor, intent, via, join_first, tag: 0 };
        self.wish(submission, Some(Asked::Moderated { channel: key.to_owned(), nick, what }));
    }
}

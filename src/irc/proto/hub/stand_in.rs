//! A stand-in for the node in the listener's tests: it keeps channels and a log, as the node does,
//! and answers wishes by the same contract, without machine, replica or disk.

use std::collections::BTreeMap;

use crate::base::{ChannelId, EventId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::Change;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::message::Content;
use crate::chat::policy::Policy;
use crate::chat::profile::Profile;
use crate::chat::view::{ChannelView, Member, News, What};
use crate::node::{Receipt, Refusal};
use crate::port::{Anchor, HistoryQuery, Range};

/// A node's worth of channels.
#[derive(Default)]
pub struct StandIn {
    pub channels: BTreeMap<ChannelId, ChannelView>,
    pub log: Vec<News>,
    pub notes: BTreeMap<String, Vec<u8>>,
    pub now: Timestamp,
}

impl StandIn {
    /// Answers a submission, and gives the news it makes.
    pub fn submit(&mut self, submission: Submission) -> (Result<Receipt, Refusal>, Vec<News>) {
        let Submission { actor, intent, tag, .. } = submission;
        let Actor::Person { account, profile } = actor else { panic!("the listener speaks for people") };
        let who = Member { identity: identity(&account), role: Role::Member, profile };
        let before = self.log.len();
        match self.act(who, intent, tag) {
            Err(refusal) => (Err(refusal), Vec::new()),
            Ok(channel) => {
                let news = self.log[before..].to_vec();
                (
                    Ok(Receipt { channel, event: news.last().map(|news| news.event), ..Receipt::default() }),
                    news,
                )
            }
        }
    }

    fn act(&mut self, who: Member, intent: Intent, tag: u64) -> Result<Option<ChannelId>, Refusal> {
        match intent {
            Intent::JoinChannel { channel: ChannelRef::Name(name), create } => {
                let found = self.channels.values().find(|view| view.name == name).map(|view| view.id);
                let (id, what) = match found {
                    Some(id) => (id, What::Joined),
                    None if create => (ChannelId(*blake3::hash(name.as_bytes()).as_bytes()), What::Created),
                    None => return Err(Refusal::NoSuchChannel(name)),
                };
                if self.member(id, who.identity).is_some() {
                    return Ok(Some(id));
                }
                let role = if what == What::Created { Role::Founder } else { Role::Member };
                let who = Member { role, ..who };
                let (created_at, topic) = (self.now, String::new());
                let (members, links, policy) = (vec![], vec![], Policy::default());
                let view = ChannelView { id, name, topic, created_at, members, policy, links };
                self.channels.entry(id).or_insert(view).members.push(who.clone());
                self.tell(id, who, tag, what);
                Ok(Some(id))
            }
            Intent::LeaveChannel { channel, reason } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                self.channels.get_mut(&id).unwrap().members.retain(|m| m.identity != who.identity);
                self.tell(id, who, tag, What::Left { reason });
                Ok(Some(id))
            }
            Intent::SendMessage { channel, content } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                self.tell(id, who, tag, What::Message(content));
                Ok(Some(id))
            }
            Intent::UpdateChannel { channel, change: Change::Topic(topic) } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                if who.role != Role::Founder {
                    return Err(Refusal::NotPermitted("set_topic"));
                }
                self.channels.get_mut(&id).unwrap().topic.clone_from(&topic);
                self.tell(id, who, tag, What::Topic(topic));
                Ok(Some(id))
            }
            Intent::UpdateChannel { channel, change } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                if who.role != Role::Founder {
                    return Err(Refusal::NotPermitted("set_policy"));
                }
                self.channels.get_mut(&id).unwrap().policy.apply(&change);
                self.tell(id, who, tag, What::Changed(change));
                Ok(Some(id))
            }
            Intent::RedactMessage { channel, target, reason } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                let said = self.log.iter().find(|news| news.event == target);
                let sender =
                    said.map(|news| news.author.identity).ok_or(Refusal::Malformed("no such message"))?;
                if sender != who.identity && who.role > Role::Moderator {
                    return Err(Refusal::NotPermitted("redact_others"));
                }
                self.tell(id, who, tag, What::Redacted { target, sender, reason });
                Ok(Some(id))
            }
            Intent::GrantRole { channel, subject: Subject::Identity(whom), role } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                if who.role != Role::Founder {
                    return Err(Refusal::NotPermitted("grant that role"));
                }
                let members = &mut self.channels.get_mut(&id).unwrap().members;
                let subject = members.iter_mut().find(|m| m.identity == whom);
                let subject = subject.ok_or(Refusal::NoSuchPerson(String::new()))?;
                subject.role = role;
                let subject = subject.clone();
                self.tell(id, who, tag, What::Granted { subject, role });
                Ok(Some(id))
            }
            Intent::RevokeRole { channel, subject: Subject::Identity(whom), then, reason } => {
                let id = self.find(channel)?;
                let who = self.member(id, who.identity).ok_or(Refusal::NotAMember)?;
                if who.role > Role::Moderator {
                    return Err(Refusal::NotPermitted("remove_members"));
                }
                let gone = Member { identity: whom, role: Role::Member, profile: Profile::default() };
                let subject = match then {
                    Standing::Free => self.member(id, whom).unwrap_or(gone),
                    _ => self.member(id, whom).ok_or(Refusal::NoSuchPerson(String::new()))?,
                };
                let members = &mut self.channels.get_mut(&id).unwrap().members;
                match then {
                    Standing::Out | Standing::Banned => members.retain(|m| m.identity != whom),
                    Standing::Demoted(role) => {
                        members.iter_mut().filter(|m| m.identity == whom).for_each(|m| m.role = role);
                    }
                    Standing::Free => {}
                }
                self.tell(id, who, tag, What::Revoked { subject, then, reason });
                Ok(Some(id))
            }
            Intent::UpdateProfile { profile } => {
                for id in self.channels.keys().copied().collect::<Vec<_>>() {
                    let members = &mut self.channels.get_mut(&id).unwrap().members;
                    let Some(member) = members.iter_mut().find(|m| m.identity == who.identity) else {
                        continue;
                    };
                    let before = std::mem::replace(&mut member.profile, profile.clone());
                    let member = member.clone();
                    self.tell(id, member, tag, What::Profile { before });
                }
                Ok(None)
            }
            other => panic!("not the listener's: {other:?}"),
        }
    }

    /// Somebody from elsewhere joins, if need be, and says something.
    pub fn elsewhere(&mut self, home: &str, channel: &str, content: Content) -> Vec<News> {
        let before = self.log.len();
        let id = self.channels.values().find(|view| view.name == channel).expect("a channel").id;
        let username = home.trim_start_matches('@').split([':', '@']).next().unwrap_or("").to_owned();
        let profile = Profile { username, display_name: String::new(), home: home.to_owned() };
        let who = Member { identity: identity(home), role: Role::Member, profile };
        if self.member(id, who.identity).is_none() {
            self.channels.get_mut(&id).unwrap().members.push(who.clone());
            self.tell(id, who.clone(), 0, What::Joined);
        }
        self.tell(id, who, 0, What::Message(content));
        self.log[before..].to_vec()
    }

    /// Answers a query by the contract of `port`.
    pub fn history(&self, query: &HistoryQuery) -> Vec<News> {
        let of: Vec<&News> = self.log.iter().filter(|news| news.channel == query.channel).collect();
        let is_message = |news: &&&News| matches!(news.what, What::Message(_));
        let after = |at: &Anchor, news: &News| match at {
            Anchor::Open => true,
            Anchor::Time(at) => news.at > *at,
            Anchor::Event(event) => self.place(event).is_some_and(|at| news.position > at),
        };
        let before = |at: &Anchor, news: &News| match at {
            Anchor::Open => true,
            Anchor::Time(at) => news.at < *at,
            Anchor::Event(event) => self.place(event).is_some_and(|at| news.position < at),
        };
        match &query.range {
            Range::After(position) => {
                of.into_iter().filter(|n| n.position > *position).take(query.limit).cloned().collect()
            }
            Range::Span(span) => {
                let within = of.iter().filter(|n| !span.messages || is_message(n));
                let within: Vec<&&News> =
                    within.filter(|n| after(&span.after, n) && before(&span.before, n)).collect();
                let skip = if span.newest { within.len().saturating_sub(query.limit) } else { 0 };
                within[skip..].iter().take(query.limit).map(|news| (**news).clone()).collect()
            }
            other => panic!("not asked in these tests: {other:?}"),
        }
    }

    fn place(&self, event: &EventId) -> Option<u64> {
        self.log.iter().find(|news| news.event == *event).map(|news| news.position)
    }

    /// Keeps a note.
    pub fn remember(&mut self, key: String, value: Vec<u8>) {
        if value.is_empty() {
            self.notes.remove(&key)
        } else {
            self.notes.insert(key, value)
        };
    }

    /// What a port opens with.
    pub fn views(&self) -> Vec<ChannelView> {
        self.channels.values().cloned().collect()
    }

    fn find(&self, channel: ChannelRef) -> Result<ChannelId, Refusal> {
        match channel {
            ChannelRef::Id(id) => Ok(id),
            ChannelRef::Name(name) => {
                let found = self.channels.values().find(|view| view.name == name).map(|view| view.id);
                found.ok_or(Refusal::NoSuchChannel(name))
            }
        }
    }

    fn member(&self, channel: ChannelId, identity: Identity) -> Option<Member> {
        self.channels.get(&channel)?.members.iter().find(|member| member.identity == identity).cloned()
    }

    fn tell(&mut self, channel: ChannelId, author: Member, tag: u64, what: What) {
        let position = self.log.len() as u64 + 1;
        let channel_name = self.channels[&channel].name.clone();
        let event = EventId(*blake3::hash(&position.to_le_bytes()).as_bytes());
        self.log.push(News { event, channel, channel_name, position, at: self.now, author, tag, what });
    }
}

fn identity(account: &str) -> Identity {
    Identity(*blake3::hash(account.as_bytes()).as_bytes())
}

//! News of the node: the mirror follows it, and clients see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Effect, Hub, Request, Room};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::view::{ChannelView, Member, News, What};
use crate::irc::proto::caps::{Cap, CapSet};
use crate::irc::proto::line::Line;
use crate::irc::proto::names::Holder;
use crate::irc::proto::render;
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::{Attachment, ClientId, Replay};

/// The lines of one piece of news, by the capabilities of who gets them: a thousand clients with
/// the same capabilities cost one rendering.
type Rendered = BTreeMap<CapSet, Vec<(Line, Arc<str>)>>;

/// Clients that joined a channel which the mirror does not know yet; more are not kept.
pub(super) const LATE_JOINS: usize = 1024;

impl Hub {
    /// Something happened in a channel. News come in the order of the node's log.
    pub fn news(&mut self, now: crate::base::Timestamp, news: News) -> Vec<Effect> {
        self.now = now;
        let request = self.take_request(&news);
        if let Some(request) = &request {
            self.learn(&request.account, news.author.identity);
        }
        let news = Arc::new(news);
        match &request {
            Some(request) => self.respond(request, |hub| hub.apply(&news, Some(request))),
            None => self.apply(&news, None),
        }
        self.take()
    }

    /// The request that caused the news, settled by it. A tag that belongs to somebody else's
    /// identity is not ours.
    fn take_request(&mut self, news: &News) -> Option<Request> {
        let request = self.requests.get(&news.tag)?;
        let known = self.identities.get(&request.account);
        if known.is_some_and(|identity| *identity != news.author.identity) {
            return None;
        }
        let settles = match request.wanted {
            Wanted::Join => matches!(news.what, What::Created | What::Joined),
            Wanted::Part => matches!(news.what, What::Left { .. }),
            Wanted::Say => matches!(news.what, What::Message(_)),
            Wanted::Topic => matches!(news.what, What::Topic(_)),
            // Settled by its receipt: a profile may change in many channels.
            Wanted::Nick => false,
        };
        if settles { self.requests.remove(&news.tag) } else { None }
    }

    fn apply(&mut self, news: &Arc<News>, request: Option<&Request>) {
        let speaker = request.map(|request| request.client);
        let identity = news.author.identity;
        match &news.what {
            What::Created | What::Joined => self.joined(news, request),
            What::Left { .. } => {
                self.fan_out(news, speaker);
                self.left(news.channel, identity);
            }
            What::Topic(topic) => {
                let by = self.shown(&news.author);
                if let Some(room) = self.rooms.get_mut(&news.channel) {
                    room.topic.clone_from(topic);
                    room.topic_by = Some((by, news.at));
                }
                self.fan_out(news, speaker);
            }
            What::Message(_) => self.fan_out(news, speaker),
            What::Profile { before } => self.profiled(news, before),
            // Links are the node's own affair; nobody on IRC has to act on them.
            What::Granted { .. } | What::Revoked { .. } | What::Withdrawn => {}
            What::Redacted { .. } | What::Changed(_) | What::Knocked { .. } | What::Unknown { .. } => {}
            What::Linked(_) | What::Unlinked(_) => {}
        }
    }

    fn joined(&mut self, news: &Arc<News>, request: Option<&Request>) {
        let identity = news.author.identity;
        self.names.claim(identity, &news.author.profile.username);
        let known = self.rooms.contains_key(&news.channel);
        if !known {
            self.mirror(ChannelView {
                id: news.channel,
                name: news.channel_name.clone(),
                topic: String::new(),
                policy: Default::default(),
                created_at: news.at,
                members: Vec::new(),
                links: Vec::new(),
            });
        }
        if let Some(room) = self.rooms.get_mut(&news.channel) {
            room.members.insert(identity, news.author.clone());
        }
        self.fan_out(news, None);
        if let Some(account) = self.accounts.get(&identity).cloned() {
            self.set_cursor(&account, news.channel, news.position);
            self.attach_all(&account, request.map(|r| r.client), news.channel, Some(news.position));
        }
        let late = std::mem::take(&mut self.late);
        for (account, channel) in late {
            self.attach_all(&account, None, channel, None);
        }
    }

    fn left(&mut self, channel: ChannelId, identity: Identity) {
        if let Some(room) = self.rooms.get_mut(&channel) {
            room.members.remove(&identity);
        }
        if let Some(account) = self.accounts.get(&identity).cloned() {
            self.forget_cursor(&account, channel);
            let sessions = self.users.get(&account).map(|user| user.sessions.clone()).unwrap_or_default();
            for id in sessions {
                self.detach(id, channel);
            }
        }
        self.forget_if_gone(&identity);
    }

    fn detach(&mut self, client: ClientId, channel: ChannelId) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.channels.remove(&channel);
            session.unconfirmed.remove(&channel);
        }
        if let Some(room) = self.rooms.get_mut(&channel) {
            room.attached.remove(&client);
        }
    }

    fn profiled(&mut self, news: &News, before: &crate::chat::profile::Profile) {
        let identity = news.author.identity;
        if let Some(room) = self.rooms.get_mut(&news.channel)
            && let Some(member) = room.members.get_mut(&identity)
        {
            member.profile = news.author.profile.clone();
        }
        let username = &news.author.profile.username;
        // A connected user of ours: its nick is the hub's to keep.
        match self.accounts.get(&identity).filter(|account| self.users.contains_key(*account)).cloned() {
            Some(account) => self.renamed_self(&account, username),
            None => {
                if let Some(renamed) = self.names.rename(identity, username) {
                    self.announce(&renamed, before);
                }
            }
        }
    }

    /// Which person an account is, now known.
    pub(super) fn learn(&mut self, account: &str, identity: Identity) {
        if self.identities.get(account) == Some(&identity) {
            return;
        }
        self.identities.insert(account.to_owned(), identity);
        self.accounts.insert(identity, account.to_owned());
        let (key, value) = (format!("me/{account}"), identity.to_string().into_bytes());
        self.effects.push(Effect::Remember { key, value });
        if let Some(nick) = self.users.get(account).map(|user| user.nick.clone())
            && let Some(renamed) = self.names.bind(&nick, identity)
        {
            let profile = self.profile_of(&identity);
            self.announce(&renamed, &profile);
        }
    }

    /// The node says that the user is a member already, and the note of who that is was lost:
    /// the only native member of that name is the one.
    pub(super) fn find_identity(&mut self, account: &str, channel: ChannelId) {
        if self.identities.contains_key(account) {
            return;
        }
        let Some(room) = self.rooms.get(&channel) else { return };
        let named = |member: &&Member| {
            member.profile.home.is_empty() && member.profile.username.eq_ignore_ascii_case(account)
        };
        let mut candidates = room.members.values().filter(named).map(|member| member.identity);
        if let (Some(identity), None) = (candidates.next(), candidates.next())
            && !self.accounts.contains_key(&identity)
        {
            self.learn(account, identity);
        }
    }

    /// Takes a channel into the mirror.
    pub(super) fn mirror(&mut self, view: ChannelView) {
        for member in &view.members {
            self.names.claim(member.identity, &member.profile.username);
        }
        self.by_name.insert(view.name.to_lowercase(), view.id);
        let members = view.members.into_iter().map(|member| (member.identity, member)).collect();
        self.rooms.insert(
            view.id,
            Room {
                name: view.name,
                topic: view.topic,
                topic_by: None,
                created_at: view.created_at,
                members,
                attached: Default::default(),
            },
        );
    }

    /// Shows a channel to every client of a user that does not see it yet: `asking` first.
    pub(super) fn attach_all(
        &mut self,
        account: &str,
        asking: Option<ClientId>,
        channel: ChannelId,
        joined_at: Option<u64>,
    ) {
        if !self.rooms.contains_key(&channel) {
            // The answer overtook the news of the channel.
            if self.late.len() < LATE_JOINS {
                self.late.push((account.to_owned(), channel));
            }
            return;
        }
        let sessions = self.users.get(account).map(|user| user.sessions.clone()).unwrap_or_default();
        let first = asking.filter(|id| sessions.contains(id));
        for id in first.into_iter().chain(sessions.iter().copied().filter(|id| Some(*id) != first)) {
            self.attach(id, channel, joined_at);
        }
    }

    /// Shows a channel to a client: from `joined_at` on for a new member, else with what was missed.
    pub(super) fn attach(&mut self, client: ClientId, channel: ChannelId, joined_at: Option<u64>) {
        let Some(account) = self.account(client).map(str::to_owned) else { return };
        let Some(room) = self.rooms.get_mut(&channel) else { return };
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.channels.contains_key(&channel) {
            return;
        }
        room.attached.insert(client);
        let identity = self.identities.get(&account);
        let founded = identity
            .and_then(|identity| room.members.get(identity))
            .is_some_and(|member| member.role == Role::Founder);
        // A founder has been there from the first event on; of anybody else without a cursor it is
        // not known since when, and history must not leak to who was not there.
        let cursor = self.cursors.get(&(account.clone(), channel)).copied().or(founded.then_some(0));
        let resume = if joined_at.is_none() { cursor } else { None };
        let shown = joined_at.or(resume).unwrap_or(0);
        let replay = resume.map(|_| Replay::default());
        session.channels.insert(channel, Attachment { shown, replay });
        let (name, caps) = (room.name.clone(), session.caps);
        if let Some(user) = self.users.get(&account) {
            let line = render::join_plain(&name, &self.own_prefix(user), &user.realname, caps);
            self.emit(client, line);
        }
        self.show_topic(client, channel);
        self.show_names(client, channel);
        if resume.is_some() {
            self.ask_history(client, channel);
        }
    }

    /// Hands news to everyone who sees the channel. `speaker` is the client that caused it.
    fn fan_out(&mut self, news: &Arc<News>, speaker: Option<ClientId>) {
        let Some(room) = self.rooms.get(&news.channel) else { return };
        let clients: Vec<ClientId> = room.attached.iter().copied().collect();
        let mut rendered = Rendered::new();
        for client in clients {
            let own = speaker == Some(client) && matches!(news.what, What::Message(_));
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            let Some(attachment) = session.channels.get_mut(&news.channel) else { continue };
            match &mut attachment.replay {
                Some(replay) => replay.hold(news, own),
                None => self.show(client, news, own, &mut rendered),
            }
        }
    }

    /// What was held back during a replay, now that it is through.
    pub(super) fn show_held(&mut self, client: ClientId, held: impl Iterator<Item = (Arc<News>, bool)>) {
        for (news, own) in held {
            self.show(client, &news, own, &mut Rendered::new());
        }
    }

    /// Shows one piece of live news to one client, unless it has been shown.
    fn show(&mut self, client: ClientId, news: &Arc<News>, own: bool, rendered: &mut Rendered) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(attachment) = session.channels.get_mut(&news.channel) else { return };
        if news.position <= attachment.shown {
            return;
        }
        attachment.shown = news.position;
        session.unconfirmed.insert(news.channel);
        let caps = session.caps;
        if !own || caps.has(Cap::EchoMessage) {
            let lines = rendered.entry(caps).or_insert_with(|| {
                let lines = self.render(news, caps, "").into_iter();
                lines.map(|line| (line.clone(), line.to_string().into())).collect()
            });
            let captured = self.capture.as_ref().is_some_and(|capture| capture.client == client);
            for (line, wire) in lines.iter() {
                match &mut self.capture {
                    Some(capture) if captured => capture.lines.push(line.clone()),
                    _ => self.effects.push(Effect::Send { client, line: Arc::clone(wire) }),
                }
            }
        }
        self.confirm(client);
    }

    /// News as lines. A replayed line carries a mark where the client lacks server-time.
    pub(super) fn render(&self, news: &News, caps: CapSet, mark: &str) -> Vec<Line> {
        let prefix = self.prefix_now(&news.author);
        let line = |command: &str| {
            render::tags(Line::from(prefix.as_str(), command).param(news.channel_name.as_str()), news, caps)
        };
        match &news.what {
            What::Message(content) => render::message(news, content, &prefix, caps, mark),
            What::Joined | What::Created => {
                vec![render::join(news, &prefix, &self.realname(&news.author), caps)]
            }
            What::Left { reason } if reason.is_empty() => vec![line("PART")],
            What::Left { reason } => vec![line("PART").text(reason.as_str())],
            What::Topic(topic) => vec![line("TOPIC").text(topic.as_str())],
            What::Granted { .. } | What::Revoked { .. } | What::Withdrawn => Vec::new(),
            What::Redacted { .. } | What::Changed(_) | What::Knocked { .. } | What::Unknown { .. } => {
                Vec::new()
            }
            What::Profile { .. } | What::Linked(_) | What::Unlinked(_) => Vec::new(),
        }
    }

    /// The prefix of an author as they are known now: a connected user of ours by its present nick,
    /// so that the clients of that user know the line as their own.
    fn prefix_now(&self, author: &Member) -> String {
        match self.local(&author.identity) {
            Some(user) => self.own_prefix(user),
            None => self.prefix(author),
        }
    }

    /// Whether a nick is a person's or client's here.
    pub(super) fn person(&self, nick: &str) -> Option<Found<'_>> {
        match self.names.holder(nick)? {
            Holder::Client(account) => Some(Found::Client(self.users.get(account)?)),
            Holder::Person(identity) => {
                let member = self.rooms.values().find_map(|room| room.members.get(identity));
                match (self.local(identity), member) {
                    (Some(user), _) => Some(Found::Client(user)),
                    (None, Some(member)) => Some(Found::Member(member)),
                    (None, None) => None,
                }
            }
        }
    }
}

/// Somebody by nick.
pub(super) enum Found<'a> {
    /// A connected user of this listener.
    Client(&'a super::User),
    /// A member of a channel.
    Member(&'a Member),
}

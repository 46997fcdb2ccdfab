//! News of the node: the mirror follows it, and clients see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Effect, Hub, Request, Room};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::view::{ChannelView, Member, News, What};
use crate::irc::proto::caps::{Cap, CapSet};
use crate::irc::proto::line::Line;
use crate::irc::proto::modes::Modes;
use crate::irc::proto::render::{self, Live};
use crate::irc::proto::respond::Wanted;
use crate::irc::proto::session::{Attachment, ClientId, Replay};

/// The lines of one piece of news, by the capabilities of who gets them: a thousand clients with
/// the same capabilities cost one rendering.
type Rendered = BTreeMap<CapSet, Vec<(Line, Arc<str>)>>;

/// Clients that joined a channel which the mirror does not know yet; more are not kept.
pub(super) const LATE_JOINS: usize = 1024;

/// Messages taken back that are remembered.
const REDACTED: usize = 1024;

/// What a piece of news comes with.
struct Fresh {
    /// The client that caused it.
    speaker: Option<ClientId>,
    live: Option<Arc<Live>>,
}

impl Hub {
    /// Something happened in a channel. News come in the order of the node's log.
    pub fn news(&mut self, now: crate::base::Timestamp, news: News) -> Vec<Effect> {
        self.now = now;
        let request = self.take_request(&news);
        if let Some(request) = &request {
            self.learn(&request.person, news.author.identity);
        }
        let news = Arc::new(news);
        match &request {
            Some(request) => self.within(request.group, |hub| hub.apply(&news, Some(request))),
            None => self.apply(&news, None),
        }
        self.take()
    }

    /// The request that caused the news, settled by it. A tag that belongs to somebody else's
    /// identity is not ours.
    fn take_request(&mut self, news: &News) -> Option<Request> {
        let request = self.requests.get(&news.tag)?;
        let known = self.identities.get(&request.person);
        if known.is_some_and(|identity| *identity != news.author.identity) {
            return None;
        }
        let settles = match request.wanted {
            Wanted::Join => matches!(news.what, What::Created | What::Joined),
            Wanted::Part | Wanted::Quit => matches!(news.what, What::Left { .. }),
            Wanted::Say => matches!(news.what, What::Message(_)),
            Wanted::Topic => matches!(news.what, What::Topic(_)),
            Wanted::Knock => matches!(news.what, What::Knocked { .. }),
            Wanted::Policy => matches!(news.what, What::Changed(_)),
            Wanted::Redact(_) => matches!(news.what, What::Redacted { .. }),
            Wanted::Grant => matches!(news.what, What::Granted { .. } | What::Revoked { .. }),
            Wanted::Kick | Wanted::Ban => matches!(news.what, What::Revoked { .. }),
            // Settled by its receipt: a profile may change in many channels.
            Wanted::Nick => false,
        };
        if settles { self.requests.remove(&news.tag) } else { None }
    }

    fn apply(&mut self, news: &Arc<News>, request: Option<&Request>) {
        let fresh = Fresh {
            speaker: request.map(|request| request.client),
            live: request.and_then(|request| request.live.clone()),
        };
        let identity = news.author.identity;
        match &news.what {
            What::Created | What::Joined => self.joined(news, request),
            What::Left { .. } => {
                // Who was shown to quit is gone from every view already.
                if !self.quitting.remove(&(identity, news.channel)) {
                    self.fan_out(news, &fresh);
                    self.left(news.channel, identity);
                } else {
                    self.forget_if_gone(&identity);
                }
            }
            What::Topic(topic) => {
                let by = self.prefix(&news.author);
                if let Some(room) = self.rooms.get_mut(&news.channel) {
                    room.topic.clone_from(topic);
                    room.topic_by = Some((by, news.at));
                }
                self.fan_out(news, &fresh);
            }
            What::Message(_) => self.fan_out(news, &fresh),
            What::Profile { before } => self.profiled(news, before),
            What::Granted { subject, role } => self.granted(news, subject, *role),
            What::Revoked { subject, then, .. } => {
                self.fan_out(news, &fresh);
                self.revoked(news.channel, subject, *then);
            }
            What::Changed(change) => self.policy_changed(news, change, request),
            What::Redacted { target, .. } => {
                self.redacted.push_front(*target);
                self.redacted.truncate(REDACTED);
                self.fan_out(news, &fresh);
            }
            What::Knocked { reason } => {
                self.knocked(news, reason);
                if let Some(request) = request {
                    self.reply(request.client, 711, &[&news.channel_name], "Your KNOCK has been delivered");
                }
            }
            // What is void is not shown to say so twice; links are the node's own affair.
            What::Withdrawn | What::Unknown { .. } | What::Linked(_) | What::Unlinked(_) => {}
        }
    }

    fn joined(&mut self, news: &Arc<News>, request: Option<&Request>) {
        let identity = news.author.identity;
        self.quitting.remove(&(identity, news.channel));
        if self.local(&identity).is_none() {
            self.names.claim(identity, &news.author.profile.username);
        }
        if !self.rooms.contains_key(&news.channel) {
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
        self.fan_out(news, &Fresh { speaker: None, live: None });
        self.show_sign(news);
        self.show_away(news);
        self.show_metadata(news);
        if let Some(person) = self.persons.get(&identity).cloned() {
            if let Some(user) = self.users.get_mut(&person) {
                user.invited.remove(&news.channel);
            }
            self.set_cursor(&person, news.channel, news.position);
            self.mark_passing(&person, identity);
            self.attach_all(&person, request.map(|r| r.client), news.channel, Some(news.position));
        }
        let late = std::mem::take(&mut self.late);
        for (person, channel) in late {
            self.attach_all(&person, None, channel, None);
        }
    }

    /// Others see the sign of who comes in with a role.
    fn show_sign(&mut self, news: &News) {
        let letter = super::role::letter(self.shown_role(&news.author));
        let (Some(letter), What::Joined) = (letter, &news.what) else { return };
        let nick = self.shown(&news.author);
        let line = Line::from(self.settings.server.as_str(), "MODE").param(news.channel_name.as_str());
        let line = line.param(format!("+{letter}")).param(nick);
        self.tell_room(news.channel, &line);
    }

    /// Others see that who comes in is away.
    fn show_away(&mut self, news: &News) {
        let identity = news.author.identity;
        let Some(user) = self.local(&identity) else { return };
        let (Some(away), prefix) = (user.away.clone(), user.prefix()) else { return };
        let line = Line::from(prefix, "AWAY").text(away);
        let to = self.rooms.get(&news.channel).map(|room| room.attached.clone()).unwrap_or_default();
        for id in to.into_iter().filter(|id| self.has(*id, Cap::AwayNotify)).collect::<Vec<_>>() {
            let line = self.dress(line.clone(), id, Some(&identity));
            self.emit(id, line);
        }
    }

    /// A line to everybody who sees a channel.
    pub(super) fn tell_room(&mut self, channel: ChannelId, line: &Line) {
        let to: Vec<ClientId> =
            self.rooms.get(&channel).map(|room| room.attached.iter().copied().collect()).unwrap_or_default();
        for id in to {
            self.emit(id, line.clone());
        }
    }

    /// The same with the tags of what somebody did.
    pub(super) fn tell_room_of(&mut self, channel: ChannelId, line: &Line, by: Option<&Identity>) {
        let to: Vec<ClientId> =
            self.rooms.get(&channel).map(|room| room.attached.iter().copied().collect()).unwrap_or_default();
        for id in to {
            let line = self.dress(line.clone(), id, by);
            self.emit(id, line);
        }
    }

    pub(super) fn left(&mut self, channel: ChannelId, identity: Identity) {
        if let Some(room) = self.rooms.get_mut(&channel) {
            room.members.remove(&identity);
            if room.modes.voices.remove(&identity) {
                self.keep_modes(channel);
            }
        }
        if let Some(person) = self.persons.get(&identity).cloned() {
            self.forget_cursor(&person, channel);
            let sessions = self.users.get(&person).map(|user| user.sessions.clone()).unwrap_or_default();
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

    fn revoked(&mut self, channel: ChannelId, subject: &Member, then: Standing) {
        match then {
            Standing::Out | Standing::Banned => self.left(channel, subject.identity),
            Standing::Demoted(role) => {
                let room = self.rooms.get_mut(&channel);
                if let Some(member) = room.and_then(|room| room.members.get_mut(&subject.identity)) {
                    member.role = role;
                }
            }
            Standing::Free => {}
        }
    }

    fn granted(&mut self, news: &Arc<News>, subject: &Member, role: Role) {
        let room = self.rooms.get_mut(&news.channel);
        let member = room.and_then(|room| room.members.get_mut(&subject.identity));
        let before = member.map(|member| std::mem::replace(&mut member.role, role));
        // To somebody who is not there it is a promise for when they come.
        let Some(before) = before.filter(|before| *before != role) else { return };
        let line = self.role_line(&news.channel_name, &news.author, subject, (before, role));
        self.tell_room_of(news.channel, &line, Some(&news.author.identity));
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
        match self.persons.get(&identity).filter(|person| self.users.contains_key(*person)).cloned() {
            Some(person) => self.renamed_self(&person, username),
            None => {
                if let Some(renamed) = self.names.rename(identity, username) {
                    self.announce(&renamed, before);
                }
            }
        }
    }

    /// Which identity a person has, now known.
    pub(super) fn learn(&mut self, person: &str, identity: Identity) {
        if self.identities.get(person) == Some(&identity) {
            return;
        }
        self.identities.insert(person.to_owned(), identity);
        self.persons.insert(identity, person.to_owned());
        let (key, value) = (format!("me/{person}"), identity.to_string().into_bytes());
        self.effects.push(Effect::Remember { key, value });
        if let Some(nick) = self.users.get(person).map(|user| user.nick.clone())
            && let Some(renamed) = self.names.bind(&nick, identity)
        {
            let profile = self.profile_of(&identity);
            self.announce(&renamed, &profile);
        }
    }

    /// Notes that a person who does not stay is in a channel: should the node stop, they are taken
    /// out of it at the next start.
    fn mark_passing(&mut self, person: &str, identity: Identity) {
        if self.users.contains_key(person) && !self.stays(person) {
            let (key, value) = (format!("passing/{person}"), identity.to_string().into_bytes());
            self.effects.push(Effect::Remember { key, value });
        }
    }

    /// The node says that the user is a member already, and the note of who that is was lost:
    /// the only native member of that name is the one.
    pub(super) fn find_identity(&mut self, person: &str, channel: ChannelId) {
        if self.identities.contains_key(person) {
            return;
        }
        let Some(room) = self.rooms.get(&channel) else { return };
        let named = |member: &&Member| {
            member.profile.home.is_empty() && member.profile.username.eq_ignore_ascii_case(person)
        };
        let mut candidates = room.members.values().filter(named).map(|member| member.identity);
        if let (Some(identity), None) = (candidates.next(), candidates.next())
            && !self.persons.contains_key(&identity)
        {
            self.learn(person, identity);
        }
    }

    /// Takes a channel into the mirror.
    pub(super) fn mirror(&mut self, view: ChannelView) {
        for member in &view.members {
            if self.local(&member.identity).is_none() {
                self.names.claim(member.identity, &member.profile.username);
            }
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
                modes: Modes::default(),
                policy: view.policy,
            },
        );
        if let Some(room) = self.rooms.get_mut(&view.id) {
            room.follow_policy();
        }
    }

    /// Shows a channel to every client of a user that does not see it yet: `asking` first.
    pub(super) fn attach_all(
        &mut self,
        person: &str,
        asking: Option<ClientId>,
        channel: ChannelId,
        joined_at: Option<u64>,
    ) {
        if !self.rooms.contains_key(&channel) {
            // The answer overtook the news of the channel.
            if self.late.len() < LATE_JOINS {
                self.late.push((person.to_owned(), channel));
            }
            return;
        }
        let sessions = self.users.get(person).map(|user| user.sessions.clone()).unwrap_or_default();
        let first = asking.filter(|id| sessions.contains(id));
        for id in first.into_iter().chain(sessions.iter().copied().filter(|id| Some(*id) != first)) {
            self.attach(id, channel, joined_at);
        }
    }

    /// Shows a channel to a client: from `joined_at` on for a new member, else with what was missed.
    pub(super) fn attach(&mut self, client: ClientId, channel: ChannelId, joined_at: Option<u64>) {
        let Some(person) = self.person_of(client).map(str::to_owned) else { return };
        let Some(room) = self.rooms.get_mut(&channel) else { return };
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.channels.contains_key(&channel) {
            return;
        }
        room.attached.insert(client);
        let identity = self.identities.get(&person).copied();
        let founded = identity
            .and_then(|identity| room.members.get(&identity))
            .is_some_and(|member| member.role == Role::Founder);
        // A founder has been there from the first event on; of anybody else without a cursor it is
        // not known since when, and history must not leak to who was not there.
        let cursor = self.cursors.get(&(person.clone(), channel)).copied().or(founded.then_some(0));
        let resume = if joined_at.is_none() { cursor } else { None };
        let shown = joined_at.or(resume).unwrap_or(0);
        // Who can ask for history does, and would see it twice.
        let asks = session.caps.has(Cap::Chathistory);
        let replay = resume.filter(|_| !asks).map(|_| Replay::default());
        let replays = replay.is_some();
        session.channels.insert(channel, Attachment { shown, replay });
        let (name, caps) = (room.name.clone(), session.caps);
        if let Some(user) = self.users.get(&person) {
            let account = user.account.as_deref();
            let line = render::join(&name, &user.prefix(), (account, &user.realname), caps);
            let line = self.dress(line, client, identity.as_ref());
            self.emit(client, line);
        }
        self.show_topic(client, channel, false);
        self.show_marker(client, &name);
        if !caps.has(Cap::NoImplicitNames) {
            self.show_names(client, channel);
        }
        self.sync_on_join(client, channel);
        if replays {
            self.ask_history(client, channel);
        }
    }

    /// Hands news to everyone who sees the channel.
    fn fan_out(&mut self, news: &Arc<News>, fresh: &Fresh) {
        let Some(room) = self.rooms.get(&news.channel) else { return };
        let clients: Vec<ClientId> = room.attached.iter().copied().collect();
        let mut rendered = Rendered::new();
        for client in clients {
            let own = fresh.speaker == Some(client) && matches!(news.what, What::Message(_));
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            let Some(attachment) = session.channels.get_mut(&news.channel) else { continue };
            match &mut attachment.replay {
                Some(replay) => replay.hold(news, own),
                None => self.show(client, news, own, (fresh.live.as_deref(), &mut rendered)),
            }
        }
    }

    /// What was held back during a replay, now that it is through.
    pub(super) fn show_held(&mut self, client: ClientId, held: impl Iterator<Item = (Arc<News>, bool)>) {
        for (news, own) in held {
            self.show(client, &news, own, (None, &mut Rendered::new()));
        }
    }

    /// Shows one piece of live news to one client, unless it has been shown.
    fn show(
        &mut self,
        client: ClientId,
        news: &Arc<News>,
        own: bool,
        (live, rendered): (Option<&Live>, &mut Rendered),
    ) {
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
                let lines = self.render(news, caps, "", live).into_iter();
                lines.map(|line| (line.clone(), line.to_string().into())).collect()
            });
            let captured = self.capturing(client).is_some();
            for (line, wire) in lines.iter() {
                match captured {
                    true => self.emit(client, line.clone()),
                    false => self.effects.push(Effect::Send { client, line: Arc::clone(wire) }),
                }
            }
        }
        self.confirm(client);
    }

    /// News as lines. A replayed line carries a mark where the client lacks server-time.
    pub(super) fn render(&self, news: &News, caps: CapSet, mark: &str, live: Option<&Live>) -> Vec<Line> {
        if live.is_none() && self.redacted.contains(&news.event) {
            return Vec::new();
        }
        let prefix = self.prefix(&news.author);
        let id = news.event.to_string();
        let account = self.account_of(&news.author.identity);
        let bot = self.local(&news.author.identity).is_some_and(|user| user.modes.contains(&'B'));
        let said =
            render::Said { id: &id, at: news.at, prefix: &prefix, account, bot, target: &news.channel_name };
        let line = |command: &str| Line::from(prefix.as_str(), command).param(news.channel_name.as_str());
        let line = match &news.what {
            What::Message(content) => {
                return match live {
                    Some(live) => render::live(&said, live, caps),
                    None => render::message(&said, content, caps, mark),
                };
            }
            What::Joined | What::Created => {
                let realname = self.realname(&news.author);
                render::join(&news.channel_name, &prefix, (account, &realname), caps)
            }
            What::Redacted { target, reason, .. } => {
                if !caps.has(Cap::Redaction) {
                    return Vec::new();
                }
                let line = line("REDACT").param(target.to_string());
                if reason.is_empty() { line } else { line.text(reason.as_str()) }
            }
            What::Left { reason } if reason.is_empty() => line("PART"),
            What::Left { reason } => line("PART").text(reason.as_str()),
            What::Topic(topic) => line("TOPIC").text(topic.as_str()),
            What::Granted { subject, role } => {
                self.role_line(&news.channel_name, &news.author, subject, (Role::Member, *role))
            }
            What::Revoked { subject, then, reason } => {
                let who = self.shown(subject);
                match then {
                    Standing::Out | Standing::Banned => {
                        let reason =
                            if reason.is_empty() { self.shown(&news.author) } else { reason.clone() };
                        line("KICK").param(who).text(reason)
                    }
                    Standing::Demoted(role) => {
                        self.role_line(&news.channel_name, &news.author, subject, (subject.role, *role))
                    }
                    // A ban that is lifted shows as the mask that goes.
                    Standing::Free => return Vec::new(),
                }
            }
            _ => return Vec::new(),
        };
        vec![said.tags(line, caps)]
    }
}

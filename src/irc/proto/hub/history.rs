//! CHATHISTORY and MARKREAD: the past as a client asks for it, and how far it has read.

use super::direct::Direct;
use super::{Effect, Hub, is_channel};
use crate::base::{ChannelId, EventId, Timestamp};
use crate::chat::view::{News, What};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::casemap::fold;
use crate::irc::proto::isupport::HISTORY;
use crate::irc::proto::line::Line;
use crate::irc::proto::session::ClientId;
use crate::irc::proto::stamp;
use crate::port::{Anchor, HistoryQuery, Range, Span};

/// A query under way.
#[derive(Debug)]
pub(super) enum Query {
    /// What a client missed.
    Replay(ClientId, ChannelId),
    /// What a client asked for.
    Asked {
        client: ClientId,
        channel: ChannelId,
        group: Option<u64>,
    },
    /// The newest of one channel, for TARGETS.
    Newest {
        list: u64,
        channel: ChannelId,
    },
    Targets(Box<Targets>),
}

/// TARGETS under way: it waits for one answer per channel.
#[derive(Debug)]
pub(super) struct Targets {
    client: ClientId,
    group: Option<u64>,
    waiting: usize,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
    found: Vec<(Timestamp, String)>,
}

/// A place in the past, as a client names it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Point {
    Id(String),
    Time(Timestamp),
    Open,
}

/// Which messages.
struct Selection {
    after: Point,
    before: Point,
    newest: bool,
    around: Option<Point>,
}

impl Hub {
    /// The node answered a query: oldest first.
    pub fn history(&mut self, now: Timestamp, query: u64, page: Vec<News>) -> Vec<Effect> {
        self.now = now;
        match self.queries.remove(&query) {
            Some(Query::Replay(client, channel)) => self.replay_next(query, (client, channel), &page),
            Some(Query::Asked { client, channel, group }) => {
                self.within(group, |hub| hub.show_asked(client, channel, &page));
            }
            Some(Query::Newest { list, channel }) => self.newest_of(list, channel, &page),
            Some(Query::Targets(_)) | None => {}
        }
        self.take()
    }

    pub(super) fn chathistory(&mut self, client: ClientId, line: &Line) {
        let params = &line.params;
        let wish = params[0].to_ascii_uppercase();
        if wish == "TARGETS" {
            return self.targets(client, params);
        }
        let needed = if wish == "BETWEEN" { 5 } else { 4 };
        if !["BEFORE", "AFTER", "LATEST", "AROUND", "BETWEEN"].contains(&wish.as_str()) {
            return self.standard(
                client,
                "FAIL",
                &["CHATHISTORY", "INVALID_PARAMS", &wish],
                "Unknown command",
            );
        }
        if params.len() < needed {
            return self.standard(
                client,
                "FAIL",
                &["CHATHISTORY", "INVALID_PARAMS", &wish],
                "Insufficient parameters",
            );
        }
        let (target, limit) = (params[1].clone(), params[needed - 1].parse::<usize>());
        let points: Option<Vec<Point>> = params[2..needed - 1].iter().map(|text| point(text)).collect();
        let (Some(points), Ok(limit)) = (points, limit) else {
            return self.standard(
                client,
                "FAIL",
                &["CHATHISTORY", "INVALID_PARAMS", &wish],
                "Invalid parameters",
            );
        };
        let limit = limit.min(HISTORY);
        let Some(selection) = select(&wish, &points) else {
            return self.standard(
                client,
                "FAIL",
                &["CHATHISTORY", "INVALID_PARAMS", &wish],
                "Invalid parameters",
            );
        };
        if target.starts_with('#') {
            return self.ask_channel(client, (&wish, &target), selection, limit);
        }
        self.ask_person(client, (&wish, &target), &selection, limit);
    }

    fn ask_channel(
        &mut self,
        client: ClientId,
        (wish, target): (&str, &str),
        selection: Selection,
        limit: usize,
    ) {
        let room =
            self.room(target).filter(|(_, room)| is_channel(target) && room.attached.contains(&client));
        let Some((channel, _)) = room else {
            let why = "Messages could not be retrieved";
            return self.standard(client, "FAIL", &["CHATHISTORY", "INVALID_TARGET", wish, target], why);
        };
        let messages = !self.has(client, Cap::EventPlayback);
        let anchors =
            (anchor(&selection.after), anchor(&selection.before), selection.around.as_ref().map(anchor));
        let (Some(after), Some(before), around) = anchors else {
            return self.show_asked(client, channel, &[]);
        };
        let range = match around {
            Some(Some(at)) => Range::Around { at, messages },
            Some(None) => return self.show_asked(client, channel, &[]),
            None => Range::Span(Span { after, before, newest: selection.newest, messages }),
        };
        let what = HistoryQuery { channel, range, limit };
        let group = self.expect();
        self.ask(Query::Asked { client, channel, group }, what);
    }

    fn ask(&mut self, query: Query, what: HistoryQuery) {
        self.last_query += 1;
        self.queries.insert(self.last_query, query);
        self.effects.push(Effect::History { query: self.last_query, what });
    }

    fn show_asked(&mut self, client: ClientId, channel: ChannelId, page: &[News]) {
        let Some(session) = self.sessions.get(&client) else { return };
        let Some(name) = self.rooms.get(&channel).map(|room| room.name.clone()) else { return };
        let (caps, playback) = (session.caps, session.caps.has(Cap::EventPlayback));
        let shown = |news: &&News| playback || matches!(news.what, What::Message(_));
        let mut lines = Vec::new();
        for news in page.iter().filter(shown) {
            let mark = match caps.has(Cap::ServerTime) {
                true => String::new(),
                false => stamp::mark(news.at, self.now),
            };
            lines.push((news.at, self.render(news, caps, &mark, None)));
        }
        if playback {
            let key = channel.to_string();
            let of = self.directs.of_channel(&key);
            let range = page.first().map(|news| news.at).zip(page.last().map(|_| self.now));
            let within = |direct: &&Direct| range.is_none_or(|(from, to)| (from..=to).contains(&direct.at));
            lines.extend(of.filter(within).map(|direct| (direct.at, direct.lines(caps, ""))));
            lines.sort_by_key(|(at, _)| *at);
        }
        let lines = lines.into_iter().flat_map(|(_, lines)| lines).collect();
        self.send_page(client, &name, lines);
    }

    fn ask_person(
        &mut self,
        client: ClientId,
        (wish, target): (&str, &str),
        selection: &Selection,
        limit: usize,
    ) {
        let (own, other) = (self.person_of(client).map(str::to_owned), self.person_named(target));
        let (Some(own), Some(other)) = (own, other) else {
            let why = "Messages could not be retrieved";
            return self.standard(client, "FAIL", &["CHATHISTORY", "INVALID_TARGET", wish, target], why);
        };
        let Some(caps) = self.sessions.get(&client).map(|session| session.caps) else { return };
        let all: Vec<&Direct> = self.directs.between(&own, &other).collect();
        let found = pick(&all, selection, limit);
        let mut lines = Vec::new();
        for direct in found {
            let mark = match caps.has(Cap::ServerTime) {
                true => String::new(),
                false => stamp::mark(direct.at, self.now),
            };
            lines.extend(direct.lines(caps, &mark));
        }
        self.send_page(client, target, lines);
    }

    fn targets(&mut self, client: ClientId, params: &[String]) {
        let points: Option<Vec<Point>> =
            params.get(1..3).map(|two| two.iter().filter_map(|text| point(text)).collect());
        let limit = params.get(3).and_then(|limit| limit.parse::<usize>().ok());
        let (Some([Point::Time(a), Point::Time(b)]), Some(limit)) = (points.as_deref(), limit) else {
            return self.standard(
                client,
                "FAIL",
                &["CHATHISTORY", "INVALID_PARAMS", "TARGETS"],
                "Invalid parameters",
            );
        };
        let (from, to) = (*a.min(b), *a.max(b));
        let Some(own) = self.person_of(client).map(str::to_owned) else { return };
        let mut found: Vec<(Timestamp, String)> = Vec::new();
        for (person, last) in self.directs.partners(&own) {
            let nick = match self.users.get(person) {
                Some(user) => user.nick.clone(),
                None if last.from == own => last.nick.clone(),
                None => last.prefix.split('!').next().unwrap_or("").to_owned(),
            };
            found.push((last.at, nick));
        }
        let channels: Vec<ChannelId> = self
            .sessions
            .get(&client)
            .map(|session| session.channels.keys().copied().collect())
            .unwrap_or_default();
        let group = self.expect();
        let waiting = channels.len();
        let limit = limit.min(HISTORY);
        let targets = Targets { client, group, waiting, from, to, limit, found };
        if waiting == 0 {
            return self.within(group, |hub| hub.show_targets(targets));
        }
        self.last_query += 1;
        let list = self.last_query;
        self.queries.insert(list, Query::Targets(Box::new(targets)));
        for channel in channels {
            let span = Span { after: Anchor::Open, before: Anchor::Open, newest: true, messages: true };
            self.ask(
                Query::Newest { list, channel },
                HistoryQuery { channel, range: Range::Span(span), limit: 1 },
            );
        }
    }

    fn newest_of(&mut self, list: u64, channel: ChannelId, page: &[News]) {
        let name = self.rooms.get(&channel).map(|room| room.name.clone());
        let Some(Query::Targets(mut targets)) = self.queries.remove(&list) else { return };
        targets.waiting -= 1;
        if let (Some(news), Some(name)) = (page.last(), name) {
            targets.found.push((news.at, name));
        }
        if targets.waiting > 0 {
            self.queries.insert(list, Query::Targets(targets));
        } else {
            self.within(targets.group, |hub| hub.show_targets(*targets));
        }
    }

    fn show_targets(&mut self, mut targets: Targets) {
        let client = targets.client;
        targets.found.retain(|(at, _)| *at > targets.from && *at < targets.to);
        targets.found.sort();
        targets.found.truncate(targets.limit);
        let (id, server) = (self.batch_id(), self.settings.server.clone());
        let batch = self.has(client, Cap::Batch);
        if batch {
            let open = Line::from(server.as_str(), "BATCH").param(format!("+{id}"));
            self.emit(client, open.param("draft/chathistory-targets"));
        }
        for (at, name) in targets.found {
            let line = Line::from(server.as_str(), "CHATHISTORY").param("TARGETS").param(name);
            let line = line.param(stamp::server_time(at));
            self.emit(client, if batch { line.tag("batch", id.as_str()) } else { line });
        }
        if batch {
            self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
        }
    }

    /// `MARKREAD <target> [timestamp=…]` (draft/read-marker).
    pub(super) fn markread(&mut self, client: ClientId, line: &Line) {
        let Some(target) = line.params.first().filter(|target| !target.is_empty()) else {
            return self.standard(client, "FAIL", &["MARKREAD", "NEED_MORE_PARAMS"], "Missing parameters");
        };
        let sets = line.params.len() > 1;
        let valid = if target.starts_with('#') { self.room(target).is_some() } else { !target.contains(' ') };
        if sets && !valid {
            return self.standard(
                client,
                "FAIL",
                &["MARKREAD", "INVALID_PARAMS", target],
                "There is no such target",
            );
        }
        let (Some(person), folded) =
            (self.person_of(client).map(str::to_owned), fold(&target.to_lowercase()))
        else {
            return;
        };
        let Some(given) = line.params.get(1) else {
            let line = self.marker_line(&person, target);
            return self.emit(client, line);
        };
        let Some(at) = given.strip_prefix("timestamp=").and_then(stamp::parse) else {
            return self.standard(
                client,
                "FAIL",
                &["MARKREAD", "INVALID_PARAMS", given],
                "Invalid timestamp",
            );
        };
        let before = self.markers.get(&(person.clone(), folded.clone())).copied();
        if before.is_none_or(|before| at > before) {
            self.markers.insert((person.clone(), folded.clone()), at);
            if self.stays(&person) || self.accounts.of_person(&person).is_some() {
                let (key, value) = (format!("read/{person}/{folded}"), at.0.to_string().into_bytes());
                self.effects.push(Effect::Remember { key, value });
            }
            let line = self.marker_line(&person, target);
            let others = self.users.get(&person).map(|user| user.sessions.clone()).unwrap_or_default();
            for id in others.into_iter().filter(|id| *id != client) {
                if self.has(id, Cap::ReadMarker) {
                    self.emit(id, line.clone());
                }
            }
        }
        let line = self.marker_line(&person, target);
        self.emit(client, line);
    }

    fn marker_line(&self, person: &str, target: &str) -> Line {
        let folded = fold(&target.to_lowercase());
        let at = self.markers.get(&(person.to_owned(), folded));
        let at = at.map_or("*".to_owned(), |at| format!("timestamp={}", stamp::server_time(*at)));
        Line::from(self.settings.server.as_str(), "MARKREAD").param(target).param(at)
    }

    /// The marker of a channel, at the JOIN.
    pub(super) fn show_marker(&mut self, client: ClientId, channel: &str) {
        if self.has(client, Cap::ReadMarker)
            && let Some(person) = self.person_of(client).map(str::to_owned)
        {
            let line = self.marker_line(&person, channel);
            self.emit(client, line);
        }
    }
}

fn point(text: &str) -> Option<Point> {
    match text.split_once('=') {
        Some(("msgid", id)) if !id.is_empty() => Some(Point::Id(id.to_owned())),
        Some(("timestamp", at)) => Some(Point::Time(stamp::parse(at)?)),
        None if text == "*" => Some(Point::Open),
        _ => None,
    }
}

/// What a subcommand selects; `*` is only for LATEST.
fn select(wish: &str, points: &[Point]) -> Option<Selection> {
    let (first, second) = (points.first()?.clone(), points.get(1).cloned());
    if wish != "LATEST" && points.contains(&Point::Open) {
        return None;
    }
    let span = |after, before, newest| Some(Selection { after, before, newest, around: None });
    match (wish, second) {
        ("LATEST", _) => span(first, Point::Open, true),
        ("BEFORE", _) => span(Point::Open, first, true),
        ("AFTER", _) => span(first, Point::Open, false),
        ("AROUND", _) => {
            Some(Selection { after: Point::Open, before: Point::Open, newest: false, around: Some(first) })
        }
        // From the first towards the second, whichever is earlier: see `pick` and the driver.
        (_, Some(second)) => span(first, second, false),
        _ => None,
    }
}

/// `None` for an id that is no event's.
fn anchor(point: &Point) -> Option<Anchor> {
    match point {
        Point::Open => Some(Anchor::Open),
        Point::Time(at) => Some(Anchor::Time(*at)),
        Point::Id(id) => id.parse::<EventId>().ok().map(Anchor::Event),
    }
}

/// The direct messages that a selection means, oldest first.
fn pick<'a>(all: &[&'a Direct], selection: &Selection, limit: usize) -> Vec<&'a Direct> {
    // The index range of those at a point: empty before the first that is later.
    let place = |point: &Point, open: usize| match point {
        Point::Open => Some((open, open)),
        Point::Time(at) => Some((
            all.partition_point(|direct| direct.at < *at),
            all.partition_point(|direct| direct.at <= *at),
        )),
        Point::Id(id) => all.iter().position(|direct| direct.id == *id).map(|index| (index, index + 1)),
    };
    if let Some(around) = &selection.around {
        let Some((at, _)) = place(around, 0) else { return Vec::new() };
        let from = at.saturating_sub(limit / 2);
        return all[from..].iter().take(limit).copied().collect();
    }
    let (Some(mut after), Some(mut before)) =
        (place(&selection.after, 0), place(&selection.before, all.len()))
    else {
        return Vec::new();
    };
    let mut newest = selection.newest;
    if after.0 > before.0 {
        (after, before) = (before, after);
        newest = true;
    }
    let range = all.get(after.1..before.0).unwrap_or(&[]);
    let skip = if newest { range.len().saturating_sub(limit) } else { 0 };
    range[skip..].iter().take(limit).copied().collect()
}

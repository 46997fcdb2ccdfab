//! A client's lines in their order: what waits, what is under way, and the one place that handles
//! labels and batches of answers.

use super::{Effect, Hub};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::{Input, Line};
use crate::irc::proto::session::{ClientId, HELD_LINES};

/// How long a wish waits for its answer before it is given up.
const REQUEST_MS: u64 = 20_000;
/// Bytes of a label (IRCv3 labeled-response); a longer one is ignored.
const LABEL_BYTES: usize = 64;

/// One line of a client and everything that comes of it.
#[derive(Debug)]
pub struct Group {
    client: ClientId,
    label: Option<String>,
    /// What it was answered with so far, if there is a label to put on it.
    lines: Vec<Line>,
    /// Wishes, queries and jobs that are not settled.
    outstanding: usize,
}

impl Hub {
    /// Handles a line now or, while an earlier one is under way, later.
    pub(super) fn enqueue(&mut self, client: ClientId, input: Input) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if is_pong(&input)
            || (session.held.is_empty() && may_follow(session.under_way, session.saying, &input))
        {
            return self.run(client, input);
        }
        session.held.push_back(input);
        if session.held.len() >= HELD_LINES && !session.paused {
            session.paused = true;
            self.effects.push(Effect::Pause { client });
        }
    }

    fn run(&mut self, client: ClientId, input: Input) {
        let says = is_message(&input);
        let label = match &input {
            Input::Line(line) | Input::NotUtf8(line) => self.label(client, line),
            Input::TooLong => None,
        };
        self.last_group += 1;
        let id = self.last_group;
        self.groups.insert(id, Group { client, label, lines: Vec::new(), outstanding: 0 });
        if let Some(session) = self.sessions.get_mut(&client) {
            session.saying = says && (session.saying || session.under_way == 0);
            session.under_way += 1;
        }
        let before = self.current.replace(id);
        match input {
            Input::TooLong => self.reply(client, 417, &[], "Input line was too long"),
            Input::NotUtf8(line) => {
                let command = Self::commands().find(|name| *name == line.command).unwrap_or("*");
                let why = "Your line was not valid UTF-8 and was not taken";
                self.standard(client, "FAIL", &[command, "INVALID_UTF8"], why);
            }
            Input::Line(line) => self.dispatch(client, &line),
        }
        self.current = before;
        self.finish_if_settled(id);
    }

    fn label(&self, client: ClientId, line: &Line) -> Option<String> {
        let labels = self.has(client, Cap::LabeledResponse);
        let label = line.tagged("label").filter(|label| labels && (1..=LABEL_BYTES).contains(&label.len()));
        label.map(str::to_owned)
    }

    /// Something asynchronous comes of the line at hand.
    pub(super) fn expect(&mut self) -> Option<u64> {
        let id = self.current?;
        self.groups.get_mut(&id)?.outstanding += 1;
        Some(id)
    }

    /// Gives the group at hand a label of its own: that of a batch.
    pub(super) fn relabel(&mut self, label: Option<String>) {
        if let Some(group) = self.current.and_then(|id| self.groups.get_mut(&id)) {
            group.label = label;
        }
    }

    /// Lines go out without a label from here on: of a line that is answered later.
    pub(super) fn unlabel(&mut self) {
        self.relabel(None);
    }

    /// Runs what settles one expectation of a group, so that what it says to the client is the
    /// group's.
    pub(super) fn within(&mut self, group: Option<u64>, act: impl FnOnce(&mut Self)) {
        let Some(id) = group.filter(|id| self.groups.contains_key(id)) else {
            let before = self.current.take();
            act(self);
            self.current = before;
            return;
        };
        let before = self.current.replace(id);
        act(self);
        self.current = before;
        if let Some(group) = self.groups.get_mut(&id) {
            group.outstanding = group.outstanding.saturating_sub(1);
        }
        self.finish_if_settled(id);
    }

    fn finish_if_settled(&mut self, id: u64) {
        if self.groups.get(&id).is_none_or(|group| group.outstanding > 0) {
            return;
        }
        let Some(group) = self.groups.remove(&id) else { return };
        let client = group.client;
        let before = self.current.take();
        if let Some(label) = &group.label {
            self.release(client, label, group.lines);
        }
        self.current = before;
        if let Some(session) = self.sessions.get_mut(&client) {
            session.under_way = session.under_way.saturating_sub(1);
        }
        self.run_held(client);
    }

    /// Goes on with what waited.
    fn run_held(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if std::mem::replace(&mut session.draining, true) {
            return;
        }
        self.run_what_is_held(client);
        if let Some(session) = self.sessions.get_mut(&client) {
            session.draining = false;
        }
    }

    fn run_what_is_held(&mut self, client: ClientId) {
        while let Some(session) = self.sessions.get_mut(&client) {
            let Some(next) = session.held.front() else {
                if std::mem::take(&mut session.paused) {
                    self.effects.push(Effect::Resume { client });
                }
                return;
            };
            if !may_follow(session.under_way, session.saying, next) {
                return;
            }
            let Some(next) = session.held.pop_front() else { return };
            self.run(client, next);
        }
    }

    /// Gives up wishes of which nothing was heard.
    pub(super) fn give_up_late(&mut self) {
        let now = self.now;
        let late = self.requests.iter().filter(|(_, r)| now.since_ms(r.at) > REQUEST_MS);
        for tag in late.map(|(tag, _)| *tag).collect::<Vec<_>>() {
            if let Some(request) = self.requests.remove(&tag) {
                self.within(request.group, |_| {});
            }
        }
    }

    /// A line to a client. An answer to a labeled line is kept until all of it is there.
    pub(super) fn emit(&mut self, client: ClientId, line: Line) {
        if let Some(group) = self.capturing(client) {
            return group.lines.push(line);
        }
        // What somebody asked for may come when they are gone.
        if !self.sessions.contains_key(&client) {
            return;
        }
        self.effects.push(Effect::Send { client, line: line.to_string().into() });
    }

    /// The group that keeps lines to this client, if one does.
    pub(super) fn capturing(&mut self, client: ClientId) -> Option<&mut Group> {
        let group = self.groups.get_mut(&self.current?)?;
        (group.client == client && group.label.is_some()).then_some(group)
    }

    /// Sends what was answered: as ACK, as one line, or as a batch.
    fn release(&mut self, client: ClientId, label: &str, mut lines: Vec<Line>) {
        if !self.sessions.contains_key(&client) {
            return;
        }
        let server = self.settings.server.clone();
        if lines.len() < 2 {
            let line = lines.pop().unwrap_or_else(|| Line::from(server, "ACK"));
            return self.emit(client, line.tag("label", label));
        }
        // A batch that is the whole answer carries the label itself.
        let is_one_batch = lines[0].command == "BATCH"
            && lines[0].params.first().is_some_and(|first| {
                let end =
                    lines.last().filter(|last| last.command == "BATCH").and_then(|last| last.params.first());
                end.is_some_and(|end| end.strip_prefix('-') == first.strip_prefix('+'))
            });
        if is_one_batch {
            let first = lines.remove(0);
            self.emit(client, first.tag("label", label));
            return lines.into_iter().for_each(|line| self.emit(client, line));
        }
        let id = self.batch_id();
        let open = Line::from(server.as_str(), "BATCH").param(format!("+{id}")).param("labeled-response");
        self.emit(client, open.tag("label", label));
        for line in lines {
            let line = if line.tagged("batch").is_some() { line } else { line.tag("batch", id.as_str()) };
            self.emit(client, line);
        }
        self.emit(client, Line::from(server, "BATCH").param(format!("-{id}")));
    }

    pub(super) fn batch_id(&mut self) -> String {
        self.last_batch += 1;
        format!("b{}", self.last_batch)
    }

    /// Forgets what a client that is gone had under way, sending what was kept for it.
    pub(super) fn abandon(&mut self, client: ClientId) {
        let of = self.groups.iter().filter(|(_, group)| group.client == client);
        for id in of.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.groups.remove(&id);
        }
    }

    /// Sends at once what the line at hand was answered with so far: the end comes.
    pub(super) fn flush(&mut self, client: ClientId) {
        let Some(group) = self.current.and_then(|id| self.groups.get_mut(&id)) else { return };
        if group.client != client {
            return;
        }
        let (label, lines) = (group.label.take(), std::mem::take(&mut group.lines));
        for line in lines {
            let line = match &label {
                Some(label) => line.tag("label", label.as_str()),
                None => line,
            };
            self.emit(client, line);
        }
        if let Some(group) = self.current.and_then(|id| self.groups.get_mut(&id)) {
            group.label = label;
        }
    }
}

fn may_follow(under_way: usize, saying: bool, input: &Input) -> bool {
    under_way == 0 || (saying && is_message(input))
}

fn is_message(input: &Input) -> bool {
    // A CTCP request does not go by the node: it would overtake what does.
    let plain = |line: &Line| line.params.get(1).is_none_or(|text| !text.starts_with('\x01'));
    let says = |line: &Line| matches!(line.command.as_str(), "PRIVMSG" | "NOTICE") && plain(line);
    matches!(input, Input::Line(line) if says(line) && line.params.first().is_some_and(|to| to.starts_with('#')))
}

fn is_pong(input: &Input) -> bool {
    matches!(input, Input::Line(line) if line.command == "PONG")
}

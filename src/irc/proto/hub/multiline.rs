//! Multiline messages on their way in: BATCH from clients (draft/multiline).

use super::message::client_tags;
use super::{Hub, shorten};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::line::Line;
use crate::irc::proto::render::Live;
use crate::irc::proto::session::{ClientId, OPEN_BATCHES, OpenBatch};
use crate::irc::proto::{MULTILINE_BYTES, MULTILINE_LINES};

/// The type of the batch, and the tag of a line that continues the one before.
const MULTILINE: &str = "draft/multiline";
const CONCAT: &str = "draft/multiline-concat";
/// Bytes of a client's own reference of a batch.
const REFERENCE_BYTES: usize = 64;

impl Hub {
    pub(super) fn batch(&mut self, client: ClientId, line: &Line) {
        let reference = &line.params[0];
        if let Some(name) = reference.strip_prefix('+') {
            return self.open_batch(client, name, line);
        }
        let name = reference.strip_prefix('-').unwrap_or("");
        let batch = self.sessions.get_mut(&client).and_then(|session| session.batches.remove(name));
        match batch {
            Some(batch) => self.close_batch(client, batch),
            None => self.standard(client, "FAIL", &["BATCH", "TIMEOUT", name], "There is no such batch"),
        }
    }

    fn open_batch(&mut self, client: ClientId, name: &str, line: &Line) {
        let (kind, target) = (line.params.get(1), line.params.get(2));
        let (Some(MULTILINE), Some(target)) = (kind.map(String::as_str), target) else {
            let what = kind.cloned().unwrap_or_default();
            return self.standard(
                client,
                "FAIL",
                &["BATCH", "UNKNOWN_TYPE", &what],
                "Only draft/multiline is taken",
            );
        };
        if !self.has(client, Cap::Multiline) {
            return self.standard(
                client,
                "FAIL",
                &["BATCH", "UNKNOWN_TYPE", MULTILINE],
                "Request the capability first",
            );
        }
        let label =
            line.tagged("label").map(str::to_owned).filter(|_| self.has(client, Cap::LabeledResponse));
        let (target, tags) = (target.clone(), client_tags(line));
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let taken = session.batches.len() >= OPEN_BATCHES || session.batches.contains_key(name);
        if taken || name.is_empty() || name.len() > REFERENCE_BYTES {
            return self.standard(
                client,
                "FAIL",
                &["BATCH", "MULTILINE_INVALID"],
                "That batch cannot be opened",
            );
        }
        let batch = OpenBatch { target, label, tags, notice: false, lines: Vec::new(), bytes: 0 };
        session.batches.insert(name.to_owned(), batch);
        // The answer comes with the end of the batch.
        self.unlabel();
    }

    /// Whether a message is a line of an open batch; it is taken if so.
    pub(super) fn takes_into_batch(&mut self, client: ClientId, line: &Line) -> bool {
        let Some(name) = line.tagged("batch").map(str::to_owned) else { return false };
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        let Some(batch) = session.batches.get_mut(&name) else { return false };
        let (target, text) = (line.params.first(), line.params.get(1).cloned().unwrap_or_default());
        let concat = line.tagged(CONCAT).is_some();
        let problem = if target != Some(&batch.target) {
            Some(("MULTILINE_INVALID_TARGET", "A line of it has another target".to_owned()))
        } else if concat && text.is_empty() {
            Some(("MULTILINE_INVALID", "A blank line cannot continue another".to_owned()))
        } else if batch.bytes + text.len() + usize::from(!concat) > MULTILINE_BYTES + 1 {
            Some(("MULTILINE_MAX_BYTES", format!("It has more than {MULTILINE_BYTES} bytes")))
        } else if batch.lines.len() >= MULTILINE_LINES {
            Some(("MULTILINE_MAX_LINES", format!("It has more than {MULTILINE_LINES} lines")))
        } else {
            None
        };
        if let Some((code, why)) = problem {
            session.batches.remove(&name);
            let limit = match code {
                "MULTILINE_MAX_BYTES" => Some(MULTILINE_BYTES.to_string()),
                "MULTILINE_MAX_LINES" => Some(MULTILINE_LINES.to_string()),
                _ => None,
            };
            let params: Vec<&str> = ["BATCH", code].into_iter().chain(limit.as_deref()).collect();
            self.standard(client, "FAIL", &params, &why);
            return true;
        }
        batch.bytes += text.len() + usize::from(!concat);
        batch.notice |= line.command == "NOTICE";
        batch.lines.push((text, concat));
        self.unlabel();
        true
    }

    fn close_batch(&mut self, client: ClientId, batch: OpenBatch) {
        self.relabel(batch.label);
        self.spoke(client);
        if batch.lines.iter().all(|(text, _)| text.trim().is_empty()) {
            let why = "A message has to say something";
            return self.standard(client, "FAIL", &["BATCH", "MULTILINE_INVALID"], why);
        }
        let live = Live { notice: batch.notice, tags: batch.tags, lines: batch.lines };
        let target = shorten(&batch.target, 200);
        self.deliver(client, &target, live);
    }
}

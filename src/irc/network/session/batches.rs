//! Batches (ircv3.net/specs/extensions/batch): what belongs together.

use irc::proto::{BatchSubCommand, Command, Message};

use super::inbound::tag;
use super::{Line, Session, report_output};
use crate::base::{Timestamp, limits};

/// Batches that may be open.
const OPEN: usize = 64;
/// Lines of one message.
const LINES: usize = 256;

/// An open batch.
pub(super) struct Batch {
    sort: Sort,
    /// The message that opened it: source and tags of what comes of it.
    opening: Message,
    text: String,
    notice: bool,
    lines: usize,
}

#[derive(Clone, PartialEq, Eq)]
enum Sort {
    Split,
    /// One message of several lines, to that target.
    Multiline(String),
    History,
    /// Of no interest: its messages count as they are.
    Other,
}

impl Session {
    /// `BATCH +ref type …` or `BATCH -ref`.
    pub(super) fn batch(
        &mut self,
        now: Timestamp,
        reference: &str,
        sort: Option<&BatchSubCommand>,
        args: Option<&[String]>,
        message: &Message,
    ) {
        let Some(line) = &mut self.line else { return };
        if let Some(reference) = reference.strip_prefix('+') {
            let target = args.and_then(<[String]>::first).cloned().unwrap_or_default();
            let sort = sort.map_or("", BatchSubCommand::to_str).to_ascii_lowercase();
            let sort = match sort.as_str() {
                "netsplit" => Sort::Split,
                "draft/multiline" | "multiline" => Sort::Multiline(target),
                "chathistory" => Sort::History,
                _ => Sort::Other,
            };
            if line.batches.len() < OPEN {
                let (opening, text) = (message.clone(), String::new());
                let batch = Batch { sort, opening, text, notice: false, lines: 0 };
                line.batches.insert(reference.to_owned(), batch);
            }
            return;
        }
        let Some(batch) = reference.strip_prefix('-').and_then(|reference| line.batches.remove(reference))
        else {
            return;
        };
        let Sort::Multiline(target) = batch.sort else { return };
        let Some(nick) = batch.opening.source_nickname().map(str::to_owned) else { return };
        if line.support.fold(&nick) == line.support.fold(&line.nick) || batch.lines == 0 {
            return;
        }
        self.heard(now, &nick, &target, &batch.text, batch.notice, &batch.opening);
    }

    /// Whether a message is only a part of something larger, and was put there.
    pub(super) fn in_batch(&mut self, message: &Message) -> bool {
        let Some(line) = &mut self.line else { return false };
        let own = message.source_nickname().is_some_and(|nick| is_own(line, nick));
        let Some(batch) = tag(message, "batch").and_then(|reference| line.batches.get_mut(reference)) else {
            return false;
        };
        match (&batch.sort, &message.command) {
            (Sort::Multiline(_), Command::PRIVMSG(_, text) | Command::NOTICE(_, text)) => {
                let fits = batch.text.len() + text.len() < limits::BODY_BYTES && batch.lines < LINES;
                if fits {
                    if batch.lines > 0 && tag_is_there(message, "draft/multiline-concat").is_none() {
                        batch.text.push('\n');
                    }
                    batch.text.push_str(text);
                    batch.lines += 1;
                }
                batch.notice = matches!(message.command, Command::NOTICE(..));
                true
            }
            // Without an id nobody can say whether it came before; and our own came by way of the node.
            (Sort::History, _) => own || tag(message, "msgid").is_none() || !is_speech(message),
            _ => false,
        }
    }

    /// Whether a message belongs to a netsplit.
    pub(super) fn is_netsplit(&self, message: &Message) -> bool {
        let Some(line) = &self.line else { return false };
        tag(message, "batch")
            .and_then(|reference| line.batches.get(reference))
            .is_some_and(|batch| batch.sort == Sort::Split)
    }

    /// An answer that bears one of our labels: the network has taken that line.
    pub(super) fn labelled(&mut self, message: &Message) {
        let label = tag(message, "label").and_then(|label| label.strip_prefix("mc")?.parse::<u64>().ok());
        let Some(label) = label else { return };
        // A line that the channel would not have is not delivered: `muted` gives it back.
        let refused =
            matches!(message.command, Command::Response(irc::proto::Response::ERR_CANNOTSENDTOCHAN, _));
        if refused {
            return;
        }
        let id = tag(message, "msgid");
        let mut done = Vec::new();
        for channel in self.channels.values_mut() {
            if let Some(event) = channel.echoed(Some(label), id, &mut done) {
                if let Some(id) = id {
                    self.known.named(event, id, true);
                }
                break;
            }
        }
        self.out.extend(done.into_iter().map(report_output));
    }
}

fn is_speech(message: &Message) -> bool {
    matches!(message.command, Command::PRIVMSG(..) | Command::NOTICE(..))
}

fn is_own(line: &Line, nick: &str) -> bool {
    line.support.fold(nick) == line.support.fold(&line.nick)
}

fn tag_is_there<'a>(message: &'a Message, name: &str) -> Option<&'a irc::proto::message::Tag> {
    message.tags.as_ref()?.iter().find(|tag| tag.0 == name)
}

//! The IRCv3 capabilities that the listener really has.

/// A capability. The order is the order of `CAP LS`: what clients cannot do without comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Cap {
    Sasl,
    ServerTime,
    MessageTags,
    Batch,
    EchoMessage,
    LabeledResponse,
    CapNotify,
    MultiPrefix,
    UserhostInNames,
    ExtendedJoin,
    AccountTag,
    AccountNotify,
    AwayNotify,
    Setname,
    Chghost,
    InviteNotify,
    StandardReplies,
    SelfMessage,
    ExtendedMonitor,
    Chathistory,
    EventPlayback,
    ReadMarker,
    Multiline,
    Registration,
    PreAway,
    NoImplicitNames,
    ExtendedIsupport,
    Redaction,
    Metadata,
}

const ALL: [(Cap, &str); 29] = [
    (Cap::Sasl, "sasl"),
    (Cap::ServerTime, "server-time"),
    (Cap::MessageTags, "message-tags"),
    (Cap::Batch, "batch"),
    (Cap::EchoMessage, "echo-message"),
    (Cap::LabeledResponse, "labeled-response"),
    (Cap::CapNotify, "cap-notify"),
    (Cap::MultiPrefix, "multi-prefix"),
    (Cap::UserhostInNames, "userhost-in-names"),
    (Cap::ExtendedJoin, "extended-join"),
    (Cap::AccountTag, "account-tag"),
    (Cap::AccountNotify, "account-notify"),
    (Cap::AwayNotify, "away-notify"),
    (Cap::Setname, "setname"),
    (Cap::Chghost, "chghost"),
    (Cap::InviteNotify, "invite-notify"),
    (Cap::StandardReplies, "standard-replies"),
    (Cap::SelfMessage, "znc.in/self-message"),
    (Cap::ExtendedMonitor, "extended-monitor"),
    (Cap::Chathistory, "draft/chathistory"),
    (Cap::EventPlayback, "draft/event-playback"),
    (Cap::ReadMarker, "draft/read-marker"),
    (Cap::Multiline, "draft/multiline"),
    (Cap::Registration, "draft/account-registration"),
    (Cap::PreAway, "draft/pre-away"),
    (Cap::NoImplicitNames, "draft/no-implicit-names"),
    (Cap::ExtendedIsupport, "draft/extended-isupport"),
    (Cap::Redaction, "draft/message-redaction"),
    (Cap::Metadata, "draft/metadata-3"),
];

/// Bytes of one line of `CAP LS`: the rest of a line of 512 with the longest head.
const LINE_BYTES: usize = 400;

/// The capabilities one client has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// Whether it has one.
    pub fn has(self, cap: Cap) -> bool {
        self.0 & (1 << cap as u8) != 0
    }

    /// Gives it one.
    pub fn add(&mut self, cap: Cap) {
        self.0 |= 1 << cap as u8;
    }

    /// Takes one away.
    pub fn remove(&mut self, cap: Cap) {
        self.0 &= !(1 << cap as u8);
    }

    /// This set changed as a `CAP REQ` asks, or `None` if it asks for one that is not there.
    pub fn requested(mut self, request: &str) -> Option<Self> {
        for word in request.split_ascii_whitespace() {
            match word.strip_prefix('-') {
                Some(name) => self.remove(named(name)?),
                None => self.add(named(word)?),
            }
        }
        Some(self)
    }

    /// Their names, as `CAP LIST` shows them.
    pub fn names(self) -> String {
        let held = ALL.iter().filter(|(cap, _)| self.has(*cap));
        held.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }

    /// Every capability.
    pub fn all() -> Self {
        let mut set = Self::default();
        for (cap, _) in ALL {
            set.add(cap);
        }
        set
    }

    /// The lines of `CAP LS` for a client that takes several of them, with values; `more` comes last.
    pub fn listed(self, value: impl Fn(Cap) -> Option<String>, more: &[String]) -> Vec<String> {
        let mut lines = vec![String::new()];
        let held = ALL.iter().filter(|(cap, _)| self.has(*cap));
        let words = held.map(|(cap, name)| match value(*cap) {
            Some(value) => format!("{name}={value}"),
            None => (*name).to_owned(),
        });
        for word in words.chain(more.iter().cloned()) {
            let at = lines.len() - 1;
            if !lines[at].is_empty() && lines[at].len() + 1 + word.len() > LINE_BYTES {
                lines.push(word);
                continue;
            }
            if !lines[at].is_empty() {
                lines[at].push(' ');
            }
            lines[at].push_str(&word);
        }
        lines
    }
}

fn named(name: &str) -> Option<Cap> {
    ALL.iter().find(|(_, known)| *known == name).map(|(cap, _)| *cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_enough_for_all() {
        let names = CapSet::all().names();
        assert!(names.starts_with("sasl server-time message-tags"));
        // `:server CAP * LS :` before it; a longer server name cuts off the rarest alone.
        assert!(names.len() < 460, "clients without 302 must get them in one line: {}", names.len());
        let some = CapSet::default().requested("batch server-time -batch").unwrap();
        assert_eq!(some.names(), "server-time");
        assert_eq!(CapSet::default().requested("batch sts"), None);
    }

    #[test]
    fn with_values_they_take_as_many_lines_as_they_need() {
        let long = |cap| (cap == Cap::Sasl).then(|| "X".repeat(300));
        let lines = CapSet::all().listed(long, &["sts=port=6697".to_owned()]);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= LINE_BYTES));
        assert!(lines[0].starts_with("sasl=XXX") && lines.last().unwrap().ends_with(" sts=port=6697"));
    }
}

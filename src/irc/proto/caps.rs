//! The IRCv3 capabilities that the listener really has.

/// A capability. The order is the order of `CAP LS`: what clients cannot do without comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Cap {
    ServerTime,
    MessageTags,
    Batch,
    EchoMessage,
    LabeledResponse,
    CapNotify,
    MultiPrefix,
    UserhostInNames,
    ExtendedJoin,
    AwayNotify,
    Setname,
    SelfMessage,
}

const ALL: [(Cap, &str); 12] = [
    (Cap::ServerTime, "server-time"),
    (Cap::MessageTags, "message-tags"),
    (Cap::Batch, "batch"),
    (Cap::EchoMessage, "echo-message"),
    (Cap::LabeledResponse, "labeled-response"),
    (Cap::CapNotify, "cap-notify"),
    (Cap::MultiPrefix, "multi-prefix"),
    (Cap::UserhostInNames, "userhost-in-names"),
    (Cap::ExtendedJoin, "extended-join"),
    (Cap::AwayNotify, "away-notify"),
    (Cap::Setname, "setname"),
    (Cap::SelfMessage, "znc.in/self-message"),
];

/// The capabilities one client has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct CapSet(u16);

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
        assert!(names.starts_with("server-time message-tags"));
        assert!(names.len() < 400, "clients without 302 must get them in one line");
        let some = CapSet::default().requested("batch server-time -batch").unwrap();
        assert_eq!(some.names(), "server-time");
        assert_eq!(CapSet::default().requested("batch sasl"), None);
    }
}

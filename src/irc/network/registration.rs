//! From a fresh connection to a welcome: capabilities, SASL (PLAIN, EXTERNAL, SCRAM-SHA-256), nick.
//!
//! It follows ircv3.net/specs/extensions/capability-negotiation and sasl-3.2. With an account
//! configured it never goes on without being logged in, unless the password may be told to NickServ,
//! which happens after the welcome.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use irc::proto::{CapSubCommand, Command, Message, Response};

use super::scram::Scram;
use crate::base::Kind;
use crate::base::config::SaslMechanism;

/// What is asked for where it is offered, besides SASL. Not asked for is what would only cost
/// traffic as long as nobody is shown it: `away-notify`, `setname`.
pub(super) const WANTED: [&str; 16] = [
    "message-tags",
    "server-time",
    "echo-message",
    "account-tag",
    "labeled-response",
    "batch",
    "account-notify",
    "extended-join",
    "multi-prefix",
    "userhost-in-names",
    "chghost",
    "invite-notify",
    "cap-notify",
    "draft/message-redaction",
    "draft/multiline",
    "draft/chathistory",
];
/// Capabilities that are remembered of what a server offers.
const OFFERS: usize = 256;
/// Bytes of a SASL challenge that are taken in.
const CHALLENGE_BYTES: usize = 16 * 1024;
/// Nicks that are tried before giving up this attempt.
const NICK_ATTEMPTS: u32 = 20;

/// Who we are on the network. Not `Debug`: it must not get into a log.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub nick: String,
    /// Who runs the relay, as everybody on the network can see it.
    pub real_name: String,
    pub account: Option<Account>,
}

/// An account with the network's services.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub password: String,
    pub mechanism: SaslMechanism,
    /// Without SASL, tell the password to NickServ.
    pub nickserv: bool,
    /// Nobody can foresee it; for SCRAM.
    pub nonce: String,
}

/// What a step of the registration leads to.
#[derive(Debug)]
pub(super) enum Step {
    Send(Vec<Message>),
    /// Registered, under this nick.
    Welcome(String),
    /// It cannot go on. `Some` kind: the network said no to what is configured; `None`: trying
    /// again may help.
    Stop(Option<Kind>, String),
}

/// A registration under way.
pub(super) struct Registration {
    credentials: Credentials,
    /// What the server offers, with the values it gave.
    offered: BTreeMap<String, String>,
    /// What the server has agreed to.
    pub enabled: BTreeSet<String>,
    /// Requests without an answer.
    requested: usize,
    scram: Option<Scram>,
    /// What of a long `AUTHENTICATE` came so far.
    challenge: String,
    pub logged_in: bool,
    attempts: u32,
}

impl Registration {
    /// A registration, and what opens it.
    pub fn start(credentials: Credentials) -> (Self, Vec<Message>) {
        let nick = credentials.nick.clone();
        let opening = vec![
            Command::CAP(None, CapSubCommand::LS, None, Some("302".into())).into(),
            Command::NICK(nick.clone()).into(),
            Command::USER(nick, "0".into(), credentials.real_name.clone()).into(),
        ];
        let registration = Self {
            credentials,
            offered: BTreeMap::new(),
            enabled: BTreeSet::new(),
            requested: 0,
            scram: None,
            challenge: String::new(),
            logged_in: false,
            attempts: 0,
        };
        (registration, opening)
    }

    /// The value of a capability that was offered: `PLAIN,EXTERNAL` of `sasl`.
    pub fn value(&self, capability: &str) -> &str {
        self.offered.get(capability).map_or("", String::as_str)
    }

    /// What follows from a message of the server.
    pub fn receive(&mut self, message: &Message) -> Step {
        match &message.command {
            Command::CAP(_, sub, a, b) => self.capability(*sub, a.as_deref(), b.as_deref()),
            Command::AUTHENTICATE(challenge) => self.authenticate(challenge),
            Command::Response(response, args) => self.response(*response, args),
            Command::Raw(number, args) if number == "902" => {
                let said = args.last().map_or("", String::as_str);
                Step::Stop(None, format!("the network refused the account: {said}"))
            }
            Command::ERROR(reason) => {
                Step::Stop(None, format!("the network closed the connection: {reason}"))
            }
            _ => Step::Send(Vec::new()),
        }
    }

    fn capability(&mut self, sub: CapSubCommand, a: Option<&str>, b: Option<&str>) -> Step {
        // `CAP * LS * :more` continues, `CAP * LS :last` does not.
        let more = a == Some("*") && b.is_some();
        let list = b.or(a).unwrap_or_default();
        match sub {
            CapSubCommand::LS => {
                let names = list.split(' ').filter(|name| !name.is_empty());
                for (name, value) in names.map(|name| name.split_once('=').unwrap_or((name, ""))) {
                    if self.offered.len() < OFFERS {
                        self.offered.insert(name.to_owned(), value.to_owned());
                    }
                }
                if more { Step::Send(Vec::new()) } else { self.request() }
            }
            CapSubCommand::ACK | CapSubCommand::NAK => {
                self.requested = self.requested.saturating_sub(1);
                let names: Vec<&str> = list.split(' ').filter(|name| !name.is_empty()).collect();
                if sub == CapSubCommand::ACK {
                    let known = names.into_iter().filter(|name| WANTED.contains(name) || *name == "sasl");
                    self.enabled.extend(known.map(str::to_owned));
                } else if names.len() > 1 {
                    // All or nothing: so each by itself.
                    self.requested += names.len();
                    return Step::Send(names.into_iter().map(cap_request).collect());
                } else if names == ["sasl"] {
                    return self.without_sasl();
                }
                if self.requested > 0 { Step::Send(Vec::new()) } else { self.agreed() }
            }
            _ => Step::Send(Vec::new()),
        }
    }

    fn request(&mut self) -> Step {
        let mut names: Vec<_> = WANTED.into_iter().filter(|name| self.offered.contains_key(*name)).collect();
        if self.credentials.account.is_some() {
            if self.offered.contains_key("sasl") {
                names.insert(0, "sasl");
            } else if let stop @ Step::Stop(..) = self.without_sasl() {
                return stop;
            }
        }
        if names.is_empty() {
            return Step::Send(vec![cap_end()]);
        }
        self.requested = 1;
        Step::Send(vec![cap_request(&names.join(" "))])
    }

    /// Every request was answered: on to the account.
    fn agreed(&mut self) -> Step {
        let Some(mechanism) = self.mechanism().filter(|_| self.enabled.contains("sasl") && !self.logged_in)
        else {
            return Step::Send(vec![cap_end()]);
        };
        Step::Send(vec![Command::AUTHENTICATE(mechanism.into()).into()])
    }

    /// The mechanism to use, by its name in SASL.
    fn mechanism(&self) -> Option<&'static str> {
        let account = self.credentials.account.as_ref()?;
        Some(match account.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::External => "EXTERNAL",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::Auto if self.value("sasl").split(',').any(|name| name == "SCRAM-SHA-256") => {
                "SCRAM-SHA-256"
            }
            SaslMechanism::Auto => "PLAIN",
        })
    }

    fn authenticate(&mut self, chunk: &str) -> Step {
        let (Some(account), Some(mechanism)) = (&self.credentials.account, self.mechanism()) else {
            return Step::Send(Vec::new());
        };
        if chunk != "+" && self.challenge.len() < CHALLENGE_BYTES {
            self.challenge.push_str(chunk);
        }
        if chunk.len() == 400 {
            return Step::Send(Vec::new());
        }
        let challenge = STANDARD.decode(std::mem::take(&mut self.challenge)).unwrap_or_default();
        let answer = match mechanism {
            "EXTERNAL" => Ok(account.name.clone()),
            "PLAIN" => Ok(format!("\0{}\0{}", account.name, account.password)),
            _ => match &mut self.scram {
                None => {
                    let (scram, first) = Scram::start(&account.name, &account.password, &account.nonce);
                    self.scram = Some(scram);
                    Ok(first)
                }
                Some(scram) => scram.answer(&String::from_utf8_lossy(&challenge)),
            },
        };
        match answer {
            Ok(answer) => Step::Send(in_chunks(&answer)),
            Err(bad) => Step::Stop(Some(Kind::Denied), format!("SCRAM-SHA-256: {}", bad.0)),
        }
    }

    /// The network has no SASL. That ends it, unless NickServ is to be told after the welcome.
    fn without_sasl(&mut self) -> Step {
        match &self.credentials.account {
            Some(account) if !account.nickserv => no_sasl(),
            _ if self.requested > 0 => Step::Send(Vec::new()),
            _ => Step::Send(vec![cap_end()]),
        }
    }

    fn must_log_in(&self) -> bool {
        !self.logged_in && self.credentials.account.as_ref().is_some_and(|account| !account.nickserv)
    }

    fn response(&mut self, response: Response, args: &[String]) -> Step {
        let said = args.last().cloned().unwrap_or_default();
        match response {
            Response::RPL_SASLSUCCESS => {
                self.logged_in = true;
                Step::Send(vec![cap_end()])
            }
            Response::ERR_SASLFAIL | Response::ERR_SASLTOOLONG | Response::ERR_SASLABORT => {
                let account = self.credentials.account.as_ref().map_or("", |account| &account.name);
                let advice = "check sasl.account and sasl.password";
                Step::Stop(
                    Some(Kind::Denied),
                    format!("the network refused the account {account}: {said}; {advice}"),
                )
            }
            Response::RPL_WELCOME if self.must_log_in() => no_sasl(),
            Response::RPL_WELCOME => {
                let nick = args.first().filter(|nick| *nick != "*" && !nick.is_empty());
                Step::Welcome(nick.unwrap_or(&self.credentials.nick).clone())
            }
            Response::ERR_NICKNAMEINUSE | Response::ERR_UNAVAILRESOURCE | Response::ERR_NICKCOLLISION => {
                self.attempts += 1;
                if self.attempts > NICK_ATTEMPTS {
                    return Step::Stop(
                        None,
                        format!("every variant of the nick {} is taken", self.credentials.nick),
                    );
                }
                Step::Send(vec![Command::NICK(variant(&self.credentials.nick, self.attempts)).into()])
            }
            Response::ERR_ERRONEOUSNICKNAME => {
                let nick = &self.credentials.nick;
                Step::Stop(Some(Kind::Invalid), format!("the network does not allow the nick {nick}: {said}"))
            }
            Response::ERR_PASSWDMISMATCH | Response::ERR_YOUREBANNEDCREEP => {
                Step::Stop(None, format!("the network does not let us in: {said}"))
            }
            _ => Step::Send(Vec::new()),
        }
    }
}

/// A SASL message in the pieces that `AUTHENTICATE` takes.
fn in_chunks(answer: &str) -> Vec<Message> {
    let response = STANDARD.encode(answer);
    let mut chunks: Vec<_> =
        response.as_bytes().chunks(400).map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
    if response.len().is_multiple_of(400) {
        chunks.push("+".into());
    }
    chunks.into_iter().map(|chunk| Command::AUTHENTICATE(chunk).into()).collect()
}

/// Another nick to try: underscores, then numbers, and not longer than nine bytes unless the
/// wanted one is, for networks that allow no more.
pub(super) fn variant(nick: &str, attempt: u32) -> String {
    let suffix = if attempt <= 2 { "_".repeat(attempt as usize) } else { format!("_{attempt}") };
    let room = nick.len().max(9).saturating_sub(suffix.len());
    let end = (0..=room.min(nick.len())).rev().find(|at| nick.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{suffix}", &nick[..end])
}

pub(super) fn cap_request(names: &str) -> Message {
    Command::CAP(None, CapSubCommand::REQ, None, Some(names.into())).into()
}

fn cap_end() -> Message {
    Command::CAP(None, CapSubCommand::END, None, None).into()
}

fn no_sasl() -> Step {
    Step::Stop(None, "an account is configured, but the network offers no SASL now".into())
}

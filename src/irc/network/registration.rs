//! From a fresh connection to a welcome: capabilities, SASL PLAIN, nick.
//!
//! It follows ircv3.net/specs/extensions/capability-negotiation and sasl-3.1. With an account
//! configured it never goes on without being logged in.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use irc::proto::{CapSubCommand, Command, Message, Response};

use crate::base::Kind;

/// What is asked for where it is offered, besides SASL.
const WANTED: [&str; 4] = ["message-tags", "server-time", "echo-message", "account-tag"];
/// Capabilities that are remembered of what a server offers.
const OFFERS: usize = 256;
/// Nicks that are tried before giving up this attempt.
const NICK_ATTEMPTS: u32 = 20;

/// Who we are on the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Credentials {
    pub nick: String,
    /// Account and password for SASL PLAIN.
    pub sasl: Option<(String, String)>,
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
#[derive(Debug)]
pub(super) struct Registration {
    credentials: Credentials,
    offered: BTreeSet<String>,
    /// What the server has agreed to.
    pub enabled: BTreeSet<String>,
    logged_in: bool,
    attempts: u32,
}

impl Registration {
    /// A registration, and what opens it.
    pub fn start(credentials: Credentials) -> (Self, Vec<Message>) {
        let nick = credentials.nick.clone();
        let opening = vec![
            Command::CAP(None, CapSubCommand::LS, None, Some("302".into())).into(),
            Command::NICK(nick.clone()).into(),
            Command::USER(nick, "0".into(), "Multichat relay".into()).into(),
        ];
        let (offered, enabled) = (BTreeSet::new(), BTreeSet::new());
        (Self { credentials, offered, enabled, logged_in: false, attempts: 0 }, opening)
    }

    /// What follows from a message of the server.
    pub fn receive(&mut self, message: &Message) -> Step {
        match &message.command {
            Command::CAP(_, sub, a, b) => self.capability(*sub, a.as_deref(), b.as_deref()),
            Command::AUTHENTICATE(_) => self.authenticate(),
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
                for name in names.map(|name| name.split('=').next().unwrap_or(name)) {
                    if self.offered.len() < OFFERS {
                        self.offered.insert(name.to_owned());
                    }
                }
                if more { Step::Send(Vec::new()) } else { self.request() }
            }
            CapSubCommand::ACK => {
                let names = list.split(' ').filter(|name| WANTED.contains(name) || *name == "sasl");
                self.enabled.extend(names.map(str::to_owned));
                match self.enabled.contains("sasl") && !self.logged_in {
                    true => Step::Send(vec![Command::AUTHENTICATE("PLAIN".into()).into()]),
                    false => Step::Send(vec![cap_end()]),
                }
            }
            CapSubCommand::NAK if self.credentials.sasl.is_some() && list.split(' ').count() > 1 => {
                Step::Send(vec![cap_request("sasl")])
            }
            CapSubCommand::NAK if self.credentials.sasl.is_some() => no_sasl(),
            CapSubCommand::NAK => Step::Send(vec![cap_end()]),
            _ => Step::Send(Vec::new()),
        }
    }

    fn request(&mut self) -> Step {
        let mut names: Vec<_> = WANTED.into_iter().filter(|name| self.offered.contains(*name)).collect();
        if self.credentials.sasl.is_some() {
            if !self.offered.contains("sasl") {
                return no_sasl();
            }
            names.insert(0, "sasl");
        }
        Step::Send(vec![if names.is_empty() { cap_end() } else { cap_request(&names.join(" ")) }])
    }

    fn authenticate(&self) -> Step {
        let Some((account, password)) = &self.credentials.sasl else { return Step::Send(Vec::new()) };
        let response = STANDARD.encode(format!("\0{account}\0{password}"));
        let mut chunks: Vec<_> = response
            .as_bytes()
            .chunks(400)
            .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
            .collect();
        if response.len().is_multiple_of(400) {
            chunks.push("+".into());
        }
        Step::Send(chunks.into_iter().map(|chunk| Command::AUTHENTICATE(chunk).into()).collect())
    }

    fn response(&mut self, response: Response, args: &[String]) -> Step {
        let said = args.last().cloned().unwrap_or_default();
        match response {
            Response::RPL_SASLSUCCESS => {
                self.logged_in = true;
                Step::Send(vec![cap_end()])
            }
            Response::ERR_SASLFAIL | Response::ERR_SASLTOOLONG | Response::ERR_SASLABORT => {
                let account = self.credentials.sasl.as_ref().map_or("", |(account, _)| account);
                let advice = "check sasl.account and sasl.password";
                Step::Stop(
                    Some(Kind::Denied),
                    format!("the network refused the account {account}: {said}; {advice}"),
                )
            }
            Response::RPL_WELCOME if self.credentials.sasl.is_some() && !self.logged_in => no_sasl(),
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

/// Another nick to try: underscores, then numbers, and not longer than nine bytes unless the
/// wanted one is, for networks that allow no more.
pub(super) fn variant(nick: &str, attempt: u32) -> String {
    let suffix = if attempt <= 2 { "_".repeat(attempt as usize) } else { format!("_{attempt}") };
    let room = nick.len().max(9).saturating_sub(suffix.len());
    let end = (0..=room.min(nick.len())).rev().find(|at| nick.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{suffix}", &nick[..end])
}

fn cap_request(names: &str) -> Message {
    Command::CAP(None, CapSubCommand::REQ, None, Some(names.into())).into()
}

fn cap_end() -> Message {
    Command::CAP(None, CapSubCommand::END, None, None).into()
}

fn no_sasl() -> Step {
    Step::Stop(None, "an account is configured, but the network offers no SASL now".into())
}

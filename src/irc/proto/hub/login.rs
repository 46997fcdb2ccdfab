//! Logging in and registering: SASL, REGISTER, passwords in PASS, and what becomes of a client that
//! has proved who it is. Hashing takes long and is asked of the shell; what must be durable before
//! it is told is kept first. Both are jobs.

use super::{Effect, Hub, direct::Direct};
use crate::base::config::Guests;
use crate::irc::proto::accounts::{ACCOUNTS, Account, CERTIFICATES, PASSWORD_BYTES, Verifier, is_email};
use crate::irc::proto::caps::Cap;
use crate::irc::proto::casemap::fold;
use crate::irc::proto::line::Line;
use crate::irc::proto::names::is_legal;
use crate::irc::proto::sasl::{self, Exchange, Piece, Scram, Step};
use crate::irc::proto::session::{ClientId, Stage};

/// Failed logins after which a client is let go.
const FAILURES: u32 = 5;

/// What takes long.
#[derive(Clone, PartialEq, Eq)]
pub enum Work {
    /// Hash a password, with chance of the shell's own.
    Hash { password: String },
    /// Whether a password is the hashed one.
    Verify { password: String, hash: String },
}

impl std::fmt::Debug for Work {
    /// Never shows a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash { .. } => "Hash",
            Self::Verify { .. } => "Verify",
        })
    }
}

/// What came of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Hashed {
        hash: String,
        scram: Verifier,
    },
    Verified(bool),
    /// A note is durable.
    Kept,
    /// What went wrong with the certificates, if anything did.
    Reloaded(Result<(), String>),
    Failed,
}

/// A job under way.
#[derive(Debug)]
pub struct Job {
    client: ClientId,
    group: Option<u64>,
    wait: Wait,
}

/// What waits for a job.
#[derive(Debug)]
pub enum Wait {
    /// A password of this account, and how it was given.
    Login(String, Via),
    /// A name, and how it is to be registered.
    /// The name, and the e-mail address.
    Register(String, String, Via),
    /// The new account is durable.
    Registered(Box<Account>, Via),
    /// A changed account is durable.
    Changed(&'static str),
    /// A new password of this account.
    Password(String),
    Direct(Box<Direct>),
    Reload,
}

/// How somebody says who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    Sasl,
    Pass,
    Command,
    Service,
}

impl Hub {
    /// Begins a job for the line at hand.
    pub(super) fn begin(&mut self, client: ClientId, wait: Wait) -> u64 {
        self.last_query += 1;
        let group = self.expect();
        self.jobs.insert(self.last_query, Job { client, group, wait });
        self.last_query
    }

    fn compute(&mut self, client: ClientId, wait: Wait, work: Work) {
        let job = self.begin(client, wait);
        self.effects.push(Effect::Compute { job, work });
    }

    /// A job is done.
    pub fn done(&mut self, now: crate::base::Timestamp, job: u64, done: Done) -> Vec<Effect> {
        self.now = now;
        if let Some(Job { client, group, wait }) = self.jobs.remove(&job) {
            self.within(group, |hub| hub.settle(client, wait, done));
        }
        self.take()
    }

    fn settle(&mut self, client: ClientId, wait: Wait, done: Done) {
        match (wait, done) {
            (Wait::Login(account, via), Done::Verified(true)) => self.logged_in(client, &account, via),
            (Wait::Login(_, via), _) => self.login_failed(client, via),
            (Wait::Register(name, email, via), Done::Hashed { hash, scram }) => {
                self.add_account(client, (&name, email, via), hash, scram);
            }
            (Wait::Register(name, _, via), _) => {
                self.registration_failed(client, via, ("TEMPORARILY_UNAVAILABLE", &name), "Try again later");
            }
            (Wait::Registered(account, via), _) => self.registered(client, *account, via),
            (Wait::Changed(said), _) => self.service_says(client, said),
            (Wait::Password(account), Done::Hashed { hash, scram }) => {
                if let Some(account) = self.accounts.get_mut(&account) {
                    (account.password, account.scram) = (hash, scram);
                    let account = account.clone();
                    self.keep_account(client, &account, "Your password is changed");
                }
            }
            (Wait::Password(_), _) => self.service_says(client, "That failed; try again later"),
            (Wait::Direct(direct), _) => {
                self.remember_direct((*direct).clone());
                self.show_direct(client, &direct);
            }
            (Wait::Reload, done) => self.reloaded(client, &done),
        }
    }

    pub(super) fn keep_account(&mut self, client: ClientId, account: &Account, said: &'static str) {
        let job = self.begin(client, Wait::Changed(said));
        self.effects.push(Effect::Keep { job, key: account.key(), value: account.encode() });
    }

    pub(super) fn authenticate(&mut self, client: ClientId, line: &Line) {
        let word = &line.params[0];
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if word == "*" {
            session.sasl = None;
            return self.reply(client, 906, &[], "SASL authentication aborted");
        }
        let Some(exchange) = &mut session.sasl else {
            let Some(exchange) = Exchange::begin(word) else {
                self.reply(client, 908, &[sasl::MECHANISMS], "are available SASL mechanisms");
                return self.reply(client, 904, &[], "SASL authentication failed");
            };
            session.sasl = Some(exchange);
            return self.emit(client, Line::new("AUTHENTICATE").param("+"));
        };
        match exchange.feed(word) {
            Piece::More => {}
            Piece::Whole(message) => self.sasl_message(client, &message),
            Piece::TooLong if word.len() > sasl::CHUNK_BYTES => {
                session.sasl = None;
                self.reply(client, 905, &[], "SASL message too long");
            }
            Piece::TooLong => self.login_failed(client, Via::Sasl),
            Piece::Nonsense => self.login_failed(client, Via::Sasl),
        }
    }

    fn sasl_message(&mut self, client: ClientId, message: &[u8]) {
        let random = self.random();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(exchange) = session.sasl.take() else { return };
        match exchange.step {
            Step::Plain => match sasl::plain(message) {
                Some((account, password)) => self.check_password(client, &account, password, Via::Sasl),
                None => self.login_failed(client, Via::Sasl),
            },
            Step::External => {
                let certificate = session.peer.certificate.clone();
                let for_whom = String::from_utf8_lossy(message).into_owned();
                let account = certificate.and_then(|print| self.accounts.of_certificate(&print));
                let account = account.filter(|a| for_whom.is_empty() || fold(&for_whom) == fold(&a.name));
                match account.map(|account| account.name.clone()) {
                    Some(account) => self.logged_in(client, &account, Via::Sasl),
                    None => self.login_failed(client, Via::Sasl),
                }
            }
            Step::ScramFirst => self.scram_first(client, message, &random),
            Step::ScramProof(scram) => match scram.prove(message) {
                Some(proof) => self.scram_goes_on(client, &proof, Step::ScramDone { account: scram.account }),
                None => self.login_failed(client, Via::Sasl),
            },
            Step::ScramDone { account } => self.logged_in(client, &account, Via::Sasl),
        }
    }

    fn scram_first(&mut self, client: ClientId, message: &[u8], random: &[u8]) {
        let first = sasl::scram_first(message);
        let found = first.and_then(|(user, bare, nonce)| {
            let account = self.accounts.get(&user)?;
            Some(Scram::challenge(&account.name, &account.scram, (&bare, &nonce), &random[..18]))
        });
        match found {
            Some((scram, challenge)) => self.scram_goes_on(client, &challenge, Step::ScramProof(scram)),
            None => self.login_failed(client, Via::Sasl),
        }
    }

    fn scram_goes_on(&mut self, client: ClientId, message: &str, step: Step) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.sasl = Some(Exchange::at(step));
        }
        for chunk in sasl::chunks(message.as_bytes()) {
            self.emit(client, Line::new("AUTHENTICATE").param(chunk));
        }
    }

    /// Has a password checked. An account that is not there takes as long to say no.
    pub(super) fn check_password(&mut self, client: ClientId, account: &str, password: String, via: Via) {
        let found = self.accounts.get(account).filter(|_| password.len() <= PASSWORD_BYTES);
        match found.map(|found| (found.name.clone(), found.password.clone())) {
            Some((name, hash)) => {
                self.compute(client, Wait::Login(name, via), Work::Verify { password, hash });
            }
            None => {
                let password = super::shorten(&password, PASSWORD_BYTES);
                let (name, hash) = (account.to_owned(), String::new());
                self.compute(client, Wait::Login(name, via), Work::Verify { password, hash });
            }
        }
    }

    /// Tries PASS as the password of the account that a nick is; whether it did.
    pub(super) fn try_pass(&mut self, client: ClientId, nick: &str) -> bool {
        let Some(greeting) = self.sessions.get_mut(&client).and_then(|session| session.greeting()) else {
            return false;
        };
        let Some(given) = greeting.password.clone().filter(|_| !greeting.tried) else { return false };
        greeting.tried = true;
        // `account:password` names the account; a password alone is the nick's.
        let (account, password) = match given.split_once(':') {
            Some((account, password)) if self.accounts.get(account).is_some() => {
                (account.to_owned(), password.to_owned())
            }
            _ => (nick.to_owned(), given),
        };
        self.check_password(client, &account, password, Via::Pass);
        true
    }

    fn login_failed(&mut self, client: ClientId, via: Via) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.sasl = None;
        session.failures += 1;
        let failures = session.failures;
        match via {
            Via::Sasl => self.reply(client, 904, &[], "SASL authentication failed"),
            Via::Pass => {
                self.reply(client, 464, &[], "Password incorrect");
                self.register(client);
            }
            Via::Command | Via::Service => self.service_says(client, "Wrong account or password"),
        }
        if failures >= FAILURES {
            self.close(client, "Too many failed logins");
        }
    }

    /// Gives an account a new password.
    pub(super) fn change_password(&mut self, client: ClientId, name: &str, password: &str) {
        let work = Work::Hash { password: password.to_owned() };
        self.compute(client, Wait::Password(name.to_owned()), work);
    }

    /// A client has proved to be an account.
    fn logged_in(&mut self, client: ClientId, name: &str, via: Via) {
        let Some(account) = self.accounts.get(name).cloned() else { return self.login_failed(client, via) };
        let prefix = match self.user_of(client) {
            Some(user) => user.prefix(),
            None => format!("{}!*@*", self.called(client)),
        };
        self.reply(
            client,
            900,
            &[&prefix, &account.name],
            &format!("You are now logged in as {}", account.name),
        );
        let Some(session) = self.sessions.get_mut(&client) else { return };
        match &mut session.stage {
            Stage::Registering(greeting) => greeting.login = Some(account.name.clone()),
            Stage::Active(_) => self.become_account(client, &account),
        }
        match via {
            Via::Sasl => self.reply(client, 903, &[], "SASL authentication successful"),
            Via::Pass => self.register(client),
            Via::Command | Via::Service => {
                self.service_says(client, &format!("You are now identified for {}", account.name));
            }
        }
    }

    /// A connected client turns out to be an account: from here on it is that person. What it was
    /// leaves its channels, and the account joins them.
    fn become_account(&mut self, client: ClientId, account: &Account) {
        let Some(old) = self.person_of(client).map(str::to_owned) else { return };
        if old == account.person {
            return self.name_account(&old, Some(account.name.clone()));
        }
        let Some(user) = self.users.get(&old) else { return };
        let (nick, ident, realname) = (user.nick.clone(), user.ident.clone(), user.realname.clone());
        let (host, alone) = (user.host.clone(), user.sessions.len() == 1);
        let channels: Vec<String> = self
            .sessions
            .get(&client)
            .map(|session| session.channels.keys())
            .into_iter()
            .flatten()
            .filter_map(|id| self.rooms.get(id).map(|room| room.name.clone()))
            .collect();
        self.detach_for_login(client, &old, alone);
        if let Some(session) = self.sessions.get_mut(&client) {
            session.stage = Stage::Active(account.person.clone());
        }
        let first = !self.users.contains_key(&account.person);
        let own_nick = if alone { nick.clone() } else { self.free_nick(&account.name) };
        let user = self.users.entry(account.person.clone()).or_insert_with(|| super::User {
            nick: own_nick,
            ident,
            host,
            realname,
            account: Some(account.name.clone()),
            away: None,
            sessions: Default::default(),
            modes: ['i'].into(),
            invited: Default::default(),
            silenced: Vec::new(),
            accepted: Default::default(),
        });
        user.sessions.insert(client);
        let now_called = user.nick.clone();
        if first {
            self.take_name(&now_called, &account.person);
        }
        if now_called != nick {
            self.emit(client, Line::from(nick, "NICK").text(now_called));
        }
        self.tell_account(&account.person);
        for name in channels {
            let channel = crate::chat::intent::ChannelRef::Name(name.clone());
            let intent = crate::chat::intent::Intent::JoinChannel { channel, create: false };
            self.submit(client, crate::irc::proto::respond::Wanted::Join, &name, intent);
        }
    }

    /// Takes a client out of the user it was, who goes if it was their last.
    fn detach_for_login(&mut self, client: ClientId, old: &str, alone: bool) {
        let channels: Vec<_> = self
            .sessions
            .get_mut(&client)
            .map(|session| std::mem::take(&mut session.channels))
            .into_iter()
            .flatten()
            .collect();
        let prefix = self.users.get(old).map(super::User::prefix).unwrap_or_default();
        for (id, _) in channels {
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            room.attached.remove(&client);
            let line = Line::from(prefix.as_str(), "PART").param(room.name.clone()).text("Logging in");
            self.emit(client, line);
        }
        if let Some(user) = self.users.get_mut(old) {
            user.sessions.remove(&client);
        }
        if alone {
            let nick = self.users.get(old).map(|user| user.nick.clone()).unwrap_or_default();
            self.take_leave(old, "Logged in");
            self.forget_metadata_of(old);
            self.users.remove(old);
            self.names.release(&nick);
            if let Some(identity) = self.identities.get(old).copied() {
                self.names.forget(&identity);
            }
        }
    }

    /// A nick near to an account's name that nobody has.
    fn free_nick(&self, name: &str) -> String {
        let taken = |nick: &str| self.users.values().any(|user| super::same_nick(&user.nick, nick));
        let base = if is_legal(name) { name.to_owned() } else { "user".to_owned() };
        let mut candidates =
            std::iter::once(base.clone()).chain((1..).map(|n| format!("{}{n}", super::shorten(&base, 24))));
        candidates.find(|nick| !taken(nick)).unwrap_or(base)
    }

    /// A user's account is now this; those who asked to know are told.
    pub(super) fn name_account(&mut self, person: &str, account: Option<String>) {
        let Some(user) = self.users.get_mut(person) else { return };
        if user.account == account {
            return;
        }
        user.account = account;
        self.tell_account(person);
    }

    /// Tells those who asked to know what a user's account is.
    fn tell_account(&mut self, person: &str) {
        let Some(user) = self.users.get(person) else { return };
        let (prefix, nick, account) = (user.prefix(), user.nick.clone(), user.account.clone());
        let line = Line::from(prefix, "ACCOUNT").param(account.unwrap_or_else(|| "*".to_owned()));
        let mut to = self.witnesses_of(person);
        to.extend(self.extended_watchers(&nick));
        let identity = self.identities.get(person).copied();
        for id in to {
            if self.has(id, Cap::AccountNotify) {
                let line = self.dress(line.clone(), id, identity.as_ref());
                self.emit(id, line);
            }
        }
    }

    /// `REGISTER <account> <email> <password>` (draft/account-registration).
    pub(super) fn register_account(&mut self, client: ClientId, line: &Line) {
        let [name, email, password, ..] = line.params.as_slice() else { return };
        let connected = self.person_of(client).is_some();
        let refused =
            self.sessions.get_mut(&client).and_then(|session| session.greeting()?.refused_nick.clone());
        let called = match self.called(client) {
            called if called == "*" => refused.unwrap_or(called),
            called => called,
        };
        let name = if name == "*" { called.clone() } else { name.clone() };
        if !connected && !self.settings.before_connect {
            let why = "Finish connecting first";
            return self.registration_failed(
                client,
                Via::Command,
                ("COMPLETE_CONNECTION_REQUIRED", &name),
                why,
            );
        }
        if !connected && called == "*" {
            return self.registration_failed(client, Via::Command, ("NEED_NICK", &name), "Send NICK first");
        }
        self.begin_registration(client, (&name, email), password, Via::Command);
    }

    pub(super) fn verify_account(&mut self, client: ClientId, line: &Line) {
        let name = line.params[0].clone();
        let why = "Accounts of this server need no verification";
        self.standard(client, "FAIL", &["VERIFY", "INVALID_CODE", &name], why);
    }

    /// Registers a name with a password, if it may be; the e-mail address `*` is none.
    pub(super) fn begin_registration(
        &mut self,
        client: ClientId,
        (name, email): (&str, &str),
        password: &str,
        via: Via,
    ) {
        let is_given = email != "*" && !email.is_empty();
        let login = match self.sessions.get(&client).map(|session| &session.stage) {
            Some(Stage::Active(person)) => self.users.get(person).and_then(|user| user.account.clone()),
            Some(Stage::Registering(greeting)) => greeting.login.clone(),
            None => return,
        };
        let others = self.users.iter().any(|(person, user)| {
            super::same_nick(&user.nick, name) && self.person_of(client) != Some(person)
        });
        let refused = if login.is_some() {
            Some(("ALREADY_AUTHENTICATED", "You are logged in already"))
        } else if !self.settings.registration {
            Some(("TEMPORARILY_UNAVAILABLE", "Accounts are not registered here"))
        } else if !is_legal(name) || super::service::is_service(name) {
            Some(("BAD_ACCOUNT_NAME", "An account is named like a nick"))
        } else if self.accounts.get(name).is_some() {
            Some(("ACCOUNT_EXISTS", "Somebody has that account"))
        } else if others {
            Some(("ACCOUNT_EXISTS", "Somebody else goes by that nick"))
        } else if self.accounts.len() >= ACCOUNTS {
            Some(("TEMPORARILY_UNAVAILABLE", "There are too many accounts"))
        } else if password.is_empty() || password.len() > PASSWORD_BYTES || password == "*" {
            Some(("UNACCEPTABLE_PASSWORD", "A password is 1 to 900 bytes"))
        } else if self.settings.email && !is_given {
            Some(("INVALID_EMAIL", "An e-mail address has to be named here"))
        } else if is_given && !is_email(email) {
            Some(("INVALID_EMAIL", "That is no e-mail address"))
        } else {
            None
        };
        if let Some((code, why)) = refused {
            return self.registration_failed(client, via, (code, name), why);
        }
        let (password, email) = (password.to_owned(), if is_given { email } else { "" }.to_owned());
        self.compute(client, Wait::Register(name.to_owned(), email, via), Work::Hash { password });
    }

    fn registration_failed(&mut self, client: ClientId, via: Via, (code, name): (&str, &str), why: &str) {
        match via {
            Via::Service => self.service_says(client, why),
            _ => self.standard(client, "FAIL", &["REGISTER", code, name], why),
        }
    }

    fn add_account(
        &mut self,
        client: ClientId,
        (name, email, via): (&str, String, Via),
        password: String,
        scram: Verifier,
    ) {
        if self.accounts.get(name).is_some() {
            return self.registration_failed(
                client,
                via,
                ("ACCOUNT_EXISTS", name),
                "Somebody has that account",
            );
        }
        // A guest that registers stays who it is; a name that is not its nick gets a person of its own.
        let own = self.person_of(client).map(str::to_owned);
        let fits = |person: &String| {
            self.settings.guests == Guests::Leave
                || *person == fold(name)
                || self.accounts.of_person(person).is_none()
        };
        let person = own.filter(fits).unwrap_or_else(|| fold(name));
        let certificate = self.sessions.get(&client).and_then(|session| session.peer.certificate.clone());
        let account = Account {
            name: name.to_owned(),
            person,
            password,
            scram,
            certificates: certificate.into_iter().take(CERTIFICATES).collect(),
            registered_at: self.now,
            email,
            always_on: None,
        };
        let (key, value) = (account.key(), account.encode());
        // From here on nobody else registers it; nobody is told before it is durable.
        self.accounts.put(account.clone());
        let job = self.begin(client, Wait::Registered(Box::new(account), via));
        self.effects.push(Effect::Keep { job, key, value });
    }

    fn registered(&mut self, client: ClientId, account: Account, via: Via) {
        let name = account.name.clone();
        match via {
            Via::Service => self.service_says(client, "Account created"),
            _ => {
                let line = Line::from(self.settings.server.as_str(), "REGISTER").param("SUCCESS");
                self.emit(client, line.param(name.as_str()).text("Account created"));
            }
        }
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let prefix = match &mut session.stage {
            Stage::Registering(greeting) => {
                greeting.login = Some(name.clone());
                format!("{}!*@*", self.called(client))
            }
            Stage::Active(person) => {
                let person = person.clone();
                match person == account.person {
                    true => {
                        self.name_account(&person, Some(name.clone()));
                        self.keep_metadata_of(&person);
                    }
                    false => self.become_account(client, &account),
                }
                self.face(client).prefix
            }
        };
        self.reply(client, 900, &[&prefix, &name], &format!("You are now logged in as {name}"));
        if self.person_of(client).is_some() {
            self.bar(client);
        }
    }
}

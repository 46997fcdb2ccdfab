//! Transcripts of sessions with a network. Lines that begin with `connect`, `lost`, `<`, `+`,
//! `deliver`, `unlink`, `accept` and `refuse` go in; the others are what comes out. The last two
//! answer the latest wish. What a wish's answer is waited for is told by nothing here.

use proptest::prelude::*;

use super::registration::{Account, Credentials, variant};
use super::render::tests::news;
use super::session::{Output, Session, Setup};
use super::wire;
use crate::base::config::{Consent, SaslMechanism};
use crate::base::{ChannelId, EventId, Kind, Timestamp};
use crate::chat::intent::{Actor, Intent, Subject};
use crate::chat::message::{Content, Link, Origin, Relation, Style};
use crate::chat::view::What;
use crate::node::{Delivery, Outcome};

fn setup() -> Setup {
    let credentials =
        Credentials { nick: "relay".into(), real_name: "Multichat relay".into(), account: None };
    Setup { network: "net:6667".into(), credentials, flood: None, consent: Consent::Given }
}

fn account(password: &str, mechanism: SaslMechanism) -> Account {
    let (name, password, nonce) = ("acc".into(), password.into(), "seed".into());
    Account { name, password, mechanism, nickserv: false, nonce }
}

fn link(channel: &str) -> Link {
    Link::Irc { network: "net:6667".into(), channel: channel.into() }
}

struct Run {
    session: Session,
    now: Timestamp,
    transcript: Vec<String>,
    /// The latest wish.
    token: u64,
}

impl Run {
    fn new(setup: Setup, channels: &[&str]) -> Self {
        let mut session = Session::new(setup);
        let now = Timestamp(1_000_000);
        for channel in channels {
            session.link(now, &link(channel), ChannelId([7; 32]));
        }
        Self { session, now, transcript: Vec::new(), token: 0 }
    }

    fn input(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "connect" => self.session.connected(self.now),
            "lost" => self.session.lost("gone"),
            "<" => {
                let rest = rest.replace("^A", "\x01").replace("^B", "\x02");
                let message = wire::with_modes(rest.parse().unwrap(), &rest);
                self.session.receive(self.now, message);
            }
            "unlink" => self.session.unlink(self.now, &link(rest)),
            "deliver" => {
                let [id, channel, name, text] = rest.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
                self.deliver(id.parse().unwrap(), channel, name, Content::text(text));
            }
            "accept" => {
                let event = EventId([rest.parse().unwrap(); 32]);
                self.session.answered(self.now, self.token, Ok(Some(event)));
            }
            "refuse" => self.session.answered(self.now, self.token, Err((Kind::Denied, rest.into()))),
            wait => {
                self.now = self.now.plus_ms(wait.strip_prefix('+').unwrap().parse().unwrap());
                self.session.tick(self.now);
            }
        }
        self.transcript.push(line.to_owned());
        self.collect();
    }

    fn deliver(&mut self, id: u64, channel: &str, name: &str, content: Content) {
        let news = news(name, self.now.0, What::Message(content));
        let delivery = Delivery { id, link: Some(link(channel)), uncertain: false, news };
        self.session.deliver(self.now, delivery);
    }

    fn collect(&mut self) {
        for output in self.session.take_outputs() {
            let line = match output {
                Output::Send(message) => format!("> {}", message.to_string().trim_end()),
                Output::Warn(text) => format!("warn {text}"),
                Output::Close { kind, reason } => format!("close {kind:?} {reason}"),
                Output::Report { delivery, outcome: Outcome::Delivered { external_id } } => {
                    format!("delivered {delivery} {}", external_id.unwrap_or_default()).trim_end().to_owned()
                }
                Output::Report { delivery, outcome: Outcome::Retry { uncertain, after_ms, reason } } => {
                    format!("retry {delivery} uncertain={uncertain} after={after_ms:?} {reason}")
                }
                Output::Report { delivery, outcome: Outcome::Failed { reason } } => {
                    format!("failed {delivery} {reason}")
                }
                Output::Remember { key, value } => format!("note {key} = {value}"),
                Output::Submit { submission, token } => {
                    self.token = token;
                    wish(submission.actor, submission.intent)
                }
            };
            self.transcript.push(line.replace('\u{200b}', "").replace('\x01', "^A").replace('\x02', "^B"));
        }
    }
}

/// A wish in one line.
fn wish(actor: Actor, intent: Intent) -> String {
    let Actor::Person { account, profile } = actor else { panic!() };
    let subject = |subject: Subject| match subject {
        Subject::Name(name) => name,
        Subject::Identity(identity) => identity.to_string(),
    };
    match intent {
        Intent::SendMessage { content, .. } => {
            let Origin { link: Link::Irc { channel, .. }, external_id, said_at } = content.origin.unwrap() else {
                panic!()
            };
            let html = content.formatted.map(|html| format!(" ({html})")).unwrap_or_default();
            let relation = content.envelope.relation.map(|relation| match relation {
                Relation::Reply(event) => format!(" answers {}", event.as_bytes()[0]),
                Relation::Reaction(event) => format!(" reacts to {}", event.as_bytes()[0]),
                other => panic!("{other:?}"),
            });
            let (style, relation, at) = (content.style, relation.unwrap_or_default(), said_at.0);
            let body = content.body.replace('\n', " / ");
            format!("{style:?} in {channel} by {account}, id {external_id}, at {at}:{relation} {body}{html}")
        }
        Intent::LeaveChannel { reason, .. } => format!("leave of {account}: {reason}"),
        Intent::RevokeRole { subject: of, then, reason, .. } => {
            format!("{account} revokes {}: {then:?} ({reason})", subject(of))
        }
        Intent::GrantRole { subject: to, role, .. } => format!("{account} grants {}: {role:?}", subject(to)),
        Intent::UpdateChannel { change, .. } => format!("{account} ({}) changes {change:?}", profile.username),
        Intent::RedactMessage { target, reason, .. } => {
            format!("{account} takes back {}: {reason}", target.as_bytes()[0])
        }
        other => panic!("{other:?}"),
    }
}

fn check_with(setup: Setup, channels: &[&str], transcript: &str) {
    let expect: Vec<_> = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut run = Run::new(setup, channels);
    let inputs = ["connect", "lost", "<", "deliver", "unlink", "accept", "refuse"];
    for line in &expect {
        if inputs.contains(&line.split(' ').next().unwrap()) || line.starts_with('+') {
            run.input(line);
        }
    }
    assert_eq!(run.transcript.join("\n"), expect.join("\n"));
}

/// The registration of every transcript that is about something else.
const WELCOME: &str = "
    connect
    > CAP LS 302
    > NICK relay
    > USER relay 0 * :Multichat relay
    < :srv CAP * LS :multi-prefix
    > CAP END
    < :srv 001 relay :Welcome
    < :srv 422 relay :No MOTD
    > JOIN #c
    < :relay!~relay@host JOIN #c
    > MODE #c
";

fn check(transcript: &str) {
    check_with(setup(), &["#c"], &format!("{WELCOME}{transcript}"));
}

#[test]
fn registration_with_sasl_and_echo() {
    let mut setup = setup();
    setup.credentials.account = Some(account("pass", SaslMechanism::Auto));
    let transcript = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv CAP * LS * :multi-prefix echo-message sasl=PLAIN,EXTERNAL
        < :srv CAP * LS :server-time message-tags
        > CAP REQ :sasl message-tags server-time echo-message
        < :srv CAP relay ACK :sasl message-tags server-time echo-message
        > AUTHENTICATE PLAIN
        < AUTHENTICATE +
        > AUTHENTICATE AGFjYwBwYXNz
        < :srv 900 relay relay!u@h acc :You are now logged in as acc
        < :srv 903 relay :SASL authentication successful
        > CAP END
        < :srv 001 relay :Welcome
        < PING :abc
        > PONG abc
        < :srv 376 relay :End of MOTD
        > JOIN #c
        < :relay!~relay@host JOIN #c
        > MODE #c
        deliver 1 #c alice hello
        > PRIVMSG #c :<alice> hello
        < @msgid=m1;time=2024-01-01T00:00:00.000Z :relay!~relay@host PRIVMSG #c :<alice> hello
        delivered 1 m1
    ";
    check_with(setup, &["#c"], transcript);
}

#[test]
fn a_wrong_password_is_said_clearly() {
    let mut setup = setup();
    setup.credentials.account = Some(account("wrong", SaslMechanism::Auto));
    let begin = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
    ";
    let refused = "
        < :srv CAP * LS :sasl
        > CAP REQ sasl
        < :srv CAP relay ACK :sasl
        > AUTHENTICATE PLAIN
        < AUTHENTICATE +
        > AUTHENTICATE AGFjYwB3cm9uZw==
        < :srv 904 relay :SASL authentication failed
        close Some(Denied) the network refused the account acc: SASL authentication failed; check sasl.account and sasl.password
    ";
    check_with(setup.clone(), &[], &format!("{begin}{refused}"));
    for without in ["< :srv CAP * LS :multi-prefix", "< :srv 001 relay :Welcome"] {
        let close = "close None an account is configured, but the network offers no SASL now";
        check_with(setup.clone(), &[], &format!("{begin}{without}\n{close}"));
    }
}

#[test]
fn a_nick_in_use() {
    let transcript = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv 433 * relay :Nickname is already in use
        > NICK relay_
        < :srv 433 * relay_ :Nickname is already in use
        > NICK relay__
        < :srv 001 relay__ :Welcome
        < :srv 422 relay__ :No MOTD
        +60000
        > PING mc1
        > NICK relay
        < :srv 433 relay__ relay :Nickname is already in use
        < :RELAY!x@y QUIT :bye
        > NICK relay
        < :relay__!u@h NICK relay
        < :srv PONG srv mc1
    ";
    check_with(setup(), &[], transcript);
    assert_eq!(variant("multichat", 1), "multicha_");
    assert_eq!(variant("multichat", 3), "multich_3");
}

#[test]
fn a_fence_confirms() {
    check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
        deliver 2 #c bob two
        > PRIVMSG #c :<bob> two
        deliver 3 #c bob three
        > PRIVMSG #c :<bob> three
        < :srv PONG srv mc1
        delivered 1
        > PING mc2
        < :srv PONG srv :mc2
        delivered 2
        delivered 3
    ",
    );
}

#[test]
fn talk_of_the_others() {
    check(
        "
        < @msgid=x1;time=1970-01-01T00:16:39.500Z :Bob[1]!u@h PRIVMSG #C :hello
        Text in #c by bob{1}@net:6667, id x1, at 999500: hello
        < :bob!u@h PRIVMSG #c :^AACTION waves^A
        Emote in #c by bob@net:6667, id 1000000-2, at 1000000: waves
        < :bob!u@h NOTICE #c :^Bnote^B
        Notice in #c by bob@net:6667, id 1000000-3, at 1000000: note (<b>note</b>)
        < :bob!u@h PRIVMSG #elsewhere :hello
        < :bob!u@h PRIVMSG relay :hello
        < :bob!u@h PRIVMSG #c :^B
        < :srv.net NOTICE #c :a server speaks
        < :relay!~relay@host PRIVMSG #c :our own
        < :bob!u@h NICK bobby
        leave of bob@net:6667: is now known as bobby
        < :bob[1]!u@h PART #c :bye
        leave of bob{1}@net:6667: bye
        < :carol!u@h QUIT :never spoke
    ",
    );
}

#[test]
fn ctcp_is_answered_sparingly() {
    check(
        "
        < :bob!u@h PRIVMSG relay :^APING 12 34^A
        > NOTICE bob :^APING 12 34^A
        < :bob!u@h PRIVMSG relay :^ATIME^A
        > NOTICE bob :^ATIME 1000 s since 1970 (UTC)^A
        < :bob!u@h PRIVMSG relay :^ADCC SEND x^A
        < :bob!u@h PRIVMSG #c :^AVERSION^A
        < :bob!u@h NOTICE relay :^AVERSION x^A
        < :bob!u@h PRIVMSG relay :^APING a^A
        > NOTICE bob :^APING a^A
        < :bob!u@h PRIVMSG relay :^APING b^A
    ",
    );
}

#[test]
fn a_kick_is_honoured_for_a_while() {
    check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
        < :op!u@h KICK #c relay :out
        warn #c: kicked by op: out; trying again in 5 s
        retry 1 uncertain=true after=Some(5000) #c: kicked by op: out
        deliver 2 #c alice two
        < :srv PONG srv mc1
        +1000
        deliver 1 #c alice one
        retry 1 uncertain=false after=Some(4000) #c: kicked by op: out
        +4000
        > JOIN #c
        < :srv 474 relay #c :Cannot join channel (+b)
        warn #c: Cannot join channel (+b); trying again in 10 s
        +10000
        > JOIN #c
        deliver 1 #c alice one
        deliver 2 #c alice two
        < :relay!~relay@host JOIN #c
        > MODE #c
        > PRIVMSG #c :<alice> one
        > PRIVMSG #c :<alice> two
        > PING mc2
        < :srv PONG srv mc2
        delivered 1
        delivered 2
        < :srv.services KICK #c relay :flood
        warn #c: kicked by srv.services: flood; trying again in 20 s
    ",
    );
}

#[test]
fn a_broken_connection_loses_nothing() {
    let again = WELCOME.trim_end();
    check(&format!(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
        < :srv PONG srv mc1
        delivered 1
        deliver 2 #c alice two
        > PRIVMSG #c :<alice> two
        > PING mc2
        deliver 3 #c alice three
        > PRIVMSG #c :<alice> three
        lost
        retry 2 uncertain=true after=None gone
        deliver 4 #c alice four
        deliver 2 #c alice two
        deliver 3 #c alice three
        deliver 4 #c alice four
        {again}
        > PRIVMSG #c :<alice> two
        > PRIVMSG #c :<alice> three
        > PRIVMSG #c :<alice> four
        > PING mc1
        < :srv PONG srv mc2
        < :srv PONG srv mc1
        delivered 2
        delivered 3
        delivered 4
    "
    ));
}

#[test]
fn what_waits_while_away_is_said_afterwards_with_its_time() {
    let mut run = Run::new(setup(), &["#c"]);
    run.input("deliver 1 #c alice early");
    run.input("+61000");
    for line in
        WELCOME.lines().map(str::trim).filter(|line| line.starts_with("connect") || line.starts_with('<'))
    {
        run.input(line);
    }
    let tail = &run.transcript[run.transcript.len() - 2..];
    assert_eq!(tail, ["> PRIVMSG #c :<alice> [00:16] early", "> PING mc1"]);
}

#[test]
fn flood_control_holds_lines_back() {
    let mut setup = setup();
    setup.flood = Some((3, 2));
    let transcript = "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
        deliver 2 #c alice two
        +499
        +1
        > PRIVMSG #c :<alice> two
        < :srv PONG srv mc1
        delivered 1
        +500
        > PING mc2
        < :srv PONG srv mc2
        delivered 2
    ";
    check_with(setup, &["#c"], &format!("{WELCOME}{transcript}"));
}

#[test]
fn a_dead_network_is_noticed() {
    check(
        "
        +60000
        > PING mc1
        < :srv PONG srv mc1
        +59999
        +1
        > PING mc2
        +59999
        +1
        close None the network does not answer
    ",
    );
}

#[test]
fn channels_come_and_go() {
    check(
        "
        < :srv 005 relay CASEMAPPING=ascii CHANLIMIT=#:2 :are supported by this server
        deliver 5 #d alice one
        > JOIN #d
        deliver 6 #e alice two
        warn #e: the network allows no more channels
        retry 6 uncertain=false after=Some(600000) #e: the network allows no more channels
        unlink #c
        > PART #c :the link was removed
        < :relay!~relay@host PART #c :the link was removed
    ",
    );
}

#[test]
fn nothing_returns_to_where_it_came_from() {
    let mut run = Run::new(setup(), &["#c"]);
    for line in
        WELCOME.lines().map(str::trim).filter(|line| line.starts_with("connect") || line.starts_with('<'))
    {
        run.input(line);
    }
    run.transcript.clear();
    for (id, network) in [(1, "net:6667"), (2, "other:6697")] {
        let link = Link::Irc { network: network.into(), channel: "#c".into() };
        let origin = Some(Origin { link, external_id: "x".into(), said_at: Timestamp(0) });
        run.deliver(id, "#c", "bob", Content { origin, ..Content::text("hello") });
    }
    run.collect();
    let expect = [
        "failed 1 it came from there",
        "failed 2 nothing is carried from one IRC network (other:6697) to another",
    ];
    assert_eq!(run.transcript, expect);
}

/// Lines of a server, nearly right.
fn server_line() -> impl Strategy<Value = String> {
    let source = "(:srv |:relay!~r@h |:bob!u@h |:relay |:op |)";
    let command = "(001|005|376|422|433|404|403|442|471|474|477|396|904|903|CAP|JOIN|PART|KICK|QUIT|NICK|PRIVMSG|NOTICE|PONG|PING|ERROR|AUTHENTICATE|MODE)";
    let arguments =
        "( (relay|bob|#c|#D|\\*|LS|ACK|NAK|mc[1-4]|srv|x@y|CASEMAPPING=ascii|CHANLIMIT=#:1|é)){0,3}";
    let text = "( :(hello|\\x01VERSION\\x01|\\x01ACTION x\\x01|sasl echo-message|\\x02|))?";
    (source, command, arguments, text).prop_map(|(s, c, a, t)| format!("{s}{c}{a}{t}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a server says, in whatever order, is taken, and no delivery is reported twice as
    /// delivered on one connection.
    #[test]
    fn any_server(lines in proptest::collection::vec(server_line(), 0..60)) {
        let mut run = Run::new(setup(), &["#c", "#d"]);
        run.session.connected(run.now);
        let mut delivered = std::collections::BTreeSet::new();
        for (id, line) in (1..).zip(lines) {
            run.now = run.now.plus_ms(300);
            if let Ok(message) = line.parse() {
                run.session.receive(run.now, message);
            }
            run.deliver(id, if id % 2 == 0 { "#c" } else { "#d" }, "alice", Content::text("hello"));
            run.session.tick(run.now);
            for output in run.session.take_outputs() {
                match output {
                    Output::Send(message) => {
                        prop_assert!(!message.to_string().trim_end().contains(['\r', '\n', '\0']))
                    }
                    Output::Report { delivery, outcome: Outcome::Delivered { .. } } => {
                        prop_assert!(delivered.insert(delivery))
                    }
                    _ => {}
                }
            }
        }
    }

    /// Every line fits the 512 bytes that the others receive, by the real prefix, and uses them.
    #[test]
    fn lines_fit_to_the_byte(text in "(a|é|漢|👍🏽|word |\\x02|\n){1,600}", name in "[a-zé ]{1,40}", notice: bool) {
        let mut run = Run::new(setup(), &["#c"]);
        for line in WELCOME.lines().map(str::trim).filter(|line| line.starts_with("connect") || line.starts_with('<')) {
            run.input(line);
        }
        run.transcript.clear();
        let style = if notice { Style::Notice } else { Style::Text };
        run.deliver(1, "#c", &name, Content { style, ..Content::text(text) });
        for fence in 1..40 {
            for output in run.session.take_outputs() {
                if let Output::Send(message) = output {
                    let line = format!(":relay!~relay@host {message}");
                    prop_assert!(line.len() <= 512, "{} bytes", line.len());
                }
            }
            run.input(&format!("< :srv PONG srv mc{fence}"));
        }
    }
}

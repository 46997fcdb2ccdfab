//! Transcripts of sessions with a network. Lines that begin with `connect`, `lost`, `<`, `+`,
//! `deliver`, `learn`, `unlink`, `accept`, `refuse` and `settled` go in; the others are what comes out.
//! `accept` and `refuse` answer the latest wish, `settled` the latest question; `learn` is what another
//! node took in. What a wish's answer is waited for is told by nothing here.

mod crowd;
mod failover;

use proptest::prelude::*;

use super::registration::{Account, Credentials, variant};
use super::render::tests::news;
use super::session::{Output, Session, Setup};
use super::wire;
use crate::base::config::{Consent, SaslMechanism};
use crate::base::{ChannelId, EventId, Identity, Kind, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::intent::{Actor, Intent, Subject};
use crate::chat::message::{Content, Link, Origin, Relation, Style};
use crate::chat::profile::Profile;
use crate::chat::view::{Member, News, What};
use crate::node::{Delivery, Outcome};

fn setup() -> Setup {
    let credentials =
        Credentials { nick: "relay".into(), real_name: "Multichat relay".into(), account: None };
    Setup {
        network: "net:6667".into(),
        credentials,
        flood: None,
        consent: Consent::Given,
        ignore: Vec::new(),
        failover_with: Vec::new(),
    }
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
    /// The latest question.
    question: u64,
}

impl Run {
    fn new(setup: Setup, channels: &[&str]) -> Self {
        let mut session = Session::new(setup);
        let now = Timestamp(1_000_000);
        for channel in channels {
            session.link(now, &link(channel), ChannelId([7; 32]));
        }
        Self { session, now, transcript: Vec::new(), token: 0, question: 0 }
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
            "learn" => {
                let [channel, name, id, text] = rest.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
                let origin = Origin { link: link(channel), external_id: id.into(), said_at: self.now };
                self.deliver(0, channel, name, Content { origin: Some(origin), ..Content::text(text) });
            }
            "settled" => {
                let settled: Vec<bool> = rest.chars().map(|sign| sign == '1').collect();
                self.session.settled(self.now, self.question, &settled);
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
        self.deliver_news(id, channel, name, What::Message(content));
    }

    fn deliver_news(&mut self, id: u64, channel: &str, name: &str, what: What) {
        let mut news = News { event: EventId([id as u8; 32]), ..news(name, self.now.0, what) };
        if name != "alice" {
            news.author.identity = Identity([name.as_bytes()[0]; 32]);
        }
        let delivery = Delivery { id, link: Some(link(channel)), uncertain: false, news };
        self.session.deliver(self.now, delivery);
    }

    /// Plays a transcript from where we are.
    fn check(&mut self, transcript: &str) {
        let expect: Vec<_> = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        self.transcript.clear();
        self.collect();
        for line in &expect {
            if INPUTS.contains(&line.split(' ').next().unwrap()) || line.starts_with('+') {
                self.input(line);
            }
        }
        assert_eq!(self.transcript.join("\n"), expect.join("\n"));
    }

    fn collect(&mut self) {
        for output in self.session.take_outputs() {
            let line = match output {
                Output::Send(message) => format!("> {}", message.to_string().trim_end()),
                Output::Warn(text) => format!("warn {text}"),
                Output::Inform(text) => format!("info {text}"),
                Output::Ask { marks, token, .. } => {
                    self.question = token;
                    let marks: Vec<String> = marks.iter().map(|mark| (mark & 0xff).to_string()).collect();
                    format!("ask about {}", marks.join(" ")).trim_end().to_owned()
                }
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
                Output::Remember { key, value } => format!("note {key} = {value}").trim_end().to_owned(),
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
            let Origin { link: Link::Irc { channel, .. }, external_id, said_at } = content.origin.unwrap()
            else {
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
        Intent::JoinChannel { .. } => format!("join of {account}"),
        Intent::LeaveChannel { reason, .. } => format!("leave of {account}: {reason}"),
        Intent::RevokeRole { subject: of, then, reason, .. } => {
            format!("{account} revokes {}: {then:?} ({reason})", subject(of))
        }
        Intent::GrantRole { subject: to, role, .. } => format!("{account} grants {}: {role:?}", subject(to)),
        Intent::UpdateChannel { change, .. } => {
            format!("{account} ({}) changes {change:?}", profile.username)
        }
        Intent::RedactMessage { target, reason, .. } => {
            format!("{account} takes back {}: {reason}", target.as_bytes()[0])
        }
        other => panic!("{other:?}"),
    }
}

/// The words that begin what goes in.
const INPUTS: [&str; 9] =
    ["connect", "lost", "<", "deliver", "learn", "unlink", "accept", "refuse", "settled"];

fn check_with(setup: Setup, channels: &[&str], transcript: &str) {
    Run::new(setup, channels).check(transcript);
}

/// The registration of every transcript that is about something else.
const WELCOME: &str = "
    connect
    > CAP LS 302
    > NICK relay
    > USER relay 0 * :Multichat relay
    < :srv CAP * LS :away-notify
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
        > CAP REQ :sasl message-tags server-time echo-message multi-prefix
        < :srv CAP relay ACK :sasl message-tags server-time echo-message multi-prefix
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
        < :bobby!u@h PRIVMSG #c :still bob
        Text in #c by bob@net:6667, id 1000000-4, at 1000000: still bob
        < :bob!u@h2 PRIVMSG #c :another
        Text in #c by bob~2@net:6667, id 1000000-5, at 1000000: another
        < :bob[1]!u@h PART #c :bye
        leave of bob{1}@net:6667: bye
        < :carol!u@h QUIT :never spoke
    ",
    );
}

#[test]
fn who_is_ignored_is_not_heard() {
    // In the network's casemapping `[` is the large `{`.
    let transcript = format!(
        "{WELCOME}
        < :RELAY{{2}}!r@host JOIN #c
        < :RELAY{{2}}!r@host PRIVMSG #c :<alice> hi
        < :RELAY{{2}}!r@host NOTICE #c :<alice> hi
        < :RELAY{{2}}!r@host PRIVMSG #c :^AACTION waves^A
        < :RELAY{{2}}!r@host PRIVMSG #c :!mc help
        < :RELAY{{2}}!r@host PRIVMSG relay :^AVERSION^A
        < :RELAY{{2}}!r@host TOPIC #c :theirs
        < :RELAY{{2}}!r@host PART #c :bye
        deliver 1 #c alice hi
        > PRIVMSG #c :<alice> hi
        > PING mc1
        < :srv PONG srv :mc1
        delivered 1
        "
    );
    check_with(Setup { ignore: vec!["relay[2]".into()], ..setup() }, &["#c"], &transcript);
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
    setup.flood = Some((4, 2));
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

/// The same with capabilities, and people in the channel. Capabilities are given in the order in
/// which they are asked for.
fn welcomed(capabilities: &str, names: &str) -> String {
    let colon = if capabilities.contains(' ') { ":" } else { "" };
    format!(
        "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv CAP * LS :{capabilities}
        > CAP REQ {colon}{capabilities}
        < :srv CAP relay ACK :{capabilities}
        > CAP END
        < :srv 001 relay :Welcome
        < :srv 422 relay :No MOTD
        > JOIN #c
        < :relay!~relay@host JOIN #c
        > MODE #c
        < :srv 353 relay = #c :{names}
        < :srv 366 relay #c :End of NAMES
        "
    )
}

fn begun(capabilities: &str, names: &str) -> Run {
    let mut run = Run::new(setup(), &["#c"]);
    run.check(&welcomed(capabilities, names));
    run
}

#[test]
fn labels_prove_delivery() {
    let mut run = begun("message-tags echo-message labeled-response batch", "relay @op");
    run.check(
        "
        deliver 1 #c alice one
        > @label=mc1 PRIVMSG #c :<alice> one
        deliver 2 #c alice two
        > @label=mc2 PRIVMSG #c :<alice> two
        < @label=mc2;msgid=m2 :relay!~relay@host PRIVMSG #c :<alice> two
        delivered 1
        delivered 2 m2
        deliver 3 #c alice three
        > @label=mc3 PRIVMSG #c :<alice> three
        < @label=mc3 :srv 404 relay #c :Cannot send to channel
        retry 3 uncertain=true after=Some(30000) #c: Cannot send to channel
        deliver 3 #c alice three
        > @label=mc4 PRIVMSG #c :<alice> three
        < @label=mc4 :srv ACK
        delivered 3
    ",
    );
}

#[test]
fn what_relates_to_other_messages_both_ways() {
    let mut run = begun("message-tags echo-message", "relay @op");
    run.check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        < @msgid=m1 :relay!~relay@host PRIVMSG #c :<alice> one
        delivered 1 m1
        < @msgid=x1;+draft/reply=m1 :bob!u@h PRIVMSG #c :yes
        Text in #c by bob@net:6667, id x1, at 1000000: answers 1 yes
        accept 50
        < @msgid=x2;+draft/reply=m1;+draft/react=👍 :bob!u@h TAGMSG #c
        Text in #c by bob@net:6667, id x2, at 1000000: reacts to 1 👍
        < @+typing=active :bob!u@h TAGMSG #c
        < :bob!u@h REDACT #c x1 :oops
        bob@net:6667 takes back 50: oops
    ",
    );
    run.deliver(2, "#c", "alice", Content::text("sure").replying(Some(EventId([50; 32]))));
    run.check("> @+draft/reply=x1 PRIVMSG #c :<alice> [bob: yes] sure");
}

#[test]
fn a_message_is_taken_back_where_the_network_can() {
    let mut run = begun("message-tags echo-message draft/message-redaction", "relay @op");
    run.check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        < @msgid=m1 :relay!~relay@host PRIVMSG #c :<alice> one
        delivered 1 m1
    ",
    );
    let redacted =
        |n| What::Redacted { target: EventId([n; 32]), sender: Identity([1; 32]), reason: String::new() };
    run.deliver_news(2, "#c", "alice", redacted(1));
    run.check(
        "
        > REDACT #c m1 :taken back
        > PING mc1
        < :srv PONG srv mc1
        delivered 2
        < :srv FAIL REDACT REDACT_FORBIDDEN #c m1 :You may not
        warn the network takes no message back: REDACT_FORBIDDEN You may not
    ",
    );
    run.deliver_news(3, "#c", "alice", redacted(1));
    run.check("> NOTICE #c :* alice took back an earlier message");
}

#[test]
fn many_lines_are_one_message() {
    begun("message-tags batch draft/multiline", "relay @op").check(
        "
        < @msgid=b1 :bob!u@h BATCH +r draft/multiline #c
        < @batch=r :bob!u@h PRIVMSG #c :one
        < @batch=r :bob!u@h PRIVMSG #c :two
        < @batch=r;draft/multiline-concat :bob!u@h PRIVMSG #c :three
        < BATCH -r
        Text in #c by bob@net:6667, id b1, at 1000000: one / twothree
        < :bob!u@h PRIVMSG #c :alone
        Text in #c by bob@net:6667, id 1000000-2, at 1000000: alone
    ",
    );
}

#[test]
fn what_was_missed_is_caught_up_with() {
    let caps = "message-tags server-time batch draft/chathistory";
    let mut run = begun(caps, "relay @op");
    run.check(
        "
        < @msgid=x1;time=1970-01-01T00:16:39.500Z :bob!u@h PRIVMSG #c :hello
        Text in #c by bob@net:6667, id x1, at 999500: hello
        lost
    ",
    );
    let again = welcomed(caps, "relay @op bob")
        .replace("> MODE #c", "> MODE #c\n> CHATHISTORY AFTER #c timestamp=1970-01-01T00:16:39.500Z 100");
    run.check(&format!(
        "{again}
        < :srv BATCH +h chathistory #c
        < @batch=h;msgid=x2;time=1970-01-01T00:16:39.700Z :bob!u@h PRIVMSG #c :missed
        Text in #c by bob@net:6667, id x2, at 999700: missed
        < @batch=h;msgid=m9;time=1970-01-01T00:16:39.800Z :relay!~relay@host PRIVMSG #c :<alice> ours
        < @batch=h :bob!u@h PRIVMSG #c :without an id
        < :srv BATCH -h
    "
    ));
}

#[test]
fn operators_act_as_who_they_are() {
    begun("multi-prefix", "relay @op bob carol").check(
        "
        < :op!o@ophost PRIVMSG #c :hello
        Text in #c by op@net:6667, id 1000000-1, at 1000000: hello
        < :bob!u@bobhost PRIVMSG #c :hi
        Text in #c by bob@net:6667, id 1000000-2, at 1000000: hi
        < :op!o@ophost KICK #c bob :behave
        op@net:6667 revokes bob@net:6667: Out (behave)
        leave of bob@net:6667: kicked by op: behave
        < :bob!u@bobhost JOIN #c
        < :bob!u@bobhost PRIVMSG #c :back
        join of bob@net:6667
        Text in #c by bob@net:6667, id 1000000-3, at 1000000: back
        < :op!o@ophost MODE #c +b *!*@bobhost
        op@net:6667 revokes bob@net:6667: Banned (banned as *!*@bobhost)
        refuse not permitted: remove_members
        > NOTICE op :#c: the ban *!*@bobhost counts on this network only: not permitted: remove_members
        < :op!o@ophost MODE #c -b *!*@bobhost
        op@net:6667 revokes bob@net:6667: Free ()
        accept 1
        < :op!o@ophost MODE #c +o bob
        op@net:6667 grants bob@net:6667: Moderator
        < :op!o@ophost MODE #c -o bob
        op@net:6667 revokes bob@net:6667: Demoted(Member) ()
        < :ChanServ!ChanServ@services. MODE #c +o bob
        < :srv.net MODE #c +o bob
        < :op!o@ophost KICK #c carol :never spoke
        < :op!o@ophost TOPIC #c :new topic
        op@net:6667 (op) changes Topic(\"new topic\")
        < :relay!~relay@host TOPIC #c :our own
    ",
    );
}

#[test]
fn a_ban_that_follows_a_kick_or_means_too_many() {
    let mut run = begun("multi-prefix", "relay @op a b c d e f");
    for nick in ["a", "b", "c", "d", "e", "f"] {
        run.input(&format!("< :{nick}!u@shared PRIVMSG #c :hi"));
    }
    run.check(
        "
        < :op!o@ophost MODE #c +b *!*@shared
        > NOTICE op :#c: the ban *!*@shared means 6 people and stays here
        < :op!o@ophost KICK #c a
        op@net:6667 revokes a@net:6667: Out ()
        leave of a@net:6667: kicked by op
        < :op!o@ophost MODE #c +b a!*@*
        op@net:6667 revokes a@net:6667: Banned (banned as a!*@*)
        < :a!u@shared JOIN #c
        < :a!u@shared PRIVMSG #c :let me
        join of a@net:6667
        Text in #c by a@net:6667, id 1000000-7, at 1000000: let me
        refuse banned from the channel
        warn #c: a message of a was refused (Denied): banned from the channel
        > NOTICE a :what you said in #c was not carried: banned from the channel
        < :a!u@shared PRIVMSG #c :let me!
        Text in #c by a@net:6667, id 1000000-8, at 1000000: let me!
        refuse banned from the channel
        warn #c: a message of a was refused (Denied): banned from the channel
        < :op!o@ophost KICK #c a
        leave of a@net:6667: kicked by op
    ",
    );
}

fn bob() -> Member {
    let (username, home) = ("bob".to_owned(), "bob@net:6667".to_owned());
    let profile = Profile { username, home, ..Profile::default() };
    Member { identity: Identity([2; 32]), role: Role::Member, profile }
}

#[test]
fn what_moderators_elsewhere_do_is_done_here() {
    let mut run = begun("multi-prefix", "@relay bob");
    let revoked = |then| What::Revoked { subject: bob(), then, reason: "spam".into() };
    run.input("< :bob!u@bobhost PRIVMSG #c :hi");
    run.transcript.clear();
    run.deliver_news(1, "#c", "mod", revoked(Standing::Banned));
    run.check(
        "
        > MODE #c +b *!*@bobhost
        > KICK #c bob :by mod: spam
        > PING mc1
        < :relay!~relay@host MODE #c +b *!*@bobhost
        < :relay!~relay@host KICK #c bob :by mod: spam
        leave of bob@net:6667: kicked by relay: by mod: spam
        < :srv PONG srv mc1
        delivered 1
    ",
    );
    run.deliver_news(2, "#c", "mod", revoked(Standing::Free));
    run.check(
        "
        > MODE #c -b *!*@bobhost
        > PING mc2
        < :srv PONG srv mc2
        delivered 2
        < :bob!u@bobhost JOIN #c
    ",
    );
    // A nick makes nobody an operator before they have spoken under it.
    run.deliver_news(3, "#c", "mod", What::Granted { subject: bob(), role: Role::Moderator });
    run.check(
        "
        > NOTICE #c :* mod made bob moderator
        > PING mc3
        < :srv PONG srv mc3
        delivered 3
        < :bob!u@bobhost PRIVMSG #c :me
        join of bob@net:6667
        Text in #c by bob@net:6667, id 1000000-2, at 1000000: me
    ",
    );
    run.deliver_news(4, "#c", "mod", What::Granted { subject: bob(), role: Role::Moderator });
    run.check(
        "
        > MODE #c +o bob
        > PING mc4
        < :srv PONG srv mc4
        delivered 4
        < :relay!~relay@host MODE #c +o bob
        < :op!o@h MODE #c -o relay
    ",
    );
    run.deliver_news(5, "#c", "mod", revoked(Standing::Out));
    run.check(
        "> NOTICE #c :* mod removed bob (spam); the relay is no operator here and cannot do the same
         > PING mc5",
    );
}

#[test]
fn nothing_is_carried_before_an_operator_agrees() {
    let mut run = Run::new(Setup { consent: Consent::Ask, ..setup() }, &["#c"]);
    let muted = Identity([1; 32]);
    run.check(&format!(
        "{}
        > NOTICE #c :This is Multichat relay (Multichat {}). It is to carry #c to and from other networks. An operator of the channel may say `!mc allow`, or `!mc stop` to send it away. Until then nothing is carried.
        > PING mc1
        < :srv PONG srv mc1
        < :bob!u@h PRIVMSG #c :hello
        deliver 1 #c alice one
        failed 1 no operator of #c has allowed it yet
        < :bob!u@h PRIVMSG #c :!mc allow
        > NOTICE bob :only operators of #c may say that
        < :op!o@h PRIVMSG #c :!mc allow
        note consent/#c = allow 1000000 op!o@h
        > NOTICE #c :#c is carried from now on, as op allowed; `!mc stop` ends it
        > PING mc2
        < :srv PONG srv mc2
        deliver 2 #c alice two
        > PRIVMSG #c :<alice> two
        > PING mc3
        < :srv PONG srv mc3
        delivered 2
        < :op!o@h PRIVMSG #c :!mc mute ALICE
        note mute/#c/{muted} = 1000000 op!o@h
        > NOTICE #c :what alice says is not carried here any more
        > PING mc4
        < :srv PONG srv mc4
        deliver 3 #c alice three
        failed 3 an operator of the channel muted its author there
        < :op!o@h PRIVMSG #c :!mc stop
        note consent/#c = stop 1000000 op!o@h
        warn #c: op!o@h said stop: nothing is carried any more
        > PART #c :op said stop; an invitation brings this back
        deliver 4 #c alice four
        failed 4 an operator of #c said stop
        < :relay!~relay@host PART #c
        < :bob!u@h PRIVMSG #c :unheard
        < :op!o@h INVITE relay #c
        note consent/#c =
        > JOIN #c
    ",
        welcomed("multi-prefix", "relay @op bob"),
        env!("CARGO_PKG_VERSION"),
    ));
}

#[test]
fn who_founds_a_channel_needs_nobody_to_agree() {
    let mut run = Run::new(Setup { consent: Consent::Ask, ..setup() }, &["#c"]);
    run.check(&format!(
        "{}
        note consent/#c = allow 1000000 nobody else was in the channel
        < :op!o@h JOIN #c
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
    ",
        welcomed("multi-prefix", "@relay")
    ));
}

#[test]
fn what_operators_said_outlasts_a_restart() {
    let note = |value: &str| [("consent/#c".to_owned(), value.to_owned())];
    for (consent, said, joins) in
        [(Consent::Given, "stop 1 op!o@h", false), (Consent::Ask, "allow 1 op!o@h", true)]
    {
        let mut session = Session::new(Setup { consent, ..setup() });
        session.restore(note(said));
        session.link(Timestamp(1_000_000), &link("#c"), ChannelId([7; 32]));
        let mut run =
            Run { session, now: Timestamp(1_000_000), transcript: Vec::new(), token: 0, question: 0 };
        for line in ["connect", "< :srv 001 relay :Welcome", "< :srv 422 relay :No MOTD"] {
            run.input(line);
        }
        assert_eq!(run.transcript.contains(&"> JOIN #c".to_owned()), joins, "{said}");
        run.input("deliver 1 #c alice one");
        let stopped = run.transcript.contains(&"failed 1 an operator of #c said stop".to_owned());
        assert_eq!(stopped, !joins);
    }
}

#[test]
fn a_netsplit_is_waited_out() {
    begun("batch", "relay @op bob carol dave").check(
        "
        < :bob!u@h PRIVMSG #c :hi
        Text in #c by bob@net:6667, id 1000000-1, at 1000000: hi
        < :carol!u@h PRIVMSG #c :hi
        Text in #c by carol@net:6667, id 1000000-2, at 1000000: hi
        < :dave!u@h PRIVMSG #c :hi
        Text in #c by dave@net:6667, id 1000000-3, at 1000000: hi
        < :bob!u@h QUIT :hub.net leaf.net
        < :srv BATCH +s netsplit hub.net leaf.net
        < @batch=s :carol!u@h QUIT :whatever
        < :srv BATCH -s
        < :dave!u@h QUIT :bye
        leave of dave@net:6667: bye
        < :bob!u@h JOIN #c
        < :bob!u@h PRIVMSG #c :back
        join of bob@net:6667
        Text in #c by bob@net:6667, id 1000000-4, at 1000000: back
    ",
    );
}

#[test]
fn identity_hangs_on_the_account() {
    begun("message-tags account-tag account-notify extended-join", "relay @op").check(
        "
        < :bob!u@h JOIN #c BobAcc :Bob
        < @account=BobAcc :bob!u@h PRIVMSG #c :hi
        join of account:bobacc@net:6667
        Text in #c by account:bobacc@net:6667, id 1000000-1, at 1000000: hi
        < :bob!u@h NICK bobby
        < @account=BobAcc :bobby!u@h PRIVMSG #c :hi
        Text in #c by account:bobacc@net:6667, id 1000000-2, at 1000000: hi
        < :bob!x@y PRIVMSG #c :not him
        Text in #c by bob@net:6667, id 1000000-3, at 1000000: not him
        < :bobby!u@h QUIT :bye
        leave of account:bobacc@net:6667: bye
    ",
    );
}

#[test]
fn capabilities_are_agreed_one_by_one_where_need_be() {
    let transcript = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv CAP * LS :message-tags batch
        > CAP REQ :message-tags batch
        < :srv CAP * NAK :message-tags batch
        > CAP REQ message-tags
        > CAP REQ batch
        < :srv CAP * ACK :message-tags
        < :srv CAP * NAK :batch
        > CAP END
        < :srv 001 relay :Welcome
        < :srv 422 relay :No MOTD
        < :srv CAP relay NEW :sasl=PLAIN echo-message
        > CAP REQ echo-message
        < :srv CAP relay ACK :echo-message
        < :srv CAP relay DEL :echo-message
    ";
    check_with(setup(), &[], transcript);
}

#[test]
fn scram_is_chosen_and_checks_the_server() {
    let mut setup = setup();
    setup.credentials.account = Some(account("pass", SaslMechanism::Auto));
    let b64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let first = b64(&format!("n,,n=acc,r={}", blake3::hash(b"seed 1").to_hex()));
    let transcript = format!(
        "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv CAP * LS :sasl=PLAIN,SCRAM-SHA-256
        > CAP REQ sasl
        < :srv CAP relay ACK :sasl
        > AUTHENTICATE SCRAM-SHA-256
        < AUTHENTICATE +
        > AUTHENTICATE {first}
        < AUTHENTICATE {}
        close Some(Denied) SCRAM-SHA-256: the server's nonce does not continue ours
        ",
        b64("r=other,s=AAAA,i=4096")
    );
    check_with(setup, &[], &transcript);
}

#[test]
fn certificates_and_nickserv() {
    let begin = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
    ";
    let mut external = setup();
    external.credentials.account = Some(account("", SaslMechanism::External));
    let transcript = "
        < :srv CAP * LS :sasl=PLAIN,EXTERNAL
        > CAP REQ sasl
        < :srv CAP relay ACK :sasl
        > AUTHENTICATE EXTERNAL
        < AUTHENTICATE +
        > AUTHENTICATE YWNj
        < :srv 903 relay :SASL authentication successful
        > CAP END
    ";
    check_with(external, &[], &format!("{begin}{transcript}"));

    let mut fallback = setup();
    fallback.credentials.account = Some(Account { nickserv: true, ..account("pass", SaslMechanism::Auto) });
    for answer in ["< :srv 900 relay relay!u@h acc :You are now logged in as acc", "+5000"] {
        let transcript = format!(
            "
            < :srv CAP * LS :away-notify
            > CAP END
            < :srv 001 relay :Welcome
            < :srv 422 relay :No MOTD
            > PRIVMSG NickServ :IDENTIFY acc pass
            {answer}
            > JOIN #c
        "
        );
        check_with(fallback.clone(), &["#c"], &format!("{begin}{transcript}"));
    }
}

/// Lines of a server, nearly right.
fn server_line() -> impl Strategy<Value = String> {
    let source = "(:srv |:relay!~r@h |:bob!u@h |:relay |:op |)";
    let command = "(001|005|376|422|433|404|403|442|471|474|477|396|904|903|CAP|JOIN|PART|KICK|QUIT|NICK|PRIVMSG|NOTICE|PONG|PING|ERROR|AUTHENTICATE|MODE|BATCH|TAGMSG|REDACT|FAIL|TOPIC|INVITE|ACCOUNT|CHGHOST|353|366|324|332|900)";
    let arguments = "( (relay|bob|#c|#D|\\*|LS|ACK|NAK|NEW|DEL|\\+[bo-]|-o|\\+r|-r|netsplit|draft/multiline|mc[1-4]|srv|x@y|CASEMAPPING=ascii|CHANLIMIT=#:1|é)){0,3}";
    let text = "( :(hello|\\x01VERSION\\x01|\\x01ACTION x\\x01|sasl echo-message|!mc (allow|stop|who|mute alice)|@relay bob|\\x02|))?";
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
                run.session.receive(run.now, wire::with_modes(message, &line));
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

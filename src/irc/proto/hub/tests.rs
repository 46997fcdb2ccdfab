//! Transcripts. A script is the expectation: `1> line` is sent by client 1, `1< line` is what it
//! gets, `*` drives the world. Running a script must give the script back.
//!
//! `* connect 1 host`, `* drop 1`, `* wait ms`, `* restart` (all connections gone, hub made anew
//! from what the node kept), `* said @a:b #c text`.

mod accounts;
mod bans;
mod metadata;

use super::stand_in::StandIn;
use super::{Done, Effect, Hub, Settings, Work};
use crate::base::Timestamp;
use crate::base::config::Guests;
use crate::chat::message::Content;
use crate::irc::proto::accounts::Verifier;
use crate::irc::proto::line::Lines;
use crate::irc::proto::session::{ClientId, Peer};

struct World {
    hub: Hub,
    node: StandIn,
    settings: Settings,
    got: Vec<String>,
}

fn settings() -> Settings {
    Settings {
        server: "multichat.local".into(),
        password: None,
        started: Timestamp(1_000_000),
        tags_from: 1000,
        network: "Multichat".into(),
        description: "a node".into(),
        seed: [7; 32],
        guests: Guests::Stay,
        registration: true,
        before_connect: false,
        email: false,
        always_on: true,
        opers: vec![("root".into(), "toor".into())],
        motd: vec!["Be kind.".into()],
        sts: None,
        cloak: false,
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let node = StandIn { now: Timestamp(1_000_000), ..StandIn::default() };
        let hub = Hub::new(settings.clone(), Vec::new(), Vec::new());
        Self { hub, node, settings, got: Vec::new() }
    }

    fn run(mut self, script: &str) -> String {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(order) = line.strip_prefix("* ") {
                self.got.push(line.to_owned());
                self.order(order);
            } else if let Some((client, text)) =
                line.split_once("> ").filter(|(c, _)| c.parse::<u64>().is_ok())
            {
                self.got.push(line.to_owned());
                self.send(client.parse().unwrap(), text);
            }
        }
        self.got.join("\n")
    }

    fn order(&mut self, order: &str) {
        let words: Vec<&str> = order.splitn(4, ' ').collect();
        let now = self.node.now;
        match words.as_slice() {
            ["connect", client, host] => {
                let peer = Peer { host: (*host).to_owned(), ..Peer::default() };
                let effects = self.hub.connected(now, client.parse().unwrap(), peer);
                self.act(effects);
            }
            ["drop", client] => {
                let effects = self.hub.disconnected(now, client.parse().unwrap(), "Connection closed");
                self.act(effects);
            }
            // Registers without showing the greeting.
            ["user", client, nick, caps] => {
                let client = client.parse().unwrap();
                let peer = Peer { host: "10.0.0.1".to_owned(), ..Peer::default() };
                self.hub.connected(now, client, peer);
                let shown = self.got.len();
                for line in [format!("NICK {nick}"), "USER u 0 * :Real".into(), format!("CAP REQ :{caps}")] {
                    self.send(client, &line);
                }
                self.send(client, "CAP END");
                let greeting = format!("{client}");
                let is_greeting = |line: &String| line.split(['<', '>']).next() == Some(&greeting);
                let others: Vec<String> = self.got.drain(shown..).filter(|line| !is_greeting(line)).collect();
                self.got.extend(others);
            }
            ["wait", ms] => {
                self.node.now = now.plus_ms(ms.parse().unwrap());
                let effects = self.hub.tick(self.node.now);
                self.act(effects);
            }
            ["restart"] => {
                let notes = self.node.notes.clone().into_iter().collect();
                self.hub = Hub::new(self.settings.clone(), self.node.views(), notes);
            }
            ["said", home, channel, text] => {
                for news in self.node.elsewhere(home, channel, Content::text(text.replace("\\n", "\n"))) {
                    let effects = self.hub.news(self.node.now, news);
                    self.act(effects);
                }
            }
            other => panic!("no such order: {other:?}"),
        }
    }

    fn send(&mut self, client: ClientId, text: &str) {
        let mut lines = Lines::default();
        lines.feed(format!("{text}\r\n").as_bytes());
        while let Some(input) = lines.take() {
            let effects = self.hub.input(self.node.now, client, input);
            self.act(effects);
        }
    }

    fn act(&mut self, effects: Vec<Effect>) {
        let now = self.node.now;
        for effect in effects {
            match effect {
                Effect::Send { client, line } => {
                    let mut line = line.to_string();
                    for news in &self.node.log {
                        line = line.replace(&news.event.to_string(), &format!("EVENT{}", news.position));
                    }
                    self.got.push(format!("{client}< {line}"));
                }
                Effect::Close { client } => self.got.push(format!("{client}< closed")),
                Effect::Remember { key, value } => self.node.remember(key, value),
                Effect::Submit(submission) => {
                    let tag = submission.tag;
                    let (answer, news) = self.node.submit(*submission);
                    // The node tells its news before it answers.
                    let mut effects = Vec::new();
                    for news in news {
                        effects.extend(self.hub.news(now, news));
                    }
                    effects.extend(self.hub.answered(now, tag, answer));
                    self.act(effects);
                }
                Effect::History { query, what } => {
                    let effects = self.hub.history(now, query, self.node.history(&what));
                    self.act(effects);
                }
                Effect::Keep { job, key, value } => {
                    self.node.remember(key, value);
                    let effects = self.hub.done(now, job, Done::Kept);
                    self.act(effects);
                }
                // Hashing is the shell's; here a hash is the password itself.
                Effect::Compute { job, work } => {
                    let done = match work {
                        Work::Hash { password } => {
                            Done::Hashed { scram: Verifier::of(&password, b"salt"), hash: password }
                        }
                        Work::Verify { password, hash } => {
                            Done::Verified(!hash.is_empty() && password == hash)
                        }
                    };
                    let effects = self.hub.done(now, job, done);
                    self.act(effects);
                }
                Effect::Reload { job } => {
                    let effects = self.hub.done(now, job, Done::Reloaded(Ok(())));
                    self.act(effects);
                }
                Effect::Pause { client } => self.got.push(format!("{client}< paused")),
                Effect::Resume { client } => self.got.push(format!("{client}< resumed")),
                Effect::Drain { client } => {
                    let effects = self.hub.drained(now, client);
                    self.act(effects);
                }
            }
        }
    }
}

#[track_caller]
fn check(script: &str) {
    check_in(settings(), script);
}

#[track_caller]
fn check_in(settings: Settings, script: &str) {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    let expect = lines.collect::<Vec<_>>().join("\n");
    let got = World::new(settings).run(script);
    assert!(got == expect, "expected:\n{expect}\n\ngot:\n{got}");
}

#[test]
fn a_client_registers_and_is_greeted() {
    check(
        "* connect 1 10.0.0.1
        1> CAP LS 302
        1< :multichat.local CAP * LS * :sasl=PLAIN,EXTERNAL,SCRAM-SHA-256 server-time message-tags batch echo-message labeled-response cap-notify multi-prefix userhost-in-names extended-join account-tag account-notify away-notify setname chghost invite-notify standard-replies znc.in/self-message extended-monitor draft/chathistory draft/event-playback draft/read-marker draft/multiline=max-bytes=16384,max-lines=100
        1< :multichat.local CAP * LS :draft/account-registration=custom-account-name draft/pre-away draft/no-implicit-names draft/extended-isupport draft/message-redaction draft/metadata-3=before-connect,max-subs=50,max-keys=25,max-value-bytes=256
        1> JOIN :
        1< :multichat.local 451 * :You have not registered: send NICK and USER first
        1> NICK 1bad
        1< :multichat.local 432 * 1bad :A nick is 1 to 30 letters, digits and []\\`_^{|}-, no digit first
        1> NICK bob
        1> USER bob 0 * :Bob B.
        1> CAP REQ :batch sts
        1< :multichat.local CAP bob NAK :batch sts
        1> CAP REQ :batch
        1< :multichat.local CAP bob ACK :batch
        1> CAP END
        1< :multichat.local 001 bob :Welcome to the Multichat network, bob!bob@multichat.local
        1< :multichat.local 002 bob :Your host is multichat.local, running multichat-0.1.0
        1< :multichat.local 003 bob :This server was started 1970-01-01 00:16:40 UTC
        1< :multichat.local 004 bob multichat.local multichat-0.1.0 BRgiow beIklaohqvCiMmnRst beIklaohqv
        1< :multichat.local 005 bob NETWORK=Multichat CASEMAPPING=ascii CHANTYPES=# PREFIX=(qaohv)~&@%+ CHANMODES=beI,k,l,CiMmnRst MAXLIST=beI:60 CHANLIMIT=#: STATUSMSG=~&@%+ EXCEPTS INVEX EXTBAN=,am ACCOUNTEXTBAN=a NICKLEN=30 :are supported by this server
        1< :multichat.local 005 bob USERLEN=16 CHANNELLEN=64 TOPICLEN=307 KICKLEN=300 AWAYLEN=200 NAMELEN=150 LINELEN=512 TARGMAX=PRIVMSG:4,NOTICE:4,TAGMSG:4,JOIN:,PART:,KICK:,WHOIS:1,MONITOR:100 MODES=12 ELIST=CMNTU SAFELIST UTF8ONLY WHOX :are supported by this server
        1< :multichat.local 005 bob BOT=B MONITOR=100 SILENCE=60 ACCEPT=60 CALLERID=g KNOCK CHATHISTORY=100 MSGREFTYPES=msgid,timestamp :are supported by this server
        1< :multichat.local 251 bob :There are 0 users and 1 invisible on 1 servers
        1< :multichat.local 252 bob 0 :operators online
        1< :multichat.local 253 bob 0 :unknown connections
        1< :multichat.local 254 bob 0 :channels formed
        1< :multichat.local 255 bob :I have 1 clients and 0 servers
        1< :multichat.local 265 bob 1 1 :Current local users 1, max 1
        1< :multichat.local 266 bob 1 1 :Current global users 1, max 1
        1< :multichat.local 375 bob :- multichat.local Message of the day -
        1< :multichat.local 372 bob :- Be kind.
        1< :multichat.local 376 bob :End of MOTD
        1< :multichat.local 221 bob +i
        1> CAP LIST
        1< :multichat.local CAP bob LIST :batch cap-notify
        1> PING x
        1< :multichat.local PONG multichat.local :x
        1> FROB
        1< :multichat.local 421 bob FROB :Unknown command
        1> PART
        1< :multichat.local 461 bob PART :Not enough parameters
        1> QUIT :bye
        1< ERROR :Closing link: Quit: bye
        1< closed",
    );
}

#[test]
fn two_people_talk_and_leave() {
    check(
        "* user 1 bob batch
        * user 2 carol server-time message-tags
        1> JOIN #rust
        1< :bob!u@multichat.local JOIN #rust
        1< :multichat.local 353 bob = #rust :~bob
        1< :multichat.local 366 bob #rust :End of NAMES list
        2> JOIN #Rust
        1< :carol!u@multichat.local JOIN #rust
        1< PING :seen-2
        2< @time=1970-01-01T00:16:40.000Z :carol!u@multichat.local JOIN #rust
        2< :multichat.local 353 carol = #rust :~bob carol
        2< :multichat.local 366 carol #rust :End of NAMES list
        2> PRIVMSG #rust :hello
        1< :carol!u@multichat.local PRIVMSG #rust :hello
        2< PING :seen-3
        1> PRIVMSG #rust :\x01ACTION waves\x01
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT4 :bob!u@multichat.local PRIVMSG #rust :\x01ACTION waves\x01
        1> PRIVMSG #rust :\x01VERSION\x01
        2< @time=1970-01-01T00:16:40.000Z;msgid=5ojksrfekfbqcvbibzq76awr :bob!u@multichat.local PRIVMSG #rust :\x01VERSION\x01
        2> TOPIC #rust :mine
        2< :multichat.local 482 carol #rust :not permitted: set_topic
        1> TOPIC #rust :ours
        1< :bob!u@multichat.local TOPIC #rust :ours
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT5 :bob!u@multichat.local TOPIC #rust :ours
        2> NICK caro
        1< :carol!u@multichat.local NICK :caro
        2< :carol!u@multichat.local NICK :caro
        2> PART #rust :off
        1< :caro!u@multichat.local PART #rust :off
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT7 :caro!u@multichat.local PART #rust :off
        2> PRIVMSG #rust :still?
        2< :multichat.local 404 caro #rust :You're not on that channel
        2> PRIVMSG #nowhere :x
        2< :multichat.local 403 caro #nowhere :No such channel
        2> PART #rust
        2< :multichat.local 442 caro #rust :You're not on that channel",
    );
}

#[test]
fn what_was_missed_is_replayed_once_and_before_what_is_live() {
    check(
        "* user 1 bob batch server-time
        1> JOIN #c
        1< @time=1970-01-01T00:16:40.000Z :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        * said @al:hs.org #c one
        1< @time=1970-01-01T00:16:40.000Z :al!al@hs.org JOIN #c
        1< PING :seen-2
        1< @time=1970-01-01T00:16:40.000Z :al!al@hs.org PRIVMSG #c :one
        1> PONG :seen-2
        * wait 1000
        1< PING :seen-3
        1> PRIVMSG #c :mine
        * restart
        * said @al:hs.org #c two
        * user 2 bob batch server-time
        2> JOIN #c
        2< @time=1970-01-01T00:16:41.000Z :bob!u@multichat.local JOIN #c
        2< :multichat.local 353 bob = #c :~bob al
        2< :multichat.local 366 bob #c :End of NAMES list
        2< :multichat.local BATCH +b1 chathistory #c
        2< @time=1970-01-01T00:16:40.000Z;batch=b1 :al!al@hs.org PRIVMSG #c :one
        2< @time=1970-01-01T00:16:41.000Z;batch=b1 :al!al@hs.org PRIVMSG #c :two
        2< :multichat.local BATCH -b1
        2< PING :seen-5
        2> PONG seen-5
        * said @al:hs.org #c three
        2< @time=1970-01-01T00:16:41.000Z :al!al@hs.org PRIVMSG #c :three
        * drop 2
        * said @al:hs.org #c four
        * user 3 bob echo-message
        3> JOIN #c
        3< :bob!u@multichat.local JOIN #c
        3< :multichat.local 353 bob = #c :~bob al
        3< :multichat.local 366 bob #c :End of NAMES list
        3< :al!al@hs.org PRIVMSG #c :[00:16:41] three
        3< :al!al@hs.org PRIVMSG #c :[00:16:41] four
        3< PING :seen-7",
    );
}

#[test]
fn the_clients_of_one_user_are_in_step_and_strangers_are_kept_out() {
    check(
        "* user 1 bob echo-message
        * user 2 bob batch
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        2< :bob!u@multichat.local JOIN #c
        2< :multichat.local 353 bob = #c :~bob
        2< :multichat.local 366 bob #c :End of NAMES list
        1> PRIVMSG #c :hi
        1< :bob!u@multichat.local PRIVMSG #c :hi
        1< PING :seen-2
        2< :bob!u@multichat.local PRIVMSG #c :hi
        2< PING :seen-2
        * connect 3 10.9.9.9
        3> NICK Bob
        3< :multichat.local 433 * Bob :Nickname is already in use
        3> NICK multichat
        3< :multichat.local 433 * multichat :Nickname is already in use
        2> PART #c
        1< :bob!u@multichat.local PART #c
        2< :bob!u@multichat.local PART #c",
    );
}

#[test]
fn labels_are_answered_with_ack_line_or_batch() {
    check(
        "* user 1 bob batch labeled-response echo-message message-tags
        1> @label=a JOIN #c
        1< @label=a :multichat.local BATCH +b1 labeled-response
        1< @batch=b1 :bob!u@multichat.local JOIN #c
        1< @batch=b1 :multichat.local 353 bob = #c :~bob
        1< @batch=b1 :multichat.local 366 bob #c :End of NAMES list
        1< :multichat.local BATCH -b1
        1> @label=b PRIVMSG #c :hi
        1< @msgid=EVENT2;label=b :bob!u@multichat.local PRIVMSG #c :hi
        1> @label=c PONG x
        1< @label=c :multichat.local ACK
        1> @label=d;+typing=active TAGMSG #c
        1< @msgid=5ojksrfekfbqcvbibzq76awr;+typing=active;label=d :bob!u@multichat.local TAGMSG #c
        1> @label=e PRIVMSG #none :hi
        1< @label=e :multichat.local 403 bob #none :No such channel
        1> @label=f CAP REQ :-echo-message
        1< @label=f :multichat.local CAP bob ACK :-echo-message
        1> @label=g PRIVMSG #c :unheard
        1< @label=g :multichat.local ACK
        1> @label=h QUIT
        1< ERROR :Closing link: Client quit
        1< closed",
    );
}

#[test]
fn people_from_elsewhere_have_legal_nicks_and_make_room_for_clients() {
    check(
        "* user 1 bob batch
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        * said @al.ice:hs.org #c one\\n\\ntwo
        1< :al_ice!al.ice@hs.org JOIN #c
        1< PING :seen-2
        1< :al_ice!al.ice@hs.org PRIVMSG #c :one
        1< :al_ice!al.ice@hs.org PRIVMSG #c :two
        * said @bob:hs.org #c three
        1< :bob|cwmo!bob@hs.org JOIN #c
        1< :bob|cwmo!bob@hs.org PRIVMSG #c :three
        1> WHOIS al_ice
        1< :multichat.local 311 bob al_ice al.ice hs.org * :al.ice
        1< :multichat.local 319 bob al_ice :#c
        1< :multichat.local 312 bob al_ice multichat.local :a node
        1< :multichat.local 320 bob al_ice :has the identity 6y2tqlz6wcxvoc6n2os6utzxuez3g3gpno7r6xdrwrotoujdr4ea
        1< :multichat.local 320 bob al_ice :is @al.ice:hs.org
        1< :multichat.local 318 bob al_ice :End of WHOIS list
        1> PRIVMSG al_ice :psst
        1< :multichat.local 531 bob al_ice :They are on another network: direct messages do not go there yet; nothing was sent
        1> PRIVMSG nobody :psst
        1< :multichat.local 401 bob nobody :No such nick
        1> WHO #c %tn,7
        1< :multichat.local 354 bob 7 bob|cwmo
        1< :multichat.local 354 bob 7 bob
        1< :multichat.local 354 bob 7 al_ice
        1< :multichat.local 315 bob #c :End of WHO list
        * user 2 al_ice batch
        1< :al_ice!al.ice@hs.org NICK :al_ice|6y2t",
    );
}

#[test]
fn questions_are_answered_and_change_nothing() {
    check(
        "* user 1 bob batch
        1> JOIN #a,#b:,#b
        1< :bob!u@multichat.local JOIN #a
        1< :multichat.local 353 bob = #a :~bob
        1< :multichat.local 366 bob #a :End of NAMES list
        1< :multichat.local 403 bob #b: :A channel name is # and 1 to 63 bytes without spaces, commas, colons or ~
        1< :bob!u@multichat.local JOIN #b
        1< :multichat.local 353 bob = #b :~bob
        1< :multichat.local 366 bob #b :End of NAMES list
        1> JOIN #a
        1> MODE #a
        1< :multichat.local 324 bob #a +nt
        1< :multichat.local 329 bob #a 1000
        1> MODE #a +m
        1< :bob!u@multichat.local MODE #a +m
        1> MODE #a b
        1< :multichat.local 368 bob #a :End of channel ban list
        1> MODE bob +i
        1> MODE bob +Z
        1< :multichat.local 501 bob :Unknown MODE flag
        1> MODE carol
        1< :multichat.local 401 bob carol :No such nick
        1> LIST
        1< :multichat.local 321 bob Channel :Users  Name
        1< :multichat.local 322 bob #a 1 :
        1< :multichat.local 322 bob #b 1 :
        1< :multichat.local 323 bob :End of LIST
        1> LIST >1
        1< :multichat.local 321 bob Channel :Users  Name
        1< :multichat.local 323 bob :End of LIST
        1> AWAY :tea
        1< :multichat.local 306 bob :You have been marked as being away
        1> WHO bob
        1< :multichat.local 352 bob #b u multichat.local multichat.local bob G~ :0 Real
        1< :multichat.local 315 bob bob :End of WHO list
        1> USERHOST bob nobody
        1< :multichat.local 302 bob :bob=-u@multichat.local
        1> AWAY
        1< :multichat.local 305 bob :You are no longer marked as being away
        1> ISON bob nobody
        1< :multichat.local 303 bob :bob
        1> NAMES
        1< :multichat.local 366 bob * :End of NAMES list
        1> JOIN 0
        1< :bob!u@multichat.local PART #b
        1< PING :seen-3
        1< :bob!u@multichat.local PART #a",
    );
}

#[test]
fn a_password_a_silence_and_a_slow_registration() {
    let settings = Settings { password: Some("sesame".into()), ..settings() };
    check_in(
        settings,
        "* connect 1 h
        1> PASS wrong
        1> NICK bob
        1> USER b 0 * :B
        1< :multichat.local 464 bob :Password incorrect: this server wants PASS first
        1< ERROR :Closing link: Bad password
        1< closed
        * connect 2 h
        * wait 30001
        2< ERROR :Closing link: Registration timed out
        2< closed",
    );
}

#[test]
fn silence_is_probed_and_then_ended() {
    check(
        "* user 1 bob batch
        * wait 120001
        1< PING :multichat.local
        * wait 10
        1> PONG multichat.local
        * wait 120001
        1< PING :multichat.local
        * wait 60001
        1< ERROR :Closing link: Ping timeout: 180 seconds
        1< closed",
    );
}

#[test]
fn a_long_absence_is_replayed_in_pages_whole_and_in_order() {
    let mut world = World::new(settings());
    for order in ["user 1 bob batch", "said @al:hs.org #c x"] {
        if order.starts_with("said") {
            world.send(1, "JOIN #c");
        }
        world.order(order);
    }
    world.order("drop 1");
    for n in 0..350 {
        world.order(&format!("said @al:hs.org #c line-{n}"));
    }
    world.order("user 2 bob server-time");
    world.send(2, "JOIN #c");
    world.order("said @al:hs.org #c live");
    let lines = world.got.iter().filter_map(|line| line.split_once("PRIVMSG #c :"));
    let heard: Vec<&str> = lines.filter(|(head, _)| head.starts_with("2<")).map(|(_, text)| text).collect();
    let mut expect = vec!["x".to_owned()];
    expect.extend((0..350).map(|n| format!("line-{n}")));
    expect.push("live".into());
    assert_eq!(heard, expect);
}

#[test]
fn live_news_during_a_replay_wait_their_turn_and_none_is_lost() {
    let mut world = World::new(settings());
    world.order("user 1 bob batch");
    world.send(1, "JOIN #c");
    world.order("drop 1");
    world.order("said @al:hs.org #c missed");
    world.order("user 2 bob server-time");
    let mut lines = Lines::default();
    lines.feed(b"JOIN #c\r\n");
    // By hand, so that the answer to the query comes late: news overtake it, more than are held.
    let effects = world.hub.input(world.node.now, 2, lines.take().unwrap());
    let Some(Effect::Submit(join)) = effects.into_iter().next() else { panic!("a join is a wish") };
    let tag = join.tag;
    let (answer, _) = world.node.submit(*join);
    let mut effects = world.hub.answered(world.node.now, tag, answer);
    let Some(Effect::History { query, what }) = effects.pop() else { panic!("a member catches up") };
    let page = world.node.history(&what);
    world.act(effects);
    for n in 0..400 {
        world.order(&format!("said @al:hs.org #c live-{n}"));
    }
    let effects = world.hub.history(world.node.now, query, page);
    world.act(effects);
    let lines = world.got.iter().filter_map(|line| line.split_once("PRIVMSG #c :"));
    let heard: Vec<&str> = lines.filter(|(head, _)| head.starts_with("2<")).map(|(_, text)| text).collect();
    let mut expect = vec!["missed".to_owned()];
    expect.extend((0..400).map(|n| format!("live-{n}")));
    assert_eq!(heard, expect);
}

#[test]
fn a_client_need_not_wait_for_its_join_before_it_speaks() {
    let mut world = World::new(settings());
    world.order("user 1 bob echo-message");
    let mut lines = Lines::default();
    lines.feed(b"JOIN #c\r\nPRIVMSG #C :at once\r\nTOPIC #c :t\r\nPART #c\r\n");
    let mut effects = Vec::new();
    while let Some(input) = lines.take() {
        effects.extend(world.hub.input(world.node.now, 1, input));
    }
    world.act(effects);
    let got = world.got.join("\n");
    for (before, after) in
        [("JOIN #c", "PRIVMSG #c :at once"), (":at once", "TOPIC #c :t"), (":t", "PART #c")]
    {
        let (before, after) = (got.find(before), got.find(after));
        assert!(before.is_some() && before < after, "{got}");
    }
}

fn passing() -> Settings {
    Settings { guests: Guests::Leave, always_on: false, ..settings() }
}

#[test]
fn guests_who_do_not_stay_quit_and_are_gone() {
    check_in(
        passing(),
        "* user 1 bob batch
        * user 2 carol batch
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :@bob
        1< :multichat.local 366 bob #c :End of NAMES list
        2> JOIN #c
        1< :carol!u@multichat.local JOIN #c
        2< :carol!u@multichat.local JOIN #c
        2< :multichat.local 353 carol = #c :@bob carol
        2< :multichat.local 366 carol #c :End of NAMES list
        2> QUIT :off
        2< ERROR :Closing link: Quit: off
        2< closed
        1< :carol!u@multichat.local QUIT :Quit: off
        1> NAMES #c
        1< :multichat.local 353 bob = #c :@bob
        1< :multichat.local 366 bob #c :End of NAMES list
        * user 3 carol batch
        3> WHOWAS carol
        3< :multichat.local 314 carol carol u multichat.local * :Real
        3< :multichat.local 312 carol carol multichat.local :1970-01-01 00:16:40 UTC
        3< :multichat.local 369 carol carol :End of WHOWAS
        3> JOIN #c
        1< :carol!u@multichat.local JOIN #c
        3< :carol!u@multichat.local JOIN #c
        3< :multichat.local 353 carol = #c :@bob carol
        3< :multichat.local 366 carol #c :End of NAMES list
        * restart
        * wait 1
        * user 4 dave batch
        4> JOIN #c
        4< :dave!u@multichat.local JOIN #c
        4< :multichat.local 353 dave = #c :dave
        4< :multichat.local 366 dave #c :End of NAMES list",
    );
}

#[test]
fn an_account_is_registered_and_its_nick_is_its_owners_alone() {
    check(
        "* user 1 bob batch
        1> NS REGISTER sesame
        1< :NickServ!NickServ@multichat.local NOTICE bob :Account created
        1< :multichat.local 900 bob bob!u@multichat.local bob :You are now logged in as bob
        1> WHOIS bob
        1< :multichat.local 311 bob bob u multichat.local * :Real
        1< :multichat.local 312 bob bob multichat.local :a node
        1< :multichat.local 330 bob bob bob :is logged in as
        1< :multichat.local 338 bob bob 10.0.0.1 :is actually using host
        1< :multichat.local 379 bob bob :is using modes +i
        1< :multichat.local 317 bob bob 0 1000 :seconds idle, signon time
        1< :multichat.local 318 bob bob :End of WHOIS list
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        1> QUIT
        1< ERROR :Closing link: Client quit
        1< closed
        * connect 2 10.9.9.9
        2> CAP REQ :sasl
        2< :multichat.local CAP * ACK :sasl
        2> NICK bob
        2> USER b 0 * :B
        2> AUTHENTICATE PLAIN
        2< AUTHENTICATE +
        2> AUTHENTICATE AGJvYgB3cm9uZw==
        2< :multichat.local 904 bob :SASL authentication failed
        2> CAP END
        2< :multichat.local 433 * bob :Nickname is registered: log in by SASL, or take another
        2> CAP LS
        2< :multichat.local CAP * LS :sasl server-time message-tags batch echo-message labeled-response cap-notify multi-prefix userhost-in-names extended-join account-tag account-notify away-notify setname chghost invite-notify standard-replies znc.in/self-message extended-monitor draft/chathistory draft/event-playback draft/read-marker draft/multiline draft/account-registration draft/pre-away draft/no-implicit-names draft/extended-isupport draft/message-redaction draft/metadata-3
        2> AUTHENTICATE PLAIN
        2< AUTHENTICATE +
        2> AUTHENTICATE AGJvYgBzZXNhbWU=
        2< :multichat.local 900 * *!*@* bob :You are now logged in as bob
        2< :multichat.local 903 * :SASL authentication successful
        2> NICK bob
        * connect 3 10.9.9.9
        3> PASS wrong
        3> NICK bob
        3> USER b 0 * :B
        3< :multichat.local 464 bob :Password incorrect
        3< :multichat.local 433 * bob :Nickname is registered: log in by SASL, or take another
        * connect 4 10.9.9.9
        4> PASS bob:sesame
        4> NICK other
        4> USER b 0 * :B
        4< :multichat.local 900 other other!*@* bob :You are now logged in as bob
        4< :multichat.local 001 other :Welcome to the Multichat network, other!b@multichat.local
        4< :multichat.local 002 other :Your host is multichat.local, running multichat-0.1.0
        4< :multichat.local 003 other :This server was started 1970-01-01 00:16:40 UTC
        4< :multichat.local 004 other multichat.local multichat-0.1.0 BRgiow beIklaohqvCiMmnRst beIklaohqv
        4< :multichat.local 005 other NETWORK=Multichat CASEMAPPING=ascii CHANTYPES=# PREFIX=(qaohv)~&@%+ CHANMODES=beI,k,l,CiMmnRst MAXLIST=beI:60 CHANLIMIT=#: STATUSMSG=~&@%+ EXCEPTS INVEX EXTBAN=,am ACCOUNTEXTBAN=a NICKLEN=30 :are supported by this server
        4< :multichat.local 005 other USERLEN=16 CHANNELLEN=64 TOPICLEN=307 KICKLEN=300 AWAYLEN=200 NAMELEN=150 LINELEN=512 TARGMAX=PRIVMSG:4,NOTICE:4,TAGMSG:4,JOIN:,PART:,KICK:,WHOIS:1,MONITOR:100 MODES=12 ELIST=CMNTU SAFELIST UTF8ONLY WHOX :are supported by this server
        4< :multichat.local 005 other BOT=B MONITOR=100 SILENCE=60 ACCEPT=60 CALLERID=g KNOCK CHATHISTORY=100 MSGREFTYPES=msgid,timestamp :are supported by this server
        4< :multichat.local 251 other :There are 0 users and 1 invisible on 1 servers
        4< :multichat.local 252 other 0 :operators online
        4< :multichat.local 253 other 2 :unknown connections
        4< :multichat.local 254 other 1 :channels formed
        4< :multichat.local 255 other :I have 1 clients and 0 servers
        4< :multichat.local 265 other 1 1 :Current local users 1, max 1
        4< :multichat.local 266 other 1 1 :Current global users 1, max 1
        4< :multichat.local 375 other :- multichat.local Message of the day -
        4< :multichat.local 372 other :- Be kind.
        4< :multichat.local 376 other :End of MOTD
        4< :multichat.local 221 other +i
        4< :other!b@multichat.local JOIN #c
        4< :multichat.local 353 other = #c :~other
        4< :multichat.local 366 other #c :End of NAMES list
        4< PING :seen-2
        4> NS IDENTIFY bob sesame
        4< :multichat.local 900 other other!b@multichat.local bob :You are now logged in as bob
        4< :NickServ!NickServ@multichat.local NOTICE other :You are now identified for bob
        * connect 5 10.9.9.9
        5> REGISTER x * y
        5< :multichat.local FAIL REGISTER COMPLETE_CONNECTION_REQUIRED x :Finish connecting first",
    );
}

#[test]
fn modes_are_kept_and_enforced() {
    check(
        "* user 1 bob batch
        * user 2 carol batch
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        2> JOIN #c
        1< :carol!u@multichat.local JOIN #c
        1< PING :seen-2
        2< :carol!u@multichat.local JOIN #c
        2< :multichat.local 353 carol = #c :~bob carol
        2< :multichat.local 366 carol #c :End of NAMES list
        2> MODE #c +m
        2< :multichat.local 482 carol #c :You're not channel operator
        1> MODE #c +mkl-n sesame 5
        1< :bob!u@multichat.local MODE #c +mkl-n sesame 5
        2< :bob!u@multichat.local MODE #c +mkl-n sesame 5
        2> PRIVMSG #c :may I
        2< :multichat.local 404 carol #c :Only voiced members speak here (+m)
        1> MODE #c +v carol
        1< :bob!u@multichat.local MODE #c +v carol
        2< :bob!u@multichat.local MODE #c +v carol
        2> PRIVMSG #c :thanks
        1< :carol!u@multichat.local PRIVMSG #c :thanks
        2< PING :seen-3
        1> MODE #c +b carol
        1< :bob!u@multichat.local MODE #c +b carol!*@*
        2< :bob!u@multichat.local MODE #c +b carol!*@*
        1> MODE #c b
        1< :multichat.local 367 bob #c carol!*@* bob!u@multichat.local 1000
        1< :multichat.local 368 bob #c :End of channel ban list
        2> PRIVMSG #c :hm
        1< :carol!u@multichat.local PRIVMSG #c :hm
        1> MODE #c -v carol
        1< :bob!u@multichat.local MODE #c -v carol
        2< :bob!u@multichat.local MODE #c -v carol
        2> PRIVMSG #c :hm
        2< :multichat.local 404 carol #c :Only voiced members speak here (+m)
        1> KICK #c carol :out
        1< :bob!u@multichat.local KICK #c carol :out
        2< :bob!u@multichat.local KICK #c carol :out
        2> JOIN #c sesame
        2< :multichat.local 474 carol #c :Cannot join channel (+b)
        1> MODE #c -b carol!*@*
        1< :bob!u@multichat.local MODE #c -b carol!*@*
        2> JOIN #c
        2< :multichat.local 475 carol #c :Cannot join channel (+k)
        2> JOIN #c sesame
        1< :carol!u@multichat.local JOIN #c
        2< :carol!u@multichat.local JOIN #c
        2< :multichat.local 353 carol = #c :~bob carol
        2< :multichat.local 366 carol #c :End of NAMES list
        1> MODE #c +o carol
        1< :bob!u@multichat.local MODE #c +o carol
        2< :bob!u@multichat.local MODE #c +o carol
        2> MODE #c -o carol
        1< :carol!u@multichat.local MODE #c -o carol
        2< :carol!u@multichat.local MODE #c -o carol
        1> MODE #c +xk
        1< :multichat.local 472 bob x :is an unknown mode char to me
        1< :multichat.local 696 bob #c k * :A key is one word of at most 32 bytes without commas
        1> MODE #c -t
        1< :bob!u@multichat.local MODE #c -t
        2< :bob!u@multichat.local MODE #c -t
        1> MODE #c
        1< :multichat.local 324 bob #c +mkl sesame 5
        1< :multichat.local 329 bob #c 1000
        1> MODE #c +nt-m
        1< :bob!u@multichat.local MODE #c +tn-m
        2< :bob!u@multichat.local MODE #c +tn-m
        1> MODE #c +m-nt
        1< :bob!u@multichat.local MODE #c -t+m-n
        2< :bob!u@multichat.local MODE #c -t+m-n
        2> MODE #c +ti
        2< :multichat.local 482 carol #c :You're not channel operator
        1> MODE #c +o carol
        1< :bob!u@multichat.local MODE #c +o carol
        2< :bob!u@multichat.local MODE #c +o carol
        2> MODE #c +tC
        2< :multichat.local 482 carol #c :not permitted: set_policy
        1< :carol!u@multichat.local MODE #c +C
        2< :carol!u@multichat.local MODE #c +C
        2> MODE #c -oC carol
        1< :carol!u@multichat.local MODE #c -o carol
        2< :carol!u@multichat.local MODE #c -o carol
        1< :carol!u@multichat.local MODE #c -C
        2< :carol!u@multichat.local MODE #c -C
        1> MODE #c -C
        2> TOPIC #c :mine
        2< :multichat.local 482 carol #c :not permitted: set_topic
        * restart
        * user 3 dave batch
        3> JOIN #c
        3< :multichat.local 475 dave #c :Cannot join channel (+k)
        3> MODE #c
        3< :multichat.local 324 dave #c +mkl * 5
        3< :multichat.local 329 dave #c 1000
        3> KNOCK #c
        3< :multichat.local 713 dave #c :Channel is open: just join it",
    );
}

#[test]
fn direct_messages_reach_all_clients_of_both_and_wait_for_who_is_not_there() {
    check(
        "* user 1 bob echo-message message-tags
        * user 2 bob batch znc.in/self-message
        * user 3 carol server-time message-tags
        1> JOIN #d
        1< :bob!u@multichat.local JOIN #d
        1< :multichat.local 353 bob = #d :~bob
        1< :multichat.local 366 bob #d :End of NAMES list
        2< :bob!u@multichat.local JOIN #d
        2< :multichat.local 353 bob = #d :~bob
        2< :multichat.local 366 bob #d :End of NAMES list
        3> JOIN #d
        1< @msgid=EVENT2 :carol!u@multichat.local JOIN #d
        1< PING :seen-2
        2< :carol!u@multichat.local JOIN #d
        2< PING :seen-2
        3< @time=1970-01-01T00:16:40.000Z :carol!u@multichat.local JOIN #d
        3< :multichat.local 353 carol = #d :~bob carol
        3< :multichat.local 366 carol #d :End of NAMES list
        1> @+x=y PRIVMSG carol :hi
        3< @time=1970-01-01T00:16:40.000Z;msgid=5ojksrfekfbqcvbibzq76awr;+x=y :bob!u@multichat.local PRIVMSG carol :hi
        1< @msgid=5ojksrfekfbqcvbibzq76awr;+x=y :bob!u@multichat.local PRIVMSG carol :hi
        2< :bob!u@multichat.local PRIVMSG carol :hi
        3> NOTICE bob :there
        1< @msgid=jvmeq77gnq6hn3gmujtx2jim :carol!u@multichat.local NOTICE bob :there
        2< :carol!u@multichat.local NOTICE bob :there
        3> PRIVMSG nobody :x
        3< :multichat.local 401 carol nobody :No such nick
        3> NOTICE nobody :x
        3> AWAY :tea
        3< :multichat.local 306 carol :You have been marked as being away
        1> PRIVMSG carol :\x01PING 1\x01
        3< @time=1970-01-01T00:16:40.000Z;msgid=a52dxb4pewkzqxckln3datct :bob!u@multichat.local PRIVMSG carol :\x01PING 1\x01
        1< :multichat.local 301 bob carol :tea
        1< @msgid=a52dxb4pewkzqxckln3datct :bob!u@multichat.local PRIVMSG carol :\x01PING 1\x01
        2< :bob!u@multichat.local PRIVMSG carol :\x01PING 1\x01
        3> TAGMSG bob
        3> @+typing=active TAGMSG bob
        1< @msgid=xpbd3xipeftnzkxf2nyhrz6a;+typing=active :carol!u@multichat.local TAGMSG bob
        * drop 3
        1> PRIVMSG carol :later
        1< @msgid=5kjxohmjskfnp6ec33jsluc3 :bob!u@multichat.local PRIVMSG carol :later
        2< :bob!u@multichat.local PRIVMSG carol :later
        * wait 60000
        * user 4 carol batch
        4> PRIVMSG multichat :help
        4< :multichat!multichat@multichat.local NOTICE carol :/join #name joins a channel, or makes it if there is none of that name; /list shows those there are.
        4< :multichat!multichat@multichat.local NOTICE carol :/msg NickServ HELP says how to register your nick, /msg ChanServ HELP how to run a channel.
        4< :multichat!multichat@multichat.local NOTICE carol :You stay a member while you are away, if this server lets you; /part leaves.
        4> SILENCE bob
        4< :carol!u@multichat.local SILENCE +bob!*@*
        1> PRIVMSG carol :unheard
        1< @msgid=kqbqc3gh4gndtkpkdewv4w7t :bob!u@multichat.local PRIVMSG carol :unheard
        * restart
        * user 5 carol draft/chathistory batch
        5> CHATHISTORY LATEST bob * 10
        5< :multichat.local BATCH +b1 chathistory bob
        5< @batch=b1 :bob!u@multichat.local PRIVMSG carol :[00:16:40] hi
        5< @batch=b1 :carol!u@multichat.local NOTICE bob :[00:16:40] there
        5< @batch=b1 :bob!u@multichat.local PRIVMSG carol :[00:16:40] later
        5< :multichat.local BATCH -b1
        5> CHATHISTORY BEFORE bob timestamp=1970-01-01T00:16:40.001Z 1
        5< :multichat.local BATCH +b2 chathistory bob
        5< @batch=b2 :bob!u@multichat.local PRIVMSG carol :[00:16:40] later
        5< :multichat.local BATCH -b2",
    );
}

#[test]
fn history_is_asked_for_and_markers_are_kept() {
    check(
        "* user 1 bob draft/chathistory batch server-time draft/read-marker message-tags
        1> JOIN #c
        1< @time=1970-01-01T00:16:40.000Z :bob!u@multichat.local JOIN #c
        1< :multichat.local MARKREAD #c *
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        * said @al:hs.org #c one
        1< @time=1970-01-01T00:16:40.000Z;msgid=EVENT2 :al!al@hs.org JOIN #c
        1< PING :seen-2
        1< @time=1970-01-01T00:16:40.000Z;msgid=EVENT3 :al!al@hs.org PRIVMSG #c :one
        * wait 1000
        * said @al:hs.org #c two
        1< @time=1970-01-01T00:16:41.000Z;msgid=EVENT4 :al!al@hs.org PRIVMSG #c :two
        1> CHATHISTORY LATEST #c * 1
        1< :multichat.local BATCH +b1 chathistory #c
        1< @time=1970-01-01T00:16:41.000Z;msgid=EVENT4;batch=b1 :al!al@hs.org PRIVMSG #c :two
        1< :multichat.local BATCH -b1
        1> CHATHISTORY AFTER #c timestamp=1970-01-01T00:16:40.500Z 10
        1< :multichat.local BATCH +b2 chathistory #c
        1< @time=1970-01-01T00:16:41.000Z;msgid=EVENT4;batch=b2 :al!al@hs.org PRIVMSG #c :two
        1< :multichat.local BATCH -b2
        1> CHATHISTORY BEFORE #c timestamp=1970-01-01T00:16:40.500Z 10
        1< :multichat.local BATCH +b3 chathistory #c
        1< @time=1970-01-01T00:16:40.000Z;msgid=EVENT3;batch=b3 :al!al@hs.org PRIVMSG #c :one
        1< :multichat.local BATCH -b3
        1> CHATHISTORY TARGETS timestamp=1970-01-01T00:00:00.000Z timestamp=1971-01-01T00:00:00.000Z 10
        1< :multichat.local BATCH +b4 draft/chathistory-targets
        1< @batch=b4 :multichat.local CHATHISTORY TARGETS #c 1970-01-01T00:16:41.000Z
        1< :multichat.local BATCH -b4
        1> CHATHISTORY LATEST #none * 1
        1< :multichat.local FAIL CHATHISTORY INVALID_TARGET LATEST #none :Messages could not be retrieved
        1> CHATHISTORY WHAT #c * 1
        1< :multichat.local FAIL CHATHISTORY INVALID_PARAMS WHAT :Unknown command
        1> CHATHISTORY LATEST #c
        1< :multichat.local FAIL CHATHISTORY INVALID_PARAMS LATEST :Insufficient parameters
        1> MARKREAD #c
        1< :multichat.local MARKREAD #c *
        1> MARKREAD #c timestamp=1970-01-01T00:16:40.500Z
        1< :multichat.local MARKREAD #c timestamp=1970-01-01T00:16:40.500Z
        1> MARKREAD #c timestamp=1970-01-01T00:16:40.000Z
        1< :multichat.local MARKREAD #c timestamp=1970-01-01T00:16:40.500Z
        1> MARKREAD #c timestamp=x
        1< :multichat.local FAIL MARKREAD INVALID_PARAMS timestamp=x :Invalid timestamp",
    );
}

#[test]
fn operators_may_more() {
    check(
        "* user 1 bob batch
        * user 2 carol batch
        1> KILL carol :no
        1< :multichat.local 481 bob :Permission Denied- You're not an IRC operator
        1> OPER root wrong
        1< :multichat.local 464 bob :Password incorrect
        1> OPER nobody toor
        1< :multichat.local 491 bob :No O-lines for your host
        1> OPER root toor
        1< :bob MODE bob :+o
        1< :multichat.local 381 bob :You are now an IRC operator
        2> MODE carol +w
        2< :carol MODE carol +w
        1> WALLOPS :hear
        1< :bob!u@multichat.local WALLOPS :hear
        2< :bob!u@multichat.local WALLOPS :hear
        1> STATS u
        1< :multichat.local 242 bob :Server Up 0 days 0:00:00
        1< :multichat.local 219 bob u :End of STATS report
        1> REHASH
        1< :multichat.local 382 bob certificates :Rehashing
        1> KILL carol :bye
        2< :bob!u@multichat.local KILL carol :bye
        2< ERROR :Closing link: Killed (bob (bye))
        2< closed
        1> WHOIS bob
        1< :multichat.local 311 bob bob u multichat.local * :Real
        1< :multichat.local 312 bob bob multichat.local :a node
        1< :multichat.local 313 bob bob :is an IRC operator
        1< :multichat.local 338 bob bob 10.0.0.1 :is actually using host
        1< :multichat.local 379 bob bob :is using modes +io
        1< :multichat.local 317 bob bob 0 1000 :seconds idle, signon time
        1< :multichat.local 318 bob bob :End of WHOIS list
        1> HELP KILL
        1< :multichat.local 704 bob KILL :*** Help of Multichat ***
        1< :multichat.local 705 bob KILL :KILL: as https://modern.ircdocs.horse/ says
        1< :multichat.local 706 bob KILL :End of /HELP
        1> HELP nonsense
        1< :multichat.local 524 bob nonsense :There is no help on that
        1> LINKS
        1< :multichat.local 364 bob multichat.local multichat.local :0 a node
        1< :multichat.local 365 bob * :End of LINKS list
        1> MONITOR + carol,bob
        1< :multichat.local 730 bob :bob!u@multichat.local
        1< :multichat.local 731 bob :carol
        * user 3 carol batch
        1< :multichat.local 730 bob :carol!u@multichat.local",
    );
}

#[test]
fn what_a_client_sends_while_another_line_is_under_way_waits_its_turn() {
    let mut world = World::new(settings());
    world.order("user 1 bob batch");
    let mut lines = Lines::default();
    lines.feed(b"JOIN #c\r\nPING a\r\n");
    lines.feed("NICK bob\r\n".repeat(100).as_bytes());
    let mut effects = Vec::new();
    while let Some(input) = lines.take() {
        effects.extend(world.hub.input(world.node.now, 1, input));
    }
    let pauses = effects.iter().filter(|effect| matches!(effect, Effect::Pause { .. })).count();
    assert_eq!(pauses, 1, "it is not read for a while");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "nothing overtakes");
    world.got.clear();
    world.act(effects);
    let of = |text: &str| world.got.iter().position(|line| line.contains(text));
    assert!(of("JOIN #c").is_some() && of("JOIN #c") < of("PONG"), "{:?}", world.got);
    assert!(of("resumed") > of("PONG"));
}

#[test]
fn multiline_messages_are_one_and_too_much_of_them_none() {
    check(
        "* user 1 bob draft/multiline batch echo-message message-tags
        * user 2 carol batch
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        2> JOIN #c
        1< @msgid=EVENT2 :carol!u@multichat.local JOIN #c
        1< PING :seen-2
        2< :carol!u@multichat.local JOIN #c
        2< :multichat.local 353 carol = #c :~bob carol
        2< :multichat.local 366 carol #c :End of NAMES list
        1> BATCH +1 draft/multiline #c
        1> @batch=1 PRIVMSG #c :one
        1> @batch=1 PRIVMSG #c :two
        1> @batch=1;draft/multiline-concat PRIVMSG #c : and a half
        1> BATCH -1
        1< @msgid=EVENT3 :bob!u@multichat.local BATCH +4pkqapvndkjwhaacaiqg draft/multiline #c
        1< @batch=4pkqapvndkjwhaacaiqg :bob!u@multichat.local PRIVMSG #c :one
        1< @batch=4pkqapvndkjwhaacaiqg :bob!u@multichat.local PRIVMSG #c :two
        1< @batch=4pkqapvndkjwhaacaiqg;draft/multiline-concat :bob!u@multichat.local PRIVMSG #c : and a half
        1< :bob!u@multichat.local BATCH -4pkqapvndkjwhaacaiqg
        2< :bob!u@multichat.local PRIVMSG #c :one
        2< :bob!u@multichat.local PRIVMSG #c :two
        2< :bob!u@multichat.local PRIVMSG #c : and a half
        2< PING :seen-3
        1> BATCH +2 draft/multiline #c
        1> @batch=2 PRIVMSG #d :x
        1< :multichat.local FAIL BATCH MULTILINE_INVALID_TARGET :A line of it has another target
        1> BATCH -2
        1< :multichat.local FAIL BATCH TIMEOUT 2 :There is no such batch
        1> BATCH +3 other #c
        1< :multichat.local FAIL BATCH UNKNOWN_TYPE other :Only draft/multiline is taken
        1> BATCH -4
        1< :multichat.local FAIL BATCH TIMEOUT 4 :There is no such batch
        1> REDACT #c nonsense
        1< :multichat.local FAIL REDACT UNKNOWN_MSGID #c nonsense :There is no such message
        1> REDACT #none x
        1< :multichat.local FAIL REDACT INVALID_TARGET #none :You are not on such a channel",
    );
}

use proptest::prelude::{any, prop, prop_assert, proptest};

/// Bytes that look like what clients send more often than chance would have it.
fn noise() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::strategy::Strategy;
    let words = [
        "NICK",
        "USER",
        "CAP",
        "LS",
        "302",
        "REQ",
        "END",
        ":batch message-tags draft/multiline",
        "JOIN",
        "#c",
        "#d,#c",
        "PART",
        "PRIVMSG",
        "NOTICE",
        "TAGMSG",
        "MODE",
        "+b",
        "-b",
        "+kl",
        "KICK",
        "TOPIC",
        "WHO",
        "%tcuihsnfdlaor,1",
        "WHOIS",
        "bob",
        "carol",
        "CHATHISTORY",
        "LATEST",
        "BETWEEN",
        "*",
        "timestamp=2020-01-01T00:00:00Z",
        "msgid=x",
        "10",
        "AUTHENTICATE",
        "PLAIN",
        "SCRAM-SHA-256",
        "+",
        "AGJvYgBzZXNhbWU=",
        "REGISTER",
        "NS",
        "SET",
        "BATCH",
        "+1",
        "-1",
        "draft/multiline",
        "@label=1",
        "@batch=1",
        "@+x=y;label=2",
        "MONITOR",
        "LIST",
        "C<1",
        "INVITE",
        "KNOCK",
        "REDACT",
        "MARKREAD",
        "AWAY",
        "SETNAME",
        "OPER",
        "root",
        "toor",
        "KILL",
        "WALLOPS",
        "SILENCE",
        "ACCEPT",
        "QUIT",
        "HELP",
        "STATS",
        ":",
        ":\x01ACTION x\x01",
        ":\u{1F600} é",
        "~",
        "@#c",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    let piece = proptest::prop_oneof![
        6 => word,
        2 => proptest::strategy::Just(b"\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.join(&b' '))
}

proptest! {
    #[test]
    fn whatever_is_sent_is_answered_within_bounds(bytes in noise(), more in noise()) {
        let mut world = World::new(settings());
        world.order("user 1 bob batch");
        world.send(1, "JOIN #c");
        world.order("connect 2 10.9.9.9");
        world.got.clear();
        let mut lines = 0;
        for (client, bytes) in [(2, &bytes), (1, &more), (2, &more)] {
            let mut source = Lines::default();
            source.feed(bytes);
            source.feed(b"\r\n");
            while let Some(input) = source.take() {
                lines += 1;
                let effects = world.hub.input(world.node.now, client, input);
                world.act(effects);
            }
        }
        for line in &world.got {
            let text = line.split_once("< ").map_or("", |(_, text)| text);
            let untagged = match text.strip_prefix('@') {
                Some(tagged) => tagged.split_once(' ').map_or("", |(_, rest)| rest),
                None => text,
            };
            prop_assert!(untagged.len() <= 510, "{line:?}");
            prop_assert!(!text.contains(['\r', '\n', '\0']), "{line:?}");
        }
        // A line may be answered with a list of everything there is, and no more.
        prop_assert!(world.got.len() <= 200 * (lines + 1), "{} lines for {lines}", world.got.len());
        let effects = world.hub.disconnected(world.node.now, 1, "gone");
        world.act(effects);
        let effects = world.hub.disconnected(world.node.now, 2, "gone");
        world.act(effects);
        prop_assert!(world.hub.is_at_rest(), "nothing is kept of who is gone");
    }

    #[test]
    fn who_never_registers_leaves_nothing_behind(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut world = World::new(settings());
        world.order("connect 1 10.0.0.1");
        let mut source = Lines::default();
        source.feed(b"PASS x\r\nCAP LS 302\r\nAUTHENTICATE PLAIN\r\n");
        source.feed(&bytes);
        source.feed(b"\r\nMONITOR + bob\r\nJOIN #c\r\nREGISTER a b c\r\n");
        while let Some(input) = source.take() {
            let effects = world.hub.input(world.node.now, 1, input);
            world.act(effects);
        }
        world.order("wait 30001");
        prop_assert!(world.hub.is_at_rest() && world.hub.clients() == 0);
        prop_assert!(world.node.channels.is_empty() && world.hub.users.is_empty());
    }
}

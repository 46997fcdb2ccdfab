//! Transcripts. A script is the expectation: `1> line` is sent by client 1, `1< line` is what it
//! gets, `*` drives the world. Running a script must give the script back.
//!
//! `* connect 1 host`, `* drop 1`, `* wait ms`, `* restart` (all connections gone, hub made anew
//! from what the node kept), `* said @a:b #c text`.

use super::stand_in::StandIn;
use super::{Done, Effect, Hub, Settings, Work};
use crate::base::Timestamp;
use crate::base::config::Guests;
use crate::chat::message::Content;
use crate::irc::proto::line::Lines;
use crate::irc::proto::accounts::Verifier;
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
                self.hub.connected(now, client.parse().unwrap(), peer);
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
                        Work::Verify { password, hash } => Done::Verified(!hash.is_empty() && password == hash),
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
    if got != expect { std::fs::write(format!("/tmp/bless/{}", blake3::hash(expect.as_bytes())), format!("{expect}\n====\n{got}")).unwrap(); }
    assert!(got == expect, "expected:\n{expect}\n\ngot:\n{got}");
}

#[test]
fn a_client_registers_and_is_greeted() {
    check(
        "* connect 1 10.0.0.1
        1> CAP LS 302
        1< :multichat.local CAP * LS :server-time message-tags batch echo-message labeled-response cap-notify multi-prefix userhost-in-names extended-join away-notify setname znc.in/self-message
        1> JOIN :
        1< :multichat.local 451 * :You have not registered: send NICK and USER first
        1> NICK 1bad
        1< :multichat.local 432 * 1bad :A nick is 1 to 30 letters, digits and []\\`_^{|}-, no digit first
        1> NICK bob
        1> USER bob 0 * :Bob B.
        1> CAP REQ :batch sts
        1< :multichat.local CAP * NAK :batch sasl
        1> CAP REQ :batch
        1< :multichat.local CAP * ACK :batch
        1> CAP END
        1< :multichat.local 001 bob :Welcome to Multichat, bob
        1< :multichat.local 002 bob :Your host is multichat.local, running multichat-0.1.0
        1< :multichat.local 003 bob :This server was started 1970-01-01 00:16:40 UTC
        1< :multichat.local 004 bob multichat.local multichat-0.1.0 i nt
        1< :multichat.local 005 bob NETWORK=Multichat CASEMAPPING=ascii CHANTYPES=# PREFIX=(qaohv)~&@%+ CHANMODES=,,,nt NICKLEN=30 CHANNELLEN=64 TOPICLEN=307 LINELEN=512 TARGMAX=PRIVMSG:4,NOTICE:4,JOIN:,PART: ELIST=U UTF8ONLY WHOX :are supported by this server
        1< :multichat.local 251 bob :There are 1 users and 0 invisible on 1 servers
        1< :multichat.local 252 bob 0 :operators online
        1< :multichat.local 254 bob 0 :channels formed
        1< :multichat.local 255 bob :I have 1 clients and 0 servers
        1< :multichat.local 265 bob 1 1 :Current local users 1, max 1
        1< :multichat.local 375 bob :- multichat.local Message of the day -
        1< :multichat.local 372 bob :- /join #name joins a channel, or makes it if there is none of that name.
        1< :multichat.local 372 bob :- You stay a member when you disconnect; /part leaves.
        1< :multichat.local 376 bob :End of MOTD
        1> CAP LIST
        1< :multichat.local CAP bob LIST :batch cap-notify
        1> PING x
        1< :multichat.local PONG multichat.local :x
        1> FROB
        1< :multichat.local 421 bob FROB :Unknown command
        1> PART
        1< :multichat.local 461 bob PART :Not enough parameters
        1> QUIT :bye
        1< ERROR :Closing link: bye
        1< closed",
    );
}

#[test]
fn two_people_talk_and_leave() {
    check(
        "* user 1 bob batch
        * user 2 carol server-time message-tags
        1> JOIN #rust
        1< :bob!bob@multichat.local JOIN #rust
        1< :multichat.local 331 bob #rust :No topic is set
        1< :multichat.local 353 bob = #rust :~bob
        1< :multichat.local 366 bob #rust :End of NAMES list
        * news first
        2> JOIN #Rust
        1< :carol!carol@multichat.local JOIN #rust
        1< PING :seen-2
        2< :carol!carol@multichat.local JOIN #rust
        2< :multichat.local 331 carol #rust :No topic is set
        2< :multichat.local 353 carol = #rust :~bob carol
        2< :multichat.local 366 carol #rust :End of NAMES list
        2> PRIVMSG #rust :hello
        1< :carol!carol@multichat.local PRIVMSG #rust :hello
        2< PING :seen-3
        * receipt first
        1> PRIVMSG #rust :\x01ACTION waves\x01
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT4 :bob!bob@multichat.local PRIVMSG #rust :\x01ACTION waves\x01
        1> PRIVMSG #rust :\x01VERSION\x01
        2> TOPIC #rust :mine
        2< :multichat.local 482 carol #rust :not permitted: set_topic
        1> TOPIC #rust :ours
        1< :bob!bob@multichat.local TOPIC #rust :ours
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT5 :bob!bob@multichat.local TOPIC #rust :ours
        2> NICK caro
        1< :carol!carol@multichat.local NICK caro
        2< :carol!carol@multichat.local NICK caro
        2> PART #rust :off
        1< :caro!caro@multichat.local PART #rust :off
        2< @time=1970-01-01T00:16:40.000Z;msgid=EVENT7 :caro!caro@multichat.local PART #rust :off
        2> PRIVMSG #rust :still?
        2< :multichat.local 404 caro #rust :not a member of the channel
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
        1< :bob!bob@multichat.local JOIN #c
        1< :multichat.local 331 bob #c :No topic is set
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
        2< :bob!bob@multichat.local JOIN #c
        2< :multichat.local 331 bob #c :No topic is set
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
        3< :bob!bob@multichat.local JOIN #c
        3< :multichat.local 331 bob #c :No topic is set
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
        1< :bob!bob@multichat.local JOIN #c
        1< :multichat.local 331 bob #c :No topic is set
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        2< :bob!bob@multichat.local JOIN #c
        2< :multichat.local 331 bob #c :No topic is set
        2< :multichat.local 353 bob = #c :~bob
        2< :multichat.local 366 bob #c :End of NAMES list
        1> PRIVMSG #c :hi
        1< :bob!bob@multichat.local PRIVMSG #c :hi
        1< PING :seen-2
        2< :bob!bob@multichat.local PRIVMSG #c :hi
        2< PING :seen-2
        * connect 3 10.9.9.9
        3> NICK Bob
        3< :multichat.local 433 * Bob :Nickname is already in use
        3> NICK multichat
        3< :multichat.local 433 * multichat :Nickname is already in use
        2> PART #c
        1< :bob!bob@multichat.local PART #c
        2< :bob!bob@multichat.local PART #c",
    );
}

#[test]
fn labels_are_answered_with_ack_line_or_batch() {
    check(
        "* user 1 bob batch labeled-response echo-message message-tags
        1> @label=a JOIN #c
        1< @label=a :multichat.local BATCH +b1 labeled-response
        1< @batch=b1 :bob!bob@multichat.local JOIN #c
        1< @batch=b1 :multichat.local 331 bob #c :No topic is set
        1< @batch=b1 :multichat.local 353 bob = #c :~bob
        1< @batch=b1 :multichat.local 366 bob #c :End of NAMES list
        1< :multichat.local BATCH -b1
        1> @label=b PRIVMSG #c :hi
        1< @msgid=EVENT2;label=b :bob!bob@multichat.local PRIVMSG #c :hi
        1> @label=c PONG x
        1< @label=c :multichat.local ACK
        1> @label=d;+typing=active TAGMSG #c
        1< @label=d :multichat.local ACK
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
        1< :bob!bob@multichat.local JOIN #c
        1< :multichat.local 331 bob #c :No topic is set
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
        1< :multichat.local 320 bob al_ice :has the identity 6y2tqlz6wcxvoc6n2os6utzxuez3g3gpno7r6xdrwrotoujdr4ea
        1< :multichat.local 320 bob al_ice :is @al.ice:hs.org
        1< :multichat.local 312 bob al_ice multichat.local :Multichat
        1< :multichat.local 318 bob al_ice :End of WHOIS list
        1> PRIVMSG al_ice :psst
        1< :multichat.local 531 bob al_ice :Direct messages are not carried yet; nothing was sent
        1> PRIVMSG nobody :psst
        1< :multichat.local 401 bob nobody :No such nick
        1> WHO #c %tn,7
        1< :multichat.local 354 bob 7 bob|cwmo
        1< :multichat.local 354 bob 7 bob
        1< :multichat.local 354 bob 7 al_ice
        1< :multichat.local 315 bob #c :End of WHO list
        * user 2 al_ice batch
        1< :al_ice!al.ice@hs.org NICK al_ice|6y2t",
    );
}

#[test]
fn questions_are_answered_and_change_nothing() {
    check(
        "* user 1 bob batch
        1> JOIN #a,#b:,#b
        1< :bob!bob@multichat.local JOIN #a
        1< :multichat.local 331 bob #a :No topic is set
        1< :multichat.local 353 bob = #a :~bob
        1< :multichat.local 366 bob #a :End of NAMES list
        1< :multichat.local 403 bob #b: :A channel name is # and 1 to 63 bytes without spaces, commas, colons or ~
        1< :bob!bob@multichat.local JOIN #b
        1< :multichat.local 331 bob #b :No topic is set
        1< :multichat.local 353 bob = #b :~bob
        1< :multichat.local 366 bob #b :End of NAMES list
        1> JOIN #a
        1> MODE #a
        1< :multichat.local 324 bob #a +nt
        1< :multichat.local 329 bob #a 1000
        1> MODE #a +m
        1< :multichat.local 482 bob #a :Modes cannot be changed from IRC yet; nothing was changed
        1> MODE #a b
        1< :multichat.local 368 bob #a :End of channel ban list
        1> MODE bob +i
        1< :multichat.local 221 bob +i
        1> MODE bob +Z
        1< :multichat.local 501 bob :Unknown MODE flag
        1> MODE carol
        1< :multichat.local 502 bob :You can only see your own modes
        1> LIST
        1< :multichat.local 321 bob Channel :Users  Name
        1< :multichat.local 322 bob #b 1 :
        1< :multichat.local 322 bob #a 1 :
        1< :multichat.local 323 bob :End of LIST
        1> LIST >1
        1< :multichat.local 321 bob Channel :Users  Name
        1< :multichat.local 323 bob :End of LIST
        1> AWAY :tea
        1< :multichat.local 306 bob :You have been marked as being away
        1> WHO bob
        1< :multichat.local 352 bob * bob multichat.local multichat.local bob G :0 Real
        1< :multichat.local 315 bob bob :End of WHO list
        1> USERHOST bob nobody
        1< :multichat.local 302 bob :bob=-bob@multichat.local
        1> AWAY
        1< :multichat.local 305 bob :You are no longer marked as being away
        1> ISON bob nobody
        1< :multichat.local 303 bob :bob
        1> NAMES
        1< :multichat.local 366 bob * :End of NAMES list
        1> JOIN 0
        1< :bob!bob@multichat.local PART #b
        1< PING :seen-3
        1< :bob!bob@multichat.local PART #a",
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
        1< :multichat.local 464 * :Password incorrect: this server wants PASS first
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
        2> JOIN #c
        2> QUIT :off
        1> NAMES #c
        * user 3 carol batch
        3> WHOWAS carol
        3> JOIN #c
        * restart
        * wait 1
        * user 4 dave batch
        4> JOIN #c",
    );
}

#[test]
fn an_account_is_registered_and_its_nick_is_its_owners_alone() {
    check(
        "* user 1 bob batch
        1> NS REGISTER sesame
        1> WHOIS bob
        1> JOIN #c
        1> QUIT
        * connect 2 10.9.9.9
        2> CAP REQ :sasl
        2> NICK bob
        2> USER b 0 * :B
        2> AUTHENTICATE PLAIN
        2> AUTHENTICATE AGJvYgB3cm9uZw==
        2> CAP END
        2> CAP LS
        2> AUTHENTICATE PLAIN
        2> AUTHENTICATE AGJvYgBzZXNhbWU=
        2> NICK bob
        * connect 3 10.9.9.9
        3> PASS wrong
        3> NICK bob
        3> USER b 0 * :B
        * connect 4 10.9.9.9
        4> PASS bob:sesame
        4> NICK other
        4> USER b 0 * :B
        4> NS IDENTIFY bob sesame
        * connect 5 10.9.9.9
        5> REGISTER x * y",
    );
}

#[test]
fn modes_are_kept_and_enforced() {
    check(
        "* user 1 bob batch
        * user 2 carol batch
        1> JOIN #c
        2> JOIN #c
        2> MODE #c +m
        1> MODE #c +mkl-n sesame 5
        2> PRIVMSG #c :may I
        1> MODE #c +v carol
        2> PRIVMSG #c :thanks
        1> MODE #c +b carol
        1> MODE #c b
        2> PRIVMSG #c :hm
        1> MODE #c -v carol
        2> PRIVMSG #c :hm
        1> KICK #c carol :out
        2> JOIN #c sesame
        1> MODE #c -b carol!*@*
        2> JOIN #c
        2> JOIN #c sesame
        1> MODE #c +o carol
        2> MODE #c -o carol
        1> MODE #c +xk
        1> MODE #c -t
        1> MODE #c
        2> TOPIC #c :mine
        * restart
        * user 3 dave batch
        3> JOIN #c
        3> MODE #c
        3> KNOCK #c",
    );
}

#[test]
fn direct_messages_reach_all_clients_of_both_and_wait_for_who_is_not_there() {
    check(
        "* user 1 bob echo-message message-tags
        * user 2 bob batch znc.in/self-message
        * user 3 carol server-time message-tags
        1> @+x=y PRIVMSG carol :hi
        3> NOTICE bob :there
        3> PRIVMSG nobody :x
        3> NOTICE nobody :x
        3> AWAY :tea
        1> PRIVMSG carol :\x01PING 1\x01
        3> TAGMSG bob
        3> @+typing=active TAGMSG bob
        * drop 3
        1> PRIVMSG carol :later
        * wait 60000
        * user 4 carol batch
        4> PRIVMSG multichat :help
        4> SILENCE bob
        1> PRIVMSG carol :unheard
        * restart
        * user 5 carol draft/chathistory batch
        5> CHATHISTORY LATEST bob * 10
        5> CHATHISTORY BEFORE bob timestamp=1970-01-01T00:16:40.001Z 1",
    );
}

#[test]
fn history_is_asked_for_and_markers_are_kept() {
    check(
        "* user 1 bob draft/chathistory batch server-time draft/read-marker message-tags
        1> JOIN #c
        * said @al:hs.org #c one
        * wait 1000
        * said @al:hs.org #c two
        1> CHATHISTORY LATEST #c * 1
        1> CHATHISTORY AFTER #c timestamp=1970-01-01T00:16:40.500Z 10
        1> CHATHISTORY BEFORE #c timestamp=1970-01-01T00:16:40.500Z 10
        1> CHATHISTORY TARGETS timestamp=1970-01-01T00:00:00.000Z timestamp=1971-01-01T00:00:00.000Z 10
        1> CHATHISTORY LATEST #none * 1
        1> CHATHISTORY WHAT #c * 1
        1> CHATHISTORY LATEST #c
        1> MARKREAD #c
        1> MARKREAD #c timestamp=1970-01-01T00:16:40.500Z
        1> MARKREAD #c timestamp=1970-01-01T00:16:40.000Z
        1> MARKREAD #c timestamp=x",
    );
}

#[test]
fn operators_may_more() {
    check(
        "* user 1 bob batch
        * user 2 carol batch
        1> KILL carol :no
        1> OPER root wrong
        1> OPER nobody toor
        1> OPER root toor
        2> MODE carol +w
        1> WALLOPS :hear
        1> STATS u
        1> REHASH
        1> KILL carol :bye
        1> WHOIS bob
        1> HELP KILL
        1> HELP nonsense
        1> LINKS
        1> MONITOR + carol,bob
        * user 3 carol batch",
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
        2> JOIN #c
        1> BATCH +1 draft/multiline #c
        1> @batch=1 PRIVMSG #c :one
        1> @batch=1 PRIVMSG #c :two
        1> @batch=1;draft/multiline-concat PRIVMSG #c : and a half
        1> BATCH -1
        1> BATCH +2 draft/multiline #c
        1> @batch=2 PRIVMSG #d :x
        1> BATCH -2
        1> BATCH +3 other #c
        1> BATCH -4
        1> REDACT #c nonsense
        1> REDACT #none x",
    );
}

//! Transcripts of nodes that hold one link together.

use super::{Run, setup};
use crate::base::config::Consent;
use crate::irc::network::session::Setup;

fn held() -> Setup {
    Setup { failover_with: vec!["relay2".into()], ..setup() }
}

/// A holder that comes into a channel with these names in it.
fn coming(setup: Setup, names: &str, transcript: &str) -> Run {
    let mut run = Run::new(setup, &["#c"]);
    let begin = "
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
    run.check(&format!("{begin}\n< :srv 353 relay = #c :{names}\n< :srv 366 relay #c :End\n{transcript}"));
    run
}

/// One that stands by, behind `relay2`.
fn standing_by() -> Run {
    coming(held(), "relay relay2 bob", "note carrier/#c = relay2")
}

/// One that carries.
fn carrying() -> Run {
    coming(held(), "relay bob", "info #c: carried by this node from now on\nnote carrier/#c = this node")
}

#[test]
fn lines_of_another_holder_are_struck_out_and_the_rest_is_said_after_it() {
    let mut run = standing_by();
    run.transcript.clear();
    for (id, name, text) in [(1, "alice", "one"), (2, "bert", "one"), (3, "alice", "two"), (4, "alice", "3")]
    {
        run.input(&format!("deliver {id} #c {name} {text}"));
    }
    // Late, and after something of hers that was not heard; the other of the two with one text.
    for line in ["<b\u{200b}ert> one", "<a\u{200b}lice> [00:16] two", "<a\u{200b}lice> elsewhere"] {
        run.input(&format!("< :relay2!u@h PRIVMSG #c :{line}"));
    }
    let done: Vec<&String> = run.transcript.iter().filter(|line| line.starts_with("delivered")).collect();
    assert_eq!(done, ["delivered 2", "delivered 1", "delivered 3"]);
    run.check(
        "
        < :relay2!u@h QUIT :Connection reset
        info #c: carried by this node from now on
        note carrier/#c = this node
        > PRIVMSG #c :<alice> 3
        > PING mc1
        < :srv PONG srv mc1
        delivered 4
    ",
    );
}

#[test]
fn a_message_of_several_lines_is_gone_on_with() {
    let mut run = standing_by();
    run.deliver(1, "#c", "alice", crate::chat::message::Content::text("one\ntwo\nthree"));
    run.input("< :relay2!u@h PRIVMSG #c :<a\u{200b}lice> one");
    run.input("< :relay2!u@h PRIVMSG #c :<a\u{200b}lice> two");
    run.check(
        "
        < :relay2!u@h PART #c
        info #c: carried by this node from now on
        note carrier/#c = this node
        > PRIVMSG #c :<alice> three
        > PING mc1
        < :srv PONG srv mc1
        delivered 1
    ",
    );
}

#[test]
fn what_was_said_before_the_log_knew_it_is_not_said_again() {
    let mut run = standing_by();
    for text in ["<a\u{200b}lice> one", "<a\u{200b}lice> two"] {
        run.input(&format!("< :relay2!u@h PRIVMSG #c :{text}"));
    }
    run.check(
        "
        < :relay2!u@h QUIT :gone
        info #c: carried by this node from now on
        note carrier/#c = this node
        deliver 1 #c alice one
        delivered 1
        deliver 2 #c alice two
        delivered 2
        deliver 3 #c alice two
        > PRIVMSG #c :<alice> two
        > PING mc1
    ",
    );
}

#[test]
fn who_comes_back_asks_what_was_said_meanwhile() {
    standing_by().check(
        "
        deliver 1 #c alice one
        deliver 2 #c alice two
        +1000
        > NOTICE relay2 :^AMULTICHAT ask #c 1 AQEBAQEBAQE AgICAgICAgI^A
        > PING mc
        +1000
        < :relay2!u@h NOTICE relay :^AMULTICHAT told #c 1 :10 carries given^A
        delivered 1
        +100
        > NOTICE relay2 :^AMULTICHAT ask #c 2 AgICAgICAgI^A
        > PING mc
        < :relay2!u@h NOTICE relay :^AMULTICHAT told #c 2 :0 carries given^A
        +1000
        +1000
        > NOTICE relay2 :^AMULTICHAT ask #c 3 AgICAgICAgI^A
        > PING mc
        < :eve!u@h NOTICE relay :^AMULTICHAT told #c 3 :1 carries given^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT told #c 3 :1 carries given^A
        delivered 2
    ",
    );
}

#[test]
fn whoever_is_asked_answers_from_its_log() {
    carrying().check(
        "
        < :relay2!u@h JOIN #c
        > NOTICE relay2 :^AMULTICHAT carries #c 1000000^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT ask #c 7 AQEBAQEBAQE AgICAgICAgI^A
        ask about 1 2
        settled 10
        > NOTICE relay2 :^AMULTICHAT told #c 7 :10 carries given^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT ask #c 8^A
        ask about
        settled
        > NOTICE relay2 :^AMULTICHAT told #c 8 : carries given^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT ask #c 9 AQEB^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT ask #other 9 AQEBAQEBAQE^A
        < :eve!u@h NOTICE relay :^AMULTICHAT ask #c 9 AQEBAQEBAQE^A
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
    ",
    );
}

#[test]
fn a_holder_that_does_not_answer_is_passed_over_and_gives_way_when_it_wakes() {
    standing_by().check(
        "
        deliver 1 #c alice one
        +1000
        > NOTICE relay2 :^AMULTICHAT ask #c 1 AQEBAQEBAQE^A
        > PING mc
        < :srv PONG srv mc
        +2000
        > NOTICE relay2 :^AMULTICHAT ask #c 2 AQEBAQEBAQE^A
        > PING mc
        +2000
        > NOTICE relay2 :^AMULTICHAT ask #c 3 AQEBAQEBAQE^A
        > PING mc
        < :srv PONG srv mc
        +1000
        warn #c: relay2 does not answer and is passed over
        info #c: carried by this node from now on
        note carrier/#c = this node
        > NOTICE relay2 :^AMULTICHAT took #c^A
        > PRIVMSG #c :<alice> one
        > PING mc1
        < :srv PONG srv mc1
        delivered 1
        < :relay2!u@h NOTICE relay :^AMULTICHAT told #c 1 :0 carries given^A
        > NOTICE relay2 :^AMULTICHAT took #c^A
    ",
    );
    carrying().check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
        deliver 2 #c alice two
        > PRIVMSG #c :<alice> two
        < :relay2!u@h NOTICE relay :^AMULTICHAT took #c^A
        info #c: carried by relay2 from now on
        note carrier/#c = relay2
        deliver 3 #c alice three
        < :srv PONG srv mc1
        delivered 1
        > PING mc2
        < :relay2!u@h PRIVMSG #c :<a\u{200b}lice> three
        delivered 3
        < :srv PONG srv mc2
        delivered 2
    ",
    );
}

#[test]
fn who_slept_finds_out_first_whether_it_still_carries() {
    let mut run = carrying();
    run.check(
        "
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
    ",
    );
    run.now = run.now.plus_ms(10_000);
    run.check(
        "
        deliver 2 #c alice two
        > PING mcawake
        < :bob!u@h PRIVMSG #c :hi
        < :srv PONG srv mc1
        delivered 1
        < :relay2!u@h NOTICE relay :^AMULTICHAT took #c^A
        note carrier/#c = relay2
        < :relay2!u@h PRIVMSG #c :<a\u{200b}lice> two
        delivered 2
        < :srv PONG srv mcawake
        < :relay2!u@h QUIT :gone
        info #c: carried by this node from now on
        note carrier/#c = this node
    ",
    );
    run.now = run.now.plus_ms(10_000);
    run.check(
        "
        deliver 3 #c alice three
        > PING mcawake
        < :srv PONG srv mcawake
        info #c: carried by this node from now on
        > PRIVMSG #c :<alice> three
        > PING mc2
    ",
    );
}

#[test]
fn two_halves_of_a_network_that_meet_agree_on_one() {
    // `relay` is before `relay2`: it goes on.
    carrying().check(
        "
        < :relay2!u@h JOIN #c
        > NOTICE relay2 :^AMULTICHAT carries #c 1000000^A
        < :relay2!u@h NOTICE relay :^AMULTICHAT carries #c^A
        > NOTICE relay2 :^AMULTICHAT carries #c^A
        deliver 1 #c alice one
        > PRIVMSG #c :<alice> one
        > PING mc1
    ",
    );
    let other = Setup { failover_with: vec!["Aelay".into()], ..setup() };
    coming(other, "relay", "info #c: carried by this node from now on\nnote carrier/#c = this node").check(
        "
        < :aelay!u@h JOIN #c
        > NOTICE aelay :^AMULTICHAT carries #c 1000000^A
        < :aelay!u@h NOTICE relay :^AMULTICHAT carries #c 1000000^A
        info #c: carried by aelay from now on
        note carrier/#c = aelay
        deliver 1 #c alice one
        < :aelay!u@h QUIT :gone
        info #c: carried by this node from now on
        note carrier/#c = this node
        > PRIVMSG #c :<alice> one
        > PING mc1
    ",
    );
}

#[test]
fn what_people_say_is_handed_in_by_one() {
    let mut dead = carrying();
    dead.transcript.clear();
    for text in ["one", "two", "two", "three"] {
        dead.input(&format!("< :bob!u@h PRIVMSG #c :{text}"));
    }
    dead.input("+1000");
    dead.input("< :carol!u@h PRIVMSG #c :hi");
    let said: Vec<String> = dead.transcript.iter().filter(|line| line.starts_with("Text")).cloned().collect();
    let id = |line: &str| line.split("id ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(said.len(), 5);
    let mut run = standing_by();
    run.transcript.clear();
    run.input("< :relay2!u@h NOTICE relay :^AMULTICHAT carries #c 999999^A");
    // Of carol, the log is ahead of the network.
    run.input(&format!("learn #c carol {} hi", id(&said[4])));
    for text in ["one", "two", "two", "three"] {
        run.input(&format!("< :bob!u@h PRIVMSG #c :{text}"));
    }
    run.input("< :carol!u@h PRIVMSG #c :hi");
    assert!(!run.transcript.iter().any(|line| line.starts_with("Text")), "{:?}", run.transcript);
    // The first two got through; the others come again by the ids that they had.
    for line in &said[..2] {
        run.input(&format!("learn #c bob {} x", id(line)));
    }
    run.input("< :relay2!u@h QUIT :gone");
    run.transcript.clear();
    run.input("< :bob!u@h PRIVMSG #c :four");
    run.input("+999");
    assert!(!run.transcript.iter().any(|line| line.starts_with("Text")), "{:?}", run.transcript);
    run.input("+1");
    let again: Vec<String> = run.transcript.iter().filter(|line| line.starts_with("Text")).cloned().collect();
    assert_eq!(
        again[..2].iter().map(|line| id(line)).collect::<Vec<_>>(),
        said[2..4].iter().map(|line| id(line)).collect::<Vec<_>>()
    );
    assert!(again[2].ends_with(": four") && again.len() == 3, "{again:?}");
}

#[test]
fn who_stands_by_minds_its_tongue_and_knows_what_was_allowed() {
    let asks = Setup { consent: Consent::Ask, ..held() };
    coming(asks.clone(), "relay relay2 @op", "note carrier/#c = relay2").check(
        "
        < :op!o@h PRIVMSG #c :!mc allow
        note consent/#c = allow 1000000 op!o@h
        < :op!o@h PRIVMSG #c :!mc who
        < :op!o@h TOPIC #c :new
        < :op!o@h KICK #c bob :enough
        deliver 1 #c alice one
        < :relay2!u@h QUIT :gone
        info #c: carried by this node from now on
        note carrier/#c = this node
        > PRIVMSG #c :<alice> one
        > PING mc1
        < :op!o@h PRIVMSG #c :!mc who
        > NOTICE op :spoke in #c: alice
    ",
    );
    // What was allowed before it came, it is told.
    coming(asks, "relay relay2 @op", "note carrier/#c = relay2").check(
        "
        deliver 1 #c alice one
        +1000
        > NOTICE relay2 :^AMULTICHAT ask #c 1 AQEBAQEBAQE^A
        > PING mc
        < :relay2!u@h NOTICE relay :^AMULTICHAT told #c 1 :0 carries given^A
        note consent/#c = allow 1001000 relay2 carries it
    ",
    );
}

#[test]
fn nicks_of_holders_change_and_dead_connections_linger() {
    // Our own nick is held by a connection of ours that is dead: it is ahead until the network knows.
    let begin = "
        connect
        > CAP LS 302
        > NICK relay
        > USER relay 0 * :Multichat relay
        < :srv 433 * relay :Nickname is already in use
        > NICK relay_
        < :srv 001 relay_ :Welcome
        < :srv 422 relay_ :No MOTD
        > JOIN #c
        < :relay_!~relay@host JOIN #c
        > MODE #c
        < :srv 353 relay_ = #c :relay relay_ relay2_ bob
        < :srv 366 relay_ #c :End
        deliver 1 #c alice one
        < :relay2_!u@h NICK relay2
        < :relay2!u@h NICK other
        note carrier/#c = relay
        < :relay!~relay@host QUIT :Ping timeout
        info #c: carried by this node from now on
        note carrier/#c = this node
        > NICK relay
        > PRIVMSG #c :<alice> one
        > PING mc1
        < :relay_!~relay@host NICK relay
        < :other!u@h NICK relay2
        > NOTICE relay2 :^AMULTICHAT carries #c^A
    ";
    Run::new(held(), &["#c"]).check(begin);
}

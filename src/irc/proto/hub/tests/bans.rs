//! Transcripts of KLINE and DLINE; for the notation see above.

use super::check;

#[test]
fn operators_keep_people_and_networks_out_over_restarts() {
    check(
        "* user 1 root batch
        * user 2 bob batch
        * connect 3 192.0.2.7
        2> KLINE bob
        2< x
        1> OPER root toor
        1< x
        1> KLINE *!*@* all
        1< x
        1> KLINE root :me
        1< x
        1> KLINE bob!u@* :spam and worse
        1< x
        2> PING x
        1> DLINE 10.0.0.0/24 :mine
        1< x
        1> DLINE 60 192.0.2.0/24 :a bad neighbourhood
        1< x
        1> DLINE everywhere
        1< x
        1> STATS k
        1< x
        1> STATS d
        1< x
        * connect 4 192.0.2.200
        4< x
        * connect 5 198.51.100.1
        5> NICK bob
        5> USER u 0 * :Bob
        5< x
        * restart
        * connect 6 192.0.2.1
        6< x
        * wait 3600001
        * connect 7 192.0.2.1
        7> PING x
        7< x
        * user 8 root batch
        8> OPER root toor
        8< x
        8> UNKLINE bob!u@*
        8< x
        8> UNKLINE bob!u@*
        8< x
        * connect 9 10.0.0.1
        9> NICK bob
        9> USER u 0 * :Bob
        9< x
        9> STATS k
        9< x",
    );
}

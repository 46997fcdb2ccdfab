//! Transcripts of KLINE and DLINE; for the notation see above.

use super::check;

#[test]
fn operators_keep_people_and_networks_out_over_restarts() {
    check(
        "* user 1 root batch
        * user 2 bob batch
        * connect 3 192.0.2.7
        2> KLINE bob
        2< :multichat.local 481 bob :Permission Denied- You're not an IRC operator
        1> OPER root toor
        1< :root MODE root :+o
        1< :multichat.local 381 root :You are now an IRC operator
        1> KLINE *!*@* all
        1< :multichat.local FAIL KLINE INVALID_MASK *!*@* :A mask is nick!user@host, user@host or a:account, and means not nearly everybody
        1> KLINE root :me
        1< :multichat.local FAIL KLINE INVALID_MASK root!*@* :That means yourself
        1> KLINE bob!u@* :spam and worse
        1< :multichat.local NOTICE root :root banned bob!u@*: spam and worse
        2< :multichat.local 465 bob :You are banned from this server: spam and worse
        2< ERROR :Closing link: Banned: spam and worse
        2< closed
        2> PING x
        1> DLINE 10.0.0.0/24 :mine
        1< :multichat.local FAIL DLINE INVALID_MASK 10.0.0.0/24 :That means yourself
        1> DLINE 60 192.0.2.0/24 :a bad neighbourhood
        1< :multichat.local NOTICE root :root banned 192.0.2.0/24 until 1970-01-01 01:16:40 UTC: a bad neighbourhood
        3< :multichat.local 465 * :You are banned from this server: a bad neighbourhood
        3< ERROR :Closing link: Banned: a bad neighbourhood
        3< closed
        1> DLINE everywhere
        1< :multichat.local FAIL DLINE INVALID_MASK everywhere :That is no address, or no network, or one of nearly everybody
        1> STATS k
        1< :multichat.local 216 root K bob!u@* :spam and worse (root at 1970-01-01 00:16:40 UTC)
        1< :multichat.local 219 root k :End of STATS report
        1> STATS d
        1< :multichat.local 225 root D 192.0.2.0/24 :a bad neighbourhood (root at 1970-01-01 00:16:40 UTC until 1970-01-01 01:16:40 UTC)
        1< :multichat.local 219 root d :End of STATS report
        * connect 4 192.0.2.200
        4< :multichat.local 465 * :You are banned from this server: a bad neighbourhood
        4< ERROR :Closing link: Banned: a bad neighbourhood
        4< closed
        * connect 5 198.51.100.1
        5> NICK bob
        5> USER u 0 * :Bob
        5< :multichat.local 465 bob :You are banned from this server: spam and worse
        5< ERROR :Closing link: Banned: spam and worse
        5< closed
        * restart
        * connect 6 192.0.2.1
        6< :multichat.local 465 * :You are banned from this server: a bad neighbourhood
        6< ERROR :Closing link: Banned: a bad neighbourhood
        6< closed
        * wait 3600001
        * connect 7 192.0.2.1
        7> PING x
        7< :multichat.local PONG multichat.local :x
        * user 8 root batch
        8> OPER root toor
        8< :root MODE root :+o
        8< :multichat.local 381 root :You are now an IRC operator
        8> UNKLINE bob!u@*
        8< :multichat.local NOTICE root :root lifted the ban of bob!u@*
        8> UNKLINE bob!u@*
        8< :multichat.local FAIL UNKLINE NO_SUCH_BAN bob!u@* :There is none
        * connect 9 10.0.0.1
        9> NICK bob
        9> USER u 0 * :Bob
        9< :multichat.local 001 bob :Welcome to the Multichat network, bob!u@multichat.local
        9< :multichat.local 002 bob :Your host is multichat.local, running multichat-0.1.0
        9< :multichat.local 003 bob :This server was started 1970-01-01 00:16:40 UTC
        9< :multichat.local 004 bob multichat.local multichat-0.1.0 BRgiow beIklaohqvCiMmnRst beIklaohqv
        9< :multichat.local 005 bob NETWORK=Multichat CASEMAPPING=ascii CHANTYPES=# PREFIX=(qaohv)~&@%+ CHANMODES=beI,k,l,CiMmnRst MAXLIST=beI:60 CHANLIMIT=#: STATUSMSG=~&@%+ EXCEPTS INVEX EXTBAN=,am ACCOUNTEXTBAN=a NICKLEN=30 :are supported by this server
        9< :multichat.local 005 bob USERLEN=16 CHANNELLEN=64 TOPICLEN=307 KICKLEN=300 AWAYLEN=200 NAMELEN=150 LINELEN=512 TARGMAX=PRIVMSG:4,NOTICE:4,TAGMSG:4,JOIN:,PART:,KICK:,WHOIS:1,MONITOR:100 MODES=12 ELIST=CMNTU SAFELIST UTF8ONLY WHOX :are supported by this server
        9< :multichat.local 005 bob BOT=B MONITOR=100 SILENCE=60 ACCEPT=60 CALLERID=g KNOCK CHATHISTORY=100 MSGREFTYPES=msgid,timestamp :are supported by this server
        9< :multichat.local 251 bob :There are 0 users and 2 invisible on 1 servers
        9< :multichat.local 252 bob 1 :operators online
        9< :multichat.local 253 bob 1 :unknown connections
        9< :multichat.local 254 bob 0 :channels formed
        9< :multichat.local 255 bob :I have 2 clients and 0 servers
        9< :multichat.local 265 bob 2 2 :Current local users 2, max 2
        9< :multichat.local 266 bob 2 2 :Current global users 2, max 2
        9< :multichat.local 375 bob :- multichat.local Message of the day -
        9< :multichat.local 372 bob :- Be kind.
        9< :multichat.local 376 bob :End of MOTD
        9< :multichat.local 221 bob +i
        9> STATS k
        9< :multichat.local 481 bob :Permission Denied- You're not an IRC operator",
    );
}

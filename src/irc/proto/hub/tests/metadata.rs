//! Transcripts of METADATA; for the notation see above.

use super::{check, check_in, settings};
use crate::base::config::Guests;

#[test]
fn people_say_things_of_themselves_and_subscribers_hear_of_it() {
    check(
        "* user 1 bob draft/metadata-3 batch
        * user 2 carol draft/metadata-3
        * user 3 dave batch
        1> METADATA * GET display-name avatar UPPER
        1< :multichat.local BATCH +b1 metadata bob
        1< @batch=b1 :multichat.local 766 bob bob display-name :The key is not set
        1< @batch=b1 :multichat.local 766 bob bob avatar :The key is not set
        1< @batch=b1 :multichat.local FAIL METADATA INVALID_KEY UPPER :A key is made of a-z, 0-9, _, ., / and -
        1< :multichat.local BATCH -b1
        1> METADATA * SET display-name :Bob the First
        1< :multichat.local 761 bob bob display-name * :Bob the First
        1> METADATA bob LIST
        1< :multichat.local BATCH +b2 metadata bob
        1< @batch=b2 :multichat.local 761 bob bob display-name * :Bob the First
        1< :multichat.local BATCH -b2
        2> METADATA BOB LIST
        2< :multichat.local 761 carol bob display-name * :Bob the First
        2> METADATA bob SET display-name :Not Bob
        2< :multichat.local FAIL METADATA KEY_NO_PERMISSION bob display-name :That is for others to say
        2> METADATA bob CLEAR
        2< :multichat.local FAIL METADATA KEY_NO_PERMISSION bob * :That is for others to say
        2> METADATA * SUB avatar display-name SPACE! avatar
        2< :multichat.local FAIL METADATA INVALID_KEY SPACE! :A key is made of a-z, 0-9, _, ., / and -
        2< :multichat.local 770 carol avatar display-name
        2> METADATA * SUBS
        2< :multichat.local 772 carol avatar display-name
        2> METADATA * UNSUB avatar other
        2< :multichat.local 771 carol avatar other
        2> METADATA * SUBS
        2< :multichat.local 772 carol display-name
        1> METADATA * SET display-name :Bob the Second
        1< :multichat.local 761 bob bob display-name * :Bob the Second
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
        2< :multichat.local 761 carol bob display-name * :Bob the Second
        1> METADATA * SET display-name :Bob the Third
        1< :multichat.local 761 bob bob display-name * :Bob the Third
        2< :multichat.local 761 carol bob display-name * :Bob the Third
        1> METADATA * SET avatar :https://example.org/bob
        1< :multichat.local 761 bob bob avatar * :https://example.org/bob
        2> METADATA bob SYNC
        2< :multichat.local 761 carol bob display-name * :Bob the Third
        2> METADATA * SYNC
        1> METADATA * SET avatar
        1< :multichat.local 766 bob bob avatar :The key is not set
        1> METADATA * SET avatar :
        1< :multichat.local FAIL METADATA KEY_NOT_SET bob avatar :The key is not set
        2> WHOIS bob
        2< :multichat.local 311 carol bob u multichat.local * :Real
        2< :multichat.local 319 carol bob :~#c
        2< :multichat.local 312 carol bob multichat.local :a node
        2< :multichat.local 317 carol bob 0 1000 :seconds idle, signon time
        2< :multichat.local 760 carol bob display-name * :Bob the Third
        2< :multichat.local 318 carol bob :End of WHOIS list
        1> METADATA * CLEAR
        1< :multichat.local BATCH +b3 metadata bob
        1< @batch=b3 :multichat.local 766 bob bob display-name :The key is not set
        1< :multichat.local BATCH -b3
        2< :multichat.local 766 carol bob display-name :The key is not set
        1> METADATA nobody GET avatar
        1< :multichat.local FAIL METADATA INVALID_TARGET nobody :There is nobody and nothing to see
        1> METADATA #nowhere LIST
        1< :multichat.local FAIL METADATA INVALID_TARGET #nowhere :There is nobody and nothing to see
        1> METADATA * BREAK
        1< :multichat.local FAIL METADATA INVALID_SUBCOMMAND BREAK :There is no such subcommand
        1> METADATA * GET
        1< :multichat.local 461 bob METADATA :Not enough parameters
        1> METADATA *
        1< :multichat.local 461 bob METADATA :Not enough parameters",
    );
}

#[test]
fn a_channel_says_what_its_operators_say_and_no_outsider_reads_a_closed_one() {
    check(
        "* user 1 bob draft/metadata-3 batch
        * user 2 carol draft/metadata-3 batch
        * user 3 dave draft/metadata-3
        2> METADATA * SUB display-name
        2< :multichat.local 770 carol display-name
        1> JOIN #c
        1< :bob!u@multichat.local JOIN #c
        1< :multichat.local 353 bob = #c :~bob
        1< :multichat.local 366 bob #c :End of NAMES list
        1> METADATA #c SET display-name :The Channel
        1< :multichat.local 761 bob #c display-name * :The Channel
        2> METADATA #C GET display-name
        2< :multichat.local BATCH +b1 metadata #c
        2< @batch=b1 :multichat.local 761 carol #c display-name * :The Channel
        2< :multichat.local BATCH -b1
        2> METADATA #c SET display-name :Mine
        2< :multichat.local FAIL METADATA KEY_NO_PERMISSION #c display-name :That is for others to say
        2> JOIN #c
        1< :carol!u@multichat.local JOIN #c
        1< PING :seen-2
        2< :carol!u@multichat.local JOIN #c
        2< :multichat.local 353 carol = #c :~bob carol
        2< :multichat.local 366 carol #c :End of NAMES list
        2< :multichat.local BATCH +b2 metadata #c
        2< @batch=b2 :multichat.local 761 carol #c display-name * :The Channel
        2< :multichat.local BATCH -b2
        1> METADATA #c SET display-name :Our Channel
        1< :multichat.local 761 bob #c display-name * :Our Channel
        2< :multichat.local 761 carol #c display-name * :Our Channel
        1> MODE #c +i
        1< :bob!u@multichat.local MODE #c +i
        2< :bob!u@multichat.local MODE #c +i
        3> METADATA #c LIST
        3< :multichat.local FAIL METADATA INVALID_TARGET #c :There is nobody and nothing to see
        * said @alice:example.org #c hello
        1< :alice!alice@example.org JOIN #c
        2< :alice!alice@example.org JOIN #c
        2< PING :seen-3
        1< :alice!alice@example.org PRIVMSG #c :hello
        2< :alice!alice@example.org PRIVMSG #c :hello
        3> METADATA alice LIST
        3> METADATA alice SET display-name :x
        3< :multichat.local FAIL METADATA KEY_NO_PERMISSION alice display-name :That is for others to say
        * restart
        * user 4 erin draft/metadata-3
        4> METADATA #c LIST
        4< :multichat.local FAIL METADATA INVALID_TARGET #c :There is nobody and nothing to see
        * user 5 bob draft/metadata-3
        5> METADATA #c LIST
        5< :multichat.local 761 bob #c display-name * :Our Channel",
    );
}

#[test]
fn said_before_registration_and_kept_by_who_stays() {
    check(
        "* connect 1 10.0.0.1
        1> CAP LS 302
        1< :multichat.local CAP * LS * :sasl=PLAIN,EXTERNAL,SCRAM-SHA-256 server-time message-tags batch echo-message labeled-response cap-notify multi-prefix userhost-in-names extended-join account-tag account-notify away-notify setname chghost invite-notify standard-replies znc.in/self-message extended-monitor draft/chathistory draft/event-playback draft/read-marker draft/multiline=max-bytes=16384,max-lines=100
        1< :multichat.local CAP * LS :draft/account-registration=custom-account-name draft/pre-away draft/no-implicit-names draft/extended-isupport draft/message-redaction draft/metadata-3=before-connect,max-subs=50,max-keys=25,max-value-bytes=256
        1> METADATA * SET color :red
        1< :multichat.local 451 * :You have not registered: send NICK and USER first
        1> CAP REQ :draft/metadata-3 batch
        1< :multichat.local CAP * ACK :draft/metadata-3 batch
        1> METADATA * SET color :red
        1< :multichat.local 761 * * color * :red
        1> METADATA * GET color
        1< :multichat.local BATCH +b1 metadata *
        1< @batch=b1 :multichat.local 761 * * color * :red
        1< :multichat.local BATCH -b1
        1> METADATA bob GET color
        1< :multichat.local FAIL METADATA INVALID_TARGET bob :There is nobody and nothing to see
        1> NICK bob
        1> USER b 0 * :Bob
        1> CAP END
        1< :multichat.local 001 bob :Welcome to the Multichat network, bob!b@multichat.local
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
        1< :multichat.local BATCH +b2 metadata bob
        1< @batch=b2 :multichat.local 761 bob bob color * :red
        1< :multichat.local BATCH -b2
        * restart
        * user 2 carol draft/metadata-3
        2> METADATA bob GET color
        2< :multichat.local FAIL METADATA INVALID_TARGET bob :There is nobody and nothing to see
        * user 3 bob draft/metadata-3
        2> METADATA bob GET color
        2< :multichat.local 761 carol bob color * :red",
    );
}

#[test]
fn what_a_guest_says_of_themselves_goes_with_them() {
    let settings = super::Settings { guests: Guests::Leave, ..settings() };
    check_in(
        settings,
        "* user 1 bob draft/metadata-3
        1> METADATA * SET color :red
        1< :multichat.local 761 bob bob color * :red
        1> QUIT
        1< ERROR :Closing link: Client quit
        1< closed
        * user 2 bob draft/metadata-3
        2> METADATA * GET color
        2< :multichat.local 766 bob bob color :The key is not set",
    );
}

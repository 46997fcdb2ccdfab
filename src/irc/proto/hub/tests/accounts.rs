//! Transcripts of accounts with an e-mail address; for the notation see above.

use super::{check_in, settings};

#[test]
fn who_has_to_name_an_address_does_and_operators_see_it() {
    let settings = super::Settings { email: true, before_connect: true, ..settings() };
    check_in(
        settings,
        "* user 1 bob batch
        * user 2 carol batch
        1> CAP LS 302
        1< :multichat.local CAP bob LS * :sasl=PLAIN,EXTERNAL,SCRAM-SHA-256 server-time message-tags batch echo-message labeled-response cap-notify multi-prefix userhost-in-names extended-join account-tag account-notify away-notify setname chghost invite-notify standard-replies znc.in/self-message extended-monitor draft/chathistory draft/event-playback draft/read-marker draft/multiline=max-bytes=16384,max-lines=100
        1< :multichat.local CAP bob LS :draft/account-registration=before-connect,email-required,custom-account-name draft/pre-away draft/no-implicit-names draft/extended-isupport draft/message-redaction draft/metadata-3=before-connect,max-subs=50,max-keys=25,max-value-bytes=256
        1> REGISTER * * sesame
        1< :multichat.local FAIL REGISTER INVALID_EMAIL bob :An e-mail address has to be named here
        1> REGISTER * bob@nowhere sesame
        1< :multichat.local FAIL REGISTER INVALID_EMAIL bob :That is no e-mail address
        1> REGISTER * bob@example.org sesame
        1< :multichat.local REGISTER SUCCESS bob :Account created
        1< :multichat.local 900 bob bob!u@multichat.local bob :You are now logged in as bob
        1> NS INFO
        1< :NickServ!NickServ@multichat.local NOTICE bob :Account: bob
        1< :NickServ!NickServ@multichat.local NOTICE bob :Registered at: 1970-01-01 00:16:40 UTC
        1< :NickServ!NickServ@multichat.local NOTICE bob :E-mail: bob@example.org
        1< :NickServ!NickServ@multichat.local NOTICE bob :Connections: 1
        2> NS INFO bob
        2< :NickServ!NickServ@multichat.local NOTICE carol :Account: bob
        2< :NickServ!NickServ@multichat.local NOTICE carol :Registered at: 1970-01-01 00:16:40 UTC
        2< :NickServ!NickServ@multichat.local NOTICE carol :Connections: 1
        2> NS REGISTER sesame
        2< :NickServ!NickServ@multichat.local NOTICE carol :An e-mail address has to be named here
        2> OPER root toor
        2< :carol MODE carol :+o
        2< :multichat.local 381 carol :You are now an IRC operator
        2> NS INFO bob
        2< :NickServ!NickServ@multichat.local NOTICE carol :Account: bob
        2< :NickServ!NickServ@multichat.local NOTICE carol :Registered at: 1970-01-01 00:16:40 UTC
        2< :NickServ!NickServ@multichat.local NOTICE carol :E-mail: bob@example.org
        2< :NickServ!NickServ@multichat.local NOTICE carol :Connections: 1
        1> NS SET EMAIL nobody
        1< :NickServ!NickServ@multichat.local NOTICE bob :That is no e-mail address
        1> NS SET EMAIL Bob@Example.net
        1< :NickServ!NickServ@multichat.local NOTICE bob :That is set
        * restart
        * user 3 root batch
        3> OPER root toor
        3< :root MODE root :+o
        3< :multichat.local 381 root :You are now an IRC operator
        3> NS INFO bob
        3< :NickServ!NickServ@multichat.local NOTICE root :Account: bob
        3< :NickServ!NickServ@multichat.local NOTICE root :Registered at: 1970-01-01 00:16:40 UTC
        3< :NickServ!NickServ@multichat.local NOTICE root :E-mail: Bob@Example.net
        3< :NickServ!NickServ@multichat.local NOTICE root :Connections: 0",
    );
}

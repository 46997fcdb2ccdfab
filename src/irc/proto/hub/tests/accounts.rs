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
        1< x
        1> REGISTER * * sesame
        1< x
        1> REGISTER * bob@nowhere sesame
        1< x
        1> REGISTER * bob@example.org sesame
        1< x
        1> NS INFO
        1< x
        2> NS INFO bob
        2< x
        2> NS REGISTER sesame
        2< x
        2> OPER root toor
        2< x
        2> NS INFO bob
        2< x
        1> NS SET EMAIL nobody
        1< x
        1> NS SET EMAIL Bob@Example.net
        1< x
        * restart
        * user 3 root batch
        3> OPER root toor
        3< x
        3> NS INFO bob
        3< x",
    );
}

//! Transcripts by hand: how what is said about what was said, and what people decide, goes in and
//! out, and what is said where something is refused.

use multichat::base::{EventId, Identity};
use multichat::chat::access::Role;
use multichat::chat::act::Standing;
use multichat::chat::channel::{Change, JoinRule};
use multichat::chat::flow::{Flow, Sink};
use multichat::chat::intent::{Actor, Intent, Subject};
use multichat::chat::message::{Content, Link, Relation};
use multichat::chat::profile::Profile;
use multichat::chat::view::{Member, What};
use multichat::matrix::Matrix;
use multichat::port::{Outcome, Refusal};
use serde_json::{Value, json};

use super::node::Node;
use super::stand_in::StandIn;
use super::{bob, config, deliver, delivery, eventually, ready_for_tls, registration, request, said};

const ROOM: &str = "!room:localhost";
const BOT: &str = "@multichatbot:localhost";

/// A door between a stand-in homeserver and a stand-in node; its room carries `#rust`.
struct Between {
    hs: StandIn,
    node: Node,
    base: String,
    transactions: u32,
}

impl Between {
    async fn open() -> Self {
        ready_for_tls();
        let hs = StandIn::default();
        let config = config(&hs.start().await);
        let matrix = Matrix::bind(&config, registration("http://127.0.0.1:7701"), Vec::new()).await.unwrap();
        let base = format!("http://{}", matrix.address());
        let node = Node::open(matrix, &["#rust"]);
        node.look(|kept| kept.channels[0].links.push(Link::Matrix { room: ROOM.into() }));
        let ping = "POST v1/appservice/multichat/ping";
        eventually("the first words", async || {
            hs.calls.lock().unwrap().iter().any(|call| call == ping).then_some(())
        })
        .await;
        hs.sent();
        Self { hs, node, base, transactions: 0 }
    }

    /// One transaction; the wishes that it led to, in a line each.
    async fn push(&mut self, events: &[Value]) -> Vec<String> {
        self.transactions += 1;
        let url = format!("{}/_matrix/app/v1/transactions/{}", self.base, self.transactions);
        let body = json!({"events": events}).to_string();
        assert_eq!(request("PUT", &url, Some("hs-secret"), Some(&body)).await.0, 200);
        self.node.look(|kept| kept.submissions.drain(..).map(|s| line(&s.actor, &s.intent)).collect())
    }

    async fn deliver(&self, id: u64, author: Member, what: What) -> Vec<String> {
        let outcome = deliver(&self.node, delivery(id, ROOM, author, what)).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
        self.hs.sent()
    }

    fn powers(&self, users: Value) {
        let mut state = self.hs.state.lock().unwrap();
        state.insert("m.room.power_levels".into(), json!({"users": users}));
        state.insert(
            "m.room.create".into(),
            json!({"sender": "@founder:x", "content": {"room_version": "11"}}),
        );
    }

    fn membership(&self, user: &str, membership: &str) {
        let key = format!("m.room.member/{user}");
        self.hs.state.lock().unwrap().insert(key, json!({"membership": membership}));
    }
}

fn event_of(id: &str) -> EventId {
    EventId(*blake3::hash(id.as_bytes()).as_bytes())
}

fn line(actor: &Actor, intent: &Intent) -> String {
    let who = match actor {
        Actor::Node => "the node",
        Actor::Person { account, .. } => account,
    };
    let whom = |subject: &Subject| match subject {
        Subject::Name(name) => name.clone(),
        Subject::Identity(_) => "a ghost".into(),
    };
    let what = match intent {
        Intent::SendMessage { content, .. } => format!("{:?} {:?}", content.body, content.envelope.relation),
        Intent::RevokeRole { subject, then, reason, .. } => format!("{then:?} {} {reason:?}", whom(subject)),
        Intent::GrantRole { subject, role, .. } => format!("grant {} {}", whom(subject), role.name()),
        Intent::RedactMessage { target, reason, .. } => format!("redact {target} {reason:?}"),
        Intent::UpdateChannel { change, .. } => format!("{change:?}"),
        Intent::LeaveChannel { reason, .. } => format!("leave {reason:?}"),
        Intent::JoinChannel { .. } => "join".into(),
        Intent::Knock { reason, .. } => format!("knock {reason:?}"),
        other => format!("{other:?}"),
    };
    format!("{who}: {what}")
}

fn event(kind: &str, id: &str, sender: &str, content: Value) -> Value {
    json!({"type": kind, "event_id": id, "room_id": ROOM, "sender": sender, "state_key": "",
           "origin_server_ts": 1_700_000_000_000u64, "content": content})
}

fn member(id: &str, sender: &str, user: &str, membership: &str, before: &str) -> Value {
    let mut event = event("m.room.member", id, sender, json!({"membership": membership, "reason": "why"}));
    event["state_key"] = user.into();
    event["unsigned"] = json!({"prev_content": {"membership": before}});
    event
}

#[tokio::test]
async fn matrix_relations_are_found_in_the_same_transaction_and_later() {
    let mut between = Between::open().await;
    let related = |id: &str, relation: Value| {
        event(
            "m.room.message",
            id,
            "@alice:localhost",
            json!({"msgtype": "m.text", "body": "x", "m.relates_to": relation}),
        )
    };
    let reply = |id: &str, to: &str| related(id, json!({"m.in_reply_to": {"event_id": to}}));
    let first = event_of("$1");
    let wishes = between.push(&[said("$1", "one"), reply("$2", "$1"), reply("$3", "$unknown")]).await;
    let alice = |what: String| format!("@alice:localhost: {what}");
    assert_eq!(
        wishes,
        [
            alice("\"one\" None".into()),
            alice(format!("\"x\" Some(Reply({first:?}))")),
            alice("\"x\" None".into()),
        ]
    );
    let react = |id: &str, to: &str| {
        let relation = json!({"rel_type": "m.annotation", "event_id": to, "key": "👍"});
        event("m.reaction", id, "@alice:localhost", json!({"m.relates_to": relation}))
    };
    let edit = |id: &str, of: &str| {
        let content = json!({"msgtype": "m.text", "body": "* y", "m.new_content": {"msgtype": "m.text", "body": "y"},
                             "m.relates_to": {"rel_type": "m.replace", "event_id": of}});
        event("m.room.message", id, "@alice:localhost", content)
    };
    let redact =
        |id: &str, of: &str| event("m.room.redaction", id, "@alice:localhost", json!({"redacts": of}));
    let wishes = between
        .push(&[
            react("$4", "$1"),
            react("$5", "$unknown"),
            edit("$6", "$1"),
            edit("$7", "$unknown"),
            redact("$8", "$4"),
            redact("$9", "$unknown"),
            related(
                "$10",
                json!({"rel_type": "m.thread", "event_id": "$1", "m.in_reply_to": {"event_id": "$2"}}),
            ),
        ])
        .await;
    assert_eq!(
        wishes,
        [
            alice(format!("\"👍\" Some(Reaction({first:?}))")),
            alice(format!("\"y\" Some(Edit({first:?}))")),
            alice("\"* y\" None".into()),
            alice(format!("redact {} \"\"", event_of("$4"))),
            alice(format!("\"x\" Some(Thread {{ root: {first:?}, reply_to: Some({:?}) }})", event_of("$2"))),
        ],
        "what is about nothing known is said plainly, or not at all"
    );
    between.node.close().await;
}

#[tokio::test]
async fn matrix_no_refusal_is_silent() {
    let mut between = Between::open().await;
    between.node.look(|kept| kept.refuse = Some(Refusal::NotPermitted("send_message")));
    between.push(&[said("$1", "one")]).await;
    let relation = r#""m.relates_to":{"event_id":"$1","rel_type":"m.reference"}"#;
    let status = format!(
        r#"PUT send/com.beeper.message_send_status/multichat-status-$1 {{"error":"not_permitted",{relation},"message":"not permitted: send_message","network":"multichat","reason":"m.no_permission","status":"FAIL_PERMANENT"}}"#
    );
    let words = r#"PUT send/m.room.message/multichat-refused-$1 {"body":"A message of @alice:localhost was not carried: not permitted: send_message.","m.relates_to":{"m.in_reply_to":{"event_id":"$1"}},"msgtype":"m.notice"}"#;
    assert_eq!(between.hs.sent(), [status, words.to_owned()]);

    // The person who wants nothing carried is heard no more, until they want it again.
    between.node.look(|kept| kept.refuse = None);
    let forget = between.push(&[said("$2", "!mc forget me"), said("$3", "secret")]).await;
    assert_eq!(forget, Vec::<String>::new());
    assert!(between.hs.sent()[0].contains("Nothing you say is carried from now on."));
    let again = between.push(&[said("$4", "!mc remember me"), said("$5", "public")]).await;
    assert_eq!(again, ["@alice:localhost: \"public\" None"]);
    between.node.close().await;
}

#[tokio::test]
async fn matrix_decisions_count_by_right_of_the_sender_or_of_a_trusted_room() {
    let mut between = Between::open().await;
    between.deliver(1, bob("Bob"), What::Joined).await;
    let ghost =
        format!("@_multichat_bob_{}:localhost", &Identity(*blake3::hash(b"bob").as_bytes()).to_string()[..8]);
    let mods = "@mod:localhost";
    let mut levels =
        event("m.room.power_levels", "$4", mods, json!({"users": {"@a:localhost": 50, &ghost: 100}}));
    levels["unsigned"] = json!({"prev_content": {"users": {"@a:localhost": 100, "@gone:localhost": 50}}});
    let decided = [
        member("$1", mods, &ghost, "leave", "join"),
        member("$2", mods, "@a:localhost", "ban", "join"),
        member("$3", mods, "@a:localhost", "leave", "ban"),
        levels,
        event("m.room.join_rules", "$5", mods, json!({"join_rule": "knock"})),
        member("$6", "@b:localhost", "@b:localhost", "knock", "leave"),
        event("m.room.name", "$7", mods, json!({"name": "Rust"})),
    ];
    let expect = |who: &str| {
        [
            format!("{who}: Out a ghost \"why\""),
            format!("{who}: Banned @a:localhost \"why\""),
            format!("{who}: Free @a:localhost \"why\""),
            format!("{who}: Demoted(Moderator) @a:localhost \"\""),
            format!("{who}: Demoted(Member) @gone:localhost \"\""),
            format!("{who}: grant a ghost admin"),
            format!("{who}: Join(Knock)"),
            format!("{who}: Title(\"Rust\")"),
        ]
    };
    let mut by_right = between.push(&decided).await;
    assert_eq!(by_right.pop().as_deref(), Some("@mod:localhost: Title(\"Rust\")"));
    assert_eq!(by_right.pop().as_deref(), Some("@b:localhost: knock \"why\""));
    by_right.push("@mod:localhost: Title(\"Rust\")".into());
    by_right.sort();
    let mut expected = expect(mods).to_vec();
    expected.sort();
    assert_eq!(by_right, expected);

    // What the person behind the ghost said before that counted comes after it: the ghost stays out.
    between.hs.sent();
    let late = between.deliver(2, bob("Bob"), What::Message(Content::text("late"))).await;
    assert!(late.len() == 1 && late[0].contains("<Bob> late (said before they were removed)"), "{late:?}");
    let again = between.deliver(3, bob("Bob"), What::Joined).await;
    assert_eq!(again, ["POST v3/join/!room:localhost {}"]);
    let heard = between.deliver(4, bob("Bob"), What::Message(Content::text("back"))).await;
    assert!(heard[0].contains(r#""body":"back""#), "{heard:?}");

    // Who has no right yet: the node does it, as the room counts for its channel.
    between.node.look(|kept| kept.deny = Some(Refusal::NotPermitted("remove_members")));
    let tried = between.push(&[member("$11", mods, &ghost, "leave", "join")]).await;
    assert_eq!(tried, ["@mod:localhost: Out a ghost \"why\"", "the node: Out a ghost \"why\""]);
    // Who is not of the channel any more decides nothing, and is told.
    between.hs.sent();
    between.node.look(|kept| kept.deny = Some(Refusal::NotAMember));
    let tried = between.push(&[member("$12", mods, &ghost, "leave", "join")]).await;
    assert_eq!(tried, ["@mod:localhost: Out a ghost \"why\""]);
    let told = between.hs.sent();
    let words = "What @mod:localhost did counts in this room, but not in #rust: not a member of the channel.";
    assert!(told[0].contains(words), "{told:?}");
    // A Matrix user who was put out of the room is out of the channel all the same.
    let tried = between.push(&[member("$13", mods, "@a:localhost", "leave", "join")]).await;
    let left = "@a:localhost: leave \"removed by @mod:localhost: why\"";
    assert_eq!(tried, ["@mod:localhost: Out @a:localhost \"why\"", left]);
    between.node.close().await;
}

#[tokio::test]
async fn matrix_roles_and_removals_go_out_or_are_said() {
    let between = Between::open().await;
    let alice = || Member {
        identity: Identity([9; 32]),
        role: Role::Member,
        profile: Profile { username: "alice".into(), home: "@alice:localhost".into(), ..Profile::default() },
    };
    between.powers(json!({BOT: 100, "@alice:localhost": 0}));
    between.membership("@alice:localhost", "join");
    let sent =
        between.deliver(1, bob("Bob"), What::Granted { subject: alice(), role: Role::Moderator }).await;
    assert_eq!(
        sent,
        [r#"PUT state/m.room.power_levels/ {"users":{"@alice:localhost":50,"@multichatbot:localhost":100}}"#]
    );
    let out = |then| What::Revoked { subject: alice(), then, reason: "spam".into() };
    between.powers(json!({BOT: 100, "@alice:localhost": 50}));
    let sent = between.deliver(2, bob("Bob"), out(Standing::Out)).await;
    assert_eq!(
        sent,
        [
            r#"PUT state/m.room.power_levels/ {"users":{"@multichatbot:localhost":100}}"#,
            r#"POST kick {"reason":"spam (by Bob)","user_id":"@alice:localhost"}"#,
        ]
    );
    let sent = between.deliver(3, bob("Bob"), out(Standing::Banned)).await;
    assert_eq!(sent[1], r#"POST ban {"reason":"spam (by Bob)","user_id":"@alice:localhost"}"#);
    between.membership("@alice:localhost", "ban");
    assert_eq!(
        between.deliver(4, bob("Bob"), out(Standing::Banned)).await,
        Vec::<String>::new(),
        "so already"
    );
    let sent = between.deliver(5, bob("Bob"), out(Standing::Free)).await;
    assert_eq!(sent, [r#"POST unban {"reason":"spam (by Bob)","user_id":"@alice:localhost"}"#]);

    // Where the room does not let the bot, it says so.
    between.membership("@alice:localhost", "join");
    between.powers(json!({BOT: 100, "@alice:localhost": 100}));
    between.hs.forbidden.lock().unwrap().push("/kick".into());
    let sent = between.deliver(6, bob("Bob"), out(Standing::Out)).await;
    assert!(
        sent[1].contains(
            "@alice:localhost was removed from #rust (spam (by Bob)), but I may not do so in this room"
        ),
        "{sent:?}"
    );
    let sent = between.deliver(7, bob("Bob"), out(Standing::Demoted(Role::Member))).await;
    assert!(
        sent[0].contains("keeps their power in this room: their power in the room is not below mine"),
        "{sent:?}"
    );

    // Settings: only what is not so already.
    let open = What::Changed(Change::Join(JoinRule::Invite));
    let sent = between.deliver(8, bob("Bob"), open.clone()).await;
    assert_eq!(sent, [r#"PUT state/m.room.join_rules/ {"join_rule":"invite"}"#]);
    between.hs.state.lock().unwrap().insert("m.room.join_rules".into(), json!({"join_rule": "invite"}));
    assert_eq!(between.deliver(9, bob("Bob"), open).await, Vec::<String>::new());
    let sent = between.deliver(10, bob("Bob"), What::Changed(Change::Retention(Some(86_400_000)))).await;
    assert!(sent[0].contains("Bob set in #rust how long texts stay: 1d."), "{sent:?}");
    let sent = between.deliver(11, bob("Bob"), What::Knocked { reason: "please".into() }).await;
    assert!(
        sent[0].contains("Bob asks to be let into #rust: please. Who may do so says: !mc invite Bob"),
        "{sent:?}"
    );
    between.node.close().await;
}

#[tokio::test]
async fn matrix_void_and_withheld_messages_are_not_silently_gone() {
    let between = Between::open().await;
    let text = || What::Message(Content::text("hi"));
    let sent = between.deliver(1, bob("Bob"), text()).await;
    let void = delivery(1, ROOM, bob("Bob"), What::Withdrawn).news.event;
    let first = sent.last().unwrap().clone();
    assert!(first.starts_with(&format!("PUT send/m.room.message/multichat-{void} ")), "{sent:?}");
    between.node.look(|kept| kept.reports.clear());
    let sent = between.deliver(1, bob("Bob"), What::Withdrawn).await;
    assert!(sent[0].starts_with(&format!("PUT redact/$e/multichat-void-{void}-1 ")), "{sent:?}");
    // It counts again: the homeserver must not take it for the one that was taken back.
    between.node.look(|kept| kept.reports.clear());
    let sent = between.deliver(1, bob("Bob"), text()).await;
    assert!(sent[0].starts_with(&format!("PUT send/m.room.message/multichat-{void}-1 ")), "{sent:?}");

    // What another took back is taken back by the ghost who said it, and once only.
    let redacted = What::Redacted { target: void, sender: bob("Bob").identity, reason: String::new() };
    let sent = between.deliver(2, bob("Bob"), redacted).await;
    assert!(
        sent[0].starts_with("PUT redact/$e/") && sent[0].ends_with(r#"{"reason":"taken back by Bob"}"#),
        "{sent:?}"
    );

    // A message that may not go to this homeserver is not sent, and the room is told once.
    let mut narrow = Content::text("secret");
    narrow.envelope.flow = Flow::Only(vec![Sink::Irc("libera".into())]);
    let sent = between.deliver(3, bob("Bob"), What::Message(narrow.clone())).await;
    assert!(sent.len() == 1 && sent[0].contains("may not go to localhost"), "{sent:?}");
    assert_eq!(between.deliver(4, bob("Bob"), What::Message(narrow)).await, Vec::<String>::new());
    let reaction = Content {
        envelope: multichat::chat::message::Envelope {
            relation: Some(Relation::Reaction(EventId([5; 32]))),
            ..Default::default()
        },
        ..Content::text("👍")
    };
    let sent = between.deliver(5, bob("Bob"), What::Message(reaction)).await;
    assert!(sent[0].contains("reacted with 👍 to something that is not in this room"), "{sent:?}");
    between.node.close().await;
}

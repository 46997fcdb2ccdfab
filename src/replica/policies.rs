//! What channels make of their policy: each test plays a history and asks, on replicas that took it in
//! in other orders too, what counts.

use super::attacks::{Scene, grant, join_under, revoke};
use super::sample::Author;
use super::{Admission, Event, PayloadRef};
use crate::base::Kind as ErrorKind;
use crate::base::key::SecretKey;
use crate::base::{ChannelId, Digest, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::{Act, Joining, Standing};
use crate::chat::channel::{Change, JoinRule, Quota, RoleRule, Rule};
use crate::chat::flow::{Flow, Sink};
use crate::chat::message::{Content, Envelope, Relation};
use crate::chat::permissions::{Permission, Permissions};

fn set(change: Change) -> Act {
    Act::UpdateChannel(change)
}

fn rule(allow: &[Permission], deny: &[Permission]) -> Rule {
    Rule { allow: Permissions::of(allow), deny: Permissions::of(deny) }
}

fn role_rule(role: Role, allow: &[Permission], deny: &[Permission]) -> Act {
    set(Change::Role { role, rule: RoleRule { name: String::new(), rule: rule(allow, deny) } })
}

fn related(scene: &mut Scene, author: &Author, relation: Relation, text: &str) -> Event {
    let mut header = scene.draft_words(author, text).header;
    header.act = Act::SendMessage(Envelope { relation: Some(relation), ..Envelope::default() });
    header.payload = Some(PayloadRef::of(&Content::text(text).payload()));
    author.sign(header)
}

#[test]
fn a_moderated_channel_hears_those_with_a_voice() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let before = scene.say(&member, "before");
    let unaware = scene.draft_words(&member, "at the same time");
    let muted = scene.act(&moderator, role_rule(Role::Member, &[], &[Permission::SendMessage]));
    scene.late(&unaware);
    let after = scene.say(&member, "after");
    assert_eq!(
        scene.effective(&[&before, &unaware, &after]),
        [true, true, false],
        "who did not know is not bound"
    );
    let voice = Role::Custom(900);
    let granted = scene.act(&moderator, grant(&member, voice));
    scene.act(&member, join_under(&member, &granted));
    let voiced = scene.say(&member, "with a voice");
    assert_eq!((scene.effective(&[&voiced]), scene.role(&member)), (vec![true], voice));
    // The moderator falls, with all they did after the founder last saw them: nobody was ever muted.
    let founder = scene.founder.clone();
    assert_eq!(scene.effective(&[&muted]), [true]);
    let unseen = scene.draft(&moderator, role_rule(voice, &[], &[Permission::SendMessage]));
    scene.act(&founder, revoke(&moderator, Standing::Out));
    scene.late(&unseen);
    let words = scene.say(&member, "still");
    assert_eq!(scene.effective(&[&unseen, &words]), [false, true], "a void policy binds nobody");
}

#[test]
fn what_a_void_policy_forbade_counts_after_all() {
    let mut scene = Scene::new();
    let ([anna, berta], member, founder) =
        (scene.admins.clone(), scene.member.clone(), scene.founder.clone());
    let removal = scene.draft(&founder, revoke(&anna, Standing::Out));
    scene.act(&anna, role_rule(Role::Member, &[], &[Permission::SendMessage]));
    let words = scene.say(&member, "may I?");
    assert_eq!(scene.effective(&[&words]), [false]);
    scene.late(&removal);
    assert_eq!(scene.effective(&[&words]), [true]);
    scene.act(&berta, role_rule(Role::Member, &[Permission::SetTopic], &[]));
    let topic = scene.act(&member, set(Change::Topic("ours".into())));
    assert_eq!((scene.effective(&[&topic]), scene.replica.state().topic()), (vec![true], "ours"));
}

#[test]
fn policy_binds_only_those_whom_its_author_outranks() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let [anna, _] = scene.admins.clone();
    scene.act(&moderator, set(Change::MaxTtl(Some(10))));
    scene.act(&moderator, set(Change::Flow(Flow::Only(vec![Sink::Search]))));
    let lasting = |scene: &Scene, author: &Author| {
        let mut header = scene.draft_words(author, "long").header;
        let expires = Some(header.timestamp.plus_ms(1_000));
        header.act = Act::SendMessage(Envelope { expires, ..Envelope::default() });
        author.sign(header)
    };
    let leaking = |scene: &Scene, author: &Author| {
        let mut header = scene.draft_words(author, "out").header;
        let flow = Flow::Only(vec![Sink::Irc("net:6667".into())]);
        header.act = Act::SendMessage(Envelope { flow, ..Envelope::default() });
        author.sign(header)
    };
    for (author, counts) in [(&member, false), (&anna, true), (&moderator, true)] {
        let long = lasting(&scene, author);
        scene.late(&long);
        let out = leaking(&scene, author);
        scene.late(&out);
        assert_eq!(scene.effective(&[&long, &out]), [counts, counts]);
    }
    // Nor does a moderator change what their own role may do.
    let event = scene.draft(&moderator, role_rule(Role::Moderator, &[], &[]));
    assert_eq!(scene.refused(&event).kind(), ErrorKind::Denied);
}

#[test]
fn slow_mode_is_a_quota_for_each_device() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    scene.act(&moderator, set(Change::SlowMode(Some(Quota { events: 2, per_ms: 1_000 }))));
    let mut said: Vec<Event> = (0..3).map(|n| scene.say(&member, &n.to_string())).collect();
    scene.now += 1_000;
    said.push(scene.say(&member, "rested"));
    let counts = scene.effective(&said.iter().collect::<Vec<_>>());
    assert_eq!(counts, [true, true, false, true]);
    // It is for ordinary members, and for what they say.
    let founder = scene.founder.clone();
    scene.act(&founder, set(Change::SlowMode(Some(Quota { events: 2, per_ms: 1_000 }))));
    let theirs: Vec<Event> = (0..4).map(|n| scene.say(&moderator, &n.to_string())).collect();
    assert_eq!(scene.effective(&theirs.iter().collect::<Vec<_>>()), [true; 4]);
    let lane = scene.replica.live_lane(&member.device.public()).unwrap();
    let act = Act::SendMessage(Envelope::default());
    assert!(scene.replica.forbids(lane, &act, Timestamp(scene.now + 1)).is_none());
    scene.say(&member, "again");
    let lane = scene.replica.live_lane(&member.device.public()).unwrap();
    assert!(scene.replica.forbids(lane, &act, Timestamp(scene.now + 1)).unwrap().contains("slow mode"));
}

#[test]
fn who_is_not_invited_stays_out_and_knocks() {
    let mut scene = Scene::new();
    let (moderator, guest) = (scene.moderator.clone(), Author::new("guest"));
    scene.act(&moderator, set(Change::Join(JoinRule::Knock)));
    assert!(!scene.replica.may_join(&guest.identity.public()));
    let forced = scene.act(&guest, guest.join());
    assert_eq!(scene.effective(&[&forced]), [false]);
    let knock = scene.act(&guest, Act::Knock { asking: guest.joining(), reason: "please".into() });
    assert_eq!(scene.effective(&[&knock]), [true]);
    assert!(!scene.is_member(&guest), "asking is not being let in");
    let granted = scene.act(&moderator, grant(&guest, Role::Member));
    let joined = scene.act(&guest, join_under(&guest, &granted));
    assert_eq!(scene.effective(&[&joined]), [true]);
    assert!(scene.is_member(&guest));
    // A member may not invite here, unless the policy says so.
    let (member, friend) = (scene.member.clone(), Author::new("friend"));
    let invited = scene.act(&member, grant(&friend, Role::Member));
    let joined = scene.act(&friend, join_under(&friend, &invited));
    assert_eq!(scene.effective(&[&invited, &joined]), [false, false]);
    scene.act(&moderator, role_rule(Role::Member, &[Permission::Invite], &[]));
    let invited = scene.act(&member, grant(&friend, Role::Member));
    let joined = scene.act(&friend, join_under(&friend, &invited));
    assert_eq!(scene.effective(&[&invited, &joined]), [true, true]);
}

#[test]
fn an_invite_link_lets_in_who_bears_its_key_until_it_ends() {
    let mut scene = Scene::new();
    let moderator = scene.moderator.clone();
    scene.act(&moderator, set(Change::Join(JoinRule::Invite)));
    let key = SecretKey::from_seed([42; 32]);
    let expires = Some(Timestamp(scene.now + 500));
    let link = Act::GrantRole { subject: key.public(), role: Role::Member, expires };
    let link = scene.act(&moderator, link);
    let bearing = |guest: &Author, key: &SecretKey| {
        let identity = guest.identity.public();
        let bearer = Some(Joining::bear(key, &link.id(), &identity));
        Act::JoinChannel(Joining { grant: Some(link.id()), bearer, ..guest.joining() })
    };
    let [early, thief, late, last] = ["early", "thief", "late", "last"].map(Author::new);
    let joined = scene.act(&early, bearing(&early, &key));
    assert_eq!(scene.effective(&[&joined]), [true]);
    let stolen = scene.draft(&thief, bearing(&thief, &SecretKey::from_seed([43; 32])));
    assert_eq!(scene.refused(&stolen).kind(), ErrorKind::Invalid);
    // What the key signed for one person and link serves no other.
    let (theirs, other) = (early.identity.public(), super::sample::nothing(9));
    for (grant, person) in [(link.id(), theirs), (other, thief.identity.public())] {
        let bearer = Some(Joining::bear(&key, &grant, &person));
        let act = Act::JoinChannel(Joining { grant: Some(link.id()), bearer, ..thief.joining() });
        let copied = scene.draft(&thief, act);
        assert_eq!(scene.refused(&copied).kind(), ErrorKind::Invalid);
    }
    let unseen = scene.draft(&late, bearing(&late, &key));
    let ended = Act::RevokeRole { subject: key.public(), then: Standing::Out, reason: String::new() };
    scene.act(&moderator, ended);
    scene.late(&unseen);
    assert_eq!(scene.effective(&[&joined, &unseen]), [true, false], "who was in stays in");
    scene.now += 1_000;
    let expired = scene.draft(&last, bearing(&last, &key));
    assert_eq!(scene.refused(&expired).kind(), ErrorKind::Invalid);
}

#[test]
fn edits_reactions_and_redactions_are_for_those_who_may() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let words = scene.say(&member, "helo");
    let edit = related(&mut scene, &member, Relation::Edit(words.id()), "hello");
    scene.late(&edit);
    let theirs = related(&mut scene, &moderator, Relation::Edit(words.id()), "I never said that");
    assert_eq!(scene.refused(&theirs).kind(), ErrorKind::Denied);
    let of_an_edit = related(&mut scene, &member, Relation::Edit(edit.id()), "x");
    assert_eq!(scene.refused(&of_an_edit).kind(), ErrorKind::Invalid);
    let of_nothing = related(&mut scene, &member, Relation::Reply(super::sample::nothing(1)), "x");
    assert!(matches!(scene.replica.admit(&of_nothing, 99), Admission::Waiting(_)));
    let reaction = related(&mut scene, &moderator, Relation::Reaction(words.id()), "👍");
    scene.late(&reaction);
    let of_a_reaction = related(&mut scene, &member, Relation::Reaction(reaction.id()), "👍");
    assert_eq!(scene.refused(&of_a_reaction).kind(), ErrorKind::Invalid);
    let redact = |target: &Event| Act::RedactMessage { target: target.id(), reason: String::new() };
    let own = scene.act(&moderator, redact(&reaction));
    let others = scene.draft(&member, redact(&reaction));
    assert_eq!(scene.refused(&others).kind(), ErrorKind::Denied, "members take back only what is theirs");
    let by_moderator = scene.act(&moderator, redact(&words));
    assert_eq!(scene.effective(&[&edit, &reaction, &own, &by_moderator]), [true; 4]);
    assert!(scene.replica.is_redacted(&words.id()) && scene.replica.is_redacted(&reaction.id()));
    assert!(!scene.replica.is_redacted(&edit.id()));
    let nonsense = scene.draft(&moderator, redact(&by_moderator));
    assert_eq!(scene.refused(&nonsense).kind(), ErrorKind::Invalid);
}

#[test]
fn a_closed_channel_is_closed_to_all_below() {
    let mut scene = Scene::new();
    let ([anna, _], member) = (scene.admins.clone(), scene.member.clone());
    let founder = scene.founder.clone();
    let next = ChannelId([7; 32]);
    scene.act(&anna, set(Change::Successor(Some(next))));
    scene.act(&anna, set(Change::Closed(true)));
    let words = scene.say(&member, "hello?");
    let newcomer = Author::new("newcomer");
    let joined = scene.act(&newcomer, newcomer.join());
    let last = scene.say(&founder, "it is over");
    assert_eq!(scene.effective(&[&words, &joined, &last]), [false, false, true]);
    let successor = scene.replica.state().setting(crate::chat::channel::Setting::Successor);
    assert_eq!(successor, Some(&Change::Successor(Some(next))));
    scene.act(&founder, set(Change::Closed(false)));
    let words = scene.say(&member, "hello!");
    assert_eq!(scene.effective(&[&words]), [true]);
}

#[test]
fn settings_made_at_once_all_count_and_of_one_setting_the_lower_rank() {
    let mut scene = Scene::new();
    let ([anna, _], moderator) = (scene.admins.clone(), scene.moderator.clone());
    let one = scene.draft(&moderator, set(Change::Retention(Some(1))));
    let other = scene.draft(&anna, set(Change::Retention(Some(2))));
    let third = scene.draft(&scene.founder.clone(), set(Change::Join(JoinRule::Invite)));
    for event in [&one, &other, &third] {
        scene.late(event);
    }
    scene.effective(&[]);
    let policy = scene.replica.policy();
    assert_eq!((policy.retention, policy.join), (Some(2), JoinRule::Invite));
}

#[test]
fn an_act_of_a_later_version_is_kept_and_counts_as_something_said() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let act = Act::Extension { logic: Digest([9; 32]), data: vec![1, 2, 3] };
    let unknown = scene.act(&member, act.clone());
    scene.act(&moderator, role_rule(Role::Member, &[], &[Permission::SendMessage]));
    let muted = scene.act(&member, act);
    assert_eq!(scene.effective(&[&unknown, &muted]), [true, false]);
}

//! What members without honour try, each as a test: what they do is either refused by every replica or
//! void on every replica, in whatever order it comes.

use super::sample::{Author, founded};
use super::{Admission, Event, Invalid, PayloadRef, Replica, Timestamp};
use crate::base::Kind;
use crate::base::codec;
use crate::chat::access::Role;
use crate::chat::act::{Act, Standing};
use crate::chat::channel::Change;
use crate::chat::message::Content;

/// A channel with a founder, two admins, a moderator and a member, each with a lane of their own role,
/// and every event so far in an order in which nothing waits.
pub(super) struct Scene {
    pub replica: Replica,
    pub log: Vec<Event>,
    pub now: u64,
    pub founder: Author,
    pub admins: [Author; 2],
    pub moderator: Author,
    pub member: Author,
}

impl Scene {
    pub fn new() -> Self {
        let [founder, moderator, member] = ["founder", "moderator", "member"].map(Author::new);
        let admins = ["anna", "berta"].map(Author::new);
        let (replica, founding) = founded(&founder);
        let mut scene = Self { replica, log: vec![founding], now: 2_000, founder, admins, moderator, member };
        let member = scene.member.clone();
        scene.act(&member, member.join());
        for (author, role) in [
            (scene.admins[0].clone(), Role::Admin),
            (scene.admins[1].clone(), Role::Admin),
            (scene.moderator.clone(), Role::Moderator),
        ] {
            let founder = scene.founder.clone();
            let grant = scene.act(&founder, grant(&author, role));
            scene.act(&author, join_under(&author, &grant));
        }
        scene
    }

    pub fn act(&mut self, author: &Author, act: Act) -> Event {
        self.now += 10;
        let event = author.act(&mut self.replica, self.now, act);
        self.log.push(event.clone());
        event
    }

    pub fn say(&mut self, author: &Author, text: &str) -> Event {
        self.now += 10;
        let event = author.say(&mut self.replica, self.now, text).event;
        self.log.push(event.clone());
        event
    }

    /// Something drafted now, to be handed in later.
    pub fn draft(&self, author: &Author, act: Act) -> Event {
        author.sign(author.draft(&self.replica, self.now + 1, act))
    }

    pub fn draft_words(&self, author: &Author, text: &str) -> Event {
        let mut header = author.draft(&self.replica, self.now + 1, Act::SendMessage(Default::default()));
        header.payload = Some(PayloadRef::of(&Content::text(text).payload()));
        author.sign(header)
    }

    pub fn late(&mut self, event: &Event) {
        let admission = self.replica.admit(event, self.log.len() as u64 + 1);
        assert!(matches!(admission, Admission::Accepted(_)), "{admission:?}");
        self.log.push(event.clone());
    }

    pub fn refused(&mut self, event: &Event) -> Invalid {
        match self.replica.admit(event, 99) {
            Admission::Refused(invalid) => invalid,
            other => panic!("{other:?}"),
        }
    }

    /// Whether each is effective, the same on replicas that took everything in in other orders.
    pub fn effective(&self, events: &[&Event]) -> Vec<bool> {
        for stride in [1, 3, 7, 11, 100] {
            let mut order: Vec<usize> = (0..self.log.len()).collect();
            order.sort_by_key(|at| (at + 1) * stride % 101);
            let (mut other, _) = Replica::found(&self.log[0], 1).unwrap();
            while other.len() < self.replica.len() {
                for at in &order {
                    other.admit(&self.log[*at], other.len() as u64 + 1);
                }
            }
            assert_eq!(other.root(), self.replica.root());
            for event in &self.log {
                assert_eq!(other.is_effective(&event.id()), self.replica.is_effective(&event.id()));
            }
        }
        events.iter().map(|event| self.replica.is_effective(&event.id())).collect()
    }

    pub fn is_member(&self, author: &Author) -> bool {
        self.replica.state().is_member(&author.identity.public())
    }

    pub fn role(&self, author: &Author) -> Role {
        self.replica.state().person(&author.identity.public()).unwrap().role
    }
}

pub(super) fn grant(to: &Author, role: Role) -> Act {
    Act::GrantRole { subject: to.identity.public(), role, expires: None }
}

pub(super) fn join_under(author: &Author, grant: &Event) -> Act {
    Act::JoinChannel(crate::chat::act::Joining { grant: Some(grant.id()), ..author.joining() })
}

pub(super) fn revoke(of: &Author, then: Standing) -> Act {
    Act::RevokeRole { subject: of.identity.public(), then, reason: String::new() }
}

#[test]
fn backdating_after_removal() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let before = scene.say(&member, "while I may");
    let backdated = scene.draft_words(&member, "I said this before, see the time");
    let laptop = member.on("laptop");
    let secret_lane = scene.draft(&laptop, laptop.join());
    scene.act(&moderator, revoke(&member, Standing::Out));
    scene.late(&backdated);
    scene.late(&secret_lane);
    assert_eq!(scene.effective(&[&before, &backdated, &secret_lane]), [true, false, false]);
    assert!(!scene.is_member(&member));
    // Kicked is not banned: who knows that they were kicked may come again.
    scene.act(&member, member.join());
    let words = scene.say(&member, "hello again");
    assert_eq!(scene.effective(&[&words]), [true]);
    assert!(scene.is_member(&member));
}

#[test]
fn a_ban_outlasts_joining_again_until_it_is_lifted() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    scene.act(&moderator, revoke(&member, Standing::Banned));
    assert!(!scene.replica.may_join(&member.identity.public()));
    let join = scene.act(&member, member.join());
    scene.act(&moderator, revoke(&member, Standing::Out));
    assert!(!scene.replica.may_join(&member.identity.public()), "a kick lifts no ban");
    assert_eq!(scene.effective(&[&join]), [false]);
    scene.act(&moderator, revoke(&member, Standing::Free));
    assert!(scene.replica.may_join(&member.identity.public()));
    let join = scene.act(&member, member.join());
    assert_eq!(scene.effective(&[&join]), [true]);
}

#[test]
fn concurrent_remove_and_send() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let unseen = scene.draft_words(&member, "at the same moment");
    let removal = scene.act(&moderator, revoke(&member, Standing::Out));
    scene.late(&unseen);
    assert_eq!(scene.effective(&[&unseen, &removal]), [false, true]);
}

#[test]
fn dueling_admins() {
    let mut scene = Scene::new();
    let [anna, berta] = scene.admins.clone();
    let one = scene.draft(&anna, revoke(&berta, Standing::Banned));
    let other = scene.draft(&berta, revoke(&anna, Standing::Banned));
    scene.late(&one);
    scene.late(&other);
    assert_eq!(scene.effective(&[&one, &other]), [true, true], "valid, and acting on nobody");
    assert!(scene.is_member(&anna) && scene.is_member(&berta), "equals do not outrank each other");
    let founder = scene.founder.clone();
    scene.act(&founder, revoke(&anna, Standing::Demoted(Role::Member)));
    assert_eq!((scene.role(&anna), scene.role(&berta)), (Role::Member, Role::Admin));
    assert!(scene.is_member(&anna), "demoted, not removed");
}

#[test]
fn a_majority_of_equals_removes_one_of_them() {
    let mut scene = Scene::new();
    let [anna, berta] = scene.admins.clone();
    let (founder, carla) = (scene.founder.clone(), Author::new("carla"));
    let granted = scene.act(&founder, grant(&carla, Role::Admin));
    scene.act(&carla, join_under(&carla, &granted));
    // Anna is voted out by two of three, and votes against both without knowing it: in vain, though
    // her votes come first at some replicas.
    let back = scene.draft(&anna, revoke(&berta, Standing::Banned));
    let one = scene.act(&berta, revoke(&anna, Standing::Banned));
    assert!(scene.is_member(&anna), "one of three is no majority");
    let other = scene.act(&carla, revoke(&anna, Standing::Banned));
    scene.late(&back);
    assert_eq!(scene.effective(&[&one, &other, &back]), [true, true, false]);
    assert!(!scene.is_member(&anna) && scene.is_member(&berta) && scene.is_member(&carla));
    // The founder takes a voter away, who voted with what was cut off: the vote falls.
    let mut scene = Scene::new();
    let granted = scene.act(&founder, grant(&carla, Role::Admin));
    scene.act(&carla, join_under(&carla, &granted));
    let removal = scene.draft(&founder, revoke(&carla, Standing::Out));
    scene.act(&berta, revoke(&anna, Standing::Out));
    scene.act(&carla, revoke(&anna, Standing::Out));
    assert!(!scene.is_member(&anna));
    scene.late(&removal);
    scene.effective(&[]);
    assert!(scene.is_member(&anna), "two are left, and one of two is no majority");
}

#[test]
fn who_resigns_is_what_they_leave_themselves() {
    let mut scene = Scene::new();
    let ([anna, berta], founder) = (scene.admins.clone(), scene.founder.clone());
    // One of two admins, whom no equal needs to agree with.
    let old = scene.log.iter().find(|event| event.header.act == grant(&anna, Role::Admin)).unwrap().clone();
    let resigned = scene.act(&anna, revoke(&anna, Standing::Demoted(Role::Member)));
    assert_eq!(scene.role(&anna), Role::Member);
    assert!(scene.is_member(&anna) && scene.replica.live_lane(&anna.device.public()).is_none());
    let granted = scene.replica.best_grant(&anna.identity.public()).map(|(grant, _)| grant);
    assert_eq!(granted, Some(resigned.id()), "what they are now is granted by their own word");
    // Neither under what they gave up nor on a device that claims not to know are they more.
    let back = scene.act(&anna, join_under(&anna, &old));
    let mut laptop =
        anna.on("laptop").draft(&scene.replica, scene.now + 1, join_under(&anna.on("laptop"), &old));
    laptop.deps = vec![old.id()];
    let laptop = anna.on("laptop").sign(laptop);
    scene.late(&laptop);
    let joined = scene.act(&anna, join_under(&anna, &resigned));
    let words = scene.say(&anna, "just one of you now");
    assert_eq!(
        scene.effective(&[&resigned, &back, &laptop, &joined, &words]),
        [true, false, false, true, true]
    );
    assert_eq!(scene.role(&anna), Role::Member);
    // The other is alone of that rank now: nobody votes who has resigned.
    let out = revoke(&berta, Standing::Out);
    let out = scene.act(&berta, out);
    assert_eq!(scene.effective(&[&out]), [true]);
    assert!(!scene.is_member(&berta));
    // A founder too.
    scene.act(&founder, revoke(&founder, Standing::Demoted(Role::Member)));
    assert_eq!(scene.role(&founder), Role::Member);
    assert_ne!(scene.replica.rank_of(&founder.identity.public()), 0);
}

#[test]
fn two_devices_that_resign_at_once_leave_nothing_behind() {
    let mut scene = Scene::new();
    let anna = scene.admins[0].clone();
    let laptop = anna.on("laptop");
    let old = scene.log.iter().find(|event| event.header.act == grant(&anna, Role::Admin)).unwrap().clone();
    scene.act(&laptop, join_under(&laptop, &old));
    let resign = revoke(&anna, Standing::Demoted(Role::Member));
    let one = scene.draft(&anna, resign.clone());
    let other = scene.draft(&laptop, resign);
    scene.late(&one);
    scene.late(&other);
    assert_eq!(scene.effective(&[&one, &other]), [false, false]);
    assert!(!scene.is_member(&anna));
    assert_eq!(scene.replica.best_grant(&anna.identity.public()), None);
    scene.act(&anna, anna.join());
    let words = scene.say(&anna, "here again");
    assert_eq!(scene.effective(&[&words]), [true]);
    assert_eq!(scene.role(&anna), Role::Member);
}

#[test]
fn what_becomes_void_and_what_counts_again_is_told() {
    let mut scene = Scene::new();
    let ([anna, _], member, founder) = (scene.admins.clone(), scene.member.clone(), scene.founder.clone());
    let ban = scene.draft(&anna, revoke(&member, Standing::Banned));
    let removal = scene.draft(&founder, revoke(&anna, Standing::Out));
    let words = scene.say(&member, "unseen");
    let told = |scene: &mut Scene, event: &Event| {
        let admission = scene.replica.admit(event, 100);
        scene.log.push(event.clone());
        let Admission::Accepted(effect) = admission else { panic!("{admission:?}") };
        effect.flips.into_iter().map(|(event, _)| event).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut scene, &ban), [words.id()]);
    assert!(told(&mut scene, &removal).contains(&words.id()));
    assert_eq!(scene.effective(&[&words]), [true]);
}

#[test]
fn what_a_revoked_admin_did_later_unravels_with_them() {
    let mut scene = Scene::new();
    let ([anna, _], founder) = (scene.admins.clone(), scene.founder.clone());
    let friend = Author::new("friend");
    let founding = scene.draft(&anna, grant(&friend, Role::Admin));
    let removal = scene.act(&founder, revoke(&anna, Standing::Out));
    scene.late(&founding);
    let joined = scene.act(&friend, join_under(&friend, &founding));
    assert!(scene.replica.live_lane(&friend.device.public()).is_none(), "void as it opens");
    let ban = revoke(&scene.moderator.clone(), Standing::Banned);
    let ban = scene.act(&friend, ban);
    let topic = scene.act(&friend, Act::UpdateChannel(Change::Topic("ours now".into())));
    assert_eq!(
        scene.effective(&[&removal, &founding, &joined, &ban, &topic]),
        [true, false, false, false, false]
    );
    let moderator = scene.moderator.clone();
    assert!(scene.is_member(&moderator) && !scene.is_member(&friend) && !scene.is_member(&anna));
    assert_eq!(scene.replica.state().topic(), "");
}

#[test]
fn a_removed_moderator_does_not_return_under_the_old_grant() {
    let mut scene = Scene::new();
    let (founder, moderator) = (scene.founder.clone(), scene.moderator.clone());
    let old =
        scene.log.iter().rfind(|event| matches!(event.header.act, Act::GrantRole { .. })).unwrap().clone();
    scene.act(&founder, revoke(&moderator, Standing::Out));
    let back = scene.act(&moderator, join_under(&moderator, &old));
    assert_eq!(scene.effective(&[&back]), [false]);
    let anew = scene.act(&founder, grant(&moderator, Role::Moderator));
    let back = scene.act(&moderator, join_under(&moderator, &anew));
    assert_eq!(scene.effective(&[&back]), [true]);
    assert_eq!(scene.role(&moderator), Role::Moderator);
}

#[test]
fn self_grant_and_over_rank_grant() {
    let mut scene = Scene::new();
    let (founder, moderator, member) = (scene.founder.clone(), scene.moderator.clone(), scene.member.clone());
    for (author, act) in [
        (&member, grant(&member, Role::Moderator)),
        (&member, revoke(&moderator, Standing::Out)),
        (&moderator, grant(&moderator, Role::Admin)),
        (&moderator, grant(&member, Role::Moderator)),
        (&moderator, revoke(&member, Standing::Demoted(Role::Moderator))),
        (&founder, grant(&member, Role::Founder)),
        (&founder, revoke(&member, Standing::Demoted(Role::Founder))),
    ] {
        let event = scene.draft(author, act);
        assert_eq!(scene.refused(&event).kind(), Kind::Denied);
    }
    // Nor does anybody open a lane under a grant to somebody else, or one that gives nothing.
    let others = scene.log.iter().rfind(|event| matches!(event.header.act, Act::GrantRole { .. })).unwrap();
    let stolen = scene.draft(&member.on("x"), join_under(&member.on("x"), &others.clone()));
    assert_eq!(scene.refused(&stolen).kind(), Kind::Invalid);
    let kick = scene.act(&moderator, revoke(&member, Standing::Out));
    let nothing = scene.draft(&member, join_under(&member, &kick));
    assert_eq!(scene.refused(&nothing).kind(), Kind::Invalid);
}

#[test]
fn a_moderator_does_not_remove_who_outranks_them() {
    let mut scene = Scene::new();
    let ([anna, _], founder, moderator) =
        (scene.admins.clone(), scene.founder.clone(), scene.moderator.clone());
    for subject in [&anna, &founder] {
        scene.act(&moderator, revoke(subject, Standing::Banned));
        assert!(scene.is_member(subject));
    }
    assert_eq!(scene.effective(&[]), Vec::<bool>::new());
}

#[test]
fn equivocation_and_framing() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    // Signing two things for one place voids both, and what the forker did to others with them.
    let kick = scene.draft(&moderator, revoke(&member, Standing::Banned));
    let grant = scene.draft(&moderator, grant(&Author::new("friend"), Role::Member));
    scene.late(&kick);
    assert!(!scene.is_member(&member));
    scene.late(&grant);
    assert_eq!(scene.effective(&[&kick, &grant]), [false, false]);
    assert!(scene.is_member(&member), "the ban fell with the fork");
    assert_eq!(scene.replica.equivocations().len(), 1);
    // Nobody else can make it look as if somebody had forked: it takes the lane's own key.
    let real = scene.say(&member, "mine");
    let mut forged = real.header.clone();
    forged.timestamp = Timestamp(forged.timestamp.0 + 1);
    let forged = moderator.sign(forged);
    assert!(Event::decode(&forged.encode()).unwrap().verify().is_err());
    assert_eq!(scene.replica.equivocations().len(), 1);
}

#[test]
fn replay_in_another_channel() {
    let mut scene = Scene::new();
    let words = scene.say(&scene.member.clone(), "here");
    let (mut elsewhere, _) = Replica::found(&Author::new("other").founding("#other"), 1).unwrap();
    assert!(matches!(elsewhere.admit(&words, 2), Admission::Waiting(_)), "its past is not here");
    let mut moved = words.header.clone();
    moved.channel = Some(elsewhere.id());
    let moved = codec::encode(&(moved, words.signature));
    assert!(Event::decode(&moved).unwrap().verify().is_err(), "the signature names the channel");
}

#[test]
fn clock_games_gain_nothing() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    let topic = scene.act(&moderator, Act::UpdateChannel(Change::Topic("earlier".into())));
    let mut header =
        scene.draft(&moderator, Act::UpdateChannel(Change::Topic("from the past".into()))).header;
    header.timestamp = Timestamp(topic.header.timestamp.0 - 1);
    let backwards = moderator.sign(header);
    assert_eq!(scene.refused(&backwards).reason(), "invalid_event");
    // A time far ahead wins nothing against a removal.
    let mut header = scene.draft_words(&member, "from the future").header;
    header.timestamp = Timestamp(u64::MAX / 2);
    let ahead = member.sign(header);
    scene.act(&moderator, revoke(&member, Standing::Out));
    scene.late(&ahead);
    assert_eq!(scene.effective(&[&ahead]), [false]);
}

#[test]
fn id_grinding_beats_equals_only() {
    let mut scene = Scene::new();
    let ([anna, _], moderator) = (scene.admins.clone(), scene.moderator.clone());
    let by_admin = scene.draft(&anna, Act::UpdateChannel(Change::Topic("admin's".into())));
    let ground = (0..)
        .map(|nonce| scene.draft(&moderator, Act::UpdateChannel(Change::Topic(format!("ground {nonce}")))))
        .find(|event| event.id() < by_admin.id());
    let ground = ground.unwrap();
    scene.late(&ground);
    scene.late(&by_admin);
    assert_eq!(scene.replica.state().topic(), "admin's", "rank comes before the id");
    assert_eq!(scene.effective(&[&ground, &by_admin]), [true, true]);
}

#[test]
fn a_censoring_cut_reaches_no_further_than_what_its_author_hid() {
    let mut scene = Scene::new();
    let (moderator, member) = (scene.moderator.clone(), scene.member.clone());
    // The moderator drafts a removal, feigning not to have seen what the member says next.
    let removal = scene.draft(&moderator, revoke(&member, Standing::Out));
    let words = scene.say(&member, "inconvenient");
    scene.late(&removal);
    assert_eq!(scene.effective(&[&words]), [false], "possible, and written down in docs/convergence.md");
    let founder = scene.founder.clone();
    let proof = scene.act(&founder, revoke(&moderator, Standing::Out));
    assert_eq!(scene.effective(&[&proof, &removal, &words]), [true, true, false]);
}

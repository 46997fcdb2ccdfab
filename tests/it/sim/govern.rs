//! A world in which people also grant, revoke, ban, set policy, edit, take back and let things expire,
//! while some peers strip texts off what they send. What is promised then, besides what always is.

use std::collections::{BTreeMap, BTreeSet};

use multichat::base::{Digest, EventId, Timestamp};
use multichat::chat::access::Role;
use multichat::chat::act::{Act, Standing};
use multichat::chat::channel::{Change, JoinRule, Quota, RoleRule, Rule};
use multichat::chat::intent::{Actor, ChannelRef, Intent, Subject};
use multichat::chat::message::{Content, Envelope, Relation};
use multichat::chat::permissions::{Permission, Permissions};
use multichat::chat::profile::Profile;
use multichat::chat::view::What;
use multichat::node::StoredEvent;
use multichat::replica::Event;

use super::world::{Faults, World};

/// Longer than a disk may hold what is over: a tick, and what a retention of seconds is swept within.
const SLACK_MS: u64 = 3_000;

fn channel() -> ChannelRef {
    ChannelRef::Name("#sim".into())
}

fn name(person: u64, at: usize) -> String {
    format!("user{person}at{at}")
}

fn person(account: String) -> Actor {
    let profile = Profile { username: account.clone(), ..Profile::default() };
    Actor::Person { account, profile }
}

impl World {
    /// One line of somebody, or something else that members do.
    fn govern(&mut self, at: usize) {
        self.said += 1;
        let who = person(name(self.random(3), at));
        match self.random(10) {
            0..=2 => {
                let by = if at == 0 && self.random(3) > 0 { Actor::Node } else { who };
                let intent = self.moderation();
                self.submit(at, by, intent);
            }
            3 => {
                let change = self.policy();
                let by = if at == 0 { Actor::Node } else { who };
                self.submit(at, by, Intent::UpdateChannel { channel: channel(), change });
            }
            4 => {
                let Some((target, author)) = self.some_message(at) else { return };
                let by = [Actor::Node, person(author), who][self.random(3) as usize].clone();
                let reason = String::new();
                self.submit(at, by, Intent::RedactMessage { channel: channel(), target, reason });
            }
            5 => {
                let Some((target, author)) = self.some_message(at) else { return };
                let relations = [Relation::Edit(target), Relation::Reaction(target), Relation::Reply(target)];
                let relation = Some(relations[self.random(3) as usize]);
                let content = Content::text(format!("on {} of seed {}", self.said, self.seed));
                let envelope = Envelope { relation, ..Envelope::default() };
                self.submit(at, person(author), say(Content { envelope, ..content }));
            }
            6 | 7 => {
                let lasts = 1_000 + self.random(60_000);
                let expires = Some(self.clock(at).plus_ms(lasts));
                let content = Content::text(format!("passing line {} of seed {}", self.said, self.seed));
                let envelope = Envelope { expires, ..Envelope::default() };
                self.submit(at, who, say(Content { envelope, ..content }));
            }
            _ => {
                let content = Content::text(format!("line {} of seed {}", self.said, self.seed));
                self.submit(at, who, say(content));
            }
        }
    }

    fn moderation(&mut self) -> Intent {
        let at = self.random(self.size() as u64) as usize;
        let subject = Subject::Name(name(self.random(3), at));
        let role = [Role::Admin, Role::Moderator, Role::Member, Role::Custom(500)][self.random(4) as usize];
        if self.random(2) == 0 {
            return Intent::GrantRole { channel: channel(), subject, role };
        }
        let standings = [Standing::Out, Standing::Banned, Standing::Free, Standing::Demoted(role)];
        let then = standings[self.random(4) as usize];
        Intent::RevokeRole { channel: channel(), subject, then, reason: "rules".into() }
    }

    fn policy(&mut self) -> Change {
        let mute = Rule { deny: Permissions::of(&[Permission::SendMessage]), ..Rule::default() };
        let rule = if self.random(2) == 0 { mute } else { Rule::default() };
        let retention = (self.random(2) == 0).then(|| 10_000 + self.random(30_000));
        match self.random(6) {
            0 if self.seed.is_multiple_of(2) => Change::Retention(retention),
            1 => Change::MaxTtl(self.seed.is_multiple_of(2).then_some(40_000)),
            2 => Change::SlowMode((self.random(2) == 0).then_some(Quota { events: 2, per_ms: 3_000 })),
            3 => Change::Join([JoinRule::Open, JoinRule::Invite][self.random(2) as usize]),
            4 => Change::Role { role: Role::Member, rule: RoleRule { name: String::new(), rule } },
            _ => Change::Topic(format!("topic {}", self.said)),
        }
    }

    /// A message that a node shows, and its author if it is one of the node's own.
    fn some_message(&mut self, at: usize) -> Option<(EventId, String)> {
        let now = self.clock(at);
        let log = &self.disks().nth(at)?.log;
        let news = log.values().filter_map(|stored| self.node(at)?.news_of(now, stored));
        let said: Vec<(EventId, String)> = news
            .filter(|news| matches!(news.what, What::Message(_)))
            .map(|news| (news.event, news.author.profile.username))
            .filter(|(_, author)| author.ends_with(&format!("at{at}")))
            .collect();
        let which = self.random(said.len().max(1) as u64) as usize;
        said.get(which).cloned()
    }

    /// Nobody is ever shown what has expired, and no disk keeps it for long.
    fn check_ends(&self) {
        for (at, disk) in self.disks().enumerate() {
            let now = self.clock(at);
            let late = Timestamp(now.0.saturating_sub(SLACK_MS));
            let Some(node) = self.node(at) else { continue };
            for stored in disk.log.values() {
                let Some(expires) = stored.keeping.expires else { continue };
                let shown = node.news_of(now, stored);
                let is_shown = shown.is_some_and(|news| matches!(news.what, What::Message(_)));
                assert!(expires > now || !is_shown, "seed {}: node {at} shows what has expired", self.seed);
                let is_sent = node.parcel_of(now, stored).is_some_and(|parcel| parcel.payload.is_some());
                assert!(expires > now || !is_sent, "seed {}: node {at} sends what has expired", self.seed);
                // A node that has just been started gets to it with its next tick.
                let has_run = self.up_for_ms(at) > SLACK_MS;
                let is_kept = has_run && stored.payload.is_some();
                assert!(expires > late || !is_kept, "seed {}: node {at} keeps what has expired", self.seed);
            }
        }
    }
}

fn say(content: Content) -> Intent {
    Intent::SendMessage { channel: channel(), content }
}

fn play(seed: u64) -> World {
    let faults = Faults { strip: 15, ..Faults::all() };
    let mut world = World::new(seed, 3, faults);
    for _ in 0..40 {
        let at = world.random(world.size() as u64) as usize;
        world.misfortune(at);
        world.govern(at);
        let pause = world.random(3_000);
        world.step_until(world.now().plus_ms(pause));
        world.check_ends();
    }
    world.heal_and_rest();
    world
}

/// What the events of a log say about each other.
struct Reading {
    /// Of each message that somebody tried to take back: which events do.
    redactions: BTreeMap<EventId, Vec<EventId>>,
    edits: BTreeMap<EventId, EventId>,
}

fn read(log: &[&StoredEvent]) -> Reading {
    let mut reading = Reading { redactions: BTreeMap::new(), edits: BTreeMap::new() };
    for stored in log {
        let event = Event::decode_trusted(&stored.signed).unwrap();
        match event.header.act {
            Act::RedactMessage { target, .. } => {
                reading.redactions.entry(target).or_default().push(stored.id)
            }
            Act::SendMessage(Envelope { relation: Some(Relation::Edit(target)), .. }) => {
                reading.edits.insert(stored.id, target);
            }
            _ => {}
        }
    }
    reading
}

fn check(world: &World) {
    let seed = world.seed;
    let roots: BTreeSet<Digest> = world.roots().into_iter().collect();
    assert_eq!(roots.len(), 1, "seed {seed}: nodes at rest hold different states");
    for (at, disk) in world.disks().enumerate() {
        let (now, node) = (world.clock(at), world.node(at).expect("up at rest"));
        let log: Vec<&StoredEvent> = disk.log.values().collect();
        let held: BTreeSet<EventId> = log.iter().map(|stored| stored.id).collect();
        for (promised, by) in &world.promised {
            assert!(held.contains(promised), "seed {seed}: node {at} lost what node {by} accepted");
        }
        let reading = read(&log);
        let counts = |id: &EventId| {
            let stored = log.iter().find(|stored| stored.id == *id).expect("held");
            node.news_of(now, stored).is_some_and(|news| !matches!(news.what, What::Withdrawn))
        };
        let mut lacking = 0;
        for stored in &log {
            let event = Event::decode_trusted(&stored.signed).unwrap();
            if !matches!(event.header.act, Act::SendMessage(_)) {
                continue;
            }
            let of = [Some(&stored.id), reading.edits.get(&stored.id)];
            let redactions: Vec<&EventId> =
                of.into_iter().flatten().filter_map(|id| reading.redactions.get(id)).flatten().collect();
            let is_redacted = redactions.iter().any(|redaction| counts(redaction));
            let has_text = stored.payload.is_some();
            assert!(!(is_redacted && has_text), "seed {seed}: node {at} keeps what was taken back");
            // Nothing live is lost: a text is gone only where somebody or something ended it.
            let expired = stored.keeping.expires.is_some_and(|expires| expires <= now);
            let ended = expired || !redactions.is_empty() || seed.is_multiple_of(2);
            assert!(has_text || ended, "seed {seed}: node {at} lost a text that nobody ended");
            lacking += usize::from(stored.keeping.wanted && redactions.is_empty());
        }
        assert!(
            lacking == 0 || seed.is_multiple_of(2),
            "seed {seed}: node {at} still asks for {lacking} texts"
        );
        // What its listener has on the screen is from people who were in, as all now know.
        for shown in world.on_screen(at) {
            let stored = log.iter().find(|stored| stored.id == shown).expect("shown, so held");
            let news = node.news_of(now, stored);
            let is_void = news.is_some_and(|news| matches!(news.what, What::Withdrawn));
            assert!(!is_void, "seed {seed}: node {at} shows a void message and never withdrew it");
        }
    }
}

fn seeds() -> u64 {
    let asked = std::env::var("MULTICHAT_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(150)
}

#[test]
fn those_who_govern_agree_and_what_ends_is_gone() {
    std::thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || {
                for seed in (0..seeds()).filter(|seed| seed % 2 == worker) {
                    check(&play(seed));
                }
            });
        }
    });
}

#[test]
fn governing_happens_at_all() {
    let mut kinds: BTreeSet<&str> = BTreeSet::new();
    let (mut stripped, mut erased) = (0, 0);
    for seed in 0..20 {
        let world = play(seed);
        stripped += world.stripped;
        let (now, node) = (world.clock(0), world.node(0).unwrap());
        for stored in world.disks().next().unwrap().log.values() {
            let event = Event::decode_trusted(&stored.signed).unwrap();
            let counts = node.news_of(now, stored).is_some();
            erased +=
                usize::from(matches!(event.header.act, Act::SendMessage(_)) && stored.payload.is_none());
            kinds.insert(match event.header.act {
                Act::GrantRole { .. } if counts => "grant",
                Act::RevokeRole { then: Standing::Banned, .. } if counts => "ban",
                Act::RevokeRole { .. } if counts => "revoke",
                Act::UpdateChannel(change) if change.is_policy() => "policy",
                Act::RedactMessage { .. } if counts => "redact",
                Act::SendMessage(Envelope { relation: Some(Relation::Edit(_)), .. }) => "edit",
                Act::SendMessage(Envelope { expires: Some(_), .. }) => "expire",
                _ => continue,
            });
        }
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(stripped > 0 && erased > 0, "{stripped} {erased}");
}

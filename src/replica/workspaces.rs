//! Workspaces and their channels: each test plays a history over several channels and asks, on
//! replicas that took it in in other orders too, what counts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::attacks::{grant, join_under, revoke};
use super::sample::Author;
use super::valid::Trust;
use super::{Admission, Backing, Event, Invalid, PayloadRef, Replica, Unfounded};
use crate::base::{ChannelId, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::{Act, Ancestry, Anchor, Joining, Standing, Under};
use crate::chat::channel::{Change, JoinRule, RoleRule, Rule};
use crate::chat::message::{Content, Envelope};
use crate::chat::permissions::{Permission, Permissions};

/// What became of an event that was offered.
#[derive(PartialEq, Eq, Debug)]
enum Offered {
    In,
    Waits,
    Refused(Invalid),
}

/// Several channels as one node holds them.
#[derive(Default)]
struct World {
    channels: BTreeMap<ChannelId, Replica>,
    log: Vec<Event>,
    now: u64,
}

impl World {
    fn offer(&mut self, event: &Event) -> Offered {
        self.offer_with(event, Trust::Nobody)
    }

    /// What another world took in is offered without running its logics again.
    fn offer_with(&mut self, event: &Event, trust: Trust) -> Offered {
        let id = event.channel();
        let above = event.header.act.anchor().map(|anchor| anchor.workspace);
        let position = self.log.len() as u64 + 1;
        let mut replica = match self.channels.remove(&id) {
            Some(replica) => replica,
            None => {
                let above = above.and_then(|id| self.channels.get(&id));
                return match Replica::found_with(event, position, Backing { trust, above }) {
                    Ok((replica, _)) => {
                        self.channels.insert(id, replica);
                        self.log.push(event.clone());
                        Offered::In
                    }
                    Err(Unfounded::Waiting(_)) => Offered::Waits,
                    // What comes before the founding waits for it.
                    Err(_) if event.header.channel.is_some() => Offered::Waits,
                    Err(Unfounded::Refused(invalid)) => Offered::Refused(invalid),
                };
            }
        };
        let above = above.and_then(|id| self.channels.get(&id));
        let admission = replica.admit_with(event, position, Backing { trust, above });
        self.channels.insert(id, replica);
        match admission {
            Admission::Accepted(effect) => {
                self.log.push(event.clone());
                if effect.rules {
                    self.refresh(&id);
                }
                Offered::In
            }
            Admission::Known => Offered::In,
            Admission::Waiting(_) => Offered::Waits,
            Admission::Refused(invalid) => Offered::Refused(invalid),
        }
    }

    fn refresh(&mut self, workspace: &ChannelId) {
        let Some(above) = self.channels.remove(workspace) else { return };
        for replica in self.channels.values_mut() {
            if replica.workspaces().any(|id| id == *workspace) {
                replica.refresh(&above);
            }
        }
        self.channels.insert(*workspace, above);
    }

    /// Offers events in an order, again and again, until all are in that can be.
    fn offer_all<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> usize {
        let mut open: Vec<&Event> = events.into_iter().collect();
        loop {
            let before = open.len();
            open.retain(|event| match self.offer_with(event, Trust::OwnLog) {
                Offered::Waits => true,
                Offered::Refused(invalid) => panic!("{invalid}"),
                Offered::In => false,
            });
            if open.len() == before {
                return open.len();
            }
        }
    }

    fn draft(&self, author: &Author, channel: &ChannelId, act: Act) -> Event {
        author.sign(author.draft(&self.channels[channel], self.now + 1, act))
    }

    fn take(&mut self, event: &Event) {
        assert_eq!(self.offer(event), Offered::In);
    }

    fn act(&mut self, author: &Author, channel: &ChannelId, act: Act) -> Event {
        self.now += 10;
        let event = self.draft(author, channel, act);
        self.take(&event);
        event
    }

    fn words(&self, author: &Author, channel: &ChannelId, text: &str) -> Event {
        let mut header = self.draft(author, channel, Act::SendMessage(Default::default())).header;
        header.payload = Some(PayloadRef::of(&Content::text(text).payload()));
        author.sign(header)
    }

    fn say(&mut self, author: &Author, channel: &ChannelId, text: &str) -> Event {
        self.now += 10;
        let event = self.words(author, channel, text);
        self.take(&event);
        event
    }

    /// How a lane in `channel` opens under the author's newest lane in `workspace`.
    fn under(&self, author: &Author, channel: &ChannelId, workspace: &ChannelId) -> Option<Joining> {
        let above = &self.channels[workspace];
        let device = author.device.public();
        let newest = || above.authorities.lanes.get(above.devices.get(&device)?.last()?);
        let lane = above.live_lane(&device).or_else(newest)?.opening;
        let seen = self.channels.get(channel).and_then(|replica| replica.unseen(above, None));
        let seen = seen.unwrap_or(Anchor { workspace: *workspace, heads: Vec::new() });
        Some(Joining { under: Some(Under { lane, seen }), ..author.joining() })
    }

    fn enter(&mut self, author: &Author, channel: &ChannelId, workspace: &ChannelId) -> Event {
        let joining = self.under(author, channel, workspace).unwrap();
        self.act(author, channel, Act::JoinChannel(joining))
    }

    /// The anchor that somebody would write.
    fn anchor(&mut self, author: &Author, channel: &ChannelId, workspace: &ChannelId) -> Event {
        let replica = &self.channels[channel];
        let lane = replica.live_lane(&author.device.public());
        let anchor = replica.unseen(&self.channels[workspace], lane).expect("something new to have seen");
        self.act(author, channel, Act::Anchor(anchor))
    }

    fn founding(&self, founder: &Author, name: &str, workspace: Option<&ChannelId>) -> Event {
        let ancestry =
            Ancestry { workspace: workspace.copied(), is_workspace: workspace.is_none(), predecessor: None };
        let mut header = founder.founding(name).header;
        let nowhere = ChannelId([0; 32]);
        let joining = workspace.and_then(|workspace| self.under(founder, &nowhere, workspace));
        header.act = Act::CreateChannel {
            name: name.parse().unwrap(),
            topic: String::new(),
            founder: joining.unwrap_or(founder.joining()),
            ancestry,
        };
        founder.sign(header)
    }

    fn found(&mut self, founder: &Author, name: &str, workspace: Option<&ChannelId>) -> ChannelId {
        let event = self.founding(founder, name, workspace);
        let channel = event.channel();
        if let Some(workspace) = workspace {
            self.act(founder, workspace, Act::AddChannel { channel });
        }
        self.take(&event);
        channel
    }

    fn role(&self, author: &Author, channel: &ChannelId) -> Option<Role> {
        let state = self.channels[channel].state();
        let identity = author.identity.public();
        state.is_member(&identity).then(|| state.person(&identity)).flatten().map(|member| member.role)
    }

    fn counts(&self, event: &Event) -> bool {
        self.channels[&event.channel()].is_effective(&event.id())
    }

    /// Whether each is effective, the same in worlds that took everything in in other orders.
    fn effective(&self, events: &[&Event]) -> Vec<bool> {
        for stride in [1, 3, 7, 11, 100] {
            let mut order: Vec<usize> = (0..self.log.len()).collect();
            order.sort_by_key(|at| (at + 1) * stride % 101);
            self.agrees_with(order.iter().map(|at| &self.log[*at]));
        }
        events.iter().map(|event| self.counts(event)).collect()
    }

    fn agrees_with<'a>(&self, order: impl Iterator<Item = &'a Event>) {
        let mut other = Self::default();
        assert_eq!(other.offer_all(order), 0);
        for (id, replica) in &self.channels {
            assert_eq!(other.channels[id].root(), replica.root());
        }
        for event in &self.log {
            assert_eq!(other.counts(event), self.counts(event), "{:?}", event.header.act);
        }
    }
}

/// A workspace with a founder, an admin, a moderator and two members, and a channel of it that the
/// admin founded and all but the founder entered.
struct Scene {
    world: World,
    workspace: ChannelId,
    channel: ChannelId,
    founder: Author,
    admin: Author,
    moderator: Author,
    alice: Author,
    bob: Author,
}

impl Scene {
    fn new() -> Self {
        let [founder, admin, moderator, alice, bob] =
            ["founder", "admin", "moderator", "alice", "bob"].map(Author::new);
        let mut world = World { now: 2_000, ..World::default() };
        let workspace = world.found(&founder, "#team", None);
        for (author, role) in [(&admin, Role::Admin), (&moderator, Role::Moderator)] {
            let granted = world.act(&founder, &workspace, grant(author, role));
            world.act(author, &workspace, join_under(author, &granted));
        }
        for author in [&alice, &bob] {
            world.act(author, &workspace, author.join());
        }
        let channel = world.found(&admin, "#garden", Some(&workspace));
        for author in [&moderator, &alice, &bob] {
            world.enter(author, &channel, &workspace);
        }
        Self { world, workspace, channel, founder, admin, moderator, alice, bob }
    }
}

fn set(change: Change) -> Act {
    Act::UpdateChannel(change)
}

fn of_members(allow: &[Permission], deny: &[Permission]) -> Act {
    let rule = Rule { allow: Permissions::of(allow), deny: Permissions::of(deny) };
    set(Change::Role { role: Role::Member, rule: RoleRule { name: String::new(), rule } })
}

#[test]
fn members_and_roles_are_those_of_the_workspace() {
    let Scene { mut world, workspace, channel, founder, admin, moderator, alice, .. } = Scene::new();
    let roles = [&admin, &moderator, &alice, &founder].map(|author| world.role(author, &channel));
    assert_eq!(roles, [Some(Role::Admin), Some(Role::Moderator), Some(Role::Member), None]);
    world.enter(&founder, &channel, &workspace);
    assert_eq!(world.role(&founder, &channel), Some(Role::Founder));
    let kick = world.act(&admin, &channel, revoke(&moderator, Standing::Out));
    let topic = world.act(&founder, &channel, set(Change::Topic("roses".into())));
    assert_eq!(world.effective(&[&kick, &topic]), [true, true]);
    assert_eq!(world.role(&moderator, &channel), None, "outranked here as there");

    // Who is not in the workspace is in none of its channels, nor by another's lane.
    let stranger = Author::new("stranger");
    let outside = world.draft(&stranger, &channel, stranger.join());
    assert!(matches!(world.offer(&outside), Offered::Refused(Invalid::Rule(_))));
    let mut stolen = stranger.joining();
    stolen.under = world.under(&alice, &channel, &workspace).unwrap().under;
    let stolen = world.draft(&stranger, &channel, Act::JoinChannel(stolen));
    assert!(matches!(world.offer(&stolen), Offered::Refused(Invalid::Rule(_))));
    // Who knocked at the workspace is not in it either.
    world.act(&stranger, &workspace, Act::Knock { asking: stranger.joining(), reason: String::new() });
    let knocker = world.under(&stranger, &channel, &workspace).unwrap();
    let knocker = world.draft(&stranger, &channel, Act::JoinChannel(knocker));
    assert!(matches!(world.offer(&knocker), Offered::Refused(Invalid::Rule(_))));
}

#[test]
fn a_channel_is_the_workspaces_only_if_somebody_took_it_in_who_may() {
    let Scene { mut world, workspace, alice, bob, admin, .. } = Scene::new();
    let founding = world.founding(&alice, "#alices", Some(&workspace));
    let channel = founding.channel();
    world.take(&founding);
    let claim = world.act(&alice, &workspace, Act::AddChannel { channel });
    let entry = world.enter(&bob, &channel, &workspace);
    let words = world.say(&bob, &channel, "is this a channel?");
    assert_eq!(world.effective(&[&claim, &founding, &entry, &words]), [false; 4]);
    assert_eq!(world.role(&alice, &channel), None);
    world.act(&admin, &workspace, Act::AddChannel { channel });
    assert_eq!(world.effective(&[&founding, &entry, &words]), [true; 3]);
    assert_eq!(world.role(&alice, &channel), Some(Role::Moderator), "the founder of a channel moderates it");
    // The workspace may let members found channels.
    world.act(&admin, &workspace, of_members(&[Permission::CreateChannel], &[]));
    let channel = world.found(&bob, "#bobs", Some(&workspace));
    assert_eq!(world.role(&bob, &channel), Some(Role::Moderator));
    // No workspace within another, and nothing is taken in but by a workspace.
    let mut nested = world.founding(&alice, "#nested", Some(&workspace)).header;
    if let Act::CreateChannel { ancestry, .. } = &mut nested.act {
        ancestry.is_workspace = true;
    }
    assert!(nested.check().is_err());
    let odd = world.draft(&bob, &channel, Act::AddChannel { channel });
    assert!(matches!(world.offer(&odd), Offered::Refused(Invalid::Rule(_))));
}

#[test]
fn a_channel_founded_after_its_founders_removal_is_none_of_the_workspace() {
    let Scene { mut world, workspace, admin, moderator, .. } = Scene::new();
    let founding = world.founding(&moderator, "#late", Some(&workspace));
    let unseen = world.draft(&moderator, &workspace, Act::AddChannel { channel: founding.channel() });
    world.act(&admin, &workspace, revoke(&moderator, Standing::Out));
    world.take(&unseen);
    world.take(&founding);
    assert_eq!(world.effective(&[&unseen, &founding]), [false, false]);
}

#[test]
fn a_removal_from_the_workspace_reaches_its_channels_by_an_anchor() {
    let Scene { mut world, workspace, channel, moderator, alice, bob, .. } = Scene::new();
    let before = world.say(&alice, &channel, "before");
    let unseen = world.words(&alice, &channel, "at the same time");
    let laptop = alice.on("laptop");
    world.act(&laptop, &workspace, laptop.join());
    let secret = world.under(&laptop, &channel, &workspace).unwrap();
    let secret = world.draft(&laptop, &channel, Act::JoinChannel(secret));
    world.act(&moderator, &workspace, revoke(&alice, Standing::Out));
    assert_eq!(world.role(&alice, &channel), None, "gone at once, as far as people see");
    // An ordinary member has seen it too, and that cuts nobody.
    world.anchor(&bob, &channel, &workspace);
    world.take(&unseen);
    assert_eq!(world.effective(&[&before, &unseen]), [true, true]);
    let replica = &world.channels[&channel];
    let lane = replica.live_lane(&moderator.device.public());
    assert_eq!(replica.unseen(&world.channels[&workspace], lane), None, "bob's anchor is in the past");
    let seen = Anchor { workspace, heads: world.channels[&workspace].heads.keys().copied().collect() };
    let cut = world.act(&moderator, &channel, Act::Anchor(seen));
    let late = world.words(&alice, &channel, "I did not know");
    world.take(&late);
    world.take(&secret);
    assert_eq!(
        world.effective(&[&before, &unseen, &cut, &late, &secret]),
        [true, true, true, false, false],
        "what the moderator had seen stays"
    );
    // Kicked is not banned: who joins the workspace anew enters its channels anew.
    world.act(&alice, &workspace, alice.join());
    world.enter(&alice, &channel, &workspace);
    let again = world.say(&alice, &channel, "hello again");
    assert_eq!(world.effective(&[&again]), [true]);
    assert_eq!(world.role(&alice, &channel), Some(Role::Member));
}

#[test]
fn who_knows_of_their_removal_speaks_in_vain_even_before_any_anchor_of_those_above() {
    let Scene { mut world, workspace, channel, admin, moderator, alice, bob, .. } = Scene::new();
    let old = world.under(&alice, &channel, &workspace).unwrap();
    let ban = world.draft(&admin, &workspace, revoke(&moderator, Standing::Out));
    world.act(&moderator, &workspace, revoke(&alice, Standing::Banned));
    world.anchor(&bob, &channel, &workspace);
    let words = world.say(&alice, &channel, "I know, and still");
    // Nor does an old lane of the workspace carry a new one here.
    let back = world.act(&alice, &channel, Act::JoinChannel(old));
    assert_eq!(world.effective(&[&words, &back]), [false, false]);
    // The one who banned falls, who had done so unseen: alice never was removed.
    world.take(&ban);
    assert_eq!(world.effective(&[&words, &back]), [true, true]);
    assert_eq!(world.role(&alice, &channel), Some(Role::Member));
}

#[test]
fn a_setting_made_in_spite_of_a_removal_counts_once_that_is_void() {
    let Scene { mut world, workspace, channel, founder, admin, moderator, bob, .. } = Scene::new();
    let fall = world.draft(&founder, &workspace, revoke(&admin, Standing::Out));
    world.act(&admin, &workspace, revoke(&moderator, Standing::Demoted(Role::Member)));
    world.anchor(&bob, &channel, &workspace);
    let setting = world.act(&moderator, &channel, set(Change::Join(JoinRule::Invite)));
    assert_eq!(world.effective(&[&setting]), [false]);
    world.take(&fall);
    assert_eq!(world.effective(&[&setting]), [true]);
}

#[test]
fn a_demotion_in_the_workspace_is_one_in_its_channels() {
    let Scene { mut world, workspace, channel, admin, moderator, bob, .. } = Scene::new();
    let demotion = world.act(&admin, &workspace, revoke(&moderator, Standing::Demoted(Role::Member)));
    world.anchor(&admin, &channel, &workspace);
    world.act(&moderator, &workspace, join_under(&moderator, &demotion));
    world.enter(&moderator, &channel, &workspace);
    assert_eq!(world.role(&moderator, &channel), Some(Role::Member));
    let kick = world.draft(&moderator, &channel, revoke(&bob, Standing::Out));
    assert!(matches!(world.offer(&kick), Offered::Refused(_)));
    world.effective(&[]);
    // And a demotion in the channel outlasts joining again with the workspace's role.
    let Scene { mut world, workspace, channel, admin, moderator, .. } = Scene::new();
    let demotion = world.act(&admin, &channel, revoke(&moderator, Standing::Demoted(Role::Member)));
    let back = world.enter(&moderator, &channel, &workspace);
    assert_eq!(world.effective(&[&back]), [false]);
    let joining =
        Joining { grant: Some(demotion.id()), ..world.under(&moderator, &channel, &workspace).unwrap() };
    let back = world.act(&moderator, &channel, Act::JoinChannel(joining));
    assert_eq!(world.effective(&[&back]), [true]);
    assert_eq!(world.role(&moderator, &channel), Some(Role::Member));
}

#[test]
fn a_policy_of_the_workspace_binds_only_what_comes_after_it() {
    let Scene { mut world, workspace, channel, admin, moderator, alice, .. } = Scene::new();
    world.act(&admin, &workspace, of_members(&[], &[Permission::SendMessage]));
    let unaware = world.say(&alice, &channel, "nobody told me");
    world.anchor(&alice, &channel, &workspace);
    let aware = world.say(&alice, &channel, "somebody told me");
    let above = world.say(&moderator, &channel, "I moderate");
    assert_eq!(world.effective(&[&unaware, &aware, &above]), [true, false, true]);
    let lane = world.channels[&channel].live_lane(&alice.device.public()).unwrap();
    let act = Act::SendMessage(Envelope::default());
    assert!(world.channels[&channel].forbids(lane, &act, Timestamp(world.now)).is_some());
    // The channel has the last word on roles, the narrower one on the rest.
    world.act(&moderator, &channel, of_members(&[Permission::SendMessage], &[]));
    let free = world.say(&alice, &channel, "free here");
    world.act(&admin, &workspace, set(Change::MaxTtl(Some(1_000))));
    world.act(&moderator, &channel, set(Change::MaxTtl(Some(5_000))));
    world.anchor(&moderator, &channel, &workspace);
    let lasting = |world: &World, ms: u64| {
        let mut header = world.words(&alice, &channel, "lasting").header;
        let expires = Some(header.timestamp.plus_ms(ms));
        header.act = Act::SendMessage(Envelope { expires, ..Envelope::default() });
        alice.sign(header)
    };
    let long = lasting(&world, 2_000);
    world.take(&long);
    let short = lasting(&world, 900);
    world.take(&short);
    assert_eq!(world.effective(&[&free, &long, &short]), [true, false, true]);
    assert_eq!(world.channels[&channel].policy().max_ttl, Some(1_000));
    // Closing the workspace closes its channels.
    world.act(&admin, &workspace, set(Change::Closed(true)));
    world.anchor(&admin, &channel, &workspace);
    let closed = world.say(&alice, &channel, "anybody here?");
    assert_eq!(world.effective(&[&closed]), [false]);
}

#[test]
fn a_channel_narrows_who_may_come_and_what_they_may_do() {
    let Scene { mut world, workspace, channel, moderator, alice, founder, .. } = Scene::new();
    world.act(&moderator, &channel, set(Change::Join(JoinRule::Invite)));
    let carol = Author::new("carol");
    world.act(&carol, &workspace, carol.join());
    let entry = world.enter(&carol, &channel, &workspace);
    let above = world.enter(&founder, &channel, &workspace);
    assert_eq!(world.effective(&[&entry, &above]), [false, true], "those above are not kept out");
    let granted = world.act(&moderator, &channel, grant(&carol, Role::Custom(500)));
    let joining = Joining { grant: Some(granted.id()), ..world.under(&carol, &channel, &workspace).unwrap() };
    let entry = world.act(&carol, &channel, Act::JoinChannel(joining));
    assert_eq!(world.effective(&[&entry]), [true]);
    assert_eq!(world.role(&carol, &channel), Some(Role::Custom(500)));
    world.act(&moderator, &channel, of_members(&[], &[Permission::SendMessage]));
    let words = world.say(&alice, &channel, "only readers here");
    let elsewhere = world.say(&alice, &workspace, "but not there");
    assert_eq!(world.effective(&[&words, &elsewhere]), [false, true]);
}

#[test]
fn a_channel_is_shared_with_another_workspace_whose_policy_comes_on_top() {
    let Scene { mut world, channel, moderator, admin, workspace, .. } = Scene::new();
    let (host, guest) = (Author::new("host"), Author::new("guest"));
    let theirs = world.found(&host, "#friends", None);
    world.act(&guest, &theirs, guest.join());
    let uninvited = world.under(&guest, &channel, &theirs).unwrap();
    let early = world.draft(&guest, &channel, Act::JoinChannel(uninvited));
    assert!(matches!(world.offer(&early), Offered::Refused(Invalid::Rule(_))));
    world.act(&moderator, &channel, set(Change::Shared { workspace: theirs, is_shared: true }));
    let entry = world.enter(&guest, &channel, &theirs);
    assert_eq!(world.effective(&[&entry]), [false], "the other workspace has not taken it in yet");
    world.act(&host, &theirs, Act::AddChannel { channel });
    let words = world.say(&guest, &channel, "hello from next door");
    let high = world.enter(&host, &channel, &theirs);
    assert_eq!(world.effective(&[&entry, &words, &high]), [true; 3]);
    assert_eq!(world.role(&host, &channel), Some(Role::Member), "a founder at home, a guest here");
    // Their policy takes from their own members only.
    world.act(&host, &theirs, of_members(&[], &[Permission::SendMessage]));
    world.anchor(&guest, &channel, &theirs);
    let muted = world.say(&guest, &channel, "may I?");
    let ours = world.say(&admin, &channel, "we may");
    assert_eq!(world.effective(&[&muted, &ours]), [false, true]);
    // The policy of the channel's own workspace binds guests as it binds members.
    world.act(&host, &theirs, of_members(&[], &[]));
    world.anchor(&guest, &channel, &theirs);
    let again = world.say(&guest, &channel, "now?");
    world.act(&admin, &workspace, of_members(&[], &[Permission::SendMessage]));
    world.anchor(&admin, &channel, &workspace);
    let bound = world.say(&guest, &channel, "and now?");
    assert_eq!(world.effective(&[&again, &bound]), [true, false]);
    // Whom their workspace removes, a moderator's anchor here removes.
    world.act(&host, &theirs, revoke(&guest, Standing::Banned));
    world.anchor(&moderator, &channel, &theirs);
    assert_eq!(world.role(&guest, &channel), None);
    let late = world.words(&guest, &channel, "unaware");
    world.take(&late);
    assert_eq!(world.effective(&[&late]), [false]);
}

/// What one author of a random history does at one step.
#[derive(Clone, Debug)]
struct Step {
    author: usize,
    does: u8,
    on: usize,
    looks: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..5, 0u8..20, 0usize..5, any::<bool>());
    let step = step.prop_map(|(author, does, on, looks)| Step { author, does, on, looks });
    prop::collection::vec(step, 1..30)
}

/// Each author has a world of their own and does at each step what they can there. What their own world
/// refuses is not part of the history.
fn play(steps: &[Step]) -> Vec<Event> {
    let scene = Scene::new();
    let authors = [scene.founder, scene.admin, scene.moderator, scene.alice, scene.bob];
    let (workspace, channel) = (scene.workspace, scene.channel);
    let mut history = scene.world.log.clone();
    let mut worlds: Vec<World> = (0..authors.len())
        .map(|_| {
            let mut world = World { now: scene.world.now, ..World::default() };
            world.offer_all(&history);
            world
        })
        .collect();
    for (number, step) in steps.iter().enumerate() {
        let (world, author, other) = (&mut worlds[step.author], &authors[step.author], &authors[step.on]);
        world.now += 10;
        if step.looks {
            world.offer_all(&history);
        }
        let here = if step.does % 2 == 0 { workspace } else { channel };
        let Some(act) = chosen(world, (author, other), (&workspace, &here), step, number) else { continue };
        let event = match act {
            Act::SendMessage(_) => world.words(author, &here, &number.to_string()),
            act => world.draft(author, &here, act),
        };
        if event.header.check().is_ok() && world.offer(&event) == Offered::In {
            history.push(event);
        }
    }
    history
}

fn chosen(
    world: &World,
    (author, other): (&Author, &Author),
    (workspace, here): (&ChannelId, &ChannelId),
    step: &Step,
    number: usize,
) -> Option<Act> {
    let replica = &world.channels[here];
    let joining =
        if here == workspace { Some(author.joining()) } else { world.under(author, here, workspace) };
    let live = replica.live_lane(&author.device.public());
    if live.is_none() && (step.does > 9 || !replica.devices.contains_key(&author.device.public())) {
        let grant = replica.best_grant(&author.identity.public()).map(|(grant, _)| grant);
        return Some(Act::JoinChannel(Joining { grant, ..joining? }));
    }
    let revoked = |then| Some(revoke(other, then));
    match step.does / 2 {
        0 => revoked(Standing::Out),
        1 => revoked(if number.is_multiple_of(2) { Standing::Banned } else { Standing::Free }),
        2 => revoked(Standing::Demoted(Role::Custom(1200))),
        3 => Some(grant(other, [Role::Member, Role::Moderator, Role::Custom(800)][number % 3])),
        4 => Some(of_members(&[Permission::SetTopic], &[Permission::SendMessage][..number % 2])),
        5 => Some(set([Change::Join(JoinRule::Invite), Change::Closed(number.is_multiple_of(3))]
            [number % 2]
            .clone())),
        6 | 7 if here != workspace => Some(Act::Anchor(replica.unseen(&world.channels[workspace], live)?)),
        6 => Some(Act::LeaveChannel { reason: String::new() }),
        _ => Some(Act::SendMessage(Envelope::default())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_order_of_delivery_over_workspace_and_channel_gives_one_root(
        (history, shuffled) in steps().prop_flat_map(|steps| {
            let history = play(&steps);
            let shuffled = Just(history.clone()).prop_shuffle();
            (Just(history), shuffled)
        }),
    ) {
        let mut straight = World::default();
        prop_assert_eq!(straight.offer_all(&history), 0);
        straight.agrees_with(shuffled.iter());
        let workspace = history[0].channel();
        // The whole channel before its workspace, and the other way round.
        let (above, below): (Vec<&Event>, Vec<&Event>) =
            history.iter().partition(|event| event.channel() == workspace);
        straight.agrees_with(below.iter().chain(&above).copied());
        straight.agrees_with(above.iter().chain(&below).copied());
    }
}

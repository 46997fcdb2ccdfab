//! Workspaces on two nodes.

use super::*;
use crate::base::Identity;
use crate::chat::access::Role;
use crate::chat::channel::{Change, JoinRule, RoleRule, Rule};
use crate::chat::permissions::{Permission, Permissions};

/// A node with a workspace and a channel of it, and one that heard of them.
fn scene() -> (Site, Site) {
    let (mut one, mut other) = (Site::new("a"), Site::new("b"));
    one.create("#team/");
    one.create("#team/garden");
    meet(&mut one, &mut other);
    (one, other)
}

fn say(site: &mut Site, account: &str, channel: &str, text: &str) -> Result<EventId, Refusal> {
    let intent = Intent::SendMessage { channel: named(channel), content: Content::text(text) };
    site.submit(account, intent).map(|receipt| receipt.event.unwrap())
}

fn change(site: &mut Site, account: &str, channel: &str, change: Change) -> Result<Receipt, Refusal> {
    site.submit(account, Intent::UpdateChannel { channel: named(channel), change })
}

fn kick(site: &mut Site, account: &str, channel: &str, of: Identity) -> Result<Receipt, Refusal> {
    let (subject, reason) = (Subject::Identity(of), String::new());
    site.submit(account, Intent::RevokeRole { channel: named(channel), subject, then: Standing::Out, reason })
}

fn replica<'a>(site: &'a Site, channel: &str) -> &'a crate::replica::Replica {
    let id = site.node.directory.find(&named(channel)).expect("the channel is known");
    &site.node.directory.get(&id).unwrap().replica
}

fn identity(site: &Site, account: &str) -> Identity {
    site.node.people.remembered(account).identity
}

fn is_member(site: &Site, channel: &str, person: &Identity) -> bool {
    replica(site, channel).state().is_member(person)
}

/// Both nodes agree, and each comes back as it was.
fn agree(one: &mut Site, other: &mut Site) {
    meet(one, other);
    meet(other, one);
    let root = one.node.state_root();
    assert_eq!(root, other.node.state_root());
    for site in [one, other] {
        site.restart();
        assert_eq!(site.node.state_root(), root);
        assert_eq!(site.node.pending_events(), 0);
    }
}

#[test]
fn a_channel_of_a_workspace_has_its_address_and_its_members() {
    let (mut one, mut other) = scene();
    assert!(other.node.directory.find(&named("#garden")).is_none());
    let words = say(&mut other, "carol", "#team/garden", "hello").unwrap();
    let carol = identity(&other, "carol");
    agree(&mut one, &mut other);
    for site in [&one, &other] {
        assert!(is_member(site, "#team", &carol) && is_member(site, "#team/garden", &carol));
        assert!(replica(site, "#team/garden").is_effective(&words));
        let founder = replica(site, "#team/garden").state().person(&identity(&one, "founder")).unwrap();
        assert_eq!(founder.role, Role::Founder, "as in the workspace");
    }
    // A member founds no channels here, until the workspace lets them.
    let found = |name: &str| Intent::CreateChannel { name: name.parse().unwrap(), topic: String::new() };
    let refused = other.submit("carol", found("#team/kitchen"));
    assert_eq!(refused, Err(Refusal::NotPermitted("create_channel")));
    let rule = Rule { allow: Permissions::of(&[Permission::CreateChannel]), deny: Permissions::NONE };
    let rule = Change::Role { role: Role::Member, rule: RoleRule { name: String::new(), rule } };
    change(&mut one, "founder", "#team", rule).unwrap();
    meet(&mut one, &mut other);
    other.submit("carol", found("#team/kitchen")).unwrap();
    agree(&mut one, &mut other);
    let shown = replica(&one, "#team/kitchen").state().person(&carol).unwrap();
    assert_eq!(shown.role, Role::Moderator);
    // Names that only look like addresses are names.
    one.create("#c/c++");
    assert!(replica(&one, "#c/c++").state().ancestry().workspace.is_none());
    assert_eq!(one.submit("x", found("#team/")), Err(Refusal::ChannelExists("#team".into())));
}

#[test]
fn a_kick_from_the_workspace_is_one_from_its_channels_on_every_node() {
    let (mut one, mut other) = scene();
    let before = say(&mut other, "carol", "#team/garden", "before").unwrap();
    agree(&mut one, &mut other);
    let carol = identity(&other, "carol");
    let unaware = say(&mut other, "carol", "#team/garden", "I do not know yet").unwrap();
    kick(&mut one, "founder", "#team", carol).unwrap();
    assert!(!is_member(&one, "#team/garden", &carol));
    agree(&mut one, &mut other);
    for site in [&one, &other] {
        let garden = replica(site, "#team/garden");
        assert!(!garden.state().is_member(&carol));
        assert_eq!([&before, &unaware].map(|event| garden.is_effective(event)), [true, false]);
    }
    assert_eq!(say(&mut other, "carol", "#team/garden", "and now?"), Err(Refusal::NotAMember));
    // Kicked is not banned: who asks to come in comes in.
    let join = |channel: &str| Intent::JoinChannel { channel: named(channel), create: false };
    other.submit("carol", join("#team/garden")).unwrap();
    let after = say(&mut other, "carol", "#team/garden", "back").unwrap();
    agree(&mut one, &mut other);
    assert!(replica(&one, "#team/garden").is_effective(&after) && is_member(&one, "#team", &carol));
    // Who leaves the workspace leaves its channels.
    let reason = String::new();
    other.submit("carol", Intent::LeaveChannel { channel: named("#team"), reason }).unwrap();
    agree(&mut one, &mut other);
    assert!(!is_member(&one, "#team/garden", &carol));
    // The workspace closes its door, and with it the channel's.
    change(&mut one, "founder", "#team", Change::Join(JoinRule::Invite)).unwrap();
    agree(&mut one, &mut other);
    assert_eq!(other.submit("carol", join("#team/garden")), Err(Refusal::NotInvited));
}

#[test]
fn whoever_removes_somebody_draws_the_line_also_where_they_never_were() {
    let (mut one, mut other) = scene();
    let (dora, carol) = (identity(&one, "dora"), identity(&other, "carol"));
    one.submit("dora", Intent::JoinChannel { channel: named("#team"), create: false }).unwrap();
    let (subject, role) = (Subject::Identity(dora), Role::Moderator);
    one.submit("founder", Intent::GrantRole { channel: named("#team"), subject, role }).unwrap();
    say(&mut other, "carol", "#team/garden", "hello").unwrap();
    agree(&mut one, &mut other);
    let unaware = say(&mut other, "carol", "#team/garden", "I do not know yet").unwrap();
    kick(&mut one, "dora", "#team", carol).unwrap();
    agree(&mut one, &mut other);
    assert!(!replica(&other, "#team/garden").is_effective(&unaware));
    assert!(is_member(&other, "#team/garden", &dora));
}

#[test]
fn a_promotion_in_the_workspace_is_taken_up_in_its_channels() {
    let (mut one, mut other) = scene();
    say(&mut other, "carol", "#team/garden", "hello").unwrap();
    agree(&mut one, &mut other);
    let carol = identity(&other, "carol");
    let role_of = |site: &Site| replica(site, "#team/garden").state().person(&carol).unwrap().role;
    let (subject, role) = (Subject::Identity(carol), Role::Moderator);
    one.submit("founder", Intent::GrantRole { channel: named("#team"), subject, role }).unwrap();
    meet(&mut one, &mut other);
    change(&mut other, "carol", "#team/garden", Change::Topic("roses".into())).unwrap();
    agree(&mut one, &mut other);
    assert_eq!(role_of(&one), Role::Moderator);
    assert_eq!(replica(&one, "#team/garden").state().topic(), "roses");
    let (subject, then) = (Subject::Identity(carol), Standing::Demoted(Role::Member));
    let reason = String::new();
    one.submit("founder", Intent::RevokeRole { channel: named("#team"), subject, then, reason }).unwrap();
    meet(&mut one, &mut other);
    let words = say(&mut other, "carol", "#team/garden", "still here").unwrap();
    let denied = change(&mut other, "carol", "#team/garden", Change::Topic("thorns".into()));
    assert!(matches!(denied, Err(Refusal::NotPermitted(_))), "{denied:?}");
    agree(&mut one, &mut other);
    assert!(replica(&one, "#team/garden").is_effective(&words));
    assert_eq!(role_of(&one), Role::Member);
}

#[test]
fn the_policy_of_a_workspace_reaches_who_acts_in_its_channels() {
    let (mut one, mut other) = scene();
    say(&mut other, "carol", "#team/garden", "hello").unwrap();
    agree(&mut one, &mut other);
    let rule = Rule { allow: Permissions::NONE, deny: Permissions::of(&[Permission::SendMessage]) };
    let rule = Change::Role { role: Role::Member, rule: RoleRule { name: String::new(), rule } };
    change(&mut one, "founder", "#team", rule).unwrap();
    let unaware = say(&mut other, "carol", "#team/garden", "nobody told me").unwrap();
    meet(&mut one, &mut other);
    let refused = say(&mut other, "carol", "#team/garden", "now I know");
    assert_eq!(refused, Err(Refusal::NotPermitted("send_message")));
    say(&mut one, "founder", "#team/garden", "I may").unwrap();
    agree(&mut one, &mut other);
    assert!(replica(&one, "#team/garden").is_effective(&unaware));
}

#[test]
fn a_channel_waits_for_its_workspace_whatever_comes_first() {
    let (mut one, mut other) = scene();
    say(&mut other, "carol", "#team/garden", "hello").unwrap();
    agree(&mut one, &mut other);
    let carol = identity(&other, "carol");
    kick(&mut one, "founder", "#team", carol).unwrap();
    let workspace = replica(&one, "#team").id();
    let mut late = Site::new("c");
    let (above, below): (Vec<Parcel>, Vec<Parcel>) =
        one.parcels().into_iter().partition(|parcel| parcel.event.channel() == workspace);
    for parcel in below.iter().chain(above.iter().rev()).chain(&below) {
        let packet = Packet::Events { parcels: vec![parcel.clone()], more: false };
        late.peer_says(one.node.id(), packet);
    }
    meet(&mut late, &mut one);
    assert_eq!(late.node.state_root(), one.node.state_root());
    assert_eq!(late.node.pending_events(), 0);
    assert!(late.node.directory.find(&named("#team/garden")).is_some());
}

#[test]
fn what_was_void_until_the_workspace_took_the_channel_in_is_shown_then() {
    let (mut one, other) = scene();
    say(&mut one, "founder", "#team/garden", "hello").unwrap();
    let addition =
        |parcel: &Parcel| matches!(parcel.event.header.act, crate::chat::act::Act::AddChannel { .. });
    let mut late = Site::new("c");
    let send = |late: &mut Site, parcels: Vec<Parcel>| {
        late.peer_says(other.node.id(), Packet::Events { parcels, more: false })
    };
    // Only what does not need it is there at first: the founder's own lane.
    let (added, rest): (Vec<Parcel>, Vec<Parcel>) = one.parcels().into_iter().partition(addition);
    send(&mut late, rest.clone());
    let words = rest.last().unwrap().event.id();
    assert!(!replica(&late, "#team/garden").is_effective(&words));
    late.feed(Input::DoorOpened(Door::Listener));
    let told = send(&mut late, added);
    assert!(replica(&late, "#team/garden").is_effective(&words));
    assert!(told.iter().any(|output| matches!(output, Output::DeliverStored { .. })), "{told:?}");
}

#[test]
fn a_shared_channel_has_an_address_in_both_workspaces() {
    let (mut one, mut other) = scene();
    let friends = other.create("#friends/");
    other.submit("greta", Intent::JoinChannel { channel: named("#friends"), create: false }).unwrap();
    agree(&mut one, &mut other);
    let share = Change::Shared { workspace: friends, is_shared: true };
    change(&mut one, "founder", "#team/garden", share.clone()).unwrap();
    agree(&mut one, &mut other);
    assert!(other.node.directory.find(&named("#friends/garden")).is_none(), "not yet taken in there");
    // Somebody who may found channels there takes it in; they are in both.
    let found = |name: &str| Intent::CreateChannel { name: name.parse().unwrap(), topic: String::new() };
    other.submit("founder", found("#friends/garden")).unwrap();
    agree(&mut one, &mut other);
    let id = replica(&one, "#team/garden").id();
    assert_eq!(other.node.directory.find(&named("#friends/garden")), Some(id));
    let words = say(&mut other, "greta", "#friends/garden", "hello from next door").unwrap();
    agree(&mut one, &mut other);
    let greta = identity(&other, "greta");
    assert!(replica(&one, "#team/garden").is_effective(&words));
    assert!(is_member(&one, "#friends/garden", &greta) && !is_member(&one, "#team", &greta));
    // What her own workspace does to her it does here, once somebody above her has said so.
    kick(&mut other, "founder", "#friends", greta).unwrap();
    agree(&mut one, &mut other);
    assert!(!is_member(&one, "#team/garden", &greta));
}

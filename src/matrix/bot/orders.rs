//! What people want of a channel: roles, removals, invitations, its policy, its people, what was
//! said in it. Each is asked of the node as the person who wants it, so that the channel decides;
//! admins of this node are helped out by the node's own user.

use super::{Asked, is_admin, role_in};
use crate::base::{Kind, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::flow::Sink;
use crate::chat::intent::{Actor, ChannelRef, Intent, Subject, Submission};
use crate::chat::permissions::{Permission, Permissions};
use crate::chat::view::ChannelView;
use crate::matrix::bridge::{Bridge, Trouble};
use crate::matrix::proto::command::{Lasts, Order, Wanted, answers};
use crate::matrix::proto::ghosts::is_user_id;
use crate::matrix::proto::portals;
use crate::matrix::unix_ms;
use crate::port::{Receipt, Refusal, SearchQuery};

/// How long an invite link lasts where nobody says how long.
const INVITE_MS: u64 = 7 * 24 * 60 * 60_000;

/// Does it. The answer says what was done or why not.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn execute(
    bridge: &Bridge,
    asked: &Asked<'_>,
    channel: Option<String>,
    order: Order,
) -> Result<String, Trouble> {
    let here = bridge.carried(asked.room).map(|carried| carried.name);
    let Some(name) = channel.or(here) else {
        return Ok("Which channel? Name it first, like this: members #channel".into());
    };
    let views = bridge.channels().await?;
    let Some(view) = views.into_iter().find(|view| view.name == name) else {
        return Err(Refusal::NoSuchChannel(name).into());
    };
    let ordered = Ordered { bridge, asked, view };
    match order {
        Order::Members => Ok(ordered.members()),
        Order::Search(words) => ordered.search(words).await,
        Order::Grant { who, role } => ordered.grant(&who, &role).await,
        Order::Revoke { who, role } => ordered.demote(&who, role).await,
        Order::Kick { who, reason } => ordered.put_out(&who, Standing::Out, reason).await,
        Order::Ban { who, reason } => ordered.put_out(&who, Standing::Banned, reason).await,
        Order::Unban { who, reason } => ordered.put_out(&who, Standing::Free, reason).await,
        Order::Invite(who) => ordered.invite(&who).await,
        Order::InviteLink { role, lasts } => ordered.invite_link(role, lasts).await,
        Order::Policy(wanted) => ordered.policy(wanted).await,
    }
}

struct Ordered<'a> {
    bridge: &'a Bridge,
    asked: &'a Asked<'a>,
    view: ChannelView,
}

impl Ordered<'_> {
    /// Hands in a wish as who asked; as the node where an admin of it lacks the right.
    async fn submit(&self, intent: Intent) -> Result<Receipt, Trouble> {
        let actor = self.bridge.person(self.asked.room, self.asked.user).await;
        let own = Submission { actor, intent: intent.clone(), via: None, join_first: false, tag: 0 };
        match self.bridge.handle.submit(own).await {
            Ok(receipt) => Ok(receipt),
            Err(refusal)
                if refusal.kind() == Kind::Denied
                    && refusal != Refusal::Banned
                    && is_admin(self.bridge, self.asked.user) =>
            {
                let node = Submission { actor: Actor::Node, intent, via: None, join_first: false, tag: 0 };
                self.bridge.handle.submit(node).await.map_err(|_| refusal.into())
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn channel(&self) -> ChannelRef {
        ChannelRef::Id(self.view.id)
    }

    fn subject(&self, who: &str) -> Subject {
        match self.bridge.ghost_identity(who) {
            Some(identity) => Subject::Identity(identity),
            None => Subject::Name(who.to_owned()),
        }
    }

    fn is_member(&self) -> bool {
        role_in(&self.view, self.asked.user).is_some() || is_admin(self.bridge, self.asked.user)
    }

    fn members(&self) -> String {
        if self.view.policy.join != JoinRule::Open && !self.is_member() {
            return format!("Not done: {} shows its members to members only.", self.view.name);
        }
        answers::members(&self.view)
    }

    fn role(&self, name: &str) -> Result<Role, String> {
        let role = self.view.policy.role_named(name).filter(|role| *role != Role::Founder);
        role.ok_or_else(|| {
            let made = self.view.policy.roles.keys().filter(|role| matches!(role, Role::Custom(_)));
            let made: String = made.map(|role| format!(", {}", self.view.policy.role_name(*role))).collect();
            format!(
                "There is no role “{name}” to give in {}: admin, moderator, member{made}.",
                self.view.name
            )
        })
    }

    async fn grant(&self, who: &str, role: &str) -> Result<String, Trouble> {
        let role = match self.role(role) {
            Ok(role) => role,
            Err(answer) => return Ok(answer),
        };
        let now = self.view.members.iter().find(|member| {
            member.profile.home == who
                || member.profile.username.eq_ignore_ascii_case(who)
                || self.bridge.ghost_identity(who) == Some(member.identity)
        });
        if now.is_some_and(|member| member.role < role) {
            return Ok(format!(
                "{who} is more than that. Say: revoke {who} {}",
                self.view.policy.role_name(role)
            ));
        }
        let (channel, subject) = (self.channel(), self.subject(who));
        self.submit(Intent::GrantRole { channel, subject, role }).await?;
        Ok(format!("{who} is {} of {} now.", self.view.policy.role_name(role), self.view.name))
    }

    async fn demote(&self, who: &str, role: Option<String>) -> Result<String, Trouble> {
        let role = match role.map_or(Ok(Role::Member), |role| self.role(&role)) {
            Ok(role) => role,
            Err(answer) => return Ok(answer),
        };
        self.put_out(who, Standing::Demoted(role), String::new()).await
    }

    async fn put_out(&self, who: &str, then: Standing, reason: String) -> Result<String, Trouble> {
        let (channel, subject) = (self.channel(), self.subject(who));
        self.submit(Intent::RevokeRole { channel, subject, then, reason }).await?;
        Ok(answers::put_out(who, &self.view.name, then, &self.view.policy))
    }

    /// Lets somebody in: into the channel where that is needed, and a Matrix user into its room.
    async fn invite(&self, who: &str) -> Result<String, Trouble> {
        let name = &self.view.name;
        let is_open = self.view.policy.join == JoinRule::Open;
        if !is_open {
            let (channel, subject) = (self.channel(), self.subject(who));
            self.submit(Intent::GrantRole { channel, subject, role: Role::Member }).await?;
        }
        let is_matrix = is_user_id(who) && !self.bridge.names.is_ours(who);
        let here =
            self.bridge.carried(self.asked.room).is_some_and(|carried| carried.channel == self.view.id);
        let room = if here { Some(self.asked.room) } else { portals::room_of(&self.view) };
        let Some(room) = room.filter(|_| is_matrix) else {
            return Ok(match is_open {
                true => format!("{name} is open: {who} joins it by themselves."),
                false => format!("{who} may join {name} now."),
            });
        };
        match self.bridge.hs.invite(room, who).await {
            Ok(()) => Ok(format!("{who} may join {name}, and is invited to its room.")),
            Err(error) if error.kind() == Kind::Retry => Err(error.into()),
            Err(error) => {
                Ok(format!("{who} may join {name}, but I could not invite them to its room: {error}."))
            }
        }
    }

    /// A link that lets in whoever has it: for the ears of who asked alone.
    async fn invite_link(&self, role: Option<String>, lasts: Option<Lasts>) -> Result<String, Trouble> {
        if !self.asked.direct {
            return Ok(answers::IN_PRIVATE.into());
        }
        let role = match role.map_or(Ok(Role::Member), |role| self.role(&role)) {
            Ok(role) => role,
            Err(answer) => return Ok(answer),
        };
        let lasts = match lasts {
            None => Some(INVITE_MS),
            Some(Lasts::Ms(ms)) => Some(ms),
            Some(Lasts::ForEver) => None,
        };
        let expires = lasts.map(|ms| Timestamp(unix_ms().saturating_add(ms)));
        let receipt = self.submit(Intent::Invite { channel: self.channel(), role, expires }).await?;
        let Some(invite) = receipt.invite else { return Ok("Not done: the node made no link.".into()) };
        let link = invite.via(self.bridge.addresses.iter().cloned()).to_string();
        Ok(answers::invited(&link, &self.view.policy.role_name(role), &self.view.name, lasts))
    }

    async fn policy(&self, wanted: Wanted) -> Result<String, Trouble> {
        let change = match wanted {
            Wanted::Show => return Ok(answers::policy(&self.view)),
            Wanted::Change(change) => change,
            Wanted::Moderated(on) => self.moderated(on),
        };
        self.submit(Intent::UpdateChannel { channel: self.channel(), change }).await?;
        let views = self.bridge.channels().await?;
        let view = views.iter().find(|view| view.id == self.view.id).unwrap_or(&self.view);
        Ok(format!("Done. {}", answers::policy(view)))
    }

    /// Ordinary members may not speak any more, or may again; what else binds them stays.
    fn moderated(&self, on: bool) -> Change {
        let mut rule = self.view.policy.roles.get(&Role::Member).cloned().unwrap_or_default();
        let speech = Permissions::of(&[Permission::SendMessage, Permission::EditMessage, Permission::React]);
        rule.rule.deny = if on { rule.rule.deny.with(speech) } else { rule.rule.deny.without(speech) };
        Change::Role { role: Role::Member, rule }
    }

    /// The newest messages with all of the words: for members, where nobody else reads the answer.
    async fn search(&self, words: String) -> Result<String, Trouble> {
        let name = &self.view.name;
        if !self.is_member() {
            return Ok(format!("Not done: only members search {name}."));
        }
        let here =
            self.bridge.carried(self.asked.room).is_some_and(|carried| carried.channel == self.view.id);
        if !self.asked.direct && !here {
            return Ok(answers::IN_PRIVATE.into());
        }
        if !self.view.policy.flow.allows(&Sink::Search) {
            return Ok(format!("Not done: the flow policy of {name} does not allow search."));
        }
        let query = SearchQuery { words, channel: Some(self.view.id), limit: answers::FOUND };
        Ok(answers::found(name, &self.bridge.handle.search(query).await?))
    }
}

//! Wishes: what a submission becomes.

use super::admit::Acting;
use super::directory::Channel;
use super::parts::Site;
use super::people::{Person, cut, is_account, named_after};
use super::{Node, Receipt, Refusal, Turn};
use crate::base::{ChannelId, EventId, limits};
use crate::chat::act::{Act, Joining};
use crate::chat::channel::Change;
use crate::chat::intent::{Actor, ChannelRef, Intent, Submission};
use crate::chat::message::{Content, Relation};
use crate::chat::name::ChannelName;
use crate::chat::profile::Profile;

const BAD_PROFILE: &str = "a user name is 1 to 64 bytes without spaces or control characters";

impl Node {
    pub(super) fn submit(
        &mut self,
        turn: &mut Turn,
        submission: &Submission,
        known: Option<EventId>,
    ) -> Result<Receipt, Refusal> {
        let person = self.actor(turn, &submission.actor)?;
        let acting = Acting { person, submission };
        match &submission.intent {
            Intent::CreateChannel { name, topic } => self.create(turn, &acting, name, topic),
            Intent::JoinChannel { channel, create } => self.join(turn, &acting, channel, *create),
            Intent::LeaveChannel { channel, reason } => {
                let act = Act::LeaveChannel { reason: clipped(reason) };
                if let Some(id) = self.directory.find(channel) {
                    self.leave_parts(turn, &acting, &id, &clipped(reason))?;
                }
                self.act_in(turn, &acting, channel, act, None)
            }
            Intent::SendMessage { channel, content } => self.send(turn, &acting, channel, content, known),
            Intent::RedactMessage { channel, target, reason } => {
                if let Some(done) = self.redacted_already(channel, target) {
                    return Ok(done);
                }
                let act = Act::RedactMessage { target: *target, reason: clipped(reason) };
                self.act_in(turn, &acting, channel, act, None)
            }
            Intent::UpdateChannel { channel, change } => {
                let change = match change {
                    Change::Topic(topic) => Change::Topic(clipped(topic)),
                    other => other.clone(),
                };
                let act = Act::UpdateChannel(change.clone());
                let receipt = self.act_in(turn, &acting, channel, act, None)?;
                if let Some(id) = receipt.channel {
                    self.share(turn, &acting, id, &change);
                }
                Ok(receipt)
            }
            Intent::Knock { channel, reason } => self.knock(turn, &acting, channel, reason),
            Intent::GrantRole { channel, subject, role } => {
                self.grant_role(turn, &acting, channel, subject, *role)
            }
            Intent::RevokeRole { channel, subject, then, reason } => {
                self.revoke_role(turn, &acting, channel, subject, (*then, reason))
            }
            Intent::Market { channel, wish } => self.market(turn, &acting, channel, wish),
            Intent::Solve { channel } => self.solve(turn, &acting, channel.as_ref()),
            Intent::Invite { channel, role, expires } => self.invite(turn, &acting, channel, *role, *expires),
            Intent::UseInvite { invite } => self.use_invite(turn, &acting, invite),
            Intent::Upgrade { channel } => self.upgrade(turn, &acting, channel),
            Intent::UpdateProfile { profile } => self.update_profile(turn, &acting, profile),
            Intent::Link { channel, link, create } => self.link(turn, &acting, channel, link, *create),
            Intent::Unlink { link } => self.unlink(turn, link),
        }
    }

    /// Who wants it. A person whose door says nothing of how they look (the command line) looks as
    /// they did: only the door that knows the person changes that.
    fn actor(&mut self, turn: &mut Turn, actor: &Actor) -> Result<Person, Refusal> {
        let (person, write) = match actor {
            Actor::Node => self.people.node(),
            Actor::Person { account, .. } if !is_account(account) => {
                return Err(Refusal::Malformed(
                    "an account is 1 to 512 bytes without spaces or control characters",
                ));
            }
            Actor::Person { account, profile } => {
                let unsaid = *profile == Profile::default();
                let profile = if unsaid { self.profile_of(account) } else { profile.clone() };
                if !profile.is_well_formed() {
                    return Err(Refusal::Malformed(BAD_PROFILE));
                }
                self.people.person(account, profile)
            }
        };
        turn.writes.extend(write);
        Ok(person)
    }

    /// How a person looks as far as this node knows: as they did when they acted last, else as a
    /// channel shows them, else by their account.
    fn profile_of(&self, account: &str) -> Profile {
        let person = self.people.remembered(account);
        if person.profile != Profile::default() {
            return person.profile;
        }
        let shown = |channel: &Channel| channel.replica.state().person(&person.identity);
        let shown = self.directory.iter().find_map(|(_, channel)| shown(channel));
        shown.map_or_else(|| named_after(account), |member| member.profile)
    }

    fn create(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        name: &ChannelName,
        topic: &str,
    ) -> Result<Receipt, Refusal> {
        let site = self.site(name);
        let address = if site.ancestry.is_workspace { &site.name } else { name };
        if self.directory.find(&ChannelRef::Name(address.as_str().to_owned())).is_some() {
            return Err(Refusal::ChannelExists(address.to_string()));
        }
        if let Some(workspace) = site.ancestry.workspace
            && let Some(channel) = self.shared_into(&workspace, &site.name)
        {
            return self.take_into(turn, acting, workspace, channel);
        }
        self.found_as(turn, acting, site, topic)
    }

    /// Founds a channel, whatever its name is here.
    pub(super) fn found_as(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        site: Site,
        topic: &str,
    ) -> Result<Receipt, Refusal> {
        if self.directory.len() >= limits::CHANNELS {
            return Err(Refusal::Full("channels"));
        }
        self.found_at(turn, acting, site, clipped(topic))
    }

    pub(super) fn join(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        create: bool,
    ) -> Result<Receipt, Refusal> {
        let channel = match (self.directory.find(wanted), wanted, create) {
            (Some(channel), _, _) => channel,
            (None, ChannelRef::Name(name), true) => {
                let name: ChannelName =
                    name.parse().map_err(|_| Refusal::Malformed("that is not a channel name"))?;
                return self.create(turn, acting, &name, "");
            }
            (None, _, _) => return Err(no_such(wanted)),
        };
        let event = self.ensure_member(turn, acting, channel)?;
        Ok(Receipt { channel: Some(channel), event, ..Receipt::default() })
    }

    fn send(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        content: &Content,
        known: Option<EventId>,
    ) -> Result<Receipt, Refusal> {
        let channel = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let origin = content.origin.as_ref().map(|origin| (origin.link.clone(), origin.external_id.clone()));
        let earlier = known.or_else(|| self.origins.get(origin.as_ref()?));
        if let Some(event) = earlier {
            return Ok(Receipt { channel: Some(channel), event: Some(event), ..Receipt::default() });
        }
        if !content.is_well_formed() {
            return Err(Refusal::Malformed("a message is neither empty nor longer than 48 KiB"));
        }
        let payload = payload(content).ok_or(Refusal::Malformed("a message fits into 60 KiB"))?;
        let mut envelope = content.envelope.clone();
        if let (Some(Relation::Edit(target)), Some(channel)) =
            (envelope.relation, self.directory.get(&channel))
        {
            // What stands in a message's place lasts no longer than the message.
            let lasts = channel.replica.expiry_of(&target);
            envelope.expires = envelope.expires.into_iter().chain(lasts).min();
        }
        self.act_in(turn, acting, wanted, Act::SendMessage(envelope), Some(payload))
    }

    /// What was taken back is not taken back twice: a door may hand in the same wish again.
    fn redacted_already(&self, wanted: &ChannelRef, target: &EventId) -> Option<Receipt> {
        let id = self.directory.find(wanted)?;
        let is_redacted = self.directory.get(&id)?.replica.is_redacted(target);
        is_redacted.then_some(Receipt { channel: Some(id), ..Receipt::default() })
    }

    fn update_profile(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        profile: &Profile,
    ) -> Result<Receipt, Refusal> {
        if !profile.is_well_formed() {
            return Err(Refusal::Malformed(BAD_PROFILE));
        }
        let identity = acting.person.identity;
        let differs = |channel: &Channel| {
            let state = channel.replica.state();
            state.is_member(&identity)
                && state.person(&identity).is_some_and(|member| member.profile != *profile)
        };
        let channels: Vec<ChannelId> =
            self.directory.iter().filter(|(_, channel)| differs(channel)).map(|(id, _)| *id).collect();
        let mut receipt = Receipt { channel: None, event: None, ..Receipt::default() };
        for channel in channels {
            self.take_up_grant(turn, acting, channel)?;
            let act = Act::UpdateProfile { profile: profile.clone() };
            receipt.event = self.act(turn, acting, channel, act, None)?.event;
        }
        Ok(receipt)
    }

    /// An act in a channel that somebody named; they join first where the door says so.
    pub(super) fn act_in(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        act: Act,
        payload: Option<Vec<u8>>,
    ) -> Result<Receipt, Refusal> {
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        self.prepare(turn, acting, id, matches!(act, Act::LeaveChannel { .. }))?;
        self.act(turn, acting, id, act, payload)
    }

    /// Before somebody acts in a channel: they act under the best grant they hold, join where the door
    /// says so, and look as they do.
    pub(super) fn prepare(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
        leaves: bool,
    ) -> Result<(), Refusal> {
        self.take_up_grant(turn, acting, id)?;
        if !leaves {
            if acting.submission.join_first && !self.is_removed(&id, &acting.person.identity) {
                self.ensure_member(turn, acting, id)?;
            }
            self.refresh_profile(turn, acting, id)?;
        }
        Ok(())
    }

    /// Makes the actor a member, and their profile in the channel what it is. `None` if they were.
    pub(super) fn ensure_member(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
    ) -> Result<Option<EventId>, Refusal> {
        let Some(channel) = self.directory.get(&id) else {
            return Err(Refusal::NoSuchChannel(id.to_string()));
        };
        if channel.replica.live_lane(&acting.person.device.public()).is_some() {
            return Ok(None);
        }
        let identity = &acting.person.identity;
        let grant = channel.replica.best_grant(identity).map(|(grant, _)| grant);
        if grant.is_none() && channel.replica.is_banned(identity) {
            return Err(Refusal::Banned);
        }
        if grant.is_none() && !channel.replica.may_join(identity) {
            let ticket = self.ticket_of(&channel.replica, *identity, turn.now).ok_or(Refusal::NotInvited)?;
            let (joining, ticket) = (self.joining(turn, acting, &id)?, Box::new(ticket));
            return Ok(self.act(turn, acting, id, Act::RedeemTicket { joining, ticket }, None)?.event);
        }
        let joining = Joining { grant, ..self.joining(turn, acting, &id)? };
        Ok(self.act(turn, acting, id, Act::JoinChannel(joining), None)?.event)
    }

    /// Tells a channel the actor's profile if it has changed since they last acted there.
    fn refresh_profile(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
    ) -> Result<(), Refusal> {
        let shown = self.directory.get(&id).and_then(|channel| {
            let state = channel.replica.state();
            state.is_member(&acting.person.identity).then(|| state.person(&acting.person.identity)).flatten()
        });
        if shown.is_some_and(|member| member.profile != acting.person.profile) {
            let act = Act::UpdateProfile { profile: acting.person.profile.clone() };
            self.act(turn, acting, id, act, None)?;
        }
        Ok(())
    }
}

pub(super) fn no_such(wanted: &ChannelRef) -> Refusal {
    Refusal::NoSuchChannel(match wanted {
        ChannelRef::Id(id) => id.to_string(),
        ChannelRef::Name(name) => name.clone(),
    })
}

/// The bytes of a message. One that is too long with its formatted form goes without: both say the
/// same. `None` if it is too long even so.
fn payload(content: &Content) -> Option<Vec<u8>> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= limits::PAYLOAD_BYTES;
    Some(content.payload()).filter(fits).or_else(|| {
        let plain = Content { formatted: None, ..content.clone() };
        Some(plain.payload()).filter(fits)
    })
}

pub(super) fn clipped(text: &str) -> String {
    cut(text, limits::TOPIC_BYTES).to_owned()
}

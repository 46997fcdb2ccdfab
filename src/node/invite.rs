//! Invite links, and channels that go on in another.

use super::admit::Acting;
use super::parts::Site;
use super::submit::no_such;
use super::{Node, Receipt, Refusal, Turn};
use crate::base::key::Purpose;
use crate::base::{ChannelId, Identity, Timestamp};
use crate::chat::access::Role;
use crate::chat::act::{Act, Ancestry, Joining};
use crate::chat::channel::{Change, JoinRule};
use crate::chat::intent::ChannelRef;
use crate::chat::invite::Invite;

/// Members that an upgrade lets into the successor one by one; further ones ask to be let in.
const LET_IN: usize = 4096;

impl Node {
    /// Grants a role to a key made for it: whoever gets the key may use the grant. The key follows from
    /// the node's secret and from where the grant stands, so it need not be kept.
    pub(super) fn invite(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<Receipt, Refusal> {
        let id = self.ready_in(turn, acting, wanted)?;
        let device = acting.person.device.public();
        let lane = self.directory.get(&id).and_then(|channel| channel.replica.live_lane(&device));
        let place = lane.ok_or(Refusal::NotAMember)?.next_seq();
        let key = self.setup.secret.derive(Purpose::Invite, &format!("{id} {device} {place}"));
        let act = Act::GrantRole { subject: key.public(), role, expires };
        let mut receipt = self.act(turn, acting, id, act, None)?;
        receipt.invite = receipt.event.map(|grant| Invite::new(id, grant, &key));
        Ok(receipt)
    }

    /// Becomes a member by a link.
    pub(super) fn use_invite(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        invite: &Invite,
    ) -> Result<Receipt, Refusal> {
        let wanted = ChannelRef::Id(invite.channel);
        let id = self.directory.find(&wanted).ok_or_else(|| no_such(&wanted))?;
        let Some(channel) = self.directory.get(&id) else { return Err(no_such(&wanted)) };
        let replica = &channel.replica;
        if !replica.contains(&invite.grant) {
            return Err(Refusal::NoSuchChannel(format!("{} with that invite yet", channel.name)));
        }
        if replica.live_lane(&acting.person.device.public()).is_some() {
            return Ok(Receipt { channel: Some(id), ..Receipt::default() });
        }
        let identity: Identity = acting.person.identity;
        if replica.is_banned(&identity) {
            return Err(Refusal::Banned);
        }
        if !replica.is_effective(&invite.grant) {
            return Err(Refusal::NotInvited);
        }
        let bearer = Some(Joining::bear(&invite.key(), &invite.grant, &identity));
        let joining = self.joining(turn, acting, &id)?;
        let joining = Joining { grant: Some(invite.grant), bearer, ..joining };
        let receipt = self.act(turn, acting, id, Act::JoinChannel(joining), None)?;
        match self.directory.get(&id) {
            Some(channel) if channel.replica.state().is_member(&identity) => Ok(receipt),
            _ => Err(Refusal::NotInvited),
        }
    }

    /// Founds a channel that the old one goes on in, with its topic, its policy and those who have a
    /// role, and closes the old one.
    pub(super) fn upgrade(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
    ) -> Result<Receipt, Refusal> {
        let id = self.ready_in(turn, acting, wanted)?;
        let Some(channel) = self.directory.get(&id) else { return Err(no_such(wanted)) };
        let (replica, state) = (&channel.replica, channel.replica.state());
        let lane = replica.live_lane(&acting.person.device.public()).ok_or(Refusal::NotAMember)?;
        if let Some(rule) = replica.forbids(lane, &Act::UpdateChannel(Change::Closed(true)), turn.now) {
            return Err(Refusal::NotPermitted(rule));
        }
        if state.ancestry().is_workspace {
            // Closing the old one would close every channel of it.
            return Err(Refusal::NotPermitted("a workspace does not go on in another: its channels do"));
        }
        let Some(name) = state.name().cloned() else { return Err(no_such(wanted)) };
        let topic = state.topic().to_owned();
        let ancestry = Ancestry { predecessor: Some(id), ..state.ancestry() };
        let settings = replica.own_policy().changes();
        let is_open = channel.policy.join == JoinRule::Open;
        let members = state.members().filter(|member| member.identity != acting.person.identity);
        let grants: Vec<(Identity, Role)> = members
            .filter(|member| !is_open || member.role != Role::Member)
            .map(|member| {
                (member.identity, if member.role == Role::Founder { Role::Admin } else { member.role })
            })
            .take(LET_IN)
            .collect();

        let receipt = self.found_as(turn, acting, Site { name, ancestry }, &topic)?;
        let Some(successor) = receipt.channel else { return Ok(receipt) };
        for change in settings {
            self.act(turn, acting, successor, Act::UpdateChannel(change), None)?;
        }
        for (subject, role) in grants {
            self.act(turn, acting, successor, Act::GrantRole { subject, role, expires: None }, None)?;
        }
        for change in [Change::Successor(Some(successor)), Change::Closed(true)] {
            self.act(turn, acting, id, Act::UpdateChannel(change), None)?;
        }
        Ok(receipt)
    }

    /// The channel that somebody means to act in, once they are what they should be there: under the
    /// best grant they hold, and looking as they do.
    fn ready_in(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
    ) -> Result<ChannelId, Refusal> {
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        self.prepare(turn, acting, id, false)?;
        Ok(id)
    }
}

//! Wishes about other people: granting and revoking roles.

use super::admit::Acting;
use super::submit::{clipped, no_such};
use super::{Node, Receipt, Refusal, Turn};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::act::{Act, Joining, Standing};
use crate::chat::channel::JoinRule;
use crate::chat::intent::{ChannelRef, Subject};

impl Node {
    pub(super) fn grant_role(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        subject: &Subject,
        role: Role,
    ) -> Result<Receipt, Refusal> {
        let subject = self.subject(wanted, subject)?;
        self.act_in(turn, acting, wanted, Act::GrantRole { subject, role, expires: None }, None)
    }

    pub(super) fn revoke_role(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        subject: &Subject,
        (then, reason): (Standing, &str),
    ) -> Result<Receipt, Refusal> {
        let subject = self.subject(wanted, subject)?;
        self.outranks(acting, wanted, &subject)?;
        let act = Act::RevokeRole { subject, then, reason: clipped(reason) };
        let receipt = self.act_in(turn, acting, wanted, act, None)?;
        if let Some(id) = receipt.channel {
            self.draw_lines(turn, acting, &id, (&subject, then));
        }
        Ok(receipt)
    }

    /// Asks to be let in, where that is how one comes in.
    pub(super) fn knock(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        reason: &str,
    ) -> Result<Receipt, Refusal> {
        let id = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let Some(channel) = self.directory.get(&id) else { return Err(no_such(wanted)) };
        let identity = &acting.person.identity;
        if channel.replica.state().is_member(identity) {
            return Err(Refusal::NotPermitted("members need not knock"));
        }
        if channel.replica.policy().join != JoinRule::Knock || channel.replica.is_banned(identity) {
            return Err(Refusal::NotPermitted("nobody may knock here"));
        }
        let asking = self.joining(turn, acting, &id)?;
        self.act(turn, acting, id, Act::Knock { asking, reason: clipped(reason) }, None)
    }

    /// A revocation that acts on nobody would be signed for nothing: it is refused with the reason. One of
    /// an equal is a vote.
    fn outranks(&self, acting: &Acting<'_>, wanted: &ChannelRef, subject: &Identity) -> Result<(), Refusal> {
        let channel = self.directory.find(wanted).and_then(|id| self.directory.get(&id));
        let replica = &channel.ok_or_else(|| no_such(wanted))?.replica;
        if replica.rank_of(&acting.person.identity) <= replica.rank_of(subject) {
            return Ok(());
        }
        Err(Refusal::NotPermitted("only those who outrank somebody remove or demote them"))
    }

    /// Opens a lane for the actor under the best grant they hold, if it lets them do more than what
    /// they have: who was promoted or demoted goes on as what they are now.
    pub(super) fn take_up_grant(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: ChannelId,
    ) -> Result<(), Refusal> {
        let Some(channel) = self.directory.get(&id) else { return Ok(()) };
        let (identity, device) = (acting.person.identity, acting.person.device.public());
        let home = channel.replica.state().ancestry().workspace;
        if let Some(home) = home {
            self.take_up_grant(turn, acting, home)?;
        }
        let replica = self.replica(&id)?;
        let above = home.and_then(|home| self.replica(&home).ok()?.live_lane(&device)).map(|lane| lane.rank);
        let comes_back = above.is_some() && replica.is_stranded(&device) && !replica.is_removed(&identity);
        if !replica.state().is_member(&identity) && !comes_back {
            return Ok(());
        }
        let lane = replica.live_lane(&device).map(|lane| lane.rank);
        let Some((grant, rank)) = replica.best_standing(&identity, above) else { return Ok(()) };
        if lane.is_none_or(|lane| rank < lane) {
            let joining = Joining { grant, ..self.joining(turn, acting, &id)? };
            self.act(turn, acting, id, Act::JoinChannel(joining), None)?;
        }
        Ok(())
    }

    /// The person of a channel that somebody means: by identity, by account, or by user name where
    /// one person alone goes by it. Those in the channel come before those who left it.
    fn subject(&self, wanted: &ChannelRef, subject: &Subject) -> Result<Identity, Refusal> {
        let id: ChannelId = self.directory.find(wanted).ok_or_else(|| no_such(wanted))?;
        let name = match subject {
            Subject::Identity(identity) => return Ok(*identity),
            Subject::Name(name) => name,
        };
        let nobody = || Refusal::NoSuchPerson(name.clone());
        let state = self.directory.get(&id).ok_or_else(nobody)?.replica.state();
        let by_account = self.people.remembered(name).identity;
        if state.person(&by_account).is_some() {
            return Ok(by_account);
        }
        let goes_by = |profile: &crate::chat::profile::Profile| {
            profile.home == *name || profile.username.eq_ignore_ascii_case(name)
        };
        for present in [true, false] {
            let mut found = state
                .people()
                .filter(|member| state.is_member(&member.identity) == present && goes_by(&member.profile));
            match (found.next(), found.next()) {
                (Some(member), None) => return Ok(member.identity),
                (Some(_), Some(_)) => return Err(nobody()),
                _ => {}
            }
        }
        Err(nobody())
    }
}

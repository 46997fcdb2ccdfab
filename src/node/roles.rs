//! Wishes about other people: granting and revoking roles.

use super::admit::Acting;
use super::people::is_account;
use super::submit::{clipped, no_such};
use super::{Node, Receipt, Refusal, Turn};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::act::{Act, Joining, Standing};
use crate::chat::channel::JoinRule;
use crate::chat::intent::{ChannelRef, Subject};
use crate::replica::Replica;

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
        if let Some(done) = self.is_so(acting, wanted, &subject, |_, member| member == Some(role)) {
            return Ok(done);
        }
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
        let done = self.is_so(acting, wanted, &subject, |replica, member| match then {
            Standing::Out => member.is_none() && replica.best_grant(&subject).is_none(),
            Standing::Banned => replica.is_banned(&subject),
            Standing::Free => !replica.is_banned(&subject),
            Standing::Demoted(role) => member == Some(role),
        });
        if let Some(done) = done {
            return Ok(done);
        }
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

    /// The receipt of a wish that changes nothing: a door may hand in the same one again. `is_so` is
    /// asked with the role that the person has as a member. Who is no member is told that instead.
    fn is_so(
        &self,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        person: &Identity,
        is_so: impl Fn(&Replica, Option<Role>) -> bool,
    ) -> Option<Receipt> {
        let id = self.directory.find(wanted)?;
        let replica = &self.directory.get(&id)?.replica;
        let state = replica.state();
        if !state.is_member(&acting.person.identity) {
            return None;
        }
        let role = state.is_member(person).then(|| state.person(person)).flatten().map(|member| member.role);
        is_so(replica, role).then_some(Receipt { channel: Some(id), ..Receipt::default() })
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
        let standing = replica.best_standing(&identity, above);
        let takes = match (standing, lane) {
            (Some((_, rank)), lane) => lane.is_none_or(|lane| rank < lane),
            // In by another device, and this one is new: so it is after the node was restored.
            (None, lane) => lane.is_none() && replica.may_join(&identity),
        };
        if takes {
            let grant = standing.and_then(|(grant, _)| grant);
            let joining = Joining { grant, ..self.joining(turn, acting, &id)? };
            self.act(turn, acting, id, Act::JoinChannel(joining), None)?;
        }
        Ok(())
    }

    /// The person of a channel that somebody means: by identity, by account, or by user name where
    /// one person alone goes by it. Those in the channel come before those who left it.
    pub(super) fn subject(&self, wanted: &ChannelRef, subject: &Subject) -> Result<Identity, Refusal> {
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
        // A Matrix user may be let in or kept out before they were ever here.
        if name.starts_with('@') && name.contains(':') && is_account(name) {
            return Ok(by_account);
        }
        Err(nobody())
    }
}

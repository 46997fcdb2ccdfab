//! Wishes about other people: granting and revoking roles.

use super::admit::Acting;
use super::submit::{clipped, no_such};
use super::{Node, Receipt, Refusal, Turn};
use crate::base::{ChannelId, Identity};
use crate::chat::access::Role;
use crate::chat::act::{Act, Standing};
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
        self.act_in(turn, acting, wanted, Act::GrantRole { subject, role }, None)
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
        let act = Act::RevokeRole { subject, then, reason: clipped(reason) };
        self.act_in(turn, acting, wanted, act, None)
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

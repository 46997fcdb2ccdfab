//! Channels of workspaces: what a node does so that what a workspace decides reaches its channels
//! (see `replica::above` for what that means), and who is in the workspace that is in its channel.

use super::admit::{Acting, refusal};
use super::submit::no_such;
use super::{Node, Receipt, Refusal, Turn};
use crate::base::{ChannelId, Identity};
use crate::chat::act::{Act, Ancestry, Anchor, Joining, Standing, Under};
use crate::chat::channel::Change;
use crate::chat::intent::ChannelRef;
use crate::chat::name::ChannelName;
use crate::replica::{Event, Header, Invalid, Replica, Unfounded};

/// Where a channel is to be founded.
pub(super) struct Site {
    /// The name it gives itself.
    pub name: ChannelName,
    pub ancestry: Ancestry,
}

impl Node {
    /// What a name says of the channel to be founded: `#team/` is a workspace, `#team/garden` a channel of
    /// it if `#team` is one here; anything else is just a name.
    pub(super) fn site(&self, name: &ChannelName) -> Site {
        let whole = || Site { name: name.clone(), ancestry: Ancestry::default() };
        let Some((above, below)) = name.as_str().split_once('/') else { return whole() };
        if below.is_empty() {
            let Ok(name) = above.parse() else { return whole() };
            return Site { name, ancestry: Ancestry { is_workspace: true, ..Ancestry::default() } };
        }
        let found = self.directory.find(&ChannelRef::Name(above.to_owned()));
        let workspace = found.filter(|id| {
            self.directory.get(id).is_some_and(|found| found.replica.state().ancestry().is_workspace)
        });
        match (workspace, format!("#{below}").parse()) {
            (Some(workspace), Ok(name)) => {
                Site { name, ancestry: Ancestry { workspace: Some(workspace), ..Ancestry::default() } }
            }
            _ => whole(),
        }
    }

    /// Founds a channel where its name says. A workspace takes it in before it is there, so that nobody
    /// who has the channel first wonders whether it counts.
    pub(super) fn found_at(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        site: Site,
        topic: String,
    ) -> Result<Receipt, Refusal> {
        let Site { name, ancestry } = site;
        let workspace = ancestry.workspace;
        let mut founder = acting.person.joining(acting.submission.via.clone());
        if let Some(workspace) = workspace {
            founder.under = Some(self.citizenship(turn, acting, workspace)?);
        }
        let header = Header {
            version: crate::replica::event::VERSION,
            channel: None,
            device: acting.person.device.public(),
            seq: 0,
            prev: None,
            deps: Vec::new(),
            timestamp: turn.now,
            act: Act::CreateChannel { name, topic, founder, ancestry },
            payload: None,
        };
        header.check().map_err(|malformed| refusal(&Invalid::Malformed(malformed)))?;
        let event = Event::sign(header, &acting.person.device);
        if let Some(workspace) = workspace {
            let channel = event.channel();
            self.act(turn, acting, workspace, Act::AddChannel { channel }, None)?;
        }
        let id = self.found(turn, &event, Some(acting.submission)).map_err(|unfounded| match unfounded {
            Unfounded::Refused(invalid) => refusal(&invalid),
            Unfounded::Waiting(_) => Refusal::Malformed("its workspace is not there"),
        })?;
        turn.broadcast(self.last_position);
        Ok(Receipt { channel: Some(id), event: Some(event.id()), ..Receipt::default() })
    }

    /// The channel of this name that is shared into a workspace: founding it there takes it in.
    pub(super) fn shared_into(&self, workspace: &ChannelId, name: &ChannelName) -> Option<ChannelId> {
        let is_meant = |replica: &Replica| {
            replica.state().name() == Some(name) && replica.policy().shared.contains(workspace)
        };
        self.directory.iter().find(|(_, channel)| is_meant(&channel.replica)).map(|(id, _)| *id)
    }

    /// A workspace takes in a channel that is shared into it.
    pub(super) fn take_into(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        workspace: ChannelId,
        channel: ChannelId,
    ) -> Result<Receipt, Refusal> {
        self.prepare(turn, acting, workspace, false)?;
        let receipt = self.act(turn, acting, workspace, Act::AddChannel { channel }, None)?;
        Ok(Receipt { channel: Some(channel), ..receipt })
    }

    /// The actor's lane in a workspace, with all that was seen of it; they join if they may.
    fn citizenship(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        workspace: ChannelId,
    ) -> Result<Under, Refusal> {
        self.take_up_grant(turn, acting, workspace)?;
        self.ensure_member(turn, acting, workspace)?;
        let replica = self.replica(&workspace)?;
        let lane = replica.live_lane(&acting.person.device.public()).ok_or(Refusal::NotAMember)?;
        Ok(Under { lane: lane.opening, seen: replica.seen() })
    }

    /// Who the actor is for a lane in a channel: of a channel of a workspace, a member of the workspace, or
    /// else of one that it is shared into.
    pub(super) fn joining(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        id: &ChannelId,
    ) -> Result<Joining, Refusal> {
        let mut joining = acting.person.joining(acting.submission.via.clone());
        let replica = self.replica(id)?;
        let Some(home) = replica.state().ancestry().workspace else { return Ok(joining) };
        let device = acting.person.device.public();
        let is_in = |workspace: &ChannelId| {
            self.replica(workspace).is_ok_and(|above| above.live_lane(&device).is_some())
        };
        let shared: Vec<ChannelId> = replica.policy().shared.into_iter().collect();
        let guest_of = shared.iter().find(|workspace| !is_in(&home) && is_in(workspace));
        let mut under = self.citizenship(turn, acting, guest_of.copied().unwrap_or(home))?;
        let (replica, above) = (self.replica(id)?, self.replica(&under.seen.workspace)?);
        under.seen.heads = replica.unseen(above, None).map(|seen| seen.heads).unwrap_or_default();
        joining.under = Some(under);
        Ok(joining)
    }

    /// Before the actor does something on their lane: says what of the workspaces above is not yet known
    /// in the channel. Whatever keeps that from being said does not keep them from what they want.
    pub(super) fn catch_up(&mut self, turn: &mut Turn, acting: &Acting<'_>, id: &ChannelId) {
        for anchor in self.unsaid(acting, id) {
            if let Err(refusal) = self.act(turn, acting, *id, Act::Anchor(anchor), None) {
                self.count_refused(refusal.reason());
            }
        }
    }

    fn unsaid(&self, acting: &Acting<'_>, id: &ChannelId) -> Vec<Anchor> {
        let Ok(replica) = self.replica(id) else { return Vec::new() };
        let Some(lane) = replica.live_lane(&acting.person.device.public()) else { return Vec::new() };
        let above = replica.workspaces().filter_map(|workspace| self.replica(&workspace).ok());
        above.filter_map(|above| replica.unseen(above, Some(lane))).collect()
    }

    /// Somebody was removed from a workspace by the actor: in each of its channels where they are, the
    /// actor says so, and enters for that if need be. What the removed say there afterwards is void.
    pub(super) fn draw_lines(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        workspace: &ChannelId,
        (subject, then): (&Identity, Standing),
    ) {
        if then == Standing::Free {
            return;
        }
        for part in self.directory.parts(workspace) {
            let is_there = self.replica(&part).is_ok_and(|replica| replica.state().person(subject).is_some());
            if !is_there {
                continue;
            }
            self.catch_up(turn, acting, &part);
            if let Err(refusal) = self.ensure_member(turn, acting, part) {
                self.count_refused(refusal.reason());
            }
        }
    }

    /// Who leaves a workspace leaves its channels.
    pub(super) fn leave_parts(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        workspace: &ChannelId,
        reason: &str,
    ) -> Result<(), Refusal> {
        let device = acting.person.device.public();
        for part in self.directory.parts(workspace) {
            let through = |replica: &Replica| {
                let lane = replica.live_lane(&device)?;
                lane.under().filter(|(above, _)| above == workspace)
            };
            if self.replica(&part).ok().and_then(through).is_some() {
                let act = Act::LeaveChannel { reason: reason.to_owned() };
                self.act(turn, acting, part, act, None)?;
            }
        }
        Ok(())
    }

    /// A channel was shared: its other workspace takes it in, if the actor may say so there. Else
    /// somebody of it does later, by founding a channel of that name in it.
    pub(super) fn share(&mut self, turn: &mut Turn, acting: &Acting<'_>, id: ChannelId, change: &Change) {
        let Change::Shared { workspace, is_shared: true } = change else { return };
        let is_new = self.replica(workspace).is_ok_and(|above| !above.has_channel(&id));
        if !is_new {
            return;
        }
        if let Err(refusal) = self.act(turn, acting, *workspace, Act::AddChannel { channel: id }, None) {
            self.count_refused(refusal.reason());
        }
    }

    /// A workspace decided something: its channels settle anew, and what turned is told.
    pub(super) fn refresh_parts(&mut self, turn: &mut Turn, workspace: &ChannelId) {
        for part in self.directory.parts(workspace) {
            let flips = self.directory.refresh(&part, workspace);
            self.tell_flips(turn, &part, &flips);
            self.resettle_texts(turn, part);
            self.decide_deals(turn, &part);
        }
    }

    /// Something changed in a channel that deals with other channels may hang on.
    pub(super) fn decide_deals(&mut self, turn: &mut Turn, id: &ChannelId) {
        for (id, turned) in self.directory.decide(id) {
            self.tell_flips(turn, &id, &turned.flips);
            self.resettle_texts(turn, id);
            self.drop_spent(id);
            if turned.rules {
                self.refresh_parts(turn, &id);
            }
        }
    }

    pub(super) fn replica(&self, id: &ChannelId) -> Result<&Replica, Refusal> {
        let channel = self.directory.get(id).ok_or_else(|| no_such(&ChannelRef::Id(*id)))?;
        Ok(&channel.replica)
    }

    /// Whether somebody was put out of a channel or of its workspace, and has not come back since.
    pub(super) fn is_removed(&self, id: &ChannelId, person: &Identity) -> bool {
        let Ok(replica) = self.replica(id) else { return false };
        let home = replica.state().ancestry().workspace;
        replica.is_removed(person) || home.is_some_and(|home| self.is_removed(&home, person))
    }
}

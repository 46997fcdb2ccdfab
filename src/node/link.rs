//! Links: which channels this node carries to which places. Local, never replicated.

use super::admit::Acting;
use super::submit::no_such;
use super::{Delivery, Door, Node, Output, Receipt, Refusal, Turn, Write, news};
use crate::base::ChannelId;
use crate::chat::access::Role;
use crate::chat::intent::ChannelRef;
use crate::chat::message::Link;
use crate::chat::view::Member;

impl Node {
    pub(super) fn link(
        &mut self,
        turn: &mut Turn,
        acting: &Acting<'_>,
        wanted: &ChannelRef,
        link: &Link,
        create: bool,
    ) -> Result<Receipt, Refusal> {
        if let Some(channel) = self.routes.channel(link) {
            let name = self.directory.get(&channel).map(|channel| channel.name.clone()).unwrap_or_default();
            return match self.directory.find(wanted) {
                Some(same) if same == channel => {
                    Ok(Receipt { channel: Some(channel), event: None, ..Receipt::default() })
                }
                _ => Err(Refusal::LinkTaken(name)),
            };
        }
        let receipt = match self.directory.find(wanted) {
            Some(channel) => Receipt { channel: Some(channel), event: None, ..Receipt::default() },
            None if create => self.join(turn, acting, wanted, true)?,
            None => return Err(no_such(wanted)),
        };
        let Some(channel) = receipt.channel else { return Err(no_such(wanted)) };
        self.routes.insert(link.clone(), channel);
        turn.writes.push(Write::Link { link: link.clone(), channel, since: self.last_position });
        self.tell_link(turn, channel, link, true);
        Ok(receipt)
    }

    pub(super) fn unlink(&mut self, turn: &mut Turn, link: &Link) -> Result<Receipt, Refusal> {
        let channel = self.routes.remove(link).ok_or(Refusal::NoSuchLink)?;
        turn.writes.extend(self.outbox.drop_link(link));
        turn.writes.push(Write::Unlink { link: link.clone() });
        self.tell_link(turn, channel, link, false);
        Ok(Receipt { channel: Some(channel), event: None, ..Receipt::default() })
    }

    fn tell_link(&mut self, turn: &mut Turn, channel: ChannelId, link: &Link, up: bool) {
        let door = Door::of(link);
        let Some(channel) = self.directory.get(&channel) else { return };
        if !self.open_doors.contains(&door) {
            return;
        }
        let (node, _) = self.people.node();
        let node = Member { identity: node.identity, role: Role::Member, profile: node.profile };
        let news = news::of_link(channel, node, self.last_position, turn.now, link, up);
        let delivery = Delivery { id: 0, link: Some(link.clone()), uncertain: false, news };
        turn.effects.push(Output::Deliver { door, delivery: Box::new(delivery) });
    }
}

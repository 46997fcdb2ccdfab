//! Which links carry which channels, and what may cross which link.

use std::collections::BTreeMap;

use crate::base::ChannelId;
use crate::chat::message::Link;

/// The links of this node.
#[derive(Default)]
pub(super) struct Routes {
    channels: BTreeMap<Link, ChannelId>,
    links: BTreeMap<ChannelId, Vec<Link>>,
}

impl Routes {
    pub fn insert(&mut self, link: Link, channel: ChannelId) {
        self.links.entry(channel).or_default().push(link.clone());
        self.channels.insert(link, channel);
    }

    /// Removes a link; the channel it carried.
    pub fn remove(&mut self, link: &Link) -> Option<ChannelId> {
        let channel = self.channels.remove(link)?;
        if let Some(links) = self.links.get_mut(&channel) {
            links.retain(|other| other != link);
        }
        Some(channel)
    }

    pub fn channel(&self, link: &Link) -> Option<ChannelId> {
        self.channels.get(link).copied()
    }

    pub fn links(&self, channel: &ChannelId) -> &[Link] {
        self.links.get(channel).map_or(&[], Vec::as_slice)
    }

    /// The links that take what came in over `origin`: never that one itself, and nothing goes
    /// from one IRC network to another, for network operators forbid double bridging.
    pub fn targets(&self, channel: &ChannelId, origin: Option<&Link>) -> Vec<Link> {
        let may_cross = |link: &&Link| match (origin, link) {
            (Some(origin), link) if origin == *link => false,
            (Some(Link::Irc { .. }), Link::Irc { .. }) => false,
            _ => true,
        };
        self.links(channel).iter().filter(may_cross).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_returns_to_its_link_or_crosses_between_networks() {
        let channel = ChannelId::default();
        let irc = |network: &str| Link::Irc { network: network.into(), channel: "#a".into() };
        let matrix = |room: &str| Link::Matrix { room: room.into() };
        let mut routes = Routes::default();
        for link in [irc("one"), irc("two"), matrix("!1"), matrix("!2")] {
            routes.insert(link, channel);
        }
        assert_eq!(routes.targets(&channel, Some(&irc("one"))), [matrix("!1"), matrix("!2")]);
        assert_eq!(routes.targets(&channel, Some(&matrix("!1"))), [irc("one"), irc("two"), matrix("!2")]);
        assert_eq!(routes.targets(&channel, None).len(), 4);
        assert_eq!(routes.remove(&irc("one")), Some(channel));
        assert_eq!(routes.remove(&irc("one")), None);
        assert_eq!(routes.links(&channel).len(), 3);
    }
}

//! The `gossip` topology: what becomes of a packet, given whom this node is connected to. Decides
//! only; whoever asks does the sending.
//!
//! A broadcast alone is not enough in a small or young domain: a peer may be up whose subscription
//! has not arrived yet, or nobody may be subscribed at all. Such peers get the packet directly, so
//! that nothing is lost in silence with two nodes.

use super::Destination;
use crate::base::{NodeId, limits};

/// A peer that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub node: NodeId,
    /// Whether its subscription to the domain's topic has arrived here.
    pub subscribed: bool,
}

/// What becomes of one packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Publish it to the domain's topic.
    pub publish: bool,
    /// Send it to each of these by request.
    pub direct: Vec<NodeId>,
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWay {
    /// Longer than `limits::PACKET_BYTES`, or empty: the peer would refuse it.
    Length,
    /// The peer it is for is not up.
    NotUp,
}

/// Why the topic did not take a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unpublished {
    /// Nobody is subscribed.
    NobodyListens,
    /// The same bytes went over the topic lately, so peers would take them for a duplicate.
    SentLately,
    /// Every queue is full.
    Overloaded,
}

/// What becomes of a packet of `length` bytes.
///
/// # Errors
/// [`NoWay`].
pub fn plan(destination: Destination, length: usize, neighbours: &[Neighbour]) -> Result<Plan, NoWay> {
    if length == 0 || length > limits::PACKET_BYTES {
        return Err(NoWay::Length);
    }
    match destination {
        Destination::Peer(node) => {
            if neighbours.iter().any(|neighbour| neighbour.node == node) {
                Ok(Plan { publish: false, direct: vec![node] })
            } else {
                Err(NoWay::NotUp)
            }
        }
        Destination::Domain if length > limits::BROADCAST_BYTES => {
            Ok(Plan { publish: false, direct: neighbours.iter().map(|neighbour| neighbour.node).collect() })
        }
        Destination::Domain => {
            let deaf = neighbours.iter().filter(|neighbour| !neighbour.subscribed);
            Ok(Plan { publish: true, direct: deaf.map(|neighbour| neighbour.node).collect() })
        }
    }
}

/// Whom to send a packet to directly because publishing it failed. Those that [`plan`] named are
/// not named again. When overloaded, nobody: more work would not help, and reconciliation repairs.
pub fn instead(why: Unpublished, neighbours: &[Neighbour]) -> Vec<NodeId> {
    match why {
        Unpublished::Overloaded => Vec::new(),
        Unpublished::NobodyListens | Unpublished::SentLately => neighbours
            .iter()
            .filter(|neighbour| neighbour.subscribed)
            .map(|neighbour| neighbour.node)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: Neighbour = Neighbour { node: NodeId([1; 32]), subscribed: true };
    const DEAF: Neighbour = Neighbour { node: NodeId([2; 32]), subscribed: false };
    const BOTH: [Neighbour; 2] = [LISTENING, DEAF];

    #[test]
    fn a_short_packet_is_published_and_sent_to_those_who_would_miss_it() {
        let expect = Plan { publish: true, direct: vec![DEAF.node] };
        assert_eq!(plan(Destination::Domain, limits::BROADCAST_BYTES, &BOTH), Ok(expect));
        assert_eq!(plan(Destination::Domain, 1, &[]), Ok(Plan { publish: true, direct: vec![] }));
    }

    #[test]
    fn a_long_packet_goes_to_each_peer() {
        let expect = Plan { publish: false, direct: vec![LISTENING.node, DEAF.node] };
        assert_eq!(plan(Destination::Domain, limits::BROADCAST_BYTES + 1, &BOTH), Ok(expect));
    }

    #[test]
    fn a_packet_for_a_peer_goes_to_that_peer_alone_if_it_is_up() {
        let expect = Plan { publish: false, direct: vec![DEAF.node] };
        assert_eq!(plan(Destination::Peer(DEAF.node), 1, &BOTH), Ok(expect));
        assert_eq!(plan(Destination::Peer(DEAF.node), 1, &[LISTENING]), Err(NoWay::NotUp));
    }

    #[test]
    fn what_a_peer_would_refuse_is_not_sent() {
        for destination in [Destination::Domain, Destination::Peer(DEAF.node)] {
            assert_eq!(plan(destination, limits::PACKET_BYTES + 1, &BOTH), Err(NoWay::Length));
            assert_eq!(plan(destination, 0, &BOTH), Err(NoWay::Length));
            assert!(plan(destination, limits::PACKET_BYTES, &BOTH).is_ok());
        }
    }

    #[test]
    fn whoever_a_failed_broadcast_was_for_gets_it_once() {
        let planned = plan(Destination::Domain, 1, &BOTH).unwrap().direct;
        for why in [Unpublished::NobodyListens, Unpublished::SentLately] {
            let mut reached = [planned.clone(), instead(why, &BOTH)].concat();
            reached.sort();
            assert_eq!(reached, [LISTENING.node, DEAF.node]);
        }
        assert!(instead(Unpublished::Overloaded, &BOTH).is_empty());
    }
}

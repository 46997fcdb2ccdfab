//! Signs that a domain is being taken over: Sybils (many members, one hand) and eclipse (a node that
//! is shown nothing but members of that hand). Pure counting over contacts; what follows from a sign is
//! for others to decide. A sign is a reason to look, not a proof.

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::overlay::topology::Contact;

/// Standard deviations beyond which a count is taken for no accident: with a normal tail, about three
/// in a hundred thousand looks.
const DEVIATIONS: f64 = 4.0;
/// Below so many contacts nothing is said.
const FEW: usize = 8;

/// What looks wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Sign {
    /// Too many contacts are of one neighbourhood of addresses: its share of all that have one.
    OneNeighbourhood { share: f64 },
    /// Ids lie too close around a key: how many times denser than members as a whole. Somebody chose
    /// keys to surround it (Kademlia eclipse).
    Crowded { times: f64 },
    /// One node is named by others far more often than chance explains.
    OverRepresented { node: NodeId, times: f64 },
}

/// Whether one neighbourhood of addresses holds more than `most` of the contacts.
pub fn diversity(contacts: &[Contact], most: f64) -> Option<Sign> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for near in contacts.iter().filter_map(Contact::neighbourhood) {
        *counts.entry(near).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let largest = counts.values().max().copied().unwrap_or(0);
    let share = largest as f64 / all.max(1) as f64;
    (all >= FEW && share > most).then_some(Sign::OneNeighbourhood { share })
}

/// Whether the nodes nearest to `key` are nearer than `members` uniform ids would be. Of `n` uniform
/// ids the `i`-th nearest lies at about `i/(n+1)` of the key space; the `k`-th distance times `n` is
/// then Gamma distributed with mean `k` and deviation `√k`.
pub fn density(key: &[u8; 32], nearest: &[NodeId], members: usize) -> Option<Sign> {
    if nearest.len() < FEW || members < nearest.len() * 2 {
        return None;
    }
    let mut distances: Vec<f64> = nearest.iter().map(|node| fraction(&node.0, key)).collect();
    distances.sort_by(f64::total_cmp);
    let k = distances.len() as f64;
    let farthest = distances.last().copied()? * members as f64;
    let crowded = farthest < k - DEVIATIONS * k.sqrt() || farthest < k / 8.0;
    crowded.then(|| Sign::Crowded { times: k / farthest.max(f64::MIN_POSITIVE) })
}

/// The most over-represented node in the contacts that others named: `mentions` of each, when every one of
/// them was equally likely. Counts are then about Poisson.
pub fn representation(mentions: &BTreeMap<NodeId, u32>) -> Option<Sign> {
    if mentions.len() < FEW {
        return None;
    }
    // The median, because those who push themselves forward would raise the mean.
    let mut counts: Vec<u32> = mentions.values().copied().collect();
    counts.sort_unstable();
    let usual = f64::from(counts[counts.len() / 2].max(1));
    let (node, most) = mentions.iter().max_by_key(|(_, count)| **count)?;
    let most = f64::from(*most);
    (most > usual + DEVIATIONS * usual.sqrt() + 1.0)
        .then_some(Sign::OverRepresented { node: *node, times: most / usual })
}

/// The XOR distance as a fraction of the key space.
fn fraction(a: &[u8; 32], b: &[u8; 32]) -> f64 {
    let mut bytes = [0; 8];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = a[at] ^ b[at];
    }
    u64::from_be_bytes(bytes) as f64 / 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::overlay::chance::Chance;
    use crate::overlay::topology::Route;

    fn contact(ip: [u8; 4]) -> Contact {
        let route = Route { at: SocketAddr::from((ip, 1)), quic: true };
        Contact { node: NodeId([ip[0]; 32]), routes: Arc::new([route]) }
    }

    fn uniform(count: usize, chance: &mut Chance) -> Vec<NodeId> {
        let mut node = || {
            let words = [chance.bits(), chance.bits(), chance.bits(), chance.bits()];
            let mut bytes = [0; 32];
            for (at, word) in words.iter().enumerate() {
                bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_be_bytes());
            }
            NodeId(bytes)
        };
        (0..count).map(|_| node()).collect()
    }

    #[test]
    fn many_of_one_neighbourhood_are_a_sign() {
        let mut contacts: Vec<Contact> = (1..20).map(|n| contact([n, n, 0, 1])).collect();
        assert_eq!(diversity(&contacts, 0.3), None);
        contacts.extend((0..20).map(|n| contact([77, 1, 0, n])));
        assert!(matches!(diversity(&contacts, 0.3), Some(Sign::OneNeighbourhood { share }) if share > 0.5));
    }

    #[test]
    fn chosen_ids_around_a_key_are_a_sign_and_uniform_ones_are_not() {
        let mut chance = Chance::numbered(3, 0);
        let key = [5; 32];
        for _ in 0..200 {
            let mut nodes = uniform(1_000, &mut chance);
            nodes.sort_by(|a, b| fraction(&a.0, &key).total_cmp(&fraction(&b.0, &key)));
            assert_eq!(density(&key, &nodes[..16], 1_000), None);
        }
        let mut eclipse = uniform(16, &mut chance);
        for node in &mut eclipse {
            node.0[..3].copy_from_slice(&key[..3]);
        }
        assert!(matches!(density(&key, &eclipse, 1_000), Some(Sign::Crowded { times }) if times > 100.0));
    }

    #[test]
    fn whoever_is_named_too_often_stands_out() {
        let mut chance = Chance::numbered(4, 0);
        let nodes = uniform(50, &mut chance);
        let mut mentions: BTreeMap<NodeId, u32> = nodes.iter().map(|node| (*node, 0)).collect();
        for _ in 0..500 {
            let node = nodes[chance.below(50)];
            *mentions.entry(node).or_default() += 1;
        }
        assert_eq!(representation(&mentions), None);
        mentions.insert(nodes[7], 90);
        assert!(
            matches!(representation(&mentions), Some(Sign::OverRepresented { node, .. }) if node == nodes[7])
        );
    }
}

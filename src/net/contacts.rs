//! Whom to dial, at which addresses and when: peers named in the configuration for ever, peers
//! found on the LAN or met before for a while. Knows no clock (milliseconds are arguments) and
//! never dials itself.

use std::collections::BTreeMap;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::bounds;

/// Names a contact: a peer, or an address at which we do not know yet who answers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    Peer(PeerId),
    Address(String),
}

/// A dial to make now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dial {
    pub key: Key,
    /// Who must answer, where that is known.
    pub peer: Option<PeerId>,
    pub addresses: Vec<Multiaddr>,
}

/// Everyone this node knows how to reach.
pub struct Contacts {
    local: PeerId,
    contacts: BTreeMap<Key, Contact>,
}

struct Contact {
    addresses: Vec<Multiaddr>,
    /// Until when to try; `None` for ever.
    until: Option<u64>,
    /// Who answered last, for a contact known by its address.
    answered: Option<PeerId>,
    dialling: bool,
    attempts: u32,
    next_at: u64,
}

impl Contacts {
    /// Nobody yet. `local` is this node, which is never dialled.
    pub fn new(local: PeerId) -> Self {
        Self { local, contacts: BTreeMap::new() }
    }

    /// Adds an address from the configuration, with or without `/p2p/<peer id>` at its end.
    pub fn bootstrap(&mut self, address: Multiaddr) {
        let (key, address) = match split(&address) {
            (bare, Some(peer)) => (Key::Peer(peer), bare),
            (bare, None) => (Key::Address(bare.to_string()), bare),
        };
        if key == Key::Peer(self.local) {
            return;
        }
        let contact = self.contacts.entry(key).or_insert_with(|| Contact::new(0));
        contact.until = None;
        contact.add(address);
    }

    /// Notes where a peer may be reached, and that it is worth trying for a while from now on.
    pub fn learn(&mut self, peer: PeerId, address: &Multiaddr, now: u64) {
        let (address, named) = split(address);
        if peer == self.local || named.is_some_and(|named| named != peer) {
            return;
        }
        let known = self.contacts.contains_key(&Key::Peer(peer));
        let fleeting = self.contacts.values().filter(|contact| contact.until.is_some()).count();
        if !known && fleeting >= bounds::CONTACTS {
            return;
        }
        let contact = self.contacts.entry(Key::Peer(peer)).or_insert_with(|| Contact::new(now));
        if contact.until.is_some() {
            contact.until = Some(now + bounds::REMEMBER_MS);
        }
        contact.add(address);
    }

    /// The dials to make now. Each stays under way until [`Self::answered`] or [`Self::failed`].
    pub fn due(&mut self, now: u64, connected: impl Fn(&PeerId) -> bool) -> Vec<Dial> {
        self.contacts.retain(|key, contact| {
            contact.dialling
                || contact.peer(key).is_some_and(|peer| connected(&peer))
                || contact.until.is_none_or(|until| now < until)
        });
        let mut room = bounds::DIALS.saturating_sub(self.contacts.values().filter(|c| c.dialling).count());
        let mut dials = Vec::new();
        for (key, contact) in &mut self.contacts {
            let there = contact.peer(key).is_some_and(|peer| connected(&peer));
            if room == 0 || there || contact.dialling || now < contact.next_at {
                continue;
            }
            room -= 1;
            contact.dialling = true;
            let peer = if let Key::Peer(peer) = key { Some(*peer) } else { None };
            dials.push(Dial { key: key.clone(), peer, addresses: contact.addresses.clone() });
        }
        dials
    }

    /// A dial of one peer, out of turn; `None` if one is under way, or there is nowhere to dial.
    pub fn dial_now(&mut self, peer: PeerId) -> Option<Dial> {
        let key = Key::Peer(peer);
        let contact = self.contacts.get_mut(&key)?;
        if contact.dialling || contact.addresses.is_empty() {
            return None;
        }
        contact.dialling = true;
        Some(Dial { key, peer: Some(peer), addresses: contact.addresses.clone() })
    }

    /// Whether a dial of this peer is under way.
    pub fn is_dialling(&self, peer: PeerId) -> bool {
        self.contacts.get(&Key::Peer(peer)).is_some_and(|contact| contact.dialling)
    }

    /// A dial led to a connection with `peer`.
    pub fn answered(&mut self, key: &Key, peer: PeerId) {
        if let Some(contact) = self.contacts.get_mut(key) {
            contact.dialling = false;
            contact.answered = Some(peer);
        }
    }

    /// A dial led nowhere. Returns whether it was the first of a row, to someone the configuration
    /// names: worth a line in the log.
    pub fn failed(&mut self, key: &Key, now: u64) -> bool {
        let Some(contact) = self.contacts.get_mut(key) else { return false };
        contact.dialling = false;
        contact.answered = None;
        contact.wait(now);
        contact.until.is_none() && contact.attempts == 1
    }

    /// A dial found somebody else at `address`. One such address would spoil every dial of the peer,
    /// because the first that answers decides: it is forgotten while there are others.
    pub fn wrong(&mut self, key: &Key, address: &Multiaddr, now: u64) -> bool {
        if let Some(contact) = self.contacts.get_mut(key) {
            let (address, _) = split(address);
            if contact.addresses.len() > 1 {
                contact.addresses.retain(|known| *known != address);
            }
        }
        self.failed(key, now)
    }

    /// The dial reached this very node: it is not made again.
    pub fn is_self(&mut self, key: &Key) {
        self.contacts.remove(key);
    }

    /// A peer has shown to be a member of the domain: when it goes away, waiting starts afresh.
    pub fn proved(&mut self, peer: PeerId) {
        for contact in self.of(peer) {
            contact.attempts = 0;
        }
    }

    /// The last connection with a peer closed.
    pub fn gone(&mut self, peer: PeerId, now: u64) {
        for contact in self.of(peer) {
            contact.wait(now);
            if contact.until.is_some() {
                contact.until = Some(now + bounds::REMEMBER_MS);
            }
        }
    }

    /// A peer turned out to be no member of the domain: it is left alone for a while.
    pub fn stranger(&mut self, peer: PeerId, now: u64) {
        for contact in self.of(peer) {
            contact.next_at = now + bounds::STRANGER_MS;
        }
    }

    fn of(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Contact> {
        self.contacts
            .iter_mut()
            .filter(move |(key, contact)| contact.peer(key) == Some(peer))
            .map(|(_, contact)| contact)
    }
}

impl Contact {
    fn new(now: u64) -> Self {
        Self {
            addresses: Vec::new(),
            until: Some(now + bounds::REMEMBER_MS),
            answered: None,
            dialling: false,
            attempts: 0,
            next_at: 0,
        }
    }

    fn peer(&self, key: &Key) -> Option<PeerId> {
        match key {
            Key::Peer(peer) => Some(*peer),
            Key::Address(_) => self.answered,
        }
    }

    fn add(&mut self, address: Multiaddr) {
        if !self.addresses.contains(&address) && self.addresses.len() < bounds::ADDRESSES_PER_CONTACT {
            self.addresses.push(address);
        }
    }

    /// Never shortens a wait that is longer already.
    fn wait(&mut self, now: u64) {
        let wait = bounds::DIAL_FIRST_MS << self.attempts.min(16);
        self.next_at = self.next_at.max(now + wait.min(bounds::DIAL_MAX_MS));
        self.attempts = self.attempts.saturating_add(1);
    }
}

/// An address without its last `/p2p/<peer id>`, and that peer.
fn split(address: &Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut bare = address.clone();
    match bare.pop() {
        Some(Protocol::P2p(peer)) => (bare, Some(peer)),
        _ => (address.clone(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn nobody(_: &PeerId) -> bool {
        false
    }

    #[test]
    fn a_named_peer_is_tried_for_ever_with_growing_waits() {
        let peer = PeerId::random();
        let mut contacts = Contacts::new(PeerId::random());
        contacts.bootstrap(address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")));
        contacts.bootstrap(address(&format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{peer}")));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let dials = contacts.due(now, nobody);
            assert_eq!(dials.len(), 1, "one dial with both addresses");
            assert_eq!(dials[0].addresses.len(), 2);
            assert_eq!(contacts.due(now, nobody), [], "under way");
            assert_eq!(contacts.failed(&dials[0].key, now), waits.is_empty());
            let start = now;
            while contacts.contacts[&dials[0].key].next_at > now {
                assert_eq!(contacts.due(now, nobody), []);
                now += 250;
            }
            waits.push(now - start);
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_peer_that_was_up_and_went_is_tried_soon_again() {
        let peer = PeerId::random();
        let mut contacts = Contacts::new(PeerId::random());
        contacts.bootstrap(address("/ip4/127.0.0.1/tcp/1"));
        let key = contacts.due(0, nobody).remove(0).key;
        contacts.failed(&key, 0);
        assert_eq!(contacts.due(500, nobody).len(), 1);
        contacts.answered(&key, peer);
        contacts.proved(peer);
        assert_eq!(contacts.due(90_000, |connected| *connected == peer), []);
        contacts.gone(peer, 90_000);
        assert_eq!(contacts.due(90_400, nobody), []);
        assert_eq!(contacts.due(90_500, nobody).len(), 1);
    }

    #[test]
    fn a_peer_merely_met_is_forgotten_after_a_while() {
        let peer = PeerId::random();
        let mut contacts = Contacts::new(PeerId::random());
        contacts.learn(peer, &address("/ip4/127.0.0.1/tcp/1"), 0);
        let dial = contacts.due(0, nobody).remove(0);
        contacts.failed(&dial.key, 0);
        assert_eq!(contacts.due(bounds::REMEMBER_MS, nobody), []);
        assert!(contacts.contacts.is_empty());
    }

    #[test]
    fn strangers_are_left_alone_and_this_node_is_never_dialled() {
        let (local, peer) = (PeerId::random(), PeerId::random());
        let mut contacts = Contacts::new(local);
        contacts.bootstrap(address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{local}")));
        contacts.learn(local, &address("/ip4/127.0.0.1/tcp/1"), 0);
        assert_eq!(contacts.due(0, nobody), []);
        contacts.bootstrap(address("/ip4/127.0.0.1/tcp/2"));
        let key = contacts.due(0, nobody).remove(0).key;
        contacts.is_self(&key);
        assert_eq!(contacts.due(60_000, nobody), []);

        contacts.bootstrap(address("/ip4/127.0.0.1/tcp/3"));
        let key = contacts.due(0, nobody).remove(0).key;
        contacts.answered(&key, peer);
        contacts.stranger(peer, 0);
        contacts.gone(peer, 0);
        assert_eq!(contacts.due(bounds::STRANGER_MS - 1, nobody), []);
        assert_eq!(contacts.due(bounds::STRANGER_MS, nobody).len(), 1);
    }

    #[test]
    fn an_address_where_somebody_else_answers_does_not_spoil_the_others() {
        let peer = PeerId::random();
        let mut contacts = Contacts::new(PeerId::random());
        let (shared, own) = (address("/ip4/172.17.0.1/tcp/1"), address("/ip4/192.0.2.1/tcp/1"));
        contacts.learn(peer, &shared, 0);
        contacts.learn(peer, &own, 0);
        let key = contacts.due(0, nobody).remove(0).key;
        contacts.wrong(&key, &shared.with_p2p(peer).unwrap(), 0);
        assert_eq!(contacts.due(500, nobody)[0].addresses, std::slice::from_ref(&own));
        contacts.wrong(&key, &own, 500);
        assert_eq!(contacts.due(90_000, nobody)[0].addresses, [own], "the last is kept");
    }

    #[test]
    fn what_others_say_is_bounded() {
        let mut contacts = Contacts::new(PeerId::random());
        for _ in 0..bounds::CONTACTS + 10 {
            contacts.learn(PeerId::random(), &address("/ip4/127.0.0.1/tcp/1"), 0);
        }
        assert_eq!(contacts.contacts.len(), bounds::CONTACTS);
        assert_eq!(contacts.due(0, nobody).len(), bounds::DIALS);
        let peer = PeerId::random();
        contacts.bootstrap(address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")));
        for port in 1..100 {
            contacts.learn(peer, &address(&format!("/ip4/127.0.0.1/tcp/{port}")), 0);
        }
        assert_eq!(contacts.contacts[&Key::Peer(peer)].addresses.len(), bounds::ADDRESSES_PER_CONTACT);
        assert_eq!(contacts.contacts[&Key::Peer(peer)].until, None, "still from the configuration");
    }
}

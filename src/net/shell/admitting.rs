//! Which peer is let into which domain: asking, answering, and what follows once both let each other in. The
//! rules are `overlay::admission`'s.

use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::request_response::{self, Message, OutboundFailure, ResponseChannel};
use libp2p::{Multiaddr, PeerId, identify};

use super::super::inbox::Full;
use super::super::is_loopback;
use super::super::swarm::DOORS;
use super::Shell;
use crate::base::Timestamp;
use crate::overlay::admission::{Reply, Word};

impl Shell {
    pub(super) fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        if !info.protocols.iter().any(|protocol| protocol.as_ref() == DOORS) {
            tracing::debug!("peer {peer} ({}) is none of ours", info.agent_version);
            return self.turn_away(peer);
        }
        let near = is_loopback(&info.observed_addr);
        let dialable = |address: &&Multiaddr| near || !is_loopback(address);
        for address in info.listen_addrs.iter().filter(dialable) {
            self.contacts.learn(peer, address, self.now());
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.listens = info.listen_addrs;
        }
        self.ask(peer);
    }

    /// Asks a peer which of our domains it is in, once while it is connected.
    fn ask(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.question.is_none()) else { return };
        let mut nonce = [0; 32];
        if let Err(error) = getrandom::fill(&mut nonce) {
            return tracing::error!("no random bytes from the system, so peer {peer} is not asked: {error}");
        }
        known.question = Some(nonce);
        let question = Word::Who { nonce, claims: self.domains.claims() };
        self.swarm.behaviour_mut().doors.send_request(&peer, question.encode());
    }

    pub(super) fn on_door(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => self.on_word(peer, &request, channel),
            request_response::Event::Message {
                peer, message: Message::Response { response, .. }, ..
            } => self.on_reply(peer, &response),
            request_response::Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!("a question about domains to {peer} failed: {error}");
                // With another connection it may be asked again; whoever never answers is a stranger in the end.
                if matches!(error, OutboundFailure::ConnectionClosed)
                    && let Some(known) = self.peers.get_mut(&peer).filter(|known| !known.up)
                {
                    known.question = None;
                    self.ask(peer);
                }
            }
            _ => {}
        }
    }

    fn on_word(&mut self, peer: PeerId, bytes: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let Some(node) = self.peers.get_mut(&peer).map(|known| known.node) else { return };
        let reply = match Word::decode(bytes) {
            Ok(Word::Who { nonce, claims }) => self.domains.prove(node, nonce, &claims),
            Ok(Word::Verdict(verdict)) => {
                for (domain, refusal) in self.domains.heard(node, verdict) {
                    tracing::warn!("{peer} does not let this node into the domain {domain}: {refusal}");
                }
                Reply::Heard
            }
            Err(error) => {
                tracing::debug!("peer {peer} asks for what is no question: {error}");
                return self.turn_away(peer);
            }
        };
        // If it is gone meanwhile, it asks again.
        let _ = self.swarm.behaviour_mut().doors.send_response(channel, reply.encode());
        self.ask(peer);
        self.rise(peer);
    }

    fn on_reply(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let (node, nonce) = (known.node, known.question);
        match (Reply::decode(bytes), nonce) {
            (Ok(Reply::Am { proofs, welcome }), Some(nonce)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let now = Timestamp(u64::try_from(now).unwrap_or(u64::MAX));
                let verdict = self.domains.judge(node, nonce, &proofs, now);
                self.domains.heard(node, welcome.into_iter().map(|name| (name, None)).collect());
                if verdict.is_empty() {
                    // It stays until its time to show more is over: it may be asking us as well.
                    return tracing::debug!("peer {peer} is in no domain of ours");
                }
                for (domain, refusal) in &verdict {
                    if let Some(refusal) = refusal {
                        tracing::info!("{peer} was not let into the domain {domain}: {refusal}");
                    }
                }
                let verdict = Word::Verdict(verdict).encode();
                self.swarm.behaviour_mut().doors.send_request(&peer, verdict);
                self.rise(peer);
            }
            (Ok(_), _) => {}
            (Err(error), _) => {
                tracing::debug!("peer {peer} answers with what is no answer: {error}");
                self.turn_away(peer);
            }
        }
    }

    /// A peer speaks in a domain (or, `None`, as a peer that is up would): if we let it in, so does it.
    pub(super) fn presume(&mut self, peer: PeerId, domain: Option<usize>) {
        let Some(node) = self.peers.get_mut(&peer).map(|known| known.node) else { return };
        let domains = domain.map_or(0..self.domains.count(), |index| index..index + 1);
        let any = domains.filter(|index| self.domains.presume(*index, node)).count() > 0;
        if any {
            self.rise(peer);
        }
    }

    /// Tells the node of a peer that is up in its first domain, and the topology of each domain in which it is.
    fn rise(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let node = peer.node;
        let rising = self.domains.rising(node);
        if rising.is_empty() {
            return;
        }
        if !peer.up {
            if let Err(Full) = self.inbox.up(node) {
                self.domains.gone(node);
                let _ = self.swarm.disconnect_peer_id(id);
                return;
            }
            peer.up = true;
            tracing::info!("peer {id} is up");
        }
        let listens = peer.listens.clone();
        self.contacts.proved(id);
        for index in rising {
            self.member(index, |membership, now| membership.up(now, node, &listens));
        }
    }
}

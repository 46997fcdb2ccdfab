//! Who is let into a domain: what two nodes ask and tell each other about it when they meet, and what
//! counts as proof. Owns the words, their bytes and the rules; never who is connected.
//!
//! 1. Each asks the other: these are my domains, here is a nonce ([`Word::Who`]).
//! 2. The answer proves membership of each domain that both named ([`Reply::Am`](Reply)). A proof is bound to both
//!    nodes and to the nonce; the nodes are those whose keys the connection was made with, so that a proof
//!    heard elsewhere, or passed on, proves nothing.
//! 3. Whoever asked says whom it lets in, and if not, why ([`Word::Verdict`]).
//!
//! | admission | proof |
//! |---|---|
//! | `open` | none |
//! | `psk` | a keyed hash under the domain's pre-shared key. It can be guessed at by whoever hears it, so the key must not be guessable |
//! | `invite` | a [`Pass`]: the founder signed a guest's key, and the guest signs with that key. The founder's own node needs none |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::codec::{self, CodecError};
use crate::base::config::{Admission, DomainConfig, Topology};
use crate::base::key::{self, SecretKey, Signature};
use crate::base::{Digest, Identity, NodeId, Timestamp};

/// Bytes of one of these messages; a longer one is refused.
pub const BYTES: usize = 16 * 1024;
/// Domains that one node may be in; a message that names more is refused.
pub const DOMAINS: usize = 16;
/// Bytes of a domain's name in a message.
const NAME_BYTES: usize = 64;

/// What one node says to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Word {
    /// Who are you in these domains?
    Who { nonce: [u8; 32], claims: Vec<Claim> },
    /// What became of your proofs.
    Verdict(Vec<(String, Option<Refusal>)>),
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// A member of these. Whoever asks is let into the `welcome` ones already: it may have been restarted, and
    /// have forgotten, before the other noticed.
    Am { proofs: Vec<(Claim, Proof)>, welcome: Vec<String> },
    /// The verdict was heard.
    Heard,
}

/// A domain as one of its members has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub name: String,
    pub topology: Topology,
}

/// What shows that a node may be in a domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Proof {
    None,
    Key([u8; 32]),
    Guest { pass: Signed, signature: Signature },
}

/// The public part of a [`Pass`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed {
    guest: [u8; 32],
    /// When it ends, in ms since the Unix epoch; `u64::MAX` for never.
    expires: u64,
    signature: Signature,
}

/// Why a node is not let into a domain. Said to that node, so worded for whoever runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The domain has this topology there.
    Topology(Topology),
    NoKey,
    WrongKey,
    NoInvite,
    WrongInvite,
    Expired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(topology) => {
                write!(f, "its topology is `{}` there: set `topology` likewise", word(*topology))
            }
            Self::NoKey => {
                f.write_str("it asks for a pre-shared key: set `admission: psk` and `psk`, the domain's key")
            }
            Self::WrongKey => f.write_str("the pre-shared key is another one there: check `psk`"),
            Self::NoInvite => f.write_str(
                "it is for those who were invited: set `admission: invite` and `invite`, which its founder \
                 makes with `multichat domains invite`",
            ),
            Self::WrongInvite => f.write_str("the invite is not of this domain's founder: ask for another"),
            Self::Expired => f.write_str("the invite has expired: ask for another"),
        }
    }
}

/// The topology's name in the configuration.
pub fn word(topology: Topology) -> &'static str {
    match topology {
        Topology::Gossip => "gossip",
        Topology::Tree => "tree",
        Topology::Mesh => "mesh",
    }
}

impl Word {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`CodecError`], also for a list beyond its bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let read: Self = codec::decode(bytes, BYTES)?;
        let (count, names): (usize, bool) = match &read {
            Self::Who { claims, .. } => (claims.len(), claims.iter().all(|claim| is_short(&claim.name))),
            Self::Verdict(all) => (all.len(), all.iter().all(|(name, _)| is_short(name))),
        };
        if count > DOMAINS || !names { Err(CodecError::TooLong) } else { Ok(read) }
    }
}

impl Reply {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a peer's bytes.
    ///
    /// # Errors
    /// [`CodecError`], also for a list beyond its bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let read: Self = codec::decode(bytes, BYTES)?;
        match &read {
            Self::Am { proofs, welcome } => {
                let short =
                    proofs.iter().map(|(claim, _)| &claim.name).chain(welcome).all(|name| is_short(name));
                let few = proofs.len() <= DOMAINS && welcome.len() <= DOMAINS;
                if few && short { Ok(read) } else { Err(CodecError::TooLong) }
            }
            Self::Heard => Ok(read),
        }
    }
}

fn is_short(name: &str) -> bool {
    name.len() <= NAME_BYTES
}

/// Who proves something to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scene {
    pub prover: NodeId,
    pub verifier: NodeId,
    /// The verifier's.
    pub nonce: [u8; 32],
}

impl Scene {
    /// What is signed or hashed: both nodes, the nonce, the domain.
    fn bytes(&self, name: &str) -> Vec<u8> {
        let parts = [&self.prover.0[..], &self.verifier.0, &self.nonce, name.as_bytes()];
        [b"multichat domain 1 ".as_slice(), &parts.concat()].concat()
    }
}

/// One domain's rule, as one node has it.
#[derive(Clone, Debug)]
pub struct Gate {
    claim: Claim,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Open,
    Psk([u8; 32]),
    /// Whose signature counts, and what this node has from them unless it is them.
    Invite {
        founder: Identity,
        pass: Option<Box<Pass>>,
    },
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Psk(_) => "Psk(..)",
            Self::Invite { .. } => "Invite(..)",
        })
    }
}

impl Gate {
    /// The rule that an entry of `domains:` describes, at this node.
    ///
    /// # Errors
    /// What is wrong with the invite, in words that follow the key's name.
    pub fn new(config: &DomainConfig, own: NodeId) -> Result<Self, String> {
        let rule = match config.admission {
            Admission::Open => Rule::Open,
            Admission::Psk => {
                let secret = config.psk.as_deref().unwrap_or_default();
                Rule::Psk(blake3::derive_key(
                    "multichat 2026-11 pre-shared key of a domain",
                    secret.as_bytes(),
                ))
            }
            Admission::Invite => match &config.invite {
                None => Rule::Invite { founder: Identity(own.0), pass: None },
                Some(text) => {
                    let pass: Pass = text.parse().map_err(|bad: BadPass| bad.to_string())?;
                    if pass.name != config.name {
                        return Err(format!("is for the domain `{}`, not `{}`", pass.name, config.name));
                    }
                    Rule::Invite { founder: pass.founder, pass: Some(Box::new(pass)) }
                }
            },
        };
        Ok(Self { claim: Claim { name: config.name.clone(), topology: config.topology }, rule })
    }

    /// What this node says of the domain.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether this node may invite others into it.
    pub fn is_founder(&self) -> bool {
        matches!(&self.rule, Rule::Invite { pass: None, .. })
    }

    /// This node's proof.
    pub fn prove(&self, scene: &Scene) -> Proof {
        match &self.rule {
            Rule::Open | Rule::Invite { pass: None, .. } => Proof::None,
            Rule::Psk(key) => Proof::Key(self.keyed(key, scene)),
            Rule::Invite { pass: Some(pass), .. } => {
                let signature = pass.guest.sign(&scene.bytes(&self.claim.name));
                Proof::Guest { pass: pass.signed.clone(), signature }
            }
        }
    }

    /// Whether the prover may be in this domain.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, scene: &Scene, claim: &Claim, proof: &Proof, now: Timestamp) -> Result<(), Refusal> {
        match (&self.rule, proof) {
            (Rule::Open, _) => {}
            (Rule::Psk(key), Proof::Key(theirs)) => {
                // Hashes compare in constant time.
                if blake3::Hash::from_bytes(self.keyed(key, scene)) != blake3::Hash::from_bytes(*theirs) {
                    return Err(Refusal::WrongKey);
                }
            }
            (Rule::Psk(_), _) => return Err(Refusal::NoKey),
            (Rule::Invite { founder, .. }, Proof::Guest { pass, signature }) => {
                let name = &self.claim.name;
                let invited = key::verify(founder, &pass.bytes(name), &pass.signature);
                if !invited || !key::verify(&Identity(pass.guest), &scene.bytes(name), signature) {
                    return Err(Refusal::WrongInvite);
                }
                if pass.expires <= now.0 {
                    return Err(Refusal::Expired);
                }
            }
            (Rule::Invite { founder, .. }, _) if founder.0 == scene.prover.0 => {}
            (Rule::Invite { .. }, _) => return Err(Refusal::NoInvite),
        }
        if claim.topology == self.claim.topology {
            Ok(())
        } else {
            Err(Refusal::Topology(self.claim.topology))
        }
    }

    fn keyed(&self, key: &[u8; 32], scene: &Scene) -> [u8; 32] {
        *blake3::keyed_hash(key, &scene.bytes(&self.claim.name)).as_bytes()
    }
}

impl Signed {
    fn bytes(&self, name: &str) -> Vec<u8> {
        let head = b"multichat domain invite 1 ".as_slice();
        [head, &self.guest, &self.expires.to_be_bytes(), name.as_bytes()].concat()
    }
}

/// An invite into a domain, as text: `multichat-domain:NAME/FOUNDER/EXPIRES/KEY/SIGNATURE`. A secret: whoever
/// has it comes in, until it expires.
#[derive(Clone)]
pub struct Pass {
    name: String,
    founder: Identity,
    guest: SecretKey,
    signed: Signed,
}

impl Pass {
    /// An invite by the founder. `salt` tells it from every other one.
    pub fn issue(name: &str, founder: &SecretKey, expires: Timestamp, salt: [u8; 32]) -> Self {
        let seed =
            blake3::derive_key("multichat 2026-11 guest of a domain", &[founder.seed(), salt].concat());
        let guest = SecretKey::from_seed(seed);
        let unsigned = Signed { guest: guest.public().0, expires: expires.0, signature: Signature([0; 64]) };
        let signature = founder.sign(&unsigned.bytes(name));
        let signed = Signed { signature, ..unsigned };
        Self { name: name.to_owned(), founder: founder.public(), guest, signed }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |bytes: &[u8]| bytes.try_into().map(Digest).unwrap_or_default();
        let (high, low) = self.signed.signature.0.split_at(32);
        write!(
            f,
            "multichat-domain:{}/{}/{}/{}/{}{}",
            self.name,
            self.founder,
            self.signed.expires,
            Digest(self.guest.seed()),
            part(high),
            part(low)
        )
    }
}

/// Why a text is no invite into a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPass;

impl fmt::Display for BadPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no invite: take the whole line that `multichat domains invite` printed")
    }
}

impl std::error::Error for BadPass {}

impl FromStr for Pass {
    type Err = BadPass;

    fn from_str(text: &str) -> Result<Self, BadPass> {
        let rest = text.trim().strip_prefix("multichat-domain:").ok_or(BadPass)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [name, founder, expires, seed, signature] = parts[..] else { return Err(BadPass) };
        let founder: Identity = founder.parse().map_err(|_| BadPass)?;
        let seed: Digest = seed.parse().map_err(|_| BadPass)?;
        let (high, low) = signature.split_at_checked(52).ok_or(BadPass)?;
        let half = |text: &str| text.parse::<Digest>().map_err(|_| BadPass);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&half(high)?.0);
        bytes[32..].copy_from_slice(&half(low)?.0);
        let guest = SecretKey::from_seed(seed.0);
        let expires = expires.parse().map_err(|_| BadPass)?;
        let signed = Signed { guest: guest.public().0, expires, signature: Signature(bytes) };
        if !key::verify(&founder, &signed.bytes(name), &signed.signature) {
            return Err(BadPass);
        }
        Ok(Self { name: name.to_owned(), founder, guest, signed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn node(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn id(n: u8) -> NodeId {
        NodeId(node(n).public().0)
    }

    fn scene(prover: u8, verifier: u8) -> Scene {
        Scene { prover: id(prover), verifier: id(verifier), nonce: [7; 32] }
    }

    fn gate(own: u8, admission: Admission, secret: Option<&str>) -> Gate {
        let secret = secret.map(str::to_owned);
        let (psk, invite) = match admission {
            Admission::Psk => (secret, None),
            _ => (None, secret),
        };
        let open = DomainConfig::open("club", Topology::Tree);
        Gate::new(&DomainConfig { admission, psk, invite, ..open }, id(own)).unwrap()
    }

    /// What node 1, with `ours`, says to node 2, with `theirs`, after that proved itself.
    fn check(ours: &Gate, theirs: &Gate) -> Result<(), Refusal> {
        let proof = theirs.prove(&scene(2, 1));
        ours.admit(&scene(2, 1), theirs.claim(), &proof, NOW)
    }

    #[test]
    fn anybody_comes_into_an_open_domain_of_the_same_topology() {
        let open = gate(1, Admission::Open, None);
        assert_eq!(check(&open, &gate(2, Admission::Open, None)), Ok(()));
        let mesh = Gate::new(&DomainConfig::open("club", Topology::Mesh), id(2)).unwrap();
        assert_eq!(check(&open, &mesh), Err(Refusal::Topology(Topology::Tree)));
    }

    #[test]
    fn a_pre_shared_key_lets_in_who_has_it_and_no_one_who_heard_it_used() {
        let (ours, theirs) = (
            gate(1, Admission::Psk, Some("correct horse battery")),
            gate(2, Admission::Psk, Some("correct horse battery")),
        );
        assert_eq!(check(&ours, &theirs), Ok(()));
        assert_eq!(
            check(&ours, &gate(2, Admission::Psk, Some("another horse battery"))),
            Err(Refusal::WrongKey)
        );
        assert_eq!(check(&ours, &gate(2, Admission::Open, None)), Err(Refusal::NoKey));
        // Node 3 asks node 2 and passes its answer on, as it came, to node 1.
        let heard = theirs.prove(&scene(2, 3));
        let passed_on = ours.admit(&scene(3, 1), theirs.claim(), &heard, NOW);
        assert_eq!(passed_on, Err(Refusal::WrongKey));
        let again = Scene { nonce: [8; 32], ..scene(2, 1) };
        assert_eq!(
            ours.admit(&again, theirs.claim(), &theirs.prove(&scene(2, 1)), NOW),
            Err(Refusal::WrongKey)
        );
    }

    #[test]
    fn guests_are_let_in_by_the_founders_word_until_it_ends() {
        let founder = gate(1, Admission::Invite, None);
        assert!(founder.is_founder());
        let invite = |key: u8, expires: u64| Pass::issue("club", &node(key), Timestamp(expires), [1; 32]);
        let guest = gate(2, Admission::Invite, Some(&invite(1, 5_000).to_string()));
        let other = gate(1, Admission::Invite, Some(&invite(1, u64::MAX).to_string()));
        assert_eq!(check(&founder, &guest), Ok(()));
        assert_eq!(check(&other, &guest), Ok(()), "guests know each other by the founder");
        assert_eq!(
            check(&founder, &gate(2, Admission::Invite, Some(&invite(1, 999).to_string()))),
            Err(Refusal::Expired)
        );
        assert_eq!(check(&founder, &gate(2, Admission::Open, None)), Err(Refusal::NoInvite));
        let foreign = gate(2, Admission::Invite, Some(&invite(9, 5_000).to_string()));
        assert_eq!(check(&founder, &foreign), Err(Refusal::WrongInvite));
        // The founder itself, to a guest.
        let proof = founder.prove(&scene(1, 2));
        assert_eq!(guest.admit(&scene(1, 2), founder.claim(), &proof, NOW), Ok(()));
        assert_eq!(guest.admit(&scene(3, 2), founder.claim(), &proof, NOW), Err(Refusal::NoInvite));
        // Whoever was shown a pass cannot use it: the guest's key never travels.
        let Proof::Guest { pass, .. } = guest.prove(&scene(2, 1)) else { panic!("a guest") };
        let signature = node(3).sign(b"anything");
        let stolen = Proof::Guest { pass, signature };
        assert_eq!(founder.admit(&scene(3, 1), guest.claim(), &stolen, NOW), Err(Refusal::WrongInvite));
    }

    #[test]
    fn invites_read_as_they_were_written_and_nothing_else_does() {
        let text = Pass::issue("club", &node(1), Timestamp(5_000), [1; 32]).to_string();
        assert_eq!(text.parse::<Pass>().unwrap().to_string(), text);
        for bad in ["", "multichat-domain:", "multichat-domain:a/b/c/d/e", &text[..text.len() - 1]] {
            assert!(bad.parse::<Pass>().is_err(), "{bad}");
        }
        let altered = text.replace("/5000/", "/9000/");
        assert!(altered.parse::<Pass>().is_err(), "signed");
        let config = DomainConfig {
            admission: Admission::Invite,
            invite: Some(text),
            ..DomainConfig::open("pub", Topology::Tree)
        };
        assert_eq!(Gate::new(&config, id(2)).unwrap_err(), "is for the domain `club`, not `pub`");
    }

    #[test]
    fn words_are_bounded() {
        let claim = Claim { name: "club".into(), topology: Topology::Tree };
        let who = Word::Who { nonce: [1; 32], claims: vec![claim.clone(); DOMAINS] };
        assert_eq!(Word::decode(&who.encode()), Ok(who));
        let many = Word::Who { nonce: [1; 32], claims: vec![claim.clone(); DOMAINS + 1] };
        assert!(Word::decode(&many.encode()).is_err());
        let long = Claim { name: "x".repeat(NAME_BYTES + 1), ..claim };
        assert!(
            Reply::decode(&Reply::Am { proofs: vec![(long, Proof::None)], welcome: Vec::new() }.encode())
                .is_err()
        );
        assert!(Word::decode(&[9, 9, 9]).is_err());
    }
}

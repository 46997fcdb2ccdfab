//! What makes an event valid, for ever, from its bytes and its past alone (rules V1 to V4).
//! Of V5 the role is here, which the lane's opening fixed; the rest is in `authority`, which says why.

use std::fmt;

use super::above::Footing;
use super::{Backing, Event, Header, Malformed, Replica};
use crate::base::{Digest, EventId, Identity, Kind};
use crate::chat::access::Role;
use crate::chat::act::{Act, Joining};
use crate::chat::build::{self, Held, Setting};
use crate::chat::settle;
use crate::machine::MachineError;

/// Why an event can never be part of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// It is no event at all.
    Malformed(Malformed),
    /// It breaks this rule of the history.
    Rule(&'static str),
    /// The transaction it stands for does not hold on the resource machine.
    Transaction(MachineError),
}

impl Invalid {
    /// What it means for whoever sent it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) | Self::Rule(_) => Kind::Invalid,
            Self::Transaction(_) => Kind::Denied,
        }
    }

    /// A short name for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_event",
            Self::Rule(_) => "invalid_event",
            Self::Transaction(_) => "invalid_transaction",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Rule(rule) => write!(f, "event breaks the rule: {rule}"),
            Self::Transaction(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}

/// What a valid event is to its lane.
pub(super) struct Step {
    pub place: Place,
    pub identity: Identity,
    pub role: Role,
    pub rank: u32,
    /// The authority event that an opening lane cites.
    pub grant: Option<EventId>,
    /// Where an opening lane stands in a workspace.
    pub footing: Option<Footing>,
    /// The hash of the profile that counts after it.
    pub profile: Digest,
    pub part: Option<settle::Part>,
}

/// Where it goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// It opens a lane.
    Opens,
    /// It comes next in its chain.
    Follows { chain: EventId },
    /// The lane has another event in that place already.
    Forks { chain: EventId, rival: EventId },
}

/// Whose word there is for an event's signatures and transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The logics are run.
    Nobody,
    /// This node's own log: it held what was verified then.
    OwnLog,
}

/// Who acts, and with what.
struct Standpoint {
    place: Place,
    identity: Identity,
    role: Role,
    rank: u32,
    grant: Option<EventId>,
    granted: Option<Role>,
    held: Option<Held>,
}

impl Replica {
    /// Checks an event whose past is complete and whose signature was verified.
    pub(super) fn validate(
        &self,
        event: &Event,
        past: &[u32],
        backing: Backing<'_>,
    ) -> Result<Step, Invalid> {
        let header = &event.header;
        if event.channel() != self.id {
            return Err(Invalid::Rule("an event belongs to its own channel"));
        }
        let newest = past.iter().map(|number| self.events.timestamp(*number)).max().unwrap_or_default();
        if header.timestamp < newest {
            return Err(Invalid::Rule("an event is not older than its past"));
        }
        let footing = self.footing(event, past, backing.above)?;
        let stand = match (header.act.joining(), header.prev) {
            (Some(joining), _) => self.opening(header, (joining, footing.as_ref()), past)?,
            (None, Some(_)) => self.continued(event, past)?,
            (None, None) => return Err(Invalid::Rule("a lane opens by creating or joining, only")),
        };
        let Standpoint { place, identity, role, rank, grant, granted, held } = stand;
        let target_author =
            header.act.target().map(|target| self.related(&header.act, &target)).transpose()?;
        let setting = Setting {
            event: event.id(),
            channel: self.id,
            identity,
            device: header.device,
            role,
            granted,
            target_author,
            timestamp: header.timestamp,
            payload: header.payload.map(|payload| payload.hash),
        };
        if backing.trust == Trust::Nobody {
            build::verify(&header.act, &setting, held).map_err(Invalid::Transaction)?;
        }
        let part = settle::part(&header.act, &setting, held).map_err(Invalid::Transaction)?;
        let lane = match &place {
            Place::Opens => None,
            Place::Follows { chain } | Place::Forks { chain, .. } => Some(self.lane_id(chain)),
        };
        if part.as_ref().is_some_and(|part| !self.knows_what_is_spent(part, lane, past)) {
            return Err(Invalid::Rule("what is consumed was created in the past"));
        }
        let profile = build::profile_after(&header.act, held);
        Ok(Step { place, identity, role, rank, grant, footing, profile, part })
    }

    /// A lane that opens: by founding, under a grant, under a lane of a workspace, or as an ordinary member.
    fn opening(
        &self,
        header: &Header,
        (joining, footing): (&Joining, Option<&Footing>),
        past: &[u32],
    ) -> Result<Standpoint, Invalid> {
        let identity = joining.certificate.identity;
        let founds = matches!(header.act, Act::CreateChannel { .. });
        let inherited = match footing.map(|footing| self.inherited(&header.act, footing)) {
            Some((role, rank)) => (role, rank, Some(role)),
            None => (Role::Member, Role::Member.rank(), None),
        };
        let (role, rank, granted) = match joining.grant {
            _ if founds && footing.is_none() => (Role::Founder, Role::Founder.rank(), None),
            _ if founds => inherited,
            None => inherited,
            Some(grant) => {
                let (number, grant) = self
                    .authorities
                    .find(&grant)
                    .filter(|(_, grant)| joining.may_cite(&grant.subject))
                    .ok_or(Invalid::Rule("a lane opens under a grant to its own identity"))?;
                if !past.iter().any(|parent| self.pasts.contains(self.events.known(*parent), number)) {
                    return Err(Invalid::Rule("a lane opens under a grant in its past"));
                }
                if grant.expires.is_some_and(|expires| header.timestamp > expires) {
                    return Err(Invalid::Rule("a grant is used before it expires"));
                }
                let role = grant.role().ok_or(Invalid::Rule("a lane opens under what gives a role"))?;
                let rank = grant.granted_rank();
                // Who cites what demoted them is no more than that, whatever they are elsewhere.
                if footing.is_some() && inherited.1 < rank && !grant.removes() {
                    inherited
                } else {
                    (role, rank, Some(role))
                }
            }
        };
        let grant = joining.grant;
        Ok(Standpoint { place: Place::Opens, identity, role, rank, grant, granted, held: None })
    }

    /// Who made what an event relates to, if one may relate to it so.
    fn related(&self, act: &Act, target: &EventId) -> Result<Identity, Invalid> {
        let missing = Invalid::Rule("what a message relates to is in the channel");
        let entry = self.events.get(target).ok_or(missing.clone())?;
        let fits = match act {
            Act::RedactMessage { .. } => entry.what != super::EventKind::Other,
            _ => entry.what == super::EventKind::Words,
        };
        if !fits {
            return Err(Invalid::Rule("a message relates to a message"));
        }
        self.author_of(target).ok_or(missing)
    }

    /// The lane that an event continues: `prev` lies in it, and it is held by the same device.
    fn continued(&self, event: &Event, past: &[u32]) -> Result<Standpoint, Invalid> {
        let missing = || Invalid::Rule("prev is an event of the lane");
        // prev is the first of the parents.
        let prev = *past.first().ok_or_else(missing)?;
        let before = self.events.at(prev);
        let lane = self.authorities.lanes.get(&self.lane_id(&before.chain)).ok_or_else(missing)?;
        let chain = if before.chain == lane.opening { Some(&lane.trunk) } else { self.chain(&before.chain) };
        let chain = chain.ok_or_else(missing)?;
        if lane.device != event.header.device {
            return Err(Invalid::Rule("a lane has one device"));
        }
        if before.seq.checked_add(1) != Some(event.header.seq) {
            return Err(Invalid::Rule("seq counts the lane's events"));
        }
        if event.header.timestamp > lane.certified_until {
            return Err(Invalid::Rule("the device's certificate has not expired"));
        }
        let next = chain.event(event.header.seq).map(|number| self.events.id(number));
        let rival = next.or_else(|| chain.next.first().copied());
        let place = match rival {
            Some(rival) => Place::Forks { chain: before.chain, rival },
            None if chain.left => return Err(Invalid::Rule("the member has left")),
            None => Place::Follows { chain: before.chain },
        };
        Ok(Standpoint {
            place,
            identity: lane.identity,
            role: lane.role,
            rank: lane.rank,
            grant: None,
            granted: None,
            held: Some(Held { after: self.events.id(prev), profile: chain.profile }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Author, founded, nothing, take};
    use super::*;
    use crate::base::{ChannelId, Timestamp, limits};
    use crate::chat::message::Link;
    use crate::chat::profile::Certificate;
    use crate::replica::{Admission, Parcel, PayloadRef};

    /// A channel of a founder and a member, both of whom acted.
    fn scene() -> (Replica, Author, Author) {
        let (founder, member) = (Author::new("founder"), Author::new("member"));
        let (mut replica, _) = founded(&founder);
        member.act(&mut replica, 2_000, member.join());
        member.say(&mut replica, 3_000, "hello");
        founder.say(&mut replica, 4_000, "welcome");
        (replica, founder, member)
    }

    fn topic(text: &str) -> Act {
        Act::UpdateChannel(crate::chat::channel::Change::Topic(text.into()))
    }

    /// What becomes of the founder's next event if its header is changed like that and signed again.
    fn refused(change: impl FnOnce(&mut Header)) -> String {
        let (mut replica, founder, _) = scene();
        let mut header = founder.draft(&replica, 5_000, topic("new"));
        change(&mut header);
        let mut parcel = Parcel { event: founder.sign(header), payload: None };
        // As from the wire: nothing is known of it yet.
        parcel.event = Event::decode(&parcel.event.encode()).unwrap();
        if let Err(malformed) = parcel.verify() {
            return malformed.to_string();
        }
        match replica.admit(&parcel.event, 9) {
            Admission::Refused(invalid) => invalid.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        let check = |expect: &str, change: &dyn Fn(&mut Header)| {
            let said = refused(change);
            assert!(said.contains(expect), "{expect}: {said}");
        };
        check("Accepted", &|_| {});
        check("the version is known", &|header| header.version = 2);
        check("its own channel", &|header| header.channel = Some(ChannelId([9; 32])));
        check("a wrong signature", &|header| header.device = Author::new("else").device.public());
        check("prev is absent exactly", &|header| header.seq = 0);
        check("prev is absent exactly", &|header| header.prev = None);
        check("seq counts", &|header| header.seq += 1);
        check("seq counts", &|header| header.seq = u64::MAX);
        check("not older than its past", &|header| header.timestamp = Timestamp(3_999));
        check("Waiting", &|header| header.prev = Some(nothing(1)));
        check("Waiting", &|header| header.deps.push(nothing(255)));
        check("deps ascend", &|header| header.deps = vec![nothing(2), nothing(1)]);
        check("deps ascend", &|header| header.deps = vec![nothing(2), nothing(2)]);
        check("as many as allowed", &|header| {
            header.deps = (0..=limits::DEPS as u8).map(nothing).collect();
        });
        check("prev is not among the deps", &|header| header.deps = header.prev.into_iter().collect());
        check("texts and names", &|header| header.act = topic(&"x".repeat(limits::TOPIC_BYTES + 1)));
        check("a message has a payload", &|header| header.act = Act::SendMessage(Default::default()));
        check("a message has a payload", &|header| header.payload = Some(PayloadRef::of(b"x")));
        check("the payload is within bounds", &|header| {
            let length = limits::PAYLOAD_BYTES as u32 + 1;
            (header.act, header.payload) =
                (Act::SendMessage(Default::default()), Some(PayloadRef { length, ..PayloadRef::of(b"") }));
        });
        check("a lane opens by creating or joining, only", &|header| {
            header.act = Author::new("founder").join();
        });
        check("the channel is absent exactly", &|header| header.channel = None);
    }

    #[test]
    fn a_header_that_the_log_could_not_read_back_is_refused_before_it_gets_there() {
        let (mut replica, _, _) = scene();
        let newcomer = Author::new("newcomer");
        let mut joining = newcomer.joining();
        joining.via = Some(Link::Matrix { room: "!".repeat(limits::EVENT_HEADER_BYTES) });
        let header = newcomer.draft(&replica, 5_000, Act::JoinChannel(joining));
        assert_eq!(header.check(), Err(Malformed::Field("the header is within bounds")));
        let event = newcomer.sign(header);
        let mut wire: Event = crate::base::codec::decode(&event.encode(), usize::MAX).unwrap();
        assert!(wire.verify().is_err(), "{:?}", replica.admit(&wire, 9));
    }

    #[test]
    fn a_lane_belongs_to_one_device_and_ends_with_leaving() {
        let (mut replica, founder, member) = scene();
        // The member signs on the founder's lane.
        let mut header = founder.draft(&replica, 5_000, topic("mine now"));
        header.device = member.device.public();
        let rule = |admission| match admission {
            Admission::Refused(Invalid::Rule(rule)) => rule,
            other => panic!("{other:?}"),
        };
        assert_eq!(rule(replica.admit(&member.sign(header), 9)), "a lane has one device");

        let stale = member.draft(&replica, 5_000, Act::UpdateProfile { profile: member.profile() });
        let left = member.act(&mut replica, 5_000, Act::LeaveChannel { reason: String::new() });
        assert!(replica.live_lane(&member.device.public()).is_none());
        assert!(!replica.state().is_member(&member.identity.public()));
        let after = Header { seq: stale.seq + 1, prev: Some(left.id()), ..stale.clone() };
        assert_eq!(rule(replica.admit(&member.sign(after), 9)), "the member has left");
        // Two events in one place: leaving, and what was drafted before.
        let fork = replica.admit(&member.sign(stale.clone()), 9);
        assert!(matches!(fork, Admission::Accepted(_)), "kept as the proof: {fork:?}");
        for topic in 0..5 {
            let act = Act::LeaveChannel { reason: topic.to_string() };
            replica.admit(&member.sign(Header { act, ..stale.clone() }), 9);
        }
        assert_eq!(replica.equivocations().len(), 1, "one proof per lane");
        assert!(!replica.is_effective(&left.id()), "void from the fork on");
        // A new lane of the same person begins anew; what the old one did stays.
        let rejoined = member.act(&mut replica, 6_000, member.join());
        let mut crossed = member.draft(&replica, 7_000, topic("x"));
        crossed.prev = Some(left.id());
        crossed.deps = vec![rejoined.id()];
        assert_eq!(rule(replica.admit(&member.sign(crossed), 9)), "seq counts the lane's events");
    }

    #[test]
    fn a_channel_is_founded_once_and_joined_with_a_past() {
        let (mut replica, founder, _) = scene();
        assert_eq!(
            replica.admit(&founder.founding("#sample"), 9),
            Admission::Known,
            "the same event makes the same channel"
        );
        let second = Author::new("usurper").founding("#sample");
        let Admission::Refused(Invalid::Rule(rule)) = replica.admit(&second, 9) else { panic!() };
        assert_eq!(rule, "an event belongs to its own channel");
        let newcomer = Author::new("newcomer");
        let mut header = newcomer.draft(&replica, 5_000, newcomer.join());
        assert!(Replica::found(&newcomer.sign(header.clone()), 1).is_err());
        header.deps.clear();
        assert_eq!(header.check(), Err(Malformed::Field("a member joins a channel that has a past")));
    }

    #[test]
    fn certificates_are_checked_and_end() {
        let (mut replica, founder, member) = scene();
        let newcomer = Author::new("newcomer");
        let with = |replica: &Replica, certificate| {
            let mut joining = newcomer.joining();
            joining.certificate = certificate;
            newcomer.draft(replica, 5_000, Act::JoinChannel(joining))
        };
        let device = newcomer.device.public();
        let forged = Certificate { identity: founder.identity.public(), ..newcomer.joining().certificate };
        let wire = |header| Event::decode(&newcomer.sign(header).encode()).unwrap().verify();
        assert_eq!(wire(with(&replica, forged)), Err(Malformed::Signature));
        let others = Certificate::issue(&newcomer.identity, member.device.public(), Timestamp(u64::MAX));
        assert!(wire(with(&replica, others)).is_err());
        let over = Certificate::issue(&newcomer.identity, device, Timestamp(4_999));
        assert_eq!(wire(with(&replica, over)), Err(Malformed::Field("the certificate has not expired")));

        let short = Certificate::issue(&newcomer.identity, device, Timestamp(6_000));
        let joined = newcomer.sign(with(&replica, short));
        take(&mut replica, &joined);
        let act = Act::UpdateProfile { profile: newcomer.profile() };
        let in_time = newcomer.sign(newcomer.draft(&replica, 6_000, act.clone()));
        take(&mut replica, &in_time);
        let late = newcomer.sign(newcomer.draft(&replica, 6_001, act));
        let Admission::Refused(Invalid::Rule(rule)) = replica.admit(&late, 9) else { panic!() };
        assert_eq!(rule, "the device's certificate has not expired");
    }

    #[test]
    fn what_a_role_can_never_do_is_refused_and_what_policy_forbids_is_void() {
        let (mut replica, _, member) = scene();
        let close = Act::UpdateChannel(crate::chat::channel::Change::Closed(true));
        let event = member.sign(member.draft(&replica, 5_000, close));
        let Admission::Refused(invalid) = replica.admit(&event, 9) else { panic!() };
        assert_eq!((invalid.kind(), invalid.reason()), (Kind::Denied, "invalid_transaction"));
        let event = member.act(&mut replica, 5_000, topic("coup"));
        assert!(!replica.is_effective(&event.id()));
        assert_eq!(replica.state().topic(), "");
    }
}

//! From what somebody wants of tokens and tickets to the action of an intent. Which pieces are given
//! is decided here, by a rule that gives the same answer everywhere; who may is for the logics to say.

use serde::{Deserialize, Serialize};

use super::asset::{Asset, Holding, Value};
use super::facts;
use super::intent::{ChannelRef, Subject};
use crate::base::{Digest, Identity, Timestamp};
use crate::machine::intent::{Constraints, Preference};
use crate::machine::predicate::Predicate;
use crate::machine::{Action, ActionBuilder, AppData, MachineError, NullifierKey, Resource};

/// So much of something, as people name it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Amount {
    pub quantity: u128,
    pub name: String,
    /// Whose, where several people issue something of that name.
    pub issuer: Option<Subject>,
}

/// What a person can want of the assets of a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wish {
    /// Make tokens of one's own.
    IssueToken { name: String, quantity: u128 },
    /// Make a ticket for the channel. A price is in tokens of the channel.
    IssueTicket { name: String, uses: u128, lasts_ms: u64, price: Option<Amount> },
    /// Give something to somebody.
    Give { what: Amount, to: Subject },
    /// Give something to whoever gives something for it, straight or by way of others: something of the
    /// same channel, or of another.
    Swap { gives: Amount, wants: Amount, wants_in: Option<ChannelRef>, terms: Terms },
}

/// Under which constraints.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Terms {
    /// For how long it may wait.
    pub lasts_ms: u64,
    /// With nobody else, solvers included; empty for anybody.
    pub only: Vec<Subject>,
    /// Rather with these, the first most.
    pub prefer: Vec<Subject>,
}

/// Terms as the machine takes them.
pub fn constraints(expires: Timestamp, only: &[Identity], prefer: &[Identity]) -> Constraints {
    let flow = match only {
        [] => Predicate::allow_any(),
        only => Predicate::allow_only(only.iter().copied()),
    };
    let weights = (0..=u8::MAX).rev();
    let preferences = prefer.iter().zip(weights).map(|(party, weight)| Preference { party: *party, weight });
    Constraints { expires, flow, preferences: preferences.collect() }
}

/// The action that issues an asset. `nonce` must be new.
///
/// # Errors
/// What the machine says against it.
pub fn issue(asset: &Asset, quantity: u128, nonce: Digest) -> Result<Action, MachineError> {
    let issuer = asset.issuer();
    let mut builder = ActionBuilder::new();
    let minted = Resource { is_ephemeral: true, nonce, ..piece(asset, issuer, quantity) };
    builder.consume(minted, NullifierKey::default(), app_data(asset, issuer))?;
    builder.create(piece(asset, issuer, quantity), app_data(asset, issuer));
    builder.build()
}

/// The action of somebody who gives, and of whom others take: `gives` out of what they own, the change
/// comes back; `takes` are created for the owners named.
///
/// # Errors
/// [`MachineError::Terms`] if they do not own enough.
pub fn exchange(
    owner: Identity,
    owned: &[Holding],
    gives: &(Asset, u128),
    takes: &[(Asset, u128, Identity)],
) -> Result<Action, MachineError> {
    let (asset, quantity) = gives;
    let mine = owned.iter().filter(|holding| holding.owner == owner && holding.asset == *asset);
    let mut mine: Vec<&Resource> = mine.map(|holding| &holding.resource).collect();
    // The greatest first: so an action stays small.
    mine.sort_by_cached_key(|resource| (std::cmp::Reverse(resource.quantity), resource.commitment()));
    let mut builder = ActionBuilder::new();
    let mut missing = *quantity;
    for resource in mine {
        if missing == 0 {
            break;
        }
        builder.consume(*resource, NullifierKey::default(), app_data(asset, owner))?;
        if resource.quantity > missing {
            builder.create(piece(asset, owner, resource.quantity - missing), app_data(asset, owner));
        }
        missing = missing.saturating_sub(resource.quantity);
    }
    if missing > 0 || *quantity == 0 {
        return Err(MachineError::Terms("give no more than you own, and something"));
    }
    for (asset, quantity, to) in takes {
        builder.create(piece(asset, *to, *quantity), app_data(asset, *to));
    }
    builder.build()
}

fn piece(asset: &Asset, owner: Identity, quantity: u128) -> Resource {
    let kind = asset.kind();
    Resource {
        logic_ref: kind.logic_ref,
        label_ref: kind.label_ref,
        value_ref: facts::reference(&Value { owner }),
        quantity,
        is_ephemeral: false,
        ..Resource::default()
    }
}

fn app_data(asset: &Asset, owner: Identity) -> AppData {
    let value = Value { owner };
    match asset {
        Asset::Token(label) => facts::app_data(label, &value),
        Asset::Ticket(label) => facts::app_data(label, &value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::Role;
    use super::super::logics::logics;
    use super::super::{ticket, token};
    use super::*;
    use crate::base::ChannelId;
    use crate::base::key::SecretKey;
    use crate::machine::intent::Intent;
    use crate::machine::settlement::Settlement;
    use crate::machine::{ExpirableBlob, Transparent};

    const HOME: ChannelId = ChannelId([1; 32]);

    fn key(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    fn who(number: u8) -> Identity {
        key(number).public()
    }

    fn gold(issuer: u8) -> Asset {
        Asset::Token(token::Label { channel: HOME, issuer: who(issuer), name: "gold".into() })
    }

    fn pass(issuer: u8, price: Option<u128>) -> Asset {
        let price = price.map(|quantity| ticket::Price { quantity, issuer: who(9), name: "gold".into() });
        Asset::Ticket(ticket::Label {
            channel: HOME,
            issuer: who(issuer),
            name: "pass".into(),
            role: Role::Member,
            expires: Timestamp(100),
            price,
        })
    }

    fn held(asset: &Asset, owner: u8, quantity: u128) -> Holding {
        let resource = piece(asset, who(owner), quantity);
        Holding { asset: asset.clone(), owner: who(owner), resource }
    }

    fn signed(by: u8, action: Action) -> Result<Intent, MachineError> {
        Intent::sign(vec![action], Constraints::until(Timestamp(9)), &key(by), logics())
    }

    fn settled(intents: Vec<Intent>) -> Result<(), &'static str> {
        let settlement = Settlement::of(intents);
        let verdict = settlement.verify(logics(), &Transparent, Timestamp(5), &who(50));
        verdict.map(drop).map_err(|error| error.rule())
    }

    fn rule(result: Result<Intent, MachineError>) -> &'static str {
        result.unwrap_err().rule()
    }

    #[test]
    fn only_an_issuer_issues_and_to_nobody_but_themselves() {
        let minted = issue(&gold(1), 5, Digest([7; 32])).unwrap();
        assert_eq!(settled(vec![signed(1, minted.clone()).unwrap()]), Ok(()));
        assert_eq!(rule(signed(2, minted)), "issue what another issues");
        let mut builder = ActionBuilder::new();
        let stolen = Resource { is_ephemeral: true, ..piece(&gold(1), who(2), 5) };
        builder.consume(stolen, NullifierKey::default(), app_data(&gold(1), who(2))).unwrap();
        let to_thief = builder.build().unwrap();
        assert_eq!(rule(signed(2, to_thief)), "what is issued is the issuer's first");
    }

    #[test]
    fn tokens_are_passed_on_whole_or_in_parts_by_their_owner() {
        let owned = [held(&gold(1), 2, 3), held(&gold(1), 2, 4), held(&gold(1), 3, 9)];
        let give = |quantity| exchange(who(2), &owned, &(gold(1), quantity), &[(gold(1), quantity, who(4))]);
        let five = give(5).unwrap();
        assert_eq!((five.consumed.len(), five.created.len()), (2, 2));
        assert_eq!(settled(vec![signed(2, five.clone()).unwrap()]), Ok(()));
        assert_eq!(rule(signed(3, five)), "give away what another owns");
        assert_eq!(give(4).unwrap().consumed.len(), 1, "the greatest first");
        assert!(give(8).is_err() && give(0).is_err());
        let more = exchange(who(2), &owned, &(gold(1), 3), &[(gold(1), 4, who(4))]).unwrap();
        assert_eq!(settled(vec![signed(2, more).unwrap()]), Err("a transaction balances"));
        let nothing = exchange(who(2), &owned, &(gold(1), 3), &[(gold(1), 0, who(4))]).unwrap();
        assert_eq!(rule(signed(2, nothing)), "nothing of an asset is no asset");
        let bad = Asset::Token(token::Label { channel: HOME, issuer: who(1), name: "NO".into() });
        assert_eq!(rule(signed(1, issue(&bad, 1, Digest::default()).unwrap())), "a token has a name");
    }

    #[test]
    fn what_another_could_keep_from_its_owner_is_refused() {
        let owned = [held(&gold(1), 2, 3)];
        let mut gift = exchange(who(2), &owned, &(gold(1), 3), &[(gold(1), 3, who(4))]).unwrap();
        gift.created[0].resource.nk_commitment = NullifierKey::from_bytes([8; 32]).commit();
        assert_eq!(rule(signed(2, gift)), "an asset is opened by the public key");
    }

    #[test]
    fn a_ticket_leaves_its_issuer_for_its_price_only() {
        let (pass, gold) = (pass(1, Some(5)), gold(9));
        let (seller, buyer) = ([held(&pass, 1, 2)], [held(&gold, 2, 20), held(&gold, 1, 7)]);
        let sells = |tickets, tokens| {
            exchange(who(1), &seller, &(pass.clone(), tickets), &[(gold.clone(), tokens, who(1))]).unwrap()
        };
        let buys = |tokens, tickets| {
            let takes = [(pass.clone(), tickets, who(2))];
            signed(2, exchange(who(2), &buyer, &(gold.clone(), tokens), &takes).unwrap()).unwrap()
        };
        assert_eq!(settled(vec![signed(1, sells(1, 5)).unwrap(), buys(5, 1)]), Ok(()));
        assert_eq!(settled(vec![signed(1, sells(2, 10)).unwrap(), buys(10, 2)]), Ok(()));
        let cheap = "sell a ticket below its price";
        assert_eq!(rule(signed(1, sells(1, 4))), cheap);
        assert_eq!(rule(signed(1, sells(2, 9))), cheap);
        // The issuer's own tokens are no payment.
        let mut own = ActionBuilder::new();
        own.consume(seller[0].resource, NullifierKey::default(), app_data(&pass, who(1))).unwrap();
        own.consume(buyer[1].resource, NullifierKey::default(), app_data(&gold, who(1))).unwrap();
        own.create(piece(&gold, who(1), 7), app_data(&gold, who(1)));
        own.create(piece(&pass, who(2), 2), app_data(&pass, who(2)));
        assert_eq!(rule(signed(1, own.build().unwrap())), cheap);
        // Once sold it is its owner's, who may give it away.
        let theirs = [held(&pass, 3, 1)];
        let gift = exchange(who(3), &theirs, &(pass.clone(), 1), &[(pass.clone(), 1, who(4))]).unwrap();
        assert_eq!(settled(vec![signed(3, gift).unwrap()]), Ok(()));
        let exact = issue(&pass, 3, Digest([1; 32])).unwrap();
        assert_eq!(settled(vec![signed(1, exact).unwrap()]), Ok(()), "issuing sells nothing");
    }

    #[test]
    fn three_swap_tickets_and_tokens_in_a_ring() {
        let (a, b, c) = (pass(1, None), gold(2), gold(3));
        let swap = |by: u8, gives: &Asset, takes: &Asset| {
            let owned = [held(gives, by, 1)];
            let takes = [(takes.clone(), 1, who(by))];
            signed(by, exchange(who(by), &owned, &(gives.clone(), 1), &takes).unwrap()).unwrap()
        };
        assert_eq!(settled(vec![swap(1, &a, &b), swap(2, &b, &c), swap(3, &c, &a)]), Ok(()));
    }

    #[test]
    fn a_ticket_makes_members_and_nothing_more() {
        let Asset::Ticket(label) = pass(1, None) else { panic!() };
        let powerful = Asset::Ticket(ticket::Label { role: Role::Moderator, ..label });
        let issued = signed(1, issue(&powerful, 1, Digest::default()).unwrap());
        assert_eq!(rule(issued), "a ticket has a name and makes members");
    }

    #[test]
    fn facts_must_be_those_that_the_resource_commits_to() {
        let mut forged = issue(&gold(1), 5, Digest([7; 32])).unwrap();
        forged.created[0].app_data.resource = vec![ExpirableBlob::kept(b"else".to_vec())];
        assert_eq!(rule(signed(1, forged)), "the facts are those of the resource's logic");
    }
}

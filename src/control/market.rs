//! Tokens, tickets and intents over the control socket: how they are written, and what is told of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::protocol::channel_ref;
use crate::base::{ChannelId, Identity};
use crate::chat::asset::Asset;
use crate::chat::intent::Subject;
use crate::chat::market::{Amount, Terms, Wish};
use crate::chat::view::{ChannelView, MarketView};

/// What somebody wants of tokens and tickets. An amount is `QUANTITY:NAME`, or `QUANTITY:NAME@PERSON`
/// where several people issue something of that name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MarketWish {
    /// Make tokens.
    IssueToken { amount: String },
    /// Make tickets for the channel; as many uses as the quantity says.
    IssueTicket {
        amount: String,
        lasts_s: u64,
        #[serde(default)]
        price: Option<String>,
    },
    /// Give something away.
    Give { amount: String, to: String },
    /// Swap, with whoever wants to.
    Swap {
        give: String,
        want: String,
        /// The channel of what is wanted, if it is another.
        #[serde(default)]
        want_in: Option<String>,
        lasts_s: u64,
        #[serde(default)]
        only: Vec<String>,
        #[serde(default)]
        prefer: Vec<String>,
    },
}

/// What is owned in a channel, and what waits there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarketReport {
    pub holdings: Vec<HoldingReport>,
    pub intents: Vec<IntentReport>,
}

/// So much of something that somebody owns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldingReport {
    /// The name to show, or the identity of somebody who never was in the channel.
    pub owner: String,
    pub owner_identity: String,
    /// In decimal digits: it may be more than JSON numbers hold.
    pub quantity: String,
    pub asset: AssetReport,
}

/// A token or a ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AssetReport {
    /// `token` or `ticket`.
    pub kind: String,
    pub name: String,
    pub issuer: String,
    pub issuer_identity: String,
    /// Until when a ticket can be used.
    pub expires_ms: Option<u64>,
    /// What its issuer sells a ticket for.
    pub price: Option<String>,
}

/// An intent that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IntentReport {
    pub id: String,
    pub author: String,
    pub author_identity: String,
    /// As amounts.
    pub gives: Vec<String>,
    pub takes: Vec<String>,
    pub expires_ms: u64,
    /// Whether anybody may take part.
    pub is_open: bool,
    /// Whether it is of somebody whom this node speaks for.
    pub is_ours: bool,
}

/// Why a text is no amount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BadAmount(String);

impl std::fmt::Display for BadAmount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is no amount: write QUANTITY:NAME, such as 5:gold, or 5:gold@PERSON", self.0)
    }
}

impl MarketWish {
    /// As the node takes it.
    pub(super) fn into_wish(self) -> Result<Wish, BadAmount> {
        let subjects = |names: Vec<String>| names.iter().map(|name| subject(name)).collect();
        Ok(match self {
            Self::IssueToken { amount } => {
                let Amount { quantity, name, .. } = read_amount(&amount)?;
                Wish::IssueToken { name, quantity }
            }
            Self::IssueTicket { amount, lasts_s, price } => {
                let Amount { quantity: uses, name, .. } = read_amount(&amount)?;
                let price = price.as_deref().map(read_amount).transpose()?;
                Wish::IssueTicket { name, uses, lasts_ms: lasts_s.saturating_mul(1_000), price }
            }
            Self::Give { amount, to } => Wish::Give { what: read_amount(&amount)?, to: subject(&to) },
            Self::Swap { give, want, want_in, lasts_s, only, prefer } => {
                let lasts_ms = lasts_s.saturating_mul(1_000);
                let terms = Terms { lasts_ms, only: subjects(only), prefer: subjects(prefer) };
                let wants_in = want_in.as_deref().map(channel_ref);
                Wish::Swap { gives: read_amount(&give)?, wants: read_amount(&want)?, wants_in, terms }
            }
        })
    }
}

impl MarketReport {
    /// As it is shown, with the names that people have in the channel, and those of other channels.
    pub(super) fn of(
        market: &MarketView,
        channel: &ChannelView,
        others: &BTreeMap<ChannelId, String>,
    ) -> Self {
        let name = |identity: &Identity| {
            let member = channel.members.iter().find(|member| member.identity == *identity);
            member.map_or_else(|| identity.to_string(), |member| member.profile.name().to_owned())
        };
        let amounts = |amounts: &[(Asset, u128)]| {
            let text = |(asset, quantity): &(Asset, u128)| {
                let home = asset.channel();
                let place = others.get(&home).cloned().unwrap_or_else(|| home.to_string());
                let place = if home == channel.id { String::new() } else { format!(" in {place}") };
                format!("{quantity}:{}@{}{place}", asset.name(), name(&asset.issuer()))
            };
            amounts.iter().map(text).collect()
        };
        let holdings = market.holdings.iter().map(|holding| HoldingReport {
            owner: name(&holding.owner),
            owner_identity: holding.owner.to_string(),
            quantity: holding.quantity.to_string(),
            asset: asset_report(&holding.asset, name),
        });
        let intents = market.intents.iter().map(|intent| IntentReport {
            id: intent.id.to_string(),
            author: name(&intent.author),
            author_identity: intent.author.to_string(),
            gives: amounts(&intent.gives),
            takes: amounts(&intent.takes),
            expires_ms: intent.expires.0,
            is_open: intent.is_open,
            is_ours: intent.is_ours,
        });
        Self { holdings: holdings.collect(), intents: intents.collect() }
    }
}

fn asset_report(asset: &Asset, name: impl Fn(&Identity) -> String) -> AssetReport {
    let (kind, expires_ms, price) = match asset {
        Asset::Token(_) => ("token", None, None),
        Asset::Ticket(label) => {
            let price = label.price.as_ref();
            let price = price.map(|p| format!("{}:{}@{}", p.quantity, p.name, name(&p.issuer)));
            ("ticket", Some(label.expires.0), price)
        }
    };
    AssetReport {
        kind: kind.into(),
        name: asset.name().to_owned(),
        issuer: name(&asset.issuer()),
        issuer_identity: asset.issuer().to_string(),
        expires_ms,
        price,
    }
}

fn read_amount(text: &str) -> Result<Amount, BadAmount> {
    let bad = || BadAmount(text.to_owned());
    let (quantity, name) = text.split_once(':').ok_or_else(bad)?;
    let quantity = quantity.parse().map_err(|_| bad())?;
    let (name, issuer) = match name.split_once('@') {
        Some((name, issuer)) if !issuer.is_empty() => (name, Some(subject(issuer))),
        Some(_) => return Err(bad()),
        None => (name, None),
    };
    Ok(Amount { quantity, name: name.to_owned(), issuer })
}

fn subject(text: &str) -> Subject {
    match text.parse::<Identity>() {
        Ok(identity) => Subject::Identity(identity),
        Err(_) => Subject::Name(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        let amount = |text: &str| read_amount(text).map(|a| (a.quantity, a.name, a.issuer));
        assert_eq!(amount("5:gold"), Ok((5, "gold".into(), None)));
        let named = |name: &str| Some(Subject::Name(name.into()));
        assert_eq!(amount("5:gold@alice"), Ok((5, "gold".into(), named("alice"))));
        assert_eq!(amount("5:gold@@a:b.org"), Ok((5, "gold".into(), named("@a:b.org"))));
        let identity = Identity([7; 32]);
        assert_eq!(
            amount(&format!("1:x@{identity}")),
            Ok((1, "x".into(), Some(Subject::Identity(identity))))
        );
        for bad in ["", "gold", "x:gold", "-1:gold", "5:gold@", "1.5:gold"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
    }
}

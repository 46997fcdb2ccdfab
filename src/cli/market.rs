//! `intent …` and `solver …`: what people want of tokens and tickets, and who brings them together.

use std::time::Duration;

use crate::control::{Answer, AssetReport, Client, Done, IntentReport, MarketReport, MarketWish, Request};

use super::args::{Intent, Solver};
use super::calendar;
use super::failure::Failure;
use super::output::{Output, columns};

/// Asks and prints.
///
/// # Errors
/// The node's refusal, or output that nobody reads.
pub async fn intent(node: &mut Client, command: &Intent, output: &mut Output) -> Result<(), Failure> {
    let (channel, wish, user) = match command {
        Intent::List { channel } => {
            let intents = market(node, channel).await?.intents;
            output.report(&intents, |intents| intents_lines(intents))?;
            return Ok(());
        }
        Intent::Show { channel, id } => return show(node, channel, id, output).await,
        Intent::Owned { channel } => {
            let market = market(node, channel).await?;
            output.report(&market.holdings, |_| holdings_lines(&market))?;
            return Ok(());
        }
        Intent::Issue { channel, amount, ticket, price, lasts_s, acting } => {
            let (amount, price, lasts_s) = (amount.clone(), price.clone(), *lasts_s);
            let wish = match ticket {
                true => MarketWish::IssueTicket { amount, lasts_s, price },
                false => MarketWish::IssueToken { amount },
            };
            (channel, wish, &acting.user)
        }
        Intent::Give { channel, amount, to, acting } => {
            (channel, MarketWish::Give { amount: amount.clone(), to: to.clone() }, &acting.user)
        }
        Intent::Submit { channel, give, want, want_in, lasts_s, only, prefer, acting } => {
            let (give, want, want_in) = (give.clone(), want.clone(), want_in.clone());
            let (only, prefer, lasts_s) = (only.clone(), prefer.clone(), *lasts_s);
            (channel, MarketWish::Swap { give, want, want_in, lasts_s, only, prefer }, &acting.user)
        }
    };
    let request = Request::Market { channel: channel.clone(), wish, user: user.clone() };
    let Answer::Done(done) = node.ask(&request).await? else { return Err(super::ask::surprise()) };
    output.report(&done, |done: &Done| match &done.event {
        Some(event) => vec![format!("settled in {event}")],
        None => vec![format!("waits for others: see `multichat intent list '{channel}'`")],
    })?;
    Ok(())
}

/// Solves once, or again and again.
///
/// # Errors
/// The node's refusal, or output that nobody reads.
pub async fn solver(node: &mut Client, command: &Solver, output: &mut Output) -> Result<(), Failure> {
    let Solver::Run { channel, every_s, acting } = command;
    loop {
        let request = Request::Solve { channel: channel.clone(), user: acting.user.clone() };
        let Answer::Done(done) = node.ask(&request).await? else { return Err(super::ask::surprise()) };
        output.report(&done, |done: &Done| match &done.event {
            Some(event) => vec![format!("settled, lastly in {event}")],
            None => vec!["nothing balances".to_owned()],
        })?;
        match every_s {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(*seconds)).await,
            None => return Ok(()),
        }
    }
}

async fn market(node: &mut Client, channel: &str) -> Result<MarketReport, Failure> {
    match node.ask(&Request::MarketOf { channel: channel.to_owned() }).await? {
        Answer::Market(market) => Ok(market),
        _ => Err(super::ask::surprise()),
    }
}

async fn show(node: &mut Client, channel: &str, id: &str, output: &mut Output) -> Result<(), Failure> {
    let intents = market(node, channel).await?.intents;
    let mut fitting = intents.into_iter().filter(|intent| intent.id.starts_with(id));
    let (Some(intent), None) = (fitting.next(), fitting.next()) else {
        return Err(Failure::new(format!(
            "`{id}` begins the id of no intent that waits, or of several: see `multichat intent list '{channel}'`"
        )));
    };
    output.report(&intent, intent_lines)?;
    Ok(())
}

fn intents_lines(intents: &[IntentReport]) -> Vec<String> {
    let row = |intent: &IntentReport| {
        let (gives, takes) = (intent.gives.join(" + "), intent.takes.join(" + "));
        let short = intent.id.chars().take(8).collect();
        vec![short, intent.author.clone(), format!("gives {gives}"), format!("for {takes}")]
    };
    match intents {
        [] => vec!["no intent waits: make one with `multichat intent submit`".to_owned()],
        some => columns(&some.iter().map(row).collect::<Vec<_>>()),
    }
}

fn intent_lines(intent: &IntentReport) -> Vec<String> {
    let open = if intent.is_open { "anybody" } else { "those whom it names" };
    let ours = if intent.is_ours { "this node" } else { "another node" };
    let rows = [
        ("intent", intent.id.clone()),
        ("author", format!("{} {}", intent.author, intent.author_identity)),
        ("gives", intent.gives.join(" + ")),
        ("for", intent.takes.join(" + ")),
        ("until", format!("{} UTC", calendar::stamp(intent.expires_ms))),
        ("with", open.to_owned()),
        ("from", ours.to_owned()),
    ];
    columns(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

fn holdings_lines(market: &MarketReport) -> Vec<String> {
    let row = |holding: &crate::control::HoldingReport| {
        let AssetReport { kind, name, issuer, price, .. } = &holding.asset;
        let price = price.as_ref().map(|price| format!("for {price}")).unwrap_or_default();
        vec![holding.owner.clone(), holding.quantity.clone(), format!("{name}@{issuer}"), kind.clone(), price]
    };
    match market.holdings.as_slice() {
        [] => vec!["nobody owns anything here: issue it with `multichat intent issue`".to_owned()],
        some => columns(&some.iter().map(row).collect::<Vec<_>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_read_like_offers() {
        let intent = IntentReport {
            id: "abcdefghijkl".into(),
            author: "alice".into(),
            author_identity: "i".into(),
            gives: vec!["5:gold@bob".into()],
            takes: vec!["1:pass@carol".into()],
            expires_ms: 0,
            is_open: true,
            is_ours: false,
        };
        let line = "abcdefgh  alice  gives 5:gold@bob  for 1:pass@carol";
        assert_eq!(intents_lines(std::slice::from_ref(&intent)), [line]);
        assert_eq!(intent_lines(&intent)[4], "until   1970-01-01 00:00:00 UTC");
    }
}

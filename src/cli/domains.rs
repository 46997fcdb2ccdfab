//! `multichat domains`: which domains the running node is in, who is in them, who was not let in and why; and
//! invites into those that it founded.

use super::args::Domains;
use super::ask::{from_now, surprise};
use super::failure::Failure;
use super::output::{Output, columns};
use crate::base::config::Admission;
use crate::control::{Answer, Client, DomainInvite, Request};
use crate::overlay::admission;
use crate::overlay::domain::DomainReport;

/// Asks and prints.
///
/// # Errors
/// The node's refusal, or output that nobody reads.
pub async fn run(node: &mut Client, command: Option<&Domains>, output: &mut Output) -> Result<(), Failure> {
    match command {
        None => {
            let Answer::Domains(domains) = node.ask(&Request::Domains).await? else { return Err(surprise()) };
            output.report(&domains, |domains| lines(domains))?;
        }
        Some(Domains::Invite { domain, expire }) => {
            let request =
                Request::InviteToDomain { domain: domain.clone(), expires_at_ms: expire.map(from_now) };
            let Answer::DomainInvite(invite) = node.ask(&request).await? else { return Err(surprise()) };
            output.report(&invite, invite_lines)?;
        }
    }
    Ok(())
}

fn lines(domains: &[DomainReport]) -> Vec<String> {
    let head = ["domain", "topology", "admission", "members here", "neighbours", "broadcasts", "carried in"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(domains.iter().map(|domain| {
        let admission = match (domain.admission, domain.founder) {
            (Admission::Open, _) => "open",
            (Admission::Psk, _) => "psk",
            (Admission::Invite, true) => "invite (founder)",
            (Admission::Invite, false) => "invite",
        };
        vec![
            domain.name.clone(),
            admission::word(domain.topology).to_owned(),
            admission.to_owned(),
            domain.members.len().to_string(),
            domain.neighbours.to_string(),
            domain.arrived.to_string(),
            domain.carried.to_string(),
        ]
    }));
    let mut lines = columns(&rows);
    for domain in domains {
        for refusal in &domain.refusals {
            let name = &domain.name;
            lines.push(match refusal.of_us {
                true => format!("{} does not let this node into {name}: {}", refusal.node, refusal.reason),
                false => format!("{} was not let into {name}; it was told: {}", refusal.node, refusal.reason),
            });
        }
    }
    lines
}

/// The invite, and what to put into the guest's configuration.
fn invite_lines(invite: &DomainInvite) -> Vec<String> {
    let addresses: Vec<String> = invite.addresses.iter().map(|address| format!("\"{address}\"")).collect();
    vec![
        "# A secret: whoever has it comes in. For the guest's config.yaml:".to_owned(),
        "node:".to_owned(),
        format!("  bootstrap: [{}]", addresses.join(", ")),
        "domains:".to_owned(),
        format!("  - name: {}", invite.domain),
        format!("    topology: {}", admission::word(invite.topology)),
        "    admission: invite".to_owned(),
        format!("    invite: \"{}\"", invite.invite),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::Topology;
    use crate::overlay::domain::RefusalReport;

    #[test]
    fn refusals_are_told_from_both_sides() {
        let refusal = |of_us| RefusalReport { node: "k3f9".into(), of_us, reason: "check `psk`".into() };
        let team = DomainReport {
            name: "team".into(),
            topology: Topology::Mesh,
            admission: Admission::Psk,
            founder: false,
            members: vec!["a".into(), "b".into()],
            neighbours: 2,
            arrived: 10,
            carried: 3,
            refusals: vec![refusal(true), refusal(false)],
        };
        assert_eq!(
            lines(&[team]),
            [
                "domain  topology  admission  members here  neighbours  broadcasts  carried in",
                "team    mesh      psk        2             2           10          3",
                "k3f9 does not let this node into team: check `psk`",
                "k3f9 was not let into team; it was told: check `psk`",
            ]
        );
    }

    #[test]
    fn what_an_invite_prints_is_a_configuration() {
        use crate::base::config::{Config, Surroundings};
        let invite = DomainInvite {
            domain: "club".into(),
            topology: Topology::Tree,
            invite: "multichat-domain:club/…".into(),
            addresses: vec!["/ip4/192.0.2.1/tcp/7700/p2p/12D3".into()],
        };
        let none = |_: &str| Err("no such file".to_owned());
        let around = Surroundings { env: &|_| None, secret: &none };
        let config = Config::load(&invite_lines(&invite).join("\n"), &around).unwrap();
        assert_eq!(config.domains[0].admission, Admission::Invite);
        assert_eq!(config.node.bootstrap, invite.addresses);
    }
}

//! `multichat simulate`: runs a scenario of overlays under virtual time, beside one flat gossip overlay and
//! a federated star under the same conditions, and shows what came of it. Owns the words and the plots; the
//! simulator itself is `overlay::sim`.

mod plot;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use super::output::{Output, columns};
use crate::overlay::sim::{self, Attack, Outcome, Scenario, Shape};

/// `simulate`.
#[derive(Args, Debug, Clone)]
pub struct Simulate {
    /// Simulated nodes, in all domains together
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=200_000))]
    pub nodes: u32,
    /// Domains
    #[arg(long, value_name = "D", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub domains: u8,
    /// How each domain's members are connected
    #[arg(long, value_name = "T", value_enum, default_value_t = Topology::Tree)]
    pub topology: Topology,
    /// Virtual minutes
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    pub minutes: f64,
    /// What goes wrong
    #[arg(long, value_name = "ATTACK", value_enum)]
    pub attack: Option<Trouble>,
    /// Adversaries, as a part of an attacked domain's members
    #[arg(long, value_name = "F", default_value_t = 0.4)]
    pub adversarial: f64,
    /// The run: the same seed gives the same report
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Messages a second, each for everyone
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub rate: f64,
    /// Only what was asked for, without flat gossip and star beside it
    #[arg(long)]
    pub alone: bool,
    /// Write plots into this folder
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// See `overlay::topology`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    Mesh,
    Tree,
    Gossip,
    Structured,
}

/// See `overlay::sim::Attack`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A part of every domain passes nothing on, from the start
    Censor,
    /// A part of the first domain turns in mid-run, all at once
    Flash,
    /// Many keys of few addresses join the first domain and pass nothing on
    Sybil,
    /// A part of the first domain surrounds some of its members
    Eclipse,
    /// A second domain is attacked once its volunteers have gone to the first
    Lure,
    /// Everyone starts at once and knows three entrances
    ColdBoot,
    /// For a minute nothing passes between Europe and the rest
    Partition,
}

/// What is printed as JSON.
#[derive(Serialize)]
pub struct Report {
    pub runs: Vec<Run>,
}

/// One overlay under the scenario.
#[derive(Serialize)]
pub struct Run {
    pub name: String,
    pub outcome: Outcome,
}

/// Runs it and shows the report.
///
/// # Errors
/// A fraction out of range, a folder that cannot be written.
pub fn run(simulate: &Simulate, output: &mut Output) -> Result<(), Failure> {
    if !(0.0..=0.95).contains(&simulate.adversarial) {
        return Err(Failure::new("--adversarial takes a fraction between 0 and 0.95"));
    }
    if !(1.0..=600.0).contains(&simulate.minutes) || !(0.01..=1_000.0).contains(&simulate.rate) {
        return Err(Failure::new("--minutes takes 1 to 600, --rate 0.01 to 1000"));
    }
    let report = report(simulate);
    if let Some(folder) = &simulate.svg {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
        };
        std::fs::create_dir_all(folder)?;
        let stem = simulate.attack.map_or("calm", name_of);
        write(&format!("{stem}-delivery.svg"), plot::delivery(&report))?;
        write(&format!("{stem}-health.svg"), plot::health(&report))?;
    }
    output.report(&report, lines)?;
    Ok(())
}

/// Runs the scenario, and those that it is compared with, each on a thread of its own.
pub fn report(simulate: &Simulate) -> Report {
    let pods = scenario(simulate);
    let mut wanted = vec![(format!("PODS, {} × {}", simulate.domains, word(pods.shape)), pods.clone())];
    if !simulate.alone {
        // The same adversaries: a part of the first domain is that part, divided by the domains, of all.
        let of_all = pods.adversarial / f64::from(pods.domains);
        let everywhere = matches!(pods.attack, Some(Attack::Censor));
        let adversarial = if everywhere { pods.adversarial } else { of_all };
        let flat = Scenario { domains: 1, adversarial, trial_ms: None, ..pods };
        wanted.push(("one flat gossip overlay".into(), Scenario { shape: Shape::Gossip, ..flat.clone() }));
        wanted.push(("federated star".into(), Scenario { shape: Shape::Star, ..flat }));
    }
    let runs = std::thread::scope(|threads| {
        let run = |(name, scenario)| threads.spawn(move || Run { name, outcome: sim::run(&scenario) });
        let running: Vec<_> = wanted.into_iter().map(run).collect();
        running.into_iter().map(|run| run.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    Report { runs }
}

fn scenario(simulate: &Simulate) -> Scenario {
    Scenario {
        nodes: simulate.nodes as usize,
        domains: simulate.domains,
        shape: match simulate.topology {
            Topology::Mesh => Shape::Mesh,
            Topology::Tree => Shape::Tree,
            Topology::Gossip => Shape::Gossip,
            Topology::Structured => Shape::Structured,
        },
        minutes: simulate.minutes,
        attack: simulate.attack.map(|trouble| match trouble {
            Trouble::Censor => Attack::Censor,
            Trouble::Flash => Attack::Flash,
            Trouble::Sybil => Attack::Sybil,
            Trouble::Eclipse => Attack::Eclipse,
            Trouble::Lure => Attack::Lure,
            Trouble::ColdBoot => Attack::ColdBoot,
            Trouble::Partition => Attack::Partition,
        }),
        adversarial: simulate.adversarial,
        seed: simulate.seed,
        rate_per_s: simulate.rate,
        ..Scenario::default()
    }
}

fn word(shape: Shape) -> &'static str {
    match shape {
        Shape::Mesh => "mesh",
        Shape::Tree => "tree",
        Shape::Gossip => "gossip",
        Shape::Structured => "structured",
        Shape::Star => "star",
    }
}

fn name_of(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Censor => "censor",
        Trouble::Flash => "flash",
        Trouble::Sybil => "sybil",
        Trouble::Eclipse => "eclipse",
        Trouble::Lure => "lure",
        Trouble::ColdBoot => "cold-boot",
        Trouble::Partition => "partition",
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(report.runs.iter().map(|run| run.name.clone()));
    let mut row = |title: &str, cell: &dyn Fn(&Outcome) -> String| {
        let mut row = vec![title.to_owned()];
        row.extend(report.runs.iter().map(|run| cell(&run.outcome)));
        rows.push(row);
    };
    let percent = |part: f64| format!("{:.3}%", part * 100.0);
    let optional = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
    row("messages, deliveries owed", &|o| format!("{}, {}", o.messages, o.owed));
    row("delivered", &|o| percent(o.delivery));
    row("… of those before the attack", &|o| percent(o.delivery_before));
    row("… of those since", &|o| percent(o.delivery_attacked));
    row("within 5 s", &|o| percent(o.timely));
    row("… of those since the attack", &|o| percent(o.timely_attacked));
    row("p50, p99 in ms", &|o| format!("{}, {}", o.p50_ms, o.p99_ms));
    row("hops: mean, most", &|o| format!("{:.1}, {}", o.mean_hops, o.max_hops));
    row("bytes/s a node: mean, p99", &|o| {
        format!("{:.0}, {:.0}", o.bytes_per_node_s, o.bytes_per_node_s_p99)
    });
    row("wire bytes per payload byte", &|o| format!("{:.2}", o.wire_per_payload));
    row("99% within 5 s again after", &|o| match o.recovery_s {
        Some(seconds) => format!("{seconds:.0} s"),
        None => "never".into(),
    });
    row("serving fraction: before, lowest, end", &|o| {
        format!("{}, {}, {}", optional(o.serving_before), optional(o.serving_lowest), optional(o.serving_end))
    });
    row("volunteers at the most", &|o| o.volunteers_most.to_string());
    let mut lines = columns(&rows);
    if let Some(run) = report.runs.first() {
        let uses = run.outcome.purposes.iter().map(|(use_, part)| format!("{use_} {:.0}%", part * 100.0));
        lines.push(String::new());
        lines.push(format!("where its bytes go: {}", uses.collect::<Vec<_>>().join(", ")));
    }
    lines
}

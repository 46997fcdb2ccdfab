//! The plots of a report, as SVG: lines over virtual time. Owns the drawing; every figure is the report's.

use std::fmt::Write as _;

use super::Report;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top, bottom of the area that is drawn in.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;
/// Colours that differ for the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A named line of points: minutes, and a part of one.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// What part of messages came within five seconds, by when they were said.
pub fn delivery(report: &Report) -> String {
    let lines = report.runs.iter().map(|run| Line {
        name: run.name.clone(),
        points: run
            .outcome
            .periods
            .iter()
            .filter(|period| period.owed > 0)
            .map(|period| (period.at_ms as f64 / 60_000.0, period.timely as f64 / period.owed as f64))
            .collect(),
    });
    draw("Delivered within 5 s, by the time a message was said", report, &lines.collect::<Vec<_>>())
}

/// Serving fraction of the first domain: as measured, and as it is.
pub fn health(report: &Report) -> String {
    let Some(run) = report.runs.first() else { return String::new() };
    let first = || run.outcome.health.iter().filter(|(domain, ..)| *domain == 0);
    let members = run.outcome.scenario.nodes as f64 / f64::from(run.outcome.scenario.domains);
    let minutes = |at_ms: u64| at_ms as f64 / 60_000.0;
    let lines = [
        Line {
            name: "measured (lower bound)".into(),
            points: first().map(|(_, at, measured, ..)| (minutes(*at), *measured)).collect(),
        },
        Line {
            name: "honest members of all".into(),
            points: first().map(|(_, at, _, real, _)| (minutes(*at), *real)).collect(),
        },
        Line {
            name: "volunteers per native".into(),
            points: first().map(|(_, at, _, _, n)| (minutes(*at), (*n as f64 / members).min(1.0))).collect(),
        },
    ];
    draw("Serving fraction of the first domain", report, &lines)
}

fn draw(title: &str, report: &Report, lines: &[Line]) -> String {
    let Some(scenario) = report.runs.first().map(|run| &run.outcome.scenario) else { return String::new() };
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |minutes: f64| LEFT + wide * (minutes / scenario.minutes).clamp(0.0, 1.0);
    let y = |part: f64| TOP + high * (1.0 - part.clamp(0.0, 1.0));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{title}</text>\n"
    );
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}%</text>",
            LEFT + wide,
            LEFT - 6.0,
            y(part) + 4.0,
            part * 100.0,
            y = y(part),
        );
    }
    let step = (scenario.minutes / 6.0).ceil().max(1.0);
    let mut minute = 0.0;
    while minute <= scenario.minutes {
        let at = TOP + high + 18.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{at}\" text-anchor=\"middle\">{minute} min</text>",
            x(minute)
        );
        minute += step;
    }
    if scenario.attack.is_some() {
        let at = x(scenario.attack_ms() as f64 / 60_000.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#888\" \
             stroke-dasharray=\"4 3\"/>",
            TOP + high
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<String> =
            line.points.iter().map(|(at, part)| format!("{:.1},{:.1}", x(*at), y(*part))).collect();
        let legend = TOP + 14.0 + 20.0 * number as f64;
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{legend:.1}\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            LEFT + wide + 12.0,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

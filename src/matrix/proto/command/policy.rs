//! A channel's policy as people write it: `policy join invite`, `policy slow 3/10s`, `expire 7d`.

use crate::chat::channel::{Change, JoinRule, Quota};
use crate::chat::flow::{Flow, Sink};

/// What is wanted of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    Show,
    Change(Change),
    /// Whether only moderators may speak: what that changes depends on what the policy is.
    Moderated(bool),
}

const HELP: &str = "What can be set:\n\
    policy join open|invite|knock\n\
    policy moderated on|off – only moderators speak\n\
    policy slow 3/10s|off – so many messages in so long, for members\n\
    policy retention 7d|off – when texts are deleted\n\
    policy ttl 1d|off – the longest that a message may last\n\
    policy flow any|none|matrix:server irc:network search – where messages may go";

/// Understands what follows `policy`.
///
/// # Errors
/// The answer that says how it goes.
pub fn parse(words: &[&str]) -> Result<Wanted, String> {
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let words: Vec<&str> = lower.iter().map(String::as_str).collect();
    let change = match words.as_slice() {
        [] | ["show"] => return Ok(Wanted::Show),
        ["moderated", "on"] => return Ok(Wanted::Moderated(true)),
        ["moderated", "off"] => return Ok(Wanted::Moderated(false)),
        ["join", "open" | "public"] => Change::Join(JoinRule::Open),
        ["join", "invite"] => Change::Join(JoinRule::Invite),
        ["join", "knock"] => Change::Join(JoinRule::Knock),
        ["slow", "off"] => Change::SlowMode(None),
        ["slow", quota] => Change::SlowMode(Some(slow(quota).ok_or(HELP)?)),
        ["retention", "off"] => Change::Retention(None),
        ["retention", time] => Change::Retention(Some(milliseconds(time).ok_or(HELP)?)),
        ["ttl", "off"] => Change::MaxTtl(None),
        ["ttl", time] => Change::MaxTtl(Some(milliseconds(time).ok_or(HELP)?)),
        ["flow", "any"] => Change::Flow(Flow::Any),
        ["flow", "none"] => Change::Flow(Flow::Only(Vec::new())),
        ["flow", sinks @ ..] if !sinks.is_empty() => {
            let sinks: Option<Vec<Sink>> = sinks.iter().map(|sink| Sink::parse(sink)).collect();
            let mut sinks = sinks.ok_or(HELP)?;
            sinks.sort();
            sinks.dedup();
            Change::Flow(Flow::Only(sinks))
        }
        _ => return Err(HELP.into()),
    };
    Ok(Wanted::Change(change))
}

/// `3/10s`: three messages in ten seconds.
fn slow(text: &str) -> Option<Quota> {
    let (events, time) = text.split_once('/')?;
    let events = events.parse().ok().filter(|events| *events > 0)?;
    Some(Quota { events, per_ms: milliseconds(time)? })
}

/// `90s`, `5m`, `12h`, `7d`, `2w`: never nothing.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[number.len()..] {
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|ms| *ms > 0)
}

/// A time in the largest unit that holds it exactly.
pub fn duration(ms: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms > 0 && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms} ms")
}

/// A flow in words.
pub fn flow_words(flow: &Flow) -> String {
    match flow {
        Flow::Any => "any".into(),
        Flow::Only(sinks) if sinks.is_empty() => "none, members only".into(),
        Flow::Only(sinks) => sinks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_people_write_them() {
        let check = |text: &str, expect: Change| {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(parse(&words), Ok(Wanted::Change(expect)), "{text}");
        };
        check("join Invite", Change::Join(JoinRule::Invite));
        check("slow 3/10s", Change::SlowMode(Some(Quota { events: 3, per_ms: 10_000 })));
        check("slow off", Change::SlowMode(None));
        check("retention 2w", Change::Retention(Some(14 * 86_400_000)));
        check("ttl 90min", Change::MaxTtl(Some(5_400_000)));
        let sinks = vec![Sink::Matrix("example.org".into()), Sink::Irc("libera".into())];
        check("flow irc:libera matrix:example.org", Change::Flow(Flow::Only(sinks)));
        assert_eq!(parse(&[]), Ok(Wanted::Show));
        assert_eq!(parse(&["moderated", "on"]), Ok(Wanted::Moderated(true)));
        for bad in [
            "help",
            "slow 0/1s",
            "slow 3",
            "retention 0d",
            "retention d",
            "retention 7",
            "flow x:y",
            "join us",
            "ttl 99999999999999999999d",
        ] {
            let words: Vec<&str> = bad.split(' ').collect();
            assert_eq!(parse(&words), Err(HELP.to_owned()), "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["90s", "5m", "12h", "7d"] {
            assert_eq!(duration(milliseconds(text).unwrap()), text);
        }
        assert_eq!(duration(1_500), "1500 ms");
    }
}

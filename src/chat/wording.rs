//! Settings as people write and read them: one form for every door.
//!
//! | setting | values |
//! |---|---|
//! | `topic`, `title`, `avatar` | a text |
//! | `join` | `open`, `invite`, `knock` or `ticket` |
//! | `flow` | `any`, `none`, or sinks: `matrix:example.org irc:irc.libera.chat:6697 search` |
//! | `retention`, `max-ttl` | `7d`, `12h`, `30m`, `45s`, or `off` |
//! | `slow` | `5/1m` (events in a time), or `off` |
//! | `role ROLE` | `name=voice`, and permissions to allow or deny: `+pin -send_message` |
//! | `person WHO` | the same without a name |
//! | `closed` | `on` or `off` |

use std::fmt;

use super::channel::{Change, JoinRule, Quota, RoleRule, Rule};
use super::flow::{Flow, Sink};
use super::permissions::{Permission, Permissions};
use super::policy::Policy;
use crate::base::{Identity, Kind};

/// Why words name no setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadSetting(String);

impl BadSetting {
    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

const SETTINGS: &str = "topic, title, avatar, join, flow, retention, max-ttl, slow, role ROLE, person WHO, closed, shared WORKSPACE";

/// The change that somebody asks for. What a role or person may do already stays unless it is named
/// anew; `who` finds people by what they are called.
///
/// # Errors
/// [`BadSetting`] says what is understood.
pub fn change(
    setting: &str,
    values: &[String],
    policy: &Policy,
    who: impl Fn(&str) -> Option<Identity>,
) -> Result<Change, BadSetting> {
    let text = values.join(" ");
    let change = match setting {
        "topic" => Change::Topic(text),
        "title" => Change::Title(text),
        "avatar" => Change::Avatar(text),
        "join" => Change::Join(match text.as_str() {
            "open" => JoinRule::Open,
            "invite" => JoinRule::Invite,
            "knock" => JoinRule::Knock,
            "ticket" => JoinRule::Ticket,
            _ => return Err(expected("open, invite, knock or ticket")),
        }),
        "flow" => Change::Flow(flow(values)?),
        "retention" => Change::Retention(span(&text)?),
        "max-ttl" => Change::MaxTtl(span(&text)?),
        "slow" => Change::SlowMode(quota(&text)?),
        "closed" => Change::Closed(match text.as_str() {
            "on" => true,
            "off" => false,
            _ => return Err(expected("on or off")),
        }),
        "shared" => {
            let expects = || expected("shared WORKSPACE on or off, the workspace by its id");
            let [workspace, is_shared] = values else { return Err(expects()) };
            let workspace = workspace.parse().map_err(|_| expects())?;
            match is_shared.as_str() {
                "on" => Change::Shared { workspace, is_shared: true },
                "off" => Change::Shared { workspace, is_shared: false },
                _ => return Err(expects()),
            }
        }
        "role" => {
            let (name, rest) = values.split_first().ok_or_else(|| expected("role ROLE +permission …"))?;
            let role = policy.role_named(name);
            let role = role.ok_or_else(|| {
                expected("a role: admin, moderator, member, role900 or a name given before")
            })?;
            let before = policy.roles.get(&role).cloned().unwrap_or_default();
            let (named, rest): (Vec<&String>, Vec<&String>) =
                rest.iter().partition(|word| word.starts_with("name="));
            let name = named.first().and_then(|word| word.strip_prefix("name="));
            let name = name.map_or(before.name, str::to_owned);
            Change::Role { role, rule: RoleRule { name, rule: rule(before.rule, &rest)? } }
        }
        "person" => {
            let (name, rest) = values.split_first().ok_or_else(|| expected("person WHO +permission …"))?;
            let person =
                who(name).ok_or_else(|| expected("somebody in the channel, by name, account or identity"))?;
            let before = policy.people.get(&person).copied().unwrap_or_default();
            Change::Person { person, rule: rule(before, &rest.iter().collect::<Vec<_>>())? }
        }
        _ => return Err(expected(SETTINGS)),
    };
    if change.is_well_formed() { Ok(change) } else { Err(BadSetting("that is too long or too much".into())) }
}

/// A policy in words, one setting a line, the default ones left out but for who may join.
pub fn policy_lines(policy: &Policy) -> Vec<(String, String)> {
    let mut lines = vec![("join".to_owned(), join_name(policy.join).to_owned())];
    for change in policy.changes() {
        if let Some(line) = line(&change, policy) {
            lines.push(line);
        }
    }
    lines
}

/// A change in words: which setting, and what it becomes.
pub fn change_words(change: &Change) -> (String, String) {
    match change {
        Change::Topic(text) => ("topic".into(), text.clone()),
        Change::Title(text) => ("title".into(), text.clone()),
        Change::Avatar(text) => ("avatar".into(), text.clone()),
        Change::Pins(pins) => ("pins".into(), pins.len().to_string()),
        Change::Join(rule) => ("join".into(), join_name(*rule).into()),
        Change::Successor(Some(channel)) => ("successor".into(), channel.to_string()),
        Change::Successor(None) => ("successor".into(), "none".into()),
        Change::Closed(closed) => ("closed".into(), if *closed { "on" } else { "off" }.into()),
        Change::Shared { workspace, is_shared } => {
            (format!("shared {workspace}"), if *is_shared { "on" } else { "off" }.into())
        }
        Change::Flow(flow) => ("flow".into(), flow_words(flow)),
        Change::Retention(ms) => ("retention".into(), span_words(*ms)),
        Change::MaxTtl(ms) => ("max-ttl".into(), span_words(*ms)),
        Change::SlowMode(quota) => ("slow".into(), quota_words(*quota)),
        Change::Role { role, rule } => {
            let name = if rule.name.is_empty() { String::new() } else { format!("name={} ", rule.name) };
            let role = match role {
                super::access::Role::Custom(rank) => format!("role{rank}"),
                role => role.name().to_owned(),
            };
            (format!("role {role}"), format!("{name}{}", rule_words(&rule.rule)))
        }
        Change::Person { person, rule } => (format!("person {person}"), rule_words(rule)),
    }
}

fn line(change: &Change, policy: &Policy) -> Option<(String, String)> {
    match change {
        Change::Join(_) => None,
        Change::Closed(_) if !policy.closed => None,
        change => Some(change_words(change)),
    }
}

fn join_name(rule: JoinRule) -> &'static str {
    match rule {
        JoinRule::Open => "open",
        JoinRule::Invite => "invite",
        JoinRule::Knock => "knock",
        JoinRule::Ticket => "ticket",
    }
}

fn expected(what: &str) -> BadSetting {
    BadSetting(format!("expected {what}"))
}

fn flow(values: &[String]) -> Result<Flow, BadSetting> {
    match values {
        [word] if word == "any" => Ok(Flow::Any),
        [word] if word == "none" => Ok(Flow::Only(Vec::new())),
        [] => Err(expected("any, none, or sinks such as matrix:example.org")),
        _ => {
            let words = values.iter().flat_map(|value| value.split(',')).filter(|word| !word.is_empty());
            let sinks: Option<Vec<Sink>> = words.map(Sink::parse).collect();
            let mut sinks =
                sinks.ok_or_else(|| expected("sinks such as matrix:example.org, irc:HOST:PORT or search"))?;
            sinks.sort();
            sinks.dedup();
            Ok(Flow::Only(sinks))
        }
    }
}

fn flow_words(flow: &Flow) -> String {
    match flow {
        Flow::Any => "any".into(),
        Flow::Only(sinks) if sinks.is_empty() => "none".into(),
        Flow::Only(sinks) => sinks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// `+pin -react` upon what was before: naming a permission anew replaces what was said of it.
fn rule(before: Rule, words: &[&String]) -> Result<Rule, BadSetting> {
    let mut rule = before;
    for word in words {
        let known = |name: &str| {
            let names: Vec<&str> = Permission::ALL.iter().map(|permission| permission.name()).collect();
            let permission = Permission::named(name).map(|permission| Permissions::of(&[permission]));
            permission.ok_or_else(|| expected(&format!("+ or - and one of {}", names.join(", "))))
        };
        let (allow, deny) = match word.split_at_checked(1) {
            Some(("+", name)) => (known(name)?, Permissions::NONE),
            Some(("-", name)) => (Permissions::NONE, known(name)?),
            Some(("=", name)) => {
                let named = known(name)?;
                (rule.allow, rule.deny) = (rule.allow.without(named), rule.deny.without(named));
                continue;
            }
            _ => return Err(expected("permissions such as +pin, -react, or =react for the default")),
        };
        rule.allow = rule.allow.without(deny).with(allow);
        rule.deny = rule.deny.without(allow).with(deny);
    }
    Ok(rule)
}

fn rule_words(rule: &Rule) -> String {
    let allowed = rule.allow.iter().map(|permission| format!("+{}", permission.name()));
    let denied = rule.deny.iter().map(|permission| format!("-{}", permission.name()));
    allowed.chain(denied).collect::<Vec<_>>().join(" ")
}

fn span(text: &str) -> Result<Option<u64>, BadSetting> {
    if text == "off" {
        return Ok(None);
    }
    duration_ms(text).map(Some).ok_or_else(|| expected("a time such as 7d, 12h, 30m or 45s, or off"))
}

fn span_words(ms: Option<u64>) -> String {
    ms.map_or_else(|| "off".to_owned(), duration_words)
}

fn quota(text: &str) -> Result<Option<Quota>, BadSetting> {
    if text == "off" {
        return Ok(None);
    }
    let quota = text.split_once('/').and_then(|(events, per)| {
        Some(Quota { events: events.parse().ok().filter(|events| *events > 0)?, per_ms: duration_ms(per)? })
    });
    quota.map(Some).ok_or_else(|| expected("how many in which time, such as 5/1m, or off"))
}

fn quota_words(quota: Option<Quota>) -> String {
    quota.map_or_else(
        || "off".to_owned(),
        |quota| format!("{}/{}", quota.events, duration_words(quota.per_ms)),
    )
}

const UNITS: [(&str, u64); 5] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Milliseconds of `7d`, `12h`, `30m` or `45s`; at least one second.
pub fn duration_ms(text: &str) -> Option<u64> {
    let (_, unit) = UNITS.iter().find(|(name, _)| text.ends_with(name))?;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(*unit).filter(|ms| *ms > 0)
}

/// The same in words, in the largest unit that fits.
pub fn duration_words(ms: u64) -> String {
    let fits = UNITS.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{ms}ms"), |(name, unit)| format!("{}{name}", ms / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: crate::base::ChannelId = crate::base::ChannelId([7; 32]);
    const ANNA: Identity = Identity([1; 32]);

    fn read(line: &str, policy: &Policy) -> Result<Change, BadSetting> {
        let mut words = line.split(' ').map(str::to_owned);
        let setting = words.next().unwrap_or_default();
        let who = |name: &str| (name == "anna").then_some(ANNA);
        change(&setting, &words.collect::<Vec<_>>(), policy, who)
    }

    #[test]
    fn settings_read_as_they_are_written() {
        let mut policy = Policy::default();
        for (line, shown) in [
            ("join knock", "join knock"),
            ("flow search,irc:net:6667 matrix:example.org", "flow matrix:example.org irc:net:6667 search"),
            ("flow none", "flow none"),
            ("retention 36h", "retention 36h"),
            ("retention 14d", "retention 2w"),
            ("max-ttl off", "max-ttl off"),
            ("slow 5/1m", "slow 5/1m"),
            ("role role900 name=voice +pin -react", "role role900 name=voice +pin -react"),
            ("role voice +react =pin", "role role900 name=voice +react"),
            ("person anna -send_message", &format!("person {ANNA} -send_message")),
            ("closed on", "closed on"),
            (&format!("shared {TEAM} on"), &format!("shared {TEAM} on")),
            ("topic what we do", "topic what we do"),
        ] {
            let change = read(line, &policy).unwrap();
            let (setting, value) = change_words(&change);
            assert_eq!(format!("{setting} {value}"), shown);
            policy.apply(&change);
        }
        let lines: Vec<String> =
            policy_lines(&policy).into_iter().map(|(setting, value)| format!("{setting} {value}")).collect();
        assert_eq!(lines[..4], ["join knock", "flow none", "retention 2w", "slow 5/1m"]);
        assert!(lines.contains(&"closed on".to_owned()) && lines.contains(&format!("shared {TEAM} on")));
        assert_eq!(policy_lines(&Policy::default()), [("join".to_owned(), "open".to_owned())]);
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        for (line, expect) in [
            ("colour red", "topic, title"),
            ("join maybe", "open, invite"),
            ("retention soon", "7d"),
            ("retention 0d", "7d"),
            ("slow 0/1m", "5/1m"),
            ("flow nowhere:x", "sinks"),
            ("flow", "sinks"),
            ("role chief +pin", "a role"),
            ("role member +fly", "send_message"),
            ("role member pin", "+pin"),
            ("person bert +pin", "somebody"),
            ("closed maybe", "on or off"),
            ("shared garden on", "by its id"),
        ] {
            let error = read(line, &Policy::default()).unwrap_err().to_string();
            assert!(error.contains(expect), "{line}: {error}");
        }
        assert_eq!(duration_ms("99999999999999999999d"), None);
        assert_eq!(duration_ms("ü"), None);
        assert_eq!(duration_words(1_500), "1500ms");
    }
}

//! The commands that ask the running node, and how its answers look to a person.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::config::irc_parts;
use crate::control::{
    Answer, ChannelReport, ChannelSummary, Client, Done, FoundReport, MemberReport, MessageReport, Place,
    Request, StatusReport, Then,
};
use crate::matrix::homeserver::Homeserver;
use crate::matrix::proto::registration::Registration;

use super::args::{self, Ask, Channel, Link};
use super::calendar;
use super::domains;
use super::failure::Failure;
use super::load::LoadedConfig;
use super::market;
use super::output::{Output, columns};

/// Asks and prints.
///
/// # Errors
/// No node, its refusal, or output that nobody reads.
pub async fn run(command: &Ask, loaded: &LoadedConfig, output: &mut Output) -> Result<(), Failure> {
    let mut node = Client::connect(&loaded.data_dir).await?;
    match command {
        Ask::Status => {
            let status = status(&mut node).await?;
            output.report(&status, status_lines)?;
        }
        Ask::Peers => {
            let peers = status(&mut node).await?.peers;
            output.report(&peers, |peers| {
                or_none(peers.clone(), "no peers: see node.bootstrap and node.lan")
            })?;
        }
        Ask::Domains { command } => domains::run(&mut node, command.as_ref(), output).await?,
        Ask::Links => {
            let links = links(channels(&mut node).await?);
            output.report(&links, links_lines)?;
        }
        Ask::Channels => {
            let channels = channels(&mut node).await?;
            output.report(&channels, |channels| channels_lines(channels))?;
        }
        Ask::Members { channel } => {
            let members = channel_report(&mut node, channel).await?.members;
            output.report(&members, |members| members_lines(members))?;
        }
        Ask::Channel(Channel::Show { name }) => {
            let channel = channel_report(&mut node, name).await?;
            output.report(&channel, channel_lines)?;
        }
        Ask::History { channel, before, limit } => {
            let limit = *limit as usize;
            let request = Request::History { channel: channel.clone(), before: before.clone(), limit };
            let Answer::History(messages) = node.ask(&request).await? else { return Err(surprise()) };
            output.report(&messages, |messages| history_lines(messages, channel, limit))?;
        }
        Ask::Intent(command) => market::intent(&mut node, command, output).await?,
        Ask::Solver(command) => market::solver(&mut node, command, output).await?,
        Ask::Link(link) => {
            let (request, said) = link_request(link, loaded, &mut node).await?;
            wish(&mut node, request, said, output).await?;
        }
        Ask::Channel(Channel::Policy { name, setting: None, .. }) => {
            let policy = channel_report(&mut node, name).await?.policy;
            output.report(&policy, |policy| policy_lines(policy))?;
        }
        Ask::Search { words, channel, limit } => {
            let (words, channel, limit) = (words.join(" "), channel.clone(), *limit as usize);
            let request = Request::Search { words, channel, limit };
            let Answer::Found(found) = node.ask(&request).await? else { return Err(surprise()) };
            output.report(&found, |found| found_lines(found))?;
        }
        Ask::Channel(channel) => {
            let (request, said) = channel_request(channel)?;
            wish(&mut node, request, said, output).await?;
        }
        Ask::Send { channel, text, expire, acting } => {
            let (channel, text, user) = (channel.clone(), text.clone(), acting.user.clone());
            let expires_at_ms = expire.map(from_now);
            wish(&mut node, Request::Send { channel, text, expires_at_ms, user }, "sent", output).await?;
        }
    }
    Ok(())
}

async fn status(node: &mut Client) -> Result<StatusReport, Failure> {
    match node.ask(&Request::Status).await? {
        Answer::Status(status) => Ok(status),
        _ => Err(surprise()),
    }
}

async fn channels(node: &mut Client) -> Result<Vec<ChannelSummary>, Failure> {
    match node.ask(&Request::Channels).await? {
        Answer::Channels(channels) => Ok(channels),
        _ => Err(surprise()),
    }
}

async fn channel_report(node: &mut Client, channel: &str) -> Result<ChannelReport, Failure> {
    match node.ask(&Request::Channel { channel: channel.to_owned() }).await? {
        Answer::Channel(channel) => Ok(channel),
        _ => Err(surprise()),
    }
}

async fn wish(node: &mut Client, request: Request, said: &str, output: &mut Output) -> Result<(), Failure> {
    let Answer::Done(done) = node.ask(&request).await? else { return Err(surprise()) };
    output.report(&done, |done: &Done| {
        let words = [Some(said), done.channel.as_deref(), done.event.as_deref()];
        let note = if done.event.is_none() && said == "joined" { " (was a member already)" } else { "" };
        let mut lines = vec![format!("{}{note}", words.into_iter().flatten().collect::<Vec<_>>().join(" "))];
        lines.extend(
            done.withheld.iter().map(|sink| format!("not carried to {sink}: it is not cleared for it")),
        );
        lines.extend(done.invite.clone());
        lines
    })?;
    Ok(())
}

fn channel_request(channel: &Channel) -> Result<(Request, &'static str), Failure> {
    Ok(match channel {
        Channel::Create { name, topic, acting } => {
            let (channel, topic, user) = (name.clone(), topic.clone(), acting.user.clone());
            (Request::Create { channel, topic, user }, "created")
        }
        Channel::Join { name, acting } => {
            (Request::Join { channel: name.clone(), user: acting.user.clone() }, "joined")
        }
        Channel::Leave { name, acting } => {
            (Request::Leave { channel: name.clone(), user: acting.user.clone() }, "left")
        }
        Channel::Grant { name, who, role, acting } => {
            let (channel, who, role) = (name.clone(), who.clone(), role.clone());
            (Request::Grant { channel, who, role, user: acting.user.clone() }, "granted")
        }
        Channel::Revoke { name, who, to, because } => {
            (revocation(name, who, Then::Demoted(to.clone()), because), "revoked")
        }
        Channel::Kick { name, who, because } => (revocation(name, who, Then::Kicked, because), "kicked"),
        Channel::Ban { name, who, because } => (revocation(name, who, Then::Banned, because), "banned"),
        Channel::Unban { name, who, because } => (revocation(name, who, Then::Unbanned, because), "unbanned"),
        Channel::Policy { name, setting: Some(setting), values, user } => {
            let (channel, setting, values) = (name.clone(), setting.clone(), values.clone());
            (Request::Policy { channel, setting, values, user: user.clone() }, "changed")
        }
        Channel::Invite { name, role, expire, acting } => {
            let (channel, role, user) = (name.clone(), role.clone(), acting.user.clone());
            (Request::Invite { channel, role, expires_at_ms: expire.0.map(from_now), user }, "invited to")
        }
        Channel::Upgrade { name, acting } => {
            (Request::Upgrade { channel: name.clone(), user: acting.user.clone() }, "goes on as")
        }
        Channel::Policy { setting: None, .. } | Channel::Show { .. } => return Err(surprise()),
    })
}

fn revocation(channel: &str, who: &str, then: Then, because: &args::Because) -> Request {
    let (channel, who, reason) = (channel.to_owned(), who.to_owned(), because.reason.clone());
    Request::Revoke { channel, who, then, reason, user: because.acting.user.clone() }
}

/// The moment that comes after so many milliseconds. The node is on this machine: its clock is ours.
pub(super) fn from_now(ms: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_millis() as u64).saturating_add(ms)
}

async fn link_request(
    link: &Link,
    loaded: &LoadedConfig,
    node: &mut Client,
) -> Result<(Request, &'static str), Failure> {
    match link {
        Link::Add { channel, place } => {
            let (channel, place) = (channel.clone(), resolve(place, loaded).await?);
            Ok((Request::Link { channel, place }, "linked"))
        }
        Link::Remove { channel, place } => {
            let place = resolve(place, loaded).await?;
            if let Some(channel) = channel {
                let report = channel_report(node, channel).await?;
                if !report.links.contains(&place) {
                    let name = report.name;
                    return Err(Failure::new(format!(
                        "{name} is not linked to {place}: see `multichat links`"
                    )));
                }
            }
            Ok((Request::Unlink { place }, "unlinked"))
        }
    }
}

/// From what was typed to what two operators would both call the place: a room's id, a network's
/// address.
async fn resolve(place: &args::Place, loaded: &LoadedConfig) -> Result<Place, Failure> {
    if let Some(room) = &place.matrix {
        return resolve_room(room, loaded).await.map(Place::Matrix);
    }
    let text = place.irc.as_deref().unwrap_or_default();
    let (network, channel) = irc_parts(text)
        .ok_or_else(|| Failure::new(format!("`{text}` is not NETWORK/#channel, such as libera/#rust")))?;
    let networks = &loaded.config.irc.networks;
    let known = networks.get(network).ok_or_else(|| {
        let names: Vec<&str> = networks.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::new(format!(
            "no network `{network}` under irc.networks (there: {names}): add it and restart"
        ))
    })?;
    Ok(Place::Irc { network: known.address.to_ascii_lowercase(), channel: channel.to_lowercase() })
}

async fn resolve_room(room: &str, loaded: &LoadedConfig) -> Result<String, Failure> {
    let matrix = loaded.config.matrix.as_ref().ok_or_else(|| {
        Failure::new("this node runs without Matrix: add the section `matrix:` to the configuration")
    })?;
    if room.starts_with('!') {
        return Ok(room.to_owned());
    }
    if !room.starts_with('#') || !room.contains(':') {
        return Err(Failure::new(format!("`{room}` is not a room: give \"#alias:server\" or \"!id\"")));
    }
    let registration = read_registration(&matrix.registration)?;
    let homeserver = Homeserver::new(&matrix.homeserver, &registration.as_token)?;
    match homeserver.resolve(room).await {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(Failure::new(format!("no room has the alias {room}: check its spelling"))),
        Err(error) => Err(Failure::new(format!("{error}: run `multichat doctor`"))),
    }
}

/// Reads a registration file.
///
/// # Errors
/// One line that names the file and what to do.
pub fn read_registration(path: &str) -> Result<Registration, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{path}: {error}: make one with `multichat init`")))?;
    Registration::from_yaml(&text).map_err(|error| Failure::new(format!("{path}: {error}")))
}

pub(super) fn surprise() -> Failure {
    Failure::new("the node's answer fits another question: is it of another version? restart it")
}

fn status_lines(status: &StatusReport) -> Vec<String> {
    let mut rows = vec![
        ("node", status.node.clone()),
        ("peers", status.peers.len().to_string()),
        ("channels", status.channels.to_string()),
        ("events", format!("{} ({} waiting for their past)", status.events, status.pending_events)),
        ("state", status.state_root.clone()),
    ];
    rows.extend(
        status.outbox.iter().map(|door| ("outbox", format!("{} {} waiting", door.door, door.waiting))),
    );
    rows.extend(
        status.refused.iter().map(|refused| ("refused", format!("{} {}", refused.count, refused.reason))),
    );
    rows.extend(
        status.carriers.iter().map(|link| ("link", format!("{} carried by {}", link.link, link.carrier))),
    );
    if status.wanted_texts > 0 {
        rows.push(("texts", format!("{} lacking, asked for", status.wanted_texts)));
    }
    rows.extend(status.exports.iter().map(|export| {
        ("export", format!("{} {} carried, {} withheld", export.sink, export.carried, export.withheld))
    }));
    columns(&rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect::<Vec<_>>())
}

#[derive(serde::Serialize)]
struct LinkReport {
    channel: String,
    place: Place,
}

fn links(channels: Vec<ChannelSummary>) -> Vec<LinkReport> {
    let links = |channel: ChannelSummary| {
        let name = channel.name;
        channel.links.into_iter().map(move |place| LinkReport { channel: name.clone(), place })
    };
    channels.into_iter().flat_map(links).collect()
}

#[allow(clippy::ptr_arg)] // the type that is reported
fn links_lines(links: &Vec<LinkReport>) -> Vec<String> {
    let row = |link: &LinkReport| vec![link.channel.clone(), link.place.to_string()];
    let lines = columns(&links.iter().map(row).collect::<Vec<_>>());
    or_none(lines, "no links: add one with `multichat link add`")
}

fn channels_lines(channels: &[ChannelSummary]) -> Vec<String> {
    let row = |channel: &ChannelSummary| {
        vec![channel.name.clone(), format!("{} in", channel.members), channel.topic.clone()]
    };
    let lines = columns(&channels.iter().map(row).collect::<Vec<_>>());
    or_none(lines, "no channels: make one with `multichat channel create NAME`")
}

fn members_lines(members: &[MemberReport]) -> Vec<String> {
    let row = |member: &MemberReport| {
        vec![member.name.clone(), member.role.clone(), member.home.clone(), member.identity.clone()]
    };
    or_none(columns(&members.iter().map(row).collect::<Vec<_>>()), "nobody")
}

fn channel_lines(channel: &ChannelReport) -> Vec<String> {
    let mut rows = vec![
        vec!["channel".to_owned(), channel.name.clone()],
        vec!["id".to_owned(), channel.id.clone()],
        vec!["topic".to_owned(), channel.topic.clone()],
        vec!["created".to_owned(), format!("{} UTC", calendar::stamp(channel.created_at_ms))],
    ];
    let setting =
        |(setting, value): &(String, String)| vec!["policy".to_owned(), format!("{setting} {value}")];
    rows.extend(channel.policy.iter().map(setting));
    rows.extend(channel.links.iter().map(|place| vec!["link".to_owned(), place.to_string()]));
    let mut lines = columns(&rows);
    lines.extend(members_lines(&channel.members).into_iter().map(|line| format!("member   {line}")));
    lines
}

fn policy_lines(policy: &[(String, String)]) -> Vec<String> {
    columns(&policy.iter().map(|(setting, value)| vec![setting.clone(), value.clone()]).collect::<Vec<_>>())
}

fn found_lines(found: &[FoundReport]) -> Vec<String> {
    let lines = found.iter().flat_map(|found| {
        let mut lines = message_lines(&found.message);
        lines.iter_mut().take(1).for_each(|line| *line = format!("{}  {line}", found.channel));
        lines
    });
    or_none(lines.collect(), "nothing was found")
}

fn history_lines(messages: &[MessageReport], channel: &str, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(oldest) = messages.first().filter(|_| messages.len() == limit) {
        lines.push(format!(
            "earlier: multichat history '{channel}' --limit {limit} --before {}",
            oldest.event
        ));
    }
    lines.extend(messages.iter().flat_map(message_lines));
    or_none(lines, "nothing was said yet")
}

fn message_lines(message: &MessageReport) -> Vec<String> {
    let (at, name) = (calendar::stamp(message.at_ms), &message.author.name);
    let head = match message.kind.as_str() {
        "text" => format!("{at}  <{name}> "),
        "notice" => format!("{at}  -{name}- "),
        "emote" => format!("{at}  * {name} "),
        "left" if !message.text.is_empty() => format!("{at}  -- {name} left: "),
        "topic" => format!("{at}  -- {name} set the topic: "),
        "profile" => format!("{at}  -- {name} was called "),
        kind @ ("linked" | "unlinked") => format!("{at}  -- {kind} "),
        kind => format!("{at}  -- {name} {kind}"),
    };
    let margin = " ".repeat(at.len() + 2);
    let mut lines = message.text.lines();
    let first = format!("{head}{}", lines.next().unwrap_or_default());
    std::iter::once(first).chain(lines.map(|line| format!("{margin}{line}"))).collect()
}

fn or_none(lines: Vec<String>, none: &str) -> Vec<String> {
    if lines.is_empty() { vec![none.to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, text: &str) -> MessageReport {
        let author = MemberReport {
            name: "alice".into(),
            username: "alice".into(),
            home: String::new(),
            role: "member".into(),
            identity: "i".into(),
        };
        MessageReport { event: "e".into(), at_ms: 0, author, kind: kind.into(), text: text.into() }
    }

    #[test]
    fn history_reads_like_a_log() {
        let messages = [
            message("joined", ""),
            message("text", "one\ntwo"),
            message("emote", "waves"),
            message("left", "bye"),
            message("linked", "matrix !a"),
        ];
        assert_eq!(
            history_lines(&messages, "#a", 50),
            [
                "1970-01-01 00:00:00  -- alice joined",
                "1970-01-01 00:00:00  <alice> one",
                "                     two",
                "1970-01-01 00:00:00  * alice waves",
                "1970-01-01 00:00:00  -- alice left: bye",
                "1970-01-01 00:00:00  -- linked matrix !a",
            ]
        );
        let first = &history_lines(&messages, "#a", 5)[0];
        assert_eq!(first, "earlier: multichat history '#a' --limit 5 --before e");
    }
}

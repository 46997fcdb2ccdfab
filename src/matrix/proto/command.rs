//! What people say to the bot, and the texts it answers with. Parsing and wording only: what a
//! command does is done elsewhere.

use crate::chat::name::ChannelName;
use crate::chat::view::ChannelView;
use crate::port::NodeStatus;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Help,
    /// Channels whose name or topic has all of these words.
    List(Vec<String>),
    Join(String),
    Create {
        name: ChannelName,
        topic: String,
    },
    /// Leave this channel, or that of the room.
    Leave(Option<String>),
    Whoami,
    Status,
    /// Carry the channel in this room, or in the one named.
    Link {
        channel: String,
        room: Option<String>,
    },
    Unlink,
}

/// What was said to the bot inside a room that it shares with others: the rest after `!mc`.
pub fn addressed(body: &str) -> Option<&str> {
    let rest = body.trim_start().strip_prefix("!mc")?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

/// Understands a command.
///
/// # Errors
/// The answer that says how it goes.
pub fn parse(text: &str) -> Result<Command, String> {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or("help").to_lowercase();
    let words: Vec<&str> = words.collect();
    match (verb.trim_start_matches('!'), words.as_slice()) {
        ("help", _) => Ok(Command::Help),
        ("list", words) => Ok(Command::List(words.iter().map(|word| word.to_lowercase()).collect())),
        ("join", [name]) => Ok(Command::Join(channel(name)?)),
        ("create", [name, topic @ ..]) => {
            let name = name.parse().map_err(|why| format!("Not done: {why}."))?;
            Ok(Command::Create { name, topic: topic.join(" ") })
        }
        ("leave" | "part", []) => Ok(Command::Leave(None)),
        ("leave" | "part", [name]) => Ok(Command::Leave(Some(channel(name)?))),
        ("whoami", []) => Ok(Command::Whoami),
        ("status", []) => Ok(Command::Status),
        ("link", [name]) => Ok(Command::Link { channel: channel(name)?, room: None }),
        ("link", [name, room]) if is_room(room) => {
            Ok(Command::Link { channel: channel(name)?, room: Some((*room).to_owned()) })
        }
        ("unlink", []) => Ok(Command::Unlink),
        ("join", _) => Err("Say it like this: join #channel".into()),
        ("create", _) => Err("Say it like this: create #channel what it is about".into()),
        ("leave" | "part", _) => Err("Say it like this: leave #channel".into()),
        ("link", _) => {
            Err("Say it like this: link #channel, in the room; or link #channel #room:server".into())
        }
        (verb @ ("whoami" | "status" | "unlink"), _) => Err(format!("Say only: {verb}")),
        (verb, _) => Err(format!("I do not know “{}”. Say help to see what I know.", short(verb))),
    }
}

/// A channel as a person names it, with or without `#`, with the short id of a namesake allowed.
fn channel(text: &str) -> Result<String, String> {
    let full = if text.starts_with('#') { text.to_owned() } else { format!("#{text}") };
    let name = full.split_once('~').map_or(full.as_str(), |(name, _)| name);
    let name: Result<ChannelName, _> = name.parse();
    name.map(|_| full.to_lowercase()).map_err(|why| format!("Not done: {why}."))
}

fn is_room(text: &str) -> bool {
    text.starts_with('!') || (text.starts_with('#') && text.contains(':'))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// The answer to `help`.
pub fn help(bot: &str) -> String {
    format!(
        "I carry Multichat channels into Matrix rooms. In a direct chat with me, or after !mc in a room:\n\
         list [words] – the channels I know\n\
         join #channel – get a room for a channel and an invitation to it\n\
         create #channel [topic] – found a channel\n\
         leave [#channel] – leave a channel\n\
         link #channel – carry a channel in this room (moderators of the room; invite {bot} first)\n\
         unlink – stop carrying it\n\
         whoami – who you are to Multichat\n\
         status – how this node is"
    )
}

/// Channels shown by `list` at once.
const LISTED: usize = 30;

/// The answer to `list`.
pub fn list(channels: &[ChannelView], words: &[String]) -> String {
    let fits = |view: &&ChannelView| {
        let text = format!("{} {}", view.name, view.topic).to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    };
    let mut found: Vec<&ChannelView> = channels.iter().filter(fits).collect();
    found.sort_by(|a, b| b.members.len().cmp(&a.members.len()).then_with(|| a.name.cmp(&b.name)));
    if found.is_empty() {
        return match words {
            [] => "There is no channel yet. Found one with: create #channel".into(),
            _ => format!("No channel has “{}” in its name or topic.", short(&words.join(" "))),
        };
    }
    let mut lines: Vec<String> = found.iter().take(LISTED).map(|view| described(view)).collect();
    if found.len() > LISTED {
        lines.push(format!("… and {} more; add words to see fewer", found.len() - LISTED));
    }
    lines.join("\n")
}

fn described(view: &ChannelView) -> String {
    let people = match view.members.len() {
        1 => "1 member".to_owned(),
        n => format!("{n} members"),
    };
    if view.topic.is_empty() {
        format!("{} ({people})", view.name)
    } else {
        format!("{} ({people}): {}", view.name, view.topic)
    }
}

/// The answer to `whoami`.
pub fn whoami(user: &str, channels: &[ChannelView]) -> String {
    let mut known = None;
    let mut names = Vec::new();
    for view in channels {
        if let Some(member) = view.members.iter().find(|member| member.profile.home == user) {
            known = Some(member);
            names.push(view.name.as_str());
        }
    }
    match known {
        None => format!("You are {user}, and in no channel. You become known when you join or speak in one."),
        Some(member) => format!(
            "You are {user}, known to Multichat as {} (identity {}…), in {}.",
            member.profile.name(),
            &member.identity.to_string()[..8],
            names.join(", ")
        ),
    }
}

/// The answer to `status`.
pub fn status(status: &NodeStatus) -> String {
    let mut lines = vec![format!(
        "Node {}…: {} peers, {} channels, {} events.",
        &status.node.to_string()[..8],
        status.peers.len(),
        status.channels,
        status.events
    )];
    if status.pending_events > 0 {
        lines.push(format!("{} events wait for their past.", status.pending_events));
    }
    for (door, waiting) in status.outbox.iter().filter(|(_, waiting)| *waiting > 0) {
        lines.push(format!("{waiting} messages wait for {door}."));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChannelId, Identity, NodeId, Timestamp};
    use crate::chat::access::Role;
    use crate::chat::profile::Profile;
    use crate::chat::view::Member;

    #[test]
    fn commands() {
        let check = |text: &str, expect: Result<Command, &str>| {
            assert_eq!(parse(text), expect.map_err(str::to_owned), "{text:?}");
        };
        check("", Ok(Command::Help));
        check("HELP me", Ok(Command::Help));
        check("!help", Ok(Command::Help));
        check("list", Ok(Command::List(Vec::new())));
        check("list Rust  web", Ok(Command::List(vec!["rust".into(), "web".into()])));
        check("join #Rust", Ok(Command::Join("#rust".into())));
        check("join rust~k3f9", Ok(Command::Join("#rust~k3f9".into())));
        check("join", Err("Say it like this: join #channel"));
        check(
            "join #a,b",
            Err("Not done: a channel name is # and 1 to 63 bytes without spaces, commas, colons or ~."),
        );
        check(
            "create #rust all things  Ferris",
            Ok(Command::Create { name: "#rust".parse().unwrap(), topic: "all things Ferris".into() }),
        );
        check("leave", Ok(Command::Leave(None)));
        check("leave #x", Ok(Command::Leave(Some("#x".into()))));
        check("link #x", Ok(Command::Link { channel: "#x".into(), room: None }));
        check(
            "link #x #room:example.org",
            Ok(Command::Link { channel: "#x".into(), room: Some("#room:example.org".into()) }),
        );
        check("link #x !abc", Ok(Command::Link { channel: "#x".into(), room: Some("!abc".into()) }));
        check(
            "link #x room",
            Err("Say it like this: link #channel, in the room; or link #channel #room:server"),
        );
        check("unlink now", Err("Say only: unlink"));
        check("dance", Err("I do not know “dance”. Say help to see what I know."));
    }

    #[test]
    fn only_what_is_addressed_to_the_bot() {
        assert_eq!(addressed("!mc list"), Some("list"));
        assert_eq!(addressed(" !mc"), Some(""));
        assert_eq!(addressed("!mcx list"), None);
        assert_eq!(addressed("say !mc list"), None);
    }

    fn view(name: &str, topic: &str, homes: &[&str]) -> ChannelView {
        let member = |home: &&str| Member {
            identity: Identity([0; 32]),
            role: Role::Member,
            profile: Profile { username: "al".into(), display_name: "Al".into(), home: (*home).into() },
        };
        ChannelView {
            id: ChannelId([0; 32]),
            name: name.into(),
            topic: topic.into(),
            created_at: Timestamp(0),
            policy: Default::default(),
            members: homes.iter().map(member).collect(),
            links: Vec::new(),
        }
    }

    #[test]
    fn answers() {
        let channels = [view("#go", "", &["@a:x"]), view("#rust", "Ferris", &["@a:x", "@b:x"])];
        assert_eq!(list(&channels, &[]), "#rust (2 members): Ferris\n#go (1 member)");
        assert_eq!(list(&channels, &["ferris".into()]), "#rust (2 members): Ferris");
        assert_eq!(list(&channels, &["c++".into()]), "No channel has “c++” in its name or topic.");
        assert_eq!(list(&[], &[]), "There is no channel yet. Found one with: create #channel");
        let many: Vec<ChannelView> = (0..32).map(|n| view(&format!("#c{n:02}"), "", &[])).collect();
        assert!(list(&many, &[]).ends_with("#c29 (0 members)\n… and 2 more; add words to see fewer"));
        assert_eq!(
            whoami("@b:x", &channels),
            "You are @b:x, known to Multichat as Al (identity aaaaaaaa…), in #rust."
        );
        assert_eq!(
            whoami("@c:x", &channels),
            "You are @c:x, and in no channel. You become known when you join or speak in one."
        );
        let state = NodeStatus {
            node: NodeId([0; 32]),
            channels: 2,
            events: 9,
            outbox: vec![("matrix".into(), 3), ("irc/x".into(), 0)],
            ..NodeStatus::default()
        };
        assert_eq!(
            status(&state),
            "Node aaaaaaaa…: 0 peers, 2 channels, 9 events.\n3 messages wait for matrix."
        );
        for word in ["list", "join", "create", "leave", "whoami", "status", "link", "unlink"] {
            assert!(help("@multichatbot:x").contains(&format!("\n{word}")), "{word}");
        }
    }
}

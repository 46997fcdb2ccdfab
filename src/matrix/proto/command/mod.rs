//! What people say to the bot. Parsing only: the texts it answers with are in `answers`, and what a
//! command does is done elsewhere.

pub mod answers;
pub mod policy;

use crate::chat::invite::Invite;
use crate::chat::name::ChannelName;
pub use policy::Wanted;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Help,
    /// Channels whose name or topic has all of these words.
    List(Vec<String>),
    Join(String),
    /// Become a member by an invite link.
    UseInvite(Box<Invite>),
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
    /// Carry nothing of mine any more, or again.
    Forget,
    Remember,
    /// Something about a channel: this one, or that of the room.
    About {
        channel: Option<String>,
        order: Order,
    },
}

/// What is wanted of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    Members,
    /// What was said that holds these words.
    Search(String),
    /// Roles have the names that the channel gives them.
    Grant {
        who: String,
        role: String,
    },
    Revoke {
        who: String,
        role: Option<String>,
    },
    Kick {
        who: String,
        reason: String,
    },
    Ban {
        who: String,
        reason: String,
    },
    Unban {
        who: String,
        reason: String,
    },
    Invite(String),
    /// A link that gives whoever has it a role; `None` where the usual one and the usual time will do.
    InviteLink {
        role: Option<String>,
        lasts: Option<Lasts>,
    },
    Policy(Wanted),
}

/// How long something lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasts {
    Ms(u64),
    ForEver,
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
        ("join", [link]) if link.starts_with("multichat:") => {
            let invite = link.parse().map_err(|why| format!("Not done: {why}."))?;
            Ok(Command::UseInvite(Box::new(invite)))
        }
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
        ("forget", ["me"]) => Ok(Command::Forget),
        ("remember", ["me"]) => Ok(Command::Remember),
        ("join", _) => Err("Say it like this: join #channel, or join an invite link".into()),
        ("create", _) => Err("Say it like this: create #channel what it is about".into()),
        ("leave" | "part", _) => Err("Say it like this: leave #channel".into()),
        ("link", _) => {
            Err("Say it like this: link #channel, in the room; or link #channel #room:server".into())
        }
        (verb @ ("whoami" | "status" | "unlink"), _) => Err(format!("Say only: {verb}")),
        (verb @ ("forget" | "remember"), _) => Err(format!("Say it like this: {verb} me")),
        (verb, words) => {
            let (name, words) = match words {
                [first, rest @ ..] if first.starts_with('#') => (Some(channel(first)?), rest),
                words => (None, words),
            };
            order(verb, words).map(|order| Command::About { channel: name, order })
        }
    }
}

fn order(verb: &str, words: &[&str]) -> Result<Order, String> {
    let name = |word: &&str| word.trim_end_matches([':', ',']).to_owned();
    match (verb, words) {
        ("members" | "names", []) => Ok(Order::Members),
        ("search", words @ [_, ..]) => Ok(Order::Search(words.join(" "))),
        ("grant", [who, role]) => Ok(Order::Grant { who: name(who), role: role.to_lowercase() }),
        ("revoke", [who]) => Ok(Order::Revoke { who: name(who), role: None }),
        ("revoke", [who, role]) => Ok(Order::Revoke { who: name(who), role: Some(role.to_lowercase()) }),
        ("kick", [who, reason @ ..]) => Ok(Order::Kick { who: name(who), reason: reason.join(" ") }),
        ("ban", [who, reason @ ..]) => Ok(Order::Ban { who: name(who), reason: reason.join(" ") }),
        ("unban", [who, reason @ ..]) => Ok(Order::Unban { who: name(who), reason: reason.join(" ") }),
        ("invite", ["link", words @ ..]) => invite_link(words),
        ("invite", [who]) => Ok(Order::Invite(name(who))),
        ("policy", words) => policy::parse(words).map(Order::Policy),
        ("expire", [time]) => policy::parse(&["retention", time]).map(Order::Policy),
        ("expire", _) => Err("Say it like this: expire 7d, or expire off".into()),
        ("members" | "names", _) => Err("Say it like this: members [#channel]".into()),
        ("search", _) => Err("Say it like this: search [#channel] words".into()),
        ("grant", _) => Err("Say it like this: grant [#channel] who role".into()),
        ("revoke", _) => Err("Say it like this: revoke [#channel] who [role they keep]".into()),
        (verb @ ("kick" | "ban" | "unban"), _) => {
            Err(format!("Say it like this: {verb} [#channel] who [reason]"))
        }
        ("invite", _) => Err("Say it like this: invite [#channel] who, or invite [#channel] link".into()),
        (verb, _) => Err(format!("I do not know “{}”. Say help to see what I know.", short(verb))),
    }
}

/// `invite link`, with a role, a time, or both.
fn invite_link(words: &[&str]) -> Result<Order, String> {
    let how = "Say it like this: invite [#channel] link [role] [7d, or never]";
    let lasts = |word: &str| match word.to_lowercase().as_str() {
        "never" => Some(Lasts::ForEver),
        time => policy::milliseconds(time).map(Lasts::Ms),
    };
    let (role, time) = match words {
        [] => (None, None),
        [word] if lasts(word).is_some() => (None, Some(*word)),
        [role] => (Some(role.to_lowercase()), None),
        [role, time] => (Some(role.to_lowercase()), Some(*time)),
        _ => return Err(how.into()),
    };
    let lasts = time.map(|time| lasts(time).ok_or(how)).transpose()?;
    Ok(Order::InviteLink { role, lasts })
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

#[cfg(test)]
mod tests {
    use super::*;

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
        check("join", Err("Say it like this: join #channel, or join an invite link"));
        let key = crate::base::key::SecretKey::from_seed([3; 32]);
        let invite = Invite::new(crate::base::ChannelId([1; 32]), crate::base::EventId([2; 32]), &key)
            .via(["/ip4/127.0.0.1/tcp/7700/p2p/12D3".to_owned()]);
        check(&format!("join {invite}"), Ok(Command::UseInvite(Box::new(invite))));
        check(
            "join multichat:nonsense",
            Err(
                "Not done: an invite link is multichat:CHANNEL/GRANT/KEY, with ?via=ADDRESS where others are.",
            ),
        );
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

    #[test]
    fn orders_name_their_channel_or_mean_that_of_the_room() {
        let check = |text: &str, channel: Option<&str>, order: Order| {
            let channel = channel.map(str::to_owned);
            assert_eq!(parse(text), Ok(Command::About { channel, order }), "{text:?}");
        };
        let (who, reason) = ("@bob:x".to_owned(), "being rude".to_owned());
        check("members", None, Order::Members);
        check("members #Rust", Some("#rust"), Order::Members);
        check("grant @bob:x: Moderator", None, Order::Grant { who: who.clone(), role: "moderator".into() });
        check("revoke #rust @bob:x", Some("#rust"), Order::Revoke { who: who.clone(), role: None });
        check("kick @bob:x being rude", None, Order::Kick { who: who.clone(), reason: reason.clone() });
        check("ban #rust @bob:x being rude", Some("#rust"), Order::Ban { who: who.clone(), reason });
        check("unban bob", None, Order::Unban { who: "bob".into(), reason: String::new() });
        check("invite @bob:x", None, Order::Invite(who));
        check("search Tea  pot", None, Order::Search("Tea pot".into()));
        let link = |role: Option<&str>, lasts: Option<Lasts>| Order::InviteLink {
            role: role.map(str::to_owned),
            lasts,
        };
        check("invite #rust link", Some("#rust"), link(None, None));
        check("invite link 1h", None, link(None, Some(Lasts::Ms(3_600_000))));
        check("invite link Moderator", None, link(Some("moderator"), None));
        check("invite link member never", None, link(Some("member"), Some(Lasts::ForEver)));
        check("policy", None, Order::Policy(Wanted::Show));
        let week = crate::chat::channel::Change::Retention(Some(7 * 86_400_000));
        check("expire 7d", None, Order::Policy(Wanted::Change(week)));
        for (text, expect) in [
            ("kick", "Say it like this: kick [#channel] who [reason]"),
            ("grant @bob:x", "Say it like this: grant [#channel] who role"),
            ("expire soon or later", "Say it like this: expire 7d, or expire off"),
            ("forget", "Say it like this: forget me"),
            ("invite link member soon", "Say it like this: invite [#channel] link [role] [7d, or never]"),
        ] {
            assert_eq!(parse(text), Err(expect.to_owned()));
        }
    }
}

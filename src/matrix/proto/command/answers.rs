//! The texts the bot answers with. Wording only.

use super::policy::{duration, flow_words};
use super::short;
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::permissions::Permission;
use crate::chat::policy::Policy;
use crate::chat::view::{ChannelView, Member, News};
use crate::port::NodeStatus;

/// The answer to `help`.
pub fn help(bot: &str) -> String {
    format!(
        "I carry Multichat channels into Matrix rooms. In a direct chat with me, or after !mc in a room:\n\
         list [words] – the channels I know\n\
         join #channel – get a room for a channel and an invitation to it; join multichat:… – by an invite link\n\
         create #channel [topic] – found a channel\n\
         leave [#channel] – leave a channel\n\
         link #channel – carry a channel in this room (moderators of the room; invite {bot} first)\n\
         unlink – stop carrying it\n\
         members, search words – of a channel; these and those below take [#channel] first\n\
         grant who role, revoke who – moderator, admin, member, or a role of the channel\n\
         kick who [reason], ban who [reason], unban who – for moderators\n\
         invite who – let somebody in; invite link [role] [7d|never] – a link that lets in whoever has it\n\
         policy – what the channel lets people do; policy help says what can be set\n\
         expire 7d|off – after how long texts are deleted\n\
         whoami – who you are to Multichat\n\
         status – how this node is\n\
         forget me – nothing of yours is carried any more; remember me – it is again"
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

/// Members shown by `members` at once.
const MEMBERS: usize = 50;

/// The answer to what is not for everybody's ears where it was asked.
pub const IN_PRIVATE: &str = "Not here: ask me that in a chat of two, without !mc.";

/// The answer to `invite link`.
pub fn invited(link: &str, role: &str, channel: &str, lasts: Option<u64>) -> String {
    let until = lasts.map_or_else(|| "until it is revoked".to_owned(), |ms| format!("for {}", duration(ms)));
    format!(
        "Whoever has this link becomes {role} of {channel}, {until}; on Matrix by saying it to me after join. \
         It is a secret:\n{link}"
    )
}

/// The answer to `members`.
pub fn members(view: &ChannelView) -> String {
    let mut members: Vec<&Member> = view.members.iter().collect();
    members.sort_by(|a, b| a.role.cmp(&b.role).then_with(|| a.profile.name().cmp(b.profile.name())));
    let shown = |member: &&Member| {
        let home = match member.profile.home.as_str() {
            "" => String::new(),
            home => format!(" ({home})"),
        };
        let role = match member.role {
            Role::Member => String::new(),
            role => format!(", {}", view.policy.role_name(role)),
        };
        format!("{}{home}{role}", member.profile.name())
    };
    let mut lines: Vec<String> = members.iter().take(MEMBERS).map(shown).collect();
    if members.len() > MEMBERS {
        lines.push(format!("… and {} more", members.len() - MEMBERS));
    }
    match lines.is_empty() {
        true => format!("Nobody is in {}.", view.name),
        false => format!("In {}:\n{}", view.name, lines.join("\n")),
    }
}

/// The answer to `policy`.
pub fn policy(view: &ChannelView) -> String {
    let policy = &view.policy;
    let time = |ms: Option<u64>, none: &str| ms.map_or_else(|| none.to_owned(), duration);
    let slow = match policy.slow_mode {
        Some(quota) => format!("{} messages in {}", quota.events, duration(quota.per_ms)),
        None => "off".into(),
    };
    let mut lines = vec![
        format!("{}:", view.name),
        format!("join: {}", join_word(policy.join)),
        format!("moderated: {}", if is_moderated(policy) { "on, only moderators speak" } else { "off" }),
        format!("slow: {slow}"),
        format!("retention: {}", time(policy.retention, "texts stay")),
        format!("ttl: {}", time(policy.max_ttl, "no limit")),
        format!("flow: {}", flow_words(&policy.flow)),
    ];
    for (role, rule) in &policy.roles {
        let (allow, deny) = (rule.rule.allow, rule.rule.deny);
        lines.push(format!("{}: also {allow:?}, not {deny:?}", policy.role_name(*role)));
    }
    if policy.closed {
        lines.push("closed: nobody acts here any more".into());
    }
    lines.join("\n")
}

/// Whether ordinary members may not speak.
pub fn is_moderated(policy: &Policy) -> bool {
    policy.roles.get(&Role::Member).is_some_and(|rule| rule.rule.deny.allow(Permission::SendMessage))
}

fn join_word(rule: JoinRule) -> &'static str {
    match rule {
        JoinRule::Open => "open, anybody may join",
        JoinRule::Invite => "invite, only who is let in",
        JoinRule::Knock => "knock, who is let in, and others may ask",
        JoinRule::Ticket => "ticket, only who holds one",
    }
}

/// What became of a setting, for the room to see.
pub fn changed(news: &News, change: &Change) -> String {
    let (who, channel) = (news.author.profile.name(), &news.channel_name);
    let time = |ms: &Option<u64>| ms.map_or_else(|| "no limit".to_owned(), duration);
    let what = match change {
        Change::Topic(topic) => format!("the topic: {topic}"),
        Change::Title(title) => format!("the title: {title}"),
        Change::Avatar(address) => format!("the picture: {address}"),
        Change::Pins(pins) => format!("what is pinned: {} messages", pins.len()),
        Change::Join(rule) => format!("who may join: {}", join_word(*rule)),
        Change::Flow(flow) => format!("where messages may go: {}", flow_words(flow)),
        Change::Retention(ms) => format!("how long texts stay: {}", time(ms)),
        Change::MaxTtl(ms) => format!("the longest that a message may last: {}", time(ms)),
        Change::SlowMode(None) => "slow mode: off".into(),
        Change::SlowMode(Some(quota)) => {
            format!("slow mode: {} messages in {}", quota.events, duration(quota.per_ms))
        }
        Change::Role { role, rule } => format!(
            "what a {} may do: also {:?}, not {:?}",
            if rule.name.is_empty() { role.name() } else { rule.name.as_str() },
            rule.rule.allow,
            rule.rule.deny
        ),
        Change::Person { rule, .. } => {
            format!("what one person may do: also {:?}, not {:?}", rule.allow, rule.deny)
        }
        Change::Closed(true) => "that it is closed: nothing said here counts any more".into(),
        Change::Closed(false) => "that it is open again".into(),
        Change::Shared { is_shared: true, .. } => "that members of another workspace may join".into(),
        Change::Shared { is_shared: false, .. } => "that members of another workspace may not join".into(),
        Change::Successor(Some(_)) => "that it goes on in another channel".into(),
        Change::Successor(None) => "that it goes on here".into(),
    };
    format!("{who} set in {channel} {what}.")
}

/// What was done to somebody.
pub fn put_out(who: &str, channel: &str, then: Standing, policy: &Policy) -> String {
    match then {
        Standing::Out => format!("{who} is out of {channel}."),
        Standing::Banned => format!("{who} is banned from {channel}."),
        Standing::Free => format!("{who} may come back to {channel}."),
        Standing::Demoted(role) => format!("{who} is {} of {channel} now.", policy.role_name(role)),
    }
}

/// Lines shown by `search` at once.
pub const FOUND: usize = 20;

/// The answer to `search`: what was found, newest first as it is given.
pub fn found(channel: &str, found: &[News]) -> String {
    let line = |news: &News| match &news.what {
        crate::chat::view::What::Message(content) => {
            let body: String =
                content.body.chars().take(200).map(|c| if c == '\n' { ' ' } else { c }).collect();
            format!("<{}> {body}", news.author.profile.name())
        }
        _ => String::new(),
    };
    let lines: Vec<String> = found.iter().rev().map(line).collect();
    match lines.is_empty() {
        true => format!("Nothing found in {channel}."),
        false => format!("Found in {channel}, newest last:\n{}", lines.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChannelId, Identity, NodeId, Timestamp};
    use crate::chat::profile::Profile;

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
        for word in [
            "list",
            "join",
            "create",
            "leave",
            "whoami",
            "status",
            "link",
            "unlink",
            "members",
            "grant",
            "kick",
            "invite",
            "policy",
            "expire",
            "forget me",
        ] {
            assert!(help("@multichatbot:x").contains(&format!("\n{word}")), "{word}");
        }
    }

    #[test]
    fn members_and_policy() {
        let mut shown = view("#rust", "", &["@b:x", "@a:x"]);
        shown.members[0].role = Role::Admin;
        shown.members[1].profile.home = String::new();
        assert_eq!(members(&shown), "In #rust:\nAl (@b:x), admin\nAl");
        assert_eq!(members(&view("#go", "", &[])), "Nobody is in #go.");
        shown.policy.apply(&Change::Retention(Some(7 * 86_400_000)));
        shown.policy.apply(&Change::Join(JoinRule::Knock));
        let said = policy(&shown);
        for line in
            ["join: knock, who is let in, and others may ask", "retention: 7d", "moderated: off", "flow: any"]
        {
            assert!(said.contains(line), "{said}");
        }
    }
}

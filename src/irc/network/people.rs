//! Who is on the network's channels, and for whom among them the node speaks.
//!
//! A person's identity hangs on their account with the network's services where the network tells it
//! (`account-tag`, `extended-join`, `account-notify`); else on the nick under which they first spoke
//! on this connection, and it follows their changes of nick: who takes a nick that another speaker
//! had is somebody else. Who leaves is not told at once where many leave together: after a netsplit
//! they have [`SPLIT_MS`] to come back, and then go a few a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::isupport::ISupport;
use super::queue::Bucket;

/// People that are remembered; beyond that, those who come are unknown until others go.
const USERS: usize = 50_000;
/// How long after a netsplit the others are waited for.
const SPLIT_MS: u64 = 10 * 60_000;
/// Leaves that are told at once, and then in each second.
const LEAVES: (u32, u32) = (20, 5);
/// How often one person is told that what they said was not carried.
const TELL_MS: u64 = 60_000;

/// Somebody on the network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct User {
    pub nick: String,
    pub user_host: Option<String>,
    /// Their account with the network's services.
    pub services: Option<String>,
    pub spoke: Option<Spoke>,
    /// Folded channel → signs of their ranks there.
    seats: BTreeMap<String, String>,
    told_ms: u64,
}

/// Somebody for whom the node speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spoke {
    /// The name of their identity.
    pub account: String,
    /// The nick that their profile shows.
    pub nick: String,
    /// Folded names of the channels in which they are members by what they said.
    pub channels: BTreeSet<String>,
}

/// A leave that is still to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Departure {
    pub account: String,
    pub nick: String,
    pub channel: String,
    pub reason: String,
    at_ms: u64,
}

/// The people of a network. Nicks and channels are given folded where a name says `key`.
#[derive(Debug)]
pub(super) struct People {
    network: String,
    users: BTreeMap<String, User>,
    departures: VecDeque<Departure>,
    leaves: Bucket,
    /// Channels whose list of names is under way, and who was in it so far.
    listing: BTreeMap<String, BTreeSet<String>>,
}

impl People {
    pub fn new(network: String) -> Self {
        Self {
            network,
            users: BTreeMap::new(),
            departures: VecDeque::new(),
            leaves: Bucket::new(Some(LEAVES)),
            listing: BTreeMap::new(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&User> {
        self.users.get(key)
    }

    /// Somebody is there, under this nick. `None` when too many are known.
    pub fn meet(&mut self, key: &str, nick: &str) -> Option<&mut User> {
        if !self.users.contains_key(key) && self.users.len() >= USERS {
            return None;
        }
        let user = self.users.entry(key.to_owned()).or_default();
        if user.nick != nick {
            user.nick = nick.to_owned();
        }
        Some(user)
    }

    /// The signs of somebody's ranks in a channel; `None` if they are not in it.
    pub fn signs(&self, key: &str, channel: &str) -> Option<&str> {
        self.users.get(key)?.seats.get(channel).map(String::as_str)
    }

    /// Somebody joined a channel, or is in it with those ranks.
    pub fn seat(&mut self, key: &str, nick: &str, channel: &str, signs: &str) {
        if let Some(listed) = self.listing.get_mut(channel) {
            listed.insert(key.to_owned());
        }
        let Some(user) = self.meet(key, nick) else { return };
        user.seats.insert(channel.to_owned(), signs.to_owned());
        let account = user.spoke.as_ref().map(|spoke| spoke.account.clone());
        // They are back before their leave was told.
        self.departures.retain(|d| d.channel != channel || Some(&d.account) != account.as_ref());
    }

    /// A rank was given or taken.
    pub fn rank(&mut self, key: &str, channel: &str, sign: char, set: bool) {
        let Some(signs) = self.users.get_mut(key).and_then(|user| user.seats.get_mut(channel)) else {
            return;
        };
        signs.retain(|other| other != sign);
        if set {
            signs.push(sign);
        }
    }

    /// The people of a channel.
    pub fn of_channel<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = (&'a String, &'a User)> {
        self.users.iter().filter(move |(_, user)| user.seats.contains_key(channel))
    }

    /// A list of names begins to come.
    pub fn list(&mut self, channel: &str) {
        self.listing.entry(channel.to_owned()).or_default();
    }

    /// It is complete: who is not in it left while we did not look.
    pub fn listed(&mut self, channel: &str, now_ms: u64) {
        let Some(listed) = self.listing.remove(channel) else { return };
        let is_gone = |(key, user): &(&String, &User)| {
            let spoke_here = user.spoke.as_ref().is_some_and(|spoke| spoke.channels.contains(channel));
            !listed.contains(*key) && (spoke_here || user.seats.contains_key(channel))
        };
        let gone: Vec<String> = self.users.iter().filter(is_gone).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.part(&key, Some(channel), "", false, now_ms);
        }
    }

    /// Somebody left one channel, or all. `split`: it is the network that fell apart.
    pub fn part(&mut self, key: &str, channel: Option<&str>, reason: &str, split: bool, now_ms: u64) {
        let Some(user) = self.users.get_mut(key) else { return };
        let is_it = |other: &String| channel.is_none_or(|channel| channel == other);
        user.seats.retain(|seat, _| !is_it(seat));
        let at_ms = now_ms + if split { SPLIT_MS } else { 0 };
        if let Some(spoke) = &mut user.spoke {
            let left: Vec<String> = spoke.channels.iter().filter(|one| is_it(one)).cloned().collect();
            for channel in left {
                spoke.channels.remove(&channel);
                let (account, nick, reason) = (spoke.account.clone(), spoke.nick.clone(), reason.to_owned());
                self.departures.push_back(Departure { account, nick, channel, reason, at_ms });
            }
        }
        // Who split off keeps their identity for when they are back, unless they never spoke.
        if user.seats.is_empty() && (user.spoke.is_none() || (channel.is_none() && !split)) {
            self.users.remove(key);
        }
    }

    /// The next leave that may be told now.
    pub fn departure(&mut self, now_ms: u64) -> Option<Departure> {
        let at = self.departures.iter().position(|departure| departure.at_ms <= now_ms)?;
        if !self.leaves.take(now_ms) {
            return None;
        }
        let departure = self.departures.remove(at);
        let is_here = |user: &User| {
            !user.seats.is_empty() || user.spoke.as_ref().is_some_and(|spoke| !spoke.channels.is_empty())
        };
        self.users.retain(|_, user| is_here(user));
        departure
    }

    /// Somebody changed their nick. Their identity follows them.
    pub fn renamed(&mut self, from: &str, to: &str, nick: &str) {
        let Some(mut user) = self.users.remove(from) else { return };
        user.nick = nick.to_owned();
        self.users.insert(to.to_owned(), user);
    }

    /// Everybody's ranks and places are unknown from here on: the connection is gone. Identities stay.
    pub fn connection_lost(&mut self) {
        self.listing.clear();
        self.users.retain(|_, user| {
            user.seats.clear();
            user.spoke.is_some()
        });
    }

    /// A channel is not carried any more.
    pub fn forget_channel(&mut self, channel: &str) {
        self.departures.retain(|departure| departure.channel != channel);
        for user in self.users.values_mut() {
            user.seats.remove(channel);
            if let Some(spoke) = &mut user.spoke {
                spoke.channels.remove(channel);
            }
        }
    }

    /// The identity of whoever has that nick now, as an account of the node.
    pub fn account(&self, key: &str) -> String {
        let user = self.users.get(key);
        if let Some(services) = user.and_then(|user| user.services.as_ref()) {
            return format!("account:{}@{}", services.to_lowercase(), self.network);
        }
        if let Some(spoke) = user.and_then(|user| user.spoke.as_ref())
            && !spoke.account.starts_with("account:")
        {
            return spoke.account.clone();
        }
        let held = |account: &String| {
            let holds = |user: &User| user.spoke.as_ref().is_some_and(|spoke| spoke.account == *account);
            self.users.iter().any(|(other, user)| other != key && holds(user))
        };
        let plain = format!("{key}@{}", self.network);
        let others = (2..).map(|n| format!("{key}~{n}@{}", self.network));
        std::iter::once(plain.clone()).chain(others.take(64)).find(|account| !held(account)).unwrap_or(plain)
    }

    /// Somebody said something in a channel: the node speaks for them there from now on.
    pub fn speaks(&mut self, key: &str, channel: &str) {
        let account = self.account(key);
        self.departures.retain(|d| d.channel != channel || d.account != account);
        let Some(user) = self.users.get_mut(key) else { return };
        let nick = user.nick.clone();
        match &mut user.spoke {
            Some(spoke) if spoke.account == account => {
                spoke.nick = nick;
                spoke.channels.insert(channel.to_owned());
            }
            other => {
                *other = Some(Spoke { account, nick, channels: BTreeSet::from([channel.to_owned()]) });
            }
        }
    }

    /// Whoever is here now and last spoke under that nick, in that channel.
    pub fn who_spoke_as<'a>(&'a self, nick: &str, support: &ISupport, channel: &'a str) -> Option<&'a User> {
        let wanted = support.fold(nick);
        self.of_channel(channel)
            .map(|(_, user)| user)
            .find(|user| user.spoke.as_ref().is_some_and(|spoke| support.fold(&spoke.nick) == wanted))
    }

    /// Whether it is time to tell somebody that they are not heard.
    pub fn may_tell(&mut self, key: &str, now_ms: u64) -> bool {
        let Some(user) = self.users.get_mut(key) else { return false };
        let may = user.told_ms == 0 || now_ms.saturating_sub(user.told_ms) >= TELL_MS;
        if may {
            user.told_ms = now_ms;
        }
        may
    }
}

impl User {
    /// A ban that keeps this person out whatever nick they take, as far as is known of them.
    pub fn ban_mask(&self, support: &ISupport) -> String {
        match (&self.services, &support.account_ban, &self.user_host) {
            (Some(account), Some(sign), _) => format!("{sign}{account}"),
            (_, _, Some(user_host)) => {
                let host = user_host.split_once('@').map_or("*", |(_, host)| host);
                format!("*!*@{host}")
            }
            _ => format!("{}!*@*", self.nick),
        }
    }

    /// Whether a ban means them.
    pub fn is_banned_by(&self, mask: &str, support: &ISupport) -> bool {
        if let Some(sign) = &support.account_ban
            && let Some(account) = mask.strip_prefix(sign.as_str())
        {
            return self.services.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(account));
        }
        let Some(user_host) = &self.user_host else { return false };
        matches(&support.fold(mask), &support.fold(&format!("{}!{user_host}", self.nick)))
    }

    /// Whether it is a service of the network and no person.
    pub fn is_service(&self) -> bool {
        let host = self.user_host.as_deref().and_then(|user_host| user_host.split_once('@'));
        host.is_some_and(|(_, host)| host.starts_with("services.") || host == "services")
            || matches!(self.nick.as_str(), "ChanServ" | "NickServ" | "OperServ" | "BotServ")
    }
}

/// Whether a mask with `*` and `?` fits. In time proportional to the product of the lengths.
pub(super) fn matches(mask: &str, text: &str) -> bool {
    let (mask, text): (Vec<char>, Vec<char>) = (mask.chars().collect(), text.chars().collect());
    let (mut m, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match mask.get(m) {
            Some('*') => {
                star = Some((m, t));
                m += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (m, t) = (m + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (m, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    mask[m..].iter().all(|c| *c == '*')
}

/// Whether a reason to quit is that of a netsplit: the names of the two servers that lost each other.
pub(super) fn is_split(reason: &str) -> bool {
    let is_server = |name: &str| {
        name.contains('.')
            && !name.starts_with('.')
            && !name.ends_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*'))
    };
    reason.split_once(' ').is_some_and(|(a, b)| is_server(a) && is_server(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (mask, text, fits) in [
            ("*!*@host", "bob!u@host", true),
            ("b?b!*", "bob!u@h", true),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "aXXbYYbc", true),
            ("a*b*c", "aXXbYY", false),
            ("bob", "bobby", false),
        ] {
            assert_eq!(matches(mask, text), fits, "{mask} {text}");
        }
        assert!(is_split("hub.net.org leaf.net.org") && is_split("*.net *.split"));
        assert!(!is_split("see you") && !is_split("Quit: a.b c.d") && !is_split("a.b"));
    }

    fn speaker(people: &mut People, nick: &str) {
        people.seat(nick, nick, "#c", "");
        people.speaks(nick, "#c");
    }

    #[test]
    fn identity_follows_the_person_and_not_the_nick() {
        let mut people = People::new("net".into());
        speaker(&mut people, "bob");
        assert_eq!(people.account("bob"), "bob@net");
        people.renamed("bob", "bobby", "bobby");
        speaker(&mut people, "bob");
        assert_eq!(
            (people.account("bobby").as_str(), people.account("bob").as_str()),
            ("bob@net", "bob~2@net")
        );
        people.meet("bob", "bob").unwrap().services = Some("Acc".into());
        assert_eq!(people.account("bob"), "account:acc@net");
        people.part("bobby", None, "bye", false, 0);
        assert_eq!(people.departure(0).unwrap().account, "bob@net");
        assert_eq!(people.account("bobby"), "bobby@net");
    }

    #[test]
    fn a_netsplit_is_no_storm() {
        let mut people = People::new("net".into());
        for n in 0..100 {
            speaker(&mut people, &format!("u{n}"));
            people.part(&format!("u{n}"), None, "a.net b.net", true, 1000);
        }
        assert_eq!(people.departure(2000), None);
        for n in 0..60 {
            people.seat(&format!("u{n}"), &format!("u{n}"), "#c", "");
        }
        let told = |people: &mut People, now| std::iter::from_fn(|| people.departure(now)).count();
        assert_eq!(told(&mut people, 1000 + SPLIT_MS), 20);
        assert_eq!(told(&mut people, 2000 + SPLIT_MS), 5);
        assert_eq!(told(&mut people, 60_000 + SPLIT_MS), 15);
        assert_eq!(people.departures.len(), 0);
    }

    #[test]
    fn who_left_while_we_were_away() {
        let mut people = People::new("net".into());
        for nick in ["bob", "carol"] {
            speaker(&mut people, nick);
        }
        people.connection_lost();
        people.list("#c");
        people.seat("bob", "bob", "#c", "@");
        people.listed("#c", 5);
        let left = people.departure(5).unwrap();
        assert_eq!((left.account.as_str(), people.departure(5)), ("carol@net", None));
        assert_eq!(people.signs("bob", "#c"), Some("@"));
    }
}

//! What moderators did elsewhere, as the network can do or show it. People of the network are kicked,
//! banned and made operators there, where the relay is an operator; all else is said. A nick alone
//! never makes anybody an operator: it must belong to whoever spoke under it and has not left since.

use super::channel::Banned;
use super::known::nick_here;
use super::people::User;
use super::render::{Lines, Utterance, View, action, one_line, shown_name};
use crate::chat::access::Role;
use crate::chat::act::Standing;
use crate::chat::channel::{Change, JoinRule};
use crate::chat::view::Member;

/// Characters of a reason that are shown.
const REASON_CHARS: usize = 160;

/// Somebody was given a role.
pub(super) fn granted(actor: &str, subject: &Member, role: Role, view: &mut View<'_>) -> Lines {
    let mut lines = Lines::new();
    if view.operator {
        lines.extend(lifted(subject, view));
        let user = here(subject, view);
        if let Some(user) = user.filter(|user| !is_operator(user, view) && is_moderator(role)) {
            lines.push_back(Utterance::Mode { change: "+o", argument: user.nick.clone() });
        }
    }
    if lines.is_empty() {
        let name = shown_name(subject.profile.name());
        let text = match role {
            Role::Member => format!("let {name} in"),
            Role::Custom(rank) => format!("gave {name} a role of rank {rank}"),
            other => format!("made {name} {}", other.name()),
        };
        return action(actor, &text, view);
    }
    lines
}

/// Somebody was removed, banned, unbanned or demoted.
pub(super) fn revoked(
    actor: &str,
    subject: &Member,
    then: Standing,
    reason: &str,
    view: &mut View<'_>,
) -> Lines {
    let reason = one_line(reason, REASON_CHARS);
    let is_here = nick_here(&subject.profile.home, view.network).is_some();
    let mut lines = Lines::new();
    if is_here && view.operator {
        let user = here(subject, view).cloned();
        let by = if reason.is_empty() { format!("by {actor}") } else { format!("by {actor}: {reason}") };
        match (then, user) {
            (Standing::Out, Some(user)) => {
                lines.push_back(Utterance::Kick { nick: user.nick, reason: by });
            }
            (Standing::Banned, user) => lines.extend(banned(subject, user, by, view)),
            (Standing::Free, _) => lines.extend(lifted(subject, view)),
            (Standing::Demoted(role), Some(user)) if is_operator(&user, view) && !is_moderator(role) => {
                lines.push_back(Utterance::Mode { change: "-o", argument: user.nick });
            }
            _ => {}
        }
    }
    if !lines.is_empty() {
        return lines;
    }
    let name = shown_name(subject.profile.name());
    let mut text = match then {
        Standing::Out => format!("removed {name}"),
        Standing::Banned => format!("banned {name}"),
        Standing::Free => format!("lifted the ban of {name}"),
        Standing::Demoted(role) => format!("made {name} {} again", role.name()),
    };
    if !reason.is_empty() {
        text.push_str(&format!(" ({reason})"));
    }
    if is_here && !view.operator {
        text.push_str("; the relay is no operator here and cannot do the same");
    }
    action(actor, &text, view)
}

fn banned(subject: &Member, user: Option<User>, by: String, view: &mut View<'_>) -> Lines {
    let mask = match (&user, nick_here(&subject.profile.home, view.network)) {
        (Some(user), _) => user.ban_mask(view.support),
        (None, Some(nick)) => format!("{nick}!*@*"),
        (None, None) => return Lines::new(),
    };
    let banned = Banned { identity: Some(subject.identity), ..Banned::default() };
    view.state.banned(&mask, banned);
    let mut lines = Lines::from([Utterance::Mode { change: "+b", argument: mask }]);
    lines.extend(user.map(|user| Utterance::Kick { nick: user.nick, reason: by }));
    lines
}

/// Lifts the ban that we set against somebody.
fn lifted(subject: &Member, view: &mut View<'_>) -> Option<Utterance> {
    let mask = view.state.mask_of(&subject.identity)?;
    view.state.bans.remove(&mask);
    Some(Utterance::Mode { change: "-b", argument: mask })
}

/// Who on the channel is that person.
fn here<'a>(subject: &Member, view: &'a View<'_>) -> Option<&'a User> {
    let nick = nick_here(&subject.profile.home, view.network)?;
    view.people.who_spoke_as(nick, view.support, view.channel)
}

fn is_operator(user: &User, view: &View<'_>) -> bool {
    let key = view.support.fold(&user.nick);
    view.people.signs(&key, view.channel).is_some_and(|signs| view.support.is_operator(signs))
}

fn is_moderator(role: Role) -> bool {
    role.rank() <= Role::Moderator.rank()
}

/// A setting that members should know of, in words.
pub(super) fn setting(change: &Change) -> Option<String> {
    Some(match change {
        Change::Join(JoinRule::Open) => "opened the channel to everybody".to_owned(),
        Change::Join(_) => "closed the channel to whom no member lets in".to_owned(),
        Change::SlowMode(Some(quota)) => {
            format!("allows members {} messages in {} s each", quota.events, quota.per_ms.div_ceil(1000))
        }
        Change::SlowMode(None) => "lifted the limit on how much members may say".to_owned(),
        Change::Retention(Some(ms)) | Change::MaxTtl(Some(ms)) => {
            format!("lets messages be deleted elsewhere after {} s", ms.div_ceil(1000))
        }
        Change::Closed(true) => "closed the channel: nobody can speak in it elsewhere".to_owned(),
        Change::Closed(false) => "opened the channel again".to_owned(),
        Change::Successor(Some(_)) => "says that the channel goes on in another".to_owned(),
        Change::Shared { is_shared: true, .. } => "lets in the members of another workspace".to_owned(),
        Change::Shared { is_shared: false, .. } => "lets in no more members of another workspace".to_owned(),
        Change::Topic(_)
        | Change::Title(_)
        | Change::Avatar(_)
        | Change::Pins(_)
        | Change::Flow(_)
        | Change::Retention(None)
        | Change::MaxTtl(None)
        | Change::Role { .. }
        | Change::Person { .. }
        | Change::Successor(None) => return None,
    })
}

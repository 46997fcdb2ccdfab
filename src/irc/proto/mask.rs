//! Masks: `nick!user@host` with `*` and `?`, and the extended ones that name an account or mute.

use super::casemap::fold;

/// Bytes of a mask; a longer one is cut.
pub const MASK_BYTES: usize = 200;

/// Somebody, as masks see them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Face {
    /// `nick!user@host`.
    pub prefix: String,
    pub account: Option<String>,
}

/// Whether `text` has the shape of `pattern` (`*` any, `?` one), in any ASCII case. Linear in the
/// pattern for each character of the text, whatever the pattern.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (fold(pattern), fold(text));
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A mask in full: `bob` is `bob!*@*`, `*@host` is `*!*@host`; an extended one stays as it is but for
/// what follows its letter.
pub fn normal(mask: &str) -> String {
    let end = (0..=mask.len().min(MASK_BYTES)).rev().find(|at| mask.is_char_boundary(*at));
    let mask = &mask[..end.unwrap_or(0)];
    if let Some(rest) = mask.strip_prefix("m:") {
        return format!("m:{}", normal(rest));
    }
    if mask.starts_with("a:") {
        return mask.to_owned();
    }
    match (mask.split_once('!'), mask.split_once('@')) {
        (Some(("", rest)), _) => format!("*!{rest}"),
        (Some((_, rest)), None) if !rest.contains('@') => format!("{mask}@*"),
        (Some(_), _) => mask.to_owned(),
        (None, Some(_)) => format!("*!{mask}"),
        (None, None) => format!("{mask}!*@*"),
    }
}

/// Whether a mask means somebody. A mute does not: see [`mutes`].
pub fn matches(mask: &str, face: &Face) -> bool {
    match mask.strip_prefix("a:") {
        Some(account) => face.account.as_deref().is_some_and(|own| glob(account, own)),
        None => !mask.starts_with("m:") && glob(mask, &face.prefix),
    }
}

/// Whether a mask means somebody, and mutes them or excepts them from being muted.
pub fn mutes(mask: &str, face: &Face) -> bool {
    mask.strip_prefix("m:").is_some_and(|rest| matches(rest, face))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (pattern, text, expect) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("A?C", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
        // Nothing that somebody writes takes long.
        assert!(!glob(&"*a".repeat(100), &"a".repeat(99).to_string()));
        for (mask, full) in [
            ("bob", "bob!*@*"),
            ("bob!x", "bob!x@*"),
            ("*@h", "*!*@h"),
            ("a!b@c", "a!b@c"),
            ("a:bob", "a:bob"),
            ("m:bob", "m:bob!*@*"),
            ("m:a:bob", "m:a:bob"),
            ("!u@h", "*!u@h"),
        ] {
            assert_eq!(normal(mask), full);
        }
        let bob = Face { prefix: "Bob!u@h".into(), account: Some("bobby".into()) };
        assert!(matches("bob!*@*", &bob) && matches("a:BOB*", &bob) && mutes("m:a:bobby", &bob));
        assert!(!matches("m:bob!*@*", &bob) && !mutes("bob!*@*", &bob) && !matches("a:x", &bob));
    }
}

//! Case mapping of the listener: `ascii`, as its ISUPPORT says. Channel names are folded by
//! `chat::name` instead, because their lower case is part of the name on every door.

/// The form in which two nicks are compared.
pub fn fold(nick: &str) -> String {
    nick.to_ascii_lowercase()
}

/// Whether two nicks are the same.
pub fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

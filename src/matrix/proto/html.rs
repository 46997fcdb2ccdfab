//! Formatted texts from Matrix, made safe: read by a real HTML parser, cut down to the elements and
//! attributes that the Matrix specification lists, without the quotation of a reply. What is too
//! deep or too much goes without its formatted form: the plain one says the same.

use ruma_html::{Html, NodeRef, SanitizerConfig};

use crate::base::limits;

/// Elements within each other. The parser and what walks its tree recurse.
const DEPTH: usize = 64;
/// Tags of one text: the parser may copy each open element into each paragraph.
const TAGS: usize = 2_000;
/// Elements that hold nothing, and so are never left open.
const VOID: &[&str] = &["br", "hr", "img", "wbr", "input", "meta", "link", "col", "area", "base", "source"];

/// The safe form of a formatted body; `None` if it has none that says anything. `name_of` gives the
/// name by which somebody is called on the other side, so that a mention of a ghost reaches them.
pub fn sanitised(html: &str, name_of: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if html.len() > limits::BODY_BYTES || !is_bounded(html) {
        return None;
    }
    let parsed = Html::parse(html);
    parsed.sanitize_with(&SanitizerConfig::compat().remove_reply_fallback());
    for child in parsed.children() {
        rename_mentions(&child, name_of);
    }
    let safe = parsed.to_string();
    let says_something = parsed.children().any(|child| says_something(&child));
    (says_something && safe.len() <= limits::BODY_BYTES).then_some(safe)
}

/// The user that a `matrix.to` or `matrix:` address names.
pub fn mentioned(address: &str) -> Option<String> {
    let id = match address.strip_prefix("https://matrix.to/#/") {
        Some(rest) => decode(rest.split(['?', '/']).next()?),
        None => format!("@{}", decode(address.strip_prefix("matrix:u/")?.split(['?', '/']).next()?)),
    };
    super::ghosts::is_user_id(&id).then_some(id)
}

/// Percent-decoded, as far as it is text.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether tags are few, and not too many open within each other.
fn is_bounded(html: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for (count, piece) in html.split('<').skip(1).enumerate() {
        let (closes, rest) = piece.strip_prefix('/').map_or((false, piece), |rest| (true, rest));
        let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        if closes {
            if let Some(at) = open.iter().rposition(|other| other.eq_ignore_ascii_case(name)) {
                open.truncate(at);
            }
        } else if !name.is_empty() && !VOID.iter().any(|void| void.eq_ignore_ascii_case(name)) {
            open.push(name);
        }
        if count >= TAGS || open.len() > DEPTH {
            return false;
        }
    }
    true
}

fn says_something(node: &NodeRef) -> bool {
    let has_text = node.as_text().is_some_and(|text| !text.borrow().trim().is_empty());
    let is_picture = node.as_element().is_some_and(|element| &*element.name.local == "img");
    has_text || is_picture || node.children().any(|child| says_something(&child))
}

fn rename_mentions(node: &NodeRef, name_of: &dyn Fn(&str) -> Option<String>) {
    let address = node.as_element().filter(|element| &*element.name.local == "a").and_then(|element| {
        let attributes = element.attrs.borrow();
        let href = attributes.iter().find(|attribute| &*attribute.name.local == "href");
        href.map(|href| href.value.to_string())
    });
    let name = address.and_then(|address| mentioned(&address)).and_then(|user| name_of(&user));
    for child in node.children() {
        match (&name, child.as_text()) {
            (Some(name), Some(text)) => *text.borrow_mut() = name.as_str().into(),
            _ => rename_mentions(&child, name_of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, expect: Option<&str>) {
        let name_of = |user: &str| (user == "@_multichat_bob_1:x").then(|| "bob".to_owned());
        assert_eq!(sanitised(html, &name_of).as_deref(), expect, "{html}");
    }

    #[test]
    fn what_is_safe_stays_and_the_rest_goes() {
        check("<b>hi</b> <i>you</i>", Some("<b>hi</b> <i>you</i>"));
        check("a <script>alert(1)</script>b", Some("a alert(1)b"));
        check("<b onclick=\"x()\">hi", Some("<b>hi</b>"));
        check("<a href=\"javascript:x()\">hi</a>", Some("hi"));
        check("<a href='https://x.y/?a&amp;b'>hi</a>", Some("<a href=\"https://x.y/?a&amp;b\">hi</a>"));
        check("<img src=\"https://spy.example/x.png\">hi", Some("hi"));
        check("<span data-mx-spoiler=\"\">boo</span>", Some("<span data-mx-spoiler=\"\">boo</span>"));
        check("a<!-- hidden -->b", Some("ab"));
        check("1 < 2 & 3", Some("1 &lt; 2 &amp; 3"));
        check(
            "<pre><code class=\"language-rust evil\">let x;\n</code></pre>",
            Some("<pre><code class=\"language-rust\">let x;\n</code></pre>"),
        );
        let table = "<table><tbody><tr><td>1</td><td>2</td></tr></tbody></table>";
        check(table, Some(table));
        check(
            "<ul><li>one<ul><li>two</li></ul></li></ul>",
            Some("<ul><li>one<ul><li>two</li></ul></li></ul>"),
        );
    }

    #[test]
    fn a_reply_keeps_no_quotation_and_nothing_is_no_text() {
        check("<mx-reply><blockquote>one</blockquote></mx-reply><i>yes</i>", Some("<i>yes</i>"));
        check("<mx-reply>all of it</mx-reply>", None);
        check("<p> </p>", None);
        check("", None);
    }

    #[test]
    fn a_mention_of_a_ghost_calls_the_person() {
        let pill = |id: &str, text: &str| format!("<a href=\"https://matrix.to/#/{id}\">{text}</a>: hi");
        check(&pill("%40_multichat_bob_1%3Ax", "Bob (IRC)"), Some(&pill("%40_multichat_bob_1%3Ax", "bob")));
        check(&pill("@_multichat_bob_1:x", "<b>B</b>"), Some(&pill("@_multichat_bob_1:x", "<b>B</b>")));
        check(&pill("@alice:x", "Alice"), Some(&pill("@alice:x", "Alice")));
        assert_eq!(mentioned("matrix:u/alice:x?action=chat").as_deref(), Some("@alice:x"));
        assert_eq!(mentioned("https://matrix.to/#/#room:x"), None);
        assert_eq!(mentioned("https://example.org/@alice:x"), None);
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{}x{}", "<b>".repeat(depth), "</b>".repeat(depth));
        assert!(sanitised(&nested(DEPTH), &|_| None).is_some());
        for bomb in [nested(10_000), "<b>".repeat(10_000), "<i></x>".repeat(5_000), "<br>".repeat(3_000)] {
            assert_eq!(sanitised(&bomb, &|_| None), None);
        }
    }
}

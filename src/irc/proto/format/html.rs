//! Matrix HTML to IRC text: a reader that is lenient in what it takes and never fails.
//!
//! Block elements begin a line, inline ones set a style, links show their address where it says
//! more than their text, and what is unknown is left out while its text stays.

use super::{Colours, Style};

/// Open elements that are remembered; deeper ones keep their text and lose their meaning.
const DEPTH: usize = 64;
/// How deep a quotation is marked.
const QUOTE_DEPTH: usize = 4;

/// Matrix HTML (`org.matrix.custom.html`) as text with IRC formatting codes. Line breaks are LF;
/// CR, NUL and other control characters of the input do not survive.
pub fn html_to_irc(html: &str) -> String {
    let mut writer = Writer::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        writer.text(&rest[..at]);
        rest = &rest[at..];
        match tag(rest) {
            Some((tag, after)) => {
                writer.tag(tag);
                rest = after;
            }
            None => {
                writer.text("<");
                rest = &rest[1..];
                if !rest.contains('>') {
                    break;
                }
            }
        }
    }
    writer.text(rest);
    writer.finish()
}

/// A tag as it was read.
struct Tag<'a> {
    name: String,
    closes: bool,
    attributes: &'a str,
}

/// Reads the tag at the start of `text`, which begins with `<`; gives it and what follows.
fn tag(text: &str) -> Option<(Tag<'_>, &str)> {
    let inner = text.get(1..)?;
    if inner.starts_with("!--") {
        let end = inner.find("-->").map(|at| at + 3)?;
        return Some((Tag { name: String::new(), closes: false, attributes: "" }, &inner[end..]));
    }
    let (closes, inner) = match inner.strip_prefix('/') {
        Some(inner) => (true, inner),
        None => (false, inner),
    };
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!') {
        return None;
    }
    let end = end_of_tag(inner)?;
    let body = &inner[..end];
    let name_len = body.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(body.len());
    let (name, attributes) = body.split_at(name_len);
    Some((Tag { name: name.to_ascii_lowercase(), closes, attributes }, &inner[end + 1..]))
}

/// Where the `>` is that ends a tag: one within quotes does not, if the quotes are closed.
fn end_of_tag(text: &str) -> Option<usize> {
    let first = text.find('>')?;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    Some(first)
}

impl Tag<'_> {
    /// The decoded value of an attribute.
    fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        while !rest.is_empty() {
            let stop = |c: char| c.is_whitespace() || matches!(c, '=' | '/');
            let name_len = rest.find(stop).unwrap_or(rest.len()).max(1);
            let name_len = (name_len..=rest.len()).find(|at| rest.is_char_boundary(*at))?;
            let (name, after) = rest.split_at(name_len);
            let after = after.trim_start();
            let (value, after) = match after.strip_prefix('=') {
                Some(value) => attribute_value(value.trim_start()),
                None => ("", after),
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(decode(value));
            }
            rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        }
        None
    }

    fn colour(&self, name: &str) -> Option<u32> {
        let value = self.attribute(name)?;
        let hex = value.trim().strip_prefix('#')?;
        if hex.len() == 6 { u32::from_str_radix(hex, 16).ok() } else { None }
    }
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.split_once(quote).unwrap_or((inner, ""));
        }
    }
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// An open element.
struct Open {
    name: String,
    /// The style outside of it.
    outside: Style,
    /// For links: the address, and where the text of the link begins.
    link: Option<(String, usize)>,
    /// For ordered lists: the number of the next item.
    next_item: Option<u32>,
}

#[derive(Default)]
struct Writer {
    out: String,
    /// The style that the codes in `out` have led to.
    written: Style,
    /// The style that text is to have.
    style: Style,
    open: Vec<Open>,
    /// Inside elements whose text is not shown: how many.
    hidden: usize,
    quotes: usize,
    preformatted: usize,
    /// A line break waits for text to follow it.
    break_waits: bool,
    /// A space waits for text to follow it.
    space_waits: bool,
}

impl Writer {
    fn tag(&mut self, tag: Tag<'_>) {
        match tag.name.as_str() {
            "br" => self.break_line(),
            "hr" => {
                self.break_line();
                self.verbatim("---");
                self.break_line();
            }
            "img" => {
                if let Some(alt) = tag.attribute("alt").or_else(|| tag.attribute("title")) {
                    self.verbatim(&alt);
                }
            }
            _ if tag.closes => self.close(&tag.name),
            _ if is_known(&tag.name) && !tag.attributes.ends_with('/') => self.open(tag),
            _ => {}
        }
    }

    fn open(&mut self, tag: Tag<'_>) {
        if self.open.len() >= DEPTH {
            return;
        }
        let name = tag.name.as_str();
        if is_block(name) {
            self.break_line();
        }
        let mut element = Open { name: tag.name.clone(), outside: self.style, link: None, next_item: None };
        match name {
            "b" | "strong" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "th" => self.style.bold = true,
            "i" | "em" => self.style.italic = true,
            "u" => self.style.underline = true,
            "del" | "s" | "strike" => self.style.strike = true,
            "code" => self.style.monospace = true,
            "pre" => {
                self.style.monospace = true;
                self.preformatted += 1;
            }
            "blockquote" => self.quotes += 1,
            "ol" => {
                let start = tag.attribute("start").and_then(|n| n.parse().ok());
                element.next_item = Some(start.unwrap_or(1));
            }
            "li" => self.item(),
            "td" => self.space_waits = true,
            "span" | "font" => self.span(&tag),
            "a" => {
                let target = tag.attribute("href").unwrap_or_default();
                element.link = Some((target, self.out.len()));
            }
            _ => {}
        }
        if is_hidden(name) {
            self.hidden += 1;
        }
        self.open.push(element);
    }

    fn span(&mut self, tag: &Tag<'_>) {
        let text = tag.colour("data-mx-color").or_else(|| tag.colour("color"));
        let mut colours = Colours::nearest(text, tag.colour("data-mx-bg-color"));
        if tag.attribute("data-mx-spoiler").is_some() {
            // Black on black is how people on IRC hide a spoiler.
            colours = Colours::nearest(Some(0), Some(0));
        }
        self.style.colour = colours.or(self.style.colour);
    }

    fn item(&mut self) {
        let list = self.open.iter_mut().rev().find(|e| matches!(e.name.as_str(), "ol" | "ul"));
        let marker = match list.and_then(|list| list.next_item.as_mut()) {
            Some(number) => {
                let marker = format!("{number}.");
                *number = number.saturating_add(1);
                marker
            }
            None => "•".to_owned(),
        };
        self.verbatim(&marker);
        self.space_waits = true;
    }

    /// Closes the innermost element of that name, and with it all within.
    fn close(&mut self, name: &str) {
        let Some(at) = self.open.iter().rposition(|element| element.name == name) else { return };
        for element in self.open.split_off(at).into_iter().rev() {
            if let Some((target, start)) = element.link {
                self.link_target(&target, start);
            }
            self.style = element.outside;
            match element.name.as_str() {
                "blockquote" => self.quotes = self.quotes.saturating_sub(1),
                "pre" => self.preformatted = self.preformatted.saturating_sub(1),
                _ => {}
            }
            if is_hidden(&element.name) {
                self.hidden = self.hidden.saturating_sub(1);
            }
            if is_block(&element.name) {
                self.break_line();
            }
        }
    }

    /// Shows where a link leads, unless its text says so already or it is a mention.
    fn link_target(&mut self, target: &str, start: usize) {
        let shown = super::strip(self.out.get(start..).unwrap_or_default());
        let bare = |text: &str| {
            let text = text.trim();
            let text =
                ["https://", "http://", "mailto:"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
            text.trim_end_matches('/').to_owned()
        };
        let schemes = ["http://", "https://", "ftp://", "mailto:", "magnet:", "xmpp:", "irc://", "ircs://"];
        let worth_showing = schemes.iter().any(|scheme| target.starts_with(scheme))
            && !target.starts_with("https://matrix.to/")
            && bare(&shown) != bare(target);
        if worth_showing {
            self.space_waits = !shown.is_empty();
            self.verbatim(&format!("({target})"));
        }
    }

    fn break_line(&mut self) {
        self.space_waits = false;
        self.break_waits = !self.out.is_empty();
    }

    /// Text between tags, with its entities.
    fn text(&mut self, text: &str) {
        let text = decode(text);
        if self.preformatted > 0 {
            for (number, line) in text.split('\n').enumerate() {
                if number > 0 {
                    self.break_line();
                }
                if !line.is_empty() {
                    self.verbatim(line);
                }
            }
            return;
        }
        for (number, word) in text.split(|c: char| c.is_ascii_whitespace()).enumerate() {
            self.space_waits |= number > 0;
            if !word.is_empty() {
                self.verbatim(word);
            }
        }
    }

    /// Puts text down as it is, without control characters, after whatever waits.
    fn verbatim(&mut self, text: &str) {
        let text: String = text
            .chars()
            .map(|c| if matches!(c, '\n' | '\u{a0}') { ' ' } else { c })
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        let Some(first) = text.chars().next().filter(|_| self.hidden == 0) else { return };
        let begins_line = self.out.is_empty() || self.break_waits;
        if self.break_waits {
            self.out.push('\n');
        }
        if begins_line && self.quotes > 0 {
            self.become_styled(Style::default(), '>');
            self.out.push_str(&"> ".repeat(self.quotes.min(QUOTE_DEPTH)));
        } else if self.space_waits && !begins_line {
            let kept = if self.written == self.style { self.style } else { Style::default() };
            self.become_styled(kept, ' ');
            self.out.push(' ');
        }
        (self.break_waits, self.space_waits) = (false, false);
        self.become_styled(self.style, first);
        self.out.push_str(&text);
    }

    fn become_styled(&mut self, style: Style, next: char) {
        self.out.push_str(&style.codes_after(&self.written, next));
        self.written = style;
    }

    fn finish(mut self) -> String {
        while let Some(name) = self.open.last().map(|element| element.name.clone()) {
            self.close(&name);
        }
        self.become_styled(Style::default(), ' ');
        self.out
    }
}

fn is_hidden(name: &str) -> bool {
    matches!(name, "mx-reply" | "script" | "style" | "head" | "title")
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "ul"
            | "ol"
            | "li"
            | "blockquote"
            | "pre"
            | "table"
            | "tr"
            | "details"
            | "summary"
    )
}

fn is_known(name: &str) -> bool {
    let inline =
        ["b", "strong", "i", "em", "u", "del", "s", "strike", "code", "a", "span", "font", "td", "th"];
    is_block(name) || is_hidden(name) || inline.contains(&name)
}

/// Replaces entities by what they stand for; unknown ones stay as they are.
fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match entity(&rest[1..]) {
            Some((c, length)) => {
                out.push(c);
                rest = &rest[1 + length..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Reads what follows an `&`: the character and how many bytes it took, `;` included.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(12).position(|b| b == b';')?;
    let name = text.get(..end)?;
    let c = match name.strip_prefix('#') {
        Some(number) => {
            let value = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(value.ok()?)?
        }
        None => NAMED.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((c, end + 1))
}

/// The named entities that people and clients really write.
const NAMED: [(&str, char); 26] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("hellip", '…'),
    ("mdash", '—'),
    ("ndash", '–'),
    ("laquo", '«'),
    ("raquo", '»'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("bdquo", '„'),
    ("bull", '•'),
    ("middot", '·'),
    ("times", '×'),
    ("euro", '€'),
    ("pound", '£'),
    ("copy", '©'),
    ("reg", '®'),
    ("trade", '™'),
    ("deg", '°'),
    ("sect", '§'),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(html: &str, expect: &str) {
        assert_eq!(html_to_irc(html), expect, "{html}");
    }

    #[test]
    fn inline() {
        check("plain", "plain");
        check("<b>a</b> and <strong>b</strong>", "\x02a\x02 and \x02b\x02");
        check("<em><b>x</b></em>", "\x02\x1dx\x0f");
        check("<u>a</u><del>b</del><code>c</code>", "\x1fa\x1f\x1eb\x1e\x11c\x11");
        check("<span data-mx-color=\"#ff0000\">5</span>5", "\x03045\x0f5");
        check("<font color='#00ff00'>,5</font>", "\x0356\x02\x02,5\x0f");
        check("1 &lt; 2 &amp;&amp; &#x41;&#66; &bogus; &", "1 < 2 && AB &bogus; &");
        check("a < b > c", "a < b > c");
        check("<unknown x=1>kept</unknown>", "kept");
    }

    #[test]
    fn links() {
        check("<a href=\"https://a.org/x\">here</a>", "here (https://a.org/x)");
        check("<a href=\"https://a.org/\">a.org</a>", "a.org");
        check("<a href=\"https://matrix.to/#/@a:b\">Alice</a>: hi", "Alice: hi");
        check("<a href=\"javascript:x\">no</a>", "no");
        check("<a href='https://a.org/?a=1&amp;b=2'><b>x</b></a>", "\x02x\x02 (https://a.org/?a=1&b=2)");
    }

    #[test]
    fn blocks() {
        check("<p>one</p><p>two</p>", "one\ntwo");
        check("a<br>b<br/><br />c", "a\nb\nc");
        check("<h1>T</h1>x", "\x02T\n\x02x");
        check("<ul><li>a</li><li>b</li></ul>", "• a\n• b");
        check("<ol start=3><li>a</li><li>b</li></ol>", "3. a\n4. b");
        check("<blockquote>a<br>b</blockquote>c", "> a\n> b\nc");
        check("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new");
        check("<pre><code>a\n  b\n</code></pre>end", "\x11a\n  b\n\x11end");
        check("  a \n b  ", "a b");
    }

    #[test]
    fn broken_input() {
        check("<b>never closed", "\x02never closed\x02");
        check("</b></p>x", "x");
        check("<a href=\"x>y", "y");
        check("<", "<");
        check("a<b", "a<b");
        check("x\0\r\x02y\x01&#13;&#0;&#2;z", "x y z");
        assert!(html_to_irc(&"<b>".repeat(10_000)).is_empty());
    }

    proptest! {
        #[test]
        fn any_input(html in any::<String>(), tags in "(<|>|/|b|a href=\"|'|=|p|é|&#x|;|\\x02|\\r|\\x00|br| |&|blockquote|li|pre|\\n){0,60}") {
            for html in [html, tags] {
                prop_assert!(!html_to_irc(&html).contains(['\r', '\0']));
            }
        }
    }
}

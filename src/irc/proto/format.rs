//! Formatting codes of IRC (as gathered at modern.ircdocs.horse/formatting) to and from Matrix HTML.
//!
//! It owns the one reading of those codes: [`runs`] turns text into plainly styled pieces, and
//! everything else is built on that. It never fails: what it does not know it drops or shows as it
//! is, and its output never holds CR or NUL.

mod html;
mod palette;

use palette::{PALETTE, nearest};

pub use html::html_to_irc;

pub(super) const BOLD: char = '\x02';
pub(super) const COLOUR: char = '\x03';
pub(super) const HEX_COLOUR: char = '\x04';
pub(super) const RESET: char = '\x0f';
pub(super) const MONOSPACE: char = '\x11';
pub(super) const REVERSE: char = '\x16';
pub(super) const ITALIC: char = '\x1d';
pub(super) const STRIKE: char = '\x1e';
pub(super) const UNDERLINE: char = '\x1f';

/// How a stretch of text looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    pub bold: bool,
    pub italic: bool,
    pub underline: bool,
    pub strike: bool,
    pub monospace: bool,
    pub reverse: bool,
    pub colour: Option<Colours>,
}

/// Colours of text and background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colours {
    /// Numbers 0 to 99 of the mIRC palette; 99 is the reader's default.
    Palette { text: u8, back: Option<u8> },
    /// 24-bit RGB.
    Rgb { text: u32, back: Option<u32> },
}

impl Style {
    /// The codes that lead from `from` to this style, safe before the character `next`: a colour
    /// code never swallows a digit or comma of the text.
    pub(super) fn codes_after(&self, from: &Self, next: char) -> String {
        let mut codes = String::new();
        let mut from = *from;
        let changed = from.toggles().iter().zip(self.toggles()).filter(|(a, b)| a.1 != b.1).count();
        let loses_colour = from.colour.is_some_and(|old| self.colour.is_none_or(|new| !new.covers(&old)));
        if loses_colour || (*self == Self::default() && changed > 1) {
            codes.push(RESET);
            from = Self::default();
        }
        if let Some(colour) = self.colour.filter(|_| self.colour != from.colour) {
            codes.push_str(&colour.code());
            // Without a background yet, a comma in the text would be read as introducing one.
            if next == ',' && !colour.has_back() && self.toggles() == from.toggles() {
                codes.extend([BOLD, BOLD]);
            }
        }
        for ((code, old), (_, new)) in from.toggles().into_iter().zip(self.toggles()) {
            if old != new {
                codes.push(code);
            }
        }
        codes
    }

    fn toggles(&self) -> [(char, bool); 6] {
        [
            (BOLD, self.bold),
            (ITALIC, self.italic),
            (UNDERLINE, self.underline),
            (STRIKE, self.strike),
            (MONOSPACE, self.monospace),
            (REVERSE, self.reverse),
        ]
    }
}

impl Colours {
    fn has_back(&self) -> bool {
        matches!(self, Self::Palette { back: Some(_), .. } | Self::Rgb { back: Some(_), .. })
    }

    /// Whether setting this leaves nothing of `old` behind.
    fn covers(&self, old: &Self) -> bool {
        self.has_back() || !old.has_back()
    }

    fn code(&self) -> String {
        match self {
            Self::Palette { text, back: None } => format!("{COLOUR}{text:02}"),
            Self::Palette { text, back: Some(back) } => format!("{COLOUR}{text:02},{back:02}"),
            Self::Rgb { text, back: None } => format!("{HEX_COLOUR}{text:06X}"),
            Self::Rgb { text, back: Some(back) } => format!("{HEX_COLOUR}{text:06X},{back:06X}"),
        }
    }

    /// Text and background as RGB, where they are not the reader's default.
    fn rgb(&self) -> (Option<u32>, Option<u32>) {
        let lookup = |number: u8| PALETTE.get(usize::from(number)).copied();
        match *self {
            Self::Palette { text, back } => (lookup(text), back.and_then(lookup)),
            Self::Rgb { text, back } => (Some(text), back),
        }
    }

    /// The nearest colours of the palette: more clients know them than 24-bit colours.
    fn nearest(text: Option<u32>, back: Option<u32>) -> Option<Self> {
        if text.is_none() && back.is_none() {
            return None;
        }
        Some(Self::Palette { text: text.map_or(99, nearest), back: back.map(nearest) })
    }
}

/// Text without its codes, in stretches of one style. Each line break (LF, CR, or both) is a
/// stretch `"\n"` of its own; other control characters than tab are dropped.
pub(super) fn runs(text: &str) -> Vec<(Style, &str)> {
    let mut runs = Vec::new();
    let mut style = Style::default();
    let (mut start, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let mut end = at + c.len_utf8();
        if !c.is_ascii_control() || c == '\t' {
            at = end;
            continue;
        }
        if start < at {
            runs.push((style, &text[start..at]));
        }
        match c {
            '\r' | '\n' => runs.push((style, "\n")),
            BOLD => style.bold ^= true,
            ITALIC => style.italic ^= true,
            UNDERLINE => style.underline ^= true,
            STRIKE => style.strike ^= true,
            MONOSPACE => style.monospace ^= true,
            REVERSE => style.reverse ^= true,
            RESET => style = Style::default(),
            COLOUR => (style.colour, end) = palette_colours(text, end, style.colour),
            HEX_COLOUR => (style.colour, end) = rgb_colours(text, end, style.colour),
            _ => {}
        }
        (start, at) = (end, end);
    }
    if start < text.len() {
        runs.push((style, &text[start..]));
    }
    runs
}

/// Whether there is a formatting code in it.
fn has_codes(text: &str) -> bool {
    let codes = [BOLD, COLOUR, HEX_COLOUR, RESET, MONOSPACE, REVERSE, ITALIC, STRIKE, UNDERLINE];
    text.contains(codes)
}

/// The text without formatting codes and control characters; line breaks are LF.
pub fn strip(text: &str) -> String {
    runs(text).into_iter().map(|(_, part)| part).collect()
}

/// IRC text as Matrix HTML; `None` where it holds no formatting code.
pub fn irc_to_html(text: &str) -> Option<String> {
    if !has_codes(text) {
        return None;
    }
    let mut html = String::with_capacity(text.len() * 2);
    for (style, part) in runs(text) {
        if part == "\n" {
            html.push_str("<br>");
            continue;
        }
        let mut close = Vec::new();
        let (mut fore, mut back) = style.colour.map_or((None, None), |c| c.rgb());
        if style.reverse {
            std::mem::swap(&mut fore, &mut back);
        }
        if fore.is_some() || back.is_some() {
            html.push_str("<span");
            for (name, colour) in [("data-mx-color", fore), ("data-mx-bg-color", back)] {
                if let Some(colour) = colour {
                    html.push_str(&format!(" {name}=\"#{colour:06x}\""));
                }
            }
            html.push('>');
            close.push("</span>");
        }
        let tags = [
            (style.bold, "<b>", "</b>"),
            (style.italic, "<i>", "</i>"),
            (style.underline, "<u>", "</u>"),
            (style.strike, "<del>", "</del>"),
            (style.monospace, "<code>", "</code>"),
        ];
        for (_, open, end) in tags.into_iter().filter(|tag| tag.0) {
            html.push_str(open);
            close.push(end);
        }
        escape(part, &mut html);
        html.extend(close.into_iter().rev());
    }
    Some(html)
}

fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

/// Reads what follows a colour code at `at`: up to two digits, and as many after a comma.
fn palette_colours(text: &str, at: usize, before: Option<Colours>) -> (Option<Colours>, usize) {
    let Some((fore, mut end)) = number(text, at) else { return (None, at) };
    let mut back = match before {
        Some(Colours::Palette { back, .. }) => back,
        _ => None,
    };
    if text[end..].starts_with(',')
        && let Some((number, after)) = number(text, end + 1)
    {
        (back, end) = (Some(number), after);
    }
    let back = back.filter(|number| *number != 99);
    let plain = fore == 99 && back.is_none();
    ((!plain).then_some(Colours::Palette { text: fore, back }), end)
}

fn number(text: &str, at: usize) -> Option<(u8, usize)> {
    let digits = text[at..].bytes().take(2).take_while(u8::is_ascii_digit).count();
    let value = text[at..at + digits].parse().ok()?;
    Some((value, at + digits))
}

/// Reads what follows a hexadecimal colour code at `at`: six digits, and as many after a comma.
fn rgb_colours(text: &str, at: usize, before: Option<Colours>) -> (Option<Colours>, usize) {
    let Some((fore, mut end)) = hex(text, at) else { return (None, at) };
    let mut back = match before {
        Some(Colours::Rgb { back, .. }) => back,
        _ => None,
    };
    if text[end..].starts_with(',')
        && let Some((colour, after)) = hex(text, end + 1)
    {
        (back, end) = (Some(colour), after);
    }
    (Some(Colours::Rgb { text: fore, back }), end)
}

fn hex(text: &str, at: usize) -> Option<(u32, usize)> {
    let digits = text.get(at..at + 6).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((u32::from_str_radix(digits, 16).ok()?, at + 6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_html(irc: &str, expect: &str) {
        assert_eq!(irc_to_html(irc).as_deref(), Some(expect), "{irc:?}");
    }

    #[test]
    fn irc_becomes_html() {
        assert_eq!(irc_to_html("plain <b> & co"), None);
        check_html("\x02bold\x02 & <plain>", "<b>bold</b> &amp; &lt;plain&gt;");
        check_html("\x1d\x02both\x0f none", "<b><i>both</i></b> none");
        check_html("\x034red\x03 not", "<span data-mx-color=\"#ff0000\">red</span> not");
        check_html("\x034,12 5", "<span data-mx-color=\"#ff0000\" data-mx-bg-color=\"#0000fc\"> 5</span>");
        check_html("\x0304,x", "<span data-mx-color=\"#ff0000\">,x</span>");
        check_html("\x04aBcdEf!", "<span data-mx-color=\"#abcdef\">!</span>");
        check_html("\x11a\nb", "<code>a</code><br><code>b</code>");
        check_html("\x16\x034,1x", "<span data-mx-color=\"#000000\" data-mx-bg-color=\"#ff0000\">x</span>");
    }

    #[test]
    fn strip_leaves_the_text() {
        assert_eq!(strip("\x02a\x0304,05b\x03c\x04ff00ffd\x0f\x00\x01e\r\nf"), "abcde\n\nf");
        assert_eq!(strip("\x03é\x04ü"), "éü");
    }

    #[test]
    fn codes_swallow_nothing_of_the_text() {
        let red = Style { colour: Some(Colours::Palette { text: 4, back: None }), ..Style::default() };
        for next in ["5", ",5", "a"] {
            let text = red.codes_after(&Style::default(), next.chars().next().unwrap()) + next;
            assert_eq!(runs(&text).last(), Some(&(red, next)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>(), codes in "[\\x00-\\x1f0-9,a-fé]{0,60}") {
            for text in [text, codes] {
                let plain = strip(&text);
                prop_assert!(!plain.contains(['\r', '\0']));
                prop_assert!(!has_codes(&plain));
                if let Some(html) = irc_to_html(&text) {
                    prop_assert!(!html.contains(['\r', '\0', '\n']));
                    prop_assert_eq!(strip(&html_to_irc(&html)).split_whitespace().collect::<String>(),
                                    plain.split_whitespace().collect::<String>());
                }
            }
        }
    }
}

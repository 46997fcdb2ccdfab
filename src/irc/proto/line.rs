//! One IRC line, in and out. Parsing never panics and is bounded; what is built here can carry no
//! CR, LF or NUL and is never longer than the protocol allows, wherever its fields came from.

use std::collections::VecDeque;
use std::fmt;

/// Bytes of a line without tags, CR LF included.
pub const LINE_BYTES: usize = 512;
/// The same of a line that brings a password: SASL takes longer ones than would fit.
pub const PASSWORD_LINE_BYTES: usize = 1024;
/// Commands that do.
const WITH_PASSWORD: [&str; 4] = ["REGISTER", "NS", "NICKSERV", "PASS"];
/// Bytes of the tags a client may send, `@` and the space included (IRCv3 message-tags).
pub const CLIENT_TAG_BYTES: usize = 4096;
/// Bytes of a source that are written: more than any nick, user and host come to, and so few that a
/// command still has its place in the line.
const SOURCE_BYTES: usize = 255;
/// Parameters of a line; the last takes the rest.
const PARAMS: usize = 15;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// Keys and values, unescaped; an absent value is empty.
    pub tags: Vec<(String, String)>,
    pub source: Option<String>,
    /// In upper case.
    pub command: String,
    pub params: Vec<String>,
    /// Whether the last parameter is written with a colon even where it need not be.
    colon: bool,
}

impl Line {
    /// A line without source.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }

    /// A line from somebody.
    pub fn from(source: impl Into<String>, command: impl Into<String>) -> Self {
        Self { source: Some(source.into()), ..Self::new(command) }
    }

    /// Adds a parameter without spaces.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.params.push(param.into());
        self
    }

    /// Adds the last parameter: free text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.params.push(text.into());
        self.colon = true;
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// The value of a tag.
    pub fn tagged(&self, key: &str) -> Option<&str> {
        self.tags.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Parses a line without its CR LF; `None` if it has no command.
    pub fn parse(text: &str) -> Option<Self> {
        let mut line = Self::default();
        let mut rest = text.trim_start_matches(' ');
        if let Some(tagged) = rest.strip_prefix('@') {
            let (tags, after) = tagged.split_once(' ').unwrap_or((tagged, ""));
            line.tags = tags.split(';').map(parse_tag).filter(|(key, _)| !key.is_empty()).collect();
            rest = after.trim_start_matches(' ');
        }
        if let Some(sourced) = rest.strip_prefix(':') {
            let (source, after) = sourced.split_once(' ').unwrap_or((sourced, ""));
            line.source = Some(source.to_owned());
            rest = after.trim_start_matches(' ');
        }
        let (command, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if command.is_empty() {
            return None;
        }
        line.command = command.to_ascii_uppercase();
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return Some(line);
            }
            if let Some(text) = rest.strip_prefix(':') {
                return Some(line.text(text));
            }
            if line.params.len() + 1 == PARAMS {
                return Some(line.text(rest));
            }
            let (param, after) = rest.split_once(' ').unwrap_or((rest, ""));
            line.params.push(param.to_owned());
            rest = after;
        }
    }

    /// Bytes that are left for a last free-text parameter of this line.
    pub fn room(&self) -> usize {
        let with = Self { tags: Vec::new(), ..self.clone() }.text("");
        LINE_BYTES.saturating_sub(2 + with.untagged().len())
    }

    fn untagged(&self) -> String {
        let mut out = String::new();
        if let Some(source) = &self.source {
            out.push(':');
            out.extend(source.chars().filter(|c| is_sendable(*c) && *c != ' '));
            cut(&mut out, SOURCE_BYTES);
            out.push(' ');
        }
        out.push_str(&self.command);
        for (index, param) in self.params.iter().enumerate() {
            out.push(' ');
            if index + 1 == self.params.len() && (self.colon || !is_middle(param)) {
                out.push(':');
                out.extend(param.chars().filter(|c| is_sendable(*c)));
            } else if is_middle(param) {
                out.push_str(param);
            } else {
                out.push_str(&middle(param));
            }
        }
        cut(&mut out, LINE_BYTES - 2);
        out
    }
}

/// Without CR LF; at most 510 bytes after the tags.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.tags.iter().enumerate() {
            f.write_str(if index == 0 { "@" } else { ";" })?;
            f.write_str(key)?;
            if !value.is_empty() {
                f.write_str("=")?;
                f.write_str(&escape(value))?;
            }
        }
        if !self.tags.is_empty() {
            f.write_str(" ")?;
        }
        f.write_str(&self.untagged())
    }
}

fn is_sendable(c: char) -> bool {
    !matches!(c, '\r' | '\n' | '\0')
}

fn is_middle(param: &str) -> bool {
    !param.is_empty() && !param.starts_with(':') && param.chars().all(|c| c != ' ' && is_sendable(c))
}

/// What stands where a parameter that cannot stand in the middle was given.
fn middle(param: &str) -> String {
    let text: String = param.chars().filter(|c| is_sendable(*c) && *c != ' ').collect();
    let text = text.trim_start_matches(':');
    if text.is_empty() { "*".to_owned() } else { text.to_owned() }
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

fn parse_tag(tag: &str) -> (String, String) {
    let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some(':') => plain.push(';'),
            Some('s') => plain.push(' '),
            Some('r') => plain.push('\r'),
            Some('n') => plain.push('\n'),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    (key.to_owned(), plain)
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ';' => out.push_str("\\:"),
            ' ' => out.push_str("\\s"),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\0' => {}
            other => out.push(other),
        }
    }
    out
}

/// A line that a client sent, as far as its bytes go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    Line(Line),
    /// Longer than allowed; its bytes were thrown away as they came.
    TooLong,
    /// Not UTF-8 (the listener is UTF8ONLY); the line with what is wrong replaced, to answer it.
    NotUtf8(Line),
}

/// Cuts a client's bytes into lines. Keeps at most one line's bytes that are not a whole line yet.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The line under way is too long already.
    skipping: bool,
    ready: VecDeque<Input>,
}

impl Lines {
    /// Takes bytes as they came from the socket.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.keep(&bytes[..end]);
            self.finish();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The next whole line. Empty lines are passed over, as the RFC asks.
    pub fn take(&mut self) -> Option<Input> {
        self.ready.pop_front()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        self.partial.extend_from_slice(bytes);
        // One more for the CR that may be under way.
        let is_too_long = match self.partial.first() {
            Some(b'@') => self.partial.len() > CLIENT_TAG_BYTES + PASSWORD_LINE_BYTES,
            _ => self.partial.len() >= LINE_BYTES && self.partial.len() >= limit_of(&self.partial),
        };
        if is_too_long {
            self.skipping = true;
            self.partial.clear();
        }
    }

    fn finish(&mut self) {
        let mut bytes = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.skipping) {
            return self.ready.push_back(Input::TooLong);
        }
        while bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if bytes.first() == Some(&b'@') {
            let tags = bytes.iter().position(|b| *b == b' ').map_or(bytes.len(), |at| at + 1);
            if tags > CLIENT_TAG_BYTES || bytes.len() - tags > limit_of(&bytes[tags..]) - 2 {
                return self.ready.push_back(Input::TooLong);
            }
        } else if bytes.len() > limit_of(&bytes) - 2 {
            return self.ready.push_back(Input::TooLong);
        }
        match std::str::from_utf8(&bytes) {
            Err(_) => {
                let text = String::from_utf8_lossy(&bytes).replace(['\0', '\r'], "");
                self.ready.push_back(Input::NotUtf8(Line::parse(&text).unwrap_or_default()));
            }
            Ok(text) => {
                // NUL may not occur; a field that had one would name something else without it.
                let line = Line::parse(&text.replace(['\0', '\r'], ""));
                self.ready.extend(line.map(Input::Line));
            }
        }
    }
}

/// Bytes that a line may have which begins like this, CR LF included.
fn limit_of(line: &[u8]) -> usize {
    let command = line.split(|byte| *byte == b' ').next().unwrap_or(line);
    let brings_one = WITH_PASSWORD.iter().any(|name| command.eq_ignore_ascii_case(name.as_bytes()));
    if brings_one { PASSWORD_LINE_BYTES } else { LINE_BYTES }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Input> {
        let mut lines = Lines::default();
        lines.feed(bytes);
        std::iter::from_fn(|| lines.take()).collect()
    }

    #[test]
    fn a_tag_without_a_key_is_none() {
        assert_eq!(Line::parse("@= A"), Some(Line::new("A")));
        assert_eq!(Line::parse("@;a=1;=2 A"), Some(Line::new("A").tag("a", "1")));
    }

    #[test]
    fn parses_what_clients_send() {
        let line = Line::parse("@label=a\\sb;+x :me privmsg  #c  :hello  there ").unwrap();
        assert_eq!(line.tagged("label"), Some("a b"));
        assert_eq!(line.tagged("+x"), Some(""));
        assert_eq!(line.command, "PRIVMSG");
        assert_eq!(line.params, ["#c", "hello  there "]);
        assert_eq!(Line::parse("JOIN :").unwrap().params, [""]);
        assert_eq!(Line::parse("  "), None);
        assert_eq!(Line::parse("@only-tags"), None);
    }

    #[test]
    fn nothing_breaks_out_of_a_field() {
        let line = Line::from("a b", "332").param("x y\r\nQUIT").param("").text("one\r\ntwo\0");
        assert_eq!(line.to_string(), ":ab 332 xyQUIT * :onetwo");
        let long = Line::new("PRIVMSG").param("#c").text("é".repeat(400));
        assert!(long.to_string().len() <= 510);
    }

    #[test]
    fn bounds_hold_and_the_next_line_is_read() {
        let mut bytes = vec![b'A'; 100_000];
        bytes.extend_from_slice(b"\r\nPING x\r\n\r\n\xff\xfe\r\nPING y\n");
        let got = lines(&bytes);
        assert_eq!(got[0], Input::TooLong);
        assert!(matches!(&got[1], Input::Line(line) if line.params == ["x"]));
        assert!(matches!(got[2], Input::NotUtf8(_)));
        assert!(matches!(&got[3], Input::Line(line) if line.params == ["y"]));

        let exact = |n: usize| lines(format!("{}\r\n", "A".repeat(n)).as_bytes()).remove(0);
        assert!(matches!(exact(510), Input::Line(_)));
        assert_eq!(exact(511), Input::TooLong);
        let password = |command: &str, bytes: usize| {
            lines(format!("{command} {}\r\n", "x".repeat(bytes - command.len() - 1)).as_bytes()).remove(0)
        };
        for command in ["NS", "@a=b nickserv", "register"] {
            let tags = if command.starts_with('@') { 5 } else { 0 };
            assert!(matches!(password(command, 1022 + tags), Input::Line(_)), "{command}");
            assert_eq!(password(command, 1023 + tags), Input::TooLong, "{command}");
            assert_eq!(password(command, 20_000), Input::TooLong, "{command}");
        }
        assert_eq!(password("NSX", 511), Input::TooLong);
        assert_eq!(password("@a=b NSX", 516), Input::TooLong);
        let tagged = |n: usize| lines(format!("@{} PING\r\n", "a".repeat(n)).as_bytes()).remove(0);
        assert!(matches!(tagged(4094), Input::Line(_)));
        assert_eq!(tagged(4095), Input::TooLong);
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9#é]{1,12}"
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..3000), at in 0usize..3000) {
            let whole = lines(&bytes);
            let mut pieces = Lines::default();
            let at = at.min(bytes.len());
            pieces.feed(&bytes[..at]);
            pieces.feed(&bytes[at..]);
            let pieces: Vec<_> = std::iter::from_fn(|| pieces.take()).collect();
            prop_assert_eq!(&whole, &pieces);
            for input in whole {
                if let Input::Line(line) = input {
                    let text = Line { tags: Vec::new(), ..line }.to_string();
                    prop_assert!(text.len() <= 510 && !text.contains(['\r', '\n', '\0']));
                }
            }
        }

        #[test]
        fn what_is_built_is_read_back(
            key in "[a-z+/.-]{1,10}", value in "[ -~é\r\n]{0,20}", source in word(),
            params in prop::collection::vec(word(), 0..5), text in "[ -~é]{0,60}",
        ) {
            let mut line = Line::from(source, "PRIVMSG").tag(key, value);
            for param in params {
                line = line.param(param);
            }
            let line = line.text(text);
            prop_assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
    }
}

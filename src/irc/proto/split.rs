//! Cuts text into lines that fit an IRC message.
//!
//! It owns the one rule of cutting: by bytes, never within what a reader sees as one character,
//! with open formatting carried over and counted. It never knows what a message is made of.

use unicode_segmentation::UnicodeSegmentation;

use super::format::{Style, runs};

/// A room below this many bytes is taken as this: one cannot write into less.
pub const LEAST_ROOM: usize = 16;

/// Cuts `text` at its line breaks and so that each piece is at most `room` bytes, formatting codes
/// included.
///
/// A cut falls on a space where there is one in the second half of the piece (the space goes), and
/// never within a grapheme unless that alone is longer than `room`. Formatting that is open at a
/// cut is opened again in the next piece. Lines without a visible character are dropped; CR, LF,
/// NUL and other control characters do not survive.
pub fn split(text: &str, room: usize) -> Vec<String> {
    let room = room.max(LEAST_ROOM);
    let units = units(text, room);
    let mut pieces = Vec::new();
    for line in units.split(|unit| unit.text == "\n") {
        if !line.iter().all(Unit::is_blank) {
            split_line(line, room, &mut pieces);
        }
    }
    pieces
}

/// What is never cut: a grapheme, with its style.
struct Unit<'a> {
    style: Style,
    text: &'a str,
}

impl Unit<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn codes_after(&self, from: &Style) -> String {
        self.style.codes_after(from, self.text.chars().next().unwrap_or(' '))
    }
}

/// The graphemes of a text; those longer than `room` in parts that fit.
fn units(text: &str, room: usize) -> Vec<Unit<'_>> {
    let mut units = Vec::with_capacity(text.len());
    for (style, part) in runs(text) {
        for mut grapheme in part.graphemes(true) {
            while grapheme.len() > room {
                let end = (1..=room).rev().find(|at| grapheme.is_char_boundary(*at)).unwrap_or(room);
                units.push(Unit { style, text: &grapheme[..end] });
                grapheme = &grapheme[end..];
            }
            units.push(Unit { style, text: grapheme });
        }
    }
    units
}

fn split_line(line: &[Unit<'_>], room: usize, pieces: &mut Vec<String>) {
    let mut rest = line;
    while !rest.is_empty() {
        let (piece, taken) = take_piece(rest, room);
        if !rest[..taken].iter().all(Unit::is_blank) {
            pieces.push(piece);
        }
        rest = &rest[taken..];
    }
}

/// The longest good beginning of a line that fits, and how many units it used up (at least one).
fn take_piece(line: &[Unit<'_>], room: usize) -> (String, usize) {
    let mut piece = String::new();
    let mut style = Style::default();
    // Where the last space of the second half is: its index, and the bytes before it.
    let mut space = None;
    for (index, unit) in line.iter().enumerate() {
        let codes = unit.codes_after(&style);
        if piece.len() + codes.len() + unit.text.len() > room {
            if piece.is_empty() {
                // The codes leave no room for the character itself: it goes without them.
                return (unit.text.to_owned(), 1);
            }
            if unit.text == " " {
                return (piece, index + 1);
            }
            return match space {
                Some((index, bytes)) => {
                    piece.truncate(bytes);
                    (piece, index + 1)
                }
                None => (piece, index),
            };
        }
        if unit.text == " " && piece.len() >= room / 2 {
            space = Some((index, piece.len()));
        }
        piece.push_str(&codes);
        piece.push_str(unit.text);
        style = unit.style;
    }
    (piece, line.len())
}

#[cfg(test)]
mod tests {
    use super::super::format::strip;
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, room: usize, expect: &[&str]) {
        assert_eq!(split(text, room), expect, "{text:?}");
    }

    #[test]
    fn cuts() {
        check("short", 20, &["short"]);
        check("a\r\nb\n\n  \nc\rd\0e", 20, &["a", "b", "c", "de"]);
        check("the quick brown fox jumps", 20, &["the quick brown fox", "jumps"]);
        check("a bcdefghijklmnopqrstuvwxyz", 16, &["a bcdefghijklmno", "pqrstuvwxyz"]);
        check("0123456789abcdef 0", 16, &["0123456789abcdef", "0"]);
        check("0123456789abcdef0", 3, &["0123456789abcdef", "0"]);
        check("", 20, &[]);
    }

    #[test]
    fn graphemes_stay_whole() {
        // A family of four is one grapheme of 25 bytes, a flag one of 8.
        check("12345678👨‍👩‍👧‍👦x", 30, &["12345678", "👨‍👩‍👧‍👦x"]);
        check("🇩🇪🇫🇷🇮🇹", 20, &["🇩🇪🇫🇷", "🇮🇹"]);
        check("ééééééééé", 16, &["éééééééé", "é"]);
        let zalgo = format!("a{}", "\u{301}".repeat(20));
        assert_eq!(split(&zalgo, 16).concat(), zalgo);
    }

    #[test]
    fn formatting_is_carried_over() {
        check("\x02bold bold bold bold\x02 x", 16, &["\x02bold bold bold", "\x02bold\x02 x"]);
        check("\x0304,05red red red red\x0f x", 18, &["\x0304,05red red red", "\x0304,05red\x0f x"]);
        check("\x0304aaaaaaaaaaaaa,1", 16, &["\x0304aaaaaaaaaaaaa", "\x0304\x02\x02,1"]);
        check("\x04ff0000aaaaaaaaa\nb", 16, &["\x04FF0000aaaaaaaaa", "\x04FF0000b"]);
        check("\x1done\ntwo\x1d\nthree", 16, &["\x1done", "\x1dtwo", "three"]);
    }

    fn looks(text: &str) -> Vec<(Style, char)> {
        let letters = runs(text).into_iter().flat_map(|(style, part)| part.chars().map(move |c| (style, c)));
        letters.filter(|(_, c)| !c.is_whitespace()).collect()
    }

    fn formatted() -> impl Strategy<Value = String> {
        "(a|é|漢|👍🏽|e\u{301}| |,|7|word |\n|\r|\\x00|\\x02|\\x1d|\\x1f|\\x1e|\\x11|\\x16|\\x0f|\\x03|\\x034|\\x0312,03|\\x04ff00aa){0,120}"
    }

    proptest! {
        #[test]
        fn bounds_and_content(text in formatted(), wild in any::<String>(), room in 0usize..120) {
            for text in [text, wild] {
                let pieces = split(&text, room);
                for piece in &pieces {
                    prop_assert!(piece.len() <= room.max(LEAST_ROOM), "{:?}", piece);
                    prop_assert!(!piece.contains(['\r', '\n', '\0']));
                    prop_assert!(!strip(piece).trim().is_empty());
                }
                let whole = |text: &str| strip(text).split_whitespace().collect::<String>();
                prop_assert_eq!(whole(&pieces.concat()), whole(&text));
            }
        }

        #[test]
        fn looks_are_kept(text in formatted(), room in 64usize..120) {
            let pieces: Vec<_> = split(&text, room).iter().flat_map(|piece| looks(piece)).collect();
            prop_assert_eq!(pieces, looks(&text));
        }

        #[test]
        fn graphemes_are_kept(text in "(a|é|漢|👍🏽|e\u{301}|🇩🇪|\u{200d}| ){0,120}", room in 40usize..80) {
            let visible = |text: &str| -> Vec<String> {
                text.graphemes(true).filter(|g| !g.trim().is_empty()).map(str::to_owned).collect()
            };
            let pieces: Vec<_> = split(&text, room).iter().flat_map(|piece| visible(piece)).collect();
            prop_assert_eq!(pieces, visible(&text));
        }
    }
}

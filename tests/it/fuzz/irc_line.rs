//! A client's bytes as lines: cut anywhere they give the same lines, what is parsed is written as one line
//! within bounds, and that line says the same.

use multichat::irc::proto::line::{Input, Line, Lines};

fn inputs(pieces: &[&[u8]]) -> Vec<Input> {
    let mut lines = Lines::default();
    pieces.iter().for_each(|piece| lines.feed(piece));
    std::iter::from_fn(|| lines.take()).collect()
}

pub fn run(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = inputs(&[bytes]);
    let (one, other) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    assert_eq!(inputs(&[one, other]), whole, "however it is cut");
    for input in whole {
        let (Input::Line(line) | Input::NotUtf8(line)) = input else { continue };
        let text = line.to_string();
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
        let tags = text
            .strip_prefix('@')
            .and_then(|text| text.split_once(' '))
            .map_or(0, |(tags, _)| tags.len() + 2);
        assert!(text.len() - tags <= 510, "{}", text.len());
        // What is no command is answered and never passed on.
        if line.command.is_empty() || !line.command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        let again = Line::parse(&text).expect("what was a line is one");
        // One that had to be cut may end in the middle of what it said.
        if text.len() - tags < 510 {
            assert_eq!(again.to_string(), text, "and says the same");
        }
    }
}

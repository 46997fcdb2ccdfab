//! What an edit changed, in words that a reader of plain lines understands: the new text with what
//! is new in it made bold, and what stood there before. Pure.

/// A text up to this many characters is shown whole.
const WHOLE_CHARS: usize = 200;
/// Words around a change that are shown, to find its place in a longer text.
const AROUND: usize = 4;
/// Characters of the replaced words that are shown.
const WAS_CHARS: usize = 120;
const BOLD: char = '\x02';

/// The line that shows an edit; `None` if no word differs.
pub(super) fn shown(before: &str, after: &str) -> Option<String> {
    let old: Vec<&str> = before.split_whitespace().collect();
    let new: Vec<&str> = after.split_whitespace().collect();
    if old == new {
        return None;
    }
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);

    let whole = after.chars().count() <= WHOLE_CHARS;
    let around = if whole { usize::MAX } else { AROUND };
    let first = head.saturating_sub(around);
    let last = (head + come.len()).saturating_add(around).min(new.len());
    let mut words: Vec<String> = new[first..head].iter().map(|word| (*word).to_owned()).collect();
    if !come.is_empty() {
        words.push(format!("{BOLD}{}{BOLD}", come.join(" ")));
    }
    words.extend(new[head + come.len()..last].iter().map(|word| (*word).to_owned()));
    let mut line = words.join(" ");
    if first > 0 {
        line.insert_str(0, "… ");
    }
    if last < new.len() {
        line.push_str(" …");
    }
    let was = match gone.is_empty() {
        false => format!("was: {}", clipped(&gone.join(" "))),
        true => "added".to_owned(),
    };
    Some(format!("{line} ({was})"))
}

fn clipped(text: &str) -> String {
    let mut short: String = text.chars().take(WAS_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expect: &str) {
        let line = shown(before, after).unwrap_or_default().replace(BOLD, "*");
        assert_eq!(line, expect);
    }

    #[test]
    fn what_changed_is_clear() {
        check("meet at five", "meet at six", "meet at *six* (was: five)");
        check("see you", "see you tomorrow", "see you *tomorrow* (added)");
        check("not so bad", "so bad", "so bad (was: not)");
        check("a a", "a a a", "a a *a* (added)");
        check("one", "another thing", "*another thing* (was: one)");
        check("same  words", "same words", "");
        check("", "all of it", "*all of it* (added)");
        let long = |word: &str| format!("{}{word} {}", "before ".repeat(30), "after ".repeat(30));
        check(&long("x"), &long("y"), "… before before before before *y* after after after after … (was: x)");
    }
}

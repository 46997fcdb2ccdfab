//! Standard output: lines for people, JSON for programs. It never lets a control character from
//! somebody's message reach the terminal, and a reader that went away is an error, not a panic.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// Standard output in one of its two forms.
pub struct Output {
    json: bool,
    stdout: io::Stdout,
}

impl Output {
    /// JSON or lines.
    pub fn new(json: bool) -> Self {
        Self { json, stdout: io::stdout() }
    }

    /// Prints `value` as JSON, or what `lines` makes of it, line by line.
    ///
    /// # Errors
    /// What writing met.
    pub fn report<T: Serialize>(
        &mut self,
        value: &T,
        lines: impl FnOnce(&T) -> Vec<String>,
    ) -> io::Result<()> {
        if self.json {
            let text = serde_json::to_string_pretty(value)?;
            return writeln!(self.stdout, "{text}");
        }
        lines(value).iter().try_for_each(|line| self.line(line))
    }

    /// Prints one line for people; nothing where JSON is wanted.
    ///
    /// # Errors
    /// What writing met.
    pub fn line(&mut self, line: impl Display) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.stdout, "{}", one_line(&line.to_string()))
    }
}

/// The text with every control character replaced, so that it is one line and steers no terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Rows as columns that line up, two spaces apart; the last column is as it is.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = columns(&[row(["#a", "12", "topic"]), row(["#long", "3", ""])]);
        assert_eq!(lines, ["#a     12  topic", "#long  3"]);
    }

    #[test]
    fn no_control_character_passes() {
        assert_eq!(one_line("a\x1b[31mb\nc\u{9b}d"), "a [31mb c d");
    }
}

//! What the demo prints: plain lines, with a little colour and a progress bar where a person
//! watches a terminal. Output that nobody reads any more is dropped without fuss.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::synapse::Progress;

const BAR: usize = 24;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colour: bool,
    /// What the last unfinished line said, so that it is not said again.
    unfinished: Option<String>,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Standard output as it is.
    pub fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_terminal, has_colour, unfinished: None }
    }

    /// A line.
    pub fn line(&mut self, text: &str) {
        self.clear();
        print(&format!("{text}\n"));
    }

    /// A headline, with an empty line before it.
    pub fn headline(&mut self, text: &str) {
        self.line(&format!("\n{}", self.paint("1", text)));
    }

    /// A part that is ready: what, which, and how to reach it.
    pub fn ready(&mut self, what: &str, detail: &str) {
        let done = self.paint("32", "ok");
        self.line(&format!("  {done}  {what:<10} {detail}"));
    }

    /// A part that the demo goes on without, and why.
    pub fn without(&mut self, what: &str, why: &str) {
        let mark = self.paint("33", "--");
        self.line(&format!("  {mark}  {what:<10} {why}"));
    }

    /// What is being waited for; the next line replaces it on a terminal.
    pub fn doing(&mut self, text: &str) {
        if self.unfinished.as_deref() == Some(text) {
            return;
        }
        self.clear();
        if self.is_terminal {
            print(&format!("  ..  {text}"));
        } else {
            print(&format!("  ..  {text}\n"));
        }
        self.unfinished = Some(text.to_owned());
    }

    /// How far the first installation is: a bar on a terminal, a line now and then elsewhere.
    pub fn installing(&mut self, progress: Progress) {
        let first = "installing Synapse from PyPI, the first time only (about 20 s, 250 MB)";
        match progress {
            Progress::Waiting => self.doing("another process is installing Synapse; waiting for it"),
            Progress::Environment => self.doing(first),
            Progress::Fetched { packages, about } if self.is_terminal => {
                let filled = BAR * packages.min(about) / about.max(1);
                let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
                self.doing(&format!("getting Synapse [{bar}] {packages} of about {about} packages"));
            }
            Progress::Fetched { packages, about } if packages % 20 == 0 => {
                self.doing(&format!("getting Synapse: {packages} of about {about} packages"));
            }
            Progress::Fetched { .. } => {}
            Progress::Unpacking => self.doing("unpacking Synapse"),
        }
    }

    /// Somebody is about to say something.
    pub fn says(&mut self, who: &str, text: &str) {
        let who = self.paint("1", &format!("{who}:"));
        self.line(&format!("\n  {who} {text}"));
    }

    /// It arrived: at whom, by which way, under which name, after how long.
    pub fn arrived(&mut self, at: &str, way: &str, name: &str, after: Duration) {
        let time = self.paint("36", &format!("{:>5} ms", after.as_millis()));
        self.line(&format!("    {time}  at {at:<6} as {name:<10} {way}"));
    }

    /// It did not, and why.
    pub fn failed(&mut self, text: &str) {
        let mark = self.paint("31", "failed");
        self.line(&format!("  {mark}: {text}"));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn clear(&mut self) {
        if self.unfinished.take().is_some() && self.is_terminal {
            print("\r\x1b[K");
        }
    }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

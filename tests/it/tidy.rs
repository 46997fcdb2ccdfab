//! The house rules that a machine can check: who may import whom, what pure rooms never say, and
//! that each module says what it is. It reads the source as text, with comments and strings
//! blanked out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and what it may import besides itself. Later rooms stand on earlier ones.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("machine", &["base"]),
    ("chat", &["base", "machine"]),
    ("replica", &["base", "machine", "chat"]),
    ("seal", &["base", "machine", "chat", "replica"]),
    ("overlay", &["base"]),
    ("node", &["base", "machine", "chat", "replica", "seal", "overlay"]),
    ("port", &["base", "machine", "chat", "replica", "seal", "overlay", "node"]),
    ("store", DOOR),
    ("net", DOOR),
    ("irc", DOOR),
    ("matrix", DOOR),
    ("web", DOOR),
    ("control", DOOR),
    ("runtime", RUNTIME),
    ("cli", CLI),
];
/// The shells around the node never import each other.
const DOOR: &[&str] = &["base", "machine", "chat", "replica", "seal", "overlay", "node", "port"];
const RUNTIME: &[&str] = &[
    "base", "machine", "chat", "replica", "seal", "overlay", "node", "port", "store", "net", "irc", "matrix",
    "web", "control",
];
const CLI: &[&str] = &[
    "base", "machine", "chat", "replica", "seal", "overlay", "node", "port", "store", "net", "irc", "matrix",
    "web", "control", "runtime",
];

/// What decides, and therefore neither waits, nor reads clock, disk or chance, nor prints.
const PURE: &[&str] =
    &["base", "machine", "chat", "replica", "seal", "overlay", "node", "irc/proto", "matrix/proto"];
const BANNED: &[&str] = &[
    "async",
    "tokio",
    "Instant::now",
    "SystemTime::now",
    "thread_rng",
    "std::fs",
    "println!",
    "eprintln!",
    "dbg!",
    "HashMap",
    "HashSet",
];
const VAGUE: &[&str] = &["util", "helper", "manager"];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root.join(folder)) {
            let text = fs::read_to_string(&path).expect("source is readable");
            let shown = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            complaints.extend(complaints_about(&shown, &text));
        }
    }
    let list: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} complaints:\n{}", list.len(), list.join("\n"));
}

#[test]
fn every_room_has_its_rule() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(source).expect("src is readable") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let has_rule = ROOMS.iter().any(|(room, _)| *room == name);
        assert!(
            has_rule || ["lib", "main"].contains(&name.as_str()),
            "src/{name}: add it to ROOMS in tidy.rs"
        );
    }
}

/// A broken rule and where.
#[derive(PartialEq, Eq, Debug)]
struct Complaint {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every rule that one file breaks. `file` is its path from the top of the repository.
fn complaints_about(file: &str, text: &str) -> Vec<Complaint> {
    let mut found: Vec<(usize, String)> = Vec::new();
    if !text.trim_start().starts_with("//!") {
        found.push((0, "a module opens with `//!`: what it owns and what it must never do".into()));
    }
    if let Some(vague) = VAGUE.iter().find(|vague| file.contains(*vague)) {
        found.push((0, format!("`{vague}` says nothing: name the subject")));
    }
    let code = blank(text);
    let tests = test_parts(&code, file);
    let in_test = |at: usize| tests.iter().any(|(from, to)| (*from..*to).contains(&at));
    // Both are how their makers mean them to be used, and stay out of what ships.
    let is_usual = |at: usize, path: &str| path == "proptest::prelude" || (in_test(at) && path == "super");
    found.extend(
        globs(&code)
            .filter(|(at, path)| !is_usual(*at, path))
            .map(|(at, path)| (at, format!("`use {path}::*` hides where names come from: list them"))),
    );
    if let Some(inside) = file.strip_prefix("src/") {
        let modules = module_path(inside);
        found.extend(imports(&code, &modules));
        let pure = PURE.iter().find(|pure| modules.join("/").starts_with(*pure) && is_whole(&modules, pure));
        for word in pure.iter().flat_map(|_| BANNED) {
            let hits = occurrences(&code, word).filter(|at| !in_test(*at));
            found.extend(hits.map(|at| (at, format!("`{word}` in the pure room {}", pure.expect("some")))));
        }
    }
    found.sort();
    let line = |at: usize| 1 + code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    found.into_iter().map(|(at, rule)| Complaint { file: file.into(), line: line(at), rule }).collect()
}

/// Whether the room's name ends where a module's does: `irc/proto` is not `irc/protocol`.
fn is_whole(modules: &[String], room: &str) -> bool {
    room.split('/').zip(modules).all(|(a, b)| a == b)
}

/// `irc/proto/split.rs` is `["irc", "proto", "split"]`.
fn module_path(inside: &str) -> Vec<String> {
    let parts = inside.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut parts: Vec<String> = parts.collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Imports of rooms that this one may not see, by `crate::` or by enough `super::`.
fn imports(code: &str, modules: &[String]) -> Vec<(usize, String)> {
    let Some(own) = modules.first() else { return Vec::new() };
    let allowed = ROOMS.iter().find(|(room, _)| room == own).map_or(&[][..], |(_, allowed)| *allowed);
    let mut found = Vec::new();
    let mut judge = |at: usize, room: &str| {
        let is_room = ROOMS.iter().any(|(name, _)| *name == room);
        if is_room && room != own && !allowed.contains(&room) {
            found.push((at, format!("`{own}` must not import `{room}`")));
        }
    };
    for at in occurrences(code, "crate::") {
        let from = at + "crate::".len();
        for (offset, room) in heads(&code[from..]) {
            judge(from + offset, &room);
        }
    }
    for (at, climbed, rest) in climbs(code) {
        if climbed == modules.len() + inline_depth(code, at) {
            for (_, room) in heads(rest) {
                judge(at, &room);
            }
        }
    }
    found
}

/// The first segments of a path or of a group of paths: `a::b` or `{a::b, c}`.
fn heads(rest: &str) -> Vec<(usize, String)> {
    let Some(group) = rest.strip_prefix('{') else { return vec![(0, word_at(rest))] };
    let (mut depth, mut starts, mut heads) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && depth == 0 && !c.is_whitespace() => {
                heads.push((1 + at, word_at(&group[at..])));
                starts = false;
            }
            _ => {}
        }
    }
    heads
}

/// Chains of `super::`: where, how many, and what follows.
fn climbs(code: &str) -> Vec<(usize, usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("super::").map(|at| at + from) {
        let mut rest = &code[at..];
        let mut climbed = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, climbed) = (after, climbed + 1);
        }
        from = code.len() - rest.len();
        if !at.checked_sub(1).is_some_and(|before| is_word_byte(code.as_bytes()[before])) {
            found.push((at, climbed, rest));
        }
    }
    found
}

/// How many `mod name { … }` of this file surround a place.
fn inline_depth(code: &str, at: usize) -> usize {
    inline_modules(code).iter().filter(|(from, to)| (*from..*to).contains(&at)).count()
}

/// From brace to brace, each `mod name { … }`.
fn inline_modules(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for at in occurrences(code, "mod") {
        let rest = &code[at + 3..];
        let name = word_at(rest.trim_start());
        let Some(after) = rest.trim_start().strip_prefix(name.as_str()) else { continue };
        if rest.starts_with(char::is_whitespace) && !name.is_empty() && after.trim_start().starts_with('{') {
            let open = code.len() - after.trim_start().len();
            found.push((open, closing(code, open)));
        }
    }
    found
}

/// What is compiled for tests alone: `#[cfg(test)] mod … { … }`, a file named tests.rs, and tests/.
fn test_parts(code: &str, file: &str) -> Vec<(usize, usize)> {
    if file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/") {
        return vec![(0, code.len())];
    }
    let after_cfg = |from: usize| {
        let start = code[..from].trim_end();
        let head = start.rfind(['}', ';']).map_or(start, |at| &start[at..]);
        head.contains("#[cfg(test)]")
    };
    let modules = inline_modules(code).into_iter();
    modules.filter(|(open, _)| after_cfg(*open)).collect()
}

/// The end of the block that opens at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Glob imports: where, and of what.
fn globs(code: &str) -> impl Iterator<Item = (usize, String)> {
    occurrences(code, "use").filter_map(|at| {
        let statement = code[at..].split(';').next()?;
        let (path, _) = statement[3..].split_once("::*").or_else(|| {
            let (head, group) = statement[3..].split_once("::{")?;
            group.split([',', '}']).any(|item| item.trim() == "*").then_some((head, ""))
        })?;
        statement[3..].starts_with(char::is_whitespace).then(|| (at, path.trim().to_owned()))
    })
}

/// Where a word stands by itself, not as a part of a longer one.
fn occurrences(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let after = bytes.get(at + word.len()).copied();
        let open_end = word.ends_with(['!', ':']);
        !before.is_some_and(is_word_byte) && (open_end || !after.is_some_and(is_word_byte))
    })
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The source with comments, strings and characters blanked out; every byte and every line keeps
/// its place.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'r' | b'b' | b'c' if at == 0 || !is_word_byte(bytes[at - 1]) => match raw_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'"' => quote_end(bytes, at, b'"'),
            b'\'' if is_character(text, at) => quote_end(bytes, at, b'\''),
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole strings and comments were blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let found = bytes[from..].windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |at| from + at)
}

fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The end of `r"…"`, `br#"…"#` and the like that start here.
fn raw_end(bytes: &[u8], from: usize) -> Option<usize> {
    let prefix = bytes[from..].iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = bytes[from + prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = from + prefix + hashes;
    if bytes[from + prefix - 1] != b'r' || prefix > 2 || bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    Some((find(bytes, open + 1, &close) + close.len()).min(bytes.len()))
}

fn quote_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// A character and not a lifetime: escaped, or closed right after one character.
fn is_character(text: &str, at: usize) -> bool {
    let mut rest = text[at + 1..].chars();
    match rest.next() {
        Some('\\') => true,
        Some(_) => rest.next() == Some('\''),
        None => false,
    }
}

/// The rules that a piece of source breaks, as `line: rule`.
fn check(file: &str, text: &str, expect: &[&str]) {
    let given: Vec<String> = complaints_about(file, text)
        .into_iter()
        .map(|complaint| format!("{}: {}", complaint.line, complaint.rule))
        .collect();
    assert_eq!(given, expect, "for {file}:\n{text}");
}

#[test]
fn edges_are_seen_in_every_spelling() {
    check("src/store/mod.rs", "//! x\nuse crate::irc::A;", &["2: `store` must not import `irc`"]);
    check("src/chat/a.rs", "//! x\nfn f() { crate::node::g() }", &["2: `chat` must not import `node`"]);
    check(
        "src/overlay/a.rs",
        "//! x\nuse crate::{\n    base::{Kind, A},\n    chat::{self, B},\n};",
        &["4: `overlay` must not import `chat`"],
    );
    check("src/base/a.rs", "//! x\nuse super::super::node::A;", &["2: `base` must not import `node`"]);
    check(
        "src/base/mod.rs",
        "//! x\nmod t { use super::super::node::A; }",
        &["2: `base` must not import `node`"],
    );
    check("src/base/mod.rs", "//! x\nmod t { use super::node::A; }", &[]);
    check(
        "src/runtime/a.rs",
        "//! x\nuse crate::{store, cli::run};",
        &["2: `runtime` must not import `cli`"],
    );
    check(
        "src/node/a.rs",
        "//! x\nuse crate::replica::A;\nuse crate::node::B;\nuse other_crate::store;",
        &[],
    );
    check("src/main.rs", "//! x\nuse crate::cli::A;", &[]);
}

#[test]
fn pure_rooms_are_pure_and_comments_and_strings_are_not_code() {
    check("src/node/a.rs", "//! x\nasync fn f() {}", &["2: `async` in the pure room node"]);
    check("src/irc/proto/a.rs", "//! x\n\nuse std::fs;", &["3: `std::fs` in the pure room irc/proto"]);
    check("src/irc/protocol.rs", "//! x\nuse std::fs;", &[]);
    check("src/irc/listener.rs", "//! x\nasync fn f() { println!() }", &[]);
    check(
        "src/base/a.rs",
        "//! HashMap\n/* async /* tokio */ async */ // std::fs\nconst A: &str = \"async\";",
        &[],
    );
    check(
        "src/base/a.rs",
        "//! x\nlet a = r#\"a \" async\"#; let b = '\"'; let c = async;",
        &["2: `async` in the pure room base"],
    );
    check(
        "src/base/a.rs",
        "//! x\nfn f<'a>(x: &'a str) { is_async(x); HashMapper }\nstd::fs::read();",
        &["3: `std::fs` in the pure room base"],
    );
    check("src/base/a.rs", "//! x\n#[cfg(test)]\nmod tests {\n    use super::*;\n    println!();\n}\n", &[]);
    check(
        "src/base/a.rs",
        "//! x\n#[cfg(test)]\nmod tests {}\nmod b {\n    println!();\n}\n",
        &["5: `println!` in the pure room base"],
    );
}

#[test]
fn modules_are_introduced_named_and_list_what_they_use() {
    let opening = "1: a module opens with `//!`: what it owns and what it must never do";
    check("src/base/a.rs", "use std::fmt;", &[opening]);
    check("src/base/utils.rs", "//! x", &["1: `util` says nothing: name the subject"]);
    check(
        "src/irc/a.rs",
        "//! x\nuse std::io::*;",
        &["2: `use std::io::*` hides where names come from: list them"],
    );
    check("src/irc/a.rs", "//! x\nuse a::{B, *};", &["2: `use a::*` hides where names come from: list them"]);
    check(
        "src/irc/a.rs",
        "//! x\nuse super::*;",
        &["2: `use super::*` hides where names come from: list them"],
    );
    check("src/irc/a.rs", "//! x\nuse proptest::prelude::*;", &[]);
    check("tests/it/a.rs", "//! x\nuse super::*;\nlet a = b * c;", &[]);
}

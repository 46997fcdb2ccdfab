//! From text to a checked [`Config`]: parsing, `${ENV}` and `*_file`, and errors that a person can
//! act on. It never touches the environment or the disk: both come in as [`Surroundings`].

use std::fmt;

use serde_yaml::Value;

use super::Config;
use crate::base::Kind;

/// What is wrong with a configuration: one line that names the place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The key, such as `irc.networks.libera.nick`; empty for the file as a whole.
    pub path: String,
    /// Line of the file, from 1, where it is known.
    pub line: Option<usize>,
    pub problem: String,
}

impl ConfigError {
    /// A problem at a key.
    pub fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, problem: problem.into() }
    }

    /// Always [`Kind::Invalid`].
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match (self.line, self.path.is_empty()) {
            (Some(line), true) => write!(f, "line {line}: ")?,
            (Some(line), false) => write!(f, " (line {line}): ")?,
            (None, true) => {}
            (None, false) => f.write_str(": ")?,
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// What a configuration may refer to outside itself.
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a secret file, named as in the configuration; the error is one clause.
    pub secret: &'a dyn Fn(&str) -> Result<String, String>,
}

impl Config {
    /// Parses and checks the text of a configuration file. Values may contain `${NAME}` (`$$` is
    /// one dollar); `*_file` keys are replaced by what the files hold.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(text: &str, around: &Surroundings<'_>) -> Result<Self, ConfigError> {
        let mut config = parse(text)?;
        if text.contains('$') {
            config = expand(&config, around.env)?;
        }
        config.resolve_secrets(around.secret)?;
        // A network's address names it in links, so it has one spelling.
        for network in config.irc.networks.values_mut() {
            network.address.make_ascii_lowercase();
        }
        config.check()?;
        Ok(config)
    }

    fn resolve_secrets(&mut self, read: &dyn Fn(&str) -> Result<String, String>) -> Result<(), ConfigError> {
        for (index, domain) in self.domains.iter_mut().enumerate() {
            let path = |key: &str| format!("domains[{index}].{key}");
            take_secret(&path("psk"), &mut domain.psk, &mut domain.psk_file, read)?;
            take_secret(&path("invite"), &mut domain.invite, &mut domain.invite_file, read)?;
        }
        let irc = &mut self.irc;
        take_secret("irc.password", &mut irc.password, &mut irc.password_file, read)?;
        for (index, oper) in irc.opers.iter_mut().enumerate() {
            let path = format!("irc.opers[{index}].password");
            take_secret(&path, &mut oper.password, &mut oper.password_file, read)?;
        }
        for (name, network) in &mut irc.networks {
            if let Some(sasl) = &mut network.sasl {
                let path = format!("irc.networks.{name}.sasl.password");
                take_secret(&path, &mut sasl.password, &mut sasl.password_file, read)?;
            }
        }
        Ok(())
    }
}

/// Replaces the file of a secret by its first line.
fn take_secret(
    path: &str,
    value: &mut Option<String>,
    file: &mut Option<String>,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<(), ConfigError> {
    let Some(name) = file.take() else { return Ok(()) };
    let path_of_file = format!("{path}_file");
    if value.is_some() {
        return Err(ConfigError::at(path_of_file, format!("given beside `{path}`; keep one of them")));
    }
    let text = read(&name).map_err(|why| ConfigError::at(path_of_file.clone(), format!("{name}: {why}")))?;
    let secret = text.lines().next().unwrap_or_default().trim();
    if secret.is_empty() {
        return Err(ConfigError::at(
            path_of_file,
            format!("{name} is empty: write the secret on its first line"),
        ));
    }
    *value = Some(secret.to_owned());
    Ok(())
}

/// An empty file, or one of comments alone, is a configuration with every default.
fn parse(text: &str) -> Result<Config, ConfigError> {
    match serde_yaml::from_str::<Option<Config>>(text) {
        Ok(config) => Ok(config.unwrap_or_default()),
        Err(error) => Err(explain(&error)),
    }
}

/// Expands `${NAME}` in every string value, not in keys.
fn expand(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let mut value = serde_yaml::to_value(config).map_err(|error| explain(&error))?;
    expand_value(&mut value, &mut String::new(), env)?;
    serde_yaml::from_value(value).map_err(|error| explain(&error))
}

fn expand_value(
    value: &mut Value,
    path: &mut String,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let here = path.len();
    match value {
        Value::String(text) if text.contains('$') => {
            *text = expand_text(text, env).map_err(|problem| ConfigError::at(path.clone(), problem))?;
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                expand_value(item, path, env)?;
                path.truncate(here);
            }
        }
        Value::Mapping(entries) => {
            for (key, item) in entries.iter_mut() {
                if here > 0 {
                    path.push('.');
                }
                path.push_str(key.as_str().unwrap_or("?"));
                expand_value(item, path, env)?;
                path.truncate(here);
            }
        }
        _ => {}
    }
    Ok(())
}

fn expand_text(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (name, after) =
                after.split_once('}').ok_or("`${` without `}`; write `$$` for a dollar".to_owned())?;
            let value = env(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
            out.push_str(&value);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Turns the parser's message into ours. Serde names the key and every key it would have taken,
/// and knows them from the types themselves, so that no second list can fall behind; the tests
/// below pin the wording that this relies on.
fn explain(error: &serde_yaml::Error) -> ConfigError {
    let line = error.location().map(|location| location.line());
    let text = error.to_string();
    let text = match text.rfind(" at line ") {
        Some(at) if text[at + 9..].starts_with(|c: char| c.is_ascii_digit()) => &text[..at],
        _ => text.as_str(),
    };
    let (path, message) = split_path(text);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let place = |path: &str| ConfigError { path: path.to_owned(), line, problem: String::new() };
    if message.starts_with("unknown field ")
        && let Some((key, known)) = quoted.split_first()
    {
        let path = if path.is_empty() || path == *key || path.ends_with(&format!(".{key}")) {
            if path.is_empty() { (*key).to_owned() } else { path.to_owned() }
        } else {
            format!("{path}.{key}")
        };
        return ConfigError { problem: unknown("key", key, known), ..place(&path) };
    }
    if message.starts_with("unknown variant ")
        && let Some((value, known)) = quoted.split_first()
    {
        return ConfigError { problem: unknown_value(path, value, known), ..place(path) };
    }
    if message.starts_with("missing field ")
        && let Some(key) = quoted.first()
    {
        return ConfigError { problem: format!("`{key}` is missing"), ..place(path) };
    }
    let problem = match message.split_once("expected struct ") {
        Some((before, _)) => {
            format!("{before}expected the keys of `{}`", path.rsplit('.').next().unwrap_or(path))
        }
        None => message.to_owned(),
    };
    ConfigError { problem: problem.replace("invalid type: ", "wrong type: "), ..place(path) }
}

/// Parts `irc.networks.libera: message`; the path is empty where the message has none.
fn split_path(text: &str) -> (&str, &str) {
    match text.split_once(": ") {
        Some((path, message)) if !path.contains([' ', '`']) => (path, message),
        _ => ("", text),
    }
}

fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(near) => format!("unknown {what}; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown {what}"),
        None => format!("unknown {what}; known here: {}", known.join(", ")),
    }
}

/// Values of later versions get a word of their own: whoever writes one made no slip of the pen.
fn unknown_value(path: &str, value: &str, known: &[&str]) -> String {
    let later: &[&str] = match path.rsplit('.').next() {
        Some("topology") => &["structured"],
        Some("mode") => &["puppets"],
        _ => &[],
    };
    if later.contains(&value) {
        return format!("`{value}` does not exist yet; use {}", known.join(" or "));
    }
    format!("`{value}` is not known; use {}", known.join(" or "))
}

/// The known word nearest to the given one, if it is near at all.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|word| (edit_distance(given, word), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len().max(given.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let around = Surroundings {
            env: &|name| (name == "SECRET").then(|| "s3cret".to_owned()),
            secret: &|name| match name {
                "p" => Ok("hunter2\n".into()),
                "blank" => Ok("\n".into()),
                _ => Err("no such file".into()),
            },
        };
        Config::load(text, &around).map_err(|error| error.to_string())
    }

    fn check(text: &str, expect: &str) {
        assert_eq!(load(text).expect_err(text), expect, "for:\n{text}");
    }

    #[test]
    fn an_empty_file_is_every_default() {
        for text in ["", "# nothing\n", "log: info\n"] {
            assert_eq!(load(text), Ok(Config::default()), "{text:?}");
        }
    }

    #[test]
    fn unknown_keys_name_the_place_and_the_nearest_known_one() {
        check("lgo: info\n", "lgo (line 1): unknown key; did you mean `log`?");
        check("node:\n  name: a\n  lisen: []\n", "node.lisen (line 3): unknown key; did you mean `listen`?");
        check(
            "irc:\n  networks:\n    libera:\n      address: a:1\n      nikc: m\n",
            "irc.networks.libera.nikc (line 5): unknown key; did you mean `nick`?",
        );
        check(
            "irc:\n  listen:\n    - {address: '127.0.0.1:0'}\n    - {adress: '127.0.0.1:0'}\n",
            "irc.listen[1].adress (line 4): unknown key; did you mean `address`?",
        );
        check(
            "matrix: {homeserver: 'http://a', server_name: a, admin: []}\n",
            "matrix.admin (line 1): unknown key; did you mean `admins`?",
        );
        check(
            "retention: {default_days: 3}\n",
            "retention (line 1): unknown key; known here: data_dir, node, domains, matrix, irc, links, log",
        );
    }

    #[test]
    fn what_later_versions_take_is_refused_clearly() {
        check(
            "domains: [{name: public, topology: structured}]\n",
            "domains[0].topology (line 1): `structured` does not exist yet; use gossip or tree or mesh",
        );
        check(
            "domains: [{name: public, topology: ring}]\n",
            "domains[0].topology (line 1): `ring` is not known; use gossip or tree or mesh",
        );
        check("domains: [{name: a}, {name: a}]\n", "domains[1].name: is the name of another domain");
        check(
            "domains: [{name: a, admission: psk, psk: a rather long secret}]\n",
            "domains[0].topology: must be `tree` or `mesh` where not everybody is let in: gossipsub sends to \
             whoever subscribes",
        );
        check(
            "domains: [{name: a, topology: tree, admission: psk, psk: short}]\n",
            "domains[0].psk: must be a secret of 16 characters or more: try `openssl rand -hex 32`",
        );
        check(
            "domains: [{name: a, psk: a rather long secret}]\n",
            "domains[0].psk: goes with `admission: psk`",
        );
    }

    #[test]
    fn shape_errors_are_readable() {
        check("matrix: {homeserver: 'http://a'}\n", "matrix (line 1): `server_name` is missing");
        check("node: 5\n", "node (line 1): wrong type: integer `5`, expected the keys of `node`");
        check(
            "irc: {flood: 3}\n",
            "irc.flood (line 1): wrong type: integer `3`, expected the keys of `flood`",
        );
        check(
            "irc: {listen: here}\n",
            "irc.listen (line 1): wrong type: string \"here\", expected a sequence",
        );
        assert_eq!(load("node:\nlog: info\n"), Ok(Config::default()), "a section of comments alone");
        let error = load("irc: [\n").unwrap_err();
        assert!(error.contains("line"), "{error}");
        assert!(load("log: a\nlog: b\n").unwrap_err().contains("duplicate"));
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files() {
        let network = "irc: {networks: {n: {address: 'h:1', nick: m, sasl: {account: a, ";
        let password = |text: &str| -> Result<String, String> {
            let config = load(&format!("{network}{text}}}}}}}}}\n"))?;
            let sasl = config.irc.networks["n"].sasl.clone().unwrap();
            assert_eq!(sasl.password_file, None);
            Ok(sasl.password.unwrap())
        };
        assert_eq!(password("password: 'a${SECRET}b'"), Ok("as3cretb".into()));
        assert_eq!(password("password: 'a$$b$c'"), Ok("a$b$c".into()));
        assert_eq!(password("password_file: p"), Ok("hunter2".into()));
        let at = "irc.networks.n.sasl.password";
        assert_eq!(
            password("password: '${NOPE}'"),
            Err(format!("{at}: the environment variable NOPE is not set"))
        );
        assert_eq!(password("password_file: q"), Err(format!("{at}_file: q: no such file")));
        assert_eq!(
            password("password_file: blank"),
            Err(format!("{at}_file: blank is empty: write the secret on its first line"))
        );
        assert_eq!(
            password("password: a, password_file: p"),
            Err(format!("{at}_file: given beside `{at}`; keep one of them"))
        );
    }

    #[test]
    fn a_networks_address_has_one_spelling() {
        let config = load("irc: {networks: {a: {address: 'IRC.Example.org:6667', nick: m}}}\n").unwrap();
        assert_eq!(config.irc.networks["a"].address, "irc.example.org:6667");
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        for (a, b, distance) in
            [("nikc", "nick", 1), ("", "abc", 3), ("listen", "listen", 0), ("tsl", "tls", 1)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}

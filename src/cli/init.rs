//! `init`: a configuration and a registration of one's own, with fresh tokens, and what to tell
//! the homeserver. It asks nothing and overwrites nothing unless told to.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::config::{Config, Sketch, Surroundings, commented};
use crate::base::id::base32;
use crate::matrix::proto::registration::Registration;

use super::args::Init;
use super::failure::Failure;
use super::load::DEFAULT_FILE;
use super::output::Output;

const HOMESERVER: &str = "http://127.0.0.1:8008";

/// What was written.
#[derive(Serialize)]
struct Written {
    config: PathBuf,
    registration: PathBuf,
    server_name: String,
    homeserver: String,
    /// The lines for homeserver.yaml.
    homeserver_yaml: String,
}

/// Writes both files and says what comes next.
///
/// # Errors
/// Files that exist, values that cannot be right, a disk that does not take them.
pub fn run(init: &Init, config: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let config_path = std::path::absolute(config.unwrap_or(Path::new(DEFAULT_FILE)))?;
    let dir = config_path.parent().unwrap_or(Path::new("/")).to_owned();
    let registration_path = match &init.registration {
        Some(path) => std::path::absolute(path)?,
        None => dir.join("registration.yaml"),
    };
    if registration_path == config_path {
        return Err(Failure::new("--config and --registration name the same file: choose two"));
    }
    if !init.force {
        refuse_to_overwrite(&[&config_path, &registration_path])?;
    }
    let homeserver = init.homeserver.clone().unwrap_or_else(|| HOMESERVER.into());
    let server_name = init.server_name.clone().unwrap_or_else(|| server_name_of(&homeserver));
    let sketch = Sketch {
        data_dir: "data".into(),
        server_name: server_name.clone(),
        homeserver: homeserver.clone(),
        registration: relative_to(&registration_path, &dir)?,
        samples: false,
    };
    let text = commented(&sketch);
    let listen = matrix_listen(&text)?;
    let registration =
        Registration::generate(&server_name, format!("http://{listen}"), token()?, token()?).to_yaml();
    write(&config_path, &text, init.force)?;
    write(&registration_path, &registration, init.force)?;
    let homeserver_yaml =
        format!("app_service_config_files:\n  - {}\n", quoted(&registration_path.to_string_lossy()));
    let written = Written {
        config: config_path,
        registration: registration_path,
        server_name,
        homeserver,
        homeserver_yaml,
    };
    output.report(&written, |written| next_steps(written, config.is_some()))?;
    Ok(())
}

fn next_steps(written: &Written, named: bool) -> Vec<String> {
    let option = match named {
        true => format!(" --config {}", shell_quoted(&written.config.to_string_lossy())),
        false => String::new(),
    };
    let mut lines = vec![
        format!("wrote {}", written.config.display()),
        format!("wrote {} (it holds the tokens: keep it secret)", written.registration.display()),
        String::new(),
        format!(
            "Homeserver {} at {}. Put this into its homeserver.yaml, and restart it:",
            written.server_name, written.homeserver
        ),
        String::new(),
    ];
    lines.extend(written.homeserver_yaml.lines().map(|line| format!("    {line}")));
    lines.extend([
        String::new(),
        "It must be able to read that file: if it runs as another user, `chgrp` the file to a group of"
            .into(),
        "that user and `chmod 640` it. Then:".into(),
        String::new(),
        format!("    multichat{option} run"),
        format!("    multichat{option} doctor    # in another terminal: is everything in place?"),
    ]);
    lines
}

fn refuse_to_overwrite(paths: &[&Path]) -> Result<(), Failure> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(Failure::new(format!(
            "{} exists already: keep it, or overwrite configuration and tokens with --force",
            path.display()
        ))),
    }
}

/// The host of the homeserver's URL; `localhost` for this machine.
fn server_name_of(homeserver: &str) -> String {
    let host = reqwest::Url::parse(homeserver).ok().and_then(|url| url.host_str().map(str::to_owned));
    let is_here = |host: &String| {
        host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    host.filter(|host| !is_here(host)).unwrap_or_else(|| "localhost".into())
}

fn relative_to(path: &Path, dir: &Path) -> Result<String, Failure> {
    let path = path.strip_prefix(dir).unwrap_or(path);
    let text = path.to_str().map(|text| text.replace('$', "$$"));
    text.ok_or_else(|| Failure::new(format!("{}: the path is not UTF-8; choose another", path.display())))
}

/// Checks what will be written, and gives the address that the homeserver is to push to.
fn matrix_listen(text: &str) -> Result<String, Failure> {
    let around = Surroundings { env: &|_| None, secret: &|_| Err("not read here".into()) };
    let config = Config::load(text, &around)?;
    config.matrix.map(|matrix| matrix.listen).ok_or_else(|| Failure::new("no `matrix:` in the new file"))
}

/// 32 random bytes as text.
fn token() -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("the system gives no random numbers: {error}")))?;
    Ok(base32(&bytes))
}

/// Writes a new file that only its owner can read.
fn write(path: &Path, text: &str, replace: bool) -> Result<(), Failure> {
    let attempt = || -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        if replace && path.symlink_metadata().is_ok() {
            fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    attempt().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

fn quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { text.to_owned() } else { serde_json::to_string(text).unwrap_or_else(|_| text.to_owned()) }
}

fn shell_quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_comes_from_the_homeserver() {
        for (url, name) in [
            ("http://127.0.0.1:8008", "localhost"),
            ("http://[::1]:8008", "localhost"),
            ("http://localhost:8008", "localhost"),
            ("https://matrix.example.org", "matrix.example.org"),
            ("nonsense", "localhost"),
        ] {
            assert_eq!(server_name_of(url), name, "{url}");
        }
    }

    #[test]
    fn tokens_are_long_and_fresh() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert!(a.len() == 52 && a != b);
    }
}

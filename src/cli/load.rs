//! Finding and reading the configuration: the part of loading that touches files and the
//! environment.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::config::{Config, Surroundings};

use super::failure::Failure;

/// The file that is taken, if it is there, where no `--config` is given.
pub const DEFAULT_FILE: &str = "config.yaml";

/// A configuration that can run: checked, with secrets and absolute paths filled in.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// `data_dir`, the registration and TLS files are absolute paths.
    pub config: Config,
    /// The file it came from; `None` for the defaults.
    pub file: Option<PathBuf>,
    /// The directory that relative paths in it start from.
    pub dir: PathBuf,
    pub data_dir: PathBuf,
}

/// Loads `--config`, or `config.yaml` here, or the defaults.
///
/// # Errors
/// One line that names the file, the key and what to do.
pub fn load(given: Option<&Path>) -> Result<LoadedConfig, Failure> {
    let here = env::current_dir()?;
    let file = match given {
        Some(path) => Some(here.join(path)),
        None => Some(here.join(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    let (mut config, dir) = match &file {
        Some(path) => read(path)?,
        None => (Config::default_without_file(user_data_dir()?.to_string_lossy()), here),
    };
    let data_dir = match &config.data_dir {
        Some(path) => dir.join(path),
        None => user_data_dir()?,
    };
    config.data_dir = Some(utf8(&data_dir)?);
    if let Some(matrix) = &mut config.matrix {
        matrix.registration = utf8(&dir.join(&matrix.registration))?;
    }
    let listeners = config.irc.listen.iter_mut().filter_map(|listen| listen.tls.as_mut());
    let networks = config.irc.networks.values_mut().filter_map(|network| network.client_cert.as_mut());
    for tls in listeners.chain(networks) {
        tls.cert = utf8(&dir.join(&tls.cert))?;
        tls.key = utf8(&dir.join(&tls.key))?;
    }
    Ok(LoadedConfig { config, file, dir, data_dir })
}

fn read(path: &Path) -> Result<(Config, PathBuf), Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(format!("{shown}: no such file: make one with `multichat init`"))
        }
        _ => Failure::new(format!("{shown}: {error}")),
    })?;
    let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
    let around = Surroundings {
        env: &|name| env::var(name).ok(),
        secret: &|name| fs::read_to_string(dir.join(name)).map_err(|error| error.to_string()),
    };
    let config = Config::load(&text, &around).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    Ok((config, dir))
}

/// `$XDG_DATA_HOME/multichat`, or `~/.local/share/multichat`.
fn user_data_dir() -> Result<PathBuf, Failure> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("multichat")).ok_or_else(|| {
        Failure::new("no data directory: set HOME or XDG_DATA_HOME, or data_dir in a configuration file")
    })
}

fn utf8(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(format!("{}: the path is not UTF-8; move it to one that is", path.display()))
    })
}

//! `backup`, `restore` and `verify-store`: copies of what a node is and holds, and whether they can be
//! relied on. A backup is a folder with the store and the secret key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::control::{AskError, Client, Request};
use crate::runtime::GENERATION_FILE;
use crate::store::{Checked, Store, StoreError};

use super::failure::Failure;
use super::load::LoadedConfig;
use super::output::Output;

const STORE: &str = "multichat.db";
const KEY: &str = "secret.key";
/// No secret key is longer.
const KEY_BYTES: u64 = 1024;

/// What was copied or checked.
#[derive(Serialize)]
struct Report {
    path: String,
    events: u64,
    texts: u64,
}

/// Copies store and key to a new folder, from the running node if there is one.
///
/// # Errors
/// One line that says what to do.
pub async fn backup(to: &Path, loaded: &LoadedConfig, output: &mut Output) -> Result<(), Failure> {
    let to = std::env::current_dir()?.join(to);
    if to.exists() {
        return Err(Failure::new(format!("{} exists already: give a path that is free", to.display())));
    }
    let key = loaded.data_dir.join(KEY);
    if !key.is_file() {
        let dir = loaded.data_dir.display();
        return Err(Failure::new(format!("{dir} holds no node: has one run with this configuration?")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&to).map_err(|error| at(&to, &error))?;
    let copy = to.join(STORE);
    let path = copy.to_str().ok_or_else(|| Failure::new("the path is not UTF-8: give another"))?;
    match Client::connect(&loaded.data_dir).await {
        Ok(mut node) => {
            node.ask_patiently(&Request::Backup { path: path.to_owned() }).await?;
        }
        Err(AskError::NotRunning(_)) => {
            let store = Store::open_existing(&loaded.data_dir.join(STORE)).map_err(told)?;
            store.backup(&copy).map_err(told)?;
        }
        Err(error) => return Err(error.into()),
    }
    copy_private(&key, &to.join(KEY))?;
    let checked = check(&copy)?;
    report(output, "backed up to", &to, checked)
}

/// Puts a backup in the place of what the data directory holds, once it has been checked.
///
/// # Errors
/// One line that says what to do; then the data directory is as it was.
pub async fn restore(
    from: &Path,
    force: bool,
    loaded: &LoadedConfig,
    output: &mut Output,
) -> Result<(), Failure> {
    let dir = &loaded.data_dir;
    match Client::connect(dir).await {
        Err(AskError::NotRunning(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Failure::new(format!("a node is running on {}: stop it first", dir.display()))),
    }
    let there = [STORE, KEY].map(|name| dir.join(name)).into_iter().find(|path| path.exists());
    if let Some(path) = there.filter(|_| !force) {
        let why = "exists: with --force it is put aside under another name";
        return Err(Failure::new(format!("{} {why}", path.display())));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| at(dir, &error))?;
    let (store, key) = (dir.join("restoring.db"), dir.join("restoring.key"));
    for path in [&store, &key] {
        remove(path)?;
    }
    copy_private(&from.join(STORE), &store)?;
    copy_private(&from.join(KEY), &key)?;
    let checked = check(&store).inspect_err(|_| {
        let _ = fs::remove_file(&store).and_then(|()| fs::remove_file(&key));
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    for name in [STORE, KEY] {
        let aside = dir.join(format!("{name}.before-{now}"));
        match fs::rename(dir.join(name), &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&aside, &error)),
            _ => {}
        }
    }
    // They belong to the store that was put aside, which was closed in good order or is a backup's loss.
    for rest in ["-wal", "-shm"] {
        let (from, to) =
            (dir.join(format!("{STORE}{rest}")), dir.join(format!("{STORE}.before-{now}{rest}")));
        if from.exists() {
            fs::rename(&from, &to).map_err(|error| at(&to, &error))?;
        }
    }
    // A restored node may have said more than its backup knows: it goes on with new devices, so that
    // it never signs two things for one place.
    let generation = dir.join(GENERATION_FILE);
    remove(&generation)?;
    write_private(&generation, now.to_string().as_bytes())?;
    fs::rename(&key, dir.join(KEY)).map_err(|error| at(&key, &error))?;
    fs::rename(&store, dir.join(STORE)).map_err(|error| at(&store, &error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| at(dir, &error))?;
    report(output, "restored", dir, checked)
}

/// Checks the store of the data directory, of a backup, or a file.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn verify(given: Option<&Path>, loaded: &LoadedConfig, output: &mut Output) -> Result<(), Failure> {
    let path: PathBuf = given.unwrap_or(&loaded.data_dir).to_owned();
    let path = if path.is_dir() { path.join(STORE) } else { path };
    let checked = check(&path).map_err(|failure| match (failure, given) {
        (Failure::Said(why), None) if why.contains("in use by another process") => {
            Failure::new(format!("{why}, or verify a backup: `multichat backup PATH`"))
        }
        (failure, _) => failure,
    })?;
    report(output, "sound:", &path, checked)
}

fn check(path: &Path) -> Result<Checked, Failure> {
    let store = Store::open_existing(path).map_err(told)?;
    let checked = store.verify_log().map_err(told)?;
    store.close().map_err(told)?;
    Ok(checked)
}

fn report(output: &mut Output, said: &str, path: &Path, checked: Checked) -> Result<(), Failure> {
    let Checked { events, texts } = checked;
    let report = Report { path: path.display().to_string(), events, texts };
    output.report(&report, |report| {
        vec![format!("{said} {}: {events} events, {texts} of them with a text", report.path)]
    })?;
    Ok(())
}

/// Copies a file for its owner's eyes alone, to where there is none.
fn copy_private(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut source = File::open(from).map_err(|error| at(from, &error))?;
    let mut target = new_private(to)?;
    if to.extension().is_some_and(|kind| kind == "key") {
        let mut bytes = Vec::new();
        source.take(KEY_BYTES).read_to_end(&mut bytes).map_err(|error| at(from, &error))?;
        target.write_all(&bytes).map_err(|error| at(to, &error))?;
    } else {
        io::copy(&mut source, &mut target).map_err(|error| at(to, &error))?;
    }
    target.sync_all().map_err(|error| at(to, &error))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = new_private(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| at(path, &error))
}

fn new_private(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| at(path, &error))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn told(error: StoreError) -> Failure {
    Failure::new(error)
}

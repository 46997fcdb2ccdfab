//! The node's one secret, in a file only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::base::Kind;
use crate::base::key::SecretKey;
use crate::port::Fault;

/// Reads the secret, or makes one where there is none: complete and on disk before it is used.
pub(super) fn load_or_make(path: &Path) -> Result<SecretKey, Fault> {
    match fs::read(path) {
        Ok(bytes) => {
            let seed: [u8; 32] = bytes.try_into().map_err(|_| {
                let hint = "restore it from a backup; without it this node cannot speak for its users";
                fault(path, &format!("is not 32 bytes long: {hint}"))
            })?;
            Ok(SecretKey::from_seed(seed))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut seed = [0u8; 32];
            getrandom::fill(&mut seed).map_err(|error| fault(path, &format!("no randomness: {error}")))?;
            write_new(path, &seed).map_err(|error| fault(path, &error.to_string()))?;
            Ok(SecretKey::from_seed(seed))
        }
        Err(error) => Err(fault(path, &error.to_string())),
    }
}

/// The number that restoring a backup left; 0 where none did.
pub(super) fn generation(path: &Path) -> Result<u64, Fault> {
    let broken = |problem: String| {
        let hint = "it holds the number of a restored backup; restore the backup again";
        Fault::new(Kind::Permanent, format!("{}: {problem}: {hint}", path.display()))
    };
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| broken("is no number".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn write_new(path: &Path, seed: &[u8; 32]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(seed)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

fn fault(path: &Path, problem: &str) -> Fault {
    Fault::new(Kind::Permanent, format!("the secret key {}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_guarded() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("multichat-secret-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("secret.key");
        let first = load_or_make(&path).unwrap();
        assert_eq!(load_or_make(&path).unwrap().public(), first.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(load_or_make(&path).unwrap_err().message.contains("32 bytes"));
        fs::remove_dir_all(&dir).unwrap();
    }
}

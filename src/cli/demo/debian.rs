//! Programs from Debian packages, unpacked into a folder of ours. It needs no root and leaves the
//! system as it is: packages that are missing are downloaded and unpacked, never installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::process::{find_program, quoted, run};
use super::trouble::Trouble;

/// Longest time for one call of apt.
const APT_PATIENCE: Duration = Duration::from_secs(300);

/// A program and the package that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packaged {
    pub program: &'static str,
    pub package: &'static str,
}

/// The program as the system has it, or as it was unpacked into `folder` before.
pub fn find(wanted: Packaged, folder: &Path) -> Option<PathBuf> {
    let ours = folder.join("bin").join(wanted.program);
    find_program(wanted.program).or_else(|| ours.is_file().then_some(ours))
}

/// Gets a program: the system's own, or else unpacked into `folder`.
///
/// # Errors
/// [`Trouble::Missing`] where there is neither the program nor apt; otherwise what apt said.
pub async fn get(wanted: Packaged, folder: &Path) -> Result<PathBuf, Trouble> {
    match find(wanted, folder) {
        Some(program) => Ok(program),
        None => unpack(wanted, folder).await,
    }
}

/// Downloads a package, with what it needs that this machine lacks, and unpacks it into `folder`.
/// Returns a small script that runs the program with the libraries found there.
///
/// # Errors
/// As [`get`].
pub async fn unpack(wanted: Packaged, folder: &Path) -> Result<PathBuf, Trouble> {
    if find_program("apt-get").is_none() || find_program("dpkg").is_none() {
        let mend = format!("install {} with your system's package manager", wanted.package);
        return Err(Trouble::Missing { what: wanted.program.to_owned(), mend });
    }
    let archives = folder.join("archives");
    let root = folder.join("root");
    for path in [&archives, &root, &folder.join("bin")] {
        std::fs::create_dir_all(path).map_err(|e| Trouble::disk(path, e))?;
    }
    let apt = Apt { folder: std::path::absolute(folder).map_err(|e| Trouble::disk(folder, e))? };
    let packages = apt.needed(wanted.package).await?;
    apt.download(&packages, &archives).await?;
    for archive in debs(&archives)? {
        let mut dpkg = Command::new("dpkg");
        run("unpacking a package", dpkg.arg("-x").arg(&archive).arg(&root), APT_PATIENCE).await?;
        std::fs::remove_file(&archive).map_err(|e| Trouble::disk(&archive, e))?;
    }
    write_script(wanted, &apt.folder)
}

/// Calls of apt with lists of our own where the system's are of no use.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// The packages to download: the wanted one and those it needs that are not installed.
    async fn needed(&self, package: &str) -> Result<Vec<String>, Trouble> {
        let plan = ["-s", "--reinstall", "--no-install-recommends", "install", package];
        let doing = format!("asking apt what {package} needs");
        let planned = match run(&doing, self.command().args(plan), APT_PATIENCE).await {
            Ok(planned) => planned,
            Err(_) => {
                self.update().await?;
                run(&doing, self.command().args(plan), APT_PATIENCE).await?
            }
        };
        Ok(planned_packages(&planned, package))
    }

    async fn download(&self, packages: &[String], archives: &Path) -> Result<(), Trouble> {
        let doing = format!("downloading {}", packages.join(" "));
        let fetch = |mut command: Command| {
            command.arg("download").args(packages).current_dir(archives);
            command
        };
        if run(&doing, &mut fetch(self.command()), APT_PATIENCE).await.is_ok() {
            return Ok(());
        }
        // The lists may be older than the archive: packages move on and old files go.
        self.update().await?;
        run(&doing, &mut fetch(self.command()), APT_PATIENCE).await.map(drop)
    }

    /// Fetches package lists into our own folder, which needs no root.
    async fn update(&self) -> Result<(), Trouble> {
        let lists = self.lists();
        std::fs::create_dir_all(lists.join("partial")).map_err(|e| Trouble::disk(&lists, e))?;
        // One source out of order must not spoil the others; what matters is whether the package
        // is found afterwards.
        run("fetching apt's package lists", self.command().arg("update"), APT_PATIENCE)
            .await
            .map(drop)
            .or_else(|trouble| match trouble {
                Trouble::Failed { .. } => Ok(()),
                other => Err(other),
            })
    }

    fn lists(&self) -> PathBuf {
        self.folder.join("apt-lists")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]);
        if self.lists().is_dir() {
            command.arg("-o").arg(format!("Dir::State::lists={}", self.lists().display()));
            command.arg("-o").arg(format!("Dir::Cache={}", self.folder.join("apt-cache").display()));
        }
        command
    }
}

/// Reads the plan of `apt-get -s install`: lines such as `Inst libident (0.32-1 …)`. Those with
/// an old version in brackets are on the system already, and do for us as they are.
fn planned_packages(plan: &str, wanted: &str) -> Vec<String> {
    let planned = plan.lines().filter_map(|line| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?;
        let installed = words.next()?.starts_with('[');
        (name == wanted || !installed).then(|| name.to_owned())
    });
    planned.collect()
}

fn debs(archives: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let entries = std::fs::read_dir(archives).map_err(|e| Trouble::disk(archives, e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect())
}

/// Writes `bin/PROGRAM`, which runs the unpacked program with the unpacked libraries.
fn write_script(wanted: Packaged, folder: &Path) -> Result<PathBuf, Trouble> {
    use std::os::unix::fs::PermissionsExt;

    let root = folder.join("root");
    let binary = ["usr/bin", "usr/sbin", "usr/games", "bin", "sbin"]
        .iter()
        .map(|place| root.join(place).join(wanted.program))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Trouble::failed(format!("unpacking {}", wanted.package), "its program is not in it")
        })?;
    let libraries: Vec<PathBuf> = ["usr/lib", "lib"]
        .iter()
        .filter_map(|place| std::fs::read_dir(root.join(place)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .collect();
    let libraries = std::env::join_paths(libraries).map_err(|e| Trouble::disk(&root, e))?;
    let script = folder.join("bin").join(wanted.program);
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n",
        quoted(Path::new(&libraries)),
        quoted(&binary)
    );
    std::fs::write(&script, text).map_err(|e| Trouble::disk(&script, e))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| Trouble::disk(&script, e))?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_what_is_missing() {
        let plan = "\
Reading package lists...
The following NEW packages will be installed:
  libident ngircd
Inst libc6 [2.36-9] (2.36-10 Debian:12 [amd64])
Inst libident (0.32-1 Debian:12 [amd64])
Inst ngircd (26.1-1+b1 Debian:12 [amd64])
Conf ngircd (26.1-1+b1 Debian:12 [amd64])
";
        assert_eq!(planned_packages(plan, "ngircd"), ["libident", "ngircd"]);
        let again = "Inst ngircd [26.1-1+b1] (26.1-1+b1 Debian:12 [amd64])\n";
        assert_eq!(planned_packages(again, "ngircd"), ["ngircd"]);
    }
}

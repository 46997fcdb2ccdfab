//! `doctor`: looks at everything a node needs, part by part, and says for each whether it is well
//! and, if not, what mends it. It changes nothing.

mod local;
mod matrix;
mod network;

use std::path::Path;

use serde::Serialize;

use crate::control::{Answer, Client, Request};

use super::failure::Failure;
use super::load::{LoadedConfig, load};
use super::output::{Output, columns};

/// How well something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Worth knowing; the node runs all the same.
    Warn,
    /// Something does not work until it is mended.
    Fail,
}

/// One line of the report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    check: String,
    said: String,
    /// What to do; nothing where all is well.
    mend: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, said: impl Into<String>) -> Self {
        Self { level: Level::Ok, check: check.into(), said: said.into(), mend: None }
    }

    fn warn(check: impl Into<String>, said: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, mend: Some(mend.into()), ..Self::ok(check, said) }
    }

    fn fail(check: impl Into<String>, said: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, mend: Some(mend.into()), ..Self::ok(check, said) }
    }

    fn row(&self) -> Vec<String> {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        let mend = self.mend.as_ref().map(|mend| format!(": {mend}")).unwrap_or_default();
        vec![level.into(), self.check.clone(), format!("{}{mend}", self.said)]
    }
}

/// Examines and reports.
///
/// # Errors
/// Anything that fails.
pub async fn run(config: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let findings = examine(config).await?;
    output.report(&findings, |findings| columns(&findings.iter().map(Finding::row).collect::<Vec<_>>()))?;
    match findings.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        1 => Err(Failure::new("1 check failed: its line says what mends it")),
        count => Err(Failure::new(format!("{count} checks failed: each line says what mends it"))),
    }
}

async fn examine(config: Option<&Path>) -> Result<Vec<Finding>, Failure> {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(Failure::Said(why)) => {
            return Ok(vec![Finding::fail("config", why, "correct it and look again")]);
        }
        Err(unread) => return Err(unread),
    };
    let LoadedConfig { config, file, data_dir, .. } = &loaded;
    let mut findings = vec![match file {
        Some(file) => Finding::ok("config", file.display().to_string()),
        None => Finding::ok("config", "no file: the defaults (make one with `multichat init`)"),
    }];
    let running = is_running(data_dir).await;
    findings.push(match running {
        true => Finding::ok("node", format!("running on {}", data_dir.display())),
        false => Finding::warn("node", "not running", "start it with `multichat run`"),
    });
    findings.push(local::data_dir(data_dir));
    findings.extend(local::disk(data_dir));
    findings.extend(local::ports(config, running));
    match &config.matrix {
        None => findings.push(Finding::ok("matrix", "off: the configuration has no section `matrix:`")),
        Some(matrix) => findings.extend(matrix::examine(matrix, data_dir, running).await),
    }
    for (name, network) in &config.irc.networks {
        findings.push(network::reach(name, &network.address).await);
    }
    Ok(findings)
}

async fn is_running(data_dir: &Path) -> bool {
    match Client::connect(data_dir).await {
        Ok(mut node) => matches!(node.ask(&Request::Status).await, Ok(Answer::Status(_))),
        Err(_) => false,
    }
}

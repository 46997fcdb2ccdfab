//! The Matrix side: the registration, the homeserver, its clock, and the tokens both ways.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;
use crate::base::config::{MatrixConfig, host_and_port};
use crate::base::limits;
use crate::cli::ask::read_registration;
use crate::cli::calendar;
use crate::cli::failure::Failure;
use crate::matrix::encryption_state;
use crate::matrix::homeserver::Homeserver;
use crate::matrix::ping::ping;
use crate::matrix::proto::registration::Registration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks further apart than this are worth a word.
const CLOCK_WARN_S: i64 = 30;

/// Everything about the homeserver.
pub async fn examine(config: &MatrixConfig, data_dir: &Path, running: bool) -> Vec<Finding> {
    let (registration, mut findings) = registration(config);
    let (is_there, reached) = homeserver(config).await;
    findings.extend(reached);
    let Some(registration) = registration.filter(|_| is_there) else { return findings };
    let knows_us = as_token(config, &registration).await;
    let goes_on = knows_us.level == super::Level::Ok;
    findings.push(knows_us);
    if goes_on {
        findings.push(hs_token(config, &registration, running).await);
        findings.push(encryption(config, &registration, data_dir).await);
    }
    findings
}

/// Reads the registration and compares it with the configuration.
fn registration(config: &MatrixConfig) -> (Option<Registration>, Vec<Finding>) {
    let registration = match read_registration(&config.registration) {
        Ok(registration) => registration,
        Err(Failure::Said(why)) => {
            return (None, vec![Finding::fail("registration", why, "then give it to the homeserver")]);
        }
        Err(Failure::Unread) => return (None, Vec::new()),
    };
    let mut findings = vec![match registration.check(&config.server_name) {
        Ok(()) => Finding::ok("registration", format!("tokens and names fit {}", config.server_name)),
        Err(error) => Finding::fail("registration", config.registration.clone(), error.to_string()),
    }];
    findings.extend(url(config, &registration));
    findings.extend(rate_limited(&registration));
    (Some(registration), findings)
}

/// Whether the homeserver will push to where we listen, as far as one can tell from here.
fn url(config: &MatrixConfig, registration: &Registration) -> Option<Finding> {
    let Some(text) = &registration.url else {
        let mend = format!("set url to http://{}, here and at the homeserver", config.listen);
        return Some(Finding::fail("registration url", "missing, so the homeserver pushes nothing", mend));
    };
    let port = reqwest::Url::parse(text).ok()?.port_or_known_default()?;
    let (_, listen) = host_and_port(&config.listen)?;
    (port != listen).then(|| {
        let said = format!("{text}, but matrix.listen is {}", config.listen);
        Finding::warn("registration url", said, "make them agree, unless a proxy or container stands between")
    })
}

/// Whether the homeserver will slow down what we send.
fn rate_limited(registration: &Registration) -> Option<Finding> {
    let mend = "set rate_limited: false, here and at the homeserver, and restart it";
    let said = "true, so the homeserver holds back ghosts who speak fast";
    registration.rate_limited.then(|| Finding::warn("registration rate_limited", said, mend))
}

/// Whether it answers, and what its clock says.
async fn homeserver(config: &MatrixConfig) -> (bool, Vec<Finding>) {
    let url = format!("{}/_matrix/client/versions", config.homeserver.trim_end_matches('/'));
    let mend = "start it, or correct matrix.homeserver";
    let answer = async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        client.get(&url).send().await
    };
    let response = match answer.await {
        Ok(response) => response,
        Err(error) => {
            let said = format!("{} cannot be reached ({})", config.homeserver, root_cause(&error));
            return (false, vec![Finding::fail("homeserver", said, mend)]);
        }
    };
    let status = response.status();
    if !status.is_success() {
        let said = format!("{} answers {status} to {url}: is it a homeserver?", config.homeserver);
        return (false, vec![Finding::fail("homeserver", said, mend)]);
    }
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let mut findings = vec![Finding::ok("homeserver", format!("{} answers", config.homeserver))];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    findings.extend(date.and_then(calendar::parse_http_date).map(|theirs| clock(now, theirs)));
    (true, findings)
}

fn clock(ours: i64, theirs: i64) -> Finding {
    let apart = ours - theirs;
    let said = match apart {
        0 => "the same as the homeserver's".to_owned(),
        _ if apart > 0 => format!("{apart} s ahead of the homeserver's"),
        _ => format!("{} s behind the homeserver's", -apart),
    };
    let mend = "set both clocks by NTP: other nodes hold back events from the future";
    match apart.unsigned_abs() {
        apart if apart > limits::CLOCK_SKEW_MS / 1000 => Finding::fail("clock", said, mend),
        apart if apart > CLOCK_WARN_S.unsigned_abs() => Finding::warn("clock", said, mend),
        _ => Finding::ok("clock", said),
    }
}

/// Whether the homeserver knows us.
async fn as_token(config: &MatrixConfig, registration: &Registration) -> Finding {
    let homeserver = match Homeserver::new(&config.homeserver, &registration.as_token) {
        Ok(homeserver) => homeserver,
        Err(fault) => return Finding::fail("as_token", fault.message, "correct matrix.homeserver"),
    };
    let mend = format!(
        "put {} under app_service_config_files in homeserver.yaml and restart the homeserver",
        config.registration
    );
    match homeserver.whoami().await {
        Ok(answer) => {
            let bot = format!("@{}:{}", registration.sender_localpart, config.server_name);
            match answer["user_id"].as_str() {
                Some(user) if user == bot => {
                    Finding::ok("as_token", format!("the homeserver knows us as {bot}"))
                }
                user => Finding::fail(
                    "as_token",
                    format!("the homeserver knows us as {}, not {bot}", user.unwrap_or("nobody")),
                    "correct matrix.server_name, and make a new registration with `multichat init`",
                ),
            }
        }
        Err(error) if error.is_unknown_token() => {
            Finding::fail("as_token", "the homeserver does not know it", mend)
        }
        Err(error) => Finding::fail("as_token", error.to_string(), mend),
    }
}

/// Whether the homeserver reaches us with the token that we expect.
async fn hs_token(config: &MatrixConfig, registration: &Registration, running: bool) -> Finding {
    if !running {
        let mend = "run the node and look again";
        return Finding::warn("hs_token", "not examined: the homeserver can only ping a running node", mend);
    }
    match ping(&config.homeserver, registration).await {
        Ok(took) => {
            Finding::ok("hs_token", format!("the homeserver reached this node in {} ms", took.as_millis()))
        }
        Err(failure) => Finding::fail("hs_token", "the ping did not come back", failure.to_string()),
    }
}

/// Whether encrypted rooms can be carried. What is sent to devices comes to the running node alone, so what
/// it found out about that last is read.
async fn encryption(config: &MatrixConfig, registration: &Registration, data_dir: &Path) -> Finding {
    const WHAT: &str = "encrypted rooms";
    if !config.encryption.allow {
        return Finding::ok(WHAT, "not carried: matrix.encryption.allow is off");
    }
    let lacks = registration.lacks_for_encryption();
    if !lacks.is_empty() {
        let said = format!("{} lacks {}", config.registration, lacks.join(" and "));
        return Finding::fail(WHAT, said, "add that, here and at the homeserver, and restart it");
    }
    let knows = match Homeserver::new(&config.homeserver, &registration.as_token) {
        Ok(homeserver) => homeserver.knows_devices().await.map_err(|error| error.to_string()),
        Err(fault) => Err(fault.message),
    };
    let mend = "update the homeserver; an older Synapse wants experimental_features: \
                {msc3202_device_masquerading: true} for it";
    match knows {
        Ok(true) => match encryption_state(data_dir) {
            Some(Ok(())) => Finding::ok(WHAT, "the homeserver hands on what they need"),
            Some(Err(why)) => Finding::fail(WHAT, "the node could not use them", why),
            None => Finding::warn(WHAT, "not examined", "run the node and look again"),
        },
        Ok(false) => Finding::fail(WHAT, "the homeserver does not let this node speak for devices", mend),
        Err(error) => Finding::warn(WHAT, error, "look again once it answers"),
    }
}

/// The innermost reason: "connection refused" and not "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_rate_limited_bridge_is_found_out() {
        let mut registration = Registration::generate("x.org", "http://127.0.0.1:7701", "a", "h");
        assert!(rate_limited(&registration).is_none());
        registration.rate_limited = true;
        assert_eq!(rate_limited(&registration).map(|finding| finding.level), Some(Level::Warn));
        let text = registration.to_yaml().replace("rate_limited: true\n", "");
        let silent = Registration::from_yaml(&text).unwrap();
        assert!(rate_limited(&silent).is_some(), "homeservers take a missing key for true");
    }

    #[test]
    fn clocks_may_differ_a_little() {
        for (apart, level) in
            [(0, Level::Ok), (-30, Level::Ok), (31, Level::Warn), (300, Level::Warn), (-301, Level::Fail)]
        {
            assert_eq!(clock(1_000_000 + apart, 1_000_000).level, level, "{apart}");
        }
    }
}

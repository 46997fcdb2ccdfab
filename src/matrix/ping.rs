//! The appservice ping: does the homeserver know us, does it reach us, do the tokens agree? One
//! line of what is wrong, for the log and for `doctor`.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::homeserver::{Call, CallError, Homeserver, NOT_LOADED};
use super::proto::registration::Registration;
use crate::base::Kind;

/// What we answer to a request without a token.
pub(super) const NO_TOKEN: &str = "the hs_token is missing";

/// What is wrong between the homeserver and us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PingFailure {
    /// Our side of the configuration.
    Config(String),
    /// The homeserver is not there.
    Away(String),
    /// It does not know the as_token.
    NotLoaded,
    /// It knows the as_token under another id.
    OtherId(String),
    /// It knows the as_token with another bot.
    OtherBot(String),
    /// It does not answer pings: too old.
    Unsupported,
    /// Its copy of the registration has no url.
    NoUrl,
    /// It does not get through to the url.
    Unreachable { url: String, why: String },
    /// Our answer to it was that its hs_token is wrong.
    HsToken,
    /// Our answer to it was that it showed no token, which it always does.
    NoToken { url: String },
    /// Something else answers at the url.
    Stranger { url: String, status: u64 },
    /// Anything else.
    Odd(String),
}

impl PingFailure {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Away(_) | Self::Unreachable { .. } | Self::Odd(_) => Kind::Retry,
            _ => Kind::Invalid,
        }
    }
}

impl fmt::Display for PingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) | Self::Odd(why) => f.write_str(why),
            Self::Away(why) => write!(f, "{why}; is it running, and is matrix.homeserver right?"),
            Self::NotLoaded => f.write_str(NOT_LOADED),
            Self::OtherId(id) => write!(
                f,
                "the homeserver knows our as_token under another id than {id}: give it this registration.yaml and restart it"
            ),
            Self::OtherBot(localpart) => write!(
                f,
                "the homeserver's copy of registration.yaml has another sender_localpart than {localpart}: give it this registration.yaml and restart it"
            ),
            Self::Unsupported => {
                f.write_str("the homeserver does not know appservice pings; update it to check the way back")
            }
            Self::NoUrl => f.write_str(
                "the homeserver's copy of registration.yaml has no url: give it this registration.yaml and restart it",
            ),
            Self::Unreachable { url, why } => write!(
                f,
                "the homeserver cannot reach us at {url} ({why}): correct url in registration.yaml, here and at the homeserver, and restart it"
            ),
            Self::HsToken => f.write_str(
                "the homeserver's hs_token differs from ours: give it this registration.yaml and restart it",
            ),
            Self::NoToken { url } => write!(
                f,
                "the homeserver's requests come without their Authorization header: have the proxy at {url} pass it on, or let url in registration.yaml, here and at the homeserver, lead straight to matrix.listen"
            ),
            Self::Stranger { url, status } => write!(
                f,
                "something else than this node answers the homeserver (status {status}): url in registration.yaml, here and at the homeserver, must lead to matrix.listen; here it is {url}"
            ),
        }
    }
}

impl std::error::Error for PingFailure {}

/// Asks the homeserver at `homeserver` (its web address) to call back the application service of
/// this registration, which must be running. Gives how long the call back took.
///
/// # Errors
/// [`PingFailure`], in one line with what to do.
pub async fn ping(homeserver: &str, registration: &Registration) -> Result<Duration, PingFailure> {
    let homeserver = Homeserver::new(homeserver, &registration.as_token)
        .map_err(|fault| PingFailure::Config(fault.message))?;
    ping_through(&homeserver, registration).await
}

pub(super) async fn ping_through(
    hs: &Homeserver,
    registration: &Registration,
) -> Result<Duration, PingFailure> {
    let path = ["v1", "appservice", registration.id.as_str(), "ping"];
    match hs.call(Call::post(&path, json!({"transaction_id": "multichat-ping"}))).await {
        Ok(answer) => Ok(Duration::from_millis(answer["duration_ms"].as_u64().unwrap_or(0))),
        Err(error) => Err(failure(&error, registration)),
    }
}

fn failure(error: &CallError, registration: &Registration) -> PingFailure {
    let url = || registration.url.clone().unwrap_or_else(|| "(no url)".into());
    let CallError::Status { status, errcode, error: why, body } = error else {
        return match error {
            CallError::Odd(_) => PingFailure::Odd(error.to_string()),
            _ => PingFailure::Away(error.to_string()),
        };
    };
    match (*status, errcode.as_str()) {
        (401, _) => PingFailure::NotLoaded,
        (403, _) => PingFailure::OtherId(registration.id.clone()),
        (_, "M_URL_NOT_SET") => PingFailure::NoUrl,
        (_, "M_CONNECTION_FAILED" | "M_CONNECTION_TIMEOUT") => {
            PingFailure::Unreachable { url: url(), why: why.clone() }
        }
        (_, "M_BAD_STATUS") => match body["status"].as_u64().unwrap_or(0) {
            401 | 403 if body["body"].as_str().is_some_and(|said| said.contains(NO_TOKEN)) => {
                PingFailure::NoToken { url: url() }
            }
            401 | 403 => PingFailure::HsToken,
            status => PingFailure::Stranger { url: url(), status },
        },
        (404 | 405, _) => PingFailure::Unsupported,
        _ => PingFailure::Odd(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_what_to_do() {
        let registration = Registration::generate("x.org", "http://127.0.0.1:7701", "a", "h");
        let check = |status: u16, body: serde_json::Value, expect: &str| {
            let errcode = body["errcode"].as_str().unwrap_or_default().to_owned();
            let error = CallError::Status { status, errcode, error: "why".into(), body };
            let said = failure(&error, &registration).to_string();
            assert!(said.contains(expect) && !said.contains('\n'), "{said}");
        };
        check(
            401,
            json!({"errcode": "M_UNKNOWN_TOKEN"}),
            "registration.yaml is not loaded by the homeserver: add it to app_service_config_files and restart it",
        );
        check(403, json!({"errcode": "M_FORBIDDEN"}), "under another id than multichat");
        check(502, json!({"errcode": "M_BAD_STATUS", "status": 403}), "hs_token differs from ours");
        let eaten = r#"{"errcode":"M_FORBIDDEN","error":"the hs_token is missing"}"#;
        check(
            502,
            json!({"errcode": "M_BAD_STATUS", "status": 403, "body": eaten}),
            "have the proxy at http://127.0.0.1:7701 pass it on",
        );
        check(502, json!({"errcode": "M_BAD_STATUS", "status": 200}), "something else than this node");
        check(502, json!({"errcode": "M_CONNECTION_FAILED"}), "cannot reach us at http://127.0.0.1:7701");
        check(504, json!({"errcode": "M_CONNECTION_TIMEOUT"}), "cannot reach us at http://127.0.0.1:7701");
        check(400, json!({"errcode": "M_URL_NOT_SET"}), "has no url");
        check(404, json!({"errcode": "M_UNRECOGNIZED"}), "update it");
        check(500, json!({}), "500");
        let away = failure(&CallError::Unreachable("refused".into()), &registration).to_string();
        assert!(away.contains("is it running"), "{away}");
    }
}

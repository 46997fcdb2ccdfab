//! Synapse's configuration for the demo and for tests, as files in a folder. Fast and local: no
//! federation, no rate limits, SQLite.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use super::trouble::Trouble;
use crate::base::id::base32;

/// What differs between one homeserver and another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The part of its users' ids after the colon.
    pub server_name: String,
    /// Registration files of the application services it serves.
    pub registrations: Vec<PathBuf>,
}

/// The main configuration file in `dir`.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("homeserver.yaml")
}

/// Writes all files into `dir`. A folder written before keeps its port, keys and secrets. Returns
/// the port.
///
/// # Errors
/// [`Trouble::Disk`], or why no port could be chosen.
pub fn write(
    dir: &Path,
    settings: &Settings,
    choose_port: impl Fn() -> Result<u16, Trouble>,
) -> Result<u16, Trouble> {
    std::fs::create_dir_all(dir).map_err(|e| Trouble::disk(dir, e))?;
    let port: u16 = keep(&dir.join("port"), || choose_port().map(|port| port.to_string()))?
        .trim()
        .parse()
        .map_err(|_| Trouble::disk(&dir.join("port"), "there is no port in it"))?;
    let secret = keep(&dir.join("secret"), || random().map(|bytes| base32(&bytes)))?;
    keep(&dir.join("signing.key"), || {
        random().map(|seed| format!("ed25519 a_demo {}\n", STANDARD_NO_PAD.encode(seed)))
    })?;
    put(&dir.join("log.yaml"), &logging(dir))?;
    put(&path(dir), &homeserver(dir, settings, port, secret.trim()))?;
    Ok(port)
}

/// The text of a file, written first where there is none.
fn keep(file: &Path, make: impl FnOnce() -> Result<String, Trouble>) -> Result<String, Trouble> {
    if let Ok(text) = std::fs::read_to_string(file) {
        return Ok(text);
    }
    let text = make()?;
    std::fs::write(file, &text).map_err(|e| Trouble::disk(file, e))?;
    Ok(text)
}

fn random() -> Result<[u8; 32], Trouble> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Trouble::failed("asking the system for random bytes", e))?;
    Ok(bytes)
}

/// JSON is YAML, and needs no care with quotes.
fn put(file: &Path, value: &Value) -> Result<(), Trouble> {
    std::fs::write(file, format!("{value:#}\n")).map_err(|e| Trouble::disk(file, e))
}

fn homeserver(dir: &Path, settings: &Settings, port: u16, secret: &str) -> Value {
    let mut config = json!({
        "server_name": settings.server_name,
        "public_baseurl": format!("http://127.0.0.1:{port}/"),
        "listeners": [{
            "port": port,
            "bind_addresses": ["127.0.0.1"],
            "type": "http",
            "tls": false,
            "resources": [{ "names": ["client"], "compress": false }],
        }],
        "database": { "name": "sqlite3", "args": { "database": dir.join("homeserver.db") } },
        "log_config": dir.join("log.yaml"),
        "media_store_path": dir.join("media"),
        "signing_key_path": dir.join("signing.key"),
        "registration_shared_secret": secret,
        "macaroon_secret_key": secret,
        "form_secret": secret,
        "app_service_config_files": settings.registrations,
        "enable_registration": false,
        "report_stats": false,
        "federation_domain_whitelist": [],
        "trusted_key_servers": [],
        "suppress_key_server_warning": true,
        "filter_timeline_limit": -1,
        // Otherwise a client that starts again with its old token is shown old answers.
        "caches": { "sync_response_cache_duration": "0s" },
        "url_preview_enabled": false,
        "require_auth_for_profile_requests": false,
    });
    if let Some(map) = config.as_object_mut() {
        map.extend(no_limits());
    }
    config
}

/// Every rate limit that Synapse has, raised until it is none.
fn no_limits() -> serde_json::Map<String, Value> {
    let high = json!({ "per_second": 1_000_000, "burst_count": 1_000_000 });
    let plain = [
        "rc_message",
        "rc_registration",
        "rc_registration_token_validity",
        "rc_admin_redaction",
        "rc_joins_per_room",
        "rc_3pid_validation",
        "rc_third_party_invite",
        "rc_media_create",
        "rc_delayed_event_mgmt",
        "rc_room_creation",
        "rc_reports",
        "rc_user_directory",
        "rc_profile",
        "rc_key_requests",
    ];
    let nested: [(&str, &[&str]); 4] = [
        ("rc_login", &["address", "account", "failed_attempts"]),
        ("rc_joins", &["local", "remote"]),
        ("rc_invites", &["per_room", "per_user", "per_issuer"]),
        ("rc_presence", &["per_user"]),
    ];
    let plain = plain.iter().map(|name| ((*name).to_owned(), high.clone()));
    let nested = nested.iter().map(|(name, keys)| {
        let inner = keys.iter().map(|key| ((*key).to_owned(), high.clone())).collect();
        ((*name).to_owned(), Value::Object(inner))
    });
    plain.chain(nested).collect()
}

fn logging(dir: &Path) -> Value {
    json!({
        "version": 1,
        "formatters": { "plain": { "format": "%(asctime)s %(levelname)s %(name)s: %(message)s" } },
        "handlers": {
            "file": {
                "class": "logging.FileHandler",
                "filename": dir.join("homeserver.log"),
                "formatter": "plain",
            },
        },
        "root": { "level": "WARNING", "handlers": ["file"] },
        "disable_existing_loggers": false,
    })
}

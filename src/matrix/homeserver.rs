//! The homeserver's client API, as this application service calls it: HTTP out. It says what was
//! asked and what came back, and never decides whether to try again.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::{Value, json};

use crate::base::Kind;
use crate::port::{Fault, Outcome};

/// Bytes of an answer that we read; a longer one is an error.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a piece of media may take, from the first byte to the last.
const MEDIA_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// What counts as said: a filter for reading a room.
const SAID: &str =
    r#"{"types":["m.room.message","m.reaction","m.sticker","m.room.redaction","m.room.encrypted"]}"#;
/// How long to wait where a homeserver says "too fast" without saying how long.
const LIMITED_MS: u64 = 1000;
/// The longest wait that we let a homeserver ask for.
const LIMITED_MAX_MS: u64 = 10 * 60_000;
/// How long to wait before trying again with a token that the homeserver does not know.
const UNKNOWN_TOKEN_MS: u64 = 10_000;

/// What a token that the homeserver does not know comes from.
pub(super) const NOT_LOADED: &str = "our as_token is unknown there: registration.yaml is not loaded by the \
    homeserver: add it to app_service_config_files and restart it (if it is there, the homeserver has another copy)";

/// Why a call did not do what it should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// No connection: the homeserver never saw the request.
    Unreachable(String),
    /// The connection broke or the answer did not come: it may have seen it.
    Broken(String),
    /// Too fast (429).
    Limited { after_ms: u64 },
    /// Any other answer that is not a success, with its errcode and words where it has them.
    Status { status: u16, errcode: String, error: String, body: Value },
    /// A success that is not what the specification says.
    Odd(String),
    /// Not the homeserver: our keys for encrypted rooms cannot be used.
    Keys(String),
}

impl CallError {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Limited { .. } => Kind::Retry,
            Self::Odd(_) | Self::Keys(_) => Kind::Retry,
            Self::Status { status: 401 | 500..=599, .. } => Kind::Retry,
            // Not the homeserver speaking, but a proxy in front of one that is away.
            Self::Status { status: 403 | 404, errcode, .. } if errcode.is_empty() => Kind::Retry,
            Self::Status { status: 403, .. } => Kind::Denied,
            Self::Status { status: 404, .. } => Kind::NotFound,
            Self::Status { .. } => Kind::Invalid,
        }
    }

    /// The homeserver's errcode, or nothing.
    pub fn errcode(&self) -> &str {
        match self {
            Self::Status { errcode, .. } => errcode,
            _ => "",
        }
    }

    /// Whether the homeserver does not know our token.
    pub fn is_unknown_token(&self) -> bool {
        matches!(self, Self::Status { status: 401, .. })
    }

    /// What it means for a delivery whose last call ended so.
    pub fn outcome(&self) -> Outcome {
        let reason = self.to_string();
        match self {
            Self::Unreachable(_) | Self::Keys(_) => {
                Outcome::Retry { uncertain: false, after_ms: None, reason }
            }
            Self::Limited { after_ms } => {
                Outcome::Retry { uncertain: false, after_ms: Some(*after_ms), reason }
            }
            Self::Status { status: 401, .. } => {
                Outcome::Retry { uncertain: false, after_ms: Some(UNKNOWN_TOKEN_MS), reason }
            }
            _ if self.kind() == Kind::Retry => Outcome::Retry { uncertain: true, after_ms: None, reason },
            _ => Outcome::Failed { reason },
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the homeserver cannot be reached: {why}"),
            Self::Broken(why) => write!(f, "the homeserver did not answer: {why}"),
            Self::Limited { after_ms } => write!(f, "the homeserver wants us to wait {after_ms} ms"),
            Self::Status { status: 401, .. } => f.write_str(NOT_LOADED),
            Self::Status { status, errcode, .. } if errcode.is_empty() => {
                write!(f, "the homeserver said {status}, and not why")
            }
            Self::Status { status, errcode, error, .. } => {
                write!(f, "the homeserver said {status} {errcode}: {error}")
            }
            Self::Odd(why) => write!(f, "the homeserver's answer makes no sense: {why}"),
            Self::Keys(why) => write!(f, "the keys for encrypted rooms cannot be used: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

/// The result of a call.
pub type Called = Result<Value, CallError>;

/// One homeserver, spoken to with the application service's token. Cheap to clone.
#[derive(Clone)]
pub struct Homeserver {
    client: Client,
    base: Url,
    token: String,
}

impl Homeserver {
    /// A client for the homeserver at `url` (`http://…` or `https://…`). Nothing is sent yet.
    ///
    /// # Errors
    /// A [`Fault`] if the address is none.
    pub fn new(url: &str, as_token: &str) -> Result<Self, Fault> {
        let not_an_address = || {
            let hint = "give it as http://127.0.0.1:8008 or https://matrix.example.org";
            Fault::new(Kind::Invalid, format!("matrix.homeserver {url:?} is not a web address: {hint}"))
        };
        let base: Url = url.parse().map_err(|_| not_an_address())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(not_an_address());
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(Fault::new(Kind::Bug, "no TLS provider was installed before the Matrix door opened"));
        }
        let client = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(64)
            .build()
            .map_err(|error| Fault::new(Kind::Permanent, format!("no HTTP client could be made: {error}")))?;
        Ok(Self { client, base, token: as_token.to_owned() })
    }

    /// Calls `/_matrix/client/<path>` with the given query; as the user `as_user`, or as the bot.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, call: Call<'_>) -> Called {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["_matrix", "client"]).extend(call.path);
        }
        if call.as_user.is_some() || !call.query.is_empty() {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(call.query);
            if let Some(user) = call.as_user {
                query.append_pair("user_id", user);
            }
        }
        let mut request = self.client.request(call.method, url).bearer_auth(&self.token);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| sending(&error))?;
        answer(response).await
    }

    /// `GET /versions`: whether the homeserver is there.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn versions(&self) -> Called {
        self.call(Call::get(&["versions"])).await
    }

    /// `GET /account/whoami` as the bot.
    ///
    /// # Errors
    /// [`CallError`]; `M_UNKNOWN_TOKEN` if the homeserver has not loaded our registration.
    pub async fn whoami(&self) -> Called {
        self.call(Call::get(&["v3", "account", "whoami"])).await
    }

    /// Registers a user of ours; one that is there already is fine.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn register(&self, localpart: &str) -> Result<(), CallError> {
        let body =
            json!({"type": "m.login.application_service", "username": localpart, "inhibit_login": true});
        match self.call(Call::post(&["v3", "register"], body)).await {
            Err(error) if error.errcode() == "M_USER_IN_USE" => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sets the display name of a user of ours.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_display_name(&self, user: &str, name: &str) -> Result<(), CallError> {
        let body = json!({"displayname": name});
        self.call(Call::put(&["v3", "profile", user, "displayname"], body).acting_as(user)).await.map(drop)
    }

    /// Joins a room by id or alias; as `user`, or as the bot. Gives the room's id.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn join(&self, room: &str, user: Option<&str>) -> Result<String, CallError> {
        let path = ["v3", "join", room];
        let call = Call { as_user: user, ..Call::post(&path, json!({})) };
        text(&self.call(call).await?, "room_id")
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn leave(&self, room: &str, user: &str, reason: &str) -> Result<(), CallError> {
        let body = if reason.is_empty() { json!({}) } else { json!({"reason": reason}) };
        self.call(Call::post(&["v3", "rooms", room, "leave"], body).acting_as(user)).await.map(drop)
    }

    /// Invites a user, as the bot.
    ///
    /// # Errors
    /// [`CallError`]; `M_FORBIDDEN` too if they are in already.
    pub async fn invite(&self, room: &str, user: &str) -> Result<(), CallError> {
        self.call(Call::post(&["v3", "rooms", room, "invite"], json!({"user_id": user}))).await.map(drop)
    }

    /// Kicks, bans or unbans a user, as the bot.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn remove(&self, how: Removal, room: &str, user: &str, reason: &str) -> Result<(), CallError> {
        let mut body = json!({"user_id": user});
        if !reason.is_empty() {
            body["reason"] = reason.into();
        }
        let verb = match how {
            Removal::Kick => "kick",
            Removal::Ban => "ban",
            Removal::Unban => "unban",
        };
        self.call(Call::post(&["v3", "rooms", room, verb], body)).await.map(drop)
    }

    /// Takes an event back, as `user` or as the bot.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn redact(
        &self,
        room: &str,
        event: &str,
        txn: &str,
        user: Option<&str>,
        reason: &str,
    ) -> Result<(), CallError> {
        let body = if reason.is_empty() { json!({}) } else { json!({"reason": reason}) };
        let path = ["v3", "rooms", room, "redact", event, txn];
        self.call(Call { as_user: user, ..Call::put(&path, body) }).await.map(drop)
    }

    /// Sends an event, most often `m.room.message`. The same `txn` of the same user sends nothing twice, as long as
    /// the homeserver remembers it. `said_at` is the time that clients show. Gives the event's id.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn send(&self, message: &Sending<'_>) -> Result<String, CallError> {
        let said_at = message.said_at.map(|at| at.to_string());
        let query: Vec<(&str, &str)> = said_at.iter().map(|at| ("ts", at.as_str())).collect();
        let path = ["v3", "rooms", message.room, "send", message.kind, message.txn];
        let call =
            Call { query: &query, as_user: message.as_user, ..Call::put(&path, message.content.clone()) };
        text(&self.call(call).await?, "event_id")
    }

    /// Reads the content of a piece of state, as the bot; `null` if there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn state(&self, room: &str, kind: &str, key: &str) -> Called {
        none_if_missing(self.call(Call::get(&["v3", "rooms", room, "state", kind, key])).await)
    }

    /// The whole event of a piece of state, with its sender; `null` if there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn state_event(&self, room: &str, kind: &str) -> Called {
        let path = ["v3", "rooms", room, "state", kind, ""];
        none_if_missing(self.call(Call { query: &[("format", "event")], ..Call::get(&path) }).await)
    }

    /// Sets a piece of the room's state, as the bot.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_state(&self, room: &str, kind: &str, content: Value) -> Result<(), CallError> {
        let path = ["v3", "rooms", room, "state", kind, ""];
        self.call(Call::put(&path, content)).await.map(drop)
    }

    /// The users in a room.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn joined(&self, room: &str) -> Result<Vec<String>, CallError> {
        let answer = self.call(Call::get(&["v3", "rooms", room, "joined_members"])).await?;
        let joined =
            answer["joined"].as_object().ok_or_else(|| CallError::Odd("joined is missing".into()))?;
        Ok(joined.keys().cloned().collect())
    }

    /// A page of what was said in a room, newest first, from a token of the page before.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn messages(&self, room: &str, from: Option<&str>) -> Called {
        let mut query = vec![("dir", "b"), ("limit", "100"), ("filter", SAID)];
        query.extend(from.map(|from| ("from", from)));
        self.call(Call { query: &query, ..Call::get(&["v3", "rooms", room, "messages"]) }).await
    }

    /// The room of an alias; `None` if there is no such alias.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn resolve(&self, alias: &str) -> Result<Option<String>, CallError> {
        match none_if_missing(self.call(Call::get(&["v3", "directory", "room", alias])).await)? {
            Value::Null => Ok(None),
            answer => text(&answer, "room_id").map(Some),
        }
    }

    /// Points an alias at a room.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_alias(&self, alias: &str, room: &str) -> Result<(), CallError> {
        self.call(Call::put(&["v3", "directory", "room", alias], json!({"room_id": room}))).await.map(drop)
    }

    /// Asks for a piece of media, as the bot; the answer's body is still to be read. Homeservers from
    /// before Matrix 1.11 have it at another place, which is asked next.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn media(&self, server: &str, id: &str) -> Result<Response, CallError> {
        let asked = self.get_media(&["client", "v1", "media", "download", server, id]).await;
        match asked {
            Err(error) if error.errcode() == "M_UNRECOGNIZED" => {
                self.get_media(&["media", "v3", "download", server, id]).await
            }
            other => other,
        }
    }

    async fn get_media(&self, path: &[&str]) -> Result<Response, CallError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("_matrix").extend(path);
        }
        let request = self.client.get(url).bearer_auth(&self.token).timeout(MEDIA_TIMEOUT);
        let response = request.send().await.map_err(|error| sending(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        match answer(response).await {
            Err(error) => Err(error),
            Ok(_) => Err(CallError::Odd("neither a success nor an error".into())),
        }
    }

    /// Who is in a room or invited, as the bot: their membership events.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn members(&self, room: &str) -> Result<Vec<Value>, CallError> {
        let query = [("not_membership", "leave")];
        let mut answer =
            self.call(Call { query: &query, ..Call::get(&["v3", "rooms", room, "members"]) }).await?;
        match answer["chunk"].take() {
            Value::Array(members) => Ok(members),
            _ => Err(CallError::Odd("chunk is missing".into())),
        }
    }

    /// Whether a user of ours has a device.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn has_device(&self, user: &str, device: &str) -> Result<bool, CallError> {
        let read = self.call(Call::get(&["v3", "devices", device]).acting_as(user)).await;
        Ok(!none_if_missing(read)?.is_null())
    }

    /// Makes a device of a user of ours. Homeservers that do not let us (MSC4190) let it log in; what
    /// they give it is not used.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn make_device(&self, user: &str, device: &str, name: &str) -> Result<(), CallError> {
        let body = json!({"display_name": name});
        let made = self.call(Call::put(&["v3", "devices", device], body).acting_as(user)).await;
        match made {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {}
            other => return other.map(drop),
        }
        let body = json!({"type": "m.login.application_service", "device_id": device,
                          "initial_device_display_name": name,
                          "identifier": {"type": "m.id.user", "user": user}});
        self.call(Call::post(&["v3", "login"], body)).await.map(drop)
    }

    /// Whether the homeserver lets us speak for a device: it refuses one that does not exist, and others
    /// do not look at it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn knows_devices(&self) -> Result<bool, CallError> {
        let query = [("device_id", "MULTICHATNONE"), ("org.matrix.msc3202.device_id", "MULTICHATNONE")];
        match self.call(Call { query: &query, ..Call::get(&["v3", "account", "whoami"]) }).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == Kind::Invalid || error.is_unknown_token() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Creates a room, as the bot. Gives its id.
    ///
    /// # Errors
    /// [`CallError`]; `M_ROOM_IN_USE` if the alias is taken.
    pub async fn create_room(&self, body: Value) -> Result<String, CallError> {
        text(&self.call(Call::post(&["v3", "createRoom"], body)).await?, "room_id")
    }
}

/// How a user is put out or let back in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    Kick,
    Ban,
    Unban,
}

/// An event to send.
pub struct Sending<'a> {
    pub kind: &'a str,
    pub room: &'a str,
    /// The ghost, or the bot.
    pub as_user: Option<&'a str>,
    pub txn: &'a str,
    pub said_at: Option<u64>,
    pub content: &'a Value,
}

/// One request below `/_matrix/client/`.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    pub as_user: Option<&'a str>,
    pub body: Option<Value>,
}

impl<'a> Call<'a> {
    /// A GET.
    pub fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: &[], as_user: None, body: None }
    }

    /// A POST.
    pub fn post(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    /// A PUT.
    pub fn put(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::PUT, body: Some(body), ..Self::get(path) }
    }

    /// The same, masquerading as a user of ours.
    pub fn acting_as(self, user: &'a str) -> Self {
        Self { as_user: Some(user), ..self }
    }
}

fn none_if_missing(called: Called) -> Called {
    match called {
        Err(error) if error.kind() == Kind::NotFound => Ok(Value::Null),
        other => other,
    }
}

fn text(answer: &Value, key: &str) -> Result<String, CallError> {
    answer[key].as_str().map(str::to_owned).ok_or_else(|| CallError::Odd(format!("{key} is missing")))
}

fn sending(error: &reqwest::Error) -> CallError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(deeper) = source {
        why = deeper.to_string();
        source = deeper.source();
    }
    if error.is_connect() || error.is_builder() {
        CallError::Unreachable(why)
    } else {
        CallError::Broken(why)
    }
}

async fn answer(mut response: Response) -> Called {
    let status = response.status();
    let header_ms = response
        .headers()
        .get(reqwest::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .map(|seconds| seconds.saturating_mul(1000));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| CallError::Broken(error.to_string()))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES {
            return Err(CallError::Odd("longer than 16 MiB".into()));
        }
        bytes.extend_from_slice(&chunk);
    }
    let body: Result<Value, _> = serde_json::from_slice(&bytes);
    if status.is_success() {
        return body.map_err(|error| CallError::Odd(format!("not JSON: {error}")));
    }
    let body = body.unwrap_or_default();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let after_ms = header_ms.or_else(|| body["retry_after_ms"].as_u64()).unwrap_or(LIMITED_MS);
        return Err(CallError::Limited { after_ms: after_ms.min(LIMITED_MAX_MS) });
    }
    let word = |key: &str| body[key].as_str().unwrap_or_default().chars().take(300).collect::<String>();
    Err(CallError::Status { status: status.as_u16(), errcode: word("errcode"), error: word("error"), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let status = |status: u16, errcode: &str| CallError::Status {
            status,
            errcode: errcode.into(),
            error: String::new(),
            body: Value::Null,
        };
        let check = |error: CallError, expect: &str| {
            let said = match error.outcome() {
                Outcome::Retry { uncertain, after_ms, .. } => {
                    format!("retry uncertain={uncertain} after={after_ms:?}")
                }
                Outcome::Failed { .. } => "failed".into(),
                Outcome::Delivered { .. } => "delivered".into(),
            };
            assert_eq!(said, expect, "{error}");
        };
        check(CallError::Unreachable("refused".into()), "retry uncertain=false after=None");
        check(CallError::Broken("reset".into()), "retry uncertain=true after=None");
        check(CallError::Limited { after_ms: 7 }, "retry uncertain=false after=Some(7)");
        check(status(502, ""), "retry uncertain=true after=None");
        check(status(401, "M_UNKNOWN_TOKEN"), "retry uncertain=false after=Some(10000)");
        check(CallError::Odd("html".into()), "retry uncertain=true after=None");
        check(status(403, "M_FORBIDDEN"), "failed");
        check(status(413, "M_TOO_LARGE"), "failed");
        check(status(404, ""), "retry uncertain=true after=None");
    }
}

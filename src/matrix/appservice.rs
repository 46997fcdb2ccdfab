//! HTTP from the homeserver: the application service API. It checks the token, bounds the body,
//! and answers; what is in a transaction is the intake's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::bridge::{Bridge, Trouble};
use super::intake::Intake;
use super::proto::sealed::ForDevices;
use crate::base::Kind;

/// Bytes of a transaction; a longer one is refused. Homeservers send up to 100 events of at most
/// 64 KiB each.
const BODY_BYTES: usize = 10 * 1024 * 1024;

/// See the module.
pub(super) struct Appservice {
    bridge: Arc<Bridge>,
    intake: Arc<Intake>,
    /// Of the token that the homeserver must show, so that comparing takes the same time always.
    hs_token: blake3::Hash,
    /// A wrong token was logged, and none was right since.
    warned: AtomicBool,
}

impl Appservice {
    /// The application service of this bridge, for the homeserver that knows `hs_token`.
    pub fn new(bridge: Arc<Bridge>, intake: Arc<Intake>, hs_token: &str) -> Self {
        Self { bridge, intake, hs_token: blake3::hash(hs_token.as_bytes()), warned: AtomicBool::new(false) }
    }

    /// Its HTTP endpoints.
    pub fn router(self) -> Router {
        let app = Arc::new(self);
        Router::new()
            .route("/_matrix/app/v1/transactions/{txn}", put(transaction))
            .route("/transactions/{txn}", put(transaction))
            .route("/_matrix/app/v1/users/{user}", get(user))
            .route("/users/{user}", get(user))
            .route("/_matrix/app/v1/rooms/{alias}", get(room))
            .route("/rooms/{alias}", get(room))
            .route("/_matrix/app/v1/ping", post(ping))
            .route_layer(middleware::from_fn_with_state(app.clone(), authenticate))
            // Not the homeserver's: whoever has a link.
            .route("/media/{token}", get(media))
            .method_not_allowed_fallback(|| async {
                refuse(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "M_UNRECOGNIZED",
                    "that method is not for this endpoint",
                )
            })
            .fallback(|| async {
                refuse(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "there is no such endpoint")
            })
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(app)
    }
}

fn refuse(status: StatusCode, errcode: &str, error: &str) -> Response {
    (status, Json(json!({"errcode": errcode, "error": error}))).into_response()
}

/// The one table from trouble to what a homeserver is told.
fn troubled(trouble: &Trouble) -> Response {
    let (status, errcode) = match trouble.kind() {
        Kind::Retry => (StatusCode::SERVICE_UNAVAILABLE, "M_LIMIT_EXCEEDED"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
        Kind::Denied => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        Kind::Invalid => (StatusCode::BAD_REQUEST, "M_BAD_JSON"),
        Kind::Permanent | Kind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN"),
    };
    refuse(status, errcode, &trouble.to_string())
}

/// Lets only the homeserver through, before anything of the body is read.
async fn authenticate(State(app): State<Arc<Appservice>>, request: Request, next: Next) -> Response {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned());
    let token = bearer.or_else(|| {
        let query = Query::<BTreeMap<String, String>>::try_from_uri(request.uri()).ok();
        query.and_then(|Query(mut query)| query.remove("access_token"))
    });
    let right = token.as_ref().is_some_and(|token| blake3::hash(token.as_bytes()) == app.hs_token);
    if right {
        app.warned.store(false, Ordering::Relaxed);
        return next.run(request).await;
    }
    app.bridge.counts.add("wrong hs_token");
    if !app.warned.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "a request with {} is refused: if it is the homeserver's, give it this registration.yaml and restart it",
            if token.is_some() { "a wrong hs_token" } else { "no hs_token" }
        );
    }
    let error = if token.is_some() { "that is not our hs_token" } else { super::ping::NO_TOKEN };
    refuse(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
}

async fn media(State(app): State<Arc<Appservice>>, Path(token): Path<String>) -> Response {
    match &app.bridge.media {
        Some(media) => media.serve(&app.bridge, &token).await,
        None => refuse(StatusCode::NOT_FOUND, "M_NOT_FOUND", "no media is passed on here"),
    }
}

async fn transaction(
    State(app): State<Arc<Appservice>>,
    Path(txn): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "a transaction has at most 10 MiB");
        }
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "M_NOT_JSON", "the body broke off"),
    };
    let parsed: Value = match serde_json::from_slice(&body) {
        Ok(parsed) => parsed,
        Err(error) => {
            app.bridge.counts.add("malformed transaction");
            return refuse(StatusCode::BAD_REQUEST, "M_NOT_JSON", &format!("not JSON: {error}"));
        }
    };
    let Some(events) = parsed["events"].as_array() else {
        app.bridge.counts.add("malformed transaction");
        return refuse(StatusCode::BAD_REQUEST, "M_BAD_JSON", "events is not a list");
    };
    let for_devices = ForDevices::read(&parsed);
    match app.intake.transaction(&txn, &body, &for_devices, events).await {
        Ok(()) => Json(json!({})).into_response(),
        Err(trouble) => {
            tracing::warn!(%trouble, "a transaction is to be sent again");
            // Whatever went wrong, only an error of the server's makes the homeserver repeat it.
            refuse(StatusCode::SERVICE_UNAVAILABLE, "M_LIMIT_EXCEEDED", &trouble.to_string())
        }
    }
}

async fn user(State(app): State<Arc<Appservice>>, Path(user): Path<String>) -> Response {
    let known =
        app.bridge.names.ghost_localpart(&user).is_some_and(|localpart| app.bridge.is_ghost(localpart));
    if known || user == app.bridge.names.bot() {
        return Json(json!({})).into_response();
    }
    refuse(StatusCode::NOT_FOUND, "M_NOT_FOUND", "nobody of that name is here")
}

async fn room(State(app): State<Arc<Appservice>>, Path(alias): Path<String>) -> Response {
    let unknown = || refuse(StatusCode::NOT_FOUND, "M_NOT_FOUND", "no channel of that name is known here");
    let Some(channel) = app.bridge.names.channel_of_alias(&alias) else { return unknown() };
    match app.bridge.portal(&channel, Some(&alias)).await {
        Ok(Some(_)) => Json(json!({})).into_response(),
        Ok(None) => unknown(),
        Err(trouble) => {
            tracing::warn!(%alias, %trouble, "no portal could be made");
            troubled(&trouble)
        }
    }
}

async fn ping() -> Response {
    Json(json!({})).into_response()
}

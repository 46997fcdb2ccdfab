//! Media for readers beyond the homeserver: `GET /media/<signed>` passes on what a message of a linked
//! room carries. It owns the links and how many are served at once; it keeps no bytes.
//!
//! Each request asks anew whether the message may still be read: in the channel (it may have been taken
//! back or have expired) and in the room. Where it may not, the answer is 410.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bridge::{Bridge, Trouble};
use super::crypto::{self, Opened};
use super::homeserver::Call;
use super::proto::media::{self, Links, Target};
use super::proto::said::{self, Carried};
use super::unix_ms;
use crate::base::{Kind, limits};
use crate::chat::attachment::Attachment;
use crate::chat::view::What;
use crate::port::{Anchor, HistoryQuery, Range};

/// How long the homeserver may take for the next piece.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing in what is passed on may run, load or frame anything.
const POLICY: &str =
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";

/// See the module.
pub(super) struct Media {
    links: Links,
    permits: std::sync::Arc<Semaphore>,
    /// For what is encrypted, and held whole.
    sealed: std::sync::Arc<Semaphore>,
}

/// Why there is nothing to pass on.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Nothing {
    /// No link of ours, or a file that the homeserver does not have.
    Unknown,
    /// Ended, taken back, or of a room that is not linked any more.
    Over,
    TooLarge,
    Busy,
    /// The homeserver or the node cannot answer.
    Trouble(String),
}

impl IntoResponse for Nothing {
    fn into_response(self) -> Response {
        let (status, why) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "There is nothing under this link.".to_owned()),
            Self::Over => (StatusCode::GONE, "This was taken back, or the link has ended.".to_owned()),
            Self::TooLarge => {
                let mib = limits::MEDIA_BYTES >> 20;
                (
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("This is larger than the {mib} MiB that are passed on."),
                )
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Many are reading; try again.".to_owned()),
            Self::Trouble(why) => (StatusCode::BAD_GATEWAY, why),
        };
        let mut response = (status, format!("{why}\n")).into_response();
        response.headers_mut().extend(always());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<Trouble> for Nothing {
    fn from(trouble: Trouble) -> Self {
        match trouble.kind() {
            Kind::NotFound | Kind::Denied => Self::Over,
            _ => Self::Trouble(trouble.to_string()),
        }
    }
}

impl Media {
    /// Media under these links.
    pub fn new(links: Links) -> Self {
        let permits = |number| std::sync::Arc::new(Semaphore::new(number));
        let sealed = permits(limits::SEALED_MEDIA_AT_ONCE);
        Self { links, permits: permits(limits::MEDIA_AT_ONCE), sealed }
    }

    /// The link to what a message of a room carries.
    pub fn link(&self, room: &str, event_id: &str) -> String {
        self.links.sign(room, event_id, unix_ms())
    }

    /// Answers a request for a link.
    pub async fn serve(&self, bridge: &Bridge, token: &str) -> Response {
        match self.fetch(bridge, token).await {
            Ok(response) => response,
            Err(nothing) => {
                bridge.counts.add(match nothing {
                    Nothing::Unknown => "media unknown",
                    Nothing::Over => "media taken back or ended",
                    Nothing::TooLarge => "media too large",
                    Nothing::Busy => "media asked for by too many",
                    Nothing::Trouble(_) => "media not to be had",
                });
                nothing.into_response()
            }
        }
    }

    async fn fetch(&self, bridge: &Bridge, token: &str) -> Result<Response, Nothing> {
        let target = self.links.read(token, unix_ms()).ok_or(Nothing::Unknown)?;
        if target.over {
            return Err(Nothing::Over);
        }
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| Nothing::Busy)?;
        let Carried { attachment, file } = self.carried(bridge, &target).await?;
        let (server, id) = media::mxc(&attachment.address).ok_or(Nothing::Over)?;
        let answer = bridge.hs.media(server, id).await.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Denied => Nothing::Unknown,
            _ => Nothing::Trouble(error.to_string()),
        })?;
        if answer.content_length().is_some_and(|length| length > limits::MEDIA_BYTES) {
            return Err(Nothing::TooLarge);
        }
        if let Some(file) = file {
            return self.unsealed(answer, &attachment, file).await;
        }
        let mime = answer.headers().get(header::CONTENT_TYPE).and_then(|mime| mime.to_str().ok());
        let (mime, how) = media::shown_as(mime.unwrap_or_default());
        let length = answer.content_length();
        let body = passing_on(answer, permit, limits::MEDIA_BYTES);
        Ok(response((mime, how, &attachment.name), length, body))
    }

    /// What was encrypted by whoever sent it: opened, once all of it is there and is what they sent.
    async fn unsealed(
        &self,
        mut answer: reqwest::Response,
        attachment: &Attachment,
        file: Value,
    ) -> Result<Response, Nothing> {
        let permit = self.sealed.clone().try_acquire_owned().map_err(|_| Nothing::Busy)?;
        let mut bytes = Vec::new();
        loop {
            let piece = tokio::time::timeout(PIECE_TIMEOUT, answer.chunk()).await;
            let piece = piece.map_err(|_| Nothing::Trouble("the homeserver is slow".to_owned()))?;
            let Some(piece) = piece.map_err(|error| Nothing::Trouble(error.to_string()))? else { break };
            if (bytes.len() + piece.len()) as u64 > limits::SEALED_MEDIA_BYTES {
                return Err(Nothing::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        let opening = tokio::task::spawn_blocking(move || crypto::open_file(&bytes, file));
        let opened = opening.await.map_err(|error| Nothing::Trouble(error.to_string()))?;
        let opened = opened.ok_or_else(|| Nothing::Trouble("this is not what was sent".to_owned()))?;
        let (mime, how) = media::shown_as(&attachment.mime);
        let length = Some(opened.len() as u64);
        let body = stream::once(async move {
            drop(permit);
            Ok::<_, std::io::Error>(Bytes::from(opened))
        });
        Ok(response((mime, how, &attachment.name), length, Body::from_stream(body)))
    }

    /// What the message carries, if it may still be read here and there.
    async fn carried(&self, bridge: &Bridge, target: &Target) -> Result<Carried, Nothing> {
        let tagged = |room: &str| self.links.tag(room) == target.room;
        let (room, carried) = bridge.room_where(tagged).ok_or(Nothing::Over)?;
        let event = bridge.event_of(&room, &target.event_id).await.map_err(Trouble::from)?;
        let event = event.ok_or(Nothing::Over)?;
        let range = Range::Around { at: Anchor::Event(event), messages: true };
        let query = HistoryQuery { channel: carried.channel, range, limit: 1 };
        let found = bridge.handle.history(query).await.map_err(Trouble::from)?;
        let is_it = |news: &crate::chat::view::News| {
            news.event == event
                && matches!(&news.what, What::Message(content) if content.attachment.is_some())
        };
        if !found.iter().any(is_it) {
            return Err(Nothing::Over);
        }
        let path = ["v3", "rooms", &room, "event", &target.event_id];
        let there = bridge.hs.call(Call::get(&path)).await.map_err(Trouble::from)?;
        let there = match &bridge.crypto {
            Some(crypto) if there["type"] == "m.room.encrypted" => {
                match crypto.open(&room, &there).await.map_err(Trouble::from)? {
                    Opened::Event(opened) => opened,
                    Opened::NoKey | Opened::Refused(_) => return Err(Nothing::Over),
                }
            }
            _ => there,
        };
        said::carried(&there).ok_or(Nothing::Over)
    }
}

fn response((mime, how, name): (&'static str, &str, &str), length: Option<u64>, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.extend(always());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    if let Ok(disposition) = HeaderValue::from_str(&media::disposition(how, name)) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// What is passed on of the homeserver's answer as it comes, up to the bound; beyond it the connection
/// breaks, so that nobody takes a part for the whole.
fn passing_on(answer: reqwest::Response, permit: OwnedSemaphorePermit, bytes: u64) -> Body {
    let begin = (answer, permit, 0u64);
    Body::from_stream(stream::try_unfold(begin, move |(mut answer, permit, passed)| async move {
        let piece = tokio::time::timeout(PIECE_TIMEOUT, answer.chunk()).await;
        let piece: Option<Bytes> = piece.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
        let Some(piece) = piece else { return Ok::<_, std::io::Error>(None) };
        let passed = passed.saturating_add(piece.len() as u64);
        if passed > bytes {
            return Err(std::io::Error::other("larger than what is passed on"));
        }
        Ok(Some((piece, (answer, permit, passed))))
    }))
}

/// Headers of every answer: nothing is kept by anybody, as it may be taken back, and nothing runs.
fn always() -> HeaderMap {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes through of a body of 3,000 bytes that does not say how long it is.
    async fn passed(bound: u64) -> Result<usize, axum::Error> {
        let piece = || Ok::<_, std::io::Error>(Bytes::from_static(&[7; 1000]));
        let body = move || async move { Body::from_stream(stream::iter([piece(), piece(), piece()])) };
        let app = axum::Router::new().route("/", axum::routing::get(body));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.content_length(), None);
        let permits = std::sync::Arc::new(Semaphore::new(1));
        let body = passing_on(answer, permits.clone().try_acquire_owned().unwrap(), bound);
        assert_eq!(permits.available_permits(), 0);
        let read = axum::body::to_bytes(body, usize::MAX).await;
        assert_eq!(permits.available_permits(), 1, "given back when it is over");
        server.abort();
        read.map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn what_is_too_large_breaks_off() {
        assert_eq!(passed(3000).await.unwrap(), 3000);
        assert!(passed(2999).await.is_err());
    }

    #[test]
    fn refusals_are_not_kept_by_anybody() {
        for (nothing, status) in [
            (Nothing::Unknown, 404),
            (Nothing::Over, 410),
            (Nothing::TooLarge, 413),
            (Nothing::Busy, 503),
            (Nothing::Trouble("away".into()), 502),
        ] {
            let response = nothing.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        }
    }
}

//! One client's connection: bytes to lines, at the pace it may have; lines to bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::actor::ToHub;
use super::queue::SendQueue;
use super::tls::{self, Certificate};
use super::websocket::{self, Frames, Message};
use super::{Shared, now, proxy};
use crate::irc::proto::flood::Bucket;
use crate::irc::proto::line::{Input, Lines};
use crate::irc::proto::session::{ClientId, Peer};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the last bytes may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// How lines travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Plain,
    /// Each a message, text or binary.
    WebSocket {
        binary: bool,
    },
}

/// What a socket was bound for.
pub struct Manner {
    pub tls: Option<Arc<Certificate>>,
    pub websocket: bool,
    pub proxies: Vec<IpAddr>,
}

/// Serves one connection until either side ends it.
pub async fn serve(mut stream: TcpStream, peer: SocketAddr, manner: Arc<Manner>, shared: Arc<Shared>) {
    let mut address = peer.ip().to_canonical();
    if manner.proxies.contains(&address) {
        match tokio::time::timeout(HANDSHAKE, proxy::read(&mut stream)).await {
            Ok(Ok(from)) => address = from.map_or(address, |from| from.to_canonical()),
            _ => return tracing::debug!(%address, "irc: no PROXY header came"),
        }
    }
    let pass = match shared.gate.enter(address, now()) {
        Ok(pass) => pass,
        Err(why) => {
            let line = format!("ERROR :Closing link: {why}\r\n");
            let _ = tokio::time::timeout(HANDSHAKE, stream.write_all(line.as_bytes())).await;
            return;
        }
    };
    let host = address.to_string();
    match &manner.tls {
        None => {
            let peer = Peer { host, secure: false, certificate: None };
            frame(stream, peer, &manner, &shared).await;
        }
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.map(tls::fingerprint);
                frame(stream, Peer { host, secure: true, certificate }, &manner, &shared).await;
            }
            Ok(Err(error)) => tracing::debug!(%host, %error, "irc: TLS handshake failed"),
            Err(_) => tracing::debug!(%host, "irc: TLS handshake timed out"),
        },
    }
    drop(pass);
}

async fn frame<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: Peer,
    manner: &Manner,
    shared: &Shared,
) {
    if !manner.websocket {
        return converse(stream, peer, Framing::Plain, shared).await;
    }
    match tokio::time::timeout(HANDSHAKE, websocket::accept(&mut stream)).await {
        Ok(Ok(binary)) => converse(stream, peer, Framing::WebSocket { binary }, shared).await,
        _ => tracing::debug!(host = %peer.host, "irc: no WebSocket came of it"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite>(stream: S, peer: Peer, framing: Framing, shared: &Shared) {
    let client = shared.last_client.fetch_add(1, Ordering::Relaxed) + 1;
    let queue = Arc::new(SendQueue::default());
    let hello = ToHub::Connected { client, peer, queue: Arc::clone(&queue) };
    if shared.to_hub.send(hello).await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(stream);
    let reason = tokio::select! {
        reason = read(reader, client, (framing, &queue), shared) => reason,
        () = write(writer, client, (framing, &queue), shared) => "Connection closed",
        // A write that is stuck must not outlive the decision to close.
        () = async { queue.closing().await; tokio::time::sleep(LAST_WORDS).await } => "Connection closed",
    };
    let _ = shared.to_hub.send(ToHub::Gone { client, reason }).await;
}

/// A client's bytes, as lines.
struct Source {
    lines: Lines,
    frames: Option<Frames>,
}

impl Source {
    /// Takes bytes in; `false` if nothing more can come.
    fn feed(&mut self, bytes: &[u8], queue: &SendQueue) -> bool {
        let Some(frames) = &mut self.frames else {
            self.lines.feed(bytes);
            return true;
        };
        frames.feed(bytes);
        loop {
            match frames.take() {
                Ok(Some(Message::Data(mut line))) => {
                    line.extend_from_slice(b"\r\n");
                    self.lines.feed(&line);
                }
                Ok(Some(Message::Ping(payload))) => queue.push_control(&websocket::pong(&payload)),
                Ok(None) => return true,
                Ok(Some(Message::Close)) | Err(websocket::Broken) => return false,
            }
        }
    }
}

/// Lines beyond the first of their kind that they count as, for the limit of how much a client may say:
/// what makes the server work, or others read, costs more.
fn cost(input: &Input) -> u32 {
    let Input::Line(line) = input else { return 2 };
    match line.command.as_str() {
        // We asked for it.
        "PONG" => 0,
        "WHO" | "LIST" | "NAMES" | "REGISTER" | "INVITE" | "KNOCK" | "NICK" | "METADATA" => 2,
        "CHATHISTORY" | "AUTHENTICATE" => 1,
        "PRIVMSG" | "NOTICE" | "TAGMSG" | "JOIN" | "PART" | "WHOIS" | "MONITOR" => {
            let targets = line.params.first().map_or(0, |first| first.matches(',').count());
            1 + u32::try_from(targets / 4).unwrap_or(u32::MAX)
        }
        // Lines of a batch that is under way count as one message at its end.
        _ => 1,
    }
}

/// Until the client ends the connection; gives why. Over its limit it is not read, so that its own
/// system slows it down.
async fn read<R: AsyncRead>(
    reader: R,
    client: ClientId,
    (framing, queue): (Framing, &SendQueue),
    shared: &Shared,
) -> &'static str {
    tokio::pin!(reader);
    let mut bucket = shared.flood.map(|limit| Bucket::new(limit, now()));
    let frames = matches!(framing, Framing::WebSocket { .. }).then(Frames::default);
    let mut source = Source { lines: Lines::default(), frames };
    let mut bytes = [0; READ_BYTES];
    loop {
        let goes_on = match reader.read(&mut bytes).await {
            Ok(0) => return "Connection closed",
            Err(_) => return "Connection reset",
            Ok(n) => source.feed(&bytes[..n], queue),
        };
        while let Some(input) = source.lines.take() {
            for _ in 0..bucket.as_ref().map_or(0, |_| cost(&input)) {
                while let Some(Err(wait_ms)) = bucket.as_mut().map(|bucket| bucket.take(now())) {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
            }
            queue.may_read().await;
            if shared.to_hub.send(ToHub::Input { client, input }).await.is_err() {
                return "The server stops";
            }
        }
        if !goes_on {
            return "Connection closed";
        }
    }
}

/// Until the hub ends the connection or it breaks.
async fn write<W: AsyncWrite>(
    writer: W,
    client: ClientId,
    (framing, queue): (Framing, &SendQueue),
    shared: &Shared,
) {
    tokio::pin!(writer);
    loop {
        let turn = queue.turn().await;
        let bytes = match framing {
            Framing::Plain => turn.bytes,
            Framing::WebSocket { binary } => {
                let mut frames = turn.control;
                frames.extend(websocket::frames_of(&turn.bytes, binary));
                if turn.close {
                    frames.extend(websocket::close());
                }
                frames
            }
        };
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        if turn.close {
            let _ = writer.shutdown().await;
            return;
        }
        if turn.report && shared.to_hub.send(ToHub::Drained { client }).await.is_err() {
            return;
        }
    }
}

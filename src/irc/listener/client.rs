//! One client's connection: bytes to lines, at the pace it may have; lines to bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::actor::ToHub;
use super::queue::SendQueue;
use super::{Shared, now};
use crate::irc::proto::flood::Bucket;
use crate::irc::proto::line::{Input, Lines};
use crate::irc::proto::session::ClientId;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the last bytes may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// Serves one connection until either side ends it.
pub async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let host = peer.ip().to_canonical().to_string();
    match tls {
        None => converse(stream, host, false, &shared).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, host, true, &shared).await,
            Ok(Err(error)) => tracing::debug!(%host, %error, "irc: TLS handshake failed"),
            Err(_) => tracing::debug!(%host, "irc: TLS handshake timed out"),
        },
    }
}

async fn converse<S: AsyncRead + AsyncWrite>(stream: S, host: String, secure: bool, shared: &Shared) {
    let client = shared.last_client.fetch_add(1, Ordering::Relaxed) + 1;
    let queue = Arc::new(SendQueue::default());
    let hello = ToHub::Connected { client, host, secure, queue: Arc::clone(&queue) };
    if shared.to_hub.send(hello).await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        () = read(reader, client, shared) => {}
        () = write(writer, client, &queue, shared) => {}
        // A write that is stuck must not outlive the decision to close.
        () = async { queue.closing().await; tokio::time::sleep(LAST_WORDS).await } => {}
    }
    let _ = shared.to_hub.send(ToHub::Gone { client }).await;
}

/// Until the client ends the connection. Over its limit it is not read, so that its own system
/// slows it down; an answer to a PING is free, because we asked for it.
async fn read<R: AsyncRead>(reader: R, client: ClientId, shared: &Shared) {
    tokio::pin!(reader);
    let mut bucket = shared.flood.map(|limit| Bucket::new(limit, now()));
    let mut lines = Lines::default();
    let mut bytes = [0; READ_BYTES];
    loop {
        match reader.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n) => lines.feed(&bytes[..n]),
        }
        while let Some(input) = lines.take() {
            let free = matches!(&input, Input::Line(line) if line.command == "PONG");
            if let Some(bucket) = bucket.as_mut().filter(|_| !free) {
                while let Err(wait_ms) = bucket.take(now()) {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
            }
            if shared.to_hub.send(ToHub::Input { client, input }).await.is_err() {
                return;
            }
        }
    }
}

/// Until the hub ends the connection or it breaks.
async fn write<W: AsyncWrite>(writer: W, client: ClientId, queue: &SendQueue, shared: &Shared) {
    tokio::pin!(writer);
    loop {
        let turn = queue.turn().await;
        if writer.write_all(&turn.bytes).await.is_err() || writer.flush().await.is_err() {
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

//! The answering side of the control socket. A lock in the data directory, held while the node
//! lives and freed by the kernel whatever ends it, tells a live node from a stale socket file.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::protocol::{as_named, with_hash};
use super::reports::{ChannelReport, ChannelSummary, MessageReport, StatusReport};
use super::{ANSWER_BYTES, Answer, CONNECTIONS, Done, REQUEST_BYTES, Refused, Request, read_line};
use crate::base::{EventId, Kind, limits};
use crate::chat::view::ChannelView;
use crate::port::{Fault, Handle, HistoryQuery, Range, Refusal, Stopped};

/// How long a connection may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How long answers that are under way may take when the node stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// The socket, bound and locked; nobody is answered yet.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Held for its lock.
    _lock: File,
}

/// Binds the socket at `path` and answers until cancelled.
///
/// # Errors
/// A [`Fault`] as of [`Socket::bind`].
pub async fn serve(path: PathBuf, handle: Handle, cancel: CancellationToken) -> Result<(), Fault> {
    Socket::bind(&path)?.serve(handle, cancel).await;
    Ok(())
}

impl Socket {
    /// Takes the lock beside `path`, then replaces the socket file, mode 0600, by a new one. Call
    /// it inside a tokio runtime and before anything else touches the data directory.
    ///
    /// # Errors
    /// A [`Fault`] that says what to do: another node runs there, or the directory is unfit.
    pub fn bind(path: &Path) -> Result<Self, Fault> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let lock = lock(dir, &path.with_extension("lock"))?;
        let listener = bind_privately(dir, path).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::InvalidInput => format!(
                    "{}: too long a path for a Unix socket (107 bytes); choose a shorter data_dir",
                    path.display()
                ),
                _ => format!("cannot make {}: {error}; choose another data_dir", path.display()),
            };
            Fault::new(Kind::Permanent, message)
        })?;
        Ok(Self { path: path.to_owned(), listener, _lock: lock })
    }

    /// Answers until cancelled, then removes the socket file.
    pub async fn serve(self, handle: Handle, cancel: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let has_room = connections.len() < CONNECTIONS;
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = connections.join_next(), if !has_room => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(stream, handle.clone(), cancel.clone()));
                    }
                    Err(error) => {
                        tracing::warn!("control socket: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        let rest = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("control socket: closed with answers under way");
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(dir: &Path, path: &Path) -> Result<File, Fault> {
    let unfit = |error: io::Error| {
        let message =
            format!("cannot write in {}: {error}; choose another data_dir or its owner", dir.display());
        Fault::new(Kind::Permanent, message)
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unfit)?;
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(unfit)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let message = format!(
                "another node runs on this data directory ({}): stop it, or give this one its own data_dir",
                dir.display()
            );
            Err(Fault::new(Kind::Denied, message))
        }
        Err(fs::TryLockError::Error(error)) => Err(unfit(error)),
    }
}

/// Binds in a directory that only we can enter and moves the socket out once its mode is right:
/// there is no moment at which another user could connect.
fn bind_privately(dir: &Path, path: &Path) -> io::Result<UnixListener> {
    let private = dir.join(format!(".c{}", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let inside = private.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        fs::rename(&inside, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    bound
}

async fn converse(stream: UnixStream, handle: Handle, cancel: CancellationToken) {
    let mut stream = BufReader::new(stream);
    loop {
        let line = tokio::select! {
            () = cancel.cancelled() => return,
            line = tokio::time::timeout(IDLE, read_line(&mut stream, REQUEST_BYTES)) => line,
        };
        let (answer, goes_on) = match line {
            Ok(Ok(Some(line))) => (answer_line(&line, &handle).await, true),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                (refused(Kind::Invalid, format!("the request is too long: {error}")), false)
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        };
        if stream.write_all(&encode(&answer)).await.is_err() || !goes_on {
            return;
        }
    }
}

fn encode(answer: &Answer) -> Vec<u8> {
    let encoded = serde_json::to_vec(answer).ok().filter(|line| line.len() < ANSWER_BYTES);
    let mut line = encoded.unwrap_or_else(|| {
        br#"{"refused":{"kind":"Invalid","reason":"the answer is too long: ask for less, such as a smaller --limit"}}"#
            .to_vec()
    });
    line.push(b'\n');
    line
}

async fn answer_line(line: &[u8], handle: &Handle) -> Answer {
    match serde_json::from_slice::<Request>(line) {
        Ok(request) => answer(request, handle).await.unwrap_or_else(Answer::Refused),
        Err(error) => refused(Kind::Invalid, format!("not a request: {error}")),
    }
}

async fn answer(request: Request, handle: &Handle) -> Result<Answer, Refused> {
    match request {
        Request::Status => Ok(Answer::Status(StatusReport::from(handle.status().await?))),
        Request::Channels => {
            let channels = handle.channels().await?;
            Ok(Answer::Channels(channels.iter().map(ChannelSummary::from).collect()))
        }
        Request::Channel { channel } => {
            Ok(Answer::Channel(ChannelReport::from(&find(handle, &channel).await?)))
        }
        Request::History { channel, before, limit } => history(handle, &channel, before, limit).await,
        wish => submit(handle, wish).await,
    }
}

async fn history(
    handle: &Handle,
    channel: &str,
    before: Option<String>,
    limit: usize,
) -> Result<Answer, Refused> {
    let range = match before {
        None => Range::Latest,
        Some(text) => Range::Before(text.parse::<EventId>().map_err(|error| Refused {
            kind: Kind::Invalid,
            reason: format!("`{text}` is {error}: take an `event` from `multichat history --json`"),
        })?),
    };
    let channel = find(handle, channel).await?.id;
    let limit = limit.min(limits::HISTORY_MESSAGES);
    let news = handle.history(HistoryQuery { channel, range, limit }).await?;
    Ok(Answer::History(news.iter().map(MessageReport::from).collect()))
}

async fn submit(handle: &Handle, wish: Request) -> Result<Answer, Refused> {
    let channel = wish.channel().map(ToOwned::to_owned);
    let invalid = |reason: String| Refused { kind: Kind::Invalid, reason };
    let submission = wish.into_submission().map_err(|error| invalid(error.to_string()))?;
    let submission = submission.ok_or_else(|| invalid("that is a question, not a wish".into()))?;
    match handle.submit(submission).await {
        Ok(receipt) => Ok(Answer::Done(Done {
            channel: channel.map(|channel| as_named(&channel)),
            event: receipt.event.map(|event| event.to_string()),
        })),
        Err(refusal) => {
            let reason = format!("{refusal}{}", advice(&refusal, channel.as_deref()));
            Err(Refused { kind: refusal.kind(), reason })
        }
    }
}

/// What to do about a refusal, where its own words do not say so.
fn advice(refusal: &Refusal, channel: Option<&str>) -> String {
    let name = channel.map(as_named).unwrap_or_default();
    match refusal {
        Refusal::NotAMember => format!(": join it with `multichat channel join '{name}'`"),
        Refusal::NoSuchChannel(_) => {
            ": see `multichat channels`, or make it with `multichat channel create`".into()
        }
        Refusal::ChannelExists(_) => format!(": join it with `multichat channel join '{name}'`"),
        Refusal::LinkTaken(_) => ": take it away first with `multichat link remove`".into(),
        Refusal::NoSuchLink => ": see `multichat links`".into(),
        Refusal::NotPermitted(_) => ": ask a founder or admin of the channel".into(),
        Refusal::Stopping => ": try again once it runs".into(),
        Refusal::Malformed(_) | Refusal::Full(_) => String::new(),
    }
}

async fn find(handle: &Handle, channel: &str) -> Result<ChannelView, Refused> {
    let name = with_hash(channel);
    let channels = handle.channels().await?;
    let found = channels.into_iter().find(|view| view.name == name || view.id.to_string() == channel);
    found.ok_or_else(|| {
        let refusal = Refusal::NoSuchChannel(name);
        Refused { kind: refusal.kind(), reason: format!("{refusal}{}", advice(&refusal, None)) }
    })
}

fn refused(kind: Kind, reason: String) -> Answer {
    Answer::Refused(Refused { kind, reason })
}

impl From<Stopped> for Refused {
    fn from(stopped: Stopped) -> Self {
        Self { kind: Kind::Retry, reason: format!("{stopped}: try again once it runs") }
    }
}

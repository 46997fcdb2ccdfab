//! The asking side of the control socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{ANSWER_BYTES, Answer, Request, read_line, socket_path};
use crate::base::Kind;

/// How long the node may take for one answer. It answers once a wish is durable, so a slow disk
/// counts.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the running node.
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no answer, in one line with what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskError {
    /// Nobody listens on the socket of this data directory.
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    NotAllowed(PathBuf),
    /// The node went away, stalled, or speaks another version.
    Broken(String),
    /// The node's own answer.
    Refused { kind: Kind, reason: String },
}

impl AskError {
    /// What it means for whoever asked.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotRunning(_) | Self::Broken(_) => Kind::Retry,
            Self::NotAllowed(_) => Kind::Denied,
            Self::Refused { kind, .. } => *kind,
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(dir) => {
                write!(f, "no node is running on {}: start one with `multichat run`", dir.display())
            }
            Self::NotAllowed(dir) => {
                write!(f, "the node on {} is another user's: run this command as that user", dir.display())
            }
            Self::Broken(why) => write!(f, "{why}: see the node's log, and try again"),
            Self::Refused { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for AskError {}

impl Client {
    /// Connects to the node that runs on a data directory.
    ///
    /// # Errors
    /// [`AskError::NotRunning`], [`AskError::NotAllowed`].
    pub async fn connect(data_dir: &Path) -> Result<Self, AskError> {
        match UnixStream::connect(socket_path(data_dir)).await {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream) }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(AskError::NotAllowed(data_dir.to_owned()))
            }
            Err(_) => Err(AskError::NotRunning(data_dir.to_owned())),
        }
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// [`AskError::Refused`] with the node's reason, [`AskError::Broken`].
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, AskError> {
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(Answer::Refused(refused))) => {
                Err(AskError::Refused { kind: refused.kind, reason: refused.reason })
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(AskError::Broken(format!("the talk with the node broke off ({error})"))),
            Err(_) => Err(AskError::Broken(format!("the node did not answer in {} s", PATIENCE.as_secs()))),
        }
    }

    /// Asks for something that takes as long as it takes.
    ///
    /// # Errors
    /// As of [`Client::ask`].
    pub async fn ask_patiently(&mut self, request: &Request) -> Result<Answer, AskError> {
        match self.exchange(request).await {
            Ok(Answer::Refused(refused)) => {
                Err(AskError::Refused { kind: refused.kind, reason: refused.reason })
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(AskError::Broken(format!("the talk with the node broke off ({error})"))),
        }
    }

    async fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.write_all(&line).await?;
        let line = read_line(&mut self.stream, ANSWER_BYTES).await?;
        let line = line.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"))?;
        Ok(serde_json::from_slice(&line)?)
    }
}

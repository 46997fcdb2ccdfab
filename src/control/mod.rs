//! The control door: a Unix socket in the data directory over which the command line, and any
//! program of the same user, talks to the running node. It owns the socket, its lock and the
//! protocol: one JSON request a line, one JSON answer a line. It decides nothing: it hands wishes
//! to the node and shows what the node says.

mod client;
mod market;
mod place;
mod protocol;
mod reports;
mod server;

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

pub use client::{AskError, Client};
pub use market::{AssetReport, HoldingReport, IntentReport, MarketReport, MarketWish};
pub use place::Place;
pub use protocol::{Answer, DomainInvite, Done, Refused, Request, Then};
pub use reports::{
    ChannelReport, ChannelSummary, DoorReport, ExportReport, FoundReport, MemberReport, MessageReport,
    RefusedReport, StatusReport,
};
pub use server::{Neighbourhood, Socket, remembered_addresses, serve};

/// Bytes of a request; a longer one is refused and the connection closed. It holds the longest
/// body with every byte escaped.
pub const REQUEST_BYTES: usize = 512 * 1024;
/// Bytes of an answer; instead of a longer one the answer is to ask for less.
pub const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Programs connected at once; further ones wait to be accepted.
pub const CONNECTIONS: usize = 64;

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// One line without its end; `None` where the stream ends. A line over `limit` is an error of
/// kind `InvalidData`.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line over {limit} bytes")));
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut reader: &[u8] = b"ab\n\ncdef\nrest";
        for expect in ["ab", ""] {
            assert_eq!(read_line(&mut reader, 3).await.unwrap(), Some(expect.into()));
        }
        assert!(read_line(&mut reader, 3).await.is_err());
        let mut reader: &[u8] = b"rest";
        assert_eq!(read_line(&mut reader, 4).await.unwrap(), Some(b"rest".to_vec()));
        assert_eq!(read_line(&mut reader, 4).await.unwrap(), None);
    }
}

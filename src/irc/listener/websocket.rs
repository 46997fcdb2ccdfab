//! WebSocket (RFC 6455) as IRC uses it: one message is one line, without its CR LF. The handshake,
//! and frames both ways; no extensions.

use std::io;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the handshake's request.
const REQUEST_BYTES: usize = 8 * 1024;
/// Bytes of one message: the longest line, and some, so that it is answered as too long.
const MESSAGE_BYTES: usize = 16 * 1024;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT: &str = "text.ircv3.net";
const BINARY: &str = "binary.ircv3.net";

/// What came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A line.
    Data(Vec<u8>),
    /// To be answered with the same.
    Ping(Vec<u8>),
    Close,
}

/// The client broke the protocol; nothing more can be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Upgrades a connection; gives whether lines go out as binary.
///
/// # Errors
/// If it is no request for an upgrade, which the client is told, or the connection breaks.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<bool> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() >= REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        request.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let Some((key, protocol)) = wishes(&text) else {
        let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await?;
        return Err(io::ErrorKind::InvalidData.into());
    };
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        STANDARD.encode(hash.as_ref())
    );
    if let Some(protocol) = protocol {
        answer.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    answer.push_str("\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    Ok(protocol == Some(BINARY))
}

/// The key, and the first protocol named that we speak.
fn wishes(request: &str) -> Option<(String, Option<&'static str>)> {
    let mut lines = request.split("\r\n");
    let first = lines.next()?;
    if !first.starts_with("GET ") {
        return None;
    }
    let (mut key, mut upgrade, mut protocol) = (None, false, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "upgrade" => upgrade = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-key" => key = Some(value.to_owned()),
            "sec-websocket-protocol" => {
                let known = |word: &str| [TEXT, BINARY].into_iter().find(|known| *known == word.trim());
                protocol = protocol.or(value.split(',').find_map(known));
            }
            _ => {}
        }
    }
    key.filter(|_| upgrade).map(|key| (key, protocol))
}

/// Takes frames apart. Keeps at most one message.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    message: Vec<u8>,
}

impl Frames {
    /// Takes bytes as they came from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn take(&mut self) -> Result<Option<Message>, Broken> {
        while let Some((fin, code, payload)) = self.frame()? {
            match code {
                0..=2 => {
                    self.message.extend_from_slice(&payload);
                    if self.message.len() > MESSAGE_BYTES {
                        return Err(Broken);
                    }
                    if fin {
                        return Ok(Some(Message::Data(std::mem::take(&mut self.message))));
                    }
                }
                8 => return Ok(Some(Message::Close)),
                9 => return Ok(Some(Message::Ping(payload))),
                10 => {}
                _ => return Err(Broken),
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<(bool, u8, Vec<u8>)>, Broken> {
        let [first, second, ..] = self.bytes.as_slice() else { return Ok(None) };
        let (fin, reserved, code) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, usize::from(second & 0x7f));
        // What a client sends is masked.
        if reserved != 0 || !masked || (code >= 8 && (!fin || short > 125)) {
            return Err(Broken);
        }
        let (length, head) = match short {
            126 => match self.bytes.get(2..4) {
                Some(bytes) => (usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), 4),
                None => return Ok(None),
            },
            127 => return Err(Broken),
            length => (length, 2),
        };
        if length > MESSAGE_BYTES {
            return Err(Broken);
        }
        let Some(frame) = self.bytes.get(head..head + 4 + length) else { return Ok(None) };
        let (mask, body) = frame.split_at(4);
        let payload = body.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        self.bytes.drain(..head + 4 + length);
        Ok(Some((fin, code, payload)))
    }
}

/// Lines, each ended by CR LF, as one frame each.
pub fn frames_of(lines: &[u8], binary: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + lines.len() / 32);
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            frame(&mut out, if binary { 2 } else { 1 }, line);
        }
    }
    out
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, 10, payload);
    out
}

/// The end.
pub fn close() -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, 8, &1000u16.to_be_bytes());
    out
}

fn frame(out: &mut Vec<u8>, code: u8, payload: &[u8]) {
    out.push(0x80 | code);
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => out.push(short),
        _ => {
            // No line is longer than this can say.
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(payload.get(..usize::from(u16::MAX)).unwrap_or(payload));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    fn masked(fin: bool, code: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![if fin { 0x80 } else { 0 } | code];
        match payload.len() {
            length if length < 126 => out.push(0x80 | length as u8),
            length => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&[1, 2, 3, 4]);
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ [1, 2, 3, 4][at % 4]));
        out
    }

    #[tokio::test]
    async fn the_handshake_of_the_rfc() {
        let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: x, text.ircv3.net\r\n\r\n";
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(request.as_bytes()).await.unwrap();
        assert!(!accept(&mut ours).await.unwrap());
        drop(ours);
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: text.ircv3.net"));
        assert_eq!(wishes("POST / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn frames_in_any_pieces() {
        let mut frames = Frames::default();
        let long = vec![b'x'; 300];
        let bytes = [
            masked(false, 1, b"NICK "),
            masked(true, 9, b"hi"),
            masked(true, 0, b"bob"),
            masked(true, 1, &long),
            masked(true, 8, b""),
        ]
        .concat();
        let mut got = Vec::new();
        for byte in bytes {
            frames.feed(&[byte]);
            got.extend(frames.take().unwrap());
        }
        let expect = [
            Message::Ping(b"hi".to_vec()),
            Message::Data(b"NICK bob".to_vec()),
            Message::Data(long),
            Message::Close,
        ];
        assert_eq!(got, expect);
        assert_eq!(frames_of(b"a\r\nb\r\n", false), [&[0x81, 1, b'a', 0x81, 1, b'b'][..]].concat());
        frames.feed(&[0x81, 1, b'x']);
        assert_eq!(frames.take(), Err(Broken), "unmasked");
    }

    proptest! {
        #[test]
        fn any_bytes_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut frames = Frames::default();
            frames.feed(&bytes);
            for _ in 0..2000 {
                match frames.take() {
                    Ok(Some(Message::Data(data))) => prop_assert!(data.len() <= MESSAGE_BYTES),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(Broken) => break,
                }
            }
        }
    }
}

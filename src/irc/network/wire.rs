//! Bytes to messages and back: a guard around the codec of the `irc` crate, and how to connect.
//!
//! The crate's own `Client` is not used: its line reader has no bound and ends the stream at the
//! first line that is not UTF-8 or that it cannot parse, and its sender has an unbounded queue
//! outside of our flood control. So its codec gets one bounded, repaired line at a time, and what
//! it cannot parse costs that line alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use irc::proto::{Command, IrcCodec, Message};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder, Framed};

use crate::base::config::TlsConfig;

/// Bytes of one line that are taken in, tags included (8191 + 512 by the standard, and more room
/// for networks with a longer `LINELEN`); a longer one is skipped.
const LINE_BYTES: usize = 24 * 1024;
/// How long connecting may take, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What carries bytes: TCP, or TLS on it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that speaks messages.
pub(super) type Wire = Framed<Box<dyn Stream>, Codec>;

/// The guarded codec.
pub(super) struct Codec {
    inner: IrcCodec,
    /// Where the search for the end of the line goes on.
    searched: usize,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Codec {
    /// # Errors
    /// None in practice: the crate knows UTF-8.
    pub fn new() -> io::Result<Self> {
        let inner = IrcCodec::new("utf-8").map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { inner, searched: 0, skipping: false })
    }

    /// One line as a message; `None` for an empty or unintelligible one.
    fn parse(&mut self, line: &[u8]) -> Option<Message> {
        let text = decode(line);
        let text = text.replace(['\r', '\0'], "");
        if text.is_empty() {
            return None;
        }
        let mut one = BytesMut::from(format!("{text}\n").as_bytes());
        match self.inner.decode(&mut one) {
            Ok(message) => message.map(|message| with_modes(message, &text)),
            Err(error) => {
                tracing::debug!(%error, "a line of the network is not understood");
                None
            }
        }
    }
}

impl Decoder for Codec {
    type Item = Message;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Message>> {
        loop {
            let Some(end) = bytes[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = bytes.len();
                if bytes.len() > LINE_BYTES {
                    tracing::warn!("a line of the network is longer than {LINE_BYTES} bytes and is skipped");
                    bytes.clear();
                    (self.searched, self.skipping) = (0, true);
                }
                return Ok(None);
            };
            let line = bytes.split_to(self.searched + end);
            bytes.advance(1);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) || line.len() > LINE_BYTES {
                continue;
            }
            if let Some(message) = self.parse(&line) {
                return Ok(Some(message));
            }
        }
    }
}

impl Encoder<Message> for Codec {
    type Error = io::Error;

    /// Writes one line. CR, LF and NUL within it would be commands of their own: such a message is
    /// a defect of ours and is refused whole.
    fn encode(&mut self, message: Message, bytes: &mut BytesMut) -> io::Result<()> {
        let text = message.to_string();
        let line = text.strip_suffix("\r\n").unwrap_or(&text);
        if line.contains(['\r', '\n', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a line break within a line"));
        }
        self.inner.encode(message, bytes).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Gives a channel's `MODE` back its arguments as they came. The crate parts them by a table of its
/// own, where only the network (`CHANMODES`) knows which letter takes one, and drops what is left.
pub(super) fn with_modes(message: Message, line: &str) -> Message {
    let Command::ChannelMODE(channel, _) = &message.command else { return message };
    let (head, trailing) = match line.split_once(" :") {
        Some((head, trailing)) => (head, Some(trailing)),
        None => (line, None),
    };
    let arguments = head.split(' ').skip_while(|word| word != channel).skip(1);
    let arguments = arguments.filter(|word| !word.is_empty()).chain(trailing);
    let arguments = std::iter::once(channel.as_str()).chain(arguments).map(str::to_owned).collect();
    Message { command: Command::Raw("MODE".into(), arguments), ..message }
}

/// UTF-8 where it is, else ISO 8859-1: what people type who do not send UTF-8.
fn decode(line: &[u8]) -> String {
    match std::str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        Err(_) => line.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// The certificates that this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
///
/// # Errors
/// If there is none at all.
pub(super) fn trusted_roots() -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(
            "no trusted certificates are installed: install ca-certificates or set SSL_CERT_FILE".into()
        );
    }
    Ok(roots)
}

/// The TLS client configuration that trusts `roots`, and shows a certificate of its own if there is one.
///
/// # Errors
/// What is wrong with the own certificate or its key.
pub(super) fn tls_config(
    roots: rustls::RootCertStore,
    own: Option<&TlsConfig>,
) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = builder.with_root_certificates(roots);
    let Some(TlsConfig { cert, key }) = own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| format!("client_cert.cert {cert}: {error}"))?;
    let secret = PrivateKeyDer::from_pem_file(key);
    let secret = secret.map_err(|error| format!("client_cert.key {key}: {error}"))?;
    let config = builder.with_client_auth_cert(chain, secret);
    config.map(Arc::new).map_err(|error| format!("client_cert: {error}"))
}

/// Connects to `host:port`.
///
/// # Errors
/// What went wrong, for the log; all of it may mend itself.
pub(super) async fn connect(address: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Wire, String> {
    let attempt = async {
        let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
                let stream = TlsConnector::from(config).connect(name, tcp).await;
                Box::new(stream.map_err(|error| format!("TLS: {error}"))?)
            }
        };
        let codec = Codec::new().map_err(|error| error.to_string())?;
        Ok(Framed::new(stream, codec))
    };
    tokio::time::timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| Err("no answer in time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(input: &[u8]) -> Vec<String> {
        let mut codec = Codec::new().unwrap();
        let mut bytes = BytesMut::from(input);
        let mut lines = Vec::new();
        while let Some(message) = codec.decode(&mut bytes).unwrap() {
            lines.push(message.to_string());
        }
        lines
    }

    #[test]
    fn bad_lines_cost_themselves_alone() {
        let input = b"PING a\r\n\r\n\xff\xfe\n:x y\r\nPRIVMSG #c :caf\xe9\r\nPING b\n";
        let expect = ["PING a\r\n", "ÿþ\r\n", ":x y\r\n", "PRIVMSG #c café\r\n", "PING b\r\n"];
        assert_eq!(lines(input), expect);
    }

    #[test]
    fn modes_keep_their_arguments() {
        assert_eq!(lines(b":op!u@h MODE #c -lo+f bob :a b\n"), [":op!u@h MODE #c -lo+f bob :a b\r\n"]);
        assert_eq!(lines(b"MODE #c\nMODE bob +i\n"), ["MODE #c\r\n", "MODE bob +i\r\n"]);
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut codec = Codec::new().unwrap();
        let mut bytes = BytesMut::new();
        for _ in 0..100 {
            bytes.extend_from_slice(&[b'a'; 4096]);
            assert_eq!(codec.decode(&mut bytes).unwrap(), None);
            assert!(bytes.len() <= LINE_BYTES);
        }
        bytes.extend_from_slice(b"rest\r\nPING x\r\n");
        assert_eq!(codec.decode(&mut bytes).unwrap().unwrap().to_string(), "PING x\r\n");
    }

    #[test]
    fn no_line_breaks_out() {
        let mut codec = Codec::new().unwrap();
        let mut bytes = BytesMut::new();
        for text in ["a\r\nQUIT", "a\nb", "a\0b"] {
            let message = irc::proto::Command::PRIVMSG("#c".into(), text.into()).into();
            assert!(codec.encode(message, &mut bytes).is_err());
        }
        assert!(bytes.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes(wild in proptest::collection::vec(any::<u8>(), 0..300),
                     near in "((@|:|a| |\\r|\\n|=|;|#|é|PRIVMSG|MODE|CAP|BATCH|KICK|\\+|JOIN|001|NICKSERV|METADATA|LS|\\*) ?){0,60}") {
            lines(&wild);
            lines(near.as_bytes());
        }
    }
}

//! The PROXY protocol, both versions: the address of whom a proxy speaks for. Only ever read from
//! proxies that the configuration names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How a header of version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 1 at the most.
const V1_BYTES: usize = 107;
/// Bytes of addresses in one of version 2 that are read; a longer one is refused.
const V2_BYTES: usize = 512;

/// Reads the header; `None` where the proxy speaks for itself.
///
/// # Errors
/// If it is no header, or the connection breaks.
pub async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<IpAddr>> {
    let first = reader.read_u8().await?;
    if first == b'P' { read_v1(reader).await } else { read_v2(reader, first).await }
}

async fn read_v1<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<IpAddr>> {
    let mut line = vec![b'P'];
    while line.last() != Some(&b'\n') {
        if line.len() >= V1_BYTES {
            return Err(bad());
        }
        line.push(reader.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| bad())?.trim_end();
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", from, _, _, _] => from.parse().map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

async fn read_v2<R: AsyncRead + Unpin>(reader: &mut R, first: u8) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 16];
    head[0] = first;
    reader.read_exact(&mut head[1..]).await?;
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[..12] != SIGNATURE || head[12] >> 4 != 2 || length > V2_BYTES {
        return Err(bad());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    if head[12] & 0xf == 0 {
        return Ok(None);
    }
    match (head[13] >> 4, body.get(..4), body.get(..16)) {
        (1, Some(v4), _) => Ok(<[u8; 4]>::try_from(v4).ok().map(|bytes| Ipv4Addr::from(bytes).into())),
        (2, _, Some(v6)) => Ok(<[u8; 16]>::try_from(v6).ok().map(|bytes| Ipv6Addr::from(bytes).into())),
        (0, ..) => Ok(None),
        _ => Err(bad()),
    }
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expect: Option<Option<&str>>, rest: &[u8]) {
        let mut reader = bytes;
        let got = read(&mut reader).await.ok();
        assert_eq!(got, expect.map(|address| address.map(|a| a.parse().unwrap())), "{bytes:?}");
        if expect.is_some() {
            assert_eq!(reader, rest, "not a byte more is taken");
        }
    }

    #[tokio::test]
    async fn both_versions() {
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nNICK x", Some(Some("192.0.2.1")), b"NICK x").await;
        check(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some(Some("2001:db8::1")), b"").await;
        check(b"PROXY UNKNOWN\r\n", Some(None), b"").await;
        check(b"NICK bob\r\n", None, b"").await;
        check(b"PROXY TCP4 nonsense x 1 2\r\n", None, b"").await;
        check(&[b'P'; 300], None, b"").await;
        let v2 = |command: u8, family: u8, body: &[u8]| {
            [&SIGNATURE[..], &[0x20 | command, family], &(body.len() as u16).to_be_bytes(), body, b"X"]
                .concat()
        };
        check(&v2(1, 0x11, &[192, 0, 2, 1, 0, 0, 0, 0, 0, 1, 0, 2]), Some(Some("192.0.2.1")), b"X").await;
        check(&v2(0, 0, &[]), Some(None), b"X").await;
        check(&v2(1, 0x11, &[1, 2]), None, b"").await;
    }
}

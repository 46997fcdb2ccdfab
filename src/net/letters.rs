//! Short questions and answers on a stream of their own: a length, then the bytes, both ways. Owns their
//! bound; never looks into them.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::overlay::admission::BYTES;

/// Two bytes of length, big-endian, then what was said.
#[derive(Clone, Copy, Debug, Default)]
pub struct LetterCodec;

impl Codec for LetterCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &bytes).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut prefix = [0u8; 2];
    io.read_exact(&mut prefix).await?;
    let length = usize::from(u16::from_be_bytes(prefix));
    if length > BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than the protocol allows"));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).ok().filter(|_| bytes.len() <= BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "too long"))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_more_than_allowed() {
        for length in [0, 1, BYTES] {
            let mut stream = Cursor::new(Vec::new());
            block_on(write(&mut stream, &vec![7; length])).unwrap();
            assert_eq!(block_on(read(&mut Cursor::new(stream.into_inner()))).unwrap(), vec![7; length]);
        }
        assert!(block_on(write(&mut Cursor::new(Vec::new()), &vec![0; BYTES + 1])).is_err());
        assert!(block_on(read(&mut Cursor::new([0xff, 0xff, 1]))).is_err());
        assert!(block_on(read(&mut Cursor::new([0, 9, 1]))).is_err(), "cut short");
    }
}

//! The packet protocol: one packet as a request, one byte in answer once the receiving node has
//! taken it. A topology's frames travel in the same way, under a name of their own. Owns the bytes on the stream and their bound; never looks into a packet.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::overlay::domain::TAG_BYTES;
use crate::overlay::topology::frame;

/// Bytes of a packet, or of a frame with its domain's tag; a longer one is refused.
const MOST_BYTES: usize = frame::FRAME_BYTES + TAG_BYTES;

/// A packet that many peers may be sent.
pub type Packet = Arc<Vec<u8>>;

/// The answer: the receiving node has taken the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken;

/// A byte is written for [`Taken`], because a stream that merely ends is what a refusal looks like.
const TAKEN: u8 = 1;

/// Four bytes of length, big-endian, then the packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketCodec;

impl Codec for PacketCodec {
    type Protocol = StreamProtocol;
    type Request = Packet;
    type Response = Taken;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Packet>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut prefix = [0u8; 4];
        io.read_exact(&mut prefix).await?;
        let length = u32::from_be_bytes(prefix);
        if length == 0 || length as usize > MOST_BYTES {
            return Err(invalid("the packet has a length that is not allowed"));
        }
        // Room grows with what arrives, not with what was announced.
        let mut bytes = Vec::new();
        io.take(u64::from(length)).read_to_end(&mut bytes).await?;
        if bytes.len() != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Arc::new(bytes))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Taken>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = [0u8; 1];
        io.read_exact(&mut answer).await?;
        if answer[0] == TAKEN { Ok(Taken) } else { Err(invalid("an unknown answer to a packet")) }
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, packet: Packet) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        if packet.is_empty() || packet.len() > MOST_BYTES {
            return Err(invalid("the packet has a length that is not allowed"));
        }
        let length = u32::try_from(packet.len()).map_err(|_| invalid("too long"))?;
        io.write_all(&length.to_be_bytes()).await?;
        io.write_all(&packet).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, _: Taken) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[TAKEN]).await
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    const PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    fn read(bytes: &[u8]) -> io::Result<Packet> {
        block_on(PacketCodec.read_request(&PROTOCOL, &mut Cursor::new(bytes)))
    }

    fn written(packet: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut stream = Cursor::new(Vec::new());
        block_on(PacketCodec.write_request(&PROTOCOL, &mut stream, Arc::new(packet)))?;
        Ok(stream.into_inner())
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [1, 2, MOST_BYTES] {
            let packet = vec![7; length];
            assert_eq!(*read(&written(packet.clone()).unwrap()).unwrap(), packet);
        }
    }

    #[test]
    fn lengths_out_of_bounds_and_short_streams_are_refused() {
        let kind = |bytes: &[u8]| read(bytes).unwrap_err().kind();
        assert_eq!(kind(&[0, 0, 0, 0]), io::ErrorKind::InvalidData);
        assert_eq!(kind(&[0xff, 0xff, 0xff, 0xff, 1]), io::ErrorKind::InvalidData);
        let over = u32::try_from(MOST_BYTES + 1).unwrap().to_be_bytes();
        assert_eq!(kind(&over), io::ErrorKind::InvalidData);
        assert_eq!(kind(&[0, 0, 0, 2, 9]), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&[0, 0]), io::ErrorKind::UnexpectedEof);
        assert!(written(vec![0; MOST_BYTES + 1]).is_err());
        assert!(written(Vec::new()).is_err());
    }

    #[test]
    fn an_answer_is_one_known_byte() {
        let answer = |bytes: &[u8]| block_on(PacketCodec.read_response(&PROTOCOL, &mut Cursor::new(bytes)));
        assert_eq!(answer(&[TAKEN]).unwrap(), Taken);
        assert!(answer(&[]).is_err());
        assert!(answer(&[2]).is_err());
    }
}

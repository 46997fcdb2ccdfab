//! Bytes of a peer as a packet: what is read is written as the same bytes, and checking it ends.

use multichat::replica::Packet;

pub fn run(data: &[u8]) {
    let Ok(mut packet) = Packet::decode(data) else { return };
    assert_eq!(packet.encode(), data, "one encoding for each packet");
    packet.verify();
    let kept = packet.encode();
    assert_eq!(Packet::decode(&kept).map(|packet| packet.encode()), Ok(kept), "what is left is a packet");
}

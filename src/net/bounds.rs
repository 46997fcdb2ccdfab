//! Every bound and time of this room, with what happens at it. Bounds on packets themselves are in
//! `base::limits`.

use std::time::Duration;

/// Connections in all; a further one is refused, in or out.
pub const CONNECTIONS: u32 = 256;
/// Connections with one peer while dials race; a further one is refused. One is kept in the end.
pub const CONNECTIONS_PER_PEER: u32 = 4;
/// Handshakes under way in each direction; a further one is refused.
pub const HANDSHAKES: u32 = 64;
/// Bytes that gossipsub may add around a packet: topic, framing, control messages on the same frame.
pub const GOSSIP_SLACK_BYTES: usize = 4 * 1024;
/// Requests to one peer under way; the rest wait.
pub const REQUESTS_UNDER_WAY: usize = 24;
/// Packets waiting for one peer; beyond it the oldest are dropped and counted.
pub const PEER_WAITING_PACKETS: usize = 1024;
/// Bytes waiting for one peer; beyond it the oldest packets are dropped and counted.
pub const PEER_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// Streams of packets on one connection, both ways together; a further inbound one is reset. More
/// than twice `REQUESTS_UNDER_WAY`, so that honest peers never meet it.
pub const PACKET_STREAMS: usize = 64;
/// The same for questions about domains.
pub const DOOR_STREAMS: usize = 8;
/// Broadcast packets waiting for the node; a further one is dropped and counted.
pub const INBOX_BROADCASTS: usize = 1024;
/// Bytes of broadcasts waiting for the node; beyond it a further one is dropped and counted.
pub const INBOX_BROADCAST_BYTES: usize = 16 * 1024 * 1024;
/// Requests waiting for the node without their acknowledgement; a further one is refused, which its
/// sender notices.
pub const INBOX_REQUESTS: usize = 4096;
/// Bytes of requests waiting for the node; beyond it a further one is refused.
pub const INBOX_REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// Peers coming up that the node has not been told of; a further one is disconnected and may try
/// again.
pub const INBOX_PEERS: usize = 1024;
/// Times that one packet is sent because the connection under it closed.
pub const TRIES: u8 = 3;
/// Peers whose addresses are remembered, those from the configuration apart; a further one is not.
pub const CONTACTS: usize = 512;
/// Addresses remembered for one peer; a further one is not.
pub const ADDRESSES_PER_CONTACT: usize = 8;
/// Dials under way; the rest wait.
pub const DIALS: usize = 16;

/// First wait before a peer is dialled again.
pub const DIAL_FIRST_MS: u64 = 500;
/// Longest wait before a peer is dialled again.
pub const DIAL_MAX_MS: u64 = 10_000;
/// How long a peer that the configuration does not name is dialled after it went away.
pub const REMEMBER_MS: u64 = 10 * 60_000;
/// How long a peer that turned out to be no member of the domain is left alone.
pub const STRANGER_MS: u64 = 5 * 60_000;
/// How long a connection may last before its peer has shown to be a member of the domain.
pub const PROVE_MS: u64 = 15_000;
/// How old the newest connection with a peer is when the peer with the smaller id closes the others.
pub const SURPLUS_MS: u64 = 1_000;
/// The same for the other peer, in case the first one is gone or misbehaves.
pub const SURPLUS_OTHER_MS: u64 = 4_000;

/// How long a connection is kept after the topology has hung up: its last frames arrive meanwhile.
pub const HANG_MS: u64 = 2_000;
/// How long a connection is kept that the topology never asked for.
pub const IDLE_MS: u64 = 15_000;

/// How long a packet may wait for its acknowledgement, which comes once the receiving node took it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer about domains may take.
pub const DOOR_TIMEOUT: Duration = Duration::from_secs(10);
/// How often dials, surplus connections and strangers are looked at.
pub const TICK: Duration = Duration::from_millis(200);
/// How often drops are told in the log, if there were any.
pub const TELL: Duration = Duration::from_secs(60);
/// Pings, and how long one may take. After the second lost in a row the connection is closed.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// See [`PING_INTERVAL`].
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a QUIC connection lasts in silence, in ms, and how often it is kept alive: a peer that
/// died without a word is noticed within the first.
pub const QUIC_IDLE_MS: u32 = 6_000;
/// See [`QUIC_IDLE_MS`].
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the listeners may take to say where they listen.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for connections to close.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

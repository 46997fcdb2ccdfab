//! Every bound in one place, with what happens at the bound.

/// Bytes of an encoded event header; a longer one is refused as malformed.
pub const EVENT_HEADER_BYTES: usize = 8 * 1024;
/// Bytes of an encoded event header that carries a settlement; a longer one is refused as malformed.
pub const SETTLEMENT_BYTES: usize = 32 * 1024;
/// Channels whose assets one settlement may be of.
pub const DEAL_CHANNELS: usize = 4;
/// By how much a deal may claim to lie deeper than a channel makes it: another of its channels does.
pub const DEAL_DEPTH_SLACK: u64 = 1 << 20;
/// Bytes of an event's detachable payload; a longer message is refused before it is signed.
pub const PAYLOAD_BYTES: usize = 60 * 1024;
/// Bytes of a packet between nodes; a longer one is refused, and batches are cut to fit.
pub const PACKET_BYTES: usize = 256 * 1024;
/// Bytes of a packet sent by broadcast; a longer one goes to each peer by request instead.
pub const BROADCAST_BYTES: usize = 60 * 1024;
/// Heads that an event may name as its dependencies; more are merged by later events.
pub const DEPS: usize = 16;
/// Events waiting for their past in one channel; beyond it the newest arrivals are dropped, and
/// reconciliation fetches them again.
pub const PENDING_EVENTS: usize = 4096;
/// Events sent in answer to one reconciliation round.
pub const EVENTS_PER_ROUND: usize = 512;
/// Channels a node keeps; a further one is refused.
pub const CHANNELS: usize = 100_000;
/// Bytes of a channel name, `#` included.
pub const CHANNEL_NAME_BYTES: usize = 64;
/// Bytes of a topic.
pub const TOPIC_BYTES: usize = 1024;
/// Bytes of a user name.
pub const USERNAME_BYTES: usize = 64;
/// Bytes of a display name.
pub const DISPLAY_NAME_BYTES: usize = 256;
/// Bytes of a message body, plain or formatted.
pub const BODY_BYTES: usize = 48 * 1024;
/// Events of one lane that doors are told about when they become void or count again; older ones
/// change in silence.
pub const FLIPS: usize = 1000;
/// Bytes of a reaction: an emoji of several code points, or a short word.
pub const REACTION_BYTES: usize = 64;
/// Bytes of the name of a custom role.
pub const ROLE_NAME_BYTES: usize = 32;
/// Messages pinned in one channel.
pub const PINS: usize = 64;
/// Bytes of the data of an act that a later version or a fork of the protocol made.
pub const EXTENSION_BYTES: usize = 4 * 1024;
/// Deliveries to one target of a link that may be under way at once; the rest wait in the outbox.
pub const DELIVERY_WINDOW: usize = 64;
/// Deliveries of one link that may wait in the outbox; a further one is given up at once and counted,
/// so that what waits stays whole and in order.
pub const OUTBOX_ROWS: usize = 100_000;
/// Bytes of an account that a door speaks for.
pub const ACCOUNT_BYTES: usize = 512;
/// Deliveries waiting for one door in all; the queue between node and connector holds as many.
pub const DOOR_QUEUE: usize = 4096;
/// Commands waiting for the node; senders wait when it is full.
pub const NODE_QUEUE: usize = 4096;
/// Inputs handled before one commit.
pub const GROUP_COMMIT_INPUTS: usize = 512;
/// First wait before a delivery is tried again.
pub const RETRY_FIRST_MS: u64 = 500;
/// Longest wait before a delivery is tried again.
pub const RETRY_MAX_MS: u64 = 60_000;
/// How long one event may claim to lie in the future before it is held back locally (rule L1).
pub const CLOCK_SKEW_MS: u64 = 5 * 60_000;
/// How often a node tells its peers a summary of what it holds.
pub const SUMMARY_INTERVAL_MS: u64 = 10_000;
/// Messages that one history query returns at the most.
pub const HISTORY_MESSAGES: usize = 1000;
/// Bytes of the name of a token or a ticket.
pub const ASSET_NAME_BYTES: usize = 32;
/// Intents that wait in a node for others to be settled with; a further one is refused and counted.
pub const POOLED_INTENTS: usize = 1024;
/// Those of one author among them.
pub const POOLED_INTENTS_OF_ONE: usize = 32;
/// How far ahead an intent that is gossiped may expire; one that would wait longer is refused.
pub const INTENT_LIFETIME_MS: u64 = 30 * 24 * 60 * 60_000;
/// Messages whose text is asked for because it came without; beyond it the one asked for in vain most
/// often is given up, and where there is none such, a further event without its text is refused.
pub const WANTED_PAYLOADS: usize = 4096;
/// Texts that one packet asks for, or has answered.
pub const WANTED_PER_PACKET: usize = 512;
/// Moments at which messages expire that are remembered one by one; what expires after all of them is
/// looked for once a minute.
pub const EXPIRY_MOMENTS: usize = 65_536;
/// Messages that one search returns at the most.
pub const SEARCH_RESULTS: usize = 200;
/// Bytes of an attachment's file name; a longer one is cut.
pub const FILE_NAME_BYTES: usize = 255;
/// Bytes of a media type; a longer one is left out.
pub const MIME_BYTES: usize = 127;
/// Bytes of an attachment's address; one with a longer one has none.
pub const MEDIA_ADDRESS_BYTES: usize = 512;
/// Bytes of an attachment's caption, which its message says twice; a longer one is cut.
pub const CAPTION_BYTES: usize = 8 * 1024;
/// Bytes of a piece of encrypted media that is passed on: it is held whole until it proved to be what it
/// should be. A larger one is refused.
pub const SEALED_MEDIA_BYTES: u64 = 32 * 1024 * 1024;
/// Pieces of encrypted media that are passed on at once.
pub const SEALED_MEDIA_AT_ONCE: usize = 4;
/// Bytes of a piece of media that is passed on to readers beyond its homeserver; a longer one is refused.
pub const MEDIA_BYTES: u64 = 100 * 1024 * 1024;
/// Pieces of media passed on at once; further readers are asked to come again.
pub const MEDIA_AT_ONCE: usize = 32;

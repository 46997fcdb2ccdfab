//! Links to media for readers beyond the homeserver: what a link says, and that nobody else can make
//! one. Facts in, decisions out.
//!
//! A link is `PUBLIC_URL/media/TOKEN`. The token names a message by its room and its event there, says
//! when it ends, and carries a keyed BLAKE3 of all that; the key is derived from the node's secret. It
//! does not repeat the `mxc:` address: an event's id is the hash of its content, so that whoever signs
//! the id signs the address. That keeps links short enough for a line of IRC, and lets the door ask,
//! each time, whether the message is still there: with it goes its link.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | how the event's id is written: 0 as it is, 1 as the 32 bytes behind `$` |
//! | 4 | when the link ends, minutes since 1970, big-endian |
//! | 8 | the room: the beginning of a keyed BLAKE3 of its id |
//! | … | the event's id |
//! | 16 | the beginning of a keyed BLAKE3 of everything before |

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a link lives.
pub const LINK_DAYS: u64 = 30;
/// The path below which links lie.
pub const PATH: &str = "/media/";

const MINUTE_MS: u64 = 60_000;
const ROOM_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + 4 + ROOM_BYTES;
/// Characters of a token; an event's id has 255 bytes at the most.
const TOKEN_CHARS: usize = (HEAD_BYTES + 255 + MAC_BYTES).div_ceil(3) * 4;
/// What a browser may show in place, and no page of it can run a script. Everything else is downloaded.
const SHOWN: [&str; 20] = [
    "image/png",
    "image/apng",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "audio/mp4",
    "audio/mpeg",
    "audio/aac",
    "audio/ogg",
    "audio/webm",
    "audio/wav",
    "audio/wave",
    "audio/x-wav",
    "audio/flac",
    "audio/x-flac",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "text/plain",
];

/// Makes links and reads them.
#[derive(Clone)]
pub struct Links {
    key: [u8; 32],
    /// Without a slash at its end.
    public_url: String,
}

/// What a link that this node signed leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub room: RoomTag,
    pub event_id: String,
    /// It ended by now.
    pub over: bool,
}

/// A room as a link names it: see [`Links::tag`].
pub type RoomTag = [u8; ROOM_BYTES];

impl Links {
    /// Links below an address, signed with a key.
    pub fn new(key: [u8; 32], public_url: &str) -> Self {
        Self { key, public_url: public_url.trim_end_matches('/').to_owned() }
    }

    /// The link to a message's media, from now on for [`LINK_DAYS`].
    pub fn sign(&self, room: &str, event_id: &str, now_ms: u64) -> String {
        let minutes = now_ms / MINUTE_MS + LINK_DAYS * 24 * 60;
        let (form, id) = match hash_of(event_id) {
            Some(hash) => (1, hash),
            None => (0, event_id.as_bytes().to_vec()),
        };
        let mut token = vec![form];
        token.extend(u32::try_from(minutes).unwrap_or(u32::MAX).to_be_bytes());
        token.extend(self.tag(room));
        token.extend(id);
        let mac = self.mac(&token);
        token.extend(mac);
        format!("{}{PATH}{}", self.public_url, URL_SAFE_NO_PAD.encode(token))
    }

    /// What a token leads to; `None` if this node did not sign it.
    pub fn read(&self, token: &str, now_ms: u64) -> Option<Target> {
        let bytes = (token.len() <= TOKEN_CHARS).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten()?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        // Hashes compare in the same time whatever they are.
        if blake3::hash(mac) != blake3::hash(&self.mac(signed)) {
            return None;
        }
        let (head, id) = signed.split_at_checked(HEAD_BYTES)?;
        let minutes = u32::from_be_bytes(head[1..5].try_into().ok()?);
        let event_id = match head[0] {
            1 => format!("${}", URL_SAFE_NO_PAD.encode(id)),
            _ => String::from_utf8(id.to_vec()).ok()?,
        };
        let room = head[5..].try_into().ok()?;
        Some(Target { room, event_id, over: u64::from(minutes) <= now_ms / MINUTE_MS })
    }

    /// A room as links name it.
    pub fn tag(&self, room: &str) -> RoomTag {
        let mut tag = [0; ROOM_BYTES];
        let hash = blake3::Hasher::new_keyed(&self.key).update(b"room").update(room.as_bytes()).finalize();
        tag.copy_from_slice(&hash.as_bytes()[..ROOM_BYTES]);
        tag
    }

    fn mac(&self, signed: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        let hash = blake3::Hasher::new_keyed(&self.key).update(b"link").update(signed).finalize();
        mac.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
        mac
    }
}

/// The hash that the ids of events are, from room version 4 on.
fn hash_of(event_id: &str) -> Option<Vec<u8>> {
    let hash = URL_SAFE_NO_PAD.decode(event_id.strip_prefix('$')?).ok()?;
    (hash.len() == 32).then_some(hash)
}

/// The server and the media id of an `mxc:` address; `None` if it is none.
pub fn mxc(address: &str) -> Option<(&str, &str)> {
    let (server, id) = address.strip_prefix("mxc://")?.split_once('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let good = !server.is_empty() && server.chars().all(host) && !id.is_empty() && id.chars().all(plain);
    good.then_some((server, id))
}

/// The media type to announce, and how a browser is to take it: `inline`, or `attachment` for what might
/// be a page or a script.
pub fn shown_as(mime: &str) -> (&'static str, &'static str) {
    let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match SHOWN.iter().find(|shown| **shown == mime) {
        Some(&"text/plain") => ("text/plain; charset=utf-8", "inline"),
        Some(shown) => (shown, "inline"),
        None => ("application/octet-stream", "attachment"),
    }
}

/// A `Content-Disposition` with a file name (RFC 6266, RFC 8187).
pub fn disposition(how: &str, name: &str) -> String {
    let mut value = format!("{how}; filename*=UTF-8''");
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'-' | b'_' => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const EVENT: &str = "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg";

    fn links() -> Links {
        Links::new([7; 32], "https://chat.example.org/")
    }

    fn token(link: &str) -> &str {
        link.strip_prefix("https://chat.example.org/media/").unwrap()
    }

    #[test]
    fn a_link_leads_to_its_message_until_it_ends() {
        for event in [EVENT, "$1234:example.org", "$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk"] {
            let link = links().sign("!r:x", event, NOW);
            assert!(link.len() < 140, "{link} fits into a line of IRC");
            let read = |at: u64| links().read(token(&link), at);
            let target = Target { room: links().tag("!r:x"), event_id: event.into(), over: false };
            assert_eq!(read(NOW), Some(target.clone()));
            let days = 24 * 60 * MINUTE_MS;
            assert_eq!(read(NOW + (LINK_DAYS - 1) * days), Some(target.clone()));
            assert_eq!(read(NOW + LINK_DAYS * days), Some(Target { over: true, ..target }));
        }
        assert_ne!(links().tag("!r:x"), links().tag("!s:x"));
    }

    #[test]
    fn nobody_else_makes_one() {
        let link = links().sign("!r:x", EVENT, NOW);
        let good = URL_SAFE_NO_PAD.decode(token(&link)).unwrap();
        assert_eq!(Links::new([8; 32], "https://chat.example.org").read(token(&link), NOW), None);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(links().read(&URL_SAFE_NO_PAD.encode(bad), NOW), None, "byte {at}");
            assert_eq!(links().read(&URL_SAFE_NO_PAD.encode(&good[..at]), NOW), None, "cut at {at}");
        }
        for nonsense in ["", "?", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(links().read(nonsense, NOW), None);
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(mxc("mxc://example.org:8448/AbC-_1"), Some(("example.org:8448", "AbC-_1")));
        for bad in [
            "",
            "https://x/1",
            "mxc://x",
            "mxc:///1",
            "mxc://x/",
            "mxc://x/../y",
            "mxc://x/a?b",
            "mxc://a@b/c",
        ] {
            assert_eq!(mxc(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_could_run_is_downloaded() {
        assert_eq!(shown_as("Image/PNG"), ("image/png", "inline"));
        assert_eq!(shown_as("text/plain; charset=x"), ("text/plain; charset=utf-8", "inline"));
        for active in ["text/html", "image/svg+xml", "application/pdf", "application/xhtml+xml", "", "a\r\nb"]
        {
            assert_eq!(shown_as(active), ("application/octet-stream", "attachment"), "{active}");
        }
        assert_eq!(disposition("inline", "cat.jpg"), "inline; filename*=UTF-8''cat.jpg");
        assert_eq!(disposition("attachment", "é\"\r\n"), "attachment; filename*=UTF-8''%C3%A9%22%0D%0A");
    }
}

//! `attachment`: a picture, a sound, a file that somebody sent, as its message carries it: what it is
//! called, what it is, how large, where it lies. The bytes stay where they were uploaded. (That nodes
//! keep replicated copies of them, so that they outlive that homeserver, is a later step.)
//!
//! Whoever cannot show it reads the message's body, which is [`Attachment::line`].

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::base::limits;

/// What an attachment is to those who look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AttachmentKind {
    Image,
    Audio,
    Video,
    File,
    Sticker,
}

/// See the module. Nothing of it is checked against the bytes: it is what the sender said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    pub kind: AttachmentKind,
    /// Of the file, one line; for a sticker, what it shows.
    pub name: String,
    /// `image/png`; empty if nobody said.
    pub mime: String,
    pub bytes: Option<u64>,
    /// Width and height in pixels.
    pub dimensions: Option<(u32, u32)>,
    pub duration_ms: Option<u64>,
    /// What was said with it; may have several lines.
    pub caption: String,
    /// Where it lies: an `mxc:` address. Empty if it has none, or if it is encrypted there, so that
    /// nobody without its room's keys can open it.
    pub address: String,
}

impl Attachment {
    /// What readers see who are not shown the thing itself: `sent an image: cat.jpg (120 KiB, 640×480)`,
    /// then the link where there is one, then the caption.
    pub fn line(&self, link: Option<&str>) -> String {
        let what = match self.kind {
            AttachmentKind::Image => "an image",
            AttachmentKind::Audio => "a sound",
            AttachmentKind::Video => "a video",
            AttachmentKind::File => "a file",
            AttachmentKind::Sticker => "a sticker",
        };
        let facts = [
            self.bytes.map(size),
            self.dimensions.map(|(width, height)| format!("{width}×{height}")),
            self.duration_ms.map(duration),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        let mut line = format!("sent {what}: {}", self.name);
        if !facts.is_empty() && self.kind != AttachmentKind::Sticker {
            let _ = write!(line, " ({})", facts.join(", "));
        }
        if let Some(link) = link {
            let _ = write!(line, " {link}");
        }
        if !self.caption.is_empty() {
            let _ = write!(line, "\n{}", self.caption);
        }
        line
    }

    /// Whether each part is within its bounds.
    pub fn is_well_formed(&self) -> bool {
        let parts = [
            (&self.name, limits::FILE_NAME_BYTES),
            (&self.mime, limits::MIME_BYTES),
            (&self.address, limits::MEDIA_ADDRESS_BYTES),
            (&self.caption, limits::CAPTION_BYTES),
        ];
        parts.iter().all(|(text, bytes)| text.len() <= *bytes)
    }
}

/// A number of bytes as people say it; of a larger unit, one digit after the point below ten.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match tenths {
        0..100 if tenths % 10 != 0 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{} {}", tenths / 10, UNITS[unit]),
    }
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cat() -> Attachment {
        Attachment {
            kind: AttachmentKind::Image,
            name: "cat.jpg".into(),
            mime: "image/jpeg".into(),
            bytes: Some(120 * 1024),
            dimensions: Some((640, 480)),
            duration_ms: None,
            caption: String::new(),
            address: "mxc://x/1".into(),
        }
    }

    #[test]
    fn lines() {
        assert_eq!(cat().line(None), "sent an image: cat.jpg (120 KiB, 640×480)");
        assert_eq!(cat().line(Some("http://h/m")), "sent an image: cat.jpg (120 KiB, 640×480) http://h/m");
        let said = Attachment { caption: "mine\nand yours".into(), dimensions: None, ..cat() };
        assert_eq!(said.line(Some("l")), "sent an image: cat.jpg (120 KiB) l\nmine\nand yours");
        let song = Attachment {
            kind: AttachmentKind::Audio,
            bytes: None,
            duration_ms: Some(63_900),
            ..said.clone()
        };
        assert_eq!(song.line(None), "sent a sound: cat.jpg (1:03)\nmine\nand yours");
        let sticker = Attachment { kind: AttachmentKind::Sticker, name: "a blob".into(), ..cat() };
        assert_eq!(sticker.line(None), "sent a sticker: a blob");
        let bare = Attachment { kind: AttachmentKind::File, bytes: None, dimensions: None, ..cat() };
        assert_eq!(bare.line(None), "sent a file: cat.jpg");
    }

    #[test]
    fn sizes_and_durations() {
        for (bytes, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_000_000, "976 KiB"),
            (1 << 20, "1 MiB"),
            (15 << 30, "15 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), expect);
        }
        assert_eq!(
            (duration(0), duration(3_600_000), duration(3_725_000)),
            ("0:00".into(), "1:00:00".into(), "1:02:05".into())
        );
    }

    #[test]
    fn bounds() {
        assert!(cat().is_well_formed());
        assert!(!Attachment { name: "x".repeat(limits::FILE_NAME_BYTES + 1), ..cat() }.is_well_formed());
        assert!(!Attachment { caption: "x".repeat(limits::CAPTION_BYTES + 1), ..cat() }.is_well_formed());
    }
}

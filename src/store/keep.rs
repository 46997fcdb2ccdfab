//! Copies that can be relied on: backups of the running store, and checking a store through.

use std::path::Path;

use super::{Store, StoreError, create_file};
use crate::replica::{Event, PayloadRef};

/// Events checked at a time.
const PAGE: usize = 1024;

/// What a store was found to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    pub events: u64,
    /// Texts that are there; the others were deleted.
    pub texts: u64,
}

impl Store {
    /// Writes a copy of the store as it is now to a path where there is nothing yet, readable for its
    /// owner alone. Nothing is committed meanwhile. What was deleted is not in the copy.
    ///
    /// # Errors
    /// [`StoreError`]: the path cannot be used, or the disk is full. The copy is then of no use.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let taken = || std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        if to.exists() {
            return Err(StoreError::access(to, &taken()));
        }
        // SQLite takes the empty file for an empty database, so that its mode is right from the start.
        create_file(to).map_err(|error| StoreError::access(to, &error))?;
        let path = to
            .to_str()
            .ok_or_else(|| StoreError::access(to, &std::io::Error::other("the path is not UTF-8")))?;
        self.db.execute("VACUUM INTO ?1", [path]).map_err(|error| StoreError::from(error).at(to))?;
        let copy = std::fs::File::open(to).and_then(|file| file.sync_all());
        copy.map_err(|error| StoreError::access(to, &error))
    }

    /// Opens a store that is there, to be read or checked; [`Store::open`] would make one.
    ///
    /// # Errors
    /// As of [`Store::open`], and where there is none.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(StoreError::access(path, &gone));
        }
        Self::open(path)
    }

    /// [`Store::verify`], and checks of every event that its bytes have the id, the signature and the
    /// text that they should.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first thing found.
    pub fn verify_log(&self) -> Result<Checked, StoreError> {
        self.verify()?;
        let mut checked = Checked::default();
        loop {
            let page = self.events_from(checked.events + 1, PAGE)?;
            if page.is_empty() {
                return Ok(checked);
            }
            for stored in page {
                let damaged = |what: &str| StoreError::Corrupt(format!("event {}: {what}", stored.position));
                let mut event = Event::decode(&stored.signed).map_err(|error| damaged(&error.to_string()))?;
                let id = event.verify().map_err(|error| damaged(&error.to_string()))?;
                if id != stored.id || event.channel() != stored.channel {
                    return Err(damaged("its bytes are not those of its id"));
                }
                if let Some(payload) = &stored.payload {
                    if event.header.payload != Some(PayloadRef::of(payload)) {
                        return Err(damaged("its text is not the one that was signed"));
                    }
                    checked.texts += 1;
                }
                checked.events = stored.position;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::ChannelId;
    use crate::node::{Batch, Keeping, StoredEvent, Write};
    use crate::replica::sample::{Author, founded};
    use crate::store::sample::Directory;

    fn conversation() -> Vec<StoredEvent> {
        let author = Author::new("a");
        let (mut replica, founding) = founded(&author);
        let channel: ChannelId = replica.id();
        let store = |position, event: &Event, payload| StoredEvent {
            position,
            channel,
            id: event.id(),
            signed: event.encode(),
            payload,
            visible: true,
            keeping: Keeping { searchable: true, ..Keeping::default() },
        };
        let mut events = vec![store(1, &founding, None)];
        for position in 2..6 {
            let parcel = author.say(&mut replica, 2_000, &format!("line {position}"));
            events.push(store(position, &parcel.event, parcel.payload));
        }
        events
    }

    #[test]
    fn a_backup_of_a_store_in_use_is_a_store() {
        let scratch = Directory::new();
        let mut store = Store::open(&scratch.0.join("store.db")).unwrap();
        store.commit(&[Batch(conversation().into_iter().map(Write::Event).collect())]).unwrap();
        store.commit(&[Batch(vec![Write::Erase { position: 3 }])]).unwrap();
        let copy = scratch.0.join("copies/copy.db");
        store.backup(&copy).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store.backup(&copy).is_err(), "nothing is overwritten");
        store.commit(&[Batch(vec![Write::Erase { position: 4 }])]).unwrap();
        assert!(!fs::read(&copy).unwrap().windows(6).any(|window| window == b"line 3"));
        let copied = Store::open_existing(&copy).unwrap();
        assert_eq!(copied.verify_log().unwrap(), Checked { events: 5, texts: 3 });
        assert_eq!(copied.search("line", None, 9).unwrap().len(), 3);
        assert!(Store::open_existing(&scratch.0.join("none.db")).is_err());
        assert!(!scratch.0.join("none.db").exists());
    }

    #[test]
    fn an_event_that_was_tampered_with_is_found() {
        for (what, tamper) in [
            ("id", "UPDATE events SET id = randomblob(32) WHERE position = 3"),
            (
                "text",
                "UPDATE events SET payload = (SELECT payload FROM events WHERE position = 4) WHERE position = 3",
            ),
            ("header", "UPDATE events SET signed = CAST(signed || x'00' AS BLOB) WHERE position = 3"),
            (
                "signature",
                "UPDATE events SET signed = CAST(substr(signed, 1, length(signed) - 1) || x'7f' AS BLOB) WHERE position = 3",
            ),
        ] {
            let mut store = Store::in_memory().unwrap();
            store.commit(&[Batch(conversation().into_iter().map(Write::Event).collect())]).unwrap();
            assert_eq!(store.verify_log().unwrap(), Checked { events: 5, texts: 4 });
            store.db.execute_batch(tamper).unwrap();
            let error = store.verify_log().unwrap_err();
            assert!(error.to_string().contains("event 3"), "{what}: {error}");
        }
    }
}

//! Reading the log back at start, on two threads: one reads pages from the store and checks and decodes what
//! is in them, the other takes it into the node. Each page goes back to the thread that made it, to be let go
//! there: freeing what another thread allocates at the same time costs more than the rest of reading it.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::node::{Damaged, Logged, Node, Restored, Setup};
use crate::store::{Store, StoreError};

/// Events of a page.
const PAGE: usize = 1_024;
/// Pages that wait to be taken in.
const AHEAD: usize = 4;

/// Why the log cannot be read back.
#[derive(Debug)]
pub enum Unreadable {
    Store(StoreError),
    Thread(std::io::Error),
    Panicked,
    Damaged(Damaged),
}

/// A page of the log, which goes home when it is dropped.
struct Page {
    events: Vec<Logged>,
    home: Sender<Vec<Logged>>,
}

impl AsRef<[Logged]> for Page {
    fn as_ref(&self) -> &[Logged] {
        &self.events
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // If nobody is at home any more, it ends here.
        drop(self.home.send(std::mem::take(&mut self.events)));
    }
}

/// Makes the node from the log of its store, and what else was read from it.
///
/// # Errors
/// [`Unreadable`].
pub fn load(store: Store, setup: Setup, restored: Restored) -> Result<(Store, Node), Unreadable> {
    let (pages, log) = sync_channel(AHEAD);
    let reader = std::thread::Builder::new().name("log".into()).spawn(move || {
        let read = read(&store, &pages);
        drop(pages);
        (store, read)
    });
    let reader = reader.map_err(Unreadable::Thread)?;
    let node = Node::restore_pages(setup, restored, log.into_iter());
    let (store, read) = reader.join().map_err(|_| Unreadable::Panicked)?;
    read.map_err(Unreadable::Store)?;
    Ok((store, node.map_err(Unreadable::Damaged)?))
}

/// Hands on the log of a store, page by page, to its end or until nobody wants more.
fn read(store: &Store, pages: &SyncSender<Page>) -> Result<(), StoreError> {
    // There are never more pages than those that wait and the one that is taken in.
    let (home, spent): (Sender<Vec<Logged>>, Receiver<Vec<Logged>>) = channel();
    let mut next = 1;
    loop {
        let stored = store.events_from(next, PAGE)?;
        let Some(last) = stored.last() else { return Ok(()) };
        next = last.position + 1;
        let events = stored.into_iter().map(Logged::from).collect();
        if pages.send(Page { events, home: home.clone() }).is_err() {
            return Ok(());
        }
        spent.try_iter().for_each(drop);
    }
}

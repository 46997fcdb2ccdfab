//! What somebody heard, in order, and waiting for more of it. Shared by the demo's people on
//! either side. It never forgets what is still to be read, up to a bound; past it the oldest go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::trouble::Trouble;

/// Entries kept; the oldest are dropped beyond it.
const KEPT: usize = 100_000;

/// A list of entries that one task writes and others read and wait on.
#[derive(Clone, Debug)]
pub struct Journal<T> {
    entries: Arc<Mutex<VecDeque<T>>>,
    written: watch::Sender<u64>,
}

impl<T: Clone> Default for Journal<T> {
    fn default() -> Self {
        Self { entries: Arc::default(), written: watch::Sender::new(0) }
    }
}

impl<T: Clone> Journal<T> {
    /// Adds an entry and wakes whoever waits.
    pub fn write(&self, entry: T) {
        let mut entries = self.lock();
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(entry);
        drop(entries);
        self.written.send_modify(|count| *count += 1);
    }

    /// Everything so far, oldest first.
    pub fn all(&self) -> Vec<T> {
        self.lock().iter().cloned().collect()
    }

    /// The first entry that fits, past or to come.
    ///
    /// # Errors
    /// [`Trouble::Late`], which names what was awaited.
    pub async fn wait_for(
        &self,
        awaited: &str,
        within: Duration,
        fits: impl Fn(&T) -> bool,
    ) -> Result<T, Trouble> {
        let mut written = self.written.subscribe();
        let found = async {
            loop {
                written.mark_unchanged();
                if let Some(entry) = self.lock().iter().find(|entry| fits(entry)) {
                    return entry.clone();
                }
                // The sender lives as long as `self`, so this cannot fail while we wait.
                if written.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let late = |_| Trouble::Late { awaited: awaited.to_owned(), waited_s: within.as_secs() };
        tokio::time::timeout(within, found).await.map_err(late)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_finds_what_was_and_what_will_be() {
        let journal = Journal::default();
        journal.write(1);
        let long = Duration::from_secs(60);
        assert_eq!(journal.wait_for("one", long, |n| *n == 1).await, Ok(1));
        let writer = journal.clone();
        let waiting = tokio::spawn(async move { journal.wait_for("two", long, |n| *n == 2).await });
        writer.write(2);
        assert_eq!(waiting.await.unwrap(), Ok(2));
        let never = writer.wait_for("three", Duration::from_millis(1), |n| *n == 3).await;
        assert_eq!(never.unwrap_err().to_string(), "waited 0 s in vain for three");
        assert_eq!(writer.all(), [1, 2]);
    }
}

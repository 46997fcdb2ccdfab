//! What waits to be sent to one client: bytes, bounded. The hub's side never waits; a client that
//! does not keep up is told so and let go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that may wait for one client.
pub const SEND_QUEUE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of control frames that may wait for one client.
const CONTROL_BYTES: usize = 4096;

/// The queue of one client.
#[derive(Default)]
pub struct SendQueue {
    state: Mutex<State>,
    changed: Notify,
    resumed: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Frames of a WebSocket that are no lines.
    control: Vec<u8>,
    closing: bool,
    drain: bool,
    paused: bool,
}

/// What the writer is to do next.
pub struct Turn {
    pub bytes: Vec<u8>,
    pub control: Vec<u8>,
    /// Close after these.
    pub close: bool,
    /// Say so after these.
    pub report: bool,
}

/// The client is too far behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl SendQueue {
    /// Adds a line, whose CR LF is added here.
    ///
    /// # Errors
    /// [`Full`], and then nothing was added.
    pub fn push(&self, line: &str) -> Result<(), Full> {
        let mut state = self.lock();
        if state.closing {
            return Ok(());
        }
        if state.bytes.len() + line.len() + 2 > SEND_QUEUE_BYTES {
            return Err(Full);
        }
        state.bytes.extend_from_slice(line.as_bytes());
        state.bytes.extend_from_slice(b"\r\n");
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Sends what waits, then closes. Nothing can be added any more.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_one();
    }

    /// Lets go of a client that is too far behind: it gets one line instead of what waits.
    pub fn give_up(&self) {
        let mut state = self.lock();
        state.bytes = b"ERROR :SendQ exceeded\r\n".to_vec();
        state.closing = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for a report once all that waits has left.
    pub fn report_when_empty(&self) {
        self.lock().drain = true;
        self.changed.notify_one();
    }

    /// Waits for something to do.
    pub async fn turn(&self) -> Turn {
        loop {
            {
                let mut state = self.lock();
                if !state.bytes.is_empty() || !state.control.is_empty() || state.closing || state.drain {
                    let bytes = std::mem::take(&mut state.bytes);
                    let control = std::mem::take(&mut state.control);
                    let report = std::mem::take(&mut state.drain);
                    return Turn { bytes, control, close: state.closing, report };
                }
            }
            self.changed.notified().await;
        }
    }

    /// Adds a frame that is no line; what is beyond the bound is dropped.
    pub fn push_control(&self, frame: &[u8]) {
        let mut state = self.lock();
        if state.control.len() + frame.len() <= CONTROL_BYTES {
            state.control.extend_from_slice(frame);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the client is not to be read for a while.
    pub fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        if !paused {
            self.resumed.notify_one();
        }
    }

    /// Waits until the client may be read.
    pub async fn may_read(&self) {
        while self.lock().paused {
            self.resumed.notified().await;
        }
    }

    /// Whether it is to be closed.
    pub fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits until it is to be closed, looking now and then: for a writer that is stuck in a write.
    pub async fn closing(&self) {
        while !self.is_closing() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and bytes have no state that could be half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bounded_and_closed_once() {
        let queue = SendQueue::default();
        let line = "x".repeat(1000);
        let taken = std::iter::repeat_with(|| queue.push(&line)).take_while(Result::is_ok).count();
        assert_eq!(taken, SEND_QUEUE_BYTES / 1002);
        queue.give_up();
        queue.push("late").unwrap();
        let turn = queue.turn().await;
        assert!(turn.close);
        assert!(turn.bytes.ends_with(b"ERROR :SendQ exceeded\r\n") && turn.bytes.len() < 100);
    }
}

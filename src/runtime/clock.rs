//! The one clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::Timestamp;

/// Wall-clock time that never runs backwards while the node runs.
#[derive(Default)]
pub(super) struct Clock {
    latest: Timestamp,
}

impl Clock {
    pub fn now(&mut self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.latest = self.latest.max(Timestamp(since.as_millis() as u64));
        self.latest
    }

    /// How long until a moment.
    pub fn until(&mut self, moment: Timestamp) -> Duration {
        Duration::from_millis(moment.since_ms(self.now()))
    }
}

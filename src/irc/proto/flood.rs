//! A token bucket over lines. It says how long to wait, and never drops anything: a client over
//! its limit is slowed by not being read.

use crate::base::Timestamp;
use crate::base::config::FloodConfig;

/// One client's bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    limit: FloodConfig,
    /// Thousandths of a line.
    tokens: u64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket. A limit of zero in either field counts as one: nobody is locked out.
    pub fn new(limit: FloodConfig, now: Timestamp) -> Self {
        let limit = FloodConfig { burst: limit.burst.max(1), per_second: limit.per_second.max(1) };
        Self { limit, tokens: u64::from(limit.burst) * 1000, at: now }
    }

    /// Takes one line's token, or says after how many milliseconds to ask again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), u64> {
        let rate = u64::from(self.limit.per_second);
        let full = u64::from(self.limit.burst) * 1000;
        let earned = now.since_ms(self.at).saturating_mul(rate);
        self.tokens = self.tokens.saturating_add(earned).min(full);
        self.at = self.at.max(now);
        if self.tokens >= 1000 {
            self.tokens -= 1000;
            return Ok(());
        }
        Err((1000 - self.tokens).div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(FloodConfig { burst: 2, per_second: 4 }, Timestamp(0));
        assert_eq!(bucket.take(Timestamp(0)), Ok(()));
        assert_eq!(bucket.take(Timestamp(0)), Ok(()));
        assert_eq!(bucket.take(Timestamp(0)), Err(250));
        assert_eq!(bucket.take(Timestamp(250)), Ok(()));
        assert_eq!(bucket.take(Timestamp(249)), Err(250), "a clock that steps back earns nothing");
        assert_eq!(bucket.take(Timestamp(60_000)), Ok(()));
        assert_eq!(bucket.take(Timestamp(60_000)), Ok(()));
        assert_eq!(bucket.take(Timestamp(60_000)), Err(250), "never more than the burst");
    }
}

//! Moments as text: the `time` tag of server-time, and the marks that stand in for it. UTC always.

use crate::base::Timestamp;

/// `2026-11-22T21:57:30.123Z` (IRCv3 server-time).
pub fn server_time(at: Timestamp) -> String {
    let (year, month, day) = civil(at);
    let (hour, minute, second) = clock(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", at.0 % 1000)
}

/// `[21:57:30] `, with the date where it is not the day of `now`: what a client without
/// server-time sees before a replayed line.
pub fn mark(at: Timestamp, now: Timestamp) -> String {
    let (hour, minute, second) = clock(at);
    if civil(at) == civil(now) {
        return format!("[{hour:02}:{minute:02}:{second:02}] ");
    }
    let (year, month, day) = civil(at);
    format!("[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}] ")
}

/// `2026-11-22 21:57:30 UTC`, for people.
pub fn plain(at: Timestamp) -> String {
    let (year, month, day) = civil(at);
    let (hour, minute, second) = clock(at);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn clock(at: Timestamp) -> (u64, u64, u64) {
    let seconds = at.0 / 1000 % 86_400;
    (seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The proleptic Gregorian date, by counting days in 400-year eras that begin on 1 March.
fn civil(at: Timestamp) -> (u64, u64, u64) {
    let days = at.0 / 86_400_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(server_time(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(server_time(Timestamp(1_582_934_400_007)), "2020-02-29T00:00:00.007Z");
        assert_eq!(server_time(Timestamp(1_795_384_650_123)), "2026-11-22T21:57:30.123Z");
        assert_eq!(mark(Timestamp(61_000), Timestamp(90_000)), "[00:01:01] ");
        assert_eq!(mark(Timestamp(61_000), Timestamp(86_400_000)), "[1970-01-01 00:01:01] ");
        // No moment, however absurd, overflows.
        let _ = server_time(Timestamp(u64::MAX));
    }
}

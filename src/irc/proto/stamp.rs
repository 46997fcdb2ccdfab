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

/// Reads `2026-11-22T21:57:30.123Z`; fractions and what is before 1970 aside, any real moment.
pub fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 || fraction.is_empty() || number(fraction).is_none()
    {
        return None;
    }
    let milliseconds: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // The inverse of `civil`: days from 1 March of year 0.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp(seconds * 1000 + milliseconds))
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
        for at in [0, 1_582_934_400_007, 1_795_384_650_123, 951_782_400_000, 4_102_444_799_999] {
            assert_eq!(parse(&server_time(Timestamp(at))), Some(Timestamp(at)));
        }
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(Timestamp(1000)));
        for bad in [
            "",
            "2020",
            "2020-13-01T00:00:00Z",
            "2020-01-01T00:00:00",
            "2020-01-01T0x:00:00Z",
            "1969-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        // No moment, however absurd, overflows.
        let _ = server_time(Timestamp(u64::MAX));
    }
}

//! Times as IRC writes them: the `time` tag (IRCv3 server-time) and the mark on late messages.
//! It computes and reads no clock.

use crate::base::Timestamp;

const DAY_MS: u64 = 86_400_000;

/// Reads `2011-10-19T16:40:51.620Z`.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let within = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !within {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = days_before(year) + days_of_year(year, month) + day - 1;
    Some(Timestamp(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + millis))
}

/// Writes `timestamp=2011-10-19T16:40:51.620Z`, as `CHATHISTORY` takes it.
pub(super) fn selector(at: Timestamp) -> String {
    let (year, month, day) = date(at);
    let (second, ms) = (at.0 % DAY_MS / 1000, at.0 % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("timestamp={year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The mark of a message that comes late: `[16:40]`, with the date before it if it is a day old.
/// All in UTC.
pub(super) fn late_mark(said: Timestamp, now: Timestamp) -> String {
    let (hour, minute) = (said.0 % DAY_MS / 3_600_000, said.0 % 3_600_000 / 60_000);
    if now.since_ms(said) < DAY_MS {
        return format!("[{hour:02}:{minute:02}]");
    }
    let (year, month, day) = date(said);
    format!("[{year}-{month:02}-{day:02} {hour:02}:{minute:02}]")
}

/// Year, month and day.
fn date(at: Timestamp) -> (u64, u64, u64) {
    let mut days = at.0 / DAY_MS;
    let mut year = 1970;
    while days >= days_in(year) {
        days -= days_in(year);
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_of_year(year, *month) <= days).unwrap_or(1);
    (year, month, days - days_of_year(year, month) + 1)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_in(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

/// Days from 1970 to the first day of a year.
fn days_before(year: u64) -> u64 {
    (1970..year).map(days_in).sum()
}

/// Days from the first of January to the first of a month.
fn days_of_year(year: u64, month: u64) -> u64 {
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    lengths.iter().take(month as usize - 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_server_time() {
        assert_eq!(parse("2011-10-19T16:40:51.620Z"), Some(Timestamp(1_319_042_451_620)));
        assert_eq!(selector(Timestamp(1_319_042_451_620)), "timestamp=2011-10-19T16:40:51.620Z");
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(Timestamp(0)));
        assert_eq!(parse("2024-02-29T12:00:00.5Z"), Some(Timestamp(1_709_208_000_500)));
        for bad in
            ["", "Z", "2011-13-19T16:40:51Z", "2011-10-19 16:40:51", "x-y-zT1:2:3Z", "2011-10-19T16:40:51.éZ"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn marks_late_messages() {
        let said = parse("2024-02-29T12:05:59Z").unwrap();
        assert_eq!(late_mark(said, said.plus_ms(61_000)), "[12:05]");
        assert_eq!(late_mark(said, said.plus_ms(2 * DAY_MS)), "[2024-02-29 12:05]");
    }
}

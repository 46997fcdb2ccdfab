//! Moments as people and HTTP write them, in UTC. Pure arithmetic; it reads no clock.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: i64 = 86_400;

/// `2026-11-22 21:50:01`, from milliseconds since the Unix epoch.
pub fn stamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX / 2);
    let (year, month, day) = date(seconds.div_euclid(DAY_S));
    let second = seconds.rem_euclid(DAY_S);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Seconds since the Unix epoch of an HTTP date, such as `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110, section 5.6.7; the preferred form alone).
pub fn parse_http_date(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace().skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fits = words.next() == Some("GMT") && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    let fits = fits && (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    fits.then(|| days(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second)
}

/// Days since the Unix epoch. Years begin in March here, so that a leap day is the last of one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The reverse: year, month and day.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_and_stamps_agree() {
        for (http, seconds, shown) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0, "1970-01-01 00:00:00"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777, "1994-11-06 08:49:37"),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799, "2000-02-29 23:59:59"),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(parse_http_date(http), Some(seconds), "{http}");
            assert_eq!(stamp(seconds as u64 * 1000 + 999), shown);
        }
        for bad in
            ["", "now", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nox 1994 08:49:37 GMT", "a b c d e f"]
        {
            assert_eq!(parse_http_date(bad), None, "{bad}");
        }
        stamp(u64::MAX);
    }

    #[test]
    fn every_day_of_eight_centuries_round_trips() {
        for day in -150_000..150_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}

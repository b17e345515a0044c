//! Points in time as RFC 3339 text, in UTC.
//!
//! Must not: know time zones. Tests: at the end of the file.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-21T00:10:24.123456789Z`. Times before 1970 are shown as its first second.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar. Counted in years that begin in March,
/// so that the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    const FOUR_CENTURIES: u64 = 146_097;
    // Days since 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year = (day - day / 1_460 + day / 36_524 - day / (FOUR_CENTURIES - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (951_868_799, 999_999_999, "2000-02-29T23:59:59.999999999Z"),
            (1_709_210_096, 5, "2024-02-29T12:34:56.000000005Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59.000000000Z"),
            (1_735_689_600, 0, "2025-01-01T00:00:00.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, nanoseconds)), text);
        }
    }

    #[test]
    fn each_day_of_two_centuries_follows_the_one_before() {
        let mut before = civil(0);
        for days in 1..80_000 {
            let (year, month, day) = civil(days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if leap { 29 } else { 28 };
            let length = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let (y, m, d) = before;
            let last = if (m, d) == (2, 28) { february == 29 || month == 3 } else { true };
            let next = if day != 1 {
                (y, m, d + 1)
            } else if month != 1 {
                (y, m + 1, 1)
            } else {
                (y + 1, 1, 1)
            };
            assert_eq!((year, month, day), next);
            assert!(last && day <= length[usize::try_from(month - 1).expect("a month")]);
            before = (year, month, day);
        }
    }
}

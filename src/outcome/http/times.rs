//! The forms in which headers state a time: seconds, durations as Go writes them, moments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The least number that is a moment: seconds since 1970. As seconds from now, it would be 31 years.
const FIRST_UNIX_SECONDS: f64 = 1e9;
/// The least number that is a moment in milliseconds. As seconds, it would be the year 5138.
const FIRST_UNIX_MILLIS: f64 = 1e11;
/// Beyond it, a number is no moment in milliseconds either.
const LAST_UNIX_MILLIS: f64 = 1e14;

/// Returns a value without the spaces around it. `None` if it is no text.
pub(super) fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().map(str::trim)
}

/// Returns the time from `now` until what a text states; zero if that has passed. `None` if it has none of the forms:
///
/// | form | example |
/// |---|---|
/// | seconds | `30`, `1.5` |
/// | duration, as Go writes it | `6m0s`, `250ms`, `1h2m3.5s` |
/// | Unix time in seconds or milliseconds | `1700000000`, `1700000000000` |
/// | RFC 3339 | `2026-01-02T03:04:05Z` |
/// | HTTP date | `Sun, 06 Nov 1994 08:49:37 GMT` |
pub(super) fn time_until(text: &str, now: SystemTime) -> Option<Duration> {
    let until = |moment: SystemTime| moment.duration_since(now).unwrap_or_default();
    match number(text) {
        Some(seconds) if seconds < FIRST_UNIX_SECONDS => Some(saturating(seconds)),
        Some(seconds) if seconds < FIRST_UNIX_MILLIS => Some(until(UNIX_EPOCH + saturating(seconds))),
        Some(millis) if millis < LAST_UNIX_MILLIS => Some(until(UNIX_EPOCH + saturating(millis / 1e3))),
        Some(_) => None,
        None => go_duration(text).or_else(|| {
            let moment = rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok());
            moment.map(until)
        }),
    }
}

/// Returns a number of this many seconds as a duration.
pub(super) fn decimal(text: &str, seconds: f64) -> Option<Duration> {
    number(text).map(|number| saturating(number * seconds))
}

/// Parses digits with at most one point: neither a sign, nor an exponent, nor a name.
pub(super) fn number(text: &str) -> Option<f64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { text.parse().ok() } else { None }
}

fn saturating(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Parses numbers with units, such as `1h2m3.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (None, text);
    while !rest.is_empty() {
        let is_of_number = |char: char| char.is_ascii_digit() || char == '.';
        let (number, after) = rest.split_at(rest.find(|char| !is_of_number(char))?);
        let (unit, after) = after.split_at(after.find(is_of_number).unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            // Both signs for micro.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            // Not of Go, but of some services.
            "d" => 86_400.0,
            _ => return None,
        };
        total = Some(decimal(number, seconds)?.saturating_add(total.unwrap_or_default()));
        rest = after;
    }
    total
}

/// Parses a date of RFC 3339. One before 1970 is 1970, since both have passed.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (head, rest) = text.split_at_checked(19).filter(|(head, _)| head.is_ascii())?;
    let digits = |range: std::ops::Range<usize>| -> Option<u32> {
        let digits = &head[range];
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separators = [4, 7, 10, 13, 16].map(|at| head.as_bytes()[at]);
    let is_separated = matches!(separators, [b'-', b'-', b'T' | b't' | b' ', b':', b':']);
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let is_in_range = (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_separated || !is_in_range {
        return None;
    }
    let (fraction, offset) = match rest.strip_prefix('.') {
        None => (0.0, rest),
        Some(rest) => {
            let (digits, offset) = rest.split_at(rest.find(|char: char| !char.is_ascii_digit())?);
            (number(digits).filter(|_| !digits.is_empty()).map(|_| number(&format!("0.{digits}")))??, offset)
        }
    };
    let offset = seconds_of_offset(offset)?;
    let seconds =
        i64::from(days_since_1970(year, month, day)) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second) - offset;
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since + saturating(fraction))
}

/// Parses `Z` or an offset such as `+01:00`.
fn seconds_of_offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let parse = |digits: &str, below: i64| number(digits).map(|it| it as i64).filter(|it| *it < below);
    let has_point = rest.contains('.');
    Some(sign * (parse(hours, 24)? * 3_600 + parse(minutes, 60)? * 60)).filter(|_| !has_point)
}

/// The days of a month; 0 if there is no such month.
fn days_in(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => 0,
    }
}

/// The days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: u32, month: u32, day: u32) -> i32 {
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year as i32, month - 3) } else { (year as i32 - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // 719,468 days from the March of year 0 to 1970.
    year * 365 + leap_days + day_of_year as i32 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-01-02 03:04:05.
    const NOW: u64 = 1_767_323_045;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn read(text: &str) -> Option<u128> {
        time_until(text, now()).map(|time| time.as_millis())
    }

    // C52, C71
    #[test]
    fn every_form_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("1.5", 1_500),
            (".5", 500),
            ("6m0s", 360_000),
            ("1s", 1_000),
            ("250ms", 250),
            ("1h2m3.5s", 3_723_500),
            ("7.66s", 7_660),
            ("88\u{b5}s", 0),
            ("1d", 86_400_000),
            ("1767323105", 60_000),
            ("1767323105.25", 60_250),
            ("1767323105250", 60_250),
            ("2026-01-02T03:05:05Z", 60_000),
            ("2026-01-02t03:05:05.250z", 60_250),
            ("2026-01-02 04:05:05+01:00", 60_000),
            ("2026-01-01T19:35:05-07:30", 60_000),
            ("Fri, 02 Jan 2026 03:05:05 GMT", 60_000),
            ("2024-02-29T00:00:00Z", 0),
            ("0000-01-01T00:00:00Z", 0),
            ("1000000000", 0),
            ("1000000000000", 0),
        ] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
    }

    // C52, C58
    #[test]
    fn garbage_is_ignored() {
        for text in [
            "",
            ".",
            "1.2.3",
            "-1",
            "+5",
            "1e9",
            "inf",
            "NaN",
            "0x10",
            "soon",
            "s",
            "1x",
            "5 s",
            "1h2",
            "h1",
            "1sm",
            "99999999999999999999",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:05:05",
            "2026-01-02T03:05:05+1:00",
            "2026-01-02T03:05:05+24:00",
            "2026-01-02T03:05:05.Z",
            "2026-01-02T03:05:05Zx",
            "2026-01-0\u{e9}T03:05:05Z",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        // C58
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), now in any::<u32>()) {
            let _ = time_until(&text, UNIX_EPOCH + Duration::from_secs(now.into()));
        }

        // C58
        #[test]
        fn nearly_right_texts_do_not_make_it_panic(text in "[0-9.:TZ+hmsdun -]{0,40}", now in any::<u32>()) {
            let _ = time_until(&text, UNIX_EPOCH + Duration::from_secs(now.into()));
        }

        // C52
        #[test]
        fn durations_survive_the_round_trip(hours in 0..100_000_u64, minutes in 0..60_u64, millis in 0..60_000_u64) {
            let text = format!("{hours}h{minutes}m{}.{:03}s", millis / 1_000, millis % 1_000);
            prop_assert_eq!(read(&text), Some(u128::from(((hours * 60 + minutes) * 60_000) + millis)));
        }

        // C52: HTTP dates are converted by another implementation.
        #[test]
        fn both_kinds_of_dates_agree(seconds in 0u64..253_402_300_800) {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            let http = httpdate::HttpDate::from(moment).to_string();
            let (day, month, year, time) = (&http[5..7], &http[8..11], &http[12..16], &http[17..25]);
            const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = MONTHS.find(month).unwrap() / 3 + 1;
            prop_assert_eq!(rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")), Some(moment));
        }

        // C52
        #[test]
        fn unix_times_are_read_in_seconds_and_milliseconds(ahead in 0..1_000_000_000_u64) {
            let ahead_of = Some(u128::from(ahead) * 1_000);
            prop_assert_eq!(read(&(NOW + ahead).to_string()), ahead_of);
            prop_assert_eq!(read(&((NOW + ahead) * 1_000).to_string()), ahead_of);
        }
    }
}

//! `Retry-After`, and its counterpart in gRPC.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

/// Parses a `Retry-After` value: seconds, or a date in any of the three forms of RFC 9110, 5.6.7.
///
/// Returns zero for a date in the past, `u64::MAX` seconds for a number that is too large, and `None` for anything
/// else.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use http::HeaderValue;
/// use tower_fleet::outcome::retry_after;
///
/// let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
/// let read = |value| retry_after(&HeaderValue::from_static(value), now);
/// assert_eq!(read("120"), Some(Duration::from_secs(120)));
/// assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
/// assert_eq!(read("tomorrow"), None);
/// ```
pub fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits, so the only possible error is overflow.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The time after which the backend wants the next request, by the headers or trailers of a response.
///
/// gRPC servers send `grpc-retry-pushback-ms`. A negative number there means "do not retry" (gRFC A6) and is ignored,
/// since a classifier does not decide that. A date is compared with the `Date` of the response, if it has one, so that
/// the clock of the backend may differ from ours.
pub(super) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    if let Some(pushback) = headers.get("grpc-retry-pushback-ms") {
        return Some(Duration::from_millis(pushback.to_str().ok()?.trim().parse().ok()?));
    }
    let value = headers.get(header::RETRY_AFTER)?;
    retry_after(value, date(headers).unwrap_or_else(SystemTime::now))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    /// 1994-11-06 08:49:37, the example of RFC 9110.
    const EXAMPLE: u64 = 784_111_777;

    const MONTHS: [&str; 13] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Smarch"];

    fn read(value: &str, now: u64) -> Option<u64> {
        let value = HeaderValue::from_str(value).unwrap();
        retry_after(&value, UNIX_EPOCH + Duration::from_secs(now)).map(|delay| delay.as_secs())
    }

    #[test]
    fn seconds_and_the_three_forms_of_a_date_are_parsed() {
        // C52
        assert_eq!(read("0", 0), Some(0));
        assert_eq!(read("007", 0), Some(7));
        assert_eq!(read(" 3600 ", 0), Some(3600));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date, EXAMPLE - 90), Some(90), "{date}");
            assert_eq!(read(date, EXAMPLE), Some(0), "{date}");
            assert_eq!(read(date, EXAMPLE + 1), Some(0), "{date} has passed");
        }
    }

    #[test]
    fn large_numbers_saturate_and_other_text_is_ignored() {
        // C52, C58
        assert_eq!(read("99999999999999999999999999", 0), Some(u64::MAX));
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT", 0).is_some());
        for garbage in
            ["", " ", "-1", "+5", "1.5", "5s", "0x10", "tomorrow", "Sun, 31 Feb 1999 08:49:37 GMT", "Sun, 06 Nov 1994"]
        {
            assert_eq!(read(garbage, 0), None, "{garbage}");
        }
        assert_eq!(retry_after(&HeaderValue::from_bytes(b"12\xff").unwrap(), UNIX_EPOCH), None);
    }

    #[test]
    fn a_date_is_compared_with_the_date_of_the_response() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(from_headers(&headers), Some(Duration::ZERO));
        headers.insert(header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:07 GMT"));
        assert_eq!(from_headers(&headers), Some(Duration::from_secs(30)));
    }

    #[test]
    fn grpc_pushback_is_parsed_unless_negative() {
        let pushback = |value| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-retry-pushback-ms", HeaderValue::from_static(value));
            from_headers(&headers)
        };
        assert_eq!(pushback("250"), Some(Duration::from_millis(250)));
        assert_eq!(pushback("-1"), None);
        assert_eq!(pushback("soon"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), now in any::<u32>(),
        ) {
            // C58
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = retry_after(&value, UNIX_EPOCH + Duration::from_secs(now.into()));
            }
        }

        #[test]
        fn no_date_makes_it_panic(
            form in 0u8..3, month in 0usize..13, (day, year) in (0u32..40, 0u32..10_010),
            (h, m, s) in (0u32..30, 0u32..70, 0u32..70),
        ) {
            // C58
            let month = MONTHS[month];
            let date = match form {
                0 => format!("Sun, {day:02} {month} {year:04} {h:02}:{m:02}:{s:02} GMT"),
                1 => format!("Sunday, {day:02}-{month}-{:02} {h:02}:{m:02}:{s:02} GMT", year % 100),
                _ => format!("Sun {month} {day:2} {h:02}:{m:02}:{s:02} {year:04}"),
            };
            let _ = read(&date, 0);
        }

        #[test]
        fn dates_survive_the_round_trip(
            seconds in 0u64..253_402_300_800, now in 0u64..253_402_300_800,
        ) {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            prop_assert_eq!(read(&date, now), Some(seconds.saturating_sub(now)));
        }
    }
}

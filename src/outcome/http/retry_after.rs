//! The times that responses name: `Retry-After` and its relatives, rate limits, and the pushback of gRPC.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    super::{Failure, FailureKind, Headroom},
    rate_limits,
    times::{decimal, text, time_until},
};

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

/// Reads the time that a failed response names.
pub(super) type NamedTime = fn(StatusCode, &HeaderMap) -> Option<Duration>;

/// The failure, with what the headers or trailers of its response state about a retry: a time after which the backend
/// wants the next request, or that the request must not be sent again.
///
/// In this order: `grpc-retry-pushback-ms`, which is about this request only; `retry-after-ms`; `Retry-After`; and for a
/// response that throttles, the [reset](rate_limits::reset) of its rate limit, which others state too although they were
/// not rejected by it. A date is compared with the `Date` of the response, if it has one, so that the clock of the
/// backend may differ from ours.
pub(super) fn with_headers(failure: Failure, headers: &HeaderMap) -> Failure {
    let mut pushbacks = headers.get_all("grpc-retry-pushback-ms").iter();
    if let Some(first) = pushbacks.next() {
        return match pushback(first).filter(|_| pushbacks.next().is_none()) {
            Some(delay) => failure.pushback(delay),
            None => failure.no_retry(),
        };
    }
    failure.retry_after(named_time(failure.kind(), headers))
}

/// The time that the headers of a failed response name. Garbage is ignored.
fn named_time(kind: FailureKind, headers: &HeaderMap) -> Option<Duration> {
    let now = || date(headers).unwrap_or_else(SystemTime::now);
    let millis = headers.get("retry-after-ms").and_then(|value| decimal(text(value)?, 1e-3));
    let seconds = || {
        let value = headers.get(header::RETRY_AFTER)?;
        // Some services send what the specification of `Retry-After` does not allow, such as 1.5.
        retry_after(value, now()).or_else(|| time_until(text(value)?, now()))
    };
    let reset = || if kind.is_of_quota() { rate_limits::reset(headers, now()) } else { None };
    millis.or_else(seconds).or_else(reset)
}

/// The delay of a pushback. `None` if the server states that the request must not be sent again: if the value is not a
/// signed 32-bit integer, or negative (gRFC A6).
fn pushback(value: &HeaderValue) -> Option<Duration> {
    let millis: i32 = value.to_str().ok()?.trim().parse().ok()?;
    u64::try_from(millis).ok().map(Duration::from_millis)
}

/// Returns the limit of the backend with the least left that a response states, and when that is whole again.
pub(super) fn headroom(headers: &HeaderMap) -> Option<Headroom> {
    rate_limits::headroom(headers, || date(headers).unwrap_or_else(SystemTime::now))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderName;
    use proptest::prelude::*;

    use super::{super::super::FailureKind, *};

    /// 1994-11-06 08:49:37, the example of RFC 9110.
    const EXAMPLE: u64 = 784_111_777;

    const MONTHS: [&str; 13] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Smarch"];

    fn read(value: &str, now: u64) -> Option<u64> {
        let value = HeaderValue::from_str(value).unwrap();
        retry_after(&value, UNIX_EPOCH + Duration::from_secs(now)).map(|delay| delay.as_secs())
    }

    fn failure(headers: &HeaderMap) -> Failure {
        with_headers(FailureKind::Grpc(14).into(), headers)
    }

    fn delay(headers: &HeaderMap) -> Option<Duration> {
        failure(headers).retry_delay()
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

    // C52, C71
    #[test]
    fn explicit_times_take_precedence_over_resets() {
        let read = |kind: FailureKind, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            with_headers(kind.into(), &headers).named_time().map(|time| time.as_millis())
        };
        let throttled = FailureKind::Status(429);
        let (millis, seconds) = (("retry-after-ms", "1500.5"), ("retry-after", "2"));
        let reset = [("x-ratelimit-reset-requests", "6m0s"), ("x-ratelimit-remaining-requests", "0")];
        assert_eq!(read(throttled, &[millis, seconds, reset[0], reset[1]]), Some(1_500));
        assert_eq!(read(throttled, &[("retry-after-ms", "soon"), seconds, reset[0], reset[1]]), Some(2_000));
        assert_eq!(read(throttled, &[("retry-after", "soon"), reset[0], reset[1]]), Some(360_000));
        assert_eq!(read(throttled, &[("retry-after", "0"), reset[0], reset[1]]), None, "at once");
        assert_eq!(read(throttled, &[("retry-after", "1.5")]), Some(1_500));
        // Every response of such a service states its rate limits.
        assert_eq!(read(FailureKind::Status(500), &reset), None);
        assert_eq!(read(FailureKind::Status(500), &[seconds, reset[0], reset[1]]), Some(2_000));
        assert_eq!(read(FailureKind::Grpc(8), &reset), Some(360_000));
        assert_eq!(read(throttled, &[("grpc-retry-pushback-ms", "250"), seconds]), None, "for this request only");
        // C58: ten years are ten years here; a fleet caps them.
        assert_eq!(read(throttled, &[("retry-after", "315360000")]), Some(315_360_000_000));
        let date = ("date", "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(read(throttled, &[date, ("x-ratelimit-reset", "2026-01-02T03:05:05Z")]), Some(60_000));
    }

    #[test]
    fn a_date_is_compared_with_the_date_of_the_response() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(delay(&headers), Some(Duration::ZERO));
        headers.insert(header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:07 GMT"));
        assert_eq!(delay(&headers), Some(Duration::from_secs(30)));
    }

    /// The headers of a response with these pushbacks.
    fn with_pushbacks(values: &[&[u8]]) -> HeaderMap {
        let value = |value: &&[u8]| HeaderValue::from_bytes(value).unwrap();
        values.iter().map(|bytes| (HeaderName::from_static("grpc-retry-pushback-ms"), value(bytes))).collect()
    }

    // C52
    #[test]
    fn a_pushback_is_a_delay_or_forbids_a_retry() {
        let read = |values: &[&[u8]]| {
            let failure = failure(&with_pushbacks(values));
            (failure.retry_delay().map(|delay| delay.as_millis()), failure.forbids_retry())
        };
        for (value, delay) in [("0", 0), ("250", 250), (" 250 ", 250), ("007", 7), ("2147483647", 2_147_483_647)] {
            assert_eq!(read(&[value.as_bytes()]), (Some(delay), false), "{value}");
        }
        for value in ["-1", "-2147483648", "-99999999999", "2147483648", "soon", "1.5", "5s", "0x10", "- 1", "", " "] {
            assert_eq!(read(&[value.as_bytes()]), (None, true), "{value}");
        }
        assert_eq!(read(&[b"1\xff"]), (None, true), "not a text");
        assert_eq!(read(&[b"1", b"1"]), (None, true), "more than one");
        assert_eq!(read(&[]), (None, false));
    }

    // C52
    #[test]
    fn a_pushback_takes_precedence_over_a_retry_after() {
        for (pushback, expected) in [("250", (Some(Duration::from_millis(250)), false)), ("-1", (None, true))] {
            let mut headers = with_pushbacks(&[pushback.as_bytes()]);
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("9"));
            let failure = failure(&headers);
            assert_eq!((failure.retry_delay(), failure.forbids_retry()), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), now in any::<u32>(),
        ) {
            // C58
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = retry_after(&value, UNIX_EPOCH + Duration::from_secs(now.into()));
                let failure = failure(&with_pushbacks(&[value.as_bytes()]));
                prop_assert!(failure.forbids_retry() || failure.retry_delay().is_some());
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

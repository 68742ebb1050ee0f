//! What a response states of the rate limits of its backend.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use super::times::{decimal, number, text, time_until};

/// One rate limit, as a response states it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    /// What is left of it, if that is stated.
    remaining: Option<f64>,
    /// The time until it is whole again.
    reset: Duration,
}

/// Returns the time until the rate limit that is used up is whole again; of several, the last one. `None` if no header
/// states one that is ahead.
///
/// | headers | of |
/// |---|---|
/// | `x-ratelimit-reset`, `x-ratelimit-reset-requests`, `-tokens` and others | most APIs |
/// | `anthropic-ratelimit-requests-reset`, `-tokens-` and others | Anthropic |
/// | `ratelimit-reset`, and `RateLimit` in both its forms | the IETF drafts |
///
/// A limit with a `remaining` of 0 is used up. Without any of those, each limit that states no `remaining` may be the
/// one. What a limit with a rest states is no time after which the request would be served: another limit rejected it,
/// or the request is larger than the rest.
pub(super) fn reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let (mut exhausted, mut unmarked) = (None, None);
    let mut add = |Limit { remaining, reset }: Limit| {
        let latest = match remaining {
            Some(0.0) => &mut exhausted,
            None => &mut unmarked,
            Some(_) => return,
        };
        if !reset.is_zero() {
            *latest = (*latest).max(Some(reset));
        }
    };
    for (name, value) in headers {
        let Some(value) = text(value) else { continue };
        if name == "ratelimit" {
            structured(value).for_each(&mut add);
        } else if let Some(remaining) = name_of_remaining(name)
            && let Some(reset) = time_until(value, now)
        {
            let remaining = headers.get(remaining).and_then(|value| number(text(value)?));
            add(Limit { remaining, reset });
        }
    }
    exhausted.or(unmarked)
}

/// The name of the header with the rest of the limit whose reset is in this one. `None` if this one has no reset.
fn name_of_remaining(name: &HeaderName) -> Option<String> {
    let name = name.as_str();
    if let Some(of) = name.strip_prefix("x-ratelimit-reset") {
        return (of.is_empty() || of.starts_with('-')).then(|| format!("x-ratelimit-remaining{of}"));
    }
    if name == "ratelimit-reset" {
        return Some("ratelimit-remaining".into());
    }
    let of = name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-reset")?;
    Some(format!("anthropic-ratelimit-{of}-remaining"))
}

/// The limits of a `RateLimit` field: `"name";r=0;t=30` for each, or `limit=10, remaining=0, reset=30` in the older
/// form.
fn structured(value: &str) -> impl Iterator<Item = Limit> {
    // Without the names, which may contain any separator.
    let value: String = value.split('"').step_by(2).collect();
    let (mut limits, mut older) = (Vec::new(), (None, None));
    for item in value.split(',') {
        let (mut remaining, mut reset) = (None, None);
        for (key, value) in item.split(';').filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim();
            match key.trim() {
                "r" => remaining = number(value),
                "t" => reset = decimal(value, 1.0),
                "remaining" => older.0 = number(value),
                "reset" => older.1 = decimal(value, 1.0),
                _ => {}
            }
        }
        limits.extend(reset.map(|reset| Limit { remaining, reset }));
    }
    limits.extend(older.1.map(|reset| Limit { remaining: older.0, reset }));
    limits.into_iter()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Option<u128> {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a valid value"))
        };
        // 2026-01-02 03:04:05.
        let now = UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        reset(&headers.iter().map(header).collect(), now).map(|time| time.as_millis())
    }

    // C71
    #[test]
    fn of_several_limits_the_one_that_is_used_up_counts() {
        let tokens = [("x-ratelimit-reset-tokens", "6m0s"), ("x-ratelimit-remaining-tokens", "149984")];
        let requests = [("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-remaining-requests", "0")];
        assert_eq!(read(&[tokens, requests].concat()), Some(1_000));
        assert_eq!(read(&tokens), None, "another limit rejected the request");
        assert_eq!(read(&[tokens[0], requests[0]]), Some(360_000), "either may be used up");
        assert_eq!(read(&[tokens[0], requests[0], requests[1]]), Some(1_000));
        let days = [("x-ratelimit-reset-requests-day", "3600"), ("x-ratelimit-remaining-requests-day", "0")];
        assert_eq!(read(&[requests, days].concat()), Some(3_600_000), "both must be whole again");
        assert_eq!(read(&[("x-ratelimit-reset", "1767323105"), ("x-ratelimit-remaining", "0")]), Some(60_000));
        assert_eq!(read(&[("x-ratelimit-reset", "1767323044"), ("x-ratelimit-remaining", "0")]), None, "has passed");
        assert_eq!(read(&[("x-ratelimit-resets", "5")]), None);
    }

    // C71
    #[test]
    fn limits_of_anthropic_and_of_the_drafts_are_read() {
        let input = ("anthropic-ratelimit-input-tokens-reset", "2026-01-02T03:05:05Z");
        assert_eq!(read(&[input, ("anthropic-ratelimit-input-tokens-remaining", "0")]), Some(60_000));
        assert_eq!(read(&[input, ("anthropic-ratelimit-input-tokens-remaining", "1000")]), None);
        assert_eq!(read(&[("ratelimit-reset", "30"), ("ratelimit-remaining", "0")]), Some(30_000));
        for (field, millis) in [
            ("\"default\";r=0;t=30", Some(30_000)),
            ("default;t=30;r=0", Some(30_000)),
            ("\"a,b;t=9\";r=50;t=2, \"daily\";r=0;t=5", Some(5_000)),
            ("\"burst\";r=5;t=2", None),
            ("\"burst\";t=2", Some(2_000)),
            ("limit=100, remaining=0, reset=50", Some(50_000)),
            ("limit=100, remaining=50, reset=50", None),
            ("limit=100;w=60, reset=50", Some(50_000)),
            ("\"default\";r=0;t=-3", None),
            ("\"default;r=0;t=3", None),
            (";;;,,,=,t=,r=;=", None),
        ] {
            assert_eq!(read(&[("ratelimit", field)]), millis, "{field}");
        }
    }

    proptest! {
        // C58
        #[test]
        fn no_headers_make_it_panic(
            headers in proptest::collection::vec(
                (
                    prop_oneof![
                        Just("x-ratelimit-reset"), Just("x-ratelimit-remaining"), Just("x-ratelimit-reset-tokens"),
                        Just("x-ratelimit-remaining-tokens"), Just("anthropic-ratelimit-requests-reset"),
                        Just("anthropic-ratelimit--reset"), Just("ratelimit-reset"), Just("ratelimit"),
                    ],
                    prop_oneof![
                        any::<Vec<u8>>(),
                        "[\"a=rt;,.0-9 -]{0,40}".prop_map(String::into_bytes),
                    ],
                ),
                0..8,
            ),
            now in any::<u32>(),
        ) {
            let header = |(name, value): &(&'static str, Vec<u8>)| {
                Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
            };
            let headers = headers.iter().filter_map(header).collect();
            let found = reset(&headers, UNIX_EPOCH + Duration::from_secs(now.into()));
            prop_assert!(found.is_none_or(|time| !time.is_zero()));
        }
    }
}

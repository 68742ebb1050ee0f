use std::time::UNIX_EPOCH;

use http::HeaderName;
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

fn left(headers: &[(&'static str, &str)]) -> Option<(f64, Option<u64>)> {
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a valid value"))
    };
    let now = || UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    let found = headroom(&headers.iter().map(header).collect(), now)?;
    Some((found.left(), found.reset().map(|time| time.as_secs())))
}

// C71
#[test]
fn the_limit_with_the_least_left_counts_with_its_reset() {
    let tokens = [
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-tokens", "15000"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ];
    let requests = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    ];
    assert_eq!(left(&[tokens, requests].concat()), Some((0.1, Some(360))));
    assert_eq!(left(&[requests, tokens].concat()), Some((0.1, Some(360))));
    assert_eq!(left(&requests[..2]), Some((59.0 / 60.0, None)), "the reset of another limit is not its own");
    // Both have to be whole again.
    let none = ("x-ratelimit-remaining-requests", "0");
    let both = [none, requests[2], ("x-ratelimit-remaining-tokens", "0"), tokens[2]];
    assert_eq!(left(&both), Some((0.0, Some(360))));
    let unix = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "50"), ("x-ratelimit-reset", "1767323105")];
    assert_eq!(left(&unix), Some((0.01, Some(60))));
    let date = ("anthropic-ratelimit-input-tokens-reset", "2026-01-02T03:05:05Z");
    let limit = ("anthropic-ratelimit-input-tokens-limit", "80000");
    let rest = ("anthropic-ratelimit-input-tokens-remaining", "4000");
    assert_eq!(left(&[date, limit, rest]), Some((0.05, Some(60))));
    // With its window, as registries of images state it.
    let window = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "5;w=21600"), ("ratelimit-reset", "9")];
    assert_eq!(left(&window), Some((0.05, Some(9))));
}

// C71
#[test]
fn both_forms_of_the_draft_state_a_headroom() {
    for (field, policy, expected) in [
        ("limit=100, remaining=5, reset=50", "", Some((0.05, Some(50)))),
        ("limit=100;w=60, remaining=5", "", Some((0.05, None))),
        ("remaining=5, reset=50", "", None),
        ("\"default\";r=5;t=30", "\"default\";q=100;w=60", Some((0.05, Some(30)))),
        ("default;r=5;t=30", "default;q=100", Some((0.05, Some(30)))),
        ("\"b\";r=50;t=1,\"d\";r=9;t=8", "\"b\";q=100;w=1, \"d\";q=900;w=86400", Some((0.01, Some(8)))),
        ("\"a=b,c;d\";r=5;t=30", "\"a=b,c;d\";w=9;q=100", Some((0.05, Some(30)))),
        ("\"burst\";r=5;t=30", "\"daily\";q=100", None),
        ("\"burst\";r=0;t=30", "\"daily\";q=100", Some((0.0, Some(30)))),
        ("\"default\";r=5;t=30", "\"default\";q=0", None),
        ("\"default\";r=5;t=30", "\"default\";q=soon", None),
        ("\"default;r=5;t=30", "\"default;q=100", None),
        (";;;,,,=,t=,r=;=", ";;;,,,=,q=;", None),
    ] {
        assert_eq!(left(&[("ratelimit", field), ("ratelimit-policy", policy)]), expected, "{field} {policy}");
    }
}

// C58, C71
#[test]
fn what_states_no_headroom_is_ignored() {
    let million = "9".repeat(1_000_000);
    let zeros = "0".repeat(1_000_000);
    for (limit, remaining, expected) in [
        ("100", "100", Some(1.0)),
        ("100", "101", Some(1.0)),
        ("100", million.as_str(), Some(1.0)),
        (million.as_str(), "5", None),
        (million.as_str(), million.as_str(), None),
        (zeros.as_str(), zeros.as_str(), None),
        ("100", zeros.as_str(), Some(0.0)),
        ("0", "0", None),
        ("0", "5", None),
        ("-100", "5", None),
        ("100", "-5", None),
        ("100", "1e-3", None),
        ("1e999", "5", None),
        ("inf", "5", None),
        ("NaN", "5", None),
        ("100", "NaN", None),
        ("100", "", None),
        ("", "5", None),
        ("100", ".", None),
        ("100", "1.2.3", None),
        ("100", " 5 ", Some(0.05)),
    ] {
        let found = left(&[("x-ratelimit-limit", limit), ("x-ratelimit-remaining", remaining)]);
        assert_eq!(found.map(|(left, _)| left), expected, "{:.9} {:.9}", limit, remaining);
    }
    assert_eq!(left(&[("x-ratelimit-remaining", "5")]), None, "of no limit");
    assert_eq!(left(&[("x-ratelimit-remainings", "0")]), None);
    assert_eq!(left(&[("x-rate-limit-remaining", "0")]), None);
    let long = "x-ratelimit-remaining-".to_owned() + &"a".repeat(10_000);
    let headers = [(HeaderName::try_from(long).expect("a name"), HeaderValue::from_static("0"))];
    assert_eq!(headroom(&headers.into_iter().collect(), || UNIX_EPOCH).map(Headroom::left), Some(0.0));
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
                    Just("x-ratelimit-limit"), Just("anthropic-ratelimit-requests-remaining"),
                    Just("anthropic-ratelimit-requests-limit"), Just("ratelimit-limit"), Just("ratelimit-policy"),
                ],
                prop_oneof![
                    any::<Vec<u8>>(),
                    "[\"a=rqt;,.0-9 -]{0,40}".prop_map(String::into_bytes),
                    "[0-9]{1,400}".prop_map(String::into_bytes),
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
        let now = UNIX_EPOCH + Duration::from_secs(now.into());
        let found = reset(&headers, now);
        prop_assert!(found.is_none_or(|time| !time.is_zero()));
        let found = headroom(&headers, || now);
        prop_assert!(found.is_none_or(|found| (0.0..=1.0).contains(&found.left())));
    }

    // C71
    #[test]
    fn what_is_left_is_the_least_of_all_limits(
        limits in proptest::collection::vec((1..1_000_000_u32, 0..1_000_000_u32, 0..100_000_u32), 1..6),
    ) {
        let of = ["", "-requests", "-tokens", "-requests-day", "-images", "-input-tokens"];
        let mut headers = HeaderMap::new();
        for (of, (limit, remaining, reset)) in of.iter().zip(&limits) {
            for (word, value) in [("limit", limit), ("remaining", remaining), ("reset", reset)] {
                let name = HeaderName::try_from(format!("x-ratelimit-{word}{of}")).expect("a name");
                headers.insert(name, (*value).into());
            }
        }
        let part = |limit: u32, remaining: u32| (f64::from(remaining) / f64::from(limit)).min(1.0);
        let least = limits.iter().map(|(limit, remaining, _)| part(*limit, *remaining)).fold(1.0, f64::min);
        let resets = limits.iter().filter(|(limit, remaining, _)| part(*limit, *remaining) == least);
        let last = resets.map(|(_, _, reset)| Duration::from_secs((*reset).into())).max();
        let found = headroom(&headers, || UNIX_EPOCH).expect("a limit");
        prop_assert_eq!((found.left(), found.reset()), (least, last));
    }
}

//! Policies that make no sense.

use std::time::Duration;

use tower_fleet::{Backend, CircuitBreakerLayer, CircuitPolicy, Fleet, InvalidSetting, breaker::Rate};

use crate::{breaker, mock::Mock, policy, secs};

type Bad = (&'static str, CircuitPolicy);

fn bad_policies() -> Vec<Bad> {
    let (none, ages) = (Duration::ZERO, Duration::MAX);
    let mut bad = vec![
        ("failures", policy().failures(0)),
        ("failures", policy().failures(u32::MAX)),
        ("within", policy().within(none)),
        ("within", policy().within(ages)),
        ("consecutive", policy().consecutive(0)),
        ("failure_rate.window", policy().failure_rate(Rate::new(0.5).window(none).minimum_calls(1))),
        ("failure_rate.window", policy().failure_rate(Rate::new(0.5).window(ages).minimum_calls(1))),
        ("failure_rate.minimum_calls", policy().failure_rate(Rate::new(0.5).window(secs(1)).minimum_calls(0))),
        ("slow_calls.slower_than", policy().slow_calls(none, Rate::new(0.5).window(secs(1)).minimum_calls(1))),
        ("slow_calls.slower_than", policy().slow_calls(ages, Rate::new(0.5).window(secs(1)).minimum_calls(1))),
        ("slow_calls.window", policy().slow_calls(secs(1), Rate::new(0.5).window(none).minimum_calls(1))),
        ("slow_calls.minimum_calls", policy().slow_calls(secs(1), Rate::new(0.5).window(secs(1)).minimum_calls(0))),
        ("open_for", policy().open_for(none)),
        ("open_for", policy().open_for(ages)),
        ("max_open_for", policy().max_open_for(none)),
        ("max_open_for", policy().max_open_for(ages)),
        ("max_open_for", policy().max_open_for(secs(29))),
        ("backoff_reset_after", policy().backoff_reset_after(none)),
        ("backoff_reset_after", policy().backoff_reset_after(ages)),
        ("probes", policy().probes(0)),
        ("probes", policy().probes(u32::MAX)),
        ("probe_timeout", policy().probe_timeout(none)),
        ("probe_timeout", policy().probe_timeout(ages)),
        ("successes_to_close", policy().successes_to_close(0)),
    ];
    for rate in [0.0, -0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        bad.push(("failure_rate.share", policy().failure_rate(Rate::new(rate).window(secs(1)).minimum_calls(1))));
        bad.push(("slow_calls.share", policy().slow_calls(secs(1), Rate::new(rate).window(secs(1)).minimum_calls(1))));
    }
    for growth in [0.0, 0.99, -1.0, f64::NAN, f64::INFINITY] {
        bad.push(("growth", policy().growth(growth)));
    }
    for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        bad.push(("jitter", policy().jitter(jitter)));
    }
    bad
}

fn assert_names(refused: &InvalidSetting, field: &str) {
    assert_eq!((refused.field(), refused.backend()), (field, None), "{refused}");
    let begin = format!("circuit breaker: {field} {} must be ", refused.value());
    assert!(!refused.value().is_empty() && refused.to_string().starts_with(&begin), "{refused}");
}

// C63
#[test]
fn a_layer_is_not_made_with_one() {
    for (field, policy) in bad_policies() {
        assert_names(&CircuitBreakerLayer::plain(policy.clone()).unwrap_err(), field);
        assert_names(&CircuitBreakerLayer::with_policy(policy).unwrap_err(), field);
    }
    let refused = CircuitBreakerLayer::plain(policy().failures(0)).unwrap_err();
    assert_eq!(refused.to_string(), "circuit breaker: failures 0 must be at least 1");
    assert!(CircuitBreakerLayer::plain(policy().open_for(secs(1_000))).is_ok(), "the default cap makes room");
}

// C58, C60
#[test]
fn a_layer_does_not_take_a_name_that_is_not_safe_to_show() {
    for name in ["", "white space", "new\nline", &"x".repeat(129)] {
        let refused = breaker(policy()).name(name).unwrap_err();
        assert_eq!(refused.field(), "name");
        assert!(refused.to_string().contains("name") && !refused.to_string().contains('\n'), "{refused}");
    }
}

// C63
#[test]
fn a_fleet_is_not_built_with_one() {
    for (field, policy) in bad_policies() {
        let builder = Fleet::<Mock, _>::plain().circuit_breaker(policy).backend(Backend::new("a", Mock::new("a").0));
        assert_names(&builder.build().unwrap_err(), field);
    }
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = Fleet::<Mock, _>::plain().max_ejected(share).build().unwrap_err();
        assert_eq!(refused.to_string(), format!("fleet: max_ejected {share} must be a share from 0 to 1"));
        let refused = Fleet::<Mock, _>::plain().panic_below(share).build().unwrap_err();
        assert_eq!(refused.to_string(), format!("fleet: panic_below {share} must be a share from 0 to 1"));
    }
}

// C63
#[test]
fn the_last_of_a_setting_that_is_given_twice_counts() {
    let fleet = |first, second| Fleet::<Mock, _>::plain().circuit_breaker(first).circuit_breaker(second).build();
    assert!(fleet(policy().failures(0), policy()).is_ok());
    assert_names(&fleet(policy(), policy().failures(0)).unwrap_err(), "failures");
    assert_eq!(policy().failures(0).probes(0).failures(3).probes(2), policy().probes(2).failures(3));
}

use super::*;

fn no_random() -> u64 {
    unreachable!("no jitter was asked for")
}

#[test]
fn the_default_is_five_failures_in_sixty_seconds() {
    // C36
    let policy = Policy::draft().build().unwrap();
    assert_eq!(policy, Policy::default());
    let failures = policy.failures.unwrap();
    assert_eq!(failures.threshold, 5);
    assert_eq!(failures.within, Duration::from_secs(60));
    assert_eq!(policy.open_for, Duration::from_secs(30));
    assert_eq!((policy.probes, policy.successes_to_close), (1, 1));
}

#[test]
fn any_rule_replaces_the_default_and_several_add_up() {
    // C36
    let minute = Duration::from_secs(60);
    let consecutive = Policy::draft().consecutive(3).build().unwrap();
    assert_eq!((consecutive.failures, consecutive.consecutive), (None, Some(3)));
    let rate = Policy::draft().failure_rate(0.5, minute, 10).build().unwrap();
    assert_eq!(rate.failures, None);
    let slow = Policy::draft().slow_calls(0.5, minute, minute, 10).build().unwrap();
    assert_eq!(slow.failures, None);
    let both = Policy::draft().failures(7).consecutive(3).build().unwrap();
    assert_eq!(both.failures.unwrap().threshold, 7);
    assert_eq!(both.failures.unwrap().within, minute);
    assert_eq!(both.consecutive, Some(3));
    let window = Policy::draft().within(minute / 2).build().unwrap();
    assert_eq!(window.failures.unwrap().threshold, 5);
}

#[test]
fn bad_values_are_refused_by_name() {
    // C58
    let draft = Policy::draft;
    let second = Duration::from_secs(1);
    let zero = Duration::ZERO;
    let month = Duration::from_secs(31 * 24 * 60 * 60);
    let refused = [
        ("failures", "0", draft().failures(0)),
        ("failures", "10001", draft().failures(10_001)),
        ("within", "0ns", draft().within(zero)),
        ("within", "2678400s", draft().within(month)),
        ("consecutive", "0", draft().consecutive(0)),
        ("failure_rate", "0", draft().failure_rate(0.0, second, 1)),
        ("failure_rate", "NaN", draft().failure_rate(f64::NAN, second, 1)),
        ("failure_rate", "1.01", draft().failure_rate(1.01, second, 1)),
        ("failure_rate", "-0.5", draft().failure_rate(-0.5, second, 1)),
        ("failure_rate", "inf", draft().failure_rate(f64::INFINITY, second, 1)),
        ("failure_rate.window", "0ns", draft().failure_rate(0.5, zero, 1)),
        ("failure_rate.minimum_calls", "0", draft().failure_rate(0.5, second, 0)),
        ("slow_calls", "NaN", draft().slow_calls(f64::NAN, second, second, 1)),
        ("slow_calls.slower_than", "0ns", draft().slow_calls(0.5, zero, second, 1)),
        ("slow_calls.window", "2678400s", draft().slow_calls(0.5, second, month, 1)),
        ("slow_calls.minimum_calls", "0", draft().slow_calls(0.5, second, second, 0)),
        ("open_for", "0ns", draft().open_for(zero)),
        ("open_for", "2678400s", draft().open_for(month)),
        ("growth", "0.9", draft().growth(0.9)),
        ("growth", "NaN", draft().growth(f64::NAN)),
        ("growth", "inf", draft().growth(f64::INFINITY)),
        ("longest", "1s", draft().longest(second)),
        ("longest", "2678400s", draft().longest(month)),
        ("jitter", "-0.1", draft().jitter(-0.1)),
        ("jitter", "1.1", draft().jitter(1.1)),
        ("jitter", "NaN", draft().jitter(f64::NAN)),
        ("forgive_after", "0ns", draft().forgive_after(zero)),
        ("probes", "0", draft().probes(0)),
        ("probes", "1001", draft().probes(1_001)),
        ("probe_timeout", "0ns", draft().probe_timeout(zero)),
        ("successes_to_close", "0", draft().successes_to_close(0)),
    ];
    for (field, value, draft) in refused {
        let error = draft.build().expect_err(field);
        assert_eq!(error.field, field, "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("`{field}` must be ")), "{message}");
        assert!(message.ends_with(&format!(", not {value}")), "{message}");
    }
}

#[test]
fn the_cap_follows_a_longer_opening_time() {
    let hour = Duration::from_secs(3600);
    assert_eq!(Policy::draft().open_for(hour).build().unwrap().longest, hour);
}

#[test]
fn openings_grow_to_the_cap() {
    // C36
    let policy =
        Policy::draft().open_for(Duration::from_secs(2)).growth(2.0).longest(Duration::from_secs(15)).build().unwrap();
    let seconds = |before| policy.opening(before, no_random).as_secs();
    assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(seconds), [2, 4, 8, 15, 15, 15]);
}

#[test]
fn without_growth_every_opening_is_exact() {
    let odd = Duration::from_nanos(1_234_567_890_123_457);
    let policy = Policy::draft().open_for(odd).build().unwrap();
    assert_eq!(policy.opening(0, no_random), odd);
    assert_eq!(policy.opening(u32::MAX, no_random), odd);
}

#[test]
fn jitter_shortens_by_at_most_its_share() {
    // C36
    let ten = Duration::from_secs(10);
    let policy = Policy::draft().open_for(ten).jitter(0.2).build().unwrap();
    assert_eq!(policy.opening(0, || 0), ten);
    let shortest = policy.opening(0, || u64::MAX);
    assert!(shortest >= Duration::from_secs(8) && shortest < Duration::from_millis(8_001));
    let full = Policy::draft().open_for(ten).jitter(1.0).build().unwrap();
    assert!(full.opening(0, || u64::MAX) > Duration::ZERO);
    assert_eq!(full.opening(0, || 1 << 63), ten / 2);
}

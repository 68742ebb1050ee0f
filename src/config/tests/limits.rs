//! The keys `limit` and `when_full`.

use super::*;

fn limits(text: &str) -> Vec<Option<u32>> {
    let fleet = good(text).fleet(|_| ()).unwrap();
    fleet.snapshot().iter().map(|backend| backend.limit).collect()
}

// C68
#[test]
fn a_limit_is_that_of_the_backend_or_else_that_of_the_fleet() {
    let backends = "[[backend]]\nname = \"a\"\nlimit = 100\n[[backend]]\nname = \"b\"\n";
    assert_eq!(limits(backends), [Some(100), None]);
    assert_eq!(limits(&format!("limit = 7\n{backends}")), [Some(100), Some(7)]);
    assert_eq!(limits(&format!("[limit]\n{backends}")), [Some(100), Some(20)]);
    assert_eq!(limits(&format!("[limit]\nmin = 5\ninitial = 8\n{backends}")), [Some(100), Some(8)]);
    assert_eq!(limits("[[backend]]\nname = \"a\"\nlimit = { initial = 3 }"), [Some(3)]);
    let all = "limit = { initial = 9, min = 3, max = 30, tolerance = 2, window = \"500ms\", recheck_after = \"2min\" }";
    assert!(debugged(&good(all)).contains(
        "Adaptive(AdaptiveLimit { initial: 9, min: 3, max: 30, tolerance: 2.0, window: 500ms, recheck_after: 120s })"
    ));
}

// C68
#[test]
fn named_times_can_be_switched_off() {
    // C71
    assert!(debugged(&good("")).contains("named_times: None"));
    assert!(debugged(&good("named_times = false")).contains("named_times: Some(false)"));
    assert!(refused("named_times = \"soon\"").contains("named_times"));
}

// C71
#[test]
fn headroom_can_be_switched_on() {
    assert!(debugged(&good("")).contains("headroom: None"));
    assert!(debugged(&good("headroom = true")).contains("headroom: Some(true)"));
    assert!(refused("headroom = 0.1").contains("headroom"));
}

#[test]
fn when_full_is_set_by_name() {
    assert!(debugged(&good("")).contains("when_full: Wait"));
    assert!(debugged(&good("when_full = \"wait\"")).contains("when_full: Wait"));
    assert!(debugged(&good("when_full = \"refuse\"")).contains("when_full: Refuse"));
    assert!(debugged(&good("when_full = { queue = 9 }")).contains("when_full: Queue(9)"));
    assert!(refused("when_full = { queue = -9 }").contains("when_full"));
    assert!(refused("when_full = \"drop\"").contains("when_full"));
}

// C58, C68
#[test]
fn invalid_limits_are_refused_with_field_value_and_backend() {
    for (text, expected) in [
        ("limit = 0", "limit: 0 must be at least 1: to send a backend no requests, drain it"),
        ("when_full = { queue = 0 }", "when_full.queue: 0 must be at least 1: to let no request wait, set refuse"),
        ("when_full = { queue = 4294967295 }", "when_full.queue: 4294967295 must be at most 1000000"),
        ("[limit]\ntolerance = nan", "limit.tolerance: NaN must be a factor from 1 to 10"),
        ("[limit]\nwindow = 0", "limit.window: 0ns must be from 10 ms to 1 h"),
        ("[limit]\nmax = 10", "limit.initial: 20 must be from limit.min to limit.max"),
        (
            "[[backend]]\nname = \"a\"\n[[backend]]\nname = \"b\"\nlimit = { min = 0 }",
            "backend[1].limit.min: 0 of `b` must be at least 1",
        ),
        (
            "[[backend]]\nname = \"a\"\nlimit = 0",
            "backend[0].limit: 0 of `a` must be at least 1: to send a backend no requests, drain it",
        ),
    ] {
        assert_eq!(refused(text), expected);
    }
    for text in
        ["limit = -1", "limit = 5000000000", "limit = 1.5", "limit = \"9\"", "[limit]\nmost = 3", "limit = true"]
    {
        assert!(refused(text).starts_with("limit"), "{}", refused(text));
    }
}

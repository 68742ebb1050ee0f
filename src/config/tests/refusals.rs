use super::*;

// C58
#[test]
fn a_refusal_names_path_value_and_backend() {
    let backend = |keys: &str| format!("[[backend]]\nname = \"a\"\n[[backend]]\nname = \"eu-1\"\n{keys}");
    for (text, expected) in [
        // What a file may hold.
        ("name = 3", "name: 3 must be a text"),
        ("most_ejected = \"all\"", "most_ejected: \"all\" must be a number"),
        ("failover = [\"race\"]", "failover: a list must be a table"),
        ("backend = 3", "backend: 3 must be a list"),
        ("backend = [3]", "backend[0]: 3 must be a table"),
        ("[[backend]]\nweight = 2", "backend[0].name: is missing"),
        ("[failover]\nmode = \"hedged\"", "failover.mode.hedged: needs a value after its name: { name = value }"),
        ("[failover]\nmode = \"wild\"", "failover.mode: \"wild\" must be one of race, sequential, hedged"),
        ("[failover]\ncommit = \"whole\"", "failover.commit.whole: needs a value after its name: { name = value }"),
        ("[failover]\nmode = { hedged = 20 }", "failover.mode.hedged: 20 needs a unit: 30s, 5min"),
        ("[failover]\nmode = { race = 1 }", "failover.mode.race: 1 must be left out, for the name stands alone"),
        ("[failover]\ntimeout = 30", "failover.timeout: 30 needs a unit: 30s, 5min"),
        ("[failover]\ntimeout = \"1.5\"", "failover.timeout: 1.5 needs a unit: 30s, 5min"),
        (
            "[failover]\ntimeout = \"-3s\"",
            "failover.timeout: \"-3s\" must be a duration such as 200ms, 30s, 5min or 1h 30min",
        ),
        (
            "[failover]\ntimeout = 2026-01-01",
            "failover.timeout: a table must be a duration such as 200ms, 30s, 5min or 1h 30min",
        ),
        (
            "[failover]\nreplay_limit = \"1MB\"",
            "failover.replay_limit: \"1MB\" must be a number of bytes such as 4096, 64KiB, 1MiB or 2GiB",
        ),
        (
            "[failover]\nreplay_limit = \"99999999999999GiB\"",
            "failover.replay_limit: \"99999999999999GiB\" must be a number of bytes such as 4096, 64KiB, 1MiB or 2GiB",
        ),
        (
            "[failover]\nattempts_per_backend = -1",
            "failover.attempts_per_backend: -1 must be a whole number from 0 to 4294967295",
        ),
        (
            "[failover]\nbudget = { share = 0.1, reserve = 0 }",
            "failover.budget.reserve: 0 must be a whole number from 1 to 4294967295",
        ),
        ("[failover]\nbudget = { share = 0.1 }", "failover.budget.reserve: is missing"),
        ("[failover]\nidempotent_only = \"yes\"", "failover.idempotent_only: \"yes\" must be true or false"),
        (
            "[failover]\ntriggers = [\"status\", \"moon\"]",
            "failover.triggers[1]: \"moon\" must be one of status, timeout, network, custom",
        ),
        (
            "[failover]\nstatuses = [429, 99]",
            "failover.statuses[1]: 99 must be a code or a range from 100 to 999, or a class (5xx)",
        ),
        (
            "[breaker]\nstatuses = [429, \"600-500\"]",
            "breaker.statuses[1]: \"600-500\" must be a code or a range from 100 to 999, or a class (5xx)",
        ),
        (
            &backend("priority = 1e3"),
            "backend[1].priority: 1000 of `eu-1` must be a whole number from -2147483648 to 2147483647",
        ),
        (&backend("timeout = 30"), "backend[1].timeout: 30 needs a unit: 30s, 5min (backend `eu-1`)"),
        (
            &backend("status = \"ill\""),
            "backend[1].status: \"ill\" of `eu-1` must be one of healthy, degraded, draining",
        ),
        // What the builders refuse.
        ("name = \"a b\"", "name: `a b` may hold ASCII letters, digits and -_.:/[] only"),
        ("most_ejected = 1.5", "most_ejected: 1.5 must be a share from 0 to 1"),
        ("panic_below = nan", "panic_below: NaN must be a share from 0 to 1"),
        ("[failover]\ntimeout = 0", "failover.timeout: 0 s must be longer than zero"),
        ("[failover]\nmode = { hedged = 0 }", "failover.mode.hedged: 0 s must be longer than zero"),
        ("[failover]\nattempts_per_backend = 101", "failover.attempts_per_backend: 101 must be from 1 to 100"),
        ("[failover]\nbackoff = { factor = 0.5 }", "failover.backoff.factor: 0.5 must be a number from 1"),
        ("[failover]\nbackoff = { base = \"30s\" }", "failover.backoff.cap: 16s must be at least the base"),
        (
            "[failover]\nbudget = { share = -1, reserve = 1 }",
            "failover.budget.share: -1 must be a number from 0 to 100",
        ),
        ("[failover]\nserved_by = \"a b\"", "failover.served_by: \"a b\" must be the name of a header"),
        ("[breaker]\nfailures = 0", "breaker.failures: 0 must be at least 1"),
        ("[breaker]\nopen_for = 0", "breaker.open_for: 0ns must be over 0"),
        (
            "[breaker]\nfailure_rate = { rate = 2, window = \"1s\", minimum_calls = 1 }",
            "breaker.failure_rate.rate: 2 must be a share over 0 and up to 1",
        ),
        (
            "[breaker]\nslow_calls = { rate = 1, slower_than = \"1s\", window = 0, minimum_calls = 1 }",
            "breaker.slow_calls.window: 0ns must be over 0",
        ),
        (&backend("timeout = 0"), "backend[1].timeout: 0 s of `eu-1` must be longer than zero"),
        (&backend("[[backend]]\nname = \"\""), "backend[2].name: `` must not be empty"),
        (&backend("[[backend]]\nname = \"a\""), "backend[2].name: `a` is the name of backend[0]"),
        (
            &backend("without = [\"cookie\", \"a b\"]"),
            "backend[1].without[1]: \"a b\" of `eu-1` must be the name of a header",
        ),
        (&backend("host = \"a\\nb\""), "backend[1].host: must be a value of visible characters (backend `eu-1`)"),
        (
            &backend("host = \"a\"\nheaders = { Host = \"b\" }"),
            "backend[1].headers.Host: the header host is set twice (backend `eu-1`)",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

// C58
#[test]
fn an_unknown_key_is_refused_wherever_it_is() {
    for (text, path) in [
        ("nmae = \"a\"", "nmae"),
        ("[failover]\ntimeuot = \"1s\"", "failover.timeuot"),
        ("[failover]\nbackoff = { bsae = \"1s\" }", "failover.backoff.bsae"),
        ("[failover]\nbudget = { share = 0.1, reserve = 1, x = 1 }", "failover.budget.x"),
        ("[breaker]\nopen = 1", "breaker.open"),
        ("[breaker]\nfailure_rate = { rat = 1 }", "breaker.failure_rate.rat"),
        ("[breaker]\nslow_calls = { rat = 1 }", "breaker.slow_calls.rat"),
        ("[[backend]]\nname = \"a\"\n[[backend]]\nname = \"b\"\nwieght = 1", "backend[1].wieght"),
        ("[backends]\n", "backends"),
    ] {
        let invalid = read(text).unwrap_err();
        assert_eq!(invalid.path, path);
        assert!(invalid.reason.contains("no such key; the keys here are "), "{invalid}");
        assert_eq!(invalid.reason.contains("(backend `b`)"), path.starts_with("backend["), "{invalid}");
    }
}

// C9
#[test]
fn a_strategy_that_cannot_be_is_refused_with_those_that_can() {
    let unknown = refused("strategy = \"fastest\"");
    assert!(unknown.starts_with("strategy: unknown strategy `fastest`, expected one of round_robin, "), "{unknown}");
    // One that a later version may have is no exception.
    let all = "round_robin, shuffle, weighted_round_robin, failover, weighted_failover";
    let later = refused("strategy = \"peak_ewma\"");
    assert!(later.ends_with(&format!("unknown strategy `peak_ewma`, expected one of {all}")), "{later}");
}

// C58
#[test]
fn hostile_text_is_shown_short_and_escaped() {
    let huge = "x\\u0007".repeat(100_000);
    for text in [
        format!("strategy = \"{huge}\""),
        format!("name = \"{huge}\""),
        format!("\"{huge}\" = 1"),
        format!("[failover]\nmode = \"{huge}\""),
        format!("[failover]\ntimeout = \"{huge}\""),
        format!("[failover]\nserved_by = \"{huge}\""),
        format!("[[backend]]\nname = \"{huge}\"\nweight = -1"),
        format!("[[backend]]\nname = \"a\"\nheaders = {{ \"{huge}\" = \"b\" }}"),
        format!("[[backend]]\nname = \"a\"\nheaders = {{ \"{huge}\" = 3 }}"),
        format!("[[backend]]\nname = \"a\"\nwithout = [\"{huge}\"]"),
        format!("[failover]\nstatuses = [\"{huge}\"]"),
        format!("[failover]\nstatuses = \"{huge}\""),
    ] {
        let shown = refused(&text);
        assert!(shown.len() < 1_000 && !shown.contains('\u{7}'), "{} bytes: {:.200}", shown.len(), shown);
    }
}

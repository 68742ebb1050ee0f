//! Refused files, and their errors.

use super::*;
use crate::pick::StrategyName;

// C58
#[test]
fn an_error_shows_path_value_and_backend() {
    let backend = |keys: &str| format!("[[backend]]\nname = \"a\"\n[[backend]]\nname = \"eu-1\"\n{keys}");
    for (text, expected) in [
        // Refused by type.
        ("name = 3", "name: 3 must be a text"),
        ("max_ejected = \"all\"", "max_ejected: \"all\" must be a share from 0 to 1, such as 0.2 or \"20%\""),
        ("failover = [\"race\"]", "failover: a list must be a table"),
        ("backend = 3", "backend: 3 must be a list"),
        ("backend = [3]", "backend[0]: 3 must be a table"),
        ("[[backend]]\nweight = 2", "backend[0].name: is missing"),
        (
            "[failover]\nmode = \"hedged\"",
            "failover.mode.hedged: needs a value beside its name, such as { hedged = \"50ms\" } or { whole = \"64KiB\" }",
        ),
        (
            "strategy = \"hash\"",
            "hash.key: is missing: the strategy hash needs it, such as key = { header = \"x-user\" }",
        ),
        ("strategy = \"hash\"\n[hash]\nbound = 2", "hash.key: is missing"),
        ("[hash]\nkey = \"path\"", "hash: is read with strategy = \"hash\" only"),
        ("strategy = \"shuffle\"\nhash = { key = \"peer\" }", "hash: is read with strategy = \"hash\" only"),
        (
            "strategy = \"hash\"\nhash = { key = \"color\" }",
            "hash.key: \"color\" must be one of header, cookie, query, path, peer",
        ),
        (
            "strategy = \"hash\"\nhash = { key = { path = 3 } }",
            "hash.key.path: 3 must be omitted: the name takes no value",
        ),
        (
            "strategy = \"hash\"\nhash = { key = { header = \"x user\" } }",
            "hash.key.header: `x user` must be the name of a header",
        ),
        ("strategy = \"hash\"\nhash = { key = { cookie = \"\" } }", "hash.key.cookie: `` must be the name of a cookie"),
        (
            "strategy = \"hash\"\nhash = { key = \"path\", bound = 1 }",
            "hash.bound: 1 must be over 1 and at most 1000, such as 1.25, or \"off\"",
        ),
        (
            "strategy = \"hash\"\nhash = { key = \"path\", bound = nan }",
            "hash.bound: NaN must be over 1 and at most 1000, such as 1.25, or \"off\"",
        ),
        (
            "strategy = \"hash\"\nhash = { key = \"path\", bound = \"none\" }",
            "hash.bound: \"none\" must be over 1 and at most 1000, such as 1.25, or \"off\"",
        ),
        (
            "strategy = \"hash\"\nhash = { key = \"path\", seed = 1 }",
            "hash.seed: there is no such key; the keys here are key, bound",
        ),
        ("[failover]\nmode = \"wild\"", "failover.mode: \"wild\" must be one of race, sequential, hedged"),
        (
            "[failover]\ncommit = \"whole\"",
            "failover.commit: \"whole\" must be \"head\", \"first_frame\", or a table such as { first_content = \"64KiB\" }",
        ),
        (
            "[failover]\ncommit = { whole = 9, until_end = 9 }",
            "failover.commit: must have exactly one of `whole`, `first_content`, `until_end` and `until`",
        ),
        (
            "[failover]\ncommit = { until = \"x\" }",
            "failover.commit: needs `bound` beside `until`: the most bytes to hold",
        ),
        (
            "[failover]\ncommit = { until = \"[DONE]\", bound = 5 }",
            "failover.commit.bound: 5 must be at least as large as the marker",
        ),
        (
            "[failover]\ncommit = { first_content = 9 }",
            "failover.commit: needs the section [events], which tells content and the end of a stream",
        ),
        (
            "[failover]\ncommit = { whole = 9, beyond = \"wait\" }",
            "failover.commit.beyond: \"wait\" must be one of commit, fail",
        ),
        ("[failover]\ntime_limits = { idle = 0 }", "failover.time_limits.idle: 0ns must be longer than zero"),
        ("[events]\nformat = \"sse\"", "events.format: \"sse\" must be one of chat-completions, messages, responses"),
        ("[events]\nend_data = \"a\\nb\"", "events.end_data: must be a line that is not empty"),
        ("[failover]\nmode = { hedged = 20 }", "failover.mode.hedged: 20 needs a unit: 30s, 5min"),
        (
            "[failover]\nmode = { hedged = true }",
            "failover.mode.hedged: true must be a duration such as 50ms, a percentile such as \"p95\", or a table of settings",
        ),
        (
            "[failover]\nmode = { hedged = \"pfast\" }",
            "failover.mode.hedged: \"pfast\" must be a duration such as 50ms, a percentile such as \"p95\", or a table of settings",
        ),
        (
            "[failover]\nmode = { hedged = \"p100\" }",
            "failover.mode.hedged.percentile: 1 must be a share over 0.5 and below 1",
        ),
        (
            "[failover]\nmode = { hedged = { percentile = 95 } }",
            "failover.mode.hedged.percentile: 95 must be a share from 0 to 1; for 95 %, write 0.95 or \"95%\"",
        ),
        (
            "[failover]\nmode = { hedged = { floor = \"2s\" } }",
            "failover.mode.hedged.floor: 2s must not be longer than the cap, 1s",
        ),
        (
            "[failover]\nmode = { hedged = { delay = \"2s\" } }",
            "failover.mode.hedged.delay: there is no such key; the keys here are percentile, floor, cap, until_measured, window, \
             min_samples",
        ),
        (
            "[failover]\nmode = { hedged = \"p95\" }\n[breaker]\nslow_calls = { share = 0.5, slower_than = \"2s\" }",
            "breaker.slow_calls.slower_than: 2s must be at most the delay of failover.mode.hedged, 1s",
        ),
        ("[failover]\nmode = { race = 1 }", "failover.mode.race: 1 must be omitted: the name takes no value"),
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
        ("[failover]\nbudget = { reserve = 5 }", "failover.budget.share: is missing"),
        (
            "[failover]\ndeadline = \"10ms\"\nmode = { hedged = \"20ms\" }",
            "failover.mode.hedged: 20ms must not be longer than the deadline",
        ),
        (
            "[failover]\nstatuses = [404]\ntriggers = [\"timeout\"]",
            "failover.statuses: {404} need the trigger `status`, which is not among the triggers",
        ),
        ("[failover]\nretry_methods = \"some\"", "failover.retry_methods: \"some\" must be one of all, idempotent"),
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
        // Refused by the builders.
        ("name = \"a b\"", "name: `a b` may hold ASCII letters, digits and -_.:/[] only"),
        ("max_ejected = 1.5", "max_ejected: 1.5 must be a share from 0 to 1, such as 0.2 or \"20%\""),
        ("panic_below = nan", "panic_below: NaN must be a share from 0 to 1, such as 0.2 or \"20%\""),
        ("[failover]\ntimeout = 0", "failover.timeout: 0ns must be longer than zero"),
        ("[failover]\nupload_idle_timeout = 0", "failover.upload_idle_timeout: 0ns must be longer than zero"),
        ("[failover]\nmode = { hedged = 0 }", "failover.mode.hedged: 0ns must be longer than zero"),
        ("[failover]\nattempts_per_backend = 101", "failover.attempts_per_backend: 101 must be from 1 to 100"),
        ("[failover]\nbackoff = { factor = 0.5 }", "failover.backoff.factor: 0.5 must be a number from 1"),
        ("[failover]\nbackoff = { base = \"30s\" }", "failover.backoff.cap: 16s must be at least the base"),
        (
            "[failover]\nbudget = { share = -1, reserve = 1 }",
            "failover.budget.share: -1 must be a share from 0 to 1, such as 0.2 or \"20%\"",
        ),
        ("[failover]\nserved_by = \"a b\"", "failover.served_by: \"a b\" must be the name of a header"),
        ("[breaker]\nfailures = 0", "breaker.failures: 0 must be at least 1"),
        ("[breaker]\nopen_for = 0", "breaker.open_for: 0ns must be longer than zero"),
        (
            "[breaker]\nfailure_rate = { share = 0, window = \"1s\", minimum_calls = 1 }",
            "breaker.failure_rate.share: 0 must be a share over 0 and up to 1",
        ),
        (
            "[breaker]\nslow_calls = { share = 1, slower_than = \"1s\", window = 0, minimum_calls = 1 }",
            "breaker.slow_calls.window: 0ns must be longer than zero",
        ),
        (&backend("timeout = 0"), "backend[1].timeout: 0 s of `eu-1` must be longer than zero"),
        (&backend("[[backend]]\nname = \"\""), "backend[2].name: `` must not be empty"),
        (&backend("[[backend]]\nname = \"a\""), "backend[2].name: `a` is already the name of backend[0]"),
        (
            &backend("without = [\"cookie\", \"a b\"]"),
            "backend[1].without[1]: \"a b\" of `eu-1` must be the name of a header",
        ),
        (&backend("host = \"a\\nb\""), "backend[1].host: must be a value of visible characters (backend `eu-1`)"),
        (
            &backend("host = \"a\"\nheaders = { Host = \"b\" }"),
            "backend[1].headers.Host: the header host is set twice (backend `eu-1`)",
        ),
        // Refused because it would not have the effect that it seems to have.
        (
            &backend("weight = 0"),
            "backend[1].weight: 0 of `eu-1` must be a number over 0 and up to 4294967295; to send a backend no requests, \
             write status = \"draining\"",
        ),
        ("backend = []", "backend: is missing: a fleet needs at least one [[backend]]"),
        (
            "[failover]\nmode = { hedged = \"50ms\" }\n[breaker]\nslow_calls = { share = 0.5, slower_than = \"2s\" }",
            "breaker.slow_calls.slower_than: 2s must be at most the delay of failover.mode.hedged, 50ms",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

/// Every share in a file, with `SHARE` in its place.
const SHARES: [(&str, &str); 7] = [
    ("max_ejected", "max_ejected = SHARE"),
    ("panic_below", "panic_below = SHARE"),
    ("failover.budget.share", "[failover]\nbudget = { share = SHARE }"),
    ("failover.backoff.jitter", "[failover]\nbackoff = { jitter = SHARE }"),
    ("breaker.jitter", "[breaker]\njitter = SHARE"),
    ("breaker.failure_rate.share", "[breaker]\nfailure_rate = { share = SHARE }"),
    ("breaker.slow_calls.share", "[breaker]\nslow_calls = { share = SHARE, slower_than = \"1s\" }"),
];

// C53, C58
#[test]
fn a_share_is_a_number_up_to_one_or_a_percentage() {
    for (path, text) in SHARES {
        let shown = |share: &str| debugged(&good(&text.replace("SHARE", share)));
        assert_eq!(shown("\"20%\""), shown("0.2"), "{path}");
        assert_eq!(shown("\" 12.5 % \""), shown("0.125"), "{path}");
        assert_eq!(shown("\"100%\""), shown("1"), "{path}");
        assert_eq!(shown("1.0"), shown("1"), "{path}");
        for share in ["20", "20.0"] {
            let hint = "20 must be a share from 0 to 1; for 20 %, write 0.2 or \"20%\"";
            assert_eq!(refused(&text.replace("SHARE", share)), format!("{path}: {hint}"));
        }
        let refusal = |value: &str| format!("{path}: {value} must be a share from 0 to 1, such as 0.2 or \"20%\"");
        for share in ["-1", "101", "\"20\"", "\"0.2\"", "\"%\"", "\"-5%\"", "\"101%\"", "\"NaN%\"", "\"20 %%\"", "true"]
        {
            assert_eq!(refused(&text.replace("SHARE", share)), refusal(share));
        }
        for (share, value) in [("nan", "NaN"), ("inf", "inf"), ("-inf", "-inf"), ("1e9", "1000000000")] {
            assert_eq!(refused(&text.replace("SHARE", share)), refusal(value));
        }
    }
}

// C58
#[test]
fn an_unknown_key_is_refused_everywhere() {
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
fn an_unknown_strategy_is_refused_with_the_known_ones() {
    let unknown = refused("strategy = \"fastest\"");
    assert!(unknown.starts_with("strategy: `fastest` must be one of round_robin, "), "{unknown}");
    let all: Vec<_> = StrategyName::ALL.iter().map(|strategy| strategy.name()).collect();
    let another = refused("strategy = \"least\"");
    assert!(another.ends_with(&format!("`least` must be one of {}", all.join(", "))), "{another}");
}

// C58
#[test]
fn hostile_text_is_shown_shortened_and_escaped() {
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

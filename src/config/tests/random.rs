//! Random sources: none of them makes it panic, and whatever is read can be built.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::*;

const KEYS: &[&str] = &[
    "name",
    "strategy",
    "preset",
    "max_ejected",
    "panic_below",
    "failover",
    "breaker",
    "backend",
    "mode",
    "hedged",
    "percentile",
    "floor",
    "until_measured",
    "min_samples",
    "race_bound",
    "race_width",
    "timeout",
    "deadline",
    "ready_within",
    "attempts_per_backend",
    "same_backend_delay",
    "backoff",
    "base",
    "cap",
    "factor",
    "jitter",
    "retry_after_cap",
    "budget",
    "share",
    "reserve",
    "triggers",
    "statuses",
    "retry_methods",
    "hedge_methods",
    "on_exhausted",
    "commit",
    "replay_limit",
    "replay_memory",
    "served_by",
    "rejections",
    "rejection",
    "rejection_bound",
    "contains",
    "then",
    "tagged",
    "tags",
    "counts",
    "enabled",
    "failures",
    "within",
    "consecutive",
    "failure_rate",
    "window",
    "minimum_calls",
    "slow_calls",
    "slower_than",
    "open_for",
    "growth",
    "max_open_for",
    "backoff_reset_after",
    "probes",
    "probe_timeout",
    "successes_to_close",
    "limit",
    "when_full",
    "named_times",
    "headroom",
    "initial",
    "min",
    "max",
    "tolerance",
    "recheck_after",
    "origin",
    "weight",
    "priority",
    "status",
    "bearer",
    "secrets",
    "headers",
    "host",
    "without",
    "strange",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "race",
    "sequential",
    "hedged",
    "p95",
    "llxprt",
    "round_robin",
    "hash",
    "0",
    "30",
    "30s",
    "5min",
    "-1s",
    "99999999999999999999years",
    "1MiB",
    "-1MiB",
    "status",
    "429",
    "5xx",
    "999-100",
    "env:KEY",
    "env:",
    "env:NONE",
    "hush",
    "http://[::1]:81/a",
    "http://",
    "x-served-by",
    "host",
    "a b",
    "\u{0}",
    "é",
    "error",
    "all",
    "idempotent",
    "head",
    "first_frame",
    "healthy",
];

/// Random values, with keys and texts that a file may have, in random places.
fn random_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2..4_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..1.0_f64).prop_map(Value::from),
    ];
    let text = prop_oneof![select(TEXTS).prop_map(Value::from), "\\PC{0,20}".prop_map(Value::from)];
    let leaf = prop_oneof![number, text, any::<bool>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((select(KEYS), inner), 0..6)
                .prop_map(|entries| Value::from(entries.into_iter().map(own).collect::<Map<_, _>>())),
        ]
    })
}

type Table = Map<String, Value>;

fn own((key, value): (&str, Value)) -> (String, Value) {
    (key.to_owned(), value)
}

/// A source with sections and backends in their places, and random keys and values in them.
fn nearly_good() -> impl Strategy<Value = Value> {
    let section =
        || vec((select(KEYS), random_value()), 0..3).prop_map(|entries| entries.into_iter().map(own).collect());
    let backend = section().prop_map(|mut entries: Table| {
        entries.entry("name").or_insert(json!("a"));
        entries
    });
    (section(), section(), vec(backend, 0..4)).prop_map(|(failover, breaker, backend): (Table, Table, Vec<Table>)| {
        json!({ "failover": failover, "breaker": breaker, "backend": backend })
    })
}

fn check(result: Result<Config, ConfigError>) -> Result<(), TestCaseError> {
    match result {
        Ok(config) => {
            prop_assert!(config.fleet(|_| ()).is_ok(), "a valid file can be built");
            prop_assert!(config.failover().into_builder().build().is_ok());
            prop_assert!(config.circuit_policy().checked().is_ok());
        }
        Err(invalid) => {
            let shown = invalid.to_string();
            prop_assert!(!invalid.reason.is_empty() && shown.len() < 2_000, "{}", shown);
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
        }
    }
    Ok(())
}

fn read_value(value: &Value) -> Result<Config, ConfigError> {
    Config::read_with(value, |name| (name == "KEY").then(|| "key".to_owned()))
}

proptest! {
    // C58
    #[test]
    fn no_values_make_it_panic(value in random_value()) {
        check(read_value(&value))?;
    }

    // C58
    #[test]
    fn no_values_in_good_places_make_it_panic(value in nearly_good()) {
        check(read_value(&value))?;
        // The same as TOML, if that can express it.
        if let Ok(table) = toml::Table::try_from(&value) {
            check(Config::read_with(table, |_| None))?;
        }
    }

    // C58
    #[test]
    fn no_value_of_a_known_key_makes_it_panic(
        section in select(&["", "failover", "breaker", "backend"][..]), key in select(KEYS), value in random_value(),
    ) {
        let entry = json!({ key: value });
        let source = match section {
            "" => entry,
            "backend" => {
                let mut backend = json!({ "name": "a" });
                backend[key] = value;
                json!({ "backend": [backend] })
            }
            _ => json!({ section: entry }),
        };
        check(read_value(&source))?;
    }

    // C58
    #[test]
    fn no_text_makes_it_panic(text in "[a-z_ =\\[\\]{}\"\n0-9.,-]{0,80}") {
        if let Ok(source) = toml::Deserializer::parse(&text) {
            check(Config::read_with(source, |_| None))?;
        }
        let _ = Config::read(&mut serde_json::Deserializer::from_str(&text));
    }
}

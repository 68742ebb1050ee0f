//! Files whose keys are all in their places, with values that are nearly right.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tower_fleet_fuzz::read_tree;

const ROOT: &[&str] = &["name", "strategy", "preset", "max_ejected", "panic_below"];
const FAILOVER: &[&str] = &[
    "mode",
    "race_bound",
    "timeout",
    "deadline",
    "attempts_per_backend",
    "same_backend_delay",
    "backoff",
    "retry_after_cap",
    "budget",
    "triggers",
    "statuses",
    "retry_methods",
    "hedge_methods",
    "on_exhausted",
    "commit",
    "replay_limit",
    "replay_memory",
    "served_by",
];
const BREAKER: &[&str] = &[
    "enabled",
    "failures",
    "within",
    "consecutive",
    "failure_rate",
    "slow_calls",
    "open_for",
    "growth",
    "max_open_for",
    "jitter",
    "backoff_reset_after",
    "probes",
    "probe_timeout",
    "successes_to_close",
    "statuses",
    "success_at_end",
];
const BACKEND: &[&str] =
    &["name", "origin", "host", "weight", "priority", "timeout", "status", "bearer", "secrets", "headers", "without"];
const INNER: &[&str] = &[
    "hedged",
    "race",
    "sequential",
    "whole",
    "head",
    "base",
    "cap",
    "factor",
    "jitter",
    "share",
    "reserve",
    "window",
    "minimum_calls",
    "slower_than",
    "x-key",
    "host",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "0",
    "20%",
    "-1%",
    "101%",
    "30s",
    "5min",
    "1h 30min",
    "31days",
    "99999999999999999999years",
    "64KiB",
    "99999999999GiB",
    "race",
    "sequential",
    "hedged",
    "llxprt",
    "round_robin",
    "weighted_failover",
    "status",
    "timeout",
    "network",
    "custom",
    "429",
    "5xx",
    "500-599",
    "999-100",
    "all",
    "idempotent",
    "error",
    "pass_through",
    "head",
    "first_frame",
    "healthy",
    "degraded",
    "draining",
    "env:KEY",
    "env:",
    "http://a",
    "https://[::1]:81/a?b",
    "http://user:password@a",
    "x-served-by",
    "content-length",
];

#[derive(Debug)]
struct File(Value);

impl<'a> Arbitrary<'a> for File {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut root = table(u, ROOT, 5)?;
        for (name, keys) in [("failover", FAILOVER), ("breaker", BREAKER)] {
            if u.arbitrary()? {
                root.insert(name.into(), table(u, keys, 6)?.into());
            }
        }
        let mut backends = Vec::new();
        for index in 0..u.int_in_range(0..=4_usize)? {
            let mut backend = table(u, BACKEND, 5)?;
            if u.ratio(7, 8)? {
                backend.insert("name".into(), format!("backend-{index}").into());
            }
            backends.push(Value::from(backend));
        }
        root.insert("backend".into(), backends.into());
        Ok(Self(root.into()))
    }
}

fn table(u: &mut Unstructured<'_>, keys: &[&str], most: usize) -> Result<Map<String, Value>> {
    let mut table = Map::new();
    for _ in 0..u.int_in_range(0..=most)? {
        table.insert((*u.choose(keys)?).to_owned(), value(u, 2)?);
    }
    Ok(table)
}

fn value(u: &mut Unstructured<'_>, depth: u8) -> Result<Value> {
    Ok(match u.int_in_range(0..=if depth == 0 { 7 } else { 9_u8 })? {
        0 => u.int_in_range(-2..=101_i64)?.into(),
        1 => u.arbitrary::<i64>()?.into(),
        2 => u.arbitrary::<u64>()?.into(),
        3 => u.arbitrary::<f64>()?.into(),
        4 => (f64::from(u.arbitrary::<u8>()?) / 100.0).into(),
        5 => u.arbitrary::<bool>()?.into(),
        6 => (*u.choose(TEXTS)?).into(),
        7 => u.arbitrary::<String>()?.into(),
        8 => {
            let count = u.int_in_range(0..=3_usize)?;
            (0..count).map(|_| value(u, depth - 1)).collect::<Result<Vec<_>>>()?.into()
        }
        _ => {
            let mut table = Map::new();
            for _ in 0..u.int_in_range(0..=3_usize)? {
                table.insert((*u.choose(INNER)?).to_owned(), value(u, depth - 1)?);
            }
            table.into()
        }
    })
}

fuzz_target!(|file: File| read_tree(&file.0));

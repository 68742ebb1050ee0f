//! Formats other than TOML, and names in other files.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::{AdminStatus, outcome::Statuses, pick::StrategyName};

// C58
#[test]
fn json_is_read_like_toml() {
    let value = json!({
        "strategy": "shuffle",
        "failover": { "timeout": "5s", "mode": { "hedged": "20ms" }, "deadline": null },
        "backend": [{ "name": "a", "weight": 0.5 }, { "name": "b", "weight": 1 }],
    });
    let config = Config::read(&value).unwrap();
    let text = value.to_string();
    let parsed = Config::read(&mut serde_json::Deserializer::from_str(&text)).unwrap();
    let toml = good(
        "strategy = \"shuffle\"\nfailover = { timeout = \"5s\", mode = { hedged = \"20ms\" } }\n\
        backend = [{ name = \"a\", weight = 0.5 }, { name = \"b\", weight = 1 }]",
    );
    assert_eq!(debugged(&config), debugged(&toml));
    assert_eq!(debugged(&parsed), debugged(&toml));
    let table = toml::Table::from_iter([("name".to_owned(), toml::Value::from(3))]);
    assert_eq!(Config::read(table).unwrap_err().path, "name");
}

// C58
#[test]
fn what_toml_cannot_express_is_refused() {
    let json = |text: &str| Config::read(&mut serde_json::Deserializer::from_str(text)).unwrap_err().to_string();
    assert_eq!(
        json(r#"{"backend": [{"name": "a", "weight": 1, "weight": 2}]}"#),
        "backend[0].weight: is set twice (backend `a`)"
    );
    assert_eq!(
        json(r#"{"failover": {"mode": {"hedged": "1s", "race": null}}}"#),
        "failover.mode: a table must be a name, or a table of one name and its value"
    );
    assert_eq!(json("[]"), "a list must be a table");
    assert_eq!(json("null"), "nothing must be a table");
    assert_eq!(json(r#"{"backend": [{"name": null}]}"#), "backend[0].name: nothing must be a text");
    let broken = Config::read(&mut serde_json::Deserializer::from_str(r#"{"failover": {"mode": x}}"#)).unwrap_err();
    assert_eq!(broken.path, "failover.mode");
    assert!(broken.reason.contains("line 1 column"), "{broken}");
    assert!(std::error::Error::source(&broken).is_some());
}

// C58
#[test]
fn the_depth_of_a_source_is_bounded() {
    // Without `json!`, which is recursive.
    let mut deep = Value::from(1);
    for _ in 0..2_000 {
        deep = Value::from(vec![deep]);
    }
    let table = |key: &str, value| Value::from(Map::from_iter([(key.to_owned(), value)]));
    let error = Config::read(table("failover", table("triggers", deep))).unwrap_err().to_string();
    assert!(error.starts_with("failover.triggers[0][0]") && error.ends_with(": is nested too deep"), "{error}");
    let text = format!("name = \"hush\"\nbackend = {}1{} # hush", "[".repeat(60), "]".repeat(60));
    let error = Config::read(toml::Deserializer::parse(&text).unwrap()).unwrap_err();
    assert!(error.to_string().ends_with(": is nested too deep") && !debugged(&error).contains("hush"), "{error:?}");
    let text = format!("{{\"backend\": {}", "[".repeat(100_000));
    assert!(Config::read(&mut serde_json::Deserializer::from_str(&text)).is_err());
}

// C9
#[test]
fn names_can_be_read_from_other_files() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct OwnFile {
        strategy: StrategyName,
        statuses: Statuses,
        status: AdminStatus,
    }
    let file: OwnFile =
        toml::from_str("strategy = \"Round-Robin\"\nstatuses = [429, \"5xx\"]\nstatus = \"draining\"").unwrap();
    let expected =
        OwnFile { strategy: StrategyName::RoundRobin, statuses: Statuses::default(), status: AdminStatus::Draining };
    assert_eq!(file, expected);
    assert!(toml::from_str::<OwnFile>("strategy = \"fastest\"").unwrap_err().to_string().contains("must be one of"));
}

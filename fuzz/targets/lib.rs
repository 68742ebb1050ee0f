//! What the targets share: the invariants of a configuration that was read.

use serde_json::Value;
use tower_fleet::{Config, config::ConfigError};

/// The value of every secret. It must never be shown.
pub const SECRET: &str = "w9Kq2-never-shown-Zt7";

/// Checks what came of a source: either all of it can be built, or an error says where it is wrong.
pub fn check_config(read: Result<Config, ConfigError>) {
    match read {
        Ok(config) => {
            let fleet = config.fleet(|_| ()).expect("a file that was read can be built");
            let _ = config.failover().into_builder().build().expect("a failover that was read can be built");
            let shown = format!("{config:?} {fleet:?} {:?}", fleet.snapshot());
            assert!(!shown.contains(SECRET), "a secret is shown");
            assert_eq!(fleet.snapshot().len(), config.backends().len());
        }
        Err(invalid) => {
            let shown = format!("{invalid}");
            assert!(!invalid.reason.is_empty() && shown.len() < 4_000, "{} bytes", shown.len());
            assert!(!shown.contains(SECRET) && !format!("{invalid:?}").contains(SECRET), "a secret is shown");
        }
    }
}

/// Reads a tree, and the same as TOML if that can express it.
pub fn read_tree(tree: &Value) {
    let secret = |_: &str| Some(SECRET.to_owned());
    check_config(Config::read_with(tree, secret));
    if let Ok(table) = toml::Table::try_from(tree) {
        check_config(Config::read_with(table, secret));
    }
}

//! Any bytes as a file, in TOML and in JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_fleet::Config;
use tower_fleet_fuzz::{SECRET, check_config};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.contains(SECRET) {
        return;
    }
    let secret = |_: &str| Some(SECRET.to_owned());
    if let Ok(source) = toml::Deserializer::parse(text) {
        check_config(Config::read_with(source, secret));
    }
    check_config(Config::read_with(&mut serde_json::Deserializer::from_str(text), secret));
});

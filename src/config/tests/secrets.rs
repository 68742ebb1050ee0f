//! Secrets: where they come from, and that nothing shows them.

use super::*;

const HUSH: &str = "hush";

/// Reads a backend with these keys. Every secret has this value.
fn read_with(value: Option<&str>, keys: &str) -> Result<Config, ConfigError> {
    let text = format!("[[backend]]\nname = \"openai\"\n{keys}");
    let source = toml::Deserializer::parse(&text).expect("TOML");
    Config::read_with(source, |_| value.map(str::to_owned))
}

// C58, C59
#[test]
fn a_missing_variable_is_named() {
    for (keys, path) in [("bearer = \"env:KEY\"", "bearer"), ("secrets = { api-key = \"env:KEY\" }", "secrets.api-key")]
    {
        let missing = read_with(None, keys).unwrap_err().to_string();
        assert_eq!(missing, format!("backend[0].{path}: environment variable KEY is not set (backend `openai`)"));
        let empty = read_with(Some(""), keys).unwrap_err().to_string();
        assert_eq!(empty, format!("backend[0].{path}: environment variable KEY is empty (backend `openai`)"));
    }
}

// C58
#[test]
fn secrets_come_from_the_environment() {
    let read = |name: &str| {
        let text = format!("[[backend]]\nname = \"a\"\nbearer = \"env:{name}\"");
        Config::read(toml::Deserializer::parse(&text).unwrap())
    };
    assert!(read("PATH").is_ok());
    assert!(read("TOWER_FLEET_IS_NOT_SET").unwrap_err().to_string().contains("TOWER_FLEET_IS_NOT_SET is not set"));
}

// C59
#[test]
fn no_error_shows_what_may_be_a_secret() {
    for keys in [
        // Literals, and almost references.
        "bearer = \"hush\"",
        "bearer = \"env:sk-hush\"",
        "bearer = \"env:\\nhush\"",
        "bearer = [\"hush\"]",
        "bearer = { hush = \"hush\" }",
        "secrets = \"hush\"",
        "secrets = [\"hush\"]",
        "secrets = { api-key = \"hush\" }",
        "secrets = { api-key = [\"hush\"] }",
        "headers = { Authorization = \"Bearer hush\" }",
        "headers = { Cookie = \"hush\" }",
        "headers = { proxy-authorization = \"hush\" }",
        "headers = { x-api-key = \"hush\" }",
        "headers = { x-key = \"hush\\n\" }",
        "headers = [\"hush\"]",
        "headers = \"hush\"",
        "origin = \"https://user:hush@example.com\"",
        "origin = \"https://example.com?key=hush\"",
        "origin = \"hush hush\"",
        "origin = [\"hush\"]",
        "host = \"hush\\n\"",
        // Valid references, twice for one header.
        "bearer = \"env:KEY\"\nsecrets = { authorization = \"env:KEY\" }",
    ] {
        let invalid = read_with(Some(HUSH), keys).expect_err(keys);
        let source = std::error::Error::source(&invalid).map(|source| format!("{source} {source:?}"));
        let shown = format!("{invalid} {invalid:?} {source:?}");
        assert!(!shown.contains(HUSH), "{keys}: {shown}");
        assert!(invalid.path.starts_with("backend[0]."), "{invalid}");
        assert!(invalid.reason.contains("(backend `openai`)"), "{invalid}");
    }
    let broken = read_with(Some("hush\n"), "bearer = \"env:KEY\"").unwrap_err();
    assert_eq!(
        broken.to_string(),
        "backend[0].bearer: environment variable KEY must be a value of visible characters (backend `openai`)"
    );
    assert!(!debugged(&broken).contains(HUSH));
}

// C59
#[test]
fn no_debug_output_shows_a_secret() {
    let config = read_with(Some(HUSH), "bearer = \"env:KEY\"\nsecrets = { api-key = \"env:KEY\" }").unwrap();
    let fleet = config.fleet(|_| ()).unwrap();
    let backend = &config.backends()[0];
    let shown = format!("{config:?} {backend:?} {:?} {fleet:?} {:?}", backend.service(), config.failover());
    assert!(!shown.contains(HUSH), "{shown}");
}

// C59
#[test]
fn a_literal_credential_is_refused_with_the_key_to_use() {
    let literal = read_with(None, "headers = { Authorization = \"Bearer hush\" }").unwrap_err().to_string();
    assert!(literal.contains("backend[0].headers.Authorization: is a secret: set it in `secrets`"), "{literal}");
}

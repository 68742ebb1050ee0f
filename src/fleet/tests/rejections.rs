//! Invalid settings, which change nothing.

use std::time::Duration;

use super::{super::*, Numbers, fleet, named, received, services, version};
use crate::health::AdminStatus;

/// Makes a change that is rejected, and checks that nothing changed. Returns the error.
#[track_caller]
fn rejected(fleet: &Numbers, change: impl FnOnce(&Numbers) -> Result<(), InvalidSetting>) -> InvalidSetting {
    let (before, mut changes, published) = (fleet.snapshot(), fleet.changes(), version(fleet));
    let error = change(fleet).expect_err("the change is rejected");
    assert_eq!(fleet.snapshot(), before);
    assert_eq!(received(&mut changes), []);
    assert_eq!(version(fleet), published);
    error
}

/// Names that are harmful in headers, pages, logs, metrics, keys or terminals.
fn unsafe_names() -> Vec<String> {
    let names = [
        "",
        " ",
        "a b",
        "a\nb",
        "a\r\nset-cookie: x",
        "a\0b",
        "a\tb",
        "\u{1b}[31mred",
        "<script>alert(1)</script>",
        "a&b",
        "a\"b",
        "a'b",
        "a`b",
        "a\\b",
        "a{b}",
        "a,b",
        "a;b",
        "a=b",
        "a?b",
        "a#b",
        "a%b",
        "a@b",
        "a/../b?",
        "é",
        "日本",
        "a\u{202e}b",
        "a\u{200b}b",
    ];
    names
        .map(str::to_owned)
        .into_iter()
        .chain(["x".repeat(129), "x".repeat(1 << 20), "\u{1}".repeat(1 << 20)])
        .collect()
}

/// Checks that an error can be printed anywhere.
#[track_caller]
fn assert_printable(error: &InvalidSetting) {
    let text = error.to_string();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert!(!text.contains(|letter: char| letter.is_control() || "\u{202e}\u{200b}".contains(letter)), "{text:?}");
    assert!(!text.ends_with('.') && text.starts_with(char::is_lowercase), "{text}");
}

// C58, C60
#[test]
fn an_unsafe_name_is_rejected_by_every_method() {
    for name in unsafe_names() {
        let built = Fleet::plain().backend(Backend::new("valid", 1)).backend(Backend::new(name.clone(), 2)).build();
        let fleet = fleet(&["valid"]);
        let all = [
            built.expect_err("the setting is rejected"),
            rejected(&fleet, |fleet| fleet.insert(Backend::new(name.clone(), 2))),
            rejected(&fleet, |fleet| fleet.replace(Backend::new(name.clone(), 2))),
            rejected(&fleet, |fleet| fleet.set_weight(&name, 2)),
            rejected(&fleet, |fleet| fleet.set_weight(&name, 0)),
            rejected(&fleet, |fleet| fleet.set_timeout(&name, Duration::ZERO)),
        ];
        for error in all {
            assert_eq!((error.field(), error.backend()), ("name", None), "{error}");
            assert!(error.to_string().contains(error.value()));
            assert!(name.len() > 160 || error.value() == format!("`{}`", name.escape_debug()), "{error}");
            assert_printable(&error);
        }
        assert!(!fleet.remove(&name) && !fleet.drain(&name) && !fleet.set_priority(&name, 1));
        assert!(!fleet.cool_down(&name, Duration::from_secs(1)) && fleet.switch(&name).is_none());
    }
}

// C58, C60
#[test]
fn valid_names_are_accepted_unchanged() {
    let longest = "x".repeat(128);
    for name in ["a", "eu-1", "10.0.0.1:8080", "[::1]:80", "https://api.example.com/v1", "A_b.c", &longest] {
        assert_eq!(services(&fleet(&[name])), named(&[(name, 0)]));
    }
}

// C58
#[test]
fn a_name_in_use_is_rejected() {
    let built = Fleet::plain().backend(Backend::new("a", 1)).backend(Backend::new("a", 2)).build();
    let inserted = rejected(&fleet(&["a", "b"]), |fleet| fleet.insert(Backend::new("b", 2)));
    for (error, name) in [(built.expect_err("the setting is rejected"), "a"), (inserted, "b")] {
        assert_eq!((error.field(), error.backend(), error.value()), ("name", None, format!("`{name}`").as_str()));
        assert_eq!(error.to_string(), format!("backend name `{name}` is taken"));
    }
    // A name is free again once its backend was removed.
    let fleet = fleet(&["a"]);
    assert!(fleet.remove("a"));
    fleet.insert(Backend::new("a", 7)).expect("a free name");
    assert_eq!(services(&fleet), named(&[("a", 7)]));
}

// C58
#[test]
fn an_unknown_name_is_rejected() {
    let fleet = fleet(&["a"]);
    let replaced = rejected(&fleet, |fleet| fleet.replace(Backend::new("b", 2)));
    let reweighted = rejected(&fleet, |fleet| fleet.set_weight("b", 2));
    let timed = rejected(&fleet, |fleet| fleet.set_timeout("b", None));
    for error in [replaced, reweighted, timed] {
        assert_eq!(error.to_string(), "backend name `b` is not in this fleet");
    }
    let mut changes = fleet.changes();
    assert!(!fleet.remove("b") && !fleet.set_priority("b", 1) && !fleet.set_status("b", AdminStatus::Degraded));
    assert_eq!(received(&mut changes), []);
}

// C6, C58
#[test]
fn a_weight_of_zero_is_rejected_by_every_method() {
    let invalid = |name: &'static str| Backend::new(name, 1).weight(0);
    let built = Fleet::plain().backend(invalid("a")).build().expect_err("the setting is rejected");
    let fleet = fleet(&["a"]);
    let all = [
        (built, "a"),
        (rejected(&fleet, |fleet| fleet.insert(invalid("b"))), "b"),
        (rejected(&fleet, |fleet| fleet.replace(invalid("a"))), "a"),
        (rejected(&fleet, |fleet| fleet.set_weight("a", 0)), "a"),
    ];
    for (error, name) in all {
        assert_eq!((error.field(), error.backend(), error.value()), ("weight", Some(name), "0"));
        assert_eq!(
            error.to_string(),
            format!("backend `{name}`: weight 0 must be at least 1: to send a backend no requests, drain it")
        );
    }
}

// C50, C58
#[test]
fn a_timeout_of_zero_is_rejected_by_every_method() {
    let invalid = |name: &'static str| Backend::new(name, 1).timeout(Duration::ZERO);
    let built = Fleet::plain().backend(invalid("a")).build().expect_err("the setting is rejected");
    let fleet = fleet(&["a"]);
    let all = [
        (built, "a"),
        (rejected(&fleet, |fleet| fleet.insert(invalid("b"))), "b"),
        (rejected(&fleet, |fleet| fleet.replace(invalid("a"))), "a"),
        (rejected(&fleet, |fleet| fleet.set_timeout("a", Duration::ZERO)), "a"),
    ];
    for (error, name) in all {
        assert_eq!((error.field(), error.backend(), error.value()), ("timeout", Some(name), "0 s"));
        assert_eq!(error.to_string(), format!("backend `{name}`: timeout 0 s must be longer than zero"));
    }
}

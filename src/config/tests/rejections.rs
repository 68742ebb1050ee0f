//! The rules `[[failover.rejection]]`, and the tags of backends.

use super::*;

/// A file with these keys of `[failover]`, and with one rule of these keys.
fn file(failover: &str, rule: &str) -> String {
    format!("{failover}\n{rule}\n[[backend]]\nname = \"a\"\n[[backend]]\nname = \"b\"\ntags = [\"large\", \"eu\"]\n")
}

fn rule(keys: &str) -> String {
    file("", &format!("[[failover.rejection]]\n{keys}\n"))
}

// C72
#[test]
fn rules_and_tags_take_effect() {
    let keys = "name = \"too long\"\nstatuses = [400, \"420-422\"]\njson = { path = \"error.code\", any = [\"long\"] }\n\
                contains = [\"Too Long\"]\nthen = { tagged = \"large\" }\ncounts = true";
    let shown = debugged(&good(&rule(keys)).failover().rejections());
    for expected in [
        "name: \"too long\", statuses: {400, 420..=422}",
        "Contains([\"too long\"])",
        "[\"long\"])",
        "follow: Tagged(\"large\"), is_failure: true",
        "bound: 65536",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    for (then, expected) in [("next", "Next"), ("later", "Later"), ("answer", "Answer")] {
        let sequence = "[failover]\nmode = \"sequential\"\nattempts_per_backend = 2";
        let text = format!("[[failover.rejection]]\nname = \"x\"\nstatuses = [400]\nthen = \"{then}\"\n");
        let shown = debugged(&good(&file(sequence, &text)).failover().rejections());
        assert!(shown.contains(&format!("follow: {expected}, is_failure: false")), "{shown}");
    }
    let config = good(&file("", ""));
    assert!(config.failover().rejections().is_none());
    let fleet = config.fleet(|_| ()).unwrap();
    assert_eq!(fleet.snapshot()[1].tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["eu", "large"]);
}

// C72
#[test]
fn a_preset_comes_after_the_rules_of_the_file() {
    let own = "[[failover.rejection]]\nname = \"own\"\nstatuses = [\"4xx\"]\nthen = \"answer\"";
    let failover =
        good(&file("[failover]\nrejections = \"chat-completions\"\nrejection_bound = \"1KiB\"", own)).failover();
    let rejections = failover.rejections().unwrap();
    let names: Vec<_> = rejections.iter().map(|rule| rule.name()).collect();
    assert_eq!((names[0], names[1], rejections.body_bound()), ("own", "content policy", 1024));
}

// C58, C72
#[test]
fn a_bad_rule_is_refused_by_path_and_value() {
    let x = "name = \"x\"\nstatuses = [400]\nthen = \"next\"";
    for (keys, expected) in [
        ("statuses = [400]\nthen = \"next\"", "name: is missing"),
        ("name = \"x\"\nthen = \"next\"", "statuses: is missing"),
        ("name = \"x\"\nstatuses = [400]", "then: is missing"),
        ("name = \"x\"\nstatuses = []\nthen = \"next\"", "statuses: [] must not be empty: the rule never matches"),
        ("name = \"x\"\nstatuses = [200]\nthen = \"next\"", "statuses: 200 must be an error status, from 400"),
        (
            "name = \"x\"\nstatuses = [400]\nthen = \"never\"",
            "then: \"never\" must be one of next, later, answer, tagged",
        ),
        (
            "name = \"x\"\nstatuses = [400]\nthen = { tagged = \"huge\" }",
            "then.tagged: \"huge\" must be a tag of one of the backends",
        ),
        ("name = \"x\\n\"\nstatuses = [400]\nthen = \"next\"", "name: "),
        (&format!("{x}\ncontains = []"), "contains: [] must not be empty: it never holds"),
        (&format!("{x}\njson = {{ path = \"a\", any = [] }}"), "json.any: [] must not be empty: it never holds"),
        (
            &format!("{x}\njson = {{ path = \"a..b\", any = [\"y\"] }}"),
            "json.path: \"a..b\" must have no empty segment",
        ),
        (&format!("{x}\njson = {{ path = \"a\" }}"), "json.any: is missing"),
        (&format!("{x}\nwhen = 3"), "when: there is no such key"),
    ] {
        let refused = refused(&rule(keys));
        assert!(refused.starts_with(&format!("failover.rejection[0].{expected}")), "{refused}");
    }
    let twice = format!("{x}\n[[failover.rejection]]\n{x}");
    assert_eq!(refused(&rule(&twice)), "failover.rejection[1]: never matches: earlier rules match all its responses");
    let long = format!("name = \"{}\"\nstatuses = [400]\nthen = \"next\"", "x".repeat(100_000));
    let refusal = refused(&rule(&long));
    assert!(refusal.len() < 300 && refusal.ends_with("must have at most 64 bytes"), "{refusal}");
    for (keys, expected) in [
        ("rejections = \"chat\"", "failover.rejections: \"chat\" must be one of chat-completions"),
        ("rejection_bound = \"1KiB\"", "failover.rejection_bound: needs a rule"),
        ("rejections = \"chat-completions\"\nrejection_bound = 0", "failover.rejection_bound: 0 must be from 1 byte"),
    ] {
        let refused = refused(&file(&format!("[failover]\n{keys}"), ""));
        assert!(refused.starts_with(expected), "{refused}");
    }
    assert_eq!(
        refused("[[backend]]\nname = \"a\"\ntags = [\"x\", \"y z\"]"),
        "backend[0].tags: `y z` of `a` may hold ASCII letters, digits and -_.:/[] only"
    );
}

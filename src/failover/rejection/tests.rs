use proptest::prelude::*;

use super::*;
use crate::{failover::Follow, outcome::Statuses};

fn rule(name: &'static str, statuses: &str) -> Rejection {
    Rejection::new(name).statuses(statuses.parse().unwrap())
}

fn name(rejections: &Rejections, status: u16, body: &str) -> Option<&'static str> {
    rejections.matched(status, body.as_bytes()).map(Rejection::name)
}

fn refusal(rules: impl IntoIterator<Item = Rejection>) -> String {
    Rejections::new(rules).unwrap_err().to_string()
}

// C72
#[test]
fn the_first_rule_that_matches_decides() {
    let rules = [
        rule("long", "400, 413").contains(["Too LONG", "très long"]).then(Follow::Tagged("large")),
        rule("busy", "5xx").contains(["busy"]).contains(["later"]).then(Follow::Later),
        rule("rest", "400").then(Follow::Answer),
        rule("key", "401").counts(true),
    ];
    let rejections = Rejections::new(rules).unwrap();
    for (status, body, expected) in [
        (400, "prompt too long!", Some("long")),
        (413, "TRÈS LONG", Some("long")),
        (413, "too short", None),
        (400, "too short", Some("rest")),
        (400, "", Some("rest")),
        (503, "Busy, try LATER", Some("busy")),
        (503, "busy", None),
        (401, "anything", Some("key")),
        (404, "too long", None),
        (200, "too long", None),
    ] {
        assert_eq!(name(&rejections, status, body), expected, "{status} {body}");
    }
    let long = rejections.matched(400, b"\xff too long \xff").unwrap();
    assert_eq!((long.follow(), long.is_failure()), (Follow::Tagged("large"), false));
    assert!(rejections.matched(401, b"").unwrap().is_failure());
    let asked = |ask: fn(&Rejections, u16) -> bool| [400, 401, 413, 503, 404].map(|status| ask(&rejections, status));
    assert_eq!(asked(Rejections::concerns), [true, true, true, true, false]);
    assert_eq!(asked(Rejections::needs_body), [true, false, true, true, false]);
}

// C72
#[cfg(feature = "json")]
#[test]
fn a_code_is_found_at_its_path() {
    let rules = [
        rule("both", "400").json("error.code", ["a", "7", "true"]).unwrap().contains(["text"]),
        rule("any", "400").json("errors.*.type", ["a"]).unwrap(),
    ];
    let rejections = Rejections::new(rules).unwrap();
    for (body, expected) in [
        (r#"{"error":{"code":"a","message":"some text"}}"#, Some("both")),
        (r#"{"error":{"code":7,"message":"some text"}}"#, Some("both")),
        (r#"{"error":{"code":true,"message":"some text"}}"#, Some("both")),
        (r#"{"error":{"code":"a"}}"#, None),
        (r#"{"error":{"code":"A","message":"some text"}}"#, None),
        (r#"{"error":{"code":["a"],"message":"some text"}}"#, None),
        (r#"{"errors":[{"type":"b"},{"type":"a"}]}"#, Some("any")),
        (r#"{"errors":[{"type":"a"}]"#, None),
        (r#"{"error":{"code":"a"}} text"#, None),
        ("", None),
    ] {
        assert_eq!(name(&rejections, 400, body), expected, "{body}");
    }
    let error = rule("a", "400").json("a..b", ["x"]).unwrap_err();
    assert_eq!(error.to_string(), "path `a..b` must have no empty segment");
}

// C72, C58
#[test]
fn a_rule_that_never_matches_is_refused_by_name() {
    let never = "never matches: earlier rules match all its responses";
    for (rules, reason) in [
        (vec![Rejection::new("a")], "`a`.statuses [] must not be empty: the rule never matches".into()),
        (vec![rule("a", "399-499")], "`a`.statuses 399 must be an error status, from 400".into()),
        (vec![rule("a", "400").contains([""; 0])], "`a`.contains [] must not be empty: it never holds".into()),
        (vec![rule("a", "400").contains(["x", ""])], "`a`.contains \\\"\\\" must not be an empty text".into()),
        (vec![rule("a", "400").contains(vec!["x"; 257])], "`a`.contains 257 must be at most 256 texts".into()),
        (vec![rule("a", "400"), rule("b", "400").contains(["x"])], format!("`b` {never}")),
        (vec![rule("a", "4xx"), rule("b", "400, 404").contains(["x"])], format!("`b` {never}")),
        (vec![rule("a", "400"), rule("c", "404"), rule("b", "400, 404").contains(["x"])], format!("`b` {never}")),
        (vec![rule("a", "400").contains(["x", "y"]), rule("b", "400").contains(["Y"])], format!("`b` {never}")),
        (
            vec![rule("a", "400").contains(["x"]), rule("b", "400").contains(["y"]).contains(["axe"])],
            format!("`b` {never}"),
        ),
        (vec![rule("", "400")], "must have 1 to 64 ASCII letters".into()),
        (vec![rule("a\nb", "400")], "must have 1 to 64 ASCII letters".into()),
        (vec![rule("a", "400").then(Follow::Tagged("a b"))], "`a`.then.tagged \\\"a b\\\" may hold".into()),
        (
            (0..257u32).map(|number| rule("a", "400").contains([format!("<{number}>")])).collect(),
            "`a` 257 must be at most 256 rules".into(),
        ),
    ] {
        let refusal = refusal(rules);
        assert!(refusal.starts_with("failover: rejection `") && refusal.contains(&reason), "{refusal}");
    }
    let long = refusal([rule("a", "400").contains(["x".repeat(100_000)])]);
    assert!(long.len() < 300 && long.ends_with("must have at most 256 bytes"), "{long}");
    // None of these hides the other.
    let apart = [rule("a", "400").contains(["axe"]), rule("b", "400").contains(["x"]), rule("c", "400, 404")];
    assert!(Rejections::new(apart).is_ok());
}

// C72, C58
#[cfg(feature = "json")]
#[test]
fn a_rule_that_an_earlier_one_hides_by_its_code_is_refused() {
    let with = |name, path, codes: &[&str]| rule(name, "400").json(path, codes.iter().copied()).unwrap();
    assert!(refusal([with("a", "error.code", &["x", "y"]), with("b", "error.code", &["y"])]).contains("`b` never"));
    assert!(refusal([with("a", "error.code", &[])]).contains("`a`.json.any [] must not be empty"));
    for (path, codes) in [("error.code", &["y", "z"][..]), ("error.type", &["y"])] {
        assert!(Rejections::new([with("a", "error.code", &["x", "y"]), with("b", path, codes)]).is_ok());
    }
}

// C72
#[test]
fn own_rules_come_before_those_of_others() {
    let own = Rejections::new([rule("own", "400")]).unwrap().bound(100).unwrap();
    let both = own.or(Rejections::new([rule("hidden", "400"), rule("other", "404")]).unwrap());
    assert_eq!(both.iter().map(Rejection::name).collect::<Vec<_>>(), ["own", "hidden", "other"]);
    assert_eq!((name(&both, 400, ""), name(&both, 404, "")), (Some("own"), Some("other")));
    assert_eq!(both.body_bound(), 100);
    for bytes in [0, (16 << 20) + 1, usize::MAX] {
        assert!(both.clone().bound(bytes).unwrap_err().to_string().ends_with("must be from 1 byte to 16 MiB"));
    }
}

// C72
#[cfg(feature = "json")]
#[test]
fn the_preset_knows_the_answers_of_providers() {
    use Follow::{Answer, Next, Tagged};
    let rejections = Rejections::chat_completions();
    let larger = Tagged("larger-context");
    for (status, body, expected) in [
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Some(("context length", larger, false)),
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#,
            Some(("context length", larger, false)),
        ),
        (422, r#"{"detail":"Input is too long for requested model."}"#, Some(("context length", larger, false))),
        (
            400,
            r#"{"error":{"code":400,"message":"The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
            Some(("context length", larger, false)),
        ),
        (
            400,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering our content management policy.","type":null,"code":"content_filter","status":400}}"#,
            Some(("content policy", Answer, false)),
        ),
        (
            400,
            r#"{"error":{"code":"content_policy_violation","message":"too many tokens"}}"#,
            Some(("content policy", Answer, false)),
        ),
        (
            400,
            r#"{"error":{"message":"Your request was rejected as a result of our safety system."}}"#,
            Some(("content policy", Answer, false)),
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            Some(("wrong key", Next, true)),
        ),
        (401, "Unauthorized", Some(("wrong key", Next, true))),
        (
            403,
            r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#,
            Some(("wrong key", Next, true)),
        ),
        (403, r#"{"error":{"code":"unsupported_country"}}"#, None),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Some(("quota", Next, false)),
        ),
        (429, r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#, None),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
            Some(("quota", Next, false)),
        ),
        (
            404,
            r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#,
            Some(("model not found", Next, false)),
        ),
        (404, "not found", None),
        (400, r#"{"error":{"message":"temperature must be at most 2","code":"invalid_value"}}"#, None),
        (500, r#"{"error":{"code":"context_length_exceeded"}}"#, None),
    ] {
        let matched = rejections.matched(status, body.as_bytes());
        assert_eq!(matched.map(|rule| (rule.name(), rule.follow(), rule.is_failure())), expected, "{status} {body}");
    }
    // A body that could not be read is told by its status alone.
    assert!(rejections.needs_body(400) && !rejections.needs_body(401) && !rejections.concerns(503));
    assert_eq!((name(&rejections, 400, ""), name(&rejections, 401, "")), (None, Some("wrong key")));
}

proptest! {
    // C58, C72
    #[test]
    fn no_body_makes_it_panic(
        status in any::<u16>(),
        text in "[ab\\[{}\":,\\\\]{1,9}",
        body in prop::collection::vec(prop_oneof![Just(b'a'), Just(b'"'), Just(b'{'), any::<u8>()], 0..60),
    ) {
        let rejections = Rejections::new([Rejection::new("a").statuses(Statuses::default()).contains([text])]).unwrap();
        let expected = rejections.concerns(status)
            && rejections.iter().any(|rule| rule.matches(status, &condition::Body::new(&body)));
        prop_assert_eq!(rejections.matched(status, &body).is_some(), expected);
    }
}

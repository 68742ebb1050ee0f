use std::io;

use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::*;
use crate::State;

fn rules(section: &str) -> String {
    debugged(&good(&format!("[breaker]\n{section}")).breaker())
}

// C36
#[test]
fn every_setting_takes_effect() {
    for (section, expected) in [
        ("failures = 7", "failures: Some(7)"),
        ("within = \"90s\"", "within: Some(90s)"),
        ("consecutive = 4", "consecutive: Some(4)"),
        (
            "failure_rate = { rate = 0.5, window = \"30s\", minimum_calls = 20 }",
            "failure_rate: Some(Rate { rate: 0.5, window: 30s, minimum_calls: 20 })",
        ),
        (
            "slow_calls = { rate = 1, slower_than = \"2s\", window = \"30s\", minimum_calls = 9 }",
            "SlowCalls { slower_than: 2s, share: Rate { rate: 1.0, window: 30s, minimum_calls: 9 } }",
        ),
        ("open_for = \"10s\"", "open_for: 10s"),
        ("growth = 2", "growth: 2.0"),
        ("longest = \"10min\"", "longest: Some(600s)"),
        ("jitter = 0.1", "jitter: 0.1"),
        ("forgive_after = \"2min\"", "forgive_after: 120s"),
        ("probes = 3", "probes: 3"),
        ("probe_timeout = \"5s\"", "probe_timeout: 5s"),
        ("successes_to_close = 2", "successes_to_close: 2"),
    ] {
        let shown = rules(section);
        assert!(shown.contains(expected), "{section}: {shown}");
    }
}

// C36
#[test]
fn without_a_section_it_is_the_default() {
    let code = debugged(&crate::CircuitBreakerLayer::new());
    assert_eq!(debugged(&good("").breaker()), code);
    assert_eq!(rules("enabled = true"), code);
}

/// Whether the circuit of the only backend is open after so many answers with this status.
async fn opens(section: &str, status: u16, calls: u32) -> State {
    let config = good(&with_backends(section, &["a"]));
    let fleet = config
        .fleet(|_| {
            service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| async move {
                let response = Response::builder().status(status).body(Full::<Bytes>::default());
                Ok::<_, Infallible>(response.expect("a response"))
            })
        })
        .expect("a fleet");
    let door = config.failover().layer(fleet.clone());
    for _ in 0..calls {
        let _ = door.clone().oneshot(Request::new(Full::<Bytes>::default())).await;
    }
    fleet.snapshot()[0].state
}

// C36, C37
#[tokio::test(start_paused = true)]
async fn every_backend_is_behind_the_breaker_of_the_file() {
    assert_eq!(opens("", 503, 4).await, State::Closed);
    assert_eq!(opens("", 503, 5).await, State::Open);
    assert_eq!(opens("[breaker]\nconsecutive = 2", 503, 2).await, State::Open);
    assert_eq!(opens("[breaker]\nstatuses = [404]", 503, 9).await, State::Closed);
    assert_eq!(opens("[breaker]\nstatuses = [404]", 404, 5).await, State::Open);
}

// C41
#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_switched_off_opens_by_hand_only() {
    let off = "[breaker]\nenabled = false\nconsecutive = 1";
    assert_eq!(opens(off, 503, 100).await, State::Closed);
    let fleet = good(&with_backends(off, &["a"])).fleet(|_| ()).unwrap();
    fleet.switch("a").unwrap().force_open();
    assert_eq!(fleet.snapshot()[0].state, State::ForcedOpen);
    // And in the way that the other keys say.
    let shown = rules("enabled = false\nopen_for = \"5s\"\nfailures = 3");
    assert!(shown.contains("open_for: 5s") && !shown.contains("failures: Some(3)"), "{shown}");
}

/// The state of the circuit after these answers: one that fails with its head, or one whose body breaks off behind a
/// good head.
async fn after(section: &str, answers: &[&str]) -> State {
    let config = good(&with_backends(section, &["a"]));
    let broken = || StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("broke"))]));
    let client = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| async move {
        let status = if request.uri().path() == "/head" { 503 } else { 200 };
        Ok::<_, Infallible>(Response::builder().status(status).body(broken()).expect("a response"))
    });
    let fleet = config.fleet(|_| client).expect("a fleet");
    let door = config.failover().layer(fleet.clone());
    for answer in answers {
        let request = Request::get(format!("/{answer}")).body(Full::<Bytes>::default()).expect("a request");
        if let Ok(answer) = door.clone().oneshot(request).await {
            answer.into_body().collect().await.expect_err("it broke off");
        }
    }
    fleet.snapshot()[0].state
}

// C34: a good head ends the streak of failed calls, unless the end of the body alone is a success.
#[tokio::test]
async fn a_success_may_be_told_by_the_end_alone() {
    for (section, expected) in [("", State::Closed), ("\nsuccess_at_end = true", State::Open)] {
        let section = format!("[breaker]\nconsecutive = 2{section}");
        assert_eq!(after(&section, &["head", "body"]).await, expected, "{section}");
        // Bodies that break off one after the other open it either way.
        assert_eq!(after(&section, &["body"]).await, State::Closed, "{section}");
        assert_eq!(after(&section, &["body", "body"]).await, State::Open, "{section}");
    }
}

// C58
#[test]
fn a_breaker_that_is_switched_off_is_looked_at_all_the_same() {
    let error = refused("[breaker]\nenabled = false\nprobes = 0");
    assert_eq!(error, "breaker.probes: 0 must be at least 1");
}

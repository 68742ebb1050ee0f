//! The section `[breaker]`.

use std::io;

use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::*;
use crate::CircuitState;

fn rules(section: &str) -> String {
    debugged(&good(&format!("[breaker]\n{section}")).circuit_policy())
}

// C36
#[test]
fn every_setting_takes_effect() {
    for (section, expected) in [
        ("failures = 7", "failures: Some(7)"),
        ("within = \"90s\"", "within: Some(90s)"),
        ("consecutive = 4", "consecutive: Some(4)"),
        (
            "failure_rate = { share = 0.5, window = \"30s\", minimum_calls = 20 }",
            "failure_rate: Some(Rate { share: 0.5, window: 30s, minimum_calls: 20 })",
        ),
        (
            "slow_calls = { share = 1, slower_than = \"2s\", window = \"30s\", minimum_calls = 9 }",
            "SlowCalls { slower_than: 2s, rate: Rate { share: 1.0, window: 30s, minimum_calls: 9 } }",
        ),
        ("open_for = \"10s\"", "open_for: 10s"),
        ("growth = 2", "growth: 2.0"),
        ("max_open_for = \"10min\"", "max_open_for: Some(600s)"),
        ("jitter = 0.1", "jitter: 0.1"),
        ("backoff_reset_after = \"2min\"", "backoff_reset_after: 120s"),
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
fn the_default_is_that_of_the_code() {
    let code = debugged(&crate::CircuitPolicy::new());
    assert_eq!(debugged(&good("").circuit_policy()), code);
    assert_eq!(rules("enabled = true"), code);
}

/// The state of the circuit after this many responses with this status.
async fn state_after(section: &str, status: u16, calls: u32) -> CircuitState {
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
async fn every_backend_has_the_breaker_of_the_file() {
    assert_eq!(state_after("", 503, 4).await, CircuitState::Closed);
    assert_eq!(state_after("", 503, 5).await, CircuitState::Open);
    assert_eq!(state_after("[breaker]\nconsecutive = 2", 503, 2).await, CircuitState::Open);
    assert_eq!(state_after("[breaker]\nstatuses = [404]", 503, 9).await, CircuitState::Closed);
    assert_eq!(state_after("[breaker]\nstatuses = [404]", 404, 5).await, CircuitState::Open);
}

// C41
#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_switched_off_is_opened_by_the_operator_only() {
    let off = "[breaker]\nenabled = false\nconsecutive = 1";
    assert_eq!(state_after(off, 503, 100).await, CircuitState::Closed);
    let fleet = good(&with_backends(off, &["a"])).fleet(|_| ()).unwrap();
    fleet.switch("a").unwrap().force_open();
    assert_eq!(fleet.snapshot()[0].state, CircuitState::ForcedOpen);
    // The keys that are not rules still apply.
    let shown = rules("enabled = false\nopen_for = \"5s\"\nfailures = 3");
    assert!(shown.contains("open_for: 5s") && !shown.contains("failures: Some(3)"), "{shown}");
}

/// The state of the circuit after these responses: `head` has a failed status, `body` a good head and a body that
/// breaks off.
async fn state_after_failures(section: &str, failures: &[&str]) -> CircuitState {
    let config = good(&with_backends(section, &["a"]));
    let broken = || StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("cut"))]));
    let client = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| async move {
        let status = if request.uri().path() == "/head" { 503 } else { 200 };
        Ok::<_, Infallible>(Response::builder().status(status).body(broken()).expect("a response"))
    });
    let fleet = config.fleet(|_| client).expect("a fleet");
    let door = config.failover().layer(fleet.clone());
    for failure in failures {
        let request = Request::get(format!("/{failure}")).body(Full::<Bytes>::default()).expect("a request");
        if let Ok(response) = door.clone().oneshot(request).await {
            response.into_body().collect().await.expect_err("a body that breaks off");
        }
    }
    fleet.snapshot()[0].state
}

// C34: a good head ends the streak of failed calls, unless a success is recorded at the end of the body.
#[tokio::test]
async fn a_success_can_wait_for_the_end_of_the_body() {
    for (section, expected) in [("", CircuitState::Closed), ("\nsuccess_at_end = true", CircuitState::Open)] {
        let section = format!("[breaker]\nconsecutive = 2{section}");
        assert_eq!(state_after_failures(&section, &["head", "body"]).await, expected, "{section}");
        // Two bodies in a row that break off open it in both cases.
        assert_eq!(state_after_failures(&section, &["body"]).await, CircuitState::Closed, "{section}");
        assert_eq!(state_after_failures(&section, &["body", "body"]).await, CircuitState::Open, "{section}");
    }
}

// C58
#[test]
fn a_breaker_that_is_switched_off_is_validated() {
    let error = refused("[breaker]\nenabled = false\nprobes = 0");
    assert_eq!(error, "breaker.probes: 0 must be at least 1");
}

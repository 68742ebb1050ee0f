//! Backends that forbid a retry: `grpc-retry-pushback-ms` as gRFC A6 specifies it.

use tokio::time::Instant;
use tower_fleet::{
    FailoverLayer, Fleet,
    failover::{CommitPoint, FailoverBuilder, HedgeDelay, Mode, Stopped},
    outcome::{Failure, FailureKind},
};

use crate::mock::*;

/// A gRPC response with a status in its head, and this pushback.
fn unavailable(pushback: &'static str) -> Reply {
    let reply = status(200).header("content-type", "application/grpc").header("grpc-status", "14");
    reply.header("grpc-retry-pushback-ms", pushback)
}

const MODES: [Mode; 3] = [Mode::Race, Mode::Sequential, Mode::Hedged(HedgeDelay::After(millis(100)))];

fn layer(mode: Mode) -> FailoverBuilder {
    FailoverLayer::builder().mode(mode)
}

// C26, C52
#[tokio::test(start_paused = true)]
async fn a_negative_or_invalid_pushback_ends_further_attempts() {
    for mode in MODES {
        for pushback in ["-1", "-2147483649", "soon", ""] {
            let (fleet, [a, b, c]) = fleet();
            a.usually(unavailable(pushback).after(10));
            let answer = ask(&layer(mode), &fleet, get()).await;
            assert_eq!(story(&answer), "a:status(grpc status 14, no retry)", "{mode:?} {pushback:?}");
            assert_eq!(ledger(&answer).stopped(), Some(Stopped::Pushback), "{mode:?} {pushback:?}");
            assert!(ledger(&answer).to_string().ends_with("; not sent again: pushback of a backend"));
            let response = answer.expect("the response of the backend");
            assert_eq!(response.headers()["grpc-retry-pushback-ms"], pushback);
            assert_eq!((a.calls(), b.calls(), c.calls()), (1, 0, 0), "{mode:?} {pushback:?}");
        }
    }
}

// C26, C30, C52
#[tokio::test(start_paused = true)]
async fn a_pushback_in_the_trailers_ends_further_attempts() {
    for commit in [CommitPoint::first_frame(), CommitPoint::whole(1024)] {
        for mode in MODES {
            let (fleet, [a, b]) = fleet();
            let trailers = Piece::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
            let pieces = vec![Piece::Size(0), Piece::Wait(10), trailers];
            a.usually(status(200).header("content-type", "application/grpc").body(pieces));
            let answer = ask(&layer(mode).commit(commit.clone()), &fleet, get()).await;
            assert_eq!(story(&answer), "a:status(grpc status 14, no retry)", "{mode:?} {commit:?}");
            assert_eq!(ledger(&answer).stopped(), Some(Stopped::Pushback), "{mode:?} {commit:?}");
            assert_eq!((a.calls(), b.calls()), (1, 0), "{mode:?} {commit:?}");
        }
    }
}

// C15, C26, C52
#[tokio::test(start_paused = true)]
async fn a_running_hedge_may_win_after_a_pushback_and_no_further_one_starts() {
    for (b_does, result) in [(status(200), (200, "b")), (status(503), (503, "b")), (fail("reset"), (200, ""))] {
        let (fleet, [a, b, c]) = fleet();
        a.usually(unavailable("-1").after(150).body(vec![]));
        b.usually(b_does.after(400));
        let answer = ask(&layer(Mode::hedged(millis(100))), &fleet, get()).await;
        assert_eq!(ledger(&answer).stopped(), Some(Stopped::Pushback));
        assert_eq!(told(answer).await, (result.0, result.1.into()));
        assert_eq!((a.calls(), b.calls(), c.calls()), (1, 1, 0));
        assert_idle(&fleet);
    }
}

// C15, C17, C26, C52
#[tokio::test(start_paused = true)]
async fn a_race_goes_on_with_the_attempts_that_run() {
    let (fleet, [a, b, c, d]) = fleet();
    a.then([status(503), hang()]);
    b.usually(unavailable("-1").after(10));
    // Fails later, which would make room for `d`.
    c.usually(status(503).after(20));
    let began = Instant::now();
    let answer = ask(&layer(Mode::Race).race_width(3), &fleet, get()).await;
    assert_took(began, 5_000);
    assert_eq!(ledger(&answer).stopped(), Some(Stopped::Pushback));
    assert_eq!((a.calls(), b.calls(), c.calls(), d.calls()), (2, 1, 1, 0));
    assert_eq!((a.running(), a.cut_off()), (0, 1));
}

// C10, C26, C52
#[tokio::test(start_paused = true)]
async fn a_backend_that_becomes_ready_after_a_pushback_is_not_called() {
    for mode in [Mode::Race, Mode::hedged(millis(100))] {
        let (fleet, [a, b, c]) = fleet();
        a.then([unavailable("0"), hang()]);
        a.usually(hang());
        b.usually(unavailable("-1").after(50));
        c.ready_after(80);
        let answer = ask(&layer(mode).timeout(millis(200)), &fleet, get()).await;
        assert_eq!(ledger(&answer).stopped(), Some(Stopped::Pushback), "{mode:?}");
        assert_eq!(c.calls(), 0, "{mode:?}");
    }
}

// C52
#[tokio::test(start_paused = true)]
async fn a_positive_pushback_delays_the_next_attempt_at_the_backend() {
    let (fleet, [a]) = fleet();
    a.then([unavailable("250")]);
    let began = Instant::now();
    let answer = ask(&layer(Mode::Sequential).attempts_per_backend(2), &fleet, get()).await;
    assert_took(began, 250);
    assert_eq!(told(answer).await, (200, "a".into()));
}

// C26, C29
#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_http_can_forbid_a_retry() {
    let refuses = tower::service_fn(|(): ()| async { Err::<(), _>(Failure::new(FailureKind::Connect).no_retry()) });
    let backends = ["a", "b"].map(|name| tower_fleet::Backend::new(name, refuses));
    let fleet = Fleet::plain().backends(backends).build().expect("a fleet");
    let door = tower::Layer::layer(&FailoverLayer::plain().build().expect("a layer"), fleet);
    let error = door.oneshot(()).await.expect_err("a failure");
    assert_eq!((error.ledger().stopped(), error.ledger().attempts().len()), (Some(Stopped::Pushback), 1));
}

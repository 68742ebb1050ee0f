//! The time that a backend names with `Retry-After` or its relatives: it gets no request before, by any way.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_fleet::{
    BalanceLayer, CircuitPolicy, CircuitState, FailoverLayer, Fleet,
    body::ReplayBody,
    failover::{Backoff, Error, ErrorKind, FailoverBuilder, Mode, Stopped},
    outcome::HttpClassifier,
};
use tower_layer::Layer;

use self::mock::*;

#[allow(dead_code, unused_macros, reason = "each suite uses a part of it")]
#[path = "support/http.rs"]
mod mock;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn throttled(after: &'static str) -> Reply {
    status(429).header("retry-after", after)
}

fn layer(mode: Mode) -> FailoverBuilder {
    FailoverLayer::builder().mode(mode)
}

/// One tier of so many.
fn peers<const N: usize>(policy: Option<CircuitPolicy>) -> (Fleet<Mock>, [Arc<Remote>; N]) {
    let remotes: [_; N] = std::array::from_fn(|index| mock(["a", "b", "c", "d"][index]).1);
    let builder = Fleet::builder().backends(remotes.iter().map(backend));
    let builder = policy.into_iter().fold(builder, tower_fleet::fleet::FleetBuilder::circuit_breaker);
    (builder.build().unwrap(), remotes)
}

fn cools_for<C: Clone + Send + Sync + 'static>(fleet: &Fleet<Mock, C>, name: &str) -> Option<Duration> {
    fleet.snapshot().into_iter().find(|one| &*one.name == name).unwrap().cools_for
}

/// The earliest time at which an error says that a request may be sent.
fn soonest(error: &Error) -> Option<Duration> {
    match error.kind() {
        ErrorKind::NoneAvailable { retry_after, .. } => *retry_after,
        other => panic!("{other:?}"),
    }
}

fn assert_about(time: Option<Duration>, expected: Duration) {
    let time = time.expect("a time");
    assert!(time <= expected && expected - time < Duration::from_millis(5), "{time:?} is not {expected:?}");
}

// C71
#[tokio::test(start_paused = true)]
async fn a_backend_that_named_a_time_gets_no_request_of_any_door_before() {
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_millis(20))] {
        let (fleet, [a, b]) = mock::fleet();
        a.then([throttled("30")]);
        let began = Instant::now();
        let answer = ask(&layer(mode).attempts_per_backend(2), &fleet, get()).await;
        assert_eq!(story(&answer), "a:status(status 429, retry after 30s) b:served", "{mode:?}: not the race either");
        assert_took(began, 0);
        assert_about(cools_for(&fleet, "a"), secs(30));
        // Also while the others are slow, fail, or are hedged, and from another door.
        b.usually(status(503).after(100));
        let mut balance = BalanceLayer::round_robin().layer(fleet.clone());
        for _ in 0..29 {
            assert_eq!(told(ask(&layer(mode), &fleet, get()).await).await.0, 503);
            drop(balance.ready().await.unwrap().call(get().map(|_| ReplayBody::<Body>::from(Bytes::new()))).await);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        assert_eq!(a.calls(), 1, "{mode:?}");
        tokio::time::sleep_until(began + secs(30)).await;
        assert_eq!(told(ask(&layer(mode), &fleet, get()).await).await, (200, "a".into()), "{mode:?}");
    }
}

// C71
#[tokio::test(start_paused = true)]
async fn every_form_takes_the_backend_out() {
    for (name, value, millis) in [
        ("retry-after", "30", 30_000),
        ("retry-after-ms", "1500", 1_500),
        ("x-ratelimit-reset-tokens", "6m0s", 360_000),
        ("ratelimit", "\"default\";r=0;t=30", 30_000),
        ("ratelimit-reset", "30", 30_000),
        // C58: ten years count as a day.
        ("retry-after", "315360000", 86_400_000),
        ("retry-after", "99999999999999999999999", 86_400_000),
    ] {
        let (fleet, [a, _b]) = mock::fleet();
        a.then([status(429).header(name, value)]);
        drop(ask(&layer(Mode::Race), &fleet, get()).await);
        assert_about(cools_for(&fleet, "a"), Duration::from_millis(millis));
    }
    for (code, name, value) in [
        (429, "retry-after", "0"),
        (429, "retry-after", "soon"),
        (500, "x-ratelimit-reset", "30"),
        (200, "retry-after", "9"),
    ] {
        let (fleet, [a, _b]) = mock::fleet();
        a.then([status(code).header(name, value)]);
        drop(ask(&layer(Mode::Race), &fleet, get()).await);
        assert_eq!(cools_for(&fleet, "a"), None, "{code} {name}: {value}");
    }
}

// C71
#[tokio::test(start_paused = true)]
async fn a_hook_reads_the_headers_of_other_services() {
    fn minutes(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        let minutes = headers.get("x-quota-minutes")?.to_str().ok()?.parse::<u32>().ok()?;
        (status == 429).then_some(secs(60) * minutes)
    }
    let (fleet, [a, b]) = fleet_with(HttpClassifier::new().named_time(minutes));
    a.then([throttled("9").header("x-quota-minutes", "2")]);
    b.then([throttled("9")]);
    drop(ask(&layer(Mode::Race), &fleet, get()).await);
    assert_about(cools_for(&fleet, "a"), secs(120));
    assert_about(cools_for(&fleet, "b"), secs(9));
}

// C1, C71
#[tokio::test(start_paused = true)]
async fn while_all_cool_down_requests_fail_at_once_with_the_earliest_time() {
    let (fleet, [a, b]) = mock::fleet();
    a.then([throttled("30")]);
    b.then([throttled("20")]);
    let answer = ask(&layer(Mode::Race), &fleet, get()).await;
    assert_eq!(told(answer).await, (429, "b".into()), "the request that learned of it gets the response");
    let began = Instant::now();
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_millis(20))] {
        let error = ask(&layer(mode).attempts_per_backend(2), &fleet, get()).await.unwrap_err();
        assert_about(soonest(&error), secs(20));
        assert_eq!(error.status(), 503);
    }
    assert_took(began, 0);
    assert_eq!((a.calls(), b.calls()), (1, 1));
    tokio::time::sleep(secs(20)).await;
    assert_eq!(told(ask(&layer(Mode::Race), &fleet, get()).await).await, (200, "b".into()));
}

// C71
#[tokio::test(start_paused = true)]
async fn a_later_time_counts_and_an_earlier_one_does_not() {
    let (fleet, [a]) = peers(None);
    // Responses of requests that ran at the same time.
    a.then([throttled("30").after(5), throttled("5").after(10), throttled("60").after(20), status(429).after(30)]);
    let race = layer(Mode::Race);
    let requests = join_all((0..4).map(|_| ask(&race, &fleet, get())));
    assert!(requests.await.into_iter().all(|answer| answer.unwrap().status() == 429));
    assert_about(cools_for(&fleet, "a"), secs(60) - Duration::from_millis(10));
    assert!(fleet.cool_down("a", secs(1)));
    assert!(cools_for(&fleet, "a").unwrap() > secs(59));
    // An operator may know better.
    assert!(fleet.end_cool_down("a") && !fleet.end_cool_down("x"));
    assert_eq!(told(ask(&layer(Mode::Race), &fleet, get()).await).await, (200, "a".into()));
}

// C37, C71
#[tokio::test(start_paused = true)]
async fn a_throttle_is_neutral_for_the_circuit_and_other_failures_are_not() {
    for (reply, state) in [
        (throttled("1"), CircuitState::Closed),
        (status(429), CircuitState::Open),
        (throttled("0"), CircuitState::Open),
        (status(429).header("grpc-retry-pushback-ms", "1000"), CircuitState::Open),
        (status(503).header("retry-after", "1"), CircuitState::Open),
    ] {
        let (fleet, [a]) = peers(Some(CircuitPolicy::new().consecutive(1).open_for(secs(9))));
        a.usually(reply);
        assert!(ask(&layer(Mode::Race), &fleet, get()).await.is_ok());
        assert_eq!(fleet.snapshot()[0].state, state);
    }
    // A 5xx with a time: both keep the backend out.
    let (fleet, [a]) = peers(Some(CircuitPolicy::new().consecutive(1).open_for(secs(9))));
    a.usually(status(503).header("retry-after", "20"));
    assert!(ask(&layer(Mode::Race), &fleet, get()).await.is_ok());
    assert_about(soonest(&ask(&layer(Mode::Race), &fleet, get()).await.unwrap_err()), secs(20));
}

// C37, C38, C71
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_throttled_releases_its_permit() {
    let (fleet, [a]) = peers(Some(CircuitPolicy::new().consecutive(1).open_for(secs(9))));
    fleet.switch("a").unwrap().trip();
    tokio::time::sleep(secs(9)).await;
    a.then([throttled("3")]);
    assert_eq!(told(ask(&layer(Mode::Race), &fleet, get()).await).await.0, 429);
    assert_eq!(fleet.snapshot()[0].state, CircuitState::HalfOpen);
    assert_about(soonest(&ask(&layer(Mode::Race), &fleet, get()).await.unwrap_err()), secs(3));
    tokio::time::sleep(secs(3)).await;
    assert_eq!(told(ask(&layer(Mode::Race), &fleet, get()).await).await.0, 200, "there is a permit");
    assert_eq!((fleet.snapshot()[0].state, a.calls()), (CircuitState::Closed, 2));
}

// C71
#[tokio::test(start_paused = true)]
async fn switched_off_only_the_request_itself_honours_the_time() {
    let (a, b) = (mock("a").1, mock("b").1);
    let policy = CircuitPolicy::new().consecutive(2);
    let backends = [backend(&a).priority(1), backend(&b)];
    let fleet = Fleet::builder().backends(backends).circuit_breaker(policy).named_times(false).build().unwrap();
    a.usually(throttled("30"));
    for calls in 1..=2 {
        let answer = ask(&layer(Mode::Race), &fleet, get()).await;
        assert_eq!(story(&answer), "a:status(status 429, retry after 30s) b:served");
        assert_eq!((a.calls(), cools_for(&fleet, "a")), (calls, None));
    }
    assert_eq!(fleet.snapshot()[0].state, CircuitState::Open);
}

// C52, C71: gRFC A6.
#[tokio::test(start_paused = true)]
async fn a_pushback_is_for_one_request() {
    let pushback = || status(503).header("grpc-retry-pushback-ms", "5000");
    for mode in [Mode::Race, Mode::Sequential, Mode::hedged(Duration::from_millis(20))] {
        let (fleet, [a, b]) = mock::fleet();
        a.then([pushback()]);
        let answer = ask(&layer(mode).attempts_per_backend(2), &fleet, get()).await;
        assert_eq!(story(&answer), "a:status(status 503, retry after 5s) b:served", "{mode:?}");
        assert_eq!(cools_for(&fleet, "a"), None);
        assert_eq!(told(ask(&layer(mode), &fleet, get()).await).await, (200, "a".into()));
        assert_eq!((a.calls(), b.calls()), (2, 1));
    }
}

// C71
#[tokio::test(start_paused = true)]
async fn a_sequence_returns_to_a_backend_exactly_at_its_time() {
    let sequential = || layer(Mode::Sequential).attempts_per_backend(2);
    // Another backend comes first, whatever it takes.
    let (fleet, [a, b]) = mock::fleet();
    a.then([throttled("7")]);
    b.usually(status(503).after(1_000));
    let began = Instant::now();
    let answer = ask(&sequential(), &fleet, get()).await;
    assert_eq!(told(answer).await, (200, "a".into()));
    assert_eq!((a.times(began), b.times(began)), (vec![0, 7_000], vec![0, 1_000]));
    // Of two the earlier one, and with a backoff the longer of the two.
    for (backoff, expected) in [(None, 5_000), (Some(Backoff::new(secs(9), secs(9)).jitter(0.0)), 18_000)] {
        let (fleet, [a, b]) = mock::fleet();
        a.then([throttled("12")]);
        b.then([throttled("5")]);
        let began = Instant::now();
        let layer = backoff.into_iter().fold(sequential(), FailoverBuilder::backoff);
        drop(ask(&layer, &fleet, get()).await);
        let third = a.times(began).get(1).or(b.times(began).get(1)).copied();
        assert_eq!(third, Some(expected));
    }
    // Neither beyond the longest wait nor beyond the deadline, and never early.
    for layer in [sequential().retry_after_cap(secs(6)), sequential().deadline(secs(7))] {
        let (fleet, [a]) = mock::fleet();
        a.then([throttled("7")]);
        let began = Instant::now();
        let answer = ask(&layer, &fleet, get()).await;
        assert_eq!((ledger(&answer).stopped(), told(answer).await.0), (Some(Stopped::RetryAfter), 429));
        assert_took(began, 0);
        assert_eq!(a.calls(), 1);
    }
}

// C71
#[tokio::test(start_paused = true)]
async fn a_waiting_request_honours_what_happens_to_the_backend_meanwhile() {
    let sequential = layer(Mode::Sequential).attempts_per_backend(2).retry_after_cap(secs(30));
    let waiting = |then: fn(&Fleet<Mock>)| {
        let sequential = sequential.clone();
        async move {
            let (fleet, [a]) = mock::fleet();
            a.then([throttled("7")]);
            let began = Instant::now();
            let (answer, ()) = futures::future::join(ask(&sequential, &fleet, get()), async {
                tokio::time::sleep(secs(2)).await;
                then(&fleet);
            })
            .await;
            (told(answer).await.0, a.times(began))
        }
    };
    assert_eq!(waiting(|_| {}).await, (200, vec![0, 7_000]));
    let drained = |fleet: &Fleet<Mock>| assert!(fleet.drain("a"));
    assert_eq!(waiting(drained).await, (429, vec![0]), "no attempt at a drained backend");
    assert_eq!(waiting(|fleet| assert!(fleet.remove("a"))).await, (429, vec![0]));
    // Another response named a later time: within the longest wait, and beyond it.
    let later = |fleet: &Fleet<Mock>| assert!(fleet.cool_down("a", secs(20)));
    assert_eq!(waiting(later).await, (200, vec![0, 22_000]));
    assert_eq!(waiting(|fleet| assert!(fleet.cool_down("a", secs(40)))).await, (429, vec![0]));
}

// C71
#[tokio::test(start_paused = true)]
async fn after_silence_a_sequence_goes_on_to_another_backend() {
    let (fleet, [a, b]) = mock::fleet();
    a.usually(hang());
    b.then([status(503), status(200)]);
    let sequential = || layer(Mode::Sequential).attempts_per_backend(3).timeout(secs(5));
    let answer = ask(&sequential(), &fleet, get()).await;
    assert_eq!(story(&answer), "a:timeout(timeout) b:status(status 503) b:served");
    // Not at the end either.
    b.usually(status(503));
    let answer = ask(&sequential(), &fleet, get()).await;
    assert_eq!(ledger(&answer).attempts().len(), 4);
    assert_eq!((a.calls(), b.calls()), (2, 5));
    // The only backend gets all its attempts.
    let (fleet, [a]) = mock::fleet();
    a.then([hang()]);
    assert_eq!(told(ask(&sequential(), &fleet, get()).await).await, (200, "a".into()));
    // A refused connection may be retried at the same backend.
    let (fleet, [a, b]) = mock::fleet();
    a.then([io(std::io::ErrorKind::ConnectionRefused)]);
    assert_eq!(told(ask(&sequential(), &fleet, get()).await).await, (200, "a".into()));
    assert_eq!((a.calls(), b.calls()), (2, 0));
}

//! Calls that nobody waited for: when they count as slow, and when not at all.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    Backend, CircuitBreaker, CircuitBreakerLayer, CircuitPolicy, CircuitState, Failover, FailoverLayer, Fleet, Mode,
    breaker::Rate,
    failover::{FailoverBuilder, Plain},
    outcome::ErrorsOnly,
};

use crate::{
    ask, breaker,
    fleet::{GuardedFleet, in_flight, state},
    mock::{Answer, Mock, Remote},
    pass, policy, secs, settle,
};

type Alone = CircuitBreaker<Mock, ErrorsOnly>;
type Door = Failover<Mock, Plain, ErrorsOnly>;

/// Four calls that took longer than a second open it.
fn slow_calls() -> CircuitPolicy {
    policy().slow_calls(secs(1), Rate::new(1.0).window(secs(600)).minimum_calls(4))
}

fn alone(layer: CircuitBreakerLayer<ErrorsOnly>) -> (Alone, Arc<Remote>) {
    let (mock, remote) = Mock::new("orders");
    (layer.layer(mock), remote)
}

/// Two backends, of which `main` is asked first.
fn door(policy: CircuitPolicy, failover: FailoverBuilder<Plain>) -> (GuardedFleet, Door, [Arc<Remote>; 2]) {
    let (mut builder, mut remotes) = (Fleet::plain().circuit_breaker(policy), Vec::new());
    for (name, priority) in [("main", 10), ("spare", 0)] {
        let (mock, remote) = Mock::new(name);
        builder = builder.backend(Backend::new(name, mock).priority(priority));
        remotes.push(remote);
    }
    let fleet = builder.build().unwrap();
    (fleet.clone(), failover.build().unwrap().layer(fleet), remotes.try_into().unwrap_or_else(|_| unreachable!()))
}

fn hedged() -> FailoverBuilder<Plain> {
    FailoverLayer::plain().mode(Mode::hedged(secs(2)))
}

/// Who answers, and after how many seconds.
async fn answer(door: &Door) -> (&'static str, u64) {
    let began = Instant::now();
    let name = ask(door).await.unwrap();
    (name, began.elapsed().as_secs())
}

// C36, C37, C44
#[tokio::test(start_paused = true)]
async fn a_backend_that_loses_to_its_hedges_is_ejected_and_not_waited_for_again() {
    let (fleet, door, remotes) = door(slow_calls(), hedged());
    remotes[0].answer(Answer::Never);
    for calls in 1..=4 {
        assert_eq!(state(&fleet, "main"), CircuitState::Closed);
        assert_eq!(answer(&door).await, ("spare", 2));
        assert_eq!(remotes[0].calls(), calls);
    }
    assert_eq!(state(&fleet, "main"), CircuitState::Open);
    for _ in 0..50 {
        assert_eq!(answer(&door).await, ("spare", 0));
    }
    assert_eq!((remotes[0].calls(), remotes[0].running(), in_flight(&fleet)), (4, 0, 0));
    assert_eq!(state(&fleet, "spare"), CircuitState::Closed);
}

// C22, C36, C38
#[tokio::test(start_paused = true)]
async fn a_probe_that_loses_to_its_hedge_opens_the_circuit_again() {
    let (fleet, door, remotes) = door(slow_calls(), hedged());
    fleet.switch("main").unwrap().trip();
    remotes[0].answer(Answer::Never);
    for probes in 1..=3 {
        pass(secs(30)).await;
        assert_eq!(state(&fleet, "main"), CircuitState::HalfOpen);
        assert_eq!(answer(&door).await, ("spare", 2));
        assert_eq!(state(&fleet, "main"), CircuitState::Open);
        for _ in 0..10 {
            assert_eq!(answer(&door).await, ("spare", 0));
        }
        assert_eq!(remotes[0].calls(), probes);
    }
    remotes[0].answer(Answer::Ok);
    pass(secs(30)).await;
    assert_eq!(answer(&door).await, ("main", 0));
    assert_eq!(state(&fleet, "main"), CircuitState::Closed);
}

// C36, C50: a call that the failover gave up is one failure and one slow call, not a quick one besides.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_took_too_long_counts_once_as_slow() {
    let (fleet, door, remotes) = door(slow_calls(), FailoverLayer::plain().mode(Mode::Sequential).timeout(secs(2)));
    remotes[0].answer(Answer::Never);
    for _ in 0..4 {
        assert_eq!(state(&fleet, "main"), CircuitState::Closed);
        assert_eq!(answer(&door).await, ("spare", 2));
    }
    assert_eq!(state(&fleet, "main"), CircuitState::Open);
}

// C37
#[tokio::test(start_paused = true)]
async fn callers_that_leave_after_long_open_it() {
    let (service, remote) = alone(breaker(slow_calls()));
    let switch = service.switch();
    remote.answer(Answer::Never);
    for _ in 0..4 {
        assert_eq!(switch.state(), CircuitState::Closed);
        timeout(Duration::from_millis(1_001), ask(&service)).await.unwrap_err();
    }
    assert_eq!(switch.state(), CircuitState::Open);
    // And so does one that was alone with a probe.
    pass(secs(30)).await;
    timeout(secs(2), ask(&service)).await.unwrap_err();
    assert_eq!((switch.state(), remote.calls()), (CircuitState::Open, 5));
    assert_eq!(remote.running(), 0);
}

// C28, C37, C38
#[tokio::test(start_paused = true)]
async fn callers_that_leave_early_never_count() {
    let (service, remote) = alone(breaker(slow_calls()));
    let switch = service.switch();
    remote.answer(Answer::Never);
    for _ in 0..100 {
        timeout(secs(1), ask(&service)).await.unwrap_err();
    }
    assert_eq!(switch.state(), CircuitState::Closed);
    // They were no quick calls either: four slow ones are all of them.
    remote.answer(Answer::OkAfter(secs(2)));
    for _ in 0..4 {
        assert_eq!(switch.state(), CircuitState::Closed);
        ask(&service).await.unwrap();
    }
    assert_eq!(switch.state(), CircuitState::Open);
    remote.answer(Answer::Never);
    pass(secs(30)).await;
    for _ in 0..100 {
        timeout(secs(1), ask(&service)).await.unwrap_err();
        assert_eq!(switch.state(), CircuitState::HalfOpen, "the permit comes back, and that is all");
    }
}

// C37
#[tokio::test(start_paused = true)]
async fn without_the_rule_nobody_counts_however_late() {
    let rate = Rate::new(0.01).window(secs(86_400)).minimum_calls(1);
    let (service, remote) = alone(breaker(policy().failures(1).consecutive(1).failure_rate(rate)));
    let switch = service.switch();
    remote.answer(Answer::Never);
    for _ in 0..10 {
        timeout(secs(3_600), ask(&service)).await.unwrap_err();
    }
    assert_eq!(switch.state(), CircuitState::Closed);
    switch.trip();
    pass(secs(30)).await;
    timeout(secs(50), ask(&service)).await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::HalfOpen);
}

// C37
#[tokio::test(start_paused = true)]
async fn what_was_admitted_and_never_called_is_not_slow() {
    let (mut service, remote) = alone(breaker(slow_calls()).waiting());
    let switch = service.switch();
    switch.trip();
    pass(secs(30)).await;
    service.ready().await.unwrap();
    pass(secs(50)).await;
    drop(service.clone());
    let mut other = service.clone();
    assert!(other.ready().now_or_never().is_none(), "the permit is taken");
    drop(service);
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    // What it waited for its call is not the call's time.
    other.ready().await.unwrap();
    pass(secs(50)).await;
    remote.answer(Answer::Never);
    let call = tokio::spawn(other.call(()));
    settle().await;
    call.abort();
    settle().await;
    assert_eq!((switch.state(), remote.calls(), remote.running()), (CircuitState::HalfOpen, 1, 0));
}

// C39
#[tokio::test(start_paused = true)]
async fn what_began_before_is_not_counted_when_it_is_given_up() {
    let (service, remote) = alone(breaker(slow_calls()));
    let switch = service.switch();
    remote.answer(Answer::Never);
    let ask = |service: Alone| tokio::spawn(async move { ask(&service).await });
    let early: Vec<_> = (0..8).map(|_| ask(service.clone())).collect();
    settle().await;
    pass(secs(5)).await;
    switch.trip();
    pass(secs(30)).await;
    let probe = ask(service.clone());
    settle().await;
    early[..4].iter().for_each(|call| call.abort());
    settle().await;
    assert_eq!((switch.state(), remote.running()), (CircuitState::HalfOpen, 5));
    switch.reset();
    probe.abort();
    early.iter().for_each(|call| call.abort());
    settle().await;
    assert_eq!((switch.state(), remote.running()), (CircuitState::Closed, 0));
}

// C37: one that panics has failed, however long it took.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_no_caller_that_left() {
    let (service, remote) = alone(breaker(slow_calls().consecutive(1)));
    remote.answer(Answer::Panic);
    let switch = service.switch();
    assert!(tokio::spawn(async move { ask(&service).await }).await.unwrap_err().is_panic());
    assert_eq!(switch.state(), CircuitState::Open);
}

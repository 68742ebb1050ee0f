//! A breaker around one service.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_fleet::{
    CircuitBreaker, CircuitPolicy, CircuitState,
    breaker::{Rate, Switch},
    outcome::ErrorsOnly,
};

use crate::{
    ask, breaker, circuit_open,
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs,
};

type Guarded = CircuitBreaker<Mock, ErrorsOnly>;

fn guarded(policy: CircuitPolicy) -> (Guarded, Switch, Arc<Remote>) {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy).name("orders").unwrap().layer(mock);
    let switch = service.switch();
    (service, switch, remote)
}

async fn fail(service: &Guarded, remote: &Remote, times: usize) {
    remote.answer(Answer::Error);
    for _ in 0..times {
        ask(service).await.unwrap_err();
    }
    remote.answer(Answer::Ok);
}

fn remaining(error: &BoxError) -> Option<Duration> {
    circuit_open(error).retry_after
}

// C35, C36
#[tokio::test(start_paused = true)]
async fn it_opens_at_the_fifth_failure_and_rejects_without_calling() {
    let (service, switch, remote) = guarded(policy());
    assert_eq!(ask(&service).await.unwrap(), "orders");
    fail(&service, &remote, 4).await;
    assert_eq!(switch.state(), CircuitState::Closed);
    ask(&service).await.unwrap();
    fail(&service, &remote, 1).await;
    assert_eq!(switch.state(), CircuitState::Open);
    let calls = remote.calls();
    for _ in 0..100 {
        circuit_open(&ask(&service).await.unwrap_err());
    }
    assert_eq!(remote.calls(), calls);
}

// C36
#[tokio::test(start_paused = true)]
async fn only_failures_within_a_sliding_minute_open_it() {
    let (service, switch, remote) = guarded(policy());
    for _ in 0..40 {
        fail(&service, &remote, 1).await;
        pass(Duration::from_millis(15_001)).await;
        assert_eq!(switch.state(), CircuitState::Closed);
    }
    pass(secs(60)).await;
    for _ in 0..4 {
        fail(&service, &remote, 1).await;
        assert_eq!(switch.state(), CircuitState::Closed);
        pass(secs(15)).await;
    }
    fail(&service, &remote, 1).await;
    assert_eq!(switch.state(), CircuitState::Open, "the first of five is exactly a minute old");
}

// C36
#[tokio::test(start_paused = true)]
async fn a_success_breaks_a_row_of_failures() {
    let (service, switch, remote) = guarded(policy().consecutive(3));
    for _ in 0..10 {
        fail(&service, &remote, 2).await;
        ask(&service).await.unwrap();
    }
    assert_eq!(switch.state(), CircuitState::Closed);
    fail(&service, &remote, 3).await;
    assert_eq!(switch.state(), CircuitState::Open);
}

// C36
#[tokio::test(start_paused = true)]
async fn a_failure_rate_needs_a_minimum_of_calls() {
    let (service, switch, remote) = guarded(policy().failure_rate(Rate::new(0.5).window(secs(10)).minimum_calls(10)));
    fail(&service, &remote, 9).await;
    assert_eq!(switch.state(), CircuitState::Closed, "nine are not ten");
    pass(secs(11)).await;
    for _ in 0..6 {
        ask(&service).await.unwrap();
    }
    fail(&service, &remote, 5).await;
    assert_eq!(switch.state(), CircuitState::Closed, "five of eleven, the nine from before are forgotten");
    fail(&service, &remote, 1).await;
    assert_eq!(switch.state(), CircuitState::Open, "six of twelve");
}

// C36
#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_and_a_slow_probe_keeps_it_open() {
    let (service, switch, remote) =
        guarded(policy().slow_calls(secs(1), Rate::new(0.5).window(secs(60)).minimum_calls(4)));
    remote.answer(Answer::OkAfter(secs(1)));
    for _ in 0..4 {
        ask(&service).await.unwrap();
    }
    assert_eq!(switch.state(), CircuitState::Closed, "what takes just as long as it may is not slow");
    remote.answer(Answer::OkAfter(secs(2)));
    for _ in 0..3 {
        ask(&service).await.unwrap();
        assert_eq!(switch.state(), CircuitState::Closed);
    }
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Open);
    pass(secs(30)).await;
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Open);
    pass(secs(30)).await;
    remote.answer(Answer::Ok);
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C35
#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_service_and_the_time_that_is_left() {
    let (service, switch, remote) = guarded(policy());
    fail(&service, &remote, 5).await;
    pass(secs(12)).await;
    let error = ask(&service).await.unwrap_err();
    assert_eq!(circuit_open(&error).backend, "orders");
    assert_eq!(remaining(&error), Some(secs(18)));
    assert_eq!(error.to_string(), "circuit of `orders` is open, next attempt in 18.0s");
    switch.force_open();
    let error = ask(&service).await.unwrap_err();
    assert_eq!(remaining(&error), None);
    assert_eq!(error.to_string(), "circuit of `orders` is open");
}

// C40
#[tokio::test(start_paused = true)]
async fn it_shows_half_open_once_its_time_is_up_though_nothing_ran() {
    let (service, switch, remote) = guarded(policy());
    fail(&service, &remote, 5).await;
    pass(secs(30) - Duration::from_millis(1)).await;
    assert_eq!(switch.state(), CircuitState::Open);
    pass(Duration::from_millis(1)).await;
    assert_eq!(switch.state(), CircuitState::HalfOpen);
    assert_eq!(remote.calls(), 5);
    drop(service);
    pass(secs(3_600)).await;
    assert_eq!(switch.state(), CircuitState::HalfOpen);
}

// C36
#[tokio::test(start_paused = true)]
async fn one_good_probe_closes_it() {
    let (service, switch, remote) = guarded(policy());
    fail(&service, &remote, 5).await;
    pass(secs(30)).await;
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
    fail(&service, &remote, 4).await;
    assert_eq!(switch.state(), CircuitState::Closed, "what was counted before is forgotten");
}

// C36
#[tokio::test(start_paused = true)]
async fn as_many_good_probes_as_it_asks_for_close_it() {
    let (service, switch, remote) = guarded(policy().successes_to_close(3));
    fail(&service, &remote, 5).await;
    pass(secs(30)).await;
    for _ in 0..2 {
        ask(&service).await.unwrap();
        assert_eq!(switch.state(), CircuitState::HalfOpen);
    }
    fail(&service, &remote, 1).await;
    assert_eq!(switch.state(), CircuitState::Open, "none of them may fail");
    pass(secs(30)).await;
    for state in [CircuitState::HalfOpen, CircuitState::HalfOpen, CircuitState::Closed] {
        ask(&service).await.unwrap();
        assert_eq!(switch.state(), state);
    }
}

// C36
#[tokio::test(start_paused = true)]
async fn each_failed_probe_opens_it_for_longer_up_to_a_cap() {
    let (service, switch, remote) = guarded(policy().open_for(secs(10)).growth(2.0).max_open_for(secs(35)));
    fail(&service, &remote, 5).await;
    for opening in [10, 20, 35, 35].map(secs) {
        assert_eq!(remaining(&ask(&service).await.unwrap_err()), Some(opening));
        pass(opening).await;
        assert_eq!(switch.state(), CircuitState::HalfOpen);
        fail(&service, &remote, 1).await;
        assert_eq!(switch.state(), CircuitState::Open);
    }
    pass(secs(35)).await;
    ask(&service).await.unwrap();
    pass(secs(3_600)).await;
    fail(&service, &remote, 5).await;
    assert_eq!(remaining(&ask(&service).await.unwrap_err()), Some(secs(10)), "an hour of peace is forgiveness");
}

// C36
#[tokio::test(start_paused = true)]
async fn jitter_shortens_each_opening_by_its_share_at_most() {
    let (service, switch, remote) = guarded(policy().open_for(secs(100)).jitter(0.2).consecutive(1));
    let mut openings = Vec::new();
    for _ in 0..50 {
        switch.reset();
        fail(&service, &remote, 1).await;
        openings.push(remaining(&ask(&service).await.unwrap_err()).unwrap());
    }
    assert!(openings.iter().all(|opening| (secs(80)..=secs(100)).contains(opening)), "{openings:?}");
    openings.dedup();
    assert!(openings.len() > 40, "{openings:?}");
}

// C35
#[tokio::test(start_paused = true)]
async fn an_open_circuit_does_not_wait_for_the_service() {
    let (mut service, switch, remote) = guarded(policy());
    remote.set_readiness(Readiness::Pending);
    assert!(service.ready().now_or_never().is_none(), "closed, it does");
    switch.trip();
    assert!(service.ready().now_or_never().unwrap().is_ok());
    circuit_open(&service.call(()).await.unwrap_err());
    pass(secs(30)).await;
    {
        let mut waiting = task::spawn(service.ready());
        assert_pending!(waiting.poll(), "half-open, it does again");
        remote.set_readiness(Readiness::Ready);
        assert!(waiting.is_woken());
        assert_ready_ok!(waiting.poll());
    }
    service.call(()).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C10, C35
#[tokio::test(start_paused = true)]
async fn a_service_is_never_called_unready() {
    let (mut service, switch, remote) = guarded(policy());
    // Ready because it is open, and half-open by the time of the call.
    switch.trip();
    service.ready().await.unwrap();
    pass(secs(30)).await;
    circuit_open(&service.call(()).await.unwrap_err());
    // Or closed.
    switch.reset();
    switch.trip();
    service.ready().await.unwrap();
    switch.reset();
    circuit_open(&service.call(()).await.unwrap_err());
    // Not asked at all.
    circuit_open(&service.call(()).await.unwrap_err());
    assert_eq!(remote.calls(), 0);
    // Asked twice, and ready only once.
    service.ready().await.unwrap();
    remote.set_readiness(Readiness::Pending);
    assert!(service.ready().now_or_never().is_none());
    switch.trip();
    service.ready().await.unwrap();
    switch.reset();
    circuit_open(&service.call(()).await.unwrap_err());
    assert_eq!(remote.calls(), 0);
}

// C10
#[tokio::test(start_paused = true)]
async fn a_rejected_call_leaves_the_service_ready_for_the_next() {
    let (mut service, switch, remote) = guarded(policy());
    service.ready().await.unwrap();
    switch.trip();
    circuit_open(&service.call(()).await.unwrap_err());
    switch.reset();
    remote.set_readiness(Readiness::Pending);
    service.call(()).await.unwrap();
}

// C39
#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_changes_nothing_after() {
    let (service, switch, remote) = guarded(policy().consecutive(2));
    remote.answer(Answer::OkAfter(secs(35)));
    let good = tokio::spawn(ask_owned(service.clone()));
    crate::settle().await;
    remote.answer(Answer::ErrorAfter(secs(40)));
    let bad: Vec<_> = (0..2).map(|_| tokio::spawn(ask_owned(service.clone()))).collect();
    crate::settle().await;
    fail(&service, &remote, 2).await;
    assert_eq!(switch.state(), CircuitState::Open);
    good.await.unwrap().unwrap();
    assert_eq!(switch.state(), CircuitState::HalfOpen, "a late success closes nothing");
    ask(&service).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
    for late in bad {
        late.await.unwrap().unwrap_err();
    }
    assert_eq!(switch.state(), CircuitState::Closed, "late failures open nothing");
}

async fn ask_owned(service: Guarded) -> Result<&'static str, BoxError> {
    ask(&service).await
}

// C37
#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_once_and_resumed() {
    for answer in [Answer::Panic, Answer::PanicInCall] {
        let (service, switch, remote) = guarded(policy().consecutive(2));
        for state in [CircuitState::Closed, CircuitState::Open] {
            remote.answer(answer);
            let error = tokio::spawn(ask_owned(service.clone())).await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(switch.state(), state, "{answer:?}");
        }
    }
}

// C28, C37
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_says_nothing_of_the_service() {
    let (service, switch, remote) = guarded(policy().consecutive(1));
    remote.answer(Answer::Never);
    for _ in 0..20 {
        let mut call = task::spawn(ask(&service));
        assert_pending!(call.poll());
        drop(call);
        let mut service = service.clone();
        drop(service.ready().await.unwrap().call(()));
    }
    assert_eq!(switch.state(), CircuitState::Closed);
    assert_eq!(remote.running(), 0);
}

//! Callers that wait while the circuit is open.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{CircuitBreaker, CircuitPolicy, CircuitState, breaker::Switch, outcome::ErrorsOnly};

use crate::{
    Wakes, ask, breaker, circuit_open,
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs, settle,
};

type Guarded = CircuitBreaker<Mock, ErrorsOnly>;

fn waiting(policy: CircuitPolicy) -> (Guarded, Switch, Arc<Remote>) {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy).waiting().layer(mock);
    let switch = service.switch();
    (service, switch, remote)
}

// C35, C40
#[tokio::test(start_paused = true)]
async fn it_waits_while_open_and_is_woken_once_when_time_is_up() {
    let (mut service, switch, _remote) = waiting(policy());
    switch.trip();
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.waker();
    let mut cx = Context::from_waker(&waker);
    assert!(service.poll_ready(&mut cx).is_pending());
    pass(secs(30) - Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(wakes.count(), 0);
    pass(Duration::from_millis(2)).await;
    settle().await;
    assert_eq!(wakes.count(), 1);
    assert!(service.poll_ready(&mut cx).is_ready());
    assert_eq!(service.call(()).await.unwrap(), "orders");
    assert_eq!(wakes.count(), 1);
}

// C11 of the house style: nobody wakes itself to spin.
#[tokio::test(start_paused = true)]
async fn asking_again_and_again_wakes_nobody() {
    let (mut service, switch, _remote) = waiting(policy());
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.waker();
    let mut cx = Context::from_waker(&waker);
    for state in [CircuitState::Open, CircuitState::ForcedOpen] {
        if state == CircuitState::Open {
            switch.trip();
        } else {
            switch.force_open();
        }
        let before = wakes.count();
        for _ in 0..100 {
            assert!(service.poll_ready(&mut cx).is_pending());
        }
        assert_eq!(wakes.count(), before);
    }
    // Half-open, and the permit is with somebody else.
    switch.reset();
    switch.trip();
    switch.probe_now();
    let mut prober = service.clone();
    prober.ready().await.unwrap();
    let before = wakes.count();
    for _ in 0..100 {
        assert!(service.poll_ready(&mut cx).is_pending());
    }
    assert_eq!(wakes.count(), before);
}

// C38, C41
#[tokio::test(start_paused = true)]
async fn it_is_woken_by_a_reset_a_forced_closing_and_a_free_permit() {
    let (mut service, switch, _remote) = waiting(policy());
    for wake in [Switch::reset, Switch::force_closed, Switch::probe_now] {
        switch.reset();
        switch.trip();
        let mut waiting = task::spawn(service.ready());
        assert_pending!(waiting.poll());
        wake(&switch);
        assert!(waiting.is_woken());
        assert_ready_ok!(waiting.poll());
        drop(waiting);
        assert_eq!(service.call(()).await.unwrap(), "orders");
    }
    switch.reset();
    switch.trip();
    switch.probe_now();
    let mut prober = service.clone();
    prober.ready().await.unwrap();
    let mut waiting = task::spawn(service.ready());
    assert_pending!(waiting.poll());
    drop(prober);
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
}

// C38
#[tokio::test(start_paused = true)]
async fn it_is_woken_when_the_permit_of_a_hanging_probe_times_out() {
    let (mut service, switch, remote) = waiting(policy());
    switch.trip();
    switch.probe_now();
    remote.answer(Answer::Never);
    let prober = service.clone();
    let mut probe = task::spawn(ask(&prober));
    assert_pending!(probe.poll());
    let mut waiting = task::spawn(service.ready());
    assert_pending!(waiting.poll());
    pass(secs(60) + Duration::from_millis(1)).await;
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
    drop(waiting);
    remote.answer(Answer::Ok);
    service.call(()).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C38
#[tokio::test(start_paused = true)]
async fn many_waiters_are_all_served_after_recovery() {
    let (service, switch, remote) = waiting(policy());
    switch.trip();
    remote.answer(Answer::ErrorAfter(secs(1)));
    let waiters: Vec<_> = (0..1_000)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { ask(&service).await })
        })
        .collect();
    // Three probes fail, one after the other; then it recovers.
    pass(secs(30 + 31 + 31 + 2)).await;
    tokio::time::sleep(secs(3)).await;
    remote.answer(Answer::OkAfter(secs(1)));
    let mut served = 0;
    for waiter in waiters {
        served += usize::from(waiter.await.unwrap().is_ok());
    }
    let probes_that_failed = 1_000 - served;
    assert!(probes_that_failed <= 4, "{probes_that_failed}");
    assert_eq!(remote.calls(), 1_000);
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C20, C38
#[tokio::test(start_paused = true)]
async fn waiters_that_leave_leak_nothing() {
    let (service, switch, remote) = waiting(policy());
    switch.trip();
    for _ in 0..1_000 {
        let mut service = service.clone();
        let mut waiting = task::spawn(service.ready());
        assert_pending!(waiting.poll());
    }
    assert_eq!(remote.instances(), 1);
    pass(secs(31)).await;
    // Admitted, and gone without a call.
    for _ in 0..100 {
        service.clone().ready().await.unwrap();
    }
    // Woken, and gone without asking.
    let mut prober = service.clone();
    prober.ready().await.unwrap();
    let (mut one, mut other) = (service.clone(), service.clone());
    let mut gone = task::spawn(one.ready());
    let mut stays = task::spawn(other.ready());
    assert_pending!(gone.poll());
    assert_pending!(stays.poll());
    drop(prober);
    assert!(gone.is_woken());
    drop(gone);
    // Its service is kept, so it may still come back. The others do not rely on that.
    assert!(!stays.is_woken());
    pass(secs(1)).await;
    assert!(stays.is_woken());
    assert_ready_ok!(stays.poll());
    drop(stays);
    other.call(()).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C10, C38
#[tokio::test(start_paused = true)]
async fn a_permit_is_free_again_when_the_service_will_not_get_ready() {
    let (mut service, switch, remote) = waiting(policy());
    switch.trip();
    switch.probe_now();
    remote.set_readiness(Readiness::Error);
    service.ready().await.map(drop).unwrap_err();
    remote.set_readiness(Readiness::Ready);
    switch.probe_now();
    tokio::time::timeout(secs(31), service.ready()).await.unwrap().unwrap();
    service.call(()).await.unwrap();
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C35, C38
#[tokio::test(start_paused = true)]
async fn an_admission_of_old_is_not_used_once_the_circuit_moved_on() {
    let (service, switch, remote) = waiting(policy());
    let (mut idle, mut late) = (service.clone(), service.clone());
    idle.ready().await.unwrap();
    switch.trip();
    circuit_open(&idle.call(()).await.unwrap_err());
    assert_eq!(remote.calls(), 0);

    // Ready while closed, called while somebody else probes.
    switch.reset();
    late.ready().await.unwrap();
    switch.trip();
    switch.probe_now();
    remote.answer(Answer::Never);
    let mut probe = task::spawn(ask(&service));
    assert_pending!(probe.poll());
    circuit_open(&late.call(()).now_or_never().expect("rejected at once").unwrap_err());
    assert_eq!(remote.calls(), 1);
    drop(probe);

    // And asked again, it is admitted anew.
    remote.answer(Answer::Error);
    late.ready().await.unwrap();
    late.call(()).await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::Open);
}

// C38
#[tokio::test(start_paused = true)]
async fn a_permit_that_timed_out_unused_is_asked_for_again() {
    let (service, switch, remote) = waiting(policy());
    switch.trip();
    switch.probe_now();
    let mut idle = service.clone();
    idle.ready().await.unwrap();
    pass(secs(60)).await;
    remote.answer(Answer::Never);
    let mut probe = task::spawn(ask(&service));
    assert_pending!(probe.poll());
    circuit_open(&idle.call(()).now_or_never().expect("rejected at once").unwrap_err());
    assert_eq!(remote.running(), 1);
}

// C39
#[tokio::test(start_paused = true)]
async fn a_call_counts_in_the_state_in_which_it_begins() {
    let (service, switch, remote) = waiting(policy().consecutive(1));
    let mut idle = service.clone();
    idle.ready().await.unwrap();
    switch.trip();
    switch.reset();
    remote.answer(Answer::Error);
    idle.call(()).await.unwrap_err();
    assert_eq!(switch.state(), CircuitState::Open);
}

// C10
#[tokio::test(start_paused = true)]
async fn it_waits_for_the_service_too() {
    let (mut service, _switch, remote) = waiting(policy());
    remote.set_readiness(Readiness::Pending);
    let mut waiting = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_pending!(waiting.poll());
    remote.set_readiness(Readiness::Ready);
    assert!(waiting.is_woken());
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(()))));
    drop(waiting);
    service.call(()).await.unwrap();
}

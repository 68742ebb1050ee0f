//! Open circuits, which probes end.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::future::poll_fn;
use tower::Service;
use tower_fleet::{Balance, RoundRobin, probe::OnSuccess};

use super::*;

// C43
#[tokio::test(start_paused = true)]
async fn recovery_needs_no_traffic_and_does_not_wait_for_the_open_time() {
    let (fleet, [a]) = fleet();
    spawn(&fleet, probes());
    trip(&fleet, "a");
    pass(secs(2)).await;
    assert_eq!((state(&fleet, "a"), a.calls()), (CircuitState::HalfOpen, 1));
    // A half-open circuit is for requests: the next one closes it.
    pass(HOUR).await;
    assert_eq!(a.calls(), 1);
    Balance::new(&fleet, RoundRobin).oneshot(()).await.unwrap();
    assert_eq!(state(&fleet, "a"), CircuitState::Closed);
}

// C43
#[tokio::test(start_paused = true)]
async fn failed_probes_leave_the_circuit_open_until_one_succeeds() {
    let (fleet, [a]) = fleet();
    broken(&a);
    spawn(&fleet, probes());
    trip(&fleet, "a");
    pass(secs(1_000)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::Open);
    assert!((95..=105).contains(&a.calls()), "{} probes in 100 intervals", a.calls());
    assert!(!shown(&fleet, "a").is_failing, "probes of open circuits only shorten outages");
    a.answer(Answer::Ok);
    pass(secs(12)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
}

// C43
#[tokio::test(start_paused = true)]
async fn a_good_probe_closes_the_circuit_by_choice() {
    let (fleet, [a]) = fleet();
    spawn(&fleet, probes().on_success(OnSuccess::Close));
    trip(&fleet, "a");
    pass(secs(2)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::Closed);
    // Also a circuit that is half-open by other means.
    trip(&fleet, "a");
    fleet.switch("a").unwrap().probe_now();
    pass(secs(12)).await;
    assert_eq!((state(&fleet, "a"), a.calls()), (CircuitState::Closed, 2));
}

// C43
#[tokio::test(start_paused = true)]
async fn only_successes_in_a_row_count() {
    let (fleet, [a]) = fleet();
    spawn(&fleet, probes().healthy_after(3).jitter(0.0));
    trip(&fleet, "a");
    pass(secs(12)).await;
    assert_eq!(a.calls(), 2);
    broken(&a);
    pass(secs(10)).await;
    a.answer(Answer::Ok);
    pass(secs(20)).await;
    assert_eq!((state(&fleet, "a"), a.calls()), (CircuitState::Open, 5));
    pass(secs(10)).await;
    assert_eq!((state(&fleet, "a"), a.calls()), (CircuitState::HalfOpen, 6));
}

// C43
#[tokio::test(start_paused = true)]
async fn ten_thousand_backends_with_closed_circuits_cost_nothing() {
    let backends = (0..10_000).map(|index| Backend::new(index.to_string(), Mock::new("any").0));
    let fleet = Fleet::plain().backends(backends).circuit_breaker(CircuitPolicy::new()).build().unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let (probing, counter) = (fleet.probe(none()).unwrap(), Arc::clone(&polls));
    tokio::spawn(async move {
        let mut probing = pin!(probing);
        poll_fn(|cx| {
            counter.fetch_add(1, SeqCst);
            probing.as_mut().poll(cx)
        })
        .await;
    });
    pass(24 * HOUR).await;
    assert_eq!(polls.load(SeqCst), 1);
    // One that opens is one target, and none is looked through for it.
    fleet.switch("5000").unwrap().trip();
    pass(secs(5)).await;
    assert!(polls.load(SeqCst) < 8, "{} polls", polls.load(SeqCst));
}

// C43: a health page that is well although requests fail.
#[tokio::test(start_paused = true)]
async fn a_green_page_does_not_keep_sending_requests_to_a_broken_backend() {
    let (fleet, [a]) = fleet();
    let probe = probe_fn(|_: BackendName, _: Mock| async { Ok::<_, ProbeError>(()) });
    spawn(&fleet, Probes::new(probe));
    broken(&a);
    let mut door = Balance::new(&fleet, RoundRobin);
    for _ in 0..600 {
        poll_fn(|cx| Service::<()>::poll_ready(&mut door, cx)).await.unwrap();
        let _ = door.call(()).await;
        pass(secs(1)).await;
    }
    // Without the longer waits, one request would fail every two seconds.
    assert!((5..=12).contains(&a.calls()), "{} requests failed in ten minutes", a.calls());
}

// C39, C43
#[tokio::test(start_paused = true)]
async fn a_probe_that_began_before_the_opening_does_not_end_it() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::OkAfter(Duration::from_millis(400)));
    spawn(&fleet, probes().scope(tower_fleet::probe::Scope::All));
    pass(Duration::from_millis(100)).await;
    assert_eq!(a.running(), 1);
    trip(&fleet, "a");
    pass(Duration::from_millis(350)).await;
    assert_eq!((a.running(), state(&fleet, "a")), (0, CircuitState::Open));
    pass(secs(2)).await;
    assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
}

// C62
#[tokio::test(start_paused = true)]
async fn a_probe_is_not_a_call() {
    let (fleet, [a]) = fleet();
    a.answer(Answer::ErrorAfter(Duration::from_millis(500)));
    spawn(&fleet, probes().scope(tower_fleet::probe::Scope::All).unhealthy_after(1_000));
    pass(Duration::from_millis(100)).await;
    assert_eq!((a.running(), shown(&fleet, "a").in_flight), (1, 0));
    pass(secs(100)).await;
    // The circuit opens with the first failed call.
    assert_eq!(state(&fleet, "a"), CircuitState::Closed);
}

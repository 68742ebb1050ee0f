//! Limits under a failover: the first attempt waits, further attempts skip full backends.

use std::sync::Arc;

use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_fleet::{CircuitPolicy, FailoverLayer, Mode, WhenFull, failover::ErrorKind, pick::RoundRobin};
use tower_layer::Layer;

use crate::{Plain, fleet, mock::Answer, mock::Remote, secs};

fn order(remotes: &[&Arc<Remote>]) -> Vec<usize> {
    remotes.iter().map(|remote| remote.calls()).collect()
}

/// Occupies the slots of a backend that is the only one in rotation.
async fn occupy(fleet: &Plain, name: &str, remote: &Remote, calls: usize) -> impl Sized + use<> {
    let backends = fleet.snapshot();
    let others = || backends.iter().filter(|backend| &*backend.name != name);
    others().for_each(|other| assert!(fleet.drain(&other.name)));
    remote.answer(Answer::Never);
    let mut door = crate::door(fleet);
    let mut running = Vec::new();
    for _ in 0..calls {
        running.push(door.ready().await.unwrap().call(()));
    }
    others().for_each(|other| assert!(fleet.set_status(&other.name, tower_fleet::AdminStatus::Healthy)));
    running
}

// C13, C68
#[tokio::test(start_paused = true)]
async fn a_further_attempt_skips_a_full_backend_and_is_made_at_another_one() {
    for mode in [Mode::Sequential, Mode::Race, Mode::hedged(secs(1))] {
        let (fleet, [a, b, c]) = fleet([9, 1, 9], WhenFull::Wait);
        let _running = occupy(&fleet, "b", &b, 1).await;
        a.answer(if matches!(mode, Mode::Hedged(_)) { Answer::Never } else { Answer::Error });
        let door = FailoverLayer::plain().strategy(tower_fleet::Primary).mode(mode).build().unwrap().layer(fleet);
        assert_eq!(door.oneshot(()).await.unwrap(), "c", "{mode:?}");
        assert_eq!((b.calls(), c.calls()), (1, 1), "{mode:?}");
    }
}

// C19, C68
#[tokio::test(start_paused = true)]
async fn with_all_others_full_the_failure_is_returned_without_a_wait() {
    let (fleet, [a, b]) = fleet([1, 1], WhenFull::Wait);
    let _running = occupy(&fleet, "b", &b, 1).await;
    a.answer(Answer::Error);
    let layer = FailoverLayer::plain().strategy(tower_fleet::Primary).mode(Mode::Sequential);
    let began = Instant::now();
    let error = layer.build().unwrap().layer(fleet).oneshot(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Exhausted { .. }), "{error}");
    assert_eq!((began.elapsed(), order(&[&a, &b])), (secs(0), vec![1, 1]));
}

// C68
#[tokio::test(start_paused = true)]
async fn a_backend_that_was_full_for_one_attempt_serves_the_next_one() {
    let (fleet, [a, b, c]) = fleet([1, 1, 1], WhenFull::Wait);
    let running = occupy(&fleet, "b", &b, 1).await;
    a.answer(Answer::Error);
    c.answer(Answer::ErrorAfter(secs(2)));
    let layer = FailoverLayer::plain().strategy(tower_fleet::Primary).mode(Mode::Sequential);
    let call = tokio::spawn(layer.build().unwrap().layer(fleet).oneshot(()));
    tokio::time::sleep(secs(1)).await;
    drop(running);
    b.answer(Answer::Ok);
    assert_eq!(call.await.unwrap().unwrap(), "b");
}

// C8, C68
#[tokio::test(start_paused = true)]
async fn the_first_attempt_leaves_a_full_tier_only_after_ready_within() {
    let (fleet, [a, _b]) = fleet([1, 1], WhenFull::Wait);
    fleet.set_priority("b", -1);
    let running = occupy(&fleet, "a", &a, 1).await;
    let layer = FailoverLayer::plain().strategy(RoundRobin).ready_within(secs(3)).build().unwrap();
    let began = Instant::now();
    assert_eq!(layer.layer(fleet.clone()).oneshot(()).await.unwrap(), "b");
    assert_eq!(began.elapsed(), secs(3));
    // The same for a request whose door was ready before the backend was full.
    drop(running);
    a.answer(Answer::Never);
    let mut late = layer.layer(fleet.clone());
    late.ready().await.unwrap();
    let running = crate::door(&fleet).ready().await.unwrap().call(());
    let began = Instant::now();
    assert_eq!(late.call(()).await.unwrap(), "b");
    assert_eq!(began.elapsed(), secs(3));
    // And it waits no longer than until there is a slot.
    late.ready().await.unwrap();
    let call = tokio::spawn(layer.layer(fleet.clone()).oneshot(()));
    tokio::time::sleep(secs(1)).await;
    a.answer(Answer::Ok);
    drop(running);
    let began = Instant::now();
    assert_eq!(call.await.unwrap().unwrap(), "a");
    assert_eq!(began.elapsed(), secs(0));
}

// C51, C68
#[tokio::test(start_paused = true)]
async fn a_request_that_waits_in_call_respects_the_deadline() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    let layer = FailoverLayer::plain().deadline(secs(2)).build().unwrap();
    let mut late = layer.layer(fleet.clone());
    late.ready().await.unwrap();
    a.answer(Answer::Never);
    let _running = crate::door(&fleet).ready().await.unwrap().call(());
    let began = Instant::now();
    let error = late.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AtLimit { backends: 1, .. }), "{error:?}");
    assert_eq!((began.elapsed(), a.running()), (secs(2), 1));
}

// C8, C68
#[tokio::test(start_paused = true)]
async fn a_request_in_the_queue_probes_the_backends_of_its_tier_and_of_no_lower_one() {
    for (priority, serves) in [(0, true), (-1, false)] {
        let (builder, [a, b]) = crate::builder([1, 1]);
        let policy = CircuitPolicy::new().consecutive(1).open_for(secs(1));
        let fleet = builder.circuit_breaker(policy).when_full(WhenFull::Queue(5)).build().unwrap();
        fleet.drain("a");
        b.answer(Answer::Error);
        crate::door(&fleet).oneshot(()).await.unwrap_err();
        fleet.set_status("a", tower_fleet::AdminStatus::Healthy);
        fleet.set_priority("b", priority);
        let _running = occupy(&fleet, "a", &a, 1).await;
        b.answer(Answer::Ok);
        let door = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
        // In the queue before the circuit of `b` is half-open.
        let waiting = tokio::spawn(door.oneshot(()));
        tokio::time::sleep(secs(10)).await;
        assert_eq!(waiting.is_finished(), serves, "priority {priority}");
    }
}

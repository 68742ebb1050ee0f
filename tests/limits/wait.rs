//! `WhenFull::Wait`: `poll_ready` is pending, and each call that ends wakes one task.

use std::time::Duration;

use futures::{FutureExt, future::join_all};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    Backend, BalanceLayer, Fleet, WhenFull,
    pick::{AnyStrategy, Hash, StrategyName},
};

use crate::{
    Waiting, door, fleet, in_flight,
    mock::{Answer, Mock, Readiness},
    secs,
};

// C68
#[tokio::test(start_paused = true)]
async fn a_full_backend_is_not_selected_by_any_strategy() {
    for strategy in StrategyName::ALL {
        let (fleet, [a, b, c]) = fleet([1, 3, 2], WhenFull::Wait);
        fleet.set_weight("a", 100).unwrap();
        [&a, &b, &c].into_iter().for_each(|remote| remote.answer(Answer::OkAfter(secs(1))));
        let by_name = AnyStrategy::try_from(*strategy);
        // Only that one needs more than its name.
        let chosen = by_name.unwrap_or_else(|_| AnyStrategy::new(Hash::by_classifier()));
        let door = BalanceLayer::new(chosen).layer(fleet.clone());
        let began = Instant::now();
        let calls = (0..6).map(|_| door.clone().oneshot(())).collect::<Vec<_>>();
        for result in join_all(calls).await {
            result.unwrap();
        }
        assert_eq!([&a, &b, &c].map(|remote| remote.most_running()), [1, 3, 2], "{strategy}");
        assert_eq!(began.elapsed(), secs(1), "{strategy}");
    }
}

// C68
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_exactly_as_long_as_all_are_full() {
    let (fleet, [a, b]) = fleet([1, 1], WhenFull::Wait);
    a.answer(Answer::OkAfter(secs(3)));
    b.answer(Answer::OkAfter(secs(2)));
    let began = Instant::now();
    let calls = (0..4).map(|_| {
        let fleet = fleet.clone();
        tokio::spawn(async move {
            door(&fleet).oneshot(()).await.unwrap();
            Instant::now()
        })
    });
    let mut ends: Vec<_> =
        join_all(calls.collect::<Vec<_>>()).await.into_iter().map(|end| end.unwrap() - began).collect();
    ends.sort();
    assert_eq!(ends, [secs(2), secs(3), secs(4), secs(6)]);
}

// C68
#[tokio::test(start_paused = true)]
async fn one_free_slot_wakes_the_first_of_a_thousand_tasks() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    // Before any task checks by itself.
    a.answer(Answer::OkAfter(Duration::from_millis(100)));
    let call = door(&fleet).oneshot(());
    let mut call = std::pin::pin!(call);
    assert!((&mut call).now_or_never().is_none());
    let mut waiting: Vec<_> = (0..1_000).map(|_| Waiting::new(&fleet)).collect();
    assert!(waiting.iter_mut().all(|waiting| !waiting.poll()));
    let woken =
        |waiting: &[Waiting]| -> Vec<_> { (0..waiting.len()).filter(|index| waiting[*index].wakes() > 0).collect() };
    assert!(woken(&waiting).is_empty());
    call.await.unwrap();
    assert_eq!(woken(&waiting), [0]);
    // The first one is dropped, before and after it is ready. Its turn is passed on.
    drop(waiting.remove(0));
    assert_eq!(woken(&waiting), [0]);
    assert!(waiting[0].poll());
    drop(waiting.remove(0));
    assert_eq!(woken(&waiting), [0]);
    assert!(waiting[0].poll());
    a.answer(Answer::Never);
    let running = waiting[0].door.call(());
    waiting.remove(0);
    assert!(woken(&waiting).is_empty(), "the turn was used");
    drop(running);
    assert_eq!(woken(&waiting), [0]);
}

// C68
#[tokio::test(start_paused = true)]
async fn each_call_that_ends_wakes_a_task_also_if_the_last_one_was_not_polled_yet() {
    let (fleet, [a, _b]) = fleet([2, 1], WhenFull::Wait);
    fleet.set_priority("b", -1);
    a.answer(Answer::Never);
    let mut door = door(&fleet);
    let first = door.ready().await.unwrap().call(());
    let second = door.ready().await.unwrap().call(());
    let mut waiting: Vec<_> = (0..3).map(|_| Waiting::new(&fleet)).collect();
    assert!(waiting.iter_mut().all(|waiting| !waiting.poll()));
    drop((first, second));
    assert_eq!(waiting.iter().map(Waiting::wakes).collect::<Vec<_>>(), [1, 1, 0]);
    let mut running = Vec::new();
    for waiting in &mut waiting[..2] {
        assert!(waiting.poll());
        running.push(waiting.door.call(()));
    }
    assert!(!waiting[2].poll());
}

// C20, C45, C68
#[tokio::test(start_paused = true)]
async fn a_slot_is_free_again_however_the_call_ends() {
    let (fleet, [a]) = fleet([1], WhenFull::Refuse);
    let mut door = door(&fleet);
    for answer in [Answer::Ok, Answer::Error, Answer::Panic, Answer::PanicInCall, Answer::Never] {
        a.answer(answer);
        let service = door.ready().await.unwrap();
        let call = std::panic::AssertUnwindSafe(async { service.call(()).await.is_ok() }).catch_unwind();
        let ended = tokio::time::timeout(secs(1), call).await;
        assert_eq!(ended.is_err(), answer == Answer::Never, "cancelled by the timeout");
        assert_eq!((in_flight(&fleet), a.running()), (vec![0], 0), "{answer:?}");
        a.answer(Answer::Ok);
        door.ready().await.unwrap().call(()).await.unwrap();
    }
}

// C11, C68
#[tokio::test(start_paused = true)]
async fn a_door_that_is_ready_and_not_called_takes_no_slot() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    let (mut idle, mut other) = (door(&fleet), door(&fleet));
    idle.ready().await.unwrap();
    a.answer(Answer::OkAfter(secs(1)));
    let running = other.ready().await.unwrap().call(());
    assert_eq!(in_flight(&fleet), [1]);
    // It was ready before the other one was called. Now its call waits.
    let began = Instant::now();
    let waiting = idle.call(());
    assert_eq!((a.calls(), in_flight(&fleet)), (1, vec![1]));
    let (first, second) = futures::join!(running, waiting);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!((began.elapsed(), a.most_running()), (secs(2), 1));
}

// C11, C68
#[tokio::test(start_paused = true)]
async fn a_task_that_was_woken_and_is_idle_keeps_the_others_out_for_a_second_at_most() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    a.answer(Answer::OkAfter(secs(1)));
    let running = door(&fleet).oneshot(());
    let mut running = std::pin::pin!(running);
    assert!((&mut running).now_or_never().is_none());
    let mut idle = Waiting::new(&fleet);
    assert!(!idle.poll());
    let began = Instant::now();
    let other = tokio::spawn(door(&fleet).oneshot(()));
    running.await.unwrap();
    assert!(idle.poll(), "it is ready, and not called");
    other.await.unwrap().unwrap();
    assert!(began.elapsed() <= secs(3), "{:?}", began.elapsed());
}

// C10, C68
#[tokio::test(start_paused = true)]
async fn backends_that_are_full_and_backends_that_are_pending_are_waited_for_together() {
    let (fleet, [a, b]) = fleet([1, 1], WhenFull::Wait);
    a.answer(Answer::OkAfter(secs(1)));
    b.set_readiness(Readiness::Pending);
    let running = tokio::spawn(door(&fleet).oneshot(()));
    tokio::task::yield_now().await;
    let mut waiting = Waiting::new(&fleet);
    assert!(!waiting.poll());
    b.set_readiness(Readiness::Ready);
    assert!(waiting.wakes() > 0 && waiting.poll());
    let mut another = Waiting::new(&fleet);
    b.set_readiness(Readiness::Pending);
    assert!(!another.poll());
    running.await.unwrap().unwrap();
    assert!(another.wakes() > 0 && another.poll());
}

// C8, C68
#[tokio::test(start_paused = true)]
async fn a_full_tier_is_not_left_and_free_slots_below_it_wake_no_task() {
    let (fleet, [a, b]) = fleet([1, 1], WhenFull::Wait);
    fleet.set_priority("b", -1);
    a.answer(Answer::OkAfter(secs(5)));
    let running = tokio::spawn(door(&fleet).oneshot(()));
    tokio::task::yield_now().await;
    let mut waiting = Waiting::new(&fleet);
    assert!(!waiting.poll());
    fleet.drain("a");
    assert!(waiting.wakes() > 0 && waiting.poll(), "a drained tier is left");
    waiting.door.call(()).await.unwrap();
    fleet.set_status("a", tower_fleet::AdminStatus::Healthy);
    let mut waiting = Waiting::new(&fleet);
    assert!(!waiting.poll());
    running.await.unwrap().unwrap();
    assert!(waiting.wakes() > 0 && waiting.poll());
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

// C68
#[tokio::test(start_paused = true)]
async fn with_ten_thousand_full_backends_a_poll_is_bounded_and_a_free_slot_is_found_at_once() {
    let (mock, remote) = Mock::<()>::new("many");
    let backends = (0..10_000).map(|number| Backend::new(format!("b{number}"), mock.clone()).limit(1));
    let fleet = Fleet::plain().backends(backends.collect::<Vec<_>>()).build().unwrap();
    remote.answer(Answer::Never);
    let mut door = door(&fleet);
    let mut running = Vec::new();
    for _ in 0..10_000 {
        running.push(door.ready().await.unwrap().call(()));
    }
    let mut waiting = Waiting::new(&fleet);
    let mut polls = 1;
    assert!(!waiting.poll());
    while waiting.wakes() == polls {
        polls += 1;
        assert!(!waiting.poll());
    }
    // 128 backends in each, twice: before and after the task has its place.
    assert!((2 * 10_000 / 128..2 * 10_000 / 128 + 10).contains(&polls), "{polls}");
    drop(running.swap_remove(7_777));
    assert_eq!(waiting.wakes(), polls);
    assert!(waiting.poll());
    assert_eq!(remote.running(), 9_999);
    let _running = waiting.door.call(());
    assert_eq!(remote.running(), 10_000);
}

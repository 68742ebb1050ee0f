//! `WhenFull::Queue`: `call` waits in the order of the classes.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::join_all};
use tokio::{
    task::{JoinHandle, yield_now},
    time::Instant,
};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    Backend, Balance, FailoverLayer, Fleet, Limit, PriorityClass, RoundRobin, WhenFull,
    balance::ErrorKind,
    failover,
    outcome::{BoxError, CallGuard, Classify, Outcome, Verdict, inspect},
};

use crate::{
    mock::{Answer, Mock, Readiness, Remote},
    secs,
};

/// The request is its class.
#[derive(Clone)]
struct ByNumber;

impl<Res> Classify<u8, Res> for ByNumber {
    type Call = ();
    type Watched = Res;
    const WATCHES: bool = false;

    fn request(&self, _: &u8) {}

    fn class(&self, request: &u8) -> PriorityClass {
        PriorityClass(*request)
    }

    fn response(&self, (): &mut (), _: &Res) -> Verdict {
        Verdict::Now(Outcome::Success)
    }

    fn error(&self, (): (), error: &BoxError) -> Outcome {
        inspect(&**error)
    }

    fn watch((): (), response: Res, _: CallGuard) -> Res {
        response
    }
}

type Classed = Fleet<Mock<u8>, ByNumber>;

fn fleet(limit: u32, bound: u32) -> (Classed, Arc<Remote>) {
    let (mock, remote) = Mock::new("a");
    remote.answer(Answer::OkAfter(secs(1)));
    let fleet = Fleet::plain().classify(ByNumber).backend(Backend::new("a", mock).limit(limit));
    (fleet.when_full(WhenFull::Queue(bound)).build().unwrap(), remote)
}

/// Sends a request. Returns after how many seconds it was answered, or `None` if it was refused.
async fn send(fleet: &Classed, class: u8) -> JoinHandle<Option<u64>> {
    let door = Balance::new(fleet, RoundRobin);
    let call = tokio::spawn(async move {
        let began = Instant::now();
        match door.oneshot(class).await {
            Ok(_) => Some(began.elapsed().as_secs()),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::AtLimit { backends: 1, .. }), "{error}");
                assert_eq!(began.elapsed().as_secs(), 0);
                None
            }
        }
    });
    yield_now().await;
    call
}

async fn answers(calls: Vec<JoinHandle<Option<u64>>>) -> Vec<Option<u64>> {
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

// C68
#[tokio::test(start_paused = true)]
async fn requests_wait_in_the_order_of_their_classes_and_within_a_class_first_come_first_served() {
    let (fleet, a) = fleet(1, 10);
    let mut calls = Vec::new();
    for class in [0, 1, 3, 2, 3, 1] {
        calls.push(send(&fleet, class).await);
    }
    assert_eq!(answers(calls).await, [1, 5, 2, 4, 3, 6].map(Some));
    assert_eq!((a.most_running(), fleet.snapshot()[0].in_flight), (1, 0));
}

// C68
#[tokio::test(start_paused = true)]
async fn a_new_request_does_not_overtake_those_that_wait() {
    let (fleet, a) = fleet(2, 1_000);
    a.answer(Answer::OkAfter(Duration::from_millis(10)));
    // Twice as many as the backend serves, for ten seconds.
    let mut calls = Vec::new();
    for _ in 0..400 {
        for _ in 0..2 {
            calls.push(send(&fleet, 5).await);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waits: Vec<_> = answers(calls).await.into_iter().flatten().collect();
    assert_eq!(waits.len(), 800);
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!(a.most_running(), 2);
}

// C68
#[tokio::test(start_paused = true)]
async fn over_the_bound_the_lowest_class_is_refused() {
    let (fleet, _) = fleet(1, 2);
    let mut calls = Vec::new();
    for class in [9, 5, 3, 3, 2, 4, 7] {
        calls.push(send(&fleet, class).await);
    }
    // The first one runs. The first 3 makes room for the 4, and that for the 7.
    assert_eq!(answers(calls).await, [Some(1), Some(3), None, None, None, None, Some(2)]);
}

// C20, C68
#[tokio::test(start_paused = true)]
async fn a_cancelled_request_frees_its_place_and_the_slot_it_was_given() {
    let (fleet, a) = fleet(1, 1);
    let running = send(&fleet, 5).await;
    let waiting = send(&fleet, 5).await;
    assert_eq!(send(&fleet, 5).await.await.unwrap(), None);
    waiting.abort();
    yield_now().await;
    let next = send(&fleet, 5).await;
    assert_eq!((running.await.unwrap(), next.await.unwrap()), (Some(1), Some(2)));
    // By hand: it is given a slot, and is dropped before it is polled.
    let mut door = Balance::new(&fleet, RoundRobin);
    a.answer(Answer::Never);
    let running = door.ready().await.unwrap().call(1);
    let mut first = Box::pin(door.ready().await.unwrap().call(1));
    assert!((&mut first).now_or_never().is_none());
    drop(running);
    let second = door.ready().await.unwrap().call(1);
    let mut second = Box::pin(second);
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(a.running(), 0, "the slot is that of the first one");
    drop(first);
    assert!((&mut second).now_or_never().is_none());
    assert_eq!((a.running(), fleet.snapshot()[0].in_flight), (1, 1));
    drop(second);
    assert_eq!(fleet.snapshot()[0].in_flight, 0);
}

// C51, C68
#[tokio::test(start_paused = true)]
async fn a_waiting_request_respects_the_deadline_of_its_door() {
    let (fleet, a) = fleet(1, 5);
    a.answer(Answer::Never);
    let _running = send(&fleet, 5).await;
    let layer = FailoverLayer::plain().deadline(secs(3)).build().unwrap();
    let began = Instant::now();
    let error = layer.layer(fleet.clone()).oneshot(5).await.unwrap_err();
    assert!(matches!(error.kind(), failover::ErrorKind::AtLimit { backends: 1, .. }), "{error:?}");
    assert_eq!(began.elapsed(), secs(3));
    // Its place is free again.
    for _ in 0..5 {
        send(&fleet, 1).await;
    }
    assert_eq!(send(&fleet, 1).await.await.unwrap(), None);
}

// C11, C68
#[tokio::test(start_paused = true)]
async fn more_slots_and_other_backends_are_given_in_the_order_of_the_classes() {
    let (fleet, a) = fleet(1, 10);
    a.answer(Answer::Never);
    let _running = send(&fleet, 0).await;
    a.answer(Answer::OkAfter(secs(1)));
    let mut calls = Vec::new();
    for class in [1, 2, 3, 4] {
        calls.push(send(&fleet, class).await);
    }
    fleet.set_limit("a", Limit::Fixed(3)).unwrap();
    assert_eq!(answers(calls).await, [2, 2, 1, 1].map(Some));
    let (mock, b) = Mock::new("b");
    b.answer(Answer::OkAfter(secs(1)));
    a.answer(Answer::Never);
    let _running = (send(&fleet, 0).await, send(&fleet, 0).await);
    let calls = vec![send(&fleet, 1).await, send(&fleet, 2).await];
    fleet.remove("a");
    fleet.insert(Backend::new("b", mock).limit(1)).unwrap();
    assert_eq!(answers(calls).await, [Some(2), Some(1)]);
}

// C10, C68
#[tokio::test(start_paused = true)]
async fn a_slot_at_a_backend_that_is_not_ready_is_kept_until_it_is() {
    let (fleet, a) = fleet(1, 10);
    let running = send(&fleet, 5).await;
    let calls = vec![send(&fleet, 1).await, send(&fleet, 2).await];
    a.set_readiness(Readiness::Pending);
    running.await.unwrap();
    tokio::time::sleep(secs(4)).await;
    assert_eq!((a.calls(), fleet.snapshot()[0].in_flight), (1, 0));
    a.set_readiness(Readiness::Ready);
    assert_eq!(answers(calls).await, [Some(7), Some(6)]);
}

// C68
#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_to_become_ready_does_not_end_the_wait_of_the_others() {
    let (fleet, a) = fleet(1, 10);
    let running = send(&fleet, 5).await;
    let calls = vec![send(&fleet, 1).await, send(&fleet, 2).await];
    a.set_readiness(Readiness::Error);
    running.await.unwrap();
    yield_now().await;
    a.set_readiness(Readiness::Ready);
    let results = join_all(calls).await;
    assert!(results.len() == 2 && fleet.snapshot()[0].in_flight == 0);
    assert_eq!(send(&fleet, 5).await.await.unwrap(), Some(1));
}

// C12, C68
#[test]
fn eight_threads_in_a_queue_never_exceed_the_limit_and_are_all_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_time().build().unwrap();
    let (mock, remote) = Mock::<u8>::new("a");
    let fleet = Fleet::plain().classify(ByNumber).backend(Backend::new("a", mock).limit(3));
    let fleet = fleet.when_full(WhenFull::Queue(1_000)).build().unwrap();
    let tasks = (0..48).map(|task: u8| {
        let door = Balance::new(&fleet, RoundRobin);
        runtime.spawn(async move {
            for request in 0..300 {
                let mut door = door.clone();
                let call = door.ready().await.unwrap().call(task % 4);
                if request % 7 == 0 {
                    // Cancelled, while it waits or runs.
                    let _ = tokio::time::timeout(Duration::ZERO, call).await;
                } else {
                    call.await.unwrap();
                }
                yield_now().await;
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    assert_eq!((remote.running(), fleet.snapshot()[0].in_flight), (0, 0));
    let mut door = Balance::new(&fleet, RoundRobin);
    remote.answer(Answer::Never);
    let running: Vec<_> = (0..3).map(|_| runtime.block_on(door.ready()).unwrap().call(1)).collect();
    assert_eq!(remote.running(), 3, "no slot was lost");
    drop(running);
}

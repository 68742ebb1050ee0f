//! Limits and backends that change while requests wait.

use futures::FutureExt;
use tower::{Service, ServiceExt};
use tower_fleet::{AdaptiveLimit, Backend, Fleet, Limit, WhenFull, balance::ErrorKind};

use crate::{
    NO_LIMIT, Waiting, door, fleet, in_flight,
    mock::{Answer, Mock},
};

// C11, C68
#[tokio::test(start_paused = true)]
async fn removal_replacement_and_insertion_end_a_wait() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    a.answer(Answer::Never);
    let running = door(&fleet).ready().await.unwrap().call(());
    let waits = || {
        let mut waiting = Waiting::new(&fleet);
        assert!(!waiting.poll());
        waiting
    };
    let mut waiting = waits();
    fleet.insert(Backend::new("b", Mock::new("b").0)).unwrap();
    assert!(waiting.wakes() == 1 && waiting.poll());
    assert_eq!(waiting.door.call(()).await.unwrap(), "b");
    fleet.remove("b");

    let (mut waiting, replacement) = (waits(), Mock::new("new a"));
    fleet.replace(Backend::new("a", replacement.0).limit(1)).unwrap();
    assert!(waiting.wakes() == 1 && waiting.poll());
    replacement.1.answer(Answer::Never);
    let replaced = waiting.door.call(());
    assert_eq!((in_flight(&fleet), a.running(), replacement.1.running()), (vec![1], 1, 1));
    // The end of a call at the old one frees no slot of the new one.
    let mut waiting = waits();
    drop(running);
    assert!(waiting.wakes() == 0 && !waiting.poll());

    fleet.remove("a");
    assert!(waiting.wakes() == 1 && waiting.poll());
    let error = waiting.door.call(()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoBackends));
    drop(replaced);
}

// C68
#[tokio::test(start_paused = true)]
async fn a_higher_limit_wakes_tasks_and_a_lower_one_lets_calls_finish() {
    let (fleet, [a]) = fleet([1], WhenFull::Wait);
    a.answer(Answer::Never);
    let mut running = vec![door(&fleet).ready().await.unwrap().call(())];
    let mut waiting: Vec<_> = (0..3).map(|_| Waiting::new(&fleet)).collect();
    assert!(waiting.iter_mut().all(|waiting| !waiting.poll()));
    fleet.set_limit("a", Limit::Fixed(3)).unwrap();
    assert_eq!(fleet.snapshot()[0].limit, Some(3));
    for mut waiting in waiting.drain(..2) {
        assert!(waiting.poll());
        running.push(waiting.door.call(()));
    }
    assert!(!waiting[0].poll());
    fleet.set_limit("a", Limit::Fixed(2)).unwrap();
    assert_eq!((in_flight(&fleet), a.running()), (vec![3], 3));
    running.pop();
    assert!(!waiting[0].poll(), "two of two");
    running.pop();
    assert!(waiting[0].poll());
    fleet.set_limit("a", NO_LIMIT).unwrap();
    assert_eq!(fleet.snapshot()[0].limit, None);
    let mut door = door(&fleet);
    for _ in 0..10 {
        running.push(door.ready().await.unwrap().call(()));
    }
    // A limit that is set again knows of them.
    fleet.set_limit("a", Limit::Fixed(11)).unwrap();
    assert!(Waiting::new(&fleet).poll().eq(&false));
    assert_eq!(
        fleet.set_limit("a", Limit::Fixed(0)).unwrap_err().to_string(),
        "backend `a`: limit 0 must be at least 1: to send a backend no requests, drain it"
    );
    assert!(fleet.set_limit("x", Limit::Fixed(1)).is_err());
}

// C64, C68
#[tokio::test(start_paused = true)]
async fn reconcile_applies_a_changed_limit_and_keeps_the_service_and_its_calls() {
    let fleet = Fleet::plain().limit(9).build().unwrap();
    let (mock, remote) = Mock::<()>::new("a");
    let reconcile = |limit: Option<u32>| {
        let backend = Backend::new("a", "key");
        let backend = limit.into_iter().fold(backend, Backend::limit);
        fleet.reconcile([backend], |_| mock.clone()).unwrap()
    };
    assert_eq!(reconcile(Some(2)).inserted.len(), 1);
    remote.answer(Answer::Never);
    let (mut door, mut running) = (door(&fleet), Vec::new());
    for _ in 0..2 {
        running.push(door.ready().await.unwrap().call(()));
    }
    assert!(door.ready().now_or_never().is_none());
    assert_eq!(reconcile(Some(2)).unchanged, 1);
    assert_eq!(reconcile(Some(3)).updated.len(), 1);
    running.push(door.ready().now_or_never().unwrap().unwrap().call(()));
    assert_eq!(reconcile(None).updated.len(), 1);
    let seen = &fleet.snapshot()[0];
    assert_eq!((seen.limit, seen.in_flight, remote.running()), (Some(9), 3, 3), "that of the fleet");
    // The limit of an unchanged adaptive one is kept.
    let adaptive = |max| Backend::new("a", "key").limit(AdaptiveLimit::new().initial(5).max(max));
    assert_eq!(fleet.reconcile([adaptive(50)], |_| mock.clone()).unwrap().updated.len(), 1);
    assert_eq!(fleet.reconcile([adaptive(50)], |_| mock.clone()).unwrap().unchanged, 1);
    assert_eq!(fleet.snapshot()[0].limit, Some(5));
}

// C58, C68
#[test]
fn invalid_limits_are_refused_where_they_enter() {
    let of_fleet = Fleet::<(), _>::plain().limit(AdaptiveLimit::new().tolerance(f64::NAN)).build().unwrap_err();
    assert_eq!(of_fleet.to_string(), "fleet: limit.tolerance NaN must be a factor from 1 to 10");
    let of_backend = Fleet::plain().backend(Backend::new("a", ()).limit(0)).build().unwrap_err();
    assert_eq!((of_backend.backend(), of_backend.field(), of_backend.value()), (Some("a"), "limit", "0"));
    for bound in [0, 1_000_001, u32::MAX] {
        let refused = Fleet::<(), _>::plain().when_full(WhenFull::Queue(bound)).build().unwrap_err();
        assert_eq!((refused.field(), refused.value()), ("when_full.queue", &*bound.to_string()));
    }
    assert!(Fleet::<(), _>::plain().when_full(WhenFull::Queue(1_000_000)).build().is_ok());
}

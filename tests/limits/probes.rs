//! Limits of backends whose circuits are half-open.

use tower::{Service, ServiceExt};
use tower_fleet::{AdminStatus, CircuitPolicy, Limit, WhenFull, balance::ErrorKind};

use crate::{builder, door, mock::Answer, secs};

// C8, C68
#[tokio::test(start_paused = true)]
async fn no_request_waits_for_a_slot_at_a_backend_that_is_not_eligible() {
    for when_full in [WhenFull::Wait, WhenFull::Refuse, WhenFull::Queue(5)] {
        let (builder, [a]) = builder([2]);
        let policy = CircuitPolicy::new().consecutive(1).open_for(secs(1));
        let fleet = builder.circuit_breaker(policy).when_full(when_full).build().unwrap();
        let mut door = door(&fleet);
        a.answer(Answer::Never);
        let running = door.ready().await.unwrap().call(());
        a.answer(Answer::Error);
        door.ready().await.unwrap().call(()).await.unwrap_err();
        tokio::time::sleep(secs(3)).await;
        // The circuit is half-open, and the call of the time before has the only slot.
        fleet.set_limit("a", Limit::Fixed(1)).unwrap();
        a.answer(Answer::Ok);
        let answer = tokio::time::timeout(secs(60), crate::door(&fleet).oneshot(())).await;
        let error = answer.expect("an answer at once").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoneAvailable { .. }), "{when_full:?}: {error:?}");
        drop(running);
        assert_eq!(door.ready().await.unwrap().call(()).await.unwrap(), "a", "{when_full:?}: it is probed");
    }
}

// C20, C68
#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_slot_probes_a_backend_that_is_not_full_any_more() {
    for when_full in [WhenFull::Wait, WhenFull::Queue(5)] {
        let (builder, [a, b]) = builder([1, 2]);
        let policy = CircuitPolicy::new().consecutive(1).open_for(secs(1));
        let fleet = builder.circuit_breaker(policy).when_full(when_full).build().unwrap();
        fleet.drain("a");
        b.answer(Answer::Never);
        let mut second = door(&fleet);
        let old = second.ready().await.unwrap().call(());
        b.answer(Answer::Error);
        door(&fleet).oneshot(()).await.unwrap_err();
        tokio::time::sleep(secs(3)).await;
        // `b` is half-open, and a call of the time before has its only slot.
        fleet.set_limit("b", Limit::Fixed(1)).unwrap();
        b.answer(Answer::Ok);
        fleet.set_status("a", AdminStatus::Healthy);
        a.answer(Answer::Never);
        let mut first = door(&fleet);
        let _running = first.ready().await.unwrap().call(());
        assert_eq!((a.running(), b.running()), (1, 1));
        let waiting = tokio::spawn(door(&fleet).oneshot(()));
        tokio::time::sleep(secs(10)).await;
        assert!(!waiting.is_finished(), "{when_full:?}");
        drop(old);
        let answer = tokio::time::timeout(secs(3), waiting).await.expect("an answer within seconds");
        assert_eq!(answer.unwrap().unwrap(), "b", "{when_full:?}");
    }
}

//! `WhenFull::Refuse`: the call fails at once.

use futures::FutureExt;
use tower::{Service, ServiceExt};
use tower_fleet::{FailoverLayer, WhenFull, balance, failover};
use tower_layer::Layer;

use crate::{door, fleet, mock::Answer, secs};

// C68
#[tokio::test(start_paused = true)]
async fn a_request_is_refused_in_call_while_all_are_full() {
    let (fleet, [a, b]) = fleet([1, 2], WhenFull::Refuse);
    [&a, &b].into_iter().for_each(|remote| remote.answer(Answer::OkAfter(secs(1))));
    let mut door = door(&fleet);
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(door.ready().await.unwrap().call(()));
    }
    let began = tokio::time::Instant::now();
    let refused = door.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(matches!(refused.kind(), balance::ErrorKind::AtLimit { backends: 2, .. }));
    assert_eq!(refused.to_string(), "all 2 eligible backends are at their limits");
    #[cfg(feature = "http")]
    assert_eq!(refused.status(), 503);
    assert!(refused.backend().is_none());
    let failover = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
    let refused = failover.oneshot(()).await.unwrap_err();
    assert!(matches!(refused.kind(), failover::ErrorKind::AtLimit { backends: 2, .. }));
    assert_eq!(refused.to_string(), "all 2 eligible backends are at their limits");
    #[cfg(feature = "http")]
    assert_eq!(refused.status(), 503);
    assert_eq!(began.elapsed(), secs(0));
    futures::future::try_join_all(running).await.unwrap();
    door.ready().await.unwrap().call(()).await.unwrap();
}

// C11, C68
#[tokio::test(start_paused = true)]
async fn of_two_doors_that_are_ready_for_one_slot_the_later_call_is_refused() {
    let (fleet, [a]) = fleet([1], WhenFull::Refuse);
    let (mut first, mut second) = (door(&fleet), door(&fleet));
    first.ready().await.unwrap();
    second.ready().await.unwrap();
    a.answer(Answer::Never);
    let _running = second.call(());
    let refused = first.call(()).await.unwrap_err();
    assert!(matches!(refused.kind(), balance::ErrorKind::AtLimit { backends: 1, .. }));
}

// C8, C68
#[test]
fn with_a_full_tier_a_request_is_refused_at_once_though_a_lower_tier_is_free() {
    let (fleet, [a, b]) = fleet([1, 1], WhenFull::Refuse);
    fleet.set_priority("b", -1);
    a.answer(Answer::Never);
    let mut first = door(&fleet);
    assert!(first.ready().now_or_never().unwrap().is_ok());
    let _running = first.call(());
    let answer = door(&fleet).oneshot(()).now_or_never();
    let error = answer.expect("an answer in one poll").unwrap_err();
    assert!(matches!(error.kind(), balance::ErrorKind::AtLimit { .. }), "{error:?}");
    let failover = FailoverLayer::plain().build().unwrap().layer(fleet.clone());
    let error = failover.oneshot(()).now_or_never().expect("an answer in one poll").unwrap_err();
    assert!(matches!(error.kind(), failover::ErrorKind::AtLimit { .. }), "{error:?}");
    assert_eq!((a.calls(), b.calls()), (1, 0));
}

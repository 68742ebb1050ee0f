//! What an idle door keeps: at most the one instance that it holds ready, and no permit.

use std::{fmt::Debug, future::poll_fn, sync::Arc};

use futures::FutureExt;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};
use tower_fleet::{
    AdminStatus, Backend, BalanceLayer, CircuitState, FailoverLayer, Fleet, Mode, failover::Plain, outcome::ErrorsOnly,
};

use crate::{
    breaker,
    fleet::{fleet, state},
    mock::{Answer, Mock, Readiness, Remote},
    pass, policy, secs,
};

type GuardedFleet = Fleet<Mock, ErrorsOnly>;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

trait Door: Service<(), Response = &'static str, Error: Debug> + Clone {}

impl<D: Service<(), Response = &'static str, Error: Debug> + Clone> Door for D {}

/// The instances of each backend that are alive, without the fleet's own.
fn held(remotes: &[Arc<Remote>]) -> Vec<usize> {
    remotes.iter().map(|remote| remote.instances().saturating_sub(1)).collect()
}

fn total(remotes: &[Arc<Remote>]) -> usize {
    held(remotes).iter().sum()
}

fn set_all(remotes: &[Arc<Remote>], readiness: Readiness) {
    remotes.iter().for_each(|remote| remote.set_readiness(readiness));
}

/// One module per test, with a test for each kind of door.
macro_rules! for_each_door {
    ($($test:ident)*) => {$(
        mod $test {
            use super::*;

            #[tokio::test(start_paused = true)]
            async fn balance() {
                for strategy in ["round_robin", "shuffle", "weighted_round_robin", "failover"] {
                    super::$test(|fleet: &GuardedFleet| {
                        BalanceLayer::named(strategy.parse().unwrap()).unwrap().layer(fleet.clone())
                    })
                    .await;
                }
            }

            #[tokio::test(start_paused = true)]
            async fn failover() {
                for mode in [Mode::Race, Mode::Sequential, Mode::hedged(secs(1))] {
                    super::$test(|fleet: &GuardedFleet| {
                        let layer: FailoverLayer<Plain> = FailoverLayer::plain().mode(mode).build().unwrap();
                        layer.layer(fleet.clone())
                    })
                    .await;
                }
            }
        }
    )*};
}

for_each_door! {
    a_ready_door_keeps_one_instance_of_those_that_were_pending
    a_door_without_an_eligible_backend_keeps_no_instance
    a_door_whose_backends_fail_to_become_ready_keeps_no_instance
    a_removed_backend_keeps_no_pending_instance
    a_door_that_holds_a_removed_backend_lets_go_of_it_with_the_next_poll
    a_ready_door_holds_no_permit_of_a_probe
    a_pending_probe_is_dropped_when_another_backend_is_ready
    a_called_door_keeps_no_instance
    a_cancelled_request_keeps_no_instance
}

// C10, C11
async fn a_ready_door_keeps_one_instance_of_those_that_were_pending<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    for first in 0..NAMES.len() {
        let (fleet, remotes) = fleet(policy(), &NAMES);
        let mut door = open(&fleet);
        set_all(&remotes, Readiness::Pending);
        let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
        for _ in 0..3 {
            assert_pending!(waiting.poll());
        }
        assert_eq!(held(&remotes), [1; 5], "a place in each queue");
        remotes[first].set_readiness(Readiness::Ready);
        assert!(waiting.is_woken() && waiting.poll().is_ready());
        let expected: Vec<_> = (0..NAMES.len()).map(|index| usize::from(index == first)).collect();
        assert_eq!(held(&remotes), expected);
        // A clone holds none, and polled again, the door holds the same one.
        let clone = door.clone();
        door.ready().now_or_never().unwrap().unwrap();
        assert_eq!(held(&remotes), expected);
        drop((door, clone));
        assert_eq!(total(&remotes), 0);
    }
}

// C1, C11
async fn a_door_without_an_eligible_backend_keeps_no_instance<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &NAMES);
    let mut door = open(&fleet);
    set_all(&remotes, Readiness::Pending);
    let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
    assert_pending!(waiting.poll());
    for name in NAMES {
        fleet.set_status(name, AdminStatus::Degraded);
    }
    assert!(waiting.is_woken() && waiting.poll().is_ready());
    assert_eq!(total(&remotes), 0);
    door.call(()).now_or_never().expect("at once").unwrap_err();
    assert_eq!(total(&remotes), 0);
}

// C10, C11
async fn a_door_whose_backends_fail_to_become_ready_keeps_no_instance<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &NAMES);
    let mut door = open(&fleet);
    set_all(&remotes, Readiness::Pending);
    let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
    assert_pending!(waiting.poll());
    set_all(&remotes, Readiness::Error);
    assert!(waiting.poll().is_ready());
    assert_eq!(total(&remotes), 0);
    door.call(()).now_or_never().expect("at once").unwrap_err();
    assert_eq!(total(&remotes), 0);
}

// C11
async fn a_removed_backend_keeps_no_pending_instance<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &NAMES);
    let mut door = open(&fleet);
    set_all(&remotes, Readiness::Pending);
    let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
    assert_pending!(waiting.poll());
    assert!(fleet.remove("b") && fleet.remove("d"));
    assert!(waiting.is_woken());
    assert_pending!(waiting.poll());
    let instances: Vec<_> = remotes.iter().map(|remote| remote.instances()).collect();
    assert_eq!(instances, [2, 0, 2, 0, 2]);
    remotes[2].set_readiness(Readiness::Ready);
    assert!(waiting.poll().is_ready());
    let instances: Vec<_> = remotes.iter().map(|remote| remote.instances()).collect();
    assert_eq!(instances, [1, 0, 2, 0, 1]);
}

// C11
async fn a_door_that_holds_a_removed_backend_lets_go_of_it_with_the_next_poll<D: Door>(
    open: impl Fn(&GuardedFleet) -> D,
) {
    let (fleet, remotes) = fleet(policy(), &["a", "b"]);
    let mut door = open(&fleet);
    door.ready().now_or_never().unwrap().unwrap();
    let gone = held(&remotes).iter().position(|held| *held == 1).unwrap();
    let stays = 1 - gone;
    fleet.remove(remotes[gone].name);
    door.ready().now_or_never().unwrap().unwrap();
    assert_eq!((remotes[gone].instances(), remotes[stays].instances()), (0, 2));
    fleet.remove(remotes[stays].name);
    door.ready().now_or_never().unwrap().unwrap();
    assert_eq!(remotes[stays].instances(), 0);
}

// C11, C38
async fn a_ready_door_holds_no_permit_of_a_probe<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &["a"]);
    fleet.switch("a").unwrap().trip();
    pass(secs(30)).await;
    let door = open(&fleet);
    let mut idle: Vec<_> = (0..4).map(|_| door.clone()).collect();
    for idle in &mut idle {
        idle.ready().now_or_never().unwrap().unwrap();
    }
    assert_eq!(held(&remotes), [4], "each has one instance for a probe");
    assert_eq!(state(&fleet, "a"), CircuitState::HalfOpen);
    // The one permit is free, although four doors are ready to probe.
    assert_eq!(door.clone().oneshot(()).now_or_never().expect("at once").unwrap(), "a");
    assert_eq!(state(&fleet, "a"), CircuitState::Closed);
    drop(idle);
    assert_eq!(total(&remotes), 0);
}

// C10, C11, C38
async fn a_pending_probe_is_dropped_when_another_backend_is_ready<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &["a", "b", "c"]);
    fleet.switch("b").unwrap().trip();
    pass(secs(30)).await;
    let mut door = open(&fleet);
    set_all(&remotes, Readiness::Pending);
    let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
    assert_pending!(waiting.poll());
    assert_eq!(held(&remotes), [1, 1, 1]);
    remotes[0].set_readiness(Readiness::Ready);
    assert!(waiting.poll().is_ready());
    assert_eq!(held(&remotes), [1, 0, 0]);
    // The permit is free, so another door may probe.
    remotes[1].set_readiness(Readiness::Ready);
    let mut other = open(&fleet);
    other.ready().now_or_never().unwrap().unwrap();
    assert_eq!(held(&remotes), [1, 1, 0]);
    assert_eq!(other.call(()).now_or_never().expect("at once").unwrap(), "b");
    assert_eq!(state(&fleet, "b"), CircuitState::Closed);
}

// C11
async fn a_called_door_keeps_no_instance<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &NAMES);
    let mut door = open(&fleet);
    for answer in [Answer::Ok, Answer::Error, Answer::OkAfter(secs(2)), Answer::ErrorAfter(secs(2))] {
        remotes.iter().for_each(|remote| remote.answer(answer));
        door.ready().await.unwrap();
        let _ = door.call(()).await;
        assert_eq!(total(&remotes), 0, "{answer:?}");
    }
}

// C11, C20
async fn a_cancelled_request_keeps_no_instance<D: Door>(open: impl Fn(&GuardedFleet) -> D) {
    let (fleet, remotes) = fleet(policy(), &NAMES);
    let mut door = open(&fleet);
    // At most one backend is called, and all others are pending.
    remotes.iter().for_each(|remote| remote.answer(Answer::ErrorAfter(secs(2))));
    door.ready().await.unwrap();
    set_all(&remotes, Readiness::Pending);
    let mut call = task::spawn(door.call(()));
    assert_pending!(call.poll());
    pass(secs(2)).await;
    // A `Failover` waits for another backend now, and a `Balance` has failed.
    let _ = call.poll();
    drop(call);
    assert_eq!(total(&remotes), 0);
    // Called without being ready, it searches with a request.
    let mut call = task::spawn(door.call(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(total(&remotes), 0);
}

// C11, C38
#[tokio::test(start_paused = true)]
async fn a_ready_breaker_holds_no_permit() {
    let (mock, remote) = Mock::new("orders");
    let service = breaker(policy()).layer(mock);
    let switch = service.switch();
    switch.trip();
    pass(secs(30)).await;
    let mut idle: Vec<_> = (0..4).map(|_| service.clone()).collect();
    for idle in &mut idle {
        idle.ready().now_or_never().unwrap().unwrap();
    }
    assert_eq!(remote.instances(), 5, "each has the one that it was made with");
    assert_eq!(service.oneshot(()).now_or_never().expect("at once").unwrap(), "orders");
    assert_eq!(switch.state(), CircuitState::Closed);
}

// C11, C38: the exception, which is documented. The permit is free after the call, a drop, or its time.
#[tokio::test(start_paused = true)]
async fn a_ready_breaker_that_waits_holds_the_permit_of_its_probe() {
    let (mock, _remote) = Mock::new("orders");
    let service = breaker(policy()).waiting().layer(mock);
    let switch = service.switch();
    let half_open = || {
        switch.reset();
        switch.trip();
        switch.probe_now();
    };
    let ready = || {
        let mut service = service.clone();
        service.ready().now_or_never().map(Result::unwrap).map(drop).map(|()| service)
    };
    half_open();
    let idle = ready().expect("a permit");
    assert!(ready().is_none());
    drop(idle);
    let mut idle = ready().expect("a permit");
    assert!(ready().is_none());
    assert_eq!(idle.call(()).await.unwrap(), "orders");
    half_open();
    let idle = ready().expect("a permit");
    pass(secs(60)).await;
    assert!(ready().is_some(), "the time of a probe is over");
    drop(idle);
}

// C11, C38
#[tokio::test(start_paused = true)]
async fn a_door_over_waiting_breakers_keeps_their_permits_no_longer_than_their_instances() {
    let (mocks, remotes): (Vec<_>, Vec<_>) = ["a", "b"].map(Mock::<()>::new).into_iter().unzip();
    let guarded: Vec<_> = mocks.into_iter().map(|mock| breaker(policy()).separate().waiting().layer(mock)).collect();
    let switches: Vec<_> = guarded.iter().map(|service| service.switch()).collect();
    let backends = ["a", "b"].into_iter().zip(guarded).map(|(name, service)| Backend::new(name, service));
    let fleet = Fleet::plain().backends(backends).build().unwrap();
    for switch in &switches {
        switch.trip();
        switch.probe_now();
    }
    set_all(&remotes, Readiness::Pending);
    let mut door = BalanceLayer::round_robin().layer(fleet.clone());
    let mut waiting = task::spawn(poll_fn(|cx| door.poll_ready(cx)));
    assert_pending!(waiting.poll());
    remotes[0].set_readiness(Readiness::Ready);
    assert!(waiting.poll().is_ready());
    // The permit of `b` was released with its pending instance.
    remotes[1].set_readiness(Readiness::Ready);
    let mut other = BalanceLayer::round_robin().layer(fleet.clone());
    assert_eq!(other.ready().now_or_never().expect("b is free").unwrap().call(()).await.unwrap(), "b");
    assert_eq!((switches[0].state(), switches[1].state()), (CircuitState::HalfOpen, CircuitState::Closed));
}

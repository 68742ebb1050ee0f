//! What a request costs in memory: nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use tower::{Layer, Service};
use tower_fleet::{
    Backend, Balance, BalanceLayer, Fleet,
    pick::{AnyPick, Pick, Primary, RoundRobin, Shuffle, Strategy, Weighted, pick_fn},
};

/// Always ready, boxes nothing.
#[derive(Clone)]
struct Unit;

impl Service<()> for Unit {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn request<P: Pick>(door: &mut Balance<Unit, P>) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(door.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    assert!(matches!(pin!(door.call(())).poll(&mut cx), Poll::Ready(Ok(()))));
}

/// As a fleet is in use: it has seen changes, some of its backends are out, and there is a reserve.
fn fleet(backends: usize) -> Fleet<Unit> {
    let fleet = (0..backends + 2).map(|index| Backend::new(format!("b{index}"), Unit).weight(1 + index as u32 % 3));
    let fleet = Fleet::builder()
        .backends(fleet)
        .backend(Backend::new("reserve", Unit).priority(-1))
        .build()
        .expect("good backends");
    assert!(fleet.drain("b0") && fleet.remove("b1"));
    fleet
}

fn named(strategy: Strategy) -> AnyPick {
    AnyPick::try_from(strategy).expect("a strategy of this version")
}

const REQUESTS: u64 = 1_000;

fn assert_allocates_nothing<P: Pick>(name: &str, pick: fn() -> P) {
    for backends in [3, 100, 10_000] {
        let fleet = fleet(backends);
        let mut door = BalanceLayer::new(pick()).layer(fleet.clone());
        let kept = measure(|| (0..REQUESTS).for_each(|_| request(&mut door)));
        assert_eq!(kept.count_total, 0, "{name}, {backends} backends, door kept");

        let cloned = measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone())));
        assert_eq!(cloned.count_total, 0, "{name}, {backends} backends, door cloned per call");

        // The first requests after a change, too.
        fleet.drain("b2");
        let changed = measure(|| (0..REQUESTS).for_each(|_| request(&mut door)));
        assert_eq!(changed.count_total, 0, "{name}, {backends} backends, after a change");
        assert!(fleet.snapshot().iter().all(|backend| backend.in_flight == 0));
    }
}

// C12
#[test]
fn a_request_allocates_nothing_whatever_the_strategy() {
    assert_allocates_nothing("round robin", RoundRobin::new);
    assert_allocates_nothing("shuffle", Shuffle::new);
    assert_allocates_nothing("weighted", Weighted::new);
    assert_allocates_nothing("primary", || Primary);
    assert_allocates_nothing("closure", || pick_fn(|candidates, dice| dice.below(candidates.len())));
}

// C12
#[test]
fn a_request_allocates_nothing_when_the_strategy_is_chosen_at_run_time() {
    assert_allocates_nothing("failover", || named(Strategy::Failover));
    assert_allocates_nothing("round_robin", || named(Strategy::RoundRobin));
    assert_allocates_nothing("shuffle", || named(Strategy::Shuffle));
    assert_allocates_nothing("weighted_round_robin", || named(Strategy::WeightedRoundRobin));
}

// C5, C6: with weights whose period is too long to hold.
#[test]
fn a_request_allocates_nothing_in_a_spread_order() {
    let weights = [1_000_003, 999_983, u32::MAX];
    let backends = (0..).zip(weights).map(|(index, weight)| Backend::new(format!("b{index}"), Unit).weight(weight));
    let fleet = Fleet::builder().backends(backends).build().expect("good backends");
    let mut door = BalanceLayer::weighted().layer(fleet);
    assert_eq!(measure(|| (0..REQUESTS).for_each(|_| request(&mut door))).count_total, 0);
    assert_eq!(measure(|| (0..REQUESTS).for_each(|_| request(&mut door.clone()))).count_total, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u64)))).count_total, 1);
}

//! Breakers, closed, around a service that always succeeds.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use failsafe::{
    Config, FailurePolicy, StateMachine, backoff, failure_policy,
    futures::{CircuitBreaker as _, ResponseFuture},
};
use tower::{Layer, Service};
use tower_fleet::{Backend, BalanceLayer, CircuitBreakerLayer, FailoverLayer, Fleet, outcome::ErrorsOnly};
use tower_resilience_circuitbreaker::CircuitBreakerLayer as Resilience;

use crate::{
    balance::Unit,
    row::{self, Row},
};

const GROUP: &str = "breaker";

pub(crate) fn rows() -> Vec<Row> {
    let ours = || CircuitBreakerLayer::with_classifier(ErrorsOnly);
    let consecutive = ours().consecutive(5).layer(Unit);
    let rate = ours().failure_rate(0.5, Duration::from_secs(60), 100).layer(Unit);
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("a valid policy");
    let policy = failure_policy::consecutive_failures(5, backoff::constant(Duration::from_secs(30)));
    vec![
        Row::kept(GROUP, "floor", "bare service", 1, 1, Unit),
        Row::kept(GROUP, "ours", "breaker, consecutive", 1, 1, consecutive.clone()),
        Row::cloned(GROUP, "ours", "breaker, consecutive", 1, consecutive),
        Row::kept(GROUP, "ours", "breaker, 5 in 60 s", 1, 1, ours().layer(Unit)),
        Row::kept(GROUP, "ours", "breaker, failure rate", 1, 1, rate),
        Row::kept(GROUP, "peer", "tower-resilience, consecutive", 1, 1, resilience.layer(Unit)),
        Row::kept(GROUP, "peer", "failsafe, consecutive", 1, 1, Failsafe(Config::new().failure_policy(policy).build())),
        Row::kept(GROUP, "peer", "failsafe, default", 1, 1, Failsafe(Config::new().build())),
    ]
}

/// The doors over a fleet of three: what breakers around the backends add, and what it costs to be able to go on.
pub(crate) fn fleets() -> Vec<Row> {
    let plain = || ["a", "b", "c"].map(|name| Backend::new(name, Unit));
    let fleet = Fleet::builder().backends(plain()).build().expect("a valid fleet");
    let layer = CircuitBreakerLayer::with_classifier(ErrorsOnly);
    let guarded = Fleet::builder().circuit_breaker(layer).backends(plain()).build().expect("a valid fleet");
    let group = "fleet";
    vec![
        Row::kept(group, "floor", "bare service", 1, 1, Unit),
        Row::kept(group, "ours", "round robin", 3, 1, BalanceLayer::round_robin().layer(fleet.clone())),
        Row::kept(group, "ours", "round robin over breakers", 3, 1, BalanceLayer::round_robin().layer(guarded.clone())),
        Row::kept(group, "ours", "failover", 3, 1, FailoverLayer::plain().layer(fleet)),
        Row::kept(group, "ours", "failover over breakers", 3, 1, FailoverLayer::plain().layer(guarded)),
    ]
}

/// Calls per second of one breaker by one and by two threads, each with a clone of its own.
pub(crate) fn threads() -> (f64, f64) {
    let breaker = CircuitBreakerLayer::with_classifier(ErrorsOnly).consecutive(5).layer(Unit);
    let calls = 3_000_000;
    let by = |threads: u32| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let mut breaker = breaker.clone();
                scope.spawn(move || futures::executor::block_on(row::call(&mut breaker, calls)));
            }
        });
        f64::from(threads) * calls as f64 / start.elapsed().as_secs_f64()
    };
    let best = |threads| (0..5).map(|_| by(threads)).fold(0.0, f64::max);
    (best(1), best(2))
}

/// The breaker of failsafe around the bare service.
struct Failsafe<P>(StateMachine<P, ()>);

impl<P> Clone for Failsafe<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: FailurePolicy + Send + Sync> Service<()> for Failsafe<P> {
    type Response = ();
    type Error = failsafe::Error<std::convert::Infallible>;
    type Future = ResponseFuture<<Unit as Service<()>>::Future, P, (), failsafe::Any>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.call(Unit.call(()))
    }
}

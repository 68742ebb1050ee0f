//! Breakers, closed, around a service that always succeeds.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use failsafe::{
    Config, FailurePolicy, StateMachine, backoff, failure_policy,
    futures::{CircuitBreaker as _, ResponseFuture},
};
use tower::{Layer, Service};
use tower_fleet::{Backend, BalanceLayer, CircuitBreakerLayer, FailoverLayer, Fleet, outcome::ErrorsOnly};
use tower_resilience_circuitbreaker::CircuitBreakerLayer as Resilience;

use crate::{balance::Unit, row::Row};

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
    let group = "fleet";
    vec![
        Row::kept(group, "floor", "bare service", 1, 1, Unit),
        Row::kept(group, "ours", "round robin", 3, 1, BalanceLayer::round_robin().layer(plain())),
        Row::kept(group, "ours", "round robin over breakers", 3, 1, BalanceLayer::round_robin().layer(guarded(false))),
        Row::kept(group, "ours", "failover", 3, 1, FailoverLayer::plain().layer(plain())),
        Row::kept(group, "ours", "failover over breakers", 3, 1, FailoverLayer::plain().layer(guarded(false))),
        Row::kept(group, "ours", "failover over breakers, timeouts", 3, 1, FailoverLayer::plain().layer(guarded(true))),
    ]
}

/// A fleet of three.
pub(crate) fn plain() -> Fleet<Unit, ErrorsOnly> {
    let backends = ["a", "b", "c"].map(|name| Backend::new(name, Unit));
    Fleet::plain().backends(backends).build().expect("a valid fleet")
}

/// The same with circuits, and with a timeout for each backend.
pub(crate) fn guarded(timeouts: bool) -> Fleet<Unit, ErrorsOnly> {
    let backends = ["a", "b", "c"].map(|name| Backend::new(name, Unit));
    let timeout = Duration::from_secs(30);
    let backends = backends.map(|backend| if timeouts { backend.timeout(timeout) } else { backend });
    let layer = CircuitBreakerLayer::with_classifier(ErrorsOnly);
    Fleet::plain().circuit_breaker(layer).backends(backends).build().expect("a valid fleet")
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

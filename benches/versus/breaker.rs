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
use tower_fleet::{
    Backend, BalanceLayer, CircuitBreaker, CircuitBreakerLayer, CircuitPolicy, Failover, FailoverLayer, Fleet,
    breaker::Rate, failover::Plain, outcome::ErrorsOnly,
};
use tower_resilience_circuitbreaker::CircuitBreakerLayer as Resilience;

use crate::{balance::Unit, row::Row};

const GROUP: &str = "breaker";

pub(crate) fn rows() -> Vec<Row> {
    let consecutive = breaker(CircuitPolicy::new().consecutive(5));
    let rate = breaker(CircuitPolicy::new().failure_rate(Rate::new(0.5).minimum_calls(100)));
    let resilience = Resilience::builder().consecutive_failures(5).build().expect("a valid policy");
    let policy = failure_policy::consecutive_failures(5, backoff::constant(Duration::from_secs(30)));
    vec![
        Row::kept(GROUP, "floor", "bare service", 1, 1, Unit),
        Row::kept(GROUP, "ours", "breaker, consecutive", 1, 1, consecutive.clone()),
        Row::cloned(GROUP, "ours", "breaker, consecutive", 1, consecutive),
        Row::kept(GROUP, "ours", "breaker, 5 in 60 s", 1, 1, breaker(CircuitPolicy::new())),
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
        Row::kept(group, "ours", "failover", 3, 1, failover(plain())),
        Row::kept(group, "ours", "failover over breakers", 3, 1, failover(guarded(false))),
        Row::kept(group, "ours", "failover over breakers, timeouts", 3, 1, failover(guarded(true))),
    ]
}

/// A breaker around the bare service.
pub(crate) fn breaker(policy: CircuitPolicy) -> CircuitBreaker<Unit, ErrorsOnly> {
    CircuitBreakerLayer::plain(policy).expect("a valid policy").layer(Unit)
}

/// A failover without timers but those of the backends.
pub(crate) fn failover(fleet: Fleet<Unit, ErrorsOnly>) -> Failover<Unit, Plain, ErrorsOnly> {
    FailoverLayer::plain().timeout(None).build().expect("a valid layer").layer(fleet)
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
    Fleet::plain().circuit_breaker(CircuitPolicy::new()).backends(backends).build().expect("a valid fleet")
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

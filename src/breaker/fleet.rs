//! Breakers around the backends of a fleet.

use std::sync::Arc;

use super::{CircuitBreaker, CircuitBreakerLayer, Switch, core::Core, service::Mode};
use crate::{
    attempt::Limited,
    fleet::{Entrance, Fleet, FleetBuilder, Newcomer},
};

impl<S: Send + Sync + 'static, R: 'static> FleetBuilder<S, R> {
    /// Gives each backend, those that are inserted later too, a circuit of its own. A backend whose circuit is open is
    /// not in the view, so that no door picks it; when its time is up a request probes it.
    ///
    /// The breaker keeps the backend's timeout, to count it as a failure. [`CircuitBreakerLayer::waiting`] and
    /// [`CircuitBreakerLayer::name`] mean nothing here.
    pub fn circuit_breaker<C>(self, layer: CircuitBreakerLayer<C>) -> FleetBuilder<CircuitBreaker<Limited<S>, C>, R>
    where
        C: Clone + Send + Sync + 'static,
    {
        let policy = layer.policy();
        self.policy(policy).through(|inner| Arc::new(Guarded { inner, layer }))
    }
}

impl<S: Send + Sync + 'static, C: Send + Sync + 'static, R> Fleet<CircuitBreaker<S, C>, R> {
    /// The handle of a backend's circuit. None when there is no such backend.
    pub fn switch(&self, name: &str) -> Option<Switch> {
        self.shared().with_service(name, CircuitBreaker::switch)
    }
}

struct Guarded<R, S, C> {
    inner: Arc<dyn Entrance<R, S>>,
    layer: CircuitBreakerLayer<C>,
}

impl<R, S, C: Clone + Send + Sync> Entrance<R, CircuitBreaker<Limited<S>, C>> for Guarded<R, S, C> {
    fn enter(&self, backend: Newcomer<R>) -> CircuitBreaker<Limited<S>, C> {
        let Newcomer { name, timeout, health, clock, fleet, .. } = &backend;
        let core = Core::new(name.clone(), Arc::clone(health), *clock, Some(fleet.clone()));
        let (name, timeout, post) = (name.clone(), *timeout, self.layer.post(Arc::new(core)));
        let limited = Limited::new(self.inner.enter(backend), name, timeout);
        CircuitBreaker::new(limited, post, Mode::Refuse, None)
    }

    fn keeps_time(&self) -> bool {
        true
    }
}

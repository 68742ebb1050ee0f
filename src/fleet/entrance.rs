use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tower_layer::Layer;

use super::BackendName;
use crate::{
    health::{Health, Transition},
    time::Clock,
};

/// How a service that is given to a fleet becomes the one that serves: what a fleet puts around each of its backends,
/// the later ones too.
pub(crate) trait Entrance<R, S>: Send + Sync {
    fn enter(&self, backend: Newcomer<R>) -> S;

    /// Does the service keep its backend's timeout itself? Then nobody else has to.
    fn keeps_time(&self) -> bool {
        false
    }
}

/// A backend on its way in.
pub(crate) struct Newcomer<R> {
    pub(crate) service: R,
    pub(crate) name: BackendName,
    pub(crate) timeout: Option<Duration>,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Clock,
    pub(crate) fleet: Weak<dyn Overseer>,
}

/// The fleet, as a circuit of one of its backends sees it.
pub(crate) trait Overseer: Send + Sync {
    /// Another view may be due.
    fn circuit_moved(&self, backend: &BackendName, health: &Health, transition: Transition);

    /// An open circuit may admit somebody earlier than it said.
    fn permit_returned(&self);
}

/// The service as it is given.
pub(super) struct Bare;

impl<S> Entrance<S, S> for Bare {
    fn enter(&self, backend: Newcomer<S>) -> S {
        backend.service
    }
}

/// A layer around what another entrance makes.
pub(super) struct Layered<R, S, L> {
    pub(super) inner: Arc<dyn Entrance<R, S>>,
    pub(super) layer: L,
}

impl<R, S, L> Entrance<R, L::Service> for Layered<R, S, L>
where
    L: Layer<S> + Send + Sync,
{
    fn enter(&self, backend: Newcomer<R>) -> L::Service {
        self.layer.layer(self.inner.enter(backend))
    }

    fn keeps_time(&self) -> bool {
        self.inner.keeps_time()
    }
}

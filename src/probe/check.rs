//! What a probe does.

use tower::BoxError;

use super::error::ProbeError;
use crate::name::BackendName;

/// Checks one backend, once.
///
/// An implementation sends a request with the service and tells whether the backend is well. The service is a clone of
/// the backend's own, without a circuit or a timeout around it, and it starts unready: poll it ready before the call, on
/// the very instance that is called.
///
/// The future is dropped after the [timeout](super::Probes::timeout), or when the backend is removed. It runs in the task
/// of all probes, so it must not block.
///
/// For a closure see [`probe_fn`].
pub trait Probe<S>: Send + Sync + 'static {
    /// Checks a backend.
    fn probe(&self, backend: &BackendName, service: S) -> impl Future<Output = Result<(), ProbeError>> + Send;
}

/// Makes a probe of a closure, which gets the name and the service of a backend.
///
/// ```
/// # use std::net::SocketAddr;
/// use tower::{Service, ServiceExt};
/// use tower_fleet::{fleet::BackendName, probe::{Probes, probe_fn}};
///
/// # #[derive(Clone)] struct Ping;
/// # fn check<S: Service<Ping, Error: Into<tower::BoxError> + Send, Future: Send> + Clone + Send + Sync + 'static>() {
/// let probe = probe_fn(|_: BackendName, service: S| async move { service.oneshot(Ping).await.map(drop) });
/// let probes = Probes::new(probe);
/// # }
/// ```
pub fn probe_fn<F>(probe: F) -> ProbeFn<F> {
    ProbeFn(probe)
}

/// A probe made of a closure, from [`probe_fn`].
#[derive(Clone, Copy)]
pub struct ProbeFn<F>(F);

impl<S, F, T, E> Probe<S> for ProbeFn<F>
where
    F: Fn(BackendName, S) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    fn probe(&self, backend: &BackendName, service: S) -> impl Future<Output = Result<(), ProbeError>> + Send {
        let probe = (self.0)(backend.clone(), service);
        async move { probe.await.map_err(ProbeError::new) }
    }
}

impl<F> std::fmt::Debug for ProbeFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeFn").finish_non_exhaustive()
    }
}

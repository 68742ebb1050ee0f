//! Whether this replica may probe a backend that is out.

use futures::future::{BoxFuture, FutureExt};

use crate::name::BackendName;

/// Decides whether this process may probe a backend that is out, before each such probe.
///
/// For replicas that share what they learn, so that not each of two hundred probes the same broken backend:
/// [`Permits`](crate::replicas::Permits) are a gate. Without one, every probe is sent.
///
/// It is called for backends with an open circuit, and for those that a replica reports; not for a backend that failing
/// probes of this process keep out, since only further ones tell how it is.
///
/// If the answer is no, it is called again after an interval. A gate that does not answer within the
/// [timeout](super::Probes::timeout), or panics, admits the probe: without the others, a replica decides alone.
pub trait Gate: Send + Sync + 'static {
    /// Returns whether this process may probe a backend now: no other one does.
    fn may_probe(&self, backend: &BackendName) -> impl Future<Output = bool> + Send;
}

impl<G: Gate> Gate for std::sync::Arc<G> {
    fn may_probe(&self, backend: &BackendName) -> impl Future<Output = bool> + Send {
        (**self).may_probe(backend)
    }
}

/// Makes a gate of a closure.
///
/// ```
/// use tower_fleet::probe::gate_fn;
///
/// // The first replica probes; the others learn of it.
/// # let is_first_replica = true;
/// let gate = gate_fn(move |_backend| async move { is_first_replica });
/// # fn check(_: impl tower_fleet::probe::Gate) {}
/// # check(gate);
/// ```
pub fn gate_fn<F, T>(gate: F) -> impl Gate
where
    F: Fn(BackendName) -> T + Send + Sync + 'static,
    T: Future<Output = bool> + Send,
{
    GateFn(gate)
}

struct GateFn<F>(F);

impl<F, T> Gate for GateFn<F>
where
    F: Fn(BackendName) -> T + Send + Sync + 'static,
    T: Future<Output = bool> + Send,
{
    fn may_probe(&self, backend: &BackendName) -> impl Future<Output = bool> + Send {
        (self.0)(backend.clone())
    }
}

/// A gate of any type.
pub(super) trait AnyGate: Send + Sync {
    fn ask<'a>(&'a self, backend: &'a BackendName) -> BoxFuture<'a, bool>;
}

impl<G: Gate> AnyGate for G {
    fn ask<'a>(&'a self, backend: &'a BackendName) -> BoxFuture<'a, bool> {
        self.may_probe(backend).boxed()
    }
}

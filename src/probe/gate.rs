//! Whether this replica may probe a backend that is out.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};

use crate::name::BackendName;

/// Decides whether this process may probe a backend that is out, before each such probe.
///
/// For replicas that share what they learn, so that not each of two hundred probes the same broken backend. Without a gate
/// every probe is sent.
///
/// A gate that does not answer within the [timeout](super::Probes::timeout), or panics, admits the probe: without the
/// others, a replica decides alone.
pub trait Gate: Send + Sync + 'static {
    /// Admits a probe.
    ///
    /// # Errors
    ///
    /// Another replica probes the backend: ask again after this time. It counts from one millisecond to ten intervals of
    /// the probes.
    fn admit(&self, backend: &BackendName) -> impl Future<Output = Result<(), Duration>> + Send;
}

impl<G: Gate> Gate for std::sync::Arc<G> {
    fn admit(&self, backend: &BackendName) -> impl Future<Output = Result<(), Duration>> + Send {
        (**self).admit(backend)
    }
}

/// Makes a gate of a closure.
///
/// ```
/// use std::time::Duration;
/// use tower_fleet::probe::gate_fn;
///
/// // The first replica probes, the others look again later.
/// # let is_first_replica = true;
/// let gate = gate_fn(move |_backend| async move {
///     if is_first_replica { Ok(()) } else { Err(Duration::from_secs(5)) }
/// });
/// # fn check(_: impl tower_fleet::probe::Gate) {}
/// # check(gate);
/// ```
pub fn gate_fn<F, T>(gate: F) -> impl Gate
where
    F: Fn(BackendName) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Duration>> + Send,
{
    GateFn(gate)
}

struct GateFn<F>(F);

impl<F, T> Gate for GateFn<F>
where
    F: Fn(BackendName) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Duration>> + Send,
{
    fn admit(&self, backend: &BackendName) -> impl Future<Output = Result<(), Duration>> + Send {
        (self.0)(backend.clone())
    }
}

/// A gate of any type.
pub(super) trait AnyGate: Send + Sync {
    fn ask<'a>(&'a self, backend: &'a BackendName) -> BoxFuture<'a, Result<(), Duration>>;
}

impl<G: Gate> AnyGate for G {
    fn ask<'a>(&'a self, backend: &'a BackendName) -> BoxFuture<'a, Result<(), Duration>> {
        self.admit(backend).boxed()
    }
}

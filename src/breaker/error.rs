//! The error of a rejected call.

use std::{error::Error, fmt, time::Duration};

use crate::{
    name::BackendName,
    outcome::{Failure, FailureKind},
};

/// The error of a call that was rejected because its circuit is open. The service was not called.
///
/// An outer [`Failover`](crate::Failover) or breaker sees it as
/// [`FailureKind::Overloaded`]: the request may be sent again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// # use tower_fleet::{CircuitBreakerLayer, CircuitPolicy};
/// use tower_fleet::breaker::CircuitOpen;
///
/// # let client = service_fn(|_: u32| async { Ok::<_, std::io::Error>(()) });
/// let guarded = ServiceBuilder::new().layer(CircuitBreakerLayer::plain(CircuitPolicy::new())?).service(client);
/// guarded.switch().trip();
///
/// let error = guarded.oneshot(1).await.unwrap_err();
/// let open = error.downcast_ref::<CircuitOpen>().expect("the call was rejected");
/// assert!(open.retry_after.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitOpen {
    /// The name of the service, or of the key, whose circuit is open.
    pub backend: BackendName,
    /// The time until a call may be admitted. `None` if the circuit was forced open, so that an operator must close it.
    pub retry_after: Option<Duration>,
    /// What an outer classifier finds in the source chain.
    failure: Failure,
}

impl CircuitOpen {
    pub(super) fn new(backend: BackendName, retry_after: Option<Duration>) -> Self {
        Self { backend, retry_after, failure: Failure::new(FailureKind::Overloaded).pushback(retry_after) }
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit of `{}` is open", self.backend)?;
        self.retry_after.map_or(Ok(()), |wait| write!(f, ", next attempt in {wait:.1?}"))
    }
}

impl Error for CircuitOpen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.failure)
    }
}

//! Traits for the bounds of the doors. Their names and notes appear in compile errors.

use tower::BoxError;
use tower_service::Service;

use super::handle::Fleet;

/// A service that can be a backend for requests of type `Req`: a [`Service`] that is `Clone + Send + Sync + 'static`,
/// with an error that converts into a [`BoxError`].
///
/// Implemented for every such service; there is nothing to implement by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a backend for requests of type `{Req}`",
    label = "the backends of this fleet do not take these requests",
    note = "a backend is a `tower::Service` of the request that is `Clone + Send + Sync + 'static`, and its error converts into a `BoxError`",
    note = "behind a `Failover` over HTTP, the client of a backend takes requests with a `ReplayBody<B>` where the caller sends a `B`",
    note = "for a client of another type see `tower::util::BoxCloneSyncService`; see also `guide::compile_errors`"
)]
pub trait BackendService<Req>:
    Service<Req, Response = Self::Reply, Error: Into<BoxError>> + Clone + Send + Sync + 'static
{
    /// The response of the service. Has another name than [`Service::Response`], so that a compile error names this
    /// trait and not [`Service`].
    type Reply;
}

#[diagnostic::do_not_recommend]
impl<S, Req> BackendService<Req> for S
where
    S: Service<Req, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
{
    type Reply = S::Response;
}

/// A [`Fleet`]: the bound of the layers of doors.
///
/// Implemented for [`Fleet`] only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Fleet`",
    label = "expected a `Fleet`",
    note = "`BalanceLayer` and `FailoverLayer` go directly on a `Fleet`, with no layer between them",
    note = "put a layer for each attempt around the service of a backend, with `Backend::layer`; put a layer for the whole request around the door, before its layer in a `ServiceBuilder`"
)]
pub trait IsFleet: sealed::Sealed {
    /// The service of its backends.
    type Service: Send + Sync + 'static;
    /// The classifier, which decides whether a call failed.
    type Classifier: Clone + Send + Sync + 'static;

    /// Returns the fleet itself.
    fn as_fleet(&self) -> &Fleet<Self::Service, Self::Classifier>;
}

impl<S, C> IsFleet for Fleet<S, C>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    type Service = S;
    type Classifier = C;

    fn as_fleet(&self) -> &Self {
        self
    }
}

mod sealed {
    pub trait Sealed {}

    impl<S, C> Sealed for crate::fleet::Fleet<S, C> {}
}

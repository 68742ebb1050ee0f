//! The failover as a service.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Commit, Error, Http, ResponseFuture, settings::Policy};
use crate::{
    attempt::{Door, Oneshot, Sends},
    body::Replay,
    fleet::{BackendService, Fleet},
    outcome::{Classify, HttpClassifier},
    pick::AnyStrategy,
};

/// Sends each request to one backend, and to further backends when that attempt fails. See [the module](super).
///
/// Made by a [`FailoverLayer`](super::FailoverLayer). A clone is cheap: it shares the fleet, the strategy and the
/// budget, and finds a ready backend for itself.
pub struct Failover<S, H = Http, C = HttpClassifier> {
    door: Door<S, C, AnyStrategy, Policy<H>>,
}

impl<S, H, C> Failover<S, H, C>
where
    S: Send + Sync + 'static,
    H: Clone,
    C: Clone + Send + Sync + 'static,
{
    pub(super) fn new(fleet: &Fleet<S, C>, strategy: AnyStrategy, policy: Policy<H>) -> Self {
        Self { door: Door::new(fleet.shared(), strategy, policy) }
    }
}

impl<S, H, C> Failover<S, H, C> {
    /// Sends one request, as [`ServiceExt::oneshot`](tower::ServiceExt::oneshot) does. If the types do not fit
    /// together, the compiler names the one at fault.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if no backend is available, if every attempt failed, or if a backend returned an error that
    /// fires no trigger.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels all attempts of the request.
    // The return type is named, and made of parameters in place of projections: else an `async` block with this future
    // would not be `Send` over bodies with a `BoxError`, and a wrong client would be reported as a missing method.
    #[expect(clippy::type_complexity, reason = "each part is named once")]
    pub fn oneshot<Req, F, N, K>(
        self,
        request: Req,
    ) -> Oneshot<Self, Req, ResponseFuture<S, H, C, Req, H::Request, F, N, K>>
    where
        H: Replay<Req> + Commit<C::Watched, Peek = K>,
        S: BackendService<H::Request, Future = F>,
        C: Classify<H::Request, S::Reply, Call = N>,
    {
        Oneshot::new(self, request)
    }
}

impl<S, H, C, Req> Service<Req> for Failover<S, H, C>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    type Response = <H as Commit<C::Watched>>::Response;
    type Error = Error;
    type Future = ResponseFuture<S, H, C, Req>;

    /// Pending while every backend that may get the first attempt is pending, but not for longer than
    /// [`ready_within`](super::FailoverBuilder::ready_within). Always ready with a strategy that needs the key of the
    /// request, such as [`Hash`](crate::pick::Hash). Never an error: if no backend is eligible, the future of
    /// `call` returns the error.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let door = &mut self.door;
        let within = door.current().extra.settings.ready_within();
        match catch_unwind(AssertUnwindSafe(|| door.poll_ready::<H::Request>(cx, within, Sends::Again))) {
            Ok(poll) => poll.map(Ok),
            // After a panic, the response future searches among the other backends.
            Err(_) => {
                door.stop();
                Poll::Ready(Ok(()))
            }
        }
    }

    #[inline]
    fn call(&mut self, request: Req) -> ResponseFuture<S, H, C, Req> {
        match self.door.take() {
            // If the instance is not eligible any more, the response future finds another one.
            Ok(ready) => ResponseFuture::begin(self.door.search(), Some(ready), request),
            Err(search) => ResponseFuture::begin(search, None, request),
        }
    }
}

/// A clone starts unready.
impl<S, H, C> Clone for Failover<S, H, C>
where
    S: Send + Sync + 'static,
    H: Clone,
    C: Clone + Send + Sync + 'static,
{
    #[inline]
    fn clone(&self) -> Self {
        Self { door: self.door.clone() }
    }
}

impl<S, H, C> fmt::Debug for Failover<S, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.door).finish()
    }
}

//! The balancer itself: finds a ready backend in `poll_ready` and calls it.

use std::{
    fmt,
    task::{Context, Poll},
};

use tower::BoxError;
use tower_service::Service;

use super::{Error, ResponseFuture};
use crate::{
    attempt::{Door, Oneshot, Ready, ReadySearch, Sends},
    fleet::{BackendService, Fleet},
    outcome::{Classify, HttpClassifier},
    pick::{RoundRobin, Strategy},
};

/// A [`Service`] that sends each request to one backend of a fleet. See [the module](super).
///
/// Clones share the fleet and the rotation, and each finds a ready backend of its own. The response is what the fleet's
/// classifier makes of it: over HTTP, its body is watched to its end.
///
/// `poll_ready` is pending while every eligible backend is; with a strategy that needs the key of the request, such as
/// [`Hash`](crate::pick::Hash), it is always ready, and the response future waits. It never fails: without an eligible
/// backend, `call` returns the error, since an error of `poll_ready` would end a `tower::buffer::Buffer` for good.
pub struct Balance<S, P: Strategy = RoundRobin, C = HttpClassifier> {
    door: Door<S, C, P, ()>,
}

impl<S, P, C> Balance<S, P, C>
where
    S: Send + Sync + 'static,
    P: Strategy,
    C: Clone + Send + Sync + 'static,
{
    /// Creates a balancer that selects among the backends of `fleet` with this strategy.
    pub fn new(fleet: &Fleet<S, C>, strategy: P) -> Self {
        Self { door: Door::new(fleet.shared(), strategy, ()) }
    }
}

impl<S, P: Strategy, C> Balance<S, P, C> {
    /// Sends one request: as [`ServiceExt::oneshot`](tower::ServiceExt::oneshot), with clearer compile errors.
    ///
    /// # Errors
    ///
    /// Returns an error if no backend is eligible, or if the call fails. See [`ErrorKind`](super::ErrorKind).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request.
    // The return type is named, and made of parameters in place of projections: else an `async` block with this future
    // would not be `Send` over bodies with a `BoxError`, and a wrong client would be reported as a missing method.
    pub fn oneshot<Req, F, N>(self, request: Req) -> Oneshot<Self, Req, ResponseFuture<S, P, C, Req, F, N>>
    where
        S: BackendService<Req, Future = F>,
        C: Classify<Req, S::Reply, Call = N>,
    {
        Oneshot::new(self, request)
    }
}

impl<S, P, C, Req> Service<Req> for Balance<S, P, C>
where
    S: BackendService<Req>,
    P: Strategy,
    C: Classify<Req, S::Reply>,
{
    type Response = C::Watched;
    type Error = Error;
    type Future = ResponseFuture<S, P, C, Req>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.door.poll_ready::<Req>(cx, None, Sends::Once).map(Ok)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> ResponseFuture<S, P, C, Req> {
        match self.door.take() {
            Ok(ready) => match ready.pass() {
                Some(pass) => ResponseFuture::calling(ready.call(pass, request)),
                None => self.admit(ready, request),
            },
            Err(search) => self.search(search, request),
        }
    }
}

impl<S, P, C> Balance<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Strategy,
    C: Clone + Send + Sync + 'static,
{
    /// Sends a request for which there is no instance yet. Calls at once if its key leads to a backend that is ready.
    #[inline(never)]
    fn search<Req>(&self, mut search: ReadySearch<S, C, P, ()>, request: Req) -> ResponseFuture<S, P, C, Req>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
        C: Classify<Req, S::Response>,
    {
        if search.read_key::<Req, S::Response>(&request)
            && let Some(mut ready) = search.poll_once::<Req>(Sends::Once)
            && let Some(pass) = ready.admit(|| self.door.current().core.clock.now())
        {
            return ResponseFuture::calling(ready.call(pass, request));
        }
        ResponseFuture::searching(search, request)
    }

    /// Calls the backend if its circuit admits the request. The path for a circuit that does not serve, or times its
    /// calls.
    #[cold]
    fn admit<Req>(&self, mut ready: Ready<S, C>, request: Req) -> ResponseFuture<S, P, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        match ready.admit(|| self.door.current().core.clock.now()) {
            Some(pass) => ResponseFuture::calling(ready.call(pass, request)),
            // The backend is no longer eligible: searches again, within the response future.
            None => {
                let mut search = self.door.search();
                search.keep_turn(ready.take_turn());
                ResponseFuture::searching(search, request)
            }
        }
    }
}

/// A clone starts unready.
impl<S, P, C> Clone for Balance<S, P, C>
where
    S: Send + Sync + 'static,
    P: Strategy,
    C: Clone + Send + Sync + 'static,
{
    #[inline(always)]
    fn clone(&self) -> Self {
        Self { door: self.door.clone() }
    }
}

impl<S, P: Strategy, C> fmt::Debug for Balance<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Balance").field(&self.door).finish()
    }
}

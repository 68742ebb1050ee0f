use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll, ready},
};

use tower::BoxError;
use tower_service::Service;

use super::{Commit, Error, Http, ResponseFuture, settings::Run};
use crate::{
    attempt::{Door, Ready},
    body::Replay,
    fleet::Fleet,
    outcome::{Classify, HttpClassifier},
    pick::AnyStrategy,
};

/// Sends each request to one backend, and to others when that one trips. See [the module](super).
///
/// A clone shares the fleet, the strategy and the budget, and looks for a ready backend of its own.
pub struct Failover<S, H = Http, C = HttpClassifier> {
    door: Door<S, C, AnyStrategy, Run<H>>,
    held: Option<Ready<S, C>>,
}

impl<S, H, C> Failover<S, H, C>
where
    S: Send + Sync + 'static,
    H: Clone,
    C: Clone + Send + Sync + 'static,
{
    pub(super) fn new(fleet: &Fleet<S, C>, strategy: AnyStrategy, run: Run<H>) -> Self {
        Self { door: Door::new(fleet.shared(), strategy, run), held: None }
    }
}

impl<S, H, C, Req> Service<Req> for Failover<S, H, C>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    type Response = <H as Commit<C::Watched>>::Response;
    type Error = Error;
    type Future = ResponseFuture<S, H, C, Req>;

    /// Pending while every backend is that may be the first. Never an error: with no eligible backend it is `call` that
    /// fails.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.held.as_ref().is_some_and(Ready::is_valid) {
            self.held = None;
            let search = &mut self.door.search;
            // A backend that panics here is out of the question: the future asks the others, with the request in hand.
            let Ok(found) = catch_unwind(AssertUnwindSafe(|| search.poll::<H::Request>(cx))) else {
                search.stop();
                return Poll::Ready(Ok(()));
            };
            self.held = ready!(found).ok();
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> ResponseFuture<S, H, C, Req> {
        // One that has left since is not called: the future looks for another, with the request in hand.
        ResponseFuture::begin(&self.door.search, self.held.take(), request)
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
        Self { door: self.door.clone(), held: None }
    }
}

impl<S, H, C> fmt::Debug for Failover<S, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.door).finish()
    }
}

use std::{
    fmt,
    task::{Context, Poll, ready},
};

use tower::BoxError;
use tower_service::Service;

use super::{Error, ResponseFuture};
use crate::{
    attempt::{Door, Ready},
    fleet::Fleet,
    outcome::{Classify, HttpClassifier},
    pick::{RoundRobin, Strategy},
};

/// Sends each request to one backend of a fleet. See [the module](super).
///
/// A clone shares the fleet and the rotation, and looks for a ready backend of its own. The response is what the fleet's
/// classifier makes of it: over HTTP its body is watched to its end.
pub struct Balance<S, P: Strategy = RoundRobin, C = HttpClassifier> {
    door: Door<S, C, P, ()>,
    held: Option<Ready<S, C>>,
}

impl<S, P, C> Balance<S, P, C>
where
    S: Send + Sync + 'static,
    P: Strategy,
    C: Clone + Send + Sync + 'static,
{
    /// Chooses among the backends of `fleet` as the strategy says.
    pub fn new(fleet: &Fleet<S, C>, strategy: P) -> Self {
        Self { door: Door::new(fleet.shared(), strategy, ()), held: None }
    }
}

impl<S, P, C, Req> Service<Req> for Balance<S, P, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    P: Strategy,
    C: Classify<Req, S::Response>,
{
    type Response = C::Watched;
    type Error = Error;
    type Future = ResponseFuture<S, P, C, Req>;

    /// Pending while every eligible backend is. Never an error: with no eligible backend it is `call` that fails, since
    /// an error here would end a `Buffer` for good.
    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.held.as_ref().is_some_and(Ready::is_valid) {
            self.held = None;
            self.held = ready!(self.door.search.poll::<Req>(cx)).ok();
        }
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> ResponseFuture<S, P, C, Req> {
        let Some(ready) = self.held.take() else { return self.search(request) };
        match ready.pass() {
            Some(ticket) => ResponseFuture::calling(ready.call(ticket, request)),
            None => self.admit(ready, request),
        }
    }
}

impl<S, P, C> Balance<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Strategy,
    C: Clone + Send + Sync + 'static,
{
    /// Calls a backend whose circuit is open or timed, if it admits the request.
    #[cold]
    fn admit<Req>(&self, ready: Ready<S, C>, request: Req) -> ResponseFuture<S, P, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        match ready.admit(|| self.door.search.local().core.clock.now()) {
            Some(ticket) => ResponseFuture::calling(ready.call(ticket, request)),
            // It has left since: look once more, now with the request.
            None => self.search(request),
        }
    }

    #[cold]
    fn search<Req>(&self, request: Req) -> ResponseFuture<S, P, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        ResponseFuture::searching(self.door.clone(), request)
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
        Self { door: self.door.clone(), held: None }
    }
}

impl<S, P: Strategy, C> fmt::Debug for Balance<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Balance").field(&self.door).finish()
    }
}

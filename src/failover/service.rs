use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Error, ResponseFuture,
    layer::{Run, Settings},
};
use crate::{
    attempt::{Held, Seek},
    body::Replay,
    fleet::Fleet,
    pick::{Desk, Pick},
};

/// Sends each request to one backend, and to others when that one trips. See [the module](super).
///
/// A clone shares the fleet, the strategy and the budget, and looks for a ready backend of its own.
pub struct Failover<S, H, P> {
    seek: Seek<S, P>,
    held: Option<Held<S>>,
    run: Arc<Run<S, H>>,
}

impl<S: Send + Sync + 'static, H, P: Pick> Failover<S, H, P> {
    pub(super) fn new<R>(fleet: &Fleet<S, R>, terms: H, pick: P, settings: Settings) -> Self {
        let desk = Desk::open(fleet.shared(), pick);
        let (source, refused) = (Arc::clone(&desk), settings.check().err());
        Self { seek: Seek::new(desk), held: None, run: Arc::new(Run { terms, settings, source, refused }) }
    }
}

impl<S, H, P, Req> Service<Req> for Failover<S, H, P>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
    P: Pick,
{
    type Response = <H as Accept<S::Response>>::Response;
    type Error = Error;
    type Future = ResponseFuture<S, H, Req>;

    /// Pending while every backend is that may be the first. Never an error: with nobody eligible it is `call` that
    /// says so.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.held.as_ref().is_some_and(|held| self.seek.confirms(held)) {
            self.held = None;
            // A backend that panics here cannot be had: the future asks the others, with the request in hand.
            let Ok(found) = catch_unwind(AssertUnwindSafe(|| self.seek.poll(cx))) else {
                self.seek = self.seek.clone();
                return Poll::Ready(Ok(()));
            };
            self.held = ready!(found).ok();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ResponseFuture<S, H, Req> {
        // One that has left since is not called: the future looks for another, with the request in hand.
        let held = self.held.take().filter(|held| self.seek.confirms(held));
        ResponseFuture::begin(Arc::clone(&self.run), held, request)
    }
}

/// A clone starts unready.
impl<S, H, P> Clone for Failover<S, H, P> {
    fn clone(&self) -> Self {
        Self { seek: self.seek.clone(), held: None, run: Arc::clone(&self.run) }
    }
}

impl<S: Send + Sync + 'static, H, P> fmt::Debug for Failover<S, H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failover").field("fleet", self.seek.fleet()).finish_non_exhaustive()
    }
}

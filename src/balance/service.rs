use std::{
    fmt,
    task::{Context, Poll, ready},
};

use tower::BoxError;
use tower_service::Service;

use super::{Error, ResponseFuture};
use crate::{
    attempt::{Held, Seek},
    fleet::Fleet,
    pick::{Desk, Pick},
};

/// Sends each request to one backend of a fleet. See [the module](super).
///
/// A clone shares the fleet and the rotation, and looks for a ready backend of its own.
pub struct Balance<S, P> {
    seek: Seek<S, P>,
    held: Option<Held<S>>,
}

impl<S: Send + Sync + 'static, P: Pick> Balance<S, P> {
    /// Chooses among the backends of `fleet` as `pick` says.
    pub fn new<R>(fleet: &Fleet<S, R>, pick: P) -> Self {
        Self { seek: Seek::new(Desk::open(fleet.shared(), pick)), held: None }
    }
}

impl<S, P> Balance<S, P> {
    /// Apart, so that the future is put together in one place, and never passes through memory on the usual way.
    #[cold]
    #[inline(never)]
    fn look_again(&self) -> Seek<S, P> {
        self.seek.clone()
    }
}

impl<S, P, Req> Service<Req> for Balance<S, P>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    P: Pick,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S, P, Req>;

    /// Pending while every eligible backend is. Never an error: with nobody eligible it is `call` that says so, since
    /// an error here would end a `Buffer` for good.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.held.as_ref().is_some_and(|held| self.seek.confirms(held)) {
            // What it held goes first: a permit may be all that the next one waits for.
            self.held = None;
            self.held = ready!(self.seek.poll(cx)).ok();
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> ResponseFuture<S, P, Req> {
        match self.held.take() {
            Some(held) if self.seek.confirms(&held) => ResponseFuture::calling(held.call(request)),
            // Nobody was eligible, or the one that was held has left since: look once more, now with the request.
            _ => ResponseFuture::seeking(self.look_again(), request),
        }
    }
}

/// A clone starts unready.
impl<S, P> Clone for Balance<S, P> {
    fn clone(&self) -> Self {
        Self { seek: self.seek.clone(), held: None }
    }
}

impl<S: Send + Sync + 'static, P> fmt::Debug for Balance<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("fleet", self.seek.fleet()).finish_non_exhaustive()
    }
}

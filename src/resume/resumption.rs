//! The course of one body: what was passed on, and the request that goes on when it breaks off.

use std::{
    any::Any,
    fmt,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Request, Response, response};
use http_body::Body;
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::{Follow, NotResumed, RequestBody, Resume, kept::Kept};
use crate::{
    failover::{self, Ledger},
    telemetry,
};

/// What a response body needs to be resumed. An object, so that the type of a body names neither the service nor the
/// requests.
pub(super) trait Source<D: Body>: Send {
    /// Takes the next data. Returns what is passed on, or the error that ends the body.
    fn pass(&mut self, data: Bytes) -> Result<Bytes, D::Error>;

    /// Takes the end of the body, in the same way.
    fn end(&mut self) -> Result<Bytes, D::Error>;

    /// Begins to resume the body after this error. Returns an error if it cannot be resumed.
    fn broke_off(&mut self, error: D::Error) -> Result<(), D::Error>;

    /// Ready with the body that goes on, or with the error that the first one broke off with.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<D, D::Error>>;

    /// The record of all attempts so far, if the inner service keeps one.
    fn ledger(&self) -> Option<&Ledger>;
}

/// The state of a body that is followed.
pub(super) struct Resumption<S, R: Resume, B, D: Body> {
    kept: Kept<S, R, B>,
    followed: R::Followed,
    ledger: Option<Ledger>,
    /// How many bytes were passed on.
    passed: u64,
    /// How many of them when the body broke off last.
    broken_at: u64,
    resumptions: u32,
    /// The error with which the body broke off last.
    error: Option<D::Error>,
    /// The request that goes on; the ledger of its error, if it fails.
    rest: Option<BoxFuture<'static, Result<Response<D>, Option<Ledger>>>>,
}

impl<S, R: Resume, B, D: Body> Resumption<S, R, B, D> {
    pub(super) fn new(kept: Kept<S, R, B>, followed: R::Followed, head: &response::Parts) -> Self {
        let ledger = head.extensions.get().cloned();
        let (passed, broken_at, resumptions, error, rest) = (0, 0, 0, None, None);
        Self { kept, followed, ledger, passed, broken_at, resumptions, error, rest }
    }

    /// Passes data on, if the joined body is the right one so far.
    fn checked(&mut self, data: Bytes) -> Result<Bytes, D::Error> {
        if let Some(error) = self.error.take() {
            if let Err(why) = self.followed.check() {
                return Err(self.fail(why, error));
            }
            self.error = Some(error);
        }
        self.passed = self.passed.saturating_add(data.len() as u64);
        Ok(data)
    }

    fn shown(&self) -> Option<&dyn fmt::Display> {
        self.ledger.as_ref().map(|ledger| -> &dyn fmt::Display { ledger })
    }

    /// Records that the body is not resumed, and returns the error that ends it.
    fn fail(&mut self, why: NotResumed, error: D::Error) -> D::Error {
        if let Some(ledger) = &mut self.ledger {
            ledger.not_joined(why.0);
        }
        telemetry::body_not_resumed(self.passed, why.0, self.shown());
        error
    }
}

impl<S, R, B, D> Source<D> for Resumption<S, R, B, D>
where
    S: Service<Request<RequestBody<B>>, Response = Response<D>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Resume,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    D: Body + Send + 'static,
    D::Error: Send,
{
    fn pass(&mut self, data: Bytes) -> Result<Bytes, D::Error> {
        let data = self.followed.pass(data);
        self.checked(data)
    }

    fn end(&mut self) -> Result<Bytes, D::Error> {
        let data = self.followed.end();
        self.checked(data)
    }

    fn broke_off(&mut self, error: D::Error) -> Result<(), D::Error> {
        let is_progress = self.passed > self.broken_at || self.resumptions == 0;
        if let Some(ledger) = &mut self.ledger {
            ledger.cut(self.passed);
        }
        // Without progress, the error before is the one that the caller would have had without the resumption.
        let error = self.error.take().filter(|_| !is_progress).unwrap_or(error);
        let next = if !is_progress {
            Err(NotResumed("the rest broke off before it made progress"))
        } else if self.resumptions >= self.kept.most {
            Err(NotResumed("it was resumed as often as is allowed"))
        } else {
            self.kept.again(&mut self.followed, self.ledger.as_ref(), self.passed)
        };
        let request = match next {
            Ok(request) => request,
            Err(why) => {
                telemetry::body_not_resumed(self.passed, why.0, self.shown());
                return Err(error);
            }
        };
        let response = self.kept.service.clone().oneshot(request);
        self.rest = Some(response.map_err(|error| ledger_of(&error)).boxed());
        (self.resumptions, self.broken_at, self.error) = (self.resumptions + 1, self.passed, Some(error));
        Ok(())
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<D, D::Error>> {
        let Some(rest) = &mut self.rest else { return Poll::Pending };
        let result = ready!(rest.poll_unpin(cx));
        self.rest = None;
        let joined = match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                self.ledger = head.extensions.get().cloned().or(self.ledger.take());
                self.followed.join(&head).map(|()| body)
            }
            Err(ledger) => {
                self.ledger = ledger.or(self.ledger.take());
                Err(NotResumed("no backend could send the rest"))
            }
        };
        match (joined, self.error.take()) {
            (Err(why), Some(error)) => Poll::Ready(Err(self.fail(why, error))),
            (Ok(body), error) => {
                self.error = error;
                telemetry::body_resumed(self.passed, self.shown());
                Poll::Ready(Ok(body))
            }
            // The error is kept from the moment at which the body broke off.
            (Err(_), None) => Poll::Pending,
        }
    }

    fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }
}

/// The ledger of an error of the inner service, if it is one of a failover.
fn ledger_of<E: 'static>(error: &E) -> Option<Ledger> {
    let error: &dyn Any = error;
    let boxed = || error.downcast_ref::<BoxError>()?.downcast_ref::<failover::Error>();
    error.downcast_ref::<failover::Error>().or_else(boxed).map(|error| error.ledger().clone())
}
